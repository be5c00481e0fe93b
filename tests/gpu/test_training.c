/* test_training.c - whole trainings on the GPU against the CPU's, after 1, 10 and 100
 * steps: wide networks and tiny ones, both losses and precisions, one order of the data
 * and several, a short last batch, members that end early. Steps from the third of a
 * shape on are replays of a recording. With COH_FAKE_CUDA also: every call that fails is
 * reported and leaves nothing behind.
 */
#include "cohort/train.h"
#include "twin.h"

#ifdef COH_FAKE_CUDA
#include <fake_cuda.h>
#endif

typedef struct task {
  const char *network;
  coh_act act;
  coh_dtype dtype;
  bool classes;
  size_t n, batch, members, runs; /* runs: with an order of the data each */
  coh_optimizer optimizer;
  double lr, plateau_min;
  uint64_t steps;
} task;

/* Samples of a smooth function, and classes by its sign. */
static void make_data(const task *t, const coh_plan *p, coh_dataset *d) {
  size_t size = coh_dtype_size(t->dtype);
  *d = (coh_dataset){.n = t->n, .d_in = p->d_in, .n_out = p->n_out, .dtype = t->dtype};
  d->x = calloc(d->n * d->d_in, size);
  d->y = t->classes ? NULL : calloc(d->n * d->n_out, size);
  d->labels = t->classes ? calloc(d->n, sizeof *d->labels) : NULL;
  for (size_t i = 0; i < d->n; i++) {
    double sum = 0;
    for (size_t k = 0; k < d->d_in; k++) {
      double v = random_value(5, i * d->d_in + k);
      coh_put(t->dtype, d->x, i * d->d_in + k, v);
      sum += v * cos((double)k);
    }
    for (size_t o = 0; o < d->n_out && d->y; o++)
      coh_put(t->dtype, d->y, i * d->n_out + o, sin(sum + (double)o));
    if (d->labels) d->labels[i] = (int32_t)(i + (sum > 0)) % (int32_t)d->n_out;
  }
}

static void free_data(coh_dataset *d) {
  free(d->x);
  free(d->y);
  free(d->labels);
}

static void make_runs(const task *t, coh_train_run *run) {
  const coh_train_spec spec = {.optimizer = t->optimizer,
                               .momentum = t->optimizer == COH_SGD ? 0.9 : 0,
                               .lr = t->lr,
                               .end = t->steps,
                               .batch = t->batch,
                               .loss = t->classes ? COH_CROSS_ENTROPY : COH_MSE,
                               .factor = 0.5,
                               .warmup = 5,
                               .plateau = t->plateau_min > 0 ? COH_PLATEAU_MEMBER
                                                             : COH_PLATEAU_NONE,
                               .patience = 1,
                               .threshold = 0.05,
                               .min_lr = t->plateau_min};
  for (size_t r = 0; r < t->runs; r++) {
    run[r] = (coh_train_run){.members = t->members, .spec = spec};
    run[r].spec.order_seed = r;
    run[r].spec.lr *= 1 + 0.1 * (double)r;
    run[r].spec.weight_decay = 1e-3 * (double)r;
    run[r].start = (coh_train_start){.seed = r, .init = COH_KAIMING_NORMAL};
  }
}

/* Trains on `dev`; params [N, P] and the members' states, unless NULL. An error comes
 * back: with a fake device it is wanted. */
static int train(const task *t, coh_device *dev, double *params, coh_member *state,
                 double *loss, coh_error *err) {
  int rc;
  size_t members, N = t->members * t->runs;
  coh_plan plan;
  coh_grid grid = {0};
  coh_dataset data = {0};
  coh_trainer *trainer = NULL;
  coh_train_status status;
  coh_train_run *run = calloc(t->runs, sizeof *run);
  void *raw = NULL;
  COH_TRY(coh_plan_parse(t->network, t->act, 0, &plan, &members, err));
  make_data(t, &plan, &data);
  make_runs(t, run);
  COH_TRY(coh_grid_create(MPI_COMM_WORLD, 1, &grid, err));
  COH_TRY(coh_trainer_create(&grid, dev, &plan, N, &data, NULL, &run[0].spec, NULL,
                             &trainer, err));
  COH_TRY(coh_trainer_runs(trainer, t->runs, run, err));
  COH_TRY(coh_trainer_start(trainer, err));
  COH_TRY(coh_trainer_run(trainer, err));
  raw = malloc(N * plan.P * sizeof(double));
  COH_TRY(coh_trainer_get(trainer, raw, err));
  for (size_t i = 0; params && i < N * plan.P; i++) params[i] = coh_get(t->dtype, raw, i);
  coh_trainer_status(trainer, &status);
  if (state) memcpy(state, status.member, N * sizeof *state);
  if (loss) COH_TRY(coh_trainer_evaluate(trainer, &data, loss, NULL, err));
cleanup:
  coh_trainer_destroy(trainer);
  coh_grid_destroy(&grid);
  free_data(&data);
  free(run);
  free(raw);
  return rc;
}

/* Largest difference by the size of the parameters. */
static double distance(size_t n, const double *a, const double *b) {
  double most = 0, size = 0;
  for (size_t i = 0; i < n; i++) {
    most = fmax(most, fabs(a[i] - b[i]));
    size = fmax(size, fabs(b[i]));
    if (!isfinite(a[i])) return INFINITY;
  }
  return most / size;
}

static size_t parameters_of(const task *t) {
  coh_plan plan;
  size_t members;
  OK(coh_plan_parse(t->network, t->act, 0, &plan, &members, &err));
  return plan.P;
}

