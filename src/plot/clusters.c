/* clusters.c - the clusters of each layer as bars, and the layers of an extraction one by
 * one. Uses base, config, extract, store. */
#include "plot/extraction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double DEGREES = 180 / 3.14159265358979323846;

size_t coh_cluster_place(const coh_layer_plot *p, size_t row) {
  if (coh_cell_number(p->rows, row, "layer") != (double)p->layer) return SIZE_MAX;
  double k = coh_cell_number(p->rows, row, "cluster");
  return k >= 0 && k < 1e9 ? (size_t)k : SIZE_MAX;
}

int coh_clusters_kept(const coh_layer_plot *p, size_t n, bool *kept, size_t *n_kept,
                      coh_error *err) {
  (void)err;
  *n_kept = 0;
  for (size_t i = 0; i < p->rows->n_row; i++) {
    size_t k = coh_cluster_place(p, i);
    bool is = k != SIZE_MAX && strcmp(coh_cell(p->rows, i, "state"), "kept") == 0;
    if (k < n) kept[k] = is;
    *n_kept += is;
  }
  return COH_OK;
}

/* ---- bars ---------------------------------------------------------------------------
 */

typedef struct bar {
  size_t cluster;
  bool kept;
  const char *state;
  double angle, size, students; /* angle in degrees */
} bar;

/* Half the angle within which a cluster's neurons lie: of the chord between the halves of
 * the cluster, or of the median cosine distance. */
static double angle_of(const coh_table *t, size_t row) {
  double chord = coh_cell_number(t, row, "spread");
  double cosine = coh_cell_number(t, row, "median_cosine_distance");
  if (chord >= 0) return 2 * asin(fmin(chord / 2, 1)) * DEGREES;
  return cosine >= 0 ? acos(fmax(1 - cosine, -1)) * DEGREES : NAN;
}

static int compare_angles(const void *a, const void *b) {
  double x = ((const bar *)a)->angle, y = ((const bar *)b)->angle;
  if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
  return (x > y) - (x < y);
}

static int compare_sizes(const void *a, const void *b) {
  double x = ((const bar *)a)->size, y = ((const bar *)b)->size;
  return (x < y) - (x > y);
}

static int collect(const coh_layer_plot *p, bar **out, size_t *n, coh_error *err) {
  const coh_table *t = p->rows;
  int rc = coh_alloc(out, t->n_row, sizeof **out, err);
  *n = 0;
  for (size_t i = 0; i < t->n_row && rc == COH_OK; i++) {
    size_t k = coh_cluster_place(p, i);
    if (k == SIZE_MAX) continue;
    const char *state = coh_cell(t, i, "state");
    (*out)[(*n)++] = (bar){.cluster = k,
                           .kept = strcmp(state, "kept") == 0,
                           .state = state,
                           .angle = angle_of(t, i),
                           .size = coh_cell_number(t, i, "size"),
                           .students = coh_cell_number(t, i, "students")};
  }
  return rc;
}

static void bars_csv(const bar *b, size_t n, coh_text *csv) {
  coh_text_add(csv, "place,cluster,state,kept,angle_degrees,size,students\n");
  for (size_t i = 0; i < n; i++) {
    coh_text_add(csv, "%zu,%zu,%s,%d,", i, b[i].cluster, b[i].state, b[i].kept);
    coh_csv_number(csv, b[i].angle);
    coh_text_add(csv, ",");
    coh_csv_number(csv, b[i].size);
    coh_text_add(csv, ",");
    coh_csv_number(csv, b[i].students);
    coh_text_add(csv, "\n");
  }
}

/* The clusters' numbers below the bars, where there is room for them. */
static void cluster_axis(const bar *b, size_t n, const char *order, coh_text *script) {
  coh_text_add(script, "set xrange [-0.7:%.1f]\n", (double)n - 0.3);
  if (n > 20) {
    coh_text_add(script, "set xlabel 'clusters, %s'\nunset xtics\n", order);
    return;
  }
  coh_text_add(script, "set xlabel 'cluster (row of clusters.csv), %s'\nset xtics (",
               order);
  for (size_t i = 0; i < n; i++)
    coh_text_add(script, "%s'%zu' %zu", i ? ", " : "", b[i].cluster, i);
  coh_text_add(script, ")\n");
}

