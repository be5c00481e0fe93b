/* test_config.c - the room src/config: every kind of error with its message, values and
 * texts there and back, hashes, help, and damaged files. */
#include "cohort/config.h"

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

#define TRAIN                                                                            \
  "[experiment]\njob = train\n[dataset]\nname = mnist\n[model]\nname = dense_784_4_10\n"
#define EXTRACT                                                                          \
  "[experiment]\njob = extract\n[query]\ndatagen = random\n[model]\nname = "             \
  "students_mnist_lenet(10)_16\n[teacher]\nweights = model.h5\n"

static int load_with(coh_config *cfg, const char *text, const char *set, coh_error *err) {
  assert_int_equal(scratch_write("x.ini", text, strlen(text)), 0);
  return coh_config_load(cfg, "x.ini", set ? 1 : 0, &set, err);
}

static coh_config loaded(const char *text) {
  coh_config cfg;
  coh_error err = {0};
  if (load_with(&cfg, text, NULL, &err) != COH_OK) fail_msg("%s", err.text);
  return cfg;
}

static void assert_refused_with(const char *text, const char *set, const char *message) {
  coh_config cfg;
  coh_error err = {0};
  assert_int_equal(load_with(&cfg, text, set, &err), COH_EUSAGE);
  assert_string_equal(err.text, message);
}

static void assert_refused(const char *text, const char *message) {
  assert_refused_with(text, NULL, message);
}

/* ---- values ------------------------------------------------------------------------ */

static void test_values_reach_their_fields(void **state) {
  (void)state;
  coh_config cfg = loaded(
      TRAIN "[training]\nLR = 5e-2 # not this\nmilestone_steps = 2ep , 3ep1it,4000ep\n"
            "steps = 0ep\nfurther_training = 7it\ndata_order_seed = 12\n"
            "[dataset]\nroot = \"/my data;1\" ; nor this\n[Experiment]\nquiet = YES\n"
            "; a comment\n# another = one\n\n   [ device ]   \n  kind=cpu\n"
            "[experiment]\nseed = 9007199254740992\n");
  assert_true(cfg.training.lr == 0.05);
  assert_int_equal(cfg.training.milestone_steps.n, 3);
  assert_int_equal(cfg.training.milestone_steps.at[1].ep, 3);
  assert_int_equal(cfg.training.milestone_steps.at[1].it, 1);
  assert_int_equal(cfg.training.milestone_steps.at[2].ep, 4000);
  assert_int_equal(cfg.training.steps.ep, 0);
  assert_string_equal(cfg.training.further_training, "7it");
  assert_int_equal(cfg.training.data_order_seed, 12);
  assert_string_equal(cfg.dataset.root, "/my data;1");
  assert_true(cfg.experiment.quiet);
  assert_int_equal(cfg.device.kind, COH_DEVICE_CPU);
  assert_int_equal(cfg.experiment.seed, 9007199254740992);
}

static void test_defaults_of_train(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN);
  assert_int_equal(cfg.experiment.job, COH_JOB_TRAIN);
  assert_string_equal(cfg.experiment.name, "experiment");
  assert_string_equal(cfg.experiment.results, "results");
  assert_int_equal(cfg.experiment.members, 1);
  assert_true(cfg.experiment.checkpoint_minutes == 5);
  assert_true(cfg.dataset.subsample_fraction == 1);
  assert_int_equal(cfg.model.init_bias, COH_BIAS_UNIFORM);
  assert_int_equal(cfg.training.optimizer, COH_SGD);
  assert_true(cfg.training.lr == 0.1);
  assert_int_equal(cfg.training.steps.ep, 40);
  assert_int_equal(cfg.training.batch_size, 128);
  assert_int_equal(cfg.training.data_order_seed, -1);
  assert_int_equal(cfg.training.plateau, COH_PLATEAU_NONE);
  assert_int_equal(cfg.training.loss, COH_LOSS_AUTO);
  assert_int_equal(cfg.training.precision, COH_F32);
  assert_int_equal(cfg.training.evaluate_every.ep, 1);
  assert_string_equal(cfg.file, "x.ini");
}

static void test_defaults_of_extract(void **state) {
  (void)state;
  coh_config cfg = loaded(EXTRACT);
  assert_int_equal(cfg.experiment.job, COH_JOB_EXTRACT);
  assert_int_equal(cfg.query.samples, 10000);
  assert_int_equal(cfg.model.init_bias, COH_BIAS_ZERO);
  assert_int_equal(cfg.training.optimizer, COH_ADAM);
  assert_true(cfg.training.lr == 0.001);
  assert_int_equal(cfg.training.steps.ep, 25000);
  assert_int_equal(cfg.training.batch_size, 512);
  assert_int_equal(cfg.training.plateau, COH_PLATEAU_SHARED);
  assert_true(cfg.training.factor == 0.31622776601683794);
  assert_true(cfg.training.min_lr == 1e-7);
  assert_int_equal(cfg.training.evaluate_every.ep, 100);
  assert_true(cfg.extraction.gamma == 0.5);
  assert_true(cfg.extraction.beta == 6);
  assert_string_equal(cfg.extraction.mask, "none");
  assert_int_equal(cfg.extraction.finetune_steps.ep, 5000);
  assert_true(cfg.extraction.finetune_lr == 1e-4);
}

/* Every value of every enumeration is its place among the choices of the table. */
static void test_choices_are_in_the_order_of_their_enumeration(void **state) {
  (void)state;
  static const struct {
    const char *set;
    int value;
    size_t offset;
  } last[] = {
      {"model.activation=g", COH_G, offsetof(coh_config, model.activation)},
      {"model.activation=sigmoid", COH_SIGMOID, offsetof(coh_config, model.activation)},
      {"model.activation=gelu", COH_GELU, offsetof(coh_config, model.activation)},
      {"model.init=binary", COH_BINARY, offsetof(coh_config, model.init)},
      {"model.init=xavier_normal", COH_XAVIER_NORMAL, offsetof(coh_config, model.init)},
      {"model.init_bias=uniform", COH_BIAS_UNIFORM,
       offsetof(coh_config, model.init_bias)},
      {"model.init_fan=tensor", COH_FAN_TENSOR, offsetof(coh_config, model.init_fan)},
      {"training.optimizer=adam", COH_ADAM, offsetof(coh_config, training.optimizer)},
      {"training.plateau=member", COH_PLATEAU_MEMBER,
       offsetof(coh_config, training.plateau)},
      {"training.loss=cross_entropy", COH_CROSS_ENTROPY,
       offsetof(coh_config, training.loss)},
      {"training.loss=mse", COH_MSE, offsetof(coh_config, training.loss)},
      {"training.precision=float64", COH_F64, offsetof(coh_config, training.precision)},
      {"extraction.method=reference", COH_REFERENCE,
       offsetof(coh_config, extraction.method)},
      {"extraction.linkage=complete", COH_COMPLETE,
       offsetof(coh_config, extraction.linkage)},
      {"extraction.metric=cosine", COH_COSINE, offsetof(coh_config, extraction.metric)},
      {"extraction.canonical=largest", COH_CANON_LARGEST,
       offsetof(coh_config, extraction.canonical)},
      {"extraction.canonical=distance", COH_CANON_DISTANCE,
       offsetof(coh_config, extraction.canonical)},
      {"extraction.cut=count", COH_CUT_COUNT, offsetof(coh_config, extraction.cut)},
      {"extraction.cut=plateau", COH_CUT_PLATEAU, offsetof(coh_config, extraction.cut)},
      {"extraction.cut=angle", COH_CUT_ANGLE, offsetof(coh_config, extraction.cut)},
      {"device.kind=cuda", COH_DEVICE_CUDA, offsetof(coh_config, device.kind)},
  };
  coh_config cfg = loaded(EXTRACT);
  coh_error err = {0};
  for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
    assert_int_equal(coh_config_set(&cfg, last[i].set, &err), COH_OK);
    int value;
    memcpy(&value, (char *)&cfg + last[i].offset, sizeof value);
    assert_int_equal(value, last[i].value);
  }
}

