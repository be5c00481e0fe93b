/* sweep_id.c - identities of runs: of a configuration, and of the runs of a sweep without
 * making their configurations. */
#include "sweep_private.h"

#include <stdlib.h>
#include <string.h>

bool coh_param_is_identity(const coh_param *p, coh_job job) {
  if (!coh_param_is_read(p, job)) return false;
  if (p->scope != COH_SCOPE_NONE) return true;
  bool teacher = strcmp(p->section, "teacher") == 0;
  return (teacher && (strcmp(p->key, "config") == 0 || strcmp(p->key, "weights") == 0)) ||
         ((strcmp(p->section, "query") == 0 || strcmp(p->section, "dataset") == 0) &&
          strcmp(p->key, "file") == 0);
}

static void add_line(const coh_config *cfg, const coh_param *p, coh_text *out) {
  if (coh_param_is_default(cfg, p)) return;
  coh_text_add(out, "%s.%s=", p->section, p->key);
  coh_param_value(cfg, p, out);
  coh_text_add(out, "\n");
}

int coh_config_id(const coh_config *cfg, coh_hash *out, coh_error *err) {
  coh_text t = {0};
  size_t count;
  const coh_param *p = coh_params(&count);
  coh_text_add(&t, "job=%s\n", coh_job_names[cfg->experiment.job]);
  for (size_t i = 0; i < count; i++)
    if (coh_param_is_identity(p + i, cfg->experiment.job)) add_line(cfg, p + i, &t);
  int rc = coh_text_check(&t, err);
  if (rc == COH_OK) rc = coh_hash_bytes(t.data, t.len, out, err);
  coh_text_free(&t);
  return rc;
}

/* ---- of a sweep ---------------------------------------------------------------------
 */

static int compare_params(const void *x, const void *y, void *ctx) {
  const coh_sweep *s = ctx;
  const coh_param *a = s->axes[*(const size_t *)x].param,
                  *b = s->axes[*(const size_t *)y].param;
  return (a > b) - (a < b);
}

/* What an axis' value must differ from to enter the id. */
static int find_fallback(coh_sweep *s, sweep_axis *axis, coh_error *err) {
  coh_config cfg = s->base;
  coh_text t = {0};
  const char *text = coh_param_default(axis->param, s->base.experiment.job);
  if (!text) return COH_OK;
  int rc = coh_value_parse(axis->param, text, &cfg, err);
  coh_param_value(&cfg, axis->param, &t);
  coh_text_addn(&t, "", 0);
  if (rc == COH_OK) rc = coh_text_check(&t, err);
  axis->fallback = t.data;
  return rc;
}

/* Parameters that are no axes, cut where an axis stands. */
static void fill_pieces(const coh_sweep *s, coh_text *pieces) {
  size_t count, piece = 0;
  const coh_param *p = coh_params(&count);
  coh_text_add(pieces, "job=%s\n", coh_job_names[s->base.experiment.job]);
  for (size_t i = 0; i < count; i++) {
    if (piece < s->n_axes && s->axes[s->sorted[piece]].param == p + i)
      coh_text_addn(pieces + ++piece, "", 0);
    else if (coh_param_is_identity(p + i, s->base.experiment.job))
      add_line(&s->base, p + i, pieces + piece);
  }
}

int sweep_id_prepare(coh_sweep *s, coh_error *err) {
  int rc;
  coh_text *pieces = NULL;
  COH_TRY(coh_alloc(&s->sorted, s->n_axes, sizeof *s->sorted, err));
  COH_TRY(coh_alloc(&s->pieces, s->n_axes + 1, sizeof *s->pieces, err));
  COH_TRY(coh_alloc(&pieces, s->n_axes + 1, sizeof *pieces, err));
  for (size_t i = 0; i < s->n_axes; i++) {
    s->sorted[i] = i;
    COH_TRY(find_fallback(s, s->axes + i, err));
  }
  qsort_r(s->sorted, s->n_axes, sizeof *s->sorted, compare_params, s);
  fill_pieces(s, pieces);
  for (size_t i = 0; i <= s->n_axes; i++) {
    s->pieces[i] = pieces[i].data;
    if (rc == COH_OK) rc = coh_text_check(pieces + i, err);
  }
cleanup:
  free(pieces);
  return rc;
}

static void add(coh_text *t, const char *text) {
  coh_text_addn(t, text, strlen(text));
}

/* The text that coh_config_id hashes, of a combination, appended to `t`. */
static void add_text(const coh_sweep *s, size_t c, coh_text *t) {
  add(t, s->pieces[0]);
  for (size_t i = 0; i < s->n_axes; i++) {
    const sweep_axis *a = s->axes + s->sorted[i];
    const char *value = sweep_values_get(&a->values, sweep_digit(s, a, c));
    if (!a->fallback || strcmp(value, a->fallback) != 0) {
      add(t, a->param->section);
      add(t, ".");
      add(t, a->param->key);
      add(t, "=");
      add(t, value);
      add(t, "\n");
    }
    add(t, s->pieces[i + 1]);
  }
}

static int id_of(const coh_sweep *s, size_t i, coh_text *t, coh_hash *out,
                 coh_error *err) {
  t->len = 0;
  add_text(s, sweep_combination(s, i), t);
  int rc = coh_text_check(t, err);
  return rc == COH_OK ? coh_hash_bytes(t->data, t->len, out, err) : rc;
}

int coh_sweep_id(const coh_sweep *s, size_t i, coh_hash *out, coh_error *err) {
  coh_text t = {0};
  int rc = id_of(s, i, &t, out, err);
  coh_text_free(&t);
  return rc;
}

/* Hash over the hashes of blocks of ids, so that it needs little memory. */
void coh_sweep_hash(const coh_sweep *s, coh_hash *out) {
  enum { BLOCK = 4096 };
  coh_text id = {0}, block = {0};
  coh_error ignored;
  coh_hash hash;
  *out = (coh_hash){{0}};
  for (size_t i = 0; i < s->runs; i++) {
    if (id_of(s, i, &id, &hash, &ignored) != COH_OK) goto cleanup;
    coh_text_addn(&block, hash.hex, 32);
    if (block.len < (size_t)BLOCK * 32) continue;
    if (coh_hash_bytes(block.data, block.len, &hash, &ignored) != COH_OK) goto cleanup;
    block.len = 0;
    coh_text_addn(&block, hash.hex, 32); /* the next block begins with it */
  }
  if (!block.failed) coh_hash_bytes(block.data, block.len, out, &ignored);
cleanup:
  coh_text_free(&id);
  coh_text_free(&block);
}
