/* reducer.c - the sum of an array over the replicas of a student group, the same on all
 * of them. Each replica owns a slice, collects that slice from all, adds in rank order,
 * and hands the sum round: each byte crosses the network twice, however many replicas.
 * Data on a GPU pass through host memory, unless NCCL sums them: nccl.c. Uses base,
 * device. */
#include "comm/comm_private.h"
#include "comm/nccl.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 32 << 20 }; /* bytes summed at a time, which bounds the scratch memory */

struct coh_reducer {
  MPI_Comm comm; /* borrowed from the grid */
  int rank, size;
  coh_device *device; /* borrowed */
  coh_nccl *nccl;     /* borrowed from the grid; NULL: sums go through the host */
  bool begun;         /* sums that nobody waited for */
  char *staging;      /* copy of device data on the host */
  size_t staging_bytes;
  char *parts; /* [replicas, slice]: my slice from each replica */
  size_t parts_bytes;
  int *counts; /* COUNT_ROWS arrays [replicas]: see the enum below */
};

/* Rows of `counts`. All are in elements. */
enum { SLICE, SLICE_AT, PART, PART_AT, COUNT_ROWS };

int coh_reducer_create(const coh_grid *grid, coh_device *device, coh_reducer **out,
                       coh_error *err) {
  int rc = COH_OK;
  coh_reducer *r = NULL;
  *out = NULL;
  COH_TRY(coh_alloc(&r, 1, sizeof *r, err));
  r->comm = grid->replica;
  r->device = device;
  r->nccl = coh_device_stream(device) ? grid->nccl : NULL;
  COH_MPI(MPI_Comm_rank(r->comm, &r->rank));
  COH_MPI(MPI_Comm_size(r->comm, &r->size));
  COH_TRY(coh_alloc(&r->counts, (size_t)r->size, COUNT_ROWS * sizeof *r->counts, err));
  *out = r;
  r = NULL;
cleanup:
  coh_reducer_destroy(r);
  return rc;
}

void coh_reducer_destroy(coh_reducer *r) {
  if (!r) return;
  free(r->staging);
  free(r->parts);
  free(r->counts);
  free(r);
}

bool coh_reducer_records(const coh_reducer *r) {
  return r->size == 1 || r->nccl;
}

/* Makes *buffer at least `bytes` long; its contents are lost. */
static int grow(char **buffer, size_t *have, size_t bytes, coh_error *err) {
  if (*have >= bytes) return COH_OK;
  free(*buffer);
  *buffer = NULL;
  *have = 0;
  int rc = coh_alloc(buffer, bytes, 1, err);
  if (rc == COH_OK) *have = bytes;
  return rc;
}

/* Deals `count` elements to the replicas. */
static void deal(coh_reducer *r, size_t count) {
  int *slice = r->counts + SLICE * r->size, *slice_at = r->counts + SLICE_AT * r->size;
  int *part = r->counts + PART * r->size, *part_at = r->counts + PART_AT * r->size;
  size_t mine_at, mine;
  coh_split(count, (size_t)r->size, (size_t)r->rank, &mine_at, &mine);
  for (int i = 0; i < r->size; i++) {
    size_t first, n;
    coh_split(count, (size_t)r->size, (size_t)i, &first, &n);
    slice[i] = (int)n;
    slice_at[i] = (int)first;
    part[i] = (int)mine;
    part_at[i] = i * (int)mine;
  }
}

/* sum[i] = parts[0][i] + parts[1][i] + ... in this order, in the width of the data. */
static void add_parts_f32(const float *restrict parts, size_t n, int ranks,
                          float *restrict sum) {
  memcpy(sum, parts, n * sizeof *sum);
  for (int r = 1; r < ranks; r++)
    for (size_t i = 0; i < n; i++) sum[i] += parts[(size_t)r * n + i];
}

static void add_parts_f64(const double *restrict parts, size_t n, int ranks,
                          double *restrict sum) {
  memcpy(sum, parts, n * sizeof *sum);
  for (int r = 1; r < ranks; r++)
    for (size_t i = 0; i < n; i++) sum[i] += parts[(size_t)r * n + i];
}

/* data [count] on the host, count elements small enough for int. */
static int sum_piece(coh_reducer *r, coh_dtype type, size_t count, char *data,
                     coh_error *err) {
  int rc = COH_OK;
  MPI_Datatype t = type == COH_F64 ? MPI_DOUBLE : MPI_FLOAT;
  deal(r, count);
  const int *slice = r->counts + SLICE * r->size, *slice_at = slice + r->size;
  const int *part = slice_at + r->size, *part_at = part + r->size;
  size_t mine = (size_t)slice[r->rank];
  char *sum = data + (size_t)slice_at[r->rank] * coh_dtype_size(type);
  COH_MPI(MPI_Alltoallv(data, slice, slice_at, t, r->parts, part, part_at, t, r->comm));
  if (mine > 0 && type == COH_F64)
    add_parts_f64((const double *)r->parts, mine, r->size, (double *)sum);
  else if (mine > 0)
    add_parts_f32((const float *)r->parts, mine, r->size, (float *)sum);
  COH_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, slice, slice_at, t,
                         r->comm));
