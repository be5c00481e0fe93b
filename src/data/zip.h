/* zip.h - the list of members of a zip archive, as .npz files are: stored or deflated, of
 * any size (zip64), not encrypted, in one piece. Uses base.
 */
#ifndef COHORT_DATA_ZIP_H
#define COHORT_DATA_ZIP_H

#include "data/stream.h"

typedef struct coh_zip {
  char *data;  /* the central directory, owned */
  size_t len;  /* its bytes */
  size_t next; /* where coh_zip_next goes on */
} coh_zip;

typedef struct coh_zip_entry {
  char name[256];
  coh_member member; /* its `at` is the local header until coh_zip_locate */
} coh_zip_entry;

int coh_zip_open(coh_zip *z, const char *path, coh_error *err);
/* The next member, or *more = false after the last. */
int coh_zip_next(coh_zip *z, const char *path, coh_zip_entry *e, bool *more,
                 coh_error *err);
/* Makes e->member ready for coh_stream_open_member. */
int coh_zip_locate(const char *path, coh_zip_entry *e, coh_error *err);
void coh_zip_close(coh_zip *z); /* zeroes it; a zeroed one is accepted */

#endif
