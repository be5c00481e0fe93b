/* merge.c - one table of all runs of a sweep, from whatever sub-batches and merged tables
 * there are. Which of several rows of a run is taken does not depend on their order, and
 * a merged table stands for the rows it was made of: see choose_versions. Uses base,
 * config. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "store/links.h"
#include "store/union.h"

enum { TOLD = 10 }; /* remarks of one kind */

typedef struct merger {
  const coh_merge_spec *spec;
  const coh_sink *sink;
  coh_merge_result *result;
  coh_union u;
  coh_index index;  /* run_id -> its place in the sweep */
  size_t n_content; /* columns that two results of one run must agree in */
  coh_ucolumn *content;
  size_t id, status, sub_batch, folder, time, hosts, member, members, run; /* columns */
  size_t n_kept;
  coh_urow *kept;
} merger;

/* ---- input ----------------------------------------------------------------------- */

/* What cannot be read is told of, and its runs count as missing. */
static int pass_over(merger *m, int rc, const char *advice, const char *path,
                     coh_error *err) {
  if (rc != COH_EDATA && rc != COH_EIO) return rc;
  if (m->result->damaged++ < TOLD)
    coh_say(m->sink, COH_WARN, "%s; %s %s", err->text, advice, path);
  return COH_OK;
}

static int add_pack(merger *m, const char *sub_batch, const char *name, coh_error *err) {
  char path[COH_PATH];
  const char *slash = strrchr(sub_batch, '/');
  int rc = coh_format(path, sizeof path, err, "%s/packs/%s", sub_batch, name);
  if (!rc) rc = coh_union_add_pack(&m->u, path, slash ? slash + 1 : sub_batch, err);
  return pass_over(m, rc, "its runs count as missing, and running them again replaces",
                   path, err);
}

static int add_sub_batch(merger *m, const char *path, coh_error *err) {
  int rc = COH_OK;
  coh_names packs = {0};
  COH_TRY(coh_names_packs(path, &packs, err));
  for (size_t i = 0; i < packs.n; i++) COH_TRY(add_pack(m, path, packs.name[i], err));
cleanup:
  coh_names_free(&packs);
  return rc;
}

static int add_sub_batches(merger *m, const char *folder, size_t n,
                           const coh_sub_folder *sub, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  for (size_t i = 0; i < n; i++) {
    COH_TRY(coh_format(path, sizeof path, err, "%s/%s", folder, sub[i].name));
    COH_TRY(add_sub_batch(m, path, err));
  }
cleanup:
  return rc;
}

/* A sweep's folder, one sub-batch, or a folder that a merge has written. A sweep's folder
 * may hold a merged table, too: its sub-batches say the same, and more. */
static int add_input(merger *m, const char *given, coh_error *err) {
  int rc = COH_OK;
  size_t n = 0, k;
  char folder[COH_PATH];
  coh_sub_folder *sub = NULL;
  if (!realpath(given, folder))
    return coh_fail(err, COH_EUSAGE, "'%s': %s", given, strerror(errno));
  if (coh_sub_batch_name(strrchr(folder, '/') + 1, &k, &n))
    return add_sub_batch(m, folder, err);
  COH_TRY(coh_sub_folders(folder, &sub, &n, err));
  if (n > 0)
    rc = add_sub_batches(m, folder, n, sub, err);
  else if (coh_has_file(folder, "runs.csv"))
    rc = pass_over(m, coh_union_add_table(&m->u, folder, err), "merge anew", folder, err);
  else if (!coh_has_file(folder, "sweep.ini"))
    rc =
        coh_fail(err, COH_EUSAGE,
                 "'%s' is no folder of a sweep: it has neither sub-batches (<k>-<n>) nor "
                 "a runs.csv that merge wrote",
                 given);
cleanup:
  free(sub);
  return rc;
}

/* ---- which runs ------------------------------------------------------------------ */

static int index_runs(merger *m, coh_error *err) {
  int rc = coh_index_make(&m->index, m->spec->runs, err);
  for (size_t i = 0; i < m->spec->runs && rc == COH_OK; i++)
    if (coh_index_put(&m->index, m->spec->id[i].hex, i) != i)
      rc = coh_fail(err, COH_EBUG, "two runs of the sweep have the identity %s",
                    m->spec->id[i].hex);
  return rc;
}

