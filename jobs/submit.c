/* submit.c - `cohort submit CONFIG.ini`: gives SLURM a run, or a sweep as one or several
 * job arrays. Everything is said to sbatch by options; the template, which the user may
 * have changed, stays as it is. What was done is kept in submit.json (submit_record.c);
 * what there is to do is found by submit_left.c. */
#include "submit.h"
#include "slurm.h"
#include "start.h"
#include "submission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments -----------------------------------------------------------------------
 */

static const char usage[] =
    "usage: cohort submit CONFIG.ini [--sub-batches n] [--dry-run] [--merge] [--resume]\n"
    "                     [--force] [--template FILE] [section.key=value ...]\n\n"
    "  --sub-batches n  tasks of the job array; each runs a part of the sweep (1)\n"
    "  --dry-run        print the commands, run none\n"
    "  --merge          another job, cohort merge, when all of these have ended\n"
    "  --resume         only sub-batches that lack runs and are not in SLURM's queue;\n"
    "                   failed runs are tried again\n"
    "  --force          also where the folder is of another sweep: takes its place\n"
    "  --template FILE  in place of slurm/sweep.sbatch, gpu.sbatch or run.sbatch\n\n"
    "The [slurm] section of CONFIG.ini says partition, time and the like: cohort help "
    "slurm.\nPrints the job's number, one a line where there are several arrays.\n";

/* The value of option `name` at argv[*i]: "--name value" or "--name=value". */
static bool option(char **argv, int argc, int *i, const char *name, const char **value) {
  size_t n = strlen(name);
  if (strncmp(argv[*i], name, n) != 0) return false;
  if (argv[*i][n] == '=') *value = argv[*i] + n + 1;
  if (argv[*i][n] == '\0') *value = *i + 1 < argc ? argv[++*i] : "";
  return *value != NULL;
}

static bool read_count(const char *text, size_t *out) {
  char *end;
  unsigned long long v = strtoull(text, &end, 10);
  *out = (size_t)v;
  return *text >= '0' && *text <= '9' && !*end && v >= 1 && v <= 1000000000;
}

/* Fills what was asked for; overrides are gathered at the front of argv. */
static int read_arguments(int argc, char **argv, submission *s, coh_error *err) {
  int kept = 0;
  for (int i = 0; i < argc; i++) {
    const char *value = NULL, *a = argv[i];
    if (strcmp(a, "--dry-run") == 0)
      s->dry_run = true;
    else if (strcmp(a, "--merge") == 0)
      s->merge = true;
    else if (strcmp(a, "--resume") == 0)
      s->resume = true;
    else if (strcmp(a, "--force") == 0)
      s->force = true;
    else if (option(argv, argc, &i, "--template", &value))
      s->template = value;
    else if (option(argv, argc, &i, "--sub-batches", &value)) {
      if (!read_count(value, &s->n))
        return coh_fail(err, COH_EUSAGE,
                        "--sub-batches %s: expected a number, as in "
                        "--sub-batches 16",
                        value);
    } else if (a[0] == '-')
      return coh_fail(err, COH_EUSAGE, "unknown option %s\n%s", a, usage);
    else
      argv[kept++] = argv[i];
  }
  if (kept == 0) return coh_fail(err, COH_EUSAGE, "no CONFIG.ini\n%s", usage);
  s->config = argv[0];
  s->set = (const char *const *)argv + 1;
  s->n_set = (size_t)kept - 1;
  return COH_OK;
}

/* ---- the sweep -----------------------------------------------------------------------
 */

