/* test_device.c - the room src/device: every function of the table against a plain loop
 * in double, for both types and every instruction set the processor has; sizes around
 * every vector remainder; outputs poisoned with NaN and fenced; and that a member's
 * result is the same to the bit whatever its neighbours, position and alignment.
 */
#include "cohort/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 67 }; /* every size from 1 to here */
static const char *const isas[] = {"avx512", "avx2", "generic"};

/* ---- running a check on every device --------------------------------------------- */

static void ok(int rc, const coh_error *err) {
  if (rc) fail_msg("%s", err->text);
}

static void on_every_device(void (*check)(coh_device *)) {
  for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
    for (coh_dtype t = COH_F32; t <= COH_F64; t++) {
      coh_error err = {0};
      coh_device *dev;
      int rc = coh_device_open_cpu(isas[i], t, &dev, &err);
      if (rc == COH_EUSAGE) continue; /* not this processor, not this build */
      ok(rc, &err);
      check(dev);
      coh_device_close(dev);
    }
}

static double epsilon(const coh_device *dev) {
  return dev->dtype == COH_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
}

/* ---- numbers --------------------------------------------------------------------- */

static uint64_t drawn;
static double uniform(double a, double b) {
  return a + (b - a) * coh_random_uniform(7, COH_RNG_TEST, 1, drawn++);
}
static size_t pick(size_t from, size_t to) {
  return from + (size_t)(uniform(0, 1) * (double)(to - from + 1));
}
static bool coin(void) {
  return uniform(0, 1) < 0.5;
}

/* ---- fenced arrays --------------------------------------------------------------- */

enum { FENCE = 128 };
typedef struct array {
  unsigned char *block;
  void *data;
  size_t bytes, n;
  coh_dtype type;
} array;

/* `shift` elements away from an aligned address; filled with NaN bytes. */
static array array_make(coh_dtype t, size_t n, size_t shift) {
  array a = {.n = n, .type = t, .bytes = n * coh_dtype_size(t)};
  size_t before = FENCE + shift * coh_dtype_size(t);
  a.block = aligned_alloc(64, (before + a.bytes + FENCE + 127) / 64 * 64);
  assert_non_null(a.block);
  memset(a.block, 0xff, before + a.bytes + FENCE);
  a.data = a.block + before;
  return a;
}

static array array_random(coh_dtype t, size_t n, size_t shift, double a, double b) {
  array r = array_make(t, n, shift);
  for (size_t i = 0; i < n; i++) coh_put(t, r.data, i, uniform(a, b));
  return r;
}

static double get(const array *a, size_t i) {
  assert_true(i < a->n);
  return coh_get(a->type, a->data, i);
}

static void array_free(array *a) {
  const unsigned char *end = (unsigned char *)a->data + a->bytes;
  for (const unsigned char *p = a->block; p < (unsigned char *)a->data; p++)
    assert_int_equal(*p, 0xff);
  for (size_t i = 0; i < FENCE; i++) assert_int_equal(end[i], 0xff);
  free(a->block);
}

static void assert_close(double got, double want, double tolerance, const char *what) {
  if (!(fabs(got - want) <= tolerance))
    fail_msg("%s: got %.17g, want %.17g, tolerance %g", what, got, want, tolerance);
}

static const void *row_at(const array *a, size_t element) {
  return (const char *)a->data + element * coh_dtype_size(a->type);
}

/* ---- gemm ------------------------------------------------------------------------ */

typedef struct problem {
  coh_gemm g;
  array a, b, c, before;
} problem;

static problem problem_make(coh_device *dev, size_t N, size_t M, size_t Q, size_t K) {
  problem p = {.g = {.N = N,
                     .M = M,
                     .Q = Q,
                     .K = K,
                     .trans_a = coin(),
                     .trans_b = coin(),
                     .beta = coin() ? 1 : 0}};
  coh_gemm *g = &p.g;
  g->lda = (g->trans_a ? M : K) + pick(0, 3);
  g->ldb = (g->trans_b ? K : Q) + pick(0, 3);
  g->ldc = Q + pick(0, 3);
  size_t rows_a = g->trans_a ? K : M, rows_b = g->trans_b ? Q : K;
  g->stride_a = coin() ? 0 : rows_a * g->lda + pick(0, 5);
  g->stride_b = uniform(0, 1) < 0.2 ? 0 : rows_b * g->ldb + pick(0, 5);
  g->stride_c = M * g->ldc + pick(0, 5);
  p.a = array_random(dev->dtype, (N - 1) * g->stride_a + rows_a * g->lda, pick(0, 3), -1,
                     1);
  p.b = array_random(dev->dtype, (N - 1) * g->stride_b + rows_b * g->ldb, pick(0, 3), -1,
                     1);
  size_t n_c = (N - 1) * g->stride_c + M * g->ldc, shift = pick(0, 3);
  p.c = g->beta == 0 ? array_make(dev->dtype, n_c, shift)
                     : array_random(dev->dtype, n_c, shift, -1, 1);
  p.before = array_make(dev->dtype, n_c, 0);
  memcpy(p.before.data, p.c.data, p.c.bytes);
  g->a = p.a.data, g->b = p.b.data, g->c = p.c.data;
  return p;
}

static void problem_free(problem *p) {
  array_free(&p->a), array_free(&p->b), array_free(&p->c), array_free(&p->before);
}

static void check_element(const problem *p, size_t n, size_t i, size_t j, double eps) {
  const coh_gemm *g = &p->g;
  size_t at = n * g->stride_c + i * g->ldc + j;
  double sum = g->beta == 0 ? 0 : get(&p->before, at), size = fabs(sum);
  for (size_t k = 0; k < g->K; k++) {
    double a =
        get(&p->a, n * g->stride_a + (g->trans_a ? k * g->lda + i : i * g->lda + k));
    double b =
        get(&p->b, n * g->stride_b + (g->trans_b ? j * g->ldb + k : k * g->ldb + j));
    sum += a * b;
    size += fabs(a * b);
  }
  assert_close(get(&p->c, at), sum, eps * (2 + sqrt((double)g->K)) * size, "gemm");
}

