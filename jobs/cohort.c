/* cohort.c - the command: finds the subcommand, starts MPI where it is needed, runs the
 * job and turns its verdict into one message and one exit status for all ranks. */
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "doctor.h"
#include "job.h"
#include "merge.h"
#include "plan.h"
#include "plot.h"
#include "slurm.h"
#include "start.h"
#include "status.h"
#include "submit.h"

/* ---- signals
 * ------------------------------------------------------------------------------ */

static volatile sig_atomic_t stop_asked;

static void on_stop(int signal_number) {
  (void)signal_number;
  stop_asked = 1;
}

bool job_was_asked_to_stop(void) {
  return stop_asked != 0;
}

/* USR1 is what `sbatch --signal=USR1@120` sends, TERM what preemption and scancel send. A
 * second INT ends the program the hard way. A file that outgrows a limit is an error to
 * report, not a reason to die. */
static void catch_signals(void) {
  struct sigaction act = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &act, NULL);
  sigaction(SIGTERM, &act, NULL);
  sigaction(SIGHUP, &act, NULL);
  act.sa_flags |= SA_RESETHAND;
  sigaction(SIGINT, &act, NULL);
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
}

/* ---- one verdict for all ranks
 * -------------------------------------------------------------- */

/* Seconds that ranks wait for each other at the end before a failed one ends them all. */
static const double patience = 5;

/* True when every rank arrived here within the time. */
static bool all_ranks_arrive(MPI_Comm comm, bool wait_for_ever) {
  MPI_Request request;
  int done = 0;
  double start = coh_seconds();
  if (MPI_Ibarrier(comm, &request) != MPI_SUCCESS) return false;
  while (!done && (wait_for_ever || coh_seconds() - start < patience)) {
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
    if (!done) usleep(1000);
  }
  return done != 0;
}

static void print_error(const coh_error *err) {
  progress_clear();
  fprintf(stderr, "cohort: %s\n", err->text);
}

/* A failed rank whose peers do not come (they wait in a collective for it) speaks for
 * itself and ends the whole run; otherwise all agree and rank 0 speaks. */
static int verdict(MPI_Comm comm, int rank, int rc, coh_error *err) {
  if (!all_ranks_arrive(comm, rc == COH_OK)) {
    print_error(err);
    MPI_Abort(MPI_COMM_WORLD, coh_exit_status(rc));
  }
  rc = coh_agree(comm, rc, err);
  if (rc != COH_OK && rank == 0) print_error(err);
  return coh_exit_status(rc);
}

/* ---- run
 * --------------------------------------------------------------------------------------
 */

static void print_remark(void *ctx, coh_level level, const char *text) {
  const job *j = ctx;
  if (j->grid.rank != 0 || (level == COH_INFO && j->cfg.experiment.quiet)) return;
  progress_clear();
  fprintf(stderr, "%s%s\n", level == COH_WARN ? "warning: " : "", text);
}

/* Splits the overrides into those of this file and those of the teacher's
 * ("teacher:..."): own [*n_own], which the caller frees. */
static int split_overrides(job *j, size_t n, const char **set, const char ***own,
                           size_t *n_own, coh_error *err) {
  int rc;
  *n_own = 0;
  COH_TRY(coh_alloc(own, n, sizeof **own, err));
  COH_TRY(coh_alloc(&j->set, n, sizeof *j->set, err));
  for (size_t i = 0; i < n; i++) {
    if (strncmp(set[i], "teacher:", 8) == 0)
      j->set[j->n_set++] = set[i] + 8;
    else
      (*own)[(*n_own)++] = set[i];
  }
cleanup:
  return rc;
}

static int check_teacher_overrides(const job *j, const char *path, coh_error *err) {
  if (j->n_set == 0 || j->cfg.teacher.config[0]) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "override: teacher:%s: %s has no teacher.config whose parameters could "
                  "be set",
                  j->set[0], path);
}

