/* test_store.c - the room src/store: folders and locks of runs, metrics, runs.csv, CSV in
 * general, the manifest. */
#include "cohort/store.h"

#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "scratch.h"

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

/* Asserts that the message holds `part`. */
static void says(const char *part) {
  if (!strstr(err.text, part)) fail_msg("'%s' is not in: %s", part, err.text);
}

static char *contents(const char *path) {
  static char *text;
  size_t len;
  free(text);
  text = NULL;
  OK(coh_file_read(path, &text, &len, &err));
  return text;
}

static void write_text(const char *path, const char *text) {
  OK(coh_file_write(path, text, strlen(text), &err));
}

static int python(const char *program) {
  char command[4096];
  snprintf(command, sizeof command, "cd '%s' && /usr/bin/python3 -c \"%s\"",
           scratch_folder, program);
  return system(command);
}

static coh_config cfg;
static coh_hash hash;

/* A configuration with the given overrides, and its hash. */
static void configure(const char *set1, const char *set2) {
  coh_config_defaults(&cfg, COH_JOB_TRAIN);
  OK(coh_config_set(&cfg, "dataset.name=mnist", &err));
  OK(coh_config_set(&cfg, "model.name=dense_784_5_10", &err));
  if (set1) OK(coh_config_set(&cfg, set1, &err));
  if (set2) OK(coh_config_set(&cfg, set2, &err));
  OK(coh_config_hash(&cfg, COH_SCOPE_RUN, "", &hash, &err));
}

/* ---- folders --------------------------------------------------------------------- */

static void check_label(const char *text, const char *want) {
  char label[COH_LABEL];
  assert_string_equal(coh_label(text, label), want);
}

static void test_labels(void **state) {
  (void)state;
  check_label("mnist_lenet_300-100.v2", "mnist_lenet_300-100.v2");
  check_label("students_mnist_lenet(10)_16", "students_mnist_lenet_10_16");
  check_label("lenet(10)", "lenet_10");
  check_label("../../etc/passwd", "etc_passwd");
  check_label("-rf *", "rf");
  check_label("a / b\n\tc", "a_b_c");
  check_label("na\xc3\xafve", "na_ve");
  check_label("a__b", "a_b");
  check_label("", "run");
  check_label("///", "run");
  char label[COH_LABEL], text[300];
  memset(text, 'x', sizeof text);
  text[299] = '\0';
  assert_int_equal(strlen(coh_label(text, label)), 80);
}

static const char *sweep(void) {
  static char folder[COH_PATH];
  OK(coh_sweep_folder(scratch("results"), "quick", 2, 7, folder, sizeof folder, &err));
  return folder;
}

static void test_sweep_folder(void **state) {
  (void)state;
  struct stat st;
  assert_string_equal(sweep(), scratch("results/quick/2-7"));
  assert_int_equal(stat(sweep(), &st), 0);
  write_text(scratch("file"), "");
  char out[COH_PATH];
  assert_int_equal(coh_sweep_folder(scratch("file"), "q", 1, 1, out, sizeof out, &err),
                   COH_EIO);
  assert_int_equal(coh_sweep_folder("r", "q", 1, 1, out, 3, &err), COH_EUSAGE);
}

static void test_run_folder_and_ini(void **state) {
  (void)state;
  coh_run run;
  char want[COH_PATH], path[COH_PATH + 16];
  configure("training.lr=0.25", "experiment.seed=5");
  OK(coh_run_open(sweep(), "lenet(10)", &hash, &cfg, NULL, NULL, &run, &err));
  snprintf(want, sizeof want, "%s/runs/lenet_10-%.10s/seed_5", sweep(), hash.hex);
  assert_string_equal(run.folder, want);
  snprintf(path, sizeof path, "%s/run.ini", run.folder);
  assert_non_null(strstr(contents(path), hash.hex));
  assert_non_null(strstr(contents(path), "lr = 0.25"));
  coh_config back;
  OK(coh_config_load(&back, path, 0, NULL, &err)); /* it is an INI file of its own */
  assert_true(back.training.lr == 0.25);
  assert_int_equal(back.experiment.seed, 5);
  coh_run_close(&run);
  coh_run_close(&run); /* does no harm */
  coh_run_close(NULL);
  OK(coh_run_open(sweep(), "lenet(10)", &hash, &cfg, NULL, NULL, &run,
                  &err)); /* found again */
  coh_run_close(&run);
}

