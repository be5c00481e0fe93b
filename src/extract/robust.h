/* robust.h - the pieces of method = robust, private to src/extract: what the query set
 * tells about a neuron (probe.c), one student without its copies (reduce.c), the neurons
 * that students agree on (votes.c), those that the answers need (needed.c). robust.c puts
 * them together; docs/robust.md says why. All of it runs on rank 0.
 */
#ifndef COHORT_EXTRACT_ROBUST_H
#define COHORT_EXTRACT_ROBUST_H

#include "cohort/extract.h"

/* ---- probe.c ---- */

/* Rows of the query set, evenly spaced, as the layer reads them. */
typedef struct coh_probe {
  coh_device *dev; /* CPU, float64 */
  coh_act act;
  coh_symmetry symmetry;
  size_t m, D;
  double *x; /* [m, D], the last component 1 */
} coh_probe;
int coh_probe_create(const coh_layer_data *, size_t D, coh_symmetry, size_t rows,
                     coh_probe *out, coh_error *err);
void coh_probe_free(coh_probe *);
/* Row of the query set that is row b of the probe. */
size_t coh_probe_row(const coh_layer_data *, const coh_probe *, size_t b);

/* *metric [*q, D], q = min(m, D): |metric w|^2 is the mean square of the pre-activation
 * of w. Components with mask 0 count as zero. Freed by the caller. */
int coh_probe_metric(const coh_probe *, const uint8_t *mask, double **metric, size_t *q,
                     coh_error *err);
/* out [K, rows of a] = w a^T for w [K, D], a [rows, D]. */
int coh_probe_product(const coh_probe *, size_t K, const double *w, size_t rows,
                      const double *a, double *out, coh_error *err);
/* jac [m, n_out, O] of student n: d output / d pre-activation of the layer above. */
int coh_probe_jacobian(const coh_layer_data *, const coh_probe *, size_t n, double *jac,
                       coh_error *err);
/* Mean square of e [m, I] (overwritten) once a constant and, for the even_linear classes,
 * a multiple of the pre-activation z [m] are taken out of each column: what the layers
 * above cannot make up for without this neuron. */
double coh_probe_energy(const coh_probe *, const double *z, size_t I, double *e);

/* ---- reduce.c ---- */

/* Neurons of all students after each lost its copies and idle neurons. */
typedef struct coh_reduced {
  size_t n, capacity;
  size_t D, O, Q;
  size_t *student; /* [n] */
  double *w;       /* [n, D] */
  double *f;       /* [n, Q] metric times w */
  double *a;       /* [n, O] joint outgoing weights */
  double *effect;  /* [n] mean square of what it adds to the output */
} coh_reduced;
int coh_reduced_create(size_t capacity, size_t D, size_t O, size_t Q, coh_reduced *out,
                       coh_error *err);
void coh_reduced_free(coh_reduced *);

/* Appends the neurons of student s. tolerance: mean square change of the output that
 * merging or dropping may cause. cap: largest distance inside a merged group. of [H]: the
 * index in `out` of each neuron, SIZE_MAX for the idle; sign [H], norm [H] as in
 * coh_clustering. gain [O]: mean square of d output / d pre-activation of each neuron of
 * the layer above, 0 for the last hidden layer. */
int coh_reduce_student(const coh_probe *, const coh_layer_view *, const coh_layer_data *,
                       const double *metric, size_t s, double tolerance, double cap,
                       coh_reduced *out, size_t *of, double *sign, double *norm,
                       double *gain, coh_error *err);

/* ---- votes.c ---- */

typedef struct coh_ballot {
  size_t n; /* leaves */
  const coh_merge *merges;
  const size_t *student; /* [n] in ascending order */
  const double *effect;  /* [n] */
  size_t N;
  const double *loss; /* [N] */
} coh_ballot;

/* A cluster that enough students voted for. */
typedef struct coh_elected {
  size_t node;     /* leaf, or n + merge */
  size_t students; /* that have a neuron in it */
  size_t electors; /* students too good to have missed it */
  size_t votes;    /* electors that have a neuron in it */
  size_t certain;  /* electors to whom even a trace of it would be a large loss */
  size_t certain_votes;
  double effect; /* median over the students */
  double height; /* average distance of its two halves */
  double gain;   /* logarithm of (height where it ends / height where elected) */
} coh_elected;
/* Disjoint clusters of greatest total gain among those of height at most cap with at
 * least two votes and the share gamma of the electors' votes, and of the votes of the
 * certain ones among them; elected [n] gets *count of them, in order of effect, largest
 * first. */
int coh_elect(const coh_ballot *, double gamma, double cap, coh_elected *elected,
              size_t *count, coh_error *err);
/* of [n]: the index of each leaf's elected cluster, SIZE_MAX if it is in none. */
int coh_elected_of(const coh_ballot *, size_t count, const coh_elected *elected,
                   size_t *of, coh_error *err);

/* ---- needed.c ---- */

/* Least squares of targets [m, T] on a base and on K neurons, both over a probe. The
 * base: [x, 1] for the even_linear classes, else 1. */
typedef struct coh_fit {
  size_t K, T, B; /* B columns of the base */
  bool *needed;   /* [K] */
  double *rise;   /* [K] how much the mean square error rises without it alone */
  double *a;      /* [K, T] weights of the needed neurons, 0 for the others */
  double *base;   /* [B, T] */
  double error;   /* mean square error with the needed neurons */
} coh_fit;
/* Drops the neuron that is missed least for as long as the error rises by no more than
 * `allowed`, or by less than `relative` and a quarter. weight [T]: what
 * a squared error of each target counts; NULL for 1 / T each. At least one neuron stays.
 */
int coh_fit_needed(const coh_probe *, size_t K, const double *w, size_t T,
                   const double *targets, const double *weight, double allowed,
                   double relative, size_t stay, coh_fit *out, coh_error *err);
void coh_fit_free(coh_fit *);
/* a [m, n] column-major becomes R of its QR decomposition, in its upper triangle (below:
 * the reflectors). */
int coh_qr(size_t m, size_t n, double *a, coh_error *err);

#endif
