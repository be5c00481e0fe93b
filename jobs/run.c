/* run.c - one run of a job: folder, hash, manifest, row in runs.csv. Rank 0 works on the
 * files, all ranks learn how it went. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/data.h"
#include "run.h"

const char *run_job_name(int kind) {
  return kind == COH_JOB_TRAIN     ? "train"
         : kind == COH_JOB_EXTRACT ? "extract"
                                   : "compress";
}

int run_label(const coh_config *cfg, char out[COH_LABEL], coh_error *err) {
  char text[2 * COH_CFG_TEXT + 2];
  bool trains = cfg->experiment.job != COH_JOB_EXTRACT;
  int rc = coh_format(text, sizeof text, err, "%s-%s", cfg->model.name,
                      trains ? cfg->dataset.name : cfg->query.datagen);
  if (!rc) coh_label(text, out);
  return rc;
}

static bool asked_to_stop(void *ctx) {
  (void)ctx;
  return job_was_asked_to_stop();
}

/* The tables of a sweep are made anew from its packs: the row of another run would go. */
static int check_place(const coh_config *cfg, coh_error *err) {
  char path[COH_PATH];
  int rc = coh_format(path, sizeof path, err, "%s/%s/sweep.ini", cfg->experiment.results,
                      cfg->experiment.name);
  if (rc != COH_OK || !coh_file_exists(path)) return rc;
  return coh_fail(err, COH_EUSAGE,
                  "%s: experiment.name = \"%s\": %s/%s is the folder of a sweep, as its "
                  "sweep.ini says; expected another name",
                  cfg->file, cfg->experiment.name, cfg->experiment.results,
                  cfg->experiment.name);
}

/* What rank 0 does before the others may go on. */
static int open_on_root(run *r, const char *inputs, bool wait, coh_error *err) {
  int rc;
  const coh_config *cfg = &r->job->cfg;
  char label[COH_LABEL];
  COH_TRY(coh_config_hash(cfg, COH_SCOPE_RUN, inputs, &r->hash, err));
  size_t k = r->job->part_n ? r->job->part_k : 1, n = r->job->part_n ? r->job->part_n : 1;
  COH_TRY(coh_sweep_folder(cfg->experiment.results, cfg->experiment.name, k, n, r->sweep,
                           sizeof r->sweep, err));
  COH_TRY(check_place(cfg, err));
  COH_TRY(coh_runs_check(r->sweep, err));
  COH_TRY(run_label(cfg, label, err));
  if (!(r->inputs = strdup(inputs))) {
    rc = coh_fail(err, COH_ENOMEM, "no memory for the inputs of a run");
    goto cleanup;
  }
  const coh_run_wait patience = {.give_up = asked_to_stop};
  COH_TRY(coh_run_open(r->sweep, label, &r->hash, cfg, wait ? &patience : NULL,
                       &r->job->sink, &r->files, err));
  memcpy(r->folder, r->files.folder, sizeof r->folder);
cleanup:
  return rc;
}

/* The run of a pack: hash and folder. */
static int open_in_pack(run *r, const char *inputs, coh_error *err) {
  int rc;
  job *j = r->job;
  COH_TRY(coh_format(r->folder, sizeof r->folder, err, "%s", j->place));
  COH_TRY(coh_format(r->sweep, sizeof r->sweep, err, "%s", j->place));
  if (j->grid.rank == 0)
    rc = coh_config_hash(&j->cfg, COH_SCOPE_RUN, inputs, &r->hash, err);
  if (!rc && j->grid.rank == 0 && !(r->inputs = strdup(inputs)))
    rc = coh_fail(err, COH_ENOMEM, "no memory for the inputs of a run");
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(coh_bcast(j->grid.world, &r->hash, sizeof r->hash, 0, err));
  r->open = true;
cleanup:
  return rc;
}

/* The files of every data set that the run names: a line each, see coh_dataset_content.
 */
static int list_data(const coh_config *cfg, coh_text *out, coh_error *err) {
  int rc = COH_OK;
  char root[COH_PATH] = "", sets[COH_CFG_TEXT], *rest = sets;
  bool trains = cfg->experiment.job != COH_JOB_EXTRACT;
  if (cfg->dataset.root[0])
    COH_TRY(coh_config_path(cfg, cfg->dataset.root, root, sizeof root, err));
  COH_TRY(coh_format(sets, sizeof sets, err, "%s",
                     trains ? cfg->dataset.name : cfg->query.datagen));
  for (char *set; (set = strsep(&rest, "+ "));) {
    bool images = *set && strcmp(set, "random") != 0 && strcmp(set, "grid") != 0 &&
                  strcmp(set, "file") != 0 && strcmp(set, "teacher_student") != 0;
    if (images) COH_TRY(coh_dataset_content(set, root, true, out, err));
    if (images && trains) COH_TRY(coh_dataset_content(set, root, false, out, err));
  }
cleanup:
  return rc;
}

/* Puts them into the manifest, which refuses those that changed. */
static int note_data(const run *r, coh_error *err) {
  int rc;
  coh_text list = {0};
  COH_TRY(list_data(&r->job->cfg, &list, err));
  char *rest = list.data;
  for (char *line; rest && *(line = strsep(&rest, "\n"));) {
    const char *file = strsep(&line, " "), *bytes = strsep(&line, " ");
    COH_TRY(coh_manifest_data(r->manifest, file, strtoull(bytes, NULL, 10), line, err));
  }
cleanup:
  coh_text_free(&list);
  return rc;
}

