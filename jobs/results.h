/* results.h - the folder of a sweep, for the commands that look at it: which sweep it is
 * of, how many runs are how far, and the lines that run the rest. No MPI. */
#ifndef COHORT_JOBS_RESULTS_H
#define COHORT_JOBS_RESULTS_H

#include "cohort/store.h"
#include "cohort/sweep.h"

/* How far a run is. */
enum {
  RUN_IS_DONE = 'd',
  RUN_HAS_FAILED = 'f',
  RUN_IN_CONFLICT = 'c',
  RUN_IS_RUNNING = 'r',
  RUN_IS_QUEUED = 'q', /* SLURM has a job for it */
  RUN_IS_STALE = 's',  /* begun, but nobody works on it any more */
  RUN_IS_MISSING = '-'
};

typedef struct results {
  char folder[COH_PATH]; /* results/<name> */
  char config[COH_PATH]; /* what `cohort run` is to be given: a file with this sweep */
  coh_text file;         /* it, as a word of a shell */
  coh_text set;          /* " section.key=value ..." to go with it, for a shell too */
  coh_sweep *sweep;
  size_t runs;
  coh_hash *id;    /* [runs] */
  coh_index index; /* id -> run */
  coh_hash hash;
} results;

/* Opens results/<name> (or a sub-batch in it), or a configuration with a [sweep] section
 * and the overrides `set`. COH_EUSAGE if it is no sweep. End with results_close. */
int results_open(const char *path, size_t n_set, const char *const *set, results *out,
                 coh_error *err);
void results_close(results *);

/* "0..11, 15" of the i < n with state[i] == which; after `most` ranges "... ". */
void results_ranges(const char *state, size_t n, char which, size_t most, coh_text *out);
size_t results_count(const char *state, size_t n, char which);

/* Into how many sub-batches the sweep in the folder was divided last, as far as can be
 * told: the last submission, or what most folders are of; 1 where there is nothing. */
int results_division(const char *folder, size_t *n, coh_error *err);
/* As coh_pack_visitor has it: warns of a pack that cannot be read. */
int results_damaged(void *ctx, const char *folder, const char *why, coh_error *err);

/* The latest start of a sub-batch, and whether it goes on: it says so, and its file was
 * touched in the last three minutes. */
typedef struct activity {
  coh_attempt attempt; /* number 0: there was none */
  double age;          /* seconds since it was touched */
  bool running, stale;
} activity;
int results_activity(const char *folder, const char *sub_batch, activity *out,
                     coh_error *err);
/* Turns runs that are missing or stale to running or queued, as attempts and SLURM's
 * queue have it. squeue is asked for the jobs of submit.json, and may take 5 seconds. */
int results_mark_active(const results *, char *state, coh_error *err);

/* The commands that run every run that is missing, stale or has failed, divided by n:
 * for SLURM, and without. Sub-batches that run or wait for SLURM are left out. */
int results_rerun(const results *, const char *state, size_t n, coh_text *out,
                  coh_error *err);

#endif
