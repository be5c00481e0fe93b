/* compress.h - networks with few parameters: penalties that drive parameters to zero,
 * pruning by a bound on the loss, and what decides when a network is done. Uses base,
 * config, data, device, comm, archive, net, train.
 *
 *   coh_compress_spec_of(&cfg, &train, &spec, &err);      for every run, one member each
 *   coh_compress_create(&grid, dev, &plan, N, specs, &data, 0, &c, &err);
 *   coh_trainer_method(trainer, coh_compress_method(c), &err);
 *   coh_trainer_run(trainer, &err);
 *   coh_compress_results(c, trainer, results, &err);
 *
 * Barth & von Petersenn, "Efficient compression of neural networks and datasets", arXiv
 * 2505.17469; docs/compress.md says what differs from their program and why. Three
 * phases: regularised training, pruning, training of what is left without penalty. Each
 * member of the ensemble is in a phase of its own, goes on when its own loss has settled
 * and leaves when it is done; nothing it computes depends on the others.
 */
#ifndef COHORT_COMPRESS_H
#define COHORT_COMPRESS_H

#include "cohort/train.h"

/* ---- when a loss has settled --------------------------------------------------------
 */

/* Local linear regression with the Epanechnikov kernel of y [n] at 1..n into out [n]. */
void coh_smooth(size_t n, const double *y, double *out);
/* Values that coh_saturated looks at: twice the half window. */
size_t coh_saturation_window(size_t smoothing_window);
/* Whether a log of `length` values has stopped falling: the mean over the older half of
 * the window exceeds that over the newer one by no more than the smaller of the standard
 * deviations about their smooth curves, and `slack`. recent: its last
 * coh_saturation_window values, the oldest first. False for logs shorter than
 * smoothing_window + 2. */
bool coh_saturated(const double *recent, size_t length, size_t smoothing_window,
                   double slack);

/* ---- the largest threshold that the loss allows (TAMADE) ------------------------------
 */

/* loss[k] of search index[k], k < n, with all magnitudes below threshold[k] at zero. */
typedef int coh_tamade_loss(void *ctx, size_t n, const size_t *index,
                            const double *threshold, double *loss, coh_error *);
typedef struct coh_tamade_search {
  double largest;    /* magnitude */
  double tolerance;  /* loss may be (1 + tolerance) times that of threshold 0 */
  double resolution; /* width of the bracket at the end */
  double threshold;  /* out: the highest that was accepted; 0: none was */
  size_t steps;      /* out: losses computed */
} coh_tamade_search;
/* N binary searches side by side, thresholds rounded to dtype; those that still search
 * are asked for together. */
int coh_tamade(size_t N, coh_tamade_search *, coh_dtype, coh_tamade_loss *, void *ctx,
               coh_error *);

/* ---- one network on the host: parameters [P] in the order of the plan -----------------
 */

/* Takes out hidden neurons that no weight leads to: what they add is a constant, which
 * goes into the biases above; mask and the parameters around them become 0. gates and
 * weights [P] are the companions of PMMP, or NULL. Returns how many. */
size_t coh_delete_neurons(const coh_plan *, double *params, double *mask, double *gates,
                          double *weights);
/* The network without the neurons that are dead in this sense. The caller frees *out,
 * [plan->P]. COH_EDATA if a layer would have none left. */
int coh_narrow(const coh_plan *, const double *params, const double *mask, coh_plan *plan,
               double **out, coh_error *);

typedef struct coh_layer_fit {
  double alpha, lr, start; /* cost of a parameter, rate, gates at the start */
  size_t batch;            /* rows of a step */
  uint64_t epochs;         /* at most */
  size_t smoothing_window;
} coh_layer_fit;
/* Regression of a layer's outputs y [n, out] on its inputs x [n, in], in which every
 * parameter has a gate: w [in, out], b [out] in and out; gates [in, out] and [out] hold
 * where to start (start < 0) and get the rounded gates. Returns the epochs in *epochs.
 * `dev`: of float64. */
int coh_fit_layer(coh_device *dev, size_t n, size_t in, size_t out, const double *x,
                  const double *y, const coh_layer_fit *, double *w, double *b,
                  double *gate_w, double *gate_b, uint64_t *epochs, coh_error *);

