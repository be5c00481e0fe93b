/* sweep.c - figures of many runs: which columns stand for which axis, and the figures of
 * one measure. Pareto fronts, parallel coordinates and the states of runs are drawn in
 * compare.c. Uses base, store. */
#include "plot/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AXES = 6, MOST_FIXED = 64, MOST_CURVES = 6, MOST_TICS = 16 };

/* ---- axes ----------------------------------------------------------------------------
 */

static const char *unit_of(const char *name) {
  if (strcmp(name, "time_s") == 0) return " [s]";
  if (strcmp(name, "l0_norm") == 0) return " (parameters left)";
  if (strcmp(name, "compression_rate") == 0) return " (parameters / those left)";
  if (strstr(name, "accuracy")) return " (fraction right)";
  if (strstr(name, "w_m") || strstr(name, "a_m")) return " (cosine distance)";
  return "";
}

void coh_axis_label(const char *axis, const coh_column *c, const char *before,
                    coh_text *out) {
  coh_text text = {0};
  coh_text_add(&text, "%s%s%s", before, c->name, unit_of(c->name));
  coh_text_add(out, "set %slabel ", axis);
  coh_gnuplot_quote(out, text.data ? text.data : "");
  coh_text_add(out, "\n");
  coh_text_free(&text);
}

bool coh_axis_is_log(const coh_plot_axis *wish, const coh_column *c, size_t n) {
  if (!c->number || wish->scale == COH_SCALE_LINEAR) return false;
  return wish->scale == COH_SCALE_LOG || coh_wants_log(n, c->at);
}

void coh_axis_values(const char *axis, const coh_column *c, coh_text *out) {
  size_t step = (c->n_value + MOST_TICS - 1) / MOST_TICS;
  coh_text_add(out, "set %stics (", axis);
  for (size_t k = 0; k < c->n_value; k += step) {
    char text[32];
    snprintf(text, sizeof text, "%.24s", c->value[k]);
    if (c->number) snprintf(text, sizeof text, "%.3g", coh_text_number(c->value[k]));
    coh_text_add(out, "%s", k ? ", " : "");
    coh_gnuplot_quote(out, text);
    coh_text_add(out, " %zu", k);
  }
  coh_text_add(out, ")%s\n", *axis == 'x' && c->n_value > 6 ? " rotate by -40" : "");
}

static void range_of(const coh_column *c, size_t n, double *least, double *most) {
  *least = INFINITY, *most = -INFINITY;
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(c->at[i])) continue;
    *least = fmin(*least, c->at[i]);
    *most = fmax(*most, c->at[i]);
  }
}

/* A parameter's own values, if they find room; else round numbers. */
void coh_axis_numbers(const char *axis, const coh_column *c, bool log, size_t n,
                      coh_text *out) {
  size_t letters = 0;
  double least, most;
  range_of(c, n, &least, &most);
  if (log) coh_gnuplot_log(out, axis, least, most);
  if (log && *axis == 'x') {
    double margin = pow(most / least, 0.05);
    coh_text_add(out, "set xrange [%.4g:%.4g]\n", least / margin, most * margin);
  }
  if (!c->number || *axis != 'x') return;
  for (size_t k = 0; k < c->n_value; k++) letters += strlen(c->value[k]) + 2;
  if (letters > 40 || c->is == COH_COLUMN_MEASURE) {
    if (!log) coh_gnuplot_tics(out, axis, least, most, false);
    return;
  }
  coh_text_add(out, "set %stics (", axis);
  for (size_t k = 0; k < c->n_value; k++)
    coh_text_add(out, "%s'%s' %s", k ? ", " : "", c->value[k], c->value[k]);
  coh_text_add(out, ")\n");
}

/* Are numbers better placed evenly, by their rank? On a linear axis some of them would be
 * too close to each other to be told apart, as 0, 0.001, 0.01 and 1. */
static bool is_crowded(const coh_column *c) {
  if (c->n_value < 3 || c->n_value > 12) return false;
  double first = coh_text_number(c->value[0]);
  double last = coh_text_number(c->value[c->n_value - 1]);
  for (size_t k = 1; k < c->n_value; k++)
    if (coh_text_number(c->value[k]) - coh_text_number(c->value[k - 1]) <
        (last - first) / 15)
      return true;
  return false;
}

/* ---- a measure against one parameter --------------------------------------------------
 */

