/* test_robust.c - method = robust on hand-made students: copies, flips, other lengths,
 * groups that cancel, dead neurons, a bad student, a flat channel; in every class of
 * activations, in the last hidden layer and below it. */
#include "extract/private.h"
#include "extract/robust.h"
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

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)
#define BELOW(a, limit)                                                                  \
  do {                                                                                   \
    double below_a = (a);                                                                \
    if (!(below_a <= (limit))) fail_msg("%s = %.17g, above %g", #a, below_a, limit);     \
  } while (0)

enum { R = 3, D = 5, N = 6, H = 14, ROWS = 600 };

static const coh_act ACTS[] = {COH_RELU, COH_LEAKY_RELU, COH_SOFTPLUS, COH_GELU,
                               COH_SILU, COH_TANH,       COH_SIGMOID,  COH_G};
enum { N_ACTS = sizeof ACTS / sizeof *ACTS };

static double normal(uint64_t stream, uint64_t i) {
  return coh_random_normal(7, COH_RNG_TEST, stream, i);
}

/* ---- a teacher and students by hand ---- */

typedef struct world {
  coh_act act;
  double tw[R][D], ta[R][1], bias; /* the teacher */
  double w[N][H][D], a[N][H][1], b[N];
  size_t used[N]; /* neurons of each student so far; the rest is idle */
  double x[ROWS][D - 1], y[ROWS], loss[N];
  coh_plan plan;
  double *params; /* [N, P] */
  coh_layer_data data;
  coh_layer_view view;
} world;

static double activation_sum(const world *k, size_t count, const double (*w)[D],
                             const double (*a)[1], const double *x) {
  double sum = 0;
  for (size_t h = 0; h < count; h++) {
    double z = w[h][D - 1];
    for (size_t d = 0; d + 1 < D; d++) z += w[h][d] * x[d];
    sum += a[h][0] * coh_act_value(k->act, z);
  }
  return sum;
}

static void new_world(world *k, coh_act act) {
  static const double directions[R][D] = {
      {1, 0.4, -0.3, 0.8, 0.2}, {-0.5, 1.1, 0.6, 0.1, -0.4}, {0.3, -0.2, 1.2, -0.9, 0.5}};
  static const double outputs[R] = {1, -0.8, 0.6};
  memset(k, 0, sizeof *k);
  k->act = act;
  k->bias = 0.3;
  memcpy(k->tw, directions, sizeof directions);
  memcpy(k->ta, outputs, sizeof outputs);
  for (size_t i = 0; i < ROWS; i++) {
    for (size_t d = 0; d + 1 < D; d++) k->x[i][d] = normal(1, i * D + d);
    k->y[i] = k->bias + activation_sum(k, R, (const double(*)[D])k->tw,
                                       (const double(*)[1])k->ta, k->x[i]);
  }
  for (size_t s = 0; s < N; s++) k->b[s] = k->bias;
}

static void add(world *k, size_t s, const double *w, double factor, double a) {
  assert_true(k->used[s] < H);
  for (size_t d = 0; d < D; d++) k->w[s][k->used[s]][d] = factor * w[d];
  k->a[s][k->used[s]++][0] = a;
}

/* Adds z(w) * a to the output of an even_linear student: activation(z) - activation(-z)
 * is c z. */
static void add_linear(world *k, size_t s, const double *w, double a) {
  double c = coh_act_linear_part(k->act);
  add(k, s, w, 1, a / c);
  add(k, s, w, -1, -a / c);
}

/* Teacher neuron r turned around, with what that needs to leave the output as it is. The
 * linear part of an even_linear class is made of two other directions. */
static void add_flipped(world *k, size_t s, size_t r) {
  coh_symmetry sym = coh_act_symmetry(k->act);
  double a = k->ta[r][0], half[2][D];
  bool negates = sym == COH_SYM_ODD || sym == COH_SYM_ODD_CONSTANT;
  add(k, s, k->tw[r], sym == COH_SYM_NONE ? 1 : -1, negates ? -a : a);
  if (sym == COH_SYM_ODD_CONSTANT) k->b[s] += a;
  if (!coh_symmetry_is_even_linear(sym)) return;
  for (size_t d = 0; d < D; d++) {
    half[0][d] = k->tw[r][d] / 2 + 0.5 * normal(10 + s, d);
    half[1][d] = k->tw[r][d] - half[0][d];
  }
  for (size_t i = 0; i < 2; i++)
    add_linear(k, s, half[i], a * coh_act_linear_part(k->act));
}

/* Teacher neuron r in two copies; of other lengths where lengths are free. */
static void add_copies(world *k, size_t s, size_t r) {
  bool scales = coh_act_symmetry(k->act) == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING;
  double a = k->ta[r][0], by = scales ? 3 : 1;
  add(k, s, k->tw[r], 1, 1.7 * a);
  add(k, s, k->tw[r], by, -0.7 * a / by);
}

/* Two equal vectors that cancel, and one that adds nothing. */
static void add_clutter(world *k, size_t s) {
  double w[D];
  for (size_t d = 0; d < D; d++) w[d] = normal(100 + s, d);
  add(k, s, w, 1, 2.5);
  add(k, s, w, 1, -2.5);
  memset(w, 0, sizeof w);
  w[D - 1] = -1;
  add(k, s, w, 50, k->act == COH_TANH || k->act == COH_LEAKY_RELU ? 0 : 1);
}

static void fill_students(world *k) {
  for (size_t s = 0; s < N; s++) {
    size_t r = s % R;
    add_copies(k, s, r);
    add_flipped(k, s, (r + 1) % R);
    add(k, s, k->tw[(r + 2) % R], 1, k->ta[(r + 2) % R][0]);
    add_clutter(k, s);
  }
}

/* Losses, parameters and views from w, a, b. */
static void finish_world(world *k) {
  size_t sizes[] = {D - 1, H, 1};
  OK(coh_plan_dense(2, sizes, k->act, NULL, &k->plan, &err));
  OK(coh_alloc(&k->params, N * k->plan.P, sizeof(double), &err));
  for (size_t s = 0; s < N; s++) {
    double *p = k->params + s * k->plan.P;
    for (size_t h = 0; h < H; h++) {
      for (size_t d = 0; d + 1 < D; d++)
        p[k->plan.layer[0].w + d * H + h] = k->w[s][h][d];
      p[k->plan.layer[0].b + h] = k->w[s][h][D - 1];
      p[k->plan.layer[1].w + h] = k->a[s][h][0];
    }
    p[k->plan.layer[1].b] = k->b[s];
    k->loss[s] = 0;
    for (size_t i = 0; i < ROWS; i++) {
      double e = k->b[s] - k->y[i] +
                 activation_sum(k, H, (const double(*)[D])k->w[s],
                                (const double(*)[1])k->a[s], k->x[i]);
      k->loss[s] += e * e / ROWS;
    }
  }
  k->data = (coh_layer_data){k->act,      ROWS,     1,        COH_F64,
                             &k->x[0][0], &k->y[0], &k->plan, k->params};
  k->view = (coh_layer_view){N,       H,    D,       1, &k->w[0][0][0], &k->a[0][0][0],
                             k->loss, NULL, &k->data};
}

static void free_world(world *k) {
  free(k->params);
}

static coh_cluster_options options_of(coh_act act) {
  return (coh_cluster_options){.method = COH_ROBUST,
                               .symmetry = coh_act_symmetry(act),
                               .linear_part = coh_act_linear_part(act),
                               .gamma = 0.5,
                               .beta = 6,
                               .last_hidden = true};
}

static coh_clustering *cluster(const world *k) {
  coh_clustering *c;
  coh_cluster_options o = options_of(k->act);
  OK(coh_cluster_layer(MPI_COMM_WORLD, &k->view, &o, NULL, &c, &err));
  return c;
}

/* Every neuron of the teacher, once, and its outgoing weights. */
static void check_found(const world *k, const coh_clustering *c) {
  coh_comparison *m;
  OK(coh_compare(coh_act_symmetry(k->act), R, &k->tw[0][0], &k->ta[0][0], c->K, c->w,
                 c->a, D, 1, NULL, &m, &err));
  if (c->K != R) fail_msg("%s: %zu neurons", coh_act_name(k->act), c->K);
  assert_int_equal(m->n_excess, 0);
  BELOW(m->w_max, 1e-12);
  BELOW(m->a_max, 1e-12);
  coh_comparison_destroy(m);
}

static size_t count(const coh_clustering *c, coh_cluster_state state) {
  size_t n = 0;
  for (size_t i = 0; i < c->N * c->H; i++) n += c->cluster[c->label[i]].state == state;
  return n;
}

/* ---- the last hidden layer ---- */

static void test_every_class(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    world k;
    new_world(&k, ACTS[i]);
    fill_students(&k);
    finish_world(&k);
    coh_clustering *c = cluster(&k);
    check_found(&k, c);
    for (size_t j = 0; j < R; j++) {
      const coh_cluster *q = &c->cluster[c->kept[j]];
      assert_int_equal(q->students, N);
      assert_int_equal(q->votes, N);
      assert_int_equal(q->electors, N);
      assert_int_equal(q->flat, 0);
      BELOW(q->spread, 1e-6);
      assert_true(q->rise > 1e-3 && q->effect > 1e-3);
    }
    /* two copies, the flipped and the plain one of each student; a pair that cancels may
     * go with a neuron that happens to be near */
    assert_in_range(count(c, COH_CLUSTER_KEPT), 4 * N, 6 * N);
    assert_int_equal(count(c, COH_CLUSTER_KEPT) + count(c, COH_CLUSTER_IDLE), N * H);
    coh_clustering_destroy(c);
    free_world(&k);
  }
}

