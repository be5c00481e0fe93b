/* evaluate.c - mean loss and accuracy of every member over a whole data set. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

enum { CHUNK = 1024 }; /* rows of one forward */

/* Device memory of one evaluation. */
typedef struct evaluation {
  coh_ensemble *ens; /* the whole block, finished members included */
  size_t group;      /* members of one forward */
  coh_workspace *work;
  coh_device_data data;
  bool own_data;
  double *loss, *correct; /* device [count] */
} evaluation;

static void evaluation_end(coh_trainer *t, evaluation *e) {
  coh_workspace_destroy(e->work);
  coh_ensemble_destroy(e->ens);
  if (e->own_data) coh_device_data_destroy(t->dev, &e->data);
  t->dev->ops->free(t->dev, e->loss);
  t->dev->ops->free(t->dev, e->correct);
}

/* As many members as a workspace of a fixed size holds. */
static size_t group_size(const coh_trainer *t) {
  size_t one = coh_workspace_bytes(&t->plan, t->dev->dtype, 1, CHUNK, false);
  size_t fits = COH_EVALUATION_BYTES / one;
  if (fits < 1) fits = 1;
  return fits < t->count ? fits : t->count;
}

static int evaluation_begin(coh_trainer *t, const coh_dataset *d, evaluation *e,
                            coh_error *err) {
  int rc;
  coh_device *dev = t->dev;
  size_t bytes = t->count * sizeof(double);
  void *params = NULL;
  if (d == t->test && !t->test_data.host)
    COH_TRY(coh_device_data_create(dev, d, &t->test_data, err));
  if (d == t->train.host) {
    e->data = t->train;
  } else if (d == t->test) {
    e->data = t->test_data;
  } else {
    e->own_data = true;
    COH_TRY(coh_device_data_create(dev, d, &e->data, err));
  }
  COH_TRY(coh_alloc(&params, t->count * t->plan.P, coh_dtype_size(dev->dtype), err));
  COH_TRY(coh_trainer_rows(t, 0, params, err));
  COH_TRY(coh_ensemble_create(&t->plan, dev, t->count, &e->ens, err));
  COH_TRY(coh_ensemble_set(e->ens, params, err));
  e->group = group_size(t);
  COH_TRY(coh_workspace_create(&t->plan, dev, e->group, CHUNK, false, &e->work, err));
  COH_TRY(dev->ops->alloc(dev, bytes, (void **)&e->loss, err));
  COH_TRY(dev->ops->alloc(dev, bytes, (void **)&e->correct, err));
cleanup:
  free(params);
  return rc;
}

/* Members [first, first + count) of the block on rows [at, at + rows). */
static int evaluate_group(coh_trainer *t, evaluation *e, size_t first, size_t count,
                          size_t at, size_t rows, coh_error *err) {
  int rc;
  size_t size = coh_dtype_size(t->dev->dtype), O = t->plan.n_out;
  const char *x = (const char *)e->data.x + at * t->plan.d_in * size;
  bool mse = t->spec.loss == COH_MSE;
  void *out;
  coh_ensemble group = *e->ens;
  group.N = group.capacity = count;
  group.params = (char *)e->ens->params + first * t->plan.P * size;
  COH_TRY(coh_forward(&group, e->work, rows, x, 0, false, &out, err));
  const coh_loss_args loss = {.N = count,
                              .B = rows,
                              .O = O,
                              .out = out,
                              .y = mse ? (char *)e->data.y + at * O * size : NULL,
                              .labels = mse ? NULL : e->data.labels + at,
                              .scale = 1,
                              .loss = e->loss + first,
                              .correct = e->correct + first};
  COH_TRY(t->dev->ops->loss(t->dev, &loss, err));
cleanup:
  return rc;
}

static int evaluate_chunk(coh_trainer *t, evaluation *e, size_t at, size_t rows,
                          coh_error *err) {
  int rc = COH_OK;
  for (size_t first = 0; first < t->count; first += e->group) {
    size_t left = t->count - first, count = left < e->group ? left : e->group;
    COH_TRY(evaluate_group(t, e, first, count, at, rows, err));
  }
cleanup:
  return rc;
}

/* Sums over the set of this rank's block: [count] each. Replicas take turns at the
 * chunks. */
static int evaluate_block(coh_trainer *t, const coh_dataset *d, double *loss,
                          double *correct, coh_error *err) {
  int rc = COH_OK;
  evaluation e = {0};
  size_t turn = (size_t)t->grid->replica_rank, turns = (size_t)t->grid->n_replica;
  COH_TRY(evaluation_begin(t, d, &e, err));
  for (size_t at = turn * CHUNK; at < d->n; at += turns * CHUNK) {
    size_t rows = d->n - at < CHUNK ? d->n - at : CHUNK;
    COH_TRY(evaluate_chunk(t, &e, at, rows, err));
  }
  COH_TRY(coh_reducer_sum(t->reducer, COH_F64, t->count, e.loss, err));
  COH_TRY(coh_reducer_sum(t->reducer, COH_F64, t->count, e.correct, err));
  COH_TRY(t->dev->ops->download(t->dev, loss, e.loss, t->count * sizeof *loss, err));
  COH_TRY(
      t->dev->ops->download(t->dev, correct, e.correct, t->count * sizeof *loss, err));
cleanup:
  evaluation_end(t, &e);
  return rc;
}

/* Every rank's sums [count] to means of all members [N]. */
static int share(coh_trainer *t, size_t n, const double *local, double *all,
                 coh_error *err) {
  if (!all) return COH_OK;
  int rc = coh_grid_allgather_rows(t->grid, t->N, sizeof *all, local, all, err);
  for (size_t i = 0; i < t->N && !rc; i++) all[i] /= (double)n;
  return rc;
}

int coh_trainer_evaluate(coh_trainer *t, const coh_dataset *d, double *loss,
                         double *accuracy, coh_error *err) {
  int rc = COH_OK;
  double *sum = NULL, *correct = NULL;
  COH_TRY(coh_alloc(&sum, t->count, sizeof *sum, err));
  COH_TRY(coh_alloc(&correct, t->count, sizeof *correct, err));
  COH_TRY(coh_reducer_settle(t->reducer, err)); /* uploads wait for the steps, too */
  if (t->count > 0) COH_TRY(evaluate_block(t, d, sum, correct, err));
  COH_TRY(share(t, d->n, sum, loss, err));
  COH_TRY(share(t, d->n, correct, accuracy, err));
  for (size_t n = 0; accuracy && !d->labels && n < t->N; n++) accuracy[n] = NAN;
cleanup:
  free(sum);
  free(correct);
  return rc;
}
