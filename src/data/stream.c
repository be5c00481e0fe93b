/* stream.c - reading files that may be packed, with zlib. zlib's own gzread is not used:
 * it passes over bytes that follow the packed data. Uses base.
 */
#include "data/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { CHUNK = 1 << 16, GZIP_BITS = 15 + 16, RAW_BITS = -15 };

typedef enum kind { PLAIN, GZIP, MEMBER } kind;

struct coh_stream {
  FILE *file;
  char *path;
  kind kind;
  bool packed; /* `z` is in use */
  bool ended;  /* the packed data have ended */
  z_stream z;
  uint64_t left;    /* bytes of the file not yet read into `in`, or of the member */
  uint64_t in_size; /* all bytes of the file, or of the member */
  uint64_t size;    /* content bytes; of gzip the most that it could hold */
  uint64_t offset;
  uint32_t crc, want_crc; /* of a member */
  uint8_t in[CHUNK];
};

/* Deflate cannot pack tighter than 1032 to 1 (zlib's technical details). */
static uint64_t most_unpacked(uint64_t packed) {
  return packed > UINT64_MAX / 1032 ? UINT64_MAX : packed * 1032;
}

static int file_size(coh_stream *s, uint64_t *size, coh_error *err) {
  if (fseeko(s->file, 0, SEEK_END) != 0)
    return coh_fail_errno(err, "%s: cannot find its end", s->path);
  off_t end = ftello(s->file);
  if (end < 0) return coh_fail_errno(err, "%s: cannot find its size", s->path);
  *size = (uint64_t)end;
  rewind(s->file);
  return COH_OK;
}

static int inflate_begin(coh_stream *s, int bits, coh_error *err) {
  if (inflateInit2(&s->z, bits) != Z_OK)
    return coh_fail(err, COH_ENOMEM, "%s: cannot begin to unpack it", s->path);
  s->packed = true;
  return COH_OK;
}

/* Up to n bytes of the file as they stand; *got < n only at its end. */
static int read_file(coh_stream *s, void *buf, size_t n, size_t *got, coh_error *err) {
  if (n > s->left) n = (size_t)s->left;
  *got = fread(buf, 1, n, s->file);
  s->left -= *got;
  if (*got < n && ferror(s->file)) return coh_fail_errno(err, "%s: cannot read", s->path);
  return COH_OK;
}

static int refill(coh_stream *s, coh_error *err) {
  size_t got = 0;
  if (s->z.avail_in > 0) return COH_OK;
  int rc = read_file(s, s->in, sizeof s->in, &got, err);
  s->z.next_in = s->in;
  s->z.avail_in = (uInt)got;
  return rc;
}

/* Position, in the packed bytes, of the next one to unpack. */
static uint64_t packed_at(const coh_stream *s) {
  return s->in_size - s->left - s->z.avail_in;
}

/* After the end of packed data: nothing may follow, but for one more gzip member. */
static int packed_end(coh_stream *s, coh_error *err) {
  int rc = refill(s, err);
  if (rc != COH_OK) return rc;
  s->ended = s->z.avail_in == 0;
  if (s->ended) return COH_OK;
  if (s->kind == GZIP && s->z.next_in[0] == 0x1f && inflateReset(&s->z) == Z_OK)
    return COH_OK;
  return coh_fail(err, COH_EDATA,
                  "%s: expected its end at byte %" PRIu64 ", where the packed data end, "
                  "found %" PRIu64 " more bytes",
                  s->path, packed_at(s), s->in_size - packed_at(s));
}

static int inflate_step(coh_stream *s, coh_error *err) {
  int rc = refill(s, err);
  if (rc != COH_OK) return rc;
  if (s->z.avail_in == 0)
    return coh_fail(err, COH_EDATA,
                    "%s: truncated: its packed data go on, but it ends at byte %" PRIu64,
                    s->path, s->in_size);
  int z = inflate(&s->z, Z_NO_FLUSH);
  if (z == Z_OK || z == Z_BUF_ERROR) return COH_OK;
  if (z == Z_STREAM_END) return packed_end(s, err);
  if (z == Z_MEM_ERROR) return coh_fail(err, COH_ENOMEM, "%s: cannot unpack", s->path);
  return coh_fail(err, COH_EDATA, "%s: corrupt packed data before byte %" PRIu64 ": %s",
                  s->path, packed_at(s), s->z.msg ? s->z.msg : "not deflate");
}

static int read_packed(coh_stream *s, uint8_t *buf, size_t n, size_t *got,
                       coh_error *err) {
  int rc = COH_OK;
  *got = 0;
  while (*got < n && !s->ended && rc == COH_OK) {
    size_t ask = n - *got < CHUNK ? n - *got : CHUNK;
    s->z.next_out = buf + *got;
    s->z.avail_out = (uInt)ask;
    rc = inflate_step(s, err);
    *got += ask - s->z.avail_out;
  }
  return rc;
}

/* Up to n bytes of content; *got < n only at its end. */
static int fill(coh_stream *s, void *buf, size_t n, size_t *got, coh_error *err) {
  int rc = s->packed ? read_packed(s, buf, n, got, err) : read_file(s, buf, n, got, err);
  s->offset += *got;
  if (s->kind == MEMBER) s->crc = (uint32_t)crc32_z(s->crc, buf, *got);
  return rc;
}

