/* submit_left.c - which sub-batches are to be submitted: all of them, or, to resume,
 * those that lack runs; never one that is in SLURM's queue already. */
#include "submission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void left_show(const size_t *k, size_t n, size_t offset, coh_text *out) {
  for (size_t i = 0, j; i < n; i = j) {
    for (j = i + 1; j < n && k[j] == k[j - 1] + 1;) j++;
    coh_text_add(out, "%s%zu", i ? "," : "", k[i] - offset);
    if (j - i > 1) coh_text_add(out, "%s%zu", j - i > 2 ? "-" : ",", k[j - 1] - offset);
  }
}

/* ---- what a sub-batch has ------------------------------------------------------------
 */

typedef struct tally {
  size_t done, failed;
} tally;

/* A row counts if it is of the run that the sweep has in its place. */
static int count_row(const submission *s, const coh_table *t, size_t row, size_t first,
                     size_t count, tally *out, coh_error *err) {
  coh_hash id;
  const char *const *cell = (const char *const *)t->cell + row * t->n_col;
  size_t i = strtoull(cell[coh_table_column(t, "run")], NULL, 10);
  if (i < first || i >= first + count) return COH_OK;
  int rc = coh_sweep_id(s->sweep, i, &id, err);
  if (rc != COH_OK || strcmp(id.hex, cell[coh_table_column(t, "run_id")]) != 0) return rc;
  const char *status = cell[coh_table_column(t, "status")];
  out->done += strcmp(status, "done") == 0;
  out->failed += strcmp(status, "failed") == 0;
  return COH_OK;
}

static int count_runs(const submission *s, size_t k, tally *out, coh_error *err) {
  int rc;
  size_t first, count;
  char path[COH_PATH];
  coh_table t = {0};
  *out = (tally){0};
  coh_sub_batch(s->runs, k, s->n, &first, &count);
  COH_TRY(coh_format(path, sizeof path, err, "%s/%zu-%zu/runs.csv", s->folder, k, s->n));
  if (!coh_file_exists(path)) return COH_OK;
  COH_TRY(coh_table_read(path, &t, err));
  if (coh_table_column(&t, "run") < t.n_col && coh_table_column(&t, "run_id") < t.n_col &&
      coh_table_column(&t, "status") < t.n_col)
    for (size_t r = 0; r < t.n_row && rc == COH_OK; r++)
      rc = count_row(s, &t, r, first, count, out, err);
cleanup:
  coh_table_free(&t);
  return rc;
}

/* Whether sub-batch k is to be submitted; notes failed runs. */
static int lacks_runs(submission *s, size_t k, bool *lacks, coh_error *err) {
  size_t first, count;
  tally got;
  coh_sub_batch(s->runs, k, s->n, &first, &count);
  int rc = count_runs(s, k, &got, err);
  *lacks = rc == COH_OK && got.done < count;
  if (*lacks && got.failed > 0) s->retry = true;
  return rc;
}

/* ---- the list ------------------------------------------------------------------------
 */

static int tell_busy(const submission *s, const bool *busy, const char *job,
                     coh_error *err) {
  size_t n = 0, *k;
  coh_text list = {0};
  int rc = coh_alloc(&k, s->n, sizeof *k, err);
  if (rc != COH_OK) return rc;
  for (size_t i = 1; i <= s->n; i++)
    if (busy[i]) k[n++] = i;
  left_show(k, n, 0, &list);
  if (!s->resume)
    rc =
        coh_fail(err, COH_EUSAGE,
                 "sub-batches %s are in SLURM's queue already (job %s): scancel them, or "
                 "submit what is left with --resume",
                 list.data, job);
  else
    fprintf(stderr, "left alone, for SLURM has them in its queue (job %s): %s\n", job,
            list.data);
  coh_text_free(&list);
  free(k);
  return rc;
}

int left_find(submission *s, coh_error *err) {
  int rc;
  bool *busy = NULL, lacks = true;
  char job[64] = "";
  COH_TRY(coh_alloc(&s->left, s->n, sizeof *s->left, err));
  COH_TRY(coh_alloc(&busy, s->n + 1, sizeof *busy, err));
  COH_TRY(record_busy(s->folder, s->n, busy, job, err));
  if (*job) COH_TRY(tell_busy(s, busy, job, err));
  for (size_t k = 1; k <= s->n; k++) {
    if (s->resume && s->sweep && !busy[k]) COH_TRY(lacks_runs(s, k, &lacks, err));
    if (lacks && !busy[k]) s->left[s->n_left++] = k;
  }
cleanup:
  free(busy);
  return rc;
}
