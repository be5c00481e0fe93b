/* plan_print.c - a plan as text for people, and its runs as CSV. */
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/store.h"
#include "run.h"
#include "words.h"

enum { SHOWN_VALUES = 6, SHOWN_PARTS = 8, SHOWN_PACKS = 6, SHOWN_RUNS = 3, ID = 10 };

/* ---- numbers -------------------------------------------------------------------------
 */

/* "350 ms", "12 s", "3.5 min", "2.1 h", "4.0 days"; out holds 32. */
static const char *duration(double s, char *out) {
  if (isnan(s)) return strcpy(out, "not known");
  if (s < 1)
    snprintf(out, 32, "%.0f ms", s * 1e3);
  else if (s < 100)
    snprintf(out, 32, "%.0f s", s);
  else if (s < 6000)
    snprintf(out, 32, "%.*f min", s < 600, s / 60);
  else if (s < 48 * 3600)
    snprintf(out, 32, "%.1f h", s / 3600);
  else
    snprintf(out, 32, "%.1f days", s / 86400);
  return out;
}

static const char *memory(double bytes, char *out) {
  if (bytes < 1e9)
    snprintf(out, 32, "%.0f MB", bytes * 1e-6);
  else
    snprintf(out, 32, "%.1f GB", bytes * 1e-9);
  return out;
}

static const char *plural(size_t n) {
  return n == 1 ? "" : "s";
}

static void add_name(const coh_param *p, coh_text *out) {
  coh_text_add(out, "%s.%s", p->section, p->key);
}

static size_t name_width(const coh_param *p) {
  return strlen(p->section) + 1 + strlen(p->key);
}

static const char *shown(const char *value) {
  return *value ? value : "\"\"";
}

/* ---- head and axes --------------------------------------------------------------------
 */

static void print_head(const plan *p, coh_text *out) {
  size_t R = coh_sweep_count(p->sweep), all = coh_sweep_product(p->sweep);
  coh_text_add(out, "%s: %zu run%s of job = %s", p->path, R, plural(R),
               run_job_name(coh_sweep_base(p->sweep)->experiment.job));
  if (R < all)
    coh_text_add(out, "; %zu of %zu were dropped by exclude and only", all - R, all);
  coh_text_add(out, "\n");
  if (p->wrong > 0)
    coh_text_add(out, "warning: %zu of them would fail; the first one: %s\n", p->wrong,
                 p->first.text);
}

static void add_values(const coh_sweep *s, size_t axis, coh_text *out) {
  size_t n = coh_sweep_values(s, axis);
  for (size_t v = 0; v < n; v++) {
    if (n > SHOWN_VALUES && v == SHOWN_VALUES - 2) {
      coh_text_add(out, ", ...");
      v = n - 2;
      continue;
    }
    coh_text_add(out, "%s%s", v ? ", " : "", shown(coh_sweep_text(s, axis, v)));
  }
}

/* The first axis of the same group, if it is another one. */
static bool zipped_with(const coh_sweep *s, size_t axis, size_t *with) {
  for (*with = 0; *with < axis; ++*with)
    if (coh_sweep_group(s, *with) == coh_sweep_group(s, axis)) return true;
  return false;
}

static void print_axes(const plan *p, coh_text *out) {
  const coh_sweep *s = p->sweep;
  size_t width = 0, with;
  for (size_t a = 0; a < coh_sweep_axes(s); a++) {
    size_t w = name_width(coh_sweep_param(s, a));
    if (w > width) width = w;
  }
  coh_text_add(out, "\naxes, the slowest first:\n");
  for (size_t a = 0; a < coh_sweep_axes(s); a++) {
    const coh_param *q = coh_sweep_param(s, a);
    size_t n = coh_sweep_values(s, a);
    coh_text_add(out, "  ");
    add_name(q, out);
    coh_text_add(out, "%*s  %zu value%s: ", (int)(width - name_width(q)), "", n,
                 plural(n));
    add_values(s, a, out);
    if (zipped_with(s, a, &with)) {
      coh_text_add(out, " (with ");
      add_name(coh_sweep_param(s, with), out);
      coh_text_add(out, ")");
    }
    coh_text_add(out, "\n");
  }
}

/* ---- sub-batches ----------------------------------------------------------------------
 */

static void print_row(const char *name, const char *runs, const plan_part *t,
                      size_t n_packs, coh_text *out) {
  char bytes[32], seconds[32];
  coh_text_add(out, "  %13s  %17s  %8zu  %8zu  %9s  %9s\n", name, runs, n_packs,
               t->networks, memory(t->bytes, bytes), duration(t->seconds, seconds));
}