static void test_killed_writers_leftovers_are_removed(void **state) {
  (void)state;
  coh_run run;
  configure("training.lr=0.125", NULL);
  OK(coh_run_open(sweep(), "left", &hash, &cfg, NULL, NULL, &run, &err));
  char path[COH_PATH + 32];
  snprintf(path, sizeof path, "%s/.model.h5.tmp", run.folder);
  write_text(path, "half");
  coh_run_close(&run);
  OK(coh_run_open(sweep(), "left", &hash, &cfg, NULL, NULL, &run, &err));
  assert_false(coh_file_exists(path));
  assert_int_equal(scratch_count(run.folder), 2); /* lock, run.ini */
  coh_run_close(&run);
}

static void test_other_parameters_may_change(void **state) {
  (void)state;
  coh_run run;
  char path[COH_PATH + 16];
  configure("training.lr=0.5", NULL);
  OK(coh_run_open(sweep(), "free", &hash, &cfg, NULL, NULL, &run, &err));
  coh_run_close(&run);
  configure("training.lr=0.5", "ranks.replicas=3");
  OK(coh_run_open(sweep(), "free", &hash, &cfg, NULL, NULL, &run, &err));
  snprintf(path, sizeof path, "%s/run.ini", run.folder);
  assert_non_null(strstr(contents(path), "replicas = 3"));
  coh_run_close(&run);
}

/* A run.ini edited by hand, or left by another run behind the same ten digits. */
static void test_changed_run_is_refused(void **state) {
  (void)state;
  coh_run run;
  char path[COH_PATH + 16], folder[COH_PATH], text[16384];
  configure("training.lr=0.75", NULL);
  OK(coh_run_open(sweep(), "edited", &hash, &cfg, NULL, NULL, &run, &err));
  coh_run_close(&run);
  memcpy(folder, run.folder, sizeof folder);
  snprintf(path, sizeof path, "%s/run.ini", folder);
  snprintf(text, sizeof text, "%s", contents(path));
  char *lr = strstr(text, "lr = 0.75");
  assert_non_null(lr);
  lr[5] = '1';
  write_text(path, text);
  assert_int_equal(coh_run_open(sweep(), "edited", &hash, &cfg, NULL, NULL, &run, &err),
                   COH_EUSAGE);
  says("run.ini");
  says("training.lr = 1.75");
  says("has 0.75");
  lr[5] = '0';
  text[6 + 20] ^= 1; /* the 21st digit of the hash */
  write_text(path, text);
  assert_int_equal(coh_run_open(sweep(), "edited", &hash, &cfg, NULL, NULL, &run, &err),
                   COH_EUSAGE);
  says(hash.hex);
  write_text(path, "[experiment]\n");
  assert_int_equal(coh_run_open(sweep(), "edited", &hash, &cfg, NULL, NULL, &run, &err),
                   COH_EUSAGE);
  says("move its folder away");
  text[6 + 20] ^= 1;
  snprintf(text + strlen(text), 64, "\n[training]\nno_such_key = 1\n");
  write_text(path, text);
  assert_int_equal(coh_run_open(sweep(), "edited", &hash, &cfg, NULL, NULL, &run, &err),
                   COH_EUSAGE);
  assert_int_equal(run.lock, -1);
}

/* ---- locks ----------------------------------------------------------------------- */

static void test_second_open_is_refused(void **state) {
  (void)state;
  coh_run one, two;
  char number[32];
  configure("training.lr=0.0625", NULL);
  OK(coh_run_open(sweep(), "lock", &hash, &cfg, NULL, NULL, &one, &err));
  assert_int_equal(coh_run_open(sweep(), "lock", &hash, &cfg, NULL, NULL, &two, &err),
                   COH_EUSAGE);
  says("in use by another process");
  says(one.folder);
  snprintf(number, sizeof number, "process %ld on ", (long)getpid());
  says(number);
  coh_run_close(&one);
  OK(coh_run_open(sweep(), "lock", &hash, &cfg, NULL, NULL, &two, &err));
  coh_run_close(&two);
}

/* The lock of a process that is killed ends with it. */
static void test_lock_ends_with_its_process(void **state) {
  (void)state;
  coh_run run;
  int ready[2];
  configure("training.lr=0.03125", NULL);
  const char *folder = sweep();
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    int rc = coh_run_open(folder, "kill", &hash, &cfg, NULL, NULL, &run, &err);
    (void)!write(ready[1], rc == COH_OK ? "y" : "n", 1);
    for (;;) pause();
  }
  char answer = 0;
  assert_int_equal(read(ready[0], &answer, 1), 1);
  assert_int_equal(answer, 'y');
  assert_int_equal(coh_run_open(folder, "kill", &hash, &cfg, NULL, NULL, &run, &err),
                   COH_EUSAGE);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  OK(coh_run_open(folder, "kill", &hash, &cfg, NULL, NULL, &run, &err));
  coh_run_close(&run);
  close(ready[0]);
  close(ready[1]);
}

