/* figure.c - a set of figures: their files, their list, and what is said of those that
 * could not be drawn. What they show is made elsewhere. Uses base, store. */
#include "plot/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name, *shows;
} kinds[] = {
    {"losses", "loss of each student over the steps"},
    {"finetuning", "loss of the recovered network over the steps"},
    {"dendrogram", "the tree of the students' neurons, with the cut"},
    {"distances", "distances of neurons in the order of the tree's leaves"},
    {"alignment", "angle within each cluster, with pi / beta"},
    {"sizes", "neurons and students of each cluster, with gamma"},
    {"cuts", "number of clusters over the height of the cut"},
    {"neurons", "recovered against true neurons: distances, signs, excess"},
    {"weights", "input weights of recovered beside true neurons"},
    {"stability", "width found over gamma and beta, of stability.csv"},
    {"loss", "loss over the steps, mean and range of the members"},
    {"accuracy", "accuracy over the steps, mean and range of the members"},
    {"lr", "learning rate over the steps"},
    {"l0", "weights that are left over the steps of a compression"},
    {"layers", "weights of each layer and their histogram"},
    {"measure", "a measure against each parameter that varies"},
    {"heatmap", "a measure over two parameters"},
    {"pareto", "two measures, and the runs that none beats in both"},
    {"parallel", "all varying parameters and a measure as parallel coordinates"},
    {"status", "how many runs are done, failed, running, missing"},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

void coh_plot_kinds(coh_text *out) {
  for (size_t i = 0; i < N_KINDS; i++)
    coh_text_add(out, "  %-11s %s\n", kinds[i].name, kinds[i].shows);
}

void coh_plot_kind_names(coh_text *out) {
  for (size_t i = 0; i < N_KINDS; i++)
    coh_text_add(out, "%s%s", i ? ", " : "", kinds[i].name);
}

bool coh_plot_is_kind(const char *name) {
  for (size_t i = 0; i < N_KINDS; i++)
    if (strcmp(kinds[i].name, name) == 0) return true;
  return false;
}

/* ---- the set ----------------------------------------------------------------------- */

int coh_figures_open(const coh_figures_spec *spec, coh_figures **out, coh_error *err) {
  int rc;
  coh_figures *f = NULL;
  *out = NULL;
  COH_TRY(coh_mkdirs(spec->folder, err));
  COH_TRY(coh_alloc(&f, 1, sizeof *f, err));
  COH_TRY(coh_format(f->folder, sizeof f->folder, err, "%s", spec->folder));
  f->formats = spec->formats ? spec->formats : COH_PLOT_SVG;
  f->n_kind = spec->n_kind;
  f->kind = spec->kind;
  f->sink = spec->sink;
  f->first = spec->members ? spec->first : 0;
  f->members = spec->members;
  f->have_gnuplot = coh_gnuplot_is_there();
  if (!(f->about = strdup(spec->about ? spec->about : "")))
    COH_TRY(coh_fail(err, COH_ENOMEM, "no memory for figures"));
  if (!f->have_gnuplot)
    coh_figures_note(f,
                     "gnuplot is not there, so nothing was drawn: install it (Debian: "
                     "gnuplot-nox) and call this again; the numbers are in %s/*.csv",
                     f->folder);
  *out = f;
  f = NULL;
cleanup:
  coh_figures_close(f);
  return rc;
}

void coh_figures_close(coh_figures *f) {
  if (!f) return;
  for (size_t i = 0; i < f->n; i++) {
    free(f->item[i].name);
    free(f->item[i].title);
    free(f->item[i].caption);
  }
  free(f->item);
  free(f->about);
  coh_text_free(&f->notes);
  free(f);
}

bool coh_figures_wants(const coh_figures *f, const char *kind) {
  for (size_t i = 0; i < f->n_kind; i++)
    if (strcmp(f->kind[i], kind) == 0) return true;
  return f->n_kind == 0;
}

size_t coh_figures_count(const coh_figures *f) {
  return f->n;
}

const coh_figure *coh_figures_get(const coh_figures *f, size_t i) {
  return f->item + i;
}

const char *coh_figures_notes(const coh_figures *f) {
  return f->notes.data ? f->notes.data : "";
}

void coh_figures_note(coh_figures *f, const char *format, ...) {
  char text[COH_ERROR_TEXT];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  coh_text_add(&f->notes, "%s\n", text);
  coh_say(f->sink, COH_WARN, "%s", text);
}

/* ---- one figure -------------------------------------------------------------------- */

void coh_sketch_begin(coh_sketch *s, const char *kind, const char *part,
                      const char *title) {
  char text[512];
  *s = (coh_sketch){.width = 400, .height = 280};
  snprintf(text, sizeof text, "%s%s%s", kind, *part ? "-" : "", part);
  coh_label(text, s->name);
  coh_text_add(&s->title, "%s", title);
}

void coh_sketch_drop(coh_sketch *s) {
  coh_text_free(&s->title);
  coh_text_free(&s->caption);
  coh_text_free(&s->csv);
  coh_text_free(&s->script);
}

static int write_file(const coh_figures *f, const coh_sketch *s, const char *end,
                      const coh_text *text, coh_error *err) {
  int rc;
  char path[COH_PATH];
  COH_TRY(coh_text_check(text, err));
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s.%s", f->folder, s->name, end));
  COH_TRY(coh_shared_write(path, text->data ? text->data : "", text->len, err));
cleanup:
  return rc;
}

/* The script as a file: what it is, the settings, and its own commands. */
static int write_script(const coh_figures *f, const coh_sketch *s, coh_error *err) {
  coh_text all = {0};
  coh_text_add(&all, "# ");
  for (const char *c = s->caption.data ? s->caption.data : ""; *c; c++)
    coh_text_addn(&all, *c == '\n' ? " " : c, 1);
  coh_text_add(&all, "\n# gnuplot -e \"format='pdf'\" %s.gp   (or svg, png)\n", s->name);
  coh_gnuplot_settings(&all, s);
  if (s->script.data) coh_text_addn(&all, s->script.data, s->script.len);
  int rc = write_file(f, s, "gp", &all, err);
  coh_text_free(&all);
  return rc;
}

/* One format, under a temporary name until it is whole. */
static int draw_as(coh_figures *f, const coh_sketch *s, const char *format, bool *drawn,
                   coh_error *err) {
  int rc;
  bool ok;
  char path[COH_PATH], script[COH_LABEL + 8], before[256], said[512] = "";
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s.%s", f->folder, s->name, format));
  COH_TRY(coh_format(script, sizeof script, err, "%s.gp", s->name));
  COH_TRY(coh_format(before, sizeof before, err, "format='%s'; target='.%s.%s.tmp'",
                     format, s->name, format));
  COH_TRY(coh_gnuplot_run(f->folder, before, script, said, sizeof said, &ok, err));
  *drawn &= ok;
  if (ok) return coh_temp_commit(path, err);
  coh_temp_discard(path);
  for (char *c = said; *c; c++)
    if (*c == '\n') *c = ' ';
  coh_figures_note(f, "%s/%s.%s: gnuplot could not draw it:%.400s", f->folder, s->name,
                   format, said);
cleanup:
  return rc;
}

/* Into the list; title and caption move there. */
static int add_figure(coh_figures *f, coh_sketch *s, bool drawn, coh_error *err) {
  if (f->n == f->room) {
    size_t room = f->room ? 2 * f->room : 16;
    coh_figure *more = realloc(f->item, room * sizeof *more);
    if (!more) return coh_fail(err, COH_ENOMEM, "no memory for figures");
    f->item = more;
    f->room = room;
  }
  char *name = strdup(s->name);
  if (!name) return coh_fail(err, COH_ENOMEM, "no memory for figures");
  f->item[f->n++] = (coh_figure){name, s->title.data, s->caption.data, drawn};
  s->title = s->caption = (coh_text){0};
  return COH_OK;
}

int coh_sketch_draw(coh_figures *f, coh_sketch *s, coh_error *err) {
  int rc;
  bool drawn = f->have_gnuplot;
  if (*f->about) coh_text_add(&s->caption, "%s%s", s->caption.len ? " " : "", f->about);
  COH_TRY(coh_text_check(&s->title, err));
  COH_TRY(coh_text_check(&s->caption, err));
  COH_TRY(write_file(f, s, "csv", &s->csv, err));
  COH_TRY(write_script(f, s, err));
  static const char *const name[] = {"svg", "png", "pdf"};
  for (unsigned i = 0; i < 3 && f->have_gnuplot; i++)
    if (f->formats & 1U << i) COH_TRY(draw_as(f, s, name[i], &drawn, err));
  COH_TRY(add_figure(f, s, drawn, err));
cleanup:
  coh_sketch_drop(s);
  return rc;
}
