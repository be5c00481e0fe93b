/* trainer.c - life of a trainer and the loop over iterations and epochs. What one
 * iteration does stands in step.c, learning rates in schedule.c, state on file in
 * checkpoint.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

/* Ranks ask each other for stops and due checkpoints every so many iterations. */
enum { POLL_EVERY = 64 };

/* ---- life ----------------------------------------------------------------------------
 */

static bool has_first_moment(const coh_train_spec *s) {
  return s->optimizer == COH_ADAM || s->momentum > 0;
}

static int create_members(coh_trainer *t, coh_error *err) {
  int rc;
  COH_TRY(coh_alloc(&t->member, t->N, sizeof *t->member, err));
  COH_TRY(coh_alloc(&t->host_loss, t->N, sizeof *t->host_loss, err));
  COH_TRY(coh_alloc(&t->run_of, t->N, sizeof *t->run_of, err));
  for (size_t n = 0; n < t->N; n++)
    t->member[n] = (coh_member){.best = INFINITY, .loss = NAN};
cleanup:
  return rc;
}

/* That of the largest arrays no size, in float64, wraps around: parameters of all members
 * (also as a checkpoint has them), their activations, batches and orders, the data. */
static int check_memory(const coh_trainer *t, coh_error *err) {
  int rc;
  size_t width = t->plan.d_in, bytes, n = t->train.host->n, size = sizeof(double);
  size_t batch = t->spec.batch < n ? t->spec.batch : n;
  for (size_t l = 0; l < t->plan.L; l++) width += 3 * t->plan.layer[l].out;
  COH_TRY(coh_product(&bytes, err, t->N, t->plan.P, size));
  COH_TRY(coh_product(&bytes, err, t->N, batch, width, size));
  COH_TRY(coh_product(&bytes, err, t->N, n, sizeof(uint32_t)));
  COH_TRY(coh_product(&bytes, err, n, t->plan.d_in, size));
  COH_TRY(coh_product(&bytes, err, n, t->plan.n_out, size));
  return COH_OK;
cleanup:
  return coh_explain(err, "%zu networks of %zu parameters", t->N, t->plan.P);
}

/* Device arrays of the optimiser and of the steps' numbers, host arrays of the block;
 * only on ranks that hold members. */
static int create_arrays(coh_trainer *t, coh_error *err) {
  int rc;
  coh_device *dev = t->dev;
  const coh_device_ops *ops = dev->ops;
  size_t size = coh_dtype_size(dev->dtype), bytes = t->count * t->plan.P * size;
  if (has_first_moment(&t->spec)) COH_TRY(ops->alloc(dev, bytes, &t->m, err));
  if (t->spec.optimizer == COH_ADAM) COH_TRY(ops->alloc(dev, bytes, &t->v, err));
  COH_TRY(ops->alloc(dev, t->count * sizeof(double), (void **)&t->loss_sum, err));
  COH_TRY(ops->alloc(dev, t->count * sizeof(double), (void **)&t->loss_last, err));
  COH_TRY(coh_stretch_create(t, err));
  COH_TRY(coh_alloc(&t->perm, t->train.host->n, sizeof *t->perm, err));
  COH_TRY(coh_alloc(&t->slot, t->count, sizeof *t->slot, err));
  COH_TRY(coh_alloc(&t->stream, t->count, sizeof *t->stream, err));
  for (size_t i = 0; i < t->count; i++) t->slot[i] = (uint32_t)i;
cleanup:
  return rc;
}

static int create_ensemble(coh_trainer *t, const coh_dataset *train, coh_error *err) {
  int rc;
  COH_TRY(coh_device_data_create(t->dev, train, &t->train, err));
  COH_TRY(coh_ensemble_create(&t->plan, t->dev, t->count, &t->ens, err));
  COH_TRY(create_arrays(t, err));
cleanup:
  return rc;
}

static int create_workspace(coh_trainer *t, coh_error *err) {
  if (t->count == 0 || coh_plan_is_small(&t->plan, t->dev)) return COH_OK;
  return coh_workspace_create(&t->plan, t->dev, t->group, t->rows, true, &t->work, err);
}

