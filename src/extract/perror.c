/* perror.c - how far a recovered network's parameters are from the teacher's, once order,
 * signs, lengths and linear paths are resolved. Uses base, net (plans only).
 *
 * Undoing a flip of an even_linear neuron adds a linear path from everything that feeds
 * it to everything it feeds. So that this is always possible, any layer may read any
 * earlier one here, whether its plan has a skip or not.
 */
#include "extract/private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = COH_MAX_LAYERS };

/* Layer l adds up m[l][s] [width[s], width[l + 1]] of the sources s <= l: s = 0 the
 * inputs, s > 0 the output of layer s - 1. NULL stands for zeros. */
typedef struct paths {
  size_t L, width[MAX + 1];
  double *m[MAX][MAX];
  double *b[MAX];
} paths;

static void paths_free(paths *p) {
  if (!p) return;
  for (size_t l = 0; l < p->L; l++) {
    for (size_t s = 0; s <= l; s++) free(p->m[l][s]);
    free(p->b[l]);
  }
  free(p);
}

static int copy(double **out, const double *from, size_t n, coh_error *err) {
  int rc = coh_alloc(out, n, sizeof **out, err);
  if (rc == COH_OK) memcpy(*out, from, n * sizeof **out);
  return rc;
}

static int paths_create(const coh_plan *plan, const double *params, paths **out,
                        coh_error *err) {
  int rc;
  paths *p;
  COH_TRY(coh_alloc(out, 1, sizeof **out, err));
  p = *out;
  p->L = plan->L;
  p->width[0] = plan->d_in;
  for (size_t l = 0; l < p->L; l++) {
    const coh_layer *y = &plan->layer[l];
    p->width[l + 1] = y->out;
    COH_TRY(copy(&p->m[l][l], params + y->w, y->in * y->out, err));
    COH_TRY(copy(&p->b[l], params + y->b, y->out, err));
    const double *from = params + y->s;
    for (size_t k = l; y->skip && k-- > 0; from += p->width[k] * y->out)
      COH_TRY(copy(&p->m[l][k], from, p->width[k] * y->out, err));
  }
cleanup:
  return rc;
}

static bool same_shape(const coh_plan *a, const coh_plan *b) {
  if (a->L != b->L || a->d_in != b->d_in) return false;
  for (size_t l = 0; l < a->L; l++) {
    if (a->layer[l].out != b->layer[l].out) return false;
    if (l + 1 < a->L && a->layer[l].act != b->layer[l].act) return false;
  }
  return true;
}

/* ---- pairing the neurons of one layer ---- */

typedef struct pairing {
  size_t in, out;
  const uint8_t *mask; /* [in] or NULL */
  bool any_sign, any_length;
  double *teacher, *found; /* [out, in + 1] incoming weights and bias, masked ones 0 */
  double *cost;            /* [out, out] */
  size_t *order;           /* [out] the found neuron for each of the teacher's */
} pairing;

static void incoming(const paths *p, size_t l, const uint8_t *mask, double *v) {
  size_t in = p->width[l], out = p->width[l + 1];
  for (size_t j = 0; j < out; j++, v += in + 1) {
    for (size_t i = 0; i < in; i++) v[i] = mask && !mask[i] ? 0 : p->m[l][l][i * out + j];
    v[in] = p->b[l][j];
  }
}

static double length(size_t n, const double *v) {
  double s = 0;
  for (size_t i = 0; i < n; i++) s += v[i] * v[i];
  return sqrt(s);
}

/* Distance of a pair; its sign. Directions only, where any length will do. */
static double pair_cost(const pairing *k, size_t j, size_t i, double *sign) {
  size_t n = k->in + 1;
  const double *u = k->teacher + j * n, *v = k->found + i * n;
  double nu = k->any_length ? length(n, u) : 1, nv = k->any_length ? length(n, v) : 1;
  double dot = 0, s = 0;
  if (nu == 0) nu = 1;
  if (nv == 0) nv = 1;
  for (size_t d = 0; d < n; d++) dot += u[d] * v[d];
  *sign = k->any_sign && dot < 0 ? -1 : 1;
  for (size_t d = 0; d < n; d++) {
    double x = u[d] / nu - *sign * v[d] / nv;
    s += x * x;
  }
  return sqrt(s);
}

