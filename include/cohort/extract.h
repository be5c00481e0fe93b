/* extract.h - from trained students to one network: distances, linkage, cut, alignment
 * filter, collapse, least squares, comparison with the teacher. Uses base, config, comm,
 * net.
 *
 * Follows Martinelli, Simsek, Gerstner, Brea, "Expand-and-Cluster", ICML 2024. Everything
 * here is float64 on the host. Letters: N students, H neurons a layer of each, n = N * H
 * vectors, D = inputs + 1 (the bias is the last component), O outgoing weights of a
 * neuron, K clusters. Functions that take a communicator are collective; their inputs
 * count on rank 0 only unless said otherwise, and so do their results.
 */
#ifndef COHORT_EXTRACT_H
#define COHORT_EXTRACT_H

#include "cohort/comm.h"
#include "cohort/net.h"

/* ---- symmetries (section 3 of the contract) --------------------------------------- */

typedef enum coh_symmetry {
  COH_SYM_NONE,                        /* g */
  COH_SYM_ODD,                         /* tanh, identity */
  COH_SYM_ODD_CONSTANT,                /* sigmoid */
  COH_SYM_EVEN_LINEAR,                 /* softplus, gelu, silu */
  COH_SYM_EVEN_LINEAR_POSITIVE_SCALING /* relu, leaky_relu */
} coh_symmetry;
coh_symmetry coh_act_symmetry(coh_act);
const char *coh_symmetry_name(coh_symmetry);
/* c of the identity sigma(z) = sigma(-z) + c z of the even_linear classes: 1, but 1.01
 * for leaky_relu (1 + its slope); 0 for the other classes. */
double coh_act_linear_part(coh_act);
static inline bool coh_symmetry_has_sign(coh_symmetry s) {
  return s != COH_SYM_NONE;
}
static inline bool coh_symmetry_is_even_linear(coh_symmetry s) {
  return s == COH_SYM_EVEN_LINEAR || s == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING;
}

/* ---- distances -------------------------------------------------------------------- */

/* Index of pair i < j in a condensed matrix of n (SciPy's order). */
static inline size_t coh_pair(size_t n, size_t i, size_t j) {
  return n * i - i * (i + 1) / 2 + (j - i - 1);
}

/* Vectors f [n, D] and how far apart they are, over the components with mask[d] != 0
 * (mask may be NULL): euclidean |u-v|, or cosine 1 - u.v/(|u||v|), or
 * relative |u-v| / sqrt((|u|^2 + |v|^2) / 2), the chord of the angle for equal lengths;
 * `symmetric`: the smaller of d(u,v) and d(u,-v). A zero vector has cosine distance 1
 * from every other. `gpu`: where the products are taken if there are enough of them to
 * gain by it and the GPU has room, else on the processor; NULL: always there. */
typedef struct coh_vectors {
  size_t n, D;
  const double *f;
  const uint8_t *mask;
  coh_metric metric;
  bool symmetric;
  const coh_device_wish *gpu; /* borrowed; of every rank its own */
} coh_vectors;

/* Condensed distances [n(n-1)/2] of vectors that count on rank 0 only, but for `gpu`.
 *
 * By the Gram matrix, panel by panel over all ranks. Pairs that the Gram matrix would
 * give to fewer digits (d^2 below (|u|^2 + |v|^2) / 100) are recomputed from the
 * difference of the vectors (cosine: |u-v|^2/2 of the normalised ones), and every squared
 * distance is rounded to 41 bits. So each is right to 1e-12 relative (cosine: that, or
 * the angle to 1e-15 radian, whichever is coarser) and the same bit for bit on any number
 * of ranks; with products of a GPU to 1e-10. COH_ENUMERIC if a component is not finite.
 * *out is allocated on rank 0, freed by the caller, NULL elsewhere. */
int coh_distances(MPI_Comm comm, const coh_vectors *, double **out, coh_error *err);
/* The same by plain loops, for tests: long double accumulation, no rounding. */
void coh_distances_plain(size_t n, size_t D, const double *f, const uint8_t *mask,
                         coh_metric metric, bool symmetric, double *out);

/* ---- linkage and cut --------------------------------------------------------------- */

/* Merge k joins clusters a < b (ids 0..n-1 are vectors, n + k is the result of merge k)
 * at height h into one of `size` vectors: the rows of SciPy's linkage matrix, sorted by
 * height. */
typedef struct coh_merge {
  size_t a, b, size;
  double height;
} coh_merge;
/* merges [n-1]; `dist` condensed, overwritten. Nearest-neighbour chain (Muellner 2011),
 * O(n^2), with SciPy's rules for ties (the chain prefers its previous element, then the
 * lowest index; stable sort by height). COH_ENUMERIC if a distance is negative or not
 * finite. */
