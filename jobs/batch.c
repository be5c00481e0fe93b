/* batch.c - one sub-batch of a sweep: which of its packs are left, who runs them, what
 * they leave. How a pack is run stands in pack_run.c, the folder's files in src/store. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch_private.h"

/* ---- the sweep on every rank ----------------------------------------------------------
 */

/* Reads the text as a file that only this process sees. */
static int load_text(const coh_text *text, coh_sweep **out, coh_error *err) {
  int rc = COH_OK;
  char path[64];
  int fd = memfd_create("sweep.ini", MFD_CLOEXEC);
  if (fd < 0 || write(fd, text->data, text->len) != (ssize_t)text->len) {
    rc = coh_fail_errno(err, "no memory for a copy of the sweep");
    goto cleanup;
  }
  COH_TRY(coh_format(path, sizeof path, err, "/proc/self/fd/%d", fd));
  COH_TRY(coh_sweep_load(path, 0, NULL, out, err));
cleanup:
  if (fd >= 0) close(fd);
  return rc;
}

/* b->sweep from rank 0's on all other ranks. */
static int share_sweep(batch *b, const coh_sweep *mine, coh_error *err) {
  int rc = COH_OK;
  coh_text text = {0};
  MPI_Comm world = b->job->grid.world;
  uint64_t len = 0;
  if (mine) coh_sweep_show(mine, &text);
  if (mine) rc = coh_text_check(&text, err);
  COH_TRY(coh_agree(world, rc, err));
  len = text.len;
  COH_TRY(coh_bcast(world, &len, sizeof len, 0, err));
  if (!mine) rc = coh_alloc(&text.data, len + 1, 1, err);
  COH_TRY(coh_agree(world, rc, err));
  text.len = len;
  COH_TRY(coh_bcast(world, text.data, len, 0, err));
  if (!mine) rc = load_text(&text, &b->own, err);
  b->sweep = mine ? mine : b->own;
  COH_TRY(coh_agree(world, rc, err));
cleanup:
  coh_text_free(&text);
  return rc;
}

/* ---- sweep.ini ------------------------------------------------------------------------
 */

/* The lines of `text` that `other` does not have, at most five, each key with its
 * section; those of [sweep] have one already. */
static void add_missing_lines(const char *text, const char *other, const char *mark,
                              coh_text *out) {
  size_t told = 0;
  char section[64] = "";
  for (const char *line = text; *line && told < 5;) {
    size_t n = strcspn(line, "\n");
    char copy[1200];
    if (sscanf(line, "[%60[^]\n]", section) == 1) strcat(section, ".");
    if (strcmp(section, "sweep.") == 0) section[0] = '\0';
    bool fits = n > 0 && n < sizeof copy - 2 && *line != '[' && *line != ';';
    if (fits) {
      snprintf(copy, sizeof copy, "\n%.*s\n", (int)n, line);
      if (!strstr(other, copy)) {
        coh_text_add(out, "\n  %s %s%.*s", mark, section, (int)n, line);
        told++;
      }
    }
    line += n + (line[n] == '\n');
  }
}

static int refuse_other(const char *path, const char *old, const char *new,
                        coh_error *err) {
  coh_text lines = {0};
  add_missing_lines(old, new, "was", &lines);
  add_missing_lines(new, old, "now", &lines);
  int rc = coh_fail(err, COH_EUSAGE,
                    "%s is of another sweep; what differs:%s\ngive this one another "
                    "experiment.name, or --force to put it in the place of the old one "
                    "(finished runs that both have are kept)",
                    path, lines.data ? lines.data : " the order of the runs");
  coh_text_free(&lines);
  return rc;
}

/* Its table is made anew from the packs: the rows of single runs would go. */
static int refuse_single_runs(const batch *b, coh_error *err) {
  char path[COH_PATH];
  int rc = coh_format(path, sizeof path, err, "%s/runs", b->sub);
  if (rc != COH_OK || !coh_file_exists(path)) return rc;
  const coh_config *cfg = &b->job->cfg;
  return coh_fail(
      err, COH_EUSAGE,
      "%s: experiment.name = \"%s\": %s holds runs that are no sweep; expected "
      "another name",
      cfg->file, cfg->experiment.name, path);
}