static int pairing_create(const paths *t, const paths *f, size_t l, coh_symmetry sym,
                          const uint8_t *mask, pairing *k, coh_error *err) {
  int rc;
  double sign;
  *k = (pairing){.in = t->width[l], .out = t->width[l + 1], .mask = mask};
  k->any_sign = coh_symmetry_has_sign(sym);
  k->any_length = sym == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING;
  COH_TRY(coh_alloc(&k->teacher, k->out * (k->in + 1), sizeof *k->teacher, err));
  COH_TRY(coh_alloc(&k->found, k->out * (k->in + 1), sizeof *k->found, err));
  COH_TRY(coh_alloc(&k->cost, k->out * k->out, sizeof *k->cost, err));
  COH_TRY(coh_alloc(&k->order, k->out, sizeof *k->order, err));
  incoming(t, l, mask, k->teacher);
  incoming(f, l, mask, k->found);
  for (size_t j = 0; j < k->out; j++)
    for (size_t i = 0; i < k->out; i++) {
      double *c = &k->cost[j * k->out + i];
      *c = pair_cost(k, j, i, &sign);
      if (!isfinite(*c))
        COH_TRY(
            coh_fail(err, COH_ENUMERIC, "parameter error: layer %zu is not finite", l));
    }
  COH_TRY(coh_assign(k->out, k->out, k->cost, k->order, err));
cleanup:
  return rc;
}

static void pairing_free(pairing *k) {
  free(k->order);
  free(k->cost);
  free(k->found);
  free(k->teacher);
}

/* ---- transformations that leave the function as it is ---- */

/* New neuron j of layer l is old neuron order[j]. */
static int permute(paths *p, size_t l, const size_t *order, coh_error *err) {
  int rc;
  size_t out = p->width[l + 1];
  double *old = NULL;
  for (size_t s = 0; s <= l + 1; s++) {
    double *m = s <= l ? p->m[l][s] : p->b[l];
    size_t rows = s <= l ? p->width[s] : 1;
    if (!m) continue;
    free(old);
    COH_TRY(copy(&old, m, rows * out, err));
    for (size_t i = 0; i < rows; i++)
      for (size_t j = 0; j < out; j++) m[i * out + j] = old[i * out + order[j]];
  }
  for (size_t r = l + 1; r < p->L; r++) {
    double *m = p->m[r][l + 1];
    size_t each = p->width[r + 1];
    if (!m) continue;
    free(old);
    COH_TRY(copy(&old, m, out * each, err));
    for (size_t j = 0; j < out; j++)
      memcpy(m + j * each, old + order[j] * each, each * sizeof *m);
  }
  rc = COH_OK;
cleanup:
  free(old);
  return rc;
}

/* Multiplies what comes into neuron j of layer l by `in`, what goes out of it by `out`.
 */
static void rescale(paths *p, size_t l, size_t j, double in, double out) {
  size_t width = p->width[l + 1];
  for (size_t s = 0; s <= l; s++)
    for (size_t i = 0; i < p->width[s] && p->m[l][s]; i++)
      p->m[l][s][i * width + j] *= in;
  p->b[l][j] *= in;
  for (size_t r = l + 1; r < p->L; r++)
    for (size_t o = 0; o < p->width[r + 1] && p->m[r][l + 1]; o++)
      p->m[r][l + 1][j * p->width[r + 1] + o] *= out;
}

/* Adds c times (incoming weights of neuron j of layer l) outer (its outgoing row to layer
 * r). */
static int add_linear(paths *p, size_t l, size_t j, double c, size_t r, coh_error *err) {
  int rc = COH_OK;
  size_t out = p->width[r + 1], width = p->width[l + 1];
  const double *row = p->m[r][l + 1] + j * out;
  for (size_t s = 0; s <= l; s++) {
    const double *from = p->m[l][s];
    if (!from) continue;
    if (!p->m[r][s])
      COH_TRY(coh_alloc(&p->m[r][s], p->width[s] * out, sizeof(double), err));
    for (size_t i = 0; i < p->width[s]; i++)
      for (size_t o = 0; o < out; o++)
        p->m[r][s][i * out + o] += c * from[i * width + j] * row[o];
  }
  for (size_t o = 0; o < out; o++) p->b[r][o] += c * p->b[l][j] * row[o];
cleanup:
  return rc;
}

