/* test_compress.c - the maths of src/compress against numbers that were computed
 * elsewhere (section 13 of the compress contract), against differences, and against plain
 * searches. */
#include "cohort/compress.h"

#include <mpi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static coh_error err;
static coh_device *dev64;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

static void near(double a, double b, double tolerance, const char *what) {
  if (!(fabs(a - b) <= tolerance)) fail_msg("%s: %.12g, expected %.12g", what, a, b);
}

/* ---- the penalised step -------------------------------------------------------------
 */

enum { MOST = 67 };

/* Arrays of one member with P parameters. */
typedef struct problem {
  size_t P;
  coh_sparse_member one;
  double w[MOST], g[MOST], m[MOST], v[MOST], mask[MOST];
  double c[3][MOST], cm[3][MOST], cv[3][MOST], mean[4][MOST];
} problem;

static problem fresh(size_t P, coh_penalty penalty) {
  problem p = {.P = P, .one = {.penalty = penalty, .lr = 1e-3, .scale = 1, .mf = 1}};
  for (size_t i = 0; i < MOST; i++) p.mask[i] = 1;
  return p;
}

static void step(problem *p) {
  const coh_sparse_part part = {0, p->P, 1};
  coh_sparse_args a = {.N = 1,
                       .P = p->P,
                       .parts = 1,
                       .member = &p->one,
                       .part = &part,
                       .w = p->w,
                       .g = p->g,
                       .m = p->m,
                       .v = p->v,
                       .mask = p->mask};
  for (int i = 0; i < 3; i++) a.c[i] = p->c[i], a.cm[i] = p->cm[i], a.cv[i] = p->cv[i];
  for (int i = 0; i < 4; i++) a.mean[i] = p->mean[i];
  p->one.t++;
  OK(dev64->ops->sparse(dev64, &a, &err));
}

/* The gradient that a step took, out of the first moment before and after it. */
static double gradient(double after, double before) {
  return (after - 0.9 * before) / (1 - 0.9);
}

static void drr_gradient(void **state) {
  (void)state;
  problem p = fresh(1, COH_PENALTY_EXP);
  p.one.alpha = 1e-3;
  p.one.beta = 5;
  p.w[0] = -0.2;
  step(&p);
  near(gradient(p.m[0], 0), -0.0018393972, 5e-11, "gradient");
}

/* The table of section 13: gradients g[4], then p, w, q, u behind the step; NAN: not
 * given there. */
typedef struct pmmp_row {
  double g[4], p, w, q, u;
} pmmp_row;

static void pmmp_table(double p0, double u0, size_t n, const pmmp_row *rows) {
  problem p = fresh(1, COH_PENALTY_GATES);
  p.one.alpha = 1e-2;
  p.w[0] = p.c[0][0] = p0;
  p.c[1][0] = 1;
  p.c[2][0] = u0;
  p.g[0] = 0.1;
  for (size_t k = 0; k < n; k++) {
    double before[4] = {p.m[0], p.cm[0][0], p.cm[1][0], p.cm[2][0]};
    step(&p);
    double after[4] = {p.m[0], p.cm[0][0], p.cm[1][0], p.cm[2][0]};
    for (int i = 0; i < 4; i++)
      if (!isnan(rows[k].g[i]))
        near(gradient(after[i], before[i]), rows[k].g[i],
             1e-9 + 1e-8 * fabs(rows[k].g[i]), "gradient");
    if (!isnan(rows[k].p)) near(p.w[0], rows[k].p, 1e-9, "p");
    if (!isnan(rows[k].w)) near(p.c[0][0], rows[k].w, 1e-9, "w");
    if (!isnan(rows[k].q)) near(p.c[1][0], rows[k].q, 1e-9, "q");
    if (!isnan(rows[k].u)) near(p.c[2][0], rows[k].u, 6e-9, "u");
  }
}