int coh_link(size_t n, double *dist, coh_linkage kind, coh_merge *merges, coh_error *err);

/* coh_distances and coh_link in one, for any n: a large matrix stays dealt over the
 * ranks, which search and merge together, so that no rank needs memory for all of it. The
 * merges [n-1] count on rank 0 only: from the same distances the same bit for bit on any
 * number of ranks. Collective. */
int coh_tree(MPI_Comm comm, const coh_vectors *, coh_linkage kind, coh_merge *merges,
             coh_error *err);

/* Section 4.5: cut height chosen from the merges; merges of equal height go together.
 * max_clusters: of the heights of all merges, where most clusters have at least min_size
 * (= floor(gamma*N)) members, the last of the first run of consecutive such merges.
 * count: at most `clusters` clusters of any size, as many as ties allow (SciPy's
 * maxclust). plateau: the first gap above 0.1 between consecutive heights, 95 % along it
 * (COH_ENUMERIC if there is none). angle: 1 - cos(pi/beta). Returns the height (clusters
 * are what merges with height <= cut join) and, in *n_large, how many clusters of at
 * least min_size it gives. */
int coh_cut_height(size_t n, const coh_merge *merges, coh_cut how, size_t min_size,
                   size_t clusters, double beta, double *height, size_t *n_large,
                   coh_error *err);
/* label[n] = 0.. in order of first appearance; returns the number of clusters, 0 where
 * memory ran out. */
size_t coh_cut_labels(size_t n, const coh_merge *merges, double height, size_t *label);

/* ---- one layer --------------------------------------------------------------------- */

/* The query set as the layer reads it, and the students from this layer upwards: what
 * method = robust tells a neuron's part in the answers by. All borrowed. */
typedef struct coh_layer_data {
  coh_act act;
  size_t n, n_out;
  coh_dtype dtype;
  const void *x;        /* [n, D - 1] what the layer reads */
  const void *y;        /* [n, n_out] the teacher's answers */
  const coh_plan *plan; /* of one student; layer 0 is the one in hand */
  const double *params; /* [N, plan->P] */
} coh_layer_data;

typedef struct coh_layer_view {
  size_t N, H, D, O;
  const double *w;            /* [N, H, D], bias last */
  const double *a;            /* [N, H, O] outgoing weights */
  const double *loss;         /* [N] */
  const uint8_t *mask;        /* [D], last (bias) always 1; NULL = all */
  const coh_layer_data *data; /* for method = robust; else may be NULL */
} coh_layer_view;

/* canonical: which of u and -u stands for a neuron whose sign is free (a zero counts as
 * +). first: its first unmasked component is positive. largest: the component with the
 * largest mean absolute value over all n vectors is positive. distance: distances are
 * symmetric, and in a cluster every sign agrees with that of its medoid (least total
 * distance, lowest index). */
typedef struct coh_cluster_options {
  coh_method
      method; /* robust: of the following only symmetry, gamma, beta, last_hidden */
  coh_symmetry symmetry;
  double linear_part; /* coh_act_linear_part: not 0 for the even_linear classes */
  double gamma, beta;
  coh_linkage linkage;
  coh_metric metric;
  coh_canonical canonical;
  coh_cut cut;
  size_t clusters;
  bool last_hidden; /* collapse outgoing weights to the best student's sum only */
  bool stability;   /* robust: also the number of clusters for other gamma and beta */
  const coh_device_wish *gpu; /* borrowed: see coh_vectors */
} coh_cluster_options;
/* From [extraction]; last_hidden = false. COH_EUSAGE for cut = angle without metric =
 * cosine. */
int coh_cluster_options_of(const coh_config *, coh_act, coh_cluster_options *,
                           coh_error *);

typedef enum coh_cluster_state {
  COH_CLUSTER_KEPT,
  COH_CLUSTER_SMALL,     /* fewer than floor(gamma*N) members */
  COH_CLUSTER_UNALIGNED, /* median pairwise cosine distance above 1 - cos(pi/beta) */
  COH_CLUSTER_NO_GOOD,   /* no member in any of the best five students */
  /* method = robust only */
  COH_CLUSTER_UNNEEDED,  /* the answers are as good without it */
  COH_CLUSTER_DUPLICATE, /* unneeded, and within pi/beta of one that is kept */
  COH_CLUSTER_LEFTOVER,  /* all neurons that too few students agree on */
  COH_CLUSTER_IDLE       /* all neurons that add nothing: dead, constant, linear,
                            cancelling */
} coh_cluster_state;
enum { COH_CLUSTER_STATES = COH_CLUSTER_IDLE + 1 };
const char *coh_cluster_state_name(coh_cluster_state);

