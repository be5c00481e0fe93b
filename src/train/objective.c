/* objective.c - mean loss and its gradient over the whole training set, of several points
 * at once, in chunks of rows. Chunks and their order depend on the set alone, so that a
 * point's numbers do not depend on its neighbours. */
#include <stdlib.h>
#include <string.h>

#include "train/finish.h"

/* Rows of one pass: so many that their inputs stay in the second-level cache between
 * forward and backward. */
enum { MOST_ROWS = 512, LEAST_ROWS = 64, INPUTS = 1 << 17 };
static const size_t workspace_bytes = (size_t)256 << 20;

static size_t chunk_of(const coh_plan *p) {
  size_t rows = INPUTS / p->d_in;
  return rows > MOST_ROWS ? MOST_ROWS : rows < LEAST_ROWS ? LEAST_ROWS : rows;
}

/* Members that one pass takes: as many as fit the workspace; small networks need none. */
static size_t group_of(const coh_trainer *t, size_t chunk) {
  if (coh_plan_is_small(&t->plan, t->dev)) return t->count;
  size_t one = coh_workspace_bytes(&t->plan, COH_F64, 1, chunk, true);
  size_t fits = workspace_bytes / one;
  if (fits < 1) fits = 1;
  return fits < t->count ? fits : t->count;
}

/* What adding by the optimiser's kernel takes. */
static int create_rates(coh_device *dev, coh_objective *o, coh_error *err) {
  int rc;
  double *rate = NULL;
  size_t bytes = o->group * sizeof *rate;
  coh_pace pace = coh_pace_of(COH_SGD, 0, 0, 1);
  COH_TRY(coh_alloc(&rate, o->group, sizeof *rate, err));
  for (size_t i = 0; i < o->group; i++) rate[i] = -1;
  COH_TRY(dev->ops->alloc(dev, bytes, (void **)&o->rate, err));
  COH_TRY(dev->ops->alloc(dev, bytes, (void **)&o->zero, err));
  COH_TRY(dev->ops->alloc(dev, sizeof pace, (void **)&o->pace, err));
  COH_TRY(dev->ops->upload(dev, o->rate, rate, bytes, err));
  COH_TRY(dev->ops->upload(dev, o->pace, &pace, sizeof pace, err));
cleanup:
  free(rate);
  return rc;
}

int coh_objective_create(coh_trainer *t, coh_objective *o, coh_error *err) {
  int rc;
  coh_device *dev = t->dev;
  size_t bytes = t->count * t->plan.P * sizeof(double);
  *o = (coh_objective){.t = t, .chunk = chunk_of(&t->plan)};
  o->group = group_of(t, o->chunk);
  coh_grid_rows(t->grid, t->train.host->n, &o->first, &o->rows);
  COH_TRY(coh_ensemble_create(&t->plan, dev, t->count, &o->ens, err));
  if (!coh_plan_is_small(&t->plan, dev))
    COH_TRY(coh_workspace_create(&t->plan, dev, o->group, o->chunk, true, &o->work, err));
  COH_TRY(dev->ops->alloc(dev, bytes, &o->sum, err));
  COH_TRY(dev->ops->alloc(dev, t->count * sizeof(double), (void **)&o->loss, err));
  COH_TRY(create_rates(dev, o, err));
cleanup:
  return rc;
}

void coh_objective_destroy(coh_objective *o) {
  if (!o->t) return;
  coh_device *dev = o->t->dev;
  coh_workspace_destroy(o->work);
  coh_ensemble_destroy(o->ens);
  dev->ops->free(dev, o->sum);
  dev->ops->free(dev, o->loss);
  dev->ops->free(dev, o->rate);
  dev->ops->free(dev, o->zero);
  dev->ops->free(dev, o->pace);
  *o = (coh_objective){0};
}

/* sum += gradients of the group: a step of plain descent at rate -1. */
static int add_gradients(const coh_objective *o, const coh_ensemble *group, void *sum,
                         coh_error *err) {
  coh_step_args a = {.kind = COH_SGD,
                     .N = group->N,
                     .P = group->plan.P,
                     .pace = o->pace,
                     .lr = o->rate,
                     .wd = o->zero,
                     .w = sum,
                     .g = group->grads};
  return group->dev->ops->step(group->dev, &a, err);
}

/* Rows [at, at + rows) for members first, first + 1, ... of the ensemble. */
static int pass(coh_objective *o, size_t first, size_t members, size_t at, size_t rows,
                coh_error *err) {
  int rc;
  coh_trainer *t = o->t;
  size_t P = t->plan.P, O = t->plan.n_out;
  bool mse = t->spec.loss == COH_MSE;
  const double *x = (const double *)t->train.x + at * t->plan.d_in;
  coh_target target = {.y = mse ? (const double *)t->train.y + at * O : NULL,
                       .labels = mse ? NULL : t->train.labels + at,
                       .scale = 1.0 / (double)t->train.host->n,
                       .loss = o->loss + first};
  coh_ensemble group = *o->ens;
  group.N = members;
  group.params = (double *)o->ens->params + first * P;
  group.grads = (double *)o->ens->grads + first * P;
  COH_TRY(coh_gradients(&group, o->work, rows, x, 0, &target, err));
  COH_TRY(add_gradients(o, &group, (double *)o->sum + first * P, err));
cleanup:
  return rc;
}

int coh_objective_eval(coh_objective *o, size_t N, const double *x, double *loss,
                       double *grad, coh_error *err) {
  int rc;
  coh_trainer *t = o->t;
  const coh_device_ops *ops = t->dev->ops;
  size_t bytes = N * t->plan.P * sizeof(double);
  COH_TRY(ops->upload(t->dev, o->ens->params, x, bytes, err));
  COH_TRY(ops->zero(t->dev, o->sum, bytes, err));
  COH_TRY(ops->zero(t->dev, o->loss, N * sizeof *loss, err));
  for (size_t at = o->first; at < o->first + o->rows; at += o->chunk) {
    size_t left = o->first + o->rows - at, rows = left < o->chunk ? left : o->chunk;
    for (size_t i = 0; i < N; i += o->group)
      COH_TRY(pass(o, i, N - i < o->group ? N - i : o->group, at, rows, err));
  }
  COH_TRY(coh_reducer_sum(t->reducer, COH_F64, N, o->loss, err));
  COH_TRY(coh_reducer_sum(t->reducer, COH_F64, N * t->plan.P, o->sum, err));
  COH_TRY(ops->download(t->dev, loss, o->loss, N * sizeof *loss, err));
  COH_TRY(ops->download(t->dev, grad, o->sum, bytes, err));
  for (size_t i = 0; i < N; i++) loss[i] /= (double)t->train.host->n;
cleanup:
  return rc;
}
