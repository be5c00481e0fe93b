/* tree.c - the tree of a layer's neurons: dendrogram, number of clusters over the cut,
 * and distances in the order of its leaves. Uses base, extract. */
#include "plot/extraction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  COLUMNS = 1000, /* across a dendrogram: what is narrower cannot be seen */
  MIXED = 0,      /* colours of branches: above the clusters, clusters by turns, others */
  OTHER = 3,
  COLOURS = 4
};

typedef struct drawing {
  const coh_dendrogram *tree;
  size_t n;                /* leaves */
  double column;           /* leaves in a column */
  double base;             /* height that leaves are drawn at */
  size_t *first, *last;    /* [2n - 1] leaves below a node, in the order of the figure */
  double *x;               /* [2n - 1] */
  unsigned char *colour;   /* [2n - 1] */
  bool taken[COLUMNS + 1]; /* a line goes down to the base there */
  coh_text lines[COLOURS];
} drawing;

static void drawing_free(drawing *d) {
  free(d->first);
  free(d->last);
  free(d->x);
  free(d->colour);
  for (int c = 0; c < COLOURS; c++) coh_text_free(d->lines + c);
}

static double height(const drawing *d, size_t node) {
  double h = node < d->n ? 0 : d->tree->merges[node - d->n].height;
  return fmax(h, d->base);
}

static double width(const drawing *d, size_t node) {
  return (double)(d->last[node] - d->first[node] + 1);
}

/* Kept clusters take turns in two colours, from left to right. */
static int colour_leaves(drawing *d, const bool *kept, size_t n_cluster, coh_error *err) {
  unsigned char *of = NULL, next = 1;
  int rc = coh_alloc(&of, n_cluster, 1, err);
  for (size_t i = 0; i < d->n && rc == COH_OK; i++) {
    size_t leaf = d->tree->order[i], c = d->tree->cluster[leaf];
    d->colour[leaf] = OTHER;
    if (c >= n_cluster || !kept[c]) continue;
    if (!of[c]) of[c] = next, next = 3 - next;
    d->colour[leaf] = of[c];
  }
  free(of);
  return rc;
}

/* Is all below the node of one cluster? Then it has that cluster's colour. */
static void colour_merges(drawing *d) {
  const coh_dendrogram *t = d->tree;
  size_t *of = d->first; /* lent: filled anew by place_nodes */
  for (size_t i = 0; i < d->n; i++) of[i] = t->cluster[i];
  for (size_t k = 0; k + 1 < d->n; k++) {
    size_t a = t->merges[k].a, b = t->merges[k].b;
    bool same = of[a] == of[b] && of[a] != SIZE_MAX;
    of[d->n + k] = same ? of[a] : SIZE_MAX;
    d->colour[d->n + k] = same ? d->colour[a] : MIXED;
  }
}

/* A node with a child too narrow to be seen stands above the other child. */
static void place_nodes(drawing *d) {
  const coh_dendrogram *t = d->tree;
  for (size_t i = 0; i < d->n; i++) {
    size_t leaf = t->order[i];
    d->first[leaf] = d->last[leaf] = i;
    d->x[leaf] = (double)i;
  }
  for (size_t k = 0; k + 1 < d->n; k++) {
    size_t a = t->merges[k].a, b = t->merges[k].b, node = d->n + k;
    d->first[node] = d->first[a] < d->first[b] ? d->first[a] : d->first[b];
    d->last[node] = d->last[a] > d->last[b] ? d->last[a] : d->last[b];
    d->x[node] = (d->x[a] + d->x[b]) / 2;
    if (d->column > 1 && width(d, a) < d->column) d->x[node] = d->x[b];
    if (d->column > 1 && width(d, b) < d->column) d->x[node] = d->x[a];
  }
}

static size_t column_of(const drawing *d, size_t node) {
  size_t c = (size_t)(d->x[node] / d->column);
  return c > COLUMNS ? COLUMNS : c;
}

/* What is drawn where a line comes down upon this node: itself; a leaf (any of it) if it
 * is too narrow; or what is left of it without narrow branches that lines hide. */
static size_t resolve(const drawing *d, size_t node) {
  if (d->column <= 1) return node;
  while (node >= d->n) {
    const coh_merge *m = d->tree->merges + (node - d->n);
    if (width(d, node) < 2 * d->column) return d->tree->order[d->first[node]];
    size_t narrow = width(d, m->a) < width(d, m->b) ? m->a : m->b;
    if (width(d, narrow) >= d->column || !d->taken[column_of(d, narrow)]) return node;
    node = m->a + m->b - narrow;
  }
  return node;
}

static void draw_merge(drawing *d, size_t node, size_t below[2]) {
  const coh_merge *m = d->tree->merges + (node - d->n);
  const size_t child[2] = {m->a, m->b};
  double h = height(d, node), foot[2];
  coh_text *out = d->lines + d->colour[node];
  for (int i = 0; i < 2; i++) {
    below[i] = resolve(d, child[i]);
    foot[i] = height(d, below[i]);
    if (below[i] < d->n) d->taken[column_of(d, child[i])] = true;
  }
  coh_text_add(out, "%u,%.8g,%.5g\n%u,%.8g,%.5g\n", d->colour[node], d->x[m->a], foot[0],
               d->colour[node], d->x[m->a], h);
  coh_text_add(out, "%u,%.8g,%.5g\n%u,%.8g,%.5g\n\n", d->colour[node], d->x[m->b], h,
               d->colour[node], d->x[m->b], foot[1]);
}

