/* train.h - the one training loop. Uses base, config, data, device, comm, archive, net.
 *
 *   coh_train_spec_of(&cfg, &train, &spec, &err);
 *   coh_trainer_create(&grid, dev, &plan, N, &train, NULL, &spec, &hooks, &t, &err);
 *
 *   coh_trainer_init(t, &cfg, 0, &err);     or coh_trainer_set, or coh_trainer_restore
 *
 *   coh_trainer_run(t, &err);
 *
 *   coh_trainer_gather(t, params_on_rank_0, &err);
 *
 * N members are trained side by side, of one run or of several (coh_trainer_runs), dealt
 * to the student groups of the grid; each
 * group's replicas split the batch. All functions are collective over grid->world.
 * Schedules follow sections A.9 and A.10 of the lottery contract and section 2 of the
 * extraction contract.
 */
#ifndef COHORT_TRAIN_H
#define COHORT_TRAIN_H

#include "cohort/comm.h"
#include "cohort/data.h"
#include "cohort/net.h"

typedef struct coh_train_spec {
  coh_optimizer optimizer;
  bool nesterov;
  double lr, momentum, weight_decay; /* Adam: beta 0.9, 0.999, eps 1e-8 */
  uint64_t end;                      /* iterations */
  size_t batch;
  uint64_t order_seed;
  coh_loss loss; /* never auto */
  size_t n_milestones;
  uint64_t milestone[COH_MILESTONES]; /* iterations, ascending */
  uint64_t warmup;                    /* iterations; lr(t) *= min(1, t / warmup) */
  double factor;
  coh_plateau plateau;
  uint64_t patience, cooldown; /* epochs */
  double threshold;            /* better means x < best * (1 - threshold) */
  double min_lr;               /* training ends at this lr; 0 = it never ends so */
  uint64_t evaluate_every;     /* iterations; 0 = at start and end only */
} coh_train_spec;

/* The spec that cfg->training says for this data. COH_EUSAGE where they do not fit (cross
 * entropy without labels, mse without targets, batch larger than the data is fine). */
int coh_train_spec_of(const coh_config *, const coh_dataset *train, coh_train_spec *,
                      coh_error *);

/* How the members of a run start: coh_plan_init with `seed` and ids first_id, ... */
typedef struct coh_train_start {
  uint64_t seed, first_id;
  size_t total; /* members that init_fan = tensor scales by; 0: those of the run */
  coh_init init;
  coh_init_bias bias;
  coh_init_fan fan;
} coh_train_start;

/* Consecutive members of an ensemble that are one run: they share schedule, plateau, data
 * order and start. */
typedef struct coh_train_run {
  size_t members;
  coh_train_spec spec;
  coh_train_start start;
} coh_train_run;

void coh_train_start_of(const coh_config *, uint64_t first_id, coh_train_start *);

typedef enum coh_member_state {
  COH_MEMBER_ACTIVE,
  COH_MEMBER_DONE,  /* reached its minimum lr, or the end */
  COH_MEMBER_FAILED /* loss became NaN or infinite; its parameters are those at that
                       moment */
} coh_member_state;

typedef struct coh_member {
  int state;   /* coh_member_state */
  double lr;   /* base lr after plateau drops */
  double best; /* plateau: best epoch loss so far */
  uint64_t bad, cool;
  uint64_t step; /* step at which it ended, or the present one */
  double
      loss; /* mean loss over the samples of the last whole epoch; NaN before the first */
} coh_member;

typedef struct coh_train_status {
  uint64_t step, end, epoch_length;
  size_t N, active;
  const coh_member *member; /* [N], the same on every rank */
  double seconds;           /* spent in this process */
  double total_seconds;     /* and in those before, up to their last checkpoint */
  uint64_t steps;           /* iterations made in this process */
  double samples; /* members x samples stepped in this process, over all ranks */
} coh_train_status;

typedef struct coh_trainer coh_trainer;

/* What the loop tells its job; every pointer may be NULL. All are called on every rank at
 * the same points. */
typedef struct coh_train_hooks {
  void *ctx;
  /* values [N], NaN where a member has none. Names: train_loss, train_accuracy,
   * test_loss, test_accuracy, lr. */
  int (*metric)(void *ctx, uint64_t step, const char *name, size_t N,
                const double *values, coh_error *);
  int (*progress)(void *ctx, const coh_train_status *,
                  coh_error *); /* after every epoch */
  int (*save)(void *ctx, coh_trainer *,
              coh_error *); /* checkpoint is due: coh_trainer_save */
  bool (*stop)(
      void *ctx);      /* this rank was asked to end: save, then COH_ESTOP on all ranks */
  double save_seconds; /* 0 = not by time */
  uint64_t save_steps; /* 0 = not by step */
} coh_train_hooks;

