/* test_train.c - schedules, the loop, stops and resumes on one rank. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/trainer.h"
#include "traindata.h"

/* ---- learning rate
 * ------------------------------------------------------------------------- */

static void milestones_drop_the_rate_at_their_own_iteration(void **state) {
  (void)state;
  coh_train_spec s = {.factor = 0.1, .n_milestones = 4, .milestone = {20, 40, 70, 80}};
  const struct {
    uint64_t t;
    double lr;
  } expected[] = {{0, 1e-1},  {19, 1e-1}, {20, 1e-2}, {39, 1e-2}, {40, 1e-3},
                  {69, 1e-3}, {70, 1e-4}, {79, 1e-4}, {80, 1e-5}, {1000, 1e-5}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    double lr = 0.1 * coh_schedule_factor(&s, expected[i].t);
    assert_true(fabs(lr - expected[i].lr) <= 1e-12 * lr);
  }
}

static void warmup_is_linear_and_starts_at_zero(void **state) {
  (void)state;
  coh_train_spec s = {.factor = 0.1, .warmup = 20};
  for (uint64_t t = 0; t < 20; t++)
    assert_true(fabs(coh_schedule_factor(&s, t) - (double)t / 20) < 1e-15);
  assert_true(coh_schedule_factor(&s, 20) == 1);
  assert_true(coh_schedule_factor(&s, 400) == 1);
}

/* The contract's rule written down once more, plainly: one loss a call. */
typedef struct plain {
  double lr, best;
  int bad, cool;
} plain;

static int plain_epoch(plain *p, double x, double factor, int patience, int cooldown) {
  if (p->lr < 1e-7 + 1e-8) return 1;
  if (x < p->best) {
    p->best = x;
    p->bad = 0;
  } else {
    p->bad += 1;
  }
  if (p->cool > 0) {
    p->cool -= 1;
    p->bad = 0;
  }
  if (p->bad > patience) {
    double lr = p->lr * factor > 1e-7 ? p->lr * factor : 1e-7;
    if (p->lr - lr > 1e-8) p->lr = lr;
    p->cool = cooldown;
    p->bad = 0;
  }
  return 0;
}

static void plateau_follows_the_contract(void **state) {
  (void)state;
  coh_train_spec s = {.factor = 0.31622776601683794,
                      .plateau = COH_PLATEAU_MEMBER,
                      .patience = 3,
                      .cooldown = 5,
                      .min_lr = 1e-7};
  coh_member m = {.lr = 1e-3, .best = INFINITY};
  plain p = {1e-3, INFINITY, 0, 0};
  int ended = 0;
  for (uint64_t e = 1; !ended; e++) {
    double x = 1 + 0.1 * sin((double)e * (double)e);
    m.loss = x;
    coh_schedule_epoch(&s, 1, &m, e);
    ended = plain_epoch(&p, x, s.factor, 3, 5);
    assert_true(m.lr == p.lr);
    assert_int_equal(m.state, ended ? COH_MEMBER_DONE : COH_MEMBER_ACTIVE);
    assert_true(e < 1000);
  }
  assert_true(fabs(m.lr - 1e-7) < 1e-12);
}

static void shared_plateau_moves_all_and_skips_the_failed(void **state) {
  (void)state;
  coh_train_spec s = {.factor = 0.1, .plateau = COH_PLATEAU_SHARED, .patience = 0};
  coh_member m[3];
  for (int n = 0; n < 3; n++)
    m[n] = (coh_member){.lr = 1, .best = INFINITY, .loss = n + 1};
  coh_schedule_epoch(&s, 3, m, 1);
  m[0].loss = 0.5; /* better alone, but the sum is worse */
  m[1].loss = 3;
  m[2].loss = NAN;
  coh_schedule_epoch(&s, 3, m, 2);
  assert_int_equal(m[2].state, COH_MEMBER_FAILED);
  assert_int_equal(m[2].step, 2);
  assert_true(m[0].lr == 1 &&
              m[1].lr == 1); /* 3.5 < 6: the failed one no longer counts */
  m[0].loss = 0.6;
  m[1].loss = 3;
  coh_schedule_epoch(&s, 3, m, 3);
  assert_true(m[0].lr == 0.1 && m[1].lr == 0.1);
}

/* ---- the loop
 * ------------------------------------------------------------------------------------ */

