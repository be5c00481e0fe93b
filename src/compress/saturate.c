/* saturate.c - whether a log of losses has stopped falling. Pure functions. */
#include <math.h>
#include <stdlib.h>

#include "compress/private.h"

/* Bandwidth on the time axis 0..1. */
static double bandwidth(size_t n) {
  double m = (double)n;
  return pow(m, -1.0 / 5) * pow(m, -3.0 / 35) * pow(log(m), -1.0 / 16);
}

/* Weighted line at t (from 0) through the points; y itself where they lie at one place.
 */
static double line_at(size_t n, const double *y, size_t t, double h) {
  double s0 = 0, s1 = 0, s2 = 0, t0 = 0, t1 = 0;
  size_t reach = (size_t)(h * (double)(n - 1)) + 1; /* beyond, weights are 0 */
  size_t first = t > reach ? t - reach : 0, end = t + reach < n ? t + reach + 1 : n;
  for (size_t i = first; i < end; i++) {
    double d = (double)i - (double)t, x = d / (double)(n - 1) / h;
    if (fabs(x) > 1) continue;
    double w = 0.75 * (1 - x * x) / h;
    s0 += w, s1 += w * d, s2 += w * d * d;
    t0 += w * y[i], t1 += w * d * y[i];
  }
  double det = s0 * s2 - s1 * s1;
  return det == 0 ? y[t] : (s2 * t0 - s1 * t1) / det;
}

void coh_smooth(size_t n, const double *y, double *out) {
  double h = n > 1 ? bandwidth(n) : 1;
  for (size_t t = 0; t < n; t++) out[t] = n > 1 ? line_at(n, y, t, h) : y[t];
}

size_t coh_saturation_window(size_t sw) {
  return (sw + 1) / 2 * 2;
}

static double mean_of(size_t n, const double *y) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += y[i];
  return sum / (double)n;
}

/* Sample standard deviation about the smooth curve. */
static double deviation(size_t n, const double *y) {
  double h = bandwidth(n), mean = 0, square = 0;
  for (size_t i = 0; i < n; i++) mean += y[i] - line_at(n, y, i, h);
  mean /= (double)n;
  for (size_t i = 0; i < n; i++) {
    double d = y[i] - line_at(n, y, i, h) - mean;
    square += d * d;
  }
  return sqrt(square / (double)(n - 1));
}

bool coh_saturated(const double *recent, size_t length, size_t sw, double slack) {
  size_t n = coh_saturation_window(sw) / 2;
  if (length < sw + 2 || n < 2) return false;
  double fall = mean_of(n, recent) - mean_of(n, recent + n);
  if (fall <= slack) return true; /* deviations are not negative */
  return fall <= fmin(deviation(n, recent), deviation(n, recent + n)) + slack;
}