/* Borrows grid, dev, train, test (may be NULL) and hooks (may be NULL) until destroy. */
int coh_trainer_create(const coh_grid *, coh_device *, const coh_plan *, size_t N,
                       const coh_dataset *train, const coh_dataset *test,
                       const coh_train_spec *, const coh_train_hooks *, coh_trainer **out,
                       coh_error *err);
void coh_trainer_destroy(coh_trainer *);

/* Members now in training: those that ended have left. */
typedef struct coh_train_view {
  coh_ensemble *ens;    /* NULL on ranks without members */
  const uint32_t *slot; /* [ens->N] places in the block */
  void *m, *v;        /* device [ens->N, P]: moments; NULL where the optimiser has none */
  const double *loss; /* device [ens->N]: sum over the rows of the batch in hand */
  size_t first, count;   /* this rank's block of all members */
  uint64_t step;         /* that have been made */
  uint64_t epoch;        /* whole ones that have been made */
  uint64_t epoch_length; /* steps */
  /* the hook of the job, or NULL */
  int (*metric)(void *ctx, uint64_t step, const char *name, size_t N,
                const double *values, coh_error *);
  void *metric_ctx;
} coh_train_view;

/* Training by a rule of another room: what follows the gradients, and who is at the end.
 * Samples come in their own order. All but `update` are called on every rank. */
typedef struct coh_train_method {
  void *ctx;
  /* In place of the optimiser: members [first, first + count) of view->ens have the
   * gradient of their mean loss over a batch of `rows`. */
  int (*update)(void *ctx, const coh_train_view *, size_t first, size_t count,
                size_t rows, coh_error *);
  /* In place of schedule and metrics, behind each epoch: loss and coh_member_state of
   * this rank's block, [count], of those present. */
  int (*epoch)(void *ctx, const coh_train_view *, double *loss, int *state, coh_error *);
  /* Its own state, with that of the trainer. */
  int (*save)(void *ctx, coh_archive *, coh_error *);
  int (*restore)(void *ctx, coh_archive *, coh_error *);
} coh_train_method;

/* Borrowed until destroy; before the first step and before a restore. COH_EUSAGE with
 * replicas. */
int coh_trainer_method(coh_trainer *, const coh_train_method *, coh_error *);
void coh_trainer_view(const coh_trainer *, coh_train_view *);

/* Divides the members among n runs, in order; without it they are one run of the spec
 * given to coh_trainer_create. Call it first of all. A run's members become what they
 * would be in an ensemble of their own, bit for bit. Neighbours of the same order seed
 * share their batches, so put such runs side by side. COH_EBUG unless the members add up
 * to N and the runs agree in what all share: optimiser, momentum, loss, batch, end,
 * evaluate_every. The runs are copied. */
int coh_trainer_runs(coh_trainer *, size_t n, const coh_train_run *, coh_error *);
/* Fresh parameters for every member of every run, each as its start says. */
int coh_trainer_start(coh_trainer *, coh_error *);
/* The same for a single run. */
int coh_trainer_init(coh_trainer *, const coh_config *, uint64_t first_id, coh_error *);
/* Host [count, P] of this rank's block in the device's precision. */
int coh_trainer_set(coh_trainer *, const void *params, coh_error *);
/* The block of members that this rank's group holds. */
void coh_trainer_block(const coh_trainer *, size_t *first, size_t *count);

/* Trains to the end; COH_ESTOP after a checkpoint if asked to stop. */
int coh_trainer_run(coh_trainer *, coh_error *);

void coh_trainer_status(const coh_trainer *, coh_train_status *);
/* Current parameters of this rank's block (active, done and failed alike), host [count,
 * P]. */
int coh_trainer_get(coh_trainer *, void *params, coh_error *);
/* All [N, P] on rank 0 (`all` ignored elsewhere). */
int coh_trainer_gather(coh_trainer *, void *all, coh_error *);
/* Mean loss (and accuracy for labels, else NaN) of every member over a whole set: [N] on
 * every rank; done and failed members included; either pointer may be NULL. */
int coh_trainer_evaluate(coh_trainer *, const coh_dataset *, double *loss,
                         double *accuracy, coh_error *);

/* Checkpoints: everything needed to go on as if never interrupted, bit for bit, for any
 * later grid without replicas. The archive's other contents are the job's. */
int coh_trainer_save(coh_trainer *, coh_archive *, coh_error *);
/* COH_EDATA if members, parameters or precision differ. `further`: members that were done
 * go on (further_training). */
int coh_trainer_restore(coh_trainer *, coh_archive *, bool further, coh_error *);

/* Members trained elsewhere: host [count, P] of this rank's block becomes their
 * parameters, and all are at the end of their training (failed where not finite). */
int coh_trainer_adopt(coh_trainer *, const void *params, coh_error *);

