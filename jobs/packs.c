/* packs.c - which runs of a sweep are trained as one ensemble, and which have been.
 * Dealing looks at the values of the axes only, so that 100,000 runs take milliseconds.
 */
#include "packs.h"

#include <stdlib.h>
#include <string.h>

#include "cohort/net.h"
#include "run.h"
#include "training.h"

enum { MOST_RUNS = 4096 };
static const double most_bytes = 2147483648.0;

/* ---- what may differ within a pack ---------------------------------------------------
 */

static bool is_among(const char *key, const char *const *keys) {
  while (*keys && strcmp(*keys, key) != 0) keys++;
  return *keys != NULL;
}

/* Of job = compress all of [compress] but what the data depend on. */
static bool may_differ_compressed(const coh_param *p, bool drawn) {
  static const char *const data[] = {"architecture_teacher",
                                     "train_set_size",
                                     "val_set_size",
                                     "val_batch_size",
                                     "test_set_size",
                                     "test_batch_size",
                                     "noise",
                                     "test_seed",
                                     NULL};
  static const char *const start[] = {"init", "init_bias", NULL};
  if (p->scope == COH_SCOPE_SEED) return !drawn;
  if (strcmp(p->section, "training") == 0) return strcmp(p->key, "lr") == 0;
  if (strcmp(p->section, "model") == 0) return is_among(p->key, start);
  return strcmp(p->section, "compress") == 0 && !is_among(p->key, data);
}

static bool may_differ(const coh_param *p, int kind, bool drawn) {
  static const char *const schedule[] = {
      "lr",       "weight_decay", "data_order_seed", "milestone_steps",
      "factor",   "warmup_steps", "plateau",         "patience",
      "cooldown", "threshold",    "min_lr",          NULL};
  static const char *const start[] = {"init", "init_bias", "init_fan", NULL};
  if (kind == COH_JOB_COMPRESS) return may_differ_compressed(p, drawn);
  if (kind == COH_JOB_EXTRACT) return p->scope == COH_SCOPE_CLUSTERING;
  if (p->scope == COH_SCOPE_SEED) return true;
  if (strcmp(p->section, "training") == 0) return is_among(p->key, schedule);
  return strcmp(p->section, "model") == 0 && is_among(p->key, start);
}

/* ---- sorting ----------------------------------------------------------------------- */

typedef struct place {
  uint64_t key;  /* equal for runs that fit into one pack */
  int64_t order; /* seed of the data order */
  size_t run;
} place;

static int compare(const void *a, const void *b) {
  const place *p = a, *q = b;
  if (p->key != q->key) return p->key < q->key ? -1 : 1;
  if (p->order != q->order) return p->order < q->order ? -1 : 1;
  return p->run < q->run ? -1 : p->run > q->run;
}

static int find_axis(const coh_sweep *s, const char *section, const char *key) {
  for (size_t a = 0; a < coh_sweep_axes(s); a++) {
    const coh_param *p = coh_sweep_param(s, a);
    if (strcmp(p->section, section) == 0 && strcmp(p->key, key) == 0) return (int)a;
  }
  return -1;
}

/* Whether some run's data are drawn from its seed. */
static bool may_be_drawn(const coh_sweep *s) {
  return find_axis(s, "dataset", "name") >= 0 ||
         strcmp(coh_sweep_base(s)->dataset.name, "teacher_student") == 0;
}

/* The values of all axes that keep runs apart, as digits of one number. COH_EUSAGE where
 * it does not fit 64 bits. */
static int weights(const coh_sweep *s, uint64_t *weight, coh_error *err) {
  size_t axes = coh_sweep_axes(s);
  uint64_t product = 1;
  int kind = coh_sweep_base(s)->experiment.job;
  bool drawn = may_be_drawn(s);
  for (size_t a = axes; a-- > 0;) {
    weight[a] = 0;
    if (may_differ(coh_sweep_param(s, a), kind, drawn)) continue;
    weight[a] = product;
    if (__builtin_mul_overflow(product, (uint64_t)coh_sweep_values(s, a), &product))
      return coh_fail(err, COH_EUSAGE, "[sweep]: more values than can be told apart");
  }
  return COH_OK;
}

static int64_t value_or(const coh_sweep *s, size_t i, int axis, int64_t base) {
  return axis < 0 ? base : strtoll(coh_sweep_value(s, i, (size_t)axis), NULL, 10);
}

