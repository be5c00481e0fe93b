/* sweep.c - a sweep: read from a file, its runs as configurations, and back to an INI
 * text. Values are read by sweep_values.c, axes made by sweep_axes.c, conditions judged
 * by sweep_where.c, identities made by sweep_id.c. */
#include "sweep_private.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- runs -------------------------------------------------------------------------- */

size_t coh_sweep_count(const coh_sweep *s) {
  return s->runs;
}

size_t coh_sweep_product(const coh_sweep *s) {
  return s->combinations;
}

const coh_config *coh_sweep_base(const coh_sweep *s) {
  return &s->base;
}

size_t coh_sweep_axes(const coh_sweep *s) {
  return s->n_axes;
}

const coh_param *coh_sweep_param(const coh_sweep *s, size_t axis) {
  return s->axes[axis].param;
}

size_t coh_sweep_values(const coh_sweep *s, size_t axis) {
  return s->axes[axis].values.n;
}

size_t coh_sweep_group(const coh_sweep *s, size_t axis) {
  return s->axes[axis].group;
}

const char *coh_sweep_text(const coh_sweep *s, size_t axis, size_t v) {
  return sweep_values_get(&s->axes[axis].values, v);
}

size_t coh_sweep_index(const coh_sweep *s, size_t i, size_t axis) {
  return sweep_digit(s, s->axes + axis, sweep_combination(s, i));
}

const char *coh_sweep_value(const coh_sweep *s, size_t i, size_t axis) {
  return coh_sweep_text(s, axis, coh_sweep_index(s, i, axis));
}

/* "run 7 (training.lr = 0.1, experiment.seed = 3): " in front of the message. */
static int explain_run(const coh_sweep *s, size_t i, coh_error *err) {
  coh_text t = {0};
  for (size_t a = 0; a < s->n_axes; a++)
    coh_text_add(&t, "%s%s.%s = %s", a ? ", " : "", s->axes[a].param->section,
                 s->axes[a].param->key, coh_sweep_value(s, i, a));
  if (!t.failed) coh_explain(err, "run %zu (%.1000s)", i, t.data);
  coh_text_free(&t);
  return err->code;
}

/* Where a parameter of this sweep got its value. */
static int line_of(const coh_sweep *s, const coh_param *p) {
  size_t count;
  for (size_t a = 0; a < s->n_axes; a++)
    if (s->axes[a].param == p) return s->axes[a].line;
  return s->set_by[p - coh_params(&count)];
}

static int assign_run(const coh_sweep *s, size_t i, coh_config *cfg, coh_error *err) {
  int rc = COH_OK;
  for (size_t a = 0; rc == COH_OK && a < s->n_axes; a++)
    rc = coh_value_parse(s->axes[a].param, coh_sweep_value(s, i, a), cfg, err);
  return rc;
}

/* Where runs differ in a choice, each reads what belongs to its own: of training.finish =
 * none, lbfgs only the runs with lbfgs read training.finish_steps. */
static bool has_choices(const coh_sweep *s) {
  for (size_t a = 0; a < s->n_axes; a++)
    if (s->axes[a].param->type == COH_TYPE_CHOICE) return true;
  return false;
}

int coh_sweep_config(const coh_sweep *s, size_t i, coh_config *cfg, coh_error *err) {
  const coh_param *blame = NULL;
  if (i >= s->runs)
    return coh_fail(err, COH_EBUG, "run %zu of a sweep of %zu", i, s->runs);
  *cfg = s->base;
  int rc = assign_run(s, i, cfg, err);
  if (rc == COH_OK) rc = coh_check_params(cfg, has_choices(s), &blame, err);
  if (rc == COH_OK) return rc;
  explain_run(s, i, err);
  return coh_explain_place(s->path, blame ? line_of(s, blame) : COH_UNSET, err);
}

/* ---- reading ----------------------------------------------------------------------- */

/* [sweep] folder: what relative paths are relative to. */
static int take_folder(coh_sweep *s, coh_error *err) {
  sweep_text *rule = s->rules + SWEEP_FOLDER;
  char *text = rule->text;
  if (!text) return COH_OK;
  const char *slash = strrchr(s->path, '/'), *name = slash ? slash + 1 : s->path;
  size_t n = strlen(text);
  bool quoted = n > 1 && strchr("\"'", *text) && text[n - 1] == *text;
  if (quoted) text[n - 1] = '\0';
  int rc =
      coh_format(s->base.file, sizeof s->base.file, err, "%s/%s", text + quoted, name);
  if (quoted) text[n - 1] = *text;
  return rc == COH_OK ? rc : coh_explain_place(s->path, rule->line, err);
}

/* One wrong run is that run's affair; a sweep without a valid one is wrong as a whole. */
static int check_some(const coh_sweep *s, coh_error *err) {
  coh_config cfg;
  coh_error other;
  int rc = coh_sweep_config(s, 0, &cfg, err);
  for (size_t i = 1; rc != COH_OK && i < s->runs && i < SWEEP_TRIED; i++)
    if (coh_sweep_config(s, i, &cfg, &other) == COH_OK) rc = COH_OK;
  return rc;
}

