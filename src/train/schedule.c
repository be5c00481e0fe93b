/* schedule.c - learning rates: milestones and warm-up by iteration (section A.9 of the
 * lottery contract), plateau by epoch, shared or per member (section 2 of the extraction
 * contract). Pure functions of their arguments, computed alike on every rank. */
#include <math.h>

#include "train/trainer.h"

double coh_schedule_factor(const coh_train_spec *s, uint64_t t) {
  if (s->plateau != COH_PLATEAU_NONE) return 1.0;
  double factor = 1.0;
  for (size_t i = 0; i < s->n_milestones; i++)
    if (s->milestone[i] <= t) factor *= s->factor;
  if (t < s->warmup) factor *= (double)t / (double)s->warmup;
  return factor;
}

/* What a plateau follows: one member's numbers, or those of the sum. */
typedef struct plateau {
  double lr, best;
  uint64_t bad, cool;
} plateau;

/* Learning rates closer than this are the same. */
static const double lr_slack = 1e-8;

/* One epoch of loss x; returns true when the lr had already reached its minimum. */
static bool plateau_epoch(const coh_train_spec *s, plateau *p, double x) {
  if (s->min_lr > 0 && p->lr < s->min_lr + lr_slack) return true;
  if (x < p->best * (1.0 - s->threshold)) {
    p->best = x;
    p->bad = 0;
  } else {
    p->bad++;
  }
  if (p->cool > 0) {
    p->cool--;
    p->bad = 0;
  }
  if (p->bad > s->patience) {
    double lr = fmax(p->lr * s->factor, s->min_lr);
    if (p->lr - lr > lr_slack) p->lr = lr;
    p->cool = s->cooldown;
    p->bad = 0;
  }
  return false;
}

static bool member_plateau(const coh_train_spec *s, coh_member *m, double x) {
  plateau p = {m->lr, m->best, m->bad, m->cool};
  bool end = plateau_epoch(s, &p, x);
  m->lr = p.lr;
  m->best = p.best;
  m->bad = p.bad;
  m->cool = p.cool;
  return end;
}

/* The summed loss decides for all; every active member carries a copy of the same
 * plateau. */
static void shared_plateau(const coh_train_spec *s, size_t N, coh_member *member) {
  double sum = 0;
  for (size_t n = 0; n < N; n++)
    if (member[n].state == COH_MEMBER_ACTIVE) sum += member[n].loss;
  for (size_t n = 0; n < N; n++)
    if (member[n].state == COH_MEMBER_ACTIVE && member_plateau(s, &member[n], sum))
      member[n].state = COH_MEMBER_DONE;
}

void coh_schedule_epoch(const coh_train_spec *s, size_t N, coh_member *member,
                        uint64_t step) {
  for (size_t n = 0; n < N; n++) {
    if (member[n].state != COH_MEMBER_ACTIVE) continue;
    member[n].step = step;
    if (!isfinite(member[n].loss)) member[n].state = COH_MEMBER_FAILED;
  }
  if (s->plateau == COH_PLATEAU_SHARED) shared_plateau(s, N, member);
  if (s->plateau != COH_PLATEAU_MEMBER) return;
  for (size_t n = 0; n < N; n++)
    if (member[n].state == COH_MEMBER_ACTIVE &&
        member_plateau(s, &member[n], member[n].loss))
      member[n].state = COH_MEMBER_DONE;
}
