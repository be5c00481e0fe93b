/* compress.c - life of the method, and the two places where the loop of training calls
 * it: behind the gradients of a batch, and behind an epoch. What an epoch's losses lead
 * to stands in phase.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

static const double first_sigma = 0.1;

/* ---- life ----------------------------------------------------------------------------
 */

static int upload_set(coh_compress *c, const coh_dataset *d, size_t batch,
                      coh_probe_set *out, coh_error *err) {
  int rc = COH_OK;
  const coh_device_ops *ops = c->dev->ops;
  size_t size = coh_dtype_size(d->dtype), x = d->n * d->d_in * size;
  size_t y = d->n * d->n_out * size, labels = d->n * sizeof *d->labels;
  *out = (coh_probe_set){.host = d, .batch = batch > 0 && batch < d->n ? batch : d->n};
  if (d->n == 0 || c->count == 0) return COH_OK;
  COH_TRY(ops->alloc(c->dev, x, &out->x, err));
  COH_TRY(ops->upload(c->dev, out->x, d->x, x, err));
  if (d->y) COH_TRY(ops->alloc(c->dev, y, &out->y, err));
  if (d->y) COH_TRY(ops->upload(c->dev, out->y, d->y, y, err));
  if (d->labels) COH_TRY(ops->alloc(c->dev, labels, (void **)&out->labels, err));
  if (d->labels) COH_TRY(ops->upload(c->dev, out->labels, d->labels, labels, err));
cleanup:
  return rc;
}

double coh_layer_share(const coh_plan *p, size_t l) {
  const coh_layer *y = &p->layer[l];
  double n = (double)(y->in * y->out + y->out);
  return (double)p->P / (n * (double)p->L);
}

/* Factors of alpha: one for all, or that of each layer. */
static int make_parts(coh_compress *c, coh_error *err) {
  const coh_plan *p = &c->plan;
  int rc = coh_alloc(&c->part, 1 + p->L, sizeof *c->part, err);
  if (rc) return rc;
  c->part[0] = (coh_sparse_part){0, p->P, 1};
  for (size_t l = 0; l < p->L; l++) {
    const coh_layer *y = &p->layer[l];
    c->part[1 + l] =
        (coh_sparse_part){y->w, y->in * y->out + y->out, coh_layer_share(p, l)};
  }
  return COH_OK;
}

static int make_arrays(coh_compress *c, coh_error *err) {
  int rc = COH_OK;
  size_t bytes = c->count * c->plan.P * coh_dtype_size(c->dev->dtype);
  if (c->count == 0) return COH_OK;
  for (int i = 0; i < ARRAYS; i++) {
    bool used = i == MASK || (c->gates && i < MEANS) || c->means;
    if (used) COH_TRY(c->dev->ops->alloc(c->dev, bytes, &c->array[i], err));
  }
  for (int i = 0; i < BEST && c->pick_best; i++)
    if (i < BEST_TWIN || c->gates) COH_TRY(coh_alloc(&c->best[i], bytes, 1, err));
  COH_TRY(c->dev->ops->alloc(c->dev, c->count * sizeof(double), (void **)&c->sums, err));
  COH_TRY(coh_alloc(&c->row, c->plan.P, coh_dtype_size(c->dev->dtype), err));
  for (size_t i = 0; i < c->count; i++)
    COH_TRY(coh_row_fill(c, c->array[MASK], i, 1, err));
cleanup:
  return rc;
}

static void read_specs(coh_compress *c) {
  for (size_t n = 0; n < c->N; n++) {
    const coh_compress_spec *s = c->spec + n;
    size_t window = coh_saturation_window(s->smoothing_window);
    if (window > c->window) c->window = window;
    c->gates |= coh_has_gates(s);
    c->means |= s->procedure == COH_FPP;
    c->pick_best |= s->log_val && (s->converge_val[0] || s->converge_val[1]);
  }
}

