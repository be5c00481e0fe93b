/* test_store.c - the one thing of src/store that all ranks do: the manifest's hosts. */
#include "cohort/store.h"

#include "mpi_main.h"

#include <string.h>

static coh_error err;

static void test_manifest_counts_the_ranks(void) {
  coh_manifest *m;
  coh_hash hash = {"0123456789abcdef0123456789abcdef"};
  char want[320], name[64] = "", *text;
  size_t len;
  const char *path = scratch("manifest.json");
  assert_int_equal(
      coh_manifest_create(path, MPI_COMM_WORLD, "train", &hash, "cohort run x", &m, &err),
      COH_OK);
  gethostname(name, sizeof name - 1);
  snprintf(want, sizeof want, "%s*%d", name, mpi_size);
  assert_string_equal(coh_manifest_hosts(m), want);
  assert_int_equal(coh_manifest_write(m, "done", &err), COH_OK);
  coh_manifest_destroy(m);
  MPI_Barrier(MPI_COMM_WORLD);
  assert_int_equal(coh_file_read(path, &text, &len, &err), COH_OK);
  snprintf(want, sizeof want, "\"ranks\": %d,", mpi_size);
  assert_non_null(strstr(text, want));
  snprintf(want, sizeof want, "\"%s\": %d", name, mpi_size);
  assert_non_null(strstr(text, want));
  free(text);
}

/* A path that is too long fails on all ranks alike. */
static void test_manifest_error_is_agreed(void) {
  coh_manifest *m;
  coh_hash hash = {""};
  char path[COH_PATH + 8];
  memset(path, 'x', sizeof path);
  path[mpi_rank == mpi_size - 1 ? sizeof path - 1 : 8] = '\0';
  assert_int_equal(
      coh_manifest_create(path, MPI_COMM_WORLD, "train", &hash, "", &m, &err),
      COH_EUSAGE);
  assert_null(m);
}

static mpi_test tests[] = {
    MPI_TEST(test_manifest_counts_the_ranks),
    MPI_TEST(test_manifest_error_is_agreed),
};

MPI_MAIN(tests)
