/* links.c - runs.h5, written by one process with HDF5 itself: an archive is written by
 * all ranks and knows no links. Uses base. */
#include "store/links.h"

#include <errno.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "store/union.h"

enum { FORMAT = 1 };

struct coh_links {
  char path[COH_PATH], temp[COH_PATH];
  char base[COH_PATH]; /* real path of its folder */
  bool copy;
  int width; /* digits of a run's number */
  size_t added;
  hid_t file, runs, scalar, text; /* text: type of a run_id */
  hid_t group_plan;               /* how groups are made: without time stamps */
  char source[COH_PATH];          /* file opened last for reading, "" none */
  hid_t source_file;
  char pack[COH_PATH], target[COH_PATH]; /* link of the pack asked for last */
};

/* In a function with `err` and `path`, the file at fault. */
#define H5(what, call)                                                                   \
  COH_TRY((call) < 0 ? coh_fail(err, COH_EIO, "cannot %s '%s' (HDF5)", what, path)       \
                     : COH_OK)

static void close_id(hid_t *id, herr_t (*how)(hid_t)) {
  if (*id >= 0) (void)how(*id);
  *id = -1;
}

static int digits(size_t runs) {
  int n = 1;
  for (size_t last = runs ? runs - 1 : 0; last > 9; last /= 10) n++;
  return n;
}

/* ---- the file -------------------------------------------------------------------- */

static int put_number(hid_t at, const char *name, int64_t value, hid_t scalar,
                      const char *path, coh_error *err) {
  int rc = COH_OK;
  hid_t a = -1;
  H5("write", a = H5Acreate2(at, name, H5T_STD_I64LE, scalar, H5P_DEFAULT, H5P_DEFAULT));
  H5("write", H5Awrite(a, H5T_NATIVE_INT64, &value));
cleanup:
  close_id(&a, H5Aclose);
  return rc;
}

static int access_plan(hid_t *out, const char *path, coh_error *err) {
  int rc = COH_OK;
  H5("set up", *out = H5Pcreate(H5P_FILE_ACCESS));
  H5("set up", H5Pset_libver_bounds(*out, H5F_LIBVER_V18, H5F_LIBVER_LATEST));
  H5("set up", H5Pset_fclose_degree(*out, H5F_CLOSE_STRONG));
  H5("set up", H5Pset_file_locking(*out, false, true));
cleanup:
  return rc;
}

static int set_up(coh_links *l, const char *path, coh_error *err) {
  int rc = COH_OK;
  H5("set up", l->scalar = H5Screate(H5S_SCALAR));
  H5("set up", l->text = H5Tcopy(H5T_C_S1));
  H5("set up", H5Tset_size(l->text, 32));
  H5("set up", l->group_plan = H5Pcreate(H5P_GROUP_CREATE));
  H5("set up", H5Pset_obj_track_times(l->group_plan, false));
cleanup:
  return rc;
}

static int begin(coh_links *l, size_t runs, coh_error *err) {
  int rc = COH_OK, fd = -1;
  const char *path = l->path;
  hid_t plan = -1, root = -1;
  COH_TRY(coh_unique_open(l->path, l->temp, &fd, err));
  close(fd);
  COH_TRY(set_up(l, path, err));
  COH_TRY(access_plan(&plan, path, err));
  H5("set up", root = H5Pcreate(H5P_FILE_CREATE));
  H5("set up", H5Pset_obj_track_times(root, false));
  H5("write", l->file = H5Fcreate(l->temp, H5F_ACC_TRUNC, root, plan));
  COH_TRY(put_number(l->file, "cohort_format", FORMAT, l->scalar, path, err));
  COH_TRY(put_number(l->file, "runs", (int64_t)runs, l->scalar, path, err));
  H5("write",
     l->runs = H5Gcreate2(l->file, "runs", H5P_DEFAULT, l->group_plan, H5P_DEFAULT));
cleanup:
  close_id(&root, H5Pclose);
  close_id(&plan, H5Pclose);
  return rc;
}

int coh_links_create(const char *folder, size_t runs, bool copy, coh_links **out,
                     coh_error *err) {
  int rc = COH_OK;
  coh_links *l = NULL;
  *out = NULL;
  COH_TRY(coh_alloc(&l, 1, sizeof *l, err));
  l->file = l->runs = l->scalar = l->text = l->group_plan = l->source_file = -1;
  l->copy = copy;
  l->width = digits(runs);
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  if (!realpath(folder, l->base)) {
    rc = coh_fail_errno(err, "cannot find the folder '%s'", folder);
    goto cleanup;
  }
  COH_TRY(coh_format(l->path, sizeof l->path, err, "%s/runs.h5", folder));
  COH_TRY(begin(l, runs, err));
  *out = l;
  l = NULL;
cleanup:
  coh_links_abandon(l);
  return rc;
}

