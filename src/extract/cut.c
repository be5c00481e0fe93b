/* cut.c - where to cut the tree of merges, and the clusters that gives. Uses base. */
#include "cohort/extract.h"

#include <math.h>
#include <stdlib.h>

static size_t size_of(size_t n, const coh_merge *merges, size_t id) {
  return id < n ? 1 : merges[id - n].size;
}

/* Change in the number of clusters of at least min_size members by merge k. */
static long large_change(size_t n, const coh_merge *merges, size_t k, size_t min_size) {
  const coh_merge *m = &merges[k];
  return (long)(m->size >= min_size) - (long)(size_of(n, merges, m->a) >= min_size) -
         (long)(size_of(n, merges, m->b) >= min_size);
}

/* One past the last merge at the height of merge k. */
static size_t group_end(size_t n, const coh_merge *merges, size_t k) {
  size_t end = k + 1;
  while (end + 1 < n && merges[end].height == merges[k].height) end++;
  return end;
}

static size_t count_large(size_t n, const coh_merge *merges, double height,
                          size_t min_size) {
  long large = min_size <= 1 ? (long)n : 0;
  for (size_t k = 0; k + 1 < n && merges[k].height <= height; k++)
    large += large_change(n, merges, k, min_size);
  return (size_t)large;
}

static double most_clusters(size_t n, const coh_merge *merges, size_t min_size) {
  long large = min_size <= 1 ? (long)n : 0, most = -1;
  double height = 0;
  bool in_run = false;
  for (size_t k = 0, end; k + 1 < n; k = end) {
    end = group_end(n, merges, k);
    for (size_t i = k; i < end; i++) large += large_change(n, merges, i, min_size);
    if (large > most || (large == most && in_run)) {
      most = large;
      height = merges[k].height;
      in_run = true;
    } else {
      in_run = false;
    }
  }
  return height;
}

static int first_plateau(size_t n, const coh_merge *merges, double *height,
                         coh_error *err) {
  double widest = 0;
  for (size_t k = 0; k + 2 < n; k++) {
    double gap = merges[k + 1].height - merges[k].height;
    if (gap > 0.1) {
      *height = merges[k].height + 0.95 * gap;
      return COH_OK;
    }
    widest = fmax(widest, gap);
  }
  return coh_fail(
      err, COH_ENUMERIC,
      "cut = plateau: no gap above 0.1 between consecutive merge heights (the "
      "widest is %g); use another cut, or train to a lower loss",
      widest);
}

static int fixed_count(size_t n, const coh_merge *merges, size_t clusters, double *height,
                       coh_error *err) {
  if (clusters < 1 || clusters > n)
    return coh_fail(err, COH_EUSAGE, "cut = count: %zu clusters of %zu vectors", clusters,
                    n);
  *height = clusters < n ? merges[n - clusters - 1].height
                         : nextafter(merges[0].height, -INFINITY);
  return COH_OK;
}

int coh_cut_height(size_t n, const coh_merge *merges, coh_cut how, size_t min_size,
                   size_t clusters, double beta, double *height, size_t *n_large,
                   coh_error *err) {
  int rc = COH_OK;
  if (n < 2)
    return coh_fail(err, COH_EUSAGE, "a cut needs at least two vectors, not %zu", n);
  switch (how) {
  case COH_CUT_MAX_CLUSTERS:
    *height = most_clusters(n, merges, min_size);
    break;
  case COH_CUT_COUNT:
    rc = fixed_count(n, merges, clusters, height, err);
    break;
  case COH_CUT_PLATEAU:
    rc = first_plateau(n, merges, height, err);
    break;
  case COH_CUT_ANGLE:
    *height = 1 - cos(acos(-1) / beta);
    break;
  }
  if (rc == COH_OK) *n_large = count_large(n, merges, *height, min_size);
  return rc;
}

size_t coh_cut_labels(size_t n, const coh_merge *merges, double height, size_t *label) {
  size_t ids = n > 0 ? 2 * n - 1 : 0, found = 0;
  size_t *top = malloc((ids + 1) * sizeof *top),
         *number = malloc((ids + 1) * sizeof *number);
  if (top && number) {
    for (size_t i = 0; i < ids; i++) top[i] = i, number[i] = SIZE_MAX;
    size_t joined = 0;
    while (joined + 1 < n && merges[joined].height <= height) joined++;
    for (size_t k = joined; k-- > 0;) /* the later merge knows its top already */
      top[merges[k].a] = top[merges[k].b] = top[n + k];
    for (size_t i = 0; i < n; i++) {
      if (number[top[i]] == SIZE_MAX) number[top[i]] = found++;
      label[i] = number[top[i]];
    }
  }
  free(number);
  free(top);
  return found;
}
