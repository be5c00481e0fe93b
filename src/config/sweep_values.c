/* sweep_values.c - the values of an axis: a list of values, a..b, and functions that give
 * several numbers. What the parameter accepts is left to value.c. */
#include "sweep_private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 15 /* decimals that survive a double */, ITEM_MAX = 1000, ARGUMENTS = 3 };

/* Where values go; scratch is a configuration that each of them is tried in. */
typedef struct target {
  const coh_param *param;
  coh_config *scratch;
  sweep_values *out;
  coh_error *err;
} target;

void sweep_values_free(sweep_values *v) {
  coh_text_free(&v->text);
  free(v->at);
  *v = (sweep_values){0};
}

/* ---- one value --------------------------------------------------------------------- */

static int grow(sweep_values *v, coh_error *err) {
  if (v->n < v->room) return COH_OK;
  size_t room = v->room ? 2 * v->room : 8;
  size_t *at = realloc(v->at, room * sizeof *at);
  if (!at) return coh_fail(err, COH_ENOMEM, "no memory for %zu values", room);
  v->at = at;
  v->room = room;
  return COH_OK;
}

/* A value as the user wrote it, or as a function made it. */
static int add_value(const target *t, const char *text) {
  sweep_values *v = t->out;
  int rc = coh_value_parse(t->param, text, t->scratch, t->err);
  if (rc == COH_OK) rc = grow(v, t->err);
  if (rc != COH_OK) return rc;
  if (v->n == SWEEP_RUNS_MAX)
    return coh_fail(t->err, COH_EUSAGE, "%s.%s: expected at most %d values",
                    t->param->section, t->param->key, SWEEP_RUNS_MAX);
  v->at[v->n++] = v->text.len;
  coh_param_value(t->scratch, t->param, &v->text);
  coh_text_addn(&v->text, "", 1);
  return coh_text_check(&v->text, t->err);
}

static int refuse(const target *t, const char *item, const char *message) {
  char shown[128];
  return coh_fail(t->err, COH_EUSAGE, "%s.%s: \"%s\": %s", t->param->section,
                  t->param->key, coh_shown(item, shown), message);
}

/* ---- a..b -------------------------------------------------------------------------- */

static bool whole_from(const char *s, const char *end, int64_t *out) {
  char *stop;
  if (s == end || isspace((unsigned char)*s) || *s == '+') return false;
  errno = 0;
  *out = strtoll(s, &stop, 10);
  return stop == end && errno == 0;
}

/* True for "a..b", with its ends. */
static bool is_span(const char *item, int64_t *a, int64_t *b) {
  const char *dots = strstr(item, "..");
  return dots && whole_from(item, dots, a) &&
         whole_from(dots + 2, dots + strlen(dots), b);
}

static int add_span(const target *t, const char *item, int64_t a, int64_t b) {
  char text[32];
  if (a > b) return refuse(t, item, "expected a..b with a <= b");
  if ((uint64_t)b - (uint64_t)a >= SWEEP_RUNS_MAX)
    return refuse(t, item, "expected at most 10000000 values");
  int rc = COH_OK;
  for (int64_t v = a; rc == COH_OK; v++) { /* b may be the last number there is */
    snprintf(text, sizeof text, "%" PRId64, v);
    rc = add_value(t, text);
    if (v == b) break;
  }
  return rc;
}

/* ---- functions --------------------------------------------------------------------- */

/* A number that a function gives; whole where the parameter is. */
static int add_number(const target *t, const char *item, double v) {
  char text[48];
  snprintf(text, sizeof text, "%.*g", DIGITS, v);
  if (t->param->type == COH_TYPE_INT) {
    double whole = nearbyint(v);
    if (fabs(v - whole) > 1e-9 * fmax(1, fabs(whole))) {
      char message[160];
      snprintf(message, sizeof message, "gives %.*g, expected whole numbers", DIGITS, v);
      return refuse(t, item, message);
    }
    snprintf(text, sizeof text, "%.0f", whole + 0.0);
  }
  return add_value(t, text);
}

