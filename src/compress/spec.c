/* spec.c - from the configuration to what a member is trained by. */
#include <string.h>

#include "compress/private.h"

enum { DRAWN_SEED = 43, DATA_SEED = 42 };

static bool is_drawn(const coh_config *cfg) {
  return strcmp(cfg->dataset.name, "teacher_student") == 0;
}

static int choose_gauss(const coh_config *cfg, const coh_dataset *train, bool *gauss,
                        coh_error *err) {
  int wish = cfg->compress.gauss_loss;
  *gauss = wish == COH_GAUSS_TRUE || (wish == COH_GAUSS_AUTO && is_drawn(cfg));
  if (!*gauss || train->y) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "%s: compress.gauss_loss = true needs real targets, but this data has "
                  "labels",
                  cfg->file);
}

int coh_compress_spec_of(const coh_config *cfg, const coh_dataset *train,
                         coh_compress_spec *s, coh_error *err) {
  bool layers =
      cfg->compress.layerwise_pruning || cfg->compress.procedure == COH_LAYERWISE;
  bool prunes = cfg->compress.procedure != COH_NO_PROCEDURE;
  double scale = cfg->compress.scale_alpha ? 1 / (double)train->n : 1;
  *s = (coh_compress_spec){
      .procedure = (coh_procedure)cfg->compress.procedure,
      .seed = (uint64_t)cfg->experiment.seed,
      .lr = cfg->training.lr,
      .alpha = cfg->compress.alpha * scale,
      .beta = cfg->compress.beta,
      .rho = cfg->compress.rho * scale,
      .l1 = cfg->compress.l1_alpha * scale,
      .p0 = cfg->compress.initial_p_value,
      .u0 = cfg->compress.initial_u_value,
      .mf = cfg->compress.u_value_multiply_factor,
      .norm = cfg->compress.norm,
      .layer_norm = cfg->compress.layer_norm,
      .cross_entropy = train->labels != NULL,
      .log_val = cfg->compress.log_val_loss,
      .rgp = cfg->compress.random_gradient_pruning,
      .delete_neurons = cfg->compress.delete_neurons,
      .tamade_val = cfg->compress.tamade_data == COH_TAMADE_VAL,
      .shrinking = {prunes && cfg->compress.shrinking,
                    prunes && cfg->compress.finetuning_shrinking},
      .layerwise = {layers, cfg->compress.finetuning_layerwise_pruning},
      .converge_val = {cfg->compress.converge_val_loss,
                       cfg->compress.finetuning_converge_val_loss},
      .min_epochs = {(uint64_t)cfg->compress.min_epochs,
                     (uint64_t)cfg->compress.finetuning_min_epochs},
      .max_epochs = {(uint64_t)cfg->compress.max_epochs,
                     (uint64_t)cfg->compress.finetuning_max_epochs},
      .prune_window = (uint64_t)cfg->compress.prune_window,
      .smoothing_window = (size_t)cfg->compress.smoothing_window,
      .slack = cfg->compress.shrinking_from_deviation_of,
      .tolerance = cfg->compress.tolerated_relative_loss_increase,
      .resolution = cfg->compress.binary_search_resolution,
      .value_bits = cfg->compress.value_bits,
      .fit = {.alpha = cfg->compress.layerwise_pruning_alpha,
              .lr = cfg->compress.layerwise_pruning_lr,
              .start = cfg->compress.layerwise_pruning_mask_start_value,
              .batch = (size_t)cfg->training.batch_size,
              .epochs = (uint64_t)cfg->compress.max_epochs,
              .smoothing_window = (size_t)cfg->compress.smoothing_window},
      .batch = (size_t)cfg->training.batch_size,
      .val_batch = (size_t)cfg->compress.val_batch_size,
      .test_batch = (size_t)cfg->compress.test_batch_size};
  return choose_gauss(cfg, train, &s->gauss, err);
}

int coh_compress_run_of(const coh_config *cfg, const coh_dataset *train,
                        coh_train_run *run, coh_error *err) {
  (void)err;
  uint64_t seed = (uint64_t)cfg->experiment.seed;
  uint64_t epochs = (uint64_t)cfg->compress.max_epochs;
  size_t batch = (size_t)cfg->training.batch_size;
  epochs += (uint64_t)cfg->compress.finetuning_max_epochs;
  *run = (coh_train_run){.members = 1};
  coh_train_start_of(cfg, 0, &run->start);
  run->start.seed = seed + (is_drawn(cfg) ? DRAWN_SEED : DATA_SEED);
  run->spec = (coh_train_spec){.optimizer = COH_ADAM,
                               .lr = cfg->training.lr,
                               .batch = batch,
                               .end = epochs * coh_epoch_length(train->n, batch),
                               .loss = train->labels ? COH_CROSS_ENTROPY : COH_MSE,
                               .factor = 1};
  return COH_OK;
}
