/* archive.c - the life of an archive: created or opened, committed or abandoned. What
 * stands in it is dataset.c. Uses base, comm. */
#include "archive/archive_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

coh_archive_tuning coh_archive_tune = {.piece = (size_t)256 << 20, .reserve = true};

enum { START_BYTES = 64 << 10, KIND_MAX = 255 }; /* reserved at creation; kind's length */

/* ---- making and freeing the object ----------------------------------------------- */

static void archive_free(coh_archive *a) {
  if (!a) return;
  if (a->transfer >= 0) H5Pclose(a->transfer);
  if (a->fd >= 0) close(a->fd);
  if (a->comm != MPI_COMM_NULL) (void)MPI_Comm_free(&a->comm);
  free(a->kind);
  free(a);
}

static int set_names(coh_archive *a, const char *path, const char *kind, int format,
                     coh_error *err) {
  int rc = COH_OK;
  a->format = format;
  if (strlen(kind) > KIND_MAX)
    return coh_fail(err, COH_EBUG, "archive kind longer than %d bytes", KIND_MAX);
  COH_TRY(coh_format(a->path, sizeof a->path, err, "%s", path));
  a->kind = strdup(kind);
  if (!a->kind) rc = coh_fail(err, COH_ENOMEM, "no memory for an archive");
cleanup:
  return rc;
}

/* The transfer list of rows. Also silences HDF5, which would print by itself. */
static int set_transfer(coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  COH_H5("set up", H5Eset_auto2(H5E_DEFAULT, NULL, NULL));
  COH_H5("set up", a->transfer = H5Pcreate(H5P_DATASET_XFER));
  if (a->size > 1) COH_H5("set up", H5Pset_dxpl_mpio(a->transfer, H5FD_MPIO_COLLECTIVE));
cleanup:
  return rc;
}

static int archive_new(const char *path, const char *kind, int format, MPI_Comm comm,
                       bool writing, coh_archive **out, coh_error *err) {
  int rc = COH_OK;
  coh_archive *a = NULL;
  *out = NULL;
  rc = coh_alloc(&a, 1, sizeof *a, err);
  COH_TRY(coh_agree(comm, rc, err));
  a->comm = MPI_COMM_NULL;
  a->file = a->transfer = -1;
  a->fd = -1;
  a->writing = writing;
  COH_MPI(MPI_Comm_dup(comm, &a->comm));
  COH_MPI(MPI_Comm_set_errhandler(a->comm, MPI_ERRORS_RETURN));
  COH_MPI(MPI_Comm_rank(a->comm, &a->rank));
  COH_MPI(MPI_Comm_size(a->comm, &a->size));
  rc = set_names(a, path, kind, format, err);
  if (rc == COH_OK) rc = set_transfer(a, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  *out = a;
  a = NULL;
cleanup:
  archive_free(a);
  return rc;
}

/* File access: parallel where there are several ranks, and then collective. The format of
 * HDF5 1.8 has checksums on its own structures and attributes of any size. Locks are not
 * wanted: nobody else knows the temporary name, readers see whole files, and NFS often
 * has none.
 */
static int access_list(coh_archive *a, hid_t *out, coh_error *err) {
  int rc = COH_OK;
  hid_t list;
  *out = -1;
  COH_H5("set up", list = *out = H5Pcreate(H5P_FILE_ACCESS));
  COH_H5("set up", H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V18));
  COH_H5("set up", H5Pset_fclose_degree(list, H5F_CLOSE_STRONG));
  COH_H5("set up", H5Pset_file_locking(list, false, true));
  if (a->size > 1) COH_H5("set up", H5Pset_fapl_mpio(list, a->comm, MPI_INFO_NULL));
cleanup:
  return rc;
}

/* ---- the root group's attributes ------------------------------------------------- */

