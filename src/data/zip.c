/* zip.c - reading the central directory of a zip archive (PKWARE's APPNOTE 6.3, sections
 * 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3). Unpacking is stream.c. Uses base.
 */
#include "data/zip.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  LOCAL_BYTES = 30,
  ENTRY_BYTES = 46,
  END_BYTES = 22,
  END64_BYTES = 56,
  LOCATOR_BYTES = 20,
  MOST_COMMENT = 65535,
  STORED = 0,
  DEFLATED = 8,
  ENCRYPTED = 1,
  ZIP64_FIELD = 1
};
static const uint32_t LOCAL_MARK = 0x04034b50, ENTRY_MARK = 0x02014b50,
                      END_MARK = 0x06054b50, END64_MARK = 0x06064b50,
                      LOCATOR_MARK = 0x07064b50, IN_ZIP64 = 0xffffffff;

static uint64_t number(const void *p, size_t bytes) {
  const uint8_t *b = p;
  uint64_t v = 0;
  for (size_t i = bytes; i-- > 0;) v = v << 8 | b[i];
  return v;
}
static uint16_t u16(const char *p) {
  return (uint16_t)number(p, 2);
}
static uint32_t u32(const char *p) {
  return (uint32_t)number(p, 4);
}
static uint64_t u64(const char *p) {
  return number(p, 8);
}

static int corrupt(const char *path, const char *what, coh_error *err) {
  return coh_fail(err, COH_EDATA, "%s: truncated or corrupt zip archive: %s", path, what);
}

static int read_at(FILE *f, const char *path, uint64_t at, void *buf, size_t n,
                   coh_error *err) {
  if (at > INT64_MAX || fseeko(f, (off_t)at, SEEK_SET) != 0)
    return corrupt(path, "an offset is out of range", err);
  if (fread(buf, 1, n, f) == n) return COH_OK;
  if (ferror(f)) return coh_fail_errno(err, "%s: cannot read", path);
  return corrupt(path, "an offset lies behind its end", err);
}

/* ---- the end record says where the directory is ----------------------------------- */

typedef struct place {
  uint64_t at, len;
} place;

/* Offset in tail[0..len) of the end record, or len if there is none. */
static size_t find_end(const char *tail, size_t len) {
  for (size_t i = len < END_BYTES ? 0 : len - END_BYTES + 1; i-- > 0;)
    if (u32(tail + i) == END_MARK && u16(tail + i + 20) == len - i - END_BYTES) return i;
  return len;
}

/* The zip64 end record, found through the locator just before the end record at `end`. */
static int find_place64(FILE *f, const char *path, uint64_t end, place *p,
                        coh_error *err) {
  char locator[LOCATOR_BYTES], record[END64_BYTES];
  if (end < LOCATOR_BYTES) return corrupt(path, "no zip64 locator", err);
  int rc = read_at(f, path, end - LOCATOR_BYTES, locator, sizeof locator, err);
  if (rc != COH_OK) return rc;
  if (u32(locator) != LOCATOR_MARK) return corrupt(path, "no zip64 locator", err);
  rc = read_at(f, path, u64(locator + 8), record, sizeof record, err);
  if (rc != COH_OK) return rc;
  if (u32(record) != END64_MARK) return corrupt(path, "no zip64 end record", err);
  *p = (place){.len = u64(record + 40), .at = u64(record + 48)};
  return COH_OK;
}

static int find_place(FILE *f, const char *path, uint64_t size, place *p,
                      coh_error *err) {
  char *tail = NULL;
  int rc = COH_OK;
  size_t len = size < END_BYTES + MOST_COMMENT ? (size_t)size : END_BYTES + MOST_COMMENT;
  COH_TRY(coh_alloc(&tail, len, 1, err));
  COH_TRY(read_at(f, path, size - len, tail, len, err));
  size_t i = find_end(tail, len);
  if (i == len) {
    rc = corrupt(path, "no end record", err);
    goto cleanup;
  }
  *p = (place){.len = u32(tail + i + 12), .at = u32(tail + i + 16)};
  if (p->at == IN_ZIP64 || p->len == IN_ZIP64 || u16(tail + i + 10) == UINT16_MAX)
    COH_TRY(find_place64(f, path, size - len + i, p, err));
  if (p->at > size || p->len > size - p->at)
    rc = corrupt(path, "its directory lies behind its end", err);
cleanup:
  free(tail);
  return rc;
}

