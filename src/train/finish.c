/* finish.c - life of a finisher, its rounds, its state on file. What a round does stands
 * in lbfgs.c and lm.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/finish.h"

/* Rounds on small problems take less time than ranks need to talk. */
enum { BURST = 16 };
static const double long_round = 1e9; /* multiplications */

/* Where auto takes lm: parameters, and n O P^2, half the multiplications of a step. */
enum { MOST_LM_PARAMETERS = 2000 };
static const double most_lm_work = 2e11;

const char *coh_finish_name(coh_finish_method m) {
  static const char *const names[] = {"none", "lbfgs", "lm", "auto"};
  return names[m];
}

int coh_finish_choose(coh_finish_method wish, coh_loss loss, const coh_plan *plan,
                      size_t n, coh_finish_method *out, coh_error *err) {
  *out = wish;
  if (wish == COH_FINISH_LM && loss != COH_MSE)
    return coh_fail(err, COH_EUSAGE,
                    "finish = lm is for the loss mse; use finish = lbfgs");
  if (wish != COH_FINISH_AUTO) return COH_OK;
  double P = (double)plan->P, work = (double)n * (double)plan->n_out * P * P;
  bool fits = plan->P <= MOST_LM_PARAMETERS && work <= most_lm_work;
  *out = loss == COH_MSE && fits ? COH_FINISH_LM : COH_FINISH_LBFGS;
  return COH_OK;
}

/* ---- life ------------------------------------------------------------------------ */

static bool is_lm(const coh_finisher *f) {
  return f->spec.method == COH_FINISH_LM;
}

static int create_block(coh_finisher *f, coh_error *err) {
  int rc;
  size_t all = f->count * f->P;
  COH_TRY(coh_alloc(&f->descent, f->count, sizeof *f->descent, err));
  COH_TRY(coh_alloc(&f->x, all, sizeof *f->x, err));
  COH_TRY(coh_alloc(&f->g, all, sizeof *f->g, err));
  COH_TRY(coh_alloc(&f->trial, all, sizeof *f->trial, err));
  COH_TRY(coh_alloc(&f->trial_g, all, sizeof *f->trial_g, err));
  COH_TRY(coh_alloc(&f->trial_f, f->count, sizeof *f->trial_f, err));
  COH_TRY(coh_alloc(&f->place, f->count, sizeof *f->place, err));
  COH_TRY(coh_trainer_get(f->t, f->x, err));
  COH_TRY(coh_objective_create(f->t, &f->objective, err));
  COH_TRY(is_lm(f) ? coh_lm_create(f, err) : coh_lbfgs_create(f, err));
cleanup:
  return rc;
}

int coh_finisher_create(coh_trainer *t, const coh_finish_spec *spec,
                        const coh_finish_hooks *hooks, coh_finisher **out,
                        coh_error *err) {
  int rc;
  coh_finisher *f = NULL;
  *out = NULL;
  if (t->dev->dtype != COH_F64)
    return coh_fail(err, COH_EBUG, "a finish needs a trainer of float64");
  if (spec->method != COH_FINISH_LBFGS && spec->method != COH_FINISH_LM)
    return coh_fail(err, COH_EBUG, "a finish by no method");
  COH_TRY(coh_alloc(&f, 1, sizeof *f, err));
  f->t = t;
  f->spec = *spec;
  if (hooks) f->hooks = *hooks;
  f->P = t->plan.P;
  f->N = t->N;
  f->first = t->first;
  f->count = t->count;
  f->own = t->count > 0;
  COH_TRY(coh_alloc(&f->member, f->N, sizeof *f->member, err));
  COH_TRY(coh_alloc(&f->values, f->N, sizeof *f->values, err));
  for (size_t n = 0; n < f->N; n++) {
    f->member[n] = (coh_finish_member){.loss = NAN, .gradient = NAN};
    if (t->member[n].state == COH_MEMBER_FAILED) f->member[n].end = COH_FINISH_FAILED;
  }
  if (f->own) rc = create_block(f, err);
  COH_TRY(coh_agree(t->grid->world, rc, err));
  *out = f;
  return COH_OK;
cleanup:
  coh_finisher_destroy(f);
  return rc;
}

void coh_finisher_destroy(coh_finisher *f) {
  if (!f) return;
  coh_lm_destroy(f);
  coh_lbfgs_destroy(f);
  coh_objective_destroy(&f->objective);
  free(f->place);
  free(f->trial_f);
  free(f->trial_g);
  free(f->trial);
  free(f->g);
  free(f->x);
  free(f->descent);
  free(f->values);
  free(f->member);
  free(f);
}

