/* filter.c - which clusters are large and aligned enough to be a neuron. Uses base, comm.
 */
#include "extract/private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Puts the value of rank `want` at v[want], smaller ones before it (Hoare's quickselect).
 */
static void select_rank(size_t count, double *v, size_t want) {
  size_t low = 0, high = count - 1;
  while (low < high) {
    double pivot = v[low + (high - low) / 2];
    size_t i = low, j = high;
    for (;;) {
      while (v[i] < pivot) i++;
      while (v[j] > pivot) j--;
      if (i >= j) break;
      double t = v[i];
      v[i++] = v[j];
      v[j--] = t;
    }
    if (want <= j)
      high = j;
    else
      low = j + 1;
  }
}

double coh_median(size_t count, double *v) {
  size_t half = count / 2;
  select_rank(count, v, half);
  if (count % 2) return v[half];
  double below = v[0];
  for (size_t i = 1; i < half; i++) below = fmax(below, v[i]);
  return (below + v[half]) / 2;
}

/* The vectors of one cluster, next to each other. */
typedef struct group {
  size_t cluster, m;
  size_t *member; /* [m] ascending */
  double *f;      /* [m, D] */
} group;

static void collect(const coh_layer_work *k, group *g) {
  size_t D = k->view->D;
  g->m = 0;
  for (size_t i = 0; i < k->n; i++) {
    if (k->out->label[i] != g->cluster) continue;
    memcpy(g->f + g->m * D, k->f + i * D, D * sizeof *g->f);
    g->member[g->m++] = i;
  }
}

/* The member of least total distance to the others, the first of equals. d condensed. */
static size_t medoid(size_t m, const double *d) {
  size_t best = 0;
  double least = INFINITY;
  for (size_t i = 0; i < m; i++) {
    double sum = 0;
    for (size_t j = 0; j < m; j++)
      if (j != i) sum += d[i < j ? coh_pair(m, i, j) : coh_pair(m, j, i)];
    if (sum < least) least = sum, best = i;
  }
  return best;
}

/* Signs that agree with the medoid of the cluster, in g, in k->f and in the result. */
static int sign_by_medoid(coh_layer_work *k, group *g, coh_error *err) {
  int rc;
  size_t D = k->view->D;
  const uint8_t *mask = k->view->mask;
  double *d = NULL;
  COH_TRY(coh_distances(MPI_COMM_SELF,
                        &(coh_vectors){.n = g->m,
                                       .D = D,
                                       .f = g->f,
                                       .mask = mask,
                                       .metric = k->opt->metric,
                                       .symmetric = true},
                        &d, err));
  const double *centre = k->f + g->member[medoid(g->m, d)] * D;
  for (size_t i = 0; i < g->m; i++) {
    double dot = 0, *f = g->f + i * D;
    for (size_t c = 0; c < D; c++)
      if (!mask || mask[c]) dot += f[c] * centre[c];
    if (dot >= 0) continue;
    k->out->sign[g->member[i]] = -1;
    for (size_t c = 0; c < D; c++) f[c] = -f[c];
  }
  for (size_t i = 0; i < g->m; i++)
    memcpy(k->f + g->member[i] * D, g->f + i * D, D * sizeof *g->f);
cleanup:
  free(d);
  return rc;
}

/* Step 7: the median pairwise cosine distance. */
static int alignment(const coh_layer_work *k, const group *g, double *median,
                     coh_error *err) {
  int rc;
  double *d = NULL;
  COH_TRY(coh_distances(MPI_COMM_SELF,
                        &(coh_vectors){.n = g->m,
                                       .D = k->view->D,
                                       .f = g->f,
                                       .mask = k->view->mask,
                                       .metric = COH_COSINE},
                        &d, err));
  *median = coh_median(g->m * (g->m - 1) / 2, d);
cleanup:
  free(d);
  return rc;
}

/* Sizes, and how many students have a member; returns the largest size. */
static size_t count_members(coh_layer_work *k) {
  coh_clustering *c = k->out;
  size_t largest = 0;
  for (size_t i = 0; i < k->n; i++) {
    coh_cluster *x = &c->cluster[c->label[i]];
    size_t student = i / c->H;
    /* students come in order, so a cluster's last student so far is enough to know */
    if (x->size == 0 || x->student != student) x->students++, x->student = student;
    if (++x->size > largest) largest = x->size;
  }
  return largest;
}

/* Steps 6 and 7 for one cluster. */
static int judge(coh_layer_work *k, group *g, coh_error *err) {
  int rc = COH_OK;
  coh_cluster *c = &k->out->cluster[g->cluster];
  c->median = NAN;
  c->student = SIZE_MAX;
  c->state = COH_CLUSTER_SMALL;
  if (c->size < k->min_size) return COH_OK;
  collect(k, g);
  if (k->by_distance) COH_TRY(sign_by_medoid(k, g, err));
  COH_TRY(alignment(k, g, &c->median, err));
  /* an angle of exactly pi/beta is not above it; medians are good to 1e-12 */
  bool aligned = c->median <= (1 - cos(acos(-1) / k->opt->beta)) * (1 + 1e-12);
  c->state = aligned ? COH_CLUSTER_KEPT : COH_CLUSTER_UNALIGNED;
cleanup:
  return rc;
}

int coh_layer_filter(coh_layer_work *k, coh_error *err) {
  int rc;
  group g = {0};
  COH_TRY(coh_alloc(&k->out->cluster, k->out->n_clusters, sizeof *k->out->cluster, err));
  COH_TRY(coh_alloc(&k->out->kept, k->out->n_clusters, sizeof *k->out->kept, err));
  size_t largest = count_members(k);
  COH_TRY(coh_alloc(&g.member, largest, sizeof *g.member, err));
  COH_TRY(coh_alloc(&g.f, largest * k->view->D, sizeof *g.f, err));
  for (; g.cluster < k->out->n_clusters; g.cluster++) COH_TRY(judge(k, &g, err));
cleanup:
  free(g.f);
  free(g.member);
  return rc;
}
