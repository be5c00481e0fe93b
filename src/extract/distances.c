/* distances.c - all pairwise distances of n vectors, over all ranks. Uses base, comm,
 * device.
 *
 * Rank 0 broadcasts the vectors panel by panel. Every rank keeps the vectors whose rows
 * of the matrix are its own, multiplies those that it has so far with the panel (their
 * Gram matrix), and turns the products into distances while they are in the cache. So
 * nothing of size n^2 exists but the result, and no rank holds all vectors but rank 0.
 *
 * Many products are taken on a GPU where each rank is given one: rows and panels then lie
 * there too, and the products come back.
 *
 * A product of the processor is the same bit for bit whatever it is computed beside, so
 * the distances do not depend on the number of ranks. Pairs of small distance, of which
 * the Gram matrix gives too few digits, are recomputed from the difference of the
 * vectors. Every squared distance is rounded to 41 bits, so that ties in exact arithmetic
 * stay ties, almost always; squared distances of vectors of whole numbers stay exact.
 */
#include "extract/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of a panel, rows multiplied at a time, bits dropped of squares. */
enum { PANEL = 256, CHUNK = 480, GPU_CHUNK = 8192, DROPPED_BITS = 12, TAG = 71 };

/* Multiply-adds of all pairs from which on a GPU is worth its start. */
static const double worth_gpu = 1e10;

/* Compiled for several instruction sets, chosen when the program is loaded. */
#if defined __x86_64__ && !defined __SANITIZE_ADDRESS__
#define WIDE __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define WIDE
#endif

typedef struct problem { /* told to all ranks by rank 0 */
  uint64_t n, D;         /* D: unmasked components, at least 1 */
  uint64_t cosine, relative, symmetric;
} problem;

typedef struct gram {
  problem p;
  coh_rows *m;
  coh_device *dev;
  double *own, *own2;     /* [rows, D] vectors of own rows, [rows] squared norms (cosine:
                             1, or 0 for a zero vector) */
  double *panel, *panel2; /* [PANEL, D], [PANEL] */
  double *turned;         /* [D, PANEL] */
  double *product;        /* [chunk, PANEL] */
  size_t chunk;           /* rows multiplied at a time */
  /* where the device finds own, turned, product: the same, or copies on the GPU */
  double *at_own, *at_turned, *at_product;
} gram;

/* ---- distances of one pair ---- */

static double dot(const double *u, const double *v, size_t D) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (size_t d = 0; d < D; d++) s += u[d] * v[d];
  return s;
}

/* |u - sign v|^2 */
WIDE static double square_difference(const double *u, const double *v, double sign,
                                     size_t D) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (size_t d = 0; d < D; d++) {
    double x = u[d] - sign * v[d];
    s += x * x;
  }
  return s;
}

/* To 53 - DROPPED_BITS bits, to nearest. v >= 0 and finite. */
static inline double rounded(double v) {
  const uint64_t cell = (uint64_t)1 << DROPPED_BITS;
  uint64_t b;
  memcpy(&b, &v, sizeof b);
  b = (b + cell / 2) & ~(cell - 1);
  memcpy(&v, &b, sizeof v);
  return v;
}

/* Squared distances x [count] of one vector from many, of which v2 are the squared norms:
 * s - 2 g, where g are the products and s is the sum of both squared norms; -1 where they
 * must be recomputed from the difference of the vectors, as s - 2 g keeps less than all
 * but two digits of s. Returns how many. */
WIDE static size_t squares(size_t count, double u2, const double *v2, double *x,
                           bool symmetric) {
  size_t lost = 0;
#pragma omp simd reduction(+ : lost)
  for (size_t j = 0; j < count; j++) {
    double s = u2 + v2[j], g = symmetric ? fabs(x[j]) : x[j], r = s - 2 * g;
    bool small = !(r > 1e-2 * s);
    x[j] = small ? (signbit(x[j]) ? -2 : -1) : r;
    lost += small;
  }
  return lost;
}

