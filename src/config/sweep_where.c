/* sweep_where.c - which combinations of a product are runs: `exclude` and `only`.
 *
 *   condition: conjunction {or conjunction}     conjunction: term {and term}
 *   term: not term | ( condition ) | name == value (or != < <= > >=) |
 *         name [not] in ( list )
 *
 * A comparison is judged once for each value of its axis, so that a combination costs a
 * few look-ups. */
#include "sweep_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES_MAX = 4000, DEPTH_MAX = 100 };

typedef enum kind { TEST, NOT, AND, OR } kind;

typedef struct node {
  kind kind;
  size_t left, right;     /* nodes; NOT has only left */
  const sweep_axis *axis; /* TEST: NULL for a parameter that is no axis */
  bool *holds;            /* TEST: for each value of the axis */
} node;

typedef struct parser {
  const coh_sweep *s;
  const char *at; /* what is left of the text */
  node *nodes;
  size_t n;
  int depth;
  coh_config *scratch;
  coh_error *err;
} parser;

/* Nodes are made by parsing, which goes around in circles by nature. */
static int parse_condition(parser *p, size_t *out);

/* ---- words ------------------------------------------------------------------------- */

static void skip_blanks(parser *p) {
  while (isspace((unsigned char)*p->at)) p->at++;
}

static int refuse(parser *p, const char *expected) {
  char shown[128];
  skip_blanks(p);
  if (!*p->at)
    return coh_fail(p->err, COH_EUSAGE, "expected %s, found the end", expected);
  return coh_fail(p->err, COH_EUSAGE, "expected %s at \"%s\"", expected,
                  coh_shown(p->at, shown));
}

static bool is_word(char c) {
  return isalnum((unsigned char)c) || c == '_' || c == '.';
}

/* Takes the word if it comes next, in any case. */
static bool take_word(parser *p, const char *word) {
  size_t n = strlen(word);
  skip_blanks(p);
  if (strncasecmp(p->at, word, n) != 0 || is_word(p->at[n])) return false;
  p->at += n;
  return true;
}

static bool take_sign(parser *p, const char *sign) {
  skip_blanks(p);
  if (strncmp(p->at, sign, strlen(sign)) != 0) return false;
  p->at += strlen(sign);
  return true;
}

/* Length of a value: a quoted text, or up to a blank or a bracket that closes more than
 * the value opened. */
static size_t value_length(const char *s) {
  size_t n = 0;
  int depth = 0;
  if (*s == '"' || *s == '\'') {
    const char *end = strchr(s + 1, *s);
    return end ? (size_t)(end + 1 - s) : strlen(s);
  }
  for (; s[n] && !isspace((unsigned char)s[n]); n++) {
    depth += s[n] == '(';
    depth -= s[n] == ')';
    if (depth < 0) break;
  }
  return n;
}

/* Length of a list up to the bracket that closes it; SIZE_MAX if none does. */
static size_t list_length(const char *s) {
  int depth = 0;
  for (size_t n = 0; s[n]; n++) {
    if (s[n] == '"' || s[n] == '\'') {
      const char *end = strchr(s + n + 1, s[n]);
      if (!end) return SIZE_MAX;
      n = (size_t)(end - s);
    } else if (s[n] == ')' && depth-- == 0)
      return n;
    depth += s[n] == '(';
  }
  return SIZE_MAX;
}

/* ---- nodes ------------------------------------------------------------------------- */

static int add_node(parser *p, node made, size_t *out) {
  if (p->n == NODES_MAX) {
    free(made.holds);
    return coh_fail(p->err, COH_EUSAGE, "expected at most %d comparisons and operators",
                    NODES_MAX);
  }
  *out = p->n;
  p->nodes[p->n++] = made;
  return COH_OK;
}

/* ---- comparisons ------------------------------------------------------------------- */

typedef enum comparison { EQ, NE, LE, GE, LT, GT, COMPARISONS } comparison;
static const char *const signs[COMPARISONS] = {"==", "!=", "<=", ">=", "<", ">"};

static bool compare(comparison c, double a, double b) {
  return c == LT ? a < b : c == LE ? a <= b : c == GT ? a > b : a >= b;
}

typedef struct wanted {
  comparison how;    /* EQ: among the values, NE: not among them */
  double bound;      /* for the others */
  const char **list; /* sorted */
  size_t n;
} wanted;

