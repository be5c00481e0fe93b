/* extraction.h - what clusters.c, tree.c, neurons.c and images.c share. */
#ifndef COHORT_PLOT_EXTRACTION_H
#define COHORT_PLOT_EXTRACTION_H

#include "plot/private.h"

/* The figures of one hidden layer. */
typedef struct coh_layer_plot {
  coh_figures *f;
  const coh_config *cfg;
  size_t layer;    /* from 1 */
  char part[16];   /* "layer<l>", "" where there is one layer only */
  char about[24];  /* " of layer <l>", or "" */
  coh_table *rows; /* clusters.csv */
} coh_layer_plot;

/* Of a row of clusters.csv: the cluster's place in its layer, SIZE_MAX for other layers.
 */
size_t coh_cluster_place(const coh_layer_plot *, size_t row);
/* kept [n]: whether cluster k < n of the layer was kept. *n_kept counts them. */
int coh_clusters_kept(const coh_layer_plot *, size_t n, bool *kept, size_t *n_kept,
                      coh_error *err);

/* dendrogram, cuts, distances. */
int coh_plot_tree(const coh_layer_plot *, const coh_dendrogram *, coh_error *err);
/* alignment, sizes. */
int coh_plot_cluster_bars(const coh_layer_plot *, coh_error *err);
int coh_plot_stability(const coh_layer_plot *, const coh_table *, coh_error *err);
int coh_plot_neurons(const coh_layer_plot *, const coh_table *, coh_error *err);

#endif
