/* recorder.h - a device table that records and replays on the CPU, for small networks,
 * and watches that it is used as include/cohort/device.h says: between record and
 * record_end no call but kernels, nothing replayed that was freed. Include after
 * cmocka.h.
 *
 *   coh_device_ops ops = recorder_ops(cpu_dev->ops);
 */
#ifndef COHORT_TESTS_RECORDER_H
#define COHORT_TESTS_RECORDER_H

#include <stdlib.h>

#include "cohort/device.h"

/* A call kept: which one, and its arguments. */
typedef struct rec_call {
  enum { REC_GATHER, REC_ADVANCE, REC_STEP, REC_SMALL } kind;
  coh_gather_args gather;
  struct {
    size_t bytes;
    const void *table;
    uint32_t *cursor;
    void *now;
  } advance;
  coh_step_args step;
  coh_small small;
} rec_call;

enum { REC_CALLS = 64, REC_ALIVE = 4 };
struct coh_recording {
  size_t calls;
  rec_call call[REC_CALLS];
};

static struct {
  const coh_device_ops *cpu;
  coh_recording *open;                          /* being recorded */
  size_t alive, made, replayed, direct, orders; /* direct: steps of the optimiser */
  coh_recording *kept[REC_ALIVE];
  bool fails; /* the next kernel of a recording */
} rec;

static int rec_keep(rec_call r, coh_error *err) {
  if (rec.fails) return coh_fail(err, COH_ELIB, "a kernel failed");
  assert_true(rec.open->calls < REC_CALLS);
  rec.open->call[rec.open->calls++] = r;
  return COH_OK;
}

static int rec_gather(coh_device *dev, const coh_gather_args *g, coh_error *err) {
  if (!rec.open) return rec.cpu->gather(dev, g, err);
  return rec_keep((rec_call){.kind = REC_GATHER, .gather = *g}, err);
}

static int rec_advance(coh_device *dev, size_t bytes, const void *table, uint32_t *cursor,
                       void *now, coh_error *err) {
  if (!rec.open) return rec.cpu->advance(dev, bytes, table, cursor, now, err);
  return rec_keep((rec_call){.kind = REC_ADVANCE, .advance = {bytes, table, cursor, now}},
                  err);
}

static int rec_step(coh_device *dev, const coh_step_args *a, coh_error *err) {
  if (rec.open) return rec_keep((rec_call){.kind = REC_STEP, .step = *a}, err);
  rec.direct++;
  return rec.cpu->step(dev, a, err);
}

static int rec_small(coh_device *dev, const coh_small *s, coh_error *err) {
  if (!rec.open) return rec.cpu->small(dev, s, err);
  return rec_keep((rec_call){.kind = REC_SMALL, .small = *s}, err);
}

/* What may not stand in a recording. */
static int rec_upload(coh_device *dev, void *to, const void *from, size_t bytes,
                      coh_error *err) {
  assert_null(rec.open);
  return rec.cpu->upload(dev, to, from, bytes, err);
}
static int rec_download(coh_device *dev, void *to, const void *from, size_t bytes,
                        coh_error *err) {
  assert_null(rec.open);
  return rec.cpu->download(dev, to, from, bytes, err);
}
static int rec_alloc(coh_device *dev, size_t bytes, void **out, coh_error *err) {
  assert_null(rec.open);
  return rec.cpu->alloc(dev, bytes, out, err);
}

static int rec_order(coh_device *dev, size_t S, const uint64_t *seed, uint64_t epoch,
                     size_t n, uint32_t *order, coh_error *err) {
  (void)dev, (void)err;
  assert_null(rec.open);
  rec.orders++;
  for (size_t s = 0; s < S; s++)
    coh_random_permutation(seed[s], COH_RNG_ORDER, epoch, n, order + s * n);
  return COH_OK;
}

/* The place where a recording that was made and not freed is kept; NULL: a free one. */
static coh_recording **rec_place(coh_recording *r) {
  for (size_t i = 0; i < REC_ALIVE; i++)
    if (rec.kept[i] == r) return &rec.kept[i];
  fail_msg("%s", r ? "this recording was freed, or never made" : "too many recordings");
  return NULL;
}

static int rec_record(coh_device *dev, coh_error *err) {
  (void)dev;
  assert_null(rec.open);
  return coh_alloc(&rec.open, 1, sizeof *rec.open, err);
}

static int rec_record_end(coh_device *dev, coh_recording **out, coh_error *err) {
  (void)dev, (void)err;
  assert_non_null(rec.open);
  rec.made++;
  if (out) {
    *rec_place(NULL) = *out = rec.open;
    rec.alive++;
  } else {
    free(rec.open);
  }
  rec.open = NULL;
  return COH_OK;
}

static int rec_replay(coh_device *dev, coh_recording *r, coh_error *err) {
  int rc = COH_OK;
  assert_null(rec.open);
  rec_place(r);
  rec.replayed++;
  for (const rec_call *c = r->call; c < r->call + r->calls; c++) {
    if (c->kind == REC_GATHER) COH_TRY(rec.cpu->gather(dev, &c->gather, err));
    if (c->kind == REC_STEP) COH_TRY(rec.cpu->step(dev, &c->step, err));
    if (c->kind == REC_SMALL) COH_TRY(rec.cpu->small(dev, &c->small, err));
    if (c->kind == REC_ADVANCE)
      COH_TRY(rec.cpu->advance(dev, c->advance.bytes, c->advance.table, c->advance.cursor,
                               c->advance.now, err));
  }
cleanup:
  return rc;
}

static void rec_free(coh_device *dev, coh_recording *r) {
  (void)dev;
  if (!r) return;
  assert_null(rec.open);
  *rec_place(r) = NULL;
  rec.alive--;
  free(r);
}

static coh_device_ops recorder_ops(const coh_device_ops *cpu) {
  coh_device_ops ops = *cpu;
  rec.cpu = cpu;
  rec.alive = rec.made = rec.replayed = rec.direct = rec.orders = 0;
  rec.fails = false;
  ops.name = "recorder";
  ops.upload = rec_upload, ops.download = rec_download, ops.alloc = rec_alloc;
  ops.record = rec_record, ops.record_end = rec_record_end;
  ops.replay = rec_replay, ops.recording_free = rec_free;
  ops.gather = rec_gather, ops.advance = rec_advance, ops.order = rec_order;
  ops.step = rec_step, ops.small = rec_small;
  return ops;
}

#endif
