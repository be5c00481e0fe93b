/* checkpoint.c - a trainer's state to and from an archive. Rows of members are dealt anew
 * at restore, so the number of ranks may change in between. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

/* ---- rows of the block: device members merged with those that left
 * ------------------------ */

static void *device_rows(coh_trainer *t, int which) {
  if (!t->ens) return NULL;
  return which == 0 ? t->ens->params : which == 1 ? t->m : t->v;
}

static void *stash_rows(coh_trainer *t, int which) {
  return which == 0 ? t->gone.params : which == 1 ? t->gone.m : t->gone.v;
}

int coh_trainer_rows(coh_trainer *t, int which, void *host, coh_error *err) {
  int rc = COH_OK;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype), N = coh_trainer_present(t);
  void *device = device_rows(t, which), *gone = stash_rows(t, which);
  char *present = NULL;
  if (gone && gone != host) memcpy(host, gone, t->count * row);
  if (!device || N == 0) return COH_OK;
  COH_TRY(coh_reducer_settle(t->reducer, err));
  COH_TRY(coh_alloc(&present, N, row, err));
  COH_TRY(t->dev->ops->download(t->dev, present, device, N * row, err));
  for (size_t i = 0; i < N; i++)
    memcpy((char *)host + t->slot[i] * row, present + i * row, row);
cleanup:
  free(present);
  return rc;
}

/* Only while all members of the block are present. */
int coh_trainer_set_rows(coh_trainer *t, int which, const void *host, coh_error *err) {
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype);
  void *device = device_rows(t, which);
  if (!device) return COH_OK;
  if (t->ens->N != t->count)
    return coh_fail(err, COH_EBUG, "parameters set after members have left");
  return t->dev->ops->upload(t->dev, device, host, t->count * row, err);
}

int coh_trainer_put_rows(coh_trainer *t, const void *host, coh_error *err) {
  int rc = COH_OK;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype), N = coh_trainer_present(t);
  char *present = NULL;
  if (t->gone.params) memcpy(t->gone.params, host, t->count * row);
  if (N == 0) return COH_OK;
  COH_TRY(coh_alloc(&present, N, row, err));
  for (size_t i = 0; i < N; i++)
    memcpy(present + i * row, (const char *)host + t->slot[i] * row, row);
  COH_TRY(t->dev->ops->upload(t->dev, t->ens->params, present, N * row, err));
cleanup:
  free(present);
  return rc;
}

int coh_trainer_get(coh_trainer *t, void *params, coh_error *err) {
  return coh_trainer_rows(t, 0, params, err);
}

int coh_trainer_set(coh_trainer *t, const void *params, coh_error *err) {
  return coh_trainer_set_rows(t, 0, params, err);
}

int coh_trainer_gather(coh_trainer *t, void *all, coh_error *err) {
  int rc;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype);
  void *local = NULL;
  COH_TRY(coh_alloc(&local, t->count, row, err));
  COH_TRY(coh_trainer_rows(t, 0, local, err));
  COH_TRY(coh_grid_gather_rows(t->grid, t->N, row, local, all, err));
cleanup:
  free(local);
  return rc;
}

int coh_trainer_take(coh_trainer *to, coh_trainer *from, coh_error *err) {
  int rc;
  size_t elements = from->count * from->plan.P;
  void *had = NULL, *has = NULL;
  if (to->N != from->N || to->plan.P != from->plan.P || to->count != from->count)
    return coh_fail(err, COH_EBUG, "trainers of different members");
  COH_TRY(coh_alloc(&had, elements, coh_dtype_size(from->dev->dtype), err));
  COH_TRY(coh_alloc(&has, elements, coh_dtype_size(to->dev->dtype), err));
  COH_TRY(coh_trainer_get(from, had, err));
  for (size_t i = 0; i < elements; i++)
    coh_put(to->dev->dtype, has, i, coh_get(from->dev->dtype, had, i));
  COH_TRY(coh_trainer_put_rows(to, has, err));
  memcpy(to->member, from->member, to->N * sizeof *to->member);
  to->step = from->step;
  to->spent = from->spent;
  to->started = from->started;
  coh_trainer_changed(to);
cleanup:
  free(had);
  free(has);
  return rc;
}

