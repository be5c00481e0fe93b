/* parts.c - finds and joins students that several sub-batches trained. */
#include "parts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/archive.h"

void parts_free(parts *p) {
  free(p->path);
  *p = (parts){0};
}

int part_identity(const char *identity, size_t k, size_t n, coh_text *out,
                  coh_error *err) {
  coh_text_add(out, "%s, part %zu of %zu", identity, k, n);
  return coh_text_check(out, err);
}

/* ---- one part
 * -------------------------------------------------------------------------- */

/* results/<name>/<k>-<n>/runs/<label>-<hash10>/seed_<s>[/file], from the folder that the
 * whole run has in 1-1. */
static int part_path(const run *r, size_t k, size_t n, const char *file, char *out,
                     coh_error *err) {
  size_t above = strlen(r->sweep) - strlen("1-1");
  return coh_format(out, COH_PATH, err, "%.*s%zu-%zu%s/%s", (int)above, r->sweep, k, n,
                    r->folder + strlen(r->sweep), file);
}

static int is_there(const run *r, size_t k, size_t n, bool *there, coh_error *err) {
  char path[COH_PATH];
  int rc = part_path(r, k, n, "manifest.json", path, err);
  *there = !rc && coh_file_exists(path);
  return rc;
}

static int is_done(const run *r, size_t k, size_t n, bool *done, coh_error *err) {
  int rc;
  char path[COH_PATH], model[COH_PATH];
  COH_TRY(part_path(r, k, n, "manifest.json", path, err));
  COH_TRY(part_path(r, k, n, "students.h5", model, err));
  *done = coh_manifest_is_done(path, &r->hash) && coh_file_exists(model);
cleanup:
  return rc;
}

/* The part's checkpoint tells which teacher it asked. */
static int check_identity(const run *r, const char *identity, size_t k, size_t n,
                          coh_error *err) {
  int rc;
  char path[COH_PATH], *found = NULL;
  coh_archive *a = NULL;
  coh_text expected = {0};
  COH_TRY(part_identity(identity, k, n, &expected, err));
  COH_TRY(part_path(r, k, n, "checkpoint.h5", path, err));
  COH_TRY(coh_archive_open(path, "checkpoint", 1, MPI_COMM_SELF, &a, err));
  COH_TRY(coh_archive_get_text(a, "identity", &found, err));
  if (strcmp(found, expected.data) != 0)
    rc = coh_fail(err, COH_EDATA,
                  "%s is of students of another teacher or configuration: it holds "
                  "\"%s\", expected \"%s\"; move it away to train its students anew",
                  path, found, expected.data);
cleanup:
  coh_archive_abandon(a);
  coh_text_free(&expected);
  free(found);
  return rc;
}

/* ---- all parts
 * -------------------------------------------------------------------------- */

/* "2, 5": parts of n that are not done; *begun: at least one is there. */
static int list_missing(const run *r, size_t n, bool *begun, coh_text *missing,
                        coh_error *err) {
  int rc = COH_OK;
  for (size_t k = 1; k <= n; k++) {
    bool there, done;
    COH_TRY(is_there(r, k, n, &there, err));
    COH_TRY(is_done(r, k, n, &done, err));
    *begun |= there;
    if (!done) coh_text_add(missing, "%s%zu", missing->len ? ", " : "", k);
  }
cleanup:
  return rc;
}

static int take(const run *r, const char *identity, size_t n, parts *out,
                coh_error *err) {
  int rc;
  COH_TRY(coh_alloc(&out->path, n, sizeof *out->path, err));
  out->n = n;
  for (size_t k = 1; k <= n; k++) {
    COH_TRY(check_identity(r, identity, k, n, err));
    COH_TRY(part_path(r, k, n, "students.h5", out->path[k - 1], err));
  }
cleanup:
  return rc;
}

/* n of a folder named <k>-<n>; 0 for others and for 1-1. */
static size_t parts_of(const char *name) {
  size_t k, n;
  return coh_sub_batch_name(name, &k, &n) && n > 1 ? n : 0;
}

/* The numbers of sub-batches that occur, each once: seen [most]. */
static size_t list_numbers(const run *r, size_t *seen, size_t most) {
  char folder[COH_PATH];
  size_t count = 0, above = strlen(r->sweep) - strlen("/1-1");
  snprintf(folder, sizeof folder, "%.*s", (int)above, r->sweep);
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));) {
    size_t n = parts_of(e->d_name), i = 0;
    while (i < count && seen[i] != n) i++;
    if (n > 0 && i == count && count < most) seen[count++] = n;
  }
  if (d) closedir(d);
  return count;
}

static int find_on_root(const run *r, const char *identity, parts *out, coh_error *err) {
  enum { MOST = 64 };
  int rc = COH_OK;
  size_t seen[MOST], count = list_numbers(r, seen, MOST), half = 0;
  coh_text missing = {0}, first = {0};
  for (size_t i = 0; i < count && out->n == 0; i++) {
    bool begun = false;
    coh_text_free(&missing);
    COH_TRY(list_missing(r, seen[i], &begun, &missing, err));
    if (missing.len == 0) COH_TRY(take(r, identity, seen[i], out, err));
    if (missing.len == 0 || !begun || half > 0) continue;
    half = seen[i];
    coh_text_add(&first, "%s", missing.data);
  }
  if (out->n == 0 && half > 0)
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: its students are trained in %zu sub-batches, of which %s %s not "
                  "done: run them (--sub-batch k/%zu) before all are clustered, or move "
                  "the folders of sub-batches away to train all students here",
                  r->job->cfg.file, half, first.data,
                  strchr(first.data, ',') ? "are" : "is", half);
cleanup:
  coh_text_free(&missing);
  coh_text_free(&first);
  return rc;
}

int parts_find(const run *r, const char *identity, parts *out, coh_error *err) {
  int rc = COH_OK;
  MPI_Comm world = r->job->grid.world;
  uint64_t n;
  *out = (parts){0};
  if (r->job->grid.rank == 0) rc = find_on_root(r, identity, out, err);
  COH_TRY(coh_agree(world, rc, err));
  n = out->n;
  COH_TRY(coh_bcast(world, &n, sizeof n, 0, err));
  out->n = n;
  if (n == 0) goto cleanup;
  if (!out->path) rc = coh_alloc(&out->path, n, sizeof *out->path, err);
  COH_TRY(coh_agree(world, rc, err));
  COH_TRY(coh_bcast(world, out->path, n * sizeof *out->path, 0, err));
cleanup:
  return rc;
}

int parts_load(const parts *p, const job *j, const coh_plan *plan, size_t N,
               coh_dtype dtype, void **out, coh_error *err) {
  int rc;
  size_t at = 0, row = plan->P * coh_dtype_size(dtype);
  char *all = NULL;
  void *some = NULL;
  COH_TRY(coh_alloc(&all, N, row, err));
  for (size_t i = 0; i < p->n; i++) {
    coh_plan found;
    size_t count;
    COH_TRY(coh_model_load(p->path[i], j->grid.world, dtype, &found, &count, &some, err));
    if (found.P != plan->P || at + count > N)
      COH_TRY(coh_fail(err, COH_EDATA, "%s: %zu students of %zu parameters, expected %zu",
                       p->path[i], count, found.P, plan->P));
    memcpy(all + at * row, some, count * row);
    at += count;
    free(some);
    some = NULL;
  }
  if (at != N)
    COH_TRY(coh_fail(err, COH_EDATA, "%s and the other parts hold %zu students, not %zu",
                     p->path[0], at, N));
  *out = all;
  all = NULL;
cleanup:
  free(some);
  free(all);
  return rc;
}