static void pmmp_steps(void **state) {
  (void)state;
  const pmmp_row half[] = {
      {{0.1, 0, 0.01, 0}, 0.499, 0.5, 0.999000001, 0},
      {{0.1, 0, 0.01, -2.49999751e-4}, 0.498, 0.5, 0.998000002, 7.44094742e-4},
      {{0.0999985118, 2.97042592e-6, 0.0098154645, -4.99999504e-4},
       0.497000001,
       0.499364888,
       0.997000697,
       1.57264171e-3}};
  const pmmp_row small[] = {
      {{0.1, 0, 0.005, 0}, NAN, NAN, NAN, NAN},
      {{NAN, NAN, NAN, NAN}, NAN, NAN, NAN, NAN},
      {{NAN, NAN, NAN, NAN}, 0.0470030456, 0.0483977907, 0.996997028, 2.00157592}};
  pmmp_table(0.5, 0, 3, half);
  pmmp_table(0.05, 2, 3, small);
}

/* Value of the objective that a penalty's gradients are of, without the loss: for drr and
 * rl1 of w alone. */
static double objective(const problem *p, double w, double v, double q, double u) {
  const coh_sparse_member *s = &p->one;
  double sum = s->rho * w * w + s->l1 * fabs(w);
  switch (s->penalty) {
  case COH_PENALTY_L1:
    return sum + s->alpha * fabs(w);
  case COH_PENALTY_EXP:
    return sum + s->alpha * (1 - exp(-s->beta * fabs(w)));
  default:
    return sum + s->alpha * q +
           s->mf * u * ((w - v * q) * (w - v * q) + v * v * q * (1 - q));
  }
}

static double random_at(int k, size_t i) {
  return coh_random_uniform(4, COH_RNG_TEST, (uint64_t)k, i);
}

/* Every gradient of every penalty, the loss's own left out, against central differences;
 * with more elements than a vector has, so that all remainders are met. */
static void penalty_gradients(void **state) {
  (void)state;
  const double h = 1e-6;
  for (int kind = COH_PENALTY_L1; kind <= COH_PENALTY_GATES; kind++) {
    problem p = fresh(MOST, (coh_penalty)kind);
    p.one.alpha = 0.3, p.one.beta = 4, p.one.rho = 0.07, p.one.l1 = 0.05, p.one.mf = 1.7;
    for (size_t i = 0; i < MOST; i++) {
      p.w[i] = 2 * random_at(0, i) - 1;
      p.c[0][i] = 2 * random_at(1, i) - 1;
      p.c[1][i] = random_at(2, i);
      p.c[2][i] = 3 * random_at(3, i);
    }
    problem old = p;
    step(&p);
    for (size_t i = 0; i < MOST; i++) {
      double w = old.w[i], v = old.c[0][i], q = old.c[1][i], u = old.c[2][i];
      near(gradient(p.m[i], 0),
           (objective(&old, w + h, v, q, u) - objective(&old, w - h, v, q, u)) / (2 * h),
           1e-8, "by w");
      if (kind != COH_PENALTY_GATES) continue;
      near(gradient(p.cm[0][i], 0),
           (objective(&old, w, v + h, q, u) - objective(&old, w, v - h, q, u)) / (2 * h),
           1e-8, "by v");
      near(gradient(p.cm[1][i], 0),
           (objective(&old, w, v, q + h, u) - objective(&old, w, v, q - h, u)) / (2 * h),
           1e-8, "by q");
      near(gradient(p.cm[2][i], 0),
           -(objective(&old, w, v, q, u + h) - objective(&old, w, v, q, u - h)) / (2 * h),
           1e-8, "by u, turned");
    }
  }
}

/* Masked parameters stay at zero, gates between 0 and 1, the loss's gradient is scaled.
 */