static int make_places(const coh_sweep *s, size_t first, size_t count, place *out,
                       coh_error *err) {
  int rc;
  size_t axes = coh_sweep_axes(s);
  uint64_t *weight = NULL;
  const coh_config *base = coh_sweep_base(s);
  int seed = find_axis(s, "experiment", "seed");
  int order = find_axis(s, "training", "data_order_seed");
  COH_TRY(coh_alloc(&weight, axes, sizeof *weight, err));
  COH_TRY(weights(s, weight, err));
  for (size_t k = 0; k < count; k++) {
    size_t i = first + k;
    out[k] = (place){.run = i};
    for (size_t a = 0; a < axes; a++)
      if (weight[a]) out[k].key += weight[a] * coh_sweep_index(s, i, a);
    out[k].order = value_or(s, i, order, base->training.data_order_seed);
    if (out[k].order < 0) out[k].order = value_or(s, i, seed, base->experiment.seed);
  }
cleanup:
  free(weight);
  return rc;
}

/* ---- size and cost ----------------------------------------------------------------- */

static double samples_of(const coh_config *cfg) {
  const char *name = cfg->dataset.name;
  if (cfg->experiment.job == COH_JOB_COMPRESS) return (double)compress_samples(cfg);
  if (cfg->experiment.job == COH_JOB_EXTRACT) return (double)cfg->query.samples;
  if (strcmp(name, "file") == 0)
    return 1e4 * cfg->dataset.subsample_fraction; /* a guess */
  return (strcmp(name, "cifar10") == 0 ? 50000 : 60000) * cfg->dataset.subsample_fraction;
}

/* Size of the networks of the pack's first run; what cannot be told stays 0 or 1. */
static void measure(const coh_config *cfg, size_t runs, pack *p) {
  coh_error ignored;
  coh_plan plan;
  size_t members = 0;
  double samples = samples_of(cfg);
  coh_steps steps = cfg->training.steps;
  if (cfg->experiment.job == COH_JOB_COMPRESS)
    steps = (coh_steps){
        .ep = (uint64_t)(cfg->compress.max_epochs + cfg->compress.finetuning_max_epochs)};
  p->members = (size_t)cfg->experiment.members;
  coh_act act = (coh_act)cfg->model.activation;
  /* ten classes, or whatever number of outputs the name says */
  if (coh_plan_parse(cfg->model.name, act, 10, &plan, &members, &ignored) == COH_OK ||
      coh_plan_parse(cfg->model.name, act, 0, &plan, &members, &ignored) == COH_OK)
    p->P = plan.P;
  if (members > 0) p->members = members;
  double seen = (double)steps.ep * samples;
  seen += (double)steps.it * (double)cfg->training.batch_size;
  if (cfg->experiment.job == COH_JOB_EXTRACT) runs = 1;
  p->cost = (double)runs * (double)p->members * (double)(p->P + 1) * (seen + samples);
}

/* Runs of which state (parameters, gradients, two moments) and orders of the data fit. */
static size_t most_runs(const coh_config *cfg, const pack *p) {
  if (cfg->experiment.job == COH_JOB_EXTRACT) return SIZE_MAX;
  double width = cfg->training.precision == 1 ? 8 : 4;
  bool compresses = cfg->experiment.job == COH_JOB_COMPRESS;
  double arrays = compresses ? COMPRESS_ARRAYS : 4;
  double one = (double)p->members * (double)p->P * width * arrays;
  if (!compresses) one += 4 * samples_of(cfg);
  double fit = most_bytes / one;
  return fit < 1 ? 1 : fit < MOST_RUNS ? (size_t)fit : MOST_RUNS;
}

/* ---- names ---------------------------------------------------------------------------
 */

static int name_pack(const coh_sweep *s, pack *p, uint64_t salt, coh_error *err) {
  int rc;
  coh_config cfg;
  coh_error ignored;
  coh_text ids = {0};
  char label[COH_LABEL];
  if (salt) coh_text_add(&ids, "try %llu\n", (unsigned long long)salt);
  for (size_t i = 0; i < p->n; i++) {
    coh_hash id;
    COH_TRY(coh_sweep_id(s, p->run[i], &id, err));
    coh_text_add(&ids, "%s\n", id.hex);
  }
  COH_TRY(coh_text_check(&ids, err));
  COH_TRY(coh_hash_bytes(ids.data, ids.len, &p->hash, err));
  (void)coh_sweep_config(s, p->run[0], &cfg, &ignored); /* filled all the same */
  COH_TRY(run_label(&cfg, label, err));
  COH_TRY(coh_format(p->name, sizeof p->name, err, "%s-%.*s", label, COH_HASH_SHOWN,
                     p->hash.hex));
cleanup:
  coh_text_free(&ids);
  return rc;
}

/* ---- packs ---------------------------------------------------------------------------
 */

