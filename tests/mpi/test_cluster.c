/* test_cluster.c - clustering a layer on several ranks: the same as on one, and errors of
 * rank 0 reach every rank. */
#include "extract/rows.h"

#include "mpi_main.h"

#include <math.h>
#include <string.h>

enum { S = 10, H = 8, D = 31, OUT = 3, KINDS = 7 };

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

typedef struct layer {
  double w[S][H][D], a[S][H][OUT], loss[S];
} layer;

static double normal(size_t i) {
  return coh_random_normal(1, COH_RNG_TEST, 9, i);
}

static layer *make_layer(void) {
  layer *y = malloc(sizeof *y);
  assert_non_null(y);
  for (size_t s = 0; s < S; s++) {
    y->loss[s] = fabs(normal(s));
    for (size_t h = 0; h < H; h++) {
      size_t kind = h < KINDS ? h : 100 + s * H + h, at = s * H + h;
      double scale = normal(5000 + at);
      for (size_t d = 0; d < D; d++)
        y->w[s][h][d] =
            scale * (normal(10000 + kind * D + d) + 0.05 * normal(90000 + at * D + d));
      for (size_t o = 0; o < OUT; o++) y->a[s][h][o] = normal(700 + at * OUT + o);
    }
  }
  return y;
}

static coh_layer_view view_of(const layer *y) {
  return (coh_layer_view){S,       H,    D,   OUT, &y->w[0][0][0], &y->a[0][0][0],
                          y->loss, NULL, NULL};
}

static coh_cluster_options options_of(coh_canonical canonical) {
  return (coh_cluster_options){.symmetry = COH_SYM_EVEN_LINEAR_POSITIVE_SCALING,
                               .linear_part = 1,
                               .gamma = 0.5,
                               .beta = 6,
                               .canonical = canonical};
}

static void check_equal(const coh_clustering *x, const coh_clustering *y) {
  assert_int_equal(x->n_clusters, y->n_clusters);
  assert_int_equal(x->K, y->K);
  assert_true(x->K >= KINDS - 1);
  assert_memory_equal(x->merges, y->merges, (S * H - 1) * sizeof *x->merges);
  assert_memory_equal(x->label, y->label, S * H * sizeof *x->label);
  assert_memory_equal(x->sign, y->sign, S * H * sizeof *x->sign);
  assert_memory_equal(x->kept, y->kept, x->K * sizeof *x->kept);
  assert_memory_equal(x->w, y->w, x->K * D * sizeof *x->w);
  assert_memory_equal(x->a, y->a, S * x->K * OUT * sizeof *x->a);
  assert_memory_equal(x->linear, y->linear, S * D * OUT * sizeof *x->linear);
}

static void test_any_number_of_ranks_gives_the_same(void) {
  for (int canonical = COH_CANON_FIRST; canonical <= COH_CANON_DISTANCE; canonical++) {
    layer *y = make_layer();
    coh_layer_view view = view_of(y);
    coh_cluster_options o = options_of((coh_canonical)canonical);
    bool root = mpi_rank == 0;
    coh_clustering *all, *alone;
    OK(coh_cluster_layer(MPI_COMM_WORLD, root ? &view : NULL, root ? &o : NULL, NULL,
                         &all, &err));
    assert_true(root == (all != NULL));
    if (root) {
      OK(coh_cluster_layer(MPI_COMM_SELF, &view, &o, NULL, &alone, &err));
      check_equal(all, alone);
      coh_clustering_destroy(alone);
    }
    coh_clustering_destroy(all);
    free(y);
  }
}

enum { MOST = 101 }; /* vectors of a tree */

/* The tree over all ranks (for odd n with the matrix dealt over them), and that of rank 0
 * alone from a matrix in its memory. */
static void check_tree(size_t n, size_t dims, const double *f, coh_linkage kind) {
  bool root = mpi_rank == 0;
  coh_merge *all = calloc(n + 1, sizeof *all), *alone = calloc(n + 1, sizeof *alone);
  double *dist;
  assert_true(all && alone);
  OK(coh_tree_by(n % 2 ? 2 : MOST, MPI_COMM_WORLD,
                 &(coh_vectors){.n = root ? n : 0,
                                .D = root ? dims : 0,
                                .f = root ? f : NULL,
                                .metric = COH_EUCLIDEAN},
                 root ? kind : COH_AVERAGE, root ? all : NULL, &err));
  if (root) {
    OK(coh_distances(MPI_COMM_SELF,
                     &(coh_vectors){.n = n, .D = dims, .f = f, .metric = COH_EUCLIDEAN},
                     &dist, &err));
    OK(coh_link(n, dist, kind, alone, &err));
    assert_memory_equal(all, alone, n * sizeof *all);
    free(dist);
  }
  free(alone);
  free(all);
}

static void test_a_tree_over_ranks_is_that_of_one(void) {
  enum { DIMS = 5 };
  size_t sizes[] = {0, 1, 2, 3, 4, 5, 9, 35, 66, MOST};
  double *f = malloc(MOST * DIMS * sizeof *f), *ties = malloc(MOST * DIMS * sizeof *f);
  assert_true(f && ties);
  for (size_t i = 0; i < MOST * DIMS; i++) {
    f[i] = normal(4000000 + i);
    ties[i] = round(f[i]); /* on a lattice: many equal distances, and zeros */
  }
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int kind = COH_AVERAGE; kind <= COH_COMPLETE; kind++) {
      check_tree(sizes[i], DIMS, f, (coh_linkage)kind);
      check_tree(sizes[i], DIMS, ties, (coh_linkage)kind);
    }
  free(ties);
  free(f);
}

static void test_errors_reach_every_rank(void) {
  layer *y = make_layer();
  coh_layer_view view = view_of(y);
  coh_cluster_options o = options_of(COH_CANON_FIRST);
  coh_clustering *c;
  y->a[4][1][0] = mpi_rank == 0 ? NAN : 0;
  err.text[0] = 0;
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err),
                   COH_ENUMERIC);
  assert_non_null(strstr(err.text, "student 4"));
  assert_null(c);
  y->a[4][1][0] = 0;
  o.cut = COH_CUT_COUNT;
  o.clusters = S * H; /* every vector alone: none survives */
  assert_int_equal(coh_cluster_layer(MPI_COMM_WORLD, &view, &o, NULL, &c, &err),
                   COH_ENUMERIC);
  assert_non_null(strstr(err.text, "no cluster survives"));
  assert_null(c);
  free(y);
}

static mpi_test tests[] = {
    MPI_TEST(test_any_number_of_ranks_gives_the_same),
    MPI_TEST(test_a_tree_over_ranks_is_that_of_one),
    MPI_TEST(test_errors_reach_every_rank),
};

MPI_MAIN(tests)
