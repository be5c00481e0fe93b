/* test_distances.c - pairwise distances over any number of ranks, against plain long
 * double loops and, bit for bit, against one rank. */
#include "extract/rows.h"
#include "mpi_main.h"

#include <math.h>
#include <string.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

static double normal(uint64_t seed, uint64_t i) {
  return coh_random_normal(seed, COH_RNG_TEST, 0, i);
}

static double *random_vectors(uint64_t seed, size_t n, size_t D) {
  double *f = malloc((n * D + 1) * sizeof *f);
  assert_non_null(f);
  for (size_t i = 0; i < n * D; i++) f[i] = normal(seed, i);
  return f;
}

/* Cosine distances of nearly parallel vectors depend on the rounding of the unit vectors.
 */
static double tolerance(coh_metric metric, double d) {
  return 1e-12 * d + (metric == COH_COSINE ? 2e-15 * sqrt(d) + 1e-30 : 0);
}

/* One case: all ranks against plain loops and against rank 0 alone. */
static void check(size_t n, size_t D, const double *f, const uint8_t *mask,
                  coh_metric metric, bool symmetric) {
  bool root = mpi_rank == 0;
  size_t pairs = n * (n - 1) / 2;
  double *out, *alone;
  OK(coh_distances(MPI_COMM_WORLD,
                   &(coh_vectors){.n = root ? n : 0,
                                  .D = root ? D : 0,
                                  .f = root ? f : NULL,
                                  .mask = root ? mask : NULL,
                                  .metric = metric,
                                  .symmetric = symmetric},
                   &out, &err));
  if (!root) {
    assert_null(out);
    return;
  }
  OK(coh_distances(
      MPI_COMM_SELF,
      &(coh_vectors){
          .n = n, .D = D, .f = f, .mask = mask, .metric = metric, .symmetric = symmetric},
      &alone, &err));
  double *plain = malloc((pairs + 1) * sizeof *plain);
  assert_non_null(plain);
  coh_distances_plain(n, D, f, mask, metric, symmetric, plain);
  for (size_t i = 0; i < pairs; i++)
    if (!(fabs(out[i] - plain[i]) <= tolerance(metric, plain[i])))
      fail_msg("n %zu, D %zu, metric %d, symmetric %d, pair %zu: %.17g instead of %.17g",
               n, D, metric, symmetric, i, out[i], plain[i]);
  assert_memory_equal(out, alone, pairs * sizeof *out);
  free(plain);
  free(alone);
  free(out);
}

static void check_all(size_t n, size_t D, const double *f, const uint8_t *mask) {
  for (int symmetric = 0; symmetric < 2; symmetric++) {
    check(n, D, f, mask, COH_EUCLIDEAN, symmetric);
    check(n, D, f, mask, COH_COSINE, symmetric);
    check(n, D, f, mask, COH_RELATIVE, symmetric);
  }
}

static void test_random_vectors_of_any_number(void) {
  size_t sizes[] = {2, 3, 4, 5, 7, 8, 63, 64, 65, 130, 257, 300};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t D = i % 3 == 0 ? 1 : i % 3 == 1 ? 11 : 130;
    double *f = random_vectors(i + 1, sizes[i], D);
    check_all(sizes[i], D, f, NULL);
    free(f);
  }
}

static void test_wide_vectors(void) {
  double *f = random_vectors(5, 40, 785);
  check_all(40, 785, f, NULL);
  free(f);
}

static void test_no_pair_and_no_vector(void) {
  double f[3] = {1, 2, 3}, *out;
  OK(coh_distances(MPI_COMM_WORLD,
                   &(coh_vectors){.n = 1, .D = 3, .f = f, .metric = COH_EUCLIDEAN}, &out,
                   &err));
  assert_true((mpi_rank == 0) == (out != NULL));
  free(out);
  OK(coh_distances(
      MPI_COMM_WORLD,
      &(coh_vectors){.n = 0, .D = 3, .f = f, .metric = COH_COSINE, .symmetric = true},
      &out, &err));
  free(out);
}

/* Families of vectors whose members differ by `relative`, with flipped ones among them.
 */
static double *families(size_t n, size_t D, double relative, double shift) {
  double *f = random_vectors(17, n, D);
  for (size_t i = 5; i < n; i++)
    for (size_t d = 0; d < D; d++) {
      double base = f[i % 5 * D + d] + shift;
      double sign = i % 3 == 0 ? -1 : 1;
      f[i * D + d] = sign * base * (1 + relative * normal(23, i * D + d));
    }
  return f;
}

