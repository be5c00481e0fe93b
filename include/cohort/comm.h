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

/* A thread that ends the process where ranks that met do not come to an end with what
 * they do together. One a process; it costs nothing. */
typedef struct coh_watchdog coh_watchdog;
int coh_watchdog_create(coh_watchdog **out, coh_error *err);
void coh_watchdog_destroy(coh_watchdog *); /* NULL accepted */

/* How long ranks wait for one that does not answer. `lost` is called then; it ends the
 * process, for the others may wait for ever. */
typedef struct coh_patience {
  double seconds; /* 0: for ever */
  void (*lost)(void *ctx, const char *text);
  void *ctx;
  coh_watchdog *dog; /* borrowed; NULL: only meetings themselves have a limit */
  double met;        /* when all ranks last met; coh_grid_meet's own */
} coh_patience;

typedef struct coh_grid {
  MPI_Comm world;   /* a duplicate, owned */
  MPI_Comm replica; /* ranks with the same members, owned; MPI_COMM_SELF-like for spare
                       ranks */
  int rank, size;
  int n_student, n_replica;
  int student;            /* index of this rank's student group, -1 for a spare rank */
  int replica_rank;       /* 0..n_replica-1 */
  coh_patience *patience; /* borrowed; NULL: ranks wait for ever */
  struct coh_nccl *nccl;  /* owned; NULL: data on GPUs are summed through the host */
} coh_grid;

/* COH_EUSAGE if replicas > ranks. */
int coh_grid_create(MPI_Comm world, int64_t replicas, coh_grid *out, coh_error *err);
void coh_grid_destroy(coh_grid *);
/* Collective over the world: sums over replicas of data on `dev` go by NCCL if `wish`
 * allows it and each rank of a group has a GPU of its own, else through the host. *why:
 * how, and why so (static text). COH_EUSAGE for a wish that cannot be had. */
int coh_grid_choose_sums(coh_grid *, const coh_device *dev, coh_collectives wish,
                         const char **why, coh_error *err);
/* Gives back what that made; coh_grid_destroy does so too. Collective over the replicas,
 * after all recordings (coh_device_ops.record) of devices that summed by it are freed. */
void coh_grid_drop_sums(coh_grid *);
/* Ranks of the world on this rank's node, and its place among them. */
int coh_grid_node(const coh_grid *, int *rank, int *size, coh_error *err);
/* How many ranks of the world have the GPU on this bus of this node (coh_device_bus_of),
 * 1 for "". Collective over the world. */
int coh_grid_sharers(const coh_grid *, const char *bus, int *sharers, coh_error *err);
/* Returns when all ranks of the world are here. A rank that is more than the patience
 * and twice the time since the last meeting late is lost. From then on to coh_grid_part
 * ranks do nothing but talk: one that takes longer than the patience is lost, too. */
int coh_grid_meet(const coh_grid *, coh_error *err);
void coh_grid_part(const coh_grid *);
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
int coh_gather(MPI_Comm, const void *local, size_t bytes, void *all, int root,
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

/* Sums of device arrays over the replicas of this rank's group, in place, the same bits
 * on all replicas. Every replica passes the same counts. Through the host the sum is
 * taken in rank order and in the precision of the data, so it is that of a serial sum;
 * NCCL has an order of its own. A reducer of one replica does nothing. */
typedef struct coh_reducer coh_reducer;
int coh_reducer_create(const coh_grid *, coh_device *, coh_reducer **out, coh_error *err);
void coh_reducer_destroy(coh_reducer *);
/* Returns when the sum is there. */
int coh_reducer_sum(coh_reducer *, coh_dtype, size_t count, void *device_data,
                    coh_error *err);

/* A sum in parts, which travel by NCCL while the device works on the next ones:
 *
 *   coh_reducer_start(r, dtype, part, data, &err);       ... for every part of the data
 *   coh_reducer_join(r, dtype, all, data, &err);
 *
 * What the device is given after join finds the sum; parts cover the data. Through the
 * host, join does it all. Both may stand in a recording if coh_reducer_records says so.
 */
int coh_reducer_start(coh_reducer *, coh_dtype, size_t count, void *device_data,
                      coh_error *err);
int coh_reducer_join(coh_reducer *, coh_dtype, size_t count, void *device_data,
                     coh_error *err);
bool coh_reducer_records(const coh_reducer *);
/* Behind every step with such a sum: the host runs ahead of the GPU by a few steps only,
 * and a replica that is lost is noticed (coh_patience). */
int coh_reducer_keep_up(coh_reducer *, coh_error *err);
/* Waits, with patience, for all sums that were begun: before any other wait for the
 * device. */
int coh_reducer_settle(coh_reducer *, coh_error *err);

/* Used by every file that calls MPI: returns COH_ELIB with MPI's own text. */
int coh_mpi_check(int mpi_code, const char *call, coh_error *err);
#define COH_MPI(call) COH_TRY(coh_mpi_check((call), #call, err))

#endif
