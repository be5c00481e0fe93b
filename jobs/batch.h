/* batch.h - one sub-batch of a sweep: its packs, trained one after the other or, where
 * they are small, side by side on ranks of their own. */
#ifndef COHORT_JOBS_BATCH_H
#define COHORT_JOBS_BATCH_H

#include "cohort/sweep.h"
#include "run.h"

/* What the command line and the environment ask for. */
typedef struct batch_wish {
  size_t k, n; /* sub-batch k of n; 0 of 0: not said, 1 of 1 */
  bool asked;  /* by the command line */
  bool force;  /* take the place of another sweep of that name */
  bool retry;  /* try runs again that failed */
} batch_wish;

/* Takes the options of `cohort run` out of argv[*argc] and, where --sub-batch is not
 * among them, k and n from COHORT_SUB_BATCHES, COHORT_SUB_BATCH_OFFSET and SLURM's
 * variables of job arrays. COH_EUSAGE for unknown options and for arrays whose tasks do
 * not tell which sub-batch they are. */
int batch_wish_read(int *argc, char **argv, batch_wish *out, coh_error *);

typedef struct batch batch;

/* Runs the sub-batch of j's sweep, of which rank 0 passes the object (the other ranks
 * pass NULL and make a copy of their own). Finished packs are not run again. COH_ESTOP if
 * stopped early, COH_ETAKEN if a later start of the same sub-batch took over,
 * COH_ENUMERIC if runs failed. Collective over j->grid.world. */
int batch_run(job *j, const coh_sweep *, const batch_wish *, coh_error *);

/* Keeps the heartbeat; true if a later start has taken over, so that this one must end.
 * Cheap. */
bool batch_is_taken(batch *, const coh_grid *);

#endif
