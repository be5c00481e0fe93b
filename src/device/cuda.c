/* cuda.c - the CUDA back end: memory, products by cuBLAS, recordings as CUDA graphs.
 * Kernels of our own are in kernels.cu, what GPUs there are in gpus.c.
 *
 * All work goes into one stream of the device, in order; the host waits only in sync,
 * download and where memory is freed. One piece of scratch memory serves cuBLAS and the
 * back end's own calls: they follow each other in the stream.
 */
#include "cohort/device.h"

#ifdef COH_CUDA
#include "device/check.h"
#include "device/cuda.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { SCRATCH = 32 << 20, ALIGN = 256 }; /* NVIDIA's advice for cuBLAS on Hopper */

typedef struct cuda {
  int number;
  char bus[COH_BUS];
  size_t sharers;
  coh_cuda_queue queue;
  coh_cublas api;
  cublasHandle_t blas;
  cublasComputeType_t compute;
  char *scratch;
} cuda;

struct coh_recording {
  cudaGraphExec_t graph;
};

static cuda *cuda_of(const coh_device *dev) {
  return dev->impl;
}

/* What users can do about it. */
static const char *advice(cudaError_t code) {
  if (code == cudaErrorDevicesUnavailable)
    return "; another process has this GPU for itself: start one rank a GPU";
  if (code == cudaErrorNoKernelImageForDevice)
    return "; cohort was not built for this GPU: NVCC_ARCHS of make chooses "
           "(docs/gpu.md), "
           "device.kind = cpu does without";
  return "";
}

int coh_cuda_check(cudaError_t code, const char *call, coh_error *err) {
  if (code == cudaSuccess) return COH_OK;
  int verdict = code == cudaErrorMemoryAllocation ? COH_ENOMEM : COH_ELIB;
  return coh_fail(err, verdict, "GPU: %s (%s) from %s%s", cudaGetErrorString(code),
                  cudaGetErrorName(code), call, advice(code));
}

static int check_blas(const coh_cublas *api, cublasStatus_t code, const char *call,
                      coh_error *err) {
  if (code == CUBLAS_STATUS_SUCCESS) return COH_OK;
  return coh_fail(err, COH_ELIB, "cuBLAS: %s from %s", api->cublasGetStatusString(code),
                  call);
}
#define BLAS_TRY(c, function, ...)                                                       \
  COH_TRY(check_blas(&(c)->api, (c)->api.function(__VA_ARGS__), #function, err))

/* ---- memory ---------------------------------------------------------------------- */

static int cuda_memory(coh_device *dev, size_t *left, size_t *total, coh_error *err) {
  int rc;
  COH_CUDA_TRY(cudaMemGetInfo(left, total));
  *left /= cuda_of(dev)->sharers;
cleanup:
  return rc;
}

static int explain_memory(coh_device *dev, size_t bytes, coh_error *err) {
  const double gib = 1024.0 * 1024 * 1024;
  size_t left = 0, total = 0;
  if (cudaMemGetInfo(&left, &total)) return err ? err->code : COH_ENOMEM;
  return coh_explain(err, "%.3f GiB wanted, %.3f of %.3f GiB free on %s",
                     (double)bytes / gib, (double)left / gib, (double)total / gib,
                     coh_device_text(dev));
}

static int take_memory(coh_device *dev, size_t bytes, void **out, coh_error *err) {
  int rc = coh_cuda_check(cudaMalloc(out, bytes), "cudaMalloc", err);
  if (rc == COH_OK) return rc;
  (void)cudaGetLastError(); /* no later call is to find it */
  return rc == COH_ENOMEM ? (explain_memory(dev, bytes, err), rc) : rc;
}

static int cuda_alloc(coh_device *dev, size_t bytes, void **out, coh_error *err) {
  int rc;
  void *memory = NULL;
  *out = NULL;
  if (bytes == 0) bytes = 1;
  COH_TRY(take_memory(dev, bytes, &memory, err));
  COH_CUDA_TRY(cudaMemsetAsync(memory, 0, bytes, cuda_of(dev)->queue.stream));
  *out = memory;
  return COH_OK;
cleanup:
  if (memory) (void)cudaFree(memory);
  return rc;
}

/* cudaFree waits for all work that may use the memory. */
static void cuda_free(coh_device *dev, void *memory) {
  (void)dev;
  if (memory) (void)cudaFree(memory);
}

/* Pageable memory: copied aside before the call returns. */
static int cuda_upload(coh_device *dev, void *dst, const void *src, size_t bytes,
                       coh_error *err) {
  if (bytes == 0) return COH_OK;
  return coh_cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice,
                                        cuda_of(dev)->queue.stream),
                        "cudaMemcpyAsync to the GPU", err);
}

