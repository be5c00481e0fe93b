/* test_finish.c - L-BFGS and Levenberg-Marquardt on one rank: against finite differences
 * and SciPy, how fast and how far they go, ensembles, stops and resumes, bad numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "finishdata.h"
#include "scratch.h"
#include "train/finish.h"

static coh_error err;
static const coh_finish_method methods[] = {COH_FINISH_LBFGS, COH_FINISH_LM};

/* ---- derivatives ----------------------------------------------------------------- */

/* What one finisher of one member works with. */
typedef struct bench {
  coh_grid grid;
  coh_device *dev;
  coh_dataset d;
  coh_plan plan;
  coh_trainer *t;
  coh_objective o;
} bench;

static void bench_open(const finish_case *c, bench *b) {
  FC_OK(coh_grid_create(MPI_COMM_SELF, 1, &b->grid, &err));
  FC_OK(coh_device_open(COH_DEVICE_CPU, COH_F64, &b->dev, &err));
  fc_plan(c, &b->plan);
  fc_dataset(c, &b->plan, b->dev, &b->d);
  coh_train_spec spec = {.batch = 64, .loss = c->labels ? COH_CROSS_ENTROPY : COH_MSE};
  FC_OK(coh_trainer_create(&b->grid, b->dev, &b->plan, 1, &b->d, NULL, &spec, NULL, &b->t,
                           &err));
  FC_OK(coh_objective_create(b->t, &b->o, &err));
}

static void bench_close(bench *b) {
  coh_objective_destroy(&b->o);
  coh_trainer_destroy(b->t);
  coh_dataset_free(&b->d);
  coh_device_close(b->dev);
  coh_grid_destroy(&b->grid);
}

/* Outputs [n, O] at w, parameter k moved by h. */
static void outputs(const bench *b, double *w, size_t k, double h, double *out) {
  double kept = w[k];
  w[k] += h;
  FC_OK(coh_network_apply(&b->plan, b->dev, w, b->plan.L - 1, b->d.n, b->d.x, out, &err));
  w[k] = kept;
}

/* Columns of the Jacobian [P][n O] by central differences. */
static double *differences(const bench *b, double *w) {
  size_t P = b->plan.P, m = b->d.n * b->d.n_out;
  const double h = 2e-6;
  double *jt = calloc(P * m, sizeof *jt), *low = calloc(m, sizeof *low);
  for (size_t k = 0; k < P; k++) {
    outputs(b, w, k, h, jt + k * m);
    outputs(b, w, k, -h, low);
    for (size_t i = 0; i < m; i++) jt[k * m + i] = (jt[k * m + i] - low[i]) / (2 * h);
  }
  free(low);
  return jt;
}

static void check_matrix(const bench *b, const double *jt, double *w) {
  size_t P = b->plan.P, m = b->d.n * b->d.n_out;
  coh_normal k;
  double *h = calloc(P * P, sizeof *h);
  coh_objective o = b->o;
  FC_OK(coh_normal_create(&o, &k, &err));
  FC_OK(coh_normal_matrix(&k, w, h, &err));
  for (size_t i = 0; i < P; i++)
    for (size_t j = 0; j <= i; j++) {
      double want = 2 * coh_dot(m, jt + i * m, jt + j * m) / (double)m;
      double room = 1e-8 * (1 + fabs(want));
      if (!(fabs(h[i * P + j] - want) < room))
        fail_msg("%s, element %zu %zu: %.17g, differences give %.17g",
                 coh_act_name(b->plan.layer[0].act), i, j, h[i * P + j], want);
    }
  coh_normal_destroy(&k);
  free(h);
}

