/* idx.h - arrays of bytes in the IDX format of the MNIST files, plain or gzip. Uses base.
 *
 * File: two zero bytes, the type (0x08 = unsigned byte), the number of dimensions, each
 * dimension as 32 bits with the high byte first, then the values, last dimension fastest.
 */
#ifndef COHORT_DATA_IDX_H
#define COHORT_DATA_IDX_H

#include "data/stream.h"

typedef struct coh_idx {
  coh_stream *in; /* stands at the next item; owned */
  size_t n;       /* items: the first dimension */
  size_t item;    /* bytes of one */
} coh_idx;

/* dims: [ndim] what the dimensions must be, 0 = anything from 1. ndim <= 4. */
int coh_idx_open(coh_idx *f, const char *path, size_t ndim, const size_t *dims,
                 coh_error *err);
void coh_idx_close(coh_idx *f); /* zeroes it; a zeroed one is accepted */

#endif
