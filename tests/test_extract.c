/* test_extract.c - the room src/extract on one process: symmetries, linkage, cut,
 * clustering of a layer, assignment, comparison, parameter error. */
#include "cohort/rebuild.h"
#include "extract/private.h"

#include <mpi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)
#define NEAR(a, b, tol)                                                                  \
  do {                                                                                   \
    double near_a = (a), near_b = (b);                                                   \
    if (!(fabs(near_a - near_b) <= (tol)))                                               \
      fail_msg("%s = %.17g, not %s = %.17g", #a, near_a, #b, near_b);                    \
  } while (0)

enum { N_ACTS = COH_G + 1 };

static double normal(uint64_t seed, uint64_t i) {
  return coh_random_normal(seed, COH_RNG_TEST, 0, i);
}
static double uniform(uint64_t seed, uint64_t i) {
  return coh_random_uniform(seed, COH_RNG_TEST, 1, i);
}

static void *array(size_t n, size_t size) {
  void *p = calloc(n + 1, size);
  assert_non_null(p);
  return p;
}

static double act_value(coh_act act, double z) {
  switch (act) {
  case COH_RELU:
    return z > 0 ? z : 0;
  case COH_LEAKY_RELU:
    return z > 0 ? z : 0.01 * z;
  case COH_SOFTPLUS:
    return log1p(exp(-fabs(z))) + fmax(z, 0);
  case COH_GELU:
    return z * 0.5 * erfc(-z / sqrt(2));
  case COH_SILU:
    return z / (1 + exp(-z));
  case COH_TANH:
    return tanh(z);
  case COH_IDENTITY:
    return z;
  case COH_SIGMOID:
    return 1 / (1 + exp(-z));
  case COH_G:
    return 1 / (1 + exp(-4 * z)) + log1p(exp(z));
  }
  return NAN;
}

/* ---- symmetries -------------------------------------------------------------------- */

static void test_identity_of_each_class(void **state) {
  (void)state;
  for (int act = 0; act < N_ACTS; act++)
    for (int i = -20; i <= 20; i++) {
      double z = 0.37 * i, f = act_value((coh_act)act, z),
             g = act_value((coh_act)act, -z);
      double c = coh_act_linear_part((coh_act)act), k = 2.5;
      switch (coh_act_symmetry((coh_act)act)) {
      case COH_SYM_ODD:
        NEAR(f, -g, 1e-15);
        break;
      case COH_SYM_ODD_CONSTANT:
        NEAR(f, 1 - g, 1e-15);
        break;
      case COH_SYM_EVEN_LINEAR_POSITIVE_SCALING:
        NEAR(act_value((coh_act)act, k * z), k * f, 1e-14);
        NEAR(f, g + c * z, 1e-14);
        break;
      case COH_SYM_EVEN_LINEAR:
        NEAR(f, g + c * z, 1e-14);
        break;
      case COH_SYM_NONE:
        assert_int_equal(act, COH_G);
        break;
      }
    }
}

static void test_names_of_symmetries(void **state) {
  (void)state;
  assert_string_equal(coh_symmetry_name(coh_act_symmetry(COH_G)), "none");
  assert_string_equal(coh_symmetry_name(coh_act_symmetry(COH_LEAKY_RELU)),
                      "even_linear_positive_scaling");
  assert_false(coh_symmetry_has_sign(COH_SYM_NONE));
  assert_true(coh_symmetry_is_even_linear(coh_act_symmetry(COH_SILU)));
}

/* ---- linkage ----------------------------------------------------------------------- */

static void merges_of(size_t n, const double *points, coh_linkage kind, coh_merge *m) {
  double *dist = array(n * n, sizeof *dist);
  for (size_t i = 0; i < n; i++)
    for (size_t j = i + 1; j < n; j++)
      dist[coh_pair(n, i, j)] = fabs(points[i] - points[j]);
  OK(coh_link(n, dist, kind, m, &err));
  free(dist);
}

static void check_merge(const coh_merge *m, size_t a, size_t b, double height,
                        size_t size) {
  assert_int_equal(m->a, a);
  assert_int_equal(m->b, b);
  assert_int_equal(m->size, size);
  NEAR(m->height, height, 1e-14);
}

static void test_linkage_by_hand(void **state) {
  (void)state;
  double points[] = {0, 10, 1, 14, 3};
  coh_merge m[4];
  merges_of(5, points, COH_AVERAGE, m);
  check_merge(&m[0], 0, 2, 1, 2);
  check_merge(&m[1], 4, 5, 2.5, 3);
  check_merge(&m[2], 1, 3, 4, 2);
  check_merge(&m[3], 6, 7, 12 - 4. / 3, 5);
  merges_of(5, points, COH_COMPLETE, m);
  check_merge(&m[0], 0, 2, 1, 2);
  check_merge(&m[1], 4, 5, 3, 3);
  check_merge(&m[2], 1, 3, 4, 2);
  check_merge(&m[3], 6, 7, 14, 5);
}

/* scipy.cluster.hierarchy.average([[0], [1], [2], [3], [4], [5]]) */
static void test_linkage_of_ties_is_scipys(void **state) {
  (void)state;
  double points[] = {0, 1, 2, 3, 4, 5};
  coh_merge m[5];
  merges_of(6, points, COH_AVERAGE, m);
  check_merge(&m[0], 0, 1, 1, 2);
  check_merge(&m[1], 2, 3, 1, 2);
  check_merge(&m[2], 4, 5, 1, 2);
  check_merge(&m[3], 6, 7, 2, 4);
  check_merge(&m[4], 8, 9, 3, 6);
}

static void test_linkage_refuses_nan(void **state) {
  (void)state;
  double dist[3] = {1, NAN, 2};
  coh_merge m[2];
  assert_int_equal(coh_link(3, dist, COH_AVERAGE, m, &err), COH_ENUMERIC);
  assert_non_null(strstr(err.text, "vectors 0 and 2"));
}

/* The definition: at each step join the two clusters of least mean distance. */
static void plain_heights(size_t n, const double *dist, double *heights) {
  size_t *label = array(n, sizeof *label);
  for (size_t i = 0; i < n; i++) label[i] = i;
  for (size_t k = 0; k + 1 < n; k++) {
    double *sum = array(n * n, sizeof *sum), *count = array(n * n, sizeof *count);
    for (size_t i = 0; i < n; i++)
      for (size_t j = 0; j < n; j++) {
        if (label[i] >= label[j]) continue;
        sum[label[i] * n + label[j]] +=
            dist[i < j ? coh_pair(n, i, j) : coh_pair(n, j, i)];
        count[label[i] * n + label[j]]++;
      }
    size_t best = 0;
    heights[k] = INFINITY;
    for (size_t c = 0; c < n * n; c++)
      if (count[c] > 0 && sum[c] / count[c] < heights[k]) {
        heights[k] = sum[c] / count[c];
        best = c;
      }
    for (size_t i = 0; i < n; i++)
      if (label[i] == best % n) label[i] = best / n;
    free(sum);
    free(count);
  }
  free(label);
}

static void test_linkage_is_that_of_the_definition(void **state) {
  (void)state;
  size_t n = 30;
  for (uint64_t seed = 0; seed < 5; seed++) {
    double *dist = array(n * n, sizeof *dist), heights[30];
    coh_merge m[30];
    for (size_t i = 0; i < n * (n - 1) / 2; i++) dist[i] = 0.1 + uniform(seed, i);
    plain_heights(n, dist, heights);
    OK(coh_link(n, dist, COH_AVERAGE, m, &err));
    for (size_t k = 0; k + 1 < n; k++) NEAR(m[k].height, heights[k], 1e-13);
    free(dist);
  }
}

/* ---- cut --------------------------------------------------------------------------- */

/* Two pairs and a triple far apart, and a stranger: 0 0.1, 10 10.2, 20 20.3 20.3, 100 */
static const double cut_points[] = {0, 0.1, 10, 10.2, 20, 20.3, 20.3, 100};

static void test_cut_takes_the_last_of_the_first_run(void **state) {
  (void)state;
  coh_merge m[7];
  double height;
  size_t large;
  merges_of(8, cut_points, COH_AVERAGE, m);
  /* heights 0 0.1 0.2 0.3 ~10 ~15 ~90: pairs or more: 1 2 3 3 2 1 1 */
  OK(coh_cut_height(8, m, COH_CUT_MAX_CLUSTERS, 2, 0, 0, &height, &large, &err));
  NEAR(height, 0.3, 1e-12);
  assert_int_equal(large, 3);
  size_t label[8], expect[8] = {0, 0, 1, 1, 2, 2, 2, 3};
  assert_int_equal(coh_cut_labels(8, m, height, label), 4);
  assert_memory_equal(label, expect, sizeof label);
}

/* Runs of the maximum at separate merges: the first one counts. */
static void test_cut_ignores_later_runs(void **state) {
  (void)state;
  /* {0 1} {10 12}: two pairs at heights 1, 2; joined at 10; then {50 65}: two again */
  double points[] = {0, 1, 10, 12, 100, 115};
  coh_merge m[5];
  double height;
  size_t large;
  merges_of(6, points, COH_AVERAGE, m);
  OK(coh_cut_height(6, m, COH_CUT_MAX_CLUSTERS, 2, 0, 0, &height, &large, &err));
  NEAR(height, 2, 1e-12);
  assert_int_equal(large, 2);
}

static void test_cut_joins_equal_heights_together(void **state) {
  (void)state;
  double points[] = {0, 1, 10, 11, 20, 21, 60};
  coh_merge m[6];
  double height;
  size_t large, label[7];
  merges_of(7, points, COH_AVERAGE, m);
  OK(coh_cut_height(7, m, COH_CUT_MAX_CLUSTERS, 2, 0, 0, &height, &large, &err));
  assert_true(height == 1);
  assert_int_equal(large, 3);
  assert_int_equal(coh_cut_labels(7, m, 1, label), 4);
  assert_int_equal(coh_cut_labels(7, m, 0.5, label), 7);
  assert_int_equal(coh_cut_labels(7, m, 1e9, label), 1);
  /* six clusters do not exist: three merges of height 1 */
  OK(coh_cut_height(7, m, COH_CUT_COUNT, 2, 6, 0, &height, &large, &err));
  assert_int_equal(coh_cut_labels(7, m, height, label), 4);
  OK(coh_cut_height(7, m, COH_CUT_COUNT, 2, 7, 0, &height, &large, &err));
  assert_int_equal(coh_cut_labels(7, m, height, label), 7);
  OK(coh_cut_height(7, m, COH_CUT_COUNT, 2, 1, 0, &height, &large, &err));
  assert_int_equal(coh_cut_labels(7, m, height, label), 1);
  assert_int_equal(coh_cut_height(7, m, COH_CUT_COUNT, 2, 8, 0, &height, &large, &err),
                   COH_EUSAGE);
}

static void test_cut_at_plateau_and_angle(void **state) {
  (void)state;
  double points[] = {0, 0.01, 1, 1.05, 3, 3.3};
  coh_merge m[5];
  double height;
  size_t large;
  merges_of(6, points, COH_AVERAGE, m);
  /* heights 0.01 0.05 0.3 ...: the first gap above 0.1 is 0.05 to 0.3 */
  OK(coh_cut_height(6, m, COH_CUT_PLATEAU, 2, 0, 0, &height, &large, &err));
  NEAR(height, 0.05 + 0.95 * 0.25, 1e-12);
  assert_int_equal(large, 2);
  OK(coh_cut_height(6, m, COH_CUT_ANGLE, 2, 0, 3, &height, &large, &err));
  NEAR(height, 0.5, 1e-15);
  double dense[] = {0, 0.01, 0.02, 0.03};
  merges_of(4, dense, COH_AVERAGE, m);
  assert_int_equal(coh_cut_height(4, m, COH_CUT_PLATEAU, 2, 0, 0, &height, &large, &err),
                   COH_ENUMERIC);
}

/* ---- median and assignment --------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void test_median_is_numpys(void **state) {
  (void)state;
  for (size_t n = 1; n < 60; n++) {
    double v[60], sorted[60];
    for (size_t i = 0; i < n; i++)
      v[i] = sorted[i] = n % 3 ? normal(n, i) : floor(4 * uniform(n, i));
    qsort(sorted, n, sizeof *sorted, ascending);
    double want = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    assert_true(coh_median(n, v) == want);
  }
}

/* Least cost over all ways to give rows [r, rows) different columns (or none, if too
 * few). */
static double brute(size_t rows, size_t cols, const double *cost, size_t r, unsigned used,
                    size_t may_skip) {
  if (r == rows) return 0;
  double best = may_skip ? brute(rows, cols, cost, r + 1, used, may_skip - 1) : INFINITY;
  for (size_t c = 0; c < cols; c++)
    if (!(used & 1u << c))
      best = fmin(best, cost[r * cols + c] +
                            brute(rows, cols, cost, r + 1, used | 1u << c, may_skip));
  return best;
}

static void check_assignment(size_t rows, size_t cols, const double *cost) {
  size_t col_of[8], given = 0;
  unsigned used = 0;
  double sum = 0;
  OK(coh_assign(rows, cols, cost, col_of, &err));
  for (size_t r = 0; r < rows; r++) {
    if (col_of[r] == SIZE_MAX) continue;
    assert_true(col_of[r] < cols);
    assert_false(used & 1u << col_of[r]);
    used |= 1u << col_of[r];
    sum += cost[r * cols + col_of[r]];
    given++;
  }
  assert_int_equal(given, rows < cols ? rows : cols);
  NEAR(sum, brute(rows, cols, cost, 0, 0, rows > cols ? rows - cols : 0), 1e-12);
}

static void test_assignment_is_the_best_of_all(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 6; seed++)
    for (size_t rows = 0; rows <= 7; rows++)
      for (size_t cols = 0; cols <= 7; cols++) {
        double cost[49];
        for (size_t i = 0; i < rows * cols; i++)
          cost[i] = seed % 2 ? floor(5 * uniform(seed, i)) : normal(seed, i);
        check_assignment(rows, cols, cost);
      }
}

