/* table.h - what the files of src/config share: the table of parameters, values as text,
 * names and the lines of an INI file. Private to the room. */
#ifndef COHORT_CONFIG_TABLE_H
#define COHORT_CONFIG_TABLE_H

#include "cohort/config.h"

/* ---- params.c ---------------------------------------------------------------------- */

/* coh_param.type. Told from the type of the field; a char array is TEXT, or what the
 * table says it is. */
typedef enum coh_type {
  COH_TYPE_INT,
  COH_TYPE_REAL,
  COH_TYPE_BOOL,
  COH_TYPE_CHOICE, /* index of one of param.choices */
  COH_TYPE_STEPS,
  COH_TYPE_MILESTONES,
  COH_TYPE_TEXT, /* one of param.choices where it has any */
  COH_TYPE_LIST, /* several of param.choices, joined by '+' */
  COH_TYPE_PATH  /* or one of param.choices */
} coh_type;

enum { COH_JOBS = 3, COH_NAMES = 64 }; /* COH_NAMES: most keys of a section, and more */

typedef struct coh_section {
  const char *name, *help;
} coh_section;

const coh_section *coh_sections(size_t *count);
bool coh_section_exists(const char *name);
const coh_param *coh_param_find(const char *section, const char *key); /* NULL: none */
extern const char *const coh_job_names[COH_JOBS + 1];

static inline bool coh_param_is_read(const coh_param *p, int job) {
  return p->jobs >> job & 1;
}
static inline const char *coh_param_default(const coh_param *p, int job) {
  if (job == COH_JOB_COMPRESS && p->def_compress) return p->def_compress;
  return job == COH_JOB_EXTRACT && p->def_extract ? p->def_extract : p->def;
}
static inline void *coh_param_field(coh_config *cfg, const coh_param *p) {
  return (char *)cfg + p->offset;
}
static inline const void *coh_param_read(const coh_config *cfg, const coh_param *p) {
  return (const char *)cfg + p->offset;
}

/* ---- value.c ----------------------------------------------------------------------- */

/* Reads `text` into the parameter's field. COH_EUSAGE 'section.key = "text": expected
 * ...', with the field unchanged. */
int coh_value_parse(const coh_param *p, const char *text, coh_config *cfg,
                    coh_error *err);
bool coh_value_same(const coh_param *p, const coh_config *a, const coh_config *b);
/* What a value may be: "a number above 0", "one of sgd, adam". */
void coh_value_expected(const coh_param *p, coh_text *out);
/* True for a PATH whose value is a path: neither empty nor one of the choices. */
bool coh_value_is_path(const coh_param *p, const char *text);
/* The quote an INI line needs around a text: "", "\"" or "'"; NULL if none would do. */
const char *coh_text_quote(const char *text);
/* What a message about refused steps adds: the limit if a number is beyond it, or "". */
const char *coh_steps_limit(const char *text);

/* ---- names.c ----------------------------------------------------------------------- */

/* The name nearest to `name` by edit distance (a swap of neighbours counts once, case
 * does not), or what another word for one of them means, as "gpu"; NULL if none is near.
 * `names` ends with NULL. */
const char *coh_name_nearest(const char *name, const char *const *names);
void coh_name_lower(char *name);
bool coh_name_is_among(const char *name, const char *const *names);
/* "a, b, c" */
void coh_names_join(const char *const *names, coh_text *out);
/* Fills names[COH_NAMES] with the sections, or with the keys of one; returns `names`. */
const char *const *coh_names_sections(const char **names);
const char *const *coh_names_keys(const char *section, const char **names);
/* At most 100 bytes of a user's text, control characters as '?'; returns `out`, of 128.
 */
char *coh_shown(const char *text, char *out);
/* COH_EUSAGE with the message in `t`, which is freed. */
int coh_fail_text(coh_error *err, coh_text *t);
/* COH_EUSAGE 'unknown section "...": ...', with the nearest name, or else all of them. */
int coh_fail_unknown_section(const char *section, coh_error *err);
/* The same of a key in a section that there is, with the other sections that have such a
 * key. */
int coh_fail_unknown_key(const char *section, const char *key, coh_error *err);

/* ---- ini.c ------------------------------------------------------------------------- */

/* One line of an INI file that says something. */
typedef struct coh_ini_line {
  const char *section;
  const char *key; /* NULL for the line of the section itself */
  const char
      *value; /* filled by coh_ini_values; of [sweep] by coh_ini_scan, as written */
  const char *comment; /* of [sweep]: what stands behind the value, or NULL */
  int number;
} coh_ini_line;

typedef struct coh_ini {
  char *text;  /* the file as it was read, without the lines of [sweep] */
  char *names; /* what section and key point into */
  void *dictionary;
  size_t len, n;
  coh_ini_line *lines;
} coh_ini;

/* Reads a file and finds its lines. COH_EUSAGE "file:line: ..." for a line that is
 * neither section, "key = value" nor comment. Lines of [sweep] may have any length, and
 * keys with a dot. Free with coh_ini_free also after a failure. */
int coh_ini_scan(const char *path, coh_ini *ini, coh_error *err);
/* Values of all lines, by iniparser. Of a key given twice it keeps only the last value,
 * so look for those first. */
int coh_ini_values(const char *path, coh_ini *ini, coh_error *err);
void coh_ini_free(coh_ini *ini);

/* ---- config.c ---------------------------------------------------------------------- */

enum { COH_UNSET = 0, COH_OVERRIDE = -1 }; /* in place of a line number */

/* "section.key = value" from a line of the file, or from an override. */
typedef struct coh_assignment {
  const char *section, *key, *value;
  const char *comment; /* as in coh_ini_line */
  int line;            /* or COH_OVERRIDE */
} coh_assignment;

/* Everything that is assigned, in order: the lines of the file, then the overrides. */
typedef struct coh_loader {
  const char *path; /* borrowed */
  coh_ini ini;
  coh_assignment *assignments; /* of parameters */
  coh_assignment *sweep;       /* of section "sweep" */
  size_t n, n_sweep;
  char (*names)[2][64]; /* of the overrides */
  int *set_by;          /* for each parameter: a line, COH_OVERRIDE or COH_UNSET */
  coh_config cfg;       /* with all parameters assigned, not checked as a whole */
} coh_loader;

/* Fills *l; close it also after a failure. */
int coh_loader_open(coh_loader *l, const char *path, size_t n_set, const char *const *set,
                    coh_error *err);
void coh_loader_close(coh_loader *l);
/* As coh_config_show, with paths made absolute or as they were written. */
void coh_show(const coh_config *cfg, bool absolute, coh_text *out);
/* Puts the place in front of the message: "file:line", "override" or "file". */
int coh_explain_place(const char *path, int line, coh_error *err);

/* ---- check.c ----------------------------------------------------------------------- */

/* As coh_config_check, naming the parameter that is to blame instead of the file.
 * idle_may_be: values that another choice leaves unread are no error. */
int coh_check_params(const coh_config *cfg, bool idle_may_be, const coh_param **blame,
                     coh_error *err);

#endif
