/* train.c - job = train: networks on a labelled data set, of one run or of the runs of a
 * pack. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "training.h"

void training_free(training *t) {
  coh_dataset_free(&t->train);
  coh_dataset_free(&t->test);
  coh_dataset_free(&t->val);
  coh_compress_destroy(t->compress);
  coh_device_close(t->dev);
  free(t->run);
  free(t->spec);
  for (size_t i = 0; t->described && i < t->n_run; i++) free(t->described[i]);
  free(t->described);
  free(t->result);
}

static bool compresses(const coh_config *cfg) {
  return cfg->experiment.job == COH_JOB_COMPRESS;
}

static bool is_file(const coh_config *cfg) {
  return strcmp(cfg->dataset.name, "file") == 0;
}

static int explain_file(const coh_config *cfg, coh_error *err) {
  return coh_explain(err, "dataset.file = %s", cfg->dataset.file);
}

int training_inputs(const coh_config *cfg, coh_text *out, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_hash h;
  if (!is_file(cfg)) return COH_OK;
  COH_TRY(coh_config_path(cfg, cfg->dataset.file, path, sizeof path, err));
  rc = coh_hash_file(path, &h, err);
  COH_TRY(rc ? explain_file(cfg, err) : COH_OK);
  coh_text_add(out, "dataset.file=%s\n", h.hex);
  COH_TRY(coh_text_check(out, err));
cleanup:
  return rc;
}

static int load_images(const coh_config *cfg, coh_dtype dtype, training *t,
                       coh_error *err) {
  int rc;
  char root[COH_PATH] = "";
  if (cfg->dataset.root[0])
    COH_TRY(coh_config_path(cfg, cfg->dataset.root, root, sizeof root, err));
  COH_TRY(coh_dataset_load(cfg->dataset.name, root, true, dtype, &t->train, err));
  COH_TRY(coh_dataset_load(cfg->dataset.name, root, false, dtype, &t->test, err));
cleanup:
  return rc;
}

int training_load(const job *j, training *t, coh_error *err) {
  int rc;
  const coh_config *cfg = &j->cfg;
  coh_dtype dtype = job_precision(cfg);
  char path[COH_PATH];
  if (compresses(cfg)) return compress_load(j, dtype, t, err);
  COH_TRY(coh_config_path(cfg, cfg->dataset.file, path, sizeof path, err));
  rc = is_file(cfg) ? coh_pairs_load(path, dtype, &t->train, &t->test, err)
                    : load_images(cfg, dtype, t, err);
  COH_TRY(rc && is_file(cfg) ? explain_file(cfg, err) : rc);
  COH_TRY(coh_dataset_edit(&t->train, cfg->dataset.transformation_seed,
                           cfg->dataset.random_labels_fraction,
                           cfg->dataset.subsample_fraction, err));
cleanup:
  return rc;
}

int training_plan(const job *j, training *t, coh_error *err) {
  int rc;
  const coh_config *cfg = &j->cfg;
  size_t members;
  rc = coh_plan_parse(cfg->model.name, (coh_act)cfg->model.activation, t->train.n_out,
                      &t->plan, &members, err);
  if (rc) {
    coh_explain(err, "%s", cfg->file);
    goto cleanup;
  }
  if (members > 0 && cfg->experiment.members != 1) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: model.name = %s already says how many networks; leave out "
                  "experiment.members",
                  cfg->file, cfg->model.name);
    goto cleanup;
  }
  t->members = members > 0 ? members : (size_t)cfg->experiment.members;
  if (t->plan.d_in != t->train.d_in) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: model.name = %s takes %zu inputs, but dataset.name = %s has %zu",
                  cfg->file, cfg->model.name, t->plan.d_in, cfg->dataset.name,
                  t->train.d_in);
    goto cleanup;
  }
cleanup:
  return rc;
}

int training_add(training *t, const coh_config *cfg, coh_error *err) {
  if (compresses(cfg)) return compress_add(t, cfg, err);
  coh_train_run one = {.members = t->members};
  int rc = coh_train_spec_of(cfg, &t->train, &one.spec, err);
  if (rc) return rc;
  coh_train_start_of(cfg, 0, &one.start);
  if (t->n_run == t->room) {
    size_t room = t->room ? 2 * t->room : 1;
    coh_train_run *more = realloc(t->run, room * sizeof *more);
    if (!more) return coh_fail(err, COH_ENOMEM, "no memory for %zu runs", room);
    t->run = more;
    t->room = room;
  }
  t->run[t->n_run++] = one;
  return COH_OK;
}

int training_train(const job *j, training *t, const char *title, const char *folder,
                   const char *identity, coh_trainer **out, coh_error *err) {
  int rc = COH_OK;
  *out = NULL;
  if (compresses(&j->cfg)) COH_TRY(compress_begin(j, t, err));
  stage s = {.title = title,
             .folder = folder,
             .model = "model.h5",
             .checkpoint = "checkpoint.h5",
             .metrics = "metrics.csv",
             .identity = identity,
             .plan = t->plan,
             .N = t->n_run * t->members,
             .train = &t->train,
             .test = t->test.n ? &t->test : NULL,
             .n_run = t->n_run,
             .run = t->run,
             .lr = "training.lr",
             .further = j->cfg.training.further_training[0] != '\0',
             .finish = job_finish(&j->cfg, j->cfg.training.finish),
             .finish_steps = (uint64_t)j->cfg.training.finish_steps};
  if (t->compress) s.method = coh_compress_method(t->compress);
  COH_TRY(stage_train(j, t->dev, &s, out, err));
  if (t->compress) COH_TRY(compress_save(j, t, *out, folder, err));
cleanup:
  return rc;
}

/* ---- results
 * ---------------------------------------------------------------------------- */