/* Writes results/<name>/sweep.ini, or finds that of the same sweep there. */
static int claim_folder(batch *b, bool force, coh_error *err) {
  int rc;
  char path[COH_PATH], *old_text = NULL;
  coh_text text = {0};
  coh_sweep *old = NULL;
  coh_hash hash;
  size_t len;
  bool same = false;
  COH_TRY(refuse_single_runs(b, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/sweep.ini", b->folder));
  coh_sweep_show(b->sweep, &text);
  COH_TRY(coh_text_check(&text, err));
  if (coh_file_exists(path)) {
    coh_error unreadable;
    COH_TRY(coh_file_read(path, &old_text, &len, err));
    if (coh_sweep_load(path, 0, NULL, &old, &unreadable) == COH_OK && old) {
      coh_sweep_hash(old, &hash);
      same = strcmp(hash.hex, b->hash.hex) == 0;
    }
    if (!same && !force) COH_TRY(refuse_other(path, old_text, text.data, err));
  }
  if (!same) COH_TRY(coh_shared_write(path, text.data, text.len, err));
cleanup:
  free(old_text);
  coh_text_free(&text);
  coh_sweep_destroy(old);
  return rc;
}

/* ---- what is done already
 * -------------------------------------------------------------- */

/* Moves a pack that cannot be read out of the way, so that its runs are run again; it may
 * not be the first of its name. */
static int put_aside(void *ctx, const char *folder, const char *why, coh_error *err) {
  int rc;
  const batch *b = ctx;
  char aside[COH_PATH];
  coh_say(&b->job->sink, COH_WARN, "%s; its runs are run again", why);
  COH_TRY(coh_format(aside, sizeof aside, err, "%s.damaged", folder));
  for (unsigned i = 2; rename(folder, aside) != 0; i++) {
    if (errno != EEXIST && errno != ENOTEMPTY)
      COH_TRY(coh_fail_errno(err, "cannot rename '%s'", folder));
    COH_TRY(coh_format(aside, sizeof aside, err, "%s.%u.damaged", folder, i));
  }
cleanup:
  return rc;
}

/* Takes what need not be run out of the packs. */
static int drop_done(batch *b, bool retry, coh_error *err) {
  int rc = COH_OK;
  bool *drop = NULL;
  COH_TRY(coh_alloc(&drop, b->count, sizeof *drop, err));
  for (size_t i = 0; i < b->count; i++)
    drop[i] = b->state[i] == RUN_DONE || (b->state[i] == RUN_FAILED && !retry);
  for (size_t i = 0; i < b->packs.n; i++) {
    pack *p = b->packs.item + i;
    bool again = false;
    for (size_t k = 0; k < p->n; k++)
      again |= b->state[p->run[k] - b->first] == RUN_FAILED && retry;
    COH_TRY(pack_reduce(b->sweep, p, b->first, drop, again ? b->attempt.number : 0, err));
  }
cleanup:
  free(drop);
  return rc;
}

/* ---- begin and end
 * ---------------------------------------------------------------------- */

static const double may_be_alive = 180; /* seconds since the last sign of life */

static int begin_attempt(batch *b, coh_error *err) {
  int rc;
  char slurm_job[65] = "";
  const char *array = getenv("SLURM_ARRAY_JOB_ID"), *task = getenv("SLURM_ARRAY_TASK_ID");
  const char *id = getenv("SLURM_JOB_ID");
  coh_attempt_info info = {.runs = b->count};
  coh_attempt last;
  double age;
  if (array && task)
    snprintf(slurm_job, sizeof slurm_job, "%.30s_%.30s", array, task);
  else if (id)
    snprintf(slurm_job, sizeof slurm_job, "%.60s", id);
  if (*slurm_job) info.slurm_job = slurm_job;
  memcpy(info.sweep, b->hash.hex, sizeof info.sweep);
  COH_TRY(coh_attempt_last(b->sub, &b->job->sink, &last, &age, err));
  if (last.number > 0 && !*last.ended && age < may_be_alive)
    coh_say(&b->job->sink, COH_WARN,
            "start %llu of this sub-batch, on %s, gave a sign of life %.0f s ago; if it "
            "still runs, it will end, and this start goes on in its place",
            (unsigned long long)last.number, last.host, age);
  COH_TRY(coh_attempt_begin(b->sub, &info, &b->attempt, err));
  COH_TRY(coh_pack_clean(b->sub, b->attempt.number, err));
cleanup:
  return rc;
}

static int open_on_root(batch *b, const batch_wish *w, coh_error *err) {
  int rc;
  const coh_config *cfg = &b->job->cfg;
  COH_TRY(coh_sweep_folder(cfg->experiment.results, cfg->experiment.name, b->k, b->n,
                           b->sub, sizeof b->sub, err));
  COH_TRY(claim_folder(b, w->force, err));
  COH_TRY(begin_attempt(b, err));
  COH_TRY(
      packs_states(b->sweep, b->sub, b->first, b->count, b->state, put_aside, b, err));
cleanup:
  return rc;
}

static int open_batch(batch *b, const coh_sweep *mine, const batch_wish *w,
                      coh_error *err) {
  int rc;
  const coh_config *cfg = &b->job->cfg;
  MPI_Comm world = b->job->grid.world;
  COH_TRY(share_sweep(b, mine, err));
  b->k = w->n ? w->k : 1;
  b->n = w->n ? w->n : 1;
  coh_sub_batch(coh_sweep_count(b->sweep), b->k, b->n, &b->first, &b->count);
  coh_sweep_hash(b->sweep, &b->hash);
  COH_TRY(coh_format(b->folder, sizeof b->folder, err, "%s/%s", cfg->experiment.results,
                     cfg->experiment.name));
  COH_TRY(coh_alloc(&b->state, b->count, 1, err));
  if (b->job->grid.rank == 0) rc = open_on_root(b, w, err);
  COH_TRY(coh_agree(world, rc, err));
  COH_TRY(coh_bcast(world, b->sub, sizeof b->sub, 0, err));
  COH_TRY(coh_bcast(world, &b->attempt, sizeof b->attempt, 0, err));
  if (b->count > 0) COH_TRY(coh_bcast(world, b->state, b->count, 0, err));
  COH_TRY(packs_make(b->sweep, b->first, b->count, &b->packs, err));
  COH_TRY(drop_done(b, w->retry, err));
cleanup:
  return rc;
}

static size_t count_state(const batch *b, int state) {
  size_t n = 0;
  for (size_t i = 0; i < b->count; i++) n += b->state[i] == state;
  return n;
}

static const double beat_seconds = 15;

bool batch_is_taken(batch *b, const coh_grid *grid) {
  coh_error taken;
  double now = coh_seconds();
  if (grid->rank != 0 || b->taken || now - b->last_beat < beat_seconds) return b->taken;
  b->last_beat = now;
  b->taken = coh_attempt_beat(&b->attempt, &taken) == COH_ETAKEN;
  return b->taken;
}

/* ---- who runs what -------------------------------------------------------------------
 */

/* Seconds, in the units of cost, that all ranks take for a pack together: members are
 * dealt in whole ones. */
static double together(const pack *p, size_t ranks) {
  double N = (double)p->n * (double)p->members;
  return p->cost * ceil(N / (double)ranks) / N;
}

/* Deals packs to ranks, the costliest first, each to the rank with least to do (Graham
 * 1969): owner[i] of those with single[i]. Returns the largest load. */
static double deal(const batch *b, const bool *single, int *owner, double *load) {
  int ranks = b->job->grid.size;
  double largest = 0;
  for (size_t i = 0; i < b->packs.n; i++) owner[i] = -1;
  for (int r = 0; r < ranks; r++) load[r] = 0;
  for (;;) {
    const pack *best = NULL;
    for (size_t i = 0; i < b->packs.n; i++) {
      const pack *p = b->packs.item + i;
      if (single[i] && owner[i] < 0 && p->n > 0 && (!best || p->cost > best->cost))
        best = p;
    }
    if (!best) return largest;
    int least = 0;
    for (int r = 1; r < ranks; r++)
      if (load[r] < load[least]) least = r;
    owner[best - b->packs.item] = least;
    load[least] += best->cost;
    if (load[least] > largest) largest = load[least];
  }
}

/* Packs with few members each, of which there are enough: side by side on single ranks,
 * if that is quicker. owner[i]: the rank, or -1 for all ranks together. */
static int choose_owners(const batch *b, int *owner, coh_error *err) {
  int rc;
  bool *single = NULL;
  double *load = NULL, all = 0;
  size_t ranks = (size_t)b->job->grid.size;
  COH_TRY(coh_alloc(&single, b->packs.n, sizeof *single, err));
  COH_TRY(coh_alloc(&load, ranks, sizeof *load, err));
  for (size_t i = 0; i < b->packs.n; i++) {
    const pack *p = b->packs.item + i;
    owner[i] = -1;
    single[i] = p->n > 0 && b->job->grid.n_replica == 1 && p->n * p->members < 4 * ranks;
    if (single[i]) all += together(p, ranks);
  }
  if (ranks > 1 && deal(b, single, owner, load) >= all)
    for (size_t i = 0; i < b->packs.n; i++) owner[i] = -1;
cleanup:
  free(single);
  free(load);
  return rc;
}

/* ---- running
 * --------------------------------------------------------------------------- */

/* What a pack's end means for the rest: a stop and a damaged machine end all, a pack that
 * cannot be run is told and, with on_failure = continue, left behind. */
static int after_pack(batch *b, const pack *p, int rc, bool failed, coh_error *err) {
  bool stop = b->job->cfg.experiment.on_failure == COH_ON_FAILURE_STOP;
  if (rc == COH_OK && !(failed && stop)) return COH_OK;
  if (rc == COH_OK)
    return coh_fail(err, COH_ENUMERIC,
                    "a run of %s failed, and experiment.on_failure = stop", p->name);
  bool fatal = rc == COH_ESTOP || rc == COH_ETAKEN || rc == COH_ENOMEM || rc == COH_EIO ||
               rc == COH_ELIB || rc == COH_EBUG;
  if (fatal || stop) return rc;
  b->not_run += p->n;
  coh_say(&b->job->sink, COH_WARN, "%zu runs were not run: %s", p->n, err->text);
  return COH_OK;
}

static int run_together(batch *b, const int *owner, coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i < b->packs.n; i++) {
    pack *p = b->packs.item + i;
    bool failed = false;
    if (p->n == 0 || owner[i] >= 0) continue;
    rc = pack_run(b, &b->job->grid, p, i, &failed, err);
    COH_TRY(after_pack(b, p, rc, failed, err));
  }
cleanup:
  return rc;
}

static int run_own(batch *b, const coh_grid *self, const int *owner, coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i < b->packs.n; i++) {
    pack *p = b->packs.item + i;
    bool failed = false;
    if (p->n == 0 || owner[i] != b->job->grid.rank) continue;
    rc = pack_run(b, self, p, i, &failed, err);
    COH_TRY(after_pack(b, p, rc, failed, err));
    if (job_was_asked_to_stop())
      COH_TRY(coh_fail(err, COH_ESTOP, "stopped; run it again to go on"));
  }
cleanup:
  return rc;
}

