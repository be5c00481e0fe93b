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

static void test_lists(void **state) {
  (void)state;
  assert_runs("training.lr = 1e-3, 1e-4 ; why\n", "0.001|0.0001");
  assert_runs("TRAINING.LR = .5 ,\t1e1\n", "0.5|10");
  assert_runs("experiment.seed = 7\n", "7");
  assert_runs("training.milestone_steps = \"1ep,2ep\", '', 3ep\n", "1ep,2ep||3ep");
  assert_runs("model.name = students_dense(2)_3_1, \"a, b\", 'c;#d'#e\n",
              "students_dense(2)_3_1|a, b|c;#d");
  assert_runs("training.steps = 10ep, 300it, 3ep20it\n", "10ep|300it|3ep20it");
  assert_runs("model.activation = tanh, g\n", "tanh|g");
}

static void test_functions(void **state) {
  (void)state;
  assert_runs("training.lr = .5,linspace(1, 2, 3) , 1e1\n", "0.5|1|1.5|2|10");
  assert_runs("training.lr = logspace(1e-6, 1e-2, 5)\n", "1e-06|1e-05|0.0001|0.001|0.01");
  assert_runs("training.lr = logspace(1e-2,1e-4,3)\n", "0.01|0.001|0.0001");
  assert_runs("training.lr = range(0.1, 0.5, 0.1)\n", "0.1|0.2|0.3|0.4|0.5");
  assert_runs("training.lr = range(0.1, 0.55, 0.1)\n", "0.1|0.2|0.3|0.4|0.5");
  assert_runs("training.lr = range(5, 1, -1.5)\n", "5|3.5|2");
  assert_runs("training.lr = range(2, 2, 1)\n", "2");
  assert_runs("training.batch_size = linspace(16, 64, 4), range( 1 , 3 , 1 )\n",
              "16|32|48|64|1|2|3");
  assert_runs("experiment.seed = seeds(0..3), 10, 7..8\n", "0|1|2|3|10|7|8");
  assert_runs("experiment.seed = seeds( 4..5 )\n", "4|5");
  assert_runs("training.data_order_seed = -1..1\n", "-1|0|1");
  assert_runs("experiment.seed = 9007199254740991..9007199254740992\n",
              "9007199254740991|9007199254740992");
}

/* A line of [sweep] may be longer than iniparser reads. */
static void test_a_line_of_any_length(void **state) {
  (void)state;
  coh_text t = {0};
  coh_sweep *s;
  coh_error err = {0};
  coh_text_add(&t, "%sexperiment.seed = 0", TRAIN);
  for (int i = 1; i < 5000; i++) coh_text_add(&t, ", %d", i);
  coh_text_add(&t, "\n[training]\nlr = 0.5\n");
  assert_int_equal(scratch_write("x.ini", t.data, t.len), 0);
  if (coh_sweep_load("x.ini", 0, NULL, &s, &err)) fail_msg("%s", err.text);
  assert_int_equal(coh_sweep_count(s), 5000);
  assert_string_equal(coh_sweep_value(s, 4999, 0), "4999");
  assert_true(coh_sweep_base(s)->training.lr == 0.5);
  coh_sweep_destroy(s);
  coh_text_free(&t);
}

static void test_the_last_axis_is_the_fastest(void **state) {
  (void)state;
  assert_runs("training.lr = 1, 2\nexperiment.seed = 0..1\n", "1 0|1 1|2 0|2 1");
  assert_runs("experiment.seed = 0..1\ntraining.lr = 1, 2\n", "0 1|0 2|1 1|1 2");
}

static void test_zipped_axes_stand_where_the_first_one_stands(void **state) {
  (void)state;
  assert_runs("training.lr = 1, 1\nexperiment.seed = 5, 6\nmodel.name = a, b\n"
              "zip = training.lr, model.name\n",
              "1 5 a|1 6 a|1 5 b|1 6 b");
  assert_runs("zip = (model.name,training.lr) , (experiment.seed, training.batch_size)\n"
              "training.batch_size = 1..2\ntraining.lr = 1, 2\nexperiment.seed = 5, 6\n"
              "model.name = a, b\n",
              "1 1 5 a|1 2 5 b|2 1 6 a|2 2 6 b");
}

