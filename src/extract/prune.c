/* prune.c - a network of low loss without the neurons that its answers do not need, and
 * without the linear paths that flipped neurons explain. Uses base, device, net, rebuild.
 *
 * Where a rebuilt network has a neuron too many, fine-tuning makes it a copy, or idle, or
 * one of a group that cancels. Then the layers above read what they read from the other
 * neurons: least squares of it on these tells (needed.c). A neuron whose sign is not the
 * teacher's leaves a linear part behind, c w a of its own vectors; so what the linear
 * path holds tells which neurons to turn around.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/rebuild.h"
#include "extract/private.h"
#include "extract/robust.h"

enum { ROWS = 1024, GAIN_ELEMENTS = 1 << 20, MOST_SEARCHED = 14 };

/* ---- blocks of weights ----------------------------------------------------------- */

const double *coh_weights_between(const coh_plan *p, const double *params, size_t q,
                                  size_t l) {
  const coh_layer *y = &p->layer[l];
  if (q + 1 == l) return params + y->w;
  if (!y->skip) return NULL;
  const double *part = params + y->s;
  for (size_t k = l - 2; k > q; k--) part += p->layer[k].out * y->out;
  return part;
}

/* The same from the input. */
static const double *weights_from_input(const coh_plan *p, const double *params,
                                        size_t l) {
  const coh_layer *y = &p->layer[l];
  if (l == 0) return params + y->w;
  if (!y->skip) return NULL;
  return params + y->s + (y->skip_in - p->d_in) * y->out;
}

static bool has_paths(const coh_plan *p) {
  return p->layer[p->L - 1].skip;
}

/* Features that layer q reads, without the 1. */
static size_t count_features(const coh_plan *p, size_t q) {
  const coh_layer *l = &p->layer[q];
  return l->in + (l->skip ? l->skip_in : 0);
}

/* w [out, features + 1] of layer q: its vectors over all it reads, bias last. */
static void read_vectors(const coh_plan *p, const double *params, size_t q, double *w) {
  const coh_layer *l = &p->layer[q];
  size_t F = count_features(p, q);
  for (size_t k = 0; k < l->out; k++) {
    double *v = w + k * (F + 1);
    for (size_t i = 0; i < l->in; i++) v[i] = params[l->w + i * l->out + k];
    for (size_t i = l->in; i < F; i++) v[i] = params[l->s + (i - l->in) * l->out + k];
    v[F] = params[l->b + k];
  }
}

static int plan_like(const coh_plan *p, const size_t *width, bool paths, coh_plan *out,
                     coh_error *err) {
  size_t size[COH_MAX_LAYERS + 1] = {p->d_in};
  bool skip[COH_MAX_LAYERS] = {false};
  for (size_t l = 0; l < p->L; l++) size[l + 1] = width[l];
  for (size_t l = 1; l < p->L; l++) skip[l] = paths;
  return coh_plan_dense(p->L, size, p->layer[0].act, skip, out, err);
}

/* ---- one layer at work ----------------------------------------------------------- */

typedef struct pruning {
  const coh_plan *plan;
  const double *params;
  size_t q;    /* the layer */
  size_t m, T; /* sampled rows; readings of the layer by those above */
  coh_device *dev;
  double *x;           /* [m, d_in] */
  double *features;    /* [m, F] */
  double *w, *targets; /* [K, F + 1], [m, T] */
  double *weight;      /* [T] */
  coh_probe probe;
} pruning;

static void pruning_free(pruning *s) {
  coh_probe_free(&s->probe);
  coh_device_close(s->dev);
  free(s->x);
  free(s->features);
  free(s->w);
  free(s->targets);
  free(s->weight);
}

static int sample(pruning *s, const coh_dataset *data, coh_error *err) {
  int rc;
  size_t F = count_features(s->plan, s->q) + 1;
  for (size_t l = s->q; l < s->plan->L; l++) F += s->plan->layer[l].out;
  for (size_t l = s->q + 1; l < s->plan->L; l++) s->T += s->plan->layer[l].out;
  s->m = 4 * F > ROWS ? 4 * F : ROWS;
  if (s->m > data->n) s->m = data->n;
  COH_TRY(coh_alloc(&s->x, s->m * data->d_in, sizeof *s->x, err));
  for (size_t b = 0; b < s->m; b++) {
    size_t row = b * data->n / s->m;
    for (size_t i = 0; i < data->d_in; i++)
      s->x[b * data->d_in + i] = coh_get(data->dtype, data->x, row * data->d_in + i);
  }
cleanup:
  return rc;
}