/* What lies between rows and members is left alone. */
static void check_gaps(const problem *p) {
  const coh_gemm *g = &p->g;
  size_t size = coh_dtype_size(p->c.type);
  for (size_t e = 0; e < p->c.n; e++) {
    size_t in = e % g->stride_c, row = in / g->ldc, column = in % g->ldc;
    if (row < g->M && column < g->Q) continue;
    assert_memory_equal(row_at(&p->c, e), row_at(&p->before, e), size);
  }
}

/* Member n alone, from copies at other addresses, gives the same bits. */
static void check_alone(coh_device *dev, const problem *p, size_t n) {
  coh_error err;
  coh_gemm g = p->g;
  g.N = 1;
  array c = array_make(dev->dtype, g.M * g.ldc, pick(0, 15));
  memcpy(c.data, row_at(&p->before, n * g.stride_c), c.bytes);
  g.a = row_at(&p->a, n * g.stride_a);
  g.b = row_at(&p->b, n * g.stride_b);
  g.c = c.data;
  ok(dev->ops->gemm(dev, &g, &err), &err);
  assert_memory_equal(c.data, row_at(&p->c, n * g.stride_c), c.bytes);
  array_free(&c);
}

static void check_gemm(coh_device *dev, size_t N, size_t M, size_t Q, size_t K) {
  coh_error err;
  problem p = problem_make(dev, N, M, Q, K);
  ok(dev->ops->gemm(dev, &p.g, &err), &err);
  size_t elements = M * Q, every = elements / 4000 + 1; /* all, or a few thousand */
  for (size_t n = 0; n < N; n++)
    for (size_t e = pick(0, every - 1); e < elements; e += every)
      check_element(&p, n, e / Q, e % Q, epsilon(dev));
  check_gaps(&p);
  check_alone(dev, &p, pick(0, N - 1));
  problem_free(&p);
}

static void gemm_sizes(coh_device *dev) {
  for (size_t v = 1; v <= MOST; v++) {
    check_gemm(dev, pick(1, 4), v, pick(1, MOST), pick(1, MOST));
    check_gemm(dev, pick(1, 4), pick(1, MOST), v, pick(1, MOST));
    check_gemm(dev, pick(1, 4), pick(1, MOST), pick(1, MOST), v);
    check_gemm(dev, pick(1, 9), pick(1, 30), v, pick(30, 40));
  }
  check_gemm(dev, 3, 1, 1, 1);
  check_gemm(dev, 2, 13, 35, 257);
  check_gemm(dev, 1, 481, 33, 600);
  check_gemm(dev, 2, 1000, 5, 784);
}

static void test_gemm(void **state) {
  (void)state;
  on_every_device(gemm_sizes);
}

static void gemm_bad(coh_device *dev) {
  coh_error err;
  double x[4] = {1, 2, 3, 4};
  coh_gemm g = {.N = 1,
                .M = 1,
                .Q = 1,
                .K = 1,
                .a = x,
                .b = x,
                .c = x + 2,
                .lda = 1,
                .ldb = 1,
                .ldc = 1,
                .beta = 0.5};
  assert_int_equal(dev->ops->gemm(dev, &g, &err), COH_EBUG);
  g.beta = 0, g.ldb = 0;
  assert_int_equal(dev->ops->gemm(dev, &g, &err), COH_EBUG);
  g.ldb = 1, g.K = 0; /* an empty sum */
  ok(dev->ops->gemm(dev, &g, &err), &err);
  assert_true(coh_get(dev->dtype, x + 2, 0) == 0);
}

static void test_gemm_edges(void **state) {
  (void)state;
  on_every_device(gemm_bad);
}

/* ---- activations ----------------------------------------------------------------- */

/* In long double, for the errors of the double kernels. `scale` gets the largest term of
 * the slope: where terms cancel, errors are measured by it. */
static long double sigmoid_l(long double x) {
  return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
}
static long double bell_l(long double x) { /* sigmoid' */
  long double e = expl(-fabsl(x));
  return e / ((1 + e) * (1 + e));
}
static long double softplus_l(long double x) {
  return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x)));
}
static const long double root_half = 0.70710678118654752440084436210485L;

static long double value_l(coh_act act, long double x) {
  switch (act) {
  case COH_SOFTPLUS:
    return softplus_l(x);
  case COH_GELU:
    return 0.5L * x * erfcl(-x * root_half);
  case COH_SILU:
    return x * sigmoid_l(x);
  case COH_TANH:
    return tanhl(x);
  case COH_SIGMOID:
    return sigmoid_l(x);
  case COH_G:
    return sigmoid_l(4 * x) + softplus_l(x);
  default:
    return (long double)coh_act_value(act, (double)x);
  }
}

static long double slope_l(coh_act act, long double x, long double *scale) {
  long double s = 0, phi = 0.3989422804014326779399L * expl(-0.5L * x * x), e;
  *scale = 0;
  switch (act) {
  case COH_SOFTPLUS:
    return sigmoid_l(x);
  case COH_GELU:
    s = 0.5L * erfcl(-x * root_half);
    *scale = s + fabsl(x * phi);
    return s + x * phi;
  case COH_SILU:
    s = sigmoid_l(x);
    *scale = s + fabsl(x * bell_l(x));
    return s + x * bell_l(x);
  case COH_TANH:
    e = expl(-2 * fabsl(x));
    return 4 * e / ((1 + e) * (1 + e));
  case COH_SIGMOID:
    return bell_l(x);
  case COH_G:
    return 4 * bell_l(4 * x) + sigmoid_l(x);
  default:
    return (long double)coh_act_slope(act, (double)x);
  }
}

/* Relative error at `scale`, in epsilons of the type. Below the normal range numbers may
 * count as zero; silu multiplies such a one by -88 or, in float64, -709. */
