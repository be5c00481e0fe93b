/* assign.c - optimal one-to-one assignment. Uses base. */
#include "extract/private.h"

#include <math.h>
#include <stdlib.h>

typedef struct search {
  size_t rows, cols; /* rows <= cols */
  const double *cost;
  size_t step_row, step_col; /* element (i, j) of cost is [i * step_row + j * step_col] */
  double *u, *v;             /* prices [rows], [cols + 1]; column `cols` is a start */
  double *slack;             /* [cols + 1] */
  size_t *row_of;            /* [cols + 1] row assigned to a column, SIZE_MAX = none */
  size_t *before;            /* [cols + 1] column before on the path */
  bool *done;                /* [cols + 1] */
} search;

/* Scans from column j's row: updates slack, returns the open column of least slack. */
static size_t scan(search *s, size_t j, double *least) {
  size_t i = s->row_of[j], next = s->cols;
  *least = INFINITY;
  for (size_t c = 0; c < s->cols; c++) {
    if (s->done[c]) continue;
    double reduced = s->cost[i * s->step_row + c * s->step_col] - s->u[i] - s->v[c];
    if (reduced < s->slack[c]) {
      s->slack[c] = reduced;
      s->before[c] = j;
    }
    if (s->slack[c] < *least) {
      *least = s->slack[c];
      next = c;
    }
  }
  return next;
}

/* Adds row i to the assignment along the shortest augmenting path. */
static void augment(search *s, size_t i) {
  size_t j = s->cols;
  s->row_of[j] = i;
  for (size_t c = 0; c <= s->cols; c++) s->slack[c] = INFINITY, s->done[c] = false;
  do {
    double least;
    s->done[j] = true;
    size_t next = scan(s, j, &least);
    for (size_t c = 0; c <= s->cols; c++) {
      if (s->done[c]) {
        s->u[s->row_of[c]] += least;
        s->v[c] -= least;
      } else {
        s->slack[c] -= least;
      }
    }
    j = next;
  } while (s->row_of[j] != SIZE_MAX);
  while (j != s->cols) {
    size_t b = s->before[j];
    s->row_of[j] = s->row_of[b];
    j = b;
  }
}

static int allocate(search *s, coh_error *err) {
  int rc;
  COH_TRY(coh_alloc(&s->u, s->rows, sizeof *s->u, err));
  COH_TRY(coh_alloc(&s->v, s->cols + 1, sizeof *s->v, err));
  COH_TRY(coh_alloc(&s->slack, s->cols + 1, sizeof *s->slack, err));
  COH_TRY(coh_alloc(&s->row_of, s->cols + 1, sizeof *s->row_of, err));
  COH_TRY(coh_alloc(&s->before, s->cols + 1, sizeof *s->before, err));
  COH_TRY(coh_alloc(&s->done, s->cols + 1, sizeof *s->done, err));
cleanup:
  return rc;
}

int coh_assign(size_t rows, size_t cols, const double *cost, size_t *col_of,
               coh_error *err) {
  int rc;
  bool wide = rows <= cols;
  search s = {.rows = wide ? rows : cols, .cols = wide ? cols : rows, .cost = cost};
  s.step_row = wide ? cols : 1;
  s.step_col = wide ? 1 : cols;
  COH_TRY(allocate(&s, err));
  for (size_t c = 0; c <= s.cols; c++) s.row_of[c] = SIZE_MAX;
  for (size_t i = 0; i < s.rows; i++) augment(&s, i);
  for (size_t i = 0; i < rows; i++) col_of[i] = SIZE_MAX;
  for (size_t c = 0; c < s.cols; c++) {
    if (s.row_of[c] == SIZE_MAX) continue;
    if (wide)
      col_of[s.row_of[c]] = c;
    else
      col_of[c] = s.row_of[c];
  }
cleanup:
  free(s.done);
  free(s.before);
  free(s.row_of);
  free(s.slack);
  free(s.v);
  free(s.u);
  return rc;
}
