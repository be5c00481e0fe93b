/* images.c - weights as images: recovered neurons beside true ones, and the layers of a
 * model with their histograms. Uses base, net, store. */
#include "plot/private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  MOST_TILES = 10,   /* pairs of neurons shown */
  MOST_PIXELS = 256, /* of a layer along each side */
  MOST_BOXES = 600,  /* weights drawn as boxes; more of them as one image */
  BINS = 60
};

/* From dark by grey to light: the sign is seen in print, too (cividis). */
static void add_signed_palette(coh_text *out) {
  coh_text_add(out, "set palette defined (-1 '#00224e', -0.6 '#274d7a', 0 '#7d7c78', "
                    "0.6 '#c9b35f', 1 '#fee838')\n");
}

/* ---- recovered beside true ------------------------------------------------------------
 */

typedef struct network {
  coh_plan plan;
  size_t N, member; /* member: the one that is looked at */
  double *params;   /* [N, P] */
} network;

static int network_load(const char *path, network *out, coh_error *err) {
  *out = (network){0};
  return coh_model_load(path, MPI_COMM_SELF, COH_F64, &out->plan, &out->N,
                        (void **)&out->params, err);
}

/* A neuron of the first layer beside one of the teacher; SIZE_MAX: there is none. */
typedef struct pair {
  size_t found, true_one;
  double sign;
} pair;

typedef struct tiles {
  size_t height, width, channels; /* of one neuron's inputs */
  size_t rows;                    /* 2 with a teacher */
  size_t n;
  pair pair[MOST_TILES];
  const network *found, *teacher; /* teacher NULL: not known */
  size_t member;
} tiles;

/* Weight of input (c, y, x), divided by the largest of the neuron. */
static void tile_values(const network *w, size_t member, size_t neuron, double sign,
                        double *out) {
  const coh_layer *l = w->plan.layer;
  const double *p = w->params + member * w->plan.P + l->w;
  double most = 0;
  for (size_t i = 0; i < l->in; i++) most = fmax(most, fabs(p[i * l->out + neuron]));
  for (size_t i = 0; i < l->in; i++)
    out[i] = most > 0 ? sign * p[i * l->out + neuron] / most : 0;
}

/* The pairs of neurons.csv, the strongest first; without a teacher the first neurons. */
static int choose_pairs(const char *folder, tiles *t, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_table table = {0};
  size_t H = t->found->plan.layer[0].out;
  if (t->teacher) {
    COH_TRY(coh_format(path, sizeof path, err, "%s/neurons.csv", folder));
    COH_TRY(coh_table_read(path, &table, err));
  }
  for (size_t i = 0; i < table.n_row && t->n < MOST_TILES; i++) {
    double layer = coh_cell_number(&table, i, "layer");
    double neuron = coh_cell_number(&table, i, "neuron");
    double partner = coh_cell_number(&table, i, "partner");
    bool excess = strcmp(coh_cell(&table, i, "kind"), "excess") == 0;
    if (layer != 1 || strcmp(coh_cell(&table, i, "when"), "finetuned") != 0) continue;
    if (!(neuron >= 0) || excess) continue;
    pair p = {SIZE_MAX, (size_t)neuron, coh_cell_number(&table, i, "sign")};
    if (partner >= 0) p.found = (size_t)partner;
    if (p.true_one >= t->teacher->plan.layer[0].out) continue;
    if (p.found != SIZE_MAX && p.found >= H) continue;
    t->pair[t->n++] = p;
  }
  for (size_t i = 0; !t->teacher && i < H && t->n < MOST_TILES; i++)
    t->pair[t->n++] = (pair){i, SIZE_MAX, 1};
cleanup:
  coh_table_free(&table);
  return rc;
}

static void shape_of(size_t d_in, tiles *t) {
  t->channels = d_in == 3072 ? 3 : 1;
  t->height = d_in == 784 ? 28 : d_in == 3072 ? 32 : 1;
  t->width = d_in / t->channels / t->height;
}

/* Nothing, so that rows of weights stay apart in one image. */
static void add_empty_row(const tiles *t, size_t y, coh_text *csv) {
  for (size_t x = 0; x < t->width; x++) coh_text_add(csv, ",,%zu,%zu,NaN\n", x, y);
}