/* Squared distances become distances; s: sums of squared norms, below 2 for a zero vector
 * among the normalised ones. */
WIDE static void distances_of(size_t count, double u2, const double *v2, double *x,
                              const problem *p) {
  bool cosine = p->cosine, relative = p->relative;
#pragma omp simd
  for (size_t j = 0; j < count; j++) {
    double r = rounded(x[j]), s = u2 + v2[j];
    double scale = !relative ? 1 : s > 0 ? 2 / s : 0;
    x[j] = !cosine ? sqrt(r * scale) : s < 2 ? 1 : r / 2;
  }
}

/* Products x [count] of own row r's vector with columns [from, from + count) of the panel
 * become distances. */
static void finish(const gram *k, size_t r, size_t from, size_t count, double *x) {
  size_t D = k->p.D;
  const double *u = k->own + r * D, *v = k->panel + from * D, *v2 = k->panel2 + from;
  size_t lost = squares(count, k->own2[r], v2, x, k->p.symmetric);
  for (size_t j = 0; lost > 0; j++)
    if (x[j] < 0) {
      x[j] = square_difference(u, v + j * D, x[j] < -1 ? -1 : 1, D);
      lost--;
    }
  distances_of(count, k->own2[r], v2, x, &k->p);
}

/* ---- panels ---- */

/* The unmasked components of one vector, normalised for cosine distances. */
static void pack_vector(const problem *p, size_t D, const double *f, const uint8_t *mask,
                        double *out) {
  size_t k = 0;
  double largest = 0;
  for (size_t d = 0; d < D; d++) {
    if (mask && !mask[d]) continue;
    out[k++] = f[d];
    largest = fmax(largest, fabs(f[d]));
  }
  if (k < p->D) out[k] = 0; /* everything is masked */
  if (!p->cosine || largest == 0) return;
  long double s = 0;
  for (size_t d = 0; d < p->D; d++) {
    long double x = out[d] / (long double)largest;
    s += x * x;
  }
  long double norm = sqrtl(s) * largest;
  for (size_t d = 0; d < p->D; d++) out[d] = (double)(out[d] / norm);
}

/* Columns [first, first + count): from rank 0's f to every rank's panel, and own vectors
 * to their place. */
static int share_panel(gram *k, size_t D, const double *f, const uint8_t *mask,
                       size_t first, size_t count, coh_error *err) {
  int rc;
  size_t d = k->p.D, ranks = (size_t)k->m->size;
  for (size_t j = 0; j < count && k->m->rank == 0; j++)
    pack_vector(&k->p, D, f + (first + j) * D, mask, k->panel + j * d);
  COH_TRY(coh_bcast(k->m->comm, k->panel, count * d * sizeof *k->panel, 0, err));
  for (size_t j = 0; j < count; j++) {
    const double *v = k->panel + j * d;
    double norm2 = dot(v, v, d);
    k->panel2[j] = k->p.cosine ? (norm2 > 0.5 ? 1 : 0) : norm2;
    for (size_t i = 0; i < d; i++) k->turned[i * PANEL + j] = v[i];
    if ((first + j) % ranks != (size_t)k->m->rank) continue;
    memcpy(k->own + (first + j) / ranks * d, v, d * sizeof *v);
    k->own2[(first + j) / ranks] = k->panel2[j];
  }
cleanup:
  return rc;
}

static bool on_gpu(const gram *k) {
  return k->at_product != k->product;
}

/* The panel, and the vectors of it that became own rows: the last ones. */
static int upload_panel(gram *k, size_t before, size_t rows, coh_error *err) {
  int rc = COH_OK;
  const coh_device_ops *ops = k->dev->ops;
  size_t D = k->p.D, row = D * sizeof(double);
  if (!on_gpu(k)) return COH_OK;
  COH_TRY(ops->upload(k->dev, k->at_turned, k->turned, PANEL * row, err));
  COH_TRY(ops->upload(k->dev, k->at_own + before * D, k->own + before * D,
                      (rows - before) * row, err));
cleanup:
  return rc;
}

