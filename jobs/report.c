/* report.c - what an extraction found: clusters.csv, neurons.csv, tree.h5, the table that
 * people read, and the measures of its row in runs.csv. Rank 0 only. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "extraction.h"

/* Cosine distance below which a teacher's neuron counts as matched in the printed table.
 */
static const double NEAR = 1e-3;

/* ---- clusters
 * ------------------------------------------------------------------------------ */

static void count_states(const coh_clustering *c, size_t count[COH_CLUSTER_STATES]) {
  memset(count, 0, COH_CLUSTER_STATES * sizeof *count);
  for (size_t k = 0; k < c->n_clusters; k++) count[c->cluster[k].state]++;
}

static int write_clusters(const extraction *x, coh_error *err) {
  int rc;
  char path[COH_PATH], n[4][32];
  coh_text csv = {0};
  coh_text_add(&csv,
               "layer,cluster,state,size,students,median_cosine_distance,votes,electors,"
               "spread,effect,loss_without,flat_students\n");
  for (size_t l = 0; l < x->n_layers; l++) {
    const coh_clustering *c = x->layer[l].cluster;
    for (size_t k = 0; k < c->n_clusters; k++) {
      const coh_cluster *q = &c->cluster[k];
      coh_text_add(&csv, "%zu,%zu,%s,%zu,%zu,%s", l + 1, k,
                   coh_cluster_state_name(q->state), q->size, q->students,
                   coh_real_text(q->median, n[0]));
      if (c->method == COH_ROBUST)
        coh_text_add(&csv, ",%zu,%zu,%s,%s,%s,%zu\n", q->votes, q->electors,
                     coh_real_text(q->spread, n[1]), coh_real_text(q->effect, n[2]),
                     coh_real_text(q->rise, n[3]), q->flat);
      else
        coh_text_add(&csv, ",,,,,,\n");
    }
  }
  COH_TRY(coh_text_check(&csv, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/clusters.csv", x->folder));
  COH_TRY(coh_file_write(path, csv.data, csv.len, err));
cleanup:
  coh_text_free(&csv);
  return rc;
}

/* Found width for every gamma and beta, a row for each pair. */
static int write_stability(const extraction *x, coh_error *err) {
  int rc;
  char path[COH_PATH], n[2][32];
  coh_text csv = {0};
  coh_text_add(&csv, "layer,gamma,beta,found_size\n");
  for (size_t l = 0; l < x->n_layers; l++) {
    const coh_stability *t = &x->layer[l].cluster->stability;
    for (size_t g = 0; t->size && g < t->n_gamma; g++)
      for (size_t b = 0; b < t->n_beta; b++)
        coh_text_add(&csv, "%zu,%s,%s,%zu\n", l + 1, coh_real_text(t->gamma[g], n[0]),
                     coh_real_text(t->beta[b], n[1]), t->size[g * t->n_beta + b]);
  }
  COH_TRY(coh_text_check(&csv, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/stability.csv", x->folder));
  COH_TRY(coh_file_write(path, csv.data, csv.len, err));
cleanup:
  coh_text_free(&csv);
  return rc;
}

static int write_trees(const extraction *x, coh_error *err) {
  char path[COH_PATH];
  const coh_clustering *layer[COH_MAX_LAYERS];
  for (size_t l = 0; l < x->n_layers; l++) layer[l] = x->layer[l].cluster;
  int rc = coh_format(path, sizeof path, err, "%s/tree.h5", x->folder);
  return rc ? rc : coh_trees_save(path, x->n_layers, layer, err);
}

/* ---- comparison with the teacher
 * --------------------------------------------------------------- */

/* Comparisons of all hidden layers, rebuilt and fine-tuned. */
typedef struct comparisons {
  size_t n;
  coh_comparison *before[COH_MAX_LAYERS], *after[COH_MAX_LAYERS];
  bool comparable; /* the widths agree, so parameter errors exist */
  double max, rmse;
} comparisons;

static void comparisons_free(comparisons *c) {
  for (size_t l = 0; l < c->n; l++) {
    coh_comparison_destroy(c->before[l]);
    coh_comparison_destroy(c->after[l]);
  }
}

static int compare(const extraction *x, comparisons *c, coh_error *err) {
  int rc;
  const teacher *t = x->teacher;
  c->n = t->plan.L - 1;
  COH_TRY(coh_compare_networks(&t->plan, t->params, &x->rebuilt, x->before, x->mask0,
                               c->before, err));
  COH_TRY(coh_compare_networks(&t->plan, t->params, &x->plan, x->after, x->mask0,
                               c->after, err));
  COH_TRY(coh_parameter_error(&t->plan, t->params, &x->plan, x->after, x->mask0,
                              &c->comparable, &c->max, &c->rmse, err));
cleanup:
  return rc;
}

static void csv_matches(coh_text *csv, size_t layer, const char *when,
                        const coh_comparison *c) {
  char n[4][32];
  for (size_t i = 0; i < c->true_size + c->n_excess; i++) {
    bool excess = i >= c->true_size;
    const coh_match *m = excess ? &c->excess[i - c->true_size] : &c->match[i];
    coh_text_add(csv, "%zu,%s,%s,%zu,", layer, when, excess ? "excess" : "teacher",
                 m->neuron);
    if (m->partner != SIZE_MAX) coh_text_add(csv, "%zu", m->partner);
    coh_text_add(csv, ",%s,%s,%s,%s\n", coh_real_text(m->w_distance, n[0]),
                 coh_real_text(m->a_distance, n[1]), coh_real_text(m->sign, n[2]),
                 coh_real_text(m->out_norm, n[3]));
  }
}

static int write_neurons(const extraction *x, const comparisons *c, coh_error *err) {
  int rc;
  char path[COH_PATH];
  coh_text csv = {0};
  coh_text_add(&csv,
               "layer,when,kind,neuron,partner,w_distance,a_distance,sign,out_norm\n");
  for (size_t l = 0; l < c->n; l++) {
    csv_matches(&csv, l + 1, "rebuilt", c->before[l]);
    csv_matches(&csv, l + 1, "finetuned", c->after[l]);
  }
  COH_TRY(coh_text_check(&csv, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/neurons.csv", x->folder));
  COH_TRY(coh_file_write(path, csv.data, csv.len, err));
cleanup:
  coh_text_free(&csv);
  return rc;
}

/* ---- the table
 * ------------------------------------------------------------------------------------ */

static void print_sizes(const coh_plan *p) {
  printf("%zu", p->d_in);
  for (size_t l = 0; l < p->L; l++) printf("-%zu", p->layer[l].out);
}

static void print_stability(const coh_stability *t) {
  printf("  width found, by gamma (down) and beta (across)\n        ");
  for (size_t b = 0; b < t->n_beta; b++) printf(" %5g", t->beta[b]);
  for (size_t g = 0; g < t->n_gamma; g++) {
    printf("\n  %6g", t->gamma[g]);
    for (size_t b = 0; b < t->n_beta; b++) printf(" %5zu", t->size[g * t->n_beta + b]);
  }
  printf("\n");
}

static void print_clusters(const extraction *x, size_t l) {
  size_t n[COH_CLUSTER_STATES];
  const coh_clustering *c = x->layer[l].cluster;
  count_states(c, n);
  if (c->method == COH_REFERENCE) {
    printf("layer %zu: %zu vectors in %zu clusters, cut at height %.3g: %zu kept, %zu "
           "small, %zu not aligned, %zu without a good student\n",
           l + 1, c->N * c->H, c->n_clusters, c->cut, n[COH_CLUSTER_KEPT],
           n[COH_CLUSTER_SMALL], n[COH_CLUSTER_UNALIGNED], n[COH_CLUSTER_NO_GOOD]);
    return;
  }
  printf("layer %zu: %zu neurons, %zu without copies and idle ones; clusters: %zu kept, "
         "%zu duplicate, %zu unneeded\n",
         l + 1, c->N * c->H, c->n_leaves, n[COH_CLUSTER_KEPT], n[COH_CLUSTER_DUPLICATE],
         n[COH_CLUSTER_UNNEEDED]);
  printf("  neuron  size  students  votes    spread    effect  loss without\n");
  for (size_t k = 0; k < c->K; k++) {
    const coh_cluster *q = &c->cluster[c->kept[k]];
    printf("  %6zu %5zu %9zu %3zu/%-3zu %8.1e  %8.1e      %8.1e%s\n", k, q->size,
           q->students, q->votes, q->electors, q->spread, q->effect, q->rise,
           q->flat ? "  flat channel" : "");
  }
  if (c->stability.size) print_stability(&c->stability);
}

static void print_comparison(const extraction *x, size_t l, const coh_comparison *before,
                             const coh_comparison *c) {
  const coh_clustering *k = x->layer[l].cluster;
  size_t near = 0;
  for (size_t i = 0; i < c->true_size; i++) near += c->match[i].w_distance < NEAR;
  printf(
      "  %zu neurons found, the teacher has %zu; %zu of these matched (cosine distance "
      "below %g), %zu found in excess\n",
      c->found_size, c->true_size, near, NEAR, c->n_excess);
  printf(
      "  teacher    |out|  recovered  students    cosine distance of input weights   of "
      "output weights\n");
  printf("   neuron              neuron              rebuilt      fine-tuned          "
         "fine-tuned\n");
  for (size_t i = 0; i < c->true_size; i++) {
    const coh_match *m = &c->match[i];
    printf("  %7zu %8.3g", m->neuron, m->out_norm);
    if (m->partner == SIZE_MAX) {
      printf("       none\n");
      continue;
    }
    printf(" %10zu %9zu %18.1e %15.1e %19.1e\n", m->partner,
           x->alone ? 1 : k->cluster[k->kept[m->partner]].students,
           before->match[i].w_distance, m->w_distance, m->a_distance);
  }
}

static void print_table(const extraction *x, const comparisons *c) {
  const teacher *t = x->teacher;
  printf("\nrecovered network ");
  print_sizes(&x->plan);
  if (t->known) {
    printf(", teacher ");
    print_sizes(&t->plan);
  }
  printf(", from %zu students\n", x->N);
  for (size_t l = 0; l < x->n_layers; l++) {
    print_clusters(x, l);
    if (t->known) print_comparison(x, l, c->before[l], c->after[l]);
  }
  printf("loss over the query set: students %.3g best, %.3g median; %.3g rebuilt, %.3g "
         "fine-tuned\n",
         x->student_best, x->student_median, x->loss_before, x->loss_after);
  if (x->reverted)
    printf("fine-tuning raised the loss, so the rebuilt network is kept: it stands under "
           "fine-tuned above, and in recovered.h5\n");
  if (x->alone)
    printf("the recovered network stems from one student alone: that of the clusters was "
           "worse\n");
  if (!(x->loss_kept <= 10 * x->student_median))
    printf(
        "the recovered network is worse than the students: neurons are missing or mixed; "
        "look at clusters.csv, train the students to a lower loss, or change gamma and "
        "beta\n");
  if (t->known && c->comparable)
    printf("parameters after resolving symmetries: rmse %.2e, largest error %.2e\n",
           c->rmse, c->max);
  printf("files: %s\n", x->folder);
  fflush(stdout);
}

/* ---- measures
 * -----------------------------------------------------------------------------------------
 */

static int add_layer_measures(const extraction *x, const comparisons *c, size_t l,
                              coh_measures *m, coh_error *err) {
  int rc;
  char name[64];
  const struct {
    const char *name;
    double value;
  } of_teacher[] = {
      {"true_size", x->teacher->known ? (double)c->after[l]->true_size : NAN},
      {"excess", x->teacher->known ? (double)c->after[l]->n_excess : NAN},
      {"w_max", x->teacher->known ? c->after[l]->w_max : NAN},
      {"w_mean", x->teacher->known ? c->after[l]->w_mean : NAN},
      {"a_max", x->teacher->known ? c->after[l]->a_max : NAN},
      {"a_mean", x->teacher->known ? c->after[l]->a_mean : NAN}};
  COH_TRY(coh_format(name, sizeof name, err, "layer%zu_found_size", l + 1));
  COH_TRY(coh_measures_add(m, name, (double)x->plan.layer[l].out, err));
  COH_TRY(coh_format(name, sizeof name, err, "layer%zu_cut_height", l + 1));
  COH_TRY(coh_measures_add(m, name, x->layer[l].cluster->cut, err));
  for (size_t i = 0; x->teacher->known && i < 6; i++) {
    COH_TRY(coh_format(name, sizeof name, err, "layer%zu_%s", l + 1, of_teacher[i].name));
    COH_TRY(coh_measures_add(m, name, of_teacher[i].value, err));
  }
cleanup:
  return rc;
}

static int add_measures(const extraction *x, const comparisons *c, coh_measures *m,
                        coh_error *err) {
  int rc = COH_OK;
  for (size_t l = 0; l < x->n_layers; l++) COH_TRY(add_layer_measures(x, c, l, m, err));
  COH_TRY(coh_measures_add(m, "loss_rebuilt", x->loss_before, err));
  COH_TRY(coh_measures_add(m, "loss_finetuned", x->loss_after, err));
  COH_TRY(coh_measures_add(m, "loss_recovered", x->loss_kept, err));
  if (x->teacher->known && c->comparable) {
    COH_TRY(coh_measures_add(m, "parameter_rmse", c->rmse, err));
    COH_TRY(coh_measures_add(m, "parameter_max_error", c->max, err));
  }
cleanup:
  return rc;
}

int extraction_report(const extraction *x, coh_measures *m, coh_error *err) {
  int rc;
  comparisons c = {0};
  COH_TRY(write_clusters(x, err));
  COH_TRY(write_trees(x, err));
  if (x->job->cfg.extraction.stability) COH_TRY(write_stability(x, err));
  if (x->teacher->known) {
    COH_TRY(compare(x, &c, err));
    COH_TRY(write_neurons(x, &c, err));
  }
  COH_TRY(add_measures(x, &c, m, err));
  if (!x->job->batch) print_table(x, &c); /* a sweep has a table of its own */
cleanup:
  comparisons_free(&c);
  return rc;
}
