/* linkage.c - agglomerative clustering by the nearest-neighbour chain, over all ranks.
 * Uses base, comm.
 *
 * F. Murtagh 1983; D. Muellner, "Modern hierarchical, agglomerative clustering
 * algorithms", arXiv 1109.2378. The order of comparisons and of arithmetic is that of
 * scipy.cluster.hierarchy, so that ties give the same tree.
 *
 * Each rank looks for the nearest cluster among the pairs of its rows, and all agree on
 * the least; to merge, the rows below need those of one row, which is broadcast. Time
 * goes into reading memory: half of a cluster's distances lie one to a row, far from each
 * other, and are fetched ahead; the other half lie in one row, which is read through,
 * merged clusters included, as that is faster than to skip them.
 */
#include "extract/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows fetched ahead; minima taken side by side; from how many vectors on ranks search
 * together (for fewer, agreeing takes longer than what it saves). */
enum { AHEAD = 64, LANES = 32, DEAL = 8192 };

#if defined __x86_64__ && !defined __SANITIZE_ADDRESS__
#define WIDE __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define WIDE
#endif

/* A row of this rank: pair (i, j) at data[at + j]. */
typedef struct place {
  size_t i;
  ptrdiff_t at;
} place;

typedef struct tree {
  coh_rows *m;
  size_t n;
  double *size;  /* [n] members; 0 = merged away */
  double *gone;  /* [n] infinity where merged away, else 0 */
  size_t lowest; /* live cluster */
  place *live;   /* [n_live] this rank's live rows, ascending */
  size_t n_live;
  size_t *chain;   /* [n + 1] */
  double *height;  /* [n + 1] distance of chain[k - 1] and chain[k] */
  double *row;     /* [n] the merged cluster's row */
  double *seen[2]; /* [n_live] what the last search and the one before saw in rows */
  size_t of[2];    /* clusters they looked from; n: none, or a merge ago */
} tree;

/* A cluster and its distance; laid out as MPI_DOUBLE_INT. */
typedef struct candidate {
  double distance;
  int index;
} candidate;

/* ---- search ------------------------------------------------------------------------ */

/* Least of row[j] + gone[j] over [0, n). */
WIDE static double row_least(const double *row, const double *gone, size_t n) {
  double lane[LANES], least = INFINITY;
  size_t j = 0;
  for (int k = 0; k < LANES; k++) lane[k] = INFINITY;
  for (; j + LANES <= n; j += LANES)
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
      double d = row[j + k] + gone[j + k];
      lane[k] = d < lane[k] ? d : lane[k];
    }
  for (int k = 0; k < LANES; k++) least = lane[k] < least ? lane[k] : least;
  for (; j < n; j++) least = row[j] + gone[j] < least ? row[j] + gone[j] : least;
  return least;
}

/* Reads the pairs (i, x) of this rank's live rows i < x. */
static double *look(tree *t, size_t x) {
  double *seen = t->seen[1];
  const double *column = t->m->data + x;
  t->seen[1] = t->seen[0], t->of[1] = t->of[0];
  t->seen[0] = seen, t->of[0] = x;
  for (size_t k = 0; k < t->n_live && t->live[k].i < x; k++) {
    if (k + AHEAD < t->n_live) __builtin_prefetch(column + t->live[k + AHEAD].at, 0, 2);
    seen[k] = column[t->live[k].at];
  }
  return seen;
}

/* Among this rank's pairs, the first live cluster nearer to x than `least`, if any. */
static candidate nearest_here(tree *t, size_t x, double least) {
  candidate best = {least, INT32_MAX};
  const double *seen = look(t, x);
  for (size_t k = 0; k < t->n_live && t->live[k].i < x; k++)
    if (seen[k] < best.distance) best = (candidate){seen[k], (int)t->live[k].i};
  if (x % (size_t)t->m->size != (size_t)t->m->rank) return best;
  const double *row = t->m->data + coh_rows_at(t->m, x) + x + 1, *gone = t->gone + x + 1;
  double d = row_least(row, gone, t->n - x - 1);
  if (!(d < best.distance)) return best;
  size_t j = 0;
  while (row[j] + gone[j] != d) j++;
  return (candidate){d, (int)(x + 1 + j)};
}

/* The live cluster nearest to x: `before`, at `least`, unless there is one that is nearer
 * (of the nearest ones, the first). */
static int nearest(tree *t, size_t x, size_t before, double least, size_t *y,
                   double *distance, coh_error *err) {
  int rc = COH_OK;
  candidate mine = nearest_here(t, x, least), all = mine;
  if (t->m->size > 1)
    COH_MPI(MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE_INT, MPI_MINLOC, t->m->comm));
  *distance = all.distance;
  *y = all.index == INT32_MAX ? before : (size_t)all.index;
cleanup:
  return rc;
}

/* ---- merge ------------------------------------------------------------------------- */

typedef struct join {
  coh_linkage kind;
  double nx, ny;
} join;