static void test_steps(void **state) {
  (void)state;
  static const char *const good[] = {"0ep", "1ep",     "25000ep",
                                     "5it", "3ep20it", "4000000000ep4000000000it"};
  static const char *const bad[] = {
      "",     "ep",     "5",       "05ep",   "5ep05it",      "-1ep",
      "+1ep", "1it2ep", "1ep2",    "1 ep",   "1ep ",         " 1ep",
      "1EP",  "1.5ep",  "1ep2it3", "1ep2ep", "4000000001ep", "99999999999999999999999ep"};
  coh_steps s;
  coh_error err = {0};
  char text[48];
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_int_equal(coh_steps_parse(good[i], &s, &err), COH_OK);
    assert_string_equal(coh_steps_text(s, text), good[i]);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(coh_steps_parse(bad[i], &s, &err), COH_EUSAGE);
  assert_int_equal(coh_steps_parse("05ep", &s, &err), COH_EUSAGE);
  assert_string_equal(err.text,
                      "\"05ep\": expected steps such as 40ep, 200it or 3ep20it");
  assert_int_equal(coh_steps_parse("1ep4000000001it", &s, &err), COH_EUSAGE);
  assert_string_equal(err.text, "\"1ep4000000001it\": expected steps such as 40ep, 200it "
                                "or 3ep20it, with numbers of at most 4000000000");
  assert_int_equal(coh_steps_parse("0ep0it", &s, &err), COH_OK);
  assert_string_equal(coh_steps_text(s, text), "0ep");
  assert_int_equal(coh_steps_parse("3ep20it", &s, &err), COH_OK);
  assert_int_equal(coh_steps_value(s, 469), 3 * 469 + 20);
  s = (coh_steps){UINT64_MAX, UINT64_MAX};
  assert_string_equal(coh_steps_text(s, text),
                      "18446744073709551615ep18446744073709551615it");
}

static void test_value_forms(void **state) {
  (void)state;
  static const char *const good[] = {"experiment.seed=0",
                                     "experiment.seed=007",
                                     "training.lr=1e-4",
                                     "training.lr=.5",
                                     "training.data_order_seed=-1",
                                     "experiment.quiet=No",
                                     "experiment.quiet=1",
                                     "training.milestone_steps=",
                                     " Training . LR = 3",
                                     "training.milestone_steps=1ep,5it",
                                     "model.name=a=b",
                                     "experiment.quiet=TRUE"};
  static const char *const bad[] = {"experiment.seed=",
                                    "experiment.seed=3.5",
                                    "experiment.seed=1e3",
                                    "experiment.seed=+1",
                                    "experiment.seed=-1",
                                    "experiment.seed=1 2",
                                    "experiment.seed=0x10",
                                    "experiment.seed=-",
                                    "experiment.seed= 1 ",
                                    "training.lr=",
                                    "training.lr=0",
                                    "training.lr=nan",
                                    "training.lr=inf",
                                    "training.lr=1e999",
                                    "training.lr=1e-400",
                                    "training.lr=0x1p-3",
                                    "training.lr=1,5",
                                    "training.lr=1e",
                                    "training.lr=0.1x",
                                    "training.lr=--1",
                                    "experiment.quiet=2",
                                    "experiment.quiet=",
                                    "experiment.quiet=on",
                                    "training.steps=40",
                                    "training.milestone_steps=1ep,",
                                    "training.milestone_steps=,1ep",
                                    "training.milestone_steps=1ep,,2ep",
                                    "training.milestone_steps=1ep 2ep",
                                    "model.activation=RELU",
                                    "model.activation=",
                                    "training.factor=1",
                                    "training.factor=0",
                                    "training.momentum=1",
                                    "model.name=a\nb",
                                    "model.name=a\033[31m",
                                    "model.name=;\"'",
                                    "model.name=\"'"};
  coh_config cfg = loaded(TRAIN), before;
  coh_error err = {0};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    if (coh_config_set(&cfg, good[i], &err) != COH_OK) fail_msg("%s", err.text);
  before = cfg;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (coh_config_set(&cfg, bad[i], &err) != COH_EUSAGE) fail_msg("%s", bad[i]);
    assert_memory_equal(&cfg, &before, sizeof cfg);
  }
}

static void test_texts_of_every_length(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN);
  coh_error err = {0};
  char set[1200] = "model.name=";
  for (size_t n = 1; n < 1100; n++) {
    strcat(set, "x");
    assert_int_equal(coh_config_set(&cfg, set, &err), n <= 960 ? COH_OK : COH_EUSAGE);
  }
  assert_non_null(strstr(err.text, "xxx...\": expected a text of at most 960 bytes"));
}

/* ---- lines ------------------------------------------------------------------------- */

/* What stands behind "name =", and the value it should give; NULL: refused. */
static void test_lines_are_read_as_iniparser_reads_them(void **state) {
  (void)state;
  static const struct {
    const char *line, *value;
  } cases[] = {
      {"a b", "a b"},     {"  a  ", "a"},       {"a;b", "a"},
      {"a # b", "a"},     {"\"a;b\"", "a;b"},   {"'a#b' ; c", "a#b"},
      {"\" a \"", " a "}, {"'a\"b'", "a\"b"},   {"a\"b", "a\"b"},
      {"a = b", "a = b"}, {"= b", "= b"},       {"[b]", "[b]"},
      {"a\tb", "a\tb"},   {"a'b\"c", "a'b\"c"}, {"\xc3\xbc", "\xc3\xbc"},
      {"a\r", "a"},       {"\"a", NULL},        {"\"a\" b", NULL},
      {"'a\"", NULL},     {"a\\", NULL},        {"\"a\\\"", "a\\"},
      {"a\001", NULL},    {"a ; \\", NULL},     {"\"a\"\"b\"", NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[512];
    coh_config cfg;
    coh_error err = {0};
    snprintf(text, sizeof text, TRAIN "[experiment]\nname =%s\n", cases[i].line);
    int rc = load_with(&cfg, text, NULL, &err);
    if (rc != (cases[i].value ? COH_OK : COH_EUSAGE))
      fail_msg("%s: %s", cases[i].line, err.text);
    if (cases[i].value) assert_string_equal(cfg.experiment.name, cases[i].value);
  }
}

static void test_empty_values(void **state) {
  (void)state;
  static const char *const empty[] = {"", " ", "\"\"", "''", " ; c", " # c", "\"\" ; c"};
  for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
    char text[512];
    snprintf(text, sizeof text, TRAIN "[dataset]\nroot =%s\n", empty[i]);
    coh_config cfg = loaded(text);
    assert_string_equal(cfg.dataset.root, "");
  }
}

static void test_file_without_last_newline_and_with_crlf(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN "[training]\r\nlr = 0.25\r\nmomentum = 0.5");
  assert_true(cfg.training.lr == 0.25);
  assert_true(cfg.training.momentum == 0.5);
}

static void test_a_pipe_is_read_once(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], TRAIN, sizeof TRAIN - 1), sizeof TRAIN - 1);
  close(ends[1]);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
  coh_config cfg;
  coh_error err = {0};
  assert_int_equal(coh_config_load(&cfg, path, 0, NULL, &err), COH_OK);
  assert_string_equal(cfg.model.name, "dense_784_4_10");
  close(ends[0]);
}

