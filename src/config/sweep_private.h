/* sweep_private.h - what the files of a sweep share: lists of values, axes, conditions.
 * Private to the room. */
#ifndef COHORT_CONFIG_SWEEP_PRIVATE_H
#define COHORT_CONFIG_SWEEP_PRIVATE_H

#include "cohort/sweep.h"
#include "table.h"

enum {
  SWEEP_RUNS_MAX = 10000000, /* runs before `exclude` and `only` */
  SWEEP_TRIED = 100          /* runs of which one must be valid */
};

/* ---- sweep_values.c: "1e-3, logspace(1e-6, 1e-4, 3)" ------------------------------- */

/* Values of one parameter as coh_param_value writes them: value v is text.data + at[v].
 */
typedef struct sweep_values {
  coh_text text;
  size_t *at;
  size_t n, room;
} sweep_values;

static inline const char *sweep_values_get(const sweep_values *v, size_t i) {
  return v->text.data + v->at[i];
}
/* Adds the values of the list text[0..len) to `out`. COH_EUSAGE without a place. Scratch
 * is overwritten. Free `out` also after a failure. */
int sweep_values_parse(const coh_param *p, const char *text, size_t len,
                       coh_config *scratch, sweep_values *out, coh_error *err);
void sweep_values_free(sweep_values *v);

/* ---- sweep_axes.c ------------------------------------------------------------------ */

typedef struct sweep_axis {
  const coh_param *param;
  int line;     /* or COH_OVERRIDE */
  char *source; /* the list as written; NULL for the axis that `repeat` makes */
  sweep_values values;
  size_t group;
  char *fallback; /* the default as text, which stays out of the id; NULL: none */
} sweep_axis;

/* What stands in [sweep] beside the axes. */
typedef enum sweep_rule {
  SWEEP_ZIP,
  SWEEP_EXCLUDE,
  SWEEP_ONLY,
  SWEEP_REPEAT,
  SWEEP_FOLDER,
  SWEEP_RULES
} sweep_rule;
extern const char *const sweep_rule_names[SWEEP_RULES + 1];

typedef struct sweep_text {
  char *text; /* NULL: not given */
  int line;
} sweep_text;

struct coh_sweep {
  coh_config base;
  char *path;
  int *set_by; /* for each parameter: a line, COH_OVERRIDE or COH_UNSET */
  sweep_axis *axes;
  size_t n_axes;
  sweep_text rules[SWEEP_RULES];
  size_t *sizes, *strides; /* of the groups: values, and runs until the next value */
  size_t n_groups;
  size_t combinations; /* of the product */
  size_t runs;
  uint32_t *kept; /* run -> combination; NULL: all */
  size_t *sorted; /* axes in the order of the table */
  char **pieces;  /* [n_axes + 1] what the id hashes before, between and behind them */
};

/* Axes, groups and sizes from the loader's lines of [sweep]. */
int sweep_axes_make(coh_sweep *s, const coh_loader *l, coh_error *err);
/* The parameter that "section.key" names, in lower case. */
int sweep_param_find(const char *name, const coh_param **out, coh_error *err);
/* The axis of a parameter named "section.key"; NULL if there is none. */
sweep_axis *sweep_axis_find(const coh_sweep *s, const char *section, const char *key);
/* Two equal values, or equal entries of a zip: COH_EUSAGE naming both. */
int sweep_axes_differ(const coh_sweep *s, coh_error *err);
/* Number of the axis' value in a combination. */
static inline size_t sweep_digit(const coh_sweep *s, const sweep_axis *a, size_t c) {
  return c / s->strides[a->group] % s->sizes[a->group];
}
static inline size_t sweep_combination(const coh_sweep *s, size_t run) {
  return s->kept ? s->kept[run] : run;
}

/* ---- sweep_where.c: conditions ----------------------------------------------------- */

/* Fills s->kept and s->runs by `exclude` and `only`. */
int sweep_where(coh_sweep *s, coh_error *err);

/* ---- sweep_id.c -------------------------------------------------------------------- */

int sweep_id_prepare(coh_sweep *s, coh_error *err);

/* ---- sweep.c ----------------------------------------------------------------------- */

/* A sweep from what was read; NULL in *out if there is nothing to sweep. */
int sweep_create(const coh_loader *l, coh_sweep **out, coh_error *err);

/* ---- sweep_help.c ------------------------------------------------------------------ */

int sweep_help(coh_text *out, coh_error *err);

#endif
