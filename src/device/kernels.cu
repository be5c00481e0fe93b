/* kernels.cu - the kernels of the CUDA back end but for small.cu and sparse.cu. The
 * arithmetic of one element stands in element.h, which the C compiler reads too; here is
 * who works on which element.
 *
 * Sums run in an order fixed by the shapes, never by atomics, so that a launch gives the
 * same bits every time. Letters as in cohort/device.h; `i` counts elements. Kernels over
 * elements walk a grid as large as the GPU at most.
 */
#include "device/kernels_common.h"

#include <Random123/philox.h>

extern "C" {
#include "cohort/random.h"
}

enum { THREADS = 256 };

#ifdef __CUDA_ARCH__
#define UNROLL_8 _Pragma("unroll 8")
#else
#define UNROLL_8
#endif

/* Blocks for `count` threads' worth of work. */
static unsigned blocks_for(const coh_cuda_queue *q, size_t count) {
  size_t blocks = (count + THREADS - 1) / THREADS;
  return (unsigned)(blocks < 1 ? 1 : blocks < q->blocks ? blocks : q->blocks);
}

/* A dimension of a grid that kernels walk: y and z end at 65535. */
static unsigned grid_side(size_t n) {
  return (unsigned)(n < 1 ? 1 : n < 65535 ? n : 65535);
}

static __device__ size_t thread_of_grid() {
  return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}
static __device__ size_t threads_of_grid() {
  return (size_t)gridDim.x * blockDim.x;
}

/* Sixteen bytes, which a thread loads and stores at once where addresses allow. */
template <class R> struct pack {
  enum { WIDTH = 16 / sizeof(R) };
  alignas(16) R v[WIDTH];
};

static bool aligned(const void *address) {
  return (uintptr_t)address % 16 == 0;
}

/* ---- rows ------------------------------------------------------------------------ */

/* Word: what a row of `words` is copied by. Index: of 32 bits where these count all
 * words, since divisions of 64 bits take several times as long. */
template <class Word, class Index>
static __global__ void gather(coh_gather_args g, Index words) {
  const size_t at = g.at ? *g.at : 0, count = g.S * g.R * words;
  const Index R = (Index)g.R;
  for (size_t all = thread_of_grid(); all < count; all += threads_of_grid()) {
    Index i = (Index)all, row = i / words, w = i - row * words, s = row / R;
    size_t list = g.list ? g.list[s] : s;
    size_t from = g.index[list * g.stride + at + (row - s * R)];
    ((Word *)g.dst)[all] = ((const Word *)g.src)[from * words + w];
  }
}

template <class Word>
static void launch_gather(const coh_cuda_queue *q, const coh_gather_args *g) {
  size_t words = g->row_bytes / sizeof(Word), count = g->S * g->R * words;
  if (count <= UINT32_MAX)
    COH_LAUNCH((gather<Word, uint32_t>), blocks_for(q, count), THREADS, 0, q->stream, *g,
               (uint32_t)words);
  else
    COH_LAUNCH((gather<Word, size_t>), blocks_for(q, count), THREADS, 0, q->stream, *g,
               words);
}

static bool divides(size_t size, const coh_gather_args *g) {
  return g->row_bytes % size == 0 && (uintptr_t)g->src % size == 0 &&
         (uintptr_t)g->dst % size == 0;
}

extern "C" cudaError_t coh_cuda_gather(const coh_cuda_queue *q,
                                       const coh_gather_args *g) {
  if (g->S * g->R * g->row_bytes == 0) return cudaSuccess;
  if (divides(16, g))
    launch_gather<uint4>(q, g);
  else if (divides(4, g))
    launch_gather<uint32_t>(q, g);
  else
    launch_gather<uint8_t>(q, g);
  return cudaGetLastError();
}

/* One block, so that the cursor moves after all have read it. */
static __global__ void __launch_bounds__(1024)
    advance(size_t words, const uint64_t *table, uint32_t *cursor, uint64_t *now) {
  const size_t row = *cursor;
  for (size_t i = threadIdx.x; i < words; i += blockDim.x)
    now[i] = table[row * words + i];
  __syncthreads();
  if (threadIdx.x == 0) *cursor = (uint32_t)row + 1;
}

extern "C" cudaError_t coh_cuda_advance(const coh_cuda_queue *q, size_t row_bytes,
                                        const void *table, uint32_t *cursor, void *now) {
  COH_LAUNCH(advance, 1, 1024, 0, q->stream, row_bytes / sizeof(uint64_t),
             (const uint64_t *)table, cursor, (uint64_t *)now);
  return cudaGetLastError();
}

