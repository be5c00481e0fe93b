/* test_archive.c - the room src/archive with several ranks: each writes and reads its
 * rows, some have none, and an error of any kind is the same on all of them. */
#include "archive/archive_private.h"

#include "mpi_main.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)
#define WORLD MPI_COMM_WORLD

enum { ROW = 7 };

static void says(const char *part) {
  if (!strstr(err.text, part)) fail_msg("'%s' is not in: %s", part, err.text);
}

/* Rank r's block of `rows`, dealt in turn backwards if `reverse`; sizes 0 occur. */
static void deal(size_t rows, bool reverse, size_t *first, size_t *count) {
  size_t size = (size_t)mpi_size,
         r = (size_t)(reverse ? mpi_size - 1 - mpi_rank : mpi_rank);
  *first = rows * r * r / (size * size);
  *count = rows * (r + 1) * (r + 1) / (size * size) - *first;
}

static double value(size_t row, size_t i) {
  return (double)(row * 1000 + i) / 3;
}

static void fill(size_t first, size_t count, double *rows) {
  for (size_t k = 0; k < count * ROW; k++) rows[k] = value(first + k / ROW, k % ROW);
}

static void check(size_t first, size_t count, const double *rows) {
  for (size_t k = 0; k < count * ROW; k++)
    assert_true(rows[k] == value(first + k / ROW, k % ROW));
}

/* Puts `rows` rows, of which each rank holds its share. */
static int put_rows(coh_archive *a, const char *name, size_t rows, bool reverse) {
  size_t first, count;
  double *mine;
  deal(rows, reverse, &first, &count);
  OK(coh_alloc(&mine, count * ROW, sizeof *mine, &err));
  fill(first, count, mine);
  int rc = coh_archive_put_rows(a, name, COH_T_F64, rows, 1, (size_t[]){ROW}, first,
                                count, mine, &err);
  free(mine);
  return rc;
}

static int get_rows(coh_archive *a, const char *name, size_t rows, size_t first,
                    size_t count) {
  double *mine;
  OK(coh_alloc(&mine, count * ROW, sizeof *mine, &err));
  int rc = coh_archive_get_rows(a, name, COH_T_F64, rows, 1, (size_t[]){ROW}, first,
                                count, mine, &err);
  if (rc == COH_OK) check(first, count, mine);
  free(mine);
  return rc;
}

static void put_example(coh_archive *a) {
  double plain[3] = {1, 2, 3};
  OK(put_rows(a, "w", 10, false));
  OK(coh_archive_put(a, "deep/plain", COH_T_F64, 1, (size_t[]){3},
                     mpi_rank == 0 ? plain : NULL, &err));
  OK(coh_archive_put_text(a, "note", mpi_rank == 0 ? "of rank 0" : NULL, &err));
}

static void write_example(const char *path) {
  coh_archive *a;
  OK(coh_archive_create(path, "example", 1, WORLD, &a, &err));
  put_example(a);
  OK(coh_archive_commit(a, &err));
}

/* Reads all of it with another dealing of the rows; the code of the first failure. */
static int read_example(const char *path) {
  int rc = COH_OK;
  coh_archive *a = NULL;
  double plain[3] = {0};
  char *note = NULL;
  size_t first, count;
  deal(10, true, &first, &count);
  COH_TRY(coh_archive_open(path, "example", 1, WORLD, &a, &err));
  COH_TRY(get_rows(a, "w", 10, first, count));
  COH_TRY(coh_archive_get(a, "deep/plain", COH_T_F64, 1, (size_t[]){3}, plain, &err));
  COH_TRY(coh_archive_get_text(a, "note", &note, &err));
  assert_true(plain[0] == 1 && plain[1] == 2 && plain[2] == 3);
  assert_string_equal(note, "of rank 0");
cleanup:
  free(note);
  coh_archive_abandon(a);
  return rc;
}

