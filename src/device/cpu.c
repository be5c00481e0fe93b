/* cpu.c - the CPU back end: chooses the build of kernels.c that fits the processor, walks
 * over members, checks what callers promise. One thread; ranks are the parallelism.
 *
 * Calls allocate nothing once the scratch area has its size: all of it is made at
 * opening, but for a cross-entropy over more classes than COH_CROSS_ENTROPY_CHUNK and for
 * small networks, which make it grow once.
 *
 * Numbers below the normal range count as zero in all arithmetic here: processors take
 * 20 times as long over them, and moments of parameters without a gradient decay into
 * that range and stay there.
 */
#include "device/check.h"
#include "device/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

/* Memory of a size that grows; what was in it is lost. */
typedef struct area {
  void *memory;
  size_t bytes;
} area;

static int area_reserve(area *a, size_t bytes, coh_error *err) {
  if (bytes <= a->bytes) return COH_OK;
  void *larger;
  int rc = coh_alloc(&larger, bytes, 1, err);
  if (rc) return rc;
  free(a->memory);
  *a = (area){larger, bytes};
  return COH_OK;
}

typedef struct cpu {
  const coh_kernels *kernels;
  area scratch; /* of one kernel's call */
  area small;   /* activations of a small network */
} cpu;

static cpu *cpu_of(const coh_device *dev) {
  return dev->impl;
}

/* Member n of an array: `stride` elements apart. NULL stays NULL. */
static void *member(const coh_device *dev, const void *base, size_t n, size_t stride) {
  return base ? (char *)base + n * stride * coh_dtype_size(dev->dtype) : NULL;
}

/* ---- memory ---------------------------------------------------------------------- */

static int cpu_alloc(coh_device *dev, size_t bytes, void **out, coh_error *err) {
  (void)dev;
  return coh_alloc(out, bytes, 1, err);
}

static void cpu_free(coh_device *dev, void *memory) {
  (void)dev;
  free(memory);
}

static int cpu_copy(coh_device *dev, void *dst, const void *src, size_t bytes,
                    coh_error *err) {
  (void)dev, (void)err;
  if (bytes) memcpy(dst, src, bytes);
  return COH_OK;
}

static int cpu_zero(coh_device *dev, void *memory, size_t bytes, coh_error *err) {
  (void)dev, (void)err;
  if (bytes) memset(memory, 0, bytes);
  return COH_OK;
}

static int cpu_sync(coh_device *dev, coh_error *err) {
  (void)dev, (void)err;
  return COH_OK;
}

/* Asks for a row before its turn: rows lie anywhere, so the processor cannot guess. */
static void fetch_row(const char *row, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
}

static void gather_list(const coh_gather_args *g, const uint32_t *index, char *dst) {
  const char *src = g->src;
  for (size_t r = 0; r < g->R; r++, dst += g->row_bytes) {
    if (r + 1 < g->R) fetch_row(src + index[r + 1] * g->row_bytes, g->row_bytes);
    memcpy(dst, src + index[r] * g->row_bytes, g->row_bytes);
  }
}

static int cpu_gather(coh_device *dev, const coh_gather_args *g, coh_error *err) {
  (void)dev, (void)err;
  size_t at = g->at ? *g->at : 0;
  for (size_t s = 0; s < g->S; s++) {
    size_t list = g->list ? g->list[s] : s;
    gather_list(g, g->index + list * g->stride + at,
                (char *)g->dst + s * g->R * g->row_bytes);
  }
  return COH_OK;
}

static int cpu_advance(coh_device *dev, size_t row_bytes, const void *table,
                       uint32_t *cursor, void *now, coh_error *err) {
  (void)dev, (void)err;
  memcpy(now, (const char *)table + *cursor * row_bytes, row_bytes);
  ++*cursor;
  return COH_OK;
}

static int cpu_compact(coh_device *dev, size_t count, const uint32_t *keep,
                       size_t row_bytes, void *rows, coh_error *err) {
  (void)dev;
  int rc = coh_compact_check(count, keep, err);
  for (size_t i = 0; i < count && !rc; i++)
    if (keep[i] > i)
      memcpy((char *)rows + i * row_bytes, (char *)rows + keep[i] * row_bytes, row_bytes);
  return rc;
}

/* Flushes such numbers to zero until arithmetic_end, which gets what this returned. */
static unsigned arithmetic_begin(void) {
#ifdef __SSE__
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040); /* flush-to-zero, denormals-are-zero */
  return mode;
#else
  return 0;
#endif
}

static void arithmetic_end(unsigned mode) {
#ifdef __SSE__
  _mm_setcsr(mode);
#else
  (void)mode;
#endif
}

/* ---- kernels --------------------------------------------------------------------- */