static int alignment(const coh_layer_plot *p, bar *b, size_t n, coh_error *err) {
  coh_sketch s;
  size_t known = 0;
  double limit = 180 / p->cfg->extraction.beta, least = limit;
  qsort(b, n, sizeof *b, compare_angles);
  while (known < n && !isnan(b[known].angle)) known++;
  for (size_t i = 0; i < known; i++)
    if (b[i].angle > 1e-6) least = fmin(least, b[i].angle);
  if (known == 0) {
    coh_figures_note(p->f, "alignment%s: no cluster is large enough to have an angle",
                     p->about);
    return COH_OK;
  }
  coh_sketch_begin(&s, "alignment", p->part, "Angle within each cluster");
  coh_text_add(&s.caption,
               "Angle between the neurons of a cluster%s; beta = %g allows %.3g degrees.",
               p->about, p->cfg->extraction.beta, limit);
  bars_csv(b, known, &s.csv);
  cluster_axis(b, known, "smallest angle first", &s.script);
  coh_text_add(
      &s.script,
      "set ylabel 'angle [degrees]'\nset logscale y\nset format y '%%g'\n"
      "set yrange [%.3g:%.3g]\nset boxwidth %s\n"
      "plot '%s.csv' skip 1 using 1:($4==1?$5:NaN) with boxes linecolor %s title "
      "'kept', \\\n  '%s.csv' skip 1 using 1:($4==0?$5:NaN) with boxes linecolor "
      "%s fillstyle pattern 4 border title 'dropped', \\\n"
      "  %.10g with lines linewidth 1.5 dashtype 2 linecolor %s title 'pi / "
      "beta'\n",
      least / 3, fmax(limit * 3, 1.5 * b[known - 1].angle), n > 60 ? "1" : "0.7", s.name,
      COH_BLUE, s.name, COH_GREY, limit, COH_RED);
  return coh_sketch_draw(p->f, &s, err);
}

/* Students, as far as their number can be told from the clusters. */
static double count_students(const coh_layer_plot *p, const bar *b, size_t n) {
  coh_plan plan;
  coh_error ignored;
  size_t N = 0;
  double most = 0;
  for (size_t i = 0; i < n; i++)
    if (b[i].students > most) most = b[i].students;
  (void)coh_plan_parse(p->cfg->model.name, (coh_act)p->cfg->model.activation, 0, &plan,
                       &N, &ignored);
  return N > 0 ? (double)N : most;
}

static int sizes(const coh_layer_plot *p, bar *b, size_t n, coh_error *err) {
  coh_sketch s;
  double N = count_students(p, b, n), least = floor(p->cfg->extraction.gamma * N);
  qsort(b, n, sizeof *b, compare_sizes);
  coh_sketch_begin(&s, "sizes", p->part, "Size of each cluster");
  coh_text_add(
      &s.caption,
      "Neurons in each cluster%s, and students they are from; gamma = %g asks for "
      "%g of %g students.",
      p->about, p->cfg->extraction.gamma, least, N);
  bars_csv(b, n, &s.csv);
  cluster_axis(b, n, "largest first", &s.script);
  coh_text_add(
      &s.script,
      "set ylabel 'neurons, students'\nset yrange [0:%.5g]\nset boxwidth %s\n"
      "plot '%s.csv' skip 1 using 1:($4==1?$6:NaN) with boxes linecolor %s title "
      "'kept', \\\n  '%s.csv' skip 1 using 1:($4==0?$6:NaN) with boxes linecolor "
      "%s fillstyle pattern 4 border title 'dropped', \\\n"
      "  '%s.csv' skip 1 using 1:7 with points pointtype 7 pointsize %s linecolor "
      "%s title 'students', \\\n"
      "  %.10g with lines linewidth 1.5 dashtype 2 linecolor %s title 'gamma'\n",
      1.06 * fmax(b[0].size, least), n > 60 ? "1" : "0.7", s.name, COH_SKY, s.name,
      COH_GREY, s.name, n > 60 ? "0.2" : "0.5", COH_INK, least, COH_RED);
  return coh_sketch_draw(p->f, &s, err);
}

