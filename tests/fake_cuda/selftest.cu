/* selftest.cu - kernels for the test of the fake CUDA (test_fake.c); nvcc compiles them
 * too.
 */
#include "device/launch.h"
#include "selftest.h"

/* out[b] = sum of in[b * n .. b * n + n), by shared memory and shuffles */
template <class T> __global__ void sum_blocks(const T *in, T *out, int n) {
  COH_SHARED(T, warps);
  T sum = 0;
  for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
    sum += in[(int)blockIdx.x * n + i];
  for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned w = 1; w < blockDim.x / 32; w++) sum += warps[w];
    out[blockIdx.x] = sum;
  }
}

/* Reverses each block; without the barrier the result hangs on the order. */
template <bool barrier> __global__ void reverse_blocks(float *x) {
  __shared__ float copy[256];
  const unsigned t = threadIdx.x, n = blockDim.x;
  copy[t] = x[blockIdx.x * n + t];
  if (barrier) __syncthreads();
  x[blockIdx.x * n + t] = copy[n - 1 - t];
}

/* What each lane gets from the exchanges of its warp. */
__global__ void exchanges(int *out) {
  const int lane = (int)threadIdx.x, n = (int)blockDim.x;
  out[lane] = __shfl_xor_sync(0xffffffffu, lane, 1);
  out[n + lane] = __shfl_sync(0xffffffffu, lane, 5, 8);
  out[2 * n + lane] = __shfl_up_sync(0xffffffffu, lane, 2);
  out[3 * n + lane] = (int)__ballot_sync(0xffffffffu, lane % 2);
  __syncwarp();
  out[4 * n + lane] = __all_sync(0xffffffffu, lane >= 0) + 2 * __any_sync(~0u, lane < 0);
  out[5 * n + lane] = lane < 16 ? __shfl_xor_sync(0x0000ffffu, lane, 15) : -1;
}

__global__ void count_atomic(int *count, double *sum, int most) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= most) return;
  atomicAdd(count, 1);
  atomicMax(count + 1, i);
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 600
  atomicAdd(sum, (double)i);
#endif
}

__global__ void add(float *x, float value, int n) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += value;
}

__global__ void scale(float *x, float value, int n) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] *= value;
}

__global__ void leaves_before_barrier(float *x) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  x[threadIdx.x] = 1;
}

__global__ void divergent_barrier(float *x) {
  if (threadIdx.x < 7)
    __syncthreads();
  else
    __syncthreads();
  x[threadIdx.x] = 1;
}

__global__ void read_shared(float *out) {
  COH_SHARED(float, x);
  out[threadIdx.x] = x[threadIdx.x];
}

extern "C" {

void launch_sum(const float *in, float *out, int blocks, int n, int threads,
                cudaStream_t s) {
  COH_LAUNCH((sum_blocks<float>), blocks, threads, 32 * sizeof(float), s, in, out, n);
}
void launch_sum_double(const double *in, double *out, int blocks, int n, int threads,
                       cudaStream_t s) {
  COH_LAUNCH((sum_blocks<double>), dim3(blocks), dim3(threads), 32 * sizeof(double), s,
             in, out, n);
}
void launch_reverse(float *x, int blocks, int barrier, cudaStream_t s) {
  if (barrier)
    COH_LAUNCH((reverse_blocks<true>), blocks, 256, 0, s, x);
  else
    COH_LAUNCH((reverse_blocks<false>), blocks, 256, 0, s, x);
}
void launch_exchanges(int *out, int threads, cudaStream_t s) {
  COH_LAUNCH(exchanges, 1, threads, 0, s, out);
}
void launch_count(int *count, double *sum, int n, cudaStream_t s) {
  COH_LAUNCH(count_atomic, (n + 95) / 96, dim3(32, 1, 3).x * 3, 0, s, count, sum, n);
}
void launch_add(float *x, float value, int n, cudaStream_t s) {
  COH_LAUNCH(add, (n + 63) / 64, 64, 0, s, x, value, n);
}
void launch_scale(float *x, float value, int n, cudaStream_t s) {
  COH_LAUNCH(scale, (n + 63) / 64, 64, 0, s, x, value, n);
}
void launch_wrong(int which, float *x, cudaStream_t s) {
  if (which == 0)
    COH_LAUNCH(leaves_before_barrier, 1, 32, 0, s, x);
  else
    COH_LAUNCH(divergent_barrier, 1, 32, 0, s, x);
}
void launch_sized(unsigned gx, unsigned gy, unsigned threads, size_t shared, float *x,
                  cudaStream_t s) {
  COH_LAUNCH(read_shared, dim3(gx, gy), threads, shared, s, x);
}
cudaError_t raise_shared(int bytes) {
  return cudaFuncSetAttribute(read_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              bytes);
}
}
