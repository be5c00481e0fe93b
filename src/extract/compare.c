/* compare.c - recovered neurons beside those of the teacher: section 6 of the contract.
 * Uses base. */
#include "extract/private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct side { /* one of the two networks */
  size_t count;
  const double *a; /* [count, O] */
  double *unit;    /* [count, D] masked [w; b] over its norm, zeros for a zero vector */
  double *norm;    /* [count] of the outgoing weights */
} side;

typedef struct setting {
  side teacher, found;
  size_t D, O;
  bool any_sign, any_out_sign;
} setting;

static double norm_of(size_t n, const double *v) {
  double s = 0;
  for (size_t i = 0; i < n; i++) s += v[i] * v[i];
  return sqrt(s);
}

/* u.v / (|u| |v|) as a distance: |u - v|^2 / 2 of unit vectors. 1 where one of them is
 * zero. */
static double unit_distance(size_t n, const double *u, const double *v, double sign) {
  double s = 0, uu = 0, vv = 0;
  for (size_t i = 0; i < n; i++) {
    double x = u[i] - sign * v[i];
    s += x * x;
    uu += u[i] * u[i];
    vv += v[i] * v[i];
  }
  return uu > 0 && vv > 0 ? s / 2 : 1;
}

static double sign_between(size_t n, const double *u, const double *v) {
  double s = 0;
  for (size_t i = 0; i < n; i++) s += u[i] * v[i];
  return s < 0 ? -1 : 1;
}

static double clip(double d) {
  return d > 1e-16 ? d : 1e-16;
}

static double cosine_distance(size_t n, const double *u, const double *v, bool any_sign) {
  double nu = norm_of(n, u), nv = norm_of(n, v), s = 0;
  if (nu == 0 || nv == 0) return 1;
  double sign = any_sign ? sign_between(n, u, v) : 1;
  for (size_t i = 0; i < n; i++) {
    double x = u[i] / nu - sign * v[i] / nv;
    s += x * x;
  }
  return s / 2;
}

static int side_init(side *s, size_t count, const double *w, const double *a, size_t D,
                     size_t O, const uint8_t *mask, coh_error *err) {
  int rc;
  s->count = count;
  s->a = a;
  COH_TRY(coh_alloc(&s->unit, count * D, sizeof *s->unit, err));
  COH_TRY(coh_alloc(&s->norm, count, sizeof *s->norm, err));
  for (size_t i = 0; i < count; i++) {
    double *u = s->unit + i * D;
    for (size_t d = 0; d < D; d++) u[d] = mask && !mask[d] ? 0 : w[i * D + d];
    double norm = norm_of(D, u);
    for (size_t d = 0; d < D && norm > 0; d++) u[d] /= norm;
    s->norm[i] = norm_of(O, a + i * O);
    if (!isfinite(norm) || !isfinite(s->norm[i]))
      COH_TRY(coh_fail(err, COH_ENUMERIC, "comparison: neuron %zu has weights not finite",
                       i));
  }
cleanup:
  return rc;
}

static double pair_distance(const setting *k, const double *u, const double *v,
                            double *sign) {
  *sign = k->any_sign ? sign_between(k->D, u, v) : 1;
  return clip(unit_distance(k->D, u, v, *sign));
}

/* Neuron i of `from` and its nearest neuron of `to`, the lowest index of equals. */
static coh_match nearest(const setting *k, const side *from, size_t i, const side *to) {
  coh_match m = {.neuron = i, .partner = SIZE_MAX, .w_distance = INFINITY, .sign = 1};
  m.out_norm = from->norm[i];
  for (size_t j = 0; j < to->count; j++) {
    double sign, d = pair_distance(k, from->unit + i * k->D, to->unit + j * k->D, &sign);
    if (d >= m.w_distance) continue;
    m.w_distance = d;
    m.partner = j;
    m.sign = sign;
  }
  if (m.partner == SIZE_MAX) {
    m.w_distance = m.a_distance = 1;
    return m;
  }
  m.a_distance = clip(cosine_distance(k->O, from->a + i * k->O, to->a + m.partner * k->O,
                                      k->any_out_sign));
  return m;
}