static void test_repeat_is_the_fastest_axis(void **state) {
  (void)state;
  assert_runs("repeat = 3\ntraining.lr = 1, 2\n[experiment]\nseed = 4\n",
              "1 4|1 5|1 6|2 4|2 5|2 6");
  assert_runs("repeat = 2\n", "0|1");
}

static void test_no_sweep(void **state) {
  (void)state;
  assert_null(loaded(""));
  assert_null(loaded("zip =\nexclude =\n"));
}

/* ---- conditions -------------------------------------------------------------------- */

static void assert_kept(const char *condition, const char *expected) {
  char lines[512];
  snprintf(lines, sizeof lines,
           "training.lr = 1, 0.1\nexperiment.seed = 0..2\nonly = %s\n", condition);
  assert_runs(lines, expected);
}

static void test_conditions(void **state) {
  (void)state;
  assert_kept("training.lr == 1e0", "1 0|1 1|1 2");
  assert_kept("training.lr != 1", "0.1 0|0.1 1|0.1 2");
  assert_kept("training.lr < 1 and experiment.seed >= 1", "0.1 1|0.1 2");
  assert_kept("training.lr > 0.1 AND experiment.seed <= 1", "1 0|1 1");
  assert_kept("experiment.seed in (0, 2)", "1 0|1 2|0.1 0|0.1 2");
  assert_kept("experiment.seed not in (1..7)", "1 0|0.1 0");
  assert_kept("not experiment.seed < 2", "1 2|0.1 2");
  assert_kept("not (experiment.seed < 2 or training.lr == 1)", "0.1 2");
  assert_kept("experiment.seed == 0 or experiment.seed == 1 and training.lr == 1",
              "1 0|1 1|0.1 0");
  assert_kept("(experiment.seed == 0 or experiment.seed == 1) and training.lr==1",
              "1 0|1 1");
  assert_kept("model.name == \"dense_784_4_10\" and Experiment.Seed>1", "1 2|0.1 2");
  assert_kept("training.momentum == 0 and experiment.seed == 1", "1 1|0.1 1");
  assert_kept("experiment.seed > -1.5 and experiment.seed < 1e-3", "1 0|0.1 0");
}

static void test_exclude_and_only_together(void **state) {
  (void)state;
  assert_runs("experiment.seed = 0..9\nexclude = experiment.seed in (3, 5)\n"
              "only = experiment.seed >= 3 and experiment.seed < 7\n",
              "4|6");
  assert_runs("model.name = dense_2_3, students_dense(2)_3_1, \"a b\"\n"
              "exclude = (model.name == students_dense(2)_3_1) or model.name == 'a b'\n",
              "dense_2_3");
}

static void test_dropped_runs_have_no_number(void **state) {
  (void)state;
  coh_sweep *s = loaded("experiment.seed = 0..3\nexclude = experiment.seed in (0, 2)\n");
  assert_int_equal(coh_sweep_count(s), 2);
  assert_int_equal(coh_sweep_product(s), 4);
  assert_int_equal(coh_sweep_base(s)->experiment.seed, 1);
  assert_int_equal(coh_sweep_index(s, 1, 0), 3);
  coh_sweep_destroy(s);
}

/* What is wrong only in combination can be excluded, and is that run's affair if not. */
static void test_wrong_combinations(void **state) {
  (void)state;
  coh_config cfg;
  coh_error err = {0};
  coh_sweep *s = loaded("training.optimizer = adam, sgd\ntraining.momentum = 0.9, 0\n");
  assert_int_equal(coh_sweep_count(s), 4);
  assert_int_equal(coh_sweep_config(s, 0, &cfg, &err), COH_EUSAGE);
  assert_string_equal(err.text,
                      "x.ini:9: run 0 (training.optimizer = adam, training.momentum = "
                      "0.9): training.momentum = \"0.9\": only training.optimizer = sgd "
                      "has a momentum");
  assert_int_equal(coh_sweep_config(s, 1, &cfg, &err), COH_OK);
  coh_sweep_destroy(s);
  s = loaded("training.optimizer = adam, sgd\ntraining.momentum = 0.9, 0\n"
             "exclude = training.optimizer == adam and training.momentum > 0\n");
  for (size_t i = 0; i < 3; i++)
    assert_int_equal(coh_sweep_config(s, i, &cfg, &err), COH_OK);
  coh_sweep_destroy(s);
}

