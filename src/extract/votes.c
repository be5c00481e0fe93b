/* votes.c - which branches of the tree of merges are neurons that the students agree on.
 * Uses base.
 *
 * No single height cuts the tree: one neuron is known to seven digits where another is
 * known to two. A branch is worth the logarithm of how much further away the rest of the
 * tree is than its own voters are from each other, and the disjoint branches of greatest
 * total worth are taken, bottom up (as the stable clusters of HDBSCAN, Campello et al.
 * 2013). Each student votes once, however many copies it has; and a student may be asked
 * about a neuron only if its loss is so low that it cannot have missed it.
 */
#include "extract/robust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extract/private.h"

/* A student whose loss is below the share CLEAR of a neuron's effect has it; of the
 * others, the best ASKED are asked all the same. Below the share CERTAIN it answers
 * without the neuron if it lacks it, which outweighs the rest. Heights below LEAST are
 * rounding. */
static const double CLEAR = 1e-2, CERTAIN = 1e-6, LEAST = 1e-12;
enum { ASKED = 3 };

typedef struct tally {
  const coh_ballot *b;
  size_t *head, *next; /* [2n - 1], [n]: the leaves below a node are `size` links long */
  double *best, *from; /* [2n - 1] greatest worth below; height where it was elected */
  bool *own;           /* [2n - 1] the node itself is the best choice */
  double *parent;      /* [2n - 1] height where it ends */
  double *effect;      /* [N] */
  bool *present;       /* [N] */
  double asked_loss;   /* of the best ASKED students, the largest */
} tally;

static size_t size_of(const coh_ballot *b, size_t node) {
  return node < b->n ? 1 : b->merges[node - b->n].size;
}

static double height_of(const coh_ballot *b, size_t node) {
  return node < b->n ? 0 : b->merges[node - b->n].height;
}

/* Counts students, electors and votes of one node. */
static void count_votes(tally *t, size_t node, coh_elected *e) {
  const coh_ballot *b = t->b;
  memset(t->present, 0, b->N * sizeof *t->present);
  *e = (coh_elected){.node = node, .height = height_of(b, node)};
  size_t leaf = t->head[node];
  double *largest = t->effect + b->N;
  for (size_t k = 0; k < size_of(b, node); k++, leaf = t->next[leaf]) {
    size_t s = b->student[leaf];
    if (!t->present[s]) largest[s] = 0;
    t->present[s] = true;
    largest[s] = fmax(largest[s], b->effect[leaf]);
  }
  for (size_t s = 0; s < b->N; s++)
    if (t->present[s]) t->effect[e->students++] = largest[s];
  e->effect = coh_median(e->students, t->effect);
  double limit = fmax(CLEAR * e->effect, t->asked_loss);
  for (size_t s = 0; s < b->N; s++) {
    if (!(b->loss[s] <= limit)) continue;
    e->electors++;
    e->votes += t->present[s];
    if (b->loss[s] > CERTAIN * e->effect) continue;
    e->certain++;
    e->certain_votes += t->present[s];
  }
}

/* Two votes, and the share gamma of the electors and of the certain ones among them. */
static bool has_votes(const coh_elected *e, double gamma) {
  double least = gamma * (double)e->electors - 1e-9;
  double least_certain = gamma * (double)e->certain - 1e-9;
  return e->votes >= 2 && (double)e->votes >= least &&
         (double)e->certain_votes >= least_certain;
}

/* Height where the branch below `node` was elected, given that it is: that of the one
 * child that already was, else its own. */
static double elected_height(const tally *t, size_t node) {
  if (node < t->b->n) return 0;
  const coh_merge *m = &t->b->merges[node - t->b->n];
  bool a = !isnan(t->from[m->a]), b = !isnan(t->from[m->b]);
  if (a && b) return m->height;
  if (a || b) return t->from[a ? m->a : m->b];
  return m->height;
}

static double worth(const tally *t, size_t node, double cap) {
  return log(fmax(fmin(t->parent[node], cap), LEAST) / fmax(t->from[node], LEAST));
}

static void weigh(tally *t, size_t node, double gamma, double cap) {
  const coh_ballot *b = t->b;
  coh_elected e;
  double below = 0, gain = 0;
  if (node >= b->n) {
    const coh_merge *m = &b->merges[node - b->n];
    below = t->best[m->a] + t->best[m->b];
  }
  t->from[node] = NAN;
  if (height_of(b, node) <= cap) {
    count_votes(t, node, &e);
    if (has_votes(&e, gamma)) {
      t->from[node] = elected_height(t, node);
      gain = worth(t, node, cap);
    }
  }
  t->own[node] = gain > 0 && gain >= below;
  t->best[node] = t->own[node] ? gain : below;
}

