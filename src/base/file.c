/* file.c - whole files, folders, and writes that happen entirely or not at all. What
 * stands in a file is the caller's business. Uses no other room. */
#include "cohort/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool coh_file_exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0;
}

/* ---- folders ----------------------------------------------------------------------- */

/* mkdir that accepts a folder which is already there. */
static int make_folder(const char *path, coh_error *err) {
  if (mkdir(path, 0777) == 0) return COH_OK;
  int number = errno;
  struct stat st;
  if (stat(path, &st) == 0) {
    if (S_ISDIR(st.st_mode)) return COH_OK;
    number = ENOTDIR;
  }
  errno = number;
  return coh_fail_errno(err, "cannot make the folder '%s'", path);
}

int coh_mkdirs(const char *path, coh_error *err) {
  char part[COH_PATH];
  if (!*path) return coh_fail(err, COH_EUSAGE, "cannot make a folder without a name");
  int rc = coh_format(part, sizeof part, err, "%s", path);
  for (char *slash = part; rc == COH_OK && (slash = strchr(slash + 1, '/'));) {
    *slash = '\0';
    rc = make_folder(part, err);
    *slash = '/';
  }
  return rc == COH_OK ? make_folder(part, err) : rc;
}

/* Syncs the folder that holds `path`, so that a rename inside it survives a power cut. */
static int sync_folder(const char *path, coh_error *err) {
  char folder[COH_PATH];
  const char *slash = strrchr(path, '/');
  int rc = slash ? coh_format(folder, sizeof folder, err, "%.*s",
                              slash == path ? 1 : (int)(slash - path), path)
                 : coh_format(folder, sizeof folder, err, ".");
  if (rc != COH_OK) return rc;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return coh_fail_errno(err, "cannot open the folder '%s'", folder);
  /* EINVAL: a file system that cannot sync folders */
  if (fsync(fd) != 0 && errno != EINVAL)
    rc = coh_fail_errno(err, "cannot sync the folder '%s'", folder);
  close(fd);
  return rc;
}

/* ---- reading ----------------------------------------------------------------------- */

static ssize_t read_some(int fd, void *buffer, size_t size) {
  ssize_t n;
  do n = read(fd, buffer, size);
  while (n < 0 && errno == EINTR);
  return n;
}

/* Reads to the end of the file, whatever size it claims to have. */
static int read_all(int fd, const char *path, char **data, size_t *len, coh_error *err) {
  struct stat st;
  if (fstat(fd, &st) != 0) return coh_fail_errno(err, "cannot read '%s'", path);
  size_t cap = st.st_size > 0 ? (size_t)st.st_size + 2 : 4096, used = 0;
  char *bytes = malloc(cap);
  if (!bytes) return coh_fail_errno(err, "cannot read '%s' (%zu bytes)", path, cap);
  for (ssize_t n; (n = read_some(fd, bytes + used, cap - used - 1)) != 0;) {
    if (n < 0) {
      int rc = coh_fail_errno(err, "cannot read '%s'", path);
      free(bytes);
      return rc;
    }
    used += (size_t)n;
    if (used + 1 < cap) continue;
    char *more = realloc(bytes, cap *= 2);
    if (!more) {
      free(bytes);
      return coh_fail(err, COH_ENOMEM, "cannot read '%s' (over %zu bytes)", path, used);
    }
    bytes = more;
  }
  bytes[used] = '\0';
  *data = bytes;
  *len = used;
  return COH_OK;
}

int coh_file_read(const char *path, char **data, size_t *len, coh_error *err) {
  *data = NULL;
  *len = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return coh_fail_errno(err, "cannot open '%s'", path);
  int rc = read_all(fd, path, data, len, err);
  close(fd);
  return rc;
}

/* ---- writing ----------------------------------------------------------------------- */

int coh_temp_path(const char *path, char *temp, size_t size, coh_error *err) {
  const char *slash = strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
  return coh_format(temp, size, err, "%.*s.%s.tmp", (int)(name - path), path, name);
}

void coh_temp_discard(const char *path) {
  char temp[COH_PATH];
  coh_error ignored;
  if (coh_temp_path(path, temp, sizeof temp, &ignored) == COH_OK) unlink(temp);
}

/* Everything of a write but the rename. Closes in every case; a failing close is a
 * failing write (NFS reports a full disk only there). */
static int write_and_sync(int fd, const char *path, const char *data, size_t len,
                          coh_error *err) {
  int rc = COH_OK;
  while (len > 0 && rc == COH_OK) {
    ssize_t n = write(fd, data, len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      rc = coh_fail_errno(err, "cannot write '%s'", path);
    } else {
      data += n;
      len -= (size_t)n;
    }
  }
  if (rc == COH_OK && fsync(fd) != 0) rc = coh_fail_errno(err, "cannot sync '%s'", path);
  if (close(fd) != 0 && rc == COH_OK) rc = coh_fail_errno(err, "cannot close '%s'", path);
  return rc;
}

static int rename_and_sync(const char *temp, const char *path, coh_error *err) {
  if (rename(temp, path) != 0)
    return coh_fail_errno(err, "cannot rename '%s' to '%s'", temp, path);
  return sync_folder(path, err);
}

int coh_file_write(const char *path, const void *data, size_t len, coh_error *err) {
  char temp[COH_PATH];
  int rc = coh_temp_path(path, temp, sizeof temp, err);
  if (rc != COH_OK) return rc;
  int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return coh_fail_errno(err, "cannot write '%s'", temp);
  rc = write_and_sync(fd, temp, data, len, err);
  if (rc == COH_OK) rc = rename_and_sync(temp, path, err);
  if (rc != COH_OK) unlink(temp);
  return rc;
}

int coh_temp_commit(const char *path, coh_error *err) {
  char temp[COH_PATH];
  int rc = coh_temp_path(path, temp, sizeof temp, err);
  if (rc != COH_OK) return rc;
  int fd = open(temp, O_RDONLY | O_CLOEXEC);
  rc = fd < 0 ? coh_fail_errno(err, "cannot open '%s'", temp)
              : write_and_sync(fd, temp, NULL, 0, err);
  if (rc == COH_OK) rc = rename_and_sync(temp, path, err);
  if (rc != COH_OK) unlink(temp);
  return rc;
}
