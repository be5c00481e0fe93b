/* test_pack.c - packs, attempts and tables of a sub-batch (src/store). */
#include "cohort/store.h"

#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "scratch.h"

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

static void says(const char *part) {
  if (!strstr(err.text, part)) fail_msg("'%s' is not in: %s", part, err.text);
}

static void write_text(const char *path, const char *text) {
  OK(coh_file_write(path, text, strlen(text), &err));
}

static char *contents(const char *path) {
  static char *text;
  size_t len;
  free(text);
  text = NULL;
  OK(coh_file_read(path, &text, &len, &err));
  return text;
}

/* A new, empty folder of that name. */
static const char *folder(const char *name) {
  const char *path = scratch(name);
  OK(coh_mkdirs(path, &err));
  return path;
}

/* ---- pack.json ------------------------------------------------------------------- */

static char said[] = "loss is \"nan\"\nat step 3 \xff";
static coh_pack_run two[2] = {{.index = 7,
                               .run_id = "0123456789abcdef0123456789abcdef",
                               .hash = "ffff456789abcdef0123456789abcdef",
                               .seed = -3,
                               .first = 0,
                               .members = 4,
                               .status = "done"},
                              {.index = 9,
                               .run_id = "1123456789abcdef0123456789abcdef",
                               .hash = "",
                               .seed = INT64_MAX,
                               .first = 4,
                               .members = 1,
                               .status = "failed",
                               .error = said}};
static const coh_pack sample = {
    .hash = "aa", .sweep = "bb", .token = "cc", .attempt = 12, .n = 2, .run = two};

static void test_pack_round_trip(void **state) {
  (void)state;
  coh_pack back;
  OK(coh_pack_write(folder("p"), &sample, &err));
  OK(coh_pack_read(scratch("p"), &back, &err));
  assert_string_equal(back.hash, "aa");
  assert_string_equal(back.sweep, "bb");
  assert_string_equal(back.token, "cc");
  assert_string_equal(back.table, "");
  assert_int_equal(back.attempt, 12);
  assert_int_equal(back.n, 2);
  assert_int_equal(back.run[0].index, 7);
  assert_int_equal(back.run[0].seed, -3);
  assert_null(back.run[0].error);
  assert_string_equal(back.run[1].run_id, two[1].run_id);
  assert_true(back.run[1].seed == INT64_MAX);
  assert_int_equal(back.run[1].first, 4);
  assert_string_equal(back.run[1].status, "failed");
  assert_string_equal(back.run[1].error, "loss is \"nan\"\nat step 3 ?");
  coh_pack_free(&back);
  coh_pack_free(&back);
  coh_pack_free(NULL);
  write_text(scratch("p/runs.csv"), "run\n7\n");
  OK(coh_pack_write(scratch("p"), &sample, &err));
  OK(coh_pack_read(scratch("p"), &back, &err));
  coh_hash table;
  OK(coh_hash_file(scratch("p/runs.csv"), &table, &err));
  assert_string_equal(back.table, table.hex);
  coh_pack_free(&back);
}

/* Cut anywhere, or any byte changed: told, with the name of the file. */
static void test_damaged_pack_is_refused(void **state) {
  (void)state;
  coh_pack back;
  char path[COH_PATH];
  snprintf(path, sizeof path, "%s/pack.json", folder("d"));
  OK(coh_pack_write(scratch("d"), &sample, &err));
  char *whole = strdup(contents(path));
  size_t len = strlen(whole);
  for (size_t cut = 0; cut < len; cut++) {
    OK(coh_file_write(path, whole, cut, &err));
    assert_int_equal(coh_pack_read(scratch("d"), &back, &err), COH_EDATA);
    says("d/pack.json");
    assert_null(back.run);
  }
  for (size_t i = 0; i < len; i++) {
    char was = whole[i];
    whole[i] = was == '1' ? '2' : '1';
    OK(coh_file_write(path, whole, len, &err));
    assert_int_equal(coh_pack_read(scratch("d"), &back, &err), COH_EDATA);
    whole[i] = was;
  }
  free(whole);
  write_text(path, "{\"format\": 2}");
  assert_int_equal(coh_pack_read(scratch("d"), &back, &err), COH_EDATA);
  says("format 2");
  assert_int_equal(coh_pack_read(scratch("nowhere"), &back, &err), COH_EIO);
}

