/* pairs.c - the data that networks are compressed on: of a random teacher, or a set of
 * images divided into train and validation (section 8 of the compress contract). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/private.h"

enum { TEACHER_SEED = 35, TRAIN_SEED = 1, VAL_SEED = 2 };
enum { INPUTS, NOISE }; /* steps of COH_RNG_PAIRS */

void coh_compress_data_free(coh_compress_data *d) {
  coh_dataset_free(&d->train);
  coh_dataset_free(&d->val);
  coh_dataset_free(&d->test);
}

static size_t given(int64_t wish, size_t otherwise) {
  return wish > 0 ? (size_t)wish : otherwise;
}

/* ---- teacher-student ------------------------------------------------------------------
 */

/* Scaled by c = 2: the first layer is also shifted by c / 2. */
static void rescale(const coh_plan *p, double *w) {
  for (size_t l = 0; l < 2 && l + 1 < p->L; l++)
    for (size_t i = 0; i < p->layer[l].in * p->layer[l].out; i++)
      w[p->layer[l].w + i] = 2 * w[p->layer[l].w + i] + (l == 0);
}

static int make_teacher(const coh_config *cfg, coh_plan *plan, double **out,
                        coh_error *err) {
  int rc;
  size_t members;
  COH_TRY(coh_plan_parse(cfg->compress.architecture_teacher, COH_TANH, 0, plan, &members,
                         err));
  if (members > 1)
    COH_TRY(coh_fail(err, COH_EUSAGE, "a teacher is one network, not %zu", members));
  COH_TRY(coh_alloc(out, plan->P, sizeof **out, err));
  uint64_t seed = (uint64_t)cfg->experiment.seed + TEACHER_SEED;
  COH_TRY(coh_plan_init(plan, seed, 0, COH_GAIN_UNIFORM, COH_BIAS_UNIFORM,
                        COH_FAN_STUDENT, 1, COH_F64, *out, err));
  rescale(plan, *out);
cleanup:
  if (rc) coh_explain(err, "%s: compress.architecture_teacher", cfg->file);
  return rc;
}

static int draw_set(const coh_plan *plan, const double *teacher, uint64_t seed, size_t n,
                    double noise, coh_dtype dtype, coh_device *dev, coh_dataset *out,
                    coh_error *err) {
  int rc;
  size_t size = coh_dtype_size(dtype), values = n * plan->d_in, targets = n * plan->n_out;
  double *x = NULL, *y = NULL;
  *out = (coh_dataset){.dtype = dtype,
                       .n = n,
                       .d_in = plan->d_in,
                       .shape = {plan->d_in, 1, 1},
                       .n_out = plan->n_out};
  COH_TRY(coh_alloc(&x, values, sizeof *x, err));
  COH_TRY(coh_alloc(&y, targets, sizeof *y, err));
  COH_TRY(coh_alloc(&out->x, values, size, err));
  COH_TRY(coh_alloc(&out->y, targets, size, err));
  for (size_t i = 0; i < values; i++) {
    coh_put(dtype, out->x, i, 2 * coh_random_uniform(seed, COH_RNG_PAIRS, INPUTS, i) - 1);
    x[i] = coh_get(dtype, out->x, i);
  }
  COH_TRY(coh_network_apply(plan, dev, teacher, plan->L - 1, n, x, y, err));
  for (size_t i = 0; i < targets; i++)
    coh_put(dtype, out->y, i,
            y[i] + noise * coh_random_normal(seed, COH_RNG_PAIRS, NOISE, i));
cleanup:
  free(x);
  free(y);
  return rc;
}

int coh_teacher_student(const coh_config *cfg, coh_dtype dtype, coh_compress_data *out,
                        coh_plan *plan, double **teacher, coh_error *err) {
  int rc;
  coh_device *dev = NULL;
  double *own = NULL, noise = cfg->compress.noise;
  uint64_t seed = (uint64_t)cfg->experiment.seed;
  *out = (coh_compress_data){0};
  if (teacher) *teacher = NULL;
  COH_TRY(make_teacher(cfg, plan, &own, err));
  COH_TRY(coh_device_open_cpu(NULL, COH_F64, &dev, err));
  COH_TRY(draw_set(plan, own, seed + TRAIN_SEED, given(cfg->compress.train_set_size, 300),
                   noise, dtype, dev, &out->train, err));
  COH_TRY(draw_set(plan, own, seed + VAL_SEED, given(cfg->compress.val_set_size, 1000),
                   noise, dtype, dev, &out->val, err));
  COH_TRY(draw_set(plan, own, seed + (uint64_t)cfg->compress.test_seed,
                   given(cfg->compress.test_set_size, 5000), noise, dtype, dev,
                   &out->test, err));
  if (teacher) {
    *teacher = own;
    own = NULL;
  }
cleanup:
  coh_device_close(dev);
  free(own);
  return rc;
}

/* ---- images and files -----------------------------------------------------------------
 */

enum { SPLIT_SEED = 123, IMAGE_TRAIN = 45000, VALIDATION = 5000 };

/* Rows perm[first ...] of `all`, in that order. */
static int take_rows(const coh_dataset *all, const uint32_t *perm, size_t n,
                     coh_dataset *out, coh_error *err) {
  int rc;
  size_t size = coh_dtype_size(all->dtype), in = all->d_in * size, to = all->n_out * size;
  *out = *all;
  out->n = n;
  out->x = out->y = NULL;
  out->labels = NULL;
  COH_TRY(coh_alloc(&out->x, n, in, err));
  if (all->y) COH_TRY(coh_alloc(&out->y, n, to, err));
  if (all->labels) COH_TRY(coh_alloc(&out->labels, n, sizeof *out->labels, err));
  for (size_t i = 0; i < n; i++) {
    memcpy((char *)out->x + i * in, (const char *)all->x + perm[i] * in, in);
    if (all->y) memcpy((char *)out->y + i * to, (const char *)all->y + perm[i] * to, to);
    if (all->labels) out->labels[i] = all->labels[perm[i]];
  }
cleanup:
  return rc;
}

int coh_compress_split(const coh_config *cfg, coh_dataset *all, coh_compress_data *out,
                       coh_error *err) {
  int rc = COH_OK;
  uint32_t *perm = NULL;
  size_t n = all->n, train = given(cfg->compress.train_set_size, 0);
  size_t ninth = n / 10 > 0 ? n / 10 : 1;
  size_t val = given(cfg->compress.val_set_size, ninth < VALIDATION ? ninth : VALIDATION);
  if (train == 0 && val < n) train = n - val > IMAGE_TRAIN ? IMAGE_TRAIN : n - val;
  if (train == 0 || train + val > n) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: compress.train_set_size = %zu and compress.val_set_size = %zu: "
                  "dataset.name = %s has %zu samples",
                  cfg->file, train, val, cfg->dataset.name, n);
    goto cleanup;
  }
  COH_TRY(coh_alloc(&perm, n, sizeof *perm, err));
  coh_random_permutation(SPLIT_SEED, COH_RNG_PAIRS, 0, n, perm);
  COH_TRY(take_rows(all, perm, train, &out->train, err));
  COH_TRY(take_rows(all, perm + train, val, &out->val, err));
cleanup:
  free(perm);
  coh_dataset_free(all);
  return rc;
}
