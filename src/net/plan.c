/* plan.c - network plans: from sizes, from a name; the list of their tensors. No numbers
 * are touched here. Uses base, config. */
#include "cohort/net.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NEURONS = 16777216 };

/* ---- from sizes ------------------------------------------------------------------ */

static int check_sizes(size_t L, const size_t *sizes, coh_error *err) {
  if (L < 1 || L > COH_MAX_LAYERS)
    return coh_fail(err, COH_EUSAGE, "a network has 1 to %d layers, not %zu",
                    COH_MAX_LAYERS, L);
  for (size_t l = 0; l <= L; l++)
    if (sizes[l] < 1 || sizes[l] > MOST_NEURONS)
      return coh_fail(err, COH_EUSAGE, "size %zu of layer %zu is outside 1..%d", sizes[l],
                      l, MOST_NEURONS);
  return COH_OK;
}

int coh_plan_dense(size_t L, const size_t *sizes, coh_act act, const bool *skip,
                   coh_plan *out, coh_error *err) {
  int rc = check_sizes(L, sizes, err);
  if (rc) return rc;
  if (skip && skip[0])
    return coh_fail(err, COH_EUSAGE, "the first layer has nothing to skip");
  *out = (coh_plan){.L = L, .d_in = sizes[0], .n_out = sizes[L]};
  size_t offset = 0;
  for (size_t l = 0; l < L; l++) {
    coh_layer *layer = &out->layer[l];
    *layer = (coh_layer){.in = sizes[l], .out = sizes[l + 1]};
    layer->act = l + 1 < L ? act : COH_IDENTITY;
    layer->w = offset;
    layer->b = layer->w + layer->in * layer->out;
    offset = layer->b + layer->out;
    if (skip && skip[l]) {
      layer->skip = true;
      for (size_t below = 0; below < l; below++) layer->skip_in += sizes[below];
      layer->s = offset;
      offset += layer->skip_in * layer->out;
    }
  }
  out->P = offset;
  return COH_OK;
}

/* ---- from a name ----------------------------------------------------------------- */

typedef struct family {
  const char *prefix;
  bool students;  /* "(N)" follows the prefix */
  size_t in;      /* inputs; 0: the first size of the name */
  bool names_out; /* the last size of the name is the number of outputs */
} family;

static const family families[] = {{"dense", false, 0, true},
                                  {"mnist_lenet", false, 784, false},
                                  {"cifar_lenet", false, 3072, false},
                                  {"students_dense", true, 0, true},
                                  {"students_mnist_lenet", true, 784, false},
                                  {"students_cifar_lenet", true, 3072, false}};

static int fail_name(coh_error *err, const char *name, const char *why) {
  return coh_fail(
      err, COH_EUSAGE,
      "model name '%s': %s; names are dense_IN_H1_..._OUT, mnist_lenet_P_Q..., "
      "cifar_lenet_P_Q..., students_mnist_lenet(N)_P_Q..., "
      "students_cifar_lenet(N)_P_Q..., students_dense(N)_IN_H1_..._OUT",
      name, why);
}

/* Digits at *at, past which *at moves; false if there are none, only zeros, or too many
 * (*out is then beyond MOST_NEURONS, else 0). */
static bool read_count(const char **at, size_t *out) {
  size_t v = 0;
  for (; isdigit((unsigned char)**at); (*at)++)
    if (v <= MOST_NEURONS) v = v * 10 + (size_t)(**at - '0');
  *out = v;
  return v > 0 && v <= MOST_NEURONS;
}

/* Why read_count failed. */
static const char *why_not(size_t count, const char *limit, const char *expected) {
  return count > MOST_NEURONS ? limit : expected;
}

static const family *find_family(const char *name, const char **rest) {
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
    size_t n = strlen(families[i].prefix);
    char next = families[i].students ? '(' : '_';
    if (strncmp(name, families[i].prefix, n) == 0 && name[n] == next) {
      *rest = name + n;
      return &families[i];
    }
  }
  return NULL;
}

/* "_P_Q_R" into sizes[*n ...]. */
static int read_sizes(const char *name, const char *at, size_t *sizes, size_t *n,
                      coh_error *err) {
  while (*at) {
    if (*n > COH_MAX_LAYERS) return fail_name(err, name, "too many layers");
    const char *expected = "expected positive sizes joined by '_'";
    if (*at++ != '_') return fail_name(err, name, expected);
    if (!read_count(&at, &sizes[*n]))
      return fail_name(err, name,
                       why_not(sizes[*n], "a size is at most 16777216", expected));
    ++*n;
  }
  return COH_OK;
}

