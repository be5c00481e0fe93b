/* random.c - random numbers as pure functions of (seed, purpose, step, index), by
 * Random123's Philox. What the numbers are used for is the caller's. Uses no other room.
 */
#include "cohort/random.h"

#include <math.h>

void coh_random_block(uint64_t seed, coh_purpose purpose, uint64_t step, uint64_t index,
                      uint32_t out[4]) {
  coh_random_block_of(seed, (uint32_t)purpose, step, index, out);
}

static double uniform(const uint32_t w[2]) {
  return (double)(coh_random_word64(w) >> 11) * 0x1p-53;
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

void coh_random_permutation(uint64_t seed, coh_purpose purpose, uint64_t step, size_t n,
                            uint32_t *perm) {
  for (size_t i = 0; i < n; i++) perm[i] = (uint32_t)i;
  for (size_t i = n; i-- > 1;) {
    size_t j = coh_random_below(i + 1, seed, (uint32_t)purpose, step, i);
    uint32_t t = perm[i];
    perm[i] = perm[j];
    perm[j] = t;
  }
}
