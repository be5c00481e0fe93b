/* test_fake.c - tests of the fake CUDA: kernels in all orders, lazy streams, capture,
 * memory, limits, products, failures on purpose, NCCL among processes.
 */
#include "fake_cuda.h"
#include "selftest.h"

#include <cublas_v2.h>
#include <nccl.h>

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define OK(call) assert_int_equal(call, cudaSuccess)

static const char *const orders[] = {"forward", "reverse", "shuffle", "shuffle:7"};
enum { orders_count = 4 };

static cudaStream_t new_stream(void) {
  cudaStream_t s;
  OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  return s;
}

static void *device_copy(const void *host, size_t bytes) {
  void *p;
  OK(cudaMalloc(&p, bytes));
  OK(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
  return p;
}

static float *device_ramp(int n) {
  float *host = malloc((size_t)n * sizeof *host);
  for (int i = 0; i < n; i++) host[i] = (float)(i % 101) * 0.37f;
  float *p = device_copy(host, (size_t)n * sizeof *host);
  free(host);
  return p;
}

static int setup(void **state) {
  (void)state;
  setenv("FAKE_CUDA_ORDER", "forward", 1);
  unsetenv("FAKE_CUDA_DEVICES");
  unsetenv("FAKE_CUDA_MEMORY");
  unsetenv("CUDA_VISIBLE_DEVICES");
  fake_cuda_reset();
  return 0;
}

static int nothing_left(void **state) {
  (void)state;
  return fake_cuda_live() == 0 ? 0 : -1;
}

/* Sums by shared memory and shuffles have the same bits in every order, and are right. */
static void sums(void **state) {
  (void)state;
  enum { blocks = 5, n = 777 };
  float first[blocks], now[blocks];
  cudaStream_t s = new_stream();
  float *in = device_ramp(blocks * n), *out;
  OK(cudaMalloc((void **)&out, sizeof now));
  for (int o = 0; o < orders_count; o++) {
    setenv("FAKE_CUDA_ORDER", orders[o], 1);
    OK(cudaMemsetAsync(out, 0xff, sizeof now, s));
    launch_sum(in, out, blocks, n, 1024, s);
    OK(cudaGetLastError());
    OK(cudaMemcpyAsync(now, out, sizeof now, cudaMemcpyDeviceToHost, s));
    if (o == 0) memcpy(first, now, sizeof first);
    assert_memory_equal(first, now, sizeof now);
  }
  for (int b = 0; b < blocks; b++) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)((float)((b * n + i) % 101) * 0.37f);
    assert_true(fabs(sum - (double)now[b]) < 1e-5 * sum);
  }
  OK(cudaFree(in));
  OK(cudaFree(out));
  OK(cudaStreamDestroy(s));
}

/* A kernel that lacks a barrier gives other results in other orders, one that has it not.
 */
static void missing_barrier(void **state) {
  (void)state;
  for (int barrier = 0; barrier < 2; barrier++) {
    float results[2][512];
    for (int o = 0; o < 2; o++) {
      setenv("FAKE_CUDA_ORDER", orders[o], 1);
      float *x = device_ramp(512);
      launch_reverse(x, 2, barrier, NULL);
      OK(cudaMemcpy(results[o], x, sizeof results[o], cudaMemcpyDeviceToHost));
      OK(cudaFree(x));
    }
    assert_int_equal(memcmp(results[0], results[1], sizeof results[0]) == 0, barrier);
    if (barrier) assert_true(results[0][0] == (float)(255 % 101) * 0.37f);
  }
}

