/* init.c - initial parameters of one member, on the host: a pure function of (seed,
 * member), the same on every machine. Uses base. */
#include "cohort/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a tensor's numbers come from: element i from index i of this step. */
typedef struct source {
  uint64_t seed, step;
} source;

static double normal_at(const source *s, size_t i) {
  return coh_random_normal(s->seed, COH_RNG_INIT, s->step, i);
}

static void fill_normal(const source *s, double std, size_t n, double *out) {
  for (size_t i = 0; i < n; i++) out[i] = std * normal_at(s, i);
}

static void fill_uniform(const source *s, double bound, size_t n, double *out) {
  for (size_t i = 0; i < n; i++)
    out[i] = bound * (2 * coh_random_uniform(s->seed, COH_RNG_INIT, s->step, i) - 1);
}

/* Every element becomes +-the sample standard deviation. */
static void make_binary(size_t n, double *w) {
  double mean = 0, square = 0;
  for (size_t i = 0; i < n; i++) mean += w[i];
  mean /= (double)n;
  for (size_t i = 0; i < n; i++) square += (w[i] - mean) * (w[i] - mean);
  double std = n > 1 ? sqrt(square / (double)(n - 1)) : fabs(w[0]);
  for (size_t i = 0; i < n; i++) w[i] = w[i] < 0 ? -std : std;
}

/* ---- orthogonal matrices --------------------------------------------------------- */

/* A [m, n] -= tau v (v^T A) on columns [c, n) and rows [c, m); v = its rows [c, m); work
 * [n]. Rows are walked in order, so that it runs along memory. */
static void reflect(size_t m, size_t n, size_t c, const double *v, double tau, double *a,
                    double *work) {
  memset(work, 0, n * sizeof *work);
  for (size_t i = c; i < m; i++)
    for (size_t j = c; j < n; j++) work[j] += v[i] * a[i * n + j];
  for (size_t i = c; i < m; i++)
    for (size_t j = c; j < n; j++) a[i * n + j] -= tau * v[i] * work[j];
}

/* The reflection that clears column c below its diagonal: v [m] and tau; *sign = the sign
 * of the diagonal element it leaves in R (Golub & Van Loan, "Matrix Computations", 5.1).
 */
static double reflector(size_t m, size_t n, size_t c, const double *a, double *v,
                        double *sign) {
  double norm = 0, head = a[c * n + c];
  for (size_t i = c; i < m; i++) norm += a[i * n + c] * a[i * n + c];
  norm = sqrt(norm);
  *sign = head > 0 ? -1 : 1;
  for (size_t i = c; i < m; i++) v[i] = a[i * n + c];
  v[c] -= *sign * norm;
  double square = 0;
  for (size_t i = c; i < m; i++) square += v[i] * v[i];
  return square > 0 ? 2 / square : 0;
}

/* a [m, n], m >= n: in a normal matrix, out the Q of its QR factorisation, column j times
 * the sign of R[j][j]. */
static int orthogonalise(size_t m, size_t n, double *a, coh_error *err) {
  double *v = NULL, *tau = NULL, *work = NULL;
  int rc;
  COH_TRY(coh_alloc(&v, n * m, sizeof *v, err)); /* v of reflection c: row c */
  COH_TRY(coh_alloc(&tau, 2 * n, sizeof *tau, err));
  COH_TRY(coh_alloc(&work, n, sizeof *work, err));
  double *sign = tau + n;
  for (size_t c = 0; c < n; c++) {
    tau[c] = reflector(m, n, c, a, v + c * m, &sign[c]);
    reflect(m, n, c, v + c * m, tau[c], a, work);
  }
  memset(a, 0, m * n * sizeof *a);
  for (size_t c = 0; c < n; c++) a[c * n + c] = sign[c];
  for (size_t c = n; c-- > 0;) reflect(m, n, c, v + c * m, tau[c], a, work);
cleanup:
  free(work);
  free(tau);
  free(v);
  return rc;
}