typedef struct coh_cluster {
  coh_cluster_state state;
  size_t size;     /* members */
  size_t students; /* distinct students among them */
  double median;   /* median pairwise cosine distance (masked, canonical); NAN if small */
  size_t student;  /* the student whose members were averaged; undefined unless kept */
  /* method = robust only, else 0 */
  size_t electors; /* students whose loss is too low to have missed it */
  size_t votes;    /* electors with a member */
  double spread;   /* average relative distance of its two halves: chord of their angle */
  double effect;   /* mean square of what it adds to a student's output, constant and
                      linear parts aside; median over the students */
  double rise;     /* of the mean square error, if it alone is left out */
  size_t flat;     /* students with members that lie close and cancel, so that they act as
                      a derivative: a flat channel (van Meegen et al. 2025) */
} coh_cluster;

/* Number of clusters kept for every gamma and beta of a grid. */
typedef struct coh_stability {
  size_t n_gamma, n_beta;
  const double *gamma, *beta; /* static */
  size_t *size;               /* [n_gamma, n_beta] */
} coh_stability;

typedef struct coh_clustering {
  coh_method method;
  size_t N, H, D, O;
  size_t n_leaves;   /* of the tree: n vectors; robust: what copies and idle ones left */
  coh_merge *merges; /* [n_leaves - 1] */
  size_t *leaf;      /* robust: [n] leaf that holds a vector, SIZE_MAX for idle ones */
  size_t *order;     /* [n_leaves] of coh_leaf_order */
  /* Distances of leaves that lie evenly in this order, at most COH_TREE_SHOWN. */
  size_t n_shown;
  size_t *shown;        /* [n_shown] places in the order */
  double *apart;        /* condensed [n_shown (n_shown - 1) / 2] */
  double cut;           /* robust: largest spread that pi/beta allows */
  size_t n_clusters;    /* all, kept or not */
  coh_cluster *cluster; /* [n_clusters] */
  size_t *label;        /* [n] index into cluster */
  double *sign; /* [n] +1 or -1 that made vectors canonical (canonical = distance: +1
                   in small clusters) */
  double *norm; /* [n] divisor of the scaling class, else 1 */
  size_t K;     /* kept clusters, in order of first member */
  size_t *kept; /* [K] index into cluster */
  double *w;    /* [K, D] collapsed input vectors */
  double *a;    /* [K, O] (last hidden) or [N, K, O]: outgoing sums */
  /* What flipping the signs of kept members left behind, to be added to the layer above:
   * odd_constant: constant [N, O] = sum of flipped members' outgoing rows (to the bias);
   * even_linear: linear [N, D, O] = c times the sum over flipped members of w_j outer a_j
   * (their original w_j; c = linear_part), bias row last. NULL for the other classes. */
  double *constant, *linear;
  coh_stability stability; /* where asked for */
} coh_clustering;

/* reference: steps 1-8 of section 4. robust: docs/robust.md; a (last hidden) and a,
 * constant, linear (else) are then least squares over sampled rows of the query set, of
 * the answers or of each student's next pre-activations, and constant is there for all
 * classes but even_linear. The view and the options count on rank 0 only and may be NULL
 * elsewhere; *out is NULL there. COH_EUSAGE when gamma*N < 2; COH_ENUMERIC when no
 * cluster survives (the message counts small, unaligned and lost ones) or a weight or
 * loss is not finite (names the student). */
int coh_cluster_layer(MPI_Comm comm, const coh_layer_view *, const coh_cluster_options *,
                      const coh_sink *, coh_clustering **out, coh_error *err);
void coh_clustering_destroy(coh_clustering *);

/* ---- the tree on file ---------------------------------------------------------------
 */

enum { COH_TREE_SHOWN = 400 };

/* order [n]: the leaves from left to right as a dendrogram has them, below each merge all
 * of a before all of b. */
int coh_leaf_order(size_t n, const coh_merge *merges, size_t *order, coh_error *err);

/* What the figures of a clustering are drawn from. */
typedef struct coh_dendrogram {
  size_t n;          /* leaves */
  coh_merge *merges; /* [n - 1] */
  size_t *order;     /* [n] */
  size_t *cluster;   /* [n] of each leaf: its row in clusters.csv */
  double cut;
  size_t n_shown; /* as in coh_clustering */
  size_t *shown;
  double *apart;
} coh_dendrogram;

#define COH_TREE_KIND "tree"
enum { COH_TREE_FORMAT = 1 };
/* The trees of L layers, in one archive of kind "tree": of each layer l = 1..L the arrays
 * layer<l>/merges [n - 1, 2], height [n - 1], order [n], cluster [n], cut, shown and
 * distance (condensed, float32). One process alone reads and writes. */
int coh_trees_save(const char *path, size_t L, const coh_clustering *const *layer,
                   coh_error *err);
