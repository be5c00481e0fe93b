/* test_prune.c - a network without what its answers do not need, src/extract/prune.c: in
 * every class of activations a network of two hidden layers gets copies, idle neurons and
 * pairs that cancel, loses them again, and computes what it did; neurons that are turned
 * around, with the linear paths that make up for it, are turned back. */
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

enum { I = 4, H1 = 3, H2 = 4, O = 2, ROWS = 700 };

static const coh_act ACTS[] = {COH_RELU, COH_LEAKY_RELU, COH_SOFTPLUS, COH_GELU,
                               COH_SILU, COH_TANH,       COH_SIGMOID,  COH_G};
enum { N_ACTS = sizeof ACTS / sizeof *ACTS };

static double normal(uint64_t i) {
  return coh_random_normal(11, COH_RNG_TEST, 0, i);
}

/* A network and its answers. */
typedef struct network {
  coh_plan plan;
  double *params;
  double x[ROWS][I], y[ROWS][O];
  coh_dataset data;
} network;

static void answers(const coh_plan *p, const double *params, const network *k,
                    double *y) {
  OK(coh_network_apply(p, dev64, params, p->L - 1, ROWS, k->x, y, &err));
}

/* [I, H1 + more1, H2 + more2, O]; neurons past H1 and H2 have outgoing weights 0. */
static void new_network(network *k, coh_act act, size_t more1, size_t more2, bool paths) {
  size_t size[] = {I, H1 + more1, H2 + more2, O};
  bool skip[] = {false, paths, paths};
  OK(coh_plan_dense(3, size, act, skip, &k->plan, &err));
  OK(coh_alloc(&k->params, k->plan.P, sizeof(double), &err));
  const coh_layer *l = k->plan.layer;
  for (size_t i = 0; i < k->plan.P; i++) k->params[i] = 0.7 * normal(i);
  for (size_t q = 1; q < 3; q++) {
    size_t kept = q == 1 ? H1 : H2;
    memset(k->params + l[q].w + kept * l[q].out, 0,
           (l[q].in - kept) * l[q].out * sizeof(double));
    memset(k->params + l[q].s, 0, (paths ? l[q].skip_in * l[q].out : 0) * sizeof(double));
  }
  for (size_t b = 0; b < ROWS; b++)
    for (size_t i = 0; i < I; i++) k->x[b][i] = normal(5000 + b * I + i);
  answers(&k->plan, k->params, k, &k->y[0][0]);
  k->data = (coh_dataset){.dtype = COH_F64,
                          .n = ROWS,
                          .d_in = I,
                          .shape = {I, 1, 1},
                          .n_out = O,
                          .x = k->x,
                          .y = k->y};
}

static void free_network(network *k) {
  free(k->params);
}

static double worst_change(const coh_plan *p, const double *params, const network *k) {
  double most = 0, y[ROWS][O];
  answers(p, params, k, &y[0][0]);
  for (size_t b = 0; b < ROWS; b++)
    for (size_t o = 0; o < O; o++) most = fmax(most, fabs(y[b][o] - k->y[b][o]));
  return most;
}

/* ---- neurons --------------------------------------------------------------------- */

/* Neuron `to` of layer q becomes a copy of neuron `from`, which shares its outgoing
 * weights with it. */
static void copy_neuron(network *k, size_t q, size_t from, size_t to, double share) {
  const coh_layer *l = &k->plan.layer[q], *up = l + 1;
  double *p = k->params;
  for (size_t i = 0; i < l->in; i++)
    p[l->w + i * l->out + to] = p[l->w + i * l->out + from];
  for (size_t i = 0; l->skip && i < l->skip_in; i++)
    p[l->s + i * l->out + to] = p[l->s + i * l->out + from];
  p[l->b + to] = p[l->b + from];
  for (size_t o = 0; o < up->out; o++) {
    double *a = p + up->w + o;
    a[to * up->out] += share * a[from * up->out];
    a[from * up->out] *= 1 - share;
  }
}

static void test_copies_and_idle_ones_go(void **state) {
  (void)state;
  for (size_t i = 0; i < 2 * N_ACTS; i++) {
    network k;
    coh_act act = ACTS[i / 2];
    bool paths = i % 2 && coh_symmetry_is_even_linear(coh_act_symmetry(act));
    coh_pruned upper, lower;
    new_network(&k, act, 2, 2, paths);
    copy_neuron(&k, 0, 1, H1, 0.3); /* the neuron behind it stays idle */
    copy_neuron(&k, 1, 2, H2, 1.8);
    OK(coh_prune_layer(&k.plan, k.params, 1, &k.data, 1e-20, SIZE_MAX, &upper, &err));
    OK(coh_prune_layer(&upper.plan, upper.params, 0, &k.data, 1e-20, SIZE_MAX, &lower,
                       &err));
    assert_int_equal(upper.of, H2 + 2);
    assert_int_equal(upper.K, H2);
    assert_int_equal(lower.K, H1);
    assert_int_equal(lower.plan.layer[0].out, H1);
    assert_int_equal(lower.plan.layer[1].out, H2);
    double change = worst_change(&lower.plan, lower.params, &k);
    if (change > 1e-9)
      fail_msg("%s: the answers change by %g", coh_act_name(act), change);
    coh_pruned_free(&upper);
    coh_pruned_free(&lower);
    free_network(&k);
  }
}

