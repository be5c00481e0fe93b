/* extraction.c - from trained students to one fine-tuned network: cluster a layer, hold
 * it fixed, retrain the students above it, and so on to the output (section 5 of the
 * extraction contract). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extraction.h"

/* ---- one layer
 * -------------------------------------------------------------------------------- */

/* Clusters layer 0 of the upper students; *c on rank 0, shape and vectors added to
 * `found` on every rank. */
static int cluster(extraction *x, coh_clustering **c, coh_error *err) {
  int rc = COH_OK;
  job *j = x->job;
  coh_layer_view view = {0};
  coh_layer_data data = {.act = x->upper.layer[0].act,
                         .n = x->features.n,
                         .n_out = x->features.n_out,
                         .dtype = x->features.dtype,
                         .x = x->features.x,
                         .y = x->features.y,
                         .plan = &x->upper,
                         .params = x->params};
  coh_cluster_options options;
  size_t shape[2] = {0};
  double *w = NULL;
  COH_TRY(coh_cluster_options_of(&j->cfg, x->upper.layer[0].act, &options, err));
  options.last_hidden = x->upper.L == 2;
  options.gpu = j->gpu.wish.kind == COH_DEVICE_CUDA ? &j->gpu.wish : NULL;
  if (j->grid.rank == 0)
    rc = coh_layer_view_of(&x->upper, x->N, x->params, x->loss,
                           x->found.L == 0 ? x->mask0 : NULL, &view, err);
  view.data = &data;
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(coh_cluster_layer(j->grid.world, &view, &options, &j->sink, c, err));
  if (*c) {
    shape[0] = (*c)->K;
    shape[1] = (*c)->D;
  }
  COH_TRY(coh_bcast(j->grid.world, shape, sizeof shape, 0, err));
  COH_TRY(coh_alloc(&w, shape[0] * shape[1], sizeof *w, err));
  if (*c) memcpy(w, (*c)->w, shape[0] * shape[1] * sizeof *w);
  COH_TRY(coh_bcast(j->grid.world, w, shape[0] * shape[1] * sizeof *w, 0, err));
  COH_TRY(coh_rebuilt_add(&x->found, shape[0], shape[1], w, err));
cleanup:
  coh_layer_view_free(&view);
  free(w);
  return rc;
}

/* Features that the next layer reads, beside the same targets. */
static int next_features(extraction *x, bool keep_linear, coh_dataset *out,
                         coh_error *err) {
  size_t l = x->found.L - 1;
  *out = (coh_dataset){.dtype = x->query->dtype,
                       .n = x->query->n,
                       .n_out = x->query->n_out,
                       .y = x->query->y};
  int rc = coh_features_next(x->dev, x->found.act, x->query->n, x->features.x,
                             x->found.K[l], x->found.D[l], x->found.w[l], keep_linear,
                             &out->x, &out->d_in, err);
  out->shape[0] = out->d_in;
  out->shape[1] = out->shape[2] = 1;
  return rc;
}

static void replace_features(extraction *x, const coh_dataset *next) {
  if (x->own_features) free(x->features.x);
  x->features = *next;
  x->own_features = true;
}

/* ---- trainings on the way
 * ------------------------------------------------------------------------ */

/* The students' own optimiser, batch and schedule, at the fine-tuning rate and scaled to
 * its length: milestones and warm-up fall at the same fractions. */
static int finetune_spec(const extraction *x, const coh_dataset *data, double lr_factor,
                         coh_train_spec *spec, coh_error *err) {
  const coh_config *cfg = &x->job->cfg;
  int rc = coh_train_spec_of(cfg, data, spec, err);
  if (rc) return rc;
  uint64_t epoch = coh_epoch_length(data->n, spec->batch);
  double whole = (double)coh_steps_value(cfg->training.steps, epoch);
  spec->end = coh_steps_value(cfg->extraction.finetune_steps, epoch);
  spec->lr = cfg->extraction.finetune_lr * lr_factor;
  spec->min_lr = cfg->training.min_lr;
  double scale = whole > 0 ? (double)spec->end / whole : 0;
  for (size_t i = 0; i < spec->n_milestones; i++)
    spec->milestone[i] = (uint64_t)((double)spec->milestone[i] * scale + 0.5);
  spec->warmup = (uint64_t)((double)spec->warmup * scale + 0.5);
  return COH_OK;
}

