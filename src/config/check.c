/* check.c - what no value alone can tell: parameters that are missing, that exclude each
 * other or that need each other. Ranges of single values stand in the table. */
#include "table.h"

#include <stdio.h>
#include <string.h>

/* The configuration, and whom to blame. */
typedef struct check {
  const coh_config *cfg;
  bool idle_may_be; /* values that another choice leaves unread are no error */
  const coh_param **blame;
  coh_error *err;
} check;

/* 'section.key = "value": <message>' */
static int blame(const check *c, const char *section, const char *key,
                 const char *message) {
  char shown[128];
  coh_text value = {0};
  *c->blame = coh_param_find(section, key);
  coh_param_value(c->cfg, *c->blame, &value);
  int rc = coh_text_check(&value, c->err);
  if (rc == COH_OK)
    rc = coh_fail(c->err, COH_EUSAGE, "%s.%s = \"%s\": %s", section, key,
                  coh_shown(value.data, shown), message);
  coh_text_free(&value);
  return rc;
}

#define REFUSE_IF(condition, section, key, message)                                      \
  if (condition) return blame(c, #section, #key, message)

/* True if a parameter that no one reads was given another value than its default. */
static bool is_idle(const check *c, bool read, const char *section, const char *key) {
  return !read && !c->idle_may_be &&
         !coh_param_is_default(c->cfg, coh_param_find(section, key));
}

#define REFUSE_IDLE(read, section, key, readers)                                         \
  REFUSE_IF(is_idle(c, read, #section, #key), section, key,                              \
            "is read only if " readers "; leave it out")

static bool is_set(coh_steps s) {
  return s.ep || s.it;
}

/* ---- all jobs ---------------------------------------------------------------------- */

/* Texts that have no default must be given. */
static int check_required(const check *c) {
  size_t count;
  const coh_param *p = coh_params(&count);
  for (size_t i = 0; i < count; i++) {
    bool text = p[i].type >= COH_TYPE_TEXT;
    if (p[i].def || !text || !coh_param_is_read(p + i, c->cfg->experiment.job)) continue;
    if (*(const char *)coh_param_read(c->cfg, p + i)) continue;
    coh_text t = {0};
    coh_text_add(&t, "%s.%s is missing: expected ", p[i].section, p[i].key);
    coh_value_expected(p + i, &t);
    coh_text_add(&t, ". %s", p[i].help);
    *c->blame = p + i;
    return coh_fail_text(c->err, &t);
  }
  return COH_OK;
}

/* True if b cannot come after a, however long an epoch is. */
static bool never_ascends(coh_steps a, coh_steps b) {
  return b.ep <= a.ep && b.it <= a.it;
}

static int check_schedule(const check *c) {
  const coh_milestones *m = &c->cfg->training.milestone_steps;
  bool plateau = c->cfg->training.plateau != COH_PLATEAU_NONE;
  for (size_t i = 1; i < m->n; i++)
    REFUSE_IF(never_ascends(m->at[i - 1], m->at[i]), training, milestone_steps,
              "expected each step to be later than the one before it");
  REFUSE_IF(m->n && plateau, training, milestone_steps,
            "milestones need training.plateau = none");
  REFUSE_IF(is_set(c->cfg->training.warmup_steps) && plateau, training, warmup_steps,
            "a warm-up needs training.plateau = none");
  REFUSE_IDLE(plateau || m->n, training, factor,
              "training.plateau is not none or training.milestone_steps are given");
  REFUSE_IDLE(plateau, training, patience, "training.plateau is not none");
  REFUSE_IDLE(plateau, training, cooldown, "training.plateau is not none");
  REFUSE_IDLE(plateau, training, threshold, "training.plateau is not none");
  REFUSE_IDLE(plateau, training, min_lr, "training.plateau is not none");
  return COH_OK;
}

static bool is_explicit(int finish) {
  return finish == COH_FINISH_LBFGS || finish == COH_FINISH_LM;
}

static int check_finish(const check *c) {
  bool decays = c->cfg->training.weight_decay > 0;
  bool extracts = c->cfg->experiment.job == COH_JOB_EXTRACT;
  REFUSE_IF(decays && is_explicit(c->cfg->training.finish), training, finish,
            "a finish lowers the loss alone, so it excludes training.weight_decay");
  REFUSE_IF(decays && extracts && is_explicit(c->cfg->extraction.finetune_finish),
            extraction, finetune_finish,
            "a finish lowers the loss alone, so it excludes training.weight_decay");
  bool finishes = c->cfg->training.finish != COH_FINISH_NONE;
  bool finetunes = extracts && c->cfg->extraction.finetune_finish != COH_FINISH_NONE;
  REFUSE_IDLE(finishes, training, finish_steps, "training.finish is not none");
  REFUSE_IDLE(finishes || finetunes, training, finish_tolerance,
              "training.finish or extraction.finetune_finish is not none");
  REFUSE_IDLE(finetunes || !extracts, extraction, finetune_finish_steps,
              "extraction.finetune_finish is not none");
  return COH_OK;
}

static int check_training(const check *c) {
  const char *further = c->cfg->training.further_training;
  coh_steps steps;
  coh_error ignored;
  bool adam = c->cfg->training.optimizer == COH_ADAM;
  bool bad = *further && coh_steps_parse(further, &steps, &ignored) != COH_OK;
  REFUSE_IF(bad && *coh_steps_limit(further), training, further_training,
            "expected steps with numbers of at most 4000000000");
  REFUSE_IF(bad, training, further_training,
            "expected nothing, or steps such as 40ep, 200it or 3ep20it");
  REFUSE_IF(adam && c->cfg->training.momentum > 0, training, momentum,
            "only training.optimizer = sgd has a momentum");
  REFUSE_IF(adam && c->cfg->training.nesterov_momentum > 0, training, nesterov_momentum,
            "only training.optimizer = sgd has a momentum");
  int rc = check_finish(c);
  return rc ? rc : check_schedule(c);
}

static int check_experiment(const check *c) {
  const char *name = c->cfg->experiment.name;
  REFUSE_IF(!*name, experiment, name, "expected the name of a folder");
  REFUSE_IF(strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/'),
            experiment, name,
            "expected the name of a folder, without a path; experiment.results has that");
  REFUSE_IF(*name == '-', experiment, name,
            "expected the name of a folder, which does not begin with '-'");
  REFUSE_IF(!*c->cfg->experiment.results, experiment, results,
            "expected the path of a folder");
  return COH_OK;
}

/* ---- job = train --------------------------------------------------------------------
 */

static int check_dataset(const check *c) {
  bool file = strcmp(c->cfg->dataset.name, "file") == 0;
  REFUSE_IF(strcmp(c->cfg->dataset.name, "teacher_student") == 0, dataset, name,
            "only job = compress draws its data so");
  REFUSE_IF(file && !*c->cfg->dataset.file, dataset, file,
            "expected a file, since dataset.name = file");
  REFUSE_IF(!file && *c->cfg->dataset.file, dataset, file,
            "is read only with dataset.name = file; leave it out");
  bool draws = c->cfg->dataset.subsample_fraction < 1 ||
               c->cfg->dataset.random_labels_fraction > 0;
  REFUSE_IDLE(draws, dataset, transformation_seed,
              "dataset.subsample_fraction is below 1 or dataset.random_labels_fraction "
              "above 0");
  return COH_OK;
}

/* ---- job = compress -----------------------------------------------------------------
 */

/* Families of the original that are no stacks of dense layers. */
static bool needs_convolution(const char *name) {
  return strcmp(name, "lenet_5") == 0 || strcmp(name, "lenet_5_caffe") == 0 ||
         strncmp(name, "vgg", 3) == 0;
}

static int check_compress_data(const check *c) {
  const coh_config *cfg = c->cfg;
  bool drawn = strcmp(cfg->dataset.name, "teacher_student") == 0;
  bool file = strcmp(cfg->dataset.name, "file") == 0;
  REFUSE_IF(needs_convolution(cfg->model.name), model, name,
            "needs convolution, which job = compress does not have yet; expected dense "
            "layers, as mnist_lenet_300_100");
  REFUSE_IF(file && !*cfg->dataset.file, dataset, file,
            "expected a file, since dataset.name = file");
  REFUSE_IF(!file && *cfg->dataset.file, dataset, file,
            "is read only with dataset.name = file; leave it out");
  REFUSE_IDLE(drawn, compress, architecture_teacher, "dataset.name = teacher_student");
  REFUSE_IDLE(drawn, compress, noise, "dataset.name = teacher_student");
  REFUSE_IDLE(drawn, compress, test_seed, "dataset.name = teacher_student");
  REFUSE_IDLE(drawn, compress, test_set_size, "dataset.name = teacher_student");
  REFUSE_IF(!drawn && !file && cfg->compress.gauss_loss == COH_GAUSS_TRUE, compress,
            gauss_loss, "a Gaussian code length needs real targets, not labels");
  REFUSE_IF(cfg->ranks.replicas != 1, ranks, replicas,
            "job = compress deals whole networks to ranks; expected 1");
  return COH_OK;
}

static int check_compress(const check *c) {
  const coh_config *cfg = c->cfg;
  int p = cfg->compress.procedure;
  bool gates = p == COH_PMMP || p == COH_FPP;
  bool real = cfg->compress.gauss_loss == COH_GAUSS_TRUE ||
              (cfg->compress.gauss_loss == COH_GAUSS_AUTO &&
               strcmp(cfg->dataset.name, "teacher_student") == 0);
  int rc = check_compress_data(c);
  if (rc) return rc;
  REFUSE_IF(cfg->compress.max_epochs < cfg->compress.min_epochs, compress, max_epochs,
            "expected at least compress.min_epochs");
  REFUSE_IF(cfg->compress.finetuning_max_epochs < cfg->compress.finetuning_min_epochs,
            compress, finetuning_max_epochs,
            "expected at least compress.finetuning_min_epochs");
  REFUSE_IF(cfg->compress.norm && p == COH_DRR && real, compress, norm,
            "the penalty of drr is normalised only without a Gaussian loss");
  REFUSE_IF(!cfg->compress.multiply_mask_after_each_batch, compress,
            multiply_mask_after_each_batch,
            "pruned parameters are always held at zero; expected true");
  REFUSE_IF(cfg->compress.converge_val_loss && !cfg->compress.log_val_loss &&
                !c->idle_may_be,
            compress, log_val_loss,
            "compress.converge_val_loss = true needs it; set that to false too");
  REFUSE_IDLE(p == COH_DRR, compress, beta, "compress.procedure = drr");
  REFUSE_IDLE(p == COH_DRR, compress, norm, "compress.procedure = drr");
  REFUSE_IDLE(p == COH_DRR && cfg->compress.norm, compress, layer_norm,
              "compress.norm = true");
  REFUSE_IDLE(gates, compress, l1_alpha, "compress.procedure is pmmp or fpp");
  REFUSE_IDLE(gates, compress, initial_p_value, "compress.procedure is pmmp or fpp");
  REFUSE_IDLE(gates, compress, initial_u_value, "compress.procedure is pmmp or fpp");
  REFUSE_IDLE(gates, compress, u_value_multiply_factor,
              "compress.procedure is pmmp or fpp");
  return COH_OK;
}

/* ---- job = extract ------------------------------------------------------------------
 */

/* True if the list "a+b+c" has `word`. */
static bool has_word(const char *list, const char *word) {
  size_t n = strlen(word);
  for (const char *s = list; s; s = strchr(s, '+')) {
    s += *s == '+';
    if (strncmp(s, word, n) == 0 && (s[n] == '+' || !s[n])) return true;
  }
  return false;
}

static bool has_images(const char *list) {
  return has_word(list, "mnist") || has_word(list, "fashion_mnist") ||
         has_word(list, "cifar10");
}

static int check_query(const check *c) {
  const char *datagen = c->cfg->query.datagen;
  bool file = has_word(datagen, "file"), images = has_images(datagen);
  bool random = has_word(datagen, "random"), grid = has_word(datagen, "grid");
  REFUSE_IF(file && !*c->cfg->query.file, query, file,
            "expected a file, since query.datagen contains file");
  REFUSE_IF(!file && *c->cfg->query.file, query, file,
            "is read only if query.datagen contains file; leave it out");
  REFUSE_IDLE(random, query, samples, "query.datagen contains random");
  REFUSE_IDLE(random, query, distribution, "query.datagen contains random");
  bool uniform = strcmp(c->cfg->query.distribution, "uniform") == 0;
  REFUSE_IDLE((random && uniform) || grid, query, range,
              "query.datagen contains grid, or random with query.distribution = uniform");
  REFUSE_IDLE(grid, query, grid_points, "query.datagen contains grid");
  REFUSE_IDLE(images, query, subsample, "query.datagen contains a data set of images");
  REFUSE_IDLE(random || c->cfg->query.subsample > 0, query, seed,
              "query.datagen contains random or query.subsample is set");
  return COH_OK;
}

static int check_teacher(const check *c) {
  bool config = *c->cfg->teacher.config, weights = *c->cfg->teacher.weights;
  bool model = *c->cfg->teacher.model;
  bool only_file = strcmp(c->cfg->query.datagen, "file") == 0;
  REFUSE_IF(config && weights, teacher, weights,
            "expected either teacher.config or teacher.weights, not both");
  REFUSE_IF(model && (config || weights), teacher, model,
            "expected only one of teacher.config, teacher.weights and teacher.model");
  REFUSE_IF(!config && !weights && !model && !only_file, teacher, config,
            "expected teacher.config, teacher.weights or teacher.model; only "
            "query.datagen = file does without a teacher");
  REFUSE_IF(c->cfg->teacher.member > 0 && !config && !weights, teacher, member,
            "there is no teacher of several networks");
  REFUSE_IF(c->cfg->teacher.seed > 0 && !model, teacher, seed,
            "is read only with teacher.model");
  return COH_OK;
}

/* What one method alone reads. */
static int check_method(const check *c) {
  bool reference = c->cfg->extraction.method == COH_REFERENCE;
  REFUSE_IDLE(reference, extraction, linkage, "extraction.method = reference");
  REFUSE_IDLE(reference, extraction, metric, "extraction.method = reference");
  REFUSE_IDLE(reference, extraction, canonical, "extraction.method = reference");
  REFUSE_IDLE(reference, extraction, cut, "extraction.method = reference");
  REFUSE_IDLE(reference, extraction, clusters, "extraction.method = reference");
  REFUSE_IDLE(!reference, extraction, stability, "extraction.method = robust");
  return COH_OK;
}

static int check_extraction(const check *c) {
  int cut = c->cfg->extraction.cut;
  bool count = cut == COH_CUT_COUNT, clusters = c->cfg->extraction.clusters > 0;
  bool expands = c->cfg->extraction.expand == COH_EXPAND_AUTO;
  int rc = check_method(c);
  if (rc) return rc;
  REFUSE_IF(count && !clusters, extraction, clusters,
            "expected at least 1, since extraction.cut = count");
  REFUSE_IDLE(count, extraction, clusters, "extraction.cut = count");
  REFUSE_IF(cut == COH_CUT_ANGLE && c->cfg->extraction.metric != COH_COSINE, extraction,
            cut, "an angle needs extraction.metric = cosine");
  REFUSE_IDLE(expands, extraction, expand_tolerance, "extraction.expand = auto");
  REFUSE_IDLE(expands, extraction, expand_max, "extraction.expand = auto");
  REFUSE_IF(!*c->cfg->extraction.mask, extraction, mask,
            "expected none, auto, or a path");
  return COH_OK;
}

/* ------------------------------------------------------------------------------------ */

int coh_check_params(const coh_config *cfg, bool idle_may_be, const coh_param **blamed,
                     coh_error *err) {
  int rc;
  const check c = {cfg, idle_may_be, blamed, err};
  COH_TRY(check_required(&c));
  COH_TRY(check_experiment(&c));
  if (cfg->experiment.job == COH_JOB_COMPRESS)
    COH_TRY(check_compress(&c));
  else
    COH_TRY(check_training(&c));
  if (cfg->experiment.job == COH_JOB_TRAIN) COH_TRY(check_dataset(&c));
  if (cfg->experiment.job == COH_JOB_EXTRACT) {
    COH_TRY(check_query(&c));
    COH_TRY(check_teacher(&c));
    COH_TRY(check_extraction(&c));
  }
cleanup:
  return rc;
}
