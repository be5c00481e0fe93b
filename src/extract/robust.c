/* robust.c - method = robust: every neuron that the good students agree on, once
 * (docs/robust.md). Each student is rid of its copies and idle neurons (reduce.c); what
 * is left is linked by how far pre-activations differ over the query set; branches are
 * elected by the students (votes.c); those that the answers do not need go (needed.c).
 * Uses base, device, net (plans only).
 */
#include "extract/robust.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extract/private.h"

/* Merging or dropping may change a student's output by TOLERANCE times its loss, and a
 * cluster goes if the error rises by less than NEEDED times the loss of a good student;
 * but of the answers' variance no more than SHARE each: bad students keep their neurons.
 */
static const double TOLERANCE = 30, NEEDED = 10, SHARE = 1e-3;
enum { ROWS = 1024, GOOD = 3 /* the best students but two set what is good */ };

struct coh_robust {
  coh_layer_work *k;
  coh_probe probe;
  size_t Q;
  double *metric; /* [Q, D] */
  double *loss;   /* [N] but no less than the rounding of the answers */
  double *gain;   /* [N, O] */
  double good;    /* the loss of a good student */
  double most;    /* SHARE of the variance of the answers */
  coh_reduced red;
  coh_elected *elected; /* [n_elected] */
  size_t n_elected;
  size_t *speaker; /* [n_elected] leaf that stands for the cluster */
  coh_probe wide;  /* rows for least squares */
  double *targets; /* [wide.m, T] */
  double *weight;  /* [T], NULL for equal ones */
  size_t T;
};

void coh_robust_free(coh_robust *r) {
  if (!r) return;
  coh_probe_free(&r->probe);
  coh_probe_free(&r->wide);
  coh_reduced_free(&r->red);
  free(r->metric);
  free(r->loss);
  free(r->gain);
  free(r->elected);
  free(r->speaker);
  free(r->targets);
  free(r->weight);
  free(r);
}

const char *coh_cluster_state_name(coh_cluster_state s) {
  static const char *const names[COH_CLUSTER_STATES] = {
      "kept",     "small",     "not aligned", "no good student",
      "unneeded", "duplicate", "leftover",    "idle"};
  return (size_t)s < COH_CLUSTER_STATES ? names[s] : "unknown";
}

/* The chord of pi / beta. */
static double chord(double beta) {
  return 2 * sin(acos(-1) / beta / 2);
}

/* ---- up to the distances ---- */

/* Mean square of the answers, and their variance. */
static double square_answers(const coh_layer_data *x, double *variance) {
  double square = 0, rows = (double)x->n;
  *variance = 0;
  for (size_t t = 0; t < x->n_out; t++) {
    double mean = 0, sum = 0;
    for (size_t i = 0; i < x->n; i++)
      mean += coh_get(x->dtype, x->y, i * x->n_out + t) / rows;
    for (size_t i = 0; i < x->n; i++) {
      double d = coh_get(x->dtype, x->y, i * x->n_out + t) - mean;
      sum += d * d / rows;
    }
    *variance += sum / (double)x->n_out;
    square += (sum + mean * mean) / (double)x->n_out;
  }
  return square;
}

/* Losses no less than what rounding alone makes of the answers. */
static int floor_losses(coh_robust *r, coh_error *err) {
  int rc;
  const coh_layer_view *v = r->k->view;
  double *sorted = NULL, variance, square = square_answers(v->data, &variance);
  double eps = v->data->dtype == COH_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
  double least = eps * eps * square + DBL_MIN;
  r->most = SHARE * variance;
  COH_TRY(coh_alloc(&r->loss, v->N, sizeof *r->loss, err));
  COH_TRY(coh_alloc(&sorted, v->N, sizeof *sorted, err));
  for (size_t s = 0; s < v->N; s++) r->loss[s] = sorted[s] = fmax(v->loss[s], least);
  coh_sort(sorted, v->N);
  r->good = sorted[(v->N < GOOD ? v->N : GOOD) - 1];
cleanup:
  free(sorted);
  return rc;
}

