/* store.h - what runs leave on disk, beside the arrays in archives. Uses base, config,
 * comm.
 *
 *   results/<name>/<k>-<n>/            the runs of sub-batch k of n
 *     runs.csv                         one row a run: its parameters, then its measures
 *     lock                             held while runs.csv is rewritten
 *     attempts/<a>.json                of a sweep: one a start, see below
 *     work/<label>-<hash10>.a<a>/      a pack that attempt a works on
 *     packs/<label>-<hash10>/          a finished pack, never changed
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

/* As coh_file_write, for a file that several processes may write at one time: each writes
 * a temporary file of its own, and the last one's stays. */
int coh_shared_write(const char *path, const char *text, size_t len, coh_error *err);

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
  /* of a run of a sweep only; all zero for others */
  const char *run_id;     /* NULL: none, and no columns for what follows */
  size_t index;           /* its place in the sweep */
  size_t member, members; /* of the pack's model.h5 it owns [member, member + members) */
  const char *error;      /* why it failed; NULL: it did not */
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

/* Fills row i; what it points to lives until the next call. */
typedef int (*coh_row_at)(void *ctx, size_t i, coh_row *out, coh_error *err);
/* Writes the n rows of a pack to the CSV file `path`, whole or not at all, in time linear
 * in n and memory independent of it. row_at is called twice for each i, in order: for the
 * names of the measures, and for the cells. `folder` is written as it is. Columns: run,
 * run_id, the parameters, hash, clustering, inputs, member, members, folder, status,
 * error, the measures (by first appearance), time_s, hosts. */
int coh_runs_write(const char *path, size_t n, coh_row_at row_at, void *ctx,
                   coh_error *err);

/* ---- packs: runs of a sub-batch trained as one ensemble --------------------------- */

/* What pack.json says. */
typedef struct coh_pack_run {
  size_t index; /* in the sweep */
  char run_id[33], hash[33];
  int64_t seed;
  size_t first, members; /* of model.h5 it owns [first, first + members) */
  char status[16];       /* "done" or "failed" */
  char *error;           /* owned; why it failed; NULL: it did not */
} coh_pack_run;

typedef struct coh_pack {
  char hash[33], sweep[33], token[33]; /* of the pack, of its sweep, of the attempt */
  char table[33]; /* hash of the runs.csv beside it, "" if there was none; filled by read,
                     ignored by write */
  uint64_t attempt;
  size_t n;
  coh_pack_run *run; /* owned, [n] */
} coh_pack;

/* Writes <folder>/pack.json, with a checksum of itself and one of the runs.csv beside it:
 * the last file to be written before coh_pack_publish. */
int coh_pack_write(const char *folder, const coh_pack *, coh_error *err);
/* COH_EDATA names the file and what is wrong: truncated, changed, an unknown format, a
 * wrong type. runs.csv is not looked at. On failure *out is empty. */
int coh_pack_read(const char *folder, coh_pack *out, coh_error *err);
void coh_pack_free(coh_pack *); /* leaves it empty; NULL accepted */

/* COH_EDATA if the runs.csv in the folder is not the one that the pack was published
 * with. */
int coh_pack_check(const char *folder, const coh_pack *, coh_error *err);
/* False for names below packs/ that are none of a pack: ".x", and "x.damaged", to which
 * one that could not be read was renamed. */
bool coh_pack_name(const char *name);

/* Numbers by text, for n keys at most; keys are borrowed. */
typedef struct coh_index {
  size_t mask; /* slots - 1 */
  struct coh_index_slot {
    const char *key;
    size_t value;
  } * slot;
} coh_index;
int coh_index_make(coh_index *, size_t n, coh_error *err);
/* Adds a key, or gives the number it has already; at most n different ones. */
size_t coh_index_put(coh_index *, const char *key, size_t value);
size_t coh_index_find(const coh_index *, const char *key); /* SIZE_MAX: not there */
void coh_index_free(coh_index *);

