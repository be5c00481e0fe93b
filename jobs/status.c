/* status.c - `cohort status`: how far a sweep is, from its files alone. What packs say is
 * so; who works on the others is told by the attempts, whose files are touched at least
 * once a minute. */
#include "status.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "results.h"

static const char usage[] =
    "usage: cohort status RESULTS/NAME | CONFIG.ini [--list] [section.key=value ...]";

enum { MOST_RANGES = 12, MOST_LINES = 20, MOST_ERRORS = 5 };

/* One sub-batch as it is found. */
typedef struct part {
  coh_sub_folder is;
  size_t first, count, done; /* runs */
  activity now;
} part;

typedef struct overview {
  results of;
  char *state;   /* [runs] */
  size_t *where; /* [runs] the part that says so; SIZE_MAX: none */
  char **error;  /* [runs] why it failed; NULL: it did not; owned */
  size_t n_part;
  part *parts;
} overview;

/* ---- packs: what is done ------------------------------------------------------------
 */

/* Who tells of a pack. */
typedef struct teller {
  overview *o;
  size_t part;
} teller;

static int note_run(void *ctx, size_t i, const coh_pack_run *r, coh_error *err) {
  const teller *t = ctx;
  overview *o = t->o;
  if (o->state[i] == RUN_IS_DONE) return COH_OK;
  bool done = strcmp(r->status, "done") == 0;
  o->state[i] = done ? RUN_IS_DONE : RUN_HAS_FAILED;
  o->where[i] = t->part;
  free(o->error[i]);
  o->error[i] = NULL;
  if (done || !r->error || (o->error[i] = strdup(r->error))) return COH_OK;
  return coh_fail(err, COH_ENOMEM, "no memory for the errors of failed runs");
}

static int note_packs(overview *o, size_t p, coh_error *err) {
  int rc;
  char path[COH_PATH];
  teller t = {o, p};
  const coh_pack_visitor visitor = {&o->of.index, note_run, results_damaged, &t};
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s", o->of.folder, o->parts[p].is.name));
  rc = coh_packs_visit(path, &visitor, err);
cleanup:
  return rc;
}

/* ---- who works on the others --------------------------------------------------------
 */

/* The runs of a sub-batch that no pack has are as it is. */
static void note_work(overview *o, size_t at) {
  part *p = o->parts + at;
  for (size_t i = p->first; i < p->first + p->count; i++) {
    char *s = o->state + i;
    if (*s == RUN_IS_DONE) p->done++;
    if (p->now.running && (*s == RUN_IS_MISSING || *s == RUN_IS_STALE))
      *s = RUN_IS_RUNNING;
    else if (p->now.stale && *s == RUN_IS_MISSING)
      *s = RUN_IS_STALE;
    else
      continue;
    o->where[i] = at;
  }
}

static int read_parts(overview *o, coh_error *err) {
  int rc;
  coh_sub_folder *sub = NULL;
  COH_TRY(coh_sub_folders(o->of.folder, &sub, &o->n_part, err));
  COH_TRY(coh_alloc(&o->parts, o->n_part, sizeof *o->parts, err));
  for (size_t i = 0; i < o->n_part; i++) {
    part *p = o->parts + i;
    p->is = sub[i];
    coh_sub_batch(o->of.runs, p->is.k, p->is.n, &p->first, &p->count);
    COH_TRY(results_activity(o->of.folder, p->is.name, &p->now, err));
    COH_TRY(note_packs(o, i, err));
  }
  for (size_t i = 0; i < o->n_part; i++) note_work(o, i);
  rc = results_mark_active(&o->of, o->state, err);
cleanup:
  free(sub);
  return rc;
}

static int look(overview *o, coh_error *err) {
  int rc;
  size_t R = o->of.runs;
  COH_TRY(coh_alloc(&o->state, R, 1, err));
  COH_TRY(coh_alloc(&o->where, R, sizeof *o->where, err));
  COH_TRY(coh_alloc(&o->error, R, sizeof *o->error, err));
  memset(o->state, RUN_IS_MISSING, R);
  for (size_t i = 0; i < R; i++) o->where[i] = SIZE_MAX;
  rc = read_parts(o, err);
cleanup:
  return rc;
}

static void release(overview *o) {
  for (size_t i = 0; o->error && i < o->of.runs; i++) free(o->error[i]);
  free(o->parts);
  free(o->error);
  free(o->where);
  free(o->state);
  results_close(&o->of);
}

/* ---- text ---------------------------------------------------------------------------
 */

/* "40 s", "12 min", "3.5 h", "2.1 d". */
static void add_age(double s, coh_text *out) {
  if (s < 120)
    coh_text_add(out, "%.0f s", s);
  else if (s < 7200)
    coh_text_add(out, "%.0f min", s / 60);
  else if (s < 172800)
    coh_text_add(out, "%.1f h", s / 3600);
  else
    coh_text_add(out, "%.1f d", s / 86400);
}

