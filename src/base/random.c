/* random.c - random numbers as pure functions of (seed, purpose, step, index), by
 * Random123's Philox. What the numbers are used for is the caller's. Uses no other room.
 */
#include "cohort/base.h"

#include <Random123/philox.h>
#include <math.h>

void coh_random_block(uint64_t seed, coh_purpose purpose, uint64_t step, uint64_t index,
                      uint32_t out[4]) {
  philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
  philox4x32_ctr_t ctr = {{(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)step,
                           (uint32_t)purpose | (uint32_t)(step >> 32) << 8}};
  ctr = philox4x32(ctr, key);
  for (int i = 0; i < 4; i++) out[i] = ctr.v[i];
}

static uint64_t word64(const uint32_t w[2]) {
  return (uint64_t)w[0] << 32 | w[1];
}

static double uniform(const uint32_t w[2]) {
  return (double)(word64(w) >> 11) * 0x1p-53;
}

double coh_random_uniform(uint64_t seed, coh_purpose purpose, uint64_t step,
                          uint64_t index) {
  uint32_t w[4];
  coh_random_block(seed, purpose, step, index, w);
  return uniform(w);
}

double coh_random_normal(uint64_t seed, coh_purpose purpose, uint64_t step,
                         uint64_t index) {
  uint32_t w[4];
  coh_random_block(seed, purpose, step, index, w);
  /* 1 - u lies in (0, 1], so the logarithm is finite */
  return sqrt(-2 * log(1 - uniform(w))) * cos(2 * M_PI * uniform(w + 2));
}

/* One of 0..n-1, n >= 1, unbiased: Lemire, "Fast random integer generation in an
 * interval", ACM TOMACS 2019. A rejected word is followed by the block's second one, then
 * by the blocks at index + 2^32, index + 2 * 2^32, ... */
static uint64_t below(uint64_t n, uint64_t seed, coh_purpose purpose, uint64_t step,
                      uint64_t index) {
  uint64_t reject = -n % n; /* 2^64 mod n */
  for (;; index += (uint64_t)1 << 32) {
    uint32_t w[4];
    coh_random_block(seed, purpose, step, index, w);
    for (int half = 0; half < 4; half += 2) {
      unsigned __int128 product = (unsigned __int128)word64(w + half) * n;
      if ((uint64_t)product >= reject) return (uint64_t)(product >> 64);
    }
  }
}

void coh_random_permutation(uint64_t seed, coh_purpose purpose, uint64_t step, size_t n,
                            uint32_t *perm) {
  for (size_t i = 0; i < n; i++) perm[i] = (uint32_t)i;
  for (size_t i = n; i-- > 1;) {
    size_t j = below(i + 1, seed, purpose, step, i);
    uint32_t t = perm[i];
    perm[i] = perm[j];
    perm[j] = t;
  }
}
