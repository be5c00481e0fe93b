/* random.h - the arithmetic of one random number: read by the C compiler and by nvcc, so
 * that a GPU draws the numbers of the host bit for bit. What they are for stands
 * in base.h.
 */
#ifndef COHORT_RANDOM_H
#define COHORT_RANDOM_H

#include "cohort/base.h"

#include <Random123/philox.h>

#if defined __CUDACC__ && !defined COH_FAKE_CUDA
#define COH_RANDOM_FN static __host__ __device__ __forceinline__
#else
#define COH_RANDOM_FN static inline
#endif

COH_RANDOM_FN void coh_random_block_of(uint64_t seed, uint32_t purpose, uint64_t step,
                                       uint64_t index, uint32_t out[4]) {
  philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
  philox4x32_ctr_t ctr = {{(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)step,
                           purpose | (uint32_t)(step >> 32) << 8}};
  ctr = philox4x32(ctr, key);
  for (int i = 0; i < 4; i++) out[i] = ctr.v[i];
}

COH_RANDOM_FN uint64_t coh_random_word64(const uint32_t w[2]) {
  return (uint64_t)w[0] << 32 | w[1];
}

/* The upper half of the 128-bit product; *low gets the lower. */
COH_RANDOM_FN uint64_t coh_random_multiply(uint64_t a, uint64_t b, uint64_t *low) {
  *low = a * b;
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  return (uint64_t)((unsigned __int128)a * b >> 64);
#endif
}

/* One of 0..n-1, n >= 1, unbiased: Lemire, "Fast random integer generation in an
 * interval", ACM TOMACS 2019. A rejected word is followed by the block's second one, then
 * by the blocks at index + 2^32, index + 2 * 2^32, ... */
COH_RANDOM_FN uint64_t coh_random_below(uint64_t n, uint64_t seed, uint32_t purpose,
                                        uint64_t step, uint64_t index) {
  uint64_t reject = (0 - n) % n; /* 2^64 mod n */
  for (;; index += (uint64_t)1 << 32) {
    uint32_t w[4];
    coh_random_block_of(seed, purpose, step, index, w);
    for (int half = 0; half < 4; half += 2) {
      uint64_t low, high = coh_random_multiply(coh_random_word64(w + half), n, &low);
      if (low >= reject) return high;
    }
  }
}

#endif
