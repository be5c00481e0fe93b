/* cublas.cpp - the products of cuBLAS as plain loops with double accumulators, in
 * column-major order. The fast compute types round the inputs first, so that the option
 * is visible.
 */
#include "fake.hpp"

#include "cublas_v2.h"

struct cublasContext {
  cudaStream_t stream;
  cublasMath_t math;
};

namespace {

std::set<cublasHandle_t> handles;

/* Inputs keep this many bits behind the point: 10 in TF32, 7 in BF16; to nearest, even.
 */
float rounded(float x, int bits) {
  uint32_t i;
  memcpy(&i, &x, sizeof i);
  if ((i & 0x7f800000u) == 0x7f800000u) return x;
  const int drop = 23 - bits;
  const uint32_t half = (1u << (drop - 1)) - 1 + (i >> drop & 1);
  i = (i + half) & ~((1u << drop) - 1);
  memcpy(&x, &i, sizeof x);
  return x;
}

/* C = alpha op(A) op(B) + beta C for one matrix or a batch. */
struct Product {
  cublasOperation_t ta, tb;
  int m, n, k, lda, ldb, ldc, batch;
  long long stride_a, stride_b, stride_c;
  const void *a, *b;
  void *c;
  double alpha, beta;
  bool is_double;
  int bits;          /* 0: inputs as they are */
  bool lower, upper; /* which triangle of C; both: all of it */

  double at(const void *p, long long i) const {
    if (is_double) return ((const double *)p)[i];
    float x = ((const float *)p)[i];
    return (double)(bits ? rounded(x, bits) : x);
  }

  double dot(long long a0, long long b0, int i, int j) const {
    double sum = 0;
    for (int l = 0; l < k; l++) {
      long long ia = ta == CUBLAS_OP_N ? i + (long long)l * lda : l + (long long)i * lda;
      long long ib = tb == CUBLAS_OP_N ? l + (long long)j * ldb : j + (long long)l * ldb;
      sum += at(a, a0 + ia) * at(b, b0 + ib);
    }
    return sum;
  }

  void put(long long at_c, double sum) const {
    if (is_double) {
      double *p = (double *)c + at_c;
      *p = alpha * sum + (beta != 0 ? beta * *p : 0); /* C may be NaN where beta is 0 */
    } else {
      float *p = (float *)c + at_c;
      *p = (float)(alpha * sum + (beta != 0 ? beta * (double)*p : 0));
    }
  }

  void run() const {
    for (int s = 0; s < batch; s++)
      for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
          if ((i > j && !lower) || (i < j && !upper)) continue;
          double sum = alpha != 0 ? dot(s * stride_a, s * stride_b, i, j) : 0;
          put(s * stride_c + i + (long long)j * ldc, sum);
        }
  }

  /* bytes from the first matrix's start to the last one's end */
  size_t span(int rows, int columns, int ld, long long stride) const {
    if (rows == 0 || columns == 0) return 0;
    long long last = stride > 0 ? stride * (batch - 1) : 0;
    return (size_t)(last + (long long)(columns - 1) * ld + rows) * (is_double ? 8 : 4);
  }

  bool leading_dimensions() const {
    const int ra = ta == CUBLAS_OP_N ? m : k, rb = tb == CUBLAS_OP_N ? k : n;
    return lda >= (ra > 1 ? ra : 1) && ldb >= (rb > 1 ? rb : 1) && ldc >= (m > 1 ? m : 1);
  }

  /* The real library would reach outside of memory and lose the device. */
  void check_memory() const {
    if (m == 0 || n == 0 || batch == 0) return;
    const bool na = ta == CUBLAS_OP_N, nb = tb == CUBLAS_OP_N;
    const size_t sa = span(na ? m : k, na ? k : m, lda, stride_a);
    const size_t sb = span(nb ? k : n, nb ? n : k, ldb, stride_b);
    if ((alpha != 0 && sa && !fake::is_device(a, sa)) ||
        (alpha != 0 && sb && !fake::is_device(b, sb)) ||
        !fake::is_device(c, span(m, n, ldc, stride_c)))
      fake::fatal("cuBLAS: a matrix reaches outside of device memory");
  }
};