/* ---- orders of the data ---------------------------------------------------------- */

enum { DRAWS = 2048 }; /* positions drawn by a block's threads, then swapped by one */

/* Fisher-Yates from n-1 down to 1 in perm [n]; all threads of a block. */
template <class Index>
static __device__ void permute(uint64_t seed, uint64_t epoch, size_t n, Index *perm) {
  __shared__ uint32_t draw[DRAWS];
  for (size_t i = threadIdx.x; i < n; i += blockDim.x) perm[i] = (Index)i;
  for (size_t end = n; end > 1;) {
    size_t count = end - 1;
    if (count > DRAWS) count = DRAWS;
    __syncthreads();
    for (size_t k = threadIdx.x; k < count; k += blockDim.x)
      draw[k] =
          (uint32_t)coh_random_below(end - k, seed, COH_RNG_ORDER, epoch, end - 1 - k);
    __syncthreads();
    for (size_t k = 0; k < count && threadIdx.x == 0; k++) {
      Index t = perm[end - 1 - k];
      perm[end - 1 - k] = perm[draw[k]];
      perm[draw[k]] = t;
    }
    end -= count;
  }
  __syncthreads();
}

/* One block a list, in shared memory where 16-bit numbers do. */
static __global__ void order_near(const uint64_t *seed, uint64_t epoch, size_t n,
                                  uint32_t *order) {
  COH_SHARED(uint16_t, perm);
  uint32_t *to = order + blockIdx.x * n;
  permute<uint16_t>(seed[blockIdx.x], epoch, n, perm);
  for (size_t i = threadIdx.x; i < n; i += blockDim.x) to[i] = perm[i];
}

static __global__ void order_far(const uint64_t *seed, uint64_t epoch, size_t n,
                                 uint32_t *order) {
  permute<uint32_t>(seed[blockIdx.x], epoch, n, order + blockIdx.x * n);
}

/* Most numbers of 16 bits that a block's shared memory holds. */
static size_t near_most(const coh_cuda_queue *q) {
  const size_t other = DRAWS * sizeof(uint32_t) + 1024, most = 1 << 16;
  size_t fit = q->shared > other ? (q->shared - other) / sizeof(uint16_t) : 0;
  return fit < most ? fit : most;
}

extern "C" cudaError_t coh_cuda_order(const coh_cuda_queue *q, size_t S,
                                      const uint64_t *seed, uint64_t epoch, size_t n,
                                      uint32_t *order) {
  if (S == 0 || n == 0) return cudaSuccess;
  if (n <= near_most(q))
    COH_LAUNCH(order_near, (unsigned)S, THREADS, n * sizeof(uint16_t), q->stream, seed,
               epoch, n, order);
  else
    COH_LAUNCH(order_far, (unsigned)S, THREADS, 0, q->stream, seed, epoch, n, order);
  return cudaGetLastError();
}

/* ---- elements -------------------------------------------------------------------- */

/* `count` elements [B, O] of one member, W at a time (W <= O): a pack where W > 1. A
 * thread's place in the row, o, moves on by additions. */
template <class R, int W, coh_act ACT>
static __device__ void bias_act_of(size_t count, uint32_t O, const R *bias, R *z,
                                   R *deriv) {
  struct alignas(sizeof(R) * W) item {
    R v[W];
  };
  const size_t step = threads_of_grid() * W;
  const uint32_t jump = (uint32_t)step % O; /* a grid is far below 2^32 */
  uint32_t o = (uint32_t)thread_of_grid() * W % O;
  for (size_t i = thread_of_grid() * W; i < count; i += step) {
    item x = *(const item *)(z + i), slope;
    COH_UNROLL
    for (int k = 0; k < W; k++) {
      uint32_t at = o + k < O ? o + k : o + k - O;
      x.v[k] = el<R>::act(ACT, x.v[k] + bias[at], &slope.v[k]);
    }
    *(item *)(z + i) = x;
    if (deriv) *(item *)(deriv + i) = slope;
    o += jump;
    o = o < O ? o : o - O;
  }
}

/* z, deriv [N, B, O]; blockIdx.y walks the members. One choice of the activation for all
 * elements of a thread. */
