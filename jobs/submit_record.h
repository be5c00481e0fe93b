/* submit_record.h - what of results/<name>/submit.json the other commands ask for. Its
 * writer is `cohort submit` alone (submission.h). */
#ifndef COHORT_JOBS_SUBMIT_RECORD_H
#define COHORT_JOBS_SUBMIT_RECORD_H

#include "cohort/base.h"

/* Sub-batches of the last submission; 0 if there was none. COH_EDATA if the file is not
 * what cohort submit wrote. */
int record_last(const char *folder, size_t *n, coh_error *err);
/* Tells of each sub-batch k of n that an earlier submission gave to SLURM (as a part of
 * `job`) and that still waits or runs, as squeue has it; of none if it does not answer,
 * within `patience` seconds (0: however long it takes). */
typedef void record_queued_fn(void *ctx, size_t k, size_t n, const char *job);
int record_queued(const char *folder, int patience, record_queued_fn *tell, void *ctx,
                  coh_error *err);

#endif
