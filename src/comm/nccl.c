/* nccl.c - sums over replicas on their GPUs. NCCL is loaded when it is first wanted:
 * cohort starts, and runs on CPUs, without it.
 *
 * A peer that is gone leaves a sum that never ends, on the GPU, where no MPI notices. So
 * the host never waits for a sum without watching NCCL's own verdict and the clock.
 */
#include "comm/nccl.h"

#if defined COH_CUDA && __has_include(<nccl.h>)
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NCCL_FUNCTIONS(F)                                                                \
  F(ncclGetUniqueId)                                                                     \
  F(ncclCommInitRank)                                                                    \
  F(ncclCommDestroy)                                                                     \
  F(ncclCommAbort)                                                                       \
  F(ncclCommGetAsyncError)                                                               \
  F(ncclAllReduce)                                                                       \
  F(ncclGetErrorString)

typedef struct api {
#define FIELD(name) __typeof__(&name) name;
  NCCL_FUNCTIONS(FIELD)
#undef FIELD
} api;

enum { AHEAD = 2 }; /* steps that the host may be ahead */

struct coh_nccl {
  api api;
  ncclComm_t comm;
  const coh_patience *patience; /* borrowed */
  cudaStream_t stream;
  cudaEvent_t ready, summed; /* order between the device's stream and this one */
  cudaEvent_t done[AHEAD];   /* ends of the last steps, in turn */
  uint64_t steps;
};

static int check_cuda(cudaError_t code, const char *call, coh_error *err) {
  if (code == cudaSuccess) return COH_OK;
  return coh_fail(err, COH_ELIB, "GPU: %s (%s) from %s", cudaGetErrorString(code),
                  cudaGetErrorName(code), call);
}
#define CUDA_TRY(call) COH_TRY(check_cuda((call), #call, err))

