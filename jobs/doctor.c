/* doctor.c - `cohort doctor [FOLDER]`: what a run would find here. One line a finding,
 * "ok", "warn" or "bad"; each warn and bad says what to do. Ends with 1 if anything is
 * bad.
 *
 * All ranks measure at the same time, as they would in a run; rank 0 checks files, data
 * and SLURM, and prints. Nothing is left behind. */
#include "doctor.h"
#include "doctor_private.h"
#include "start.h"

#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/comm.h"
#include "cohort/data.h"

void doctor_say(doctor *d, state s, const char *what, const char *format, ...) {
  static const char *const words[] = {"ok", "warn", "bad"};
  va_list args;
  d->findings += s == BAD;
  if (d->rank != 0) return;
  printf("%-4s %-9s ", words[s], what);
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  putchar('\n');
}

/* ---- ranks ------------------------------------------------------------------------- */

/* Cores of this node that its ranks may use together, and how many ranks there are. */
static int count_cores(doctor *d, coh_error *err) {
  int rc;
  MPI_Comm node = MPI_COMM_NULL;
  cpu_set_t mine, all;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof mine, &mine) != 0)
    return coh_fail_errno(err, "cores this process may use");
  COH_MPI(
      MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  COH_MPI(MPI_Allreduce(&mine, &all, (int)sizeof mine, MPI_BYTE, MPI_BOR, node));
  COH_MPI(MPI_Comm_size(node, &d->node_ranks));
  d->cores = CPU_COUNT(&all);
cleanup:
  if (node != MPI_COMM_NULL) MPI_Comm_free(&node);
  return rc;
}

/* To be asked before MPI starts, which sets variables of its own. */
static const char *find_launcher(void) {
  if (getenv("OMPI_COMM_WORLD_SIZE")) return "mpirun";
  if (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID")) return "srun";
  if (getenv("PMIX_RANK") || getenv("PMI_RANK")) return "a launcher";
  return NULL;
}

static void report_ranks(doctor *d) {
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length, wanted;
  const char *by = d->launcher, *tasks = getenv("SLURM_STEP_NUM_TASKS");
  MPI_Get_library_version(version, &length);
  version[strcspn(version, ",\n")] = '\0';
  wanted = tasks && by && strcmp(by, "srun") == 0 ? atoi(tasks) : 1;
  if (wanted > 1 && d->size == 1)
    doctor_say(
        d, BAD, "mpi",
        "srun started %d tasks that do not find each other: use mpirun inside the "
        "allocation, or an srun --mpi=... that `srun --mpi=list` names and MPI knows",
        wanted);
  else
    doctor_say(d, FINE, "mpi", "%s; %d rank%s, %s%s", version, d->size,
               d->size > 1 ? "s" : "", by ? "started by " : "started alone",
               by ? by : "");
}

static void report_cores(doctor *d) {
  int threads = start_blas_threads() > 1 ? start_blas_threads() : 1;
  const char *wish = start_blas_wish();
  bool crowded = d->node_ranks * threads > d->cores;
  doctor_say(d, crowded ? WARN : FINE, "cores",
             "%d for %d rank%s of %d thread%s on this node%s%s", d->cores, d->node_ranks,
             d->node_ranks > 1 ? "s" : "", threads, threads > 1 ? "s" : "",
             !crowded ? ""
             : threads > 1 && wish
                 ? ": they wait for each other; use fewer ranks, or lower "
                 : ": they wait for each other; use fewer ranks, or give the "
                   "job more cores",
             crowded && threads > 1 && wish ? wish : "");
}

/* First number behind `key` in a file of lines "key number", in bytes; 0 if not there. */
static double memory_line(const char *path, const char *key, double unit) {
  char line[256];
  double found = 0;
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  while (!found && fgets(line, sizeof line, f))
    if (strncmp(line, key, strlen(key)) == 0)
      found = strtod(line + strlen(key), NULL) * unit;
  fclose(f);
  return found;
}

static void report_memory(doctor *d) {
  double free_now = memory_line("/proc/meminfo", "MemAvailable:", 1024);
  double limit = memory_line("/sys/fs/cgroup/memory.max", "", 1);
  double room = limit > 0 && limit < free_now ? limit : free_now;
  double each = room / d->node_ranks * 1e-9;
  doctor_say(d, each < 0.5 ? WARN : FINE, "memory",
             "%.1f GB free here, %.1f GB a rank%s%s", room * 1e-9, each,
             room < free_now ? " (limit of this job)" : "",
             each < 0.5 ? ": use fewer ranks, or ask for more memory" : "");
}

/* ---- arithmetic ---------------------------------------------------------------------
 */

enum { SAMPLES = 9 };

/* GFLOP/s and part of the units' rate: medians over samples. */
typedef struct rate {
  double gflops, part;
} rate;

typedef void (*product)(void *ctx);

static rate measure(const coh_device *dev, double work, product run, void *ctx) {
  double rates[SAMPLES], parts[SAMPLES];
  size_t repeat = (size_t)(0.5e9 / work) + 1;
  run(ctx);
  for (int s = 0; s < SAMPLES; s++) {
    double peak = coh_device_peak(dev), t = coh_seconds();
    for (size_t r = 0; r < repeat; r++) run(ctx);
    rates[s] = work * (double)repeat / (coh_seconds() - t);
    parts[s] = peak > 0 ? rates[s] / peak : 0;
  }
  coh_sort(rates, SAMPLES);
  coh_sort(parts, SAMPLES);
  return (rate){rates[SAMPLES / 2] * 1e-9, parts[SAMPLES / 2]};
}

enum { SIDE = 512 }; /* of the matrices */

typedef struct own_product {
  coh_device *dev;
  coh_gemm g;
} own_product;

static void run_own(void *ctx) {
  own_product *p = ctx;
  coh_error err;
  p->dev->ops->gemm(p->dev, &p->g, &err);
}

void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k,
            const double *alpha, const double *a, const int *lda, const double *b,
            const int *ldb, const double *beta, double *c, const int *ldc);

