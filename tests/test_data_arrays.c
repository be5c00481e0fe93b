/* test_data_arrays.c - the room src/data, arrays: .npy, .npz and HDF5 files written by
 * NumPy and h5py (tests/make_arrays.py, run once here) or damaged here, query sets and
 * masks.
 */
#include "cohort/data.h"

#include <setjmp.h>
#include <cmocka.h>
#include <math.h>

#include "data/array.h"
#include "scratch.h"

static coh_error err;

static void ok(int rc) {
  if (rc != COH_OK) fail_msg("%s", err.text);
}

/* The call failed with `code`, and its message holds each of the two texts. */
static void refused(int rc, int code, const char *a, const char *b) {
  assert_int_equal(rc, code);
  assert_int_equal(err.code, code);
  if (!strstr(err.text, a) || !strstr(err.text, b))
    fail_msg("expected '%s' and '%s' in: %s", a, b, err.text);
}

static int make_arrays(void **state) {
  char command[1024];
  const char *python = getenv("PYTHON");
  if (scratch_make(state) != 0) return -1;
  snprintf(command, sizeof command, "%s tests/make_arrays.py '%s'",
           python && *python ? python : "/usr/bin/python3", scratch_folder);
  return system(command);
}

/* ---- .npy ---------------------------------------------------------------------------
 */

static const char *const TYPES[] = {"f2", "f4", "f8", "i1", "i2", "i4",
                                    "i8", "u1", "u2", "u4", "u8", "b1"};

/* Element i of the table that make_arrays.py writes. */
static double table(char kind, size_t i) {
  double v = (double)i;
  if (kind == 'f') return (v - 6) / 4;
  if (kind == 'i') return v - 6;
  return kind == 'b' ? fmod(v, 2) : v;
}

static void check_table(const char *path, const char *name, char kind) {
  coh_array a;
  ok(coh_array_read(path, name, &a, &err));
  assert_int_equal(a.ndim, 2);
  assert_int_equal(a.dim[0], 3);
  assert_int_equal(a.dim[1], 4);
  for (size_t i = 0; i < 12; i++) assert_true(a.data[i] == table(kind, i));
  coh_array_free(&a);
  assert_null(a.data);
}

static void test_npy_types_and_byte_orders(void **state) {
  (void)state;
  char name[32];
  for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
    for (int high = 0; high < 2; high++) {
      snprintf(name, sizeof name, "%s%s.npy", TYPES[i], high ? "b" : "l");
      check_table(scratch(name), NULL, TYPES[i][0]);
    }
}

/* 0, 1, 2 ... in C order, whatever the order in the file. */
static void check_counting(const char *path, const char *name, size_t ndim,
                           size_t total) {
  coh_array a;
  ok(coh_array_read(path, name, &a, &err));
  assert_int_equal(a.ndim, ndim);
  assert_int_equal(coh_array_count(&a), total);
  for (size_t i = 0; i < total; i++) assert_true(a.data[i] == (double)i);
  coh_array_free(&a);
}

static void test_npy_versions_and_orders(void **state) {
  (void)state;
  check_counting(scratch("v1.npy"), NULL, 3, 24);
  check_counting(scratch("v2.npy"), NULL, 3, 24);
  check_counting(scratch("v3.npy"), "ignored", 3, 24);
  check_counting(scratch("fortran.npy"), NULL, 3, 24);
  check_counting(scratch("fortran32.npy"), NULL, 2, 12);
  check_counting(scratch("large.npy"), NULL, 2, 20000);
}

static void check_values(const char *file, size_t n, const double *want) {
  coh_array a;
  ok(coh_array_read(scratch(file), NULL, &a, &err));
  assert_int_equal(coh_array_count(&a), n);
  for (size_t i = 0; i < n; i++)
    if (isnan(want[i]))
      assert_true(isnan(a.data[i]));
    else
      assert_true(a.data[i] == want[i] && !signbit(a.data[i]) == !signbit(want[i]));
  coh_array_free(&a);
}

