/* value.c - values of parameters as text: reading, writing, comparing, and what they may
 * be. */
#include "table.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* longest text, so that key, value and quotes fit a line that iniparser can read */
enum { TEXT_MAX = 960 };
/* times any epoch length it still fits 64 bits */
#define STEPS_MAX 4000000000U

/* ---- steps ------------------------------------------------------------------------- */

/* Decimal digits without sign and leading zeros; NULL if there is no such number. */
static const char *read_count(const char *s, uint64_t *out) {
  if (!isdigit((unsigned char)*s)) return NULL;
  if (*s == '0' && isdigit((unsigned char)s[1])) return NULL;
  uint64_t v = 0;
  for (; isdigit((unsigned char)*s); s++) {
    v = 10 * v + (uint64_t)(*s - '0');
    if (v > STEPS_MAX) return NULL;
  }
  *out = v;
  return s;
}

/* True if a number in the text is beyond the limit. */
static bool steps_exceed(const char *s) {
  uint64_t ignored;
  while (*s) {
    size_t digits = strspn(s, "0123456789");
    if (digits > 0 && *s != '0' && !read_count(s, &ignored)) return true;
    s += digits ? digits : 1;
  }
  return false;
}

const char *coh_steps_limit(const char *text) {
  return steps_exceed(text) ? ", with numbers of at most 4000000000" : "";
}

static bool steps_from(const char *s, coh_steps *out) {
  coh_steps v = {0};
  uint64_t first;
  s = read_count(s, &first);
  if (!s) return false;
  if (strncmp(s, "ep", 2) == 0) {
    v.ep = first;
    s += 2;
    if (!*s) return *out = v, true;
    if (!(s = read_count(s, &v.it))) return false;
  } else {
    v.it = first;
  }
  if (strcmp(s, "it") != 0) return false;
  *out = v;
  return true;
}

int coh_steps_parse(const char *text, coh_steps *out, coh_error *err) {
  char shown[128];
  if (steps_from(text, out)) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "\"%s\": expected steps such as 40ep, 200it or 3ep20it%s",
                  coh_shown(text, shown), coh_steps_limit(text));
}

char *coh_steps_text(coh_steps s, char *out) {
  char *end = out;
  if (s.ep || !s.it) end += snprintf(end, 24, "%juep", (uintmax_t)s.ep);
  if (s.it) snprintf(end, 24, "%juit", (uintmax_t)s.it);
  return out;
}

/* Steps between commas, blanks allowed around them; an empty text for none. */
static bool milestones_from(const char *text, coh_milestones *out) {
  coh_milestones v = {0};
  for (const char *s = text + strspn(text, " \t"); *s;) {
    char one[64];
    size_t len = strcspn(s, ","), trimmed = len;
    while (trimmed && isblank((unsigned char)s[trimmed - 1])) trimmed--;
    if (trimmed >= sizeof one || v.n == COH_MILESTONES) return false;
    memcpy(one, s, trimmed);
    one[trimmed] = '\0';
    if (!steps_from(one, &v.at[v.n++])) return false;
    s += len;
    if (!*s) break;
    s += 1 + strspn(s + 1, " \t");
    if (!*s) return false; /* a comma at the end */
  }
  *out = v;
  return true;
}

/* ---- numbers, words and texts ------------------------------------------------------ */

static bool in_range(const coh_param *p, double v) {
  return (p->open_min ? v > p->min : v >= p->min) &&
         (p->open_max ? v < p->max : v <= p->max);
}

static bool int_from(const coh_param *p, const char *s, int64_t *out) {
  const char *digits = s + (*s == '-');
  if (!*digits || strspn(digits, "0123456789") != strlen(digits)) return false;
  errno = 0;
  long long v = strtoll(s, NULL, 10);
  if (errno || !in_range(p, (double)v)) return false;
  *out = v;
  return true;
}

static bool real_from(const coh_param *p, const char *s, double *out) {
  if (!*s || strspn(s, "0123456789.eE+-") != strlen(s)) return false;
  char *end;
  errno = 0;
  double v = strtod(s, &end);
  if (*end || errno || !isfinite(v) || !in_range(p, v)) return false;
  *out = v + 0; /* no negative zero */
  return true;
}

static bool bool_from(const char *s, bool *out) {
  static const char *const words[] = {"false", "no", "0", "true", "yes", "1"};
  for (size_t i = 0; i < 6; i++) {
    if (strcasecmp(s, words[i]) != 0) continue;
    *out = i >= 3;
    return true;
  }
  return false;
}

