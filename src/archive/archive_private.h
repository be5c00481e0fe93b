/* archive_private.h - what the files of src/archive share among themselves and with their
 * tests.
 *
 * A dataset's attribute `crc32` holds zlib's crc32 of the bytes as stored: one for each
 * row of a rows array, so that a rank checks what it reads and nothing else; one for the
 * whole of a plain array or a text.
 */
#ifndef COHORT_ARCHIVE_PRIVATE_H
#define COHORT_ARCHIVE_PRIVATE_H

#include <hdf5.h>

#include "cohort/archive.h"

/* For tests only; the same on all ranks, while no archive is in use. */
typedef struct coh_archive_tuning {
  size_t piece; /* most bytes in one transfer; a row is never split */
  bool reserve; /* reserve disk space before HDF5 writes */
} coh_archive_tuning;
extern coh_archive_tuning coh_archive_tune;

struct coh_archive {
  MPI_Comm comm; /* a duplicate, owned */
  int rank, size;
  char path[COH_PATH];
  char *kind; /* owned */
  int format;
  hid_t file;     /* -1 while not open */
  hid_t transfer; /* of rows: collective where there is more than one rank */
  bool writing;
  bool failed;     /* an earlier write failed: the archive must not be committed */
  int fd;          /* writers' rank 0: the temporary file, else -1 */
  size_t reserved; /* bytes of disk space asked for */
};

/* ---- h5.c: HDF5's errors and types ----------------------------------------------- */

/* COH_OK for a value >= 0; else COH_EIO (writers) or COH_EDATA (readers): "cannot `what`
 * in 'path': " and HDF5's innermost message. */
int coh_h5_check(const coh_archive *, int64_t value, const char *what, coh_error *err);
#define COH_H5(what, call) COH_TRY(coh_h5_check(a, (int64_t)(call), what, err))

hid_t coh_h5_stored(coh_type); /* little-endian type in the file */
hid_t coh_h5_native(coh_type); /* type in memory */
const char *coh_h5_name(coh_type);
/* The coh_type that is stored as `type`; -1 for a type that cohort does not write. */
int coh_h5_type(hid_t type);
/* Both real, both signed, or both unsigned. */
bool coh_h5_same_kind(coh_type, coh_type);
/* Converts n values in place. COH_EDATA if an integer does not fit. */
int coh_h5_convert(coh_type from, coh_type to, size_t n, void *values, coh_error *err);

/* ---- space.c: a disk that is full ------------------------------------------------ */

/* Reserves room for `bytes` more, and for what HDF5 adds; only rank 0 of writers does. */
int coh_space_reserve(coh_archive *, size_t bytes, coh_error *err);
/* Gives back what was reserved beyond the end of the file. */
void coh_space_trim(coh_archive *);
/* Lets this process's descriptors of the temporary file lead into memory, so that HDF5
 * can close a file that it cannot write. */
void coh_space_divert(coh_archive *);

/* ---- block.c: what writing and reading share -------------------------------------- */

enum { COH_AXES = 16 };

/* A dataset's shape, and the part of its first axis that this rank moves. */
typedef struct coh_block {
  const char *name;
  coh_type type; /* in the file */
  size_t ndim;   /* all axes of the dataset */
  hsize_t dim[COH_AXES];
  size_t row;          /* elements in one step of the first axis */
  size_t first, count; /* steps of the first axis; 0 and 1 for a single number */
  bool by_row;         /* one checksum a row, and all ranks move; else one, and rank 0 */
} coh_block;

/* A rows array if `rows` is not NULL, else a plain one; the block is all of it. */
int coh_block_set(coh_block *, const char *name, coh_type, const size_t *rows,
                  size_t ndim, const size_t *dim, coh_error *err);
/* Makes it the block [first, first + count). */
int coh_block_take(coh_block *, size_t first, size_t count, coh_error *err);
size_t coh_block_rows(const coh_block *);  /* length of the first axis */
size_t coh_block_bytes(const coh_block *); /* of the whole dataset */
/* zlib's crc32 of each row of this rank, or of the whole. sums: [count] or [1]. */
void coh_block_checksums(const coh_block *, const char *data, uint32_t *sums);
uint32_t coh_checksum(const void *data, size_t bytes);
/* Moves this rank's rows between file and data (which is only read from if the archive is
 * being written). Either all ranks take part, or only one with collective = false. */
int coh_block_move(coh_archive *, hid_t set, const coh_block *, bool collective,
                   char *data, coh_error *err);
/* Ends a step: names the dataset in the message; all ranks part with one verdict. */
int coh_archive_finish(coh_archive *, const char *name, int rc, coh_error *err);

#endif
