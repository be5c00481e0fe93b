/* plan_probe.c - how fast networks of one shape train here: a few training steps on
 * zeros, with the kernels that a run would use. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "cohort/net.h"

static const double least_seconds = 0.04, slice_seconds = 0.003, most_bytes = 16e6,
                    most_work = 1e8;

/* Networks too large to try: what part of its multiply-add units' rate a core reaches in
 * their products, and operations for a parameter and a sample. */
static const double of_peak = 0.5, operations = 6;

typedef struct probe {
  coh_plan plan;
  coh_device *dev;
  coh_ensemble *ens;
  coh_workspace *work;
  size_t N, B;
  void *x, *y, *labels, *loss, *m, *v;
  void *lr, *pace; /* lr: zeros */
  coh_target target;
  coh_step_args args;
} probe;

/* Halves the networks, then the batch, until a step is short and its arrays small. */
static void shrink(probe *p, coh_dtype dtype) {
  size_t size = coh_dtype_size(dtype), P = p->plan.P;
  for (;;) {
    double bytes = (double)p->N * (double)P * (double)size * 4 +
                   (double)coh_workspace_bytes(&p->plan, dtype, p->N, p->B, true);
    double work = (double)p->N * (double)p->B * (double)P;
    if (bytes <= most_bytes && work <= most_work) return;
    if (p->N == 1 && p->B == 1) return;
    if (p->N > 1)
      p->N /= 2;
    else
      p->B /= 2;
  }
}

/* What the outputs are held against: labels, or values as of a teacher. */
static int allocate_target(probe *p, const coh_config *cfg, coh_error *err) {
  int rc;
  const coh_device_ops *ops = p->dev->ops;
  bool labels =
      cfg->training.loss == COH_CROSS_ENTROPY ||
      (cfg->training.loss == COH_LOSS_AUTO && cfg->experiment.job != COH_JOB_EXTRACT &&
       strcmp(cfg->dataset.name, "teacher_student") != 0);
  size_t values = p->B * p->plan.n_out * coh_dtype_size(p->dev->dtype);
  COH_TRY(ops->alloc(p->dev, p->N * sizeof(double), &p->loss, err));
  if (labels)
    COH_TRY(ops->alloc(p->dev, p->B * sizeof(int32_t), &p->labels, err));
  else
    COH_TRY(ops->alloc(p->dev, values, &p->y, err));
  p->target = (coh_target){
      .y = p->y, .labels = p->labels, .scale = 1.0 / (double)p->B, .loss = p->loss};
cleanup:
  return rc;
}

static int allocate(probe *p, const coh_config *cfg, coh_error *err) {
  int rc;
  const coh_device_ops *ops = p->dev->ops;
  bool compresses = cfg->experiment.job == COH_JOB_COMPRESS;
  coh_optimizer kind = compresses ? COH_ADAM : (coh_optimizer)cfg->training.optimizer;
  bool adam = kind == COH_ADAM;
  size_t size = coh_dtype_size(p->dev->dtype), state = p->N * p->plan.P * size;
  double mu = cfg->training.momentum + cfg->training.nesterov_momentum;
  coh_pace pace = coh_pace_of(kind, 0.9, 0.999, 2);
  COH_TRY(ops->alloc(p->dev, p->N * sizeof(double), &p->lr, err));
  COH_TRY(ops->alloc(p->dev, sizeof pace, &p->pace, err));
  COH_TRY(ops->upload(p->dev, p->pace, &pace, sizeof pace, err));
  COH_TRY(coh_ensemble_create(&p->plan, p->dev, p->N, &p->ens, err));
  COH_TRY(coh_workspace_create(&p->plan, p->dev, p->N, p->B, true, &p->work, err));
  COH_TRY(ops->alloc(p->dev, p->B * p->plan.d_in * size, &p->x, err));
  COH_TRY(allocate_target(p, cfg, err));
  if (adam || mu > 0) COH_TRY(ops->alloc(p->dev, state, &p->m, err));
  if (adam) COH_TRY(ops->alloc(p->dev, state, &p->v, err));
  p->args = (coh_step_args){.kind = kind,
                            .mu = mu > 0 ? 0.9 : 0,
                            .beta1 = 0.9,
                            .beta2 = 0.999,
                            .eps = 1e-8,
                            .N = p->N,
                            .P = p->plan.P,
                            .pace = p->pace,
                            .lr = p->lr,
                            .wd = p->lr,
                            .w = p->ens->params,
                            .g = p->ens->grads,
                            .m = p->m,
                            .v = p->v};
cleanup:
  return rc;
}

static int step(probe *p, coh_error *err) {
  int rc;
  COH_TRY(coh_gradients(p->ens, p->work, p->B, p->x, 0, &p->target, err));
  COH_TRY(p->dev->ops->step(p->dev, &p->args, err));
  rc = p->dev->ops->sync(p->dev, err);
cleanup:
  return rc;
}

/* Steps of a few milliseconds: the best of them tells what an idle core would do. */
static double measure(probe *p, coh_error *err) {
  double best = 0, begin = coh_seconds(), now = begin;
  if (step(p, err) != COH_OK) return 0;
  for (int slice = 0; slice < 2 || now - begin < least_seconds; slice++) {
    double start = coh_seconds();
    size_t steps = 0;
    for (now = start; steps < 1 || now - start < slice_seconds; now = coh_seconds()) {
      if (step(p, err) != COH_OK) return 0;
      steps++;
    }
    double rate = (double)(steps * p->N * p->B) * (double)p->plan.P / (now - start);
    if (rate > best) best = rate;
  }
  return best;
}

static void release(probe *p) {
  if (p->dev) {
    p->dev->ops->free(p->dev, p->x);
    p->dev->ops->free(p->dev, p->y);
    p->dev->ops->free(p->dev, p->labels);
    p->dev->ops->free(p->dev, p->loss);
    p->dev->ops->free(p->dev, p->m);
    p->dev->ops->free(p->dev, p->v);
    p->dev->ops->free(p->dev, p->lr);
    p->dev->ops->free(p->dev, p->pace);
  }
  coh_workspace_destroy(p->work);
  coh_ensemble_destroy(p->ens);
  coh_device_close(p->dev);
}

double plan_rate(const coh_config *cfg, size_t N, char device[64]) {
  coh_error err;
  size_t members;
  double rate = 0;
  probe p = {.N = N, .B = (size_t)cfg->training.batch_size};
  coh_dtype dtype = (coh_dtype)cfg->training.precision;
  if (coh_plan_parse(cfg->model.name, (coh_act)cfg->model.activation, 0, &p.plan,
                     &members, &err) != COH_OK)
    return 0;
  if (coh_device_open((coh_device_kind)cfg->device.kind, dtype, &p.dev, &err) != COH_OK &&
      coh_device_open(COH_DEVICE_CPU, dtype, &p.dev, &err) != COH_OK)
    return 0;
  snprintf(device, 64, "%s", coh_device_text(p.dev));
  if ((double)p.plan.P * 4 * (double)coh_dtype_size(dtype) > most_bytes) {
    rate = of_peak * coh_device_peak(p.dev) / operations;
    coh_device_close(p.dev);
    return rate;
  }
  shrink(&p, dtype);
  if (allocate(&p, cfg, &err) == COH_OK) rate = measure(&p, &err);
  release(&p);
  return rate;
}