static uint64_t last_step(const train_case *c) {
  uint64_t last = 0;
  for (size_t n = 0; n < c->N; n++) last = c->step[n] > last ? c->step[n] : last;
  return last;
}

/* What the tests below rely on: members end by their own plateaus, at different epochs,
 * or all at once where they share one. */
static void plateaus_end_members_early(void **state) {
  (void)state;
  size_t bytes;
  train_case own = {.N = 5, .dtype = COH_F64, .plateau = COH_PLATEAU_MEMBER};
  train_case shared = {.N = 5, .dtype = COH_F64, .plateau = COH_PLATEAU_SHARED};
  uint64_t first = UINT64_MAX;
  free(train_case_run(&own, 0, &bytes));
  free(train_case_run(&shared, 0, &bytes));
  for (size_t n = 0; n < 5; n++) {
    first = own.step[n] < first ? own.step[n] : first;
    assert_true(shared.lr[n] < 0.01);
    assert_int_equal(shared.step[n], shared.step[0]);
  }
  assert_true(first < last_step(&own));
}

/* Stopped after 1, 6, 11, ... steps, within epochs and at their ends, before and after
 * members end. */
static void training_in_pieces_equals_training_in_one(void **state) {
  (void)state;
  for (int plateau = COH_PLATEAU_NONE; plateau <= COH_PLATEAU_MEMBER; plateau++)
    for (coh_dtype dtype = COH_F32; dtype <= COH_F64; dtype++) {
      train_case c = {.N = 5, .plateau = plateau, .dtype = dtype};
      size_t bytes;
      char *whole = train_case_run(&c, 0, &bytes);
      uint64_t end = last_step(&c);
      for (uint64_t cut = 1; cut < end; cut += 5) {
        char *pieces = train_case_run(&c, cut, &bytes);
        assert_memory_equal(whole, pieces, bytes);
        free(pieces);
      }
      free(whole);
    }
}

static void a_diverged_member_leaves_its_neighbours_alone(void **state) {
  (void)state;
  size_t bytes;
  train_case good = {.N = 3, .dtype = COH_F64}, bad = good;
  bad.poison = 1; /* parameter NaN in member 1 */
  char *a = train_case_run(&good, 0, &bytes), *b = train_case_run(&bad, 0, &bytes);
  size_t row = bytes / 3;
  assert_memory_equal(a, b, row);
  assert_memory_equal(a + 2 * row, b + 2 * row, row);
  assert_int_equal(bad.state[1], COH_MEMBER_FAILED);
  assert_int_equal(bad.state[0], COH_MEMBER_DONE);
  free(a);
  free(b);
}

static void one_member_trains_as_in_an_ensemble(void **state) {
  (void)state;
  size_t bytes, one;
  train_case all = {.N = 6, .plateau = COH_PLATEAU_MEMBER, .dtype = COH_F32};
  char *a = train_case_run(&all, 0, &bytes);
  size_t row = bytes / 6;
  for (uint64_t n = 0; n < 6; n++) {
    train_case single = all;
    single.N = 1;
    single.first_id = n;
    char *b = train_case_run(&single, 0, &one);
    assert_int_equal(one, row);
    assert_memory_equal(a + n * row, b, row);
    free(b);
  }
  free(a);
}

static void losses_fall(void **state) {
  (void)state;
  size_t bytes;
  train_case c = {.N = 2, .dtype = COH_F32, .epochs = 60};
  free(train_case_run(&c, 0, &bytes));
  for (int n = 0; n < 2; n++) assert_true(c.last_loss[n] < 0.2 * c.first_loss[n]);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(milestones_drop_the_rate_at_their_own_iteration),
      cmocka_unit_test(warmup_is_linear_and_starts_at_zero),
      cmocka_unit_test(plateau_follows_the_contract),
      cmocka_unit_test(shared_plateau_moves_all_and_skips_the_failed),
      cmocka_unit_test(plateaus_end_members_early),
      cmocka_unit_test(training_in_pieces_equals_training_in_one),
      cmocka_unit_test(a_diverged_member_leaves_its_neighbours_alone),
      cmocka_unit_test(one_member_trains_as_in_an_ensemble),
      cmocka_unit_test(losses_fall),
  };
  int failed = cmocka_run_group_tests_name("train", tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed;
}
