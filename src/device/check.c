/* check.c - what callers of the device table promise. */
#include "device/check.h"

int coh_gemm_check(const coh_gemm *g, coh_error *err) {
  size_t a_row = g->trans_a ? g->M : g->K, b_row = g->trans_b ? g->K : g->Q;
  if (g->beta != 0 && g->beta != 1)
    return coh_fail(err, COH_EBUG, "gemm: beta is %g, not 0 or 1", g->beta);
  if (g->lda < a_row || g->ldb < b_row || g->ldc < g->Q)
    return coh_fail(err, COH_EBUG,
                    "gemm: a leading dimension is below its row: %zu %zu %zu", g->lda,
                    g->ldb, g->ldc);
  return COH_OK;
}

int coh_step_check(const coh_step_args *a, coh_error *err) {
  if (!a->pace || !a->lr || !a->wd)
    return coh_fail(err, COH_EBUG, "step: no pace, no learning rates or no decay");
  if (a->kind == COH_ADAM ? !a->m || !a->v : (a->mu != 0) != (a->m != NULL))
    return coh_fail(err, COH_EBUG, "step: moment buffers do not fit the optimiser");
  return COH_OK;
}

static bool fits(const coh_sparse_args *a, const coh_sparse_member *m) {
  bool means = m->penalty == COH_PENALTY_MEANS;
  bool coupled = means || m->penalty == COH_PENALTY_GATES;
  bool all = a->w && a->g && a->m && a->v && a->mask && m->t > 0;
  for (int i = 0; coupled && i < COH_SPARSE_COMPANIONS; i++)
    all = all && a->c[i] && a->cm[i] && a->cv[i];
  for (int i = 0; means && i < COH_SPARSE_MEANS; i++) all = all && a->mean[i];
  return all;
}

int coh_sparse_check(const coh_sparse_args *a, coh_error *err) {
  for (size_t n = 0; n < a->N; n++)
    if (!fits(a, a->member + n))
      return coh_fail(err, COH_EBUG, "sparse: arrays do not fit the penalty");
  return COH_OK;
}

int coh_small_check(const coh_small *s, coh_error *err) {
  if (s->L == 0 || s->L > COH_SMALL_LAYERS)
    return coh_fail(err, COH_EBUG, "small: %zu layers", s->L);
  return COH_OK;
}

int coh_compact_check(size_t count, const uint32_t *keep, coh_error *err) {
  for (size_t i = 0; i < count; i++)
    if (keep[i] < i || (i > 0 && keep[i] <= keep[i - 1]))
      return coh_fail(err, COH_EBUG, "compact: rows to keep are not in rising order");
  return COH_OK;
}
