/* test_finish.c - finishes at any number of ranks: members bit for bit as on one rank,
 * stopped and resumed too; replicas to the same minimum, the same on all of them. */
#include "mpi_main.h"

#include "finishdata.h"

static const coh_finish_method methods[] = {COH_FINISH_LBFGS, COH_FINISH_LM};

/* The same bits as one rank alone. */
static void check(finish_case c) {
  finish_case alone = c;
  alone.alone = true;
  alone.cut = 0;
  size_t bytes;
  double *all = finish_case_run(&c, &bytes), *one = finish_case_run(&alone, &bytes);
  if (mpi_rank == 0) assert_memory_equal(all, one, bytes);
  assert_memory_equal(c.member, alone.member, c.N * sizeof *c.member);
  free(all);
  free(one);
}

static void members_are_the_same_at_any_rank_count(void) {
  for (int m = 0; m < 2; m++)
    for (size_t N = 1; N <= 7; N += 2)
      check((finish_case){.N = N,
                          .method = methods[m],
                          .act = COH_TANH,
                          .deep = N == 3,
                          .distance = 0.2,
                          .steps = 40});
}

static void stops_and_resumes(void) {
  for (int m = 0; m < 2; m++)
    for (uint64_t cut = 1; cut <= 33; cut += 16)
      check((finish_case){.N = 5,
                          .method = methods[m],
                          .act = COH_GELU,
                          .distance = 0.2,
                          .steps = 40,
                          .cut = cut});
}

static void replicas_reach_the_same_minimum(void) {
  for (int m = 0; m < 2; m++)
    for (int64_t replicas = 2; replicas <= mpi_size; replicas++) {
      finish_case c = {.N = 3,
                       .method = methods[m],
                       .act = COH_TANH,
                       .distance = 0.05,
                       .steps = 3000,
                       .tolerance = 1e-13,
                       .replicas = replicas};
      size_t bytes;
      free(finish_case_run(&c, &bytes));
      for (size_t n = 0; n < c.N; n++) {
        assert_true(c.loss[n] < 1e-20);
        assert_int_equal(c.member[n].end, COH_FINISH_GRADIENT);
      }
      c.cut = 16;
      free(finish_case_run(&c, &bytes));
      for (size_t n = 0; n < c.N; n++) assert_true(c.loss[n] < 1e-20);
    }
}

static mpi_test tests[] = {
    MPI_TEST(members_are_the_same_at_any_rank_count),
    MPI_TEST(stops_and_resumes),
    MPI_TEST(replicas_reach_the_same_minimum),
};
MPI_MAIN(tests)
