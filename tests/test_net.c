/* test_net.c - the room src/net: plans, initialisation, forward and backward against
 * central differences and plain loops, and that an ensemble of N gives bit for bit what N
 * separate ensembles of one give.
 */
#include "cohort/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <float.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void ok(int rc, const coh_error *err) {
  if (rc) fail_msg("%s", err->text);
}

/* Counts what the library allocates: it goes through aligned_alloc alone. */
static size_t allocations;
void *aligned_alloc(size_t alignment, size_t size) {
  allocations++;
  return memalign(alignment, size);
}

static uint64_t drawn;
static double uniform(double a, double b) {
  return a + (b - a) * coh_random_uniform(11, COH_RNG_TEST, 2, drawn++);
}
static size_t pick(size_t from, size_t to) {
  return from + (size_t)(uniform(0, 1) * (double)(to - from + 1));
}

static void *random_numbers(coh_dtype t, size_t n, double range) {
  coh_error err;
  void *a;
  ok(coh_alloc(&a, n, coh_dtype_size(t), &err), &err);
  for (size_t i = 0; i < n; i++) coh_put(t, a, i, uniform(-range, range));
  return a;
}

static void assert_close(double got, double want, double tolerance, const char *what) {
  if (!(fabs(got - want) <= tolerance))
    fail_msg("%s: got %.17g, want %.17g, tolerance %g", what, got, want, tolerance);
}

/* ---- one training set-up: ensemble, workspace, inputs ---------------------------- */

typedef struct rig {
  coh_device *dev;
  coh_ensemble *e;
  coh_workspace *w;
  coh_plan plan;
  size_t N, B;
} rig;

static rig rig_make(const coh_plan *plan, coh_dtype t, size_t N, size_t B) {
  coh_error err;
  rig r = {.plan = *plan, .N = N, .B = B};
  ok(coh_device_open(COH_DEVICE_CPU, t, &r.dev, &err), &err);
  ok(coh_ensemble_create(plan, r.dev, N, &r.e, &err), &err);
  ok(coh_workspace_create(plan, r.dev, N, B, true, &r.w, &err), &err);
  return r;
}

static void rig_free(rig *r) {
  coh_workspace_destroy(r->w);
  coh_ensemble_destroy(r->e);
  coh_device_close(r->dev);
}

/* Sum over the batch of each member's mean square error against y [B, n_out], times 1 /
 * B; with `grads` the backward pass, too. */
static void mse_pass(rig *r, const void *x, size_t stride_x, const void *y, bool grads,
                     double *loss) {
  coh_error err;
  void *out, *dout = grads ? coh_workspace_dout(r->w) : NULL;
  const coh_device_ops *ops = r->dev->ops;
  size_t N = r->e->N;
  memset(loss, 0, N * sizeof *loss);
  ok(coh_forward(r->e, r->w, r->B, x, stride_x, grads, &out, &err), &err);
  const coh_loss_args a = {.N = N,
                           .B = r->B,
                           .O = r->plan.n_out,
                           .out = out,
                           .y = y,
                           .scale = 1.0 / (double)r->B,
                           .dout = dout,
                           .loss = loss};
  ok(ops->loss(r->dev, &a, &err), &err);
  for (size_t n = 0; n < N; n++) loss[n] /= (double)r->B;
  if (grads) ok(coh_backward(r->e, r->w, r->B, x, stride_x, dout, &err), &err);
}

/* ---- gradients against central differences --------------------------------------- */

static void check_gradients(size_t L, const size_t *sizes, coh_act act, const bool *skip,
                            bool shared) {
  enum { N = 2, B = 9 };
  coh_error err;
  coh_plan plan;
  ok(coh_plan_dense(L, sizes, act, skip, &plan, &err), &err);
  rig r = rig_make(&plan, COH_F64, N, B);
  double *p = random_numbers(COH_F64, N * plan.P, 0.8);
  double *x = random_numbers(COH_F64, N * B * plan.d_in, 1);
  double *y = random_numbers(COH_F64, B * plan.n_out, 1), loss[N], up[N], down[N];
  double *grads = random_numbers(COH_F64, N * plan.P, 0), *params = r.e->params;
  size_t stride = shared ? 0 : B * plan.d_in;
  const double h = 1e-5;
  ok(coh_ensemble_set(r.e, p, &err), &err);
  mse_pass(&r, x, stride, y, true, loss);
  memcpy(grads, r.e->grads, N * plan.P * sizeof *grads);
  for (size_t i = 0; i < plan.P; i++) {
    for (size_t n = 0; n < N; n++) params[n * plan.P + i] = p[n * plan.P + i] + h;
    mse_pass(&r, x, stride, y, false, up);
    for (size_t n = 0; n < N; n++) params[n * plan.P + i] = p[n * plan.P + i] - h;
    mse_pass(&r, x, stride, y, false, down);
    for (size_t n = 0; n < N; n++) {
      double g = grads[n * plan.P + i];
      params[n * plan.P + i] = p[n * plan.P + i];
      assert_close(g, (up[n] - down[n]) / (2 * h), 1e-8 * (1 + fabs(g)),
                   coh_act_name(act));
    }
  }
  free(p), free(x), free(y), free(grads);
  rig_free(&r);
}

static void test_gradients(void **state) {
  (void)state;
  const size_t sizes[] = {5, 7, 6, 4, 3};
  const bool skips[][4] = {{false, false, false, false},
                           {false, true, false, false},
                           {false, false, true, true},
                           {false, true, true, true}};
  for (coh_act act = COH_RELU; act <= COH_G; act++) {
    for (size_t L = 1; L <= 4; L++) check_gradients(L, sizes + 4 - L, act, NULL, L % 2);
    for (size_t s = 0; s < 4; s++) check_gradients(4, sizes, act, skips[s], s % 2);
    check_gradients(2, sizes, act, skips[1], true);
  }
}

