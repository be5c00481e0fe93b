/* union.c - rows of many CSV files as one table. Uses base, config. */
#include "store/union.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(coh_error *err) {
  return coh_fail(err, COH_ENOMEM, "no memory for a table of all runs");
}

/* ---- columns and layouts --------------------------------------------------------- */

size_t coh_union_column(const coh_union *u, const char *name) {
  for (size_t i = 0; i < u->n_col; i++)
    if (strcmp(u->col[i], name) == 0) return i;
  return SIZE_MAX;
}

/* The column of that name, made if there is none. */
static int intern(coh_union *u, const char *name, uint32_t *out, coh_error *err) {
  size_t at = coh_union_column(u, name);
  if (at == SIZE_MAX) {
    char **more = realloc(u->col, (u->n_col + 1) * sizeof *more);
    if (!more) return no_memory(err);
    u->col = more;
    if (!(u->col[u->n_col] = strdup(name))) return no_memory(err);
    at = u->n_col++;
  }
  *out = (uint32_t)at;
  return COH_OK;
}

static int new_layout(coh_union *u, const char *header, const coh_csv *csv,
                      coh_error *err) {
  int rc = COH_OK;
  coh_layout *more = realloc(u->layout, (u->n_layout + 1) * sizeof *more);
  if (!more) return no_memory(err);
  u->layout = more;
  coh_layout *l = u->layout + u->n_layout++;
  *l = (coh_layout){.header = strdup(header), .n = csv->n};
  if (!l->header) return no_memory(err);
  COH_TRY(coh_alloc(&l->column, l->n, sizeof *l->column, err));
  for (size_t i = 0; i < l->n; i++) {
    COH_TRY(intern(u, csv->cell[i], l->column + i, err));
    for (size_t k = 0; k < i; k++)
      if (l->column[k] == l->column[i])
        rc = coh_fail(err, COH_EDATA, "%s:1: column '%s' comes twice", csv->path,
                      csv->cell[i]);
    if (rc != COH_OK) goto cleanup;
  }
cleanup:
  if (rc == COH_EDATA) {
    free(l->header);
    free(l->column);
    u->n_layout--;
  }
  return rc;
}

/* The layout of the file whose header line `csv` has just cut and `header` is. */
static int find_layout(coh_union *u, const char *header, const coh_csv *csv, size_t *out,
                       coh_error *err) {
  for (*out = u->n_layout; *out > 0;)
    if (strcmp(u->layout[--*out].header, header) == 0) return COH_OK;
  *out = u->n_layout;
  return new_layout(u, header, csv, err);
}

/* ---- files ----------------------------------------------------------------------- */

static void free_file(coh_ufile *f) {
  free(f->cell);
  free(f->text);
  free(f->sub_batch);
  free(f->folder);
  *f = (coh_ufile){0};
}

static int cut_header(coh_union *u, coh_ufile *f, coh_csv *csv, coh_error *err) {
  bool more;
  char *header = strndup(csv->at, strcspn(csv->at, "\r\n"));
  if (!header) return no_memory(err);
  int rc = coh_csv_next(csv, &more, err);
  if (!rc && !more)
    rc = coh_fail(err, COH_EDATA, "%s: empty, expected a line that names columns",
                  csv->path);
  if (!rc) rc = find_layout(u, header, csv, &f->layout, err);
  free(header);
  return rc;
}

static int cut_row(coh_ufile *f, size_t n_col, size_t *cap, const coh_csv *csv,
                   coh_error *err) {
  if (csv->n != n_col)
    return coh_fail(err, COH_EDATA,
                    "%s:%zu: truncated or damaged: %zu cells for %zu columns", csv->path,
                    csv->first, csv->n, n_col);
  if (f->n_row == *cap) {
    size_t rows = *cap ? 2 * *cap : 16;
    uint32_t *more = realloc(f->cell, rows * n_col * sizeof *more);
    if (!more) return no_memory(err);
    f->cell = more;
    *cap = rows;
  }
  for (size_t i = 0; i < n_col; i++)
    f->cell[f->n_row * n_col + i] = (uint32_t)(csv->cell[i] - f->text);
  f->n_row++;
  return COH_OK;
}

/* Cuts the text into cells, in place. */
static int cut_file(coh_union *u, coh_ufile *f, const char *path, size_t len,
                    coh_error *err) {
  int rc = COH_OK;
  size_t cap = 0;
  bool more;
  coh_csv csv = {0};
  if (len == 0 || f->text[len - 1] != '\n')
    return coh_fail(err, COH_EDATA, "%s: truncated: its last line does not end", path);
  if (len > UINT32_MAX)
    return coh_fail(err, COH_EDATA, "%s: longer than 4 GiB: merge its parts", path);
  COH_TRY(coh_csv_start(&csv, path, f->text, len, err));
  COH_TRY(cut_header(u, f, &csv, err));
  size_t n_col = u->layout[f->layout].n;
  for (;;) {
    COH_TRY(coh_csv_next(&csv, &more, err));
    if (!more) break;
    COH_TRY(cut_row(f, n_col, &cap, &csv, err));
  }
  if (f->n_row) {
    uint32_t *less = realloc(f->cell, f->n_row * n_col * sizeof *less);
    if (less) f->cell = less;
  }
cleanup:
  coh_csv_end(&csv);
  return rc;
}