static void test_errors_of_lines(void **state) {
  (void)state;
  assert_refused("job = train\n", "x.ini:1: \"job = train\": expected a \"[section]\" "
                                  "before the first key");
  assert_refused("\n\n  hello ; x = y\n",
                 "x.ini:3: \"hello ; x = y\": expected \"[section]\", \"key = value\" or "
                 "a comment");
  assert_refused(
      "[model]\n= 3\n",
      "x.ini:2: \"= 3\": expected \"[section]\", \"key = value\" or a comment");
  assert_refused("[model\n",
                 "x.ini:1: \"[model\": expected \"[section]\" alone on its line");
  assert_refused(
      "[model] ; all of it\n",
      "x.ini:1: \"[model] ; all of it\": expected \"[section]\" alone on its line");
  assert_refused(
      "[model]\nname = \"abc\n",
      "x.ini:2: \"\"abc\": expected a closing quote, and nothing but a comment "
      "behind it");
  assert_refused("# next \\\n[model]\n",
                 "x.ini:1: \"# next \\\": expected no backslash at the end: a value "
                 "stands on one line");
  assert_refused("[model]\nname = \033[31m\n",
                 "x.ini:2: \"name = ?[31m\": expected a text file without control "
                 "characters");
  assert_refused("\xef\xbb\xbf[model]\n", "x.ini:1: starts with a byte order mark: save "
                                          "it as UTF-8 without one");
  char text[1100];
  memset(text, '#', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  coh_config cfg;
  coh_error err = {0};
  assert_int_equal(load_with(&cfg, text, NULL, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "##...\": expected a line of at most 1000 bytes"));
  assert_int_equal(scratch_write("x.ini", "[model]\0\n", 9), 0);
  assert_int_equal(coh_config_load(&cfg, "x.ini", 0, NULL, &err), COH_EUSAGE);
  assert_string_equal(err.text, "x.ini: expected a text file, found a zero byte");
}

static void test_errors_of_files(void **state) {
  (void)state;
  coh_config cfg;
  coh_error err = {0};
  assert_int_equal(coh_config_load(&cfg, "none.ini", 0, NULL, &err), COH_EIO);
  assert_string_equal(err.text, "cannot open 'none.ini': No such file or directory");
  assert_int_equal(coh_config_load(&cfg, ".", 0, NULL, &err), COH_EIO);
  assert_string_equal(err.text, "cannot read '.': Is a directory");
  assert_refused(
      "", "x.ini: experiment.job is missing: expected one of train, extract, compress");
}

/* ---- names ------------------------------------------------------------------------- */

static void test_errors_of_names(void **state) {
  (void)state;
  assert_refused("[trainng]\n",
                 "x.ini:1: unknown section \"trainng\": did you mean \"training\"?");
  assert_refused("[zzz]\n", "x.ini:1: unknown section \"zzz\": the sections are "
                            "experiment, dataset, query, model, training, teacher, "
                            "extraction, compress, ranks, device, slurm, sweep");
  assert_refused("[training]\nbatchsize = 3\n", "x.ini:2: unknown key \"batchsize\" in "
                                                "[training]: did you mean "
                                                "\"batch_size\"?");
  assert_refused("[training]\nrl = 3\n",
                 "x.ini:2: unknown key \"rl\" in [training]: did you mean \"lr\"?");
  assert_refused("[training]\ngamma = 3\n", "x.ini:2: unknown key \"gamma\" in "
                                            "[training]: there is such a key in "
                                            "[extraction]");
  assert_refused("[ranks]\nseed = 3\n", "x.ini:2: unknown key \"seed\" in [ranks]: there "
                                        "is such a key in [experiment], [query], "
                                        "[teacher]");
  assert_refused("[teacher]\nmembers = 3\n",
                 "x.ini:2: unknown key \"members\" in [teacher]: did you mean "
                 "\"member\"? There is such a key in [experiment]");
  assert_refused("[model]\nlearning_rate = 3\n",
                 "x.ini:2: unknown key \"learning_rate\" in [model]: its keys are name, "
                 "activation, init, init_bias, init_fan");
}

static void test_errors_of_keys_given_twice(void **state) {
  (void)state;
  assert_refused(TRAIN "[training]\nlr = 1\nmomentum = 0\nlr = 1\n",
                 "x.ini:10: training.lr is given twice, first in line 8");
  assert_refused(TRAIN "[training]\nlr = 1\n[ranks]\n[Training]\nLR = 2\n",
                 "x.ini:11: training.lr is given twice, first in line 8");
}

static void test_errors_of_keys_for_another_job(void **state) {
  (void)state;
  assert_refused(TRAIN "[extraction]\ngamma = 0.5\n",
                 "x.ini:8: extraction.gamma is not read by job = train, only by job = "
                 "extract");
  assert_refused(EXTRACT "[experiment]\nmembers = 3\n",
                 "x.ini:10: experiment.members is not read by job = extract, only by job "
                 "= train");
}

/* ---- values that are refused ----------------------------------------------------------
 */

static void test_errors_of_values(void **state) {
  (void)state;
  assert_refused(TRAIN "[training]\nlr = fast\n",
                 "x.ini:8: training.lr = \"fast\": expected a number above 0");
  assert_refused(TRAIN "[training]\nlr =\n",
                 "x.ini:8: training.lr = \"\": expected a number above 0");
  assert_refused(TRAIN "[training]\nmin_lr = -1\n",
                 "x.ini:8: training.min_lr = \"-1\": expected a number of at least 0");
  assert_refused(TRAIN "[training]\nmomentum = 1\n",
                 "x.ini:8: training.momentum = \"1\": expected a number of at least 0 "
                 "and below 1");
  assert_refused(TRAIN "[training]\nfactor = 1\n",
                 "x.ini:8: training.factor = \"1\": expected a number above 0 and below "
                 "1");
  assert_refused(TRAIN "[dataset]\nsubsample_fraction = 0\n",
                 "x.ini:8: dataset.subsample_fraction = \"0\": expected a number above 0 "
                 "and at most 1");
  assert_refused(TRAIN "[dataset]\nrandom_labels_fraction = 1.5\n",
                 "x.ini:8: dataset.random_labels_fraction = \"1.5\": expected a number "
                 "from 0 to 1");
  assert_refused(EXTRACT "[extraction]\nbeta = 0.5\n",
                 "x.ini:10: extraction.beta = \"0.5\": expected a number of at least 1");
  assert_refused(EXTRACT "[extraction]\ngamma = 1.01\n",
                 "x.ini:10: extraction.gamma = \"1.01\": expected a number above 0 and "
                 "at most 1");
  assert_refused(TRAIN "[experiment]\nseed = 99999999999999999999\n",
                 "x.ini:8: experiment.seed = \"99999999999999999999\": expected a whole "
                 "number from 0 to 9007199254740992");
  assert_refused(TRAIN "[experiment]\nmembers = 3.5\n",
                 "x.ini:8: experiment.members = \"3.5\": expected a whole number from 1 "
                 "to 1000000");
  assert_refused(TRAIN "[experiment]\nquiet = maybe\n",
                 "x.ini:8: experiment.quiet = \"maybe\": expected true or false");
  assert_refused(
      TRAIN "[training]\nsteps = 40\n",
      "x.ini:8: training.steps = \"40\": expected steps such as 40ep, 200it or "
      "3ep20it");
  assert_refused(TRAIN "[training]\nsteps = 99999999999999999999ep\n",
                 "x.ini:8: training.steps = \"99999999999999999999ep\": expected steps "
                 "such as 40ep, 200it or 3ep20it, with numbers of at most 4000000000");
  assert_refused(TRAIN "[training]\nmilestone_steps = 1ep,5000000000it\n",
                 "x.ini:8: training.milestone_steps = \"1ep,5000000000it\": expected at "
                 "most 16 steps between commas, such as 80ep,120ep, with numbers of at "
                 "most 4000000000");
  assert_refused(TRAIN "[training]\nmilestone_steps = 1ep 2ep\n",
                 "x.ini:8: training.milestone_steps = \"1ep 2ep\": expected at most 16 "
                 "steps between commas, such as 80ep,120ep");
  assert_refused(TRAIN "[training]\noptimizer = Adm\n",
                 "x.ini:8: training.optimizer = \"Adm\": expected one of sgd, adam; did "
                 "you mean \"adam\"?");
  assert_refused(TRAIN "[device]\nkind = gpu\n",
                 "x.ini:8: device.kind = \"gpu\": expected one of auto, cpu, cuda; did "
                 "you mean \"cuda\"?");
  assert_refused(TRAIN "[training]\nlr = 1e-3, 1e-2\n",
                 "x.ini:8: training.lr = \"1e-3, 1e-2\": expected a number above 0; "
                 "several values make a sweep: [sweep] training.lr");
  assert_refused(
      "[experiment]\njob = trian\n",
      "x.ini:2: experiment.job = \"trian\": expected one of train, extract, compress; "
      "did you mean \"train\"?");
  assert_refused(
      "[experiment]\njob = train\n[dataset]\nname = fashionmnist\n",
      "x.ini:4: dataset.name = \"fashionmnist\": expected one of mnist, "
      "fashion_mnist, cifar10, file, teacher_student; did you mean \"fashion_mnist\"?");
  assert_refused(EXTRACT "[experiment]\nname = \"a\" ; b\n[query]\nsamples = 0\n",
                 "x.ini:12: query.samples = \"0\": expected a whole number from 1 to "
                 "1000000000");
  assert_refused(
      "[experiment]\njob = extract\n[query]\ndatagen = random+gird\n",
      "x.ini:4: query.datagen = \"random+gird\": expected one or more of "
      "mnist, fashion_mnist, cifar10, random, grid, file, joined by +; did you "
      "mean \"grid\"?");
}

static void test_errors_of_overrides(void **state) {
  (void)state;
  assert_refused_with(TRAIN, "training.lr=fast",
                      "override: training.lr = \"fast\": expected a number above 0");
  assert_refused_with(TRAIN, "training.rl=1",
                      "override: unknown key \"rl\" in [training]: did you mean \"lr\"?");
  assert_refused_with("[experiment]\njob = compress\n", "compress.β=1",
                      "override: unknown key \"β\" in [compress]: did you mean "
                      "\"beta\"?");
  assert_refused_with(TRAIN, "trainin.lr=1",
                      "override: unknown section \"trainin\": did you mean "
                      "\"training\"?");
  assert_refused_with(TRAIN, "lr=0.1",
                      "override: \"lr=0.1\": expected "
                      "section.key=value");
  assert_refused_with(TRAIN, "training.lr",
                      "override: \"training.lr\": expected section.key=value");
  assert_refused_with(TRAIN, "extraction.gamma=1",
                      "override: extraction.gamma is not read by job = train, only by "
                      "job = extract");
  assert_refused_with(TRAIN, "training.milestone_steps=2ep,1ep",
                      "override: training.milestone_steps = \"2ep,1ep\": expected each "
                      "step to be later than the one before it");
  assert_refused_with(TRAIN, "experiment.job=extract",
                      "x.ini:4: dataset.name is not read by job = extract, only by job = "
                      "train, compress");
}

static void test_overrides_apply_in_order(void **state) {
  (void)state;
  const char *set[] = {"training.lr=1", "experiment.seed=4", "training.lr=2"};
  coh_config cfg;
  coh_error err = {0};
  assert_int_equal(scratch_write("x.ini", TRAIN, sizeof TRAIN - 1), 0);
  assert_int_equal(coh_config_load(&cfg, "x.ini", 3, set, &err), COH_OK);
  assert_true(cfg.training.lr == 2);
  assert_int_equal(cfg.experiment.seed, 4);
}

static void test_override_of_the_job(void **state) {
  (void)state;
  coh_config cfg;
  coh_error err = {0};
  const char *text = "[experiment]\njob = extract\n[model]\nname = dense_2_2_1\n";
  const char *set[] = {"experiment.job=train", "dataset.name=mnist"};
  assert_int_equal(scratch_write("x.ini", text, strlen(text)), 0);
  assert_int_equal(coh_config_load(&cfg, "x.ini", 2, set, &err), COH_OK);
  assert_int_equal(cfg.experiment.job, COH_JOB_TRAIN);
  assert_int_equal(cfg.training.steps.ep, 40);
  assert_int_equal(coh_config_set(&cfg, "experiment.job=train", &err), COH_OK);
  assert_int_equal(coh_config_set(&cfg, "experiment.job=extract", &err), COH_EUSAGE);
  assert_string_equal(err.text,
                      "experiment.job = \"extract\": the job was fixed as train when the "
                      "file was read, since the defaults depend on it");
  assert_int_equal(cfg.experiment.job, COH_JOB_TRAIN);
}

static void test_a_failed_load_leaves_the_configuration(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN), before = cfg;
  coh_error err = {0};
  assert_int_equal(load_with(&cfg, EXTRACT "[ranks]\nreplicas = x\n", NULL, &err),
                   COH_EUSAGE);
  assert_memory_equal(&cfg, &before, sizeof cfg);
}

