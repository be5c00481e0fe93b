/* array.c - one numeric array of a .npy, .npz or HDF5 file; the format is told by the
 * file's first bytes, not by its name. The formats are in array_numpy.c and array_hdf5.c.
 * Uses base.
 */
#include "data/array.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct format {
  const char *mark;
  size_t mark_len;
  int (*has)(const char *path, const char *name, bool *has, coh_error *err);
  int (*read)(const char *path, const char *name, coh_array *out, coh_error *err);
} format;

static int npy_has(const char *path, const char *name, bool *has, coh_error *err) {
  (void)path, (void)name, (void)err;
  *has = false;
  return COH_OK;
}

static int npy_read(const char *path, const char *name, coh_array *out, coh_error *err) {
  (void)name;
  return coh_npy_read(path, out, err);
}

static const format FORMATS[] = {
    {"\x93NUMPY", 6, npy_has, npy_read},
    {"PK\x03\x04", 4, coh_npz_has, coh_npz_read},
    {"PK\x05\x06", 4, coh_npz_has, coh_npz_read}, /* no members */
    {"\x89HDF\r\n\x1a\n", 8, coh_hdf5_has, coh_hdf5_read},
};

static int find_format(const char *path, const format **out, coh_error *err) {
  char head[8] = {0};
  FILE *f = fopen(path, "rb");
  if (!f) return coh_fail_errno(err, "%s: cannot open", path);
  size_t n = fread(head, 1, sizeof head, f);
  int rc = ferror(f) ? coh_fail_errno(err, "%s: cannot read", path) : COH_OK;
  fclose(f);
  if (rc != COH_OK) return rc;
  for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
    *out = &FORMATS[i];
    if (n >= FORMATS[i].mark_len &&
        memcmp(head, FORMATS[i].mark, FORMATS[i].mark_len) == 0)
      return COH_OK;
  }
  return coh_fail(err, COH_EDATA, "%s: expected a .npy, .npz or HDF5 file, found %s",
                  path, n ? "other first bytes" : "an empty file");
}

int coh_array_has(const char *path, const char *name, bool *has, coh_error *err) {
  const format *f = NULL;
  int rc = find_format(path, &f, err);
  return rc == COH_OK ? f->has(path, name, has, err) : rc;
}

int coh_array_read(const char *path, const char *name, coh_array *out, coh_error *err) {
  const format *f = NULL;
  *out = (coh_array){0};
  int rc = find_format(path, &f, err);
  if (rc == COH_OK) rc = f->read(path, name, out, err);
  if (rc != COH_OK) coh_array_free(out);
  return rc;
}

int coh_array_alloc(coh_array *out, size_t ndim, const size_t *dim, const char *path,
                    coh_error *err) {
  size_t n = 1;
  out->ndim = ndim;
  for (size_t i = 0; i < ndim; i++) {
    out->dim[i] = dim[i];
    if (__builtin_mul_overflow(n, dim[i], &n))
      return coh_fail(err, COH_EDATA, "%s: the dimensions of its array are too large",
                      path);
  }
  int rc = coh_alloc(&out->data, n, sizeof *out->data, err);
  return rc == COH_OK ? rc : coh_explain(err, "%s", path);
}

void coh_array_free(coh_array *a) {
  if (!a) return;
  free(a->data);
  *a = (coh_array){0};
}
