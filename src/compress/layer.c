/* layer.c - one layer pruned by a regression of its outputs on its inputs, in which each
 * parameter has a probability of being there (section 5 of the compress contract): the
 * squared error is taken in expectation over these gates, in closed form. All in float64.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

enum { W, B, GATE_W, GATE_B, TENSORS, CHECK_EVERY = 100 };

/* n, in, out as in coh_fit_layer. */
typedef struct fit {
  coh_device *dev;
  const coh_layer_fit *spec;
  size_t n, in, out, rows; /* rows of a batch */
  const double *x, *y;
  double *value[TENSORS], *grad[TENSORS], *m[TENSORS], *v[TENSORS];
  size_t count[TENSORS];
  double *effective; /* [in, out] w gate */
  double *rest;      /* [rows, out] prediction, then what it is off */
  double *square;    /* [in] sums over the batch of x^2 */
  double *slope;     /* [in, out] of the squared error by `effective` */
  uint64_t t;
  double *recent; /* losses of the last epochs */
  size_t length;
} fit;

static int multiply(const fit *f, bool trans_a, size_t M, size_t K, const double *a,
                    size_t lda, const double *b, double *c, coh_error *err) {
  const coh_gemm g = {.trans_a = trans_a,
                      .N = 1,
                      .M = M,
                      .Q = f->out,
                      .K = K,
                      .a = a,
                      .lda = lda,
                      .b = b,
                      .ldb = f->out,
                      .c = c,
                      .ldc = f->out};
  return f->dev->ops->gemm(f->dev, &g, err);
}

/* rest = prediction - y for the rows from `at` on; returns its squares' sum. */
static double residuals(const fit *f, size_t at, size_t rows) {
  const double *y = f->y + at * f->out, *b = f->value[B], *q = f->value[GATE_B];
  double sum = 0;
  for (size_t s = 0; s < rows; s++)
    for (size_t o = 0; o < f->out; o++) {
      double *r = f->rest + s * f->out + o;
      *r += b[o] * q[o] - y[s * f->out + o];
      sum += *r * *r;
    }
  return sum;
}

/* Gradients by one value and its gate. slope: of the squared error by their product;
 * weight: sum over the rows of the squared input. Returns the variance's share of E. */
static double gate_gradient(double w, double q, double slope, double weight, double alpha,
                            double *dw, double *dq) {
  *dw = slope * q + 2 * w * q * (1 - q) * weight;
  *dq = slope * w + w * w * (1 - 2 * q) * weight + alpha;
  return w * w * q * (1 - q) * weight + alpha * q;
}

static double weight_gradients(const fit *f) {
  double sum = 0;
  for (size_t k = 0; k < f->count[W]; k++)
    sum += gate_gradient(f->value[W][k], f->value[GATE_W][k], f->slope[k],
                         f->square[k / f->out], f->spec->alpha, f->grad[W] + k,
                         f->grad[GATE_W] + k);
  return sum;
}

static double bias_gradients(const fit *f, size_t rows) {
  double sum = 0;
  for (size_t o = 0; o < f->out; o++) {
    double slope = 0;
    for (size_t s = 0; s < rows; s++) slope += 2 * f->rest[s * f->out + o];
    sum += gate_gradient(f->value[B][o], f->value[GATE_B][o], slope, (double)rows,
                         f->spec->alpha, f->grad[B] + o, f->grad[GATE_B] + o);
  }
  return sum;
}

static void update(fit *f) {
  double c1 = 1 - pow(0.9, (double)++f->t), c2 = 1 - pow(0.999, (double)f->t);
  for (int k = 0; k < TENSORS; k++)
    for (size_t i = 0; i < f->count[k]; i++) {
      double g = f->grad[k][i], *m = f->m[k] + i, *v = f->v[k] + i, *w = f->value[k] + i;
      *m = 0.9 * *m + 0.1 * g;
      *v = 0.999 * *v + 0.001 * g * g;
      *w -= f->spec->lr * (*m / c1) / (sqrt(*v / c2) + 1e-8);
      if (k >= GATE_W) *w = fmin(fmax(*w, 0), 1);
    }
}

/* One step; adds the batch's objective. */
static int step(fit *f, size_t at, size_t rows, double *sum, coh_error *err) {
  int rc;
  const double *x = f->x + at * f->in;
  for (size_t k = 0; k < f->count[W]; k++)
    f->effective[k] = f->value[W][k] * f->value[GATE_W][k];
  COH_TRY(multiply(f, false, rows, f->in, x, f->in, f->effective, f->rest, err));
  *sum += residuals(f, at, rows);
  COH_TRY(multiply(f, true, f->in, rows, x, f->in, f->rest, f->slope, err));
  for (size_t k = 0; k < f->count[W]; k++) f->slope[k] *= 2;
  memset(f->square, 0, f->in * sizeof *f->square);
  for (size_t s = 0; s < rows; s++)
    for (size_t i = 0; i < f->in; i++)
      f->square[i] += x[s * f->in + i] * x[s * f->in + i];
  *sum += weight_gradients(f) + bias_gradients(f, rows);
  update(f);
cleanup:
  return rc;
}

