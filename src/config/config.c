/* config.c - a coh_config from an INI file and assignments, and back to an INI text.
 * Lines are found by ini.c, values read by value.c, the whole is checked by check.c. */
#include "sweep_private.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- errors ------------------------------------------------------------------------ */

int coh_explain_place(const char *path, int line, coh_error *err) {
  if (line == COH_OVERRIDE) return coh_explain(err, "override");
  return line > 0 ? coh_explain(err, "%s:%d", path, line) : coh_explain(err, "%s", path);
}

static int not_read(const coh_param *p, int job, coh_error *err) {
  coh_text t = {0};
  coh_text_add(&t, "%s.%s is not read by job = %s, only by job = ", p->section, p->key,
               coh_job_names[job]);
  const char *before = "";
  for (int other = 0; other < COH_JOBS; other++) {
    if (!coh_param_is_read(p, other)) continue;
    coh_text_add(&t, "%s%s", before, coh_job_names[other]);
    before = ", ";
  }
  return coh_fail_text(err, &t);
}

/* ---- one assignment -----------------------------------------------------------------
 */

static int find(const char *section, const char *key, const coh_param **out,
                coh_error *err) {
  *out = coh_param_find(section, key);
  if (*out) return COH_OK;
  return coh_section_exists(section) ? coh_fail_unknown_key(section, key, err)
                                     : coh_fail_unknown_section(section, err);
}

static int assign(coh_config *cfg, const coh_assignment *a, coh_error *err) {
  const coh_param *p;
  int rc = find(a->section, a->key, &p, err);
  if (rc != COH_OK) return rc;
  if (!coh_param_is_read(p, cfg->experiment.job))
    return not_read(p, cfg->experiment.job, err);
  return coh_value_parse(p, a->value, cfg, err);
}

/* A name in lower case from n bytes, without the blanks around it; out holds 64. */
static int cut_name(const char *text, size_t n, char *out, coh_error *err) {
  while (n && isblank((unsigned char)*text)) text++, n--;
  while (n && isblank((unsigned char)text[n - 1])) n--;
  int rc = coh_format(out, 64, err, "%.*s", (int)n, text);
  coh_name_lower(out);
  return rc;
}

/* "section.key=value" in parts; names is [2][64], value points into `text`. */
static int split(const char *text, char names[2][64], coh_assignment *out,
                 coh_error *err) {
  char shown[128];
  const char *dot = strchr(text, '.'), *equals = strchr(text, '=');
  if (!dot || !equals || dot > equals)
    return coh_fail(err, COH_EUSAGE, "\"%s\": expected section.key=value",
                    coh_shown(text, shown));
  int rc = cut_name(text, (size_t)(dot - text), names[0], err);
  if (rc == COH_OK) rc = cut_name(dot + 1, (size_t)(equals - dot - 1), names[1], err);
  *out = (coh_assignment){.section = names[0],
                          .key = names[1],
                          .value = equals + 1 + strspn(equals + 1, " \t"),
                          .line = COH_OVERRIDE};
  return rc;
}

int coh_config_set(coh_config *cfg, const char *text, coh_error *err) {
  char names[2][64];
  coh_assignment a;
  coh_config changed = *cfg;
  int rc = split(text, names, &a, err);
  if (rc == COH_OK) rc = assign(&changed, &a, err);
  if (rc != COH_OK) return rc;
  if (changed.experiment.job != cfg->experiment.job)
    return coh_fail(err, COH_EUSAGE,
                    "experiment.job = \"%s\": the job was fixed as %s when the file was "
                    "read, since the defaults depend on it",
                    coh_job_names[changed.experiment.job],
                    coh_job_names[cfg->experiment.job]);
  *cfg = changed;
  return COH_OK;
}

/* ---- a file ------------------------------------------------------------------------ */

static bool is_sweep(const char *section) {
  return strcmp(section, "sweep") == 0;
}

/* Names in the file: unknown ones, and keys given twice. */
static int check_names(coh_loader *l, coh_error *err) {
  size_t count;
  const coh_param *params = coh_params(&count), *p;
  for (size_t i = 0; i < l->ini.n; i++) {
    const coh_ini_line *line = l->ini.lines + i;
    int rc = COH_OK;
    if (line->key && is_sweep(line->section)) continue; /* named by sweep_axes.c */
    if (!line->key) {
      if (!coh_section_exists(line->section))
        rc = coh_fail_unknown_section(line->section, err);
    } else if ((rc = find(line->section, line->key, &p, err)) == COH_OK) {
      int *first = l->set_by + (p - params);
      if (*first)
        rc = coh_fail(err, COH_EUSAGE, "%s.%s is given twice, first in line %d",
                      p->section, p->key, *first);
      *first = line->number;
    }
    if (rc != COH_OK) return coh_explain_place(l->path, line->number, err);
  }
  return COH_OK;
}

