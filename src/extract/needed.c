/* needed.c - which neurons the answers need: least squares of the targets on all of them,
 * then backward elimination. Uses base, LAPACK.
 *
 * One QR decomposition of [base | neurons | targets]; what lies right of and below the
 * base is the same problem with the base taken out, in no more rows than there are
 * neurons. That is solved anew after each neuron dropped. With S the inverse of the
 * neurons' Gram matrix and a their weights, the sum of squared errors rises by
 * a_k^2 / S_kk without neuron k.
 */
#include "extract/robust.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extract/scalapack.h"

/* Activations below this are none. */
static const double NOTHING = 1e-100;

int coh_qr(size_t m, size_t n, double *a, coh_error *err) {
  int rc, lm = (int)m, ln = (int)n, lwork = -1, info = 0;
  double *tau = NULL, *work = NULL, want = 0;
  if (m > INT_MAX || n > INT_MAX)
    return coh_fail(err, COH_EUSAGE, "QR decomposition of a %zu x %zu matrix", m, n);
  COH_TRY(coh_alloc(&tau, n, sizeof *tau, err));
  dgeqrf_(&lm, &ln, a, &lm, tau, &want, &lwork, &info);
  lwork = (int)want;
  COH_TRY(coh_alloc(&work, (size_t)lwork, sizeof *work, err));
  dgeqrf_(&lm, &ln, a, &lm, tau, work, &lwork, &info);
  if (info != 0)
    COH_TRY(coh_fail(err, COH_EBUG, "QR decomposition: dgeqrf returned %d", info));
cleanup:
  free(tau);
  free(work);
  return rc;
}

void coh_fit_free(coh_fit *f) {
  free(f->needed);
  free(f->rise);
  free(f->a);
  free(f->base);
  *f = (coh_fit){0};
}

/* The triangle of [base | neurons | targets], column-major [m, B + K + T], and that of
 * the neurons that are left, [K, n + T], with the base taken out. */
typedef struct equations {
  const coh_probe *p;
  coh_fit *out;
  const double *weight;
  double *r, *small;
  size_t n, *left; /* [K] which are left */
  double *x;       /* [K] a column of an inverse */
} equations;

static double entry(const equations *s, size_t i, size_t j) {
  return i <= j && i < s->p->m ? s->r[j * s->p->m + i] : 0;
}

static int fill(equations *s, const double *w, const double *targets, coh_error *err) {
  int rc;
  const coh_probe *p = s->p;
  size_t m = p->m, B = s->out->B, K = s->out->K, T = s->out->T;
  COH_TRY(coh_alloc(&s->r, m * (B + K + T), sizeof *s->r, err));
  for (size_t d = 0; d < B; d++)
    for (size_t b = 0; b < m; b++) s->r[d * m + b] = p->x[b * p->D + d + (p->D - B)];
  double *h = s->r + B * m;
  COH_TRY(coh_probe_product(p, K, w, m, p->x, h, err));
  for (size_t i = 0; i < K * m; i++) h[i] = coh_act_value(p->act, h[i]);
  for (size_t t = 0; t < T; t++)
    for (size_t b = 0; b < m; b++) h[(K + t) * m + b] = targets[b * T + t];
  COH_TRY(coh_qr(m, B + K + T, s->r, err));
cleanup:
  return rc;
}

static double weight_of(const equations *s, size_t t) {
  return s->weight ? s->weight[t] : 1 / (double)s->out->T;
}

/* Mean square error of all neurons: what of the targets lies below the neurons. */
static double full_error(const equations *s) {
  size_t first = s->out->B + s->out->K, T = s->out->T;
  double sum = 0;
  for (size_t t = 0; t < T; t++)
    for (size_t i = 0; i <= t; i++) {
      double v = entry(s, first + i, first + t);
      sum += weight_of(s, t) * v * v;
    }
  return sum / (double)s->p->m;
}

/* Diagonal element i of the triangle `small`. A column that the ones before it explain
 * has none of its own: it gets one so small that its neuron is dropped first (but not so
 * small that squares of its inverse overflow). */
static double pivot(const equations *s, size_t i) {
  const double *column = s->small + i * s->out->K;
  double square = 0;
  for (size_t k = 0; k <= i; k++) square += column[k] * column[k];
  double least = 1e-13 * sqrt(square) + NOTHING;
  return fabs(column[i]) > least ? column[i] : least;
}

/* Solves the triangle for v [n], in place. */
static void back_substitute(const equations *s, double *v) {
  for (size_t i = s->n; i-- > 0;) {
    v[i] /= pivot(s, i);
    for (size_t k = 0; k < i; k++) v[k] -= s->small[i * s->out->K + k] * v[i];
  }
}