/* out [to] += in [from] M, M [from, to]. */
static void add_product(size_t from, size_t to, const double *in, const double *m,
                        double *out) {
  for (size_t i = 0; i < from; i++)
    for (size_t j = 0; j < to; j++) out[j] += in[i] * m[i * to + j];
}

/* The blocks of a skip lie in the order of net.h: the nearest layer first, the input
 * last. */
static void test_order_of_skip_blocks(void **state) {
  (void)state;
  const size_t sizes[] = {3, 4, 2, 5};
  const bool skip[] = {false, true, true};
  coh_error err;
  coh_plan plan;
  ok(coh_plan_dense(3, sizes, COH_TANH, skip, &plan, &err), &err);
  rig r = rig_make(&plan, COH_F64, 1, 1);
  double *p = random_numbers(COH_F64, plan.P, 1), *x = random_numbers(COH_F64, 3, 1);
  double a0[4] = {0}, a1[2] = {0}, a2[5] = {0};
  const coh_layer *l = plan.layer;
  void *out;
  add_product(3, 4, x, p + l[0].w, a0);
  for (size_t i = 0; i < 4; i++) a0[i] = tanh(a0[i] + p[l[0].b + i]);
  add_product(4, 2, a0, p + l[1].w, a1);
  add_product(3, 2, x, p + l[1].s, a1);
  for (size_t i = 0; i < 2; i++) a1[i] = tanh(a1[i] + p[l[1].b + i]);
  add_product(2, 5, a1, p + l[2].w, a2);
  add_product(4, 5, a0, p + l[2].s, a2);
  add_product(3, 5, x, p + l[2].s + 4 * 5, a2);
  ok(coh_ensemble_set(r.e, p, &err), &err);
  ok(coh_forward(r.e, r.w, 1, x, 0, false, &out, &err), &err);
  for (size_t i = 0; i < 5; i++)
    assert_close(((double *)out)[i], a2[i] + p[l[2].b + i], 1e-14, "skip");
  free(p), free(x);
  rig_free(&r);
}

/* ---- a plain network in double --------------------------------------------------- */

/* One hidden layer: loss (mean over B), gradient g [P] of one member. */
static double plain_network(const coh_plan *p, const rig *r, const void *params,
                            const void *x, const void *y, double *g) {
  const coh_layer *h = &p->layer[0], *o = &p->layer[1];
  coh_dtype t = r->dev->dtype;
  size_t I = h->in, H = h->out, O = o->out, B = r->B;
  double *z = calloc(2 * H, sizeof *z), *da = z + H, loss = 0;
  assert_non_null(z);
  memset(g, 0, p->P * sizeof *g);
  for (size_t b = 0; b < B; b++) {
    for (size_t j = 0; j < H; j++) {
      z[j] = coh_get(t, params, h->b + j), da[j] = 0;
      for (size_t i = 0; i < I; i++)
        z[j] += coh_get(t, x, b * I + i) * coh_get(t, params, h->w + i * H + j);
    }
    for (size_t k = 0; k < O; k++) {
      double out = coh_get(t, params, o->b + k) - coh_get(t, y, b * O + k);
      for (size_t j = 0; j < H; j++)
        out += coh_act_value(h->act, z[j]) * coh_get(t, params, o->w + j * O + k);
      loss += out * out / (double)(O * B);
      double d = 2 * out / (double)(O * B);
      g[o->b + k] += d;
      for (size_t j = 0; j < H; j++) {
        g[o->w + j * O + k] += d * coh_act_value(h->act, z[j]);
        da[j] += d * coh_get(t, params, o->w + j * O + k);
      }
    }
    for (size_t j = 0; j < H; j++) {
      double d = da[j] * coh_act_slope(h->act, z[j]);
      g[h->b + j] += d;
      for (size_t i = 0; i < I; i++) g[h->w + i * H + j] += d * coh_get(t, x, b * I + i);
    }
  }
  free(z);
  return loss;
}

static void check_network(coh_dtype t, size_t B, size_t H, size_t O) {
  enum { N = 2 };
  coh_error err;
  coh_plan plan;
  const size_t sizes[] = {pick(1, 40), H, O};
  coh_act act = (coh_act)pick(COH_SOFTPLUS, COH_G); /* smooth: no kinks to straddle */
  ok(coh_plan_dense(2, sizes, act, NULL, &plan, &err), &err);
  rig r = rig_make(&plan, t, N, B);
  void *p = random_numbers(t, N * plan.P, 0.5), *x = random_numbers(t, B * plan.d_in, 1);
  void *y = random_numbers(t, B * O, 1);
  double loss[N], *g = calloc(plan.P, sizeof *g), eps = t == COH_F64 ? 1e-14 : 4e-6;
  assert_non_null(g);
  ok(coh_ensemble_set(r.e, p, &err), &err);
  mse_pass(&r, x, 0, y, true, loss);
  for (size_t n = 0; n < N; n++) {
    const void *mine = (char *)p + n * plan.P * coh_dtype_size(t);
    double want = plain_network(&plan, &r, mine, x, y, g);
    assert_close(loss[n], want, eps * (1 + want), "loss");
    for (size_t i = 0; i < plan.P; i++)
      assert_close(coh_get(t, r.e->grads, n * plan.P + i), g[i], eps * (2 + want),
                   "gradient");
  }
  free(p), free(x), free(y), free(g);
  rig_free(&r);
}

static void test_every_batch_and_width(void **state) {
  (void)state;
  for (coh_dtype t = COH_F32; t <= COH_F64; t++)
    for (size_t v = 1; v <= 67; v++) {
      check_network(t, v, pick(1, 67), pick(1, 12));
      check_network(t, pick(1, 67), v, pick(1, 12));
      check_network(t, pick(1, 30), pick(1, 30), v);
    }
}

