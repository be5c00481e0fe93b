/* compare.c - runs beside each other: the Pareto front of two measures, parallel
 * coordinates, and how many runs are in which state. Uses base, store. */
#include "plot/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pareto --------------------------------------------------------------------------
 */

typedef struct point {
  double x, y, worse_x, worse_y; /* worse: grows as the measure gets worse */
  size_t row;
  bool front;
} point;

static int compare_points(const void *a, const void *b) {
  const point *p = a, *q = b;
  if (p->worse_x != q->worse_x) return p->worse_x < q->worse_x ? -1 : 1;
  return (p->worse_y > q->worse_y) - (p->worse_y < q->worse_y);
}

/* The points that no other one beats in one measure without being worse in the other. */
static size_t mark_front(point *p, size_t n) {
  double best = INFINITY;
  size_t count = 0;
  qsort(p, n, sizeof *p, compare_points);
  for (size_t i = 0; i < n; i++) {
    p[i].front = p[i].worse_y < best;
    if (p[i].front) best = p[i].worse_y;
    count += p[i].front;
  }
  return count;
}

static bool wants_most(const coh_plot_axis *wish, const coh_column *c) {
  if (wish->best != COH_BEST_AUTO) return wish->best == COH_BEST_MOST;
  return coh_measure_wants_most(c->name);
}

/* The measure to hold against the main one: of size if there is one, else time. */
static const coh_column *second_measure(const coh_frame *f, const char *but) {
  static const char *const first[] = {"compression_rate", "l0_norm", "time_s"};
  for (size_t i = 0; i < 3; i++) {
    const coh_column *c = coh_frame_column(f, first[i]);
    if (c && c->is == COH_COLUMN_MEASURE && c->n_value > 2 && strcmp(c->name, but) != 0)
      return c;
  }
  return coh_frame_measure(f, but);
}

static void points_csv(const coh_frame *f, const coh_column *x, const coh_column *y,
                       const point *p, size_t n, coh_text *csv) {
  const coh_table *t = f->table;
  size_t run = coh_table_column(t, "run"), hash = coh_table_column(t, "hash");
  coh_csv_cell(csv, x->name);
  coh_text_add(csv, ",");
  coh_csv_cell(csv, y->name);
  coh_text_add(csv, ",front,%s\n", run < t->n_col ? "run" : "hash");
  for (int front = 0; front < 2; front++) {
    for (size_t i = 0; i < n; i++) {
      if (p[i].front != (front == 1)) continue;
      coh_csv_number(csv, p[i].x);
      coh_text_add(csv, ",");
      coh_csv_number(csv, p[i].y);
      size_t col = run < t->n_col ? run : hash;
      coh_text_add(csv, ",%d,%s\n", front,
                   col < t->n_col ? t->cell[f->row[p[i].row] * t->n_col + col] : "");
    }
  }
}

static int draw_pareto(coh_figures *f, const coh_plot_sweep *w, const coh_frame *frame,
                       const coh_column *x, const coh_column *y, coh_error *err) {
  int rc;
  size_t n = 0;
  point *p = NULL;
  coh_sketch s;
  coh_text title = {0};
  bool most_x = wants_most(&w->x, x), most_y = wants_most(&w->y, y);
  COH_TRY(coh_alloc(&p, frame->n, sizeof *p, err));
  for (size_t i = 0; i < frame->n; i++) {
    double a = x->at[i], b = y->at[i];
    if (!isfinite(a) || !isfinite(b)) continue;
    p[n++] = (point){a, b, most_x ? -a : a, most_y ? -b : b, i, false};
  }
  size_t front = mark_front(p, n);
  if (n == 0) goto cleanup;
  coh_text_add(&title, "%s against %s", y->name, x->name);
  coh_sketch_begin(&s, "pareto", "", title.data ? title.data : "");
  coh_text_free(&title);
  coh_text_add(
      &s.caption,
      "Each run by %s (%s is better) and %s (%s is better); no other run beats the "
      "%zu of %zu on the line in both.",
      x->name, most_x ? "more" : "less", y->name, most_y ? "more" : "less", front, n);
  points_csv(frame, x, y, p, n, &s.csv);
  coh_axis_label("x", x, "", &s.script);
  coh_axis_label("y", y, "", &s.script);
  coh_axis_numbers("x", x, coh_axis_is_log(&w->x, x, frame->n), frame->n, &s.script);
  coh_axis_numbers("y", y, coh_axis_is_log(&w->y, y, frame->n), frame->n, &s.script);
  coh_text_add(&s.script,
               "set offsets graph 0.03, graph 0.03, graph 0.03, graph 0.03\n"
               "plot '%s.csv' skip 1 using ($3==0?$1:NaN):2 with points pointtype 7 "
               "pointsize 0.3 linecolor %s title 'runs', \\\n"
               "  '%s.csv' skip 1 using ($3==1?$1:NaN):2 with linespoints pointtype 5 "
               "pointsize 0.6 linewidth 1.5 linecolor %s title 'Pareto front'\n",
               s.name, COH_SKY, s.name, COH_RED);
  rc = coh_sketch_draw(f, &s, err);
cleanup:
  free(p);
  return rc;
}