static void test_npy_special_values(void **state) {
  (void)state;
  const double inf = (double)INFINITY;
  check_values("halves.npy", 10,
               (double[]){0, -0.0, ldexp(1, -24), ldexp(1023, -24), ldexp(1, -14), 65504,
                          inf, -inf, (double)NAN, -1});
  check_values("ends.npy", 2, (double[]){-ldexp(1, 63), ldexp(1, 63)});
  check_values("top.npy", 1, (double[]){ldexp(1, 64)});
  check_values("one.npy", 1, (double[]){2.5});
  check_values("empty.npy", 0, NULL);
}

static void array_refused(const char *path, const char *name, const char *text) {
  coh_array a;
  refused(coh_array_read(path, name, &a, &err), COH_EDATA, path, text);
  assert_null(a.data);
}

/* A version 1 array of this header, followed by `n` bytes. */
static const char *npy(const char *header, size_t n) {
  uint8_t data[512] = "\x93NUMPY\x01";
  size_t len = strlen(header);
  const char *path = scratch("made.npy");
  assert_true(10 + len + n < sizeof data);
  data[8] = (uint8_t)len;
  memcpy(data + 10, header, len);
  ok(coh_file_write(path, data, 10 + len + n, &err));
  return path;
}

static void header_refused(const char *header, const char *text) {
  array_refused(npy(header, 16), NULL, text);
}

static void test_npy_refused_types(void **state) {
  (void)state;
  array_refused(scratch("complex.npy"), NULL, "expected a type such as '<f8'");
  array_refused(scratch("text.npy"), NULL, ": holds text, expected numbers");
  header_refused("{'descr': '|S3', ", "made.npy: holds text, expected numbers");
  header_refused("{'descr': '|O', ", "holds Python objects, expected numbers");
  header_refused("{'descr': '|V8', ", "expected a type such as '<f8'");
  array_refused(scratch("fields.npy"), NULL, "expected a type such as '<f8'");
  array_refused(scratch("long.npy"), NULL, "expected a type such as '<f8'");
  array_refused(scratch("five.npy"), NULL, "expected at most 4 dimensions");
}

static void test_npy_headers(void **state) {
  (void)state;
  coh_array a;
  ok(coh_array_read(npy("{'shape':(2,),'descr':'<f8','fortran_order':False}", 16), NULL,
                    &a, &err));
  coh_array_free(&a);
  header_refused("", "expected '{'");
  header_refused("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)", "found ''");
  header_refused("{'descr': '<f8', 'fortran_order': False}", "expected each of");
  header_refused("{'descr': '<f8', 'fortran_order': Maybe, 'shape': (2,)}",
                 "found 'Maybe");
  header_refused("{'descr': '<f8', 'colour': 1}", "expected 'descr', ");
  header_refused("{'descr': '<f8' 'shape': (2,)}", "expected ',' or '}'");
  header_refused("{'descr': '<f8', 'shape': (-2,)}", "expected a dimension");
  header_refused("{'descr': '<f8', 'shape': (2 2)}", "expected ',' or ')'");
  header_refused("{'descr': '<f8', 'shape': 2}", "expected a shape");
  header_refused("{'descr': '<f8", "expected a type");
  header_refused("{'descr': '<f", "expected a type");
  header_refused("{'descr': '<f3'}", "expected a type");
  header_refused("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}",
                 "after byte 65, found 16");
  header_refused("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}",
                 "expected its end at byte 73, found trailing bytes");
  header_refused("{'descr': '<f8', 'fortran_order': True, "
                 "'shape': (4294967296, 4294967296)}",
                 "its shape is too large");
  header_refused("{'descr': '<f8', 'fortran_order': False, "
                 "'shape': (99999999999999999999999,)}",
                 "its shape is too large");
}

/* Every proper beginning of the file is refused, and nothing leaks. */
static void beginnings_refused(const char *file, const char *name, size_t step) {
  char *data = NULL;
  size_t n = 0;
  const char *path = scratch("beginning");
  ok(coh_file_read(scratch(file), &data, &n, &err));
  for (size_t cut = 0; cut < n; cut += step) {
    coh_array a;
    ok(coh_file_write(path, data, cut, &err));
    refused(coh_array_read(path, name, &a, &err), COH_EDATA, path, "");
  }
  free(data);
}