static int add_range(const target *t, const char *item, const double *a) {
  double steps = (a[1] - a[0]) / a[2];
  if (a[2] == 0 || steps < 0)
    return refuse(t, item,
                  "expected range(a, b, step) with a step that leads from a to b");
  if (!(steps < SWEEP_RUNS_MAX))
    return refuse(t, item, "expected at most 10000000 values");
  int rc = COH_OK;
  size_t n = (size_t)(steps + 1e-9 * fmax(1, steps)) + 1;
  for (size_t i = 0; rc == COH_OK && i < n; i++)
    rc = add_number(t, item, a[0] + a[2] * (double)i);
  return rc;
}

static int count_from(const target *t, const char *item, double v, size_t *n) {
  if (!(v >= 2 && v <= SWEEP_RUNS_MAX && v == floor(v)))
    return refuse(t, item, "expected a number of points from 2 to 10000000");
  *n = (size_t)v;
  return COH_OK;
}

static int add_linspace(const target *t, const char *item, const double *a) {
  size_t n = 0;
  int rc = count_from(t, item, a[2], &n);
  for (size_t i = 0; rc == COH_OK && i < n; i++) {
    double f = (double)i / (double)(n - 1);
    rc = add_number(t, item, i == n - 1 ? a[1] : a[0] + (a[1] - a[0]) * f);
  }
  return rc;
}

static int add_logspace(const target *t, const char *item, const double *a) {
  size_t n = 0;
  if (!(a[0] > 0 && a[1] > 0))
    return refuse(t, item, "expected logspace(a, b, n) with a and b above 0");
  int rc = count_from(t, item, a[2], &n);
  double from = log10(a[0]), to = log10(a[1]);
  for (size_t i = 0; rc == COH_OK && i < n; i++) {
    double f = (double)i / (double)(n - 1);
    double v = i == 0 ? a[0] : i == n - 1 ? a[1] : pow(10, from + (to - from) * f);
    rc = add_number(t, item, v);
  }
  return rc;
}