static inline double joined(const join *j, double dx, double dy) {
  if (j->kind == COH_AVERAGE) return (j->nx * dx + j->ny * dy) / (j->nx + j->ny);
  return dx > dy ? dx : dy;
}

/* dy [n] = joined(dx, dy) */
WIDE static void join_rows(join j, size_t n, const double *dx, double *dy) {
  if (j.kind == COH_AVERAGE) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) dy[i] = (j.nx * dx[i] + j.ny * dy[i]) / (j.nx + j.ny);
  } else {
#pragma omp simd
    for (size_t i = 0; i < n; i++) dy[i] = dx[i] > dy[i] ? dx[i] : dy[i];
  }
}

/* Pairs of y, given those of x < y behind x in dx, and what the searches of both saw in
 * the rows before them. */
static void join_here(const tree *t, join j, size_t x, size_t y, const double *seen_x,
                      const double *seen_y, const double *dx) {
  double *column = t->m->data + y;
  for (size_t k = 0; k < t->n_live && t->live[k].i < y; k++) {
    if (k + AHEAD < t->n_live) __builtin_prefetch(column + t->live[k + AHEAD].at, 1, 2);
    size_t i = t->live[k].i;
    if (i != x) column[t->live[k].at] = joined(&j, i < x ? seen_x[k] : dx[i], seen_y[k]);
  }
  if (y % (size_t)t->m->size == (size_t)t->m->rank)
    join_rows(j, t->n - y - 1, dx + y + 1, t->m->data + coh_rows_at(t->m, y) + y + 1);
}

/* No longer a cluster. */
static void remove_cluster(tree *t, size_t x) {
  t->size[x] = 0;
  t->gone[x] = INFINITY;
  while (t->lowest < t->n && t->size[t->lowest] == 0) t->lowest++;
  size_t k = 0;
  while (k < t->n_live && t->live[k].i < x) k++;
  if (k < t->n_live && t->live[k].i == x)
    memmove(t->live + k, t->live + k + 1, (--t->n_live - k) * sizeof *t->live);
}

/* x < y become one cluster in the place of y. */
static int merge(tree *t, size_t x, size_t y, coh_linkage kind, coh_error *err) {
  int rc = COH_OK, owner = (int)(x % (size_t)t->m->size);
  double *dx = t->row + x + 1; /* of clusters x + 1, ... */
  size_t other = t->of[0] == x ? y : x;
  if (t->of[1] != other) look(t, other);
  if (t->m->rank == owner) dx = t->m->data + coh_rows_at(t->m, x) + x + 1;
  if (t->m->size > 1)
    COH_MPI(MPI_Bcast(dx, (int)(t->n - x - 1), MPI_DOUBLE, owner, t->m->comm));
  join j = {kind, t->size[x], t->size[y]};
  join_here(t, j, x, y, t->seen[t->of[0] != x], t->seen[t->of[0] != y], dx - x - 1);
  t->size[y] += t->size[x];
  remove_cluster(t, x);
  t->of[0] = t->of[1] = t->n;
cleanup:
  return rc;
}

/* Merges in the order found: a < b name the places of the two clusters. */
static int run_chain(tree *t, coh_linkage kind, coh_merge *merges, coh_error *err) {
  int rc = COH_OK;
  size_t length = 0;
  for (size_t k = 0; k + 1 < t->n; k++) {
    if (length == 0) t->chain[length] = t->lowest, t->height[length++] = INFINITY;
    for (;;) {
      size_t x = t->chain[length - 1], before = length > 1 ? t->chain[length - 2] : x;
      COH_TRY(nearest(t, x, before, t->height[length - 1], &t->chain[length],
                      &t->height[length], err));
      if (t->chain[length] == before) break;
      length++;
    }
    size_t x = t->chain[length - 1], y = t->chain[length];
    size_t low = x < y ? x : y, high = x < y ? y : x;
    merges[k] = (coh_merge){low, high, 0, t->height[length]};
    COH_TRY(merge(t, low, high, kind, err));
    length -= 2;
  }
cleanup:
  return rc;
}

/* ---- the tree ---------------------------------------------------------------------- */

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
static void label_merges(size_t n, size_t *root, coh_merge *merges) {
  for (size_t i = 0; i < 2 * n - 1; i++) root[i] = i;
  for (size_t k = 0; k + 1 < n; k++) {
    size_t a = find(root, merges[k].a), b = find(root, merges[k].b);
    size_t sa = a < n ? 1 : merges[a - n].size;
    size_t sb = b < n ? 1 : merges[b - n].size;
    root[a] = root[b] = n + k;
    merges[k].a = a < b ? a : b;
    merges[k].b = a < b ? b : a;
    merges[k].size = sa + sb;
  }
}

