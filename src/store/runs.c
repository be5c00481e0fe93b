/* runs.c - runs.csv: one row a run, its parameters, then its measures. Uses base, config.
 */
#include "store/store_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- measures -------------------------------------------------------------------- */

int coh_measures_add(coh_measures *m, const char *name, double value, coh_error *err) {
  for (size_t i = 0; i < m->n; i++)
    if (strcmp(m->item[i].name, name) == 0) {
      m->item[i].value = value;
      return COH_OK;
    }
  coh_measure *more = realloc(m->item, (m->n + 1) * sizeof *more);
  if (more) m->item = more;
  char *copy = more ? strdup(name) : NULL;
  if (!copy) return coh_fail(err, COH_ENOMEM, "no memory for a measure");
  m->item[m->n++] = (coh_measure){copy, value};
  return COH_OK;
}

size_t coh_measures_find(const coh_measures *m, const char *name, size_t *cursor) {
  for (size_t tried = 0, i = *cursor; tried < m->n; tried++, i++) {
    if (i >= m->n) i = 0;
    if (strcmp(m->item[i].name, name) == 0) {
      *cursor = i + 1;
      return i;
    }
  }
  return m->n;
}

void coh_measures_free(coh_measures *m) {
  for (size_t i = 0; i < m->n; i++) free(m->item[i].name);
  free(m->item);
  *m = (coh_measures){0};
}

/* ---- one row as pairs ------------------------------------------------------------ */

/* Column and value of each cell of a row, or, with `value` NULL, names of columns. */
typedef struct pair {
  char *name, *value;
} pair;

/* What tells two rows apart. */
static const char *const key_name[] = {"hash", "experiment.seed", "clustering"};

enum { N_KEY = sizeof key_name / sizeof *key_name };

typedef struct pairs {
  size_t n, cap;
  pair *item;
  char *key; /* of a row: the values of these columns, a line each */
  bool done; /* of a row: its status */
} pairs;

static void pairs_free(pairs *p) {
  for (size_t i = 0; i < p->n; i++) {
    free(p->item[i].name);
    free(p->item[i].value);
  }
  free(p->item);
  free(p->key);
  *p = (pairs){0};
}

static int pairs_add(pairs *p, const char *name, const char *value, coh_error *err) {
  if (p->n == p->cap) {
    size_t cap = p->cap ? 2 * p->cap : 64;
    pair *more = realloc(p->item, cap * sizeof *more);
    if (!more) return coh_fail(err, COH_ENOMEM, "no memory for a row of runs.csv");
    p->item = more;
    p->cap = cap;
  }
  pair new = {strdup(name), value ? strdup(value) : NULL};
  p->item[p->n++] = new;
  if (new.name && (new.value || !value)) return COH_OK;
  return coh_fail(err, COH_ENOMEM, "no memory for a row of runs.csv");
}

/* Value of the column; NULL if there is none. */
static const char *pairs_get(const pairs *p, const char *name) {
  for (size_t i = 0; i < p->n; i++)
    if (strcmp(p->item[i].name, name) == 0) return p->item[i].value;
  return NULL;
}

/* Place of the column; n if there is none. Quick where columns are asked for in the order
 * in which they stand; *cursor begins at 0. */
static size_t pairs_seek(const pairs *p, const char *name, size_t *cursor) {
  for (size_t tried = 0, i = *cursor; tried < p->n; tried++, i++) {
    if (i >= p->n) i = 0;
    if (strcmp(p->item[i].name, name) == 0) {
      *cursor = i + 1;
      return i;
    }
  }
  return p->n;
}

static int add_param(pairs *p, const coh_config *cfg, const coh_param *param,
                     coh_error *err) {
  int rc = COH_OK;
  char name[128];
  coh_text value = {0};
  COH_TRY(coh_format(name, sizeof name, err, "%s.%s", param->section, param->key));
  coh_param_value(cfg, param, &value);
  COH_TRY(coh_text_check(&value, err));
  COH_TRY(pairs_add(p, name, value.data ? value.data : "", err));
cleanup:
  coh_text_free(&value);
  return rc;
}

static int add_params(pairs *p, const coh_config *cfg, coh_error *err) {
  int rc = COH_OK;
  size_t n;
  const coh_param *param = coh_params(&n);
  for (size_t i = 0; i < n; i++)
    if (param[i].scope != COH_SCOPE_NONE && param[i].jobs >> cfg->experiment.job & 1)
      COH_TRY(add_param(p, cfg, param + i, err));
cleanup:
  return rc;
}

/* `folder` without the sweep's path in front. */
static const char *relative(const char *folder, const char *sweep) {
  size_t n = strlen(sweep);
  return strncmp(folder, sweep, n) == 0 && folder[n] == '/' ? folder + n + 1 : folder;
}