/* ---- metrics --------------------------------------------------------------------- */

static void test_metrics_round_trip(void **state) {
  (void)state;
  coh_metrics *m;
  const char *path = scratch("metrics.csv");
  OK(coh_metrics_open(path, &m, &err));
  assert_int_equal(coh_metrics_count(m), 0);
  OK(coh_metrics_add(m, 0, "loss", 0, 0.1, &err));
  OK(coh_metrics_add(m, 0, "loss", 1, NAN, &err));
  OK(coh_metrics_add(m, 10, "odd, \"name\"", 0, -INFINITY, &err));
  OK(coh_metrics_add(m, UINT64_MAX, "loss", 3, 1e-300, &err));
  OK(coh_metrics_add(m, 0, "loss", 0, 0.2, &err)); /* overwrites in place */
  OK(coh_metrics_write(m, &err));
  coh_metrics_close(m);
  assert_string_equal(contents(path), "step,name,member,value\n0,loss,0,0.2\n"
                                      "0,loss,1,nan\n10,\"odd, \"\"name\"\"\",0,-inf\n"
                                      "18446744073709551615,loss,3,1e-300\n");
  OK(coh_metrics_open(path, &m, &err));
  assert_int_equal(coh_metrics_count(m), 4);
  coh_metrics_row row = coh_metrics_get(m, 2);
  assert_int_equal(row.step, 10);
  assert_string_equal(row.name, "odd, \"name\"");
  assert_true(isinf(row.value) && row.value < 0);
  assert_true(isnan(coh_metrics_get(m, 1).value));
  OK(coh_metrics_write(m, &err));
  coh_metrics_close(m);
  coh_metrics_close(NULL);
}

static void test_metrics_of_nothing(void **state) {
  (void)state;
  coh_metrics *m;
  OK(coh_metrics_open(scratch("empty.csv"), &m, &err));
  coh_metrics_truncate(m, 3);
  OK(coh_metrics_write(m, &err));
  coh_metrics_close(m);
  assert_string_equal(contents(scratch("empty.csv")), "step,name,member,value\n");
  OK(coh_metrics_open(scratch("empty.csv"), &m, &err));
  assert_int_equal(coh_metrics_count(m), 0);
  coh_metrics_close(m);
}

/* Many rows, cut back and added again, as by a resumed run: the same file. */
static void test_metrics_truncate_and_go_on(void **state) {
  (void)state;
  enum { STEPS = 1000, MEMBERS = 7 };
  coh_metrics *m;
  OK(coh_metrics_open(scratch("whole.csv"), &m, &err));
  for (uint64_t s = 0; s < STEPS; s++)
    for (uint64_t k = 0; k < MEMBERS; k++)
      OK(coh_metrics_add(m, s, k % 2 ? "a" : "b", k, (double)(s * k) / 3, &err));
  OK(coh_metrics_write(m, &err));
  size_t len;
  char *whole;
  OK(coh_file_read(scratch("whole.csv"), &whole, &len, &err));
  coh_metrics_truncate(m, 411);
  assert_int_equal(coh_metrics_count(m), 412 * MEMBERS);
  for (uint64_t s = 400; s < STEPS; s++) /* ten steps are added a second time */
    for (uint64_t k = 0; k < MEMBERS; k++)
      OK(coh_metrics_add(m, s, k % 2 ? "a" : "b", k, (double)(s * k) / 3, &err));
  assert_int_equal(coh_metrics_count(m), STEPS * MEMBERS);
  OK(coh_metrics_write(m, &err));
  coh_metrics_close(m);
  assert_string_equal(contents(scratch("whole.csv")), whole);
  free(whole);
}

static void test_metrics_file_that_is_none(void **state) {
  (void)state;
  coh_metrics *m;
  static const char *const bad[] = {
      "",
      "step,name,value\n",
      "step,name,member,value\n1,loss,0\n",
      "step,name,member,value\n1,loss,0,x\n",
      "step,name,member,value\n-1,loss,0,1\n",
      "step,name,member,value\n1,,0,1\n",
      "step,name,member,value\n1,\"loss,0,1\n",
      "step,name,member,value\n1,loss,0,\n",
      "step,name,member,value\n99999999999999999999,loss,0,1\n"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_text(scratch("bad.csv"), bad[i]);
    assert_int_equal(coh_metrics_open(scratch("bad.csv"), &m, &err), COH_EDATA);
    assert_null(m);
    says(i < 2 ? "bad.csv:1" : "bad.csv:2");
  }
}

