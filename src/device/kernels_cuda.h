/* kernels_cuda.h - what cuda.c calls in the *.cu files: each function puts its work into
 * the stream and returns what cudaGetLastError says of the launch. Shapes and meaning as
 * in cohort/device.h. Private.
 */
#ifndef COHORT_DEVICE_KERNELS_CUDA_H
#define COHORT_DEVICE_KERNELS_CUDA_H

#include "cohort/device.h"

#include <cuda_runtime_api.h>

typedef struct coh_cuda_queue {
  cudaStream_t stream;
  coh_dtype dtype;
  size_t blocks; /* that fill the GPU: no launch over elements has more */
  size_t shared; /* bytes of shared memory that a block may ask for */
} coh_cuda_queue;

/* Most bytes that a small network's block takes, so that two fit a multiprocessor. */
enum { COH_CUDA_SHARED = 96 << 10 };

/* Lets kernels have as much shared memory as they may ask for. Once a device. */
cudaError_t coh_cuda_prepare(const coh_cuda_queue *);
cudaError_t coh_cuda_prepare_small(const coh_cuda_queue *); /* its part, in small.cu */

cudaError_t coh_cuda_gather(const coh_cuda_queue *, const coh_gather_args *);
cudaError_t coh_cuda_advance(const coh_cuda_queue *, size_t row_bytes, const void *table,
                             uint32_t *cursor, void *now);
/* seed: device [S] */
cudaError_t coh_cuda_order(const coh_cuda_queue *, size_t S, const uint64_t *seed,
                           uint64_t epoch, size_t n, uint32_t *order);
cudaError_t coh_cuda_bias_act(const coh_cuda_queue *, coh_act, size_t N, size_t B,
                              size_t O, const void *bias, size_t stride_bias, void *z,
                              void *deriv);
cudaError_t coh_cuda_act_grad(const coh_cuda_queue *, size_t count, void *dz,
                              const void *deriv);
cudaError_t coh_cuda_bias_grad(const coh_cuda_queue *, size_t N, size_t B, size_t O,
                               const void *dz, void *db, size_t stride_db);
cudaError_t coh_cuda_outer(const coh_cuda_queue *, size_t B, size_t I, size_t O,
                           const void *a, const void *dz, void *c, size_t ldc);
cudaError_t coh_cuda_loss(const coh_cuda_queue *, const coh_loss_args *);
cudaError_t coh_cuda_step(const coh_cuda_queue *, const coh_step_args *);
cudaError_t coh_cuda_small(const coh_cuda_queue *, const coh_small *);
/* scratch: device memory for what the host tells of the ranges. */
cudaError_t coh_cuda_sparse(const coh_cuda_queue *, const coh_sparse_args *,
                            void *scratch, size_t bytes);
/* Most that the widths of a small network's layers, in + out of each, may add up to. */
size_t coh_cuda_small_width(const coh_cuda_queue *);

#endif