static int load(coh_union *u, const char *folder, coh_ufile *f, size_t *len,
                coh_hash *sum, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", folder));
  if (!(f->folder = strdup(folder))) return no_memory(err);
  COH_TRY(coh_file_read(path, &f->text, len, err));
  if (sum) COH_TRY(coh_hash_bytes(f->text, *len, sum, err));
  COH_TRY(cut_file(u, f, path, *len, err));
cleanup:
  return rc;
}

/* Makes room for the file and its rows. */
static int reserve(coh_union *u, size_t rows, coh_error *err) {
  if (u->n_file == u->cap_file) {
    size_t cap = u->cap_file ? 2 * u->cap_file : 64;
    coh_ufile *more = realloc(u->file, cap * sizeof *more);
    if (!more) return no_memory(err);
    u->file = more;
    u->cap_file = cap;
  }
  if (u->n_row + rows > u->cap_row) {
    size_t cap = u->cap_row ? u->cap_row : 256;
    while (cap < u->n_row + rows) cap *= 2;
    coh_urow *more = realloc(u->row, cap * sizeof *more);
    if (!more) return no_memory(err);
    u->row = more;
    u->cap_row = cap;
  }
  return COH_OK;
}

/* Takes the file over. */
static int append(coh_union *u, const coh_ufile *f, coh_error *err) {
  int rc = reserve(u, f->n_row, err);
  if (rc != COH_OK) return rc;
  for (size_t r = 0; r < f->n_row; r++)
    u->row[u->n_row++] = (coh_urow){.file = (uint32_t)u->n_file, .row = (uint32_t)r};
  u->file[u->n_file++] = *f;
  return COH_OK;
}

static const char *file_cell(const coh_union *u, const coh_ufile *f, size_t row,
                             size_t column) {
  const coh_layout *l = u->layout + f->layout;
  for (size_t i = 0; i < l->n; i++)
    if (l->column[i] == column) return f->text + f->cell[row * l->n + i];
  return NULL;
}

static int has_columns(const coh_union *u, const coh_ufile *f, const char *const *name,
                       coh_error *err) {
  const coh_layout *l = u->layout + f->layout;
  for (; *name; name++) {
    size_t c = coh_union_column(u, *name), i = 0;
    while (i < l->n && l->column[i] != c) i++;
    if (i == l->n)
      return coh_fail(err, COH_EDATA,
                      "%s/runs.csv: it has no column '%s': not a table of "
                      "a sweep's runs",
                      f->folder, *name);
  }
  return COH_OK;
}

/* ---- packs ----------------------------------------------------------------------- */

/* The rows must be those that pack.json tells of. */
static int check_rows(const coh_union *u, const coh_ufile *f, const coh_pack *p,
                      coh_error *err) {
  size_t id = coh_union_column(u, "run_id"), status = coh_union_column(u, "status");
  if (f->n_row != p->n)
    return coh_fail(err, COH_EDATA,
                    "%s/runs.csv: truncated: %zu rows, but pack.json tells of %zu runs",
                    f->folder, f->n_row, p->n);
  for (size_t r = 0; r < p->n; r++)
    if (strcmp(file_cell(u, f, r, id), p->run[r].run_id) != 0 ||
        strcmp(file_cell(u, f, r, status), p->run[r].status) != 0)
      return coh_fail(err, COH_EDATA,
                      "%s/runs.csv: damaged: row %zu is not the run that pack.json has",
                      f->folder, r + 1);
  return COH_OK;
}

static int check_pack(const coh_union *u, const coh_ufile *f, const coh_pack *p,
                      const coh_hash *sum, coh_error *err) {
  static const char *const needed[] = {"run", "run_id", "status", "folder", NULL};
  int rc = has_columns(u, f, needed, err);
  if (!rc) rc = check_rows(u, f, p, err);
  if (!rc && *p->table && strcmp(p->table, sum->hex) != 0)
    rc = coh_fail(err, COH_EDATA,
                  "%s/runs.csv: changed since it was published: its "
                  "checksum is another",
                  f->folder);
  return rc;
}

int coh_union_add_pack(coh_union *u, const char *folder, const char *sub_batch,
                       coh_error *err) {
  int rc = COH_OK;
  size_t len;
  coh_hash sum;
  coh_pack pack = {0};
  coh_ufile f = {0};
  COH_TRY(coh_pack_read(folder, &pack, err));
  COH_TRY(load(u, folder, &f, &len, &sum, err));
  COH_TRY(check_pack(u, &f, &pack, &sum, err));
  if (!(f.sub_batch = strdup(sub_batch))) {
    rc = no_memory(err);
    goto cleanup;
  }
  memcpy(f.sweep, pack.sweep, sizeof f.sweep);
  f.model = coh_has_file(folder, "model.h5");
  COH_TRY(append(u, &f, err));
  f = (coh_ufile){0};
cleanup:
  free_file(&f);
  coh_pack_free(&pack);
  return rc;
}

