/* compress.c - job = compress: data, method, results and files of its own. How a training
 * is run, resumed and put into tables stands in train.c, stage.c and pack_run.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "original.h"
#include "run.h"
#include "training.h"

enum { IMAGE_TRAIN = 45000, DRAWN_TRAIN = 300 };

static bool is_drawn(const coh_config *cfg) {
  return strcmp(cfg->dataset.name, "teacher_student") == 0;
}

size_t compress_samples(const coh_config *cfg) {
  if (cfg->compress.train_set_size > 0) return (size_t)cfg->compress.train_set_size;
  return is_drawn(cfg) ? DRAWN_TRAIN : IMAGE_TRAIN;
}

/* ---- data ----------------------------------------------------------------------------
 */

static int load_sets(const coh_config *cfg, coh_dtype dtype, coh_dataset *all,
                     coh_dataset *test, coh_error *err) {
  int rc;
  char root[COH_PATH] = "", path[COH_PATH];
  if (strcmp(cfg->dataset.name, "file") == 0) {
    COH_TRY(coh_config_path(cfg, cfg->dataset.file, path, sizeof path, err));
    rc = coh_pairs_load(path, dtype, all, test, err);
    if (rc) coh_explain(err, "dataset.file = %s", cfg->dataset.file);
    goto cleanup;
  }
  if (cfg->dataset.root[0])
    COH_TRY(coh_config_path(cfg, cfg->dataset.root, root, sizeof root, err));
  COH_TRY(coh_dataset_load_unit(cfg->dataset.name, root, true, dtype, all, err));
  COH_TRY(coh_dataset_load_unit(cfg->dataset.name, root, false, dtype, test, err));
cleanup:
  return rc;
}

int compress_load(const job *j, coh_dtype dtype, training *t, coh_error *err) {
  int rc;
  const coh_config *cfg = &j->cfg;
  coh_compress_data data = {0};
  coh_dataset all = {0};
  coh_plan teacher;
  if (is_drawn(cfg)) {
    COH_TRY(coh_teacher_student(cfg, dtype, &data, &teacher, NULL, err));
  } else {
    COH_TRY(load_sets(cfg, dtype, &all, &data.test, err));
    COH_TRY(coh_compress_split(cfg, &all, &data, err));
  }
  t->train = data.train;
  t->val = data.val;
  t->test = data.test;
  data = (coh_compress_data){0};
cleanup:
  coh_dataset_free(&all);
  coh_compress_data_free(&data);
  return rc;
}

/* ---- runs ----------------------------------------------------------------------------
 */

/* All runs of a pack have room up to the latest end. */
static void share_end(training *t) {
  uint64_t end = 0;
  for (size_t i = 0; i < t->n_run; i++)
    if (t->run[i].spec.end > end) end = t->run[i].spec.end;
  for (size_t i = 0; i < t->n_run; i++) t->run[i].spec.end = end;
}

/* Room for one run more. */
static int grow(training *t, coh_error *err) {
  if (t->n_run < t->room) return COH_OK;
  size_t room = t->room ? 2 * t->room : 1;
  coh_train_run *runs = realloc(t->run, room * sizeof *runs);
  if (runs) t->run = runs;
  coh_compress_spec *specs = realloc(t->spec, room * sizeof *specs);
  if (specs) t->spec = specs;
  char **described = realloc(t->described, room * sizeof *described);
  if (described) t->described = described;
  if (!runs || !specs || !described)
    return coh_fail(err, COH_ENOMEM, "no memory for %zu runs", room);
  t->room = room;
  return COH_OK;
}

int compress_add(training *t, const coh_config *cfg, coh_error *err) {
  int rc;
  const size_t n[3] = {t->train.n, t->val.n, t->test.n};
  if (t->members != 1)
    return coh_fail(err, COH_EUSAGE,
                    "%s: model.name = %s: a run of job = compress is one network; make "
                    "seeds or other parameters an axis of [sweep]",
                    cfg->file, cfg->model.name);
  COH_TRY(grow(t, err));
  COH_TRY(coh_compress_run_of(cfg, &t->train, t->run + t->n_run, err));
  coh_compress_spec *spec = t->spec + t->n_run;
  COH_TRY(coh_compress_spec_of(cfg, &t->train, spec, err));
  COH_TRY(original_describe(cfg, n, spec->gauss, t->described + t->n_run, err));
  t->n_run++;
  share_end(t);
cleanup:
  return rc;
}

int compress_begin(const job *j, training *t, coh_error *err) {
  int rc;
  const coh_compress_data data = {t->train, t->val, t->test};
  uint64_t length = coh_epoch_length(t->train.n, t->run->spec.batch);
  uint64_t every = coh_steps_value(j->cfg.training.evaluate_every, length) / length;
  COH_TRY(coh_compress_create(&j->grid, t->dev, &t->plan, t->n_run, t->spec, &data, every,
                              &t->compress, err));
cleanup:
  return rc;
}

/* ---- measures ------------------------------------------------------------------------
 */

typedef struct measure {
  const char *name;
  double value;
} measure;