static const char *word_of(char state) {
  switch (state) {
  case RUN_IS_DONE:
    return "done";
  case RUN_HAS_FAILED:
    return "failed";
  case RUN_IS_RUNNING:
    return "running";
  case RUN_IS_QUEUED:
    return "queued";
  case RUN_IS_STALE:
    return "stale";
  default:
    return "missing";
  }
}

static void add_counts(const overview *o, coh_text *out) {
  static const char kinds[] = {RUN_IS_DONE,  RUN_IS_RUNNING, RUN_IS_QUEUED,
                               RUN_IS_STALE, RUN_HAS_FAILED, RUN_IS_MISSING};
  size_t R = o->of.runs;
  coh_text_add(out, "%s: sweep %.*s of %zu run%s\n", o->of.folder, COH_HASH_SHOWN,
               o->of.hash.hex, R, R == 1 ? "" : "s");
  for (size_t i = 0; i < sizeof kinds; i++) {
    size_t n = results_count(o->state, R, kinds[i]);
    if (n == 0) continue;
    coh_text_add(out, "  %-9s %6zu  ", word_of(kinds[i]), n);
    results_ranges(o->state, R, kinds[i], MOST_RANGES, out);
    coh_text_add(out, "\n");
  }
}

/* "training.lr=0.1 experiment.seed=3". */
static void add_axes(const coh_sweep *sweep, size_t run, coh_text *out) {
  for (size_t a = 0; a < coh_sweep_axes(sweep); a++) {
    const coh_param *p = coh_sweep_param(sweep, a);
    coh_text_add(out, "%s%s.%s=%s", a ? " " : "", p->section, p->key,
                 coh_sweep_value(sweep, run, a));
  }
}

static void add_errors(const overview *o, coh_text *out) {
  size_t told = 0;
  for (size_t i = 0; i < o->of.runs && told < MOST_ERRORS; i++) {
    if (!o->error[i]) continue;
    coh_text_add(out, "%s  %6zu  ", told++ ? "" : "failed:\n", i);
    add_axes(o->of.sweep, i, out);
    coh_text_add(out, ": %.200s\n", o->error[i]);
  }
}

/* Seconds since the newest checkpoint below work/ of this attempt; negative: none. */
static double checkpoint_age(const overview *o, const part *p) {
  char work[COH_PATH], file[COH_PATH], end[32];
  coh_error ignored;
  struct stat st;
  time_t newest = 0;
  if (coh_format(work, sizeof work, &ignored, "%s/%s/work", o->of.folder, p->is.name))
    return -1;
  snprintf(end, sizeof end, ".a%llu", (unsigned long long)p->now.attempt.number);
  DIR *d = opendir(work);
  for (struct dirent *e; d && (e = readdir(d));) {
    const char *dot = strrchr(e->d_name, '.');
    if (!dot || strcmp(dot, end) != 0) continue;
    if (coh_format(file, sizeof file, &ignored, "%s/%s/checkpoint.h5", work, e->d_name))
      continue;
    if (stat(file, &st) == 0 && st.st_mtime > newest) newest = st.st_mtime;
  }
  if (d) closedir(d);
  return newest ? difftime(time(NULL), newest) : -1;
}

static void add_attempt(const overview *o, const part *p, coh_text *out) {
  const coh_attempt *a = &p->now.attempt;
  if (a->number == 0) {
    coh_text_add(out, "never started");
    return;
  }
  if (p->now.running || p->now.stale) {
    coh_text_add(out, "%s, last heartbeat ", p->now.stale ? "stale" : "running");
    add_age(p->now.age, out);
    coh_text_add(out, " ago");
  } else {
    coh_text_add(out, "last start %s", a->status);
  }
  coh_text_add(out, ", on %s", a->host);
  if (*a->slurm_job) coh_text_add(out, ", job %s", a->slurm_job);
  if (a->number > 1) coh_text_add(out, ", attempt %llu", (unsigned long long)a->number);
  double checkpoint = p->now.running ? checkpoint_age(o, p) : -1;
  if (checkpoint >= 0) {
    coh_text_add(out, ", checkpoint ");
    add_age(checkpoint, out);
    coh_text_add(out, " ago");
  }
}

