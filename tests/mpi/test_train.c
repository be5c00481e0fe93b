/* test_train.c - one training at any number of ranks: students bit for bit as on one
 * rank, replicas to rounding, stops and resumes, also with other replicas than before. */
#include "mpi_main.h"

#include <math.h>
#include <string.h>

#include "traindata.h"

static coh_error err;

/* ---- students: the same bits ------------------------------------------------------ */

/* The case on all ranks, stopped at step `cut` if that is > 0, and whole on one rank. */
static void check_same_bits(train_case c, uint64_t cut) {
  size_t bytes;
  train_case ref = c;
  ref.alone = true;
  char *all = train_case_run(&c, cut, &bytes), *one = train_case_run(&ref, 0, &bytes);
  if (mpi_rank == 0) assert_memory_equal(all, one, bytes);
  assert_memory_equal(c.last_loss, ref.last_loss, c.N * sizeof(double));
  assert_memory_equal(c.epoch_loss, ref.epoch_loss, c.N * sizeof(double));
  assert_memory_equal(c.state, ref.state, c.N * sizeof(int));
  free(all);
  free(one);
}

static void students_are_the_same_at_any_rank_count(void) {
  for (int plateau = COH_PLATEAU_NONE; plateau <= COH_PLATEAU_MEMBER; plateau++)
    for (size_t N = 1; N <= 7; N += 2) {
      train_case c = {
          .N = N, .plateau = plateau, .dtype = N % 4 == 1 ? COH_F32 : COH_F64};
      check_same_bits(c, 0);
    }
}

/* An epoch has 7 steps: at the end of one, and within the last. */
static void stops_and_resumes(void) {
  train_case c = {.N = 5, .plateau = COH_PLATEAU_SHARED, .dtype = COH_F32};
  check_same_bits(c, 14);
  check_same_bits(c, 17);
  c.epochs = 3;
  check_same_bits(c, 17);
}

/* ---- replicas: to rounding -------------------------------------------------------- */

static void check_near(size_t n, const double *a, const double *b, double tolerance,
                       const char *what) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < n; i++) {
    worst = fmax(worst, fabs(a[i] - b[i]));
    largest = fmax(largest, fabs(b[i]));
  }
  if (!(worst <= tolerance * largest))
    fail_msg("%s: off by %g of %g", what, worst, largest);
}

/* As train_case_run, n numbers in double. */
static double *trained(train_case *c, uint64_t cut, size_t *n) {
  size_t bytes;
  char *values = train_case_run(c, cut, &bytes);
  double *out;
  *n = bytes / coh_dtype_size(c->dtype);
  TC_OK(coh_alloc(&out, *n, sizeof *out, &err));
  for (size_t i = 0; i < *n; i++) out[i] = coh_get(c->dtype, values, i);
  free(values);
  return out;
}

/* Parameters on rank 0, losses, learning rates and states on every rank are those of one
 * rank without replicas and without a stop. Returns the case with its results. */
static train_case check_rounding(train_case c, uint64_t cut, double tolerance) {
  size_t n;
  train_case ref = c;
  ref.alone = true;
  ref.replicas = 1;
  double *all = trained(&c, cut, &n), *one = trained(&ref, 0, &n);
  if (mpi_rank == 0) check_near(n, all, one, tolerance, "parameters");
  check_near(c.N, c.first_loss, ref.first_loss, tolerance, "losses at the start");
  check_near(c.N, c.last_loss, ref.last_loss, tolerance, "losses at the end");
  check_near(c.N, c.epoch_loss, ref.epoch_loss, tolerance, "losses of the last epoch");
  check_near(c.N, c.lr, ref.lr, 1e-15, "learning rates");
  assert_memory_equal(c.state, ref.state, c.N * sizeof(int));
  free(all);
  free(one);
  return c;
}

/* 100 steps and more. */
static void replicas_agree_to_rounding(void) {
  for (int64_t replicas = 2; replicas <= mpi_size; replicas++) {
    train_case c = {.N = 3, .dtype = COH_F32, .replicas = replicas, .epochs = 15};
    check_rounding(c, 0, 1e-5);
    c.dtype = COH_F64;
    check_rounding(c, 0, 1e-13);
  }
}

/* Shared: the summed loss of all student groups and replicas moves one learning rate. */
static void replicas_follow_a_plateau(void) {
  for (int64_t replicas = 2; replicas <= mpi_size; replicas++)
    for (int plateau = COH_PLATEAU_SHARED; plateau <= COH_PLATEAU_MEMBER; plateau++) {
      train_case c = {.N = 5, .dtype = COH_F64, .replicas = replicas, .epochs = 40};
      c.plateau = plateau;
      c = check_rounding(c, 0, 1e-13);
      for (size_t n = 0; n < c.N; n++) assert_true(c.lr[n] < 0.01);
    }
}

/* A stop within an epoch must not lose or double the loss of its first batches. */
static void replicas_stop_and_resume(void) {
  if (mpi_size < 2) return;
  static const uint64_t cuts[] = {7, 14, 17, 20};
  for (int plateau = COH_PLATEAU_NONE; plateau <= COH_PLATEAU_MEMBER; plateau++)
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
      train_case c = {.N = 3, .dtype = COH_F64, .replicas = 2, .plateau = plateau};
      check_rounding(c, cuts[i], 1e-13);
      c.epochs = 3; /* the epoch of steps 14 to 20 is the last */
      check_rounding(c, cuts[i], 1e-13);
    }
}

