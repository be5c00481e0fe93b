/* tamade.c - binary searches for the largest threshold of magnitudes that a bound on the
 * loss allows (section 3 of the compress contract), all networks at once. */
#include <math.h>
#include <stdlib.h>

#include "compress/private.h"

typedef struct bracket {
  double low, high, bound;
  bool over;
} bracket;

static double rounded(coh_dtype dtype, double x) {
  return dtype == COH_F32 ? (double)(float)x : x;
}

/* The next threshold to try; false where the bracket is narrow enough. */
static bool next_probe(const bracket *b, const coh_tamade_search *s, coh_dtype dtype,
                       double *mid) {
  if (!(rounded(dtype, b->high - b->low) > s->resolution)) return false;
  *mid = rounded(dtype, (b->low + b->high) / 2);
  return *mid != b->low && *mid != b->high;
}

/* Loss of all networks as they are. */
static int set_bounds(size_t N, coh_tamade_search *s, bracket *b, size_t *index,
                      double *threshold, double *loss, coh_tamade_loss *f, void *ctx,
                      coh_error *err) {
  for (size_t i = 0; i < N; i++) index[i] = i, threshold[i] = 0;
  int rc = f(ctx, N, index, threshold, loss, err);
  for (size_t i = 0; i < N && !rc; i++) b[i].bound = (1 + s[i].tolerance) * loss[i];
  return rc;
}

static void judge(coh_tamade_search *s, bracket *b, double mid, double loss) {
  s->steps++;
  if (loss <= b->bound) /* false for NaN */
    s->threshold = b->low = mid;
  else
    b->high = mid;
}

int coh_tamade(size_t N, coh_tamade_search *s, coh_dtype dtype, coh_tamade_loss *f,
               void *ctx, coh_error *err) {
  int rc;
  bracket *b = NULL;
  size_t *index = NULL, n;
  double *threshold = NULL, *loss = NULL;
  COH_TRY(coh_alloc(&b, N, sizeof *b, err));
  COH_TRY(coh_alloc(&index, N, sizeof *index, err));
  COH_TRY(coh_alloc(&threshold, N, sizeof *threshold, err));
  COH_TRY(coh_alloc(&loss, N, sizeof *loss, err));
  COH_TRY(set_bounds(N, s, b, index, threshold, loss, f, ctx, err));
  for (size_t i = 0; i < N; i++) {
    b[i].high = rounded(dtype, 2 * s[i].largest);
    s[i].threshold = 0;
    s[i].steps = 0;
  }
  for (;;) {
    n = 0;
    for (size_t i = 0; i < N; i++)
      if (next_probe(b + i, s + i, dtype, threshold + n)) index[n++] = i;
    if (n == 0) break;
    COH_TRY(f(ctx, n, index, threshold, loss, err));
    for (size_t k = 0; k < n; k++)
      judge(s + index[k], b + index[k], threshold[k], loss[k]);
  }
cleanup:
  free(b);
  free(index);
  free(threshold);
  free(loss);
  return rc;
}
