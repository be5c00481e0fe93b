/* memory.cpp - memory of the devices and pinned memory of the host, both of the exact
 * size and full of NaN at first; copies between them. A copy from pageable memory reads
 * it at the call, one to pageable memory is complete when the call returns, others are
 * lazy.
 */
#include "fake.hpp"

#include <stdlib.h>

#include <map>

namespace {

struct Block {
  size_t bytes;
  int device; /* -1: pinned memory of the host */
};
std::map<uintptr_t, Block> blocks;
std::map<int, size_t> used;

/* height rows of width bytes */
struct Copy {
  char *to;
  size_t to_pitch;
  const char *from;
  size_t from_pitch;
  size_t width, height;

  size_t span_to() const { return (height - 1) * to_pitch + width; }
  size_t span_from() const { return (height - 1) * from_pitch + width; }
  void run() const {
    for (size_t i = 0; i < height; i++)
      memmove(to + i * to_pitch, from + i * from_pitch, width);
  }
};

std::map<uintptr_t, Block>::iterator block_of(const void *p) {
  auto next = blocks.upper_bound((uintptr_t)p);
  if (next == blocks.begin()) return blocks.end();
  --next;
  return (uintptr_t)p < next->first + next->second.bytes ? next : blocks.end();
}

bool touches_device(const void *p) {
  auto b = block_of(p);
  return b != blocks.end() && b->second.device >= 0;
}

cudaError_t allocate(void **out, size_t bytes, int device) {
  *out = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (device >= 0 && bytes > fake::device_memory() - used[device])
    return cudaErrorMemoryAllocation;
  if (posix_memalign(out, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  memset(*out, 0xff, bytes);
  blocks[(uintptr_t)*out] = Block{bytes, device};
  if (device >= 0) used[device] += bytes;
  return cudaSuccess;
}

void release(std::map<uintptr_t, Block>::iterator b) {
  void *p = (void *)b->first;
  memset(p, 0xff, b->second.bytes);
  if (b->second.device >= 0) used[b->second.device] -= b->second.bytes;
  blocks.erase(b);
  free(p);
}

/* Frees once the device does nothing any more, as the real functions do. */
cudaError_t free_block(void *p, bool pinned, bool fails) {
  if (p == nullptr) return fails ? cudaErrorUnknown : cudaSuccess;
  auto b = blocks.find((uintptr_t)p);
  if (b == blocks.end() || (b->second.device < 0) != pinned) return cudaErrorInvalidValue;
  cudaError_t error = fake::forbidden(cudaErrorStreamCaptureUnsupported);
  if (error != cudaSuccess) return error;
  fake::finish_device(pinned ? fake::device() : b->second.device);
  release(b);
  return fails ? cudaErrorUnknown : cudaSuccess;
}

/* Is what the caller says of both pointers true? */
cudaError_t check(const Copy &c, enum cudaMemcpyKind *kind) {
  const bool to = touches_device(c.to), from = touches_device(c.from);
  const enum cudaMemcpyKind truth =
      to ? (from ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
         : (from ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  if (*kind == cudaMemcpyDefault) *kind = truth;
  if (*kind < 0 || *kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (*kind != truth) return cudaErrorInvalidValue;
  if (to && !fake::is_device(c.to, c.span_to())) return cudaErrorInvalidValue;
  if (from && !fake::is_device(c.from, c.span_from())) return cudaErrorInvalidValue;
  return cudaSuccess;
}

/* The source is read now, into memory that the queue owns. */
Copy staged(const Copy &c, std::shared_ptr<std::vector<char>> *hold) {
  Copy in = c;
  *hold = std::make_shared<std::vector<char>>(c.width * c.height);
  in.to = (*hold)->data();
  in.to_pitch = c.width;
  in.run();
  in = c;
  in.from = (*hold)->data();
  in.from_pitch = c.width;
  return in;
}

cudaError_t copy_async(Copy c, enum cudaMemcpyKind kind, const fake::QueueRef &q) {
  if (q == nullptr) return cudaErrorInvalidResourceHandle;
  if (c.width == 0 || c.height == 0) return cudaSuccess;
  cudaError_t error = check(c, &kind);
  if (error != cudaSuccess) return error;
  const bool from_pageable = !touches_device(c.from) && !fake::is_pinned(c.from);
  const bool to_pageable = !touches_device(c.to) && !fake::is_pinned(c.to);
  if (q->capture && (from_pageable || to_pageable)) {
    fake::invalidate(q.get());
    return cudaErrorStreamCaptureUnsupported;
  }
  std::shared_ptr<std::vector<char>> hold;
  if (from_pageable) c = staged(c, &hold);
  error = fake::push_do(q, [c, hold] { c.run(); });
  if (error == cudaSuccess && to_pageable) fake::finish(q.get(), q->pushed);
  return error;
}

cudaError_t set_async(void *p, int value, size_t bytes, const fake::QueueRef &q) {
  if (q == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (!fake::is_device(p, bytes)) return cudaErrorInvalidValue;
  return fake::push_do(q, [p, value, bytes] { memset(p, value, bytes); });
}

} // namespace

bool fake::is_device(const void *p, size_t bytes) {
  auto b = block_of(p);
  return b != blocks.end() && b->second.device >= 0 &&
         bytes <= b->first + b->second.bytes - (uintptr_t)p;
}

bool fake::is_pinned(const void *p) {
  auto b = block_of(p);
  return b != blocks.end() && b->second.device < 0;
}

size_t fake::live_memory() {
  return blocks.size();
}

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes) {
  FAKE_CALL;
  if (p == nullptr) return fake::out(cudaErrorInvalidValue);
  cudaError_t error = fake::forbidden(cudaErrorStreamCaptureUnsupported);
  if (error == cudaSuccess) error = allocate(p, bytes, fake::device());
  return fake::out(error);
}

cudaError_t cudaFree(void *p) {
  fake::Call call;
  return fake::out(free_block(p, false, call.fails));
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
  FAKE_CALL;
  (void)flags;
  if (p == nullptr) return fake::out(cudaErrorInvalidValue);
  cudaError_t error = fake::forbidden(cudaErrorStreamCaptureUnsupported);
  if (error == cudaSuccess) error = allocate(p, bytes, -1);
  return fake::out(error);
}

cudaError_t cudaMallocHost(void **p, size_t bytes) {
  return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p) {
  fake::Call call;
  return fake::out(free_block(p, true, call.fails));
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  FAKE_CALL;
  *total = fake::device_memory();
  *free = *total - used[fake::device()];
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                            enum cudaMemcpyKind kind, cudaStream_t stream) {
  FAKE_CALL;
  Copy c = {(char *)to, bytes, (const char *)from, bytes, bytes, 1};
  return fake::out(copy_async(c, kind, fake::find(stream)));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from,
                              size_t from_pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream) {
  FAKE_CALL;
  if (width > to_pitch || width > from_pitch)
    return fake::out(cudaErrorInvalidPitchValue);
  Copy c = {(char *)to, to_pitch, (const char *)from, from_pitch, width, height};
  return fake::out(copy_async(c, kind, fake::find(stream)));
}

/* In the default stream, and waits; device to device, as the real one, does not wait. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes,
                       enum cudaMemcpyKind kind) {
  FAKE_CALL;
  cudaError_t error = fake::forbidden(cudaErrorStreamCaptureImplicit);
  if (error != cudaSuccess) return fake::out(error);
  Copy c = {(char *)to, bytes, (const char *)from, bytes, bytes, 1};
  fake::QueueRef q = fake::find(nullptr);
  error = copy_async(c, kind, q);
  if (error == cudaSuccess && !(touches_device(to) && touches_device(from)))
    fake::finish(q.get(), q->pushed);
  return fake::out(error);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
  FAKE_CALL;
  return fake::out(set_async(p, value, bytes, fake::find(stream)));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
  FAKE_CALL;
  cudaError_t error = fake::forbidden(cudaErrorStreamCaptureImplicit);
  if (error == cudaSuccess) error = set_async(p, value, bytes, fake::find(nullptr));
  return fake::out(error);
}

/* Frees the device's memory; its streams and events stay valid here. */
cudaError_t cudaDeviceReset(void) {
  FAKE_CALL;
  fake::finish_device(fake::device());
  for (auto b = blocks.begin(); b != blocks.end();) {
    auto next = std::next(b);
    if (b->second.device == fake::device()) release(b);
    b = next;
  }
  fake::forget_error();
  return cudaSuccess;
}
}