/* ---- the whole --------------------------------------------------------------------- */

static void test_errors_of_missing_values(void **state) {
  (void)state;
  assert_refused(
      "[model]\nname = dense_2_2_1\n",
      "x.ini: experiment.job is missing: expected one of train, extract, compress");
  assert_refused(
      "[experiment]\njob = train\n[model]\nname = dense_2_2_1\n",
      "x.ini: dataset.name is missing: expected one of mnist, fashion_mnist, "
      "cifar10, file, teacher_student. The data set; job = compress also draws "
      "teacher_student from a random network.");
  assert_refused("[experiment]\njob = train\n[dataset]\nname = mnist\n[model]\nname =\n",
                 "x.ini:6: model.name is missing: expected a text. The plan of the "
                 "network, such as dense_784_4_10, mnist_lenet_300_100, or "
                 "students_mnist_lenet(10)_16 "
                 "for ten students.");
  assert_refused(
      "[experiment]\njob = extract\n[model]\nname = dense_2_2_1\n",
      "x.ini: query.datagen is missing: expected one or more of mnist, "
      "fashion_mnist, cifar10, random, grid, file, joined by +. Where the "
      "inputs come from: images of a data set, random or grid points, a file.");
  assert_refused(TRAIN "[experiment]\nname =\n",
                 "x.ini:8: experiment.name = \"\": expected the name of a folder");
  assert_refused(TRAIN "[experiment]\nname = ..\n",
                 "x.ini:8: experiment.name = \"..\": expected the name of a folder, "
                 "without a path; experiment.results has that");
  assert_refused_with(TRAIN, "experiment.name=.",
                      "override: experiment.name = \".\": expected the name of a folder, "
                      "without a path; experiment.results has that");
  assert_refused_with(TRAIN, "experiment.name=a/b",
                      "override: experiment.name = \"a/b\": expected the name of a "
                      "folder, without a path; experiment.results has that");
  assert_refused_with(TRAIN, "experiment.name=-rf",
                      "override: experiment.name = \"-rf\": expected the name of a "
                      "folder, which does not begin with '-'");
  loaded(TRAIN "[experiment]\nname = ...a-b\n");
  assert_refused(TRAIN "[experiment]\nresults =\n",
                 "x.ini:8: experiment.results = \"\": expected the path of a folder");
}

