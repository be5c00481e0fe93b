/* teacher.h - the network that an extraction asks, and the answers. */
#ifndef COHORT_JOBS_TEACHER_H
#define COHORT_JOBS_TEACHER_H

#include "job.h"

typedef struct teacher {
  bool known; /* false: only its answers are known (query file with X and Y) */
  coh_plan plan;
  double *params; /* float64 [P], the same on every rank */
} teacher;

/* Trains or finds the teacher that cfg->teacher names. Collective. */
int teacher_get(job *, teacher *out, coh_error *);
void teacher_free(teacher *);

/* Adds what names teacher and query file in a run hash: hash and seed of the teacher's
 * run, or hashes of files. Trains nothing; rank 0 or no MPI at all. */
int teacher_identity(const job *, coh_text *out, coh_error *);

/* The query set with targets, in dev's precision: X of cfg->query, Y from the file or
 * asked from the teacher. Collective. */
int teacher_query(const job *, const teacher *, coh_device *dev, coh_dataset *out,
                  coh_error *);

#endif