/* ---- small networks in one go against the three steps ---------------------------- */

typedef struct batch {
  void *x, *y;
  int32_t *labels;
} batch;

/* Gradients and loss of both ways. The plain one on `e`, whose device is the same. */
static void three_steps(coh_ensemble *e, size_t B, const batch *b, const coh_target *t) {
  coh_error err;
  coh_workspace *w;
  void *out, *dout;
  ok(coh_workspace_create(&e->plan, e->dev, e->N, B, true, &w, &err), &err);
  dout = coh_workspace_dout(w);
  ok(coh_forward(e, w, B, b->x, 0, true, &out, &err), &err);
  const coh_loss_args a = {.N = e->N,
                           .B = B,
                           .O = e->plan.n_out,
                           .out = out,
                           .y = t->y,
                           .labels = t->labels,
                           .scale = t->scale,
                           .dout = dout,
                           .loss = t->loss};
  ok(e->dev->ops->loss(e->dev, &a, &err), &err);
  ok(coh_backward(e, w, B, b->x, 0, dout, &err), &err);
  coh_workspace_destroy(w);
}

/* The last member alone gives the same bits. */
static void check_small_alone(const coh_ensemble *all, size_t B, const batch *b,
                              const coh_target *t) {
  coh_error err;
  coh_ensemble *e;
  coh_target mine = *t;
  size_t n = all->N - 1, row = all->plan.P * coh_dtype_size(all->dev->dtype);
  double loss = 0;
  mine.loss = &loss;
  ok(coh_ensemble_create(&all->plan, all->dev, 1, &e, &err), &err);
  ok(coh_ensemble_set(e, (char *)all->params + n * row, &err), &err);
  ok(coh_gradients(e, NULL, B, b->x, 0, &mine, &err), &err);
  assert_memory_equal(e->grads, (char *)all->grads + n * row, row);
  assert_true(loss == t->loss[n]);
  coh_ensemble_destroy(e);
}

static void check_small(coh_device *dev, size_t B, size_t L, const size_t *sizes,
                        bool mse) {
  enum { N = 3 };
  coh_error err;
  coh_plan plan;
  coh_ensemble *e;
  coh_dtype type = dev->dtype;
  ok(coh_plan_dense(L, sizes, (coh_act)pick(COH_SOFTPLUS, COH_G), NULL, &plan, &err),
     &err);
  assert_true(coh_plan_is_small(&plan, dev));
  ok(coh_ensemble_create(&plan, dev, N, &e, &err), &err);
  size_t P = N * plan.P, O = plan.n_out;
  void *p = random_numbers(type, P, 0.5), *g = random_numbers(type, P, 1);
  batch b = {random_numbers(type, B * plan.d_in, 1), random_numbers(type, B * O, 1),
             calloc(B, sizeof(int32_t))};
  assert_non_null(b.labels);
  for (size_t i = 0; i < B; i++) b.labels[i] = (int32_t)pick(0, O - 1);
  double loss[N] = {0}, plain[N] = {0}, eps = type == COH_F64 ? 1e-13 : 2e-5;
  coh_target t = {.y = mse ? b.y : NULL,
                  .labels = mse ? NULL : b.labels,
                  .scale = 1.0 / (double)B,
                  .loss = plain};
  ok(coh_ensemble_set(e, p, &err), &err);
  three_steps(e, B, &b, &t);
  memcpy(g, e->grads, P * coh_dtype_size(type));
  memset(e->grads, 0xff, P * coh_dtype_size(type));
  t.loss = loss;
  ok(coh_gradients(e, NULL, B, b.x, 0, &t, &err), &err);
  for (size_t i = 0; i < P; i++) {
    double want = coh_get(type, g, i);
    assert_close(coh_get(type, e->grads, i), want, eps * (1 + fabs(want)), "gradient");
  }
  for (size_t n = 0; n < N; n++)
    assert_close(loss[n], plain[n], eps * (double)B * (1 + plain[n]), "loss");
  check_small_alone(e, B, &b, &t);
  coh_ensemble_destroy(e);
  free(p), free(g), free(b.x), free(b.y), free(b.labels);
}

static void small_sizes(coh_device *dev) {
  for (size_t v = 1; v <= 67; v++) {
    size_t width = v < COH_SMALL_WIDTH ? v : COH_SMALL_WIDTH;
    check_small(dev, v, 2, (size_t[]){pick(1, 9), pick(1, 30), pick(1, 5)}, v % 2);
    check_small(dev, v + 310, 3, (size_t[]){2, 25, 25, 1}, true);
    check_small(dev, pick(1, 80), 2, (size_t[]){width, pick(1, 20), 3}, v % 2);
    check_small(dev, pick(1, 80), 3, (size_t[]){4, width, pick(1, 64), 2}, v % 2);
    check_small(dev, pick(1, 80), 2, (size_t[]){3, pick(1, 20), width}, v % 2);
  }
  check_small(dev, 1000, 1, (size_t[]){7, 3}, false);
  check_small(dev, 1000, 4, (size_t[]){5, 8, 9, 10, 2}, true);
}

static void test_small_networks(void **state) {
  (void)state;
  const char *const isas[] = {"avx512", "avx2", "generic"};
  for (size_t i = 0; i < 3; i++)
    for (coh_dtype t = COH_F32; t <= COH_F64; t++) {
      coh_error err = {0};
      coh_device *dev;
      int rc = coh_device_open_cpu(isas[i], t, &dev, &err);
      if (rc == COH_EUSAGE) continue; /* not this processor */
      ok(rc, &err);
      small_sizes(dev);
      coh_device_close(dev);
    }
}

/* ---- every member on a batch of its own ------------------------------------------ */

