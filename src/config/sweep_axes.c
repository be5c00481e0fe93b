/* sweep_axes.c - which parameters a sweep varies: its axes from the lines of [sweep] and
 * the overrides, zipped groups, and the size of their product. */
#include "sweep_private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double seed_max = 0x1p53;

const char *const sweep_rule_names[SWEEP_RULES + 1] = {"zip",    "exclude", "only",
                                                       "repeat", "folder",  NULL};

static int copy(const char *text, char **out, coh_error *err) {
  char *made = strdup(text);
  if (!made) return coh_fail(err, COH_ENOMEM, "no memory for a line of [sweep]");
  free(*out);
  *out = made;
  return COH_OK;
}

/* ---- names of axes ----------------------------------------------------------------- */

/* A key without a dot is a rule that was misspelt, or lacks its section. */
static int unknown_rule(const char *key, coh_error *err) {
  char shown[128];
  coh_text t = {0};
  coh_text_add(&t, "unknown key \"%s\" in [sweep]: ", coh_shown(key, shown));
  const char *nearest = coh_name_nearest(key, sweep_rule_names);
  size_t count, found = 0;
  const coh_param *p = coh_params(&count);
  if (nearest) coh_text_add(&t, "did you mean \"%s\"?", nearest);
  for (size_t i = 0; i < count && !nearest; i++)
    if (strcmp(p[i].key, key) == 0)
      coh_text_add(&t, "%s\"%s.%s\"", found++ ? " or " : "did you mean ", p[i].section,
                   key);
  if (found) coh_text_add(&t, "?");
  if (!nearest && !found) {
    coh_text_add(&t, "expected section.key of a parameter, or one of ");
    coh_names_join(sweep_rule_names, &t);
  }
  return coh_fail_text(err, &t);
}

int sweep_param_find(const char *name, const coh_param **out, coh_error *err) {
  char section[64];
  const char *dot = strchr(name, '.');
  if (!dot) return unknown_rule(name, err);
  int rc = coh_format(section, sizeof section, err, "%.*s", (int)(dot - name), name);
  if (rc != COH_OK) return rc;
  *out = coh_param_find(section, dot + 1);
  if (*out) return COH_OK;
  return coh_section_exists(section) ? coh_fail_unknown_key(section, dot + 1, err)
                                     : coh_fail_unknown_section(section, err);
}

static bool starts(const char *text, const char *with) {
  return strncmp(text, with, strlen(with)) == 0;
}

/* Only what belongs to the identity of a run can differ between runs. */
static int check_sweepable(const coh_param *p, int job, coh_error *err) {
  const char *why = "it changes no number, so all runs of a sweep share it";
  if (!coh_param_is_read(p, job))
    return coh_fail(err, COH_EUSAGE,
                    "%s.%s is not read by job = %s, so it cannot be swept", p->section,
                    p->key, coh_job_names[job]);
  if (coh_param_is_identity(p, (coh_job)job)) return COH_OK;
  if (strcmp(p->key, "job") == 0) why = "the defaults of all others depend on it";
  if (strcmp(p->key, "name") == 0 || strcmp(p->key, "results") == 0)
    why = "it names the folder of the whole sweep";
  if (starts(p->key, "expand")) why = "it makes several runs of one; sweep model.name";
  return coh_fail(err, COH_EUSAGE, "%s.%s cannot be swept: %s", p->section, p->key, why);
}

sweep_axis *sweep_axis_find(const coh_sweep *s, const char *section, const char *key) {
  const coh_param *p = coh_param_find(section, key);
  for (size_t i = 0; p && i < s->n_axes; i++)
    if (s->axes[i].param == p) return s->axes + i;
  return NULL;
}

/* ---- lines ------------------------------------------------------------------------- */

