/* table.c - numbers out of CSV files and into them. Uses base, store. */
#include "plot/private.h"

#include <math.h>
#include <stdlib.h>

double coh_text_number(const char *cell) {
  char *end;
  double v = strtod(cell, &end);
  return end == cell || *end ? NAN : v;
}

const char *coh_cell(const coh_table *t, size_t row, const char *name) {
  size_t c = coh_table_column(t, name);
  return c < t->n_col ? t->cell[row * t->n_col + c] : "";
}

double coh_cell_number(const coh_table *t, size_t row, const char *name) {
  return coh_text_number(coh_cell(t, row, name));
}

void coh_csv_number(coh_text *out, double v) {
  char text[32];
  if (!isnan(v)) coh_text_add(out, "%s", coh_real_text(v, text));
}

bool coh_wants_log(size_t n, const double *v) {
  double least = INFINITY, most = 0;
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(v[i])) continue;
    if (v[i] <= 0) return false;
    least = fmin(least, v[i]);
    most = fmax(most, v[i]);
  }
  return most > 20 * least;
}

double coh_quantile(size_t n, const double *sorted, double q) {
  double at = q * (double)(n - 1), low = floor(at);
  size_t i = (size_t)low;
  if (i + 1 >= n) return sorted[n - 1];
  return sorted[i] + (at - low) * (sorted[i + 1] - sorted[i]);
}
