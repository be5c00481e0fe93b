/* test_oracle.c - the clustering of a layer beside oracle_extract.py, a restatement of
 * the rule in NumPy and SciPy: random layers with ties, and layers made from real images.
 */
#include "cohort/extract.h"

#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <sys/wait.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

typedef struct oracle_case {
  const char *made; /* NULL: random; else what oracle_extract.py makes it from */
  coh_act act;
  size_t N, H, D, O;
  bool integers; /* components are whole numbers: distances have many ties */
  bool masked;
  double noise;
  size_t kinds; /* different vectors that all students hold */
  coh_cluster_options opt;
} oracle_case;

static double normal(uint64_t seed, uint64_t i) {
  return coh_random_normal(seed, COH_RNG_TEST, 3, i);
}

static void write_array(const char *name, size_t n, const double *v) {
  OK(coh_file_write(scratch(name), v, n * sizeof *v, &err));
}

/* n numbers, or as many as there are where n = SIZE_MAX; freed by the caller. */
static double *read_array(const char *name, size_t n, size_t *count) {
  char *data;
  size_t bytes;
  OK(coh_file_read(scratch(name), &data, &bytes, &err));
  if (n != SIZE_MAX && bytes != n * sizeof(double))
    fail_msg("%s holds %zu bytes, not %zu numbers", name, bytes, n);
  if (count) *count = bytes / sizeof(double);
  return (double *)(void *)data;
}

static void write_options(const oracle_case *c, uint64_t seed) {
  static const char *const canonical[] = {"first", "largest", "distance"};
  static const char *const cut[] = {"max_clusters", "count", "plateau", "angle"};
  coh_text t = {0};
  coh_text_add(&t, "N=%zu\nH=%zu\nO=%zu\nseed=%d\nnoise=%g\n", c->N, c->H, c->O,
               (int)seed, c->noise);
  if (!c->made) coh_text_add(&t, "D=%zu\n", c->D);
  coh_text_add(&t, "symmetry=%s\nlinear_part=%g\n", coh_symmetry_name(c->opt.symmetry),
               c->opt.linear_part);
  coh_text_add(&t, "gamma=%g\nbeta=%g\nclusters=%zu\nlast_hidden=%d\n", c->opt.gamma,
               c->opt.beta, c->opt.clusters, c->opt.last_hidden);
  coh_text_add(&t, "linkage=%s\nmetric=%s\ncanonical=%s\ncut=%s\n",
               c->opt.linkage == COH_AVERAGE ? "average" : "complete",
               c->opt.metric == COH_COSINE ? "cosine" : "euclidean",
               canonical[c->opt.canonical], cut[c->opt.cut]);
  OK(coh_text_check(&t, &err));
  OK(coh_file_write(scratch("options.txt"), t.data, t.len, &err));
  coh_text_free(&t);
}

/* Each student: `kinds` vectors that all share, some of them twice, then strangers. */
static void write_random(const oracle_case *c, uint64_t seed) {
  size_t n = c->N * c->H;
  double *w = calloc(n * c->D, sizeof *w), *a = calloc(n * c->O, sizeof *a);
  double *loss = calloc(c->N, sizeof *loss), *mask = calloc(c->D, sizeof *mask);
  assert_true(w && a && loss && mask);
  for (size_t i = 0; i < n; i++) {
    size_t h = i % c->H, kind = h < c->H - 2 ? h % c->kinds : 1000 + i;
    double sign = coh_symmetry_has_sign(c->opt.symmetry) && normal(seed, i) < 0 ? -1 : 1;
    for (size_t d = 0; d < c->D; d++) {
      double v = 2 * normal(seed, 10000 + kind * c->D + d);
      v += c->noise * normal(seed, 900000 + i * c->D + d);
      w[i * c->D + d] = sign * (c->integers ? round(v) : v);
    }
  }
  for (size_t i = 0; i < n * c->O; i++) a[i] = normal(seed, 5000000 + i);
  for (size_t s = 0; s < c->N; s++) loss[s] = floor(3 * fabs(normal(seed, 6000000 + s)));
  for (size_t d = 0; d < c->D; d++) mask[d] = !c->masked || d % 4 != 0 || d + 1 == c->D;
  write_array("w", n * c->D, w);
  write_array("a", n * c->O, a);
  write_array("loss", c->N, loss);
  write_array("mask", c->D, mask);
  free(mask);
  free(loss);
  free(a);
  free(w);
}