static void start_members(coh_compress *c) {
  for (size_t i = 0; i < c->count; i++) {
    coh_squeezed *m = c->member + i;
    *m = (coh_squeezed){.means = 1, .previous = INFINITY, .train = NAN, .val = NAN};
    m->width.sigma = first_sigma;
    double *numbers = (double *)&m->result;
    for (size_t k = 0; k < sizeof m->result / sizeof(double); k++) numbers[k] = NAN;
    m->result.neurons_deleted = 0;
  }
}

static int update(void *ctx, const coh_train_view *, size_t first, size_t count,
                  size_t rows, coh_error *);
static int on_epoch(void *ctx, const coh_train_view *, double *loss, int *state,
                    coh_error *);

static int fill(coh_compress *c, coh_error *err) {
  int rc;
  const coh_compress_data *data = &c->data;
  const coh_compress_spec *s = c->spec;
  COH_TRY(upload_set(c, &data->train, s->batch, &c->set[0], err));
  COH_TRY(upload_set(c, &data->val, s->val_batch, &c->set[1], err));
  COH_TRY(upload_set(c, &data->test, s->test_batch, &c->set[2], err));
  COH_TRY(make_parts(c, err));
  COH_TRY(make_arrays(c, err));
  COH_TRY(coh_alloc(&c->member, c->count, sizeof *c->member, err));
  COH_TRY(coh_alloc(&c->step, c->count, sizeof *c->step, err));
  COH_TRY(coh_alloc(&c->scratch, c->count, sizeof *c->scratch, err));
  COH_TRY(coh_alloc(&c->log, c->count * c->window, sizeof *c->log, err));
  start_members(c);
cleanup:
  return rc;
}

int coh_compress_create(const coh_grid *grid, coh_device *dev, const coh_plan *plan,
                        size_t N, const coh_compress_spec *spec,
                        const coh_compress_data *data, uint64_t every, coh_compress **out,
                        coh_error *err) {
  int rc;
  coh_compress *c = NULL;
  *out = NULL;
  if (!dev->ops->sparse)
    return coh_fail(err, COH_EUSAGE,
                    "job = compress runs on the processor: expected device.kind = cpu");
  COH_TRY(coh_alloc(&c, 1, sizeof *c, err));
  c->grid = grid;
  c->dev = dev;
  c->plan = *plan;
  c->N = N;
  c->every = every;
  c->data = *data;
  c->images = data->train.shape[1] > 1 || data->train.shape[2] > 1;
  coh_grid_block(grid, N, grid->student, &c->first, &c->count);
  COH_TRY(coh_alloc(&c->spec, N, sizeof *c->spec, err));
  memcpy(c->spec, spec, N * sizeof *spec);
  read_specs(c);
  COH_TRY(coh_agree(grid->world, fill(c, err), err));
  c->method =
      (coh_train_method){c, update, on_epoch, coh_compress_save, coh_compress_restore};
  *out = c;
  c = NULL;
cleanup:
  coh_compress_destroy(c);
  return rc;
}

void coh_compress_destroy(coh_compress *c) {
  if (!c) return;
  const coh_device_ops *ops = c->dev->ops;
  for (int i = 0; i < 3; i++) {
    ops->free(c->dev, c->set[i].x);
    ops->free(c->dev, c->set[i].y);
    ops->free(c->dev, c->set[i].labels);
  }
  for (int i = 0; i < ARRAYS; i++) ops->free(c->dev, c->array[i]);
  for (int i = 0; i < BEST; i++) free(c->best[i]);
  ops->free(c->dev, c->sums);
  coh_workspace_destroy(c->forward);
  coh_workspace_destroy(c->backward);
  coh_ensemble_destroy(c->trial);
  coh_device_close(c->wide);
  free(c->spec);
  free(c->part);
  free(c->member);
  free(c->step);
  free(c->scratch);
  free(c->log);
  free(c->row);
  free(c);
}

const coh_train_method *coh_compress_method(coh_compress *c) {
  return &c->method;
}

/* ---- behind the gradients ------------------------------------------------------------
 */