static int draw_tree(drawing *d, coh_error *err) {
  size_t *stack = NULL, depth = 0, below[2];
  int rc = coh_alloc(&stack, d->n + 1, sizeof *stack, err);
  if (rc != COH_OK) return rc;
  stack[depth++] = 2 * d->n - 2;
  while (depth > 0) {
    draw_merge(d, stack[--depth], below);
    for (int i = 1; i >= 0; i--)
      if (below[i] >= d->n) stack[depth++] = below[i];
  }
  free(stack);
  return COH_OK;
}

/* Lowest height shown: eight powers of ten at most. */
static double lowest(const coh_dendrogram *t, bool *log) {
  double most = 0, least = INFINITY;
  for (size_t k = 0; k + 1 < t->n; k++)
    if (isfinite(t->merges[k].height)) most = fmax(most, t->merges[k].height);
  for (size_t k = 0; k + 1 < t->n; k++)
    if (t->merges[k].height > most * 1e-8) least = fmin(least, t->merges[k].height);
  *log = isfinite(least) && most > 30 * least;
  return *log ? least / 2 : 0;
}

static void add_plots(const drawing *d, coh_sketch *s, double cut) {
  static const char *const colour[COLOURS] = {COH_INK, COH_BLUE, COH_ORANGE, COH_GREY};
  static const char *const name[COLOURS] = {"", "kept clusters, by turns", "",
                                            "other neurons"};
  size_t index = 0;
  coh_text_add(&s->csv, "branch,place,height\n");
  coh_text_add(&s->script, "plot ");
  for (int c = 0; c < COLOURS; c++) {
    if (!d->lines[c].len) continue;
    coh_text_add(&s->csv, "%s%s", index ? "\n" : "", d->lines[c].data);
    coh_text_add(&s->script,
                 "'%s.csv' skip 1 index %zu using 2:3 with lines linewidth %s linecolor "
                 "%s title '%s', \\\n  ",
                 s->name, index++, d->n > 300 ? "0.6" : "1", colour[c], name[c]);
  }
  coh_text_add(&s->script,
               "%.10g with lines linewidth 1.5 dashtype 2 linecolor %s title 'cut at "
               "%.3g'\n",
               cut, COH_RED, cut);
}

static int dendrogram(const coh_layer_plot *p, const coh_dendrogram *t, const bool *kept,
                      size_t n_cluster, coh_error *err) {
  int rc;
  bool log;
  coh_sketch s;
  drawing d = {.tree = t, .n = t->n};
  d.base = lowest(t, &log);
  d.column = fmax(1, (double)t->n / COLUMNS);
  size_t nodes = 2 * t->n - 1;
  coh_sketch_begin(&s, "dendrogram", p->part, "Tree of the students' neurons");
  COH_TRY(coh_alloc(&d.first, nodes, sizeof *d.first, err));
  COH_TRY(coh_alloc(&d.last, nodes, sizeof *d.last, err));
  COH_TRY(coh_alloc(&d.x, nodes, sizeof *d.x, err));
  COH_TRY(coh_alloc(&d.colour, nodes, 1, err));
  COH_TRY(colour_leaves(&d, kept, n_cluster, err));
  colour_merges(&d);
  place_nodes(&d);
  COH_TRY(draw_tree(&d, err));
  coh_text_add(&s.caption,
               "Tree of the neurons%s of all students: branches join at the distance of "
               "what they join.%s",
               p->about,
               t->n > COLUMNS ? " Branches too narrow to be seen are left out." : "");
  coh_text_add(
      &s.script,
      "set xlabel '%zu neurons, in the order of the tree'\nset ylabel 'distance'\n"
      "set xrange [-1:%zu]\nunset xtics\nset border 2\n",
      t->n, t->n);
  double top = fmax(t->merges[t->n - 2].height, t->cut);
  if (log) coh_gnuplot_log(&s.script, "y", d.base, top);
  coh_text_add(&s.script, "set yrange [%.5g:%.5g]\n", d.base, top * (log ? 2 : 1.05));
  add_plots(&d, &s, t->cut);
  rc = coh_sketch_draw(p->f, &s, err);
cleanup:
  coh_sketch_drop(&s);
  drawing_free(&d);
  return rc;
}

/* ---- number of clusters over the cut -------------------------------------------------
 */