static bool is_done(const char *status) {
  return strcmp(status, "done") == 0;
}

void coh_row_inputs(const char *lines, coh_text *out) {
  size_t start = out->len;
  for (const char *s = lines ? lines : ""; *s;) {
    size_t n = strcspn(s, "\n");
    if (n > 0) coh_text_add(out, "%s%.*s", out->len > start ? "; " : "", (int)n, s);
    s += n + (s[n] == '\n');
  }
}

static int add_inputs(pairs *p, const char *lines, coh_error *err) {
  int rc;
  coh_text joined = {0};
  coh_row_inputs(lines, &joined);
  rc = coh_text_check(&joined, err);
  if (!rc) rc = pairs_add(p, "inputs", joined.data ? joined.data : "", err);
  coh_text_free(&joined);
  return rc;
}

/* Keeps hash, seed and clustering as one text. */
static int key_text(pairs *p, coh_error *err) {
  coh_text key = {0};
  for (int i = 0; i < N_KEY; i++) coh_text_add(&key, "%s\n", pairs_get(p, key_name[i]));
  p->key = key.data;
  return coh_text_check(&key, err);
}

static int add_number(pairs *p, const char *name, size_t value, coh_error *err) {
  char text[32];
  snprintf(text, sizeof text, "%zu", value);
  return pairs_add(p, name, text, err);
}

static int row_pairs(const char *sweep, const coh_row *row, pairs *p, coh_error *err) {
  int rc = COH_OK;
  char text[32];
  if (row->run_id) {
    COH_TRY(add_number(p, "run", row->index, err));
    COH_TRY(pairs_add(p, "run_id", row->run_id, err));
  }
  COH_TRY(add_params(p, row->cfg, err));
  COH_TRY(pairs_add(p, "hash", row->run.hex, err));
  COH_TRY(pairs_add(p, "clustering", row->clustering.hex, err));
  COH_TRY(add_inputs(p, row->inputs, err));
  if (row->run_id) {
    COH_TRY(add_number(p, "member", row->member, err));
    COH_TRY(add_number(p, "members", row->members, err));
  }
  COH_TRY(pairs_add(p, "folder", relative(row->folder, sweep), err));
  COH_TRY(pairs_add(p, "status", row->status, err));
  if (row->run_id) COH_TRY(pairs_add(p, "error", row->error ? row->error : "", err));
  for (size_t i = 0; row->measures && i < row->measures->n; i++)
    COH_TRY(pairs_add(p, row->measures->item[i].name,
                      coh_real_text(row->measures->item[i].value, text), err));
  bool timed = !isnan(row->seconds);
  COH_TRY(pairs_add(p, "time_s", timed ? coh_real_text(row->seconds, text) : "", err));
  COH_TRY(pairs_add(p, "hosts", row->hosts, err));
  COH_TRY(key_text(p, err));
  p->done = is_done(row->status);
cleanup:
  return rc;
}

/* ---- the file -------------------------------------------------------------------- */

/* The old file, if there is one, and where the key stands in it. */
static int read_old(const char *path, coh_table *old, size_t at[N_KEY], coh_error *err) {
  *old = (coh_table){0};
  if (!coh_file_exists(path)) return COH_OK;
  int rc = coh_table_read(path, old, err);
  for (int i = 0; i < N_KEY && rc == COH_OK; i++) {
    at[i] = coh_table_column(old, key_name[i]);
    if (at[i] == old->n_col)
      rc = coh_fail(err, COH_EDATA, "%s: it has no column '%s': not a table of runs",
                    path, key_name[i]);
  }
  if (rc == COH_EDATA)
    coh_explain(err, "rows of runs cannot be added to a damaged file; mend it or move it "
                     "away");
  return rc;
}

/* Which new row an old one is: its number, or SIZE_MAX. `key` is scratch. */
static size_t find_row(const coh_table *t, const size_t at[N_KEY], size_t r,
                       const coh_index *new, coh_text *key) {
  key->len = 0;
  for (int i = 0; i < N_KEY; i++) {
    const char *cell = t->cell[r * t->n_col + at[i]];
    coh_text_addn(key, cell, strlen(cell));
    coh_text_addn(key, "\n", 1);
  }
  return key->failed ? SIZE_MAX : coh_index_find(new, key->data);
}

static bool old_is_done(const coh_table *t, size_t r) {
  size_t status = coh_table_column(t, "status");
  return status < t->n_col && is_done(t->cell[r * t->n_col + status]);
}

