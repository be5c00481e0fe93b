/* run.h - one run of a job: its folder, its files, its row. */
#ifndef COHORT_JOBS_RUN_H
#define COHORT_JOBS_RUN_H

#include "job.h"

/* What a run of a sweep came to; start with {0}. */
typedef struct run_result {
  coh_hash hash, clustering;
  char *inputs;          /* owned */
  char folder[COH_PATH]; /* absolute, or relative to the current folder */
  coh_measures measures;
  double seconds;
  bool done;
  char *error; /* owned: why it is not done */
} run_result;
void run_result_free(run_result *);

typedef struct run {
  job *job;
  coh_hash hash;         /* of everything that changes the training */
  char sweep[COH_PATH];  /* results/<name>/1-1 */
  char folder[COH_PATH]; /* the run's own */
  char *inputs;          /* rank 0: text given to run_open */
  coh_run files;         /* rank 0: the lock */
  coh_manifest *manifest;
  bool open;             /* run_open succeeded */
  bool was_done;         /* rank 0: found with a manifest that says so */
  coh_hash clustering;   /* set by the job where one is made, as early as it is known */
  char stage[COH_LABEL]; /* what is done behind the finished training, see run_stage */
  bool worked;           /* set by the job: more than a finished run looked at again */
} run;

const char *run_job_name(int kind); /* coh_job */
/* Readable part of a run's folder name: what is trained on what. */
int run_label(const coh_config *, char out[COH_LABEL], coh_error *);

/* In a sweep (job.place is set) folder, lock, manifest and table belong to the pack: what
 * follows then only fills job.result.
 *
 * Makes or finds the folder of cfg's run, takes its lock, writes run.ini and, unless it
 * is of a finished run, manifest.json. COH_EDATA if the sweep's runs.csv is damaged.
 * `inputs` names what the parameters only point to (see coh_config_hash); rank 0's
 * counts. `wait`: for another process that works on the run, until asked to stop; else an
 * error. Collective; run_close in every case. */
int run_open(job *, const char *inputs, bool wait, run *, coh_error *);
/* The row of the finished run in runs.csv. Collective. */
int run_put_row(run *, const char *folder, const coh_measures *, double seconds,
                coh_error *);
/* The training of the run is done and a further stage begins: from now on the manifest's
 * status is "done", and how it ends is told of the stage. Rank 0's errors count;
 * collective. */
int run_stage(run *, const char *trained, const char *stage, coh_error *);
/* Ends the manifest ("done", or "failed" / "stopped" by rc) unless nothing was done,
 * puts a row of that status where rc is no success, and unlocks. */
void run_close(run *, int rc);

/* Job = train on j->cfg, called `title` in messages; *model: path of the model file on
 * every rank. Collective. */
int run_train_job(job *, const char *title, bool wait, char model[COH_PATH], coh_error *);

#endif
