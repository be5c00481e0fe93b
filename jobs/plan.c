/* plan.c - `cohort plan`: what a sweep is, before anything runs. Reads the file and deals
 * its runs; numbers come from plan_estimate.c, the text from plan_print.c. Starts no MPI
 * and writes no file. */
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 100000 };

static const char usage[] = "usage: cohort plan CONFIG.ini [--sub-batches n] [--list] "
                            "[section.key=value ...]";

typedef struct request {
  const char *path;
  size_t n;
  bool list;
  size_t n_all, n_set;
  const char **all; /* overrides as given */
  const char **set; /* those of this file: not "teacher:..." */
} request;

/* ---- arguments -----------------------------------------------------------------------
 */

static int read_count(const char *text, size_t *out, coh_error *err) {
  char *end;
  errno = 0;
  long n = text ? strtol(text, &end, 10) : 0;
  if (!text || end == text || *end || errno || n < 1 || n > MOST_PARTS)
    return coh_fail(err, COH_EUSAGE,
                    "--sub-batches \"%.60s\": expected a whole number from 1 to %d",
                    text ? text : "", MOST_PARTS);
  *out = (size_t)n;
  return COH_OK;
}

static int read_option(request *r, int argc, char **argv, int *i, coh_error *err) {
  const char *a = argv[*i];
  if (strcmp(a, "--list") == 0) {
    r->list = true;
    return COH_OK;
  }
  if (strncmp(a, "--sub-batches=", 14) == 0) return read_count(a + 14, &r->n, err);
  if (strcmp(a, "--sub-batches") == 0)
    return read_count(++*i < argc ? argv[*i] : NULL, &r->n, err);
  return coh_fail(err, COH_EUSAGE, "plan: no option \"%.60s\"; %s", a, usage);
}

static int read_arguments(request *r, int argc, char **argv, coh_error *err) {
  int rc;
  *r = (request){.n = 1};
  COH_TRY(coh_alloc(&r->all, (size_t)argc, sizeof *r->all, err));
  COH_TRY(coh_alloc(&r->set, (size_t)argc, sizeof *r->set, err));
  for (int i = 2; i < argc; i++) {
    if (argv[i][0] == '-') {
      COH_TRY(read_option(r, argc, argv, &i, err));
    } else if (!r->path) {
      r->path = argv[i];
    } else {
      r->all[r->n_all++] = argv[i];
      if (strncmp(argv[i], "teacher:", 8) != 0) r->set[r->n_set++] = argv[i];
    }
  }
  if (!r->path) rc = coh_fail(err, COH_EUSAGE, "%s", usage);
cleanup:
  return rc;
}

/* ---- the plan ------------------------------------------------------------------------
 */

/* Every run's configuration, made and thrown away: what is wrong is told before it costs
 * anything. */
static void check_runs(plan *p) {
  coh_config cfg;
  coh_error err;
  size_t R = coh_sweep_count(p->sweep);
  for (size_t i = 0; i < R; i++) {
    if (coh_sweep_config(p->sweep, i, &cfg, &err) == COH_OK) continue;
    if (p->wrong++ == 0) p->first = err;
  }
}

static int deal(plan *p, coh_error *err) {
  int rc;
  size_t R = coh_sweep_count(p->sweep);
  COH_TRY(coh_alloc(&p->parts, p->n, sizeof *p->parts, err));
  for (size_t k = 0; k < p->n; k++) {
    plan_part *part = p->parts + k;
    coh_sub_batch(R, k + 1, p->n, &part->first, &part->count);
    COH_TRY(packs_make(p->sweep, part->first, part->count, &part->packs, err));
  }
cleanup:
  return rc;
}

static void release(plan *p) {
  for (size_t k = 0; p->parts && k < p->n; k++) packs_free(&p->parts[k].packs);
  free(p->parts);
  coh_text_free(&p->basis);
  coh_sweep_destroy(p->sweep);
}

static int show(plan *p, coh_error *err) {
  int rc;
  coh_text text = {0};
  check_runs(p);
  COH_TRY(plan_estimate(p, err));
  plan_print(p, &text);
  COH_TRY(coh_text_check(&text, err));
  fputs(text.data, stdout);
cleanup:
  coh_text_free(&text);
  return rc;
}

static int make_plan(const request *r, coh_error *err) {
  int rc;
  plan p = {.path = r->path, .n_set = r->n_all, .set = r->all, .n = r->n};
  COH_TRY(coh_sweep_load(r->path, r->n_set, r->set, &p.sweep, err));
  if (!p.sweep) {
    rc = coh_fail(err, COH_EUSAGE,
                  "%s: has no [sweep] section, so it is one run: see `cohort show %s`, "
                  "and `cohort help sweep` for how to write one",
                  r->path, r->path);
    goto cleanup;
  }
  if (r->n_set < r->n_all && !*coh_sweep_base(p.sweep)->teacher.config) {
    rc =
        coh_fail(err, COH_EUSAGE,
                 "override: teacher:...: %s has no teacher.config whose parameters could "
                 "be set",
                 r->path);
    goto cleanup;
  }
  COH_TRY(deal(&p, err));
  COH_TRY(r->list ? plan_list(&p, err) : show(&p, err));
  if (fflush(stdout) != 0 || ferror(stdout))
    rc = coh_fail_errno(err, "cannot write to standard output");
cleanup:
  release(&p);
  return rc;
}

int command_plan(int argc, char **argv) {
  request r;
  coh_error err = {0};
  if (argc > 2 && strcmp(argv[2], "--help") == 0) {
    puts(usage);
    return 0;
  }
  int rc = read_arguments(&r, argc, argv, &err);
  if (rc == COH_OK) rc = make_plan(&r, &err);
  free(r.all);
  free(r.set);
  if (rc != COH_OK) fprintf(stderr, "cohort: %s\n", err.text);
  return coh_exit_status(rc);
}
