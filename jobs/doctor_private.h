/* doctor_private.h - what the files of `cohort doctor` share. */
#ifndef COHORT_JOBS_DOCTOR_PRIVATE_H
#define COHORT_JOBS_DOCTOR_PRIVATE_H

#include <stddef.h>

typedef struct doctor {
  const char *launcher; /* NULL: started alone */
  int rank, size;       /* of MPI_COMM_WORLD */
  int node_ranks;       /* on rank 0's node */
  int cores;            /* that the ranks of rank 0's node may use together */
  size_t findings;      /* that are bad */
} doctor;

typedef enum state { FINE, WARN, BAD } state;

/* One line; only rank 0 prints. */
void doctor_say(doctor *, state, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The results folder: what `cohort` asks of a file system. Rank 0. */
void doctor_files(doctor *, const char *folder);
/* GPUs and NCCL. Rank 0. */
void doctor_gpu(doctor *);
/* How SLURM starts ranks, and what it allows. Rank 0. */
void doctor_slurm(doctor *);

#endif
