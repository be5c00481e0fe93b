/* lm.c - Levenberg-Marquardt, one member after the other: (H + mu I) step = -gradient
 * with H the Gauss-Newton matrix. Damping: Nielsen's rule, algorithm 3.16 of Madsen,
 * Nielsen & Tingleff, "Methods for Non-Linear Least Squares Problems" (2004). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/finish.h"

/* LAPACK, which brings no C header. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dpotrs_(const char *uplo, const int *n, const int *nrhs, const double *a,
             const int *lda, double *b, const int *ldb, int *info);

/* First damping and least damping, by the largest diagonal element of H. */
static const double first_damping = 1e-3, least_damping = 1e-18;
static const coh_mark mark = {.every = 20, .least = 1e-10};

int coh_lm_create(coh_finisher *f, coh_error *err) {
  int rc;
  COH_TRY(coh_normal_create(&f->objective, &f->normal, err));
  COH_TRY(coh_alloc(&f->h, f->P * f->P, sizeof *f->h, err));
  COH_TRY(coh_alloc(&f->factor, f->P * f->P, sizeof *f->factor, err));
  COH_TRY(coh_alloc(&f->step, f->P + 1, sizeof *f->step, err));
cleanup:
  return rc;
}

void coh_lm_destroy(coh_finisher *f) {
  coh_normal_destroy(&f->normal);
  free(f->h);
  free(f->factor);
  free(f->step);
}

static double largest_diagonal(const coh_finisher *f) {
  double most = 0;
  for (size_t k = 0; k < f->P; k++) most = fmax(most, f->h[k * f->P + k]);
  return most;
}

/* step = -(H + mu I)^-1 g and behind it the fall of the loss that the model predicts, NaN
 * where the matrix is not positive definite. Row-major below is column-major above. */
static void solve(coh_finisher *f, const double *g, double mu) {
  int n = (int)f->P, one = 1, info;
  double *predicted = f->step + f->P;
  memcpy(f->factor, f->h, f->P * f->P * sizeof *f->h);
  for (size_t k = 0; k < f->P; k++) {
    f->factor[k * f->P + k] += mu;
    f->step[k] = -g[k];
  }
  *predicted = NAN;
  dpotrf_("U", &n, f->factor, &n, &info);
  if (info != 0) return;
  dpotrs_("U", &n, &one, f->factor, &n, f->step, &n, &info);
  *predicted = 0.5 * (mu * coh_dot(f->P, f->step, f->step) - coh_dot(f->P, f->step, g));
}

/* One replica solves, so that all take the same step on any mix of machines. */
static int propose(coh_finisher *f, const double *g, double mu, coh_error *err) {
  const coh_grid *grid = f->t->grid;
  if (grid->replica_rank == 0) solve(f, g, mu);
  if (grid->n_replica == 1) return COH_OK;
  return coh_bcast(grid->replica, f->step, (f->P + 1) * sizeof *f->step, 0, err);
}

/* The step no longer changes x. */
static bool is_nothing(const coh_finisher *f, const double *x) {
  double step = coh_dot(f->P, f->step, f->step);
  return step <= 1e-32 * coh_dot(f->P, x, x);
}

static void accept(coh_finisher *f, size_t i, double gain) {
  coh_descent *v = &f->descent[i];
  coh_finish_member *m = coh_finish_of(f, i);
  double turn = 2 * gain - 1, shrink = 1 - turn * turn * turn;
  v->mu *= fmax(1.0 / 3, shrink);
  v->nu = 2;
  memcpy(f->x + i * f->P, f->trial, f->P * sizeof *f->x);
  memcpy(f->g + i * f->P, f->trial_g, f->P * sizeof *f->g);
  m->loss = f->trial_f[0];
  m->iterations++;
  coh_finish_ends(f, i, mark);
}

/* One try at the present damping; *accepted, or a larger damping, or the end. */
static int attempt(coh_finisher *f, size_t i, bool *accepted, coh_error *err) {
  int rc;
  size_t P = f->P;
  coh_descent *v = &f->descent[i];
  coh_finish_member *m = coh_finish_of(f, i);
  const double *x = f->x + i * P;
  double predicted, gain = -1;
  COH_TRY(propose(f, f->g + i * P, v->mu, err));
  predicted = f->step[P];
  if (predicted > 0 && is_nothing(f, x)) {
    m->end = COH_FINISH_STALLED;
    return COH_OK;
  }
  if (predicted > 0) {
    for (size_t k = 0; k < P; k++) f->trial[k] = x[k] + f->step[k];
    COH_TRY(coh_objective_eval(&f->objective, 1, f->trial, f->trial_f, f->trial_g, err));
    gain = (m->loss - f->trial_f[0]) / predicted;
  }
  *accepted = gain > 0;
  if (*accepted)
    accept(f, i, gain);
  else {
    v->mu *= v->nu;
    v->nu *= 2;
    if (!isfinite(v->mu)) m->end = COH_FINISH_STALLED;
  }
cleanup:
  return rc;
}

int coh_lm_step(coh_finisher *f, size_t i, coh_error *err) {
  int rc;
  coh_descent *v = &f->descent[i];
  bool accepted = false;
  coh_finish_of(f, i)->rounds++;
  COH_TRY(coh_normal_matrix(&f->normal, f->x + i * f->P, f->h, err));
  double most = largest_diagonal(f);
  if (v->mu == 0) {
    v->mu = first_damping * most;
    v->nu = 2;
  }
  v->mu = fmax(v->mu, least_damping * most);
  while (!accepted && coh_finish_of(f, i)->end == COH_FINISH_RUNS)
    COH_TRY(attempt(f, i, &accepted, err));
cleanup:
  return rc;
}