int coh_robust_prepare(coh_layer_work *k, size_t *n, size_t *D, const double **f,
                       coh_error *err) {
  int rc;
  coh_robust *r;
  const coh_layer_view *v = k->view;
  size_t rows = 2 * v->D > ROWS ? 2 * v->D : ROWS;
  double cap = chord(k->opt->beta);
  COH_TRY(coh_alloc(&k->robust, 1, sizeof *k->robust, err));
  r = k->robust;
  r->k = k;
  COH_TRY(floor_losses(r, err));
  COH_TRY(coh_probe_create(v->data, v->D, k->opt->symmetry, rows, &r->probe, err));
  COH_TRY(coh_probe_metric(&r->probe, v->mask, &r->metric, &r->Q, err));
  COH_TRY(coh_reduced_create(k->n, v->D, v->O, r->Q, &r->red, err));
  COH_TRY(coh_alloc(&r->gain, v->N * v->O, sizeof *r->gain, err));
  COH_TRY(coh_alloc(&k->out->leaf, k->n, sizeof *k->out->leaf, err));
  for (size_t s = 0; s < v->N; s++)
    COH_TRY(coh_reduce_student(&r->probe, v, v->data, r->metric, s,
                               fmin(TOLERANCE * r->loss[s], r->most), cap, &r->red,
                               k->out->leaf + s * v->H, k->out->sign + s * v->H,
                               k->out->norm + s * v->H, r->gain + s * v->O, err));
  k->out->n_leaves = *n = r->red.n;
  *D = r->Q;
  *f = r->red.f;
cleanup:
  return rc;
}

/* ---- election ---- */

static double dot(size_t n, const double *u, const double *v) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += u[i] * v[i];
  return sum;
}

static coh_ballot ballot_of(const coh_robust *r) {
  return (coh_ballot){.n = r->red.n,
                      .merges = r->k->out->merges,
                      .student = r->red.student,
                      .effect = r->red.effect,
                      .N = r->k->view->N,
                      .loss = r->loss};
}

/* Is leaf i a better speaker than leaf j? A neuron that is its student's only one in the
 * cluster cannot be the wrong one of several, so it goes first if the student is good. */
static bool speaks_better(const coh_robust *r, const bool *alone, size_t i, size_t j) {
  const coh_reduced *red = &r->red;
  double a = r->loss[red->student[i]], b = r->loss[red->student[j]];
  double good = NEEDED * r->good;
  bool sure_i = alone[i] && a <= good, sure_j = alone[j] && b <= good;
  if (sure_i != sure_j) return sure_i;
  if (red->student[i] == red->student[j]) return red->effect[i] > red->effect[j];
  return a < b;
}

/* alone [n]: the leaf is its student's only one in its cluster. count [clusters] is
 * room. */
static void find_alone(const coh_robust *r, const size_t *of, size_t *count,
                       bool *alone) {
  const coh_reduced *red = &r->red;
  for (size_t i = 0, end; i < red->n; i = end) {
    for (end = i; end < red->n && red->student[end] == red->student[i]; end++)
      if (of[end] != SIZE_MAX) count[of[end]] = 0;
    for (size_t k = i; k < end; k++)
      if (of[k] != SIZE_MAX) count[of[k]]++;
    for (size_t k = i; k < end; k++) alone[k] = of[k] != SIZE_MAX && count[of[k]] == 1;
  }
}

static int find_speakers(coh_robust *r, const size_t *of, coh_error *err) {
  int rc;
  bool *alone = NULL;
  COH_TRY(coh_alloc(&alone, r->red.n, sizeof *alone, err));
  find_alone(r, of, r->speaker, alone);
  for (size_t k = 0; k < r->n_elected; k++) r->speaker[k] = SIZE_MAX;
  for (size_t i = 0; i < r->red.n; i++) {
    if (of[i] == SIZE_MAX) continue;
    size_t *best = &r->speaker[of[i]];
    if (*best == SIZE_MAX || speaks_better(r, alone, i, *best)) *best = i;
  }
cleanup:
  free(alone);
  return rc;
}

