/* model.c - networks on file, in the layout in which users see their tensors: weights
 * [out, in], one row a member. Uses base, comm, archive. */
#include "cohort/net.h"

#include <stdlib.h>
#include <string.h>

static const char *const dtype_names[] = {"float32", "float64"};

/* Copies tensor `t` of one member between the layout in memory, [in, out] at its offset
 * of `params`, and that on file, [out, in]. A bias is a row of either. */
static void copy_tensor(const coh_tensor *t, coh_dtype dtype, bool to_file, void *params,
                        void *file) {
  size_t size = coh_dtype_size(dtype), out = t->dim[0], in = t->dim[1];
  char *memory = (char *)params + t->offset * size;
  for (size_t i = 0; i < in; i++)
    for (size_t o = 0; o < out; o++) {
      char *m = memory + (i * out + o) * size, *f = (char *)file + (o * in + i) * size;
      if (to_file)
        memcpy(f, m, size);
      else
        memcpy(m, f, size);
    }
}

static size_t largest_tensor(const coh_tensor *tensors, size_t count) {
  size_t largest = 0;
  for (size_t t = 0; t < count; t++)
    if (tensors[t].count > largest) largest = tensors[t].count;
  return largest;
}

/* ---- saving ---------------------------------------------------------------------- */

/* The plan: sizes, activation, skips, type. The hidden layers share one activation. */
static int put_plan(coh_archive *a, const coh_plan *p, coh_dtype dtype, coh_error *err) {
  uint64_t sizes[COH_MAX_LAYERS + 1] = {p->d_in};
  uint8_t skip[COH_MAX_LAYERS];
  for (size_t l = 0; l < p->L; l++) {
    sizes[l + 1] = p->layer[l].out;
    skip[l] = p->layer[l].skip;
  }
  size_t n_sizes = p->L + 1;
  int rc;
  COH_TRY(coh_archive_put(a, "sizes", COH_T_U64, 1, &n_sizes, sizes, err));
  COH_TRY(coh_archive_put(a, "skip", COH_T_U8, 1, &p->L, skip, err));
  COH_TRY(coh_archive_put_text(a, "activation", coh_act_name(p->layer[0].act), err));
  COH_TRY(coh_archive_put_text(a, "dtype", dtype_names[dtype], err));
cleanup:
  return rc;
}

static int put_tensor(coh_archive *a, const coh_plan *p, const coh_tensor *t,
                      coh_dtype dtype, size_t N, size_t first, size_t count,
                      const void *params, void *rows, coh_error *err) {
  size_t size = coh_dtype_size(dtype);
  for (size_t n = 0; n < count; n++)
    copy_tensor(t, dtype, true, (char *)params + n * p->P * size,
                (char *)rows + n * t->count * size);
  return coh_archive_put_rows(a, t->name, coh_type_of(dtype), N, t->ndim, t->dim, first,
                              count, rows, err);
}

