/* test_compress_phases.c - which state a phase returns, against the rule written out as
 * the contract has it, for scripted validation losses; and pruning by random gradients.
 */
#include "compress/private.h"

#include <mpi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

enum { EPOCHS = 16, WINDOW = 2 };

/* One member without a trainer. */
typedef struct bench {
  coh_grid grid;
  coh_device *dev;
  coh_compress_data data;
  coh_plan plan;
  double *teacher; /* its parameters */
  coh_compress_spec spec;
  coh_compress *c;
  coh_ensemble *ens;
  void *m, *v;
  uint32_t slot[1];
  coh_train_view view;
} bench;

static void open_bench(bench *b, const char *model, coh_act act,
                       coh_procedure procedure) {
  coh_config cfg;
  coh_plan teacher;
  size_t members, bytes;
  *b = (bench){0};
  coh_config_defaults(&cfg, COH_JOB_COMPRESS);
  snprintf(cfg.dataset.name, sizeof cfg.dataset.name, "teacher_student");
  cfg.compress.procedure = (int)procedure;
  cfg.compress.train_set_size = 20;
  cfg.compress.val_set_size = cfg.compress.test_set_size = 10;
  cfg.compress.min_epochs = cfg.compress.max_epochs = EPOCHS;
  cfg.compress.prune_window = WINDOW;
  cfg.compress.smoothing_window = 6;
  cfg.compress.random_gradient_pruning = false;
  cfg.compress.binary_search_resolution = 1e9; /* no search: nothing is cut */
  OK(coh_grid_create(MPI_COMM_SELF, 1, &b->grid, &err));
  OK(coh_device_open_cpu(NULL, COH_F64, &b->dev, &err));
  OK(coh_teacher_student(&cfg, COH_F64, &b->data, &teacher, &b->teacher, &err));
  OK(coh_plan_parse(model, act, 0, &b->plan, &members, &err));
  OK(coh_compress_spec_of(&cfg, &b->data.train, &b->spec, &err));
  OK(coh_compress_create(&b->grid, b->dev, &b->plan, 1, &b->spec, &b->data, 0, &b->c,
                         &err));
  OK(coh_ensemble_create(&b->plan, b->dev, 1, &b->ens, &err));
  bytes = b->plan.P * sizeof(double);
  OK(b->dev->ops->alloc(b->dev, bytes, &b->m, &err));
  OK(b->dev->ops->alloc(b->dev, bytes, &b->v, &err));
  b->view = (coh_train_view){.ens = b->ens,
                             .slot = b->slot,
                             .m = b->m,
                             .v = b->v,
                             .count = 1,
                             .epoch_length = 1};
}

static void close_bench(bench *b) {
  coh_compress_destroy(b->c);
  coh_ensemble_destroy(b->ens);
  b->dev->ops->free(b->dev, b->m);
  b->dev->ops->free(b->dev, b->v);
  coh_compress_data_free(&b->data);
  free(b->teacher);
  coh_device_close(b->dev);
  coh_grid_destroy(&b->grid);
}

/* ---- best state ----------------------------------------------------------------------
 */

/* Epoch whose state is returned: section 7.3. open[e]: too many gates are undecided. */
static int expected(const double *val, const bool *open) {
  double previous = INFINITY, turning[EPOCHS];
  int best = 0, n = 0;
  for (int e = 1; e <= EPOCHS; e++) {
    if (e % WINDOW != 0 && e != EPOCHS) continue;
    if (previous <= val[e]) {
      if (!open[e]) turning[n++] = val[e];
      bool least = n > 0;
      for (int i = 0; i < n; i++) least &= val[e] <= turning[i];
      if (least) best = e;
    }
    previous = val[e];
  }
  for (int i = 0; i < n; i++)
    if (val[EPOCHS] > turning[i]) return best;
  return EPOCHS;
}

/* Parameters and moments of epoch e are all e; returns what those at the end are. */
static int returned(coh_procedure procedure, const double *val, const bool *open) {
  bench b;
  int state[1] = {COH_MEMBER_ACTIVE};
  open_bench(&b, "dense_2_3_1", COH_TANH, procedure);
  size_t P = b.plan.P;
  double *p = b.ens->params, *m = b.m, *gate = b.c->array[GATE];
  for (int e = 1; e <= EPOCHS; e++) {
    coh_squeezed *one = b.c->member;
    assert_int_equal(one->phase, REGULARISED);
    for (size_t i = 0; i < P; i++) p[i] = m[i] = e;
    for (size_t i = 0; i < P && gate; i++) gate[i] = open[e] ? 0.5 : 1;
    one->t = (uint64_t)e;
    one->train = 1;
    one->val = val[e];
    one->asked = 1;
    OK(coh_phases(b.c, &b.view, state, &err));
  }
  assert_int_equal(b.c->member->phase, FINETUNING);
  assert_int_equal(state[0], COH_MEMBER_ACTIVE);
  int is = (int)p[0];
  assert_true(m[P - 1] == is && b.c->member->t == (uint64_t)is);
  close_bench(&b);
  return is;
}