/* elected, n_elected, speaker; of [n] the cluster of each leaf. */
static int elect(coh_robust *r, double gamma, double cap, size_t *of, coh_error *err) {
  int rc;
  coh_ballot b = ballot_of(r);
  COH_TRY(coh_elect(&b, gamma, cap, r->elected, &r->n_elected, err));
  COH_TRY(coh_elected_of(&b, r->n_elected, r->elected, of, err));
  COH_TRY(find_speakers(r, of, err));
cleanup:
  return rc;
}

/* ---- least squares ---- */

/* Last hidden layer: the answers. Else: the next pre-activations of every student,
 * weighed by what they do to the output; those of bad students not at all. */
static int fill_answers(coh_robust *r, coh_error *err) {
  int rc;
  const coh_layer_data *x = r->k->view->data;
  r->T = x->n_out;
  COH_TRY(coh_alloc(&r->targets, r->wide.m * r->T, sizeof *r->targets, err));
  for (size_t b = 0; b < r->wide.m; b++)
    for (size_t t = 0; t < r->T; t++)
      r->targets[b * r->T + t] =
          coh_get(x->dtype, x->y, coh_probe_row(x, &r->wide, b) * r->T + t);
cleanup:
  return rc;
}

static int fill_above(coh_robust *r, coh_error *err) {
  int rc;
  const coh_layer_view *v = r->k->view;
  const coh_plan *plan = v->data->plan;
  size_t m = r->wide.m, N = v->N, H = v->H, O = v->O, good = 0;
  double *z = NULL;
  r->T = N * O;
  COH_TRY(coh_alloc(&r->targets, m * r->T, sizeof *r->targets, err));
  COH_TRY(coh_alloc(&r->weight, r->T, sizeof *r->weight, err));
  COH_TRY(coh_alloc(&z, H * m, sizeof *z, err));
  for (size_t s = 0; s < N; s++) good += r->loss[s] <= NEEDED * r->good;
  for (size_t s = 0; s < N; s++) {
    const double *bias = v->data->params + s * plan->P + plan->layer[1].b;
    COH_TRY(coh_probe_product(&r->wide, H, v->w + s * H * v->D, m, r->wide.x, z, err));
    for (size_t i = 0; i < H * m; i++) z[i] = coh_act_value(v->data->act, z[i]);
    for (size_t o = 0; o < O; o++) {
      bool counts = r->loss[s] <= NEEDED * r->good;
      r->weight[s * O + o] = counts ? r->gain[s * O + o] / (double)good : 0;
      for (size_t b = 0; b < m; b++) r->targets[b * r->T + s * O + o] = bias[o];
    }
    for (size_t h = 0; h < H; h++)
      for (size_t b = 0; b < m; b++)
        for (size_t o = 0; o < O; o++)
          r->targets[b * r->T + s * O + o] += z[h * m + b] * v->a[(s * H + h) * O + o];
  }
cleanup:
  free(z);
  return rc;
}

static int fill_targets(coh_robust *r, coh_error *err) {
  int rc;
  const coh_layer_view *v = r->k->view;
  bool last = v->data->plan->L == 2;
  size_t columns = v->D + r->n_elected + (last ? v->data->n_out : 0);
  size_t rows = 4 * columns > ROWS ? 4 * columns : ROWS;
  COH_TRY(coh_probe_create(v->data, v->D, r->k->opt->symmetry, rows, &r->wide, err));
  COH_TRY(last ? fill_answers(r, err) : fill_above(r, err));
cleanup:
  return rc;
}