static void mask_clamp_and_scale(void **state) {
  (void)state;
  problem p = fresh(5, COH_PENALTY_GATES);
  p.one.alpha = 100, p.one.scale = 3, p.one.lr = 0.4;
  for (size_t i = 0; i < 5; i++) {
    p.mask[i] = i % 2 ? 0 : 1;
    p.w[i] = p.mask[i] * 0.5;
    p.c[0][i] = 0.5, p.c[1][i] = i == 4 ? 0 : 0.2;
    p.g[i] = 0.25;
  }
  step(&p);
  for (size_t i = 0; i < 5; i++) {
    near(gradient(p.m[i], 0), i % 2 ? 0 : 0.75, 1e-12, "gradient of the loss");
    if (i % 2) near(p.w[i], 0, 0, "masked parameter");
    near(p.c[1][i], 0, 0, "gate"); /* 0.2 - 0.4 */
  }
}

/* fpp in double, the plain way. */
static void running_means(void **state) {
  (void)state;
  problem p = fresh(3, COH_PENALTY_MEANS);
  double w[3], v[3], q[3], u[3], mean[4][3], mo[4][3] = {{0}}, ve[4][3] = {{0}};
  p.one.alpha = 0.01;
  for (size_t i = 0; i < 3; i++) {
    w[i] = mean[0][i] = 0.1 * (double)(i + 1) - 0.25;
    v[i] = mean[1][i] = w[i] + 0.03;
    q[i] = mean[2][i] = 0.9;
    u[i] = mean[3][i] = 1.5;
    p.w[i] = w[i], p.c[0][i] = v[i], p.c[1][i] = q[i], p.c[2][i] = u[i];
    for (int k = 0; k < 4; k++) p.mean[k][i] = mean[k][i];
    p.g[i] = 0.02;
  }
  for (int t = 1; t <= 4; t++) {
    p.one.keep = t / (t + 1.0);
    step(&p);
    for (size_t i = 0; i < 3; i++) {
      double U = mean[3][i], r = w[i] - v[i] * q[i];
      double R = mean[0][i] - mean[1][i] * mean[2][i];
      double g[4] = {0.02 + 2 * U * r,
                     -2 * U * r * q[i] + 2 * U * v[i] * q[i] * (1 - q[i]),
                     -2 * U * r * v[i] + U * v[i] * v[i] * (1 - 2 * q[i]) + 0.01,
                     -R * R - mean[1][i] * mean[1][i] * mean[2][i] * (1 - mean[2][i])};
      double *x[4] = {&w[i], &v[i], &q[i], &u[i]};
      for (int k = 0; k < 4; k++) {
        mo[k][i] = 0.9 * mo[k][i] + 0.1 * g[k];
        ve[k][i] = 0.999 * ve[k][i] + 0.001 * g[k] * g[k];
        *x[k] -= 1e-3 * (mo[k][i] / (1 - pow(0.9, t))) /
                 (sqrt(ve[k][i] / (1 - pow(0.999, t))) + 1e-8);
      }
      q[i] = fmin(fmax(q[i], 0), 1);
      for (int k = 0; k < 4; k++) mean[k][i] += (*x[k] - mean[k][i]) / (t + 1.0);
      near(p.w[i], w[i], 1e-12, "w");
      near(p.c[2][i], u[i], 1e-12, "u");
      for (int k = 0; k < 4; k++) near(p.mean[k][i], mean[k][i], 1e-12, "mean");
    }
  }
}

static void step_without_arrays(void **state) {
  (void)state;
  problem p = fresh(1, COH_PENALTY_GATES);
  const coh_sparse_part part = {0, 1, 1};
  p.one.t = 1;
  coh_sparse_args a = {.N = 1,
                       .P = 1,
                       .parts = 1,
                       .member = &p.one,
                       .part = &part,
                       .w = p.w,
                       .g = p.g,
                       .m = p.m,
                       .v = p.v,
                       .mask = p.mask};
  assert_int_equal(dev64->ops->sparse(dev64, &a, &err), COH_EBUG);
}

/* ---- code lengths -------------------------------------------------------------------
 */

static void gauss_loss(void **state) {
  (void)state;
  near(coh_gauss_bits(0.01, 0.1), -2.6005805744, 5e-11, "bits");
  near(coh_gauss_slope(0.01, 0.1), 0, 1e-13, "slope");
  near(coh_gauss_bits(0.02, 0.1), -1.8792330540, 5e-11, "bits");
  near(coh_gauss_slope(0.02, 0.1), -14.4269504, 5e-8, "slope");
}

