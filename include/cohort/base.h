/* base.h - what every other room stands on: errors, memory, text, files, random numbers,
 * hashing. Uses no other room. Thread-safe where not said otherwise; no global state.
 *
 * Fallible functions return 0 (COH_OK) or a negative coh_code and, on failure, leave a
 * message in the coh_error given as last argument (never NULL). The library never prints
 * and never exits; jobs do.
 */
#ifndef COHORT_BASE_H
#define COHORT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COH_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------ */

typedef enum coh_code {
  COH_OK = 0,
  COH_EUSAGE = -1, /* the user asked for something wrong: configuration, arguments */
  COH_EDATA = -2,  /* a file is not what it should be: truncated, corrupt, wrong shape */
  COH_EIO = -3,    /* the operating system refused: no such file, disk full */
  COH_ENOMEM = -4, /* out of memory */
  COH_ENUMERIC = -5, /* NaN or infinity, or a factorisation failed */
  COH_ELIB = -6,     /* MPI, HDF5, ScaLAPACK, CUDA returned an error */
  COH_ESTOP = -7,    /* asked to stop; state was saved; "requeue me" */
  COH_EBUG = -8,     /* a broken promise inside cohort */
  COH_ETAKEN = -9    /* a later attempt works here now: touch nothing, do not requeue */
} coh_code;

enum { COH_ERROR_TEXT = 2048 };

typedef struct coh_error {
  int code;                  /* a coh_code */
  char text[COH_ERROR_TEXT]; /* one message, no trailing newline */
} coh_error;

/* Fills `err` (printf style) and returns `code`, so that `return coh_fail(...)` reads
 * well. */
