/* phase.c - what follows an epoch: best states, pruning within a phase, ends of phases
 * (sections 2.8 and 7 of the compress contract), for each member by itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

static const double most_violations = 0.01, convergence_slack = 1e-10;

/* Members that the same is done to: places in the ensemble. */
typedef struct list {
  size_t n, *index;
  bool *final;
} list;

static void list_free(list *l) {
  free(l->index);
  free(l->final);
}

static int list_make(size_t n, list *l, coh_error *err) {
  int rc;
  *l = (list){0};
  COH_TRY(coh_alloc(&l->index, n, sizeof *l->index, err));
  COH_TRY(coh_alloc(&l->final, n, sizeof *l->final, err));
cleanup:
  return rc;
}

static void list_add(list *l, size_t index, bool final) {
  l->final[l->n] = final;
  l->index[l->n++] = index;
}

/* ---- gates ---------------------------------------------------------------------------
 */

int coh_violations(coh_compress *c, size_t place, double *out, coh_error *err) {
  int rc;
  double *q = NULL;
  size_t open = 0, P = c->plan.P;
  *out = 0;
  if (!coh_has_gates(coh_spec_at(c, place))) return COH_OK;
  COH_TRY(coh_alloc(&q, P, sizeof *q, err));
  COH_TRY(coh_row_get(c, c->array[GATE], place, q, err));
  for (size_t i = 0; i < P; i++) open += q[i] > 0.1 && q[i] < 0.9;
  *out = (double)open / (double)P;
cleanup:
  free(q);
  return rc;
}

static int gates_fit(coh_compress *c, size_t place, bool *fit, coh_error *err) {
  double violations;
  int rc = coh_violations(c, place, &violations, err);
  *fit = violations <= most_violations;
  return rc;
}

/* ---- best state ----------------------------------------------------------------------
 */

static int keep_best(coh_compress *c, const coh_train_view *v, size_t index,
                     coh_error *err) {
  int rc;
  size_t place = v->slot[index];
  coh_squeezed *m = c->member + place;
  const void *from[BEST] = {v->ens->params, v->m,           v->v,
                            c->array[MASK], c->array[TWIN], c->array[GATE]};
  for (int i = 0; i < BEST; i++)
    if (from[i])
      COH_TRY(coh_row_save(c, from[i], i < BEST_MASK ? index : place, c->best[i], place,
                           err));
  m->best_t = m->t;
  m->best_width = m->width;
cleanup:
  return rc;
}

static int return_best(coh_compress *c, const coh_train_view *v, size_t index,
                       coh_error *err) {
  int rc;
  size_t place = v->slot[index];
  coh_squeezed *m = c->member + place;
  void *to[BEST] = {v->ens->params, v->m,           v->v,
                    c->array[MASK], c->array[TWIN], c->array[GATE]};
  for (int i = 0; i < BEST; i++)
    if (to[i])
      COH_TRY(
          coh_row_load(c, to[i], i < BEST_MASK ? index : place, c->best[i], place, err));
  m->t = m->best_t;
  m->width = m->best_width;
cleanup:
  return rc;
}

/* A check of the validation loss that did not fall is a turning point. */
static int look_for_best(coh_compress *c, const coh_train_view *v, size_t index,
                         coh_error *err) {
  int rc = COH_OK;
  size_t place = v->slot[index];
  coh_squeezed *m = c->member + place;
  if (m->previous <= m->val) {
    bool fit;
    COH_TRY(gates_fit(c, place, &fit, err));
    if (fit) {
      m->least = m->turned ? fmin(m->least, m->val) : m->val;
      m->turned++;
    }
    if (m->turned && m->val <= m->least) COH_TRY(keep_best(c, v, index, err));
  }
  m->previous = m->val;
cleanup:
  return rc;
}

/* ---- one member at a check -----------------------------------------------------------
 */

static double *log_of(const coh_compress *c, size_t place) {
  return c->log + place * c->window;
}

static bool has_settled(const coh_compress *c, size_t place, double slack) {
  const coh_compress_spec *s = coh_spec_at(c, place);
  size_t window = coh_saturation_window(s->smoothing_window);
  const double *recent = log_of(c, place) + c->window - window;
  return coh_saturated(recent, c->member[place].length, s->smoothing_window, slack);
}

