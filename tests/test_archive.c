/* test_archive.c - the room src/archive with one rank: what is written comes back, opens
 * with h5py, and whatever is wrong with a file or a disk becomes an error. The same with
 * several ranks: mpi/test_archive.c. */
#include "archive/archive_private.h"

#include <setjmp.h>
#include <cmocka.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "scratch.h"

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)
#define SELF MPI_COMM_SELF

/* Asserts that the message holds `part`. */
static void says(const char *part) {
  if (!strstr(err.text, part)) fail_msg("'%s' is not in: %s", part, err.text);
}

static const size_t dims23[] = {2, 3};
static const double six[] = {1.5, -2.0, 3.25, 1e300, 0.1, -0.0};
static const int32_t ints[] = {1, -2, INT32_MAX, INT32_MIN};

/* A small archive: w [2,3] double, i [4] int32, rows [5,2] float, note. */
static void put_example(coh_archive *a) {
  float rows[10];
  for (int i = 0; i < 10; i++) rows[i] = (float)i / 3;
  OK(coh_archive_put(a, "w", COH_T_F64, 2, dims23, six, &err));
  OK(coh_archive_put(a, "deep/er/i", COH_T_I32, 1, (size_t[]){4}, ints, &err));
  OK(coh_archive_put_rows(a, "rows", COH_T_F32, 5, 1, (size_t[]){2}, 0, 5, rows, &err));
  OK(coh_archive_put_text(a, "note", "na\xc3\xafve", &err));
}

static void write_example(const char *path) {
  coh_archive *a;
  OK(coh_archive_create(path, "example", 3, SELF, &a, &err));
  put_example(a);
  OK(coh_archive_commit(a, &err));
}

static coh_archive *open_example(const char *path) {
  coh_archive *a;
  OK(coh_archive_open(path, "example", 3, SELF, &a, &err));
  return a;
}

/* A file without the patience of coh_file_write. */
static void write_bytes(const char *path, const char *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

/* Reads everything; the code of the first failure. */
static int read_example(const char *path) {
  int rc = COH_OK;
  coh_archive *a = NULL;
  double w[6];
  int32_t i[4];
  float rows[10];
  char *note = NULL;
  COH_TRY(coh_archive_open(path, "example", 3, SELF, &a, &err));
  COH_TRY(coh_archive_get(a, "w", COH_T_F64, 2, dims23, w, &err));
  COH_TRY(coh_archive_get(a, "deep/er/i", COH_T_I32, 1, (size_t[]){4}, i, &err));
  COH_TRY(
      coh_archive_get_rows(a, "rows", COH_T_F32, 5, 1, (size_t[]){2}, 0, 5, rows, &err));
  COH_TRY(coh_archive_get_text(a, "note", &note, &err));
  assert_memory_equal(w, six, sizeof w);
  assert_memory_equal(i, ints, sizeof i);
  for (int k = 0; k < 10; k++) assert_true(rows[k] == (float)k / 3);
  assert_string_equal(note, "na\xc3\xafve");
cleanup:
  free(note);
  coh_archive_abandon(a);
  return rc;
}

/* ---- what is written comes back ---------------------------------------------------- */

static void test_round_trip(void **state) {
  (void)state;
  const char *path = scratch("a.h5");
  write_example(path);
  OK(read_example(path));
  coh_archive *a = open_example(path);
  size_t ndim = 2, dim[2];
  OK(coh_archive_dims(a, "rows", &ndim, dim, &err));
  assert_int_equal(ndim, 2);
  assert_int_equal(dim[0], 5);
  assert_int_equal(dim[1], 2);
  ndim = 1;
  assert_int_equal(coh_archive_dims(a, "rows", &ndim, dim, &err), COH_EDATA);
  assert_true(coh_archive_has(a, "w"));
  assert_true(coh_archive_has(a, "deep/er/i"));
  assert_true(coh_archive_has(a, "deep"));
  assert_false(coh_archive_has(a, "deep/i"));
  assert_false(coh_archive_has(a, "wide/w"));
  assert_false(coh_archive_has(a, "nothing"));
  OK(coh_archive_commit(a, &err));
  coh_archive_abandon(NULL);
}

static void test_every_type(void **state) {
  (void)state;
  coh_archive *a;
  unsigned char data[7][24], back[24];
  const char *names[] = {"f32", "f64", "i32", "i64", "u32", "u64", "u8"};
  OK(coh_archive_create(scratch("types.h5"), "t", 1, SELF, &a, &err));
  for (int t = 0; t < 7; t++) {
    for (int i = 0; i < 24; i++) data[t][i] = (unsigned char)(i * 9 + t);
    OK(coh_archive_put(a, names[t], (coh_type)t, 1, (size_t[]){3}, data[t], &err));
  }
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("types.h5"), "t", 1, SELF, &a, &err));
  for (int t = 0; t < 7; t++) {
    OK(coh_archive_get(a, names[t], (coh_type)t, 1, (size_t[]){3}, back, &err));
    assert_memory_equal(back, data[t], 3 * coh_type_size((coh_type)t));
  }
  OK(coh_archive_commit(a, &err));
}

