/* test_lstsq.c - least squares over any number of ranks: known solutions, and
 * minimum-norm solutions of rank-deficient problems beside LAPACK's gelsd of the whole
 * matrix. */
#include "extract/private.h"
#include "extract/scalapack.h"

#include "mpi_main.h"

#include <math.h>
#include <string.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

/* Rows of [X | Y], and how often each was asked for. */
typedef struct table {
  size_t n, d, o;
  double *v; /* [n, d + o] */
  uint32_t *asked;
} table;

static table random_table(uint64_t seed, size_t n, size_t d, size_t o) {
  table t = {.n = n, .d = d, .o = o};
  t.v = malloc(n * (d + o) * sizeof *t.v);
  t.asked = calloc(n, sizeof *t.asked);
  assert_true(t.v && t.asked);
  for (size_t i = 0; i < n * (d + o); i++)
    t.v[i] = coh_random_normal(seed, COH_RNG_TEST, 0, i);
  return t;
}

static void free_table(table *t) {
  free(t->asked);
  free(t->v);
}

static void fill(void *ctx, size_t row, double *values) {
  table *t = ctx;
  assert_true(row < t->n);
  t->asked[row]++;
  memcpy(values, t->v + row * (t->d + t->o), (t->d + t->o) * sizeof *values);
}

/* Y = X theta */
static void set_targets(table *t, const double *theta) {
  for (size_t i = 0; i < t->n; i++) {
    double *row = t->v + i * (t->d + t->o);
    for (size_t j = 0; j < t->o; j++) {
      row[t->d + j] = 0;
      for (size_t c = 0; c < t->d; c++) row[t->d + j] += row[c] * theta[c * t->o + j];
    }
  }
}

/* The whole problem in LAPACK; returns the rank. */
static size_t whole(const table *t, double rcond, double *theta) {
  int n = (int)t->n, d = (int)t->d, o = (int)t->o, rank, info, iwork[4096],
      lwork = 1 << 18;
  int ldb = n > d ? n : d;
  double *x = calloc(t->n * t->d, sizeof *x), *b = calloc((size_t)ldb * t->o, sizeof *b);
  double *s = calloc(t->d, sizeof *s), *work = calloc((size_t)lwork, sizeof *work);
  assert_true(x && b && s && work);
  for (size_t i = 0; i < t->n; i++) {
    const double *row = t->v + i * (t->d + t->o);
    for (size_t c = 0; c < t->d; c++) x[c * t->n + i] = row[c];
    for (size_t j = 0; j < t->o; j++) b[j * (size_t)ldb + i] = row[t->d + j];
  }
  dgelsd_(&n, &d, &o, x, &n, b, &ldb, s, &rcond, &rank, work, &lwork, iwork, &info);
  assert_int_equal(info, 0);
  for (size_t c = 0; c < t->d; c++)
    for (size_t j = 0; j < t->o; j++) theta[c * t->o + j] = b[j * (size_t)ldb + c];
  free(work);
  free(s);
  free(b);
  free(x);
  return (size_t)rank;
}

static void check_near(const table *t, const double *got, const double *want,
                       double tol) {
  for (size_t i = 0; i < t->d * t->o; i++)
    if (!(fabs(got[i] - want[i]) <= tol))
      fail_msg("n %zu, d %zu, o %zu: theta[%zu] = %.17g instead of %.17g", t->n, t->d,
               t->o, i, got[i], want[i]);
}