/* Closes everything; negative if the file could not be written to its end. */
static herr_t close_all(coh_links *l) {
  close_id(&l->source_file, H5Fclose);
  close_id(&l->group_plan, H5Pclose);
  close_id(&l->text, H5Tclose);
  close_id(&l->scalar, H5Sclose);
  close_id(&l->runs, H5Gclose);
  herr_t bad = l->file >= 0 ? H5Fflush(l->file, H5F_SCOPE_GLOBAL) : 0;
  if (l->file >= 0 && H5Fclose(l->file) < 0) bad = -1;
  l->file = -1;
  return bad;
}

void coh_links_abandon(coh_links *l) {
  if (!l) return;
  (void)close_all(l);
  if (*l->temp) (void)unlink(l->temp);
  free(l);
}

int coh_links_commit(coh_links *l, coh_error *err) {
  int rc = COH_OK;
  const char *path = l->path;
  size_t added = l->added;
  H5("write", close_all(l));
  if (added == 0) goto cleanup;
  rc = coh_unique_commit(l->temp, l->path, err);
  l->temp[0] = '\0';
cleanup:
  coh_links_abandon(l);
  return rc;
}

/* ---- paths ----------------------------------------------------------------------- */

/* Path of the real path `to` as seen from the real folder `from`. */
static int relative_path(const char *from, const char *to, char *out, coh_error *err) {
  size_t same = 0;
  for (size_t i = 0;; i++) {
    bool end_from = from[i] == '\0' || from[i] == '/';
    bool end_to = to[i] == '\0' || to[i] == '/';
    if (end_from && end_to) same = i;
    if (!from[i] || from[i] != to[i]) break;
  }
  coh_text t = {0};
  for (const char *s = from + same; *s; s++)
    if (*s == '/' && s[1]) coh_text_add(&t, "../");
  coh_text_add(&t, "%s", to[same] == '/' ? to + same + 1 : to + same);
  int rc = coh_text_check(&t, err);
  if (!rc) rc = coh_format(out, COH_PATH, err, "%s", t.data);
  coh_text_free(&t);
  return rc;
}

/* Path from runs.h5's folder to the pack's model, in l->target; asked for again and again
 * with the same pack. */
static int find_target(coh_links *l, const char *pack, coh_error *err) {
  int rc = COH_OK;
  char model[COH_PATH], real[COH_PATH];
  if (strcmp(pack, l->pack) == 0) return COH_OK;
  l->pack[0] = '\0';
  COH_TRY(coh_format(model, sizeof model, err, "%s/model.h5", pack));
  if (!realpath(model, real)) {
    rc = errno == ENOENT ? coh_fail(err, COH_EDATA, "%s: it is gone", model)
                         : coh_fail_errno(err, "cannot find '%s'", model);
    goto cleanup;
  }
  COH_TRY(relative_path(l->base, real, l->target, err));
  COH_TRY(coh_format(l->pack, sizeof l->pack, err, "%s", pack));
cleanup:
  return rc;
}

/* ---- groups ---------------------------------------------------------------------- */

static int put_attributes(coh_links *l, hid_t group, const char *run_id, size_t first,
                          size_t members, coh_error *err) {
  int rc = COH_OK;
  const char *path = l->path;
  char id[33] = "";
  hid_t a = -1;
  memcpy(id, run_id, strnlen(run_id, 32));
  H5("write",
     a = H5Acreate2(group, "run_id", l->text, l->scalar, H5P_DEFAULT, H5P_DEFAULT));
  H5("write", H5Awrite(a, l->text, id));
  COH_TRY(put_number(group, "first", (int64_t)first, l->scalar, path, err));
  COH_TRY(put_number(group, "members", (int64_t)members, l->scalar, path, err));
cleanup:
  close_id(&a, H5Aclose);
  return rc;
}

static void run_name(const coh_links *l, size_t run, char out[32]) {
  snprintf(out, 32, "%0*zu", l->width, run);
}

