/* submit_left.c - which sub-batches are to be submitted: all of them, or, to resume,
 * those that lack runs; never one that is in SLURM's queue already. */
#include "packs.h"
#include "results.h"
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

/* Whether sub-batch k is to be submitted, by its packs; notes failed runs. */
static int lacks_runs(submission *s, size_t k, bool *lacks, coh_error *err) {
  int rc;
  size_t first, count;
  char path[COH_PATH], *state = NULL;
  bool failed = false;
  *lacks = false;
  coh_sub_batch(s->runs, k, s->n, &first, &count);
  COH_TRY(coh_format(path, sizeof path, err, "%s/%zu-%zu", s->folder, k, s->n));
  COH_TRY(coh_alloc(&state, count, 1, err));
  COH_TRY(packs_states(s->sweep, path, first, count, state, results_damaged, NULL, err));
  for (size_t i = 0; i < count; i++) {
    *lacks |= state[i] != RUN_DONE;
    failed |= state[i] == RUN_FAILED;
  }
  s->retry |= failed;
cleanup:
  free(state);
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

/* busy[k], k = 1..n: in SLURM's queue. */
typedef struct queued {
  size_t n;
  bool *busy;
  char job[64]; /* one of those there; "": none */
} queued;

static void note_queued(void *ctx, size_t k, size_t n, const char *job) {
  queued *q = ctx;
  if (n != q->n) return; /* other runs than those of sub-batch k now */
  q->busy[k] = true;
  snprintf(q->job, sizeof q->job, "%s", job);
}

int left_find(submission *s, coh_error *err) {
  int rc;
  bool lacks = true;
  queued q = {.n = s->n};
  COH_TRY(coh_alloc(&s->left, s->n, sizeof *s->left, err));
  COH_TRY(coh_alloc(&q.busy, s->n + 1, sizeof *q.busy, err));
  COH_TRY(record_queued(s->folder, 0, note_queued, &q, err));
  if (*q.job) COH_TRY(tell_busy(s, q.busy, q.job, err));
  for (size_t k = 1; k <= s->n; k++) {
    if (s->resume && s->sweep && !q.busy[k]) COH_TRY(lacks_runs(s, k, &lacks, err));
    if (lacks && !q.busy[k]) s->left[s->n_left++] = k;
  }
cleanup:
  free(q.busy);
  return rc;
}