static bool uses_val(const coh_compress_spec *s, uint64_t phase) {
  return s->converge_val[phase] && s->log_val;
}

static void push_log(coh_compress *c, size_t place) {
  coh_squeezed *m = c->member + place;
  double *log = log_of(c, place);
  memmove(log, log + 1, (c->window - 1) * sizeof *log);
  log[c->window - 1] = uses_val(coh_spec_at(c, place), m->phase) ? m->val : m->train;
  m->length++;
}

static bool is_check_at(const coh_compress_spec *s, uint64_t phase, uint64_t epoch) {
  return epoch % s->prune_window == 0 || epoch == s->max_epochs[phase];
}

static bool is_check(const coh_compress_spec *s, const coh_squeezed *m) {
  return is_check_at(s, m->phase, m->epoch);
}

/* Epochs of a phase in which nothing may end. */
static uint64_t guarded_epochs(const coh_compress_spec *s, uint64_t phase) {
  uint64_t least = s->min_epochs[phase], window = s->smoothing_window + 3;
  return least > window ? least : window;
}

static bool is_guarded(const coh_compress_spec *s, const coh_squeezed *m) {
  return m->epoch < guarded_epochs(s, m->phase);
}

bool coh_asks_val(const coh_compress_spec *s, const coh_squeezed *m) {
  uint64_t epoch = m->epoch + 1, guard = guarded_epochs(s, m->phase);
  if (!uses_val(s, m->phase)) return false;
  if (is_check_at(s, m->phase, epoch)) return true;
  return epoch + coh_saturation_window(s->smoothing_window) > guard;
}

/* Best state, and whether the member is to be pruned within its phase. */
static int check(coh_compress *c, const coh_train_view *v, size_t index, list *shrink,
                 coh_error *err) {
  size_t place = v->slot[index];
  const coh_compress_spec *s = coh_spec_at(c, place);
  coh_squeezed *m = c->member + place;
  if (!is_check(s, m)) return COH_OK;
  if (uses_val(s, m->phase)) {
    int rc = look_for_best(c, v, index, err);
    if (rc) return rc;
  }
  bool last = m->epoch == s->max_epochs[m->phase];
  if (!is_guarded(s, m) && s->shrinking[m->phase] &&
      (last || has_settled(c, place, s->slack)))
    list_add(shrink, index, last);
  return COH_OK;
}

/* Whether the member's phase ends here. */
static int find_end(coh_compress *c, const coh_train_view *v, size_t index, list *ends,
                    coh_error *err) {
  int rc = COH_OK;
  size_t place = v->slot[index];
  const coh_compress_spec *s = coh_spec_at(c, place);
  coh_squeezed *m = c->member + place;
  bool converged = false;
  if (is_check(s, m) && !is_guarded(s, m) && has_settled(c, place, convergence_slack))
    COH_TRY(gates_fit(c, place, &converged, err));
  if (!converged && m->epoch < s->max_epochs[m->phase]) goto cleanup;
  m->result.epochs[m->phase] = (double)m->epoch;
  m->result.converged[m->phase] = converged;
  if (uses_val(s, m->phase) && m->turned && m->val > m->least)
    COH_TRY(return_best(c, v, index, err));
  if (m->phase == REGULARISED)
    list_add(ends, index, true);
  else
    m->phase = OVER;
cleanup:
  return rc;
}

/* ---- the end of the regularised phase -------------------------------------------------
 */

typedef struct loaded {
  coh_compress *c;
  const coh_train_view *v;
  const list *l;
  int rc;
  coh_error *err;
} loaded;

static void row_of(void *ctx, size_t k, double *out) {
  loaded *r = ctx;
  if (!r->rc) r->rc = coh_row_get(r->c, r->v->ens->params, r->l->index[k], out, r->err);
}