static int make_group(coh_links *l, size_t run, hid_t *out, coh_error *err) {
  int rc = COH_OK;
  const char *path = l->path;
  char name[32];
  run_name(l, run, name);
  H5("write", *out = H5Gcreate2(l->runs, name, H5P_DEFAULT, l->group_plan, H5P_DEFAULT));
cleanup:
  return rc;
}

/* Takes a half-made group away. */
static void drop_group(coh_links *l, size_t run) {
  char name[32];
  run_name(l, run, name);
  (void)H5Ldelete(l->runs, name, H5P_DEFAULT);
}

/* ---- copying --------------------------------------------------------------------- */

/* Opens a file for reading, unless it is the one read last. */
static int open_source(coh_links *l, const char *path, coh_error *err) {
  int rc = COH_OK;
  hid_t plan = -1;
  if (strcmp(path, l->source) == 0 && l->source_file >= 0) return COH_OK;
  close_id(&l->source_file, H5Fclose);
  COH_TRY(coh_format(l->source, sizeof l->source, err, "%s", path));
  COH_TRY(access_plan(&plan, path, err));
  l->source_file = H5Fopen(path, H5F_ACC_RDONLY, plan);
  if (l->source_file < 0)
    rc = coh_fail(err, COH_EDATA, "%s: truncated or damaged, or not there", path);
cleanup:
  close_id(&plan, H5Pclose);
  return rc;
}

/* One row a member: such an array has a checksum a row. *sums: those of all rows, owned;
 * NULL for other datasets. */
static int row_checksums(hid_t set, hsize_t rows, const char *path, uint32_t **sums,
                         coh_error *err) {
  int rc = COH_OK;
  hid_t a = -1, space = -1;
  hsize_t n = 0;
  *sums = NULL;
  if (H5Aexists(set, "crc32") <= 0) return COH_OK;
  H5("read", a = H5Aopen(set, "crc32", H5P_DEFAULT));
  H5("read", space = H5Aget_space(a));
  if (H5Sget_simple_extent_ndims(space) != 1) goto cleanup;
  H5("read", H5Sget_simple_extent_dims(space, &n, NULL));
  if (n != rows) {
    rc = coh_fail(err, COH_EDATA, "%s: damaged: checksums of %llu rows for %llu", path,
                  (unsigned long long)n, (unsigned long long)rows);
    goto cleanup;
  }
  COH_TRY(coh_alloc(sums, n, sizeof **sums, err));
  H5("read", H5Aread(a, H5T_NATIVE_UINT32, *sums));
cleanup:
  close_id(&space, H5Sclose);
  close_id(&a, H5Aclose);
  return rc;
}

/* Rows [first, first + dim[0]) of `set`, as they are stored. */
static int read_rows(hid_t set, hid_t type, int n_dim, const hsize_t *dim, size_t first,
                     const char *path, void *rows, coh_error *err) {
  int rc = COH_OK;
  hid_t space = -1, memory = -1;
  hsize_t start[H5S_MAX_RANK] = {first};
  H5("read", space = H5Dget_space(set));
  H5("read", H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dim, NULL));
  H5("read", memory = H5Screate_simple(n_dim, dim, NULL));
  H5("read", H5Dread(set, type, memory, space, H5P_DEFAULT, rows));
cleanup:
  close_id(&memory, H5Sclose);
  close_id(&space, H5Sclose);
  return rc;
}

static int write_rows(hid_t to, const char *name, hid_t type, int n_dim,
                      const hsize_t *dim, const void *rows, const uint32_t *sums,
                      const char *path, coh_error *err) {
  int rc = COH_OK;
  hid_t space = -1, line = -1, plan = -1, set = -1, a = -1;
  H5("write", space = H5Screate_simple(n_dim, dim, NULL));
  H5("write", line = H5Screate_simple(1, dim, NULL));
  H5("write", plan = H5Pcreate(H5P_DATASET_CREATE));
  H5("write", H5Pset_obj_track_times(plan, false));
  H5("write", set = H5Dcreate2(to, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT));
  H5("write", H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows));
  H5("write",
     a = H5Acreate2(set, "crc32", H5T_STD_U32LE, line, H5P_DEFAULT, H5P_DEFAULT));
  H5("write", H5Awrite(a, H5T_NATIVE_UINT32, sums));
cleanup:
  close_id(&a, H5Aclose);
  close_id(&set, H5Dclose);
  close_id(&plan, H5Pclose);
  close_id(&line, H5Sclose);
  close_id(&space, H5Sclose);
  return rc;
}