static int check_nccl(const api *a, ncclResult_t code, const char *call, coh_error *err) {
  if (code == ncclSuccess || code == ncclInProgress) return COH_OK;
  return coh_fail(err, COH_ELIB, "NCCL: %s from %s; NCCL_DEBUG=WARN tells more",
                  a->ncclGetErrorString(code), call);
}
#define NCCL_TRY(a, function, ...)                                                       \
  COH_TRY(check_nccl((a), (a)->function(__VA_ARGS__), #function, err))

static int load(api *out, coh_error *err) {
#ifdef COH_FAKE_CUDA
  void *library = dlopen(NULL, RTLD_NOW);
#else
  void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    library = dlopen(COH_CUDA_HOME "/lib64/libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
#endif
  if (!library)
    return coh_fail(err, COH_ELIB,
                    "cannot load libnccl.so.2: %s; load the NCCL module or "
                    "set LD_LIBRARY_PATH",
                    dlerror());
#define LOAD(f)                                                                          \
  if (!(*(void **)&out->f = dlsym(library, #f)))                                         \
    return coh_fail(err, COH_ELIB, "libnccl.so.2 has no " #f);
  NCCL_FUNCTIONS(LOAD)
#undef LOAD
  return COH_OK;
}

/* ---- life ------------------------------------------------------------------------ */

/* All ranks of `comm` or none come back from NCCL's own start. */
static int start(coh_nccl *n, MPI_Comm comm, coh_error *err) {
  int rc, rank, size;
  ncclUniqueId id;
  memset(&id, 0, sizeof id);
  COH_MPI(MPI_Comm_rank(comm, &rank));
  COH_MPI(MPI_Comm_size(comm, &size));
  rc = load(&n->api, err);
  if (!rc && rank == 0)
    rc = check_nccl(&n->api, n->api.ncclGetUniqueId(&id), "ncclGetUniqueId", err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(coh_bcast(comm, &id, sizeof id, 0, err));
  rc = check_nccl(&n->api, n->api.ncclCommInitRank(&n->comm, size, id, rank),
                  "ncclCommInitRank", err);
  COH_TRY(coh_agree(comm, rc, err));
cleanup:
  return rc;
}

static int create_stream(coh_nccl *n, coh_error *err) {
  int rc;
  CUDA_TRY(cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking));
  CUDA_TRY(cudaEventCreateWithFlags(&n->ready, cudaEventDisableTiming));
  CUDA_TRY(cudaEventCreateWithFlags(&n->summed, cudaEventDisableTiming));
  for (int i = 0; i < AHEAD; i++)
    CUDA_TRY(cudaEventCreateWithFlags(&n->done[i], cudaEventDisableTiming));
cleanup:
  return rc;
}

int coh_nccl_create(MPI_Comm comm, const coh_patience *patience, coh_nccl **out,
                    coh_error *err) {
  int rc;
  coh_nccl *n = NULL;
  *out = NULL;
  rc = coh_alloc(&n, 1, sizeof *n, err);
  if (!rc) rc = create_stream(n, err);
  COH_TRY(coh_agree(comm, rc, err));
  n->patience = patience;
  COH_TRY(start(n, comm, err));
  *out = n;
  return COH_OK;
cleanup:
  coh_nccl_destroy(n);
  (void)cudaGetLastError(); /* sums go through the host then: no kernel is to find it */
  return rc;
}

void coh_nccl_destroy(coh_nccl *n) {
  if (!n) return;
  if (n->comm) (void)n->api.ncclCommDestroy(n->comm);
  for (int i = 0; i < AHEAD; i++)
    if (n->done[i]) (void)cudaEventDestroy(n->done[i]);
  if (n->summed) (void)cudaEventDestroy(n->summed);
  if (n->ready) (void)cudaEventDestroy(n->ready);
  if (n->stream) (void)cudaStreamDestroy(n->stream);
  free(n);
}

/* ---- sums ------------------------------------------------------------------------ */

int coh_nccl_start(coh_nccl *n, coh_device *dev, coh_dtype type, size_t count, void *data,
                   coh_error *err) {
  int rc;
  ncclDataType_t t = type == COH_F64 ? ncclDouble : ncclFloat;
  CUDA_TRY(cudaEventRecord(n->ready, coh_device_stream(dev)));
  CUDA_TRY(cudaStreamWaitEvent(n->stream, n->ready, 0));
  NCCL_TRY(&n->api, ncclAllReduce, data, data, count, t, ncclSum, n->comm, n->stream);
cleanup:
  return rc;
}

int coh_nccl_join(coh_nccl *n, coh_device *dev, coh_error *err) {
  int rc;
  CUDA_TRY(cudaEventRecord(n->summed, n->stream));
  CUDA_TRY(cudaStreamWaitEvent(coh_device_stream(dev), n->summed, 0));
cleanup:
  return rc;
}

/* ---- waits ----------------------------------------------------------------------- */

/* The process is to end first: ncclCommAbort, which frees the GPU from the sum, waits for
 * graphs that hold sums to be destroyed, and may wait for ranks of the node. */
static int lost(coh_nccl *n, double waited, const char *why, coh_error *err) {
  coh_fail(err, COH_ESTOP,
           "a rank that shares this rank's networks is lost: %s after %.0f s", why,
           waited);
  if (n->patience && n->patience->lost) n->patience->lost(n->patience->ctx, err->text);
  (void)n->api.ncclCommAbort(n->comm);
  n->comm = NULL;
  return err->code;
}

/* Until `event` is past. */
static int wait_for(coh_nccl *n, cudaEvent_t event, coh_error *err) {
  int rc;
  const struct timespec nap = {.tv_nsec = 20000};
  double begin = coh_seconds();
  for (;;) {
    cudaError_t code = cudaEventQuery(event);
    if (code != cudaErrorNotReady) return check_cuda(code, "cudaEventQuery", err);
    (void)cudaGetLastError(); /* which is no error, but would be taken for the next one */
    ncclResult_t verdict = ncclSuccess;
    NCCL_TRY(&n->api, ncclCommGetAsyncError, n->comm, &verdict);
    double waited = coh_seconds() - begin;
    if (verdict != ncclSuccess && verdict != ncclInProgress)
      return lost(n, waited, n->api.ncclGetErrorString(verdict), err);
    if (n->patience && n->patience->seconds > 0 && waited > n->patience->seconds)
      return lost(n, waited, "no answer (ranks.timeout)", err);
    nanosleep(&nap, NULL);
  }
cleanup:
  return rc;
}

int coh_nccl_keep_up(coh_nccl *n, coh_device *dev, coh_error *err) {
  int rc;
  cudaEvent_t event = n->done[n->steps % AHEAD];
  if (n->steps >= AHEAD) COH_TRY(wait_for(n, event, err));
  CUDA_TRY(cudaEventRecord(event, coh_device_stream(dev)));
  n->steps++;
cleanup:
  return rc;
}

int coh_nccl_finish(coh_nccl *n, coh_device *dev, coh_error *err) {
  int rc;
  CUDA_TRY(cudaEventRecord(n->ready, coh_device_stream(dev)));
  COH_TRY(wait_for(n, n->ready, err));
cleanup:
  return rc;
}
#else
int coh_nccl_create(MPI_Comm comm, const coh_patience *patience, coh_nccl **out,
                    coh_error *err) {
  (void)comm, (void)patience;
  *out = NULL;
  return coh_fail(err, COH_ELIB, "this build of cohort has no NCCL");
}
void coh_nccl_destroy(coh_nccl *n) {
  (void)n;
}
static int none(coh_error *err) {
  return coh_fail(err, COH_EBUG, "a sum by NCCL in a build without it");
}
int coh_nccl_start(coh_nccl *n, coh_device *dev, coh_dtype type, size_t count, void *data,
                   coh_error *err) {
  (void)n, (void)dev, (void)type, (void)count, (void)data;
  return none(err);
}
int coh_nccl_join(coh_nccl *n, coh_device *dev, coh_error *err) {
  (void)n, (void)dev;
  return none(err);
}
int coh_nccl_keep_up(coh_nccl *n, coh_device *dev, coh_error *err) {
  (void)n, (void)dev;
  return none(err);
}
int coh_nccl_finish(coh_nccl *n, coh_device *dev, coh_error *err) {
  (void)n, (void)dev;
  return none(err);
}
#endif