template <class R, int W>
static __global__ void bias_act(coh_act act, size_t N, size_t count, uint32_t O,
                                const R *bias, size_t stride_bias, R *z, R *deriv) {
  for (size_t n = blockIdx.y; n < N; n += gridDim.y) {
    const R *b = bias + n * stride_bias;
    R *to = z + n * count, *d = deriv ? deriv + n * count : NULL;
    switch (act) {
#define ACT(name)                                                                        \
  case name:                                                                             \
    bias_act_of<R, W, name>(count, O, b, to, d);                                         \
    break;
      ACT(COH_RELU)
      ACT(COH_LEAKY_RELU)
      ACT(COH_SOFTPLUS)
      ACT(COH_GELU)
      ACT(COH_SILU)
      ACT(COH_TANH)
      ACT(COH_IDENTITY)
      ACT(COH_SIGMOID)
      ACT(COH_G)
#undef ACT
    }
  }
}

/* A grid over `count` pieces of each of N members. */
static dim3 member_grid(const coh_cuda_queue *q, size_t N, size_t count) {
  size_t each = (count + THREADS - 1) / THREADS;
  size_t most = q->blocks / (N < 1 ? 1 : N) + 1;
  return dim3((unsigned)(each < 1 ? 1 : each < most ? each : most), grid_side(N), 1);
}

template <class R>
static void launch_bias_act(const coh_cuda_queue *q, coh_act act, size_t N, size_t B,
                            size_t O, const R *bias, size_t stride_bias, R *z, R *deriv) {
  enum { W = pack<R>::WIDTH };
  const size_t count = B * O;
  if (O >= W && count % W == 0 && aligned(z) && aligned(deriv))
    COH_LAUNCH((bias_act<R, W>), member_grid(q, N, count / W), THREADS, 0, q->stream, act,
               N, count, (uint32_t)O, bias, stride_bias, z, deriv);
  else
    COH_LAUNCH((bias_act<R, 1>), member_grid(q, N, count), THREADS, 0, q->stream, act, N,
               count, (uint32_t)O, bias, stride_bias, z, deriv);
}

/* Rows of 2^31 and more are no network's: a product counts to INT_MAX. */
extern "C" cudaError_t coh_cuda_bias_act(const coh_cuda_queue *q, coh_act act, size_t N,
                                         size_t B, size_t O, const void *bias,
                                         size_t stride_bias, void *z, void *deriv) {
  if (O > INT32_MAX) return cudaErrorInvalidValue;
  if (q->dtype == COH_F64)
    launch_bias_act<double>(q, act, N, B, O, (const double *)bias, stride_bias,
                            (double *)z, (double *)deriv);
  else
    launch_bias_act<float>(q, act, N, B, O, (const float *)bias, stride_bias, (float *)z,
                           (float *)deriv);
  return cudaGetLastError();
}

/* to[i] *= by[i], packs first, then what is left of `count`; packs <= count / WIDTH. */
template <class R>
static __global__ void multiply(size_t count, size_t packs, void *to, const void *by) {
  for (size_t i = thread_of_grid(); i < packs; i += threads_of_grid()) {
    pack<R> x = ((const pack<R> *)to)[i], y = ((const pack<R> *)by)[i];
    COH_UNROLL
    for (int k = 0; k < pack<R>::WIDTH; k++) x.v[k] *= y.v[k];
    ((pack<R> *)to)[i] = x;
  }
  for (size_t i = packs * pack<R>::WIDTH + thread_of_grid(); i < count;
       i += threads_of_grid())
    ((R *)to)[i] *= ((const R *)by)[i];
}

extern "C" cudaError_t coh_cuda_act_grad(const coh_cuda_queue *q, size_t count, void *dz,
                                         const void *deriv) {
  size_t width = 16 / coh_dtype_size(q->dtype);
  size_t packs = aligned(dz) && aligned(deriv) ? count / width : 0;
  BY_TYPE(q, multiply, blocks_for(q, packs ? packs : count), THREADS, 0, count, packs, dz,
          deriv);
}

/* c[b * ldc + i * O + o] = a[b, i] dz[b, o] */
template <class R>
static __global__ void outer(size_t B, size_t I, size_t O, const void *a, const void *dz,
                             void *c, size_t ldc) {
  const size_t row = I * O, count = B * row;
  for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
    size_t b = k / row, at = k - b * row, i = at / O, o = at - i * O;
    R left = a ? ((const R *)a)[b * I + i] : (R)1;
    ((R *)c)[b * ldc + at] = left * ((const R *)dz)[b * O + o];
  }
}