static int check_rows(const uint8_t *rows, hsize_t n, size_t row, const uint32_t *sums,
                      const char *name, const char *path, coh_error *err) {
  for (hsize_t i = 0; i < n; i++)
    if ((uint32_t)crc32_z(0, rows + i * row, row) != sums[i])
      return coh_fail(err, COH_EDATA, "%s: damaged: '%s' has another checksum", path,
                      name);
  return COH_OK;
}

typedef struct slice {
  coh_links *l;
  hid_t to;
  size_t first, members;
  coh_error *err;
  int rc;
} slice;

static int copy_rows(const slice *s, hid_t set, const char *name, int n_dim, hsize_t *dim,
                     const uint32_t *sums, coh_error *err) {
  int rc = COH_OK;
  const char *path = s->l->source;
  uint8_t *rows = NULL;
  hid_t type = -1;
  if (s->first + s->members > dim[0])
    return coh_fail(err, COH_EDATA, "%s: '%s' has %llu members, not %zu", path, name,
                    (unsigned long long)dim[0], s->first + s->members);
  H5("read", type = H5Dget_type(set));
  size_t row = H5Tget_size(type);
  for (int i = 1; i < n_dim; i++) row *= dim[i];
  dim[0] = s->members;
  COH_TRY(coh_alloc(&rows, s->members, row, err));
  COH_TRY(read_rows(set, type, n_dim, dim, s->first, path, rows, err));
  COH_TRY(check_rows(rows, s->members, row, sums + s->first, name, path, err));
  COH_TRY(
      write_rows(s->to, name, type, n_dim, dim, rows, sums + s->first, s->l->path, err));
cleanup:
  close_id(&type, H5Tclose);
  free(rows);
  return rc;
}

/* One object of a model.h5. */
static int copy_object(const slice *s, hid_t from, const char *name, coh_error *err) {
  int rc = COH_OK, n_dim = 0;
  const char *path = s->l->source;
  uint32_t *sums = NULL;
  hid_t set = -1, space = -1;
  hsize_t dim[H5S_MAX_RANK] = {0};
  H5("read", set = H5Oopen(from, name, H5P_DEFAULT));
  if (H5Iget_type(set) == H5I_DATASET) {
    H5("read", space = H5Dget_space(set));
    n_dim = H5Sget_simple_extent_ndims(space);
    H5("read", H5Sget_simple_extent_dims(space, dim, NULL));
    if (n_dim > 0) COH_TRY(row_checksums(set, dim[0], path, &sums, err));
  }
  if (sums)
    rc = copy_rows(s, set, name, n_dim, dim, sums, err);
  else
    H5("copy from", H5Ocopy(from, name, s->to, name, H5P_DEFAULT, H5P_DEFAULT));
cleanup:
  free(sums);
  close_id(&space, H5Sclose);
  close_id(&set, H5Oclose);
  return rc;
}

static herr_t visit(hid_t from, const char *name, const H5L_info_t *info, void *ctx) {
  (void)info;
  slice *s = ctx;
  s->rc = copy_object(s, from, name, s->err);
  return s->rc == COH_OK ? 0 : -1;
}

/* The run's rows of <pack>/model.h5 as the group `model` of `group`. */
static int copy_model(coh_links *l, hid_t group, const char *pack, size_t first,
                      size_t members, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  slice s = {.l = l, .to = -1, .first = first, .members = members, .err = err};
  COH_TRY(coh_format(path, sizeof path, err, "%s/model.h5", pack));
  COH_TRY(open_source(l, path, err));
  H5("write", s.to = H5Gcreate2(group, "model", H5P_DEFAULT, l->group_plan, H5P_DEFAULT));
  if (H5Literate(l->source_file, H5_INDEX_NAME, H5_ITER_INC, NULL, visit, &s) < 0)
    rc = s.rc ? s.rc : coh_fail(err, COH_EDATA, "%s: damaged", path);
cleanup:
  close_id(&s.to, H5Gclose);
  return rc;
}

int coh_links_add(coh_links *l, size_t run, const char *run_id, const char *pack,
                  size_t first, size_t members, coh_error *err) {
  int rc = COH_OK;
  const char *path = l->path;
  hid_t group = -1;
  if (!l->copy) COH_TRY(find_target(l, pack, err));
  COH_TRY(make_group(l, run, &group, err));
  COH_TRY(put_attributes(l, group, run_id, l->copy ? 0 : first, members, err));
  if (l->copy)
    rc = copy_model(l, group, pack, first, members, err);
  else
    H5("write",
       H5Lcreate_external(l->target, "/", group, "model", H5P_DEFAULT, H5P_DEFAULT));
  l->added += rc == COH_OK;
cleanup:
  if (rc != COH_OK && group >= 0) drop_group(l, run);
  close_id(&group, H5Gclose);
  return rc;
}

