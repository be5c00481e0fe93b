/* stream.h - the bytes of a file in order: plain, gzip (told by its first bytes), or a
 * member of a zip archive. Every byte asked for arrives or an error says where the file
 * ends; check sums are verified. Uses base.
 */
#ifndef COHORT_DATA_STREAM_H
#define COHORT_DATA_STREAM_H

#include "cohort/base.h"

typedef struct coh_stream coh_stream;

/* Where a member of a zip archive lies: its own compressed bytes, checked against `crc`.
 */
typedef struct coh_member {
  uint64_t at;     /* of the first compressed byte in the file */
  uint64_t packed; /* compressed bytes */
  uint64_t size;   /* content bytes */
  uint32_t crc;    /* CRC-32 of the content */
  bool deflated;   /* else stored */
} coh_member;

int coh_stream_open(coh_stream **out, const char *path, coh_error *err);
int coh_stream_open_member(coh_stream **out, const char *path, const coh_member *m,
                           coh_error *err);
/* Exactly n bytes, or COH_EDATA. */
int coh_stream_read(coh_stream *s, void *buf, size_t n, coh_error *err);
/* The content must end here and its check sum be right, or COH_EDATA. */
int coh_stream_end(coh_stream *s, coh_error *err);
/* Content bytes handed out so far. */
uint64_t coh_stream_offset(const coh_stream *s);
/* COH_EDATA unless the content, as far as its size is known without unpacking it, can
 * hold n more bytes. Asked before memory is taken on the word of a header. */
int coh_stream_has(const coh_stream *s, uint64_t n, coh_error *err);
void coh_stream_close(coh_stream *s); /* NULL accepted */

/* Content bytes of a whole file; unpacks it if it is gzip. */
int coh_stream_count(const char *path, uint64_t *bytes, coh_error *err);

#endif
