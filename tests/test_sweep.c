/* test_sweep.c - the [sweep] section: every element of the grammar, the order of runs,
 * conditions, errors, identities, and sub-batches. */
#include "cohort/sweep.h"

#include <setjmp.h>
#include <cmocka.h>

#include "scratch.h"

/* The tests run inside the scratch folder, so that messages name plain files. */
static int enter(void **state) {
  return scratch_make(state) == 0 ? chdir(scratch_folder) : -1;
}

static int leave(void **state) {
  return chdir("/") == 0 ? scratch_remove(state) : -1;
}

/* Lines of [sweep] begin in line 8. */
#define TRAIN                                                                            \
  "[experiment]\njob = train\n[dataset]\nname = mnist\n[model]\nname = dense_784_4_10\n" \
  "[sweep]\n"

static int load_with(const char *lines, size_t n, const char *const *set, coh_sweep **out,
                     coh_error *err) {
  char text[4096];
  snprintf(text, sizeof text, "%s%s", TRAIN, lines);
  assert_int_equal(scratch_write("x.ini", text, strlen(text)), 0);
  return coh_sweep_load("x.ini", n, set, out, err);
}

static coh_sweep *loaded(const char *lines) {
  coh_sweep *s;
  coh_error err = {0};
  if (load_with(lines, 0, NULL, &s, &err) != COH_OK) fail_msg("%s", err.text);
  return s;
}

/* All runs as text: values between blanks, runs between '|'. */
static void assert_runs_of(const coh_sweep *s, const char *expected) {
  coh_text t = {0};
  for (size_t i = 0; i < coh_sweep_count(s); i++) {
    coh_text_add(&t, "%s", i ? "|" : "");
    for (size_t a = 0; a < coh_sweep_axes(s); a++)
      coh_text_add(&t, "%s%s", a ? " " : "", coh_sweep_value(s, i, a));
  }
  assert_string_equal(t.data, expected);
  coh_text_free(&t);
}

static void assert_runs(const char *lines, const char *expected) {
  coh_sweep *s = loaded(lines);
  assert_non_null(s);
  assert_runs_of(s, expected);
  coh_sweep_destroy(s);
}

/* ---- the grammar ------------------------------------------------------------------- */

static void test_lists_and_functions(void **state) {
  (void)state;
  assert_runs("training.lr = 1e-3, 1e-4 ; why\n", "0.001|0.0001");
  assert_runs("training.lr = .5,linspace(1, 2, 3) , 1e1\n", "0.5|1|1.5|2|10");
  assert_runs("training.lr = logspace(1e-6, 1e-2, 5)\n", "1e-06|1e-05|0.0001|0.001|0.01");
  assert_runs("training.lr = range(0.1, 0.5, 0.1)\n", "0.1|0.2|0.3|0.4|0.5");
  assert_runs("training.lr = range(5, 1, -1.5)\n", "5|3.5|2");
  assert_runs("experiment.seed = seeds(0..3), 10, 7..8\n", "0|1|2|3|10|7|8");
  assert_runs("training.batch_size = linspace(16, 64, 4)\n", "16|32|48|64");
  assert_runs("training.milestone_steps = \"1ep,2ep\", '', 3ep\n", "1ep,2ep||3ep");
  assert_runs("model.name = students_dense(2)_3_1, \"a, b\"\n",
              "students_dense(2)_3_1|a, b");
}

static void test_product_and_zip(void **state) {
  (void)state;
  assert_runs("training.lr = 1, 2\nexperiment.seed = 0..1\n", "1 0|1 1|2 0|2 1");
  assert_runs("training.lr = 1, 1\nexperiment.seed = 5, 6\nmodel.name = a, b\n"
              "zip = training.lr, model.name\n",
              "1 5 a|1 6 a|1 5 b|1 6 b");
}

/* ---- identities -------------------------------------------------------------------- */

static void assert_ids_agree(const coh_sweep *s) {
  coh_error err = {0};
  coh_config cfg;
  coh_hash fast, slow;
  for (size_t i = 0; i < coh_sweep_count(s); i++) {
    assert_int_equal(coh_sweep_config(s, i, &cfg, &err), COH_OK);
    assert_int_equal(coh_sweep_id(s, i, &fast, &err), COH_OK);
    assert_int_equal(coh_config_id(&cfg, &slow, &err), COH_OK);
    assert_string_equal(fast.hex, slow.hex);
  }
}

static void test_ids_are_those_of_the_configurations(void **state) {
  (void)state;
  coh_sweep *s = loaded("experiment.seed = 0..3\ntraining.lr = 0.1, 0.2\n"
                        "training.optimizer = adam, sgd\n");
  assert_int_equal(coh_sweep_count(s), 16);
  assert_ids_agree(s);
  coh_sweep_destroy(s);
}

/* ---- sub-batches ------------------------------------------------------------------- */

static void test_sub_batches_partition_the_sweep(void **state) {
  (void)state;
  for (size_t R = 1; R <= 300; R++)
    for (size_t n = 1; n <= 300; n++) {
      size_t next = 0, least = R, most = 0;
      for (size_t k = 1; k <= n; k++) {
        size_t first, count;
        coh_sub_batch(R, k, n, &first, &count);
        assert_int_equal(first, next);
        next += count;
        least = count < least ? count : least;
        most = count > most ? count : most;
      }
      assert_int_equal(next, R);
      assert_true(most - least <= 1);
      assert_true(least > 0 || R < n);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lists_and_functions),
      cmocka_unit_test(test_product_and_zip),
      cmocka_unit_test(test_ids_are_those_of_the_configurations),
      cmocka_unit_test(test_sub_batches_partition_the_sweep),
  };
  return cmocka_run_group_tests(tests, enter, leave);
}