/* ---- adopting from another runs.h5 ------------------------------------------------ */

static int get_number(hid_t at, const char *name, const char *path, int64_t *out,
                      coh_error *err) {
  int rc = COH_OK;
  hid_t a = -1;
  H5("read", a = H5Aopen(at, name, H5P_DEFAULT));
  H5("read", H5Aread(a, H5T_NATIVE_INT64, out));
cleanup:
  close_id(&a, H5Aclose);
  return rc;
}

/* Folder of the model.h5 that the link `model` of `group` leads to; "" if it is a group
 * and no link. */
static int link_folder(hid_t group, const char *folder, const char *path, char *out,
                       coh_error *err) {
  int rc = COH_OK;
  H5L_info_t info;
  char value[2 * COH_PATH];
  const char *file = NULL, *object;
  unsigned flags;
  out[0] = '\0';
  H5("read", H5Lget_info(group, "model", &info, H5P_DEFAULT));
  if (info.type != H5L_TYPE_EXTERNAL) goto cleanup;
  if (info.u.val_size > sizeof value)
    return coh_fail(err, COH_EDATA, "%s: a link that is too long", path);
  H5("read", H5Lget_val(group, "model", value, sizeof value, H5P_DEFAULT));
  H5("read", H5Lunpack_elink_val(value, info.u.val_size, &flags, &file, &object));
  size_t len = strlen(file);
  if (len < 9 || strcmp(file + len - 9, "/model.h5") != 0)
    return coh_fail(err, COH_EDATA, "%s: a link to '%s', not to a model.h5", path, file);
  len -= 9;
  rc = *file == '/' ? coh_format(out, COH_PATH, err, "%.*s", (int)len, file)
                    : coh_format(out, COH_PATH, err, "%s/%.*s", folder, (int)len, file);
cleanup:
  return rc;
}

static int open_group(coh_links *l, const char *path, size_t run, hid_t *out,
                      coh_error *err) {
  int rc = COH_OK;
  int64_t runs = 0;
  char name[64];
  COH_TRY(open_source(l, path, err));
  COH_TRY(get_number(l->source_file, "runs", path, &runs, err));
  snprintf(name, sizeof name, "runs/%0*zu", digits((size_t)runs), run);
  *out = H5Gopen2(l->source_file, name, H5P_DEFAULT);
  if (*out < 0) rc = coh_fail(err, COH_EDATA, "%s: it has no group '%s'", path, name);
cleanup:
  return rc;
}

/* Copies the group that an earlier merge copied. */
static int copy_group(coh_links *l, hid_t from, size_t run, const char *run_id,
                      size_t first, size_t members, coh_error *err) {
  int rc = COH_OK;
  const char *path = l->path;
  hid_t group = -1;
  COH_TRY(make_group(l, run, &group, err));
  COH_TRY(put_attributes(l, group, run_id, first, members, err));
  H5("write", H5Ocopy(from, "model", group, "model", H5P_DEFAULT, H5P_DEFAULT));
  l->added++;
cleanup:
  if (rc != COH_OK && group >= 0) drop_group(l, run);
  close_id(&group, H5Gclose);
  return rc;
}

int coh_links_adopt(coh_links *l, size_t run, const char *run_id, const char *folder,
                    size_t from, coh_error *err) {
  int rc = COH_OK;
  int64_t first = 0, members = 0;
  char path[COH_PATH], pack[COH_PATH];
  hid_t group = -1;
  COH_TRY(coh_format(path, sizeof path, err, "%s/runs.h5", folder));
  COH_TRY(open_group(l, path, from, &group, err));
  COH_TRY(get_number(group, "first", path, &first, err));
  COH_TRY(get_number(group, "members", path, &members, err));
  COH_TRY(link_folder(group, folder, path, pack, err));
  if (*pack)
    rc = coh_links_add(l, run, run_id, pack, (size_t)first, (size_t)members, err);
  else
    rc = copy_group(l, group, run, run_id, (size_t)first, (size_t)members, err);
cleanup:
  /* with --copy another file may be open by now, and closing it closed the group */
  if (group >= 0 && H5Iis_valid(group) > 0) (void)H5Gclose(group);
  return rc;
}
