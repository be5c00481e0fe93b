/* private.h - what the files of this room share. Private. */
#ifndef COHORT_COMPRESS_PRIVATE_H
#define COHORT_COMPRESS_PRIVATE_H

#include "cohort/compress.h"

/* Arrays of the method, [count, P] by place in the block, on the device. Companions in
 * the order of device.h: twin (v, "pw"), gate (q, "pp"), multiplier (u). */
enum {
  MASK,
  TWIN,
  GATE,
  MULTIPLIER,
  FIRST_MOMENTS,
  SECOND_MOMENTS = FIRST_MOMENTS + COH_SPARSE_COMPANIONS,
  MEANS = SECOND_MOMENTS + COH_SPARSE_COMPANIONS,
  ARRAYS = MEANS + COH_SPARSE_MEANS
};

/* What a snapshot keeps, on the host: all that anything later reads. */
enum { BEST_PARAMS, BEST_M, BEST_V, BEST_MASK, BEST_TWIN, BEST_GATE, BEST };

enum { REGULARISED, FINETUNING, OVER };

/* Adam's state of sigma. */
typedef struct coh_width {
  double sigma, m, v;
} coh_width;

/* A member's numbers: 8 bytes each, since they go into checkpoints as such. */
typedef struct coh_squeezed {
  uint64_t phase;
  uint64_t epoch;  /* of the phase */
  uint64_t t;      /* steps of Adam */
  uint64_t means;  /* what the running means count as, of fpp */
  uint64_t calls;  /* random batches drawn */
  uint64_t length; /* of the log that convergence is told from */
  coh_width width;
  double sum;        /* losses of this epoch's batches so far */
  double train, val; /* val: of the last epoch that was asked for it */
  uint64_t asked;    /* 1: that epoch is the one that ends */
  double previous;   /* val at the last check */
  uint64_t turned;   /* turning points of this phase */
  double least;      /* val at the lowest of them */
  uint64_t best_t;   /* of the snapshot */
  coh_width best_width;
  coh_compress_result result;
} coh_squeezed;

/* A data set on the device, and rows whose mean loss counts once. */
typedef struct coh_probe_set {
  const coh_dataset *host;
  void *x, *y;
  int32_t *labels;
  size_t batch;
} coh_probe_set;

struct coh_compress {
  const coh_grid *grid;
  coh_device *dev, *wide; /* wide: float64, for regressions; NULL until needed */
  coh_plan plan;
  size_t N, first, count;
  coh_compress_spec *spec; /* [N] */
  uint64_t every;          /* epochs between two points of the curves; 0: none */
  coh_train_method method;
  coh_compress_data data;
  coh_probe_set set[3];         /* train, val, test */
  bool images;                  /* the network begins with a flattening */
  bool gates, means, pick_best; /* of any run */
  void *array[ARRAYS];
  void *best[BEST];        /* host [count, P] of the device's type */
  coh_squeezed *member;    /* [count] */
  double *log;             /* [count, window] */
  size_t window;           /* longest of all runs */
  coh_sparse_part *part;   /* all of P, then each layer */
  coh_sparse_member *step; /* [count] scratch */
  double *scratch;         /* host [count] */
  double *sums;            /* device [count] */
  coh_ensemble *trial;     /* networks to try, room for `room` */
  size_t room, group;      /* group: members of one forward */
  coh_workspace *forward;
  coh_workspace *backward; /* of one network and one batch; NULL until needed */
  void *row;               /* host [P] of the device's type */
};

/* One network while it is pruned, on the host. */
typedef struct coh_pruning {
  size_t index, place; /* in the ensemble, in the block */
  bool final, ends;
  double *p, *mask, *twin, *gate; /* [P]; twin and gate NULL without gates */
} coh_pruning;

static inline const coh_compress_spec *coh_spec_at(const coh_compress *c, size_t place) {
  return c->spec + c->first + place;
}
static inline bool coh_has_gates(const coh_compress_spec *s) {
  return s->procedure == COH_PMMP || s->procedure == COH_FPP;
}

/* ---- rows.c: rows of device arrays, in double ----------------------------------------
 */
int coh_row_get(coh_compress *, const void *device, size_t row, double *out, coh_error *);
int coh_row_put(coh_compress *, void *device, size_t row, const double *in, coh_error *);
int coh_row_fill(coh_compress *, void *device, size_t row, double value, coh_error *);
int coh_row_copy(coh_compress *, void *to, size_t to_row, const void *from,
                 size_t from_row, coh_error *);
int coh_row_save(coh_compress *, const void *device, size_t row, void *host, size_t place,
                 coh_error *);
int coh_row_load(coh_compress *, void *device, size_t row, const void *host, size_t place,
                 coh_error *);

/* ---- probe.c --------------------------------------------------------------------------
 */
/* Mean over batches of the mean loss (mse or cross entropy) of each of the N networks on
 * set 0..2, [N]; correct (may be NULL): share of right answers, NaN without labels. */
int coh_probe(coh_compress *, const coh_ensemble *, int set, double *loss,
              double *correct, coh_error *);
/* The same of N networks on the host, row k from rows(ctx, k, out [P]). */
typedef void coh_probe_row(void *ctx, size_t k, double *out);
int coh_probe_rows(coh_compress *, size_t N, coh_probe_row *, void *ctx, int set,
                   double *loss, double *correct, coh_error *);
/* Zeroes parameters of p [P] without a gradient on one random batch, or masked ones. */
int coh_random_gradient(coh_compress *, coh_squeezed *, const coh_compress_spec *,
                        double *p, const double *mask, coh_error *);

/* ---- prune.c --------------------------------------------------------------------------
 */
/* Prunes members of the ensemble: index[n] of them, final as in the contract; regressions
 * of the layers come before, where the spec of the member's phase wants them. ends: this
 * is the pruning behind the regularised phase, not one within a phase. */
int coh_prune(coh_compress *, const coh_train_view *, size_t n, const size_t *index,
              const bool *final, bool ends, coh_error *err);
double coh_count(const double *mask, size_t P);

/* ---- phase.c --------------------------------------------------------------------------
 */
/* Behind an epoch whose losses are in member[]: what ends, what is pruned; state [count]
 */
int coh_phases(coh_compress *, const coh_train_view *, int *state, coh_error *);
/* Whether anything reads the validation loss of the epoch that ends: a check, or a check
 * to come whose window begins before it. A member's own numbers decide. */
bool coh_asks_val(const coh_compress_spec *, const coh_squeezed *);
int coh_violations(coh_compress *, size_t place, double *out, coh_error *);

/* ---- layers.c -------------------------------------------------------------------------
 */
/* Regressions of all layers, from the last to the first. */
int coh_prune_layers(coh_compress *, coh_pruning *, coh_error *);

/* ---- state.c --------------------------------------------------------------------------
 */
int coh_compress_save(void *ctx, coh_archive *, coh_error *);
int coh_compress_restore(void *ctx, coh_archive *, coh_error *);

#endif
