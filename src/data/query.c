/* query.c - the query set: what the teacher is asked. Each policy of query.datagen is
 * opened and measured first, then all are written into one matrix. Uses base, config.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/array.h"
#include "data/images.h"

enum { NAME_BYTES = 32, MOST_GRID = 1 << 26 };

typedef struct query query;
typedef struct part part;

/* One policy: `measure` sets n, d_in and shape, `fill` writes rows row..row+n of the
 * result. */
typedef struct policy {
  const char *name; /* NULL: every named image set */
  bool any_width;   /* gives as many values per sample as it is asked for */
  int (*measure)(const query *q, part *p, coh_error *err);
  int (*fill)(const query *q, part *p, size_t row, coh_dataset *out, coh_error *err);
} policy;

struct part {
  char name[NAME_BYTES];
  const policy *policy;
  size_t index; /* among the policies: the `step` of its random numbers */
  size_t n, d_in, shape[3];
  coh_images images; /* image sets */
  coh_array x, y;    /* file; y.data NULL where it has none */
};

struct query {
  const coh_config *cfg;
  char file[COH_PATH]; /* query.file */
  size_t count;
  part *parts; /* [count] */
  size_t n, d_in;
  uint64_t seed;
};

/* ---- image sets ------------------------------------------------------------------- */

static int measure_images(const query *q, part *p, coh_error *err) {
  char root[COH_PATH] = "";
  const char *given = q->cfg->dataset.root;
  int64_t subsample = q->cfg->query.subsample;
  int rc = given[0] ? coh_config_path(q->cfg, given, root, sizeof root, err) : COH_OK;
  if (rc == COH_OK) rc = coh_images_open(&p->images, p->name, root, true, err);
  if (rc != COH_OK) return rc;
  p->d_in = p->images.d_in;
  memcpy(p->shape, p->images.shape, sizeof p->shape);
  p->n = p->images.n;
  if (subsample > 0 && (uint64_t)subsample > p->n)
    return coh_fail(err, COH_EUSAGE, "query.subsample: %s has %zu samples, not %lld",
                    p->name, p->n, (long long)subsample);
  if (subsample > 0) p->n = (size_t)subsample;
  return COH_OK;
}

/* place[i]: row of image i, the position of i among the first `keep` of a permutation. */
static int choose_images(const query *q, const part *p, size_t keep, uint32_t *place,
                         coh_error *err) {
  uint32_t *perm = NULL;
  int rc = coh_alloc(&perm, p->images.n, sizeof *perm, err);
  if (rc != COH_OK) return rc;
  coh_random_permutation(q->seed, COH_RNG_LABELS, p->index, p->images.n, perm);
  for (size_t i = 0; i < p->images.n; i++)
    place[perm[i]] = i < keep ? (uint32_t)i : UINT32_MAX;
  free(perm);
  return COH_OK;
}

static int fill_images(const query *q, part *p, size_t row, coh_dataset *out,
                       coh_error *err) {
  char *x = (char *)out->x + row * q->d_in * coh_dtype_size(out->dtype);
  uint32_t *place = NULL;
  int rc = COH_OK;
  if (q->cfg->query.subsample > 0) {
    COH_TRY(coh_alloc(&place, p->images.n, sizeof *place, err));
    COH_TRY(choose_images(q, p, p->n, place, err));
  }
  COH_TRY(coh_images_read(&p->images, out->dtype, place, x, NULL, err));
cleanup:
  free(place);
  return rc;
}

/* ---- random ----------------------------------------------------------------------- */

static void be_vector(part *p, size_t d_in) {
  p->d_in = p->shape[0] = d_in;
  p->shape[1] = p->shape[2] = 1;
}

static int measure_random(const query *q, part *p, coh_error *err) {
  int64_t n = q->cfg->query.samples;
  if (n <= 0)
    return coh_fail(err, COH_EUSAGE, "query.samples: expected at least 1, found %lld",
                    (long long)n);
  p->n = (size_t)n;
  be_vector(p, q->d_in);
  return COH_OK;
}

