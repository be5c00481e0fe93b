/* plot_run.c - figures and page of one run: a training, a pack of a sweep, or an
 * extraction. What cannot be drawn yet, because the run goes on, is left out. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "plot.h"

/* Cosine distance below which a teacher's neuron counts as found, as in the table that
 * the job prints. */
static const double NEAR = 1e-3;

typedef struct shown {
  const plot_place *place;
  const plot_wish *wish;
  coh_config cfg;
  char run[COH_PATH];   /* folder of the training; place->folder may lie in it */
  char name[COH_PATH];  /* of it, for people: "<label>-<hash10>, seed 0" */
  char *ini, *manifest; /* texts; NULL: not there */
  char status[32];      /* of the manifest; "" if there is none */
  coh_table rows;       /* runs.csv above it */
  size_t n_row, row;    /* how many of its rows are of this folder, and the last one */
  coh_text about, summary;
} shown;

static void shown_free(shown *s) {
  free(s->ini);
  free(s->manifest);
  coh_table_free(&s->rows);
  coh_text_free(&s->about);
  coh_text_free(&s->summary);
}

/* ---- what is there -------------------------------------------------------------------
 */

static int read_if_there(const char *folder, const char *name, char **out,
                         coh_error *err) {
  size_t len;
  char path[COH_PATH];
  int rc = coh_format(path, sizeof path, err, "%s/%s", folder, name);
  return rc || !coh_file_exists(path) ? rc : coh_file_read(path, out, &len, err);
}

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The training's folder, and what people call it. */
static int name_run(shown *s, coh_error *err) {
  int rc;
  char label[COH_PATH];
  COH_TRY(coh_format(s->run, sizeof s->run, err, "%s", s->place->folder));
  if (s->place->is == PLOT_EXTRACTION) {
    char *slash = strrchr(s->run, '/');
    if (slash)
      *slash = '\0';
    else
      memcpy(s->run, "..", 3);
  }
  char *real = realpath(s->run, NULL);
  rc = coh_format(label, sizeof label, err, "%s", real ? real : s->run);
  free(real);
  if (rc != COH_OK) goto cleanup;
  const char *seed = last_part(label);
  if (strncmp(seed, "seed_", 5) != 0) {
    rc = coh_format(s->name, sizeof s->name, err, "%s", seed);
  } else {
    label[seed > label ? seed - label - 1 : 0] = '\0';
    rc = coh_format(s->name, sizeof s->name, err, "%s, seed %s", last_part(label),
                    seed + 5);
  }
cleanup:
  return rc;
}

static void read_status(shown *s) {
  json_error_t ignored;
  json_t *o = s->manifest ? json_loads(s->manifest, 0, &ignored) : NULL;
  const char *status = json_string_value(json_object_get(o, "status"));
  const json_t *stages = json_object_get(o, "stages");
  const json_t *own = json_object_get(stages, last_part(s->place->folder));
  const char *of_stage = json_string_value(json_object_get(own, "status"));
  snprintf(s->status, sizeof s->status, "%s", of_stage ? of_stage : status ? status : "");
  json_decref(o);
}

static bool is_run(const coh_table *t, size_t row, size_t run) {
  size_t c = coh_table_column(t, "run");
  return c < t->n_col && strtoull(t->cell[row * t->n_col + c], NULL, 10) == run;
}

/* Rows of `folder`, which ends like the place does: nearest runs.csv above it. */
static int find_rows(shown *s, coh_error *err) {
  int rc = COH_OK;
  char at[COH_PATH], path[COH_PATH];
  char *real = realpath(s->place->folder, NULL);
  if (!real) return COH_OK;
  COH_TRY(coh_format(at, sizeof at, err, "%s", real));
  for (char *slash; (slash = strrchr(at, '/')) && slash > at;) {
    *slash = '\0';
    COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", at));
    if (!coh_file_exists(path)) continue;
    COH_TRY(coh_table_read(path, &s->rows, err));
    size_t folder = coh_table_column(&s->rows, "folder");
    for (size_t i = 0; folder < s->rows.n_col && i < s->rows.n_row; i++) {
      if (strcmp(s->rows.cell[i * s->rows.n_col + folder], real + strlen(at) + 1) != 0)
        continue;
      if (s->wish->one && !is_run(&s->rows, i, s->wish->run)) continue;
      s->row = i;
      s->n_row++;
    }
    break;
  }
cleanup:
  free(real);
  return rc;
}