/* ---- one layer --------------------------------------------------------------------- */

enum { S = 6, R = 3, COPIES = 2, IN = 5, OUT = 4, H = R * COPIES, D = IN + 1 };

typedef struct layer {
  double w[S][H][D], a[S][H][OUT], loss[S];
} layer;

/* S students that hold each of R neurons COPIES times, in random order, with random signs
 * (and lengths) and output weights. */
static void make_layer(coh_act act, uint64_t seed, layer *y) {
  coh_symmetry sym = coh_act_symmetry(act);
  for (size_t s = 0; s < S; s++) {
    uint32_t perm[H];
    coh_random_permutation(seed, COH_RNG_TEST, s, H, perm);
    y->loss[s] = uniform(seed, 900 + s);
    for (size_t h = 0; h < H; h++) {
      size_t at = s * H + h;
      double sign = coh_symmetry_has_sign(sym) && uniform(seed, at) < 0.5 ? -1 : 1;
      double scale =
          sym == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING ? 0.2 + uniform(seed, 400 + at) : 1;
      for (size_t d = 0; d < D; d++)
        y->w[s][h][d] = sign * scale * normal(seed, 5000 + perm[h] % R * D + d);
      for (size_t o = 0; o < OUT; o++) y->a[s][h][o] = normal(seed, 9000 + at * OUT + o);
    }
  }
}