static int check_shapes(const coh_plan *plan, const coh_dataset *d, const char *what,
                        coh_error *err) {
  if (d->d_in != plan->d_in)
    return coh_fail(err, COH_EUSAGE, "the network takes %zu inputs, but the %s has %zu",
                    plan->d_in, what, d->d_in);
  if (d->n_out != plan->n_out)
    return coh_fail(err, COH_EUSAGE, "the network has %zu outputs, but the %s has %zu %s",
                    plan->n_out, what, d->n_out, d->labels ? "classes" : "targets");
  if (d->n == 0) return coh_fail(err, COH_EUSAGE, "the %s is empty", what);
  return COH_OK;
}

int coh_trainer_create(const coh_grid *grid, coh_device *dev, const coh_plan *plan,
                       size_t N, const coh_dataset *train, const coh_dataset *test,
                       const coh_train_spec *spec, const coh_train_hooks *hooks,
                       coh_trainer **out, coh_error *err) {
  int rc;
  coh_trainer *t = NULL;
  *out = NULL;
  COH_TRY(check_shapes(plan, train, "training data", err));
  if (test) COH_TRY(check_shapes(plan, test, "test data", err));
  COH_TRY(coh_alloc(&t, 1, sizeof *t, err));
  t->grid = grid;
  t->dev = dev;
  t->spec = *spec;
  if (hooks) t->hooks = *hooks;
  t->N = N;
  t->plan = *plan;
  t->test = test;
  t->epoch_length = coh_epoch_length(train->n, spec->batch);
  t->train.host = train;
  coh_grid_block(grid, N, grid->student, &t->first, &t->count);
  size_t from, batch = spec->batch < train->n ? spec->batch : train->n;
  coh_grid_rows(grid, batch, &from, &t->rows);
  if (t->rows < batch / (size_t)grid->n_replica + 1)
    t->rows = batch / (size_t)grid->n_replica + 1;
  COH_TRY(check_memory(t, err));
  COH_TRY(create_members(t, err));
  if (t->count > 0) rc = create_ensemble(t, train, err);
  COH_TRY(coh_agree(grid->world, rc, err));
  COH_TRY(coh_trainer_choose_group(t, err));
  COH_TRY(coh_agree(grid->world, create_workspace(t, err), err));
  COH_TRY(coh_trainer_one_run(t, err));
  COH_TRY(coh_reducer_create(grid, dev, &t->reducer, err));
  *out = t;
  return COH_OK;
cleanup:
  coh_trainer_destroy(t);
  return rc;
}

void coh_trainer_destroy(coh_trainer *t) {
  if (!t) return;
  const coh_device_ops *ops = t->dev->ops;
  coh_reducer_destroy(t->reducer);
  coh_workspace_destroy(t->work);
  coh_ensemble_destroy(t->ens);
  coh_device_data_destroy(t->dev, &t->train);
  coh_device_data_destroy(t->dev, &t->test_data);
  ops->free(t->dev, t->m);
  ops->free(t->dev, t->v);
  ops->free(t->dev, t->loss_sum);
  ops->free(t->dev, t->loss_last);
  ops->free(t->dev, t->batch_loss);
  coh_records_drop(t);
  coh_stretch_destroy(t);
  coh_batch_destroy(t);
  free(t->gone.params);
  free(t->gone.m);
  free(t->gone.v);
  free(t->perm);
  free(t->slot);
  free(t->stream);
  free(t->run_of);
  free(t->run);
  free(t->member);
  free(t->host_loss);
  free(t);
}

/* ---- members
 * --------------------------------------------------------------------------- */

size_t coh_trainer_present(const coh_trainer *t) {
  return t->ens ? t->ens->N : 0;
}

size_t coh_members_active(const coh_trainer *t) {
  size_t active = 0;
  for (size_t n = 0; n < t->N; n++) active += t->member[n].state == COH_MEMBER_ACTIVE;
  return active;
}

void coh_trainer_block(const coh_trainer *t, size_t *first, size_t *count) {
  *first = t->first;
  *count = t->count;
}

