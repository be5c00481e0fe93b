/* prune.c - the one pruning of networks in training (section 2.3 of the compress
 * contract), of several at once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

double coh_count(const double *mask, size_t P) {
  double sum = 0;
  for (size_t i = 0; i < P; i++) sum += mask[i] != 0;
  return sum;
}

/* ---- from and to the ensemble --------------------------------------------------------
 */

static void release(coh_pruning *j) {
  free(j->p);
  free(j->mask);
  free(j->twin);
  free(j->gate);
}

static int fetch(coh_compress *c, const coh_train_view *v, coh_pruning *j,
                 coh_error *err) {
  int rc;
  size_t P = c->plan.P;
  COH_TRY(coh_alloc(&j->p, P, sizeof(double), err));
  COH_TRY(coh_alloc(&j->mask, P, sizeof(double), err));
  COH_TRY(coh_row_get(c, v->ens->params, j->index, j->p, err));
  COH_TRY(coh_row_get(c, c->array[MASK], j->place, j->mask, err));
  if (!coh_has_gates(coh_spec_at(c, j->place))) goto cleanup;
  COH_TRY(coh_alloc(&j->twin, P, sizeof(double), err));
  COH_TRY(coh_alloc(&j->gate, P, sizeof(double), err));
  COH_TRY(coh_row_get(c, c->array[TWIN], j->place, j->twin, err));
  COH_TRY(coh_row_get(c, c->array[GATE], j->place, j->gate, err));
cleanup:
  return rc;
}

static int store(coh_compress *c, const coh_train_view *v, const coh_pruning *j,
                 coh_error *err) {
  int rc;
  for (size_t i = 0; i < c->plan.P; i++) j->p[i] *= j->mask[i];
  COH_TRY(coh_row_put(c, v->ens->params, j->index, j->p, err));
  COH_TRY(coh_row_put(c, c->array[MASK], j->place, j->mask, err));
  if (!j->gate) goto cleanup;
  COH_TRY(coh_row_put(c, c->array[TWIN], j->place, j->twin, err));
  COH_TRY(coh_row_put(c, c->array[GATE], j->place, j->gate, err));
cleanup:
  return rc;
}

/* ---- thresholds ----------------------------------------------------------------------
 */

typedef struct trials {
  coh_compress *c;
  coh_pruning *const *job;
  int set;
  const size_t *index;
  const double *threshold;
} trials;

static void below_threshold(void *ctx, size_t k, double *out) {
  const trials *t = ctx;
  const coh_pruning *j = t->job[t->index[k]];
  for (size_t i = 0; i < t->c->plan.P; i++)
    out[i] = fabs(j->p[i]) < t->threshold[k] ? 0 : j->p[i] * j->mask[i];
}

static int trial_losses(void *ctx, size_t n, const size_t *index, const double *threshold,
                        double *loss, coh_error *err) {
  trials *t = ctx;
  t->index = index;
  t->threshold = threshold;
  return coh_probe_rows(t->c, n, below_threshold, t, t->set, loss, NULL, err);
}

static double largest(const double *p, size_t n) {
  double most = 0;
  for (size_t i = 0; i < n; i++) most = fmax(most, fabs(p[i]));
  return most;
}

/* Those jobs whose search is on the same set, together. */
static int cut_on(coh_compress *c, size_t n, coh_pruning *const *job, int set,
                  coh_error *err) {
  int rc;
  coh_tamade_search *s = NULL;
  trials t = {.c = c, .job = job, .set = set};
  if (n == 0) return COH_OK;
  COH_TRY(coh_alloc(&s, n, sizeof *s, err));
  for (size_t k = 0; k < n; k++) {
    const coh_compress_spec *spec = coh_spec_at(c, job[k]->place);
    s[k] = (coh_tamade_search){.largest = largest(job[k]->p, c->plan.P),
                               .tolerance = spec->tolerance,
                               .resolution = spec->resolution};
  }
  COH_TRY(coh_tamade(n, s, c->dev->dtype, trial_losses, &t, err));
  for (size_t k = 0; k < n; k++) {
    coh_compress_result *r = &c->member[job[k]->place].result;
    for (size_t i = 0; i < c->plan.P; i++)
      if (fabs(job[k]->p[i]) < s[k].threshold) job[k]->p[i] = 0;
    r->threshold = s[k].threshold;
    r->tamade_steps = (double)s[k].steps;
  }
cleanup:
  free(s);
  return rc;
}