int coh_stream_read(coh_stream *s, void *buf, size_t n, coh_error *err) {
  uint64_t at = s->offset;
  size_t got = 0;
  int rc = fill(s, buf, n, &got, err);
  if (rc != COH_OK || got == n) return rc;
  return coh_fail(err, COH_EDATA,
                  "%s: truncated: expected %zu bytes at byte %" PRIu64 ", found %zu",
                  s->path, n, at, got);
}

int coh_stream_end(coh_stream *s, coh_error *err) {
  uint8_t more;
  uint64_t at = s->offset;
  size_t got = 0;
  int rc = fill(s, &more, 1, &got, err);
  if (rc != COH_OK) return rc;
  if (got > 0)
    return coh_fail(err, COH_EDATA,
                    "%s: expected its end at byte %" PRIu64 ", found trailing bytes",
                    s->path, at);
  if (s->kind == MEMBER && s->crc != s->want_crc)
    return coh_fail(err, COH_EDATA,
                    "%s: corrupt: expected CRC-32 %08" PRIx32 ", found %08" PRIx32,
                    s->path, s->want_crc, s->crc);
  return COH_OK;
}

uint64_t coh_stream_offset(const coh_stream *s) {
  return s->offset;
}

int coh_stream_has(const coh_stream *s, uint64_t n, coh_error *err) {
  uint64_t rest = s->size > s->offset ? s->size - s->offset : 0;
  if (n <= rest) return COH_OK;
  return coh_fail(err, COH_EDATA,
                  "%s: truncated, or its header lies: expected %" PRIu64
                  " bytes after byte %" PRIu64 ", found %s%" PRIu64,
                  s->path, n, s->offset, s->kind == GZIP ? "at most " : "", rest);
}

static int open_file(coh_stream **out, const char *path, coh_error *err) {
  int rc = COH_OK;
  coh_stream *s = NULL;
  COH_TRY(coh_alloc(&s, 1, sizeof *s, err));
  s->path = strdup(path);
  s->file = s->path ? fopen(path, "rb") : NULL;
  if (!s->file) {
    rc = coh_fail_errno(err, "%s: cannot open", path);
    goto cleanup;
  }
  COH_TRY(file_size(s, &s->in_size, err));
  s->left = s->in_size;
  s->size = s->in_size;
cleanup:
  if (rc != COH_OK) coh_stream_close(s);
  *out = rc == COH_OK ? s : NULL;
  return rc;
}

int coh_stream_open(coh_stream **out, const char *path, coh_error *err) {
  int rc = open_file(out, path, err);
  if (rc != COH_OK) return rc;
  coh_stream *s = *out;
  bool gzip = getc(s->file) == 0x1f && getc(s->file) == 0x8b;
  bool failed = ferror(s->file);
  if (failed) rc = coh_fail_errno(err, "%s: cannot read", path);
  rewind(s->file);
  if (gzip) {
    s->kind = GZIP;
    s->size = most_unpacked(s->in_size);
    rc = inflate_begin(s, GZIP_BITS, err);
  }
  if (rc == COH_OK) return rc;
  coh_stream_close(s);
  *out = NULL;
  return rc;
}

static int check_member(const coh_stream *s, const coh_member *m, coh_error *err) {
  if (m->at > s->in_size || m->packed > s->in_size - m->at)
    return coh_fail(err, COH_EDATA,
                    "%s: truncated: expected %" PRIu64 " bytes at byte %" PRIu64
                    ", but it ends at byte %" PRIu64,
                    s->path, m->packed, m->at, s->in_size);
  if (m->size <= (m->deflated ? most_unpacked(m->packed) : m->packed)) return COH_OK;
  return coh_fail(err, COH_EDATA, "%s: %" PRIu64 " bytes cannot unpack to %" PRIu64,
                  s->path, m->packed, m->size);
}

int coh_stream_open_member(coh_stream **out, const char *path, const coh_member *m,
                           coh_error *err) {
  int rc = open_file(out, path, err);
  if (rc != COH_OK) return rc;
  coh_stream *s = *out;
  COH_TRY(check_member(s, m, err));
  if (fseeko(s->file, (off_t)m->at, SEEK_SET) != 0) {
    rc = coh_fail_errno(err, "%s: cannot go to byte %" PRIu64, path, m->at);
    goto cleanup;
  }
  s->kind = MEMBER;
  s->left = s->in_size = m->packed;
  s->size = m->size;
  s->want_crc = m->crc;
  if (m->deflated) rc = inflate_begin(s, RAW_BITS, err);
cleanup:
  if (rc == COH_OK) return rc;
  coh_stream_close(s);
  *out = NULL;
  return rc;
}

void coh_stream_close(coh_stream *s) {
  if (!s) return;
  if (s->packed) inflateEnd(&s->z);
  if (s->file) fclose(s->file);
  free(s->path);
  free(s);
}

int coh_stream_count(const char *path, uint64_t *bytes, coh_error *err) {
  coh_stream *s = NULL;
  uint8_t *buf = NULL;
  int rc = COH_OK;
  COH_TRY(coh_stream_open(&s, path, err));
  *bytes = s->size;
  if (!s->packed) goto cleanup;
  COH_TRY(coh_alloc(&buf, CHUNK, 1, err));
  size_t got = CHUNK;
  while (got == CHUNK) COH_TRY(fill(s, buf, CHUNK, &got, err));
  *bytes = s->offset;
cleanup:
  free(buf);
  coh_stream_close(s);
  return rc;
}
