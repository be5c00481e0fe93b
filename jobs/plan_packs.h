/* plan_packs.h - how `cohort plan` groups the runs of a sub-batch: a stand-in with the
 * interface of the packs that a run trains. */
#ifndef COHORT_JOBS_PLAN_PACKS_H
#define COHORT_JOBS_PLAN_PACKS_H

#include "cohort/sweep.h"

typedef struct plan_pack {
  size_t n;
  size_t *run; /* [n] places in the sweep; borrowed from plan_packs.run */
  char name[96];
} plan_pack;

typedef struct plan_packs {
  size_t n;
  plan_pack *item;
  size_t *run;
} plan_packs;

/* Deals runs [first, first + count) to packs: runs that differ only in what members of
 * one ensemble may differ in. Free with plan_packs_free also after a failure. */
int plan_packs_make(const coh_sweep *, size_t first, size_t count, plan_packs *,
                    coh_error *);
void plan_packs_free(plan_packs *);

#endif