/* Activations of layer l on the sampled rows into columns of `to` [m, stride]. */
static int put_activations(pruning *s, size_t l, size_t stride, double *to,
                           coh_error *err) {
  int rc;
  size_t width = s->plan->layer[l].out;
  double *a = NULL;
  COH_TRY(coh_alloc(&a, s->m * width, sizeof *a, err));
  COH_TRY(coh_network_apply(s->plan, s->dev, s->params, l, s->m, s->x, a, err));
  for (size_t b = 0; b < s->m; b++)
    memcpy(to + b * stride, a + b * width, width * sizeof *a);
cleanup:
  free(a);
  return rc;
}

/* [A_{q-1} | A_{q-2} | ... | X], or its first part where there are no paths. */
static int fill_features(pruning *s, coh_error *err) {
  int rc;
  size_t F = count_features(s->plan, s->q), at = 0, d = s->plan->d_in;
  COH_TRY(coh_alloc(&s->features, s->m * F, sizeof *s->features, err));
  for (size_t l = s->q; l-- > 0 && at < F; at += s->plan->layer[l].out)
    COH_TRY(put_activations(s, l, F, s->features + at, err));
  for (size_t b = 0; b < s->m && at < F; b++)
    memcpy(s->features + b * F + at, s->x + b * d, d * sizeof *s->x);
  rc = COH_OK;
cleanup:
  return rc;
}

/* What the layers above read from this one. */
static int fill_readings(pruning *s, coh_error *err) {
  int rc;
  const coh_plan *p = s->plan;
  size_t K = p->layer[s->q].out, at = 0;
  double *a = NULL;
  COH_TRY(coh_alloc(&a, s->m * K, sizeof *a, err));
  COH_TRY(coh_alloc(&s->targets, s->m * s->T, sizeof *s->targets, err));
  COH_TRY(put_activations(s, s->q, K, a, err));
  for (size_t l = s->q + 1; l < p->L; at += p->layer[l++].out) {
    const double *v = coh_weights_between(p, s->params, s->q, l);
    size_t O = p->layer[l].out;
    for (size_t i = 0; v && i < s->m * K; i++)
      for (size_t o = 0; o < O; o++)
        s->targets[i / K * s->T + at + o] += a[i] * v[i % K * O + o];
  }
cleanup:
  free(a);
  return rc;
}

/* Gradients of every output at the first rows of the sample, spread evenly: rows [R * O,
 * P] on the host. */
static int gradients(const pruning *s, size_t R, double **rows, coh_error *err) {
  int rc;
  const coh_plan *p = s->plan;
  const coh_device_ops *ops = s->dev->ops;
  size_t O = p->n_out, d = p->d_in, N = R * O;
  coh_ensemble *ens = NULL;
  coh_workspace *work = NULL;
  double *x = NULL, *unit = NULL;
  void *dx = NULL, *du = NULL, *dr = NULL, *out;
  COH_TRY(coh_alloc(&x, N * d, sizeof *x, err));
  COH_TRY(coh_alloc(&unit, N * O, sizeof *unit, err));
  COH_TRY(coh_alloc(rows, N * p->P, sizeof **rows, err));
  for (size_t i = 0; i < N; i++) {
    memcpy(x + i * d, s->x + i / O * s->m / R * d, d * sizeof *x);
    unit[i * O + i % O] = 1;
  }
  COH_TRY(coh_ensemble_create(p, s->dev, 1, &ens, err));
  COH_TRY(coh_ensemble_set(ens, s->params, err));
  COH_TRY(coh_workspace_create(p, s->dev, 1, N, true, &work, err));
  COH_TRY(ops->alloc(s->dev, N * d * sizeof *x, &dx, err));
  COH_TRY(ops->alloc(s->dev, N * O * sizeof *x, &du, err));
  COH_TRY(ops->alloc(s->dev, N * p->P * sizeof *x, &dr, err));
  COH_TRY(ops->upload(s->dev, dx, x, N * d * sizeof *x, err));
  COH_TRY(ops->upload(s->dev, du, unit, N * O * sizeof *x, err));
  COH_TRY(coh_forward(ens, work, N, dx, 0, true, &out, err));
  COH_TRY(coh_backward_rows(ens, work, N, dx, du, dr, err));
  COH_TRY(ops->download(s->dev, *rows, dr, N * p->P * sizeof *x, err));
cleanup:
  s->dev->ops->free(s->dev, dx);
  s->dev->ops->free(s->dev, du);
  s->dev->ops->free(s->dev, dr);
  coh_workspace_destroy(work);
  coh_ensemble_destroy(ens);
  free(x);
  free(unit);
  return rc;
}