/* ---- configurations ------------------------------------------------------------------
 */

static void test_configurations_of_runs(void **state) {
  (void)state;
  coh_config cfg;
  coh_error err = {0};
  coh_sweep *s = loaded("training.lr = 1, 2\nmodel.activation = tanh, g\n");
  assert_int_equal(coh_sweep_config(s, 3, &cfg, &err), COH_OK);
  assert_true(cfg.training.lr == 2);
  assert_int_equal(cfg.model.activation, COH_G);
  assert_string_equal(cfg.model.name, "dense_784_4_10");
  assert_string_equal(cfg.file, "x.ini");
  assert_int_equal(coh_sweep_config(s, 4, &cfg, &err), COH_EBUG);
  assert_string_equal(coh_sweep_param(s, 1)->key, "activation");
  assert_int_equal(coh_sweep_values(s, 1), 2);
  assert_string_equal(coh_sweep_text(s, 1, 1), "g");
  coh_sweep_destroy(s);
}

/* coh_config_load gives run 0, also where [sweep] alone has what is required. */
static void test_a_configuration_from_a_file_with_a_sweep(void **state) {
  (void)state;
  static const char text[] =
      "[sweep]\nmodel.name = a, b\ntraining.lr = 3, 4\n[experiment]\njob = train\n"
      "[dataset]\nname = mnist\n[training]\nlr = 9\n";
  const char *set = "sweep.training.lr=5";
  coh_config cfg;
  coh_error err = {0};
  assert_int_equal(scratch_write("y.ini", text, strlen(text)), 0);
  assert_int_equal(coh_config_load(&cfg, "y.ini", 0, NULL, &err), COH_OK);
  assert_string_equal(cfg.model.name, "a");
  assert_true(cfg.training.lr == 3);
  assert_int_equal(coh_config_load(&cfg, "y.ini", 1, &set, &err), COH_OK);
  assert_true(cfg.training.lr == 5);
}

/* ---- overrides -----------------------------------------------------------------------
 */

static coh_sweep *loaded_with(const char *lines, size_t n, const char *const *set) {
  coh_sweep *s;
  coh_error err = {0};
  if (load_with(lines, n, set, &s, &err)) fail_msg("%s", err.text);
  return s;
}

static void test_overrides(void **state) {
  (void)state;
  static const char *const set[] = {"sweep.training.lr=7,8", "model.name=z",
                                    "sweep.Model.Activation = tanh, g"};
  coh_sweep *s = loaded_with("training.lr = 1, 2, 3\nexperiment.seed = 1\n", 3, set);
  assert_runs_of(s, "7 1 tanh|7 1 g|8 1 tanh|8 1 g");
  assert_string_equal(coh_sweep_base(s)->model.name, "z");
  coh_sweep_destroy(s);
  static const char *const drop[] = {"sweep.training.lr=", "training.lr=9",
                                     "sweep.exclude=", "sweep.repeat=2"};
  s = loaded_with("training.lr = 1, 2, 3\nexclude = training.lr > 1\n", 4, drop);
  assert_runs_of(s, "0|1");
  assert_true(coh_sweep_base(s)->training.lr == 9);
  coh_sweep_destroy(s);
  assert_null(loaded_with("training.lr = 1, 2, 3\n", 1, drop));
}

/* ---- errors -------------------------------------------------------------------------
 */

static void assert_refused(const char *lines, const char *message) {
  coh_sweep *s;
  coh_error err = {0};
  assert_int_equal(load_with(lines, 0, NULL, &s, &err), COH_EUSAGE);
  assert_string_equal(err.text, message);
  assert_null(s);
}

static void assert_override_refused(const char *lines, const char *set,
                                    const char *message) {
  coh_sweep *s;
  coh_error err = {0};
  assert_int_equal(load_with(lines, 1, &set, &s, &err), COH_EUSAGE);
  assert_string_equal(err.text, message);
}