/* Every rank runs its own; then all learn how each run went. */
static int run_apart(batch *b, const int *owner, coh_error *err) {
  int rc;
  bool any = false;
  coh_grid self = {0};
  coh_grid *world = &b->job->grid;
  int64_t not_run;
  const int runs = (int)b->count;
  for (size_t i = 0; i < b->packs.n; i++) any |= owner[i] >= 0;
  if (!any) return COH_OK;
  COH_TRY(coh_grid_create(MPI_COMM_SELF, 1, &self, err));
  rc = run_own(b, &self, owner, err);
  COH_TRY(coh_agree(world->world, rc, err));
  not_run = (int64_t)b->not_run;
  COH_MPI(MPI_Allreduce(MPI_IN_PLACE, &not_run, 1, MPI_INT64_T, MPI_SUM, world->world));
  COH_MPI(MPI_Allreduce(MPI_IN_PLACE, b->state, runs, MPI_SIGNED_CHAR, MPI_MAX,
                        world->world));
  b->not_run = (size_t)not_run;
cleanup:
  coh_grid_destroy(&self);
  return rc;
}

static int run_packs(batch *b, coh_error *err) {
  int rc;
  int *owner = NULL;
  COH_TRY(coh_alloc(&owner, b->packs.n, sizeof *owner, err));
  COH_TRY(choose_owners(b, owner, err));
  COH_TRY(run_together(b, owner, err));
  COH_TRY(run_apart(b, owner, err));
cleanup:
  free(owner);
  return rc;
}