/* Own rows [r, r + rows) times the panel's columns, into the matrix. */
static int multiply(gram *k, size_t r, size_t rows, size_t first, size_t count,
                    coh_error *err) {
  const coh_gemm g = {.N = 1,
                      .M = rows,
                      .Q = count,
                      .K = k->p.D,
                      .a = k->at_own + r * k->p.D,
                      .lda = k->p.D,
                      .b = k->at_turned,
                      .ldb = PANEL,
                      .c = k->at_product,
                      .ldc = PANEL};
  int rc = k->dev->ops->gemm(k->dev, &g, err);
  if (rc == COH_OK && on_gpu(k))
    rc = k->dev->ops->download(k->dev, k->product, k->at_product,
                               rows * PANEL * sizeof *k->product, err);
  for (size_t l = 0; l < rows && rc == COH_OK; l++) {
    size_t i = (r + l) * (size_t)k->m->size + (size_t)k->m->rank;
    size_t from = i < first ? 0 : i + 1 - first;
    if (from >= count) continue;
    double *x = k->product + l * PANEL + from;
    finish(k, r + l, from, count - from, x);
    memcpy(k->m->data + coh_rows_at(k->m, i) + (ptrdiff_t)(first + from), x,
           (count - from) * sizeof *x);
  }
  return rc;
}

/* A GPU may fail on one rank: it goes on with the panels, which all ranks share. */
static int all_panels(gram *k, const coh_vectors *v, coh_error *err) {
  int rc = COH_OK, own = COH_OK;
  size_t before = 0; /* own rows that are there */
  for (size_t first = 0; first < k->p.n; first += PANEL) {
    size_t count = k->p.n - first < PANEL ? k->p.n - first : PANEL;
    coh_rows part = *k->m;
    part.n = first + count;
    size_t rows = coh_rows_count(&part, part.rank), some;
    COH_TRY(share_panel(k, v->D, v->f, v->mask, first, count, err));
    if (!own) own = upload_panel(k, before, rows, err);
    for (size_t r = 0; r < rows && !own; r += some) {
      some = rows - r < k->chunk ? rows - r : k->chunk;
      own = multiply(k, r, some, first, count, err);
    }
    before = rows;
  }
  rc = coh_agree(k->m->comm, own, err);
cleanup:
  return rc;
}

/* ---- set-up ---- */

/* Copies on the GPU. */
static int allocate_there(gram *k, const coh_device_wish *gpu, coh_error *err) {
  int rc;
  size_t D = k->p.D, rows = coh_rows_count(k->m, k->m->rank), size = sizeof(double);
  COH_TRY(coh_device_open_as(gpu, COH_F64, &k->dev, err));
  const coh_device_ops *ops = k->dev->ops;
  COH_TRY(ops->alloc(k->dev, rows * D * size, (void **)&k->at_own, err));
  COH_TRY(ops->alloc(k->dev, PANEL * D * size, (void **)&k->at_turned, err));
  COH_TRY(ops->alloc(k->dev, GPU_CHUNK * PANEL * size, (void **)&k->at_product, err));
  k->chunk = GPU_CHUNK;
cleanup:
  return rc;
}

static void free_there(gram *k) {
  if (!k->dev || !coh_device_stream(k->dev)) return;
  k->dev->ops->free(k->dev, k->at_own);
  k->dev->ops->free(k->dev, k->at_turned);
  k->dev->ops->free(k->dev, k->at_product);
  coh_device_close(k->dev);
  k->dev = NULL;
  k->at_own = k->at_turned = k->at_product = NULL;
}