/* Twin, gates and multipliers before the first step. */
static int start_companions(coh_compress *c, const coh_train_view *v, size_t index,
                            coh_error *err) {
  int rc = COH_OK;
  size_t place = v->slot[index];
  const coh_compress_spec *s = coh_spec_at(c, place);
  const void *p = v->ens->params;
  if (!coh_has_gates(s)) return COH_OK;
  COH_TRY(coh_row_copy(c, c->array[TWIN], place, p, index, err));
  COH_TRY(coh_row_fill(c, c->array[GATE], place, s->p0, err));
  COH_TRY(coh_row_fill(c, c->array[MULTIPLIER], place, s->u0, err));
  if (s->procedure != COH_FPP) goto cleanup;
  COH_TRY(coh_row_copy(c, c->array[MEANS], place, p, index, err));
  COH_TRY(coh_row_copy(c, c->array[MEANS + 1], place, p, index, err));
  COH_TRY(coh_row_fill(c, c->array[MEANS + 2], place, s->p0, err));
  COH_TRY(coh_row_fill(c, c->array[MEANS + 3], place, s->u0, err));
cleanup:
  return rc;
}

/* A step of Adam on sigma; returns the factor of the mean square error's gradient. */
static double gauss_step(coh_squeezed *m, double lr, double M) {
  coh_width *s = &m->width;
  double t = (double)(m->t + 1), g = coh_gauss_slope(M, s->sigma);
  double factor = 1 / (2 * s->sigma * s->sigma * log(2));
  s->m = 0.9 * s->m + 0.1 * g;
  s->v = 0.999 * s->v + 0.001 * g * g;
  s->sigma -= lr * (s->m / (1 - pow(0.9, t))) / (sqrt(s->v / (1 - pow(0.999, t))) + 1e-8);
  return factor;
}

/* What fpp's running means count as grows with each step, with a Gaussian loss to 99. */
static double mean_share(coh_squeezed *m, const coh_compress_spec *s) {
  double k = (double)m->means;
  if (!s->gauss || k < 1 / 0.01 - 1) m->means++;
  return k / (k + 1);
}

static coh_penalty penalty_of(const coh_compress_spec *s, const coh_squeezed *m) {
  if (m->phase != REGULARISED) return COH_PENALTY_L1;
  if (s->procedure == COH_DRR) return COH_PENALTY_EXP;
  if (s->alpha == 0 || !coh_has_gates(s)) return COH_PENALTY_L1;
  return s->procedure == COH_FPP ? COH_PENALTY_MEANS : COH_PENALTY_GATES;
}

static coh_sparse_member step_of(coh_compress *c, const coh_train_view *v, size_t index,
                                 double M) {
  size_t place = v->slot[index];
  const coh_compress_spec *s = coh_spec_at(c, place);
  coh_squeezed *m = c->member + place;
  coh_sparse_member out = {.row = index, .place = place, .lr = s->lr, .scale = 1};
  m->sum += s->gauss ? coh_gauss_bits(M, m->width.sigma) : M;
  if (s->gauss) out.scale = gauss_step(m, s->lr, M);
  out.t = ++m->t;
  out.penalty = penalty_of(s, m);
  if (m->phase != REGULARISED) return out;
  bool sparse = s->procedure != COH_LAYERWISE && s->procedure != COH_NO_PROCEDURE;
  bool gates = coh_has_gates(s);
  if (!sparse) return out;
  out.rho = s->rho;
  out.l1 = gates ? s->l1 : 0;
  out.alpha = gates && out.penalty == COH_PENALTY_L1 ? 0 : s->alpha;
  out.beta = s->beta;
  out.mf = s->mf;
  if (out.penalty == COH_PENALTY_MEANS) out.keep = mean_share(m, s);
  return out;
}

static bool has_parts(const coh_compress *c, size_t place) {
  const coh_compress_spec *s = coh_spec_at(c, place);
  return s->norm && s->procedure == COH_DRR;
}

