/* net.h - network plans and ensembles of networks. Uses base, config, device, archive.
 *
 * An ensemble is N networks of one plan, their parameters in one [N, P] device array,
 * stepped together. What may differ between members is data, not code.
 */
#ifndef COHORT_NET_H
#define COHORT_NET_H

#include "cohort/archive.h"

enum { COH_MAX_LAYERS = 32 };

/* Dense layer l: A_l = act(A_{l-1} W + b (+ G_l S)), A_{-1} = X the input.
 *
 * W [in, out], b [out]. Where `skip` is set, S [skip_in, out] is a linear path around the
 * layer below, from all activations under it: G_l = [A_{l-2} | A_{l-3} | ... | X],
 * skip_in their widths' sum (layer 0 has no skip; layer 1 skips from X). Offsets count
 * elements from the start of a member's P parameters: W0 b0 W1 b1 (S1) W2 ... */
typedef struct coh_layer {
  size_t in, out;
  coh_act act;
  bool skip;
  size_t skip_in;
  size_t w, b, s;
} coh_layer;

typedef struct coh_plan {
  size_t L; /* layers with parameters; the last one is linear */
  coh_layer layer[COH_MAX_LAYERS];
  size_t d_in, n_out, P;
} coh_plan;

/* Layers of the given sizes [L + 1] (input, hidden..., output): hidden activation `act`,
 * linear output. skip: [L] flags or NULL. */
int coh_plan_dense(size_t L, const size_t *sizes, coh_act act, const bool *skip,
                   coh_plan *out, coh_error *err);
/* By name:
 *
 *   dense_IN_H1_..._OUT       students_dense(N)_IN_H1_..._OUT
 *   mnist_lenet_P_Q...        students_mnist_lenet(N)_P_Q...
 *   cifar_lenet_P_Q...        students_cifar_lenet(N)_P_Q...
 *
 * mnist: 784 inputs, cifar: 3072, both n_out outputs. *members: N of the name, else 0.
 * n_out: classes or targets of the data, which an explicit OUT must equal; 0 = not known:
 * 10 for the lenets, any OUT for dense. Errors list the families. */
int coh_plan_parse(const char *name, coh_act act, size_t n_out, coh_plan *out,
                   size_t *members, coh_error *err);

/* The name with every hidden size times `factor`, rounded up:
 * students_dense(10)_10_4_1 by 1.5 is students_dense(10)_10_6_1. */
int coh_plan_widen(const char *name, double factor, char *out, size_t size,
                   coh_error *err);

/* Named tensors of a plan, in memory order, with PyTorch's names and layout as users see
 * them: "fc_layers.<l>.weight" [out, in], ".bias" [out], ".skip" [out, skip_in]; those of
 * the last layer are "fc.weight", "fc.bias", "fc.skip". In memory W is [in, out]. */
typedef struct coh_tensor {
  char name[64];
  size_t ndim, dim[2]; /* as users see it */
  size_t offset, count;
  size_t layer;
  enum { COH_WEIGHT, COH_BIAS, COH_SKIP } role;
} coh_tensor;
/* Returns how many. */
size_t coh_plan_tensors(const coh_plan *, coh_tensor out[3 * COH_MAX_LAYERS]);

/* Initialises one member's P parameters on the host (section 0.2 of the lottery contract
 * and section 2 of the extraction contract), a pure function of (seed, member):
 *
 *   kaiming_normal   N(0, 2 / fan_in)
 *   kaiming_uniform  U(+-sqrt(6 / fan_in))
 *   xavier_normal    N(0, 2 / (fan_in + fan_out))
 *   orthogonal       Q of a normal matrix, columns times the sign of R's diagonal
 *   binary           sign(w) times the sample std of w, w as of kaiming_normal
 *   gain_uniform     U(+-gain sqrt(3 / fan_in)), gain of the layer's own activation:
 *                    relu 2, tanh 5/3, others 1 (linear layers too)
 *
 * fan = tensor is the reference's accident: it holds a layer of all members as
 * [in, out, N], so its fan_in is out * `members` and its fan_out in * `members`
 * (kaiming_normal: std sqrt(2 / (out N))). bias: zero, or U(+-1 / sqrt(fan_in)). Skips
 * start at 0. */
int coh_plan_init(const coh_plan *, uint64_t seed, uint64_t member, coh_init,
                  coh_init_bias, coh_init_fan, size_t members, coh_dtype, void *params,
                  coh_error *err);

