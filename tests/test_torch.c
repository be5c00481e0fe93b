/* test_torch.c - whole trainings against PyTorch, from the same start on the same
 * batches: every activation, both losses, SGD with and without momentum and Nesterov,
 * Adam, weight decay. In float64 parameters and losses agree to rounding after 100 steps;
 * in float32 ours is as near to the float64 result as PyTorch's float32 is. The first
 * cases make their steps here; the last one runs coh_trainer, with its order of samples,
 * short last batches, warm-up, milestones and losses of epochs.
 *
 * Needs the Debian package python3-torch; oracle_torch.py is the other side.
 */
#include "cohort/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "scratch.h"

enum { STEPS = 100, BATCH = 64, IN = 784, OUT = 10, LAYERS = 3 };

typedef struct training {
  const char *name;
  size_t L, sizes[LAYERS + 1];
  coh_act act;
  coh_loss loss;
  coh_optimizer optimizer;
  double lr, mu;
  bool nesterov;
  double wd;
} training;

static const training trainings[] = {
    {"plain", 2, {IN, 16, OUT}, COH_RELU, COH_CROSS_ENTROPY, COH_SGD, 0.1, 0, false, 0},
    {"momentum",
     3,
     {IN, 16, 12, OUT},
     COH_LEAKY_RELU,
     COH_MSE,
     COH_SGD,
     0.05,
     0.9,
     false,
     1e-3},
    {"nesterov",
     2,
     {IN, 16, OUT},
     COH_SOFTPLUS,
     COH_CROSS_ENTROPY,
     COH_SGD,
     0.02,
     0.9,
     true,
     1e-3},
    {"adam",
     3,
     {IN, 16, 12, OUT},
     COH_GELU,
     COH_CROSS_ENTROPY,
     COH_ADAM,
     1e-3,
     0,
     false,
     0},
    {"adam_decay", 2, {IN, 16, OUT}, COH_SILU, COH_MSE, COH_ADAM, 1e-3, 0, false, 1e-2},
    {"tanh",
     3,
     {IN, 16, 12, OUT},
     COH_TANH,
     COH_CROSS_ENTROPY,
     COH_SGD,
     0.05,
     0.9,
     false,
     0},
    {"identity", 2, {IN, 16, OUT}, COH_IDENTITY, COH_MSE, COH_ADAM, 1e-3, 0, false, 0},
    {"sigmoid",
     3,
     {IN, 16, 12, OUT},
     COH_SIGMOID,
     COH_MSE,
     COH_SGD,
     0.1,
     0.9,
     true,
     1e-4},
    {"g", 2, {IN, 16, OUT}, COH_G, COH_CROSS_ENTROPY, COH_ADAM, 1e-3, 0, false, 0}};
enum { TRAININGS = sizeof trainings / sizeof trainings[0] };

static coh_error err;
#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

/* ---- batches, the same for all ---------------------------------------------------- */

static double x[STEPS * BATCH * IN], y[STEPS * BATCH * OUT];
static int32_t labels[STEPS * BATCH];

/* Representable in float32, so that both widths start from the same numbers. */
static double number(uint64_t purpose, size_t i) {
  return (double)(float)coh_random_normal(5, COH_RNG_TEST, purpose, i);
}

/* Targets that can be learnt: linear in a few inputs. */
static void make_batches(void) {
  for (size_t i = 0; i < STEPS * BATCH * IN; i++) x[i] = number(1, i);
  for (size_t b = 0; b < STEPS * BATCH; b++) {
    labels[b] = 0;
    for (size_t o = 0; o < OUT; o++) {
      y[b * OUT + o] = (double)(float)(0.5 * (x[b * IN + o] - x[b * IN + 20 + o]));
      if (y[b * OUT + o] > y[b * OUT + (size_t)labels[b]]) labels[b] = (int32_t)o;
    }
  }
}

static void *in_type(coh_dtype t, const double *values, size_t n) {
  void *out;
  OK(coh_alloc(&out, n, coh_dtype_size(t), &err));
  for (size_t i = 0; i < n; i++) coh_put(t, out, i, values[i]);
  return out;
}

/* ---- our side --------------------------------------------------------------------- */

static coh_plan plan_of(const training *c) {
  coh_plan plan;
  OK(coh_plan_dense(c->L, c->sizes, c->act, NULL, &plan, &err));
  return plan;
}