/* Members c->step[first ...] with one division into parts. */
static int run_steps(coh_compress *c, const coh_train_view *v, size_t first, size_t n,
                     coh_error *err) {
  bool parts = has_parts(c, c->step[first].place);
  coh_sparse_args a = {.N = n,
                       .P = c->plan.P,
                       .member = c->step + first,
                       .parts = parts ? c->plan.L : 1,
                       .part = parts ? c->part + 1 : c->part,
                       .w = v->ens->params,
                       .g = v->ens->grads,
                       .m = v->m,
                       .v = v->v,
                       .mask = c->array[MASK]};
  for (int i = 0; i < COH_SPARSE_COMPANIONS; i++) {
    a.c[i] = c->array[TWIN + i];
    a.cm[i] = c->array[FIRST_MOMENTS + i];
    a.cv[i] = c->array[SECOND_MOMENTS + i];
  }
  for (int i = 0; i < COH_SPARSE_MEANS; i++) a.mean[i] = c->array[MEANS + i];
  return c->dev->ops->sparse(c->dev, &a, err);
}

static int update(void *ctx, const coh_train_view *v, size_t first, size_t count,
                  size_t rows, coh_error *err) {
  int rc;
  coh_compress *c = ctx;
  size_t bytes = count * sizeof *c->scratch;
  COH_TRY(c->dev->ops->download(c->dev, c->scratch, v->loss + first, bytes, err));
  for (size_t k = 0; k < count; k++) {
    if (c->member[v->slot[first + k]].t == 0)
      COH_TRY(start_companions(c, v, first + k, err));
    c->step[k] = step_of(c, v, first + k, c->scratch[k] / (double)rows);
  }
  for (size_t k = 0, n; k < count; k += n) {
    for (n = 1; k + n < count; n++)
      if (has_parts(c, c->step[k + n].place) != has_parts(c, c->step[k].place)) break;
    COH_TRY(run_steps(c, v, k, n, err));
  }
cleanup:
  return rc;
}

/* ---- behind an epoch -----------------------------------------------------------------
 */

/* A mean loss as the code length that a Gaussian loss is. */
static double in_bits(const coh_compress *c, size_t place, double loss) {
  bool gauss = coh_spec_at(c, place)->gauss;
  return gauss ? coh_gauss_bits(loss, c->member[place].width.sigma) : loss;
}

static int validate(coh_compress *c, const coh_train_view *v, coh_error *err) {
  int rc;
  size_t N = v->ens->N;
  double *loss = NULL;
  COH_TRY(coh_alloc(&loss, N, sizeof *loss, err));
  COH_TRY(coh_probe(c, v->ens, 1, loss, NULL, err));
  for (size_t i = 0; i < N; i++) {
    size_t place = v->slot[i];
    coh_squeezed *m = c->member + place;
    if (m->asked) m->val = in_bits(c, place, loss[i]);
  }
cleanup:
  free(loss);
  return rc;
}

/* Points of the curves, [count] each. */
enum { TRAIN_LOSS, VAL_LOSS, TEST_LOSS, VAL_ACCURACY, L0, SIGMA, CURVES };
static const char *const curve_names[CURVES] = {"train_loss",   "val_loss", "test_loss",
                                                "val_accuracy", "l0_mask",  "sigma"};

static bool curves_due(const coh_compress *c, const coh_train_view *v) {
  return v->metric && c->every > 0 && v->epoch % c->every == 0;
}

static int draw_member(coh_compress *c, size_t place, double *point, coh_error *err) {
  int rc;
  const coh_compress_spec *s = coh_spec_at(c, place);
  const coh_squeezed *m = c->member + place;
  double *mask = NULL;
  COH_TRY(coh_alloc(&mask, c->plan.P, sizeof *mask, err));
  COH_TRY(coh_row_get(c, c->array[MASK], place, mask, err));
  point[TRAIN_LOSS] = m->train;
  point[VAL_LOSS] = s->log_val ? in_bits(c, place, point[VAL_LOSS]) : (double)NAN;
  point[TEST_LOSS] = in_bits(c, place, point[TEST_LOSS]);
  point[L0] = coh_count(mask, c->plan.P);
  point[SIGMA] = s->gauss ? m->width.sigma : (double)NAN;
cleanup:
  free(mask);
  return rc;
}

