/* write.c - putting arrays into an archive. Uses base, comm. */
#include "archive/archive_private.h"

#include <stdlib.h>
#include <string.h>

/* ---- arrays ---------------------------------------------------------------------- */

static int write_checksums(coh_archive *a, hid_t set, const coh_block *b,
                           const uint32_t *sums, coh_error *err) {
  int rc = COH_OK;
  hid_t space = -1, attribute = -1;
  if (b->by_row)
    COH_H5("write", space = H5Screate_simple(1, b->dim, NULL));
  else
    COH_H5("write", space = H5Screate(H5S_SCALAR));
  COH_H5("write", attribute = H5Acreate2(set, "crc32", H5T_STD_U32LE, space, H5P_DEFAULT,
                                         H5P_DEFAULT));
  COH_H5("write", H5Awrite(attribute, H5T_NATIVE_UINT32, sums));
cleanup:
  if (attribute >= 0) H5Aclose(attribute);
  if (space >= 0) H5Sclose(space);
  return rc;
}

/* Creates the groups that `name` stands in. Collective. HDF5 could do so by itself, but
 * not without a time stamp in each, and equal data shall give equal files. */
static int create_groups(coh_archive *a, const char *name, coh_error *err) {
  int rc = COH_OK;
  char prefix[COH_PATH];
  hid_t creation = -1, group = -1;
  COH_TRY(coh_format(prefix, sizeof prefix, err, "%s", name));
  COH_H5("set up", creation = H5Pcreate(H5P_GROUP_CREATE));
  COH_H5("set up", H5Pset_obj_track_times(creation, false));
  for (char *slash = prefix; (slash = strchr(slash + 1, '/')); *slash = '/') {
    *slash = '\0';
    if (H5Lexists(a->file, prefix, H5P_DEFAULT) > 0) continue;
    COH_H5("write",
           group = H5Gcreate2(a->file, prefix, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Gclose(group);
  }
cleanup:
  if (creation >= 0) H5Pclose(creation);
  return rc;
}

/* Creates dataset `name`, contiguous, on disk at once and without fill values.
 * Collective. */
static int create_set(coh_archive *a, const char *name, hid_t type, hid_t space,
                      hid_t *set, coh_error *err) {
  int rc = COH_OK;
  hid_t creation = -1;
  COH_TRY(create_groups(a, name, err));
  COH_H5("set up", creation = H5Pcreate(H5P_DATASET_CREATE));
  COH_H5("set up", H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY));
  COH_H5("set up", H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER));
  COH_H5("set up", H5Pset_obj_track_times(creation, false));
  COH_H5("write", *set = H5Dcreate2(a->file, name, type, space, H5P_DEFAULT, creation,
                                    H5P_DEFAULT));
cleanup:
  if (creation >= 0) H5Pclose(creation);
  return rc;
}

static int create_block(coh_archive *a, const coh_block *b, hid_t *set, coh_error *err) {
  int rc = COH_OK;
  hid_t space = -1;
  if (b->ndim > 0)
    COH_H5("write", space = H5Screate_simple((int)b->ndim, b->dim, NULL));
  else
    COH_H5("write", space = H5Screate(H5S_SCALAR));
  COH_TRY(create_set(a, b->name, coh_h5_stored(b->type), space, set, err));
cleanup:
  if (space >= 0) H5Sclose(space);
  return rc;
}

/* Space, dataset, numbers, checksums: each agreed upon. A plain array is written by rank
 * 0 alone. sums: the same on all ranks. Ends agreed. */
static int put_block(coh_archive *a, const coh_block *b, char *data, const uint32_t *sums,
                     coh_error *err) {
  int rc = COH_OK;
  hid_t set = -1;
  size_t n_sums = b->by_row ? coh_block_rows(b) : 1;
  rc = coh_space_reserve(a, coh_block_bytes(b) + n_sums * sizeof *sums, err);
  COH_TRY(coh_archive_finish(a, b->name, rc, err));
  rc = create_block(a, b, &set, err);
  COH_TRY(coh_archive_finish(a, b->name, rc, err));
  if (b->by_row || a->rank == 0) rc = coh_block_move(a, set, b, b->by_row, data, err);
  COH_TRY(coh_archive_finish(a, b->name, rc, err));
  rc = write_checksums(a, set, b, sums, err);
  COH_TRY(coh_archive_finish(a, b->name, rc, err));
cleanup:
  if (set >= 0) H5Dclose(set);
  return rc;
}

int coh_archive_put(coh_archive *a, const char *name, coh_type type, size_t ndim,
                    const size_t *dim, const void *data, coh_error *err) {
  int rc = COH_OK;
  coh_block b;
  uint32_t sum = 0;
  COH_TRY(coh_archive_finish(a, name, coh_block_set(&b, name, type, NULL, ndim, dim, err),
                             err));
  if (a->rank == 0) coh_block_checksums(&b, data, &sum);
  COH_TRY(coh_bcast(a->comm, &sum, sizeof sum, 0, err));
  rc = put_block(a, &b, (char *)data, &sum, err);
cleanup:
  return rc;
}

/* The rows that one rank brings. */
typedef struct part {
  uint64_t first, count;
} part;

/* Puts the checksums, which come in the order of the ranks, in the order of the rows.
 * False if a row is missing or comes twice. */