static void test_metrics_open_with_pandas(void **state) {
  (void)state;
  coh_metrics *m;
  if (python("import pandas") != 0) skip();
  OK(coh_metrics_open(scratch("p.csv"), &m, &err));
  for (uint64_t s = 0; s < 3; s++)
    for (uint64_t k = 0; k < 2; k++)
      OK(coh_metrics_add(m, s, "loss", k, k ? NAN : 0.1 * (double)s, &err));
  OK(coh_metrics_write(m, &err));
  coh_metrics_close(m);
  assert_int_equal(
      python("import pandas as pd\n"
             "d = pd.read_csv('p.csv')\n"
             "assert list(d) == ['step', 'name', 'member', 'value']\n"
             "assert len(d) == 6 and d.value[2] == 0.1 and d.value.isna()[1]\n"
             "assert str(d.step.dtype) == 'int64'\n"),
      0);
}

/* ---- CSV ------------------------------------------------------------------------- */

static void test_table_reads_rfc4180(void **state) {
  (void)state;
  coh_table t;
  write_text(scratch("t.csv"), "\xef\xbb\xbf"
                               "a,\"b,c\",d\r\n1,\"x\"\"y\",\"two\nlines\"\r\n\r\n"
                               ",,\n\"\",\"\"\"\",last");
  OK(coh_table_read(scratch("t.csv"), &t, &err));
  assert_int_equal(t.n_col, 3);
  assert_int_equal(t.n_row, 3);
  assert_string_equal(t.col[0], "a");
  assert_string_equal(t.col[1], "b,c");
  static const char *const want[] = {"1", "x\"y", "two\nlines", "",    "",
                                     "",  "",     "\"",         "last"};
  for (int i = 0; i < 9; i++) assert_string_equal(t.cell[i], want[i]);
  assert_int_equal(coh_table_column(&t, "d"), 2);
  assert_int_equal(coh_table_column(&t, "e"), 3);
  coh_table_free(&t);
}