static void mask_bits(void **state) {
  (void)state;
  near(coh_mask_bits(5, 2), log2(10), 1e-12, "5 over 2");
  near(coh_mask_bits(751, 72), log2(751) + coh_mask_bits(750, 71) - log2(72), 1e-9,
       "recursion");
  near(coh_mask_bits(9, 0), 0, 0, "none");
  near(coh_mask_bits(9, 9), 0, 0, "all");
}

static void layer_shares(void **state) {
  (void)state;
  coh_plan plan;
  size_t members;
  const double expected[] = {0.3774, 2.9525, 87.9901};
  OK(coh_plan_parse("mnist_lenet_300_100", COH_RELU, 10, &plan, &members, &err));
  assert_int_equal(plan.P, 266610);
  for (size_t l = 0; l < 3; l++)
    near(coh_layer_share(&plan, l), expected[l], 5e-5, "share");
}

/* ---- thresholds ---------------------------------------------------------------------
 */

static const double golden_w[] = {0.03, -0.2, 0.5, -0.9, 0.011};
enum { GOLDEN = sizeof golden_w / sizeof *golden_w };

typedef struct probes {
  const double (*w)[MOST];
  size_t n;
  double bowl; /* 0: the loss rises with every parameter; else it falls first */
} probes;

static double loss_at(const probes *p, size_t k, double t) {
  double sum = 1;
  for (size_t i = 0; i < p->n; i++) {
    double w = fabs(p->w[k][i]);
    if (w < t) sum += w * w - p->bowl * w;
  }
  return sum;
}

static int losses(void *ctx, size_t n, const size_t *index, const double *threshold,
                  double *loss, coh_error *e) {
  (void)e;
  for (size_t k = 0; k < n; k++) loss[k] = loss_at(ctx, index[k], threshold[k]);
  return COH_OK;
}

static void tamade_golden(void **state) {
  (void)state;
  double w[1][MOST];
  memcpy(w[0], golden_w, sizeof golden_w);
  const probes p = {(const double(*)[MOST])w, GOLDEN, 0};
  coh_tamade_search s = {.largest = 0.9, .tolerance = 0.01, .resolution = 0.05};
  OK(coh_tamade(1, &s, COH_F64, losses, (void *)&p, &err));
  near(s.threshold, 0.196875, 1e-15, "threshold");
  assert_int_equal(s.steps, 6);
  s = (coh_tamade_search){.largest = 0.9, .tolerance = 0.05, .resolution = 1e-7};
  OK(coh_tamade(1, &s, COH_F64, losses, (void *)&p, &err));
  near(s.threshold, 0.49999997, 1e-8, "threshold");
  assert_int_equal(s.steps, 25);
}

/* Losses that rise with the threshold: the search finds the parameters that a scan over
 * all of them finds. Many at once, of float32 and float64, find what each finds alone. */
static void tamade_against_a_scan(void **state) {
  (void)state;
  enum { N = 23 };
  static double w[N][MOST];
  coh_tamade_search all[N], one;
  for (size_t k = 0; k < N; k++)
    for (size_t i = 0; i < MOST; i++)
      w[k][i] = (double)(float)coh_random_normal(8, COH_RNG_TEST, k, i);
  for (int dtype = COH_F32; dtype <= COH_F64; dtype++) {
    probes p = {(const double(*)[MOST])w, MOST, 0};
    for (size_t k = 0; k < N; k++) {
      double most = 0;
      for (size_t i = 0; i < MOST; i++) most = fmax(most, fabs(w[k][i]));
      all[k] = (coh_tamade_search){
          .largest = most, .tolerance = 0.03 * (double)(k + 1), .resolution = 1e-7};
    }
    OK(coh_tamade(N, all, (coh_dtype)dtype, losses, &p, &err));
    for (size_t k = 0; k < N; k++) {
      probes alone = {(const double(*)[MOST])(w + k), MOST, 0};
      one = all[k];
      OK(coh_tamade(1, &one, (coh_dtype)dtype, losses, &alone, &err));
      assert_memory_equal(&one, all + k, sizeof one);
      size_t scan = 0, found = 0;
      for (size_t i = 0; i < MOST; i++) {
        double t = nextafter(fabs(w[k][i]), INFINITY); /* this one goes, too */
        scan += loss_at(&p, k, t) <= 1 + all[k].tolerance;
        found += fabs(w[k][i]) < all[k].threshold;
      }
      assert_int_equal(found, scan);
      assert_true(scan > 0 && scan < MOST);
    }
  }
}