static coh_layer_view view_of(const layer *y) {
  return (coh_layer_view){.N = S,
                          .H = H,
                          .D = D,
                          .O = OUT,
                          .w = &y->w[0][0][0],
                          .a = &y->a[0][0][0],
                          .loss = y->loss};
}

static coh_cluster_options options_of(coh_act act) {
  return (coh_cluster_options){.symmetry = coh_act_symmetry(act),
                               .linear_part = coh_act_linear_part(act),
                               .gamma = 0.5,
                               .beta = 6,
                               .cut = COH_CUT_PLATEAU};
}

static coh_clustering *cluster(const layer *y, const coh_cluster_options *o) {
  coh_layer_view view = view_of(y);
  coh_clustering *c;
  OK(coh_cluster_layer(MPI_COMM_WORLD, &view, o, NULL, &c, &err));
  return c;
}

static double inner(const double *w, const double *x) {
  double z = w[IN];
  for (size_t i = 0; i < IN; i++) z += w[i] * x[i];
  return z;
}

/* Output o of student s, as it was. */
static double before(const layer *y, coh_act act, size_t s, const double *x, size_t o) {
  double sum = 0;
  for (size_t h = 0; h < H; h++)
    sum += y->a[s][h][o] * act_value(act, inner(y->w[s][h], x));
  return sum;
}

/* The same from the clustering: neurons, constants, linear path. */
static double after(const coh_clustering *c, coh_act act, size_t s, const double *x,
                    size_t o) {
  double sum = c->constant ? c->constant[s * OUT + o] : 0;
  for (size_t k = 0; k < c->K; k++)
    sum += c->a[(s * c->K + k) * OUT + o] * act_value(act, inner(c->w + k * D, x));
  for (size_t d = 0; d < D && c->linear; d++)
    sum += c->linear[(s * D + d) * OUT + o] * (d < IN ? x[d] : 1);
  return sum;
}

static void check_same_function(const layer *y, const coh_clustering *c, coh_act act) {
  for (size_t s = 0; s < S; s++)
    for (size_t i = 0; i < 20; i++) {
      double x[IN];
      for (size_t d = 0; d < IN; d++) x[d] = normal(77, i * IN + d);
      for (size_t o = 0; o < OUT; o++)
        NEAR(after(c, act, s, x, o), before(y, act, s, x, o), 1e-12);
    }
}

/* Every class, every way to choose signs: one neuron for each of the R, and the students
 * compute what they did. */
static void test_collapse_keeps_the_function(void **state) {
  (void)state;
  for (int act = 0; act < N_ACTS; act++)
    for (int canonical = COH_CANON_FIRST; canonical <= COH_CANON_DISTANCE; canonical++) {
      layer y;
      make_layer((coh_act)act, (uint64_t)act + 1, &y);
      coh_cluster_options o = options_of((coh_act)act);
      o.canonical = (coh_canonical)canonical;
      coh_clustering *c = cluster(&y, &o);
      assert_int_equal(c->K, R);
      assert_int_equal(c->n_clusters, R);
      for (size_t k = 0; k < R; k++) {
        assert_int_equal(c->cluster[k].size, S * COPIES);
        assert_int_equal(c->cluster[k].students, S);
        NEAR(c->cluster[k].median, 0, 1e-14);
      }
      check_same_function(&y, c, (coh_act)act);
      coh_clustering_destroy(c);
    }
}

static void test_last_hidden_keeps_the_best_students_sum(void **state) {
  (void)state;
  layer y;
  make_layer(COH_TANH, 3, &y);
  coh_cluster_options o = options_of(COH_TANH);
  coh_clustering *all = cluster(&y, &o);
  o.last_hidden = true;
  coh_clustering *last = cluster(&y, &o);
  size_t best = 0;
  for (size_t s = 1; s < S; s++)
    if (y.loss[s] < y.loss[best]) best = s;
  for (size_t k = 0; k < R; k++) {
    assert_int_equal(last->cluster[last->kept[k]].student, best);
    for (size_t j = 0; j < OUT; j++)
      NEAR(last->a[k * OUT + j], all->a[(best * R + k) * OUT + j], 1e-15);
  }
  coh_clustering_destroy(all);
  coh_clustering_destroy(last);
}