static void best_state(void **state) {
  (void)state;
  size_t early = 0, unrecorded = 0;
  srand(1);
  for (int k = 0; k < 300; k++) {
    double val[EPOCHS + 1] = {0};
    bool open[EPOCHS + 1] = {false};
    for (int e = 1; e <= EPOCHS; e++) val[e] = rand() % 7 - 3; /* ties, and below 0 */
    int plain = expected(val, open);
    assert_int_equal(returned(COH_RL1, val, open), plain);
    for (int e = 1; e <= EPOCHS; e++) open[e] = rand() % 2;
    int gated = expected(val, open);
    assert_int_equal(returned(COH_PMMP, val, open), gated);
    early += plain < EPOCHS;
    unrecorded += gated != plain;
  }
  assert_true(early > 50 && unrecorded > 20); /* the cases are worth it */
}

/* ---- random gradients ----------------------------------------------------------------
 */

/* Runs the pruning on p with all parameters masked in. */
static void prune(bench *b, double *p) {
  double mask[64];
  assert_true(b->plan.P <= 64);
  for (size_t i = 0; i < b->plan.P; i++) mask[i] = 1;
  OK(coh_random_gradient(b->c, b->c->member, &b->spec, p, mask, &err));
}

/* Neuron 0: nothing reads it. Neuron 1: reads nothing, but has a bias. Neuron 2: whole.
 */
static void paths(void **state) {
  (void)state;
  bench b;
  open_bench(&b, "dense_2_3_1", COH_TANH, COH_RL1);
  const coh_layer *a = &b.plan.layer[0], *o = &b.plan.layer[1];
  double p[64];
  for (size_t i = 0; i < b.plan.P; i++) p[i] = 0.5;
  p[o->w] = 0;
  p[a->w + 1] = p[a->w + a->out + 1] = 0;
  prune(&b, p);
  assert_true(p[a->w] == 0 && p[a->w + a->out] == 0 && p[a->b] == 0);
  assert_true(p[a->b + 1] == 0.5 && p[o->w + 1] == 0.5);
  assert_true(p[a->w + 2] == 0.5 && p[a->w + a->out + 2] == 0.5 && p[a->b + 2] == 0.5);
  assert_true(p[o->w + 2] == 0.5 && p[o->b] == 0.5);
  close_bench(&b);
}

/* A rectifier that no random input reaches loses all its parameters. */
static void dead_rectifier(void **state) {
  (void)state;
  bench b;
  open_bench(&b, "dense_2_2_1", COH_RELU, COH_RL1);
  const coh_layer *a = &b.plan.layer[0], *o = &b.plan.layer[1];
  double p[64];
  for (size_t i = 0; i < b.plan.P; i++) p[i] = 0.5;
  p[a->b] = -100;
  prune(&b, p);
  assert_true(p[a->w] == 0 && p[a->w + a->out] == 0 && p[a->b] == 0 && p[o->w] == 0);
  assert_true(p[a->w + 1] == 0.5 && p[a->b + 1] == 0.5 && p[o->w + 1] == 0.5);
  assert_int_equal(b.c->member->calls, 1); /* the next batch is another one */
  close_bench(&b);
}

/* ---- which data the threshold is from -------------------------------------------------
 */

static double threshold(double tolerance, bool val, bool ends) {
  bench b;
  const size_t index[1] = {0};
  const bool final[1] = {true};
  open_bench(&b, "dense_2_5_8_1", COH_TANH, COH_RL1); /* as the teacher */
  b.c->spec->tamade_val = val;
  b.c->spec->tolerance = tolerance;
  b.c->spec->resolution = 1e-7;
  memcpy(b.ens->params, b.teacher, b.plan.P * sizeof *b.teacher);
  OK(coh_prune(b.c, &b.view, 1, index, final, ends, &err));
  double found = b.c->member->result.threshold;
  close_bench(&b);
  return found;
}

/* tamade_data = val is about the end of the regularised phase; while shrinking it is the
 * training set, at the last epoch, too. */
static void set_of_the_threshold(void **state) {
  (void)state;
  size_t unlike = 0;
  for (double tolerance = 0.05; tolerance < 20; tolerance *= 1.5) {
    double train = threshold(tolerance, false, true);
    unlike += threshold(tolerance, true, true) != train;
    assert_true(threshold(tolerance, true, false) == train);
    assert_true(threshold(tolerance, false, false) == train);
  }
  assert_true(unlike > 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(best_state),
      cmocka_unit_test(set_of_the_threshold),
      cmocka_unit_test(paths),
      cmocka_unit_test(dead_rectifier),
  };
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
