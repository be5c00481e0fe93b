/* results.c - the folder of a sweep, and what is left to do in it. */
#include "results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slurm.h"
#include "submit_record.h"
#include "words.h"

/* ---- opening ------------------------------------------------------------------------
 */

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* "a/b/" becomes "a/b", and "a/b/3-16" too. */
static int sweep_folder(const char *path, char out[COH_PATH], coh_error *err) {
  size_t k, n, len = strlen(path);
  while (len > 1 && path[len - 1] == '/') len--;
  int rc = coh_format(out, COH_PATH, err, "%.*s", (int)len, path);
  char *slash = rc ? NULL : strrchr(out, '/');
  if (!rc && coh_sub_batch_name(slash ? slash + 1 : out, &k, &n)) {
    if (slash && slash > out)
      *slash = '\0';
    else
      rc = coh_format(out, COH_PATH, err, slash ? "/" : ".");
  }
  return rc;
}

static int add_setting(results *r, const char *name, const char *value, coh_error *err) {
  char word[COH_PATH];
  int rc = coh_format(word, sizeof word, err, "%s=%s", name, value);
  if (rc != COH_OK) return rc;
  coh_text_add(&r->set, " ");
  words_quote(word, &r->set);
  return COH_OK;
}

/* What its sweep.ini says of where it is may not be true from here, or any more. But a
 * folder without sub-batches is where they were merged to, not where they are. */
static int add_place(results *r, coh_error *err) {
  int rc;
  size_t n;
  coh_sub_folder *sub = NULL;
  const coh_config *cfg = coh_sweep_base(r->sweep);
  char told[COH_PATH], a[COH_PATH], b[COH_PATH];
  COH_TRY(coh_sub_folders(r->folder, &sub, &n, err));
  if (n == 0) goto cleanup;
  COH_TRY(coh_format(told, sizeof told, err, "%s/%s", cfg->experiment.results,
                     cfg->experiment.name));
  if (!realpath(r->folder, a) || (realpath(told, b) && strcmp(a, b) == 0)) goto cleanup;
  char *slash = strrchr(a, '/');
  *slash = '\0';
  if (strcmp(slash + 1, cfg->experiment.name) != 0)
    COH_TRY(add_setting(r, "experiment.name", slash + 1, err));
  COH_TRY(add_setting(r, "experiment.results", *a ? a : "/", err));
cleanup:
  free(sub);
  return rc;
}

static int open_folder(const char *path, results *r, coh_error *err) {
  int rc;
  COH_TRY(sweep_folder(path, r->folder, err));
  COH_TRY(coh_format(r->config, sizeof r->config, err, "%s/sweep.ini", r->folder));
  if (!coh_file_exists(r->config)) {
    rc = coh_fail(err, COH_EUSAGE,
                  "'%s' is no folder of a sweep: it has no sweep.ini, which `cohort run` "
                  "leaves in results/<name>",
                  r->folder);
    goto cleanup;
  }
  COH_TRY(coh_sweep_load(r->config, 0, NULL, &r->sweep, err));
  if (r->sweep) rc = add_place(r, err);
cleanup:
  return rc;
}

static int open_config(const char *path, size_t n, const char *const *set, results *r,
                       coh_error *err) {
  int rc;
  size_t n_own = 0;
  const char **own = NULL;
  COH_TRY(coh_alloc(&own, n, sizeof *own, err));
  for (size_t i = 0; i < n; i++) {
    if (strncmp(set[i], "teacher:", 8) != 0) own[n_own++] = set[i];
    coh_text_add(&r->set, " ");
    words_quote(set[i], &r->set);
  }
  COH_TRY(coh_format(r->config, sizeof r->config, err, "%s", path));
  COH_TRY(coh_sweep_load(path, n_own, own, &r->sweep, err));
  if (!r->sweep) goto cleanup;
  const coh_config *cfg = coh_sweep_base(r->sweep);
  COH_TRY(coh_format(r->folder, sizeof r->folder, err, "%s/%s", cfg->experiment.results,
                     cfg->experiment.name));
cleanup:
  free(own);
  return rc;
}

int results_open(const char *path, size_t n_set, const char *const *set, results *out,
                 coh_error *err) {
  int rc;
  *out = (results){0};
  if (!coh_file_exists(path))
    return coh_fail(err, COH_EUSAGE,
                    "'%s' is neither a folder of a sweep, as results/<name>, nor a "
                    "configuration: nothing of that name is there",
                    path);
  rc = is_folder(path) ? open_folder(path, out, err)
                       : open_config(path, n_set, set, out, err);
  if (!rc && !out->sweep)
    rc = coh_fail(err, COH_EUSAGE, "%s: has no [sweep] section, so it is one run",
                  out->config);
  if (rc != COH_OK) goto cleanup;
  out->runs = coh_sweep_count(out->sweep);
  coh_sweep_hash(out->sweep, &out->hash);
  COH_TRY(coh_alloc(&out->id, out->runs, sizeof *out->id, err));
  COH_TRY(coh_index_make(&out->index, out->runs, err));
  for (size_t i = 0; i < out->runs; i++) {
    COH_TRY(coh_sweep_id(out->sweep, i, out->id + i, err));
    coh_index_put(&out->index, out->id[i].hex, i);
  }
  words_quote(out->config, &out->file);
  COH_TRY(coh_text_check(&out->file, err));
  rc = coh_text_check(&out->set, err);
cleanup:
  if (rc != COH_OK) results_close(out);
  return rc;
}

