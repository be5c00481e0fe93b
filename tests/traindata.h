/* traindata.h - a small regression problem and one training of it, for tests of the loop
 * at any number of ranks. Include after cmocka.h; checkpoints lie in the scratch folder.
 */
#ifndef COHORT_TESTS_TRAINDATA_H
#define COHORT_TESTS_TRAINDATA_H

#include <unistd.h>

#include "cohort/train.h"
#include "scratch.h"

enum { TC_SAMPLES = 203, TC_INPUTS = 7, TC_OUTPUTS = 3, TC_BATCH = 32, TC_MAX = 16 };

typedef struct train_case {
  size_t N;
  bool alone; /* this rank by itself, whatever the others do */
  coh_dtype dtype;
  int plateau;
  int64_t replicas;       /* 0 = 1 */
  int64_t replicas_after; /* a stop; 0 = as before */
  uint64_t first_id;
  uint64_t epochs; /* 0 = 8 */
  int poison;      /* NaN in the first parameter of this member; 0 = none */
  size_t runs;     /* members of tc_runs[0], tc_runs[1], ... ; 0 = one run */
  size_t first_run;
  const coh_device_ops *ops; /* of the device; NULL: the CPU's */
  bool large;                /* the device takes all members at once */
  size_t hidden;             /* 0 = 6 */
  int state[TC_MAX];         /* results */
  uint64_t step[TC_MAX];
  double first_loss[TC_MAX], last_loss[TC_MAX], epoch_loss[TC_MAX], lr[TC_MAX];
} train_case;

#define TC_OK(call) assert_string_equal((call) ? err.text : "", "")

static void tc_dataset(coh_dtype dtype, coh_dataset *d) {
  coh_error err = {0};
  *d = (coh_dataset){.dtype = dtype,
                     .n = TC_SAMPLES,
                     .d_in = TC_INPUTS,
                     .shape = {TC_INPUTS, 1, 1},
                     .n_out = TC_OUTPUTS};
  TC_OK(coh_alloc(&d->x, d->n * d->d_in, coh_dtype_size(dtype), &err));
  TC_OK(coh_alloc(&d->y, d->n * d->n_out, coh_dtype_size(dtype), &err));
  for (size_t i = 0; i < d->n; i++)
    for (size_t o = 0; o < TC_OUTPUTS; o++) {
      double sum = 0;
      for (size_t k = 0; k < TC_INPUTS; k++) {
        double x = coh_random_normal(5, COH_RNG_TEST, i, k);
        coh_put(dtype, d->x, i * TC_INPUTS + k, x);
        sum += x * coh_random_normal(6, COH_RNG_TEST, o, k);
      }
      coh_put(dtype, d->y, i * TC_OUTPUTS + o, tanh(sum));
    }
}

/* Little patience: by their own plateaus members drop their lr and end at different
 * epochs. */
static coh_train_spec tc_spec(const train_case *c, const coh_dataset *d) {
  uint64_t epoch = coh_epoch_length(d->n, TC_BATCH), epochs = c->epochs ? c->epochs : 8;
  return (coh_train_spec){.optimizer = COH_ADAM,
                          .lr = 0.01,
                          .end = epochs * epoch,
                          .batch = TC_BATCH,
                          .order_seed = 3,
                          .loss = COH_MSE,
                          .plateau = (coh_plateau)c->plateau,
                          .patience = 0,
                          .cooldown = 0,
                          .threshold = 0.22,
                          .factor = 0.1,
                          .min_lr = 1e-3};
}

typedef struct tc_hooks {
  uint64_t stop_at;
  const char *path;
  const coh_grid *grid;
  const coh_trainer *trainer;
} tc_hooks;

static bool tc_stop(void *ctx) {
  tc_hooks *h = ctx;
  coh_train_status s;
  coh_trainer_status(h->trainer, &s);
  return h->stop_at > 0 && s.step >= h->stop_at;
}

