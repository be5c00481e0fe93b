/* collect.c - the runs.csv of a sub-batch, from those of its packs. Uses base, config. */
#include "store/union.h"

#include <stdlib.h>
#include <string.h>

static int add_packs(coh_union *u, const char *sub_batch, const coh_sink *sink,
                     coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_names packs = {0};
  const char *slash = strrchr(sub_batch, '/');
  COH_TRY(coh_names_packs(sub_batch, &packs, err));
  for (size_t i = 0; i < packs.n; i++) {
    COH_TRY(coh_format(path, sizeof path, err, "%s/packs/%s", sub_batch, packs.name[i]));
    rc = coh_union_add_pack(u, path, slash ? slash + 1 : sub_batch, err);
    if (rc == COH_EDATA || rc == COH_EIO) {
      coh_say(sink, COH_WARN, "%s", err->text);
      rc = COH_OK;
    }
    if (rc != COH_OK) goto cleanup;
  }
cleanup:
  coh_names_free(&packs);
  return rc;
}

/* Columns that decide the order, for the comparison. */
typedef struct order {
  const coh_union *u;
  size_t id, status, folder;
} order;

static bool is_done(const order *o, const coh_urow *r) {
  return strcmp(coh_union_cell(o->u, r, o->status), "done") == 0;
}

/* By run, then by run_id, those done first, then by folder. */
static int compare(const void *a, const void *b, void *ctx) {
  const order *o = ctx;
  const coh_urow *x = a, *y = b;
  if (x->run != y->run) return x->run < y->run ? -1 : 1;
  int sign = strcmp(coh_union_cell(o->u, x, o->id), coh_union_cell(o->u, y, o->id));
  if (!sign) sign = is_done(o, y) - is_done(o, x);
  if (!sign)
    sign = strcmp(coh_union_cell(o->u, x, o->folder), coh_union_cell(o->u, y, o->folder));
  return sign;
}

/* Sorts the rows and drops all but the first of each run. */
static void choose(coh_union *u) {
  order o = {u, coh_union_column(u, "run_id"), coh_union_column(u, "status"),
             coh_union_column(u, "folder")};
  size_t run = coh_union_column(u, "run"), kept = 0;
  for (size_t i = 0; i < u->n_row; i++)
    u->row[i].run = strtoull(coh_union_cell(u, u->row + i, run), NULL, 10);
  if (u->n_row) qsort_r(u->row, u->n_row, sizeof *u->row, compare, &o);
  for (size_t i = 0; i < u->n_row; i++)
    if (i == 0 || strcmp(coh_union_cell(u, u->row + i, o.id),
                         coh_union_cell(u, u->row + kept - 1, o.id)) != 0)
      u->row[kept++] = u->row[i];
  u->n_row = kept;
}

static const char *cell(void *ctx, size_t row, const coh_ucolumn *column) {
  const coh_union *u = ctx;
  return coh_union_cell(u, u->row + row, column->column);
}

static int write_table(const char *path, coh_union *u, coh_error *err) {
  static const char *const none[] = {NULL}, *const middle[] = {"hash",    "clustering",
                                                               "inputs",  "member",
                                                               "members", "folder",
                                                               "status",  "error",
                                                               NULL},
                           *const tail[] = {"time_s", "hosts", NULL};
  const coh_ushape shape = {middle, tail, none};
  coh_ucolumn *col = NULL;
  size_t n_col;
  int rc = coh_union_columns(u, &shape, u->n_row, u->row, &col, &n_col, err);
  if (!rc) rc = coh_unique_table(path, n_col, col, u->n_row, cell, u, err);
  free(col);
  return rc;
}

int coh_runs_collect(const char *sub_batch, const coh_sink *sink, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_union u = {0};
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", sub_batch));
  coh_unique_clean(sub_batch);
  COH_TRY(add_packs(&u, sub_batch, sink, err));
  COH_TRY(coh_union_seal(&u, err));
  choose(&u);
  COH_TRY(write_table(path, &u, err));
cleanup:
  coh_union_free(&u);
  return rc;
}