int extraction_narrow(coh_dtype dtype, size_t count, const double *from, void **to,
                      coh_error *err) {
  int rc = coh_alloc(to, count, coh_dtype_size(dtype), err);
  for (size_t i = 0; i < count && !rc; i++) coh_put(dtype, *to, i, from[i]);
  return rc;
}

int extraction_gather(const extraction *x, coh_trainer *t, size_t count, double **out,
                      coh_error *err) {
  int rc = COH_OK;
  void *raw = NULL;
  coh_dtype dtype = x->query->dtype;
  bool root = x->job->grid.rank == 0;
  *out = NULL;
  if (root) COH_TRY(coh_alloc(&raw, count, coh_dtype_size(dtype), err));
  if (root) COH_TRY(coh_alloc(out, count, sizeof **out, err));
  COH_TRY(coh_trainer_gather(t, raw, err));
  for (size_t i = 0; root && i < count; i++) (*out)[i] = coh_get(dtype, raw, i);
cleanup:
  free(raw);
  return rc;
}

/* Moves the students whose loss is a number to the front and forgets the others. */
static void leave_out_failed(extraction *x) {
  size_t kept = 0, P = x->upper.P;
  for (size_t n = 0; n < x->N; n++) {
    if (!isfinite(x->loss[n])) continue;
    x->loss[kept] = x->loss[n];
    if (x->params && kept != n)
      memcpy(x->params + kept * P, x->params + n * P, P * sizeof *x->params);
    kept++;
  }
  if (kept < x->N)
    coh_say(&x->job->sink, COH_WARN, "%zu of %zu students diverged and are left out",
            x->N - kept, x->N);
  x->N = kept;
}

void extraction_add_seconds(extraction *x, const coh_trainer *t) {
  coh_train_status status;
  coh_trainer_status(t, &status);
  x->seconds += status.total_seconds;
  x->worked = x->worked || status.steps > 0;
}

int extraction_take(extraction *x, coh_trainer *t, const coh_dataset *data,
                    coh_error *err) {
  int rc;
  double *params = NULL;
  extraction_add_seconds(x, t);
  COH_TRY(coh_trainer_evaluate(t, data, x->loss, NULL, err));
  COH_TRY(extraction_gather(x, t, x->N * x->upper.P, &params, err));
  free(x->params);
  x->params = params;
  leave_out_failed(x);
  COH_TRY(extraction_check_gamma(&x->job->cfg, x->N, err));
cleanup:
  return rc;
}

int extraction_check_gamma(const coh_config *cfg, size_t N, coh_error *err) {
  double least = floor(cfg->extraction.gamma * (double)N);
  if (least >= 2) return COH_OK;
  return coh_fail(
      err, COH_EUSAGE,
      "%s: extraction.gamma = %g with %zu students asks for clusters of %g: "
      "gamma times the number of students must be at least 2; use more students "
      "or a larger gamma",
      cfg->file, cfg->extraction.gamma, N, least);
}

/* Students finish as [training] says, the final network as [extraction] does. */
static void choose_finish(const coh_config *cfg, bool final, stage *s) {
  s->finish =
      job_finish(cfg, final ? cfg->extraction.finetune_finish : cfg->training.finish);
  s->finish_steps = (uint64_t)(final ? cfg->extraction.finetune_finish_steps
                                     : cfg->training.finish_steps);
}

