/* csv.c - comma separated values as RFC 4180 has them. Lines may end in LF or CRLF. Uses
 * base. */
#include "store/store_private.h"

#include <stdlib.h>
#include <string.h>

/* ---- records --------------------------------------------------------------------- */

int coh_csv_start(coh_csv *csv, const char *path, char *text, size_t len,
                  coh_error *err) {
  static const char mark[] = "\xef\xbb\xbf"; /* spreadsheets put it before UTF-8 */
  *csv = (coh_csv){.path = path, .at = text, .end = text + len};
  if (len >= 3 && memcmp(text, mark, 3) == 0) csv->at += 3;
  if (memchr(text, 0, len))
    return coh_fail(err, COH_EDATA, "%s: not a text: it holds a zero byte", path);
  return COH_OK;
}

void coh_csv_end(coh_csv *csv) {
  free(csv->cell);
  csv->cell = NULL;
}

static int add_cell(coh_csv *csv, char *cell, coh_error *err) {
  if (csv->n == csv->cap) {
    size_t cap = csv->cap ? 2 * csv->cap : 16;
    char **more = realloc(csv->cell, cap * sizeof *more);
    if (!more) return coh_fail(err, COH_ENOMEM, "%s: out of memory", csv->path);
    csv->cell = more;
    csv->cap = cap;
  }
  csv->cell[csv->n++] = cell;
  return COH_OK;
}

/* A cell in quotes, its doubled quotes made single; at is left behind the closing one. */
static int cut_quoted(coh_csv *csv, coh_error *err) {
  char *to = csv->at;
  for (char *from = csv->at + 1; from < csv->end; from++) {
    if (*from == '\n') csv->line++;
    if (*from == '"' && *++from != '"') {
      if (from < csv->end && !strchr(",\r\n", *from)) break;
      csv->at = from;
      *to = '\0'; /* at least two bytes before `from` */
      return COH_OK;
    }
    *to++ = *from;
  }
  return coh_fail(err, COH_EDATA, "%s:%zu: a quote that does not end, or ends in a cell",
                  csv->path, csv->first);
}

/* One cell; *last if it ends its record. at is left behind the comma or the end of line.
 */
static int cut_cell(coh_csv *csv, bool *last, coh_error *err) {
  char *cell = csv->at, *stop;
  if (*cell == '"') {
    int rc = cut_quoted(csv, err);
    if (rc != COH_OK) return rc;
    stop = csv->at;
  } else {
    stop = cell + strcspn(cell, ",\r\n");
  }
  *last = *stop != ',';
  csv->at = stop + (stop < csv->end);
  if (*stop == '\r' && csv->at < csv->end && *csv->at == '\n') csv->at++;
  *stop = '\0';
  return add_cell(csv, cell, err);
}

int coh_csv_next(coh_csv *csv, bool *more, coh_error *err) {
  int rc = COH_OK;
  for (*more = false; csv->at < csv->end && !*more;) {
    bool last = false;
    csv->n = 0;
    csv->first = ++csv->line;
    while (!last && rc == COH_OK) rc = cut_cell(csv, &last, err);
    if (rc != COH_OK) return rc;
    *more = csv->n > 1 || *csv->cell[0]; /* else an empty line */
  }
  return COH_OK;
}

void coh_csv_cell(coh_text *out, const char *cell) {
  if (!cell[strcspn(cell, ",\"\r\n")]) {
    coh_text_addn(out, cell, strlen(cell));
    return;
  }
  coh_text_addn(out, "\"", 1);
  for (const char *c = cell; *c; c++)
    coh_text_addn(out, *c == '"' ? "\"\"" : c, 1 + (*c == '"'));
  coh_text_addn(out, "\"", 1);
}

/* ---- tables ---------------------------------------------------------------------- */

static int set_columns(coh_table *t, const coh_csv *csv, coh_error *err) {
  int rc = coh_alloc(&t->col, csv->n, sizeof *t->col, err);
  for (size_t i = 0; i < csv->n && rc == COH_OK; i++) {
    if (coh_table_column(t, csv->cell[i]) < t->n_col)
      rc = coh_fail(err, COH_EDATA, "%s:%zu: column '%s' comes twice", csv->path,
                    csv->first, csv->cell[i]);
    t->col[t->n_col++] = csv->cell[i];
  }
  return rc;
}

static int add_row(coh_table *t, size_t *cap, const coh_csv *csv, coh_error *err) {
  if (csv->n != t->n_col)
    return coh_fail(err, COH_EDATA, "%s:%zu: %zu cells, but there are %zu columns",
                    csv->path, csv->first, csv->n, t->n_col);
  if (t->n_row == *cap) {
    size_t rows = *cap ? 2 * *cap : 64;
    char **more = realloc(t->cell, rows * t->n_col * sizeof *more);
    if (!more) return coh_fail(err, COH_ENOMEM, "%s: out of memory", csv->path);
    t->cell = more;
    *cap = rows;
  }
  memcpy(t->cell + t->n_row++ * t->n_col, csv->cell, t->n_col * sizeof *t->cell);
  return COH_OK;
}

int coh_table_read(const char *path, coh_table *out, coh_error *err) {
  int rc = COH_OK;
  size_t len, cap = 0;
  bool more;
  coh_csv csv = {0};
  *out = (coh_table){0};
  COH_TRY(coh_file_read(path, &out->text, &len, err));
  COH_TRY(coh_csv_start(&csv, path, out->text, len, err));
  COH_TRY(coh_csv_next(&csv, &more, err));
  if (!more) {
    rc = coh_fail(err, COH_EDATA, "%s: empty, expected a line that names columns", path);
    goto cleanup;
  }
  COH_TRY(set_columns(out, &csv, err));
  for (;;) {
    COH_TRY(coh_csv_next(&csv, &more, err));
    if (!more) break;
    COH_TRY(add_row(out, &cap, &csv, err));
  }
cleanup:
  coh_csv_end(&csv);
  if (rc != COH_OK) coh_table_free(out);
  return rc;
}

size_t coh_table_column(const coh_table *t, const char *name) {
  size_t i = 0;
  while (i < t->n_col && strcmp(t->col[i], name) != 0) i++;
  return i;
}

void coh_table_free(coh_table *t) {
  free(t->cell);
  free(t->col);
  free(t->text);
  *t = (coh_table){0};
}