/* The vector is the mean over the copies of one student, the best with a member. */
static void test_mean_over_one_student(void **state) {
  (void)state;
  layer y;
  make_layer(COH_G, 4, &y);
  for (size_t s = 0; s < S; s++) {
    y.loss[s] = s == 2 || s == 4 ? 0.5 : 1; /* a tie: student 2 comes first */
    for (size_t h = 0; h < H; h++) y.w[s][h][1] += 1e-3 * normal(5, s * H + h);
  }
  coh_cluster_options o = options_of(COH_G);
  coh_clustering *c = cluster(&y, &o);
  assert_int_equal(c->K, R);
  for (size_t k = 0; k < R; k++) {
    double mean = 0;
    assert_int_equal(c->cluster[c->kept[k]].student, 2);
    for (size_t h = 0; h < H; h++)
      if (c->label[2 * H + h] == c->kept[k]) mean += y.w[2][h][1] / COPIES;
    NEAR(c->w[k * D + 1], mean, 1e-15);
  }
  coh_clustering_destroy(c);
}

static size_t warned;
static void count_warnings(void *ctx, coh_level level, const char *text) {
  (void)ctx, (void)text;
  warned += level == COH_WARN;
}

/* Neurons that only the sixth best student and worse ones have are dropped, and it is
 * said. */
static void test_cluster_of_bad_students_is_dropped(void **state) {
  (void)state;
  enum { MANY = 10, EACH = 2 };
  double w[MANY][EACH][2], a[MANY][EACH][1], loss[MANY];
  for (size_t s = 0; s < MANY; s++) {
    loss[s] = (double)s;
    for (size_t h = 0; h < EACH; h++) {
      bool shared = h == 0;
      w[s][h][0] = shared ? 1 : s >= 5 ? -3 : 100 * (double)(s + 1);
      w[s][h][1] = shared ? 2 : s >= 5 ? 5 : 7;
      a[s][h][0] = 1;
    }
  }
  coh_layer_view view = {MANY, EACH, 2, 1, &w[0][0][0], &a[0][0][0], loss, NULL, NULL};
  coh_cluster_options o = options_of(COH_G);
  coh_sink sink = {.line = count_warnings};
  coh_clustering *c;
  warned = 0;
  OK(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, &sink, &c, &err));
  assert_int_equal(c->K, 1);
  assert_int_equal(c->cluster[c->label[5 * EACH + 1]].state, COH_CLUSTER_NO_GOOD);
  assert_int_equal(c->cluster[c->label[1]].state, COH_CLUSTER_SMALL);
  assert_int_equal(warned, 1);
  coh_clustering_destroy(c);
}

static void test_unaligned_cluster_is_dropped(void **state) {
  (void)state;
  enum { MANY = 4 };
  /* near in space, in all directions; and one that all agree on, far away */
  double w[MANY][2][2] = {{{0.1, 0}, {50, 0}},
                          {{-0.1, 0}, {50, 0}},
                          {{0, 0.1}, {50, 0}},
                          {{0, -0.1}, {50, 0}}};
  double a[MANY][2][1] = {{{1}, {1}}, {{1}, {1}}, {{1}, {1}}, {{1}, {1}}},
         loss[MANY] = {0};
  coh_layer_view view = {MANY, 2, 2, 1, &w[0][0][0], &a[0][0][0], loss, NULL, NULL};
  coh_cluster_options o = options_of(COH_G);
  o.cut = COH_CUT_COUNT;
  o.clusters = 2;
  coh_clustering *c;
  OK(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err));
  assert_int_equal(c->K, 1);
  assert_int_equal(c->cluster[0].state, COH_CLUSTER_UNALIGNED);
  NEAR(c->cluster[0].median, 1, 1e-12); /* 1 1 1 1 2 2 */
  NEAR(c->w[0], 50, 0);
  coh_clustering_destroy(c);
}

/* A first component near zero flips at random: symmetric distances do not mind. */
static void test_distance_canonical_survives_a_fragile_sign(void **state) {
  (void)state;
  layer y;
  make_layer(COH_TANH, 8, &y);
  for (size_t s = 0; s < S; s++)
    for (size_t h = 0; h < H; h++) y.w[s][h][0] = 1e-9 * normal(8, 100 + s * H + h);
  coh_cluster_options o = options_of(COH_TANH);
  o.canonical = COH_CANON_DISTANCE;
  coh_clustering *c = cluster(&y, &o);
  assert_int_equal(c->n_clusters, R);
  coh_clustering_destroy(c);
  o.canonical = COH_CANON_LARGEST;
  c = cluster(&y, &o);
  assert_true(c->n_clusters <= 2 * R);
  coh_clustering_destroy(c);
  o.canonical = COH_CANON_FIRST;
  c = cluster(&y, &o);
  assert_true(c->n_clusters > R);
  coh_clustering_destroy(c);
}

/* Masked components differ from student to student: they neither decide signs nor
 * distances, but stay in the result. */
static void test_mask_leaves_components_out(void **state) {
  (void)state;
  layer y;
  uint8_t mask[D] = {0, 1, 1, 0, 1, 1};
  make_layer(COH_SIGMOID, 9, &y);
  for (size_t s = 0; s < S; s++)
    for (size_t h = 0; h < H; h++)
      y.w[s][h][0] = 30 * normal(9, 100 + s * H + h), y.w[s][h][3] = 7;
  for (int canonical = COH_CANON_FIRST; canonical <= COH_CANON_DISTANCE; canonical++) {
    coh_cluster_options o = options_of(COH_SIGMOID);
    o.canonical = (coh_canonical)canonical;
    coh_layer_view view = view_of(&y);
    coh_clustering *c;
    view.mask = mask;
    OK(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err));
    assert_int_equal(c->K, R);
    assert_int_equal(c->n_clusters, R);
    for (size_t k = 0; k < R; k++) assert_true(fabs(c->w[k * D + 3]) <= 7);
    coh_clustering_destroy(c);
  }
}

