/* stage.c - one training with its files: resumes from its checkpoint, saves checkpoint
 * and metrics while it runs, the model at its end. Every job trains through here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "parts.h"
#include "stage.h"

enum { CHECKPOINT_FORMAT = 1 };
static const char checkpoint_kind[] = "checkpoint";

int stage_path(const stage *s, const char *file, char *out, coh_error *err) {
  return coh_format(out, COH_PATH, err, "%s/%s", s->folder, file);
}

/* ---- hooks
 * ---------------------------------------------------------------------------------- */

int stage_metric(void *ctx, uint64_t step, const char *name, size_t N,
                 const double *values, coh_error *err) {
  const stage_run *r = ctx;
  int rc = COH_OK;
  if (r->job->grid.rank != 0) return COH_OK;
  for (size_t n = 0; n < N && !rc; n++) {
    if (r->stage->method && isnan(values[n])) continue; /* a member that has ended */
    rc = coh_metrics_add(r->metrics, step, name, n, values[n], err);
  }
  return rc;
}

static int on_progress(void *ctx, const coh_train_status *status, coh_error *err) {
  (void)err;
  stage_run *r = ctx;
  progress_epoch(&r->progress, status);
  return COH_OK;
}

bool stage_stop(void *ctx) {
  const stage_run *r = ctx;
  return job_was_asked_to_stop() ||
         (r->job->batch && batch_is_taken(r->job->batch, &r->job->grid));
}

/* `count` numbers as dtype; nothing for NULL. */
static int round_values(const void *from, coh_dtype had, coh_dtype dtype, size_t count,
                        void *out, coh_error *err) {
  void **to = out;
  if (!from) return COH_OK;
  int rc = coh_alloc(to, count, coh_dtype_size(dtype), err);
  for (size_t i = 0; i < count && !rc; i++) coh_put(dtype, *to, i, coh_get(had, from, i));
  return rc;
}

/* In the width of what made it: a finish is of float64. */
int stage_save_model(const stage_run *r, coh_trainer *t, coh_error *err) {
  int rc;
  const stage *s = r->stage;
  char path[COH_PATH];
  void *params = NULL, *rounded = NULL;
  size_t first, count, P = s->plan.P;
  coh_dtype dtype =
      s->finish != COH_FINISH_NONE ? COH_F64 : (coh_dtype)r->job->cfg.training.precision;
  coh_trainer_block(t, &first, &count);
  COH_TRY(stage_path(s, s->model, path, err));
  rc = coh_alloc(&params, count * P, coh_dtype_size(r->dtype), err);
  if (!rc) rc = coh_trainer_get(t, params, err);
  if (!rc) rc = round_values(params, r->dtype, dtype, count * P, &rounded, err);
  COH_TRY(coh_agree(r->job->grid.world, rc, err));
  if (r->job->grid.replica_rank > 0) count = 0;
  COH_TRY(coh_model_save(path, r->job->grid.world, &s->plan, dtype, s->N, first, count,
                         rounded, err));
cleanup:
  free(params);
  free(rounded);
  return rc;
}

int stage_write_metrics(const stage_run *r, coh_error *err) {
  int rc = COH_OK;
  if (r->job->grid.rank == 0) rc = coh_metrics_write(r->metrics, err);
  return coh_agree(r->job->grid.world, rc, err);
}

/* Metrics first: rows newer than the checkpoint are cut at resume, older ones would be
 * lost. At the end the model next: a checkpoint of a finished training has its model,
 * which a finish makes. */
static int on_save(void *ctx, coh_trainer *t, coh_error *err) {
  const stage_run *r = ctx;
  const stage *s = r->stage;
  int rc;
  coh_archive *a = NULL;
  char path[COH_PATH];
  coh_train_status status;
  COH_TRY(stage_write_metrics(r, err));
  coh_trainer_status(t, &status);
  if (status.active == 0 && s->finish == COH_FINISH_NONE)
    COH_TRY(stage_save_model(r, t, err));
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
  if (!s->start) return coh_trainer_start(t, err);
  int rc;
  size_t first, count, P = s->plan.P;
  coh_dtype had = s->train->dtype, dtype = (coh_dtype)j->cfg.training.precision;
  void *own = NULL;
  coh_trainer_block(t, &first, &count);
  if (count == 0) return COH_OK;
  const char *from = (const char *)s->start + first * P * coh_dtype_size(had);
  COH_TRY(round_values(from, had, dtype, count * P, &own, err));
  COH_TRY(coh_trainer_set(t, own, err));
cleanup:
  free(own);
  return rc;
}

