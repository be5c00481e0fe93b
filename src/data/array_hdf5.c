/* array_hdf5.c - one data set of an HDF5 file, as doubles. HDF5 converts the numbers.
 * Opens files read-only and without MPI. Uses base.
 */
#include <hdf5.h>
#include <string.h>

#include "data/array.h"

enum { MOST_DIMS = 4, NAME_BYTES = 256 };

/* HDF5's own printing of errors, switched off while we are in it. */
typedef struct printing {
  H5E_auto2_t function;
  void *data;
} printing;

static printing be_silent(void) {
  printing p = {0};
  if (H5Eget_auto2(H5E_DEFAULT, &p.function, &p.data) < 0) return (printing){0};
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  return p;
}

static void speak_again(printing p) {
  if (p.function) (void)H5Eset_auto2(H5E_DEFAULT, p.function, p.data);
}

/* Keeps the description of the innermost error. */
static herr_t first_error(unsigned n, const H5E_error2_t *e, void *ctx) {
  const char **text = ctx;
  if (n == 0) *text = e->desc;
  return 0;
}

static int h5_fail(coh_error *err, const char *path, const char *what) {
  const char *why = NULL;
  (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_error, &why);
  return coh_fail(err, COH_EDATA, "%s: cannot %s: %s", path, what,
                  why ? why : "HDF5 failed");
}

/* Whether each part of "group/name" is there; HDF5 takes a missing parent for an error.
 */
static bool link_exists(hid_t file, const char *name) {
  char part[NAME_BYTES];
  size_t n = strlen(name);
  if (n == 0 || n >= sizeof part) return false;
  for (size_t i = 1; i <= n; i++) {
    if ((name[i] != '/' && name[i] != '\0') || name[i - 1] == '/') continue;
    memcpy(part, name, i);
    part[i] = '\0';
    if (H5Lexists(file, part, H5P_DEFAULT) <= 0) return false;
  }
  return true;
}

static bool is_a(hid_t file, const char *name, H5I_type_t type) {
  hid_t object = link_exists(file, name) ? H5Oopen(file, name, H5P_DEFAULT) : -1;
  if (object < 0) return false;
  bool yes = H5Iget_type(object) == type;
  return H5Oclose(object) >= 0 && yes;
}

static bool is_dataset(hid_t file, const char *name) {
  return is_a(file, name, H5I_DATASET);
}

/* Lists the data sets at the top of the file; `last`: [NAME_BYTES], the last one. */
static int list(hid_t file, const char *path, size_t *count, char *last, coh_text *names,
                coh_error *err) {
  char name[NAME_BYTES];
  H5G_info_t info;
  *count = 0;
  if (H5Gget_info(file, &info) < 0) return h5_fail(err, path, "list its contents");
  for (hsize_t i = 0; i < info.nlinks; i++) {
    ssize_t n = H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name,
                                   sizeof name, H5P_DEFAULT);
    if (n < 0) return h5_fail(err, path, "list its contents");
    if ((size_t)n >= sizeof name || !is_dataset(file, name)) continue;
    coh_text_add(names, "%s%s", names->len ? ", " : "", name);
    memcpy(last, name, (size_t)n + 1);
    ++*count;
  }
  return coh_text_check(names, err);
}

/* The name to open, `only` being room for that of a file's only data set. */
static int choose(hid_t file, const char *path, const char **name, char *only,
                  coh_error *err) {
  coh_text names = {0};
  size_t count = 0;
  if (*name && is_dataset(file, *name)) return COH_OK;
  if (*name && is_a(file, *name, H5I_GROUP))
    return coh_fail(err, COH_EDATA, "%s: %s is a group, expected a data set", path,
                    *name);
  int rc = list(file, path, &count, only, &names, err);
  if (rc == COH_OK && (*name || count != 1))
    rc = coh_fail(err, COH_EDATA, "%s: expected %s%s; it holds: %s", path,
                  *name ? "a data set " : "a single data set", *name ? *name : "",
                  names.len ? names.data : "none");
  *name = only;
  coh_text_free(&names);
  return rc;
}

/* Integers, floats, and the enumeration that h5py makes of bool. */
static int check_type(hid_t set, const char *path, coh_error *err) {
  hid_t type = H5Dget_type(set);
  if (type < 0) return h5_fail(err, path, "find the type of the data set");
  H5T_class_t class = H5Tget_class(type);
  if (H5Tclose(type) < 0) return h5_fail(err, path, "close the type of the data set");
  if (class == H5T_INTEGER || class == H5T_FLOAT || class == H5T_ENUM) return COH_OK;
  return coh_fail(err, COH_EDATA,
                  "%s: expected float, integer or bool, found another type", path);
}

static int read_shape(hid_t set, const char *path, size_t *ndim, size_t *dim,
                      coh_error *err) {
  hsize_t extent[H5S_MAX_RANK] = {0};
  int rc = COH_OK;
  hid_t space = H5Dget_space(set);
  if (space < 0) return h5_fail(err, path, "find the shape of the data set");
  int rank = H5Sget_simple_extent_dims(space, extent, NULL);
  if (rank < 0 || H5Sget_simple_extent_type(space) == H5S_NULL)
    rc = h5_fail(err, path, "find the shape of the data set");
  else if (rank > MOST_DIMS)
    rc = coh_fail(err, COH_EDATA, "%s: expected at most %d dimensions, found %d", path,
                  MOST_DIMS, rank);
  for (int i = 0; i < rank && rc == COH_OK; i++) dim[i] = (size_t)extent[i];
  *ndim = (size_t)rank;
  if (H5Sclose(space) < 0 && rc == COH_OK) rc = h5_fail(err, path, "close a shape");
  return rc;
}

static int read_set(hid_t set, const char *path, coh_array *out, coh_error *err) {
  size_t ndim = 0, dim[MOST_DIMS] = {0};
  int rc = check_type(set, path, err);
  if (rc == COH_OK) rc = read_shape(set, path, &ndim, dim, err);
  if (rc == COH_OK) rc = coh_array_alloc(out, ndim, dim, path, err);
  if (rc != COH_OK || coh_array_count(out) == 0) return rc;
  if (H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, out->data) < 0)
    return h5_fail(err, path, "read the data set");
  return COH_OK;
}

static int open_and_read(hid_t file, const char *path, const char *name, coh_array *out,
                         coh_error *err) {
  char only[NAME_BYTES];
  int rc = choose(file, path, &name, only, err);
  if (rc != COH_OK) return rc;
  hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  if (set < 0) return h5_fail(err, path, "open the data set");
  rc = read_set(set, path, out, err);
  if (H5Dclose(set) < 0 && rc == COH_OK) rc = h5_fail(err, path, "close the data set");
  return rc == COH_OK ? rc : coh_explain(err, "array %s", name);
}

int coh_hdf5_read(const char *path, const char *name, coh_array *out, coh_error *err) {
  printing p = be_silent();
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  int rc = file < 0 ? h5_fail(err, path, "open it as HDF5")
                    : open_and_read(file, path, name, out, err);
  if (file >= 0 && H5Fclose(file) < 0 && rc == COH_OK)
    rc = h5_fail(err, path, "close it");
  speak_again(p);
  return rc;
}

int coh_hdf5_has(const char *path, const char *name, bool *has, coh_error *err) {
  printing p = be_silent();
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  int rc = file < 0 ? h5_fail(err, path, "open it as HDF5") : COH_OK;
  *has = rc == COH_OK && is_dataset(file, name);
  if (file >= 0 && H5Fclose(file) < 0 && rc == COH_OK)
    rc = h5_fail(err, path, "close it");
  speak_again(p);
  return rc;
}
