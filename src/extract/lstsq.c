/* lstsq.c - least squares with any number of rows, over all ranks. Uses base, comm,
 * ScaLAPACK.
 *
 * With q = d + o, the matrix [R; rows of X | Y] of (q + chunk) x q lies in row blocks
 * over a P x 1 grid. One p?geqrf leaves a new R in its first q rows; the next chunk of
 * rows replaces the rest, and so on (Golub & Van Loan, Matrix Computations, section 6.5,
 * by blocks). Since R is a rotation of all rows seen, argmin |X theta - Y| is that of
 * R[:d, :d] theta - R[:d, d:].
 */
#include "extract/private.h"
#include "extract/scalapack.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32, ELEMENTS = 1 << 24 };

typedef struct qr {
  MPI_Comm comm;
  int rank, size;
  size_t n, d, o, q;
  size_t chunk; /* rows of X taken at a time */
  coh_blacs grid;
  coh_matrix l; /* of [q + chunk, q] */
  double *a;    /* local part, column-major */
  double *tau, *work;
  int lwork;
  double *values; /* [q] one row */
} qr;

static int plan_chunk(qr *k, size_t elements, coh_error *err) {
  int rc;
  size_t fits = elements * (size_t)k->size / k->q;
  k->chunk = fits > 5 * k->q ? fits - k->q : 4 * k->q;
  if (k->chunk > k->n) k->chunk = k->n;
  COH_TRY(coh_agree(k->comm, coh_blacs_open(k->comm, true, &k->grid, err), err));
  rc = coh_matrix_init(&k->grid, k->q + k->chunk, k->q, BLOCK, BLOCK, &k->l, err);
  COH_TRY(coh_agree(k->comm, rc, err));
cleanup:
  return rc;
}

static int factorise(qr *k, double *work, int lwork, coh_error *err) {
  int m = (int)k->l.m, n = (int)k->l.n, one = 1, info = 0;
  pdgeqrf_(&m, &n, k->a, &one, &one, k->l.desc, k->tau, work, &lwork, &info);
  if (info == 0) return COH_OK;
  return coh_fail(err, COH_EBUG, "pdgeqrf refuses argument %d of a %d x %d matrix", -info,
                  m, n);
}

static int allocate(qr *k, coh_error *err) {
  int rc;
  double want = 0;
  COH_TRY(coh_alloc(&k->a, k->l.ld * k->q, sizeof *k->a, err));
  COH_TRY(coh_alloc(&k->tau, k->q + BLOCK, sizeof *k->tau, err));
  COH_TRY(coh_alloc(&k->values, k->q, sizeof *k->values, err));
  COH_TRY(factorise(k, &want, -1, err));
  k->lwork = (int)want;
  COH_TRY(coh_alloc(&k->work, (size_t)k->lwork, sizeof *k->work, err));
cleanup:
  return rc;
}

static size_t row_of(const qr *k, size_t local) {
  return coh_global_index(local, BLOCK, k->grid.row, k->grid.rows);
}

/* Below the first q rows: rows first .. first + chunk of [X | Y], zeros past the last
 * one. Within them: zeros where geqrf left its reflectors. */
static int next_rows(qr *k, size_t first, coh_fill_row fill, void *ctx, coh_error *err) {
  for (size_t i = 0; i < k->l.lm; i++) {
    size_t g = row_of(k, i), end = k->q;
    if (g < k->q) {
      end = g;
      memset(k->values, 0, k->q * sizeof *k->values);
    } else if (first + g - k->q < k->n) {
      fill(ctx, first + g - k->q, k->values);
    } else {
      memset(k->values, 0, k->q * sizeof *k->values);
    }
    for (size_t c = 0; c < end; c++) {
      if (!isfinite(k->values[c]))
        return coh_fail(err, COH_ENUMERIC, "least squares: %s %zu of row %zu is %g",
                        c < k->d ? "input" : "target", c < k->d ? c : c - k->d,
                        first + g - k->q, k->values[c]);
      k->a[c * k->l.ld + i] = k->values[c];
    }
  }
  return COH_OK;
}

/* Rows of R that rank `row` of the grid holds come first in its local part. */
static size_t rows_of_r(const qr *k, int row) {
  return coh_local_count(k->q, BLOCK, row, k->grid.rows);
}