static void test_table_refuses_what_is_no_table(void **state) {
  (void)state;
  coh_table t;
  static const struct {
    const char *text, *message;
  } bad[] = {{"", "names columns"},
             {"\n\n", "names columns"},
             {"a,b\n1\n", "bad.csv:2: 1 cells"},
             {"a,b\n1,2\n\n1,2,3\n", "bad.csv:4: 3 cells"},
             {"a,b\n\"x\n\n,1\n", "bad.csv:2: a quote"},
             {"a,b\n\"x\"y,1\n", "bad.csv:2: a quote"},
             {"a,b,a\n", "'a' comes twice"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_text(scratch("bad.csv"), bad[i].text);
    assert_int_equal(coh_table_read(scratch("bad.csv"), &t, &err), COH_EDATA);
    says(bad[i].message);
    assert_null(t.text);
  }
  OK(coh_file_write(scratch("bad.csv"), "a,b\n1,\0\n", 8, &err));
  assert_int_equal(coh_table_read(scratch("bad.csv"), &t, &err), COH_EDATA);
  says("zero byte");
  assert_int_equal(coh_table_read(scratch("none.csv"), &t, &err), COH_EIO);
}

/* Whatever is written as a cell is read as that cell. */
static void test_any_cell_comes_back(void **state) {
  (void)state;
  static const char *const cells[] = {"",     "a",          ",",    "\"",
                                      "\"\"", "a\"b",       "\r\n", "\n\"\n",
                                      " x ",  "na\xc3\xaf", "'",    "a,b"};
  enum { N = sizeof cells / sizeof *cells };
  coh_text t = {0};
  coh_table back;
  for (int i = 0; i < N; i++) coh_text_add(&t, "%sc%d", i ? "," : "", i);
  for (int shift = 0; shift < N; shift++)
    for (int i = 0; i < N; i++) {
      coh_text_add(&t, i ? "," : "\n");
      coh_csv_cell(&t, cells[(i + shift) % N]);
    }
  OK(coh_text_check(&t, &err));
  OK(coh_file_write(scratch("c.csv"), t.data, t.len, &err));
  coh_text_free(&t);
  OK(coh_table_read(scratch("c.csv"), &back, &err));
  assert_int_equal(back.n_row, N);
  for (int shift = 0; shift < N; shift++)
    for (int i = 0; i < N; i++)
      assert_string_equal(back.cell[shift * N + i], cells[(i + shift) % N]);
  coh_table_free(&back);
}

/* ---- runs.csv -------------------------------------------------------------------- */

static const char *cell(const coh_table *t, size_t row, const char *column) {
  size_t c = coh_table_column(t, column);
  if (c == t->n_col) fail_msg("no column %s", column);
  return t->cell[row * t->n_col + c];
}

static coh_row row_of(const coh_measures *m, const char *status) {
  return (coh_row){.cfg = &cfg,
                   .run = hash,
                   .folder = scratch("results/quick/2-7/runs/x/seed_0"),
                   .status = status,
                   .measures = m,
                   .seconds = 1.5,
                   .hosts = "n1*2, n2*2"};
}

static const char *runs_csv(void) {
  return scratch("results/quick/2-7/runs.csv");
}

static void test_runs_are_put_and_replaced(void **state) {
  (void)state;
  coh_table t;
  coh_measures m = {0};
  remove(runs_csv());
  OK(coh_measures_add(&m, "loss", 0.25, &err));
  OK(coh_measures_add(&m, "neurons", 7, &err));
  configure("training.lr=0.5", "model.name=dense_784_4_10");
  coh_row row = row_of(&m, "failed");
  OK(coh_runs_put(sweep(), 1, &row, &err));
  configure("training.lr=0.5", "experiment.seed=2"); /* another model, too */
  row = row_of(&m, "done");
  OK(coh_runs_put(sweep(), 1, &row, &err));
  configure("training.lr=0.5", "model.name=dense_784_4_10");
  OK(coh_measures_add(&m, "loss", 0.125, &err));
  OK(coh_measures_add(&m, "accuracy", 0.9, &err));
  row = row_of(&m, "done");
  OK(coh_runs_put(sweep(), 1, &row, &err)); /* replaces the first row */
  OK(coh_table_read(runs_csv(), &t, &err));
  assert_int_equal(t.n_row, 2);
  assert_string_equal(cell(&t, 0, "status"), "done");
  assert_string_equal(cell(&t, 0, "loss"), "0.125");
  assert_string_equal(cell(&t, 0, "accuracy"), "0.9");
  assert_string_equal(cell(&t, 1, "loss"), "0.25");
  assert_string_equal(cell(&t, 1, "accuracy"), "");
  assert_string_equal(cell(&t, 0, "neurons"), "7");
  assert_string_equal(cell(&t, 0, "training.lr"), "0.5");
  assert_string_equal(cell(&t, 0, "model.name"), "dense_784_4_10");
  assert_string_equal(cell(&t, 1, "experiment.seed"), "2");
  assert_string_equal(cell(&t, 0, "hash"), hash.hex);
  assert_string_equal(cell(&t, 0, "clustering"), "");
  assert_string_equal(cell(&t, 0, "folder"), "runs/x/seed_0");
  assert_string_equal(cell(&t, 0, "hosts"), "n1*2, n2*2");
  assert_string_equal(cell(&t, 0, "time_s"), "1.5");
  assert_int_equal(coh_table_column(&t, "experiment.quiet"),
                   t.n_col);                                    /* changes no number */
  assert_true(coh_table_column(&t, "accuracy") == t.n_col - 1); /* new ones at the end */
  assert_true(coh_table_column(&t, "hash") < coh_table_column(&t, "loss"));
  assert_true(coh_table_column(&t, "training.lr") < coh_table_column(&t, "hash"));
  coh_table_free(&t);
  coh_measures_free(&m);
}

static void test_runs_of_one_pack_and_another_clustering(void **state) {
  (void)state;
  enum { N = 100 };
  static coh_config cfgs[N];
  coh_row rows[N];
  coh_table t;
  remove(runs_csv());
  for (int i = 0; i < N; i++) {
    configure("training.lr=0.5", NULL);
    cfg.experiment.seed = i;
    cfgs[i] = cfg;
    rows[i] = row_of(NULL, "done");
    rows[i].cfg = cfgs + i;
  }
  OK(coh_runs_put(sweep(), N, rows, &err));
  rows[3].hosts = "again";
  OK(coh_runs_put(sweep(), N, rows, &err));
  memset(rows[5].clustering.hex, 'c', 32);
  OK(coh_runs_put(sweep(), 1, rows + 5, &err)); /* clustered anew: a row of its own */
  OK(coh_runs_put(sweep(), 0, NULL, &err));
  OK(coh_table_read(runs_csv(), &t, &err));
  assert_int_equal(t.n_row, N + 1);
  for (int i = 0; i < N; i++)
    assert_int_equal(atoi(cell(&t, (size_t)i, "experiment.seed")), i);
  assert_string_equal(cell(&t, 3, "hosts"), "again");
  assert_string_equal(cell(&t, N, "experiment.seed"), "5");
  coh_table_free(&t);
  rows[1].cfg = rows[0].cfg;
  assert_int_equal(coh_runs_put(sweep(), 2, rows, &err), COH_EBUG);
}

/* The status in the only row, after a row of this one was put. */
static const char *status_after(const char *status, const coh_measures *m) {
  static char text[32];
  coh_table t;
  coh_row row = row_of(m, status);
  row.seconds = m ? 1.5 : (double)NAN;
  OK(coh_runs_put(sweep(), 1, &row, &err));
  OK(coh_table_read(runs_csv(), &t, &err));
  assert_int_equal(t.n_row, 1);
  snprintf(text, sizeof text, "%s %s %s", cell(&t, 0, "status"), cell(&t, 0, "time_s"),
           coh_table_column(&t, "loss") < t.n_col ? cell(&t, 0, "loss") : "");
  coh_table_free(&t);
  return text;
}

static void test_a_done_row_is_replaced_by_done_ones_only(void **state) {
  (void)state;
  coh_measures m = {0};
  remove(runs_csv());
  configure(NULL, NULL);
  assert_string_equal(status_after("stopped", NULL), "stopped  ");
  assert_string_equal(status_after("failed", NULL), "failed  ");
  OK(coh_measures_add(&m, "loss", 0.5, &err));
  assert_string_equal(status_after("done", &m), "done 1.5 0.5");
  assert_string_equal(status_after("failed", NULL), "done 1.5 0.5");
  assert_string_equal(status_after("stopped", NULL), "done 1.5 0.5");
  OK(coh_measures_add(&m, "loss", 0.25, &err));
  assert_string_equal(status_after("done", &m), "done 1.5 0.25");
  coh_measures_free(&m);
}

static void test_inputs_of_a_row(void **state) {
  (void)state;
  static const char *const cases[][2] = {{NULL, ""},
                                         {"", ""},
                                         {"\n\n", ""},
                                         {"a=1\n", "a=1"},
                                         {"a=1\nb=2\n", "a=1; b=2"},
                                         {"a=1\n\nb=\"2\",3", "a=1; b=\"2\",3"}};
  coh_table t;
  remove(runs_csv());
  configure(NULL, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    coh_row row = row_of(NULL, "done");
    row.inputs = cases[i][0];
    OK(coh_runs_put(sweep(), 1, &row, &err));
    OK(coh_table_read(runs_csv(), &t, &err));
    assert_string_equal(cell(&t, 0, "inputs"), cases[i][1]);
    assert_int_equal(coh_table_column(&t, "inputs"),
                     coh_table_column(&t, "clustering") + 1);
    coh_table_free(&t);
  }
}

static void test_runs_of_two_jobs_share_columns(void **state) {
  (void)state;
  coh_table t;
  remove(runs_csv());
  configure(NULL, NULL);
  coh_row row = row_of(NULL, "done");
  OK(coh_runs_put(sweep(), 1, &row, &err));
  coh_config_defaults(&cfg, COH_JOB_EXTRACT);
  OK(coh_config_hash(&cfg, COH_SCOPE_RUN, "", &hash, &err));
  row = row_of(NULL, "done");
  OK(coh_config_hash(&cfg, COH_SCOPE_CLUSTERING, "", &row.clustering, &err));
  OK(coh_runs_put(sweep(), 1, &row, &err));
  OK(coh_table_read(runs_csv(), &t, &err));
  assert_int_equal(t.n_row, 2);
  assert_string_equal(cell(&t, 0, "extraction.gamma"), "");
  assert_true(*cell(&t, 1, "extraction.gamma") != '\0');
  coh_table_free(&t);
}

static void test_damaged_runs_csv_stays(void **state) {
  (void)state;
  configure(NULL, NULL);
  coh_row row = row_of(NULL, "done");
  write_text(runs_csv(), "a,b\n1,2\n");
  assert_int_equal(coh_runs_put(sweep(), 1, &row, &err), COH_EDATA);
  says("runs.csv");
  assert_string_equal(contents(runs_csv()), "a,b\n1,2\n");
  write_text(runs_csv(), "hash,experiment.seed,clustering\n1,2\n");
  assert_int_equal(coh_runs_put(sweep(), 1, &row, &err), COH_EDATA);
  says("runs.csv:2");
  says("mend it or move it away");
  remove(runs_csv());
}

static void test_damaged_runs_csv_is_known_before_the_work(void **state) {
  (void)state;
  static const char *const bad[] = {"", "a,b\n1,2\n", "hash,experiment.seed\n",
                                    "hash,experiment.seed,clustering\n1,2\n"};
  configure(NULL, NULL);
  coh_row row = row_of(NULL, "done");
  remove(runs_csv());
  OK(coh_runs_check(sweep(), &err));
  OK(coh_runs_put(sweep(), 1, &row, &err));
  OK(coh_runs_check(sweep(), &err));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_text(runs_csv(), bad[i]);
    assert_int_equal(coh_runs_check(sweep(), &err), COH_EDATA);
    says(runs_csv());
    says("mend it or move it away");
  }
  remove(runs_csv());
}