static void test_wrong_layers_are_refused(void **state) {
  (void)state;
  layer y;
  make_layer(COH_TANH, 1, &y);
  coh_layer_view view = view_of(&y);
  coh_cluster_options o = options_of(COH_TANH);
  coh_clustering *c;
  o.gamma = 0.3; /* 1.8 of 6 */
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err),
                   COH_EUSAGE);
  assert_non_null(strstr(err.text, "gamma"));
  assert_null(c);
  o.gamma = 0.5;
  y.w[3][1][2] = NAN;
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err),
                   COH_ENUMERIC);
  assert_non_null(strstr(err.text, "student 3"));
  y.w[3][1][2] = 0;
  y.loss[5] = INFINITY;
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err),
                   COH_ENUMERIC);
  assert_non_null(strstr(err.text, "student 5"));
}

static void test_no_cluster_survives(void **state) {
  (void)state;
  layer y;
  make_layer(COH_G, 1, &y);
  for (size_t i = 0; i < S * H * D; i++) (&y.w[0][0][0])[i] = normal(12, i);
  coh_layer_view view = view_of(&y);
  coh_cluster_options o = options_of(COH_G);
  o.beta = 200;
  coh_clustering *c;
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err),
                   COH_ENUMERIC);
  assert_non_null(strstr(err.text, "no cluster survives"));
}

static void test_options_of_a_configuration(void **state) {
  (void)state;
  coh_config cfg = {0};
  coh_cluster_options o;
  cfg.extraction.gamma = 0.5;
  cfg.extraction.beta = 6;
  OK(coh_cluster_options_of(&cfg, COH_LEAKY_RELU, &o, &err));
  assert_int_equal(o.symmetry, COH_SYM_EVEN_LINEAR_POSITIVE_SCALING);
  assert_true(o.linear_part == 1.01 && o.gamma == 0.5 && o.beta == 6 && !o.last_hidden);
  cfg.extraction.cut = COH_CUT_ANGLE;
  assert_int_equal(coh_cluster_options_of(&cfg, COH_TANH, &o, &err), COH_EUSAGE);
  cfg.extraction.metric = COH_COSINE;
  OK(coh_cluster_options_of(&cfg, COH_TANH, &o, &err));
  cfg.extraction.cut = COH_CUT_COUNT;
  assert_int_equal(coh_cluster_options_of(&cfg, COH_TANH, &o, &err), COH_EUSAGE);
}

/* ---- comparison -------------------------------------------------------------------- */

static void test_comparison_by_hand(void **state) {
  (void)state;
  double tw[] = {1, 0, 0, /**/ 0, 2, 0, /**/ 0, 0, 3},
         ta[] = {1, 0, /**/ 0, 5, /**/ 3, 4};
  /* the teacher's 2 flipped, its 0, something else, its 1 a bit off */
  double w[] = {0, 0, -6, /**/ 2, 0, 0, /**/ 1, 1, 1, /**/ 0, 1, 0.1};
  double a[] = {-3, -4, /**/ 1, 1, /**/ 0, 1, /**/ 0, 2};
  coh_comparison *c;
  OK(coh_compare(COH_SYM_ODD, 3, tw, ta, 4, w, a, 3, 2, NULL, &c, &err));
  assert_int_equal(c->true_size, 3);
  assert_int_equal(c->found_size, 4);
  size_t neuron[] = {1, 2, 0}, partner[] = {3, 0, 1}, assigned[] = {1, 3, 0};
  double wd[] = {1 - 1 / sqrt(1.01), 1e-16, 1e-16}, ad[] = {1e-16, 1e-16, 1 - sqrt(0.5)};
  double sign[] = {1, -1, 1}, norm[] = {5, 5, 1};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(c->match[i].neuron, neuron[i]);
    assert_int_equal(c->match[i].partner, partner[i]);
    assert_int_equal(c->assigned[i], assigned[i]);
    NEAR(c->match[i].w_distance, wd[i], 1e-15);
    NEAR(c->match[i].a_distance, ad[i], 1e-15);
    assert_true(c->match[i].sign == sign[i] && c->match[i].out_norm == norm[i]);
  }
  assert_int_equal(c->n_excess, 1);
  assert_int_equal(c->excess[0].neuron, 2);
  assert_int_equal(c->excess[0].partner, 0);
  NEAR(c->excess[0].w_distance, 1 - 1 / sqrt(3), 1e-15);
  NEAR(c->w_max, wd[0], 1e-15);
  NEAR(c->w_mean, wd[0] / 3, 1e-15);
  NEAR(c->a_max, ad[2], 1e-15);
  assert_true(c->match[1].w_distance == 1e-16);
  coh_comparison_destroy(c);
}

/* Only the classes with a free sign take the absolute value; only odd ones do for
 * outputs. */
static void test_comparison_knows_the_class(void **state) {
  (void)state;
  double tw[] = {1, 2}, ta[] = {1}, w[] = {-1, -2}, a[] = {-1};
  coh_comparison *c;
  for (int sym = COH_SYM_NONE; sym <= COH_SYM_EVEN_LINEAR_POSITIVE_SCALING; sym++) {
    OK(coh_compare((coh_symmetry)sym, 1, tw, ta, 1, w, a, 2, 1, NULL, &c, &err));
    NEAR(c->match[0].w_distance, sym == COH_SYM_NONE ? 2 : 1e-16, 1e-15);
    bool odd = sym == COH_SYM_ODD || sym == COH_SYM_ODD_CONSTANT;
    NEAR(c->match[0].a_distance, odd ? 1e-16 : 2, 1e-15);
    coh_comparison_destroy(c);
  }
}

static void test_comparison_of_unequal_sizes(void **state) {
  (void)state;
  double tw[] = {1, 0, /**/ 0, 1, /**/ 1, 1}, ta[] = {1, 2, 3}, w[] = {0, 2}, a[] = {1};
  uint8_t mask[] = {1, 0};
  coh_comparison *c;
  OK(coh_compare(COH_SYM_NONE, 3, tw, ta, 1, w, a, 2, 1, NULL, &c, &err));
  assert_int_equal(c->assigned[0], SIZE_MAX);
  assert_int_equal(c->assigned[1], 0);
  assert_int_equal(c->assigned[2], SIZE_MAX);
  assert_int_equal(c->n_excess, 0);
  coh_comparison_destroy(c);
  OK(coh_compare(COH_SYM_NONE, 3, tw, ta, 1, w, a, 2, 1, mask, &c, &err));
  NEAR(c->match[0].w_distance, 1, 0); /* what is left of w is zero */
  coh_comparison_destroy(c);
  OK(coh_compare(COH_SYM_NONE, 3, tw, ta, 0, NULL, NULL, 2, 1, NULL, &c, &err));
  assert_int_equal(c->match[0].partner, SIZE_MAX);
  NEAR(c->w_mean, 1, 1e-15);
  coh_comparison_destroy(c);
  OK(coh_compare(COH_SYM_NONE, 0, NULL, NULL, 1, w, a, 2, 1, NULL, &c, &err));
  assert_int_equal(c->n_excess, 1);
  assert_int_equal(c->excess[0].partner, SIZE_MAX);
  coh_comparison_destroy(c);
}