static double *start_of(const training *c, const coh_plan *plan) {
  float start[IN * 16 + 16 + 16 * 12 + 12 + 16 * OUT + OUT];
  assert_true(plan->P <= sizeof start / sizeof *start);
  double *out;
  OK(coh_alloc(&out, plan->P, sizeof *out, &err));
  OK(coh_plan_init(plan, 9, (uint64_t)(c - trainings), COH_KAIMING_NORMAL,
                   COH_BIAS_UNIFORM, COH_FAN_STUDENT, 1, COH_F32, start, &err));
  for (size_t i = 0; i < plan->P; i++) out[i] = (double)start[i];
  return out;
}

typedef struct side {
  coh_device *dev;
  coh_ensemble *e;
  coh_workspace *w;
  void *x, *y, *m, *v;
} side;

static side side_make(const coh_plan *plan, coh_dtype t, const double *start) {
  side s;
  OK(coh_device_open(COH_DEVICE_CPU, t, &s.dev, &err));
  OK(coh_ensemble_create(plan, s.dev, 1, &s.e, &err));
  OK(coh_workspace_create(plan, s.dev, 1, BATCH, true, &s.w, &err));
  s.x = in_type(t, x, STEPS * BATCH * IN);
  s.y = in_type(t, y, STEPS * BATCH * OUT);
  OK(coh_alloc(&s.m, plan->P, coh_dtype_size(t), &err));
  OK(coh_alloc(&s.v, plan->P, coh_dtype_size(t), &err));
  for (size_t i = 0; i < plan->P; i++) coh_put(t, s.e->params, i, start[i]);
  return s;
}

static void side_free(side *s) {
  free(s->x), free(s->y), free(s->m), free(s->v);
  coh_workspace_destroy(s->w);
  coh_ensemble_destroy(s->e);
  coh_device_close(s->dev);
}

/* Step t, from 0. Returns the mean loss of the batch before it. */
static double side_step(side *s, const training *c, size_t t) {
  const coh_device_ops *ops = s->dev->ops;
  size_t size = coh_dtype_size(s->dev->dtype);
  const void *bx = (char *)s->x + t * BATCH * IN * size;
  const void *by = (char *)s->y + t * BATCH * OUT * size;
  void *out, *dout = coh_workspace_dout(s->w);
  double loss = 0;
  OK(coh_forward(s->e, s->w, BATCH, bx, 0, true, &out, &err));
  const coh_loss_args l = {.N = 1,
                           .B = BATCH,
                           .O = OUT,
                           .out = out,
                           .y = c->loss == COH_MSE ? by : NULL,
                           .labels = c->loss == COH_MSE ? NULL : labels + t * BATCH,
                           .scale = 1.0 / BATCH,
                           .dout = dout,
                           .loss = &loss};
  OK(ops->loss(s->dev, &l, &err));
  OK(coh_backward(s->e, s->w, BATCH, bx, 0, dout, &err));
  const coh_pace pace = coh_pace_of(c->optimizer, 0.9, 0.999, t + 1);
  const coh_step_args a = {.kind = c->optimizer,
                           .nesterov = c->nesterov,
                           .mu = c->mu,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .N = 1,
                           .P = s->e->plan.P,
                           .pace = &pace,
                           .lr = &c->lr,
                           .wd = &c->wd,
                           .w = s->e->params,
                           .g = s->e->grads,
                           .m = c->optimizer == COH_ADAM || c->mu != 0 ? s->m : NULL,
                           .v = c->optimizer == COH_ADAM ? s->v : NULL};
  OK(ops->step(s->dev, &a, &err));
  return loss / BATCH;
}

/* Parameters at the end, then the loss of every step. */
static double *train(const training *c, const coh_plan *plan, coh_dtype t,
                     const double *start) {
  double *result;
  side s = side_make(plan, t, start);
  OK(coh_alloc(&result, plan->P + STEPS, sizeof *result, &err));
  for (size_t i = 0; i < STEPS; i++) result[plan->P + i] = side_step(&s, c, i);
  for (size_t i = 0; i < plan->P; i++) result[i] = coh_get(t, s.e->params, i);
  side_free(&s);
  return result;
}

/* ---- the trainer ------------------------------------------------------------------ */

/* 500 = 7 * 64 + 52 samples, the first of x; 100 steps are twelve epochs of 8 and a half.
 * Members differ in their start. */
enum { SAMPLES = 500, EPOCH = 8, EPOCHS = STEPS / EPOCH, MEMBERS = 2 };
static const size_t trainer_sizes[] = {IN, 16, 12, OUT};
static const coh_train_spec trainer_spec = {.optimizer = COH_SGD,
                                            .lr = 0.05,
                                            .momentum = 0.9,
                                            .weight_decay = 1e-2,
                                            .end = STEPS,
                                            .batch = BATCH,
                                            .order_seed = 21,
                                            .loss = COH_CROSS_ENTROPY,
                                            .n_milestones = 2,
                                            .milestone = {45, 80},
                                            .warmup = 10,
                                            .factor = 0.3};