/* What coh_packs_visit is told and tells. */
typedef struct coh_pack_visitor {
  const coh_index *runs; /* by run_id: those asked for */
  /* A pack has the run of this number. The first failure ends the visit. */
  int (*run)(void *ctx, size_t number, const coh_pack_run *, coh_error *err);
  /* A pack cannot be read, and why; its runs are passed over. */
  int (*damaged)(void *ctx, const char *folder, const char *why, coh_error *err);
  void *ctx;
} coh_pack_visitor;
/* Reads the packs of a sub-batch, in the order of their names, each checked against the
 * runs.csv beside it: they alone say what is done, the tables of sub-batches may be
 * older. */
int coh_packs_visit(const char *sub_batch, const coh_pack_visitor *, coh_error *err);

/* Makes <sub_batch>/work/<name>.a<attempt> and writes its path to out [COH_PATH]. Made
 * new, it holds what the highest earlier attempt left there that a restart needs:
 * checkpoint*.h5, finish.*.h5, metrics.csv (hard links, or copies), so that from now on a
 * ghost's writing and this attempt's never meet. `name`: <label>-<hash10> of the pack. */
int coh_pack_open_work(const char *sub_batch, const char *name, uint64_t attempt,
                       char *out, coh_error *err);
/* Syncs the files of the work folder and makes it <sub_batch>/packs/<name> by one rename.
 * *lost: a pack of this name was there before; it stays, and the work folder is removed.
 */
int coh_pack_publish(const char *work, const char *sub_batch, const char *name,
                     bool *lost, coh_error *err);
/* Removes what attempts before `attempt` left in work/ of packs that are published, and
 * temporary files of theirs. */
int coh_pack_clean(const char *sub_batch, uint64_t attempt, coh_error *err);

/* Writes <sub_batch>/runs.csv, the rows of all its packs in order of `run` (of two with
 * one run_id the one that is done), columns united by name. Packs that cannot be read are
 * left out, each with a remark to the sink. */
int coh_runs_collect(const char *sub_batch, const coh_sink *, coh_error *err);

/* A folder <k>-<n> of a sweep. */
typedef struct coh_sub_folder {
  size_t k, n;
  char name[44];
} coh_sub_folder;
/* True for "<k>-<n>" with 1 <= k <= n. */
bool coh_sub_batch_name(const char *name, size_t *k, size_t *n);
/* All of a sweep's folder, by n, then by k; *out is freed by the caller. None where the
 * folder is not there. */
int coh_sub_folders(const char *sweep, coh_sub_folder **out, size_t *n, coh_error *err);

/* ---- merging: one table of all runs of a sweep ------------------------------------- */

typedef struct coh_merge_spec {
  size_t n_in;
  const char *const *in; /* [n_in] folders of sweeps, of sub-batches, of earlier merges */
  const char *out;       /* gets runs.csv and runs.h5; made if it is not there */
  size_t runs;
  const coh_hash *id; /* [runs] run_id of each, in the order of the sweep */
  char sweep[33];     /* hash of the sweep, for messages */
  bool copy;          /* models are copied into runs.h5, not linked to */
} coh_merge_spec;

typedef struct coh_merge_result {
  char *state; /* [runs] 'd' done, 'f' failed, 'c' conflict, '-' missing; owned */
  size_t done, failed, conflict, missing; /* runs of each kind */
  size_t doubled;                         /* further results of a run that say the same */
  size_t foreign;                         /* rows of other sweeps, left out */
  size_t damaged;                         /* packs that cannot be read, left out */
} coh_merge_result;