extern "C" cudaError_t coh_cuda_outer(const coh_cuda_queue *q, size_t B, size_t I,
                                      size_t O, const void *a, const void *dz, void *c,
                                      size_t ldc) {
  BY_TYPE(q, outer, blocks_for(q, B * I * O), THREADS, 0, B, I, O, a, dz, c, ldc);
}

/* ---- sums over the batch --------------------------------------------------------- */

enum { SUM_ROWS = 32 }; /* many, since of a few members there are few blocks */

/* db[n, o] = sum_b dz[n, b, o]. A block of WARP columns by SUM_ROWS: row y adds rows y,
 * y + SUM_ROWS, ..., then the SUM_ROWS sums are added in their order. */
template <class R>
static __global__ void __launch_bounds__(WARP *SUM_ROWS)
    bias_grad(size_t N, size_t B, size_t O, const void *dz, void *db, size_t stride_db) {
  __shared__ R part[SUM_ROWS][WARP];
  const size_t o = (size_t)blockIdx.x * WARP + threadIdx.x;
  for (size_t n = blockIdx.y; n < N; n += gridDim.y) {
    const R *from = (const R *)dz + n * B * O;
    R sum = 0;
    UNROLL_8
    for (size_t b = threadIdx.y; b < (o < O ? B : 0); b += SUM_ROWS)
      sum += from[b * O + o];
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && o < O) {
      for (int y = 1; y < SUM_ROWS; y++) sum += part[y][threadIdx.x];
      ((R *)db)[n * stride_db + o] = sum;
    }
    __syncthreads();
  }
}

extern "C" cudaError_t coh_cuda_bias_grad(const coh_cuda_queue *q, size_t N, size_t B,
                                          size_t O, const void *dz, void *db,
                                          size_t stride_db) {
  dim3 grid((unsigned)((O + WARP - 1) / WARP), grid_side(N), 1), block(WARP, SUM_ROWS, 1);
  BY_TYPE(q, bias_grad, grid, block, 0, N, B, O, dz, db, stride_db);
}

/* The sum of `x` over a block of THREADS, on thread 0; all threads call it. */
static __device__ double block_sum(double x) {
  __shared__ double part[THREADS / WARP];
  for (int half = WARP / 2; half > 0; half /= 2)
    x += __shfl_down_sync(0xffffffffu, x, half);
  __syncthreads(); /* part of an earlier sum was read */
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
  __syncthreads();
  double sum = 0;
  for (int i = 0; i < THREADS / WARP && threadIdx.x == 0; i++) sum += part[i];
  return sum;
}

/* Element i of a member's batch: returns (out - y)^2, dout as a factor of out - y. */
template <class R>
static __device__ double square(const coh_loss_args &a, R factor, size_t n, size_t i) {
  const size_t at = n * a.B * a.O + i;
  R e = ((const R *)a.out)[at] - ((const R *)a.y)[n * a.stride_t + i];
  if (a.dout) ((R *)a.dout)[at] = factor * e;
  return (double)e * (double)e;
}

template <class R> static __global__ void mse(coh_loss_args a) {
  const R factor = (R)(2 * a.scale / (double)a.O);
  for (size_t n = blockIdx.x; n < a.N; n += gridDim.x) {
    double sum = 0;
    for (size_t i = threadIdx.x; i < a.B * a.O; i += blockDim.x)
      sum += square<R>(a, factor, n, i);
    sum = block_sum(sum);
    if (threadIdx.x == 0) a.loss[n] += sum / (double)a.O;
  }
}

enum { FEW_CLASSES = 16 };

/* A block a member, a thread a row. */
template <class R> static __global__ void cross_entropy(coh_loss_args a) {
  for (size_t n = blockIdx.x; n < a.N; n += gridDim.x) {
    double loss = 0, correct = 0;
    for (size_t b = threadIdx.x; b < a.B; b += blockDim.x) {
      size_t at = (n * a.B + b) * a.O;
      bool right;
      const R *out = (const R *)a.out + at;
      R *dout = a.dout ? (R *)a.dout + at : NULL, scale = (R)a.scale;
      const int32_t label = a.labels[n * a.stride_t + b];
      loss += a.O <= FEW_CLASSES
                  ? softmax_row<R, FEW_CLASSES>(a.O, 1, out, label, scale, dout, &right)
                  : softmax_row<R>(a.O, 1, out, label, scale, dout, &right);
      correct += right;
    }
    loss = block_sum(loss);
    correct = block_sum(correct);
    if (threadIdx.x == 0) {
      a.loss[n] += loss;
      if (a.correct) a.correct[n] += correct;
    }
  }
}