static coh_plan trainer_plan(void) {
  coh_plan plan;
  OK(coh_plan_dense(3, trainer_sizes, COH_TANH, NULL, &plan, &err));
  return plan;
}

/* [MEMBERS, P], exact in float32. */
static double *trainer_start(const coh_plan *plan) {
  double *start;
  OK(coh_alloc(&start, MEMBERS * plan->P, sizeof *start, &err));
  for (size_t i = 0; i < MEMBERS * plan->P; i++) start[i] = 0.1 * number(3, i);
  for (size_t i = 0; i < MEMBERS * plan->P; i++) start[i] = (double)(float)start[i];
  return start;
}

/* Keeps the losses [EPOCHS, MEMBERS] at ctx. */
static int keep_losses(void *ctx, const coh_train_status *s, coh_error *e) {
  (void)e;
  double *losses = ctx;
  for (size_t n = 0; n < MEMBERS; n++)
    losses[(s->step / EPOCH - 1) * MEMBERS + n] = s->member[n].loss;
  return COH_OK;
}

/* Parameters of both members at the end, then the losses of all epochs. */
static double *run_trainer(const coh_plan *plan, coh_dtype t, const double *start) {
  size_t P = MEMBERS * plan->P;
  coh_grid grid;
  coh_device *dev;
  coh_trainer *trainer;
  double *result;
  OK(coh_alloc(&result, P + EPOCHS * MEMBERS, sizeof *result, &err));
  void *data = in_type(t, x, SAMPLES * IN), *params = in_type(t, start, P);
  coh_dataset d = {
      .dtype = t, .n = SAMPLES, .d_in = IN, .n_out = OUT, .x = data, .labels = labels};
  coh_train_hooks hooks = {.ctx = result + P, .progress = keep_losses};
  OK(coh_grid_create(MPI_COMM_SELF, 1, &grid, &err));
  OK(coh_device_open(COH_DEVICE_CPU, t, &dev, &err));
  OK(coh_trainer_create(&grid, dev, plan, MEMBERS, &d, NULL, &trainer_spec, &hooks,
                        &trainer, &err));
  OK(coh_trainer_set(trainer, params, &err));
  OK(coh_trainer_run(trainer, &err));
  OK(coh_trainer_get(trainer, params, &err));
  for (size_t i = 0; i < P; i++) result[i] = coh_get(t, params, i);
  coh_trainer_destroy(trainer);
  coh_device_close(dev);
  coh_grid_destroy(&grid);
  free(data), free(params);
  return result;
}

/* ---- the other side --------------------------------------------------------------- */

static const char *file_of(const char *name, const char *what) {
  char file[100];
  snprintf(file, sizeof file, "%s.%s.bin", name, what);
  return scratch(file);
}

static void write_case(const training *c, coh_text *cases) {
  coh_plan plan = plan_of(c);
  double *start = start_of(c, &plan);
  OK(coh_file_write(file_of(c->name, "start"), start, plan.P * sizeof *start, &err));
  free(start);
  coh_text_add(cases, "%s ", c->name);
  for (size_t l = 0; l <= c->L; l++)
    coh_text_add(cases, "%s%zu", l ? "_" : "", c->sizes[l]);
  coh_text_add(cases, " %s %s %s %.17g %.17g %d %.17g %d %d\n", coh_act_name(c->act),
               c->loss == COH_MSE ? "mse" : "cross_entropy",
               c->optimizer == COH_ADAM ? "adam" : "sgd", c->lr, c->mu, c->nesterov,
               c->wd, STEPS, BATCH);
}

/* Sizes, lr, momentum, weight decay, factor, warm-up, milestones, steps, batch, samples,
 * members on one line; the order of every epoch; the start. */
static void write_trainer_case(void) {
  const coh_train_spec *s = &trainer_spec;
  static uint32_t order[EPOCHS + 1][SAMPLES];
  coh_plan plan = trainer_plan();
  double *start = trainer_start(&plan);
  coh_text line = {0};
  for (uint64_t e = 0; e <= EPOCHS; e++)
    coh_order_epoch(s->order_seed, e, SAMPLES, order[e]);
  coh_text_add(&line, "%d_16_12_%d %.17g %.17g %.17g %.17g %d %d,%d %d %d %d %d\n", IN,
               OUT, s->lr, s->momentum, s->weight_decay, s->factor, (int)s->warmup,
               (int)s->milestone[0], (int)s->milestone[1], STEPS, BATCH, SAMPLES,
               MEMBERS);
  OK(coh_text_check(&line, &err));
  OK(coh_file_write(scratch("trainer.txt"), line.data, line.len, &err));
  OK(coh_file_write(scratch("order.bin"), order, sizeof order, &err));
  OK(coh_file_write(file_of("trainer", "start"), start, MEMBERS * plan.P * sizeof *start,
                    &err));
  coh_text_free(&line);
  free(start);
}