static void describe(shown *s) {
  const coh_config *c = &s->cfg;
  bool extracts = c->experiment.job == COH_JOB_EXTRACT;
  coh_text_add(&s->about, "%s: %s, %s, on %s",
               extracts                                ? "Extraction"
               : c->experiment.job == COH_JOB_COMPRESS ? "Compression"
                                                       : "Training",
               c->model.name, coh_act_name((coh_act)c->model.activation),
               extracts ? c->query.datagen : c->dataset.name);
  if (s->place->is == PLOT_EXTRACTION)
    coh_text_add(&s->about, ", %s, gamma %g, beta %g",
                 c->extraction.method == COH_ROBUST ? "robust" : "reference",
                 c->extraction.gamma, c->extraction.beta);
  if (s->wish->one) coh_text_add(&s->about, "; run %zu of the sweep", s->wish->run);
  const char *hash = strrchr(s->name, '-');
  coh_text_add(&s->about, "; run %s", hash ? hash + 1 : s->name);
  if (s->place->is == PLOT_EXTRACTION)
    coh_text_add(&s->about, ", clustering %s",
                 last_part(s->place->folder) + strlen("extraction-"));
  coh_text_add(&s->about, ".");
}

static int shown_open(shown *s, const plot_wish *wish, const plot_place *place,
                      coh_error *err) {
  int rc;
  char path[COH_PATH];
  *s = (shown){.place = place, .wish = wish};
  COH_TRY(coh_format(path, sizeof path, err, "%s/run.ini", place->folder));
  COH_TRY(coh_config_load(&s->cfg, path, 0, NULL, err));
  COH_TRY(name_run(s, err));
  COH_TRY(read_if_there(place->folder, "run.ini", &s->ini, err));
  COH_TRY(read_if_there(s->run, "manifest.json", &s->manifest, err));
  read_status(s);
  COH_TRY(find_rows(s, err));
  describe(s);
  COH_TRY(coh_text_check(&s->about, err));
cleanup:
  return rc;
}

/* ---- the sentence on top -------------------------------------------------------------
 */

static double measure(const shown *s, const char *name) {
  size_t c = coh_table_column(&s->rows, name);
  if (s->n_row == 0 || c == s->rows.n_col) return NAN;
  const char *cell = s->rows.cell[s->row * s->rows.n_col + c];
  return *cell ? strtod(cell, NULL) : NAN;
}

/* "4 neurons found, the teacher has 4" of each layer. */
static void add_layers(shown *s) {
  char found[32], has[32], excess[32], far[32];
  for (int l = 1; l <= COH_MAX_LAYERS; l++) {
    snprintf(found, sizeof found, "layer%d_found_size", l);
    snprintf(has, sizeof has, "layer%d_true_size", l);
    snprintf(excess, sizeof excess, "layer%d_excess", l);
    snprintf(far, sizeof far, "layer%d_w_max", l);
    if (isnan(measure(s, found))) return;
    if (l > 1) coh_text_add(&s->summary, "; ");
    if (!isnan(measure(s, "layer2_found_size")))
      coh_text_add(&s->summary, "layer %d: ", l);
    coh_text_add(&s->summary, "%g neurons found", measure(s, found));
    if (isnan(measure(s, has))) continue;
    coh_text_add(&s->summary, ", the teacher has %g", measure(s, has));
    if (measure(s, far) < NEAR)
      coh_text_add(&s->summary,
                   " and all of them are matched (cosine distance of the "
                   "input weights at most %.1e)",
                   measure(s, far));
    else if (!isnan(measure(s, far)))
      coh_text_add(&s->summary,
                   ", not all of them matched (the farthest by a cosine "
                   "distance of %.2g)",
                   measure(s, far));
    coh_text_add(&s->summary, ", %g in excess", measure(s, excess));
  }
}

static void summarise_extraction(shown *s) {
  add_layers(s);
  coh_text_add(&s->summary,
               ". Loss over the query set: %.2e of the recovered network, "
               "%.2e of the best student, %.2e of the median one",
               measure(s, "loss_recovered"), measure(s, "student_loss_best"),
               measure(s, "student_loss_median"));
  if (!isnan(measure(s, "parameter_rmse")))
    coh_text_add(&s->summary, "; parameters to an RMSE of %.1e",
                 measure(s, "parameter_rmse"));
  coh_text_add(&s->summary, ".");
}