typedef struct against {
  const coh_frame *frame;
  const coh_column *x, *y, *by; /* by: a curve for each of its values; NULL: one curve */
  size_t n_fixed; /* parameters that are held at their value in row `best` */
  const coh_column *fixed[MOST_FIXED];
  size_t best;
  bool log_x, log_y;
  bool ranks; /* x stands for the place of a value among all */
} against;

typedef struct group {
  size_t n;
  double mean, least, most;
} group;

static bool is_fixed_so(const against *a, size_t row) {
  for (size_t i = 0; i < a->n_fixed; i++)
    if (a->fixed[i]->place[row] != a->fixed[i]->place[a->best]) return false;
  return true;
}

static group group_of(const against *a, size_t x, size_t curve) {
  group g = {0, NAN, INFINITY, -INFINITY};
  double sum = 0;
  for (size_t i = 0; i < a->frame->n; i++) {
    double v = a->y->at[i];
    if (a->x->place[i] != x || (a->by && a->by->place[i] != curve) || !isfinite(v) ||
        !is_fixed_so(a, i))
      continue;
    sum += v;
    g.n++;
    g.least = fmin(g.least, v);
    g.most = fmax(g.most, v);
  }
  if (g.n) g.mean = sum / (double)g.n;
  return g;
}

/* Place of a value on the axis: the number itself, or its rank. */
static double position(const against *a, size_t place) {
  return a->ranks ? (double)place : coh_text_number(a->x->value[place]);
}

/* A block of lines for each curve that has points; returns how many, their values of `by`
 * in curve[]. */
static size_t add_groups(const against *a, size_t curve[MOST_CURVES], coh_text *csv) {
  size_t n = 0, curves = a->by ? a->by->n_value : 1;
  for (size_t c = 0; c < curves && n < MOST_CURVES; c++) {
    size_t before = csv->len;
    for (size_t k = 0; k < a->x->n_value; k++) {
      group g = group_of(a, k, c);
      if (g.n == 0) continue;
      if (csv->len == before && n) coh_text_add(csv, "\n\n");
      const double v[] = {position(a, k), g.mean, g.least, g.most};
      for (size_t q = 0; q < 4; q++) {
        coh_csv_number(csv, v[q]);
        coh_text_add(csv, ",");
      }
      coh_text_add(csv, "%zu,", g.n);
      coh_csv_cell(csv, a->x->value[k]);
      coh_text_add(csv, ",");
      coh_csv_cell(csv, a->by ? a->by->value[c] : "");
      coh_text_add(csv, "\n");
    }
    if (csv->len > before) curve[n++] = c;
  }
  return n;
}

static void plot_groups(const against *a, size_t n, const size_t *curve, coh_sketch *s) {
  static const char *const colour[MOST_CURVES] = {COH_BLUE, COH_ORANGE, COH_GREEN,
                                                  COH_RED,  COH_SKY,    COH_INK};
  static const int shape[MOST_CURVES] = {7, 5, 9, 13, 6, 4};
  for (size_t i = 0; i < n; i++) {
    coh_text_add(&s->script, i ? ", \\\n  " : "plot ");
    if (a->x->number)
      coh_text_add(&s->script,
                   "'%s.csv' skip 1 index %zu using 1:3:4 with filledcurves linecolor %s "
                   "fillstyle transparent solid 0.18, \\\n  ",
                   s->name, i, colour[i]);
    double aside = a->x->number ? 0 : 0.08 * ((double)i - (double)(n - 1) / 2);
    coh_text_add(&s->script,
                 "'%s.csv' skip 1 index %zu using ($1+%.3g):2:3:4 with %s linewidth 1.5 "
                 "dashtype %zu pointtype %d pointsize 0.5 linecolor %s",
                 s->name, i, aside, a->x->number ? "yerrorlines" : "yerrorbars",
                 a->x->number ? i + 1 : 1, shape[i], colour[i]);
    if (!a->by) continue;
    coh_text_add(&s->script, " title ");
    coh_gnuplot_quote(&s->script, a->by->value[curve[i]]);
  }
  coh_text_add(&s->script, "\n");
}

static void describe_against(const against *a, coh_text *out) {
  size_t runs = 0, bad = 0;
  for (size_t i = 0; i < a->frame->n; i++) {
    if (!is_fixed_so(a, i)) continue;
    runs += isfinite(a->y->at[i]) != 0;
    bad += !isfinite(a->y->at[i]);
  }
  coh_text_add(out,
               "%s over %s: mean and range of the runs that share its value (%zu in all)",
               a->y->name, a->x->name, runs);
  if (a->by) coh_text_add(out, ", for each %s", a->by->name);
  coh_text_add(out, ".");
  for (size_t i = 0; i < a->n_fixed; i++)
    coh_text_add(out, "%s%s = %s", i ? ", " : " As in the best run: ", a->fixed[i]->name,
                 a->fixed[i]->value[a->fixed[i]->place[a->best]]);
  if (a->n_fixed) coh_text_add(out, ".");
  if (bad) coh_text_add(out, " %zu runs have no finite value and are left out.", bad);
}