static bool order_checksums(const part *parts, int ranks, const uint32_t *by_rank,
                            size_t rows, uint8_t *seen, uint32_t *by_row) {
  for (int r = 0; r < ranks; r++)
    for (uint64_t i = 0; i < parts[r].count; i++) {
      uint64_t row = parts[r].first + i;
      if (row >= rows || seen[row]) return false;
      seen[row] = 1;
      by_row[row] = *by_rank++;
    }
  for (size_t i = 0; i < rows; i++)
    if (!seen[i]) return false;
  return true;
}

/* Memory to bring the checksums of all rows together. */
typedef struct exchange {
  part *parts;                       /* [ranks] */
  uint8_t *seen;                     /* [rows] */
  uint32_t *mine, *by_rank, *by_row; /* [count], [rows], [rows] */
} exchange;

static int exchange_alloc(exchange *x, int ranks, size_t rows, size_t count,
                          coh_error *err) {
  int rc = COH_OK;
  COH_TRY(coh_alloc(&x->parts, (size_t)ranks, sizeof *x->parts, err));
  COH_TRY(coh_alloc(&x->seen, rows, 1, err));
  COH_TRY(coh_alloc(&x->mine, count, sizeof *x->mine, err));
  COH_TRY(coh_alloc(&x->by_rank, rows, sizeof *x->by_rank, err));
  COH_TRY(coh_alloc(&x->by_row, rows, sizeof *x->by_row, err));
cleanup:
  return rc;
}

static void exchange_free(exchange *x) {
  free(x->by_row);
  free(x->by_rank);
  free(x->mine);
  free(x->seen);
  free(x->parts);
}

static int exchange_run(coh_archive *a, const coh_block *b, exchange *x, coh_error *err) {
  int rc = COH_OK;
  part me = {b->first, b->count};
  size_t ranks = (size_t)a->size, rows = coh_block_rows(b), total = 0;
  COH_TRY(coh_allgather(a->comm, &me, sizeof me, x->parts, ranks * sizeof me, err));
  for (size_t r = 0; r < ranks; r++) total += x->parts[r].count;
  if (total == rows)
    COH_TRY(coh_allgather(a->comm, x->mine, b->count * sizeof *x->mine, x->by_rank,
                          rows * sizeof *x->mine, err));
  if (total != rows ||
      !order_checksums(x->parts, a->size, x->by_rank, rows, x->seen, x->by_row))
    rc = coh_fail(err, COH_EBUG, "the ranks bring %zu rows that do not make up [0, %zu)",
                  total, rows);
cleanup:
  return rc;
}

int coh_archive_put_rows(coh_archive *a, const char *name, coh_type type, size_t rows,
                         size_t ndim, const size_t *row_dim, size_t first, size_t count,
                         const void *data, coh_error *err) {
  int rc = COH_OK;
  coh_block b;
  exchange x = {0};
  rc = coh_block_set(&b, name, type, &rows, ndim, row_dim, err);
  if (rc == COH_OK) rc = coh_block_take(&b, first, count, err);
  if (rc == COH_OK) rc = exchange_alloc(&x, a->size, rows, count, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  coh_block_checksums(&b, data, x.mine);
  COH_TRY(coh_archive_finish(a, name, exchange_run(a, &b, &x, err), err));
  rc = put_block(a, &b, (char *)data, x.by_row, err);
cleanup:
  exchange_free(&x);
  return rc;
}

/* ---- text ------------------------------------------------------------------------ */

/* A fixed-length UTF-8 string type; HDF5 has none of length 0. */
static int text_type(coh_archive *a, size_t len, hid_t *type, coh_error *err) {
  int rc = COH_OK;
  COH_H5("set up", *type = H5Tcopy(H5T_C_S1));
  COH_H5("set up", H5Tset_size(*type, len ? len : 1));
  COH_H5("set up", H5Tset_strpad(*type, H5T_STR_NULLPAD));
  COH_H5("set up", H5Tset_cset(*type, H5T_CSET_UTF8));
cleanup:
  return rc;
}

static int create_text(coh_archive *a, const char *name, size_t len, hid_t *type,
                       hid_t *set, coh_error *err) {
  int rc = COH_OK;
  hid_t space = -1;
  COH_TRY(text_type(a, len, type, err));
  COH_H5("write", space = H5Screate(H5S_SCALAR));
  COH_TRY(create_set(a, name, *type, space, set, err));
cleanup:
  if (space >= 0) H5Sclose(space);
  return rc;
}

static int write_text(coh_archive *a, hid_t set, hid_t type, const char *text,
                      coh_error *err) {
  int rc = COH_OK;
  COH_H5("write", H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text));
cleanup:
  return rc;
}

int coh_archive_put_text(coh_archive *a, const char *name, const char *text,
                         coh_error *err) {
  int rc = COH_OK;
  hid_t type = -1, set = -1;
  coh_block b = {.name = name, .type = COH_T_U8};
  uint64_t head[2] = {0, 0}; /* length, checksum */
  if (a->rank == 0) head[0] = strlen(text), head[1] = coh_checksum(text, head[0]);
  COH_TRY(coh_bcast(a->comm, head, sizeof head, 0, err));
  uint32_t sum = (uint32_t)head[1];
  COH_TRY(coh_archive_finish(a, name, coh_space_reserve(a, head[0], err), err));
  rc = create_text(a, name, head[0], &type, &set, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  if (a->rank == 0) rc = write_text(a, set, type, text, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  COH_TRY(coh_archive_finish(a, name, write_checksums(a, set, &b, &sum, err), err));
cleanup:
  if (set >= 0) H5Dclose(set);
  if (type >= 0) H5Tclose(type);
  return rc;
}
