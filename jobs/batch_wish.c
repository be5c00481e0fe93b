/* batch_wish.c - which sub-batch: from the command line, or from SLURM's variables. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"

/* A whole number >= least that ends at `end`. */
static bool read_number(const char *text, char end, size_t least, size_t *out,
                        const char **rest) {
  char *stop;
  errno = 0;
  unsigned long long v = strtoull(text, &stop, 10);
  *out = (size_t)v;
  if (rest) *rest = stop + 1;
  return *text >= '0' && *text <= '9' && errno == 0 && *stop == end && v >= least &&
         v <= 1000000000;
}

static int parse_sub_batch(const char *text, batch_wish *w, coh_error *err) {
  const char *rest = NULL;
  if (text && read_number(text, '/', 1, &w->k, &rest) &&
      read_number(rest, '\0', 1, &w->n, NULL) && w->k <= w->n)
    return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "--sub-batch %s: expected k/n with 1 <= k <= n, such as 3/16",
                  text ? text : "without a value");
}

/* ---- the environment -----------------------------------------------------------------
 */

/* A variable as a number; `fallback` where it is not set. */
static int variable(const char *name, size_t least, size_t fallback, size_t *out,
                    coh_error *err) {
  const char *text = getenv(name);
  *out = fallback;
  if (!text || !*text || read_number(text, '\0', least, out, NULL)) return COH_OK;
  return coh_fail(err, COH_EUSAGE, "%s=%s: expected a whole number from %zu on", name,
                  text, least);
}

/* The tasks of an array without gaps are the sub-batches, in their order. */
static int from_array(size_t id, batch_wish *w, coh_error *err) {
  int rc;
  size_t min, max, step, count;
  COH_TRY(variable("SLURM_ARRAY_TASK_MIN", 0, id, &min, err));
  COH_TRY(variable("SLURM_ARRAY_TASK_MAX", 0, id, &max, err));
  COH_TRY(variable("SLURM_ARRAY_TASK_STEP", 1, 1, &step, err));
  COH_TRY(variable("SLURM_ARRAY_TASK_COUNT", 1, 1, &count, err));
  if (id < min || max < min || (max - min) / step + 1 != count || (id - min) % step != 0)
    return coh_fail(err, COH_EUSAGE,
                    "task %zu of a job array with gaps (%zu tasks from %zu to %zu): how "
                    "many sub-batches there are must be said: set COHORT_SUB_BATCHES=n, "
                    "and task k runs sub-batch k",
                    id, count, min, max);
  w->k = (id - min) / step + 1;
  w->n = count;
cleanup:
  return rc;
}

static int from_environment(batch_wish *w, coh_error *err) {
  int rc;
  size_t id, offset;
  const size_t none = SIZE_MAX;
  COH_TRY(variable("SLURM_ARRAY_TASK_ID", 0, none, &id, err));
  COH_TRY(variable("COHORT_SUB_BATCHES", 1, 0, &w->n, err));
  COH_TRY(variable("COHORT_SUB_BATCH_OFFSET", 0, 0, &offset, err));
  if (id == none) {
    w->n = 0;
    return COH_OK;
  }
  if (w->n == 0) return from_array(id, w, err);
  w->k = id + offset;
  if (w->k < 1 || w->k > w->n)
    rc =
        coh_fail(err, COH_EUSAGE,
                 "task %zu of the job array (offset %zu) is sub-batch %zu, but there are "
                 "COHORT_SUB_BATCHES=%zu: they count from 1",
                 id, offset, w->k, w->n);
cleanup:
  return rc;
}

/* ---- the command line -----------------------------------------------------------------
 */

int batch_wish_read(int *argc, char **argv, batch_wish *w, coh_error *err) {
  int kept = 0;
  *w = (batch_wish){0};
  for (int i = 0; i < *argc; i++) {
    const char *a = argv[i];
    if (i < 2 || strncmp(a, "--", 2) != 0)
      argv[kept++] = argv[i];
    else if (strcmp(a, "--force") == 0)
      w->force = true;
    else if (strcmp(a, "--retry") == 0)
      w->retry = true;
    else if (strncmp(a, "--sub-batch=", 12) == 0) {
      if (parse_sub_batch(a + 12, w, err)) return err->code;
    } else if (strcmp(a, "--sub-batch") == 0) {
      if (parse_sub_batch(++i < *argc ? argv[i] : NULL, w, err)) return err->code;
    } else {
      return coh_fail(err, COH_EUSAGE,
                      "unknown option %s: cohort run takes --sub-batch k/n, --force, "
                      "--retry",
                      a);
    }
  }
  *argc = kept;
  w->asked = w->n > 0;
  return w->n == 0 ? from_environment(w, err) : COH_OK;
}
