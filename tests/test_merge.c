/* test_merge.c - one table of all runs of a sweep (src/store/merge.c): what it takes from
 * sub-batches in any state, and that nothing depends on their order. */
#include "cohort/net.h"

#include <setjmp.h>
#include <cmocka.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sweepdata.h"

static coh_error err;
#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

static char *contents(const char *path) {
  char *text;
  size_t len;
  OK(coh_file_read(path, &text, &len, &err));
  return text;
}

static const char *in(const char *base, const char *name) {
  static char path[8][COH_PATH];
  static int turn;
  char *out = path[turn++ % 8];
  char whole[COH_PATH]; /* base or name may be an earlier answer */
  snprintf(whole, sizeof whole, "%.3000s/%.1000s", base, name);
  return memcpy(out, whole, sizeof whole);
}

static void remove_folder(const char *path) {
  nftw(path, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- what the sink was told ------------------------------------------------------ */

static coh_text told;
static void note(void *ctx, coh_level level, const char *text) {
  (void)ctx, (void)level;
  coh_text_add(&told, "%s\n", text);
}
static const coh_sink sink = {note, NULL};

static void says(const char *part) {
  if (!told.data || !strstr(told.data, part))
    fail_msg("'%s' is not in: %s", part, told.data ? told.data : "");
}

/* ---- merging the runs 0..R-1 ----------------------------------------------------- */

static coh_hash *ids;
static size_t R;

static void sweep_of(size_t runs) {
  free(ids);
  R = runs;
  OK(coh_alloc(&ids, R, sizeof *ids, &err));
  for (size_t i = 0; i < R; i++) snprintf(ids[i].hex, 33, "%s", fake_id(i));
}

static coh_merge_result merge(const char *out, size_t n, const char *const *folders,
                              bool copy) {
  coh_merge_result result;
  const coh_merge_spec spec = {.n_in = n,
                               .in = folders,
                               .out = out,
                               .runs = R,
                               .id = ids,
                               .sweep = "thissweep",
                               .copy = copy};
  coh_text_free(&told);
  told = (coh_text){0};
  OK(coh_merge_runs(&spec, &sink, &result, &err));
  return result;
}

static coh_merge_result merge_one(const char *folder) {
  return merge(folder, 1, (const char *const[]){folder}, false);
}

static const char *cell(const coh_table *t, size_t row, const char *column) {
  size_t c = coh_table_column(t, column);
  if (c == t->n_col) fail_msg("no column %s", column);
  return t->cell[row * t->n_col + c];
}

static void publish(const char *sub, const char *name, size_t n, const fake_run *run) {
  fake_publish(sub, name, "thissweep", n, run, 1.5, "n1*2");
}

/* ---- plain cases ----------------------------------------------------------------- */

static void test_complete(void **state) {
  (void)state;
  coh_table t;
  const char *s = scratch("complete");
  sweep_of(5);
  publish(in(s, "2-2"), "a", 2, (fake_run[]){{.index = 2, .value = 1}, {.index = 4}});
  publish(in(s, "2-2"), "b", 1, (fake_run[]){{.index = 3, .value = 3}});
  publish(in(s, "1-2"), "a", 2, (fake_run[]){{.index = 0}, {.index = 1}});
  coh_merge_result r = merge_one(s);
  assert_string_equal(r.state, "ddddd");
  assert_int_equal(r.done, 5);
  assert_int_equal(r.missing + r.failed + r.conflict + r.doubled + r.foreign + r.damaged,
                   0);
  assert_null(told.data);
  coh_merge_free(&r);
  coh_merge_free(&r);
  OK(coh_table_read(in(s, "runs.csv"), &t, &err));
  assert_int_equal(t.n_row, 5);
  static const char *const tail[] = {"hash",  "clustering", "inputs", "status",
                                     "error", "loss",       "rare",   "time_s",
                                     "hosts", "sub_batch",  "folder"};
  for (size_t i = 0; i < 11; i++) assert_string_equal(t.col[t.n_col - 11 + i], tail[i]);
  assert_string_equal(t.col[0], "run");
  assert_string_equal(t.col[1], "run_id");
  assert_string_equal(cell(&t, 2, "loss"), "1");
  assert_string_equal(cell(&t, 3, "loss"), "");
  assert_string_equal(cell(&t, 3, "rare"), "3");
  assert_string_equal(cell(&t, 3, "sub_batch"), "2-2");
  assert_string_equal(cell(&t, 3, "folder"), "packs/b");
  assert_string_equal(cell(&t, 4, "run"), "4");
  assert_string_equal(cell(&t, 4, "experiment.seed"), "4");
  coh_table_free(&t);
  assert_false(coh_file_exists(in(s, "runs.h5"))); /* no pack has a model */
}

static void test_missing_failed_and_retried(void **state) {
  (void)state;
  coh_table t;
  const char *s = scratch("missing");
  sweep_of(6);
  publish(in(s, "1-2"), "a", 2, (fake_run[]){{.index = 0}, {.index = 1, .failed = true}});
  publish(in(s, "1-2"), "b", 1, (fake_run[]){{.index = 1, .value = 0.5}}); /* --retry */
  publish(in(s, "2-2"), "a", 1, (fake_run[]){{.index = 5, .failed = true}});
  OK(coh_mkdirs(in(s, "2-2/work/c.a1"), &err));
  OK(coh_mkdirs(in(s, "logs"), &err));
  coh_merge_result r = merge_one(s);
  assert_string_equal(r.state, "dd---f");
  assert_int_equal(r.missing, 3);
  assert_int_equal(r.failed, 1);
  assert_int_equal(r.doubled, 0);
  coh_merge_free(&r);
  OK(coh_table_read(in(s, "runs.csv"), &t, &err));
  assert_int_equal(t.n_row, 3);
  assert_string_equal(cell(&t, 1, "loss"), "0.5");
  assert_string_equal(cell(&t, 1, "error"), "");
  assert_string_equal(cell(&t, 2, "status"), "failed");
  assert_string_equal(cell(&t, 2, "error"), "the loss is not a number");
  coh_table_free(&t);
}

/* The same sub-batches cut anew with another n, and run in another place. */
static void test_other_n_and_doubled(void **state) {
  (void)state;
  coh_table t;
  const char *s = scratch("twice"), *other = scratch("elsewhere");
  sweep_of(4);
  publish(in(s, "1-2"), "a", 2, (fake_run[]){{.index = 0}, {.index = 1}});
  publish(in(s, "2-3"), "b", 2, (fake_run[]){{.index = 1}, {.index = 2}});
  fake_publish(in(other, "1-1"), "c", "anothersweep", 2,
               (fake_run[]){{.index = 77, .id = fake_id(3)}, {.index = 2}}, 9, "n2*1");
  coh_merge_result r = merge(scratch("both"), 2, (const char *const[]){s, other}, false);
  assert_string_equal(r.state, "dddd");
  assert_int_equal(r.doubled, 2);
  assert_int_equal(r.foreign, 0);
  coh_merge_free(&r);
  OK(coh_table_read(in(scratch("both"), "runs.csv"), &t, &err));
  assert_string_equal(cell(&t, 1, "sub_batch"), "1-2"); /* the least */
  assert_string_equal(cell(&t, 2, "sub_batch"), "1-1");
  assert_string_equal(cell(&t, 2, "hosts"), "n2*1");
  assert_string_equal(cell(&t, 3, "run"), "3"); /* its place in this sweep */
  coh_table_free(&t);
}

static void test_conflict(void **state) {
  (void)state;
  coh_table t;
  const char *s = scratch("conflict");
  sweep_of(2);
  publish(in(s, "1-1"), "a", 2, (fake_run[]){{.index = 0}, {.index = 1, .value = 0.25}});
  publish(in(s, "1-2"), "b", 2, (fake_run[]){{.index = 0}, {.index = 1, .value = 0.75}});
  for (int again = 0; again < 2; again++) {
    const char *from = again ? scratch("conflict_out") : s;
    coh_merge_result r =
        merge(scratch("conflict_out"), 1, (const char *const[]){from}, false);
    assert_string_equal(r.state, "dc");
    assert_int_equal(r.conflict, 1);
    says(
        "run 1 has two results: loss is '0.25' in 1-1/packs/a and '0.75' in 1-2/packs/b");
    coh_merge_free(&r);
    OK(coh_table_read(in(scratch("conflict_out"), "runs.csv"), &t, &err));
    assert_int_equal(t.n_row, 3);
    assert_string_equal(cell(&t, 0, "status"), "done");
    assert_string_equal(cell(&t, 1, "status"), "conflict");
    assert_string_equal(cell(&t, 2, "status"), "conflict");
    coh_table_free(&t);
  }
}

static void test_foreign_is_named(void **state) {
  (void)state;
  const char *s = scratch("foreign");
  sweep_of(2);
  publish(in(s, "1-2"), "a", 1, (fake_run[]){{.index = 0}});
  fake_publish(in(s, "2-2"), "b", "anothersweep", 2,
               (fake_run[]){{.index = 1, .id = fake_id(900)}, {.index = 1}}, 1, "n");
  coh_merge_result r = merge_one(s);
  assert_string_equal(r.state, "dd");
  assert_int_equal(r.foreign, 1);
  says(
      "/foreign/2-2' has 1 run of another sweep, left out (this sweep is thissweep, that "
      "one is anotherswe)");
  coh_merge_free(&r);
}

static void test_damaged_packs_are_named(void **state) {
  (void)state;
  const char *s = scratch("damaged");
  sweep_of(4);
  const char *const names[] = {"a", "b", "c", "d"};
  for (size_t i = 0; i < 4; i++)
    publish(in(s, "1-1"), names[i], 1, (fake_run[]){{.index = i}});
  char *text = contents(in(s, "1-1/packs/a/runs.csv"));
  OK(coh_file_write(in(s, "1-1/packs/a/runs.csv"), text, strlen(text) - 3, &err));
  text[strlen(text) - 3] = '3'; /* n1*2 has become n1*3 */
  OK(coh_file_write(in(s, "1-1/packs/d/runs.csv"), text, strlen(text), &err));
  free(text);
  remove(in(s, "1-1/packs/b/pack.json"));
  coh_merge_result r = merge_one(s);
  assert_string_equal(r.state, "--d-");
  assert_int_equal(r.damaged, 3);
  says("packs/a/runs.csv: truncated: its last line does not end; its runs count as "
       "missing, and running them again replaces ");
  says("packs/b/pack.json");
  says("packs/d/runs.csv: ");
  coh_merge_free(&r);
}

static void test_what_is_no_input(void **state) {
  (void)state;
  coh_merge_result r;
  const char *folder = scratch("nothing");
  const coh_merge_spec spec = {
      .n_in = 1, .in = &folder, .out = scratch("out"), .runs = R, .id = ids};
  assert_int_equal(coh_merge_runs(&spec, NULL, &r, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "No such file"));
  OK(coh_mkdirs(folder, &err));
  assert_int_equal(coh_merge_runs(&spec, NULL, &r, &err), COH_EUSAGE);
  assert_non_null(strstr(err.text, "no folder of a sweep"));
  assert_null(r.state);
  OK(coh_file_write(in(folder, "sweep.ini"), "", 0, &err)); /* nothing was run yet */
  OK(coh_merge_runs(&spec, NULL, &r, &err));
  assert_int_equal(r.missing, R);
  coh_merge_free(&r);
}

#ifdef __SANITIZE_ADDRESS__ /* is ten times slower */
enum { CASES = 60, SUBS = 200 };
#else
enum { CASES = 1000, SUBS = 4000 };
#endif

/* ---- properties ------------------------------------------------------------------ */

static uint64_t seed, step;
static size_t draw(size_t n) { /* 0 .. n - 1 */
  return (size_t)(coh_random_uniform(seed, COH_RNG_TEST, step++, 0) * (double)n);
}

enum { MAX_RUNS = 40, MAX_IN = 24, MAX_VERSIONS = 3 };

/* What the merge should find: for each run, whether it failed somewhere, and the distinct
 * results of it. */
typedef struct truth {
  bool failed[MAX_RUNS];
  size_t n[MAX_RUNS];
  double value[MAX_RUNS][MAX_VERSIONS];
  size_t foreign, damaged;
} truth;

static void learn(truth *t, const fake_run *r) {
  if (r->id) {
    t->foreign++;
  } else if (r->failed) {
    t->failed[r->index] = true;
  } else {
    size_t i = 0, *n = t->n + r->index;
    while (i < *n && t->value[r->index][i] != r->value) i++;
    if (i == *n) t->value[r->index][(*n)++] = r->value;
  }
}

static fake_run random_run(size_t index) {
  static char id[8][33];
  static int turn;
  fake_run r = {.index = index, .value = 1 + (double)(index % 3)};
  if (draw(12) == 0) r.failed = true;
  if (draw(60) == 0) r.value += 0.125;
  if (draw(25) == 0) { /* of another sweep */
    r.id = id[turn++ % 8];
    snprintf(id[(turn - 1) % 8], 33, "%s", fake_id(1000 + draw(50)));
  }
  return r;
}

/* Cuts a file of the pack short, or changes a byte. */
static void damage(const char *pack) {
  const char *path = in(pack, draw(2) ? "runs.csv" : "pack.json");
  char *text = contents(path);
  size_t len = strlen(text), at = draw(len);
  if (draw(2)) {
    len = at;
  } else {
    text[at] = text[at] == 'x' ? 'y' : 'x';
  }
  assert_int_equal(scratch_write(path, text, len), 0);
  free(text);
}

/* A pack of some of the runs [first, first + count). */
static void random_pack(truth *t, const char *sub, const char *name, size_t first,
                        size_t count) {
  fake_run run[MAX_RUNS];
  size_t n = 0;
  for (size_t i = first; i < first + count; i++)
    if (draw(10)) run[n++] = random_run(i);
  if (n > 8) n = 8; /* as many ids as random_run keeps */
  fake_publish(sub, name, draw(8) ? "thissweep" : "other", n, run, (double)draw(3),
               draw(2) ? "n1*1" : "n2*4");
  if (draw(10) == 0) {
    damage(in(sub, in("packs", name)));
    t->damaged++;
    return;
  }
  for (size_t i = 0; i < n; i++) learn(t, run + i);
}

/* One sweep folder with sub-batches of one or two n; returns their number. */
static size_t random_sweep(truth *t, const char *folder, char sub[][COH_PATH]) {
  size_t made = 0;
  for (size_t cuts = 1 + draw(2); cuts > 0; cuts--) {
    size_t n = 1 + draw(5);
    for (size_t k = 1; k <= n; k++) {
      if (draw(5) == 0) continue; /* missing */
      size_t first = (k - 1) * R / n, count = k * R / n - first, half = draw(count + 1);
      snprintf(sub[made], COH_PATH, "%s/%zu-%zu", folder, k, n);
      if (coh_file_exists(sub[made])) continue;
      random_pack(t, sub[made], "p", first, half);
      random_pack(t, sub[made], "q", first + half, count - half);
      made++;
    }
  }
  return made;
}

static void check_states(const truth *t, const coh_merge_result *r) {
  for (size_t i = 0; i < R; i++) {
    char want = t->n[i] > 1 ? 'c' : t->n[i] ? 'd' : t->failed[i] ? 'f' : '-';
    if (r->state[i] != want)
      fail_msg("case %d: run %zu is '%c', not '%c'", (int)seed, i, r->state[i], want);
  }
}

static void check_rows(const truth *t, const char *path) {
  coh_table table;
  size_t row = 0;
  OK(coh_table_read(path, &table, &err));
  for (size_t i = 0; i < R; i++) {
    size_t rows = t->n[i] ? t->n[i] : t->failed[i];
    for (size_t k = 0; k < rows; k++, row++) {
      assert_int_equal(atoi(cell(&table, row, "run")), i);
      assert_string_equal(cell(&table, row, "run_id"), fake_id(i));
    }
    if (t->n[i] != 1) continue;
    char want[32];
    coh_real_text(t->value[i][0], want);
    assert_string_equal(cell(&table, row - 1, t->value[i][0] > 2 ? "rare" : "loss"),
                        want);
  }
  assert_int_equal(table.n_row, row);
  coh_table_free(&table);
}

static void same_file(const char *path, const char *want) {
  char *text = contents(path);
  if (strcmp(text, want) != 0) fail_msg("case %d: %s differs", (int)seed, path);
  free(text);
}

static void shuffle(const char **v, size_t n) {
  for (size_t i = n; i > 1; i--) {
    size_t k = draw(i);
    const char *x = v[k];
    v[k] = v[i - 1];
    v[i - 1] = x;
  }
}

/* Merges random groups of the inputs, and then what came of it. */
static void check_merge_of_merges(const char **v, size_t n, const char *want) {
  const char *part[4] = {0};
  size_t parts = 0;
  shuffle(v, n);
  for (size_t at = 0; at < n;) {
    char name[16];
    size_t count = parts == 3 ? n - at : 1 + draw(n - at);
    snprintf(name, sizeof name, "case/part%zu", parts);
    part[parts] = strdup(scratch(name));
    coh_merge_result r = merge(part[parts++], count, v + at, false);
    coh_merge_free(&r);
    at += count;
  }
  shuffle(part, parts);
  const char *from[2 * MAX_IN];
  size_t n_from = parts;
  memcpy(from, part, parts * sizeof *part);
  while (n_from < parts + n && draw(2)) { /* and some of the inputs again */
    from[n_from] = v[draw(n)];
    n_from++;
  }
  coh_merge_result r = merge(scratch("case/of_merges"), n_from, from, false);
  coh_merge_free(&r);
  same_file(scratch("case/of_merges/runs.csv"), want);
  for (size_t i = 0; i < parts; i++) free((char *)(uintptr_t)part[i]);
}

static void one_case(void) {
  static char sub[MAX_IN][COH_PATH];
  const char *v[MAX_IN];
  truth t = {0};
  sweep_of(1 + draw(MAX_RUNS));
  size_t n = random_sweep(&t, scratch("case/one"), sub);
  n += random_sweep(&t, scratch("case/two"), sub + n);
  if (n == 0) return;
  for (size_t i = 0; i < n; i++) v[i] = sub[i];
  coh_merge_result r = merge(scratch("case/all"), n, v, false);
  check_states(&t, &r);
  assert_int_equal(r.foreign, t.foreign);
  assert_int_equal(r.damaged, t.damaged);
  coh_merge_free(&r);
  check_rows(&t, scratch("case/all/runs.csv"));
  char *want = contents(scratch("case/all/runs.csv"));
  shuffle(v, n);
  r = merge(scratch("case/all"), n, v, false); /* permuted, over the old one */
  coh_merge_free(&r);
  same_file(scratch("case/all/runs.csv"), want);
  check_merge_of_merges(v, n, want);
  assert_int_equal(scratch_count(scratch("case/all")), 1);
  free(want);
}

static void test_properties(void **state) {
  (void)state;
  double start = coh_seconds();
  for (seed = 1; seed <= CASES; seed++) {
    step = 0;
    one_case();
    remove_folder(scratch("case"));
  }
  print_message("%d cases in %.0f s\n", CASES, coh_seconds() - start);
}

/* ---- models ---------------------------------------------------------------------- */

/* Gives the pack a model of n members whose first weight is 10 * index. */
static void add_model(const char *pack, size_t n, const fake_run *run) {
  coh_plan plan;
  size_t outputs;
  OK(coh_plan_parse("dense_2_3_1", COH_RELU, 1, &plan, &outputs, &err));
  double *p;
  OK(coh_alloc(&p, n * plan.P, sizeof *p, &err));
  for (size_t i = 0; i < n; i++) p[i * plan.P] = 10 * (double)run[i].index;
  OK(coh_model_save(in(pack, "model.h5"), MPI_COMM_SELF, &plan, COH_F64, n, 0, n, p,
                    &err));
  free(p);
}

static int python(const char *program) {
  char command[4096];
  snprintf(command, sizeof command, "cd '%s' && /usr/bin/python3 -c \"%s\"",
           scratch_folder, program);
  return system(command);
}

static const char check_models[] =
    "import h5py, zlib, sys\n"
    "f = h5py.File(sys.argv[1] + '/runs.h5')\n"
    "names = list(f['runs'])\n"
    "assert names == ['00', '01', '02', '03', '10'], names\n"
    "for name in names:\n"
    "    g = f['runs'][name]\n"
    "    a, n = g.attrs['first'], g.attrs['members']\n"
    "    w = g['model/fc_layers.0.weight']\n"
    "    assert w[a:a + n].shape == (1, 3, 2), w.shape\n"
    "    assert w[a].flat[0] == 10 * int(name)\n"
    "    assert len(g.attrs['run_id']) == 32\n"
    "    assert [zlib.crc32(r) for r in w[:]] == list(w.attrs['crc32'])\n"
    "    assert list(g['model/sizes']) == [2, 3, 1]\n"
    "    link = g.get('model', getlink=True)\n"
    "    if isinstance(link, h5py.ExternalLink): assert link.filename[0] != '/'\n"
    "    else: assert len(w) == 1 and a == 0\n";

static void models_are_right(const char *folder) {
  char command[4096];
  FILE *f = fopen(scratch("check.py"), "w");
  assert_non_null(f);
  fputs(check_models, f);
  fclose(f);
  snprintf(command, sizeof command, "/usr/bin/python3 '%s' '%s'", scratch("check.py"),
           folder);
  if (system(command) != 0) fail_msg("runs.h5 of %s is wrong", folder);
}

static void test_models(void **state) {
  (void)state;
  const fake_run a[] = {{.index = 0}, {.index = 2}, {.index = 5, .failed = true}},
                 b[] = {{.index = 10}, {.index = 3}, {.index = 1}};
  if (python("import h5py") != 0) skip();
  const char *s = scratch("m/sweep");
  sweep_of(11);
  publish(in(s, "1-2"), "a", 3, a);
  publish(in(s, "2-2"), "b", 3, b);
  add_model(in(s, "1-2/packs/a"), 3, a);
  add_model(in(s, "2-2/packs/b"), 3, b);
  coh_merge_result r = merge_one(s);
  coh_merge_free(&r);
  models_are_right(s);
  const char *const sub[] = {in(s, "1-2"), in(s, "2-2")};
  r = merge(scratch("m/out/one"), 1, sub, false);
  coh_merge_free(&r);
  r = merge(scratch("m/copy"), 1, sub + 1, true);
  coh_merge_free(&r);
  const char *const parts[] = {scratch("m/copy"), scratch("m/out/one")};
  r = merge(scratch("m/joined"), 2, parts, false); /* links stay links, copies copies */
  coh_merge_free(&r);
  models_are_right(scratch("m/joined"));
  r = merge(scratch("m/all/copied"), 2, parts, true);
  coh_merge_free(&r);
  models_are_right(scratch("m/all/copied"));
  assert_int_equal(rename(scratch("m"), scratch("moved")), 0); /* all of it */
  models_are_right(scratch("moved/sweep"));
  models_are_right(scratch("moved/joined"));
  assert_null(told.data);
  remove(scratch("moved/sweep/2-2/packs/b/model.h5"));
  sweep_of(11);
  r = merge(scratch("moved/late"), 1, (const char *const[]){scratch("moved/joined")},
            true);
  coh_merge_free(&r);
  models_are_right(scratch("moved/late")); /* b was a copy already */
}

static void test_runs_h5_does_not_change(void **state) {
  (void)state;
  const fake_run a[] = {{.index = 0}, {.index = 1}};
  const char *s = scratch("same");
  sweep_of(2);
  publish(in(s, "1-1"), "a", 2, a);
  add_model(in(s, "1-1/packs/a"), 2, a);
  for (int copy = 0; copy < 2; copy++) {
    coh_hash first, second;
    coh_merge_result r = merge(s, 1, &s, copy);
    coh_merge_free(&r);
    OK(coh_hash_file(in(s, "runs.h5"), &first, &err));
    sleep(1);
    r = merge(s, 1, &s, copy);
    coh_merge_free(&r);
    OK(coh_hash_file(in(s, "runs.h5"), &second, &err));
    assert_string_equal(first.hex, second.hex);
  }
}

static void test_damaged_model_is_told(void **state) {
  (void)state;
  const fake_run a[] = {{.index = 0}, {.index = 1}};
  const char *s = scratch("hurt");
  sweep_of(2);
  publish(in(s, "1-1"), "a", 2, a);
  assert_int_equal(scratch_write(in(s, "1-1/packs/a/model.h5"), "no HDF5", 7), 0);
  coh_merge_result r = merge(s, 1, &s, true);
  assert_string_equal(r.state, "dd");
  coh_merge_free(&r);
  says("run 0 stays without its model");
  says("packs/a/model.h5: truncated or damaged");
}

/* Links of a merged table may lead to sub-batches that were removed since. */
static void test_model_that_is_gone_is_told(void **state) {
  (void)state;
  const fake_run a[] = {{.index = 0}, {.index = 1}};
  const char *s = scratch("gone"), *both = scratch("gone_both");
  sweep_of(2);
  publish(in(s, "1-1"), "a", 2, a);
  add_model(in(s, "1-1/packs/a"), 2, a);
  coh_merge_result r = merge(both, 1, &s, false);
  coh_merge_free(&r);
  assert_int_equal(unlink(in(s, "1-1/packs/a/model.h5")), 0);
  r = merge(scratch("gone_again"), 1, &both, false);
  assert_string_equal(r.state, "dd");
  coh_merge_free(&r);
  says("run 1 stays without its model");
  says("packs/a/model.h5: it is gone");
}

/* ---- size and speed -------------------------------------------------------------- */

static void test_many_sub_batches(void **state) {
  (void)state;
  enum { EACH = 25 };
  char name[96];
  const char *s = scratch("many");
  sweep_of((size_t)SUBS * EACH);
  fake_run run[EACH];
  for (size_t k = 0; k < SUBS; k++) {
    for (size_t i = 0; i < EACH; i++)
      run[i] = (fake_run){.index = k * EACH + i, .value = 1 / (double)(k + i + 1)};
    snprintf(name, sizeof name, "%zu-%d", k + 1, SUBS);
    publish(in(s, name), "dense_784_32_10-mnist-0123456789", EACH, run);
    snprintf(name, sizeof name, "%zu-%d/packs/dense_784_32_10-mnist-0123456789/model.h5",
             k + 1, SUBS);
    assert_int_equal(scratch_write(in(s, name), "", 0), 0); /* is linked to, not read */
  }
  pid_t child = fork(); /* its memory is its own */
  if (child == 0) {
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    double start = coh_seconds();
    coh_merge_result r = merge_one(s);
    getrusage(RUSAGE_SELF, &after);
    double took = coh_seconds() - start;
    printf("%d sub-batches of %d runs merged in %.2f s, %ld MB\n", SUBS, EACH, took,
           (after.ru_maxrss - before.ru_maxrss) / 1024);
    fflush(stdout);
    _exit(r.done == R && took < 20 ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  remove_folder(s);
}

/* ---- kills ----------------------------------------------------------------------- */

/* Killed at any time, a merge leaves the table that was there or the new one. */
static void test_killed_merge(void **state) {
  (void)state;
  enum { RUNS = 2000, KILLS = 100 };
  const char *s = scratch("killed"), *out = scratch("killed_out");
  static fake_run run[RUNS];
  sweep_of(RUNS);
  for (size_t i = 0; i < RUNS; i++) run[i] = (fake_run){.index = i};
  publish(in(s, "1-2"), "a", RUNS / 2, run);
  coh_merge_result r = merge(out, 1, &s, false);
  coh_merge_free(&r);
  char *old = contents(in(out, "runs.csv"));
  publish(in(s, "2-2"), "a", RUNS / 2, run + RUNS / 2);
  double start = coh_seconds();
  r = merge(scratch("killed_new"), 1, &s, false);
  double whole = coh_seconds() - start;
  coh_merge_free(&r);
  char *new = contents(scratch("killed_new/runs.csv"));
  size_t ended = 0;
  seed = 7;
  step = 0;
  for (int i = 0; i < KILLS; i++) {
    assert_int_equal(scratch_write(in(out, "runs.csv"), old, strlen(old)), 0);
    pid_t child = fork();
    if (child == 0) {
      r = merge(out, 1, &s, false);
      _exit(0);
    }
    usleep((useconds_t)(1.6e6 * whole * (double)draw(1000) / 1000));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    char *now = contents(in(out, "runs.csv"));
    assert_true(strcmp(now, old) == 0 || strcmp(now, new) == 0);
    ended += strcmp(now, new) == 0;
    free(now);
  }
  print_message("%d kills, %zu of them after the new table was in place\n", KILLS, ended);
  free(old);
  free(new);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_complete),
      cmocka_unit_test(test_missing_failed_and_retried),
      cmocka_unit_test(test_other_n_and_doubled),
      cmocka_unit_test(test_conflict),
      cmocka_unit_test(test_foreign_is_named),
      cmocka_unit_test(test_damaged_packs_are_named),
      cmocka_unit_test(test_what_is_no_input),
      cmocka_unit_test(test_properties),
      cmocka_unit_test(test_models),
      cmocka_unit_test(test_runs_h5_does_not_change),
      cmocka_unit_test(test_damaged_model_is_told),
      cmocka_unit_test(test_model_that_is_gone_is_told),
      cmocka_unit_test(test_killed_merge),
      cmocka_unit_test(test_many_sub_batches),
  };
  MPI_Init(NULL, NULL);
  fake_setup();
  int failed = cmocka_run_group_tests(tests, fake_scratch, scratch_remove);
  MPI_Finalize();
  return failed != 0;
}
