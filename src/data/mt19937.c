/* mt19937.c - the generator of mt19937.h. Uses base. */
#include "data/mt19937.h"

enum { SHIFT = 397 };

void coh_mt_seed(coh_mt *mt, uint32_t seed) {
  mt->word[0] = seed;
  for (uint32_t i = 1; i < COH_MT_WORDS; i++) {
    uint32_t last = mt->word[i - 1];
    mt->word[i] = 1812433253u * (last ^ (last >> 30)) + i;
  }
  mt->at = COH_MT_WORDS;
}

static void twist(coh_mt *mt) {
  uint32_t *w = mt->word;
  for (size_t i = 0; i < COH_MT_WORDS; i++) {
    uint32_t y = (w[i] & 0x80000000u) | (w[(i + 1) % COH_MT_WORDS] & 0x7fffffffu);
    w[i] = w[(i + SHIFT) % COH_MT_WORDS] ^ (y >> 1) ^ ((y & 1u) ? 0x9908b0dfu : 0u);
  }
  mt->at = 0;
}

uint32_t coh_mt_next(coh_mt *mt) {
  if (mt->at == COH_MT_WORDS) twist(mt);
  uint32_t y = mt->word[mt->at++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

uint32_t coh_mt_upto(coh_mt *mt, uint32_t max) {
  if (max == 0) return 0;
  uint32_t mask = 0xffffffffu >> __builtin_clz(max);
  uint32_t v;
  do {
    v = coh_mt_next(mt) & mask;
  } while (v > max);
  return v;
}

void coh_mt_permutation(uint32_t seed, size_t n, uint32_t *perm) {
  coh_mt mt;
  coh_mt_seed(&mt, seed);
  for (size_t i = 0; i < n; i++) perm[i] = (uint32_t)i;
  for (size_t i = n; i-- > 1;) {
    uint32_t j = coh_mt_upto(&mt, (uint32_t)i);
    uint32_t keep = perm[i];
    perm[i] = perm[j];
    perm[j] = keep;
  }
}
