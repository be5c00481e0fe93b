/* cluster.c - one layer of all students to one layer of the reconstruction: steps 1 to 8
 * of section 4 of the contract (Martinelli et al., ICML 2024). Steps 5 to 7 are in
 * filter.c, step 8 in collapse.c. Uses base, config, comm. */
#include "cohort/extract.h"
#include "extract/private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int coh_cluster_options_of(const coh_config *cfg, coh_act act, coh_cluster_options *out,
                           coh_error *err) {
  *out = (coh_cluster_options){
      .method = (coh_method)cfg->extraction.method,
      .symmetry = coh_act_symmetry(act),
      .linear_part = coh_act_linear_part(act),
      .gamma = cfg->extraction.gamma,
      .beta = cfg->extraction.beta,
      .linkage = (coh_linkage)cfg->extraction.linkage,
      .metric = (coh_metric)cfg->extraction.metric,
      .canonical = (coh_canonical)cfg->extraction.canonical,
      .cut = (coh_cut)cfg->extraction.cut,
      .clusters = cfg->extraction.clusters > 0 ? (size_t)cfg->extraction.clusters : 0,
      .stability = cfg->extraction.stability,
  };
  if (out->cut == COH_CUT_ANGLE && out->metric != COH_COSINE)
    return coh_fail(err, COH_EUSAGE,
                    "extraction.cut = angle needs extraction.metric = cosine");
  if (out->cut == COH_CUT_COUNT && out->clusters == 0)
    return coh_fail(err, COH_EUSAGE,
                    "extraction.cut = count needs extraction.clusters of at least 1");
  return COH_OK;
}

void coh_clustering_destroy(coh_clustering *c) {
  if (!c) return;
  free(c->stability.size);
  free(c->apart);
  free(c->shown);
  free(c->order);
  free(c->leaf);
  free(c->linear);
  free(c->constant);
  free(c->a);
  free(c->w);
  free(c->kept);
  free(c->norm);
  free(c->sign);
  free(c->label);
  free(c->cluster);
  free(c->merges);
  free(c);
}

static int check_values(const char *what, size_t N, size_t each, const double *v,
                        coh_error *err) {
  for (size_t i = 0; i < N * each; i++)
    if (!isfinite(v[i]))
      return coh_fail(err, COH_ENUMERIC, "student %zu: %s is %g", i / each, what, v[i]);
  return COH_OK;
}

static int check_view(const coh_layer_view *v, const coh_cluster_options *o,
                      coh_error *err) {
  int rc;
  if (v->N == 0 || v->H == 0 || v->D == 0)
    return coh_fail(err, COH_EUSAGE, "nothing to cluster: %zu students, %zu neurons each",
                    v->N, v->H);
  if (!(o->gamma * (double)v->N >= 2) || !(o->gamma <= 1))
    return coh_fail(err, COH_EUSAGE,
                    "extraction.gamma = %g of %zu students is %g; a cluster must hold at "
                    "least two neurons: use more students or a larger gamma (at most 1)",
                    o->gamma, v->N, o->gamma * (double)v->N);
  if (!(o->beta >= 1))
    return coh_fail(err, COH_EUSAGE,
                    "extraction.beta = %g, the divisor of pi, is below 1", o->beta);
  if (coh_symmetry_is_even_linear(o->symmetry) != (o->linear_part != 0))
    return coh_fail(err, COH_EBUG, "linear part %g for symmetry %s", o->linear_part,
                    coh_symmetry_name(o->symmetry));
  if (o->method == COH_ROBUST && (!v->data || v->data->n == 0))
    return coh_fail(err, COH_EBUG, "method = robust needs the query set");
  COH_TRY(check_values("a loss", v->N, 1, v->loss, err));
  COH_TRY(check_values("an input weight", v->N, v->H * v->D, v->w, err));
  COH_TRY(check_values("an output weight", v->N, v->H * v->O, v->a, err));
cleanup:
  return rc;
}

static int allocate(coh_layer_work *k, coh_error *err) {
  int rc;
  const coh_layer_view *v = k->view;
  coh_clustering *c;
  COH_TRY(coh_alloc(&k->out, 1, sizeof *k->out, err));
  c = k->out;
  c->method = k->opt->method;
  c->N = v->N, c->H = v->H, c->D = v->D, c->O = v->O;
  c->n_leaves = k->n;
  COH_TRY(coh_alloc(&k->f, k->n * v->D, sizeof *k->f, err));
  COH_TRY(coh_alloc(&c->merges, k->n, sizeof *c->merges, err));
  COH_TRY(coh_alloc(&c->label, k->n, sizeof *c->label, err));
  COH_TRY(coh_alloc(&c->sign, k->n, sizeof *c->sign, err));
  COH_TRY(coh_alloc(&c->norm, k->n, sizeof *c->norm, err));
cleanup:
  return rc;
}

/* Step 1: f = w / norm. */
static void normalise(coh_layer_work *k) {
  size_t D = k->view->D;
  for (size_t i = 0; i < k->n; i++) {
    const double *w = k->view->w + i * D;
    long double s = 0;
    for (size_t d = 0; d < D; d++) s += (long double)w[d] * w[d];
    bool scales = k->opt->symmetry == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING;
    k->out->norm[i] = scales && s > 0 ? (double)sqrtl(s) : 1;
    for (size_t d = 0; d < D; d++) k->f[i * D + d] = w[d] / k->out->norm[i];
  }
}

