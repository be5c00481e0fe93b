/* method.c - training by a rule of another room: what it sees of the trainer, and how the
 * ends that it finds become those of all ranks. */
#include <math.h>
#include <stdlib.h>

#include "train/trainer.h"

int coh_trainer_method(coh_trainer *t, const coh_train_method *m, coh_error *err) {
  if (t->grid->n_replica > 1)
    return coh_fail(err, COH_EUSAGE, "this training does not divide batches among ranks");
  t->method = m;
  if (t->batch_loss || t->count == 0) return COH_OK;
  return t->dev->ops->alloc(t->dev, t->count * sizeof *t->batch_loss,
                            (void **)&t->batch_loss, err);
}

void coh_trainer_view(const coh_trainer *t, coh_train_view *v) {
  *v = (coh_train_view){.ens = t->ens,
                        .slot = t->slot,
                        .m = t->m,
                        .v = t->v,
                        .loss = t->batch_loss,
                        .first = t->first,
                        .count = t->count,
                        .step = t->step,
                        .epoch = t->step / t->epoch_length,
                        .epoch_length = t->epoch_length,
                        .metric = t->hooks.metric,
                        .metric_ctx = t->hooks.ctx};
}

/* Loss and state of this rank's members, of those that ended before as they were. */
static int ask(coh_trainer *t, double (*row)[2], coh_error *err) {
  int rc;
  double *loss = NULL;
  int *state = NULL;
  coh_train_view view;
  coh_trainer_view(t, &view);
  COH_TRY(coh_alloc(&loss, t->count, sizeof *loss, err));
  COH_TRY(coh_alloc(&state, t->count, sizeof *state, err));
  for (size_t i = 0; i < t->count; i++) {
    loss[i] = t->member[t->first + i].loss;
    state[i] = t->member[t->first + i].state;
  }
  COH_TRY(t->method->epoch(t->method->ctx, &view, loss, state, err));
  for (size_t i = 0; i < t->count; i++) row[i][0] = loss[i], row[i][1] = state[i];
cleanup:
  free(loss);
  free(state);
  return rc;
}

int coh_method_epoch(coh_trainer *t, coh_error *err) {
  int rc;
  double(*row)[2] = NULL, (*all)[2] = NULL;
  COH_TRY(coh_alloc(&row, t->count, sizeof *row, err));
  COH_TRY(coh_alloc(&all, t->N, sizeof *all, err));
  COH_TRY(coh_grid_meet(t->grid, err)); /* before the method's own waiting for others */
  coh_grid_part(t->grid);
  rc = ask(t, row, err);
  COH_TRY(coh_grid_meet(t->grid, err));
  COH_TRY(coh_agree(t->grid->world, rc, err));
  COH_TRY(coh_grid_allgather_rows(t->grid, t->N, sizeof *row, row, all, err));
  for (size_t n = 0; n < t->N; n++) {
    if (t->member[n].state != COH_MEMBER_ACTIVE) continue;
    t->member[n].loss = all[n][0];
    t->member[n].state = (int)all[n][1];
    t->member[n].step = t->step;
  }
cleanup:
  coh_grid_part(t->grid);
  free(row);
  free(all);
  return rc;
}