/* At the end of the regularised phase on the set that was asked for; while shrinking on
 * the training set. */
static int cut(coh_compress *c, size_t n, coh_pruning *job, coh_error *err) {
  int rc = COH_OK;
  coh_pruning **list = NULL;
  COH_TRY(coh_alloc(&list, n, sizeof *list, err));
  for (int set = 0; set < 2; set++) {
    size_t count = 0;
    for (size_t k = 0; k < n; k++) {
      const coh_compress_spec *s = coh_spec_at(c, job[k].place);
      if ((job[k].final || !job[k].gate) && set == (s->tamade_val && job[k].ends))
        list[count++] = job + k;
    }
    COH_TRY(cut_on(c, count, list, set, err));
  }
cleanup:
  free(list);
  return rc;
}

/* ---- all of it -----------------------------------------------------------------------
 */

/* Steps 1 to 3, and 4 where gates decide. */
static int before_cut(coh_compress *c, coh_pruning *j, coh_error *err) {
  int rc = COH_OK;
  const coh_compress_spec *s = coh_spec_at(c, j->place);
  coh_squeezed *m = c->member + j->place;
  size_t P = c->plan.P;
  for (size_t i = 0; i < P; i++)
    if (j->mask[i] == 0) j->p[i] = 0;
  if (s->layerwise[m->phase]) COH_TRY(coh_prune_layers(c, j, err));
  if (s->rgp) COH_TRY(coh_random_gradient(c, m, s, j->p, j->mask, err));
  for (size_t i = 0; j->gate && i < P; i++) {
    if (j->p[i] == 0) j->gate[i] = 0;
    if (!j->final && j->gate[i] == 0) j->mask[i] = 0;
  }
cleanup:
  return rc;
}

/* Steps 5 to 7. */
static int after_cut(coh_compress *c, coh_pruning *j, coh_error *err) {
  int rc = COH_OK;
  const coh_compress_spec *s = coh_spec_at(c, j->place);
  coh_squeezed *m = c->member + j->place;
  if (s->rgp) COH_TRY(coh_random_gradient(c, m, s, j->p, j->mask, err));
  if (s->delete_neurons)
    m->result.neurons_deleted +=
        (double)coh_delete_neurons(&c->plan, j->p, j->mask, j->gate, j->twin);
  for (size_t i = 0; i < c->plan.P; i++) {
    if (j->p[i] != 0) continue;
    j->mask[i] = 0;
    if (j->gate) j->gate[i] = 0;
  }
cleanup:
  return rc;
}

int coh_prune(coh_compress *c, const coh_train_view *v, size_t n, const size_t *index,
              const bool *final, bool ends, coh_error *err) {
  int rc = COH_OK;
  coh_pruning *job = NULL;
  if (n == 0) return COH_OK;
  COH_TRY(coh_alloc(&job, n, sizeof *job, err));
  for (size_t k = 0; k < n; k++) {
    job[k] = (coh_pruning){index[k], v->slot[index[k]], final[k], ends, 0, 0, 0, 0};
    COH_TRY(fetch(c, v, job + k, err));
    COH_TRY(before_cut(c, job + k, err));
  }
  COH_TRY(cut(c, n, job, err));
  for (size_t k = 0; k < n; k++) {
    COH_TRY(after_cut(c, job + k, err));
    COH_TRY(store(c, v, job + k, err));
  }
cleanup:
  for (size_t k = 0; job && k < n; k++) release(job + k);
  free(job);
  return rc;
}
