/* refine.c - the rebuilt network becomes the recovered one: it is fine-tuned, neurons
 * that it turns out not to need are dropped, and linear paths that flips explain; after
 * each of these it is fine-tuned again, and what made the loss worse is undone. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extraction.h"

/* A smaller network is taken if its loss is at most WORSE times that of the larger one,
 * or at most ROUNDING times what rounding makes of the answers. Neurons are dropped
 * together if each changes the answers by less than RISE times the loss, and by a SHARE
 * of their variance; one by one only where the loss is below the share CLOSE, and up to
 * the share TRIAL. A start from one student is taken if it ends BETTER. Networks that
 * Levenberg-Marquardt fine-tunes try STARTS students until the loss is below the share
 * EXACT. */
static const double WORSE = 2, ROUNDING = 1e10, RISE = 10, SHARE = 1e-3, BETTER = 100;
static const double CLOSE = 1e-7, TRIAL = 0.1;
enum { MOST_ROUNDS = 40, MOST_TIMES = 4, STARTS = 4 };

/* ---- losses ---------------------------------------------------------------------- */

/* Mean square error of a network over the query set. */
static int query_loss(const extraction *x, const double *params, double *loss,
                      coh_error *err) {
  int rc;
  const coh_dataset *q = x->query;
  void *p = NULL, *out = NULL;
  double sum = 0;
  COH_TRY(extraction_narrow(q->dtype, x->rebuilt.P, params, &p, err));
  COH_TRY(coh_alloc(&out, q->n * q->n_out, coh_dtype_size(q->dtype), err));
  COH_TRY(
      coh_network_apply(&x->rebuilt, x->dev, p, x->rebuilt.L - 1, q->n, q->x, out, err));
  for (size_t i = 0; i < q->n * q->n_out; i++) {
    double e = coh_get(q->dtype, out, i) - coh_get(q->dtype, q->y, i);
    sum += e * e;
  }
  *loss = sum / (double)(q->n * q->n_out);
cleanup:
  free(p);
  free(out);
  return rc;
}

/* What changes of the answers are measured by. */
typedef struct scale {
  double variance; /* of the answers */
  double least;    /* what rounding makes of them, mean square */
} scale;

static scale scale_of(const coh_dataset *q) {
  scale s = {0};
  double square = 0, rows = (double)q->n, O = (double)q->n_out;
  double eps = q->dtype == COH_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
  for (size_t o = 0; o < q->n_out; o++) {
    double mean = 0, sum = 0;
    for (size_t i = 0; i < q->n; i++)
      mean += coh_get(q->dtype, q->y, i * q->n_out + o) / rows;
    for (size_t i = 0; i < q->n; i++) {
      double d = coh_get(q->dtype, q->y, i * q->n_out + o) - mean;
      sum += d * d / rows;
    }
    s.variance += sum / O;
    square += (sum + mean * mean) / O;
  }
  s.least = eps * eps * square;
  return s;
}

static bool is_exact(double loss, const scale *s) {
  return loss <= ROUNDING * s->least;
}

/* Whether Levenberg-Marquardt fine-tunes it. */
static int is_quick(const extraction *x, bool *quick, coh_error *err) {
  const coh_config *cfg = &x->job->cfg;
  coh_finish_method method;
  int rc = coh_finish_choose(job_finish(cfg, cfg->extraction.finetune_finish), COH_MSE,
                             &x->plan, x->query->n, &method, err);
  *quick = method == COH_FINISH_LM;
  return rc;
}

/* ---- one fine-tuning ------------------------------------------------------------- */

/* A network before and after a fine-tuning; start on every rank, after on rank 0. */
typedef struct attempt {
  char name[32];
  coh_plan plan;
  double *start, *after, loss;
} attempt;

static void attempt_free(attempt *a) {
  free(a->start);
  free(a->after);
  *a = (attempt){0};
}

/* Where the files of tried networks lie. */
static int folder_of_tries(const extraction *x, char *folder, coh_error *err) {
  int rc = coh_format(folder, COH_PATH, err, "%s/tries", x->folder);
  if (!rc && x->job->grid.rank == 0) rc = coh_mkdirs(folder, err);
  return coh_agree(x->job->grid.world, rc, err);
}

