/* device.h - the kernels behind one table of functions. Uses base, config.
 *
 * Networks and training call only this table, so that a CPU and a GPU run one code path.
 * A device works in one precision (dtype). Pointers called device pointers come from
 * coh_device_ops.alloc of the same device; for the CPU they are plain memory.
 *
 * Letters: N members, B batch, I inputs, O outputs, P parameters of one member. Members
 * are the slowest axis everywhere: activations [N, B, O], parameters [N, P]. A `stride`
 * is the number of elements from one member to the next; stride 0 = shared by all
 * members.
 *
 * Promise that tests hold: what is computed for one member depends only on that member's
 * data and on B, I, O; never on N, on its position among the members, on pointer
 * alignment or on how members are spread over ranks. Results are bit for bit the same on
 * one kind of processor. On the CPU numbers below the normal range count as zero.
 */
#ifndef COHORT_DEVICE_H
#define COHORT_DEVICE_H

#include "cohort/config.h"

typedef struct coh_device coh_device;

/* For every member n: C_n = beta * C_n + op(A_n) op(B_n),
 * op(A) [M, K], op(B) [K, Q], C [M, Q], row-major with leading dimensions (row lengths in
 * memory) lda, ldb, ldc; transposed operands are stored [K, M] and [Q, K]. beta is 0 (C
 * is not read) or 1. */
typedef struct coh_gemm {
  bool trans_a, trans_b;
  size_t N, M, Q, K;
  const void *a;
  size_t lda, stride_a;
  const void *b;
  size_t ldb, stride_b;
  double beta;
  void *c;
  size_t ldc, stride_c;
} coh_gemm;

/* What a step needs that changes from step to step lies in device memory, so that a
 * recorded step reads it anew at every replay. */
typedef struct coh_pace {
  double correction; /* 1 - b1^t of Adam; 1 for SGD */
  double inv_root;   /* 1 / sqrt(1 - b2^t) of Adam */
  uint32_t first;    /* 1 at t == 1, else 0 */
  uint32_t at;       /* the caller's: where in the order the step's batch starts */
} coh_pace;
/* t = number of the step, counting from 1. */
coh_pace coh_pace_of(coh_optimizer, double beta1, double beta2, uint64_t t);

/* One step of SGD or Adam over all parameters of all members, in one pass (section 0.3 of
 * the lottery contract; Kingma & Ba 2015, L2 decay added to the gradient, not decoupled):
 *
 *   g' = g + wd w
 *
 *   SGD, mu == 0:  w -= lr g'
 *
 *   SGD, mu != 0:  buf = t == 1 ? g' : mu buf + g'
 *                  w -= lr (nesterov ? g' + mu buf : buf)
 *
 *   Adam:          m = b1 m + (1-b1) g',  v = b2 v + (1-b2) g'^2
 *                  w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
 */
typedef struct coh_step_args {
  coh_optimizer kind;
  bool nesterov;
  double mu, beta1, beta2, eps;
  size_t N, P;
  const coh_pace *pace;  /* device [1] */
  const double *lr, *wd; /* device [N] */
  void *w;               /* device [N, P] */
  const void *g;         /* device [N, P] */
  void *m; /* device [N, P]: momentum buffer or first moment; NULL if mu == 0 */
  void *v; /* device [N, P]: second moment; NULL for SGD */
} coh_step_args;

/* S lists of R rows each: dst[s, r, :] = src[index[list[s] * stride + at + r], :]. */
typedef struct coh_gather_args {
  size_t S, R, row_bytes;
  const void *src;
  const uint32_t *index; /* device */
  size_t stride;         /* entries from one list to the next */
  const uint32_t *list;  /* device [S]; NULL: list[s] = s */
  const uint32_t *at;    /* device [1]; NULL: 0 */
  void *dst;             /* device [S, R, row_bytes] */
} coh_gather_args;

