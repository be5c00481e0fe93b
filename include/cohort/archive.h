/* archive.h - named arrays in one HDF5 file, written by one or many ranks. Uses base,
 * comm.
 *
 *   coh_archive *a;
 *   COH_TRY(coh_archive_create(path, "model", 1, comm, &a, err));
 *   rc = coh_archive_put(a, "w", COH_T_F64, 2, dim, w, err);
 *   if (rc == COH_OK) rc = coh_archive_commit(a, err); else coh_archive_abandon(a);
 *
 * An archive is written whole under a temporary name and renamed at commit, so a reader
 * sees the old file or the new one. The root group carries the attributes `cohort_format`
 * (int) and `cohort_kind` (text). Everything opens with h5py: f['fc.weight'][:].
 *
 * Rows arrays [N, ...] hold one row a member; several ranks write their own rows at once
 * (parallel HDF5, collective). Plain arrays are written by rank 0's data. Values are
 * stored little-endian in the width given. Each dataset carries the attribute `crc32`,
 * checked on read: of each row of a rows array, of the whole of a plain array or text, so
 * that in Python [zlib.crc32(r) for r in f['w'][:]] or zlib.crc32(f['x'][:]) is the same.
 *
 * All functions but has and dims are collective: every rank calls them in one order, and
 * all get the same code and message. Errors: COH_EIO where the system refuses (disk full,
 * no such file; detected before HDF5 writes where the file system can reserve space),
 * COH_EDATA where a file is not what it should be (truncated, damaged, not HDF5, wrong
 * kind, format, shape or type, dataset missing), with file, dataset and HDF5's innermost
 * message. HDF5's own printing is switched off. After a failed put only abandon is left;
 * a commit then abandons.
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