/* Mean square of d output / d reading: a bias has the same derivative. */
static int fill_weights(pruning *s, coh_error *err) {
  int rc;
  const coh_plan *p = s->plan;
  size_t R = GAIN_ELEMENTS / (p->P * p->n_out), at = 0;
  double *rows = NULL;
  if (R > s->m) R = s->m;
  if (R < 1) R = 1;
  COH_TRY(coh_alloc(&s->weight, s->T, sizeof *s->weight, err));
  COH_TRY(gradients(s, R, &rows, err));
  for (size_t l = s->q + 1; l < p->L; at += p->layer[l++].out)
    for (size_t o = 0; o < p->layer[l].out; o++)
      for (size_t i = 0; i < R * p->n_out; i++) {
        double g = rows[i * p->P + p->layer[l].b + o];
        s->weight[at + o] += g * g / (double)(R * p->n_out);
      }
cleanup:
  free(rows);
  return rc;
}

static int pruning_create(const coh_plan *p, const double *params, size_t q,
                          const coh_dataset *data, pruning *s, coh_error *err) {
  int rc;
  size_t F = count_features(p, q);
  coh_act act = p->layer[q].act;
  *s = (pruning){.plan = p, .params = params, .q = q};
  COH_TRY(coh_device_open(COH_DEVICE_CPU, COH_F64, &s->dev, err));
  COH_TRY(sample(s, data, err));
  COH_TRY(fill_features(s, err));
  COH_TRY(fill_readings(s, err));
  COH_TRY(fill_weights(s, err));
  COH_TRY(coh_alloc(&s->w, p->layer[q].out * (F + 1), sizeof *s->w, err));
  read_vectors(p, params, q, s->w);
  const coh_layer_data rows = {
      .act = act, .n = s->m, .n_out = p->n_out, .dtype = COH_F64, .x = s->features};
  COH_TRY(coh_probe_create(&rows, F + 1,
                           has_paths(p) ? coh_act_symmetry(act) : COH_SYM_NONE, s->m,
                           &s->probe, err));
cleanup:
  return rc;
}

/* ---- the network without some neurons of a layer --------------------------------- */

/* Rows keep[0], keep[1], ... of a block [*, O]; all if keep is NULL. */
static void copy_rows(size_t count, const size_t *keep, size_t O, const double *from,
                      double *to) {
  for (size_t k = 0; from && k < count; k++)
    memcpy(to + k * O, from + (keep ? keep[k] : k) * O, O * sizeof *to);
}

/* Columns keep[...] of a block [rows, from_O]. */
static void copy_columns(size_t rows, size_t count, const size_t *keep, size_t from_O,
                         const double *from, double *to) {
  for (size_t i = 0; from && i < rows; i++)
    for (size_t k = 0; k < count; k++) to[i * count + k] = from[i * from_O + keep[k]];
}