typedef struct coh_ensemble {
  coh_plan plan;
  coh_device *dev; /* borrowed */
  size_t N;        /* members now in the device arrays */
  size_t capacity; /* members at creation */
  void *params;    /* device [N, P] */
  void *grads;     /* device [N, P] */
} coh_ensemble;

int coh_ensemble_create(const coh_plan *, coh_device *, size_t N, coh_ensemble **out,
                        coh_error *err);
void coh_ensemble_destroy(coh_ensemble *);
/* host [N, P] of the device's dtype, all members now present */
int coh_ensemble_set(coh_ensemble *, const void *host, coh_error *err);
int coh_ensemble_get(const coh_ensemble *, void *host, coh_error *err);
/* Keeps only members keep[0] < keep[1] < ... */
int coh_ensemble_compact(coh_ensemble *, size_t count, const uint32_t *keep,
                         coh_error *err);

/* Buffers for forward and backward of up to N members and B rows, used by every call. */
typedef struct coh_workspace coh_workspace;
int coh_workspace_create(const coh_plan *, coh_device *, size_t N, size_t B,
                         bool backward, coh_workspace **out, coh_error *err);
void coh_workspace_destroy(coh_workspace *);
size_t coh_workspace_bytes(const coh_plan *, coh_dtype, size_t N, size_t B,
                           bool backward);

/* x: device [B, d_in] shared (stride_x = 0) or [N, B, d_in]. *out: device [N, B, n_out],
 * owned by the workspace, valid until the next forward. keep = true stores what backward
 * needs. */
int coh_forward(coh_ensemble *, coh_workspace *, size_t B, const void *x, size_t stride_x,
                bool keep, void **out, coh_error *err);
/* After a forward with keep: dout [N, B, n_out] (device; coh_workspace_dout gives a
 * buffer for it); fills grads with the gradient of every parameter (overwrites). */
void *coh_workspace_dout(coh_workspace *);
int coh_backward(coh_ensemble *, coh_workspace *, size_t B, const void *x,
                 size_t stride_x, const void *dout, coh_error *err);
/* Forward, loss and backward of all members on one batch x, shared or each member's own
 * as in coh_forward. y [B, n_out]: mean square error, labels [B]: cross entropy, the
 * other NULL; stride_t (0: shared), scale and loss [N] as in device.h. A small network,
 * which the device passes through at once, needs no workspace; its result is that of the
 * three steps but for rounding. */
typedef struct coh_target {
  const void *y;
  const int32_t *labels;
  size_t stride_t;
  double scale;
  double *loss;
} coh_target;
int coh_gradients(coh_ensemble *, coh_workspace *, size_t B, const void *x,
                  size_t stride_x, const coh_target *, coh_error *err);
/* The same without gradients: adds to target.loss alone; the workspace may be one for
 * forward only. */
int coh_losses(coh_ensemble *, coh_workspace *, size_t B, const void *x, size_t stride_x,
               const coh_target *, coh_error *err);
bool coh_plan_is_small(const coh_plan *, const coh_device *);
/* As coh_backward for one member, but each row's gradient by itself: rows (device) [B,
 * P]. `grads` is left alone. */
int coh_backward_rows(coh_ensemble *, coh_workspace *, size_t B, const void *x,
                      const void *dout, void *rows, coh_error *err);
/* Activation of hidden layer l after a forward: device [N, B, out_l]. */
const void *coh_workspace_hidden(const coh_workspace *, size_t layer);

/* Host helper: features of ONE network on n rows, in chunks: out [n, width] where layer =
 * index of a hidden layer, or L-1 for the outputs. x host [n, d_in]; params host [P]. */
int coh_network_apply(const coh_plan *, coh_device *, const void *params, size_t layer,
                      size_t n, const void *x, void *out, coh_error *err);

#define COH_MODEL_KIND "model"
enum { COH_MODEL_FORMAT = 1 };
/* Models on file: archive kind "model", format 1: the tensors under their names, one row
 * a member ([N, out, in]), `sizes`, `skip`, and as text `activation`, `dtype`. Collective
 * over comm; this rank brings rows [first, first + count), host params [count, P]. */
int coh_model_save(const char *path, MPI_Comm comm, const coh_plan *, coh_dtype, size_t N,
                   size_t first, size_t count, const void *params, coh_error *err);
/* Reads plan and all members on every rank; *params: host [N, P] of `dtype`, freed by the
 * caller. COH_EDATA if a tensor is missing or has a wrong shape. */
int coh_model_load(const char *path, MPI_Comm comm, coh_dtype dtype, coh_plan *plan,
                   size_t *N, void **params, coh_error *err);

#endif
