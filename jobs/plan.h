/* plan.h - what the files of `cohort plan` share. */
#ifndef COHORT_JOBS_PLAN_H
#define COHORT_JOBS_PLAN_H

#include "cohort/sweep.h"
#include "packs.h"

/* `cohort plan CONFIG [--sub-batches n] [--list] [overrides]` */
int command_plan(int argc, char **argv);

/* One sub-batch, and what it will take on one core. */
typedef struct plan_part {
  size_t first, count; /* runs */
  packs packs;
  size_t networks;
  double bytes;   /* of the largest pack with its data */
  double seconds; /* NAN: not known */
} plan_part;

typedef struct plan {
  const char *path;
  size_t n_set;
  const char *const *set; /* borrowed */
  coh_sweep *sweep;
  size_t n; /* sub-batches */
  plan_part *parts;
  size_t wrong;    /* runs that have no valid configuration */
  coh_error first; /* what is wrong with the first of them */
  coh_text basis;  /* of the estimates: how they were made */
} plan;

/* ---- plan_estimate.c ----------------------------------------------------------------
 */

/* Fills networks, bytes and seconds of all parts, and the basis: measures the rate of a
 * training step for the costliest shapes of network, a fraction of a second in all. */
int plan_estimate(plan *, coh_error *);

/* What the networks of a pack cost. */
typedef struct plan_cost {
  size_t P; /* parameters of a network; 0: it could not be made out, as *why tells */
  size_t networks; /* of the pack; runs of job = extract share their students */
  double samples;  /* of the training set, NAN where only the data tell */
  double work;     /* of the pack: parameters times samples that pass in training */
  double bytes;
} plan_cost;
plan_cost plan_cost_of(const coh_config *, size_t runs, coh_error *why);

/* ---- plan_probe.c -------------------------------------------------------------------
 */

/* Parameters times samples a second of one core in training steps of N networks side by
 * side with these settings, measured in about 50 ms; 0 where it cannot be. *device: what
 * it was measured on. */
double plan_rate(const coh_config *, size_t N, char device[64]);

/* ---- plan_print.c -------------------------------------------------------------------
 */

void plan_print(const plan *, coh_text *out);
/* Every run as a line of CSV on standard output: run, sub_batch, pack, the axes, run_id.
 */
int plan_list(const plan *, coh_error *);

#endif
