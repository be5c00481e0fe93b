/* state.c - the method's state in checkpoints: arrays and numbers of each member, so that
 * ranks may be others at restore. */
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

enum { WORDS = sizeof(coh_squeezed) / sizeof(uint64_t) };
_Static_assert(sizeof(coh_squeezed) % sizeof(uint64_t) == 0, "numbers of 8 bytes");

static size_t bytes_of(const coh_compress *c) {
  return c->count * c->plan.P * coh_dtype_size(c->dev->dtype);
}

/* Whether an array is there: the same on ranks without members. */
static bool has_array(const coh_compress *c, int i) {
  return i == MASK || (c->gates && i < MEANS) || c->means;
}
static bool has_best(const coh_compress *c, int i) {
  return c->pick_best && (i < BEST_TWIN || c->gates);
}

static void name_array(const char *what, int i, char out[32]) {
  coh_error ignored;
  coh_format(out, 32, &ignored, "compress_%s%d", what, i);
}

/* Rows [count, P] of the device's type. */
static int put(coh_compress *c, coh_archive *a, const char *what, int i, const void *rows,
               coh_error *err) {
  char name[32];
  name_array(what, i, name);
  return coh_archive_put_rows(a, name, coh_type_of(c->dev->dtype), c->N, 1, &c->plan.P,
                              c->first, c->count, rows, err);
}

static int get(coh_compress *c, coh_archive *a, const char *what, int i, void *rows,
               coh_error *err) {
  char name[32];
  name_array(what, i, name);
  return coh_archive_get_rows(a, name, coh_type_of(c->dev->dtype), c->N, 1, &c->plan.P,
                              c->first, c->count, rows, err);
}

int coh_compress_save(void *ctx, coh_archive *a, coh_error *err) {
  int rc;
  coh_compress *c = ctx;
  void *rows = NULL;
  size_t words = WORDS, window = c->window;
  rc = coh_alloc(&rows, bytes_of(c), 1, err);
  COH_TRY(coh_agree(c->grid->world, rc, err));
  for (int i = 0; i < ARRAYS; i++) {
    if (!has_array(c, i)) continue;
    if (c->count > 0)
      rc = c->dev->ops->download(c->dev, rows, c->array[i], bytes_of(c), err);
    COH_TRY(coh_agree(c->grid->world, rc, err));
    COH_TRY(put(c, a, "array", i, rows, err));
  }
  for (int i = 0; i < BEST; i++)
    if (has_best(c, i)) COH_TRY(put(c, a, "best", i, c->best[i], err));
  COH_TRY(coh_archive_put_rows(a, "compress_member", COH_T_U64, c->N, 1, &words, c->first,
                               c->count, c->member, err));
  COH_TRY(coh_archive_put_rows(a, "compress_log", COH_T_F64, c->N, 1, &window, c->first,
                               c->count, c->log, err));
cleanup:
  free(rows);
  return rc;
}

int coh_compress_restore(void *ctx, coh_archive *a, coh_error *err) {
  int rc;
  coh_compress *c = ctx;
  void *rows = NULL;
  size_t words = WORDS, window = c->window;
  rc = coh_alloc(&rows, bytes_of(c), 1, err);
  COH_TRY(coh_agree(c->grid->world, rc, err));
  for (int i = 0; i < ARRAYS; i++) {
    if (!has_array(c, i)) continue;
    COH_TRY(get(c, a, "array", i, rows, err));
    if (c->count > 0)
      rc = c->dev->ops->upload(c->dev, c->array[i], rows, bytes_of(c), err);
    COH_TRY(coh_agree(c->grid->world, rc, err));
  }
  for (int i = 0; i < BEST; i++)
    if (has_best(c, i)) COH_TRY(get(c, a, "best", i, c->best[i], err));
  COH_TRY(coh_archive_get_rows(a, "compress_member", COH_T_U64, c->N, 1, &words, c->first,
                               c->count, c->member, err));
  COH_TRY(coh_archive_get_rows(a, "compress_log", COH_T_F64, c->N, 1, &window, c->first,
                               c->count, c->log, err));
cleanup:
  free(rows);
  return rc;
}