void results_close(results *r) {
  coh_sweep_destroy(r->sweep);
  coh_text_free(&r->file);
  coh_text_free(&r->set);
  coh_index_free(&r->index);
  free(r->id);
  *r = (results){0};
}

/* ---- counts and ranges --------------------------------------------------------------
 */

size_t results_count(const char *state, size_t n, char which) {
  size_t count = 0;
  for (size_t i = 0; i < n; i++) count += state[i] == which;
  return count;
}

void results_ranges(const char *state, size_t n, char which, size_t most, coh_text *out) {
  size_t told = 0;
  for (size_t i = 0, end; i < n; i = end) {
    end = i + 1;
    if (state[i] != which) continue;
    while (end < n && state[end] == which) end++;
    if (told) coh_text_add(out, ", ");
    if (told++ == most) {
      coh_text_add(out, "...");
      return;
    }
    coh_text_add(out, end - i > 1 ? "%zu..%zu" : "%zu", i, end - 1);
  }
}

/* ---- sub-batches --------------------------------------------------------------------
 */

int results_division(const char *folder, size_t *n, coh_error *err) {
  size_t count, most = 0;
  coh_error ignored;
  coh_sub_folder *sub = NULL;
  if (record_last(folder, n, &ignored) == COH_OK && *n) return COH_OK;
  *n = 1;
  int rc = coh_sub_folders(folder, &sub, &count, err);
  for (size_t i = 0, end; rc == COH_OK && i < count; i = end) {
    for (end = i; end < count && sub[end].n == sub[i].n;) end++;
    if (end - i < most) continue;
    most = end - i;
    *n = sub[i].n;
  }
  free(sub);
  return rc;
}

int results_damaged(void *ctx, const char *folder, const char *why, coh_error *err) {
  (void)ctx, (void)folder, (void)err;
  fprintf(stderr, "warning: %s\n", why);
  return COH_OK;
}

/* ---- who is at work -----------------------------------------------------------------
 */

static const double stale_after = 180; /* seconds without a heartbeat */

static void warn(void *ctx, coh_level level, const char *text) {
  (void)ctx, (void)level;
  fprintf(stderr, "warning: %s\n", text);
}

int results_activity(const char *folder, const char *sub_batch, activity *out,
                     coh_error *err) {
  int rc;
  char path[COH_PATH];
  const coh_sink sink = {warn, NULL};
  *out = (activity){0};
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s", folder, sub_batch));
  COH_TRY(coh_attempt_last(path, &sink, &out->attempt, &out->age, err));
  bool open = out->attempt.number && strcmp(out->attempt.status, "running") == 0;
  out->running = open && out->age < stale_after;
  out->stale = open && !out->running;
cleanup:
  return rc;
}

static void mark(const results *r, char *state, size_t k, size_t n, char as) {
  size_t first, count;
  if (k < 1 || k > n) return;
  coh_sub_batch(r->runs, k, n, &first, &count);
  for (size_t i = first; i < first + count; i++)
    if (state[i] == RUN_IS_MISSING || state[i] == RUN_IS_STALE) state[i] = as;
}

typedef struct marker {
  const results *r;
  char *state;
} marker;

static void mark_queued(void *ctx, size_t k, size_t n, const char *job) {
  (void)job;
  const marker *m = ctx;
  mark(m->r, m->state, k, n, RUN_IS_QUEUED);
}

int results_mark_active(const results *r, char *state, coh_error *err) {
  int rc;
  size_t n;
  activity now;
  marker m = {r, state};
  coh_sub_folder *sub = NULL;
  COH_TRY(coh_sub_folders(r->folder, &sub, &n, err));
  for (size_t i = 0; i < n; i++) {
    COH_TRY(results_activity(r->folder, sub[i].name, &now, err));
    if (now.running) mark(r, state, sub[i].k, sub[i].n, RUN_IS_RUNNING);
  }
  rc = record_queued(r->folder, 5, mark_queued, &m, err);
  if (rc == COH_EDATA) warn(NULL, COH_WARN, err->text), rc = COH_OK;
cleanup:
  free(sub);
  return rc;
}

/* ---- lines to copy ------------------------------------------------------------------
 */

enum { MOST_TASKS = 1000 }; /* numbers of an array end there, unless a site has others */

