/* test_rebuild.c - the networks around clustering, src/extract/rebuild.c: each function
 * by hand, then whole chains. In a chain, students of 1 to 3 hidden layers hold every
 * neuron of one base network three times (in any order, with other lengths and opposite
 * signs); layer after layer is clustered, and what remains computes what the students
 * did. */
#include "cohort/rebuild.h"

#include <mpi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static coh_error err;
static coh_device *dev64;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

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

static double difference(size_t n, const double *a, const double *b) {
  double most = 0;
  for (size_t i = 0; i < n; i++) most = fmax(most, fabs(a[i] - b[i]));
  return most;
}

/* Outputs [n, n_out] of one network. */
static double *outputs(const coh_plan *p, const double *params, size_t n,
                       const double *x) {
  double *y = array(n * p->n_out, sizeof *y);
  OK(coh_network_apply(p, dev64, params, p->L - 1, n, x, y, &err));
  return y;
}

/* ---- by hand ---------------------------------------------------------------------- */

static void test_view_of_the_first_layer(void **state) {
  (void)state;
  size_t sizes[] = {2, 3, 2};
  coh_plan p;
  OK(coh_plan_dense(2, sizes, COH_TANH, NULL, &p, &err));
  double params[2 * 17], loss[] = {4, 5};
  uint8_t mask[] = {1, 0, 1};
  coh_layer_view v;
  for (size_t i = 0; i < 2 * p.P; i++) params[i] = (double)i;
  OK(coh_layer_view_of(&p, 2, params, loss, mask, &v, &err));
  /* student 0: W0 = 0 1 2 / 3 4 5, b0 = 6 7 8, W1 = 9 ... 14; student 1: 17 more */
  double w[] = {0, 3, 6, 1, 4, 7, 2, 5, 8}, a[] = {9, 10, 11, 12, 13, 14};
  assert_true(v.N == 2 && v.H == 3 && v.D == 3 && v.O == 2);
  assert_true(v.loss == loss && v.mask == mask);
  for (size_t i = 0; i < 9; i++) assert_true(v.w[i] == w[i] && v.w[9 + i] == w[i] + 17);
  for (size_t i = 0; i < 6; i++) assert_true(v.a[i] == a[i] && v.a[6 + i] == a[i] + 17);
  coh_layer_view_free(&v);
  assert_null(v.w);
}

/* Two students [2, 3, 2, 1] whose first layer became one neuron. */
static void next_of(coh_symmetry sym, double *constant, double *linear, coh_plan *next,
                    double **params, double *upper) {
  size_t sizes[] = {2, 3, 2, 1};
  coh_plan p;
  OK(coh_plan_dense(3, sizes, COH_TANH, NULL, &p, &err));
  for (size_t i = 0; i < 2 * p.P; i++) upper[i] = (double)i;
  double a[] = {0.5, 0.25, 0.75, 0.125};
  coh_clustering c = {.N = 2, .H = 3, .D = 3, .O = 2, .K = 1, .a = a};
  c.constant = constant;
  c.linear = linear;
  OK(coh_upper_next(&p, 2, upper, &c, sym, next, params, &err));
}

static void test_next_students_take_constants(void **state) {
  (void)state;
  double upper[2 * 20], constant[] = {100, 200, 300, 400}, *next;
  coh_plan p;
  next_of(COH_SYM_ODD_CONSTANT, constant, NULL, &p, &next, upper);
  assert_true(p.L == 2 && p.d_in == 1 && p.layer[0].out == 2 && p.n_out == 1);
  /* W of the clusters, b1 = 15 16 + constant, then W2 = 17 18, b2 = 19 */
  double first[] = {0.5, 0.25, 115, 216, 17, 18, 19};
  double second[] = {0.75, 0.125, 335, 436, 37, 38, 39};
  assert_int_equal(p.P, 7);
  assert_true(difference(7, next, first) == 0 && difference(7, next + 7, second) == 0);
  free(next);
}