/* Losses of the listed members on all sets; gauss: as code lengths. */
static int measure(coh_compress *c, const coh_train_view *v, const list *l, bool before,
                   coh_error *err) {
  int rc = COH_OK;
  double *loss = NULL, *right = NULL;
  loaded rows = {c, v, l, COH_OK, err};
  COH_TRY(coh_alloc(&loss, l->n, sizeof *loss, err));
  COH_TRY(coh_alloc(&right, l->n, sizeof *right, err));
  for (int set = 0; set < 3; set++) {
    if (c->set[set].host->n == 0) continue;
    COH_TRY(coh_probe_rows(c, l->n, row_of, &rows, set, loss, right, err));
    COH_TRY(rows.rc);
    for (size_t k = 0; k < l->n; k++) {
      coh_squeezed *m = c->member + v->slot[l->index[k]];
      bool gauss = coh_spec_at(c, v->slot[l->index[k]])->gauss;
      double value = gauss ? coh_gauss_bits(loss[k], m->width.sigma) : loss[k];
      (before ? m->result.loss_before : m->result.loss_pruned)[set] = value;
      if (before) m->result.accuracy_before[set] = right[k];
    }
  }
cleanup:
  free(loss);
  free(right);
  return rc;
}

static int finetune(coh_compress *c, size_t place, coh_error *err) {
  int rc;
  coh_squeezed *m = c->member + place;
  double *mask = NULL;
  COH_TRY(coh_alloc(&mask, c->plan.P, sizeof *mask, err));
  COH_TRY(coh_row_get(c, c->array[MASK], place, mask, err));
  COH_TRY(coh_violations(c, place, &m->result.violations, err));
  m->result.l0_pruned = coh_count(mask, c->plan.P);
  m->phase = FINETUNING;
  m->epoch = 0;
  m->previous = INFINITY;
  m->turned = 0;
cleanup:
  free(mask);
  return rc;
}

/* All but those without a procedure are pruned. */
static int end_regularised(coh_compress *c, const coh_train_view *v, const list *ends,
                           coh_error *err) {
  int rc;
  list pruned;
  if (ends->n == 0) return COH_OK;
  COH_TRY(list_make(ends->n, &pruned, err));
  for (size_t k = 0; k < ends->n; k++)
    if (coh_spec_at(c, v->slot[ends->index[k]])->procedure != COH_NO_PROCEDURE)
      list_add(&pruned, ends->index[k], true);
  COH_TRY(measure(c, v, ends, true, err));
  COH_TRY(coh_prune(c, v, pruned.n, pruned.index, pruned.final, true, err));
  COH_TRY(measure(c, v, ends, false, err));
  for (size_t k = 0; k < ends->n; k++) COH_TRY(finetune(c, v->slot[ends->index[k]], err));
cleanup:
  list_free(&pruned);
  return rc;
}

/* ---- an epoch ------------------------------------------------------------------------
 */

static bool diverged(const coh_squeezed *m) {
  return !isfinite(m->train) || (m->asked && !isfinite(m->val));
}

int coh_phases(coh_compress *c, const coh_train_view *v, int *state, coh_error *err) {
  int rc = COH_OK;
  size_t N = v->ens ? v->ens->N : 0;
  list shrink = {0}, ends = {0};
  if (N == 0) return COH_OK;
  COH_TRY(list_make(N, &shrink, err));
  COH_TRY(list_make(N, &ends, err));
  for (size_t i = 0; i < N; i++) {
    size_t place = v->slot[i];
    coh_squeezed *m = c->member + place;
    m->epoch++;
    push_log(c, place);
    if (diverged(m))
      state[place] = COH_MEMBER_FAILED;
    else
      COH_TRY(check(c, v, i, &shrink, err));
  }
  COH_TRY(coh_prune(c, v, shrink.n, shrink.index, shrink.final, false, err));
  for (size_t i = 0; i < N; i++)
    if (state[v->slot[i]] == COH_MEMBER_ACTIVE) COH_TRY(find_end(c, v, i, &ends, err));
  COH_TRY(end_regularised(c, v, &ends, err));
  for (size_t i = 0; i < N; i++)
    if (c->member[v->slot[i]].phase == OVER) state[v->slot[i]] = COH_MEMBER_DONE;
cleanup:
  list_free(&shrink);
  list_free(&ends);
  return rc;
}
