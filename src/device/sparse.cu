/* sparse.cu - the penalised step of the CUDA back end: a grid over the elements of each
 * range of each member's parameters. The formulas stand in element.h; numbers that all
 * elements of a range share are made on the host, once, and lie in the scratch memory.
 */
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime.h>

#include "device/launch.h"

extern "C" {
#include "device/element.h"
#include "device/kernels_cuda.h"
}

enum { THREADS = 256 };

/* The penalised step of element.h by type */
template <class R> struct penal;
#define PENAL(R, suffix)                                                                 \
  template <> struct penal<R> {                                                          \
    typedef coh_penal_##suffix S;                                                        \
    static S make(const coh_sparse_member *m, double f) {                                \
      return coh_penal_make_##suffix(m, f);                                              \
    }                                                                                    \
    static __device__ R base(const S *s, R w, R g, R mask) {                             \
      return coh_penal_base_##suffix(s, w, g, mask);                                     \
    }                                                                                    \
    static __device__ R l1(const S *s, R w) { return coh_penal_l1_##suffix(s, w); }      \
    static __device__ R exp(const S *s, R w) { return coh_penal_exp_##suffix(s, w); }    \
    static __device__ R gates(const S *s, R w, R v, R q, R u, R *gv, R *gq) {            \
      return coh_penal_gates_##suffix(s, w, v, q, u, gv, gq);                            \
    }                                                                                    \
    static __device__ R multiplier(const S *s, R w, R v, R q) {                          \
      return coh_penal_multiplier_##suffix(s, w, v, q);                                  \
    }                                                                                    \
    static __device__ R adam(const S *s, R w, R g, R *m, R *v) {                         \
      return coh_adam_##suffix(&s->adam, w, g, m, v);                                    \
    }                                                                                    \
    static __device__ R clamp(R q) { return coh_clamp_unit_##suffix(q); }                \
    static __device__ R running(const S *s, R mean, R value) {                           \
      return coh_running_##suffix(s, mean, value);                                       \
    }                                                                                    \
  };
PENAL(float, f32)
PENAL(double, f64)
#undef PENAL

/* A range of a member: where it starts among w, g, m, v and among all other arrays. */
template <class R> struct range {
  size_t row, place, count;
  coh_penalty penalty;
  typename penal<R>::S numbers;
};

/* w, g, m, v at i, the others at k; as sparse_coupled in kernels_real.h. */
template <class R>
static __device__ void coupled(const coh_sparse_args &a, const range<R> &r, size_t i,
                               size_t k) {
  const typename penal<R>::S *s = &r.numbers;
  const bool means = r.penalty == COH_PENALTY_MEANS;
  R *w = (R *)a.w + i, *v = (R *)a.c[0] + k, *q = (R *)a.c[1] + k, *u = (R *)a.c[2] + k;
  R *aw = (R *)a.mean[0] + k, *av = (R *)a.mean[1] + k;
  R *aq = (R *)a.mean[2] + k, *au = (R *)a.mean[3] + k;
  const R mask = ((const R *)a.mask)[k];
  R gv, gq, d = penal<R>::base(s, *w, ((const R *)a.g)[i], mask);
  d += penal<R>::gates(s, *w, *v, *q, means ? *au : *u, &gv, &gq);
  R gu = means ? penal<R>::multiplier(s, *aw, *av, *aq)
               : penal<R>::multiplier(s, *w, *v, *q);
  *w = penal<R>::adam(s, *w, d, (R *)a.m + i, (R *)a.v + i) * mask;
  *v = penal<R>::adam(s, *v, gv, (R *)a.cm[0] + k, (R *)a.cv[0] + k);
  *q = penal<R>::clamp(penal<R>::adam(s, *q, gq, (R *)a.cm[1] + k, (R *)a.cv[1] + k));
  *u = penal<R>::adam(s, *u, gu, (R *)a.cm[2] + k, (R *)a.cv[2] + k);
  if (!means) return;
  *aw = penal<R>::running(s, *aw, *w);
  *av = penal<R>::running(s, *av, *v);
  *aq = penal<R>::running(s, *aq, *q);
  *au = penal<R>::running(s, *au, *u);
}

template <class R>
static __device__ void plain(const coh_sparse_args &a, const range<R> &r, size_t i,
                             size_t k) {
  const typename penal<R>::S *s = &r.numbers;
  R *w = (R *)a.w + i;
  const R mask = ((const R *)a.mask)[k];
  R d = penal<R>::base(s, *w, ((const R *)a.g)[i], mask);
  d += r.penalty == COH_PENALTY_EXP ? penal<R>::exp(s, *w) : penal<R>::l1(s, *w);
  *w = penal<R>::adam(s, *w, d, (R *)a.m + i, (R *)a.v + i) * mask;
}

template <class R>
static __global__ void sparse(coh_sparse_args a, const range<R> *ranges, size_t n) {
  for (size_t y = blockIdx.y; y < n; y += gridDim.y) {
    const range<R> r = ranges[y];
    const bool both = r.penalty == COH_PENALTY_GATES || r.penalty == COH_PENALTY_MEANS;
    const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x;
    for (size_t i = first; i < r.count; i += (size_t)gridDim.x * THREADS)
      if (both)
        coupled<R>(a, r, r.row + i, r.place + i);
      else
        plain<R>(a, r, r.row + i, r.place + i);
  }
}

template <class R>
static void fill(const coh_sparse_args *a, size_t first, size_t n, range<R> *out) {
  for (size_t k = 0; k < n; k++) {
    const coh_sparse_member *m = a->member + (first + k) / a->parts;
    const coh_sparse_part *part = a->part + (first + k) % a->parts;
    out[k].row = m->row * a->P + part->first;
    out[k].place = m->place * a->P + part->first;
    out[k].count = part->count;
    out[k].penalty = m->penalty;
    out[k].numbers = penal<R>::make(m, part->factor);
  }
}

/* Ranges first, first + 1, ..., n of them. */
template <class R>
static cudaError_t some(const coh_cuda_queue *q, const coh_sparse_args *a, size_t first,
                        size_t n, void *scratch) {
  range<R> *host = (range<R> *)malloc(n * sizeof *host);
  if (!host) return cudaErrorMemoryAllocation;
  fill<R>(a, first, n, host);
  cudaError_t rc =
      cudaMemcpyAsync(scratch, host, n * sizeof *host, cudaMemcpyHostToDevice, q->stream);
  free(host);
  if (rc) return rc;
  size_t blocks = (a->P + THREADS - 1) / THREADS, most = q->blocks / n + 1;
  dim3 grid((unsigned)(blocks < most ? blocks : most), (unsigned)(n < 65535 ? n : 65535),
            1);
  COH_LAUNCH(sparse<R>, grid, THREADS, 0, q->stream, *a, (const range<R> *)scratch, n);
  return cudaGetLastError();
}

template <class R>
static cudaError_t all(const coh_cuda_queue *q, const coh_sparse_args *a, void *scratch,
                       size_t bytes) {
  const size_t n = a->N * a->parts, most = bytes / sizeof(range<R>);
  cudaError_t rc = cudaSuccess;
  for (size_t i = 0; i < n && !rc; i += most)
    rc = some<R>(q, a, i, n - i < most ? n - i : most, scratch);
  return rc;
}

extern "C" cudaError_t coh_cuda_sparse(const coh_cuda_queue *q, const coh_sparse_args *a,
                                       void *scratch, size_t bytes) {
  return q->dtype == COH_F64 ? all<double>(q, a, scratch, bytes)
                             : all<float>(q, a, scratch, bytes);
}
