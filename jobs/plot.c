/* plot.c - `cohort plot` and `cohort report`, and the report at the end of a job. What is
 * drawn of a run stands in plot_run.c, of a sweep in plot_sweep.c. */
#include "plot.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char plot_usage[] =
    "usage: cohort plot RUN|SWEEP [kind ...] [--format svg,png,pdf] [--out FOLDER]\n"
    "         [--x NAME] [--y NAME] [--z NAME] [--run NUMBER]\n"
    "RUN: the folder of a run, of an extraction in it, results/<name>, or its INI file\n"
    "SWEEP: results/<name> of a sweep, or its INI file\n"
    "NAME: a column of runs.csv, with :log or :linear for its scale, :most or :least "
    "for\n"
    "  what is better, as in --x training.lr:log --y test_accuracy:most\n"
    "NUMBER: figures of this run of the sweep alone\n"
    "figures, data and gnuplot scripts go to plots/ in the folder of the run; kinds:\n";
static const char report_usage[] =
    "usage: cohort report RUN|SWEEP [--format svg,png,pdf] [--out FOLDER]\n"
    "         [--x NAME] [--y NAME] [--z NAME] [--run NUMBER]\n"
    "all figures and one HTML page of them, report.html in the folder of the run; see\n"
    "cohort plot --help";

/* ---- arguments --------------------------------------------------------------------- */

static int read_formats(const char *text, unsigned *out, coh_error *err) {
  static const char *const name[] = {"svg", "png", "pdf"};
  *out = 0;
  for (const char *at = text; *at;) {
    size_t n = strcspn(at, ","), i = 0;
    while (i < 3 && (strlen(name[i]) != n || strncmp(at, name[i], n) != 0)) i++;
    if (i == 3)
      return coh_fail(err, COH_EUSAGE,
                      "--format %s: expected svg, png, pdf, or some of them "
                      "with commas",
                      text);
    *out |= 1U << i;
    at += n + (at[n] == ',');
  }
  *out |= COH_PLOT_SVG; /* the page needs it */
  return COH_OK;
}

/* "NAME:log:most"; the text is cut at the colons. */
static int read_axis(const char *option, char *text, coh_plot_axis *out, coh_error *err) {
  *out = (coh_plot_axis){.name = text};
  for (char *at = strchr(text, ':'); at;) {
    *at++ = '\0';
    char *next = strchr(at, ':');
    size_t n = next ? (size_t)(next - at) : strlen(at);
    if (n == 3 && strncmp(at, "log", n) == 0)
      out->scale = COH_SCALE_LOG;
    else if (n == 6 && strncmp(at, "linear", n) == 0)
      out->scale = COH_SCALE_LINEAR;
    else if (n == 4 && strncmp(at, "most", n) == 0)
      out->best = COH_BEST_MOST;
    else if (n == 5 && strncmp(at, "least", n) == 0)
      out->best = COH_BEST_LEAST;
    else
      return coh_fail(
          err, COH_EUSAGE,
          "%s %s:%.*s: expected :log, :linear, :most or :least behind the name", option,
          text, (int)n, at);
    at = next;
  }
  return COH_OK;
}

static int read_run(const char *text, plot_wish *w, coh_error *err) {
  char *end;
  w->one = true;
  w->run = strtoull(text, &end, 10);
  if (*text >= '0' && *text <= '9' && !*end) return COH_OK;
  return coh_fail(err, COH_EUSAGE, "--run %s: expected the number of a run of the sweep",
                  text);
}

static int read_option(plot_wish *w, const char *option, char *value, coh_error *err) {
  if (!value) return coh_fail(err, COH_EUSAGE, "%s without a value", option);
  if (strcmp(option, "--format") == 0) return read_formats(value, &w->formats, err);
  if (strcmp(option, "--x") == 0) return read_axis(option, value, &w->x, err);
  if (strcmp(option, "--y") == 0) return read_axis(option, value, &w->y, err);
  if (strcmp(option, "--z") == 0) return read_axis(option, value, &w->z, err);
  if (strcmp(option, "--run") == 0) return read_run(value, w, err);
  if (strcmp(option, "--out") != 0)
    return coh_fail(
        err, COH_EUSAGE,
        "no option \"%.60s\": expected --format, --out, --run, --x, --y or --z", option);
  w->out = value;
  return COH_OK;
}

static int refuse_argument(const plot_wish *w, const char *argument, coh_error *err) {
  coh_text kinds = {0};
  coh_plot_kind_names(&kinds);
  int rc = w->page ? coh_fail(err, COH_EUSAGE,
                              "report: a second argument \"%.60s\"; it draws all kinds, "
                              "`cohort plot` some",
                              argument)
                   : coh_fail(err, COH_EUSAGE,
                              "plot: no kind of figure \"%.60s\": expected some of %s",
                              argument, kinds.data ? kinds.data : "");
  coh_text_free(&kinds);
  return rc;
}

