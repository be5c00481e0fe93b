/* attempt.c - starts of a sub-batch, numbered, so that the latest one can be told from
 * ghosts that go on elsewhere. No locks: a number is taken by link(2), which is exclusive
 * on NFS too. Uses base. */
#include "store/store_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FORMAT = 1 };

static void now_text(char out[32]) {
  time_t now = time(NULL);
  struct tm utc;
  strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

static int draw_token(char out[33], coh_error *err) {
  uint8_t bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    return coh_fail_errno(err, "no random numbers from the system");
  for (size_t i = 0; i < sizeof bytes; i++)
    snprintf(out + 2 * i, 3, "%02x", (unsigned)bytes[i]);
  return COH_OK;
}

/* ---- the numbers ----------------------------------------------------------------- */

/* The number of "<a>.json", 0 for other names. */
static uint64_t number_of(const char *name) {
  char *end;
  if (*name < '1' || *name > '9') return 0;
  errno = 0;
  unsigned long long a = strtoull(name, &end, 10);
  return errno == 0 && strcmp(end, ".json") == 0 ? a : 0;
}

/* Highest number in the folder; 0 where there is none, or no folder. */
static int highest(const char *folder, uint64_t *out, coh_error *err) {
  *out = 0;
  DIR *d = opendir(folder);
  if (!d && errno == ENOENT) return COH_OK;
  if (!d) return coh_fail_errno(err, "cannot read the folder '%s'", folder);
  for (struct dirent *e; (e = readdir(d));) {
    uint64_t a = number_of(e->d_name);
    if (a > *out) *out = a;
  }
  closedir(d);
  return COH_OK;
}

/* ---- the file -------------------------------------------------------------------- */

static char *file_text(const coh_attempt *a) {
  json_t *root =
      json_pack("{s:i, s:I, s:s, s:o, s:I, s:o, s:s, s:o, s:s, s:I, s:s}", "format",
                FORMAT, "attempt", (json_int_t)a->number, "token", a->token, "host",
                coh_json_text(a->host), "pid", (json_int_t)a->pid, "slurm_job",
                *a->slurm_job ? coh_json_text(a->slurm_job) : json_null(), "started",
                a->started, "ended", *a->ended ? json_string(a->ended) : json_null(),
                "status", a->status, "runs", (json_int_t)a->runs, "sweep", a->sweep);
  char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
  json_decref(root);
  return text;
}

static int write_file(const char *path, const coh_attempt *a, coh_error *err) {
  char *text = file_text(a);
  if (!text) return coh_fail(err, COH_ENOMEM, "cannot put '%s' together", a->path);
  int rc = coh_file_write(path, text, strlen(text), err);
  free(text);
  return rc;
}

static void copy_text(const json_t *root, const char *key, char *out, size_t size) {
  const char *text = json_string_value(json_object_get(root, key));
  if (text) snprintf(out, size, "%s", text);
}

static int read_file(coh_attempt *a, coh_error *err) {
  json_error_t e;
  json_t *root = json_load_file(a->path, 0, &e);
  if (!root)
    return coh_fail(err, COH_EDATA, "%s: truncated or damaged: %s", a->path, e.text);
  copy_text(root, "token", a->token, sizeof a->token);
  copy_text(root, "host", a->host, sizeof a->host);
  copy_text(root, "slurm_job", a->slurm_job, sizeof a->slurm_job);
  copy_text(root, "started", a->started, sizeof a->started);
  copy_text(root, "ended", a->ended, sizeof a->ended);
  copy_text(root, "status", a->status, sizeof a->status);
  copy_text(root, "sweep", a->sweep, sizeof a->sweep);
  a->pid = json_integer_value(json_object_get(root, "pid"));
  a->runs = (size_t)json_integer_value(json_object_get(root, "runs"));
  json_decref(root);
  if (*a->status) return COH_OK;
  return coh_fail(err, COH_EDATA, "%s: damaged: it has no status", a->path);
}

/* ---- beginning ------------------------------------------------------------------- */

/* Gives the file `temp` the name `path`; *taken if that is there already. */
static int take_name(const char *temp, const char *path, bool *taken, coh_error *err) {
  struct stat st;
  *taken = false;
  if (link(temp, path) == 0) return COH_OK;
  int why = errno;
  /* the answer of an NFS server may have been lost: then the file has two names */
  if (why != EPERM && stat(temp, &st) == 0 && st.st_nlink == 2) return COH_OK;
  *taken = why == EEXIST;
  if (*taken) return COH_OK;
  if (why == EPERM || why == EOPNOTSUPP || why == ENOSYS || why == EMLINK) {
    /* a file system without links */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *taken = fd < 0 && errno == EEXIST;
    if (fd >= 0) close(fd);
    if (*taken) return COH_OK;
    if (fd >= 0 && rename(temp, path) == 0) return COH_OK;
    why = errno;
  }
  errno = why;
  return coh_fail_errno(err, "cannot make '%s'", path);
}

static int take_number(const char *folder, coh_attempt *a, coh_error *err) {
  int rc = COH_OK;
  char temp[COH_PATH];
  bool taken = true;
  COH_TRY(coh_format(temp, sizeof temp, err, "%s/.%s.tmp", folder, a->token));
  COH_TRY(highest(folder, &a->number, err));
  while (taken) {
    a->number++;
    COH_TRY(coh_format(a->path, sizeof a->path, err, "%s/%llu.json", folder,
                       (unsigned long long)a->number));
    COH_TRY(write_file(temp, a, err));
    rc = take_name(temp, a->path, &taken, err);
    (void)unlink(temp);
    if (rc != COH_OK) goto cleanup;
  }
cleanup:
  return rc;
}

int coh_attempt_begin(const char *sub_batch, const coh_attempt_info *info,
                      coh_attempt *out, coh_error *err) {
  int rc = COH_OK;
  char folder[COH_PATH];
  *out = (coh_attempt){.pid = getpid(), .runs = info->runs, .status = "running"};
  COH_TRY(draw_token(out->token, err));
  if (gethostname(out->host, sizeof out->host - 1) != 0) memcpy(out->host, "?", 2);
  COH_TRY(coh_format(out->slurm_job, sizeof out->slurm_job, err, "%s",
                     info->slurm_job ? info->slurm_job : ""));
  COH_TRY(coh_format(out->sweep, sizeof out->sweep, err, "%s", info->sweep));
  now_text(out->started);
  COH_TRY(coh_format(folder, sizeof folder, err, "%s/attempts", sub_batch));
  COH_TRY(coh_mkdirs(folder, err));
  COH_TRY(take_number(folder, out, err));
cleanup:
  return rc;
}

/* ---- living and ending ----------------------------------------------------------- */

/* COH_ETAKEN if a higher number is there. */
static int check_latest(const coh_attempt *a, coh_error *err) {
  char folder[COH_PATH];
  uint64_t top;
  memcpy(folder, a->path, sizeof folder);
  *strrchr(folder, '/') = '\0';
  int rc = highest(folder, &top, err);
  if (rc == COH_OK && top > a->number)
    rc = coh_fail(err, COH_ETAKEN,
                  "attempt %llu has been overtaken by attempt %llu ('%s/%llu.json'): it "
                  "ends and leaves all files to that one",
                  (unsigned long long)a->number, (unsigned long long)top, folder,
                  (unsigned long long)top);
  return rc;
}

int coh_attempt_beat(const coh_attempt *a, coh_error *err) {
  if (utimensat(AT_FDCWD, a->path, NULL, 0) != 0) {
    if (errno != ENOENT) return coh_fail_errno(err, "cannot touch '%s'", a->path);
    return coh_fail(err, COH_ETAKEN, "'%s' is gone: this attempt ends", a->path);
  }
  return check_latest(a, err);
}

int coh_attempt_end(coh_attempt *a, const char *status, coh_error *err) {
  now_text(a->ended);
  snprintf(a->status, sizeof a->status, "%s", status);
  return write_file(a->path, a, err);
}

int coh_attempt_last(const char *sub_batch, const coh_sink *sink, coh_attempt *out,
                     double *age, coh_error *err) {
  int rc = COH_OK;
  char folder[COH_PATH];
  struct stat st;
  *out = (coh_attempt){0};
  *age = 0;
  COH_TRY(coh_format(folder, sizeof folder, err, "%s/attempts", sub_batch));
  COH_TRY(highest(folder, &out->number, err));
  if (out->number == 0) goto cleanup;
  COH_TRY(coh_format(out->path, sizeof out->path, err, "%s/%llu.json", folder,
                     (unsigned long long)out->number));
  if (read_file(out, err) != COH_OK) {
    coh_say(sink, COH_WARN, "%s", err->text);
    *out = (coh_attempt){0};
  } else if (stat(out->path, &st) == 0) {
    double past = difftime(time(NULL), st.st_mtime);
    *age = past > 0 ? past : 0;
  }
cleanup:
  return rc;
}
