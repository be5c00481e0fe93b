/* dataset.c - a named data set as one matrix with labels. Finding and reading the files
 * is images.c, changing a set afterwards is edit.c. Uses base.
 */
#include <stdlib.h>
#include <string.h>

#include "data/images.h"

static int load(const char *name, const char *root, bool train, bool unit,
                coh_dtype dtype, coh_dataset *out, coh_error *err) {
  int rc = COH_OK;
  coh_images im = {0};
  *out = (coh_dataset){.dtype = dtype};
  COH_TRY(coh_images_open(&im, name, root, train, err));
  im.unit = unit;
  out->n = im.n;
  out->d_in = im.d_in;
  out->n_out = im.classes;
  memcpy(out->shape, im.shape, sizeof out->shape);
  COH_TRY(coh_alloc(&out->x, im.n, im.d_in * coh_dtype_size(dtype), err));
  COH_TRY(coh_alloc(&out->labels, im.n, sizeof *out->labels, err));
  COH_TRY(coh_images_read(&im, dtype, NULL, out->x, out->labels, err));
cleanup:
  coh_images_close(&im);
  if (rc != COH_OK) coh_dataset_free(out);
  return rc;
}

int coh_dataset_load(const char *name, const char *root, bool train, coh_dtype dtype,
                     coh_dataset *out, coh_error *err) {
  return load(name, root, train, false, dtype, out, err);
}

int coh_dataset_load_unit(const char *name, const char *root, bool train, coh_dtype dtype,
                          coh_dataset *out, coh_error *err) {
  return load(name, root, train, true, dtype, out, err);
}

void coh_dataset_free(coh_dataset *d) {
  if (!d) return;
  free(d->x);
  free(d->labels);
  free(d->y);
  *d = (coh_dataset){0};
}
