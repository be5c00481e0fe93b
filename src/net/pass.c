/* pass.c - forward and backward through an ensemble, and features of one network. All
 * arithmetic is the device's; here is the order of its calls. Uses base, device.
 *
 * Shapes: activation of layer l [N, B, O_l]. Member strides are B * O_l of the current
 * call.
 */
#include "cohort/net.h"

#include <stdlib.h>

struct coh_workspace {
  coh_plan plan;
  coh_device *dev; /* borrowed */
  size_t N, B;     /* room */
  bool backward;
  size_t kept_N, kept_B;       /* of the last forward with keep; 0 = none */
  void *a[COH_MAX_LAYERS];     /* activations; the last one is the output */
  void *deriv[COH_MAX_LAYERS]; /* slopes of hidden layers; NULL unless backward */
  void *dz[COH_MAX_LAYERS]; /* gradients by the pre-activations; NULL unless backward */
};

size_t coh_workspace_bytes(const coh_plan *p, coh_dtype dtype, size_t N, size_t B,
                           bool backward) {
  size_t width = 0;
  for (size_t l = 0; l < p->L; l++)
    width += p->layer[l].out * (backward ? (l + 1 < p->L ? 3 : 2) : 1);
  return N * B * width * coh_dtype_size(dtype);
}

int coh_workspace_create(const coh_plan *plan, coh_device *dev, size_t N, size_t B,
                         bool backward, coh_workspace **out, coh_error *err) {
  coh_workspace *w = NULL;
  int rc;
  *out = NULL;
  COH_TRY(coh_alloc(&w, 1, sizeof *w, err));
  w->plan = *plan;
  w->dev = dev;
  w->N = N, w->B = B;
  w->backward = backward;
  for (size_t l = 0; l < plan->L; l++) {
    size_t bytes = N * B * plan->layer[l].out * coh_dtype_size(dev->dtype);
    COH_TRY(dev->ops->alloc(dev, bytes, &w->a[l], err));
    if (!backward) continue;
    COH_TRY(dev->ops->alloc(dev, bytes, &w->dz[l], err));
    if (l + 1 < plan->L) COH_TRY(dev->ops->alloc(dev, bytes, &w->deriv[l], err));
  }
  *out = w;
  return COH_OK;
cleanup:
  coh_explain(err, "activations of %zu networks for batches of %zu (%zu bytes)", N, B,
              coh_workspace_bytes(plan, dev->dtype, N, B, backward));
  coh_workspace_destroy(w);
  return rc;
}

void coh_workspace_destroy(coh_workspace *w) {
  if (!w) return;
  for (size_t l = 0; l < w->plan.L; l++) {
    w->dev->ops->free(w->dev, w->deriv[l]);
    w->dev->ops->free(w->dev, w->dz[l]);
    w->dev->ops->free(w->dev, w->a[l]);
  }
  free(w);
}

void *coh_workspace_dout(coh_workspace *w) {
  return w->dz[w->plan.L - 1];
}

const void *coh_workspace_hidden(const coh_workspace *w, size_t layer) {
  return w->a[layer];
}

/* Element `offset` of a member's row in a device array. */
static void *at(const coh_ensemble *e, const void *base, size_t offset) {
  return (char *)base + offset * coh_dtype_size(e->dev->dtype);
}

/* What layer l reads: the input for l = 0, else the activation below; *stride between
 * members. */
static const void *source(const coh_workspace *w, size_t l, size_t B, const void *x,
                          size_t stride_x, size_t *stride) {
  *stride = l == 0 ? stride_x : B * w->plan.layer[l].in;
  return l == 0 ? x : w->a[l - 1];
}

/* The skip of layer l reads what the layers l - 1, l - 2, ... 0 read, one block of rows
 * of S each. Where the block of layer `from` < l starts among the parameters. */
static size_t skip_offset(const coh_plan *p, size_t l, size_t from) {
  size_t rows = 0;
  for (size_t i = from + 1; i < l; i++) rows += p->layer[i].in;
  return p->layer[l].s + rows * p->layer[l].out;
}

/* ---- forward --------------------------------------------------------------------- */

/* z [N,B,out] (+)= A [N,B,in] W, W at `offset` of the parameters. */
static int multiply(const coh_ensemble *e, size_t B, const void *a, size_t stride_a,
                    size_t in, size_t out, size_t offset, double beta, void *z,
                    coh_error *err) {
  const coh_gemm g = {.N = e->N,
                      .M = B,
                      .Q = out,
                      .K = in,
                      .a = a,
                      .lda = in,
                      .stride_a = stride_a,
                      .b = at(e, e->params, offset),
                      .ldb = out,
                      .stride_b = e->plan.P,
                      .beta = beta,
                      .c = z,
                      .ldc = out,
                      .stride_c = B * out};
  return e->dev->ops->gemm(e->dev, &g, err);
}