/* Least squares on the elected clusters. */
static int fit(const coh_robust *r, coh_fit *out, coh_error *err) {
  int rc;
  size_t D = r->red.D, K = r->n_elected;
  double *w = NULL;
  COH_TRY(coh_alloc(&w, K * D, sizeof *w, err));
  for (size_t k = 0; k < K; k++)
    memcpy(w + k * D, r->red.w + r->speaker[k] * D, D * sizeof *w);
  double allowed = fmin(NEEDED * r->good, r->most);
  COH_TRY(coh_fit_needed(&r->wide, K, w, r->T, r->targets, r->weight, allowed,
                         r->weight ? 0 : 10 * r->most, 1, out, err));
cleanup:
  free(w);
  return rc;
}

/* ---- what is told of a cluster ---- */

static double relative_distance(const coh_reduced *red, bool symmetric, size_t i,
                                size_t j) {
  const double *u = red->f + i * red->Q, *v = red->f + j * red->Q;
  double uv = dot(red->Q, u, v), sum = 0;
  double sign = symmetric && uv < 0 ? -1 : 1;
  double scale = (dot(red->Q, u, u) + dot(red->Q, v, v)) / 2;
  for (size_t d = 0; d < red->Q; d++) sum += (u[d] - sign * v[d]) * (u[d] - sign * v[d]);
  return scale > 0 ? sqrt(sum / scale) : 0;
}

/* Students with several neurons in cluster c whose outgoing weights cancel for the most
 * part. */
static int count_flat(const coh_robust *r, const size_t *of, size_t c, size_t *flat,
                      coh_error *err) {
  int rc;
  const coh_reduced *red = &r->red;
  coh_symmetry sym = r->k->opt->symmetry;
  bool flips = sym == COH_SYM_ODD || sym == COH_SYM_ODD_CONSTANT;
  const double *centre = red->f + r->speaker[c] * red->Q;
  double *sum = NULL;
  *flat = 0;
  COH_TRY(coh_alloc(&sum, red->O, sizeof *sum, err));
  for (size_t i = 0, next; i < red->n; i = next) {
    double total = 0;
    size_t members = 0;
    memset(sum, 0, red->O * sizeof *sum);
    for (next = i; next < red->n && red->student[next] == red->student[i]; next++) {
      if (of[next] != c) continue;
      const double *a = red->a + next * red->O;
      double sign = flips && dot(red->Q, red->f + next * red->Q, centre) < 0 ? -1 : 1;
      for (size_t o = 0; o < red->O; o++) sum[o] += sign * a[o];
      total += sqrt(dot(red->O, a, a));
      members++;
    }
    *flat += members > 1 && total > 4 * sqrt(dot(red->O, sum, sum));
  }
cleanup:
  free(sum);
  return rc;
}

/* KEPT, or why not. */
static coh_cluster_state judge(const coh_robust *r, const coh_fit *f, size_t c) {
  bool symmetric = coh_symmetry_has_sign(r->k->opt->symmetry);
  if (f->needed[c]) return COH_CLUSTER_KEPT;
  for (size_t k = 0; k < f->K; k++)
    if (f->needed[k] && relative_distance(&r->red, symmetric, r->speaker[c],
                                          r->speaker[k]) <= r->k->out->cut)
      return COH_CLUSTER_DUPLICATE;
  return COH_CLUSTER_UNNEEDED;
}

static int describe(const coh_robust *r, const coh_fit *f, const size_t *of,
                    coh_error *err) {
  int rc;
  coh_clustering *c = r->k->out;
  for (size_t k = 0; k < r->n_elected; k++) {
    const coh_elected *e = &r->elected[k];
    c->cluster[k] = (coh_cluster){.state = judge(r, f, k),
                                  .students = e->students,
                                  .median = e->height * e->height / 2,
                                  .student = r->red.student[r->speaker[k]],
                                  .electors = e->electors,
                                  .votes = e->votes,
                                  .spread = e->height,
                                  .effect = e->effect,
                                  .rise = f->rise[k]};
    COH_TRY(count_flat(r, of, k, &c->cluster[k].flat, err));
    if (f->needed[k]) c->kept[c->K++] = k;
  }
  rc = COH_OK;
cleanup:
  return rc;
}

