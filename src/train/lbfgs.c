/* lbfgs.c - limited-memory BFGS of every member of the block. Each call evaluates one
 * trial point of every running member, all in one pass over the set; what a member tries
 * next follows from its own numbers alone. Formulas: Nocedal & Wright, "Numerical
 * Optimization" (2006), algorithms 7.4 and 7.5; line search: Lewis & Overton, Math.
 * Program. 141 (2013), algorithm 2.6. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/finish.h"

/* Sufficient decrease and curvature (equations 3.6 of Nocedal & Wright); evaluations of
 * one search; how far a step is stretched. */
static const double decrease = 1e-4, curvature = 0.9, stretch = 4;
enum { MOST_TRIES = 30 };
/* Losses closer than this, relatively, may differ by rounding alone. */
static const double rounding = 1e-14;
static const coh_mark mark = {.every = 50, .least = 1e-12};

int coh_lbfgs_create(coh_finisher *f, coh_error *err) {
  int rc;
  size_t rows = f->count * COH_LBFGS_PAIRS;
  COH_TRY(coh_alloc(&f->d, f->count * f->P, sizeof *f->d, err));
  COH_TRY(coh_alloc(&f->s, rows * f->P, sizeof *f->s, err));
  COH_TRY(coh_alloc(&f->y, rows * f->P, sizeof *f->y, err));
cleanup:
  return rc;
}

void coh_lbfgs_destroy(coh_finisher *f) {
  free(f->d);
  free(f->s);
  free(f->y);
}

/* ---- direction ------------------------------------------------------------------- */

/* The pair made `age` pairs ago: 0 is the newest. */
static size_t pair_at(const coh_finisher *f, size_t i, uint64_t age) {
  uint64_t slot = (f->descent[i].head + 2 * COH_LBFGS_PAIRS - 1 - age) % COH_LBFGS_PAIRS;
  return (i * COH_LBFGS_PAIRS + (size_t)slot) * f->P;
}

/* d = -H g by the two-loop recursion. */
static void two_loops(coh_finisher *f, size_t i, double *d) {
  const coh_descent *v = &f->descent[i];
  size_t P = f->P;
  double alpha[COH_LBFGS_PAIRS], rho[COH_LBFGS_PAIRS];
  for (size_t k = 0; k < P; k++) d[k] = -f->g[i * P + k];
  for (uint64_t age = 0; age < v->pairs; age++) {
    const double *s = f->s + pair_at(f, i, age), *y = f->y + pair_at(f, i, age);
    rho[age] = 1 / coh_dot(P, s, y);
    alpha[age] = rho[age] * coh_dot(P, s, d);
    coh_axpy(P, -alpha[age], y, d);
  }
  if (v->pairs == 0) return;
  const double *newest = f->y + pair_at(f, i, 0);
  double gamma = 1 / (rho[0] * coh_dot(P, newest, newest));
  for (size_t k = 0; k < P; k++) d[k] *= gamma;
  for (uint64_t age = v->pairs; age-- > 0;) {
    const double *s = f->s + pair_at(f, i, age), *y = f->y + pair_at(f, i, age);
    double beta = rho[age] * coh_dot(P, y, d);
    coh_axpy(P, alpha[age] - beta, s, d);
  }
}

/* A new search from x; the history is dropped where it gives no descent. */
static void search(coh_finisher *f, size_t i) {
  coh_descent *v = &f->descent[i];
  size_t P = f->P;
  double *d = f->d + i * P;
  const double *g = f->g + i * P;
  two_loops(f, i, d);
  v->slope = coh_dot(P, d, g);
  if (!(v->slope < 0 && isfinite(v->slope))) {
    v->pairs = 0;
    two_loops(f, i, d);
    v->slope = coh_dot(P, d, g);
  }
  double norm = coh_finish_of(f, i)->gradient;
  v->t = v->pairs > 0 || norm <= 1 ? 1 : 1 / norm;
  v->low = 0;
  v->high = INFINITY;
  v->f_high = v->slope_high = INFINITY;
  v->tries = 0;
}

/* ---- line search ----------------------------------------------------------------- */

