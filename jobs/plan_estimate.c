/* plan_estimate.c - memory and time of sub-batches, predicted from parameters x samples x
 * epochs and the rate at which networks of that shape train here. */
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/data.h"
#include "cohort/net.h"
#include "training.h"

enum { SHAPES = 32, PROBES = 4, SIDE_BY_SIDE = 16 };
/* the program with its libraries, before any network */
static const double program_bytes = 25e6;
/* where no rate could be measured */
static const double plain_rate = 2e9;

/* ---- what a pack costs --------------------------------------------------------------
 */

/* NAN of a file: only it tells. */
static double images_of(const char *name) {
  if (strcmp(name, "teacher_student") == 0) return 0;
  if (strcmp(name, "file") == 0) return (double)NAN;
  return strcmp(name, "cifar10") == 0 ? 50000 : 60000;
}

/* One policy of query.datagen; NAN where only a file tells. */
static double policy_samples(const coh_config *cfg, const char *policy, size_t n,
                             size_t d_in) {
  char name[32];
  double most = (double)cfg->query.subsample;
  snprintf(name, sizeof name, "%.*s", n < 31 ? (int)n : 31, policy);
  if (strcmp(name, "file") == 0) return (double)NAN;
  if (strcmp(name, "random") == 0) return (double)cfg->query.samples;
  if (strcmp(name, "grid") == 0) return pow((double)cfg->query.grid_points, (double)d_in);
  return most > 0 && most < images_of(name) ? most : images_of(name);
}

static double samples_of(const coh_config *cfg, size_t d_in) {
  double sum = 0;
  const char *s = cfg->query.datagen;
  if (cfg->experiment.job == COH_JOB_COMPRESS)
    return isnan(images_of(cfg->dataset.name)) ? (double)NAN
                                               : (double)compress_samples(cfg);
  if (cfg->experiment.job == COH_JOB_TRAIN)
    return ceil(images_of(cfg->dataset.name) * cfg->dataset.subsample_fraction);
  for (size_t n; *s; s += n + (s[n] == '+')) {
    n = strcspn(s, "+");
    sum += policy_samples(cfg, s, n, d_in);
  }
  return sum;
}

/* To the last epoch that may be, validated after each. */
static double compressed_passes(const coh_config *cfg, double samples) {
  bool drawn = strcmp(cfg->dataset.name, "teacher_student") == 0;
  double val = cfg->compress.val_set_size > 0 ? (double)cfg->compress.val_set_size
               : drawn                        ? 1000
                                              : 5000;
  if (!cfg->compress.log_val_loss) val = 0;
  return (samples + val / 3) *
         (double)(cfg->compress.max_epochs + cfg->compress.finetuning_max_epochs);
}

/* Samples that pass through one network: in training three times the work of a forward,
 * in evaluations once. */
static double passes_of(const coh_config *cfg, double samples) {
  size_t B = (size_t)cfg->training.batch_size;
  if (cfg->experiment.job == COH_JOB_COMPRESS) return compressed_passes(cfg, samples);
  double epoch = (double)coh_epoch_length((size_t)(isnan(samples) ? 1 : samples), B);
  coh_steps end = cfg->training.steps, every = cfg->training.evaluate_every;
  double epochs = (double)end.ep + (double)end.it / epoch;
  double apart = (double)every.ep + (double)every.it / epoch;
  double evaluations = 2 + (apart > 0 ? epochs / apart : 0);
  bool train = cfg->experiment.job == COH_JOB_TRAIN;
  return samples * epochs + (samples + (train ? 10000 : 0)) * evaluations / 3;
}