static int tc_save(void *ctx, coh_trainer *t, coh_error *err) {
  tc_hooks *h = ctx;
  coh_archive *a = NULL;
  int rc = coh_archive_create(h->path, "test", 1, h->grid->world, &a, err);
  if (!rc) rc = coh_trainer_save(t, a, err);
  return rc ? (coh_archive_abandon(a), rc) : coh_archive_commit(a, err);
}

enum { TC_RUNS = 5 };

/* Runs that differ in all that runs of one ensemble may differ in. */
static coh_train_run tc_run_of(const train_case *c, const coh_train_spec *spec,
                               size_t r) {
  static const size_t members[TC_RUNS] = {1, 3, 2, 1, 2};
  static const uint64_t order[TC_RUNS] = {3, 3, 4, 9, 9};
  static const coh_plateau plateau[TC_RUNS] = {COH_PLATEAU_NONE, COH_PLATEAU_SHARED,
                                               COH_PLATEAU_MEMBER, COH_PLATEAU_MEMBER,
                                               COH_PLATEAU_NONE};
  coh_train_run run = {.members = members[r], .spec = *spec};
  run.spec.lr = 0.02 / (double)(r + 1);
  run.spec.weight_decay = r % 2 ? 0.01 : 0;
  run.spec.order_seed = order[r];
  run.spec.plateau = plateau[r];
  run.spec.warmup = r == 4 ? 9 : 0;
  run.spec.n_milestones = r == 4;
  run.spec.milestone[0] = 20;
  run.start = (coh_train_start){.seed = 11 + r / 2, .first_id = c->first_id};
  run.start.fan = r == 1 ? COH_FAN_TENSOR : COH_FAN_STUDENT;
  return run;
}

static void tc_set_runs(const train_case *c, const coh_train_spec *spec, coh_trainer *t) {
  coh_error err = {0};
  coh_train_run run[TC_RUNS];
  for (size_t r = 0; r < c->runs; r++) run[r] = tc_run_of(c, spec, c->first_run + r);
  TC_OK(coh_trainer_runs(t, c->runs, run, &err));
}

static void tc_start(const train_case *c, coh_trainer *t) {
  coh_error err = {0};
  coh_config cfg;
  if (c->runs > 0) {
    TC_OK(coh_trainer_start(t, &err));
    return;
  }
  coh_config_defaults(&cfg, COH_JOB_TRAIN);
  cfg.experiment.seed = 11;
  TC_OK(coh_trainer_init(t, &cfg, c->first_id, &err));
  if (!c->poison) return;
  size_t first, count;
  coh_trainer_block(t, &first, &count);
  coh_train_status s;
  coh_trainer_status(t, &s);
  size_t P = (TC_INPUTS + 1) * 6 + 7 * TC_OUTPUTS;
  void *params;
  TC_OK(coh_alloc(&params, count * P, coh_dtype_size(c->dtype), &err));
  TC_OK(coh_trainer_get(t, params, &err));
  size_t bad = (size_t)c->poison;
  if (bad >= first && bad < first + count)
    coh_put(c->dtype, params, (bad - first) * P, NAN);
  TC_OK(coh_trainer_set(t, params, &err));
  free(params);
}

/* What the pieces of a training have in common. */
typedef struct tc_run {
  coh_device *dev;
  coh_dataset data;
  coh_plan plan;
  coh_train_spec spec;
  char path[512];
  void *all; /* [N, P] */
} tc_run;