static int larger_first(const void *a, const void *b) {
  const coh_match *x = a, *y = b;
  if (x->out_norm != y->out_norm) return x->out_norm > y->out_norm ? -1 : 1;
  return x->neuron < y->neuron ? -1 : x->neuron > y->neuron;
}

static void match_teacher(const setting *k, coh_comparison *c) {
  for (size_t i = 0; i < k->teacher.count; i++)
    c->match[i] = nearest(k, &k->teacher, i, &k->found);
  qsort(c->match, k->teacher.count, sizeof *c->match, larger_first);
  for (size_t i = 0; i < k->teacher.count; i++) {
    const coh_match *m = &c->match[i];
    c->w_max = fmax(c->w_max, m->w_distance);
    c->a_max = fmax(c->a_max, m->a_distance);
    c->w_mean += m->w_distance / (double)k->teacher.count;
    c->a_mean += m->a_distance / (double)k->teacher.count;
  }
}

static int find_excess(const setting *k, coh_comparison *c, coh_error *err) {
  int rc;
  bool *matched = NULL;
  COH_TRY(coh_alloc(&matched, k->found.count, sizeof *matched, err));
  for (size_t i = 0; i < k->teacher.count; i++)
    if (c->match[i].partner != SIZE_MAX) matched[c->match[i].partner] = true;
  for (size_t j = 0; j < k->found.count; j++)
    if (!matched[j]) c->excess[c->n_excess++] = nearest(k, &k->found, j, &k->teacher);
cleanup:
  free(matched);
  return rc;
}

static int assign_pairs(const setting *k, coh_comparison *c, coh_error *err) {
  int rc;
  size_t R = k->teacher.count, K = k->found.count;
  double *cost = NULL, sign;
  COH_TRY(coh_alloc(&cost, R * K, sizeof *cost, err));
  for (size_t i = 0; i < R; i++)
    for (size_t j = 0; j < K; j++)
      cost[i * K + j] =
          pair_distance(k, k->teacher.unit + i * k->D, k->found.unit + j * k->D, &sign);
  COH_TRY(coh_assign(R, K, cost, c->assigned, err));
cleanup:
  free(cost);
  return rc;
}

int coh_compare(coh_symmetry symmetry, size_t R, const double *tw, const double *ta,
                size_t K, const double *w, const double *a, size_t D, size_t O,
                const uint8_t *mask, coh_comparison **out, coh_error *err) {
  int rc;
  setting k = {.D = D, .O = O, .any_sign = coh_symmetry_has_sign(symmetry)};
  coh_comparison *c = NULL;
  k.any_out_sign = symmetry == COH_SYM_ODD || symmetry == COH_SYM_ODD_CONSTANT;
  *out = NULL;
  COH_TRY(side_init(&k.teacher, R, tw, ta, D, O, mask, err));
  COH_TRY(side_init(&k.found, K, w, a, D, O, mask, err));
  COH_TRY(coh_alloc(&c, 1, sizeof *c, err));
  c->true_size = R;
  c->found_size = K;
  COH_TRY(coh_alloc(&c->match, R, sizeof *c->match, err));
  COH_TRY(coh_alloc(&c->excess, K, sizeof *c->excess, err));
  COH_TRY(coh_alloc(&c->assigned, R, sizeof *c->assigned, err));
  match_teacher(&k, c);
  COH_TRY(find_excess(&k, c, err));
  COH_TRY(assign_pairs(&k, c, err));
  *out = c;
  c = NULL;
cleanup:
  coh_comparison_destroy(c);
  free(k.found.norm);
  free(k.found.unit);
  free(k.teacher.norm);
  free(k.teacher.unit);
  return rc;
}

void coh_comparison_destroy(coh_comparison *c) {
  if (!c) return;
  free(c->assigned);
  free(c->excess);
  free(c->match);
  free(c);
}
