/* stage.c - one training with its files: resumes from its checkpoint, saves checkpoint
 * and metrics while it runs, the model at its end. Every job trains through here. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job.h"

enum { CHECKPOINT_FORMAT = 1 };
static const char checkpoint_kind[] = "checkpoint";

/* What the hooks need. */
typedef struct stage_run {
  const job *job;
  const stage *stage;
  coh_metrics *metrics; /* rank 0 */
  bool anew;            /* not resumed */
  progress progress;
} stage_run;

static int stage_path(const stage *s, const char *file, char *out, coh_error *err) {
  return coh_format(out, COH_PATH, err, "%s/%s", s->folder, file);
}

/* ---- hooks
 * ---------------------------------------------------------------------------------- */

static int on_metric(void *ctx, uint64_t step, const char *name, size_t N,
                     const double *values, coh_error *err) {
  const stage_run *r = ctx;
  int rc = COH_OK;
  if (r->job->grid.rank != 0) return COH_OK;
  for (size_t n = 0; n < N && !rc; n++)
    rc = coh_metrics_add(r->metrics, step, name, n, values[n], err);
  return rc;
}

static int on_progress(void *ctx, const coh_train_status *status, coh_error *err) {
  (void)err;
  stage_run *r = ctx;
  progress_epoch(&r->progress, status);
  return COH_OK;
}

static bool on_stop(void *ctx) {
  (void)ctx;
  return job_was_asked_to_stop();
}

static int save_model(const job *j, const stage *s, coh_trainer *t, coh_error *err) {
  int rc;
  char path[COH_PATH];
  void *params = NULL;
  size_t first, count;
  coh_trainer_block(t, &first, &count);
  COH_TRY(stage_path(s, s->model, path, err));
  rc = coh_alloc(&params, count * s->plan.P, coh_dtype_size(s->train->dtype), err);
  if (!rc) rc = coh_trainer_get(t, params, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  if (j->grid.replica_rank > 0) count = 0;
  COH_TRY(coh_model_save(path, j->grid.world, &s->plan, s->train->dtype, s->N, first,
                         count, params, err));
cleanup:
  free(params);
  return rc;
}

/* Metrics first: rows newer than the checkpoint are cut at resume, older ones would be
 * lost. At the end the model next: a checkpoint of a finished training has its model. */
static int on_save(void *ctx, coh_trainer *t, coh_error *err) {
  const stage_run *r = ctx;
  const stage *s = r->stage;
  int rc = COH_OK;
  coh_archive *a = NULL;
  char path[COH_PATH];
  if (r->job->grid.rank == 0) rc = coh_metrics_write(r->metrics, err);
  COH_TRY(coh_agree(r->job->grid.world, rc, err));
  coh_train_status status;
  coh_trainer_status(t, &status);
  if (status.active == 0) COH_TRY(save_model(r->job, s, t, err));
  COH_TRY(stage_path(s, s->checkpoint, path, err));
  COH_TRY(coh_archive_create(path, checkpoint_kind, CHECKPOINT_FORMAT, r->job->grid.world,
                             &a, err));
  COH_TRY(coh_archive_put_text(a, "identity", s->identity, err));
  COH_TRY(coh_trainer_save(t, a, err));
  rc = coh_archive_commit(a, err);
  a = NULL;
cleanup:
  coh_archive_abandon(a);
  return rc;
}

/* ---- start and end
 * ------------------------------------------------------------------------ */

/* ---- metrics --------------------------------------------------------------------- */

static int open_metrics(stage_run *r, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  if (r->job->grid.rank == 0) {
    rc = stage_path(r->stage, r->stage->metrics, path, err);
    if (!rc) rc = coh_metrics_open(path, &r->metrics, err);
  }
  return coh_agree(r->job->grid.world, rc, err);
}

/* Those of another training that this one takes the place of. */
static int forget_metrics(stage_run *r, coh_error *err) {
  int rc;
  char path[COH_PATH];
  COH_TRY(stage_path(r->stage, r->stage->metrics, path, err));
  if (r->job->grid.rank == 0) {
    coh_metrics_close(r->metrics);
    r->metrics = NULL;
    unlink(path);
  }
  COH_TRY(open_metrics(r, err));
cleanup:
  return rc;
}

/* ---- start and end ----------------------------------------------------------------- */

static int start_anew(const job *j, const stage *s, coh_trainer *t, coh_error *err) {
  if (!s->start) return coh_trainer_init(t, &j->cfg, s->first_id, err);
  size_t first, count, row = s->plan.P * coh_dtype_size(s->train->dtype);
  coh_trainer_block(t, &first, &count);
  if (count == 0) return COH_OK;
  return coh_trainer_set(t, (const char *)s->start + first * row, err);
}

static int resume(stage_run *r, const char *path, coh_trainer *t, coh_error *err) {
  int rc;
  const job *j = r->job;
  const stage *s = r->stage;
  coh_archive *a = NULL;
  char *identity = NULL;
  coh_train_status status;
  COH_TRY(
      coh_archive_open(path, checkpoint_kind, CHECKPOINT_FORMAT, j->grid.world, &a, err));
  COH_TRY(coh_archive_get_text(a, "identity", &identity, err));
  bool other = strcmp(identity, s->identity) != 0;
  if (other && s->derived) {
    COH_TRY(forget_metrics(r, err));
    r->anew = true;
    COH_TRY(start_anew(j, s, t, err));
    goto cleanup;
  }
  if (other) {
    rc = coh_fail(
        err, COH_EDATA,
        "%s is a checkpoint of another configuration: it holds \"%s\", this run is "
        "\"%s\"; move it away to start anew",
        path, identity, s->identity);
    goto cleanup;
  }
  COH_TRY(coh_trainer_restore(t, a, s->further, err));
  coh_trainer_status(t, &status);
  if (!s->further && status.active > 0 && status.step >= status.end) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: %s was stopped at step %llu of a further training; go on with "
                  "training.further_training=...",
                  path, s->title, (unsigned long long)status.step);
    goto cleanup;
  }
  if (j->grid.rank == 0) coh_metrics_truncate(r->metrics, status.step);
  if (status.active > 0 && status.step < status.end)
    coh_say(&j->sink, COH_INFO, "%s: going on at step %llu of %llu", s->title,
            (unsigned long long)status.step, (unsigned long long)status.end);
