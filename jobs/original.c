/* original.c - runs.csv of job = compress as the original program has it: its columns, in
 * its order, under its names, so that scripts made for it read ours. Uses the room
 * compress. */
#include "original.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char header[] =
    "architecture,optimization_procedure,dataset,architecture_teacher,"
    "architecture_student,dtype,dev,verbose,optimizer,lr,min_epochs,max_epochs,α,β,ρ,"
    "L1_alpha,tolerated_relative_loss_increase,NORM,layer_NORM,train_set_size,"
    "train_batch_size,val_set_size,val_batch_size,test_set_size,test_batch_size,noise,"
    "gauss_loss,random_gradient_pruning,shrinking,delete_neurons,"
    "binary_search_resolution,prune_window,shrinking_from_deviation_of,smoothing_window,"
    "finetuning_shrinking,finetuning_min_epochs,finetuning_max_epochs,"
    "finetuning_layerwise_pruning,layerwise_pruning,layerwise_pruning_alpha,"
    "layerwise_pruning_lr,layerwise_pruning_mask_start_value,log_val_loss,"
    "converge_val_loss,finetuning_converge_val_loss,logs,"
    "multiply_mask_after_each_batch,initial_p_value,initial_u_value,"
    "u_value_multiply_factor,seed,run_id,experiment_name,timestamp,run_time,"
    "final_accuracy_trainset,final_accuracy_valset,final_accuracy_testset,"
    "final_loss_trainset,final_loss_valset,final_loss_testset,final_l0_loss,"
    "final_sigma,l0_norm\n";

/* Stands for the device, which is not open yet when a run is described. */
#define DEVICE "\x1f"

/* ---- cells: each with a comma behind it
 * ------------------------------------------------
 */

static void text(coh_text *t, const char *value) {
  coh_csv_cell(t, value);
  coh_text_add(t, ",");
}

static void whole(coh_text *t, int64_t value) {
  coh_text_add(t, "%lld,", (long long)value);
}

static void real(coh_text *t, double value) {
  if (!isnan(value)) coh_text_add(t, "%.9g", value);
  coh_text_add(t, ",");
}

static void flag(coh_text *t, bool value) {
  coh_text_add(t, value ? "true," : "false,");
}

/* "dense_2_5_8_1" as "[2, 5, 8, 1]" */
static void widths(coh_text *t, const char *name) {
  coh_plan plan;
  size_t members;
  coh_error ignored;
  if (coh_plan_parse(name, COH_TANH, 0, &plan, &members, &ignored) != COH_OK) {
    text(t, name);
    return;
  }
  coh_text_add(t, "\"[%zu", plan.d_in);
  for (size_t l = 0; l < plan.L; l++) coh_text_add(t, ", %zu", plan.layer[l].out);
  coh_text_add(t, "]\",");
}

/* ---- the parameters
 * -------------------------------------------------------------------- */

static void add_network(coh_text *t, const coh_config *cfg, bool drawn) {
  static const char *const procedures[] = {"PMMP_procedure", "RL1_procedure",
                                           "DRR_procedure",  "layerwise_procedure",
                                           "FPP_procedure",  "none"};
  text(t, drawn ? "teacher_student" : cfg->model.name);
  text(t, procedures[cfg->compress.procedure]);
  text(t, cfg->dataset.name);
  widths(t, cfg->compress.architecture_teacher);
  widths(t, cfg->model.name);
  text(t, cfg->training.precision == COH_F64 ? "Float64" : "Float32");
  coh_text_add(t, DEVICE ",");
  flag(t, !cfg->experiment.quiet);
  text(t, "Adam");
  real(t, cfg->training.lr);
}

static void add_penalty(coh_text *t, const coh_config *cfg) {
  whole(t, cfg->compress.min_epochs);
  whole(t, cfg->compress.max_epochs);
  real(t, cfg->compress.alpha);
  real(t, cfg->compress.beta);
  real(t, cfg->compress.rho);
  real(t, cfg->compress.l1_alpha);
  real(t, cfg->compress.tolerated_relative_loss_increase);
  flag(t, cfg->compress.norm);
  flag(t, cfg->compress.layer_norm);
}