static void test_npy_truncated(void **state) {
  (void)state;
  beginnings_refused("f4l.npy", NULL, 1);
  beginnings_refused("v3.npy", NULL, 1);
}

static void test_unknown_formats(void **state) {
  (void)state;
  coh_array a;
  const char *path = scratch("unknown");
  ok(coh_file_write(path, "1,2,3\n", 6, &err));
  array_refused(path, NULL, "expected a .npy, .npz or HDF5 file");
  ok(coh_file_write(path, "", 0, &err));
  array_refused(path, NULL, "found an empty file");
  refused(coh_array_read(scratch("missing.npy"), NULL, &a, &err), COH_EIO, "missing.npy",
          "No such file");
  refused(coh_array_read(scratch_folder, NULL, &a, &err), COH_EIO, scratch_folder, "");
}

/* ---- .npz ---------------------------------------------------------------------------
 */

static void check_y(const char *file) {
  coh_array a;
  ok(coh_array_read(scratch(file), "Y", &a, &err));
  for (size_t i = 0; i < 3; i++) assert_true(a.data[i] == (double)i + 1);
  coh_array_free(&a);
}

static void test_npz(void **state) {
  (void)state;
  const char *const files[] = {"stored.npz", "deflated.npz", "zip64.npz", "xy.h5"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    check_counting(scratch(files[i]), "X", 2, 6);
    check_y(files[i]);
  }
  check_counting(scratch("stored.npz"), "X.npy", 2, 6);
  check_counting(scratch("deflated.npz"), "big", 1, 50000);
  check_counting(scratch("only_x.npz"), NULL, 2, 6);
  check_counting(scratch("comment.npz"), "X", 3, 24);
}

static void test_npz_names(void **state) {
  (void)state;
  bool has = true;
  array_refused(scratch("deflated.npz"), "Z", "it holds: X.npy, Y.npy, big.npy");
  array_refused(scratch("deflated.npz"), "X.", "expected one array X., found 0");
  array_refused(scratch("stored.npz"), NULL, "expected one array in it, found 2");
  array_refused(scratch("nothing.npz"), NULL, "it holds: nothing");
  array_refused(scratch("bzip2.npz"), "X",
                "expected it stored or deflated, found method 12");
  ok(coh_array_has(scratch("stored.npz"), "Z", &has, &err));
  assert_false(has);
  ok(coh_array_has(scratch("stored.npz"), "Y", &has, &err));
  assert_true(has);
  ok(coh_array_has(scratch("v1.npy"), "Y", &has, &err));
  assert_false(has);
}

static void test_npz_truncated(void **state) {
  (void)state;
  beginnings_refused("stored.npz", "X", 1);
  beginnings_refused("deflated.npz", "big", 97);
  beginnings_refused("zip64.npz", "X", 1);
}

/* Any changed bit is refused or changes nothing: the sum of the content stands above it.
 */
static void flips_are_seen(const char *file) {
  char *data = NULL;
  size_t n = 0, seen = 0;
  const char *path = scratch("flipped.npz");
  ok(coh_file_read(scratch(file), &data, &n, &err));
  for (size_t bit = 0; bit < 8 * n; bit++) {
    coh_array a;
    data[bit / 8] ^= (char)(1 << bit % 8);
    ok(coh_file_write(path, data, n, &err));
    if (coh_array_read(path, "X", &a, &err) == COH_OK) {
      assert_int_equal(coh_array_count(&a), 6);
      for (size_t i = 0; i < 6; i++) assert_true(a.data[i] == (double)i);
      coh_array_free(&a);
    } else {
      assert_int_equal(err.code, COH_EDATA);
      seen++;
    }
    data[bit / 8] ^= (char)(1 << bit % 8);
  }
  assert_true(seen > n);
  free(data);
}

static void test_npz_flipped_bits(void **state) {
  (void)state;
  flips_are_seen("stored.npz");
  flips_are_seen("zip64.npz");
}

/* ---- HDF5 ---------------------------------------------------------------------------
 */

static void test_hdf5_types_and_byte_orders(void **state) {
  (void)state;
  char name[8];
  for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
    for (int high = 0; high < 2; high++) {
      snprintf(name, sizeof name, "%s%s", TYPES[i], high ? "b" : "l");
      check_table(scratch("all.h5"), name, TYPES[i][0]);
    }
}

