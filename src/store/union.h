/* union.h - rows of many CSV files as one table, columns matched by name. For collect.c
 * and merge.c. Memory: the texts of the files, and four bytes a cell. */
#ifndef COHORT_STORE_UNION_H
#define COHORT_STORE_UNION_H

#include "store/store_private.h"

/* What files with one header line share. */
typedef struct coh_layout {
  char *header;     /* its line, owned */
  size_t n;         /* columns of the file */
  uint32_t *column; /* [n] which column of the union each is */
  uint32_t *own;    /* [n_own] where a column of the union stands; UINT32_MAX: nowhere */
  size_t n_own;
} coh_layout;

typedef struct coh_ufile {
  char *folder;    /* where it lies */
  char *sub_batch; /* "3-16": of a pack; NULL: a table that was merged before */
  char sweep[33];  /* of a pack */
  char *text;
  uint32_t *cell; /* [n_row, layout's n] offsets into text */
  size_t n_row, layout;
  bool model; /* a model.h5, or a runs.h5, lies beside it */
} coh_ufile;

typedef struct coh_urow {
  uint32_t file, row;
  size_t run; /* its place in the sweep, set by the user of the table */
} coh_urow;

typedef struct coh_union {
  size_t n_file, cap_file;
  coh_ufile *file;
  size_t n_layout;
  coh_layout *layout;
  size_t n_col; /* every name that any file has */
  char **col;
  size_t n_row, cap_row;
  coh_urow *row;
} coh_union;

/* Adds the rows of a published pack, checked against its pack.json. COH_EDATA or COH_EIO
 * says what is wrong with the pack, and nothing is added. */
int coh_union_add_pack(coh_union *, const char *folder, const char *sub_batch,
                       coh_error *err);
/* Adds the rows of <folder>/runs.csv, a table that was merged before. */
int coh_union_add_table(coh_union *, const char *folder, coh_error *err);
/* After the last file: cells can be asked for. */
int coh_union_seal(coh_union *, coh_error *err);
void coh_union_free(coh_union *);

/* Number of the column; SIZE_MAX: no file has it. */
size_t coh_union_column(const coh_union *, const char *name);
/* "" where its file has no such column (SIZE_MAX included). */
const char *coh_union_cell(const coh_union *, const coh_urow *, size_t column);

/* Which columns a table shows, in order: run, run_id, the parameters as the table of
 * parameters has them, then the names of `middle`, then measures by name, of those that
 * hold something in one of the rows, then the names of `tail`. Both lists end with NULL;
 * columns in `hidden` are left out. *column, owned by the caller: numbers, or SIZE_MAX
 * for a name that no file has, whose text is in *name (borrowed). */
typedef struct coh_ucolumn {
  const char *name;
  size_t column;
} coh_ucolumn;
typedef struct coh_ushape {
  const char *const *middle, *const *tail, *const *hidden;
} coh_ushape;
int coh_union_columns(const coh_union *, const coh_ushape *, size_t n,
                      const coh_urow *rows, coh_ucolumn **out, size_t *n_out,
                      coh_error *err);

/* ---- scan.c ---------------------------------------------------------------------- */

/* Names of the folders in `folder` that do not begin with '.', sorted. Freed with
 * coh_names_free. A folder that is not there is empty. */
typedef struct coh_names {
  size_t n, cap;
  char **name;
} coh_names;
int coh_names_read(const char *folder, coh_names *out, coh_error *err);
void coh_names_free(coh_names *);
/* Names of the packs of a sub-batch. */
int coh_names_packs(const char *sub_batch, coh_names *out, coh_error *err);
/* False also for a path that is too long. */
bool coh_has_file(const char *folder, const char *name);

/* A file that only this process writes: ".NAME.XXXXXX.tmp" beside `path`, opened; *temp
 * has its name. Two writers at one time do not meet; the last rename counts. */
int coh_unique_open(const char *path, char *temp, int *fd, coh_error *err);
/* Syncs, renames to path, syncs the folder. On failure the temporary is removed. */
int coh_unique_commit(const char *temp, const char *path, coh_error *err);
/* Writes a CSV file in that way, cell by cell. */
typedef const char *(*coh_cell_at)(void *ctx, size_t row, const coh_ucolumn *);
int coh_unique_table(const char *path, size_t n_col, const coh_ucolumn *col, size_t n_row,
                     coh_cell_at cell, void *ctx, coh_error *err);
/* Removes such files of killed writers that were not touched for ten minutes. */
void coh_unique_clean(const char *folder);

#endif
