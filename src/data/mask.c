/* mask.c - which components of the inputs take part in clustering. Uses base. */
#include <string.h>

#include "data/array.h"

static void find_varying(const coh_dataset *d, uint8_t *mask) {
  memset(mask, 0, d->d_in);
  for (size_t i = 1; i < d->n; i++)
    for (size_t j = 0; j < d->d_in; j++)
      mask[j] |= coh_get(d->dtype, d->x, i * d->d_in + j) != coh_get(d->dtype, d->x, j);
}

static int read_mask(const char *path, size_t d_in, uint8_t *mask, coh_error *err) {
  coh_array a = {0};
  int rc = coh_array_read(path, NULL, &a, err);
  if (rc == COH_OK && coh_array_count(&a) != d_in)
    rc = coh_fail(err, COH_EDATA, "%s: expected a mask of %zu values, found %zu", path,
                  d_in, coh_array_count(&a));
  for (size_t i = 0; i < d_in && rc == COH_OK; i++) {
    mask[i] = a.data[i] != 0;
    if (a.data[i] != 0 && a.data[i] != 1)
      rc = coh_fail(err, COH_EDATA,
                    "%s: expected 0 or 1 at position %zu (counted from 0), found %g",
                    path, i, a.data[i]);
  }
  coh_array_free(&a);
  return rc;
}

int coh_mask_load(const char *spec, const coh_dataset *d, uint8_t *mask, coh_error *err) {
  int rc = COH_OK;
  if (strcmp(spec, "none") == 0)
    memset(mask, 1, d->d_in);
  else if (strcmp(spec, "auto") == 0)
    find_varying(d, mask);
  else
    rc = read_mask(spec, d->d_in, mask, err);
  if (rc != COH_OK || memchr(mask, 1, d->d_in)) return rc;
  return coh_fail(err, COH_EDATA,
                  "extraction.mask = %s: no component of the inputs is left", spec);
}