static void warp_exchanges(void **state) {
  (void)state;
  enum { n = 64 };
  int out[6 * n], *p;
  OK(cudaMalloc((void **)&p, sizeof out));
  for (int o = 0; o < orders_count; o++) {
    setenv("FAKE_CUDA_ORDER", orders[o], 1);
    launch_exchanges(p, n, NULL);
    OK(cudaMemcpy(out, p, sizeof out, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++) {
      assert_int_equal(out[i], i ^ 1);
      assert_int_equal(out[n + i], (i & ~7) + 5);
      assert_int_equal(out[2 * n + i], i % 32 < 2 ? i : i - 2);
      assert_int_equal((unsigned)out[3 * n + i], 0xaaaaaaaau);
      assert_int_equal(out[4 * n + i], 1);
      assert_int_equal(out[5 * n + i], i < 16 ? i ^ 15 : -1);
    }
  }
  OK(cudaFree(p));
}

static void atomics(void **state) {
  (void)state;
  int count[2] = {0, 0}, *c = device_copy(count, sizeof count);
  double sum = 0, *d = device_copy(&sum, sizeof sum);
  launch_count(c, d, 1000, NULL);
  OK(cudaMemcpy(count, c, sizeof count, cudaMemcpyDeviceToHost));
  OK(cudaMemcpy(&sum, d, sizeof sum, cudaMemcpyDeviceToHost));
  assert_int_equal(count[0], 1000);
  assert_int_equal(count[1], 999);
  assert_true(sum == 499500);
  OK(cudaFree(c));
  OK(cudaFree(d));
}

/* Runs f in a process of its own; its exit status, or -signal. What it says goes to
 * *text. */
static int in_child(void (*f)(int), int argument, char *text, size_t size) {
  int ends[2], status;
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(ends[1], 2);
    f(argument);
    _exit(0);
  }
  close(ends[1]);
  size_t have = 0;
  ssize_t got;
  while (have + 1 < size && (got = read(ends[0], text + have, size - 1 - have)) > 0)
    have += (size_t)got;
  text[have] = 0;
  close(ends[0]);
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void run_wrong(int which) {
  float *x = device_ramp(32);
  launch_wrong(which, x, NULL);
  cudaDeviceSynchronize();
}

/* A barrier that not all threads reach ends the program, and the message names the
 * kernel. */
static void wrong_barriers(void **state) {
  (void)state;
  char text[4096];
  assert_int_equal(in_child(run_wrong, 0, text, sizeof text), -SIGABRT);
  assert_non_null(strstr(text, "leaves_before_barrier"));
  assert_int_equal(in_child(run_wrong, 1, text, sizeof text), -SIGABRT);
  assert_non_null(strstr(text, "divergent_barrier"));
}

/* Nothing is done before somebody waits; pageable memory is read at the call, pinned
 * later. */
static void lazy_streams(void **state) {
  (void)state;
  cudaStream_t s = new_stream(), t = new_stream();
  cudaEvent_t e;
  float pageable = 1, *pinned, *x, *back;
  OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
  OK(cudaMallocHost((void **)&pinned, sizeof *pinned));
  OK(cudaMallocHost((void **)&back, 2 * sizeof *back));
  OK(cudaMalloc((void **)&x, 2 * sizeof *x));
  *pinned = back[0] = back[1] = 1;
  OK(cudaMemcpyAsync(x, &pageable, sizeof *x, cudaMemcpyHostToDevice, s));
  OK(cudaMemcpyAsync(x + 1, pinned, sizeof *x, cudaMemcpyHostToDevice, s));
  pageable = *pinned = 2;
  OK(cudaMemcpyAsync(back, x, 2 * sizeof *x, cudaMemcpyDeviceToHost, s));
  assert_true(back[0] == 1 && back[1] == 1);
  OK(cudaStreamSynchronize(s));
  assert_true(back[0] == 1 && back[1] == 2);

  launch_add(x, 10, 2, s); /* t is ordered behind s by the event alone */
  OK(cudaEventRecord(e, s));
  OK(cudaStreamWaitEvent(t, e, 0));
  launch_scale(x, 2, 2, t);
  OK(cudaMemcpyAsync(&pageable, x, sizeof pageable, cudaMemcpyDeviceToHost, t));
  assert_true(pageable == 22);

  for (int i = 0; i < 100; i++) launch_add(x, 1, 2, s);
  assert_int_equal(cudaStreamQuery(s), cudaErrorNotReady);
  assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
  while (cudaStreamQuery(s) == cudaErrorNotReady) {
  }
  OK(cudaMemcpy(&pageable, x, sizeof pageable, cudaMemcpyDeviceToHost));
  assert_true(pageable == 122);
  cudaGetLastError();
  OK(cudaFreeHost(pinned));
  OK(cudaFreeHost(back));
  OK(cudaFree(x));
  OK(cudaEventDestroy(e));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
}

/* A captured step with a fork and a join; arguments are those of the capture. */
static cudaGraphExec_t capture_step(float *x, float *y, cudaStream_t s, cudaStream_t t,
                                    cudaError_t expected, int join) {
  cudaGraph_t graph;
  cudaGraphExec_t exec = NULL;
  cudaEvent_t fork_at, join_at;
  float value = 1;
  OK(cudaEventCreateWithFlags(&fork_at, cudaEventDisableTiming));
  OK(cudaEventCreateWithFlags(&join_at, cudaEventDisableTiming));
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  launch_add(x, value, 1, s);
  value = 100;
  OK(cudaEventRecord(fork_at, s));
  OK(cudaStreamWaitEvent(t, fork_at, 0));
  launch_add(y, 5, 1, t);
  launch_scale(x, 3, 1, s);
  OK(cudaEventRecord(join_at, t));
  if (join) OK(cudaStreamWaitEvent(s, join_at, 0));
  launch_scale(y, 2, 1, s);
  assert_int_equal(cudaStreamEndCapture(s, &graph), expected);
  if (expected == cudaSuccess) {
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
  }
  OK(cudaEventDestroy(fork_at));
  OK(cudaEventDestroy(join_at));
  cudaGetLastError();
  return exec;
}

static void capture(void **state) {
  (void)state;
  cudaStream_t s = new_stream(), t = new_stream();
  for (int o = 0; o < orders_count; o++) {
    setenv("FAKE_CUDA_ORDER", orders[o], 1);
    float zero = 0, out, *x = device_copy(&zero, sizeof zero);
    float *y = device_copy(&zero, sizeof zero);
    cudaGraphExec_t exec = capture_step(x, y, s, t, cudaSuccess, 1);
    OK(cudaMemcpyAsync(&out, x, sizeof out, cudaMemcpyDeviceToHost, s));
    assert_true(out == 0);
    for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(exec, s));
    OK(cudaMemcpyAsync(&out, x, sizeof out, cudaMemcpyDeviceToHost, s));
    assert_true(out == 39); /* ((0+1)*3+1)*3.. */
    OK(cudaMemcpyAsync(&out, y, sizeof out, cudaMemcpyDeviceToHost, s));
    assert_true(out == 70); /* ((0+5)*2+5)*2.. */
    OK(cudaGraphExecDestroy(exec));
    capture_step(x, y, s, t, cudaErrorStreamCaptureUnjoined, 0);
    OK(cudaFree(x));
    OK(cudaFree(y));
  }
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
}

