/* test_compress.c - sixteen runs of all procedures as one ensemble, at any number of
 * ranks and with a stop in between, against each of them by itself: the same bits. */
#include "mpi_main.h"

#include <math.h>
#include <string.h>

#include "cohort/compress.h"

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

enum { RUNS = 16 };

/* What a training leaves. */
typedef struct outcome {
  size_t P;
  void *params; /* [N, P] on rank 0 */
  coh_compress_result result[RUNS];
  coh_member member[RUNS];
} outcome;

typedef struct problem {
  coh_device *dev;
  coh_compress_data data;
  coh_plan plan;
  coh_compress_spec spec[RUNS];
  coh_train_run run[RUNS];
} problem;

/* Small and quick, but through all that can happen: both phases end by themselves or at
 * their last epoch, best states are returned, shrinking, regressions, neurons deleted. */
static void configure(coh_config *cfg, size_t n, bool labels) {
  coh_config_defaults(cfg, COH_JOB_COMPRESS);
  snprintf(cfg->dataset.name, 64, labels ? "file" : "teacher_student");
  snprintf(cfg->model.name, 64, "dense_2_9_7_1");
  cfg->model.activation = labels ? COH_RELU : COH_TANH;
  cfg->training.batch_size = 24;
  cfg->compress.train_set_size = 70; /* the last batch is short */
  cfg->compress.val_set_size = 40;
  cfg->compress.val_batch_size = 17;
  cfg->compress.test_set_size = 50;
  cfg->compress.prune_window = 5;
  cfg->compress.smoothing_window = 12;
  cfg->compress.min_epochs = 20;
  cfg->compress.max_epochs = 90;
  cfg->compress.finetuning_min_epochs = 15;
  cfg->compress.finetuning_max_epochs = 33;
  if (n == SIZE_MAX) return;
  cfg->compress.procedure = (int)(n % 6);
  cfg->training.lr = n % 2 ? 3e-3 : 1e-2;
  cfg->compress.alpha = n == 6 ? 0 : 0.003 * (double)(1 + n);
  cfg->compress.rho = n % 3 ? 0 : 1e-3;
  cfg->compress.l1_alpha = n % 4 ? 0 : 1e-3;
  cfg->compress.norm = labels && n == 8;
  cfg->compress.gauss_loss = labels || n % 5 == 1 ? COH_GAUSS_FALSE : COH_GAUSS_AUTO;
  cfg->compress.shrinking = n % 3 == 1;
  cfg->compress.finetuning_shrinking = n % 4 == 3;
  cfg->compress.converge_val_loss = n % 7 != 2;
  cfg->compress.finetuning_converge_val_loss = n % 5 != 3;
  cfg->compress.delete_neurons = n % 2 == 0;
  cfg->compress.layerwise_pruning = n == 9;
  cfg->compress.tamade_data = n % 4 == 1 ? COH_TAMADE_VAL : COH_TAMADE_TRAIN;
  cfg->compress.random_gradient_pruning = n != 12;
  cfg->compress.max_epochs = n == 5 ? 31 : 90;
  cfg->compress.initial_u_value = n % 2 ? 1 : 0;
}

/* Class: the side of a curve. */
static void to_labels(coh_dataset *d) {
  const void *y = d->y;
  OK(coh_alloc(&d->labels, d->n, sizeof *d->labels, &err));
  for (size_t i = 0; i < d->n; i++)
    d->labels[i] = (int32_t)(coh_get(d->dtype, y, i) > coh_get(d->dtype, d->x, 2 * i));
  free(d->y);
  d->y = NULL;
  d->n_out = 2;
}