int coh_fail(coh_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* As coh_fail with COH_EIO (COH_ENOMEM for ENOMEM), and ": strerror(errno)" appended. */
int coh_fail_errno(coh_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Puts "<formatted text>: " in front of the message already in `err`; returns
 * err->code. */
int coh_explain(coh_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* In a function with `int rc` and a label `cleanup:` that frees in reverse order. */
#define COH_TRY(expr)                                                                    \
  do {                                                                                   \
    rc = (expr);                                                                         \
    if (rc != COH_OK) goto cleanup;                                                      \
  } while (0)

/* Process exit status for a coh_code: 0 ok, 2 usage, 75 stop (EX_TEMPFAIL: "requeue me"),
 * 1 for all others. */
int coh_exit_status(int code);

/* ---- memory, text ------------------------------------------------------------------ */

/* Allocates n*size bytes, zeroed, 64-byte aligned, into *(void **)out; n*size may be 0
 * (the pointer is still valid for free()). Overflow and lack of memory give COH_ENOMEM
 * with the number of bytes. Freed with free(). */
int coh_alloc(void *out, size_t n, size_t size, coh_error *err);

/* *out = the product of sizes, as in coh_product(&bytes, err, N, P, sizeof(double)): for
 * what is not allocated by coh_alloc at once, and where the sizes are a user's.
 * COH_ENOMEM if it is more than an array can hold. */
#define coh_product(out, err, ...)                                                       \
  coh_product_of(out, sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t),                  \
                 (const size_t[]){__VA_ARGS__}, err)
int coh_product_of(size_t *out, size_t n, const size_t *factor, coh_error *err);

/* A growing string; start with {0}, end with coh_text_free. `data` is always terminated
 * once something was added. Out of memory sets `failed` and later calls do nothing; check
 * it once with coh_text_check. */
typedef struct coh_text {
  char *data;
  size_t len, cap;
  bool failed;
} coh_text;
void coh_text_add(coh_text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void coh_text_addn(coh_text *t, const char *bytes, size_t n);
int coh_text_check(const coh_text *t, coh_error *err);
void coh_text_free(coh_text *t);

/* snprintf into a fixed buffer; COH_EUSAGE "... is too long" instead of silent
 * truncation. */
int coh_format(char *out, size_t size, coh_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Shortest decimal text that reads back as exactly `v`: "1", "0.001", "1e-05", "nan",
 * "-inf". As Python's repr, but no trailing ".0", and one digit more for a few powers of
 * two. `out` holds at least 32 bytes. Returns `out`. */
char *coh_real_text(double v, char *out);

/* Sorts numbers ascending; none may be NaN. */
void coh_sort(double *v, size_t n);
/* Middle one, or mean of the middle two; n >= 1. */
double coh_median_of_sorted(const double *v, size_t n);

/* ---- messages from the library to the job ------------------------------------------ */

typedef enum coh_level { COH_INFO, COH_WARN } coh_level;
/* Where the library puts remarks (a dropped cluster, a resumed run). NULL sinks are
 * silent. */
typedef struct coh_sink {
  void (*line)(void *ctx, coh_level level, const char *text);
  void *ctx;
} coh_sink;
void coh_say(const coh_sink *sink, coh_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- files ------------------------------------------------------------------------- */

enum { COH_PATH = 4096 };

bool coh_file_exists(const char *path);
int coh_mkdirs(const char *path, coh_error *err); /* mkdir -p */
/* Reads a whole file; *data is terminated by an extra 0 byte, freed by the caller. */
int coh_file_read(const char *path, char **data, size_t *len, coh_error *err);
/* Atomic write: temporary file beside `path`, write, fsync, rename, fsync of the folder.
 * On any failure (full disk included) the old file is unchanged and the temporary
 * removed; only if nothing but the sync of the folder fails, the new file is in place and
 * the error tells. */
int coh_file_write(const char *path, const void *data, size_t len, coh_error *err);
/* The same for writers that need a path (HDF5): coh_temp_path names the temporary file
 * (".NAME.tmp" in the same folder, one fixed name, so that a killed writer leaves at most
 * one and the next write takes it over); coh_temp_commit syncs and renames it;
 * coh_temp_discard removes it. */
int coh_temp_path(const char *path, char *temp, size_t size, coh_error *err);
int coh_temp_commit(const char *path, coh_error *err);
void coh_temp_discard(const char *path);

double coh_seconds(void); /* monotonic clock */

/* ---- random numbers ---------------------------------------------------------------- */

/* Every random number is a pure function of (seed, purpose, step, index): Random123's
 * philox4x32-10 with key = seed and counter = {index, index >> 32, step,
 * purpose | step >> 32 << 8}. Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011. */
typedef enum coh_purpose {
  COH_RNG_INIT = 1,   /* step = member << 16 | tensor, index = element of the tensor */
  COH_RNG_ORDER = 2,  /* step = epoch, index = position */
  COH_RNG_QUERY = 3,  /* step = datagen policy, index = element */
  COH_RNG_LABELS = 4, /* random labels, subsampling */
  COH_RNG_PAIRS = 6,  /* teacher-student data: step 0 inputs, 1 noise; index = element */
  COH_RNG_PROBE = 7,  /* random batches: step = call << 1 | (0 inputs, 1 targets) */
  COH_RNG_TEST = 250  /* tests only */
} coh_purpose;

void coh_random_block(uint64_t seed, coh_purpose purpose, uint64_t step, uint64_t index,
                      uint32_t out[4]);
/* Uniform in [0, 1) with 53 bits, from the first two words of the block:
 * ((out[0] << 32 | out[1]) >> 11) * 2^-53. */
double coh_random_uniform(uint64_t seed, coh_purpose purpose, uint64_t step,
                          uint64_t index);
/* Standard normal: Box-Muller on the block's two 53-bit uniforms,
 * sqrt(-2 log(1 - u)) cos(2 pi v). */
double coh_random_normal(uint64_t seed, coh_purpose purpose, uint64_t step,
                         uint64_t index);
/* perm[0..n) = a permutation of 0..n-1: Fisher-Yates, position i from n-1 down to 1
 * swapped with j in [0, i] (unbiased, 64-bit multiply-shift with rejection), drawn at
 * index i. n < 2^32. */
void coh_random_permutation(uint64_t seed, coh_purpose purpose, uint64_t step, size_t n,
                            uint32_t *perm);

/* ---- hashes ------------------------------------------------------------------------ */

typedef struct coh_hash {
  char hex[33]; /* 128 bits BLAKE2b, lower case */
} coh_hash;
int coh_hash_bytes(const void *data, size_t len, coh_hash *out, coh_error *err);
int coh_hash_file(const char *path, coh_hash *out, coh_error *err); /* streams the file */
enum { COH_HASH_SHOWN = 10 }; /* hex digits shown to people */

/* ---- numbers of two widths --------------------------------------------------------- */

typedef enum coh_dtype { COH_F32 = 0, COH_F64 = 1 } coh_dtype;
static inline size_t coh_dtype_size(coh_dtype t) {
  return t == COH_F64 ? sizeof(double) : sizeof(float);
}
/* Element i of an array of dtype t, read or written as double. */
static inline double coh_get(coh_dtype t, const void *a, size_t i) {
  return t == COH_F64 ? ((const double *)a)[i] : (double)((const float *)a)[i];
}
static inline void coh_put(coh_dtype t, void *a, size_t i, double v) {
  if (t == COH_F64)
    ((double *)a)[i] = v;
  else
    ((float *)a)[i] = (float)v;
}

#endif
