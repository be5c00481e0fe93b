/* stage.h - what the files of a stage share. Private to jobs. */
#ifndef COHORT_JOBS_STAGE_H
#define COHORT_JOBS_STAGE_H

#include "job.h"

/* A stage while it runs: what its hooks need. */
typedef struct stage_run {
  const job *job;
  const stage *stage;
  coh_metrics *metrics; /* rank 0 */
  progress progress;
  coh_dtype dtype; /* of the trainer in hand */
  bool anew;       /* not resumed */
  bool changed;    /* something was trained in this process */
} stage_run;

/* <folder>/<file> */
int stage_path(const stage *, const char *file, char *out, coh_error *);
/* Rank 0 looks, so that all ranks take the same way. */
int stage_file_is_there(const job *, const char *path, bool *there, coh_error *);
/* Whether the checkpoint holds as many networks, of as many parameters, as the stage; if
 * not, says that the stage starts anew. Collective. */
int stage_fits(const stage_run *, const char *path, coh_archive *, bool *fits,
               coh_error *);
int stage_write_metrics(const stage_run *, coh_error *);
int stage_save_model(const stage_run *, coh_trainer *, coh_error *);

/* Hooks; ctx is the stage_run. */
int stage_metric(void *ctx, uint64_t step, const char *name, size_t N,
                 const double *values, coh_error *);
bool stage_stop(void *ctx);

/* finishing.c: the finish that the stage asks for, from where the trainer is, resumed
 * from its own checkpoint (finish.<checkpoint>) if that began there. Collective. */
int stage_finish(stage_run *, coh_trainer *, coh_error *);

#endif
