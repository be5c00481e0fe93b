/* gemm_real.h - matrix products of all members; read by kernels.c for float and double.
 *
 * Built as Goto & van de Geijn, "Anatomy of high-performance matrix multiplication"
 * (2008) and Van Zee & van de Geijn, "BLIS" (2015): a register tile of C, TILE_ROWS by
 * two vectors, runs over a block of K; the columns of B it needs are packed so that they
 * stay in the first-level cache. Elements of A are broadcast from where they lie.
 *
 * Why a result does not depend on N, position or neighbours: every element of C is one
 * chain of multiply-adds over k in rising order, cut into blocks that depend on K alone,
 * in every tile shape; columns and rows beyond the matrix only fill up a tile.
 */

enum {
  K(LANES) = VECTOR_BYTES / sizeof(REAL),
  K(NR) = 2 * K(LANES), /* columns of a tile */
  K(KC) = 256, /* largest block of K: NR by KC elements fit the first-level cache */
  K(MC) = 516  /* rows of A used again for each panel: MC by KC fit the second */
};

typedef REAL K(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL K(loose) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)),
                                     may_alias)); /* at any address */

typedef struct K(gemm_scratch) {
  REAL b[K(KC) * K(NR)];     /* the packed columns: [k][NR] */
  REAL c[TILE_ROWS * K(NR)]; /* a tile whose columns belong to several members */
  REAL a[K(KC) * K(MC)];     /* packed tiles of rows: [tile][k][rows] */
} K(gemm_scratch);

static inline __attribute__((always_inline)) K(vec) K(splat)(REAL x) {
  return x - (K(vec)){0};
}

#ifdef PLAIN_VECTORS
static inline K(vec) K(load_first)(const REAL *p, size_t n) {
  K(vec) v = {0};
  memcpy(&v, p, n * sizeof(REAL));
  return v;
}
#endif

/* Where a tile goes: its first m rows, ldc apart; a second vector of columns `next` from
 * the first; the first `last` elements of the last vector; added if `add`. */
typedef struct K(target) {
  REAL *c;
  size_t ldc, next, m, last;
  bool add;
} K(target);

/* C [rows, nv vectors] (+)= A [rows, k] B [k, nv vectors]. a's element (i, k) lies at
 * a[i * row + k * col]; b as packed. rows, nv: constants. */