static void print_start(const batch *b) {
  const job *j = b->job;
  size_t left = 0, unfinished = 0;
  for (size_t i = 0; i < b->packs.n; i++) {
    left += b->packs.item[i].n;
    unfinished += b->packs.item[i].n > 0;
  }
  if (j->grid.rank != 0 || j->cfg.experiment.quiet) return;
  printf("sub-batch %zu of %zu, start %llu: %zu runs, %zu to run, in %zu packs\n", b->k,
         b->n, (unsigned long long)b->attempt.number, b->count, left, unfinished);
  fflush(stdout);
}

static int tell_end(batch *b, coh_error *err) {
  const job *j = b->job;
  size_t done = count_state(b, RUN_DONE), failed = count_state(b, RUN_FAILED);
  if (j->grid.rank == 0 && !j->cfg.experiment.quiet)
    printf("sub-batch %zu of %zu: %zu runs done, %zu failed, %zu missing; table "
           "%s/runs.csv\n",
           b->k, b->n, done, failed, b->count - done - failed, b->sub);
  if (failed + b->not_run == 0) return COH_OK;
  if (b->not_run > 0)
    return coh_fail(err, COH_ENUMERIC,
                    "%zu of %zu runs failed and %zu could not be run, for what the "
                    "warnings say",
                    failed, b->count, b->not_run);
  return coh_fail(err, COH_ENUMERIC,
                  "%zu of %zu runs failed; the column `error` of "
                  "%s/runs.csv tells why, --retry runs them again",
                  failed, b->count, b->sub);
}

