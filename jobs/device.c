/* device.c - the device of each rank: which GPU, or the processor; how sums over replicas
 * travel; and what happens when a rank is lost while others wait for it on a GPU. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "job.h"

static void leave(int signal) {
  (void)signal;
  _exit(JOB_STOPPED);
}

/* A rank that waits for another one's GPU cannot leave the others behind: all end, as if
 * they had been asked to stop, with what was saved by then. MPI may be in the middle of
 * something, on this thread or another one: it has a few seconds. */
static void give_up(void *ctx, const char *text) {
  const job *j = ctx;
  fprintf(stderr, "cohort: rank %d: %s; run it again to go on from the last checkpoint\n",
          j->grid.rank, text);
  fflush(stderr);
  signal(SIGALRM, leave);
  alarm(5);
  MPI_Abort(MPI_COMM_WORLD, JOB_STOPPED);
}

/* Ranks of a node take its GPUs in turn; SLURM may have given each rank one of its own,
 * which then is the only one that it sees. */
int job_find_gpu(job *j, coh_error *err) {
  int rc, rank, size, gpus = coh_device_count();
  int64_t without = gpus == 0;
  char bus[COH_BUS];
  COH_TRY(coh_grid_node(&j->grid, &rank, &size, err));
  COH_TRY(coh_allmax(j->grid.world, &without, err));
  j->gpu = (job_gpu){.number = gpus > 0 ? rank % gpus : 0, .everywhere = !without};
  coh_device_bus_of(j->gpu.number, bus);
  COH_TRY(coh_grid_sharers(&j->grid, bus, &j->gpu.sharers, err));
  if (j->gpu.everywhere && j->grid.size > 1)
    COH_TRY(coh_agree(j->grid.world, coh_watchdog_create(&j->gpu.dog, err), err));
cleanup:
  return rc;
}

/* What `auto` comes to: GPUs where every rank has one. */
static int wish_of(const job *j, coh_device_wish *out, coh_error *err) {
  const coh_config *c = &j->cfg;
  static const char *const math[] = {"fp32", "tf32", "bf16"};
  *out = (coh_device_wish){.kind = (coh_device_kind)c->device.kind,
                           .math = (coh_math)c->device.math,
                           .number = j->gpu.number,
                           .sharers = j->gpu.sharers};
  if (out->kind == COH_DEVICE_AUTO)
    out->kind = j->gpu.everywhere ? COH_DEVICE_CUDA : COH_DEVICE_CPU;
  if (out->kind != COH_DEVICE_CPU || out->math == COH_MATH_FP32) return COH_OK;
  return coh_fail(
      err, COH_EUSAGE, "%s: device.math = %s is a GPU's, and %s; fp32 works everywhere",
      c->file, math[out->math],
      c->device.kind == COH_DEVICE_CPU ? "device.kind = cpu" : "not every rank has one");
}

int job_device_as(const job *j, coh_dtype dtype, coh_device **out, coh_error *err) {
  coh_device_wish wish;
  int rc = wish_of(j, &wish, err);
  return rc ? rc : coh_device_open_as(&wish, dtype, out, err);
}

static void tell(const job *j, const coh_device *dev, const char *sums) {
  coh_text gpus = {0};
  if (coh_device_stream(dev)) {
    coh_say(&j->sink, COH_INFO, "device: %s; sums over replicas: %s",
            coh_device_text(dev), sums);
    return;
  }
  coh_device_gpus(&gpus);
  if (j->cfg.device.kind == COH_DEVICE_AUTO && gpus.data && strstr(gpus.data, "no GPU"))
    coh_say(&j->sink, COH_INFO, "device: %s; %s", coh_device_text(dev), gpus.data);
  coh_text_free(&gpus);
}

int job_device(job *j, coh_dtype dtype, coh_device **out, coh_error *err) {
  int rc;
  const char *sums = "";
  *out = NULL;
  rc = job_device_as(j, dtype, out, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  (void)wish_of(j, &j->gpu.wish, err);
  if (coh_device_stream(*out)) {
    j->patience = (coh_patience){
        .seconds = j->cfg.ranks.timeout, .lost = give_up, .ctx = j, .dog = j->gpu.dog};
    j->grid.patience = &j->patience;
  }
  COH_TRY(coh_grid_choose_sums(&j->grid, *out, (coh_collectives)j->cfg.ranks.collectives,
                               &sums, err));
  if (!j->gpu.told) tell(j, *out, sums);
  j->gpu.told = true;
cleanup:
  if (rc) {
    coh_device_close(*out);
    *out = NULL;
  }
  return rc;
}
