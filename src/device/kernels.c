/* kernels.c - the CPU's kernels: matrix products, activations, losses, optimiser steps.
 * Compiled once for each instruction set with -DCOH_ISA=generic|avx2|avx512; cpu.c
 * chooses among the builds at run time. The text for both types is in gemm_real.h and
 * kernels_real.h. No memory is allocated here and nothing can fail.
 */
#include "device/kernels.h"

#include "device/element.h"

#include <string.h>

#if defined __AVX512F__ || (defined __AVX2__ && defined __FMA__)
#include <immintrin.h>
#endif

/* Vector width and the rows of the largest register tile, which is that by two vectors.
 */
#ifdef __AVX512F__
enum { VECTOR_BYTES = 64, TILE_ROWS = 12 };
#define MADD_f32(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MADD_f64(a, b, c) _mm512_fmadd_pd(a, b, c)
#elif defined __AVX2__ && defined __FMA__
enum { VECTOR_BYTES = 32, TILE_ROWS = 6 };
#define MADD_f32(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MADD_f64(a, b, c) _mm256_fmadd_pd(a, b, c)
#else
enum { VECTOR_BYTES = 16, TILE_ROWS = 6 };
#define MADD_f32(a, b, c) ((a) * (b) + (c))
#define MADD_f64(a, b, c) ((a) * (b) + (c))
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b)  JOIN_(a, b)

#define REAL  float
#define K(n)  JOIN(n, f32)
#define EL(n) JOIN(coh_##n, f32)
#include "device/gemm_real.h"
#include "device/kernels_real.h"
#undef REAL
#undef K
#undef EL

#define REAL  double
#define K(n)  JOIN(n, f64)
#define EL(n) JOIN(coh_##n, f64)
#include "device/gemm_real.h"
#include "device/kernels_real.h"

#define TABLE(t)                                                                         \
  {                                                                                      \
    sizeof(JOIN(gemm_scratch, t)), JOIN(gemm, t), JOIN(bias_act, t), JOIN(multiply, t),  \
        JOIN(bias_grad, t), JOIN(mse, t), JOIN(cross_entropy, t), JOIN(step, t)          \
  }

const coh_kernels JOIN(coh_kernels, COH_ISA)[2] = {TABLE(f32), TABLE(f64)};