static void test_next_students_take_linear_paths(void **state) {
  (void)state;
  double upper[2 * 20], *next;
  double linear[] = {1, 2, 3, 4, 50, 60, 5, 6, 7, 8, 70, 80};
  coh_plan p;
  next_of(COH_SYM_EVEN_LINEAR, NULL, linear, &p, &next, upper);
  assert_true(p.L == 2 && p.d_in == 3);
  double first[] = {0.5, 0.25, 1, 2, 3, 4, 65, 76, 17, 18, 19};
  double second[] = {0.75, 0.125, 5, 6, 7, 8, 105, 116, 37, 38, 39};
  assert_int_equal(p.P, 11);
  assert_true(difference(11, next, first) == 0 && difference(11, next + 11, second) == 0);
  free(next);
}

static void check_features(coh_device *dev, bool keep, double tolerance) {
  enum { N = 300, IN = 4, K = 3, D = IN + 1 };
  void *x = array(N * IN, 8), *out;
  double w[K * D];
  size_t width;
  for (size_t i = 0; i < N * IN; i++) coh_put(dev->dtype, x, i, normal(1, i));
  for (size_t i = 0; i < K * D; i++) w[i] = normal(2, i);
  OK(coh_features_next(dev, COH_TANH, N, x, K, D, w, keep, &out, &width, &err));
  assert_int_equal(width, keep ? K + IN : K);
  for (size_t i = 0; i < N; i++) {
    for (size_t k = 0; k < K; k++) {
      double z = w[k * D + IN];
      for (size_t d = 0; d < IN; d++)
        z += w[k * D + d] * coh_get(dev->dtype, x, i * IN + d);
      assert_true(fabs(coh_get(dev->dtype, out, i * width + k) - tanh(z)) < tolerance);
    }
    for (size_t d = 0; keep && d < IN; d++)
      assert_true(coh_get(dev->dtype, out, i * width + K + d) ==
                  coh_get(dev->dtype, x, i * IN + d));
  }
  free(x);
  free(out);
}

static void test_features_are_activations_and_inputs(void **state) {
  (void)state;
  coh_device *dev32;
  OK(coh_device_open(COH_DEVICE_CPU, COH_F32, &dev32, &err));
  for (int keep = 0; keep < 2; keep++) {
    check_features(dev64, keep, 1e-14);
    check_features(dev32, keep, 1e-5);
  }
  coh_device_close(dev32);
}

/* Each layer reads [A | F]; columns beyond the layer below are the linear path. */
static void test_rebuilt_network_by_hand(void **state) {
  (void)state;
  coh_rebuilt r = {.act = COH_RELU, .linear = true};
  double w0[] = {1, 2, 3}, w1[] = {4, 5, 6, 7}, a[] = {8}, bias[] = {9};
  double theta[] = {10, 11, 12};
  coh_plan p;
  double *params;
  OK(coh_rebuilt_add(&r, 1, 3, w0, &err));
  OK(coh_rebuilt_add(&r, 1, 4, w1, &err));
  OK(coh_rebuilt_network(&r, 1, a, bias, theta, &p, &params, &err));
  /* W0 b0 W1 b1 S1 W2 b2 S2 */
  double want[] = {1, 2, 3, 4, 7, 5, 6, 8, 9, 10, 11, 12};
  assert_int_equal(p.P, 12);
  assert_true(p.L == 3 && !p.layer[0].skip && p.layer[1].skip && p.layer[2].skip);
  assert_true(difference(12, params, want) == 0);
  free(params);
  OK(coh_rebuilt_network(&r, 1, a, bias, NULL, &p, &params, &err));
  assert_true(params[9] == 0 && params[10] == 0 && params[11] == 0);
  free(params);
  coh_rebuilt_free(&r);
  assert_int_equal(r.L, 0);
}

/* ---- chains ----------------------------------------------------------------------- */

enum { STUDENTS = 4, COPIES = 3, INPUTS = 5, OUTPUTS = 2, ROWS = 40, WIDEST = 5 };

/* Neurons of the base network; copy 2 of each has the opposite sign where the class
 * allows, with outgoing weights of its own. */
static const size_t base_size[] = {INPUTS, 3, 2, WIDEST};

static uint64_t key(size_t l, size_t sub, size_t i, size_t o) {
  return ((l * 4 + sub) * 100 + i) * 100 + o;
}