/* The configuration; *sweep (may be NULL: not asked for) is NULL where there is none. */
static int load_config(job *j, const char *path, size_t n, const char **set,
                       coh_sweep **sweep, coh_error *err) {
  int rc;
  const char **own = NULL;
  size_t n_own = 0;
  COH_TRY(split_overrides(j, n, set, &own, &n_own, err));
  if (sweep) COH_TRY(coh_sweep_load(path, n_own, own, sweep, err));
  if (sweep && *sweep)
    j->cfg = *coh_sweep_base(*sweep);
  else
    COH_TRY(coh_config_load(&j->cfg, path, n_own, own, err));
  COH_TRY(check_teacher_overrides(j, path, err));
cleanup:
  free(own);
  return rc;
}

/* Rank 0 reads; the others get what it read. */
static int share_config(job *j, const char *path, size_t n, const char **set,
                        coh_sweep **sweep, bool *sweeps, coh_error *err) {
  int rc = COH_OK, rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) rc = load_config(j, path, n, set, sweep, err);
  COH_TRY(coh_agree(MPI_COMM_WORLD, rc, err));
  *sweeps = *sweep != NULL;
  COH_TRY(coh_bcast(MPI_COMM_WORLD, &j->cfg, sizeof j->cfg, 0, err));
  COH_TRY(coh_bcast(MPI_COMM_WORLD, sweeps, sizeof *sweeps, 0, err));
cleanup:
  return rc;
}

/* The results are complete by now: what goes wrong here is a warning. */
static void make_report(job *j, bool sweeps, const batch_wish *wish) {
  coh_error ignored;
  const coh_config *cfg = &j->cfg;
  if (!cfg->experiment.report || j->grid.rank != 0 || (sweeps && wish->n > 1)) return;
  if (sweeps && coh_format(j->results, sizeof j->results, &ignored, "%s/%s",
                           cfg->experiment.results, cfg->experiment.name) != COH_OK)
    return;
  if (j->results[0]) plot_at_end(j, j->results);
}

static int start_job(job *j, coh_error *err) {
  static int (*const start[])(job *, coh_error *) = {[COH_JOB_TRAIN] = job_train,
                                                     [COH_JOB_EXTRACT] = job_extract,
                                                     [COH_JOB_COMPRESS] = job_compress};
  return start[j->cfg.experiment.job](j, err);
}

static int run_job(job *j, const char *path, size_t n, const char **set,
                   const batch_wish *wish, coh_error *err) {
  int rc;
  coh_sweep *sweep = NULL;
  bool sweeps = false;
  COH_TRY(share_config(j, path, n, set, &sweep, &sweeps, err));
  COH_TRY(coh_grid_create(MPI_COMM_WORLD, j->cfg.ranks.replicas, &j->grid, err));
  COH_TRY(job_find_gpu(j, err));
  j->sink = (coh_sink){print_remark, j};
  if (!sweeps && wish->asked && wish->n > 1) j->part_k = wish->k, j->part_n = wish->n;
  if (sweeps)
    rc = batch_run(j, sweep, wish, err);
  else if (wish->asked && j->cfg.experiment.job != COH_JOB_EXTRACT)
    rc = coh_fail(err, COH_EUSAGE,
                  "--sub-batch %zu/%zu: %s has neither a [sweep] nor students that could "
                  "be divided",
                  wish->k, wish->n, path);
  else
    rc = start_job(j, err);
  if (rc == COH_OK) make_report(j, sweeps, wish);
cleanup:
  coh_watchdog_destroy(j->gpu.dog);
  coh_sweep_destroy(sweep);
  return rc;
}

static char *join(int argc, char **argv) {
  coh_text t = {0};
  for (int i = 0; i < argc; i++) coh_text_add(&t, "%s%s", i ? " " : "", argv[i]);
  return t.data;
}