/* A student far from the teacher neither spoils nor outvotes. */
static void test_bad_students_have_no_say(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    world k;
    new_world(&k, ACTS[i]);
    fill_students(&k);
    for (size_t s = 3; s < N; s++)
      for (size_t h = 0; h < H; h++)
        for (size_t d = 0; d < D; d++) k.w[s][h][d] = normal(500 + s, h * D + d);
    finish_world(&k);
    coh_clustering *c = cluster(&k);
    check_found(&k, c);
    for (size_t j = 0; j < R; j++) assert_int_equal(c->cluster[c->kept[j]].electors, 3);
    coh_clustering_destroy(c);
    free_world(&k);
  }
}

/* Good, but not perfect: the spread is that of the noise, and nothing is in excess. */
static void test_noise(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    world k;
    new_world(&k, ACTS[i]);
    fill_students(&k);
    for (size_t s = 0; s < N; s++)
      for (size_t h = 0; h < H; h++)
        for (size_t d = 0; d < D; d++) k.w[s][h][d] += 1e-4 * normal(900 + s, h * D + d);
    finish_world(&k);
    coh_clustering *c = cluster(&k);
    coh_comparison *m;
    OK(coh_compare(coh_act_symmetry(k.act), R, &k.tw[0][0], &k.ta[0][0], c->K, c->w, c->a,
                   D, 1, NULL, &m, &err));
    assert_int_equal(c->K, R);
    BELOW(m->w_max, 1e-6);
    coh_comparison_destroy(m);
    coh_clustering_destroy(c);
    free_world(&k);
  }
}

