/* rows.c - the runs.csv of a pack, written row by row. Uses base, config. */
#include "store/store_private.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What decides the columns. */
typedef struct columns {
  unsigned jobs;         /* bits of the jobs of the rows */
  coh_measures measures; /* their names alone */
} columns;

static int gather(columns *c, size_t n, coh_row_at row_at, void *ctx, coh_error *err) {
  int rc = COH_OK;
  size_t cursor = 0;
  for (size_t r = 0; r < n; r++) {
    coh_row row = {0};
    COH_TRY(row_at(ctx, r, &row, err));
    c->jobs |= 1u << row.cfg->experiment.job;
    for (size_t i = 0; row.measures && i < row.measures->n; i++) {
      const char *name = row.measures->item[i].name;
      if (coh_measures_find(&c->measures, name, &cursor) == c->measures.n)
        COH_TRY(coh_measures_add(&c->measures, name, 0, err));
    }
  }
cleanup:
  return rc;
}

/* ---- lines ----------------------------------------------------------------------- */

static void add(coh_text *line, const char *cell) {
  if (line->len) coh_text_addn(line, ",", 1);
  if (cell) coh_csv_cell(line, cell);
}

static void add_size(coh_text *line, size_t v) {
  char text[32];
  snprintf(text, sizeof text, "%zu", v);
  add(line, text);
}

static bool has_column(const columns *c, const coh_param *p) {
  for (int job = 0; c->jobs >> job; job++)
    if (c->jobs >> job & 1 && coh_param_is_identity(p, (coh_job)job)) return true;
  return false;
}

static void add_header(coh_text *line, const columns *c) {
  char name[128];
  size_t n;
  const coh_param *p = coh_params(&n);
  add(line, "run");
  add(line, "run_id");
  for (size_t i = 0; i < n; i++)
    if (has_column(c, p + i)) {
      snprintf(name, sizeof name, "%s.%s", p[i].section, p[i].key);
      add(line, name);
    }
  static const char *const middle[] = {"hash",    "clustering", "inputs", "member",
                                       "members", "folder",     "status", "error"};
  for (size_t i = 0; i < sizeof middle / sizeof *middle; i++) add(line, middle[i]);
  for (size_t i = 0; i < c->measures.n; i++) add(line, c->measures.item[i].name);
  add(line, "time_s");
  add(line, "hosts");
}

static void add_params(coh_text *line, const columns *c, const coh_config *cfg,
                       coh_text *cell) {
  size_t n;
  const coh_param *p = coh_params(&n);
  for (size_t i = 0; i < n; i++) {
    if (!has_column(c, p + i)) continue;
    cell->len = 0;
    if (p[i].jobs >> cfg->experiment.job & 1) coh_param_value(cfg, p + i, cell);
    add(line, cell->len ? cell->data : "");
  }
}

static void add_measures(coh_text *line, const columns *c, const coh_measures *m) {
  size_t cursor = 0;
  char text[32];
  for (size_t i = 0; i < c->measures.n; i++) {
    size_t at = m ? coh_measures_find(m, c->measures.item[i].name, &cursor) : 0;
    add(line, m && at < m->n ? coh_real_text(m->item[at].value, text) : "");
  }
}

static void add_row(coh_text *line, const columns *c, const coh_row *row,
                    coh_text *cell) {
  char text[32];
  add_size(line, row->index);
  add(line, row->run_id);
  add_params(line, c, row->cfg, cell);
  add(line, row->run.hex);
  add(line, row->clustering.hex);
  cell->len = 0;
  coh_row_inputs(row->inputs, cell);
  add(line, cell->len ? cell->data : "");
  add_size(line, row->member);
  add_size(line, row->members);
  add(line, row->folder);
  add(line, row->status);
  add(line, row->error);
  add_measures(line, c, row->measures);
  add(line, isnan(row->seconds) ? "" : coh_real_text(row->seconds, text));
  add(line, row->hosts);
}

/* ---- the file -------------------------------------------------------------------- */

static int put_line(FILE *out, coh_text *line, const char *path, coh_error *err) {
  coh_text_addn(line, "\n", 1);
  int rc = coh_text_check(line, err);
  if (!rc && fwrite(line->data, 1, line->len, out) != line->len)
    rc = coh_fail_errno(err, "cannot write '%s'", path);
  line->len = 0;
  return rc;
}

static int put_rows(FILE *out, const char *path, const columns *c, size_t n,
                    coh_row_at row_at, void *ctx, coh_error *err) {
  int rc = COH_OK;
  coh_text line = {0}, cell = {0};
  add_header(&line, c);
  COH_TRY(put_line(out, &line, path, err));
  for (size_t r = 0; r < n; r++) {
    coh_row row = {0};
    COH_TRY(row_at(ctx, r, &row, err));
    add_row(&line, c, &row, &cell);
    if (cell.failed) line.failed = true;
    COH_TRY(put_line(out, &line, path, err));
  }
cleanup:
  coh_text_free(&cell);
  coh_text_free(&line);
  return rc;
}

int coh_runs_write(const char *path, size_t n, coh_row_at row_at, void *ctx,
                   coh_error *err) {
  int rc = COH_OK;
  char temp[COH_PATH];
  FILE *out = NULL;
  columns c = {0};
  COH_TRY(gather(&c, n, row_at, ctx, err));
  COH_TRY(coh_temp_path(path, temp, sizeof temp, err));
  out = fopen(temp, "wbe");
  if (!out) {
    rc = coh_fail_errno(err, "cannot write '%s'", temp);
    goto cleanup;
  }
  COH_TRY(put_rows(out, path, &c, n, row_at, ctx, err));
  int bad = fclose(out);
  out = NULL;
  rc = bad ? coh_fail_errno(err, "cannot write '%s'", temp) : coh_temp_commit(path, err);
cleanup:
  if (out) (void)fclose(out);
  if (rc != COH_OK) coh_temp_discard(path);
  coh_measures_free(&c.measures);
  return rc;
}