static inline __attribute__((always_inline)) void
K(tile)(const int rows, const int nv, size_t k, const REAL *a, size_t row, size_t col,
        const REAL *b, const K(target) * t) {
  REAL *c = t->c;
  K(vec) acc[TILE_ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < nv; j++) acc[i][j] = (K(vec)){0};
  for (; k > 0; k--, a += col, b += nv * K(LANES)) {
    K(vec) bv[2];
    for (int j = 0; j < nv; j++) bv[j] = ((const K(vec) *)b)[j];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      K(vec) av = K(splat)(a[(size_t)i * row]);
      for (int j = 0; j < nv; j++) acc[i][j] = K(MADD)(av, bv[j], acc[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++, c += t->ldc) {
    if ((size_t)i == t->m) break;
    REAL *end = nv == 2 ? c + t->next : c;
    if (t->add) {
      if (nv == 2) acc[i][0] += *(K(loose) *)c;
      acc[i][nv - 1] += K(LOAD)(end, K(FIRST)(t->last));
    }
    if (nv == 2) *(K(loose) *)c = acc[i][0];
    K(STORE)(end, K(FIRST)(t->last), acc[i][nv - 1]);
  }
}

typedef void K(tile_fn)(size_t k, const REAL *a, size_t row, size_t col, const REAL *b,
                        const K(target) *);
#define TILE_FN(name, rows, nv)                                                          \
  static void K(name)(size_t k, const REAL *a, size_t row, size_t col, const REAL *b,    \
                      const K(target) * t) {                                             \
    K(tile)(rows, nv, k, a, row, col, b, t);                                             \
  }
TILE_FN(tile_full_1, TILE_ROWS, 1)
TILE_FN(tile_full_2, TILE_ROWS, 2)
TILE_FN(tile_two_1, 2 * TILE_ROWS / 3, 1)
TILE_FN(tile_two_2, 2 * TILE_ROWS / 3, 2)
TILE_FN(tile_one_1, TILE_ROWS / 3, 1)
TILE_FN(tile_one_2, TILE_ROWS / 3, 2)
#undef TILE_FN

/* dst[0..n) = src[0..n), n small: two overlapping pieces instead of a loop. */
static inline void K(copy)(REAL *dst, const REAL *src, size_t n) {
  enum { W = K(LANES), H = W / 2 };
  size_t i = 0;
  for (; i + W <= n; i += W) memcpy(dst + i, src + i, W * sizeof(REAL));
  if (i == n) return;
  if (n >= W)
    memcpy(dst + n - W, src + n - W, W * sizeof(REAL));
  else if (n >= H) {
    memcpy(dst, src, H * sizeof(REAL));
    memcpy(dst + n - H, src + n - H, H * sizeof(REAL));
  } else
    for (; i < n; i++) dst[i] = src[i];
}

/* Some columns of [op(B_0) op(B_1) ...]: `n` from column q on of one member. */
typedef struct K(piece) {
  size_t member, q, n;
} K(piece);

/* Columns count from 0 to (members side by side) * Q. */
static inline K(piece) K(piece_at)(const coh_gemm *g, size_t column, size_t end) {
  size_t member = column / g->Q, q = column - member * g->Q, n = g->Q - q;
  return (K(piece)){member, q, n < end - column ? n : end - column};
}

/* Packs columns [first, first + n) and rows [k0, k0 + kn) of B as [kn][width]. */
static void K(pack_b)(const coh_gemm *g, size_t first, size_t n, size_t k0, size_t kn,
                      size_t width, REAL *dst) {
  if (n < width) memset(dst, 0, kn * width * sizeof(REAL));
  for (size_t at = first; at < first + n;) {
    K(piece) p = K(piece_at)(g, at, first + n);
    const REAL *src = (const REAL *)g->b + p.member * g->stride_b;
    REAL *to = dst + (at - first);
    if (g->trans_b) {
      src += p.q * g->ldb + k0;
      for (size_t j = 0; j < p.n; j++)
        for (size_t k = 0; k < kn; k++) to[k * width + j] = src[j * g->ldb + k];
    } else {
      src += k0 * g->ldb + p.q;
      for (size_t k = 0; k < kn; k++) K(copy)(to + k * width, src + k * g->ldb, p.n);
    }
    at += p.n;
  }
}

/* Writes m rows of a tile (ldc = width) to columns [first, first + n) of C. */
static void K(store_c)(const coh_gemm *g, const REAL *tile, size_t width, size_t i0,
                       size_t m, size_t first, size_t n, bool add) {
  for (size_t at = first; at < first + n;) {
    K(piece) p = K(piece_at)(g, at, first + n);
    REAL *c = (REAL *)g->c + p.member * g->stride_c + i0 * g->ldc + p.q;
    for (size_t i = 0; i < m; i++, c += g->ldc) {
      const REAL *src = tile + i * width + (at - first);
      if (add)
        for (size_t j = 0; j < p.n; j++) c[j] += src[j];
      else
        K(copy)(c, src, p.n);
    }
    at += p.n;
  }
}

/* Rows [i0, i1) of the A of all columns, times k from k0 over kn; (+)= if `add`. Packing
 * pays where rows of A lie across memory and several panels of columns read them. */
typedef struct K(block) {
  const coh_gemm *g;
  K(gemm_scratch) * s;
  size_t k0, kn, i0, i1;
  bool add,
      packed; /* packed: all tiles of rows lie in s->a, else only a last, short one */
} K(block);

/* The tile of rows from row i: its rows, and the number it is computed with. */
typedef struct K(rows) {
  size_t m, shape, filled;
  const REAL *a; /* element (i, k) at a[i * row + k * col] */
  size_t row, col;
} K(rows);

static inline K(rows) K(rows_at)(const K(block) * b, size_t i) {
  const size_t third = TILE_ROWS / 3;
  const coh_gemm *g = b->g;
  K(rows) r = {.m = b->i1 - i < TILE_ROWS ? b->i1 - i : TILE_ROWS};
  r.shape = (r.m - 1) / third;
  r.filled = (r.shape + 1) * third;
  r.row = g->trans_a ? 1 : g->lda;
  r.col = g->trans_a ? g->lda : 1;
  r.a = (const REAL *)g->a + i * r.row + b->k0 * r.col;
  return r;
}

static inline REAL *K(packed_at)(const K(block) * b, size_t i) {
  return b->s->a + (i - b->i0) * b->kn;
}

/* [kn][filled], filled up with zeros. */
static void K(pack_tile)(const K(block) * b, K(rows) r, REAL *dst) {
  if (r.m < r.filled) memset(dst, 0, b->kn * r.filled * sizeof(REAL));
  if (r.row == 1)
    for (size_t k = 0; k < b->kn; k++) K(copy)(dst + k * r.filled, r.a + k * r.col, r.m);
  else
    for (size_t j = 0; j < r.m; j++)
      for (size_t k = 0; k < b->kn; k++) dst[k * r.filled + j] = r.a[j * r.row + k];
}

static void K(pack_a)(const K(block) * b) {
  for (size_t i = b->i0; i < b->i1; i += TILE_ROWS) {
    K(rows) r = K(rows_at)(b, i);
    if (b->packed || r.m < r.filled) K(pack_tile)(b, r, K(packed_at)(b, i));
  }
}

/* Where the columns [first, first + n) of row i0 go: at once where each vector belongs to
 * one member, else into the scratch tile first. */
static K(target)
    K(target_of)(const K(block) * b, size_t first, size_t n, size_t nv, bool *direct) {
  const coh_gemm *g = b->g;
  size_t width = nv * K(LANES), end = first + n;
  K(piece) p = K(piece_at)(g, first, end);
  *direct = p.n == n || (p.n == K(LANES) && g->Q >= n - p.n);
  K(target) t = {.ldc = width, .next = K(LANES), .last = n - width + K(LANES)};
  t.c = b->s->c;
  if (!*direct) return t;
  t.c = (REAL *)g->c + p.member * g->stride_c + p.q;
  if (p.n < n) t.next = g->stride_c - p.q;
  t.ldc = g->ldc;
  t.add = b->add;
  return t;
}

/* The packed columns [first, first + n) times all rows of the block. */
static void K(panel)(const K(block) * b, size_t first, size_t n) {
  static K(tile_fn) *const tiles[3][2] = {{K(tile_one_1), K(tile_one_2)},
                                          {K(tile_two_1), K(tile_two_2)},
                                          {K(tile_full_1), K(tile_full_2)}};
  size_t nv = n > K(LANES) ? 2 : 1;
  bool direct;
  K(target) t = K(target_of)(b, first, n, nv, &direct);
  REAL *c = t.c;
  for (size_t i = b->i0; i < b->i1; i += TILE_ROWS) {
    K(rows) r = K(rows_at)(b, i);
    if (b->packed || r.m < r.filled)
      r.a = K(packed_at)(b, i), r.row = 1, r.col = r.filled;
    t.m = r.m;
    if (direct) t.c = c + i * t.ldc;
    tiles[r.shape][nv - 1](b->kn, r.a, r.row, r.col, b->s->b, &t);
    if (!direct) K(store_c)(b->g, c, t.ldc, i, r.m, first, n, b->add);
  }
}

/* All columns of N members that share one A (N = 1: of one member). */
static void K(product)(const coh_gemm *g, K(gemm_scratch) * s) {
  size_t blocks = (g->K + K(KC) - 1) / K(KC), kc = (g->K + blocks - 1) / blocks;
  size_t columns = g->N * g->Q, panels = (columns + K(NR) - 1) / K(NR);
  K(block) b = {.g = g, .s = s};
  b.packed = g->trans_a && panels >= 3;
  for (b.k0 = 0; b.k0 < g->K; b.k0 += kc) {
    b.kn = g->K - b.k0 < kc ? g->K - b.k0 : kc;
    b.add = b.k0 > 0 || g->beta != 0;
    for (b.i0 = 0; b.i0 < g->M; b.i0 += K(MC)) {
      b.i1 = g->M - b.i0 < K(MC) ? g->M : b.i0 + K(MC);
      K(pack_a)(&b);
      for (size_t q = 0; q < columns; q += K(NR)) {
        size_t n = columns - q < K(NR) ? columns - q : K(NR);
        K(pack_b)(g, q, n, b.k0, b.kn, n > K(LANES) ? K(NR) : K(LANES), s->b);
        K(panel)(&b, q, n);
      }
    }
  }
}

static void K(clear_c)(const coh_gemm *g) {
  for (size_t n = 0; n < g->N; n++)
    for (size_t i = 0; i < g->M; i++)
      memset((REAL *)g->c + n * g->stride_c + i * g->ldc, 0, g->Q * sizeof(REAL));
}

/* Members whose columns leave vectors half empty are laid side by side where they share A
 * and K is long enough to pay for the pieces. */
static void K(gemm)(const coh_gemm *g, void *scratch) {
  if (g->N == 0 || g->M == 0 || g->Q == 0) return;
  if (g->K == 0) {
    if (g->beta == 0) K(clear_c)(g);
    return;
  }
  if (g->N == 1 || (g->stride_a == 0 && g->K >= 32)) {
    K(product)(g, scratch);
    return;
  }
  coh_gemm one = *g;
  one.N = 1;
  for (size_t n = 0; n < g->N; n++) {
    one.a = (const REAL *)g->a + n * g->stride_a;
    one.b = (const REAL *)g->b + n * g->stride_b;
    one.c = (REAL *)g->c + n * g->stride_c;
    K(product)(&one, scratch);
  }
}