static void test_errors_of_names(void **state) {
  (void)state;
  assert_refused("training.rl = 1\n",
                 "x.ini:8: unknown key \"rl\" in [training]: did you "
                 "mean \"lr\"?");
  assert_refused("\ntrainng.lr = 1\n",
                 "x.ini:9: unknown section \"trainng\": did you mean \"training\"?");
  assert_refused("lr = 1\n",
                 "x.ini:8: unknown key \"lr\" in [sweep]: did you mean \"training.lr\"?");
  assert_refused("exclde = 1\n",
                 "x.ini:8: unknown key \"exclde\" in [sweep]: did you mean \"exclude\"?");
  assert_refused("qqqqqq = 1\n",
                 "x.ini:8: unknown key \"qqqqqq\" in [sweep]: expected section.key of a "
                 "parameter, or one of zip, exclude, only, repeat, folder");
  assert_refused("training.lr = 1\ntraining.lr = 2\n",
                 "x.ini:9: sweep.training.lr is given twice, first in line 8");
  assert_refused("repeat = 1\nrepeat = 2\n",
                 "x.ini:9: sweep.repeat is given twice, first in line 8");
}

static void test_errors_of_what_can_be_swept(void **state) {
  (void)state;
  assert_refused("experiment.job = train, extract\n",
                 "x.ini:8: experiment.job cannot be swept: the defaults of all others "
                 "depend on it");
  assert_refused("experiment.name = a, b\n",
                 "x.ini:8: experiment.name cannot be swept: it "
                 "names the folder of the whole sweep");
  assert_refused("ranks.replicas = 1, 2\n",
                 "x.ini:8: ranks.replicas cannot be swept: it changes no number, so all "
                 "runs of a sweep share it");
  assert_refused("extraction.gamma = 0.1\n",
                 "x.ini:8: extraction.gamma is not read by job "
                 "= train, so it cannot be swept");
  assert_override_refused("training.lr = 1, 2\n", "training.lr=3",
                          "override: training.lr is an axis of the sweep: "
                          "sweep.training.lr=VALUES gives it other values, and "
                          "sweep.training.lr= takes it out of the sweep");
}

static void test_errors_of_values(void **state) {
  (void)state;
  assert_refused("training.lr = 1, abc\n",
                 "x.ini:8: training.lr = \"abc\": expected a number above 0");
  assert_refused("training.lr = 1, -1\n",
                 "x.ini:8: training.lr = \"-1\": expected a number above 0");
  assert_refused(
      "model.activation = tanh, rleu\n",
      "x.ini:8: model.activation = \"rleu\": expected one of relu, leaky_relu, "
      "softplus, gelu, silu, tanh, identity, sigmoid, g; did you mean "
      "\"relu\"?");
  assert_refused("training.lr =\n",
                 "x.ini:8: sweep.training.lr is empty: expected a list of values");
  assert_refused("training.lr = 1,, 2\n",
                 "x.ini:8: training.lr: \"\": expected a value (an "
                 "empty one is written \"\")");
  assert_refused("training.lr = 1,\n", "x.ini:8: training.lr: \"\": expected a value (an "
                                       "empty one is written \"\")");
  assert_refused(
      "training.lr = 1 2\n",
      "x.ini:8: training.lr: \"1 2\": expected commas between values, and quotes "
      "around a value with a blank");
  assert_refused("model.name = \"a\" b\n",
                 "x.ini:8: model.name: \"b\": expected a comma between values");
  assert_refused("model.name = \"a, b\n",
                 "x.ini:8: \"\"a, b\": expected a closing quote");
  assert_refused("model.name = a(b, c\n",
                 "x.ini:8: model.name: \"a(b, c\": expected brackets in pairs");
  assert_refused("training.lr = 1e-3, 1, 0.001\n",
                 "x.ini:8: training.lr = 0.001: values 1 and 3 of the list are the same");
  assert_refused(
      "training.lr = 1, 2, 1\nmodel.name = a, b, a\n"
      "zip = training.lr, model.name\n",
      "x.ini:8: training.lr = 1, model.name = a: values 1 and 3 of the list are "
      "the same");
}

