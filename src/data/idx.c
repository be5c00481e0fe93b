/* idx.c - opening IDX files: all that the header says is checked before a value is read.
 * The values are read from the stream by the caller. Uses base.
 */
#include "data/idx.h"

#include <inttypes.h>

enum { UNSIGNED_BYTE = 0x08, MOST_DIMS = 4 };

static int check_magic(const char *path, const uint8_t m[4], size_t ndim,
                       coh_error *err) {
  if (m[0] != 0 || m[1] != 0)
    return coh_fail(err, COH_EDATA,
                    "%s: not an IDX file: expected 00 00 at byte 0, found %02x %02x",
                    path, m[0], m[1]);
  if (m[2] != UNSIGNED_BYTE)
    return coh_fail(err, COH_EDATA,
                    "%s: expected type 08 (unsigned byte) at byte 2, found %02x", path,
                    m[2]);
  if (m[3] != ndim)
    return coh_fail(err, COH_EDATA, "%s: expected %zu dimensions at byte 3, found %u",
                    path, ndim, m[3]);
  return COH_OK;
}

static int read_dim(coh_idx *f, const char *path, size_t want, size_t *out,
                    coh_error *err) {
  uint8_t b[4];
  uint64_t at = coh_stream_offset(f->in);
  int rc = coh_stream_read(f->in, b, sizeof b, err);
  if (rc != COH_OK) return rc;
  *out = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
  if (*out == 0 && want == 0)
    return coh_fail(err, COH_EDATA,
                    "%s: expected a dimension of at least 1 at byte %" PRIu64 ", found 0",
                    path, at);
  if (want != 0 && *out != want)
    return coh_fail(err, COH_EDATA,
                    "%s: expected a dimension of %zu at byte %" PRIu64 ", found %zu",
                    path, want, at, *out);
  return COH_OK;
}

static int read_dims(coh_idx *f, const char *path, size_t ndim, const size_t *dims,
                     coh_error *err) {
  size_t d = 0, total = 0;
  int rc = read_dim(f, path, dims[0], &f->n, err);
  f->item = 1;
  for (size_t i = 1; i < ndim && rc == COH_OK; i++) {
    rc = read_dim(f, path, dims[i], &d, err);
    if (rc == COH_OK && __builtin_mul_overflow(f->item, d, &f->item))
      rc = coh_fail(err, COH_EDATA, "%s: its dimensions are too large", path);
  }
  if (rc != COH_OK) return rc;
  if (__builtin_mul_overflow(f->n, f->item, &total))
    return coh_fail(err, COH_EDATA, "%s: its dimensions are too large", path);
  return coh_stream_has(f->in, total, err);
}

int coh_idx_open(coh_idx *f, const char *path, size_t ndim, const size_t *dims,
                 coh_error *err) {
  int rc = COH_OK;
  uint8_t magic[4];
  *f = (coh_idx){0};
  if (ndim < 1 || ndim > MOST_DIMS)
    return coh_fail(err, COH_EBUG, "%s: %zu dimensions asked for", path, ndim);
  COH_TRY(coh_stream_open(&f->in, path, err));
  COH_TRY(coh_stream_read(f->in, magic, sizeof magic, err));
  COH_TRY(check_magic(path, magic, ndim, err));
  COH_TRY(read_dims(f, path, ndim, dims, err));
cleanup:
  if (rc != COH_OK) coh_idx_close(f);
  return rc;
}

void coh_idx_close(coh_idx *f) {
  coh_stream_close(f->in);
  *f = (coh_idx){0};
}
