/* small_real.h - loss and gradient of small networks, one after the other, all layers of
 * one while they are in the cache; read by kernels.c for float and double.
 *
 * Here rows of the batch lie along the vectors: activations are [features, ld], ld the
 * rows of a block filled up to whole vectors. So vectors are full whatever the widths
 * are, weights are broadcast from where they lie and nothing is packed. Both products run
 * over tiles of SMALL_ROWS features by SMALL_COLS vectors (or features), cut so that the
 * tiles of a matrix differ by one at most.
 *
 * Below the last feature of each activation stands a row of ones: the bias lies behind
 * its layer's weights, and its gradient is that of one more weight.
 *
 * What is filled up takes part until the loss, whose gradient is 0 there. A member's
 * result depends on its own data and on the order of rows alone: rows are taken in blocks
 * of SMALL_BLOCK, a sum over a block is one of LANES chains, added up as a tree.
 */

enum {
  K(SMALL_BLOCK) = 320,
  K(SMALL_SUMS) = /* of a tile of dots, filled up */
  (SMALL_ROWS * SMALL_COLS + K(LANES) - 1) / K(LANES) * K(LANES)
};

/* One member's place for a block. */
typedef struct K(small_net) {
  const coh_small *s;
  size_t rows, ld, blocks;     /* blocks: those done before */
  REAL *in[COH_SMALL_LAYERS];  /* [in + 1, ld] what a layer reads */
  REAL *out[COH_SMALL_LAYERS]; /* [out + 1, ld]; of the last layer [out, ld] */
  REAL *dz[COH_SMALL_LAYERS];  /* [out, ld]: slopes, then gradients by pre-activations */
  REAL *flat, *dflat;          /* [rows, O] for the loss, where O > 1 */
  K(vec) sum[K(SMALL_SUMS)];
} K(small_net);

/* A side of n in tiles of up to `most`: the first `longer` of them have base + 1, the
 * others base. */
typedef struct K(cut) {
  size_t tiles, base, longer;
} K(cut);

static inline K(cut) K(cut_of)(size_t n, size_t most) {
  size_t tiles = (n + most - 1) / most, base = n / tiles;
  return (K(cut)){tiles, base, n - base * tiles};
}

/* c [rows, nv vectors] = (bias + w a) by, w's element (r, k) at w[r * wr + k * wk],
 * a [n, ld], bias NULL: 0, by NULL: 1. rows, nv: constants. */
