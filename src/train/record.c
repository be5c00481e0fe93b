/* record.c - steps recorded once for each shape of batch and replayed from then on, where
 * the device gains by it. The first step of a shape is made directly, so that libraries
 * and the device's own buffers are set up. */
#include "train/trainer.h"

void coh_records_drop(coh_trainer *t) {
  for (size_t i = 0; i < COH_SHAPES; i++) {
    if (t->record[i].kept) t->dev->ops->recording_free(t->dev, t->record[i].kept);
    t->record[i] = (coh_record){0};
  }
}

static int record(coh_trainer *t, const coh_part *part, coh_step_fn *step,
                  coh_recording **kept, coh_error *err) {
  const coh_device_ops *ops = t->dev->ops;
  coh_error ignored;
  int rc = ops->record(t->dev, err);
  if (rc) return rc;
  rc = step(t, part, err);
  if (rc == COH_OK) return ops->record_end(t->dev, kept, err);
  ops->record_end(t->dev, NULL, &ignored); /* the step's own error is told */
  return rc;
}

int coh_records_step(coh_trainer *t, const coh_part *part, coh_step_fn *step,
                     coh_error *err) {
  int rc;
  coh_record *r = &t->record[part->total == t->spec.batch];
  if (!t->dev->ops->record || !coh_reducer_records(t->reducer) || !r->seen) {
    r->seen = true;
    return step(t, part, err);
  }
  if (!r->kept) COH_TRY(record(t, part, step, &r->kept, err));
  rc = t->dev->ops->replay(t->dev, r->kept, err);
cleanup:
  return rc;
}