static void add_assignment(coh_loader *l, coh_assignment a) {
  if (is_sweep(a.section))
    l->sweep[l->n_sweep++] = a;
  else
    l->assignments[l->n++] = a;
}

static int add_override(coh_loader *l, const char *text, char names[2][64],
                        coh_error *err) {
  size_t count;
  const coh_param *p;
  coh_assignment a;
  int rc = split(text, names, &a, err);
  if (rc == COH_OK && !is_sweep(a.section)) {
    rc = find(a.section, a.key, &p, err);
    if (rc == COH_OK) l->set_by[p - coh_params(&count)] = COH_OVERRIDE;
  }
  if (rc != COH_OK) return coh_explain_place(l->path, COH_OVERRIDE, err);
  add_assignment(l, a);
  return COH_OK;
}

static int collect(coh_loader *l, size_t n_set, const char *const *set, coh_error *err) {
  for (size_t i = 0; i < l->ini.n; i++) {
    const coh_ini_line *line = l->ini.lines + i;
    if (line->key)
      add_assignment(l, (coh_assignment){line->section, line->key, line->value,
                                         line->comment, line->number});
  }
  for (size_t i = 0; i < n_set; i++) {
    int rc = add_override(l, set[i], l->names[i], err);
    if (rc != COH_OK) return rc;
  }
  return COH_OK;
}

/* The job that is assigned last; everything else depends on it. */
static int find_job(const coh_loader *l, coh_config *cfg, coh_error *err) {
  const coh_param *job = coh_param_find("experiment", "job");
  bool found = false;
  for (size_t i = 0; i < l->n; i++) {
    const coh_assignment *a = l->assignments + i;
    if (coh_param_find(a->section, a->key) != job) continue;
    if (coh_value_parse(job, a->value, cfg, err) != COH_OK)
      return coh_explain_place(l->path, a->line, err);
    found = true;
  }
  if (found) return COH_OK;
  coh_text t = {0};
  coh_text_add(&t, "%s: experiment.job is missing: expected ", l->path);
  coh_value_expected(job, &t);
  return coh_fail_text(err, &t);
}

static int assign_all(const coh_loader *l, coh_config *cfg, coh_error *err) {
  int job = cfg->experiment.job;
  for (size_t i = 0; i < l->n; i++) {
    int rc = assign(cfg, l->assignments + i, err);
    if (rc != COH_OK) return coh_explain_place(l->path, l->assignments[i].line, err);
    cfg->experiment.job = job; /* an earlier line may say another one */
  }
  return COH_OK;
}

static int check_all(const coh_loader *l, const coh_config *cfg, coh_error *err) {
  size_t count;
  const coh_param *blame = NULL;
  int rc = coh_check_params(cfg, false, &blame, err);
  if (rc == COH_OK) return rc;
  return coh_explain_place(l->path, l->set_by[blame - coh_params(&count)], err);
}

static int prepare(coh_loader *l, size_t n_set, coh_error *err) {
  int rc;
  size_t count;
  coh_params(&count);
  COH_TRY(coh_ini_scan(l->path, &l->ini, err));
  COH_TRY(coh_alloc(&l->set_by, count, sizeof *l->set_by, err));
  COH_TRY(check_names(l, err));
  COH_TRY(coh_ini_values(l->path, &l->ini, err));
  COH_TRY(coh_alloc(&l->assignments, l->ini.n + n_set, sizeof *l->assignments, err));
  COH_TRY(coh_alloc(&l->sweep, l->ini.n + n_set, sizeof *l->sweep, err));
  COH_TRY(coh_alloc(&l->names, n_set, sizeof *l->names, err));
cleanup:
  return rc;
}

int coh_loader_open(coh_loader *l, const char *path, size_t n_set, const char *const *set,
                    coh_error *err) {
  int rc;
  coh_config *cfg = &l->cfg;
  memset(l, 0, sizeof *l);
  l->path = path;
  COH_TRY(prepare(l, n_set, err));
  COH_TRY(collect(l, n_set, set, err));
  COH_TRY(find_job(l, cfg, err));
  coh_config_defaults(cfg, (coh_job)cfg->experiment.job);
  COH_TRY(coh_format(cfg->file, sizeof cfg->file, err, "%s", path));
  rc = assign_all(l, cfg, err);
cleanup:
  return rc;
}