int run_open(job *j, const char *inputs, bool wait, run *r, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  MPI_Comm world = j->grid.world;
  *r = (run){.job = j};
  r->files.lock = -1;
  if (j->place) return open_in_pack(r, inputs, err);
  if (j->grid.rank == 0) rc = open_on_root(r, inputs, wait, err);
  COH_TRY(coh_agree(world, rc, err));
  COH_TRY(coh_bcast(world, &r->hash, sizeof r->hash, 0, err));
  COH_TRY(coh_bcast(world, r->sweep, sizeof r->sweep, 0, err));
  COH_TRY(coh_bcast(world, r->folder, sizeof r->folder, 0, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/manifest.json", r->folder));
  const char *name = run_job_name(j->cfg.experiment.job);
  COH_TRY(
      coh_manifest_create(path, world, name, &r->hash, j->command, &r->manifest, err));
  r->was_done = j->grid.rank == 0 && coh_manifest_is_done(path, &r->hash);
  if (j->grid.rank == 0) rc = note_data(r, err);
  COH_TRY(coh_agree(world, rc, err));
  if (!r->was_done) rc = coh_manifest_write(r->manifest, "running", err);
  COH_TRY(coh_agree(world, rc, err));
  r->open = true;
cleanup:
  return rc;
}

static coh_row row_of(const run *r, const char *folder, const char *status) {
  return (coh_row){.cfg = &r->job->cfg,
                   .run = r->hash,
                   .clustering = r->clustering,
                   .inputs = r->inputs,
                   .folder = folder,
                   .status = status,
                   .seconds = (double)NAN,
                   .hosts = coh_manifest_hosts(r->manifest)};
}

/* The last one counts. */
static int fill_result(const run *r, const char *folder, const coh_measures *measures,
                       double seconds, run_result *out, coh_error *err) {
  int rc;
  run_result_free(out);
  *out = (run_result){.hash = r->hash, .clustering = r->clustering, .seconds = seconds};
  COH_TRY(coh_format(out->folder, sizeof out->folder, err, "%s", folder));
  if (!(out->inputs = strdup(r->inputs)))
    COH_TRY(coh_fail(err, COH_ENOMEM, "no memory for the inputs of a run"));
  for (size_t i = 0; i < measures->n; i++)
    COH_TRY(coh_measures_add(&out->measures, measures->item[i].name,
                             measures->item[i].value, err));
  out->done = true;
cleanup:
  return rc;
}

void run_result_free(run_result *r) {
  free(r->inputs);
  free(r->error);
  coh_measures_free(&r->measures);
  *r = (run_result){0};
}

int run_put_row(run *r, const char *folder, const coh_measures *measures, double seconds,
                coh_error *err) {
  int rc = COH_OK;
  const job *j = r->job;
  if (j->place) {
    if (j->grid.rank == 0) rc = fill_result(r, folder, measures, seconds, j->result, err);
    return coh_agree(j->grid.world, rc, err);
  }
  coh_row row = row_of(r, folder, "done");
  row.measures = measures;
  row.seconds = seconds;
  if (r->job->grid.rank == 0) rc = coh_runs_put(r->sweep, 1, &row, err);
  if (r->job->grid.rank == 0 && rc == COH_OK)
    rc = coh_format(r->job->results, sizeof r->job->results, err, "%s", folder);
  return coh_agree(r->job->grid.world, rc, err);
}

int run_stage(run *r, const char *trained, const char *name, coh_error *err) {
  int rc = coh_format(r->stage, sizeof r->stage, err, "%s", name);
  if (!rc && r->manifest && r->job->grid.rank == 0) {
    bool news = coh_manifest_stage(r->manifest, trained, "done");
    if (!coh_manifest_has(r->manifest, name, "done"))
      news |= coh_manifest_stage(r->manifest, name, "running");
    if (news) rc = coh_manifest_write(r->manifest, "done", err);
  }
  return coh_agree(r->job->grid.world, rc, err);
}

/* What the run's files say of its end; the job's own error matters more than one here. */
static void tell_end(const run *r, int rc) {
  coh_error ignored;
  if (!r->open) return;
  const char *status = rc == COH_OK ? "done" : rc == COH_ESTOP ? "stopped" : "failed";
  bool staged = r->stage[0] != '\0';
  bool news = staged ? coh_manifest_stage(r->manifest, r->stage, status)
                     : rc != COH_OK || !r->was_done;
  if (r->worked || news)
    coh_manifest_write(r->manifest, staged ? "done" : status, &ignored);
  if (rc == COH_OK) return;
  coh_row row = row_of(r, r->folder, status);
  coh_runs_put(r->sweep, 1, &row, &ignored);
}

void run_close(run *r, int rc) {
  if (r->manifest && r->job->grid.rank == 0) tell_end(r, rc);
  coh_manifest_destroy(r->manifest);
  free(r->inputs);
  if (r->job && r->job->grid.rank == 0) coh_run_close(&r->files);
}
