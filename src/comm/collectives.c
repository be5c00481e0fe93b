/* collectives.c - one verdict for all ranks, and collectives on host memory of any size.
 * MPI counts in int, so nothing larger than a chunk is given to one call. Uses base. */
#include "comm/comm_private.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CHUNK = 1 << 30, TAG_GATHER = 7001 };

/* The one variable of the library that outlives a call; only tests change it. */
static size_t chunk = DEFAULT_CHUNK;

size_t coh_comm_chunk(void) {
  return chunk;
}

void coh_comm_set_chunk(size_t bytes) {
  chunk = bytes ? bytes : DEFAULT_CHUNK;
}

int coh_mpi_check(int mpi_code, const char *call, coh_error *err) {
  if (mpi_code == MPI_SUCCESS) return COH_OK;
  char text[MPI_MAX_ERROR_STRING + 1] = "";
  int len = 0;
  if (MPI_Error_string(mpi_code, text, &len) != MPI_SUCCESS) text[0] = '\0';
  return coh_fail(err, COH_ELIB, "MPI error %d: %s, in %s", mpi_code, text, call);
}

/* ---- one verdict ----------------------------------------------------------------- */

/* The lowest rank with rc != 0, or the number of ranks where there is none. */
static int first_failed(MPI_Comm comm, int rc, int *failed, int *size, coh_error *err) {
  int rank, mine;
  int status = coh_mpi_check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank", err);
  if (status == COH_OK)
    status = coh_mpi_check(MPI_Comm_size(comm, size), "MPI_Comm_size", err);
  if (status != COH_OK) return status;
  mine = rc != COH_OK ? rank : *size;
  return coh_mpi_check(MPI_Allreduce(&mine, failed, 1, MPI_INT, MPI_MIN, comm),
                       "MPI_Allreduce", err);
}

int coh_agree(MPI_Comm comm, int rc, coh_error *err) {
  coh_error mpi_err;
  int failed = 0, size = 0;
  int status = first_failed(comm, rc, &failed, &size, &mpi_err);
  if (status == COH_OK && failed == size) return COH_OK;
  if (status == COH_OK) {
    coh_error verdict = *err;
    verdict.code = rc;
    status =
        coh_mpi_check(MPI_Bcast(&verdict, (int)sizeof verdict, MPI_BYTE, failed, comm),
                      "MPI_Bcast", &mpi_err);
    if (status == COH_OK) *err = verdict;
    if (status == COH_OK) return verdict.code;
  }
  if (rc != COH_OK) return rc; /* what this rank knows says more than MPI's error */
  *err = mpi_err;
  return status;
}

int coh_allmax(MPI_Comm comm, int64_t *value, coh_error *err) {
  return coh_mpi_check(MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_INT64_T, MPI_MAX, comm),
                       "MPI_Allreduce", err);
}

/* ---- bytes ----------------------------------------------------------------------- */

static int next_chunk(size_t left) {
  return (int)(left < chunk ? left : chunk);
}

int coh_bcast(MPI_Comm comm, void *data, size_t bytes, int root, coh_error *err) {
  int rc = COH_OK;
  char *at = data;
  for (int n; bytes > 0; at += n, bytes -= (size_t)n) {
    n = next_chunk(bytes);
    COH_MPI(MPI_Bcast(at, n, MPI_BYTE, root, comm));
  }
cleanup:
  return rc;
}

/* How much each rank brings to a gather. */
typedef struct sizes {
  int rank, ranks;
  uint64_t *bytes; /* [ranks] */
  uint64_t total;
} sizes;