static double epsilons(const coh_device *dev, double got, long double want,
                       long double scale) {
  long double size = fabsl(want) > scale ? fabsl(want) : scale;
  long double least = dev->dtype == COH_F64 ? (long double)DBL_MIN : (long double)FLT_MIN;
  long double error = fabsl((long double)got - want);
  return error <= 1024 * least ? 0 : (double)(error / size) / epsilon(dev);
}

static const double most_epsilons = 4.5;

static void check_activation(coh_device *dev, coh_act act, size_t n, const array *x) {
  coh_error err;
  array z = array_make(dev->dtype, n, 1), d = array_make(dev->dtype, n, 2);
  array zero = array_make(dev->dtype, n, 0);
  memcpy(z.data, x->data, z.bytes);
  memset(zero.data, 0, zero.bytes);
  ok(dev->ops->bias_act(dev, act, 1, 1, n, zero.data, 0, z.data, d.data, &err), &err);
  for (size_t i = 0; i < n; i++) {
    long double scale, slope = slope_l(act, (long double)get(x, i), &scale);
    double v = epsilons(dev, get(&z, i), value_l(act, (long double)get(x, i)), 0);
    double s = epsilons(dev, get(&d, i), slope, scale);
    if (!(v <= most_epsilons && s <= most_epsilons))
      fail_msg("%s, %s, x = %.17g: value %.17g is %.1f epsilon off, slope %.17g %.1f",
               coh_device_text(dev), coh_act_name(act), get(x, i), get(&z, i), v,
               get(&d, i), s);
  }
  array_free(&z), array_free(&d), array_free(&zero);
}

static void activation_accuracy(coh_device *dev) {
  enum { COUNT = 20000 };
  array x = array_make(dev->dtype, COUNT, 0);
  for (size_t i = 0; i < COUNT; i++) {
    double sign = coin() ? 1 : -1, u = uniform(0, 1);
    double v = i % 4 == 0   ? uniform(-3, 3)
               : i % 4 == 1 ? uniform(-120, 120)
               : i % 4 == 2 ? sign * pow(10, -8 + 8 * u)
                            : uniform(-14, 14);
    coh_put(dev->dtype, x.data, i, i == 0 ? 0 : v);
  }
  for (coh_act act = COH_RELU; act <= COH_G; act++) check_activation(dev, act, COUNT, &x);
  array_free(&x);
}

static void test_activation_accuracy(void **state) {
  (void)state;
  on_every_device(activation_accuracy);
}

/* Far out, at infinity and at NaN the limits come out, never inf * 0. */
static void activation_limits(coh_device *dev) {
  const double far[] = {INFINITY, 1e30, 1000, -1000, -1e30, -INFINITY, NAN};
  enum { COUNT = sizeof far / sizeof far[0] };
  for (coh_act act = COH_RELU; act <= COH_G; act++) {
    coh_error err;
    array z = array_make(dev->dtype, COUNT, 0), d = array_make(dev->dtype, COUNT, 0);
    double zero[COUNT] = {0};
    for (size_t i = 0; i < COUNT; i++) coh_put(dev->dtype, z.data, i, far[i]);
    ok(dev->ops->bias_act(dev, act, 1, 1, COUNT, zero, 0, z.data, d.data, &err), &err);
    for (size_t i = 0; i + 1 < COUNT; i++) {
      double x = dev->dtype == COH_F32 ? (double)(float)far[i] : far[i];
      double v = coh_act_value(act, x), s = coh_act_slope(act, x);
      assert_true(v == get(&z, i) || fabs(v - get(&z, i)) <= 2 * epsilon(dev) * fabs(v));
      assert_close(get(&d, i), s, 2 * epsilon(dev), coh_act_name(act));
    }
    assert_true(isnan(get(&z, COUNT - 1)));
    assert_true(isnan(coh_act_value(act, NAN)));
    array_free(&z), array_free(&d);
  }
}

static void test_activation_limits(void **state) {
  (void)state;
  on_every_device(activation_limits);
}

/* One value gives the same bits at every position, in vector body and remainder. */
static void activation_positions(coh_device *dev) {
  coh_error err;
  size_t size = coh_dtype_size(dev->dtype);
  for (coh_act act = COH_RELU; act <= COH_G; act++)
    for (size_t n = 1; n <= 3 * MOST; n += n < MOST ? 1 : 29) {
      array x = array_random(dev->dtype, n, pick(0, 15), -20, 20);
      array z = array_make(dev->dtype, n, pick(0, 15)), d = array_make(dev->dtype, n, 1);
      double zero[3 * MOST] = {0}, one[1], slope[1];
      memcpy(z.data, x.data, z.bytes);
      ok(dev->ops->bias_act(dev, act, 1, 1, n, zero, 0, z.data, d.data, &err), &err);
      for (size_t i = 0; i < n; i++) {
        memcpy(one, row_at(&x, i), size);
        ok(dev->ops->bias_act(dev, act, 1, 1, 1, zero, 0, one, slope, &err), &err);
        assert_memory_equal(one, row_at(&z, i), size);
        assert_memory_equal(slope, row_at(&d, i), size);
      }
      array_free(&x), array_free(&z), array_free(&d);
    }
}

static void test_activation_positions(void **state) {
  (void)state;
  on_every_device(activation_positions);
}

/* ---- bias and slopes over members ------------------------------------------------ */