/* Compacts one device array of rows. */
static int compact(coh_trainer *t, size_t count, const uint32_t *keep, size_t row_bytes,
                   void *rows, coh_error *err) {
  return rows ? t->dev->ops->compact(t->dev, count, keep, row_bytes, rows, err) : COH_OK;
}

/* Copies the rows of the whole block into the stash before some of them leave the device.
 */
static int fill_stash(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype);
  void **host[3] = {&t->gone.params, &t->gone.m, &t->gone.v};
  const void *device[3] = {t->ens->params, t->m, t->v};
  for (int which = 0; which < 3; which++) {
    if (!device[which]) continue;
    if (!*host[which]) COH_TRY(coh_alloc(host[which], t->count, row, err));
    COH_TRY(coh_trainer_rows(t, which, *host[which], err));
  }
cleanup:
  return rc;
}

void coh_trainer_changed(coh_trainer *t) {
  coh_stretch_forget(t);
  coh_records_drop(t);
}

int coh_trainer_shrink(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  uint32_t *keep = NULL;
  size_t N = coh_trainer_present(t), count = 0;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype);
  COH_TRY(coh_alloc(&keep, N, sizeof *keep, err));
  for (size_t i = 0; i < N; i++)
    if (t->member[t->first + t->slot[i]].state == COH_MEMBER_ACTIVE)
      keep[count++] = (uint32_t)i;
  if (count == N) goto cleanup;
  COH_TRY(fill_stash(t, err));
  COH_TRY(coh_ensemble_compact(t->ens, count, keep, err));
  COH_TRY(compact(t, count, keep, row, t->m, err));
  COH_TRY(compact(t, count, keep, row, t->v, err));
  COH_TRY(compact(t, count, keep, sizeof(double), t->loss_sum, err));
  COH_TRY(compact(t, count, keep, sizeof(double), t->loss_last, err));
  for (size_t i = 0; i < count; i++) t->slot[i] = t->slot[keep[i]];
  coh_trainer_changed(t);
cleanup:
  free(keep);
  return rc;
}

/* ---- the loop
 * --------------------------------------------------------------------------- */

int coh_trainer_sums(coh_trainer *t, double *device, double *local, coh_error *err) {
  int rc = COH_OK;
  size_t present = coh_trainer_present(t), bytes = present * sizeof(double);
  double *sums = NULL;
  memset(local, 0, t->count * sizeof *local);
  if (present == 0) return COH_OK;
  COH_TRY(coh_alloc(&sums, present, sizeof *sums, err));
  COH_TRY(coh_reducer_sum(t->reducer, COH_F64, present, device, err));
  COH_TRY(t->dev->ops->download(t->dev, sums, device, bytes, err));
  if (t->grid->replica_rank > 0) COH_TRY(t->dev->ops->zero(t->dev, device, bytes, err));
  for (size_t i = 0; i < present; i++) local[t->slot[i]] = sums[i];
cleanup:
  free(sums);
  return rc;
}

/* Mean over the epoch's batches of their mean losses, for this block: local [count]. */
static int epoch_losses(coh_trainer *t, double *local, coh_error *err) {
  int rc;
  size_t n = t->train.host->n, B = t->spec.batch, rest = n % B;
  size_t bytes = coh_trainer_present(t) * sizeof(double);
  double *last = NULL;
  COH_TRY(coh_alloc(&last, t->count, sizeof *last, err));
  COH_TRY(coh_trainer_sums(t, t->loss_sum, local, err));
  COH_TRY(coh_trainer_sums(t, t->loss_last, last, err));
  for (size_t i = 0; i < t->count; i++) {
    local[i] /= (double)B;
    if (rest > 0) local[i] += last[i] / (double)rest;
    local[i] /= (double)t->epoch_length;
  }
  if (bytes > 0) COH_TRY(t->dev->ops->zero(t->dev, t->loss_sum, bytes, err));
  if (bytes > 0) COH_TRY(t->dev->ops->zero(t->dev, t->loss_last, bytes, err));
cleanup:
  free(last);
  return rc;
}

