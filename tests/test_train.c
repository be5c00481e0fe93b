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

#include "recorder.h"
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

/* ---- other devices ---------------------------------------------------------------- */

static const coh_device_ops *cpu_ops(void) {
  coh_error err = {0};
  coh_device *dev;
  TC_OK(coh_device_open(COH_DEVICE_CPU, COH_F32, &dev, &err));
  const coh_device_ops *ops = dev->ops;
  coh_device_close(dev);
  return ops;
}

/* Five runs of three order seeds, their members leaving at different epochs: all at once,
 * each with its copy of its batch, and group by group with shared ones. */
static void streams_pass_at_once_where_large_is_best(void **state) {
  (void)state;
  for (coh_dtype dtype = COH_F32; dtype <= COH_F64; dtype++)
    for (size_t hidden = 6; hidden <= 70; hidden += 64) { /* small networks and others */
      size_t bytes;
      train_case c = {.N = 9, .runs = TC_RUNS, .dtype = dtype, .hidden = hidden};
      train_case large = c;
      large.large = true;
      char *a = train_case_run(&c, 0, &bytes), *b = train_case_run(&large, 0, &bytes);
      assert_memory_equal(a, b, bytes);
      assert_memory_equal(c.step, large.step, sizeof c.step);
      assert_memory_equal(c.epoch_loss, large.epoch_loss, sizeof c.epoch_loss);
      free(b);
      b = train_case_run(&large, 10, &bytes);
      assert_memory_equal(a, b, bytes);
      free(a);
      free(b);
    }
}

/* Replayed steps are those made directly, bit for bit: of one run and of several, of
 * full batches and short ones, over drops of learning rates, members that leave, and
 * stops. */
static void replayed_steps_are_the_direct_ones(void **state) {
  (void)state;
  size_t bytes;
  for (int i = 0; i < 6; i++) {
    train_case c = {.N = 9, .plateau = i % 3, .dtype = i / 3 ? COH_F64 : COH_F32};
    if (i % 3 == 0) c.runs = TC_RUNS;
    train_case recorded = c;
    coh_device_ops ops = recorder_ops(cpu_ops());
    recorded.ops = &ops;
    recorded.large = i / 3;
    char *a = train_case_run(&c, 0, &bytes);
    for (uint64_t cut = 0; cut < 20; cut += 9) {
      size_t replayed = rec.replayed;
      char *b = train_case_run(&recorded, cut, &bytes);
      assert_memory_equal(a, b, bytes);
      assert_memory_equal(c.epoch_loss, recorded.epoch_loss, sizeof c.epoch_loss);
      assert_true(rec.replayed - replayed > 20);
      assert_int_equal(rec.alive, 0);
      free(b);
    }
    assert_true((rec.orders > 0) == (i % 3 == 0)); /* a single order is the host's */
    free(a);
  }
}

typedef struct watched {
  coh_grid grid;
  tc_run r;
  coh_trainer *t;
  coh_device_ops ops;
} watched;

/* Four members of one run on a recording device, ready for single steps. */
static void watch(watched *w, train_case *c) {
  coh_error err = {0};
  *w = (watched){.ops = recorder_ops(cpu_ops())};
  *c = (train_case){.N = 4, .alone = true, .dtype = COH_F64, .ops = &w->ops};
  tc_run_make(c, &w->r);
  TC_OK(coh_grid_create(MPI_COMM_SELF, 1, &w->grid, &err));
  TC_OK(coh_trainer_create(&w->grid, w->r.dev, &w->r.plan, c->N, &w->r.data, NULL,
                           &w->r.spec, NULL, &w->t, &err));
  tc_start(c, w->t);
}

static void unwatch(watched *w) {
  coh_trainer_destroy(w->t);
  assert_int_equal(rec.alive, 0);
  coh_grid_destroy(&w->grid);
  coh_dataset_free(&w->r.data);
  coh_device_close(w->r.dev);
  free(w->r.all);
}

static void steps(watched *w, size_t n) {
  coh_error err = {0};
  for (size_t i = 0; i < n; i++) TC_OK(coh_trainer_step(w->t, &err));
}

static void check_counts(size_t direct, size_t made, size_t replayed, size_t alive) {
  assert_int_equal(rec.direct, direct);
  assert_int_equal(rec.made, made);
  assert_int_equal(rec.replayed, replayed);
  assert_int_equal(rec.alive, alive);
}

/* An epoch has six full batches and a short one: a step of each shape is made directly,
 * the second recorded, and replayed from then on. */
static void each_shape_is_recorded_at_its_second_step(void **state) {
  (void)state;
  watched w;
  train_case c;
  watch(&w, &c);
  steps(&w, 1), check_counts(1, 0, 0, 0);
  steps(&w, 1), check_counts(1, 1, 1, 1);
  steps(&w, 4), check_counts(1, 1, 5, 1);
  steps(&w, 1), check_counts(2, 1, 5, 1); /* the short one */
  steps(&w, 6), check_counts(2, 1, 11, 1);
  steps(&w, 1), check_counts(2, 2, 12, 2);
  steps(&w, 14), check_counts(2, 2, 26, 2);
  unwatch(&w);
}