enum { OWN = 3 };

/* Member n on its part of x and of the targets, alone: the bits of all at once. */
static void check_own(const rig *r, const batch *b, const coh_target *all, size_t n) {
  coh_error err;
  size_t size = coh_dtype_size(r->dev->dtype), row = r->plan.P * size;
  double loss = 0;
  rig one = rig_make(&r->plan, r->dev->dtype, 1, r->B);
  coh_target t = {.scale = all->scale, .loss = &loss};
  if (all->y) t.y = (char *)b->y + n * all->stride_t * size;
  if (all->labels) t.labels = b->labels + n * all->stride_t;
  ok(coh_ensemble_set(one.e, (char *)r->e->params + n * row, &err), &err);
  ok(coh_gradients(one.e, one.w, r->B, (char *)b->x + n * r->B * r->plan.d_in * size, 0,
                   &t, &err),
     &err);
  assert_memory_equal(one.e->grads, (char *)r->e->grads + n * row, row);
  assert_true(loss == all->loss[n] && loss > 0);
  rig_free(&one);
}

static void check_own_batches(coh_dtype type, size_t B, size_t hidden, bool mse,
                              bool own_targets) {
  coh_error err;
  coh_plan plan;
  const size_t sizes[] = {pick(1, 9), hidden, pick(2, 5)};
  ok(coh_plan_dense(2, sizes, COH_G, NULL, &plan, &err), &err);
  rig r = rig_make(&plan, type, OWN, B);
  size_t O = plan.n_out, rows = OWN * B;
  void *p = random_numbers(type, OWN * plan.P, 0.5);
  batch b = {random_numbers(type, rows * plan.d_in, 1), random_numbers(type, rows * O, 1),
             calloc(rows, sizeof(int32_t))};
  assert_non_null(b.labels);
  for (size_t i = 0; i < rows; i++) b.labels[i] = (int32_t)pick(0, O - 1);
  double loss[OWN] = {0};
  coh_target t = {.y = mse ? b.y : NULL,
                  .labels = mse ? NULL : b.labels,
                  .stride_t = own_targets ? B * (mse ? O : 1) : 0,
                  .scale = 1.0 / (double)B,
                  .loss = loss};
  ok(coh_ensemble_set(r.e, p, &err), &err);
  ok(coh_gradients(r.e, r.w, B, b.x, B * plan.d_in, &t, &err), &err);
  for (size_t n = 0; n < OWN; n++) check_own(&r, &b, &t, n);
  free(p), free(b.x), free(b.y), free(b.labels);
  rig_free(&r);
}

/* Small networks and others; batches of less and of more than one block. */
static void test_own_batches(void **state) {
  (void)state;
  for (coh_dtype t = COH_F32; t <= COH_F64; t++)
    for (int kind = 0; kind < 4; kind++) {
      check_own_batches(t, 33, 12, kind % 2, kind / 2);
      check_own_batches(t, 700, 5, kind % 2, kind / 2);
      check_own_batches(t, 33, COH_SMALL_WIDTH + 6, kind % 2, kind / 2);
    }
}

static void test_what_is_small(void **state) {
  (void)state;
  coh_error err;
  coh_plan plan;
  const size_t wide[] = {65, 3, 1}, tall[] = {2, 65, 1}, skipped[] = {2, 3, 1};
  const bool skip[] = {false, true};
  coh_device *dev;
  ok(coh_device_open(COH_DEVICE_CPU, COH_F32, &dev, &err), &err);
  ok(coh_plan_dense(2, wide, COH_G, NULL, &plan, &err), &err);
  assert_false(coh_plan_is_small(&plan, dev));
  ok(coh_plan_dense(2, tall, COH_G, NULL, &plan, &err), &err);
  assert_false(coh_plan_is_small(&plan, dev));
  ok(coh_plan_dense(2, skipped, COH_G, skip, &plan, &err), &err);
  assert_false(coh_plan_is_small(&plan, dev));
  ok(coh_plan_dense(2, skipped, COH_G, NULL, &plan, &err), &err);
  assert_true(coh_plan_is_small(&plan, dev));
  coh_device_close(dev);
}

/* ---- an ensemble against its members alone --------------------------------------- */

enum { MEMBERS = 5, BATCH = 40, STEPS = 20 };

typedef struct training {
  rig r;
  void *m, *v, *x, *y;
  double lr[MEMBERS], wd[MEMBERS];
} training;

static training training_make(const coh_plan *plan, coh_dtype t, size_t first,
                              size_t count, const void *x, const void *y) {
  coh_error err;
  training s = {.r = rig_make(plan, t, count, BATCH), .x = (void *)x, .y = (void *)y};
  size_t row = plan->P * coh_dtype_size(t);
  for (size_t n = 0; n < count; n++) {
    s.lr[n] = 1e-3 * (double)(first + n + 1);
    s.wd[n] = 1e-4 * (double)(first + n);
    ok(coh_plan_init(plan, 3, first + n, COH_KAIMING_NORMAL, COH_BIAS_UNIFORM,
                     COH_FAN_STUDENT, MEMBERS, t, (char *)s.r.e->params + n * row, &err),
       &err);
  }
  ok(coh_alloc(&s.m, count, row, &err), &err);
  ok(coh_alloc(&s.v, count, row, &err), &err);
  return s;
}

static void training_free(training *s) {
  rig_free(&s->r);
  free(s->m), free(s->v);
}

