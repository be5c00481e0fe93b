/* pairs.c - a data set of the user's own: inputs with targets or labels, from one .npz or
 * HDF5 file. Images of known sets are images.c, inputs without answers query.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/array.h"

/* One split of the file. */
typedef struct pairs {
  const char *path;
  bool train;
  coh_dtype dtype;
} pairs;

/* "X", or "X_test" of the test split. */
static const char *named(const pairs *p, const char *name, char out[32]) {
  snprintf(out, 32, "%s%s", name, p->train ? "" : "_test");
  return out;
}

/* a as numbers of the dtype; rows [n]; *width: of a row. */
static int take_numbers(const pairs *p, const char *name, const coh_array *a, size_t n,
                        size_t *width, void **out, coh_error *err) {
  int rc;
  size_t count = coh_array_count(a);
  if (a->ndim == 0 || a->dim[0] != n || count == 0)
    return coh_fail(err, COH_EDATA, "%s: %s: expected %zu rows of numbers, found %zu",
                    p->path, name, n, a->ndim ? a->dim[0] : 0);
  *width = count / n;
  COH_TRY(coh_alloc(out, count, coh_dtype_size(p->dtype), err));
  for (size_t i = 0; i < count; i++) {
    coh_put(p->dtype, *out, i, a->data[i]);
    if (isfinite(coh_get(p->dtype, *out, i))) continue;
    rc = coh_fail(err, COH_EDATA,
                  "%s: %s: expected a finite number at row %zu, column %zu (counted from "
                  "0), found %g",
                  p->path, name, i / *width, i % *width, a->data[i]);
    goto cleanup;
  }
cleanup:
  return rc;
}

static int take_x(const pairs *p, coh_dataset *d, coh_error *err) {
  int rc;
  char name[32];
  coh_array a = {0};
  COH_TRY(coh_array_read(p->path, named(p, "X", name), &a, err));
  d->n = a.ndim ? a.dim[0] : 0;
  COH_TRY(take_numbers(p, name, &a, d->n, &d->d_in, &d->x, err));
  d->shape[0] = a.ndim == 4 ? a.dim[1] : a.ndim == 3 ? 1 : d->d_in;
  d->shape[1] = a.ndim > 2 ? a.dim[a.ndim - 2] : 1;
  d->shape[2] = a.ndim > 2 ? a.dim[a.ndim - 1] : 1;
cleanup:
  coh_array_free(&a);
  return rc;
}

static int take_labels(const pairs *p, const char *name, const coh_array *a,
                       coh_dataset *d, coh_error *err) {
  int rc;
  if (a->ndim != 1 || a->dim[0] != d->n)
    return coh_fail(err, COH_EDATA, "%s: %s: expected [%zu], one label a row of X",
                    p->path, name, d->n);
  COH_TRY(coh_alloc(&d->labels, d->n, sizeof *d->labels, err));
  for (size_t i = 0; i < d->n; i++) {
    double v = a->data[i];
    if (!(v >= 0 && v < 1e6 && v == floor(v)))
      return coh_fail(err, COH_EDATA,
                      "%s: %s: expected a class counted from 0 at row %zu, "
                      "found %g",
                      p->path, name, i, v);
    d->labels[i] = (int32_t)v;
    if ((size_t)v + 1 > d->n_out) d->n_out = (size_t)v + 1;
  }
cleanup:
  return rc;
}

/* Labels where the file has them, else Y. */
static int take_answers(const pairs *p, coh_dataset *d, coh_error *err) {
  int rc;
  char name[32];
  bool labelled = false;
  coh_array a = {0};
  COH_TRY(coh_array_has(p->path, named(p, "labels", name), &labelled, err));
  COH_TRY(coh_array_read(p->path, labelled ? name : named(p, "Y", name), &a, err));
  if (labelled)
    COH_TRY(take_labels(p, name, &a, d, err));
  else
    COH_TRY(take_numbers(p, name, &a, d->n, &d->n_out, &d->y, err));
cleanup:
  coh_array_free(&a);
  return rc;
}

static int load_split(const pairs *p, coh_dataset *out, coh_error *err) {
  int rc;
  *out = (coh_dataset){.dtype = p->dtype};
  COH_TRY(take_x(p, out, err));
  COH_TRY(take_answers(p, out, err));
cleanup:
  if (rc) coh_dataset_free(out);
  return rc;
}

static int check_splits(const char *path, coh_dataset *train, coh_dataset *test,
                        coh_error *err) {
  if (train->d_in != test->d_in || !train->labels != !test->labels)
    return coh_fail(
        err, COH_EDATA,
        "%s: X_test must have as many columns as X, and labels or Y as it has", path);
  if (train->labels && test->n_out > train->n_out)
    return coh_fail(err, COH_EDATA,
                    "%s: labels_test holds class %zu, labels only %zu classes", path,
                    test->n_out - 1, train->n_out);
  if (!train->labels && test->n_out != train->n_out)
    return coh_fail(err, COH_EDATA, "%s: Y_test has %zu columns, Y has %zu", path,
                    test->n_out, train->n_out);
  test->n_out = train->n_out;
  return COH_OK;
}

int coh_pairs_load(const char *path, coh_dtype dtype, coh_dataset *train,
                   coh_dataset *test, coh_error *err) {
  int rc;
  bool has_test = false;
  pairs p = {.path = path, .train = true, .dtype = dtype};
  *train = *test = (coh_dataset){.dtype = dtype};
  COH_TRY(load_split(&p, train, err));
  COH_TRY(coh_array_has(path, "X_test", &has_test, err));
  p.train = false;
  if (has_test) COH_TRY(load_split(&p, test, err));
  if (has_test) COH_TRY(check_splits(path, train, test, err));
cleanup:
  if (rc) {
    coh_dataset_free(train);
    coh_dataset_free(test);
  }
  return rc;
}