static int finetune(extraction *x, attempt *a, bool tried, coh_error *err) {
  int rc;
  coh_trainer *t = NULL;
  char folder[COH_PATH];
  const training g = {.name = a->name,
                      .folder = tried ? folder : NULL,
                      .plan = &a->plan,
                      .N = 1,
                      .data = x->query,
                      .lr_factor = x->found.linear ? 10 : 1,
                      .final = true,
                      .finish_only = tried,
                      .start = a->start};
  if (tried) COH_TRY(folder_of_tries(x, folder, err));
  COH_TRY(extraction_train(x, &g, &t, err));
  extraction_add_seconds(x, t);
  COH_TRY(coh_trainer_evaluate(t, x->query, &a->loss, NULL, err));
  COH_TRY(extraction_gather(x, t, a->plan.P, &a->after, err));
cleanup:
  coh_trainer_destroy(t);
  return rc;
}

/* Plan and start of rank 0 to every rank. */
static int share(const extraction *x, attempt *a, coh_error *err) {
  int rc;
  MPI_Comm world = x->job->grid.world;
  COH_TRY(coh_bcast(world, &a->plan, sizeof a->plan, 0, err));
  rc = a->start ? COH_OK : coh_alloc(&a->start, a->plan.P, sizeof *a->start, err);
  COH_TRY(coh_agree(world, rc, err));
  COH_TRY(coh_bcast(world, a->start, a->plan.P * sizeof *a->start, 0, err));
cleanup:
  return rc;
}

/* Fine-tunes a smaller network; *taken: it takes the place of the one in x. */
static int try(extraction *x, const scale *s, attempt *a, bool *taken, coh_error *err) {
  int rc;
  COH_TRY(share(x, a, err));
  COH_TRY(finetune(x, a, true, err));
  *taken = a->loss <= WORSE * x->loss_kept || is_exact(a->loss, s);
  coh_say(&x->job->sink, COH_INFO, "%s: loss %.3g after %.3g, %s", a->name, a->loss,
          x->loss_kept, *taken ? "taken" : "not taken");
  if (!*taken) return COH_OK;
  free(x->after);
  x->after = a->after;
  a->after = NULL;
  x->plan = a->plan;
  x->loss_kept = a->loss;
cleanup:
  return rc;
}

/* ---- neurons that are not needed --------------------------------------------------- */

/* What is left of each layer; rank 0. */
typedef struct remains {
  coh_pruned layer[COH_MAX_LAYERS];
  size_t dropped;
} remains;

static void remains_free(remains *r) {
  for (size_t l = 0; l < COH_MAX_LAYERS; l++) coh_pruned_free(&r->layer[l]);
}

/* Layer by layer from the output, or layer `only` alone. */
static int prune(const extraction *x, size_t only, double allowed, size_t most,
                 remains *r, attempt *a, coh_error *err) {
  int rc = COH_OK;
  const coh_plan *plan = &x->plan;
  const double *params = x->after;
  for (size_t l = x->plan.L - 1; l-- > 0;) {
    coh_pruned *p = &r->layer[l];
    if (only != l && only != SIZE_MAX) continue;
    COH_TRY(coh_prune_layer(plan, params, l, x->query, allowed, most, p, err));
    if (p->K == p->of) continue;
    r->dropped += p->of - p->K;
    plan = &p->plan;
    params = p->params;
  }
  a->plan = *plan;
  COH_TRY(coh_alloc(&a->start, plan->P, sizeof *a->start, err));
  memcpy(a->start, params, plan->P * sizeof *params);
cleanup:
  return rc;
}

/* The clusters of the neurons that went. */
static void forget_clusters(extraction *x, const remains *r) {
  for (size_t l = 0; l < x->n_layers; l++) {
    if (!r->layer[l].kept) continue;
    coh_clustering *c = x->layer[l].cluster;
    const coh_pruned *p = &r->layer[l];
    size_t next = 0;
    for (size_t k = 0; k < p->of; k++) {
      bool stays = next < p->K && p->kept[next] == k;
      if (stays)
        c->kept[next++] = c->kept[k];
      else
        c->cluster[c->kept[k]].state = COH_CLUSTER_UNNEEDED;
    }
    c->K = p->K;
  }
}

/* What is dropped, and by what leave. */
typedef struct leave {
  size_t layer; /* SIZE_MAX: all */
  double allowed;
  size_t most;
} leave;

static int drop(extraction *x, const scale *s, const leave *v, const char *name,
                bool *taken, coh_error *err) {
  int rc = COH_OK;
  remains r = {0};
  attempt a = {0};
  *taken = false;
  if (x->job->grid.rank == 0) rc = prune(x, v->layer, v->allowed, v->most, &r, &a, err);
  COH_TRY(coh_agree(x->job->grid.world, rc, err));
  COH_TRY(coh_bcast(x->job->grid.world, &r.dropped, sizeof r.dropped, 0, err));
  if (r.dropped == 0) goto cleanup;
  COH_TRY(coh_format(a.name, sizeof a.name, err, "%s", name));
  COH_TRY(try(x, s, &a, taken, err));
  if (*taken && x->job->grid.rank == 0 && !x->alone) forget_clusters(x, &r);
cleanup:
  remains_free(&r);
  attempt_free(&a);
  return rc;
}