/* Steps first..last of Adam, a new batch of the shared inputs each time. */
static void training_run(training *s, uint64_t first, uint64_t last) {
  coh_error err;
  double loss[MEMBERS];
  const coh_plan *p = &s->r.plan;
  size_t size = coh_dtype_size(s->r.dev->dtype);
  for (uint64_t t = first; t <= last; t++) {
    size_t row = t % 3 * BATCH;
    mse_pass(&s->r, (char *)s->x + row * p->d_in * size, 0,
             (char *)s->y + row * p->n_out * size, true, loss);
    const coh_pace pace = coh_pace_of(COH_ADAM, 0.9, 0.999, t);
    const coh_step_args a = {.kind = COH_ADAM,
                             .beta1 = 0.9,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .N = s->r.e->N,
                             .P = p->P,
                             .pace = &pace,
                             .lr = s->lr,
                             .wd = s->wd,
                             .w = s->r.e->params,
                             .g = s->r.e->grads,
                             .m = s->m,
                             .v = s->v};
    ok(s->r.dev->ops->step(s->r.dev, &a, &err), &err);
  }
}

/* Trains all together and each alone; in the middle all but members 1 and 4 leave. */
static void check_ensemble(const coh_plan *plan, coh_dtype t) {
  coh_error err;
  void *x = random_numbers(t, 3 * BATCH * plan->d_in, 1);
  void *y = random_numbers(t, 3 * BATCH * plan->n_out, 1);
  const uint32_t keep[] = {1, 4};
  size_t row = plan->P * coh_dtype_size(t);
  training together = training_make(plan, t, 0, MEMBERS, x, y);
  training_run(&together, 1, STEPS);
  char *all = malloc(MEMBERS * row);
  assert_non_null(all);
  ok(coh_ensemble_get(together.r.e, all, &err), &err);
  ok(coh_ensemble_compact(together.r.e, 2, keep, &err), &err);
  ok(together.r.dev->ops->compact(together.r.dev, 2, keep, row, together.m, &err), &err);
  ok(together.r.dev->ops->compact(together.r.dev, 2, keep, row, together.v, &err), &err);
  for (size_t i = 0; i < 2; i++) {
    together.lr[i] = together.lr[keep[i]];
    together.wd[i] = together.wd[keep[i]];
  }
  training_run(&together, STEPS + 1, 2 * STEPS);
  for (size_t n = 0, k = 0; n < MEMBERS; n++) {
    training alone = training_make(plan, t, n, 1, x, y);
    training_run(&alone, 1, STEPS);
    assert_memory_equal(alone.r.e->params, all + n * row, row);
    training_run(&alone, STEPS + 1, 2 * STEPS);
    if (k < 2 && n == keep[k])
      assert_memory_equal(alone.r.e->params, (char *)together.r.e->params + k++ * row,
                          row);
    training_free(&alone);
  }
  training_free(&together);
  free(all), free(x), free(y);
}

static void test_ensemble_equals_members_alone(void **state) {
  (void)state;
  const size_t wide[] = {45, 33, 17, 10}, small[] = {2, 25, 25, 1};
  const bool skip[] = {false, true, false};
  for (coh_dtype t = COH_F32; t <= COH_F64; t++)
    for (coh_act act = COH_RELU; act <= COH_G; act++) {
      coh_error err;
      coh_plan plan;
      ok(coh_plan_dense(3, act % 2 ? wide : small, act, act % 3 ? NULL : skip, &plan,
                        &err),
         &err);
      check_ensemble(&plan, t);
    }
}

/* After the first step, the following ones allocate nothing. */
static void test_steps_allocate_nothing(void **state) {
  (void)state;
  const size_t sizes[] = {45, 33, 17, 10};
  coh_error err;
  coh_plan plan;
  for (coh_dtype t = COH_F32; t <= COH_F64; t++) {
    ok(coh_plan_dense(3, sizes, COH_G, NULL, &plan, &err), &err);
    void *x = random_numbers(t, 3 * BATCH * 45, 1);
    void *y = random_numbers(t, 3 * BATCH * 10, 1);
    training s = training_make(&plan, t, 0, MEMBERS, x, y);
    training_run(&s, 1, 1);
    size_t before = allocations;
    training_run(&s, 2, 10);
    assert_int_equal(allocations, before);
    assert_true(allocations > 0);
    training_free(&s);
    free(x), free(y);
  }
}

/* ---- misuse ---------------------------------------------------------------------- */

static void test_misuse_is_refused(void **state) {
  (void)state;
  coh_error err;
  coh_plan plan;
  const size_t sizes[] = {3, 4, 2};
  double x[30] = {0};
  void *out;
  ok(coh_plan_dense(2, sizes, COH_G, NULL, &plan, &err), &err);
  rig r = rig_make(&plan, COH_F64, 2, 5);
  assert_int_equal(coh_forward(r.e, r.w, 6, x, 0, true, &out, &err), COH_EBUG);
  assert_int_equal(coh_forward(r.e, r.w, 5, x, 3, true, &out, &err), COH_EBUG);
  ok(coh_forward(r.e, r.w, 5, x, 0, false, &out, &err), &err);
  assert_int_equal(coh_backward(r.e, r.w, 5, x, 0, out, &err), COH_EBUG);
  ok(coh_forward(r.e, r.w, 5, x, 0, true, &out, &err), &err);
  assert_int_equal(coh_backward(r.e, r.w, 4, x, 0, out, &err), COH_EBUG);
  ok(coh_backward(r.e, r.w, 5, x, 0, out, &err), &err);
  coh_workspace *forward_only;
  ok(coh_workspace_create(&plan, r.dev, 2, 5, false, &forward_only, &err), &err);
  assert_int_equal(coh_forward(r.e, forward_only, 5, x, 0, true, &out, &err), COH_EBUG);
  assert_int_equal(coh_workspace_bytes(&plan, COH_F64, 2, 5, false), 2 * 5 * 6 * 8);
  assert_int_equal(coh_workspace_bytes(&plan, COH_F64, 2, 5, true),
                   2 * 5 * (3 * 4 + 2 * 2) * 8);
  coh_workspace_destroy(forward_only);
  const uint32_t keep[] = {2};
  assert_int_equal(coh_ensemble_compact(r.e, 1, keep, &err), COH_EBUG);
  coh_workspace_destroy(NULL);
  coh_ensemble_destroy(NULL);
  rig_free(&r);
}

