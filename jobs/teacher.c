/* teacher.c - the teacher of an extraction (a train job's network, a weights file, or
 * nothing but pairs on file) and its answers to the query set. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "run.h"
#include "teacher.h"

/* Member id of a drawn teacher: never a student's, so that no student starts as it. */
enum { TEACHER_ID = 1 << 20 };

/* ---- where it comes from
 * --------------------------------------------------------------------- */

/* The teacher's own configuration: its results go to the same root as the extraction's.
 */
static int teacher_config(const job *j, coh_config *cfg, coh_error *err) {
  int rc;
  char path[COH_PATH];
  COH_TRY(coh_config_path(&j->cfg, j->cfg.teacher.config, path, sizeof path, err));
  rc = coh_config_load(cfg, path, j->n_set, j->set, err);
  if (rc == COH_EIO)
    coh_explain(err,
                "%s: teacher.config = %s (a path relative to the folder of this file)",
                j->cfg.file, j->cfg.teacher.config);
  COH_TRY(rc);
  if (cfg->experiment.job != COH_JOB_TRAIN) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: teacher.config = %s: the teacher must be job = train", j->cfg.file,
                  j->cfg.teacher.config);
    goto cleanup;
  }
  memcpy(cfg->experiment.results, j->cfg.experiment.results,
         sizeof cfg->experiment.results);
  cfg->experiment.quiet = j->cfg.experiment.quiet;
  cfg->device.kind = j->cfg.device.kind;
cleanup:
  return rc;
}

/* Rank 0 reads, all get it. */
static int share_teacher_config(const job *j, coh_config *cfg, coh_error *err) {
  int rc = COH_OK;
  if (j->grid.rank == 0) rc = teacher_config(j, cfg, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(coh_bcast(j->grid.world, cfg, sizeof *cfg, 0, err));
cleanup:
  return rc;
}

/* A folder means the model.h5 in it. */
static int weights_path(const job *j, char *path, coh_error *err) {
  int rc;
  struct stat st;
  COH_TRY(coh_config_path(&j->cfg, j->cfg.teacher.weights, path, COH_PATH, err));
  if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
    char folder[COH_PATH];
    memcpy(folder, path, sizeof folder);
    COH_TRY(coh_format(path, COH_PATH, err, "%s/model.h5", folder));
  }
cleanup:
  return rc;
}

/* One member of a model file as float64. */
static int load(const job *j, const char *path, teacher *out, coh_error *err) {
  int rc;
  size_t N, member = (size_t)j->cfg.teacher.member;
  void *all = NULL;
  COH_TRY(coh_model_load(path, j->grid.world, COH_F64, &out->plan, &N, &all, err));
  if (member >= N) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: teacher.member = %zu, but %s holds %zu network%s (0 to %zu)",
                  j->cfg.file, member, path, N, N == 1 ? "" : "s", N - 1);
    goto cleanup;
  }
  COH_TRY(coh_alloc(&out->params, out->plan.P, sizeof(double), err));
  memcpy(out->params, (double *)all + member * out->plan.P, out->plan.P * sizeof(double));
  out->known = true;
cleanup:
  free(all);
  return rc;
}

static int check_finite(const char *path, const teacher *t, coh_error *err) {
  for (size_t i = 0; i < t->plan.P; i++)
    if (!isfinite(t->params[i]))
      return coh_fail(err, COH_EDATA, "%s: parameter %zu of the teacher is %g", path, i,
                      t->params[i]);
  return COH_OK;
}

/* From now on the teacher's configuration is the run.ini beside its model, overrides
 * included, so that this run's own run.ini runs as it is. */
static int name_resolved(job *j, const char *model, coh_error *err) {
  char folder[COH_PATH];
  if (!realpath(model, folder)) return coh_fail_errno(err, "%s", model);
  size_t n = (size_t)(strrchr(folder, '/') - folder);
  return coh_format(j->cfg.teacher.config, sizeof j->cfg.teacher.config, err,
                    "%.*s/run.ini", (int)n, folder);
}

/* Trains the teacher (or finds it trained) as `cohort run` on its own file would. */
static int train_teacher(job *j, char *path, coh_error *err) {
  int rc;
  job *own = NULL;
  COH_TRY(coh_alloc(&own, 1, sizeof *own, err));
  *own = *j;
  own->place = NULL; /* a run of its own, whoever needs it */
  own->part_n = 0;
  own->result = NULL;
  COH_TRY(share_teacher_config(j, &own->cfg, err));
  COH_TRY(run_train_job(own, "teacher", true, path, err));
  COH_TRY(name_resolved(j, path, err));
cleanup:
  free(own);
  return rc;
}

