/* gpu_parts.h - for bench/gpu.c: the calls of one training step, each timed alone.
 *
 * A stage holds arrays as a trainer has them, filled with random numbers (zeros would run
 * faster). A part is a function that makes the calls of one kind that a step makes; it is
 * called once, then recorded CALLS times in a row, and replays of that recording are
 * timed: between the clock's two readings the GPU is never idle, and launches cost what
 * they cost in a training. What fits in the GPU's cache is found there, as in a training.
 */
#ifndef COHORT_BENCH_GPU_PARTS_H
#define COHORT_BENCH_GPU_PARTS_H

#include "cohort/net.h"

#include <stdio.h>
#include <stdlib.h>

static coh_error err;

static void check(int rc) {
  if (rc == COH_OK) return;
  fprintf(stderr, "gpu: %s\n", err.text);
  exit(1);
}

static double median(double *v, int n) {
  coh_sort(v, (size_t)n);
  return coh_median_of_sorted(v, (size_t)n);
}

enum { LAYERS = 3, ARRAYS = 32, POOL_ROW = 1024, POOL_ROWS = 1024 };

/* 784-H-10 by cross entropy, or a tiny network by mean square error. */
typedef struct task {
  size_t N, L, sizes[LAYERS + 1], batch, steps; /* steps of an epoch, all of full size */
  bool classes;
} task;

typedef struct stage {
  coh_device *dev;
  const task *k;
  coh_plan plan;
  size_t arrays;
  void *array[ARRAYS]; /* all that it owns */
  void *pool;          /* rows of numbers in [-1, 1); the second half in [0, 1) */
  void *data, *x, *y, *params, *grads, *m, *v;
  void *a[LAYERS], *deriv[LAYERS], *dz[LAYERS];
  int32_t *all_labels, *labels;
  uint32_t *index;
  double *loss, *lr, *wd;
  coh_pace *pace;
  size_t calls; /* in a recording */
} stage;

typedef int part_fn(stage *, coh_error *);

/* ---- arrays ---- */

static int take(stage *s, size_t bytes, void *out) {
  void **p = out;
  int rc = s->dev->ops->alloc(s->dev, bytes, p, &err);
  if (rc == COH_OK) s->array[s->arrays++] = *p;
  return rc;
}

static int take_filled(stage *s, const void *from, size_t bytes, void *out) {
  int rc = take(s, bytes, out);
  return rc ? rc : s->dev->ops->upload(s->dev, *(void **)out, from, bytes, &err);
}

static int make_pool(stage *s) {
  enum { COUNT = POOL_ROW * POOL_ROWS };
  static float pool[COUNT];
  for (size_t i = 0; i < COUNT && pool[COUNT - 1] == 0; i++) {
    float u = (float)coh_random_uniform(1, COH_RNG_TEST, 0, i);
    pool[i] = i < COUNT / 2 ? 2 * u - 1 : u;
  }
  return take_filled(s, pool, sizeof pool, &s->pool);
}

/* A float array of `count`, or more, from the pool. */
static int take_random(stage *s, size_t count, bool positive, void *out) {
  int rc;
  size_t rows = (count + POOL_ROW - 1) / POOL_ROW, half = POOL_ROWS / 2;
  uint32_t *from = NULL, *on_device = NULL;
  coh_gather_args g = {.S = 1, .R = rows, .row_bytes = POOL_ROW * sizeof(float)};
  COH_TRY(coh_alloc(&from, rows, sizeof *from, &err));
  for (size_t i = 0; i < rows; i++)
    from[i] = (uint32_t)(i * 7919 % half + (positive ? half : 0));
  COH_TRY(s->dev->ops->alloc(s->dev, rows * sizeof *from, (void **)&on_device, &err));
  COH_TRY(s->dev->ops->upload(s->dev, on_device, from, rows * sizeof *from, &err));
  COH_TRY(take(s, rows * g.row_bytes, out));
  g.src = s->pool, g.index = on_device, g.dst = *(void **)out;
  COH_TRY(s->dev->ops->gather(s->dev, &g, &err));
cleanup:
  s->dev->ops->free(s->dev, on_device);
  free(from);
  return rc;
}