static int check_distances(const tree *t, coh_error *err) {
  for (size_t k = 0; k < t->n_live; k++)
    for (size_t i = t->live[k].i, j = i + 1; j < t->n; j++) {
      double d = t->m->data[t->live[k].at + (ptrdiff_t)j];
      if (!(d >= 0) || isinf(d))
        return coh_fail(err, COH_ENUMERIC,
                        "linkage: the distance of vectors %zu and %zu is %g", i, j, d);
    }
  return COH_OK;
}

static int tree_init(tree *t, coh_error *err) {
  int rc;
  size_t rows = coh_rows_count(t->m, t->m->rank), ranks = (size_t)t->m->size;
  COH_TRY(coh_alloc(&t->size, t->n, sizeof *t->size, err));
  COH_TRY(coh_alloc(&t->gone, t->n, sizeof *t->gone, err));
  COH_TRY(coh_alloc(&t->live, rows, sizeof *t->live, err));
  COH_TRY(coh_alloc(&t->chain, t->n + 1, sizeof *t->chain, err));
  COH_TRY(coh_alloc(&t->height, t->n + 1, sizeof *t->height, err));
  COH_TRY(coh_alloc(&t->row, t->n, sizeof *t->row, err));
  COH_TRY(coh_alloc(&t->seen[0], rows, sizeof *t->seen[0], err));
  COH_TRY(coh_alloc(&t->seen[1], rows, sizeof *t->seen[1], err));
  t->of[0] = t->of[1] = t->n;
  for (size_t i = 0; i < t->n; i++) t->size[i] = 1;
  for (size_t i = (size_t)t->m->rank; i < t->n; i += ranks)
    t->live[t->n_live++] = (place){i, coh_rows_at(t->m, i)};
  COH_TRY(check_distances(t, err));
cleanup:
  return rc;
}

static void tree_free(tree *t) {
  free(t->seen[1]);
  free(t->seen[0]);
  free(t->row);
  free(t->height);
  free(t->chain);
  free(t->live);
  free(t->gone);
  free(t->size);
}

/* Merges found become the linkage matrix. */
static int finish(size_t n, coh_merge *merges, coh_error *err) {
  int rc;
  size_t *root = NULL;
  coh_merge *temp = NULL;
  COH_TRY(coh_alloc(&root, 2 * n, sizeof *root, err));
  COH_TRY(coh_alloc(&temp, n, sizeof *temp, err));
  sort_merges(n - 1, merges, temp);
  label_merges(n, root, merges);
cleanup:
  free(temp);
  free(root);
  return rc;
}

int coh_rows_link(coh_rows *m, coh_linkage kind, coh_merge *merges, coh_error *err) {
  int rc;
  tree t = {.m = m, .n = m->n};
  COH_TRY(coh_agree(m->comm, tree_init(&t, err), err));
  COH_TRY(run_chain(&t, kind, merges, err));
  COH_TRY(coh_agree(m->comm, finish(m->n, merges, err), err));
cleanup:
  tree_free(&t);
  return rc;
}

int coh_link(size_t n, double *dist, coh_linkage kind, coh_merge *merges,
             coh_error *err) {
  coh_rows m = {.comm = MPI_COMM_SELF, .size = 1, .n = n, .data = dist};
  return n < 2 ? COH_OK : coh_rows_link(&m, kind, merges, err);
}

/* On ranks but rank 0 the merges are scratch. */
static int link_dealt(MPI_Comm comm, const coh_vectors *v, coh_linkage kind,
                      coh_merge *merges, coh_error *err) {
  int rc;
  coh_rows m = {0};
  coh_merge *own = NULL;
  COH_TRY(coh_rows_distances(comm, v, &m, err));
  if (m.rank != 0) rc = coh_alloc(&own, m.n, sizeof *own, err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(coh_rows_link(&m, kind, m.rank == 0 ? merges : own, err));
cleanup:
  free(own);
  free(m.data);
  return rc;
}

static int link_alone(MPI_Comm comm, const coh_vectors *v, coh_linkage kind,
                      coh_merge *merges, coh_error *err) {
  int rc;
  double *dist = NULL;
  COH_TRY(coh_distances(comm, v, &dist, err));
  if (dist) rc = coh_link(v->n, dist, kind, merges, err);
  COH_TRY(coh_agree(comm, rc, err));
cleanup:
  free(dist);
  return rc;
}

int coh_tree_by(size_t deal, MPI_Comm comm, const coh_vectors *v, coh_linkage kind,
                coh_merge *merges, coh_error *err) {
  int rc;
  struct {
    uint64_t n, kind;
  } told = {v->n, kind};
  COH_TRY(coh_bcast(comm, &told, sizeof told, 0, err));
  bool dealt = told.n >= deal && told.n >= 2;
  COH_TRY(
      (dealt ? link_dealt : link_alone)(comm, v, (coh_linkage)told.kind, merges, err));
cleanup:
  return rc;
}

int coh_tree(MPI_Comm comm, const coh_vectors *v, coh_linkage kind, coh_merge *merges,
             coh_error *err) {
  return coh_tree_by(DEAL, comm, v, kind, merges, err);
}