static void summarise_training(shown *s) {
  bool most;
  size_t told = 0;
  const char *main_one = coh_main_measure(&s->rows, &most);
  if (main_one && !isnan(measure(s, main_one)))
    coh_text_add(&s->summary, "%s %.4g", main_one, measure(s, main_one)), told++;
  static const char *const more[] = {
      "test_loss",           "train_accuracy",     "train_loss", "student_loss_best",
      "student_loss_median", "final_loss_testset", "l0_norm",    "compression_rate"};
  for (size_t i = 0; i < sizeof more / sizeof *more; i++)
    if (!isnan(measure(s, more[i])) && (!main_one || strcmp(main_one, more[i]) != 0))
      coh_text_add(&s->summary, "%s%s %.4g", told++ ? ", " : "", more[i],
                   measure(s, more[i]));
  coh_text_add(&s->summary, ".");
}

static void summarise(shown *s) {
  if (*s->status && strcmp(s->status, "done") != 0)
    coh_text_add(&s->summary, "This run is %s: what follows is what it has left so far. ",
                 strcmp(s->status, "running") == 0 ? "still running, or was killed"
                                                   : s->status);
  if (s->n_row > 1)
    coh_text_add(&s->summary, "%zu runs trained as one.", s->n_row);
  else if (!isnan(measure(s, "loss_recovered")))
    summarise_extraction(s);
  else if (s->n_row == 1 && coh_table_column(&s->rows, "status") < s->rows.n_col &&
           strcmp(s->status, "done") == 0)
    summarise_training(s);
  else
    coh_text_add(&s->summary, "There are no results yet.");
}

/* ---- figures -------------------------------------------------------------------------
 */

static int path_of(const char *folder, const char *name, char out[COH_PATH], bool *there,
                   coh_error *err) {
  int rc = coh_format(out, COH_PATH, err, "%s/%s", folder, name);
  *there = rc == COH_OK && coh_file_exists(out);
  return rc;
}

/* The teacher's model: drawn for this run, of a training of its own, or given. */
static int find_teacher(const shown *s, char out[COH_PATH], bool *there, coh_error *err) {
  int rc;
  char given[COH_PATH];
  const coh_config *c = &s->cfg;
  COH_TRY(path_of(s->run, "teacher.h5", out, there, err));
  if (*there) return COH_OK;
  if (c->teacher.config[0]) {
    COH_TRY(coh_config_path(c, c->teacher.config, given, sizeof given, err));
    char *slash = strrchr(given, '/');
    if (slash) *slash = '\0';
    return path_of(slash ? given : ".", "model.h5", out, there, err);
  }
  if (!c->teacher.weights[0]) return COH_OK;
  struct stat st;
  COH_TRY(coh_config_path(c, c->teacher.weights, given, sizeof given, err));
  if (stat(given, &st) == 0 && S_ISDIR(st.st_mode))
    return path_of(given, "model.h5", out, there, err);
  COH_TRY(coh_format(out, COH_PATH, err, "%s", given));
  *there = coh_file_exists(out);
cleanup:
  return rc;
}

static int draw_extraction(const shown *s, coh_figures *f, coh_error *err) {
  int rc;
  bool there, known;
  char path[COH_PATH], teacher[COH_PATH];
  COH_TRY(path_of(s->run, "metrics.csv", path, &there, err));
  if (there) COH_TRY(coh_plot_students(f, path, &s->cfg, err));
  if (s->place->is != PLOT_EXTRACTION) return COH_OK;
  COH_TRY(coh_plot_clusters(f, s->place->folder, &s->cfg, err));
  COH_TRY(find_teacher(s, teacher, &known, err));
  COH_TRY(path_of(s->place->folder, "neurons.csv", path, &there, err));
  COH_TRY(coh_plot_recovered(f, s->place->folder, known && there ? teacher : NULL,
                             (size_t)s->cfg.teacher.member, err));
  COH_TRY(path_of(s->place->folder, "recovered.metrics.csv", path, &there, err));
  if (there) COH_TRY(coh_plot_finetuning(f, path, &s->cfg, err));
cleanup:
  return rc;
}

static int draw_training(const shown *s, coh_figures *f, coh_error *err) {
  int rc;
  bool there;
  char path[COH_PATH];
  COH_TRY(path_of(s->run, "metrics.csv", path, &there, err));
  if (there) COH_TRY(coh_plot_training(f, path, &s->cfg, err));
  COH_TRY(path_of(s->run, "model.h5", path, &there, err));
  if (there) COH_TRY(coh_plot_layers(f, path, err));
cleanup:
  return rc;
}