cleanup:
  return rc;
}

static int sum_host(coh_reducer *r, coh_dtype type, size_t count, char *data,
                    coh_error *err) {
  int rc = COH_OK;
  size_t size = coh_dtype_size(type);
  size_t piece = (coh_comm_chunk() < PIECE ? coh_comm_chunk() : PIECE) / size;
  for (size_t at = 0; at < count; at += piece) {
    size_t n = count - at < piece ? count - at : piece;
    COH_TRY(sum_piece(r, type, n, data + at * size, err));
  }
cleanup:
  return rc;
}

/* The scratch that a sum of `bytes` needs: one piece, each replica's part rounded up. All
 * replicas come with the same size, so all of them grow, and agree, at the same call. */
static int make_room(coh_reducer *r, size_t bytes, size_t size, bool on_host,
                     coh_error *err) {
  size_t piece = (bytes < PIECE ? bytes : PIECE) + (size_t)r->size * size;
  if (r->parts_bytes >= piece && (on_host || r->staging_bytes >= bytes)) return COH_OK;
  int rc = grow(&r->parts, &r->parts_bytes, piece, err);
  if (rc == COH_OK && !on_host) rc = grow(&r->staging, &r->staging_bytes, bytes, err);
  return coh_agree(r->comm, rc, err);
}

/* The sum of data that lie on a GPU. A replica whose GPU failed must not leave the others
 * waiting, hence the agreement. */
static int sum_bounced(coh_reducer *r, coh_dtype type, size_t count, void *device_data,
                       coh_error *err) {
  const coh_device_ops *ops = r->device->ops;
  size_t bytes = count * coh_dtype_size(type);
  int rc = ops->sync(r->device, err);
  if (rc == COH_OK) rc = ops->download(r->device, r->staging, device_data, bytes, err);
  COH_TRY(coh_agree(r->comm, rc, err));
  COH_TRY(sum_host(r, type, count, r->staging, err));
  COH_TRY(ops->upload(r->device, device_data, r->staging, bytes, err));
  COH_TRY(ops->sync(r->device, err)); /* the staging copy is free for the next sum */
cleanup:
  return rc;
}

static int sum_through_host(coh_reducer *r, coh_dtype type, size_t count,
                            void *device_data, coh_error *err) {
  int rc = COH_OK;
  size_t size = coh_dtype_size(type);
  bool on_host = strcmp(r->device->ops->name, "cpu") == 0;
  COH_TRY(make_room(r, count * size, size, on_host, err));
  if (on_host)
    rc = sum_host(r, type, count, device_data, err);
  else
    rc = sum_bounced(r, type, count, device_data, err);
cleanup:
  return rc;
}

/* ---- by NCCL ---------------------------------------------------------------------- */

int coh_reducer_start(coh_reducer *r, coh_dtype type, size_t count, void *device_data,
                      coh_error *err) {
  if (r->size == 1 || count == 0 || !r->nccl) return COH_OK;
  r->begun = true;
  return coh_nccl_start(r->nccl, r->device, type, count, device_data, err);
}

int coh_reducer_join(coh_reducer *r, coh_dtype type, size_t count, void *device_data,
                     coh_error *err) {
  if (r->size == 1 || count == 0) return COH_OK;
  if (!r->nccl) return sum_through_host(r, type, count, device_data, err);
  r->begun = true;
  return coh_nccl_join(r->nccl, r->device, err);
}

int coh_reducer_keep_up(coh_reducer *r, coh_error *err) {
  if (!r->nccl || r->size == 1) return COH_OK;
  r->begun = true; /* a replayed step's */
  return coh_nccl_keep_up(r->nccl, r->device, err);
}

int coh_reducer_settle(coh_reducer *r, coh_error *err) {
  if (!r->begun) return COH_OK;
  int rc = coh_nccl_finish(r->nccl, r->device, err);
  if (rc == COH_OK) r->begun = false;
  return rc;
}

int coh_reducer_sum(coh_reducer *r, coh_dtype type, size_t count, void *device_data,
                    coh_error *err) {
  int rc = COH_OK;
  if (r->size == 1 || count == 0) return COH_OK;
  if (!r->nccl) return sum_through_host(r, type, count, device_data, err);
  COH_TRY(coh_reducer_settle(r, err));
  COH_TRY(r->device->ops->sync(r->device, err)); /* own work is no other rank's delay */
  COH_TRY(coh_reducer_start(r, type, count, device_data, err));
  COH_TRY(coh_reducer_join(r, type, count, device_data, err));
  COH_TRY(coh_reducer_settle(r, err));
cleanup:
  return rc;
}