static void test_numbers_texts_and_arrays_of_nothing(void **state) {
  (void)state;
  coh_archive *a;
  double pi = 3.14159, got = 0;
  char *text;
  OK(coh_archive_create(scratch("nil.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_put(a, "pi", COH_T_F64, 0, NULL, &pi, &err));
  OK(coh_archive_put(a, "none", COH_T_F64, 2, (size_t[]){0, 3}, NULL, &err));
  OK(coh_archive_put(a, "flat", COH_T_F64, 2, (size_t[]){3, 0}, NULL, &err));
  OK(coh_archive_put_rows(a, "norows", COH_T_F32, 0, 1, (size_t[]){4}, 0, 0, NULL, &err));
  OK(coh_archive_put_rows(a, "scalars", COH_T_F64, 1, 0, NULL, 0, 1, &pi, &err));
  OK(coh_archive_put_rows(a, "thin", COH_T_F64, 2, 1, (size_t[]){0}, 0, 2, NULL, &err));
  OK(coh_archive_put_text(a, "empty", "", &err));
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("nil.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_get(a, "pi", COH_T_F64, 0, NULL, &got, &err));
  assert_true(got == pi);
  OK(coh_archive_get(a, "none", COH_T_F64, 2, (size_t[]){0, 3}, NULL, &err));
  OK(coh_archive_get(a, "flat", COH_T_F64, 2, (size_t[]){3, 0}, NULL, &err));
  OK(coh_archive_get_rows(a, "norows", COH_T_F32, 0, 1, (size_t[]){4}, 0, 0, NULL, &err));
  got = 0;
  OK(coh_archive_get_rows(a, "scalars", COH_T_F64, 1, 0, NULL, 0, 1, &got, &err));
  assert_true(got == pi);
  OK(coh_archive_get_rows(a, "thin", COH_T_F64, 2, 1, (size_t[]){0}, 0, 2, NULL, &err));
  OK(coh_archive_get_text(a, "empty", &text, &err));
  assert_string_equal(text, "");
  free(text);
  OK(coh_archive_commit(a, &err));
}

static void test_rows_cross_piece_borders(void **state) {
  (void)state;
  enum { ROWS = 37, ROW = 3 };
  double rows[ROWS][ROW], back[ROWS][ROW];
  coh_archive *a;
  coh_archive_tuning old = coh_archive_tune;
  for (int i = 0; i < ROWS * ROW; i++) rows[i / ROW][i % ROW] = i;
  for (size_t piece = 1; piece < 200; piece += 37) {
    coh_archive_tune.piece = piece;
    OK(coh_archive_create(scratch("p.h5"), "t", 1, SELF, &a, &err));
    OK(coh_archive_put_rows(a, "r", COH_T_F64, ROWS, 1, (size_t[]){ROW}, 0, ROWS, rows,
                            &err));
    OK(coh_archive_put(a, "p", COH_T_F64, 2, (size_t[]){ROWS, ROW}, rows, &err));
    OK(coh_archive_commit(a, &err));
    OK(coh_archive_open(scratch("p.h5"), "t", 1, SELF, &a, &err));
    memset(back, 0, sizeof back);
    OK(coh_archive_get_rows(a, "r", COH_T_F64, ROWS, 1, (size_t[]){ROW}, 0, ROWS, back,
                            &err));
    assert_memory_equal(rows, back, sizeof rows);
    memset(back, 0, sizeof back);
    OK(coh_archive_get(a, "p", COH_T_F64, 2, (size_t[]){ROWS, ROW}, back, &err));
    assert_memory_equal(rows, back, sizeof rows);
    OK(coh_archive_get_rows(a, "r", COH_T_F64, ROWS, 1, (size_t[]){ROW}, 20, 9, back,
                            &err));
    assert_memory_equal(rows[20], back, 9 * sizeof back[0]);
    OK(coh_archive_get(a, "r", COH_T_F64, 2, (size_t[]){ROWS, ROW}, back, &err));
    assert_memory_equal(rows, back, sizeof rows);
    OK(coh_archive_commit(a, &err));
  }
  coh_archive_tune = old;
}

/* More rows than checksums fit in an attribute of HDF5's oldest format (64 KiB). */
static void test_a_hundred_thousand_rows(void **state) {
  (void)state;
  enum { ROWS = 100000 };
  uint32_t *rows, *back;
  coh_archive *a;
  OK(coh_alloc(&rows, ROWS, sizeof *rows, &err));
  OK(coh_alloc(&back, ROWS, sizeof *back, &err));
  for (uint32_t i = 0; i < ROWS; i++) rows[i] = i * 2654435761u;
  OK(coh_archive_create(scratch("many.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_put_rows(a, "r", COH_T_U32, ROWS, 0, NULL, 0, ROWS, rows, &err));
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("many.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_get_rows(a, "r", COH_T_U32, ROWS, 0, NULL, 0, ROWS, back, &err));
  assert_memory_equal(rows, back, ROWS * sizeof *rows);
  OK(coh_archive_commit(a, &err));
  free(rows);
  free(back);
}

static void test_equal_data_give_equal_bytes(void **state) {
  (void)state;
  char *one, *two;
  size_t n1, n2;
  write_example(scratch("one.h5"));
  sleep(
      1); /* HDF5 stamps objects with the second they were made in, unless told not to */
  write_example(scratch("two.h5"));
  OK(coh_file_read(scratch("one.h5"), &one, &n1, &err));
  OK(coh_file_read(scratch("two.h5"), &two, &n2, &err));
  assert_int_equal(n1, n2);
  assert_memory_equal(one, two, n1);
  free(one);
  free(two);
}

static int python(const char *program) {
  char command[2048];
  snprintf(command, sizeof command, "cd '%s' && /usr/bin/python3 -c \"%s\"",
           scratch_folder, program);
  return system(command);
}

static void test_opens_with_h5py(void **state) {
  (void)state;
  if (python("import h5py") != 0) skip();
  write_example(scratch("a.h5"));
  assert_int_equal(
      python("import h5py, zlib, numpy as np\n"
             "f = h5py.File('a.h5')\n"
             "assert list(f) == ['deep', 'note', 'rows', 'w'], list(f)\n"
             "assert f['w'][:].tolist()[1] == [1e300, 0.1, -0.0]\n"
             "assert f['w'].dtype == np.float64\n"
             "assert f['deep/er/i'][:].tolist() == [1, -2, 2**31-1, -2**31]\n"
             "assert f['rows'].shape == (5, 2)\n"
             "assert f['note'].asstr()[()] == 'na\\u00efve'\n"
             "assert f.attrs['cohort_format'] == 3\n"
             "kind = f.attrs['cohort_kind']\n"
             "assert kind in ('example', b'example'), kind\n"
             "crc = [zlib.crc32(r) for r in f['rows'][:]]\n"
             "assert f['rows'].attrs['crc32'].tolist() == crc\n"
             "assert f['w'].attrs['crc32'] == zlib.crc32(f['w'][:])\n"),
      0);
}

/* ---- types and shapes that differ -------------------------------------------------- */

static void test_other_width_is_converted(void **state) {
  (void)state;
  coh_archive *a;
  double d[3] = {0.1, -1e300, 2}, d_back[3];
  float f_back[3];
  int64_t l[2] = {-5, 70000}, l_back[2];
  int32_t i_back[2];
  uint8_t b[3] = {0, 7, 255};
  uint64_t u_back[3];
  OK(coh_archive_create(scratch("c.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_put(a, "d", COH_T_F64, 1, (size_t[]){3}, d, &err));
  OK(coh_archive_put_rows(a, "l", COH_T_I64, 2, 0, NULL, 0, 2, l, &err));
  OK(coh_archive_put(a, "b", COH_T_U8, 1, (size_t[]){3}, b, &err));
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("c.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_get(a, "d", COH_T_F32, 1, (size_t[]){3}, f_back, &err));
  for (int i = 0; i < 3; i++) assert_true(f_back[i] == (float)d[i]);
  OK(coh_archive_get(a, "d", COH_T_F64, 1, (size_t[]){3}, d_back, &err));
  assert_memory_equal(d, d_back, sizeof d);
  OK(coh_archive_get_rows(a, "l", COH_T_I32, 2, 0, NULL, 0, 2, i_back, &err));
  assert_int_equal(i_back[0], -5);
  assert_int_equal(i_back[1], 70000);
  OK(coh_archive_get(a, "l", COH_T_I64, 1, (size_t[]){2}, l_back, &err));
  assert_int_equal(l_back[1], 70000);
  OK(coh_archive_get(a, "b", COH_T_U64, 1, (size_t[]){3}, u_back, &err));
  for (int i = 0; i < 3; i++) assert_int_equal(u_back[i], b[i]);
  assert_int_equal(coh_archive_get(a, "d", COH_T_I64, 1, (size_t[]){3}, l_back, &err),
                   COH_EDATA);
  says("holds float64, expected int64");
  assert_int_equal(coh_archive_get(a, "l", COH_T_U64, 1, (size_t[]){2}, u_back, &err),
                   COH_EDATA);
  OK(coh_archive_commit(a, &err));
}

static void test_integer_that_does_not_fit(void **state) {
  (void)state;
  coh_archive *a;
  int64_t l[2] = {1, INT64_C(1) << 40};
  int32_t back[2];
  OK(coh_archive_create(scratch("c.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_put(a, "l", COH_T_I64, 1, (size_t[]){2}, l, &err));
  OK(coh_archive_commit(a, &err));
  OK(coh_archive_open(scratch("c.h5"), "t", 1, SELF, &a, &err));
  assert_int_equal(coh_archive_get(a, "l", COH_T_I32, 1, (size_t[]){2}, back, &err),
                   COH_EDATA);
  says("c.h5");
  says("does not fit int32");
  OK(coh_archive_commit(a, &err));
}

static void test_wrong_shape_name_or_form(void **state) {
  (void)state;
  double w[20];
  char *text;
  write_example(scratch("a.h5"));
  coh_archive *a = open_example(scratch("a.h5"));
  assert_int_equal(coh_archive_get(a, "w", COH_T_F64, 2, (size_t[]){3, 2}, w, &err),
                   COH_EDATA);
  says("dataset 'w'");
  says("a.h5");
  says("holds [2, 3], expected [3, 2]");
  assert_int_equal(coh_archive_get(a, "w", COH_T_F64, 1, (size_t[]){6}, w, &err),
                   COH_EDATA);
  assert_int_equal(coh_archive_get(a, "x", COH_T_F64, 2, dims23, w, &err), COH_EDATA);
  says("no such dataset");
  assert_int_equal(coh_archive_get(a, "note", COH_T_F64, 0, NULL, w, &err), COH_EDATA);
  assert_int_equal(coh_archive_get_text(a, "w", &text, &err), COH_EDATA);
  assert_null(text);
  assert_int_equal(coh_archive_get_text(a, "x", &text, &err), COH_EDATA);
  assert_int_equal(coh_archive_get(a, "deep", COH_T_F64, 0, NULL, w, &err), COH_EDATA);
  assert_int_equal(
      coh_archive_get_rows(a, "w", COH_T_F64, 2, 1, (size_t[]){3}, 0, 1, w, &err),
      COH_EDATA);
  says("no checksums of single rows");
  assert_int_equal(
      coh_archive_get_rows(a, "rows", COH_T_F32, 5, 1, (size_t[]){2}, 4, 2, w, &err),
      COH_EBUG);
  OK(coh_archive_commit(a, &err));
}

static void test_wrong_kind_or_format(void **state) {
  (void)state;
  coh_archive *a;
  write_example(scratch("a.h5"));
  assert_int_equal(coh_archive_open(scratch("a.h5"), "model", 3, SELF, &a, &err),
                   COH_EDATA);
  assert_null(a);
  says("kind 'example', expected 'model'");
  assert_int_equal(coh_archive_open(scratch("a.h5"), "example", 2, SELF, &a, &err),
                   COH_EDATA);
  says("format 3");
}

static void test_rows_must_make_up_the_whole(void **state) {
  (void)state;
  coh_archive *a;
  double rows[3] = {0};
  OK(coh_archive_create(scratch("bad.h5"), "t", 1, SELF, &a, &err));
  assert_int_equal(coh_archive_put_rows(a, "r", COH_T_F64, 4, 0, NULL, 0, 3, rows, &err),
                   COH_EBUG);
  assert_int_equal(coh_archive_commit(a, &err), COH_EIO); /* one failed: not kept */
  assert_false(coh_file_exists(scratch("bad.h5")));
  assert_false(coh_file_exists(scratch(".bad.h5.tmp")));
}

static void test_a_name_given_twice(void **state) {
  (void)state;
  coh_archive *a;
  OK(coh_archive_create(scratch("bad.h5"), "t", 1, SELF, &a, &err));
  OK(coh_archive_put(a, "w", COH_T_F64, 2, dims23, six, &err));
  assert_int_equal(coh_archive_put(a, "w", COH_T_F64, 2, dims23, six, &err), COH_EIO);
  says("exists");
  coh_archive_abandon(a);
  assert_false(coh_file_exists(scratch(".bad.h5.tmp")));
}

/* ---- damaged files ----------------------------------------------------------------- */

static void test_missing_file_and_folder(void **state) {
  (void)state;
  coh_archive *a;
  assert_int_equal(coh_archive_open(scratch("no.h5"), "t", 1, SELF, &a, &err), COH_EIO);
  says("no.h5");
  says("No such file");
  assert_int_equal(coh_archive_create(scratch("no/no.h5"), "t", 1, SELF, &a, &err),
                   COH_EIO);
  says("No such file");
  assert_null(a);
}

static void test_a_file_of_something_else(void **state) {
  (void)state;
  coh_archive *a;
  static const char *const texts[] = {"", "x", "this is not HDF5, nor was it ever\n",
                                      "\x89HDF\r\n\x1a\n",
                                      "\x89HDF\r\n\x1a\n\x02\x08\x08"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    OK(coh_file_write(scratch("g.h5"), texts[i], strlen(texts[i]), &err));
    assert_int_equal(coh_archive_open(scratch("g.h5"), "t", 1, SELF, &a, &err),
                     COH_EDATA);
    says("g.h5");
  }
  assert_int_equal(mkdir(scratch("folder.h5"), 0777), 0);
  assert_int_not_equal(coh_archive_open(scratch("folder.h5"), "t", 1, SELF, &a, &err), 0);
  if (python("import h5py; f = h5py.File('g.h5', 'w'); f['x'] = [1]") != 0) skip();
  assert_int_equal(coh_archive_open(scratch("g.h5"), "t", 1, SELF, &a, &err), COH_EDATA);
  says("not one of cohort's");
}

static void test_truncated_anywhere(void **state) {
  (void)state;
  char *bytes;
  size_t n;
  write_example(scratch("a.h5"));
  OK(coh_file_read(scratch("a.h5"), &bytes, &n, &err));
  for (size_t keep = 0; keep < n; keep += keep < 64 || keep > n - 64 ? 1 : 61) {
    write_bytes(scratch("t.h5"), bytes, keep);
    assert_int_equal(read_example(scratch("t.h5")), COH_EDATA);
  }
  free(bytes);
}

/* Whatever byte is flipped: an error, or a byte that means nothing; never another value.
 */
static void test_any_flipped_byte(void **state) {
  (void)state;
  char *bytes;
  size_t n, found = 0;
  write_example(scratch("a.h5"));
  OK(coh_file_read(scratch("a.h5"), &bytes, &n, &err));
  for (size_t i = 0; i < n; i++) {
    bytes[i] = (char)~bytes[i];
    write_bytes(scratch("f.h5"), bytes, n);
    int rc = read_example(scratch("f.h5"));
    assert_true(rc == COH_OK || rc == COH_EDATA);
    found += rc != COH_OK;
    bytes[i] = (char)~bytes[i];
  }
  assert_true(found > n / 2);
  free(bytes);
}

static void test_flipped_row_is_named_and_others_are_read(void **state) {
  (void)state;
  char *bytes;
  size_t n;
  float row[2], want[2] = {6.0f / 3, 7.0f / 3};
  write_example(scratch("a.h5"));
  OK(coh_file_read(scratch("a.h5"), &bytes, &n, &err));
  char *at = memmem(bytes, n, want, sizeof want); /* row 3 */
  assert_non_null(at);
  at[1] = (char)(at[1] ^ 4);
  OK(coh_file_write(scratch("f.h5"), bytes, n, &err));
  free(bytes);
  coh_archive *a = open_example(scratch("f.h5"));
  OK(coh_archive_get_rows(a, "rows", COH_T_F32, 5, 1, (size_t[]){2}, 2, 1, row, &err));
  assert_int_equal(
      coh_archive_get_rows(a, "rows", COH_T_F32, 5, 1, (size_t[]){2}, 3, 1, row, &err),
      COH_EDATA);
  says("dataset 'rows'");
  says("wrong checksum of row 3");
  coh_archive_abandon(a);
}

/* ---- a disk that is full ----------------------------------------------------------- */

/* Writes the example and `bytes` more over `path`, which holds an old example, or over
 * nothing; expects COH_EIO, and the folder as before. */
static void check_full(const char *folder, const char *path, size_t bytes, bool in_rows) {
  coh_archive *a;
  uint8_t *data;
  int before = scratch_count(folder);
  OK(coh_alloc(&data, bytes, 1, &err));
  OK(coh_archive_create(path, "example", 3, SELF, &a, &err));
  put_example(a);
  int rc = in_rows ? coh_archive_put_rows(a, "big", COH_T_U8, 16, 1,
                                          (size_t[]){bytes / 16}, 0, 16, data, &err)
                   : coh_archive_put(a, "big", COH_T_U8, 1, &bytes, data, &err);
  if (rc == COH_OK)
    rc = coh_archive_commit(a, &err);
  else
    coh_archive_abandon(a);
  assert_int_equal(rc, COH_EIO);
  assert_int_equal(scratch_count(folder), before);
  free(data);
}

/* With and without the space being reserved first. */
static void check_full_disk(const char *folder, const char *path, size_t bytes) {
  coh_archive_tuning old = coh_archive_tune;
  for (int k = 0; k < 4; k++) {
    coh_archive_tune.reserve = k < 2;
    check_full(folder, path, bytes, k % 2);
    OK(read_example(path)); /* the old file is untouched */
  }
  coh_archive_tune = old;
}

static void test_full_disk(void **state) {
  (void)state;
  char folder[300], path[320];
  snprintf(folder, sizeof folder, "%s", scratch("full"));
  snprintf(path, sizeof path, "%s/a.h5", folder);
  assert_int_equal(mkdir(folder, 0777), 0);
  if (mount("none", folder, "tmpfs", 0, "size=1m") != 0) skip();
  write_example(path);
  check_full_disk(folder, path, 2 << 20);
  /* so little room that HDF5's own structures do not fit either */
  char *fill = calloc(1, 1 << 20);
  FILE *f = fopen(scratch("full/fill"), "wb");
  setvbuf(f, NULL, _IONBF, 0);
  for (int i = 0; i < 256; i++) (void)!fwrite(fill, 4096, 1, f);
  fclose(f);
  free(fill);
  coh_archive *a;
  for (int k = 0; k < 2; k++) {
    coh_archive_tune.reserve = k;
    int rc = coh_archive_create(path, "example", 3, SELF, &a, &err);
    if (rc == COH_OK) rc = coh_archive_commit(a, &err);
    assert_int_equal(rc, COH_EIO);
    OK(read_example(path));
    assert_int_equal(scratch_count(folder), 2);
  }
  umount2(folder, MNT_DETACH);
}

static void test_file_size_limit(void **state) {
  (void)state;
  struct rlimit old, low = {.rlim_cur = 1 << 20};
  char folder[300], path[320];
  snprintf(folder, sizeof folder, "%s", scratch("limit"));
  snprintf(path, sizeof path, "%s/a.h5", folder);
  assert_int_equal(mkdir(folder, 0777), 0);
  write_example(path);
  getrlimit(RLIMIT_FSIZE, &old);
  low.rlim_max = old.rlim_max;
  setrlimit(RLIMIT_FSIZE, &low);
  check_full(folder, path, 2 << 20, true);
  setrlimit(RLIMIT_FSIZE, &old);
  says("File too large");
  OK(read_example(path));
}

/* What is reserved and not needed is given back. */
static void test_no_space_is_kept(void **state) {
  (void)state;
  struct stat st;
  write_example(scratch("a.h5"));
  assert_int_equal(stat(scratch("a.h5"), &st), 0);
  assert_true(st.st_blocks * 512 < st.st_size + 16384);
}

static void test_abandon_leaves_the_old_file(void **state) {
  (void)state;
  coh_archive *a;
  write_example(scratch("a.h5"));
  OK(coh_archive_create(scratch("a.h5"), "other", 1, SELF, &a, &err));
  OK(coh_archive_put(a, "w", COH_T_F64, 2, dims23, six, &err));
  assert_true(coh_file_exists(scratch(".a.h5.tmp")));
  coh_archive_abandon(a);
  assert_false(coh_file_exists(scratch(".a.h5.tmp")));
  OK(read_example(scratch("a.h5")));
}

/* After all that went wrong above. The leak sanitizer does not see handles of HDF5. */
static void test_no_handle_stays_open(void **state) {
  (void)state;
  assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_every_type),
      cmocka_unit_test(test_numbers_texts_and_arrays_of_nothing),
      cmocka_unit_test(test_rows_cross_piece_borders),
      cmocka_unit_test(test_a_hundred_thousand_rows),
      cmocka_unit_test(test_equal_data_give_equal_bytes),
      cmocka_unit_test(test_opens_with_h5py),
      cmocka_unit_test(test_other_width_is_converted),
      cmocka_unit_test(test_integer_that_does_not_fit),
      cmocka_unit_test(test_wrong_shape_name_or_form),
      cmocka_unit_test(test_wrong_kind_or_format),
      cmocka_unit_test(test_rows_must_make_up_the_whole),
      cmocka_unit_test(test_a_name_given_twice),
      cmocka_unit_test(test_missing_file_and_folder),
      cmocka_unit_test(test_a_file_of_something_else),
      cmocka_unit_test(test_truncated_anywhere),
      cmocka_unit_test(test_any_flipped_byte),
      cmocka_unit_test(test_flipped_row_is_named_and_others_are_read),
      cmocka_unit_test(test_full_disk),
      cmocka_unit_test(test_file_size_limit),
      cmocka_unit_test(test_no_space_is_kept),
      cmocka_unit_test(test_abandon_leaves_the_old_file),
      cmocka_unit_test(test_no_handle_stays_open),
  };
  MPI_Init(NULL, NULL);
  int failed = cmocka_run_group_tests(tests, scratch_make, scratch_remove);
  MPI_Finalize();
  return failed != 0;
}