static int fill_random(const query *q, part *p, size_t row, coh_dataset *out,
                       coh_error *err) {
  bool uniform = strcmp(q->cfg->query.distribution, "uniform") == 0;
  double range = q->cfg->query.range;
  size_t first = row * q->d_in, total = p->n * q->d_in;
  (void)err;
  for (size_t i = 0; i < total; i++) {
    double v =
        uniform
            ? range * (2 * coh_random_uniform(q->seed, COH_RNG_QUERY, p->index, i) - 1)
            : coh_random_normal(q->seed, COH_RNG_QUERY, p->index, i);
    coh_put(out->dtype, out->x, first + i, v);
  }
  return COH_OK;
}

/* ---- grid ------------------------------------------------------------------------- */

static int measure_grid(const query *q, part *p, coh_error *err) {
  int64_t points = q->cfg->query.grid_points;
  be_vector(p, q->d_in);
  if (points <= 0)
    return coh_fail(err, COH_EUSAGE, "query.grid_points: expected at least 1, found %lld",
                    (long long)points);
  p->n = 1;
  for (size_t i = 0; i < q->d_in; i++) {
    if ((uint64_t)points > MOST_GRID / p->n)
      return coh_fail(
          err, COH_EUSAGE,
          "query.grid_points: %lld points on each of %zu axes are more than the "
          "%d allowed in all; use datagen = random",
          (long long)points, q->d_in, MOST_GRID);
    p->n *= (size_t)points;
  }
  return COH_OK;
}

/* Point k of `points` over [-range, range]; a single one is 0. Symmetric to the last bit.
 */
static double grid_value(size_t k, size_t points, double range) {
  if (points == 1) return 0;
  double last = (double)(points - 1);
  return range * ((2 * (double)k - last) / last);
}

/* The last axis runs fastest. */
static int fill_grid(const query *q, part *p, size_t row, coh_dataset *out,
                     coh_error *err) {
  size_t points = (size_t)q->cfg->query.grid_points;
  (void)err;
  for (size_t i = 0; i < p->n; i++)
    for (size_t j = q->d_in, rest = i; j-- > 0; rest /= points)
      coh_put(out->dtype, out->x, (row + i) * q->d_in + j,
              grid_value(rest % points, points, q->cfg->query.range));
  return COH_OK;
}

/* ---- file ------------------------------------------------------------------------- */

/* [n, d_in], [n, height, width] or [n, channels, height, width]; [n] is one value each.
 */
static int shape_of_x(const query *q, part *p, coh_error *err) {
  const coh_array *x = &p->x;
  if (x->ndim == 0 || coh_array_count(x) == 0)
    return coh_fail(err, COH_EDATA, "%s: X: expected rows of numbers, found none",
                    q->file);
  p->n = x->dim[0];
  be_vector(p, coh_array_count(x) / p->n);
  if (x->ndim < 3) return COH_OK;
  p->shape[0] = x->ndim == 4 ? x->dim[1] : 1;
  p->shape[1] = x->dim[x->ndim - 2];
  p->shape[2] = x->dim[x->ndim - 1];
  return COH_OK;
}

static int check_y(const query *q, const part *p, coh_error *err) {
  const coh_array *y = &p->y;
  if ((y->ndim == 1 || (y->ndim == 2 && y->dim[1] > 0)) && y->dim[0] == p->n)
    return COH_OK;
  return coh_fail(
      err, COH_EDATA,
      "%s: Y: expected [%zu, targets] as X has %zu rows, found %zu dimensions "
      "and %zu rows",
      q->file, p->n, p->n, y->ndim, y->ndim ? y->dim[0] : 0);
}