int coh_plot_cluster_bars(const coh_layer_plot *p, coh_error *err) {
  int rc;
  size_t n;
  bar *b = NULL;
  COH_TRY(collect(p, &b, &n, err));
  if (n == 0) goto cleanup;
  if (coh_figures_wants(p->f, "alignment")) COH_TRY(alignment(p, b, n, err));
  if (coh_figures_wants(p->f, "sizes")) COH_TRY(sizes(p, b, n, err));
cleanup:
  free(b);
  return rc;
}

/* ---- all layers ---------------------------------------------------------------------
 */

/* A table of the folder; *there: it is in it. */
static int read_table(const char *folder, const char *name, coh_table *out, bool *there,
                      coh_error *err) {
  char path[COH_PATH];
  int rc = coh_format(path, sizeof path, err, "%s/%s", folder, name);
  *out = (coh_table){0};
  *there = rc == COH_OK && coh_file_exists(path);
  return *there ? coh_table_read(path, out, err) : rc;
}

/* What an extraction's folder holds. */
typedef struct files {
  coh_table clusters, neurons, stability;
  bool has_clusters, has_neurons, has_stability;
  coh_dendrogram *tree; /* [L] */
  size_t L;
} files;

static int files_read(const char *folder, coh_figures *f, files *x, coh_error *err) {
  int rc;
  char path[COH_PATH];
  COH_TRY(read_table(folder, "clusters.csv", &x->clusters, &x->has_clusters, err));
  COH_TRY(read_table(folder, "neurons.csv", &x->neurons, &x->has_neurons, err));
  COH_TRY(read_table(folder, "stability.csv", &x->stability, &x->has_stability, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/tree.h5", folder));
  if (coh_file_exists(path))
    COH_TRY(coh_trees_load(path, &x->tree, &x->L, err));
  else if (x->has_clusters && f->n_kind == 0)
    coh_figures_note(f,
                     "%s is not there (the run is of an earlier version): no dendrogram, "
                     "distances and cuts; `cohort run` with its run.ini makes it",
                     path);
cleanup:
  return rc;
}

static void files_free(files *x) {
  coh_trees_free(x->tree, x->L);
  coh_table_free(&x->clusters);
  coh_table_free(&x->neurons);
  coh_table_free(&x->stability);
}

static size_t count_layers(const files *x) {
  double most = (double)x->L;
  for (size_t i = 0; i < x->clusters.n_row; i++)
    most = fmax(most, coh_cell_number(&x->clusters, i, "layer"));
  return most < COH_MAX_LAYERS ? (size_t)most : COH_MAX_LAYERS;
}

static int plot_layer(coh_layer_plot *p, files *x, coh_error *err) {
  int rc;
  if (p->layer <= x->L) COH_TRY(coh_plot_tree(p, x->tree + p->layer - 1, err));
  COH_TRY(coh_plot_cluster_bars(p, err));
  if (x->has_neurons && coh_figures_wants(p->f, "neurons"))
    COH_TRY(coh_plot_neurons(p, &x->neurons, err));
  if (x->has_stability && coh_figures_wants(p->f, "stability"))
    COH_TRY(coh_plot_stability(p, &x->stability, err));
cleanup:
  return rc;
}

int coh_plot_clusters(coh_figures *f, const char *folder, const coh_config *cfg,
                      coh_error *err) {
  int rc;
  files x = {0};
  COH_TRY(files_read(folder, f, &x, err));
  size_t L = count_layers(&x);
  for (size_t l = 1; l <= L; l++) {
    coh_layer_plot p = {.f = f, .cfg = cfg, .layer = l, .rows = &x.clusters};
    if (L > 1) COH_TRY(coh_format(p.part, sizeof p.part, err, "layer%zu", l));
    if (L > 1) COH_TRY(coh_format(p.about, sizeof p.about, err, " of layer %zu", l));
    COH_TRY(plot_layer(&p, &x, err));
  }
cleanup:
  files_free(&x);
  return rc;
}