static void test_hdf5_shapes_and_names(void **state) {
  (void)state;
  coh_array a;
  const char *path = scratch("all.h5");
  check_counting(path, "group/inner", 3, 24);
  check_counting(path, "/group/inner", 3, 24);
  check_counting(path, "packed", 2, 5000);
  check_counting(path, "empty", 2, 0);
  ok(coh_array_read(path, "scalar", &a, &err));
  assert_int_equal(a.ndim, 0);
  assert_true(a.data[0] == 2.5);
  coh_array_free(&a);
}

static void test_hdf5_refusals(void **state) {
  (void)state;
  bool has = true;
  const char *path = scratch("all.h5"), *none = scratch("none.h5");
  array_refused(path, "group", "group is a group, expected a data set");
  array_refused(path, "absent", "expected a data set absent; it holds: ");
  array_refused(path, "missing/inner", "expected a data set missing/inner");
  array_refused(path, "", "expected a data set");
  array_refused(path, NULL, "expected a single data set");
  array_refused(path, "five", "expected at most 4 dimensions, found 5");
  array_refused(path, "complex", "expected float, integer or bool");
  array_refused(path, "text", "expected float, integer or bool");
  array_refused(path, "void", "shape");
  array_refused(none, "X", "X is a group, expected a data set");
  array_refused(none, "Z", "it holds: none");
  ok(coh_array_has(none, "X", &has, &err));
  assert_false(has);
  ok(coh_array_has(scratch("xy.h5"), "Y", &has, &err));
  assert_true(has);
}

static void test_hdf5_damaged(void **state) {
  (void)state;
  char *data = NULL;
  size_t n = 0;
  const char *path = scratch("damaged.h5");
  beginnings_refused("all.h5", "packed", 499);
  ok(coh_file_read(scratch("all.h5"), &data, &n, &err));
  memset(data + n / 2, 0xff, n / 2);
  ok(coh_file_write(path, data, n, &err));
  array_refused(path, "packed", "");
  free(data);
}

/* ---- query sets ---------------------------------------------------------------------
 */

static coh_config cfg;
static coh_dataset set;

static void ask(const char *datagen, const char *file) {
  memset(&cfg, 0, sizeof cfg);
  snprintf(cfg.query.datagen, sizeof cfg.query.datagen, "%s", datagen);
  if (file) snprintf(cfg.query.file, sizeof cfg.query.file, "%s", scratch(file));
  snprintf(cfg.query.distribution, sizeof cfg.query.distribution, "normal");
  cfg.query.samples = 50;
  cfg.query.range = 2;
  cfg.query.grid_points = 5;
  cfg.query.seed = 3;
}

static double x_at(size_t i) {
  return coh_get(set.dtype, set.x, i);
}

static void test_query_random(void **state) {
  (void)state;
  ask("random", NULL);
  ok(coh_query_load(&cfg, 3, COH_F64, &set, &err));
  assert_int_equal(set.n, 50);
  assert_int_equal(set.d_in, 3);
  assert_int_equal(set.shape[0], 3);
  assert_int_equal(set.shape[1], 1);
  assert_int_equal(set.n_out, 0);
  assert_null(set.y);
  assert_null(set.labels);
  for (size_t i = 0; i < 150; i++)
    assert_true(x_at(i) == coh_random_normal(3, COH_RNG_QUERY, 0, i));
  coh_dataset_free(&set);
}

static void test_query_uniform(void **state) {
  (void)state;
  double sum = 0, most = 0;
  ask(" random + random ", NULL);
  cfg.query.samples = 2000;
  snprintf(cfg.query.distribution, sizeof cfg.query.distribution, "uniform");
  ok(coh_query_load(&cfg, 5, COH_F32, &set, &err));
  assert_int_equal(set.n, 4000);
  for (size_t i = 0; i < 20000; i++) {
    sum += x_at(i);
    most = fmax(most, fabs(x_at(i)));
  }
  assert_true(most <= 2 && most > 1.99 && fabs(sum / 20000) < 0.05);
  assert_true(x_at(0) != x_at(10000)); /* the second policy draws its own */
  coh_dataset_free(&set);
}