static double bytes_of(const coh_config *cfg, const coh_plan *p, const plan_cost *c) {
  coh_dtype dtype = (coh_dtype)cfg->training.precision;
  size_t together = c->networks;
  double size = (double)coh_dtype_size(dtype);
  double momentum = cfg->training.momentum + cfg->training.nesterov_momentum;
  double moments = cfg->training.optimizer == COH_ADAM ? 2 : momentum > 0 ? 1 : 0;
  double samples = isnan(c->samples) ? 0 : c->samples;
  bool compresses = cfg->experiment.job == COH_JOB_COMPRESS;
  if (compresses) moments = COMPRESS_ARRAYS - 2;
  if (cfg->experiment.job != COH_JOB_EXTRACT &&
      samples > 0) /* read whole, and the test */
    samples = images_of(cfg->dataset.name) + 10000;
  if (together > SIDE_BY_SIDE) together = SIDE_BY_SIDE;
  return program_bytes + samples * ((double)p->d_in + 1) * size +
         (double)c->networks * (double)p->P * size * (2 + moments) +
         (double)coh_workspace_bytes(p, dtype, together, (size_t)cfg->training.batch_size,
                                     true);
}

plan_cost plan_cost_of(const coh_config *cfg, size_t runs, coh_error *why) {
  coh_plan p;
  size_t members = 0;
  plan_cost c = {.samples = (double)NAN, .networks = runs};
  bool train = cfg->experiment.job != COH_JOB_EXTRACT;
  bool images = train && strcmp(cfg->dataset.name, "teacher_student") != 0 &&
                strcmp(cfg->dataset.name, "file") != 0;
  if (coh_plan_parse(cfg->model.name, (coh_act)cfg->model.activation, images ? 10 : 0, &p,
                     &members, why) != COH_OK)
    return c;
  c.P = p.P;
  if (members == 0) members = train ? (size_t)cfg->experiment.members : 1;
  c.networks = train ? runs * members : members;
  c.samples = samples_of(cfg, p.d_in);
  c.work = (double)c.networks * (double)c.P * passes_of(cfg, c.samples);
  c.bytes = bytes_of(cfg, &p, &c);
  return c;
}

/* ---- rates of shapes -----------------------------------------------------------------
 */

/* Packs whose networks train at one rate. */
typedef struct shape {
  char key[192];
  double work, rate; /* 0: not measured */
  size_t run, together;
} shape;

typedef struct shapes {
  shape item[SHAPES];
  size_t n;
  double rate; /* of all others */
  char device[64];
} shapes;

static void name_shape(const coh_config *cfg, size_t together, char *out, size_t size) {
  snprintf(out, size, "%.120s|%d|%d|%zu", cfg->model.name, (int)cfg->training.batch_size,
           cfg->training.precision, together);
}

/* Networks that pass side by side: those of one data order. */
static size_t together_of(const plan *p, const coh_config *cfg, size_t networks) {
  size_t streams = 1;
  for (size_t a = 0; a < coh_sweep_axes(p->sweep); a++)
    if (coh_sweep_param(p->sweep, a)->scope == COH_SCOPE_SEED)
      streams = coh_sweep_values(p->sweep, a);
  if (cfg->training.data_order_seed >= 0 || cfg->experiment.job != COH_JOB_TRAIN)
    streams = 1;
  size_t n = (networks + streams - 1) / streams;
  return n < SIDE_BY_SIDE ? n : SIDE_BY_SIDE;
}

static shape *find_shape(shapes *s, const char *key) {
  for (size_t i = 0; i < s->n; i++)
    if (strcmp(s->item[i].key, key) == 0) return s->item + i;
  return NULL;
}

static void add_shape(shapes *s, const char *key, double work, size_t run,
                      size_t together) {
  shape *found = find_shape(s, key);
  if (!found && s->n < SHAPES) {
    found = s->item + s->n++;
    *found = (shape){.run = run, .together = together};
    snprintf(found->key, sizeof found->key, "%s", key);
  }
  if (found && !isnan(work)) found->work += work;
}

static int by_work(const void *x, const void *y) {
  const shape *a = x, *b = y;
  return (a->work < b->work) - (a->work > b->work);
}