static void check_gradient(bench *b, const double *jt, double *w) {
  size_t P = b->plan.P, m = b->d.n * b->d.n_out;
  double *r = calloc(m, sizeof *r), *g = calloc(P, sizeof *g), loss;
  outputs(b, w, 0, 0, r);
  for (size_t i = 0; i < m; i++) r[i] -= ((double *)b->d.y)[i];
  FC_OK(coh_objective_eval(&b->o, 1, w, &loss, g, &err));
  double mean = coh_dot(m, r, r) / (double)m;
  assert_true(fabs(loss - mean) < 1e-13 * mean);
  for (size_t k = 0; k < P; k++) {
    double want = 2 * coh_dot(m, jt + k * m, r) / (double)m;
    assert_true(fabs(g[k] - want) < 1e-8 * (1 + fabs(want)));
  }
  free(r);
  free(g);
}

static void derivatives_are_those_of_finite_differences(void **state) {
  (void)state;
  for (int deep = 0; deep < 2; deep++)
    for (int act = COH_SOFTPLUS; act <= COH_G; act++) {
      finish_case c = {
          .N = 1, .act = (coh_act)act, .deep = deep != 0, .distance = 0.1, .noise = 0.1};
      bench b;
      bench_open(&c, &b);
      double *w = calloc(b.plan.P, sizeof *w);
      fc_start(&c, &b.plan, 0, w);
      double *jt = differences(&b, w);
      check_matrix(&b, jt, w);
      check_gradient(&b, jt, w);
      free(jt);
      free(w);
      bench_close(&b);
    }
}

/* ---- how far and how fast -------------------------------------------------------- */

static void lm_is_at_rounding_in_few_steps(void **state) {
  (void)state;
  size_t bytes;
  for (int deep = 0; deep < 2; deep++)
    for (int act = COH_RELU; act <= COH_G; act++) {
      finish_case c = {.N = 3,
                       .method = COH_FINISH_LM,
                       .act = (coh_act)act,
                       .deep = deep != 0,
                       .distance = 0.02,
                       .tolerance = 1e-15};
      free(finish_case_run(&c, &bytes));
      for (size_t n = 0; n < c.N; n++) {
        if (c.member[n].loss >= 1e-24 || c.member[n].iterations >= 40)
          fail_msg("%s, deep %d: loss %g after %d iterations", coh_act_name(c.act), deep,
                   c.member[n].loss, (int)c.member[n].iterations);
        assert_true(c.loss[n] < 1e-24);
      }
    }
}

static void lbfgs_goes_below_1e_20(void **state) {
  (void)state;
  size_t bytes;
  for (int act = COH_SOFTPLUS; act <= COH_G; act++) {
    finish_case c = {.N = 3,
                     .method = COH_FINISH_LBFGS,
                     .act = (coh_act)act,
                     .distance = 0.02,
                     .steps = 20000,
                     .tolerance = 1e-13};
    free(finish_case_run(&c, &bytes));
    for (size_t n = 0; n < c.N; n++) assert_true(c.member[n].loss < 1e-20);
  }
}

/* The minimum that SciPy's BFGS finds from where member 0 starts. */
static double scipy_minimum(const finish_case *c) {
  bench b;
  char command[1024], *data;
  size_t len;
  double minimum;
  bench_open(c, &b);
  double *w = calloc(b.plan.P, sizeof *w);
  fc_start(c, &b.plan, 0, w);
  assert_int_equal(scratch_write(scratch("x"), b.d.x, b.d.n * FC_INPUTS * 8), 0);
  assert_int_equal(scratch_write(scratch("y"), b.d.y, b.d.n * FC_OUTPUTS * 8), 0);
  assert_int_equal(scratch_write(scratch("start"), w, b.plan.P * 8), 0);
  free(w);
  bench_close(&b);
  snprintf(command, sizeof command, "/usr/bin/python3 tests/oracle_finish.py '%s' %s %d",
           scratch_folder, coh_act_name(c->act), FC_HIDDEN);
  assert_int_equal(system(command), 0);
  FC_OK(coh_file_read(scratch("minimum"), &data, &len, &err));
  assert_int_equal(len, sizeof minimum);
  memcpy(&minimum, data, sizeof minimum);
  free(data);
  return minimum;
}