static void check_bias_act(coh_device *dev, size_t N, size_t B, size_t O) {
  coh_error err;
  coh_act act = (coh_act)pick(COH_RELU, COH_G);
  size_t n = N * B * O, stride = O + pick(0, 5);
  array x = array_random(dev->dtype, n, 0, -4, 4),
        z = array_make(dev->dtype, n, pick(0, 3));
  array z2 = array_make(dev->dtype, n, pick(0, 3)),
        d = array_make(dev->dtype, n, pick(0, 3));
  array bias = array_random(dev->dtype, N * stride, pick(0, 3), -1, 1);
  memcpy(z.data, x.data, z.bytes);
  memcpy(z2.data, x.data, z.bytes);
  ok(dev->ops->bias_act(dev, act, N, B, O, bias.data, stride, z.data, d.data, &err),
     &err);
  ok(dev->ops->bias_act(dev, act, N, B, O, bias.data, stride, z2.data, NULL, &err), &err);
  assert_memory_equal(z.data, z2.data, z.bytes);
  for (size_t i = 0; i < n; i++) {
    double s = get(&x, i) + get(&bias, i / (B * O) * stride + i % O);
    if (dev->dtype == COH_F32) s = (double)(float)s;
    assert_close(get(&z, i), coh_act_value(act, s), 8 * epsilon(dev) * (1 + fabs(s)),
                 "act");
    assert_close(get(&d, i), coh_act_slope(act, s), 20 * epsilon(dev), "slope");
  }
  array_free(&x), array_free(&z), array_free(&z2), array_free(&d), array_free(&bias);
}

static void check_bias_grad(coh_device *dev, size_t N, size_t B, size_t O) {
  coh_error err;
  size_t stride = O + pick(0, 5), n = N * B * O;
  array dz = array_random(dev->dtype, n, pick(0, 3), -1, 1);
  array by = array_random(dev->dtype, n, pick(0, 3), -1, 1);
  array db = array_make(dev->dtype, (N - 1) * stride + O, pick(0, 3));
  ok(dev->ops->bias_grad(dev, N, B, O, dz.data, db.data, stride, &err), &err);
  for (size_t m = 0; m < N; m++)
    for (size_t o = 0; o < O; o++) {
      double sum = 0;
      for (size_t b = 0; b < B; b++) sum += get(&dz, (m * B + b) * O + o);
      assert_close(get(&db, m * stride + o), sum, epsilon(dev) * (1 + (double)B), "bias");
    }
  array before = array_make(dev->dtype, n, 0);
  memcpy(before.data, dz.data, dz.bytes);
  ok(dev->ops->act_grad(dev, N, B * O, dz.data, by.data, &err), &err);
  for (size_t i = 0; i < n; i++) {
    double want = get(&before, i) * get(&by, i);
    assert_true(get(&dz, i) == (dev->dtype == COH_F32 ? (double)(float)want : want));
  }
  array_free(&dz), array_free(&by), array_free(&db), array_free(&before);
}

/* a NULL: that of a bias. */
static void check_outer(coh_device *dev, size_t B, size_t I, size_t O, bool bias) {
  coh_error err;
  size_t ldc = I * O + pick(0, 5);
  array a = array_random(dev->dtype, B * I, pick(0, 3), -1, 1);
  array dz = array_random(dev->dtype, B * O, pick(0, 3), -1, 1);
  array c = array_make(dev->dtype, (B - 1) * ldc + I * O, pick(0, 3));
  const void *left = bias ? NULL : a.data;
  ok(dev->ops->outer(dev, B, I, O, left, dz.data, c.data, ldc, &err), &err);
  for (size_t b = 0; b < B; b++)
    for (size_t i = 0; i < I * O; i++) {
      double want = get(&dz, b * O + i % O);
      if (!bias) want *= get(&a, b * I + i / O);
      if (dev->dtype == COH_F32) want = (double)(float)want;
      assert_true(get(&c, b * ldc + i) == want);
    }
  array_free(&a), array_free(&dz), array_free(&c);
}

static void outer_sizes(coh_device *dev) {
  for (size_t v = 1; v <= MOST; v++) {
    check_outer(dev, pick(1, 4), v, pick(1, MOST), false);
    check_outer(dev, pick(1, 4), pick(1, MOST), v, false);
    check_outer(dev, pick(1, 4), v, 1, false);
    check_outer(dev, pick(1, 4), 1, v, true);
  }
}

static void test_outer(void **state) {
  (void)state;
  on_every_device(outer_sizes);
}

static void bias_sizes(coh_device *dev) {
  for (size_t v = 1; v <= MOST; v++) {
    check_bias_act(dev, pick(1, 4), v, pick(1, MOST));
    check_bias_act(dev, pick(1, 4), pick(1, MOST), v);
    check_bias_grad(dev, pick(1, 4), v, pick(1, MOST));
    check_bias_grad(dev, pick(1, 4), pick(1, MOST), v);
  }
  check_bias_act(dev, 2, 3, 700);
  check_bias_grad(dev, 2, 300, 600);
  check_bias_grad(dev, 2, 1000, 3);
}

static void test_bias(void **state) {
  (void)state;
  on_every_device(bias_sizes);
}

/* ---- losses ---------------------------------------------------------------------- */

static coh_loss_args loss_of(size_t N, size_t B, size_t O, const void *out, const void *y,
                             const int32_t *labels, double scale, void *dout,
                             double *loss) {
  return (coh_loss_args){.N = N,
                         .B = B,
                         .O = O,
                         .out = out,
                         .y = y,
                         .labels = labels,
                         .scale = scale,
                         .dout = dout,
                         .loss = loss};
}