/* All that the answers do not need; or, where the fine-tuning has to make up for it, the
 * one neuron of a layer that is missed least, for a network that is close. */
static int drop_some(extraction *x, const scale *s, const char *start, int round,
                     bool *taken, coh_error *err) {
  int rc;
  char name[32];
  double loss = fmax(x->loss_kept, s->least), most = SHARE * s->variance;
  leave v = {SIZE_MAX, fmin(RISE * loss, most), SIZE_MAX};
  COH_TRY(coh_format(name, sizeof name, err, "%spruned_%d", start, round));
  COH_TRY(drop(x, s, &v, name, taken, err));
  if (loss > CLOSE * s->variance) return COH_OK;
  for (v.layer = x->plan.L - 1; v.layer-- > 0 && !*taken;) {
    v.allowed = TRIAL * s->variance;
    v.most = 1;
    COH_TRY(
        coh_format(name, sizeof name, err, "%stried_%d_%zu", start, round, v.layer + 1));
    COH_TRY(drop(x, s, &v, name, taken, err));
  }
cleanup:
  return rc;
}

/* ---- linear paths ---------------------------------------------------------------- */

static int drop_paths(extraction *x, const scale *s, const char *start, bool *taken,
                      coh_error *err) {
  int rc = COH_OK;
  attempt a = {0};
  if (x->job->grid.rank == 0)
    rc = coh_without_paths(&x->plan, x->after, &a.plan, &a.start, err);
  COH_TRY(coh_agree(x->job->grid.world, rc, err));
  COH_TRY(coh_format(a.name, sizeof a.name, err, "%splain", start));
  COH_TRY(try(x, s, &a, taken, err));
cleanup:
  attempt_free(&a);
  return rc;
}

/* ---- one start after the other ----------------------------------------------------- */

/* Drops neurons for as long as that costs nothing; *round goes on. */
static int drop_all(extraction *x, const scale *s, const char *start, int *round,
                    bool *changed, coh_error *err) {
  int rc = COH_OK;
  for (bool taken = true; *round <= MOST_ROUNDS && taken; ++*round) {
    COH_TRY(drop_some(x, s, start, *round, &taken, err));
    *changed |= taken;
  }
cleanup:
  return rc;
}

/* Neurons, then paths; what cancels without paths may have been hidden by them. */
static int shrink(extraction *x, const scale *s, const char *start, bool *changed,
                  coh_error *err) {
  int rc, round = 1;
  bool taken = false;
  COH_TRY(drop_all(x, s, start, &round, changed, err));
  if (!x->found.linear) return COH_OK;
  COH_TRY(drop_paths(x, s, start, &taken, err));
  if (!taken) return COH_OK;
  *changed = true;
  COH_TRY(drop_all(x, s, start, &round, changed, err));
cleanup:
  return rc;
}

/* More of the same fine-tuning, from where it stopped. */
static int go_on(extraction *x, const scale *s, const char *name, bool *taken,
                 coh_error *err) {
  int rc = COH_OK;
  attempt a = {.plan = x->plan};
  if (x->job->grid.rank == 0) {
    rc = coh_alloc(&a.start, a.plan.P, sizeof *a.start, err);
    if (!rc) memcpy(a.start, x->after, a.plan.P * sizeof *a.start);
  }
  COH_TRY(coh_agree(x->job->grid.world, rc, err));
  COH_TRY(coh_format(a.name, sizeof a.name, err, "%s", name));
  COH_TRY(try(x, s, &a, taken, err));
cleanup:
  attempt_free(&a);
  return rc;
}

/* Shrinks; a network that is close but not exact may then still be on its way. */
static int settle(extraction *x, const scale *s, const char *start, bool *changed,
                  coh_error *err) {
  int rc;
  bool quick;
  COH_TRY(is_quick(x, &quick, err));
  COH_TRY(shrink(x, s, start, changed, err));
  for (int k = 1; k <= MOST_TIMES && quick; k++) {
    char name[32];
    bool taken;
    double before = x->loss_kept;
    if (is_exact(before, s) || before > CLOSE * s->variance) break;
    COH_TRY(coh_format(name, sizeof name, err, "%son_%d", start, k));
    COH_TRY(go_on(x, s, name, &taken, err));
    *changed |= taken;
    if (!taken || x->loss_kept > before / 2) break;
    COH_TRY(coh_format(name, sizeof name, err, "%son_%d_", start, k));
    COH_TRY(shrink(x, s, name, changed, err));
  }
cleanup:
  return rc;
}