static void run_blas(void *ctx) {
  double **m = ctx, one = 1, zero = 0;
  int n = SIDE;
  dgemm_("N", "N", &n, &n, &n, &one, m[0], &n, m[1], &n, &zero, m[2], &n);
}

/* The slowest rank's. */
static int slowest(rate *r, coh_error *err) {
  int rc;
  double v[2] = {r->gflops, r->part}, least[2];
  COH_MPI(MPI_Allreduce(v, least, 2, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD));
  *r = (rate){least[0], least[1]};
cleanup:
  return rc;
}

/* Own kernels and, for float64, the BLAS. */
static int measure_rates(coh_dtype dtype, rate *own, rate *blas, const char **kernels,
                         coh_error *err) {
  int rc = COH_OK;
  static char text[32];
  size_t n = (size_t)SIDE * SIDE;
  double work = 2.0 * SIDE * SIDE * SIDE;
  void *m[3] = {0};
  coh_device *dev = NULL;
  COH_TRY(coh_device_open_cpu(NULL, dtype, &dev, err));
  for (int i = 0; i < 3; i++) COH_TRY(coh_alloc(&m[i], n, coh_dtype_size(dtype), err));
  for (size_t i = 0; i < 2 * n; i++)
    coh_put(dtype, m[i / n], i % n, (double)(i % 17) - 8);
  own_product p = {dev, {.N = 1, .M = SIDE, .Q = SIDE, .K = SIDE}};
  p.g.a = m[0], p.g.b = m[1], p.g.c = m[2];
  p.g.lda = p.g.ldb = p.g.ldc = SIDE;
  *own = measure(dev, work, run_own, &p);
  if (dtype == COH_F64) *blas = measure(dev, work, run_blas, m);
  snprintf(text, sizeof text, "%s", coh_device_text(dev));
  *kernels = text;
cleanup:
  for (int i = 0; i < 3; i++) free(m[i]);
  coh_device_close(dev);
  return rc;
}