/* A copy of a base neuron in one student. */
typedef struct copy {
  size_t neuron;
  bool opposite;
  double factor, share; /* of incoming weights; of the outgoing ones */
} copy;

/* Hidden neuron at place h of layer l of student s: which copy it is. */
static copy copy_at(coh_symmetry sym, size_t s, size_t l, size_t h) {
  uint32_t perm[COPIES * WIDEST];
  size_t width = base_size[l + 1];
  coh_random_permutation(31 + s, COH_RNG_TEST, l, COPIES * width, perm);
  size_t neuron = perm[h] % width, which = perm[h] / width;
  double t = uniform(32 + s, l * 50 + neuron), scale = 1;
  if (sym == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING)
    scale = 0.3 + uniform(42 + s, l * 50 + h);
  copy c = {neuron, which == 2, scale, which == 0 ? t : which == 1 ? 1 - t : 1};
  if (c.opposite && coh_symmetry_has_sign(sym)) c.factor *= -1;
  c.share /= scale;
  return c;
}

/* Weights and bias that reach a neuron at place o of layer l, times its factor. */
static void fill_neuron(const coh_plan *p, double *v, coh_symmetry sym, size_t s,
                        size_t l, size_t o, size_t neuron, double factor) {
  const coh_layer *y = &p->layer[l];
  for (size_t i = 0; i < y->in; i++) {
    copy c = {.neuron = i, .share = 1};
    if (l > 0) c = copy_at(sym, s, l - 1, i);
    v[y->w + i * y->out + o] =
        factor * c.share * normal(5, key(l, c.opposite, c.neuron, neuron));
  }
  v[y->b + o] = factor * normal(6, key(l, 0, 0, neuron));
}

static void fill_student(const coh_plan *p, double *v, coh_symmetry sym, size_t s) {
  for (size_t l = 0; l < p->L; l++)
    for (size_t o = 0; o < p->layer[l].out; o++) {
      copy c = {.neuron = o, .factor = 1};
      if (l + 1 < p->L) c = copy_at(sym, s, l, o);
      fill_neuron(p, v, sym, s, l, o, c.neuron, c.factor);
    }
}

/* What is left to cluster: students [STUDENTS, P] and the features that they read. */
typedef struct chain {
  coh_act act;
  coh_symmetry sym;
  coh_plan upper;
  double *params, *x, *want; /* want [ROWS, OUTPUTS]: outputs of every student */
  coh_rebuilt rebuilt;
} chain;

static void chain_make(chain *c, coh_act act, size_t hidden) {
  size_t sizes[5] = {INPUTS};
  *c = (chain){.act = act, .sym = coh_act_symmetry(act)};
  c->rebuilt = (coh_rebuilt){.act = act, .linear = coh_symmetry_is_even_linear(c->sym)};
  for (size_t l = 1; l <= hidden; l++) sizes[l] = COPIES * base_size[l];
  sizes[hidden + 1] = OUTPUTS;
  OK(coh_plan_dense(hidden + 1, sizes, act, NULL, &c->upper, &err));
  c->params = array(STUDENTS * c->upper.P, sizeof *c->params);
  for (size_t s = 0; s < STUDENTS; s++)
    fill_student(&c->upper, c->params + s * c->upper.P, c->sym, s);
  c->x = array(ROWS * INPUTS, sizeof *c->x);
  for (size_t i = 0; i < ROWS * INPUTS; i++) c->x[i] = normal(7, i);
  c->want = outputs(&c->upper, c->params, ROWS, c->x);
}

static void chain_free(chain *c) {
  free(c->params);
  free(c->x);
  free(c->want);
  coh_rebuilt_free(&c->rebuilt);
}

static void check_outputs(const chain *c, const coh_plan *p, const double *params,
                          const double *x, const char *what) {
  double *y = outputs(p, params, ROWS, x);
  double most = difference(ROWS * OUTPUTS, y, c->want);
  if (!(most < 1e-10))
    fail_msg("%s, %s: outputs differ by %g", coh_act_name(c->act), what, most);
  free(y);
}

