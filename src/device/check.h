/* check.h - what callers of the device table promise, checked alike by all back ends.
 * COH_EBUG where it is not so. Private. */
#ifndef COHORT_DEVICE_CHECK_H
#define COHORT_DEVICE_CHECK_H

#include "cohort/device.h"

int coh_gemm_check(const coh_gemm *, coh_error *);
int coh_step_check(const coh_step_args *, coh_error *);
int coh_sparse_check(const coh_sparse_args *, coh_error *);
int coh_small_check(const coh_small *, coh_error *);
int coh_compact_check(size_t count, const uint32_t *keep, coh_error *);

#endif