/* One tile's pixels, a line each: gray is the one value, or red, green, blue. */
static int add_tile(const tiles *t, size_t at, size_t row, coh_text *csv,
                    coh_error *err) {
  const pair *p = t->pair + at;
  const network *w = row == 0 && t->teacher ? t->teacher : t->found;
  bool is_teacher = row == 0 && t->teacher;
  size_t neuron = is_teacher ? p->true_one : p->found, area = t->height * t->width;
  bool wide = t->height == 1;
  double *v = NULL;
  if (neuron == SIZE_MAX && wide) add_empty_row(t, at * (t->rows + 1) + row, csv);
  if (neuron == SIZE_MAX) return COH_OK;
  int rc = coh_alloc(&v, w->plan.d_in, sizeof *v, err);
  if (rc != COH_OK) return rc;
  tile_values(w, is_teacher ? t->member : 0, neuron, is_teacher ? 1 : p->sign, v);
  for (size_t y = 0; y < t->height; y++)
    for (size_t x = 0; x < t->width; x++) {
      size_t px = wide ? x : at * (t->width + 2) + x;
      size_t py = wide ? at * (t->rows + 1) + row : row * (t->height + 2) + y;
      coh_text_add(csv, "%s,%zu,%zu,%zu", is_teacher ? "teacher" : "recovered", neuron,
                   px, py);
      for (size_t c = 0; c < t->channels; c++)
        coh_text_add(csv, ",%.4g", v[c * area + y * t->width + x]);
      coh_text_add(csv, "\n");
    }
  free(v);
  return COH_OK;
}

/* Few weights are drawn as boxes, many as an image, which needs two rows at least. */
static bool wants_boxes(size_t columns, size_t rows) {
  return columns < 2 || rows < 2 || columns * rows <= MOST_BOXES;
}

/* Tiles stand side by side, teacher above recovered, a picture each, so that what lies
 * between them stays empty; rows of weights one below the other, all in one. */
static void add_tile_plots(const tiles *t, size_t blocks, const char *name,
                           coh_text *script) {
  if (t->height == 1) {
    bool boxes = wants_boxes(t->width, t->n * (t->rows + 1));
    coh_text_add(script, "plot '%s.csv' skip 1 using 3:4:%s\n", name,
                 boxes
                     ? "(0.5):(0.5):5 with boxxyerror linecolor palette fillstyle solid "
                       "noborder"
                     : "5 with image");
    return;
  }
  for (size_t b = 0; b < blocks; b++) {
    coh_text_add(script,
                 "%s'%s.csv' skip 1 index %zu using 3:4:", b ? ", \\\n  " : "plot ", name,
                 b);
    if (t->channels == 3)
      coh_text_add(script, "(128+127*$5):(128+127*$6):(128+127*$7) with rgbimage");
    else
      coh_text_add(script, "5 with image");
  }
  coh_text_add(script, "\n");
}

static void add_tile_axes(const tiles *t, coh_sketch *s) {
  bool wide = t->height == 1;
  coh_text *out = &s->script;
  double right = wide ? (double)t->width : (double)(t->n * (t->width + 2)) - 2;
  double below =
      wide ? (double)(t->n * (t->rows + 1)) - 1 : (double)(t->rows * (t->height + 2)) - 2;
  add_signed_palette(out);
  coh_text_add(out,
               "unset grid\nset border 0\nunset xtics\nunset ytics\n"
               "set xrange [-0.5:%.1f]\nset yrange [%.1f:-0.5]\nset cbrange [-1:1]\n"
               "set cblabel 'weight / largest |weight|'%s\n",
               right - 0.5, below - 0.5, wide ? "" : " offset 0,0.6");
  if (wide) coh_text_add(out, COH_BAR_MARGIN);
  if (!wide)
    coh_text_add(out,
                 "set size ratio -1\nset tmargin at screen 0.97\nset bmargin at screen "
                 "%.4f\nset rmargin at screen 0.98\nset lmargin at screen 0.13\nset "
                 "colorbox horizontal user origin 0.25,%.4f size 0.6,%.4f\n",
                 t->channels == 3 ? 0.03 : 78 / (double)s->height, 58 / (double)s->height,
                 10 / (double)s->height);
  if (t->channels == 3) coh_text_add(out, "unset colorbox\n");
  if (wide) coh_text_add(out, "set xlabel 'input'\n");
  if (wide) coh_gnuplot_tics(out, "x", 0, (double)t->width - 1, true);
  coh_text_add(out, "set ytics (");
  for (size_t i = 0; i < (wide ? t->n : 1); i++)
    for (size_t r = 0; r < t->rows; r++) {
      const pair *p = t->pair + i;
      const char *who = r == 0 && t->teacher ? "true" : "found";
      double y = wide ? (double)(i * (t->rows + 1) + r)
                      : (double)(r * (t->height + 2)) + (double)t->height / 2;
      size_t neuron = r == 0 && t->teacher ? p->true_one : p->found;
      coh_text_add(out, "%s'%s", i + r ? ", " : "", who);
      if (wide && neuron != SIZE_MAX) coh_text_add(out, " %zu", neuron);
      coh_text_add(out, "' %.1f", y);
    }
  coh_text_add(out, ")\n");
}

