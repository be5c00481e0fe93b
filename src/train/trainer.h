/* trainer.h - what the files of this room share. Private. */
#ifndef COHORT_TRAIN_TRAINER_H
#define COHORT_TRAIN_TRAINER_H

#include "cohort/train.h"

/* Parameters and optimiser state of members that left the ensemble, by place in the
 * block. */
typedef struct coh_stash {
  void *params, *m, *v; /* host [count, P]; m and v NULL where the optimiser has none */
} coh_stash;

/* A data set on the device. */
typedef struct coh_device_data {
  const coh_dataset *host;
  void *x, *y;
  int32_t *labels;
} coh_device_data;

/* Buffers for one batch: rows gathered by index. */
typedef struct coh_batch {
  uint32_t *order; /* device [streams, n]: this epoch's permutations */
  void *x, *y;     /* device [B, d_in], [B, n_out] */
  int32_t *labels; /* device [B] */
} coh_batch;

struct coh_trainer {
  const coh_grid *grid;
  coh_device *dev;
  coh_train_spec spec; /* of run 0: what all runs share */
  coh_train_hooks hooks;
  size_t n_run;
  coh_train_run *run;     /* [n_run] */
  uint32_t *run_of;       /* [N] run of each member */
  uint32_t *stream;       /* [count] which permutation each member of the block follows */
  size_t streams;         /* of this block: neighbours of one order seed are one stream */
  size_t N, first, count; /* all members; this rank's block */
  coh_plan plan;
  coh_ensemble *ens; /* NULL on ranks without members */
  coh_workspace *work;
  coh_reducer *reducer;
  size_t group;      /* members that pass forward and backward together */
  size_t rows;       /* most rows of a batch on this rank */
  uint32_t *slot;    /* [ens->N] place in the block of each member present */
  void *m, *v;       /* device [ens->N, P] */
  double *loss_sum;  /* device [ens->N]: sum of row losses of this epoch's full batches */
  double *loss_last; /* device [ens->N]: of its last, short batch */
  double *step_lr, *step_wd; /* host [count], for the members present */
  coh_stash gone;
  coh_device_data train;
  const coh_dataset *test;
  coh_batch batch;
  uint32_t *perm;       /* host [n] */
  uint64_t order_epoch; /* epoch whose orders are on the device; UINT64_MAX = none */
  coh_member *member;   /* [N], the same on every rank */
  double *host_loss;    /* [N] scratch */
  uint64_t step, epoch_length;
  double started, last_save;
  double spent;   /* seconds of training in earlier processes */
  double samples; /* members x samples stepped in this run, over all ranks */
  uint64_t steps; /* iterations of this run */
};

/* schedule.c */
/* lr factor of milestones and warm-up at iteration t (1 in plateau mode). */
double coh_schedule_factor(const coh_train_spec *, uint64_t t);
/* Ends an epoch: takes each active member's epoch loss (already in member[n].loss), fails
 * those that are not finite, moves the plateau, marks members done. */
void coh_schedule_epoch(const coh_train_spec *, size_t N, coh_member *member,
                        uint64_t step);

/* runs.c */
/* The members as one run. */
int coh_trainer_one_run(coh_trainer *, coh_error *);
const coh_train_run *coh_member_run(const coh_trainer *, size_t n);

/* trainer.c */
size_t
coh_trainer_present(const coh_trainer *); /* members in the ensemble of this rank */
size_t coh_members_active(const coh_trainer *);
/* Puts members that are no longer active into the stash and compacts the ensemble. */
int coh_trainer_shrink(coh_trainer *, coh_error *);

/* data.c */
int coh_device_data_create(coh_device *, const coh_dataset *, coh_device_data *,
                           coh_error *);
void coh_device_data_destroy(coh_device *, coh_device_data *);

/* Sums over replicas of a device array [ens->N] spread to the block: local [count], 0 for
 * members that left. The array still holds the same in sum (replica 0 has it all). */
int coh_trainer_sums(coh_trainer *, double *device, double *local, coh_error *);

/* step.c */
int coh_trainer_step(coh_trainer *, coh_error *);

/* checkpoint.c: copies of the block's rows of a device array merged with the stash; which
 * = 0 params, 1 first moment, 2 second moment; host [count, P]. */
int coh_trainer_rows(coh_trainer *, int which, void *host, coh_error *);
int coh_trainer_set_rows(coh_trainer *, int which, const void *host, coh_error *);
/* New parameters [count, P] for the whole block, members that ended included. */
int coh_trainer_put_rows(coh_trainer *, const void *host, coh_error *);

#endif