/* All that does not touch layer q, and the vectors of its neurons that are kept. */
static void copy_others(const coh_plan *p, const double *params, size_t q,
                        const size_t *keep, const coh_plan *next, double *to) {
  for (size_t l = 0; l < p->L; l++) {
    size_t O = p->layer[l].out, count = next->layer[l].out;
    for (size_t from = 0; from <= l; from++) {
      bool input = from == 0;
      if (!input && from - 1 == q) continue;
      size_t rows = input ? p->d_in : p->layer[from - 1].out;
      const double *v = input ? weights_from_input(p, params, l)
                              : coh_weights_between(p, params, from - 1, l);
      double *u = (double *)(input ? weights_from_input(next, to, l)
                                   : coh_weights_between(next, to, from - 1, l));
      if (l == q)
        copy_columns(rows, count, keep, O, v, u);
      else
        copy_rows(rows, NULL, O, v, u);
    }
    if (l == q)
      copy_columns(1, count, keep, O, params + p->layer[l].b, to + next->layer[l].b);
    else
      copy_rows(1, NULL, O, params + p->layer[l].b, to + next->layer[l].b);
  }
}

/* What the layers above read instead. */
static void put_fit(const pruning *s, const coh_fit *f, const size_t *keep,
                    const coh_plan *next, double *to) {
  size_t at = 0;
  for (size_t l = s->q + 1; l < next->L; at += next->layer[l++].out) {
    const coh_layer *y = &next->layer[l];
    size_t O = y->out;
    double *v = (double *)coh_weights_between(next, to, s->q, l);
    for (size_t k = 0; v && k < next->layer[s->q].out; k++)
      memcpy(v + k * O, f->a + keep[k] * f->T + at, O * sizeof *v);
    double *paths = y->skip ? to + y->s + y->skip_in * O - (f->B - 1) * O : NULL;
    for (size_t d = 0; d < f->B; d++)
      for (size_t o = 0; o < O; o++) {
        double *base = d + 1 == f->B ? to + y->b : paths + d * O;
        base[o] += f->base[d * f->T + at + o];
      }
  }
}

/* ---- neurons that are simply left out --------------------------------------------- */

/* Mean square change of the answers on the sampled rows without the neuron; now [m,
 * n_out] are the answers with it, without [P] and out [m, n_out] room. */
static int change_without(const pruning *s, size_t neuron, const double *now,
                          double *without, double *out, double *change, coh_error *err) {
  const coh_plan *p = s->plan;
  size_t count = s->m * p->n_out;
  memcpy(without, s->params, p->P * sizeof *without);
  for (size_t l = s->q + 1; l < p->L; l++) {
    size_t O = p->layer[l].out;
    double *v = (double *)coh_weights_between(p, without, s->q, l);
    if (v) memset(v + neuron * O, 0, O * sizeof *v);
  }
  *change = 0;
  int rc = coh_network_apply(p, s->dev, without, p->L - 1, s->m, s->x, out, err);
  for (size_t i = 0; i < count && !rc; i++)
    *change += (out[i] - now[i]) * (out[i] - now[i]) / (double)count;
  return rc;
}

/* The neuron without which the answers change least, and by how much. What the layers
 * above read of it may cancel there. */
static int find_idle(const pruning *s, size_t *neuron, double *least, coh_error *err) {
  int rc;
  const coh_plan *p = s->plan;
  size_t count = s->m * p->n_out;
  double *now = NULL, *out = NULL, *without = NULL, change;
  *least = INFINITY;
  *neuron = 0;
  COH_TRY(coh_alloc(&now, count, sizeof *now, err));
  COH_TRY(coh_alloc(&out, count, sizeof *out, err));
  COH_TRY(coh_alloc(&without, p->P, sizeof *without, err));
  COH_TRY(coh_network_apply(p, s->dev, s->params, p->L - 1, s->m, s->x, now, err));
  for (size_t k = 0; k < p->layer[s->q].out; k++) {
    COH_TRY(change_without(s, k, now, without, out, &change, err));
    if (change < *least) *least = change, *neuron = k;
  }
cleanup:
  free(now);
  free(out);
  free(without);
  return rc;
}

/* Drops the one neuron, if any, whose reading nobody minds. */
static int leave_out(const pruning *s, double allowed, size_t most, coh_pruned *out,
                     coh_error *err) {
  size_t idle;
  double change;
  if (out->K < 2 || most == 0) return COH_OK;
  int rc = find_idle(s, &idle, &change, err);
  if (rc || change > allowed) return rc;
  out->K--;
  for (size_t k = idle; k < out->K; k++) out->kept[k] = k + 1;
  return COH_OK;
}

