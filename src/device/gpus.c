/* gpus.c - what GPUs there are, where cohort was built with the CUDA runtime. No kernels.
 */
#include "cohort/device.h"

#ifdef COH_CUDA
#include <cuda_runtime_api.h>

void coh_device_gpus(coh_text *out) {
  int count = 0; /* not set by the call where there is no driver */
  cudaError_t rc = cudaGetDeviceCount(&count);
  coh_text_add(out, "built with CUDA %d.%d: ", CUDART_VERSION / 1000,
               CUDART_VERSION % 1000 / 10);
  if (rc != cudaSuccess || count == 0) {
    coh_text_add(out, "no GPU here (%s)", cudaGetErrorString(rc));
    return;
  }
  for (int i = 0; i < count; i++) {
    struct cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    coh_text_add(out, "%s%s, %.0f GiB", i ? "; " : "", p.name,
                 (double)p.totalGlobalMem / (1024.0 * 1024 * 1024));
  }
  coh_text_add(out, " (training uses the CPU: this version has no GPU kernels)");
}
#else
void coh_device_gpus(coh_text *out) {
  coh_text_add(out, "built without CUDA");
}
#endif
