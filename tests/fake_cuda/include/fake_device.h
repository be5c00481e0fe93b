/* fake_device.h - the device language of CUDA C++ for g++: qualifiers, vector types,
 * thread numbers, barriers, warp exchanges, atomics, and the launch that
 * src/device/launch.h uses. Each thread of a block is a fibre (fibre.cpp); one runs at a
 * time, so that an atomic function is a plain one. Read through cuda_runtime.h.
 *
 * Static __shared__ variables are `static`: blocks run one after the other. Unlike
 * dynamic shared memory they keep what the block before left.
 */
#ifndef FAKE_DEVICE_H
#define FAKE_DEVICE_H

#include "cuda_runtime_api.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__      static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};
#define FAKE_VECTOR2(name, type, align)                                                  \
  struct __align__(align) name {                                                         \
    type x, y;                                                                           \
  };                                                                                     \
  static inline name make_##name(type x, type y) {                                       \
    return name{x, y};                                                                   \
  }
#define FAKE_VECTOR4(name, type, align)                                                  \
  struct __align__(align) name {                                                         \
    type x, y, z, w;                                                                     \
  };                                                                                     \
  static inline name make_##name(type x, type y, type z, type w) {                       \
    return name{x, y, z, w};                                                             \
  }
FAKE_VECTOR2(float2, float, 8)
FAKE_VECTOR2(double2, double, 16)
FAKE_VECTOR2(int2, int, 8)
FAKE_VECTOR2(uint2, unsigned, 8)
FAKE_VECTOR4(float4, float, 16)
FAKE_VECTOR4(int4, int, 16)
FAKE_VECTOR4(uint4, unsigned, 16)
FAKE_VECTOR4(uchar4, unsigned char, 4)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace fake_cuda {

enum class Warp { sync, shfl, down, up, xor_, ballot, any, all };

/* Where in the source a thread waits. */
struct Site {
  const char *file;
  int line;
};

void sync_block(Site site);
/* Counts the threads of the block with a true predicate, behind a barrier. */
int sync_count(Site site, bool predicate);
/* What this thread gets from an exchange among the lanes of mask. */
uint64_t exchange(Site site, Warp kind, unsigned mask, uint64_t value, int lane,
                  int width);
void *shared_memory(void);

/* Puts a kernel into the stream: kernels.cpp. */
void enqueue(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
             cudaStream_t stream, std::function<void()> body);

/* The arguments are copied, as the kernel's parameter types, at the call. */
template <class... P, class... A>
void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
            cudaStream_t stream, A &&...args) {
  static_assert(sizeof...(P) == sizeof...(A), "number of the kernel's arguments");
  std::tuple<std::decay_t<P>...> copy(static_cast<std::decay_t<P>>(args)...);
  enqueue(name, (const void *)kernel, grid, block, shared, stream,
          [kernel, copy] { std::apply(kernel, copy); });
}

template <class T>
T shuffle(Site site, Warp kind, unsigned mask, T value, int lane, int width = 32) {
  static_assert(sizeof(T) <= 8, "type of a shuffle");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = exchange(site, kind, mask, bits, lane, width);
  memcpy(&value, &bits, sizeof value);
  return value;
}
static inline uint64_t vote(Site site, Warp kind, unsigned mask, bool value) {
  return exchange(site, kind, mask, value, 0, 32);
}
static inline void sync_warp(Site site, unsigned mask = 0xffffffffu) {
  exchange(site, Warp::sync, mask, 0, 0, 32);
}

} // namespace fake_cuda

#define FAKE_SITE                                                                        \
  fake_cuda::Site {                                                                      \
    __FILE__, __LINE__                                                                   \
  }
#define __syncthreads()        fake_cuda::sync_block(FAKE_SITE)
#define __syncthreads_count(p) fake_cuda::sync_count(FAKE_SITE, (p) != 0)
#define __syncthreads_or(p)    (fake_cuda::sync_count(FAKE_SITE, (p) != 0) > 0)
#define __syncthreads_and(p)   (fake_cuda::sync_count(FAKE_SITE, (p) == 0) == 0)
#define __syncwarp(...)        fake_cuda::sync_warp(FAKE_SITE __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_sync(...)       fake_cuda::shuffle(FAKE_SITE, fake_cuda::Warp::shfl, __VA_ARGS__)
#define __shfl_down_sync(...)                                                            \
  fake_cuda::shuffle(FAKE_SITE, fake_cuda::Warp::down, __VA_ARGS__)
#define __shfl_up_sync(...)                                                              \
  fake_cuda::shuffle(FAKE_SITE, fake_cuda::Warp::up, __VA_ARGS__)
#define __shfl_xor_sync(...)                                                             \
  fake_cuda::shuffle(FAKE_SITE, fake_cuda::Warp::xor_, __VA_ARGS__)