int coh_plot_pareto(coh_figures *f, const coh_plot_sweep *w, const coh_sweep_view *v,
                    coh_error *err) {
  const coh_column *y = v->y;
  bool given = v->x && v->x->is == COH_COLUMN_MEASURE;
  if (y->is != COH_COLUMN_MEASURE) y = coh_frame_measure(v->frame, NULL);
  if (!y) return COH_OK;
  const coh_column *x = given ? v->x : second_measure(v->frame, y->name);
  if (!x) {
    if (f->n_kind > 0) coh_figures_note(f, "pareto: there is one measure only");
    return COH_OK;
  }
  return draw_pareto(f, w, v->frame, x, y, err);
}

/* ---- parallel coordinates -------------------------------------------------------------
 */

enum { MOST_PARALLEL = 7, FULL_NAMES = 5 }; /* more axes: without their sections */

/* Where a run is on an axis that goes from 0 to 1. */
typedef struct scale {
  const coh_column *c;
  bool log;
  double least, most;
} scale;

static scale scale_of(const coh_column *c, size_t n) {
  scale s = {c, c->number && coh_wants_log(n, c->at), INFINITY, -INFINITY};
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(c->at[i])) continue;
    s.least = fmin(s.least, c->at[i]);
    s.most = fmax(s.most, c->at[i]);
  }
  return s;
}

static double on_scale(const scale *s, double v) {
  if (!isfinite(v) || !(s->most > s->least)) return isfinite(v) ? 0.5 : NAN;
  if (s->log) return log(v / s->least) / log(s->most / s->least);
  return (v - s->least) / (s->most - s->least);
}

/* Name, least and most of an axis as labels of the figure. */
static void label_axis(const scale *s, size_t at, size_t n, coh_text *out) {
  char text[64];
  double x = (double)at;
  const char *align = at + 1 == n ? "right" : at == 0 ? "left" : "center";
  coh_text_add(out,
               "set arrow from %g, 0 to %g, 1 nohead linewidth 1 linecolor %s front\n", x,
               x, COH_INK);
  coh_text_add(out, "set label ");
  const char *key = n > FULL_NAMES ? strrchr(s->c->name, '.') : NULL;
  coh_gnuplot_quote(out, key ? key + 1 : s->c->name);
  coh_text_add(out, " at %g, %s %s font ',9'\n", x, at % 2 ? "1.19" : "1.1", align);
  for (int end = 0; end < 2; end++) {
    if (s->c->number)
      snprintf(text, sizeof text, "%.3g", end ? s->most : s->least);
    else
      snprintf(text, sizeof text, "%.20s", s->c->value[end ? s->c->n_value - 1 : 0]);
    coh_text_add(out, "set label ");
    coh_gnuplot_quote(out, text);
    coh_text_add(out, " at %g, %s %s font ',9'\n", x, end ? "1.035" : "-0.05", align);
  }
}

typedef struct ordered {
  size_t i;
  double shade; /* 1: the best */
} ordered;

static int compare_shades(const void *a, const void *b) {
  double x = ((const ordered *)a)->shade, y = ((const ordered *)b)->shade;
  return (x > y) - (x < y);
}

static int add_lines(const coh_frame *f, const scale *axis, size_t n, bool most,
                     size_t *left_out, coh_text *csv, coh_error *err) {
  ordered *o = NULL;
  size_t count = 0;
  int rc = coh_alloc(&o, f->n, sizeof *o, err);
  if (rc != COH_OK) return rc;
  for (size_t i = 0; i < f->n; i++) {
    double good = on_scale(axis + n - 1, axis[n - 1].c->at[i]);
    if (!isnan(good)) o[count++] = (ordered){i, most ? good : 1 - good};
  }
  *left_out = f->n - count;
  if (count) qsort(o, count, sizeof *o, compare_shades);
  coh_text_add(csv, "axis,position,goodness,value,table_row\n");
  for (size_t k = 0; k < count; k++) {
    for (size_t a = 0; a < n; a++) {
      const coh_column *c = axis[a].c;
      double at = on_scale(axis + a, c->at[o[k].i]);
      if (isnan(at)) continue;
      coh_text_add(csv, "%zu,%.5g,%.5g,", a, at, o[k].shade);
      coh_csv_cell(csv, c->value[c->place[o[k].i]]);
      coh_text_add(csv, ",%zu\n", f->row[o[k].i] + 1);
    }
    coh_text_add(csv, "\n");
  }
  free(o);
  return COH_OK;
}