/* ---- parameter error ----------------------------------------------------------------
 */

/* A dense plan; with skips, layer l >= 1 also reads all activations below layer l - 1. */
static coh_plan plan_of(size_t L, const size_t *sizes, coh_act act, bool skips) {
  coh_plan p = {.L = L, .d_in = sizes[0], .n_out = sizes[L]};
  for (size_t l = 0; l < L; l++) {
    coh_layer *y = &p.layer[l];
    *y = (coh_layer){.in = sizes[l], .out = sizes[l + 1], .skip = skips && l > 0};
    y->act = l + 1 < L ? act : COH_IDENTITY;
    for (size_t k = 0; y->skip && k < l; k++) y->skip_in += sizes[k];
    y->w = p.P;
    y->b = y->w + y->in * y->out;
    y->s = y->b + y->out;
    p.P = y->s + y->skip_in * y->out;
  }
  return p;
}

/* Row of the skip of layer l that reads neuron 0 of source k (0: inputs), k < l. */
static size_t skip_row(const coh_plan *p, size_t l, size_t k) {
  size_t row = 0;
  for (size_t q = l - 1; q > k; q--) row += p->layer[q - 1].out;
  return row;
}

static void network(const coh_plan *p, const double *v, const double *x, double *out) {
  double a[8][16];
  memcpy(a[0], x, p->d_in * sizeof *x);
  for (size_t l = 0; l < p->L; l++) {
    const coh_layer *y = &p->layer[l];
    for (size_t o = 0; o < y->out; o++) {
      double z = v[y->b + o];
      for (size_t i = 0; i < y->in; i++) z += a[l][i] * v[y->w + i * y->out + o];
      for (size_t k = 0; y->skip && k < l; k++)
        for (size_t i = 0; i < (k ? p->layer[k - 1].out : p->d_in); i++)
          z += a[k][i] * v[y->s + (skip_row(p, l, k) + i) * y->out + o];
      a[l + 1][o] = l + 1 < p->L ? act_value(y->act, z) : z;
    }
  }
  memcpy(out, a[p->L], p->n_out * sizeof *out);
}

/* Outgoing weight of neuron j of layer l to neuron o of layer r. */
static double *outgoing(const coh_plan *p, double *v, size_t l, size_t j, size_t r,
                        size_t o) {
  const coh_layer *y = &p->layer[r];
  if (r == l + 1) return &v[y->w + j * y->out + o];
  return y->skip ? &v[y->s + (skip_row(p, r, l + 1) + j) * y->out + o] : NULL;
}

/* Incoming weight of neuron o of layer r from neuron i of source k (0: inputs), k <= r.
 */
static double *incoming(const coh_plan *p, double *v, size_t k, size_t i, size_t r,
                        size_t o) {
  const coh_layer *y = &p->layer[r];
  if (k == r) return &v[y->w + i * y->out + o];
  return y->skip ? &v[y->s + (skip_row(p, r, k) + i) * y->out + o] : NULL;
}

static size_t source_width(const coh_plan *p, size_t k) {
  return k ? p->layer[k - 1].out : p->d_in;
}

static void scale_neuron(const coh_plan *p, double *v, size_t l, size_t j, double in,
                         double out) {
  double *w;
  for (size_t k = 0; k <= l; k++)
    for (size_t i = 0; i < source_width(p, k); i++)
      if ((w = incoming(p, v, k, i, l, j))) *w *= in;
  v[p->layer[l].b + j] *= in;
  for (size_t r = l + 1; r < p->L; r++)
    for (size_t o = 0; o < p->layer[r].out; o++)
      if ((w = outgoing(p, v, l, j, r, o))) *w *= out;
}

/* Flips neuron j of layer l, function unchanged (even_linear classes need skips). */
static void flip_neuron(const coh_plan *p, double *v, size_t l, size_t j, coh_act act) {
  coh_symmetry sym = coh_act_symmetry(act);
  double c = coh_act_linear_part(act), *a, *from, *to;
  for (size_t r = l + 1; r < p->L; r++)
    for (size_t o = 0; o < p->layer[r].out; o++) {
      if (!(a = outgoing(p, v, l, j, r, o))) continue;
      if (sym == COH_SYM_ODD_CONSTANT) v[p->layer[r].b + o] += *a;
      for (size_t k = 0; k <= l && c != 0; k++)
        for (size_t i = 0; i < source_width(p, k); i++)
          if ((from = incoming(p, v, k, i, l, j)) && (to = incoming(p, v, k, i, r, o)))
            *to += c * *a * *from;
      if (c != 0) v[p->layer[r].b + o] += c * *a * v[p->layer[l].b + j];
    }
  scale_neuron(p, v, l, j, -1, c != 0 ? 1 : -1);
}

static void swap_neurons(const coh_plan *p, double *v, size_t l, size_t i, size_t j) {
  double *x, *y, t;
  for (size_t k = 0; k <= l; k++)
    for (size_t q = 0; q < source_width(p, k); q++) {
      if (!(x = incoming(p, v, k, q, l, i)) || !(y = incoming(p, v, k, q, l, j)))
        continue;
      t = *x, *x = *y, *y = t;
    }
  x = &v[p->layer[l].b + i], y = &v[p->layer[l].b + j];
  t = *x, *x = *y, *y = t;
  for (size_t r = l + 1; r < p->L; r++)
    for (size_t o = 0; o < p->layer[r].out; o++) {
      if (!(x = outgoing(p, v, l, i, r, o)) || !(y = outgoing(p, v, l, j, r, o)))
        continue;
      t = *x, *x = *y, *y = t;
    }
}