static bool is_finite(const coh_trainer *t, const char *row) {
  for (size_t i = 0; i < t->plan.P; i++)
    if (!isfinite(coh_get(t->dev->dtype, row, i))) return false;
  return true;
}

int coh_trainer_adopt(coh_trainer *t, const void *params, coh_error *err) {
  int rc = COH_OK;
  size_t row = t->plan.P * coh_dtype_size(t->dev->dtype);
  double *bad = NULL;
  COH_TRY(coh_alloc(&bad, t->count, sizeof *bad, err));
  COH_TRY(coh_trainer_put_rows(t, params, err));
  for (size_t i = 0; i < t->count; i++)
    bad[i] = !is_finite(t, (const char *)params + i * row);
  COH_TRY(coh_grid_allgather_rows(t->grid, t->N, sizeof *bad, bad, t->host_loss, err));
  t->step = t->spec.end;
  coh_trainer_changed(t);
  for (size_t n = 0; n < t->N; n++) {
    t->member[n].state = t->host_loss[n] > 0 ? COH_MEMBER_FAILED : COH_MEMBER_DONE;
    t->member[n].step = t->step;
  }
cleanup:
  free(bad);
  return rc;
}

/* ---- the archive
 * ---------------------------------------------------------------------------- */

static const char *const row_name[3] = {"params", "moment1", "moment2"};

/* Rows that this rank writes: replica 0 of its group alone. */
static size_t writes(const coh_trainer *t) {
  return t->grid->replica_rank == 0 ? t->count : 0;
}

static bool has_rows(const coh_trainer *t, int which) {
  bool first = t->spec.optimizer == COH_ADAM || t->spec.momentum > 0;
  return which == 0 || (which == 1 && first) ||
         (which == 2 && t->spec.optimizer == COH_ADAM);
}

static int save_rows(coh_trainer *t, coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  size_t P = t->plan.P;
  void *host = NULL;
  rc = coh_alloc(&host, t->count * P, coh_dtype_size(t->dev->dtype), err);
  COH_TRY(coh_agree(t->grid->world, rc, err));
  for (int which = 0; which < 3; which++) {
    if (!has_rows(t, which)) continue;
    COH_TRY(coh_agree(t->grid->world, coh_trainer_rows(t, which, host, err), err));
    COH_TRY(coh_archive_put_rows(a, row_name[which], coh_type_of(t->dev->dtype), t->N, 1,
                                 &P, t->first, writes(t), host, err));
  }
cleanup:
  free(host);
  return rc;
}

/* Running sums of the epoch's loss. The short batch ends an epoch, so only full batches
 * count in the middle of one. */
static int save_sums(coh_trainer *t, coh_archive *a, coh_error *err) {
  int rc;
  double *all = NULL;
  rc = coh_alloc(&all, t->count, sizeof *all, err);
  if (!rc) rc = coh_trainer_sums(t, t->loss_sum, all, err);
  COH_TRY(coh_agree(t->grid->world, rc, err));
  COH_TRY(coh_archive_put_rows(a, "loss_sum", COH_T_F64, t->N, 0, NULL, t->first,
                               writes(t), all, err));
cleanup:
  free(all);
  return rc;
}

/* Columns of member[]: reals are lr, best, loss; integers are state, bad, cool, step. */
enum { REALS = 3, INTS = 4 };

static int save_members(coh_trainer *t, coh_archive *a, coh_error *err) {
  int rc;
  double *real = NULL;
  int64_t *whole = NULL;
  size_t real_dim[2] = {t->N, REALS}, int_dim[2] = {t->N, INTS};
  rc = coh_alloc(&real, t->N * REALS, sizeof *real, err);
  if (!rc) rc = coh_alloc(&whole, t->N * INTS, sizeof *whole, err);
  COH_TRY(coh_agree(t->grid->world, rc, err));
  for (size_t n = 0; n < t->N; n++) {
    const coh_member *m = &t->member[n];
    double r[REALS] = {m->lr, m->best, m->loss};
    int64_t w[INTS] = {m->state, (int64_t)m->bad, (int64_t)m->cool, (int64_t)m->step};
    memcpy(real + n * REALS, r, sizeof r);
    memcpy(whole + n * INTS, w, sizeof w);
  }
  COH_TRY(coh_archive_put(a, "member_real", COH_T_F64, 2, real_dim, real, err));
  COH_TRY(coh_archive_put(a, "member_int", COH_T_I64, 2, int_dim, whole, err));
cleanup:
  free(real);
  free(whole);
  return rc;
}

