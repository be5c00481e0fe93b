/* folders.c - where runs live, and that a run's folder is of this run and of this process
 * alone. Uses base, config. */
#include "store/store_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int coh_sweep_folder(const char *results, const char *name, size_t k, size_t n, char *out,
                     size_t size, coh_error *err) {
  int rc = coh_format(out, size, err, "%s/%s/%zu-%zu", results, name, k, n);
  return rc == COH_OK ? coh_mkdirs(out, err) : rc;
}

static bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

char *coh_label(const char *text, char out[COH_LABEL]) {
  size_t n = 0;
  for (const char *c = text; *c && n < COH_LABEL - 1; c++) {
    char kept = is_plain(*c) || *c == '.' || *c == '-' ? *c : '_';
    if (n == 0 && !is_plain(kept)) continue;
    if (kept == '_' && out[n - 1] == '_') continue;
    out[n++] = kept;
  }
  while (n > 0 && out[n - 1] == '_') n--; /* the bracket that closed a name */
  out[n] = '\0';
  return n ? out : memcpy(out, "run", sizeof "run");
}

/* ---- run.ini --------------------------------------------------------------------- */

static const char head[] = "; run ";

static int ini_text(const coh_hash *hash, const coh_config *cfg, coh_text *out,
                    coh_error *err) {
  coh_text_add(out, "%s%s\n; every parameter of it, those not given included\n\n", head,
               hash->hex);
  coh_config_show(cfg, out);
  return coh_text_check(out, err);
}

/* The hash in the first line of a run.ini must be this run's. */
static int check_hash(const char *path, const char *text, const coh_hash *hash,
                      coh_error *err) {
  size_t skip = strlen(head), digits = sizeof hash->hex - 1;
  if (strncmp(text, head, skip) != 0 || strlen(text) < skip + digits)
    return coh_fail(err, COH_EUSAGE,
                    "'%s' does not begin as cohort writes it: move its "
                    "folder away to start the run anew",
                    path);
  if (strncmp(text + skip, hash->hex, digits) != 0)
    return coh_fail(err, COH_EUSAGE,
                    "'%s' is of the run %.*s, but this is the run %s: move "
                    "its folder away, or give this run another name",
                    path, (int)digits, text + skip, hash->hex);
  return COH_OK;
}

static int check_param(const char *path, const coh_config *old, const coh_config *cfg,
                       const coh_param *p, coh_error *err) {
  coh_text a = {0}, b = {0};
  coh_param_value(old, p, &a);
  coh_param_value(cfg, p, &b);
  int rc = coh_text_check(&a, err);
  if (rc == COH_OK) rc = coh_text_check(&b, err);
  const char *was = a.data ? a.data : "", *is = b.data ? b.data : "";
  if (rc == COH_OK && strcmp(was, is) != 0)
    rc = coh_fail(err, COH_EUSAGE,
                  "'%s' was changed: it says %s.%s = %s, but this run has %s: "
                  "move its folder away to start the run anew",
                  path, p->section, p->key, was, is);
  coh_text_free(&b);
  coh_text_free(&a);
  return rc;
}

static bool changes_training(const coh_param *p, const coh_config *cfg) {
  bool scope = p->scope == COH_SCOPE_RUN || p->scope == COH_SCOPE_SEED;
  return scope && p->jobs >> cfg->experiment.job & 1;
}

static int check_params(const char *path, const coh_config *cfg, coh_error *err) {
  int rc = COH_OK;
  size_t n;
  const coh_param *p = coh_params(&n);
  coh_config *old = NULL;
  COH_TRY(coh_alloc(&old, 1, sizeof *old, err));
  rc = coh_config_load(old, path, 0, NULL, err);
  if (rc != COH_OK) {
    coh_explain(err, "the run.ini of this run cannot be read");
    goto cleanup;
  }
  for (size_t i = 0; i < n; i++)
    if (changes_training(p + i, cfg)) COH_TRY(check_param(path, old, cfg, p + i, err));
cleanup:
  free(old);
  return rc;
}

