/* small.cu - small networks of the CUDA back end: a block takes one member through
 * forward, loss and backward, ROWS rows of the batch at a time; activations stay in
 * shared memory as [feature][LD], so that the lanes of a warp hold neighbouring rows and
 * a weight serves them all. Rows that fill up the last tile have gradient 0. Sums run in
 * a fixed order.
 */
#include "device/kernels_common.h"

enum { SMALL_THREADS = 128, ROWS = 32, LD = ROWS + 1, OUTS = 4 };

/* Where a layer's arrays start in shared memory, in elements. */
typedef struct small_place {
  size_t in[COH_SMALL_LAYERS]; /* [in, LD] what the layer reads */
  size_t dz[COH_SMALL_LAYERS]; /* [out, LD] slopes, then gradients by pre-activations */
  size_t out;                  /* [O, LD] of the last layer */
  size_t end;
} small_place;

static small_place place_of(const coh_small *s) {
  small_place p = {};
  for (size_t l = 0; l < s->L; l++) {
    p.in[l] = p.end;
    p.end += s->layer[l].in * LD;
    p.dz[l] = p.end;
    p.end += s->layer[l].out * LD;
  }
  p.out = p.end;
  p.end += s->layer[s->L - 1].out * LD;
  return p;
}

/* c[j][row] = by[j][row] (bias[j] + sum_k w(k, j) a[k][row]) for j < m, of which a warp
 * takes OUTS at a time; w(k, j) = w[k * wk + j * wj]; bias NULL: 0; by NULL: 1. */
template <class R>
static __device__ void small_product(size_t m, size_t n, const R *w, size_t wk, size_t wj,
                                     const R *a, const R *bias, const R *by, R *c) {
  const size_t lane = threadIdx.x % WARP, warps = SMALL_THREADS / WARP;
  for (size_t j0 = threadIdx.x / WARP * OUTS; j0 < m; j0 += warps * OUTS) {
    R sum[OUTS];
    for (int j = 0; j < OUTS; j++) sum[j] = bias && j0 + j < m ? bias[j0 + j] : (R)0;
    for (size_t k = 0; k < n; k++) {
      R x = a[k * LD + lane];
      for (int j = 0; j < OUTS; j++)
        if (j0 + j < m) sum[j] = el<R>::madd(w[k * wk + (j0 + j) * wj], x, sum[j]);
    }
    for (int j = 0; j < OUTS; j++)
      if (j0 + j < m) {
        size_t at = (j0 + j) * LD + lane;
        c[at] = by ? by[at] * sum[j] : sum[j];
      }
  }
}

/* The tile's rows of x into the first layer's input, filled up with zeros. */
template <class R>
static __device__ void small_load(const coh_small &s, const R *x, size_t rows, R *to) {
  const size_t I = s.layer[0].in;
  for (size_t i = threadIdx.x; i < ROWS * I; i += SMALL_THREADS) {
    size_t b = i / I, k = i - b * I;
    to[k * LD + b] = b < rows ? x[i] : (R)0;
  }
}

template <class R>
static __device__ void small_forward(const coh_small &s, const small_place &p,
                                     const R *params, R *shared) {
  for (size_t l = 0; l < s.L; l++) {
    const coh_small_layer y = s.layer[l];
    const bool last = l + 1 == s.L;
    R *out = shared + (last ? p.out : p.in[l + 1]), *slope = shared + p.dz[l];
    __syncthreads();
    small_product<R>(y.out, y.in, params + y.w, y.out, 1, shared + p.in[l],
                     params + y.w + y.in * y.out, NULL, out);
    if (last) break;
    __syncthreads();
    for (size_t i = threadIdx.x; i < y.out * ROWS; i += SMALL_THREADS) {
      size_t at = i / ROWS * LD + i % ROWS;
      out[at] = el<R>::act(y.act, out[at], &slope[at]);
    }
  }
  __syncthreads();
}

/* Loss of one row of the tile, its gradient into dz. */
template <class R>
static __device__ double small_row(const coh_small &s, size_t n, size_t b, size_t row,
                                   const R *out, R *dz) {
  const size_t O = s.layer[s.L - 1].out;
  if (s.y) {
    const R *y = (const R *)s.y + n * s.stride_t + b * O;
    const R factor = (R)(2 * s.scale / (double)O);
    double sum = 0;
    for (size_t o = 0; o < O; o++) {
      R e = out[o * LD + row] - y[o];
      dz[o * LD + row] = factor * e;
      sum += (double)e * (double)e;
    }
    return sum / (double)O;
  }
  bool right;
  return softmax_row<R>(O, LD, out + row, s.labels[n * s.stride_t + b], (R)s.scale,
                        dz + row, &right);
}