/* Reads the configuration; overrides "teacher:..." are for the job alone. */
static int load(submission *s, coh_error *err) {
  int rc;
  const char **own = NULL;
  size_t n = 0;
  COH_TRY(coh_alloc(&own, s->n_set, sizeof *own, err));
  for (size_t i = 0; i < s->n_set; i++)
    if (strncmp(s->set[i], "teacher:", 8) != 0) own[n++] = s->set[i];
  COH_TRY(coh_sweep_load(s->config, n, own, &s->sweep, err));
  if (s->sweep) {
    s->cfg = *coh_sweep_base(s->sweep);
    s->runs = coh_sweep_count(s->sweep);
    coh_sweep_hash(s->sweep, &s->hash);
  } else {
    COH_TRY(coh_config_load(&s->cfg, s->config, n, own, err));
    s->runs = 1;
    COH_TRY(coh_config_id(&s->cfg, &s->hash, err));
  }
  rc = coh_format(s->folder, sizeof s->folder, err, "%s/%s", s->cfg.experiment.results,
                  s->cfg.experiment.name);
cleanup:
  free(own);
  return rc;
}

/* The folder may hold another sweep: that is told now, not by every task of the array. */
static int check_folder(const submission *s, coh_error *err) {
  int rc;
  char path[COH_PATH];
  coh_sweep *old = NULL;
  coh_hash hash = {""};
  COH_TRY(coh_format(path, sizeof path, err, "%s/sweep.ini", s->folder));
  if (!s->sweep || s->force || !coh_file_exists(path)) return COH_OK;
  COH_TRY(coh_sweep_load(path, 0, NULL, &old, err));
  if (old) coh_sweep_hash(old, &hash);
  if (strcmp(hash.hex, s->hash.hex) != 0)
    rc = coh_fail(err, COH_EUSAGE,
                  "%s is of another sweep than %s: give this one another "
                  "experiment.name, or --force to put it in the place of the old one",
                  path, s->config);
cleanup:
  coh_sweep_destroy(old);
  return rc;
}

static int choose_count(submission *s, coh_error *err) {
  size_t last = 0;
  int rc = s->resume ? record_last(s->folder, &last, err) : COH_OK;
  if (rc != COH_OK) return rc;
  if (last && s->n && s->n != last)
    return coh_fail(err, COH_EUSAGE,
                    "--sub-batches %zu: what is resumed was submitted in %zu", s->n,
                    last);
  if (s->resume && s->sweep && !last && !s->n)
    return coh_fail(err, COH_EUSAGE,
                    "%s/submit.json has no submission to resume; say --sub-batches n for "
                    "one that was made by sbatch alone",
                    s->folder);
  if (s->n > 1 && !s->sweep)
    return coh_fail(err, COH_EUSAGE,
                    "--sub-batches %zu: %s has no [sweep] that could be divided", s->n,
                    s->config);
  if (!s->n) s->n = last ? last : 1;
  if (s->n > s->runs) {
    fprintf(stderr, "%zu sub-batches, as there are no more runs\n", s->runs);
    s->n = s->runs;
  }
  return COH_OK;
}

/* ---- arrays --------------------------------------------------------------------------
 */

/* MaxArraySize bounds the number of a task, not how many there are. */
static int ask_limits(submission *s, coh_error *err) {
  char value[64];
  coh_text settings = {0};
  bool here = slurm_finds("sbatch") && slurm_finds("scontrol");
  int rc = COH_OK;
  s->max_index = 1000;
  if (here) rc = slurm_settings(&settings, err);
  if (here && rc == COH_OK &&
      slurm_setting(&settings, "MaxArraySize", value, sizeof value))
    s->max_index = strtoull(value, NULL, 10) - (*value != '0');
  else if (s->dry_run)
    fprintf(stderr, "no SLURM answers here: arrays as for MaxArraySize 1001\n");
  else if (!here)
    rc = coh_fail(err, COH_EUSAGE,
                  "there is no sbatch in PATH: submit from a login node of the cluster, "
                  "look at the commands with --dry-run, or run it here: mpirun -n 2 "
                  "cohort run %s",
                  s->config);
  if (s->dry_run) rc = COH_OK;
  if (rc == COH_OK && s->max_index < 1)
    rc = coh_fail(err, COH_EUSAGE,
                  "this cluster has no job arrays (MaxArraySize %s): give sbatch one job "
                  "a sub-batch, with COHORT_SUB_BATCHES and SLURM_ARRAY_TASK_ID set",
                  value);
  coh_text_free(&settings);
  return rc;
}