static inline __attribute__((always_inline)) void
K(small_tile)(const int rows, const int nv, size_t n, const REAL *w, size_t wr, size_t wk,
              const REAL *a, size_t ld, const REAL *bias, const REAL *by, REAL *c) {
  K(vec) acc[SMALL_ROWS][SMALL_COLS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int v = 0; v < nv; v++) acc[r][v] = K(splat)(bias ? bias[r] : 0);
  for (size_t k = 0; k < n; k++, a += ld, w += wk) {
    K(vec) av[SMALL_COLS];
#pragma GCC unroll 8
    for (int v = 0; v < nv; v++) av[v] = ((const K(vec) *)a)[v];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      K(vec) wv = K(splat)(w[(size_t)r * wr]);
#pragma GCC unroll 8
      for (int v = 0; v < nv; v++) acc[r][v] = K(MADD)(wv, av[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int v = 0; v < nv; v++) {
      size_t at = (size_t)r * ld + (size_t)v * K(LANES);
      if (by) acc[r][v] *= *(const K(vec) *)(by + at);
      *(K(vec) *)(c + at) = acc[r][v];
    }
}

/* sum[r * SMALL_COLS + j] = a_r b_j over n vectors; a [rows, ld], b [cols, ld]. */
static inline __attribute__((always_inline)) void
K(small_dots)(const int rows, const int cols, size_t n, const REAL *a, const REAL *b,
              size_t ld, K(vec) * sum) {
  K(vec) acc[SMALL_ROWS][SMALL_COLS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int j = 0; j < cols; j++) acc[r][j] = (K(vec)){0};
  for (size_t i = 0; i < n * K(LANES); i += K(LANES)) {
    K(vec) bv[SMALL_COLS];
#pragma GCC unroll 8
    for (int j = 0; j < cols; j++) bv[j] = *(const K(vec) *)(b + (size_t)j * ld + i);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      K(vec) av = *(const K(vec) *)(a + (size_t)r * ld + i);
#pragma GCC unroll 8
      for (int j = 0; j < cols; j++) acc[r][j] = K(MADD)(av, bv[j], acc[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int j = 0; j < cols; j++) sum[r * SMALL_COLS + j] = acc[r][j];
}

typedef void K(small_tile_fn)(size_t n, const REAL *w, size_t wr, size_t wk,
                              const REAL *a, size_t ld, const REAL *bias, const REAL *by,
                              REAL *c);
typedef void K(small_dots_fn)(size_t n, const REAL *a, const REAL *b, size_t ld,
                              K(vec) * sum);
#define TILE_FN(r, c)                                                                    \
  static void K(small_tile_##r##_##c)(size_t n, const REAL *w, size_t wr, size_t wk,     \
                                      const REAL *a, size_t ld, const REAL *bias,        \
                                      const REAL *by, REAL *to) {                        \
    K(small_tile)(r, c, n, w, wr, wk, a, ld, bias, by, to);                              \
  }                                                                                      \
  static void K(small_dots_##r##_##c)(size_t n, const REAL *a, const REAL *b, size_t ld, \
                                      K(vec) * sum) {                                    \
    K(small_dots)(r, c, n, a, b, ld, sum);                                               \
  }
SMALL_TILES(TILE_FN)
#undef TILE_FN
#define TILE_ENTRY(r, c) [r][c] = K(small_tile_##r##_##c),
#define DOTS_ENTRY(r, c) [r][c] = K(small_dots_##r##_##c),
static K(small_tile_fn) *const
    K(small_tiles)[SMALL_ROWS + 1][SMALL_COLS + 1] = {SMALL_TILES(TILE_ENTRY)};
static K(small_dots_fn) *const
    K(small_dotses)[SMALL_ROWS + 1][SMALL_COLS + 1] = {SMALL_TILES(DOTS_ENTRY)};
#undef TILE_ENTRY
#undef DOTS_ENTRY

/* c [m, ld] = (bias + w a) by, as small_tile. */
static void K(small_product)(size_t m, size_t n, const REAL *w, size_t wr, size_t wk,
                             const REAL *a, size_t ld, const REAL *bias, const REAL *by,
                             REAL *c) {
  K(cut) strips = K(cut_of)(ld / K(LANES), SMALL_COLS), tiles = K(cut_of)(m, SMALL_ROWS);
  for (size_t s = 0, nv, v = 0; s < strips.tiles; s++, v += nv * K(LANES)) {
    nv = strips.base + (s < strips.longer);
    for (size_t t = 0, rows, i = 0; t < tiles.tiles; t++, i += rows) {
      rows = tiles.base + (t < tiles.longer);
      size_t at = i * ld + v;
      K(small_tile_fn) *tile = K(small_tiles)[rows][nv];
      tile(n, w + i * wr, wr, wk, a + v, ld, bias ? bias + i : NULL, by ? by + at : NULL,
           c + at);
    }
  }
}

typedef __typeof__((K(vec)){0} == (K(vec)){0}) K(ints);

/* The sums of the elements of LANES vectors, neighbours added first; overwrites them. */
static inline K(vec) K(small_fold)(K(vec) * v) {
  K(ints) even, odd;
#pragma GCC unroll 16
  for (int i = 0; i < K(LANES); i++) even[i] = 2 * i, odd[i] = 2 * i + 1;
#pragma GCC unroll 8
  for (int n = K(LANES) / 2; n > 0; n /= 2)
#pragma GCC unroll 16
    for (int i = 0; i < n; i++)
      v[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], even) +
             __builtin_shuffle(v[2 * i], v[2 * i + 1], odd);
  return v[0];
}

/* to [rows, q] (+)= the sums of a tile's dots. */
static inline void K(small_put)(size_t rows, size_t cols, const REAL *folded, bool add,
                                REAL *to, size_t q) {
  for (size_t r = 0; r < rows; r++, to += q, folded += SMALL_COLS)
    if ((int)K(LANES) >= (int)SMALL_COLS) {
      K(vec) v = *(const K(loose) *)folded;
      if (add) v += K(LOAD)(to, K(FIRST)(cols));
      K(STORE)(to, K(FIRST)(cols), v);
    } else {
      for (size_t c = 0; c < cols; c++) to[c] = (add ? to[c] : 0) + folded[c];
    }
}

/* grad [m, q] (+)= a [m, ld] b [q, ld]^T over the rows of the block. */
static void K(small_grad)(K(small_net) * net, size_t m, size_t q, const REAL *a,
                          const REAL *b, REAL *grad) {
  enum { L = K(LANES) };
  K(cut) tiles = K(cut_of)(m, SMALL_ROWS), strips = K(cut_of)(q, SMALL_COLS);
  REAL folded[K(SMALL_SUMS) + L];
  for (size_t t = 0, rows, i = 0; t < tiles.tiles; t++, i += rows) {
    rows = tiles.base + (t < tiles.longer);
    for (size_t s = 0, cols, j = 0; s < strips.tiles; s++, j += cols) {
      cols = strips.base + (s < strips.longer);
      K(small_dots_fn) *dots = K(small_dotses)[rows][cols];
      dots(net->ld / L, a + i * net->ld, b + j * net->ld, net->ld, net->sum);
      for (size_t f = 0; f < rows * SMALL_COLS; f += L)
        *(K(loose) *)(folded + f) = K(small_fold)(net->sum + f);
      K(small_put)(rows, cols, folded, net->blocks > 0, grad + i * q + j, q);
    }
  }
}

/* to [n, ld] = from [rows, n] transposed, filled up with zeros. */
static void K(to_features)(size_t rows, size_t n, size_t ld, const REAL *from, REAL *to) {
  for (size_t i = 0; i < n; i++, to += ld) {
    for (size_t b = 0; b < rows; b++) to[b] = from[b * n + i];
    for (size_t b = rows; b < ld; b++) to[b] = 0;
  }
}

static void K(to_rows)(size_t rows, size_t n, size_t ld, const REAL *from, REAL *to) {
  for (size_t b = 0; b < rows; b++)
    for (size_t i = 0; i < n; i++) to[b * n + i] = from[i * ld + b];
}

static void K(small_forward)(const K(small_net) * net, const REAL *params) {
  const coh_small *s = net->s;
  for (size_t l = 0; l < s->L; l++) {
    const coh_small_layer *y = &s->layer[l];
    const REAL *w = params + y->w, *bias = w + y->in * y->out;
    K(small_product)
    (y->out, y->in, w, 1, y->out, net->in[l], net->ld, bias, NULL, net->out[l]);
    REAL *slope = s->grads ? net->dz[l] : NULL;
    if (l + 1 < s->L) K(act_flat)(y->act, y->out * net->ld, net->out[l], slope);
  }
}

/* Loss of member n's rows of the block, from first on; its gradient into the last dz. */
static double K(small_loss)(const K(small_net) * net, size_t n, size_t first,
                            void *scratch) {
  const coh_small *s = net->s;
  size_t O = s->layer[s->L - 1].out, rows = net->rows, ld = net->ld;
  REAL *out = net->out[s->L - 1], *dz = net->dz[s->L - 1];
  const REAL *y = s->y ? (const REAL *)s->y + n * s->stride_t + first * O : NULL;
  const int32_t *labels = s->labels ? s->labels + n * s->stride_t + first : NULL;
  REAL *flat = O > 1 ? net->flat : out, *dflat = net->dflat;
  if (O > 1) K(to_rows)(rows, O, ld, out, flat);
  double loss =
      labels ? K(cross_entropy)(rows, O, flat, labels, s->scale, dflat, NULL, scratch)
             : K(mse)(rows, O, flat, y, s->scale, dflat);
  K(to_features)(rows, O, ld, dflat, dz);
  return loss;
}

static void K(small_backward)(K(small_net) * net, const REAL *params, REAL *grads) {
  const coh_small *s = net->s;
  for (size_t l = s->L; l-- > 0;) {
    const coh_small_layer *y = &s->layer[l];
    K(small_grad)(net, y->in + 1, y->out, net->in[l], net->dz[l], grads + y->w);
    if (l > 0) K(small_product)
    (y->in, y->out, params + y->w, y->out, 1, net->dz[l], net->ld, NULL, net->dz[l - 1],
     net->dz[l - 1]);
  }
}

/* Lays the arrays of a block out and fills in the ones. */
static void K(small_layout)(K(small_net) * net, REAL *at) {
  const coh_small *s = net->s;
  size_t ld = net->ld, O = s->layer[s->L - 1].out;
  for (size_t l = 0; l < s->L; l++) {
    net->in[l] = at;
    at += s->layer[l].in * ld;
    for (size_t i = 0; i < ld; i++) *at++ = 1;
    net->dz[l] = at;
    at += s->layer[l].out * ld;
    net->out[l] = at;
  }
  net->flat = at + O * ld;
  net->dflat = net->flat + O * ld;
}

/* Member n's rows of the block, from first on. */
static void K(small_input)(const K(small_net) * net, size_t n, size_t first) {
  const coh_small *s = net->s;
  size_t I = s->layer[0].in;
  const REAL *x = (const REAL *)s->x + n * s->stride_x + first * I;
  K(to_features)(net->rows, I, net->ld, x, net->in[0]);
}

/* Elements of these arrays. */
static size_t K(small_room)(const coh_small *s) {
  size_t n = s->layer[0].in + 1;
  for (size_t l = 0; l < s->L; l++) n += 2 * s->layer[l].out + 1;
  return (n + 2 * s->layer[s->L - 1].out) * K(SMALL_BLOCK);
}

static void K(small)(const coh_small *s, void *arrays, void *scratch) {
  K(small_net) net = {.s = s};
  for (size_t first = 0; first < s->B; first += K(SMALL_BLOCK), net.blocks++) {
    net.rows = s->B - first < K(SMALL_BLOCK) ? s->B - first : K(SMALL_BLOCK);
    net.ld = (net.rows + K(LANES) - 1) / K(LANES) * K(LANES);
    K(small_layout)(&net, arrays);
    for (size_t n = 0; n < s->N; n++) {
      const REAL *params = (const REAL *)s->params + n * s->P;
      if (n == 0 || s->stride_x > 0) K(small_input)(&net, n, first);
      K(small_forward)(&net, params);
      s->loss[n] += K(small_loss)(&net, n, first, scratch);
      if (s->grads) K(small_backward)(&net, params, (REAL *)s->grads + n * s->P);
    }
  }
}