static void count_warnings(void *ctx, coh_level level, const char *text) {
  *(size_t *)ctx += level == COH_WARN && strstr(text, "flat channel");
}

/* tanh(z + d/2) / d - tanh(z - d/2) / d, another small d in each student: no neuron, but
 * the derivative of one. */
static void test_flat_channel_is_told(void **state) {
  (void)state;
  world k;
  size_t warned = 0;
  new_world(&k, COH_TANH);
  double centre[D] = {0.2, 0.9, -0.7, -0.6, 0.1}, along[D] = {0.5, -0.1, 0.3, 0.2, 0.4};
  for (size_t s = 0; s < N; s++) {
    double d = 0.02 * (double)(s + 1), w[D];
    for (size_t r = 0; r < R; r++) add(&k, s, k.tw[r], 1, k.ta[r][0]);
    for (int side = -1; side <= 1; side += 2) {
      for (size_t i = 0; i < D; i++) w[i] = centre[i] + side * d / 2 * along[i];
      add(&k, s, w, 1, side / d);
    }
  }
  for (size_t i = 0; i < ROWS; i++)
    k.y[i] = k.b[0] + activation_sum(&k, H, (const double(*)[D])k.w[0],
                                     (const double(*)[1])k.a[0], k.x[i]);
  finish_world(&k);
  coh_cluster_options o = options_of(k.act);
  coh_sink sink = {.line = count_warnings, .ctx = &warned};
  coh_clustering *c;
  OK(coh_cluster_layer(MPI_COMM_WORLD, &k.view, &o, &sink, &c, &err));
  assert_int_equal(warned, 1);
  size_t flat = 0;
  for (size_t i = 0; i < c->n_clusters; i++) flat += c->cluster[i].flat;
  assert_int_equal(flat, N);
  coh_clustering_destroy(c);
  free_world(&k);
}

