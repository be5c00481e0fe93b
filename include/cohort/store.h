/* store.h - what runs leave on disk, beside the arrays in archives. Uses base, config,
 * comm.
 *
 *   results/<name>/<k>-<n>/            the runs of sub-batch k of n
 *     runs.csv                         one row a run: its parameters, then its measures
 *     lock                             held while runs.csv is rewritten
 *     runs/<label>-<hash10>/seed_<s>/  one run
 *       run.ini                        all its parameters, resolved
 *       manifest.json                  which program, when, where, with what outcome
 *       metrics.csv                    step,name,member,value
 *       lock                           held while a process works on the run
 *
 * Every file is replaced as a whole or not at all. Only rank 0 works here, if it is not
 * said otherwise; the caller lets the ranks agree.
 */
#ifndef COHORT_STORE_H
#define COHORT_STORE_H

#include "cohort/comm.h"

/* ---- folders --------------------------------------------------------------------- */

/* Makes <results>/<name>/<k>-<n> and writes its path to out. */
int coh_sweep_folder(const char *results, const char *name, size_t k, size_t n, char *out,
                     size_t size, coh_error *err);

enum { COH_LABEL = 81 };
/* A text made fit for a file name: of [A-Za-z0-9.-] and single '_' for all else, none of
 * "._-" at the start, at most 80 bytes, "run" if nothing is left. Returns out. */
char *coh_label(const char *text, char out[COH_LABEL]);

/* A run's folder, made, checked and locked. */
typedef struct coh_run {
  char folder[COH_PATH];
  int lock; /* private */
} coh_run;

/* Patience with another process that works on the run: wait for it until give_up(ctx)
 * (may be NULL: for ever). */
typedef struct coh_run_wait {
  bool (*give_up)(void *ctx);
  void *ctx;
} coh_run_wait;

/* Makes or finds <sweep>/runs/<label>-<hash10>/seed_<experiment.seed>, locks it, removes
 * what killed writers left (.*.tmp), and writes run.ini. `hash` names everything that
 * changes the training. COH_EUSAGE
 *   - if another process works on the run and `wait` is NULL (its host and number are
 * told; the kernel drops the lock of a process that ends, however it ends);
 *   - if the run.ini found there is of another run: another hash behind the same ten
 * digits, or a parameter that changes the training (scope RUN or SEED) differs. The other
 * parameters may have changed; run.ini then gets the new ones. A file system without
 * locks is remarked upon and not an error. End with coh_run_close. */
int coh_run_open(const char *sweep, const char *label, const coh_hash *hash,
                 const coh_config *, const coh_run_wait *, const coh_sink *, coh_run *out,
                 coh_error *err);
/* Unlocks. Safe after a failed open; NULL accepted. */
void coh_run_close(coh_run *);

/* ---- metrics: what is measured while training ------------------------------------ */

/* Rows in memory, the file rewritten by coh_metrics_write. In Python:
 *   pd.read_csv("metrics.csv").pivot_table("value", "step", ["name", "member"]) */
typedef struct coh_metrics coh_metrics;

typedef struct coh_metrics_row {
  uint64_t step;
  const char *name; /* borrowed from the metrics */
  uint64_t member;
  double value;
} coh_metrics_row;

/* Reads the file if there is one: COH_EDATA file:line where it is not a metrics.csv. */
int coh_metrics_open(const char *path, coh_metrics **out, coh_error *err);
void coh_metrics_close(coh_metrics *); /* frees, writes nothing; NULL accepted */
/* Adds a row, or overwrites the one of the same step, name and member in its place. */
int coh_metrics_add(coh_metrics *, uint64_t step, const char *name, uint64_t member,
                    double value, coh_error *err);
/* Drops all rows later than `step`: before going on from a checkpoint of that step. */
void coh_metrics_truncate(coh_metrics *, uint64_t step);
int coh_metrics_write(coh_metrics *, coh_error *err);
size_t coh_metrics_count(const coh_metrics *);
coh_metrics_row coh_metrics_get(const coh_metrics *,
                                size_t i); /* i < count, in order of adding */

/* ---- measures: the results of a run ---------------------------------------------- */

typedef struct coh_measure {
  char *name;
  double value;
} coh_measure;

/* A list in order of adding; start with {0}. Adding a name again overwrites its value. */
typedef struct coh_measures {
  size_t n;
  coh_measure *item;
} coh_measures;
int coh_measures_add(coh_measures *, const char *name, double value, coh_error *err);
void coh_measures_free(coh_measures *);

/* ---- runs.csv -------------------------------------------------------------------- */

typedef struct coh_row {
  const coh_config *cfg;
  coh_hash run, clustering;     /* clustering.hex "" where nothing is clustered */
  const char *inputs;           /* lines: what the parameters only point to; NULL: none */
  const char *folder;           /* shown relative to the sweep where it lies in it */
  const char *status;           /* "done", "failed", "stopped" */
  const coh_measures *measures; /* NULL: none */
  double seconds;               /* NaN: not known */
  const char *hosts;
} coh_row;

/* Puts n rows into <sweep>/runs.csv. A row of the same hash, seed and clustering is
 * replaced (one that is "done" only by one that is "done"), others stay. Columns: the
 * parameters that change a number and that the job reads as section.key, then hash,
 * clustering, inputs (its lines joined by "; "), folder, status, measures, time_s, hosts;
 * columns that an existing file does not have are appended to it, a value that a row does
 * not have is empty. Safe against other processes that put rows at the same time. */
int coh_runs_put(const char *sweep, size_t n, const coh_row *rows, coh_error *err);
/* COH_EDATA if there is a runs.csv into which coh_runs_put could put no row, because it
 * is damaged: to be known before the work, not after it. */
int coh_runs_check(const char *sweep, coh_error *err);

/* ---- tables: any CSV file as RFC 4180 has it
 * ------------------------------------------- */

typedef struct coh_table {
  size_t n_col, n_row;
  char **col;  /* [n_col] names */
  char **cell; /* [n_row, n_col] */
  char *text;  /* private: what col and cell point into */
} coh_table;

/* The first line names the columns. COH_EDATA file:line for a row of another length, an
 * open quote, a column named twice, a zero byte. */
int coh_table_read(const char *path, coh_table *out, coh_error *err);
size_t coh_table_column(const coh_table *, const char *name); /* n_col: there is none */
void coh_table_free(coh_table *);
/* Appends one cell to a CSV text, in quotes where it needs them. */
void coh_csv_cell(coh_text *out, const char *cell);

/* ---- manifest.json --------------------------------------------------------------- */

typedef struct coh_manifest coh_manifest;

/* Collects the hosts of all ranks, and from a manifest already at `path` with the same
 * hash the first start and how often it was resumed. Collective; every rank gets an
 * object. */
int coh_manifest_create(const char *path, MPI_Comm comm, const char *job,
                        const coh_hash *hash, const char *command, coh_manifest **out,
                        coh_error *err);
void coh_manifest_destroy(coh_manifest *);
/* Status "running" at the start; any other one also sets the time of the end. Rank 0
 * writes; on the other ranks this does nothing. */
int coh_manifest_write(coh_manifest *, const char *status, coh_error *err);
/* True if the manifest at `path` can be read, is of this hash and has the status "done".
 */
bool coh_manifest_is_done(const char *path, const coh_hash *hash);
/* "n1*4 n2*4": hosts in the order of the ranks, with the number of ranks; for runs.csv.
 */
const char *coh_manifest_hosts(const coh_manifest *);

#endif
