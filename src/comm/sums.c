/* sums.c - by what data on GPUs are summed over replicas, and who shares a node. Uses
 * base, device. */
#include "comm/nccl.h"

#include <stdlib.h>
#include <string.h>

int coh_grid_node(const coh_grid *grid, int *rank, int *size, coh_error *err) {
  int rc;
  MPI_Comm node = MPI_COMM_NULL;
  COH_MPI(MPI_Comm_split_type(grid->world, MPI_COMM_TYPE_SHARED, grid->rank,
                              MPI_INFO_NULL, &node));
  COH_MPI(MPI_Comm_rank(node, rank));
  COH_MPI(MPI_Comm_size(node, size));
cleanup:
  if (node != MPI_COMM_NULL) (void)MPI_Comm_free(&node);
  return rc;
}

enum { NAME = 256 };

/* Node and bus of a GPU, which no other one has; "" for no bus. */
static int name_gpu(const char *bus, char out[NAME], coh_error *err) {
  char node[MPI_MAX_PROCESSOR_NAME];
  int rc, length;
  memset(out, 0, NAME);
  if (!bus[0]) return COH_OK;
  COH_MPI(MPI_Get_processor_name(node, &length));
  COH_TRY(coh_format(out, NAME, err, "%.*s %s", length, node, bus));
cleanup:
  return rc;
}

/* Collective over comm: *all [size, NAME], every rank's name; the caller frees it. */
static int collect_names(MPI_Comm comm, const char *bus, char **all, int *size,
                         coh_error *err) {
  int rc;
  char mine[NAME];
  *all = NULL;
  COH_MPI(MPI_Comm_size(comm, size));
  rc = name_gpu(bus, mine, err);
  if (!rc) rc = coh_alloc(all, (size_t)*size, NAME, err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(coh_allgather(comm, mine, NAME, *all, (size_t)*size * NAME, err));
cleanup:
  return rc;
}

int coh_grid_sharers(const coh_grid *grid, const char *bus, int *sharers,
                     coh_error *err) {
  int rc, size;
  char *all = NULL;
  *sharers = 1;
  COH_TRY(collect_names(grid->world, bus, &all, &size, err));
  const char *mine = all + (size_t)grid->rank * NAME;
  for (int i = 0; i < size && mine[0]; i++)
    *sharers += i != grid->rank && strcmp(all + (size_t)i * NAME, mine) == 0;
cleanup:
  free(all);
  return rc;
}

/* Whether a rank of `comm` has no GPU, or the same one as another rank. */
static int gpus_unfit(MPI_Comm comm, const char *bus, int64_t *unfit, coh_error *err) {
  int rc, size;
  char *all = NULL;
  COH_TRY(collect_names(comm, bus, &all, &size, err));
  for (int i = 0; i < size; i++)
    for (int j = 0; j <= i; j++)
      if (!all[i * NAME] || (i != j && strcmp(all + i * NAME, all + j * NAME) == 0))
        *unfit = 1;
cleanup:
  free(all);
  return rc;
}

static int refuse(coh_collectives wish, const char *why, coh_error *err) {
  if (wish != COH_COLLECTIVES_NCCL) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "ranks.collectives = nccl: %s; auto or mpi would sum "
                  "through the host",
                  why);
}

void coh_grid_drop_sums(coh_grid *grid) {
  coh_nccl_destroy(grid->nccl);
  grid->nccl = NULL;
}

int coh_grid_choose_sums(coh_grid *grid, const coh_device *dev, coh_collectives wish,
                         const char **why, coh_error *err) {
  int rc;
  int64_t unfit = 0;
  *why = "through the host, as asked (ranks.collectives = mpi)";
  if (wish == COH_COLLECTIVES_MPI) return COH_OK;
  *why = "none: each network's batch is one rank's";
  if (grid->n_replica == 1) return COH_OK;
  COH_TRY(gpus_unfit(grid->replica, coh_device_bus(dev), &unfit, err));
  COH_TRY(coh_allmax(grid->world, &unfit, err));
  *why = "through the host: not every rank has a GPU of its own";
  if (unfit) return refuse(wish, "not every rank has a GPU of its own", err);
  if (grid->nccl) { /* of an earlier device on the same GPU */
    *why = "by NCCL";
    return COH_OK;
  }
  coh_error failed = {0};
  rc = coh_nccl_create(grid->replica, grid->patience, &grid->nccl, &failed);
  if (coh_agree(grid->world, rc, &failed)) {
    coh_nccl_destroy(grid->nccl);
    grid->nccl = NULL;
    *why = "through the host: NCCL did not start";
    return refuse(wish, failed.text, err);
  }
  *why = "by NCCL";
  rc = COH_OK;
cleanup:
  return rc;
}