/* The best student holds a neuron in two halves that lie apart: one of the others, which
 * hold it whole, speaks for it. */
static void test_neuron_in_halves_does_not_speak(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    world k;
    new_world(&k, ACTS[i]);
    for (size_t s = 0; s < N; s++)
      for (size_t r = s == 0 ? 1 : 0; r < R; r++) add(&k, s, k.tw[r], 1, k.ta[r][0]);
    for (int sign = -1; sign <= 1; sign += 2) {
      double w[D];
      for (size_t d = 0; d < D; d++) w[d] = k.tw[0][d] + sign * 0.02 * normal(60, d);
      add(&k, 0, w, 1, k.ta[0][0] / 2);
    }
    finish_world(&k);
    for (size_t s = 0; s < N; s++) k.loss[s] = s == 0 ? 1e-20 : 1e-12;
    coh_clustering *c = cluster(&k);
    check_found(&k, c);
    coh_clustering_destroy(c);
    free_world(&k);
  }
}

/* A neuron that only one of six good students has is left over; with a small gamma and
 * one more student it is elected, but the answers do not need it. */
static void test_leftover_and_unneeded(void **state) {
  (void)state;
  world k;
  double lone[D] = {0.1, -1.3, 0.2, 0.7, 0.9};
  new_world(&k, COH_TANH);
  fill_students(&k);
  add(&k, 0, lone, 1, 1e-3);
  finish_world(&k);
  coh_clustering *c = cluster(&k);
  check_found(&k, c);
  coh_clustering_destroy(c);
  free_world(&k);

  new_world(&k, COH_TANH);
  fill_students(&k);
  for (size_t s = 0; s < 4; s++) add(&k, s, lone, 1, 1e-3);
  for (size_t s = 0; s < 4; s++) add(&k, s, lone, 1.01, -1e-3);
  finish_world(&k);
  c = cluster(&k);
  check_found(&k, c);
  coh_clustering_destroy(c);
  free_world(&k);
}

static void test_stability(void **state) {
  (void)state;
  world k;
  new_world(&k, COH_GELU);
  fill_students(&k);
  finish_world(&k);
  coh_cluster_options o = options_of(k.act);
  o.stability = true;
  coh_clustering *c;
  OK(coh_cluster_layer(MPI_COMM_WORLD, &k.view, &o, NULL, &c, &err));
  check_found(&k, c);
  const coh_stability *t = &c->stability;
  assert_true(t->n_gamma > 3 && t->n_beta > 3);
  for (size_t i = 0; i < t->n_gamma * t->n_beta; i++) assert_int_equal(t->size[i], R);
  coh_clustering_destroy(c);
  free_world(&k);
}

