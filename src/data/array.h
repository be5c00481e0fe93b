/* array.h - what array.c and the readers of single formats know of each other. Uses base.
 *
 * `name` NULL stands for the only array of a file; a file with several is then an error
 * that lists them.
 */
#ifndef COHORT_DATA_ARRAY_H
#define COHORT_DATA_ARRAY_H

#include "cohort/data.h"

/* Whether the file has an array `name`; a .npy file has none with a name. */
int coh_array_has(const char *path, const char *name, bool *has, coh_error *err);

/* Sets ndim and dim and allocates out->data for them. */
int coh_array_alloc(coh_array *out, size_t ndim, const size_t *dim, const char *path,
                    coh_error *err);
static inline size_t coh_array_count(const coh_array *a) {
  size_t n = 1;
  for (size_t i = 0; i < a->ndim; i++) n *= a->dim[i];
  return n;
}

int coh_npy_read(const char *path, coh_array *out, coh_error *err);
int coh_npz_has(const char *path, const char *name, bool *has, coh_error *err);
int coh_npz_read(const char *path, const char *name, coh_array *out, coh_error *err);
int coh_hdf5_has(const char *path, const char *name, bool *has, coh_error *err);
int coh_hdf5_read(const char *path, const char *name, coh_array *out, coh_error *err);

#endif
