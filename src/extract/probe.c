/* probe.c - what the query set tells about a neuron: its pre-activations on sampled rows,
 * and what its outgoing weights do to the network's output there. Uses base, device, net
 * (plans only). */
#include "extract/robust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extract/scalapack.h"

size_t coh_probe_row(const coh_layer_data *data, const coh_probe *p, size_t b) {
  return b * data->n / p->m;
}

int coh_probe_create(const coh_layer_data *data, size_t D, coh_symmetry symmetry,
                     size_t rows, coh_probe *out, coh_error *err) {
  int rc;
  *out = (coh_probe){.act = data->act, .symmetry = symmetry, .D = D};
  out->m = rows < data->n ? rows : data->n;
  COH_TRY(coh_device_open(COH_DEVICE_CPU, COH_F64, &out->dev, err));
  COH_TRY(coh_alloc(&out->x, out->m * D, sizeof *out->x, err));
  for (size_t b = 0; b < out->m; b++) {
    size_t row = coh_probe_row(data, out, b);
    for (size_t d = 0; d + 1 < D; d++)
      out->x[b * D + d] = coh_get(data->dtype, data->x, row * (D - 1) + d);
    out->x[b * D + D - 1] = 1;
  }
cleanup:
  if (rc) coh_probe_free(out);
  return rc;
}

void coh_probe_free(coh_probe *p) {
  free(p->x);
  coh_device_close(p->dev);
  *p = (coh_probe){0};
}

/* The triangle of a QR decomposition, over the root of the number of rows. */
int coh_probe_metric(const coh_probe *p, const uint8_t *mask, double **metric, size_t *q,
                     coh_error *err) {
  int rc;
  size_t m = p->m, D = p->D;
  double *a = NULL;
  *metric = NULL;
  *q = m < D ? m : D;
  COH_TRY(coh_alloc(&a, m * D, sizeof *a, err));
  COH_TRY(coh_alloc(metric, *q * D, sizeof **metric, err));
  for (size_t d = 0; d < D; d++)
    for (size_t b = 0; b < m && (!mask || mask[d]); b++) a[d * m + b] = p->x[b * D + d];
  COH_TRY(coh_qr(m, D, a, err));
  for (size_t i = 0; i < *q; i++)
    for (size_t d = i; d < D; d++) (*metric)[i * D + d] = a[d * m + i] / sqrt((double)m);
cleanup:
  free(a);
  return rc;
}

int coh_probe_product(const coh_probe *p, size_t K, const double *w, size_t rows,
                      const double *a, double *out, coh_error *err) {
  coh_gemm g = {.trans_b = true,
                .N = 1,
                .M = K,
                .Q = rows,
                .K = p->D,
                .a = w,
                .lda = p->D,
                .b = a,
                .ldb = p->D,
                .c = out,
                .ldc = rows};
  return K == 0 ? COH_OK : p->dev->ops->gemm(p->dev, &g, err);
}

/* ---- from a layer to the output ---- */

/* z [out] = W^T h + b */
static void forward_layer(const coh_layer *l, const double *params, const double *h,
                          double *z) {
  memcpy(z, params + l->b, l->out * sizeof *z);
  for (size_t i = 0; i < l->in; i++) {
    const double *w = params + l->w + i * l->out;
    for (size_t o = 0; o < l->out; o++) z[o] += h[i] * w[o];
  }
}

/* d output / d pre-activation from layer l + 1 to layer l, of slopes s [out of l]. */
static void back_layer(const coh_layer *above, const double *params, size_t I,
                       const double *slope, const double *from, double *to) {
  for (size_t k = 0; k < I; k++)
    for (size_t i = 0; i < above->in; i++) {
      const double *w = params + above->w + i * above->out, *f = from + k * above->out;
      double sum = 0;
      for (size_t o = 0; o < above->out; o++) sum += f[o] * w[o];
      to[k * above->in + i] = sum * slope[i];
    }
}