static void make(problem *p, coh_dtype dtype, bool labels) {
  coh_config cfg;
  coh_plan teacher;
  size_t members;
  uint64_t end = 0;
  configure(&cfg, SIZE_MAX, labels);
  OK(coh_device_open_cpu(NULL, dtype, &p->dev, &err));
  OK(coh_teacher_student(&cfg, dtype, &p->data, &teacher, NULL, &err));
  if (labels)
    to_labels(&p->data.train), to_labels(&p->data.val), to_labels(&p->data.test);
  const char *name = labels ? "dense_2_70_6_2" : cfg.model.name; /* wide: no small net */
  OK(coh_plan_parse(name, labels ? COH_RELU : COH_TANH, 0, &p->plan, &members, &err));
  for (size_t n = 0; n < RUNS; n++) {
    configure(&cfg, n, labels);
    cfg.experiment.seed = (int64_t)(100 + n / 4); /* of the start; the data are given */
    OK(coh_compress_spec_of(&cfg, &p->data.train, &p->spec[n], &err));
    OK(coh_compress_run_of(&cfg, &p->data.train, &p->run[n], &err));
    if (p->run[n].spec.end > end) end = p->run[n].spec.end;
  }
  for (size_t n = 0; n < RUNS; n++) p->run[n].spec.end = end;
}

static void unmake(problem *p) {
  coh_compress_data_free(&p->data);
  coh_device_close(p->dev);
}

typedef struct stopping {
  const coh_grid *grid;
  const coh_trainer *trainer;
  const char *path;
  uint64_t at;
} stopping;

static bool stop(void *ctx) {
  const stopping *s = ctx;
  coh_train_status status;
  coh_trainer_status(s->trainer, &status);
  return s->at > 0 && status.step >= s->at;
}

static int save(void *ctx, coh_trainer *t, coh_error *e) {
  const stopping *s = ctx;
  coh_archive *a = NULL;
  int rc = coh_archive_create(s->path, "test", 1, s->grid->world, &a, e);
  if (!rc) rc = coh_trainer_save(t, a, e);
  return rc ? (coh_archive_abandon(a), rc) : coh_archive_commit(a, e);
}

/* Trains runs [first, first + N) to the end or to step `at`, from the start or from where
 * the file stands. */
static int piece(problem *p, MPI_Comm comm, size_t first, size_t N, const char *path,
                 uint64_t at, bool resumes, outcome *out) {
  coh_grid grid;
  coh_trainer *t = NULL;
  coh_compress *c = NULL;
  coh_archive *a = NULL;
  stopping s = {.path = path, .at = at};
  OK(coh_grid_create(comm, 1, &grid, &err));
  s.grid = &grid;
  const coh_train_hooks hooks = {.ctx = &s,
                                 .stop = path ? stop : NULL,
                                 .save = path ? save : NULL,
                                 .save_steps = at};
  OK(coh_trainer_create(&grid, p->dev, &p->plan, N, &p->data.train, NULL,
                        &p->run[first].spec, &hooks, &t, &err));
  s.trainer = t;
  OK(coh_trainer_runs(t, N, p->run + first, &err));
  OK(coh_compress_create(&grid, p->dev, &p->plan, N, p->spec + first, &p->data, 0, &c,
                         &err));
  OK(coh_trainer_method(t, coh_compress_method(c), &err));
  if (resumes) {
    OK(coh_archive_open(path, "test", 1, comm, &a, &err));
    OK(coh_trainer_restore(t, a, false, &err));
    OK(coh_archive_commit(a, &err));
  } else {
    OK(coh_trainer_start(t, &err));
  }
  int rc = coh_trainer_run(t, &err);
  if (rc == COH_OK) {
    coh_train_status status;
    size_t size = coh_dtype_size(p->dev->dtype);
    out->P = p->plan.P;
    OK(coh_alloc(&out->params, N * out->P, size, &err));
    OK(coh_trainer_gather(t, out->params, &err));
    OK(coh_compress_results(c, t, out->result, &err));
    coh_trainer_status(t, &status);
    memcpy(out->member, status.member, N * sizeof *out->member);
  }
  coh_compress_destroy(c);
  coh_trainer_destroy(t);
  coh_grid_destroy(&grid);
  return rc;
}

