/* batch.c - the batch of a step: the order of the samples in an epoch, and the rows that
 * it names, gathered for one stream of members or for each member of the block. */
#include <stdlib.h>

#include "train/trainer.h"

coh_part coh_part_of(const coh_trainer *t, uint64_t step) {
  size_t n = t->train.host->n, B = t->spec.batch, first;
  size_t at = (size_t)(step % t->epoch_length) * B;
  coh_part part = {.total = at + B <= n ? B : n - at};
  coh_grid_rows(t->grid, part.total, &first, &part.rows);
  part.at = at + first;
  return part;
}

void coh_batch_destroy(coh_trainer *t) {
  const coh_device_ops *ops = t->dev->ops;
  ops->free(t->dev, t->batch.order);
  ops->free(t->dev, t->batch.x);
  ops->free(t->dev, t->batch.y);
  ops->free(t->dev, t->batch.labels);
  free(t->batch.seed);
  t->batch = (coh_batch){0};
}

int coh_batch_create(coh_trainer *t, coh_error *err) {
  int rc;
  coh_device *dev = t->dev;
  const coh_device_ops *ops = dev->ops;
  coh_batch *b = &t->batch;
  size_t size = coh_dtype_size(dev->dtype), n = t->train.host->n;
  coh_batch_destroy(t);
  b->epoch = b->drawn = UINT64_MAX;
  b->copies = dev->cache_bytes == 0 && t->streams > 1 ? t->count : 1;
  size_t rows = b->copies * t->rows;
  COH_TRY(coh_alloc(&b->seed, t->streams, sizeof *b->seed, err));
  for (size_t i = 0; i < t->count; i++)
    b->seed[t->stream[i]] = coh_member_run(t, t->first + i)->spec.order_seed;
  COH_TRY(ops->alloc(dev, t->streams * n * sizeof *b->order, (void **)&b->order, err));
  COH_TRY(ops->alloc(dev, rows * t->plan.d_in * size, &b->x, err));
  if (t->spec.loss == COH_MSE)
    COH_TRY(ops->alloc(dev, rows * t->plan.n_out * size, &b->y, err));
  else
    COH_TRY(ops->alloc(dev, rows * sizeof(int32_t), (void **)&b->labels, err));
cleanup:
  return rc;
}

/* Streams that have members left, drawn on the host. */
static int draw_orders(coh_trainer *t, uint64_t epoch, coh_error *err) {
  int rc = COH_OK;
  size_t n = t->train.host->n;
  for (size_t i = 0; i < t->ens->N; i++) {
    uint32_t stream = coh_stream_of(t, i);
    if (i > 0 && stream == coh_stream_of(t, i - 1)) continue;
    if (t->method)
      for (size_t k = 0; k < n; k++) t->perm[k] = (uint32_t)k;
    else
      coh_order_epoch(t->batch.seed[stream], epoch, n, t->perm);
    COH_TRY(t->dev->ops->upload(t->dev, t->batch.order + stream * n, t->perm,
                                n * sizeof *t->perm, err));
  }
cleanup:
  return rc;
}

/* A single list takes a GPU, where one thread swaps, as long as the host; and the host
 * can draw it while the GPU makes the steps that it was given. Many are drawn there at
 * once. */
static bool draws_ahead(const coh_trainer *t) {
  return t->dev->ops->order && t->streams == 1 && !t->method;
}

void coh_batch_draw_ahead(coh_trainer *t, uint64_t epoch) {
  coh_batch *b = &t->batch;
  if (!draws_ahead(t) || b->drawn == epoch) return;
  coh_order_epoch(b->seed[0], epoch, t->train.host->n, t->perm);
  b->drawn = epoch;
}

static int upload_drawn(coh_trainer *t, uint64_t epoch, coh_error *err) {
  coh_batch_draw_ahead(t, epoch);
  return t->dev->ops->upload(t->dev, t->batch.order, t->perm,
                             t->train.host->n * sizeof *t->perm, err);
}

int coh_batch_order(coh_trainer *t, uint64_t epoch, coh_error *err) {
  int rc;
  const coh_device_ops *ops = t->dev->ops;
  if (t->batch.epoch == epoch) return COH_OK;
  if (t->method && t->batch.epoch != UINT64_MAX) return COH_OK; /* its own order */
  if (draws_ahead(t))
    COH_TRY(upload_drawn(t, epoch, err));
  else if (ops->order && !t->method)
    COH_TRY(ops->order(t->dev, t->streams, t->batch.seed, epoch, t->train.host->n,
                       t->batch.order, err));
  else
    COH_TRY(draw_orders(t, epoch, err));
  t->batch.epoch = epoch;
cleanup:
  return rc;
}

/* `lists` of `rows` rows: those that `list` names, or that of the one order given. */
static int gather(coh_trainer *t, const uint32_t *order, const uint32_t *list,
                  size_t lists, size_t rows, coh_error *err) {
  int rc;
  const coh_device_ops *ops = t->dev->ops;
  size_t size = coh_dtype_size(t->dev->dtype);
  coh_gather_args g = {.S = lists,
                       .R = rows,
                       .row_bytes = t->plan.d_in * size,
                       .src = t->train.x,
                       .index = order,
                       .stride = t->train.host->n,
                       .list = list,
                       .at = &coh_stretch_pace(t)->at,
                       .dst = t->batch.x};
  bool mse = t->spec.loss == COH_MSE;
  COH_TRY(ops->gather(t->dev, &g, err));
  g.row_bytes = mse ? t->plan.n_out * size : sizeof(int32_t);
  g.src = mse ? t->train.y : t->train.labels;
  g.dst = mse ? t->batch.y : t->batch.labels;
  COH_TRY(ops->gather(t->dev, &g, err));
cleanup:
  return rc;
}

int coh_batch_gather(coh_trainer *t, uint32_t stream, size_t rows, coh_error *err) {
  return gather(t, t->batch.order + stream * t->train.host->n, NULL, 1, rows, err);
}

int coh_batch_gather_all(coh_trainer *t, size_t rows, coh_error *err) {
  return gather(t, t->batch.order, t->stretch.stream, t->ens->N, rows, err);
}