static int take_numbers(stage *s) {
  int rc;
  const task *k = s->k;
  size_t n = k->batch * k->steps, O = s->plan.n_out;
  coh_pace pace = coh_pace_of(COH_ADAM, 0.9, 0.999, 100);
  double *lr = NULL;
  uint32_t *index = NULL;
  int32_t *labels = NULL;
  COH_TRY(coh_alloc(&lr, k->N, sizeof *lr, &err));
  COH_TRY(coh_alloc(&index, k->batch, sizeof *index, &err));
  COH_TRY(coh_alloc(&labels, n, sizeof *labels, &err));
  for (size_t i = 0; i < k->N; i++) lr[i] = 1e-6;
  for (size_t i = 0; i < k->batch; i++) index[i] = (uint32_t)(i * 7919 % n);
  for (size_t i = 0; i < n; i++) labels[i] = (int32_t)(i * 31 % O);
  COH_TRY(take_filled(s, lr, k->N * sizeof *lr, &s->lr));
  COH_TRY(take_filled(s, index, k->batch * sizeof *index, &s->index));
  COH_TRY(take_filled(s, labels, n * sizeof *labels, &s->all_labels));
  COH_TRY(take_filled(s, labels, k->batch * sizeof *labels, &s->labels));
  COH_TRY(take_filled(s, &pace, sizeof pace, &s->pace));
  COH_TRY(take(s, k->N * sizeof(double), &s->wd));
  COH_TRY(take(s, k->N * sizeof(double), &s->loss));
cleanup:
  free(lr), free(index), free(labels);
  return rc;
}

static void stage_free(stage *s) {
  while (s->arrays > 0) s->dev->ops->free(s->dev, s->array[--s->arrays]);
}

static int stage_make(coh_device *dev, const task *k, const coh_plan *plan, stage *s) {
  int rc;
  *s = (stage){.dev = dev, .k = k, .plan = *plan};
  size_t all = k->N * plan->P, n = k->batch * k->steps;
  COH_TRY(make_pool(s));
  COH_TRY(take_numbers(s));
  COH_TRY(take_random(s, n * plan->d_in, false, &s->data));
  COH_TRY(take_random(s, k->batch * plan->d_in, false, &s->x));
  COH_TRY(take_random(s, k->batch * plan->n_out, false, &s->y));
  COH_TRY(take_random(s, all, false, &s->params));
  COH_TRY(take_random(s, all, false, &s->grads));
  COH_TRY(take_random(s, all, false, &s->m));
  COH_TRY(take_random(s, all, true, &s->v));
  for (size_t l = 0; l < plan->L && !coh_plan_is_small(plan, dev); l++) {
    size_t count = k->N * k->batch * plan->layer[l].out;
    COH_TRY(take_random(s, count, false, &s->a[l]));
    COH_TRY(take_random(s, count, false, &s->dz[l]));
    if (l + 1 < plan->L) COH_TRY(take_random(s, count, true, &s->deriv[l]));
  }
  return COH_OK;
cleanup:
  stage_free(s);
  return rc;
}

/* ---- parts: as src/train/step.c and src/net/pass.c call them ---- */

static float *from(const stage *s, void *array, size_t offset) {
  (void)s;
  return (float *)array + offset;
}

static int part_gather(stage *s, coh_error *e) {
  size_t row = s->plan.d_in * sizeof(float);
  bool classes = s->k->classes;
  coh_gather_args g = {.S = 1, .R = s->k->batch, .row_bytes = row, .src = s->data};
  g.index = s->index, g.dst = s->x;
  int rc = s->dev->ops->gather(s->dev, &g, e);
  g.row_bytes = classes ? sizeof(int32_t) : s->plan.n_out * sizeof(float);
  g.src = classes ? (void *)s->all_labels : s->data;
  g.dst = classes ? (void *)s->labels : s->y;
  return rc ? rc : s->dev->ops->gather(s->dev, &g, e);
}

