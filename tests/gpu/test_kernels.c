/* test_kernels.c - every function of the CUDA device table against the CPU's in float64:
 * odd sizes from 1 to 67 and large ones, both precisions, outputs poisoned beforehand,
 * nothing written behind the end. Prints "ok NAME" and "not ok NAME".
 */
#include "twin.h"

enum { SIZES = 67 };

static const coh_dtype types[] = {COH_F32, COH_F64};
#define FOR_TYPES(p)                                                                     \
  for (int type_ = 0; type_ < 2; type_++)                                                \
    for (pair p = pair_open(types[type_]), *once = &p; once; pair_close(&p), once = NULL)

/* ---- products ---- */

static void gemm_case(const pair *p, size_t N, size_t M, size_t Q, size_t K, int bits) {
  bool ta = bits & 1, tb = bits & 2, shared = bits & 4;
  double beta = bits & 8 ? 1 : 0;
  size_t lda = (ta ? M : K) + 3, ldb = (tb ? K : Q) + 2, ldc = Q + 1;
  size_t a_size = (ta ? K : M) * lda, b_size = (tb ? Q : K) * ldb, c_size = M * ldc;
  twin a = twin_make(p, (shared ? 1 : N) * a_size, 1, 1);
  twin b = twin_make(p, N * b_size, 1, 2);
  twin c = twin_make(p, N * c_size, beta ? 1 : (double)NAN, 3);
  BOTH(p, dev, gpu, {
    const coh_gemm g = {.trans_a = ta,
                        .trans_b = tb,
                        .N = N,
                        .M = M,
                        .Q = Q,
                        .K = K,
                        .a = AT(a, gpu),
                        .lda = lda,
                        .stride_a = shared ? 0 : a_size,
                        .b = AT(b, gpu),
                        .ldb = ldb,
                        .stride_b = b_size,
                        .beta = beta,
                        .c = AT(c, gpu),
                        .ldc = ldc,
                        .stride_c = c_size};
    OK(dev->ops->gemm(dev, &g, &err));
  });
  SAME(&c, 4 + sqrt((double)K), sqrt((double)K));
  twin_free(&a);
  twin_free(&b);
  twin_free(&c);
}

static void gemm_of_odd_sizes(void) {
  FOR_TYPES(p)
  for (size_t s = 1; s <= SIZES; s++)
    gemm_case(&p, s % 4 + 1, s, s * 7 % SIZES + 1, s * 13 % SIZES + 1, (int)s % 16);
}

static void gemm_of_all_forms(void) {
  FOR_TYPES(p) for (int bits = 0; bits < 16; bits++) gemm_case(&p, 3, 17, 33, 65, bits);
}

static void gemm_large(void) {
  FOR_TYPES(p) {
    gemm_case(&p, 2, 512, 256, 784, 4);
    gemm_case(&p, 2, 784, 256, 512, 1);
  }
}

/* ---- activations ---- */

static void bias_act_case(const pair *p, coh_act act, size_t N, size_t B, size_t O,
                          bool slopes) {
  size_t stride = O + 5;
  twin z = twin_make(p, N * B * O, 4, 1), bias = twin_make(p, N * stride, 1, 2);
  twin deriv = twin_make(p, N * B * O, (double)NAN, 0);
  BOTH(p, dev, gpu, {
    OK(dev->ops->bias_act(dev, act, N, B, O, AT(bias, gpu), stride, AT(z, gpu),
                          slopes ? AT(deriv, gpu) : NULL, &err));
  });
  SAME(&z, 16, 1);
  SAME(&deriv, 24, 1);
  twin_free(&z);
  twin_free(&bias);
  twin_free(&deriv);
}

static void activations(void) {
  FOR_TYPES(p) {
    for (size_t s = 1; s <= SIZES; s++)
      bias_act_case(&p, (coh_act)(s % 9), s % 3 + 1, s * 5 % SIZES + 1, s, s % 2);
    for (int act = COH_RELU; act <= COH_G; act++)
      bias_act_case(&p, (coh_act)act, 3, 100, 40, true);
  }
}

