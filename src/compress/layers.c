/* layers.c - regressions of all layers of a network, from the last to the first (section
 * 5.2 of the compress contract). Inputs and outputs of each are those of the network as
 * it then is, over the training set, in float64. */
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

/* z [n, out] = a [n, in] W + b */
static int outputs(coh_device *dev, const coh_layer *y, const double *p, size_t n,
                   const double *a, double *z, coh_error *err) {
  const coh_gemm g = {.N = 1,
                      .M = n,
                      .Q = y->out,
                      .K = y->in,
                      .a = a,
                      .lda = y->in,
                      .b = p + y->w,
                      .ldb = y->out,
                      .c = z,
                      .ldc = y->out};
  int rc = dev->ops->gemm(dev, &g, err);
  for (size_t i = 0; i < n * y->out && !rc; i++) z[i] += p[y->b + i % y->out];
  return rc;
}

/* What layer l reads: *out [n, in], freed by the caller. */
static int inputs(coh_compress *c, const double *p, size_t l, double **out,
                  coh_error *err) {
  int rc;
  const coh_dataset *d = c->set[0].host;
  double *a = NULL, *z = NULL;
  COH_TRY(coh_alloc(&a, d->n * d->d_in, sizeof *a, err));
  for (size_t i = 0; i < d->n * d->d_in; i++) a[i] = coh_get(d->dtype, d->x, i);
  for (size_t k = 0; k < l; k++) {
    const coh_layer *y = &c->plan.layer[k];
    COH_TRY(coh_alloc(&z, d->n * y->out, sizeof *z, err));
    COH_TRY(outputs(c->wide, y, p, d->n, a, z, err));
    for (size_t i = 0; i < d->n * y->out; i++) z[i] = coh_act_value(y->act, z[i]);
    free(a);
    a = z;
    z = NULL;
  }
  *out = a;
  a = NULL;
cleanup:
  free(a);
  free(z);
  return rc;
}

static int prune_layer(coh_compress *c, coh_pruning *j, size_t l, coh_error *err) {
  int rc;
  const coh_compress_spec *s = coh_spec_at(c, j->place);
  const coh_layer *y = &c->plan.layer[l];
  coh_layer_fit fit = s->fit;
  size_t n = c->set[0].host->n;
  double *x = NULL, *z = NULL, *gates = NULL;
  uint64_t epochs;
  COH_TRY(inputs(c, j->p, l, &x, err));
  COH_TRY(coh_alloc(&z, n * y->out, sizeof *z, err));
  COH_TRY(outputs(c->wide, y, j->p, n, x, z, err));
  COH_TRY(coh_alloc(&gates, c->plan.P, sizeof *gates, err));
  if (j->gate) {
    memcpy(gates, j->gate, c->plan.P * sizeof *gates);
    fit.start = -1;
  }
  COH_TRY(coh_fit_layer(c->wide, n, y->in, y->out, x, z, &fit, j->p + y->w, j->p + y->b,
                        gates + y->w, gates + y->b, &epochs, err));
  if (j->gate) memcpy(j->gate, gates, c->plan.P * sizeof *gates);
  if (!c->images)
    COH_TRY(coh_random_gradient(c, c->member + j->place, s, j->p, j->mask, err));
cleanup:
  free(x);
  free(z);
  free(gates);
  return rc;
}

int coh_prune_layers(coh_compress *c, coh_pruning *j, coh_error *err) {
  int rc = COH_OK;
  if (!c->wide) COH_TRY(coh_device_open_cpu(NULL, COH_F64, &c->wide, err));
  for (size_t l = c->plan.L; l-- > 0;) COH_TRY(prune_layer(c, j, l, err));
cleanup:
  return rc;
}