static int cuts(const coh_layer_plot *p, const coh_dendrogram *t, size_t n_kept,
                coh_error *err) {
  bool log;
  coh_sketch s;
  double base = lowest(t, &log);
  size_t step = t->n / COLUMNS + 1;
  coh_sketch_begin(&s, "cuts", p->part, "Number of clusters over the height of the cut");
  coh_text_add(
      &s.caption,
      "Clusters%s into which a cut of the whole tree at this height would divide "
      "it; %zu were kept.",
      p->about, n_kept);
  coh_text_add(&s.csv, "height,clusters\n%.8g,%zu\n", base, t->n);
  for (size_t k = 0; k + 1 < t->n; k++) {
    bool last = k + 2 == t->n; /* the last clusters are seen one by one */
    if (k % step && t->n - k > 50 && !last) continue;
    coh_text_add(&s.csv, "%.8g,%zu\n", fmax(t->merges[k].height, base), t->n - 1 - k);
  }
  double top = fmax(t->merges[t->n - 2].height, t->cut);
  if (log) coh_gnuplot_log(&s.script, "x", base, top);
  coh_text_add(&s.script, "set xrange [%.5g:%.5g]\n", base, top * (log ? 2 : 1.05));
  if (t->n > 30) coh_text_add(&s.script, "set logscale y\n");
  coh_text_add(
      &s.script,
      "set xlabel 'height of the cut (distance)'\nset ylabel 'clusters'\n"
      "set yrange [0.8:*]\nset arrow from %.10g, graph 0 to %.10g, graph 1 nohead "
      "linewidth 1.5 dashtype 2 linecolor %s\n",
      t->cut, t->cut, COH_RED);
  coh_text_add(
      &s.script,
      "plot '%s.csv' skip 1 using 1:2 with steps linewidth 2 linecolor %s title "
      "'clusters', \\\n  %zu with lines linewidth 1.5 dashtype 3 linecolor %s "
      "title '%zu kept', \\\n  NaN with lines linewidth 1.5 dashtype 2 linecolor "
      "%s title 'cut at %.3g'\n",
      s.name, COH_BLUE, n_kept, COH_INK, n_kept, COH_RED, t->cut);
  return coh_sketch_draw(p->f, &s, err);
}

/* ---- distances ----------------------------------------------------------------------
 */

static double pair_distance(const coh_dendrogram *t, size_t i, size_t j) {
  if (i == j) return NAN;
  return t->apart[i < j ? coh_pair(t->n_shown, i, j) : coh_pair(t->n_shown, j, i)];
}

static int distances(const coh_layer_plot *p, const coh_dendrogram *t, coh_error *err) {
  coh_sketch s;
  size_t m = t->n_shown;
  double least = INFINITY, most = 0;
  for (size_t k = 0; k < m * (m - 1) / 2; k++) {
    most = fmax(most, t->apart[k]);
    if (t->apart[k] > 0) least = fmin(least, t->apart[k]);
  }
  least = fmax(least, most * 1e-8);
  coh_sketch_begin(&s, "distances", p->part, "Distances in the order of the tree");
  s.width = 400, s.height = 330;
  coh_text_add(&s.caption,
               "Distances between neurons%s in the order of the tree's leaves; each dark "
               "block is a group of neurons that agree.",
               p->about);
  if (m < t->n)
    coh_text_add(&s.caption, " %zu of %zu neurons are shown, evenly chosen.", m, t->n);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < m; j++) {
      double d = pair_distance(t, i, j);
      if (!isnan(d)) coh_text_add(&s.csv, "%.4g", fmax(d, least));
      if (isnan(d)) coh_text_add(&s.csv, "nan");
      coh_text_add(&s.csv, j + 1 < m ? "," : "\n");
    }
  coh_gnuplot_palette(&s.script);
  if (most > 30 * least) coh_gnuplot_log(&s.script, "cb", least, most);
  double scale = (double)t->n / (double)m;
  coh_text_add(&s.script,
               COH_BAR_MARGIN
               "set size ratio -1\nunset grid\nset border 0\nset yrange [%zu:0]\n"
               "set xrange [0:%zu]\nset cblabel 'distance'\n"
               "set xlabel 'neuron, in the order of the tree'\nset ylabel 'neuron'\n"
               "plot '%s.csv' matrix using (($1+0.5)*%.10g):(($2+0.5)*%.10g):3 with "
               "image\n",
               t->n, t->n, s.name, scale, scale);
  return coh_sketch_draw(p->f, &s, err);
}

int coh_plot_tree(const coh_layer_plot *p, const coh_dendrogram *t, coh_error *err) {
  int rc = COH_OK;
  bool *kept = NULL;
  size_t n_cluster = 0, n_kept;
  if (t->n < 2) {
    coh_figures_note(p->f, "layer %zu: a tree of %zu neurons is not drawn", p->layer,
                     t->n);
    return COH_OK;
  }
  for (size_t i = 0; i < t->n; i++)
    if (t->cluster[i] >= n_cluster) n_cluster = t->cluster[i] + 1;
  COH_TRY(coh_alloc(&kept, n_cluster, sizeof *kept, err));
  COH_TRY(coh_clusters_kept(p, n_cluster, kept, &n_kept, err));
  if (coh_figures_wants(p->f, "dendrogram"))
    COH_TRY(dendrogram(p, t, kept, n_cluster, err));
  if (coh_figures_wants(p->f, "distances")) COH_TRY(distances(p, t, err));
  if (coh_figures_wants(p->f, "cuts")) COH_TRY(cuts(p, t, n_kept, err));
cleanup:
  free(kept);
  return rc;
}