cleanup:
  free(identity);
  coh_archive_abandon(a);
  return rc;
}

/* Rank 0 looks, so that all ranks take the same way. */
static int rank0_has(const job *j, const char *path, bool *there, coh_error *err) {
  int64_t found = j->grid.rank == 0 && coh_file_exists(path);
  int rc = coh_allmax(j->grid.world, &found, err);
  *there = found != 0;
  return rc;
}

static int count_failed(const job *j, const stage *s, const coh_trainer *t,
                        coh_error *err) {
  coh_train_status status;
  coh_trainer_status(t, &status);
  size_t failed = 0;
  for (size_t n = 0; n < s->N; n++)
    if (status.member[n].state == COH_MEMBER_FAILED) {
      failed++;
      coh_say(&j->sink, COH_WARN, "%s: network %zu diverged at step %llu (loss %g)",
              s->title, n, (unsigned long long)status.member[n].step,
              status.member[n].loss);
    }
  if (failed == s->N)
    return coh_fail(err, COH_ENUMERIC,
                    "%s: the loss of every network became NaN or infinite; a smaller "
                    "training.lr may help",
                    s->title);
  return COH_OK;
}

static int begin(stage_run *r, coh_trainer *t, coh_error *err) {
  int rc;
  char path[COH_PATH];
  bool there;
  COH_TRY(open_metrics(r, err));
  COH_TRY(stage_path(r->stage, r->stage->checkpoint, path, err));
  COH_TRY(rank0_has(r->job, path, &there, err));
  r->anew = !there;
  if (there)
    COH_TRY(resume(r, path, t, err));
  else
    COH_TRY(start_anew(r->job, r->stage, t, err));
  progress_begin(&r->progress, r->job, r->stage->title);
cleanup:
  return rc;
}

/* True on all ranks if rank 0 can open the model file. */
static int model_is_sound(const stage_run *r, const char *path, bool *sound,
                          coh_error *err) {
  coh_archive *a = NULL;
  coh_error ignored;
  int64_t good = 0;
  if (r->job->grid.rank == 0)
    good = coh_archive_open(path, COH_MODEL_KIND, COH_MODEL_FORMAT, MPI_COMM_SELF, &a,
                            &ignored) == COH_OK;
  coh_archive_abandon(a);
  int rc = coh_allmax(r->job->grid.world, &good, err);
  *sound = good != 0;
  return rc;
}

/* The model of a training that made no step here: of a new one, or one that was removed
 * or damaged since. */
static int end(stage_run *r, coh_trainer *t, coh_error *err) {
  int rc;
  char path[COH_PATH];
  bool sound;
  coh_train_status status;
  coh_trainer_status(t, &status);
  if (status.steps > 0) progress_end(&r->progress, &status);
  COH_TRY(stage_path(r->stage, r->stage->model, path, err));
  COH_TRY(model_is_sound(r, path, &sound, err));
  if (status.steps == 0 && (r->anew || !sound))
    COH_TRY(save_model(r->job, r->stage, t, err));
  COH_TRY(count_failed(r->job, r->stage, t, err));
cleanup:
  return rc;
}

int stage_train(const job *j, coh_device *dev, const stage *s, coh_trainer **out,
                coh_error *err) {
  int rc;
  coh_trainer *t = NULL;
  stage_run r = {.job = j, .stage = s};
  coh_train_hooks hooks = {.ctx = &r,
                           .metric = on_metric,
                           .progress = on_progress,
                           .save = on_save,
                           .stop = on_stop,
                           .save_seconds = 60 * j->cfg.experiment.checkpoint_minutes};
  hooks.save_steps = coh_steps_value(j->cfg.experiment.checkpoint_steps,
                                     coh_epoch_length(s->train->n, s->spec.batch));
  *out = NULL;
  COH_TRY(coh_trainer_create(&j->grid, dev, &s->plan, s->N, s->train, s->test, &s->spec,
                             &hooks, &t, err));
  COH_TRY(begin(&r, t, err));
  COH_TRY(coh_trainer_run(t, err));
  COH_TRY(end(&r, t, err));
  *out = t;
  t = NULL;
cleanup:
  coh_trainer_destroy(t);
  coh_metrics_close(r.metrics);
  return rc;
}