static void test_errors_of_training_together(void **state) {
  (void)state;
  assert_refused(TRAIN "[training]\nmilestone_steps = 80ep,80ep\n",
                 "x.ini:8: training.milestone_steps = \"80ep,80ep\": expected each step "
                 "to be later than the one before it");
  loaded(TRAIN "[training]\nmilestone_steps = 1ep,500it,2ep3it\n");
  assert_refused(TRAIN "[training]\nmilestone_steps = 2ep\nplateau = member\n",
                 "x.ini:8: training.milestone_steps = \"2ep\": milestones need "
                 "training.plateau = none");
  assert_refused(EXTRACT "[training]\nwarmup_steps = 2ep\n",
                 "x.ini:10: training.warmup_steps = \"2ep\": a warm-up needs "
                 "training.plateau = none");
  assert_refused(
      TRAIN "[training]\noptimizer = adam\nmomentum = 0.9\n",
      "x.ini:9: training.momentum = \"0.9\": only training.optimizer = sgd has "
      "a momentum");
  assert_refused(
      EXTRACT "[training]\nnesterov_momentum = 0.9\n",
      "x.ini:10: training.nesterov_momentum = \"0.9\": only training.optimizer "
      "= sgd has a momentum");
  assert_refused(
      TRAIN "[training]\nfurther_training = 60\n",
      "x.ini:8: training.further_training = \"60\": expected nothing, or steps "
      "such as 40ep, 200it or 3ep20it");
  assert_refused(TRAIN "[training]\nfurther_training = 5000000000ep\n",
                 "x.ini:8: training.further_training = \"5000000000ep\": expected steps "
                 "with numbers of at most 4000000000");
}

#define NO_TEACHER "[experiment]\njob = extract\n[model]\nname = dense_2_2_1\n[query]\n"

static void test_errors_of_the_teacher(void **state) {
  (void)state;
  assert_refused(NO_TEACHER "datagen = random\n",
                 "x.ini: teacher.config = \"\": expected teacher.config, "
                 "teacher.weights or teacher.model; only query.datagen = file does "
                 "without a teacher");
  assert_refused(NO_TEACHER "datagen = file+random\nfile = a.npz\n",
                 "x.ini: teacher.config = \"\": expected teacher.config, "
                 "teacher.weights or teacher.model; only query.datagen = file does "
                 "without a teacher");
  assert_refused(
      NO_TEACHER "datagen = file\n",
      "x.ini: query.file = \"\": expected a file, since query.datagen contains "
      "file");
  assert_refused(EXTRACT "[query]\nfile = a.npz\n",
                 "x.ini:10: query.file = \"a.npz\": is read only if query.datagen "
                 "contains file; leave it out");
  assert_refused(EXTRACT "config = t.ini\n[teacher]\nconfig = t.ini\n",
                 "x.ini:11: teacher.config is given twice, first in line 9");
  assert_refused(EXTRACT "config = t.ini\n",
                 "x.ini:8: teacher.weights = \"model.h5\": expected either "
                 "teacher.config or teacher.weights, not both");
  loaded(NO_TEACHER "datagen = file\nfile = a.npz\n");
  assert_refused(NO_TEACHER "datagen = file\nfile = a.npz\n[teacher]\nmember = 1\n",
                 "x.ini:9: teacher.member = \"1\": there is no teacher of several "
                 "networks");
}

static void test_errors_of_finish_together(void **state) {
  (void)state;
  assert_refused(TRAIN "[training]\nweight_decay = 1e-4\nfinish = lbfgs\n",
                 "x.ini:9: training.finish = \"lbfgs\": a finish lowers the loss alone, "
                 "so it excludes training.weight_decay");
  assert_refused(
      EXTRACT "[training]\nweight_decay = 1e-4\n[extraction]\n"
              "finetune_finish = lm\n",
      "x.ini:12: extraction.finetune_finish = \"lm\": a finish lowers the loss "
      "alone, so it excludes training.weight_decay");
  loaded(EXTRACT "[training]\nweight_decay = 1e-4\nfinish = auto\n");
}

#define QUERY                                                                            \
  "[experiment]\njob = extract\n[model]\nname = students_dense(3)_2_2_1\n"               \
  "[teacher]\nweights = model.h5\n[query]\n"
#define QUERY_FILE QUERY "datagen = file\nfile = a.npz\n"

static void test_errors_of_idle_query_keys(void **state) {
  (void)state;
  assert_refused(QUERY_FILE "samples = 5\n",
                 "x.ini:10: query.samples = \"5\": is read only if query.datagen "
                 "contains random; leave it out");
  assert_refused(QUERY "datagen = mnist+grid\ndistribution = uniform\n",
                 "x.ini:9: query.distribution = \"uniform\": is read only if "
                 "query.datagen contains random; leave it out");
  assert_refused(QUERY_FILE "range = 0.5\n",
                 "x.ini:10: query.range = \"0.5\": is read only if query.datagen "
                 "contains grid, or random with query.distribution = uniform; leave it "
                 "out");
  assert_refused(QUERY "datagen = random\nrange = 0.5\n",
                 "x.ini:9: query.range = \"0.5\": is read only if query.datagen "
                 "contains grid, or random with query.distribution = uniform; leave it "
                 "out");
  assert_refused(QUERY "datagen = random\ngrid_points = 5\n",
                 "x.ini:9: query.grid_points = \"5\": is read only if query.datagen "
                 "contains grid; leave it out");
  assert_refused(QUERY "datagen = random+grid\nsubsample = 5\n",
                 "x.ini:9: query.subsample = \"5\": is read only if query.datagen "
                 "contains a data set of images; leave it out");
  assert_refused(QUERY "datagen = fashion_mnist+grid\nseed = 5\n",
                 "x.ini:9: query.seed = \"5\": is read only if query.datagen contains "
                 "random or query.subsample is set; leave it out");
  assert_refused_with(QUERY_FILE, "query.samples=5",
                      "override: query.samples = \"5\": is read only if query.datagen "
                      "contains random; leave it out");
  loaded(QUERY_FILE "samples = 10000\nseed = 0\nrange = 1\n"); /* the defaults */
  loaded(QUERY "datagen = grid\ngrid_points = 3\nrange = 2\n");
  loaded(QUERY "datagen = random\nsamples = 3\nrange = 2\nseed = 1\n"
               "distribution = uniform\n");
  loaded(QUERY "datagen = cifar10\nsubsample = 3\nseed = 1\n");
  loaded(QUERY "datagen = mnist\nsubsample = 3\n");
}

#define REFERENCE EXTRACT "[extraction]\nmethod = reference\n"

/* A value that the choice of another parameter leaves unread is refused. */
static void test_errors_of_idle_keys(void **state) {
  (void)state;
#define ONLY(readers) "is read only if " readers "; leave it out"
  static const struct {
    const char *text, *message;
  } idle[] = {
      {EXTRACT "[extraction]\nlinkage = complete\n",
       "x.ini:10: extraction.linkage = \"complete\": " ONLY(
           "extraction.method = reference")},
      {EXTRACT "[extraction]\nmetric = cosine\n",
       "x.ini:10: extraction.metric = \"cosine\": " ONLY(
           "extraction.method = reference")},
      {EXTRACT "[extraction]\ncanonical = largest\n",
       "x.ini:10: extraction.canonical = \"largest\": " ONLY(
           "extraction.method = reference")},
      {EXTRACT "[extraction]\ncut = plateau\n",
       "x.ini:10: extraction.cut = \"plateau\": " ONLY("extraction.method = reference")},
      {EXTRACT "[extraction]\nclusters = 4\n",
       "x.ini:10: extraction.clusters = \"4\": " ONLY("extraction.method = reference")},
      {REFERENCE "stability = true\n",
       "x.ini:11: extraction.stability = \"true\": " ONLY("extraction.method = robust")},
      {EXTRACT "[extraction]\nexpand_max = 4\n",
       "x.ini:10: extraction.expand_max = \"4\": " ONLY("extraction.expand = auto")},
      {EXTRACT "[extraction]\nexpand_tolerance = 0.1\n",
       "x.ini:10: extraction.expand_tolerance = \"0.1\": " ONLY(
           "extraction.expand = auto")},
      {EXTRACT "[extraction]\nfinetune_finish = none\nfinetune_finish_steps = 5\n",
       "x.ini:11: extraction.finetune_finish_steps = \"5\": " ONLY(
           "extraction.finetune_finish is not none")},
      {EXTRACT "[training]\nfinish_steps = 5\n",
       "x.ini:10: training.finish_steps = \"5\": " ONLY("training.finish is not none")},
      {TRAIN "[training]\nfinish_tolerance = 0.1\n",
       "x.ini:8: training.finish_tolerance = \"0.1\": " ONLY(
           "training.finish or extraction.finetune_finish is not none")},
      {TRAIN "[training]\nfactor = 0.5\n",
       "x.ini:8: training.factor = \"0.5\": " ONLY(
           "training.plateau is not none or training.milestone_steps are given")},
      {TRAIN "[training]\npatience = 5\n",
       "x.ini:8: training.patience = \"5\": " ONLY("training.plateau is not none")},
      {TRAIN "[training]\ncooldown = 5\n",
       "x.ini:8: training.cooldown = \"5\": " ONLY("training.plateau is not none")},
      {TRAIN "[training]\nthreshold = 0.1\n",
       "x.ini:8: training.threshold = \"0.1\": " ONLY("training.plateau is not none")},
      {TRAIN "[training]\nmin_lr = 0.1\n",
       "x.ini:8: training.min_lr = \"0.1\": " ONLY("training.plateau is not none")},
      {TRAIN "[dataset]\ntransformation_seed = 3\n",
       "x.ini:8: dataset.transformation_seed = \"3\": " ONLY(
           "dataset.subsample_fraction is below 1 or dataset.random_labels_fraction "
           "above 0")},
  };
  for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
    assert_refused(idle[i].text, idle[i].message);
  loaded(EXTRACT "[training]\nfinish_tolerance = 0.1\n");
  loaded(EXTRACT "[training]\npatience = 3\nfactor = 0.5\n");
  loaded(EXTRACT "[extraction]\nlinkage = average\nclusters = 0\n"); /* the defaults */
  loaded(REFERENCE "linkage = complete\nmetric = cosine\ncut = angle\n");
}