/* Epoch loss of every member, the same on all ranks, into member[].loss. */
static int collect_losses(coh_trainer *t, coh_error *err) {
  int rc;
  double *local = NULL;
  COH_TRY(coh_alloc(&local, t->count, sizeof *local, err));
  COH_TRY(epoch_losses(t, local, err));
  COH_TRY(coh_grid_meet(t->grid, err));
  COH_TRY(
      coh_grid_allgather_rows(t->grid, t->N, sizeof *local, local, t->host_loss, err));
  for (size_t n = 0; n < t->N; n++)
    if (t->member[n].state == COH_MEMBER_ACTIVE) t->member[n].loss = t->host_loss[n];
cleanup:
  coh_grid_part(t->grid);
  free(local);
  return rc;
}

/* Members that became NaN in an epoch that training leaves unfinished. */
static int fail_in_last_epoch(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  double *local = NULL;
  if (t->step % t->epoch_length == 0) return COH_OK;
  COH_TRY(coh_alloc(&local, t->count, sizeof *local, err));
  COH_TRY(coh_trainer_sums(t, t->loss_sum, local, err));
  COH_TRY(
      coh_grid_allgather_rows(t->grid, t->N, sizeof *local, local, t->host_loss, err));
  for (size_t n = 0; n < t->N; n++) {
    if (t->member[n].state != COH_MEMBER_ACTIVE || isfinite(t->host_loss[n])) continue;
    t->member[n].state = COH_MEMBER_FAILED;
    t->member[n].loss = t->host_loss[n];
    t->member[n].step = t->step;
  }
  COH_TRY(coh_trainer_shrink(t, err));
cleanup:
  free(local);
  return rc;
}

/* Losses of the epoch, and who ends with it. */
static int judge_epoch(coh_trainer *t, coh_error *err) {
  if (t->method) return coh_method_epoch(t, err);
  int rc = collect_losses(t, err);
  coh_member *first = t->member;
  for (size_t r = 0; r < t->n_run && !rc; first += t->run[r++].members)
    coh_schedule_epoch(&t->run[r].spec, t->run[r].members, first, t->step);
  return rc;
}

static int end_epoch(coh_trainer *t, coh_error *err) {
  int rc;
  COH_TRY(judge_epoch(t, err));
  COH_TRY(coh_trainer_shrink(t, err));
  if (t->hooks.progress) {
    coh_train_status status;
    coh_trainer_status(t, &status);
    COH_TRY(t->hooks.progress(t->hooks.ctx, &status, err));
  }
cleanup:
  return rc;
}

static int report(coh_trainer *t, const char *set, const coh_dataset *d, coh_error *err) {
  int rc;
  char name[64];
  double *loss = NULL, *accuracy = NULL;
  COH_TRY(coh_alloc(&loss, t->N, sizeof *loss, err));
  COH_TRY(coh_alloc(&accuracy, t->N, sizeof *accuracy, err));
  COH_TRY(coh_trainer_evaluate(t, d, loss, accuracy, err));
  COH_TRY(coh_format(name, sizeof name, err, "%s_loss", set));
  COH_TRY(t->hooks.metric(t->hooks.ctx, t->step, name, t->N, loss, err));
  if (d->labels) {
    COH_TRY(coh_format(name, sizeof name, err, "%s_accuracy", set));
    COH_TRY(t->hooks.metric(t->hooks.ctx, t->step, name, t->N, accuracy, err));
  }
cleanup:
  free(loss);
  free(accuracy);
  return rc;
}

static int report_lr(coh_trainer *t, coh_error *err) {
  for (size_t n = 0; n < t->N; n++)
    t->host_loss[n] =
        t->member[n].lr * coh_schedule_factor(&coh_member_run(t, n)->spec, t->step);
  return t->hooks.metric(t->hooks.ctx, t->step, "lr", t->N, t->host_loss, err);
}

/* Whole-set losses for the metrics, where due: at the start, every evaluate_every, at the
 * end. */