/* Whatever stands in a line must survive being written to a file and read again. */
static int check_source(const char *text, coh_error *err) {
  char shown[128];
  size_t n = strlen(text);
  for (const char *c = text; *c; c++)
    if (iscntrl((unsigned char)*c) && *c != '\t')
      return coh_fail(err, COH_EUSAGE,
                      "\"%s\": expected a text without control characters",
                      coh_shown(text, shown));
  if (n && text[n - 1] == '\\')
    return coh_fail(err, COH_EUSAGE, "\"%s\": expected no backslash at the end",
                    coh_shown(text, shown));
  return COH_OK;
}

static int given_twice(const char *name, int line, coh_error *err) {
  return coh_fail(err, COH_EUSAGE, "sweep.%s is given twice, first in line %d", name,
                  line);
}

static int take_rule(sweep_text *rule, const char *name, const coh_assignment *a,
                     coh_error *err) {
  bool over = a->line == COH_OVERRIDE;
  if (rule->text && !over) return given_twice(name, rule->line, err);
  rule->line = a->line;
  if (*a->value) return copy(a->value, &rule->text, err);
  free(rule->text);
  rule->text = NULL;
  return COH_OK;
}

static int take_axis(coh_sweep *s, const coh_param *p, const coh_assignment *a,
                     coh_error *err) {
  bool over = a->line == COH_OVERRIDE;
  sweep_axis *axis = sweep_axis_find(s, p->section, p->key);
  if (axis && !over) return given_twice(a->key, axis->line, err);
  if (!*a->value && !over)
    return coh_fail(err, COH_EUSAGE, "sweep.%s.%s is empty: expected a list of values",
                    p->section, p->key);
  if (!axis) axis = s->axes + s->n_axes++;
  axis->param = p;
  axis->line = a->line;
  return copy(a->value, &axis->source, err);
}

/* In a file ';' begins a comment: "zip = a, b; c, d" would lose a group in silence. */
static int check_comment(const coh_assignment *a, coh_error *err) {
  const coh_param *p;
  coh_error ignored;
  char name[64];
  const char *text = a->comment;
  if (!text || strcmp(a->key, "zip") != 0) return COH_OK;
  text += strspn(text, " \t");
  size_t n = strcspn(text, ", \t");
  snprintf(name, sizeof name, "%.*s", n < 63 ? (int)n : 63, text);
  if (!strchr(name, '.') || sweep_param_find(name, &p, &ignored) != COH_OK) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "sweep.zip: what follows ';' is a comment; several groups are written "
                  "(a, b), (c, d)");
}

static int take(coh_sweep *s, const coh_assignment *a, int job, coh_error *err) {
  const coh_param *p;
  int rc = check_source(a->value, err);
  if (rc == COH_OK) rc = check_comment(a, err);
  if (rc != COH_OK) return rc;
  for (int i = 0; i < SWEEP_RULES; i++)
    if (strcmp(a->key, sweep_rule_names[i]) == 0)
      return take_rule(s->rules + i, sweep_rule_names[i], a, err);
  rc = sweep_param_find(a->key, &p, err);
  if (rc == COH_OK) rc = check_sweepable(p, job, err);
  return rc == COH_OK ? take_axis(s, p, a, err) : rc;
}

/* Axes that an override took away. */
static void drop_empty(coh_sweep *s) {
  size_t n = 0;
  for (size_t i = 0; i < s->n_axes; i++) {
    if (*s->axes[i].source)
      s->axes[n++] = s->axes[i];
    else
      free(s->axes[i].source);
  }
  memset(s->axes + n, 0, (s->n_axes - n) * sizeof *s->axes);
  s->n_axes = n;
}

static int check_overrides(const coh_sweep *s, const coh_loader *l, coh_error *err) {
  size_t count;
  for (size_t i = 0; i < s->n_axes; i++) {
    const coh_param *p = s->axes[i].param;
    if (l->set_by[p - coh_params(&count)] != COH_OVERRIDE) continue;
    coh_fail(err, COH_EUSAGE,
             "%s.%s is an axis of the sweep: sweep.%s.%s=VALUES gives it other values, "
             "and sweep.%s.%s= takes it out of the sweep",
             p->section, p->key, p->section, p->key, p->section, p->key);
    return coh_explain_place(l->path, COH_OVERRIDE, err);
  }
  return COH_OK;
}

