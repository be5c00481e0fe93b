/* test_train.c - one training at any number of ranks: students bit for bit as on one
 * rank, replicas to rounding, stops and resumes across different rank counts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traindata.h"

static int rank, size;

static void students_are_the_same_at_any_rank_count(void **state) {
  (void)state;
  for (int plateau = COH_PLATEAU_NONE; plateau <= COH_PLATEAU_MEMBER; plateau++)
    for (size_t N = 1; N <= 7; N += 2) {
      size_t bytes;
      train_case c = {
          .N = N, .plateau = plateau, .dtype = N % 4 == 1 ? COH_F32 : COH_F64};
      train_case ref = c;
      ref.alone = true;
      char *all = train_case_run(&c, 0, &bytes);
      char *one = train_case_run(&ref, 0, &bytes);
      if (rank == 0) assert_memory_equal(all, one, bytes);
      assert_memory_equal(c.last_loss, ref.last_loss, N * sizeof(double));
      free(all);
      free(one);
    }
}

static void stops_and_resumes(void **state) {
  (void)state;
  size_t bytes;
  train_case c = {.N = 5, .plateau = COH_PLATEAU_SHARED, .dtype = COH_F32}, ref = c;
  ref.alone = true;
  char *all = train_case_run(&c, 17, &bytes), *one = train_case_run(&ref, 0, &bytes);
  if (rank == 0) assert_memory_equal(all, one, bytes);
  free(all);
  free(one);
}

/* 100 steps and more; every member's parameters within 1e-5 of one rank's. */
static void replicas_agree_to_rounding(void **state) {
  (void)state;
  for (int64_t replicas = 2; replicas <= size; replicas++) {
    size_t bytes;
    train_case c = {.N = 3, .dtype = COH_F32, .replicas = replicas, .epochs = 15},
               ref = c;
    ref.alone = true;
    ref.replicas = 1;
    float *all = (float *)train_case_run(&c, 0, &bytes);
    float *one = (float *)train_case_run(&ref, 0, &bytes);
    double worst = 0, largest = 0;
    for (size_t i = 0; rank == 0 && i < bytes / sizeof(float); i++) {
      worst = fmax(worst, fabs((double)all[i] - (double)one[i]));
      largest = fmax(largest, fabs((double)one[i]));
    }
    assert_true(worst <= 1e-5 * largest);
    free(all);
    free(one);
  }
}

static int failed_anywhere(int failed) {
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  return failed;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (rank > 0 && !freopen("/dev/null", "w", stdout)) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(students_are_the_same_at_any_rank_count),
      cmocka_unit_test(stops_and_resumes),
      cmocka_unit_test(replicas_agree_to_rounding),
  };
  int failed =
      failed_anywhere(cmocka_run_group_tests_name("mpi train", tests, NULL, NULL));
  MPI_Finalize();
  return failed;
}