static void run_oracle(const oracle_case *c) {
  char command[1024];
  snprintf(command, sizeof command, "/usr/bin/python3 tests/oracle_extract.py '%s' %s",
           scratch_folder, c->made ? c->made : "");
  int status = system(command);
  if (status != 0)
    fail_msg("'%s' ended with status %d; it needs the Debian packages python3-numpy, "
             "python3-scipy and dataset-fashion-mnist",
             command, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static coh_clustering *cluster(oracle_case *c) {
  size_t n = c->N * c->H, values;
  double *mask = read_array("mask", SIZE_MAX, &c->D);
  double *w = read_array("w", n * c->D, NULL), *a = read_array("a", SIZE_MAX, &values);
  double *loss = read_array("loss", c->N, NULL);
  uint8_t *keep = calloc(c->D, 1);
  assert_non_null(keep);
  assert_int_equal(values, n * c->O);
  for (size_t d = 0; d < c->D; d++) keep[d] = mask[d] != 0;
  coh_layer_view view = {c->N, c->H, c->D, c->O, w, a, loss, keep, NULL};
  coh_clustering *out;
  OK(coh_cluster_layer(MPI_COMM_WORLD, &view, &c->opt, NULL, &out, &err));
  free(keep);
  free(loss);
  free(a);
  free(w);
  free(mask);
  return out;
}

static void check_near(const char *name, const double *got, size_t n, double tol) {
  double *want = read_array(name, n, NULL);
  for (size_t i = 0; i < n; i++)
    if (!(fabs(got[i] - want[i]) <= tol * fmax(1, fabs(want[i]))))
      fail_msg("%s[%zu] is %.17g, not %.17g", name, i, got[i], want[i]);
  free(want);
}

static void check_indices(const char *name, const size_t *got, size_t n) {
  double *want = read_array(name, n, NULL);
  for (size_t i = 0; i < n; i++)
    if ((double)got[i] != want[i])
      fail_msg("%s[%zu] is %zu, not %g", name, i, got[i], want[i]);
  free(want);
}

static void check_tree(const oracle_case *c, const coh_clustering *x) {
  size_t n = c->N * c->H;
  double *want = read_array("heights", n - 1, NULL), *cut = read_array("cut", 1, NULL);
  for (size_t i = 0; i + 1 < n; i++)
    if (!(fabs(x->merges[i].height - want[i]) <= 1e-9 * want[i] + 1e-15))
      fail_msg("height %zu is %.17g, not %.17g", i, x->merges[i].height, want[i]);
  if (c->opt.cut != COH_CUT_COUNT) assert_true(fabs(x->cut - *cut) <= 1e-9 * *cut);
  free(cut);
  free(want);
}

static void check_case(oracle_case c, uint64_t seed) {
  c.opt.symmetry = coh_act_symmetry(c.act);
  c.opt.linear_part = coh_act_linear_part(c.act);
  write_options(&c, seed);
  if (!c.made) write_random(&c, seed);
  run_oracle(&c);
  coh_clustering *x = cluster(&c);
  check_tree(&c, x);
  check_indices("label", x->label, c.N * c.H);
  check_indices("kept", x->kept, x->K);
  size_t *student = calloc(x->K, sizeof *student);
  assert_non_null(student);
  for (size_t k = 0; k < x->K; k++) student[k] = x->cluster[x->kept[k]].student;
  check_indices("student", student, x->K);
  free(student);
  check_near("new_w", x->w, x->K * c.D, 1e-9);
  check_near("new_a", x->a, x->K * c.O * (c.opt.last_hidden ? 1 : c.N), 1e-9);
  if (x->constant) check_near("constant", x->constant, c.N * c.O, 1e-9);
  if (x->linear) check_near("linear", x->linear, c.N * c.D * c.O, 1e-9);
  assert_true(x->K >= 2); /* a case that says something */
  print_message("%zu vectors of %zu, %zu clusters, %zu kept\n", c.N * c.H, c.D,
                x->n_clusters, x->K);
  coh_clustering_destroy(x);
}

static void test_noisy_neurons(void **state) {
  (void)state;
  oracle_case c = {.act = COH_TANH,
                   .N = 10,
                   .H = 9,
                   .D = 12,
                   .O = 3,
                   .noise = 0.05,
                   .kinds = 5,
                   .opt = {.gamma = 0.5, .beta = 6}};
  for (uint64_t seed = 1; seed <= 3; seed++) check_case(c, seed);
}

static void test_scaling_class(void **state) {
  (void)state;
  oracle_case c = {
      .act = COH_RELU,
      .N = 12,
      .H = 10,
      .D = 20,
      .O = 4,
      .noise = 0.02,
      .kinds = 8,
      .opt = {
          .gamma = 0.75, .beta = 5, .last_hidden = true, .canonical = COH_CANON_LARGEST}};
  for (uint64_t seed = 4; seed <= 6; seed++) check_case(c, seed);
  c.act = COH_LEAKY_RELU;
  c.opt.last_hidden = false;
  check_case(c, 7);
}

/* Whole numbers in few dimensions: many equal distances and equal vectors. */
static void test_ties(void **state) {
  (void)state;
  oracle_case c = {.act = COH_G,
                   .N = 10,
                   .H = 8,
                   .D = 3,
                   .O = 2,
                   .integers = true,
                   .noise = 0.3,
                   .kinds = 4,
                   .opt = {.gamma = 0.5, .beta = 6}};
  for (uint64_t seed = 8; seed <= 19; seed++) {
    c.opt.linkage = seed % 2 ? COH_AVERAGE : COH_COMPLETE;
    check_case(c, seed);
  }
}

static void test_masked_ties_of_another_class(void **state) {
  (void)state;
  oracle_case c = {.act = COH_SIGMOID,
                   .N = 8,
                   .H = 10,
                   .D = 9,
                   .O = 3,
                   .integers = true,
                   .masked = true,
                   .noise = 0.2,
                   .kinds = 6,
                   .opt = {.gamma = 0.6, .beta = 4, .linkage = COH_COMPLETE}};
  for (uint64_t seed = 20; seed <= 24; seed++) check_case(c, seed);
}

static void test_symmetric_cosine_distances(void **state) {
  (void)state;
  oracle_case c = {.act = COH_GELU,
                   .N = 9,
                   .H = 12,
                   .D = 16,
                   .O = 2,
                   .noise = 0.1,
                   .kinds = 7,
                   .opt = {.gamma = 0.5,
                           .beta = 6,
                           .metric = COH_COSINE,
                           .canonical = COH_CANON_DISTANCE}};
  check_case(c, 30);
  c.opt.cut = COH_CUT_ANGLE;
  check_case(c, 31);
  c.opt.metric = COH_EUCLIDEAN;
  c.opt.cut = COH_CUT_PLATEAU;
  check_case(c, 32);
  c.opt.cut = COH_CUT_COUNT;
  c.opt.clusters = 20;
  check_case(c, 33);
}

static void test_images(void **state) {
  (void)state;
  oracle_case c = {.made = "images",
                   .act = COH_SOFTPLUS,
                   .N = 10,
                   .H = 20,
                   .O = 10,
                   .noise = 0.02,
                   .opt = {.gamma = 0.5, .beta = 6}};
  check_case(c, 40);
  c.opt.canonical = COH_CANON_LARGEST;
  check_case(c, 41);
}

static void test_patches_of_images(void **state) {
  (void)state;
  oracle_case c = {.made = "patches",
                   .act = COH_RELU,
                   .N = 15,
                   .H = 16,
                   .O = 5,
                   .noise = 0.01,
                   .opt = {.gamma = 0.5, .beta = 6, .canonical = COH_CANON_DISTANCE}};
  check_case(c, 50);
  c.act = COH_SIGMOID;
  c.opt.metric = COH_COSINE;
  check_case(c, 51);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_noisy_neurons),
      cmocka_unit_test(test_scaling_class),
      cmocka_unit_test(test_ties),
      cmocka_unit_test(test_masked_ties_of_another_class),
      cmocka_unit_test(test_symmetric_cosine_distances),
      cmocka_unit_test(test_images),
      cmocka_unit_test(test_patches_of_images),
  };
  MPI_Init(NULL, NULL);
  int failed = cmocka_run_group_tests(tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed;
}