/* One answer on all ranks, in code and text. */
static void same_everywhere(int rc) {
  struct {
    int code;
    char text[COH_ERROR_TEXT];
  } mine = {.code = rc}, first;
  if (rc != COH_OK) memcpy(mine.text, err.text, sizeof mine.text);
  first = mine;
  MPI_Bcast(&first, (int)sizeof first, MPI_BYTE, 0, WORLD);
  assert_int_equal(mine.code, first.code);
  assert_string_equal(mine.text, first.text);
}

/* ---- what is written comes back ---------------------------------------------------- */

static void test_round_trip(void) {
  write_example(scratch("a.h5"));
  OK(read_example(scratch("a.h5")));
  assert_false(coh_file_exists(scratch(".a.h5.tmp")));
}

static void test_rows_of_any_number(void) {
  coh_archive *a;
  char name[16];
  OK(coh_archive_create(scratch("n.h5"), "t", 1, WORLD, &a, &err));
  for (size_t rows = 0; rows < 12; rows++) {
    snprintf(name, sizeof name, "r%zu", rows);
    OK(put_rows(a, name, rows, rows % 2));
  }
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("n.h5"), "t", 1, WORLD, &a, &err));
  for (size_t rows = 0; rows < 12; rows++) {
    size_t first, count;
    deal(rows, false, &first, &count);
    snprintf(name, sizeof name, "r%zu", rows);
    OK(get_rows(a, name, rows, first, count));
    OK(get_rows(a, name, rows, 0, rows));                     /* all on every rank */
    OK(get_rows(a, name, rows, 0, mpi_rank == 0 ? rows : 0)); /* all on one */
  }
  OK(coh_archive_commit(a, &err));
}

static void test_rows_cross_piece_borders(void) {
  coh_archive *a;
  coh_archive_tuning old = coh_archive_tune;
  for (size_t piece = 8; piece < 600; piece += 190) {
    coh_archive_tune.piece = piece;
    OK(coh_archive_create(scratch("p.h5"), "t", 1, WORLD, &a, &err));
    OK(put_rows(a, "r", 53, true));
    OK(coh_archive_commit(a, &err));
    OK(coh_archive_open(scratch("p.h5"), "t", 1, WORLD, &a, &err));
    size_t first, count;
    deal(53, false, &first, &count);
    OK(get_rows(a, "r", 53, first, count));
    OK(coh_archive_commit(a, &err));
  }
  coh_archive_tune = old;
}

/* What n ranks wrote is, byte for byte, what one rank writes. */
static void test_file_does_not_depend_on_the_ranks(void) {
  coh_archive *a;
  double rows[10 * ROW];
  write_example(scratch("many.h5"));
  if (mpi_rank != 0) return;
  double plain[3] = {1, 2, 3}, back[10 * ROW];
  fill(0, 10, rows);
  OK(coh_archive_create(scratch("one.h5"), "example", 1, MPI_COMM_SELF, &a, &err));
  OK(coh_archive_put_rows(a, "w", COH_T_F64, 10, 1, (size_t[]){ROW}, 0, 10, rows, &err));
  OK(coh_archive_put(a, "deep/plain", COH_T_F64, 1, (size_t[]){3}, plain, &err));
  OK(coh_archive_put_text(a, "note", "of rank 0", &err));
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("many.h5"), "example", 1, MPI_COMM_SELF, &a, &err));
  OK(coh_archive_get_rows(a, "w", COH_T_F64, 10, 1, (size_t[]){ROW}, 0, 10, back, &err));
  assert_memory_equal(rows, back, sizeof rows);
  OK(coh_archive_commit(a, &err));
}

static void test_opens_with_h5py(void) {
  write_example(scratch("a.h5"));
  if (mpi_rank != 0 || system("/usr/bin/python3 -c 'import h5py'") != 0) return;
  char command[1024];
  snprintf(
      command, sizeof command,
      "cd '%s' && /usr/bin/python3 -c \"import h5py, zlib\n"
      "f = h5py.File('a.h5')\n"
      "assert list(f) == ['deep', 'note', 'w']\n"
      "assert f['w'].shape == (10, 7)\n"
      "assert f['w'][9, 6] == 9006 / 3\n"
      "assert f['w'].attrs['crc32'].tolist() == [zlib.crc32(r) for r in f['w'][:]]\"",
      scratch_folder);
  assert_int_equal(system(command), 0);
}

