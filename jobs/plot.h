/* plot.h - figures and reports of what is in a results folder: `cohort plot`, `cohort
 * report`, and what [experiment] report asks for. */
#ifndef COHORT_JOBS_PLOT_H
#define COHORT_JOBS_PLOT_H

#include "cohort/plot.h"
#include "job.h"

/* What is to be drawn of it. */
typedef struct plot_wish {
  const char *path; /* as the user gave it */
  const char *out;  /* folder for everything; NULL: plots/ and report.html in the run's */
  unsigned formats; /* COH_PLOT_SVG | ... */
  size_t n_kind;
  const char **kind; /* owned by the caller */
  coh_plot_axis x, y, z;
  bool one; /* --run: only this run of a sweep */
  size_t run;
  bool page;  /* write the page, too */
  bool quiet; /* say nothing but what went wrong */
} plot_wish;

/* A run or a sweep as it was found. */
typedef struct plot_place {
  char folder[COH_PATH]; /* of the sweep, the run, or the extraction */
  enum { PLOT_RUN, PLOT_EXTRACTION, PLOT_SWEEP, PLOT_SINGLES } is;
  size_t first, members; /* of the pack's model; 0 members: all */
} plot_place;

/* Finds out what a path is: a folder of a run, of an extraction, a pack, results/<name>
 * or a sub-batch in it, or an INI file with results. COH_EUSAGE says what would be one.
 */
int plot_find(const char *path, plot_place *out, coh_error *err);

/* Makes of a sweep its run w->run: the folder of the pack, and the members in it. Files
 * go to plots/run-<n> in the sweep's folder, whose path is put to `out`, unless w->out is
 * set. */
int plot_find_run(const plot_wish *, plot_place *, char out[COH_PATH], coh_error *err);

/* plot_run.c, plot_sweep.c: of what was found. */
int plot_of_run(const plot_wish *, const plot_place *, coh_error *err);
int plot_of_sweep(const plot_wish *, const plot_place *, coh_error *err);

/* Where figures and page go, see plot_wish; the page's path to the figures in *files. */
int plot_folders(const plot_wish *, const char *folder, char figures[COH_PATH],
                 char page[COH_PATH], const char **files, coh_error *err);
/* Tells where the figures and the page are; COH_EDATA if there is nothing to draw at all
 * and no page. */
int plot_tell(const plot_wish *, const coh_figures *, const char *figures,
              const char *page, coh_error *err);

/* The report at the end of a job, where [experiment] report asks for it: rank 0. What
 * goes wrong is a warning. folder: of the run, the extraction or the sweep. */
void plot_at_end(const job *, const char *folder);

/* The same behind `cohort merge` of a sweep's folder: of its table alone, without MPI. */
void plot_after_merge(const char *folder);

int command_plot(int argc, char **argv);
int command_report(int argc, char **argv);

#endif
