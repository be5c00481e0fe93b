/* frame.c - a table of runs by its columns: which parameters vary, which columns are
 * measures, and which measure says how good a run is. Uses base, store. */
#include "plot/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a column is ----------------------------------------------------------------
 */

static bool is_book(const char *name) {
  static const char *const book[] = {"run",    "run_id", "hash",    "clustering",
                                     "inputs", "member", "members", "folder",
                                     "status", "error",  "hosts",   "sub_batch"};
  for (size_t i = 0; i < sizeof book / sizeof *book; i++)
    if (strcmp(book[i], name) == 0) return true;
  return false;
}

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

bool coh_measure_wants_most(const char *name) {
  return strstr(name, "accuracy") || strstr(name, "compression");
}

/* Better ones come first; anything else after them. */
static size_t rank_of(const char *name) {
  static const char *const first[] = {"test_accuracy",          "test_accuracy_mean",
                                      "final_accuracy_testset", "parameter_rmse",
                                      "loss_recovered",         "test_loss",
                                      "test_loss_mean",         "final_loss_testset",
                                      "train_accuracy",         "train_accuracy_mean",
                                      "student_loss_median",    "train_loss",
                                      "train_loss_mean",        "l0_norm"};
  enum { N = sizeof first / sizeof *first };
  for (size_t i = 0; i < N; i++)
    if (strcmp(first[i], name) == 0) return i;
  return strcmp(name, "time_s") == 0 ? N + 1 : N;
}

static int compare_texts(const void *a, const void *b) {
  double x = coh_text_number(*(const char *const *)a);
  double y = coh_text_number(*(const char *const *)b);
  return (x > y) - (x < y);
}

/* value, n_value, place, at of a column. */
static int fill_values(const coh_frame *f, size_t col, coh_column *c, coh_error *err) {
  int rc;
  coh_index index = {0};
  COH_TRY(coh_alloc(&c->value, f->n, sizeof *c->value, err));
  COH_TRY(coh_alloc(&c->at, f->n, sizeof *c->at, err));
  COH_TRY(coh_alloc(&c->place, f->n, sizeof *c->place, err));
  COH_TRY(coh_index_make(&index, f->n, err));
  c->number = true;
  for (size_t i = 0; i < f->n; i++) {
    const char *cell = f->table->cell[f->row[i] * f->n_col + col];
    if (!*cell) continue;
    size_t k = coh_index_put(&index, cell, c->n_value);
    if (k == c->n_value) c->value[c->n_value++] = cell;
    c->number &= strcmp(cell, "nan") == 0 || !isnan(coh_text_number(cell));
  }
  if (c->number && c->n_value)
    qsort(c->value, c->n_value, sizeof *c->value, compare_texts);
  coh_index_free(&index);
  COH_TRY(coh_index_make(&index, c->n_value, err));
  for (size_t k = 0; k < c->n_value; k++) coh_index_put(&index, c->value[k], k);
  for (size_t i = 0; i < f->n; i++) {
    const char *cell = f->table->cell[f->row[i] * f->n_col + col];
    c->place[i] = *cell ? coh_index_find(&index, cell) : SIZE_MAX;
    c->at[i] = c->place[i] == SIZE_MAX ? NAN
               : c->number             ? coh_text_number(cell)
                                       : (double)c->place[i];
  }
cleanup:
  coh_index_free(&index);
  return rc;
}

static void classify(coh_column *c, size_t rows) {
  size_t finite = 0;
  for (size_t i = 0; i < rows; i++) finite += isfinite(c->at[i]) != 0;
  if (strchr(c->name, '.')) {
    if (c->n_value > 1)
      c->is = ends_with(c->name, "seed") ? COH_COLUMN_SEED : COH_COLUMN_PARAMETER;
  } else if (!is_book(c->name) && c->number && finite > 0) {
    c->is = COH_COLUMN_MEASURE;
  }
}

int coh_frame_make(const coh_table *t, coh_frame *f, coh_error *err) {
  int rc;
  size_t status = coh_table_column(t, "status");
  *f = (coh_frame){.table = t, .n_col = t->n_col};
  COH_TRY(coh_alloc(&f->row, t->n_row, sizeof *f->row, err));
  COH_TRY(coh_alloc(&f->col, t->n_col, sizeof *f->col, err));
  for (size_t i = 0; i < t->n_row; i++)
    if (status == t->n_col || strcmp(t->cell[i * t->n_col + status], "done") == 0)
      f->row[f->n++] = i;
  for (size_t c = 0; c < t->n_col; c++) {
    f->col[c].name = t->col[c];
    COH_TRY(fill_values(f, c, f->col + c, err));
    classify(f->col + c, f->n);
  }
cleanup:
  return rc;
}

void coh_frame_free(coh_frame *f) {
  for (size_t c = 0; f->col && c < f->n_col; c++) {
    free(f->col[c].value);
    free(f->col[c].at);
    free(f->col[c].place);
  }
  free(f->col);
  free(f->row);
}

const coh_column *coh_frame_column(const coh_frame *f, const char *name) {
  for (size_t c = 0; c < f->n_col; c++)
    if (strcmp(f->col[c].name, name) == 0) return f->col + c;
  return NULL;
}

size_t coh_frame_axes(const coh_frame *f, const coh_column **out, size_t most) {
  size_t n = 0;
  for (size_t c = 0; c < f->n_col && n < most; c++)
    if (f->col[c].is == COH_COLUMN_PARAMETER) out[n++] = f->col + c;
  return n;
}

const coh_column *coh_frame_measure(const coh_frame *f, const char *but) {
  const coh_column *best = NULL;
  for (size_t c = 0; c < f->n_col; c++) {
    const coh_column *m = f->col + c;
    if (m->is != COH_COLUMN_MEASURE || (but && strcmp(m->name, but) == 0)) continue;
    if (!best || rank_of(m->name) < rank_of(best->name)) best = m;
  }
  return best;
}

/* ---- for those outside ---------------------------------------------------------------
 */

const char *coh_main_measure(const coh_table *t, bool *most) {
  coh_frame f;
  coh_error ignored;
  const char *name = NULL;
  if (coh_frame_make(t, &f, &ignored) == COH_OK) {
    const coh_column *m = coh_frame_measure(&f, NULL);
    name = m ? m->name : NULL;
  }
  coh_frame_free(&f);
  *most = name && coh_measure_wants_most(name);
  return name;
}

/* Does a column say something: is it filled, and where it is a parameter, not everywhere
 * with the same? */
static bool says_something(const coh_table *t, size_t col) {
  bool filled = false, varies = false;
  for (size_t i = 0; i < t->n_row; i++) {
    const char *cell = t->cell[i * t->n_col + col];
    filled |= *cell != '\0';
    varies |= strcmp(cell, t->cell[col]) != 0;
  }
  bool may_be_same = !strchr(t->col[col], '.') &&
                     strcmp(t->col[col], "clustering") != 0 &&
                     strcmp(t->col[col], "inputs") != 0;
  return filled && (varies || may_be_same);
}

void coh_runs_columns(const coh_table *t, bool *shown) {
  static const char *const never[] = {"run_id", "hash", "member", "members", "folder"};
  for (size_t c = 0; c < t->n_col; c++) {
    shown[c] = t->n_row > 0 && says_something(t, c);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
      if (strcmp(t->col[c], never[i]) == 0) shown[c] = false;
  }
}