int coh_union_add_table(coh_union *u, const char *folder, coh_error *err) {
  static const char *const needed[] = {"run",    "run_id",    "status",
                                       "folder", "sub_batch", NULL};
  int rc = COH_OK;
  size_t len;
  coh_ufile f = {0};
  COH_TRY(load(u, folder, &f, &len, NULL, err));
  COH_TRY(has_columns(u, &f, needed, err));
  f.model = coh_has_file(folder, "runs.h5");
  COH_TRY(append(u, &f, err));
  f = (coh_ufile){0};
cleanup:
  free_file(&f);
  return rc;
}

/* ---- the whole ------------------------------------------------------------------- */

int coh_union_seal(coh_union *u, coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i < u->n_layout; i++) {
    coh_layout *l = u->layout + i;
    l->n_own = u->n_col;
    COH_TRY(coh_alloc(&l->own, u->n_col, sizeof *l->own, err));
    memset(l->own, 0xff, u->n_col * sizeof *l->own);
    for (size_t k = 0; k < l->n; k++) l->own[l->column[k]] = (uint32_t)k;
  }
cleanup:
  return rc;
}

const char *coh_union_cell(const coh_union *u, const coh_urow *row, size_t column) {
  const coh_ufile *f = u->file + row->file;
  const coh_layout *l = u->layout + f->layout;
  if (column >= l->n_own || l->own[column] == UINT32_MAX) return "";
  return f->text + f->cell[row->row * l->n + l->own[column]];
}

void coh_union_free(coh_union *u) {
  for (size_t i = 0; i < u->n_file; i++) free_file(u->file + i);
  for (size_t i = 0; i < u->n_layout; i++) {
    free(u->layout[i].header);
    free(u->layout[i].column);
    free(u->layout[i].own);
  }
  for (size_t i = 0; i < u->n_col; i++) free(u->col[i]);
  free(u->row);
  free(u->col);
  free(u->layout);
  free(u->file);
  *u = (coh_union){0};
}

/* ---- what a table shows ---------------------------------------------------------- */

static const char *const first[] = {"run", "run_id", NULL};

static bool in_list(const char *const *list, const char *name) {
  while (*list && strcmp(*list, name) != 0) list++;
  return *list != NULL;
}

static int param_number(const char *name) {
  size_t n;
  const coh_param *p = coh_params(&n);
  for (size_t i = 0; i < n; i++) {
    size_t len = strlen(p[i].section);
    if (strncmp(name, p[i].section, len) == 0 && name[len] == '.' &&
        strcmp(name + len + 1, p[i].key) == 0)
      return (int)i;
  }
  return -1;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const coh_ucolumn *)a)->name, ((const coh_ucolumn *)b)->name);
}

static int by_param(const void *a, const void *b) {
  return param_number(((const coh_ucolumn *)a)->name) -
         param_number(((const coh_ucolumn *)b)->name);
}

/* Marks the columns that hold something in one of the rows. */
static void mark_used(const coh_union *u, size_t n, const coh_urow *rows, bool *used) {
  for (size_t r = 0; r < n; r++)
    for (size_t c = 0; c < u->n_col; c++)
      if (!used[c]) used[c] = *coh_union_cell(u, rows + r, c) != '\0';
}

static void add_list(const coh_union *u, const char *const *list, coh_ucolumn *out,
                     size_t *n) {
  for (; *list; list++) out[(*n)++] = (coh_ucolumn){*list, coh_union_column(u, *list)};
}

/* All columns of a kind: parameters, or measures that hold something. */
static void add_kind(const coh_union *u, const coh_ushape *s, bool params,
                     const bool *used, coh_ucolumn *out, size_t *n) {
  size_t start = *n;
  for (size_t c = 0; c < u->n_col; c++) {
    const char *name = u->col[c];
    if (in_list(first, name) || in_list(s->middle, name) || in_list(s->tail, name) ||
        in_list(s->hidden, name) || (param_number(name) >= 0) != params)
      continue;
    if (params || used[c]) out[(*n)++] = (coh_ucolumn){name, c};
  }
  if (*n > start)
    qsort(out + start, *n - start, sizeof *out, params ? by_param : by_name);
}

int coh_union_columns(const coh_union *u, const coh_ushape *s, size_t n,
                      const coh_urow *rows, coh_ucolumn **out, size_t *n_out,
                      coh_error *err) {
  int rc = COH_OK;
  size_t listed = 2;
  bool *used = NULL;
  *n_out = 0;
  for (size_t i = 0; s->middle[i]; i++) listed++;
  for (size_t i = 0; s->tail[i]; i++) listed++;
  COH_TRY(coh_alloc(out, u->n_col + listed, sizeof **out, err));
  COH_TRY(coh_alloc(&used, u->n_col, sizeof *used, err));
  mark_used(u, n, rows, used);
  add_list(u, first, *out, n_out);
  add_kind(u, s, true, used, *out, n_out);
  add_list(u, s->middle, *out, n_out);
  add_kind(u, s, false, used, *out, n_out);
  add_list(u, s->tail, *out, n_out);
cleanup:
  free(used);
  return rc;
}