static void add_data(coh_text *t, const coh_config *cfg, const size_t n[3], bool gauss) {
  int64_t val = cfg->compress.val_batch_size, test = cfg->compress.test_batch_size;
  whole(t, (int64_t)n[0]);
  whole(t, cfg->training.batch_size);
  whole(t, (int64_t)n[1]);
  whole(t, val ? val : (int64_t)n[1]);
  whole(t, (int64_t)n[2]);
  whole(t, test ? test : (int64_t)n[2]);
  real(t, cfg->compress.noise);
  flag(t, gauss);
}

static void add_pruning(coh_text *t, const coh_config *cfg) {
  flag(t, cfg->compress.random_gradient_pruning);
  flag(t, cfg->compress.shrinking);
  flag(t, cfg->compress.delete_neurons);
  real(t, cfg->compress.binary_search_resolution);
  whole(t, cfg->compress.prune_window);
  real(t, cfg->compress.shrinking_from_deviation_of);
  whole(t, cfg->compress.smoothing_window);
  flag(t, cfg->compress.finetuning_shrinking);
  whole(t, cfg->compress.finetuning_min_epochs);
  whole(t, cfg->compress.finetuning_max_epochs);
  flag(t, cfg->compress.finetuning_layerwise_pruning);
  flag(t, cfg->compress.layerwise_pruning);
  real(t, cfg->compress.layerwise_pruning_alpha);
  real(t, cfg->compress.layerwise_pruning_lr);
  real(t, cfg->compress.layerwise_pruning_mask_start_value);
  flag(t, cfg->compress.log_val_loss);
  flag(t, cfg->compress.converge_val_loss);
  flag(t, cfg->compress.finetuning_converge_val_loss);
  text(t, "Dict{String, Any}()");
  flag(t, cfg->compress.multiply_mask_after_each_batch);
  real(t, cfg->compress.initial_p_value);
  real(t, cfg->compress.initial_u_value);
  real(t, cfg->compress.u_value_multiply_factor);
  whole(t, cfg->experiment.seed);
}

int original_describe(const coh_config *cfg, const size_t n[3], bool gauss, char **out,
                      coh_error *err) {
  coh_text t = {0};
  coh_hash id;
  int rc;
  add_network(&t, cfg, strcmp(cfg->dataset.name, "teacher_student") == 0);
  add_penalty(&t, cfg);
  add_data(&t, cfg, n, gauss);
  add_pruning(&t, cfg);
  COH_TRY(coh_text_check(&t, err));
  COH_TRY(coh_config_id(cfg, &id, err));
  coh_text_add(&t, "%.8s,", id.hex);
  text(&t, cfg->experiment.name);
  COH_TRY(coh_text_check(&t, err));
  *out = t.data;
  return COH_OK;
cleanup:
  coh_text_free(&t);
  return rc;
}

/* ---- the table
 * ------------------------------------------------------------------------- */

static void add_row(coh_text *t, const char *described, const char *dev,
                    const char *start, double seconds, const coh_compress_result *r) {
  const char *place = strstr(described, DEVICE);
  coh_text_add(t, "%.*s%s%s%s,", (int)(place - described), described, dev,
               place + strlen(DEVICE), start);
  real(t, seconds);
  for (int i = 0; i < 3; i++) real(t, r->accuracy[i]);
  for (int i = 0; i < 3; i++) real(t, r->loss[i]);
  real(t, NAN);
  real(t, r->sigma);
  if (!isnan(r->l0)) coh_text_add(t, "%.0f", r->l0);
  coh_text_add(t, "\n");
}

int original_write(const char *path, size_t n, char *const *described, bool gpu,
                   double seconds, const coh_compress_result *results, coh_error *err) {
  int rc;
  char start[32] = "";
  coh_text t = {0};
  struct tm tm;
  time_t began = time(NULL) - (time_t)seconds;
  if (localtime_r(&began, &tm)) strftime(start, sizeof start, "%Y-%m-%dT%H:%M:%S", &tm);
  coh_text_add(&t, "%s", header);
  for (size_t i = 0; i < n; i++)
    add_row(&t, described[i], gpu ? "gpu_device" : "cpu_device", start,
            seconds / (double)n, results + i);
  COH_TRY(coh_text_check(&t, err));
  COH_TRY(coh_file_write(path, t.data, t.len, err));
cleanup:
  coh_text_free(&t);
  return rc;
}
