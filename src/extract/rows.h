/* rows.h - the distances of n vectors, each pair once, dealt over ranks row by row: row
 * i, of the pairs (i, j > i), lies on rank i mod size. On one rank this is SciPy's
 * condensed matrix. Private to src/extract. */
#ifndef COHORT_EXTRACT_ROWS_H
#define COHORT_EXTRACT_ROWS_H

#include "cohort/extract.h"

typedef struct coh_rows {
  MPI_Comm comm;
  int rank, size;
  size_t n;
  double *data; /* this rank's rows, one behind the other */
} coh_rows;

/* How many rows rank r holds; the last one of all has no element. */
static inline size_t coh_rows_count(const coh_rows *m, int r) {
  return (m->n + (size_t)m->size - 1 - (size_t)r) / (size_t)m->size;
}
/* Elements in the first `rows` rows of rank r. */
static inline size_t coh_rows_before(const coh_rows *m, int r, size_t rows) {
  if (rows == 0) return 0;
  return rows * (m->n - 1 - (size_t)r) - (size_t)m->size * (rows * (rows - 1) / 2);
}
/* Where row i < n - 1 of this rank lies: data[coh_rows_at(i) + j] is pair (i, j). */
static inline ptrdiff_t coh_rows_at(const coh_rows *m, size_t i) {
  size_t before = coh_rows_before(m, m->rank, i / (size_t)m->size);
  return (ptrdiff_t)before - (ptrdiff_t)i - 1;
}

/* Distances as in coh_distances, but left where they are dealt to. Collective; on failure
 * nothing is left. The caller frees data. */
int coh_rows_distances(MPI_Comm comm, const coh_vectors *, coh_rows *out, coh_error *err);

/* The same with a choice of the multiply-adds of all pairs from which on a GPU is used.
 */
int coh_rows_distances_by(double worth, MPI_Comm comm, const coh_vectors *, coh_rows *out,
                          coh_error *err);

/* Merges of n >= 2 vectors, the same on every rank, unlabelled and unsorted work
 * included; overwrites the rows. merges [n - 1]. Collective over m->comm. */
int coh_rows_link(coh_rows *m, coh_linkage kind, coh_merge *merges, coh_error *err);

/* coh_tree with a choice of the number of vectors from which on the matrix stays dealt.
 */
int coh_tree_by(size_t deal, MPI_Comm comm, const coh_vectors *, coh_linkage kind,
                coh_merge *merges, coh_error *err);

#endif
