/* rebuild.c - students and networks around one clustered layer (see rebuild.h). What is
 * clustered and how stands in cluster.c; training in the room train. */
#include <stdlib.h>
#include <string.h>

#include "cohort/rebuild.h"

/* ---- one layer as clustering sees it
 * --------------------------------------------------------- */

/* w [H, in + 1] = transposed weights and bias of a layer of one network. */
static void neuron_inputs(const coh_layer *l, const double *params, double *w) {
  for (size_t h = 0; h < l->out; h++) {
    for (size_t i = 0; i < l->in; i++)
      w[h * (l->in + 1) + i] = params[l->w + i * l->out + h];
    w[h * (l->in + 1) + l->in] = params[l->b + h];
  }
}

int coh_layer_view_of(const coh_plan *upper, size_t N, const double *params,
                      const double *loss, const uint8_t *mask, coh_layer_view *out,
                      coh_error *err) {
  int rc;
  const coh_layer *low = &upper->layer[0], *high = &upper->layer[1];
  size_t H = low->out, D = low->in + 1, O = high->out;
  double *w = NULL, *a = NULL;
  COH_TRY(coh_alloc(&w, N * H * D, sizeof *w, err));
  COH_TRY(coh_alloc(&a, N * H * O, sizeof *a, err));
  for (size_t n = 0; n < N; n++) {
    const double *p = params + n * upper->P;
    neuron_inputs(low, p, w + n * H * D);
    memcpy(a + n * H * O, p + high->w, H * O * sizeof *a);
  }
  *out = (coh_layer_view){N, H, D, O, w, a, loss, mask, NULL};
  return COH_OK;
cleanup:
  free(w);
  free(a);
  return rc;
}

void coh_layer_view_free(coh_layer_view *v) {
  free((void *)v->w);
  free((void *)v->a);
  *v = (coh_layer_view){0};
}

int coh_neurons_of(const coh_plan *plan, const double *params, size_t layer, double **w,
                   double **a, coh_error *err) {
  int rc;
  const coh_layer *low = &plan->layer[layer], *high = &plan->layer[layer + 1];
  *w = *a = NULL;
  COH_TRY(coh_alloc(w, low->out * (low->in + 1), sizeof **w, err));
  COH_TRY(coh_alloc(a, high->in * high->out, sizeof **a, err));
  neuron_inputs(low, params, *w);
  memcpy(*a, params + high->w, high->in * high->out * sizeof **a);
  return COH_OK;
cleanup:
  free(*w);
  free(*a);
  *w = *a = NULL;
  return rc;
}

/* ---- students above a clustered layer
 * ---------------------------------------------------------- */

/* First layer of one remaining student: collapsed outgoing weights of the clusters, then
 * the linear path that flips left behind; its bias takes what flips left of constants. */
static void next_first_layer(const coh_plan *upper, const double *params,
                             const coh_clustering *c, size_t n, bool linear,
                             const coh_layer *to, double *next) {
  size_t K = c->K, D = c->D, O = c->O;
  const double *left = c->linear ? c->linear + n * D * O : NULL;
  memcpy(next + to->w, c->a + n * K * O, K * O * sizeof *next);
  if (linear && left) memcpy(next + to->w + K * O, left, (D - 1) * O * sizeof *next);
  for (size_t o = 0; o < O; o++) {
    double b = params[upper->layer[1].b + o];
    if (c->constant) b += c->constant[n * O + o];
    if (linear && left) b += left[(D - 1) * O + o];
    next[to->b + o] = b;
  }
}

int coh_upper_next(const coh_plan *upper, size_t N, const double *params,
                   const coh_clustering *c, coh_symmetry sym, coh_plan *next,
                   double **next_params, coh_error *err) {
  int rc;
  bool linear = coh_symmetry_is_even_linear(sym);
  size_t L = upper->L - 1, size[COH_MAX_LAYERS + 1];
  *next_params = NULL;
  size[0] = c->K + (linear ? c->D - 1 : 0);
  for (size_t l = 0; l < L; l++) size[l + 1] = upper->layer[l + 1].out;
  COH_TRY(coh_plan_dense(L, size, upper->layer[0].act, NULL, next, err));
  COH_TRY(coh_alloc(next_params, N * next->P, sizeof **next_params, err));
  for (size_t n = 0; n < N; n++) {
    const double *from = params + n * upper->P;
    double *to = *next_params + n * next->P;
    next_first_layer(upper, from, c, n, linear, &next->layer[0], to);
    for (size_t l = 1; l < L; l++) {
      const coh_layer *a = &upper->layer[l + 1], *b = &next->layer[l];
      memcpy(to + b->w, from + a->w, a->in * a->out * sizeof *to);
      memcpy(to + b->b, from + a->b, a->out * sizeof *to);
    }
  }
cleanup:
  return rc;
}