/* ---- the result ---- */

/* Two more clusters for what was not elected: leftover and idle neurons, if any. */
static void label_all(const coh_robust *r, const size_t *of) {
  coh_clustering *c = r->k->out;
  size_t extra[2] = {SIZE_MAX, SIZE_MAX};
  for (size_t i = 0; i < r->k->n; i++) {
    bool idle = c->leaf[i] == SIZE_MAX;
    size_t k = idle ? SIZE_MAX : of[c->leaf[i]];
    if (k == SIZE_MAX) {
      if (extra[idle] == SIZE_MAX) {
        extra[idle] = c->n_clusters++;
        c->cluster[extra[idle]] =
            (coh_cluster){.state = idle ? COH_CLUSTER_IDLE : COH_CLUSTER_LEFTOVER,
                          .median = NAN,
                          .spread = NAN,
                          .student = SIZE_MAX};
      }
      k = extra[idle];
      coh_cluster *x = &c->cluster[k];
      /* students come in order */
      if (x->student != i / c->H) x->students++;
      x->student = i / c->H;
    }
    c->label[i] = k;
    c->cluster[k].size++;
  }
}

/* Outgoing weights, constants and linear parts of student s from the fit. */
static void split_fit(const coh_robust *r, const coh_fit *f, size_t s) {
  coh_clustering *c = r->k->out;
  const coh_layer_data *x = r->k->view->data;
  const double *bias = x->params + s * x->plan->P + x->plan->layer[1].b;
  size_t O = c->O, T = f->T;
  for (size_t k = 0; k < c->K; k++)
    for (size_t o = 0; o < O; o++)
      c->a[(s * c->K + k) * O + o] = f->a[c->kept[k] * T + s * O + o];
  for (size_t d = 0; d < f->B; d++)
    for (size_t o = 0; o < O; o++) {
      bool is_bias = d + 1 == f->B;
      double v = f->base[d * T + s * O + o] - (is_bias ? bias[o] : 0);
      if (c->linear)
        c->linear[(s * c->D + d) * O + o] = v;
      else
        c->constant[s * O + o] = v;
    }
}

static int take_fit(const coh_robust *r, const coh_fit *f, coh_error *err) {
  int rc;
  coh_clustering *c = r->k->out;
  bool last = r->weight == NULL, linear = f->B > 1;
  size_t sets = last ? 1 : c->N;
  COH_TRY(coh_alloc(&c->w, c->K * c->D, sizeof *c->w, err));
  COH_TRY(coh_alloc(&c->a, sets * c->K * c->O, sizeof *c->a, err));
  for (size_t k = 0; k < c->K; k++) {
    size_t from = r->speaker[c->kept[k]];
    memcpy(c->w + k * c->D, r->red.w + from * c->D, c->D * sizeof *c->w);
    if (last) memcpy(c->a + k * c->O, f->a + c->kept[k] * f->T, c->O * sizeof *c->a);
  }
  if (last) return COH_OK;
  if (linear) COH_TRY(coh_alloc(&c->linear, c->N * c->D * c->O, sizeof(double), err));
  if (!linear) COH_TRY(coh_alloc(&c->constant, c->N * c->O, sizeof(double), err));
  for (size_t s = 0; s < c->N; s++) split_fit(r, f, s);
cleanup:
  return rc;
}

static int none_elected(const coh_robust *r, coh_error *err) {
  const coh_layer_work *k = r->k;
  return coh_fail(
      err, COH_ENUMERIC,
      "no neuron is shared by enough students: %zu of %zu are left once copies "
      "and idle ones are gone, and none within pi/%g of each other has the "
      "votes of %g of the good students; lower gamma or beta, or train the "
      "students to a lower loss",
      r->red.n, k->n, k->opt->beta, k->opt->gamma);
}

