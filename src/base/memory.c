/* memory.c - aligned, zeroed arrays. Uses no other room. */
#include "cohort/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A cache line, and the widest vector register; a huge page, which large arrays are
 * laid on because reading across them then waits less for the translation of addresses.
 */
enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

/* NULL if there is no memory. */
static void *allocate(size_t bytes) {
  if (bytes < 4 * (size_t)HUGE_PAGE)
    return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  size_t rounded = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  void *memory = aligned_alloc(HUGE_PAGE, rounded);
  if (memory) (void)madvise(memory, rounded, MADV_HUGEPAGE); /* where the system can */
  return memory;
}

int coh_alloc(void *out, size_t n, size_t size, coh_error *err) {
  void *memory = NULL;
  memcpy(out, &memory, sizeof memory);
  size_t bytes;
  if (__builtin_mul_overflow(n, size, &bytes) || bytes > PTRDIFF_MAX - HUGE_PAGE)
    return coh_fail(err, COH_ENOMEM, "out of memory: %zu times %zu bytes asked for", n,
                    size);
  memory = allocate(bytes ? bytes : 1);
  if (!memory)
    return coh_fail(err, COH_ENOMEM, "out of memory: %zu bytes asked for", bytes);
  memset(memory, 0, bytes);
  memcpy(out, &memory, sizeof memory);
  return COH_OK;
}

/* In a floating number for the message, which needs no limit. */
static int fail_product(size_t n, const size_t *factor, coh_error *err) {
  double all = 1;
  for (size_t i = 0; i < n; i++) all *= (double)factor[i];
  return coh_fail(err, COH_ENOMEM, "out of memory: %.3g bytes asked for", all);
}

int coh_product_of(size_t *out, size_t n, const size_t *factor, coh_error *err) {
  size_t all = 1;
  bool empty = false, over = false;
  for (size_t i = 0; i < n; i++) {
    empty |= factor[i] == 0;
    over |= __builtin_mul_overflow(all, factor[i], &all);
  }
  *out = empty ? 0 : all;
  if (!empty && (over || all > PTRDIFF_MAX)) return fail_product(n, factor, err);
  return COH_OK;
}
