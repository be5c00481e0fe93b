/* pack_run.c - one pack of a sub-batch: trains it in a work folder of its attempt, writes
 * the rows of its runs, publishes the folder by one rename. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch_private.h"
#include "training.h"

typedef struct pack_work {
  batch *b;
  pack *p;
  job job; /* of the runs: on the pack's grid, in its folder */
  char folder[COH_PATH];
  char title[64];
  coh_manifest *manifest;
  size_t *member;     /* [n] first member of each run in model.h5 */
  run_result *result; /* [n]; of rank 0 of the grid */
  coh_config row_cfg; /* of the row in hand */
  double seconds;
  coh_text inputs; /* of train, compress: text that their hashes contain */
} pack_work;

/* ---- open and free
 * --------------------------------------------------------------------- */

static int open_work(pack_work *w, size_t number, coh_error *err) {
  int rc = COH_OK;
  const batch *b = w->b;
  char path[COH_PATH];
  MPI_Comm world = w->job.grid.world;
  int kind = w->job.cfg.experiment.job;
  COH_TRY(coh_alloc(&w->result, w->p->n, sizeof *w->result, err));
  COH_TRY(coh_alloc(&w->member, w->p->n, sizeof *w->member, err));
  if (w->job.grid.rank == 0)
    rc = coh_pack_open_work(b->sub, w->p->name, b->attempt.number, w->folder, err);
  COH_TRY(coh_agree(world, rc, err));
  COH_TRY(coh_bcast(world, w->folder, sizeof w->folder, 0, err));
  w->job.place = w->folder;
  snprintf(w->title, sizeof w->title, "pack %zu/%zu, %zu %s", number + 1, b->packs.n,
           w->p->n, w->p->n == 1 ? "run" : "runs");
  COH_TRY(coh_format(path, sizeof path, err, "%s/manifest.json", w->folder));
  COH_TRY(coh_manifest_create(path, world, run_job_name(kind), &w->p->hash,
                              b->job->command, &w->manifest, err));
  COH_TRY(coh_agree(world, coh_manifest_write(w->manifest, "running", err), err));
cleanup:
  return rc;
}

static void free_work(pack_work *w) {
  for (size_t i = 0; w->result && i < w->p->n; i++) run_result_free(w->result + i);
  free(w->result);
  free(w->member);
  coh_manifest_destroy(w->manifest);
  coh_text_free(&w->inputs);
}

/* ---- results
 * --------------------------------------------------------------------------- */

/* A message without "file:line: " in front: rows tell the same from wherever the sweep
 * was read. */
static const char *without_place(const pack_work *w, const char *message) {
  const char *file = coh_sweep_base(w->b->sweep)->file, *end;
  size_t n = strlen(file);
  if (strncmp(message, file, n) != 0 || !(end = strstr(message + n, ": ")))
    return message;
  return end + 2;
}

static int fail_run(pack_work *w, size_t i, const char *message, coh_error *err) {
  run_result *r = w->result + i;
  const char *why = without_place(w, message);
  r->done = false;
  free(r->error);
  r->error = strdup(why);
  return r->error ? COH_OK : coh_fail(err, COH_ENOMEM, "no memory for a failed run");
}

/* ---- job = train, job = compress
 * ------------------------------------------------------------------------ */

/* Adds the runs that have a valid configuration; j->cfg becomes that of the first. */
static int add_runs(pack_work *w, training *t, bool *valid, coh_error *err) {
  int rc = COH_OK;
  coh_config cfg;
  coh_error why;
  bool first = true;
  for (size_t i = 0; i < w->p->n; i++) {
    int bad = coh_sweep_config(w->b->sweep, w->p->run[i], &cfg, &why);
    if (!bad && first) w->job.cfg = cfg;
    if (!bad && first) bad = training_plan(&w->job, t, &why);
    if (!bad) bad = training_add(t, &cfg, &why);
    if (bad == COH_ENOMEM) return coh_fail(err, bad, "%s", why.text);
    valid[i] = bad == COH_OK;
    first = first && bad;
    w->member[i] = (t->n_run - valid[i]) * t->members;
    if (bad) COH_TRY(fail_run(w, i, why.text, err));
  }
cleanup:
  return rc;
}