/* What may not happen during a capture says so and ends it. */
static void illegal_in_capture(void **state) {
  (void)state;
  cudaStream_t s = new_stream();
  float host = 0, *x = device_ramp(1);
  void *p;
  const int expected[] = {
      cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureImplicit,
      cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported,
      cudaErrorStreamCaptureUnsupported};
  for (int i = 0; i < 5; i++) {
    cudaGraph_t graph;
    cudaError_t rc = cudaSuccess;
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    launch_add(x, 1, 1, s);
    if (i == 0) rc = cudaStreamSynchronize(s);
    if (i == 1) rc = cudaMemcpy(&host, x, sizeof host, cudaMemcpyDeviceToHost);
    if (i == 2) rc = cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, s);
    if (i == 3) rc = cudaMalloc(&p, 4);
    if (i == 4) rc = cudaDeviceSynchronize();
    assert_int_equal(rc, expected[i]);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    OK(cudaStreamSynchronize(s));
  }
  cudaGraph_t graph;
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  OK(cudaMalloc(&p, 4));
  OK(cudaStreamEndCapture(s, &graph));
  OK(cudaGraphDestroy(graph));
  assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorIllegalState);
  cudaGetLastError();
  OK(cudaFree(p));
  OK(cudaFree(x));
  OK(cudaStreamDestroy(s));
}

