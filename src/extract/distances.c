/* distances.c - all pairwise distances of n vectors, over all ranks. Uses base, comm,
 * ScaLAPACK.
 *
 * Rank 0 broadcasts the vectors piece by piece and every rank keeps what it needs: its
 * blocks of the D x n matrix A for p?gemm, and whole vectors for the rows and columns of
 * the Gram matrix that are its own, for the pairs that are recomputed. The upper triangle
 * of A'A is then made in panels of columns; each is turned into distances where it lies,
 * packed, and sent to rank 0.
 *
 * Every squared distance is rounded to 41 bits. Where the error of the Gram matrix could
 * reach across a rounding boundary the pair is recomputed by one fixed loop. So the bits
 * do not depend on how the sums were split over ranks, and exact ties stay ties; squared
 * distances of vectors of whole numbers stay exact.
 */
#include "cohort/extract.h"
#include "extract/scalapack.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, PIECE = 1 << 20, PANEL = 1 << 24, DROPPED_BITS = 12, TAG = 71 };

typedef struct problem { /* told to all ranks by rank 0 */
  uint64_t n, D;         /* D: unmasked components, at least 1 */
  uint64_t cosine, symmetric;
} problem;

typedef struct gram {
  MPI_Comm comm;
  int rank, size;
  problem p;
  coh_blacs grid;
  size_t nb, width; /* block of vectors; columns of one panel */
  coh_matrix la, lpanel;
  double *a;           /* local part of [D, n], column-major */
  double *panel;       /* local part of [n, width], column-major */
  double *row, *col;   /* [own vectors, D] by grid row, by grid column */
  double *row2, *col2; /* their squared norms (cosine: 1, or 0 for a zero vector) */
  double *packed;      /* rank 0: [largest message] */
} gram;

/* ---- distances of one pair ---- */

static double dot(const double *u, const double *v, size_t D) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (size_t d = 0; d < D; d++) s += u[d] * v[d];
  return s;
}

/* |u - sign v|^2 */
static double square_difference(const double *u, const double *v, double sign, size_t D) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (size_t d = 0; d < D; d++) {
    double x = u[d] - sign * v[d];
    s += x * x;
  }
  return s;
}

static uint64_t bits_of(double v) {
  uint64_t b;
  memcpy(&b, &v, sizeof b);
  return b;
}

/* To 53 - DROPPED_BITS bits, to nearest. v >= 0 and finite. */
static double rounded(double v) {
  const uint64_t cell = (uint64_t)1 << DROPPED_BITS;
  uint64_t b = (bits_of(v) + cell / 2) & ~(cell - 1);
  memcpy(&v, &b, sizeof v);
  return v;
}

/* True if a relative error of `e` could change rounded(v). */
static bool near_boundary(double v, double e) {
  const uint64_t cell = (uint64_t)1 << DROPPED_BITS;
  double off = fabs((double)(bits_of(v) & (cell - 1)) - (double)cell / 2);
  return off <= 2 + e * 0x1p53;
}

/* Distance of local row i and local column j of the Gram matrix, whose element is g.
 * The squared distance x = s - 2 g has an absolute error near 2 sqrt(D) eps s, where s is
 * the sum of the squared norms: D roundings of either sign, with four standard deviations
 * to spare. Twice that is the margin, as both ways of computing must round alike. */
static double distance(const gram *k, double g, size_t i, size_t j) {
  double s = k->row2[i] + k->col2[j], sign = k->p.symmetric && g < 0 ? -1 : 1;
  size_t D = k->p.D;
  if (k->p.cosine && s < 2) return 1;
  double x = s - 2 * sign * g;
  bool recompute = !(x > 1e-2 * s);
  if (!recompute) {
    recompute = near_boundary(x, 4 * sqrt((double)D) * DBL_EPSILON * s / x);
  }
  if (recompute) x = square_difference(k->row + i * D, k->col + j * D, sign, D);
  x = rounded(x);
  return k->p.cosine ? x / 2 : sqrt(x);
}

/* ---- spreading the vectors ---- */

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

/* Puts vectors first .. first + count of `v` [count, D] where this rank wants them. */
static void keep_vectors(gram *k, size_t first, size_t count, const double *v) {
  size_t D = k->p.D;
  const coh_blacs *g = &k->grid;
  for (size_t i = first; i < first + count; i++, v += D) {
    int owner_row = (int)(i / k->nb % (size_t)g->rows);
    int owner_col = (int)(i / k->nb % (size_t)g->cols);
    double norm2 = k->p.cosine ? (dot(v, v, D) > 0.5 ? 1 : 0) : dot(v, v, D);
    if (owner_row == g->row) {
      size_t at = coh_local_count(i, k->nb, g->row, g->rows);
      memcpy(k->row + at * D, v, D * sizeof *v);
      k->row2[at] = norm2;
    }
    if (owner_col == g->col) {
      size_t at = coh_local_count(i, k->nb, g->col, g->cols);
      memcpy(k->col + at * D, v, D * sizeof *v);
      k->col2[at] = norm2;
      for (size_t d = 0; d < k->la.lm; d++)
        k->a[at * k->la.ld + d] = v[coh_global_index(d, k->la.mb, g->row, g->rows)];
    }
  }
}

