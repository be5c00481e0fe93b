/* links.h - runs.h5: the models of a sweep's runs behind one file. For merge.c.
 *
 * /runs/<run, padded>/ has the attributes run_id, first and members, and `model`, a link
 * to the pack's model.h5, of which the run owns rows [first, first + members) of every
 * array whose first axis counts members; or, copied, a group that has these rows alone.
 */
#ifndef COHORT_STORE_LINKS_H
#define COHORT_STORE_LINKS_H

#include "store/store_private.h"

typedef struct coh_links coh_links;

/* Begins <folder>/runs.h5 for `runs` runs, under a temporary name. The folder exists. */
int coh_links_create(const char *folder, size_t runs, bool copy, coh_links **out,
                     coh_error *err);
/* Run `run` owns [first, first + members) of <pack>/model.h5. COH_EDATA or COH_EIO: that
 * file is gone or damaged, and the run stays without a model. */
int coh_links_add(coh_links *, size_t run, const char *run_id, const char *pack,
                  size_t first, size_t members, coh_error *err);
/* As it stands for run `from` in the runs.h5 of another folder. */
int coh_links_adopt(coh_links *, size_t run, const char *run_id, const char *folder,
                    size_t from, coh_error *err);
/* Puts the file in its place, or, if no run was added, leaves none. Frees in any case. */
int coh_links_commit(coh_links *, coh_error *err);
void coh_links_abandon(coh_links *); /* removes what was written; NULL accepted */

#endif