static int draw_against(coh_figures *f, const against *a, const char *part,
                        coh_error *err) {
  coh_sketch s;
  size_t curve[MOST_CURVES];
  coh_text title = {0};
  coh_text_add(&title, "%s over %s", a->y->name, a->x->name);
  coh_sketch_begin(&s, "measure", part, title.data ? title.data : "");
  coh_text_free(&title);
  describe_against(a, &s.caption);
  coh_text_add(&s.csv, "x,mean,least,most,runs,");
  coh_csv_cell(&s.csv, a->x->name);
  coh_text_add(&s.csv, ",");
  coh_csv_cell(&s.csv, a->by ? a->by->name : "curve");
  coh_text_add(&s.csv, "\n");
  size_t n = add_groups(a, curve, &s.csv);
  if (n == 0) {
    coh_figures_note(f, "measure: %s has no number in any finished run", a->y->name);
    coh_sketch_drop(&s);
    return COH_OK;
  }
  coh_axis_label("x", a->x, "", &s.script);
  coh_axis_label("y", a->y, "", &s.script);
  if (!a->ranks) coh_axis_numbers("x", a->x, a->log_x, a->frame->n, &s.script);
  coh_axis_numbers("y", a->y, a->log_y, a->frame->n, &s.script);
  if (a->ranks) coh_axis_values("x", a->x, &s.script);
  if (a->ranks)
    coh_text_add(&s.script, "set xrange [-0.5:%.1f]\n", (double)a->x->n_value - 0.5);
  coh_text_add(&s.script, "set offsets graph 0.02, graph 0.02, graph 0.03, graph 0.03\n"
                          "set key maxrows 3\n");
  if (a->by) {
    coh_text_add(&s.script, "set key title ");
    coh_gnuplot_quote(&s.script, a->by->name);
    coh_text_add(&s.script, "\n");
  }
  plot_groups(a, n, curve, &s);
  return coh_sketch_draw(f, &s, err);
}

/* The run whose measure is best. */
static size_t best_run(const coh_frame *f, const coh_column *y, bool most) {
  size_t best = 0;
  for (size_t i = 0; i < f->n; i++) {
    double v = y->at[i], had = y->at[best];
    if (isfinite(v) && (!isfinite(had) || (most ? v > had : v < had))) best = i;
  }
  return best;
}

/* What varies besides x: one parameter makes the curves, all others are held, so that
 * what is spread stems from seeds alone. */
static void settle(const coh_plot_sweep *p, const coh_sweep_view *v, against *a) {
  const coh_column *other[MOST_FIXED];
  size_t m = coh_frame_axes(v->frame, other, MOST_FIXED);
  bool most = p->y.best == COH_BEST_AUTO ? coh_measure_wants_most(v->y->name)
                                         : p->y.best == COH_BEST_MOST;
  a->best = best_run(v->frame, v->y, most);
  for (size_t k = 0; k < m; k++) {
    if (other[k] == a->x) continue;
    if (!a->by && other[k]->n_value <= MOST_CURVES)
      a->by = other[k];
    else
      a->fixed[a->n_fixed++] = other[k];
  }
  a->log_x = coh_axis_is_log(&p->x, a->x, v->frame->n);
  a->log_y = coh_axis_is_log(&p->y, a->y, v->frame->n);
  a->ranks = !a->x->number || (!a->log_x && is_crowded(a->x) && !p->x.scale);
}

/* What a compression is looked at for, over its strength: besides the main measure. */
static int draw_compression(coh_figures *f, const coh_plot_sweep *p,
                            const coh_sweep_view *v, coh_error *err) {
  static const char *const measure[] = {"l0_norm", "final_loss_testset"};
  int rc = COH_OK;
  const coh_column *alpha = coh_frame_column(v->frame, "compress.alpha");
  if (!alpha || alpha->is != COH_COLUMN_PARAMETER) return COH_OK;
  for (size_t i = 0; i < 2 && rc == COH_OK; i++) {
    char part[64];
    against a = {
        .frame = v->frame, .x = alpha, .y = coh_frame_column(v->frame, measure[i])};
    if (!a.y || a.y->is != COH_COLUMN_MEASURE || a.y == v->y) continue;
    settle(p, v, &a);
    rc = coh_format(part, sizeof part, err, "compress.alpha-%s", measure[i]);
    if (rc == COH_OK) rc = draw_against(f, &a, part, err);
  }
  return rc;
}

