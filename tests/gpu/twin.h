/* twin.h - arrays that exist twice, on the GPU in its precision and on the CPU in
 * float64, so that any function of the device table is called on both with the same
 * numbers and its results are compared. Needs nothing but src/base and src/device: these
 * tests are built where there is no cmocka, no MPI and no HDF5.
 */
#ifndef COHORT_TESTS_GPU_TWIN_H
#define COHORT_TESTS_GPU_TWIN_H

#include "cohort/device.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a test and its verdict ---- */

typedef struct trial {
  const char *name;
  int failures; /* of this test */
  int passed, failed;
} trial;

static trial now;

static inline void complain(const char *file, int line, const char *text) {
  if (now.failures++ < 5) fprintf(stderr, "%s:%d: %s: %s\n", file, line, now.name, text);
}

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) complain(__FILE__, __LINE__, #condition);                          \
  } while (0)

/* Ends the program where a call fails that must not: nothing after it would mean much. */
#define OK(call)                                                                         \
  do {                                                                                   \
    coh_error err = {0};                                                                 \
    coh_error *e_ = &err;                                                                \
    if ((call) != COH_OK) {                                                              \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, now.name, e_->text);        \
      printf("not ok %s\n", now.name);                                                   \
      exit(1);                                                                           \
    }                                                                                    \
  } while (0)

static inline void run_test(const char *name, void (*test)(void)) {
  now.name = name;
  now.failures = 0;
  test();
  printf("%s %s\n", now.failures ? "not ok" : "ok", name);
  fflush(stdout);
  now.failures ? now.failed++ : now.passed++;
}
#define RUN(test) run_test(#test, test)

/* ---- twins ---- */

enum { GUARD = 16 }; /* elements behind an array that nobody may touch */

typedef struct pair {
  coh_device *gpu, *cpu;
} pair;

typedef struct twin {
  const pair *on;
  size_t n;
  void *gpu, *cpu; /* device arrays [n + GUARD] */
} twin;

static inline pair pair_open(coh_dtype dtype) {
  pair p;
  OK(coh_device_open(COH_DEVICE_CUDA, dtype, &p.gpu, &err));
  OK(coh_device_open_cpu(NULL, COH_F64, &p.cpu, &err));
  return p;
}

static inline void pair_close(pair *p) {
  coh_device_close(p->gpu);
  coh_device_close(p->cpu);
}

static inline double random_value(uint64_t seed, size_t i) {
  return 2 * coh_random_uniform(seed, COH_RNG_TEST, 0, i) - 1;
}

static inline void twin_put(twin *t, const double *values, size_t n) {
  coh_dtype dtype = t->on->gpu->dtype;
  size_t size = coh_dtype_size(dtype);
  char *narrow = malloc(n * size + 1);
  double *wide = malloc(n * sizeof *wide + 1);
  for (size_t i = 0; i < n; i++) {
    coh_put(dtype, narrow, i, values[i]);
    wide[i] = coh_get(dtype, narrow, i);
  }
  OK(t->on->gpu->ops->upload(t->on->gpu, t->gpu, narrow, n * size, &err));
  OK(t->on->cpu->ops->upload(t->on->cpu, t->cpu, wide, n * sizeof *wide, &err));
  free(narrow);
  free(wide);
}

/* Values scale * U(-1, 1); scale NAN: all NaN, for results that must be written whole. */
static inline twin twin_make(const pair *on, size_t n, double scale, uint64_t seed) {
  twin t = {.on = on, .n = n};
  double *values = malloc((n + GUARD) * sizeof *values);
  for (size_t i = 0; i < n + GUARD; i++)
    values[i] = i < n ? isnan(scale) ? scale : scale * random_value(seed, i) : 1234;
  size_t size = coh_dtype_size(on->gpu->dtype);
  OK(on->gpu->ops->alloc(on->gpu, (n + GUARD) * size, &t.gpu, &err));
  OK(on->cpu->ops->alloc(on->cpu, (n + GUARD) * sizeof(double), &t.cpu, &err));
  twin_put(&t, values, n + GUARD);
  free(values);
  return t;
}

static inline void twin_free(twin *t) {
  t->on->gpu->ops->free(t->on->gpu, t->gpu);
  t->on->cpu->ops->free(t->on->cpu, t->cpu);
}

/* The GPU's numbers; the caller frees them. */
static inline double *twin_gpu(const twin *t) {
  coh_dtype dtype = t->on->gpu->dtype;
  size_t n = t->n + GUARD, size = coh_dtype_size(dtype);
  char *narrow = malloc(n * size);
  double *wide = malloc(n * sizeof *wide);
  OK(t->on->gpu->ops->download(t->on->gpu, narrow, t->gpu, n * size, &err));
  for (size_t i = 0; i < n; i++) wide[i] = coh_get(dtype, narrow, i);
  free(narrow);
  return wide;
}

/* Every element within `units` roundings of max(|value|, scale); guards untouched. */
static inline void twin_compare(const twin *t, double units, double scale,
                                const char *file, int line) {
  double eps = t->on->gpu->dtype == COH_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
  double *gpu = twin_gpu(t);
  const double *cpu = t->cpu;
  char text[160];
  for (size_t i = 0; i < t->n; i++) {
    double size = fabs(cpu[i]) > scale ? fabs(cpu[i]) : scale;
    if (isnan(cpu[i]) ? isnan(gpu[i]) : fabs(gpu[i] - cpu[i]) <= units * eps * size)
      continue;
    snprintf(text, sizeof text, "element %zu of %zu: %.9g, expected %.9g", i, t->n,
             gpu[i], cpu[i]);
    complain(file, line, text);
    break;
  }
  for (size_t i = t->n; i < t->n + GUARD; i++)
    if (gpu[i] != 1234) {
      complain(file, line, "wrote behind the end");
      break;
    }
  free(gpu);
}
#define SAME(t, units, scale) twin_compare(t, units, scale, __FILE__, __LINE__)

/* One call on both: `p` names the device's array of a twin. */
#define BOTH(on, DEVICE, SIDE, ...)                                                      \
  do {                                                                                   \
    {                                                                                    \
      coh_device *DEVICE = (on)->gpu;                                                    \
      const bool SIDE = true;                                                            \
      __VA_ARGS__                                                                        \
    }                                                                                    \
    {                                                                                    \
      coh_device *DEVICE = (on)->cpu;                                                    \
      const bool SIDE = false;                                                           \
      __VA_ARGS__                                                                        \
    }                                                                                    \
  } while (0)
#define AT(t, side) ((side) ? (t).gpu : (t).cpu)

/* Host array on a device, both of the same bytes (indices, labels, doubles). */
static inline void *on_device(coh_device *dev, const void *host, size_t bytes) {
  void *memory;
  OK(dev->ops->alloc(dev, bytes, &memory, &err));
  OK(dev->ops->upload(dev, memory, host, bytes, &err));
  return memory;
}

#endif