/* ---- the page ------------------------------------------------------------------------
 */

/* The last row's measures one below the other; the cells are the rows'. */
static int list_measures(const shown *s, const bool *shown_column, coh_table *out,
                         coh_error *err) {
  int rc;
  static char measure_text[] = "measure", value_text[] = "value";
  static char *head[] = {measure_text, value_text};
  *out = (coh_table){.n_col = 2, .col = head};
  COH_TRY(coh_alloc(&out->cell, 2 * s->rows.n_col, sizeof *out->cell, err));
  for (size_t c = 0; c < s->rows.n_col; c++) {
    char *cell = s->rows.cell[s->row * s->rows.n_col + c];
    bool is_parameter = strchr(s->rows.col[c], '.') != NULL;
    if (!shown_column[c] || (is_parameter && !s->wish->one) || !*cell) continue;
    out->cell[2 * out->n_row] = s->rows.col[c];
    out->cell[2 * out->n_row++ + 1] = cell;
  }
cleanup:
  return rc;
}

static int read_tables(const shown *s, coh_table tables[2], coh_page_table page[3],
                       size_t *n, coh_error *err) {
  static const char *const name[] = {"clusters.csv", "neurons.csv"};
  static const char *const title[] = {"Clusters", "Neurons beside the teacher's"};
  int rc = COH_OK;
  bool there;
  char path[COH_PATH];
  for (size_t i = 0; i < 2 && s->place->is == PLOT_EXTRACTION; i++) {
    COH_TRY(path_of(s->place->folder, name[i], path, &there, err));
    if (!there) continue;
    COH_TRY(coh_table_read(path, tables + i, err));
    page[(*n)++] = (coh_page_table){title[i], tables + i, NULL};
  }
cleanup:
  return rc;
}

static int write_page(const shown *s, const coh_figures *f, const char *path,
                      const char *files, coh_error *err) {
  int rc;
  size_t n = 0;
  bool *columns = NULL;
  char title[COH_PATH];
  coh_table measures = {0}, tables[2] = {{0}, {0}};
  coh_page_table page[3];
  COH_TRY(coh_alloc(&columns, s->rows.n_col, sizeof *columns, err));
  coh_runs_columns(&s->rows, columns);
  if (s->n_row > 0) {
    COH_TRY(list_measures(s, columns, &measures, err));
    page[n++] = (coh_page_table){"Measures", &measures, NULL};
  }
  COH_TRY(read_tables(s, tables, page, &n, err));
  COH_TRY(
      coh_format(title, sizeof title, err, "%s: %s", s->cfg.experiment.name, s->name));
  coh_page p = {.title = title,
                .summary = s->summary.data,
                .files = files,
                .n_table = n,
                .table = page,
                .ini = s->ini,
                .manifest = s->manifest};
  COH_TRY(coh_page_write(path, &p, f, err));
cleanup:
  free(columns);
  free(measures.cell);
  coh_table_free(tables);
  coh_table_free(tables + 1);
  return rc;
}

static void remark(void *ctx, coh_level level, const char *text) {
  (void)ctx, (void)level;
  fprintf(stderr, "warning: %s\n", text);
}

int plot_of_run(const plot_wish *w, const plot_place *place, coh_error *err) {
  int rc;
  shown s;
  const coh_sink sink = {remark, NULL};
  const char *files;
  char figures[COH_PATH], page[COH_PATH];
  coh_figures *f = NULL;
  COH_TRY(shown_open(&s, w, place, err));
  COH_TRY(plot_folders(w, place->folder, figures, page, &files, err));
  const coh_figures_spec spec = {.folder = figures,
                                 .formats = w->formats,
                                 .n_kind = w->n_kind,
                                 .kind = w->kind,
                                 .about = s.about.data,
                                 .sink = &sink,
                                 .first = place->first,
                                 .members = place->members};
  COH_TRY(coh_figures_open(&spec, &f, err));
  COH_TRY(s.cfg.experiment.job == COH_JOB_EXTRACT ? draw_extraction(&s, f, err)
                                                  : draw_training(&s, f, err));
  summarise(&s);
  COH_TRY(coh_text_check(&s.summary, err));
  if (w->page) COH_TRY(write_page(&s, f, page, files, err));
  COH_TRY(plot_tell(w, f, figures, page, err));
cleanup:
  coh_figures_close(f);
  shown_free(&s);
  return rc;
}