/* Vectors of layer l of a student over all that a rebuilt layer reads: its linear path is
 * 0. */
static int student_layer(const coh_plan *p, const double *params, size_t l, size_t D,
                         double **out, double **a, coh_error *err) {
  int rc;
  size_t H = p->layer[l].out, own = p->layer[l].in;
  double *w = NULL;
  COH_TRY(coh_neurons_of(p, params, l, &w, a, err));
  COH_TRY(coh_alloc(out, H * D, sizeof **out, err));
  for (size_t h = 0; h < H; h++) {
    memcpy(*out + h * D, w + h * (own + 1), own * sizeof *w);
    (*out)[h * D + D - 1] = w[h * (own + 1) + own];
  }
cleanup:
  free(w);
  return rc;
}

/* Layers `below` and up of the network become those of one student, of plan p. */
static int build_from_student(const extraction *x, size_t below, const coh_plan *p,
                              const double *params, attempt *to, coh_error *err) {
  int rc = COH_OK;
  coh_rebuilt r = x->found;
  double *w[COH_MAX_LAYERS] = {NULL}, *a = NULL;
  for (size_t l = below; l < r.L; l++) {
    free(a);
    a = NULL;
    r.K[l] = p->layer[l - below].out;
    if (l > 0) r.D[l] = r.K[l - 1] + (r.linear ? r.D[l - 1] : 1);
    COH_TRY(student_layer(p, params, l - below, r.D[l], &w[l], &a, err));
    r.w[l] = w[l];
  }
  COH_TRY(coh_rebuilt_network(&r, p->n_out, a, params + p->layer[p->L - 1].b, NULL,
                              &to->plan, &to->start, err));
cleanup:
  for (size_t l = 0; l < COH_MAX_LAYERS; l++) free(w[l]);
  free(a);
  return rc;
}

/* What is in x, to go back to. */
typedef struct result {
  coh_plan plan;
  double *after, loss;
  bool alone;
} result;

static size_t count_neurons(const coh_plan *p) {
  size_t sum = 0;
  for (size_t l = 0; l + 1 < p->L; l++) sum += p->layer[l].out;
  return sum;
}

/* An exact network is better if it is smaller, any other if its loss is. */
static bool is_better(const extraction *x, const scale *s, const result *old) {
  if (is_exact(old->loss, s))
    return is_exact(x->loss_kept, s) &&
           count_neurons(&x->plan) < count_neurons(&old->plan);
  return x->loss_kept <= fmax(old->loss / BETTER, ROUNDING * s->least);
}

/* Starts from `to`; x keeps it if that ends better. */
static int start_from(extraction *x, const scale *s, attempt *to, const char *start,
                      bool *changed, coh_error *err) {
  int rc;
  bool taken = false, own = false;
  result old = {x->plan, x->after, x->loss_kept, x->alone};
  COH_TRY(coh_format(to->name, sizeof to->name, err, "%srecovered", start));
  COH_TRY(share(x, to, err));
  COH_TRY(finetune(x, to, true, err));
  x->plan = to->plan;
  x->after = to->after;
  x->loss_kept = to->loss;
  x->alone = own = true;
  to->after = NULL;
  COH_TRY(settle(x, s, start, &taken, err));
  bool better = is_better(x, s, &old);
  coh_say(&x->job->sink, COH_INFO, "%s: loss %.3g, %s", start, x->loss_kept,
          better ? "taken" : "not taken");
  own = !better;
  *changed |= better;
cleanup:
  if (own) {
    free(x->after);
    x->plan = old.plan;
    x->after = old.after;
    x->loss_kept = old.loss;
    x->alone = old.alone;
  } else if (x->after != old.after) {
    free(old.after);
  }
  return rc;
}

/* Whether the network is as good as can be hoped for: exact, or no worse than the best
 * student where exactness would take too long. One that stems from a student alone may
 * have a neuron too many where pieces of linear functions can be joined in several ways,
 * which another student has not. */
static bool is_good(const extraction *x, const scale *s, bool quick) {
  if (quick && x->alone && x->sym == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING) return false;
  return is_exact(x->loss_kept, s) || (!quick && x->loss_kept <= WORSE * x->student_best);
}

