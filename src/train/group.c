/* group.c - how many members pass forward and backward together: by the processor's
 * cache, or by the memory that a GPU has left. */
#include "train/trainer.h"

/* Small networks: as many as leave gradients in the cache for the update, with what that
 * reads and writes. */
static size_t small_group(const coh_trainer *t) {
  size_t fit = t->dev->cache_bytes / (4 * t->plan.P * coh_dtype_size(t->dev->dtype));
  return fit < 1 ? 1 : fit < t->count ? fit : t->count;
}

/* As many members as keep their activations in the device's cache, but enough that the
 * input, which each group reads anew, is a small part of what is moved. */
static size_t cached_group(const coh_trainer *t) {
  size_t width = 0;
  if (coh_plan_is_small(&t->plan, t->dev)) return small_group(t);
  for (size_t l = 0; l < t->plan.L; l++) width += 3 * t->plan.layer[l].out;
  size_t fit = t->dev->cache_bytes / (t->rows * width * coh_dtype_size(t->dev->dtype));
  size_t worth = 4 * t->plan.d_in / width + 1;
  return fit > worth ? fit : worth;
}

/* What comes later, at most: batches and orders of members with streams of their own
 * (coh_batch_create), evaluations beside the training. */
static size_t later_bytes(const coh_trainer *t) {
  size_t size = coh_dtype_size(t->dev->dtype), n = t->train.host->n;
  size_t set = t->test ? t->test->n * (t->test->d_in + t->test->n_out) * size : 0;
  size_t sample = (t->plan.d_in + t->plan.n_out) * size;
  size_t streams = t->count * (t->rows * sample + n * sizeof(uint32_t));
  return set + streams + 2 * t->count * t->plan.P * size + COH_EVALUATION_BYTES;
}

enum { PARTS = 4, PART_BYTES = 1 << 20 };

/* A GPU: as many members as it has room for now, leaving some; where replicas sum their
 * gradients, parts of them, which travel while the next ones are computed. */
static int roomy_group(const coh_trainer *t, size_t *group, coh_error *err) {
  const coh_device_ops *ops = t->dev->ops;
  size_t left, total, size = coh_dtype_size(t->dev->dtype);
  size_t one = coh_workspace_bytes(&t->plan, t->dev->dtype, 1, t->rows, true);
  size_t part = t->count / PARTS * t->plan.P * size;
  *group = t->count;
  if (t->grid->n_replica > 1 && part >= PART_BYTES)
    *group = (t->count + PARTS - 1) / PARTS;
  if (!ops->memory || coh_plan_is_small(&t->plan, t->dev)) return COH_OK;
  int rc = ops->memory(t->dev, &left, &total, err);
  if (rc) return rc;
  size_t later = later_bytes(t), fit = left > later ? (left - later) / one : 0;
  if (fit < *group) *group = fit < 1 ? 1 : fit;
  return COH_OK;
}

static int wish_group(const coh_trainer *t, size_t *group, coh_error *err) {
  *group = t->count;
  if (t->count == 0) return COH_OK;
  if (t->dev->cache_bytes == 0) return roomy_group(t, group, err);
  *group = cached_group(t);
  return COH_OK;
}

int coh_trainer_choose_group(coh_trainer *t, coh_error *err) {
  int rc;
  size_t group;
  COH_TRY(coh_agree(t->grid->world, wish_group(t, &group, err), err));
  if (t->count == 0) return COH_OK;
  int64_t least = -(int64_t)(group < t->count ? group : t->count);
  COH_TRY(coh_allmax(t->grid->replica, &least, err));
  group = (size_t)-least;
  size_t groups = (t->count + group - 1) / group;
  t->group = (t->count + groups - 1) / groups;
cleanup:
  return rc;
}