static void test_large_checksum_attribute(void) {
  enum { ROWS = 40000 };
  coh_archive *a;
  OK(coh_archive_create(scratch("l.h5"), "t", 1, WORLD, &a, &err));
  OK(put_rows(a, "r", ROWS, false));
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("l.h5"), "t", 1, WORLD, &a, &err));
  size_t first, count;
  deal(ROWS, true, &first, &count);
  OK(get_rows(a, "r", ROWS, first, count));
  OK(coh_archive_commit(a, &err));
}

/* ---- errors ------------------------------------------------------------------------ */

static void test_blocks_that_overlap_or_leave_gaps(void) {
  coh_archive *a;
  double rows[4 * ROW] = {0};
  OK(coh_archive_create(scratch("bad.h5"), "t", 1, WORLD, &a, &err));
  /* all ranks bring row 0 */
  int rc = coh_archive_put_rows(a, "r", COH_T_F64, (size_t)mpi_size + 1, 1,
                                (size_t[]){ROW}, 0, 1, rows, &err);
  assert_int_equal(rc, COH_EBUG);
  same_everywhere(rc);
  /* the right number of rows, one of them twice */
  size_t n = mpi_rank == 0 ? 2 : 1;
  rc = coh_archive_put_rows(a, "q", COH_T_F64, (size_t)mpi_size + 1, 1, (size_t[]){ROW},
                            mpi_rank ? (size_t)mpi_rank : 0, n, rows, &err);
  assert_int_equal(rc, mpi_size > 1 ? COH_EBUG : COH_OK);
  rc = coh_archive_commit(a, &err);
  assert_int_equal(rc, COH_EIO);
  assert_false(coh_file_exists(scratch("bad.h5")));
  assert_false(coh_file_exists(scratch(".bad.h5.tmp")));
}

static void test_block_outside_on_one_rank(void) {
  coh_archive *a;
  double row[ROW] = {0};
  OK(coh_archive_create(scratch("bad.h5"), "t", 1, WORLD, &a, &err));
  size_t first = mpi_rank == mpi_size - 1 ? 99 : (size_t)mpi_rank;
  int rc = coh_archive_put_rows(a, "r", COH_T_F64, (size_t)mpi_size, 1, (size_t[]){ROW},
                                first, 1, row, &err);
  assert_int_equal(rc, COH_EBUG);
  same_everywhere(rc);
  coh_archive_abandon(a);
  MPI_Barrier(WORLD);
  assert_false(coh_file_exists(scratch(".bad.h5.tmp")));
}

/* Rank 0 writes bytes to `path`; all ranks try to open it. */
static void check_bytes(const char *path, const char *bytes, size_t n) {
  if (mpi_rank == 0) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
  }
  MPI_Barrier(WORLD);
  int rc = read_example(path);
  assert_int_equal(rc, COH_EDATA);
  same_everywhere(rc);
  says(strrchr(path, '/') + 1);
  MPI_Barrier(WORLD);
}

static void test_damaged_files(void) {
  char *bytes;
  size_t n;
  write_example(scratch("a.h5"));
  OK(coh_file_read(scratch("a.h5"), &bytes, &n, &err));
  check_bytes(scratch("t.h5"), "no HDF5", 7);
  check_bytes(scratch("t.h5"), "", 0);
  check_bytes(scratch("t.h5"), bytes, n / 2);
  check_bytes(scratch("t.h5"), bytes, n - 1);
  double row9[ROW];
  fill(9, 1, row9);
  char *at = memmem(bytes, n, row9, sizeof row9);
  assert_non_null(at);
  at[20] ^= 1; /* only the rank that reads row 9 sees it */
  check_bytes(scratch("t.h5"), bytes, n);
  says("row 9");
  free(bytes);
}

