/* data.c - data sets on the device. */
#include "train/trainer.h"

/* Device copy of `count` elements of `size` bytes; nothing for NULL sources. */
static int upload(coh_device *dev, const void *src, size_t count, size_t size, void *out,
                  coh_error *err) {
  if (!src) return COH_OK;
  void **p = out;
  int rc = dev->ops->alloc(dev, count * size, p, err);
  return rc ? rc : dev->ops->upload(dev, *p, src, count * size, err);
}

int coh_device_data_create(coh_device *dev, const coh_dataset *d, coh_device_data *out,
                           coh_error *err) {
  int rc;
  size_t size = coh_dtype_size(dev->dtype);
  *out = (coh_device_data){.host = d};
  if (d->dtype != dev->dtype)
    return coh_fail(err, COH_EBUG, "data set and device differ in precision");
  COH_TRY(upload(dev, d->x, d->n * d->d_in, size, &out->x, err));
  COH_TRY(upload(dev, d->y, d->n * d->n_out, size, &out->y, err));
  COH_TRY(upload(dev, d->labels, d->n, sizeof(int32_t), &out->labels, err));
  return COH_OK;
cleanup:
  coh_device_data_destroy(dev, out);
  return rc;
}

void coh_device_data_destroy(coh_device *dev, coh_device_data *d) {
  if (!dev) return;
  dev->ops->free(dev, d->x);
  dev->ops->free(dev, d->y);
  dev->ops->free(dev, d->labels);
  *d = (coh_device_data){0};
}