/* Cuts what is left into arrays whose tasks are numbered 1..max_index. */
static int cut_arrays(submission *s, coh_error *err) {
  int rc = coh_alloc(&s->array, s->n_left, sizeof *s->array, err);
  for (size_t i = 0, j; rc == COH_OK && i < s->n_left; i = j) {
    job_array *a = &s->array[s->n_array++];
    coh_text list = {0};
    a->offset = s->n <= s->max_index ? 0 : s->left[i] - 1;
    for (j = i; j < s->n_left && s->left[j] - a->offset <= s->max_index;) j++;
    left_show(s->left + i, j - i, a->offset, &list);
    rc = coh_text_check(&list, err);
    a->list = list.data;
  }
  return rc;
}

/* Divides the limit of tasks at one time among the arrays; more arrays than that wait for
 * each other. */
static void set_limits(submission *s) {
  size_t limit = (size_t)s->cfg.slurm.array_limit;
  size_t lanes = limit && limit < s->n_array ? limit : s->n_array;
  for (size_t i = 0; i < s->n_array; i++) {
    s->array[i].limit = limit / lanes + (i % lanes < limit % lanes);
    s->array[i].after = i >= lanes ? i - lanes : SIZE_MAX;
  }
}

/* ---- the command ---------------------------------------------------------------------
 */

/* Options that both the runs and the merge need to be let in. */
static void add_admission(const coh_config *c, words *w) {
  if (*c->slurm.partition) words_add(w, "--partition=%s", c->slurm.partition);
  if (*c->slurm.account) words_add(w, "--account=%s", c->slurm.account);
  if (*c->slurm.qos) words_add(w, "--qos=%s", c->slurm.qos);
  if (*c->slurm.mail)
    words_add(w, "--mail-user=%s", c->slurm.mail), words_add(w, "--mail-type=END,FAIL");
}

static void add_number(words *w, const char *name, int64_t value) {
  if (value > 0) words_add(w, "--%s=%lld", name, (long long)value);
}

static int add_resources(const coh_config *c, words *w, coh_error *err) {
  const char *gpus = c->slurm.gpus_per_node, *colon = strrchr(gpus, ':');
  int64_t ranks = c->slurm.ntasks_per_node;
  if (*gpus && !ranks) ranks = atoll(colon ? colon + 1 : gpus);
  if (*c->slurm.time) words_add(w, "--time=%s", c->slurm.time);
  add_number(w, "nodes", c->slurm.nodes);
  add_number(w, "ntasks-per-node", ranks);
  add_number(w, "cpus-per-task", c->slurm.cpus_per_task);
  if (*gpus) words_add(w, "--gpus-per-node=%s", gpus);
  if (*c->slurm.constraint) words_add(w, "--constraint=%s", c->slurm.constraint);
  if (*c->slurm.mem) words_add(w, "--mem=%s", c->slurm.mem);
  int rc = *c->slurm.extra ? words_split(w, c->slurm.extra, err) : COH_OK;
  return rc == COH_OK ? rc : coh_explain(err, "slurm.extra");
}

/* "ALL" and variables; sbatch splits at commas. */
static int add_export(const submission *s, const job_array *a, words *w, coh_error *err) {
  int rc;
  char self[COH_PATH];
  coh_text t = {0};
  const char *program = getenv("COHORT");
  COH_TRY(slurm_self(self, sizeof self, err));
  if (!program || !*program) program = self;
  coh_text_add(&t, "--export=ALL,COHORT=%s", program);
  if (*s->cfg.slurm.modules) coh_text_add(&t, ",COHORT_MODULES=%s", s->cfg.slurm.modules);
  if (strcspn(program, ",") < strlen(program) || strchr(s->cfg.slurm.modules, ',')) {
    rc = coh_fail(err, COH_EUSAGE,
                  "sbatch --export takes no commas: %s, slurm.modules = \"%s\"", program,
                  s->cfg.slurm.modules);
    goto cleanup;
  }
  if (a)
    coh_text_add(&t, ",COHORT_MAX_REQUEUES=%lld", (long long)s->cfg.slurm.max_requeues);
  if (a && a->list)
    coh_text_add(&t, ",COHORT_SUB_BATCHES=%zu,COHORT_SUB_BATCH_OFFSET=%zu", s->n,
                 a->offset);
  COH_TRY(coh_text_check(&t, err));
  words_add(w, "%s", t.data);
cleanup:
  coh_text_free(&t);
  return rc;
}