/* ---- attempts -------------------------------------------------------------------- */

static const coh_attempt_info info = {.slurm_job = "12_3", .runs = 25, .sweep = "ab"};

static void test_attempts_are_numbered(void **state) {
  (void)state;
  coh_attempt one, two_, last;
  double age;
  const char *sub = folder("a/1-2");
  OK(coh_attempt_last(sub, NULL, &last, &age, &err));
  assert_int_equal(last.number, 0);
  OK(coh_attempt_begin(sub, &info, &one, &err));
  assert_int_equal(one.number, 1);
  OK(coh_attempt_beat(&one, &err));
  OK(coh_attempt_begin(sub, &info, &two_, &err));
  assert_int_equal(two_.number, 2);
  assert_string_not_equal(one.token, two_.token);
  assert_int_equal(coh_attempt_beat(&one, &err), COH_ETAKEN);
  says("overtaken by attempt 2");
  OK(coh_attempt_beat(&two_, &err));
  OK(coh_attempt_end(&one, "failed", &err)); /* its own file only */
  OK(coh_attempt_last(sub, NULL, &last, &age, &err));
  assert_int_equal(last.number, 2);
  assert_string_equal(last.status, "running");
  assert_string_equal(last.slurm_job, "12_3");
  assert_string_equal(last.host, two_.host);
  assert_int_equal(last.runs, 25);
  assert_true(age < 60);
  OK(coh_attempt_end(&two_, "done", &err));
  OK(coh_attempt_last(sub, NULL, &last, &age, &err));
  assert_string_equal(last.status, "done");
  assert_int_equal(strlen(last.ended), 20);
  struct timespec old[2] = {{.tv_sec = time(NULL) - 1000}, {.tv_sec = time(NULL) - 1000}};
  utimensat(0, two_.path, old, 0);
  OK(coh_attempt_last(sub, NULL, &last, &age, &err));
  assert_true(age > 990 && age < 1100);
  assert_int_equal(scratch_count(scratch("a/1-2/attempts")), 2); /* nothing else left */
  remove(two_.path);
  assert_int_equal(coh_attempt_beat(&two_, &err), COH_ETAKEN);
  says("gone");
}

static void test_damaged_attempt_is_remarked(void **state) {
  (void)state;
  coh_attempt last, next;
  double age;
  const char *sub = folder("b/1-1");
  OK(coh_mkdirs(scratch("b/1-1/attempts"), &err));
  write_text(scratch("b/1-1/attempts/4.json"), "{\"status\":");
  write_text(scratch("b/1-1/attempts/x9.json"), "");
  write_text(scratch("b/1-1/attempts/9.json.old"), "");
  OK(coh_attempt_last(sub, NULL, &last, &age, &err));
  assert_int_equal(last.number, 0);
  OK(coh_attempt_begin(sub, &info, &next, &err)); /* the number is taken nevertheless */
  assert_int_equal(next.number, 5);
}

/* Twenty that begin at once get twenty numbers, and only the highest goes on. */
static void test_attempts_at_once(void **state) {
  (void)state;
  enum { CHILDREN = 20 };
  int gate[2], status;
  char go;
  OK(coh_mkdirs(scratch("c/1-1"), &err));
  assert_int_equal(pipe(gate), 0);
  for (int c = 0; c < CHILDREN; c++)
    if (fork() == 0) {
      coh_attempt mine;
      close(gate[1]);
      bool fine = read(gate[0], &go, 1) == 0 &&
                  !coh_attempt_begin(scratch("c/1-1"), &info, &mine, &err) &&
                  strstr(contents(mine.path), mine.token);
      _exit(fine ? (int)mine.number : 99);
    }
  close(gate[1]); /* off */
  close(gate[0]);
  bool seen[CHILDREN + 1] = {false};
  for (int c = 0; c < CHILDREN; c++) {
    assert_true(wait(&status) > 0);
    int number = WEXITSTATUS(status);
    assert_in_range(number, 1, CHILDREN);
    assert_false(seen[number]);
    seen[number] = true;
  }
  assert_int_equal(scratch_count(scratch("c/1-1/attempts")), CHILDREN);
}