static void memory_and_limits(void **state) {
  (void)state;
  void *p, *q;
  size_t left, total;
  struct cudaDeviceProp properties;
  setenv("FAKE_CUDA_MEMORY", "4096", 1);
  OK(cudaMalloc(&p, 4000));
  assert_int_equal(cudaMalloc(&q, 97), cudaErrorMemoryAllocation);
  assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
  OK(cudaMemGetInfo(&left, &total));
  assert_int_equal(left, 96);
  OK(cudaGetDeviceProperties(&properties, 0));
  assert_int_equal(properties.totalGlobalMem, total);
  assert_string_equal(properties.name, "Fake GPU");
  float value;
  OK(cudaMemcpy(&value, p, sizeof value, cudaMemcpyDeviceToHost));
  assert_true(isnan(value));
  assert_int_equal(cudaMemcpy(&value, (char *)p + 3998, 4, cudaMemcpyDeviceToHost),
                   cudaErrorInvalidValue);
  assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);

  launch_sized(1, 1, 1025, 0, p, NULL);
  assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
  launch_sized(1, 65536, 32, 0, p, NULL);
  assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
  launch_sized(1, 1, 32, 50000, p, NULL);
  assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
  OK(raise_shared(50000));
  launch_sized(1, 1, 32, 50000, p, NULL);
  OK(cudaGetLastError());
  OK(cudaMemcpy(&value, p, sizeof value, cudaMemcpyDeviceToHost));
  assert_true(isnan(value)); /* nobody wrote the shared memory */
  assert_int_equal(raise_shared((227 << 10) + 1), cudaErrorInvalidValue);
  OK(cudaFree(p));

  int count;
  setenv("FAKE_CUDA_DEVICES", "0", 1);
  assert_int_equal(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  assert_int_equal(cudaMalloc(&p, 1), cudaErrorNoDevice);
  assert_string_equal(cudaGetErrorName(cudaGetLastError()), "cudaErrorNoDevice");
}

/* Of three devices those that are let through, in that order, up to the first that is
 * none. */
static void visible_devices(void **state) {
  (void)state;
  static const char *const list[] = {"2,0", "1", "0,3,1", "", "-1"};
  static const int counts[] = {2, 1, 1, 0, 0};
  int count;
  char bus[16];
  setenv("FAKE_CUDA_DEVICES", "3", 1);
  for (int i = 0; i < 5; i++) {
    setenv("CUDA_VISIBLE_DEVICES", list[i], 1);
    assert_int_equal(cudaGetDeviceCount(&count),
                     counts[i] ? cudaSuccess : cudaErrorNoDevice);
    assert_int_equal(count, counts[i]);
  }
  (void)cudaGetLastError();
  setenv("CUDA_VISIBLE_DEVICES", "2,0", 1);
  OK(cudaDeviceGetPCIBusId(bus, sizeof bus, 0));
  assert_string_equal(bus, "0000:03:00.0");
  OK(cudaDeviceGetPCIBusId(bus, sizeof bus, 1));
  assert_string_equal(bus, "0000:01:00.0");
}