static int measure_file(const query *q, part *p, coh_error *err) {
  bool has_y = false;
  int rc = COH_OK;
  if (!q->file[0])
    return coh_fail(err, COH_EUSAGE, "query.file: must be set for datagen = file");
  COH_TRY(coh_array_read(q->file, "X", &p->x, err));
  COH_TRY(shape_of_x(q, p, err));
  COH_TRY(coh_array_has(q->file, "Y", &has_y, err));
  if (has_y) {
    COH_TRY(coh_array_read(q->file, "Y", &p->y, err));
    COH_TRY(check_y(q, p, err));
  }
cleanup:
  return rc;
}

/* Writes an array from element `first` on, rounding to `dtype`; all must stay finite. */
static int put_array(const query *q, const coh_array *a, const char *name,
                     coh_dtype dtype, void *to, size_t first, coh_error *err) {
  size_t total = coh_array_count(a), width = a->dim[0] ? total / a->dim[0] : 1;
  for (size_t i = 0; i < total; i++) {
    coh_put(dtype, to, first + i, a->data[i]);
    if (!isfinite(coh_get(dtype, to, first + i)))
      return coh_fail(
          err, COH_EDATA,
          "%s: %s: expected a finite %s number at row %zu, column %zu (counted "
          "from 0), found %g",
          q->file, name, dtype == COH_F64 ? "float64" : "float32", i / width, i % width,
          a->data[i]);
  }
  return COH_OK;
}

static int fill_file(const query *q, part *p, size_t row, coh_dataset *out,
                     coh_error *err) {
  int rc = put_array(q, &p->x, "X", out->dtype, out->x, row * q->d_in, err);
  if (rc == COH_OK && out->y)
    rc = put_array(q, &p->y, "Y", out->dtype, out->y, row * out->n_out, err);
  coh_array_free(&p->x);
  return rc;
}

/* ---- all policies ----------------------------------------------------------------- */

static const policy POLICIES[] = {
    {"random", true, measure_random, fill_random},
    {"grid", true, measure_grid, fill_grid},
    {"file", false, measure_file, fill_file},
    {NULL, false, measure_images, fill_images},
};

static const policy *find_policy(const char *name) {
  const policy *p = POLICIES;
  while (p->name && strcmp(p->name, name) != 0) p++;
  return p->name || coh_images_is_name(name) ? p : NULL;
}

/* Takes the policy text[0..len) without the blanks around it. */
static int name_part(part *p, const char *text, size_t len, coh_error *err) {
  while (len > 0 && isspace((unsigned char)*text)) text++, len--;
  while (len > 0 && isspace((unsigned char)text[len - 1])) len--;
  if (len < sizeof p->name) {
    memcpy(p->name, text, len);
    p->policy = find_policy(p->name);
  }
  if (p->policy) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "query.datagen: no policy is called '%.*s'; there are: "
                  "%s, random, grid, file",
                  (int)(len < 200 ? len : 200), text, coh_dataset_names());
}

static int split(query *q, const char *text, coh_error *err) {
  q->count = 1;
  for (const char *c = text; *c; c++) q->count += *c == '+';
  int rc = coh_alloc(&q->parts, q->count, sizeof *q->parts, err);
  for (size_t i = 0; i < q->count && rc == COH_OK; i++) {
    size_t len = strcspn(text, "+");
    q->parts[i].index = i;
    rc = name_part(&q->parts[i], text, len, err);
    text += len + 1;
  }
  return rc;
}

static int check_width(const query *q, const part *p, coh_error *err) {
  if (p->d_in == q->d_in) return COH_OK;
  return coh_fail(
      err, COH_EUSAGE,
      "query.datagen: expected %zu values per sample, as the teacher or an earlier "
      "policy has, found %zu in %s",
      q->d_in, p->d_in, p->name);
}

/* Those that bring their width come first: it may be the only word on what that is. */
static int measure(query *q, bool any_width, coh_error *err) {
  for (size_t i = 0; i < q->count; i++) {
    part *p = &q->parts[i];
    if (p->policy->any_width != any_width) continue;
    if (any_width && q->d_in == 0)
      return coh_fail(
          err, COH_EUSAGE,
          "query.datagen: %s needs a teacher or another policy to tell the number "
          "of values per sample",
          p->name);
    int rc = p->policy->measure(q, p, err);
    if (rc != COH_OK) return rc;
    if (q->d_in == 0) q->d_in = p->d_in;
    rc = check_width(q, p, err);
    if (rc != COH_OK) return rc;
  }
  return COH_OK;
}