/* Columns of the old table, then those of the new rows that it does not have. */
static int unite_columns(const coh_table *old, size_t n, const pairs *new, pairs *columns,
                         coh_error *err) {
  int rc = COH_OK;
  size_t cursor = 0;
  for (size_t i = 0; i < old->n_col; i++)
    COH_TRY(pairs_add(columns, old->col[i], NULL, err));
  for (size_t r = 0; r < n; r++)
    for (size_t i = 0; i < new[r].n; i++)
      if (pairs_seek(columns, new[r].item[i].name, &cursor) == columns->n)
        COH_TRY(pairs_add(columns, new[r].item[i].name, NULL, err));
cleanup:
  return rc;
}

static void add_new(coh_text *out, const pairs *columns, const pairs *row) {
  size_t cursor = 0;
  for (size_t i = 0; i < columns->n; i++) {
    size_t at = pairs_seek(row, columns->item[i].name, &cursor);
    if (i) coh_text_addn(out, ",", 1);
    if (at < row->n) coh_csv_cell(out, row->item[at].value);
  }
  coh_text_addn(out, "\n", 1);
}

/* Old columns come first, in their order. */
static void add_old(coh_text *out, const pairs *columns, const coh_table *old, size_t r) {
  for (size_t i = 0; i < columns->n; i++) {
    if (i) coh_text_addn(out, ",", 1);
    if (i < old->n_col) coh_csv_cell(out, old->cell[r * old->n_col + i]);
  }
  coh_text_addn(out, "\n", 1);
}

/* Old rows in their places, replaced where there is a new one (but none that is done by
 * one that is not), then the other new ones. */
static void merge(const coh_table *old, const size_t at[N_KEY], size_t n,
                  const pairs *new, const coh_index *index, bool *used,
                  const pairs *columns, coh_text *out) {
  coh_text key = {0};
  for (size_t i = 0; i < columns->n; i++) {
    if (i) coh_text_addn(out, ",", 1);
    coh_csv_cell(out, columns->item[i].name);
  }
  coh_text_addn(out, "\n", 1);
  for (size_t r = 0; r < old->n_row; r++) {
    size_t i = find_row(old, at, r, index, &key);
    bool mine = i < n && !used[i];
    if (mine) used[i] = true;
    if (mine && (new[i].done || !old_is_done(old, r)))
      add_new(out, columns, new + i);
    else
      add_old(out, columns, old, r);
  }
  for (size_t i = 0; i < n; i++)
    if (!used[i]) add_new(out, columns, new + i);
  if (key.failed) out->failed = true;
  coh_text_free(&key);
}

/* The new rows by key, which must differ. */
static int index_rows(size_t n, const pairs *new, coh_index *out, coh_error *err) {
  int rc = coh_index_make(out, n, err);
  for (size_t i = 0; i < n && rc == COH_OK; i++)
    if (coh_index_put(out, new[i].key, i) != i)
      rc = coh_fail(err, COH_EBUG, "runs.csv: two rows of the run %.32s", new[i].key);
  return rc;
}

static int put_locked(const char *path, size_t n, const pairs *new,
                      const coh_index *index, coh_error *err) {
  int rc = COH_OK;
  coh_table old = {0};
  pairs columns = {0};
  coh_text text = {0};
  bool *used = NULL;
  size_t at[N_KEY] = {0};
  COH_TRY(coh_alloc(&used, n, sizeof *used, err));
  COH_TRY(read_old(path, &old, at, err));
  COH_TRY(unite_columns(&old, n, new, &columns, err));
  merge(&old, at, n, new, index, used, &columns, &text);
  COH_TRY(coh_text_check(&text, err));
  COH_TRY(coh_file_write(path, text.data, text.len, err));
cleanup:
  free(used);
  coh_text_free(&text);
  pairs_free(&columns);
  coh_table_free(&old);
  return rc;
}

int coh_runs_put(const char *sweep, size_t n, const coh_row *rows, coh_error *err) {
  int rc = COH_OK, lock = -1;
  char path[COH_PATH];
  pairs *new = NULL;
  coh_index index = {0};
  if (n == 0) return COH_OK;
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", sweep));
  COH_TRY(coh_alloc(&new, n, sizeof *new, err));
  for (size_t i = 0; i < n; i++) COH_TRY(row_pairs(sweep, rows + i, new + i, err));
  COH_TRY(index_rows(n, new, &index, err));
  COH_TRY(coh_lock_take(sweep, true, NULL, &lock, err));
  COH_TRY(put_locked(path, n, new, &index, err));
cleanup:
  coh_lock_release(lock);
  coh_index_free(&index);
  for (size_t i = 0; new &&i < n; i++) pairs_free(new + i);
  free(new);
  return rc;
}

int coh_runs_check(const char *sweep, coh_error *err) {
  char path[COH_PATH];
  coh_table table = {0};
  size_t at[N_KEY];
  int rc = coh_format(path, sizeof path, err, "%s/runs.csv", sweep);
  if (!rc) rc = read_old(path, &table, at, err);
  coh_table_free(&table);
  return rc;
}