static int fail_outputs(coh_error *err, const char *name, size_t named, size_t wanted) {
  return coh_fail(err, COH_EUSAGE,
                  "model name '%s': it has %zu outputs, but the data have %zu targets",
                  name, named, wanted);
}

int coh_plan_parse(const char *name, coh_act act, size_t n_out, coh_plan *out,
                   size_t *members, coh_error *err) {
  const char *at;
  const family *f = find_family(name, &at);
  if (!f) return fail_name(err, name, "unknown family");
  *members = 0;
  if (f->students) {
    at++;
    if (!read_count(&at, members) || *at++ != ')')
      return fail_name(err, name,
                       why_not(*members, "(N) is at most 16777216 members",
                               "expected a number of members in '(N)'"));
  }
  size_t sizes[COH_MAX_LAYERS + 2], n = 0;
  if (f->in) sizes[n++] = f->in;
  int rc = read_sizes(name, at, sizes, &n, err);
  if (rc) return rc;
  if (f->names_out) {
    if (n < 2) return fail_name(err, name, "expected at least IN and OUT");
    if (n_out && sizes[n - 1] != n_out)
      return fail_outputs(err, name, sizes[n - 1], n_out);
  } else {
    if (n < 2) return fail_name(err, name, "expected at least one hidden size");
    sizes[n++] = n_out ? n_out : 10;
  }
  rc = coh_plan_dense(n - 1, sizes, act, NULL, out, err);
  return rc ? coh_explain(err, "model name '%s'", name) : COH_OK;
}

/* Sizes first .. n - 2 or n - 1 of a name are hidden. */
int coh_plan_widen(const char *name, double factor, char *out, size_t size,
                   coh_error *err) {
  coh_plan plan;
  size_t members, sizes[COH_MAX_LAYERS + 2], n = 0;
  coh_text text = {0};
  int rc = coh_plan_parse(name, COH_RELU, 0, &plan, &members, err);
  if (rc) return rc;
  const char *at;
  const family *f = find_family(name, &at);
  if (f->students) at = strchr(at, ')') + 1;
  coh_text_addn(&text, name, (size_t)(at - name));
  COH_TRY(read_sizes(name, at, sizes, &n, err));
  for (size_t i = 0; i < n; i++) {
    bool hidden = (f->in || i > 0) && !(f->names_out && i + 1 == n);
    coh_text_add(&text, "_%.0f",
                 hidden ? ceil((double)sizes[i] * factor) : (double)sizes[i]);
  }
  COH_TRY(coh_text_check(&text, err));
  COH_TRY(coh_format(out, size, err, "%s", text.data));
cleanup:
  coh_text_free(&text);
  return rc;
}

/* ---- tensors --------------------------------------------------------------------- */

static void add_tensor(coh_tensor *t, const coh_plan *p, size_t l, int role) {
  static const char *const roles[] = {"weight", "bias", "skip"};
  const coh_layer *layer = &p->layer[l];
  coh_error err; /* the longest name is known to fit */
  *t = (coh_tensor){.layer = l, .ndim = role == COH_BIAS ? 1 : 2, .dim = {layer->out, 1}};
  t->role = role;
  if (l + 1 < p->L)
    coh_format(t->name, sizeof t->name, &err, "fc_layers.%zu.%s", l, roles[role]);
  else
    coh_format(t->name, sizeof t->name, &err, "fc.%s", roles[role]);
  if (role == COH_WEIGHT) t->dim[1] = layer->in;
  if (role == COH_SKIP) t->dim[1] = layer->skip_in;
  t->offset = role == COH_WEIGHT ? layer->w : role == COH_BIAS ? layer->b : layer->s;
  t->count = t->dim[0] * t->dim[1];
}

size_t coh_plan_tensors(const coh_plan *p, coh_tensor out[3 * COH_MAX_LAYERS]) {
  size_t n = 0;
  for (size_t l = 0; l < p->L; l++) {
    add_tensor(&out[n++], p, l, COH_WEIGHT);
    add_tensor(&out[n++], p, l, COH_BIAS);
    if (p->layer[l].skip) add_tensor(&out[n++], p, l, COH_SKIP);
  }
  return n;
}