/* ---- data ----------------------------------------------------------------------------
 */

typedef struct coh_compress_data {
  coh_dataset train, val, test;
} coh_compress_data;
void coh_compress_data_free(coh_compress_data *);
/* Inputs uniform on [-1, 1)^d, targets of a random teacher (tanh, seed + 35; W1 := 2 W1 +
 * 1, W2 := 2 W2) with Gaussian noise; seeds of the sets: run's + 1, + 2 and +
 * compress.test_seed. *teacher (may be NULL): its parameters, freed by the caller. */
int coh_teacher_student(const coh_config *, coh_dtype, coh_compress_data *, coh_plan *,
                        double **teacher, coh_error *);
/* Takes train and val out of `all`, by a permutation that is the same for all seeds;
 * frees `all`. */
int coh_compress_split(const coh_config *, coh_dataset *all, coh_compress_data *,
                       coh_error *);

/* ---- code lengths --------------------------------------------------------------------
 */

/* Bits of which of N parameters are the l0 that are not zero: log2 of the binomial. */
double coh_mask_bits(size_t N, size_t l0);
/* Gaussian code length in bits of a sample, up to log2(2 pi) / 2, of mean square M. */
double coh_gauss_bits(double M, double sigma);
/* and its derivative by sigma */
double coh_gauss_slope(double M, double sigma);

/* NORM: factor of alpha in layer l, so that every layer's penalties together have the
 * same weight. A stack of dense layers has it alike by layer and by block. */
double coh_layer_share(const coh_plan *, size_t l);

/* ---- the method ----------------------------------------------------------------------
 */

/* What a run is trained by; [2]: regularised phase, phase after pruning. */
typedef struct coh_compress_spec {
  coh_procedure procedure;
  uint64_t seed;
  double lr, alpha, beta, rho, l1;
  double p0, u0, mf;
  bool norm, layer_norm, gauss, cross_entropy;
  bool log_val, rgp, delete_neurons, tamade_val;
  bool shrinking[2], layerwise[2], converge_val[2];
  uint64_t min_epochs[2], max_epochs[2];
  uint64_t prune_window;
  size_t smoothing_window;
  double slack, tolerance, resolution, value_bits;
  coh_layer_fit fit;
  size_t batch, val_batch, test_batch; /* 0: the whole set */
} coh_compress_spec;
int coh_compress_spec_of(const coh_config *, const coh_dataset *train,
                         coh_compress_spec *, coh_error *);
/* The end of training that no run of these reaches by itself, and the start. */
int coh_compress_run_of(const coh_config *, const coh_dataset *train, coh_train_run *,
                        coh_error *);

/* What became of a run; NaN where it has no such number. */
typedef struct coh_compress_result {
  double accuracy[3], loss[3]; /* train, val, test */
  double sigma, l0, parameters;
  double l0_pruned, threshold, tamade_steps; /* at the end of the regularised phase */
  double loss_before[3], loss_pruned[3];     /* before and behind that pruning */
  double accuracy_before[3];
  double epochs[2], converged[2]; /* 1: ended by itself */
  double violations;              /* share of gates neither open nor closed */
  double neurons_deleted;
  double bits_mask, bits_values, bits_data;
} coh_compress_result;

typedef struct coh_compress coh_compress;
/* N members, one a run, dealt to ranks as coh_trainer_create does. Borrows grid, dev,
 * data and hooks (may be NULL); all of `data` must be of dev's precision. COH_EUSAGE
 * where the device has no penalised step. */
int coh_compress_create(const coh_grid *, coh_device *, const coh_plan *, size_t N,
                        const coh_compress_spec *, const coh_compress_data *,
                        uint64_t every, coh_compress **, coh_error *);
void coh_compress_destroy(coh_compress *);
const coh_train_method *coh_compress_method(coh_compress *);
/* Of all members [N], the same on every rank; collective, after the training. */
int coh_compress_results(coh_compress *, coh_trainer *, coh_compress_result *,
                         coh_error *);
/* This rank's block: host [count, P] of the device's precision, 0 or 1. */
int coh_compress_masks(coh_compress *, void *masks, coh_error *);

#endif