static int spread(gram *k, size_t D, const double *f, const uint8_t *mask,
                  coh_error *err) {
  int rc;
  double *piece = NULL;
  size_t each = PIECE / k->p.D > 0 ? PIECE / k->p.D : 1;
  COH_TRY(coh_agree(k->comm, coh_alloc(&piece, each * k->p.D, sizeof *piece, err), err));
  for (size_t first = 0; first < k->p.n; first += each) {
    size_t count = k->p.n - first < each ? k->p.n - first : each;
    for (size_t i = 0; i < count && k->rank == 0; i++)
      pack_vector(&k->p, D, f + (first + i) * D, mask, piece + i * k->p.D);
    COH_TRY(coh_bcast(k->comm, piece, count * k->p.D * sizeof *piece, 0, err));
    keep_vectors(k, first, count, piece);
  }
cleanup:
  free(piece);
  return rc;
}

/* ---- panels of the Gram matrix ---- */

/* Panel columns [first, first + count) against vectors [0, first + count). */
static void multiply(gram *k, size_t first, size_t count) {
  int m = (int)(first + count), n = (int)count, depth = (int)k->p.D, one = 1;
  int ja = (int)first + 1;
  double alpha = 1, beta = 0;
  pdgemm_("T", "N", &m, &n, &depth, &alpha, k->a, &one, &one, k->la.desc, k->a, &one, &ja,
          k->la.desc, &beta, k->panel, &one, &one, k->lpanel.desc);
}

/* Local columns of panel [first, first + count) on grid column c. */
static size_t panel_columns(const gram *k, size_t first, size_t count, int c) {
  return coh_local_count(first + count, k->nb, c, k->grid.cols) -
         coh_local_count(first, k->nb, c, k->grid.cols);
}

/* Turns this rank's elements above the diagonal into distances, packed to the front
 * column by column; returns how many there are. */
static size_t finish_panel(gram *k, size_t first, size_t count) {
  const coh_blacs *g = &k->grid;
  size_t before = coh_local_count(first, k->nb, g->col, g->cols), total = 0;
  size_t columns = panel_columns(k, first, count, g->col);
  for (size_t c = 0; c < columns; c++) {
    size_t j = coh_global_index(before + c, k->nb, g->col, g->cols);
    size_t rows = coh_local_count(j, k->nb, g->row, g->rows);
    const double *from = k->panel + c * k->lpanel.ld;
    for (size_t i = 0; i < rows; i++)
      k->panel[total++] = distance(k, from[i], i, before + c);
  }
  return total;
}

/* The reverse on rank 0: what the rank at (r, c) of the grid packed goes into `out`. */
static size_t unpack_panel(const gram *k, size_t first, size_t count, int r, int c,
                           const double *packed, double *out) {
  size_t before = coh_local_count(first, k->nb, c, k->grid.cols), total = 0;
  size_t columns = panel_columns(k, first, count, c);
  for (size_t l = 0; l < columns; l++) {
    size_t j = coh_global_index(before + l, k->nb, c, k->grid.cols);
    size_t rows = coh_local_count(j, k->nb, r, k->grid.rows);
    for (size_t i = 0; i < rows; i++, total++)
      if (packed)
        out[coh_pair(k->p.n, coh_global_index(i, k->nb, r, k->grid.rows), j)] =
            packed[total];
  }
  return total;
}

static int gather_panel(gram *k, size_t first, size_t count, double *out,
                        coh_error *err) {
  int rc = COH_OK;
  size_t mine = finish_panel(k, first, count);
  if (k->rank != 0) {
    if (mine > 0) COH_MPI(MPI_Send(k->panel, (int)mine, MPI_DOUBLE, 0, TAG, k->comm));
    goto cleanup;
  }
  unpack_panel(k, first, count, 0, 0, k->panel, out);
  for (int r = 1; r < k->size; r++) {
    int row = r / k->grid.cols, col = r % k->grid.cols;
    size_t theirs = unpack_panel(k, first, count, row, col, NULL, NULL);
    if (theirs == 0) continue;
    COH_MPI(
        MPI_Recv(k->packed, (int)theirs, MPI_DOUBLE, r, TAG, k->comm, MPI_STATUS_IGNORE));
    unpack_panel(k, first, count, row, col, k->packed, out);
  }
cleanup:
  return rc;
}

/* ---- set-up ---- */

/* Blocks small enough that every process gets some, panels of about an eighth of the
 * columns (so that little of the lower triangle is computed) and of at most PANEL
 * elements a rank. */
static int plan_layout(gram *k, coh_error *err) {
  int rc;
  size_t side = (size_t)(k->grid.rows > k->grid.cols ? k->grid.rows : k->grid.cols);
  size_t n = k->p.n, fair = (n + 2 * side - 1) / (2 * side);
  k->nb = fair < BLOCK ? fair : BLOCK;
  size_t round = k->nb * (size_t)k->grid.cols;
  size_t eighth = (n / 8 + round - 1) / round;
  size_t most = (size_t)PANEL * (size_t)k->size / n / round;
  size_t rounds = eighth < most ? eighth : most;
  k->width = round * (rounds > 0 ? rounds : 1);
  COH_TRY(coh_matrix_init(&k->grid, k->p.D, n, BLOCK, k->nb, &k->la, err));
  COH_TRY(coh_matrix_init(&k->grid, n, k->width, k->nb, k->nb, &k->lpanel, err));
cleanup:
  return rc;
}