static void minima_are_those_of_scipy(void **state) {
  (void)state;
  const coh_act acts[] = {COH_TANH, COH_SIGMOID};
  for (int a = 0; a < 2; a++)
    for (int m = 0; m < 2; m++) {
      finish_case c = {.N = 1,
                       .method = methods[m],
                       .act = acts[a],
                       .distance = 0.1,
                       .noise = 0.1,
                       .steps = 5000,
                       .tolerance = 1e-11};
      size_t bytes;
      free(finish_case_run(&c, &bytes));
      double minimum = scipy_minimum(&c);
      assert_true(minimum > 1e-3);
      if (!(fabs(c.member[0].loss - minimum) < 1e-10 * minimum))
        fail_msg("%s, %s: %.17g, SciPy %.17g", coh_finish_name(c.method),
                 coh_act_name(c.act), c.member[0].loss, minimum);
    }
}

static void cross_entropy_ends_by_its_gradient(void **state) {
  (void)state;
  size_t bytes;
  finish_case c = {.N = 2,
                   .method = COH_FINISH_LBFGS,
                   .act = COH_IDENTITY,
                   .labels = true,
                   .distance = 0.1,
                   .steps = 5000,
                   .tolerance = 1e-9};
  free(finish_case_run(&c, &bytes));
  for (size_t n = 0; n < c.N; n++) {
    assert_int_equal(c.member[n].end, COH_FINISH_GRADIENT);
    assert_true(c.member[n].gradient <= 1e-9);
    assert_true(fabs(c.loss[n] - c.member[n].loss) < 1e-12);
    assert_true(fabs(c.loss[0] - c.loss[n]) < 1e-9); /* a linear model has one minimum */
  }
}

/* ---- ends ------------------------------------------------------------------------ */

static void ends_are_told(void **state) {
  (void)state;
  size_t bytes;
  for (int m = 0; m < 2; m++) {
    finish_case c = {.N = 2, .method = methods[m], .act = COH_TANH, .distance = 0.1};
    c.steps = 3;
    free(finish_case_run(&c, &bytes));
    assert_int_equal(c.member[1].end, COH_FINISH_STEPS);
    assert_int_equal(c.member[1].iterations, 3);
    c.steps = 5000;
    c.noise = 0.3;
    free(finish_case_run(&c, &bytes)); /* no gradient is small enough */
    assert_int_equal(c.member[1].end, COH_FINISH_STALLED);
    assert_true(c.member[1].gradient < 1e-6);
    c.tolerance = 1e-3;
    free(finish_case_run(&c, &bytes));
    assert_int_equal(c.member[1].end, COH_FINISH_GRADIENT);
  }
}

static void at_the_minimum_nothing_moves(void **state) {
  (void)state;
  size_t bytes;
  for (int m = 0; m < 2; m++) {
    finish_case c = {.N = 2, .method = methods[m], .act = COH_TANH, .tolerance = 1e-14};
    coh_plan plan;
    fc_plan(&c, &plan);
    double *all = finish_case_run(&c, &bytes);
    double *w = calloc(plan.P, sizeof *w);
    fc_teacher(&plan, w);
    assert_int_equal(c.member[0].end, COH_FINISH_GRADIENT);
    assert_int_equal(c.member[0].iterations, 0);
    assert_memory_equal(all + plan.P, w, plan.P * sizeof *w);
    free(w);
    free(all);
  }
}

/* ---- members --------------------------------------------------------------------- */

static void a_member_alone_ends_as_in_an_ensemble(void **state) {
  (void)state;
  for (int m = 0; m < 2; m++)
    for (int deep = 0; deep < 2; deep++) {
      finish_case all = {.N = 5,
                         .method = methods[m],
                         .act = COH_GELU,
                         .deep = deep != 0,
                         .distance = 0.2,
                         .steps = 60};
      size_t bytes, one;
      double *a = finish_case_run(&all, &bytes);
      for (size_t n = 0; n < all.N; n++) {
        finish_case single = all;
        single.N = 1;
        single.first_id = n;
        double *b = finish_case_run(&single, &one);
        assert_memory_equal(a + n * one / sizeof *a, b, one);
        assert_memory_equal(&all.member[n], &single.member[0], sizeof *all.member);
        free(b);
      }
      free(a);
    }
}

