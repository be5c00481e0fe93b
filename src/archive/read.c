/* read.c - getting arrays out of an archive: nothing is handed out whose shape, kind and
 * checksum were not found right. Uses base, comm. */
#include "archive/archive_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding --------------------------------------------------------------------- */

bool coh_archive_has(coh_archive *a, const char *name) {
  char prefix[COH_PATH];
  coh_error ignored;
  if (coh_format(prefix, sizeof prefix, &ignored, "%s", name) != COH_OK) return false;
  for (char *slash = prefix; (slash = strchr(slash + 1, '/'));) {
    *slash = '\0';
    if (H5Lexists(a->file, prefix, H5P_DEFAULT) <= 0) return false;
    *slash = '/';
  }
  return H5Lexists(a->file, prefix, H5P_DEFAULT) > 0;
}

static int open_set(coh_archive *a, const char *name, hid_t *set, coh_error *err) {
  int rc = COH_OK;
  if (!coh_archive_has(a, name))
    return coh_fail(err, COH_EDATA, "'%s' has no such dataset", a->path);
  COH_H5("read", *set = H5Dopen2(a->file, name, H5P_DEFAULT));
cleanup:
  return rc;
}

/* Shape of an open dataset. dim has room for COH_AXES. */
static int read_dims(coh_archive *a, hid_t set, size_t *ndim, hsize_t *dim,
                     coh_error *err) {
  int rc = COH_OK, n = 0;
  hid_t space = -1;
  COH_H5("read", space = H5Dget_space(set));
  COH_H5("read", n = H5Sget_simple_extent_ndims(space));
  if (n > COH_AXES)
    rc = coh_fail(err, COH_EDATA, "'%s': more than %d axes", a->path, COH_AXES);
  else
    COH_H5("read", H5Sget_simple_extent_dims(space, dim, NULL));
  *ndim = (size_t)n;
cleanup:
  if (space >= 0) H5Sclose(space);
  return rc;
}

static int dims_of(coh_archive *a, const char *name, size_t *ndim, hsize_t *dim,
                   coh_error *err) {
  int rc = COH_OK;
  hid_t set = -1;
  COH_TRY(open_set(a, name, &set, err));
  COH_TRY(read_dims(a, set, ndim, dim, err));
cleanup:
  if (set >= 0) H5Dclose(set);
  return rc;
}

int coh_archive_dims(coh_archive *a, const char *name, size_t *ndim, size_t *dim,
                     coh_error *err) {
  size_t n, room = *ndim;
  hsize_t found[COH_AXES];
  int rc = dims_of(a, name, &n, found, err);
  if (rc == COH_OK && n > room)
    rc = coh_fail(err, COH_EDATA, "'%s': %zu axes, expected at most %zu", a->path, n,
                  room);
  if (rc != COH_OK) return coh_explain(err, "dataset '%s'", name);
  for (size_t i = 0; i < n; i++) dim[i] = (size_t)found[i];
  *ndim = n;
  return COH_OK;
}

/* "[3, 4]" */
static void shape_text(size_t ndim, const hsize_t *dim, char *out, size_t size) {
  size_t at = (size_t)snprintf(out, size, "[");
  for (size_t i = 0; i < ndim && at < size; i++)
    at += (size_t)snprintf(out + at, size - at, "%s%llu", i ? ", " : "",
                           (unsigned long long)dim[i]);
  if (at < size) snprintf(out + at, size - at, "]");
}

static int check_shape(coh_archive *a, hid_t set, const coh_block *b, coh_error *err) {
  int rc = COH_OK;
  size_t ndim;
  hsize_t dim[COH_AXES];
  COH_TRY(read_dims(a, set, &ndim, dim, err));
  if (ndim == b->ndim && memcmp(dim, b->dim, ndim * sizeof *dim) == 0) goto cleanup;
  char found[160], expected[160];
  shape_text(ndim, dim, found, sizeof found);
  shape_text(b->ndim, b->dim, expected, sizeof expected);
  rc = coh_fail(err, COH_EDATA, "'%s' holds %s, expected %s", a->path, found, expected);
cleanup:
  return rc;
}