static void test_query_grid(void **state) {
  (void)state;
  const double axis[] = {-2, -1, 0, 1, 2};
  ask("grid", NULL);
  ok(coh_query_load(&cfg, 3, COH_F32, &set, &err));
  assert_int_equal(set.n, 125);
  for (size_t i = 0; i < 125; i++) {
    assert_true(x_at(3 * i) == axis[i / 25]);
    assert_true(x_at(3 * i + 1) == axis[i / 5 % 5]);
    assert_true(x_at(3 * i + 2) == axis[i % 5]);
  }
  coh_dataset_free(&set);
  cfg.query.grid_points = 1;
  ok(coh_query_load(&cfg, 40, COH_F32, &set, &err));
  assert_int_equal(set.n, 1);
  for (size_t i = 0; i < 40; i++) assert_true(x_at(i) == 0);
  coh_dataset_free(&set);
}

static void query_refused(size_t d_in, int code, const char *a, const char *b) {
  refused(coh_query_load(&cfg, d_in, COH_F32, &set, &err), code, a, b);
  assert_null(set.x);
  assert_null(set.y);
}

static void test_query_refusals(void **state) {
  (void)state;
  ask("grid", NULL);
  query_refused(0, COH_EUSAGE, "grid needs a teacher", "");
  query_refused(12, COH_EUSAGE, "5 points on each of 12 axes", "67108864");
  query_refused(SIZE_MAX, COH_EUSAGE, "query.grid_points", "67108864");
  ask("random", NULL);
  query_refused(0, COH_EUSAGE, "random needs a teacher", "");
  query_refused(SIZE_MAX, COH_EUSAGE, "values per sample are too many", "");
  cfg.query.samples = 0;
  query_refused(3, COH_EUSAGE, "query.samples", "found 0");
  cfg.query.samples = INT64_MAX;
  query_refused(3, COH_EUSAGE, "too many", "");
  ask("random++grid", NULL);
  query_refused(2, COH_EUSAGE, "no policy is called ''", "random, grid, file");
  ask("mnist+rnadom", NULL);
  query_refused(784, COH_EUSAGE, "no policy is called 'rnadom'", "fashion_mnist");
  ask("", NULL);
  query_refused(784, COH_EUSAGE, "no policy is called ''", "");
  ask("file", NULL);
  query_refused(2, COH_EUSAGE, "query.file", "");
}

static void test_query_file(void **state) {
  (void)state;
  const char *const files[] = {"stored.npz", "xy.h5", "vector_y.npz"};
  for (int dtype = COH_F32; dtype <= COH_F64; dtype++)
    for (size_t f = 0; f < 3; f++) {
      ask("file", files[f]);
      ok(coh_query_load(&cfg, f ? 2 : 0, (coh_dtype)dtype, &set, &err));
      assert_int_equal(set.n, 3);
      assert_int_equal(set.d_in, 2);
      assert_int_equal(set.n_out, 1);
      for (size_t i = 0; i < 6; i++) assert_true(x_at(i) == (double)i);
      for (size_t i = 0; i < 3; i++)
        assert_true(coh_get(set.dtype, set.y, i) == (double)i + 1);
      coh_dataset_free(&set);
    }
}

static void test_query_file_without_targets(void **state) {
  (void)state;
  ask("file", "only_x.npz");
  ok(coh_query_load(&cfg, 0, COH_F64, &set, &err));
  assert_null(set.y);
  assert_int_equal(set.n_out, 0);
  coh_dataset_free(&set);
  ask("file", "f4l.npy");
  ok(coh_query_load(&cfg, 4, COH_F64, &set, &err));
  assert_int_equal(set.n, 3);
  coh_dataset_free(&set);
}

static void test_query_file_shapes(void **state) {
  (void)state;
  ask("file", "images.npz");
  ok(coh_query_load(&cfg, 12, COH_F32, &set, &err));
  assert_int_equal(set.shape[0], 3);
  assert_int_equal(set.shape[2], 2);
  coh_dataset_free(&set);
  ask("random + file", "gray.npz");
  ok(coh_query_load(&cfg, 0, COH_F32, &set, &err));
  assert_int_equal(set.n, 52);
  assert_int_equal(set.shape[0], 1);
  assert_int_equal(set.shape[1], 4);
  assert_true(x_at(50 * 12) == 1 && x_at(0) != 1);
  coh_dataset_free(&set);
  ask("file", "top.npy");
  ok(coh_query_load(&cfg, 1, COH_F32, &set, &err));
  coh_dataset_free(&set);
}

