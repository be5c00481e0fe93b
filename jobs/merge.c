/* merge.c - `cohort merge`: one table of a sweep from its sub-batches, and what is
 * missing in it. The work is done in src/store/merge.c. */
#include "merge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"
#include "results.h"

static const char usage[] = "usage: cohort merge RESULTS/NAME... [-o OUT] [--copy]";

enum { INCOMPLETE = 3, CONFLICT = 4, MOST_RANGES = 12 };

typedef struct request {
  size_t n;
  const char **in;
  const char *out;
  bool copy;
} request;

static int read_arguments(request *r, int argc, char **argv, coh_error *err) {
  int rc = coh_alloc(&r->in, (size_t)argc, sizeof *r->in, err);
  for (int i = 2; i < argc && rc == COH_OK; i++) {
    const char *a = argv[i];
    if (strcmp(a, "--copy") == 0)
      r->copy = true;
    else if (strcmp(a, "-o") == 0 && i + 1 < argc)
      r->out = argv[++i];
    else if (strcmp(a, "-o") == 0)
      rc = coh_fail(err, COH_EUSAGE, "merge: -o without a folder; %s", usage);
    else if (a[0] == '-')
      rc = coh_fail(err, COH_EUSAGE, "merge: no option \"%.60s\"; %s", a, usage);
    else
      r->in[r->n++] = a;
  }
  if (!rc && r->n == 0) rc = coh_fail(err, COH_EUSAGE, "%s", usage);
  if (!rc && r->n > 1 && !r->out)
    rc = coh_fail(err, COH_EUSAGE, "several folders are merged into another one: -o OUT");
  return rc;
}

/* ---- where to -----------------------------------------------------------------------
 */

/* Name of a folder, however it was written. */
static int real_name(const char *path, char out[COH_PATH], coh_error *err) {
  if (realpath(path, out)) return COH_OK;
  return coh_fail(err, COH_EUSAGE, "'%s': %s", path, strerror(errno));
}

static int is_sub_batch(const char *path, bool *is, coh_error *err) {
  size_t k, n;
  char name[COH_PATH];
  int rc = real_name(path, name, err);
  *is = !rc && coh_sub_batch_name(strrchr(name, '/') + 1, &k, &n);
  return rc;
}

/* A folder with sub-batches of its own would lose sight of them. */
static int check_folder(const request *r, const char *out, coh_error *err) {
  int rc;
  bool is;
  size_t n = 0;
  char there[COH_PATH], one[COH_PATH];
  coh_sub_folder *sub = NULL;
  if (!coh_file_exists(out)) return COH_OK;
  COH_TRY(is_sub_batch(out, &is, err));
  if (is) {
    rc = coh_fail(err, COH_EUSAGE, "'%s' is a sub-batch: say with -o where to", out);
    goto cleanup;
  }
  COH_TRY(real_name(out, there, err));
  COH_TRY(coh_sub_folders(out, &sub, &n, err));
  for (size_t i = 0; i < r->n && n > 0; i++) {
    COH_TRY(real_name(r->in[i], one, err));
    if (strcmp(one, there) == 0) n = 0;
  }
  if (n > 0)
    rc =
        coh_fail(err, COH_EUSAGE,
                 "-o %s: it has sub-batches of its own, which are not to be merged: name "
                 "another folder, or merge it, too",
                 out);
cleanup:
  free(sub);
  return rc;
}

/* ---- which sweep --------------------------------------------------------------------
 */

static bool has_sub_batches(const results *r) {
  size_t n = 0;
  coh_error ignored;
  coh_sub_folder *sub = NULL;
  (void)coh_sub_folders(r->folder, &sub, &n, &ignored);
  free(sub);
  return n > 0;
}

/* That of the inputs; where they are of several, that of OUT's sweep.ini. *of: the first
 * input that has sub-batches, whose lines to run what is left are shown. */
static int open_sweep(const request *r, const char *out, results *of, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  results next = {0};
  bool same = true;
  for (size_t i = 0; i < r->n; i++) {
    COH_TRY(results_open(r->in[i], 0, NULL, i ? &next : of, err));
    if (i) same &= strcmp(next.hash.hex, of->hash.hex) == 0;
    if (i && !has_sub_batches(of)) {
      results_close(of);
      *of = next;
      next = (results){0};
    }
    results_close(&next);
  }
  COH_TRY(coh_format(path, sizeof path, err, "%s/sweep.ini", out));
  if (!coh_file_exists(path)) {
    if (!same)
      rc = coh_fail(err, COH_EUSAGE,
                    "these folders are of different sweeps: put the sweep.ini of the one "
                    "that the table is to be of into %s",
                    out);
    goto cleanup;
  }
  COH_TRY(results_open(out, 0, NULL, &next, err));
  bool other = strcmp(next.hash.hex, of->hash.hex) != 0;
  if (other && same) {
    rc =
        coh_fail(err, COH_EUSAGE,
                 "%s is of another sweep (%.*s) than what is merged (%.*s): name another "
                 "folder, or remove it",
                 path, COH_HASH_SHOWN, next.hash.hex, COH_HASH_SHOWN, of->hash.hex);
  } else if (other) {
    results_close(of);
    *of = next;
    next = (results){0};
  }
cleanup:
  results_close(&next);
  return rc;
}

