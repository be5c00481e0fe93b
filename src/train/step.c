/* step.c - one iteration: gather the batch, forward, loss, backward, sum over replicas,
 * update. The only place where parameters change. */
#include "train/trainer.h"

/* Stream of the member at place i of the ensemble. */
static uint32_t stream_of(const coh_trainer *t, size_t i) {
  return t->stream[t->slot[i]];
}

/* The order of the present epoch of every stream that has members left, drawn on the
 * host, kept on the device. */
static int order_epoch(coh_trainer *t, uint64_t epoch, coh_error *err) {
  int rc = COH_OK;
  size_t n = t->train.host->n, bytes = n * sizeof *t->perm;
  if (t->order_epoch == epoch) return COH_OK;
  for (size_t i = 0; i < t->ens->N; i++) {
    if (i > 0 && stream_of(t, i) == stream_of(t, i - 1)) continue;
    const coh_train_run *run = coh_member_run(t, t->first + t->slot[i]);
    coh_order_epoch(run->spec.order_seed, epoch, n, t->perm);
    COH_TRY(t->dev->ops->upload(t->dev, t->batch.order + stream_of(t, i) * n, t->perm,
                                bytes, err));
  }
  t->order_epoch = epoch;
cleanup:
  return rc;
}

/* Copies rows [at, at + rows) of a stream's order into the batch buffers. */
static int gather_batch(coh_trainer *t, uint32_t stream, size_t at, size_t rows,
                        coh_error *err) {
  int rc;
  const coh_device_ops *ops = t->dev->ops;
  size_t size = coh_dtype_size(t->dev->dtype);
  const uint32_t *index = t->batch.order + stream * t->train.host->n + at;
  COH_TRY(
      ops->gather(t->dev, rows, t->plan.d_in * size, t->train.x, index, t->batch.x, err));
  if (t->spec.loss == COH_MSE)
    COH_TRY(ops->gather(t->dev, rows, t->plan.n_out * size, t->train.y, index, t->batch.y,
                        err));
  else
    COH_TRY(ops->gather(t->dev, rows, sizeof(int32_t), t->train.labels, index,
                        t->batch.labels, err));
cleanup:
  return rc;
}

/* Members [first, first + count) of the ensemble. */
static coh_ensemble group_of(const coh_trainer *t, size_t first, size_t count) {
  coh_ensemble group = *t->ens;
  size_t offset = first * t->plan.P * coh_dtype_size(t->dev->dtype);
  group.N = group.capacity = count;
  group.params = (char *)t->ens->params + offset;
  group.grads = (char *)t->ens->grads + offset;
  return group;
}

/* Gradient of the mean loss over the whole batch of `total` rows, this replica's part, of
 * members [first, first + count). */
static int gradients(coh_trainer *t, size_t first, size_t count, size_t rows,
                     size_t total, coh_error *err) {
  bool mse = t->spec.loss == COH_MSE;
  coh_target target = {.y = mse ? t->batch.y : NULL,
                       .labels = mse ? NULL : t->batch.labels,
                       .scale = 1.0 / (double)total};
  target.loss = (total == t->spec.batch ? t->loss_sum : t->loss_last) + first;
  coh_ensemble group = group_of(t, first, count);
  return coh_gradients(&group, t->work, rows, t->batch.x, &target, err);
}

/* Row `first` of a device array [N, P]; NULL stays NULL. */
static void *row_of(const coh_trainer *t, void *array, size_t first) {
  size_t offset = first * t->plan.P * coh_dtype_size(t->dev->dtype);
  return array ? (char *)array + offset : NULL;
}

static int update(coh_trainer *t, size_t first, size_t count, coh_error *err) {
  const coh_train_spec *s = &t->spec;
  for (size_t i = first; i < first + count; i++) {
    size_t n = t->first + t->slot[i];
    const coh_train_spec *own = &coh_member_run(t, n)->spec;
    t->step_lr[i] = t->member[n].lr * coh_schedule_factor(own, t->step);
    t->step_wd[i] = own->weight_decay;
  }
  coh_step_args a = {.kind = s->optimizer,
                     .nesterov = s->nesterov,
                     .mu = s->momentum,
                     .beta1 = 0.9,
                     .beta2 = 0.999,
                     .eps = 1e-8,
                     .t = t->step + 1,
                     .N = count,
                     .P = t->plan.P,
                     .lr = t->step_lr + first,
                     .wd = t->step_wd + first,
                     .w = row_of(t, t->ens->params, first),
                     .g = row_of(t, t->ens->grads, first),
                     .m = row_of(t, t->m, first),
                     .v = row_of(t, t->v, first)};
  return t->dev->ops->step(t->dev, &a, err);
}

/* Members from `first` on that pass together: of one stream. */
static size_t group_from(const coh_trainer *t, size_t first) {
  size_t count = 1, most = t->ens->N - first;
  if (most > t->group) most = t->group;
  while (count < most && stream_of(t, first + count) == stream_of(t, first)) count++;
  return count;
}

/* Group by group, so that what forward leaves for backward, and gradients for the update,
 * is still in the cache. Replicas update after their sum of gradients. Rows [at, at +
 * rows) of each stream's order are this replica's part of the batch of `total`. */
static int step_groups(coh_trainer *t, size_t at, size_t rows, size_t total,
                       coh_error *err) {
  int rc = COH_OK;
  for (size_t first = 0, count; first < t->ens->N; first += count) {
    uint32_t stream = stream_of(t, first);
    count = group_from(t, first);
    if (first == 0 || stream != stream_of(t, first - 1))
      COH_TRY(gather_batch(t, stream, at, rows, err));
    COH_TRY(gradients(t, first, count, rows, total, err));
    if (t->grid->n_replica == 1) COH_TRY(update(t, first, count, err));
  }
cleanup:
  return rc;
}

int coh_trainer_step(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  size_t n = t->train.host->n, B = t->spec.batch;
  size_t at = (size_t)(t->step % t->epoch_length) * B;
  size_t total = at + B <= n ? B : n - at;
  if (coh_trainer_present(t) > 0) {
    size_t first, rows, all = t->ens->N * t->plan.P;
    COH_TRY(order_epoch(t, t->step / t->epoch_length, err));
    coh_grid_rows(t->grid, total, &first, &rows);
    if (rows > 0) {
      COH_TRY(step_groups(t, at + first, rows, total, err));
    } else {
      size_t bytes = all * coh_dtype_size(t->dev->dtype);
      COH_TRY(t->dev->ops->zero(t->dev, t->ens->grads, bytes, err));
    }
    COH_TRY(coh_reducer_sum(t->reducer, t->dev->dtype, all, t->ens->grads, err));
    if (t->grid->n_replica > 1) COH_TRY(update(t, 0, t->ens->N, err));
  }
  t->samples += (double)coh_members_active(t) * (double)total;
  t->step++;
  t->steps++;
cleanup:
  return rc;
}
