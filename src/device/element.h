/* element.h - the arithmetic of ONE element: activations with their derivatives,
 * optimiser updates. Read by the C compiler and by nvcc, so that every back end computes
 * by the same formulas. Loops, memory and members belong to the back ends.
 *
 * Each function exists twice, `coh_..._f32` and `coh_..._f64`; element_real.h holds the
 * text. They are branch-free (selections only) and call no library function but sqrt, so
 * that a compiler turns a loop over them into vector code; and they spell out each fused
 * multiply-add, so that vector code and its scalar remainder give the same bits.
 */
#ifndef COHORT_DEVICE_ELEMENT_H
#define COHORT_DEVICE_ELEMENT_H

#include "cohort/device.h"

#include <math.h>
#include <string.h>

#if defined(__CUDACC__) && !defined(COH_FAKE_CUDA)
#define COH_FN static __host__ __device__ __forceinline__
#ifdef __CUDA_ARCH__
#define COH_UNROLL _Pragma("unroll")
#else
#define COH_UNROLL
#endif
#else
#define COH_FN     static inline __attribute__((always_inline, unused))
#define COH_UNROLL _Pragma("GCC unroll 32")
#endif

#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA) ||          \
    (defined(__CUDACC__) && defined(COH_FAKE_CUDA)) /* as on the GPU */
#define COH_HAS_FMA 1
#else
#define COH_HAS_FMA 0
#endif

/* Horner's rule, coefficients from the highest power down. */
#define COH_POLY(out, x, coefficients)                                                   \
  do {                                                                                   \
    out = (coefficients)[0];                                                             \
    COH_UNROLL                                                                           \
    for (int ci = 1; ci < (int)(sizeof(coefficients) / sizeof((coefficients)[0])); ci++) \
      out = COH_EL(madd)(out, x, (coefficients)[ci]);                                    \
  } while (0)

#define COH_REAL      float
#define COH_BITS      uint32_t
#define COH_INT       int32_t
#define COH_IS_DOUBLE 0
#define COH_EL(name)  coh_##name##_f32
#include "device/element_real.h"
#undef COH_REAL
#undef COH_BITS
#undef COH_INT
#undef COH_IS_DOUBLE
#undef COH_EL

#define COH_REAL      double
#define COH_BITS      uint64_t
#define COH_INT       int64_t
#define COH_IS_DOUBLE 1
#define COH_EL(name)  coh_##name##_f64
#include "device/element_real.h"
#undef COH_REAL
#undef COH_BITS
#undef COH_INT
#undef COH_IS_DOUBLE
#undef COH_EL

#endif
