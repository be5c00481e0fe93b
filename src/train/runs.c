/* runs.c - an ensemble of several runs: which members are whose, which of them follow the
 * same order of the data, how they start. */
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

const coh_train_run *coh_member_run(const coh_trainer *t, size_t n) {
  return &t->run[t->run_of[n]];
}

/* What one step does to all members alike. */
static bool fits(const coh_train_spec *a, const coh_train_spec *b) {
  return a->optimizer == b->optimizer && a->nesterov == b->nesterov &&
         a->momentum == b->momentum && a->loss == b->loss && a->batch == b->batch &&
         a->end == b->end && a->evaluate_every == b->evaluate_every;
}

static int check_runs(const coh_trainer *t, size_t n, const coh_train_run *run,
                      coh_error *err) {
  size_t members = 0;
  for (size_t r = 0; r < n; r++) {
    members += run[r].members;
    if (!fits(&t->spec, &run[r].spec))
      return coh_fail(err, COH_EBUG, "run %zu of %zu does not fit into the ensemble", r,
                      n);
  }
  if (members != t->N)
    return coh_fail(err, COH_EBUG, "%zu members of %zu runs in an ensemble of %zu",
                    members, n, t->N);
  return COH_OK;
}

static void deal_members(coh_trainer *t) {
  size_t n = 0;
  for (size_t r = 0; r < t->n_run; r++)
    for (size_t i = 0; i < t->run[r].members; i++, n++) {
      t->run_of[n] = (uint32_t)r;
      t->member[n].lr = t->run[r].spec.lr;
    }
}

static uint64_t order_seed(const coh_trainer *t, size_t place) {
  return coh_member_run(t, t->first + place)->spec.order_seed;
}

/* Streams of the block and their batches. */
static int make_streams(coh_trainer *t, coh_error *err) {
  coh_trainer_changed(t);
  if (t->count == 0) return COH_OK;
  t->streams = 1;
  for (size_t i = 0; i < t->count; i++) {
    if (i > 0 && order_seed(t, i) != order_seed(t, i - 1)) t->streams++;
    t->stream[i] = (uint32_t)(t->streams - 1);
  }
  return coh_batch_create(t, err);
}

int coh_trainer_runs(coh_trainer *t, size_t n, const coh_train_run *run, coh_error *err) {
  int rc;
  coh_train_run *copy = NULL;
  COH_TRY(check_runs(t, n, run, err));
  COH_TRY(coh_alloc(&copy, n, sizeof *copy, err));
  memcpy(copy, run, n * sizeof *copy);
  free(t->run);
  t->run = copy;
  t->n_run = n;
  deal_members(t);
  rc = coh_agree(t->grid->world, make_streams(t, err), err);
cleanup:
  return rc;
}

int coh_trainer_one_run(coh_trainer *t, coh_error *err) {
  coh_train_run run = {.members = t->N, .spec = t->spec};
  return coh_trainer_runs(t, 1, &run, err);
}

/* ---- start --------------------------------------------------------------------------
 */

void coh_train_start_of(const coh_config *cfg, uint64_t first_id, coh_train_start *s) {
  *s = (coh_train_start){.seed = (uint64_t)cfg->experiment.seed,
                         .first_id = first_id,
                         .init = (coh_init)cfg->model.init,
                         .bias = (coh_init_bias)cfg->model.init_bias,
                         .fan = (coh_init_fan)cfg->model.init_fan};
}

/* Number of a member within its run. */
static size_t within_run(const coh_trainer *t, size_t n) {
  size_t i = 0;
  while (i < n && t->run_of[n - i - 1] == t->run_of[n]) i++;
  return i;
}

int coh_trainer_start(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype), i = 0;
  char *host = NULL;
  COH_TRY(coh_alloc(&host, t->count, row, err));
  for (size_t c = 0; c < t->count; c++) {
    size_t n = t->first + c;
    const coh_train_run *run = coh_member_run(t, n);
    i = c > 0 && t->run_of[n - 1] == t->run_of[n] ? i + 1 : within_run(t, n);
    COH_TRY(coh_plan_init(&t->plan, run->start.seed, run->start.first_id + i,
                          run->start.init, run->start.bias, run->start.fan,
                          run->start.total ? run->start.total : run->members,
                          t->dev->dtype, host + c * row, err));
  }
  COH_TRY(coh_trainer_set(t, host, err));
cleanup:
  free(host);
  return rc;
}

int coh_trainer_init(coh_trainer *t, const coh_config *cfg, uint64_t first_id,
                     coh_error *err) {
  if (t->n_run != 1) return coh_fail(err, COH_EBUG, "%zu runs started as one", t->n_run);
  coh_train_start_of(cfg, first_id, &t->run[0].start);
  return coh_trainer_start(t, err);
}
