/* expand.c - whether students are wide enough, from their losses. Training them is the
 * job's. Uses base. */
#include "cohort/extract.h"

#include <math.h>
#include <stdlib.h>

static const double near_best = 10, fall = 2; /* factors between losses */

static void judge_width(size_t N, size_t n, const double *sorted, double floor,
                        coh_expand_width *w) {
  *w = (coh_expand_width){.best = INFINITY, .median = INFINITY};
  if (n == 0) return;
  w->best = sorted[0];
  w->median = coh_median_of_sorted(sorted, n);
  double level = fmax(floor, near_best * w->best);
  while (w->minimal < n && sorted[w->minimal] <= level) w->minimal++;
  w->consistent = 4 * w->minimal >= 3 * N;
}

int coh_expand_judge(const coh_expand_width *before, size_t N, const double *loss,
                     double floor, coh_expand_width *out, coh_expand_verdict *verdict,
                     coh_error *err) {
  double *sorted = NULL;
  size_t n = 0;
  int rc = coh_alloc(&sorted, N, sizeof *sorted, err);
  if (rc) return rc;
  for (size_t i = 0; i < N; i++)
    if (isfinite(loss[i])) sorted[n++] = loss[i];
  coh_sort(sorted, n);
  judge_width(N, n, sorted, floor, out);
  free(sorted);
  *verdict = COH_EXPAND_WIDEN;
  if (out->consistent && out->median <= floor)
    *verdict = COH_EXPAND_STOP;
  else if (out->consistent && before && before->consistent &&
           fall * out->median > before->median)
    *verdict = COH_EXPAND_BACK;
  return COH_OK;
}