/* Loss of N members' outputs on a batch, and its gradient times `scale` unless dout is
 * NULL. loss is added the SUM over the B rows (not the mean).
 *
 * y given: mean square error; row loss = mean over O of (out - y)^2, its gradient
 * 2 (out - y) / O.
 *
 * labels given: cross entropy; row loss = -log softmax(out)[label], its gradient softmax
 * - onehot; correct (may be NULL) is added the number of rows whose first maximum is the
 * label. A label outside 0..O-1: COH_EDATA on the CPU, loss NaN on a GPU. */
typedef struct coh_loss_args {
  size_t N, B, O;
  const void *out;       /* device [N, B, O] predictions */
  const void *y;         /* device [B, O] of each member, stride_t elements apart */
  const int32_t *labels; /* device [B] of each member, stride_t apart */
  size_t stride_t;       /* 0: shared by all */
  double scale;
  void *dout;      /* device [N, B, O] or NULL */
  double *loss;    /* device [N] */
  double *correct; /* device [N] or NULL */
} coh_loss_args;

/* One step of Adam on a penalised loss, the penalty's gradient, the mask and the bounds
 * of the gates with it, in one pass over memory (sections 2.2 to 2.7 of the compress
 * contract). sign(0) = 0; all that is on the right is from before the step:
 *
 *   g_w = mask scale g + 2 rho w + l1 sign(w) + penalty
 *   L1     alpha sign(w)
 *   EXP    alpha beta sign(w) exp(-beta |w|)
 *   GATES  2 mf u r, r = w - v q; and for the companions v, q in [0, 1] and u
 *          g_v = -2 mf u r q + 2 mf u v q (1 - q)
 *          g_q = -2 mf u r v + mf u v^2 (1 - 2 q) + alpha
 *          g_u = -mf r^2 - mf v^2 q (1 - q)
 *   MEANS  as GATES with the running mean of u in place of u, but g_u from the running
 *          means of w, v and q; then each mean becomes keep mean + (1 - keep) new value
 *
 * w and companions take a step of Adam (beta 0.9, 0.999, eps 1e-8) at rate lr each with
 * moments of its own, q is clamped to [0, 1], w multiplied by the mask. `part` lists
 * ranges of a member's parameters with a factor of alpha (EXP) each. */
typedef enum coh_penalty {
  COH_PENALTY_L1,
  COH_PENALTY_EXP,
  COH_PENALTY_GATES,
  COH_PENALTY_MEANS
} coh_penalty;
typedef struct coh_sparse_member {
  size_t row;   /* of w, g, m, v */
  size_t place; /* row of all other arrays */
  coh_penalty penalty;
  uint64_t t; /* of Adam, from 1 */
  double lr, scale, alpha, beta, rho, l1, mf, keep;
} coh_sparse_member;
typedef struct coh_sparse_part {
  size_t first, count;
  double factor;
} coh_sparse_part;
enum { COH_SPARSE_COMPANIONS = 3, COH_SPARSE_MEANS = 4 };
typedef struct coh_sparse_args {
  size_t N, P, parts;
  const coh_sparse_member *member; /* host [N] */
  const coh_sparse_part *part;     /* host [parts], in order, all P together */
  void *w;                         /* device [.., P], as all arrays below */
  const void *g;
  void *m, *v;
  const void *mask; /* of the device's type */
  /* v, q, u with their moments, and the means of w, v, q, u; NULL where not used */
  void *c[COH_SPARSE_COMPANIONS], *cm[COH_SPARSE_COMPANIONS], *cv[COH_SPARSE_COMPANIONS];
  void *mean[COH_SPARSE_MEANS];
} coh_sparse_args;

/* Loss and gradient of N small networks of dense layers: forward, loss and backward of
 * one after the other.
 * Layer l: z = a W + b with W [in, out] at `w` of a member's P parameters and b [out]
 * behind it, a' = act(z), but the last layer's act is not applied; layer[l].in =
 * layer[l-1].out. Losses as below: y (mse) or labels (cross_entropy), the other NULL. */