static void act_grad(void) {
  FOR_TYPES(p) for (size_t s = 1; s <= SIZES; s += 3) {
    twin dz = twin_make(&p, 3 * s, 1, 1), deriv = twin_make(&p, 3 * s, 1, 2);
    BOTH(&p, dev, gpu,
         { OK(dev->ops->act_grad(dev, 3, s, AT(dz, gpu), AT(deriv, gpu), &err)); });
    SAME(&dz, 1, 0);
    twin_free(&dz);
    twin_free(&deriv);
  }
}

static void bias_grad_case(const pair *p, size_t N, size_t B, size_t O) {
  size_t stride = O + 3;
  twin dz = twin_make(p, N * B * O, 1, 1), db = twin_make(p, N * stride, 1, 2);
  BOTH(p, dev, gpu, {
    OK(dev->ops->bias_grad(dev, N, B, O, AT(dz, gpu), AT(db, gpu), stride, &err));
  });
  SAME(&db, 2 + sqrt((double)B), sqrt((double)B));
  twin_free(&dz);
  twin_free(&db);
}

static void bias_grad(void) {
  FOR_TYPES(p) {
    for (size_t s = 1; s <= SIZES; s++)
      bias_grad_case(&p, s % 4 + 1, s * 7 % SIZES + 1, s);
    bias_grad_case(&p, 3, 1000, 300);
  }
}

static void outer(void) {
  FOR_TYPES(p) for (size_t s = 1; s <= SIZES; s += 2) {
    size_t B = s * 3 % 11 + 1, I = s, O = s * 5 % SIZES + 1, ldc = I * O + 4;
    twin a = twin_make(&p, B * I, 1, 1), dz = twin_make(&p, B * O, 1, 2);
    twin c = twin_make(&p, B * ldc, 1, 3), ones = twin_make(&p, B * ldc, 1, 4);
    BOTH(&p, dev, gpu, {
      OK(dev->ops->outer(dev, B, I, O, AT(a, gpu), AT(dz, gpu), AT(c, gpu), ldc, &err));
      OK(dev->ops->outer(dev, B, 1, O, NULL, AT(dz, gpu), AT(ones, gpu), ldc, &err));
    });
    SAME(&c, 1, 0);
    SAME(&ones, 0, 0);
    twin_free(&a);
    twin_free(&dz);
    twin_free(&c);
    twin_free(&ones);
  }
}

/* ---- losses ---- */

typedef struct sums { /* device doubles [N] on both sides */
  double *gpu, *cpu;
} sums;

static sums sums_make(const pair *p, size_t N) {
  double *start = malloc(N * sizeof *start);
  for (size_t n = 0; n < N; n++) start[n] = 0.5 * (double)n;
  sums s = {on_device(p->gpu, start, N * sizeof *start),
            on_device(p->cpu, start, N * sizeof *start)};
  free(start);
  return s;
}

static void sums_check(const pair *p, sums *s, size_t N, double tolerance) {
  double *gpu = malloc(N * sizeof *gpu);
  OK(p->gpu->ops->download(p->gpu, gpu, s->gpu, N * sizeof *gpu, &err));
  for (size_t n = 0; n < N; n++)
    CHECK(fabs(gpu[n] - s->cpu[n]) <= tolerance * (1 + fabs(s->cpu[n])));
  free(gpu);
  p->gpu->ops->free(p->gpu, s->gpu);
  p->cpu->ops->free(p->cpu, s->cpu);
}

static double sum_tolerance(const pair *p) {
  return p->gpu->dtype == COH_F64 ? 1e-13 : 2e-6;
}