static int cuda_sync(coh_device *dev, coh_error *err) {
  return coh_cuda_check(cudaStreamSynchronize(cuda_of(dev)->queue.stream),
                        "cudaStreamSynchronize", err);
}

static int cuda_download(coh_device *dev, void *dst, const void *src, size_t bytes,
                         coh_error *err) {
  int rc;
  if (bytes == 0) return COH_OK;
  COH_CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost,
                               cuda_of(dev)->queue.stream));
  COH_TRY(cuda_sync(dev, err));
cleanup:
  return rc;
}

static int cuda_zero(coh_device *dev, void *memory, size_t bytes, coh_error *err) {
  if (bytes == 0) return COH_OK;
  return coh_cuda_check(cudaMemsetAsync(memory, 0, bytes, cuda_of(dev)->queue.stream),
                        "cudaMemsetAsync", err);
}

/* ---- rows ------------------------------------------------------------------------ */

static int cuda_gather(coh_device *dev, const coh_gather_args *g, coh_error *err) {
  return coh_cuda_check(coh_cuda_gather(&cuda_of(dev)->queue, g), "gather", err);
}

static int cuda_advance(coh_device *dev, size_t row_bytes, const void *table,
                        uint32_t *cursor, void *now, coh_error *err) {
  if (row_bytes % sizeof(uint64_t))
    return coh_fail(err, COH_EBUG, "advance: rows of %zu bytes", row_bytes);
  return coh_cuda_check(
      coh_cuda_advance(&cuda_of(dev)->queue, row_bytes, table, cursor, now), "advance",
      err);
}

static int cuda_order(coh_device *dev, size_t S, const uint64_t *seed, uint64_t epoch,
                      size_t n, uint32_t *order, coh_error *err) {
  int rc = COH_OK;
  cuda *c = cuda_of(dev);
  const size_t most = SCRATCH / sizeof *seed;
  for (size_t s = 0; s < S; s += most) {
    size_t count = S - s < most ? S - s : most;
    COH_TRY(cuda_upload(dev, c->scratch, seed + s, count * sizeof *seed, err));
    COH_CUDA_TRY(coh_cuda_order(&c->queue, count, (const uint64_t *)c->scratch, epoch, n,
                                order + s * n));
  }
cleanup:
  return rc;
}

/* Rows keep[0..count) to rows `to`, `to` + 1, ..., by way of the scratch memory: a row
 * may be read at the place where another one goes. */
static int compact_some(coh_device *dev, size_t to, size_t count, const uint32_t *keep,
                        size_t row_bytes, char *rows, coh_error *err) {
  int rc;
  cuda *c = cuda_of(dev);
  size_t index_bytes = (count * sizeof *keep + ALIGN - 1) / ALIGN * ALIGN;
  coh_gather_args g = {.S = 1, .R = count, .row_bytes = row_bytes, .src = rows};
  g.index = (const uint32_t *)c->scratch;
  g.dst = c->scratch + index_bytes;
  COH_TRY(cuda_upload(dev, c->scratch, keep, count * sizeof *keep, err));
  COH_TRY(cuda_gather(dev, &g, err));
  COH_CUDA_TRY(cudaMemcpyAsync(rows + to * row_bytes, g.dst, count * row_bytes,
                               cudaMemcpyDeviceToDevice, c->queue.stream));
cleanup:
  return rc;
}

/* A row too large for the scratch memory: straight to its place, which lies before it. */
static int compact_one(coh_device *dev, size_t to, uint32_t from, size_t row_bytes,
                       char *rows, coh_error *err) {
  return coh_cuda_check(cudaMemcpyAsync(rows + to * row_bytes, rows + from * row_bytes,
                                        row_bytes, cudaMemcpyDeviceToDevice,
                                        cuda_of(dev)->queue.stream),
                        "cudaMemcpyAsync of a row", err);
}

