/* result.c - what became of the members: losses, counts and code lengths. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

typedef struct rows {
  const coh_compress *c;
  const void *params; /* host [count, P] */
} rows;

static void row_of(void *ctx, size_t k, double *out) {
  const rows *r = ctx;
  size_t P = r->c->plan.P;
  for (size_t i = 0; i < P; i++) out[i] = coh_get(r->c->dev->dtype, r->params, k * P + i);
}

static int measure_set(coh_compress *c, rows *r, int set, double *loss, double *right,
                       coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i < c->count; i++) loss[i] = right[i] = NAN;
  if (c->set[set].host->n == 0) return COH_OK;
  COH_TRY(coh_probe_rows(c, c->count, row_of, r, set, loss, right, err));
  for (size_t i = 0; i < c->count; i++) {
    coh_squeezed *m = c->member + i;
    m->result.accuracy[set] = right[i];
    m->result.loss[set] =
        coh_spec_at(c, i)->gauss ? coh_gauss_bits(loss[i], m->width.sigma) : loss[i];
  }
cleanup:
  return rc;
}

/* Parameters cost value_bits each; data cost their code length, that of a mean square
 * error under a Gaussian of that variance. */
static void count_bits(const coh_compress *c, size_t place, coh_compress_result *r) {
  const coh_compress_spec *s = coh_spec_at(c, place);
  double n = (double)c->set[0].host->n, constant = 0.5 * log2(2 * acos(-1.0));
  double width = s->gauss ? r->loss[0] : coh_gauss_bits(r->loss[0], sqrt(r->loss[0]));
  r->bits_mask = coh_mask_bits(c->plan.P, (size_t)r->l0);
  r->bits_values = s->value_bits * r->l0;
  r->bits_data = s->cross_entropy ? n * r->loss[0] / log(2) : n * (width + constant);
}

static int finish(coh_compress *c, size_t place, double *mask, coh_error *err) {
  int rc;
  const coh_compress_spec *s = coh_spec_at(c, place);
  coh_squeezed *m = c->member + place;
  coh_compress_result *r = &m->result;
  COH_TRY(coh_row_get(c, c->array[MASK], place, mask, err));
  r->l0 = coh_count(mask, c->plan.P);
  r->parameters = (double)c->plan.P;
  r->sigma = s->gauss ? m->width.sigma : (double)NAN;
  if (!coh_has_gates(s)) r->violations = NAN;
  count_bits(c, place, r);
cleanup:
  return rc;
}

static int measure_block(coh_compress *c, coh_trainer *t, coh_error *err) {
  int rc;
  void *params = NULL;
  double *loss = NULL, *right = NULL, *mask = NULL;
  if (c->count == 0) return COH_OK;
  COH_TRY(coh_alloc(&params, c->count * c->plan.P, coh_dtype_size(c->dev->dtype), err));
  COH_TRY(coh_alloc(&loss, c->count, sizeof *loss, err));
  COH_TRY(coh_alloc(&right, c->count, sizeof *right, err));
  COH_TRY(coh_alloc(&mask, c->plan.P, sizeof *mask, err));
  COH_TRY(coh_trainer_get(t, params, err));
  rows r = {c, params};
  for (int set = 0; set < 3; set++) COH_TRY(measure_set(c, &r, set, loss, right, err));
  for (size_t i = 0; i < c->count; i++) COH_TRY(finish(c, i, mask, err));
cleanup:
  free(params);
  free(loss);
  free(right);
  free(mask);
  return rc;
}

int coh_compress_results(coh_compress *c, coh_trainer *t, coh_compress_result *out,
                         coh_error *err) {
  int rc;
  coh_compress_result *local = NULL;
  rc = coh_alloc(&local, c->count, sizeof *local, err);
  if (!rc) rc = measure_block(c, t, err);
  COH_TRY(coh_agree(c->grid->world, rc, err));
  for (size_t i = 0; i < c->count; i++) local[i] = c->member[i].result;
  COH_TRY(coh_grid_allgather_rows(c->grid, c->N, sizeof *local, local, out, err));
cleanup:
  free(local);
  return rc;
}

int coh_compress_masks(coh_compress *c, void *masks, coh_error *err) {
  size_t bytes = c->count * c->plan.P * coh_dtype_size(c->dev->dtype);
  if (c->count == 0) return COH_OK;
  return c->dev->ops->download(c->dev, masks, c->array[MASK], bytes, err);
}
