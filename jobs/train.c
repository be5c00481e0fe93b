/* train.c - job = train: networks on a labelled data set. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

/* What a training needs besides its run. */
typedef struct training {
  coh_device *dev;
  coh_dataset train, test;
  coh_plan plan;
  size_t N;
  coh_train_spec spec;
} training;

static void training_free(training *t) {
  coh_dataset_free(&t->train);
  coh_dataset_free(&t->test);
  coh_device_close(t->dev);
}

static int load_data(const job *j, training *t, coh_error *err) {
  int rc;
  const coh_config *cfg = &j->cfg;
  coh_dtype dtype = job_precision(cfg);
  char root[COH_PATH] = "";
  if (cfg->dataset.root[0])
    COH_TRY(coh_config_path(cfg, cfg->dataset.root, root, sizeof root, err));
  COH_TRY(coh_dataset_load(cfg->dataset.name, root, true, dtype, &t->train, err));
  COH_TRY(coh_dataset_load(cfg->dataset.name, root, false, dtype, &t->test, err));
  COH_TRY(coh_dataset_edit(&t->train, cfg->dataset.transformation_seed,
                           cfg->dataset.random_labels_fraction,
                           cfg->dataset.subsample_fraction, err));
cleanup:
  return rc;
}

static int prepare(const job *j, training *t, coh_error *err) {
  int rc;
  const coh_config *cfg = &j->cfg;
  coh_dtype dtype = job_precision(cfg);
  size_t members;
  COH_TRY(coh_device_open((coh_device_kind)cfg->device.kind, dtype, &t->dev, err));
  COH_TRY(load_data(j, t, err));
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
  t->N = members > 0 ? members : (size_t)cfg->experiment.members;
  if (t->plan.d_in != t->train.d_in) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: model.name = %s takes %zu inputs, but dataset.name = %s has %zu",
                  cfg->file, cfg->model.name, t->plan.d_in, cfg->dataset.name,
                  t->train.d_in);
    goto cleanup;
  }
  COH_TRY(coh_train_spec_of(cfg, &t->train, &t->spec, err));
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

static int measure_set(coh_trainer *trainer, const training *t, const char *set,
                       const coh_dataset *d, coh_measures *m, coh_error *err) {
  int rc;
  char name[64];
  double *loss = NULL, *accuracy = NULL;
  COH_TRY(coh_alloc(&loss, t->N, sizeof *loss, err));
  COH_TRY(coh_alloc(&accuracy, t->N, sizeof *accuracy, err));
  COH_TRY(coh_trainer_evaluate(trainer, d, loss, accuracy, err));
  COH_TRY(coh_format(name, sizeof name, err, "%s_loss", set));
  COH_TRY(add_values(m, name, t->N, loss, err));
  COH_TRY(coh_format(name, sizeof name, err, "%s_accuracy", set));
  COH_TRY(add_values(m, name, t->N, accuracy, err));
cleanup:
  free(loss);
  free(accuracy);
  return rc;
}

static void print_measures(const job *j, const char *title, const coh_measures *m,
                           const char *folder) {
  if (j->grid.rank != 0 || j->cfg.experiment.quiet) return;
  printf("%s:", title);
  for (size_t i = 0; i < m->n; i++)
    printf("%s %s %.4g", i ? "," : "", m->item[i].name, m->item[i].value);
  printf("\n%s: files in %s\n", title, folder);
  fflush(stdout);
}

static int finish(run *r, const char *title, const training *t, coh_trainer *trainer,
                  coh_error *err) {
  int rc;
  coh_measures m = {0};
  COH_TRY(measure_set(trainer, t, "train", &t->train, &m, err));
  COH_TRY(measure_set(trainer, t, "test", &t->test, &m, err));
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
  coh_trainer *trainer = NULL;
  COH_TRY(coh_agree(j->grid.world, prepare(j, &t, err), err));
  COH_TRY(run_open(j, "", wait, &r, err));
  COH_TRY(coh_format(model, COH_PATH, err, "%s/model.h5", r.folder));
  stage s = {.title = title,
             .folder = r.folder,
             .model = "model.h5",
             .checkpoint = "checkpoint.h5",
             .metrics = "metrics.csv",
             .identity = r.hash.hex,
             .plan = t.plan,
             .N = t.N,
             .train = &t.train,
             .test = &t.test,
             .spec = t.spec,
             .lr = "training.lr",
             .further = j->cfg.training.further_training[0] != '\0',
             .finish = job_finish(&j->cfg, j->cfg.training.finish),
             .finish_steps = (uint64_t)j->cfg.training.finish_steps};
  COH_TRY(stage_train(j, t.dev, &s, &trainer, err));
  COH_TRY(finish(&r, title, &t, trainer, err));
cleanup:
  coh_trainer_destroy(trainer);
  run_close(&r, rc);
  training_free(&t);
  return rc;
}

int job_train(job *j, coh_error *err) {
  char model[COH_PATH];
  return run_train_job(j, "training", false, model, err);
}
