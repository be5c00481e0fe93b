/* rows.c - single rows of device arrays [.., P], to and from the host. */
#include <string.h>

#include "compress/private.h"

static size_t row_bytes(const coh_compress *c) {
  return c->plan.P * coh_dtype_size(c->dev->dtype);
}

static void *row_at(const coh_compress *c, const void *array, size_t row) {
  return (char *)array + row * row_bytes(c);
}

int coh_row_get(coh_compress *c, const void *device, size_t row, double *out,
                coh_error *err) {
  const void *from = row_at(c, device, row);
  int rc = c->dev->ops->download(c->dev, c->row, from, row_bytes(c), err);
  for (size_t i = 0; i < c->plan.P && !rc; i++)
    out[i] = coh_get(c->dev->dtype, c->row, i);
  return rc;
}

int coh_row_put(coh_compress *c, void *device, size_t row, const double *in,
                coh_error *err) {
  for (size_t i = 0; i < c->plan.P; i++) coh_put(c->dev->dtype, c->row, i, in[i]);
  return c->dev->ops->upload(c->dev, row_at(c, device, row), c->row, row_bytes(c), err);
}

int coh_row_fill(coh_compress *c, void *device, size_t row, double value,
                 coh_error *err) {
  for (size_t i = 0; i < c->plan.P; i++) coh_put(c->dev->dtype, c->row, i, value);
  return c->dev->ops->upload(c->dev, row_at(c, device, row), c->row, row_bytes(c), err);
}

int coh_row_save(coh_compress *c, const void *device, size_t row, void *host,
                 size_t place, coh_error *err) {
  void *to = row_at(c, host, place);
  return c->dev->ops->download(c->dev, to, row_at(c, device, row), row_bytes(c), err);
}

int coh_row_load(coh_compress *c, void *device, size_t row, const void *host,
                 size_t place, coh_error *err) {
  const void *from = row_at(c, host, place);
  return c->dev->ops->upload(c->dev, row_at(c, device, row), from, row_bytes(c), err);
}

int coh_row_copy(coh_compress *c, void *to, size_t to_row, const void *from,
                 size_t from_row, coh_error *err) {
  int rc;
  COH_TRY(coh_row_save(c, from, from_row, c->row, 0, err));
  COH_TRY(coh_row_load(c, to, to_row, c->row, 0, err));
cleanup:
  return rc;
}