static int draw_measures(coh_figures *f, const coh_plot_sweep *p, const coh_sweep_view *v,
                         coh_error *err) {
  int rc = COH_OK;
  const coh_column *axis[MOST_AXES];
  size_t n = coh_frame_axes(v->frame, axis, MOST_AXES);
  if (v->x) axis[0] = v->x, n = 1;
  if (n == 0 && (axis[0] = coh_frame_column(v->frame, "experiment.seed")) &&
      axis[0]->is == COH_COLUMN_SEED)
    n = 1;
  for (size_t i = 0; i < n && rc == COH_OK; i++) {
    against a = {.frame = v->frame, .x = axis[i], .y = v->y};
    settle(p, v, &a);
    rc = draw_against(f, &a, a.x->name, err);
  }
  if (rc == COH_OK && !p->x.name && !p->y.name) rc = draw_compression(f, p, v, err);
  return rc;
}

/* ---- a measure over two parameters ----------------------------------------------------
 */

/* Least and largest mean of a map. */
typedef struct map_range {
  double least, largest;
} map_range;

static map_range map_csv(const against *a, coh_text *csv) {
  map_range r = {INFINITY, -INFINITY};
  coh_text_add(csv, "x_place,y_place,mean,runs,x,y\n");
  for (size_t i = 0; i < a->x->n_value; i++)
    for (size_t k = 0; k < a->by->n_value; k++) {
      group g = group_of(a, i, k);
      if (g.n == 0) continue;
      r.least = fmin(r.least, g.mean);
      r.largest = fmax(r.largest, g.mean);
      coh_text_add(csv, "%zu,%zu,", i, k);
      coh_csv_number(csv, g.mean);
      coh_text_add(csv, ",%zu,", g.n);
      coh_csv_cell(csv, a->x->value[i]);
      coh_text_add(csv, ",");
      coh_csv_cell(csv, a->by->value[k]);
      coh_text_add(csv, "\n");
    }
  return r;
}

static void map_axes(const against *a, bool log, coh_text *script) {
  const coh_column *x = a->x, *y = a->by, *z = a->y;
  coh_gnuplot_palette(script);
  coh_axis_label("x", x, "", script);
  coh_axis_label("y", y, "", script);
  coh_text_add(script, "set cblabel ");
  coh_gnuplot_quote(script, z->name);
  coh_text_add(script, "\n");
  coh_axis_values("x", x, script);
  coh_axis_values("y", y, script);
  if (log) coh_axis_numbers("cb", z, log, a->frame->n, script);
  coh_text_add(script,
               COH_BAR_MARGIN
               "unset grid\nset border 0\nset xrange [-0.5:%.1f]\nset yrange "
               "[-0.5:%.1f]\n",
               (double)x->n_value - 0.5, (double)y->n_value - 0.5);
}

/* Fields of the map, with their numbers where these have room. */
static void map_fields(const against *a, map_range r, bool log, coh_sketch *s) {
  bool labels = a->x->n_value <= 8 && a->by->n_value <= 10;
  coh_text_add(&s->script,
               "plot '%s.csv' skip 1 using 1:2:(0.46):(0.46):3 with boxxyerror linecolor "
               "palette fillstyle solid noborder",
               s->name);
  if (labels)
    coh_text_add(
        &s->script,
        ", \\\n  '%s.csv' skip 1 using 1:2:(sprintf('%s', $3)):($3 > %.10g ? 0 : "
        "16777215) with labels font ',%d' textcolor rgb variable",
        s->name, log ? "%.0e" : "%.3g",
        log ? sqrt(r.least * r.largest) : (r.least + r.largest) / 2,
        a->x->n_value > 5 ? 9 : 11);
  coh_text_add(&s->script, "\n");
}

static int draw_heatmap(coh_figures *f, const coh_sweep_view *v, const coh_column *x,
                        const coh_column *y, const coh_plot_axis *wish, coh_error *err) {
  coh_sketch s;
  const coh_column *z = v->z;
  coh_text title = {0};
  const against a = {.frame = v->frame, .x = x, .y = z, .by = y};
  bool log = coh_axis_is_log(wish, z, v->frame->n);
  coh_text_add(&title, "%s over %s and %s", z->name, x->name, y->name);
  coh_sketch_begin(&s, "heatmap", "", title.data ? title.data : "");
  coh_text_free(&title);
  coh_text_add(&s.caption, "Mean of %s over %s and %s, of all runs that share both.",
               z->name, x->name, y->name);
  map_range range = map_csv(&a, &s.csv);
  map_axes(&a, log, &s.script);
  map_fields(&a, range, log, &s);
  return coh_sketch_draw(f, &s, err);
}