static void recordings_are_dropped_when_members_change(void **state) {
  (void)state;
  coh_error err = {0};
  watched w;
  train_case c;
  coh_train_run run[2];
  watch(&w, &c);
  steps(&w, 15), check_counts(2, 2, 13, 2);
  TC_OK(coh_trainer_shrink(w.t, &err)); /* nobody has left */
  check_counts(2, 2, 13, 2);
  w.t->member[1].state = COH_MEMBER_DONE;
  TC_OK(coh_trainer_shrink(w.t, &err));
  check_counts(2, 2, 13, 0);
  steps(&w, 2), check_counts(3, 3, 14, 1);
  unwatch(&w);

  watch(&w, &c);
  for (size_t r = 0; r < 2; r++) {
    run[r] = (coh_train_run){.members = 2, .spec = w.r.spec};
    run[r].spec.order_seed = r;
  }
  steps(&w, 2), check_counts(1, 1, 1, 1);
  TC_OK(coh_trainer_runs(w.t, 2, run, &err));
  check_counts(1, 1, 1, 0);
  steps(&w, 2), check_counts(3, 2, 2, 1); /* a step is one update of each stream */
  TC_OK(coh_trainer_take(w.t, w.t, &err));
  check_counts(3, 2, 2, 0);
  unwatch(&w);
}

static void a_checkpoint_restored_drops_recordings(void **state) {
  (void)state;
  coh_error err = {0};
  watched w;
  train_case c;
  watch(&w, &c);
  steps(&w, 3), check_counts(1, 1, 2, 1);
  tc_hooks hooks = {.path = w.r.path, .grid = &w.grid, .trainer = w.t};
  TC_OK(tc_save(&hooks, w.t, &err));
  tc_restore(&w.grid, w.r.path, w.t);
  check_counts(1, 1, 2, 0);
  unlink(w.r.path);
  unwatch(&w);
}

static void a_recording_that_fails_is_ended(void **state) {
  (void)state;
  coh_error err = {0};
  watched w;
  train_case c;
  watch(&w, &c);
  steps(&w, 1);
  rec.fails = true;
  assert_int_equal(coh_trainer_step(w.t, &err), COH_ELIB);
  assert_string_equal(err.text, "a kernel failed");
  assert_null(rec.open);
  check_counts(1, 1, 0, 0);
  unwatch(&w);
}

/* Rates that change from step to step, over several tables and epochs: what a table row
 * says is what the schedule says. */
static void the_table_follows_schedule_and_step(void **state) {
  (void)state;
  coh_error err = {0};
  watched w;
  train_case c;
  coh_train_run run[2];
  watch(&w, &c);
  for (size_t r = 0; r < 2; r++) {
    run[r] = (coh_train_run){.members = 2, .spec = w.r.spec};
    run[r].spec.lr = 0.1 / (double)(r + 1);
    run[r].spec.warmup = 9 * r;
    run[r].spec.weight_decay = 0.5 * (double)r;
    run[r].spec.n_milestones = 1;
    run[r].spec.milestone[0] = 5;
  }
  TC_OK(coh_trainer_runs(w.t, 2, run, &err));
  w.t->stretch.room = 3;
  for (uint64_t t = 0; t < 17; t++) {
    if (t == 8) {
      w.t->member[0].state = COH_MEMBER_DONE;
      TC_OK(coh_trainer_shrink(w.t, &err));
    }
    steps(&w, 1);
    const coh_pace *pace = coh_stretch_pace(w.t);
    coh_pace want = coh_pace_of(COH_ADAM, 0.9, 0.999, t + 1);
    assert_true(pace->correction == want.correction && pace->inv_root == want.inv_root);
    assert_int_equal(pace->at, t % 7 * TC_BATCH);
    for (size_t i = 0, n = t >= 8; n < 4; i++, n++) {
      double lr = run[n / 2].spec.lr * coh_schedule_factor(&run[n / 2].spec, t);
      assert_true(coh_stretch_lr(w.t)[i] == lr);
      assert_true(w.t->stretch.wd[i] == run[n / 2].spec.weight_decay);
    }
  }
  unwatch(&w);
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
      cmocka_unit_test(streams_pass_at_once_where_large_is_best),
      cmocka_unit_test(replayed_steps_are_the_direct_ones),
      cmocka_unit_test(each_shape_is_recorded_at_its_second_step),
      cmocka_unit_test(recordings_are_dropped_when_members_change),
      cmocka_unit_test(a_checkpoint_restored_drops_recordings),
      cmocka_unit_test(a_recording_that_fails_is_ended),
      cmocka_unit_test(the_table_follows_schedule_and_step),
  };
  int failed = cmocka_run_group_tests_name("train", tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed;
}