/* The shape of the images among the policies; vectors take it on. */
static int join_shapes(const query *q, coh_dataset *out, coh_error *err) {
  size_t vector[3] = {q->d_in, 1, 1};
  memcpy(out->shape, vector, sizeof vector);
  for (size_t i = 0; i < q->count; i++) {
    const part *p = &q->parts[i];
    if (memcmp(p->shape, vector, sizeof vector) == 0) continue;
    bool first = memcmp(out->shape, vector, sizeof vector) == 0;
    if (!first && memcmp(p->shape, out->shape, sizeof vector) != 0)
      return coh_fail(
          err, COH_EUSAGE,
          "query.datagen: expected images of %zu x %zu x %zu, found %zu x %zu x "
          "%zu in %s",
          out->shape[0], out->shape[1], out->shape[2], p->shape[0], p->shape[1],
          p->shape[2], p->name);
    memcpy(out->shape, p->shape, sizeof vector);
  }
  return COH_OK;
}

static int count_rows(query *q, coh_dataset *out, coh_error *err) {
  bool all_y = true;
  for (size_t i = 0; i < q->count; i++) {
    const part *p = &q->parts[i];
    q->n = p->n > UINT32_MAX - q->n ? UINT32_MAX : q->n + p->n;
    all_y = all_y && p->y.data;
  }
  if (q->n >= UINT32_MAX)
    return coh_fail(err, COH_EUSAGE, "query: %u samples or more are too many",
                    UINT32_MAX);
  out->n = q->n;
  out->d_in = q->d_in;
  /* only `file` brings Y, and all read one file: the widths agree */
  const coh_array *y = &q->parts[0].y;
  out->n_out = !all_y ? 0 : y->ndim == 2 ? y->dim[1] : 1;
  return COH_OK;
}

static int fill(query *q, coh_dataset *out, coh_error *err) {
  size_t width = coh_dtype_size(out->dtype), row = 0, row_bytes = 0;
  int rc = COH_OK;
  if (__builtin_mul_overflow(q->d_in, width, &row_bytes))
    return coh_fail(err, COH_EUSAGE, "query: %zu values per sample are too many",
                    q->d_in);
  COH_TRY(coh_alloc(&out->x, q->n, row_bytes, err));
  if (out->n_out > 0) COH_TRY(coh_alloc(&out->y, q->n, out->n_out * width, err));
  for (size_t i = 0; i < q->count; row += q->parts[i++].n)
    COH_TRY(q->parts[i].policy->fill(q, &q->parts[i], row, out, err));
cleanup:
  return rc;
}

static void release(query *q) {
  for (size_t i = 0; q->parts && i < q->count; i++) {
    coh_images_close(&q->parts[i].images);
    coh_array_free(&q->parts[i].x);
    coh_array_free(&q->parts[i].y);
  }
  free(q->parts);
}

int coh_query_load(const coh_config *cfg, size_t d_in, coh_dtype dtype, coh_dataset *out,
                   coh_error *err) {
  query q = {.cfg = cfg, .d_in = d_in, .seed = (uint64_t)cfg->query.seed};
  int rc = COH_OK;
  *out = (coh_dataset){.dtype = dtype};
  if (cfg->query.file[0])
    COH_TRY(coh_config_path(cfg, cfg->query.file, q.file, sizeof q.file, err));
  COH_TRY(split(&q, cfg->query.datagen, err));
  COH_TRY(measure(&q, false, err));
  COH_TRY(measure(&q, true, err));
  COH_TRY(join_shapes(&q, out, err));
  COH_TRY(count_rows(&q, out, err));
  COH_TRY(fill(&q, out, err));
cleanup:
  release(&q);
  if (rc != COH_OK) coh_dataset_free(out);
  return rc;
}