static void test_query_file_refusals(void **state) {
  (void)state;
  ask("file", "nan_x.npz");
  query_refused(0, COH_EDATA, "nan_x.npz: X",
                "row 2, column 1 (counted from 0), found nan");
  ask("file", "inf_y.npz");
  query_refused(0, COH_EDATA, "inf_y.npz: Y",
                "row 1, column 0 (counted from 0), found inf");
  ask("file", "huge_x.npz");
  query_refused(0, COH_EDATA, "finite float32 number at row 0, column 1", "1e+300");
  ask("file", "long_y.npz");
  query_refused(0, COH_EDATA, "long_y.npz: Y", "X has 3 rows, found 2 dimensions and 4");
  ask("file", "empty.npy");
  query_refused(0, COH_EDATA, "empty.npy: X", "found none");
  ask("file", "one.npy");
  query_refused(0, COH_EDATA, "one.npy: X", "found none");
  ask("file", "missing.h5");
  query_refused(0, COH_EIO, "missing.h5", "No such file");
  ask("file", "stored.npz");
  query_refused(5, COH_EUSAGE, "expected 5 values per sample", "found 2 in file");
}

static void test_query_joins_targets_only_if_all_have_them(void **state) {
  (void)state;
  ask("file+file", "stored.npz");
  ok(coh_query_load(&cfg, 0, COH_F64, &set, &err));
  assert_int_equal(set.n, 6);
  assert_true(((double *)set.y)[5] == 3);
  coh_dataset_free(&set);
  ask("file+grid", "stored.npz");
  ok(coh_query_load(&cfg, 0, COH_F64, &set, &err));
  assert_int_equal(set.n, 3 + 25);
  assert_null(set.y);
  assert_true(x_at(5) == 5 && x_at(6) == -2 && x_at(55) == 2);
  coh_dataset_free(&set);
}

/* Rows of `set` from `row` on are the images of the named set, in their own order. */
static void check_images(const char *name, size_t row, const uint32_t *perm, size_t n) {
  coh_dataset d;
  ok(coh_dataset_load(name, "", true, COH_F32, &d, &err));
  for (size_t i = 0; i < n; i++)
    assert_memory_equal((float *)set.x + (row + i) * 784,
                        (float *)d.x + (perm ? perm[i] : i) * 784, 784 * sizeof(float));
  coh_dataset_free(&d);
}

static void test_query_images(void **state) {
  (void)state;
  uint32_t *perm = NULL;
  ok(coh_alloc(&perm, 60000, sizeof *perm, &err));
  ask("fashion_mnist", NULL);
  ok(coh_query_load(&cfg, 784, COH_F32, &set, &err));
  assert_int_equal(set.n, 60000);
  assert_null(set.labels);
  assert_int_equal(set.n_out, 0);
  check_images("fashion_mnist", 0, NULL, 60000);
  coh_dataset_free(&set);
  ask("mnist + fashion_mnist + random", NULL);
  cfg.query.subsample = 700;
  ok(coh_query_load(&cfg, 0, COH_F32, &set, &err));
  assert_int_equal(set.n, 1450);
  assert_int_equal(set.shape[1], 28);
  coh_random_permutation(3, COH_RNG_LABELS, 0, 60000, perm);
  check_images("mnist", 0, perm, 700);
  coh_random_permutation(3, COH_RNG_LABELS, 1, 60000, perm);
  check_images("fashion_mnist", 700, perm, 700);
  assert_true(x_at(1400 * 784) == (float)coh_random_normal(3, COH_RNG_QUERY, 2, 0));
  coh_dataset_free(&set);
  free(perm);
}