/* The tile's loss, on thread 0: the first warp takes a row each. */
template <class R>
static __device__ double small_loss(const coh_small &s, const small_place &p, size_t n,
                                    size_t first, size_t rows, R *shared) {
  const size_t row = threadIdx.x, O = s.layer[s.L - 1].out;
  R *dz = shared + p.dz[s.L - 1];
  double loss = 0;
  if (row >= ROWS) return 0;
  if (row < rows)
    loss = small_row<R>(s, n, first + row, row, shared + p.out, dz);
  else
    for (size_t o = 0; o < O; o++) dz[o * LD + row] = 0;
  for (int half = WARP / 2; half > 0; half /= 2)
    loss += __shfl_down_sync(0xffffffffu, loss, half);
  return loss;
}

/* grads [in + 1, out] (+)= sum over the tile's rows of input times dz; the last row, of
 * inputs 1, is the bias. */
template <class R>
static __device__ void small_grad(const coh_small_layer &y, const R *in, const R *dz,
                                  bool add, R *grads) {
  for (size_t i = threadIdx.x; i < (y.in + 1) * y.out; i += SMALL_THREADS) {
    size_t k = i / y.out, o = i - k * y.out;
    const R *a = in + k * LD, *d = dz + o * LD;
    R sum = 0;
    for (size_t r = 0; r < ROWS; r++)
      sum = k < y.in ? el<R>::madd(a[r], d[r], sum) : sum + d[r];
    grads[i] = add ? grads[i] + sum : sum;
  }
}

template <class R>
static __device__ void small_backward(const coh_small &s, const small_place &p, bool add,
                                      const R *params, R *grads, R *shared) {
  for (size_t l = s.L; l-- > 0;) {
    const coh_small_layer y = s.layer[l];
    __syncthreads();
    small_grad<R>(y, shared + p.in[l], shared + p.dz[l], add, grads + y.w);
    if (l > 0)
      small_product<R>(y.in, y.out, params + y.w, 1, y.out, shared + p.dz[l], NULL,
                       shared + p.dz[l - 1], shared + p.dz[l - 1]);
  }
  __syncthreads();
}

template <class R>
static __global__ void __launch_bounds__(SMALL_THREADS)
    small(coh_small s, small_place p) {
  COH_SHARED(R, shared);
  const size_t I = s.layer[0].in;
  for (size_t n = blockIdx.x; n < s.N; n += gridDim.x) {
    const R *params = (const R *)s.params + n * s.P;
    const R *x = (const R *)s.x + n * s.stride_x;
    R *grads = (R *)s.grads + n * s.P;
    double loss = 0;
    for (size_t b = 0; b < s.B; b += ROWS) {
      size_t rows = s.B - b;
      if (rows > ROWS) rows = ROWS;
      small_load<R>(s, x + b * I, rows, shared + p.in[0]);
      small_forward<R>(s, p, params, shared);
      loss += small_loss<R>(s, p, n, b, rows, shared);
      if (s.grads)
        small_backward<R>(s, p, b > 0, params, grads, shared);
      else
        __syncthreads();
    }
    if (threadIdx.x == 0) s.loss[n] += loss;
  }
}

extern "C" cudaError_t coh_cuda_small(const coh_cuda_queue *q, const coh_small *s) {
  const small_place p = place_of(s);
  size_t bytes = p.end * coh_dtype_size(q->dtype);
  if (s->N == 0 || s->B == 0) return cudaSuccess;
  BY_TYPE(q, small, (unsigned)(s->N < INT32_MAX ? s->N : INT32_MAX), SMALL_THREADS, bytes,
          *s, p);
}

/* Bytes that a small network's block may take. */
static size_t small_shared(const coh_cuda_queue *q) {
  const size_t most = COH_CUDA_SHARED;
  return q->shared < most + 1024 ? q->shared - 1024 : most;
}

extern "C" size_t coh_cuda_small_width(const coh_cuda_queue *q) {
  return small_shared(q) / (LD * coh_dtype_size(q->dtype)) - COH_SMALL_WIDTH;
}

extern "C" cudaError_t coh_cuda_prepare_small(const coh_cuda_queue *q) {
  const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
  const int bytes = (int)small_shared(q);
  cudaError_t rc = cudaFuncSetAttribute((const void *)small<float>, most, bytes);
  return rc ? rc : cudaFuncSetAttribute((const void *)small<double>, most, bytes);
}
