/* scan.c - what stands in a folder, and files with unique temporary names. Uses base. */
#include "store/union.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- names ----------------------------------------------------------------------- */

static int add_name(coh_names *names, const char *name, coh_error *err) {
  if (names->n == names->cap) {
    size_t cap = names->cap ? 2 * names->cap : 16;
    char **more = realloc(names->name, cap * sizeof *more);
    if (!more) return coh_fail(err, COH_ENOMEM, "no memory for the names of a folder");
    names->name = more;
    names->cap = cap;
  }
  char *copy = strdup(name);
  if (!copy) return coh_fail(err, COH_ENOMEM, "no memory for the names of a folder");
  names->name[names->n++] = copy;
  return COH_OK;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

int coh_names_read(const char *folder, coh_names *out, coh_error *err) {
  int rc = COH_OK;
  *out = (coh_names){0};
  DIR *d = opendir(folder);
  if (!d && errno == ENOENT) return COH_OK;
  if (!d) return coh_fail_errno(err, "cannot read the folder '%s'", folder);
  for (struct dirent *e; rc == COH_OK && (e = readdir(d));)
    if (e->d_name[0] != '.' && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN))
      rc = add_name(out, e->d_name, err);
  closedir(d);
  if (rc != COH_OK) coh_names_free(out);
  if (out->n) qsort(out->name, out->n, sizeof *out->name, by_text);
  return rc;
}

void coh_names_free(coh_names *names) {
  for (size_t i = 0; i < names->n; i++) free(names->name[i]);
  free(names->name);
  *names = (coh_names){0};
}

int coh_names_packs(const char *sub_batch, coh_names *out, coh_error *err) {
  char folder[COH_PATH];
  size_t kept = 0;
  *out = (coh_names){0};
  int rc = coh_format(folder, sizeof folder, err, "%s/packs", sub_batch);
  if (rc == COH_OK) rc = coh_names_read(folder, out, err);
  for (size_t i = 0; i < out->n; i++)
    if (coh_pack_name(out->name[i]))
      out->name[kept++] = out->name[i];
    else
      free(out->name[i]);
  out->n = kept;
  return rc;
}

bool coh_has_file(const char *folder, const char *name) {
  char path[COH_PATH];
  coh_error ignored;
  return !coh_format(path, sizeof path, &ignored, "%s/%s", folder, name) &&
         coh_file_exists(path);
}

/* ---- sub-batches ----------------------------------------------------------------- */

bool coh_sub_batch_name(const char *name, size_t *k, size_t *n) {
  char *end;
  if (!isdigit((unsigned char)*name) || *name == '0') return false;
  errno = 0;
  *k = strtoull(name, &end, 10);
  if (*end != '-' || !isdigit((unsigned char)end[1]) || end[1] == '0') return false;
  *n = strtoull(end + 1, &end, 10);
  return errno == 0 && *end == '\0' && *k <= *n;
}

static int by_number(const void *a, const void *b) {
  const coh_sub_folder *x = a, *y = b;
  if (x->n != y->n) return x->n < y->n ? -1 : 1;
  return x->k < y->k ? -1 : x->k > y->k;
}

int coh_sub_folders(const char *sweep, coh_sub_folder **out, size_t *n, coh_error *err) {
  int rc = COH_OK;
  coh_names names = {0};
  *out = NULL;
  *n = 0;
  COH_TRY(coh_names_read(sweep, &names, err));
  COH_TRY(coh_alloc(out, names.n, sizeof **out, err));
  for (size_t i = 0; i < names.n; i++) {
    coh_sub_folder *s = *out + *n;
    if (strlen(names.name[i]) >= sizeof s->name) continue;
    if (!coh_sub_batch_name(names.name[i], &s->k, &s->n)) continue;
    memcpy(s->name, names.name[i], strlen(names.name[i]) + 1);
    ++*n;
  }
  qsort(*out, *n, sizeof **out, by_number);
cleanup:
  coh_names_free(&names);
  return rc;
}

/* ---- files of one writer --------------------------------------------------------- */

int coh_unique_open(const char *path, char *temp, int *fd, coh_error *err) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  int rc = coh_format(temp, COH_PATH, err, "%.*s.%s.XXXXXX.tmp", (int)(name - path), path,
                      name);
  if (rc != COH_OK) return rc;
  *fd = mkostemps(temp, 4, O_CLOEXEC);
  if (*fd < 0) return coh_fail_errno(err, "cannot write '%s'", temp);
  mode_t mask = umask(0);
  umask(mask);
  (void)fchmod(*fd, 0666 & ~mask); /* mkostemps gives 0600 */
  return COH_OK;
}

