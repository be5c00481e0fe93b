/* sweep.h - what sweep.c and compare.c share. */
#ifndef COHORT_PLOT_SWEEP_H
#define COHORT_PLOT_SWEEP_H

#include "plot/frame.h"

/* The runs, and which columns are looked at. */
typedef struct coh_sweep_view {
  const coh_frame *frame;
  const coh_column *x;      /* NULL: not asked for */
  const coh_column *y, *z;  /* the measure; of heat maps */
  const coh_column *y_axis; /* of heat maps; NULL: not asked for */
} coh_sweep_view;

/* "set xlabel 'before name [unit]'" */
void coh_axis_label(const char *axis, const coh_column *, const char *before,
                    coh_text *out);
/* Scale and tics of an axis of numbers; n runs. */
void coh_axis_numbers(const char *axis, const coh_column *, bool log, size_t n,
                      coh_text *out);
bool coh_axis_is_log(const coh_plot_axis *wish, const coh_column *, size_t n);
/* Tics with the column's values, at their places. */
void coh_axis_values(const char *axis, const coh_column *, coh_text *out);

int coh_plot_pareto(coh_figures *, const coh_plot_sweep *, const coh_sweep_view *,
                    coh_error *err);
int coh_plot_parallel(coh_figures *, const coh_sweep_view *, coh_error *err);
int coh_plot_status(coh_figures *, const coh_plot_sweep *, coh_error *err);

#endif
