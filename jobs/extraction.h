/* extraction.h - one clustering of one set of trained students. Private to the extract
 * job. */
#ifndef COHORT_JOBS_EXTRACTION_H
#define COHORT_JOBS_EXTRACTION_H

#include "cohort/extract.h"
#include "cohort/rebuild.h"
#include "teacher.h"

/* What is kept of one clustered layer for the reports: rank 0 only. */
typedef struct layer_report {
  size_t H; /* neurons of a student */
  coh_clustering *cluster;
} layer_report;

typedef struct extraction {
  job *job;
  coh_device *dev;
  const teacher *teacher;
  const coh_dataset *query;
  const char *folder;
  const char *identity; /* of run and clustering, for checkpoints */
  coh_symmetry sym;
  size_t N; /* students */
  /* The students from the layer in hand upwards, and the data they read. */
  coh_plan upper;
  double *params;       /* [N, upper.P], rank 0 */
  double *loss;         /* [N], every rank */
  coh_dataset features; /* x [n, d_in of upper] and targets of the query set */
  bool own_features;
  uint8_t *mask0; /* [d_in + 1] mask of the first layer, NULL = all */
  /* What is rebuilt: the same on every rank. */
  coh_rebuilt found;
  double *a;              /* [K, O] outgoing weights of the last hidden layer */
  coh_plan plan;          /* of the recovered network */
  double *before, *after; /* [plan.P] rebuilt, and fine-tuned if that is better */
  double student_best, student_median; /* losses when they were taken */
  double loss_before, loss_after;
  bool reverted;  /* fine-tuning raised the loss: `after` is `before` again */
  double seconds; /* of all trainings, in earlier processes too */
  bool worked;    /* a training made steps in this process, or the folder is new */
  size_t n_layers;
  layer_report layer[COH_MAX_LAYERS];
} extraction;

/* Clusters layer by layer, retraining what lies above, rebuilds, fits the output,
 * fine-tunes. On entry the fields up to `own_features` are set. Collective. */
int extraction_run(extraction *, coh_error *);
/* Students and their losses over `data` out of their trainer; x->upper and x->N describe
 * it. Those that diverged are left out (x->N shrinks); COH_EUSAGE if too few stay.
 * Collective. */
int extraction_take(extraction *, coh_trainer *, const coh_dataset *data, coh_error *);
/* COH_EUSAGE unless gamma asks for clusters of at least two of N students. */
int extraction_check_gamma(const coh_config *, size_t N, coh_error *);
void extraction_free(extraction *);

/* ---- report.c: rank 0
 * --------------------------------------------------------------------- */

/* clusters.csv, neurons.csv, the table on standard output, and measures for runs.csv. */
int extraction_report(const extraction *, coh_measures *, coh_error *);

#endif