/* What the layers above read, as it is. */
static void put_rows(const pruning *s, size_t count, const size_t *keep,
                     const coh_plan *next, double *to) {
  for (size_t l = s->q + 1; l < next->L; l++)
    copy_rows(count, keep, next->layer[l].out,
              coh_weights_between(s->plan, s->params, s->q, l),
              (double *)coh_weights_between(next, to, s->q, l));
}

int coh_prune_layer(const coh_plan *plan, const double *params, size_t layer,
                    const coh_dataset *data, double allowed, size_t most, coh_pruned *out,
                    coh_error *err) {
  int rc;
  pruning s = {0};
  coh_fit f = {0};
  size_t K = plan->layer[layer].out, width[COH_MAX_LAYERS];
  *out = (coh_pruned){.of = K};
  COH_TRY(pruning_create(plan, params, layer, data, &s, err));
  COH_TRY(coh_fit_needed(&s.probe, K, s.w, s.T, s.targets, s.weight, allowed, 0,
                         most < K ? K - most : 1, &f, err));
  COH_TRY(coh_alloc(&out->kept, K, sizeof *out->kept, err));
  for (size_t k = 0; k < K; k++)
    if (f.needed[k]) out->kept[out->K++] = k;
  bool fitted = out->K < K;
  if (!fitted) COH_TRY(leave_out(&s, allowed, most, out, err));
  for (size_t l = 0; l < plan->L; l++) width[l] = plan->layer[l].out;
  width[layer] = out->K;
  COH_TRY(plan_like(plan, width, has_paths(plan), &out->plan, err));
  COH_TRY(coh_alloc(&out->params, out->plan.P, sizeof *out->params, err));
  copy_others(plan, params, layer, out->kept, &out->plan, out->params);
  if (fitted)
    put_fit(&s, &f, out->kept, &out->plan, out->params);
  else
    put_rows(&s, out->K, out->kept, &out->plan, out->params);
cleanup:
  coh_fit_free(&f);
  pruning_free(&s);
  if (rc) coh_pruned_free(out);
  return rc;
}

void coh_pruned_free(coh_pruned *p) {
  free(p->kept);
  free(p->params);
  *p = (coh_pruned){0};
}

/* ---- linear paths ---------------------------------------------------------------- */

/* What is left of the linear path of layer q + 1 once some neurons of layer q are turned
 * around: the square of path + c sum of their w a, as a form in which neurons these are.
 */
typedef struct turning {
  size_t K;
  double *gram; /* [K + 1, K + 1] products of c w a of all neurons, and of the path */
  bool *now;    /* [K] */
  bool *best;   /* [K] */
} turning;

static double left_over(const turning *t) {
  size_t K = t->K, n = K + 1;
  double sum = t->gram[K * n + K];
  for (size_t i = 0; i < K; i++) {
    if (!t->now[i]) continue;
    sum += t->gram[i * n + i] + 2 * t->gram[i * n + K];
    for (size_t j = 0; j < i; j++)
      if (t->now[j]) sum += 2 * t->gram[i * n + j];
  }
  return sum;
}

/* One neuron after the other, for as long as less is left over. */
static void descend(turning *t) {
  double least = left_over(t);
  for (bool better = true; better;) {
    better = false;
    for (size_t k = 0; k < t->K; k++) {
      t->now[k] = !t->now[k];
      double left = left_over(t);
      better |= left < least * (1 - 1e-12);
      if (left < least)
        least = left;
      else
        t->now[k] = !t->now[k];
    }
  }
  memcpy(t->best, t->now, t->K * sizeof *t->now);
}

/* All sets of neurons where that is quick. */
static void search(turning *t) {
  double least = INFINITY;
  if (t->K > MOST_SEARCHED) {
    descend(t);
    return;
  }
  for (size_t set = 0; set < (size_t)1 << t->K; set++) {
    for (size_t k = 0; k < t->K; k++) t->now[k] = set >> k & 1;
    double left = left_over(t);
    if (!(left < least * (1 - 1e-12))) continue;
    least = left;
    memcpy(t->best, t->now, t->K * sizeof *t->now);
  }
}

