/* pace.c - what steps need that differs from one to the next: a table on the device, of
 * one row a step, filled for a stretch of steps within an epoch at once. A step begins by
 * taking its row; so the host decides nothing within a step, which can be recorded. */
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

enum { MOST_ROWS = 256, MOST_BYTES = 1 << 20 };

/* A coh_pace and, behind it, the lr of each member present. */
static size_t row_bytes(size_t members) {
  return sizeof(coh_pace) + members * sizeof(double);
}

int coh_stretch_create(coh_trainer *t, coh_error *err) {
  int rc;
  coh_device *dev = t->dev;
  const coh_device_ops *ops = dev->ops;
  coh_stretch *s = &t->stretch;
  size_t row = row_bytes(t->count), fit = MOST_BYTES / row;
  s->room = fit < 1 ? 1 : fit < MOST_ROWS ? fit : MOST_ROWS;
  if (s->room > t->epoch_length) s->room = (size_t)t->epoch_length;
  COH_TRY(coh_alloc(&s->host, s->room, row, err));
  COH_TRY(coh_alloc(&s->wd_host, t->count, sizeof *s->wd_host, err));
  COH_TRY(coh_alloc(&s->stream_host, t->count, sizeof *s->stream_host, err));
  COH_TRY(ops->alloc(dev, s->room * row, &s->rows, err));
  COH_TRY(ops->alloc(dev, row, &s->now, err));
  COH_TRY(ops->alloc(dev, sizeof *s->cursor, (void **)&s->cursor, err));
  COH_TRY(ops->alloc(dev, t->count * sizeof *s->wd, (void **)&s->wd, err));
  COH_TRY(ops->alloc(dev, t->count * sizeof *s->stream, (void **)&s->stream, err));
cleanup:
  return rc;
}

void coh_stretch_destroy(coh_trainer *t) {
  const coh_device_ops *ops = t->dev->ops;
  coh_stretch *s = &t->stretch;
  ops->free(t->dev, s->rows);
  ops->free(t->dev, s->now);
  ops->free(t->dev, s->cursor);
  ops->free(t->dev, s->wd);
  ops->free(t->dev, s->stream);
  free(s->host);
  free(s->wd_host);
  free(s->stream_host);
  *s = (coh_stretch){0};
}

void coh_stretch_forget(coh_trainer *t) {
  t->stretch.end = 0;
  t->stretch.members = false;
}

/* Of each member present, what no step changes. */
static int fill_members(coh_trainer *t, coh_error *err) {
  int rc;
  coh_stretch *s = &t->stretch;
  size_t N = t->ens->N;
  for (size_t i = 0; i < N; i++) {
    s->wd_host[i] = coh_member_run(t, t->first + t->slot[i])->spec.weight_decay;
    s->stream_host[i] = coh_stream_of(t, i);
  }
  COH_TRY(t->dev->ops->upload(t->dev, s->wd, s->wd_host, N * sizeof *s->wd, err));
  COH_TRY(
      t->dev->ops->upload(t->dev, s->stream, s->stream_host, N * sizeof *s->stream, err));
  s->members = true;
cleanup:
  return rc;
}

static void fill_row(const coh_trainer *t, uint64_t step, char *row) {
  coh_pace pace =
      coh_pace_of(t->spec.optimizer, COH_ADAM_BETA1, COH_ADAM_BETA2, step + 1);
  double factor = 1, *lr = (double *)(row + sizeof pace);
  const coh_train_run *last = NULL;
  pace.at = (uint32_t)coh_part_of(t, step).at;
  memcpy(row, &pace, sizeof pace);
  for (size_t i = 0; i < t->ens->N; i++) {
    size_t n = t->first + t->slot[i];
    const coh_train_run *run = coh_member_run(t, n);
    if (run != last) factor = coh_schedule_factor(&run->spec, step);
    last = run;
    lr[i] = t->member[n].lr * factor;
  }
}

int coh_stretch_prepare(coh_trainer *t, coh_error *err) {
  int rc;
  coh_stretch *s = &t->stretch;
  const uint32_t first = 0;
  if (!s->members) COH_TRY(fill_members(t, err));
  if (s->step == t->step && s->step < s->end) return COH_OK;
  size_t row = row_bytes(t->ens->N);
  uint64_t left = t->epoch_length - t->step % t->epoch_length;
  size_t rows = left < s->room ? (size_t)left : s->room;
  for (size_t r = 0; r < rows; r++) fill_row(t, t->step + r, (char *)s->host + r * row);
  COH_TRY(t->dev->ops->upload(t->dev, s->rows, s->host, rows * row, err));
  COH_TRY(t->dev->ops->upload(t->dev, s->cursor, &first, sizeof first, err));
  s->step = t->step;
  s->end = t->step + rows;
cleanup:
  return rc;
}

int coh_stretch_advance(coh_trainer *t, coh_error *err) {
  const coh_stretch *s = &t->stretch;
  return t->dev->ops->advance(t->dev, row_bytes(t->ens->N), s->rows, s->cursor, s->now,
                              err);
}

const coh_pace *coh_stretch_pace(const coh_trainer *t) {
  return t->stretch.now;
}

const double *coh_stretch_lr(const coh_trainer *t) {
  return (const double *)((const char *)t->stretch.now + sizeof(coh_pace));
}