/* Writes <out>/runs.csv: a row a run, in the order of the sweep, whatever the order of
 * the inputs, and whichever sub-batches, of whatever n, the runs were done in. Runs are
 * told by their run_id. A run that is done beats one that failed; of several results that
 * agree in all but time_s, hosts, sub_batch and folder, the one with the least of
 * (sub_batch, folder, time_s, hosts) is taken; results that differ are all kept, with the
 * status "conflict". Columns: run, run_id, parameters, hash, clustering, inputs, status,
 * error, measures by name, time_s, hosts, sub_batch, folder. Merging what was merged
 * before gives what merging everything at once would.
 *
 * Writes <out>/runs.h5, unless no run has a model: /runs/<run, with zeros in front> with
 * the attributes run_id, first and members, and in it `model`, a relative link to the
 * pack's model.h5, of whose arrays the run owns rows [first, first + members); with
 * `copy`, a group of these rows alone (first = 0).
 *
 * Both files are replaced as a whole, under temporary names of their own, so that several
 * merges, and jobs that still run, do no harm. The sink is told of damaged packs, foreign
 * runs and conflicts. Memory: the texts of the tables and four bytes a cell. COH_EUSAGE
 * for an input that is none. On success end with coh_merge_free. */
int coh_merge_runs(const coh_merge_spec *, const coh_sink *, coh_merge_result *,
                   coh_error *err);
void coh_merge_free(coh_merge_result *);

/* ---- attempts: starts of a sub-batch ---------------------------------------------- */

typedef struct coh_attempt_info {
  const char *slurm_job; /* "123_4"; NULL: none */
  size_t runs;           /* of the sub-batch */
  char sweep[33];        /* hash of the sweep */
} coh_attempt_info;

/* One start. Of two attempts the one with the higher number counts; the other, a ghost,
 * ends as soon as coh_attempt_beat tells it. */
typedef struct coh_attempt {
  char path[COH_PATH]; /* <sub_batch>/attempts/<number>.json */
  uint64_t number;     /* from 1 */
  char token[33];      /* random */
  char host[65], slurm_job[65], started[32], sweep[33], status[16];
  char ended[32]; /* "" while it runs */
  long long pid;
  size_t runs;
} coh_attempt;

/* Takes the next free number by writing attempts/<number>.json: processes that start at
 * one time, on whatever nodes, get different numbers. The file's time of modification is
 * the heartbeat. */
int coh_attempt_begin(const char *sub_batch, const coh_attempt_info *, coh_attempt *out,
                      coh_error *err);
/* At least once a minute, before each checkpoint and before publishing. COH_ETAKEN if a
 * later attempt has begun (or the file is gone): nothing more may be written. */
int coh_attempt_beat(const coh_attempt *, coh_error *err);
/* Status "done", "stopped" or "failed". */
int coh_attempt_end(coh_attempt *, const char *status, coh_error *err);
/* The highest attempt of a sub-batch; number 0: there is none (or none can be read, which
 * is remarked to the sink). *age: seconds since its last heartbeat, by this machine's
 * clock, never negative. */
int coh_attempt_last(const char *sub_batch, const coh_sink *, coh_attempt *out,
                     double *age, coh_error *err);

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
/* State of a part of the run ("students", "extraction-<hash10>"), written by the next
 * coh_manifest_write; those of an earlier manifest of the same hash stay. True if it is
 * another state than before. Rank 0 only. */
bool coh_manifest_stage(coh_manifest *, const char *stage, const char *state);
bool coh_manifest_has(const coh_manifest *, const char *stage, const char *state);
/* A data file that the run reads, for the list in the manifest. COH_EDATA if an earlier
 * manifest of the same hash has it with another size or hash. Rank 0 only. */
int coh_manifest_data(coh_manifest *, const char *file, unsigned long long bytes,
                      const char *hash, coh_error *err);
/* True if the manifest at `path` can be read, is of this hash and has the status "done".
 */
bool coh_manifest_is_done(const char *path, const coh_hash *hash);
/* "n1*4 n2*4": hosts in the order of the ranks, with the number of ranks; for runs.csv.
 */
const char *coh_manifest_hosts(const coh_manifest *);

#endif
