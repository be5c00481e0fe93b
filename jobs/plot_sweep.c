/* plot_sweep.c - figures and page of many runs: a sweep, finished or not, or single runs
 * in one folder. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plot.h"
#include "results.h"

enum { MOST_STATES = 8 };

typedef struct many {
  const plot_wish *wish;
  const plot_place *place;
  const char *files;
  char name[COH_PATH]; /* of the folder, for people */
  char figures[COH_PATH], page[COH_PATH];
  coh_table runs;
  size_t n_state, count[MOST_STATES];
  const char *state[MOST_STATES];
  size_t all, done; /* runs */
  char *ini, *manifest;
  coh_text about, summary;
} many;

static void many_free(many *m) {
  coh_table_free(&m->runs);
  coh_text_free(&m->about);
  coh_text_free(&m->summary);
  free(m->ini);
  free(m->manifest);
}

static void remark(void *ctx, coh_level level, const char *text) {
  (void)ctx;
  if (level == COH_WARN) fprintf(stderr, "warning: %s\n", text);
}
static const coh_sink sink = {remark, NULL};

/* ---- the table of a sweep
 * -------------------------------------------------------------- */

static void count_states(many *m, const results *of, const char *state) {
  static const struct {
    char is;
    const char *name;
  } words[] = {{RUN_IS_DONE, "done"},         {RUN_HAS_FAILED, "failed"},
               {RUN_IN_CONFLICT, "conflict"}, {RUN_IS_RUNNING, "running"},
               {RUN_IS_QUEUED, "queued"},     {RUN_IS_STALE, "stale"},
               {RUN_IS_MISSING, "missing"}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    size_t n = results_count(state, of->runs, words[i].is);
    if (n == 0) continue;
    m->state[m->n_state] = words[i].name;
    m->count[m->n_state++] = n;
  }
  m->all = of->runs;
  m->done = results_count(state, of->runs, RUN_IS_DONE);
}

static void describe_sweep(many *m, const results *of) {
  const coh_config *c = coh_sweep_base(of->sweep);
  bool extracts = c->experiment.job == COH_JOB_EXTRACT;
  coh_text_add(&m->about, "Sweep %s (%.*s): %s, %s, on %s;", m->name, COH_HASH_SHOWN,
               of->hash.hex,
               extracts                                ? "extraction"
               : c->experiment.job == COH_JOB_COMPRESS ? "compression"
                                                       : "training",
               c->model.name, extracts ? c->query.datagen : c->dataset.name);
  for (size_t a = 0; a < coh_sweep_axes(of->sweep); a++) {
    const coh_param *p = coh_sweep_param(of->sweep, a);
    coh_text_add(&m->about, "%s %zu values of %s.%s", a ? "," : "",
                 coh_sweep_values(of->sweep, a), p->section, p->key);
  }
  coh_text_add(&m->about, ".");
}

