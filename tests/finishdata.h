/* finishdata.h - small problems for tests of the finish at any number of ranks, and one
 * finish of them. Include after cmocka.h. */
#ifndef COHORT_TESTS_FINISHDATA_H
#define COHORT_TESTS_FINISHDATA_H

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cohort/train.h"

enum { FC_SAMPLES = 300, FC_INPUTS = 4, FC_HIDDEN = 3, FC_OUTPUTS = 2, FC_MAX = 16 };

/* Members start at the teacher, moved by `distance`; each somewhere else. */
typedef struct finish_case {
  size_t N;
  coh_finish_method method;
  coh_act act;
  bool deep;   /* two hidden layers, with skips */
  bool labels; /* cross entropy on the larger output's index, every fifth one wrong */
  double distance, noise; /* noise: of the targets */
  uint64_t steps;         /* 0 = 500 */
  double tolerance;
  bool alone;       /* this rank by itself, whatever the others do */
  int64_t replicas; /* 0 = 1 */
  uint64_t first_id;
  double poison; /* put into the first parameter of member 1 unless 0 */
  uint64_t cut;  /* stopped at the first poll at or after this round, then resumed */
  coh_finish_member member[FC_MAX]; /* results */
  double loss[FC_MAX];              /* of the trainer's evaluation afterwards */
  uint64_t rounds;
} finish_case;

#define FC_OK(call) assert_string_equal((call) ? err.text : "", "")

static void fc_plan(const finish_case *c, coh_plan *plan) {
  coh_error err = {0};
  const size_t one[] = {FC_INPUTS, FC_HIDDEN, FC_OUTPUTS};
  const size_t two[] = {FC_INPUTS, FC_HIDDEN, FC_HIDDEN, FC_OUTPUTS};
  const bool skip[] = {false, true, true};
  if (c->deep)
    FC_OK(coh_plan_dense(3, two, c->act, skip, plan, &err));
  else
    FC_OK(coh_plan_dense(2, one, c->act, NULL, plan, &err));
}

static void fc_teacher(const coh_plan *plan, double *w) {
  for (size_t k = 0; k < plan->P; k++) w[k] = coh_random_normal(8, COH_RNG_TEST, 1, k);
}

static void fc_label(coh_dataset *d) {
  coh_error err = {0};
  FC_OK(coh_alloc(&d->labels, d->n, sizeof *d->labels, &err));
  const double *y = d->y;
  for (size_t i = 0; i < d->n; i++) {
    int label = y[i * FC_OUTPUTS + 1] > y[i * FC_OUTPUTS];
    d->labels[i] = i % 5 == 0 ? 1 - label : label;
  }
  free(d->y);
  d->y = NULL;
}

static void fc_dataset(const finish_case *c, const coh_plan *plan, coh_device *dev,
                       coh_dataset *d) {
  coh_error err = {0};
  double *w = NULL;
  *d = (coh_dataset){.dtype = COH_F64,
                     .n = FC_SAMPLES,
                     .d_in = FC_INPUTS,
                     .shape = {FC_INPUTS, 1, 1},
                     .n_out = FC_OUTPUTS};
  FC_OK(coh_alloc(&w, plan->P, sizeof *w, &err));
  FC_OK(coh_alloc(&d->x, d->n * d->d_in, sizeof(double), &err));
  FC_OK(coh_alloc(&d->y, d->n * d->n_out, sizeof(double), &err));
  for (size_t i = 0; i < d->n * d->d_in; i++)
    ((double *)d->x)[i] = coh_random_normal(5, COH_RNG_TEST, 0, i);
  fc_teacher(plan, w);
  FC_OK(coh_network_apply(plan, dev, w, plan->L - 1, d->n, d->x, d->y, &err));
  for (size_t i = 0; i < d->n * d->n_out; i++)
    ((double *)d->y)[i] += c->noise * coh_random_normal(6, COH_RNG_TEST, 0, i);
  if (c->labels) fc_label(d);
  free(w);
}

/* Row of member `id`. */
static void fc_start(const finish_case *c, const coh_plan *plan, uint64_t id, double *w) {
  fc_teacher(plan, w);
  for (size_t k = 0; k < plan->P; k++)
    w[k] += c->distance * coh_random_normal(9, COH_RNG_TEST, id, k);
  if (c->poison != 0 && id == 1) w[0] = c->poison;
}

typedef struct fc_hooks {
  uint64_t stop_at;
  const char *path;
  const coh_grid *grid;
  const coh_finisher *finisher;
} fc_hooks;