/* Two neurons of opposite outgoing weights, and one that the limit lets go alone. */
static void test_pairs_that_cancel_and_limits(void **state) {
  (void)state;
  network k;
  coh_pruned p;
  new_network(&k, COH_TANH, 2, 0, false);
  const coh_layer *l = k.plan.layer;
  copy_neuron(&k, 0, H1 + 1, H1, 0);
  for (size_t o = 0; o < l[1].out; o++) {
    k.params[l[1].w + H1 * l[1].out + o] = 2;
    k.params[l[1].w + (H1 + 1) * l[1].out + o] = -2;
  }
  OK(coh_prune_layer(&k.plan, k.params, 0, &k.data, 1e-20, SIZE_MAX, &p, &err));
  assert_int_equal(p.K, H1);
  for (size_t i = 0; i < H1; i++) assert_int_equal(p.kept[i], i);
  coh_pruned_free(&p);
  OK(coh_prune_layer(&k.plan, k.params, 0, &k.data, 1e9, 3, &p, &err));
  assert_int_equal(p.K, H1 - 1);
  coh_pruned_free(&p);
  free_network(&k);
}

/* A neuron that is dead on every input has no column at all. */
static void test_dead_neurons_leave_finite_weights(void **state) {
  (void)state;
  network k;
  coh_pruned p;
  new_network(&k, COH_RELU, 0, 1, true);
  const coh_layer *l = &k.plan.layer[1];
  for (size_t i = 0; i < l->in; i++) k.params[l->w + i * l->out + H2] = 0;
  k.params[l->b + H2] = -1;
  OK(coh_prune_layer(&k.plan, k.params, 1, &k.data, 1e-20, 0, &p, &err));
  assert_int_equal(p.K, H2 + 1);
  for (size_t i = 0; i < p.plan.P; i++) assert_true(isfinite(p.params[i]));
  coh_pruned_free(&p);
  OK(coh_prune_layer(&k.plan, k.params, 1, &k.data, 1e-20, SIZE_MAX, &p, &err));
  assert_in_range(p.K, 1, H2);
  coh_pruned_free(&p);
  free_network(&k);
}

/* ---- linear paths ---------------------------------------------------------------- */

/* Turns around neuron k of layer q; the linear part that this leaves, c z a, goes to the
 * path of the layer above. */
static void turn_neuron(network *n, size_t q, size_t k) {
  const coh_layer *l = &n->plan.layer[q], *up = l + 1;
  double *p = n->params, c = coh_act_linear_part(l->act);
  for (size_t o = 0; o < up->out; o++) {
    double a = c * p[up->w + k * up->out + o];
    double *path = p + up->s + o;
    for (size_t i = 0; i < l->in; i++) path[i * up->out] += a * p[l->w + i * l->out + k];
    for (size_t i = 0; l->skip && i < l->skip_in; i++)
      path[(l->in + i) * up->out] += a * p[l->s + i * l->out + k];
    p[up->b + o] += a * p[l->b + k];
  }
  for (size_t i = 0; i < l->in; i++) p[l->w + i * l->out + k] *= -1;
  for (size_t i = 0; l->skip && i < l->skip_in; i++) p[l->s + i * l->out + k] *= -1;
  p[l->b + k] *= -1;
}

static void test_flipped_neurons_are_turned_back(void **state) {
  (void)state;
  for (size_t i = 0; i < N_ACTS; i++) {
    network k;
    coh_plan plain;
    double *params;
    if (!coh_symmetry_is_even_linear(coh_act_symmetry(ACTS[i]))) continue;
    new_network(&k, ACTS[i], 0, 0, true);
    turn_neuron(&k, 0, 1);
    turn_neuron(&k, 0, 2);
    turn_neuron(&k, 1, 0);
    turn_neuron(&k, 1, 3);
    assert_true(worst_change(&k.plan, k.params, &k) < 1e-12);
    OK(coh_without_paths(&k.plan, k.params, &plain, &params, &err));
    assert_false(plain.layer[1].skip || plain.layer[2].skip);
    assert_true(worst_change(&plain, params, &k) < 1e-12);
    free(params);
    free_network(&k);
  }
}

/* More neurons than are tried in all combinations; and nothing to do without paths. */
static void test_many_neurons_and_no_paths(void **state) {
  (void)state;
  network k;
  coh_plan plain;
  double *params;
  new_network(&k, COH_SOFTPLUS, 20, 0, true);
  for (size_t h = H1; h < H1 + 20; h++)
    for (size_t o = 0; o < H2; o++)
      k.params[k.plan.layer[1].w + h * H2 + o] = normal(9000 + h * H2 + o);
  answers(&k.plan, k.params, &k, &k.y[0][0]);
  for (size_t h = 0; h < 9; h++) turn_neuron(&k, 0, 2 * h);
  OK(coh_without_paths(&k.plan, k.params, &plain, &params, &err));
  assert_true(worst_change(&plain, params, &k) < 1e-12);
  free(params);
  free_network(&k);
  new_network(&k, COH_TANH, 0, 0, false);
  OK(coh_without_paths(&k.plan, k.params, &plain, &params, &err));
  assert_memory_equal(params, k.params, k.plan.P * sizeof *params);
  free(params);
  free_network(&k);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  OK(coh_device_open(COH_DEVICE_CPU, COH_F64, &dev64, &err));
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_copies_and_idle_ones_go),
      cmocka_unit_test(test_pairs_that_cancel_and_limits),
      cmocka_unit_test(test_dead_neurons_leave_finite_weights),
      cmocka_unit_test(test_flipped_neurons_are_turned_back),
      cmocka_unit_test(test_many_neurons_and_no_paths),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  coh_device_close(dev64);
  MPI_Finalize();
  return failed;
}
