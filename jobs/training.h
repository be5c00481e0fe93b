/* training.h - trainings on a data set: what job = train and job = compress do for one
 * run, and a sweep for the runs of a pack. */
#ifndef COHORT_JOBS_TRAINING_H
#define COHORT_JOBS_TRAINING_H

#include "cohort/compress.h"
#include "job.h"

/* Data, network and device that runs share, and the runs. Start with {0}. */
typedef struct training {
  coh_device *dev;
  coh_dataset train, test;
  coh_plan plan;
  size_t members; /* of each run */
  size_t n_run, room;
  coh_train_run *run; /* [n_run] */
  /* of job = compress */
  coh_dataset val;
  coh_compress_spec *spec;     /* [n_run] */
  coh_compress *compress;      /* while it is trained, and after */
  char **described;            /* [n_run] see original.h */
  coh_compress_result *result; /* [n_run] after the training */
} training;

/* Adds what names the user's data file in a run hash: "dataset.file=<hash>\n". */
int training_inputs(const coh_config *, coh_text *out, coh_error *);
/* What all runs share, from j->cfg: first device and data, then the network, which must
 * fit the data (COH_EUSAGE). */
int training_load(const job *, training *, coh_error *);
int training_plan(const job *, training *, coh_error *);
/* One run more. */
int training_add(training *, const coh_config *, coh_error *);
/* Trains all runs as one ensemble, its files (model.h5, checkpoint.h5, metrics.csv) in
 * `folder`; `identity` names the runs. Collective; the caller destroys *out. */
int training_train(const job *, training *, const char *title, const char *folder,
                   const char *identity, coh_trainer **out, coh_error *);
/* Loss and accuracy of each run on both sets, added to out [n_run]; min, mean and max
 * over its members where it has several. Collective. */
int training_measure(coh_trainer *, const training *, coh_measures *out, coh_error *);
void training_free(training *);

/* ---- compress.c: the parts of these that job = compress has of its own ----------------
 */

/* Of job = compress: samples to learn from, as far as the configuration tells; arrays of
 * the size of a network's parameters that one takes at most, snapshot included. */
size_t compress_samples(const coh_config *);
enum { COMPRESS_ARRAYS = 24 };

int compress_load(const job *, coh_dtype, training *, coh_error *);
int compress_add(training *, const coh_config *, coh_error *);
int compress_begin(const job *, training *, coh_error *);
/* Results; masks, networks without their dead neurons, and a table in the original's form
 * beside the model. Collective. */
int compress_save(const job *, training *, coh_trainer *, const char *folder,
                  coh_error *);
int compress_measure(coh_trainer *, const training *, coh_measures *out, coh_error *);

#endif
