/* store_private.h - what the files of src/store share among themselves. */
#ifndef COHORT_STORE_PRIVATE_H
#define COHORT_STORE_PRIVATE_H

#include <jansson.h>

#include "cohort/store.h"

/* ---- lock.c ---------------------------------------------------------------------- */

/* Locks the file <folder>/lock for this open file: an fcntl lock, which NFS knows too,
 * and which ends with the process. If it is taken: waits, or COH_EUSAGE naming folder and
 * holder. *lock: to be released; -1 where the file system has no locks (remarked to the
 * sink). */
int coh_lock_take(const char *folder, bool wait, const coh_sink *, int *lock,
                  coh_error *err);
void coh_lock_release(int lock); /* -1 accepted */

/* ---- folders.c ------------------------------------------------------------------- */

bool coh_is_temporary(const char *name); /* ".NAME.tmp", what a killed writer leaves */

/* ---- runs.c ---------------------------------------------------------------------- */

/* Lines as the text of one cell: "a; b", appended to out. */
void coh_row_inputs(const char *lines, coh_text *out);
/* Place of the measure, looked for from *cursor on; n: there is none. */
size_t coh_measures_find(const coh_measures *, const char *name, size_t *cursor);

/* ---- scan.c ---------------------------------------------------------------------- */

/* Syncs a file or a folder, opened for reading with these flags, too. */
int coh_sync(const char *path, int flags, coh_error *err);

/* ---- pack.c ---------------------------------------------------------------------- */

/* Text as JSON, which must be UTF-8: other bytes are shown as '?'. NULL: no memory. */
json_t *coh_json_text(const char *text);

/* ---- csv.c ----------------------------------------------------------------------- */

/* Reads the records of a CSV text one by one, in place: cells are cut out of the text. */
typedef struct coh_csv {
  const char *path; /* for messages */
  char *at, *end;
  size_t line;  /* where the record ended that was read last */
  size_t n;     /* its cells */
  size_t first; /* the line where it began */
  char **cell;  /* owned */
  size_t cap;
} coh_csv;

/* `text` [len], terminated by an extra zero byte, is written to. */
int coh_csv_start(coh_csv *, const char *path, char *text, size_t len, coh_error *err);
/* The next record that is not an empty line; *more false at the end. */
int coh_csv_next(coh_csv *, bool *more, coh_error *err);
void coh_csv_end(coh_csv *);

#endif