enum { COH_SMALL_LAYERS = 8, COH_SMALL_WIDTH = 64 }; /* most that pay */
typedef struct coh_small_layer {
  size_t in, out, w;
  coh_act act;
} coh_small_layer;
typedef struct coh_small {
  size_t L, N, B, P;
  coh_small_layer layer[COH_SMALL_LAYERS];
  const void *x;             /* device [B, in] of each member, stride_x elements apart */
  const void *y;             /* device [B, out], stride_t apart */
  const int32_t *labels;     /* device [B], stride_t apart */
  size_t stride_x, stride_t; /* 0: shared by all */
  double scale;
  const void *params; /* device [N, P] */
  void *grads;        /* device [N, P]: overwritten; NULL: the loss alone */
  double *loss;       /* device [N]: added the sum over the rows */
} coh_small;

/* A sequence of calls kept for replay. */
typedef struct coh_recording coh_recording;

/* Calls are done in order, but maybe later than they return: sync, and download, wait for
 * all earlier ones. Host memory that a call reads is free when the call returns. */
typedef struct coh_device_ops {
  const char *name; /* "cpu", "cuda" */
  void (*close)(coh_device *);

  /* memory; alloc gives zeroed memory, sizes in bytes */
  int (*alloc)(coh_device *, size_t bytes, void **out, coh_error *);
  void (*free)(coh_device *, void *);
  int (*upload)(coh_device *, void *device_dst, const void *host_src, size_t bytes,
                coh_error *);
  int (*download)(coh_device *, void *host_dst, const void *device_src, size_t bytes,
                  coh_error *);
  int (*zero)(coh_device *, void *, size_t bytes, coh_error *);
  int (*sync)(coh_device *, coh_error *); /* returns when all earlier calls are done */
  /* This process's share of the bytes that alloc can still give, and all there are.
   * NULL: not known. */
  int (*memory)(coh_device *, size_t *free, size_t *total, coh_error *);

  /* What is called between record and record_end is kept, not done; only calls of kernels
   * (gather and below), zero, and sums of NCCL may stand there. replay does it all, with
   * what device memory holds by then. record_end with out NULL drops it. All four NULL:
   * the device has no gain from it. */
  int (*record)(coh_device *, coh_error *);
  int (*record_end)(coh_device *, coh_recording **out, coh_error *);
  int (*replay)(coh_device *, coh_recording *, coh_error *);
  void (*recording_free)(coh_device *, coh_recording *); /* NULL accepted */

  int (*gather)(coh_device *, const coh_gather_args *, coh_error *);
  /* now = row *cursor of table (rows of `row_bytes`, a multiple of 8); then ++*cursor */
  int (*advance)(coh_device *, size_t row_bytes, const void *table, uint32_t *cursor,
                 void *now, coh_error *);
  /* order[s, :] = coh_random_permutation(seed[s], COH_RNG_ORDER, epoch, n), s < S; seed
   * on the host. NULL: draw on the host and upload. */
  int (*order)(coh_device *, size_t S, const uint64_t *seed, uint64_t epoch, size_t n,
               uint32_t *order, coh_error *);
  /* Moves rows keep[0] < keep[1] < ... (host array [count]) of `rows` to the front */
  int (*compact)(coh_device *, size_t count, const uint32_t *keep, size_t row_bytes,
                 void *rows, coh_error *);

  int (*gemm)(coh_device *, const coh_gemm *, coh_error *);

  /* z [N,B,O] in: pre-activations without bias; out: act(z + bias). bias [O] of each
   * member, stride_bias apart. deriv [N,B,O] gets act'(z + bias), unless NULL. */
  int (*bias_act)(coh_device *, coh_act, size_t N, size_t B, size_t O, const void *bias,
                  size_t stride_bias, void *z, void *deriv, coh_error *);
  /* dz[i] *= deriv[i] for N members of `count` elements */
  int (*act_grad)(coh_device *, size_t N, size_t count, void *dz, const void *deriv,
                  coh_error *);
  /* db[n, o] = sum_b dz[n, b, o] */
  int (*bias_grad)(coh_device *, size_t N, size_t B, size_t O, const void *dz, void *db,
                   size_t stride_db, coh_error *);
  /* c[b * ldc + i * O + o] = a[b, i] dz[b, o]: of each row the gradient of a weight; a
   * NULL (I = 1): ones, for that of a bias */
  int (*outer)(coh_device *, size_t B, size_t I, size_t O, const void *a, const void *dz,
               void *c, size_t ldc, coh_error *);

  int (*loss)(coh_device *, const coh_loss_args *, coh_error *);
  int (*step)(coh_device *, const coh_step_args *, coh_error *);
  int (*small)(coh_device *, const coh_small *, coh_error *);        /* NULL: has none */
  int (*sparse)(coh_device *, const coh_sparse_args *, coh_error *); /* NULL: has none */
} coh_device_ops;