/* In this order: name, how it is written, what it does; seeds takes a..b. */
static const struct function {
  const char *name, *usage;
  int (*add)(const target *, const char *item, const double *arguments);
} functions[] = {
    {"range", "expected range(a, b, step)", add_range},
    {"linspace", "expected linspace(a, b, n)", add_linspace},
    {"logspace", "expected logspace(a, b, n)", add_logspace},
    {"seeds", "expected seeds(a..b) with whole numbers a <= b", NULL},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

/* Three finite numbers between commas, closed by the item's last character. */
static bool arguments_from(const char *s, double out[ARGUMENTS]) {
  for (int i = 0; i < ARGUMENTS; i++) {
    char *end;
    s += strspn(s, " \t");
    if (!strchr("0123456789.+-", *s)) return false; /* no "inf", no "nan" */
    out[i] = strtod(s, &end);
    if (end == s || !isfinite(out[i])) return false;
    s = end + strspn(end, " \t");
    if (*s != (i < ARGUMENTS - 1 ? ',' : ')')) return false;
    s++;
  }
  return !*s;
}

static int call(const target *t, const struct function *f, const char *item) {
  double arguments[ARGUMENTS];
  const char *inside = strchr(item, '(') + 1;
  if (f->add)
    return arguments_from(inside, arguments) ? f->add(t, item, arguments)
                                             : refuse(t, item, f->usage);
  int64_t a, b;
  char span[64];
  inside += strspn(inside, " \t");
  size_t n = strcspn(inside, " \t)");
  bool closed = inside[n + strspn(inside + n, " \t")] == ')';
  if (!closed || n >= sizeof span) return refuse(t, item, f->usage);
  memcpy(span, inside, n);
  span[n] = '\0';
  return is_span(span, &a, &b) ? add_span(t, item, a, b) : refuse(t, item, f->usage);
}

/* "name(...)": the length of the name, or 0. */
static size_t function_name(const char *item) {
  size_t n = 0, len = strlen(item);
  while (isalpha((unsigned char)item[n])) n++;
  size_t at = n + strspn(item + n, " \t");
  return n && item[at] == '(' && item[len - 1] == ')' ? n : 0;
}

static int unknown_function(const target *t, const char *item, size_t n) {
  const char *names[FUNCTIONS + 1] = {0};
  char name[64], message[192];
  for (size_t i = 0; i < FUNCTIONS; i++) names[i] = functions[i].name;
  snprintf(name, sizeof name, "%.*s", n < 60 ? (int)n : 60, item);
  const char *nearest = coh_name_nearest(name, names);
  snprintf(message, sizeof message,
           "there is no such function%s%s%s; the functions are range, linspace, "
           "logspace and seeds",
           nearest ? ": did you mean \"" : "", nearest ? nearest : "",
           nearest ? "\"?" : "");
  return refuse(t, item, message);
}

/* ---- one item of a list ------------------------------------------------------------ */

static int add_bare(const target *t, const char *item) {
  bool whole = t->param->type == COH_TYPE_INT;
  bool number = whole || t->param->type == COH_TYPE_REAL;
  size_t name = function_name(item), n = strlen(item);
  int64_t a, b;
  for (size_t i = 0; name && i < FUNCTIONS; i++)
    if (strlen(functions[i].name) == name && !memcmp(item, functions[i].name, name))
      return number ? call(t, functions + i, item)
                    : refuse(t, item,
                             "gives numbers, which this parameter does not "
                             "take; as a text it needs quotes");
  if (name && number) return unknown_function(t, item, name);
  if (is_span(item, &a, &b) && whole) return add_span(t, item, a, b);
  if (is_span(item, &a, &b) && number)
    return refuse(t, item, "a..b is for whole numbers; expected range(a, b, step)");
  if (strpbrk(item, " \t"))
    return refuse(t, item,
                  "expected commas between values, and quotes around a value "
                  "with a blank");
  if (strpbrk(item, ";#\"'") || item[n - 1] == '\\')
    return refuse(t, item, "expected quotes around a value with such characters");
  return add_value(t, item);
}

/* End of an item: a comma outside of brackets, or the end of the list. */
static const char *find_end(const char *s, const char *end, bool *closed) {
  int depth = 0;
  for (; s < end && (*s != ',' || depth > 0); s++) {
    depth += *s == '(';
    depth -= *s == ')';
  }
  *closed = depth == 0;
  return s;
}

/* Reads the item at s; *next is where the comma, or the end of the list, is. */
static int add_item(const target *t, const char *s, const char *end, const char **next) {
  char item[ITEM_MAX];
  bool quoted = s < end && (*s == '"' || *s == '\''), closed = true;
  const char *stop =
      quoted ? memchr(s + 1, *s, (size_t)(end - s - 1)) : find_end(s, end, &closed);
  if (!stop) return refuse(t, s, "expected a closing quote");
  *next = stop + quoted;
  s += quoted;
  while (!quoted && stop > s && isspace((unsigned char)stop[-1])) stop--;
  if ((size_t)(stop - s) >= sizeof item)
    return refuse(t, s, "expected a value of less than 1000 bytes");
  memcpy(item, s, (size_t)(stop - s));
  item[stop - s] = '\0';
  if (quoted) return add_value(t, item);
  if (!*item) return refuse(t, item, "expected a value (an empty one is written \"\")");
  if (!closed) return refuse(t, item, "expected brackets in pairs");
  return add_bare(t, item);
}

static const char *skip(const char *s, const char *end) {
  while (s < end && isspace((unsigned char)*s)) s++;
  return s;
}

int sweep_values_parse(const coh_param *p, const char *text, size_t len,
                       coh_config *scratch, sweep_values *out, coh_error *err) {
  const target t = {p, scratch, out, err};
  const char *s = text, *end = text + len;
  for (;;) {
    int rc = add_item(&t, skip(s, end), end, &s);
    if (rc != COH_OK) return rc;
    s = skip(s, end);
    if (s == end) return COH_OK;
    if (*s++ != ',') return refuse(&t, s - 1, "expected a comma between values");
  }
}