cublasStatus_t enqueue(cublasHandle_t handle, const Product &p) {
  if (p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0 || !p.leading_dimensions())
    return CUBLAS_STATUS_INVALID_VALUE;
  p.check_memory();
  fake::QueueRef q = fake::find(handle->stream);
  if (q == nullptr) return CUBLAS_STATUS_EXECUTION_FAILED;
  return fake::push_do(q, [p] { p.run(); }) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

/* Sets what the types say; false: cuBLAS has no such product. */
bool set_types(Product *p, cudaDataType type, cublasComputeType_t compute,
               cublasMath_t math) {
  p->is_double = type == CUDA_R_64F;
  p->bits = 0;
  if (type == CUDA_R_64F)
    return compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
  if (type != CUDA_R_32F) return false;
  switch (compute) {
  case CUBLAS_COMPUTE_32F:
    p->bits = math == CUBLAS_TF32_TENSOR_OP_MATH ? 10 : 0;
    return true;
  case CUBLAS_COMPUTE_32F_PEDANTIC:
    return true;
  case CUBLAS_COMPUTE_32F_FAST_16F:
  case CUBLAS_COMPUTE_32F_FAST_TF32:
    p->bits = 10;
    return true;
  case CUBLAS_COMPUTE_32F_FAST_16BF:
    p->bits = 7;
    return true;
  default:
    return false;
  }
}

double scalar(const void *p, bool is_double) {
  return is_double ? *(const double *)p : (double)*(const float *)p;
}

} // namespace

size_t fake::live_handles() {
  return handles.size();
}

#define FAKE_CUBLAS(handle)                                                              \
  fake::Call call;                                                                       \
  if (call.fails) return CUBLAS_STATUS_INTERNAL_ERROR;                                   \
  if (handles.count(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
  fake::Call call;
  if (call.fails) return CUBLAS_STATUS_INTERNAL_ERROR;
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (fake::devices() == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (fake::forbidden(cudaErrorStreamCaptureUnsupported) != cudaSuccess)
    return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = new cublasContext{nullptr, CUBLAS_DEFAULT_MATH};
  handles.insert(*handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  fake::Call call;
  if (handles.erase(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return call.fails ? CUBLAS_STATUS_INTERNAL_ERROR : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int *version) {
  FAKE_CUBLAS(handle);
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace,
                                     size_t bytes) {
  FAKE_CUBLAS(handle);
  if (bytes > 0 && !fake::is_device(workspace, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  FAKE_CUBLAS(handle);
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  FAKE_CUBLAS(handle);
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return "success";
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "the library was not initialized";
  case CUBLAS_STATUS_ALLOC_FAILED:
    return "the resource allocation failed";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "an unsupported value or parameter was passed to the function";
  case CUBLAS_STATUS_EXECUTION_FAILED:
    return "the function failed to launch on the GPU";
  case CUBLAS_STATUS_INTERNAL_ERROR:
    return "an internal operation failed";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "the functionality requested is not supported";
  default:
    return "unknown status";
  }
}

cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
    int k, const void *alpha, const void *a, cudaDataType type_a, int lda,
    long long stride_a, const void *b, cudaDataType type_b, int ldb, long long stride_b,
    const void *beta, void *c, cudaDataType type_c, int ldc, long long stride_c,
    int batch, cublasComputeType_t compute, cublasGemmAlgo_t algo) {
  FAKE_CUBLAS(handle);
  (void)algo;
  Product p = {ta,       tb, m, n, k, lda, ldb,   ldc, batch, stride_a, stride_b,
               stride_c, a,  b, c, 0, 0,   false, 0,   true,  true};
  if (type_a != type_b || type_a != type_c ||
      !set_types(&p, type_a, compute, handle->math))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  p.alpha = scalar(alpha, p.is_double);
  p.beta = scalar(beta, p.is_double);
  return enqueue(handle, p);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta,
                            cublasOperation_t tb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType type_a, int lda, const void *b,
                            cudaDataType type_b, int ldb, const void *beta, void *c,
                            cudaDataType type_c, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algo) {
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, 0, b,
                                    type_b, ldb, 0, beta, c, type_c, ldc, 0, 1, compute,
                                    algo);
}

cublasStatus_t cublasDsyrk_v2(cublasHandle_t handle, cublasFillMode_t uplo,
                              cublasOperation_t trans, int n, int k, const double *alpha,
                              const double *a, int lda, const double *beta, double *c,
                              int ldc) {
  FAKE_CUBLAS(handle);
  const cublasOperation_t other = trans == CUBLAS_OP_N ? CUBLAS_OP_T : CUBLAS_OP_N;
  Product p = {trans,
               other,
               n,
               n,
               k,
               lda,
               lda,
               ldc,
               1,
               0,
               0,
               0,
               a,
               a,
               c,
               *alpha,
               *beta,
               true,
               0,
               uplo == CUBLAS_FILL_MODE_LOWER,
               uplo == CUBLAS_FILL_MODE_UPPER};
  return enqueue(handle, p);
}
}