/* Weights of the neurons left, and how much the error rises without each. */
static void solve_left(equations *s) {
  coh_fit *f = s->out;
  double *inverse = f->rise; /* first: diagonal of the inverse Gram matrix */
  for (size_t i = 0; i < s->n; i++) inverse[s->left[i]] = 0;
  for (size_t c = 0; c < s->n; c++) {
    memset(s->x, 0, s->n * sizeof *s->x);
    s->x[c] = 1;
    back_substitute(s, s->x);
    for (size_t i = 0; i <= c; i++) inverse[s->left[i]] += s->x[i] * s->x[i];
  }
  for (size_t t = 0; t < f->T; t++) {
    memcpy(s->x, s->small + (s->n + t) * f->K, s->n * sizeof *s->x);
    back_substitute(s, s->x);
    for (size_t i = 0; i < s->n; i++) f->a[s->left[i] * f->T + t] = s->x[i];
  }
  for (size_t i = 0; i < s->n; i++) {
    const double *a = f->a + s->left[i] * f->T;
    double sum = 0;
    for (size_t t = 0; t < f->T; t++) sum += weight_of(s, t) * a[t] * a[t];
    f->rise[s->left[i]] = sum / (inverse[s->left[i]] * (double)s->p->m);
  }
}

static int refit(equations *s, coh_error *err) {
  int rc;
  coh_fit *f = s->out;
  size_t K = f->K;
  for (size_t c = 0; c < s->n + f->T; c++) {
    size_t from = c < s->n ? s->left[c] : K + c - s->n;
    for (size_t i = 0; i < K; i++) s->small[c * K + i] = entry(s, f->B + i, f->B + from);
  }
  COH_TRY(coh_qr(K, s->n + f->T, s->small, err));
  solve_left(s);
cleanup:
  return rc;
}

static int eliminate(equations *s, double allowed, double relative, size_t stay,
                     coh_error *err) {
  int rc;
  coh_fit *f = s->out;
  for (;;) {
    size_t least = 0;
    COH_TRY(refit(s, err));
    for (size_t i = 1; i < s->n; i++)
      if (f->rise[s->left[i]] <= f->rise[s->left[least]]) least = i;
    size_t k = s->left[least];
    double limit = fmax(allowed, fmin(relative, f->error / 4));
    if (s->n <= stay || s->n == 1 || f->rise[k] > limit) return COH_OK;
    f->needed[k] = false;
    f->error += f->rise[k];
    memset(f->a + k * f->T, 0, f->T * sizeof *f->a);
    s->n--;
    memmove(s->left + least, s->left + least + 1, (s->n - least) * sizeof *s->left);
  }
cleanup:
  return rc;
}

/* base = R_bb^-1 (R_bt - R_bk a), 0 for columns that others explain. */
static void solve_base(const equations *s) {
  coh_fit *f = s->out;
  for (size_t i = f->B; i-- > 0;) {
    double own = entry(s, i, i), square = 0;
    for (size_t j = 0; j <= i; j++) square += entry(s, j, i) * entry(s, j, i);
    if (fabs(own) <= 1e-10 * sqrt(square)) continue;
    for (size_t t = 0; t < f->T; t++) {
      double v = entry(s, i, f->B + f->K + t);
      for (size_t k = 0; k < f->K; k++) v -= entry(s, i, f->B + k) * f->a[k * f->T + t];
      for (size_t j = i + 1; j < f->B; j++) v -= entry(s, i, j) * f->base[j * f->T + t];
      f->base[i * f->T + t] = v / own;
    }
  }
}

static int allocate(equations *s, coh_error *err) {
  int rc;
  coh_fit *f = s->out;
  COH_TRY(coh_alloc(&f->needed, f->K, sizeof *f->needed, err));
  COH_TRY(coh_alloc(&f->rise, f->K, sizeof *f->rise, err));
  COH_TRY(coh_alloc(&f->a, f->K * f->T, sizeof *f->a, err));
  COH_TRY(coh_alloc(&f->base, f->B * f->T, sizeof *f->base, err));
  COH_TRY(coh_alloc(&s->small, f->K * (f->K + f->T), sizeof *s->small, err));
  COH_TRY(coh_alloc(&s->left, f->K, sizeof *s->left, err));
  COH_TRY(coh_alloc(&s->x, f->K, sizeof *s->x, err));
  for (size_t k = 0; k < f->K; k++) s->left[k] = k, f->needed[k] = true;
  s->n = f->K;
cleanup:
  return rc;
}

int coh_fit_needed(const coh_probe *p, size_t K, const double *w, size_t T,
                   const double *targets, const double *weight, double allowed,
                   double relative, size_t stay, coh_fit *out, coh_error *err) {
  int rc;
  bool linear = coh_symmetry_is_even_linear(p->symmetry);
  equations s = {.p = p, .out = out, .weight = weight};
  *out = (coh_fit){.K = K, .T = T, .B = linear ? p->D : 1};
  COH_TRY(allocate(&s, err));
  COH_TRY(fill(&s, w, targets, err));
  out->error = full_error(&s);
  COH_TRY(eliminate(&s, allowed, relative, stay, err));
  solve_base(&s);
cleanup:
  free(s.r);
  free(s.small);
  free(s.left);
  free(s.x);
  if (rc) coh_fit_free(out);
  return rc;
}