/* ---- members --------------------------------------------------------------------- */

bool coh_finish_ends(coh_finisher *f, size_t i, coh_mark mark) {
  coh_finish_member *m = coh_finish_of(f, i);
  coh_descent *v = &f->descent[i];
  const double *g = f->g + i * f->P;
  m->gradient = sqrt(coh_dot(f->P, g, g));
  if (m->gradient <= f->spec.tolerance)
    m->end = COH_FINISH_GRADIENT;
  else if (m->iterations >= f->spec.steps)
    m->end = COH_FINISH_STEPS;
  else if (m->iterations >= v->marked + mark.every) {
    if (!(m->loss < v->mark * (1 - mark.least))) m->end = COH_FINISH_STALLED;
    v->mark = m->loss;
    v->marked = m->iterations;
  }
  return m->end != COH_FINISH_RUNS;
}

/* Loss and gradient of every member where it starts. */
static int start(coh_finisher *f, coh_error *err) {
  int rc = COH_OK;
  double *loss = f->trial_f;
  if (!f->own) return COH_OK;
  COH_TRY(coh_objective_eval(&f->objective, f->count, f->x, loss, f->g, err));
  for (size_t i = 0; i < f->count; i++) {
    coh_finish_member *m = coh_finish_of(f, i);
    m->loss = f->descent[i].mark = loss[i];
    if (!isfinite(loss[i]) || !isfinite(coh_dot(f->P, f->g + i * f->P, f->g + i * f->P)))
      m->end = COH_FINISH_FAILED;
    if (m->end == COH_FINISH_RUNS) coh_finish_ends(f, i, (coh_mark){1, 0});
  }
cleanup:
  return rc;
}

int coh_finisher_share(coh_finisher *f, coh_error *err) {
  int rc;
  coh_finish_member *local = NULL;
  COH_TRY(coh_alloc(&local, f->count, sizeof *local, err));
  memcpy(local, f->member + f->first, f->count * sizeof *local);
  COH_TRY(
      coh_grid_allgather_rows(f->t->grid, f->N, sizeof *local, local, f->member, err));
cleanup:
  free(local);
  return rc;
}

static size_t count_running(const coh_finisher *f) {
  size_t running = 0;
  for (size_t n = 0; n < f->N; n++) running += f->member[n].end == COH_FINISH_RUNS;
  return running;
}

/* ---- reports --------------------------------------------------------------------- */

static double value_of(const coh_finish_member *m, int what) {
  switch (what) {
  case 0:
    return m->loss;
  case 1:
    return m->gradient;
  case 2:
    return (double)m->end;
  default:
    return (double)m->iterations;
  }
}

/* The first two while it runs, all four at the end. */
static int report(coh_finisher *f, int count, coh_error *err) {
  static const char *const names[] = {"train_loss", "gradient_norm", "finish_end",
                                      "finish_iterations"};
  int rc = COH_OK;
  uint64_t step = f->t->step + f->round;
  for (int what = 0; f->hooks.metric && what < count && !rc; what++) {
    for (size_t n = 0; n < f->N; n++) f->values[n] = value_of(&f->member[n], what);
    rc = f->hooks.metric(f->hooks.ctx, step, names[what], f->N, f->values, err);
  }
  return rc;
}

static int show_progress(coh_finisher *f, coh_error *err) {
  coh_finish_status s;
  if (!f->hooks.progress) return COH_OK;
  coh_finisher_status(f, &s);
  return f->hooks.progress(f->hooks.ctx, &s, err);
}

static int save(coh_finisher *f, coh_error *err) {
  f->last_save = coh_seconds();
  f->last_saved = f->round;
  return f->hooks.save ? f->hooks.save(f->hooks.ctx, f, err) : COH_OK;
}

/* All ranks agree whether to stop or to save; rank 0's clock counts. */
static int poll(coh_finisher *f, coh_error *err) {
  int rc;
  enum { NOTHING, SAVE, STOP };
  int64_t wish = NOTHING;
  const coh_finish_hooks *h = &f->hooks;
  double waited = coh_seconds() - f->last_save;
  if (f->t->grid->rank == 0 && h->save_seconds > 0 && waited >= h->save_seconds)
    wish = SAVE;
  if (h->stop && h->stop(h->ctx)) wish = STOP;
  COH_TRY(coh_allmax(f->t->grid->world, &wish, err));
  if (h->save_steps > 0 && f->round - f->last_saved >= h->save_steps && wish == NOTHING)
    wish = SAVE;
  if (wish != NOTHING) COH_TRY(save(f, err));
  if (wish == STOP)
    return coh_fail(err, COH_ESTOP,
                    "stopped in the finish, round %llu; run it again to "
                    "go on",
                    (unsigned long long)f->round);
cleanup:
  return rc;
}