static int draw_tiles(coh_figures *f, const tiles *t, coh_error *err) {
  int rc = COH_OK;
  coh_sketch s;
  size_t blocks = 0;
  bool wide = t->height == 1;
  coh_sketch_begin(&s, "weights", "",
                   t->teacher ? "Input weights, true and recovered"
                              : "Input weights of the recovered neurons");
  coh_text_add(&s.caption, "Input weights of %zu of the %zu recovered neurons%s; ", t->n,
               t->found->plan.layer[0].out,
               t->teacher ? wide ? ", each below the teacher's"
                                 : ", each below the teacher's neuron it was matched with"
                          : "");
  coh_text_add(&s.caption, "each is divided by its largest weight%s%s.",
               t->teacher ? " and has the sign of its partner" : "",
               t->channels == 3 ? "; red, green and blue are the weights of the three "
                                  "channels, grey is zero"
                                : "");
  if (!wide) {
    double each = 340.0 / (double)(t->n > 4 ? t->n : 4);
    s.height = (size_t)(each * (double)t->rows) + (t->channels == 3 ? 16 : 92);
  }
  coh_text_add(&s.csv, "network,neuron,x,y,%s\n",
               t->channels == 3 ? "red,green,blue" : "weight");
  for (size_t i = 0; i < t->n && rc == COH_OK; i++)
    for (size_t r = 0; r < t->rows && rc == COH_OK; r++) {
      size_t before = s.csv.len;
      rc = add_tile(t, i, r, &s.csv, err);
      if (wide && r + 1 == t->rows) add_empty_row(t, i * (t->rows + 1) + r + 1, &s.csv);
      if (wide || s.csv.len == before) continue;
      blocks++;
      coh_text_add(&s.csv, "\n\n");
    }
  add_tile_axes(t, &s);
  add_tile_plots(t, blocks, s.name, &s.script);
  if (rc == COH_OK) return coh_sketch_draw(f, &s, err);
  coh_sketch_drop(&s);
  return rc;
}

int coh_plot_recovered(coh_figures *f, const char *folder, const char *teacher,
                       size_t member, coh_error *err) {
  int rc;
  char path[COH_PATH];
  network found = {0}, known = {0};
  if (!coh_figures_wants(f, "weights")) return COH_OK;
  COH_TRY(coh_format(path, sizeof path, err, "%s/recovered.h5", folder));
  if (!coh_file_exists(path)) return COH_OK;
  COH_TRY(network_load(path, &found, err));
  if (teacher) COH_TRY(network_load(teacher, &known, err));
  bool fits = teacher && known.plan.d_in == found.plan.d_in && member < known.N;
  tiles t = {.rows = fits ? 2 : 1,
             .found = &found,
             .teacher = fits ? &known : NULL,
             .member = member};
  shape_of(found.plan.d_in, &t);
  COH_TRY(choose_pairs(folder, &t, err));
  if (t.n > 0) COH_TRY(draw_tiles(f, &t, err));
cleanup:
  free(found.params);
  free(known.params);
  return rc;
}

/* ---- layers -------------------------------------------------------------------------
 */

/* Weight matrix [out, in] of a layer; every step-th row and column if it is too large. */
static void add_matrix(const network *w, const coh_layer *l, size_t down, size_t across,
                       size_t *zeros, coh_text *csv) {
  const double *p = w->params + w->member * w->plan.P + l->w;
  size_t all = l->in * l->out;
  *zeros = 0;
  for (size_t i = 0; i < all; i++) *zeros += p[i] == 0;
  for (size_t o = 0; o < l->out; o += down)
    for (size_t i = 0; i < l->in; i += across) {
      double v = p[i * l->out + o];
      if (v == 0 && *zeros < all)
        coh_text_add(csv, "%zu,%zu,NaN\n", i, o);
      else
        coh_text_add(csv, "%zu,%zu,%.4g\n", i, o, v);
    }
}

static double largest(const network *w, const coh_layer *l) {
  double most = 0;
  const double *p = w->params + w->member * w->plan.P + l->w;
  for (size_t i = 0; i < l->in * l->out; i++) most = fmax(most, fabs(p[i]));
  return isfinite(most) && most > 0 ? most : 1;
}