static int forward_layer(const coh_ensemble *e, coh_workspace *w, size_t l, size_t B,
                         const void *x, size_t stride_x, void *deriv, coh_error *err) {
  const coh_layer *layer = &e->plan.layer[l];
  size_t stride;
  int rc;
  const void *a = source(w, l, B, x, stride_x, &stride);
  COH_TRY(multiply(e, B, a, stride, layer->in, layer->out, layer->w, 0, w->a[l], err));
  for (size_t from = layer->skip ? l : 0; from-- > 0;) {
    a = source(w, from, B, x, stride_x, &stride);
    COH_TRY(multiply(e, B, a, stride, e->plan.layer[from].in, layer->out,
                     skip_offset(&e->plan, l, from), 1, w->a[l], err));
  }
  COH_TRY(e->dev->ops->bias_act(e->dev, layer->act, e->N, B, layer->out,
                                at(e, e->params, layer->b), e->plan.P, w->a[l], deriv,
                                err));
cleanup:
  return rc;
}

static int check_room(const coh_ensemble *e, const coh_workspace *w, size_t B,
                      size_t stride_x, coh_error *err) {
  if (w->dev != e->dev || w->plan.P != e->plan.P || w->plan.L != e->plan.L)
    return coh_fail(err, COH_EBUG, "workspace of another network");
  if (e->N > w->N || B > w->B)
    return coh_fail(err, COH_EBUG,
                    "%zu networks, batch %zu: workspace has room for %zu, %zu", e->N, B,
                    w->N, w->B);
  if (stride_x != 0 && stride_x < B * e->plan.d_in)
    return coh_fail(err, COH_EBUG, "inputs of members overlap: stride %zu", stride_x);
  return COH_OK;
}

int coh_forward(coh_ensemble *e, coh_workspace *w, size_t B, const void *x,
                size_t stride_x, bool keep, void **out, coh_error *err) {
  int rc;
  COH_TRY(check_room(e, w, B, stride_x, err));
  if (keep && !w->backward)
    COH_TRY(coh_fail(err, COH_EBUG, "this workspace has no room for backward"));
  for (size_t l = 0; l < e->plan.L; l++)
    COH_TRY(forward_layer(e, w, l, B, x, stride_x, keep ? w->deriv[l] : NULL, err));
  w->kept_N = keep ? e->N : 0;
  w->kept_B = keep ? B : 0;
  *out = w->a[e->plan.L - 1];
cleanup:
  return rc;
}

/* ---- backward -------------------------------------------------------------------- */

/* dW [in,out] at `offset` of the gradients = A^T dz. */
static int weight_grad(const coh_ensemble *e, size_t B, const void *a, size_t stride_a,
                       size_t in, size_t out, size_t offset, const void *dz,
                       coh_error *err) {
  const coh_gemm g = {.trans_a = true,
                      .N = e->N,
                      .M = in,
                      .Q = out,
                      .K = B,
                      .a = a,
                      .lda = in,
                      .stride_a = stride_a,
                      .b = dz,
                      .ldb = out,
                      .stride_b = B * out,
                      .c = at(e, e->grads, offset),
                      .ldc = out,
                      .stride_c = e->plan.P};
  return e->dev->ops->gemm(e->dev, &g, err);
}

/* da [N,B,in] (+)= dz W^T. */
static int input_grad(const coh_ensemble *e, size_t B, size_t in, size_t out,
                      size_t offset, const void *dz, double beta, void *da,
                      coh_error *err) {
  const coh_gemm g = {.trans_b = true,
                      .N = e->N,
                      .M = B,
                      .Q = in,
                      .K = out,
                      .a = dz,
                      .lda = out,
                      .stride_a = B * out,
                      .b = at(e, e->params, offset),
                      .ldb = out,
                      .stride_b = e->plan.P,
                      .beta = beta,
                      .c = da,
                      .ldc = in,
                      .stride_c = B * in};
  return e->dev->ops->gemm(e->dev, &g, err);
}

/* Gradients of layer l's own parameters from its dz. */
static int layer_grads(const coh_ensemble *e, const coh_workspace *w, size_t l, size_t B,
                       const void *x, size_t stride_x, const void *dz, coh_error *err) {
  const coh_layer *layer = &e->plan.layer[l];
  size_t stride;
  int rc;
  const void *a = source(w, l, B, x, stride_x, &stride);
  COH_TRY(weight_grad(e, B, a, stride, layer->in, layer->out, layer->w, dz, err));
  COH_TRY(e->dev->ops->bias_grad(e->dev, e->N, B, layer->out, dz,
                                 at(e, e->grads, layer->b), e->plan.P, err));
  for (size_t from = layer->skip ? l : 0; from-- > 0;) {
    a = source(w, from, B, x, stride_x, &stride);
    COH_TRY(weight_grad(e, B, a, stride, e->plan.layer[from].in, layer->out,
                        skip_offset(&e->plan, l, from), dz, err));
  }
cleanup:
  return rc;
}