static void loss_case(const pair *p, size_t N, size_t B, size_t O, bool classes, bool own,
                      bool gradient) {
  size_t targets = own ? N : 1;
  twin out = twin_make(p, N * B * O, 3, 1), y = twin_make(p, targets * B * O, 1, 2);
  twin dout = twin_make(p, N * B * O, (double)NAN, 0);
  sums loss = sums_make(p, N), correct = sums_make(p, N);
  int32_t *label = malloc(targets * B * sizeof *label);
  for (size_t i = 0; i < targets * B; i++) label[i] = (int32_t)((i * 7 + i / B) % O);
  void *labels[2] = {on_device(p->cpu, label, targets * B * sizeof *label),
                     on_device(p->gpu, label, targets * B * sizeof *label)};
  BOTH(p, dev, gpu, {
    coh_loss_args a = {.N = N,
                       .B = B,
                       .O = O,
                       .out = AT(out, gpu),
                       .scale = 0.25,
                       .dout = gradient ? AT(dout, gpu) : NULL,
                       .loss = AT(loss, gpu)};
    if (classes)
      a.labels = labels[gpu], a.stride_t = own ? B : 0, a.correct = AT(correct, gpu);
    else
      a.y = AT(y, gpu), a.stride_t = own ? B * O : 0;
    OK(dev->ops->loss(dev, &a, &err));
  });
  SAME(&dout, 16, 1);
  sums_check(p, &loss, N, sum_tolerance(p));
  sums_check(p, &correct, N, 0);
  p->gpu->ops->free(p->gpu, labels[1]);
  p->cpu->ops->free(p->cpu, labels[0]);
  free(label);
  twin_free(&out);
  twin_free(&y);
  twin_free(&dout);
}

static void mean_square_error(void) {
  FOR_TYPES(p)
  for (size_t s = 1; s <= SIZES; s++)
    loss_case(&p, s % 4 + 1, s * 11 % SIZES + 1, s, false, s % 2, s % 3);
}

static void cross_entropy(void) {
  FOR_TYPES(p) {
    for (size_t s = 1; s <= SIZES; s++)
      loss_case(&p, s % 4 + 1, s * 11 % SIZES + 1, s, true, s % 2, s % 3);
    loss_case(&p, 2, 600, 10, true, false, true);
  }
}

static void label_that_is_none(void) {
  FOR_TYPES(p) {
    double zero = 0, loss;
    int32_t label[2] = {1, 7};
    twin out = twin_make(&p, 4, 1, 1);
    coh_loss_args a = {.N = 1, .B = 2, .O = 2, .out = out.gpu, .scale = 1};
    a.labels = on_device(p.gpu, label, sizeof label);
    a.loss = on_device(p.gpu, &zero, sizeof zero);
    OK(p.gpu->ops->loss(p.gpu, &a, &err));
    OK(p.gpu->ops->download(p.gpu, &loss, a.loss, sizeof loss, &err));
    CHECK(isnan(loss));
    p.gpu->ops->free(p.gpu, a.loss);
    p.gpu->ops->free(p.gpu, (void *)a.labels);
    twin_free(&out);
  }
}

/* ---- optimisers ---- */

typedef struct rates {
  void *pace, *lr, *wd;
} rates;

static rates rates_make(coh_device *dev, const coh_step_args *a, uint64_t t) {
  coh_pace pace = coh_pace_of(a->kind, a->beta1, a->beta2, t);
  double *lr = malloc(a->N * sizeof *lr), *wd = malloc(a->N * sizeof *wd);
  for (size_t n = 0; n < a->N; n++)
    lr[n] = 1e-3 * (double)(n + 1), wd[n] = n % 2 ? 1e-2 : 0;
  rates r = {on_device(dev, &pace, sizeof pace), on_device(dev, lr, a->N * sizeof *lr),
             on_device(dev, wd, a->N * sizeof *wd)};
  free(lr);
  free(wd);
  return r;
}

static void rates_free(coh_device *dev, rates *r) {
  dev->ops->free(dev, r->pace);
  dev->ops->free(dev, r->lr);
  dev->ops->free(dev, r->wd);
}