/* ---- features of one network ----------------------------------------------------- */

static void test_network_apply(void **state) {
  (void)state;
  enum { ROWS = 1500 }; /* two chunks */
  coh_error err;
  coh_plan plan;
  const size_t sizes[] = {6, 9, 5, 4};
  ok(coh_plan_dense(3, sizes, COH_TANH, NULL, &plan, &err), &err);
  rig r = rig_make(&plan, COH_F32, 1, ROWS);
  void *p = random_numbers(COH_F32, plan.P, 1), *x = random_numbers(COH_F32, ROWS * 6, 1);
  float *got = random_numbers(COH_F32, ROWS * 9, 0);
  void *out;
  ok(coh_ensemble_set(r.e, p, &err), &err);
  ok(coh_forward(r.e, r.w, ROWS, x, 0, false, &out, &err), &err);
  for (size_t l = 0; l < 3; l++) {
    ok(coh_network_apply(&plan, r.dev, p, l, ROWS, x, got, &err), &err);
    assert_memory_equal(got, coh_workspace_hidden(r.w, l),
                        ROWS * sizes[l + 1] * sizeof(float));
  }
  assert_memory_equal(got, out, ROWS * 4 * sizeof(float));
  assert_int_equal(coh_network_apply(&plan, r.dev, p, 3, ROWS, x, got, &err), COH_EBUG);
  free(p), free(x), free(got);
  rig_free(&r);
}

/* ---- plans ----------------------------------------------------------------------- */

typedef struct named {
  const char *name;
  size_t n_out, members, L, sizes[5];
} named;

static void test_plan_names(void **state) {
  (void)state;
  const named good[] = {{"dense_784_4_10", 10, 0, 2, {784, 4, 10}},
                        {"dense_2_25_25_1", 0, 0, 3, {2, 25, 25, 1}},
                        {"dense_3_2", 2, 0, 1, {3, 2}},
                        {"mnist_lenet_300_100", 0, 0, 3, {784, 300, 100, 10}},
                        {"cifar_lenet_7", 100, 0, 2, {3072, 7, 100}},
                        {"students_mnist_lenet(10)_16", 10, 10, 2, {784, 16, 10}},
                        {"students_cifar_lenet(3)_16_8", 5, 3, 3, {3072, 16, 8, 5}},
                        {"students_dense(20)_10_16_1", 1, 20, 2, {10, 16, 1}}};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    coh_error err;
    coh_plan p;
    size_t members;
    ok(coh_plan_parse(good[i].name, COH_G, good[i].n_out, &p, &members, &err), &err);
    assert_int_equal(members, good[i].members);
    assert_int_equal(p.L, good[i].L);
    assert_int_equal(p.d_in, good[i].sizes[0]);
    assert_int_equal(p.n_out, good[i].sizes[p.L]);
    for (size_t l = 0; l < p.L; l++) {
      assert_int_equal(p.layer[l].in, good[i].sizes[l]);
      assert_int_equal(p.layer[l].out, good[i].sizes[l + 1]);
      assert_int_equal(p.layer[l].act, l + 1 < p.L ? COH_G : COH_IDENTITY);
    }
  }
}

static void test_lenet_has_the_known_size(void **state) {
  (void)state;
  coh_error err;
  coh_plan p;
  size_t members;
  ok(coh_plan_parse("mnist_lenet_300_100", COH_RELU, 10, &p, &members, &err), &err);
  assert_int_equal(p.P, 266610);
  ok(coh_plan_parse("mnist_lenet_500_500_500", COH_RELU, 10, &p, &members, &err), &err);
  assert_int_equal(p.P, 898510);
}

static void test_plan_names_refused(void **state) {
  (void)state;
  const char *const bad[][2] = {
      {"resnet_20", "unknown family"},
      {"", "unknown family"},
      {"dense", "unknown family"},
      {"dense_", "positive sizes"},
      {"dense_10", "at least IN and OUT"},
      {"dense_10__3", "positive sizes"},
      {"dense_10_0_3", "positive sizes"},
      {"dense_10_-4_3", "positive sizes"},
      {"dense_10_4x_3", "positive sizes"},
      {"dense_10_99999999999999999999_3", "a size is at most 16777216"},
      {"dense_10_16777217_3", "a size is at most 16777216"},
      {"students_dense(1000000000)_5_4_3", "(N) is at most 16777216 members"},
      {"students_dense(99999999999999999999)_5_4_3", "(N) is at most 16777216 members"},
      {"dense_10_4_7", "it has 7 outputs, but the data have 3 targets"},
      {"mnist_lenet_", "positive sizes"},
      {"students_mnist_lenet_16", "unknown family"},
      {"students_mnist_lenet(0)_16", "number of members"},
      {"students_mnist_lenet(x)_16", "number of members"},
      {"students_mnist_lenet(3_16", "number of members"},
      {"students_mnist_lenet(3)", "at least one hidden size"},
      {"mnist_lenet_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1",
       "1 to 32"},
      {"mnist_lenet_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1_"
       "1_3",
       "too many layers"}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    coh_error err = {0};
    coh_plan p;
    size_t members;
    assert_int_equal(coh_plan_parse(bad[i][0], COH_G, 3, &p, &members, &err), COH_EUSAGE);
    assert_non_null(strstr(err.text, bad[i][0]));
    if (!strstr(err.text, bad[i][1])) fail_msg("'%s' gave: %s", bad[i][0], err.text);
  }
  coh_error err;
  coh_plan p;
  const size_t sizes[] = {2, 3};
  const bool skip[] = {true};
  assert_int_equal(coh_plan_dense(1, sizes, COH_G, skip, &p, &err), COH_EUSAGE);
}

