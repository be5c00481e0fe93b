/* kernels.cpp - launches: the limits of an H100, then the kernel into the stream's queue.
 */
#include "fake.hpp"

#include <map>

namespace {

std::map<const void *, size_t> most_shared;

cudaError_t check(const void *kernel, dim3 grid, dim3 block, size_t shared) {
  const size_t threads = (size_t)block.x * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64)
    return cudaErrorInvalidConfiguration;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaErrorInvalidConfiguration;
  if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  auto raised = most_shared.find(kernel);
  const size_t most = raised == most_shared.end() ? fake::shared_default : raised->second;
  return shared > most ? cudaErrorInvalidValue : cudaSuccess;
}

} // namespace

void fake_cuda::enqueue(const char *name, const void *kernel, dim3 grid, dim3 block,
                        size_t shared, cudaStream_t stream, std::function<void()> body) {
  fake::Call call;
  fake::QueueRef q = fake::find(stream);
  cudaError_t error = check(kernel, grid, block, shared);
  if (call.fails)
    error = cudaErrorUnknown;
  else if (fake::devices() == 0)
    error = cudaErrorNoDevice;
  else if (q == nullptr || q->device != fake::device())
    error = cudaErrorInvalidResourceHandle;
  if (error == cudaSuccess)
    error = fake::push_do(q, [=] {
      fake::run_kernel(fake::Launch{name, grid, block, shared, &body});
    });
  fake::out(error);
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel,
                                            enum cudaFuncAttribute attribute, int value) {
  FAKE_CALL;
  if (kernel == nullptr) return fake::out(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      (size_t)value > fake::shared_most)
    return fake::out(cudaErrorInvalidValue);
  most_shared[kernel] = (size_t)value;
  return cudaSuccess;
}