static int write_attribute(coh_archive *a, const char *name, hid_t type, const void *data,
                           coh_error *err) {
  int rc = COH_OK;
  hid_t space = -1, attribute = -1;
  COH_H5("write", space = H5Screate(H5S_SCALAR));
  COH_H5("write",
         attribute = H5Acreate2(a->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
  COH_H5("write", H5Awrite(attribute, type, data));
cleanup:
  if (attribute >= 0) H5Aclose(attribute);
  if (space >= 0) H5Sclose(space);
  return rc;
}

static int write_root(coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  int32_t format = a->format;
  hid_t text = -1;
  COH_TRY(write_attribute(a, "cohort_format", H5T_STD_I32LE, &format, err));
  COH_H5("write", text = H5Tcopy(H5T_C_S1));
  COH_H5("write", H5Tset_size(text, strlen(a->kind) + 1));
  COH_H5("write", H5Tset_cset(text, H5T_CSET_UTF8));
  COH_TRY(write_attribute(a, "cohort_kind", text, a->kind, err));
cleanup:
  if (text >= 0) H5Tclose(text);
  return rc;
}

/* Reads a scalar attribute of class `class` and at most `size` bytes. */
static int read_attribute(coh_archive *a, const char *name, H5T_class_t class,
                          size_t size, void *data, coh_error *err) {
  int rc = COH_OK;
  hid_t attribute = -1, type = -1, space = -1;
  if (H5Aexists(a->file, name) <= 0)
    return coh_fail(err, COH_EDATA,
                    "'%s' is an HDF5 file, but not one of cohort's: it has "
                    "no attribute '%s'",
                    a->path, name);
  COH_H5("read", attribute = H5Aopen(a->file, name, H5P_DEFAULT));
  COH_H5("read", type = H5Aget_type(attribute));
  COH_H5("read", space = H5Aget_space(attribute));
  if (H5Tget_class(type) != class || H5Tget_size(type) > size ||
      H5Sget_simple_extent_npoints(space) != 1 || H5Tis_variable_str(type) > 0)
    rc = coh_fail(err, COH_EDATA, "'%s': the attribute '%s' is not as cohort writes it",
                  a->path, name);
  else
    COH_H5("read",
           H5Aread(attribute, class == H5T_INTEGER ? H5T_NATIVE_INT32 : type, data));
cleanup:
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  if (attribute >= 0) H5Aclose(attribute);
  return rc;
}

static int check_root(coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  int32_t format = 0;
  char kind[KIND_MAX + 2] = "";
  COH_TRY(read_attribute(a, "cohort_format", H5T_INTEGER, sizeof format, &format, err));
  COH_TRY(read_attribute(a, "cohort_kind", H5T_STRING, KIND_MAX + 1, kind, err));
  if (strcmp(kind, a->kind) != 0)
    rc = coh_fail(err, COH_EDATA, "'%s' is of kind '%s', expected '%s'", a->path, kind,
                  a->kind);
  else if (format != a->format)
    rc = coh_fail(err, COH_EDATA,
                  "'%s' (%s) has format %d, this version of cohort reads format %d",
                  a->path, kind, (int)format, a->format);
cleanup:
  return rc;
}

/* ---- create, open ---------------------------------------------------------------- */

/* Rank 0 tries the file first: its errno says more than HDF5, and once for all ranks. */
static int try_file(coh_archive *a, coh_error *err) {
  char temp[COH_PATH];
  if (a->rank != 0) return COH_OK;
  int rc = COH_OK;
  if (a->writing) {
    COH_TRY(coh_temp_path(a->path, temp, sizeof temp, err));
    a->fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (a->fd < 0) rc = coh_fail_errno(err, "cannot write '%s'", a->path);
  } else {
    int fd = open(a->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return coh_fail_errno(err, "cannot open '%s'", a->path);
    close(fd);
  }
cleanup:
  return rc;
}

static int create_file(coh_archive *a, hid_t list, coh_error *err) {
  int rc = COH_OK;
  char temp[COH_PATH];
  hid_t creation = -1;
  COH_TRY(coh_temp_path(a->path, temp, sizeof temp, err));
  COH_H5("set up", creation = H5Pcreate(H5P_FILE_CREATE));
  COH_H5("set up", H5Pset_obj_track_times(creation, false)); /* equal data, equal bytes */
  COH_H5("write", a->file = H5Fcreate(temp, H5F_ACC_TRUNC, creation, list));
cleanup:
  if (creation >= 0) H5Pclose(creation);
  return rc;
}

static int open_file(coh_archive *a, hid_t list, coh_error *err) {
  int rc = COH_OK;
  COH_H5("open", a->file = H5Fopen(a->path, H5F_ACC_RDONLY, list));
cleanup:
  return rc;
}

int coh_archive_create(const char *path, const char *kind, int format, MPI_Comm comm,
                       coh_archive **out, coh_error *err) {
  int rc = COH_OK;
  coh_archive *a = NULL;
  hid_t list = -1;
  *out = NULL;
  COH_TRY(archive_new(path, kind, format, comm, true, &a, err));
  COH_TRY(coh_agree(a->comm, try_file(a, err), err));
  COH_TRY(coh_agree(a->comm, access_list(a, &list, err), err));
  rc = create_file(a, list, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  rc = coh_space_reserve(a, START_BYTES, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  rc = write_root(a, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  *out = a;
  a = NULL;
cleanup:
  if (list >= 0) H5Pclose(list);
  coh_archive_abandon(a);
  return rc;
}

int coh_archive_open(const char *path, const char *kind, int format, MPI_Comm comm,
                     coh_archive **out, coh_error *err) {
  int rc = COH_OK;
  coh_archive *a = NULL;
  hid_t list = -1;
  *out = NULL;
  COH_TRY(archive_new(path, kind, format, comm, false, &a, err));
  COH_TRY(coh_agree(a->comm, try_file(a, err), err));
  COH_TRY(coh_agree(a->comm, access_list(a, &list, err), err));
  rc = open_file(a, list, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  rc = check_root(a, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  *out = a;
  a = NULL;
cleanup:
  if (list >= 0) H5Pclose(list);
  coh_archive_abandon(a);
  return rc;
}

/* ---- commit, abandon ------------------------------------------------------------- */

/* Closes the HDF5 file, diverted into memory if it cannot be written. */
static int close_file(coh_archive *a, coh_error *err) {
  if (a->file < 0) return COH_OK;
  int rc = coh_h5_check(a, H5Fclose(a->file), "close", err);
  if (rc != COH_OK && a->writing) {
    coh_space_divert(a);
    (void)H5Fclose(a->file);
  }
  a->file = -1;
  return rc;
}

static int write_out(coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  COH_H5("write", H5Fflush(a->file, H5F_SCOPE_GLOBAL));
cleanup:
  return rc;
}

/* Everything of a commit after which only the frame is left to be freed. */
static int commit_writer(coh_archive *a, coh_error *err) {
  int rc = COH_OK;
  if (a->failed)
    rc = coh_fail(err, COH_EIO, "'%s' is not kept: an earlier write failed", a->path);
  COH_TRY(coh_agree(a->comm, rc, err));
  rc = write_out(a, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  rc = close_file(a, err);
  COH_TRY(coh_agree(a->comm, rc, err));
  coh_space_trim(a);
  if (a->rank == 0) rc = coh_temp_commit(a->path, err);
  COH_TRY(coh_agree(a->comm, rc, err));
cleanup:
  return rc;
}

int coh_archive_commit(coh_archive *a, coh_error *err) {
  int rc;
  if (a->writing) {
    rc = commit_writer(a, err);
    if (rc == COH_OK)
      archive_free(a);
    else
      coh_archive_abandon(a);
    return rc;
  }
  rc = close_file(a, err);
  rc = coh_agree(a->comm, rc, err);
  archive_free(a);
  return rc;
}

void coh_archive_abandon(coh_archive *a) {
  if (!a) return;
  coh_error ignored;
  if (a->writing && a->file >= 0) coh_space_divert(a);
  (void)close_file(a, &ignored);
  if (a->writing && a->rank == 0) coh_temp_discard(a->path);
  if (a->writing) (void)MPI_Barrier(a->comm); /* gone on return, on every rank */
  archive_free(a);
}