static void tc_run_make(const train_case *c, tc_run *r) {
  coh_error err = {0};
  size_t sizes[3] = {TC_INPUTS, c->hidden ? c->hidden : 6, TC_OUTPUTS};
  char name[64] = "train.h5";
  if (c->alone) snprintf(name, sizeof name, "train-%ld.h5", (long)getpid());
  snprintf(r->path, sizeof r->path, "%s", scratch(name));
  TC_OK(coh_device_open(COH_DEVICE_CPU, c->dtype, &r->dev, &err));
  if (c->ops) r->dev->ops = c->ops;
  if (c->large) r->dev->cache_bytes = 0;
  tc_dataset(c->dtype, &r->data);
  TC_OK(coh_plan_dense(2, sizes, COH_TANH, NULL, &r->plan, &err));
  r->spec = tc_spec(c, &r->data);
  TC_OK(coh_alloc(&r->all, c->N * r->plan.P, coh_dtype_size(c->dtype), &err));
}

static void tc_restore(const coh_grid *grid, const char *path, coh_trainer *t) {
  coh_error err = {0};
  coh_archive *a;
  TC_OK(coh_archive_open(path, "test", 1, grid->world, &a, &err));
  TC_OK(coh_trainer_restore(t, a, false, &err));
  coh_archive_abandon(a);
}

static void tc_results(train_case *c, tc_run *r, coh_trainer *t) {
  coh_error err = {0};
  coh_train_status s;
  TC_OK(coh_trainer_evaluate(t, &r->data, c->last_loss, NULL, &err));
  TC_OK(coh_trainer_gather(t, r->all, &err));
  coh_trainer_status(t, &s);
  for (size_t n = 0; n < c->N; n++) {
    c->state[n] = s.member[n].state;
    c->epoch_loss[n] = s.member[n].loss;
    c->lr[n] = s.member[n].lr;
    c->step[n] = s.member[n].step;
  }
}

/* From the start, or from the checkpoint; to the end, or to the first poll at or after
 * step stop_at > 0, with a checkpoint at every poll. */
static void tc_piece(train_case *c, tc_run *r, int64_t replicas, bool resumes,
                     uint64_t stop_at, uint64_t save_steps) {
  coh_error err = {0};
  coh_grid grid;
  coh_trainer *t;
  tc_hooks ctx = {.stop_at = stop_at, .path = r->path, .grid = &grid};
  coh_train_hooks hooks = {
      .ctx = &ctx, .stop = tc_stop, .save = tc_save, .save_steps = save_steps};
  MPI_Comm comm = c->alone ? MPI_COMM_SELF : MPI_COMM_WORLD;
  TC_OK(coh_grid_create(comm, replicas, &grid, &err));
  TC_OK(coh_trainer_create(&grid, r->dev, &r->plan, c->N, &r->data, NULL, &r->spec,
                           &hooks, &t, &err));
  ctx.trainer = t;
  if (c->runs > 0) tc_set_runs(c, &r->spec, t);
  if (resumes) {
    tc_restore(&grid, r->path, t);
  } else {
    tc_start(c, t);
    TC_OK(coh_trainer_evaluate(t, &r->data, c->first_loss, NULL, &err));
  }
  assert_int_equal(coh_trainer_run(t, &err), stop_at > 0 ? COH_ESTOP : COH_OK);
  tc_results(c, r, t);
  coh_trainer_destroy(t);
  if (grid.rank == 0 && stop_at == 0) unlink(r->path);
  coh_grid_destroy(&grid);
}

/* One training; if cut > 0 in two processes' worth of trainers, stopped at step `cut`,
 * restored, run on. Returns all [N, P] on rank 0, zeros elsewhere. */
static char *train_case_run(train_case *c, uint64_t cut, size_t *bytes) {
  tc_run r;
  int64_t before = c->replicas ? c->replicas : 1;
  int64_t after = c->replicas_after ? c->replicas_after : before;
  tc_run_make(c, &r);
  if (cut > 0) tc_piece(c, &r, before, false, cut, cut);
  tc_piece(c, &r, cut > 0 ? after : before, cut > 0, 0, cut);
  *bytes = c->N * r.plan.P * coh_dtype_size(c->dtype);
  coh_dataset_free(&r.data);
  coh_device_close(r.dev);
  return r.all;
}

#endif
