/* kernels.c - the CPU's kernels: matrix products, activations, losses, optimiser steps.
 * Compiled once for each instruction set with -DCOH_ISA=generic|avx2|avx512; cpu.c
 * chooses among the builds at run time. The text for both types is in gemm_real.h,
 * kernels_real.h and small_real.h. No memory is allocated here and nothing can fail.
 */
#include "device/kernels.h"

#include "device/element.h"

#include <string.h>

#if defined __AVX512F__ || (defined __AVX2__ && defined __FMA__)
#include <immintrin.h>
#endif

/* X(r, 1) X(r, 2) ... */
#define COLS3(X, r) X(r, 1) X(r, 2) X(r, 3)
#define COLS5(X, r) COLS3(X, r) X(r, 4) X(r, 5)

/* Of each instruction set: the vector width; the rows of the largest register tile, which
 * is that by two vectors; the largest tile of small networks and a list of all up to it;
 * a b + c; and the first n elements of a vector in memory. */
#ifdef __AVX512F__
enum { VECTOR_BYTES = 64, TILE_ROWS = 12, SMALL_ROWS = 5, SMALL_COLS = 5 };
#define SMALL_TILES(X)         COLS5(X, 1) COLS5(X, 2) COLS5(X, 3) COLS5(X, 4) COLS5(X, 5)
#define MADD_f32(a, b, c)      _mm512_fmadd_ps(a, b, c)
#define MADD_f64(a, b, c)      _mm512_fmadd_pd(a, b, c)
#define FIRST_f32(n)           ((__mmask16)((1u << (n)) - 1))
#define FIRST_f64(n)           ((__mmask8)((1u << (n)) - 1))
#define LOAD_f32(p, first)     _mm512_maskz_loadu_ps(first, p)
#define LOAD_f64(p, first)     _mm512_maskz_loadu_pd(first, p)
#define STORE_f32(p, first, v) _mm512_mask_storeu_ps(p, first, v)
#define STORE_f64(p, first, v) _mm512_mask_storeu_pd(p, first, v)
#elif defined __AVX2__ && defined __FMA__
enum { VECTOR_BYTES = 32, TILE_ROWS = 6, SMALL_ROWS = 4, SMALL_COLS = 3 };
#define SMALL_TILES(X)    COLS3(X, 1) COLS3(X, 2) COLS3(X, 3) COLS3(X, 4)
#define MADD_f32(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MADD_f64(a, b, c) _mm256_fmadd_pd(a, b, c)
#define FIRST_f32(n)                                                                     \
  _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)),                                        \
                     _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define FIRST_f64(n)                                                                     \
  _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)(n)), _mm256_setr_epi64x(0, 1, 2, 3))
#define LOAD_f32(p, first)     _mm256_maskload_ps(p, first)
#define LOAD_f64(p, first)     _mm256_maskload_pd(p, first)
#define STORE_f32(p, first, v) _mm256_maskstore_ps(p, first, v)
#define STORE_f64(p, first, v) _mm256_maskstore_pd(p, first, v)
#else
#define PLAIN_VECTORS
enum { VECTOR_BYTES = 16, TILE_ROWS = 6, SMALL_ROWS = 4, SMALL_COLS = 3 };
#define SMALL_TILES(X)         COLS3(X, 1) COLS3(X, 2) COLS3(X, 3) COLS3(X, 4)
#define MADD_f32(a, b, c)      ((a) * (b) + (c))
#define MADD_f64(a, b, c)      ((a) * (b) + (c))
#define FIRST_f32(n)           (n)
#define FIRST_f64(n)           (n)
#define LOAD_f32(p, first)     load_first_f32(p, first)
#define LOAD_f64(p, first)     load_first_f64(p, first)
#define STORE_f32(p, first, v) memcpy(p, &(v), (first) * sizeof(float))
#define STORE_f64(p, first, v) memcpy(p, &(v), (first) * sizeof(double))
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b)  JOIN_(a, b)

#define REAL  float
#define K(n)  JOIN(n, f32)
#define EL(n) JOIN(coh_##n, f32)
#include "device/gemm_real.h"
#include "device/kernels_real.h"
#include "device/small_real.h"
#undef REAL
#undef K
#undef EL

#define REAL  double
#define K(n)  JOIN(n, f64)
#define EL(n) JOIN(coh_##n, f64)
#include "device/gemm_real.h"
#include "device/kernels_real.h"
#include "device/small_real.h"

#define TABLE(t)                                                                         \
  {                                                                                      \
    sizeof(JOIN(gemm_scratch, t)), JOIN(gemm, t), JOIN(bias_act, t), JOIN(multiply, t),  \
        JOIN(bias_grad, t), JOIN(outer, t), JOIN(mse, t), JOIN(cross_entropy, t),        \
        JOIN(step, t), JOIN(small_room, t), JOIN(small, t), JOIN(sparse, t)              \
  }

const coh_kernels JOIN(coh_kernels, COH_ISA)[2] = {TABLE(f32), TABLE(f64)};
