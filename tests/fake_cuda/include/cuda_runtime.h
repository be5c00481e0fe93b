/* cuda_runtime.h - cuda_runtime_api.h, and for device code (C++ with __CUDACC__ defined)
 * the device language of fake_device.h.
 */
#ifndef FAKE_CUDA_RUNTIME_H
#define FAKE_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#if defined(__cplusplus) && defined(__CUDACC__)
#include "fake_device.h"

/* the runtime's C++ forms, which take the first argument with its type */
template <class T> cudaError_t cudaMalloc(T **pointer, size_t size) {
  return cudaMalloc((void **)(void *)pointer, size);
}
template <class T> cudaError_t cudaMallocHost(T **pointer, size_t size) {
  return cudaMallocHost((void **)(void *)pointer, size);
}
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), enum cudaFuncAttribute attribute,
                                 int value) {
  return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}
#endif
#endif
