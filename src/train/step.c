/* step.c - one iteration: take the step's numbers from the table, gather the batch,
 * forward, loss, backward, sum over replicas, update. The only place where parameters
 * change. What one step does on the device depends on its shape alone, see record.c. */
#include "train/trainer.h"

uint32_t coh_stream_of(const coh_trainer *t, size_t i) {
  return t->stream[t->slot[i]];
}

/* Row `first` of a device array [N, elements]; NULL stays NULL. */
static void *row_of(const coh_trainer *t, void *array, size_t first, size_t elements) {
  size_t offset = first * elements * coh_dtype_size(t->dev->dtype);
  return array ? (char *)array + offset : NULL;
}

/* Members [first, first + count) of the ensemble. */
static coh_ensemble group_of(const coh_trainer *t, size_t first, size_t count) {
  coh_ensemble group = *t->ens;
  group.N = group.capacity = count;
  group.params = row_of(t, t->ens->params, first, t->plan.P);
  group.grads = row_of(t, t->ens->grads, first, t->plan.P);
  return group;
}

/* Gradient of the mean loss over the whole batch, this replica's part, of members [first,
 * first + count): on the batch of their stream, or each on its own. */
static int gradients(coh_trainer *t, size_t first, size_t count, const coh_part *part,
                     coh_error *err) {
  int rc;
  bool mse = t->spec.loss == COH_MSE, own = t->batch.copies > 1;
  size_t stride_x = own ? part->rows * t->plan.d_in : 0;
  size_t stride_t = own ? part->rows * (mse ? t->plan.n_out : 1) : 0;
  coh_target target = {.y = mse ? row_of(t, t->batch.y, first, stride_t) : NULL,
                       .labels = mse ? NULL : t->batch.labels + first * stride_t,
                       .stride_t = stride_t,
                       .scale = 1.0 / (double)part->total};
  target.loss = (part->total == t->spec.batch ? t->loss_sum : t->loss_last) + first;
  if (t->method) {
    target.loss = t->batch_loss + first;
    COH_TRY(t->dev->ops->zero(t->dev, target.loss, count * sizeof(double), err));
  }
  coh_ensemble group = group_of(t, first, count);
  if (part->rows == 0) /* more replicas than rows */
    return t->dev->ops->zero(t->dev, group.grads,
                             count * t->plan.P * coh_dtype_size(t->dev->dtype), err);
  COH_TRY(coh_gradients(&group, t->work, part->rows,
                        row_of(t, t->batch.x, first, stride_x), stride_x, &target, err));
cleanup:
  return rc;
}

static int update_by_method(coh_trainer *t, size_t first, size_t count, size_t rows,
                            coh_error *err) {
  coh_train_view view;
  coh_trainer_view(t, &view);
  return t->method->update(t->method->ctx, &view, first, count, rows, err);
}

static int update(coh_trainer *t, size_t first, size_t count, coh_error *err) {
  const coh_train_spec *s = &t->spec;
  size_t P = t->plan.P;
  coh_step_args a = {.kind = s->optimizer,
                     .nesterov = s->nesterov,
                     .mu = s->momentum,
                     .beta1 = COH_ADAM_BETA1,
                     .beta2 = COH_ADAM_BETA2,
                     .eps = 1e-8,
                     .N = count,
                     .P = P,
                     .pace = coh_stretch_pace(t),
                     .lr = coh_stretch_lr(t) + first,
                     .wd = t->stretch.wd + first,
                     .w = row_of(t, t->ens->params, first, P),
                     .g = row_of(t, t->ens->grads, first, P),
                     .m = row_of(t, t->m, first, P),
                     .v = row_of(t, t->v, first, P)};
  return t->dev->ops->step(t->dev, &a, err);
}

/* Members from `first` on that pass together: of one stream, where they share a batch. */
static size_t group_from(const coh_trainer *t, size_t first) {
  size_t count = 1, most = t->ens->N - first;
  if (most > t->group) most = t->group;
  if (t->batch.copies > 1) return most;
  while (count < most && coh_stream_of(t, first + count) == coh_stream_of(t, first))
    count++;
  return count;
}

/* Group by group, so that what forward leaves for backward, and gradients for the update,
 * is still in the cache. Replicas update after their sum of gradients, of which a group's
 * part travels while the next one passes. */
static int step_groups(coh_trainer *t, const coh_part *part, coh_error *err) {
  int rc = COH_OK;
  bool own = t->batch.copies > 1;
  if (own && part->rows > 0) COH_TRY(coh_batch_gather_all(t, part->rows, err));
  for (size_t first = 0, count; first < t->ens->N; first += count) {
    uint32_t stream = coh_stream_of(t, first);
    count = group_from(t, first);
    bool changed = first == 0 || stream != coh_stream_of(t, first - 1);
    if (!own && changed && part->rows > 0)
      COH_TRY(coh_batch_gather(t, stream, part->rows, err));
    COH_TRY(gradients(t, first, count, part, err));
    if (t->method)
      COH_TRY(update_by_method(t, first, count, part->rows, err));
    else if (t->grid->n_replica == 1)
      COH_TRY(update(t, first, count, err));
    else
      COH_TRY(coh_reducer_start(t->reducer, t->dev->dtype, count * t->plan.P,
                                row_of(t, t->ens->grads, first, t->plan.P), err));
  }
cleanup:
  return rc;
}

/* All that the device does in a step. */
static int step_on_device(coh_trainer *t, const coh_part *part, coh_error *err) {
  int rc;
  size_t all = t->ens->N * t->plan.P;
  COH_TRY(coh_stretch_advance(t, err));
  COH_TRY(step_groups(t, part, err));
  if (t->grid->n_replica == 1) return COH_OK;
  COH_TRY(coh_reducer_join(t->reducer, t->dev->dtype, all, t->ens->grads, err));
  COH_TRY(update(t, 0, t->ens->N, err));
cleanup:
  return rc;
}

int coh_trainer_step(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  coh_part part = coh_part_of(t, t->step);
  if (coh_trainer_present(t) > 0) {
    COH_TRY(coh_batch_order(t, t->step / t->epoch_length, err));
    COH_TRY(coh_stretch_prepare(t, err));
    if (t->method)
      COH_TRY(step_on_device(t, &part, err)); /* its numbers are not on the device */
    else
      COH_TRY(coh_records_step(t, &part, step_on_device, err));
    COH_TRY(coh_reducer_keep_up(t->reducer, err));
    t->stretch.step++;
    uint64_t next = t->step + 1; /* draws while the device works */
    if (next % t->epoch_length == 0 && next < t->spec.end)
      coh_batch_draw_ahead(t, next / t->epoch_length);
  }
  t->samples += (double)coh_members_active(t) * (double)part.total;
  t->step++;
  t->steps++;
cleanup:
  return rc;
}