#define __ballot_sync(mask, p)                                                           \
  ((unsigned)fake_cuda::vote(FAKE_SITE, fake_cuda::Warp::ballot, mask, (p) != 0))
#define __any_sync(mask, p)                                                              \
  ((int)fake_cuda::vote(FAKE_SITE, fake_cuda::Warp::any, mask, (p) != 0))
#define __all_sync(mask, p)                                                              \
  ((int)fake_cuda::vote(FAKE_SITE, fake_cuda::Warp::all, mask, (p) != 0))

#define FAKE_ATOMIC(name, type, expression)                                              \
  static inline type name(type *address, type value) {                                   \
    type old = *address;                                                                 \
    *address = (type)(expression);                                                       \
    return old;                                                                          \
  }
#define FAKE_ATOMIC_INTEGER(type)                                                        \
  FAKE_ATOMIC(atomicAdd, type, old + value)                                              \
  FAKE_ATOMIC(atomicMax, type, old > value ? old : value)                                \
  FAKE_ATOMIC(atomicMin, type, old < value ? old : value)                                \
  FAKE_ATOMIC(atomicAnd, type, old &value)                                               \
  FAKE_ATOMIC(atomicOr, type, old | value)                                               \
  FAKE_ATOMIC(atomicExch, type, value)                                                   \
  static inline type atomicCAS(type *address, type compare, type value) {                \
    type old = *address;                                                                 \
    if (old == compare) *address = value;                                                \
    return old;                                                                          \
  }
FAKE_ATOMIC_INTEGER(int)
FAKE_ATOMIC_INTEGER(unsigned)
FAKE_ATOMIC_INTEGER(unsigned long long)
FAKE_ATOMIC(atomicAdd, float, old + value)
FAKE_ATOMIC(atomicAdd, double, old + value)
FAKE_ATOMIC(atomicExch, float, value)

template <class T> static inline T __ldg(const T *address) {
  return *address;
}
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}

#define FAKE_MIN_MAX(type)                                                               \
  static inline type min(type a, type b) {                                               \
    return b < a ? b : a;                                                                \
  }                                                                                      \
  static inline type max(type a, type b) {                                               \
    return a < b ? b : a;                                                                \
  }
FAKE_MIN_MAX(int)
FAKE_MIN_MAX(unsigned)
FAKE_MIN_MAX(long)
FAKE_MIN_MAX(unsigned long)
FAKE_MIN_MAX(long long)
FAKE_MIN_MAX(unsigned long long)
static inline float min(float a, float b) {
  return fminf(a, b);
}
static inline float max(float a, float b) {
  return fmaxf(a, b);
}
static inline double min(double a, double b) {
  return fmin(a, b);
}
static inline double max(double a, double b) {
  return fmax(a, b);
}

static inline float rsqrtf(float x) {
  return 1 / sqrtf(x);
}
static inline double rsqrt(double x) {
  return 1 / sqrt(x);
}
static inline float rsqrt(float x) {
  return rsqrtf(x);
}
#define __expf(x) expf(x) /* glibc has functions of these names */
#define __logf(x) logf(x)
static inline float __fdividef(float x, float y) {
  return x / y;
}
static inline float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1) : 0;
}

/* one rounding each, never contracted: volatile keeps the compiler from fusing them */
#define FAKE_ROUNDED(name, type, expression)                                             \
  static inline type name(type a, type b) {                                              \
    volatile type result = expression;                                                   \
    return result;                                                                       \
  }
FAKE_ROUNDED(__fadd_rn, float, a + b)
FAKE_ROUNDED(__fsub_rn, float, a - b)
FAKE_ROUNDED(__fmul_rn, float, a *b)
FAKE_ROUNDED(__fdiv_rn, float, a / b)
FAKE_ROUNDED(__dadd_rn, double, a + b)
FAKE_ROUNDED(__dsub_rn, double, a - b)
FAKE_ROUNDED(__dmul_rn, double, a *b)
FAKE_ROUNDED(__ddiv_rn, double, a / b)
static inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
static inline double __fma_rn(double a, double b, double c) {
  return fma(a, b, c);
}
static inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
static inline double __dsqrt_rn(double x) {
  return sqrt(x);
}

#define FAKE_BITS(name, to, from)                                                        \
  static inline to name(from x) {                                                        \
    to result;                                                                           \
    memcpy(&result, &x, sizeof result);                                                  \
    return result;                                                                       \
  }
FAKE_BITS(__float_as_int, int, float)
FAKE_BITS(__int_as_float, float, int)
FAKE_BITS(__float_as_uint, unsigned, float)
FAKE_BITS(__uint_as_float, float, unsigned)
FAKE_BITS(__double_as_longlong, long long, double)
FAKE_BITS(__longlong_as_double, double, long long)

static inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
static inline int __clz(int x) {
  return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)((uint64_t)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}

#endif
