/* spec.c - from the configuration's [training] section to what the loop needs. */
#include "cohort/train.h"

static int choose_loss(const coh_config *cfg, const coh_dataset *d, coh_loss *out,
                       coh_error *err) {
  coh_loss loss = (coh_loss)cfg->training.loss;
  if (loss == COH_LOSS_AUTO) loss = d->labels ? COH_CROSS_ENTROPY : COH_MSE;
  if (loss == COH_CROSS_ENTROPY && !d->labels)
    return coh_fail(
        err, COH_EUSAGE,
        "%s: training.loss = cross_entropy needs labels, but this data has real "
        "targets; use mse",
        cfg->file);
  if (loss == COH_MSE && !d->y)
    return coh_fail(
        err, COH_EUSAGE,
        "%s: training.loss = mse needs real targets, but this data has labels; "
        "use cross_entropy",
        cfg->file);
  *out = loss;
  return COH_OK;
}

static int choose_end(const coh_config *cfg, uint64_t epoch, coh_train_spec *s,
                      coh_error *err) {
  const char *further = cfg->training.further_training;
  coh_steps steps = cfg->training.steps;
  s->min_lr = cfg->training.min_lr;
  if (further[0] != '\0' && cfg->training.plateau == COH_PLATEAU_MEMBER)
    return coh_fail(
        err, COH_EUSAGE,
        "%s: training.further_training needs training.plateau = none or shared: "
        "with plateau = member the networks ended at different steps",
        cfg->file);
  if (further[0] != '\0') {
    if (coh_steps_parse(further, &steps, err))
      return coh_explain(err, "%s: training.further_training", cfg->file);
    s->min_lr = 0;
  }
  s->end = coh_steps_value(steps, epoch);
  return COH_OK;
}

int coh_train_spec_of(const coh_config *cfg, const coh_dataset *train, coh_train_spec *s,
                      coh_error *err) {
  int rc;
  *s = (coh_train_spec){0};
  uint64_t epoch = coh_epoch_length(train->n, (size_t)cfg->training.batch_size);
  COH_TRY(choose_loss(cfg, train, &s->loss, err));
  COH_TRY(choose_end(cfg, epoch, s, err));
  s->optimizer = (coh_optimizer)cfg->training.optimizer;
  s->lr = cfg->training.lr;
  s->weight_decay = cfg->training.weight_decay;
  s->nesterov = cfg->training.nesterov_momentum > 0;
  s->momentum = cfg->training.momentum > 0 ? cfg->training.momentum
                                           : cfg->training.nesterov_momentum;
  s->batch = (size_t)cfg->training.batch_size;
  s->order_seed =
      (uint64_t)(cfg->training.data_order_seed >= 0 ? cfg->training.data_order_seed
                                                    : cfg->experiment.seed);
  s->factor = cfg->training.factor;
  s->n_milestones = cfg->training.milestone_steps.n;
  for (size_t i = 0; i < s->n_milestones; i++)
    s->milestone[i] = coh_steps_value(cfg->training.milestone_steps.at[i], epoch);
  s->warmup = coh_steps_value(cfg->training.warmup_steps, epoch);
  s->plateau = (coh_plateau)cfg->training.plateau;
  s->patience = (uint64_t)cfg->training.patience;
  s->cooldown = (uint64_t)cfg->training.cooldown;
  s->threshold = cfg->training.threshold;
  s->evaluate_every = coh_steps_value(cfg->training.evaluate_every, epoch);
cleanup:
  return rc;
}
