/* parts.h - students of one extraction that several sub-batches trained, each some of
 * them. */
#ifndef COHORT_JOBS_PARTS_H
#define COHORT_JOBS_PARTS_H

#include "run.h"

/* Model files of the parts in the order of the students; start with {0}. */
typedef struct parts {
  size_t n; /* 0: nobody trained them in parts */
  char (*path)[COH_PATH];
} parts;

/* Looks for results/<name>/<k>-<n>, n > 1, with students of this run. COH_EUSAGE if some
 * sub-batches of every n that was begun have not finished, COH_EDATA if a part is of
 * another teacher (`identity` is what a checkpoint of all students would carry). Rank 0
 * looks; collective. */
int parts_find(const run *, const char *identity, parts *, coh_error *);
void parts_free(parts *);

/* What the checkpoint of part k of n carries in place of `identity`. */
int part_identity(const char *identity, size_t k, size_t n, coh_text *, coh_error *);

/* The students of all parts, [N, P] of dtype on every rank, for the caller to free.
 * COH_EDATA if they are not N networks of that plan. Collective. */
int parts_load(const parts *, const job *, const coh_plan *, size_t N, coh_dtype,
               void **out, coh_error *);

#endif