int extraction_train(const extraction *x, const training *g, coh_trainer **out,
                     coh_error *err) {
  int rc;
  char model[96], checkpoint[96], metrics[96];
  void *first = NULL;
  coh_text identity = {0};
  coh_train_run run = {.members = g->N};
  stage s = {.title = g->name,
             .folder = g->folder ? g->folder : x->folder,
             .model = model,
             .checkpoint = checkpoint,
             .metrics = metrics,
             .derived = true,
             .plan = *g->plan,
             .N = g->N,
             .train = g->data,
             .n_run = 1,
             .run = &run,
             .lr = "extraction.finetune_lr"};
  COH_TRY(coh_format(model, sizeof model, err, "%s.h5", g->name));
  COH_TRY(coh_format(checkpoint, sizeof checkpoint, err, "%s.checkpoint.h5", g->name));
  COH_TRY(coh_format(metrics, sizeof metrics, err, "%s.metrics.csv", g->name));
  coh_text_add(&identity, "%s %s", x->identity, g->name);
  COH_TRY(coh_text_check(&identity, err));
  s.identity = identity.data;
  choose_finish(&x->job->cfg, g->final, &s);
  COH_TRY(finetune_spec(x, g->data, g->lr_factor, &run.spec, err));
  if (g->finish_only) run.spec.end = 0;
  COH_TRY(extraction_narrow(g->data->dtype, g->N * g->plan->P, g->start, &first, err));
  s.start = first;
  COH_TRY(stage_train(x->job, x->dev, &s, out, err));
cleanup:
  coh_text_free(&identity);
  free(first);
  return rc;
}

/* Makes the students above the clustered layer, on every rank, and retrains them. */
static int retrain_upper(extraction *x, const coh_clustering *c, coh_error *err) {
  int rc = COH_OK;
  job *j = x->job;
  coh_plan next = {0};
  coh_dataset features = {0};
  coh_trainer *t = NULL;
  double *start = NULL;
  char name[32];
  if (c) rc = coh_upper_next(&x->upper, x->N, x->params, c, x->sym, &next, &start, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(coh_bcast(j->grid.world, &next, sizeof next, 0, err));
  if (!start) COH_TRY(coh_alloc(&start, x->N * next.P, sizeof *start, err));
  COH_TRY(coh_bcast(j->grid.world, start, x->N * next.P * sizeof *start, 0, err));
  COH_TRY(next_features(x, coh_symmetry_is_even_linear(x->sym), &features, err));
  COH_TRY(coh_format(name, sizeof name, err, "above_layer_%zu", x->found.L));
  const training g = {.name = name,
                      .plan = &next,
                      .N = x->N,
                      .data = &features,
                      .lr_factor = 1,
                      .start = start};
  COH_TRY(extraction_train(x, &g, &t, err));
  x->upper = next;
  COH_TRY(extraction_take(x, t, &features, err));
  coh_trainer_destroy(t); /* it borrows the features */
  t = NULL;
  replace_features(x, &features);
  features.x = NULL;
cleanup:
  coh_trainer_destroy(t);
  free(features.x);
  free(start);
  return rc;
}

/* ---- the output layer
 * -------------------------------------------------------------------------------- */

/* Rows [F, 1 | Y - A a] for the least squares of the linear path. */
typedef struct residual {
  const coh_dataset *features, *hidden;
  const double *a; /* [K, O] */
} residual;

static double residual_at(const residual *r, size_t i, size_t o) {
  size_t K = r->hidden->d_in, O = r->hidden->n_out;
  coh_dtype t = r->hidden->dtype;
  double sum = coh_get(t, r->hidden->y, i * O + o);
  for (size_t k = 0; k < K; k++)
    sum -= coh_get(t, r->hidden->x, i * K + k) * r->a[k * O + o];
  return sum;
}

static void residual_row(void *ctx, size_t row, double *values) {
  const residual *r = ctx;
  size_t d = r->features->d_in;
  for (size_t i = 0; i < d; i++)
    values[i] = coh_get(r->features->dtype, r->features->x, row * d + i);
  values[d] = 1;
  for (size_t o = 0; o < r->hidden->n_out; o++)
    values[d + 1 + o] = residual_at(r, row, o);
}

static void mean_residual(const residual *r, double *bias) {
  size_t n = r->hidden->n, O = r->hidden->n_out;
  for (size_t o = 0; o < O; o++) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += residual_at(r, i, o);
    bias[o] = sum / (double)n;
  }
}

