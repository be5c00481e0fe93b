/* private.h - what the files of src/extract share. */
#ifndef COHORT_EXTRACT_PRIVATE_H
#define COHORT_EXTRACT_PRIVATE_H

#include "cohort/extract.h"

/* Cheapest one-to-one assignment (Jonker & Volgenant 1987, shortest augmenting paths,
 * O(r^2 c) for r <= c). cost [rows, cols], finite. col_of[rows]: the column of each row,
 * SIZE_MAX for rows left over where rows > cols. */
int coh_assign(size_t rows, size_t cols, const double *cost, size_t *col_of,
               coh_error *err);

/* Median of v[count], count >= 1, the mean of the two middle values for an even count (as
 * NumPy); reorders v. */
double coh_median(size_t count, double *v);

/* coh_lstsq with a choice of how many elements a rank one chunk of rows may take (but
 * never fewer than four times as many rows as there are columns). */
int coh_lstsq_by(MPI_Comm comm, size_t elements, size_t n, size_t d, size_t o,
                 coh_fill_row fill, void *ctx, double rcond, double *theta, size_t *rank,
                 coh_error *err);

typedef struct coh_robust coh_robust;

/* Work on one layer on rank 0, between the steps of section 4. */
typedef struct coh_layer_work {
  const coh_layer_view *view;
  const coh_cluster_options *opt;
  const coh_sink *sink;
  size_t n, min_size; /* vectors; floor(gamma * N) */
  bool by_distance;   /* signs are decided inside clusters, by symmetric distances */
  double *f;          /* [n, D] canonical vectors: sign * w / norm */
  coh_robust *robust; /* method = robust: what it keeps between its two steps */
  coh_clustering *out;
} coh_layer_work;

/* Steps 5 to 7: cluster[], kept[], K; with by_distance also the signs. Clusters that pass
 * have the state KEPT, though collapse may still lose some. */
int coh_layer_filter(coh_layer_work *work, coh_error *err);
/* Step 8: w, a, constant, linear of the clusters that passed. */
int coh_layer_collapse(coh_layer_work *work, coh_error *err);

/* method = robust, in place of all steps. prepare: the vectors [*n, *D] to make the tree
 * of, by relative distances. cluster: all that comes after the tree. */
int coh_robust_prepare(coh_layer_work *work, size_t *n, size_t *D, const double **f,
                       coh_error *err);
int coh_robust_cluster(coh_layer_work *work, coh_error *err);
void coh_robust_free(coh_robust *);

#endif
