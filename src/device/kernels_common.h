/* kernels_common.h - what the kernels in kernels.cu and small.cu share: element.h by
 * type, launches by type, the loss of one row. For CUDA C++ only. Private.
 */
#ifndef COHORT_DEVICE_KERNELS_COMMON_H
#define COHORT_DEVICE_KERNELS_COMMON_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cuda_runtime.h>

#include "device/launch.h"

extern "C" {
#include "device/element.h"
#include "device/kernels_cuda.h"
}

enum { WARP = 32 };

/* element.h by type */
template <class R> struct el;
#define COH_EL_OF(R, suffix)                                                             \
  template <> struct el<R> {                                                             \
    typedef coh_rule_##suffix rule;                                                      \
    static __device__ R act(coh_act k, R x, R *s) { return coh_act_##suffix(k, x, s); }  \
    static __device__ R exp(R x) { return coh_exp_##suffix(x); }                         \
    static __device__ R madd(R a, R b, R c) { return coh_madd_##suffix(a, b, c); }       \
    static __device__ rule make(const coh_step_args &a, size_t n) {                      \
      return coh_rule_of_##suffix(&a, a.pace, n);                                        \
    }                                                                                    \
    static __device__ R adam(const rule *r, R w, R g, R *m, R *v) {                      \
      return coh_adam_##suffix(r, w, g, m, v);                                           \
    }                                                                                    \
    static __device__ R momentum(const rule *r, R w, R g, R *m) {                        \
      return coh_sgd_momentum_##suffix(r, w, g, m);                                      \
    }                                                                                    \
    static __device__ R plain(const rule *r, R w, R g) {                                 \
      return coh_sgd_plain_##suffix(r, w, g);                                            \
    }                                                                                    \
  };
COH_EL_OF(float, f32)
COH_EL_OF(double, f64)
#undef COH_EL_OF

#define BY_TYPE(q, kernel, grid, block, shared, ...)                                     \
  do {                                                                                   \
    if ((q)->dtype == COH_F64)                                                           \
      COH_LAUNCH((kernel<double>), grid, block, shared, (q)->stream, __VA_ARGS__);       \
    else                                                                                 \
      COH_LAUNCH((kernel<float>), grid, block, shared, (q)->stream, __VA_ARGS__);        \
    return cudaGetLastError();                                                           \
  } while (0)

/* Row loss -log softmax(row)[label] and its gradient, elements `ld` apart; *right:
 * whether the first maximum is the label. A label that is none gives NaN. MOST >= O: the
 * row stays in registers, so that its loads wait for memory together; 0: any O. */
template <class R, int MOST = 0>
static __device__ double softmax_row(size_t O, size_t ld, const R *row, int32_t label,
                                     R scale, R *dout, bool *right) {
  R kept[MOST ? MOST : 1];
  const int rounds = MOST ? MOST : (int)O, n = (int)O;
  const bool none = label < 0 || (size_t)label >= O;
  COH_UNROLL
  for (int j = 0; j < MOST; j++) kept[MOST ? j : 0] = j < n ? row[j * ld] : (R)0;
  R max = row[0];
  COH_UNROLL
  for (int j = 1; j < rounds; j++) {
    if (j >= n) break;
    R x = MOST ? kept[MOST ? j : 0] : row[j * ld];
    max = x > max ? x : max;
  }
  int first = n;
  double sum = 0;
  COH_UNROLL
  for (int j = 0; j < rounds; j++) {
    if (j >= n) break;
    R x = MOST ? kept[MOST ? j : 0] : row[j * ld], e = el<R>::exp(x - max);
    first = first == n && x == max ? j : first;
    sum += (double)e;
    if (MOST) kept[MOST ? j : 0] = e;
  }
  R factor = (R)((double)scale / sum), at_label = none ? (R)0 : row[(size_t)label * ld];
  COH_UNROLL
  for (int j = 0; j < rounds; j++) {
    if (j >= n || !dout) break;
    R e = MOST ? kept[MOST ? j : 0] : el<R>::exp(row[j * ld] - max);
    dout[j * ld] = el<R>::madd(factor, e, !none && j == label ? -scale : (R)0);
  }
  *right = !none && first == label;
  return none ? nan("") : log(sum) - (double)(at_label - max);
}

#endif