/* ---- features
 * ------------------------------------------------------------------------------------ */

/* Parameters of the network [D - 1, K, 1] whose hidden layer is w. */
static int layer_network(coh_act act, coh_dtype dtype, size_t K, size_t D,
                         const double *w, coh_plan *plan, void **params, coh_error *err) {
  int rc;
  size_t size[3] = {D - 1, K, 1};
  COH_TRY(coh_plan_dense(2, size, act, NULL, plan, err));
  COH_TRY(coh_alloc(params, plan->P, coh_dtype_size(dtype), err));
  for (size_t k = 0; k < K; k++) {
    for (size_t i = 0; i + 1 < D; i++)
      coh_put(dtype, *params, plan->layer[0].w + i * K + k, w[k * D + i]);
    coh_put(dtype, *params, plan->layer[0].b + k, w[k * D + D - 1]);
  }
cleanup:
  return rc;
}

int coh_features_next(coh_device *dev, coh_act act, size_t n, const void *features,
                      size_t K, size_t D, const double *w, bool keep_linear, void **out,
                      size_t *width, coh_error *err) {
  int rc;
  coh_plan plan;
  void *params = NULL;
  char *hidden = NULL;
  size_t size = coh_dtype_size(dev->dtype), from = D - 1;
  *width = K + (keep_linear ? from : 0);
  *out = NULL;
  COH_TRY(layer_network(act, dev->dtype, K, D, w, &plan, &params, err));
  COH_TRY(coh_alloc(&hidden, n * K, size, err));
  COH_TRY(coh_network_apply(&plan, dev, params, 0, n, features, hidden, err));
  COH_TRY(coh_alloc(out, n * *width, size, err));
  for (size_t i = 0; i < n; i++) {
    char *row = (char *)*out + i * *width * size;
    memcpy(row, hidden + i * K * size, K * size);
    if (keep_linear)
      memcpy(row + K * size, (const char *)features + i * from * size, from * size);
  }
cleanup:
  free(params);
  free(hidden);
  return rc;
}

/* ---- the rebuilt network
 * --------------------------------------------------------------------------- */

int coh_rebuilt_add(coh_rebuilt *r, size_t K, size_t D, const double *w, coh_error *err) {
  int rc = coh_alloc(&r->w[r->L], K * D, sizeof(double), err);
  if (rc) return rc;
  memcpy(r->w[r->L], w, K * D * sizeof(double));
  r->K[r->L] = K;
  r->D[r->L] = D;
  r->L++;
  return COH_OK;
}

void coh_rebuilt_free(coh_rebuilt *r) {
  for (size_t l = 0; l < r->L; l++) free(r->w[l]);
  r->L = 0;
}

/* Rows of w beyond the layer below are the linear path. */
static void fill_hidden(const coh_layer *l, size_t D, const double *w, double *params) {
  for (size_t k = 0; k < l->out; k++) {
    const double *v = w + k * D;
    for (size_t i = 0; i < l->in; i++) params[l->w + i * l->out + k] = v[i];
    for (size_t i = 0; l->skip && i < l->skip_in; i++)
      params[l->s + i * l->out + k] = v[l->in + i];
    params[l->b + k] = v[D - 1];
  }
}

int coh_rebuilt_network(const coh_rebuilt *r, size_t O, const double *a,
                        const double *bias, const double *theta, coh_plan *plan,
                        double **params, coh_error *err) {
  int rc;
  size_t size[COH_MAX_LAYERS + 1] = {r->D[0] - 1};
  bool skip[COH_MAX_LAYERS] = {false};
  *params = NULL;
  for (size_t l = 0; l < r->L; l++) size[l + 1] = r->K[l];
  size[r->L + 1] = O;
  for (size_t l = 1; l <= r->L; l++) skip[l] = r->linear;
  COH_TRY(coh_plan_dense(r->L + 1, size, r->act, skip, plan, err));
  COH_TRY(coh_alloc(params, plan->P, sizeof **params, err));
  for (size_t l = 0; l < r->L; l++)
    fill_hidden(&plan->layer[l], r->D[l], r->w[l], *params);
  const coh_layer *last = &plan->layer[r->L];
  memcpy(*params + last->w, a, last->in * O * sizeof **params);
  memcpy(*params + last->b, bias, O * sizeof **params);
  if (last->skip && theta)
    memcpy(*params + last->s, theta, last->skip_in * O * sizeof **params);
cleanup:
  return rc;
}