/* The component whose sign decides, for canonical = first or largest. */
static size_t deciding_component(const coh_layer_work *k) {
  size_t D = k->view->D, best = 0;
  const uint8_t *mask = k->view->mask;
  double most = -1;
  for (size_t d = 0; d < D; d++) {
    if (mask && !mask[d]) continue;
    if (k->opt->canonical == COH_CANON_FIRST) return d;
    double sum = 0;
    for (size_t i = 0; i < k->n; i++) sum += fabs(k->f[i * D + d]);
    if (sum > most) most = sum, best = d;
  }
  return best;
}

/* Step 2: signs, unless they are left to the clusters. */
static void canonicalise(coh_layer_work *k) {
  size_t D = k->view->D, decides = 0;
  bool now = coh_symmetry_has_sign(k->opt->symmetry) && !k->by_distance;
  if (now) decides = deciding_component(k);
  for (size_t i = 0; i < k->n; i++) {
    double *f = k->f + i * D;
    k->out->sign[i] = now && f[decides] < 0 ? -1 : 1;
    for (size_t d = 0; d < D && k->out->sign[i] < 0; d++) f[d] = -f[d];
  }
}

static int prepare(coh_layer_work *k, coh_error *err) {
  int rc;
  COH_TRY(check_view(k->view, k->opt, err));
  k->n = k->view->N * k->view->H;
  k->min_size = (size_t)floor(k->opt->gamma * (double)k->view->N);
  k->by_distance =
      k->opt->canonical == COH_CANON_DISTANCE && coh_symmetry_has_sign(k->opt->symmetry);
  COH_TRY(allocate(k, err));
  if (k->opt->method == COH_ROBUST) return COH_OK;
  normalise(k);
  canonicalise(k);
cleanup:
  return rc;
}

/* What the tree is made of: rank 0. */
typedef struct material {
  coh_vectors of;
  coh_linkage linkage;
  coh_merge *merges;
} material;

static int choose_material(coh_layer_work *k, material *m, coh_error *err) {
  const coh_cluster_options *o = k->opt;
  coh_vectors *v = &m->of;
  m->merges = k->out->merges;
  m->linkage = o->linkage;
  *v = (coh_vectors){.n = k->n,
                     .D = k->view->D,
                     .f = k->f,
                     .mask = k->view->mask,
                     .metric = o->metric,
                     .symmetric = k->by_distance};
  if (o->method == COH_REFERENCE) return COH_OK;
  v->mask = NULL;
  v->metric = COH_RELATIVE;
  v->symmetric = coh_symmetry_has_sign(o->symmetry);
  m->linkage = COH_AVERAGE;
  return coh_robust_prepare(k, &v->n, &v->D, &v->f, err);
}

/* The order of the leaves, and the distances of some of them. */
static int show_tree(coh_layer_work *k, const coh_vectors *v, coh_error *err) {
  int rc;
  coh_clustering *c = k->out;
  double *f = NULL;
  size_t m = v->n < COH_TREE_SHOWN ? v->n : COH_TREE_SHOWN;
  COH_TRY(coh_alloc(&c->order, v->n, sizeof *c->order, err));
  COH_TRY(coh_leaf_order(v->n, c->merges, c->order, err));
  COH_TRY(coh_alloc(&c->shown, m, sizeof *c->shown, err));
  COH_TRY(coh_alloc(&c->apart, m * m / 2 + 1, sizeof *c->apart, err));
  COH_TRY(coh_alloc(&f, m * v->D, sizeof *f, err));
  c->n_shown = m;
  for (size_t i = 0; i < m; i++) {
    c->shown[i] = (2 * i + 1) * v->n / (2 * m);
    memcpy(f + i * v->D, v->f + c->order[c->shown[i]] * v->D, v->D * sizeof *f);
  }
  coh_distances_plain(m, v->D, f, v->mask, v->metric, v->symmetric, c->apart);
cleanup:
  free(f);
  return rc;
}

/* Steps 5 to 8 on rank 0. */
static int cluster(coh_layer_work *k, coh_error *err) {
  int rc;
  const coh_cluster_options *o = k->opt;
  coh_clustering *c = k->out;
  size_t large;
  if (o->method == COH_ROBUST) return coh_robust_cluster(k, err);
  COH_TRY(coh_cut_height(k->n, c->merges, o->cut, k->min_size, o->clusters, o->beta,
                         &c->cut, &large, err));
  c->n_clusters = coh_cut_labels(k->n, c->merges, c->cut, c->label);
  if (c->n_clusters == 0)
    COH_TRY(coh_fail(err, COH_ENOMEM, "out of memory: labels of %zu vectors", k->n));
  COH_TRY(coh_layer_filter(k, err));
  COH_TRY(coh_layer_collapse(k, err));
cleanup:
  return rc;
}

int coh_cluster_layer(MPI_Comm comm, const coh_layer_view *view,
                      const coh_cluster_options *options, const coh_sink *sink,
                      coh_clustering **out, coh_error *err) {
  int rc, rank;
  coh_layer_work k = {.view = view, .opt = options, .sink = sink};
  material m = {0};
  *out = NULL;
  COH_MPI(MPI_Comm_rank(comm, &rank));
  if (rank == 0) rc = prepare(&k, err);
  if (rank == 0 && !rc) rc = choose_material(&k, &m, err);
  COH_TRY(coh_agree(comm, rc, err));
  if (options) m.of.gpu = options->gpu;
  COH_TRY(coh_tree(comm, &m.of, m.linkage, m.merges, err));
  if (rank == 0) rc = show_tree(&k, &m.of, err);
  if (rank == 0 && !rc) rc = cluster(&k, err);
  COH_TRY(coh_agree(comm, rc, err));
  *out = k.out;
  k.out = NULL;
cleanup:
  coh_robust_free(k.robust);
  coh_clustering_destroy(k.out);
  free(k.f);
  return rc;
}
