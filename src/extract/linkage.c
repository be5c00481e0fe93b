/* linkage.c - agglomerative clustering by the nearest-neighbour chain. Uses base.
 *
 * F. Murtagh 1983; D. Muellner, "Modern hierarchical, agglomerative clustering
 * algorithms", arXiv 1109.2378. The order of comparisons and of arithmetic is that of
 * scipy.cluster.hierarchy, so that ties give the same tree.
 */
#include "cohort/extract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct tree {
  size_t n;
  double *dist;  /* condensed, of the clusters now alive */
  size_t *size;  /* [n] members; 0 = merged away */
  size_t *alive; /* [n_alive] ascending */
  size_t n_alive;
  size_t *chain;   /* [n] */
  size_t *root;    /* [n] union-find over vectors, then [2n - 1] over ids */
  coh_merge *temp; /* [n - 1] for the merge sort */
} tree;

static double *at(const tree *t, size_t i, size_t j) {
  return t->dist + (i < j ? coh_pair(t->n, i, j) : coh_pair(t->n, j, i));
}

static int check_distances(size_t n, const double *dist, coh_error *err) {
  for (size_t i = 0; i < n; i++)
    for (size_t j = i + 1; j < n; j++) {
      double d = dist[coh_pair(n, i, j)];
      if (!(d >= 0) || isinf(d))
        return coh_fail(err, COH_ENUMERIC,
                        "linkage: the distance of vectors %zu and %zu is %g", i, j, d);
    }
  return COH_OK;
}

/* Nearest live cluster of x: `y` at `best` unless a lower distance exists (lowest index).
 */
static size_t nearest(const tree *t, size_t x, size_t y, double *best) {
  double least = *best;
  size_t k = 0;
  for (; k < t->n_alive && t->alive[k] < x; k++) {
    double d = t->dist[coh_pair(t->n, t->alive[k], x)];
    if (d < least) least = d, y = t->alive[k];
  }
  const double *row = t->dist + x * t->n - x * (x + 1) / 2;
  for (; k < t->n_alive; k++) {
    size_t i = t->alive[k];
    if (i == x) continue;
    double d = row[i - x - 1];
    if (d < least) least = d, y = i;
  }
  *best = least;
  return y;
}

/* x < y become one cluster in the place of y. */
static void join(tree *t, size_t x, size_t y, coh_linkage kind) {
  double nx = (double)t->size[x], ny = (double)t->size[y];
  t->size[y] += t->size[x];
  t->size[x] = 0;
  size_t k = 0;
  while (t->alive[k] != x) k++;
  memmove(t->alive + k, t->alive + k + 1, (--t->n_alive - k) * sizeof *t->alive);
  for (k = 0; k < t->n_alive; k++) {
    size_t i = t->alive[k];
    if (i == y) continue;
    double dx = *at(t, i, x), *dy = at(t, i, y);
    if (kind == COH_AVERAGE)
      *dy = (nx * dx + ny * *dy) / (nx + ny);
    else if (dx > *dy)
      *dy = dx;
  }
}

/* Merges in the order found: a < b name the places of the two clusters. */
static void run_chain(tree *t, coh_linkage kind, coh_merge *merges) {
  size_t length = 0;
  for (size_t k = 0; k + 1 < t->n; k++) {
    if (length == 0) t->chain[length++] = t->alive[0];
    size_t x, y;
    double height;
    for (;;) {
      x = t->chain[length - 1];
      size_t before = length > 1 ? t->chain[length - 2] : SIZE_MAX;
      height = length > 1 ? *at(t, x, before) : INFINITY;
      y = nearest(t, x, before, &height);
      if (y == before) break;
      t->chain[length++] = y;
    }
    length -= 2;
    size_t low = x < y ? x : y, high = x < y ? y : x;
    merges[k] = (coh_merge){low, high, t->size[low] + t->size[high], height};
    join(t, low, high, kind);
  }
}

/* Bottom-up merge sort by height: stable. */
static void sort_merges(size_t n, coh_merge *m, coh_merge *temp) {
  for (size_t run = 1; run < n; run *= 2) {
    for (size_t from = 0; from < n; from += 2 * run) {
      size_t mid = from + run < n ? from + run : n, end = mid + run < n ? mid + run : n;
      size_t a = from, b = mid;
      for (size_t k = from; k < end; k++)
        temp[k] = a < mid && (b >= end || m[a].height <= m[b].height) ? m[a++] : m[b++];
    }
    memcpy(m, temp, n * sizeof *m);
  }
}

static size_t find(size_t *root, size_t i) {
  while (root[i] != i) {
    root[i] = root[root[i]];
    i = root[i];
  }
  return i;
}

/* Places become ids: the smaller id first, n + k for the result of merge k. */
static void label_merges(tree *t, coh_merge *merges) {
  for (size_t i = 0; i < 2 * t->n - 1; i++) t->root[i] = i;
  for (size_t k = 0; k + 1 < t->n; k++) {
    size_t a = find(t->root, merges[k].a), b = find(t->root, merges[k].b);
    size_t sa = a < t->n ? 1 : merges[a - t->n].size;
    size_t sb = b < t->n ? 1 : merges[b - t->n].size;
    t->root[a] = t->root[b] = t->n + k;
    merges[k].a = a < b ? a : b;
    merges[k].b = a < b ? b : a;
    merges[k].size = sa + sb;
  }
}

int coh_link(size_t n, double *dist, coh_linkage kind, coh_merge *merges,
             coh_error *err) {
  int rc = COH_OK;
  tree t = {.n = n, .dist = dist, .n_alive = n};
  if (n < 2) return COH_OK;
  COH_TRY(check_distances(n, dist, err));
  COH_TRY(coh_alloc(&t.size, n, sizeof *t.size, err));
  COH_TRY(coh_alloc(&t.alive, n, sizeof *t.alive, err));
  COH_TRY(coh_alloc(&t.chain, n, sizeof *t.chain, err));
  COH_TRY(coh_alloc(&t.root, 2 * n, sizeof *t.root, err));
  COH_TRY(coh_alloc(&t.temp, n, sizeof *t.temp, err));
  for (size_t i = 0; i < n; i++) t.size[i] = 1, t.alive[i] = i;
  run_chain(&t, kind, merges);
  sort_merges(n - 1, merges, t.temp);
  label_merges(&t, merges);
cleanup:
  free(t.temp);
  free(t.root);
  free(t.chain);
  free(t.alive);
  free(t.size);
  return rc;
}