static int cuda_compact(coh_device *dev, size_t count, const uint32_t *keep,
                        size_t row_bytes, void *rows, coh_error *err) {
  int rc = COH_OK;
  size_t to = 0, most = (SCRATCH - ALIGN) / (row_bytes + sizeof *keep);
  COH_TRY(coh_compact_check(count, keep, err));
  while (to < count && keep[to] == to) to++;
  for (size_t some; to < count; to += some) {
    some = most == 0 ? 1 : count - to < most ? count - to : most;
    if (most == 0)
      COH_TRY(compact_one(dev, to, keep[to], row_bytes, rows, err));
    else
      COH_TRY(compact_some(dev, to, some, keep + to, row_bytes, rows, err));
  }
cleanup:
  return rc;
}

/* ---- products -------------------------------------------------------------------- */

static int check_gemm(const coh_gemm *g, coh_error *err) {
  const size_t size[] = {g->N, g->M, g->Q, g->K, g->lda, g->ldb, g->ldc};
  for (size_t i = 0; i < sizeof size / sizeof *size; i++)
    if (size[i] > INT_MAX)
      return coh_fail(err, COH_EUSAGE,
                      "a product with a side of %zu: cuBLAS counts to %d", size[i],
                      INT_MAX);
  return coh_gemm_check(g, err);
}

/* Row-major C = A B is column-major C^T = B^T A^T. */
static int cuda_gemm(coh_device *dev, const coh_gemm *g, coh_error *err) {
  int rc;
  cuda *c = cuda_of(dev);
  cublasOperation_t op_a = g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasOperation_t op_b = g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  COH_TRY(check_gemm(g, err));
  if (g->N == 0 || g->M == 0 || g->Q == 0) return COH_OK;
  bool wide = dev->dtype == COH_F64;
  const double one = 1;
  const float one_f = 1, beta_f = (float)g->beta;
  const void *alpha = wide ? (const void *)&one : (const void *)&one_f;
  const void *beta = wide ? (const void *)&g->beta : (const void *)&beta_f;
  cudaDataType type = wide ? CUDA_R_64F : CUDA_R_32F;
  BLAS_TRY(c, cublasGemmStridedBatchedEx, c->blas, op_b, op_a, (int)g->Q, (int)g->M,
           (int)g->K, alpha, g->b, type, (int)g->ldb, (long long)g->stride_b, g->a, type,
           (int)g->lda, (long long)g->stride_a, beta, g->c, type, (int)g->ldc,
           (long long)g->stride_c, (int)g->N, c->compute, CUBLAS_GEMM_DEFAULT);
cleanup:
  return rc;
}

/* ---- kernels --------------------------------------------------------------------- */

static int cuda_bias_act(coh_device *dev, coh_act act, size_t N, size_t B, size_t O,
                         const void *bias, size_t stride_bias, void *z, void *deriv,
                         coh_error *err) {
  if (N * B * O == 0) return COH_OK;
  return coh_cuda_check(
      coh_cuda_bias_act(&cuda_of(dev)->queue, act, N, B, O, bias, stride_bias, z, deriv),
      "bias_act", err);
}

static int cuda_act_grad(coh_device *dev, size_t N, size_t count, void *dz,
                         const void *deriv, coh_error *err) {
  if (N * count == 0) return COH_OK;
  return coh_cuda_check(coh_cuda_act_grad(&cuda_of(dev)->queue, N * count, dz, deriv),
                        "act_grad", err);
}

static int cuda_bias_grad(coh_device *dev, size_t N, size_t B, size_t O, const void *dz,
                          void *db, size_t stride_db, coh_error *err) {
  if (N * O == 0) return COH_OK;
  return coh_cuda_check(
      coh_cuda_bias_grad(&cuda_of(dev)->queue, N, B, O, dz, db, stride_db), "bias_grad",
      err);
}

static int cuda_outer(coh_device *dev, size_t B, size_t I, size_t O, const void *a,
                      const void *dz, void *c, size_t ldc, coh_error *err) {
  if (B * I * O == 0) return COH_OK;
  return coh_cuda_check(coh_cuda_outer(&cuda_of(dev)->queue, B, I, O, a, dz, c, ldc),
                        "outer", err);
}