/* ---- repeat ------------------------------------------------------------------------ */

static int repeat_from(const coh_sweep *s, const char *text, int64_t *n, coh_error *err) {
  char shown[128], *end;
  errno = 0;
  *n = strtoll(text, &end, 10);
  if (!isdigit((unsigned char)*text) || *end || errno || *n < 1 || *n > SWEEP_RUNS_MAX)
    return coh_fail(err, COH_EUSAGE,
                    "sweep.repeat = \"%s\": expected a whole number from 1 to %d",
                    coh_shown(text, shown), SWEEP_RUNS_MAX);
  if (sweep_axis_find(s, "experiment", "seed"))
    return coh_fail(err, COH_EUSAGE,
                    "sweep.repeat = %s excludes the axis experiment.seed: both say which "
                    "seeds are run",
                    text);
  if ((double)s->base.experiment.seed + (double)*n - 1 > seed_max)
    return coh_fail(err, COH_EUSAGE,
                    "sweep.repeat = %s: seeds from experiment.seed = %" PRId64
                    " on would exceed 2^53",
                    text, s->base.experiment.seed);
  return COH_OK;
}

/* The axis experiment.seed that `repeat` stands for. */
static int add_repeat(coh_sweep *s, coh_config *scratch, coh_error *err) {
  const sweep_text *rule = s->rules + SWEEP_REPEAT;
  char span[64];
  int64_t n, seed = s->base.experiment.seed;
  if (!rule->text) return COH_OK;
  int rc = repeat_from(s, rule->text, &n, err);
  if (rc != COH_OK) return coh_explain_place(s->path, rule->line, err);
  sweep_axis *axis = s->axes + s->n_axes++;
  axis->param = coh_param_find("experiment", "seed");
  axis->line = rule->line;
  axis->group = s->n_groups++;
  snprintf(span, sizeof span, "%" PRId64 "..%" PRId64, seed, seed + n - 1);
  return sweep_values_parse(axis->param, span, strlen(span), scratch, &axis->values, err);
}

/* ---- zip --------------------------------------------------------------------------- */

enum { NO_GROUP = -1 };

/* One name of a group at text[0..n), with blanks around it. */
static int zip_axis(const coh_sweep *s, const char *text, size_t n, size_t group,
                    size_t *of_axis, coh_error *err) {
  char name[64], shown[128];
  const coh_param *p;
  while (n && isspace((unsigned char)*text)) text++, n--;
  while (n && isspace((unsigned char)text[n - 1])) n--;
  snprintf(name, sizeof name, "%.*s", n < 63 ? (int)n : 63, text);
  coh_name_lower(name);
  if (!strchr(name, '.') || strpbrk(name, "();"))
    return coh_fail(err, COH_EUSAGE,
                    "sweep.zip: \"%s\": expected axes between commas as in a.x, b.y; "
                    "several groups are written (a.x, b.y), (c.z, d.w)",
                    coh_shown(name, shown));
  int rc = sweep_param_find(name, &p, err);
  if (rc != COH_OK) return rc;
  sweep_axis *axis = sweep_axis_find(s, p->section, p->key);
  if (!axis)
    return coh_fail(err, COH_EUSAGE, "sweep.zip: %s is not an axis of this sweep", name);
  size_t *slot = of_axis + (axis - s->axes);
  if (*slot != (size_t)NO_GROUP)
    return coh_fail(err, COH_EUSAGE, "sweep.zip: %s is named twice", name);
  *slot = group;
  return COH_OK;
}