static void say(const coh_robust *r) {
  const coh_clustering *c = r->k->out;
  size_t n[COH_CLUSTER_STATES] = {0};
  for (size_t k = 0; k < c->n_clusters; k++) n[c->cluster[k].state]++;
  coh_say(r->k->sink, COH_INFO,
          "%zu neurons of %zu are left once copies and idle ones are gone; %zu clusters "
          "elected: %zu kept, %zu duplicates, %zu unneeded",
          r->red.n, r->k->n, r->n_elected, n[COH_CLUSTER_KEPT], n[COH_CLUSTER_DUPLICATE],
          n[COH_CLUSTER_UNNEEDED]);
  for (size_t k = 0; k < c->n_clusters; k++)
    if (c->cluster[k].flat > 0)
      coh_say(r->k->sink, COH_WARN,
              "cluster %zu: %zu of %zu students hold close neurons that cancel, as on a "
              "flat channel",
              k, c->cluster[k].flat, c->cluster[k].students);
}

/* ---- stability ---- */

static const double GAMMAS[] = {0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1};
static const double BETAS[] = {2.5, 3, 4, 6, 9, 12, 18, 36};
enum {
  N_GAMMAS = sizeof GAMMAS / sizeof *GAMMAS,
  N_BETAS = sizeof BETAS / sizeof *BETAS
};

/* How many clusters each gamma and beta keep; copies are merged as they were. */
static int tabulate(coh_robust *r, size_t *of, coh_error *err) {
  int rc;
  coh_stability *t = &r->k->out->stability;
  *t = (coh_stability){N_GAMMAS, N_BETAS, GAMMAS, BETAS, NULL};
  COH_TRY(coh_alloc(&t->size, N_GAMMAS * N_BETAS, sizeof *t->size, err));
  for (size_t g = 0; g < N_GAMMAS; g++)
    for (size_t b = 0; b < N_BETAS; b++) {
      coh_fit f = {0};
      COH_TRY(elect(r, GAMMAS[g], chord(BETAS[b]), of, err));
      if (r->n_elected > 0) COH_TRY(fit(r, &f, err));
      for (size_t k = 0; k < f.K; k++) t->size[g * N_BETAS + b] += f.needed[k];
      coh_fit_free(&f);
    }
cleanup:
  return rc;
}

int coh_robust_cluster(coh_layer_work *k, coh_error *err) {
  int rc;
  coh_robust *r = k->robust;
  coh_clustering *c = k->out;
  coh_fit f = {0};
  size_t *of = NULL;
  c->cut = chord(k->opt->beta);
  COH_TRY(coh_alloc(&r->elected, r->red.n + 1, sizeof *r->elected, err));
  COH_TRY(coh_alloc(&r->speaker, r->red.n + 1, sizeof *r->speaker, err));
  COH_TRY(coh_alloc(&of, r->red.n + 1, sizeof *of, err));
  COH_TRY(elect(r, k->opt->gamma, c->cut, of, err));
  if (r->n_elected == 0) COH_TRY(none_elected(r, err));
  COH_TRY(fill_targets(r, err));
  COH_TRY(fit(r, &f, err));
  c->n_clusters = r->n_elected;
  COH_TRY(coh_alloc(&c->cluster, r->n_elected + 2, sizeof *c->cluster, err));
  COH_TRY(coh_alloc(&c->kept, r->n_elected, sizeof *c->kept, err));
  COH_TRY(describe(r, &f, of, err));
  label_all(r, of);
  COH_TRY(take_fit(r, &f, err));
  say(r);
  if (k->opt->stability) COH_TRY(tabulate(r, of, err));
cleanup:
  free(of);
  coh_fit_free(&f);
  return rc;
}