/* Folder of the sub-batch, or the merged table, that a file is of. */
static int origin(const coh_ufile *f) {
  const char *packs = f->sub_batch ? strstr(f->folder, "/packs/") : NULL;
  for (const char *next = packs; next; next = strstr(next + 1, "/packs/")) packs = next;
  return packs ? (int)(packs - f->folder) : (int)strlen(f->folder);
}

static bool same_origin(const coh_ufile *a, const coh_ufile *b) {
  int n = origin(a);
  return n == origin(b) && strncmp(a->folder, b->folder, (size_t)n) == 0;
}

static void tell_foreign(const merger *m, const coh_ufile *f, size_t rows) {
  coh_say(m->sink, COH_WARN,
          "'%.*s' has %zu %s of another sweep, left out (this sweep is %.*s%s%.*s)",
          origin(f), f->folder, rows, rows == 1 ? "run" : "runs", COH_HASH_SHOWN,
          m->spec->sweep, *f->sweep ? ", that one is " : "", COH_HASH_SHOWN, f->sweep);
}

/* Rows come file by file, so those of one origin come together. */
static void drop_foreign(merger *m) {
  coh_union *u = &m->u;
  size_t kept = 0, here = 0, told = 0;
  const coh_ufile *last = NULL;
  for (size_t i = 0; i <= u->n_row; i++) {
    const coh_ufile *f = i < u->n_row ? u->file + u->row[i].file : NULL;
    if (here && (!f || !same_origin(f, last))) {
      if (told++ < TOLD) tell_foreign(m, last, here);
      here = 0;
    }
    if (!f) break;
    last = f;
    u->row[i].run = coh_index_find(&m->index, coh_union_cell(u, u->row + i, m->id));
    if (u->row[i].run == SIZE_MAX)
      here++;
    else
      u->row[kept++] = u->row[i];
  }
  if (told > TOLD)
    coh_say(m->sink, COH_WARN, "and %zu more folders with runs of other sweeps",
            told - TOLD);
  m->result->foreign = u->n_row - kept;
  u->n_row = kept;
}

/* ---- which rows ------------------------------------------------------------------ */

static int by_name(const void *a, const void *b) {
  return strcmp(((const coh_ucolumn *)a)->name, ((const coh_ucolumn *)b)->name);
}

/* All columns but those that say where, when and how a run was run. */
static int find_content(merger *m, coh_error *err) {
  static const char *const not [] = {"run",    "run_id", "status",    "member", "members",
                                     "folder", "time_s", "sub_batch", "hosts",  NULL};
  const coh_union *u = &m->u;
  int rc = coh_alloc(&m->content, u->n_col, sizeof *m->content, err);
  for (size_t c = 0; c < u->n_col && rc == COH_OK; c++) {
    size_t i = 0;
    while (not [i] && strcmp(not [i], u -> col[c]) != 0) i++;
    if (!not [i]) m->content[m->n_content++] = (coh_ucolumn){u->col[c], c};
  }
  if (m->n_content) qsort(m->content, m->n_content, sizeof *m->content, by_name);
  return rc;
}

static const char *cell(const merger *m, const coh_urow *r, size_t column) {
  return coh_union_cell(&m->u, r, column);
}

/* "done", or one of two results that differ. */
static bool is_done(const merger *m, const coh_urow *r) {
  const char *status = cell(m, r, m->status);
  return strcmp(status, "done") == 0 || strcmp(status, "conflict") == 0;
}

static const char *sub_batch_of(const merger *m, const coh_urow *r) {
  const char *name = m->u.file[r->file].sub_batch;
  return name ? name : cell(m, r, m->sub_batch);
}

static int compare_content(const merger *m, const coh_urow *x, const coh_urow *y) {
  int sign = 0;
  for (size_t c = 0; c < m->n_content && !sign; c++)
    sign = strcmp(cell(m, x, m->content[c].column), cell(m, y, m->content[c].column));
  return sign;
}

static int compare_origin(const merger *m, const coh_urow *x, const coh_urow *y) {
  int sign = strcmp(sub_batch_of(m, x), sub_batch_of(m, y));
  if (!sign) sign = strcmp(cell(m, x, m->folder), cell(m, y, m->folder));
  if (!sign) sign = strcmp(cell(m, x, m->time), cell(m, y, m->time));
  if (!sign) sign = strcmp(cell(m, x, m->hosts), cell(m, y, m->hosts));
  return sign;
}