static void print_part(const plan *p, size_t k, coh_text *out) {
  char name[32], runs[64];
  const plan_part *t = p->parts + k;
  snprintf(name, sizeof name, "%zu/%zu", k + 1, p->n);
  if (t->count == 0)
    snprintf(runs, sizeof runs, "none");
  else if (t->count == 1)
    snprintf(runs, sizeof runs, "%zu", t->first);
  else
    snprintf(runs, sizeof runs, "%zu..%zu", t->first, t->first + t->count - 1);
  print_row(name, runs, t, t->packs.n, out);
}

static void print_sum(const plan *p, coh_text *out) {
  char runs[32];
  plan_part sum = {0};
  size_t n_packs = 0;
  for (size_t k = 0; k < p->n; k++) {
    const plan_part *t = p->parts + k;
    n_packs += t->packs.n;
    sum.networks += t->networks;
    sum.seconds += t->seconds;
    if (t->bytes > sum.bytes) sum.bytes = t->bytes;
  }
  snprintf(runs, sizeof runs, "%zu run%s", coh_sweep_count(p->sweep),
           plural(coh_sweep_count(p->sweep)));
  print_row("all", runs, &sum, n_packs, out);
}

static void print_parts(const plan *p, coh_text *out) {
  size_t R = coh_sweep_count(p->sweep), least = R / p->n, most = least + (R % p->n > 0);
  coh_text_add(out, "\n%zu sub-batch%s of ", p->n, p->n == 1 ? "" : "es");
  if (least < most) coh_text_add(out, "%zu or ", least);
  coh_text_add(out, "%zu run%s", most, plural(most));
  if (p->n > R) coh_text_add(out, "; %zu of them are empty", p->n - R);
  coh_text_add(out, ":\n");
  coh_text_add(out, "  %13s  %17s  %8s  %8s  %9s  %9s\n", "sub-batch", "runs", "packs",
               "networks", "memory", "time");
  for (size_t k = 0; k < p->n; k++) {
    if (p->n > SHOWN_PARTS && k == SHOWN_PARTS / 2) {
      coh_text_add(out, "  %13s\n", "...");
      k = p->n - SHOWN_PARTS / 2 + 1;
    }
    print_part(p, k, out);
  }
  if (p->n > 1) print_sum(p, out);
  coh_text_add(out, "  memory: of the largest pack, with its data, on one rank\n  %s\n",
               p->basis.data ? p->basis.data : "");
}

static void print_packs(const plan *p, coh_text *out) {
  const packs *all = &p->parts[0].packs;
  coh_config cfg;
  coh_error ignored;
  coh_text_add(out, "\npacks%s, runs that train as one ensemble:\n",
               p->n > 1 ? " of the first sub-batch" : "");
  coh_text_add(out, "  %8s  %8s  %10s  name\n", "runs", "networks", "parameters");
  for (size_t i = 0; i < all->n && i < SHOWN_PACKS; i++) {
    const pack *one = all->item + i;
    (void)coh_sweep_config(p->sweep, one->run[0], &cfg, &ignored);
    plan_cost c = plan_cost_of(&cfg, one->n, &ignored);
    coh_text_add(out, "  %8zu  %8zu  %10zu  %s\n", one->n, c.networks, c.P, one->name);
  }
  if (all->n > SHOWN_PACKS) coh_text_add(out, "  and %zu more\n", all->n - SHOWN_PACKS);
}

/* ---- runs
 * ------------------------------------------------------------------------------ */

/* Run number `row` of those shown, or R for the dots between. */
static size_t shown_run(size_t R, size_t row, size_t *rows) {
  *rows = R <= 2 * SHOWN_RUNS + 1 ? R : 2 * SHOWN_RUNS + 1;
  if (*rows == R || row < SHOWN_RUNS) return row;
  return row == SHOWN_RUNS ? R : R - *rows + row;
}

static size_t column_width(const coh_sweep *s, size_t axis) {
  size_t R = coh_sweep_count(s), rows, width = name_width(coh_sweep_param(s, axis));
  shown_run(R, 0, &rows);
  for (size_t row = 0; row < rows; row++) {
    size_t i = shown_run(R, row, &rows);
    size_t w = i < R ? strlen(shown(coh_sweep_value(s, i, axis))) : 3;
    if (w > width) width = w;
  }
  return width;
}

static void print_run(const coh_sweep *s, size_t i, coh_text *out) {
  coh_hash id = {"?"};
  coh_error ignored;
  coh_sweep_id(s, i, &id, &ignored);
  coh_text_add(out, "  %8zu  %.*s", i, ID, id.hex);
  for (size_t a = 0; a < coh_sweep_axes(s); a++)
    coh_text_add(out, "  %*s", (int)column_width(s, a), shown(coh_sweep_value(s, i, a)));
  coh_text_add(out, "\n");
}

