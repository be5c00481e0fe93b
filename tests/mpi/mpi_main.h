/* mpi_main.h - runs cmocka tests on every rank at once:
 *   mpirun --oversubscribe -n 3 test_comm
 * Only rank 0 reports; a test that fails on any rank says so and ends all ranks at once,
 * because the others may wait for that rank in a collective. So does a test that hangs.
 */
#ifndef COHORT_TESTS_MPI_MAIN_H
#define COHORT_TESTS_MPI_MAIN_H

#include <mpi.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "scratch.h"

#ifdef __SANITIZE_ADDRESS__
enum { MPI_TEST_SECONDS = 480 }; /* four ranks on few and busy cores */
/* Takes the place of the C library's: Open MPI's plugins stay loaded to the end, so that
 * the leak sanitizer can name the functions in its stacks and tests/lsan.supp finds them.
 */
int dlclose(void *library);
int dlclose(void *library) {
  (void)library;
  return 0;
}
#else
enum { MPI_TEST_SECONDS = 120 };
#endif

static int mpi_rank, mpi_size;

typedef struct mpi_test {
  const char *name;
  void (*run)(void);
  bool passed;
} mpi_test;

#define MPI_TEST(function)                                                               \
  { .name = #function, .run = function }

static mpi_test *mpi_last; /* the test that ran last */

/* Runs after cmocka has told why the last test failed: ends all ranks if it did. */
static inline int mpi_check_last(void) {
  if (!mpi_last || mpi_last->passed) return 0;
  fprintf(stderr, "rank %d of %d: %s failed\n", mpi_rank, mpi_size, mpi_last->name);
  scratch_remove(NULL);
  MPI_Abort(MPI_COMM_WORLD, 1);
  return -1;
}

static inline int mpi_test_begin(void **state) {
  if (mpi_check_last() != 0) return -1;
  mpi_last = *state;
  alarm(MPI_TEST_SECONDS);
  return 0;
}

static inline void mpi_test_run(void **state) {
  mpi_test *test = *state;
  test->run();
  test->passed = true;
}

static inline int mpi_test_end(void **state) {
  mpi_test *test = *state;
  return !test->passed || MPI_Barrier(MPI_COMM_WORLD) == MPI_SUCCESS ? 0 : -1;
}

/* After the last test. cmocka's closing lines go to stderr; those of rank 0 will do. */
static inline int mpi_group_end(void **state) {
  (void)state;
  if (mpi_check_last() != 0) return -1;
  return mpi_rank == 0 || freopen("/dev/null", "w", stderr) ? 0 : -1;
}

/* One scratch folder for all ranks. */
static inline void mpi_scratch_make(void) {
  if (mpi_rank == 0 && scratch_make(NULL) != 0) MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Bcast(scratch_folder, sizeof scratch_folder, MPI_CHAR, 0, MPI_COMM_WORLD);
}

static inline int mpi_main(size_t n, mpi_test *tests) {
  MPI_Init(NULL, NULL);
  MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &mpi_size);
  if (mpi_rank != 0 && !freopen("/dev/null", "w", stdout)) return 1;
  mpi_scratch_make();
  struct CMUnitTest list[64];
  if (n > sizeof list / sizeof *list) MPI_Abort(MPI_COMM_WORLD, 1);
  for (size_t i = 0; i < n; i++)
    list[i] = (struct CMUnitTest){.name = tests[i].name,
                                  .test_func = mpi_test_run,
                                  .setup_func = mpi_test_begin,
                                  .teardown_func = mpi_test_end,
                                  .initial_state = &tests[i]};
  int failed = _cmocka_run_group_tests("ranks", list, n, NULL, mpi_group_end);
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (mpi_rank == 0) scratch_remove(NULL);
  MPI_Finalize();
  return failed != 0;
}

/* For the last line of a test program. */
#define MPI_MAIN(tests)                                                                  \
  int main(void) {                                                                       \
    return mpi_main(sizeof(tests) / sizeof *(tests), tests);                             \
  }

#endif