struct coh_device {
  const coh_device_ops *ops;
  coh_dtype dtype;
  size_t cache_bytes; /* work that fits in here is done fastest; 0 = large is best */
  size_t small_width; /* most that inputs and outputs of all layers of a small network
                         may add up to */
  char text[96];      /* see coh_device_text */
  void *impl;         /* the back end's own */
};

/* Which device: `number` counts the GPUs that this process sees, from 0. */
typedef struct coh_device_wish {
  coh_device_kind kind;
  coh_math math; /* of float32 products on a GPU; a CPU knows fp32 only */
  int number;
  int sharers; /* processes on this GPU, which share its memory; 0 counts as 1 */
} coh_device_wish;

/* Opens a device; `auto` takes the GPU if it is there and cohort was built with CUDA.
 * COH_EUSAGE for cuda where it is not to be had, saying why. */
int coh_device_open_as(const coh_device_wish *, coh_dtype, coh_device **out, coh_error *);
/* The same for GPU 0 in fp32. */
int coh_device_open(coh_device_kind kind, coh_dtype dtype, coh_device **out,
                    coh_error *err);
void coh_device_close(coh_device *); /* NULL accepted */
/* "cpu (avx512)": kernels in use, for logs. */
const char *coh_device_text(const coh_device *);
/* How many GPUs this process sees, built with CUDA or not. */
int coh_device_count(void);
/* A CUDA device's stream (cudaStream_t); NULL for the CPU. */
void *coh_device_stream(const coh_device *);
/* Where a CUDA device sits in its machine: "0000:17:00.0"; "" for the CPU. */
const char *coh_device_bus(const coh_device *);
/* The same of a GPU that is not opened; "" where there is none of that number. */
enum { COH_BUS = 32 };
void coh_device_bus_of(int number, char out[COH_BUS]);
/* Adds a line on the GPUs found, or why none is: "built with CUDA 13.0: no GPU here
 * (...)". */
void coh_device_gpus(coh_text *out);

/* The CPU back end with a given instruction set ("generic", "avx2", "avx512"), for tests;
 * NULL picks the best that the CPU has. $COHORT_ISA overrides the automatic choice. */
int coh_device_open_cpu(const char *isa, coh_dtype dtype, coh_device **out,
                        coh_error *err);

/* Operations a second of one core's multiply-add units with the device's instruction set
 * and precision, measured anew by each call in about a millisecond; 0 where it is not
 * known how. */
double coh_device_peak(const coh_device *);

/* act and its derivative for one double, and loss formulas in the plainest form: the
 * reference for tests and for analysis code. */
double coh_act_value(coh_act, double x);
double coh_act_slope(coh_act, double x);
const char *coh_act_name(coh_act);

#endif
