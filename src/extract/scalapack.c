/* scalapack.c - process grids and block-cyclic layouts for ScaLAPACK. Uses base, comm. */
#include "extract/scalapack.h"

#include <limits.h>

int coh_blacs_open(MPI_Comm comm, bool tall, coh_blacs *out, coh_error *err) {
  int rc, size, rows = 1;
  *out = (coh_blacs){0};
  COH_MPI(MPI_Comm_size(comm, &size));
  for (int d = 1; d * d <= size; d++)
    if (size % d == 0) rows = d;
  if (tall) rows = size;
  out->handle = Csys2blacs_handle(comm);
  out->context = out->handle;
  Cblacs_gridinit(&out->context, "Row", rows, size / rows);
  Cblacs_gridinfo(out->context, &out->rows, &out->cols, &out->row, &out->col);
  out->open = true;
  if (out->rows != rows || out->cols != size / rows || out->row < 0)
    rc = coh_fail(err, COH_ELIB, "BLACS made no %d x %d process grid of %d ranks", rows,
                  size / rows, size);
cleanup:
  return rc;
}

void coh_blacs_close(coh_blacs *grid) {
  if (!grid->open) return;
  Cblacs_gridexit(grid->context);
  Cfree_blacs_system_handle(grid->handle);
  grid->open = false;
}

int coh_matrix_init(const coh_blacs *grid, size_t m, size_t n, size_t mb, size_t nb,
                    coh_matrix *out, coh_error *err) {
  *out = (coh_matrix){.m = m, .n = n, .mb = mb, .nb = nb};
  out->lm = coh_local_count(m, mb, grid->row, grid->rows);
  out->ln = coh_local_count(n, nb, grid->col, grid->cols);
  out->ld = out->lm > 0 ? out->lm : 1;
  if (m > INT_MAX || n > INT_MAX || out->ld > INT_MAX / (out->ln + 1))
    return coh_fail(err, COH_EUSAGE,
                    "a %zu x %zu matrix over %d ranks needs %zu x %zu elements on one; "
                    "ScaLAPACK holds at most 2^31 - 1: use more ranks",
                    m, n, grid->rows * grid->cols, out->lm, out->ln);
  int im = (int)m, in = (int)n, imb = (int)mb, inb = (int)nb, lld = (int)out->ld;
  int zero = 0, info = 0;
  descinit_(out->desc, &im, &in, &imb, &inb, &zero, &zero, &grid->context, &lld, &info);
  if (info != 0)
    return coh_fail(err, COH_EBUG, "descinit refuses argument %d of a %zu x %zu matrix",
                    -info, m, n);
  return COH_OK;
}
