/* plot_find.c - what a path given to `cohort plot` or `cohort report` is. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cohort/sweep.h"
#include "plot.h"

static bool has(const char *folder, const char *name) {
  char path[COH_PATH];
  coh_error ignored;
  return coh_format(path, sizeof path, &ignored, "%s/%s", folder, name) == COH_OK &&
         coh_file_exists(path);
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The latest extraction-* in the run's folder that has results; leaves out as it was if
 * there is none. */
static int latest_extraction(const char *run, plot_place *out, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  struct stat st;
  time_t newest = 0;
  DIR *d = opendir(run);
  for (struct dirent *e; d && (e = readdir(d)) && rc == COH_OK;) {
    if (strncmp(e->d_name, "extraction-", 11) != 0) continue;
    rc = coh_format(path, sizeof path, err, "%s/%s/clusters.csv", run, e->d_name);
    if (rc != COH_OK || stat(path, &st) != 0 || st.st_mtime < newest) continue;
    newest = st.st_mtime;
    out->is = PLOT_EXTRACTION;
    rc = coh_format(out->folder, sizeof out->folder, err, "%s/%s", run, e->d_name);
  }
  if (d) closedir(d);
  return rc;
}

static int found_run(const char *folder, plot_place *out, coh_error *err) {
  out->is = PLOT_RUN;
  int rc = coh_format(out->folder, sizeof out->folder, err, "%s", folder);
  if (rc == COH_OK && strncmp(last_part(folder), "extraction-", 11) == 0)
    out->is = PLOT_EXTRACTION;
  else if (rc == COH_OK)
    rc = latest_extraction(folder, out, err);
  return rc;
}

/* Counts <sub>/runs/<label>/seed_<s> with a run.ini; the last one's path in *run. */
static int count_runs(const char *sub, size_t *n, char run[COH_PATH], coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH], seed[COH_PATH];
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs", sub));
  DIR *labels = opendir(path);
  for (struct dirent *l; labels && (l = readdir(labels));) {
    if (l->d_name[0] == '.' ||
        coh_format(seed, sizeof seed, err, "%s/%s", path, l->d_name))
      continue;
    DIR *seeds = opendir(seed);
    for (struct dirent *s; seeds && (s = readdir(seeds));) {
      char one[COH_PATH];
      if (strncmp(s->d_name, "seed_", 5) != 0 ||
          coh_format(one, sizeof one, err, "%s/%s", seed, s->d_name) ||
          !has(one, "run.ini"))
        continue;
      ++*n;
      memcpy(run, one, sizeof one);
    }
    if (seeds) closedir(seeds);
  }
  if (labels) closedir(labels);
cleanup:
  return rc;
}

/* results/<name> of runs that are no sweep: the run, if it is the only one. */
static int found_singles(const char *folder, plot_place *out, coh_error *err) {
  int rc;
  size_t n_sub = 0, runs = 0;
  coh_sub_folder *sub = NULL;
  char path[COH_PATH], run[COH_PATH];
  out->is = PLOT_SINGLES;
  COH_TRY(coh_format(out->folder, sizeof out->folder, err, "%s", folder));
  COH_TRY(coh_sub_folders(folder, &sub, &n_sub, err));
  for (size_t i = 0; i < n_sub; i++) {
    COH_TRY(coh_format(path, sizeof path, err, "%s/%s", folder, sub[i].name));
    COH_TRY(count_runs(path, &runs, run, err));
  }
  if (runs == 1) rc = found_run(run, out, err);
  if (runs == 0 && rc == COH_OK)
    rc = coh_fail(err, COH_EUSAGE,
                  "'%s' holds no run: expected the folder of a run (with run.ini), an "
                  "extraction in it, or results/<name>",
                  folder);
cleanup:
  free(sub);
  return rc;
}

