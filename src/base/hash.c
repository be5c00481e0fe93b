/* hash.c - 128-bit BLAKE2b of bytes and of files, by libb2. Uses no other room. */
#include "cohort/base.h"

#include <blake2.h>
#include <stdio.h>
#include <stdlib.h>

enum { HASH_BYTES = 16, CHUNK = 1 << 16 };

static int finish(blake2b_state *state, coh_hash *out, coh_error *err) {
  uint8_t digest[HASH_BYTES];
  if (blake2b_final(state, digest, HASH_BYTES) != 0)
    return coh_fail(err, COH_ELIB, "BLAKE2b: the hash could not be finished");
  for (int i = 0; i < HASH_BYTES; i++) {
    out->hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
    out->hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
  }
  out->hex[2 * HASH_BYTES] = '\0';
  return COH_OK;
}

static int start(blake2b_state *state, coh_error *err) {
  if (blake2b_init(state, HASH_BYTES) != 0)
    return coh_fail(err, COH_ELIB, "BLAKE2b: the hash could not be started");
  return COH_OK;
}

static int add(blake2b_state *state, const void *data, size_t len, coh_error *err) {
  if (len && blake2b_update(state, data, len) != 0)
    return coh_fail(err, COH_ELIB, "BLAKE2b: %zu bytes could not be hashed", len);
  return COH_OK;
}

int coh_hash_bytes(const void *data, size_t len, coh_hash *out, coh_error *err) {
  blake2b_state state;
  int rc = start(&state, err);
  if (rc == COH_OK) rc = add(&state, data, len, err);
  return rc == COH_OK ? finish(&state, out, err) : rc;
}

int coh_hash_file(const char *path, coh_hash *out, coh_error *err) {
  int rc = COH_OK;
  blake2b_state state;
  void *chunk = NULL;
  FILE *file = fopen(path, "rb");
  if (!file) return coh_fail_errno(err, "cannot open '%s'", path);
  COH_TRY(coh_alloc(&chunk, CHUNK, 1, err));
  COH_TRY(start(&state, err));
  for (size_t n; (n = fread(chunk, 1, CHUNK, file)) > 0;)
    COH_TRY(add(&state, chunk, n, err));
  if (ferror(file)) {
    rc = coh_fail_errno(err, "cannot read '%s'", path);
    goto cleanup;
  }
  rc = finish(&state, out, err);
cleanup:
  free(chunk);
  fclose(file);
  return rc;
}
