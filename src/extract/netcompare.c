/* netcompare.c - comparison of whole networks, layer by layer, in the teacher's basis.
 * One layer's comparison stands in compare.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/rebuild.h"

/* How the neurons of one recovered layer stand to the teacher's R: partner, and the
 * factor by which the partner's pre-activation is the teacher's (sign, and length for
 * scaling). */
typedef struct layer_map {
  size_t R;
  size_t *partner; /* [R], SIZE_MAX = none */
  double *factor;  /* [R] */
} layer_map;

static void map_free(layer_map *m) {
  free(m->partner);
  free(m->factor);
  *m = (layer_map){0};
}

static double pair_factor(coh_symmetry sym, size_t D, const uint8_t *mask,
                          const double *t, const double *f) {
  double tf = 0, tt = 0, ff = 0;
  for (size_t d = 0; d < D; d++) {
    if (mask && !mask[d]) continue;
    tf += t[d] * f[d];
    tt += t[d] * t[d];
    ff += f[d] * f[d];
  }
  double sign = coh_symmetry_has_sign(sym) && tf < 0 ? -1 : 1;
  bool scales = sym == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING && tt > 0 && ff > 0;
  return scales ? sign * sqrt(ff / tt) : sign;
}

/* The constant in the recovered activation where its pre-activation is c times the
 * teacher's. odd_constant: 1 for c < 0. even_linear: of |c| (A - linear_part z), z = ...
 * + the teacher's bias. */
static double constant_of(coh_act act, double c, double teacher_bias) {
  coh_symmetry sym = coh_act_symmetry(act);
  if (c >= 0) return 0;
  if (sym == COH_SYM_ODD_CONSTANT) return 1;
  return coh_symmetry_is_even_linear(sym) ? c * coh_act_linear_part(act) * teacher_bias
                                          : 0;
}

/* Two networks and what is known of the layers of both so far. */
typedef struct two_networks {
  const coh_plan *teacher, *found;
  const double *tp, *fp;
  layer_map map[COH_MAX_LAYERS];
} two_networks;

/* What the activations of layer q add to the bias of recovered neuron k of layer l when
 * they are written in terms of the teacher's. */
static double constants_from(const two_networks *n, size_t q, size_t l, size_t k) {
  const layer_map *m = &n->map[q];
  const coh_layer *t = &n->teacher->layer[q];
  const double *v = coh_weights_between(n->found, n->fp, q, l);
  double sum = 0;
  for (size_t j = 0; v && j < m->R; j++)
    if (m->partner[j] != SIZE_MAX)
      sum += v[m->partner[j] * n->found->layer[l].out + k] *
             constant_of(t->act, m->factor[j], n->tp[t->b + j]);
  return sum;
}

/* Input vectors w [K, in + 1] of layer l > 0 rewritten over the teacher's neurons of the
 * layer below: [K, R + 1]. With z_f = c z_t below (c = factor), the recovered activation
 * in terms of the teacher's is: odd c A; odd_constant 1 - A for c < 0; even_linear |c| A
 * (c < 0: and a linear part, whose constant goes to the bias, the rest to the linear
 * path). Flips in layers that the linear path reads leave constants too. */
static int map_inputs(const two_networks *n, size_t l, size_t K, const double *w,
                      double **out, coh_error *err) {
  const layer_map *below = &n->map[l - 1];
  size_t R = below->R, D = n->found->layer[l].in + 1;
  bool even = coh_symmetry_is_even_linear(coh_act_symmetry(n->teacher->layer[0].act));
  int rc = coh_alloc(out, K * (R + 1), sizeof **out, err);
  for (size_t k = 0; k < K && !rc; k++) {
    const double *from = w + k * D;
    double *to = *out + k * (R + 1);
    to[R] = from[D - 1];
    for (size_t q = 0; q < l; q++) to[R] += constants_from(n, q, l, k);
    for (size_t j = 0; j < R; j++) {
      if (below->partner[j] == SIZE_MAX) continue;
      double c = below->factor[j];
      to[j] = (even ? fabs(c) : c) * from[below->partner[j]];
    }
  }
  return rc;
}

/* Outgoing weights a [K, O] rewritten over the teacher's neurons of the layer above. */
static int map_outputs(const layer_map *above, size_t K, size_t O, const double *a,
                       double **out, coh_error *err) {
  size_t R = above->R;
  int rc = coh_alloc(out, K * R, sizeof **out, err);
  for (size_t k = 0; k < K && !rc; k++)
    for (size_t j = 0; j < R; j++)
      if (above->partner[j] != SIZE_MAX)
        (*out)[k * R + j] = a[k * O + above->partner[j]] / above->factor[j];
  return rc;
}