static void a_stopped_finish_goes_on_as_if_never_stopped(void **state) {
  (void)state;
  for (int m = 0; m < 2; m++)
    for (uint64_t cut = 1; cut < 40; cut += 6) {
      finish_case whole = {
          .N = 4, .method = methods[m], .act = COH_G, .distance = 0.2, .steps = 50};
      finish_case pieces = whole;
      pieces.cut = cut;
      size_t bytes;
      double *a = finish_case_run(&whole, &bytes), *b = finish_case_run(&pieces, &bytes);
      assert_memory_equal(a, b, bytes);
      assert_memory_equal(whole.member, pieces.member, 4 * sizeof *whole.member);
      assert_int_equal(whole.rounds, pieces.rounds);
      free(a);
      free(b);
    }
}

static void numbers_that_are_none_stay_with_their_member(void **state) {
  (void)state;
  const double poisons[] = {NAN, INFINITY, 1e200};
  for (int m = 0; m < 2; m++)
    for (int p = 0; p < 3; p++) {
      finish_case good = {
          .N = 3, .method = methods[m], .act = COH_GELU, .distance = 0.05, .steps = 40};
      finish_case bad = good;
      bad.poison = poisons[p];
      size_t bytes;
      double *a = finish_case_run(&good, &bytes), *b = finish_case_run(&bad, &bytes);
      size_t row = bytes / 3, P = row / sizeof *a;
      assert_int_equal(bad.member[1].end, COH_FINISH_FAILED);
      assert_memory_equal(a, b, row);
      assert_memory_equal(a + 2 * P, b + 2 * P, row);
      assert_memory_equal(&b[P], &poisons[p], sizeof *b);
      free(a);
      free(b);
    }
}

/* ---- behind a training ----------------------------------------------------------- */

/* Members leave the training at different epochs; all are finished, and `take` widens. */
static void a_finish_takes_members_that_had_left(void **state) {
  (void)state;
  finish_case c = {.N = 6, .act = COH_TANH, .distance = 0.3};
  bench b;
  bench_open(&c, &b);
  coh_trainer *t;
  coh_finisher *f;
  coh_finish_status s;
  double loss[6];
  coh_train_spec spec = {.optimizer = COH_ADAM,
                         .lr = 0.01,
                         .end = 50,
                         .batch = 64,
                         .loss = COH_MSE,
                         .plateau = COH_PLATEAU_MEMBER,
                         .threshold = 0.3,
                         .factor = 0.1,
                         .min_lr = 1e-3};
  FC_OK(
      coh_trainer_create(&b.grid, b.dev, &b.plan, 6, &b.d, NULL, &spec, NULL, &t, &err));
  fc_set(&c, &b.plan, t);
  FC_OK(coh_trainer_run(t, &err));
  assert_true(coh_trainer_present(t) < 6);
  coh_finish_spec finish = {COH_FINISH_LM, 100, 1e-14};
  FC_OK(coh_finisher_create(t, &finish, NULL, &f, &err));
  FC_OK(coh_finisher_run(f, &err));
  coh_finisher_status(f, &s);
  FC_OK(coh_trainer_evaluate(t, &b.d, loss, NULL, &err));
  for (size_t n = 0; n < 6; n++)
    assert_true(fabs(loss[n] - s.member[n].loss) <= 1e-9 * loss[n] + 1e-28);
  coh_finisher_destroy(f);
  coh_trainer_destroy(t);
  bench_close(&b);
}