/* Room for one row: pre-activations of all layers, and two Jacobians. */
typedef struct row_work {
  double *z[COH_MAX_LAYERS];
  double *h, *slope, *jac[2];
} row_work;

static void row_free(row_work *r, size_t L) {
  for (size_t l = 0; l < L; l++) free(r->z[l]);
  free(r->h);
  free(r->slope);
  free(r->jac[0]);
  free(r->jac[1]);
}

static int row_create(const coh_plan *plan, row_work *r, coh_error *err) {
  int rc = COH_OK;
  size_t widest = 0;
  for (size_t l = 0; l < plan->L; l++) {
    if (plan->layer[l].out > widest) widest = plan->layer[l].out;
    COH_TRY(coh_alloc(&r->z[l], plan->layer[l].out, sizeof(double), err));
  }
  COH_TRY(coh_alloc(&r->h, widest, sizeof(double), err));
  COH_TRY(coh_alloc(&r->slope, widest, sizeof(double), err));
  for (size_t i = 0; i < 2; i++)
    COH_TRY(coh_alloc(&r->jac[i], widest * plan->n_out, sizeof(double), err));
cleanup:
  return rc;
}

/* jac [n_out, out of layer 1] at one input. */
static void row_jacobian(const coh_plan *plan, coh_act act, const double *params,
                         const double *x, row_work *r, double *jac) {
  size_t I = plan->n_out, L = plan->L, now = 0;
  for (size_t l = 0; l < L; l++) {
    forward_layer(&plan->layer[l], params, l ? r->h : x, r->z[l]);
    for (size_t o = 0; o < plan->layer[l].out; o++)
      r->h[o] = coh_act_value(act, r->z[l][o]);
  }
  memset(r->jac[0], 0, I * I * sizeof *r->jac[0]);
  for (size_t k = 0; k < I; k++) r->jac[0][k * I + k] = 1;
  for (size_t l = L - 1; l > 1; l--, now = !now) {
    const coh_layer *above = &plan->layer[l];
    for (size_t i = 0; i < above->in; i++)
      r->slope[i] = coh_act_slope(act, r->z[l - 1][i]);
    back_layer(above, params, I, r->slope, r->jac[now], r->jac[!now]);
  }
  memcpy(jac, r->jac[now], I * plan->layer[1].out * sizeof *jac);
}

int coh_probe_jacobian(const coh_layer_data *data, const coh_probe *p, size_t n,
                       double *jac, coh_error *err) {
  int rc;
  const coh_plan *plan = data->plan;
  row_work r = {{0}, NULL, NULL, {NULL}};
  size_t each = plan->n_out * plan->layer[1].out;
  COH_TRY(row_create(plan, &r, err));
  for (size_t b = 0; b < p->m; b++)
    row_jacobian(plan, p->act, data->params + n * plan->P, p->x + b * p->D, &r,
                 jac + b * each);
cleanup:
  row_free(&r, plan->L);
  return rc;
}

/* ---- what a neuron adds ---- */

static double mean_of(size_t m, const double *v, size_t stride) {
  double sum = 0;
  for (size_t b = 0; b < m; b++) sum += v[b * stride];
  return sum / (double)m;
}

double coh_probe_energy(const coh_probe *p, const double *z, size_t I, double *e) {
  bool linear = coh_symmetry_is_even_linear(p->symmetry);
  double zm = mean_of(p->m, z, 1), zz = 0, sum = 0;
  for (size_t b = 0; b < p->m && linear; b++) zz += (z[b] - zm) * (z[b] - zm);
  for (size_t i = 0; i < I; i++) {
    double em = mean_of(p->m, e + i, I), ez = 0;
    for (size_t b = 0; b < p->m && zz > 0; b++) ez += (e[b * I + i] - em) * (z[b] - zm);
    double slope = zz > 0 ? ez / zz : 0;
    for (size_t b = 0; b < p->m; b++) {
      double v = e[b * I + i] - em - slope * (z[b] - zm);
      sum += v * v;
    }
  }
  return sum / (double)(p->m * I);
}