static int heatmap(coh_figures *f, const coh_plot_sweep *p, const coh_sweep_view *v,
                   coh_error *err) {
  const coh_column *axis[MOST_AXES], *x = v->x, *y = v->y_axis;
  size_t n = coh_frame_axes(v->frame, axis, MOST_AXES);
  for (int numbers = 1; numbers >= 0; numbers--) /* numbers make the better map */
    for (size_t i = 0; i < n; i++) {
      if (axis[i]->number != (numbers == 1) || axis[i] == x || axis[i] == y) continue;
      if (!x)
        x = axis[i];
      else if (!y)
        y = axis[i];
    }
  if (x && y) return draw_heatmap(f, v, x, y, p->z.name ? &p->z : &p->y, err);
  if (f->n_kind > 0)
    coh_figures_note(f, "heatmap: fewer than two parameters vary, besides seeds");
  return COH_OK;
}

/* ---- all of them ----------------------------------------------------------------------
 */

/* The column that was asked for. */
static int find_column(const coh_frame *f, const coh_plot_axis *wish, const char *option,
                       const coh_column **out, coh_error *err) {
  *out = NULL;
  if (!wish->name) return COH_OK;
  if ((*out = coh_frame_column(f, wish->name)) && (*out)->n_value > 0) return COH_OK;
  coh_text names = {0};
  for (size_t c = 0; c < f->n_col; c++)
    if (f->col[c].is != COH_COLUMN_OTHER) coh_text_add(&names, " %s", f->col[c].name);
  int rc = coh_fail(err, COH_EUSAGE,
                    "%s %s: no such column in the table of the runs, or no finished run "
                    "has a value there; expected one of:%.1500s",
                    option, wish->name, names.data ? names.data : "");
  coh_text_free(&names);
  return rc;
}

static bool is_parameter(const coh_column *c) {
  return c->is == COH_COLUMN_PARAMETER || c->is == COH_COLUMN_SEED;
}

static int expect_numbers(const coh_column *c, const char *option, coh_error *err) {
  if (!c || c->number) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "%s %s: a measure is drawn there, and this column has text", option,
                  c->name);
}

static int choose(const coh_plot_sweep *p, coh_sweep_view *v, coh_error *err) {
  int rc;
  COH_TRY(find_column(v->frame, &p->x, "--x", &v->x, err));
  COH_TRY(find_column(v->frame, &p->y, "--y", &v->y, err));
  COH_TRY(find_column(v->frame, &p->z, "--z", &v->z, err));
  if (v->y && (is_parameter(v->y) || (v->z && v->y->is != COH_COLUMN_MEASURE))) {
    v->y_axis = v->y; /* of a heat map, and no measure */
    v->y = NULL;
  }
  COH_TRY(expect_numbers(v->y, "--y", err));
  COH_TRY(expect_numbers(v->z, "--z", err));
  if (!v->y) v->y = v->z ? v->z : coh_frame_measure(v->frame, NULL);
  if (!v->z) v->z = v->y;
cleanup:
  return rc;
}

int coh_plot_runs(coh_figures *f, const coh_plot_sweep *p, coh_error *err) {
  int rc;
  coh_frame frame = {0};
  coh_sweep_view v = {.frame = &frame};
  COH_TRY(coh_frame_make(p->runs, &frame, err));
  if (frame.n > 0) COH_TRY(choose(p, &v, err));
  if (!v.y) {
    coh_figures_note(f, "no run is done yet: there are no measures to draw");
  } else {
    if (coh_figures_wants(f, "measure")) COH_TRY(draw_measures(f, p, &v, err));
    if (coh_figures_wants(f, "heatmap")) COH_TRY(heatmap(f, p, &v, err));
    if (coh_figures_wants(f, "pareto")) COH_TRY(coh_plot_pareto(f, p, &v, err));
    if (coh_figures_wants(f, "parallel")) COH_TRY(coh_plot_parallel(f, &v, err));
  }
  if (coh_figures_wants(f, "status")) COH_TRY(coh_plot_status(f, p, err));
cleanup:
  coh_frame_free(&frame);
  return rc;
}