/* C = alpha A^T B + beta C of two 2 x 2 matrices each, found as the project finds it */
static void products(void **state) {
  (void)state;
  cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                         int, const void *, const void *, cudaDataType, int, long long,
                         const void *, cudaDataType, int, long long, const void *, void *,
                         cudaDataType, int, long long, int, cublasComputeType_t,
                         cublasGemmAlgo_t) = NULL;
  *(void **)&gemm = dlsym(dlopen(NULL, RTLD_NOW), "cublasGemmStridedBatchedEx");
  assert_non_null(gemm);
  const cublasComputeType_t types[] = {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32,
                                       CUBLAS_COMPUTE_32F_FAST_16BF};
  const float small[] = {0x1p-12f, 0x1p-9f, 0};
  cublasHandle_t h;
  cudaStream_t s = new_stream();
  assert_int_equal(cublasCreate(&h), CUBLAS_STATUS_SUCCESS);
  assert_int_equal(cublasSetStream(h, s), CUBLAS_STATUS_SUCCESS);
  for (int t = 0; t < 3; t++) {
    const float in[] = {1, 2, 3, 4, 5, 6, 7, 8}, alpha = 2, beta = 0;
    float b[] = {1, 0, 0, 1, 1 + 0x1p-12f, 0x1p-9f, 0x1p-9f, 1 + 0x1p-9f}, c[8];
    float *pa = device_copy(in, sizeof in), *pb = device_copy(b, sizeof b), *pc;
    OK(cudaMalloc((void **)&pc, sizeof c)); /* NaN, which beta = 0 does not read */
    assert_int_equal(gemm(h, CUBLAS_OP_T, CUBLAS_OP_N, 2, 2, 2, &alpha, pa, CUDA_R_32F, 2,
                          4, pb, CUDA_R_32F, 2, 4, &beta, pc, CUDA_R_32F, 2, 4, 2,
                          types[t], CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    OK(cudaMemcpyAsync(c, pc, sizeof c, cudaMemcpyDeviceToHost, s));
    assert_true(c[0] == 2 && c[1] == 6 && c[2] == 4 && c[3] == 8);
    const float b0 = t == 0 ? 1 + small[0] : 1, b3 = t < 2 ? 1 + small[1] : 1;
    assert_true(c[4] == 2 * (5 * b0 + 6 * 0x1p-9f));
    assert_true(c[7] == 2 * (7 * 0x1p-9f + 8 * b3));
    OK(cudaFree(pa));
    OK(cudaFree(pb));
    OK(cudaFree(pc));
  }
  const double a[] = {1, 2, 3, 4, 5, 6}, one = 1, half = 0.5; /* 3 x 2 */
  double c[] = {2, 2, 2, 2}, *pa = device_copy(a, sizeof a),
         *pc = device_copy(c, sizeof c);
  assert_int_equal(cublasDsyrk(h, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, 2, 3, &one, pa, 3,
                               &half, pc, 2),
                   CUBLAS_STATUS_SUCCESS);
  OK(cudaMemcpyAsync(c, pc, sizeof c, cudaMemcpyDeviceToHost, s));
  assert_true(c[0] == 15 && c[1] == 33 && c[2] == 2 && c[3] == 78);
  assert_int_equal(cublasDestroy(h), CUBLAS_STATUS_SUCCESS);
  OK(cudaFree(pa));
  OK(cudaFree(pc));
  OK(cudaStreamDestroy(s));
}

/* Each call of a short piece of work fails once; nothing stays alive, no error is lost.
 */
static int some_work(void) {
  cudaStream_t s = NULL;
  float *x = NULL, host[4] = {0};
  int failed = 0;
#define DO(call) failed = failed || (call) != cudaSuccess
  DO(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  DO(cudaMalloc((void **)&x, sizeof host));
  DO(cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s));
  if (!failed) launch_add(x, 1, 4, s);
  DO(cudaGetLastError());
  DO(cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, s));
  DO(cudaStreamSynchronize(s));
  if (!failed) assert_true(host[3] == 1);
  if (x && cudaFree(x) != cudaSuccess) failed = 1;
  if (s && cudaStreamDestroy(s) != cudaSuccess) failed = 1;
  return failed;
}

static void failures(void **state) {
  (void)state;
  assert_int_equal(some_work(), 0);
  const unsigned long calls = fake_cuda_calls();
  assert_int_equal(calls, 8);
  for (unsigned long n = 1; n <= calls + 1; n++) {
    fake_cuda_reset();
    fake_cuda_fail(n);
    assert_int_equal(some_work(), n <= calls);
    assert_int_equal(fake_cuda_live(), 0);
  }
  fake_cuda_reset();
}

/* One rank: sums, a broadcast, a ring of sends; `mode` 1: the last rank kills itself; 2:
 * all on one device; 3: all but rank 0 call nothing more. */
