/* reduce.c - one student without its copies and idle neurons. Uses base, comm, net.
 *
 * A student of low loss equals the teacher as a function, so its neurons are copies of
 * the teacher's (equal up to symmetry, with outgoing weights that add up), groups that
 * cancel, or neurons that are dead, constant or linear on the data (Simsek et al. 2021).
 * What is a copy and what is idle the student's own loss tells: neurons are merged, or
 * dropped, if that changes the output by no more than the student is wrong anyway.
 */
#include "extract/robust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int coh_reduced_create(size_t capacity, size_t D, size_t O, size_t Q, coh_reduced *out,
                       coh_error *err) {
  int rc;
  *out = (coh_reduced){.capacity = capacity, .D = D, .O = O, .Q = Q};
  COH_TRY(coh_alloc(&out->student, capacity, sizeof *out->student, err));
  COH_TRY(coh_alloc(&out->w, capacity * D, sizeof *out->w, err));
  COH_TRY(coh_alloc(&out->f, capacity * Q, sizeof *out->f, err));
  COH_TRY(coh_alloc(&out->a, capacity * O, sizeof *out->a, err));
  COH_TRY(coh_alloc(&out->effect, capacity, sizeof *out->effect, err));
cleanup:
  if (rc) coh_reduced_free(out);
  return rc;
}

void coh_reduced_free(coh_reduced *r) {
  free(r->student);
  free(r->w);
  free(r->f);
  free(r->a);
  free(r->effect);
  *r = (coh_reduced){0};
}

/* One student at work. */
typedef struct student {
  const coh_probe *p;
  const double *metric;
  size_t H, D, O, Q, I;
  double tolerance, cap;
  double *w, *f, *a;   /* [H, D], [H, Q], [H, O]; lengths 1 in the scaling class */
  double *z;           /* [H, m] pre-activations */
  double *jac;         /* [m, I, O], NULL for the identity */
  double *g;           /* [H, m, I] jac times a; without jac a itself */
  double *effect;      /* [H] */
  double *sign, *norm; /* [H] */
  /* the tree of the n neurons that are not idle */
  size_t n, *neuron;   /* [n] */
  coh_merge *merges;   /* [n - 1] */
  size_t *head, *next; /* [2n - 1], [n]; leaves below a node, as in votes.c */
  /* room for one trial */
  double *e, *now;      /* [m, I], [m] */
  double *wm, *fm, *am; /* [D], [Q], [O] of the merged neuron */
  size_t *member;       /* [H] */
} student;

static void student_free(student *s) {
  free(s->w);
  free(s->f);
  free(s->a);
  free(s->z);
  free(s->jac);
  free(s->g);
  free(s->effect);
  free(s->neuron);
  free(s->merges);
  free(s->head);
  free(s->next);
  free(s->e);
  free(s->now);
  free(s->wm);
  free(s->fm);
  free(s->am);
  free(s->member);
}

static int allocate(student *s, coh_error *err) {
  int rc;
  size_t m = s->p->m, H = s->H;
  COH_TRY(coh_alloc(&s->w, H * s->D, sizeof *s->w, err));
  COH_TRY(coh_alloc(&s->f, H * s->Q, sizeof *s->f, err));
  COH_TRY(coh_alloc(&s->a, H * s->O, sizeof *s->a, err));
  COH_TRY(coh_alloc(&s->z, H * m, sizeof *s->z, err));
  COH_TRY(coh_alloc(&s->effect, H, sizeof *s->effect, err));
  COH_TRY(coh_alloc(&s->neuron, H, sizeof *s->neuron, err));
  COH_TRY(coh_alloc(&s->merges, H, sizeof *s->merges, err));
  COH_TRY(coh_alloc(&s->head, 4 * H, sizeof *s->head, err));
  COH_TRY(coh_alloc(&s->next, H, sizeof *s->next, err));
  COH_TRY(coh_alloc(&s->e, m * s->I, sizeof *s->e, err));
  COH_TRY(coh_alloc(&s->now, m, sizeof *s->now, err));
  COH_TRY(coh_alloc(&s->wm, s->D, sizeof *s->wm, err));
  COH_TRY(coh_alloc(&s->fm, s->Q, sizeof *s->fm, err));
  COH_TRY(coh_alloc(&s->am, s->O, sizeof *s->am, err));
  COH_TRY(coh_alloc(&s->member, H, sizeof *s->member, err));
cleanup:
  return rc;
}