static bool choice_from(const coh_param *p, const char *s, int *out) {
  for (int i = 0; p->choices[i]; i++) {
    if (strcmp(p->choices[i], s) != 0) continue;
    *out = i;
    return true;
  }
  return false;
}

const char *coh_text_quote(const char *text) {
  size_t n = strlen(text);
  if (n == 0) return "";
  bool plain = !strpbrk(text, ";#") && !strchr("\"'", *text) && text[n - 1] != '\\' &&
               !isspace((unsigned char)*text) && !isspace((unsigned char)text[n - 1]);
  if (plain) return "";
  if (!strchr(text, '"')) return "\"";
  return strchr(text, '\'') ? NULL : "'";
}

static bool text_from(const char *s, char *out) {
  size_t n = strlen(s);
  if (n > TEXT_MAX || !coh_text_quote(s)) return false;
  for (size_t i = 0; i < n; i++)
    if (iscntrl((unsigned char)s[i]) && s[i] != '\t') return false;
  memcpy(out, s, n + 1);
  return true;
}

/* Copies the first word between '+' signs that is none of the choices into `word`. */
static bool list_has_unknown(const coh_param *p, const char *s, char word[64]) {
  for (;; s++) {
    size_t n = strcspn(s, "+");
    snprintf(word, 64, "%.*s", n < 63 ? (int)n : 63, s);
    if (!coh_name_is_among(word, p->choices)) return true;
    s += n;
    if (!*s) return false;
  }
}

bool coh_value_is_path(const coh_param *p, const char *text) {
  if (p->type != COH_TYPE_PATH || !*text) return false;
  return !p->choices || !coh_name_is_among(text, p->choices);
}

/* ---- what a value may be ------------------------------------------------------------
 */

/* "at least 0", "above 0 and at most 1", "from 0 to 1"; nothing for a side without limit.
 */
static void add_range(const coh_param *p, coh_text *out) {
  char min[32], max[32];
  coh_real_text(p->min, min);
  coh_real_text(p->max, max);
  bool low = isfinite(p->min), high = isfinite(p->max);
  if (low && high && !p->open_min && !p->open_max) {
    coh_text_add(out, " from %s to %s", min, max);
    return;
  }
  if (low) coh_text_add(out, " %s %s", p->open_min ? "above" : "of at least", min);
  if (low && high) coh_text_add(out, " and");
  if (high) coh_text_add(out, " %s %s", p->open_max ? "below" : "at most", max);
}

void coh_value_expected(const coh_param *p, coh_text *out) {
  static const char *const nouns[] = {
      [COH_TYPE_INT] = "a whole number",
      [COH_TYPE_REAL] = "a number",
      [COH_TYPE_BOOL] = "true or false",
      [COH_TYPE_CHOICE] = "one of ",
      [COH_TYPE_STEPS] = "steps such as 40ep, 200it or 3ep20it",
      [COH_TYPE_MILESTONES] = "steps between commas, such as 80ep,120ep",
      [COH_TYPE_TEXT] = "a text",
      [COH_TYPE_LIST] = "one or more of ",
      [COH_TYPE_PATH] = "a path",
  };
  bool list = p->type == COH_TYPE_LIST, path = p->type == COH_TYPE_PATH;
  if (p->choices) {
    coh_text_add(out, "%s", nouns[list ? COH_TYPE_LIST : COH_TYPE_CHOICE]);
    coh_names_join(p->choices, out);
    coh_text_add(out, "%s", list ? ", joined by +" : path ? ", or a path" : "");
    return;
  }
  if (p->type == COH_TYPE_MILESTONES) coh_text_add(out, "at most %d ", COH_MILESTONES);
  coh_text_add(out, "%s", nouns[p->type]);
  if (p->type == COH_TYPE_INT || p->type == COH_TYPE_REAL) add_range(p, out);
}