/* A loss that never rises: all go. NaN, and a loss that only rises: none. */
static int always(void *ctx, size_t n, const size_t *index, const double *threshold,
                  double *loss, coh_error *e) {
  (void)index, (void)e;
  for (size_t k = 0; k < n; k++) loss[k] = threshold[k] == 0 ? 1 : *(const double *)ctx;
  return COH_OK;
}

static void tamade_ends(void **state) {
  (void)state;
  const double falls = 0.5, nan_loss = NAN, rises = 2;
  for (int dtype = COH_F32; dtype <= COH_F64; dtype++) {
    coh_tamade_search s = {.largest = 3, .tolerance = 0.01, .resolution = 1e-7};
    OK(coh_tamade(1, &s, (coh_dtype)dtype, always, (void *)&falls, &err));
    assert_true(s.threshold > 3);
    OK(coh_tamade(1, &s, (coh_dtype)dtype, always, (void *)&nan_loss, &err));
    near(s.threshold, 0, 0, "threshold");
    OK(coh_tamade(1, &s, (coh_dtype)dtype, always, (void *)&rises, &err));
    near(s.threshold, 0, 0, "threshold");
  }
}

/* ---- saturation ---------------------------------------------------------------------
 */

static void saturation_golden(void **state) {
  (void)state;
  const double a[] = {9, 9, 1.0, .8, .9, .5, .6, .62, .55, .58, .6, .57};
  const double b[] = {9, 9, .61, .58, .60, .59, .60, .62, .55, .58, .6, .57};
  const double older[] = {.96586431, .87465441, .75501247, .64610518, .54310719};
  const double newer[] = {.60862144, .58507495, .58050873, .58148687, .57568928};
  double smooth[5];
  assert_int_equal(coh_saturation_window(10), 10);
  coh_smooth(5, a + 2, smooth);
  for (int i = 0; i < 5; i++) near(smooth[i], older[i], 5e-9, "older half");
  coh_smooth(5, a + 7, smooth);
  for (int i = 0; i < 5; i++) near(smooth[i], newer[i], 5e-9, "newer half");
  assert_false(coh_saturated(a + 2, 12, 10, 1e-10));
  assert_true(coh_saturated(a + 2, 12, 10, 0.16));
  assert_false(coh_saturated(b + 2, 12, 10, 1e-10));
  assert_true(coh_saturated(b + 2, 12, 10, 1e-2));
  assert_false(coh_saturated(b + 2, 11, 10, 1)); /* too short a log */
}

static void saturation_of_lines(void **state) {
  (void)state;
  double ramp[10], flat[10], rising[10], smooth[5];
  for (int i = 0; i < 10; i++) ramp[i] = 18 - i, flat[i] = 3, rising[i] = i;
  coh_smooth(5, ramp, smooth);
  for (int i = 0; i < 5; i++) near(smooth[i], ramp[i], 1e-12, "a line is smooth");
  assert_false(coh_saturated(ramp, 12, 10, 1e-10));
  assert_false(coh_saturated(ramp, 12, 10, 4.99));
  assert_true(coh_saturated(ramp, 12, 10, 5.01));
  assert_true(coh_saturated(flat, 12, 10, 1e-10));
  assert_true(coh_saturated(rising, 12, 10, 1e-10));
}

