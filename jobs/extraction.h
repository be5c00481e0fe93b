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
  coh_plan rebuilt, plan; /* of the network before and after fine-tuning */
  double *before, *after; /* [rebuilt.P] and, on rank 0, [plan.P] */
  bool alone;             /* it stems from one student, not from clusters */
  coh_plan whole;         /* of a student, as it was at first */
  double *students;       /* [N, whole.P], rank 0, and their losses */
  double *first_loss;     /* [N] */
  double student_best, student_median; /* losses when they were taken */
  double loss_before, loss_after;
  double loss_kept; /* of `after` */
  bool reverted;    /* fine-tuning raised the loss: `after` is `before` again */
  double seconds;   /* of all trainings, in earlier processes too */
  bool worked;      /* a training made steps in this process, or the folder is new */
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

/* One training on the way, of N networks from `start` (float64 [N, P] on every rank). */
typedef struct training {
  const char *name;   /* of its files and its stage */
  const char *folder; /* NULL: that of the extraction */
  const coh_plan *plan;
  size_t N;
  const coh_dataset *data;
  double lr_factor; /* of extraction.finetune_lr */
  bool final;       /* the recovered network: its finish, not that of students */
  bool finish_only; /* no optimiser before the finish */
  const double *start;
} training;
int extraction_train(const extraction *, const training *, coh_trainer **out,
                     coh_error *);
void extraction_add_seconds(extraction *, const coh_trainer *);
/* All parameters of a trainer as float64 on rank 0 (NULL elsewhere). */
int extraction_gather(const extraction *, coh_trainer *, size_t count, double **out,
                      coh_error *);
/* float64 [count] to the precision of the data. */
int extraction_narrow(coh_dtype, size_t count, const double *from, void **to,
                      coh_error *);

/* ---- refine.c ------------------------------------------------------------------- */

/* From x->rebuilt and x->before: fine-tunes it, drops what it then does not need, and its
 * linear paths; sets x->plan, x->after and the losses. Collective. */
int extraction_refine(extraction *, coh_error *);

/* ---- report.c: rank 0
 * --------------------------------------------------------------------- */

/* clusters.csv, neurons.csv, the table on standard output, and measures for runs.csv. */
int extraction_report(const extraction *, coh_measures *, coh_error *);

#endif
