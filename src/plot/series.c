/* series.c - what was measured while training, over the steps. Uses base, config, store.
 */
#include "plot/private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  LINES = 64,  /* members drawn one by one, more of them as a range */
  POINTS = 300 /* steps drawn of one line */
};

/* All values of one name: value[i * n_member + k] of step i, NAN where there is none. */
typedef struct series {
  size_t n, n_member;
  uint64_t *step;
  double *value;
  size_t bad; /* members whose last value is no number */
  size_t
      ended; /* whose last value, a number, is of an earlier step than that of others */
} series;

static void series_free(series *s) {
  free(s->step);
  free(s->value);
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static size_t place(const series *s, uint64_t step) {
  size_t low = 0, high = s->n;
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if (s->step[middle] <= step)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/* Drops steps until at most POINTS are left, evenly; the last one stays. */
static void thin(series *s) {
  if (s->n <= POINTS) return;
  size_t kept = 0;
  for (size_t i = 0; i < POINTS; i++)
    s->step[kept++] = s->step[i * (s->n - 1) / (POINTS - 1)];
  s->n = kept;
}

/* The row of one of the members that are looked at; *member counts from the first. */
static bool is_asked_for(const coh_figures *f, const coh_metrics_row *r, const char *name,
                         size_t *member) {
  if (strcmp(r->name, name) != 0 || r->member < f->first) return false;
  *member = r->member - f->first;
  return f->members == 0 || *member < f->members;
}

/* How the members end, by their last rows: also of steps that are not drawn. */
static int count_ends(const coh_figures *f, const coh_metrics *m, const char *name,
                      series *s, coh_error *err) {
  int rc;
  size_t member, *last = NULL; /* 1 + row of each member's last step; 0: it has none */
  COH_TRY(coh_alloc(&last, s->n_member, sizeof *last, err));
  for (size_t i = 0; i < coh_metrics_count(m); i++) {
    coh_metrics_row r = coh_metrics_get(m, i);
    if (!is_asked_for(f, &r, name, &member)) continue;
    if (last[member] == 0 || coh_metrics_get(m, last[member] - 1).step <= r.step)
      last[member] = i + 1;
  }
  for (size_t k = 0; k < s->n_member; k++) {
    if (last[k] == 0) continue;
    coh_metrics_row r = coh_metrics_get(m, last[k] - 1);
    if (!isfinite(r.value))
      s->bad++;
    else
      s->ended += r.step < s->step[s->n - 1];
  }
cleanup:
  free(last);
  return rc;
}

/* Empty where there is no such name. */
static int series_of(const coh_figures *f, const coh_metrics *m, const char *name,
                     series *s, coh_error *err) {
  int rc;
  size_t count = coh_metrics_count(m), unique = 0, member;
  *s = (series){0};
  COH_TRY(coh_alloc(&s->step, count, sizeof *s->step, err));
  for (size_t i = 0; i < count; i++) {
    coh_metrics_row r = coh_metrics_get(m, i);
    if (!is_asked_for(f, &r, name, &member)) continue;
    s->step[s->n++] = r.step;
    if (member >= s->n_member) s->n_member = member + 1;
  }
  if (s->n) qsort(s->step, s->n, sizeof *s->step, compare);
  for (size_t i = 0; i < s->n; i++)
    if (i == 0 || s->step[i] != s->step[i - 1]) s->step[unique++] = s->step[i];
  s->n = unique;
  COH_TRY(count_ends(f, m, name, s, err));
  thin(s);
  size_t cells;
  COH_TRY(coh_product(&cells, err, s->n, s->n_member, sizeof(double)));
  COH_TRY(coh_alloc(&s->value, cells / sizeof(double), sizeof *s->value, err));
  for (size_t i = 0; i < s->n * s->n_member; i++) s->value[i] = NAN;
  for (size_t i = 0; i < count && s->n; i++) {
    coh_metrics_row r = coh_metrics_get(m, i);
    size_t at = place(s, r.step);
    if (is_asked_for(f, &r, name, &member) && s->step[at] == r.step)
      s->value[at * s->n_member + member] = r.value;
  }
cleanup:
  return rc;
}

/* ---- the numbers of a figure ---------------------------------------------------------
 */

/* Mean, median, least and most of the finite values of step i; sorted [n_member]. */
typedef struct spread {
  size_t n;
  double mean, median, least, most;
} spread;

static spread spread_of(const series *s, size_t i, double *sorted) {
  spread p = {0, NAN, NAN, NAN, NAN};
  double sum = 0;
  for (size_t k = 0; k < s->n_member; k++) {
    double v = s->value[i * s->n_member + k];
    if (!isfinite(v)) continue;
    sorted[p.n++] = v;
    sum += v;
  }
  if (p.n == 0) return p;
  coh_sort(sorted, p.n);
  p.mean = sum / (double)p.n;
  p.median = coh_median_of_sorted(sorted, p.n);
  p.least = sorted[0];
  p.most = sorted[p.n - 1];
  return p;
}

static int add_spread(const series *s, const char *name, coh_text *csv, coh_error *err) {
  double *sorted = NULL;
  int rc = coh_alloc(&sorted, s->n_member, sizeof *sorted, err);
  for (size_t i = 0; i < s->n && rc == COH_OK; i++) {
    spread p = spread_of(s, i, sorted);
    coh_text_add(csv, "%s,%llu,", name, (unsigned long long)s->step[i]);
    const double v[] = {p.mean, p.median, p.least, p.most};
    for (size_t q = 0; q < 4; q++) {
      coh_csv_number(csv, v[q]);
      coh_text_add(csv, ",");
    }
    coh_text_add(csv, "%zu\n", p.n);
  }
  free(sorted);
  return rc;
}

static void add_members(const series *s, coh_text *csv) {
  for (size_t k = 0; k < s->n_member; k++) {
    for (size_t i = 0; i < s->n; i++) {
      double v = s->value[i * s->n_member + k];
      if (!isfinite(v)) continue;
      coh_text_add(csv, "%zu,%llu,", k, (unsigned long long)s->step[i]);
      coh_csv_number(csv, v);
      coh_text_add(csv, ",,,,1\n");
    }
    coh_text_add(csv, "\n");
  }
}

static bool has_finite(const series *s) {
  for (size_t i = 0; i < s->n * s->n_member; i++)
    if (isfinite(s->value[i])) return true;
  return false;
}

/* ---- figures ----------------------------------------------------------------------- */

typedef struct wish {
  const char *kind, *title, *what, *unit; /* unit: the label of the axis */
  const char *name[2], *label[2];         /* of metrics.csv, and in the key */
  bool log, members; /* log: where no value is negative; members: each of them, and the
                        median, not mean and range */
} wish;

/* Curve number c of a figure; `index` counts the blocks of the CSV. */
static void add_curve(const wish *w, size_t c, const series *s, size_t index,
                      const char *name, bool *first, coh_text *script) {
  const char *colour = c ? COH_ORANGE : COH_BLUE;
  const char *dash = c ? "dashtype 2 " : "";
  if (s->n_member > 1 && !w->members) {
    coh_text_add(script,
                 "%s'%s.csv' skip 1 index %zu using 2:5:6 with filledcurves linecolor %s "
                 "fillstyle transparent solid 0.25",
                 *first ? "plot " : ", \\\n  ", name, index, colour);
    *first = false;
  }
  coh_text_add(script,
               "%s'%s.csv' skip 1 index %zu using 2:%d with %s linewidth 2 %s"
               "linecolor %s title '%s'",
               *first ? "plot " : ", \\\n  ", name, index, w->members ? 4 : 3,
               s->n > 40 ? "lines"
               : c       ? "linespoints pointtype 4 pointsize 0.4"
                         : "linespoints pointtype 7 pointsize 0.3",
               dash, w->members ? COH_INK : colour, w->label[c]);
  *first = false;
}

static void describe(const wish *w, const series *s, coh_text *out) {
  coh_text_add(out, "%s", w->what);
  if (s->n_member > 1)
    coh_text_add(out,
                 w->members && s->n_member <= LINES
                     ? " of %zu members (thin) and their median (thick)."
                 : w->members ? " of %zu members: median (thick) and range."
                              : " of %zu members: mean (line) and range (band).",
                 s->n_member);
  else
    coh_text_add(out, ".");
  if (s->bad)
    coh_text_add(out,
                 " %zu of them end%s without a number (diverged) and %s left out "
                 "from there on.",
                 s->bad, s->bad == 1 ? "s" : "", s->bad == 1 ? "is" : "are");
  if (s->ended)
    coh_text_add(out, " %zu of them ended earlier and %s left out from there on.",
                 s->ended, s->ended == 1 ? "is" : "are");
}

/* Each member by itself, if they are not too many. */
static void add_thin_lines(const series *s, coh_sketch *k, size_t index) {
  if (s->n_member <= LINES)
    coh_text_add(&k->script,
                 "plot '%s.csv' skip 1 index %zu using 2:3 with lines linewidth 0.7 "
                 "linecolor %s title 'students', \\\n  ",
                 k->name, index, COH_SKY);
  else
    coh_text_add(
        &k->script,
        "plot '%s.csv' skip 1 index 0 using 2:5:6 with filledcurves linecolor %s "
        "fillstyle transparent solid 0.35 title 'range', \\\n  ",
        k->name, COH_SKY);
}

/* Logarithmic, unless there are negative values, as code lengths may be. */
static void value_axis(coh_text *out, const series s[2]) {
  double least = INFINITY, most = 0;
  for (size_t c = 0; c < 2; c++)
    for (size_t i = 0; i < s[c].n * s[c].n_member; i++) {
      double v = s[c].value[i];
      if (isfinite(v) && v < 0) return;
      if (isfinite(v) && v > 0) least = fmin(least, v), most = fmax(most, v);
    }
  coh_gnuplot_log(out, "y", least, most);
}

static int sketch(coh_figures *f, const wish *w, series s[2], coh_error *err) {
  int rc = COH_OK;
  coh_sketch k;
  size_t index = 0;
  bool first = true, lines = w->members && s[0].n_member > 1;
  coh_sketch_begin(&k, w->kind, "", w->title);
  describe(w, s, &k.caption);
  coh_text_add(&k.csv, "series,step,mean,median,least,most,members\n");
  coh_text_add(&k.script, "set xlabel 'step [iterations]'\nset ylabel '%s'\n", w->unit);
  double end = 0;
  for (size_t c = 0; c < 2; c++)
    if (s[c].n) end = fmax(end, (double)s[c].step[s[c].n - 1]);
  coh_gnuplot_tics(&k.script, "x", 0, end, true);
  coh_text_add(&k.script, "set xrange [0:%.10g]\n", end > 0 ? end : 1);
  if (w->log) value_axis(&k.script, s);
  for (size_t c = 0; c < 2 && rc == COH_OK; c++) {
    if (s[c].n == 0) continue;
    if (index) coh_text_add(&k.csv, "\n\n");
    rc = add_spread(s + c, w->label[c], &k.csv, err);
    if (lines) add_thin_lines(s, &k, 1);
    if (lines) first = false;
    if (lines)
      coh_text_add(
          &k.script,
          "'%s.csv' skip 1 index 0 using 2:4 with lines linewidth 2 linecolor %s "
          "title 'median'",
          k.name, COH_INK);
    else
      add_curve(w, c, s + c, index, k.name, &first, &k.script);
    index++;
  }
  if (lines && s[0].n_member <= LINES) {
    coh_text_add(&k.csv, "\n\n");
    add_members(s, &k.csv);
  }
  coh_text_add(&k.script, "\n");
  if (rc == COH_OK) return coh_sketch_draw(f, &k, err);
  coh_sketch_drop(&k);
  return rc;
}

/* One figure, unless it is not wanted or there is nothing to see. */
static int draw(coh_figures *f, const coh_metrics *m, const wish *w, coh_error *err) {
  int rc = COH_OK;
  series s[2] = {{0}, {0}};
  if (!coh_figures_wants(f, w->kind)) return COH_OK;
  for (size_t c = 0; c < 2 && w->name[c]; c++)
    COH_TRY(series_of(f, m, w->name[c], s + c, err));
  if (has_finite(s) || has_finite(s + 1))
    rc = sketch(f, w, s, err);
  else if (s[0].n || s[1].n)
    coh_figures_note(f, "%s: no value of %s is a number, so there is no figure", w->kind,
                     w->name[0]);
cleanup:
  series_free(s);
  series_free(s + 1);
  return rc;
}

static const char *loss_unit(const coh_config *cfg) {
  bool extracts = cfg->experiment.job == COH_JOB_EXTRACT;
  if (cfg->experiment.job == COH_JOB_COMPRESS &&
      !strcmp(cfg->dataset.name, "teacher_student"))
    return cfg->compress.gauss_loss == COH_GAUSS_FALSE ? "loss (mean square error)"
                                                       : "code length [bits a sample]";
  if (cfg->training.loss == COH_MSE || extracts) return "loss (mean square error)";
  return cfg->training.loss == COH_CROSS_ENTROPY || cfg->dataset.name[0] != 'f' ||
                 cfg->dataset.name[1] != 'i'
             ? "loss (cross entropy) [nats]"
             : "loss";
}

static const wish accuracy = {.kind = "accuracy",
                              .title = "Accuracy over the steps",
                              .what = "Accuracy over training and test set",
                              .unit = "accuracy (fraction right)",
                              .name = {"train_accuracy", "test_accuracy"},
                              .label = {"training set", "test set"}};
static const wish validation = {.kind = "accuracy",
                                .title = "Accuracy over the steps",
                                .what = "Accuracy over the validation set",
                                .unit = "accuracy (fraction right)",
                                .name = {"val_accuracy"},
                                .label = {"validation set", ""}};
static const wish l0 = {.kind = "l0",
                        .title = "Weights that are left over the steps",
                        .what = "Number of parameters that are not zero",
                        .unit = "parameters that are left",
                        .name = {"l0_mask"},
                        .label = {"", ""}};
static const wish lr = {.kind = "lr",
                        .title = "Learning rate over the steps",
                        .what = "Learning rate",
                        .unit = "learning rate",
                        .name = {"lr"},
                        .label = {"", ""},
                        .log = true};

int coh_plot_training(coh_figures *f, const char *path, const coh_config *cfg,
                      coh_error *err) {
  int rc;
  coh_metrics *m = NULL;
  const wish loss = {.kind = "loss",
                     .title = "Loss over the steps",
                     .what = "Loss over training and test set",
                     .unit = loss_unit(cfg),
                     .name = {"train_loss", "test_loss"},
                     .label = {"training set", "test set"},
                     .log = true};
  bool compresses = cfg->experiment.job == COH_JOB_COMPRESS;
  COH_TRY(coh_metrics_open(path, &m, err));
  COH_TRY(draw(f, m, &loss, err));
  COH_TRY(draw(f, m, compresses ? &validation : &accuracy, err));
  COH_TRY(draw(f, m, &l0, err));
  COH_TRY(draw(f, m, &lr, err));
cleanup:
  coh_metrics_close(m);
  return rc;
}

int coh_plot_students(coh_figures *f, const char *path, const coh_config *cfg,
                      coh_error *err) {
  int rc;
  coh_metrics *m = NULL;
  const wish losses = {.kind = "losses",
                       .title = "Loss of the students over the steps",
                       .what = "Loss over the query set",
                       .unit = loss_unit(cfg),
                       .name = {"train_loss"},
                       .label = {"student", ""},
                       .log = true,
                       .members = true};
  COH_TRY(coh_metrics_open(path, &m, err));
  COH_TRY(draw(f, m, &losses, err));
  COH_TRY(draw(f, m, &lr, err));
cleanup:
  coh_metrics_close(m);
  return rc;
}

int coh_plot_finetuning(coh_figures *f, const char *path, const coh_config *cfg,
                        coh_error *err) {
  int rc;
  coh_metrics *m = NULL;
  const wish loss = {.kind = "finetuning",
                     .title = "Loss of the recovered network over the steps",
                     .what = "Loss of the recovered network over the query set while it "
                             "is fine-tuned",
                     .unit = loss_unit(cfg),
                     .name = {"train_loss"},
                     .label = {"", ""},
                     .log = true};
  COH_TRY(coh_metrics_open(path, &m, err));
  COH_TRY(draw(f, m, &loss, err));
cleanup:
  coh_metrics_close(m);
  return rc;
}