/* a W of layer l; the batch is shared by all members. */
static int gemm_forward(stage *s, size_t l, coh_error *e) {
  const coh_layer *y = &s->plan.layer[l];
  const size_t B = s->k->batch;
  coh_gemm g = {.N = s->k->N, .M = B, .Q = y->out, .K = y->in};
  g.a = l == 0 ? s->x : s->a[l - 1], g.lda = y->in, g.stride_a = l == 0 ? 0 : B * y->in;
  g.b = from(s, s->params, y->w), g.ldb = y->out, g.stride_b = s->plan.P;
  g.c = s->a[l], g.ldc = y->out, g.stride_c = B * y->out;
  return s->dev->ops->gemm(s->dev, &g, e);
}

static int gemm_weights(stage *s, size_t l, coh_error *e) {
  const coh_layer *y = &s->plan.layer[l];
  const size_t B = s->k->batch;
  coh_gemm g = {.trans_a = true, .N = s->k->N, .M = y->in, .Q = y->out, .K = B};
  g.a = l == 0 ? s->x : s->a[l - 1], g.lda = y->in, g.stride_a = l == 0 ? 0 : B * y->in;
  g.b = s->dz[l], g.ldb = y->out, g.stride_b = B * y->out;
  g.c = from(s, s->grads, y->w), g.ldc = y->out, g.stride_c = s->plan.P;
  return s->dev->ops->gemm(s->dev, &g, e);
}

/* dz of the layer below l. */
static int gemm_inputs(stage *s, size_t l, coh_error *e) {
  const coh_layer *y = &s->plan.layer[l];
  const size_t B = s->k->batch;
  coh_gemm g = {.trans_b = true, .N = s->k->N, .M = B, .Q = y->in, .K = y->out};
  g.a = s->dz[l], g.lda = y->out, g.stride_a = B * y->out;
  g.b = from(s, s->params, y->w), g.ldb = y->out, g.stride_b = s->plan.P;
  g.c = s->dz[l - 1], g.ldc = y->in, g.stride_c = B * y->in;
  return s->dev->ops->gemm(s->dev, &g, e);
}

static int gemm_first_forward(stage *s, coh_error *e) {
  return gemm_forward(s, 0, e);
}
static int gemm_first_weights(stage *s, coh_error *e) {
  return gemm_weights(s, 0, e);
}
static int gemm_last_forward(stage *s, coh_error *e) {
  return gemm_forward(s, s->plan.L - 1, e);
}
static int gemm_last_weights(stage *s, coh_error *e) {
  return gemm_weights(s, s->plan.L - 1, e);
}
static int gemm_last_inputs(stage *s, coh_error *e) {
  return gemm_inputs(s, s->plan.L - 1, e);
}

/* All products of a step, in its order. */
static int part_gemm(stage *s, coh_error *e) {
  int rc = COH_OK;
  for (size_t l = 0; l < s->plan.L; l++) COH_TRY(gemm_forward(s, l, e));
  for (size_t l = s->plan.L; l-- > 0;) {
    if (l + 1 < s->plan.L) COH_TRY(gemm_inputs(s, l + 1, e));
    COH_TRY(gemm_weights(s, l, e));
  }
cleanup:
  return rc;
}

static int part_bias_act(stage *s, coh_error *e) {
  int rc = COH_OK;
  for (size_t l = 0; l < s->plan.L; l++) {
    const coh_layer *y = &s->plan.layer[l];
    COH_TRY(s->dev->ops->bias_act(s->dev, y->act, s->k->N, s->k->batch, y->out,
                                  from(s, s->params, y->b), s->plan.P, s->a[l],
                                  s->deriv[l], e));
  }
cleanup:
  return rc;
}

