/* frame.h - a table of runs by its columns: parameters that vary, and measures. */
#ifndef COHORT_PLOT_FRAME_H
#define COHORT_PLOT_FRAME_H

#include "plot/private.h"

typedef struct coh_column {
  const char *name; /* borrowed from the table */
  enum { COH_COLUMN_OTHER, COH_COLUMN_PARAMETER, COH_COLUMN_SEED, COH_COLUMN_MEASURE } is;
  bool number;        /* every value that is there is a number */
  size_t n_value;     /* distinct ones */
  const char **value; /* [n_value] borrowed; ascending if they are numbers, else as they
                         come */
  double *at;         /* [rows] the number; of texts the place in `value`; NAN: none */
  size_t *place;      /* [rows] in `value`, SIZE_MAX: none */
} coh_column;

/* Only the rows that are done; columns that are the same in all of them are OTHER. */
typedef struct coh_frame {
  const coh_table *table;
  size_t n, n_col;
  size_t *row;     /* [n] of the table */
  coh_column *col; /* [n_col] as the table's */
} coh_frame;
int coh_frame_make(const coh_table *, coh_frame *, coh_error *err);
void coh_frame_free(coh_frame *);
/* NULL: there is none. */
const coh_column *coh_frame_column(const coh_frame *, const char *name);
/* Varying parameters but the seeds: fills `out`, at most `most`; returns how many. */
size_t coh_frame_axes(const coh_frame *, const coh_column **out, size_t most);
bool coh_measure_wants_most(const char *name);
/* The measure to look at first; not `but`. NULL: there is none. */
const coh_column *coh_frame_measure(const coh_frame *, const char *but);

#endif
