/* train.c - microseconds a training step of an ensemble takes, by coh_trainer as a job
 * runs it (gather, forward, loss, backward, Adam), and GFLOP/s.
 *
 *   mpirun -n RANKS build/bench/train [PASSES [CASE]]
 *
 * Rules: members are dealt to the ranks; x ~ N(0, 1), y of a drawn rule, float32, mean
 * square error, activation g, one shared order of samples. A pass makes each case's steps
 * once, each for about a second at 100 GFLOP/s a rank, so that all cases see the same
 * neighbours on the machine; the medians over the passes are told. One rank is timed by
 * its processor time, several by the wall. A step counts as 6 P B N operations (P
 * parameters a member), as is usual, and `true` as those that its products make: the
 * gradient of the first layer's input is never computed, biases and elements are not
 * counted. The products' rate that both are held against is that of 512 x 320 x 784 on
 * each rank, measured beside every sample. Output:
 * case,us_step,us_member,gflops,gemm_gflops,share,true_share
 */
#include "cohort/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct shape {
  const char *name;
  size_t N, B, samples, L, sizes[5];
} shape;

static const shape shapes[] = {
    {"10x32", 10, 512, 4096, 2, {784, 32, 10}},
    {"10x16", 10, 512, 4096, 2, {784, 16, 10}},
    {"50x16", 50, 512, 4096, 2, {784, 16, 10}},
    {"20x64", 20, 512, 4096, 2, {784, 64, 10}},
    {"20x256", 20, 512, 4096, 2, {784, 256, 10}},
    {"1000 tiny", 1000, 300, 300, 3, {2, 25, 25, 1}},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, PASSES = 25 };

static coh_error err;
static int rank, ranks;

static void check(int rc) {
  if (rc == COH_OK) return;
  fprintf(stderr, "train: %s\n", err.text);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Processor time of one rank, so that what others run here does not count; of several,
 * who wait for each other, time of the wall. */
static double now(void) {
  struct timespec t;
  clock_gettime(ranks == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double median(double *v, int n) {
  coh_sort(v, (size_t)n);
  return coh_median_of_sorted(v, (size_t)n);
}

static coh_dataset draw_data(const shape *s, size_t in, size_t out) {
  coh_dataset d = {.dtype = COH_F32, .n = s->samples, .d_in = in, .n_out = out};
  d.shape[0] = in, d.shape[1] = d.shape[2] = 1;
  check(coh_alloc(&d.x, d.n * in, sizeof(float), &err));
  check(coh_alloc(&d.y, d.n * out, sizeof(float), &err));
  for (size_t i = 0; i < d.n * in; i++)
    ((float *)d.x)[i] = (float)coh_random_normal(1, COH_RNG_TEST, 1, i);
  for (size_t i = 0; i < d.n * out; i++)
    ((float *)d.y)[i] = ((float *)d.x)[i / out * in + i % out % in];
  return d;
}

/* Seconds of one step: the slowest rank's. */
static double time_steps(const coh_grid *grid, coh_device *dev, const shape *s,
                         const coh_plan *plan, const coh_dataset *d) {
  double work = 6.0 * (double)(s->N * plan->P) * (double)s->B / ranks, seconds;
  uint64_t steps = (uint64_t)(2e10 / work) + 2;
  coh_config cfg;
  coh_trainer *t;
  coh_train_spec spec = {.optimizer = COH_ADAM,
                         .lr = 1e-3,
                         .end = steps,
                         .batch = s->B,
                         .loss = COH_MSE,
                         .factor = 0.5};
  coh_config_defaults(&cfg, COH_JOB_EXTRACT);
  check(coh_trainer_create(grid, dev, plan, s->N, d, NULL, &spec, NULL, &t, &err));
  check(coh_trainer_init(t, &cfg, 0, &err));
  MPI_Barrier(MPI_COMM_WORLD);
  double own = now();
  check(coh_trainer_run(t, &err));
  own = now() - own;
  coh_trainer_destroy(t);
  MPI_Allreduce(&own, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds / (double)steps;
}

/* GFLOP/s of 512 x 320 x 784 on the slowest rank. */
static double time_product(coh_device *dev) {
  enum { M = 512, Q = 320, K = 784, TIMES = 40 };
  static float a[M * K], b[K * Q], c[M * Q];
  coh_gemm g = {.N = 1, .M = M, .Q = Q, .K = K, .a = a, .lda = K, .b = b, .ldb = Q};
  g.c = c, g.ldc = Q;
  for (size_t i = 0; i < M * K; i++) a[i] = (float)(i % 13) - 6;
  for (size_t i = 0; i < K * Q; i++) b[i] = (float)(i % 11) - 5;
  MPI_Barrier(MPI_COMM_WORLD);
  double t = now(), slowest;
  for (int i = 0; i < TIMES; i++) check(dev->ops->gemm(dev, &g, &err));
  t = now() - t;
  MPI_Allreduce(&t, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return 2.0 * M * Q * K * TIMES / slowest * 1e-9;
}

/* Multiplications and additions of all products of a step, of one member and sample. */
static double true_operations(const shape *s) {
  double n = 0;
  for (size_t l = 0; l < s->L; l++)
    n += (l > 0 ? 6.0 : 4.0) * (double)(s->sizes[l] * s->sizes[l + 1]);
  return n;
}

static void report(const shape *s, size_t P, double *step, double *gemm, double *share,
                   int n) {
  double us = median(step, n) * 1e6, part = median(share, n);
  printf("%s,%.1f,%.3f,%.1f,%.1f,%.3f,%.3f\n", s->name, us, us / (double)s->N,
         6.0 * (double)(s->N * P) * (double)s->B / us * 1e-3, median(gemm, n), part,
         part * true_operations(s) / (6.0 * (double)P));
}

int main(int argc, char **argv) {
  coh_grid grid;
  coh_device *dev;
  coh_dataset data[SHAPES];
  coh_plan plan[SHAPES];
  static double step[SHAPES][PASSES], gemm[SHAPES][PASSES], share[SHAPES][PASSES];
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  int passes = argc > 1 && atoi(argv[1]) < PASSES ? atoi(argv[1]) : 9;
  const char *only = argc > 2 ? argv[2] : NULL;
  check(coh_grid_create(MPI_COMM_WORLD, 1, &grid, &err));
  check(coh_device_open(COH_DEVICE_CPU, COH_F32, &dev, &err));
  for (int i = 0; i < SHAPES; i++) {
    const shape *s = &shapes[i];
    check(coh_plan_dense(s->L, s->sizes, COH_G, NULL, &plan[i], &err));
    data[i] = draw_data(s, s->sizes[0], s->sizes[s->L]);
  }
  for (int p = 0; p < passes; p++)
    for (int i = 0; i < SHAPES; i++) {
      if (only && strcmp(only, shapes[i].name) != 0) continue;
      step[i][p] = time_steps(&grid, dev, &shapes[i], &plan[i], &data[i]);
      gemm[i][p] = time_product(dev) * ranks;
      share[i][p] = 6e-9 * (double)(shapes[i].N * plan[i].P) * (double)shapes[i].B /
                    step[i][p] / gemm[i][p];
    }
  for (int i = 0; i < SHAPES; i++) {
    if (rank == 0 && !(only && strcmp(only, shapes[i].name) != 0))
      report(&shapes[i], plan[i].P, step[i], gemm[i], share[i], passes);
    coh_dataset_free(&data[i]);
  }
  coh_device_close(dev);
  coh_grid_destroy(&grid);
  MPI_Finalize();
  return 0;
}