int coh_sync(const char *path, int flags, coh_error *err) {
  int rc = COH_OK, fd = open(path, O_RDONLY | O_CLOEXEC | flags);
  if (fd < 0) return coh_fail_errno(err, "cannot open '%s'", path);
  if (fsync(fd) != 0 && errno != EINVAL) /* EINVAL: folders cannot be synced there */
    rc = coh_fail_errno(err, "cannot sync '%s'", path);
  close(fd);
  return rc;
}

int coh_unique_commit(const char *temp, const char *path, coh_error *err) {
  char folder[COH_PATH];
  const char *slash = strrchr(path, '/');
  int rc = coh_sync(temp, 0, err);
  if (!rc && rename(temp, path) != 0)
    rc = coh_fail_errno(err, "cannot rename '%s' to '%s'", temp, path);
  if (rc != COH_OK) {
    (void)unlink(temp);
    return rc;
  }
  rc = coh_format(folder, sizeof folder, err, "%.*s", slash ? (int)(slash - path + 1) : 1,
                  slash ? path : ".");
  return rc ? rc : coh_sync(folder, O_DIRECTORY, err);
}

/* Line 0 has the names, line r the cells of row r - 1. */
static void add_line(coh_text *out, size_t line, size_t n_col, const coh_ucolumn *col,
                     coh_cell_at cell, void *ctx) {
  for (size_t c = 0; c < n_col; c++) {
    if (c) coh_text_addn(out, ",", 1);
    coh_csv_cell(out, line ? cell(ctx, line - 1, col + c) : col[c].name);
  }
  coh_text_addn(out, "\n", 1);
}

int coh_shared_write(const char *path, const char *text, size_t len, coh_error *err) {
  int fd;
  char temp[COH_PATH];
  int rc = coh_unique_open(path, temp, &fd, err);
  if (rc != COH_OK) return rc;
  for (size_t at = 0; at < len && !rc;) {
    ssize_t n = write(fd, text + at, len - at);
    if (n > 0) at += (size_t)n;
    if (n < 0 && errno != EINTR) rc = coh_fail_errno(err, "cannot write '%s'", temp);
  }
  if (close(fd) != 0 && !rc) rc = coh_fail_errno(err, "cannot write '%s'", temp);
  if (!rc) return coh_unique_commit(temp, path, err);
  (void)unlink(temp);
  return rc;
}

static int put_table(FILE *out, size_t n_col, const coh_ucolumn *col, size_t n_row,
                     coh_cell_at cell, void *ctx, coh_error *err) {
  int rc = COH_OK;
  coh_text line = {0};
  for (size_t r = 0; r <= n_row && rc == COH_OK; r++) {
    line.len = 0;
    add_line(&line, r, n_col, col, cell, ctx);
    rc = coh_text_check(&line, err);
    if (!rc && fwrite(line.data, 1, line.len, out) != line.len)
      rc = coh_fail_errno(err, "cannot write a runs.csv");
  }
  coh_text_free(&line);
  return rc;
}

int coh_unique_table(const char *path, size_t n_col, const coh_ucolumn *col, size_t n_row,
                     coh_cell_at cell, void *ctx, coh_error *err) {
  int fd;
  char temp[COH_PATH];
  int rc = coh_unique_open(path, temp, &fd, err);
  if (rc != COH_OK) return rc;
  FILE *out = fdopen(fd, "wb");
  if (!out) {
    rc = coh_fail_errno(err, "cannot write '%s'", temp);
    close(fd);
  } else {
    rc = put_table(out, n_col, col, n_row, cell, ctx, err);
    if (fclose(out) != 0 && !rc) rc = coh_fail_errno(err, "cannot write '%s'", temp);
  }
  if (!rc) return coh_unique_commit(temp, path, err);
  (void)unlink(temp);
  return rc;
}

void coh_unique_clean(const char *folder) {
  struct stat st;
  time_t now = time(NULL);
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));)
    if (coh_is_temporary(e->d_name) && fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
        S_ISREG(st.st_mode) && difftime(now, st.st_mtime) > 600)
      (void)unlinkat(dirfd(d), e->d_name, 0);
  if (d) closedir(d);
}
