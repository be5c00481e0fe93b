/* test_model.c - networks on file, with several ranks: what was saved comes back, in the
 * layout users see; what is not a model is refused, the same on all ranks. */
#include "cohort/net.h"

#include "mpi_main.h"

#include <sys/stat.h>

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)
#define WORLD MPI_COMM_WORLD

enum { N = 7 };

static coh_error err;

static void says(const char *part) {
  if (!strstr(err.text, part)) fail_msg("'%s' is not in: %s", part, err.text);
}

static coh_plan example_plan(void) {
  const size_t sizes[] = {5, 4, 3, 2};
  const bool skip[] = {false, true, true};
  coh_plan plan;
  OK(coh_plan_dense(3, sizes, COH_GELU, skip, &plan, &err));
  return plan;
}

/* Parameter i of member n; exact in float32. */
static double value(size_t n, size_t i) {
  return (double)(n * 1000 + i) / 16;
}

/* Each rank saves its share of the members; the last ranks may have none. */
static int save_example(const char *path, const coh_plan *plan, coh_dtype dtype) {
  size_t per = N / (size_t)mpi_size + 1, first = per * (size_t)mpi_rank;
  if (first > N) first = N;
  size_t count = N - first < per ? N - first : per;
  void *mine;
  OK(coh_alloc(&mine, count * plan->P, coh_dtype_size(dtype), &err));
  for (size_t k = 0; k < count * plan->P; k++)
    coh_put(dtype, mine, k, value(first + k / plan->P, k % plan->P));
  int rc = coh_model_save(path, WORLD, plan, dtype, N, first, count, mine, &err);
  free(mine);
  return rc;
}

static void assert_same_plan(const coh_plan *a, const coh_plan *b) {
  assert_int_equal(a->L, b->L);
  assert_int_equal(a->P, b->P);
  for (size_t l = 0; l < a->L; l++) {
    assert_int_equal(a->layer[l].in, b->layer[l].in);
    assert_int_equal(a->layer[l].out, b->layer[l].out);
    assert_int_equal(a->layer[l].act, b->layer[l].act);
    assert_int_equal(a->layer[l].skip, b->layer[l].skip);
  }
}

static void test_what_is_saved_comes_back(void) {
  const char *path = scratch("model.h5");
  coh_plan plan = example_plan(), found;
  for (coh_dtype saved = COH_F32; saved <= COH_F64; saved++)
    for (coh_dtype loaded = COH_F32; loaded <= COH_F64; loaded++) {
      size_t members;
      void *params;
      OK(save_example(path, &plan, saved));
      OK(coh_model_load(path, WORLD, loaded, &found, &members, &params, &err));
      assert_int_equal(members, N);
      assert_same_plan(&found, &plan);
      for (size_t k = 0; k < N * plan.P; k++)
        assert_true(coh_get(loaded, params, k) == value(k / plan.P, k % plan.P));
      free(params);
    }
}

/* Element (o, i) of a weight in the file is element (i, o) in memory. */
static void test_users_see_outputs_first(void) {
  const char *path = scratch("layout.h5");
  coh_plan plan = example_plan();
  coh_archive *a;
  double weight[N][4][5], bias[N][2];
  char *text;
  OK(save_example(path, &plan, COH_F64));
  OK(coh_archive_open(path, "model", 1, WORLD, &a, &err));
  OK(coh_archive_get(a, "fc_layers.0.weight", COH_T_F64, 3, (size_t[]){N, 4, 5}, weight,
                     &err));
  OK(coh_archive_get(a, "fc.bias", COH_T_F64, 2, (size_t[]){N, 2}, bias, &err));
  OK(coh_archive_get_text(a, "activation", &text, &err));
  assert_string_equal(text, "gelu");
  free(text);
  OK(coh_archive_get_text(a, "dtype", &text, &err));
  assert_string_equal(text, "float64");
  free(text);
  OK(coh_archive_commit(a, &err));
  for (size_t n = 0; n < N; n++) {
    for (size_t o = 0; o < 4; o++)
      for (size_t i = 0; i < 5; i++)
        assert_true(weight[n][o][i] == value(n, plan.layer[0].w + i * 4 + o));
    for (size_t o = 0; o < 2; o++)
      assert_true(bias[n][o] == value(n, plan.layer[2].b + o));
  }
}

/* An archive that is almost a model of sizes 2, 1: what `fault` names is wrong. */
static void save_faulty(const char *path, const char *fault) {
  coh_archive *a;
  const uint64_t sizes[] = {2, strcmp(fault, "size") ? 1 : 0};
  const uint8_t skip[] = {0, 0};
  const double w[] = {1, 2, 3};
  OK(coh_archive_create(path, strcmp(fault, "kind") ? "model" : "checkpoint", 1, WORLD,
                        &a, &err));
  OK(coh_archive_put(a, "sizes", COH_T_U64, 1, (size_t[]){2}, sizes, &err));
  OK(coh_archive_put(a, "skip", COH_T_U8, 1, (size_t[]){strcmp(fault, "skip") ? 1 : 2},
                     skip, &err));
  OK(coh_archive_put_text(a, "activation", strcmp(fault, "activation") ? "g" : "sine",
                          &err));
  OK(coh_archive_put_text(a, "dtype", "float64", &err));
  OK(coh_archive_put(a, "fc.weight", COH_T_F64, 3,
                     (size_t[]){1, 1, strcmp(fault, "shape") ? 2 : 3}, w, &err));
  if (strcmp(fault, "missing"))
    OK(coh_archive_put(a, "fc.bias", COH_T_F64, 2,
                       (size_t[]){strcmp(fault, "members") ? 1 : 2, 1}, w, &err));
  OK(coh_archive_commit(a, &err));
}

static void test_what_is_no_model_is_refused(void) {
  const char *const faults[][2] = {{"kind", "checkpoint"}, {"size", "outside 1.."},
                                   {"skip", "skip"},       {"activation", "sine"},
                                   {"shape", "fc.weight"}, {"missing", "fc.bias"},
                                   {"members", "fc.bias"}};
  const char *path = scratch("faulty.h5");
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    coh_plan plan;
    size_t members;
    void *params = &plan;
    save_faulty(path, faults[i][0]);
    assert_int_equal(coh_model_load(path, WORLD, COH_F64, &plan, &members, &params, &err),
                     COH_EDATA);
    says(faults[i][1]);
    says("faulty.h5");
    assert_null(params);
  }
  coh_plan plan;
  size_t members;
  void *params;
  save_faulty(path, "none");
  OK(coh_model_load(path, WORLD, COH_F64, &plan, &members, &params, &err));
  free(params);
  assert_int_equal(
      coh_model_load(scratch("none.h5"), WORLD, COH_F64, &plan, &members, &params, &err),
      COH_EIO);
}

static mpi_test tests[] = {
    MPI_TEST(test_what_is_saved_comes_back),
    MPI_TEST(test_users_see_outputs_first),
    MPI_TEST(test_what_is_no_model_is_refused),
};

MPI_MAIN(tests)
