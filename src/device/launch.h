/* launch.h - how kernels are launched and get dynamic shared memory: by nvcc's syntax,
 * or, with COH_FAKE_CUDA, on the CPU by the test double in tests/fake_cuda. For CUDA C++
 * only.
 *
 * COH_LAUNCH(kernel, grid, block, shared, stream, args...): grid and block as dim3 or
 * numbers, shared in bytes, at least one argument; a kernel template's instance in
 * parentheses, as in COH_LAUNCH((kernel<float, 2>), ...). The caller then asks
 * cudaGetLastError().
 *
 * COH_SHARED(type, name): inside a kernel, the dynamic shared memory as `type *name`.
 */
#ifndef COHORT_DEVICE_LAUNCH_H
#define COHORT_DEVICE_LAUNCH_H

#include <cuda_runtime.h>

#ifdef COH_FAKE_CUDA
#define COH_LAUNCH(kernel, grid, block, shared, stream, ...)                             \
  fake_cuda::launch(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)
#define COH_SHARED(type, name)                                                           \
  type *const name = static_cast<type *>(fake_cuda::shared_memory())
#else
extern __shared__ __align__(16) unsigned char coh_shared_memory[];
#define COH_LAUNCH(kernel, grid, block, shared, stream, ...)                             \
  (kernel)<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define COH_SHARED(type, name)                                                           \
  type *const name = reinterpret_cast<type *>(coh_shared_memory)
#endif

#endif
