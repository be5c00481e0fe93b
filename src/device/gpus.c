/* gpus.c - what GPUs there are, and loading cuBLAS, where cohort was built with the CUDA
 * runtime. Work on a GPU is cuda.c's.
 */
#include "cohort/device.h"

#ifdef COH_CUDA
#include "device/cuda.h"

#include <dlfcn.h>

int coh_cuda_count(const char **reason) {
  int count = 0; /* not set by the call where there is no driver */
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  cudaError_t rc = cudaGetDeviceCount(&count);
  *reason = driver == 0  ? "no NVIDIA driver"
            : rc         ? cudaGetErrorString(rc)
            : count == 0 ? "no device"
                         : "";
  (void)cudaGetLastError();
  return rc || driver == 0 ? 0 : count;
}

int coh_device_count(void) {
  const char *reason;
  return coh_cuda_count(&reason);
}

void coh_device_bus_of(int number, char out[COH_BUS]) {
  if (cudaDeviceGetPCIBusId(out, COH_BUS, number) == cudaSuccess) return;
  (void)cudaGetLastError();
  out[0] = 0;
}

void coh_device_gpus(coh_text *out) {
  const char *reason;
  int count = coh_cuda_count(&reason);
  coh_text_add(out, "built with CUDA %d.%d: ", CUDART_VERSION / 1000,
               CUDART_VERSION % 1000 / 10);
  if (count == 0) coh_text_add(out, "no GPU here (%s)", reason);
  for (int i = 0; i < count; i++) {
    struct cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    coh_text_add(out, "%s%s, %.0f GiB", i ? "; " : "", p.name,
                 (double)p.totalGlobalMem / (1024.0 * 1024 * 1024));
  }
}

/* By the names that a driver's and a toolkit's installation give it. */
static void *open_library(const char *const *name) {
  for (void *library; *name; name++)
    if ((library = dlopen(*name, RTLD_NOW | RTLD_LOCAL))) return library;
  return NULL;
}

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)
#define CUBLAS   "libcublas.so." TEXT(CUBLAS_VER_MAJOR)

int coh_cublas_load(coh_cublas *out, coh_error *err) {
#ifdef COH_FAKE_CUDA
  void *library = dlopen(NULL, RTLD_NOW);
  (void)open_library;
#else
  static const char *const name[] = {CUBLAS, COH_CUDA_HOME "/lib64/" CUBLAS,
                                     "/usr/local/cuda/lib64/" CUBLAS, NULL};
  void *library = open_library(name);
#endif
  if (!library)
    return coh_fail(err, COH_ELIB,
                    "cannot load " CUBLAS ": %s; load the CUDA module or "
                    "set LD_LIBRARY_PATH",
                    dlerror());
#define LOAD(f)                                                                          \
  if (!(*(void **)&out->f = dlsym(library, #f)))                                         \
    return coh_fail(err, COH_ELIB,                                                       \
                    CUBLAS " has no %s: another version than cohort was "                \
                           "built with",                                                 \
                    #f);
  COH_CUBLAS_FUNCTIONS(LOAD)
#undef LOAD
  return COH_OK;
}
#else
int coh_device_count(void) {
  return 0;
}

void coh_device_bus_of(int number, char out[COH_BUS]) {
  (void)number;
  out[0] = 0;
}

void coh_device_gpus(coh_text *out) {
  coh_text_add(out, "built without CUDA");
}
#endif
