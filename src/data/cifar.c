/* cifar.c - the records of one CIFAR-10 batch file. Uses base. */
#include "data/cifar.h"

#include <inttypes.h>

#include "data/stream.h"

enum { RECORD = 3073, CLASSES = 10 };

int coh_cifar_count(const char *path, size_t *records, coh_error *err) {
  uint64_t bytes = 0;
  int rc = coh_stream_count(path, &bytes, err);
  if (rc != COH_OK) return rc;
  *records = (size_t)(bytes / RECORD);
  if (bytes > 0 && bytes % RECORD == 0) return COH_OK;
  return coh_fail(err, COH_EDATA,
                  "%s: expected a multiple of %d bytes (one record each), found %" PRIu64,
                  path, RECORD, bytes);
}

int coh_cifar_read(const char *path, size_t records, coh_sample_fn take, void *ctx,
                   coh_error *err) {
  int rc = COH_OK;
  uint8_t record[RECORD];
  coh_stream *in = NULL;
  COH_TRY(coh_stream_open(&in, path, err));
  for (size_t i = 0; i < records; i++) {
    COH_TRY(coh_stream_read(in, record, sizeof record, err));
    if (record[0] >= CLASSES) {
      rc = coh_fail(err, COH_EDATA, "%s: expected a label of 0..%d at byte %zu, found %u",
                    path, CLASSES - 1, i * RECORD, record[0]);
      goto cleanup;
    }
    take(ctx, record[0], record + 1);
  }
  COH_TRY(coh_stream_end(in, err));
cleanup:
  coh_stream_close(in);
  return rc;
}
