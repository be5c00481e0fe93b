/* trainer.h - what the files of this room share. Private. */
#ifndef COHORT_TRAIN_TRAINER_H
#define COHORT_TRAIN_TRAINER_H

#include "cohort/train.h"

/* Parameters and optimiser state of members that left the ensemble, by place in the
 * block. */
typedef struct coh_stash {
  void *params, *m, *v; /* host [count, P]; m and v NULL where the optimiser has none */
} coh_stash;

enum { COH_EVALUATION_BYTES = 64 << 20 }; /* of an evaluation's activations, about */

/* A data set on the device. */
typedef struct coh_device_data {
  const coh_dataset *host;
  void *x, *y;
  int32_t *labels;
} coh_device_data;

/* Buffers for one batch: rows gathered by index. Where large is best and members follow
 * several streams, all members pass at once, each with a copy of its own; else a group
 * with the batch of its stream. */
typedef struct coh_batch {
  uint32_t *order; /* device [streams, n]: an epoch's permutations */
  uint64_t epoch;  /* that epoch; UINT64_MAX: none yet */
  uint64_t drawn;  /* epoch whose only permutation coh_trainer.perm holds; or none */
  uint64_t *seed;  /* [streams] */
  size_t copies;   /* 1, or the members of the block */
  void *x, *y;     /* device [copies, B, d_in], [copies, B, n_out] */
  int32_t *labels; /* device [copies, B] */
} coh_batch;

/* This replica's part of a step's batch of `total` rows: `rows` from place `at` of the
 * order on. */
typedef struct coh_part {
  size_t at, rows, total;
} coh_part;

/* A stretch of steps: rows of a coh_pace and the lr of each member present. */
typedef struct coh_stretch {
  size_t room;        /* rows */
  void *rows, *now;   /* device [room], [1]: the table, and the row of the step */
  uint32_t *cursor;   /* device: which row is next */
  double *wd;         /* device [present]: weight decay */
  uint32_t *stream;   /* device [present] */
  bool members;       /* these two are up to date */
  uint64_t step, end; /* the next row's, and behind the last's */
  void *host;         /* scratch for the rows */
  double *wd_host;    /* [count] scratch */
  uint32_t *stream_host;
} coh_stretch;

/* A step of one shape of batch: of full ones, or of the short one that ends an epoch. */
typedef struct coh_record {
  bool seen;           /* made once, directly */
  coh_recording *kept; /* NULL: not yet */
} coh_record;
enum { COH_SHAPES = 2 };

#define COH_ADAM_BETA1 0.9
#define COH_ADAM_BETA2 0.999

struct coh_trainer {
  const coh_grid *grid;
  coh_device *dev;
  coh_train_spec spec; /* of run 0: what all runs share */
  coh_train_hooks hooks;
  const coh_train_method *method; /* NULL: optimiser and schedule of the spec */
  double *batch_loss;             /* device [count], for the method */
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
  coh_stash gone;
  coh_device_data train;
  const coh_dataset *test;
  coh_device_data test_data; /* from the first evaluation on */
  coh_batch batch;
  coh_stretch stretch;
  coh_record record[COH_SHAPES];
  uint32_t *perm;     /* host [n] */
  coh_member *member; /* [N], the same on every rank */
  double *host_loss;  /* [N] scratch */
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

/* method.c */
/* Ends an epoch as the method has it, on all ranks. */
int coh_method_epoch(coh_trainer *, coh_error *);

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

/* To be called when members, their learning rates, streams or the step have become others
 * than steps in turn make them. */
void coh_trainer_changed(coh_trainer *);

/* group.c */
/* Sets `group`: equal groups, the same on all replicas, which sum their gradients group
 * by group. Collective over the world: all have then what stays in memory, and none has
 * taken more until all have seen what is left. */
int coh_trainer_choose_group(coh_trainer *, coh_error *);

/* batch.c: only on ranks that hold members, but for coh_part_of. */
coh_part coh_part_of(const coh_trainer *, uint64_t step);
/* For the streams there are now; replaces an earlier one. */
int coh_batch_create(coh_trainer *, coh_error *);
void coh_batch_destroy(coh_trainer *);
/* The orders of an epoch onto the device, unless they are there. */
int coh_batch_order(coh_trainer *, uint64_t epoch, coh_error *);
/* Draws the order of a later epoch on the host, where that is how it is drawn. */
void coh_batch_draw_ahead(coh_trainer *, uint64_t epoch);
/* Rows of the present step of one stream, or of all members present into their copies. */
int coh_batch_gather(coh_trainer *, uint32_t stream, size_t rows, coh_error *);
int coh_batch_gather_all(coh_trainer *, size_t rows, coh_error *);

/* pace.c: likewise. */
int coh_stretch_create(coh_trainer *, coh_error *);
void coh_stretch_destroy(coh_trainer *);
void coh_stretch_forget(coh_trainer *);
/* Fills the table from the trainer's step on, unless that is the next row. */
int coh_stretch_prepare(coh_trainer *, coh_error *);
int coh_stretch_advance(coh_trainer *, coh_error *);   /* the next row becomes `now` */
const coh_pace *coh_stretch_pace(const coh_trainer *); /* device, of `now` */
const double *coh_stretch_lr(const coh_trainer *);     /* device [present], of `now` */

/* record.c */
typedef int coh_step_fn(coh_trainer *, const coh_part *, coh_error *);
/* Makes a step by calling `step`, or by replaying what an earlier call of it did. */
int coh_records_step(coh_trainer *, const coh_part *, coh_step_fn *, coh_error *);
void coh_records_drop(coh_trainer *);

/* data.c */
int coh_device_data_create(coh_device *, const coh_dataset *, coh_device_data *,
                           coh_error *);
void coh_device_data_destroy(coh_device *, coh_device_data *);

/* Sums over replicas of a device array [ens->N] spread to the block: local [count], 0 for
 * members that left. The array still holds the same in sum (replica 0 has it all). */
int coh_trainer_sums(coh_trainer *, double *device, double *local, coh_error *);

/* step.c */
/* Stream of the member at place i of the ensemble. */
uint32_t coh_stream_of(const coh_trainer *, size_t i);
int coh_trainer_step(coh_trainer *, coh_error *);

/* checkpoint.c: copies of the block's rows of a device array merged with the stash; which
 * = 0 params, 1 first moment, 2 second moment; host [count, P]. */
int coh_trainer_rows(coh_trainer *, int which, void *host, coh_error *);
int coh_trainer_set_rows(coh_trainer *, int which, const void *host, coh_error *);
/* New parameters [count, P] for the whole block, members that ended included. */
int coh_trainer_put_rows(coh_trainer *, const void *host, coh_error *);

#endif