/* ---- rounds ---------------------------------------------------------------------- */

/* Multiplications of one member's part of a round. */
static double round_work(const coh_finisher *f) {
  double P = (double)f->P, n = (double)f->t->train.host->n;
  return is_lm(f) ? n * (double)f->t->plan.n_out * P * P / 2 : 3 * n * P;
}

/* Largest block of members of any group. */
static size_t largest_block(const coh_finisher *f) {
  size_t groups = (size_t)f->t->grid->n_student;
  return (f->N + groups - 1) / groups;
}

/* Every member makes the step of this round, unless it did before a restart. */
static int lm_round(coh_finisher *f, coh_error *err) {
  int rc = COH_OK;
  bool polls = round_work(f) >= long_round;
  for (size_t i = 0; i < largest_block(f); i++) {
    coh_finish_member *m = i < f->count ? coh_finish_of(f, i) : NULL;
    if (m && m->end == COH_FINISH_RUNS && m->iterations == f->round)
      rc = coh_lm_step(f, i, err);
    if (polls) {
      COH_TRY(coh_agree(f->t->grid->world, rc, err));
      COH_TRY(poll(f, err));
    }
    if (rc) goto cleanup;
  }
cleanup:
  return rc;
}

/* Rounds up to the next multiple of the burst, which no number depends on. */
static int burst(coh_finisher *f, coh_error *err) {
  int rc = COH_OK;
  bool often = f->hooks.save_steps > 0 && f->hooks.save_steps < BURST;
  uint64_t most = is_lm(f) || often || round_work(f) >= long_round ? 1 : BURST;
  do {
    if (!rc) rc = is_lm(f) ? lm_round(f, err) : coh_lbfgs_round(f, err);
    f->round++;
    f->rounds++;
  } while (f->round % most != 0);
  return coh_agree(f->t->grid->world, rc, err);
}

/* The last round that any member took part in. */
static uint64_t last_round(const coh_finisher *f) {
  uint64_t last = 0;
  for (size_t n = 0; n < f->N; n++)
    if (f->member[n].rounds > last) last = f->member[n].rounds;
  return last;
}

/* Rows of metrics become rarer as the finish goes on. */
static bool report_due(const coh_finisher *f) {
  uint64_t every = is_lm(f) ? 5 : 2 * BURST;
  while (f->round >= 20 * every) every *= 2;
  return f->round % every == 0;
}

static int begin(coh_finisher *f, coh_error *err) {
  int rc = start(f, err);
  COH_TRY(coh_agree(f->t->grid->world, rc, err));
  COH_TRY(coh_finisher_share(f, err));
  COH_TRY(report(f, 2, err));
  f->begun = true;
cleanup:
  return rc;
}

int coh_finisher_run(coh_finisher *f, coh_error *err) {
  int rc = COH_OK;
  f->started = f->last_save = coh_seconds();
  f->last_saved = f->round;
  f->rounds = 0;
  bool over = f->begun && count_running(f) == 0;
  if (!f->begun) COH_TRY(begin(f, err));
  while (count_running(f) > 0) {
    COH_TRY(burst(f, err));
    COH_TRY(coh_finisher_share(f, err));
    bool ended = count_running(f) == 0;
    if (ended) f->round = last_round(f);
    if (ended || report_due(f)) COH_TRY(report(f, 2, err));
    COH_TRY(show_progress(f, err));
    if (!ended) COH_TRY(poll(f, err));
  }
  if (f->own) rc = coh_trainer_put_rows(f->t, f->x, err);
  COH_TRY(coh_agree(f->t->grid->world, rc, err));
  if (over) return COH_OK;
  COH_TRY(report(f, 4, err));
  COH_TRY(save(f, err));
cleanup:
  return rc;
}

void coh_finisher_status(const coh_finisher *f, coh_finish_status *s) {
  *s = (coh_finish_status){.method = f->spec.method,
                           .round = f->round,
                           .rounds = f->rounds,
                           .steps = f->spec.steps,
                           .N = f->N,
                           .active = count_running(f),
                           .member = f->member,
                           .seconds = coh_seconds() - f->started};
}