static void test_query_image_refusals(void **state) {
  (void)state;
  ask("fashion_mnist", NULL);
  query_refused(3072, COH_EUSAGE, "expected 3072 values", "found 784 in fashion_mnist");
  cfg.query.subsample = 60001;
  query_refused(784, COH_EUSAGE, "query.subsample: fashion_mnist has 60000", "60001");
  ask("fashion_mnist+file", "wide.npz");
  query_refused(0, COH_EUSAGE, "expected 784 values", "found 2352 in file");
  ask("fashion_mnist+file", "turned.npz");
  query_refused(0, COH_EUSAGE, "expected images of 1 x 28 x 28", "1 x 14 x 56 in file");
  ask("fashion_mnist+file", "digits.npz");
  ok(coh_query_load(&cfg, 784, COH_F32, &set, &err));
  assert_int_equal(set.n, 60002);
  assert_true(x_at(60001 * 784) == 1);
  coh_dataset_free(&set);
}

/* ---- masks --------------------------------------------------------------------------
 */

static void test_mask(void **state) {
  (void)state;
  float x[] = {1, 2, 3, 4, 1, 2, 5, 4, 1, 0, 3, 4};
  uint8_t mask[4];
  coh_dataset d = {.dtype = COH_F32, .n = 3, .d_in = 4, .x = x};
  ok(coh_mask_load("none", &d, mask, &err));
  assert_memory_equal(mask, ((uint8_t[]){1, 1, 1, 1}), 4);
  ok(coh_mask_load("auto", &d, mask, &err));
  assert_memory_equal(mask, ((uint8_t[]){0, 1, 1, 0}), 4);
  ok(coh_mask_load(scratch("flags.npz"), &d, mask, &err));
  assert_memory_equal(mask, ((uint8_t[]){0, 0, 1, 1}), 4);
  ok(coh_mask_load(scratch("flags.h5"), &d, mask, &err));
  assert_memory_equal(mask, ((uint8_t[]){0, 0, 1, 1}), 4);
}

static void test_mask_refusals(void **state) {
  (void)state;
  float x[24] = {0};
  uint8_t mask[24];
  coh_dataset d = {.dtype = COH_F32, .n = 1, .d_in = 24, .x = x};
  refused(coh_mask_load("auto", &d, mask, &err), COH_EDATA, "auto", "no component");
  refused(coh_mask_load(scratch("flags.h5"), &d, mask, &err), COH_EDATA,
          "expected a mask of 24 values", "found 4");
  refused(coh_mask_load(scratch("v1.npy"), &d, mask, &err), COH_EDATA, "v1.npy",
          "expected 0 or 1 at position 2 (counted from 0), found 2");
  refused(coh_mask_load("nowhere.npy", &d, mask, &err), COH_EIO, "nowhere.npy",
          "No such");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_npy_types_and_byte_orders),
      cmocka_unit_test(test_npy_versions_and_orders),
      cmocka_unit_test(test_npy_special_values),
      cmocka_unit_test(test_npy_refused_types),
      cmocka_unit_test(test_npy_headers),
      cmocka_unit_test(test_npy_truncated),
      cmocka_unit_test(test_unknown_formats),
      cmocka_unit_test(test_npz),
      cmocka_unit_test(test_npz_names),
      cmocka_unit_test(test_npz_truncated),
      cmocka_unit_test(test_npz_flipped_bits),
      cmocka_unit_test(test_hdf5_types_and_byte_orders),
      cmocka_unit_test(test_hdf5_shapes_and_names),
      cmocka_unit_test(test_hdf5_refusals),
      cmocka_unit_test(test_hdf5_damaged),
      cmocka_unit_test(test_query_random),
      cmocka_unit_test(test_query_uniform),
      cmocka_unit_test(test_query_grid),
      cmocka_unit_test(test_query_refusals),
      cmocka_unit_test(test_query_file),
      cmocka_unit_test(test_query_file_without_targets),
      cmocka_unit_test(test_query_file_shapes),
      cmocka_unit_test(test_query_file_refusals),
      cmocka_unit_test(test_query_joins_targets_only_if_all_have_them),
      cmocka_unit_test(test_query_images),
      cmocka_unit_test(test_query_image_refusals),
      cmocka_unit_test(test_mask),
      cmocka_unit_test(test_mask_refusals),
  };
  return cmocka_run_group_tests(tests, make_arrays, scratch_remove);
}
