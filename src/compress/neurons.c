/* neurons.c - dead neurons: found by their weights, folded into the biases above, left
 * out of a narrower network (section 6 of the compress contract). */
#include <stdlib.h>

#include "compress/private.h"

/* No weight leads to hidden neuron i of layer l: what it says does not depend on x. */
static bool is_constant(const coh_plan *p, size_t l, size_t i, const double *params) {
  const coh_layer *y = &p->layer[l];
  for (size_t k = 0; k < y->in; k++)
    if (params[y->w + k * y->out + i] != 0) return false;
  return true;
}

/* Neither weights nor bias, and nothing reads it. */
static bool is_dead(const coh_plan *p, size_t l, size_t i, const double *params) {
  const coh_layer *next = &p->layer[l + 1];
  if (!is_constant(p, l, i, params) || params[p->layer[l].b + i] != 0) return false;
  for (size_t o = 0; o < next->out; o++)
    if (params[next->w + i * next->out + o] != 0) return false;
  return true;
}

/* True if something of the neuron is left to be taken out. */
static bool is_left(const coh_plan *p, size_t l, size_t i, const double *mask) {
  const coh_layer *y = &p->layer[l], *next = &p->layer[l + 1];
  if (mask[y->b + i] != 0) return true;
  for (size_t o = 0; o < next->out; o++)
    if (mask[next->w + i * next->out + o] != 0) return true;
  return false;
}

static void clear(size_t at, double *params, double *mask, double *gates,
                  double *weights) {
  params[at] = mask[at] = 0;
  if (gates) gates[at] = 0;
  if (weights) weights[at] = 0;
}

/* The constant of neuron i of layer l goes into the biases of layer l + 1. */
static void fold(const coh_plan *p, size_t l, size_t i, double *params, double *mask,
                 double *gates, double *weights) {
  const coh_layer *y = &p->layer[l], *next = &p->layer[l + 1];
  size_t b = y->b + i;
  double value = coh_act_value(y->act, params[b] * mask[b]);
  double twin = gates ? coh_act_value(y->act, weights[b] * gates[b]) : 0;
  for (size_t o = 0; o < next->out; o++) {
    size_t w = next->w + i * next->out + o, to = next->b + o;
    double add = params[w] * mask[w] * value;
    if (add != 0) {
      params[to] = params[to] * mask[to] + add;
      if (mask[to] == 0 && gates) gates[to] = 1; /* as a parameter that is there */
      mask[to] = 1;
    }
    if (gates) weights[to] += weights[w] * gates[w] * twin;
    clear(w, params, mask, gates, weights);
  }
  clear(b, params, mask, gates, weights);
  for (size_t k = 0; k < y->in; k++)
    clear(y->w + k * y->out + i, params, mask, gates, weights);
}

size_t coh_delete_neurons(const coh_plan *p, double *params, double *mask, double *gates,
                          double *weights) {
  size_t count = 0;
  for (size_t l = 0; l + 1 < p->L; l++)
    for (size_t i = 0; i < p->layer[l].out; i++)
      if (is_constant(p, l, i, params) && is_left(p, l, i, mask)) {
        fold(p, l, i, params, mask, gates, weights);
        count++;
      }
  return count;
}

/* ---- the narrower network ---------------------------------------------------------- */

/* Neurons of layer l that are kept, or all inputs for l = SIZE_MAX: keep[], *count. */
static void kept(const coh_plan *p, size_t l, const double *params, size_t *keep,
                 size_t *count) {
  size_t width = l == SIZE_MAX ? p->d_in : p->layer[l].out;
  *count = 0;
  for (size_t i = 0; i < width; i++)
    if (l == SIZE_MAX || l + 1 == p->L || !is_dead(p, l, i, params)) keep[(*count)++] = i;
}

static void copy_layer(const coh_layer *from, const double *params, const size_t *in,
                       const size_t *out, const coh_layer *to, double *narrow) {
  for (size_t o = 0; o < to->out; o++) {
    for (size_t i = 0; i < to->in; i++)
      narrow[to->w + i * to->out + o] = params[from->w + in[i] * from->out + out[o]];
    narrow[to->b + o] = params[from->b + out[o]];
  }
}

static size_t widest(const coh_plan *p) {
  size_t most = p->d_in;
  for (size_t l = 0; l < p->L; l++)
    if (p->layer[l].out > most) most = p->layer[l].out;
  return most;
}

int coh_narrow(const coh_plan *p, const double *params, const double *mask,
               coh_plan *plan, double **out, coh_error *err) {
  int rc;
  size_t sizes[COH_MAX_LAYERS + 1], most = widest(p), count;
  size_t *in = NULL, *keep = NULL;
  double *masked = NULL;
  *out = NULL;
  COH_TRY(coh_alloc(&in, most, sizeof *in, err));
  COH_TRY(coh_alloc(&keep, most, sizeof *keep, err));
  COH_TRY(coh_alloc(&masked, p->P, sizeof *masked, err));
  for (size_t i = 0; i < p->P; i++) masked[i] = params[i] * mask[i];
  sizes[0] = p->d_in;
  for (size_t l = 0; l < p->L; l++) {
    kept(p, l, masked, keep, &sizes[l + 1]);
    if (sizes[l + 1] == 0)
      COH_TRY(coh_fail(err, COH_EDATA, "layer %zu has no neuron left", l + 1));
  }
  COH_TRY(coh_plan_dense(p->L, sizes, p->layer[0].act, NULL, plan, err));
  COH_TRY(coh_alloc(out, plan->P, sizeof **out, err));
  kept(p, SIZE_MAX, masked, in, &count);
  for (size_t l = 0; l < p->L; l++) {
    kept(p, l, masked, keep, &count);
    copy_layer(&p->layer[l], masked, in, keep, &plan->layer[l], *out);
    for (size_t i = 0; i < count; i++) in[i] = keep[i];
  }
cleanup:
  free(in);
  free(keep);
  free(masked);
  return rc;
}