static void check_mse(coh_device *dev, size_t N, size_t B, size_t O) {
  coh_error err;
  size_t n = N * B * O;
  array out = array_random(dev->dtype, n, pick(0, 3), -2, 2);
  array y = array_random(dev->dtype, B * O, pick(0, 3), -2, 2);
  array d = array_make(dev->dtype, n, pick(0, 3));
  double loss[8], without[8], alone = 0, scale = uniform(0.1, 2);
  for (size_t m = 0; m < N; m++) loss[m] = without[m] = (double)m;
  coh_loss_args a = loss_of(N, B, O, out.data, y.data, NULL, scale, d.data, loss);
  ok(dev->ops->loss(dev, &a, &err), &err);
  a.dout = NULL, a.loss = without;
  ok(dev->ops->loss(dev, &a, &err), &err);
  a = loss_of(1, B, O, row_at(&out, (N - 1) * B * O), y.data, NULL, 1, NULL, &alone);
  ok(dev->ops->loss(dev, &a, &err), &err);
  assert_true(loss[N - 1] == (double)(N - 1) + alone);
  for (size_t m = 0; m < N; m++) {
    long double want = (long double)m;
    for (size_t i = 0; i < B * O; i++) {
      double e = get(&out, m * B * O + i) - get(&y, i);
      want += (long double)e * e / (long double)O;
      assert_close(get(&d, m * B * O + i), scale * 2 * e / (double)O, 12 * epsilon(dev),
                   "mse");
    }
    assert_close(loss[m], (double)want, 16 * epsilon(dev) * loss[m], "mse loss");
    assert_true(loss[m] == without[m]);
  }
  array_free(&out), array_free(&y), array_free(&d);
}

/* Loss and gradient of one row in double. */
static double softmax_row(const array *out, size_t at, size_t O, size_t label,
                          double *grad, bool *right) {
  double max = -INFINITY, sum = 0;
  size_t first = 0;
  for (size_t j = 0; j < O; j++)
    if (get(out, at + j) > max) max = get(out, at + j), first = j;
  for (size_t j = 0; j < O; j++) sum += grad[j] = exp(get(out, at + j) - max);
  for (size_t j = 0; j < O; j++) grad[j] = grad[j] / sum - (j == label);
  *right = first == label;
  return log(sum) + max - get(out, at + label);
}

static void check_rows(coh_device *dev, const array *out, const array *d, size_t m,
                       size_t B, size_t O, const int32_t *labels, double scale,
                       double loss, double correct) {
  double want = (double)m, right = 1;
  double *grad = malloc(O * sizeof *grad);
  assert_non_null(grad);
  for (size_t b = 0; b < B; b++) {
    bool hit;
    size_t at = (m * B + b) * O;
    want += softmax_row(out, at, O, (size_t)labels[b], grad, &hit);
    right += hit;
    for (size_t j = 0; j < O; j++)
      assert_close(get(d, at + j), scale * grad[j], 8 * scale * epsilon(dev), "softmax");
  }
  free(grad);
  assert_close(loss, want, 8 * epsilon(dev) * (want + (double)B), "cross-entropy");
  assert_true(correct == right);
}

static void check_cross_entropy(coh_device *dev, size_t N, size_t B, size_t O,
                                double range) {
  coh_error err;
  array out = array_random(dev->dtype, N * B * O, pick(0, 3), -range, range);
  array d = array_make(dev->dtype, N * B * O, pick(0, 3));
  if (B * O > 1) /* a tie for the maximum, and a shared one */
    memcpy((char *)out.data, row_at(&out, 1), coh_dtype_size(dev->dtype));
  int32_t *labels = malloc(B * sizeof *labels);
  assert_non_null(labels);
  for (size_t b = 0; b < B; b++) labels[b] = (int32_t)pick(0, O - 1);
  double loss[8], without[8], correct[8], alone = 0, scale = uniform(0.1, 2);
  for (size_t m = 0; m < N; m++) loss[m] = without[m] = (double)m, correct[m] = 1;
  const coh_device_ops *ops = dev->ops;
  coh_loss_args a = loss_of(N, B, O, out.data, NULL, labels, scale, d.data, loss);
  a.correct = correct;
  ok(ops->loss(dev, &a, &err), &err);
  a.dout = NULL, a.loss = without, a.correct = NULL;
  ok(ops->loss(dev, &a, &err), &err);
  a = loss_of(1, B, O, row_at(&out, (N - 1) * B * O), NULL, labels, 1, NULL, &alone);
  ok(ops->loss(dev, &a, &err), &err);
  assert_true(loss[N - 1] == (double)(N - 1) + alone);
  for (size_t m = 0; m < N; m++) {
    check_rows(dev, &out, &d, m, B, O, labels, scale, loss[m], correct[m]);
    assert_true(loss[m] == without[m]);
  }
  free(labels);
  array_free(&out), array_free(&d);
}

/* Targets of each member's own: the bits of one member after the other. */
static void check_own_targets(coh_device *dev, size_t N, size_t B, size_t O, bool mse) {
  coh_error err;
  size_t stride = (mse ? B * O : B) + 3, row = B * O * coh_dtype_size(dev->dtype);
  array out = array_random(dev->dtype, N * B * O, 1, -2, 2);
  array y = array_random(dev->dtype, N * stride, 2, -2, 2);
  array d = array_make(dev->dtype, N * B * O, 0), one = array_make(dev->dtype, B * O, 3);
  int32_t *labels = malloc(N * stride * sizeof *labels);
  assert_non_null(labels);
  for (size_t i = 0; i < N * stride; i++) labels[i] = (int32_t)pick(0, O - 1);
  double loss[8] = {0}, correct[8] = {0};
  coh_loss_args a = loss_of(N, B, O, out.data, mse ? y.data : NULL, mse ? NULL : labels,
                            0.7, d.data, loss);
  a.stride_t = stride, a.correct = correct;
  ok(dev->ops->loss(dev, &a, &err), &err);
  for (size_t n = 0; n < N; n++) {
    double alone = 0, hits = 0;
    a = loss_of(1, B, O, row_at(&out, n * B * O), mse ? row_at(&y, n * stride) : NULL,
                mse ? NULL : labels + n * stride, 0.7, one.data, &alone);
    a.correct = &hits;
    ok(dev->ops->loss(dev, &a, &err), &err);
    assert_true(alone == loss[n] && hits == correct[n]);
    assert_memory_equal(one.data, row_at(&d, n * B * O), row);
  }
  labels[(N - 1) * stride + B - 1] = (int32_t)O; /* seen with strides alone */
  a = loss_of(N, B, O, out.data, NULL, labels, 1, NULL, loss);
  a.stride_t = mse ? 0 : stride;
  if (N > 1)
    assert_int_equal(dev->ops->loss(dev, &a, &err), a.stride_t ? COH_EDATA : COH_OK);
  free(labels);
  array_free(&out), array_free(&y), array_free(&d), array_free(&one);
}