/* *out [*L], ended by coh_trees_free. COH_EDATA where the file is not one of these. */
int coh_trees_load(const char *path, coh_dendrogram **out, size_t *L, coh_error *err);
void coh_trees_free(coh_dendrogram *, size_t L); /* NULL accepted */

/* ---- least squares ----------------------------------------------------------------- */

/* Fills columns [0, d + o) of row i of [X | Y]; called on any rank for any row. */
typedef void (*coh_fill_row)(void *ctx, size_t row, double *values);
/* theta [d, o] = argmin |X theta - Y|, of minimum norm where X is rank deficient
 * (singular values below rcond * largest count as zero; rcond < 0: machine precision).
 * Rows go through a ScaLAPACK QR (p?geqrf over all ranks) of [R; next rows of X | Y],
 * chunk by chunk, so memory does not grow with n; then LAPACK gelsd works on the small R
 * on rank 0. Each row is asked for once, on one rank. n, d, o and rcond must be the same
 * on every rank. theta is valid on every rank; *rank may be NULL. n >= 1 of any size.
 * COH_ENUMERIC if a value is not finite (names the row). */
int coh_lstsq(MPI_Comm comm, size_t n, size_t d, size_t o, coh_fill_row fill, void *ctx,
              double rcond, double *theta, size_t *rank, coh_error *err);

/* ---- comparison with the teacher (section 6) --------------------------------------- */

typedef struct coh_match {
  size_t neuron;     /* index in its own network */
  size_t partner;    /* nearest neuron of the other, SIZE_MAX if it has none */
  double w_distance; /* cosine, of [w; b] (absolute where the sign is free) */
  double a_distance; /* cosine, of outgoing weights (absolute for the odd classes) */
  double sign;       /* +1 or -1: sign that aligns the pair */
  double out_norm;   /* norm of the neuron's own outgoing weights */
} coh_match;

typedef struct coh_comparison {
  size_t true_size, found_size;
  coh_match *match; /* [true_size], teacher neurons by outgoing norm, largest first */
  size_t n_excess;
  coh_match *excess; /* recovered neurons that are nobody's partner, and their nearest */
  double w_max, w_mean, a_max, a_mean; /* over match; distances clipped below at 1e-16 */
  size_t *assigned; /* [true_size] one-to-one partner of teacher neuron i (least total w
                       distance), SIZE_MAX if none */
} coh_comparison;

/* teacher w [R, D], a [R, O]; recovered w [K, D], a [K, O]; mask [D] or NULL. Not
 * collective. With K = 0 every distance is 1 and nobody has a partner. */
int coh_compare(coh_symmetry, size_t R, const double *tw, const double *ta, size_t K,
                const double *w, const double *a, size_t D, size_t O, const uint8_t *mask,
                coh_comparison **out, coh_error *err);
void coh_comparison_destroy(coh_comparison *);

/* Parameter error after all symmetries are resolved. Layer by layer from the input, the
 * found network is brought to the teacher's order, signs and lengths: neurons are paired
 * by the least total distance of [w; b] (up to sign; of directions in the scaling class),
 * flips move into outgoing signs, biases above and linear paths, lengths of the scaling
 * class into outgoing weights. Then the largest |theta - theta*| and the root of the sum
 * of squares over the number of the teacher's parameters; linear paths the teacher lacks
 * are compared with 0 and enter both. mask [d_in] or NULL: inputs with mask 0 are left
 * out of both. Widths and activations must agree in every layer, else *comparable = false
 * and both numbers are NAN. params host float64. Not collective. */
int coh_parameter_error(const coh_plan *teacher, const double *tp, const coh_plan *found,
                        const double *fp, const uint8_t *mask, bool *comparable,
                        double *max, double *rmse, coh_error *err);

/* ---- expansion: how wide students must be ------------------------------------------ */

/* What the losses of students of one width come to. */
typedef struct coh_expand_width {
  double best, median; /* of the finite losses; infinity if there are none */
  size_t minimal;      /* students whose loss is minimal: at most `floor`, or 10 times the
                          best */
  bool consistent;     /* three quarters of all students are */
} coh_expand_width;

typedef enum coh_expand_verdict {
  COH_EXPAND_WIDEN, /* go on to wider students */
  COH_EXPAND_STOP,  /* these are wide enough: consistent, and their median within `floor`
                     */
  COH_EXPAND_BACK   /* consistent as those before, whose median was hardly higher (less
                       than twice): those were wide enough */
} coh_expand_verdict;

/* Judges N losses of students beside those of the width before (NULL: none), as the first
 * phase of Martinelli et al. does by eye: students are widened until their loss is
 * consistently minimal. floor: the loss that counts as none. */
int coh_expand_judge(const coh_expand_width *before, size_t N, const double *loss,
                     double floor, coh_expand_width *out, coh_expand_verdict *verdict,
                     coh_error *err);

#endif
