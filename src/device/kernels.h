/* kernels.h - what one build of kernels.c (one instruction set) exports: for each type a
 * struct of function pointers that work on ONE member, but for gemm, step and small,
 * which take all of them. Private to src/device.
 */
#ifndef COHORT_DEVICE_KERNELS_H
#define COHORT_DEVICE_KERNELS_H

#include "cohort/device.h"

typedef struct coh_kernels {
  size_t scratch_bytes; /* what gemm needs, 64-byte aligned */
  void (*gemm)(const coh_gemm *, void *scratch);
  /* z [B,O] = act(z + bias [O]); deriv [B,O] or NULL */
  void (*bias_act)(coh_act, size_t B, size_t O, const void *bias, void *z, void *deriv);
  void (*multiply)(size_t count, void *dz, const void *deriv);     /* dz *= deriv */
  void (*bias_grad)(size_t B, size_t O, const void *dz, void *db); /* column sums */
  /* c[b * ldc + i * O + o] = a[b, i] dz[b, o]; a NULL: 1 for I = 1 */
  void (*outer)(size_t B, size_t I, size_t O, const void *a, const void *dz, void *c,
                size_t ldc);
  /* Both return the loss summed over rows; dout may be NULL. */
  double (*mse)(size_t B, size_t O, const void *out, const void *y, double scale,
                void *dout);
  /* scratch: coh_cross_entropy_room(O) elements */
  double (*cross_entropy)(size_t B, size_t O, const void *out, const int32_t *labels,
                          double scale, void *dout, double *correct, void *scratch);
  void (*step)(const coh_step_args *); /* of all members */
  size_t (*small_room)(const coh_small *);
  /* arrays: small_room elements, 64-byte aligned; scratch: as of cross_entropy */
  void (*small)(const coh_small *, void *arrays, void *scratch);
  void (*sparse)(const coh_sparse_args *);
} coh_kernels;

enum { COH_CROSS_ENTROPY_CHUNK = 1024 };
static inline size_t coh_cross_entropy_room(size_t O) {
  return O > COH_CROSS_ENTROPY_CHUNK ? O : COH_CROSS_ENTROPY_CHUNK;
}

extern const coh_kernels coh_kernels_generic[2]; /* [coh_dtype] */
#ifdef __x86_64__
extern const coh_kernels coh_kernels_avx2[2];
extern const coh_kernels coh_kernels_avx512[2];
#endif

#endif