static int epoch(fit *f, coh_error *err) {
  int rc = COH_OK;
  double sum = 0;
  size_t batches = 0, window = coh_saturation_window(f->spec->smoothing_window);
  for (size_t at = 0; at < f->n; at += f->rows, batches++)
    COH_TRY(step(f, at, f->n - at < f->rows ? f->n - at : f->rows, &sum, err));
  memmove(f->recent, f->recent + 1, (window - 1) * sizeof *f->recent);
  f->recent[window - 1] = sum / (double)batches;
  f->length++;
cleanup:
  return rc;
}

/* All gates fully open or closed. */
static bool is_binary(const fit *f) {
  for (int k = GATE_W; k <= GATE_B; k++)
    for (size_t i = 0; i < f->count[k]; i++)
      if (f->value[k][i] != 0 && f->value[k][i] != 1) return false;
  return true;
}

static int descend(fit *f, uint64_t *epochs, coh_error *err) {
  int rc = COH_OK, binary = 0, settled = 0;
  for (*epochs = 0; *epochs < f->spec->epochs;) {
    COH_TRY(epoch(f, err));
    if (++*epochs % CHECK_EVERY != 0) continue;
    bool is = is_binary(f);
    binary = is ? binary + 1 : 0;
    bool rests = coh_saturated(f->recent, f->length, f->spec->smoothing_window, 1e-10);
    settled = rests ? settled + 1 : 0;
    if (settled >= 3 || binary >= 3 || (is && settled >= 1)) break;
  }
cleanup:
  return rc;
}

static int allocate(fit *f, coh_error *err) {
  int rc;
  size_t window = coh_saturation_window(f->spec->smoothing_window);
  for (int k = 0; k < TENSORS; k++) {
    COH_TRY(coh_alloc(&f->grad[k], f->count[k], sizeof(double), err));
    COH_TRY(coh_alloc(&f->m[k], f->count[k], sizeof(double), err));
    COH_TRY(coh_alloc(&f->v[k], f->count[k], sizeof(double), err));
  }
  COH_TRY(coh_alloc(&f->effective, f->count[W], sizeof(double), err));
  COH_TRY(coh_alloc(&f->slope, f->count[W], sizeof(double), err));
  COH_TRY(coh_alloc(&f->rest, f->rows * f->out, sizeof(double), err));
  COH_TRY(coh_alloc(&f->square, f->in, sizeof(double), err));
  COH_TRY(coh_alloc(&f->recent, window, sizeof(double), err));
cleanup:
  return rc;
}

static void release(fit *f) {
  for (int k = 0; k < TENSORS; k++) {
    free(f->grad[k]);
    free(f->m[k]);
    free(f->v[k]);
  }
  free(f->effective);
  free(f->slope);
  free(f->rest);
  free(f->square);
  free(f->recent);
}

/* What is zero already has a closed gate. */
static void start_gates(size_t n, const double *w, double start, double *gate) {
  for (size_t i = 0; i < n; i++) {
    if (start >= 0) gate[i] = start;
    if (w[i] == 0) gate[i] = 0;
  }
}

static void round_gates(size_t n, double *w, double *gate) {
  for (size_t i = 0; i < n; i++) {
    gate[i] = gate[i] > 0.5 ? 1 : 0;
    w[i] *= gate[i];
  }
}

int coh_fit_layer(coh_device *dev, size_t n, size_t in, size_t out, const double *x,
                  const double *y, const coh_layer_fit *spec, double *w, double *b,
                  double *gate_w, double *gate_b, uint64_t *epochs, coh_error *err) {
  int rc;
  fit f = {.dev = dev,
           .spec = spec,
           .n = n,
           .in = in,
           .out = out,
           .rows = spec->batch < n ? spec->batch : n,
           .x = x,
           .y = y,
           .value = {w, b, gate_w, gate_b},
           .count = {in * out, out, in * out, out}};
  COH_TRY(allocate(&f, err));
  start_gates(in * out, w, spec->start, gate_w);
  start_gates(out, b, spec->start, gate_b);
  COH_TRY(descend(&f, epochs, err));
  round_gates(in * out, w, gate_w);
  round_gates(out, b, gate_b);
cleanup:
  release(&f);
  return rc;
}
