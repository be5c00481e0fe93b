/* gemm.c - GFLOP/s of the device's matrix products, one thread, against the rate of the
 * processor's multiply-add units measured in the same run (a loop over registers only).
 *
 *   build/bench/gemm [float32|float64]
 *
 * Rules: operands are filled once with random numbers; a sample is about 1 ms of the
 * units alone, then about 5 ms of the product over and over; of 31 samples the median
 * rate and the best are printed, and the median of the ratio to the units' rate beside
 * it, which is what to compare on a machine that others use. A product counts as 2 N M Q
 * K operations. The shapes are those of students' layers: members, then M x Q x K;
 * "shared": one A for all members; t: an operand stored transposed.
 */
#include "cohort/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
  const char *what;
  size_t N, M, Q, K;
  bool trans_a, trans_b, shared;
} shape;

static const shape shapes[] = {
    {"large", 1, 2048, 2048, 2048, false, false, false},
    {"one student", 1, 512, 320, 784, false, false, false},
    {"first layer", 20, 512, 64, 784, false, false, true},
    {"first layer, dW", 20, 784, 64, 512, true, false, true},
    {"first layer", 10, 512, 16, 784, false, false, true},
    {"first layer, dW", 10, 784, 16, 512, true, false, true},
    {"one by one", 20, 512, 64, 784, false, false, false},
    {"hidden", 20, 512, 64, 64, false, false, false},
    {"output", 20, 512, 10, 64, false, false, false},
    {"output, dX", 20, 512, 64, 10, false, true, false},
    {"output, dW", 20, 64, 10, 512, true, false, false},
    {"small", 100, 256, 25, 25, false, false, false},
    {"small, dX", 100, 256, 25, 25, false, true, false},
    {"small, dW", 100, 25, 25, 256, true, false, false},
    {"small, 300 rows, dW", 100, 25, 25, 300, true, false, false},
    {"small, first", 100, 256, 25, 2, false, false, true},
    {"small, first, dW", 100, 2, 25, 256, true, false, true},
    {"small, output", 100, 256, 1, 25, false, false, false},
    {"square", 64, 64, 64, 64, false, false, false},
};

enum { SAMPLES = 31 };

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *v) {
  qsort(v, SAMPLES, sizeof *v, by_value);
  return v[SAMPLES / 2];
}

/* ---- the products ---------------------------------------------------------------- */

static void *random_array(coh_dtype t, size_t n, uint64_t seed) {
  coh_error err;
  void *a;
  if (coh_alloc(&a, n, coh_dtype_size(t), &err)) {
    fprintf(stderr, "gemm: %s\n", err.text);
    exit(1);
  }
  for (size_t i = 0; i < n; i++)
    coh_put(t, a, i, coh_random_uniform(seed, COH_RNG_TEST, 0, i) - 0.5);
  return a;
}

/* GFLOP/s of each sample, and their ratio to the units' rate. */
static void sample(coh_device *dev, const coh_gemm *g, double *rates, double *ratios) {
  coh_error err;
  double work = 2.0 * (double)(g->N * g->M) * (double)(g->Q * g->K);
  size_t repeat = (size_t)(100e9 * 0.005 / work) + 1; /* 5 ms at 100 GFLOP/s */
  for (int s = 0; s < SAMPLES; s++) {
    double units = coh_device_peak(dev) * 1e-9;
    double t = coh_seconds();
    for (size_t r = 0; r < repeat; r++)
      if (dev->ops->gemm(dev, g, &err)) exit(1);
    rates[s] = work * (double)repeat / (coh_seconds() - t) * 1e-9;
    ratios[s] = units > 0 ? rates[s] / units : 0;
  }
}

static void measure(coh_device *dev, const shape *s) {
  coh_gemm g = {.trans_a = s->trans_a,
                .trans_b = s->trans_b,
                .N = s->N,
                .M = s->M,
                .Q = s->Q,
                .K = s->K,
                .ldc = s->Q,
                .stride_c = s->M * s->Q};
  g.lda = s->trans_a ? s->M : s->K;
  g.ldb = s->trans_b ? s->K : s->Q;
  g.stride_a = s->shared ? 0 : s->M * s->K;
  g.stride_b = s->K * s->Q;
  void *a = random_array(dev->dtype, (s->shared ? 1 : s->N) * s->M * s->K, 1);
  void *b = random_array(dev->dtype, s->N * s->K * s->Q, 2);
  void *c = random_array(dev->dtype, s->N * s->M * s->Q, 3);
  g.a = a, g.b = b, g.c = c;
  double rates[SAMPLES], ratios[SAMPLES];
  sample(dev, &g, rates, ratios);
  double middle = median(rates), best = rates[SAMPLES - 1];
  printf("%-20s %3zu: %4zu x %4zu x %4zu %c%c %s %6.1f %6.1f %4.0f %%\n", s->what, s->N,
         s->M, s->Q, s->K, s->trans_a ? 't' : 'n', s->trans_b ? 't' : 'n',
         s->shared ? "shared" : "      ", middle, best, 100 * median(ratios));
  free(a), free(b), free(c);
}

int main(int argc, char **argv) {
  coh_dtype dtype = argc > 1 && strcmp(argv[1], "float64") == 0 ? COH_F64 : COH_F32;
  coh_error err;
  coh_device *dev;
  if (coh_device_open_cpu(NULL, dtype, &dev, &err)) {
    fprintf(stderr, "gemm: %s\n", err.text);
    return coh_exit_status(err.code);
  }
  printf("%s, %s, GFLOP/s: median, best, median part of the multiply-add units' rate\n",
         coh_device_text(dev), dtype == COH_F64 ? "float64" : "float32");
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) measure(dev, &shapes[i]);
  coh_device_close(dev);
  return 0;
}