/* ---- neurons ------------------------------------------------------------------------
 */

static void delete_golden(void **state) {
  (void)state;
  coh_plan plan, narrow;
  const size_t sizes[] = {2, 2, 1};
  /* W [in, out]: column = neuron */
  double p[] = {0, 1, 0, 2, 0.5, -0.1, 3, 4, 1}, mask[] = {0, 1, 0, 1, 1, 1, 1, 1, 1};
  double *out;
  OK(coh_plan_dense(2, sizes, COH_TANH, NULL, &plan, &err));
  assert_int_equal(coh_delete_neurons(&plan, p, mask, NULL, NULL), 1);
  assert_int_equal(coh_delete_neurons(&plan, p, mask, NULL, NULL), 0);
  OK(coh_narrow(&plan, p, mask, &narrow, &out, &err));
  assert_int_equal(narrow.layer[0].out, 1);
  const double expected[] = {1, 2, -0.1, 4, 2.3863515};
  assert_int_equal(narrow.P, 5);
  for (int i = 0; i < 5; i++) near(out[i], expected[i], 5e-8, "parameter");
  free(out);
}

/* Three layers, some neurons without inputs, some biases masked: the function stays, also
 * that of the narrower network; PMMP's companions are folded alike. */
static void delete_keeps_the_function(void **state) {
  (void)state;
  enum { ROWS = 40 };
  coh_plan plan, narrow;
  const size_t sizes[] = {3, 6, 5, 2};
  double *p, *mask, *gate, *twin, *out, x[ROWS][3], y[ROWS][2], z[ROWS][2], n[ROWS][2];
  for (int act = COH_RELU; act <= COH_G; act++) {
    OK(coh_plan_dense(3, sizes, (coh_act)act, NULL, &plan, &err));
    OK(coh_alloc(&p, 4 * plan.P, sizeof *p, &err));
    mask = p + plan.P, gate = mask + plan.P, twin = gate + plan.P;
    for (size_t i = 0; i < plan.P; i++) {
      mask[i] = 1;
      gate[i] = random_at(20, i), twin[i] = random_at(21, i) - 0.5;
      p[i] = coh_random_normal(5, COH_RNG_TEST, 77, i);
    }
    for (size_t i = 0; i < 3; i++)
      for (size_t k = 0; k < 6; k += 2)
        p[plan.layer[0].w + i * 6 + k] = mask[plan.layer[0].w + i * 6 + k] = 0;
    for (size_t i = 0; i < 6; i++)
      p[plan.layer[1].w + i * 5 + 3] = mask[plan.layer[1].w + i * 5 + 3] = 0;
    p[plan.layer[0].b + 2] = mask[plan.layer[0].b + 2] = 0;
    p[plan.layer[1].b + 1] = mask[plan.layer[1].b + 1] = 0; /* gets a constant */
    for (size_t i = 0; i < ROWS; i++)
      for (size_t k = 0; k < 3; k++) x[i][k] = 2 * random_at(30 + (int)k, i) - 1;
    OK(coh_network_apply(&plan, dev64, p, 2, ROWS, x, y, &err));
    assert_int_equal(coh_delete_neurons(&plan, p, mask, gate, twin), 4);
    OK(coh_network_apply(&plan, dev64, p, 2, ROWS, x, z, &err));
    OK(coh_narrow(&plan, p, mask, &narrow, &out, &err));
    assert_int_equal(narrow.layer[0].out, 3);
    assert_int_equal(narrow.layer[1].out, 4);
    OK(coh_network_apply(&narrow, dev64, out, 2, ROWS, x, n, &err));
    for (size_t i = 0; i < ROWS; i++)
      for (size_t o = 0; o < 2; o++) {
        near(z[i][o], y[i][o], 1e-12, "answer");
        near(n[i][o], y[i][o], 1e-12, "answer of the narrower network");
      }
    for (size_t i = 0; i < plan.P; i++)
      if (mask[i] == 0) near(p[i], 0, 0, "masked parameter");
    free(out);
    free(p);
  }
}