static coh_clustering *chain_cluster(chain *c) {
  double loss[STUDENTS] = {3, 1, 2, 4};
  coh_cluster_options o = {.symmetry = c->sym,
                           .linear_part = coh_act_linear_part(c->act),
                           .gamma = 1,
                           .beta = 6,
                           .cut = COH_CUT_COUNT,
                           .clusters = base_size[c->rebuilt.L + 1],
                           .last_hidden = c->upper.L == 2};
  coh_layer_view v;
  coh_clustering *found;
  OK(coh_layer_view_of(&c->upper, STUDENTS, c->params, loss, NULL, &v, &err));
  OK(coh_cluster_layer(MPI_COMM_SELF, &v, &o, NULL, &found, &err));
  coh_layer_view_free(&v);
  if (found->K != o.clusters)
    fail_msg("%s: %zu neurons of %zu", coh_act_name(c->act), found->K, o.clusters);
  OK(coh_rebuilt_add(&c->rebuilt, found->K, found->D, found->w, &err));
  return found;
}

/* From students of one more layer to those that read the next features. */
static void chain_climb(chain *c, const coh_clustering *found) {
  coh_plan next;
  double *params;
  void *x;
  size_t width;
  OK(coh_upper_next(&c->upper, STUDENTS, c->params, found, c->sym, &next, &params, &err));
  OK(coh_features_next(dev64, c->act, ROWS, c->x, found->K, found->D, found->w,
                       c->rebuilt.linear, &x, &width, &err));
  assert_int_equal(width, next.d_in);
  free(c->params);
  free(c->x);
  c->params = params;
  c->x = x;
  c->upper = next;
  for (size_t s = 0; s < STUDENTS; s++)
    check_outputs(c, &next, params + s * next.P, x, "a student above");
}

/* The whole network, with what the last layer's flips left behind in student s. */
static void chain_end(chain *c, const coh_clustering *found) {
  enum { BEST = 1 };
  double bias[OUTPUTS], *params, *x0 = array(ROWS * INPUTS, sizeof *x0);
  const double *left = found->linear, *theta = NULL;
  size_t from = found->D - 1;
  coh_plan p;
  if (left) theta = left += BEST * found->D * OUTPUTS;
  for (size_t o = 0; o < OUTPUTS; o++) {
    bias[o] = c->params[BEST * c->upper.P + c->upper.layer[1].b + o];
    if (found->constant) bias[o] += found->constant[BEST * OUTPUTS + o];
    if (left) bias[o] += left[from * OUTPUTS + o];
  }
  OK(coh_rebuilt_network(&c->rebuilt, OUTPUTS, found->a, bias, theta, &p, &params, &err));
  for (size_t i = 0; i < ROWS * INPUTS; i++) x0[i] = normal(7, i);
  check_outputs(c, &p, params, x0, "the rebuilt network");
  free(params);
  free(x0);
}

static void check_chain(coh_act act, size_t hidden) {
  chain c;
  chain_make(&c, act, hidden);
  for (size_t s = 0; s < STUDENTS; s++)
    check_outputs(&c, &c.upper, c.params + s * c.upper.P, c.x, "a student");
  for (size_t l = 0; l < hidden; l++) {
    coh_clustering *found = chain_cluster(&c);
    if (l + 1 < hidden)
      chain_climb(&c, found);
    else
      chain_end(&c, found);
    coh_clustering_destroy(found);
  }
  chain_free(&c);
}

static void test_chains_compute_what_the_students_did(void **state) {
  (void)state;
  for (int act = COH_RELU; act <= COH_G; act++)
    for (size_t hidden = 1; hidden <= 3; hidden++) check_chain((coh_act)act, hidden);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_view_of_the_first_layer),
      cmocka_unit_test(test_next_students_take_constants),
      cmocka_unit_test(test_next_students_take_linear_paths),
      cmocka_unit_test(test_features_are_activations_and_inputs),
      cmocka_unit_test(test_rebuilt_network_by_hand),
      cmocka_unit_test(test_chains_compute_what_the_students_did),
  };
  MPI_Init(NULL, NULL);
  if (coh_device_open(COH_DEVICE_CPU, COH_F64, &dev64, &err)) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  coh_device_close(dev64);
  MPI_Finalize();
  return failed;
}