/* The names text[0..n) of one group, at least two. */
static int zip_group(const coh_sweep *s, const char *text, size_t n, size_t group,
                     size_t *of_axis, coh_error *err) {
  size_t names = 0;
  for (const char *end = text + n;; names++) {
    const char *comma = memchr(text, ',', (size_t)(end - text));
    const char *stop = comma ? comma : end;
    int rc = zip_axis(s, text, (size_t)(stop - text), group, of_axis, err);
    if (rc != COH_OK) return rc;
    if (!comma) break;
    text = comma + 1;
  }
  if (names > 0) return COH_OK;
  return coh_fail(err, COH_EUSAGE, "sweep.zip: expected at least two axes in a group");
}

/* "a, b" or "(a, b), (c, d)" */
static int zip_groups(const coh_sweep *s, const char *text, size_t *of_axis,
                      coh_error *err) {
  text += strspn(text, " \t");
  if (*text != '(') return zip_group(s, text, strlen(text), 0, of_axis, err);
  for (size_t group = 0;; group++) {
    const char *close = *text == '(' ? strchr(text, ')') : NULL;
    if (!close)
      return coh_fail(err, COH_EUSAGE,
                      "sweep.zip: expected groups as in (a.x, b.y), (c.z, d.w)");
    int rc = zip_group(s, text + 1, (size_t)(close - text - 1), group, of_axis, err);
    if (rc != COH_OK) return rc;
    text = close + 1 + strspn(close + 1, " \t");
    if (!*text) return COH_OK;
    text += *text == ',';
    text += strspn(text, " \t");
  }
}

/* Groups are numbered in the order of their first axes. */
static void number_groups(coh_sweep *s, const size_t *of_axis) {
  for (size_t i = 0; i < s->n_axes; i++) {
    size_t j = 0;
    while (j < i && (of_axis[i] == (size_t)NO_GROUP || of_axis[j] != of_axis[i])) j++;
    s->axes[i].group = j < i ? s->axes[j].group : s->n_groups++;
  }
}

static int make_groups(coh_sweep *s, coh_error *err) {
  size_t *of_axis;
  const sweep_text *rule = s->rules + SWEEP_ZIP;
  int rc = coh_alloc(&of_axis, s->n_axes, sizeof *of_axis, err);
  if (rc != COH_OK) return rc;
  for (size_t i = 0; i < s->n_axes; i++) of_axis[i] = (size_t)NO_GROUP;
  if (rule->text) rc = zip_groups(s, rule->text, of_axis, err);
  if (rc != COH_OK)
    coh_explain_place(s->path, rule->line, err);
  else
    number_groups(s, of_axis);
  free(of_axis);
  return rc;
}

/* ---- sizes ------------------------------------------------------------------------- */

static int check_lengths(const coh_sweep *s, const sweep_axis *axis, coh_error *err) {
  for (const sweep_axis *first = s->axes; first < axis; first++) {
    if (first->group != axis->group || first->values.n == axis->values.n) continue;
    coh_fail(err, COH_EUSAGE,
             "sweep.zip: expected axes of one length, %s.%s has %zu values, %s.%s %zu",
             first->param->section, first->param->key, first->values.n,
             axis->param->section, axis->param->key, axis->values.n);
    return coh_explain_place(s->path, s->rules[SWEEP_ZIP].line, err);
  }
  return COH_OK;
}

static int size_groups(coh_sweep *s, coh_error *err) {
  int rc;
  COH_TRY(coh_alloc(&s->sizes, s->n_groups, sizeof *s->sizes, err));
  COH_TRY(coh_alloc(&s->strides, s->n_groups, sizeof *s->strides, err));
  for (size_t i = 0; i < s->n_axes; i++) {
    COH_TRY(check_lengths(s, s->axes + i, err));
    s->sizes[s->axes[i].group] = s->axes[i].values.n;
  }
  s->combinations = 1;
  for (size_t g = s->n_groups; g-- > 0;) {
    s->strides[g] = s->combinations;
    if (__builtin_mul_overflow(s->combinations, s->sizes[g], &s->combinations) ||
        s->combinations > SWEEP_RUNS_MAX)
      return coh_fail(err, COH_EUSAGE, "%s: [sweep] has more than %d runs", s->path,
                      SWEEP_RUNS_MAX);
  }
  s->runs = s->combinations;
cleanup:
  return rc;
}