/* ---- work ------------------------------------------------------------------------ */

static const char *in(const char *base, const char *name) {
  static char path[4][COH_PATH + 64];
  static int turn;
  char *out = path[turn++ % 4];
  snprintf(out, sizeof path[0], "%s/%s", base, name);
  return out;
}

static void test_work_is_adopted(void **state) {
  (void)state;
  char one[COH_PATH], three[COH_PATH], other[COH_PATH];
  const char *sub = folder("w/1-1");
  OK(coh_pack_open_work(sub, "lenet-0123456789", 1, one, &err));
  assert_string_equal(one, in(sub, "work/lenet-0123456789.a1"));
  write_text(in(one, "checkpoint.h5"), "old");
  write_text(in(one, "checkpoint_students.h5"), "c2");
  write_text(in(one, "finish.3.h5"), "f");
  write_text(in(one, "metrics.csv"), "m");
  write_text(in(one, "model.h5"), "no");
  write_text(in(one, ".checkpoint.h5.tmp"), "no");
  OK(coh_pack_open_work(sub, "lenet-012345678", 2, other, &err)); /* another name */
  assert_int_equal(scratch_count(other), 0);
  OK(coh_pack_open_work(sub, "lenet-0123456789", 3, three, &err));
  assert_int_equal(scratch_count(three), 4);
  assert_string_equal(contents(in(three, "metrics.csv")), "m");
  write_text(in(one, "checkpoint.h5"), "ghost"); /* the ghost goes on */
  assert_string_equal(contents(in(three, "checkpoint.h5")), "old");
  write_text(in(three, "checkpoint.h5"), "new");
  assert_string_equal(contents(in(one, "checkpoint.h5")), "ghost");
  OK(coh_pack_open_work(sub, "lenet-0123456789", 3, three, &err)); /* found again */
  assert_string_equal(contents(in(three, "checkpoint.h5")), "new");
  OK(coh_pack_open_work(sub, "lenet-0123456789", 2, one, &err)); /* not from the future */
  assert_string_equal(contents(in(one, "checkpoint.h5")), "ghost");
}

static void test_publish_once(void **state) {
  (void)state;
  char one[COH_PATH], two_[COH_PATH];
  bool lost;
  const char *sub = folder("u/1-1");
  OK(coh_pack_open_work(sub, "x", 1, one, &err));
  write_text(in(one, "checkpoint.h5"), "c");
  OK(coh_pack_open_work(sub, "x", 2, two_, &err));
  write_text(in(two_, "pack.json"), "two");
  write_text(in(two_, ".model.h5.tmp"), "left by a killed writer");
  OK(coh_pack_publish(two_, sub, "x", &lost, &err));
  assert_false(lost);
  assert_false(coh_file_exists(two_));
  assert_string_equal(contents(in(sub, "packs/x/pack.json")), "two");
  assert_int_equal(scratch_count(in(sub, "packs/x")), 2);
  write_text(in(one, "pack.json"), "one");
  OK(coh_pack_publish(one, sub, "x", &lost, &err)); /* the ghost comes too late */
  assert_true(lost);
  assert_false(coh_file_exists(one));
  assert_string_equal(contents(in(sub, "packs/x/pack.json")), "two");
  assert_int_equal(scratch_count(in(sub, "packs")), 1);
  assert_int_equal(coh_pack_publish(one, sub, "y", &lost, &err), COH_EIO);
}