static int run_command(const submission *s, const job_array *a, words *w,
                       coh_error *err) {
  int rc;
  char label[COH_LABEL], limit[32] = "";
  words_add(w, "sbatch");
  words_add(w, "--parsable");
  words_add(w, "--job-name=%s", coh_label(s->cfg.experiment.name, label));
  if (a->limit) snprintf(limit, sizeof limit, "%%%zu", a->limit);
  if (a->list) words_add(w, "--array=%s%s", a->list, limit);
  if (a->after != SIZE_MAX)
    words_add(w, "--dependency=afterany:%s",
              *s->array[a->after].id ? s->array[a->after].id : "JOB");
  words_add(w, "--output=%s/logs/%s.log", s->folder, a->list ? "%A_%a" : "%j");
  COH_TRY(add_export(s, a, w, err));
  add_admission(&s->cfg, w);
  COH_TRY(add_resources(&s->cfg, w, err));
  words_add(w, "%s", s->template);
  words_add(w, "%s", s->config);
  if (s->force) words_add(w, "--force");
  if (s->retry) words_add(w, "--retry");
  for (size_t i = 0; i < s->n_set; i++) words_add(w, "%s", s->set[i]);
  rc = words_check(w, err);
cleanup:
  return rc;
}

static int merge_command(const submission *s, words *w, coh_error *err) {
  int rc;
  char label[COH_LABEL], script[COH_PATH];
  coh_text jobs = {0};
  for (size_t i = 0; i < s->n_array; i++)
    coh_text_add(&jobs, ":%s", *s->array[i].id ? s->array[i].id : "JOB");
  COH_TRY(coh_text_check(&jobs, err));
  COH_TRY(slurm_file("merge.sbatch", script, sizeof script, err));
  words_add(w, "sbatch");
  words_add(w, "--parsable");
  words_add(w, "--job-name=%s-merge", coh_label(s->cfg.experiment.name, label));
  words_add(w, "--dependency=afterany%s", jobs.data);
  words_add(w, "--output=%s/logs/merge-%%j.log", s->folder);
  COH_TRY(add_export(s, NULL, w, err));
  add_admission(&s->cfg, w);
  words_add(w, "%s", script);
  words_add(w, "%s", s->folder);
  rc = words_check(w, err);
cleanup:
  coh_text_free(&jobs);
  return rc;
}

/* ---- submitting ----------------------------------------------------------------------
 */

/* Calls sbatch, or prints the command. a->id: "123", without the cluster's name. */
static int give(const submission *s, const words *w, job_array *a, coh_error *err) {
  int rc, status = 0;
  coh_text line = {0}, answer = {0};
  words_show(w, &line);
  COH_TRY(coh_text_check(&line, err));
  if (s->dry_run) {
    printf("%s\n", line.data);
    goto cleanup;
  }
  COH_TRY(slurm_call((const char *const *)w->word, false, &answer, &status, err));
  size_t n = answer.data ? strspn(answer.data, "0123456789") : 0;
  if (status != 0 || n == 0 || n >= sizeof a->id) {
    rc = coh_fail(err, COH_EIO, "sbatch refused (status %d): %s", status, line.data);
    goto cleanup;
  }
  snprintf(a->id, sizeof a->id, "%.*s", (int)n, answer.data);
  a->command = line.data;
  line.data = NULL;
cleanup:
  coh_text_free(&line);
  coh_text_free(&answer);
  return rc;
}

