/* job.h - what the jobs share: the context of one `cohort run`, its stages, its progress
 * line. Jobs may use every room; they alone print and end the process. */
#ifndef COHORT_JOBS_JOB_H
#define COHORT_JOBS_JOB_H

#include "cohort/comm.h"
#include "cohort/config.h"
#include "cohort/store.h"
#include "cohort/train.h"

/* What GPUs the ranks of all nodes see. */
typedef struct job_gpu {
  int number;           /* this rank's; 0 where it sees none */
  int sharers;          /* ranks that have the same one */
  bool everywhere;      /* every rank sees one */
  coh_device_wish wish; /* what job_device opened last */
  coh_watchdog *dog;    /* of the process, owned by who started the run; or NULL */
  bool told;            /* the user was told where the arithmetic is done */
} job_gpu;

/* One `cohort run`, the same on every rank. */
typedef struct job {
  coh_config cfg;
  coh_grid grid;
  coh_sink sink; /* remarks: printed by rank 0 */
  size_t n_set;  /* overrides of the command line for other files: "teacher:sec.key=v" */
  const char **set;    /* borrowed */
  const char *command; /* the command line, for the manifest */
  char
      results[COH_PATH]; /* rank 0: folder of what the run came to; "" until it is done */
  size_t part_k, part_n; /* train only part k of n of the students; 0: all of them */
  /* of a run of a sweep; NULL for a run of its own */
  struct batch *batch;       /* sub-batch.h: the sub-batch it belongs to */
  const char *place;         /* folder of the run, which is its pack's */
  struct run_result *result; /* rank 0: where its row goes, instead of to runs.csv */
  /* device.c */
  job_gpu gpu;
  coh_patience patience;
} job;

enum { JOB_STOPPED = 75 }; /* exit status: stopped early, "requeue me" */

int job_train(job *, coh_error *);
int job_extract(job *, coh_error *);
int job_compress(job *, coh_error *);
/* `cohort show`: hashes, folder, then every parameter. Needs no MPI. */
int job_describe(const job *, coh_text *out, coh_error *);

/* Collective over j->grid, the grid of all ranks: before any other use of devices. */
int job_find_gpu(job *, coh_error *);
/* Opens the device that the configuration asks for, on every rank of the grid, and
 * settles by what its data are summed over replicas. Collective. */
int job_device(job *, coh_dtype, coh_device **out, coh_error *);
/* Another device at the same place, on this rank alone. */
int job_device_as(const job *, coh_dtype, coh_device **out, coh_error *);

/* ---- progress.c
 * ------------------------------------------------------------------------- */

typedef struct progress {
  const char *stage; /* "teacher", "students", ... */
  bool on;           /* rank 0 and not quiet */
  bool terminal;     /* rewrite one line, else a plain line a minute at most */
  size_t columns;    /* of the terminal */
  double last;
} progress;
void progress_begin(progress *, const job *, const char *title);
void progress_epoch(progress *, const coh_train_status *);
void progress_finish(progress *, const coh_finish_status *);
/* Last state as a line that stays. */
void progress_end(progress *, const coh_train_status *);
void progress_finish_end(progress *, const coh_finish_status *);
/* True if standard error ends on a terminal (looks through mpirun). A message written to
 * it begins with progress_clear, so that it does not stick to a progress line. */
bool progress_on_terminal(void);
void progress_clear(void);

/* ---- signals (cohort.c)
 * ------------------------------------------------------------------ */

bool job_was_asked_to_stop(void);

/* ---- stage.c: one training with its files
 * --------------------------------------------------- */

/* A training and the files in `folder` that it leaves. */
typedef struct stage {
  const char *title;      /* for people: "teacher" */
  const char *folder;     /* exists */
  const char *model;      /* file name of the model: "model.h5" */
  const char *checkpoint; /* file name of the checkpoint */
  const char *metrics;    /* file name of the metrics, written with every checkpoint */
  const char *identity;   /* text that a checkpoint must carry: hashes and stage */
  bool derived; /* start anew over a checkpoint of another identity (else: error) */
  coh_plan plan;
  size_t N;
  const coh_dataset *train, *test;
  size_t n_run;
  const coh_train_run
      *run;       /* [n_run] what the members are; `start` not read with a start */
  bool further;   /* further_training was asked for */
  const char *lr; /* name of the parameter that sets the rate: \"training.lr\" */
  const coh_train_method *method; /* in place of optimiser and schedule, or NULL */
  coh_finish_method finish; /* behind the last step; auto is settled by plan and data */
  uint64_t finish_steps;
  const struct parts *parts; /* all members were trained in parts; NULL: they were not */
  const void
      *start; /* [N, P] on every rank, or NULL: initialise from the configuration */
} stage;

/* The finish that `wish` (training.finish, extraction.finetune_finish) asks for: with
 * weight decay, auto is none. */
coh_finish_method job_finish(const coh_config *, int wish);
/* Width of the job's data: that of training, or float64 where a finish follows. */
coh_dtype job_precision(const coh_config *);

/* Trains to the end, resuming from its checkpoints if there are some: first by the
 * optimiser in training.precision (on rounded copies if dev and data are wider), then by
 * the finish. *out: a trainer in dev's precision, for its parameters and losses; the
 * caller destroys it. Collective. */
int stage_train(const job *, coh_device *, const stage *, coh_trainer **out, coh_error *);

#endif