/* True if all members of run r of the training diverged. */
static bool has_diverged(const training *t, const coh_train_status *s, size_t r) {
  for (size_t n = r * t->members; n < (r + 1) * t->members; n++)
    if (s->member[n].state != COH_MEMBER_FAILED) return false;
  return true;
}

static int take_results(pack_work *w, const training *t, const bool *valid,
                        coh_trainer *trainer, coh_error *err) {
  int rc;
  coh_measures *m = NULL;
  coh_train_status s;
  coh_trainer_status(trainer, &s);
  w->seconds = s.total_seconds;
  COH_TRY(coh_alloc(&m, t->n_run, sizeof *m, err));
  COH_TRY(training_measure(trainer, t, m, err));
  for (size_t i = 0, r = 0; i < w->p->n; i++) {
    run_result *out = w->result + i;
    char why[128];
    if (!valid[i]) continue;
    out->measures = m[r];
    m[r] = (coh_measures){0};
    out->done = !has_diverged(t, &s, r);
    snprintf(why, sizeof why, "the loss became NaN or infinite at step %llu",
             (unsigned long long)s.member[r * t->members].step);
    if (!out->done) COH_TRY(fail_run(w, i, why, err));
    r++;
  }
cleanup:
  for (size_t r = 0; m && r < t->n_run; r++) coh_measures_free(m + r);
  free(m);
  return rc;
}

static int train_pack(pack_work *w, coh_error *err) {
  int rc;
  training t = {0};
  coh_trainer *trainer = NULL;
  bool *valid = NULL;
  coh_error ignored;
  MPI_Comm world = w->job.grid.world;
  (void)coh_sweep_config(w->b->sweep, w->p->run[0], &w->job.cfg, &ignored);
  rc = coh_alloc(&valid, w->p->n, sizeof *valid, err);
  if (!rc) rc = training_inputs(&w->job.cfg, &w->inputs, err);
  if (!rc) rc = training_load(&w->job, &t, err);
  if (!rc) rc = add_runs(w, &t, valid, err);
  COH_TRY(coh_agree(world, rc, err));
  if (t.n_run == 0) goto cleanup;
  COH_TRY(job_device(&w->job, job_precision(&w->job.cfg), &t.dev, err));
  w->job.cfg.experiment.quiet |= w->b->job->grid.rank != 0;
  COH_TRY(
      training_train(&w->job, &t, w->title, w->folder, w->p->hash.hex, &trainer, err));
  COH_TRY(take_results(w, &t, valid, trainer, err));
cleanup:
  coh_trainer_destroy(trainer);
  training_free(&t);
  free(valid);
  return rc;
}

/* ---- job = extract
 * ------------------------------------------------------------------------ */

/* One clustering of the students, which the first one trains. */
static int extract_run(pack_work *w, size_t i, coh_error *err) {
  int rc;
  double start = coh_seconds();
  rc = coh_sweep_config(w->b->sweep, w->p->run[i], &w->job.cfg, err);
  if (rc) return fail_run(w, i, err->text, err);
  w->job.cfg.experiment.quiet |= w->b->job->grid.rank != 0;
  w->job.result = w->result + i;
  rc = job_extract(&w->job, err);
  w->seconds += coh_seconds() - start;
  if (rc == COH_ENUMERIC || rc == COH_EDATA) return fail_run(w, i, err->text, err);
  return rc;
}

static int extract_pack(pack_work *w, coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i < w->p->n; i++) COH_TRY(extract_run(w, i, err));
cleanup:
  return rc;
}

/* ---- what it leaves
 * ----------------------------------------------------------------------- */

/* The folder of a result, below that of the sub-batch. */
static int folder_of(const pack_work *w, const run_result *r, char *out, coh_error *err) {
  size_t n = strlen(w->folder);
  const char *below = strncmp(r->folder, w->folder, n) == 0 ? r->folder + n : "";
  return coh_format(out, COH_PATH, err, "packs/%s%s", w->p->name, below);
}