/* All sub-batches as one table, plots/runs.csv: the folder's own is left as it is. */
static int read_sweep(many *m, coh_error *err) {
  int rc;
  char path[COH_PATH];
  results of = {0};
  coh_merge_result merged = {0};
  const char *in[] = {m->place->folder};
  COH_TRY(results_open(m->place->folder, 0, NULL, &of, err));
  coh_merge_spec spec = {
      .n_in = 1, .in = in, .out = m->figures, .runs = of.runs, .id = of.id};
  memcpy(spec.sweep, of.hash.hex, sizeof spec.sweep);
  COH_TRY(coh_mkdirs(m->figures, err));
  COH_TRY(coh_merge_runs(&spec, &sink, &merged, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.h5", m->figures));
  (void)unlink(path); /* its links lead to models, which a report has no use for */
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", m->figures));
  COH_TRY(coh_table_read(path, &m->runs, err));
  COH_TRY(results_mark_active(&of, merged.state, err));
  count_states(m, &of, merged.state);
  describe_sweep(m, &of);
cleanup:
  coh_merge_free(&merged);
  results_close(&of);
  return rc;
}

/* ---- single runs
 * ------------------------------------------------------------------------ */

static int read_singles(many *m, coh_error *err) {
  int rc;
  char path[COH_PATH];
  size_t n = 0;
  coh_sub_folder *sub = NULL;
  bool found = false;
  COH_TRY(coh_sub_folders(m->place->folder, &sub, &n, err));
  for (size_t i = 0; i < n && !found; i++) {
    COH_TRY(coh_format(path, sizeof path, err, "%s/%s/runs.csv", m->place->folder,
                       sub[i].name));
    found = coh_file_exists(path);
  }
  if (!found)
    COH_TRY(coh_fail(err, COH_EDATA, "%s: several runs, and none of them has ended yet",
                     m->place->folder));
  COH_TRY(coh_table_read(path, &m->runs, err));
  size_t status = coh_table_column(&m->runs, "status");
  for (size_t i = 0; i < m->runs.n_row && status < m->runs.n_col; i++)
    m->done += strcmp(m->runs.cell[i * m->runs.n_col + status], "done") == 0;
  m->all = m->runs.n_row;
  coh_text_add(&m->about, "Runs of %s.", m->name);
cleanup:
  free(sub);
  return rc;
}

/* ---- the page
 * ---------------------------------------------------------------------------- */

static int read_if_there(const char *path, char **out, coh_error *err) {
  size_t len;
  return coh_file_exists(path) ? coh_file_read(path, out, &len, err) : COH_OK;
}

/* Versions and hosts: those of the first pack that can be found. */
static int find_manifest(many *m, coh_error *err) {
  int rc;
  size_t n = 0;
  coh_sub_folder *sub = NULL;
  char packs[COH_PATH], path[COH_PATH];
  COH_TRY(coh_sub_folders(m->place->folder, &sub, &n, err));
  for (size_t i = 0; i < n && !m->manifest; i++) {
    COH_TRY(coh_format(packs, sizeof packs, err, "%s/%s/packs", m->place->folder,
                       sub[i].name));
    DIR *d = opendir(packs);
    for (struct dirent *e; d && !m->manifest && (e = readdir(d));) {
      if (e->d_name[0] == '.') continue;
      rc = coh_format(path, sizeof path, err, "%s/%s/manifest.json", packs, e->d_name);
      if (rc == COH_OK) rc = read_if_there(path, &m->manifest, err);
    }
    if (d) closedir(d);
    COH_TRY(rc);
  }
cleanup:
  free(sub);
  return rc;
}

/* The run whose measure is best; n_row: none has one. */
static size_t best_row(const many *m, size_t column, bool most) {
  size_t best = m->runs.n_row, status = coh_table_column(&m->runs, "status");
  double found = NAN;
  for (size_t i = 0; i < m->runs.n_row; i++) {
    char **row = m->runs.cell + i * m->runs.n_col;
    if (status < m->runs.n_col && strcmp(row[status], "done") != 0) continue;
    double v = *row[column] ? strtod(row[column], NULL) : NAN;
    if (!isfinite(v) || (best < m->runs.n_row && (most ? v <= found : v >= found)))
      continue;
    found = v;
    best = i;
  }
  return best;
}

static bool varies(const coh_table *t, size_t col) {
  for (size_t i = 1; i < t->n_row; i++)
    if (strcmp(t->cell[i * t->n_col + col], t->cell[col]) != 0) return true;
  return false;
}

/* "24 of 24 runs done. Best test_accuracy: 0.84, with training.lr = 0.001." */
static void summarise(many *m) {
  bool most;
  const char *name = coh_main_measure(&m->runs, &most);
  size_t told = 0, column = name ? coh_table_column(&m->runs, name) : 0;
  coh_text_add(&m->summary, "%zu of %zu runs done", m->done, m->all);
  for (size_t i = 0; i < m->n_state; i++)
    if (strcmp(m->state[i], "done") != 0)
      coh_text_add(&m->summary, ", %zu %s", m->count[i], m->state[i]);
  coh_text_add(&m->summary, ".");
  size_t best = name ? best_row(m, column, most) : m->runs.n_row;
  if (best == m->runs.n_row) return;
  char **row = m->runs.cell + best * m->runs.n_col;
  coh_text_add(&m->summary, " %s %s: %.4g", most ? "Highest" : "Lowest", name,
               strtod(row[column], NULL));
  for (size_t c = 0; c < m->runs.n_col; c++)
    if (strchr(m->runs.col[c], '.') && varies(&m->runs, c))
      coh_text_add(&m->summary, "%s%s = %s", told++ ? ", " : ", with ", m->runs.col[c],
                   row[c]);
  coh_text_add(&m->summary, ".");
}

static int write_page(many *m, const coh_figures *f, coh_error *err) {
  int rc;
  bool *columns = NULL;
  char path[COH_PATH];
  COH_TRY(coh_format(path, sizeof path, err, "%s/sweep.ini", m->place->folder));
  COH_TRY(read_if_there(path, &m->ini, err));
  COH_TRY(find_manifest(m, err));
  summarise(m);
  COH_TRY(coh_text_check(&m->summary, err));
  COH_TRY(coh_alloc(&columns, m->runs.n_col, sizeof *columns, err));
  coh_runs_columns(&m->runs, columns);
  const coh_page_table table = {"Runs", &m->runs, columns};
  char title[COH_PATH];
  COH_TRY(coh_format(title, sizeof title, err, "%s %s",
                     m->place->is == PLOT_SWEEP ? "Sweep" : "Runs of", m->name));
  coh_page p = {.title = title,
                .summary = m->summary.data,
                .files = m->files,
                .n_table = 1,
                .table = &table,
                .ini = m->ini,
                .manifest = m->manifest};
  COH_TRY(coh_page_write(m->page, &p, f, err));
cleanup:
  free(columns);
  return rc;
}

/* ---- all of it
 * ---------------------------------------------------------------------------- */

static int name_folder(many *m, coh_error *err) {
  char *real = realpath(m->place->folder, NULL);
  const char *slash = real ? strrchr(real, '/') : NULL;
  int rc = coh_format(m->name, sizeof m->name, err, "%s",
                      slash ? slash + 1 : m->place->folder);
  free(real);
  return rc;
}

int plot_of_sweep(const plot_wish *w, const plot_place *place, coh_error *err) {
  int rc;
  many m = {.wish = w, .place = place};
  coh_figures *f = NULL;
  COH_TRY(plot_folders(w, place->folder, m.figures, m.page, &m.files, err));
  COH_TRY(name_folder(&m, err));
  COH_TRY(place->is == PLOT_SWEEP ? read_sweep(&m, err) : read_singles(&m, err));
  COH_TRY(coh_text_check(&m.about, err));
  const coh_figures_spec spec = {.folder = m.figures,
                                 .formats = w->formats,
                                 .n_kind = w->n_kind,
                                 .kind = w->kind,
                                 .about = m.about.data,
                                 .sink = &sink};
  COH_TRY(coh_figures_open(&spec, &f, err));
  const coh_plot_sweep runs = {.runs = &m.runs,
                               .x = w->x,
                               .y = w->y,
                               .z = w->z,
                               .n_state = m.n_state,
                               .state = m.state,
                               .count = m.count};
  COH_TRY(coh_plot_runs(f, &runs, err));
  if (w->page) COH_TRY(write_page(&m, f, err));
  COH_TRY(plot_tell(w, f, m.figures, m.page, err));
cleanup:
  coh_figures_close(f);
  many_free(&m);
  return rc;
}