/* The type in the file, which must be convertible to `want`. */
static int check_type(coh_archive *a, hid_t set, coh_type want, coh_type *stored,
                      coh_error *err) {
  int rc = COH_OK;
  hid_t type = -1;
  COH_H5("read", type = H5Dget_type(set));
  int found = coh_h5_type(type);
  H5Tclose(type);
  if (found < 0 || !coh_h5_same_kind((coh_type)found, want))
    return coh_fail(err, COH_EDATA, "'%s' holds %s, expected %s", a->path,
                    found < 0 ? "another type" : coh_h5_name((coh_type)found),
                    coh_h5_name(want));
  *stored = (coh_type)found;
cleanup:
  return rc;
}

/* ---- arrays ---------------------------------------------------------------------- */

/* Reads the checksums of the dataset and finds out whether there is one a row. *sums: of
 * all rows, or of the whole; freed by the caller. */
static int read_checksums(coh_archive *a, hid_t set, coh_block *b, uint32_t **sums,
                          coh_error *err) {
  int rc = COH_OK;
  hid_t attribute = -1, space = -1;
  if (H5Aexists(set, "crc32") <= 0)
    return coh_fail(err, COH_EDATA, "'%s' holds it without a checksum", a->path);
  COH_H5("read", attribute = H5Aopen(set, "crc32", H5P_DEFAULT));
  COH_H5("read", space = H5Aget_space(attribute));
  b->by_row = H5Sget_simple_extent_type(space) != H5S_SCALAR;
  size_t n = b->by_row ? coh_block_rows(b) : 1;
  if (H5Sget_simple_extent_npoints(space) != (hssize_t)n) {
    rc = coh_fail(err, COH_EDATA, "'%s': %lld checksums for %zu rows", a->path,
                  (long long)H5Sget_simple_extent_npoints(space), n);
    goto cleanup;
  }
  COH_TRY(coh_alloc(sums, n, sizeof **sums, err));
  if (n > 0) COH_H5("read", H5Aread(attribute, H5T_NATIVE_UINT32, *sums));
cleanup:
  if (space >= 0) H5Sclose(space);
  if (attribute >= 0) H5Aclose(attribute);
  return rc;
}

/* Holds what was read against the checksums. */
static int verify(coh_archive *a, const coh_block *b, const char *data,
                  const uint32_t *sums, coh_error *err) {
  size_t bytes = b->row * coh_type_size(b->type);
  if (!b->by_row && b->count != coh_block_rows(b))
    return coh_fail(err, COH_EDATA, "'%s' holds no checksums of single rows", a->path);
  if (!b->by_row && coh_checksum(data, b->count * bytes) != sums[0])
    return coh_fail(err, COH_EDATA, "'%s' is damaged: wrong checksum", a->path);
  for (size_t i = 0; b->by_row && i < b->count; i++)
    if (coh_checksum(data + i * bytes, bytes) != sums[b->first + i])
      return coh_fail(err, COH_EDATA, "'%s' is damaged: wrong checksum of row %zu",
                      a->path, b->first + i);
  return COH_OK;
}

/* A dataset being read: opened, and known to have the shape and kind expected. */
typedef struct reading {
  hid_t set;
  uint32_t *sums;
  char *buffer; /* rows as stored, where they have to be converted; else NULL */
} reading;

static int reading_start(coh_archive *a, coh_block *b, coh_type want, reading *r,
                         coh_error *err) {
  int rc = COH_OK;
  COH_TRY(open_set(a, b->name, &r->set, err));
  COH_TRY(check_type(a, r->set, want, &b->type, err));
  COH_TRY(check_shape(a, r->set, b, err));
  COH_TRY(read_checksums(a, r->set, b, &r->sums, err));
  if (b->type != want) COH_TRY(coh_alloc(&r->buffer, b->count * b->row, 8, err));
cleanup:
  return rc;
}

static void reading_end(reading *r) {
  free(r->buffer);
  free(r->sums);
  if (r->set >= 0) H5Dclose(r->set);
}

static int reading_run(coh_archive *a, const coh_block *b, coh_type want, reading *r,
                       bool collective, char *data, coh_error *err) {
  int rc = COH_OK;
  char *rows = r->buffer ? r->buffer : data;
  size_t n = b->count * b->row;
  COH_TRY(coh_block_move(a, r->set, b, collective, rows, err));
  COH_TRY(verify(a, b, rows, r->sums, err));
  rc = coh_h5_convert(b->type, want, n, rows, err);
  if (rc != COH_OK) coh_explain(err, "'%s'", a->path);
  if (rc == COH_OK && r->buffer && n > 0)
    memcpy(data, r->buffer, n * coh_type_size(want));
cleanup:
  return rc;
}