static void loss_sizes(coh_device *dev) {
  for (size_t v = 1; v <= MOST; v++) {
    check_mse(dev, pick(1, 4), v, pick(1, MOST));
    check_mse(dev, pick(1, 4), pick(1, MOST), v);
    check_cross_entropy(dev, pick(1, 4), v, pick(1, MOST), 10);
    check_cross_entropy(dev, pick(1, 4), pick(1, MOST), v, 10);
  }
  for (size_t v = 1; v <= 20; v++) check_own_targets(dev, pick(1, 5), v, 21 - v, v % 2);
  check_cross_entropy(dev, 2, 300, 10, 300);
  check_cross_entropy(dev, 2, 3, 1500, 5);
}

static void test_losses(void **state) {
  (void)state;
  on_every_device(loss_sizes);
}

/* NaN shows in the loss, infinite logits do not hide, bad labels are named. */
static void loss_faults(coh_device *dev) {
  coh_error err;
  double loss = 0, correct = 0, space[4], grad[4];
  int32_t label = 0;
  coh_loss_args entropy = loss_of(1, 1, 2, space, NULL, &label, 1, grad, &loss);
  coh_loss_args mse = loss_of(1, 1, 2, space, space, NULL, 1, grad, &loss);
  entropy.correct = &correct;
  coh_put(dev->dtype, space, 0, NAN);
  coh_put(dev->dtype, space, 1, 1);
  ok(dev->ops->loss(dev, &entropy, &err), &err);
  assert_true(isnan(loss) && correct == 0);
  loss = 0, label = 1, entropy.dout = NULL;
  ok(dev->ops->loss(dev, &entropy, &err), &err);
  assert_true(isnan(loss) && correct == 0);
  loss = 0;
  ok(dev->ops->loss(dev, &mse, &err), &err);
  assert_true(isnan(loss) && isnan(coh_get(dev->dtype, grad, 0)));
  coh_put(dev->dtype, space, 0, INFINITY);
  loss = 0, entropy.correct = NULL;
  ok(dev->ops->loss(dev, &entropy, &err), &err);
  assert_false(isfinite(loss));
  label = 2;
  assert_int_equal(dev->ops->loss(dev, &entropy, &err), COH_EDATA);
  assert_non_null(strstr(err.text, "label 2"));
  mse.labels = &label; /* which of the two? */
  assert_int_equal(dev->ops->loss(dev, &mse, &err), COH_EBUG);
  mse.labels = NULL, mse.y = NULL;
  assert_int_equal(dev->ops->loss(dev, &mse, &err), COH_EBUG);
}

static void test_loss_faults(void **state) {
  (void)state;
  on_every_device(loss_faults);
}

/* ---- optimisers ------------------------------------------------------------------ */

/* One parameter in double, by the formulas of device.h. */
static double plain_step(const coh_step_args *s, uint64_t step, size_t member, double w,
                         double g, double *m, double *v) {
  double t = (double)step, lr = s->lr[member];
  g += s->wd[member] * w;
  if (s->kind == COH_ADAM) {
    *m = s->beta1 * *m + (1 - s->beta1) * g;
    *v = s->beta2 * *v + (1 - s->beta2) * g * g;
    return w - lr * (*m / (1 - pow(s->beta1, t))) /
                   (sqrt(*v / (1 - pow(s->beta2, t))) + s->eps);
  }
  if (s->mu == 0) return w - lr * g;
  *m = step == 1 ? g : s->mu * *m + g;
  return w - lr * (s->nesterov ? g + s->mu * *m : *m);
}

enum { KINDS = 4 };
static coh_step_args step_kind(size_t kind) {
  return (coh_step_args){.kind = kind == 3 ? COH_ADAM : COH_SGD,
                         .nesterov = kind == 2,
                         .mu = kind == 0 || kind == 3 ? 0 : 0.9,
                         .beta1 = 0.9,
                         .beta2 = 0.999,
                         .eps = 1e-8};
}

/* Three steps of N members of P parameters; the reference follows in double. */
static void check_step(coh_device *dev, size_t kind, size_t N, size_t P) {
  coh_error err;
  coh_step_args s = step_kind(kind);
  double lr[8], wd[8];
  for (size_t i = 0; i < N; i++) lr[i] = uniform(1e-3, 0.1), wd[i] = uniform(0, 0.1);
  array w = array_random(dev->dtype, N * P, pick(0, 3), -1, 1);
  array g = array_random(dev->dtype, N * P, pick(0, 3), -1, 1);
  array m = array_random(dev->dtype, N * P, pick(0, 3), 0, 0);
  array v = array_random(dev->dtype, N * P, pick(0, 3), 0, 0);
  double *ref = calloc(3 * N * P, sizeof *ref);
  assert_non_null(ref);
  for (size_t i = 0; i < N * P; i++) ref[3 * i] = get(&w, i);
  s.N = N, s.P = P, s.lr = lr, s.wd = wd, s.w = w.data, s.g = g.data;
  s.m = kind == 0 ? NULL : m.data;
  s.v = kind == 3 ? v.data : NULL;
  for (uint64_t t = 1; t <= 3; t++) {
    const coh_pace pace = coh_pace_of(s.kind, s.beta1, s.beta2, t);
    s.pace = &pace;
    ok(dev->ops->step(dev, &s, &err), &err);
    for (size_t i = 0; i < N * P; i++) {
      double *r = ref + 3 * i;
      r[0] = plain_step(&s, t, i / P, r[0], get(&g, i), &r[1], &r[2]);
      assert_close(get(&w, i), r[0], 8 * epsilon(dev), "step");
    }
  }
  free(ref);
  array_free(&w), array_free(&g), array_free(&m), array_free(&v);
}