int coh_model_save(const char *path, MPI_Comm comm, const coh_plan *plan, coh_dtype dtype,
                   size_t N, size_t first, size_t count, const void *params,
                   coh_error *err) {
  coh_tensor tensors[3 * COH_MAX_LAYERS];
  size_t n_tensors = coh_plan_tensors(plan, tensors);
  coh_archive *a = NULL;
  void *rows = NULL;
  int rc = coh_alloc(&rows, count,
                     largest_tensor(tensors, n_tensors) * coh_dtype_size(dtype), err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(coh_archive_create(path, COH_MODEL_KIND, COH_MODEL_FORMAT, comm, &a, err));
  COH_TRY(put_plan(a, plan, dtype, err));
  for (size_t t = 0; t < n_tensors; t++)
    COH_TRY(put_tensor(a, plan, &tensors[t], dtype, N, first, count, params, rows, err));
  rc = coh_archive_commit(a, err);
  a = NULL;
cleanup:
  coh_archive_abandon(a);
  free(rows);
  return rc;
}

/* ---- loading --------------------------------------------------------------------- */

static int parse_activation(const char *text, coh_act *act, coh_error *err) {
  for (coh_act a = COH_RELU; a <= COH_G; a++)
    if (strcmp(text, coh_act_name(a)) == 0) {
      *act = a;
      return COH_OK;
    }
  return coh_fail(err, COH_EDATA, "activation '%s' is not known", text);
}

static int get_activation(coh_archive *a, coh_act *act, coh_error *err) {
  char *text = NULL;
  int rc;
  COH_TRY(coh_archive_get_text(a, "activation", &text, err));
  COH_TRY(parse_activation(text, act, err));
cleanup:
  free(text);
  return rc;
}

static int get_plan(coh_archive *a, coh_plan *plan, coh_error *err) {
  uint64_t stored[COH_MAX_LAYERS + 1];
  uint8_t stored_skip[COH_MAX_LAYERS];
  size_t sizes[COH_MAX_LAYERS + 1], n = 0, axes = 1;
  bool skip[COH_MAX_LAYERS];
  coh_act act = COH_IDENTITY;
  int rc;
  COH_TRY(coh_archive_dims(a, "sizes", &axes, &n, err));
  if (axes != 1 || n < 2 || n > COH_MAX_LAYERS + 1)
    COH_TRY(coh_fail(err, COH_EDATA, "sizes of %zu layers, expected 1 to %d", n - 1,
                     COH_MAX_LAYERS));
  size_t L = n - 1;
  COH_TRY(coh_archive_get(a, "sizes", COH_T_U64, 1, &n, stored, err));
  COH_TRY(coh_archive_get(a, "skip", COH_T_U8, 1, &L, stored_skip, err));
  COH_TRY(get_activation(a, &act, err));
  for (size_t l = 0; l <= L; l++) sizes[l] = (size_t)stored[l];
  for (size_t l = 0; l < L; l++) skip[l] = stored_skip[l] != 0;
  rc = coh_plan_dense(L, sizes, act, skip, plan, err);
  if (rc != COH_OK) err->code = rc = COH_EDATA;
cleanup:
  return rc;
}

/* Members: rows of the first tensor. */
static int get_members(coh_archive *a, const coh_tensor *t, size_t *N, coh_error *err) {
  size_t axes = 3, dim[3] = {0};
  int rc = coh_archive_dims(a, t->name, &axes, dim, err);
  *N = dim[0];
  return rc;
}

static int get_tensor(coh_archive *a, const coh_plan *p, const coh_tensor *t,
                      coh_dtype dtype, size_t N, void *rows, void *params,
                      coh_error *err) {
  const size_t dim[] = {N, t->dim[0], t->dim[1]};
  size_t size = coh_dtype_size(dtype);
  int rc = coh_archive_get(a, t->name, coh_type_of(dtype), t->ndim + 1, dim, rows, err);
  if (rc != COH_OK) return rc;
  for (size_t n = 0; n < N; n++)
    copy_tensor(t, dtype, false, (char *)params + n * p->P * size,
                (char *)rows + n * t->count * size);
  return COH_OK;
}

static int load_open(coh_archive *a, MPI_Comm comm, coh_dtype dtype, coh_plan *plan,
                     size_t *N, void **params, coh_error *err) {
  coh_tensor tensors[3 * COH_MAX_LAYERS];
  size_t size = coh_dtype_size(dtype), n_tensors;
  void *rows = NULL;
  int rc;
  COH_TRY(get_plan(a, plan, err));
  n_tensors = coh_plan_tensors(plan, tensors);
  COH_TRY(get_members(a, &tensors[0], N, err));
  rc = coh_alloc(&rows, *N, largest_tensor(tensors, n_tensors) * size, err);
  if (rc == COH_OK) rc = coh_alloc(params, *N, plan->P * size, err);
  COH_TRY(coh_agree(comm, rc, err));
  for (size_t t = 0; t < n_tensors; t++)
    COH_TRY(get_tensor(a, plan, &tensors[t], dtype, *N, rows, *params, err));
cleanup:
  free(rows);
  return rc;
}

int coh_model_load(const char *path, MPI_Comm comm, coh_dtype dtype, coh_plan *plan,
                   size_t *N, void **params, coh_error *err) {
  coh_archive *a = NULL;
  int rc;
  *params = NULL;
  COH_TRY(coh_archive_open(path, COH_MODEL_KIND, COH_MODEL_FORMAT, comm, &a, err));
  rc = load_open(a, comm, dtype, plan, N, params, err);
  if (rc != COH_OK) coh_explain(err, "model '%s'", path);
  if (rc == COH_OK)
    rc = coh_archive_commit(a, err);
  else
    coh_archive_abandon(a);
cleanup:
  if (rc != COH_OK) {
    free(*params);
    *params = NULL;
  }
  return rc;
}
