/* private.h - what the files of src/plot share. */
#ifndef COHORT_PLOT_PRIVATE_H
#define COHORT_PLOT_PRIVATE_H

#include "cohort/plot.h"

/* Okabe and Ito's colours, which differ in lightness, too. */
#define COH_INK    "'black'"
#define COH_GREY   "'#999999'"
#define COH_BLUE   "'#0072b2'"
#define COH_ORANGE "'#e69f00'"
#define COH_RED    "'#d55e00'"
#define COH_SKY    "'#56b4e9'"
#define COH_GREEN  "'#009e73'"

struct coh_figures {
  char folder[COH_PATH];
  unsigned formats;
  size_t n_kind;
  const char *const *kind; /* borrowed */
  char *about;
  const coh_sink *sink;
  size_t first, members; /* of coh_figures_spec */
  bool have_gnuplot;
  size_t n, room;
  coh_figure *item;
  coh_text notes;
};

/* ---- figure.c: one figure in the making ---------------------------------------------
 */

typedef struct coh_sketch {
  char name[COH_LABEL]; /* of its files */
  size_t width, height; /* in 1/96 inch */
  coh_text title, caption;
  coh_text csv;    /* the numbers, a line of column names first */
  coh_text script; /* gnuplot commands behind the settings that all figures share */
} coh_sketch;

/* Starts a figure of a kind; `part` ("" or "layer2", a measure ...) ends its name. */
void coh_sketch_begin(coh_sketch *, const char *kind, const char *part,
                      const char *title);
/* Writes <name>.csv and <name>.gp, lets gnuplot draw, and adds the figure to the list.
 * What gnuplot complains of is noted, no error. Frees the sketch in every case. */
int coh_sketch_draw(coh_figures *, coh_sketch *, coh_error *err);
void coh_sketch_drop(coh_sketch *);
/* Something that is not in the figures, and why: a line of the notes. */
void coh_figures_note(coh_figures *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- gnuplot.c ------------------------------------------------------------------------
 */

bool coh_gnuplot_is_there(void);
/* Runs `gnuplot script` in `folder` with these commands in front; its first complaint in
 * `said`. *ok: it exited with 0. */
int coh_gnuplot_run(const char *folder, const char *before, const char *script,
                    char *said, size_t size, bool *ok, coh_error *err);
/* A text in gnuplot's single quotes: nothing in it is read as a command. */
void coh_gnuplot_quote(coh_text *out, const char *text);
/* Settings that all figures share: terminals, type, colours. */
void coh_gnuplot_settings(coh_text *out, const coh_sketch *);
/* set palette: lightness grows with the value, for any eye and in print. */
void coh_gnuplot_palette(coh_text *out);
/* "set logscale x" and the format of its numbers; over more than five powers of ten not
 * each of them has its number. */
void coh_gnuplot_log(coh_text *out, const char *axis, double least, double most);
/* "set xtics (...)" at some five round numbers between these; whole: at whole ones. */
void coh_gnuplot_tics(coh_text *out, const char *axis, double least, double most,
                      bool whole);
/* Room on the right for a colour bar and its label. */
#define COH_BAR_MARGIN "set rmargin at screen 0.76\n"

/* ---- table.c ------------------------------------------------------------------------
 */

/* A cell by the name of its column, "" where there is no such column; as a number, NAN
 * where it is none. */
const char *coh_cell(const coh_table *, size_t row, const char *name);
double coh_cell_number(const coh_table *, size_t row, const char *name);
double coh_text_number(const char *cell);
/* "1.5" as coh_real_text, added; an empty cell for NAN. */
void coh_csv_number(coh_text *out, double v);
/* True if positive numbers span more than a factor of 20. */
bool coh_wants_log(size_t n, const double *v);
/* Quantile q in [0, 1] of sorted numbers, between two of them by proportion. */
double coh_quantile(size_t n, const double *sorted, double q);

#endif