static int part_act_grad(stage *s, coh_error *e) {
  int rc = COH_OK;
  for (size_t l = 0; l + 1 < s->plan.L; l++)
    COH_TRY(s->dev->ops->act_grad(s->dev, s->k->N, s->k->batch * s->plan.layer[l].out,
                                  s->dz[l], s->deriv[l], e));
cleanup:
  return rc;
}

static int part_bias_grad(stage *s, coh_error *e) {
  int rc = COH_OK;
  for (size_t l = 0; l < s->plan.L; l++) {
    const coh_layer *y = &s->plan.layer[l];
    COH_TRY(s->dev->ops->bias_grad(s->dev, s->k->N, s->k->batch, y->out, s->dz[l],
                                   from(s, s->grads, y->b), s->plan.P, e));
  }
cleanup:
  return rc;
}

static int part_loss(stage *s, coh_error *e) {
  const size_t last = s->plan.L - 1;
  coh_loss_args a = {.N = s->k->N, .B = s->k->batch, .O = s->plan.n_out};
  a.out = s->a[last], a.dout = s->dz[last], a.loss = s->loss;
  a.y = s->k->classes ? NULL : s->y, a.labels = s->k->classes ? s->labels : NULL;
  a.scale = 1.0 / (double)s->k->batch;
  return s->dev->ops->loss(s->dev, &a, e);
}

static int part_step(stage *s, coh_error *e) {
  coh_step_args a = {.kind = COH_ADAM, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
  a.N = s->k->N, a.P = s->plan.P;
  a.pace = s->pace, a.lr = s->lr, a.wd = s->wd;
  a.w = s->params, a.g = s->grads, a.m = s->m, a.v = s->v;
  return s->dev->ops->step(s->dev, &a, e);
}

static int part_small(stage *s, coh_error *e) {
  coh_small a = {.L = s->plan.L, .N = s->k->N, .B = s->k->batch, .P = s->plan.P};
  for (size_t l = 0; l < a.L; l++) {
    const coh_layer *y = &s->plan.layer[l];
    a.layer[l] = (coh_small_layer){.in = y->in, .out = y->out, .w = y->w, .act = y->act};
  }
  a.x = s->x, a.y = s->y, a.scale = 1.0 / (double)a.B;
  a.params = s->params, a.grads = s->grads, a.loss = s->loss;
  return s->dev->ops->small(s->dev, &a, e);
}

/* ---- the clock ---- */

static double seconds_of_replays(stage *s, coh_recording *r, int times) {
  double start;
  check(s->dev->ops->sync(s->dev, &err));
  start = coh_seconds();
  for (int i = 0; i < times; i++) check(s->dev->ops->replay(s->dev, r, &err));
  check(s->dev->ops->sync(s->dev, &err));
  return (coh_seconds() - start) / times;
}

static size_t between(double value, size_t least, size_t most) {
  return value < (double)least ? least : value > (double)most ? most : (size_t)value;
}

static double time_once(stage *s, part_fn *part) {
  check(part(s, &err));
  check(s->dev->ops->sync(s->dev, &err));
  double start = coh_seconds();
  check(part(s, &err));
  check(s->dev->ops->sync(s->dev, &err));
  return coh_seconds() - start;
}

static double trial_seconds = 20e-3;

/* Seconds that one call of a part takes: the median of TRIALS of trial_seconds or more.
 */
static double time_part(stage *s, part_fn *part) {
  enum { TRIALS = 5 };
  double seconds[TRIALS];
  coh_recording *r;
  size_t calls = between(0.1 * trial_seconds / time_once(s, part), 1, 20);
  check(s->dev->ops->record(s->dev, &err));
  for (size_t i = 0; i < calls; i++) check(part(s, &err));
  check(s->dev->ops->record_end(s->dev, &r, &err));
  size_t times = between(trial_seconds / seconds_of_replays(s, r, 1), 1, 1000);
  for (int i = 0; i < TRIALS; i++)
    seconds[i] = seconds_of_replays(s, r, (int)times) / (double)calls;
  s->dev->ops->recording_free(s->dev, r);
  return median(seconds, TRIALS);
}

#endif