static void a_trainer_takes_over_another_ones_end(void **state) {
  (void)state;
  finish_case c = {.N = 1, .act = COH_TANH, .distance = 0.3};
  bench b;
  bench_open(&c, &b);
  coh_device *narrow;
  coh_trainer *t;
  coh_finisher *f;
  coh_train_status s;
  coh_finish_spec finish = {COH_FINISH_LM, 100, 1e-14};
  FC_OK(coh_device_open(COH_DEVICE_CPU, COH_F32, &narrow, &err));
  coh_dataset d = b.d;
  float *x = calloc(d.n * d.d_in, sizeof *x), *y = calloc(d.n * d.n_out, sizeof *y);
  d.dtype = COH_F32;
  d.x = x;
  d.y = y;
  coh_train_spec spec = {.batch = 64, .loss = COH_MSE, .end = 1};
  FC_OK(coh_trainer_create(&b.grid, narrow, &b.plan, 1, &d, NULL, &spec, NULL, &t, &err));
  float *w = calloc(b.plan.P, sizeof *w);
  double *wide = calloc(b.plan.P, sizeof *wide);
  for (size_t k = 0; k < b.plan.P; k++) w[k] = 0.1f * (float)k;
  FC_OK(coh_trainer_set(t, w, &err));
  assert_int_equal(coh_finisher_create(t, &finish, NULL, &f, &err), COH_EBUG);
  FC_OK(coh_trainer_take(b.t, t, &err));
  FC_OK(coh_trainer_get(b.t, wide, &err));
  for (size_t k = 0; k < b.plan.P; k++) assert_true(wide[k] == (double)w[k]);
  coh_trainer_status(b.t, &s);
  assert_int_equal(s.member[0].state, COH_MEMBER_ACTIVE);
  coh_trainer_destroy(t);
  coh_device_close(narrow);
  free(w);
  free(wide);
  free(x);
  free(y);
  bench_close(&b);
}

static void auto_is_lm_where_it_is_quick(void **state) {
  (void)state;
  coh_plan plan = {.P = 2000, .n_out = 1};
  coh_finish_method m;
  FC_OK(coh_finish_choose(COH_FINISH_AUTO, COH_MSE, &plan, 8192, &m, &err));
  assert_int_equal(m, COH_FINISH_LM);
  FC_OK(coh_finish_choose(COH_FINISH_AUTO, COH_CROSS_ENTROPY, &plan, 8192, &m, &err));
  assert_int_equal(m, COH_FINISH_LBFGS);
  FC_OK(coh_finish_choose(COH_FINISH_AUTO, COH_MSE, &plan, 60000, &m, &err));
  assert_int_equal(m, COH_FINISH_LBFGS);
  plan.P = 2001;
  FC_OK(coh_finish_choose(COH_FINISH_AUTO, COH_MSE, &plan, 10, &m, &err));
  assert_int_equal(m, COH_FINISH_LBFGS);
  FC_OK(coh_finish_choose(COH_FINISH_LM, COH_MSE, &plan, 10, &m, &err));
  assert_int_equal(m, COH_FINISH_LM);
  assert_int_equal(
      coh_finish_choose(COH_FINISH_LM, COH_CROSS_ENTROPY, &plan, 10, &m, &err),
      COH_EUSAGE);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(derivatives_are_those_of_finite_differences),
      cmocka_unit_test(lm_is_at_rounding_in_few_steps),
      cmocka_unit_test(lbfgs_goes_below_1e_20),
      cmocka_unit_test(minima_are_those_of_scipy),
      cmocka_unit_test(cross_entropy_ends_by_its_gradient),
      cmocka_unit_test(ends_are_told),
      cmocka_unit_test(at_the_minimum_nothing_moves),
      cmocka_unit_test(a_member_alone_ends_as_in_an_ensemble),
      cmocka_unit_test(a_stopped_finish_goes_on_as_if_never_stopped),
      cmocka_unit_test(numbers_that_are_none_stay_with_their_member),
      cmocka_unit_test(a_finish_takes_members_that_had_left),
      cmocka_unit_test(a_trainer_takes_over_another_ones_end),
      cmocka_unit_test(auto_is_lm_where_it_is_quick),
  };
  int failed = cmocka_run_group_tests_name("finish", tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed;
}