/* On rank 0: r [q, q] column-major, zeros below the diagonal. */
static int gather_r(const qr *k, double **r, coh_error *err) {
  int rc;
  size_t q = k->q, mine = rows_of_r(k, k->grid.row);
  double *local = NULL, *all = NULL;
  rc = coh_alloc(&local, mine * q, sizeof *local, err);
  if (rc == COH_OK && k->rank == 0) rc = coh_alloc(&all, q * q, sizeof *all, err);
  if (rc == COH_OK && k->rank == 0) rc = coh_alloc(r, q * q, sizeof **r, err);
  COH_TRY(coh_agree(k->comm, rc, err));
  for (size_t i = 0; i < mine; i++)
    for (size_t c = 0; c < q; c++) local[i * q + c] = k->a[c * k->l.ld + i];
  COH_TRY(coh_gather(k->comm, local, mine * q * sizeof *local, all, 0, err));
  if (k->rank != 0) goto cleanup;
  const double *from = all;
  for (int p = 0; p < k->size; p++)
    for (size_t i = 0; i < rows_of_r(k, p); i++, from += q) {
      size_t g = coh_global_index(i, BLOCK, p, k->size);
      for (size_t c = g; c < q; c++) (*r)[c * q + g] = from[c];
    }
cleanup:
  free(all);
  free(local);
  return rc;
}

/* theta from r [q, q] (overwritten): the minimum-norm solution by singular values. */
static int solve_small(size_t d, size_t o, double *r, double rcond, double *theta,
                       size_t *rank, coh_error *err) {
  int rc, n = (int)d, nrhs = (int)o, ld = (int)(d + o), found = 0, lwork = -1, info = 0;
  int *iwork = NULL, want_int = 0;
  double *s = NULL, *work = NULL, want = 0;
  double *b = r + d * (d + o);
  COH_TRY(coh_alloc(&s, d, sizeof *s, err));
  dgelsd_(&n, &n, &nrhs, r, &ld, b, &ld, s, &rcond, &found, &want, &lwork, &want_int,
          &info);
  lwork = (int)want;
  COH_TRY(coh_alloc(&work, (size_t)lwork, sizeof *work, err));
  COH_TRY(coh_alloc(&iwork, (size_t)want_int, sizeof *iwork, err));
  dgelsd_(&n, &n, &nrhs, r, &ld, b, &ld, s, &rcond, &found, work, &lwork, iwork, &info);
  if (info != 0)
    COH_TRY(coh_fail(err, COH_ENUMERIC,
                     "least squares: the singular values of a %zu x %zu matrix did not "
                     "converge (dgelsd: %d)",
                     d, d, info));
  for (size_t i = 0; i < d; i++)
    for (size_t j = 0; j < o; j++) theta[i * o + j] = b[j * (d + o) + i];
  *rank = (size_t)found;
cleanup:
  free(iwork);
  free(work);
  free(s);
  return rc;
}

static int factorise_all(qr *k, coh_fill_row fill, void *ctx, coh_error *err) {
  int rc = COH_OK;
  for (size_t first = 0; first < k->n; first += k->chunk) {
    COH_TRY(coh_agree(k->comm, next_rows(k, first, fill, ctx, err), err));
    COH_TRY(coh_agree(k->comm, factorise(k, k->work, k->lwork, err), err));
  }
cleanup:
  return rc;
}

int coh_lstsq(MPI_Comm comm, size_t n, size_t d, size_t o, coh_fill_row fill, void *ctx,
              double rcond, double *theta, size_t *rank, coh_error *err) {
  return coh_lstsq_by(comm, ELEMENTS, n, d, o, fill, ctx, rcond, theta, rank, err);
}

int coh_lstsq_by(MPI_Comm comm, size_t elements, size_t n, size_t d, size_t o,
                 coh_fill_row fill, void *ctx, double rcond, double *theta, size_t *rank,
                 coh_error *err) {
  int rc;
  qr k = {.comm = comm, .n = n, .d = d, .o = o, .q = d + o};
  double *r = NULL;
  size_t found = 0;
  if (n == 0 || d == 0 || o == 0 || k.q > INT_MAX / 8)
    return coh_fail(err, COH_EUSAGE, "least squares of %zu rows, %zu inputs, %zu targets",
                    n, d, o);
  COH_MPI(MPI_Comm_rank(comm, &k.rank));
  COH_MPI(MPI_Comm_size(comm, &k.size));
  COH_TRY(plan_chunk(&k, elements, err));
  COH_TRY(coh_agree(comm, allocate(&k, err), err));
  COH_TRY(factorise_all(&k, fill, ctx, err));
  COH_TRY(gather_r(&k, &r, err));
  if (k.rank == 0) rc = solve_small(d, o, r, rcond, theta, &found, err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(coh_bcast(comm, theta, d * o * sizeof *theta, 0, err));
  COH_TRY(coh_bcast(comm, &found, sizeof found, 0, err));
  if (rank) *rank = found;
cleanup:
  free(r);
  free(k.values);
  free(k.work);
  free(k.tau);
  free(k.a);
  coh_blacs_close(&k.grid);
  return rc;
}
