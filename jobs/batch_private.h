/* batch_private.h - what batch.c and pack_run.c share. */
#ifndef COHORT_JOBS_BATCH_PRIVATE_H
#define COHORT_JOBS_BATCH_PRIVATE_H

#include "batch.h"
#include "packs.h"

struct batch {
  job *job;
  const coh_sweep *sweep;
  coh_sweep *own;                       /* this rank's copy; NULL on rank 0 */
  coh_hash hash;                        /* of the sweep */
  size_t k, n;                          /* sub-batch k of n */
  size_t first, count;                  /* its runs */
  char folder[COH_PATH], sub[COH_PATH]; /* results/<name>, results/<name>/<k>-<n> */
  coh_attempt attempt;
  double last_beat, last_table;
  bool taken; /* a later attempt has begun */
  packs packs;
  char *state;    /* [count] run_state */
  size_t not_run; /* runs of packs that could not be run; nothing is recorded of them */
};

/* Runs a pack on the ranks of a grid and publishes it; *failed: one of its runs failed.
 * COH_EUSAGE, COH_EDATA, COH_ENUMERIC if it could not be run as a whole: nothing is
 * published then. `number` tells it from the others, for people. Collective over the
 * grid. */
int pack_run(batch *b, const coh_grid *grid, pack *p, size_t number, bool *failed,
             coh_error *err);

#endif
