/* help.c - the table as text for people, 80 columns wide. */
#include "sweep_private.h"

#include <string.h>

enum { COLUMNS = 80 };

/* Adds the words of `text`, each line starting with `indent` blanks. */
static void add_wrapped(coh_text *out, int indent, const char *text) {
  int column = 0;
  while (*text) {
    int n = (int)strcspn(text, " ");
    if (column && column + 1 + n > COLUMNS) {
      coh_text_add(out, "\n");
      column = 0;
    }
    coh_text_add(out, "%*s%.*s", column ? 1 : indent, "", n, text);
    column += (column ? 1 : indent) + n;
    text += n;
    text += strspn(text, " ");
  }
  coh_text_add(out, "\n");
}

static const char *default_shown(const coh_param *p, int job) {
  const char *text = coh_param_default(p, job);
  return *text ? text : "empty";
}

/* "default 0.1, for job = extract 0.001; read by job = extract only" */
static void add_default(const coh_param *p, coh_text *out) {
  int first = 0;
  while (first + 1 < COH_JOBS && !coh_param_is_read(p, first)) first++;
  if (!p->def)
    coh_text_add(out, "required");
  else
    coh_text_add(out, "default %s", default_shown(p, first));
  if (p->def && p->def_extract && first < COH_JOB_EXTRACT)
    coh_text_add(out, ", for job = extract %s", default_shown(p, COH_JOB_EXTRACT));
  if (p->def && p->def_compress && first < COH_JOB_COMPRESS)
    coh_text_add(out, ", for job = compress %s", default_shown(p, COH_JOB_COMPRESS));
  for (int job = 0; job < COH_JOBS; job++)
    if (p->jobs == 1U << job)
      coh_text_add(out, "; read by job = %s only", coh_job_names[job]);
}

static void add_param(const coh_param *p, coh_text *out) {
  coh_text facts = {0};
  coh_value_expected(p, &facts);
  coh_text_add(&facts, "; ");
  add_default(p, &facts);
  coh_text_add(out, "\n  %s\n", p->key);
  if (facts.data) add_wrapped(out, 6, facts.data);
  add_wrapped(out, 6, p->help);
  out->failed |= facts.failed;
  coh_text_free(&facts);
}

static void list_sections(coh_text *out) {
  size_t count;
  const coh_section *sections = coh_sections(&count);
  coh_text_add(out, "The sections of a configuration file:\n\n");
  for (size_t i = 0; i < count; i++)
    coh_text_add(out, "  %-12s %s\n", sections[i].name, sections[i].help);
}

int coh_config_help(const char *section, coh_text *out, coh_error *err) {
  size_t count;
  const coh_section *sections = coh_sections(&count);
  if (!section) {
    list_sections(out);
    return coh_text_check(out, err);
  }
  if (!coh_section_exists(section)) return coh_fail_unknown_section(section, err);
  if (strcmp(section, "sweep") == 0) return sweep_help(out, err);
  for (size_t i = 0; i < count; i++)
    if (strcmp(sections[i].name, section) == 0)
      coh_text_add(out, "[%s] %s\n", section, sections[i].help);
  const coh_param *p = coh_params(&count);
  for (size_t i = 0; i < count; i++)
    if (strcmp(p[i].section, section) == 0) add_param(p + i, out);
  return coh_text_check(out, err);
}