static void nothing_left(void **state) {
  (void)state;
  coh_plan plan, narrow;
  const size_t sizes[] = {2, 2, 1};
  double p[9] = {0}, mask[9] = {0}, *out;
  OK(coh_plan_dense(2, sizes, COH_TANH, NULL, &plan, &err));
  assert_int_equal(coh_narrow(&plan, p, mask, &narrow, &out, &err), COH_EDATA);
  assert_null(out);
}

/* ---- regression of a layer ----------------------------------------------------------
 */

/* Outputs that need two of five inputs and no bias: these gates stay open, the others
 * close, and weights of parameters that were zero stay zero. */
static void layer_regression(void **state) {
  (void)state;
  enum { ROWS = 120, IN = 5, OUT = 2 };
  double x[ROWS][IN], y[ROWS][OUT], w[IN][OUT], b[OUT] = {0.01, -0.02};
  double gate_w[IN][OUT], gate_b[OUT];
  uint64_t epochs;
  for (size_t i = 0; i < IN; i++)
    for (size_t o = 0; o < OUT; o++) w[i][o] = i < 2 ? 1 + (double)(i + o) : 0.005;
  w[4][1] = 0;
  for (size_t s = 0; s < ROWS; s++)
    for (size_t o = 0; o < OUT; o++) {
      y[s][o] = b[o];
      for (size_t i = 0; i < IN; i++) {
        x[s][i] = coh_random_normal(3, COH_RNG_TEST, s, i);
        y[s][o] += x[s][i] * w[i][o];
      }
    }
  const coh_layer_fit fit = {.alpha = 0.5,
                             .lr = 0.01,
                             .start = 0.3,
                             .batch = 50,
                             .epochs = 4000,
                             .smoothing_window = 30};
  OK(coh_fit_layer(dev64, ROWS, IN, OUT, x[0], y[0], &fit, w[0], b, gate_w[0], gate_b,
                   &epochs, &err));
  assert_true(epochs % 100 == 0 && epochs < 4000);
  for (size_t o = 0; o < OUT; o++) {
    near(gate_b[o], 0, 0, "gate of a bias");
    near(b[o], 0, 0, "bias");
    for (size_t i = 0; i < IN; i++) {
      near(gate_w[i][o], i < 2, 0, "gate");
      if (i < 2)
        near(w[i][o], 1 + (double)(i + o), 0.05, "weight");
      else
        near(w[i][o], 0, 0, "weight of a closed gate");
    }
  }
}

/* ---- data ---------------------------------------------------------------------------
 */

static coh_config drawn(void) {
  coh_config cfg;
  coh_config_defaults(&cfg, COH_JOB_COMPRESS);
  snprintf(cfg.dataset.name, sizeof cfg.dataset.name, "teacher_student");
  return cfg;
}

static void teacher_student_data(void **state) {
  (void)state;
  coh_config cfg = drawn();
  coh_compress_data d, same;
  coh_plan plan;
  double *teacher, noise = 0, least = 9, most = -9;
  OK(coh_teacher_student(&cfg, COH_F64, &d, &plan, &teacher, &err));
  assert_int_equal(plan.P, 72);
  assert_int_equal(d.train.n, 300);
  assert_int_equal(d.val.n, 1000);
  assert_int_equal(d.test.n, 5000);
  double *x = d.test.x, *y = d.test.y, *z;
  OK(coh_alloc(&z, 5000, sizeof *z, &err));
  OK(coh_network_apply(&plan, dev64, teacher, 2, 5000, x, z, &err));
  for (size_t i = 0; i < 5000; i++) noise += (y[i] - z[i]) * (y[i] - z[i]);
  near(sqrt(noise / 5000), 0.08, 0.003, "noise");
  for (size_t i = 0; i < 10000; i++) least = fmin(least, x[i]), most = fmax(most, x[i]);
  assert_true(least >= -1 && least < -0.99 && most < 1 && most > 0.99);
  for (size_t i = 0; i < 10; i++) {
    double w = teacher[plan.layer[0].w + i];
    assert_true(w >= -3.09 && w <= 5.09);
  }
  /* the test set is not that of validation, but for test_seed = 2 */
  assert_memory_not_equal(d.val.x, d.test.x, 64);
  cfg.compress.test_seed = 2;
  OK(coh_teacher_student(&cfg, COH_F64, &same, &plan, NULL, &err));
  assert_memory_equal(same.val.x, same.test.x, 64);
  assert_memory_equal(same.train.y, d.train.y, 64);
  coh_compress_data_free(&d);
  coh_compress_data_free(&same);
  free(teacher);
  free(z);
}