static int compare_texts(const void *x, const void *y) {
  return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static bool judge(const wanted *w, const char *value) {
  if (w->how != EQ && w->how != NE) return compare(w->how, strtod(value, NULL), w->bound);
  bool found = bsearch(&value, w->list, w->n, sizeof *w->list, compare_texts) != NULL;
  return found == (w->how == EQ);
}

static int sort_wanted(const sweep_values *values, wanted *w, coh_error *err) {
  int rc = coh_alloc(&w->list, values->n, sizeof *w->list, err);
  if (rc != COH_OK) return rc;
  w->n = values->n;
  for (size_t i = 0; i < w->n; i++) w->list[i] = sweep_values_get(values, i);
  qsort(w->list, w->n, sizeof *w->list, compare_texts);
  return COH_OK;
}

/* The node of a comparison: judged for each value of the axis, or for the one value of a
 * parameter that is none. */
static int add_test(parser *p, const coh_param *param, const wanted *w, size_t *out) {
  const sweep_axis *axis = sweep_axis_find(p->s, param->section, param->key);
  node made = {.kind = TEST, .axis = axis};
  coh_text fixed = {0};
  int rc = coh_alloc(&made.holds, axis ? axis->values.n : 1, sizeof(bool), p->err);
  if (rc != COH_OK) return rc;
  coh_param_value(&p->s->base, param, &fixed);
  for (size_t i = 0; axis && i < axis->values.n; i++)
    made.holds[i] = judge(w, sweep_values_get(&axis->values, i));
  if (!axis) made.holds[0] = judge(w, fixed.data ? fixed.data : "");
  rc = coh_text_check(&fixed, p->err);
  coh_text_free(&fixed);
  if (rc == COH_OK) return add_node(p, made, out);
  free(made.holds);
  return rc;
}

/* name OP text[0..len), or name in ( text[0..len) ) */
static int parse_values(parser *p, const coh_param *param, comparison how, bool list,
                        const char *text, size_t len, size_t *out) {
  int rc;
  sweep_values values = {0};
  wanted w = {.how = how};
  COH_TRY(sweep_values_parse(param, text, len, p->scratch, &values, p->err));
  if (!list && values.n != 1) {
    rc = coh_fail(p->err, COH_EUSAGE,
                  "%s.%s: expected one value behind %s; several are "
                  "written %s.%s in (a, b)",
                  param->section, param->key, signs[how], param->section, param->key);
    goto cleanup;
  }
  COH_TRY(sort_wanted(&values, &w, p->err));
  rc = add_test(p, param, &w, out);
cleanup:
  free(w.list);
  sweep_values_free(&values);
  return rc;
}

/* name < number: the bound need not be a value that the parameter could take. */
static int parse_bound(parser *p, const coh_param *param, comparison how, size_t len,
                       size_t *out) {
  char *end;
  wanted w = {.how = how, .bound = strtod(p->at, &end)};
  if (end != p->at + len || !strchr("0123456789.+-", *p->at))
    return refuse(p, "a number");
  return add_test(p, param, &w, out);
}

static int parse_in(parser *p, const coh_param *param, bool among, size_t *out) {
  if (!take_sign(p, "(")) return refuse(p, "\"(\" behind in");
  size_t n = list_length(p->at);
  if (n == SIZE_MAX) return refuse(p, "a list that ends with \")\"");
  int rc = parse_values(p, param, among ? EQ : NE, true, p->at, n, out);
  p->at += n + 1;
  return rc;
}

static int parse_comparison(parser *p, const coh_param *param, size_t *out) {
  if (take_word(p, "in")) return parse_in(p, param, true, out);
  if (take_word(p, "not"))
    return take_word(p, "in") ? parse_in(p, param, false, out) : refuse(p, "in");
  int how = 0;
  while (how < COMPARISONS && !take_sign(p, signs[how])) how++;
  if (how == COMPARISONS) return refuse(p, "one of == != < <= > >= in");
  bool number = param->type == COH_TYPE_INT || param->type == COH_TYPE_REAL;
  if (how > NE && !number)
    return coh_fail(p->err, COH_EUSAGE,
                    "%s.%s %s: expected ==, != or in, since this is "
                    "no number",
                    param->section, param->key, signs[how]);
  skip_blanks(p);
  size_t n = value_length(p->at);
  if (n == 0) return refuse(p, "a value");
  int rc = how > NE ? parse_bound(p, param, (comparison)how, n, out)
                    : parse_values(p, param, (comparison)how, false, p->at, n, out);
  p->at += n;
  return rc;
}

/* "section.key", of an axis or not. */
static int parse_name(parser *p, const coh_param **out) {
  char name[64];
  size_t n = 0;
  skip_blanks(p);
  while (is_word(p->at[n])) n++;
  if (n == 0 || n >= sizeof name) return refuse(p, "section.key of a parameter");
  memcpy(name, p->at, n);
  name[n] = '\0';
  coh_name_lower(name);
  if (!strchr(name, '.')) return refuse(p, "section.key of a parameter");
  int rc = sweep_param_find(name, out, p->err);
  p->at += n;
  return rc;
}

/* ---- and, or, not ------------------------------------------------------------------ */

static int parse_term(parser *p, size_t *out) {
  const coh_param *param;
  int rc;
  if (++p->depth > DEPTH_MAX)
    return coh_fail(p->err, COH_EUSAGE, "expected at most %d brackets inside each other",
                    DEPTH_MAX);
  if (take_word(p, "not")) {
    node made = {.kind = NOT};
    rc = parse_term(p, &made.left);
    if (rc == COH_OK) rc = add_node(p, made, out);
  } else if (take_sign(p, "(")) {
    rc = parse_condition(p, out);
    if (rc == COH_OK && !take_sign(p, ")")) rc = refuse(p, "and, or, or \")\"");
  } else {
    rc = parse_name(p, &param);
    if (rc == COH_OK) rc = parse_comparison(p, param, out);
  }
  p->depth--;
  return rc;
}

static int parse_conjunction(parser *p, size_t *out) {
  int rc = parse_term(p, out);
  while (rc == COH_OK && take_word(p, "and")) {
    node made = {.kind = AND, .left = *out};
    rc = parse_term(p, &made.right);
    if (rc == COH_OK) rc = add_node(p, made, out);
  }
  return rc;
}

static int parse_condition(parser *p, size_t *out) {
  int rc = parse_conjunction(p, out);
  while (rc == COH_OK && take_word(p, "or")) {
    node made = {.kind = OR, .left = *out};
    rc = parse_conjunction(p, &made.right);
    if (rc == COH_OK) rc = add_node(p, made, out);
  }
  return rc;
}

/* ---- judging combinations ---------------------------------------------------------- */

static bool holds(const parser *p, size_t at, size_t c) {
  const node *n = p->nodes + at;
  switch (n->kind) {
  case TEST:
    return n->holds[n->axis ? sweep_digit(p->s, n->axis, c) : 0];
  case NOT:
    return !holds(p, n->left, c);
  case AND:
    return holds(p, n->left, c) && holds(p, n->right, c);
  default:
    return holds(p, n->left, c) || holds(p, n->right, c);
  }
}

/* Keeps those of s->kept for which the condition is `wanted_value`. */
static void keep(coh_sweep *s, const parser *p, size_t root, bool wanted_value) {
  size_t n = 0;
  for (size_t i = 0; i < s->runs; i++)
    if (holds(p, root, s->kept[i]) == wanted_value) s->kept[n++] = s->kept[i];
  s->runs = n;
}

static int apply(coh_sweep *s, sweep_rule which, coh_error *err) {
  int rc;
  size_t root = 0, before = s->runs;
  const sweep_text *rule = s->rules + which;
  coh_config scratch = s->base;
  parser p = {.s = s, .at = rule->text, .scratch = &scratch, .err = err};
  COH_TRY(coh_alloc(&p.nodes, NODES_MAX, sizeof *p.nodes, err));
  COH_TRY(parse_condition(&p, &root));
  skip_blanks(&p);
  if (*p.at) {
    rc = refuse(&p, "and, or, or the end");
    goto cleanup;
  }
  keep(s, &p, root, which == SWEEP_ONLY);
  if (s->runs == 0) rc = coh_fail(err, COH_EUSAGE, "leaves none of %zu runs", before);
cleanup:
  for (size_t i = 0; i < p.n; i++) free(p.nodes[i].holds);
  free(p.nodes);
  if (rc == COH_OK) return rc;
  coh_explain(err, "sweep.%s", sweep_rule_names[which]);
  return coh_explain_place(s->path, rule->line, err);
}

int sweep_where(coh_sweep *s, coh_error *err) {
  bool exclude = s->rules[SWEEP_EXCLUDE].text, only = s->rules[SWEEP_ONLY].text;
  if (!exclude && !only) return COH_OK;
  int rc = coh_alloc(&s->kept, s->combinations, sizeof *s->kept, err);
  if (rc != COH_OK) return rc;
  for (size_t c = 0; c < s->combinations; c++) s->kept[c] = (uint32_t)c;
  if (exclude) rc = apply(s, SWEEP_EXCLUDE, err);
  if (rc == COH_OK && only) rc = apply(s, SWEEP_ONLY, err);
  return rc;
}