static int cpu_gemm(coh_device *dev, const coh_gemm *g, coh_error *err) {
  int rc = coh_gemm_check(g, err);
  if (rc) return rc;
  cpu *c = cpu_of(dev);
  unsigned mode = arithmetic_begin();
  c->kernels->gemm(g, c->scratch.memory);
  arithmetic_end(mode);
  return COH_OK;
}

static int cpu_bias_act(coh_device *dev, coh_act act, size_t N, size_t B, size_t O,
                        const void *bias, size_t stride_bias, void *z, void *deriv,
                        coh_error *err) {
  (void)err;
  unsigned mode = arithmetic_begin();
  for (size_t n = 0; n < N; n++)
    cpu_of(dev)->kernels->bias_act(act, B, O, member(dev, bias, n, stride_bias),
                                   member(dev, z, n, B * O),
                                   member(dev, deriv, n, B * O));
  arithmetic_end(mode);
  return COH_OK;
}

static int cpu_act_grad(coh_device *dev, size_t N, size_t count, void *dz,
                        const void *deriv, coh_error *err) {
  (void)err;
  unsigned mode = arithmetic_begin();
  cpu_of(dev)->kernels->multiply(N * count, dz, deriv);
  arithmetic_end(mode);
  return COH_OK;
}

static int cpu_bias_grad(coh_device *dev, size_t N, size_t B, size_t O, const void *dz,
                         void *db, size_t stride_db, coh_error *err) {
  (void)err;
  unsigned mode = arithmetic_begin();
  for (size_t n = 0; n < N; n++)
    cpu_of(dev)->kernels->bias_grad(B, O, member(dev, dz, n, B * O),
                                    member(dev, db, n, stride_db));
  arithmetic_end(mode);
  return COH_OK;
}

static int cpu_outer(coh_device *dev, size_t B, size_t I, size_t O, const void *a,
                     const void *dz, void *c, size_t ldc, coh_error *err) {
  (void)err;
  unsigned mode = arithmetic_begin();
  cpu_of(dev)->kernels->outer(B, I, O, a, dz, c, ldc);
  arithmetic_end(mode);
  return COH_OK;
}

/* Labels of `lists` members, `stride` apart. */
static int check_labels(size_t lists, size_t stride, size_t B, size_t O,
                        const int32_t *labels, coh_error *err) {
  for (size_t n = 0; n < lists; n++, labels += stride)
    for (size_t b = 0; b < B; b++)
      if (labels[b] < 0 || (size_t)labels[b] >= O)
        return coh_fail(err, COH_EDATA,
                        "label %d in row %zu of a batch: %zu classes, from 0",
                        (int)labels[b], b, O);
  return COH_OK;
}

/* Checks targets and makes room for what a cross-entropy needs. */
static int prepare_loss(coh_device *dev, size_t N, size_t B, size_t O, const void *y,
                        const int32_t *labels, size_t stride, coh_error *err) {
  if (O == 0 || !y == !labels)
    return coh_fail(err, COH_EBUG, "loss: needs outputs, and either y or labels");
  if (!labels) return COH_OK;
  int rc = check_labels(stride ? N : 1, stride, B, O, labels, err);
  size_t bytes = coh_cross_entropy_room(O) * coh_dtype_size(dev->dtype);
  return rc ? rc : area_reserve(&cpu_of(dev)->scratch, bytes, err);
}

static int cpu_loss(coh_device *dev, const coh_loss_args *a, coh_error *err) {
  cpu *c = cpu_of(dev);
  int rc = prepare_loss(dev, a->N, a->B, a->O, a->y, a->labels, a->stride_t, err);
  if (rc) return rc;
  unsigned mode = arithmetic_begin();
  for (size_t n = 0; n < a->N; n++) {
    void *out = member(dev, a->out, n, a->B * a->O);
    void *dout = member(dev, a->dout, n, a->B * a->O);
    if (a->y) {
      a->loss[n] += c->kernels->mse(a->B, a->O, out, member(dev, a->y, n, a->stride_t),
                                    a->scale, dout);
      continue;
    }
    double right;
    a->loss[n] += c->kernels->cross_entropy(a->B, a->O, out, a->labels + n * a->stride_t,
                                            a->scale, dout, &right, c->scratch.memory);
    if (a->correct) a->correct[n] += right;
  }
  arithmetic_end(mode);
  return COH_OK;
}

static int cpu_step(coh_device *dev, const coh_step_args *a, coh_error *err) {
  int rc = coh_step_check(a, err);
  if (rc) return rc;
  unsigned mode = arithmetic_begin();
  cpu_of(dev)->kernels->step(a);
  arithmetic_end(mode);
  return COH_OK;
}

