/* work.c - where a pack is worked on, and how it is published. A folder of work/ belongs
 * to one attempt alone; packs/ only ever gains whole folders, by rename. Uses base. */
#include "store/store_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- whole folders --------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *ftw) {
  (void)st, (void)flag, (void)ftw;
  (void)remove(path);
  return 0;
}

/* Removes a folder and what is in it, as far as that can be done. */
static void remove_tree(const char *path) {
  (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Syncs the plain files of a folder, and the folder; removes temporary files. */
static int sync_folder(const char *folder, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  DIR *d = opendir(folder);
  if (!d) return coh_fail_errno(err, "cannot read the folder '%s'", folder);
  for (struct dirent *e; (e = readdir(d));) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    COH_TRY(coh_format(path, sizeof path, err, "%s/%s", folder, e->d_name));
    if (coh_is_temporary(e->d_name))
      (void)unlink(path);
    else
      COH_TRY(coh_sync(path, O_NOFOLLOW, err));
  }
  rc = coh_sync(folder, O_DIRECTORY, err);
cleanup:
  closedir(d);
  return rc;
}

/* ---- names ----------------------------------------------------------------------- */

/* Attempt of "<name>.a<number>" if `entry` is that, and not one in the making; else 0. */
static uint64_t attempt_of(const char *entry, const char *name) {
  size_t n = strlen(name);
  char *end;
  if (strncmp(entry, name, n) != 0 || strncmp(entry + n, ".a", 2) != 0) return 0;
  unsigned long long a = strtoull(entry + n + 2, &end, 10);
  return *end ? 0 : a;
}

/* Cuts ".a<number>" off and returns the number; 0: there is none. */
static uint64_t split_name(char *entry) {
  char *dot = strrchr(entry, '.'), *end;
  if (!dot || dot[1] != 'a') return 0;
  unsigned long long a = strtoull(dot + 2, &end, 10);
  if (*end) return 0;
  *dot = '\0';
  return a;
}

/* Highest attempt below `attempt` that has a work folder of this name; 0: none. */
static uint64_t earlier(const char *work, const char *name, uint64_t attempt) {
  uint64_t best = 0;
  DIR *d = opendir(work);
  for (struct dirent *e; d && (e = readdir(d));) {
    uint64_t a = attempt_of(e->d_name, name);
    if (a > best && a < attempt) best = a;
  }
  if (d) closedir(d);
  return best;
}

/* ---- adopting -------------------------------------------------------------------- */

/* In the order of taking: metrics are written before the checkpoint that goes with them,
 * so they may be newer than it, and never older. */
static const char *const adopted[] = {"checkpoint*.h5", "finish.*.h5", "metrics.csv"};

static int copy_file(const char *from, const char *to, coh_error *err) {
  char *data;
  size_t len;
  int rc = coh_file_read(from, &data, &len, err);
  if (!rc) rc = coh_file_write(to, data, len, err);
  free(data);
  return rc;
}

/* What vanishes meanwhile is not missed: a ghost ends its stage and drops a checkpoint.
 */
static int adopt_file(const char *from, const char *to, coh_error *err) {
  if (link(from, to) == 0 || errno == ENOENT) return COH_OK;
  int rc = copy_file(from, to, err);
  return rc != COH_OK && !coh_file_exists(from) ? COH_OK : rc;
}

static int adopt_matching(const char *from, const char *to, const char *pattern,
                          coh_error *err) {
  int rc = COH_OK;
  char a[COH_PATH], b[COH_PATH];
  DIR *d = opendir(from);
  if (!d) return coh_fail_errno(err, "cannot read the folder '%s'", from);
  for (struct dirent *e; (e = readdir(d));) {
    if (fnmatch(pattern, e->d_name, FNM_PERIOD) != 0) continue;
    COH_TRY(coh_format(a, sizeof a, err, "%s/%s", from, e->d_name));
    COH_TRY(coh_format(b, sizeof b, err, "%s/%s", to, e->d_name));
    COH_TRY(adopt_file(a, b, err));
  }
cleanup:
  closedir(d);
  return rc;
}

/* Fills the new folder `to` from the one of an earlier attempt. */
static int adopt(const char *work, const char *name, uint64_t attempt, const char *to,
                 coh_error *err) {
  int rc = COH_OK;
  char from[COH_PATH];
  uint64_t a = earlier(work, name, attempt);
  if (a == 0) return COH_OK;
  COH_TRY(coh_format(from, sizeof from, err, "%s/%s.a%llu", work, name,
                     (unsigned long long)a));
  for (size_t i = 0; i < sizeof adopted / sizeof *adopted; i++)
    COH_TRY(adopt_matching(from, to, adopted[i], err));
cleanup:
  return rc;
}

int coh_pack_open_work(const char *sub_batch, const char *name, uint64_t attempt,
                       char *out, coh_error *err) {
  int rc = COH_OK;
  char work[COH_PATH], temp[COH_PATH];
  COH_TRY(coh_format(work, sizeof work, err, "%s/work", sub_batch));
  COH_TRY(coh_format(out, COH_PATH, err, "%s/%s.a%llu", work, name,
                     (unsigned long long)attempt));
  if (coh_file_exists(out)) goto cleanup;
  /* complete, or not there: a killed one must not look like one without metrics */
  COH_TRY(coh_format(temp, sizeof temp, err, "%s.tmp", out));
  remove_tree(temp);
  COH_TRY(coh_mkdirs(temp, err));
  COH_TRY(adopt(work, name, attempt, temp, err));
  if (rename(temp, out) != 0)
    rc = coh_fail_errno(err, "cannot rename '%s' to '%s'", temp, out);
cleanup:
  return rc;
}

/* ---- publishing ------------------------------------------------------------------ */

int coh_pack_publish(const char *work, const char *sub_batch, const char *name,
                     bool *lost, coh_error *err) {
  int rc = COH_OK;
  char packs[COH_PATH], target[COH_PATH];
  *lost = false;
  COH_TRY(coh_format(packs, sizeof packs, err, "%s/packs", sub_batch));
  COH_TRY(coh_format(target, sizeof target, err, "%s/%s", packs, name));
  COH_TRY(coh_mkdirs(packs, err));
  COH_TRY(sync_folder(work, err));
  *lost = rename(work, target) != 0;
  if (*lost && errno != EEXIST && errno != ENOTEMPTY)
    rc = coh_fail_errno(err, "cannot rename '%s' to '%s'", work, target);
  else if (*lost)
    remove_tree(work);
  else
    rc = coh_sync(packs, O_DIRECTORY, err);
cleanup:
  return rc;
}

/* ---- cleaning -------------------------------------------------------------------- */

static int clean_entry(const char *sub_batch, const char *entry, uint64_t attempt,
                       coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH], pack[COH_PATH], name[COH_PATH];
  COH_TRY(coh_format(name, sizeof name, err, "%s", entry));
  char *end = strrchr(name, '.');
  bool half = end && strcmp(end, ".tmp") == 0;
  if (half) *end = '\0';
  uint64_t a = split_name(name);
  if (a == 0 || a >= attempt) goto cleanup;
  COH_TRY(coh_format(pack, sizeof pack, err, "%s/packs/%s/pack.json", sub_batch, name));
  COH_TRY(coh_format(path, sizeof path, err, "%s/work/%s", sub_batch, entry));
  if (half || coh_file_exists(pack)) remove_tree(path);
cleanup:
  return rc;
}

/* Tables that killed attempts were writing; a ghost fails to rename its own, as it
 * should.
 */
static void clean_tables(const char *sub_batch) {
  DIR *d = opendir(sub_batch);
  for (struct dirent *e; d && (e = readdir(d));)
    if (coh_is_temporary(e->d_name)) (void)unlinkat(dirfd(d), e->d_name, 0);
  if (d) closedir(d);
}

int coh_pack_clean(const char *sub_batch, uint64_t attempt, coh_error *err) {
  int rc = COH_OK;
  char work[COH_PATH];
  clean_tables(sub_batch);
  COH_TRY(coh_format(work, sizeof work, err, "%s/work", sub_batch));
  DIR *d = opendir(work);
  if (!d) return COH_OK;
  for (struct dirent *e; rc == COH_OK && (e = readdir(d));)
    rc = clean_entry(sub_batch, e->d_name, attempt, err);
  closedir(d);
cleanup:
  return rc;
}