static double dot(size_t n, const double *u, const double *v) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += u[i] * v[i];
  return sum;
}

static void scale(size_t n, double *v, double by) {
  for (size_t i = 0; i < n; i++) v[i] *= by;
}

/* f = metric w */
static void measure(const student *s, const double *w, double *f) {
  for (size_t i = 0; i < s->Q; i++) f[i] = dot(s->D, s->metric + i * s->D, w);
}

/* Vectors of length 1 in the metric, for the scaling class. */
static void normalise(student *s) {
  bool scales = s->p->symmetry == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING;
  for (size_t h = 0; h < s->H; h++) {
    double *f = s->f + h * s->Q;
    measure(s, s->w + h * s->D, f);
    double length = sqrt(dot(s->Q, f, f));
    s->norm[h] = scales && length > 0 ? length : 1;
    s->sign[h] = 1;
    scale(s->Q, f, 1 / s->norm[h]);
    scale(s->D, s->w + h * s->D, 1 / s->norm[h]);
    scale(s->O, s->a + h * s->O, s->norm[h]);
  }
}

/* g of every neuron: what a unit of its activation adds to the output at each row. */
static int spread_outputs(student *s, const coh_layer_data *data, size_t n,
                          coh_error *err) {
  int rc = COH_OK;
  size_t m = s->p->m, I = s->I;
  if (data->plan->L == 2) return COH_OK;
  COH_TRY(coh_alloc(&s->jac, m * I * s->O, sizeof *s->jac, err));
  COH_TRY(coh_alloc(&s->g, s->H * m * I, sizeof *s->g, err));
  COH_TRY(coh_probe_jacobian(data, s->p, n, s->jac, err));
  for (size_t h = 0; h < s->H; h++)
    for (size_t b = 0; b < m * I; b++)
      s->g[h * m * I + b] = dot(s->O, s->jac + b * s->O, s->a + h * s->O);
cleanup:
  return rc;
}

/* gain [O]: mean square of d output / d pre-activation of each neuron above. */
static void mean_gain(const student *s, double *gain) {
  size_t rows = s->p->m * s->I;
  for (size_t o = 0; o < s->O; o++) {
    double sum = 0;
    for (size_t b = 0; b < rows && s->jac; b++)
      sum += s->jac[b * s->O + o] * s->jac[b * s->O + o];
    gain[o] = sum / (double)rows;
  }
}

/* ---- what neurons do ---- */

/* e += factor * activation(sign z) * g of neuron h */
static void add_neuron(const student *s, size_t h, double sign, double factor) {
  size_t m = s->p->m, I = s->I;
  const double *z = s->z + h * m;
  const double *g = s->g ? s->g + h * m * I : s->a + h * s->O;
  for (size_t b = 0; b < m; b++) {
    double v = factor * coh_act_value(s->p->act, sign * z[b]);
    for (size_t i = 0; i < I; i++) s->e[b * I + i] += v * g[(s->g ? b * I : 0) + i];
  }
}

static double effect_of(const student *s, size_t h) {
  memset(s->e, 0, s->p->m * s->I * sizeof *s->e);
  add_neuron(s, h, 1, 1);
  return coh_probe_energy(s->p, s->z + h * s->p->m, s->I, s->e);
}

static double outgoing_sign(const student *s, double sign) {
  bool flips = s->p->symmetry == COH_SYM_ODD || s->p->symmetry == COH_SYM_ODD_CONSTANT;
  return flips ? sign : 1;
}

/* The members of a node; their signs against the one of largest effect, which it
 * returns. */
