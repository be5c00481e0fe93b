/* packs.h - which runs of a sweep are trained as one ensemble. */
#ifndef COHORT_JOBS_PACKS_H
#define COHORT_JOBS_PACKS_H

#include "cohort/store.h"
#include "cohort/sweep.h"

enum { PACK_NAME = COH_LABEL + 1 + COH_HASH_SHOWN };

typedef struct pack {
  size_t n;
  size_t *run;    /* [n] places in the sweep, those of one data order side by side */
  size_t members; /* networks of each run */
  size_t P;       /* parameters of a network; 0: the network could not be made out */
  double cost;    /* of the pack: parameters times samples of all its steps */
  coh_hash hash;  /* of the ids of its runs, in their order */
  char name[PACK_NAME]; /* of its folder: <label>-<hash10> */
} pack;

typedef struct packs {
  size_t n;
  pack *item;
  size_t *run; /* private: what the packs' `run` point into */
} packs;

/* Deals runs [first, first + count) of a sweep to packs. Two runs share a pack if they
 * differ only in what members of one ensemble may differ in: for job = train seeds,
 * learning rate and its schedule, weight decay and initialisation; for job = extract the
 * clustering, so that students are trained once; for job = compress all but network and
 * data, which of teacher_student depend on the seed. Packs have at most 4096 runs, and at
 * most 2 GiB of state. The packs depend on the sweep and on the range alone, not on the
 * number of ranks or on what is done already. Freed by packs_free also after failures. */
int packs_make(const coh_sweep *, size_t first, size_t count, packs *, coh_error *);
void packs_free(packs *);

/* Takes runs out of a pack (where drop[index - first]), and names it anew; `salt` (may be
 * 0) keeps a second try apart from the first. Nothing happens where none is dropped and
 * the salt is 0. */
int pack_reduce(const coh_sweep *, pack *, size_t first, const bool *drop, uint64_t salt,
                coh_error *);

/* How far a run is by the packs, in the order of what all ranks agree on: the largest. */
typedef enum run_state { RUN_LEFT, RUN_FAILED, RUN_DONE } run_state;
typedef int pack_damaged(void *ctx, const char *folder, const char *why, coh_error *);
/* Raises state[i] of run first + i, i < count, to what the packs of a sub-batch have it;
 * of packs that cannot be read `damaged` is told. */
int packs_states(const coh_sweep *, const char *sub_batch, size_t first, size_t count,
                 char *state, pack_damaged *damaged, void *ctx, coh_error *);

#endif