static void step_case(const pair *p, coh_optimizer kind, double mu, bool nesterov,
                      size_t N, size_t P, uint64_t t) {
  twin w = twin_make(p, N * P, 1, 1), g = twin_make(p, N * P, 1, 2);
  twin m = twin_make(p, N * P, 0.1, 3), v = twin_make(p, N * P, 0, 4);
  double *squares = malloc(N * P * sizeof *squares); /* no division by nearly nothing */
  for (size_t i = 0; i < N * P; i++) squares[i] = 0.02 + 0.01 * random_value(4, i);
  twin_put(&v, squares, N * P);
  free(squares);
  bool moment = kind == COH_ADAM || mu != 0;
  BOTH(p, dev, gpu, {
    coh_step_args a = {.kind = kind,
                       .nesterov = nesterov,
                       .mu = mu,
                       .beta1 = 0.9,
                       .beta2 = 0.999,
                       .eps = 1e-8,
                       .N = N,
                       .P = P,
                       .w = AT(w, gpu),
                       .g = AT(g, gpu),
                       .m = moment ? AT(m, gpu) : NULL,
                       .v = kind == COH_ADAM ? AT(v, gpu) : NULL};
    rates r = rates_make(dev, &a, t);
    a.pace = r.pace, a.lr = r.lr, a.wd = r.wd;
    OK(dev->ops->step(dev, &a, &err));
    rates_free(dev, &r);
  });
  SAME(&w, 16, 0.1);
  SAME(&m, 8, 0.1);
  SAME(&v, 8, 1e-3);
  twin_free(&w);
  twin_free(&g);
  twin_free(&m);
  twin_free(&v);
}

static void optimisers(void) {
  FOR_TYPES(p) {
    for (size_t s = 1; s <= SIZES; s++)
      step_case(&p, s % 2 ? COH_ADAM : COH_SGD, s % 3 ? 0.9 : 0, s % 4 == 0, s % 5 + 1, s,
                s % 3 + 1);
    step_case(&p, COH_ADAM, 0, false, 3, 5000, 1);
    step_case(&p, COH_SGD, 0.9, true, 3, 5000, 1);
    step_case(&p, COH_SGD, 0, false, 2, 4097, 9);
  }
}

/* ---- places ---- */

enum { PLACES = 6, PLACE_N = 3, PLACE_P = 277, PLACE_ALL = PLACE_N * PLACE_P };

/* The same numbers `shift` elements behind the start of an allocation, which is at
 * `base`; returns where they are. */
static char *place(coh_device *dev, size_t shift, uint64_t seed, bool positive,
                   void **base) {
  size_t size = coh_dtype_size(dev->dtype);
  char *host = malloc(PLACE_ALL * size);
  for (size_t i = 0; i < PLACE_ALL; i++)
    coh_put(dev->dtype, host, i, random_value(seed, i) / 2 + (positive ? 0.6 : 0));
  OK(dev->ops->alloc(dev, (PLACE_ALL + shift) * size, base, &err));
  char *at = (char *)*base + shift * size;
  OK(dev->ops->upload(dev, at, host, PLACE_ALL * size, &err));
  free(host);
  return at;
}

/* bias_act, act_grad and a step of Adam with the arrays at `shift`, `other` those that
 * are only read. Host bytes of what they wrote; the caller frees. */