/* Checks the run.ini that is there; *same if it need not be written. */
static int check_ini(const char *path, const coh_text *want, const coh_hash *hash,
                     const coh_config *cfg, bool *same, coh_error *err) {
  int rc = COH_OK;
  char *text = NULL;
  size_t len;
  *same = false;
  if (!coh_file_exists(path)) return COH_OK;
  COH_TRY(coh_file_read(path, &text, &len, err));
  *same = len == want->len && memcmp(text, want->data, len) == 0;
  if (*same) goto cleanup;
  COH_TRY(check_hash(path, text, hash, err));
  COH_TRY(check_params(path, cfg, err));
cleanup:
  free(text);
  return rc;
}

static int settle_ini(const char *folder, const coh_hash *hash, const coh_config *cfg,
                      coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  bool same;
  coh_text text = {0};
  COH_TRY(coh_format(path, sizeof path, err, "%s/run.ini", folder));
  COH_TRY(ini_text(hash, cfg, &text, err));
  COH_TRY(check_ini(path, &text, hash, cfg, &same, err));
  if (!same) COH_TRY(coh_file_write(path, text.data, text.len, err));
cleanup:
  coh_text_free(&text);
  return rc;
}

/* ---- the folder of a run --------------------------------------------------------- */

bool coh_is_temporary(const char *name) {
  size_t n = strlen(name);
  return name[0] == '.' && n > 5 && strcmp(name + n - 4, ".tmp") == 0;
}

/* Removes temporary files. Whoever wrote them is dead: this process holds the lock. In
 * the folder that `fd` is open on, which is closed, and `depth` levels below it. */
static void remove_temporaries(int fd, int depth) {
  DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
  if (!d && fd >= 0) close(fd);
  for (struct dirent *e; d && (e = readdir(d));) {
    if (coh_is_temporary(e->d_name))
      (void)unlinkat(dirfd(d), e->d_name, 0);
    else if (depth > 0 && e->d_name[0] != '.')
      remove_temporaries(
          openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
          depth - 1);
  }
  if (d) closedir(d);
}

/* Takes the lock; where another process holds it, tries again until give_up says so. */
static int lock_patiently(const char *folder, const coh_run_wait *wait,
                          const coh_sink *sink, int *lock, coh_error *err) {
  const struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
  for (bool told = false;; told = true) {
    int rc = coh_lock_take(folder, false, sink, lock, err);
    if (rc != COH_EUSAGE || !wait) return rc;
    if (wait->give_up && wait->give_up(wait->ctx))
      return coh_fail(err, COH_ESTOP, "stopped while waiting for '%s'", folder);
    if (!told) coh_say(sink, COH_INFO, "waiting: %s", err->text);
    nanosleep(&pause, NULL);
  }
}

int coh_run_open(const char *sweep, const char *label, const coh_hash *hash,
                 const coh_config *cfg, const coh_run_wait *wait, const coh_sink *sink,
                 coh_run *out, coh_error *err) {
  int rc = COH_OK;
  char clean[COH_LABEL];
  out->lock = -1;
  COH_TRY(coh_format(out->folder, sizeof out->folder, err, "%s/runs/%s-%.*s/seed_%lld",
                     sweep, coh_label(label, clean), COH_HASH_SHOWN, hash->hex,
                     (long long)cfg->experiment.seed));
  COH_TRY(coh_mkdirs(out->folder, err));
  COH_TRY(lock_patiently(out->folder, wait, sink, &out->lock, err));
  remove_temporaries(open(out->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 1);
  COH_TRY(settle_ini(out->folder, hash, cfg, err));
cleanup:
  if (rc != COH_OK) coh_run_close(out);
  return rc;
}

void coh_run_close(coh_run *run) {
  if (!run) return;
  coh_lock_release(run->lock);
  run->lock = -1;
}