/* The GPU where the products are many and it has room for them. */
static int choose_device(gram *k, const coh_device_wish *gpu, double worth,
                         coh_error *err) {
  coh_error refused = {0};
  double n = (double)k->p.n;
  k->chunk = CHUNK;
  if (gpu && n * n * (double)k->p.D >= worth &&
      allocate_there(k, gpu, &refused) == COH_OK)
    return COH_OK;
  free_there(k);
  return coh_device_open_cpu(NULL, COH_F64, &k->dev, err);
}

static int allocate(gram *k, const coh_device_wish *gpu, double worth, coh_error *err) {
  int rc;
  size_t D = k->p.D, rows = coh_rows_count(k->m, k->m->rank);
  size_t elements = coh_rows_before(k->m, k->m->rank, rows);
  COH_TRY(choose_device(k, gpu, worth, err));
  COH_TRY(coh_alloc(&k->own, rows * D, sizeof *k->own, err));
  COH_TRY(coh_alloc(&k->own2, rows, sizeof *k->own2, err));
  COH_TRY(coh_alloc(&k->panel, PANEL * D, sizeof *k->panel, err));
  COH_TRY(coh_alloc(&k->panel2, PANEL, sizeof *k->panel2, err));
  COH_TRY(coh_alloc(&k->turned, PANEL * D, sizeof *k->turned, err));
  COH_TRY(coh_alloc(&k->product, k->chunk * PANEL, sizeof *k->product, err));
  if (!k->at_product)
    k->at_own = k->own, k->at_turned = k->turned, k->at_product = k->product;
  rc = coh_alloc(&k->m->data, elements, sizeof *k->m->data, err);
  if (rc) coh_explain(err, "distances of %zu vectors over %d ranks", k->m->n, k->m->size);
cleanup:
  return rc;
}

static void gram_free(gram *k) {
  free_there(k);
  free(k->product);
  free(k->turned);
  free(k->panel2);
  free(k->panel);
  free(k->own2);
  free(k->own);
  coh_device_close(k->dev);
}

static int all_finite(const coh_vectors *v, coh_error *err) {
  for (size_t i = 0; i < v->n; i++)
    for (size_t d = 0; d < v->D; d++)
      if ((!v->mask || v->mask[d]) && !isfinite(v->f[i * v->D + d]))
        return coh_fail(err, COH_ENUMERIC, "component %zu of vector %zu is %g", d, i,
                        v->f[i * v->D + d]);
  return COH_OK;
}

/* Rank 0 checks its input and tells all what is to be done. */
static int announce(gram *k, const coh_vectors *v, coh_error *err) {
  int rc = COH_OK;
  if (k->m->rank == 0) {
    size_t open = 0;
    for (size_t d = 0; d < v->D; d++) open += !v->mask || v->mask[d];
    k->p = (problem){v->n, open > 0 ? open : 1, v->metric == COH_COSINE,
                     v->metric == COH_RELATIVE, v->symmetric};
    rc = all_finite(v, err);
    if (rc == COH_OK && v->n > INT32_MAX)
      rc = coh_fail(err, COH_EUSAGE, "distances of %zu vectors: at most 2^31 - 1", v->n);
  }
  COH_TRY(coh_agree(k->m->comm, rc, err));
  COH_TRY(coh_bcast(k->m->comm, &k->p, sizeof k->p, 0, err));
  k->m->n = k->p.n;
cleanup:
  return rc;
}

int coh_rows_distances_by(double worth, MPI_Comm comm, const coh_vectors *v,
                          coh_rows *out, coh_error *err) {
  int rc;
  gram k = {.m = out};
  *out = (coh_rows){.comm = comm};
  COH_MPI(MPI_Comm_rank(comm, &out->rank));
  COH_MPI(MPI_Comm_size(comm, &out->size));
  COH_TRY(announce(&k, v, err));
  COH_TRY(coh_agree(comm, allocate(&k, v->gpu, worth, err), err));
  COH_TRY(all_panels(&k, v, err));
cleanup:
  gram_free(&k);
  if (rc != COH_OK) {
    free(out->data);
    out->data = NULL;
  }
  return rc;
}

