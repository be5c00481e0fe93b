/* treefile.c - the tree of a clustering for those who look at it: the order of its
 * leaves, and an archive of all layers. Figures are drawn elsewhere. Uses base, archive.
 */
#include "cohort/archive.h"
#include "cohort/extract.h"

#include <stdio.h>
#include <stdlib.h>

int coh_leaf_order(size_t n, const coh_merge *merges, size_t *order, coh_error *err) {
  int rc;
  size_t *stack = NULL, depth = 0, at = 0;
  COH_TRY(coh_alloc(&stack, n + 1, sizeof *stack, err));
  if (n > 0) stack[depth++] = n > 1 ? 2 * n - 2 : 0;
  while (depth > 0) {
    size_t node = stack[--depth];
    if (node < n) {
      order[at++] = node;
      continue;
    }
    stack[depth++] = merges[node - n].b;
    stack[depth++] = merges[node - n].a;
  }
cleanup:
  free(stack);
  return rc;
}

/* ---- writing ---------------------------------------------------------------------- */

/* The arrays of a layer in the widths of the file. */
typedef struct packed {
  uint32_t *merges, *order, *cluster, *shown;
  double *height;
  float *distance;
} packed;

static void packed_free(packed *p) {
  free(p->merges);
  free(p->order);
  free(p->cluster);
  free(p->shown);
  free(p->height);
  free(p->distance);
}

static size_t pairs(size_t n) {
  return n ? n * (n - 1) / 2 : 0;
}

static int packed_alloc(packed *p, size_t n, size_t m, coh_error *err) {
  int rc;
  COH_TRY(coh_alloc(&p->merges, 2 * n, sizeof *p->merges, err));
  COH_TRY(coh_alloc(&p->height, n, sizeof *p->height, err));
  COH_TRY(coh_alloc(&p->order, n, sizeof *p->order, err));
  COH_TRY(coh_alloc(&p->cluster, n, sizeof *p->cluster, err));
  COH_TRY(coh_alloc(&p->shown, m, sizeof *p->shown, err));
  COH_TRY(coh_alloc(&p->distance, pairs(m), sizeof *p->distance, err));
cleanup:
  return rc;
}

static int pack(const coh_clustering *c, packed *p, coh_error *err) {
  size_t n = c->n_leaves;
  int rc = packed_alloc(p, n, c->n_shown, err);
  if (rc != COH_OK) return rc;
  for (size_t k = 0; k + 1 < n; k++) {
    p->merges[2 * k] = (uint32_t)c->merges[k].a;
    p->merges[2 * k + 1] = (uint32_t)c->merges[k].b;
    p->height[k] = c->merges[k].height;
  }
  for (size_t i = 0; i < n; i++) p->order[i] = (uint32_t)c->order[i];
  for (size_t i = 0; i < c->N * c->H; i++) {
    size_t leaf = c->leaf ? c->leaf[i] : i;
    if (leaf < n) p->cluster[leaf] = (uint32_t)c->label[i];
  }
  for (size_t i = 0; i < c->n_shown; i++) p->shown[i] = (uint32_t)c->shown[i];
  for (size_t i = 0; i < pairs(c->n_shown); i++) p->distance[i] = (float)c->apart[i];
  return COH_OK;
}

static int put(coh_archive *a, size_t layer, const char *name, coh_type type, size_t ndim,
               size_t n, size_t m, const void *data, coh_error *err) {
  char path[64];
  size_t dim[2] = {n, m};
  int rc = coh_format(path, sizeof path, err, "layer%zu/%s", layer, name);
  return rc ? rc : coh_archive_put(a, path, type, ndim, dim, data, err);
}

static int put_layer(coh_archive *a, size_t layer, const coh_clustering *c,
                     coh_error *err) {
  int rc;
  packed p = {0};
  size_t n = c->n_leaves, m = c->n_shown, merges = n ? n - 1 : 0;
  COH_TRY(pack(c, &p, err));
  COH_TRY(put(a, layer, "merges", COH_T_U32, 2, merges, 2, p.merges, err));
  COH_TRY(put(a, layer, "height", COH_T_F64, 1, merges, 0, p.height, err));
  COH_TRY(put(a, layer, "order", COH_T_U32, 1, n, 0, p.order, err));
  COH_TRY(put(a, layer, "cluster", COH_T_U32, 1, n, 0, p.cluster, err));
  COH_TRY(put(a, layer, "cut", COH_T_F64, 1, 1, 0, &c->cut, err));
  COH_TRY(put(a, layer, "shown", COH_T_U32, 1, m, 0, p.shown, err));
  COH_TRY(put(a, layer, "distance", COH_T_F32, 1, pairs(m), 0, p.distance, err));
cleanup:
  packed_free(&p);
  return rc;
}

int coh_trees_save(const char *path, size_t L, const coh_clustering *const *layer,
                   coh_error *err) {
  coh_archive *a = NULL;
  int rc =
      coh_archive_create(path, COH_TREE_KIND, COH_TREE_FORMAT, MPI_COMM_SELF, &a, err);
  for (size_t l = 0; l < L && rc == COH_OK; l++) rc = put_layer(a, l + 1, layer[l], err);
  if (rc == COH_OK) return coh_archive_commit(a, err);
  coh_archive_abandon(a);
  return rc;
}

/* ---- reading ---------------------------------------------------------------------- */