static int cuda_loss(coh_device *dev, const coh_loss_args *a, coh_error *err) {
  if (a->O == 0) return coh_fail(err, COH_EBUG, "loss: no outputs");
  if (a->N == 0) return COH_OK;
  return coh_cuda_check(coh_cuda_loss(&cuda_of(dev)->queue, a), "loss", err);
}

static int cuda_step(coh_device *dev, const coh_step_args *a, coh_error *err) {
  int rc = coh_step_check(a, err);
  if (rc || a->N * a->P == 0) return rc;
  return coh_cuda_check(coh_cuda_step(&cuda_of(dev)->queue, a), "step", err);
}

static int cuda_sparse(coh_device *dev, const coh_sparse_args *a, coh_error *err) {
  cuda *c = cuda_of(dev);
  int rc = coh_sparse_check(a, err);
  if (rc || a->N * a->P == 0) return rc;
  return coh_cuda_check(coh_cuda_sparse(&c->queue, a, c->scratch, SCRATCH), "sparse",
                        err);
}

static int cuda_small(coh_device *dev, const coh_small *s, coh_error *err) {
  int rc = coh_small_check(s, err);
  return rc ? rc : coh_cuda_check(coh_cuda_small(&cuda_of(dev)->queue, s), "small", err);
}

/* ---- recordings ------------------------------------------------------------------ */

static int cuda_record(coh_device *dev, coh_error *err) {
  return coh_cuda_check(cudaStreamBeginCapture(cuda_of(dev)->queue.stream,
                                               cudaStreamCaptureModeThreadLocal),
                        "cudaStreamBeginCapture", err);
}

static int cuda_record_end(coh_device *dev, coh_recording **out, coh_error *err) {
  int rc;
  cudaGraph_t graph = NULL;
  coh_recording *r = NULL;
  cudaStream_t stream = cuda_of(dev)->queue.stream;
  if (!out) { /* of a call that failed: the graph may be no good, which is no news */
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess)
      (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    return COH_OK;
  }
  *out = NULL;
  COH_CUDA_TRY(cudaStreamEndCapture(stream, &graph));
  COH_TRY(coh_alloc(&r, 1, sizeof *r, err));
  COH_CUDA_TRY(cudaGraphInstantiate(&r->graph, graph, 0));
  *out = r;
  r = NULL;
cleanup:
  free(r);
  if (graph) (void)cudaGraphDestroy(graph);
  return rc;
}

static int cuda_replay(coh_device *dev, coh_recording *r, coh_error *err) {
  return coh_cuda_check(cudaGraphLaunch(r->graph, cuda_of(dev)->queue.stream),
                        "cudaGraphLaunch", err);
}

static void cuda_recording_free(coh_device *dev, coh_recording *r) {
  (void)dev;
  if (!r) return;
  (void)cudaGraphExecDestroy(r->graph);
  free(r);
}

/* ---- opening --------------------------------------------------------------------- */

static void cuda_close(coh_device *dev) {
  cuda *c = cuda_of(dev);
  if (c && c->blas) (void)c->api.cublasDestroy_v2(c->blas);
  if (c && c->scratch) (void)cudaFree(c->scratch);
  if (c && c->queue.stream) (void)cudaStreamDestroy(c->queue.stream);
  free(c);
  free(dev);
}

static const coh_device_ops cuda_ops = {.name = "cuda",
                                        .close = cuda_close,
                                        .alloc = cuda_alloc,
                                        .free = cuda_free,
                                        .upload = cuda_upload,
                                        .download = cuda_download,
                                        .zero = cuda_zero,
                                        .sync = cuda_sync,
                                        .memory = cuda_memory,
                                        .record = cuda_record,
                                        .record_end = cuda_record_end,
                                        .replay = cuda_replay,
                                        .recording_free = cuda_recording_free,
                                        .gather = cuda_gather,
                                        .advance = cuda_advance,
                                        .order = cuda_order,
                                        .compact = cuda_compact,
                                        .gemm = cuda_gemm,
                                        .bias_act = cuda_bias_act,
                                        .act_grad = cuda_act_grad,
                                        .bias_grad = cuda_bias_grad,
                                        .outer = cuda_outer,
                                        .loss = cuda_loss,
                                        .step = cuda_step,
                                        .small = cuda_small,
                                        .sparse = cuda_sparse};