/* w [in, out]. The tall one of the matrix and its transpose is orthogonalised. */
static int fill_orthogonal(const source *s, size_t in, size_t out, double *w,
                           coh_error *err) {
  double *tall = NULL;
  int rc;
  if (in >= out) {
    fill_normal(s, 1, in * out, w);
    return orthogonalise(in, out, w, err);
  }
  COH_TRY(coh_alloc(&tall, in * out, sizeof *tall, err));
  fill_normal(s, 1, in * out, tall); /* [out, in] */
  COH_TRY(orthogonalise(out, in, tall, err));
  for (size_t i = 0; i < in; i++)
    for (size_t o = 0; o < out; o++) w[i * out + o] = tall[o * in + i];
cleanup:
  free(tall);
  return rc;
}

/* ---- all tensors ----------------------------------------------------------------- */

typedef struct fans {
  double in, out;
} fans;

/* The reference holds a layer of all members as [in, out, N] and takes the second axis,
 * times the rest, for the inputs. */
static fans layer_fans(const coh_layer *layer, coh_init_fan fan, size_t members) {
  double in = (double)layer->in, out = (double)layer->out;
  double n = members ? (double)members : 1;
  return fan == COH_FAN_TENSOR ? (fans){out * n, in * n} : (fans){in, out};
}

/* As Lux 1 has it; the last layer is linear. */
static double gain_of(coh_act act) {
  return act == COH_RELU ? 2.0 : act == COH_TANH ? 5.0 / 3 : 1.0;
}

static int fill_weight(const source *s, const coh_layer *layer, coh_init init, fans fan,
                       double *w, coh_error *err) {
  size_t n = layer->in * layer->out;
  switch (init) {
  case COH_KAIMING_NORMAL:
    fill_normal(s, sqrt(2 / fan.in), n, w);
    return COH_OK;
  case COH_KAIMING_UNIFORM:
    fill_uniform(s, sqrt(6 / fan.in), n, w);
    return COH_OK;
  case COH_XAVIER_NORMAL:
    fill_normal(s, sqrt(2 / (fan.in + fan.out)), n, w);
    return COH_OK;
  case COH_ORTHOGONAL:
    return fill_orthogonal(s, layer->in, layer->out, w, err);
  case COH_BINARY:
    fill_normal(s, sqrt(2 / fan.in), n, w);
    make_binary(n, w);
    return COH_OK;
  case COH_GAIN_UNIFORM:
    fill_uniform(s, gain_of(layer->act) * sqrt(3 / fan.in), n, w);
    return COH_OK;
  }
  return coh_fail(err, COH_EBUG, "unknown initialisation %d", (int)init);
}

int coh_plan_init(const coh_plan *p, uint64_t seed, uint64_t member, coh_init init,
                  coh_init_bias bias, coh_init_fan fan, size_t members, coh_dtype dtype,
                  void *params, coh_error *err) {
  coh_tensor tensors[3 * COH_MAX_LAYERS];
  size_t count = coh_plan_tensors(p, tensors), largest = 0;
  for (size_t t = 0; t < count; t++)
    if (tensors[t].count > largest) largest = tensors[t].count;
  double *values = NULL;
  int rc;
  COH_TRY(coh_alloc(&values, largest, sizeof *values, err));
  for (size_t t = 0; t < count; t++) {
    const coh_layer *layer = &p->layer[tensors[t].layer];
    const source s = {seed, member << 16 | t};
    const fans f = layer_fans(layer, fan, members);
    memset(values, 0, tensors[t].count * sizeof *values);
    if (tensors[t].role == COH_WEIGHT)
      COH_TRY(fill_weight(&s, layer, init, f, values, err));
    else if (tensors[t].role == COH_BIAS && bias == COH_BIAS_UNIFORM)
      fill_uniform(&s, 1 / sqrt(f.in), tensors[t].count, values);
    for (size_t i = 0; i < tensors[t].count; i++)
      coh_put(dtype, params, tensors[t].offset + i, values[i]);
  }
  rc = COH_OK;
cleanup:
  free(values);
  return rc;
}