/* point [count][CURVES], NAN for those that ended. */
static int draw(coh_compress *c, const coh_train_view *v, double *point, coh_error *err) {
  int rc = COH_OK;
  size_t N = v->ens ? v->ens->N : 0;
  double *loss = NULL, *right = NULL;
  for (size_t i = 0; i < c->count * CURVES; i++) point[i] = NAN;
  COH_TRY(coh_alloc(&loss, N, sizeof *loss, err));
  COH_TRY(coh_alloc(&right, N, sizeof *right, err));
  for (int set = 1; set < 3 && N > 0; set++) {
    bool labels = set == 1 && c->set[set].labels;
    if (c->set[set].host->n == 0) continue;
    COH_TRY(coh_probe(c, v->ens, set, loss, labels ? right : NULL, err));
    for (size_t i = 0; i < N; i++) {
      double *to = point + v->slot[i] * CURVES;
      to[set == 1 ? VAL_LOSS : TEST_LOSS] = loss[i];
      if (labels) to[VAL_ACCURACY] = right[i];
    }
  }
  for (size_t i = 0; i < N; i++)
    COH_TRY(draw_member(c, v->slot[i], point + v->slot[i] * CURVES, err));
cleanup:
  free(loss);
  free(right);
  return rc;
}

static bool is_worth_telling(size_t n, const double *values) {
  for (size_t i = 0; i < n; i++)
    if (!isnan(values[i])) return true;
  return false;
}

/* Collective. */
static int tell_curves(coh_compress *c, const coh_train_view *v, const double *point,
                       coh_error *err) {
  int rc;
  double *all = NULL, *values = NULL;
  COH_TRY(coh_alloc(&all, c->N * CURVES, sizeof *all, err));
  COH_TRY(coh_alloc(&values, c->N, sizeof *values, err));
  COH_TRY(coh_grid_allgather_rows(c->grid, c->N, CURVES * sizeof *all, point, all, err));
  for (int k = 0; k < CURVES; k++) {
    for (size_t n = 0; n < c->N; n++) values[n] = all[n * CURVES + (size_t)k];
    if (is_worth_telling(c->N, values))
      COH_TRY(v->metric(v->metric_ctx, v->step, curve_names[k], c->N, values, err));
  }
cleanup:
  free(all);
  free(values);
  return rc;
}

/* What this rank does by itself. */
static int end_epoch(coh_compress *c, const coh_train_view *v, double *point,
                     double *loss, int *state, coh_error *err) {
  int rc = COH_OK;
  size_t N = v->ens ? v->ens->N : 0;
  bool asked = false;
  for (size_t i = 0; i < N; i++) {
    coh_squeezed *m = c->member + v->slot[i];
    m->asked = coh_asks_val(coh_spec_at(c, v->slot[i]), m) && c->set[1].host->n > 0;
    asked |= m->asked;
    m->train = loss[v->slot[i]] = m->sum / (double)v->epoch_length;
    m->sum = 0;
  }
  if (asked) COH_TRY(validate(c, v, err));
  if (point) COH_TRY(draw(c, v, point, err));
  COH_TRY(coh_phases(c, v, state, err));
cleanup:
  return rc;
}

static int on_epoch(void *ctx, const coh_train_view *v, double *loss, int *state,
                    coh_error *err) {
  int rc = COH_OK;
  coh_compress *c = ctx;
  double *point = NULL;
  bool due = curves_due(c, v);
  if (due) rc = coh_alloc(&point, c->count * CURVES, sizeof *point, err);
  if (!rc) rc = end_epoch(c, v, point, loss, state, err);
  COH_TRY(coh_agree(c->grid->world, rc, err));
  if (due) COH_TRY(tell_curves(c, v, point, err));
cleanup:
  free(point);
  return rc;
}