int coh_trainer_save(coh_trainer *t, coh_archive *a, coh_error *err) {
  int rc;
  double seconds = t->spent + coh_seconds() - t->started;
  COH_TRY(coh_archive_put(a, "step", COH_T_U64, 0, NULL, &t->step, err));
  COH_TRY(coh_archive_put(a, "seconds", COH_T_F64, 0, NULL, &seconds, err));
  COH_TRY(save_members(t, a, err));
  COH_TRY(save_rows(t, a, err));
  COH_TRY(save_sums(t, a, err));
  if (t->method) COH_TRY(t->method->save(t->method->ctx, a, err));
cleanup:
  return rc;
}

static int restore_members(coh_trainer *t, coh_archive *a, bool further, coh_error *err) {
  int rc;
  double *real = NULL;
  int64_t *whole = NULL;
  size_t real_dim[2] = {t->N, REALS}, int_dim[2] = {t->N, INTS};
  rc = coh_alloc(&real, t->N * REALS, sizeof *real, err);
  if (!rc) rc = coh_alloc(&whole, t->N * INTS, sizeof *whole, err);
  COH_TRY(coh_agree(t->grid->world, rc, err));
  COH_TRY(coh_archive_get(a, "member_real", COH_T_F64, 2, real_dim, real, err));
  COH_TRY(coh_archive_get(a, "member_int", COH_T_I64, 2, int_dim, whole, err));
  for (size_t n = 0; n < t->N; n++) {
    const double *r = real + n * REALS;
    const int64_t *w = whole + n * INTS;
    t->member[n] = (coh_member){.lr = r[0],
                                .best = r[1],
                                .loss = r[2],
                                .state = (int)w[0],
                                .bad = (uint64_t)w[1],
                                .cool = (uint64_t)w[2],
                                .step = (uint64_t)w[3]};
    if (further && t->member[n].state == COH_MEMBER_DONE)
      t->member[n].state = COH_MEMBER_ACTIVE;
  }
cleanup:
  free(real);
  free(whole);
  return rc;
}

static int restore_rows(coh_trainer *t, coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  size_t P = t->plan.P;
  void *host = NULL;
  COH_TRY(coh_alloc(&host, t->count * P, coh_dtype_size(t->dev->dtype), err));
  for (int which = 0; which < 3; which++) {
    if (!has_rows(t, which)) continue;
    COH_TRY(coh_archive_get_rows(a, row_name[which], coh_type_of(t->dev->dtype), t->N, 1,
                                 &P, t->first, t->count, host, err));
    COH_TRY(coh_trainer_set_rows(t, which, host, err));
  }
cleanup:
  free(host);
  return rc;
}

static int restore_sums(coh_trainer *t, coh_archive *a, coh_error *err) {
  int rc;
  double *sums = NULL;
  rc = coh_alloc(&sums, t->count, sizeof *sums, err);
  COH_TRY(coh_agree(t->grid->world, rc, err));
  COH_TRY(coh_archive_get_rows(a, "loss_sum", COH_T_F64, t->N, 0, NULL, t->first,
                               t->count, sums, err));
  if (t->count > 0 && t->grid->replica_rank == 0)
    COH_TRY(t->dev->ops->upload(t->dev, t->loss_sum, sums, t->count * sizeof *sums, err));
cleanup:
  free(sums);
  return rc;
}

int coh_trainer_restore(coh_trainer *t, coh_archive *a, bool further, coh_error *err) {
  int rc;
  COH_TRY(coh_archive_get(a, "step", COH_T_U64, 0, NULL, &t->step, err));
  COH_TRY(coh_archive_get(a, "seconds", COH_T_F64, 0, NULL, &t->spent, err));
  COH_TRY(restore_members(t, a, further, err));
  COH_TRY(restore_rows(t, a, err));
  COH_TRY(restore_sums(t, a, err));
  if (t->method) COH_TRY(t->method->restore(t->method->ctx, a, err));
  coh_trainer_changed(t);
  COH_TRY(coh_trainer_shrink(t, err));
cleanup:
  return rc;
}
