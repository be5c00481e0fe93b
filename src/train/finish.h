/* finish.h - what the files of the finish share: the objective, the two methods, and the
 * finisher that drives them. Private. Vectors of members are on the host; the device
 * evaluates the set. */
#ifndef COHORT_TRAIN_FINISH_H
#define COHORT_TRAIN_FINISH_H

#include "train/trainer.h"

/* ---- objective.c: mean loss and gradient over the whole set ---------------------- */

typedef struct coh_objective {
  coh_trainer *t;      /* borrowed: data, grid, reducer */
  size_t first, rows;  /* of the set, worked on by this replica */
  size_t chunk;        /* rows of one pass */
  size_t group;        /* members of one pass */
  coh_ensemble *ens;   /* room for the block */
  coh_workspace *work; /* [group, chunk] */
  void *sum;           /* device [count, P]: gradients summed over chunks */
  double *loss;        /* device [count] */
  double *rate, *zero; /* device [group]: -1 and 0, to add by the optimiser's kernel */
  coh_pace *pace;      /* device: of a first step */
} coh_objective;

int coh_objective_create(coh_trainer *, coh_objective *, coh_error *);
void coh_objective_destroy(coh_objective *);
/* x, grad host [N, P]; loss host [N]. N up to the members of the block. Collective over
 * the replicas. */
int coh_objective_eval(coh_objective *, size_t N, const double *x, double *loss,
                       double *grad, coh_error *);

/* ---- jacobian.c: normal equations of one member ---------------------------------- */

typedef struct coh_normal {
  coh_objective *o; /* borrowed */
  size_t P;
  size_t chunk;        /* samples taken at a time */
  coh_ensemble *ens;   /* one member */
  coh_workspace *work; /* [chunk * O] rows */
  uint32_t *index;     /* device [chunk * O]: each sample O times */
  void *x;             /* device [chunk * O, d_in] */
  double *dout;        /* device [chunk * O, O]: unit matrices */
  double *rows;        /* device [chunk * O, P]: the Jacobian of the outputs */
  double *sum;         /* device [P, P]: lower triangle */
} coh_normal;

int coh_normal_create(coh_objective *, coh_normal *, coh_error *);
void coh_normal_destroy(coh_normal *);
/* h [P, P] = 2 / (n O) J^T J at x [P], the Gauss-Newton matrix of the mean square error;
 * of row i the elements 0..i. Collective over the replicas. */
int coh_normal_matrix(coh_normal *, const double *x, double *h, coh_error *);

/* ---- vectors: sums in an order that P alone decides -------------------------------- */

static inline double coh_dot(size_t n, const double *a, const double *b) {
  double part[8] = {0};
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (size_t j = 0; j < 8; j++) part[j] += a[i + j] * b[i + j];
  for (; i < n; i++) part[i % 8] += a[i] * b[i];
  return ((part[0] + part[4]) + (part[1] + part[5])) +
         ((part[2] + part[6]) + (part[3] + part[7]));
}

/* y += a x */
static inline void coh_axpy(size_t n, double a, const double *x, double *y) {
  for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* ---- the finisher ---------------------------------------------------------------- */

/* What "hardly" means: the loss fell by less than this fraction over so many steps. */
typedef struct coh_mark {
  uint64_t every;
  double least;
} coh_mark;

/* A method's own state of one member, saved as a row of reals and one of integers. */
enum { COH_FINISH_REALS = 11, COH_FINISH_INTS = 7 };

typedef struct coh_descent {
  double mark; /* loss at iteration `marked` */
  uint64_t marked;
  /* lbfgs: the line search from x along d */
  double slope;              /* d . gradient at x */
  double t;                  /* step now tried; 0: x itself is to be evaluated */
  double low, high;          /* bracket; high = infinity: none yet */
  double f_high, slope_high; /* of a failed step at `high`; f_high infinite: unknown */
  uint64_t tries, pairs,
      head; /* evaluations of this search; history and its next place */
  /* lm */
  double mu, nu; /* damping, 0: not yet chosen; its factor at the next refusal */
} coh_descent;

struct coh_finisher {
  coh_trainer *t; /* borrowed */
  coh_finish_spec spec;
  coh_finish_hooks hooks;
  size_t P, N, first, count;
  uint64_t round, rounds;
  double started, last_save;
  double spent;              /* seconds of earlier processes */
  uint64_t last_saved;       /* round */
  coh_finish_member *member; /* [N]; between rounds only this block's are up to date */
  coh_descent *descent;      /* [count] */
  double *x, *g;             /* [count, P]: point and gradient */
  double *values;            /* [N] scratch */
  bool own;                  /* this rank holds members */
  bool begun;                /* members know loss and gradient where they are */
  coh_objective objective;
  /* lbfgs */
  double *d, *s, *y; /* [count, P]; [count, PAIRS, P] of steps and gradient changes */
  double *trial, *trial_g, *trial_f; /* [count, P] and [count] of members evaluated */
  uint32_t *place;                   /* [count]: their places in the block */
  /* lm */
  coh_normal normal;
  double *h, *factor; /* [P, P] */
  double *step;       /* [P] */
};

enum { COH_LBFGS_PAIRS = 20 };

static inline coh_finish_member *coh_finish_of(coh_finisher *f, size_t i) {
  return &f->member[f->first + i];
}

/* Ends member i (place in the block) if its gradient, its iterations or its progress say
 * so; true if it ended. Called at every new point. */
bool coh_finish_ends(coh_finisher *, size_t i, coh_mark);

/* Every rank gets the members of all blocks. */
int coh_finisher_share(coh_finisher *, coh_error *);

/* lbfgs.c: one evaluation of all running members, and what follows from it. */
int coh_lbfgs_create(coh_finisher *, coh_error *);
void coh_lbfgs_destroy(coh_finisher *);
int coh_lbfgs_round(coh_finisher *, coh_error *);

/* lm.c: one accepted step of member i of the block. */
int coh_lm_create(coh_finisher *, coh_error *);
void coh_lm_destroy(coh_finisher *);
int coh_lm_step(coh_finisher *, size_t i, coh_error *);

#endif