/* Each row on one rank, once. */
static void check_asked(const table *t) {
  uint32_t *sum = calloc(t->n, sizeof *sum);
  assert_non_null(sum);
  MPI_Allreduce(t->asked, sum, (int)t->n, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
  for (size_t i = 0; i < t->n; i++) assert_int_equal(sum[i], 1);
  free(sum);
}

static void check(table *t, double rcond, size_t expect_rank, double tol) {
  double *got = calloc(t->d * t->o, sizeof *got),
         *want = calloc(t->d * t->o, sizeof *want);
  size_t rank;
  assert_true(got && want);
  OK(coh_lstsq(MPI_COMM_WORLD, t->n, t->d, t->o, fill, t, rcond, got, &rank, &err));
  assert_int_equal(whole(t, rcond, want), expect_rank);
  assert_int_equal(rank, expect_rank);
  check_near(t, got, want, tol);
  check_asked(t);
  free(want);
  free(got);
}

static void test_known_solution(void) {
  size_t shapes[][3] = {
      {50, 5, 1}, {200, 40, 3}, {33, 33, 2}, {1000, 12, 10}, {97, 64, 7}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    size_t d = shapes[i][1], o = shapes[i][2];
    table t = random_table(i + 1, shapes[i][0], d, o);
    double *theta = calloc(d * o, sizeof *theta), *got = calloc(d * o, sizeof *got);
    assert_true(theta && got);
    for (size_t k = 0; k < d * o; k++) theta[k] = (double)(k % 7) - 3;
    set_targets(&t, theta);
    OK(coh_lstsq(MPI_COMM_WORLD, t.n, d, o, fill, &t, 1e-12, got, NULL, &err));
    check_near(&t, got, theta, 1e-10);
    free(got);
    free(theta);
    free_table(&t);
  }
}

static void test_targets_outside_the_range(void) {
  size_t shapes[][3] = {{40, 3, 2}, {300, 31, 5}, {70, 65, 1}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    table t = random_table(i + 10, shapes[i][0], shapes[i][1], shapes[i][2]);
    check(&t, 1e-12, t.d, 1e-10);
    free_table(&t);
  }
}

static void test_one_row(void) {
  table t = random_table(20, 1, 6, 2);
  check(&t, 1e-12, 1, 1e-12);
  free_table(&t);
  t = random_table(21, 1, 1, 1);
  check(&t, 1e-12, 1, 1e-12);
  free_table(&t);
}

static void test_fewer_rows_than_inputs(void) {
  size_t rows[] = {2, 5, 31, 39};
  for (size_t i = 0; i < 4; i++) {
    table t = random_table(30 + i, rows[i], 40, 3);
    check(&t, 1e-12, rows[i], 1e-10);
    free_table(&t);
  }
}

static void test_constant_zero_and_duplicate_columns(void) {
  size_t n = 120, d = 12, o = 3;
  table t = random_table(40, n, d, o);
  for (size_t i = 0; i < n; i++) {
    double *row = t.v + i * (d + o);
    row[2] = 0;      /* zero */
    row[5] = row[1]; /* duplicate */
    row[7] = -2 * row[1];
    row[d - 2] = 3; /* constant, beside the 1 of a bias */
    row[d - 1] = 1;
  }
  check(&t, 1e-10, d - 4, 1e-10);
  free_table(&t);
}

static void test_nothing_but_zeros(void) {
  table t = random_table(50, 30, 4, 2);
  for (size_t i = 0; i < t.n; i++) memset(t.v + i * 6, 0, 4 * sizeof *t.v);
  check(&t, 1e-10, 0, 0);
  free_table(&t);
}

/* Columns of very different sizes: what counts as zero is told by rcond. */
static void test_rcond_decides(void) {
  table t = random_table(60, 80, 3, 1);
  for (size_t i = 0; i < t.n; i++) t.v[i * 4 + 2] *= 1e-8;
  check(&t, 1e-6, 2, 1e-10);
  memset(t.asked, 0, t.n * sizeof *t.asked);
  check(&t, 1e-12, 3, 1e-3); /* theta[2] is of the order 1e8 */
  free_table(&t);
}

static void test_chunk_by_chunk(void) {
  size_t rows[] = {1, 28, 56, 57, 500, 1009};
  for (size_t i = 0; i < 6; i++) {
    table t = random_table(80 + i, rows[i], 5, 2);
    double got[10], want[10];
    size_t rank;
    OK(coh_lstsq_by(MPI_COMM_WORLD, 1, t.n, 5, 2, fill, &t, 1e-12, got, &rank, &err));
    assert_int_equal(rank, whole(&t, 1e-12, want));
    check_near(&t, got, want, 1e-12);
    check_asked(&t);
    free_table(&t);
  }
}

static void test_value_not_finite_names_the_row(void) {
  table t = random_table(70, 400, 4, 2);
  double theta[8];
  t.v[321 * 6 + 5] = NAN;
  assert_int_equal(
      coh_lstsq(MPI_COMM_WORLD, 400, 4, 2, fill, &t, 1e-12, theta, NULL, &err),
      COH_ENUMERIC);
  assert_non_null(strstr(err.text, "target 1 of row 321"));
  free_table(&t);
}

static void test_empty_problem_is_refused(void) {
  double theta[1];
  assert_int_equal(
      coh_lstsq(MPI_COMM_WORLD, 0, 1, 1, fill, NULL, 1e-12, theta, NULL, &err),
      COH_EUSAGE);
}

static mpi_test tests[] = {
    MPI_TEST(test_known_solution),
    MPI_TEST(test_targets_outside_the_range),
    MPI_TEST(test_one_row),
    MPI_TEST(test_fewer_rows_than_inputs),
    MPI_TEST(test_constant_zero_and_duplicate_columns),
    MPI_TEST(test_nothing_but_zeros),
    MPI_TEST(test_rcond_decides),
    MPI_TEST(test_chunk_by_chunk),
    MPI_TEST(test_value_not_finite_names_the_row),
    MPI_TEST(test_empty_problem_is_refused),
};

MPI_MAIN(tests)
