/* plan_packs.c - stand-in for the grouping of runs into packs. */
#include "plan_packs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

/* What members of one ensemble may differ in. */
static bool may_differ(const coh_param *p) {
  static const char *const keys[] = {"lr", "weight_decay", "data_order_seed", NULL};
  if (p->scope == COH_SCOPE_SEED) return true;
  for (int i = 0; keys[i]; i++)
    if (strcmp(p->section, "training") == 0 && strcmp(p->key, keys[i]) == 0) return true;
  return false;
}

typedef struct place {
  uint64_t key;
  size_t run;
} place;

static int compare(const void *x, const void *y) {
  const place *a = x, *b = y;
  if (a->key != b->key) return a->key < b->key ? -1 : 1;
  return a->run < b->run ? -1 : a->run > b->run;
}

static uint64_t key_of(const coh_sweep *s, size_t i) {
  uint64_t key = 0;
  for (size_t a = 0; a < coh_sweep_axes(s); a++)
    if (!may_differ(coh_sweep_param(s, a)))
      key = key * coh_sweep_values(s, a) + coh_sweep_index(s, i, a);
  return key;
}

static int name_pack(const coh_sweep *s, plan_pack *p, coh_error *err) {
  int rc;
  coh_config cfg;
  coh_error ignored;
  coh_hash id;
  coh_text ids = {0};
  char label[COH_LABEL];
  (void)coh_sweep_config(s, p->run[0], &cfg, &ignored);
  COH_TRY(run_label(&cfg, label, err));
  for (size_t i = 0; i < p->n; i++) {
    COH_TRY(coh_sweep_id(s, p->run[i], &id, err));
    coh_text_add(&ids, "%s\n", id.hex);
  }
  COH_TRY(coh_text_check(&ids, err));
  COH_TRY(coh_hash_bytes(ids.data, ids.len, &id, err));
  rc = coh_format(p->name, sizeof p->name, err, "%s-%.*s", label, COH_HASH_SHOWN, id.hex);
cleanup:
  coh_text_free(&ids);
  return rc;
}

int plan_packs_make(const coh_sweep *s, size_t first, size_t count, plan_packs *out,
                    coh_error *err) {
  int rc;
  place *places = NULL;
  *out = (plan_packs){0};
  COH_TRY(coh_alloc(&places, count, sizeof *places, err));
  COH_TRY(coh_alloc(&out->run, count, sizeof *out->run, err));
  for (size_t i = 0; i < count; i++) places[i] = (place){key_of(s, first + i), first + i};
  qsort(places, count, sizeof *places, compare);
  size_t groups = 0;
  for (size_t i = 0; i < count; i++)
    groups += i == 0 || places[i].key != places[i - 1].key;
  COH_TRY(coh_alloc(&out->item, groups, sizeof *out->item, err));
  for (size_t i = 0; i < count; i++) {
    out->run[i] = places[i].run;
    if (i == 0 || places[i].key != places[i - 1].key)
      out->item[out->n++].run = out->run + i;
    out->item[out->n - 1].n++;
  }
  for (size_t i = 0; i < out->n; i++) COH_TRY(name_pack(s, out->item + i, err));
cleanup:
  free(places);
  return rc;
}

void plan_packs_free(plan_packs *p) {
  free(p->item);
  free(p->run);
  *p = (plan_packs){0};
}