/* Writes everything and lets PyTorch train all cases. */
static int run_oracle(void **state) {
  if (scratch_make(state) != 0) return -1;
  coh_text cases = {0};
  make_batches();
  OK(coh_file_write(scratch("x.bin"), x, sizeof x, &err));
  OK(coh_file_write(scratch("y.bin"), y, sizeof y, &err));
  OK(coh_file_write(scratch("labels.bin"), labels, sizeof labels, &err));
  for (size_t i = 0; i < TRAININGS; i++) write_case(&trainings[i], &cases);
  write_trainer_case();
  OK(coh_text_check(&cases, &err));
  OK(coh_file_write(scratch("cases.txt"), cases.data, cases.len, &err));
  coh_text_free(&cases);
  char command[600];
  snprintf(command, sizeof command, "/usr/bin/python3 tests/oracle_torch.py '%s'",
           scratch_folder);
  int status = system(command);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 3)
    fprintf(stderr, "test_torch needs PyTorch: apt-get install python3-torch\n");
  else if (status != 0)
    fprintf(stderr, "test_torch: '%s' failed; run it from the root folder\n", command);
  return status == 0 ? 0 : -1;
}

static double *read_result(const char *name, const char *type, size_t n) {
  char *data;
  size_t len;
  OK(coh_file_read(file_of(name, type), &data, &len, &err));
  assert_int_equal(len, n * sizeof(double));
  return (double *)(void *)data;
}

/* ---- comparison ------------------------------------------------------------------- */

/* Root mean square of a - b. */
static double distance(const double *a, const double *b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sqrt(sum / (double)n);
}

/* P parameters at the end and n losses of ours in both widths against PyTorch's. */
static void check_results(const char *name, size_t P, size_t n, const double *start,
                          const double *single, const double *mine) {
  double *torch32 = read_result(name, "float32", P + n),
         *torch64 = read_result(name, "float64", P + n);
  double moved = distance(start, torch64, P);
  double far = distance(mine, torch64, P), far_loss = distance(mine + P, torch64 + P, n);
  double ours = distance(single, torch64, P), theirs = distance(torch32, torch64, P);
  double ours_loss = distance(single + P, torch64 + P, n);
  double theirs_loss = distance(torch32 + P, torch64 + P, n);
  if (getenv("COHORT_TEST_SHOW"))
    print_message(
        "%-10s moved %.2g; float64 off by %.1e, losses %.1e; float32: ours %.1e, "
        "PyTorch %.1e, losses %.1e, %.1e\n",
        name, moved, far, far_loss, ours, theirs, ours_loss, theirs_loss);
  assert_true(moved > 1e-3);
  if (!(far < 1e-14 && far_loss < 1e-13))
    fail_msg("%s, float64: parameters differ by %g, losses by %g", name, far, far_loss);
  if (!(ours < 1.5 * theirs + 1e-8 && ours_loss < 1.5 * theirs_loss + 1e-7))
    fail_msg("%s, float32: parameters off by %g (PyTorch %g), losses by %g (%g)", name,
             ours, theirs, ours_loss, theirs_loss);
  free(torch32), free(torch64);
}

static void check_case(const training *c) {
  coh_plan plan = plan_of(c);
  double *start = start_of(c, &plan);
  double *single = train(c, &plan, COH_F32, start),
         *mine = train(c, &plan, COH_F64, start);
  check_results(c->name, plan.P, STEPS, start, single, mine);
  free(start), free(single), free(mine);
}

static void test_trainings_agree_with_pytorch(void **state) {
  (void)state;
  for (size_t i = 0; i < TRAININGS; i++) check_case(&trainings[i]);
}

static void test_the_trainer_agrees_with_pytorch(void **state) {
  (void)state;
  coh_plan plan = trainer_plan();
  double *start = trainer_start(&plan);
  double *single = run_trainer(&plan, COH_F32, start),
         *mine = run_trainer(&plan, COH_F64, start);
  check_results("trainer", MEMBERS * plan.P, EPOCHS * MEMBERS, start, single, mine);
  free(start), free(single), free(mine);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_trainings_agree_with_pytorch),
      cmocka_unit_test(test_the_trainer_agrees_with_pytorch),
  };
  MPI_Init(NULL, NULL);
  int failed = cmocka_run_group_tests(tests, run_oracle, scratch_remove);
  MPI_Finalize();
  return failed;
}
