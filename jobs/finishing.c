/* finishing.c - the second part of a stage: the finish behind the optimiser, with a
 * checkpoint of its own, so that further training finds the optimiser's as it was. */
#include <stdlib.h>
#include <string.h>

#include "stage.h"

enum { FINISH_FORMAT = 1 };
static const char finish_kind[] = "finish";

/* ---- what is asked for ------------------------------------------------------------- */

coh_finish_method job_finish(const coh_config *cfg, int wish) {
  bool decays = cfg->training.weight_decay > 0;
  return decays && wish == COH_FINISH_AUTO ? COH_FINISH_NONE : (coh_finish_method)wish;
}

coh_dtype job_precision(const coh_config *cfg) {
  bool finishes = job_finish(cfg, cfg->training.finish) != COH_FINISH_NONE;
  if (cfg->experiment.job == COH_JOB_EXTRACT)
    finishes |= job_finish(cfg, cfg->extraction.finetune_finish) != COH_FINISH_NONE;
  return finishes ? COH_F64 : (coh_dtype)cfg->training.precision;
}

/* ---- files ------------------------------------------------------------------------- */

/* A finish, its trainer, and what its checkpoint must carry. */
typedef struct finishing {
  stage_run *run;
  coh_trainer *trainer;
  char path[COH_PATH];
  coh_text identity;
} finishing;

static int open_finishing(stage_run *r, coh_trainer *t, coh_finish_method method,
                          finishing *out, coh_error *err) {
  int rc;
  char file[COH_PATH];
  coh_train_status status;
  *out = (finishing){.run = r, .trainer = t};
  COH_TRY(coh_format(file, sizeof file, err, "finish.%s", r->stage->checkpoint));
  COH_TRY(stage_path(r->stage, file, out->path, err));
  coh_trainer_status(t, &status);
  coh_text_add(&out->identity, "%s %s from step %llu", r->stage->identity,
               coh_finish_name(method), (unsigned long long)status.step);
  COH_TRY(coh_text_check(&out->identity, err));
cleanup:
  return rc;
}

/* In the order of the optimiser's: metrics, the model at the end, then the checkpoint. */
static int on_save(void *ctx, coh_finisher *f, coh_error *err) {
  const finishing *g = ctx;
  int rc;
  coh_archive *a = NULL;
  MPI_Comm world = g->run->job->grid.world;
  coh_finish_status status;
  COH_TRY(stage_write_metrics(g->run, err));
  coh_finisher_status(f, &status);
  if (status.active == 0) COH_TRY(stage_save_model(g->run, g->trainer, err));
  COH_TRY(coh_archive_create(g->path, finish_kind, FINISH_FORMAT, world, &a, err));
  COH_TRY(coh_archive_put_text(a, "identity", g->identity.data, err));
  COH_TRY(coh_finisher_save(f, a, err));
  rc = coh_archive_commit(a, err);
  a = NULL;
cleanup:
  coh_archive_abandon(a);
  return rc;
}

/* One that began elsewhere is forgotten. */
static int resume(const finishing *g, coh_finisher *f, coh_error *err) {
  int rc;
  bool there, fits = true;
  coh_archive *a = NULL;
  char *identity = NULL;
  coh_finish_status status;
  const job *j = g->run->job;
  COH_TRY(stage_file_is_there(j, g->path, &there, err));
  if (!there) return COH_OK;
  COH_TRY(coh_archive_open(g->path, finish_kind, FINISH_FORMAT, j->grid.world, &a, err));
  COH_TRY(coh_archive_get_text(a, "identity", &identity, err));
  if (strcmp(identity, g->identity.data) != 0) goto cleanup;
  if (g->run->stage->derived) COH_TRY(stage_fits(g->run, g->path, a, &fits, err));
  if (!fits) goto cleanup;
  COH_TRY(coh_finisher_restore(f, a, err));
  coh_finisher_status(f, &status);
  if (status.active > 0)
    coh_say(&j->sink, COH_INFO, "%s: going on with the finish at round %llu",
            g->run->stage->title, (unsigned long long)status.round);
cleanup:
  free(identity);
  coh_archive_abandon(a);
  return rc;
}

/* ---- the finish -------------------------------------------------------------------- */

static int hook_metric(void *ctx, uint64_t step, const char *name, size_t N,
                       const double *values, coh_error *err) {
  const finishing *g = ctx;
  return stage_metric(g->run, step, name, N, values, err);
}

static int hook_progress(void *ctx, const coh_finish_status *status, coh_error *err) {
  (void)err;
  finishing *g = ctx;
  progress_finish(&g->run->progress, status);
  return COH_OK;
}

static bool hook_stop(void *ctx) {
  const finishing *g = ctx;
  return stage_stop(g->run);
}

static int run_finish(finishing *g, const coh_finish_spec *spec, coh_error *err) {
  int rc;
  const job *j = g->run->job;
  coh_finisher *f = NULL;
  coh_finish_status status;
  coh_train_status trained;
  coh_finish_hooks hooks = {.ctx = g,
                            .metric = hook_metric,
                            .progress = hook_progress,
                            .save = on_save,
                            .stop = hook_stop,
                            .save_seconds = 60 * j->cfg.experiment.checkpoint_minutes};
  coh_trainer_status(g->trainer, &trained);
  hooks.save_steps =
      coh_steps_value(j->cfg.experiment.checkpoint_steps, trained.epoch_length);
  COH_TRY(coh_finisher_create(g->trainer, spec, &hooks, &f, err));
  COH_TRY(resume(g, f, err));
  coh_finisher_status(f, &status);
  if (j->grid.rank == 0)
    coh_metrics_truncate(g->run->metrics, trained.step + status.round);
  COH_TRY(coh_finisher_run(f, err));
  coh_finisher_status(f, &status);
  if (status.rounds > 0) progress_finish_end(&g->run->progress, &status);
  g->run->changed |= status.rounds > 0;
cleanup:
  coh_finisher_destroy(f);
  return rc;
}

int stage_finish(stage_run *r, coh_trainer *t, coh_error *err) {
  int rc;
  const stage *s = r->stage;
  finishing g = {0};
  coh_finish_spec spec = {.steps = s->finish_steps,
                          .tolerance = r->job->cfg.training.finish_tolerance};
  if (s->finish == COH_FINISH_NONE) return COH_OK;
  rc = coh_finish_choose(s->finish, s->run->spec.loss, &s->plan, s->train->n,
                         &spec.method, err);
  COH_TRY(rc ? coh_explain(err, "%s", r->job->cfg.file) : COH_OK);
  COH_TRY(open_finishing(r, t, spec.method, &g, err));
  COH_TRY(run_finish(&g, &spec, err));
cleanup:
  coh_text_free(&g.identity);
  return rc;
}