static void test_errors_of_extraction_together(void **state) {
  (void)state;
  assert_refused(REFERENCE "cut = count\n",
                 "x.ini: extraction.clusters = \"0\": expected at least 1, since "
                 "extraction.cut = count");
  assert_refused(REFERENCE "clusters = 4\n",
                 "x.ini:11: extraction.clusters = \"4\": is read only if "
                 "extraction.cut = count; leave it out");
  assert_refused(REFERENCE "cut = angle\n",
                 "x.ini:11: extraction.cut = \"angle\": an angle needs extraction.metric "
                 "= cosine");
  assert_refused(EXTRACT "[extraction]\nmask =\n",
                 "x.ini:10: extraction.mask = \"\": expected none, auto, or a path");
}

static void test_check_of_a_changed_configuration(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN);
  coh_error err = {0};
  assert_int_equal(coh_config_check(&cfg, &err), COH_OK);
  assert_int_equal(coh_config_set(&cfg, "training.warmup_steps=1ep", &err), COH_OK);
  assert_int_equal(coh_config_set(&cfg, "training.plateau=shared", &err), COH_OK);
  assert_int_equal(coh_config_check(&cfg, &err), COH_EUSAGE);
  assert_string_equal(err.text, "x.ini: training.warmup_steps = \"1ep\": a warm-up needs "
                                "training.plateau = none");
}

/* ---- the table --------------------------------------------------------------------- */

static void set_value(coh_config *cfg, const coh_param *p, const char *value) {
  char text[2048];
  coh_error err = {0};
  snprintf(text, sizeof text, "%s.%s=%s", p->section, p->key, value);
  if (coh_config_set(cfg, text, &err) != COH_OK) fail_msg("%s", err.text);
}

static coh_job job_of(const coh_param *p) {
  if (p->jobs >> COH_JOB_EXTRACT & 1) return COH_JOB_EXTRACT;
  return p->jobs >> COH_JOB_TRAIN & 1 ? COH_JOB_TRAIN : COH_JOB_COMPRESS;
}

static void test_the_table_is_sound(void **state) {
  (void)state;
  size_t count;
  const coh_param *p = coh_params(&count);
  assert_true(count > 50);
  for (size_t i = 0; i < count; i++) {
    assert_non_null(p[i].help);
    assert_true(p[i].help[strlen(p[i].help) - 1] == '.');
    assert_true(p[i].jobs != 0 && p[i].jobs < 8);
    for (size_t j = 0; j < i; j++) {
      assert_true(p[i].offset != p[j].offset);
      assert_true(strcmp(p[i].section, p[j].section) || strcmp(p[i].key, p[j].key));
    }
  }
}

static void test_every_default_is_one(void **state) {
  (void)state;
  size_t count;
  const coh_param *p = coh_params(&count);
  for (int job = COH_JOB_TRAIN; job <= COH_JOB_COMPRESS; job++) {
    coh_config cfg, before;
    coh_config_defaults(&cfg, (coh_job)job);
    for (size_t i = 0; i < count; i++) {
      if (!(p[i].jobs >> job & 1)) continue;
      const char *def = job == COH_JOB_EXTRACT && p[i].def_extract     ? p[i].def_extract
                        : job == COH_JOB_COMPRESS && p[i].def_compress ? p[i].def_compress
                                                                       : p[i].def;
      before = cfg;
      if (def) set_value(&cfg, p + i, def);
      assert_memory_equal(&cfg, &before, sizeof cfg);
      assert_int_equal(coh_param_is_default(&cfg, p + i), def != NULL);
    }
  }
}

/* ---- hashes ------------------------------------------------------------------------ */

static coh_hash hash_of(const coh_config *cfg, coh_scope scope, const char *inputs) {
  coh_hash h;
  coh_error err = {0};
  assert_int_equal(coh_config_hash(cfg, scope, inputs, &h, &err), COH_OK);
  return h;
}

static void assert_hash_of_text(coh_hash h, const char *text) {
  coh_hash expected;
  coh_error err = {0};
  assert_int_equal(coh_hash_bytes(text, strlen(text), &expected, &err), COH_OK);
  assert_string_equal(h.hex, expected.hex);
}

static void test_hash_is_that_of_the_text(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN "[training]\nlr = 1e-1\nmomentum = .9\n");
  assert_hash_of_text(hash_of(&cfg, COH_SCOPE_RUN, "teacher=1\n"),
                      "job=train\ndataset.name=mnist\nmodel.name=dense_784_4_10\n"
                      "training.momentum=0.9\nteacher=1\n");
  cfg = loaded(EXTRACT "[extraction]\ngamma = 0.75\nmask = m.npy\n");
  assert_hash_of_text(hash_of(&cfg, COH_SCOPE_CLUSTERING, ""),
                      "extraction.gamma=0.75\nextraction.mask=file\n");
  assert_hash_of_text(hash_of(&cfg, COH_SCOPE_RUN, ""),
                      "job=extract\nquery.datagen=random\n"
                      "model.name=students_mnist_lenet(10)_16\n");
}

/* The hash that names published folders must never change by itself. */
static void test_hash_known_value(void **state) {
  (void)state;
  coh_config cfg = loaded(TRAIN);
  assert_string_equal(hash_of(&cfg, COH_SCOPE_RUN, "").hex,
                      "31b4739fa53b3584d0dbe84cc81398af");
  cfg = loaded(EXTRACT);
  assert_string_equal(hash_of(&cfg, COH_SCOPE_RUN, "").hex,
                      "e55cc0bc576eb6cc5c488827549f53e9");
  assert_string_equal(hash_of(&cfg, COH_SCOPE_CLUSTERING, "").hex,
                      "cae66941d9efbd404e4d88758ea67670");
}