static int add_pack(const coh_sweep *s, size_t n, size_t *of, packs *out,
                    coh_error *err) {
  int rc;
  coh_config cfg;
  coh_error ignored;
  pack *more = realloc(out->item, (out->n + 1) * sizeof *more);
  if (!more) return coh_fail(err, COH_ENOMEM, "no memory for packs");
  out->item = more;
  pack *p = out->item + out->n;
  *p = (pack){.n = n, .run = of};
  (void)coh_sweep_config(s, of[0], &cfg, &ignored);
  measure(&cfg, n, p);
  COH_TRY(name_pack(s, p, 0, err));
  out->n++;
cleanup:
  return rc;
}

/* Runs of one key, in as many equal packs as are needed. */
static int cut(const coh_sweep *s, size_t n, size_t *of, packs *out, coh_error *err) {
  int rc = COH_OK;
  coh_config cfg;
  coh_error ignored;
  pack probe = {0};
  (void)coh_sweep_config(s, of[0], &cfg, &ignored);
  measure(&cfg, n, &probe);
  size_t most = most_runs(&cfg, &probe), parts = 1 + (n - 1) / most;
  for (size_t i = 0; i < parts; i++) {
    size_t first, count;
    coh_sub_batch(n, i + 1, parts, &first, &count);
    COH_TRY(add_pack(s, count, of + first, out, err));
  }
cleanup:
  return rc;
}

static int compare_first(const void *a, const void *b) {
  const pack *p = a, *q = b;
  size_t least_p = p->run[0], least_q = q->run[0];
  for (size_t i = 1; i < p->n; i++)
    if (p->run[i] < least_p) least_p = p->run[i];
  for (size_t i = 1; i < q->n; i++)
    if (q->run[i] < least_q) least_q = q->run[i];
  return least_p < least_q ? -1 : least_p > least_q;
}

int packs_make(const coh_sweep *s, size_t first, size_t count, packs *out,
               coh_error *err) {
  int rc;
  place *places = NULL;
  *out = (packs){0};
  COH_TRY(coh_alloc(&places, count, sizeof *places, err));
  COH_TRY(coh_alloc(&out->run, count, sizeof *out->run, err));
  COH_TRY(make_places(s, first, count, places, err));
  qsort(places, count, sizeof *places, compare);
  for (size_t i = 0; i < count; i++) out->run[i] = places[i].run;
  for (size_t i = 0, n; i < count; i += n) {
    for (n = 1; i + n < count && places[i + n].key == places[i].key;) n++;
    COH_TRY(cut(s, n, out->run + i, out, err));
  }
  if (out->n > 1) qsort(out->item, out->n, sizeof *out->item, compare_first);
cleanup:
  free(places);
  return rc;
}

void packs_free(packs *p) {
  free(p->item);
  free(p->run);
  *p = (packs){0};
}

int pack_reduce(const coh_sweep *s, pack *p, size_t first, const bool *drop,
                uint64_t salt, coh_error *err) {
  size_t kept = 0, had = p->n;
  for (size_t i = 0; i < p->n; i++)
    if (!drop[p->run[i] - first]) p->run[kept++] = p->run[i];
  p->n = kept;
  if (kept == 0 || (kept == had && salt == 0)) return COH_OK;
  p->cost *= (double)kept / (double)had;
  return name_pack(s, p, salt, err);
}

/* ---- what is done --------------------------------------------------------------------
 */

typedef struct visit {
  char *state;
  pack_damaged *damaged;
  void *ctx;
} visit;

static int raise_state(void *ctx, size_t i, const coh_pack_run *r, coh_error *err) {
  (void)err;
  char *state = ((visit *)ctx)->state + i;
  char is = strcmp(r->status, "done") == 0 ? RUN_DONE : RUN_FAILED;
  if (*state < is) *state = is;
  return COH_OK;
}

static int tell_damage(void *ctx, const char *folder, const char *why, coh_error *err) {
  const visit *v = ctx;
  return v->damaged(v->ctx, folder, why, err);
}

int packs_states(const coh_sweep *s, const char *sub_batch, size_t first, size_t count,
                 char *state, pack_damaged *damaged, void *ctx, coh_error *err) {
  int rc;
  coh_hash *id = NULL;
  coh_index index = {0};
  visit v = {state, damaged, ctx};
  const coh_pack_visitor visitor = {&index, raise_state, tell_damage, &v};
  COH_TRY(coh_alloc(&id, count, sizeof *id, err));
  COH_TRY(coh_index_make(&index, count, err));
  for (size_t i = 0; i < count; i++) {
    COH_TRY(coh_sweep_id(s, first + i, id + i, err));
    coh_index_put(&index, id[i].hex, i);
  }
  rc = coh_packs_visit(sub_batch, &visitor, err);
cleanup:
  coh_index_free(&index);
  free(id);
  return rc;
}
