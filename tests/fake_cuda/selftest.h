/* selftest.h - launches of the kernels in selftest.cu, for test_fake.c.
 */
#ifndef SELFTEST_H
#define SELFTEST_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[b] = sum of the n values of block b */
void launch_sum(const float *in, float *out, int blocks, int n, int threads,
                cudaStream_t s);
void launch_sum_double(const double *in, double *out, int blocks, int n, int threads,
                       cudaStream_t s);
/* Each 256 values in reverse; without the barrier wrongly in some orders. */
void launch_reverse(float *x, int blocks, int barrier, cudaStream_t s);
/* out: 6 rows of `threads` */
void launch_exchanges(int *out, int threads, cudaStream_t s);
/* count[0] += n, count[1] = n - 1, sum += 0 + 1 + .. + n - 1 */
void launch_count(int *count, double *sum, int n, cudaStream_t s);
void launch_add(float *x, float value, int n, cudaStream_t s);
void launch_scale(float *x, float value, int n, cudaStream_t s);
/* 0: a thread ends before a barrier; 1: two barriers in divergent code */
void launch_wrong(int which, float *x, cudaStream_t s);
/* A launch of these sizes; x gets the shared memory, which nobody wrote. */
void launch_sized(unsigned gx, unsigned gy, unsigned threads, size_t shared, float *x,
                  cudaStream_t s);
cudaError_t raise_shared(int bytes);

#ifdef __cplusplus
}
#endif
#endif
