/* edit.c - random labels and subsampling of a data set, drawn as NumPy's legacy generator
 * draws, so that published edits can be repeated. Uses base.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/data.h"
#include "data/mt19937.h"

static int check(const coh_dataset *d, double random_labels, double subsample,
                 coh_error *err) {
  if (!(random_labels >= 0 && random_labels <= 1))
    return coh_fail(err, COH_EUSAGE,
                    "dataset.random_labels_fraction: expected 0..1, found %g",
                    random_labels);
  if (!(subsample > 0 && subsample <= 1))
    return coh_fail(err, COH_EUSAGE,
                    "dataset.subsample_fraction: expected above 0, up to 1, found %g",
                    subsample);
  if (random_labels > 0 && !d->labels)
    return coh_fail(err, COH_EUSAGE,
                    "dataset.random_labels_fraction: the data set has no labels");
  if (d->n >= UINT32_MAX)
    return coh_fail(err, COH_EUSAGE, "%zu samples are too many to edit", d->n);
  return COH_OK;
}

static size_t part_of(size_t n, double fraction) {
  return (size_t)ceil((double)n * fraction);
}

/* perm: n numbers of RandomState(seed).permutation(n), for the caller to free. */
static int permutation(uint32_t seed, size_t n, uint32_t **perm, coh_error *err) {
  int rc = coh_alloc(perm, n, sizeof **perm, err);
  if (rc == COH_OK) coh_mt_permutation(seed, n, *perm);
  return rc;
}

static int randomise_labels(coh_dataset *d, uint32_t seed, size_t k, coh_error *err) {
  coh_mt mt;
  uint32_t *perm = NULL;
  int rc = permutation(seed + 1, d->n, &perm, err);
  coh_mt_seed(&mt, seed);
  for (size_t i = 0; i < k && rc == COH_OK; i++)
    d->labels[perm[i]] = (int32_t)coh_mt_upto(&mt, (uint32_t)(d->n_out - 1));
  free(perm);
  return rc;
}

static void swap_rows(void *array, size_t row, size_t i, size_t j) {
  char keep[512];
  if (!array || i == j) return;
  char *a = (char *)array + i * row, *b = (char *)array + j * row;
  for (size_t at = 0, n; at < row; at += n) {
    n = row - at < sizeof keep ? row - at : sizeof keep;
    memcpy(keep, a + at, n);
    memcpy(a + at, b + at, n);
    memcpy(b + at, keep, n);
  }
}

/* The first k rows of an array; where the system will not shorten it, it stays as it is.
 */
static void *shorten(void *array, size_t k, size_t row) {
  void *shorter = array ? realloc(array, k * row) : NULL;
  return shorter ? shorter : array;
}

/* Keeps the samples perm[0..k), in that order. In place: the images are not held twice.
 */
static int keep_samples(coh_dataset *d, uint32_t seed, size_t k, coh_error *err) {
  size_t x_row = d->d_in * coh_dtype_size(d->dtype);
  size_t y_row = d->n_out * coh_dtype_size(d->dtype);
  uint32_t *perm = NULL;
  int rc = permutation(seed + 1, d->n, &perm, err);
  if (rc != COH_OK) return rc;
  for (size_t i = 0; i < k; i++) {
    size_t j = perm[i];
    while (j < i) j = perm[j]; /* where an earlier swap has put it */
    swap_rows(d->x, x_row, i, j);
    swap_rows(d->y, y_row, i, j);
    swap_rows(d->labels, sizeof *d->labels, i, j);
  }
  d->x = shorten(d->x, k, x_row);
  d->y = shorten(d->y, k, y_row);
  d->labels = shorten(d->labels, k, sizeof *d->labels);
  d->n = k;
  free(perm);
  return COH_OK;
}

int coh_dataset_edit(coh_dataset *d, int64_t transformation_seed, double random_labels,
                     double subsample, coh_error *err) {
  uint32_t seed = (uint32_t)(uint64_t)transformation_seed;
  int rc = check(d, random_labels, subsample, err);
  if (rc == COH_OK && random_labels > 0)
    rc = randomise_labels(d, seed, part_of(d->n, random_labels), err);
  if (rc == COH_OK && subsample < 1 && d->n > 0)
    rc = keep_samples(d, seed, part_of(d->n, subsample), err);
  return rc;
}