static int read_arguments(plot_wish *w, int argc, char **argv, coh_error *err) {
  int rc = coh_alloc(&w->kind, (size_t)argc, sizeof *w->kind, err);
  for (int i = 2; i < argc && rc == COH_OK; i++) {
    if (argv[i][0] == '-') {
      rc = read_option(w, argv[i], i + 1 < argc ? argv[i + 1] : NULL, err);
      i++;
    } else if (!w->path) {
      w->path = argv[i];
    } else if (!w->page && coh_plot_is_kind(argv[i])) {
      w->kind[w->n_kind++] = argv[i];
    } else {
      rc = refuse_argument(w, argv[i], err);
    }
  }
  if (rc == COH_OK && !w->path)
    rc = coh_fail(err, COH_EUSAGE, "of which run or sweep? --help tells more");
  return rc;
}

/* ---- shared by run and sweep ---------------------------------------------------------
 */

int plot_folders(const plot_wish *w, const char *folder, char figures[COH_PATH],
                 char page[COH_PATH], const char **files, coh_error *err) {
  *files = w->out ? "." : "plots";
  int rc = w->out ? coh_format(figures, COH_PATH, err, "%s", w->out)
                  : coh_format(figures, COH_PATH, err, "%s/plots", folder);
  return rc ? rc
            : coh_format(page, COH_PATH, err, "%s/report.html", w->out ? w->out : folder);
}

int plot_tell(const plot_wish *w, const coh_figures *f, const char *figures,
              const char *page, coh_error *err) {
  size_t n = coh_figures_count(f), drawn = 0;
  for (size_t i = 0; i < n; i++) {
    const coh_figure *g = coh_figures_get(f, i);
    drawn += g->drawn;
    if (!w->page)
      printf("%s/%s.%s  %s\n", figures, g->name, g->drawn ? "svg" : "csv", g->title);
  }
  if (w->page && !w->quiet) printf("report: %s\n", page);
  if (fflush(stdout) != 0) return coh_fail_errno(err, "cannot write to standard output");
  if (w->page) return COH_OK;
  if (n == 0)
    return coh_fail(err, COH_EDATA,
                    w->n_kind
                        ? "%s: there is nothing to draw of this kind: a training, an "
                          "extraction and a sweep have each their own, or it is too "
                          "early; `cohort plot` without a kind draws all there are"
                        : "%s: there is nothing to draw yet",
                    w->path);
  if (drawn < n)
    return coh_fail(err, COH_EDATA, "%zu of %zu figures were not drawn", n - drawn, n);
  return COH_OK;
}

static int plot(const plot_wish *w, coh_error *err) {
  plot_place place;
  plot_wish own = *w;
  char out[COH_PATH];
  int rc = plot_find(w->path, &place, err);
  if (rc == COH_OK && w->one) rc = plot_find_run(w, &place, out, err);
  if (rc != COH_OK) return rc;
  if (w->one && !w->out) own.out = out;
  w = &own;
  return place.is == PLOT_RUN || place.is == PLOT_EXTRACTION
             ? plot_of_run(w, &place, err)
             : plot_of_sweep(w, &place, err);
}

void plot_at_end(const job *j, const char *folder) {
  coh_error err;
  plot_wish w = {.path = folder, .page = true, .quiet = j->cfg.experiment.quiet};
  if (plot(&w, &err) != COH_OK)
    coh_say(&j->sink, COH_WARN, "no report (the results are complete): %s", err.text);
}

void plot_after_merge(const char *folder) {
  coh_error err;
  const plot_wish w = {.path = folder, .page = true};
  if (plot(&w, &err) != COH_OK)
    fprintf(stderr, "warning: no report (the table is complete): %s\n", err.text);
}

/* ---- the commands --------------------------------------------------------------------
 */

static int command(int argc, char **argv, bool page) {
  coh_error err = {0};
  plot_wish w = {.page = page};
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) {
    fprintf(stderr, "cohort: MPI does not start\n");
    return 1;
  }
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  int rc = rank == 0 ? read_arguments(&w, argc, argv, &err) : COH_OK;
  if (rc == COH_OK && rank == 0) rc = plot(&w, &err);
  if (rc != COH_OK) fprintf(stderr, "cohort: %s\n", err.text);
  free(w.kind);
  MPI_Finalize();
  return coh_exit_status(rc);
}

static bool wants_help(int argc, char **argv) {
  for (int i = 2; i < argc; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

int command_plot(int argc, char **argv) {
  if (!wants_help(argc, argv)) return command(argc, argv, false);
  coh_text kinds = {0};
  coh_plot_kinds(&kinds);
  printf("%s%s", plot_usage, kinds.data ? kinds.data : "");
  coh_text_free(&kinds);
  return fflush(stdout) != 0;
}

int command_report(int argc, char **argv) {
  if (!wants_help(argc, argv)) return command(argc, argv, true);
  puts(report_usage);
  return fflush(stdout) != 0;
}
