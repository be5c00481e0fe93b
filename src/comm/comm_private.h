/* comm_private.h - what the files of src/comm share among themselves and with their
 * tests. */
#ifndef COHORT_COMM_PRIVATE_H
#define COHORT_COMM_PRIVATE_H

#include "cohort/comm.h"

/* Part `i` of `n` things dealt in blocks whose sizes differ by at most one. */
void coh_split(size_t n, size_t parts, size_t i, size_t *first, size_t *count);

/* Most bytes that one MPI call moves, below 2^31 because MPI counts in int. */
size_t coh_comm_chunk(void);
/* For tests only: lets a few bytes cross chunk borders. Multiple of 8; the same on all
 * ranks, while no collective runs. 0 restores the default. */
void coh_comm_set_chunk(size_t bytes);

#endif