/* Sub-batches that have begun and are not complete. */
static void add_parts(const overview *o, coh_text *out) {
  size_t told = 0, complete = 0;
  for (size_t i = 0; i < o->n_part; i++)
    complete += o->parts[i].done == o->parts[i].count;
  if (o->n_part)
    coh_text_add(out, "sub-batches: %zu begun, %zu of them complete\n", o->n_part,
                 complete);
  for (size_t i = 0; i < o->n_part; i++) {
    const part *p = o->parts + i;
    if (p->done == p->count) continue;
    if (told++ == MOST_LINES) {
      coh_text_add(out, "  ... and %zu more (--list tells all runs)\n",
                   o->n_part - complete - MOST_LINES);
      return;
    }
    coh_text_add(out, "  %-9s %zu/%zu done, ", p->is.name, p->done, p->count);
    add_attempt(o, p, out);
    coh_text_add(out, "\n");
  }
}

static int show(const overview *o, coh_error *err) {
  int rc;
  size_t n;
  coh_text text = {0};
  add_counts(o, &text);
  add_parts(o, &text);
  add_errors(o, &text);
  COH_TRY(results_division(o->of.folder, &n, err));
  COH_TRY(results_rerun(&o->of, o->state, n, &text, err));
  fputs(text.data, stdout);
cleanup:
  coh_text_free(&text);
  return rc;
}

/* ---- the list -----------------------------------------------------------------------
 */

static void list_run(const overview *o, size_t i, coh_text *line) {
  const part *p = o->where[i] == SIZE_MAX ? NULL : o->parts + o->where[i];
  bool active = o->state[i] == RUN_IS_RUNNING || o->state[i] == RUN_IS_STALE;
  coh_text_add(line, "%zu,%s,%s,%s,", i, o->of.id[i].hex, word_of(o->state[i]),
               p ? p->is.name : "");
  if (p && active)
    coh_text_add(line, "%s,%s,%.0f,", p->now.attempt.host, p->now.attempt.slurm_job,
                 p->now.age);
  else
    coh_text_add(line, ",,,");
  if (o->error[i]) coh_csv_cell(line, o->error[i]);
  coh_text_add(line, "\n");
}

static int list(const overview *o, coh_error *err) {
  int rc = COH_OK;
  coh_text line = {0};
  puts("run,run_id,status,sub_batch,host,slurm_job,heartbeat_s,error");
  for (size_t i = 0; i < o->of.runs; i++) {
    line.len = 0;
    list_run(o, i, &line);
    COH_TRY(coh_text_check(&line, err));
    fputs(line.data, stdout);
  }
cleanup:
  coh_text_free(&line);
  return rc;
}

/* ---- the command --------------------------------------------------------------------
 */

/* The folder may have been begun with another file than the one that was given. */
static void check_same(const overview *o) {
  char path[COH_PATH];
  coh_error ignored;
  results there = {0};
  if (coh_format(path, sizeof path, &ignored, "%s/sweep.ini", o->of.folder) ||
      !coh_file_exists(path) || results_open(o->of.folder, 0, NULL, &there, &ignored))
    return;
  if (strcmp(there.hash.hex, o->of.hash.hex) != 0)
    fprintf(stderr,
            "warning: %s is of another sweep (%.*s) than %s: runs that both have count\n",
            path, COH_HASH_SHOWN, there.hash.hex, o->of.config);
  results_close(&there);
}

static int read_arguments(int argc, char **argv, const char **path, bool *listed,
                          size_t *n_set, const char **set, coh_error *err) {
  for (int i = 2; i < argc; i++) {
    if (strcmp(argv[i], "--list") == 0)
      *listed = true;
    else if (argv[i][0] == '-')
      return coh_fail(err, COH_EUSAGE, "status: no option \"%.60s\"; %s", argv[i], usage);
    else if (!*path)
      *path = argv[i];
    else
      set[(*n_set)++] = argv[i];
  }
  return *path ? COH_OK : coh_fail(err, COH_EUSAGE, "%s", usage);
}

static int status(int argc, char **argv, coh_error *err) {
  int rc;
  bool listed = false;
  size_t n_set = 0;
  const char *path = NULL, **set = NULL;
  overview o = {0};
  COH_TRY(coh_alloc(&set, (size_t)argc, sizeof *set, err));
  COH_TRY(read_arguments(argc, argv, &path, &listed, &n_set, set, err));
  COH_TRY(results_open(path, n_set, set, &o.of, err));
  check_same(&o);
  COH_TRY(look(&o, err));
  COH_TRY(listed ? list(&o, err) : show(&o, err));
  if (fflush(stdout) != 0 || ferror(stdout))
    rc = coh_fail_errno(err, "cannot write to standard output");
cleanup:
  release(&o);
  free(set);
  return rc;
}

int command_status(int argc, char **argv) {
  coh_error err = {0};
  if (argc > 2 && strcmp(argv[2], "--help") == 0) {
    puts(usage);
    return 0;
  }
  int rc = status(argc, argv, &err);
  if (rc != COH_OK) fprintf(stderr, "cohort: %s\n", err.text);
  return coh_exit_status(rc);
}
