/* peak.c - the rate of the processor's multiply-add units, measured by a loop over
 * registers: what matrix products are held against. */
#include "cohort/device.h"

#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>

/* 24 independent chains keep all units of any processor busy; returns their sum, so that
 * none is left out. */
#define CHAINS(name, isa, vec, set, madd)                                                \
  __attribute__((target(isa))) static float name(size_t n) {                             \
    vec acc[24], x = set(0.999f);                                                        \
    for (int i = 0; i < 24; i++) acc[i] = set((float)i);                                 \
    for (size_t r = 0; r < n; r++)                                                       \
      _Pragma("GCC unroll 24") for (int i = 0; i < 24; i++) acc[i] = madd(acc[i], x, x); \
    float sum = 0, part[sizeof(vec) / sizeof(float)];                                    \
    for (int i = 0; i < 24; i++) {                                                       \
      memcpy(part, &acc[i], sizeof part);                                                \
      sum += part[0];                                                                    \
    }                                                                                    \
    return sum;                                                                          \
  }
CHAINS(chains_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)
CHAINS(chains_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)

double coh_device_peak(const coh_device *dev) {
  const size_t n = 300000;
  const char *text = coh_device_text(dev);
  bool wide = strstr(text, "avx512") != NULL;
  if (!wide && !strstr(text, "avx2")) return 0;
  double t = coh_seconds();
  volatile float keep = wide ? chains_avx512(n) : chains_avx2(n);
  (void)keep;
  t = coh_seconds() - t;
  return (double)n * 24 * (wide ? 16 : 8) * 2 / (dev->dtype == COH_F64 ? 2 : 1) / t;
}
#else
double coh_device_peak(const coh_device *dev) {
  (void)dev;
  return 0;
}
#endif