/* As doubles, with NaN equal to itself. */
static void same_results(const coh_compress_result *a, const coh_compress_result *b,
                         size_t run) {
  const double *x = (const double *)a, *y = (const double *)b;
  for (size_t i = 0; i < sizeof *a / sizeof *x; i++)
    if (!(x[i] == y[i] || (isnan(x[i]) && isnan(y[i]))))
      fail_msg("run %zu, number %zu: %.17g, by itself %.17g", run, i, x[i], y[i]);
}

static void compare(problem *p, const outcome *all) {
  size_t row = p->plan.P * coh_dtype_size(p->dev->dtype);
  for (size_t n = 0; n < RUNS; n++) {
    outcome one = {0};
    OK(piece(p, MPI_COMM_SELF, n, 1, NULL, 0, false, &one));
    same_results(&all->result[n], &one.result[0], n);
    assert_int_equal(all->member[n].state, one.member[0].state);
    assert_int_equal(all->member[n].step, one.member[0].step);
    if (mpi_rank == 0 && memcmp((char *)all->params + n * row, one.params, row) != 0)
      fail_msg("run %zu: other parameters than by itself", n);
    free(one.params);
  }
}

static void check_case(coh_dtype dtype, bool labels, uint64_t cut) {
  problem p = {0};
  outcome all = {0};
  char path[512];
  snprintf(path, sizeof path, "%s/checkpoint.h5", scratch_folder);
  make(&p, dtype, labels);
  if (cut) {
    assert_int_equal(piece(&p, MPI_COMM_WORLD, 0, RUNS, path, cut, false, &all),
                     COH_ESTOP);
    OK(piece(&p, MPI_COMM_WORLD, 0, RUNS, path, 0, true, &all));
  } else {
    OK(piece(&p, MPI_COMM_WORLD, 0, RUNS, NULL, 0, false, &all));
  }
  compare(&p, &all);
  free(all.params);
  unmake(&p);
}

static void regression_as_one_ensemble(void) {
  check_case(COH_F32, false, 0);
  check_case(COH_F64, false, 0);
}

static void classes_as_one_ensemble(void) {
  check_case(COH_F32, true, 0);
}

/* In the regularised phase in the middle of an epoch, at the end of one, and when some
 * members have left. */
static void stops_and_resumes(void) {
  check_case(COH_F32, false, 41);
  check_case(COH_F32, false, 120);
  check_case(COH_F64, false, 301);
}

/* The ensemble does what it is for: all kinds of ends are met, and parameters go. */
static void many_ways_to_end(void) {
  problem p = {0};
  outcome all = {0};
  size_t early = 0, late = 0, pruned = 0, deleted = 0;
  make(&p, COH_F32, false);
  OK(piece(&p, MPI_COMM_WORLD, 0, RUNS, NULL, 0, false, &all));
  for (size_t n = 0; n < RUNS; n++) {
    const coh_compress_result *r = &all.result[n];
    assert_int_equal(all.member[n].state, COH_MEMBER_DONE);
    early += r->converged[0] != 0 || r->converged[1] != 0;
    late += r->converged[0] == 0;
    pruned += r->l0 < r->parameters;
    deleted += r->neurons_deleted > 0;
    if (p.spec[n].procedure == COH_NO_PROCEDURE) assert_true(r->l0 == r->parameters);
    const coh_compress_spec *spec = &p.spec[n];
    bool by_loss = !spec->gauss && !spec->layerwise[0] && !spec->tamade_val;
    if (by_loss && !spec->delete_neurons)
      assert_true(r->loss_pruned[0] <= r->loss_before[0] * (1.01 + 1e-5));
  }
  if (mpi_rank == 0 && !(early > 0 && late > 0 && pruned >= 10 && deleted > 0))
    fail_msg("%zu early, %zu late, %zu pruned, %zu with neurons deleted", early, late,
             pruned, deleted);
  free(all.params);
  unmake(&p);
}

static mpi_test tests[] = {
    MPI_TEST(regression_as_one_ensemble),
    MPI_TEST(classes_as_one_ensemble),
    MPI_TEST(stops_and_resumes),
    MPI_TEST(many_ways_to_end),
};
MPI_MAIN(tests)
