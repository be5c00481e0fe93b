/* jacobian.c - the Gauss-Newton matrix of one member: rows of the Jacobian of all outputs
 * by back-propagating unit vectors, a chunk of samples at a time, then J^T J on the
 * device. */
#include <stdlib.h>
#include <string.h>

#include "train/finish.h"

/* Elements of the Jacobian held at a time; columns of J^T J made at a time. */
enum { ELEMENTS = 1 << 20, MOST_SAMPLES = 1024, BLOCK = 192 };

/* Each sample stands O times in a row, once for each output. */
static int fill_constants(coh_normal *k, coh_error *err) {
  int rc;
  coh_device *dev = k->ens->dev;
  size_t O = k->ens->plan.n_out, R = k->chunk * O;
  uint32_t *index = NULL;
  double *unit = NULL;
  COH_TRY(coh_alloc(&index, R, sizeof *index, err));
  COH_TRY(coh_alloc(&unit, R * O, sizeof *unit, err));
  for (size_t r = 0; r < R; r++) {
    index[r] = (uint32_t)(r / O);
    unit[r * O + r % O] = 1;
  }
  COH_TRY(dev->ops->upload(dev, k->index, index, R * sizeof *index, err));
  COH_TRY(dev->ops->upload(dev, k->dout, unit, R * O * sizeof *unit, err));
cleanup:
  free(index);
  free(unit);
  return rc;
}

int coh_normal_create(coh_objective *o, coh_normal *k, coh_error *err) {
  int rc;
  coh_trainer *t = o->t;
  coh_device *dev = t->dev;
  const coh_device_ops *ops = dev->ops;
  size_t P = t->plan.P, O = t->plan.n_out, size = sizeof(double), square;
  *k = (coh_normal){.o = o, .P = P};
  rc = coh_product(&square, err, O, P, size);
  if (!rc) rc = coh_product(&square, err, P, P, size);
  if (rc) return coh_explain(err, "the matrix of %zu parameters squared", P);
  k->chunk = ELEMENTS / (O * P);
  if (k->chunk > MOST_SAMPLES) k->chunk = MOST_SAMPLES;
  if (k->chunk < 1) k->chunk = 1;
  size_t R = k->chunk * O;
  COH_TRY(coh_ensemble_create(&t->plan, dev, 1, &k->ens, err));
  COH_TRY(coh_workspace_create(&t->plan, dev, 1, R, true, &k->work, err));
  COH_TRY(ops->alloc(dev, R * sizeof *k->index, (void **)&k->index, err));
  COH_TRY(ops->alloc(dev, R * t->plan.d_in * size, &k->x, err));
  COH_TRY(ops->alloc(dev, R * O * size, (void **)&k->dout, err));
  COH_TRY(ops->alloc(dev, R * P * size, (void **)&k->rows, err));
  COH_TRY(ops->alloc(dev, square, (void **)&k->sum, err));
  COH_TRY(fill_constants(k, err));
cleanup:
  return rc;
}

void coh_normal_destroy(coh_normal *k) {
  if (!k->o) return;
  coh_device *dev = k->o->t->dev;
  coh_workspace_destroy(k->work);
  coh_ensemble_destroy(k->ens);
  dev->ops->free(dev, k->index);
  dev->ops->free(dev, k->x);
  dev->ops->free(dev, k->dout);
  dev->ops->free(dev, k->rows);
  dev->ops->free(dev, k->sum);
  *k = (coh_normal){0};
}

/* sum += J^T J of R rows: of each block of columns what lies on and below the diagonal.
 */
static int add_products(coh_normal *k, size_t R, coh_error *err) {
  int rc = COH_OK;
  coh_device *dev = k->ens->dev;
  size_t P = k->P;
  for (size_t c = 0; c < P; c += BLOCK) {
    const coh_gemm g = {.trans_a = true,
                        .N = 1,
                        .M = P - c,
                        .Q = P - c < BLOCK ? P - c : BLOCK,
                        .K = R,
                        .a = k->rows + c,
                        .lda = P,
                        .b = k->rows + c,
                        .ldb = P,
                        .beta = 1,
                        .c = k->sum + c * P + c,
                        .ldc = P};
    COH_TRY(dev->ops->gemm(dev, &g, err));
  }
cleanup:
  return rc;
}

static int add_samples(coh_normal *k, size_t at, size_t samples, coh_error *err) {
  int rc;
  const coh_trainer *t = k->o->t;
  size_t d = t->plan.d_in, R = samples * t->plan.n_out;
  const double *x = (const double *)t->train.x + at * d;
  const coh_gather_args rows = {.S = 1,
                                .R = R,
                                .row_bytes = d * sizeof *x,
                                .src = x,
                                .index = k->index,
                                .dst = k->x};
  void *out;
  COH_TRY(t->dev->ops->gather(t->dev, &rows, err));
  COH_TRY(coh_forward(k->ens, k->work, R, k->x, 0, true, &out, err));
  COH_TRY(coh_backward_rows(k->ens, k->work, R, k->x, k->dout, k->rows, err));
  COH_TRY(add_products(k, R, err));
cleanup:
  return rc;
}

int coh_normal_matrix(coh_normal *k, const double *x, double *h, coh_error *err) {
  int rc;
  const coh_objective *o = k->o;
  coh_trainer *t = o->t;
  size_t P = k->P, bytes = P * P * sizeof(double);
  double scale = 2 / ((double)t->train.host->n * (double)t->plan.n_out);
  COH_TRY(coh_ensemble_set(k->ens, x, err));
  COH_TRY(t->dev->ops->zero(t->dev, k->sum, bytes, err));
  for (size_t at = o->first; at < o->first + o->rows; at += k->chunk) {
    size_t left = o->first + o->rows - at;
    COH_TRY(add_samples(k, at, left < k->chunk ? left : k->chunk, err));
  }
  COH_TRY(coh_reducer_sum(t->reducer, COH_F64, P * P, k->sum, err));
  COH_TRY(t->dev->ops->download(t->dev, h, k->sum, bytes, err));
  for (size_t i = 0; i < P; i++)
    for (size_t j = 0; j <= i; j++) h[i * P + j] *= scale;
cleanup:
  return rc;
}
