/* submission.h - what the files of `cohort submit` share. Private to them. */
#ifndef COHORT_JOBS_SUBMISSION_H
#define COHORT_JOBS_SUBMISSION_H

#include "cohort/store.h"
#include "cohort/sweep.h"
#include "submit_record.h"
#include "words.h"

/* One job array: sub-batch k is its task k - offset. Where nothing is swept, a job. */
typedef struct job_array {
  size_t offset, limit; /* limit: tasks that run at one time; 0: all */
  char *list;           /* "1-5,7": its tasks; NULL: no array; owned */
  size_t after;         /* place of the array whose end it waits for; SIZE_MAX: none */
  char id[64];          /* "" as long as it is not submitted */
  char *command;        /* as it was given to the shell; owned */
} job_array;

typedef struct submission {
  /* what was asked for */
  const char *config, *template;
  size_t n;     /* sub-batches */
  size_t n_set; /* overrides, as given */
  const char *const *set;
  bool dry_run, merge, resume, force;
  /* what was found */
  coh_sweep *sweep; /* NULL: nothing is swept */
  coh_config cfg;   /* of the first run */
  size_t runs;
  coh_hash hash;         /* of the sweep, or of the run */
  char folder[COH_PATH]; /* results/<name> */
  size_t max_index;      /* of an array */
  size_t n_left, *left;  /* sub-batches to submit, ascending */
  bool retry;            /* some runs failed: try them again */
  /* what is done */
  size_t n_array;
  job_array *array;
  job_array merger; /* the job that merges */
} submission;

/* ---- submit_record.c: results/<name>/submit.json ------------------------------------
 */

/* Appends what was submitted. */
int record_add(const submission *, coh_error *err);

/* ---- submit_left.c: what there is to do ----------------------------------------------
 */

/* Fills left, n_left and retry. */
int left_find(submission *, coh_error *err);
/* "1-3,7" of ascending numbers, each less `offset`. */
void left_show(const size_t *k, size_t n, size_t offset, coh_text *out);

#endif