static char *work_at(coh_device *dev, size_t shift, size_t other) {
  void *base[5];
  size_t bytes = PLACE_ALL * coh_dtype_size(dev->dtype);
  char *w = place(dev, shift, 1, false, &base[0]),
       *g = place(dev, other, 2, false, &base[1]);
  char *m = place(dev, shift, 3, false, &base[2]),
       *v = place(dev, shift, 4, true, &base[3]);
  char *z = place(dev, shift, 5, false, &base[4]), *out = malloc(3 * bytes);
  coh_step_args a = {.kind = COH_ADAM, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
  a.N = PLACE_N, a.P = PLACE_P, a.w = w, a.g = g, a.m = m, a.v = v;
  rates r = rates_make(dev, &a, 3);
  a.pace = r.pace, a.lr = r.lr, a.wd = r.wd;
  OK(dev->ops->act_grad(dev, PLACE_N, PLACE_P, z, g, &err));
  OK(dev->ops->step(dev, &a, &err));
  OK(dev->ops->bias_act(dev, COH_G, 2, 12, 11, g, 0, z, v, &err));
  OK(dev->ops->download(dev, out, w, bytes, &err));
  OK(dev->ops->download(dev, out + bytes, v, bytes, &err));
  OK(dev->ops->download(dev, out + 2 * bytes, z, bytes, &err));
  rates_free(dev, &r);
  for (int i = 0; i < 5; i++) dev->ops->free(dev, base[i]);
  return out;
}

/* Whether sixteen bytes are moved at once or one number after the other. */
static void the_same_bits_at_any_address(void) {
  FOR_TYPES(p) {
    size_t bytes = 3 * PLACE_ALL * coh_dtype_size(p.gpu->dtype);
    char *expected = work_at(p.gpu, 0, 0);
    for (size_t shift = 0; shift < PLACES; shift++)
      for (size_t other = 0; other < 2; other++) {
        char *found = work_at(p.gpu, shift, shift + other);
        CHECK(memcmp(found, expected, bytes) == 0);
        free(found);
      }
    free(expected);
  }
}

/* ---- small networks ---- */

static size_t small_layers(coh_small *s, const size_t *size, size_t L, coh_act act) {
  size_t P = 0;
  s->L = L;
  for (size_t l = 0; l < L; l++) {
    s->layer[l] =
        (coh_small_layer){.in = size[l], .out = size[l + 1], .w = P, .act = act};
    P += (size[l] + 1) * size[l + 1];
  }
  return s->P = P;
}

static void small_case_of(const pair *p, const size_t *size, size_t L, size_t N, size_t B,
                          bool classes, bool own, coh_act act, bool gradient) {
  coh_small base = {.N = N, .B = B, .scale = 0.5};
  size_t P = small_layers(&base, size, L, act), sets = own ? N : 1, O = size[L];
  twin params = twin_make(p, N * P, 0.5, 1), grads = twin_make(p, N * P, (double)NAN, 0);
  twin x = twin_make(p, sets * B * size[0], 1, 2), y = twin_make(p, sets * B * O, 1, 3);
  sums loss = sums_make(p, N);
  int32_t *label = malloc(sets * B * sizeof *label);
  for (size_t i = 0; i < sets * B; i++) label[i] = (int32_t)(i * 5 % O);
  void *labels[2] = {on_device(p->cpu, label, sets * B * sizeof *label),
                     on_device(p->gpu, label, sets * B * sizeof *label)};
  BOTH(p, dev, gpu, {
    coh_small s = base;
    s.x = AT(x, gpu), s.stride_x = own ? B * size[0] : 0;
    s.params = AT(params, gpu), s.loss = AT(loss, gpu);
    if (gradient) s.grads = AT(grads, gpu);
    s.stride_t = own ? classes ? B : B * O : 0;
    if (classes)
      s.labels = labels[gpu];
    else
      s.y = AT(y, gpu);
    OK(dev->ops->small(dev, &s, &err));
  });
  SAME(&grads, 200, sqrt((double)B));
  sums_check(p, &loss, N, 4 * sum_tolerance(p));
  p->gpu->ops->free(p->gpu, labels[1]);
  p->cpu->ops->free(p->cpu, labels[0]);
  free(label);
  twin_free(&params);
  twin_free(&grads);
  twin_free(&x);
  twin_free(&y);
}

static void small_case(const pair *p, const size_t *size, size_t L, size_t N, size_t B,
                       bool classes, bool own, coh_act act) {
  small_case_of(p, size, L, N, B, classes, own, act, true);
  small_case_of(p, size, L, N, B, classes, own, act, false);
}

static void small_networks(void) {
  FOR_TYPES(p) {
    for (size_t s = 1; s <= 64; s += 3) {
      const size_t size[] = {s * 3 % 64 + 1, s, s * 7 % 64 + 1};
      small_case(&p, size, 2, s % 3 + 1, s * 5 % SIZES + 1, s % 2, s % 4 == 0,
                 (coh_act)(s % 9));
    }
    small_case(&p, (const size_t[]){2, 25, 25, 1}, 3, 5, 300, false, false, COH_TANH);
    small_case(&p, (const size_t[]){2, 5, 8, 1}, 3, 2, 33, false, true, COH_G);
    small_case(&p, (const size_t[]){7, 1}, 1, 1, 1, false, false, COH_TANH);
  }
}

/* ---- rows and orders ---- */

static void gather_case(coh_device *dev, size_t row_bytes, size_t S, size_t R, bool at) {
  enum { ROWS = 50, STRIDE = 40 };
  uint32_t index[4 * STRIDE], list[3] = {2, 0, 3}, start = at ? 3 : 0;
  uint8_t *src = malloc(ROWS * row_bytes), *dst = malloc(S * R * row_bytes);
  for (size_t i = 0; i < ROWS * row_bytes; i++) src[i] = (uint8_t)(i * 31 + i / 256);
  for (size_t i = 0; i < 4 * STRIDE; i++) index[i] = (uint32_t)(i * 17 % ROWS);
  coh_gather_args g = {.S = S, .R = R, .row_bytes = row_bytes, .stride = STRIDE};
  void *d_src = on_device(dev, src, ROWS * row_bytes);
  void *d_index = on_device(dev, index, sizeof index);
  void *d_list = on_device(dev, list, sizeof list);
  void *d_at = on_device(dev, &start, sizeof start);
  void *d_dst = on_device(dev, src, S * R * row_bytes);
  g.src = d_src, g.index = d_index, g.dst = d_dst;
  if (S > 1) g.list = d_list;
  if (at) g.at = d_at;
  OK(dev->ops->gather(dev, &g, &err));
  OK(dev->ops->download(dev, dst, d_dst, S * R * row_bytes, &err));
  for (size_t s = 0; s < S; s++)
    for (size_t r = 0; r < R; r++) {
      size_t from = index[(S > 1 ? list[s] : s) * STRIDE + start + r];
      CHECK(memcmp(dst + (s * R + r) * row_bytes, src + from * row_bytes, row_bytes) ==
            0);
    }
  void *all[] = {d_src, d_index, d_list, d_at, d_dst};
  for (size_t i = 0; i < 5; i++) dev->ops->free(dev, all[i]);
  free(src);
  free(dst);
}

static void gathers(void) {
  FOR_TYPES(p) {
    const size_t bytes[] = {1, 4, 12, 16, 48, 3136, 7};
    for (size_t i = 0; i < 7; i++) {
      gather_case(p.gpu, bytes[i], 1, 13, false);
      gather_case(p.gpu, bytes[i], 3, 11, true);
    }
  }
}

static void compact_case(coh_device *dev, size_t rows, size_t row_bytes, size_t every) {
  uint8_t *data = malloc(rows * row_bytes), *back = malloc(rows * row_bytes);
  uint32_t *keep = malloc(rows * sizeof *keep);
  size_t count = 0;
  for (size_t i = 0; i < rows * row_bytes; i++)
    data[i] = (uint8_t)(i / row_bytes + i * 7);
  for (size_t r = 0; r < rows; r++)
    if (r % every != 1) keep[count++] = (uint32_t)r;
  void *d = on_device(dev, data, rows * row_bytes);
  OK(dev->ops->compact(dev, count, keep, row_bytes, d, &err));
  OK(dev->ops->download(dev, back, d, rows * row_bytes, &err));
  for (size_t i = 0; i < count; i++)
    CHECK(memcmp(back + i * row_bytes, data + keep[i] * row_bytes, row_bytes) == 0);
  dev->ops->free(dev, d);
  free(data);
  free(back);
  free(keep);
}

static void compactions(void) {
  FOR_TYPES(p) {
    compact_case(p.gpu, 1, 8, 2);
    compact_case(p.gpu, 67, 40, 2);
    compact_case(p.gpu, 500, 3004, 3);
    compact_case(p.gpu, 5, 20 << 20, 2); /* rows of which scratch memory holds one */
    compact_case(p.gpu, 3, 33 << 20, 2); /* and none */
  }
}

static void advances(void) {
  FOR_TYPES(p) {
    enum { ROWS = 5, WORDS = 1500 };
    static uint64_t table[ROWS][WORDS], got[WORDS];
    uint32_t cursor = 0;
    for (size_t i = 0; i < ROWS * WORDS; i++) table[i / WORDS][i % WORDS] = i * 977;
    void *t = on_device(p.gpu, table, sizeof table);
    void *c = on_device(p.gpu, &cursor, sizeof cursor);
    void *to = on_device(p.gpu, got, sizeof got);
    for (size_t r = 0; r < ROWS; r++) {
      OK(p.gpu->ops->advance(p.gpu, sizeof got, t, c, to, &err));
      OK(p.gpu->ops->download(p.gpu, got, to, sizeof got, &err));
      CHECK(memcmp(got, table[r], sizeof got) == 0);
    }
    OK(p.gpu->ops->download(p.gpu, &cursor, c, sizeof cursor, &err));
    CHECK(cursor == ROWS);
    p.gpu->ops->free(p.gpu, t);
    p.gpu->ops->free(p.gpu, c);
    p.gpu->ops->free(p.gpu, to);
  }
}

static void order_case(coh_device *dev, size_t n, uint64_t epoch) {
  enum { S = 3 };
  const uint64_t seed[S] = {0, 7, 0x123456789abcdef};
  uint32_t *expected = malloc(n * 4), *got = malloc(S * n * 4);
  void *order = on_device(dev, got, S * n * 4);
  OK(dev->ops->order(dev, S, seed, epoch, n, order, &err));
  OK(dev->ops->download(dev, got, order, S * n * 4, &err));
  for (size_t s = 0; s < S; s++) {
    coh_random_permutation(seed[s], COH_RNG_ORDER, epoch, n, expected);
    CHECK(memcmp(expected, got + s * n, n * 4) == 0);
  }
  dev->ops->free(dev, order);
  free(expected);
  free(got);
}

static void orders_as_the_host_draws_them(void) {
  pair p = pair_open(COH_F32);
  for (size_t n = 1; n <= SIZES; n++) order_case(p.gpu, n, n);
  order_case(p.gpu, 5000, 1);
  order_case(p.gpu, 60000, (uint64_t)1 << 33);
  order_case(p.gpu, 65536, 2);
  order_case(p.gpu, 70001, 3);
  pair_close(&p);
}

/* ---- memory ---- */

static void memory_that_is_not_there(void) {
  pair p = pair_open(COH_F32);
  coh_error why = {0};
  size_t left, total;
  void *memory;
  OK(p.gpu->ops->memory(p.gpu, &left, &total, &err));
  CHECK(left <= total);
  CHECK(p.gpu->ops->alloc(p.gpu, total + (1 << 20), &memory, &why) == COH_ENOMEM);
  CHECK(strstr(why.text, "GiB wanted") && strstr(why.text, "GiB free"));
  CHECK(memory == NULL);
  OK(p.gpu->ops->alloc(p.gpu, 100, &memory, &err)); /* and all goes on */
  char bytes[100];
  memset(bytes, 1, sizeof bytes);
  OK(p.gpu->ops->download(p.gpu, bytes, memory, sizeof bytes, &err));
  for (size_t i = 0; i < sizeof bytes; i++) CHECK(bytes[i] == 0);
  p.gpu->ops->free(p.gpu, memory);
  pair_close(&p);
}

/* ---- recordings ---- */

/* Doubling x by multiplication with 2, recorded once, done `times` times. */
static void recordings(void) {
  FOR_TYPES(p) {
    coh_recording *r = NULL;
    twin x = twin_make(&p, 100, 1, 1), two = twin_make(&p, 100, 1, 1);
    double *twos = malloc(100 * sizeof *twos), *before = twin_gpu(&x);
    for (size_t i = 0; i < 100; i++) twos[i] = 2;
    twin_put(&two, twos, 100);
    OK(p.gpu->ops->record(p.gpu, &err));
    OK(p.gpu->ops->act_grad(p.gpu, 1, 100, x.gpu, two.gpu, &err));
    OK(p.gpu->ops->record_end(p.gpu, &r, &err));
    double *same = twin_gpu(&x);
    for (size_t i = 0; i < 100; i++) CHECK(same[i] == before[i]);
    for (int i = 0; i < 3; i++) OK(p.gpu->ops->replay(p.gpu, r, &err));
    double *after = twin_gpu(&x);
    for (size_t i = 0; i < 100; i++) CHECK(after[i] == 8 * before[i]);
    OK(p.gpu->ops->record(p.gpu, &err));
    OK(p.gpu->ops->act_grad(p.gpu, 1, 100, x.gpu, two.gpu, &err));
    OK(p.gpu->ops->record_end(p.gpu, NULL, &err));
    p.gpu->ops->recording_free(p.gpu, r);
    p.gpu->ops->recording_free(p.gpu, NULL);
    double *still = twin_gpu(&x);
    for (size_t i = 0; i < 100; i++) CHECK(still[i] == after[i]);
    free(twos), free(before), free(same), free(after), free(still);
    twin_free(&x);
    twin_free(&two);
  }
}

/* ---- products with rounded factors ---- */

static void rounded_products(void) {
  const coh_math math[] = {COH_MATH_TF32, COH_MATH_BF16};
  const double unit[] = {0x1p-10, 0x1p-7};
  for (int i = 0; i < 2; i++) {
    pair p = pair_open(COH_F32);
    const coh_device_wish wish = {.kind = COH_DEVICE_CUDA, .math = math[i]};
    coh_device_close(p.gpu);
    OK(coh_device_open_as(&wish, COH_F32, &p.gpu, &err));
    twin a = twin_make(&p, 64 * 64, 1, 1), b = twin_make(&p, 64 * 64, 1, 2);
    twin c = twin_make(&p, 64 * 64, (double)NAN, 3);
    BOTH(&p, dev, gpu, {
      const coh_gemm g = {.N = 1,
                          .M = 64,
                          .Q = 64,
                          .K = 64,
                          .a = AT(a, gpu),
                          .lda = 64,
                          .b = AT(b, gpu),
                          .ldb = 64,
                          .c = AT(c, gpu),
                          .ldc = 64};
      OK(dev->ops->gemm(dev, &g, &err));
    });
    SAME(&c, unit[i] / (double)FLT_EPSILON, 8);
    twin_free(&a);
    twin_free(&b);
    twin_free(&c);
    pair_close(&p);
  }
}

int main(void) {
  RUN(gemm_of_odd_sizes);
  RUN(gemm_of_all_forms);
  RUN(gemm_large);
  RUN(activations);
  RUN(act_grad);
  RUN(bias_grad);
  RUN(outer);
  RUN(mean_square_error);
  RUN(cross_entropy);
  RUN(label_that_is_none);
  RUN(optimisers);
  RUN(the_same_bits_at_any_address);
  RUN(small_networks);
  RUN(gathers);
  RUN(compactions);
  RUN(advances);
  RUN(orders_as_the_host_draws_them);
  RUN(memory_that_is_not_there);
  RUN(recordings);
  RUN(rounded_products);
  return now.failed != 0;
}