/* Measures the costliest shapes; the others take the mean of what was found. */
static void measure_shapes(const plan *p, shapes *s) {
  double sum = 0, weight = 0;
  coh_config cfg;
  coh_error ignored;
  qsort(s->item, s->n, sizeof *s->item, by_work);
  for (size_t i = 0; i < s->n && i < PROBES; i++) {
    shape *one = s->item + i;
    (void)coh_sweep_config(p->sweep, one->run, &cfg, &ignored);
    one->rate = plan_rate(&cfg, one->together, s->device);
    if (one->rate <= 0) continue;
    sum += (one->work + 1) / one->rate;
    weight += one->work + 1;
  }
  s->rate = weight > 0 ? weight / sum : plain_rate;
}

/* ---- parts ---------------------------------------------------------------------------
 */

typedef void (*visitor)(plan *, plan_part *, const coh_config *, const pack *, shapes *);

/* Packs of which some run is valid, with the configuration of the first such run. */
static void visit(plan *p, shapes *s, visitor what) {
  coh_config cfg;
  coh_error ignored;
  for (size_t k = 0; k < p->n; k++)
    for (size_t i = 0; i < p->parts[k].packs.n; i++) {
      const pack *one = p->parts[k].packs.item + i;
      size_t j = 0;
      while (j < one->n && coh_sweep_config(p->sweep, one->run[j], &cfg, &ignored)) j++;
      if (j < one->n) what(p, p->parts + k, &cfg, one, s);
    }
}

static void collect(plan *p, plan_part *part, const coh_config *cfg, const pack *one,
                    shapes *s) {
  char key[192];
  coh_error ignored;
  plan_cost c = plan_cost_of(cfg, one->n, &ignored);
  (void)part;
  if (c.P == 0) return;
  size_t together = together_of(p, cfg, c.networks);
  name_shape(cfg, together, key, sizeof key);
  add_shape(s, key, c.work, one->run[0], together);
}

static void add_up(plan *p, plan_part *part, const coh_config *cfg, const pack *one,
                   shapes *s) {
  char key[192];
  coh_error why;
  plan_cost c = plan_cost_of(cfg, one->n, &why);
  if (c.P == 0) {
    if (p->wrong == 0)
      coh_fail(&p->first, COH_EUSAGE, "%s: run %zu: %s", p->path, one->run[0], why.text);
    p->wrong += one->n;
    return;
  }
  name_shape(cfg, together_of(p, cfg, c.networks), key, sizeof key);
  const shape *found = find_shape(s, key);
  part->networks += c.networks;
  part->seconds += c.work / (found && found->rate > 0 ? found->rate : s->rate);
  if (c.bytes > part->bytes) part->bytes = c.bytes;
}

static void tell_basis(plan *p, const shapes *s) {
  const coh_config *cfg = coh_sweep_base(p->sweep);
  bool extract = cfg->experiment.job == COH_JOB_EXTRACT;
  bool finish = cfg->training.finish != COH_FINISH_NONE;
  bool compress = cfg->experiment.job == COH_JOB_COMPRESS;
  if (s->rate == plain_rate)
    coh_text_add(&p->basis,
                 "time: parameters x samples x epochs at 2e9 a second, a plain "
                 "guess,\n  since none could be measured; ");
  else
    coh_text_add(&p->basis,
                 "time: parameters x samples x epochs at %.2g a second, measured "
                 "on one core here, %s;\n  ",
                 s->rate, s->device);
  coh_text_add(&p->basis, "k cores take about 1/k of it%s",
               extract    ? "; students only, without clustering and fine-tuning"
               : finish   ? "; without training.finish"
               : compress ? "; to the last epoch: runs that settle end earlier"
                          : "");
}

int plan_estimate(plan *p, coh_error *err) {
  shapes *s;
  int rc = coh_alloc(&s, 1, sizeof *s, err);
  if (rc != COH_OK) return rc;
  visit(p, s, collect);
  measure_shapes(p, s);
  visit(p, s, add_up);
  tell_basis(p, s);
  free(s);
  return coh_text_check(&p->basis, err);
}
