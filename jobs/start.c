/* start.c - makes sure that OpenBLAS, where it is the BLAS, runs kernels fit for the
 * processor. Its functions are looked up at run time, so that any BLAS links. */
#include "start.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef union symbol { /* ISO C converts no object pointer to a function pointer */
  void *object;
  const char *(*text)(void);
  int (*number)(void);
  void (*set)(int);
} symbol;

static symbol blas_symbol(const char *name) {
  return (symbol){.object = dlsym(RTLD_DEFAULT, name)};
}

const char *start_blas_core(void) {
  symbol s = blas_symbol("openblas_get_corename");
  return s.object ? s.text() : NULL;
}

int start_blas_threads(void) {
  symbol s = blas_symbol("openblas_get_num_threads");
  return s.object ? s.number() : 0;
}

const char *start_blas_wish(void) {
  static const char *const names[] = {"OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS",
                                      "OMP_NUM_THREADS"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const char *value = getenv(names[i]);
    if (value && atoi(value) > 0) return names[i];
  }
  return NULL;
}

/* ---- kernels ----------------------------------------------------------------------- */

/* OpenBLAS's names of kernels for this processor, best first; ends with NULL. */
static const char *const *fitting_cores(void) {
  static const char *const none[] = {NULL};
#ifdef __x86_64__
  static const char *const avx2[] = {"Haswell", NULL};
  static const char *const avx512[] = {"SkylakeX", "Haswell", NULL};
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return none;
  bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return wide ? avx512 : avx2;
#else
  return none;
#endif
}

bool start_blas_is_slow(const char *core) {
  static const char *const old[] = {
      "generic",   "Katmai",       "Coppermine", "Northwood",  "Prescott", "Banias",
      "Atom",      "Core2",        "Penryn",     "Dunnington", "Nehalem",  "Athlon",
      "Opteron",   "Opteron_SSE3", "Barcelona",  "Nano",       "Bobcat",   "Sandybridge",
      "Bulldozer", "Piledriver",   "Steamroller"};
  if (!core || !*fitting_cores()) return false;
  for (size_t i = 0; i < sizeof old / sizeof *old; i++)
    if (strcasecmp(core, old[i]) == 0) return true;
  return false;
}

/* ---- starting anew ----------------------------------------------------------------- */

/* Number of the next core type to try, kept in the environment. */
static const char *const TRIED = "COHORT_BLAS_TRIED";

/* The core type to try next; NULL when all were tried. */
static const char *next_core(void) {
  const char *const *cores = fitting_cores(), *tried = getenv(TRIED);
  size_t n = 0, at = tried ? strtoul(tried, NULL, 10) : 0;
  while (cores[n]) n++;
  return at < n ? cores[at] : NULL;
}

/* Comes back only if the system refuses. */
static void start_anew(const char *core, char **argv) {
  const char *tried = getenv(TRIED);
  char number[24];
  snprintf(number, sizeof number, "%lu", (tried ? strtoul(tried, NULL, 10) : 0) + 1);
  if (setenv(TRIED, number, 1) != 0 || setenv("OPENBLAS_CORETYPE", core, 1) != 0) return;
  if (!start_blas_wish() && setenv("OPENBLAS_NUM_THREADS", "1", 1) != 0) return;
  execv("/proc/self/exe", argv);
}

static bool chose_core; /* OPENBLAS_CORETYPE is of this program's making */

void start_with_fast_blas(char **argv) {
  const char *core = start_blas_is_slow(start_blas_core()) ? next_core() : NULL;
  if (core) start_anew(core, argv);
  chose_core = getenv(TRIED) != NULL;
  unsetenv(TRIED);
  symbol threads = blas_symbol("openblas_set_num_threads");
  if (threads.object && !start_blas_wish()) threads.set(1);
}

void start_forget(void) {
  if (chose_core) unsetenv("OPENBLAS_CORETYPE");
}