static void replicas_may_change_at_a_resume(void) {
  for (int64_t before = 1; before <= mpi_size; before++)
    for (int64_t after = 1; after <= mpi_size; after++) {
      train_case c = {.N = 3,
                      .dtype = COH_F64,
                      .plateau = COH_PLATEAU_SHARED,
                      .replicas = before,
                      .replicas_after = after,
                      .epochs = 3};
      check_rounding(c, 17, 1e-13);
    }
}

/* ---- evaluation ------------------------------------------------------------------- */

enum { MANY = 2500, CLASSES = 4, MEMBERS = 3 }; /* some chunks and a piece of one */

static void many_samples(coh_dataset *d) {
  *d = (coh_dataset){.dtype = COH_F64,
                     .n = MANY,
                     .d_in = TC_INPUTS,
                     .shape = {TC_INPUTS, 1, 1},
                     .n_out = CLASSES};
  TC_OK(coh_alloc(&d->x, MANY * TC_INPUTS, sizeof(double), &err));
  TC_OK(coh_alloc(&d->labels, MANY, sizeof *d->labels, &err));
  for (size_t i = 0; i < MANY * TC_INPUTS; i++)
    coh_put(COH_F64, d->x, i, coh_random_normal(7, COH_RNG_TEST, 0, i));
  for (size_t i = 0; i < MANY; i++)
    d->labels[i] = (int32_t)(CLASSES * coh_random_uniform(7, COH_RNG_TEST, 1, i));
}

static void evaluate(MPI_Comm comm, int64_t replicas, coh_device *dev,
                     const coh_dataset *d, double loss[MEMBERS],
                     double accuracy[MEMBERS]) {
  size_t sizes[3] = {TC_INPUTS, 6, CLASSES};
  coh_train_spec spec = {
      .optimizer = COH_SGD, .lr = 0.1, .end = 1, .batch = 32, .loss = COH_CROSS_ENTROPY};
  coh_config cfg;
  coh_grid grid;
  coh_plan plan;
  coh_trainer *t;
  coh_config_defaults(&cfg, COH_JOB_TRAIN);
  TC_OK(coh_grid_create(comm, replicas, &grid, &err));
  TC_OK(coh_plan_dense(2, sizes, COH_TANH, NULL, &plan, &err));
  TC_OK(coh_trainer_create(&grid, dev, &plan, MEMBERS, d, NULL, &spec, NULL, &t, &err));
  TC_OK(coh_trainer_init(t, &cfg, 0, &err));
  TC_OK(coh_trainer_evaluate(t, d, loss, accuracy, &err));
  coh_trainer_destroy(t);
  coh_grid_destroy(&grid);
}

/* Replicas take turns at the chunks of the data: counts are exact, losses to rounding. */
static void replicas_evaluate_together(void) {
  coh_device *dev;
  coh_dataset d;
  double loss[MEMBERS], accuracy[MEMBERS], one[MEMBERS], right[MEMBERS];
  TC_OK(coh_device_open(COH_DEVICE_CPU, COH_F64, &dev, &err));
  many_samples(&d);
  evaluate(MPI_COMM_SELF, 1, dev, &d, one, right);
  for (int64_t replicas = 1; replicas <= mpi_size; replicas++) {
    evaluate(MPI_COMM_WORLD, replicas, dev, &d, loss, accuracy);
    check_near(MEMBERS, loss, one, 1e-14, "losses");
    assert_memory_equal(accuracy, right, sizeof right);
  }
  coh_dataset_free(&d);
  coh_device_close(dev);
}

/* Cut at step 13 and resumed, too. */
static void runs_train_side_by_side_as_alone(void) {
  static const size_t of_run[TC_RUNS] = {1, 3, 2, 1, 2};
  size_t bytes, one, members = 0;
  train_case all = {.N = 9, .dtype = COH_F32, .runs = TC_RUNS};
  char *a = train_case_run(&all, 13, &bytes);
  for (size_t r = 0; r < TC_RUNS; r++) {
    train_case single = {
        .N = of_run[r], .dtype = COH_F32, .runs = 1, .first_run = r, .alone = true};
    char *b = train_case_run(&single, 0, &one);
    if (mpi_rank == 0) assert_memory_equal(a + members * (bytes / 9), b, one);
    for (size_t n = 0; n < of_run[r]; n++) {
      assert_int_equal(all.state[members + n], single.state[n]);
      assert_true(all.lr[members + n] == single.lr[n]);
      if (all.step[members + n] < 56)
        assert_int_equal(all.step[members + n], single.step[n]);
    }
    members += of_run[r];
    free(b);
  }
  free(a);
}

static mpi_test tests[] = {
    MPI_TEST(runs_train_side_by_side_as_alone),
    MPI_TEST(students_are_the_same_at_any_rank_count),
    MPI_TEST(stops_and_resumes),
    MPI_TEST(replicas_agree_to_rounding),
    MPI_TEST(replicas_follow_a_plateau),
    MPI_TEST(replicas_stop_and_resume),
    MPI_TEST(replicas_may_change_at_a_resume),
    MPI_TEST(replicas_evaluate_together),
};
MPI_MAIN(tests)