static void test_errors_of_functions(void **state) {
  (void)state;
  assert_refused(
      "training.lr = lgspace(1, 2, 3)\n",
      "x.ini:8: training.lr: \"lgspace(1, 2, 3)\": there is no such function: "
      "did you mean \"logspace\"?; the functions are range, linspace, logspace "
      "and seeds");
  assert_refused(
      "training.lr = logspace(0, 1, 3)\n",
      "x.ini:8: training.lr: \"logspace(0, 1, 3)\": expected logspace(a, b, n) "
      "with a and b above 0");
  assert_refused("training.lr = linspace(1, 2)\n",
                 "x.ini:8: training.lr: \"linspace(1, 2)\": expected linspace(a, b, n)");
  assert_refused(
      "training.lr = linspace(1, 2, 1)\n",
      "x.ini:8: training.lr: \"linspace(1, 2, 1)\": expected a number of points "
      "from 2 to 10000000");
  assert_refused(
      "training.lr = range(1, 2, 0)\n",
      "x.ini:8: training.lr: \"range(1, 2, 0)\": expected range(a, b, step) with "
      "a step that leads from a to b");
  assert_refused(
      "training.lr = range(1, inf, 1)\n",
      "x.ini:8: training.lr: \"range(1, inf, 1)\": expected range(a, b, step)");
  assert_refused(
      "training.batch_size = linspace(1, 2, 3)\n",
      "x.ini:8: training.batch_size: \"linspace(1, 2, 3)\": gives 1.5, expected "
      "whole numbers");
  assert_refused("training.lr = 0..4\n",
                 "x.ini:8: training.lr: \"0..4\": a..b is for whole numbers; expected "
                 "range(a, b, step)");
  assert_refused("experiment.seed = 4..0\n",
                 "x.ini:8: experiment.seed: \"4..0\": expected a..b with a <= b");
  assert_refused(
      "experiment.seed = seeds(3)\n",
      "x.ini:8: experiment.seed: \"seeds(3)\": expected seeds(a..b) with whole "
      "numbers a <= b");
  assert_refused("experiment.seed = 0..99999999\n", "x.ini:8: experiment.seed: "
                                                    "\"0..99999999\": expected at most "
                                                    "10000000 values");
  assert_refused("training.steps = range(1, 2, 1)\n",
                 "x.ini:8: training.steps: \"range(1, 2, 1)\": gives numbers, which this "
                 "parameter does not take; as a text it needs quotes");
}

static void test_errors_of_zip_and_repeat(void **state) {
  (void)state;
  assert_refused("training.lr = 1, 2\nexperiment.seed = 0..2\n"
                 "zip = training.lr, experiment.seed\n",
                 "x.ini:10: sweep.zip: expected axes of one length, training.lr has 2 "
                 "values, experiment.seed 3");
  assert_refused("training.lr = 1\nzip = training.lr, model.name\n",
                 "x.ini:9: sweep.zip: model.name is not an axis of this sweep");
  assert_refused("training.lr = 1\nzip = training.lr\n",
                 "x.ini:9: sweep.zip: expected at least two axes in a group");
  assert_refused("training.lr = 1\nmodel.name = a\nzip = training.lr, training.lr\n",
                 "x.ini:10: sweep.zip: training.lr is named twice");
  assert_refused("training.lr = 1\nmodel.name = a\nexperiment.seed = 1\nmodel.init = "
                 "binary\nzip = training.lr, model.name; experiment.seed, model.init\n",
                 "x.ini:12: sweep.zip: what follows ';' is a comment; several groups are "
                 "written (a, b), (c, d)");
  assert_refused("repeat = 0\n", "x.ini:8: sweep.repeat = \"0\": expected a whole number "
                                 "from 1 to 10000000");
  assert_refused("experiment.seed = 1\nrepeat = 2\n",
                 "x.ini:9: sweep.repeat = 2 excludes the axis experiment.seed: both say "
                 "which seeds are run");
  assert_refused("zip = training.lr, model.name\n",
                 "x.ini:8: sweep.zip: training.lr is not an axis of this sweep");
  assert_refused("experiment.seed = 0..9999\ntraining.data_order_seed = 0..9999\n",
                 "x.ini: [sweep] has more than 10000000 runs");
}

static void assert_condition_refused(const char *condition, const char *message) {
  char lines[512], expected[512];
  snprintf(lines, sizeof lines, "training.lr = 1, 0.1\nexclude = %s\n", condition);
  snprintf(expected, sizeof expected, "x.ini:9: sweep.exclude: %s", message);
  assert_refused(lines, expected);
}

