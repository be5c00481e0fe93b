/* sort.c - order statistics of a few numbers. */
#include <stdlib.h>

#include "cohort/base.h"

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

void coh_sort(double *v, size_t n) {
  if (n > 0) qsort(v, n, sizeof *v, by_value);
}

double coh_median_of_sorted(const double *v, size_t n) {
  return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}