/* The original's columns in their order, then ours. NaN: the run has no such number. */
static int put_measures(const coh_compress_result *r, double alpha, coh_measures *out,
                        coh_error *err) {
  const measure all[] = {
      {"final_accuracy_trainset", r->accuracy[0]},
      {"final_accuracy_valset", r->accuracy[1]},
      {"final_accuracy_testset", r->accuracy[2]},
      {"final_loss_trainset", r->loss[0]},
      {"final_loss_valset", r->loss[1]},
      {"final_loss_testset", r->loss[2]},
      {"final_l0_loss", alpha * r->l0},
      {"final_sigma", r->sigma},
      {"l0_norm", r->l0},
      {"parameters", r->parameters},
      {"compression_rate", r->parameters / r->l0},
      {"l0_pruned", r->l0_pruned},
      {"threshold", r->threshold},
      {"tamade_steps", r->tamade_steps},
      {"accuracy_before_valset", r->accuracy_before[1]},
      {"accuracy_before_testset", r->accuracy_before[2]},
      {"loss_before_trainset", r->loss_before[0]},
      {"loss_before_valset", r->loss_before[1]},
      {"loss_before_testset", r->loss_before[2]},
      {"loss_pruned_trainset", r->loss_pruned[0]},
      {"loss_pruned_valset", r->loss_pruned[1]},
      {"loss_pruned_testset", r->loss_pruned[2]},
      {"epochs", r->epochs[0]},
      {"converged", r->converged[0]},
      {"finetuning_epochs", r->epochs[1]},
      {"finetuning_converged", r->converged[1]},
      {"gate_violations", r->violations},
      {"neurons_deleted", r->neurons_deleted},
      {"bits_mask", r->bits_mask},
      {"bits_values", r->bits_values},
      {"bits_data", r->bits_data},
      {"description_length", r->bits_mask + r->bits_values + r->bits_data},
  };
  int rc = COH_OK;
  for (size_t i = 0; i < sizeof all / sizeof *all && !rc; i++)
    if (!isnan(all[i].value)) rc = coh_measures_add(out, all[i].name, all[i].value, err);
  return rc;
}

int compress_measure(coh_trainer *trainer, const training *t, coh_measures *out,
                     coh_error *err) {
  int rc = COH_OK;
  (void)trainer;
  for (size_t i = 0; i < t->n_run && !rc; i++)
    rc = put_measures(t->result + i, t->spec[i].alpha, out + i, err);
  return rc;
}

/* ---- files ---------------------------------------------------------------------------
 */

/* Networks of this rank's block without their dead neurons: narrow/<member>.h5. */
static int save_narrow(const training *t, const char *folder, const void *params,
                       const void *masks, size_t first, size_t count, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_dtype dtype = t->dev->dtype;
  size_t P = t->plan.P;
  double *p = NULL, *mask = NULL, *narrow = NULL;
  void *rounded = NULL;
  COH_TRY(coh_alloc(&p, P, sizeof *p, err));
  COH_TRY(coh_alloc(&mask, P, sizeof *mask, err));
  COH_TRY(coh_alloc(&rounded, P, coh_dtype_size(dtype), err));
  for (size_t n = 0; n < count; n++) {
    coh_plan plan;
    coh_error dead;
    if (!t->spec[first + n].delete_neurons) continue;
    for (size_t i = 0; i < P; i++) {
      p[i] = coh_get(dtype, params, n * P + i);
      mask[i] = coh_get(dtype, masks, n * P + i);
    }
    rc = coh_narrow(&t->plan, p, mask, &plan, &narrow, &dead);
    if (rc == COH_EDATA) continue; /* a layer without neurons is no network */
    if (rc) COH_TRY(coh_fail(err, rc, "%s", dead.text));
    for (size_t i = 0; i < plan.P; i++) coh_put(dtype, rounded, i, narrow[i]);
    free(narrow);
    narrow = NULL;
    COH_TRY(coh_format(path, sizeof path, err, "%s/narrow", folder));
    mkdir(path, 0777); /* where it fails, so does what is written into it */
    COH_TRY(coh_format(path, sizeof path, err, "%s/narrow/%zu.h5", folder, first + n));
    COH_TRY(coh_model_save(path, MPI_COMM_SELF, &plan, dtype, 1, 0, 1, rounded, err));
  }
  rc = COH_OK;
cleanup:
  free(p);
  free(mask);
  free(rounded);
  free(narrow);
  return rc;
}

int compress_save(const job *j, training *t, coh_trainer *trainer, const char *folder,
                  coh_error *err) {
  int rc;
  char path[COH_PATH];
  size_t first, count, size = coh_dtype_size(t->dev->dtype);
  void *params = NULL, *masks = NULL;
  coh_trainer_block(trainer, &first, &count);
  COH_TRY(coh_format(path, sizeof path, err, "%s/masks.h5", folder));
  rc = coh_alloc(&params, count * t->plan.P, size, err);
  if (!rc) rc = coh_alloc(&masks, count * t->plan.P, size, err);
  if (!rc) rc = coh_trainer_get(trainer, params, err);
  if (!rc) rc = coh_compress_masks(t->compress, masks, err);
  if (!rc) rc = save_narrow(t, folder, params, masks, first, count, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(coh_model_save(path, j->grid.world, &t->plan, t->dev->dtype, t->n_run, first,
                         count, masks, err));
  coh_train_status status;
  coh_trainer_status(trainer, &status);
  COH_TRY(coh_alloc(&t->result, t->n_run, sizeof *t->result, err));
  COH_TRY(coh_compress_results(t->compress, trainer, t->result, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/original.csv", folder));
  if (j->grid.rank == 0)
    rc = original_write(path, t->n_run, t->described, coh_device_stream(t->dev) != NULL,
                        status.total_seconds, t->result, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
cleanup:
  free(params);
  free(masks);
  return rc;
}