/* Completes the message about a value that is not `expected`. */
static int refuse(const coh_param *p, const char *text, coh_error *err) {
  char shown[128], word[64];
  coh_text t = {0};
  coh_text_add(&t, "%s.%s = \"%s\": expected ", p->section, p->key,
               coh_shown(text, shown));
  coh_value_expected(p, &t);
  if (p->type == COH_TYPE_PATH || (p->type == COH_TYPE_TEXT && !p->choices))
    coh_text_add(
        &t,
        " of at most %d bytes, without control characters, and without both kinds "
        "of quotes where it needs quotes",
        TEXT_MAX);
  if (p->type == COH_TYPE_STEPS || p->type == COH_TYPE_MILESTONES)
    coh_text_add(&t, "%s", coh_steps_limit(text));
  if ((p->type == COH_TYPE_INT || p->type == COH_TYPE_REAL) && strchr(text, ','))
    coh_text_add(&t, "; several values make a sweep: [sweep] %s.%s", p->section, p->key);
  bool listed = p->type == COH_TYPE_LIST && list_has_unknown(p, text, word);
  const char *nearest =
      p->choices ? coh_name_nearest(listed ? word : text, p->choices) : NULL;
  if (nearest) coh_text_add(&t, "; did you mean \"%s\"?", nearest);
  return coh_fail_text(err, &t);
}

/* ---- by type ----------------------------------------------------------------------- */

int coh_value_parse(const coh_param *p, const char *text, coh_config *cfg,
                    coh_error *err) {
  void *field = coh_param_field(cfg, p);
  char word[64];
  bool ok = false;
  switch (p->type) {
  case COH_TYPE_INT:
    ok = int_from(p, text, field);
    break;
  case COH_TYPE_REAL:
    ok = real_from(p, text, field);
    break;
  case COH_TYPE_BOOL:
    ok = bool_from(text, field);
    break;
  case COH_TYPE_CHOICE:
    ok = choice_from(p, text, field);
    break;
  case COH_TYPE_STEPS:
    ok = steps_from(text, field);
    break;
  case COH_TYPE_MILESTONES:
    ok = milestones_from(text, field);
    break;
  case COH_TYPE_LIST:
    ok = !list_has_unknown(p, text, word) && text_from(text, field);
    break;
  case COH_TYPE_TEXT:
    ok = (!p->choices || coh_name_is_among(text, p->choices)) && text_from(text, field);
    break;
  case COH_TYPE_PATH:
    ok = text_from(text, field);
    break;
  }
  return ok ? COH_OK : refuse(p, text, err);
}

static void add_milestones(const coh_milestones *m, coh_text *out) {
  char text[48];
  for (size_t i = 0; i < m->n; i++)
    coh_text_add(out, "%s%s", i ? "," : "", coh_steps_text(m->at[i], text));
}

void coh_param_value(const coh_config *cfg, const coh_param *p, coh_text *out) {
  const void *field = coh_param_read(cfg, p);
  char text[48];
  switch (p->type) {
  case COH_TYPE_INT:
    coh_text_add(out, "%jd", (intmax_t) * (const int64_t *)field);
    break;
  case COH_TYPE_REAL:
    coh_text_add(out, "%s", coh_real_text(*(const double *)field, text));
    break;
  case COH_TYPE_BOOL:
    coh_text_add(out, "%s", *(const bool *)field ? "true" : "false");
    break;
  case COH_TYPE_CHOICE:
    coh_text_add(out, "%s", p->choices[*(const int *)field]);
    break;
  case COH_TYPE_STEPS:
    coh_text_add(out, "%s", coh_steps_text(*(const coh_steps *)field, text));
    break;
  case COH_TYPE_MILESTONES:
    add_milestones(field, out);
    break;
  default:
    coh_text_add(out, "%s", (const char *)field);
  }
}

static bool same_milestones(const coh_milestones *a, const coh_milestones *b) {
  return a->n == b->n && memcmp(a->at, b->at, a->n * sizeof *a->at) == 0;
}

bool coh_value_same(const coh_param *p, const coh_config *a, const coh_config *b) {
  const void *x = coh_param_read(a, p), *y = coh_param_read(b, p);
  switch (p->type) {
  case COH_TYPE_INT:
    return *(const int64_t *)x == *(const int64_t *)y;
  case COH_TYPE_REAL:
    return *(const double *)x == *(const double *)y;
  case COH_TYPE_BOOL:
    return *(const bool *)x == *(const bool *)y;
  case COH_TYPE_CHOICE:
    return *(const int *)x == *(const int *)y;
  case COH_TYPE_STEPS:
    return memcmp(x, y, sizeof(coh_steps)) == 0;
  case COH_TYPE_MILESTONES:
    return same_milestones(x, y);
  default:
    return strcmp(x, y) == 0;
  }
}
