/* kernels_real.h - element-wise kernels, losses and optimiser steps of one member; read
 * by kernels.c for float and double. Element i of a member is computed from i's data
 * only, and sums run in an order fixed by B and O.
 */

/* z [n] = act(z) */
static inline __attribute__((always_inline)) void
K(act_run)(const coh_act kind, size_t n, REAL *restrict z, REAL *restrict deriv) {
  if (deriv) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
      REAL slope;
      z[i] = EL(act)(kind, z[i], &slope);
      deriv[i] = slope;
    }
  } else {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
      REAL slope;
      z[i] = EL(act)(kind, z[i], &slope);
    }
  }
}

static void K(act_flat)(coh_act kind, size_t n, REAL *z, REAL *deriv) {
  switch (kind) {
  case COH_RELU:
    K(act_run)(COH_RELU, n, z, deriv);
    break;
  case COH_LEAKY_RELU:
    K(act_run)(COH_LEAKY_RELU, n, z, deriv);
    break;
  case COH_SOFTPLUS:
    K(act_run)(COH_SOFTPLUS, n, z, deriv);
    break;
  case COH_GELU:
    K(act_run)(COH_GELU, n, z, deriv);
    break;
  case COH_SILU:
    K(act_run)(COH_SILU, n, z, deriv);
    break;
  case COH_TANH:
    K(act_run)(COH_TANH, n, z, deriv);
    break;
  case COH_IDENTITY:
    K(act_run)(COH_IDENTITY, n, z, deriv);
    break;
  case COH_SIGMOID:
    K(act_run)(COH_SIGMOID, n, z, deriv);
    break;
  case COH_G:
    K(act_run)(COH_G, n, z, deriv);
    break;
  }
}

/* Narrow layers repeat their bias over several rows, so that vectors stay full. */
static void K(bias_act)(coh_act kind, size_t B, size_t O, const void *bias, void *z,
                        void *deriv) {
  enum { TILE = 512 };
  REAL repeated[TILE], *zr = z, *dr = deriv;
  const REAL *tile = bias;
  size_t rows = O < TILE ? TILE / (O ? O : 1) : 1;
  if (rows > B) rows = B;
  if (rows > 1) {
    for (size_t r = 0; r < rows; r++) memcpy(repeated + r * O, bias, O * sizeof(REAL));
    tile = repeated;
  }
  for (size_t b = 0; b < B; b += rows) {
    size_t n = (B - b < rows ? B - b : rows) * O;
    REAL *zb = zr + b * O;
#pragma omp simd
    for (size_t i = 0; i < n; i++) zb[i] += tile[i];
    K(act_flat)(kind, n, zb, dr ? dr + b * O : NULL);
  }
}

static void K(multiply)(size_t count, void *dz, const void *deriv) {
  REAL *to = dz;
  const REAL *by = deriv;
#pragma omp simd
  for (size_t i = 0; i < count; i++) to[i] *= by[i];
}

/* sum[0..n) over `rows` rows, `step` elements apart; every 64 rows go into a partial sum
 * of their own, which keeps rounding small for long batches. n <= 256. */
static void K(sum_rows)(size_t rows, size_t n, size_t step, const REAL *src, REAL *sum) {
  REAL part[256];
  memset(sum, 0, n * sizeof *sum);
  for (size_t r = 0; r < rows;) {
    size_t end = rows - r < 64 ? rows : r + 64;
    memset(part, 0, n * sizeof *part);
    for (; r < end; r++) {
      const REAL *row = src + r * step;
#pragma omp simd
      for (size_t i = 0; i < n; i++) part[i] += row[i];
    }
    for (size_t i = 0; i < n; i++) sum[i] += part[i];
  }
}

/* Narrow layers: several rows are taken as one long one, then folded. */
static void K(bias_grad)(size_t B, size_t O, const void *dz, void *db) {
  const REAL *src = dz;
  REAL *to = db, sum[256];
  size_t fold = O < 64 ? 64 / (O ? O : 1) : 1, n = fold * O;
  if (fold > 1) {
    K(sum_rows)(B / fold, n, n, src, sum);
    for (size_t i = B / fold * n; i < B * O; i++) sum[i % n] += src[i];
    memset(to, 0, O * sizeof *to);
    for (size_t i = 0; i < n; i++) to[i % O] += sum[i];
    return;
  }
  for (size_t o = 0; o < O; o += 256) {
    size_t width = O - o < 256 ? O - o : 256;
    K(sum_rows)(B, width, O, src + o, sum);
    memcpy(to + o, sum, width * sizeof *to);
  }
}

static void K(outer)(size_t B, size_t I, size_t O, const void *a, const void *dz, void *c,
                     size_t ldc) {
  const REAL one = 1;
  for (size_t b = 0; b < B; b++) {
    const REAL *left = a ? (const REAL *)a + b * I : &one;
    const REAL *right = (const REAL *)dz + b * O;
    REAL *to = (REAL *)c + b * ldc;
    if (O == 1) {
#pragma omp simd
      for (size_t i = 0; i < I; i++) to[i] = left[i] * right[0];
      continue;
    }
    for (size_t i = 0; i < I; i++, to += O) {
#pragma omp simd
      for (size_t o = 0; o < O; o++) to[o] = left[i] * right[o];
    }
  }
}