static double dot(size_t n, const double *u, const double *v) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += u[i] * v[i];
  return sum;
}

/* w [K, F + 1] of layer q: products of the outer products w a are products of both. */
static int fill_turning(const coh_plan *p, const double *params, size_t q,
                        const double *w, turning *t, coh_error *err) {
  int rc;
  const coh_layer *up = &p->layer[q + 1];
  size_t K = p->layer[q].out, F = count_features(p, q), O = up->out, n = K + 1;
  const double *a = params + up->w, *path = params + up->s;
  double c = coh_act_linear_part(p->layer[q].act);
  t->K = K;
  COH_TRY(coh_alloc(&t->gram, n * n, sizeof *t->gram, err));
  COH_TRY(coh_alloc(&t->now, K, sizeof *t->now, err));
  COH_TRY(coh_alloc(&t->best, K, sizeof *t->best, err));
  for (size_t i = 0; i < K; i++) {
    const double *wi = w + i * (F + 1), *ai = a + i * O;
    for (size_t j = 0; j <= i; j++)
      t->gram[i * n + j] = c * c * dot(F, wi, w + j * (F + 1)) * dot(O, ai, a + j * O);
    for (size_t f = 0; f < F; f++)
      t->gram[i * n + K] += c * wi[f] * dot(O, ai, path + f * O);
  }
  t->gram[K * n + K] = dot(F * O, path, path);
cleanup:
  return rc;
}

/* Turns around neuron k of layer q; its constant goes to the bias above. */
static void turn(const coh_plan *p, double *params, size_t q, size_t k, double c) {
  const coh_layer *l = &p->layer[q], *up = &p->layer[q + 1];
  for (size_t o = 0; o < up->out; o++)
    params[up->b + o] += c * params[l->b + k] * params[up->w + k * up->out + o];
  for (size_t i = 0; i < l->in; i++) params[l->w + i * l->out + k] *= -1;
  for (size_t i = 0; l->skip && i < l->skip_in; i++) params[l->s + i * l->out + k] *= -1;
  params[l->b + k] *= -1;
}

/* The neurons of layer q that the path of the layer above says are the wrong way round.
 */
static int turn_layer(const coh_plan *p, double *params, size_t q, coh_error *err) {
  int rc;
  size_t K = p->layer[q].out;
  double *w = NULL;
  turning t = {0};
  COH_TRY(coh_alloc(&w, K * (count_features(p, q) + 1), sizeof *w, err));
  read_vectors(p, params, q, w);
  COH_TRY(fill_turning(p, params, q, w, &t, err));
  search(&t);
  for (size_t k = 0; k < K; k++)
    if (t.best[k]) turn(p, params, q, k, coh_act_linear_part(p->layer[q].act));
cleanup:
  free(w);
  free(t.gram);
  free(t.now);
  free(t.best);
  return rc;
}

int coh_without_paths(const coh_plan *plan, const double *params, coh_plan *out,
                      double **out_params, coh_error *err) {
  int rc;
  double *turned = NULL;
  size_t width[COH_MAX_LAYERS];
  *out_params = NULL;
  COH_TRY(coh_alloc(&turned, plan->P, sizeof *turned, err));
  memcpy(turned, params, plan->P * sizeof *turned);
  for (size_t q = plan->L - 1; q-- > 0;)
    if (has_paths(plan)) COH_TRY(turn_layer(plan, turned, q, err));
  for (size_t l = 0; l < plan->L; l++) width[l] = plan->layer[l].out;
  COH_TRY(plan_like(plan, width, false, out, err));
  COH_TRY(coh_alloc(out_params, out->P, sizeof **out_params, err));
  for (size_t l = 0; l < plan->L; l++) {
    const coh_layer *from = &plan->layer[l], *to = &out->layer[l];
    copy_rows(from->in, NULL, from->out, turned + from->w, *out_params + to->w);
    copy_rows(1, NULL, from->out, turned + from->b, *out_params + to->b);
  }
cleanup:
  free(turned);
  return rc;
}