/* Random order, signs, lengths in every hidden layer, from the top down or bottom up. */
static void disguise(const coh_plan *p, double *v, coh_act act, uint64_t seed) {
  coh_symmetry sym = coh_act_symmetry(act);
  for (size_t step = 0; step + 1 < p->L; step++) {
    size_t l = seed % 2 ? step : p->L - 2 - step, h = p->layer[l].out;
    for (size_t j = 0; j < h; j++) {
      size_t other = (size_t)(uniform(seed, l * 100 + j) * (double)h);
      swap_neurons(p, v, l, j, other);
      if (coh_symmetry_has_sign(sym) && uniform(seed, 1000 + l * 100 + j) < 0.5)
        flip_neuron(p, v, l, j, act);
      double k = 0.3 + uniform(seed, 2000 + l * 100 + j);
      if (sym == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING) scale_neuron(p, v, l, j, k, 1 / k);
    }
  }
}

/* Teacher without skips, the same network with them (zero). */
static void add_skips(const coh_plan *t, const double *tv, const coh_plan *f,
                      double *fv) {
  for (size_t l = 0; l < t->L; l++)
    memcpy(fv + f->layer[l].w, tv + t->layer[l].w,
           (t->layer[l].in + 1) * t->layer[l].out * sizeof *fv);
}

static void check_same_network(const coh_plan *p, const double *u, const coh_plan *q,
                               const double *v) {
  for (size_t i = 0; i < 10; i++) {
    double x[16], a[16], b[16];
    for (size_t d = 0; d < p->d_in; d++) x[d] = normal(55, i * 16 + d);
    network(p, u, x, a);
    network(q, v, x, b);
    for (size_t o = 0; o < p->n_out; o++) NEAR(a[o], b[o], 1e-10);
  }
}

static void test_parameter_error_of_a_disguise_is_zero(void **state) {
  (void)state;
  size_t shape[][5] = {{6, 5, 3}, {6, 5, 4, 3}, {4, 5, 6, 4, 2}};
  for (int act = 0; act < N_ACTS; act++)
    for (uint64_t seed = 0; seed < 12; seed++) {
      size_t *sizes = shape[seed % 3], L = 2 + seed % 3;
      coh_plan t = plan_of(L, sizes, (coh_act)act, false);
      coh_plan f = plan_of(L, sizes, (coh_act)act,
                           coh_symmetry_is_even_linear(coh_act_symmetry((coh_act)act)));
      double *tv = array(t.P, sizeof *tv), *fv = array(f.P, sizeof *fv), max, rmse;
      bool comparable;
      for (size_t i = 0; i < t.P; i++) tv[i] = 0.7 * normal(seed + 100, i);
      add_skips(&t, tv, &f, fv);
      disguise(&f, fv, (coh_act)act, seed);
      check_same_network(&t, tv, &f, fv);
      OK(coh_parameter_error(&t, tv, &f, fv, NULL, &comparable, &max, &rmse, &err));
      assert_true(comparable);
      if (!(max < 1e-11) || !(rmse <= max))
        fail_msg("activation %d, seed %d: %g, %g", act, (int)seed, max, rmse);
      free(tv);
      free(fv);
    }
}

static void test_parameter_error_sees_a_difference(void **state) {
  (void)state;
  size_t sizes[] = {3, 4, 2};
  coh_plan t = plan_of(2, sizes, COH_TANH, false);
  double tv[32], fv[32], max, rmse;
  bool comparable;
  for (size_t i = 0; i < t.P; i++) tv[i] = fv[i] = normal(3, i);
  fv[t.layer[1].w + 5] += 0.25;
  disguise(&t, fv, COH_TANH, 5);
  OK(coh_parameter_error(&t, tv, &t, fv, NULL, &comparable, &max, &rmse, &err));
  assert_true(comparable);
  NEAR(max, 0.25, 1e-12);
  NEAR(rmse, 0.25 / sqrt((double)t.P), 1e-12);
}

/* A linear path that no flip explains counts; so does a constant of a flip not undone. */
static void test_parameter_error_counts_linear_paths(void **state) {
  (void)state;
  size_t sizes[] = {3, 4, 2};
  coh_plan t = plan_of(2, sizes, COH_SOFTPLUS, false);
  coh_plan f = plan_of(2, sizes, COH_SOFTPLUS, true);
  double tv[64], fv[64] = {0}, max, rmse;
  bool comparable;
  for (size_t i = 0; i < t.P; i++) tv[i] = normal(4, i);
  add_skips(&t, tv, &f, fv);
  fv[f.layer[1].s + 3] = 0.125;
  disguise(&f, fv, COH_SOFTPLUS, 6);
  OK(coh_parameter_error(&t, tv, &f, fv, NULL, &comparable, &max, &rmse, &err));
  NEAR(max, 0.125, 1e-12);
  NEAR(rmse, 0.125 / sqrt((double)t.P), 1e-12);
}

static void test_parameter_error_leaves_masked_inputs_out(void **state) {
  (void)state;
  size_t sizes[] = {4, 3, 2};
  uint8_t mask[] = {1, 0, 1, 1};
  for (int act = 0; act < N_ACTS; act++) {
    bool skips = coh_symmetry_is_even_linear(coh_act_symmetry((coh_act)act));
    coh_plan t = plan_of(2, sizes, (coh_act)act, false);
    coh_plan f = plan_of(2, sizes, (coh_act)act, skips);
    double tv[64], fv[64] = {0}, max, rmse;
    bool comparable;
    for (size_t i = 0; i < t.P; i++) tv[i] = normal(14, i);
    add_skips(&t, tv, &f, fv);
    for (size_t j = 0; j < 3; j++) fv[3 + j] += 100 * normal(15, j); /* input 1 */
    disguise(&f, fv, (coh_act)act, 7);
    OK(coh_parameter_error(&t, tv, &f, fv, mask, &comparable, &max, &rmse, &err));
    NEAR(max, 0, 1e-11);
  }
}

static void test_parameter_error_of_other_shapes(void **state) {
  (void)state;
  size_t a[] = {3, 4, 2}, b[] = {3, 5, 2}, c[] = {3, 4, 4, 2};
  coh_plan t = plan_of(2, a, COH_TANH, false), f = plan_of(2, b, COH_TANH, false);
  coh_plan g = plan_of(3, c, COH_TANH, false), s = plan_of(2, a, COH_SIGMOID, false);
  double v[64] = {0}, max, rmse;
  const coh_plan *others[] = {&f, &g, &s};
  for (size_t i = 0; i < 3; i++) {
    bool comparable = true;
    OK(coh_parameter_error(&t, v, others[i], v, NULL, &comparable, &max, &rmse, &err));
    assert_false(comparable);
    assert_true(isnan(max) && isnan(rmse));
  }
}