static void compare(const task *t, double tolerance) {
  coh_device *gpu, *cpu;
  size_t N = t->members * t->runs, all = N * parameters_of(t);
  double *a = calloc(all, sizeof *a), *b = calloc(all, sizeof *b);
  double *la = calloc(N, sizeof *la), *lb = calloc(N, sizeof *lb);
  coh_member *sa = calloc(N, sizeof *sa), *sb = calloc(N, sizeof *sb);
  OK(coh_device_open(COH_DEVICE_CUDA, t->dtype, &gpu, &err));
  OK(coh_device_open(COH_DEVICE_CPU, t->dtype, &cpu, &err));
  OK(train(t, gpu, a, sa, la, &err));
  OK(train(t, cpu, b, sb, lb, &err));
  double d = distance(all, a, b);
  if (!(d <= tolerance))
    fprintf(stderr, "%s, %d steps: parameters differ by %.3g, at most %.3g\n", t->network,
            (int)t->steps, d, tolerance);
  CHECK(d <= tolerance);
  for (size_t n = 0; n < N; n++) {
    CHECK(sa[n].state == sb[n].state && sa[n].step == sb[n].step);
    CHECK(fabs(la[n] - lb[n]) <= 10 * tolerance * (fabs(lb[n]) + 1e-3));
  }
  free(a), free(b), free(la), free(lb), free(sa), free(sb);
  coh_device_close(gpu);
  coh_device_close(cpu);
}

/* After 1, 10 and 100 steps. Rounding differs by the order of sums, and Adam divides it
 * by small moments: in float32 it grows with the steps, in float64 there is room. */
static void compare_steps(task t) {
  static const double single[] = {1e-5, 1e-4, 2e-3}, twice[] = {1e-12, 1e-11, 1e-9};
  for (int i = 0; i < 3; i++) {
    t.steps = (uint64_t[]){1, 10, 100}[i];
    t.dtype = COH_F32;
    compare(&t, single[i]);
    t.dtype = COH_F64;
    compare(&t, twice[i]);
  }
}

static void wide_networks(void) {
  task t = {.network = "dense_70_66_10",
            .act = COH_G,
            .n = 150,
            .batch = 64,
            .members = 3,
            .runs = 1,
            .optimizer = COH_ADAM,
            .lr = 1e-3};
  compare_steps(t);
  t.classes = true;
  compare_steps(t);
}

static void tiny_networks(void) {
  task t = {.network = "dense_2_25_25_1",
            .act = COH_TANH,
            .n = 90,
            .batch = 90,
            .members = 5,
            .runs = 1,
            .optimizer = COH_ADAM,
            .lr = 1e-3};
  compare_steps(t);
  t.optimizer = COH_SGD;
  t.lr = 1e-2;
  compare_steps(t);
}

static void runs_with_orders_of_their_own(void) {
  task t = {.network = "dense_70_20_3",
            .act = COH_SOFTPLUS,
            .n = 100,
            .batch = 32,
            .members = 2,
            .runs = 3,
            .optimizer = COH_ADAM,
            .lr = 1e-3,
            .classes = true};
  compare_steps(t);
  t.network = "dense_5_6_2";
  compare_steps(t);
  t.classes = false;
  compare_steps(t);
}

/* Learning rates fall until members end, at different steps. */
static void members_that_end_early(void) {
  task t = {.network = "dense_5_6_2",
            .act = COH_TANH,
            .n = 64,
            .batch = 32,
            .members = 4,
            .runs = 2,
            .optimizer = COH_SGD,
            .lr = 2e-2,
            .plateau_min = 1e-3,
            .steps = 600,
            .dtype = COH_F64};
  compare(&t, 1e-9);
  t.network = "dense_66_20_2";
  compare(&t, 1e-9);
}

#ifdef COH_FAKE_CUDA
/* Opens, trains, closes; every call of CUDA and cuBLAS fails once, in turn. */
static int once(const task *t, coh_error *err) {
  coh_device *dev;
  int rc = coh_device_open(COH_DEVICE_CUDA, t->dtype, &dev, err);
  if (!rc) rc = train(t, dev, NULL, NULL, NULL, err);
  coh_device_close(dev);
  return rc;
}

static void failing(const task *t) {
  coh_error err = {0};
  fake_cuda_reset();
  CHECK(once(t, &err) == COH_OK);
  unsigned long calls = fake_cuda_calls(), silent = 0;
  CHECK(calls > 100);
  CHECK(fake_cuda_live() == 0);
  for (unsigned long n = 1; n <= calls; n++) {
    err = (coh_error){0};
    fake_cuda_reset();
    fake_cuda_fail(n);
    int rc = once(t, &err);
    silent += rc == COH_OK; /* a call that gives back: nothing to tell */
    CHECK(rc == COH_OK || strlen(err.text) > 10);
    CHECK(fake_cuda_live() == 0);
  }
  fake_cuda_reset();
  CHECK(silent < calls / 2);
}

static void every_call_that_fails_is_told(void) {
  task t = {.network = "dense_66_8_2",
            .act = COH_TANH,
            .n = 24,
            .batch = 16,
            .members = 2,
            .runs = 1,
            .optimizer = COH_ADAM,
            .lr = 1e-2,
            .steps = 7};
  failing(&t);
  t.network = "dense_5_6_2";
  t.runs = 2;
  t.plateau_min = 5e-3;
  failing(&t);
}
#endif

int main(void) {
  if (MPI_Init(NULL, NULL) != MPI_SUCCESS) return 1;
  RUN(wide_networks);
  RUN(tiny_networks);
  RUN(runs_with_orders_of_their_own);
  RUN(members_that_end_early);
#ifdef COH_FAKE_CUDA
  if (!getenv("FAKE_CUDA_ORDER")) RUN(every_call_that_fails_is_told); /* once is enough */
#endif
  MPI_Finalize();
  return now.failed != 0;
}