static int cpu_small(coh_device *dev, const coh_small *s, coh_error *err) {
  cpu *c = cpu_of(dev);
  int rc = coh_small_check(s, err);
  if (rc) return rc;
  size_t size = coh_dtype_size(dev->dtype), O = s->layer[s->L - 1].out;
  COH_TRY(prepare_loss(dev, s->N, s->B, O, s->y, s->labels, s->stride_t, err));
  COH_TRY(area_reserve(&c->small, c->kernels->small_room(s) * size, err));
  unsigned mode = arithmetic_begin();
  c->kernels->small(s, c->small.memory, c->scratch.memory);
  arithmetic_end(mode);
cleanup:
  return rc;
}

static int cpu_sparse(coh_device *dev, const coh_sparse_args *a, coh_error *err) {
  int rc = coh_sparse_check(a, err);
  if (rc) return rc;
  unsigned mode = arithmetic_begin();
  cpu_of(dev)->kernels->sparse(a);
  arithmetic_end(mode);
  return COH_OK;
}

static void cpu_close(coh_device *dev) {
  cpu *c = cpu_of(dev);
  if (c) free(c->scratch.memory), free(c->small.memory);
  free(c);
  free(dev);
}

static const coh_device_ops cpu_ops = {.name = "cpu",
                                       .close = cpu_close,
                                       .alloc = cpu_alloc,
                                       .free = cpu_free,
                                       .upload = cpu_copy,
                                       .download = cpu_copy,
                                       .zero = cpu_zero,
                                       .sync = cpu_sync,
                                       .gather = cpu_gather,
                                       .advance = cpu_advance,
                                       .compact = cpu_compact,
                                       .gemm = cpu_gemm,
                                       .bias_act = cpu_bias_act,
                                       .act_grad = cpu_act_grad,
                                       .bias_grad = cpu_bias_grad,
                                       .outer = cpu_outer,
                                       .loss = cpu_loss,
                                       .step = cpu_step,
                                       .small = cpu_small,
                                       .sparse = cpu_sparse};

/* ---- opening --------------------------------------------------------------------- */

typedef struct isa {
  const char *name;
  const coh_kernels *kernels; /* [coh_dtype] */
  bool here;                  /* this processor has it */
} isa;

enum { ISAS = 3 };

/* Best first. Returns how many. */
static size_t list_isas(isa out[ISAS]) {
  size_t n = 0;
#ifdef __x86_64__
  __builtin_cpu_init();
  out[n++] =
      (isa){"avx512", coh_kernels_avx512,
            __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")};
  out[n++] = (isa){"avx2", coh_kernels_avx2,
                   __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
#endif
  out[n++] = (isa){"generic", coh_kernels_generic, true};
  return n;
}

/* `name` NULL: the best there is. `source` says where the name came from. */
static int find_isa(const char *name, const char *source, isa *out, coh_error *err) {
  isa all[ISAS];
  size_t n = list_isas(all);
  for (size_t i = 0; i < n; i++) {
    if (name ? strcmp(name, all[i].name) != 0 : !all[i].here) continue;
    if (!all[i].here)
      return coh_fail(err, COH_EUSAGE, "%s = %s: this processor does not have it", source,
                      name);
    *out = all[i];
    return COH_OK;
  }
  return coh_fail(err, COH_EUSAGE,
                  "%s = %s: unknown instruction set; this build has generic%s", source,
                  name, n > 1 ? ", avx2, avx512" : "");
}

/* Two thirds of the second-level cache. */
static size_t cache_bytes(void) {
  long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return (size_t)(bytes > 0 ? bytes : 1 << 20) / 3 * 2;
}

int coh_device_open_cpu(const char *isa_name, coh_dtype dtype, coh_device **out,
                        coh_error *err) {
  *out = NULL;
  const char *source = "instruction set";
  if (!isa_name) {
    isa_name = getenv("COHORT_ISA");
    source = "$COHORT_ISA";
    if (isa_name && !*isa_name) isa_name = NULL;
  }
  coh_device *dev = NULL;
  isa found = {0};
  int rc;
  COH_TRY(find_isa(isa_name, source, &found, err));
  COH_TRY(coh_alloc(&dev, 1, sizeof *dev, err));
  dev->ops = &cpu_ops;
  COH_TRY(coh_alloc(&dev->impl, 1, sizeof(cpu), err));
  cpu *c = cpu_of(dev);
  dev->dtype = dtype;
  dev->small_width = SIZE_MAX;
  dev->cache_bytes = cache_bytes();
  c->kernels = &found.kernels[dtype];
  snprintf(dev->text, sizeof dev->text, "cpu (%s)", found.name);
  COH_TRY(area_reserve(&c->scratch, c->kernels->scratch_bytes, err));
  *out = dev;
  return COH_OK;
cleanup:
  coh_device_close(dev);
  return rc;
}