/* Moments that decay without a gradient vanish; they do not stay where arithmetic is
 * slow. */
static void step_vanishing(coh_device *dev) {
  coh_error err;
  double lr = 0.1, wd = 0, w[1], g[1], m[1], v[1];
  double tiny = dev->dtype == COH_F64 ? DBL_MIN : (double)FLT_MIN;
  coh_put(dev->dtype, w, 0, 0.5);
  coh_put(dev->dtype, g, 0, 0);
  coh_put(dev->dtype, m, 0, 1.05 * tiny);
  coh_put(dev->dtype, v, 0, 0.5 * tiny);
  coh_step_args s = step_kind(3);
  const coh_pace pace = coh_pace_of(COH_ADAM, s.beta1, s.beta2, 1000);
  s.pace = &pace, s.N = s.P = 1, s.lr = &lr, s.wd = &wd;
  s.w = w, s.g = g, s.m = m, s.v = v;
  ok(dev->ops->step(dev, &s, &err), &err);
  assert_true(coh_get(dev->dtype, m, 0) == 0);
  assert_true(coh_get(dev->dtype, v, 0) == 0);
  assert_true(coh_get(dev->dtype, w, 0) == 0.5);
  assert_true(tiny / 4 > 0); /* the caller's arithmetic is as it was */
}

static void test_step_of_vanishing_moments(void **state) {
  (void)state;
  on_every_device(step_vanishing);
}

static void step_sizes(coh_device *dev) {
  for (size_t kind = 0; kind < KINDS; kind++)
    for (size_t P = 1; P <= MOST; P++) check_step(dev, kind, pick(1, 4), P);
}

static void test_step(void **state) {
  (void)state;
  on_every_device(step_sizes);
}

/* The last of several members, at other addresses, moves by the same bits. */
static void step_alone(coh_device *dev) {
  enum { N = 3, P = 37 };
  for (size_t kind = 0; kind < KINDS; kind++) {
    coh_error err;
    coh_step_args s = step_kind(kind);
    double lr[N] = {0.1, 0.2, 0.03}, wd[N] = {0, 0.1, 0.2};
    array all[4], one[4];
    for (size_t i = 0; i < 4; i++) {
      all[i] = array_random(dev->dtype, N * P, 0, 0, 1);
      one[i] = array_make(dev->dtype, P, 1 + 2 * i);
      memcpy(one[i].data, row_at(&all[i], (N - 1) * P), one[i].bytes);
    }
    const coh_pace pace = coh_pace_of(s.kind, s.beta1, s.beta2, 2);
    s.pace = &pace;
    for (int alone = 0; alone < 2; alone++) {
      array *x = alone ? one : all;
      s.N = alone ? 1 : N, s.P = P, s.lr = lr + (alone ? N - 1 : 0);
      s.wd = wd + (alone ? N - 1 : 0);
      s.w = x[0].data, s.g = x[1].data, s.m = kind ? x[2].data : NULL;
      s.v = kind == 3 ? x[3].data : NULL;
      ok(dev->ops->step(dev, &s, &err), &err);
    }
    for (size_t i = 0; i < 4; i++) {
      assert_memory_equal(one[i].data, row_at(&all[i], (N - 1) * P), one[i].bytes);
      array_free(&all[i]), array_free(&one[i]);
    }
  }
}

static void test_step_alone(void **state) {
  (void)state;
  on_every_device(step_alone);
}

/* ---- memory ---------------------------------------------------------------------- */

static void memory_functions(coh_device *dev) {
  coh_error err;
  const coh_device_ops *ops = dev->ops;
  enum { ROWS = 9, BYTES = 7 };
  unsigned char host[ROWS * BYTES], back[ROWS * BYTES], *a, *b;
  for (size_t i = 0; i < sizeof host; i++) host[i] = (unsigned char)i;
  ok(ops->alloc(dev, sizeof host, (void **)&a, &err), &err);
  ok(ops->alloc(dev, sizeof host, (void **)&b, &err), &err);
  for (size_t i = 0; i < sizeof host; i++) assert_int_equal(a[i], 0);
  ok(ops->upload(dev, a, host, sizeof host, &err), &err);
  const uint32_t index[] = {8, 0, 0, 3};
  const coh_gather_args rows = {
      .S = 1, .R = 4, .row_bytes = BYTES, .src = a, .index = index, .dst = b};
  ok(ops->gather(dev, &rows, &err), &err);
  ok(ops->sync(dev, &err), &err);
  ok(ops->download(dev, back, b, 4 * BYTES, &err), &err);
  for (size_t r = 0; r < 4; r++)
    assert_memory_equal(back + r * BYTES, host + index[r] * BYTES, BYTES);
  const uint32_t keep[] = {0, 2, 3, 8}, wrong[] = {2, 2};
  ok(ops->compact(dev, 4, keep, BYTES, a, &err), &err);
  for (size_t r = 0; r < 4; r++)
    assert_memory_equal(a + r * BYTES, host + keep[r] * BYTES, BYTES);
  assert_int_equal(ops->compact(dev, 2, wrong, BYTES, a, &err), COH_EBUG);
  ok(ops->zero(dev, a, BYTES, &err), &err);
  for (size_t i = 0; i < BYTES; i++) assert_int_equal(a[i], 0);
  ops->free(dev, a);
  ops->free(dev, b);
}

static void test_memory(void **state) {
  (void)state;
  on_every_device(memory_functions);
}

/* Lists of which some are left out and one comes twice, from a place that lies in device
 * memory; and without a list, from the start. */