/* Several processes put rows at once: none is lost. */
static void test_processes_put_at_once(void **state) {
  (void)state;
  enum { CHILDREN = 4, EACH = 10 };
  coh_table t;
  const char *folder = sweep();
  remove(runs_csv());
  for (int c = 0; c < CHILDREN; c++)
    if (fork() == 0) {
      int rc = COH_OK;
      for (int i = 0; i < EACH && rc == COH_OK; i++) {
        configure(NULL, NULL);
        cfg.experiment.seed = c * EACH + i;
        coh_row row = row_of(NULL, "done");
        rc = coh_runs_put(folder, 1, &row, &err);
      }
      _exit(rc != COH_OK);
    }
  for (int c = 0, status; c < CHILDREN; c++) {
    assert_true(wait(&status) > 0);
    assert_int_equal(status, 0);
  }
  OK(coh_table_read(runs_csv(), &t, &err));
  assert_int_equal(t.n_row, CHILDREN * EACH);
  coh_table_free(&t);
}

static void test_full_disk_keeps_the_old_rows(void **state) {
  (void)state;
  char folder[320], path[340], big[20000];
  snprintf(folder, sizeof folder, "%s", scratch("small"));
  snprintf(path, sizeof path, "%s/runs.csv", folder);
  assert_int_equal(mkdir(folder, 0777), 0);
  if (mount("none", folder, "tmpfs", 0, "size=16k") != 0) skip();
  configure(NULL, NULL);
  coh_row row = row_of(NULL, "done");
  OK(coh_runs_put(folder, 1, &row, &err));
  char *old = strdup(contents(path));
  memset(big, 'x', sizeof big);
  big[sizeof big - 1] = '\0';
  row.hosts = big;
  assert_int_equal(coh_runs_put(folder, 1, &row, &err), COH_EIO);
  assert_string_equal(contents(path), old);
  assert_int_equal(scratch_count(folder), 2); /* runs.csv and lock, no temporary file */
  free(old);
  umount2(folder, MNT_DETACH);
}