/* ---- equal values ------------------------------------------------------------------ */

typedef struct group_view {
  const coh_sweep *s;
  size_t group;
} group_view;

static int compare_entries(const void *x, const void *y, void *ctx) {
  const group_view *view = ctx;
  size_t i = *(const size_t *)x, j = *(const size_t *)y;
  for (size_t a = 0; a < view->s->n_axes; a++) {
    const sweep_axis *axis = view->s->axes + a;
    if (axis->group != view->group) continue;
    int c =
        strcmp(sweep_values_get(&axis->values, i), sweep_values_get(&axis->values, j));
    if (c) return c;
  }
  return 0;
}

static int compare_in_order(const void *x, const void *y, void *ctx) {
  int c = compare_entries(x, y, ctx);
  size_t i = *(const size_t *)x, j = *(const size_t *)y;
  return c ? c : (i > j) - (i < j);
}

static int tell_equal(const group_view *view, size_t i, size_t j, coh_error *err) {
  coh_text t = {0};
  const sweep_axis *first = NULL;
  for (size_t a = 0; a < view->s->n_axes; a++) {
    const sweep_axis *axis = view->s->axes + a;
    if (axis->group != view->group) continue;
    coh_text_add(&t, "%s%s.%s = %s", first ? ", " : "", axis->param->section,
                 axis->param->key, sweep_values_get(&axis->values, i));
    if (!first) first = axis;
  }
  coh_text_add(&t, ": values %zu and %zu of the list are the same", i + 1, j + 1);
  coh_fail_text(err, &t);
  return coh_explain_place(view->s->path, first ? first->line : 0, err);
}

static int group_differs(const coh_sweep *s, size_t group, coh_error *err) {
  size_t n = s->sizes[group], first = n, second = n, *order;
  group_view view = {s, group};
  int rc = coh_alloc(&order, n, sizeof *order, err);
  if (rc != COH_OK) return rc;
  for (size_t i = 0; i < n; i++) order[i] = i;
  qsort_r(order, n, sizeof *order, compare_in_order, &view);
  for (size_t i = 1; i < n; i++) {
    bool same = compare_entries(order + i - 1, order + i, &view) == 0;
    if (!same || order[i] >= second) continue;
    first = order[i - 1];
    second = order[i];
  }
  free(order);
  return second < n ? tell_equal(&view, first, second, err) : COH_OK;
}

int sweep_axes_differ(const coh_sweep *s, coh_error *err) {
  int rc = COH_OK;
  for (size_t g = 0; rc == COH_OK && g < s->n_groups; g++) rc = group_differs(s, g, err);
  return rc;
}

/* ------------------------------------------------------------------------------------ */

static int parse_values(coh_sweep *s, coh_config *scratch, coh_error *err) {
  for (size_t i = 0; i < s->n_axes; i++) {
    sweep_axis *a = s->axes + i;
    int rc = sweep_values_parse(a->param, a->source, strlen(a->source), scratch,
                                &a->values, err);
    if (rc != COH_OK) return coh_explain_place(s->path, a->line, err);
  }
  return COH_OK;
}

int sweep_axes_make(coh_sweep *s, const coh_loader *l, coh_error *err) {
  int rc;
  coh_config scratch = s->base;
  COH_TRY(coh_alloc(&s->axes, l->n_sweep + 1, sizeof *s->axes, err));
  for (size_t i = 0; i < l->n_sweep; i++) {
    rc = take(s, l->sweep + i, l->cfg.experiment.job, err);
    if (rc != COH_OK) return coh_explain_place(s->path, l->sweep[i].line, err);
  }
  drop_empty(s);
  COH_TRY(check_overrides(s, l, err));
  COH_TRY(parse_values(s, &scratch, err));
  COH_TRY(make_groups(s, err));
  COH_TRY(add_repeat(s, &scratch, err));
  COH_TRY(size_groups(s, err));
cleanup:
  return rc;
}
