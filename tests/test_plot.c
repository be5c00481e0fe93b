/* test_plot.c - figures and the page from made-up results: trees on file, texts that must
 * be quoted, numbers that are none, and how long large results take. */
#include <math.h>
#include <mpi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "cohort/plot.h"
#include "plot/private.h"
#include "scratch.h"

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

static coh_figures *open_figures(const char *folder) {
  coh_figures *f;
  OK(coh_figures_open(&(coh_figures_spec){.folder = folder, .about = "A 'test' <&>."}, &f,
                      &err));
  return f;
}

static size_t size_of(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

static char *read_all(const char *path) {
  char *text;
  size_t len;
  OK(coh_file_read(path, &text, &len, &err));
  return text;
}

static size_t count(const char *text, const char *what) {
  size_t n = 0;
  for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
  return n;
}

/* ---- texts ------------------------------------------------------------------------- */

static void quotes(void **state) {
  (void)state;
  coh_text t = {0};
  coh_gnuplot_quote(&t, "it's\n`ls` \"x\" é $1 @a");
  assert_string_equal(t.data, "'it''s `ls` \"x\" é $1 @a'");
  coh_text_free(&t);
}

static void tics_are_round(void **state) {
  (void)state;
  coh_text t = {0};
  coh_gnuplot_tics(&t, "x", 0, 18850, false);
  assert_string_equal(t.data, "set xtics ('0' 0, '5k' 5000, '10k' 10000, '15k' 15000)\n");
  t.len = 0;
  coh_gnuplot_tics(&t, "x", -0.5, 0.5, false);
  assert_string_equal(t.data,
                      "set xtics ('-0.4' -0.4, '-0.2' -0.2, '0' 0, '0.2' 0.2, '0.4' "
                      "0.4)\n");
  t.len = 0;
  coh_gnuplot_tics(&t, "x", 3, 3, false); /* one value alone */
  assert_non_null(strstr(t.data, "'3' 3"));
  coh_text_free(&t);
}

static void numbers_of_cells(void **state) {
  (void)state;
  assert_true(isnan(coh_text_number("")));
  assert_true(isnan(coh_text_number("1x")));
  assert_true(isnan(coh_text_number("nan")));
  assert_true(isinf(coh_text_number("inf")));
  assert_true(coh_text_number("1e-3") == 1e-3);
  const double v[] = {1, 2, 3, 5};
  assert_true(coh_quantile(4, v, 0) == 1 && coh_quantile(4, v, 1) == 5);
  assert_true(coh_quantile(4, v, 0.5) == 2.5);
  assert_true(coh_wants_log(3, (const double[]){1, NAN, 100}));
  assert_false(coh_wants_log(3, (const double[]){0, 1, 100}));
  assert_false(coh_wants_log(2, (const double[]){-1, 100}));
}

/* ---- trees ------------------------------------------------------------------------- */

/* A clustering of n leaves that are as well the vectors, all of cluster 0. */
static coh_clustering *tree_of(size_t n) {
  coh_clustering *c;
  OK(coh_alloc(&c, 1, sizeof *c, &err));
  *c = (coh_clustering){.N = 1, .H = n, .n_leaves = n, .cut = 0.5};
  c->n_shown = n < COH_TREE_SHOWN ? n : COH_TREE_SHOWN;
  OK(coh_alloc(&c->merges, n, sizeof *c->merges, &err));
  OK(coh_alloc(&c->order, n, sizeof *c->order, &err));
  OK(coh_alloc(&c->label, n, sizeof *c->label, &err));
  OK(coh_alloc(&c->shown, n, sizeof *c->shown, &err));
  OK(coh_alloc(&c->apart, c->n_shown * c->n_shown, sizeof *c->apart, &err));
  for (size_t i = 0; i < c->n_shown; i++) c->shown[i] = i * n / c->n_shown;
  for (size_t i = 0; i < c->n_shown * c->n_shown; i++)
    c->apart[i] = (double)(i % 97) / 100;
  return c;
}

/* Leaf k + 1 joins all before it. */
static void make_chain(coh_clustering *c) {
  size_t n = c->n_leaves;
  for (size_t k = 0; k + 1 < n; k++)
    c->merges[k] = (coh_merge){k ? n + k - 1 : 0, k + 1, k + 2, 0.001 * (double)(k + 1)};
  OK(coh_leaf_order(n, c->merges, c->order, &err));
}

static void order_of_leaves(void **state) {
  (void)state;
  /* ((3, 1), ((0, 4), 2)) */
  const coh_merge m[] = {{1, 3, 2, 1}, {0, 4, 2, 2}, {2, 6, 3, 3}, {5, 7, 5, 4}};
  size_t order[5];
  OK(coh_leaf_order(5, m, order, &err));
  const size_t expected[] = {1, 3, 2, 0, 4};
  assert_memory_equal(order, expected, sizeof order);
  OK(coh_leaf_order(1, NULL, order, &err));
  assert_int_equal(order[0], 0);
}

static void trees_on_file(void **state) {
  (void)state;
  coh_dendrogram *d;
  size_t L;
  coh_clustering *c[2] = {tree_of(1), tree_of(450)};
  make_chain(c[0]);
  make_chain(c[1]);
  c[1]->label[7] = 3;
  OK(coh_trees_save(scratch("tree.h5"), 2, (const coh_clustering *const *)c, &err));
  OK(coh_trees_load(scratch("tree.h5"), &d, &L, &err));
  assert_int_equal(L, 2);
  assert_int_equal(d[0].n, 1);
  assert_int_equal(d[1].n, 450);
  assert_int_equal(d[1].n_shown, COH_TREE_SHOWN);
  for (size_t k = 0; k < 449; k++)
    assert_memory_equal(d[1].merges + k, c[1]->merges + k, sizeof *d[1].merges);
  assert_memory_equal(d[1].order, c[1]->order, 450 * sizeof *d[1].order);
  assert_int_equal(d[1].cluster[7], 3);
  assert_true(d[1].cut == 0.5);
  assert_true(fabs(d[1].apart[5] - c[1]->apart[5]) < 1e-7);
  coh_trees_free(d, L);
  c[1]->merges[3].b = 5000; /* no leaf, and no merge before it */
  OK(coh_trees_save(scratch("bad.h5"), 2, (const coh_clustering *const *)c, &err));
  assert_int_equal(coh_trees_load(scratch("bad.h5"), &d, &L, &err), COH_EDATA);
  assert_non_null(strstr(err.text, "layer 2: not a tree"));
  coh_clustering_destroy(c[0]);
  coh_clustering_destroy(c[1]);
}

/* ---- an extraction's folder
 * ------------------------------------------------------------ */

static void write_text(const char *folder, const char *name, const coh_text *t) {
  char path[COH_PATH];
  OK(coh_format(path, sizeof path, &err, "%s/%s", folder, name));
  assert_int_equal(scratch_write(path, t->data, t->len), 0);
}

static coh_config extraction_config(void) {
  coh_config cfg;
  coh_config_defaults(&cfg, COH_JOB_EXTRACT);
  OK(coh_config_set(&cfg, "model.name=students_mnist_lenet(80)_256", &err));
  OK(coh_config_set(&cfg, "query.datagen=mnist", &err));
  OK(coh_config_set(&cfg, "extraction.gamma=0.5", &err));
  return cfg;
}

/* K clusters of n / K leaves each: the even ones halve themselves, the odd ones are
 * chains; the last merges join the clusters. */
static void make_clusters(coh_clustering *c, size_t K) {
  size_t n = c->n_leaves, S = n / K, k = 0, *top = NULL;
  OK(coh_alloc(&top, n, sizeof *top, &err));
  for (size_t i = 0; i < n; i++) top[i] = i, c->label[i] = i / S;
  for (size_t left = S; left > 1; left--) /* a merge of every cluster in turn */
    for (size_t q = 0; q < K; q++) {
      size_t *t = top + q * S, a = q % 2 ? 0 : left % 3 % left, b = left - 1;
      if (a == b) a = 0;
      double h = 1e-5 * exp(8 * (double)k / (double)(n - K));
      c->merges[k] =
          (coh_merge){t[a] < t[b] ? t[a] : t[b], t[a] < t[b] ? t[b] : t[a], 0, h};
      t[a] = n + k++;
    }
  for (size_t q = 1; q < K; q++, k++) {
    size_t a = top[0], b = top[q * S];
    c->merges[k] = (coh_merge){a < b ? a : b, a < b ? b : a, 0, 1 + 0.001 * (double)q};
    top[0] = n + k;
  }
  OK(coh_leaf_order(n, c->merges, c->order, &err));
  free(top);
}

static void write_tables(const char *folder, size_t K, size_t S) {
  coh_text clusters = {0}, neurons = {0};
  coh_text_add(&clusters,
               "layer,cluster,state,size,students,median_cosine_distance,votes,"
               "electors,spread,effect,loss_without,flat_students\n");
  coh_text_add(&neurons, "layer,when,kind,neuron,partner,w_distance,a_distance,sign,"
                         "out_norm\n");
  for (size_t k = 0; k < K; k++) {
    coh_text_add(&clusters, "1,%zu,%s,%zu,%zu,1e-05,70,80,%g,1,1,0\n", k,
                 k % 7 ? "kept" : "unneeded", S, S, 0.001 * (double)(k + 1));
    coh_text_add(&neurons, "1,rebuilt,teacher,%zu,%zu,1e-6,1e-7,1,%g\n", k, k, 1.0);
  }
  for (size_t k = 0; k < K; k++)
    coh_text_add(&neurons, "1,finetuned,%s,%zu,%zu,%s,1e-9,-1,1\n",
                 k + 3 < K ? "teacher" : "excess", k, k, k == 5 ? "nan" : "1e-10");
  write_text(folder, "clusters.csv", &clusters);
  write_text(folder, "neurons.csv", &neurons);
  coh_text_free(&clusters);
  coh_text_free(&neurons);
}

static void write_network(const char *folder, size_t K) {
  coh_plan plan;
  double *p;
  char path[COH_PATH];
  OK(coh_plan_dense(2, (const size_t[]){784, K, 10}, COH_TANH, NULL, &plan, &err));
  OK(coh_alloc(&p, plan.P, sizeof *p, &err));
  for (size_t i = 0; i < plan.P; i++) p[i] = sin((double)i);
  OK(coh_format(path, sizeof path, &err, "%s/recovered.h5", folder));
  OK(coh_model_save(path, MPI_COMM_SELF, &plan, COH_F64, 1, 0, 1, p, &err));
  free(p);
}

static void write_metrics(const char *folder, size_t members, size_t steps) {
  coh_text t = {0};
  coh_text_add(&t, "step,name,member,value\n");
  for (size_t s = 0; s < steps; s++)
    for (size_t m = 0; m < members; m++) {
      coh_text_add(&t, "%zu,train_loss,%zu,", 10 * s, m);
      if (m == 3 && s > 5)
        coh_text_add(&t, "nan\n");
      else
        coh_text_add(&t, "%g\n", exp(-(double)(s + m) / 20));
    }
  write_text(folder, "metrics.csv", &t);
  coh_text_free(&t);
}

/* 80 students of 256 neurons, and all of their files. */
static void large_extraction(void **state) {
  (void)state;
  enum { K = 256, S = 80 };
  coh_config cfg = extraction_config();
  char folder[COH_PATH], path[COH_PATH], plots[COH_PATH], page[COH_PATH];
  OK(coh_format(folder, sizeof folder, &err, "%s", scratch("large")));
  OK(coh_format(plots, sizeof plots, &err, "%s/plots", folder));
  OK(coh_format(page, sizeof page, &err, "%s/report.html", folder));
  OK(coh_mkdirs(folder, &err));
  coh_clustering *c = tree_of(K * S);
  make_clusters(c, K);
  OK(coh_format(path, sizeof path, &err, "%s/tree.h5", folder));
  OK(coh_trees_save(path, 1, (const coh_clustering *const *)&c, &err));
  coh_clustering_destroy(c);
  write_tables(folder, K, S);
  write_network(folder, K);
  write_metrics(folder, S, 40);
  double start = coh_seconds();
  coh_figures *f = open_figures(plots);
  OK(coh_format(path, sizeof path, &err, "%s/metrics.csv", folder));
  OK(coh_plot_students(f, path, &cfg, &err));
  OK(coh_plot_clusters(f, folder, &cfg, &err));
  OK(coh_plot_recovered(f, folder, NULL, 0, &err));
  coh_page p = {.title = "large", .summary = "", .files = "plots"};
  OK(coh_page_write(page, &p, f, &err));
  double seconds = coh_seconds() - start;
  assert_string_equal(coh_figures_notes(f), "");
  assert_int_equal(coh_figures_count(f), 8);
  for (size_t i = 0; i < 8; i++) assert_true(coh_figures_get(f, i)->drawn);
  coh_figures_close(f);
  print_message("20480 neurons: %.2f s, page of %zu bytes\n", seconds, size_of(page));
  assert_true(seconds < 30);
  assert_in_range(size_of(page), 100000, 5000000);
  /* what can be seen: some branches a column at most */
  OK(coh_format(path, sizeof path, &err, "%s/dendrogram.csv", plots));
  char *csv = read_all(path);
  assert_in_range(count(csv, "\n\n"), 500, 5000);
  free(csv);
}

/* Where everything can be seen, every merge is drawn. */
static void small_tree_is_whole(void **state) {
  (void)state;
  coh_config cfg = extraction_config();
  const char *folder = scratch("small"), *path;
  OK(coh_mkdirs(folder, &err));
  coh_clustering *c = tree_of(60);
  make_clusters(c, 6);
  path = scratch("small/tree.h5");
  OK(coh_trees_save(path, 1, (const coh_clustering *const *)&c, &err));
  coh_clustering_destroy(c);
  write_tables(scratch("small"), 6, 10);
  coh_figures *f = open_figures(scratch("small/plots"));
  OK(coh_plot_clusters(f, scratch("small"), &cfg, &err));
  coh_figures_close(f);
  char *csv = read_all(scratch("small/plots/dendrogram.csv"));
  /* 59 merges of four points each */
  size_t lines = 0;
  for (const char *at = csv; at; at = strchr(at, '\n')) {
    at += *at == '\n';
    lines += *at >= '0' && *at <= '9';
  }
  assert_int_equal(lines, 59 * 4);
  free(csv);
}

/* A tree of one leaf, and of equal heights, is no reason to fail. */
static void odd_trees(void **state) {
  (void)state;
  coh_config cfg = extraction_config();
  coh_clustering *c[2] = {tree_of(1), tree_of(3)};
  make_chain(c[0]);
  make_chain(c[1]);
  for (size_t k = 0; k < 2; k++) c[1]->merges[k].height = 0;
  for (size_t k = 0; k < 9; k++) c[1]->apart[k] = 0;
  OK(coh_mkdirs(scratch("odd"), &err));
  OK(coh_trees_save(scratch("odd/tree.h5"), 2, (const coh_clustering *const *)c, &err));
  coh_clustering_destroy(c[0]);
  coh_clustering_destroy(c[1]);
  coh_figures *f = open_figures(scratch("odd/plots"));
  OK(coh_plot_clusters(f, scratch("odd"), &cfg, &err));
  assert_non_null(strstr(coh_figures_notes(f), "layer 1: a tree of 1 neurons"));
  assert_null(strstr(coh_figures_notes(f), "gnuplot could not"));
  coh_figures_close(f);
  assert_true(size_of(scratch("odd/plots/dendrogram-layer2.svg")) > 0);
}

/* Networks of one input, of one output, of one neuron. */
static void narrow_networks(void **state) {
  (void)state;
  static const size_t sizes[3][3] = {{1, 1, 1}, {1, 40, 1}, {700, 1, 3}};
  for (size_t i = 0; i < 3; i++) {
    char folder[COH_PATH], path[COH_PATH];
    coh_plan plan;
    double *p;
    OK(coh_format(folder, sizeof folder, &err, "%s%zu", scratch("narrow"), i));
    OK(coh_format(path, sizeof path, &err, "%s/recovered.h5", folder));
    OK(coh_mkdirs(folder, &err));
    OK(coh_plan_dense(2, sizes[i], COH_TANH, NULL, &plan, &err));
    OK(coh_alloc(&p, plan.P, sizeof *p, &err));
    for (size_t k = 0; k < plan.P; k++) p[k] = k % 3 ? sin((double)k) : 0;
    OK(coh_model_save(path, MPI_COMM_SELF, &plan, COH_F64, 1, 0, 1, p, &err));
    free(p);
    coh_figures *f = open_figures(folder);
    OK(coh_plot_recovered(f, folder, NULL, 0, &err));
    OK(coh_plot_layers(f, path, &err));
    assert_string_equal(coh_figures_notes(f), "");
    assert_int_equal(coh_figures_count(f), 3);
    coh_figures_close(f);
  }
}

/* ---- many runs
 * ------------------------------------------------------------------------- */

/* A table of n runs: three parameters, a seed, names that need quotes, and measures of
 * which some are no number. */
static void write_runs(const char *path, size_t n) {
  coh_text t = {0};
  coh_text_add(&t, "run,run_id,training.lr,model.name,training.weight_decay,"
                   "experiment.seed,status,error,test_accuracy,l0_norm,time_s,hosts\n");
  for (size_t i = 0; i < n; i++) {
    bool failed = i % 50 == 7;
    coh_text_add(&t, "%zu,id%zu,%g,\"it's \"\"%zu\"\", é\",%g,%zu,%s,%s,", i, i,
                 pow(10, -(double)(i % 10) / 2), i / 10 % 5, 0.1 * (double)(i / 50 % 4),
                 i / 200, failed ? "failed" : "done", failed ? "<b>loss & co</b>" : "");
    if (failed)
      coh_text_add(&t, ",,,n1\n");
    else if (i % 50 == 8)
      coh_text_add(&t, "nan,inf,1,n1\n");
    else
      coh_text_add(&t, "%g,%zu,%g,n1\n", 0.5 + 0.4 * sin((double)i), 1000 + i * 7 % 900,
                   1 + (double)(i % 3));
  }
  assert_int_equal(scratch_write(path, t.data, t.len), 0);
  coh_text_free(&t);
}

static void large_sweep(void **state) {
  (void)state;
  coh_table t;
  write_runs(scratch("runs.csv"), 1000);
  double start = coh_seconds();
  OK(coh_table_read(scratch("runs.csv"), &t, &err));
  coh_figures *f = open_figures(scratch("sweep"));
  OK(coh_plot_runs(f, &(coh_plot_sweep){.runs = &t}, &err));
  coh_page_table table = {"Runs", &t, NULL};
  coh_page p = {.title = "<1000>",
                .summary = "a & b",
                .files = "sweep",
                .n_table = 1,
                .table = &table};
  OK(coh_page_write(scratch("sweep.html"), &p, f, &err));
  double seconds = coh_seconds() - start;
  print_message("1000 runs: %.2f s, page of %zu bytes\n", seconds,
                size_of(scratch("sweep.html")));
  assert_true(seconds < 10);
  assert_in_range(size_of(scratch("sweep.html")), 50000, 5000000);
  assert_string_equal(coh_figures_notes(f), "");
  assert_int_equal(coh_figures_count(f), 7);
  coh_figures_close(f);
  coh_table_free(&t);
  char *page = read_all(scratch("sweep.html"));
  assert_int_equal(count(page, "<tr>"), 1001);
  assert_non_null(strstr(page, "&lt;1000&gt;"));
  assert_non_null(strstr(page, "&lt;b&gt;loss &amp; co&lt;/b&gt;"));
  assert_null(strstr(page, "<b>loss"));
  free(page);
}

/* Losses have a logarithmic axis unless one is negative, as a code length may be: a curve
 * must not end where it crosses zero. */
static void negative_losses(void **state) {
  (void)state;
  static const char *const last[] = {"0.01", "-1.5"};
  coh_config cfg = extraction_config();
  cfg.experiment.job = COH_JOB_COMPRESS;
  for (int i = 0; i < 2; i++) {
    char path[COH_PATH];
    coh_text t = {0};
    OK(coh_format(path, sizeof path, &err, "%s", scratch("negative.csv")));
    coh_text_add(&t, "step,name,member,value\n0,train_loss,0,10\n5,train_loss,0,%s\n",
                 last[i]);
    assert_int_equal(scratch_write(path, t.data, t.len), 0);
    coh_text_free(&t);
    coh_figures *f = open_figures(scratch("negative"));
    OK(coh_plot_training(f, path, &cfg, &err));
    coh_figures_close(f);
    char *script = read_all(scratch("negative/loss.gp"));
    assert_int_equal(strstr(script, "logscale y") != NULL, i == 0);
    free(script);
  }
}

/* The front is what no other run beats; by hand. */
static void pareto_front(void **state) {
  (void)state;
  coh_table t;
  static const char csv[] = "run,training.lr,status,l0_norm,test_accuracy\n"
                            "0,1,done,10,0.5\n1,2,done,20,0.9\n2,3,done,30,0.8\n"
                            "3,4,done,10,0.6\n4,5,done,40,0.95\n5,6,failed,1,1\n"
                            "6,7,done,5,nan\n";
  assert_int_equal(scratch_write(scratch("p.csv"), csv, sizeof csv - 1), 0);
  OK(coh_table_read(scratch("p.csv"), &t, &err));
  coh_figures *f = open_figures(scratch("pareto"));
  OK(coh_plot_runs(f, &(coh_plot_sweep){.runs = &t}, &err));
  coh_figures_close(f);
  char *got = read_all(scratch("pareto/pareto.csv"));
  assert_string_equal(got, "l0_norm,test_accuracy,front,run\n10,0.5,0,0\n30,0.8,0,2\n"
                           "10,0.6,1,3\n20,0.9,1,1\n40,0.95,1,4\n");
  free(got);
  coh_table_free(&t);
}

/* Mean and range over seeds, all else held as in the best run. */
static void measure_over_seeds(void **state) {
  (void)state;
  coh_table t;
  coh_text csv = {0};
  coh_text_add(&csv,
               "run,training.lr,training.batch_size,experiment.seed,status,test_loss\n");
  for (int i = 0, lr = 1; lr <= 100; lr *= 10)
    for (int b = 1; b <= 8; b++) /* too many for curves: held at the best */
      for (int seed = 0; seed < 3; seed++)
        coh_text_add(&csv, "%d,%d,%d,%d,done,%d\n", i++, lr, b, seed,
                     lr + 1000 * (b != 2) + seed);
  assert_int_equal(scratch_write(scratch("m.csv"), csv.data, csv.len), 0);
  coh_text_free(&csv);
  OK(coh_table_read(scratch("m.csv"), &t, &err));
  coh_figures *f = open_figures(scratch("measure"));
  OK(coh_plot_runs(f, &(coh_plot_sweep){.runs = &t}, &err));
  assert_non_null(strstr(coh_figures_get(f, 0)->caption, "training.batch_size = 2"));
  coh_figures_close(f);
  char *got = read_all(scratch("measure/measure-training.lr.csv"));
  assert_string_equal(got, "x,mean,least,most,runs,training.lr,curve\n1,2,1,3,3,1,\n"
                           "10,11,10,12,3,10,\n100,101,100,102,3,100,\n");
  free(got);
  coh_table_free(&t);
}

static void no_run_is_done(void **state) {
  (void)state;
  coh_table t;
  static const char csv[] = "run,training.lr,status,error\n0,1,failed,x\n";
  assert_int_equal(scratch_write(scratch("n.csv"), csv, sizeof csv - 1), 0);
  OK(coh_table_read(scratch("n.csv"), &t, &err));
  coh_figures *f = open_figures(scratch("none"));
  OK(coh_plot_runs(f, &(coh_plot_sweep){.runs = &t}, &err));
  assert_int_equal(coh_figures_count(f), 1); /* status */
  assert_non_null(strstr(coh_figures_notes(f), "no run is done yet"));
  coh_figures_close(f);
  coh_table_free(&t);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(quotes),
      cmocka_unit_test(tics_are_round),
      cmocka_unit_test(numbers_of_cells),
      cmocka_unit_test(order_of_leaves),
      cmocka_unit_test(trees_on_file),
      cmocka_unit_test(large_extraction),
      cmocka_unit_test(small_tree_is_whole),
      cmocka_unit_test(odd_trees),
      cmocka_unit_test(narrow_networks),
      cmocka_unit_test(large_sweep),
      cmocka_unit_test(negative_losses),
      cmocka_unit_test(pareto_front),
      cmocka_unit_test(measure_over_seeds),
      cmocka_unit_test(no_run_is_done),
  };
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed;
}