static void print_runs(const plan *p, coh_text *out) {
  const coh_sweep *s = p->sweep;
  size_t R = coh_sweep_count(s), rows;
  shown_run(R, 0, &rows);
  coh_text_add(out, "\nruns:\n  %8s  %-*s", "run", ID, "run_id");
  for (size_t a = 0; a < coh_sweep_axes(s); a++) {
    const coh_param *q = coh_sweep_param(s, a);
    coh_text_add(out, "  %*s", (int)(column_width(s, a) - name_width(q)), "");
    add_name(q, out);
  }
  coh_text_add(out, "\n");
  for (size_t row = 0; row < rows; row++) {
    size_t i = shown_run(R, row, &rows);
    if (i < R)
      print_run(s, i, out);
    else
      coh_text_add(out, "  %8s\n", "...");
  }
}

/* ---- files and commands
 * ----------------------------------------------------------------- */

static void print_file(const char *folder, const char *name, const char *what,
                       coh_text *out) {
  coh_text path = {0};
  coh_text_add(&path, "%s%s", folder, name);
  coh_text_add(out, "  %-26s %s\n", path.data ? path.data : "", what);
  coh_text_free(&path);
}

static void print_files(const plan *p, coh_text *out) {
  const coh_config *cfg = coh_sweep_base(p->sweep);
  char part[32];
  snprintf(part, sizeof part, p->n > 1 ? "<k>-%zu/" : "1-%zu/", p->n);
  coh_text_add(out, "\nfiles, in %s/%s:\n", cfg->experiment.results,
               cfg->experiment.name);
  print_file("", "sweep.ini", "this sweep", out);
  print_file(part, "runs.csv", "a row a run of the sub-batch", out);
  print_file(part, "attempts/<a>.json", "a file a start", out);
  print_file(part, "packs/<name>/",
             "a folder a pack: pack.json, runs.csv, run.ini, "
             "metrics.csv, model.h5, manifest.json",
             out);
  print_file("", "runs.csv, runs.h5", "all of it, by `cohort merge`", out);
}

static void add_word(const char *word, coh_text *out) {
  coh_text_add(out, " ");
  words_quote(word, out);
}

static void add_words(const plan *p, coh_text *out) {
  for (size_t i = 0; i < p->n_set; i++) add_word(p->set[i], out);
  coh_text_add(out, "\n");
}

static void print_commands(const plan *p, coh_text *out) {
  coh_text_add(out, "\nto run it:\n  mpirun -n 2 cohort run");
  add_word(p->path, out);
  add_words(p, out);
  coh_text_add(out, "  cohort submit");
  add_word(p->path, out);
  coh_text_add(out, " --sub-batches %zu", p->n);
  add_words(p, out);
  coh_text_add(out, "  sbatch --array=1-%zu slurm/sweep.sbatch", p->n);
  add_word(p->path, out);
  add_words(p, out);
}

void plan_print(const plan *p, coh_text *out) {
  print_head(p, out);
  print_axes(p, out);
  print_parts(p, out);
  print_packs(p, out);
  print_runs(p, out);
  print_files(p, out);
  print_commands(p, out);
}

/* ---- CSV
 * ---------------------------------------------------------------------------------- */

static void list_head(const coh_sweep *s, coh_text *out) {
  coh_text_add(out, "run,sub_batch,pack");
  for (size_t a = 0; a < coh_sweep_axes(s); a++) {
    coh_text_add(out, ",");
    add_name(coh_sweep_param(s, a), out);
  }
  coh_text_add(out, ",run_id\n");
}

static int list_part(const plan *p, size_t k, coh_text *out, coh_error *err) {
  int rc;
  const plan_part *t = p->parts + k;
  const char **name = NULL; /* [count] of each run's pack */
  COH_TRY(coh_alloc(&name, t->count, sizeof *name, err));
  for (size_t i = 0; i < t->packs.n; i++)
    for (size_t j = 0; j < t->packs.item[i].n; j++)
      name[t->packs.item[i].run[j] - t->first] = t->packs.item[i].name;
  for (size_t i = t->first; i < t->first + t->count; i++) {
    coh_hash id;
    COH_TRY(coh_sweep_id(p->sweep, i, &id, err));
    coh_text_add(out, "%zu,%zu-%zu,", i, k + 1, p->n);
    coh_csv_cell(out, name[i - t->first]);
    for (size_t a = 0; a < coh_sweep_axes(p->sweep); a++) {
      coh_text_addn(out, ",", 1);
      coh_csv_cell(out, coh_sweep_value(p->sweep, i, a));
    }
    coh_text_add(out, ",%s\n", id.hex);
    if (out->len < (1 << 16)) continue;
    fputs(out->data, stdout);
    out->len = 0;
  }
cleanup:
  free(name);
  return rc;
}

int plan_list(const plan *p, coh_error *err) {
  coh_text out = {0};
  int rc = COH_OK;
  list_head(p->sweep, &out);
  for (size_t k = 0; rc == COH_OK && k < p->n; k++) rc = list_part(p, k, &out, err);
  if (rc == COH_OK) rc = coh_text_check(&out, err);
  if (rc == COH_OK && out.len > 0) fputs(out.data, stdout);
  coh_text_free(&out);
  return rc;
}