/* Neuron j of layer l takes the opposite incoming weights. odd: outgoing rows change
 * sign; odd_constant, sigma(z) = 1 - sigma(-z): also r is added to the biases;
 * even_linear, sigma(z) = sigma(-z) + c z: outgoing rows stay, c z r goes into linear
 * paths. */
static int flip(paths *p, size_t l, size_t j, coh_symmetry sym, double c,
                coh_error *err) {
  int rc = COH_OK;
  for (size_t r = l + 1; r < p->L; r++) {
    if (!p->m[r][l + 1]) continue;
    const double *row = p->m[r][l + 1] + j * p->width[r + 1];
    if (coh_symmetry_is_even_linear(sym)) COH_TRY(add_linear(p, l, j, c, r, err));
    for (size_t o = 0; o < p->width[r + 1] && sym == COH_SYM_ODD_CONSTANT; o++)
      p->b[r][o] += row[o];
  }
  rescale(p, l, j, -1, coh_symmetry_is_even_linear(sym) ? 1 : -1);
cleanup:
  return rc;
}

static int align_layer(const paths *t, paths *f, size_t l, coh_act act,
                       const uint8_t *mask, coh_error *err) {
  int rc;
  coh_symmetry sym = coh_act_symmetry(act);
  pairing k;
  COH_TRY(pairing_create(t, f, l, sym, mask, &k, err));
  COH_TRY(permute(f, l, k.order, err));
  for (size_t j = 0; j < k.out; j++) {
    double sign;
    pair_cost(&k, j, k.order[j], &sign);
    if (sign < 0) COH_TRY(flip(f, l, j, sym, coh_act_linear_part(act), err));
    double want = length(k.in + 1, k.teacher + j * (k.in + 1));
    double have = length(k.in + 1, k.found + k.order[j] * (k.in + 1));
    if (k.any_length && want > 0 && have > 0) rescale(f, l, j, want / have, have / want);
  }
cleanup:
  pairing_free(&k);
  return rc;
}

/* ---- the error ---- */

typedef struct sums {
  double max, squares;
  size_t count;
} sums;

static void add_error(sums *e, size_t rows, size_t cols, const double *t, const double *f,
                      const uint8_t *mask) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < cols && (!mask || mask[i]); j++) {
      double x = (f ? f[i * cols + j] : 0) - (t ? t[i * cols + j] : 0);
      e->max = fmax(e->max, fabs(x));
      e->squares += x * x;
      e->count += t != NULL;
    }
}

static sums difference(const paths *t, const paths *f, const uint8_t *mask) {
  sums e = {0};
  for (size_t l = 0; l < t->L; l++) {
    for (size_t s = 0; s <= l; s++)
      if (t->m[l][s] || f->m[l][s])
        add_error(&e, t->width[s], t->width[l + 1], t->m[l][s], f->m[l][s],
                  s == 0 ? mask : NULL);
    add_error(&e, 1, t->width[l + 1], t->b[l], f->b[l], NULL);
  }
  return e;
}

int coh_parameter_error(const coh_plan *teacher, const double *tp, const coh_plan *found,
                        const double *fp, const uint8_t *mask, bool *comparable,
                        double *max, double *rmse, coh_error *err) {
  int rc = COH_OK;
  paths *t = NULL, *f = NULL;
  *max = *rmse = NAN;
  *comparable = same_shape(teacher, found);
  if (!*comparable) return COH_OK;
  COH_TRY(paths_create(teacher, tp, &t, err));
  COH_TRY(paths_create(found, fp, &f, err));
  for (size_t l = 0; l + 1 < teacher->L; l++)
    COH_TRY(align_layer(t, f, l, teacher->layer[l].act, l == 0 ? mask : NULL, err));
  sums e = difference(t, f, mask);
  if (!isfinite(e.squares))
    COH_TRY(coh_fail(err, COH_ENUMERIC, "parameter error: a parameter is not finite"));
  *max = e.max;
  *rmse = sqrt(e.squares / (double)(e.count > 0 ? e.count : 1));
cleanup:
  paths_free(f);
  paths_free(t);
  return rc;
}
