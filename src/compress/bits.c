/* bits.c - code lengths of masks, parameters and data. */
#include <math.h>

#include "compress/private.h"

double coh_mask_bits(size_t N, size_t l0) {
  double n = (double)N, k = (double)l0;
  if (l0 == 0 || l0 >= N) return 0;
  return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2);
}

double coh_gauss_bits(double M, double sigma) {
  double square = sigma * sigma;
  return M / (2 * square * log(2)) + 0.5 * log2(square);
}

double coh_gauss_slope(double M, double sigma) {
  return (1 / sigma - M / (sigma * sigma * sigma)) / log(2);
}