static void test_widened_names(void **state) {
  (void)state;
  const struct {
    const char *name;
    double factor;
    const char *want;
  } cases[] = {{"students_dense(10)_10_4_1", 1.5, "students_dense(10)_10_6_1"},
               {"students_dense(3)_10_5_7_2", 1.5, "students_dense(3)_10_8_11_2"},
               {"students_mnist_lenet(10)_8", 1, "students_mnist_lenet(10)_8"},
               {"students_mnist_lenet(2)_8_3", 2, "students_mnist_lenet(2)_16_6"},
               {"dense_4_2", 3, "dense_4_2"},
               {"cifar_lenet_5", 4, "cifar_lenet_20"}};
  coh_error err = {0};
  char name[64];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ok(coh_plan_widen(cases[i].name, cases[i].factor, name, sizeof name, &err), &err);
    assert_string_equal(name, cases[i].want);
  }
  assert_int_equal(coh_plan_widen("dense_x", 2, name, sizeof name, &err), COH_EUSAGE);
  assert_int_equal(coh_plan_widen("cifar_lenet_5", 4, name, 8, &err), COH_EUSAGE);
}

static void test_tensors(void **state) {
  (void)state;
  coh_error err;
  coh_plan p;
  coh_tensor t[3 * COH_MAX_LAYERS];
  const size_t sizes[] = {5, 4, 3, 2};
  const bool skip[] = {false, true, true};
  const coh_tensor want[] = {{"fc_layers.0.weight", 2, {4, 5}, 0, 20, 0, COH_WEIGHT},
                             {"fc_layers.0.bias", 1, {4, 1}, 20, 4, 0, COH_BIAS},
                             {"fc_layers.1.weight", 2, {3, 4}, 24, 12, 1, COH_WEIGHT},
                             {"fc_layers.1.bias", 1, {3, 1}, 36, 3, 1, COH_BIAS},
                             {"fc_layers.1.skip", 2, {3, 5}, 39, 15, 1, COH_SKIP},
                             {"fc.weight", 2, {2, 3}, 54, 6, 2, COH_WEIGHT},
                             {"fc.bias", 1, {2, 1}, 60, 2, 2, COH_BIAS},
                             {"fc.skip", 2, {2, 9}, 62, 18, 2, COH_SKIP}};
  ok(coh_plan_dense(3, sizes, COH_RELU, skip, &p, &err), &err);
  assert_int_equal(coh_plan_tensors(&p, t), 8);
  assert_int_equal(p.P, 80);
  for (size_t i = 0; i < 8; i++) {
    assert_string_equal(t[i].name, want[i].name);
    assert_int_equal(t[i].ndim, want[i].ndim);
    assert_int_equal(t[i].dim[0], want[i].dim[0]);
    assert_int_equal(t[i].dim[1], want[i].dim[1]);
    assert_int_equal(t[i].offset, want[i].offset);
    assert_int_equal(t[i].count, want[i].count);
    assert_int_equal(t[i].layer, want[i].layer);
    assert_int_equal(t[i].role, want[i].role);
  }
}

/* ---- initialisation -------------------------------------------------------------- */

/* Parameters in double of one member. */
static double *initial(const coh_plan *p, uint64_t seed, uint64_t member, coh_init init,
                       coh_init_bias bias, coh_init_fan fan, size_t members) {
  coh_error err;
  double *w;
  ok(coh_alloc(&w, p->P, sizeof *w, &err), &err);
  ok(coh_plan_init(p, seed, member, init, bias, fan, members, COH_F64, w, &err), &err);
  return w;
}

static void check_spread(const double *w, size_t n, double std) {
  double mean = 0, square = 0, fourth = 0;
  for (size_t i = 0; i < n; i++) mean += w[i] / (double)n;
  for (size_t i = 0; i < n; i++) square += w[i] * w[i] / (double)n;
  for (size_t i = 0; i < n; i++) fourth += pow(w[i], 4) / (double)n;
  double root_n = sqrt((double)n);
  assert_close(mean, 0, 5 * std / root_n, "mean");
  assert_close(sqrt(square), std,
               5 * std * sqrt((fourth / (square * square) - 1) / 4) / root_n,
               "standard deviation");
}

static double largest(const double *w, size_t n) {
  double most = 0;
  for (size_t i = 0; i < n; i++) most = fabs(w[i]) > most ? fabs(w[i]) : most;
  return most;
}

static void test_init_spread(void **state) {
  (void)state;
  coh_error err;
  coh_plan p;
  const size_t sizes[] = {784, 300, 100, 10};
  ok(coh_plan_dense(3, sizes, COH_RELU, NULL, &p, &err), &err);
  double *normal =
      initial(&p, 1, 0, COH_KAIMING_NORMAL, COH_BIAS_ZERO, COH_FAN_STUDENT, 9);
  double *even =
      initial(&p, 1, 0, COH_KAIMING_UNIFORM, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 9);
  double *xavier =
      initial(&p, 1, 0, COH_XAVIER_NORMAL, COH_BIAS_ZERO, COH_FAN_STUDENT, 9);
  double *tensor =
      initial(&p, 1, 0, COH_KAIMING_NORMAL, COH_BIAS_ZERO, COH_FAN_TENSOR, 9);
  for (size_t l = 0; l < 3; l++) {
    const coh_layer *y = &p.layer[l];
    size_t n = y->in * y->out;
    double in = (double)y->in, out = (double)y->out;
    check_spread(normal + y->w, n, sqrt(2 / in));
    check_spread(even + y->w, n, sqrt(2 / in));
    assert_true(largest(even + y->w, n) <= sqrt(6 / in));
    assert_true(largest(even + y->w, n) > 0.97 * sqrt(6 / in));
    check_spread(xavier + y->w, n, sqrt(2 / (in + out)));
    check_spread(tensor + y->w, n, sqrt(2 / (out * 9)));
    assert_true(largest(normal + y->b, y->out) == 0);
    assert_true(largest(even + y->b, y->out) <= 1 / sqrt(in));
    check_spread(even + y->b, y->out, 1 / sqrt(3 * in));
  }
  free(normal), free(even), free(xavier), free(tensor);
}

