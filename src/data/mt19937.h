/* mt19937.h - the Mersenne Twister as NumPy's legacy RandomState seeds and uses it. Only
 * for edits of a data set, whose results are published with it; all else uses base's
 * generator. Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8, 1998. Uses base.
 */
#ifndef COHORT_DATA_MT19937_H
#define COHORT_DATA_MT19937_H

#include "cohort/base.h"

enum { COH_MT_WORDS = 624 };

typedef struct coh_mt {
  uint32_t word[COH_MT_WORDS];
  size_t at; /* next word to hand out */
} coh_mt;

void coh_mt_seed(coh_mt *mt, uint32_t seed);
uint32_t coh_mt_next(coh_mt *mt);
/* Uniform in 0..max: masked draws until one fits; no draw at all for max = 0. */
uint32_t coh_mt_upto(coh_mt *mt, uint32_t max);
/* perm[0..n) = RandomState(seed).permutation(n). */
void coh_mt_permutation(uint32_t seed, size_t n, uint32_t *perm);

#endif