static bool fc_stop(void *ctx) {
  fc_hooks *h = ctx;
  coh_finish_status s;
  coh_finisher_status(h->finisher, &s);
  return h->stop_at > 0 && s.round >= h->stop_at;
}

static int fc_save(void *ctx, coh_finisher *f, coh_error *err) {
  fc_hooks *h = ctx;
  coh_archive *a = NULL;
  int rc = coh_archive_create(h->path, "test", 1, h->grid->world, &a, err);
  if (!rc) rc = coh_finisher_save(f, a, err);
  return rc ? (coh_archive_abandon(a), rc) : coh_archive_commit(a, err);
}

/* One finisher's life; true if it came to its end. */
static bool fc_piece(finish_case *c, const coh_grid *grid, coh_trainer *t, bool first,
                     const char *path) {
  coh_error err = {0};
  coh_finisher *f;
  coh_finish_status s;
  fc_hooks ctx = {.stop_at = first ? c->cut : 0, .path = path, .grid = grid};
  coh_finish_hooks hooks = {
      .ctx = &ctx, .stop = fc_stop, .save = fc_save, .save_steps = c->cut};
  coh_finish_spec spec = {c->method, c->steps ? c->steps : 500, c->tolerance};
  FC_OK(coh_finisher_create(t, &spec, c->cut > 0 ? &hooks : NULL, &f, &err));
  ctx.finisher = f;
  if (!first) {
    coh_archive *a;
    FC_OK(coh_archive_open(path, "test", 1, grid->world, &a, &err));
    FC_OK(coh_finisher_restore(f, a, &err));
    coh_archive_abandon(a);
  }
  int rc = coh_finisher_run(f, &err);
  assert_true(rc == COH_OK || (rc == COH_ESTOP && first && c->cut > 0));
  coh_finisher_status(f, &s);
  memcpy(c->member, s.member, c->N * sizeof *s.member);
  c->rounds = s.round;
  coh_finisher_destroy(f);
  return rc == COH_OK;
}

static void fc_set(const finish_case *c, const coh_plan *plan, coh_trainer *t) {
  coh_error err = {0};
  size_t first, count;
  double *w = NULL;
  coh_trainer_block(t, &first, &count);
  FC_OK(coh_alloc(&w, count * plan->P, sizeof *w, &err));
  for (size_t i = 0; i < count; i++)
    fc_start(c, plan, c->first_id + first + i, w + i * plan->P);
  if (count > 0) FC_OK(coh_trainer_set(t, w, &err));
  free(w);
}

/* A finish, in two processes' worth of trainers if cut > 0. Returns all [N, P] on rank 0,
 * zeros elsewhere. */
static double *finish_case_run(finish_case *c, size_t *bytes) {
  coh_error err = {0};
  coh_grid grid;
  coh_device *dev;
  coh_dataset d;
  coh_plan plan;
  char path[64];
  snprintf(path, sizeof path, "/tmp/cohort-finish-%ld.h5",
           (long)(c->alone ? getpid() : getppid()));
  MPI_Comm comm = c->alone ? MPI_COMM_SELF : MPI_COMM_WORLD;
  FC_OK(coh_grid_create(comm, c->replicas ? c->replicas : 1, &grid, &err));
  FC_OK(coh_device_open(COH_DEVICE_CPU, COH_F64, &dev, &err));
  fc_plan(c, &plan);
  fc_dataset(c, &plan, dev, &d);
  coh_train_spec spec = {.batch = 64, .loss = c->labels ? COH_CROSS_ENTROPY : COH_MSE};
  double *all = NULL;
  *bytes = c->N * plan.P * sizeof *all;
  FC_OK(coh_alloc(&all, c->N * plan.P, sizeof *all, &err));
  bool over = false;
  for (int piece = 0; !over; piece++) {
    coh_trainer *t;
    FC_OK(coh_trainer_create(&grid, dev, &plan, c->N, &d, NULL, &spec, NULL, &t, &err));
    fc_set(c, &plan, t);
    over = fc_piece(c, &grid, t, piece == 0, path);
    FC_OK(coh_trainer_evaluate(t, &d, c->loss, NULL, &err));
    FC_OK(coh_trainer_gather(t, all, &err));
    coh_trainer_destroy(t);
    assert_true(piece < 2);
  }
  if (grid.rank == 0) unlink(path);
  coh_dataset_free(&d);
  coh_device_close(dev);
  coh_grid_destroy(&grid);
  return all;
}

#endif