/* Squared errors go into 16 sums, element i into sum i mod 16. */
static double K(mse)(size_t B, size_t O, const void *out, const void *y, double scale,
                     void *dout) {
  const REAL *o = out, *t = y, s = (REAL)(2 * scale / (double)O);
  REAL *d = dout;
  size_t n = B * O;
  double sum[16] = {0};
  for (size_t i = 0; i < n; i += 16) {
    size_t width = n - i < 16 ? n - i : 16;
    for (size_t j = 0; j < width; j++) {
      REAL e = o[i + j] - t[i + j];
      double square = (double)e * (double)e;
      sum[j] += square;
      if (d) d[i + j] = s * e;
    }
  }
  for (int half = 8; half > 0; half /= 2)
    for (int j = 0; j < half; j++) sum[j] += sum[j + half];
  return sum[0] / (double)O;
}

/* buf [O] = row - its maximum; returns the index of the first maximum, O if there is a
 * NaN before it could be told. */
static size_t K(centre_row)(size_t O, const REAL *row, REAL *buf) {
  REAL max = row[0];
  for (size_t j = 1; j < O; j++) max = row[j] > max ? row[j] : max;
  size_t first = O;
  for (size_t j = O; j-- > 0;) {
    if (row[j] == max) first = j;
    buf[j] = row[j] - max;
  }
  return first;
}

/* Loss of one row from buf = exp(row - max), which becomes the gradient if `dout`.
 * `centred` = row[label] - max. */
static double K(softmax_row)(size_t O, REAL *buf, size_t label, REAL centred, REAL scale,
                             REAL *dout) {
  double sum = 0;
  for (size_t j = 0; j < O; j++) sum += (double)buf[j];
  if (dout) {
    REAL factor = (REAL)((double)scale / sum);
    for (size_t j = 0; j < O; j++) dout[j] = factor * buf[j];
    dout[label] -= scale;
  }
  return log(sum) - (double)centred;
}

static double K(cross_entropy)(size_t B, size_t O, const void *out, const int32_t *labels,
                               double scale, void *dout, double *correct, void *scratch) {
  const REAL *o = out;
  REAL *d = dout, *buf = scratch;
  size_t chunk = O < COH_CROSS_ENTROPY_CHUNK ? COH_CROSS_ENTROPY_CHUNK / O : 1;
  double loss = 0, right = 0;
  for (size_t b0 = 0; b0 < B; b0 += chunk) {
    size_t rows = B - b0 < chunk ? B - b0 : chunk, n = rows * O;
    REAL centred[COH_CROSS_ENTROPY_CHUNK];
    for (size_t r = 0; r < rows; r++) {
      size_t label = (size_t)labels[b0 + r];
      right += K(centre_row)(O, o + (b0 + r) * O, buf + r * O) == label;
      centred[r] = buf[r * O + label];
    }
#pragma omp simd
    for (size_t i = 0; i < n; i++) buf[i] = EL(exp)(buf[i]);
    for (size_t r = 0; r < rows; r++)
      loss += K(softmax_row)(O, buf + r * O, (size_t)labels[b0 + r], centred[r],
                             (REAL)scale, d ? d + (b0 + r) * O : NULL);
  }
  if (correct) *correct = right;
  return loss;
}

static void K(step_member)(const coh_step_args *a, size_t member) {
  const EL(rule) rule = EL(rule_of)(a, a->pace, member);
  size_t offset = member * a->P;
  REAL *restrict w = (REAL *)a->w + offset;
  const REAL *restrict g = (const REAL *)a->g + offset;
  REAL *restrict m = a->m ? (REAL *)a->m + offset : NULL;
  REAL *restrict v = a->v ? (REAL *)a->v + offset : NULL;
  if (a->kind == COH_ADAM) {
#pragma omp simd
    for (size_t i = 0; i < a->P; i++) w[i] = EL(adam)(&rule, w[i], g[i], &m[i], &v[i]);
  } else if (m) {
#pragma omp simd
    for (size_t i = 0; i < a->P; i++) w[i] = EL(sgd_momentum)(&rule, w[i], g[i], &m[i]);
  } else {
#pragma omp simd
    for (size_t i = 0; i < a->P; i++) w[i] = EL(sgd_plain)(&rule, w[i], g[i]);
  }
}

static void K(step)(const coh_step_args *a) {
  for (size_t n = 0; n < a->N; n++) K(step_member)(a, n);
}

/* ---- penalised steps ------------------------------------------------------------- */

