/* probe.c - losses of networks that are tried, and gradients on random data (sections 3.3
 * and 4 of the compress contract). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

enum { CHUNK = 1000 }; /* rows of one forward */
static const size_t workspace_bytes = (size_t)32 << 20;

/* Members `first` ... of an ensemble. */
static coh_ensemble part_of(const coh_ensemble *e, size_t first, size_t count) {
  coh_ensemble part = *e;
  size_t offset = first * e->plan.P * coh_dtype_size(e->dev->dtype);
  part.N = part.capacity = count;
  part.params = (char *)e->params + offset;
  part.grads = (char *)e->grads + offset;
  return part;
}

static int need_workspace(coh_compress *c, coh_error *err) {
  if (c->forward) return COH_OK;
  size_t one = coh_workspace_bytes(&c->plan, c->dev->dtype, 1, CHUNK, false);
  c->group = workspace_bytes / one;
  if (c->group < 1) c->group = 1;
  if (c->group > c->count) c->group = c->count;
  return coh_workspace_create(&c->plan, c->dev, c->group, CHUNK, false, &c->forward, err);
}

/* Sums over rows [at, at + rows) added to c->sums; right (host [e->N]) gets answers. */
static int chunk(coh_compress *c, const coh_ensemble *e, const coh_probe_set *set,
                 size_t at, size_t rows, coh_error *err) {
  int rc = COH_OK;
  size_t size = coh_dtype_size(c->dev->dtype), O = c->plan.n_out;
  const char *x = (const char *)set->x + at * c->plan.d_in * size;
  const char *y = set->y ? (const char *)set->y + at * O * size : NULL;
  for (size_t first = 0; first < e->N; first += c->group) {
    size_t left = e->N - first;
    coh_ensemble part = part_of(e, first, left < c->group ? left : c->group);
    const coh_target t = {.y = y,
                          .labels = y ? NULL : set->labels + at,
                          .scale = 1,
                          .loss = c->sums + first};
    COH_TRY(coh_losses(&part, c->forward, rows, x, 0, &t, err));
  }
cleanup:
  return rc;
}

/* Right answers of all rows, a group of members at a time, added to `right` (device). */
static int count_right(coh_compress *c, const coh_ensemble *e, const coh_probe_set *set,
                       double *right, coh_error *err) {
  int rc = COH_OK;
  size_t size = coh_dtype_size(c->dev->dtype), O = c->plan.n_out;
  void *out;
  for (size_t at = 0; at < set->host->n; at += CHUNK) {
    size_t rows = set->host->n - at < CHUNK ? set->host->n - at : CHUNK;
    const char *x = (const char *)set->x + at * c->plan.d_in * size;
    for (size_t first = 0; first < e->N; first += c->group) {
      size_t left = e->N - first;
      coh_ensemble part = part_of(e, first, left < c->group ? left : c->group);
      COH_TRY(coh_forward(&part, c->forward, rows, x, 0, false, &out, err));
      const coh_loss_args a = {.N = part.N,
                               .B = rows,
                               .O = O,
                               .out = out,
                               .labels = set->labels + at,
                               .scale = 1,
                               .loss = c->sums + first,
                               .correct = right + first};
      COH_TRY(c->dev->ops->loss(c->dev, &a, err));
    }
  }
cleanup:
  return rc;
}

static int accuracy(coh_compress *c, const coh_ensemble *e, const coh_probe_set *set,
                    double *correct, coh_error *err) {
  int rc = COH_OK;
  double *right = NULL;
  for (size_t i = 0; i < e->N; i++) correct[i] = NAN;
  if (!set->labels) return COH_OK;
  COH_TRY(c->dev->ops->alloc(c->dev, e->N * sizeof *right, (void **)&right, err));
  COH_TRY(count_right(c, e, set, right, err));
  COH_TRY(c->dev->ops->download(c->dev, correct, right, e->N * sizeof *right, err));
  for (size_t i = 0; i < e->N; i++) correct[i] /= (double)set->host->n;
cleanup:
  c->dev->ops->free(c->dev, right);
  return rc;
}

int coh_probe(coh_compress *c, const coh_ensemble *e, int which, double *loss,
              double *correct, coh_error *err) {
  int rc = COH_OK;
  const coh_probe_set *set = &c->set[which];
  const coh_device_ops *ops = c->dev->ops;
  size_t n = set->host->n, batches = 0, bytes = e->N * sizeof(double);
  if (e->N == 0) return COH_OK;
  COH_TRY(need_workspace(c, err));
  for (size_t i = 0; i < e->N; i++) loss[i] = 0;
  for (size_t from = 0; from < n; from += set->batch, batches++) {
    size_t end = n - from < set->batch ? n : from + set->batch;
    COH_TRY(ops->zero(c->dev, c->sums, bytes, err));
    for (size_t at = from; at < end; at += CHUNK)
      COH_TRY(chunk(c, e, set, at, end - at < CHUNK ? end - at : CHUNK, err));
    COH_TRY(ops->download(c->dev, c->scratch, c->sums, bytes, err));
    for (size_t i = 0; i < e->N; i++) loss[i] += c->scratch[i] / (double)(end - from);
  }
  for (size_t i = 0; i < e->N; i++) loss[i] /= (double)batches;
  if (correct) COH_TRY(accuracy(c, e, set, correct, err));
cleanup:
  return rc;
}

/* ---- networks of the host -----------------------------------------------------------
 */

/* Room for as many as take no more memory than the data sets, or for one. */
static int need_trial(coh_compress *c, coh_error *err) {
  static const size_t most_bytes = (size_t)64 << 20;
  if (c->trial) return COH_OK;
  c->room = most_bytes / (2 * c->plan.P * coh_dtype_size(c->dev->dtype));
  if (c->room < 1) c->room = 1;
  if (c->room > c->count) c->room = c->count;
  return coh_ensemble_create(&c->plan, c->dev, c->room, &c->trial, err);
}