static void test_errors_of_conditions(void **state) {
  (void)state;
  assert_condition_refused("training.lr = 1",
                           "expected one of == != < <= > >= in at \"= 1\"");
  assert_condition_refused("training.lr", "expected one of == != < <= > >= in, found the "
                                          "end");
  assert_condition_refused("training.lr ==", "expected a value, found the end");
  assert_condition_refused("training.lr == 1 and",
                           "expected section.key of a parameter, found the end");
  assert_condition_refused("(training.lr == 1",
                           "expected and, or, or \")\", found the end");
  assert_condition_refused("training.lr == 1)", "expected and, or, or the end at \")\"");
  assert_condition_refused("training.rl == 1",
                           "unknown key \"rl\" in [training]: did you mean \"lr\"?");
  assert_condition_refused("lr == 1",
                           "expected section.key of a parameter at \"lr == 1\"");
  assert_condition_refused(
      "training.optimizer < sgd",
      "training.optimizer <: expected ==, != or in, since this is no "
      "number");
  assert_condition_refused("training.lr < x", "expected a number at \"x\"");
  assert_condition_refused("training.lr == -1",
                           "training.lr = \"-1\": expected a number above 0");
  assert_condition_refused("training.lr in 1", "expected \"(\" behind in at \"1\"");
  assert_condition_refused("training.lr in (1, 2",
                           "expected a list that ends with \")\" at \"1, 2\"");
  assert_condition_refused("training.lr not 1", "expected in at \"1\"");
  assert_condition_refused(
      "training.lr == logspace(1,2,3)",
      "training.lr: expected one value behind ==; several are written "
      "training.lr in (a, b)");
  assert_condition_refused("training.lr > 0", "leaves none of 2 runs");
}

static void test_brackets_without_end(void **state) {
  (void)state;
  char lines[1024] = "training.lr = 1, 2\nonly = ";
  size_t n = strlen(lines);
  memset(lines + n, '(', 500);
  lines[n + 500] = '\0';
  assert_refused(lines, "x.ini:9: sweep.only: expected at most 100 brackets inside each "
                        "other");
}

/* Damaged sections end in an error or a sweep, never in a crash. */
static void test_damaged_sections(void **state) {
  (void)state;
  static const char good[] =
      "training.lr = 1e-3, logspace(1e-6, 1e-4, 3), \"7\"\nexperiment.seed = "
      "seeds(0..3)\n"
      "model.name = a, 'b c', d, e, f\nzip = (model.name, training.lr)\n"
      "exclude = training.lr == 7 and not (experiment.seed in (1, 2..3))\n";
  static const char bytes[] = "()\"',;.=<> \\0e\n";
  for (unsigned i = 0; i < 1000; i++) {
    char lines[512];
    uint32_t r[4];
    coh_sweep *s = NULL;
    coh_error err = {0};
    snprintf(lines, sizeof lines, "%s", good);
    for (int j = 0; j < 3; j++) {
      coh_random_block(1, COH_RNG_TEST, i, j, r);
      lines[r[0] % (sizeof good - 1)] = bytes[r[1] % (sizeof bytes - 1)];
    }
    int rc = load_with(lines, 0, NULL, &s, &err);
    assert_true(rc == COH_OK || (rc == COH_EUSAGE && *err.text && !s));
    coh_sweep_destroy(s);
  }
}

/* ---- identities -------------------------------------------------------------------- */

static void assert_ids_agree(const coh_sweep *s) {
  coh_error err = {0};
  coh_config cfg;
  coh_hash fast, slow;
  for (size_t i = 0; i < coh_sweep_count(s); i++) {
    (void)coh_sweep_config(s, i, &cfg, &err);
    assert_int_equal(coh_sweep_id(s, i, &fast, &err), COH_OK);
    assert_int_equal(coh_config_id(&cfg, &slow, &err), COH_OK);
    assert_string_equal(fast.hex, slow.hex);
  }
}

static void test_ids_are_those_of_the_configurations(void **state) {
  (void)state;
  coh_sweep *s = loaded("experiment.seed = 0..3\ntraining.lr = 0.1, 0.2\n"
                        "training.optimizer = adam, sgd\ndataset.name = mnist, cifar10\n"
                        "training.milestone_steps = \"\", \"1ep,2ep\"\n"
                        "exclude = training.lr == 0.2 and experiment.seed == 0\n");
  assert_int_equal(coh_sweep_count(s), 56);
  assert_ids_agree(s);
  coh_sweep_destroy(s);
}