static int command_run(int argc, char **argv) {
  coh_error err = {0};
  job j = {0};
  batch_wish wish;
  int rank;
  MPI_Comm last_word;
  if (argc < 3 || argv[2][0] == '-') {
    fprintf(stderr, "usage: cohort run CONFIG.ini [--sub-batch k/n] [--force] [--retry] "
                    "[section.key=value ...]\n");
    return argc == 3 && strcmp(argv[2], "--help") == 0 ? 0 : 2;
  }
  catch_signals();
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) {
    fprintf(stderr, "cohort: MPI does not start\n");
    return 1;
  }
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_dup(MPI_COMM_WORLD, &last_word);
  char *command = join(argc, argv);
  j.command = command ? command : "cohort";
  int rc = batch_wish_read(&argc, argv, &wish, &err);
  if (!rc)
    rc = run_job(&j, argv[2], (size_t)(argc - 3), (const char **)argv + 3, &wish, &err);
  int status = verdict(last_word, rank, rc, &err);
  coh_grid_destroy(&j.grid);
  free(j.set);
  free(command);
  MPI_Comm_free(&last_word);
  MPI_Finalize();
  return status;
}

/* ---- the other subcommands
 * ---------------------------------------------------------------------- */

static int fail(const coh_error *err) {
  print_error(err);
  return coh_exit_status(err->code);
}

/* Prints and frees a text. */
static int print_text(coh_text *t) {
  int bad = t->failed || (t->data && fputs(t->data, stdout) < 0) || fflush(stdout) != 0;
  coh_text_free(t);
  return bad ? 1 : 0;
}

static int command_help(int argc, char **argv);

static int command_show(int argc, char **argv) {
  coh_error err = {0};
  coh_text text = {0};
  job j = {0};
  if (argc < 3) {
    fprintf(stderr, "usage: cohort show CONFIG.ini [section.key=value ...]\n");
    return 2;
  }
  int rc =
      load_config(&j, argv[2], (size_t)(argc - 3), (const char **)argv + 3, NULL, &err);
  if (!rc) rc = job_describe(&j, &text, &err);
  free(j.set);
  if (rc) {
    coh_text_free(&text);
    return fail(&err);
  }
  return print_text(&text);
}

/* Folder of the scripts: beside the program in the source tree, or where `make install`
 * put them. */
static bool find_script(const char *name, char *out, size_t size) {
  char self[COH_PATH];
  ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
  if (len <= 0) return false;
  self[len] = '\0';
  const char *bin = dirname(self);
  const char *place[] = {"../scripts", "../share/cohort/scripts"};
  for (size_t i = 0; i < 2; i++) {
    int n = snprintf(out, size, "%s/%s/%s", bin, place[i], name);
    if (n > 0 && (size_t)n < size && access(out, X_OK) == 0) return true;
  }
  return false;
}

static int command_fetch(int argc, char **argv) {
  char script[COH_PATH];
  if (argc < 3 || argv[2][0] == '-') {
    fprintf(stderr, "usage: cohort fetch mnist|fashion_mnist|cifar10 [URL or folder]\n");
    return 2;
  }
  if (!find_script("fetch.sh", script, sizeof script)) {
    fprintf(stderr, "cohort: fetch.sh is neither beside the program nor installed\n");
    return 1;
  }
  execv(script, argv + 1);
  perror(script);
  return 1;
}

static int command_version(int argc, char **argv) {
  (void)argc;
  (void)argv;
  coh_error err = {0};
  coh_device *dev = NULL;
  printf("cohort %s (%s)\n", COH_VERSION, COH_GIT);
  if (coh_device_open(COH_DEVICE_AUTO, COH_F32, &dev, &err)) return fail(&err);
  printf("device: %s\n", coh_device_text(dev));
  coh_text gpus = {0};
  coh_device_gpus(&gpus);
  printf("GPU: %s\n", gpus.data ? gpus.data : "");
  coh_text_free(&gpus);
  coh_device_close(dev);
  return 0;
}

typedef struct command {
  const char *name, *arguments, *help;
  int (*run)(int argc, char **argv);
} command;