/* The student whose loss is the rank-th lowest. */
static size_t student_of_rank(size_t N, const double *loss, size_t rank) {
  for (size_t n = 0; n < N; n++) {
    size_t before = 0;
    for (size_t m = 0; m < N; m++)
      before += loss[m] < loss[n] || (loss[m] == loss[n] && m < n);
    if (before == rank) return n;
  }
  return 0;
}

/* Even `k`: the last hidden layer of a student on the clustered ones below; odd: all its
 * layers. Students in order of their losses. */
static int start_of(const extraction *x, size_t k, attempt *to, coh_error *err) {
  bool whole = k % 2;
  const coh_plan *p = whole ? &x->whole : &x->upper;
  const double *params = whole ? x->students : x->params;
  size_t n = student_of_rank(x->N, whole ? x->first_loss : x->loss, k / 2);
  return build_from_student(x, whole ? 0 : x->found.L - 1, p, params + n * p->P, to, err);
}

/* The clusters lost something that the students have. */
static int ask_students(extraction *x, const scale *s, bool *changed, coh_error *err) {
  int rc;
  bool quick;
  COH_TRY(is_quick(x, &quick, err));
  size_t most = quick ? STARTS : 1;
  if (most > x->N) most = x->N;
  for (size_t k = x->found.L > 1 ? 0 : 1; k < 2 * most && !is_good(x, s, quick); k++) {
    attempt a = {0};
    char name[32];
    rc = x->job->grid.rank == 0 ? start_of(x, k, &a, err) : COH_OK;
    rc = coh_agree(x->job->grid.world, rc, err);
    if (!rc)
      rc = coh_format(name, sizeof name, err, "%s_%zu_", k % 2 ? "whole" : "upper",
                      k / 2 + 1);
    if (!rc) rc = start_from(x, s, &a, name, changed, err);
    attempt_free(&a);
    COH_TRY(rc);
  }
cleanup:
  return rc;
}

/* ---- all of it ------------------------------------------------------------------- */

/* A network before the changes, for those who want it; the recovered one in its end. */
static int save(const extraction *x, const char *file, const coh_plan *plan,
                const double *params, coh_error *err) {
  int rc;
  char path[COH_PATH];
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s", x->folder, file));
  COH_TRY(coh_model_save(path, x->job->grid.world, plan, COH_F64, 1, 0,
                         x->job->grid.rank == 0, params, err));
cleanup:
  return rc;
}

/* Goes back to the rebuilt network if fine-tuning raised the loss. */
static int keep_better(extraction *x, coh_error *err) {
  int rc = COH_OK;
  x->loss_kept = x->loss_after;
  x->reverted = x->loss_after > x->loss_before;
  COH_TRY(coh_bcast(x->job->grid.world, &x->reverted, sizeof x->reverted, 0, err));
  if (!x->reverted) return COH_OK;
  x->loss_kept = x->loss_before;
  coh_say(&x->job->sink, COH_WARN,
          "fine-tuning raised the loss over the query set from %.3g to %.3g: the rebuilt "
          "network is kept; a smaller extraction.finetune_lr may help",
          x->loss_before, x->loss_after);
  if (x->after) memcpy(x->after, x->before, x->plan.P * sizeof *x->after);
  COH_TRY(save(x, "recovered.h5", &x->rebuilt, x->before, err));
cleanup:
  return rc;
}

/* The rebuilt network is saved first, also for the case that its fine-tuning diverges. */
static int finetune_rebuilt(extraction *x, coh_error *err) {
  int rc;
  attempt a = {.name = "recovered", .plan = x->rebuilt, .start = x->before};
  COH_TRY(query_loss(x, x->before, &x->loss_before, err));
  COH_TRY(save(x, "rebuilt.h5", &x->rebuilt, x->before, err));
  COH_TRY(finetune(x, &a, false, err));
  x->loss_after = a.loss;
  x->after = a.after;
  COH_TRY(keep_better(x, err));
cleanup:
  return rc;
}

int extraction_refine(extraction *x, coh_error *err) {
  int rc;
  const coh_config *cfg = &x->job->cfg;
  bool changed = false;
  COH_TRY(finetune_rebuilt(x, err));
  if (job_finish(cfg, cfg->extraction.finetune_finish) == COH_FINISH_NONE ||
      cfg->extraction.method == COH_REFERENCE)
    return COH_OK;
  const scale s = scale_of(x->query);
  COH_TRY(settle(x, &s, "", &changed, err));
  COH_TRY(ask_students(x, &s, &changed, err));
  if (!changed) return COH_OK;
  x->loss_after = x->loss_kept;
  x->reverted = false;
  COH_TRY(save(x, "recovered.h5", &x->plan, x->after, err));
cleanup:
  return rc;
}
