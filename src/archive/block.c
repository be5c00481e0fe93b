/* block.c - shapes, checksums, and moving numbers between memory and file: what writing
 * and reading share. Uses base, comm.
 *
 * Every step that can fail on one rank alone is followed by an agreement; a rank that
 * fails between collective transfers takes part in the others with nothing.
 */
#include "archive/archive_private.h"

#include <zlib.h>

size_t coh_block_rows(const coh_block *b) {
  return b->ndim ? (size_t)b->dim[0] : 1;
}

int coh_block_set(coh_block *b, const char *name, coh_type type, const size_t *rows,
                  size_t ndim, const size_t *dim, coh_error *err) {
  *b = (coh_block){.name = name, .type = type, .by_row = rows != NULL};
  if (ndim + b->by_row > COH_AXES)
    return coh_fail(err, COH_EBUG, "dataset '%s': more than %d axes", name, COH_AXES);
  if (rows) b->dim[b->ndim++] = *rows;
  for (size_t i = 0; i < ndim; i++) b->dim[b->ndim++] = dim[i];
  b->row = 1;
  for (size_t i = 1; i < b->ndim; i++)
    if (__builtin_mul_overflow(b->row, (size_t)b->dim[i], &b->row))
      return coh_fail(err, COH_EBUG, "dataset '%s' is too large", name);
  b->count = coh_block_rows(b);
  return COH_OK;
}

int coh_block_take(coh_block *b, size_t first, size_t count, coh_error *err) {
  if (first > coh_block_rows(b) || count > coh_block_rows(b) - first)
    return coh_fail(err, COH_EBUG, "dataset '%s': rows [%zu, %zu) of %zu", b->name, first,
                    first + count, coh_block_rows(b));
  b->first = first;
  b->count = count;
  return COH_OK;
}

size_t coh_block_bytes(const coh_block *b) {
  return coh_block_rows(b) * b->row * coh_type_size(b->type);
}

int coh_archive_finish(coh_archive *a, const char *name, int rc, coh_error *err) {
  if (rc != COH_OK) coh_explain(err, "dataset '%s'", name);
  rc = coh_agree(a->comm, rc, err);
  if (rc != COH_OK) a->failed = true;
  return rc;
}

/* ---- checksums ------------------------------------------------------------------- */

uint32_t coh_checksum(const void *data, size_t bytes) {
  return (uint32_t)crc32_z(0, bytes ? data : (const void *)"", bytes);
}

void coh_block_checksums(const coh_block *b, const char *data, uint32_t *sums) {
  size_t bytes = b->row * coh_type_size(b->type);
  if (!b->by_row) {
    sums[0] = coh_checksum(data, b->count * bytes);
    return;
  }
  for (size_t i = 0; i < b->count; i++) sums[i] = coh_checksum(data + i * bytes, bytes);
}

/* ---- moving the numbers ---------------------------------------------------------- */

/* Space of `count` rows of b in memory, and their place in the file. count 0 selects
 * nothing. */
static int select_rows(coh_archive *a, const coh_block *b, size_t first, size_t count,
                       hid_t file_space, hid_t *memory, coh_error *err) {
  int rc = COH_OK;
  hsize_t start[COH_AXES] = {first}, size[COH_AXES] = {count};
  hsize_t n = count * b->row;
  for (size_t i = 1; i < b->ndim; i++) size[i] = b->dim[i];
  if (n == 0) n = 1;
  COH_H5("address", *memory = H5Screate_simple(1, &n, NULL));
  if (count == 0) {
    COH_H5("address", H5Sselect_none(*memory));
    COH_H5("address", H5Sselect_none(file_space));
  } else if (b->ndim > 0) {
    COH_H5("address",
           H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, size, NULL));
  }
cleanup:
  return rc;
}

/* One transfer of `count` rows. Collective with the list `transfer` of rows arrays: a
 * rank that has nothing to move, or has failed, calls it with count 0. */
static int move(coh_archive *a, hid_t set, const coh_block *b, size_t first, size_t count,
                hid_t transfer, void *data, coh_error *err) {
  int rc = COH_OK;
  char nothing[8] = {0};
  hid_t file_space = -1, memory = -1, type = coh_h5_native(b->type);
  if (count == 0) data = nothing;
  COH_H5("address", file_space = H5Dget_space(set));
  COH_TRY(select_rows(a, b, first, count, file_space, &memory, err));
  if (a->writing)
    COH_H5("write", H5Dwrite(set, type, memory, file_space, transfer, data));
  else
    COH_H5("read", H5Dread(set, type, memory, file_space, transfer, data));
cleanup:
  if (memory >= 0) H5Sclose(memory);
  if (file_space >= 0) H5Sclose(file_space);
  return rc;
}

/* Rows in one transfer. */
static size_t piece_rows(const coh_block *b) {
  size_t bytes = b->row * coh_type_size(b->type);
  size_t n = bytes ? coh_archive_tune.piece / bytes : coh_block_rows(b);
  return n ? n : 1;
}

/* Number of transfers that the rank with most rows needs. */
static int count_pieces(coh_archive *a, const coh_block *b, bool collective, size_t *n,
                        coh_error *err) {
  size_t step = piece_rows(b);
  int64_t most = (int64_t)(b->count / step + (b->count % step != 0));
  int rc = collective ? coh_allmax(a->comm, &most, err) : COH_OK;
  *n = (size_t)most;
  return rc;
}

int coh_block_move(coh_archive *a, hid_t set, const coh_block *b, bool collective,
                   char *data, coh_error *err) {
  size_t pieces, step = piece_rows(b), row_bytes = b->row * coh_type_size(b->type);
  hid_t transfer = collective ? a->transfer : H5P_DEFAULT;
  if (coh_block_rows(b) == 0 || b->row == 0) return COH_OK;
  int rc = count_pieces(a, b, collective, &pieces, err);
  for (size_t i = 0; i < pieces && (rc == COH_OK || collective); i++) {
    size_t at = i * step < b->count ? i * step : b->count;
    size_t n = b->count - at < step ? b->count - at : step;
    if (rc != COH_OK) {
      coh_error ignored;
      (void)move(a, set, b, 0, 0, transfer, NULL, &ignored);
    } else {
      rc = move(a, set, b, b->first + at, n, transfer, data + at * row_bytes, err);
    }
  }
  return rc;
}