static int sizes_collect(MPI_Comm comm, size_t mine, sizes *out, coh_error *err) {
  int rc = COH_OK;
  uint64_t bytes = mine;
  *out = (sizes){0};
  COH_MPI(MPI_Comm_rank(comm, &out->rank));
  COH_MPI(MPI_Comm_size(comm, &out->ranks));
  rc = coh_alloc(&out->bytes, (size_t)out->ranks, sizeof *out->bytes, err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_MPI(MPI_Allgather(&bytes, 1, MPI_UINT64_T, out->bytes, 1, MPI_UINT64_T, comm));
  for (int r = 0; r < out->ranks; r++) out->total += out->bytes[r];
cleanup:
  if (rc != COH_OK) {
    free(out->bytes);
    out->bytes = NULL;
  }
  return rc;
}

static int send_chunks(MPI_Comm comm, const char *at, size_t bytes, int root,
                       coh_error *err) {
  int rc = COH_OK;
  for (int n; bytes > 0; at += n, bytes -= (size_t)n) {
    n = next_chunk(bytes);
    COH_MPI(MPI_Send(at, n, MPI_BYTE, root, TAG_GATHER, comm));
  }
cleanup:
  return rc;
}

static int receive_chunks(MPI_Comm comm, char *at, size_t bytes, int from,
                          coh_error *err) {
  int rc = COH_OK;
  for (int n; bytes > 0; at += n, bytes -= (size_t)n) {
    n = next_chunk(bytes);
    COH_MPI(MPI_Recv(at, n, MPI_BYTE, from, TAG_GATHER, comm, MPI_STATUS_IGNORE));
  }
cleanup:
  return rc;
}

int coh_gather(MPI_Comm comm, const void *local, size_t bytes, void *all, int root,
               coh_error *err) {
  int rc = COH_OK;
  sizes s = {0};
  COH_TRY(sizes_collect(comm, bytes, &s, err));
  if (s.rank != root) {
    COH_TRY(send_chunks(comm, local, bytes, root, err));
    goto cleanup;
  }
  char *at = all;
  for (int r = 0; r < s.ranks; at += s.bytes[r++]) {
    if (r != root)
      COH_TRY(receive_chunks(comm, at, s.bytes[r], r, err));
    else if (bytes > 0 && at != (const char *)local)
      memmove(at, local, bytes);
  }
cleanup:
  free(s.bytes);
  return rc;
}

/* All at once, where the whole fits a chunk. */
static int allgather_small(MPI_Comm comm, const sizes *s, const void *local, void *all,
                           coh_error *err) {
  int rc = COH_OK, *count = NULL, *at = NULL;
  rc = coh_alloc(&count, (size_t)s->ranks, 2 * sizeof *count, err);
  COH_TRY(coh_agree(comm, rc, err));
  at = count + s->ranks;
  for (int r = 0; r < s->ranks; r++) {
    count[r] = (int)s->bytes[r];
    at[r] = r ? at[r - 1] + count[r - 1] : 0;
  }
  COH_MPI(
      MPI_Allgatherv(local, count[s->rank], MPI_BYTE, all, count, at, MPI_BYTE, comm));
cleanup:
  free(count);
  return rc;
}

/* One broadcast after the other, where it does not. */
static int allgather_large(MPI_Comm comm, const sizes *s, const void *local, char *all,
                           coh_error *err) {
  int rc = COH_OK;
  for (int r = 0; r < s->ranks; all += s->bytes[r++]) {
    if (r == s->rank && s->bytes[r] > 0) memcpy(all, local, s->bytes[r]);
    COH_TRY(coh_bcast(comm, all, s->bytes[r], r, err));
  }
cleanup:
  return rc;
}

int coh_allgather(MPI_Comm comm, const void *local, size_t bytes, void *all, size_t total,
                  coh_error *err) {
  int rc = COH_OK;
  sizes s = {0};
  COH_TRY(sizes_collect(comm, bytes, &s, err));
  if (s.total != total)
    rc = coh_fail(err, COH_EBUG, "gather of %zu bytes, and the ranks bring %llu", total,
                  (unsigned long long)s.total);
  COH_TRY(coh_agree(comm, rc, err));
  if (total <= chunk)
    rc = allgather_small(comm, &s, local, all, err);
  else
    rc = allgather_large(comm, &s, local, all, err);
cleanup:
  free(s.bytes);
  return rc;
}

/* ---- rows of members ------------------------------------------------------------- */

/* Bytes that this rank brings: its group's rows if it is replica 0, else none. */
static size_t row_bytes_here(const coh_grid *grid, size_t N, size_t row_bytes) {
  size_t first, count;
  coh_grid_block(grid, N, grid->student, &first, &count);
  return grid->replica_rank == 0 ? count * row_bytes : 0;
}

int coh_grid_allgather_rows(const coh_grid *grid, size_t N, size_t row_bytes,
                            const void *local, void *all, coh_error *err) {
  return coh_allgather(grid->world, local, row_bytes_here(grid, N, row_bytes), all,
                       N * row_bytes, err);
}

int coh_grid_gather_rows(const coh_grid *grid, size_t N, size_t row_bytes,
                         const void *local, void *all, coh_error *err) {
  return coh_gather(grid->world, local, row_bytes_here(grid, N, row_bytes), all, 0, err);
}