/* The best value, or best, mean and worst of several networks. */
static int add_values(coh_measures *m, const char *name, size_t N, const double *v,
                      coh_error *err) {
  int rc;
  char text[64];
  double least = INFINITY, most = -INFINITY, sum = 0;
  for (size_t n = 0; n < N; n++) {
    least = fmin(least, v[n]);
    most = fmax(most, v[n]);
    sum += v[n];
  }
  if (N == 1) return coh_measures_add(m, name, v[0], err);
  COH_TRY(coh_format(text, sizeof text, err, "%s_min", name));
  COH_TRY(coh_measures_add(m, text, least, err));
  COH_TRY(coh_format(text, sizeof text, err, "%s_mean", name));
  COH_TRY(coh_measures_add(m, text, sum / (double)N, err));
  COH_TRY(coh_format(text, sizeof text, err, "%s_max", name));
  COH_TRY(coh_measures_add(m, text, most, err));
cleanup:
  return rc;
}

/* Measures of every run on one set: out [n_run]. */
static int measure_set(coh_trainer *trainer, const training *t, const char *set,
                       const coh_dataset *d, coh_measures *out, coh_error *err) {
  int rc;
  size_t N = t->n_run * t->members;
  char loss_name[64], accuracy_name[64];
  double *loss = NULL, *accuracy = NULL;
  COH_TRY(coh_alloc(&loss, N, sizeof *loss, err));
  COH_TRY(coh_alloc(&accuracy, N, sizeof *accuracy, err));
  COH_TRY(coh_trainer_evaluate(trainer, d, loss, accuracy, err));
  COH_TRY(coh_format(loss_name, sizeof loss_name, err, "%s_loss", set));
  COH_TRY(coh_format(accuracy_name, sizeof accuracy_name, err, "%s_accuracy", set));
  for (size_t r = 0; r < t->n_run; r++) {
    size_t first = r * t->members;
    COH_TRY(add_values(out + r, loss_name, t->members, loss + first, err));
    if (d->labels)
      COH_TRY(add_values(out + r, accuracy_name, t->members, accuracy + first, err));
  }
cleanup:
  free(loss);
  free(accuracy);
  return rc;
}

int training_measure(coh_trainer *trainer, const training *t, coh_measures *out,
                     coh_error *err) {
  int rc;
  if (t->compress) return compress_measure(trainer, t, out, err);
  COH_TRY(measure_set(trainer, t, "train", &t->train, out, err));
  if (t->test.n) COH_TRY(measure_set(trainer, t, "test", &t->test, out, err));
cleanup:
  return rc;
}

/* Of the many that job = compress has. */
static bool is_shown(const job *j, const char *name) {
  static const char *const few[] = {"final_accuracy_testset", "final_loss_trainset",
                                    "final_loss_testset",     "l0_norm",
                                    "compression_rate",       "description_length"};
  for (size_t i = 0; i < sizeof few / sizeof *few; i++)
    if (strcmp(name, few[i]) == 0) return true;
  return !compresses(&j->cfg);
}

static void print_measures(const job *j, const char *title, const coh_measures *m,
                           const char *folder) {
  if (j->grid.rank != 0 || j->cfg.experiment.quiet || j->batch) return;
  printf("%s:", title);
  for (size_t i = 0, told = 0; i < m->n; i++)
    if (is_shown(j, m->item[i].name))
      printf("%s %s %.4g", told++ ? "," : "", m->item[i].name, m->item[i].value);
  printf("\n%s: files in %s\n", title, folder);
  fflush(stdout);
}

static int finish(run *r, const char *title, const training *t, coh_trainer *trainer,
                  coh_error *err) {
  int rc;
  coh_measures m = {0};
  COH_TRY(training_measure(trainer, t, &m, err));
  coh_train_status status;
  coh_trainer_status(trainer, &status);
  r->worked = status.steps > 0;
  COH_TRY(run_put_row(r, r->folder, &m, status.total_seconds, err));
  print_measures(r->job, title, &m, r->folder);
cleanup:
  coh_measures_free(&m);
  return rc;
}

int run_train_job(job *j, const char *title, bool wait, char model[COH_PATH],
                  coh_error *err) {
  int rc;
  run r = {0};
  training t = {0};
  coh_text inputs = {0};
  coh_trainer *trainer = NULL;
  rc = training_inputs(&j->cfg, &inputs, err);
  if (!rc) rc = training_load(j, &t, err);
  if (!rc) rc = training_plan(j, &t, err);
  if (!rc) rc = training_add(&t, &j->cfg, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(job_device(j, job_precision(&j->cfg), &t.dev, err));
  COH_TRY(run_open(j, inputs.data ? inputs.data : "", wait, &r, err));
  COH_TRY(coh_format(model, COH_PATH, err, "%s/model.h5", r.folder));
  COH_TRY(training_train(j, &t, title, r.folder, r.hash.hex, &trainer, err));
  COH_TRY(finish(&r, title, &t, trainer, err));
cleanup:
  coh_trainer_destroy(trainer);
  run_close(&r, rc);
  training_free(&t);
  coh_text_free(&inputs);
  return rc;
}

int job_compress(job *j, coh_error *err) {
  char model[COH_PATH];
  return run_train_job(j, "compression", false, model, err);
}

int job_train(job *j, coh_error *err) {
  char model[COH_PATH];
  return run_train_job(j, "training", false, model, err);
}