int coh_zip_open(coh_zip *z, const char *path, coh_error *err) {
  int rc = COH_OK;
  place p = {0};
  *z = (coh_zip){0};
  FILE *f = fopen(path, "rb");
  if (!f) return coh_fail_errno(err, "%s: cannot open", path);
  off_t size = fseeko(f, 0, SEEK_END) == 0 ? ftello(f) : -1;
  if (size < 0) {
    rc = coh_fail_errno(err, "%s: cannot find its size", path);
    goto cleanup;
  }
  COH_TRY(find_place(f, path, (uint64_t)size, &p, err));
  COH_TRY(coh_alloc(&z->data, (size_t)p.len, 1, err));
  COH_TRY(read_at(f, path, p.at, z->data, (size_t)p.len, err));
  z->len = (size_t)p.len;
cleanup:
  fclose(f);
  if (rc != COH_OK) coh_zip_close(z);
  return rc;
}

void coh_zip_close(coh_zip *z) {
  free(z->data);
  *z = (coh_zip){0};
}

/* ---- members ---------------------------------------------------------------------- */

/* Replaces one 32-bit field by its zip64 value, if it says so; *at goes on past it. */
static bool widen(uint64_t *field, const char *extra, size_t end, size_t *at) {
  if (*field != IN_ZIP64) return true;
  if (*at + 8 > end) return false;
  *field = u64(extra + *at);
  *at += 8;
  return true;
}

static bool widen_all(coh_member *m, const char *extra, size_t len) {
  for (size_t i = 0; i + 4 <= len;) {
    size_t at = i + 4, end = at + u16(extra + i + 2);
    if (end > len) return false;
    if (u16(extra + i) == ZIP64_FIELD)
      return widen(&m->size, extra, end, &at) && widen(&m->packed, extra, end, &at) &&
             widen(&m->at, extra, end, &at);
    i = end;
  }
  return m->size != IN_ZIP64 && m->packed != IN_ZIP64 && m->at != IN_ZIP64;
}

int coh_zip_next(coh_zip *z, const char *path, coh_zip_entry *e, bool *more,
                 coh_error *err) {
  const char *p = z->data + z->next;
  *more = z->next < z->len;
  if (!*more) return COH_OK;
  if (z->len - z->next < ENTRY_BYTES || u32(p) != ENTRY_MARK)
    return corrupt(path, "a member's entry is not one", err);
  size_t name = u16(p + 28), extra = u16(p + 30);
  size_t all = ENTRY_BYTES + name + extra + u16(p + 32);
  if (all > z->len - z->next || name >= sizeof e->name)
    return corrupt(path, "a member's entry or name is too long", err);
  *e = (coh_zip_entry){.member = {.packed = u32(p + 20),
                                  .size = u32(p + 24),
                                  .at = u32(p + 42),
                                  .crc = u32(p + 16),
                                  .deflated = u16(p + 10) == DEFLATED}};
  memcpy(e->name, p + ENTRY_BYTES, name);
  if (!widen_all(&e->member, p + ENTRY_BYTES + name, extra))
    return corrupt(path, "a member's zip64 sizes are missing", err);
  if (u16(p + 8) & ENCRYPTED || (u16(p + 10) != STORED && u16(p + 10) != DEFLATED))
    return coh_fail(err, COH_EDATA,
                    "%s: member %s: expected it stored or deflated, found %s%u", path,
                    e->name, u16(p + 8) & ENCRYPTED ? "it encrypted, method " : "method ",
                    u16(p + 10));
  z->next += all;
  return COH_OK;
}

int coh_zip_locate(const char *path, coh_zip_entry *e, coh_error *err) {
  char local[LOCAL_BYTES];
  FILE *f = fopen(path, "rb");
  if (!f) return coh_fail_errno(err, "%s: cannot open", path);
  int rc = read_at(f, path, e->member.at, local, sizeof local, err);
  fclose(f);
  if (rc != COH_OK) return rc;
  if (u32(local) != LOCAL_MARK) return corrupt(path, "a member's header is not one", err);
  e->member.at += LOCAL_BYTES + (uint64_t)u16(local + 26) + u16(local + 28);
  return COH_OK;
}
