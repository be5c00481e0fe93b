/* cuda.h - how the CUDA back end is opened and what its files share. Private. Only in
 * builds with COH_CUDA.
 */
#ifndef COHORT_DEVICE_CUDA_H
#define COHORT_DEVICE_CUDA_H

#include "device/kernels_cuda.h"

#include <cublas_v2.h>

/* The functions of cuBLAS that are used. The library is half a gigabyte, so it is loaded
 * when the first GPU is opened, not when cohort starts; and cohort starts without it. */
#define COH_CUBLAS_FUNCTIONS(F)                                                          \
  F(cublasCreate_v2)                                                                     \
  F(cublasDestroy_v2)                                                                    \
  F(cublasGetStatusString)                                                               \
  F(cublasSetStream_v2)                                                                  \
  F(cublasSetWorkspace_v2)                                                               \
  F(cublasGemmStridedBatchedEx)

typedef struct coh_cublas {
#define COH_FIELD(name) __typeof__(&name) name;
  COH_CUBLAS_FUNCTIONS(COH_FIELD)
#undef COH_FIELD
} coh_cublas;

int coh_cublas_load(coh_cublas *out, coh_error *err);

/* COH_EUSAGE, saying why, where there is no such GPU. */
int coh_device_open_cuda(const coh_device_wish *, coh_dtype, coh_device **out,
                         coh_error *err);
/* How many GPUs there are; 0 and a reason (borrowed text, "" if there are some). */
int coh_cuda_count(const char **reason);

/* COH_ELIB (COH_ENOMEM for memory) with the call and CUDA's text. */
int coh_cuda_check(cudaError_t code, const char *call, coh_error *err);
#define COH_CUDA_TRY(call) COH_TRY(coh_cuda_check((call), #call, err))

#endif