static void test_missing_wrong_kind_no_dataset(void) {
  coh_archive *a;
  double x;
  int rc = coh_archive_open(scratch("no.h5"), "t", 1, WORLD, &a, &err);
  assert_int_equal(rc, COH_EIO);
  same_everywhere(rc);
  rc = coh_archive_create(scratch("no/no.h5"), "t", 1, WORLD, &a, &err);
  assert_int_equal(rc, COH_EIO);
  same_everywhere(rc);
  write_example(scratch("a.h5"));
  rc = coh_archive_open(scratch("a.h5"), "other", 1, WORLD, &a, &err);
  assert_int_equal(rc, COH_EDATA);
  same_everywhere(rc);
  OK(coh_archive_open(scratch("a.h5"), "example", 1, WORLD, &a, &err));
  rc = coh_archive_get(a, "x", COH_T_F64, 0, NULL, &x, &err);
  assert_int_equal(rc, COH_EDATA);
  same_everywhere(rc);
  rc = coh_archive_get_rows(a, "x", COH_T_F64, 1, 0, NULL, 0, 0, NULL, &err);
  assert_int_equal(rc, COH_EDATA);
  same_everywhere(rc);
  OK(coh_archive_commit(a, &err));
}

/* Writes the example and too much more; expects COH_EIO everywhere, and the folder as
 * before. */
static void check_full(const char *folder, const char *path) {
  coh_archive *a;
  enum { MANY = 40000 }; /* 2.2 MB */
  int before = scratch_count(folder);
  MPI_Barrier(WORLD);
  OK(coh_archive_create(path, "example", 1, WORLD, &a, &err));
  put_example(a);
  int rc = put_rows(a, "big", MANY, false);
  if (rc == COH_OK)
    rc = coh_archive_commit(a, &err);
  else
    coh_archive_abandon(a);
  assert_int_equal(rc, COH_EIO);
  same_everywhere(rc);
  assert_int_equal(scratch_count(folder), before);
  OK(read_example(path));
}

static void test_full_disk(void) {
  char folder[300], path[320];
  int mounted = 0;
  snprintf(folder, sizeof folder, "%s", scratch("full"));
  snprintf(path, sizeof path, "%s/a.h5", folder);
  if (mpi_rank == 0)
    mounted =
        mkdir(folder, 0777) == 0 && mount("none", folder, "tmpfs", 0, "size=1m") == 0;
  MPI_Bcast(&mounted, 1, MPI_INT, 0, WORLD);
  if (!mounted) return;
  write_example(path);
  coh_archive_tuning old = coh_archive_tune;
  check_full(folder, path);
  coh_archive_tune.reserve = false; /* as on a file system that cannot */
  check_full(folder, path);
  coh_archive_tune = old;
  MPI_Barrier(WORLD);
  if (mpi_rank == 0) umount2(folder, MNT_DETACH);
}

static void test_file_size_limit(void) {
  struct rlimit old, low = {.rlim_cur = 1 << 20};
  char folder[300], path[320];
  snprintf(folder, sizeof folder, "%s", scratch("limit"));
  snprintf(path, sizeof path, "%s/a.h5", folder);
  if (mpi_rank == 0) assert_int_equal(mkdir(folder, 0777), 0);
  MPI_Barrier(WORLD);
  write_example(path);
  getrlimit(RLIMIT_FSIZE, &old);
  low.rlim_max = old.rlim_max;
  setrlimit(RLIMIT_FSIZE, &low);
  check_full(folder, path);
  setrlimit(RLIMIT_FSIZE, &old);
}

static mpi_test tests[] = {
    MPI_TEST(test_round_trip),
    MPI_TEST(test_rows_of_any_number),
    MPI_TEST(test_rows_cross_piece_borders),
    MPI_TEST(test_file_does_not_depend_on_the_ranks),
    MPI_TEST(test_opens_with_h5py),
    MPI_TEST(test_large_checksum_attribute),
    MPI_TEST(test_blocks_that_overlap_or_leave_gaps),
    MPI_TEST(test_block_outside_on_one_rank),
    MPI_TEST(test_damaged_files),
    MPI_TEST(test_missing_wrong_kind_no_dataset),
    MPI_TEST(test_full_disk),
    MPI_TEST(test_file_size_limit),
};

MPI_MAIN(tests)