/* Gives the parameter a value that is not its default. */
static void change(coh_config *cfg, const coh_param *p) {
  static const char *const values[] = {"true",   "false", "7",          "0.37",
                                       "1ep2it", "other", "random+grid"};
  char text[256];
  coh_error err = {0};
  for (size_t i = 0; p->choices && p->choices[i]; i++) {
    snprintf(text, sizeof text, "%s.%s=%s", p->section, p->key, p->choices[i]);
    if (coh_config_set(cfg, text, &err) == COH_OK && !coh_param_is_default(cfg, p))
      return;
  }
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    snprintf(text, sizeof text, "%s.%s=%s", p->section, p->key, values[i]);
    if (coh_config_set(cfg, text, &err) == COH_OK && !coh_param_is_default(cfg, p))
      return;
  }
  fail_msg("no other value for %s.%s", p->section, p->key);
}

static void test_a_change_changes_the_hash_of_its_scope_only(void **state) {
  (void)state;
  size_t count, changed = 0;
  const coh_param *p = coh_params(&count);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(p[i].key, "job") == 0) continue;
    coh_config base, cfg;
    coh_config_defaults(&base, job_of(p + i));
    cfg = base;
    change(&cfg, p + i);
    for (int scope = COH_SCOPE_RUN; scope <= COH_SCOPE_CLUSTERING; scope++) {
      coh_hash a = hash_of(&base, (coh_scope)scope, "");
      coh_hash b = hash_of(&cfg, (coh_scope)scope, "");
      bool differs = strcmp(a.hex, b.hex) != 0;
      if (differs != (p[i].scope == (coh_scope)scope))
        fail_msg("%s.%s, scope %d", p[i].section, p[i].key, scope);
      changed += differs;
    }
  }
  assert_true(changed > 40);
}

static void test_inputs_and_job_change_the_hash(void **state) {
  (void)state;
  coh_config train, extract;
  coh_config_defaults(&train, COH_JOB_TRAIN);
  coh_config_defaults(&extract, COH_JOB_EXTRACT);
  const coh_scope run = COH_SCOPE_RUN, clustering = COH_SCOPE_CLUSTERING;
  assert_string_not_equal(hash_of(&extract, run, "").hex,
                          hash_of(&extract, run, "t").hex);
  assert_string_not_equal(hash_of(&extract, clustering, "").hex,
                          hash_of(&extract, clustering, "t").hex);
  /* defaults differ between the jobs, the texts of both are empty but for the job */
  assert_hash_of_text(hash_of(&train, run, ""),
                      "job=train\ndataset.name=\nmodel.name=\n");
  assert_hash_of_text(hash_of(&extract, run, ""),
                      "job=extract\nquery.datagen=\nmodel.name=\n");
}

static void test_an_explicit_default_does_not_change_the_hash(void **state) {
  (void)state;
  coh_config plain = loaded(EXTRACT);
  coh_config given = loaded(
      EXTRACT "[training]\noptimizer = adam\nlr = 1.0e-3\nsteps = 25000ep0it\n"
              "factor = 0.316227766016837940\n[extraction]\nlinkage = average\n"
              "gamma = .5\nbeta = 6.0\n[model]\nactivation = relu\ninit_bias = zero\n");
  assert_string_equal(hash_of(&plain, COH_SCOPE_RUN, "").hex,
                      hash_of(&given, COH_SCOPE_RUN, "").hex);
  assert_string_equal(hash_of(&plain, COH_SCOPE_CLUSTERING, "").hex,
                      hash_of(&given, COH_SCOPE_CLUSTERING, "").hex);
}

/* ---- show, help, paths ----------------------------------------------------------------
 */

static coh_text shown(const coh_config *cfg) {
  coh_text t = {0};
  coh_config_show(cfg, &t);
  assert_false(t.failed);
  return t;
}

static void assert_show_is_stable(const coh_config *cfg) {
  coh_text first = shown(cfg);
  coh_config again;
  coh_error err = {0};
  assert_int_equal(scratch_write("again.ini", first.data, first.len), 0);
  if (coh_config_load(&again, "again.ini", 0, NULL, &err) != COH_OK)
    fail_msg("%s\n%s", err.text, first.data);
  coh_text second = shown(&again);
  assert_string_equal(first.data, second.data);
  assert_string_equal(hash_of(cfg, COH_SCOPE_RUN, "").hex,
                      hash_of(&again, COH_SCOPE_RUN, "").hex);
  assert_string_equal(hash_of(cfg, COH_SCOPE_CLUSTERING, "").hex,
                      hash_of(&again, COH_SCOPE_CLUSTERING, "").hex);
  coh_text_free(&first);
  coh_text_free(&second);
}

static void test_show_load_show_is_the_identity(void **state) {
  (void)state;
  static const char *const names[] = {"plain", "a b",      " a ", "a;b",  "a#b",  "'a",
                                      "\"a",   "a\"'b",    "a\\", "=",    "[x]",  "\t",
                                      "a;\"",  "a;'",      "'",   "\"\"", "''",   "a = b",
                                      "%s%n",  "\xc3\xbc", ";",   "#",    "a\tb", "a:b"};
  coh_config cfg = loaded(TRAIN);
  assert_show_is_stable(&cfg);
  const coh_param *p = coh_params(&(size_t){0});
  while (strcmp(p->key, "name") != 0) p++;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    set_value(&cfg, p, "x");
    memcpy(cfg.experiment.name, names[i], strlen(names[i]) + 1);
    assert_show_is_stable(&cfg);
  }
  cfg = loaded(EXTRACT);
  assert_show_is_stable(&cfg);
}

static void test_show_with_every_parameter_changed(void **state) {
  (void)state;
  coh_config cfg = loaded(EXTRACT);
  size_t count;
  coh_error err = {0};
  const coh_param *p = coh_params(&count);
  for (size_t i = 0; i < count; i++)
    if (strcmp(p[i].key, "job") != 0 && p[i].jobs >> COH_JOB_EXTRACT & 1)
      change(&cfg, p + i);
  static const char *const mend[] = {"teacher.config=",
                                     "teacher.model=",
                                     "teacher.seed=0",
                                     "query.datagen=file+grid+random+mnist",
                                     "query.file=q.npz",
                                     "extraction.cut=count",
                                     "extraction.mask=m.npy",
                                     "training.optimizer=sgd",
                                     "training.weight_decay=0",
                                     "training.further_training=9ep",
                                     "training.plateau=member",
                                     "training.milestone_steps=",
                                     "training.warmup_steps=0ep",
                                     "extraction.method=reference",
                                     "extraction.stability=false",
                                     "training.finish=auto",
                                     "extraction.finetune_finish=lm"};
  for (size_t i = 0; i < sizeof mend / sizeof *mend; i++)
    assert_int_equal(coh_config_set(&cfg, mend[i], &err), COH_OK);
  assert_show_is_stable(&cfg);
  coh_text t = shown(&cfg);
  assert_non_null(strstr(t.data, "\nfile = /")); /* paths are absolute */
  assert_non_null(strstr(t.data, "\nmask = /"));
  assert_null(strstr(t.data, "members"));
  coh_text_free(&t);
}

static void test_paths_are_relative_to_the_file(void **state) {
  (void)state;
  coh_error err = {0};
  coh_config cfg;
  char path[64];
  coh_config_defaults(&cfg, COH_JOB_EXTRACT);
  assert_int_equal(coh_config_path(&cfg, "t.ini", path, sizeof path, &err), COH_OK);
  assert_string_equal(path, "t.ini");
  memcpy(cfg.file, "configs/a.ini", 14);
  assert_int_equal(coh_config_path(&cfg, "t.ini", path, sizeof path, &err), COH_OK);
  assert_string_equal(path, "configs/t.ini");
  assert_int_equal(coh_config_path(&cfg, "../t.ini", path, sizeof path, &err), COH_OK);
  assert_string_equal(path, "configs/../t.ini");
  assert_int_equal(coh_config_path(&cfg, "/t.ini", path, sizeof path, &err), COH_OK);
  assert_string_equal(path, "/t.ini");
  assert_int_equal(coh_config_path(&cfg, "", path, sizeof path, &err), COH_OK);
  assert_string_equal(path, "");
  assert_int_equal(coh_config_path(&cfg, "longer.ini", path, 8, &err), COH_EUSAGE);
}