/* A pure function of seed and member: nothing else moves it, both of these do. */
static void test_init_is_a_function_of_seed_and_member(void **state) {
  (void)state;
  coh_error err;
  coh_plan p;
  const size_t sizes[] = {20, 30, 5};
  ok(coh_plan_dense(2, sizes, COH_RELU, NULL, &p, &err), &err);
  for (coh_init k = COH_KAIMING_NORMAL; k <= COH_BINARY; k++) {
    double *a = initial(&p, 1, 2, k, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 3);
    double *b = initial(&p, 1, 2, k, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 77);
    double *c = initial(&p, 1, 3, k, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 3);
    double *d = initial(&p, 2, 2, k, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 3);
    float *f = calloc(p.P, sizeof *f);
    assert_non_null(f);
    ok(coh_plan_init(&p, 1, 2, k, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 3, COH_F32, f, &err),
       &err);
    assert_memory_equal(a, b, p.P * sizeof *a);
    assert_memory_not_equal(a, c, p.P * sizeof *a);
    assert_memory_not_equal(a, d, p.P * sizeof *a);
    for (size_t i = 0; i < p.P; i++) assert_true(f[i] == (float)a[i]);
    free(a), free(b), free(c), free(d), free(f);
  }
}

/* Element (i, j) of the tall one of w [in, out] and its transpose. */
static double tall(const double *w, size_t in, size_t out, size_t i, size_t j) {
  return in >= out ? w[i * out + j] : w[j * out + i];
}

/* Q^T Q = 1, and Q^T A is upper triangular with a positive diagonal for the normal matrix
 * A it came from. */
static void check_orthogonal(const coh_layer *y, const double *w, const double *normal) {
  size_t m = y->in > y->out ? y->in : y->out, n = y->in + y->out - m;
  for (size_t j = 0; j < n; j++)
    for (size_t k = 0; k < n; k++) {
      double dot = 0, r = 0;
      for (size_t i = 0; i < m; i++) {
        double q = tall(w, y->in, y->out, i, j);
        dot += q * tall(w, y->in, y->out, i, k);
        r += q * normal[i * n + k];
      }
      assert_close(dot, j == k, 1e-14, "orthogonal");
      if (j == k) assert_true(r > 0);
      if (j > k) assert_close(r, 0, 1e-12, "triangular");
    }
}

static void test_init_orthogonal(void **state) {
  (void)state;
  const size_t sizes[] = {40, 17, 60, 60, 1};
  coh_error err;
  coh_plan p;
  ok(coh_plan_dense(4, sizes, COH_RELU, NULL, &p, &err), &err);
  double *w = initial(&p, 5, 6, COH_ORTHOGONAL, COH_BIAS_ZERO, COH_FAN_STUDENT, 1);
  double *normal =
      initial(&p, 5, 6, COH_KAIMING_NORMAL, COH_BIAS_ZERO, COH_FAN_STUDENT, 1);
  for (size_t l = 0; l < 4; l++) {
    const coh_layer *y = &p.layer[l];
    for (size_t i = 0; i < y->in * y->out; i++)
      normal[y->w + i] *= sqrt((double)y->in / 2);
    check_orthogonal(y, w + y->w, normal + y->w);
  }
  free(w), free(normal);
}

static void test_init_binary(void **state) {
  (void)state;
  const size_t sizes[] = {40, 30, 2};
  coh_error err;
  coh_plan p;
  ok(coh_plan_dense(2, sizes, COH_RELU, NULL, &p, &err), &err);
  double *w = initial(&p, 5, 6, COH_BINARY, COH_BIAS_ZERO, COH_FAN_STUDENT, 1);
  double *normal =
      initial(&p, 5, 6, COH_KAIMING_NORMAL, COH_BIAS_ZERO, COH_FAN_STUDENT, 1);
  double mean = 0, square = 0;
  for (size_t i = 0; i < 1200; i++) mean += normal[i] / 1200;
  for (size_t i = 0; i < 1200; i++) square += pow(normal[i] - mean, 2) / 1199;
  for (size_t i = 0; i < 1200; i++)
    assert_close(w[i], copysign(sqrt(square), normal[i]), 1e-15, "binary");
  free(w), free(normal);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_plan_names),
      cmocka_unit_test(test_lenet_has_the_known_size),
      cmocka_unit_test(test_plan_names_refused),
      cmocka_unit_test(test_widened_names),
      cmocka_unit_test(test_tensors),
      cmocka_unit_test(test_init_spread),
      cmocka_unit_test(test_init_is_a_function_of_seed_and_member),
      cmocka_unit_test(test_init_orthogonal),
      cmocka_unit_test(test_init_binary),
      cmocka_unit_test(test_gradients),
      cmocka_unit_test(test_order_of_skip_blocks),
      cmocka_unit_test(test_every_batch_and_width),
      cmocka_unit_test(test_small_networks),
      cmocka_unit_test(test_own_batches),
      cmocka_unit_test(test_what_is_small),
      cmocka_unit_test(test_ensemble_equals_members_alone),
      cmocka_unit_test(test_steps_allocate_nothing),
      cmocka_unit_test(test_misuse_is_refused),
      cmocka_unit_test(test_network_apply)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