static void test_nothing_in_common(void **state) {
  (void)state;
  world k;
  coh_clustering *c;
  new_world(&k, COH_G);
  for (size_t s = 0; s < N; s++)
    for (size_t h = 0; h < 2; h++) {
      double w[D];
      for (size_t d = 0; d < D; d++) w[d] = normal(300 + s, h * D + d);
      add(&k, s, w, 1 + (double)s, 1);
    }
  finish_world(&k);
  coh_cluster_options o = options_of(k.act);
  o.beta = 100;
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &k.view, &o, NULL, &c, &err),
                   COH_ENUMERIC);
  assert_non_null(strstr(err.text, "no neuron is shared by enough students"));
  assert_null(c);
  k.view.data = NULL;
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &k.view, &o, NULL, &c, &err),
                   COH_EBUG);
  free_world(&k);
}

/* ---- below the last hidden layer ---- */

enum { UP = 4 }; /* neurons of the second hidden layer */

/* The student `from` of k as the lower layer of a deeper one with random upper weights:
 * equal in all students, as functions of the teacher's lower layer. */
static void deepen(world *k, coh_plan *plan, double **params, double **a, double *y) {
  size_t sizes[] = {D - 1, H, UP, 1};
  OK(coh_plan_dense(3, sizes, k->act, NULL, plan, &err));
  OK(coh_alloc(params, N * plan->P, sizeof **params, &err));
  OK(coh_alloc(a, N * H * UP, sizeof **a, &err));
  for (size_t s = 0; s < N; s++) {
    double *p = *params + s * plan->P;
    memcpy(p, k->params + s * k->plan.P, (D * H) * sizeof *p);
    for (size_t u = 0; u < UP; u++) {
      double share = 0.4 + 0.3 * (double)u;
      for (size_t h = 0; h < H; h++) {
        double v = share * k->a[s][h][0];
        p[plan->layer[1].w + h * UP + u] = (*a)[(s * H + h) * UP + u] = v;
      }
      p[plan->layer[1].b + u] = share * k->b[s] + 0.1 * (double)u;
      p[plan->layer[2].w + u] = u % 2 ? 1 : -0.5;
    }
  }
  for (size_t i = 0; i < ROWS; i++) {
    y[i] = 0;
    for (size_t u = 0; u < UP; u++)
      y[i] += (u % 2 ? 1 : -0.5) *
              coh_act_value(k->act, (0.4 + 0.3 * (double)u) * k->y[i] + 0.1 * (double)u);
  }
}

/* The students above the clustered layer answer as before. */
static void check_upper(const world *k, const coh_clustering *c, const double *y) {
  coh_plan next;
  coh_device *dev;
  double *params, out[ROWS];
  void *features;
  size_t width;
  coh_symmetry sym = coh_act_symmetry(k->act);
  OK(coh_device_open(COH_DEVICE_CPU, COH_F64, &dev, &err));
  OK(coh_upper_next(k->data.plan, N, k->data.params, c, sym, &next, &params, &err));
  OK(coh_features_next(dev, k->act, ROWS, k->x, c->K, D, c->w,
                       coh_symmetry_is_even_linear(sym), &features, &width, &err));
  assert_int_equal(width, next.d_in);
  for (size_t s = 0; s < N; s++) {
    OK(coh_network_apply(&next, dev, params + s * next.P, next.L - 1, ROWS, features, out,
                         &err));
    for (size_t i = 0; i < ROWS; i++) BELOW(fabs(out[i] - y[i]), 1e-9);
  }
  free(features);
  free(params);
  coh_device_close(dev);
}