/* A range of one member: pointers to its first element. */
typedef struct K(sparse_range) {
  size_t n;
  REAL *w, *m, *v, *c[COH_SPARSE_COMPANIONS], *cm[COH_SPARSE_COMPANIONS],
      *cv[COH_SPARSE_COMPANIONS], *mean[COH_SPARSE_MEANS];
  const REAL *g, *mask;
} K(sparse_range);

/* With a penalty of w alone. */
static inline __attribute__((always_inline)) void
K(sparse_plain)(const coh_penalty penalty, const K(sparse_range) * r, EL(penal) s) {
  REAL *restrict w = r->w, *restrict m = r->m, *restrict v = r->v;
  const REAL *restrict g = r->g, *restrict mask = r->mask;
#pragma omp simd
  for (size_t i = 0; i < r->n; i++) {
    REAL d = EL(penal_base)(&s, w[i], g[i], mask[i]);
    d += penalty == COH_PENALTY_EXP ? EL(penal_exp)(&s, w[i]) : EL(penal_l1)(&s, w[i]);
    w[i] = EL(adam)(&s.adam, w[i], d, &m[i], &v[i]) * mask[i];
  }
}

static inline __attribute__((always_inline)) void
K(sparse_coupled)(const bool means, const K(sparse_range) * r, EL(penal) s) {
  REAL *restrict w = r->w, *restrict m = r->m, *restrict v = r->v;
  const REAL *restrict g = r->g, *restrict mask = r->mask;
  REAL *restrict cv = r->c[0], *restrict cq = r->c[1], *restrict cu = r->c[2];
  REAL *restrict mv = r->cm[0], *restrict mq = r->cm[1], *restrict mu = r->cm[2];
  REAL *restrict vv = r->cv[0], *restrict vq = r->cv[1], *restrict vu = r->cv[2];
  REAL *restrict aw = r->mean[0], *restrict av = r->mean[1];
  REAL *restrict aq = r->mean[2], *restrict au = r->mean[3];
#pragma omp simd
  for (size_t i = 0; i < r->n; i++) {
    REAL gv, gq, u = means ? au[i] : cu[i];
    REAL d = EL(penal_base)(&s, w[i], g[i], mask[i]);
    d += EL(penal_gates)(&s, w[i], cv[i], cq[i], u, &gv, &gq);
    REAL gu = means ? EL(penal_multiplier)(&s, aw[i], av[i], aq[i])
                    : EL(penal_multiplier)(&s, w[i], cv[i], cq[i]);
    w[i] = EL(adam)(&s.adam, w[i], d, &m[i], &v[i]) * mask[i];
    cv[i] = EL(adam)(&s.adam, cv[i], gv, &mv[i], &vv[i]);
    cq[i] = EL(clamp_unit)(EL(adam)(&s.adam, cq[i], gq, &mq[i], &vq[i]));
    cu[i] = EL(adam)(&s.adam, cu[i], gu, &mu[i], &vu[i]);
    if (means) {
      aw[i] = EL(running)(&s, aw[i], w[i]);
      av[i] = EL(running)(&s, av[i], cv[i]);
      aq[i] = EL(running)(&s, aq[i], cq[i]);
      au[i] = EL(running)(&s, au[i], cu[i]);
    }
  }
}

static inline REAL *K(at)(const void *array, size_t offset) {
  return array ? (REAL *)array + offset : NULL;
}

static void K(sparse_part)(const coh_sparse_args *a, const coh_sparse_member *one,
                           const coh_sparse_part *part) {
  size_t row = one->row * a->P + part->first, place = one->place * a->P + part->first;
  K(sparse_range)
  r = {part->count,      K(at)(a->w, row),
       K(at)(a->m, row), K(at)(a->v, row),
       {NULL},           {NULL},
       {NULL},           {NULL},
       K(at)(a->g, row), K(at)(a->mask, place)};
  for (int i = 0; i < COH_SPARSE_COMPANIONS; i++) {
    r.c[i] = K(at)(a->c[i], place);
    r.cm[i] = K(at)(a->cm[i], place);
    r.cv[i] = K(at)(a->cv[i], place);
  }
  for (int i = 0; i < COH_SPARSE_MEANS; i++) r.mean[i] = K(at)(a->mean[i], place);
  EL(penal) s = EL(penal_make)(one, part->factor);
  switch (one->penalty) {
  case COH_PENALTY_L1:
    K(sparse_plain)(COH_PENALTY_L1, &r, s);
    break;
  case COH_PENALTY_EXP:
    K(sparse_plain)(COH_PENALTY_EXP, &r, s);
    break;
  case COH_PENALTY_GATES:
    K(sparse_coupled)(false, &r, s);
    break;
  case COH_PENALTY_MEANS:
    K(sparse_coupled)(true, &r, s);
    break;
  }
}

static void K(sparse)(const coh_sparse_args *a) {
  for (size_t n = 0; n < a->N; n++)
    for (size_t i = 0; i < a->parts; i++) K(sparse_part)(a, &a->member[n], &a->part[i]);
}
