/* memory.c - aligned, zeroed arrays. Uses no other room. */
#include "cohort/base.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 }; /* a cache line, and the widest vector register */

int coh_alloc(void *out, size_t n, size_t size, coh_error *err) {
  void *memory = NULL;
  memcpy(out, &memory, sizeof memory);
  size_t bytes;
  if (__builtin_mul_overflow(n, size, &bytes) || bytes > PTRDIFF_MAX - ALIGNMENT)
    return coh_fail(err, COH_ENOMEM, "out of memory: %zu times %zu bytes asked for", n,
                    size);
  size_t rounded = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
  memory = aligned_alloc(ALIGNMENT, rounded);
  if (!memory)
    return coh_fail(err, COH_ENOMEM, "out of memory: %zu bytes asked for", bytes);
  memset(memory, 0, rounded);
  memcpy(out, &memory, sizeof memory);
  return COH_OK;
}
