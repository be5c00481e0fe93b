/* collapse.c - each cluster that passed becomes one neuron. Uses base. */
#include "extract/private.h"

#include <stdlib.h>

enum { BEST = 5 }; /* students that a cluster may be averaged over */

/* best[BEST]: students of lowest loss, the first of equals first; returns how many. */
static size_t best_students(size_t N, const double *loss, size_t best[BEST]) {
  size_t found = 0;
  for (size_t s = 0; s < N; s++) {
    size_t at = found;
    while (at > 0 && loss[s] < loss[best[at - 1]]) at--;
    if (at == BEST) continue;
    if (found < BEST) found++;
    for (size_t i = found - 1; i > at; i--) best[i] = best[i - 1];
    best[at] = s;
  }
  return found;
}

/* The first of the best students with a member in cluster c, SIZE_MAX if there is none.
 */
static size_t student_of(const coh_clustering *c, size_t cluster, size_t count,
                         const size_t best[BEST]) {
  for (size_t b = 0; b < count; b++)
    for (size_t h = 0; h < c->H; h++)
      if (c->label[best[b] * c->H + h] == cluster) return best[b];
  return SIZE_MAX;
}

static void choose_students(coh_layer_work *k) {
  coh_clustering *c = k->out;
  size_t best[BEST], count = best_students(c->N, k->view->loss, best);
  for (size_t i = 0; i < c->n_clusters; i++) {
    coh_cluster *x = &c->cluster[i];
    if (x->state != COH_CLUSTER_KEPT) continue;
    x->student = student_of(c, i, count, best);
    if (x->student != SIZE_MAX) {
      c->kept[c->K++] = i;
      continue;
    }
    x->state = COH_CLUSTER_NO_GOOD;
    coh_say(k->sink, COH_WARN,
            "cluster %zu (%zu neurons of %zu students) dropped: none of the %zu best "
            "students has a neuron in it",
            i, x->size, x->students, count);
  }
}

static int report(const coh_layer_work *k, coh_error *err) {
  const coh_clustering *c = k->out;
  size_t n[COH_CLUSTER_NO_GOOD + 1] = {0};
  for (size_t i = 0; i < c->n_clusters; i++) n[c->cluster[i].state]++;
  if (c->K == 0)
    return coh_fail(
        err, COH_ENUMERIC,
        "no cluster survives: of %zu, %zu have fewer than %zu neurons, %zu are "
        "not aligned within pi/%g, %zu are not in the best students; lower "
        "gamma or beta, or train the students to a lower loss",
        c->n_clusters, n[COH_CLUSTER_SMALL], k->min_size, n[COH_CLUSTER_UNALIGNED],
        k->opt->beta, n[COH_CLUSTER_NO_GOOD]);
  coh_say(k->sink, COH_INFO,
          "%zu clusters at height %g: %zu kept, %zu small, %zu unaligned, %zu not in the "
          "best students",
          c->n_clusters, c->cut, c->K, n[COH_CLUSTER_SMALL], n[COH_CLUSTER_UNALIGNED],
          n[COH_CLUSTER_NO_GOOD]);
  return COH_OK;
}

static bool flips_output(const coh_layer_work *k) {
  return k->opt->symmetry == COH_SYM_ODD || k->opt->symmetry == COH_SYM_ODD_CONSTANT;
}

/* Outgoing row of vector i, times `factor`, added to out[O]. */
static void add_outgoing(const coh_layer_work *k, size_t i, double factor, double *out) {
  const double *a = k->view->a + i * k->view->O;
  for (size_t o = 0; o < k->view->O; o++) out[o] += factor * k->out->norm[i] * a[o];
}

/* What a flipped member leaves to the layer above. f holds the flipped vector, hence the
 * minus: sigma(z) = 1 - sigma(-z), or sigma(z) = sigma(-z) + c z with z of the original.
 */
static void add_remainder(const coh_layer_work *k, size_t i) {
  size_t D = k->view->D, O = k->view->O, student = i / k->view->H;
  if (k->out->constant) add_outgoing(k, i, 1, k->out->constant + student * O);
  for (size_t d = 0; d < D && k->out->linear; d++)
    add_outgoing(k, i, -k->opt->linear_part * k->f[i * D + d],
                 k->out->linear + (student * D + d) * O);
}

/* Kept cluster number `kept`. */
static void collapse_one(const coh_layer_work *k, size_t kept) {
  coh_clustering *c = k->out;
  size_t cluster = c->kept[kept], student = c->cluster[cluster].student, members = 0;
  double *w = c->w + kept * c->D;
  for (size_t i = 0; i < k->n; i++) {
    if (c->label[i] != cluster) continue;
    size_t s = i / c->H;
    double factor = flips_output(k) ? c->sign[i] : 1;
    if (!k->opt->last_hidden)
      add_outgoing(k, i, factor, c->a + (s * c->K + kept) * c->O);
    else if (s == student)
      add_outgoing(k, i, factor, c->a + kept * c->O);
    if (c->sign[i] < 0) add_remainder(k, i);
    if (s != student) continue;
    members++;
    for (size_t d = 0; d < c->D; d++) w[d] += k->f[i * c->D + d];
  }
  for (size_t d = 0; d < c->D; d++) w[d] /= (double)members;
}

int coh_layer_collapse(coh_layer_work *k, coh_error *err) {
  int rc;
  coh_clustering *c = k->out;
  choose_students(k);
  COH_TRY(report(k, err));
  size_t outputs = k->opt->last_hidden ? c->O : c->N * c->O;
  COH_TRY(coh_alloc(&c->w, c->K * c->D, sizeof *c->w, err));
  COH_TRY(coh_alloc(&c->a, c->K * outputs, sizeof *c->a, err));
  if (k->opt->symmetry == COH_SYM_ODD_CONSTANT)
    COH_TRY(coh_alloc(&c->constant, c->N * c->O, sizeof *c->constant, err));
  if (coh_symmetry_is_even_linear(k->opt->symmetry))
    COH_TRY(coh_alloc(&c->linear, c->N * c->D * c->O, sizeof *c->linear, err));
  for (size_t i = 0; i < c->K; i++) collapse_one(k, i);
cleanup:
  return rc;
}