/* One hidden layer of both networks: arrays [*, D] and [*, O], owned. */
typedef struct layer_pair {
  size_t R, K, D, O;
  double *tw, *ta, *w, *a;
} layer_pair;

static void pair_free(layer_pair *p) {
  free(p->tw);
  free(p->ta);
  free(p->w);
  free(p->a);
}

static void replace(double **old, double *now) {
  free(*old);
  *old = now;
}

/* Layer l of both with the recovered input vectors in the teacher's basis. */
static int take_pair(const two_networks *n, size_t l, layer_pair *p, coh_error *err) {
  int rc;
  double *mapped = NULL;
  const coh_layer *t = &n->teacher->layer[l];
  *p = (layer_pair){.R = t->out,
                    .K = n->found->layer[l].out,
                    .D = t->in + 1,
                    .O = n->teacher->layer[l + 1].out};
  COH_TRY(coh_neurons_of(n->teacher, n->tp, l, &p->tw, &p->ta, err));
  COH_TRY(coh_neurons_of(n->found, n->fp, l, &p->w, &p->a, err));
  if (l == 0) return COH_OK;
  COH_TRY(map_inputs(n, l, p->K, p->w, &mapped, err));
  replace(&p->w, mapped);
cleanup:
  return rc;
}

/* Assignment of one layer by its input vectors alone. */
static int map_layer(coh_symmetry sym, const layer_pair *p, const uint8_t *mask,
                     layer_map *map, coh_error *err) {
  int rc;
  coh_comparison *c = NULL;
  double *zero = NULL;
  map->R = p->R;
  COH_TRY(coh_alloc(&zero, p->R > p->K ? p->R : p->K, sizeof *zero, err));
  COH_TRY(coh_compare(sym, p->R, p->tw, zero, p->K, p->w, zero, p->D, 1, mask, &c, err));
  COH_TRY(coh_alloc(&map->partner, p->R, sizeof *map->partner, err));
  COH_TRY(coh_alloc(&map->factor, p->R, sizeof *map->factor, err));
  for (size_t j = 0; j < p->R; j++) {
    map->partner[j] = c->assigned[j];
    map->factor[j] = c->assigned[j] == SIZE_MAX
                         ? 1
                         : pair_factor(sym, p->D, mask, p->tw + j * p->D,
                                       p->w + c->assigned[j] * p->D);
  }
cleanup:
  coh_comparison_destroy(c);
  free(zero);
  return rc;
}

/* Comparison of one layer, its outgoing weights in the teacher's basis first. */
static int compare_layer(const two_networks *n, size_t l, layer_pair *p,
                         const uint8_t *mask, coh_comparison **out, coh_error *err) {
  int rc;
  double *mapped = NULL;
  if (l + 2 < n->teacher->L) {
    COH_TRY(map_outputs(&n->map[l + 1], p->K, n->found->layer[l + 1].out, p->a, &mapped,
                        err));
    replace(&p->a, mapped);
  }
  COH_TRY(coh_compare(coh_act_symmetry(n->teacher->layer[l].act), p->R, p->tw, p->ta,
                      p->K, p->w, p->a, p->D, p->O, l ? NULL : mask, out, err));
cleanup:
  return rc;
}

int coh_compare_networks(const coh_plan *teacher, const double *tp, const coh_plan *found,
                         const double *fp, const uint8_t *mask, coh_comparison **out,
                         coh_error *err) {
  int rc = COH_OK;
  size_t hidden = teacher->L - 1;
  two_networks n = {.teacher = teacher, .found = found, .tp = tp, .fp = fp};
  layer_pair pair[COH_MAX_LAYERS] = {{0}};
  if (teacher->L != found->L)
    return coh_fail(err, COH_EUSAGE,
                    "the teacher has %zu hidden layers, the students %zu", teacher->L - 1,
                    found->L - 1);
  coh_symmetry sym = coh_act_symmetry(teacher->layer[0].act);
  for (size_t l = 0; l < hidden; l++) {
    COH_TRY(take_pair(&n, l, &pair[l], err));
    COH_TRY(map_layer(sym, &pair[l], l ? NULL : mask, &n.map[l], err));
  }
  for (size_t l = 0; l < hidden; l++)
    COH_TRY(compare_layer(&n, l, &pair[l], mask, &out[l], err));
cleanup:
  for (size_t l = 0; l < hidden; l++) {
    map_free(&n.map[l]);
    pair_free(&pair[l]);
  }
  return rc;
}