static void test_near_duplicates(void) {
  for (int e = 3; e <= 12; e++) {
    double *f = families(60, 50, pow(10, -e), 0);
    check_all(60, 50, f, NULL);
    free(f);
    f = families(30, 50, pow(10, -e), 100); /* a large common part */
    check_all(30, 50, f, NULL);
    free(f);
  }
}

static void test_exact_duplicates_are_at_zero(void) {
  size_t n = 70, D = 33, zeros = 0;
  double *f = random_vectors(3, n, D), *out;
  for (size_t i = 10; i < n; i++) memcpy(f + i * D, f + i % 10 * D, D * sizeof *f);
  check_all(n, D, f, NULL);
  OK(coh_distances(MPI_COMM_WORLD,
                   &(coh_vectors){.n = n, .D = D, .f = f, .metric = COH_EUCLIDEAN}, &out,
                   &err));
  for (size_t i = 0; i < n && out; i++)
    for (size_t j = i + 1; j < n; j++)
      if (i % 10 == j % 10) assert_true(out[coh_pair(n, i, j)] == 0), zeros++;
  if (out) assert_int_equal(zeros, 10 * 21);
  free(out);
  free(f);
}

static void test_opposite_vectors_are_at_zero_if_symmetric(void) {
  size_t n = 9, D = 6;
  double *f = random_vectors(4, n, D), *out;
  for (size_t d = 0; d < D; d++) f[8 * D + d] = -f[d];
  OK(coh_distances(
      MPI_COMM_WORLD,
      &(coh_vectors){.n = n, .D = D, .f = f, .metric = COH_EUCLIDEAN, .symmetric = true},
      &out, &err));
  if (out) assert_true(out[coh_pair(n, 0, 8)] == 0);
  free(out);
  check_all(n, D, f, NULL);
  free(f);
}

static void test_zero_vectors(void) {
  size_t n = 23, D = 9;
  double *f = random_vectors(6, n, D), *out;
  memset(f + 4 * D, 0, D * sizeof *f);
  memset(f + 20 * D, 0, D * sizeof *f);
  check_all(n, D, f, NULL);
  OK(coh_distances(
      MPI_COMM_WORLD,
      &(coh_vectors){.n = n, .D = D, .f = f, .metric = COH_COSINE, .symmetric = true},
      &out, &err));
  for (size_t i = 0; i < n && out; i++)
    if (i != 4) assert_true(out[i < 4 ? coh_pair(n, i, 4) : coh_pair(n, 4, i)] == 1);
  free(out);
  OK(coh_distances(MPI_COMM_WORLD,
                   &(coh_vectors){.n = n, .D = D, .f = f, .metric = COH_EUCLIDEAN}, &out,
                   &err));
  if (out) assert_true(out[coh_pair(n, 4, 20)] == 0);
  free(out);
  free(f);
}

static void test_masks(void) {
  size_t n = 50, D = 70;
  double *f = random_vectors(7, n, D);
  uint8_t mask[70];
  for (size_t d = 0; d < D; d++) mask[d] = d % 3 != 1;
  for (size_t i = 0; i < n; i++) f[i * D + 1] = NAN; /* masked: never read */
  check_all(n, D, f, mask);
  memset(mask, 0, sizeof mask);
  mask[D - 1] = 1;
  check_all(n, D, f, mask);
  mask[D - 1] = 0;
  check_all(n, D, f, mask);
  free(f);
}

/* Lengths from 1e-8 to 1e8: one family in each direction. */
static void test_lengths_of_many_orders(void) {
  size_t n = 90, D = 20;
  double *f = random_vectors(8, n, D);
  for (size_t i = 0; i < n; i++)
    for (size_t d = 0; d < D; d++)
      f[i * D + d] = f[i % 10 * D + d] * pow(10, (double)(i % 17) - 8);
  check_all(n, D, f, NULL);
  free(f);
}

/* Vectors whose distances are equal in exact arithmetic, in tenths: sums rounded in any
 * other order would break the ties. */
static void test_ties_in_tenths(void) {
  size_t n = 100, D = 40;
  double *f = random_vectors(9, n, D);
  for (size_t i = 0; i < n * D; i++) f[i] = 0.1 * round(2 * f[i]);
  for (size_t i = 50; i < n; i++) /* the same components in another order */
    for (size_t d = 0; d < D; d++) f[i * D + d] = f[(i - 50) * D + (d * 7 + 3) % D];
  check_all(n, D, f, NULL);
  free(f);
}

