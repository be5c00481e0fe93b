/* archive.c - archives for programs without HDF5: there are none; every call says so. */
#include "cohort/archive.h"

static int none(coh_error *err) {
  return coh_fail(err, COH_EIO, "this program has no archives");
}

int coh_archive_create(const char *path, const char *kind, int format, MPI_Comm comm,
                       coh_archive **out, coh_error *err) {
  (void)path, (void)kind, (void)format, (void)comm, (void)out;
  return none(err);
}
int coh_archive_open(const char *path, const char *kind, int format, MPI_Comm comm,
                     coh_archive **out, coh_error *err) {
  (void)path, (void)kind, (void)format, (void)comm, (void)out;
  return none(err);
}
int coh_archive_commit(coh_archive *a, coh_error *err) {
  (void)a;
  return none(err);
}
void coh_archive_abandon(coh_archive *a) {
  (void)a;
}
int coh_archive_put(coh_archive *a, const char *name, coh_type t, size_t ndim,
                    const size_t *dim, const void *data, coh_error *err) {
  (void)a, (void)name, (void)t, (void)ndim, (void)dim, (void)data;
  return none(err);
}
int coh_archive_put_text(coh_archive *a, const char *name, const char *text,
                         coh_error *err) {
  (void)a, (void)name, (void)text;
  return none(err);
}
int coh_archive_put_rows(coh_archive *a, const char *name, coh_type t, size_t rows,
                         size_t ndim, const size_t *dim, size_t first, size_t count,
                         const void *data, coh_error *err) {
  (void)a, (void)name, (void)t, (void)rows, (void)ndim, (void)dim, (void)first,
      (void)count, (void)data;
  return none(err);
}
bool coh_archive_has(coh_archive *a, const char *name) {
  (void)a, (void)name;
  return false;
}
int coh_archive_dims(coh_archive *a, const char *name, size_t *ndim, size_t *dim,
                     coh_error *err) {
  (void)a, (void)name, (void)ndim, (void)dim;
  return none(err);
}
int coh_archive_get(coh_archive *a, const char *name, coh_type t, size_t ndim,
                    const size_t *dim, void *data, coh_error *err) {
  (void)a, (void)name, (void)t, (void)ndim, (void)dim, (void)data;
  return none(err);
}
int coh_archive_get_text(coh_archive *a, const char *name, char **text, coh_error *err) {
  (void)a, (void)name, (void)text;
  return none(err);
}
int coh_archive_get_rows(coh_archive *a, const char *name, coh_type t, size_t rows,
                         size_t ndim, const size_t *dim, size_t first, size_t count,
                         void *data, coh_error *err) {
  (void)a, (void)name, (void)t, (void)rows, (void)ndim, (void)dim, (void)first,
      (void)count, (void)data;
  return none(err);
}