/* ---- manifest -------------------------------------------------------------------- */

static json_t *manifest_at(const char *path) {
  json_error_t e;
  json_t *root = json_load_file(path, 0, &e);
  if (!root) fail_msg("%s: %s", path, e.text);
  return root;
}

static const char *text_at(const json_t *root, const char *key) {
  const char *text = json_string_value(json_object_get(root, key));
  if (!text) fail_msg("no text '%s' in the manifest", key);
  return text;
}

static void write_manifest(const char *status) {
  coh_manifest *m;
  char hosts[300], name[256] = "";
  OK(coh_manifest_create(scratch("manifest.json"), MPI_COMM_SELF, "train", &hash,
                         "cohort run \"a\\b\".ini x=\xff", &m, &err));
  gethostname(name, sizeof name - 1);
  snprintf(hosts, sizeof hosts, "%s*1", name);
  assert_string_equal(coh_manifest_hosts(m), hosts);
  OK(coh_manifest_write(m, "running", &err));
  if (status) OK(coh_manifest_write(m, status, &err));
  coh_manifest_destroy(m);
}

static void test_manifest(void **state) {
  (void)state;
  configure(NULL, NULL);
  write_manifest(NULL);
  json_t *root = manifest_at(scratch("manifest.json"));
  assert_string_equal(text_at(root, "status"), "running");
  assert_true(json_is_null(json_object_get(root, "ended")));
  assert_int_equal(json_integer_value(json_object_get(root, "resumed")), 0);
  assert_string_equal(text_at(root, "command"), "cohort run \"a\\b\".ini x=?");
  assert_string_equal(text_at(root, "hash"), hash.hex);
  char *started = strdup(text_at(root, "started"));
  assert_int_equal(strlen(started), 20);
  json_t *versions = json_object_get(root, "versions");
  assert_string_equal(text_at(versions, "cohort"), COH_VERSION);
  assert_non_null(strstr(text_at(versions, "mpi"), "MPI"));
  assert_non_null(strchr(text_at(versions, "hdf5"), '.'));
  assert_true(*text_at(versions, "compiler") && *text_at(versions, "git"));
  json_decref(root);
  write_manifest("done"); /* the run goes on */
  root = manifest_at(scratch("manifest.json"));
  assert_string_equal(text_at(root, "status"), "done");
  assert_string_equal(text_at(root, "started"), started);
  assert_int_equal(strlen(text_at(root, "ended")), 20);
  assert_int_equal(json_integer_value(json_object_get(root, "resumed")), 1);
  json_decref(root);
  configure("training.lr=0.7", NULL); /* another run starts anew */
  write_manifest("done");
  root = manifest_at(scratch("manifest.json"));
  assert_int_equal(json_integer_value(json_object_get(root, "resumed")), 0);
  json_decref(root);
  free(started);
}