/* Output bias (mean output = mean target) or, for the even_linear classes, the linear
 * path and bias by least squares; then the whole network. */
static int rebuild(extraction *x, coh_error *err) {
  int rc;
  coh_dataset hidden = {0};
  size_t O = x->query->n_out, d = x->features.d_in;
  double *theta = NULL;
  COH_TRY(next_features(x, false, &hidden, err));
  COH_TRY(coh_alloc(&theta, (d + 1) * O, sizeof *theta, err));
  residual r = {&x->features, &hidden, x->a};
  if (x->found.linear)
    COH_TRY(coh_lstsq(x->job->grid.world, x->query->n, d + 1, O, residual_row, &r, 1e-10,
                      theta, NULL, err));
  else
    mean_residual(&r, theta + d * O);
  COH_TRY(coh_rebuilt_network(&x->found, O, x->a, theta + d * O, theta, &x->plan,
                              &x->before, err));
  x->rebuilt = x->plan;
cleanup:
  free(hidden.x);
  free(theta);
  return rc;
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------
 */

static int share_outgoing(extraction *x, const coh_clustering *c, coh_error *err) {
  size_t count = x->found.K[x->found.L - 1] * x->query->n_out;
  int rc = coh_alloc(&x->a, count, sizeof *x->a, err);
  if (rc) return rc;
  if (c) memcpy(x->a, c->a, count * sizeof *x->a);
  return coh_bcast(x->job->grid.world, x->a, count * sizeof *x->a, 0, err);
}

/* The students as they are before any clustering. */
static int remember_students(extraction *x, coh_error *err) {
  int rc;
  size_t all = x->N * x->upper.P;
  x->whole = x->upper;
  COH_TRY(coh_alloc(&x->first_loss, x->N, sizeof *x->first_loss, err));
  memcpy(x->first_loss, x->loss, x->N * sizeof *x->loss);
  if (!x->params) return COH_OK;
  COH_TRY(coh_alloc(&x->students, all, sizeof *x->students, err));
  memcpy(x->students, x->params, all * sizeof *x->students);
cleanup:
  return rc;
}

int extraction_run(extraction *x, coh_error *err) {
  int rc;
  COH_TRY(coh_agree(x->job->grid.world, remember_students(x, err), err));
  x->found.act = x->upper.layer[0].act;
  x->found.linear = coh_symmetry_is_even_linear(x->sym);
  while (x->upper.L >= 2) {
    layer_report *report = &x->layer[x->n_layers++];
    report->H = x->upper.layer[0].out;
    COH_TRY(cluster(x, &report->cluster, err));
    if (x->upper.L == 2) {
      COH_TRY(share_outgoing(x, report->cluster, err));
      break;
    }
    COH_TRY(retrain_upper(x, report->cluster, err));
  }
  COH_TRY(rebuild(x, err));
  COH_TRY(extraction_refine(x, err));
cleanup:
  return rc;
}

void extraction_free(extraction *x) {
  for (size_t l = 0; l < x->n_layers; l++) coh_clustering_destroy(x->layer[l].cluster);
  coh_rebuilt_free(&x->found);
  if (x->own_features) free(x->features.x);
  free(x->params);
  free(x->loss);
  free(x->mask0);
  free(x->a);
  free(x->before);
  free(x->after);
  free(x->students);
  free(x->first_loss);
}