/* A network that nobody trained, for synthetic tasks. */
static int draw_teacher(const job *j, teacher *out, coh_error *err) {
  int rc;
  size_t members;
  const coh_config *cfg = &j->cfg;
  rc = coh_plan_parse(cfg->teacher.model, (coh_act)cfg->model.activation, 0, &out->plan,
                      &members, err);
  if (rc) return coh_explain(err, "%s: teacher.model", cfg->file);
  if (members > 0)
    return coh_fail(err, COH_EUSAGE,
                    "%s: teacher.model = %s names several networks; a teacher is one, as "
                    "dense_10_4_1",
                    cfg->file, cfg->teacher.model);
  COH_TRY(coh_alloc(&out->params, out->plan.P, sizeof(double), err));
  COH_TRY(coh_plan_init(&out->plan, (uint64_t)cfg->teacher.seed, TEACHER_ID,
                        COH_KAIMING_NORMAL, COH_BIAS_UNIFORM, COH_FAN_STUDENT, 1, COH_F64,
                        out->params, err));
  out->known = true;
cleanup:
  return rc;
}

int teacher_get(job *j, teacher *out, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  *out = (teacher){0};
  if (j->cfg.teacher.model[0])
    return coh_agree(j->grid.world, draw_teacher(j, out, err), err);
  if (j->cfg.teacher.config[0])
    COH_TRY(train_teacher(j, path, err));
  else if (j->cfg.teacher.weights[0])
    COH_TRY(weights_path(j, path, err));
  else
    return COH_OK;
  rc = load(j, path, out, err);
  if (!rc) rc = check_finite(path, out, err);
  if (rc && j->cfg.teacher.weights[0])
    coh_explain(err, "%s: teacher.weights = %s", j->cfg.file, j->cfg.teacher.weights);
cleanup:
  return rc;
}

void teacher_free(teacher *t) {
  free(t->params);
  *t = (teacher){0};
}

/* ---- what names it in a run hash
 * ---------------------------------------------------------------- */

static int hash_line(coh_text *t, const char *what, const char *path, coh_error *err) {
  coh_hash h;
  int rc = coh_hash_file(path, &h, err);
  if (!rc) coh_text_add(t, "%s=%s\n", what, h.hex);
  return rc;
}

int teacher_identity(const job *j, coh_text *out, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_config *cfg = NULL;
  if (j->cfg.teacher.config[0]) {
    coh_hash h;
    COH_TRY(coh_alloc(&cfg, 1, sizeof *cfg, err));
    COH_TRY(teacher_config(j, cfg, err));
    COH_TRY(coh_config_hash(cfg, COH_SCOPE_RUN, "", &h, err));
    coh_text_add(out, "teacher.run=%s\nteacher.seed=%lld\n", h.hex,
                 (long long)cfg->experiment.seed);
  } else if (j->cfg.teacher.weights[0]) {
    COH_TRY(weights_path(j, path, err));
    COH_TRY(hash_line(out, "teacher.weights", path, err));
  }
  if (j->cfg.query.file[0]) {
    COH_TRY(coh_config_path(&j->cfg, j->cfg.query.file, path, sizeof path, err));
    COH_TRY(hash_line(out, "query.file", path, err));
  }
  COH_TRY(coh_text_check(out, err));
cleanup:
  free(cfg);
  return rc;
}

/* ---- its answers
 * ------------------------------------------------------------------------------------ */

static int check_inputs(const job *j, const teacher *t, const coh_dataset *q,
                        coh_error *err) {
  if (!t->known && !q->y)
    return coh_fail(err, COH_EUSAGE,
                    "%s: query.file has no Y and there is no teacher to ask: give Y, or "
                    "teacher.config, or teacher.weights",
                    j->cfg.file);
  if (t->known && q->d_in != t->plan.d_in)
    return coh_fail(
        err, COH_EUSAGE,
        "%s: query.datagen = %s gives %zu inputs a sample, but the teacher takes "
        "%zu",
        j->cfg.file, j->cfg.query.datagen, q->d_in, t->plan.d_in);
  if (t->known && q->y && q->n_out != t->plan.n_out)
    return coh_fail(
        err, COH_EUSAGE,
        "%s: Y of query.file has %zu columns, but the teacher has %zu outputs",
        j->cfg.file, q->n_out, t->plan.n_out);
  return COH_OK;
}

/* Y = teacher(X). */
static int ask(const teacher *t, coh_device *dev, coh_dataset *q, coh_error *err) {
  int rc;
  void *params = NULL;
  COH_TRY(coh_alloc(&params, t->plan.P, coh_dtype_size(q->dtype), err));
  for (size_t i = 0; i < t->plan.P; i++) coh_put(q->dtype, params, i, t->params[i]);
  q->n_out = t->plan.n_out;
  COH_TRY(coh_alloc(&q->y, q->n * q->n_out, coh_dtype_size(q->dtype), err));
  COH_TRY(coh_network_apply(&t->plan, dev, params, t->plan.L - 1, q->n, q->x, q->y, err));
cleanup:
  free(params);
  return rc;
}

int teacher_query(const job *j, const teacher *t, coh_device *dev, coh_dataset *out,
                  coh_error *err) {
  int rc;
  rc = coh_query_load(&j->cfg, t->known ? t->plan.d_in : 0, dev->dtype, out, err);
  if (rc) coh_explain(err, "%s: query.datagen = %s", j->cfg.file, j->cfg.query.datagen);
  COH_TRY(rc);
  free(out->labels);
  out->labels = NULL;
  COH_TRY(check_inputs(j, t, out, err));
  if (!out->y) COH_TRY(ask(t, dev, out, err));
cleanup:
  return coh_agree(j->grid.world, rc, err);
}
