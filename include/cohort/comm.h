/* comm.h - the ranks: process grid, collectives without size limits, one verdict for all.
 * Uses base, config, device (device pointers in reductions). Every MPI return code is
 * checked; the grid's communicators have MPI_ERRORS_RETURN.
 *
 * MPI_COMM_WORLD is arranged as student x replica. With R replicas and W ranks there are
 * S = W / R student groups; rank w < S*R has student = w / R, replica = w % R; the W -
 * S*R ranks that are left over take part in nothing but the collectives over the world.
 * Members are dealt to the student groups in blocks whose sizes differ by at most one;
 * with more groups than members the last groups get none.
 */
#ifndef COHORT_COMM_H
#define COHORT_COMM_H

#include <mpi.h>

#include "cohort/device.h"

typedef struct coh_grid {
  MPI_Comm world;   /* a duplicate, owned */
  MPI_Comm replica; /* ranks with the same members, owned; MPI_COMM_SELF-like for spare
                       ranks */
  int rank, size;
  int n_student, n_replica;
  int student;      /* index of this rank's student group, -1 for a spare rank */
  int replica_rank; /* 0..n_replica-1 */
} coh_grid;

/* COH_EUSAGE if replicas > ranks. */
int coh_grid_create(MPI_Comm world, int64_t replicas, coh_grid *out, coh_error *err);
void coh_grid_destroy(coh_grid *);
/* Block of members of student group `student` (-1: none) out of N. */
void coh_grid_block(const coh_grid *, size_t N, int student, size_t *first,
                    size_t *count);
/* Rows of a batch of B that replica r works on: [first, first + count), sizes differ by
 * <= 1. */
void coh_grid_rows(const coh_grid *, size_t B, size_t *first, size_t *count);

/* Collective over comm: if any rank has rc != 0, all return the code of the lowest such
 * rank and hold its message. Call it wherever ranks could part ways. */
int coh_agree(MPI_Comm comm, int rc, coh_error *err);

/* Collectives on host memory, any number of bytes (split below 2^31 inside). */
int coh_bcast(MPI_Comm, void *data, size_t bytes, int root, coh_error *);
/* Rank-ordered concatenation of `bytes` bytes from each rank (may differ, may be 0). On
 * root `all` must hold the sum; elsewhere it is ignored. `all` does not overlap `local`.
 */
int coh_gather_to(MPI_Comm, const void *local, size_t bytes, void *all, int root,
                  coh_error *);
/* The same on every rank. `total` is the sum of bytes (checked: COH_EBUG). */
int coh_allgather(MPI_Comm, const void *local, size_t bytes, void *all, size_t total,
                  coh_error *);
int coh_allmax(MPI_Comm, int64_t *value, coh_error *); /* in place */

/* Member rows: each student group's replica 0 holds `count` rows (its block of N).
 * Collects all N rows in member order on every rank (all != NULL everywhere) or on root
 * only. Collective over the world; on ranks that are not replica 0, or spare, local is
 * ignored. */
int coh_grid_allgather_rows(const coh_grid *, size_t N, size_t row_bytes,
                            const void *local, void *all, coh_error *);
int coh_grid_gather_rows(const coh_grid *, size_t N, size_t row_bytes, const void *local,
                         void *all, coh_error *); /* root: world rank 0 */

/* Sum of a device array over the replicas of this rank's group, in place. It is taken in
 * rank order and in the precision of the data, so it is the same bits on all replicas and
 * the same as a serial sum. Every replica passes the same count. Data on a GPU pass
 * through host memory: the seam that NCCL fills. A reducer of one replica does nothing.
 */
typedef struct coh_reducer coh_reducer;
int coh_reducer_create(const coh_grid *, coh_device *, coh_reducer **out, coh_error *err);
void coh_reducer_destroy(coh_reducer *);
/* Whether a sum may stand in a recording of the device: it does nothing there, or nothing
 * but kernels. */
bool coh_reducer_records(const coh_reducer *);
int coh_reducer_sum(coh_reducer *, coh_dtype, size_t count, void *device_data,
                    coh_error *err);

/* Used by every file that calls MPI: returns COH_ELIB with MPI's own text. */
int coh_mpi_check(int mpi_code, const char *call, coh_error *err);
#define COH_MPI(call) COH_TRY(coh_mpi_check((call), #call, err))

#endif