static void test_lower_layer_of_every_class(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    world k;
    coh_plan plan;
    double *params, *a, y[ROWS];
    new_world(&k, ACTS[i]);
    fill_students(&k);
    finish_world(&k);
    deepen(&k, &plan, &params, &a, y);
    k.data.plan = &plan;
    k.data.params = params;
    k.data.y = y;
    k.view.O = UP;
    k.view.a = a;
    coh_cluster_options o = options_of(k.act);
    o.last_hidden = false;
    coh_clustering *c;
    OK(coh_cluster_layer(MPI_COMM_WORLD, &k.view, &o, NULL, &c, &err));
    if (c->K != R) fail_msg("%s: %zu neurons", coh_act_name(k.act), c->K);
    check_upper(&k, c, y);
    coh_clustering_destroy(c);
    free(a);
    free(params);
    free_world(&k);
  }
}

/* ---- the pieces ---- */

/* Four leaves of three students; 0 and 1 are near, so are 2 and 3. */
static void test_election_by_hand(void **state) {
  (void)state;
  coh_merge merges[] = {{0, 1, 2, 1e-6}, {2, 3, 2, 1e-3}, {4, 5, 4, 0.5}};
  size_t student[] = {0, 1, 1, 2}, n, of[4];
  double effect[] = {1, 1, 0.1, 0.3}, loss[] = {1e-9, 1e-9, 1e-9};
  coh_ballot b = {4, merges, student, effect, 3, loss};
  coh_elected e[4];
  OK(coh_elect(&b, 0.5, 0.6, e, &n, &err));
  assert_int_equal(n, 2);
  assert_int_equal(e[0].node, 4);
  assert_int_equal(e[1].node, 5);
  assert_int_equal(e[0].students, 2);
  assert_int_equal(e[0].electors, 3);
  BELOW(fabs(e[1].effect - 0.2), 1e-15);
  BELOW(fabs(e[0].gain - log(0.5 / 1e-6)), 1e-12);
  OK(coh_elected_of(&b, n, e, of, &err));
  assert_true(of[0] == 0 && of[1] == 0 && of[2] == 1 && of[3] == 1);
  OK(coh_elect(&b, 1, 0.6, e, &n, &err)); /* all three only have one together */
  assert_int_equal(n, 1);
  assert_int_equal(e[0].node, 6);
  OK(coh_elect(&b, 1, 0.4, e, &n, &err)); /* ... and that is too wide */
  assert_int_equal(n, 0);
}

/* Least squares drops what is not needed, and a copy before its original. */
static void test_needed(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    world k;
    coh_probe p;
    coh_fit f;
    new_world(&k, ACTS[i]);
    finish_world(&k);
    double w[R + 2][D];
    memcpy(w, k.tw, sizeof k.tw);
    memcpy(w[R], k.tw[0], sizeof w[R]);
    for (size_t d = 0; d < D; d++) w[R + 1][d] = normal(40, d);
    OK(coh_probe_create(&k.data, D, coh_act_symmetry(k.act), ROWS, &p, &err));
    OK(coh_fit_needed(&p, R + 2, &w[0][0], 1, k.y, NULL, 1e-12, 0, 1, &f, &err));
    assert_true(f.needed[0] != f.needed[R]);
    assert_true(f.needed[1] && f.needed[2] && !f.needed[R + 1]);
    BELOW(f.error, 1e-20);
    BELOW(fabs(f.a[0] + f.a[R] - k.ta[0][0]), 1e-9);
    BELOW(fabs(f.base[f.B - 1] - k.bias), 1e-9);
    coh_fit_free(&f);
    coh_probe_free(&p);
    free_world(&k);
  }
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_class),
      cmocka_unit_test(test_bad_students_have_no_say),
      cmocka_unit_test(test_noise),
      cmocka_unit_test(test_flat_channel_is_told),
      cmocka_unit_test(test_neuron_in_halves_does_not_speak),
      cmocka_unit_test(test_leftover_and_unneeded),
      cmocka_unit_test(test_stability),
      cmocka_unit_test(test_nothing_in_common),
      cmocka_unit_test(test_lower_layer_of_every_class),
      cmocka_unit_test(test_election_by_hand),
      cmocka_unit_test(test_needed),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