static void test_manifest_is_done(void **state) {
  (void)state;
  static const char *const bad[] = {"",   "{",    "[]",
                                    "3",  "null", "{\"status\": \"done\"}",
                                    "{}", "\xff", "{\"hash\": 3, \"status\": 4}"};
  char path[COH_PATH];
  snprintf(path, sizeof path, "%s", scratch("manifest.json"));
  configure(NULL, NULL);
  remove(path);
  assert_false(coh_manifest_is_done(path, &hash));
  write_manifest(NULL);
  assert_false(coh_manifest_is_done(path, &hash));
  write_manifest("failed");
  assert_false(coh_manifest_is_done(path, &hash));
  write_manifest("done");
  assert_true(coh_manifest_is_done(path, &hash));
  configure("training.lr=0.7", NULL);
  assert_false(coh_manifest_is_done(path, &hash));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_text(path, bad[i]);
    assert_false(coh_manifest_is_done(path, &hash));
  }
}

static void test_damaged_manifest_is_replaced(void **state) {
  (void)state;
  static const char *const bad[] = {"", "{", "[]", "{\"hash\": 3}", "\xff\xfe"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_text(scratch("manifest.json"), bad[i]);
    write_manifest("done");
    json_decref(manifest_at(scratch("manifest.json")));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_labels),
      cmocka_unit_test(test_sweep_folder),
      cmocka_unit_test(test_run_folder_and_ini),
      cmocka_unit_test(test_killed_writers_leftovers_are_removed),
      cmocka_unit_test(test_other_parameters_may_change),
      cmocka_unit_test(test_changed_run_is_refused),
      cmocka_unit_test(test_second_open_is_refused),
      cmocka_unit_test(test_lock_ends_with_its_process),
      cmocka_unit_test(test_metrics_round_trip),
      cmocka_unit_test(test_metrics_of_nothing),
      cmocka_unit_test(test_metrics_truncate_and_go_on),
      cmocka_unit_test(test_metrics_file_that_is_none),
      cmocka_unit_test(test_metrics_open_with_pandas),
      cmocka_unit_test(test_table_reads_rfc4180),
      cmocka_unit_test(test_table_refuses_what_is_no_table),
      cmocka_unit_test(test_any_cell_comes_back),
      cmocka_unit_test(test_runs_are_put_and_replaced),
      cmocka_unit_test(test_runs_of_one_pack_and_another_clustering),
      cmocka_unit_test(test_a_done_row_is_replaced_by_done_ones_only),
      cmocka_unit_test(test_inputs_of_a_row),
      cmocka_unit_test(test_runs_of_two_jobs_share_columns),
      cmocka_unit_test(test_damaged_runs_csv_stays),
      cmocka_unit_test(test_damaged_runs_csv_is_known_before_the_work),
      cmocka_unit_test(test_processes_put_at_once),
      cmocka_unit_test(test_full_disk_keeps_the_old_rows),
      cmocka_unit_test(test_manifest),
      cmocka_unit_test(test_manifest_is_done),
      cmocka_unit_test(test_damaged_manifest_is_replaced),
  };
  MPI_Init(NULL, NULL);
  int failed = cmocka_run_group_tests(tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed != 0;
}