typedef struct row_texts {
  pack_work *w;
  coh_hash id;
  char folder[COH_PATH];
} row_texts;

static int row_at(void *ctx, size_t i, coh_row *out, coh_error *err) {
  int rc;
  row_texts *t = ctx;
  pack_work *w = t->w;
  const run_result *r = w->result + i;
  coh_error ignored;
  (void)coh_sweep_config(w->b->sweep, w->p->run[i], &w->row_cfg, &ignored);
  COH_TRY(coh_sweep_id(w->b->sweep, w->p->run[i], &t->id, err));
  COH_TRY(folder_of(w, r, t->folder, err));
  *out = (coh_row){.cfg = &w->row_cfg,
                   .run = r->hash,
                   .clustering = r->clustering,
                   .inputs = r->inputs,
                   .folder = t->folder,
                   .status = r->done ? "done" : "failed",
                   .measures = &r->measures,
                   .seconds = w->seconds / (double)w->p->n,
                   .hosts = coh_manifest_hosts(w->manifest),
                   .run_id = t->id.hex,
                   .index = w->p->run[i],
                   .member = w->member[i],
                   .members = w->p->members,
                   .error = r->error};
  if (*r->hash.hex) return COH_OK;
  if (w->inputs.data) out->inputs = w->inputs.data;
  COH_TRY(coh_config_hash(&w->row_cfg, COH_SCOPE_RUN, out->inputs ? out->inputs : "",
                          &out->run, err));
cleanup:
  return rc;
}

static int write_table(pack_work *w, coh_error *err) {
  char path[COH_PATH];
  row_texts t = {.w = w};
  int rc = coh_format(path, sizeof path, err, "%s/runs.csv", w->folder);
  return rc ? rc : coh_runs_write(path, w->p->n, row_at, &t, err);
}

static int describe_run(pack_work *w, size_t i, coh_pack_run *out, coh_error *err) {
  int rc;
  coh_row row;
  row_texts t = {.w = w};
  COH_TRY(row_at(&t, i, &row, err));
  *out = (coh_pack_run){.index = row.index,
                        .seed = w->row_cfg.experiment.seed,
                        .first = row.member,
                        .members = row.members};
  memcpy(out->run_id, t.id.hex, sizeof out->run_id);
  memcpy(out->hash, row.run.hex, sizeof out->hash);
  snprintf(out->status, sizeof out->status, "%s", row.status);
  if (row.error && !(out->error = strdup(row.error)))
    rc = coh_fail(err, COH_ENOMEM, "no memory for a failed run");
cleanup:
  return rc;
}

static int write_index(pack_work *w, coh_error *err) {
  int rc;
  coh_pack p = {.n = w->p->n, .attempt = w->b->attempt.number};
  memcpy(p.hash, w->p->hash.hex, sizeof p.hash);
  memcpy(p.sweep, w->b->hash.hex, sizeof p.sweep);
  memcpy(p.token, w->b->attempt.token, sizeof p.token);
  COH_TRY(coh_alloc(&p.run, p.n, sizeof *p.run, err));
  for (size_t i = 0; i < p.n; i++) COH_TRY(describe_run(w, i, p.run + i, err));
  COH_TRY(coh_pack_write(w->folder, &p, err));
cleanup:
  coh_pack_free(&p);
  return rc;
}