extern "C" cudaError_t coh_cuda_loss(const coh_cuda_queue *q, const coh_loss_args *a) {
  unsigned grid = grid_side(a->N);
  if (a->y) BY_TYPE(q, mse, grid, THREADS, 0, *a);
  BY_TYPE(q, cross_entropy, grid, THREADS, 0, *a);
}

/* ---- optimiser ------------------------------------------------------------------- */

/* What a thread does: all of a pack is there before it is computed, since stores might
 * change what later loads see as far as a compiler can tell. */
template <class R, int W> struct step_item {
  struct alignas(sizeof(R) * W) item {
    R v[W];
  };
  item w, g, m, v;
  static __device__ item get(const void *base, size_t i) {
    return base ? *(const item *)((const R *)base + i) : item();
  }
  static __device__ void put(void *base, size_t i, const item &x) {
    if (base) *(item *)((R *)base + i) = x;
  }
  __device__ void load(const coh_step_args &a, size_t i) {
    w = get(a.w, i), g = get(a.g, i), m = get(a.m, i), v = get(a.v, i);
  }
  __device__ void compute(const coh_step_args &a, const typename el<R>::rule &rule) {
    COH_UNROLL
    for (int k = 0; k < W; k++)
      if (a.kind == COH_ADAM)
        w.v[k] = el<R>::adam(&rule, w.v[k], g.v[k], &m.v[k], &v.v[k]);
      else if (a.m)
        w.v[k] = el<R>::momentum(&rule, w.v[k], g.v[k], &m.v[k]);
      else
        w.v[k] = el<R>::plain(&rule, w.v[k], g.v[k]);
  }
  __device__ void store(const coh_step_args &a, size_t i) const {
    put(a.w, i, w), put(a.m, i, m), put(a.v, i, v);
  }
};

/* A thread has the W elements that start at a multiple of W behind a.w: those at the ends
 * of a member are shared with its neighbours and done one by one. a.w - shift lies at a
 * multiple of 16 bytes; so do the other arrays, or W is 1. */
template <class R, int W> static __global__ void step(coh_step_args a, size_t shift) {
  for (size_t n = blockIdx.y; n < a.N; n += gridDim.y) {
    const size_t begin = n * a.P + shift,
                 end = begin + a.P; /* counted from a.w - shift */
    const size_t i = (begin / W + thread_of_grid()) * W;
    if (i >= end) continue;
    if (i >= begin && i + W <= end) {
      step_item<R, W> x;
      x.load(a, i - shift);
      x.compute(a, el<R>::make(a, n));
      x.store(a, i - shift);
      continue;
    }
    for (size_t k = i < begin ? begin : i; k < i + W && k < end; k++) {
      step_item<R, 1> x;
      x.load(a, k - shift);
      x.compute(a, el<R>::make(a, n));
      x.store(a, k - shift);
    }
  }
}

static bool same_shift(const coh_step_args *a) {
  uintptr_t w = (uintptr_t)a->w % 16;
  return (uintptr_t)a->g % 16 == w && (!a->m || (uintptr_t)a->m % 16 == w) &&
         (!a->v || (uintptr_t)a->v % 16 == w);
}

template <class R>
static void launch_step(const coh_cuda_queue *q, const coh_step_args *a) {
  enum { W = pack<R>::WIDTH };
  const bool packs = same_shift(a);
  size_t shift = (uintptr_t)a->w % 16 / sizeof(R), each = packs ? W : 1;
  size_t items = a->P / each + (packs ? 2 : 0);
  dim3 grid((unsigned)((items + THREADS - 1) / THREADS), grid_side(a->N), 1);
  if (packs)
    COH_LAUNCH((step<R, W>), grid, THREADS, 0, q->stream, *a, shift);
  else
    COH_LAUNCH((step<R, 1>), grid, THREADS, 0, q->stream, *a, (size_t)0);
}

extern "C" cudaError_t coh_cuda_step(const coh_cuda_queue *q, const coh_step_args *a) {
  if (q->dtype == COH_F64)
    launch_step<double>(q, a);
  else
    launch_step<float>(q, a);
  return cudaGetLastError();
}

extern "C" cudaError_t coh_cuda_prepare(const coh_cuda_queue *q) {
  const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
  const int bytes = (int)(near_most(q) * sizeof(uint16_t));
  cudaError_t rc = coh_cuda_prepare_small(q);
  return rc ? rc : cudaFuncSetAttribute((const void *)order_near, most, bytes);
}
