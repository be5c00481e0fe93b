/* grid.c - the process grid: which rank works on which members and which rows of a batch.
 * Moving data is collectives.c. Uses base. */
#include "comm/comm_private.h"

void coh_split(size_t n, size_t parts, size_t i, size_t *first, size_t *count) {
  size_t each = n / parts, more = n % parts;
  *first = i * each + (i < more ? i : more);
  *count = each + (i < more);
}

/* Numbers of this rank in a grid whose rank, size and n_replica are known. */
static void place(coh_grid *grid) {
  grid->n_student = grid->size / grid->n_replica;
  bool spare = grid->rank >= grid->n_student * grid->n_replica;
  grid->student = spare ? -1 : grid->rank / grid->n_replica;
  grid->replica_rank = spare ? 0 : grid->rank % grid->n_replica;
}

/* Splits the world into student groups; each spare rank gets a communicator of its own.
 */
static int split_replicas(coh_grid *grid, coh_error *err) {
  int rc = COH_OK;
  int color = grid->student;
  if (color < 0)
    color = grid->rank; /* ranks are larger than every student group's number */
  COH_MPI(MPI_Comm_split(grid->world, color, grid->rank, &grid->replica));
  COH_MPI(MPI_Comm_set_errhandler(grid->replica, MPI_ERRORS_RETURN));
cleanup:
  return rc;
}

int coh_grid_create(MPI_Comm world, int64_t replicas, coh_grid *out, coh_error *err) {
  int rc = COH_OK;
  coh_grid grid = {.world = MPI_COMM_NULL, .replica = MPI_COMM_NULL};
  *out = grid;
  COH_MPI(MPI_Comm_dup(world, &grid.world));
  COH_MPI(MPI_Comm_set_errhandler(grid.world, MPI_ERRORS_RETURN));
  COH_MPI(MPI_Comm_rank(grid.world, &grid.rank));
  COH_MPI(MPI_Comm_size(grid.world, &grid.size));
  if (replicas < 1 || replicas > grid.size)
    rc = coh_fail(err, COH_EUSAGE,
                  "%lld replicas of each student need at least as many ranks, and there "
                  "are %d: lower ranks.replicas or start more ranks",
                  (long long)replicas, grid.size);
  COH_TRY(coh_agree(grid.world, rc, err));
  grid.n_replica = (int)replicas;
  place(&grid);
  COH_TRY(split_replicas(&grid, err));
  *out = grid;
cleanup:
  if (rc != COH_OK) coh_grid_destroy(&grid);
  return rc;
}

static void free_comm(MPI_Comm *comm) {
  if (*comm != MPI_COMM_NULL) (void)MPI_Comm_free(comm);
}

void coh_grid_destroy(coh_grid *grid) {
  if (!grid || grid->size == 0) return;
  coh_grid_drop_sums(grid);
  free_comm(&grid->replica);
  free_comm(&grid->world);
  grid->size = 0;
}

void coh_grid_block(const coh_grid *grid, size_t N, int student, size_t *first,
                    size_t *count) {
  *first = *count = 0;
  if (student < 0 || student >= grid->n_student) return;
  coh_split(N, (size_t)grid->n_student, (size_t)student, first, count);
}

void coh_grid_rows(const coh_grid *grid, size_t B, size_t *first, size_t *count) {
  *first = *count = 0;
  if (grid->student < 0) return;
  coh_split(B, (size_t)grid->n_replica, (size_t)grid->replica_rank, first, count);
}