static int evaluate_due(coh_trainer *t, bool always, coh_error *err) {
  int rc = COH_OK;
  uint64_t every = t->spec.evaluate_every;
  bool due = always || (every > 0 && t->step % every == 0);
  if (!due || !t->hooks.metric || t->method) return COH_OK;
  COH_TRY(report(t, "train", t->train.host, err));
  if (t->test) COH_TRY(report(t, "test", t->test, err));
  COH_TRY(report_lr(t, err));
cleanup:
  return rc;
}

static int save(coh_trainer *t, coh_error *err) {
  t->last_save = coh_seconds();
  return t->hooks.save ? t->hooks.save(t->hooks.ctx, t, err) : COH_OK;
}

/* All ranks agree whether to stop or to save; rank 0's clock counts. */
static int poll(coh_trainer *t, coh_error *err) {
  int rc;
  enum { NOTHING, SAVE, STOP };
  int64_t wish = NOTHING;
  double due = t->hooks.save_seconds;
  if (t->grid->rank == 0 && due > 0 && coh_seconds() - t->last_save >= due) wish = SAVE;
  if (t->hooks.stop && t->hooks.stop(t->hooks.ctx)) wish = STOP;
  COH_TRY(coh_reducer_settle(t->reducer, err));
  COH_TRY(coh_grid_meet(t->grid, err));
  rc = coh_allmax(t->grid->world, &wish, err);
  coh_grid_part(t->grid);
  COH_TRY(rc);
  uint64_t every = t->hooks.save_steps;
  if (wish == NOTHING && every > 0 && t->step % every == 0) wish = SAVE;
  if (wish != NOTHING) COH_TRY(save(t, err));
  if (wish == STOP)
    return coh_fail(err, COH_ESTOP, "stopped at step %llu; run it again to go on",
                    (unsigned long long)t->step);
cleanup:
  return rc;
}

static bool poll_due(const coh_trainer *t) {
  uint64_t every = t->hooks.save_steps;
  return t->step % POLL_EVERY == 0 || t->step % t->epoch_length == 0 ||
         (every > 0 && t->step % every == 0);
}

/* One iteration and, behind it, whatever falls due at the step it leads to. */
static int advance(coh_trainer *t, coh_error *err) {
  int rc;
  COH_TRY(coh_trainer_step(t, err));
  bool epoch = t->step % t->epoch_length == 0;
  if (epoch) COH_TRY(end_epoch(t, err));
  bool over = t->step >= t->spec.end || coh_members_active(t) == 0;
  if (!over) COH_TRY(evaluate_due(t, false, err));
  if (!over && poll_due(t)) COH_TRY(poll(t, err));
cleanup:
  return rc;
}

static void mark_done(coh_trainer *t) {
  for (size_t n = 0; n < t->N; n++) {
    if (t->member[n].state != COH_MEMBER_ACTIVE) continue;
    t->member[n].state = COH_MEMBER_DONE;
    t->member[n].step = t->step;
  }
}

int coh_trainer_run(coh_trainer *t, coh_error *err) {
  int rc = COH_OK;
  t->started = t->last_save = coh_seconds();
  t->samples = 0;
  t->steps = 0;
  if (t->step >= t->spec.end || coh_members_active(t) == 0) return COH_OK;
  COH_TRY(coh_grid_meet(t->grid, err)); /* patience counts from here */
  coh_grid_part(t->grid);
  if (t->step == 0) COH_TRY(evaluate_due(t, true, err));
  while (t->step < t->spec.end && coh_members_active(t) > 0) COH_TRY(advance(t, err));
  COH_TRY(fail_in_last_epoch(t, err));
  COH_TRY(evaluate_due(t, true, err));
  mark_done(t);
  COH_TRY(save(t, err));
cleanup:
  return rc;
}

void coh_trainer_status(const coh_trainer *t, coh_train_status *s) {
  *s = (coh_train_status){.step = t->step,
                          .end = t->spec.end,
                          .epoch_length = t->epoch_length,
                          .N = t->N,
                          .active = coh_members_active(t),
                          .member = t->member,
                          .seconds = coh_seconds() - t->started,
                          .total_seconds = t->spent + coh_seconds() - t->started,
                          .steps = t->steps,
                          .samples = t->samples};
}