/* The configuration of the first run; the table tells what differs in the others. */
static int write_ini(pack_work *w, coh_error *err) {
  int rc;
  char path[COH_PATH];
  coh_text text = {0};
  coh_error ignored;
  (void)coh_sweep_config(w->b->sweep, w->p->run[0], &w->row_cfg, &ignored);
  coh_text_add(&text, "; run %zu of the sweep, the first of %zu in this pack\n",
               w->p->run[0], w->p->n);
  coh_config_show(&w->row_cfg, &text);
  COH_TRY(coh_text_check(&text, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/run.ini", w->folder));
  COH_TRY(coh_file_write(path, text.data, text.len, err));
cleanup:
  coh_text_free(&text);
  return rc;
}

static bool is_checkpoint(const char *name) {
  size_t n = strlen(name);
  bool archive = n > 3 && strcmp(name + n - 3, ".h5") == 0;
  return archive && (strncmp(name, "finish.", 7) == 0 || strstr(name, "checkpoint"));
}

/* A published pack does not go on. */
static void remove_checkpoints(const char *folder, int depth) {
  char path[COH_PATH];
  coh_error ignored;
  struct stat s;
  DIR *d = opendir(folder);
  if (!d) return;
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] == '.' ||
        coh_format(path, sizeof path, &ignored, "%s/%s", folder, e->d_name))
      continue;
    if (is_checkpoint(e->d_name))
      unlink(path);
    else if (depth > 0 && stat(path, &s) == 0 && S_ISDIR(s.st_mode))
      remove_checkpoints(path, depth - 1);
  }
  closedir(d);
}

/* The table of the sub-batch while packs are left: now and then, since it is read and
 * written as a whole; at the end it is written anyway. */
static int update_table(batch *b, coh_error *err) {
  static const double table_seconds = 20;
  double now = coh_seconds();
  if (b->job->grid.rank != 0 || now - b->last_table < table_seconds) return COH_OK;
  b->last_table = now;
  return coh_runs_collect(b->sub, &b->job->sink, err);
}

/* On rank 0 of the grid. The heartbeat comes last before the rename: a ghost ends there.
 */
static int publish(pack_work *w, coh_error *err) {
  int rc;
  bool lost;
  const batch *b = w->b;
  COH_TRY(write_ini(w, err));
  COH_TRY(write_table(w, err));
  COH_TRY(coh_manifest_write(w->manifest, "done", err));
  COH_TRY(write_index(w, err));
  remove_checkpoints(w->folder, 1);
  COH_TRY(coh_attempt_beat(&b->attempt, err));
  COH_TRY(coh_pack_publish(w->folder, b->sub, w->p->name, &lost, err));
  if (lost)
    coh_say(&b->job->sink, COH_WARN, "pack %s was there already; it stays as it was",
            w->p->name);
  COH_TRY(update_table(w->b, err));
cleanup:
  return rc;
}

/* ---- all of it
 * ------------------------------------------------------------------------------ */

static void note_states(pack_work *w, char *states) {
  for (size_t i = 0; i < w->p->n; i++)
    states[i] = w->result[i].done ? RUN_DONE : RUN_FAILED;
}

/* How each run went, on all ranks of the grid. */
static int share_states(pack_work *w, bool *failed, coh_error *err) {
  int rc;
  char *states = NULL;
  COH_TRY(coh_alloc(&states, w->p->n, 1, err));
  note_states(w, states);
  COH_TRY(coh_bcast(w->job.grid.world, states, w->p->n, 0, err));
  for (size_t i = 0; i < w->p->n; i++) {
    w->b->state[w->p->run[i] - w->b->first] = states[i];
    *failed |= states[i] == RUN_FAILED;
  }
cleanup:
  free(states);
  return rc;
}

int pack_run(batch *b, const coh_grid *grid, pack *p, size_t number, bool *failed,
             coh_error *err) {
  int rc;
  pack_work w = {.b = b, .p = p, .job = *b->job};
  w.job.grid = *grid; /* its communicators are borrowed, its sums are the pack's own */
  w.job.grid.nccl = NULL;
  w.job.batch = b;
  COH_TRY(open_work(&w, number, err));
  bool extracts = b->job->cfg.experiment.job == COH_JOB_EXTRACT;
  COH_TRY(extracts ? extract_pack(&w, err) : train_pack(&w, err));
  if (grid->rank == 0) rc = publish(&w, err);
  COH_TRY(coh_agree(grid->world, rc, err));
  COH_TRY(share_states(&w, failed, err));
cleanup:
  b->job->gpu.told = w.job.gpu.told;
  if (rc == COH_OK) coh_grid_drop_sums(&w.job.grid); /* else: ranks may not come to it */
  free_work(&w);
  return rc;
}
