/* nccl.h - sums over replicas on their GPUs, by NCCL: a communicator of a student group,
 * on a stream of its own, so that sums run beside what else the GPU does. Private. Builds
 * without CUDA or without NCCL's header have none (coh_nccl_create says so).
 */
#ifndef COHORT_COMM_NCCL_H
#define COHORT_COMM_NCCL_H

#include "cohort/comm.h"

typedef struct coh_nccl coh_nccl;

/* Collective over `comm`, whose ranks have a GPU each, no two the same. The id comes from
 * rank 0 of it, by MPI. COH_ELIB where NCCL cannot be loaded or started. */
int coh_nccl_create(MPI_Comm comm, const coh_patience *, coh_nccl **out, coh_error *);
/* Collective: may wait for the other ranks. Recordings that hold sums must be gone, else
 * it waits for ever. NULL accepted. */
void coh_nccl_destroy(coh_nccl *);

/* Puts the sum of data [count] over all ranks, in place, behind what `dev` has to do by
 * now. May stand in a recording of `dev`. */
int coh_nccl_start(coh_nccl *, coh_device *dev, coh_dtype, size_t count, void *data,
                   coh_error *);
/* What `dev` is given from now on comes behind all sums started. */
int coh_nccl_join(coh_nccl *, coh_device *dev, coh_error *);
/* Behind each step: lets the host run ahead of the GPU by a few steps, not more, so that
 * a wait is never for the work of many. Gives up on a rank that does not answer: see
 * coh_patience. Not in a recording. */
int coh_nccl_keep_up(coh_nccl *, coh_device *dev, coh_error *);
/* Waits for all that `dev` has to do, sums included; gives up likewise. */
int coh_nccl_finish(coh_nccl *, coh_device *dev, coh_error *);

#endif