static void test_clean(void **state) {
  (void)state;
  char path[COH_PATH];
  bool lost;
  const char *sub = folder("l/1-1");
  OK(coh_pack_clean(sub, 5, &err)); /* no work/ yet */
  for (unsigned a = 1; a <= 5; a++) OK(coh_pack_open_work(sub, "x.b", a, path, &err));
  OK(coh_pack_open_work(sub, "y", 1, path, &err));
  OK(coh_mkdirs(in(sub, "work/y.a2.tmp"), &err));
  OK(coh_mkdirs(in(sub, "work/y.a5.tmp"), &err));
  snprintf(path, sizeof path, "%s", in(sub, "work/x.b.a3"));
  write_text(in(path, "pack.json"), "{}");
  OK(coh_pack_publish(path, sub, "x.b", &lost, &err));
  OK(coh_pack_clean(sub, 5, &err));
  assert_int_equal(scratch_count(in(sub, "work")), 3);
  assert_true(coh_file_exists(in(sub, "work/x.b.a5"))); /* of a later or this attempt */
  assert_true(coh_file_exists(in(sub, "work/y.a5.tmp")));
  assert_true(coh_file_exists(in(sub, "work/y.a1"))); /* its pack is not published */
}

/* ---- tables of packs ------------------------------------------------------------- */

static coh_config cfg;

typedef struct rows_of {
  coh_measures common, rare;
  char folder[64];
} rows_of;

static int row_at(void *ctx, size_t i, coh_row *out, coh_error *e) {
  (void)e;
  static char id[33];
  rows_of *r = ctx;
  snprintf(id, sizeof id, "%032zx", i);
  cfg.training.lr = 1e-3 * (double)(i + 1);
  cfg.experiment.seed = (int64_t)i;
  bool bad = i % 10 == 3;
  *out = (coh_row){.cfg = &cfg,
                   .inputs = "a=1\nb=2\n",
                   .folder = "packs/x",
                   .status = bad ? "failed" : "done",
                   .measures = bad           ? NULL
                               : i % 10 == 7 ? &r->rare
                                             : &r->common,
                   .seconds = bad ? (double)NAN : 1.5,
                   .hosts = "n1*2",
                   .run_id = id,
                   .index = i + 100,
                   .member = 2 * i,
                   .members = 2,
                   .error = bad ? "not a number, at step 3" : NULL};
  memcpy(out->run.hex, id, sizeof id);
  return COH_OK;
}

static const char *cell(const coh_table *t, size_t row, const char *column) {
  size_t c = coh_table_column(t, column);
  if (c == t->n_col) fail_msg("no column %s", column);
  return t->cell[row * t->n_col + c];
}

static void configure(rows_of *r) {
  coh_config_defaults(&cfg, COH_JOB_TRAIN);
  OK(coh_config_set(&cfg, "dataset.name=mnist", &err));
  OK(coh_config_set(&cfg, "model.name=dense_784_5_10", &err));
  *r = (rows_of){0};
  OK(coh_measures_add(&r->common, "loss", 0.25, &err));
  OK(coh_measures_add(&r->common, "accuracy", 0.5, &err));
  OK(coh_measures_add(&r->rare, "loss", 0.125, &err));
  OK(coh_measures_add(&r->rare, "steps", 7, &err));
}

