/* plot.h - figures of runs and sweeps, drawn by gnuplot, and one HTML page of them. Uses
 * base, config, archive, net, extract, store.
 *
 *   coh_figures *f;
 *   COH_TRY(coh_figures_open(&(coh_figures_spec){.folder = "plots", .about = "..."}, &f,
 *                            err));
 *   COH_TRY(coh_plot_training(f, "metrics.csv", &cfg, err));
 *   COH_TRY(coh_page_write("report.html", &page, f, err));
 *
 * Of each figure there are <name>.csv, the numbers, <name>.gp, which draws them (`gnuplot
 * <name>.gp`, or gnuplot -e "format='pdf'" <name>.gp, in that folder), and <name>.svg,
 * .png or .pdf. gnuplot is a program of its own: where it is missing, the first two are
 * written and the notes say so. Numbers that are not finite are left out of a figure and
 * counted in its caption. Not collective: one process calls.
 */
#ifndef COHORT_PLOT_H
#define COHORT_PLOT_H

#include "cohort/extract.h"
#include "cohort/store.h"

/* ---- a set of figures ----------------------------------------------------------------
 */

enum { COH_PLOT_SVG = 1, COH_PLOT_PNG = 2, COH_PLOT_PDF = 4 };

typedef struct coh_figure {
  char *name;    /* of its files: "losses" */
  char *title;   /* a few words */
  char *caption; /* what is seen, and of which configuration */
  bool drawn;    /* false: gnuplot could not, or is not there */
} coh_figure;

typedef struct coh_figures coh_figures;

typedef struct coh_figures_spec {
  const char *folder;      /* made if it is not there */
  unsigned formats;        /* COH_PLOT_SVG | ...; 0: SVG */
  size_t n_kind;           /* draw these kinds only; 0: all */
  const char *const *kind; /* borrowed by the figures */
  const char *about;       /* the configuration in a line: the end of every caption */
  const coh_sink *sink;    /* told of what gnuplot complains of */
  size_t first, members;   /* of a model and its metrics only these; 0 members: all */
} coh_figures_spec;

int coh_figures_open(const coh_figures_spec *, coh_figures **out, coh_error *err);
void coh_figures_close(coh_figures *); /* NULL accepted */
bool coh_figures_wants(const coh_figures *, const char *kind);
size_t coh_figures_count(const coh_figures *);
const coh_figure *coh_figures_get(const coh_figures *, size_t i);
/* Lines: what could not be drawn, and why; "" if all could. */
const char *coh_figures_notes(const coh_figures *);
/* All kinds there are: lines "  name       what it shows". */
void coh_plot_kinds(coh_text *out);
/* "losses, finetuning, ..." */
void coh_plot_kind_names(coh_text *out);
bool coh_plot_is_kind(const char *name);

/* ---- figures of a run ----------------------------------------------------------------
 */

/* loss, accuracy, lr, l0: over the steps, mean and range of the members. */
int coh_plot_training(coh_figures *, const char *metrics, const coh_config *,
                      coh_error *err);
/* losses: of each student over the steps. */
int coh_plot_students(coh_figures *, const char *metrics, const coh_config *,
                      coh_error *err);
/* finetuning: of the recovered network. */
int coh_plot_finetuning(coh_figures *, const char *metrics, const coh_config *,
                        coh_error *err);
/* dendrogram, distances, cuts (of tree.h5), alignment, sizes (of clusters.csv), neurons
 * (of neurons.csv), stability (of stability.csv): of each hidden layer whose files are in
 * the folder. */
int coh_plot_clusters(coh_figures *, const char *folder, const coh_config *,
                      coh_error *err);
/* weights: input weights of the first hidden layer's neurons as images (where there are
 * 784 or 3072 of them) or rows, each beside that of the teacher (NULL: not known) which
 * neurons.csv in `folder` pairs it with. */
int coh_plot_recovered(coh_figures *, const char *folder, const char *teacher,
                       size_t member, coh_error *err);
/* layers: weights of every layer of a model's first member (of those of the set), and
 * their histograms; weights that are exactly 0 where others of the layer are not were
 * pruned, and stay blank. */
int coh_plot_layers(coh_figures *, const char *model, coh_error *err);

/* ---- figures of many runs ------------------------------------------------------------
 */

/* One axis of a figure: a column of the table. */
typedef struct coh_plot_axis {
  const char *name; /* NULL: choose */
  enum { COH_SCALE_AUTO, COH_SCALE_LINEAR, COH_SCALE_LOG } scale;
  enum { COH_BEST_AUTO, COH_BEST_LEAST, COH_BEST_MOST } best; /* for pareto */
} coh_plot_axis;

typedef struct coh_plot_sweep {
  const coh_table *runs; /* as runs.csv of a sub-batch, or of a merge */
  coh_plot_axis x, y, z;
  size_t n_state; /* runs by status; 0: those of the table */
  const char *const *state;
  const size_t *count;
} coh_plot_sweep;

/* measure (against each parameter that varies), heatmap, pareto, parallel, status. */
int coh_plot_runs(coh_figures *, const coh_plot_sweep *, coh_error *err);
/* The measure that says how good a run is, as far as its name tells; NULL: there is no
 * measure. Borrowed from the table. *most: more is better. */
const char *coh_main_measure(const coh_table *, bool *most);
/* Columns worth showing: what tells the runs apart, and the measures. shown [n_col]. */
void coh_runs_columns(const coh_table *, bool *shown);

/* ---- the page ------------------------------------------------------------------------
 */

typedef struct coh_page_table {
  const char *title;
  const coh_table *table;
  const bool *shown; /* [n_col]; NULL: all */
} coh_page_table;

typedef struct coh_page {
  const char *title, *summary;
  const char *files; /* folder of the figures' files, relative to the page */
  size_t n_table;
  const coh_page_table *table;
  const char *ini;      /* NULL: none */
  const char *manifest; /* text of manifest.json; NULL: none */
} coh_page;

/* One self-contained file: no network, no other file needed. Figures are those of the
 * set that were drawn as SVG. */
int coh_page_write(const char *path, const coh_page *, const coh_figures *,
                   coh_error *err);

#endif