static void assert_columns(const char *text) {
  for (const char *line = text; *line;) {
    size_t n = strcspn(line, "\n");
    if (n > 80) fail_msg("%.*s", (int)n, line);
    line += n + (line[n] == '\n');
  }
}

static void test_help_tells_everything(void **state) {
  (void)state;
  coh_error err = {0};
  size_t count;
  coh_text all = {0};
  const coh_param *p = coh_params(&count);
  assert_int_equal(coh_config_help(NULL, &all, &err), COH_OK);
  assert_columns(all.data);
  for (size_t i = 0; i < count; i++) {
    char key[64];
    coh_text t = {0};
    assert_non_null(strstr(all.data, p[i].section));
    assert_int_equal(coh_config_help(p[i].section, &t, &err), COH_OK);
    snprintf(key, sizeof key, "\n  %s\n", p[i].key);
    assert_non_null(strstr(t.data, key));
    assert_columns(t.data);
    coh_text_free(&t);
  }
  coh_text_free(&all);
}

static void test_help_of_one_section(void **state) {
  (void)state;
  coh_error err = {0};
  coh_text t = {0};
  assert_int_equal(coh_config_help("teacher", &t, &err), COH_OK);
  assert_string_equal(
      t.data,
      "[teacher] the network whose parameters job = extract recovers\n"
      "\n"
      "  config\n"
      "      a path; default empty; read by job = extract only\n"
      "      Configuration of a job = train; trained first if it was not yet.\n"
      "\n"
      "  weights\n"
      "      a path; default empty; read by job = extract only\n"
      "      In its place: a model.h5, or the folder of a run that holds one.\n"
      "\n"
      "  model\n"
      "      a text; default empty; read by job = extract only\n"
      "      In its place: a random network of this shape, as dense_10_4_1, with\n"
      "      model.activation, drawn from teacher.seed.\n"
      "\n"
      "  seed\n"
      "      a whole number from 0 to 9007199254740992; default 0; read by job =\n"
      "      extract only\n"
      "      Seed of teacher.model.\n"
      "\n"
      "  member\n"
      "      a whole number from 0 to 1000000; default 0; read by job = extract "
      "only\n"
      "      Which network of that file, counted from 0.\n");
  coh_text_free(&t);
  assert_int_equal(coh_config_help("traning", &t, &err), COH_EUSAGE);
  assert_string_equal(err.text,
                      "unknown section \"traning\": did you mean \"training\"?");
  assert_null(t.data);
}

/* ---- damaged files -------------------------------------------------------------------
 */

static uint64_t draw(uint64_t step, uint64_t *index, uint64_t below) {
  uint32_t w[4];
  coh_random_block(11, COH_RNG_TEST, step, (*index)++, w);
  return w[0] % below;
}

/* Changes a few places of text[0..len); returns the new length. */
static size_t damage(uint64_t step, char *text, size_t len, size_t room) {
  static const char special[] = "[]=;#\"'\\\n\r\t .,:+-0123456789eEnpit\0\x80\xff";
  uint64_t index = 0;
  for (uint64_t n = 1 + draw(step, &index, 6); n-- && len > 64;) {
    size_t at = draw(step, &index, len), size = 1 + draw(step, &index, 32);
    if (size > len - at) size = len - at;
    char c = special[draw(step, &index, sizeof special - 1)];
    switch (draw(step, &index, 5)) {
    case 0:
      text[at] = c;
      break;
    case 1:
      text[at] ^= (char)(1 << draw(step, &index, 8));
      break;
    case 2:
      memmove(text + at, text + at + size, len - at - size);
      len -= size;
      break;
    case 3:
      if (len + size > room) break;
      memmove(text + at + size, text + at, len - at); /* says a piece twice */
      len += size;
      break;
    default:
      if (len == room) break;
      memmove(text + at + 1, text + at, len - at);
      text[at] = c;
      len++;
    }
  }
  return len;
}

static void test_damaged_files_never_crash(void **state) {
  (void)state;
  size_t accepted = 0;
  coh_config extract = loaded(EXTRACT "[training]\nsteps = 3ep20it ; c\nlr = 0.5\n"
                                      "[query]\nseed = 3\n");
  coh_text good = shown(&extract);
  for (uint64_t i = 0; i < 2000; i++) {
    char text[8192];
    assert_true(good.len < sizeof text / 2);
    memcpy(text, good.data, good.len);
    size_t len = damage(i, text, good.len, sizeof text);
    coh_config cfg;
    coh_error err = {0};
    assert_int_equal(scratch_write("fuzz.ini", text, len), 0);
    int rc = coh_config_load(&cfg, "fuzz.ini", 0, NULL, &err);
    if (rc == COH_OK) {
      assert_show_is_stable(&cfg);
      accepted++;
    } else {
      if (rc != COH_EUSAGE) fail_msg("%d: %s", (int)i, err.text);
      assert_int_equal(strncmp(err.text, "fuzz.ini:", 9), 0);
    }
  }
  coh_text_free(&good);
  assert_true(accepted > 20 && accepted < 1980);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values_reach_their_fields),
      cmocka_unit_test(test_defaults_of_train),
      cmocka_unit_test(test_defaults_of_extract),
      cmocka_unit_test(test_choices_are_in_the_order_of_their_enumeration),
      cmocka_unit_test(test_steps),
      cmocka_unit_test(test_value_forms),
      cmocka_unit_test(test_texts_of_every_length),
      cmocka_unit_test(test_lines_are_read_as_iniparser_reads_them),
      cmocka_unit_test(test_empty_values),
      cmocka_unit_test(test_file_without_last_newline_and_with_crlf),
      cmocka_unit_test(test_a_pipe_is_read_once),
      cmocka_unit_test(test_errors_of_lines),
      cmocka_unit_test(test_errors_of_files),
      cmocka_unit_test(test_errors_of_names),
      cmocka_unit_test(test_errors_of_keys_given_twice),
      cmocka_unit_test(test_errors_of_keys_for_another_job),
      cmocka_unit_test(test_errors_of_values),
      cmocka_unit_test(test_errors_of_overrides),
      cmocka_unit_test(test_overrides_apply_in_order),
      cmocka_unit_test(test_override_of_the_job),
      cmocka_unit_test(test_a_failed_load_leaves_the_configuration),
      cmocka_unit_test(test_errors_of_missing_values),
      cmocka_unit_test(test_errors_of_training_together),
      cmocka_unit_test(test_errors_of_the_teacher),
      cmocka_unit_test(test_errors_of_finish_together),
      cmocka_unit_test(test_errors_of_idle_query_keys),
      cmocka_unit_test(test_errors_of_idle_keys),
      cmocka_unit_test(test_errors_of_extraction_together),
      cmocka_unit_test(test_check_of_a_changed_configuration),
      cmocka_unit_test(test_the_table_is_sound),
      cmocka_unit_test(test_every_default_is_one),
      cmocka_unit_test(test_hash_is_that_of_the_text),
      cmocka_unit_test(test_hash_known_value),
      cmocka_unit_test(test_a_change_changes_the_hash_of_its_scope_only),
      cmocka_unit_test(test_inputs_and_job_change_the_hash),
      cmocka_unit_test(test_an_explicit_default_does_not_change_the_hash),
      cmocka_unit_test(test_show_load_show_is_the_identity),
      cmocka_unit_test(test_show_with_every_parameter_changed),
      cmocka_unit_test(test_paths_are_relative_to_the_file),
      cmocka_unit_test(test_help_tells_everything),
      cmocka_unit_test(test_help_of_one_section),
      cmocka_unit_test(test_damaged_files_never_crash),
  };
  return cmocka_run_group_tests(tests, enter, leave);
}
