/* rebuild.h - the networks around clustering: what a layer of the students looks like to
 * it, the students that remain above a clustered layer, the network that is rebuilt. Uses
 * base, config, data, net, extract. Host arrays, float64.
 *
 * Lower layers that are reconstructed are the same in all students and held fixed, so
 * they are not trained at all: their outputs become the data of smaller students. Letters
 * as in extract.h; F_l, the features that layer l reads: F_0 = X,  F_l = A_{l-1} where
 * signs leave nothing linear behind, F_l = [A_{l-1} | F_{l-1}]  for the even_linear
 * classes (the linear path).
 */
#ifndef COHORT_REBUILD_H
#define COHORT_REBUILD_H

#include "cohort/data.h"
#include "cohort/extract.h"

/* Layer 0 of N plain dense networks `upper` (params [N, P]) as clustering sees it. The
 * arrays w and a are allocated; loss [N] and mask [D] are borrowed. Freed by
 * coh_layer_view_free. */
int coh_layer_view_of(const coh_plan *upper, size_t N, const double *params,
                      const double *loss, const uint8_t *mask, coh_layer_view *out,
                      coh_error *err);
void coh_layer_view_free(coh_layer_view *);

/* The students that remain when layer 0 of `upper` was clustered into c->K neurons: they
 * read the next features. *next_params: [N, next->P], freed by the caller. */
int coh_upper_next(const coh_plan *upper, size_t N, const double *params,
                   const coh_clustering *c, coh_symmetry sym, coh_plan *next,
                   double **next_params, coh_error *err);

/* Next features [n, *width] of dtype from the present ones [n, D - 1]: w [K, D] is the
 * layer. Allocated, freed by the caller. */
int coh_features_next(coh_device *dev, coh_act act, size_t n, const void *features,
                      size_t K, size_t D, const double *w, bool keep_linear, void **out,
                      size_t *width, coh_error *err);

/* Reconstructed layers, lowest first. Start with {0}. */
typedef struct coh_rebuilt {
  coh_act act;
  bool linear; /* even_linear class: layers >= 1 have a linear path */
  size_t L;    /* hidden layers so far */
  size_t K[COH_MAX_LAYERS], D[COH_MAX_LAYERS];
  double *w[COH_MAX_LAYERS]; /* [K, D], bias last */
} coh_rebuilt;
int coh_rebuilt_add(coh_rebuilt *, size_t K, size_t D, const double *w, coh_error *err);
void coh_rebuilt_free(coh_rebuilt *);

/* The whole network: hidden layers and an output layer a [K_last, O], bias [O], and, with
 * a linear path, theta [D_last - 1, O] over the features of the last hidden layer (else
 * NULL). *params: [P], freed by the caller. */
int coh_rebuilt_network(const coh_rebuilt *, size_t O, const double *a,
                        const double *bias, const double *theta, coh_plan *plan,
                        double **params, coh_error *err);

/* ---- the network once it is fine-tuned ------------------------------------------- */

/* A network without the neurons of hidden layer `layer` that its answers do not need:
 * those that are copies of others, idle, or cancel. What the layers above read of it is
 * fitted to what they read before, over sampled rows of `data`, and the neuron that is
 * missed least goes, up to `most` of them, for as long as that changes the answers by no
 * more than `allowed` in the mean square, to first order. If none does, one neuron may go
 * whose readings cancel in the answers. Linear paths stay. kept [K]
 * ascending out of `of` neurons; params [P]. */
typedef struct coh_pruned {
  size_t of, K, *kept;
  coh_plan plan;
  double *params;
} coh_pruned;
int coh_prune_layer(const coh_plan *, const double *params, size_t layer,
                    const coh_dataset *data, double allowed, size_t most, coh_pruned *out,
                    coh_error *err);
void coh_pruned_free(coh_pruned *);

/* The network without its linear paths. Where these stem from neurons that are the wrong
 * way round, those are turned around and it computes the same (of up to 14 neurons of a
 * layer the best choice, else one that no other neuron makes better); what else they hold
 * is lost. A network without paths is copied. *out_params: freed by the caller. */
int coh_without_paths(const coh_plan *, const double *params, coh_plan *out,
                      double **out_params, coh_error *err);

/* Weights [out_q, out_l] on the way from the activation of hidden layer q < l into layer
 * l: its own, or a part of its linear path; NULL if it has none. */
const double *coh_weights_between(const coh_plan *, const double *params, size_t q,
                                  size_t l);

/* Neurons of hidden layer l of any network as compare sees them: w [H, D] with D = in + 1
 * (paths around the layer below left out), a [H, O]. Allocated, freed by the caller. */
int coh_neurons_of(const coh_plan *, const double *params, size_t layer, double **w,
                   double **a, coh_error *err);

/* Comparison of every hidden layer of a recovered network with the teacher's (same depth;
 * else COH_EUSAGE): out[l] for l in [0, L - 1), each freed by coh_comparison_destroy.
 * Above the first layer both sides are brought into the teacher's order of neurons, signs
 * and lengths by the optimal assignment of the layers around; a neuron without a partner
 * counts as weight 0. mask [d_in + 1] of the first layer, or NULL. */
int coh_compare_networks(const coh_plan *teacher, const double *tp, const coh_plan *found,
                         const double *fp, const uint8_t *mask, coh_comparison **out,
                         coh_error *err);

#endif