static void test_rows_are_written(void **state) {
  (void)state;
  rows_of r;
  coh_table t;
  configure(&r);
  OK(coh_runs_write(scratch("rows.csv"), 20, row_at, &r, &err));
  OK(coh_table_read(scratch("rows.csv"), &t, &err));
  assert_int_equal(t.n_row, 20);
  assert_string_equal(t.col[0], "run");
  assert_string_equal(t.col[1], "run_id");
  static const char *const tail[] = {
      "hash",  "clustering", "inputs",   "member", "members", "folder", "status",
      "error", "loss",       "accuracy", "steps",  "time_s",  "hosts"};
  for (size_t i = 0; i < 13; i++) assert_string_equal(t.col[t.n_col - 13 + i], tail[i]);
  assert_string_equal(cell(&t, 0, "run"), "100");
  assert_string_equal(cell(&t, 19, "member"), "38");
  assert_string_equal(cell(&t, 1, "training.lr"), "0.002");
  assert_string_equal(cell(&t, 1, "model.name"), "dense_784_5_10");
  assert_string_equal(cell(&t, 1, "inputs"), "a=1; b=2");
  assert_string_equal(cell(&t, 1, "steps"), "");
  assert_string_equal(cell(&t, 7, "steps"), "7");
  assert_string_equal(cell(&t, 7, "accuracy"), "");
  assert_string_equal(cell(&t, 3, "status"), "failed");
  assert_string_equal(cell(&t, 3, "error"), "not a number, at step 3");
  assert_string_equal(cell(&t, 3, "loss"), "");
  assert_string_equal(cell(&t, 3, "time_s"), "");
  assert_int_equal(coh_table_column(&t, "experiment.quiet"), t.n_col);
  assert_string_equal(cell(&t, 1, "dataset.file"), ""); /* may be an axis */
  coh_table_free(&t);
  OK(coh_runs_write(scratch("rows.csv"), 0, row_at, &r, &err));
  assert_int_equal(coh_runs_write(scratch("no/rows.csv"), 2, row_at, &r, &err), COH_EIO);
  coh_measures_free(&r.common);
  coh_measures_free(&r.rare);
}

/* A hundred thousand rows take seconds, not hours. */
static void test_many_rows(void **state) {
  (void)state;
  enum { N = 100000 };
  rows_of r;
  configure(&r);
  double start = coh_seconds();
  OK(coh_runs_write(scratch("many.csv"), N, row_at, &r, &err));
  double took = coh_seconds() - start;
  print_message("%d rows written in %.2f s\n", N, took);
  assert_true(took < 30);
  coh_measures_free(&r.common);
  coh_measures_free(&r.rare);
  remove(scratch("many.csv"));
}

/* ---- runs.csv of a sub-batch ----------------------------------------------------- */

typedef struct few {
  const size_t *index;
  const char *status, *measure;
  coh_measures m;
} few;

static int few_at(void *ctx, size_t i, coh_row *out, coh_error *e) {
  (void)e;
  static char id[33];
  few *f = ctx;
  snprintf(id, sizeof id, "%032zx", f->index[i] + 4096);
  coh_measures_free(&f->m);
  OK(coh_measures_add(&f->m, f->measure, (double)f->index[i], &err));
  *out = (coh_row){.cfg = &cfg,
                   .folder = f->measure,
                   .status = f->status,
                   .measures = &f->m,
                   .seconds = (double)NAN,
                   .hosts = "n1*2",
                   .run_id = id,
                   .index = f->index[i],
                   .member = i,
                   .members = 1,
                   .error = strcmp(f->status, "done") == 0 ? NULL : "why"};
  memcpy(out->run.hex, id, sizeof id);
  return COH_OK;
}

/* Publishes a pack of these runs, whose only measure has the pack's name. */
static void publish(const char *sub, const char *name, const char *status, size_t n,
                    const size_t *index) {
  char work[COH_PATH];
  bool lost;
  few f = {index, status, name, {0}};
  coh_pack pack = {.hash = "aa", .sweep = "bb", .token = "cc", .attempt = 1, .n = n};
  OK(coh_alloc(&pack.run, n, sizeof *pack.run, &err));
  for (size_t i = 0; i < n; i++) {
    pack.run[i] = (coh_pack_run){.index = index[i], .first = i, .members = 1};
    snprintf(pack.run[i].run_id, 33, "%032zx", index[i] + 4096);
    snprintf(pack.run[i].status, 16, "%s", status);
  }
  OK(coh_pack_open_work(sub, name, 1, work, &err));
  OK(coh_runs_write(in(work, "runs.csv"), n, few_at, &f, &err));
  OK(coh_pack_write(work, &pack, &err));
  OK(coh_pack_publish(work, sub, name, &lost, &err));
  assert_false(lost);
  coh_measures_free(&f.m);
  coh_pack_free(&pack);
}

static void note(void *ctx, coh_level level, const char *text) {
  (void)level;
  snprintf(ctx, 512, "%s", text);
}