static void test_value_not_finite_is_named(void) {
  double f[6] = {1, 2, 3, 4, INFINITY, 6}, *out;
  int rc = coh_distances(MPI_COMM_WORLD,
                         &(coh_vectors){.n = 2, .D = 3, .f = f, .metric = COH_EUCLIDEAN},
                         &out, &err);
  assert_int_equal(rc, COH_ENUMERIC);
  assert_non_null(strstr(err.text, "vector 1"));
  assert_null(out);
}

/* Not the world: the ranks in two halves, each with its own problem. */
static void test_any_communicator(void) {
  MPI_Comm half;
  int rank;
  size_t n = 40, D = 12;
  MPI_Comm_split(MPI_COMM_WORLD, mpi_rank % 2, -mpi_rank, &half);
  MPI_Comm_rank(half, &rank);
  double *f = random_vectors((uint64_t)(mpi_rank % 2), n, D), *out;
  OK(coh_distances(half, &(coh_vectors){.n = n, .D = D, .f = f, .metric = COH_EUCLIDEAN},
                   &out, &err));
  if (rank == 0) {
    double *plain = malloc(n * (n - 1) / 2 * sizeof *plain);
    assert_non_null(plain);
    coh_distances_plain(n, D, f, NULL, COH_EUCLIDEAN, false, plain);
    for (size_t i = 0; i < n * (n - 1) / 2; i++)
      assert_true(fabs(out[i] - plain[i]) <= 1e-12 * plain[i]);
    free(plain);
  }
  free(out);
  free(f);
  MPI_Comm_free(&half);
}

/* Own rows, by products of the GPU, against plain loops. */
static void check_on_gpu(size_t n, size_t D, const double *f, coh_metric metric) {
  const coh_device_wish gpu = {.kind = COH_DEVICE_CUDA};
  coh_vectors v = {.metric = metric, .symmetric = true, .gpu = &gpu};
  coh_rows m;
  double *plain = malloc((n * (n - 1) / 2 + 1) * sizeof *plain);
  if (mpi_rank == 0) v.n = n, v.D = D, v.f = f;
  OK(coh_rows_distances_by(0, MPI_COMM_WORLD, &v, &m, &err));
  coh_distances_plain(n, D, f, NULL, metric, true, plain);
  for (size_t i = (size_t)m.rank; i + 1 < n; i += (size_t)m.size)
    for (size_t j = i + 1; j < n; j++) {
      double d = m.data[coh_rows_at(&m, i) + (ptrdiff_t)j], p = plain[coh_pair(n, i, j)];
      if (!(fabs(d - p) <= 1e-10 * p))
        fail_msg("n %zu, D %zu, pair %zu, %zu: %.17g instead of %.17g", n, D, i, j, d, p);
    }
  free(plain);
  free(m.data);
}

/* Tested where there is a GPU, or its double. */
static void test_products_of_a_gpu(void) {
  const size_t n[] = {2, 5, 255, 256, 300, 700}, D[] = {3, 1, 67, 16, 100, 5};
  for (size_t i = 0; i < sizeof n / sizeof *n && coh_device_count() > 0; i++) {
    double *f = random_vectors(i, n[i], D[i]);
    check_on_gpu(n[i], D[i], f, COH_EUCLIDEAN);
    check_on_gpu(n[i], D[i], f, COH_COSINE);
    check_on_gpu(n[i], D[i], f, COH_RELATIVE);
    free(f);
  }
}

static mpi_test tests[] = {
    MPI_TEST(test_random_vectors_of_any_number),
    MPI_TEST(test_wide_vectors),
    MPI_TEST(test_no_pair_and_no_vector),
    MPI_TEST(test_near_duplicates),
    MPI_TEST(test_exact_duplicates_are_at_zero),
    MPI_TEST(test_opposite_vectors_are_at_zero_if_symmetric),
    MPI_TEST(test_zero_vectors),
    MPI_TEST(test_masks),
    MPI_TEST(test_lengths_of_many_orders),
    MPI_TEST(test_ties_in_tenths),
    MPI_TEST(test_value_not_finite_is_named),
    MPI_TEST(test_any_communicator),
    MPI_TEST(test_products_of_a_gpu),
};

MPI_MAIN(tests)