/* A total order: by run, done ones first, then by what they say, then by where they are
 * from. Rows equal in all this differ only in the file they were read from. */
static int compare(const void *a, const void *b, void *ctx) {
  const merger *m = ctx;
  const coh_urow *x = a, *y = b;
  if (x->run != y->run) return x->run < y->run ? -1 : 1;
  int sign = is_done(m, y) - is_done(m, x);
  if (!sign) sign = compare_content(m, x, y);
  if (!sign) sign = compare_origin(m, x, y);
  const coh_ufile *f = m->u.file + x->file, *g = m->u.file + y->file;
  if (!sign) sign = g->model - f->model;
  if (!sign) sign = strcmp(f->folder, g->folder);
  if (!sign) sign = (x->row > y->row) - (x->row < y->row);
  return sign;
}

static void tell_conflict(const merger *m, const coh_urow *x, const coh_urow *y) {
  size_t c = 0;
  while (c < m->n_content &&
         strcmp(cell(m, x, m->content[c].column), cell(m, y, m->content[c].column)) == 0)
    c++;
  if (c == m->n_content) return;
  coh_say(m->sink, COH_WARN,
          "run %zu has two results: %s is '%s' in %s/%s and '%s' in %s/%s", x->run,
          m->content[c].name, cell(m, x, m->content[c].column), sub_batch_of(m, x),
          cell(m, x, m->folder), cell(m, y, m->content[c].column), sub_batch_of(m, y),
          cell(m, y, m->folder));
}

/* Of a run's rows [from, to), sorted: the first of each result there is; if none is done,
 * the first failed one. Several results are all kept, as conflicts, so that a later merge
 * sees them as this one does. */
static void choose_versions(merger *m, size_t from, size_t to) {
  const coh_urow *row = m->u.row;
  coh_merge_result *res = m->result;
  size_t first = m->n_kept;
  bool done = is_done(m, row + from);
  for (size_t i = from; i < to && is_done(m, row + i) == done; i++) {
    bool any = m->n_kept > first;
    const coh_urow *last = any ? m->kept + m->n_kept - 1 : NULL;
    if (any && (!done || compare_content(m, last, row + i) == 0)) {
      res->doubled += done && compare_origin(m, row + i - 1, row + i) != 0;
      continue;
    }
    if (any && res->conflict < TOLD) tell_conflict(m, last, row + i);
    m->kept[m->n_kept++] = row[i];
  }
  bool conflict = m->n_kept - first > 1;
  res->state[row[from].run] = conflict ? 'c' : done ? 'd' : 'f';
  *(conflict ? &res->conflict : done ? &res->done : &res->failed) += 1;
}

static int choose(merger *m, coh_error *err) {
  coh_union *u = &m->u;
  int rc = coh_alloc(&m->kept, u->n_row, sizeof *m->kept, err);
  if (rc != COH_OK) return rc;
  if (u->n_row) qsort_r(u->row, u->n_row, sizeof *u->row, compare, m);
  for (size_t i = 0, end; i < u->n_row; i = end) {
    for (end = i + 1; end < u->n_row && u->row[end].run == u->row[i].run;) end++;
    choose_versions(m, i, end);
  }
  return rc;
}

/* ---- output ---------------------------------------------------------------------- */

typedef struct output {
  const merger *m;
  char number[32];
} output;

static const char *output_cell(void *ctx, size_t row, const coh_ucolumn *column) {
  output *o = ctx;
  const merger *m = o->m;
  const coh_urow *r = m->kept + row;
  if (column->column == SIZE_MAX || column->column == m->sub_batch)
    return strcmp(column->name, "sub_batch") == 0 ? sub_batch_of(m, r) : "";
  if (column->column == m->run) {
    snprintf(o->number, sizeof o->number, "%zu", r->run);
    return o->number;
  }
  if (column->column == m->status && m->result->state[r->run] == 'c') return "conflict";
  return cell(m, r, column->column);
}