/* On rank 0 alone. */
static int get_here(coh_archive *a, coh_block *b, coh_type want, void *data,
                    coh_error *err) {
  int rc = COH_OK;
  reading r = {.set = -1};
  COH_TRY(reading_start(a, b, want, &r, err));
  COH_TRY(reading_run(a, b, want, &r, false, data, err));
cleanup:
  reading_end(&r);
  return rc;
}

int coh_archive_get(coh_archive *a, const char *name, coh_type type, size_t ndim,
                    const size_t *dim, void *data, coh_error *err) {
  int rc = COH_OK;
  coh_block b;
  COH_TRY(coh_archive_finish(a, name, coh_block_set(&b, name, type, NULL, ndim, dim, err),
                             err));
  size_t bytes = coh_block_bytes(&b);
  if (a->rank == 0) rc = get_here(a, &b, type, data, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  rc = coh_bcast(a->comm, data, bytes, 0, err);
cleanup:
  return rc;
}

int coh_archive_get_rows(coh_archive *a, const char *name, coh_type type, size_t rows,
                         size_t ndim, const size_t *row_dim, size_t first, size_t count,
                         void *data, coh_error *err) {
  int rc = COH_OK;
  coh_block b;
  reading r = {.set = -1};
  rc = coh_block_set(&b, name, type, &rows, ndim, row_dim, err);
  if (rc == COH_OK) rc = coh_block_take(&b, first, count, err);
  if (rc == COH_OK) rc = reading_start(a, &b, type, &r, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  rc = coh_archive_finish(a, name, reading_run(a, &b, type, &r, true, data, err), err);
cleanup:
  reading_end(&r);
  return rc;
}

/* ---- text ------------------------------------------------------------------------ */

static int text_length(coh_archive *a, hid_t set, hid_t *type, size_t *len,
                       coh_error *err) {
  int rc = COH_OK;
  size_t ndim;
  hsize_t dim[COH_AXES];
  COH_TRY(read_dims(a, set, &ndim, dim, err));
  COH_H5("read", *type = H5Dget_type(set));
  *len = H5Tget_size(*type);
  if (ndim != 0 || H5Tget_class(*type) != H5T_STRING || H5Tis_variable_str(*type) > 0)
    rc = coh_fail(err, COH_EDATA, "'%s' does not hold a text there", a->path);
cleanup:
  return rc;
}

/* On rank 0 alone. */
static int get_text_here(coh_archive *a, const char *name, char **text, coh_error *err) {
  int rc = COH_OK;
  size_t len;
  hid_t set = -1, type = -1;
  uint32_t *sum = NULL;
  coh_block b = {.name = name, .type = COH_T_U8, .row = 1};
  COH_TRY(open_set(a, name, &set, err));
  COH_TRY(text_length(a, set, &type, &len, err));
  COH_TRY(read_checksums(a, set, &b, &sum, err));
  COH_TRY(coh_alloc(text, len + 1, 1, err));
  COH_H5("read", H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *text));
  if (b.by_row || coh_checksum(*text, strlen(*text)) != *sum)
    rc = coh_fail(err, COH_EDATA, "'%s' is damaged: wrong checksum", a->path);
cleanup:
  free(sum);
  if (type >= 0) H5Tclose(type);
  if (set >= 0) H5Dclose(set);
  return rc;
}

int coh_archive_get_text(coh_archive *a, const char *name, char **text, coh_error *err) {
  int rc = COH_OK;
  uint64_t size = 0;
  *text = NULL;
  if (a->rank == 0) rc = get_text_here(a, name, text, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  if (a->rank == 0) size = strlen(*text) + 1;
  COH_TRY(coh_bcast(a->comm, &size, sizeof size, 0, err));
  if (a->rank != 0) rc = coh_alloc(text, size, 1, err);
  COH_TRY(coh_archive_finish(a, name, rc, err));
  COH_TRY(coh_bcast(a->comm, *text, size, 0, err));
cleanup:
  if (rc != COH_OK) {
    free(*text);
    *text = NULL;
  }
  return rc;
}