static int give_all(submission *s, coh_error *err) {
  int rc = COH_OK;
  for (size_t i = 0; i < s->n_array + s->merge && rc == COH_OK; i++) {
    words w = {0};
    job_array *a = i < s->n_array ? s->array + i : &s->merger;
    rc = i < s->n_array ? run_command(s, a, &w, err) : merge_command(s, &w, err);
    if (rc == COH_OK) rc = give(s, &w, a, err);
    words_free(&w);
  }
  return rc;
}

static void tell(const submission *s) {
  coh_text list = {0};
  left_show(s->left, s->n_left, 0, &list);
  for (size_t i = 0; i < s->n_array; i++)
    if (*s->array[i].id) printf("%s\n", s->array[i].id);
  fflush(stdout);
  if (s->sweep)
    fprintf(stderr, "sub-batches %s of %zu, %zu runs in all%s; ", list.data, s->n,
            s->runs, s->retry ? "; failed ones are tried again" : "");
  fprintf(stderr, "results and logs: %s\n", s->folder);
  if (*s->merger.id) fprintf(stderr, "then they are merged: job %s\n", s->merger.id);
  coh_text_free(&list);
}

/* What was submitted is told and kept, also if a later part was refused. */
static int submit_left(submission *s, coh_error *err) {
  int rc;
  char logs[COH_PATH];
  coh_error late = {0};
  if (!s->dry_run) {
    COH_TRY(coh_format(logs, sizeof logs, err, "%s/logs", s->folder));
    COH_TRY(coh_mkdirs(logs, err));
  }
  rc = give_all(s, err);
  if (s->dry_run || !*s->array[0].id) return rc;
  if (rc != COH_OK)
    coh_explain(err, "only what is listed was submitted; go on with --resume");
  tell(s);
  int kept = record_add(s, &late);
  if (rc == COH_OK && kept != COH_OK) *err = late, rc = kept;
cleanup:
  return rc;
}

static int submit(submission *s, coh_error *err) {
  int rc;
  char found[COH_PATH];
  COH_TRY(load(s, err));
  COH_TRY(check_folder(s, err));
  COH_TRY(choose_count(s, err));
  if (!s->template) {
    COH_TRY(slurm_file(*s->cfg.slurm.gpus_per_node ? "gpu.sbatch"
                       : s->sweep                  ? "sweep.sbatch"
                                                   : "run.sbatch",
                       found, sizeof found, err));
    s->template = found;
  } else if (!coh_file_exists(s->template))
    COH_TRY(coh_fail(err, COH_EUSAGE, "--template %s: no such file", s->template));
  COH_TRY(ask_limits(s, err));
  COH_TRY(left_find(s, err));
  if (s->n_left == 0) {
    fprintf(stderr, "nothing is left to submit\n");
    return COH_OK;
  }
  COH_TRY(cut_arrays(s, err));
  if (!s->sweep) free(s->array[0].list), s->array[0].list = NULL;
  set_limits(s);
  rc = submit_left(s, err);
cleanup:
  return rc;
}

int command_submit(int argc, char **argv) {
  coh_error err = {0};
  submission s = {0};
  if (argc < 3 || strcmp(argv[2], "--help") == 0) {
    fputs(usage, argc < 3 ? stderr : stdout);
    return argc < 3 ? 2 : 0;
  }
  start_forget();
  int rc = read_arguments(argc - 2, argv + 2, &s, &err);
  if (rc == COH_OK) rc = submit(&s, &err);
  if (rc != COH_OK) fprintf(stderr, "cohort: %s\n", err.text);
  for (size_t i = 0; i < s.n_array; i++) free(s.array[i].list), free(s.array[i].command);
  free(s.merger.command);
  free(s.array);
  free(s.left);
  coh_sweep_destroy(s.sweep);
  return coh_exit_status(rc);
}
