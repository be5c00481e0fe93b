/* scratch.h - a folder for the files of one test program, made by the group's setup and
 * removed by its teardown: cmocka_run_group_tests(tests, scratch_make, scratch_remove).
 */
#ifndef COHORT_TESTS_SCRATCH_H
#define COHORT_TESTS_SCRATCH_H

#include <dirent.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_folder[256];

static inline int scratch_make(void **state) {
  (void)state;
  const char *tmp = getenv("TMPDIR");
  snprintf(scratch_folder, sizeof scratch_folder, "%.200s/cohort-test-XXXXXX",
           tmp && *tmp ? tmp : "/tmp");
  return mkdtemp(scratch_folder) ? 0 : -1;
}

static inline int scratch_unlink(const char *path, const struct stat *st, int flag,
                                 struct FTW *ftw) {
  (void)st, (void)flag, (void)ftw;
  return remove(path);
}

static inline int scratch_remove(void **state) {
  (void)state;
  return nftw(scratch_folder, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* "<scratch folder>/<name>", valid until the eighth next call. */
static inline const char *scratch(const char *name) {
  static char paths[8][512];
  static unsigned turn;
  char *path = paths[turn++ % 8];
  snprintf(path, sizeof paths[0], "%s/%.200s", scratch_folder, name);
  return path;
}

/* Writes a file plainly; returns 0, or -1. */
static inline int scratch_write(const char *path, const void *data, size_t len) {
  FILE *f = fopen(path, "wb");
  if (!f) return -1;
  bool ok = fwrite(data, 1, len, f) == len;
  return fclose(f) == 0 && ok ? 0 : -1;
}

/* Number of entries in a folder, "." and ".." left out; -1 if it cannot be read. */
static inline int scratch_count(const char *folder) {
  DIR *d = opendir(folder);
  if (!d) return -1;
  int n = 0;
  for (struct dirent *e; (e = readdir(d));)
    n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
  closedir(d);
  return n;
}

#endif