/* needed[k], k = 1..n: sub-batch k has runs to do, and none that somebody does. */
static void find_needed(const char *state, size_t runs, size_t n, char *needed) {
  for (size_t k = 1; k <= n; k++) {
    size_t first, count;
    coh_sub_batch(runs, k, n, &first, &count);
    const char *s = state + first;
    bool left = results_count(s, count, RUN_IS_MISSING) ||
                results_count(s, count, RUN_IS_STALE) ||
                results_count(s, count, RUN_HAS_FAILED);
    needed[k] = left && !results_count(s, count, RUN_IS_RUNNING) &&
                !results_count(s, count, RUN_IS_QUEUED);
  }
  needed[0] = 0;
}

/* "3,7-9" of the k with needed[k], first <= k <= last, less offset. */
static void add_tasks(const char *needed, size_t first, size_t last, size_t offset,
                      coh_text *out) {
  const char *comma = "";
  for (size_t k = first, end; k <= last; k = end) {
    end = k + 1;
    if (!needed[k]) continue;
    while (end <= last && needed[end]) end++;
    coh_text_add(out, end - k > 1 ? "%s%zu-%zu" : "%s%zu", comma, k - offset,
                 end - 1 - offset);
    comma = ",";
  }
}

static void add_template(const results *r, coh_text *out) {
  char path[COH_PATH];
  coh_error ignored;
  bool gpu = coh_sweep_base(r->sweep)->device.kind == COH_DEVICE_CUDA;
  const char *name = gpu ? "gpu.sbatch" : "sweep.sbatch";
  char here[64];
  snprintf(here, sizeof here, "slurm/%s", name);
  if (access(here, R_OK) == 0 || slurm_file(name, path, sizeof path, &ignored) != COH_OK)
    coh_text_add(out, "%s", here);
  else
    coh_text_add(out, "%s", path);
}

static void add_slurm(const results *r, const char *needed, size_t n, const char *retry,
                      coh_text *out) {
  for (size_t first = 1; first <= n; first += MOST_TASKS) {
    size_t last = first + MOST_TASKS - 1 < n ? first + MOST_TASKS - 1 : n;
    size_t offset = n > MOST_TASKS ? first - 1 : 0;
    if (!memchr(needed + first, 1, last - first + 1)) continue;
    coh_text_add(out, "  COHORT_SUB_BATCHES=%zu ", n);
    if (offset) coh_text_add(out, "COHORT_SUB_BATCH_OFFSET=%zu ", offset);
    coh_text_add(out, "sbatch --array=");
    add_tasks(needed, first, last, offset, out);
    coh_text_add(out, " ");
    add_template(r, out);
    coh_text_add(out, " %s%s%s\n", r->file.data, retry, r->set.data ? r->set.data : "");
  }
}

/* " 3 $(seq 7 12)" of the k with needed[k]. */
static void add_words(const char *needed, size_t n, coh_text *out) {
  for (size_t k = 1, end; k <= n; k = end) {
    for (end = k; end <= n && needed[end];) end++;
    if (end - k > 3)
      coh_text_add(out, " $(seq %zu %zu)", k, end - 1);
    else
      for (size_t i = k; i < end; i++) coh_text_add(out, " %zu", i);
    if (end == k) end++;
  }
}

/* As it is called in the source tree, or when it is installed. */
static const char *program(void) {
  return access("bin/cohort", X_OK) == 0 ? "bin/cohort" : "cohort";
}

static void add_plain(const results *r, const char *needed, size_t n, const char *retry,
                      coh_text *out) {
  const char *set = r->set.data ? r->set.data : "";
  size_t count = results_count(needed + 1, n, 1);
  if (n == 1) {
    coh_text_add(out, "  mpirun -n 2 %s run %s%s%s\n", program(), r->file.data, retry,
                 set);
    return;
  }
  if (count == 1)
    coh_text_add(out, "  mpirun -n 2 %s run %s --sub-batch %zu/%zu%s%s\n", program(),
                 r->file.data, (size_t)((char *)memchr(needed, 1, n + 1) - needed), n,
                 retry, set);
  else if (count == n)
    coh_text_add(out, "  for k in $(seq %zu); do", n);
  else
    coh_text_add(out, "  for k in");
  if (count == 1) return;
  if (count < n) add_words(needed, n, out);
  coh_text_add(out, "%s mpirun -n 2 %s run %s --sub-batch $k/%zu%s%s; done\n",
               count < n ? "; do" : "", program(), r->file.data, n, retry, set);
}

int results_rerun(const results *r, const char *state, size_t n, coh_text *out,
                  coh_error *err) {
  char *needed = NULL;
  const char *retry = results_count(state, r->runs, RUN_HAS_FAILED) ? " --retry" : "";
  int rc = coh_alloc(&needed, n + 1, 1, err);
  if (rc != COH_OK) return rc;
  find_needed(state, r->runs, n, needed);
  if (results_count(needed, n + 1, 1)) {
    coh_text_add(out, "to run what is left:\n");
    add_slurm(r, needed, n, retry, out);
    coh_text_add(out, "without SLURM:\n");
    add_plain(r, needed, n, retry, out);
  }
  free(needed);
  return coh_text_check(out, err);
}
