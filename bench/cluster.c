/* cluster.c - seconds and memory of clustering the neurons of one layer of all students.
 *
 *   mpirun -n RANKS build/bench/cluster [students [neurons [inputs]]]     20 1024 784
 *
 * Rules: students' weights are drawn around a quarter as many centres as a student has
 * neurons, each neuron near one of them (a tenth of the distance between centres), one in
 * eight near none. Times are of rank 0 between barriers (of one
 * rank alone: its processor time): the layer as the extraction does
 * it, from weights to the collapsed neurons; its tree alone (distances and linkage); on
 * rank 0 alone the linkage of a condensed matrix, as SciPy's. Memory is the sum over
 * ranks of each one's largest resident size while the layer is clustered, the caller's
 * weights included. Output: name,value lines.
 */
#include "cohort/extract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int rank, ranks;

static void check(int rc, const coh_error *err) {
  if (rc == COH_OK) return;
  fprintf(stderr, "cluster: %s\n", err->text);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

static double uniform(uint64_t what, uint64_t i) {
  return coh_random_uniform(1, COH_RNG_TEST, what, i) - 0.5;
}

static double *draw_weights(size_t N, size_t H, size_t D) {
  coh_error err;
  double *w, *centre;
  size_t centres = H / 4 ? H / 4 : 1;
  check(coh_alloc(&w, N * H * D, sizeof *w, &err), &err);
  check(coh_alloc(&centre, centres * D, sizeof *centre, &err), &err);
  for (size_t i = 0; i < centres * D; i++) centre[i] = uniform(1, i);
  for (size_t i = 0; i < N * H * D; i++) {
    size_t neuron = i / D;
    bool stray = uniform(2, neuron) > 0.375;
    w[i] = stray ? uniform(3, i)
                 : centre[neuron % centres * D + i % D] + 0.1 * uniform(4, i);
  }
  free(centre);
  return w;
}

/* Largest resident size of this process so far, in GB. */
static double resident(void) {
  char line[256];
  double kb = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, "VmHWM:", 6) == 0) kb = strtod(line + 6, NULL);
  if (f) fclose(f);
  return kb * 1024e-9;
}

static void report(const char *name, double value) {
  if (rank == 0) printf("%s,%.4g\n", name, value);
  fflush(stdout);
}

/* Processor time of one rank, time of the wall for several. */
static double now(void) {
  struct timespec t;
  clock_gettime(ranks == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double start(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  return now();
}

static void time_layer(const coh_layer_view *v) {
  coh_error err = {0};
  coh_clustering *c = NULL;
  coh_cluster_options o = {.symmetry = COH_SYM_NONE,
                           .gamma = 0.5,
                           .beta = 3,
                           .linkage = COH_AVERAGE,
                           .metric = COH_EUCLIDEAN,
                           .cut = COH_CUT_MAX_CLUSTERS,
                           .last_hidden = true};
  double t = start(), most = 0;
  check(coh_cluster_layer(MPI_COMM_WORLD, v, &o, NULL, &c, &err), &err);
  report("layer seconds", now() - t);
  double mine = resident();
  MPI_Reduce(&mine, &most, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  report("memory GB", most);
  if (rank == 0) report("kept clusters", (double)c->K);
  coh_clustering_destroy(c);
}

static void time_tree(const coh_layer_view *v) {
  coh_error err = {0};
  coh_merge *merges = NULL;
  size_t n = v->N * v->H;
  check(coh_alloc(&merges, n, sizeof *merges, &err), &err);
  double t = start();
  check(coh_tree(MPI_COMM_WORLD, &(coh_vectors){.n = n, .D = v->D, .f = v->w, .metric = COH_EUCLIDEAN}, COH_AVERAGE, merges, &err),
        &err);
  report("tree seconds", now() - t);
  free(merges);
}

static void time_linkage(const coh_layer_view *v) {
  coh_error err = {0};
  coh_merge *merges = NULL;
  double *dist = NULL, t = start();
  size_t n = v->N * v->H;
  check(coh_distances(MPI_COMM_WORLD, &(coh_vectors){.n = n, .D = v->D, .f = v->w, .metric = COH_EUCLIDEAN}, &dist, &err),
        &err);
  report("distances seconds", now() - t);
  if (rank == 0) {
    check(coh_alloc(&merges, n, sizeof *merges, &err), &err);
    t = now();
    check(coh_link(n, dist, COH_AVERAGE, merges, &err), &err);
    report("linkage seconds", now() - t);
  }
  free(merges);
  free(dist);
}

int main(int argc, char **argv) {
  size_t shape[3] = {20, 1024, 784};
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  for (int i = 1; i < argc && i <= 3; i++) shape[i - 1] = strtoul(argv[i], NULL, 10);
  size_t N = shape[0], H = shape[1], D = shape[2] + 1;
  coh_error err;
  double *w = NULL, *a = NULL, *loss = NULL;
  if (rank == 0) {
    w = draw_weights(N, H, D);
    check(coh_alloc(&a, N * H * 10, sizeof *a, &err), &err);
    check(coh_alloc(&loss, N, sizeof *loss, &err), &err);
  }
  coh_layer_view view = {.N = N, .H = H, .D = D, .O = 10, .w = w, .a = a, .loss = loss};
  time_layer(&view);
  time_tree(&view);
  time_linkage(&view);
  free(loss);
  free(a);
  free(w);
  MPI_Finalize();
  return 0;
}
