/* scalapack.h - what extract needs of ScaLAPACK, BLACS and LAPACK: their prototypes (the
 * libraries bring no C header) and a block-cyclic process grid and matrix. Private to
 * src/extract.
 *
 * The libraries take plain int: coh_matrix_init refuses a matrix with a side or a local
 * part beyond 2^31 - 1. Threads of the BLAS stay as they are found.
 */
#ifndef COHORT_EXTRACT_SCALAPACK_H
#define COHORT_EXTRACT_SCALAPACK_H

#include "cohort/comm.h"

int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridinit(int *context, const char *order, int rows, int cols);
void Cblacs_gridinfo(int context, int *rows, int *cols, int *row, int *col);
void Cblacs_gridexit(int context);
void descinit_(int *desc, const int *m, const int *n, const int *mb, const int *nb,
               const int *row0, const int *col0, const int *context, const int *lld,
               int *info);
void pdgeqrf_(const int *m, const int *n, double *a, const int *ia, const int *ja,
              const int *desca, double *tau, double *work, const int *lwork, int *info);
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau,
             double *work, const int *lwork, int *info);
void dgelsd_(const int *m, const int *n, const int *nrhs, double *a, const int *lda,
             double *b, const int *ldb, double *s, const double *rcond, int *rank,
             double *work, const int *lwork, int *iwork, int *info);

/* A process grid over all ranks of a communicator, row-major: rank = row * cols + col. */
typedef struct coh_blacs {
  int handle, context;
  int rows, cols; /* of the grid */
  int row, col;   /* this rank's place */
  bool open;
} coh_blacs;

/* Collective. tall: size x 1; else as near to square as the number of ranks divides.
 * Start with {0}; close is harmless on one that was never opened. */
int coh_blacs_open(MPI_Comm comm, bool tall, coh_blacs *out, coh_error *err);
void coh_blacs_close(coh_blacs *grid);

/* The layout of an m x n matrix in mb x nb blocks dealt cyclically from process (0, 0);
 * the local part is [lm, ln], column-major, leading dimension desc[8] = max(lm, 1). */
typedef struct coh_matrix {
  size_t m, n, mb, nb;
  size_t lm, ln, ld;
  int desc[9];
} coh_matrix;
int coh_matrix_init(const coh_blacs *grid, size_t m, size_t n, size_t mb, size_t nb,
                    coh_matrix *out, coh_error *err);

/* How many of the first n indices, dealt in blocks of nb, process p of `procs` holds. */
static inline size_t coh_local_count(size_t n, size_t nb, int p, int procs) {
  size_t blocks = n / nb, mine = blocks / (size_t)procs * nb;
  size_t left = blocks % (size_t)procs;
  if ((size_t)p < left) return mine + nb;
  return (size_t)p == left ? mine + n % nb : mine;
}
/* Global index of local index i on process p. */
static inline size_t coh_global_index(size_t i, size_t nb, int p, int procs) {
  return (i / nb * (size_t)procs + (size_t)p) * nb + i % nb;
}

#endif
