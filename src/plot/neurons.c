/* neurons.c - recovered against true neurons, and the stability map. Uses base, store. */
#include "plot/extraction.h"

#include <math.h>
#include <string.h>

/* ---- neurons ------------------------------------------------------------------------
 */

static bool is_row(const coh_layer_plot *p, const coh_table *t, size_t row,
                   const char *when, const char *kind) {
  return coh_cell_number(t, row, "layer") == (double)p->layer &&
         strcmp(coh_cell(t, row, "when"), when) == 0 &&
         strcmp(coh_cell(t, row, "kind"), kind) == 0;
}

/* Distance of the same neuron in the rebuilt network; rows come in the same order. */
static double rebuilt_distance(const coh_layer_plot *p, const coh_table *t, size_t row) {
  for (size_t i = 0; i < t->n_row; i++)
    if (is_row(p, t, i, "rebuilt", coh_cell(t, row, "kind")) &&
        strcmp(coh_cell(t, i, "neuron"), coh_cell(t, row, "neuron")) == 0)
      return coh_cell_number(t, i, "w_distance");
  return NAN;
}

/* Logarithms want no zero: what is nearer than rounding counts as rounding. */
static void add_distance(coh_text *csv, double d) {
  coh_csv_number(csv, isnan(d) ? d : fmax(d, 1e-16));
}

typedef struct counts {
  size_t teacher, excess, flipped;
} counts;

static void add_rows(const coh_layer_plot *p, const coh_table *t, const char *kind,
                     coh_text *csv, coh_text *tics, counts *n) {
  bool excess = strcmp(kind, "excess") == 0;
  for (size_t i = 0; i < t->n_row; i++) {
    if (!is_row(p, t, i, "finetuned", kind)) continue;
    size_t place = n->teacher + n->excess;
    double sign = coh_cell_number(t, i, "sign");
    n->flipped += !excess && sign < 0;
    coh_text_add(csv, "%zu,%s,%s,%s,", place, kind, coh_cell(t, i, "neuron"),
                 coh_cell(t, i, "partner"));
    add_distance(csv, excess ? NAN : rebuilt_distance(p, t, i));
    coh_text_add(csv, ",");
    add_distance(csv, coh_cell_number(t, i, "w_distance"));
    coh_text_add(csv, ",");
    add_distance(csv, excess ? NAN : coh_cell_number(t, i, "a_distance"));
    coh_text_add(csv, ",%s,%s\n", coh_cell(t, i, "sign"), coh_cell(t, i, "out_norm"));
    coh_text_add(tics, "%s'%s%s%s' %zu", place ? ", " : "", excess ? "+" : "",
                 coh_cell(t, i, "neuron"), !excess && sign < 0 ? "-" : "", place);
    n->teacher += !excess;
    n->excess += excess;
  }
}

int coh_plot_neurons(const coh_layer_plot *p, const coh_table *t, coh_error *err) {
  coh_sketch s;
  counts n = {0};
  coh_text tics = {0};
  coh_sketch_begin(&s, "neurons", p->part, "Recovered against true neurons");
  coh_text_add(&s.csv,
               "place,kind,neuron,partner,w_distance_rebuilt,w_distance_finetuned,"
               "a_distance_finetuned,sign,out_norm\n");
  add_rows(p, t, "teacher", &s.csv, &tics, &n);
  add_rows(p, t, "excess", &s.csv, &tics, &n);
  if (n.teacher == 0) {
    coh_text_free(&tics);
    coh_sketch_drop(&s);
    return COH_OK;
  }
  size_t all = n.teacher + n.excess;
  coh_text_add(
      &s.caption,
      "How far the weight vectors of each neuron%s of the teacher and of the "
      "recovered network point apart, the strongest on the output first; %zu have "
      "the opposite sign (marked -), %zu were found in excess%s.",
      p->about, n.flipped, n.excess,
      n.excess ? " (marked +, with the distance to the nearest true one)" : "");
  coh_text_add(&s.script,
               "set ylabel 'cosine distance'\nset xrange [-0.7:%.1f]\n"
               "set yrange [3e-17:5]\n",
               (double)all - 0.3);
  coh_gnuplot_log(&s.script, "y", 1e-16, 1);
  if (all <= 20)
    coh_text_add(&s.script, "set xlabel 'neuron of the teacher%s'\nset xtics (%s)\n",
                 n.excess ? ", +: in excess" : "", tics.data ? tics.data : "");
  else
    coh_text_add(&s.script,
                 "set xlabel '%zu neurons of the teacher, then %zu in excess'\n"
                 "unset xtics\n",
                 n.teacher, n.excess);
  const char *size = all > 60 ? "0.3" : "0.7";
  coh_text_add(
      &s.script,
      "plot '%s.csv' skip 1 using 1:5 with points pointtype 4 pointsize %s "
      "linecolor %s title 'input, rebuilt', \\\n"
      "  '%s.csv' skip 1 using 1:6 with points pointtype 5 pointsize %s linecolor "
      "%s title 'input', \\\n"
      "  '%s.csv' skip 1 using 1:7 with points pointtype 8 pointsize %s linecolor "
      "%s title 'output weights'\n",
      s.name, size, COH_SKY, s.name, size, COH_BLUE, s.name, size, COH_RED);
  coh_text_free(&tics);
  return coh_sketch_draw(p->f, &s, err);
}

