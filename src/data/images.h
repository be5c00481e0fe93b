/* images.h - the named sets of images, opened first (how many, what shape), read
 * afterwards straight into their place, so that no second copy of the images is ever
 * held. Uses base.
 */
#ifndef COHORT_DATA_IMAGES_H
#define COHORT_DATA_IMAGES_H

#include "cohort/data.h"
#include "data/idx.h"

typedef struct coh_image_set coh_image_set;

typedef struct coh_images {
  const coh_image_set *set;
  bool train;
  bool unit; /* values 0..1 in place of normalised ones */
  char folder[COH_PATH];
  size_t n, d_in;
  size_t shape[3]; /* channels, height, width */
  size_t classes;
  uint8_t *labels; /* [n], owned; NULL where the images bring them */
  coh_idx pixels;  /* at the first image, owned; where they are an IDX file */
} coh_images;

bool coh_images_is_name(const char *name);

/* Finds and checks the files as coh_dataset_load says; reads no image yet. */
int coh_images_open(coh_images *im, const char *name, const char *root, bool train,
                    coh_error *err);
/* Reads all images once, normalised. Image i goes to row place[i] of x, UINT32_MAX drops
 * it; place NULL = row i. Its label goes the same way into labels, which may be NULL. */
int coh_images_read(coh_images *im, coh_dtype dtype, const uint32_t *place, void *x,
                    int32_t *labels, coh_error *err);
void coh_images_close(coh_images *im); /* zeroes it; a zeroed one is accepted */

#endif