static cublasComputeType_t compute_of(coh_dtype dtype, coh_math math) {
  if (dtype == COH_F64) return CUBLAS_COMPUTE_64F;
  return math == COH_MATH_TF32   ? CUBLAS_COMPUTE_32F_FAST_TF32
         : math == COH_MATH_BF16 ? CUBLAS_COMPUTE_32F_FAST_16BF
                                 : CUBLAS_COMPUTE_32F;
}

static const char *math_name(coh_math math) {
  return math == COH_MATH_TF32 ? ", tf32" : math == COH_MATH_BF16 ? ", bf16" : "";
}

static int open_blas(cuda *c, coh_error *err) {
  int rc;
  COH_TRY(coh_cublas_load(&c->api, err));
  BLAS_TRY(c, cublasCreate_v2, &c->blas);
  BLAS_TRY(c, cublasSetStream_v2, c->blas, c->queue.stream);
  BLAS_TRY(c, cublasSetWorkspace_v2, c->blas, c->scratch, SCRATCH);
cleanup:
  return rc;
}

/* Blocks over elements: eight of 256 threads fill a multiprocessor, and a few times that
 * even out their ends. */
enum { BLOCKS_EACH = 32 };

int coh_device_open_cuda(const coh_device_wish *wish, coh_dtype dtype, coh_device **out,
                         coh_error *err) {
  int rc, shared = 0;
  const char *reason;
  coh_device *dev = NULL;
  struct cudaDeviceProp p;
  *out = NULL;
  int count = coh_cuda_count(&reason);
  if (count == 0)
    return coh_fail(err, COH_EUSAGE,
                    "device.kind = cuda: no GPU here: %s; auto or cpu "
                    "would use the processor",
                    reason);
  if (wish->number >= count)
    return coh_fail(err, COH_EUSAGE, "device.kind = cuda: GPU %d of %d", wish->number,
                    count);
  COH_TRY(coh_alloc(&dev, 1, sizeof *dev, err));
  dev->ops = &cuda_ops;
  COH_TRY(coh_alloc(&dev->impl, 1, sizeof(cuda), err));
  cuda *c = cuda_of(dev);
  dev->dtype = dtype;
  c->number = wish->number;
  c->sharers = wish->sharers > 0 ? (size_t)wish->sharers : 1;
  c->compute = compute_of(dtype, wish->math);
  COH_CUDA_TRY(cudaSetDevice(c->number));
  COH_CUDA_TRY(cudaGetDeviceProperties(&p, c->number));
  COH_CUDA_TRY(cudaDeviceGetPCIBusId(c->bus, sizeof c->bus, c->number));
  snprintf(dev->text, sizeof dev->text, "cuda:%d (%.64s%s)", c->number, p.name,
           dtype == COH_F64 ? "" : math_name(wish->math));
  COH_CUDA_TRY(cudaStreamCreateWithFlags(&c->queue.stream, cudaStreamNonBlocking));
  c->queue.dtype = dtype;
  c->queue.blocks = (size_t)p.multiProcessorCount * BLOCKS_EACH;
  COH_TRY(take_memory(dev, SCRATCH, (void **)&c->scratch, err));
  COH_CUDA_TRY(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                      c->number));
  c->queue.shared = (size_t)shared;
  dev->small_width = coh_cuda_small_width(&c->queue);
  COH_CUDA_TRY(coh_cuda_prepare(&c->queue));
  COH_TRY(open_blas(c, err));
  *out = dev;
  return COH_OK;
cleanup:
  coh_device_close(dev);
  return coh_explain(err, "GPU %d", wish->number), rc;
}

void *coh_device_stream(const coh_device *dev) {
  return dev->ops == &cuda_ops ? cuda_of(dev)->queue.stream : NULL;
}
const char *coh_device_bus(const coh_device *dev) {
  return dev->ops == &cuda_ops ? cuda_of(dev)->bus : "";
}
#else
const char *coh_device_bus(const coh_device *dev) {
  (void)dev;
  return "";
}

void *coh_device_stream(const coh_device *dev) {
  (void)dev;
  return NULL;
}
#endif