/* ---- stability ----------------------------------------------------------------------
 */

enum { MOST_VALUES = 64 };

/* Distinct values of a column, in the order they come. */
static size_t values(const coh_layer_plot *p, const coh_table *t, const char *name,
                     const char *out[MOST_VALUES]) {
  size_t n = 0;
  for (size_t i = 0; i < t->n_row; i++) {
    if (coh_cell_number(t, i, "layer") != (double)p->layer) continue;
    const char *v = coh_cell(t, i, name);
    size_t k = 0;
    while (k < n && strcmp(out[k], v) != 0) k++;
    if (k == n && n < MOST_VALUES) out[n++] = v;
  }
  return n;
}

static size_t place_of(const char *v, size_t n, const char *const *in) {
  for (size_t k = 0; k < n; k++)
    if (strcmp(in[k], v) == 0) return k;
  return n;
}

static void add_tics(const char *axis, size_t n, const char *const *value,
                     coh_text *out) {
  coh_text_add(out, "set %stics (", axis);
  for (size_t k = 0; k < n; k++) {
    coh_text_add(out, "%s", k ? ", " : "");
    coh_gnuplot_quote(out, value[k]);
    coh_text_add(out, " %zu", k);
  }
  coh_text_add(out, ")\n");
}

int coh_plot_stability(const coh_layer_plot *p, const coh_table *t, coh_error *err) {
  coh_sketch s;
  const char *gamma[MOST_VALUES], *beta[MOST_VALUES];
  size_t G = values(p, t, "gamma", gamma), B = values(p, t, "beta", beta);
  double least = INFINITY, most = -INFINITY;
  if (G == 0 || B == 0) return COH_OK;
  coh_sketch_begin(&s, "stability", p->part, "Width found over gamma and beta");
  coh_text_add(
      &s.caption,
      "Number of neurons found%s for every gamma and beta: where it stays the "
      "same, it does not hang on their choice. The run has gamma = %g, beta = %g.",
      p->about, p->cfg->extraction.gamma, p->cfg->extraction.beta);
  coh_text_add(&s.csv, "beta_place,gamma_place,found_size,beta,gamma\n");
  for (size_t i = 0; i < t->n_row; i++) {
    if (coh_cell_number(t, i, "layer") != (double)p->layer) continue;
    const char *g = coh_cell(t, i, "gamma"), *b = coh_cell(t, i, "beta");
    least = fmin(least, coh_cell_number(t, i, "found_size"));
    most = fmax(most, coh_cell_number(t, i, "found_size"));
    coh_text_add(&s.csv, "%zu,%zu,%s,%s,%s\n", place_of(b, B, beta),
                 place_of(g, G, gamma), coh_cell(t, i, "found_size"), b, g);
  }
  coh_gnuplot_palette(&s.script);
  add_tics("x", B, beta, &s.script);
  add_tics("y", G, gamma, &s.script);
  coh_text_add(&s.script,
               "set xlabel 'beta (clusters lie within pi / beta)'\n"
               "set ylabel 'gamma (share of the students)'\nset cblabel 'neurons "
               "found'\n" COH_BAR_MARGIN
               "set cbrange [%g:%g]\n%sunset grid\nset border 0\nset xrange "
               "[-0.5:%.1f]\nset yrange [-0.5:%.1f]\n"
               "plot '%s.csv' skip 1 using 1:2:3 with image pixels, \\\n"
               "  '%s.csv' skip 1 using 1:2:(sprintf('%%g', $3)):($3 > %g ? 0 : "
               "16777215) with labels textcolor rgb variable\n",
               least - 0.5, most + 0.5, most - least < 10 ? "set cbtics 1\n" : "",
               (double)B - 0.5, (double)G - 0.5, s.name, s.name, (least + most) / 2);
  return coh_sketch_draw(p->f, &s, err);
}