int coh_rows_distances(MPI_Comm comm, const coh_vectors *v, coh_rows *out,
                       coh_error *err) {
  return coh_rows_distances_by(worth_gpu, comm, v, out, err);
}

/* ---- on rank 0 ---- */

/* All rows, one behind the other, on rank 0. */
static int gather_rows(const coh_rows *m, double *all, coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i + 1 < m->n; i++) {
    int owner = (int)(i % (size_t)m->size), length = (int)(m->n - 1 - i);
    double *row = m->data + (owner == m->rank ? coh_rows_at(m, i) + (ptrdiff_t)i + 1 : 0);
    if (m->rank == 0 && owner == 0)
      memcpy(all, row, (size_t)length * sizeof *row);
    else if (m->rank == 0)
      COH_MPI(MPI_Recv(all, length, MPI_DOUBLE, owner, TAG, m->comm, MPI_STATUS_IGNORE));
    else if (m->rank == owner)
      COH_MPI(MPI_Send(row, length, MPI_DOUBLE, 0, TAG, m->comm));
    if (m->rank == 0) all += length;
  }
cleanup:
  return rc;
}

int coh_distances(MPI_Comm comm, const coh_vectors *v, double **out, coh_error *err) {
  int rc;
  coh_rows m;
  *out = NULL;
  COH_TRY(coh_rows_distances(comm, v, &m, err));
  if (m.size == 1) {
    *out = m.data;
    return COH_OK;
  }
  if (m.rank == 0)
    rc = coh_alloc(out, m.n < 2 ? 0 : coh_pair(m.n, m.n - 2, m.n - 1) + 1, sizeof **out,
                   err);
  rc = coh_agree(comm, rc, err);
  if (rc == COH_OK) rc = gather_rows(&m, *out, err);
  free(m.data);
cleanup:
  if (rc != COH_OK) {
    free(*out);
    *out = NULL;
  }
  return rc;
}

/* ---- by plain loops ---- */

/* |u/|u| -+ v/|v||^2 or |u -+ v|^2 */
static long double plain_square(size_t D, const double *u, const double *v,
                                const uint8_t *mask, long double nu, long double nv,
                                int sign) {
  long double s = 0;
  for (size_t d = 0; d < D; d++) {
    if (mask && !mask[d]) continue;
    long double x = (long double)u[d] / nu - (long double)sign * v[d] / nv;
    s += x * x;
  }
  return s;
}

static long double plain_norm(size_t D, const double *u, const uint8_t *mask) {
  long double s = 0;
  for (size_t d = 0; d < D; d++)
    if (!mask || mask[d]) s += (long double)u[d] * u[d];
  return sqrtl(s);
}

void coh_distances_plain(size_t n, size_t D, const double *f, const uint8_t *mask,
                         coh_metric metric, bool symmetric, double *out) {
  bool cosine = metric == COH_COSINE;
  for (size_t i = 0; i < n; i++)
    for (size_t j = i + 1; j < n; j++) {
      const double *u = f + i * D, *v = f + j * D;
      long double nu = plain_norm(D, u, mask), nv = plain_norm(D, v, mask);
      if (cosine && (nu == 0 || nv == 0)) {
        out[coh_pair(n, i, j)] = 1;
        continue;
      }
      long double square = (nu * nu + nv * nv) / 2;
      if (metric != COH_RELATIVE || square == 0) square = 1;
      if (!cosine) nu = nv = 1;
      long double x = plain_square(D, u, v, mask, nu, nv, 1);
      if (symmetric) x = fminl(x, plain_square(D, u, v, mask, nu, nv, -1));
      out[coh_pair(n, i, j)] = (double)(cosine ? x / 2 : sqrtl(x / square));
    }
}
