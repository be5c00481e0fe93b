/* sweepdata.h - folders of sweeps as `cohort run` leaves them, made quickly and without
 * training: for the tests of merge and status. Include after cmocka.h. */
#ifndef COHORT_TESTS_SWEEPDATA_H
#define COHORT_TESTS_SWEEPDATA_H

#include "cohort/store.h"

#include <math.h>
#include <sys/stat.h>

#include "scratch.h"

/* One run of a pack to be. */
typedef struct fake_run {
  size_t index;
  bool failed;
  double value;   /* of the measure "loss"; the extra measure "rare" if it is above 2 */
  const char *id; /* run_id; NULL: that of fake_id(index) */
} fake_run;

static coh_config fake_cfg;
static coh_error fake_err;

#define FAKE(call)                                                                       \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, fake_err.text);                      \
  } while (0)

static inline void fake_setup(void) {
  coh_config_defaults(&fake_cfg, COH_JOB_TRAIN);
  FAKE(coh_config_set(&fake_cfg, "dataset.name=mnist", &fake_err));
  FAKE(coh_config_set(&fake_cfg, "model.name=dense_784_5_10", &fake_err));
}

static inline const char *fake_id(size_t index) {
  static char id[4][33];
  static int turn;
  char *out = id[turn++ % 4];
  snprintf(out, 33, "%016zx%016zx", index * 2654435761u, index);
  return out;
}

typedef struct fake_pack {
  const fake_run *run;
  char folder[COH_PATH];
  const char *hosts;
  double seconds;
  coh_measures m;
} fake_pack;

static inline int fake_row(void *ctx, size_t i, coh_row *out, coh_error *err) {
  (void)err;
  fake_pack *p = ctx;
  const fake_run *r = p->run + i;
  bool rare = r->value > 2;
  fake_cfg.experiment.seed = (int64_t)r->index;
  p->m.n = 0;
  if (!p->m.item) FAKE(coh_alloc(&p->m.item, 2, sizeof *p->m.item, &fake_err));
  p->m.item[p->m.n++] =
      (coh_measure){(char *)(uintptr_t)(rare ? "rare" : "loss"), r->value};
  *out = (coh_row){.cfg = &fake_cfg,
                   .run = {"00112233445566778899aabbccddeeff"},
                   .folder = p->folder,
                   .status = r->failed ? "failed" : "done",
                   .measures = r->failed ? NULL : &p->m,
                   .seconds = p->seconds,
                   .hosts = p->hosts,
                   .run_id = r->id ? r->id : fake_id(r->index),
                   .index = r->index,
                   .member = i,
                   .members = 1,
                   .error = r->failed ? "the loss is not a number" : NULL};
  return COH_OK;
}

/* Writes <sub>/packs/<name> with runs.csv and pack.json. */
static inline void fake_publish(const char *sub, const char *name, const char *sweep,
                                size_t n, const fake_run *run, double seconds,
                                const char *hosts) {
  char path[COH_PATH], file[COH_PATH + 16];
  fake_pack p = {.run = run, .hosts = hosts, .seconds = seconds};
  coh_pack pack = {.hash = "aa", .token = "cc", .attempt = 1, .n = n};
  snprintf(pack.sweep, sizeof pack.sweep, "%s", sweep);
  snprintf(p.folder, sizeof p.folder, "packs/%s", name);
  snprintf(path, sizeof path, "%s/packs/%s", sub, name);
  snprintf(file, sizeof file, "%s/runs.csv", path);
  FAKE(coh_mkdirs(path, &fake_err));
  FAKE(coh_runs_write(file, n, fake_row, &p, &fake_err));
  FAKE(coh_alloc(&pack.run, n, sizeof *pack.run, &fake_err));
  for (size_t i = 0; i < n; i++) {
    coh_pack_run *r = pack.run + i;
    *r = (coh_pack_run){.index = run[i].index, .first = i, .members = 1};
    snprintf(r->run_id, 33, "%s", run[i].id ? run[i].id : fake_id(run[i].index));
    snprintf(r->status, 16, "%s", run[i].failed ? "failed" : "done");
  }
  FAKE(coh_pack_write(path, &pack, &fake_err));
  coh_pack_free(&pack);
  free(p.m.item);
}

/* Many small files and syncs: in memory where that can be had. */
static inline int fake_scratch(void **state) {
  struct stat st;
  if (!getenv("TMPDIR") && stat("/dev/shm", &st) == 0) setenv("TMPDIR", "/dev/shm", 1);
  return scratch_make(state);
}

#endif
