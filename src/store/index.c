/* index.c - a table of texts, each with a number: open addressing, never more than half
 * full. Uses base. */
#include "store/store_private.h"

#include <stdlib.h>
#include <string.h>

int coh_index_make(coh_index *t, size_t n, coh_error *err) {
  size_t slots = 16;
  while (slots / 2 < n) slots *= 2;
  *t = (coh_index){.mask = slots - 1};
  return coh_alloc(&t->slot, slots, sizeof *t->slot, err);
}

/* FNV-1a, 64 bits. */
static uint64_t mix(const char *key) {
  uint64_t h = 14695981039346656037u;
  for (; *key; key++) h = (h ^ (uint8_t)*key) * 1099511628211u;
  return h ^ h >> 32;
}

/* Where the key is, or where it would be put. */
static size_t place(const coh_index *t, const char *key) {
  size_t i = mix(key) & t->mask;
  while (t->slot[i].key && strcmp(t->slot[i].key, key) != 0) i = (i + 1) & t->mask;
  return i;
}

size_t coh_index_put(coh_index *t, const char *key, size_t value) {
  struct coh_index_slot *s = t->slot + place(t, key);
  if (!s->key) {
    s->key = key;
    s->value = value;
  }
  return s->value;
}

size_t coh_index_find(const coh_index *t, const char *key) {
  const struct coh_index_slot *s = t->slot + place(t, key);
  return s->key ? s->value : SIZE_MAX;
}

void coh_index_free(coh_index *t) {
  free(t->slot);
  *t = (coh_index){0};
}