static void gather_lists(coh_device *dev) {
  coh_error err;
  enum { N = 11, LISTS = 4, STRIDE = 9, BYTES = 12, S = 3 };
  unsigned char src[N * BYTES], dst[LISTS * STRIDE * BYTES];
  uint32_t index[LISTS * STRIDE];
  const uint32_t list[S] = {3, 0, 3};
  for (size_t i = 0; i < sizeof src; i++) src[i] = (unsigned char)(3 * i);
  for (size_t i = 0; i < LISTS * STRIDE; i++) index[i] = (uint32_t)pick(0, N - 1);
  for (uint32_t R = 0; R <= STRIDE; R++)
    for (uint32_t at = 0; at + R <= STRIDE; at++) {
      coh_gather_args g = {
          .S = S, .R = R, .row_bytes = BYTES, .src = src, .index = index};
      g.stride = STRIDE, g.list = list, g.at = &at, g.dst = dst;
      ok(dev->ops->gather(dev, &g, &err), &err);
      for (size_t i = 0; i < S * R; i++) {
        size_t from = list[i / R] * STRIDE + at + i % R;
        assert_memory_equal(dst + i * BYTES, src + index[from] * BYTES, BYTES);
      }
      g.S = LISTS, g.list = NULL, g.at = NULL;
      ok(dev->ops->gather(dev, &g, &err), &err);
      for (size_t i = 0; i < LISTS * R; i++) {
        size_t from = i / R * STRIDE + i % R;
        assert_memory_equal(dst + i * BYTES, src + index[from] * BYTES, BYTES);
      }
    }
}

static void test_gather_of_lists(void **state) {
  (void)state;
  on_every_device(gather_lists);
}

static void advance_rows(coh_device *dev) {
  coh_error err;
  enum { ROWS = 5, WORDS = 3 };
  uint64_t table[ROWS][WORDS], now[WORDS];
  uint32_t cursor = 1;
  for (size_t i = 0; i < ROWS * WORDS; i++) table[i / WORDS][i % WORDS] = i * i + 1;
  for (size_t r = 1; r < ROWS; r++) {
    ok(dev->ops->advance(dev, sizeof now, table, &cursor, now, &err), &err);
    assert_memory_equal(now, table[r], sizeof now);
    assert_int_equal(cursor, r + 1);
  }
}

static void test_advance(void **state) {
  (void)state;
  on_every_device(advance_rows);
}

static void test_pace(void **state) {
  (void)state;
  for (uint64_t t = 1; t < 2000; t += 1 + t / 3) {
    coh_pace p = coh_pace_of(COH_ADAM, 0.9, 0.999, t),
             sgd = coh_pace_of(COH_SGD, 0, 0, t);
    double b1 = 1, b2 = 1;
    for (uint64_t i = 0; i < t; i++) b1 *= 0.9, b2 *= 0.999;
    assert_close(p.correction, 1 - b1, 1e-13, "pace");
    assert_close(p.inv_root * sqrt(1 - b2), 1, 1e-11, "pace");
    assert_true(sgd.correction == 1);
    assert_true(p.first == (t == 1) && sgd.first == (t == 1) && p.at == 0);
  }
}

/* ---- opening --------------------------------------------------------------------- */

static void test_open(void **state) {
  (void)state;
  coh_error err;
  coh_device *dev;
  ok(coh_device_open(COH_DEVICE_CPU, COH_F32, &dev, &err), &err);
  assert_string_equal(dev->ops->name, "cpu");
  assert_int_equal(dev->dtype, COH_F32);
  coh_device_close(dev);
  assert_int_equal(coh_device_open_cpu("sse9", COH_F32, &dev, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "sse9"));
  assert_non_null(strstr(err.text, "generic"));
  assert_null(dev);
  coh_device_close(NULL);
}

static void test_open_without_a_gpu(void **state) {
  (void)state;
  coh_error err;
  coh_device *dev;
  int rc = coh_device_open(COH_DEVICE_CUDA, COH_F32, &dev, &err);
  if (rc != COH_OK) {
    assert_int_equal(rc, COH_EUSAGE);
    assert_non_null(strstr(err.text, "cuda"));
    assert_null(dev);
  }
  coh_device_close(dev);
  ok(coh_device_open(COH_DEVICE_AUTO, COH_F32, &dev, &err), &err);
  coh_device_close(dev);
}

static void test_open_by_environment(void **state) {
  (void)state;
  coh_error err;
  coh_device *dev;
  setenv("COHORT_ISA", "generic", 1);
  ok(coh_device_open(COH_DEVICE_CPU, COH_F64, &dev, &err), &err);
  assert_string_equal(coh_device_text(dev), "cpu (generic)");
  coh_device_close(dev);
  setenv("COHORT_ISA", "vax", 1);
  assert_int_equal(coh_device_open(COH_DEVICE_CPU, COH_F64, &dev, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "$COHORT_ISA = vax"));
  unsetenv("COHORT_ISA");
}

static void test_names(void **state) {
  (void)state;
  assert_string_equal(coh_act_name(COH_RELU), "relu");
  assert_string_equal(coh_act_name(COH_G), "g");
  assert_string_equal(coh_act_name((coh_act)99), "?");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_open),
                                     cmocka_unit_test(test_open_by_environment),
                                     cmocka_unit_test(test_open_without_a_gpu),
                                     cmocka_unit_test(test_names),
                                     cmocka_unit_test(test_memory),
                                     cmocka_unit_test(test_gemm),
                                     cmocka_unit_test(test_gemm_edges),
                                     cmocka_unit_test(test_activation_accuracy),
                                     cmocka_unit_test(test_activation_limits),
                                     cmocka_unit_test(test_activation_positions),
                                     cmocka_unit_test(test_outer),
                                     cmocka_unit_test(test_bias),
                                     cmocka_unit_test(test_losses),
                                     cmocka_unit_test(test_loss_faults),
                                     cmocka_unit_test(test_step),
                                     cmocka_unit_test(test_step_of_vanishing_moments),
                                     cmocka_unit_test(test_step_alone),
                                     cmocka_unit_test(test_gather_of_lists),
                                     cmocka_unit_test(test_advance),
                                     cmocka_unit_test(test_pace)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
