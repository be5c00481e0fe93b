/* finish_file.c - a finisher's state to and from an archive: a row a member, dealt anew
 * at restore, so the number of ranks may change in between. */
#include <stdlib.h>
#include <string.h>

#include "train/finish.h"

/* Rows that this rank writes: replica 0 of its group alone. */
static size_t writes(const coh_finisher *f) {
  return f->t->grid->replica_rank == 0 ? f->count : 0;
}

typedef struct table {
  const char *name;
  double *rows; /* [count, width] */
  size_t width;
} table;

enum { TABLES = 5 };

/* Returns how many there are. */
static size_t tables(const coh_finisher *f, table out[TABLES]) {
  size_t n = 0, pairs = COH_LBFGS_PAIRS * f->P;
  out[n++] = (table){"params", f->x, f->P};
  out[n++] = (table){"gradient", f->g, f->P};
  if (f->spec.method == COH_FINISH_LM) return n;
  out[n++] = (table){"direction", f->d, f->P};
  out[n++] = (table){"pairs_s", f->s, pairs};
  out[n++] = (table){"pairs_y", f->y, pairs};
  return n;
}

/* ---- scalars of a member --------------------------------------------------------- */

static void pack(coh_finisher *f, size_t i, double *r, int64_t *w) {
  const coh_finish_member *m = coh_finish_of(f, i);
  const coh_descent *v = &f->descent[i];
  const double real[COH_FINISH_REALS] = {m->loss,       m->gradient, v->mark, v->slope,
                                         v->t,          v->low,      v->high, v->f_high,
                                         v->slope_high, v->mu,       v->nu};
  const uint64_t whole[COH_FINISH_INTS] = {
      (uint64_t)m->end, m->iterations, v->marked, v->tries, v->pairs, v->head, m->rounds};
  memcpy(r, real, sizeof real);
  memcpy(w, whole, sizeof whole);
}

static void unpack(coh_finisher *f, size_t i, const double *r, const int64_t *w) {
  *coh_finish_of(f, i) = (coh_finish_member){.loss = r[0],
                                             .gradient = r[1],
                                             .end = (int)w[0],
                                             .iterations = (uint64_t)w[1],
                                             .rounds = (uint64_t)w[6]};
  f->descent[i] = (coh_descent){.mark = r[2],
                                .slope = r[3],
                                .t = r[4],
                                .low = r[5],
                                .high = r[6],
                                .f_high = r[7],
                                .slope_high = r[8],
                                .mu = r[9],
                                .nu = r[10],
                                .marked = (uint64_t)w[2],
                                .tries = (uint64_t)w[3],
                                .pairs = (uint64_t)w[4],
                                .head = (uint64_t)w[5]};
}

static int save_scalars(coh_finisher *f, coh_archive *a, coh_error *err) {
  int rc;
  size_t reals = COH_FINISH_REALS, ints = COH_FINISH_INTS;
  double *r = NULL;
  int64_t *w = NULL;
  COH_TRY(coh_alloc(&r, f->count * reals, sizeof *r, err));
  COH_TRY(coh_alloc(&w, f->count * ints, sizeof *w, err));
  for (size_t i = 0; i < f->count; i++) pack(f, i, r + i * reals, w + i * ints);
  COH_TRY(coh_archive_put_rows(a, "member_real", COH_T_F64, f->N, 1, &reals, f->first,
                               writes(f), r, err));
  COH_TRY(coh_archive_put_rows(a, "member_int", COH_T_I64, f->N, 1, &ints, f->first,
                               writes(f), w, err));
cleanup:
  free(r);
  free(w);
  return rc;
}

static int restore_scalars(coh_finisher *f, coh_archive *a, coh_error *err) {
  int rc;
  size_t reals = COH_FINISH_REALS, ints = COH_FINISH_INTS;
  double *r = NULL;
  int64_t *w = NULL;
  COH_TRY(coh_alloc(&r, f->count * reals, sizeof *r, err));
  COH_TRY(coh_alloc(&w, f->count * ints, sizeof *w, err));
  COH_TRY(coh_archive_get_rows(a, "member_real", COH_T_F64, f->N, 1, &reals, f->first,
                               f->count, r, err));
  COH_TRY(coh_archive_get_rows(a, "member_int", COH_T_I64, f->N, 1, &ints, f->first,
                               f->count, w, err));
  for (size_t i = 0; i < f->count; i++) unpack(f, i, r + i * reals, w + i * ints);
cleanup:
  free(r);
  free(w);
  return rc;
}

/* ---- all of it ------------------------------------------------------------------- */

int coh_finisher_save(coh_finisher *f, coh_archive *a, coh_error *err) {
  int rc;
  table t[TABLES];
  size_t n = tables(f, t);
  double seconds = f->spent + coh_seconds() - f->started;
  COH_TRY(coh_archive_put_text(a, "method", coh_finish_name(f->spec.method), err));
  COH_TRY(coh_archive_put(a, "round", COH_T_U64, 0, NULL, &f->round, err));
  COH_TRY(coh_archive_put(a, "seconds", COH_T_F64, 0, NULL, &seconds, err));
  COH_TRY(save_scalars(f, a, err));
  for (size_t k = 0; k < n; k++)
    COH_TRY(coh_archive_put_rows(a, t[k].name, COH_T_F64, f->N, 1, &t[k].width, f->first,
                                 writes(f), t[k].rows, err));
cleanup:
  return rc;
}

int coh_finisher_restore(coh_finisher *f, coh_archive *a, coh_error *err) {
  int rc;
  table t[TABLES];
  size_t n = tables(f, t);
  char *method = NULL;
  COH_TRY(coh_archive_get_text(a, "method", &method, err));
  if (strcmp(method, coh_finish_name(f->spec.method)) != 0) {
    rc = coh_fail(err, COH_EDATA, "checkpoint of a finish by %s, not by %s", method,
                  coh_finish_name(f->spec.method));
    goto cleanup;
  }
  COH_TRY(coh_archive_get(a, "round", COH_T_U64, 0, NULL, &f->round, err));
  COH_TRY(coh_archive_get(a, "seconds", COH_T_F64, 0, NULL, &f->spent, err));
  f->t->spent += f->spent;
  COH_TRY(restore_scalars(f, a, err));
  for (size_t k = 0; k < n; k++)
    COH_TRY(coh_archive_get_rows(a, t[k].name, COH_T_F64, f->N, 1, &t[k].width, f->first,
                                 f->count, t[k].rows, err));
  COH_TRY(coh_finisher_share(f, err));
  f->begun = true;
cleanup:
  free(method);
  return rc;
}
