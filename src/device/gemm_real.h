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
  K(MC) = 480  /* rows of A used again for each panel: MC by KC fit the second */
};

typedef REAL K(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL K(loose) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)),
                                     may_alias)); /* at any address */

typedef struct K(gemm_scratch) {
  REAL b[K(KC) * K(NR)];     /* the packed columns: [k][NR] */
  REAL a[K(KC) * TILE_ROWS]; /* rows of an incomplete tile, filled up: [k][rows] */
  REAL c[TILE_ROWS * K(NR)]; /* a tile that cannot be stored as a whole */
} K(gemm_scratch);

static inline __attribute__((always_inline)) K(vec) K(splat)(REAL x) {
  return x - (K(vec)){0};
}

/* C [rows, nv vectors] (+)= A [rows, k] B [k, nv vectors]; a's element (i, k) lies at
 * a[i * row + k * col]; b as packed, ldb elements apart. rows, nv: constants. */
static inline __attribute__((always_inline)) void
K(tile)(const int rows, const int nv, size_t k, const REAL *a, size_t row, size_t col,
        const REAL *b, REAL *c, size_t ldc, bool add) {
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
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < nv; j++) {
      K(loose) *to = (K(loose) *)(c + (size_t)i * ldc + j * K(LANES));
      if (add) acc[i][j] += *to;
      *to = acc[i][j];
    }
}

typedef void K(tile_fn)(size_t k, const REAL *a, size_t row, size_t col, const REAL *b,
                        REAL *c, size_t ldc, bool add);
#define TILE_FN(name, rows, nv)                                                          \
  static void K(name)(size_t k, const REAL *a, size_t row, size_t col, const REAL *b,    \
                      REAL *c, size_t ldc, bool add) {                                   \
    K(tile)(rows, nv, k, a, row, col, b, c, ldc, add);                                   \
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

/* A block of columns of [op(B_0) op(B_1) ...]: `n` columns from column q of one member.
 */
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

/* Rows [0, m) of a as [kn][rows], filled up with zeros. */
static void K(pack_a)(const REAL *a, size_t row, size_t col, size_t m, size_t kn,
                      size_t rows, REAL *dst) {
  for (size_t k = 0; k < kn; k++)
    for (size_t i = 0; i < rows; i++)
      dst[k * rows + i] = i < m ? a[i * row + k * col] : 0;
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

/* One packed panel of columns [first, first + n) times rows [i0, i1) of A (of member 0),
 * k from k0 over kn. */
static void K(panel)(const coh_gemm *g, size_t first, size_t n, size_t k0, size_t kn,
                     size_t i0, size_t i1, bool add, K(gemm_scratch) * s) {
  static K(tile_fn) *const tiles[3][2] = {{K(tile_one_1), K(tile_one_2)},
                                          {K(tile_two_1), K(tile_two_2)},
                                          {K(tile_full_1), K(tile_full_2)}};
  const size_t third = TILE_ROWS / 3;
  size_t row = g->trans_a ? 1 : g->lda, col = g->trans_a ? g->lda : 1;
  size_t nv = n > K(LANES) ? 2 : 1, width = nv * K(LANES);
  K(piece) p = K(piece_at)(g, first, first + n);
  bool whole = p.n == width; /* one member, no columns to fill up */
  REAL *c = (REAL *)g->c + p.member * g->stride_c + p.q;
  for (size_t i = i0; i < i1; i += TILE_ROWS) {
    size_t m = i1 - i < TILE_ROWS ? i1 - i : TILE_ROWS, shape = (m - 1) / third;
    size_t rows = (shape + 1) * third, a_row = row, a_col = col;
    const REAL *a = (const REAL *)g->a + i * row + k0 * col;
    if (m < rows) {
      K(pack_a)(a, row, col, m, kn, rows, s->a);
      a = s->a, a_row = 1, a_col = rows;
    }
    K(tile_fn) *tile = tiles[shape][nv - 1];
    if (whole && m == rows) {
      tile(kn, a, a_row, a_col, s->b, c + i * g->ldc, g->ldc, add);
    } else {
      tile(kn, a, a_row, a_col, s->b, s->c, width, false);
      K(store_c)(g, s->c, width, i, m, first, n, add);
    }
  }
}

/* All columns of N members that share one A (N = 1: of one member). */
static void K(product)(const coh_gemm *g, K(gemm_scratch) * s) {
  size_t blocks = (g->K + K(KC) - 1) / K(KC), kc = (g->K + blocks - 1) / blocks;
  size_t columns = g->N * g->Q;
  for (size_t k0 = 0; k0 < g->K; k0 += kc) {
    size_t kn = g->K - k0 < kc ? g->K - k0 : kc;
    bool add = k0 > 0 || g->beta != 0;
    for (size_t i0 = 0; i0 < g->M; i0 += K(MC)) {
      size_t i1 = g->M - i0 < K(MC) ? g->M : i0 + K(MC);
      for (size_t q = 0; q < columns; q += K(NR)) {
        size_t n = columns - q < K(NR) ? columns - q : K(NR);
        K(pack_b)(g, q, n, k0, kn, n > K(LANES) ? K(NR) : K(LANES), s->b);
        K(panel)(g, q, n, k0, kn, i0, i1, add, s);
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