/* A sub-batch stands for all of them. */
static int found_folder(const char *path, plot_place *out, coh_error *err) {
  size_t k, n;
  char folder[COH_PATH];
  size_t len = strlen(path);
  while (len > 1 && path[len - 1] == '/') len--;
  int rc = coh_format(folder, sizeof folder, err, "%.*s", (int)len, path);
  if (rc != COH_OK) return rc;
  if (has(folder, "run.ini")) return found_run(folder, out, err);
  if (coh_sub_batch_name(last_part(folder), &k, &n)) {
    char *slash = strrchr(folder, '/');
    if (slash)
      *slash = '\0';
    else
      memcpy(folder, ".", 2);
  }
  if (!has(folder, "sweep.ini")) return found_singles(folder, out, err);
  out->is = PLOT_SWEEP;
  return coh_format(out->folder, sizeof out->folder, err, "%s", folder);
}

/* ---- one run of a sweep --------------------------------------------------------------
 */

/* Looks for the run in the table of a sub-batch. */
static int find_in_table(const char *sub, size_t run, plot_place *out, bool *found,
                         coh_error *err) {
  int rc;
  char path[COH_PATH];
  coh_table t = {0};
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.csv", sub));
  if (!coh_file_exists(path)) return COH_OK;
  COH_TRY(coh_table_read(path, &t, err));
  size_t number = coh_table_column(&t, "run"), folder = coh_table_column(&t, "folder");
  size_t first = coh_table_column(&t, "member"),
         members = coh_table_column(&t, "members");
  size_t last = number > folder ? number : folder;
  if (first > last) last = first;
  if (members > last) last = members;
  for (size_t i = 0; last < t.n_col && i < t.n_row && !*found; i++) {
    char **row = t.cell + i * t.n_col;
    if (!*row[folder] || strtoull(row[number], NULL, 10) != run) continue;
    COH_TRY(coh_format(path, sizeof path, err, "%s/%s", sub, row[folder]));
    COH_TRY(found_run(path, out, err));
    out->first = strtoull(row[first], NULL, 10);
    out->members = strtoull(row[members], NULL, 10);
    *found = true;
  }
cleanup:
  coh_table_free(&t);
  return rc;
}

int plot_find_run(const plot_wish *w, plot_place *place, char out[COH_PATH],
                  coh_error *err) {
  int rc;
  size_t n = 0;
  bool found = false;
  char path[COH_PATH];
  coh_sub_folder *sub = NULL;
  const plot_place sweep = *place;
  if (place->is != PLOT_SWEEP)
    return coh_fail(err, COH_EUSAGE, "--run %zu: '%s' is no sweep", w->run, w->path);
  COH_TRY(coh_format(out, COH_PATH, err, "%s/plots/run-%zu", sweep.folder, w->run));
  COH_TRY(coh_sub_folders(sweep.folder, &sub, &n, err));
  for (size_t i = 0; i < n && !found; i++) {
    COH_TRY(coh_format(path, sizeof path, err, "%s/%s", sweep.folder, sub[i].name));
    COH_TRY(find_in_table(path, w->run, place, &found, err));
  }
  if (!found)
    COH_TRY(coh_fail(err, COH_EUSAGE,
                     "--run %zu: no sub-batch of '%s' has a result of this run", w->run,
                     sweep.folder));
cleanup:
  free(sub);
  return rc;
}

int plot_find(const char *path, plot_place *out, coh_error *err) {
  int rc;
  coh_config cfg;
  char folder[COH_PATH];
  *out = (plot_place){0};
  if (is_folder(path)) return found_folder(path, out, err);
  if (!coh_file_exists(path))
    return coh_fail(err, COH_EUSAGE,
                    "'%s' is not there: expected the folder of a run, results/<name>, or "
                    "a configuration that was run",
                    path);
  COH_TRY(coh_config_load(&cfg, path, 0, NULL, err));
  COH_TRY(coh_format(folder, sizeof folder, err, "%s/%s", cfg.experiment.results,
                     cfg.experiment.name));
  if (!is_folder(folder))
    COH_TRY(
        coh_fail(err, COH_EUSAGE, "%s: was not run yet: there is no '%s'", path, folder));
  COH_TRY(found_folder(folder, out, err));
cleanup:
  return rc;
}