static size_t gather(student *s, size_t node, size_t *count) {
  size_t leaf = s->head[node], big = s->neuron[leaf];
  *count = node < s->n ? 1 : s->merges[node - s->n].size;
  for (size_t k = 0; k < *count; k++, leaf = s->next[leaf]) {
    s->member[k] = s->neuron[leaf];
    if (s->effect[s->member[k]] > s->effect[big]) big = s->member[k];
  }
  for (size_t k = 0; k < *count; k++) {
    size_t h = s->member[k];
    bool against = dot(s->Q, s->f + h * s->Q, s->f + big * s->Q) < 0;
    s->sign[h] = coh_symmetry_has_sign(s->p->symmetry) && against ? -1 : 1;
  }
  return big;
}

/* am, the joint outgoing weights; wm, either the mean of the members weighted by their
 * share in am, which keeps the output to first order, or the largest member. */
static void merge_members(student *s, size_t count, size_t big, bool mean) {
  memset(s->am, 0, s->O * sizeof *s->am);
  for (size_t k = 0; k < count; k++) {
    size_t h = s->member[k];
    double out = outgoing_sign(s, s->sign[h]);
    for (size_t o = 0; o < s->O; o++) s->am[o] += out * s->a[h * s->O + o];
  }
  double square = dot(s->O, s->am, s->am);
  memcpy(s->wm, s->w + big * s->D, s->D * sizeof *s->wm);
  if (!mean || !(square > 0)) return;
  memset(s->wm, 0, s->D * sizeof *s->wm);
  for (size_t k = 0; k < count; k++) {
    size_t h = s->member[k];
    double out = outgoing_sign(s, s->sign[h]);
    double share = out * dot(s->O, s->a + h * s->O, s->am) / square;
    for (size_t d = 0; d < s->D; d++) s->wm[d] += share * s->sign[h] * s->w[h * s->D + d];
  }
}

/* e -= what the merged neuron adds; now = its pre-activation. */
static void take_merged(student *s) {
  size_t m = s->p->m, I = s->I;
  for (size_t b = 0; b < m; b++) {
    s->now[b] = dot(s->D, s->p->x + b * s->D, s->wm);
    double v = coh_act_value(s->p->act, s->now[b]);
    for (size_t i = 0; i < I; i++) {
      double g = s->jac ? dot(s->O, s->jac + (b * I + i) * s->O, s->am) : s->am[i];
      s->e[b * I + i] -= v * g;
    }
  }
}

/* Mean square change of the output by merging the members; wm and am are the merged
 * neuron. */
static double cost_of(student *s, size_t count, size_t big, bool mean) {
  memset(s->e, 0, s->p->m * s->I * sizeof *s->e);
  for (size_t k = 0; k < count; k++) {
    size_t h = s->member[k];
    add_neuron(s, h, s->sign[h], outgoing_sign(s, s->sign[h]));
  }
  merge_members(s, count, big, mean);
  take_merged(s);
  return coh_probe_energy(s->p, s->now, s->I, s->e);
}

/* The cheaper of both ways to merge. */
static double merge_cost(student *s, size_t node, size_t *count) {
  size_t big = gather(s, node, count);
  double largest = cost_of(s, *count, big, false);
  double mean = cost_of(s, *count, big, true);
  return largest < mean ? cost_of(s, *count, big, false) : mean;
}

/* ---- the tree of one student ---- */

static int link_neurons(student *s, coh_error *err) {
  int rc;
  double *f = NULL;
  bool symmetric = coh_symmetry_has_sign(s->p->symmetry);
  size_t n = s->n, *tail = s->head + 2 * s->H;
  COH_TRY(coh_alloc(&f, n * s->Q, sizeof *f, err));
  for (size_t i = 0; i < n; i++) {
    memcpy(f + i * s->Q, s->f + s->neuron[i] * s->Q, s->Q * sizeof *f);
    s->head[i] = tail[i] = i;
  }
  if (n > 1)
    COH_TRY(coh_tree(
        MPI_COMM_SELF,
        &(coh_vectors){
            .n = n, .D = s->Q, .f = f, .metric = COH_RELATIVE, .symmetric = symmetric},
        COH_AVERAGE, s->merges, err));
  for (size_t k = 0; k + 1 < n; k++) {
    const coh_merge *x = &s->merges[k];
    s->head[n + k] = s->head[x->a];
    s->next[tail[x->a]] = s->head[x->b];
    tail[n + k] = tail[x->b];
  }
cleanup:
  free(f);
  return rc;
}