static const char *outcome(int rc) {
  return rc == COH_OK ? "done" : rc == COH_ESTOP ? "stopped" : "failed";
}

/* The attempt's end, and its rows in the table of the sub-batch. */
static int close_batch(batch *b, int rc, coh_error *err) {
  coh_error second;
  if (b->job->grid.rank != 0 || b->attempt.number == 0 || rc == COH_ETAKEN) return rc;
  int end = coh_runs_collect(b->sub, &b->job->sink, &second);
  if (end == COH_OK) end = coh_pack_clean(b->sub, b->attempt.number, &second);
  if (end == COH_OK) end = coh_attempt_end(&b->attempt, outcome(rc), &second);
  if (rc == COH_OK && end != COH_OK) *err = second;
  return rc == COH_OK ? end : rc;
}

int batch_run(job *j, const coh_sweep *mine, const batch_wish *w, coh_error *err) {
  int rc;
  batch b = {.job = j};
  COH_TRY(open_batch(&b, mine, w, err));
  print_start(&b);
  COH_TRY(run_packs(&b, err));
  COH_TRY(tell_end(&b, err));
cleanup:
  if (rc == COH_ESTOP && b.taken)
    rc = coh_fail(err, COH_ETAKEN,
                  "a later start of sub-batch %zu of %zu has taken over; this one ends",
                  b.k, b.n);
  rc = close_batch(&b, rc, err);
  packs_free(&b.packs);
  free(b.state);
  coh_sweep_destroy(b.own);
  return rc;
}