#define EXTRACT                                                                          \
  "[experiment]\njob = extract\n[query]\ndatagen = random\n[model]\nname = "             \
  "students_mnist_lenet(10)_16\n[sweep]\nextraction.gamma = 0.5, 0.6\n"                  \
  "teacher.weights = a.h5, sub/b.h5\nrepeat = 2\nexclude = experiment.seed == 0 and "    \
  "extraction.gamma == 0.5\n"

/* Paths enter as they were written, so that they mean the same run on any machine. */
static void test_ids_with_paths(void **state) {
  (void)state;
  coh_sweep *s;
  coh_config cfg;
  coh_error err = {0};
  coh_hash id, expected;
  static const char text[] =
      "job=extract\nexperiment.seed=1\nquery.datagen=random\n"
      "model.name=students_mnist_lenet(10)_16\nteacher.weights=sub/b.h5\n";
  assert_int_equal(scratch_write("e.ini", EXTRACT, strlen(EXTRACT)), 0);
  assert_int_equal(coh_sweep_load("e.ini", 0, NULL, &s, &err), COH_OK);
  assert_ids_agree(s);
  assert_int_equal(coh_sweep_config(s, 1, &cfg, &err), COH_OK);
  assert_int_equal(cfg.experiment.seed, 1);
  assert_string_equal(cfg.teacher.weights, "sub/b.h5");
  coh_sweep_id(s, 1, &id, &err);
  coh_hash_bytes(text, strlen(text), &expected, &err);
  assert_string_equal(id.hex, expected.hex);
  coh_sweep_destroy(s);
}

/* ---- show ----------------------------------------------------------------------------
 */

static void assert_round_trip(const char *path, size_t n, const char *const *set) {
  coh_sweep *s, *again;
  coh_error err = {0};
  coh_text text = {0}, twice = {0};
  coh_hash a, b;
  char first[64], second[COH_PATH], absolute[COH_PATH + 70];
  coh_config x, y;
  if (coh_sweep_load(path, n, set, &s, &err)) fail_msg("%s", err.text);
  coh_sweep_show(s, &text);
  assert_int_equal(coh_mkdirs("elsewhere/deep", &err), 0);
  assert_int_equal(scratch_write("elsewhere/deep/s.ini", text.data, text.len), 0);
  if (coh_sweep_load("elsewhere/deep/s.ini", 0, NULL, &again, &err))
    fail_msg("%s", err.text);
  coh_sweep_hash(s, &a);
  coh_sweep_hash(again, &b);
  assert_string_equal(a.hex, b.hex);
  assert_int_equal(coh_sweep_count(s), coh_sweep_count(again));
  coh_sweep_show(again, &twice);
  assert_string_equal(text.data, twice.data);
  x = *coh_sweep_base(s), y = *coh_sweep_base(again);
  coh_config_path(&x, "model.h5", first, sizeof first, &err);
  coh_config_path(&y, "model.h5", second, sizeof second, &err);
  assert_non_null(getcwd(absolute, sizeof absolute));
  snprintf(absolute + strlen(absolute), 70, "/%s", first);
  assert_string_equal(second, absolute);
  coh_text_free(&text);
  coh_text_free(&twice);
  coh_sweep_destroy(s);
  coh_sweep_destroy(again);
}

static void test_what_is_shown_reads_back(void **state) {
  (void)state;
  coh_error err = {0};
  static const char train[] =
      TRAIN "model.name = \"a;b\", 'c\"', students_dense(2)_3_1 ; comment\n"
            "training.lr = range(0.1, 0.5, 0.2)\nzip = training.lr, model.name\n";
  assert_int_equal(scratch_write("t.ini", train, strlen(train)), 0);
  assert_int_equal(scratch_write("e.ini", EXTRACT, strlen(EXTRACT)), 0);
  assert_int_equal(coh_mkdirs("folder", &err), 0);
  assert_int_equal(scratch_write("folder/e.ini", EXTRACT, strlen(EXTRACT)), 0);
  assert_round_trip("t.ini", 0, NULL);
  assert_round_trip("e.ini", 0, NULL);
  assert_round_trip("folder/e.ini", 0, NULL);
  static const char *const three[] = {"sweep.training.lr=.5,'7', 8"};
  assert_round_trip("t.ini", 1, three);
  static const char *const unzipped[] = {"sweep.zip=", "sweep.repeat=3",
                                         "sweep.only=experiment.seed > 0"};
  assert_round_trip("t.ini", 3, unzipped);
}