enum { reduce_count = 40000 };
static int rank_of_nccl(int rank, int n, ncclUniqueId id, int mode) {
  ncclComm_t c;
  cudaStream_t s;
  static float host[reduce_count];
  float *x, *y;
  if (cudaSetDevice(mode == 2 ? 0 : rank) || cudaStreamCreate(&s)) return 1;
  ncclResult_t made = ncclCommInitRank(&c, n, id, rank);
  if (mode == 2) return made == ncclInvalidUsage ? 0 : 2;
  if (made != ncclSuccess) return 3;
  for (int i = 0; i < reduce_count; i++) host[i] = (float)(i % 50 + rank);
  if (cudaMalloc((void **)&x, sizeof host) || cudaMalloc((void **)&y, sizeof host))
    return 4;
  if (cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice)) return 5;
  if (mode == 1 && rank == n - 1) kill(getpid(), SIGKILL);
  if (ncclAllReduce(x, x, reduce_count, ncclFloat, ncclSum, c, s)) return 6;
  if (mode == 1) {
    for (int i = 0; i < 200; i++)
      if (cudaStreamQuery(s) != cudaErrorNotReady) return 7;
    if (ncclCommAbort(c) || cudaStreamSynchronize(s)) return 8;
    return cudaFree(x) || cudaFree(y) || cudaStreamDestroy(s) || fake_cuda_live() ? 9 : 0;
  }
  if (mode == 3) { /* rank 0 waits; the others' devices go on without them */
    if (rank > 0) return usleep(900000);
    return cudaStreamSynchronize(s) ? 16 : 0;
  }
  if (ncclGroupStart() || ncclSend(x, reduce_count, ncclFloat, (rank + 1) % n, c, s) ||
      ncclRecv(y, reduce_count, ncclFloat, (rank + n - 1) % n, c, s) || ncclGroupEnd())
    return 10;
  launch_add(y, (float)rank, reduce_count, s);
  if (ncclBroadcast(y, y, reduce_count, ncclFloat, n - 1, c, s)) return 11;
  while (cudaStreamQuery(s) == cudaErrorNotReady) {
  }
  if (cudaMemcpy(host, y, sizeof host, cudaMemcpyDeviceToHost)) return 12;
  for (int i = 0; i < reduce_count; i++)
    if (host[i] != (float)(n * (i % 50) + n * (n - 1) / 2 + n - 1)) return 13;
  if (ncclCommDestroy(c) || cudaFree(x) || cudaFree(y) || cudaStreamDestroy(s)) return 14;
  return fake_cuda_live() ? 15 : 0;
}

static void run_ranks(int n, int mode) {
  ncclUniqueId id;
  pid_t ranks[4];
  setenv("FAKE_CUDA_DEVICES", "4", 1);
  assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
  for (int r = 0; r < n; r++) {
    ranks[r] = fork();
    if (ranks[r] == 0) {
      alarm(30);
      _exit(rank_of_nccl(r, n, id, mode));
    }
  }
  for (int r = 0; r < n; r++) {
    int status;
    waitpid(ranks[r], &status, 0);
    if (mode == 1 && r == n - 1)
      assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
      assert_int_equal(status, 0);
  }
}

static void nccl_collectives(void **state) {
  (void)state;
  for (int n = 1; n <= 4; n++) run_ranks(n, 0);
}

static void nccl_abort(void **state) {
  (void)state;
  run_ranks(2, 1);
  run_ranks(3, 1);
}

static void nccl_goes_on(void **state) {
  (void)state;
  run_ranks(3, 3);
}

static void nccl_same_device(void **state) {
  (void)state;
  run_ranks(2, 2);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, nothing_left)
  const struct CMUnitTest tests[] = {
      TEST(sums),
      TEST(missing_barrier),
      TEST(warp_exchanges),
      TEST(atomics),
      TEST(wrong_barriers),
      TEST(lazy_streams),
      TEST(capture),
      TEST(illegal_in_capture),
      TEST(memory_and_limits),
      TEST(visible_devices),
      TEST(products),
      TEST(failures),
      TEST(nccl_collectives),
      TEST(nccl_abort),
      TEST(nccl_goes_on),
      TEST(nccl_same_device),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