static const command commands[] = {
    {"run", "CONFIG.ini [--sub-batch k/n] [--force] [--retry] [section.key=value ...]",
     "run the job or the sweep that the file describes; goes on where an earlier run "
     "stopped\n"
     "           --force: though the folder is of another sweep; --retry: failed runs "
     "too",
     command_run},
    {"show", "CONFIG.ini [section.key=value ...]",
     "every parameter resolved, the hashes, the folder", command_show},
    {"plan", "CONFIG.ini [--sub-batches n] [--list] [section.key=value ...]",
     "what a sweep is, before it runs: runs, packs, memory, time, files", command_plan},
    {"status", "RESULTS/NAME | CONFIG.ini [--list]",
     "how far a sweep is: done, running, failed, missing, and how to run the rest",
     command_status},
    {"merge", "RESULTS/NAME... [-o OUT] [--copy]",
     "one runs.csv and runs.h5 of a sweep from its sub-batches", command_merge},
    {"plot", "RUN|SWEEP [kind ...] [--format svg,png,pdf] [--out FOLDER] ...",
     "figures of a run or a sweep, by gnuplot; --help tells the kinds", command_plot},
    {"report", "RUN|SWEEP [--out FOLDER] ...",
     "all figures and one HTML page of them: report.html", command_report},
    {"help", "[SECTION | COMMAND]", "this text, or the parameters of a section",
     command_help},
    {"fetch", "NAME [URL]", "get a data set: mnist, fashion_mnist, cifar10",
     command_fetch},
    {"doctor", "[RESULTS_FOLDER]",
     "check this machine: kernels, ranks, files, data sets, SLURM", command_doctor},
    {"submit", "CONFIG.ini [--sub-batches n] [--merge] [--resume] ...",
     "give SLURM the run, or the sweep as a job array; prints its number",
     command_submit},
    {"job", "CONFIG.ini [section.key=value ...]",
     "what the templates in slurm/ call: run, inside a SLURM job", command_job},
    {"version", "", "version and device", command_version},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out) {
  fprintf(out,
          "cohort %s - trains cohorts of networks and works on what they learnt\n\n"
          "usage: cohort COMMAND ...\n",
          COH_VERSION);
  for (int i = 0; i < N_COMMANDS; i++)
    fprintf(out, "  %-8s %s\n           %s\n", commands[i].name, commands[i].arguments,
            commands[i].help);
  fprintf(out,
          "\non several ranks: mpirun -n 2 cohort run CONFIG.ini\n"
          "exit status: 0 done, 1 failed, 2 wrong input, 75 stopped early (run again to "
          "go on);\n"
          "cohort merge also has 3 (runs are missing or have failed) and 4 (different "
          "results of one run)\n");
}

static int print_command(int i) {
  printf("usage: cohort %s %s\n           %s\n", commands[i].name, commands[i].arguments,
         commands[i].help);
  return fflush(stdout) != 0;
}

static int command_help(int argc, char **argv) {
  coh_error err = {0};
  coh_text text = {0};
  for (int i = 0; i < N_COMMANDS && argc > 2; i++)
    if (strcmp(argv[2], commands[i].name) == 0) return print_command(i);
  if (argc < 3) print_usage(stdout);
  if (argc < 3) printf("\nsections of the configuration (cohort help SECTION):\n");
  int rc = coh_config_help(argc < 3 ? NULL : argv[2], &text, &err);
  if (rc) {
    coh_text_free(&text);
    return fail(&err);
  }
  return print_text(&text);
}

int main(int argc, char **argv) {
  start_with_fast_blas(argv);
  if (argc < 2) {
    print_usage(stderr);
    return 2;
  }
  const char *name = argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
  if (strcmp(name, "--version") == 0) name = "version";
  for (int i = 0; i < N_COMMANDS; i++)
    if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc, argv);
  fprintf(stderr, "cohort: no command \"%s\"\n\n", name);
  print_usage(stderr);
  return 2;
}