/* dz of hidden layer l from that of layer l + 1 and, through skips, of those above it. */
static int hidden_grad(const coh_ensemble *e, const coh_workspace *w, size_t l, size_t B,
                       const void *const *dz, coh_error *err) {
  const coh_layer *next = &e->plan.layer[l + 1];
  int rc;
  COH_TRY(input_grad(e, B, next->in, next->out, next->w, dz[l + 1], 0, w->dz[l], err));
  for (size_t far = l + 2; far < e->plan.L; far++)
    if (e->plan.layer[far].skip)
      COH_TRY(input_grad(e, B, next->in, e->plan.layer[far].out,
                         skip_offset(&e->plan, far, l + 1), dz[far], 1, w->dz[l], err));
  COH_TRY(e->dev->ops->act_grad(e->dev, e->N, B * next->in, w->dz[l], w->deriv[l], err));
cleanup:
  return rc;
}

int coh_backward(coh_ensemble *e, coh_workspace *w, size_t B, const void *x,
                 size_t stride_x, const void *dout, coh_error *err) {
  int rc;
  COH_TRY(check_room(e, w, B, stride_x, err));
  if (w->kept_N != e->N || w->kept_B != B)
    COH_TRY(coh_fail(err, COH_EBUG, "backward without a forward of the same batch"));
  const void *dz[COH_MAX_LAYERS];
  for (size_t l = e->plan.L; l-- > 0;) {
    dz[l] = l + 1 < e->plan.L ? w->dz[l] : dout;
    if (l + 1 < e->plan.L) COH_TRY(hidden_grad(e, w, l, B, dz, err));
    COH_TRY(layer_grads(e, w, l, B, x, stride_x, dz[l], err));
  }
cleanup:
  return rc;
}

/* ---- all at once ----------------------------------------------------------------- */

bool coh_plan_is_small(const coh_plan *p, const coh_device *dev) {
  if (!dev->ops->small || p->L > COH_SMALL_LAYERS || p->d_in > COH_SMALL_WIDTH)
    return false;
  size_t width = 0;
  for (size_t l = 0; l < p->L; l++) {
    if (p->layer[l].skip || p->layer[l].out > COH_SMALL_WIDTH) return false;
    width += p->layer[l].in + p->layer[l].out;
  }
  return width <= dev->small_width;
}

/* grads NULL: losses alone. */
static int small_gradients(coh_ensemble *e, void *grads, size_t B, const void *x,
                           size_t stride_x, const coh_target *t, coh_error *err) {
  coh_small s = {.L = e->plan.L,
                 .N = e->N,
                 .B = B,
                 .P = e->plan.P,
                 .x = x,
                 .y = t->y,
                 .labels = t->labels,
                 .stride_x = stride_x,
                 .stride_t = t->stride_t,
                 .scale = t->scale,
                 .params = e->params,
                 .grads = grads,
                 .loss = t->loss};
  for (size_t l = 0; l < s.L; l++) {
    const coh_layer *y = &e->plan.layer[l];
    s.layer[l] = (coh_small_layer){.in = y->in, .out = y->out, .w = y->w, .act = y->act};
  }
  return e->dev->ops->small(e->dev, &s, err);
}

/* Loss of outputs, with its gradient unless dout is NULL. */
static int loss_of(const coh_ensemble *e, size_t B, const coh_target *t, const void *out,
                   void *dout, coh_error *err) {
  const coh_loss_args loss = {.N = e->N,
                              .B = B,
                              .O = e->plan.n_out,
                              .out = out,
                              .y = t->y,
                              .labels = t->labels,
                              .stride_t = t->stride_t,
                              .scale = t->scale,
                              .dout = dout,
                              .loss = t->loss};
  return e->dev->ops->loss(e->dev, &loss, err);
}

int coh_losses(coh_ensemble *e, coh_workspace *w, size_t B, const void *x,
               size_t stride_x, const coh_target *t, coh_error *err) {
  if (coh_plan_is_small(&e->plan, e->dev))
    return small_gradients(e, NULL, B, x, stride_x, t, err);
  void *out;
  int rc = coh_forward(e, w, B, x, stride_x, false, &out, err);
  return rc ? rc : loss_of(e, B, t, out, NULL, err);
}