static void test_collect(void **state) {
  (void)state;
  char said_[512] = "";
  const coh_sink sink = {note, said_};
  rows_of r;
  coh_table t;
  configure(&r);
  const char *sub = folder("s/2-3");
  OK(coh_runs_collect(sub, &sink, &err)); /* no packs yet: a header alone */
  publish(sub, "b", "done", 3, (const size_t[]){10, 12, 14});
  publish(sub, "a", "failed", 3, (const size_t[]){11, 12, 15});
  publish(sub, "c", "failed", 1, (const size_t[]){11});
  OK(coh_runs_collect(sub, &sink, &err));
  assert_string_equal(said_, "");
  OK(coh_table_read(in(sub, "runs.csv"), &t, &err));
  assert_int_equal(t.n_row, 5);
  static const char *const want[] = {"10", "11", "12", "14", "15"};
  for (size_t i = 0; i < 5; i++) assert_string_equal(cell(&t, i, "run"), want[i]);
  assert_string_equal(cell(&t, 2, "status"), "done");
  assert_string_equal(cell(&t, 2, "b"), "12");
  assert_string_equal(cell(&t, 2, "a"), "");
  assert_string_equal(cell(&t, 1, "a"), "11"); /* of two failed ones the first folder */
  assert_int_equal(coh_table_column(&t, "c"), t.n_col); /* holds nothing */
  assert_string_equal(t.col[t.n_col - 1], "hosts");
  assert_string_equal(t.col[t.n_col - 2], "time_s");
  assert_string_equal(t.col[t.n_col - 5], "error");
  coh_table_free(&t);
  assert_int_equal(scratch_count(sub), 3); /* no temporary file */
  OK(coh_file_write(in(sub, "packs/b/pack.json"), "{\"for", 5, &err));
  OK(coh_runs_collect(sub, &sink, &err));
  assert_non_null(strstr(said_, "packs/b/pack.json: truncated"));
  OK(coh_table_read(in(sub, "runs.csv"), &t, &err));
  assert_int_equal(t.n_row, 3);
  coh_table_free(&t);
  coh_measures_free(&r.common);
  coh_measures_free(&r.rare);
}

static void test_sub_batch_names(void **state) {
  (void)state;
  size_t k, n;
  assert_true(coh_sub_batch_name("3-16", &k, &n));
  assert_int_equal(k, 3);
  assert_int_equal(n, 16);
  static const char *const bad[] = {"",     "3",    "3-",   "-3",
                                    "0-1",  "1-0",  "4-3",  "1-2x",
                                    "1--2", "+1-2", "01-2", "1-99999999999999999999",
                                    "1-2-3"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_false(coh_sub_batch_name(bad[i], &k, &n));
  for (size_t i = 1; i <= 12; i++) {
    char name[32];
    snprintf(name, sizeof name, "q/%zu-12", i);
    folder(name);
  }
  folder("q/1-3");
  folder("q/other");
  write_text(scratch("q/2-3"), "a file");
  coh_sub_folder *f;
  OK(coh_sub_folders(scratch("q"), &f, &n, &err));
  assert_int_equal(n, 13);
  assert_string_equal(f[0].name, "1-3");
  assert_string_equal(f[12].name, "12-12");
  free(f);
  OK(coh_sub_folders(scratch("nowhere"), &f, &n, &err));
  assert_int_equal(n, 0);
  free(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pack_round_trip),
      cmocka_unit_test(test_damaged_pack_is_refused),
      cmocka_unit_test(test_attempts_are_numbered),
      cmocka_unit_test(test_damaged_attempt_is_remarked),
      cmocka_unit_test(test_attempts_at_once),
      cmocka_unit_test(test_work_is_adopted),
      cmocka_unit_test(test_publish_once),
      cmocka_unit_test(test_clean),
      cmocka_unit_test(test_rows_are_written),
      cmocka_unit_test(test_many_rows),
      cmocka_unit_test(test_collect),
      cmocka_unit_test(test_sub_batch_names),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
