/* original.h - runs of job = compress as rows of the original program's runs.csv. */
#ifndef COHORT_JOBS_ORIGINAL_H
#define COHORT_JOBS_ORIGINAL_H

#include "cohort/compress.h"
#include "cohort/store.h"

/* The cells of a run that are known before it: *out, freed by the caller. n: samples of
 * the three sets. */
int original_describe(const coh_config *, const size_t n[3], bool gauss, char **out,
                      coh_error *);
/* Writes a table of n runs that took `seconds` together, on a GPU or not. */
int original_write(const char *path, size_t n, char *const *described, bool gpu,
                   double seconds, const coh_compress_result *, coh_error *);

#endif