static void add_histogram(const network *w, const coh_layer *l, double most,
                          bool skip_zeros, coh_text *csv) {
  size_t count[BINS] = {0};
  for (size_t i = 0; i < l->in * l->out; i++) {
    double v = w->params[w->member * w->plan.P + l->w + i];
    if (!isfinite(v) || (v == 0 && skip_zeros)) continue;
    size_t b = (size_t)((v + most) / (2 * most) * BINS);
    count[b < BINS ? b : BINS - 1]++;
  }
  for (size_t b = 0; b < BINS; b++)
    coh_text_add(csv, "%.6g,,%zu\n", most * (2 * ((double)b + 0.5) / BINS - 1), count[b]);
}

static int draw_layer(coh_figures *f, const network *w, size_t layer, coh_error *err) {
  coh_sketch s;
  char part[32];
  size_t zeros;
  const coh_layer *l = w->plan.layer + layer;
  double most = largest(w, l), all = (double)(l->in * l->out);
  size_t down = (l->out + MOST_PIXELS - 1) / MOST_PIXELS;
  size_t across = (l->in + MOST_PIXELS - 1) / MOST_PIXELS;
  bool boxes = wants_boxes((l->in + across - 1) / across, (l->out + down - 1) / down);
  snprintf(part, sizeof part, "%zu", layer + 1);
  coh_sketch_begin(&s, "layers", part, "Weights of layer");
  coh_text_add(&s.title, " %zu", layer + 1);
  s.height = 380;
  coh_text_add(&s.csv, "input,neuron,weight\n");
  add_matrix(w, l, down, across, &zeros, &s.csv);
  coh_text_add(&s.csv, "\n\n");
  bool pruned = zeros > 0 && zeros < l->in * l->out;
  add_histogram(w, l, most, pruned, &s.csv);
  coh_text_add(
      &s.caption,
      "Weights of layer %zu (%zu inputs, %zu neurons) and their histogram; %zu of "
      "%zu (%.3g %%) are zero%s.",
      layer + 1, l->in, l->out, zeros, l->in * l->out, 100 * (double)zeros / all,
      pruned ? ", left blank in the image, and out of the histogram" : "");
  add_signed_palette(&s.script);
  coh_text_add(&s.script,
               "set multiplot\nset origin 0,0.42\nset size 1,0.58\nunset grid\n"
               "set cbrange [%.6g:%.6g]\nset cblabel 'weight'\nset xlabel 'input'\n"
               "set ylabel 'neuron'\nset xrange [-0.5:%.1f]\nset yrange "
               "[%.1f:-0.5]\n" COH_BAR_MARGIN,
               -most, most, (double)l->in - 0.5, (double)l->out - 0.5);
  coh_gnuplot_tics(&s.script, "x", 0, (double)l->in - 1, true);
  coh_gnuplot_tics(&s.script, "y", 0, (double)l->out - 1, true);
  coh_text_add(&s.script, "plot '%s.csv' skip 1 index 0 using 1:2:", s.name);
  if (boxes)
    coh_text_add(
        &s.script,
        "(%g):(%g):3 with boxxyerror linecolor palette fillstyle solid noborder\n",
        (double)across / 2, (double)down / 2);
  else
    coh_text_add(&s.script, "3 with image\n");
  coh_text_add(&s.script,
               "set origin 0,0\nset size 1,0.42\nset grid\nset xlabel 'weight'\n"
               "set ylabel 'weights'\nset xrange [%.6g:%.6g]\nset yrange [0.5:*]\n"
               "set xtics auto\nset ytics auto\nset rmargin at screen 0.96\n"
               "set logscale y\nset boxwidth %.6g\nunset colorbox\n"
               "plot '%s.csv' skip 1 index 1 using 1:3 with boxes linecolor %s\n"
               "unset multiplot\n",
               -most, most, 1.8 * most / BINS, s.name, COH_BLUE);
  return coh_sketch_draw(f, &s, err);
}

int coh_plot_layers(coh_figures *f, const char *model, coh_error *err) {
  int rc;
  network w = {0};
  if (!coh_figures_wants(f, "layers")) return COH_OK;
  COH_TRY(network_load(model, &w, err));
  w.member = f->first < w.N ? f->first : 0;
  for (size_t l = 0; l < w.plan.L; l++) COH_TRY(draw_layer(f, &w, l, err));
cleanup:
  free(w.params);
  return rc;
}