static int get(coh_archive *a, size_t layer, const char *name, coh_type type, size_t ndim,
               size_t n, size_t m, void *data, coh_error *err) {
  char path[64];
  size_t dim[2] = {n, m};
  int rc = coh_format(path, sizeof path, err, "layer%zu/%s", layer, name);
  return rc ? rc : coh_archive_get(a, path, type, ndim, dim, data, err);
}

static int get_count(coh_archive *a, size_t layer, const char *name, size_t *n,
                     coh_error *err) {
  char path[64];
  size_t ndim = 1;
  int rc = coh_format(path, sizeof path, err, "layer%zu/%s", layer, name);
  return rc ? rc : coh_archive_dims(a, path, &ndim, n, err);
}

/* A tree whose numbers point outside of it would be read beyond its arrays. */
static bool is_sound(const packed *p, size_t n, size_t m) {
  for (size_t k = 0; k + 1 < n; k++)
    if (p->merges[2 * k] >= n + k || p->merges[2 * k + 1] >= n + k) return false;
  for (size_t i = 0; i < n; i++)
    if (p->order[i] >= n) return false;
  for (size_t i = 0; i < m; i++)
    if (p->shown[i] >= n) return false;
  return true;
}

static int unpack(const packed *p, coh_dendrogram *d, coh_error *err) {
  int rc;
  size_t n = d->n, m = d->n_shown;
  COH_TRY(coh_alloc(&d->merges, n, sizeof *d->merges, err));
  COH_TRY(coh_alloc(&d->order, n, sizeof *d->order, err));
  COH_TRY(coh_alloc(&d->cluster, n, sizeof *d->cluster, err));
  COH_TRY(coh_alloc(&d->shown, m, sizeof *d->shown, err));
  COH_TRY(coh_alloc(&d->apart, pairs(m), sizeof *d->apart, err));
  for (size_t k = 0; k + 1 < n; k++) {
    size_t a = p->merges[2 * k], b = p->merges[2 * k + 1];
    d->merges[k] = (coh_merge){.a = a, .b = b, .height = p->height[k]};
    d->merges[k].size =
        (a < n ? 1 : d->merges[a - n].size) + (b < n ? 1 : d->merges[b - n].size);
  }
  for (size_t i = 0; i < n; i++) d->order[i] = p->order[i];
  for (size_t i = 0; i < n; i++) d->cluster[i] = p->cluster[i];
  for (size_t i = 0; i < m; i++) d->shown[i] = p->shown[i];
  for (size_t i = 0; i < pairs(m); i++) d->apart[i] = (double)p->distance[i];
cleanup:
  return rc;
}

static int get_layer(coh_archive *a, size_t layer, const char *path, coh_dendrogram *d,
                     coh_error *err) {
  int rc;
  packed p = {0};
  COH_TRY(get_count(a, layer, "order", &d->n, err));
  COH_TRY(get_count(a, layer, "shown", &d->n_shown, err));
  size_t n = d->n, m = d->n_shown, merges = n ? n - 1 : 0;
  COH_TRY(packed_alloc(&p, n, m, err));
  COH_TRY(get(a, layer, "merges", COH_T_U32, 2, merges, 2, p.merges, err));
  COH_TRY(get(a, layer, "height", COH_T_F64, 1, merges, 0, p.height, err));
  COH_TRY(get(a, layer, "order", COH_T_U32, 1, n, 0, p.order, err));
  COH_TRY(get(a, layer, "cluster", COH_T_U32, 1, n, 0, p.cluster, err));
  COH_TRY(get(a, layer, "cut", COH_T_F64, 1, 1, 0, &d->cut, err));
  COH_TRY(get(a, layer, "shown", COH_T_U32, 1, m, 0, p.shown, err));
  COH_TRY(get(a, layer, "distance", COH_T_F32, 1, pairs(m), 0, p.distance, err));
  if (!is_sound(&p, n, m))
    COH_TRY(coh_fail(err, COH_EDATA, "%s: layer %zu: not a tree", path, layer));
  COH_TRY(unpack(&p, d, err));
cleanup:
  packed_free(&p);
  return rc;
}

int coh_trees_load(const char *path, coh_dendrogram **out, size_t *L, coh_error *err) {
  int rc;
  char name[64];
  coh_archive *a = NULL;
  *out = NULL;
  *L = 0;
  COH_TRY(coh_archive_open(path, COH_TREE_KIND, COH_TREE_FORMAT, MPI_COMM_SELF, &a, err));
  COH_TRY(coh_alloc(out, COH_MAX_LAYERS, sizeof **out, err));
  while (*L < COH_MAX_LAYERS) {
    snprintf(name, sizeof name, "layer%zu/order", *L + 1);
    if (!coh_archive_has(a, name)) break;
    ++*L;
    COH_TRY(get_layer(a, *L, path, *out + *L - 1, err));
  }
cleanup:
  coh_archive_abandon(a);
  if (rc != COH_OK) {
    coh_trees_free(*out, *L);
    *out = NULL;
  }
  return rc;
}

void coh_trees_free(coh_dendrogram *d, size_t L) {
  for (size_t l = 0; d && l < L; l++) {
    free(d[l].merges);
    free(d[l].order);
    free(d[l].cluster);
    free(d[l].shown);
    free(d[l].apart);
  }
  free(d);
}