int coh_gradients(coh_ensemble *e, coh_workspace *w, size_t B, const void *x,
                  size_t stride_x, const coh_target *t, coh_error *err) {
  if (coh_plan_is_small(&e->plan, e->dev))
    return small_gradients(e, e->grads, B, x, stride_x, t, err);
  int rc;
  void *out, *dout = coh_workspace_dout(w);
  COH_TRY(coh_forward(e, w, B, x, stride_x, true, &out, err));
  COH_TRY(loss_of(e, B, t, out, dout, err));
  COH_TRY(coh_backward(e, w, B, x, stride_x, dout, err));
cleanup:
  return rc;
}

/* ---- gradients of single rows ---------------------------------------------------- */

static int layer_rows(const coh_ensemble *e, const coh_workspace *w, size_t l, size_t B,
                      const void *x, const void *dz, void *rows, coh_error *err) {
  const coh_layer *layer = &e->plan.layer[l];
  const coh_device_ops *ops = e->dev->ops;
  size_t stride, P = e->plan.P, out = layer->out;
  int rc;
  const void *a = source(w, l, B, x, 0, &stride);
  COH_TRY(ops->outer(e->dev, B, layer->in, out, a, dz, at(e, rows, layer->w), P, err));
  COH_TRY(ops->outer(e->dev, B, 1, out, NULL, dz, at(e, rows, layer->b), P, err));
  for (size_t from = layer->skip ? l : 0; from-- > 0;) {
    a = source(w, from, B, x, 0, &stride);
    COH_TRY(ops->outer(e->dev, B, e->plan.layer[from].in, out, a, dz,
                       at(e, rows, skip_offset(&e->plan, l, from)), P, err));
  }
cleanup:
  return rc;
}

int coh_backward_rows(coh_ensemble *e, coh_workspace *w, size_t B, const void *x,
                      const void *dout, void *rows, coh_error *err) {
  int rc;
  COH_TRY(check_room(e, w, B, 0, err));
  if (e->N != 1 || w->kept_N != 1 || w->kept_B != B)
    COH_TRY(
        coh_fail(err, COH_EBUG, "rows of a backward without a forward of one network"));
  const void *dz[COH_MAX_LAYERS];
  for (size_t l = e->plan.L; l-- > 0;) {
    dz[l] = l + 1 < e->plan.L ? w->dz[l] : dout;
    if (l + 1 < e->plan.L) COH_TRY(hidden_grad(e, w, l, B, dz, err));
    COH_TRY(layer_rows(e, w, l, B, x, dz[l], rows, err));
  }
cleanup:
  return rc;
}

/* ---- features of one network ----------------------------------------------------- */

enum { CHUNK = 1024 };

/* Chunks of x through `e`, width = outputs of `layer`. */
static int apply_chunks(coh_ensemble *e, coh_workspace *w, void *dx, size_t layer,
                        size_t n, const void *x, void *out, coh_error *err) {
  coh_device *dev = e->dev;
  size_t size = coh_dtype_size(dev->dtype), in = e->plan.d_in * size;
  size_t width = e->plan.layer[layer].out * size;
  int rc = COH_OK;
  for (size_t r = 0; r < n; r += CHUNK) {
    size_t rows = n - r < CHUNK ? n - r : CHUNK;
    void *last;
    COH_TRY(dev->ops->upload(dev, dx, (const char *)x + r * in, rows * in, err));
    COH_TRY(coh_forward(e, w, rows, dx, 0, false, &last, err));
    COH_TRY(
        dev->ops->download(dev, (char *)out + r * width, w->a[layer], rows * width, err));
  }
cleanup:
  return rc;
}

int coh_network_apply(const coh_plan *plan, coh_device *dev, const void *params,
                      size_t layer, size_t n, const void *x, void *out, coh_error *err) {
  coh_ensemble *e = NULL;
  coh_workspace *w = NULL;
  void *dx = NULL;
  size_t rows = n < CHUNK ? n : CHUNK;
  int rc;
  if (layer >= plan->L)
    return coh_fail(err, COH_EBUG, "layer %zu of a network of %zu", layer, plan->L);
  COH_TRY(coh_ensemble_create(plan, dev, 1, &e, err));
  COH_TRY(coh_ensemble_set(e, params, err));
  COH_TRY(coh_workspace_create(plan, dev, 1, rows, false, &w, err));
  COH_TRY(dev->ops->alloc(dev, rows * plan->d_in * coh_dtype_size(dev->dtype), &dx, err));
  COH_TRY(apply_chunks(e, w, dx, layer, n, x, out, err));
cleanup:
  dev->ops->free(dev, dx);
  coh_workspace_destroy(w);
  coh_ensemble_destroy(e);
  return rc;
}