void coh_loader_close(coh_loader *l) {
  free(l->set_by);
  free(l->names);
  free(l->sweep);
  free(l->assignments);
  coh_ini_free(&l->ini);
}

int coh_config_load(coh_config *cfg, const char *path, size_t n_set,
                    const char *const *set, coh_error *err) {
  int rc;
  coh_loader l;
  coh_sweep *sweep = NULL;
  COH_TRY(coh_loader_open(&l, path, n_set, set, err));
  if (l.n_sweep > 0) COH_TRY(sweep_create(&l, &sweep, err));
  if (!sweep) COH_TRY(check_all(&l, &l.cfg, err));
  *cfg = sweep ? *coh_sweep_base(sweep) : l.cfg;
cleanup:
  coh_sweep_destroy(sweep);
  coh_loader_close(&l);
  return rc;
}

int coh_config_check(const coh_config *cfg, coh_error *err) {
  const coh_param *blame = NULL;
  int rc = coh_check_params(cfg, false, &blame, err);
  return rc == COH_OK || !*cfg->file ? rc : coh_explain_place(cfg->file, COH_UNSET, err);
}

/* ---- defaults, and back to text ------------------------------------------------------
 */

void coh_config_defaults(coh_config *cfg, coh_job job) {
  size_t count;
  const coh_param *p = coh_params(&count);
  coh_error cannot_happen; /* a test reads every default */
  memset(cfg, 0, sizeof *cfg);
  for (size_t i = 0; i < count; i++) {
    const char *text = coh_param_default(p + i, (int)job);
    if (text) coh_value_parse(p + i, text, cfg, &cannot_happen);
  }
  cfg->experiment.job = (int)job;
}

bool coh_param_is_default(const coh_config *cfg, const coh_param *p) {
  coh_config defaults;
  coh_error cannot_happen;
  const char *text = coh_param_default(p, cfg->experiment.job);
  return text && coh_value_parse(p, text, &defaults, &cannot_happen) == COH_OK &&
         coh_value_same(p, cfg, &defaults);
}

int coh_config_path(const coh_config *cfg, const char *value, char *out, size_t size,
                    coh_error *err) {
  const char *slash = strrchr(cfg->file, '/');
  bool below = *value && *value != '/' && slash;
  return coh_format(out, size, err, "%.*s%s", below ? (int)(slash + 1 - cfg->file) : 0,
                    cfg->file, value);
}

/* A path as the reader would find it from any folder; as it is if that cannot be told. */
static void add_absolute(const coh_config *cfg, const char *value, coh_text *out) {
  char path[COH_PATH], here[COH_PATH];
  coh_error ignored;
  if (coh_config_path(cfg, value, path, sizeof path, &ignored) != COH_OK)
    coh_text_add(out, "%s", value);
  else if (*path == '/' || !getcwd(here, sizeof here))
    coh_text_add(out, "%s", path);
  else
    coh_text_add(out, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
}

static void show_value(const coh_config *cfg, const coh_param *p, bool absolute,
                       coh_text *out) {
  coh_text t = {0};
  coh_param_value(cfg, p, &t);
  if (absolute && t.len && coh_value_is_path(p, t.data)) {
    coh_text path = {0};
    add_absolute(cfg, t.data, &path);
    coh_text_free(&t);
    t = path;
  }
  const char *quote = t.len ? coh_text_quote(t.data) : "";
  if (t.len) coh_text_add(out, " %s%s%s", quote ? quote : "", t.data, quote ? quote : "");
  out->failed |= t.failed;
  coh_text_free(&t);
}

void coh_show(const coh_config *cfg, bool absolute, coh_text *out) {
  size_t count;
  const coh_param *p = coh_params(&count);
  const char *section = "";
  for (size_t i = 0; i < count; i++) {
    if (!coh_param_is_read(p + i, cfg->experiment.job)) continue;
    if (strcmp(section, p[i].section) != 0)
      coh_text_add(out, "%s[%s]\n", *section ? "\n" : "", p[i].section);
    section = p[i].section;
    coh_text_add(out, "%s =", p[i].key);
    show_value(cfg, p + i, absolute, out);
    coh_text_add(out, "\n");
  }
}

void coh_config_show(const coh_config *cfg, coh_text *out) {
  coh_show(cfg, true, out);
}