int coh_probe_rows(coh_compress *c, size_t N, coh_probe_row *row, void *ctx, int set,
                   double *loss, double *correct, coh_error *err) {
  int rc;
  double *values = NULL;
  COH_TRY(need_trial(c, err));
  COH_TRY(coh_alloc(&values, c->plan.P, sizeof *values, err));
  for (size_t from = 0; from < N; from += c->room) {
    size_t n = N - from < c->room ? N - from : c->room;
    for (size_t k = 0; k < n; k++) {
      row(ctx, from + k, values);
      COH_TRY(coh_row_put(c, c->trial->params, k, values, err));
    }
    coh_ensemble e = part_of(c->trial, 0, n);
    COH_TRY(coh_probe(c, &e, set, loss + from, correct ? correct + from : NULL, err));
  }
cleanup:
  free(values);
  return rc;
}

/* ---- random gradients ---------------------------------------------------------------
 */

static size_t batch_rows(const coh_compress *c) {
  size_t n = c->set[0].host->n, batch = c->set[0].batch;
  return batch < n ? batch : n;
}

/* out [B, O] becomes the gradient of the mean loss for normal targets y. */
static void loss_gradient(bool cross_entropy, size_t B, size_t O, const double *y,
                          double *out) {
  for (size_t b = 0; b < B; b++, out += O, y += O) {
    double most = out[0], sum = 0, total = 0;
    for (size_t o = 1; o < O; o++) most = fmax(most, out[o]);
    for (size_t o = 0; o < O; o++) sum += exp(out[o] - most), total += y[o];
    for (size_t o = 0; o < O; o++)
      out[o] = cross_entropy ? (exp(out[o] - most) / sum * total - y[o]) / (double)B
                             : 2 * (out[o] - y[o]) / (double)(B * O);
  }
}

static void *normals(coh_dtype dtype, uint64_t seed, uint64_t step, size_t n, void *out) {
  for (size_t i = 0; i < n; i++)
    coh_put(dtype, out, i, coh_random_normal(seed, COH_RNG_PROBE, step, i));
  return out;
}

typedef struct random_batch {
  void *host, *x;      /* host and device [B, max(d_in, n_out)] */
  double *y, *out, *g; /* [B, n_out] twice, [P] */
} random_batch;

/* Gradient of the network in row 0 of c->trial into r->g. */
static int random_gradient(coh_compress *c, const coh_compress_spec *s, uint64_t call,
                           random_batch *r, coh_error *err) {
  int rc;
  coh_device *dev = c->dev;
  const coh_device_ops *ops = dev->ops;
  size_t B = batch_rows(c), I = c->plan.d_in, O = c->plan.n_out;
  size_t size = coh_dtype_size(dev->dtype);
  void *out, *dout = coh_workspace_dout(c->backward);
  coh_ensemble one = part_of(c->trial, 0, 1);
  normals(dev->dtype, s->seed, call << 1, B * I, r->host);
  COH_TRY(ops->upload(dev, r->x, r->host, B * I * size, err));
  COH_TRY(coh_forward(&one, c->backward, B, r->x, 0, true, &out, err));
  COH_TRY(ops->download(dev, r->host, out, B * O * size, err));
  for (size_t i = 0; i < B * O; i++) {
    r->out[i] = coh_get(dev->dtype, r->host, i);
    r->y[i] = coh_random_normal(s->seed, COH_RNG_PROBE, call << 1 | 1, i);
  }
  loss_gradient(s->cross_entropy, B, O, r->y, r->out);
  for (size_t i = 0; i < B * O; i++) coh_put(dev->dtype, r->host, i, r->out[i]);
  COH_TRY(ops->upload(dev, dout, r->host, B * O * size, err));
  COH_TRY(coh_backward(&one, c->backward, B, r->x, 0, dout, err));
  COH_TRY(coh_row_get(c, one.grads, 0, r->g, err));
cleanup:
  return rc;
}

int coh_random_gradient(coh_compress *c, coh_squeezed *m, const coh_compress_spec *s,
                        double *p, const double *mask, coh_error *err) {
  int rc;
  random_batch r = {0};
  size_t B = batch_rows(c), I = c->plan.d_in, O = c->plan.n_out;
  size_t wide = I > O ? I : O, size = coh_dtype_size(c->dev->dtype);
  COH_TRY(need_trial(c, err));
  if (!c->backward)
    COH_TRY(coh_workspace_create(&c->plan, c->dev, 1, B, true, &c->backward, err));
  COH_TRY(coh_alloc(&r.host, B * wide, size, err));
  COH_TRY(c->dev->ops->alloc(c->dev, B * I * size, &r.x, err));
  COH_TRY(coh_alloc(&r.y, B * O, sizeof *r.y, err));
  COH_TRY(coh_alloc(&r.out, B * O, sizeof *r.out, err));
  COH_TRY(coh_alloc(&r.g, c->plan.P, sizeof *r.g, err));
  for (size_t i = 0; i < c->plan.P; i++) r.g[i] = p[i] * mask[i];
  COH_TRY(coh_row_put(c, c->trial->params, 0, r.g, err));
  COH_TRY(random_gradient(c, s, m->calls++, &r, err));
  for (size_t i = 0; i < c->plan.P; i++)
    if (r.g[i] == 0 || mask[i] == 0) p[i] = 0;
cleanup:
  free(r.host);
  c->dev->ops->free(c->dev, r.x);
  free(r.y);
  free(r.out);
  free(r.g);
  return rc;
}