static int write_table(const merger *m, coh_error *err) {
  static const char *const middle[] = {"hash",   "clustering", "inputs",
                                       "status", "error",      NULL},
                           *const tail[] = {"time_s", "hosts", "sub_batch", "folder",
                                            NULL},
                           *const hidden[] = {"member", "members", NULL};
  const coh_ushape shape = {middle, tail, hidden};
  int rc = COH_OK;
  size_t n_col;
  char path[COH_PATH];
  coh_ucolumn *col = NULL;
  output o = {.m = m};
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", m->spec->out));
  COH_TRY(coh_union_columns(&m->u, &shape, m->n_kept, m->kept, &col, &n_col, err));
  COH_TRY(coh_unique_table(path, n_col, col, m->n_kept, output_cell, &o, err));
cleanup:
  free(col);
  return rc;
}

static size_t number(const merger *m, const coh_urow *r, size_t column) {
  return (size_t)strtoull(cell(m, r, column), NULL, 10);
}

static int link_run(const merger *m, coh_links *links, const coh_urow *r,
                    coh_error *err) {
  const coh_ufile *f = m->u.file + r->file;
  const char *id = cell(m, r, m->id);
  if (!f->sub_batch)
    return coh_links_adopt(links, r->run, id, f->folder, number(m, r, m->run), err);
  return coh_links_add(links, r->run, id, f->folder, number(m, r, m->member),
                       number(m, r, m->members), err);
}

static int write_links(const merger *m, coh_error *err) {
  size_t told = 0;
  coh_links *links = NULL;
  int rc = coh_links_create(m->spec->out, m->spec->runs, m->spec->copy, &links, err);
  for (size_t i = 0; i < m->n_kept && rc == COH_OK; i++) {
    const coh_urow *r = m->kept + i;
    if (m->result->state[r->run] != 'd' || !m->u.file[r->file].model) continue;
    rc = link_run(m, links, r, err);
    if (rc != COH_EDATA) continue;
    if (told++ < TOLD)
      coh_say(m->sink, COH_WARN, "run %zu stays without its model: %s", r->run,
              err->text);
    rc = COH_OK;
  }
  if (rc == COH_OK) return coh_links_commit(links, err);
  coh_links_abandon(links);
  return rc;
}

/* ---- the whole ------------------------------------------------------------------- */

static void find_columns(merger *m) {
  const coh_union *u = &m->u;
  m->id = coh_union_column(u, "run_id");
  m->run = coh_union_column(u, "run");
  m->status = coh_union_column(u, "status");
  m->sub_batch = coh_union_column(u, "sub_batch");
  m->folder = coh_union_column(u, "folder");
  m->time = coh_union_column(u, "time_s");
  m->hosts = coh_union_column(u, "hosts");
  m->member = coh_union_column(u, "member");
  m->members = coh_union_column(u, "members");
}

static int merge(merger *m, coh_error *err) {
  int rc = COH_OK;
  const coh_merge_spec *s = m->spec;
  COH_TRY(coh_alloc(&m->result->state, s->runs + 1, 1, err));
  memset(m->result->state, '-', s->runs);
  COH_TRY(index_runs(m, err));
  for (size_t i = 0; i < s->n_in; i++) COH_TRY(add_input(m, s->in[i], err));
  COH_TRY(coh_union_seal(&m->u, err));
  find_columns(m);
  drop_foreign(m);
  COH_TRY(find_content(m, err));
  COH_TRY(choose(m, err));
  m->result->missing =
      s->runs - m->result->done - m->result->failed - m->result->conflict;
  COH_TRY(coh_mkdirs(s->out, err));
  coh_unique_clean(s->out);
  COH_TRY(write_links(m, err));
  COH_TRY(write_table(m, err));
cleanup:
  return rc;
}

int coh_merge_runs(const coh_merge_spec *spec, const coh_sink *sink,
                   coh_merge_result *result, coh_error *err) {
  *result = (coh_merge_result){0};
  merger m = {.spec = spec, .sink = sink, .result = result};
  int rc = merge(&m, err);
  free(m.kept);
  free(m.content);
  coh_index_free(&m.index);
  coh_union_free(&m.u);
  if (rc != COH_OK) coh_merge_free(result);
  return rc;
}

void coh_merge_free(coh_merge_result *result) {
  free(result->state);
  *result = (coh_merge_result){0};
}