/* Makes `to`, a trainer of the same members on the same grid but maybe of another
 * precision, what `from` is at its end: parameters, member states, step. */
int coh_trainer_take(coh_trainer *to, coh_trainer *from, coh_error *);

/* ---- the finish: second-order descent on the whole set ------------------------------
 *
 *   coh_finisher_create(trainer, &spec, &hooks, &f, &err);
 *   coh_finisher_run(f, &err);       the trainer now holds the lowest points found
 *
 * Every member descends from where it is to a minimum of its mean loss over the training
 * set, in float64, by itself: what it does depends on no other member and on no rank.
 * Replicas share the rows of the set and agree on every number. Members that failed stay
 * as they are.
 *   lbfgs  limited-memory BFGS, two-loop recursion over 20 pairs (Nocedal & Wright,
 *          "Numerical Optimization", 2006, algorithm 7.4). Line search for the weak Wolfe
 *          conditions by bracketing (Lewis & Overton, Math. Program. 141, 2013), with
 *          cubic steps inside the bracket and the approximate condition of Hager & Zhang
 *          (SIAM J. Optim. 16, 2005) where the loss is down to rounding. All members are
 *          evaluated at once, each at its own trial point.
 *   lm     Levenberg-Marquardt for mean square errors: normal equations, Cholesky, the
 *          damping of Nielsen (IMM-REP-1999-05; Madsen, Nielsen & Tingleff, "Methods for
 *          Non-Linear Least Squares Problems", 2004). One member after the other.
 */
typedef struct coh_finish_spec {
  coh_finish_method method; /* lbfgs or lm */
  uint64_t steps;           /* iterations (accepted steps) at most */
  double tolerance;         /* Euclidean norm of the gradient of the mean loss */
} coh_finish_spec;

/* What `wish` comes to: auto is lm for mse where P <= 2000 and n O P^2 <= 2e11 (seconds a
 * step), else lbfgs. COH_EUSAGE for lm with another loss than mse. */
int coh_finish_choose(coh_finish_method wish, coh_loss, const coh_plan *, size_t n,
                      coh_finish_method *out, coh_error *);
const char *coh_finish_name(coh_finish_method);

typedef enum coh_finish_end {
  COH_FINISH_RUNS,
  COH_FINISH_GRADIENT, /* the gradient's norm is within the tolerance */
  COH_FINISH_STALLED,  /* no step lowers the loss any more, or hardly */
  COH_FINISH_STEPS,    /* all iterations made */
  COH_FINISH_FAILED    /* the loss was not finite to begin with */
} coh_finish_end;

typedef struct coh_finish_member {
  int end;             /* coh_finish_end */
  uint64_t iterations; /* accepted steps */
  uint64_t rounds;     /* that it took part in: see coh_finish_status */
  double loss;         /* mean loss over the set; NaN before the first evaluation */
  double gradient;     /* norm of its gradient */
} coh_finish_member;

typedef struct coh_finisher coh_finisher;

typedef struct coh_finish_status {
  coh_finish_method method;
  uint64_t round;  /* evaluations of the set (lbfgs) or iterations (lm) so far */
  uint64_t rounds; /* of them in this process */
  uint64_t steps;  /* of the spec */
  size_t N, active;
  const coh_finish_member *member; /* [N], the same on every rank */
  double seconds;                  /* spent in this process */
} coh_finish_status;

/* As coh_train_hooks. Metrics at trainer step + round: train_loss and gradient_norm at
 * the start, now and then, and at the end; finish_end (coh_finish_end) and
 * finish_iterations at the end. */
typedef struct coh_finish_hooks {
  void *ctx;
  int (*metric)(void *ctx, uint64_t step, const char *name, size_t N,
                const double *values, coh_error *);
  int (*progress)(void *ctx, const coh_finish_status *, coh_error *);
  int (*save)(void *ctx, coh_finisher *, coh_error *); /* coh_finisher_save */
  bool (*stop)(void *ctx);
  double save_seconds; /* 0 = not by time */
  uint64_t save_steps; /* rounds; 0 = not by rounds */
} coh_finish_hooks;

/* Borrows the trainer, which must be of float64 (COH_EBUG). Collective, as all below. */
int coh_finisher_create(coh_trainer *, const coh_finish_spec *, const coh_finish_hooks *,
                        coh_finisher **out, coh_error *);
void coh_finisher_destroy(coh_finisher *);
/* To the end, which is put into the trainer; COH_ESTOP after a checkpoint if asked to
 * stop. */
int coh_finisher_run(coh_finisher *, coh_error *);
void coh_finisher_status(const coh_finisher *, coh_finish_status *);
/* All that is needed to go on, bit for bit, on any later grid without replicas. */
int coh_finisher_save(coh_finisher *, coh_archive *, coh_error *);
int coh_finisher_restore(coh_finisher *, coh_archive *, coh_error *);

#endif