/* Minimum of the cubic through loss and slope at 0 and at `high` (equation 3.59). */
static double cubic(const coh_descent *v, double loss) {
  double h = v->high;
  double d1 = v->slope + v->slope_high - 3 * (v->f_high - loss) / h;
  double root = sqrt(d1 * d1 - v->slope * v->slope_high);
  return h - h * (v->slope_high + root - d1) / (v->slope_high - v->slope + 2 * root);
}

/* The next step, inside the bracket and not close to its ends. */
static double next_step(const coh_descent *v, double loss) {
  if (isinf(v->high)) return stretch * v->t;
  double width = v->high - v->low;
  if (!isfinite(v->f_high)) return v->low + 0.1 * width;
  double t = cubic(v, loss);
  if (!isfinite(t)) return v->low + 0.5 * width;
  return fmin(fmax(t, v->low + 0.1 * width), v->low + 0.9 * width);
}

static bool falls_enough(const coh_descent *v, double from, double to, double slope) {
  if (to <= from + decrease * v->t * v->slope) return true;
  bool level = to <= from + rounding * fabs(from);
  return level && slope <= (2 * decrease - 1) * v->slope;
}

/* The step is taken: s = t d, y = g' - g, kept if the curvature is positive. */
static void accept(coh_finisher *f, size_t i, const double *x, const double *g,
                   double loss) {
  coh_descent *v = &f->descent[i];
  coh_finish_member *m = coh_finish_of(f, i);
  size_t P = f->P, at = (i * COH_LBFGS_PAIRS + (size_t)v->head) * P;
  double *s = f->s + at, *y = f->y + at;
  for (size_t k = 0; k < P; k++) {
    s[k] = x[k] - f->x[i * P + k];
    y[k] = g[k] - f->g[i * P + k];
  }
  double sy = coh_dot(P, s, y);
  if (sy > 1e-16 * sqrt(coh_dot(P, s, s)) * sqrt(coh_dot(P, y, y))) {
    v->head = (v->head + 1) % COH_LBFGS_PAIRS;
    if (v->pairs < COH_LBFGS_PAIRS) v->pairs++;
  }
  memcpy(f->x + i * P, x, P * sizeof *x);
  memcpy(f->g + i * P, g, P * sizeof *g);
  m->loss = loss;
  m->iterations++;
  if (!coh_finish_ends(f, i, mark)) search(f, i);
}

/* No step along d will do: once more down the gradient, then no progress. */
static void give_up(coh_finisher *f, size_t i) {
  coh_descent *v = &f->descent[i];
  if (v->pairs == 0) {
    coh_finish_of(f, i)->end = COH_FINISH_STALLED;
    return;
  }
  v->pairs = 0;
  search(f, i);
}

/* What follows from loss and gradient at x + t d. */
static void advance(coh_finisher *f, size_t i, const double *x, const double *g,
                    double loss) {
  coh_descent *v = &f->descent[i];
  double from = coh_finish_of(f, i)->loss;
  double slope = coh_dot(f->P, g, f->d + i * f->P);
  bool finite = isfinite(loss) && isfinite(slope);
  if (finite && falls_enough(v, from, loss, slope)) {
    if (slope >= curvature * v->slope) {
      accept(f, i, x, g, loss);
      return;
    }
    v->low = v->t;
  } else {
    v->high = v->t;
    v->f_high = finite ? loss : INFINITY;
    v->slope_high = slope;
  }
  if (++v->tries >= MOST_TRIES)
    give_up(f, i);
  else
    v->t = next_step(v, from);
}

int coh_lbfgs_round(coh_finisher *f, coh_error *err) {
  int rc = COH_OK;
  size_t P = f->P, running = 0;
  for (size_t i = 0; i < f->count; i++) {
    if (coh_finish_of(f, i)->end != COH_FINISH_RUNS) continue;
    if (f->descent[i].t == 0) search(f, i);
    double *trial = f->trial + running * P;
    memcpy(trial, f->x + i * P, P * sizeof *trial);
    coh_axpy(P, f->descent[i].t, f->d + i * P, trial);
    f->place[running++] = (uint32_t)i;
    coh_finish_of(f, i)->rounds++;
  }
  if (running == 0) return COH_OK;
  COH_TRY(
      coh_objective_eval(&f->objective, running, f->trial, f->trial_f, f->trial_g, err));
  for (size_t r = 0; r < running; r++)
    advance(f, f->place[r], f->trial + r * P, f->trial_g + r * P, f->trial_f[r]);
cleanup:
  return rc;
}