static int allocate(gram *k, coh_error *err) {
  int rc;
  const coh_blacs *g = &k->grid;
  size_t n = k->p.n, rows = coh_local_count(n, k->nb, g->row, g->rows);
  size_t cols = coh_local_count(n, k->nb, g->col, g->cols);
  size_t largest = coh_local_count(n, k->nb, 0, g->rows) *
                   coh_local_count(k->width, k->nb, 0, g->cols);
  COH_TRY(coh_alloc(&k->a, k->la.ld * (k->la.ln + 1), sizeof *k->a, err));
  COH_TRY(coh_alloc(&k->panel, k->lpanel.ld * (k->lpanel.ln + 1), sizeof *k->panel, err));
  COH_TRY(coh_alloc(&k->row, rows * k->p.D, sizeof *k->row, err));
  COH_TRY(coh_alloc(&k->col, cols * k->p.D, sizeof *k->col, err));
  COH_TRY(coh_alloc(&k->row2, rows, sizeof *k->row2, err));
  COH_TRY(coh_alloc(&k->col2, cols, sizeof *k->col2, err));
  if (k->rank == 0 && k->size > 1)
    COH_TRY(coh_alloc(&k->packed, largest, sizeof *k->packed, err));
cleanup:
  return rc;
}

static void gram_free(gram *k) {
  free(k->packed);
  free(k->col2);
  free(k->row2);
  free(k->col);
  free(k->row);
  free(k->panel);
  free(k->a);
  coh_blacs_close(&k->grid);
}

static int all_finite(size_t n, size_t D, const double *f, const uint8_t *mask,
                      coh_error *err) {
  for (size_t i = 0; i < n; i++)
    for (size_t d = 0; d < D; d++)
      if ((!mask || mask[d]) && !isfinite(f[i * D + d]))
        return coh_fail(err, COH_ENUMERIC, "component %zu of vector %zu is %g", d, i,
                        f[i * D + d]);
  return COH_OK;
}

/* Rank 0 checks its input, makes room for the result, and tells all what is to be done.
 */
static int announce(gram *k, size_t n, size_t D, const double *f, const uint8_t *mask,
                    coh_metric metric, bool symmetric, double **out, coh_error *err) {
  int rc = COH_OK;
  if (k->rank == 0) {
    size_t open = 0;
    for (size_t d = 0; d < D; d++) open += !mask || mask[d];
    k->p = (problem){n, open > 0 ? open : 1, metric == COH_COSINE, symmetric};
    rc = all_finite(n, D, f, mask, err);
    if (rc == COH_OK)
      rc = coh_alloc(out,
                     n < 2   ? 0
                     : n % 2 ? (n - 1) / 2 * n
                             : n / 2 * (n - 1),
                     sizeof **out, err);
  }
  COH_TRY(coh_agree(k->comm, rc, err));
  COH_TRY(coh_bcast(k->comm, &k->p, sizeof k->p, 0, err));
cleanup:
  return rc;
}

int coh_distances(MPI_Comm comm, size_t n, size_t D, const double *f, const uint8_t *mask,
                  coh_metric metric, bool symmetric, double **out, coh_error *err) {
  int rc;
  gram k = {.comm = comm};
  *out = NULL;
  COH_MPI(MPI_Comm_rank(comm, &k.rank));
  COH_MPI(MPI_Comm_size(comm, &k.size));
  COH_TRY(announce(&k, n, D, f, mask, metric, symmetric, out, err));
  if (k.p.n < 2) goto cleanup;
  COH_TRY(coh_agree(comm, coh_blacs_open(comm, false, &k.grid, err), err));
  COH_TRY(coh_agree(comm, plan_layout(&k, err), err));
  COH_TRY(coh_agree(comm, allocate(&k, err), err));
  COH_TRY(spread(&k, D, f, mask, err));
  for (size_t first = 0; first < k.p.n; first += k.width) {
    size_t count = k.p.n - first < k.width ? k.p.n - first : k.width;
    multiply(&k, first, count);
    COH_TRY(gather_panel(&k, first, count, *out, err));
  }
cleanup:
  gram_free(&k);
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
      long double nu = cosine ? plain_norm(D, u, mask) : 1;
      long double nv = cosine ? plain_norm(D, v, mask) : 1;
      if (nu == 0 || nv == 0) {
        out[coh_pair(n, i, j)] = 1;
        continue;
      }
      long double x = plain_square(D, u, v, mask, nu, nv, 1);
      if (symmetric) x = fminl(x, plain_square(D, u, v, mask, nu, nv, -1));
      out[coh_pair(n, i, j)] = (double)(cosine ? x / 2 : sqrtl(x));
    }
}
