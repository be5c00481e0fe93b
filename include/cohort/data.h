/* data.h - data sets, query sets, and the order of their batches. Uses base, config.
 *
 * A data set is a dense matrix of inputs with labels (classification), real targets
 * (regression) or neither (queries waiting for a teacher). Inputs are stored in the
 * precision of the training, normalised, one sample a row.
 */
#ifndef COHORT_DATA_H
#define COHORT_DATA_H

#include "cohort/config.h"

typedef struct coh_dataset {
  coh_dtype dtype;
  size_t n;        /* samples */
  size_t d_in;     /* values per sample = channels * height * width */
  size_t shape[3]; /* channels, height, width; {d_in, 1, 1} for vectors */
  size_t n_out;    /* classes, or targets per sample; 0 = no targets yet */
  void *x;         /* [n, d_in] of dtype, owned */
  int32_t *labels; /* [n] in [0, n_out), owned, or NULL */
  void *y;         /* [n, n_out] of dtype, owned, or NULL */
} coh_dataset;

/* Frees what it owns and zeroes it; NULL accepted. */
void coh_dataset_free(coh_dataset *d);

/* A named data set (mnist, fashion_mnist, cifar10), train or test split, normalised with
 *   mnist (v/255 - 0.1307)/0.3081, fashion_mnist (v/255 - 0.5)/0.5,
 *   cifar10 per channel 0.485/0.229, 0.456/0.224, 0.406/0.225 (CHW)
 * computed in double and rounded once. Files are looked for in, and read as plain or .gz:
 *   `root` and root/<name> where root is not empty, and nowhere else; otherwise
 *   $COHORT_DATA/<name>; ~/.local/share/cohort/<name>;
 *   data/<name> below the current directory; Debian's /usr/share/datasets/fashion-mnist
 * The first folder that has all files of the split is used. COH_EDATA with file and
 * offset: header that lies about magic, type, dimensions or size; truncated or corrupt
 * .gz; trailing bytes; label out of range. COH_EIO if nowhere found: names the folders
 * tried and the command `cohort fetch <name>`. */
int coh_dataset_load(const char *name, const char *root, bool train, coh_dtype dtype,
                     coh_dataset *out, coh_error *err);
/* The same with pixels v/255, not normalised. */
int coh_dataset_load_unit(const char *name, const char *root, bool train, coh_dtype dtype,
                          coh_dataset *out, coh_error *err);
/* Names known to coh_dataset_load, comma separated. */
const char *coh_dataset_names(void);
/* Adds a line "<set>/<file> <bytes> <hash>" for each file of a named data set; of what is
 * in it, so that a file and its .gz are the same. */
int coh_dataset_content(const char *name, const char *root, bool train, coh_text *out,
                        coh_error *err);

/* A data set of the user's own, from one .npz or HDF5 file: X [n, d_in] (or [n, h, w],
 * [n, c, h, w]) with labels [n], classes counted from 0, or real targets Y [n] or [n,
 * n_out]; and, if there, X_test with labels_test or Y_test: else test->n is 0. Taken as
 * they are, nothing is normalised. COH_EDATA names file, array, row and what was
 * expected. */
int coh_pairs_load(const char *path, coh_dtype dtype, coh_dataset *train,
                   coh_dataset *test, coh_error *err);

/* Edits of the training split in this order: random labels for ceil(n*f) samples, then
 * keep ceil(n*f) samples; both drawn as NumPy's legacy generator (MT19937) does, seed s
 * = transformation_seed: labels randint(classes) of seed s, positions the head of
 * permutation(n) of seed s+1. Fractions of 0 (labels) and 1 (subsample) change nothing.
 */
int coh_dataset_edit(coh_dataset *d, int64_t transformation_seed, double random_labels,
                     double subsample, coh_error *err);

/* The query set of cfg->query: policies joined by '+', concatenated in order; all must
 * have the same d_in. Image policies are training images (normalised; the first
 * `query.subsample` of a permutation drawn by (query.seed, COH_RNG_LABELS, place of the
 * policy) if > 0). `random`: query.samples rows of N(0,1) or U(-range, range), drawn by
 * (query.seed, COH_RNG_QUERY, place of the policy). `grid`: the regular lattice of
 * grid_points^d_in points over [-range, range]^d_in, last axis fastest (COH_EUSAGE
 * above 2^26 points). `file`: X ([n, d_in], [n, h, w] or [n, c, h, w]) and, if present,
 * Y ([n] or [n, n_out]) of query.file; a .npy file is X. d_in: of the teacher, 0 = not
 * known (then `random` and `grid` alone are an error). Y is set only when every policy
 * brings it. Any NaN or infinity: COH_EDATA naming file, row, column. */
int coh_query_load(const coh_config *cfg, size_t d_in, coh_dtype dtype, coh_dataset *out,
                   coh_error *err);

/* One numeric array of a .npy file, of `name` in an .npz (stored or deflated members)
 * or of dataset `name` in an HDF5 file (/group/name allowed), as doubles. The format is
 * told by the first bytes. `name` NULL: the only array of the file; ignored for .npy.
 * Float16/32/64, all integers and bool, both byte orders; Fortran order is transposed.
 * ndim <= 4. Caller frees *data. */
typedef struct coh_array {
  size_t ndim, dim[4];
  double *data;
} coh_array;
int coh_array_read(const char *path, const char *name, coh_array *out, coh_error *err);
void coh_array_free(coh_array *a);

/* Feature mask for clustering: spec "none" -> all ones; "auto" -> 0 where a component
 * of x never varies over the set; else a .npy/.npz/.h5 file of d_in booleans. mask:
 * [d_in], caller's. */
int coh_mask_load(const char *spec, const coh_dataset *d, uint8_t *mask, coh_error *err);

/* Order of the samples in one epoch: perm[n], drawn by (seed, COH_RNG_ORDER, epoch),
 * the same on every rank and for every rank count. Batch b holds perm[b*B .. min(n,
 * (b+1)*B)); the last, short batch is kept, so an epoch has ceil(n/B) iterations. */
void coh_order_epoch(uint64_t seed, uint64_t epoch, size_t n, uint32_t *perm);
static inline uint64_t coh_epoch_length(size_t n, size_t batch) {
  return (n + batch - 1) / batch;
}

#endif