static void test_the_hash_tells_order_and_runs(void **state) {
  (void)state;
  static const char *const lines[] = {
      "experiment.seed = 0..2\ntraining.lr = 1, 2\n",
      "training.lr = 1, 2\nexperiment.seed = 0..2\n",
      "experiment.seed = 0..2\ntraining.lr = 1, 3\n",
      "experiment.seed = 0..2\ntraining.lr = 1, 2\nexclude = experiment.seed == 2\n"};
  coh_hash hash[4], same;
  for (size_t i = 0; i < 4; i++) {
    coh_sweep *s = loaded(lines[i]);
    coh_sweep_hash(s, hash + i);
    coh_sweep_destroy(s);
    for (size_t j = 0; j < i; j++) assert_string_not_equal(hash[i].hex, hash[j].hex);
  }
  coh_sweep *s = loaded("experiment.seed = 0, 1, 2\ntraining.lr = 1e0, 2.0\n");
  coh_sweep_hash(s, &same);
  assert_string_equal(same.hex, hash[0].hex);
  coh_sweep_destroy(s);
}

static void test_help(void **state) {
  (void)state;
  coh_text t = {0};
  coh_error err = {0};
  assert_int_equal(coh_config_help("sweep", &t, &err), COH_OK);
  for (const char *line = t.data; *line; line = strchr(line, '\n') + 1)
    assert_true(strchr(line, '\n') - line <= 80);
  assert_non_null(strstr(t.data, "logspace"));
  coh_text_free(&t);
}

/* ---- size ----------------------------------------------------------------------------
 */

/* Generous, for a busy machine: a tenth of this is usual. */
static void test_a_hundred_thousand_runs_take_no_time(void **state) {
  (void)state;
  double start = coh_seconds();
  coh_error err = {0};
  coh_hash id, hash;
  coh_sweep *s =
      loaded("training.lr = linspace(0.1, 1, 50000)\ntraining.optimizer = adam, "
             "sgd\nexclude = training.lr in (0.1, 1) and training.momentum > "
             "0\n");
  assert_int_equal(coh_sweep_count(s), 100000);
  for (size_t i = 0; i < 100000; i++)
    assert_int_equal(coh_sweep_id(s, i, &id, &err), COH_OK);
  coh_sweep_hash(s, &hash);
  coh_sweep_destroy(s);
  assert_true(coh_seconds() - start < 5);
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
        if (first != next) fail_msg("sub-batch %zu of %zu, %zu runs", k, n, R);
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
      cmocka_unit_test(test_lists),
      cmocka_unit_test(test_functions),
      cmocka_unit_test(test_a_line_of_any_length),
      cmocka_unit_test(test_the_last_axis_is_the_fastest),
      cmocka_unit_test(test_zipped_axes_stand_where_the_first_one_stands),
      cmocka_unit_test(test_repeat_is_the_fastest_axis),
      cmocka_unit_test(test_no_sweep),
      cmocka_unit_test(test_conditions),
      cmocka_unit_test(test_exclude_and_only_together),
      cmocka_unit_test(test_dropped_runs_have_no_number),
      cmocka_unit_test(test_wrong_combinations),
      cmocka_unit_test(test_configurations_of_runs),
      cmocka_unit_test(test_a_configuration_from_a_file_with_a_sweep),
      cmocka_unit_test(test_overrides),
      cmocka_unit_test(test_errors_of_names),
      cmocka_unit_test(test_errors_of_what_can_be_swept),
      cmocka_unit_test(test_errors_of_values),
      cmocka_unit_test(test_errors_of_functions),
      cmocka_unit_test(test_errors_of_zip_and_repeat),
      cmocka_unit_test(test_errors_of_conditions),
      cmocka_unit_test(test_brackets_without_end),
      cmocka_unit_test(test_damaged_sections),
      cmocka_unit_test(test_ids_are_those_of_the_configurations),
      cmocka_unit_test(test_ids_with_paths),
      cmocka_unit_test(test_what_is_shown_reads_back),
      cmocka_unit_test(test_the_hash_tells_order_and_runs),
      cmocka_unit_test(test_help),
      cmocka_unit_test(test_a_hundred_thousand_runs_take_no_time),
      cmocka_unit_test(test_sub_batches_partition_the_sweep),
  };
  return cmocka_run_group_tests(tests, enter, leave);
}
