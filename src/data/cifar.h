/* cifar.h - CIFAR-10's binary batches, plain or gzip. Uses base.
 *
 * File: records of 3073 bytes: a label, then 1024 red, 1024 green and 1024 blue values of
 * a 32 x 32 image, row by row. No header.
 */
#ifndef COHORT_DATA_CIFAR_H
#define COHORT_DATA_CIFAR_H

#include "cohort/base.h"

/* Takes one sample, in the order of the files; `pixels` is borrowed. */
typedef void (*coh_sample_fn)(void *ctx, int label, const uint8_t *pixels);

int coh_cifar_count(const char *path, size_t *records, coh_error *err);
int coh_cifar_read(const char *path, size_t records, coh_sample_fn take, void *ctx,
                   coh_error *err);

#endif