/* Appends the group of a node (merged already in wm, am), unless it is idle. */
static void append(student *s, size_t n, size_t count, coh_reduced *out, size_t *of) {
  memset(s->e, 0, s->p->m * s->I * sizeof *s->e);
  take_merged(s);
  double effect = coh_probe_energy(s->p, s->now, s->I, s->e);
  if (effect <= s->tolerance) return;
  size_t at = out->n++;
  out->student[at] = n;
  out->effect[at] = effect;
  measure(s, s->wm, s->fm);
  double length = sqrt(dot(s->Q, s->fm, s->fm));
  bool scales = s->p->symmetry == COH_SYM_EVEN_LINEAR_POSITIVE_SCALING && length > 0;
  double unit = scales ? length : 1;
  for (size_t d = 0; d < s->D; d++) out->w[at * s->D + d] = s->wm[d] / unit;
  for (size_t i = 0; i < s->Q; i++) out->f[at * s->Q + i] = s->fm[i] / unit;
  for (size_t o = 0; o < s->O; o++) out->a[at * s->O + o] = s->am[o] * unit;
  for (size_t k = 0; k < count; k++) of[s->member[k]] = at;
}

/* Top down: the largest groups that may be merged. */
static int take_groups(student *s, size_t n, coh_reduced *out, size_t *of,
                       coh_error *err) {
  int rc;
  size_t *todo = NULL, n_todo = 0, count;
  COH_TRY(coh_alloc(&todo, s->n + 1, sizeof *todo, err));
  if (s->n > 0) todo[n_todo++] = 2 * s->n - 2;
  while (n_todo > 0) {
    size_t node = todo[--n_todo];
    bool leaf = node < s->n;
    bool near = leaf || s->merges[node - s->n].height <= s->cap;
    if (near && (merge_cost(s, node, &count) <= s->tolerance || leaf)) {
      append(s, n, count, out, of);
      continue;
    }
    todo[n_todo++] = s->merges[node - s->n].b;
    todo[n_todo++] = s->merges[node - s->n].a;
  }
cleanup:
  free(todo);
  return rc;
}

static void find_idle(student *s) {
  for (size_t h = 0; h < s->H; h++) {
    s->effect[h] = effect_of(s, h);
    if (s->effect[h] > s->tolerance * 1e-4) s->neuron[s->n++] = h;
  }
}

int coh_reduce_student(const coh_probe *p, const coh_layer_view *v,
                       const coh_layer_data *data, const double *metric, size_t n,
                       double tolerance, double cap, coh_reduced *out, size_t *of,
                       double *sign, double *norm, double *gain, coh_error *err) {
  int rc;
  student s = {.p = p, .metric = metric, .H = v->H, .D = v->D, .O = v->O, .Q = out->Q};
  s.I = data->n_out;
  s.tolerance = tolerance;
  s.cap = cap;
  s.sign = sign;
  s.norm = norm;
  COH_TRY(allocate(&s, err));
  memcpy(s.w, v->w + n * s.H * s.D, s.H * s.D * sizeof *s.w);
  memcpy(s.a, v->a + n * s.H * s.O, s.H * s.O * sizeof *s.a);
  normalise(&s);
  COH_TRY(spread_outputs(&s, data, n, err));
  mean_gain(&s, gain);
  COH_TRY(coh_probe_product(p, s.H, s.w, p->m, p->x, s.z, err));
  find_idle(&s);
  for (size_t h = 0; h < s.H; h++) of[h] = SIZE_MAX;
  COH_TRY(link_neurons(&s, err));
  COH_TRY(take_groups(&s, n, out, of, err));
cleanup:
  student_free(&s);
  return rc;
}