/* ---- comparison of networks -------------------------------------------------------- */

/* Every neuron of the teacher found, each by another, none in excess. */
static void check_all_found(const coh_comparison *c, const char *what) {
  bool taken[16] = {false};
  assert_int_equal(c->found_size, c->true_size);
  if (!(c->w_max <= 1e-12) || !(c->a_max <= 1e-12))
    fail_msg("%s: w_max %g, a_max %g", what, c->w_max, c->a_max);
  assert_int_equal(c->n_excess, 0);
  for (size_t j = 0; j < c->true_size; j++) {
    const coh_match *m = &c->match[j];
    assert_int_equal(c->assigned[m->neuron], m->partner);
    assert_true(m->partner < c->found_size);
    assert_false(taken[m->partner]);
    taken[m->partner] = true;
  }
}

/* A random teacher with 1-3 hidden layers and the same network in another order, with
 * other signs and lengths (and linear paths, as a rebuilt network has them). */
static void compare_with_disguise(coh_act act, uint64_t seed) {
  static const size_t sizes[][5] = {{6, 5, 3}, {6, 5, 4, 3}, {4, 5, 6, 4, 2}};
  size_t L = 2 + seed % 3;
  bool skips = coh_symmetry_is_even_linear(coh_act_symmetry(act));
  coh_plan t = plan_of(L, sizes[seed % 3], act, false);
  coh_plan f = plan_of(L, sizes[seed % 3], act, skips);
  double *tv = array(t.P, sizeof *tv), *fv = array(f.P, sizeof *fv);
  coh_comparison *c[3];
  char what[60];
  for (size_t i = 0; i < t.P; i++) tv[i] = 0.7 * normal(seed + 200, i);
  add_skips(&t, tv, &f, fv);
  disguise(&f, fv, act, seed);
  check_same_network(&t, tv, &f, fv);
  OK(coh_compare_networks(&t, tv, &f, fv, NULL, c, &err));
  for (size_t l = 0; l + 1 < L; l++) {
    snprintf(what, sizeof what, "%s, seed %d, layer %zu of %zu", coh_act_name(act),
             (int)seed, l + 1, L - 1);
    check_all_found(c[l], what);
    coh_comparison_destroy(c[l]);
  }
  free(tv);
  free(fv);
}

static void test_comparison_of_equivalent_networks_finds_all(void **state) {
  (void)state;
  for (int act = 0; act < N_ACTS; act++)
    for (uint64_t seed = 0; seed < 18; seed++) compare_with_disguise((coh_act)act, seed);
}

/* Neurons that are missing or too many count as weight 0; the others are found. */
static void test_comparison_of_networks_of_other_widths(void **state) {
  (void)state;
  size_t true_sizes[] = {3, 2, 2}, sizes[] = {3, 3, 2}, deep[] = {3, 2, 2, 2};
  coh_plan t = plan_of(2, true_sizes, COH_TANH, false);
  coh_plan f = plan_of(2, sizes, COH_TANH, false);
  coh_plan g = plan_of(3, deep, COH_TANH, false);
  double tv[32], fv[32], gv[32] = {0};
  coh_comparison *c[2];
  for (size_t i = 0; i < 32; i++) tv[i] = normal(8, i), fv[i] = normal(9, i);
  for (size_t i = 0; i < 4; i++)
    for (size_t j = 0; j < 2; j++) fv[i * 3 + j] = -tv[i * 2 + j];
  OK(coh_compare_networks(&t, tv, &f, fv, NULL, c, &err));
  assert_int_equal(c[0]->n_excess, 1);
  assert_int_equal(c[0]->excess[0].neuron, 2);
  NEAR(c[0]->w_max, 0, 1e-15);
  coh_comparison_destroy(c[0]);
  OK(coh_compare_networks(&f, fv, &t, tv, NULL, c, &err));
  assert_int_equal(c[0]->assigned[0], 0);
  assert_int_equal(c[0]->assigned[1], 1);
  assert_true(c[0]->assigned[2] == SIZE_MAX);
  coh_comparison_destroy(c[0]);
  assert_int_equal(coh_compare_networks(&t, tv, &g, gv, NULL, c, &err), COH_EUSAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_identity_of_each_class),
      cmocka_unit_test(test_names_of_symmetries),
      cmocka_unit_test(test_linkage_by_hand),
      cmocka_unit_test(test_linkage_of_ties_is_scipys),
      cmocka_unit_test(test_linkage_refuses_nan),
      cmocka_unit_test(test_linkage_is_that_of_the_definition),
      cmocka_unit_test(test_cut_takes_the_last_of_the_first_run),
      cmocka_unit_test(test_cut_ignores_later_runs),
      cmocka_unit_test(test_cut_joins_equal_heights_together),
      cmocka_unit_test(test_cut_at_plateau_and_angle),
      cmocka_unit_test(test_median_is_numpys),
      cmocka_unit_test(test_assignment_is_the_best_of_all),
      cmocka_unit_test(test_collapse_keeps_the_function),
      cmocka_unit_test(test_last_hidden_keeps_the_best_students_sum),
      cmocka_unit_test(test_mean_over_one_student),
      cmocka_unit_test(test_cluster_of_bad_students_is_dropped),
      cmocka_unit_test(test_unaligned_cluster_is_dropped),
      cmocka_unit_test(test_distance_canonical_survives_a_fragile_sign),
      cmocka_unit_test(test_mask_leaves_components_out),
      cmocka_unit_test(test_wrong_layers_are_refused),
      cmocka_unit_test(test_no_cluster_survives),
      cmocka_unit_test(test_options_of_a_configuration),
      cmocka_unit_test(test_comparison_by_hand),
      cmocka_unit_test(test_comparison_knows_the_class),
      cmocka_unit_test(test_comparison_of_unequal_sizes),
      cmocka_unit_test(test_parameter_error_of_a_disguise_is_zero),
      cmocka_unit_test(test_parameter_error_sees_a_difference),
      cmocka_unit_test(test_parameter_error_counts_linear_paths),
      cmocka_unit_test(test_parameter_error_leaves_masked_inputs_out),
      cmocka_unit_test(test_parameter_error_of_other_shapes),
      cmocka_unit_test(test_comparison_of_equivalent_networks_finds_all),
      cmocka_unit_test(test_comparison_of_networks_of_other_widths),
  };
  MPI_Init(NULL, NULL);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
