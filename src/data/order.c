/* order.c - the order of the samples in an epoch. Uses base. */
#include "cohort/data.h"

void coh_order_epoch(uint64_t seed, uint64_t epoch, size_t n, uint32_t *perm) {
  coh_random_permutation(seed, COH_RNG_ORDER, epoch, n, perm);
}