static int larger_first(const void *a, const void *b) {
  const coh_elected *x = a, *y = b;
  if (x->effect != y->effect) return x->effect > y->effect ? -1 : 1;
  return x->node < y->node ? -1 : x->node > y->node;
}

/* Top down: the first node on each branch that is its own best choice. */
static int collect(tally *t, double cap, coh_elected *elected, size_t *count,
                   coh_error *err) {
  int rc;
  const coh_ballot *b = t->b;
  size_t *todo = NULL, n_todo = 1;
  COH_TRY(coh_alloc(&todo, b->n + 1, sizeof *todo, err));
  todo[0] = 2 * b->n - 2;
  *count = 0;
  while (n_todo > 0) {
    size_t node = todo[--n_todo];
    if (t->own[node]) {
      coh_elected *e = &elected[(*count)++];
      count_votes(t, node, e);
      e->gain = worth(t, node, cap);
    } else if (node >= b->n && t->best[node] > 0) {
      todo[n_todo++] = b->merges[node - b->n].a;
      todo[n_todo++] = b->merges[node - b->n].b;
    }
  }
  qsort(elected, *count, sizeof *elected, larger_first);
cleanup:
  free(todo);
  return rc;
}

static void tally_free(tally *t) {
  free(t->head);
  free(t->next);
  free(t->best);
  free(t->from);
  free(t->own);
  free(t->parent);
  free(t->effect);
  free(t->present);
}

/* Lists of leaves: each node's is a run of its parent's. */
static void link_leaves(tally *t) {
  const coh_ballot *b = t->b;
  size_t n = b->n;
  for (size_t i = 0; i < n; i++) t->head[i] = i;
  for (size_t i = 0; i < 2 * n - 1; i++) t->parent[i] = INFINITY;
  size_t *tail = t->head + 2 * n;
  for (size_t i = 0; i < n; i++) tail[i] = i;
  for (size_t k = 0; k + 1 < n; k++) {
    const coh_merge *m = &b->merges[k];
    t->head[n + k] = t->head[m->a];
    t->next[tail[m->a]] = t->head[m->b];
    tail[n + k] = tail[m->b];
    t->parent[m->a] = t->parent[m->b] = m->height;
  }
}

static int tally_create(const coh_ballot *b, tally *t, coh_error *err) {
  int rc;
  size_t nodes = 2 * b->n;
  double *sorted = NULL;
  *t = (tally){.b = b};
  COH_TRY(coh_alloc(&t->head, 2 * nodes, sizeof *t->head, err));
  COH_TRY(coh_alloc(&t->next, b->n, sizeof *t->next, err));
  COH_TRY(coh_alloc(&t->best, nodes, sizeof *t->best, err));
  COH_TRY(coh_alloc(&t->from, nodes, sizeof *t->from, err));
  COH_TRY(coh_alloc(&t->own, nodes, sizeof *t->own, err));
  COH_TRY(coh_alloc(&t->parent, nodes, sizeof *t->parent, err));
  COH_TRY(coh_alloc(&t->effect, 2 * b->N, sizeof *t->effect, err));
  COH_TRY(coh_alloc(&t->present, b->N, sizeof *t->present, err));
  COH_TRY(coh_alloc(&sorted, b->N, sizeof *sorted, err));
  memcpy(sorted, b->loss, b->N * sizeof *sorted);
  coh_sort(sorted, b->N);
  t->asked_loss = sorted[(b->N < ASKED ? b->N : ASKED) - 1];
  link_leaves(t);
cleanup:
  free(sorted);
  return rc;
}

int coh_elect(const coh_ballot *b, double gamma, double cap, coh_elected *elected,
              size_t *count, coh_error *err) {
  int rc;
  tally t = {0};
  *count = 0;
  if (b->n == 0) return COH_OK;
  COH_TRY(tally_create(b, &t, err));
  for (size_t node = 0; node < 2 * b->n - 1; node++) weigh(&t, node, gamma, cap);
  COH_TRY(collect(&t, cap, elected, count, err));
cleanup:
  tally_free(&t);
  return rc;
}

int coh_elected_of(const coh_ballot *b, size_t count, const coh_elected *elected,
                   size_t *of, coh_error *err) {
  int rc;
  size_t *mark = NULL;
  if (b->n == 0) return COH_OK;
  COH_TRY(coh_alloc(&mark, 2 * b->n - 1, sizeof *mark, err));
  for (size_t i = 0; i < 2 * b->n - 1; i++) mark[i] = SIZE_MAX;
  for (size_t k = 0; k < count; k++) mark[elected[k].node] = k;
  for (size_t k = b->n - 1; k-- > 0;)
    if (mark[b->n + k] != SIZE_MAX)
      mark[b->merges[k].a] = mark[b->merges[k].b] = mark[b->n + k];
  memcpy(of, mark, b->n * sizeof *of);
cleanup:
  free(mark);
  return rc;
}