/* So that OUT can be merged itself. */
static int leave_sweep(const results *of, const char *out, coh_error *err) {
  int rc;
  char path[COH_PATH];
  coh_text text = {0};
  COH_TRY(coh_format(path, sizeof path, err, "%s/sweep.ini", out));
  if (coh_file_exists(path)) goto cleanup;
  COH_TRY(coh_mkdirs(out, err));
  coh_sweep_show(of->sweep, &text);
  COH_TRY(coh_text_check(&text, err));
  COH_TRY(coh_file_write(path, text.data, text.len, err));
cleanup:
  coh_text_free(&text);
  return rc;
}

/* ---- telling ------------------------------------------------------------------------
 */

static void add_kind(const char *what, const results *of, const char *state, char which,
                     coh_text *out) {
  size_t n = results_count(state, of->runs, which);
  if (n == 0) return;
  coh_text_add(out, "  %-9s %6zu  ", what, n);
  results_ranges(state, of->runs, which, MOST_RANGES, out);
  coh_text_add(out, "\n");
}

static int tell(const results *of, const char *out, const coh_merge_result *m,
                coh_error *err) {
  int rc = COH_OK;
  char *state = m->state;
  size_t n;
  char h5[COH_PATH];
  coh_text text = {0};
  COH_TRY(results_mark_active(of, state, err));
  COH_TRY(coh_format(h5, sizeof h5, err, "%s/runs.h5", out));
  coh_text_add(&text, "%s/runs.csv%s: %zu of %zu runs done\n", out,
               coh_file_exists(h5) ? ", runs.h5" : "", m->done, of->runs);
  add_kind("conflict", of, state, RUN_IN_CONFLICT, &text);
  add_kind("failed", of, state, RUN_HAS_FAILED, &text);
  add_kind("running", of, state, RUN_IS_RUNNING, &text);
  add_kind("queued", of, state, RUN_IS_QUEUED, &text);
  add_kind("missing", of, state, RUN_IS_MISSING, &text);
  if (m->doubled)
    coh_text_add(&text, "  %zu results were there more than once, and the same\n",
                 m->doubled);
  COH_TRY(results_division(of->folder, &n, err));
  COH_TRY(results_rerun(of, state, n, &text, err));
  fputs(text.data, stdout);
  if (fflush(stdout) != 0) rc = coh_fail_errno(err, "cannot write to standard output");
cleanup:
  coh_text_free(&text);
  return rc;
}

static void remark(void *ctx, coh_level level, const char *text) {
  (void)ctx;
  fprintf(stderr, "%s%s\n", level == COH_WARN ? "warning: " : "", text);
}

/* ---- all of it ----------------------------------------------------------------------
 */

static int merge(const request *r, int *status, coh_error *err) {
  int rc;
  const coh_sink sink = {remark, NULL};
  const char *out = r->out ? r->out : r->in[0];
  results of = {0};
  coh_merge_result m = {0};
  COH_TRY(check_folder(r, out, err));
  COH_TRY(open_sweep(r, out, &of, err));
  COH_TRY(leave_sweep(&of, out, err));
  coh_merge_spec spec = {.n_in = r->n,
                         .in = r->in,
                         .out = out,
                         .runs = of.runs,
                         .id = of.id,
                         .copy = r->copy};
  memcpy(spec.sweep, of.hash.hex, sizeof spec.sweep);
  COH_TRY(coh_merge_runs(&spec, &sink, &m, err));
  COH_TRY(tell(&of, out, &m, err));
  if (coh_sweep_base(of.sweep)->experiment.report && !r->out) plot_after_merge(r->in[0]);
  *status = m.conflict ? CONFLICT : m.missing || m.failed ? INCOMPLETE : 0;
cleanup:
  coh_merge_free(&m);
  results_close(&of);
  return rc;
}

int command_merge(int argc, char **argv) {
  request r = {0};
  coh_error err = {0};
  int status = 0;
  if (argc > 2 && strcmp(argv[2], "--help") == 0) {
    puts(usage);
    return 0;
  }
  int rc = read_arguments(&r, argc, argv, &err);
  if (rc == COH_OK) rc = merge(&r, &status, &err);
  free(r.in);
  if (rc == COH_OK) return status;
  fprintf(stderr, "cohort: %s\n", err.text);
  return coh_exit_status(rc);
}