int coh_plot_parallel(coh_figures *f, const coh_sweep_view *v, coh_error *err) {
  coh_sketch s;
  scale axis[MOST_PARALLEL + 1];
  const coh_column *parameter[MOST_PARALLEL];
  const coh_column *y =
      v->y->is == COH_COLUMN_MEASURE ? v->y : coh_frame_measure(v->frame, NULL);
  size_t left_out, n = coh_frame_axes(v->frame, parameter, MOST_PARALLEL);
  bool most = y && coh_measure_wants_most(y->name);
  if (n == 0 || !y) return COH_OK;
  for (size_t i = 0; i < n; i++) axis[i] = scale_of(parameter[i], v->frame->n);
  axis[n++] = scale_of(y, v->frame->n);
  coh_sketch_begin(&s, "parallel", "", "All varying parameters, and what came of them");
  int rc = add_lines(v->frame, axis, n, most, &left_out, &s.csv, err);
  if (rc != COH_OK) {
    coh_sketch_drop(&s);
    return rc;
  }
  coh_text_add(
      &s.caption,
      "Each finished run as a line through its parameters to %s; the better, the "
      "darker, with the best on top.",
      y->name);
  if (left_out)
    coh_text_add(&s.caption, " %zu runs without a finite value are left out.", left_out);
  for (size_t i = 0; i < n; i++) label_axis(axis + i, i, n, &s.script);
  coh_text_add(
      &s.script,
      "set palette defined (0 '#e3e0cf', 0.3 '#addc30', 0.6 '#28ae80', 0.85 "
      "'#3b528b', 1 '#440154')\nunset colorbox\nunset grid\nset border 0\n"
      "unset xtics\nunset ytics\nset xrange [-0.15:%.2f]\nset yrange [-0.1:1.25]\n"
      "set cbrange [0:1]\n"
      "plot '%s.csv' skip 1 using 1:2:3 with lines linewidth %s linecolor palette\n",
      (double)n - 0.85, s.name, v->frame->n > 200 ? "0.5" : "1");
  return coh_sketch_draw(f, &s, err);
}

/* ---- runs by status
 * -------------------------------------------------------------------- */

enum { MOST_STATES = 12 };

/* The states of the table's rows. */
static size_t count_states(const coh_table *t, const char *state[MOST_STATES],
                           size_t count[MOST_STATES]) {
  size_t n = 0, col = coh_table_column(t, "status");
  for (size_t i = 0; i < t->n_row && col < t->n_col; i++) {
    const char *is = t->cell[i * t->n_col + col];
    size_t k = 0;
    while (k < n && strcmp(state[k], is) != 0) k++;
    if (k == MOST_STATES) continue;
    if (k == n) state[n] = is, count[n++] = 0;
    count[k]++;
  }
  return n;
}

int coh_plot_status(coh_figures *f, const coh_plot_sweep *p, coh_error *err) {
  coh_sketch s;
  const char *own[MOST_STATES];
  size_t counted[MOST_STATES];
  size_t n = p->n_state ? p->n_state : count_states(p->runs, own, counted);
  const char *const *state = p->n_state ? p->state : own;
  const size_t *count = p->n_state ? p->count : counted;
  if (n == 0) return COH_OK;
  size_t all = 0;
  for (size_t i = 0; i < n; i++) all += count[i];
  coh_sketch_begin(&s, "status", "", "Runs by status");
  s.height = 60 + 32 * n;
  coh_text_add(&s.caption, "How far the %zu runs are.", all);
  coh_text_add(&s.csv, "place,runs,status\n");
  coh_text_add(&s.script, "set ytics (");
  for (size_t i = 0; i < n; i++) {
    coh_text_add(&s.csv, "%zu,%zu,", i, count[i]);
    coh_csv_cell(&s.csv, state[i]);
    coh_text_add(&s.csv, "\n");
    coh_text_add(&s.script, "%s", i ? ", " : "");
    coh_gnuplot_quote(&s.script, *state[i] ? state[i] : "(none)");
    coh_text_add(&s.script, " %zu", i);
  }
  coh_text_add(
      &s.script,
      ")\nunset grid\nset border 1\nset xlabel 'runs'\nset xrange [0:%.5g]\n"
      "set yrange [%.1f:-0.5]\n"
      "plot '%s.csv' skip 1 using (0):1:(0):2:($1-0.35):($1+0.35) with boxxyerror "
      "linecolor %s, \\\n  '' skip 1 using 2:1:2 with labels left offset 0.5,0\n",
      1.15 * (double)all, (double)n - 0.5, s.name, COH_BLUE);
  return coh_sketch_draw(f, &s, err);
}