static void wrong_teacher_and_split(void **state) {
  (void)state;
  coh_config cfg = drawn();
  coh_compress_data d = {0};
  coh_dataset all = {.dtype = COH_F64, .n = 10, .d_in = 1, .n_out = 1};
  coh_plan plan;
  snprintf(cfg.compress.architecture_teacher, 64, "2_5_8_1");
  assert_int_equal(coh_teacher_student(&cfg, COH_F64, &d, &plan, NULL, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "compress.architecture_teacher"));
  cfg.compress.train_set_size = 8;
  cfg.compress.val_set_size = 3;
  assert_int_equal(coh_compress_split(&cfg, &all, &d, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "has 10 samples"));
}

/* Bounds of the initial weights, section 9.1. */
static void initialisation(void **state) {
  (void)state;
  coh_plan plan;
  size_t members;
  double *p, most[3] = {0}, bias = 0;
  OK(coh_plan_parse("mnist_lenet_300_100", COH_RELU, 10, &plan, &members, &err));
  OK(coh_alloc(&p, plan.P, sizeof *p, &err));
  OK(coh_plan_init(&plan, 1, 0, COH_GAIN_UNIFORM, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 1,
                   COH_F64, p, &err));
  for (size_t l = 0; l < 3; l++)
    for (size_t i = plan.layer[l].w; i < plan.layer[l].b; i++)
      most[l] = fmax(most[l], fabs(p[i]));
  for (size_t i = 0; i < 300; i++) bias = fmax(bias, fabs(p[plan.layer[0].b + i]));
  near(most[0], 0.1237, 1e-4, "784 -> 300 relu");
  near(most[1], 2 * sqrt(3.0 / 300), 1e-4, "300 -> 100 relu");
  near(most[2], sqrt(3.0 / 100), 1e-3, "100 -> 10 linear");
  near(bias, 1 / sqrt(784.0), 1e-3, "bias");
  free(p);
}

static int open_device(void **state) {
  (void)state;
  return coh_device_open_cpu(NULL, COH_F64, &dev64, &err);
}

static int close_device(void **state) {
  (void)state;
  coh_device_close(dev64);
  return 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(drr_gradient),
      cmocka_unit_test(pmmp_steps),
      cmocka_unit_test(penalty_gradients),
      cmocka_unit_test(mask_clamp_and_scale),
      cmocka_unit_test(running_means),
      cmocka_unit_test(step_without_arrays),
      cmocka_unit_test(gauss_loss),
      cmocka_unit_test(mask_bits),
      cmocka_unit_test(layer_shares),
      cmocka_unit_test(tamade_golden),
      cmocka_unit_test(tamade_against_a_scan),
      cmocka_unit_test(tamade_ends),
      cmocka_unit_test(saturation_golden),
      cmocka_unit_test(saturation_of_lines),
      cmocka_unit_test(delete_golden),
      cmocka_unit_test(delete_keeps_the_function),
      cmocka_unit_test(nothing_left),
      cmocka_unit_test(layer_regression),
      cmocka_unit_test(teacher_student_data),
      cmocka_unit_test(wrong_teacher_and_split),
      cmocka_unit_test(initialisation),
  };
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, open_device, close_device);
  MPI_Finalize();
  return failed;
}