static void report_own(doctor *d, rate single, rate twice, const char *kernels) {
  bool forced = getenv("COHORT_ISA") && *getenv("COHORT_ISA");
  bool slow = single.part > 0 && single.part < 0.5;
  doctor_say(d, forced || slow ? WARN : FINE, "kernels",
             "%s: float32 %.0f GFLOP/s a rank (%.0f %% of the units' rate), float64 %.0f "
             "(%.0f %%)%s%s",
             kernels, single.gflops, 100 * single.part, twice.gflops, 100 * twice.part,
             forced ? ": unset COHORT_ISA for the best there are" : "",
             slow ? ": ranks share cores, or others use this machine" : "");
}

static void report_blas(doctor *d, rate twice) {
  const char *core = start_blas_core();
  int threads = start_blas_threads();
  if (!core)
    doctor_say(d, FINE, "blas", "not OpenBLAS: float64 %.0f GFLOP/s", twice.gflops);
  else
    doctor_say(d, start_blas_is_slow(core) ? BAD : FINE, "blas",
               "OpenBLAS for %s, %d thread%s: float64 %.0f GFLOP/s%s", core, threads,
               threads > 1 ? "s" : "", twice.gflops,
               start_blas_is_slow(core)
                   ? "; kernels for older processors: install one built with DYNAMIC_ARCH"
                   : "");
}

static int check_rates(doctor *d, coh_error *err) {
  int rc;
  rate own[2], blas = {0};
  const char *kernels = "";
  COH_MPI(MPI_Barrier(MPI_COMM_WORLD));
  for (int t = COH_F32; t <= COH_F64; t++) {
    COH_TRY(measure_rates((coh_dtype)t, &own[t], &blas, &kernels, err));
    COH_TRY(slowest(&own[t], err));
  }
  COH_TRY(slowest(&blas, err));
  report_own(d, own[COH_F32], own[COH_F64], kernels);
  report_blas(d, blas);
cleanup:
  return rc;
}

/* ---- data ------------------------------------------------------------------------- */

/* Loads the test images of each set. */
static void check_data(doctor *d) {
  static const char *const names[] = {"mnist", "fashion_mnist", "cifar10"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    coh_dataset set = {0};
    coh_error err = {0};
    int rc = coh_dataset_load(names[i], NULL, false, COH_F32, &set, &err);
    if (rc == COH_OK)
      doctor_say(d, FINE, "data", "%s", names[i]);
    else if (rc == COH_EIO)
      doctor_say(d, WARN, "data", "%s is not here: `cohort fetch %s` gets it", names[i],
                 names[i]);
    else
      doctor_say(d, BAD, "data", "%s: remove the file and `cohort fetch %s`", err.text,
                 names[i]);
    coh_dataset_free(&set);
  }
}

/* ---- the command ------------------------------------------------------------------- */

static int examine(doctor *d, const char *folder, coh_error *err) {
  int rc;
  COH_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &d->rank));
  COH_MPI(MPI_Comm_size(MPI_COMM_WORLD, &d->size));
  COH_TRY(count_cores(d, err));
  report_ranks(d);
  report_cores(d);
  report_memory(d);
  COH_TRY(check_rates(d, err));
  if (d->rank == 0) {
    doctor_gpu(d);
    doctor_files(d, folder);
    check_data(d);
    doctor_slurm(d);
  }
cleanup:
  return rc;
}

int command_doctor(int argc, char **argv) {
  coh_error err = {0};
  doctor d = {.launcher = find_launcher()};
  if (argc > 3 || (argc == 3 && argv[2][0] == '-')) {
    fprintf(stderr, "usage: cohort doctor [results folder]\n");
    return argc == 3 && strcmp(argv[2], "--help") == 0 ? 0 : 2;
  }
  const char *folder = argc == 3 ? argv[2] : "results";
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) {
    fprintf(stderr, "cohort: MPI does not start\n");
    return 1;
  }
  if (examine(&d, folder, &err) != COH_OK) {
    fprintf(stderr, "cohort: %s\n", err.text);
    MPI_Abort(MPI_COMM_WORLD, coh_exit_status(err.code));
  }
  unsigned long long bad = d.findings;
  MPI_Bcast(&bad, 1, MPI_UNSIGNED_LONG_LONG, 0, MPI_COMM_WORLD);
  MPI_Finalize();
  return bad > 0 ? 1 : 0;
}
