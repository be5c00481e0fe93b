/* doctor_gpu.c - which GPUs the ranks see, what they multiply at, and whether NCCL is
 * there. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/device.h"
#include "doctor_private.h"

/* NCCL is looked for by name: nothing needs it where ranks share no GPUs. */
static int nccl_version(void) {
  union {
    void *object;
    int (*call)(int *);
  } get;
  void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  int version = 0;
#ifdef COH_CUDA_HOME
  if (!library)
    library = dlopen(COH_CUDA_HOME "/lib64/libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
#endif
  get.object = library ? dlsym(library, "ncclGetVersion") : NULL;
  if (get.object && get.call(&version) != 0) version = 0;
  return version;
}

enum { SIDE = 4096, REPEAT = 20 }; /* of the matrices: a fraction of a second */

static int multiply(coh_device *dev, void *const m[3], size_t side, int repeat,
                    double *rate, coh_error *err) {
  int rc = COH_OK;
  const coh_gemm g = {.N = 1,
                      .M = side,
                      .Q = side,
                      .K = side,
                      .a = m[0],
                      .lda = side,
                      .b = m[1],
                      .ldb = side,
                      .c = m[2],
                      .ldc = side};
  COH_TRY(dev->ops->gemm(dev, &g, err));
  COH_TRY(dev->ops->sync(dev, err));
  double start = coh_seconds();
  for (int i = 0; i < repeat; i++) COH_TRY(dev->ops->gemm(dev, &g, err));
  COH_TRY(dev->ops->sync(dev, err));
  double n = (double)side;
  *rate = 2 * n * n * n * repeat / (coh_seconds() - start) * 1e-12;
cleanup:
  return rc;
}

/* TFLOP/s of float32 products by `math`; of small ones where there is little memory. */
static int rate_of(const coh_device_wish *wish, double *rate, char text[96], size_t *left,
                   coh_error *err) {
  int rc;
  size_t total = 0;
  void *m[3] = {NULL};
  coh_device *dev = NULL;
  COH_TRY(coh_device_open_as(wish, COH_F32, &dev, err));
  COH_TRY(dev->ops->memory(dev, left, &total, err));
  size_t side = total <= (size_t)1 << 30 ? SIDE / 64 : SIDE;
  for (int i = 0; i < 3; i++)
    COH_TRY(dev->ops->alloc(dev, side * side * sizeof(float), &m[i], err));
  COH_TRY(multiply(dev, m, side, REPEAT, rate, err));
  if (wish->math == COH_MATH_FP32) memcpy(text, dev->text, sizeof dev->text);
cleanup:
  for (int i = 0; dev && i < 3; i++) dev->ops->free(dev, m[i]);
  coh_device_close(dev);
  return rc;
}

static void report_nccl(doctor *d, bool gpus) {
  int v = nccl_version();
  if (v)
    doctor_say(d, FINE, "nccl", "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
  else
    doctor_say(d, gpus ? WARN : FINE, "nccl", "not found%s",
               gpus ? ": ranks that share networks then sum through the host; load its "
                      "module"
                    : "");
}

/* A job that SLURM gave GPUs, on a node where none answers, is a finding. */
static void report_none(doctor *d) {
  coh_text text = {0};
  const char *given = getenv("SLURM_GPUS_ON_NODE");
  bool lost = given && atoi(given) > 0;
  coh_device_gpus(&text);
  doctor_say(d, lost ? BAD : FINE, "gpu", "%s%s", text.data ? text.data : "none",
             lost ? "; yet SLURM gave this job GPUs: build with CUDA, and see what "
                    "nvidia-smi says on the node"
                  : "");
  coh_text_free(&text);
}

void doctor_gpu(doctor *d) {
  char text[96];
  size_t left = 0;
  double rate[2] = {0};
  coh_error err = {0};
  int count = coh_device_count();
  coh_device_wish wish = {.kind = COH_DEVICE_CUDA};
  report_nccl(d, count > 0);
  if (count == 0) {
    report_none(d);
    return;
  }
  for (int i = 0; i < 2; i++) {
    wish.math = i ? COH_MATH_TF32 : COH_MATH_FP32;
    if (rate_of(&wish, &rate[i], text, &left, &err)) {
      doctor_say(d, BAD, "gpu", "%s", err.text);
      return;
    }
  }
  doctor_say(d, d->node_ranks > count ? WARN : FINE, "gpu",
             "%s, %.1f GiB free: float32 %.1f TFLOP/s, with device.math = tf32 %.1f; "
             "%d GPU%s for %d rank%s on this node%s",
             text, (double)left / (1 << 30), rate[0], rate[1], count,
             count > 1 ? "s" : "", d->node_ranks, d->node_ranks > 1 ? "s" : "",
             d->node_ranks > count ? ": ranks share them; start one rank a GPU" : "");
}