int stage_fits(const stage_run *r, const char *path, coh_archive *a, bool *fits,
               coh_error *err) {
  const stage *s = r->stage;
  size_t dim[2] = {0}, ndim = 2;
  int rc = coh_archive_dims(a, "params", &ndim, dim, err);
  *fits = !rc && ndim == 2 && dim[0] == s->N && dim[1] == s->plan.P;
  if (!rc && !*fits)
    coh_say(&r->job->sink, COH_WARN,
            "%s: starting anew, for %s holds %zu networks of %zu parameters, not %zu of "
            "%zu",
            s->title, path, dim[0], dim[1], s->N, s->plan.P);
  return rc;
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
  bool other = strcmp(identity, s->identity) != 0, fits = true;
  if (!other && s->derived) COH_TRY(stage_fits(r, path, a, &fits, err));
  if (s->derived && (other || !fits)) {
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
  bool goes_on = status.active > 0 && status.step < status.end;
  if (j->grid.rank == 0 && (goes_on || s->finish == COH_FINISH_NONE))
    coh_metrics_truncate(r->metrics, status.step);
  if (goes_on)
    coh_say(&j->sink, COH_INFO, "%s: going on at step %llu of %llu", s->title,
            (unsigned long long)status.step, (unsigned long long)status.end);
cleanup:
  free(identity);
  coh_archive_abandon(a);
  return rc;
}

/* Rank 0 looks, so that all ranks take the same way. */
int stage_file_is_there(const job *j, const char *path, bool *there, coh_error *err) {
  int64_t found = j->grid.rank == 0 && coh_file_exists(path);
  int rc = coh_allmax(j->grid.world, &found, err);
  *there = found != 0;
  return rc;
}

/* Tells of members that diverged. COH_ENUMERIC if all did; of several runs each has an
 * end of its own, which is left to the job. */
static int count_failed(const job *j, const stage *s, const coh_trainer *t,
                        coh_error *err) {
  enum { TOLD = 5 };
  coh_train_status status;
  coh_trainer_status(t, &status);
  size_t failed = 0;
  for (size_t n = 0; n < s->N; n++)
    if (status.member[n].state == COH_MEMBER_FAILED && failed++ < TOLD)
      coh_say(&j->sink, COH_WARN, "%s: network %zu diverged at step %llu (loss %g)",
              s->title, n, (unsigned long long)status.member[n].step,
              status.member[n].loss);
  if (failed > TOLD)
    coh_say(&j->sink, COH_WARN, "%s: and %zu more networks diverged", s->title,
            failed - TOLD);
  if (failed == s->N && s->n_run == 1)
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
  COH_TRY(stage_file_is_there(r->job, path, &there, err));
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
  COH_TRY(stage_path(r->stage, r->stage->model, path, err));
  COH_TRY(model_is_sound(r, path, &sound, err));
  if (!r->changed && (r->anew || !sound)) COH_TRY(stage_save_model(r, t, err));
  COH_TRY(count_failed(r->job, r->stage, t, err));
cleanup:
  return rc;
}

/* ---- the optimiser's part ---------------------------------------------------------- */

static int create_trainer(const stage_run *r, coh_device *dev, const coh_dataset *train,
                          const coh_dataset *test, const coh_train_hooks *hooks,
                          coh_trainer **out, coh_error *err) {
  int rc;
  const stage *s = r->stage;
  COH_TRY(coh_trainer_create(&r->job->grid, dev, &s->plan, s->N, train, test,
                             &s->run->spec, hooks, out, err));
  COH_TRY(coh_trainer_runs(*out, s->n_run, s->run, err));
  if (s->method)
    COH_TRY(coh_agree(r->job->grid.world, coh_trainer_method(*out, s->method, err), err));
cleanup:
  return rc;
}

/* To the last step, on data of dev's precision. */
static int descend(stage_run *r, coh_device *dev, const coh_dataset *train,
                   const coh_dataset *test, coh_trainer **out, coh_error *err) {
  int rc;
  const job *j = r->job;
  coh_trainer *t = NULL;
  coh_train_status status;
  coh_train_hooks hooks = {.ctx = r,
                           .metric = stage_metric,
                           .progress = on_progress,
                           .save = on_save,
                           .stop = stage_stop,
                           .save_seconds = 60 * j->cfg.experiment.checkpoint_minutes};
  hooks.save_steps =
      coh_steps_value(j->cfg.experiment.checkpoint_steps,
                      coh_epoch_length(train->n, r->stage->run->spec.batch));
  r->dtype = train->dtype;
  COH_TRY(create_trainer(r, dev, train, test, &hooks, &t, err));
  COH_TRY(begin(r, t, err));
  COH_TRY(coh_trainer_run(t, err));
  coh_trainer_status(t, &status);
  if (status.steps > 0) progress_end(&r->progress, &status);
  r->changed = status.steps > 0;
  *out = t;
  t = NULL;
cleanup:
  coh_trainer_destroy(t);
  return rc;
}

/* A copy in another precision; the labels are borrowed. */
static int round_dataset(const coh_dataset *d, coh_dtype dtype, coh_dataset *out,
                         coh_error *err) {
  int rc;
  *out = *d;
  out->dtype = dtype;
  out->x = out->y = NULL;
  COH_TRY(round_values(d->x, d->dtype, dtype, d->n * d->d_in, &out->x, err));
  COH_TRY(round_values(d->y, d->dtype, dtype, d->n * d->n_out, &out->y, err));
cleanup:
  return rc;
}

static void free_rounded(coh_dataset *d) {
  d->labels = NULL;
  coh_dataset_free(d);
}

/* As descend, in training.precision; *out is of dev's again. */
static int descend_rounded(stage_run *r, coh_device *dev, coh_trainer **out,
                           coh_error *err) {
  int rc;
  const job *j = r->job;
  const stage *s = r->stage;
  coh_dtype dtype = (coh_dtype)j->cfg.training.precision;
  coh_device *own = NULL;
  coh_dataset train = {0}, test = {0};
  coh_trainer *narrow = NULL;
  rc = job_device_as(j, dtype, &own, err);
  if (!rc) rc = round_dataset(s->train, dtype, &train, err);
  if (!rc && s->test) rc = round_dataset(s->test, dtype, &test, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(descend(r, own, &train, s->test ? &test : NULL, &narrow, err));
  COH_TRY(create_trainer(r, dev, s->train, s->test, NULL, out, err));
  COH_TRY(coh_agree(j->grid.world, coh_trainer_take(*out, narrow, err), err));
  r->dtype = s->train->dtype;
cleanup:
  coh_trainer_destroy(narrow);
  coh_device_close(own);
  free_rounded(&train);
  free_rounded(&test);
  return rc;
}

/* Takes over what parts of the members' sub-batches trained to the end. */
static int join_parts(stage_run *r, coh_device *dev, coh_trainer **out, coh_error *err) {
  int rc;
  const stage *s = r->stage;
  size_t first, count, row = s->plan.P * coh_dtype_size(s->train->dtype);
  void *all = NULL;
  COH_TRY(create_trainer(r, dev, s->train, s->test, NULL, out, err));
  rc = parts_load(s->parts, r->job, &s->plan, s->N, s->train->dtype, &all, err);
  COH_TRY(coh_agree(r->job->grid.world, rc, err));
  coh_trainer_block(*out, &first, &count);
  COH_TRY(coh_trainer_adopt(*out, (char *)all + first * row, err));
  r->dtype = s->train->dtype;
  r->anew = true;
  coh_say(&r->job->sink, COH_INFO, "%s: joined from %zu sub-batches", s->title,
          s->parts->n);
cleanup:
  free(all);
  return rc;
}

/* ---- all of it --------------------------------------------------------------------- */

int stage_train(const job *j, coh_device *dev, const stage *s, coh_trainer **out,
                coh_error *err) {
  int rc;
  coh_trainer *t = NULL;
  stage_run r = {.job = j, .stage = s};
  *out = NULL;
  if (s->parts)
    COH_TRY(join_parts(&r, dev, &t, err));
  else if (s->train->dtype == (coh_dtype)j->cfg.training.precision)
    COH_TRY(descend(&r, dev, s->train, s->test, &t, err));
  else
    COH_TRY(descend_rounded(&r, dev, &t, err));
  if (!s->parts) COH_TRY(stage_finish(&r, t, err));
  COH_TRY(end(&r, t, err));
  *out = t;
  t = NULL;
cleanup:
  coh_trainer_destroy(t);
  coh_metrics_close(r.metrics);
  return rc;
}
