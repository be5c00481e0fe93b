/* ensemble.c - parameters and gradients of N members on a device. Uses base, device. */
#include "cohort/net.h"

#include <stdlib.h>

static size_t row_bytes(const coh_ensemble *e) {
  return e->plan.P * coh_dtype_size(e->dev->dtype);
}

int coh_ensemble_create(const coh_plan *plan, coh_device *dev, size_t N,
                        coh_ensemble **out, coh_error *err) {
  coh_ensemble *e = NULL;
  int rc;
  *out = NULL;
  COH_TRY(coh_alloc(&e, 1, sizeof *e, err));
  e->plan = *plan;
  e->dev = dev;
  e->N = e->capacity = N;
  COH_TRY(dev->ops->alloc(dev, N * row_bytes(e), &e->params, err));
  COH_TRY(dev->ops->alloc(dev, N * row_bytes(e), &e->grads, err));
  *out = e;
  return COH_OK;
cleanup:
  coh_explain(err, "%zu networks of %zu parameters", N, plan->P);
  coh_ensemble_destroy(e);
  return rc;
}

void coh_ensemble_destroy(coh_ensemble *e) {
  if (!e) return;
  e->dev->ops->free(e->dev, e->grads);
  e->dev->ops->free(e->dev, e->params);
  free(e);
}

int coh_ensemble_set(coh_ensemble *e, const void *host, coh_error *err) {
  return e->dev->ops->upload(e->dev, e->params, host, e->N * row_bytes(e), err);
}

int coh_ensemble_get(const coh_ensemble *e, void *host, coh_error *err) {
  return e->dev->ops->download(e->dev, host, e->params, e->N * row_bytes(e), err);
}

int coh_ensemble_compact(coh_ensemble *e, size_t count, const uint32_t *keep,
                         coh_error *err) {
  if (count > e->N || (count > 0 && keep[count - 1] >= e->N))
    return coh_fail(err, COH_EBUG, "compaction to members that %zu networks do not have",
                    e->N);
  int rc;
  COH_TRY(e->dev->ops->compact(e->dev, count, keep, row_bytes(e), e->params, err));
  COH_TRY(e->dev->ops->compact(e->dev, count, keep, row_bytes(e), e->grads, err));
  e->N = count;
cleanup:
  return rc;
}
