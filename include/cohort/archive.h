/* archive.h - named arrays in one HDF5 file, written by one or many ranks. Uses base,
 * comm.
 *
 * An archive is written whole under a temporary name and renamed at commit, so a reader
 * sees the old file or the new one. The root group carries the attributes `cohort_format`
 * (int) and `cohort_kind` (text); each dataset carries `crc32`, checked on read.
 * Everything opens with h5py.
 *
 * Rows arrays [N, ...] hold one row a member; several ranks write their own rows at once
 * (parallel HDF5, collective). Plain arrays are written by rank 0's data. Values are
 * stored little-endian in the width given.
 */
#ifndef COHORT_ARCHIVE_H
#define COHORT_ARCHIVE_H

#include "cohort/comm.h"

typedef enum coh_type {
  COH_T_F32,
  COH_T_F64,
  COH_T_I32,
  COH_T_I64,
  COH_T_U32,
  COH_T_U64,
  COH_T_U8
} coh_type;
size_t coh_type_size(coh_type);
static inline coh_type coh_type_of(coh_dtype t) {
  return t == COH_F64 ? COH_T_F64 : COH_T_F32;
}

typedef struct coh_archive coh_archive;

/* Collective over comm (MPI_COMM_SELF for one writer). */
int coh_archive_create(const char *path, const char *kind, int format, MPI_Comm comm,
                       coh_archive **out, coh_error *err);
/* Reading is collective over comm, too; kind and format must match (COH_EDATA). */
int coh_archive_open(const char *path, const char *kind, int format, MPI_Comm comm,
                     coh_archive **out, coh_error *err);
/* Writers: sync, rename. Readers: close. Frees the archive in every case. Collective. */
int coh_archive_commit(coh_archive *, coh_error *err);
/* Closes without committing and removes the temporary file; NULL accepted. Collective. */
void coh_archive_abandon(coh_archive *);

/* Names may hold '/' for groups, created on demand. */
int coh_archive_put(coh_archive *, const char *name, coh_type, size_t ndim,
                    const size_t *dim, const void *data, coh_error *err);
int coh_archive_put_text(coh_archive *, const char *name, const char *text,
                         coh_error *err);
/* This rank writes rows [first, first + count) of a [rows, row_dim...] array; count may
 * be 0. The blocks of all ranks must not overlap and must cover all rows. ndim counts the
 * row's own axes (0 = one scalar a row). */
int coh_archive_put_rows(coh_archive *, const char *name, coh_type, size_t rows,
                         size_t ndim, const size_t *row_dim, size_t first, size_t count,
                         const void *data, coh_error *err);

bool coh_archive_has(coh_archive *, const char *name);
/* dims of a dataset; *ndim in: room in dim, out: number of axes. */
int coh_archive_dims(coh_archive *, const char *name, size_t *ndim, size_t *dim,
                     coh_error *err);
/* Reads a whole array of exactly this type (or of another width of the same kind:
 * converted) and shape, on every rank. */
int coh_archive_get(coh_archive *, const char *name, coh_type, size_t ndim,
                    const size_t *dim, void *data, coh_error *err);
int coh_archive_get_text(coh_archive *, const char *name, char **text, coh_error *err);
int coh_archive_get_rows(coh_archive *, const char *name, coh_type, size_t rows,
                         size_t ndim, const size_t *row_dim, size_t first, size_t count,
                         void *data, coh_error *err);

#endif