static bool has_rule(const coh_sweep *s, coh_error *err) {
  for (int i = 0; i < SWEEP_FOLDER; i++) {
    if (!s->rules[i].text || i == SWEEP_REPEAT) continue;
    coh_fail(err, COH_EUSAGE, "sweep.%s needs an axis, and [sweep] has none",
             sweep_rule_names[i]);
    coh_explain_place(s->path, s->rules[i].line, err);
    return true;
  }
  return false;
}

static int fill(coh_sweep *s, const coh_loader *l, coh_error *err) {
  int rc;
  size_t count;
  coh_params(&count);
  s->base = l->cfg;
  s->path = strdup(l->path);
  if (!s->path) return coh_fail(err, COH_ENOMEM, "no memory for a sweep");
  COH_TRY(coh_alloc(&s->set_by, count, sizeof *s->set_by, err));
  memcpy(s->set_by, l->set_by, count * sizeof *s->set_by);
  COH_TRY(sweep_axes_make(s, l, err));
  if (s->n_axes == 0) return has_rule(s, err) ? COH_EUSAGE : COH_OK;
  COH_TRY(take_folder(s, err));
  COH_TRY(sweep_axes_differ(s, err));
  COH_TRY(sweep_where(s, err));
  COH_TRY(assign_run(s, 0, &s->base, err));
  COH_TRY(sweep_id_prepare(s, err));
  rc = check_some(s, err);
cleanup:
  return rc;
}

int sweep_create(const coh_loader *l, coh_sweep **out, coh_error *err) {
  coh_sweep *s;
  *out = NULL;
  int rc = coh_alloc(&s, 1, sizeof *s, err);
  if (rc != COH_OK) return rc;
  rc = fill(s, l, err);
  if (rc == COH_OK && s->n_axes > 0)
    *out = s;
  else
    coh_sweep_destroy(s);
  return rc;
}

int coh_sweep_load(const char *path, size_t n_set, const char *const *set,
                   coh_sweep **out, coh_error *err) {
  int rc;
  coh_loader l;
  *out = NULL;
  COH_TRY(coh_loader_open(&l, path, n_set, set, err));
  if (l.n_sweep > 0) COH_TRY(sweep_create(&l, out, err));
cleanup:
  coh_loader_close(&l);
  return rc;
}

void coh_sweep_destroy(coh_sweep *s) {
  if (!s) return;
  for (size_t i = 0; i < s->n_axes; i++) {
    free(s->axes[i].source);
    free(s->axes[i].fallback);
    sweep_values_free(&s->axes[i].values);
  }
  for (int i = 0; i < SWEEP_RULES; i++) free(s->rules[i].text);
  for (size_t i = 0; s->pieces && i <= s->n_axes; i++) free(s->pieces[i]);
  free(s->pieces);
  free(s->sorted);
  free(s->kept);
  free(s->strides);
  free(s->sizes);
  free(s->axes);
  free(s->set_by);
  free(s->path);
  free(s);
}

/* ---- back to text ------------------------------------------------------------------ */

/* The folder that paths are relative to, absolute. */
static void show_folder(const coh_sweep *s, coh_text *out) {
  char here[COH_PATH] = "";
  const char *file = s->base.file, *slash = strrchr(file, '/');
  int n = slash ? (int)(slash - file) : 0;
  coh_text folder = {0};
  if (*file != '/' && !getcwd(here, sizeof here)) here[0] = '\0';
  bool joined = (*here && n > 0) || (*file == '/' && n == 0);
  coh_text_add(&folder, "%s%s%.*s", here, joined ? "/" : "", n, file);
  if (!folder.failed && folder.len > 0) {
    const char *quote = strchr(folder.data, '"') ? "'" : "\"";
    coh_text_add(out, "folder = %s%s%s\n", quote, folder.data, quote);
  }
  coh_text_free(&folder);
}

/* `repeat` counts from experiment.seed, which need not be that of run 0. */
static void show_base(const coh_sweep *s, coh_text *out) {
  coh_config cfg = s->base;
  coh_error cannot_happen;
  const sweep_axis *last = s->axes + s->n_axes - 1;
  if (!last->source)
    coh_value_parse(last->param, sweep_values_get(&last->values, 0), &cfg,
                    &cannot_happen);
  coh_show(&cfg, false, out);
}

void coh_sweep_show(const coh_sweep *s, coh_text *out) {
  show_base(s, out);
  coh_text_add(out, "\n[sweep]\n");
  show_folder(s, out);
  for (size_t i = 0; i < s->n_axes; i++) {
    const sweep_axis *a = s->axes + i;
    if (a->source)
      coh_text_add(out, "%s.%s = %s\n", a->param->section, a->param->key, a->source);
  }
  for (int i = 0; i < SWEEP_FOLDER; i++)
    if (s->rules[i].text)
      coh_text_add(out, "%s = %s\n", sweep_rule_names[i], s->rules[i].text);
}

/* ---- sub-batches ------------------------------------------------------------------- */

void coh_sub_batch(size_t R, size_t k, size_t n, size_t *first, size_t *count) {
  *first = (k - 1) * R / n;
  *count = k * R / n - *first;
}
