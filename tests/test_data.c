/* test_data.c - the room src/data, named sets: reading IDX and CIFAR files good and bad,
 * edits, order. Fashion-MNIST comes from Debian's package, MNIST from scripts/fetch.sh.
 * Arrays, query sets and masks are in test_data_arrays.c.
 */
#include "cohort/data.h"

#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <zlib.h>

#include "data/cifar.h"
#include "data/idx.h"
#include "data/mt19937.h"
#include "scratch.h"

#define FASHION "/usr/share/datasets/fashion-mnist"

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

/* ---- NumPy's legacy generator -------------------------------------------------------
 */

static void test_mt_randint(void **state) {
  (void)state;
  const uint32_t zero[] = {5, 0, 3, 3, 7, 9, 3, 5, 2, 4};
  const uint32_t top[] = {35, 34, 12, 71, 52};
  coh_mt mt;
  coh_mt_seed(&mt, 0);
  for (size_t i = 0; i < 10; i++) assert_int_equal(coh_mt_upto(&mt, 9), zero[i]);
  coh_mt_seed(&mt, UINT32_MAX);
  for (size_t i = 0; i < 5; i++) assert_int_equal(coh_mt_upto(&mt, 99), top[i]);
}

static void test_mt_counts(void **state) {
  (void)state;
  const int counts[2][4] = {{12539, 12629, 12411, 12421}, {12379, 12568, 12433, 12620}};
  const uint32_t first[] = {0, 3, 1, 0, 3, 3, 3, 3, 1, 3};
  for (uint32_t seed = 0; seed < 2; seed++) {
    int count[4] = {0};
    coh_mt mt;
    coh_mt_seed(&mt, seed);
    for (size_t i = 0; i < 50000; i++) {
      uint32_t v = coh_mt_upto(&mt, 3);
      if (seed == 0 && i < 10) assert_int_equal(v, first[i]);
      count[v]++;
    }
    assert_memory_equal(count, counts[seed], sizeof count);
  }
}

static void check_permutation(uint32_t seed, size_t n, size_t shown,
                              const uint32_t *head) {
  uint32_t *perm = NULL;
  ok(coh_alloc(&perm, n, sizeof *perm, &err));
  coh_mt_permutation(seed, n, perm);
  for (size_t i = 0; i < shown; i++) assert_int_equal(perm[i], head[i]);
  free(perm);
}

static void test_mt_permutation(void **state) {
  (void)state;
  check_permutation(0, 10, 10, (uint32_t[]){2, 8, 4, 9, 1, 6, 7, 3, 0, 5});
  check_permutation(1, 60000, 5, (uint32_t[]){15281, 21435, 44536, 13518, 47529});
  check_permutation(1, 50000, 5, (uint32_t[]){26247, 35067, 34590, 16668, 12196});
  check_permutation(UINT32_MAX, 6, 6, (uint32_t[]){1, 4, 5, 0, 2, 3});
  check_permutation(3, 1, 1, (uint32_t[]){0});
  check_permutation(3, 0, 0, NULL);
}

/* ---- the real sets ------------------------------------------------------------------
 */

static void check_labels(const coh_dataset *d, const int *head) {
  for (size_t i = 0; i < 10; i++) assert_int_equal(d->labels[i], head[i]);
}

/* Row i is row `from` of the packed Fashion-MNIST images, read here by zlib itself. */
static void check_fashion_row(const coh_dataset *d, size_t i, size_t from) {
  uint8_t pixels[784];
  gzFile f = gzopen(FASHION "/train-images-idx3-ubyte.gz", "rb");
  assert_non_null(f);
  assert_true(gzseek(f, (z_off_t)(16 + from * sizeof pixels), SEEK_SET) >= 0);
  assert_int_equal(gzread(f, pixels, sizeof pixels), sizeof pixels);
  gzclose(f);
  for (size_t j = 0; j < sizeof pixels; j++) {
    double v = (pixels[j] / 255.0 - 0.5) / 0.5;
    double want = d->dtype == COH_F64 ? v : (double)(float)v;
    assert_true(coh_get(d->dtype, d->x, i * 784 + j) == want);
  }
}

static void test_fashion_mnist(void **state) {
  (void)state;
  for (int dtype = COH_F32; dtype <= COH_F64; dtype++) {
    coh_dataset d;
    ok(coh_dataset_load("fashion_mnist", FASHION, true, (coh_dtype)dtype, &d, &err));
    assert_int_equal(d.dtype, dtype);
    assert_int_equal(d.n, 60000);
    assert_int_equal(d.d_in, 784);
    assert_int_equal(d.n_out, 10);
    assert_int_equal(d.shape[0], 1);
    assert_int_equal(d.shape[1] * d.shape[2], 784);
    assert_null(d.y);
    check_labels(&d, (int[]){9, 0, 0, 3, 0, 2, 7, 2, 5, 5});
    for (size_t i = 0; i < 60000; i += 19999) check_fashion_row(&d, i, i);
    coh_dataset_free(&d);
    assert_null(d.x);
  }
  coh_dataset_free(NULL);
}

static void test_fashion_mnist_edits(void **state) {
  (void)state;
  coh_dataset d;
  ok(coh_dataset_load("fashion_mnist", "", true, COH_F32, &d, &err));
  ok(coh_dataset_edit(&d, 0, 0, 1, &err));
  assert_int_equal(d.n, 60000);
  ok(coh_dataset_edit(&d, 0, 0, 0.1, &err));
  assert_int_equal(d.n, 6000);
  check_labels(&d, (int[]){6, 1, 5, 8, 5, 5, 7, 4, 8, 7});
  check_fashion_row(&d, 0, 15281);
  check_fashion_row(&d, 4, 47529);
  uint32_t *perm = NULL;
  ok(coh_alloc(&perm, 60000, sizeof *perm, &err));
  coh_mt_permutation(1, 60000, perm);
  for (size_t i = 999; i < 6000; i += 1000) check_fashion_row(&d, i, perm[i]);
  free(perm);
  coh_dataset_free(&d);
}

/* Equal labels that are left after random labels for a fraction of the set. */
static size_t labels_left(const char *name, bool train, int64_t seed, double fraction) {
  coh_dataset d;
  ok(coh_dataset_load(name, "", train, COH_F32, &d, &err));
  int32_t *before = NULL;
  ok(coh_alloc(&before, d.n, sizeof *before, &err));
  memcpy(before, d.labels, d.n * sizeof *before);
  ok(coh_dataset_edit(&d, seed, fraction, 1, &err));
  size_t equal = 0;
  for (size_t i = 0; i < d.n; i++) equal += before[i] == d.labels[i];
  free(before);
  coh_dataset_free(&d);
  return equal;
}

static void test_random_labels(void **state) {
  (void)state;
  assert_int_equal(labels_left("fashion_mnist", false, 0, 0), 10000);
  assert_int_equal(labels_left("fashion_mnist", false, 0, 0.25), 7745);
  assert_int_equal(labels_left("fashion_mnist", false, 0, 0.5), 5496);
  assert_int_equal(labels_left("fashion_mnist", false, 0, 1), 1004);
  assert_int_equal(labels_left("mnist", false, 0, 0.5), 5472);
  assert_int_equal(labels_left("mnist", false, 0, 1), 989);
}

static void check_mnist(bool train, int64_t seed, size_t n, const int *head) {
  coh_dataset d;
  ok(coh_dataset_load("mnist", "", train, COH_F32, &d, &err));
  assert_int_equal(d.n, 10 * n);
  ok(coh_dataset_edit(&d, seed, 0, 0.1, &err));
  assert_int_equal(d.n, n);
  check_labels(&d, head);
  assert_true(((float *)d.x)[0] == (float)((0 - 0.1307) / 0.3081));
  coh_dataset_free(&d);
}

static void test_mnist_subsample(void **state) {
  (void)state;
  check_mnist(true, 0, 6000, (int[]){3, 2, 7, 8, 2, 3, 5, 2, 8, 9});
  check_mnist(true, 1, 6000, (int[]){2, 1, 5, 0, 6, 0, 8, 9, 5, 5});
  check_mnist(false, 0, 1000, (int[]){6, 9, 2, 6, 7, 6, 1, 4, 7, 1});
}

/* ---- made-up files ------------------------------------------------------------------
 */

static void put(const char *path, const void *data, size_t n) {
  ok(coh_file_write(path, data, n, &err));
}

/* Packs as gzip; returns the packed bytes, for the caller to free. */
static uint8_t *gzip(const void *data, size_t n, size_t *packed) {
  z_stream z = {0};
  uint8_t *out = NULL;
  assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  size_t room = deflateBound(&z, n);
  ok(coh_alloc(&out, room, 1, &err));
  z.next_in = (Bytef *)(uintptr_t)data;
  z.avail_in = (uInt)n;
  z.next_out = out;
  z.avail_out = (uInt)room;
  assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
  *packed = z.total_out;
  deflateEnd(&z);
  return out;
}

/* An MNIST training set of 5 images in memory; pixel j of image i is (7 i + j) % 256. */
enum { FEW = 5, IMAGES_LEN = 16 + FEW * 784, LABELS_LEN = 8 + FEW };
typedef struct few {
  char folder[300], images_path[400], labels_path[400];
  uint8_t images[IMAGES_LEN + 8], labels[LABELS_LEN + 8];
} few;

static void few_make(few *f, const char *name) {
  memset(f, 0, sizeof *f);
  snprintf(f->folder, sizeof f->folder, "%.290s", scratch(name));
  ok(coh_mkdirs(f->folder, &err));
  snprintf(f->images_path, sizeof f->images_path, "%s/train-images-idx3-ubyte",
           f->folder);
  snprintf(f->labels_path, sizeof f->labels_path, "%s/train-labels-idx1-ubyte",
           f->folder);
  memcpy(f->images, (uint8_t[16]){0, 0, 8, 3, 0, 0, 0, FEW, 0, 0, 0, 28, 0, 0, 0, 28},
         16);
  memcpy(f->labels, (uint8_t[8]){0, 0, 8, 1, 0, 0, 0, FEW}, 8);
  for (size_t i = 0; i < FEW * 784; i++)
    f->images[16 + i] = (uint8_t)(7 * (i / 784) + i % 784);
  for (size_t i = 0; i < FEW; i++) f->labels[8 + i] = (uint8_t)(9 - i);
}

static void few_put(const few *f) {
  put(f->images_path, f->images, IMAGES_LEN);
  put(f->labels_path, f->labels, LABELS_LEN);
}

static int few_load(const few *f, coh_dataset *d) {
  return coh_dataset_load("mnist", f->folder, true, COH_F64, d, &err);
}

/* Loading fails with COH_EDATA, naming both texts; nothing is left to free. */
static void few_refused(const few *f, const char *a, const char *b) {
  coh_dataset d;
  refused(few_load(f, &d), COH_EDATA, a, b);
  assert_null(d.x);
  assert_null(d.labels);
}

static void few_check(const coh_dataset *d) {
  assert_int_equal(d->n, FEW);
  for (size_t i = 0; i < FEW; i++) {
    assert_int_equal(d->labels[i], 9 - i);
    for (size_t j = 0; j < 784; j++) {
      double v = (double)((7 * i + j) % 256);
      assert_true(((double *)d->x)[i * 784 + j] == (v / 255.0 - 0.1307) / 0.3081);
    }
  }
}

static void test_idx_plain(void **state) {
  (void)state;
  few f;
  coh_dataset d;
  few_make(&f, "plain");
  few_put(&f);
  ok(few_load(&f, &d));
  few_check(&d);
  coh_dataset_free(&d);
}

/* Writes the images packed, split into two gzip members at `cut`; returns their bytes. */
static size_t few_put_packed(few *f, size_t cut) {
  size_t a = 0, b = 0;
  uint8_t *head = gzip(f->images, cut, &a),
          *tail = gzip(f->images + cut, IMAGES_LEN - cut, &b);
  char path[sizeof f->images_path + 4], *both = NULL;
  ok(coh_alloc(&both, a + b, 1, &err));
  memcpy(both, head, a);
  memcpy(both + a, tail, b);
  if (cut == 0) memmove(both, both + a, b);
  snprintf(path, sizeof path, "%s.gz", f->images_path);
  put(path, both, cut ? a + b : b);
  put(f->labels_path, f->labels, LABELS_LEN);
  free(head);
  free(tail);
  free(both);
  return cut ? a + b : b;
}

static void test_idx_gzip(void **state) {
  (void)state;
  few f;
  coh_dataset d;
  few_make(&f, "packed");
  for (size_t cut = 0; cut < IMAGES_LEN; cut += 1000) {
    few_put_packed(&f, cut);
    ok(few_load(&f, &d));
    few_check(&d);
    coh_dataset_free(&d);
  }
}

/* Every proper beginning of a packed file, and every flipped byte of it, is refused. */
static void test_idx_gzip_damaged(void **state) {
  (void)state;
  few f;
  char path[sizeof f.images_path + 4], *good = NULL;
  size_t n = 0;
  few_make(&f, "damaged");
  few_put_packed(&f, 0);
  snprintf(path, sizeof path, "%s.gz", f.images_path);
  ok(coh_file_read(path, &good, &n, &err));
  for (size_t cut = 0; cut < n; cut += cut + 30 < n ? 13 : 1) {
    put(path, good, cut);
    few_refused(&f, path, cut < 2 ? "truncated" : "");
  }
  for (size_t i = 0; i < n; i += i + 30 < n && i > 20 ? 17 : 1) {
    if (i >= 4 && i < 10) continue; /* time and system: not part of the content */
    good[i] ^= 4;
    put(path, good, n);
    few_refused(&f, path, "");
    good[i] ^= 4;
  }
  free(good);
}

static void test_idx_gzip_messages(void **state) {
  (void)state;
  few f;
  char path[sizeof f.images_path + 4], *good = NULL;
  size_t n = 0;
  few_make(&f, "messages");
  few_put_packed(&f, 0);
  snprintf(path, sizeof path, "%s.gz", f.images_path);
  ok(coh_file_read(path, &good, &n, &err));
  put(path, good, n - 3);
  few_refused(&f, path, "truncated: its packed data go on, but it ends at byte");
  good[n - 5] ^= 1; /* of the CRC */
  put(path, good, n);
  few_refused(&f, path, "incorrect data check");
  good[n - 5] ^= 1;
  good[n] = 'x'; /* the 0 that ends what coh_file_read returns */
  put(path, good, n + 1);
  few_refused(&f, path, "found 1 more bytes");
  free(good);
}

static void test_idx_trailing_bytes(void **state) {
  (void)state;
  few f;
  few_make(&f, "trailing");
  few_put(&f);
  put(f.images_path, f.images, IMAGES_LEN + 1);
  few_refused(&f, f.images_path, "expected its end at byte 3936, found trailing bytes");
  few_put(&f);
  put(f.labels_path, f.labels, LABELS_LEN + 1);
  few_refused(&f, f.labels_path, "expected its end at byte 13, found trailing bytes");
}

static void test_idx_truncated(void **state) {
  (void)state;
  few f;
  few_make(&f, "short");
  few_put(&f);
  put(f.images_path, f.images, IMAGES_LEN - 1);
  few_refused(&f, f.images_path, "expected 3920 bytes after byte 16, found 3919");
  put(f.images_path, f.images, 6);
  few_refused(&f, f.images_path, "expected 4 bytes at byte 4, found 2");
  put(f.images_path, f.images, 0);
  few_refused(&f, f.images_path, "expected 4 bytes at byte 0, found 0");
}

/* One byte of the images' header changed. */
static void header_lie(size_t at, uint8_t value, const char *text) {
  few f;
  few_make(&f, "lie");
  f.images[at] = value;
  few_put(&f);
  few_refused(&f, f.images_path, text);
}

static void test_idx_header_lies(void **state) {
  (void)state;
  header_lie(0, 1, "expected 00 00 at byte 0, found 01 00");
  header_lie(2, 13, "expected type 08 (unsigned byte) at byte 2, found 0d");
  header_lie(3, 1, "expected 3 dimensions at byte 3, found 1");
  header_lie(7, FEW + 1, "expected 4704 bytes after byte 16, found 3920");
  header_lie(7, FEW - 1, "expected 5 images at byte 4, one for each label, found 4");
  header_lie(7, 0, "expected a dimension of at least 1 at byte 4, found 0");
  header_lie(4, 255, "after byte 16, found 3920");
  header_lie(11, 27, "expected a dimension of 28 at byte 8, found 27");
  header_lie(12, 1, "expected a dimension of 28 at byte 12, found 16777244");
}

/* Nothing is allocated on the word of a header: not even where the product overflows. */
static void test_idx_enormous(void **state) {
  (void)state;
  coh_idx f;
  uint8_t bytes[20] = {0, 0, 8, 4};
  memset(bytes + 4, 255, 16);
  const char *path = scratch("enormous");
  put(path, bytes, sizeof bytes);
  refused(coh_idx_open(&f, path, 4, (size_t[4]){0}, &err), COH_EDATA, path, "too large");
  size_t n = 0;
  uint8_t *packed = gzip((uint8_t[]){0, 0, 8, 1, 255, 255, 255, 255, 7}, 9, &n);
  put(path, packed, n);
  refused(coh_idx_open(&f, path, 1, (size_t[1]){0}, &err), COH_EDATA, path,
          "expected 4294967295 bytes after byte 8, found at most");
  free(packed);
}

static void test_label_out_of_range(void **state) {
  (void)state;
  few f;
  few_make(&f, "label");
  f.labels[8 + 3] = 10;
  few_put(&f);
  few_refused(&f, f.labels_path, "expected a label of 0..9 at byte 11, found 10");
}

/* ---- CIFAR-10 -----------------------------------------------------------------------
 */

enum { RECORD = 3073 };

/* Two records a file; value j of record r of file b is (b + 31 r + j) % 256. */
static void cifar_put(const char *folder, int b, bool packed) {
  uint8_t data[2 * RECORD];
  char path[400];
  size_t n = sizeof data;
  for (size_t i = 0; i < n; i++)
    data[i] = (uint8_t)((size_t)b + 31 * (i / RECORD) + i % RECORD - 1);
  data[0] = (uint8_t)b;
  data[RECORD] = (uint8_t)(9 - b);
  if (b == 0)
    snprintf(path, sizeof path, "%s/test_batch.bin", folder);
  else
    snprintf(path, sizeof path, "%s/data_batch_%d.bin%s", folder, b, packed ? ".gz" : "");
  uint8_t *gz = packed ? gzip(data, n, &n) : NULL;
  put(path, gz ? gz : data, n);
  free(gz);
}

static void cifar_check_row(const coh_dataset *d, size_t row, int b, size_t r) {
  const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
  assert_int_equal(d->labels[row], r ? 9 - b : b);
  for (size_t j = 0; j < 3072; j++) {
    double v = (double)(((size_t)b + 31 * r + j) % 256) / 255.0;
    assert_true(((float *)d->x)[row * 3072 + j] ==
                (float)((v - mean[j / 1024]) / std[j / 1024]));
  }
}

static void test_cifar(void **state) {
  (void)state;
  coh_dataset d;
  char folder[400];
  snprintf(folder, sizeof folder, "%s", scratch("data/cifar10"));
  ok(coh_mkdirs(folder, &err));
  for (int b = 0; b < 6; b++) cifar_put(folder, b, b == 3);
  ok(coh_dataset_load("cifar10", scratch("data"), true, COH_F32, &d, &err));
  assert_int_equal(d.n, 10);
  assert_int_equal(d.shape[0], 3);
  assert_int_equal(d.shape[1], 32);
  for (size_t i = 0; i < 10; i++) cifar_check_row(&d, i, (int)(i / 2) + 1, i % 2);
  coh_dataset_free(&d);
  ok(coh_dataset_load("cifar10", folder, false, COH_F32, &d, &err));
  assert_int_equal(d.n, 2);
  for (size_t i = 0; i < 2; i++) cifar_check_row(&d, i, 0, i);
  coh_dataset_free(&d);
}

static void test_cifar_damaged(void **state) {
  (void)state;
  coh_dataset d;
  uint8_t data[2 * RECORD + 1] = {1};
  const char *folder = scratch("broken"), *path = scratch("broken/test_batch.bin");
  ok(coh_mkdirs(folder, &err));
  put(path, data, 2 * RECORD + 1);
  refused(coh_dataset_load("cifar10", folder, false, COH_F32, &d, &err), COH_EDATA, path,
          "expected a multiple of 3073 bytes (one record each), found 6147");
  put(path, data, 0);
  refused(coh_dataset_load("cifar10", folder, false, COH_F32, &d, &err), COH_EDATA, path,
          "found 0");
  data[RECORD] = 10;
  put(path, data, 2 * RECORD);
  refused(coh_dataset_load("cifar10", folder, false, COH_F32, &d, &err), COH_EDATA, path,
          "expected a label of 0..9 at byte 3073, found 10");
}

/* ---- where files are looked for -----------------------------------------------------
 */

static void test_unknown_name(void **state) {
  (void)state;
  coh_dataset d;
  refused(coh_dataset_load("minst", "", true, COH_F32, &d, &err), COH_EUSAGE, "'minst'",
          coh_dataset_names());
}

static void test_not_found_names_the_folders(void **state) {
  (void)state;
  coh_dataset d;
  char *data = getenv("COHORT_DATA") ? strdup(getenv("COHORT_DATA")) : NULL;
  setenv("COHORT_DATA", "/no/such", 1);
  refused(coh_dataset_load("cifar10", "/nor/this", true, COH_F32, &d, &err), COH_EIO,
          "cohort fetch cifar10", "tried: /nor/this, /nor/this/cifar10");
  assert_null(strstr(err.text, "/no/such")); /* a folder that is named is the only one */
  refused(coh_dataset_load("cifar10", "", true, COH_F32, &d, &err), COH_EIO,
          "cohort fetch cifar10", "tried: /no/such/cifar10, ");
  assert_non_null(strstr(err.text, ".local/share/cohort/cifar10, data/cifar10"));
  unsetenv("COHORT_DATA");
  if (data) setenv("COHORT_DATA", data, 1);
  free(data);
}

static size_t rows_found(const char *root) {
  coh_dataset d;
  ok(coh_dataset_load("mnist", root, true, COH_F32, &d, &err));
  size_t n = d.n;
  coh_dataset_free(&d);
  return n;
}

/* A folder without all files is passed over; $COHORT_DATA goes before
 * the home folder. */
static void test_order_of_folders(void **state) {
  (void)state;
  few f;
  char *data = getenv("COHORT_DATA") ? strdup(getenv("COHORT_DATA")) : NULL;
  char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
  few_make(&f, "home/.local/share/cohort/mnist");
  few_put(&f);
  setenv("HOME", scratch("home"), 1);
  setenv("COHORT_DATA", scratch("env"), 1);
  assert_int_equal(rows_found(""), FEW);
  few_make(&f, "env/mnist");
  f.images[7] = f.labels[7] = 4;
  put(f.images_path, f.images, IMAGES_LEN - 784);
  assert_int_equal(rows_found(""), FEW);
  put(f.labels_path, f.labels, LABELS_LEN - 1);
  assert_int_equal(rows_found(""), 4);
  few_make(&f, "root/mnist");
  f.images[7] = f.labels[7] = 3;
  put(f.images_path, f.images, IMAGES_LEN - 2 * 784);
  put(f.labels_path, f.labels, LABELS_LEN - 2);
  assert_int_equal(rows_found(scratch("root")), 3);
  assert_int_equal(rows_found(scratch("root/mnist")), 3);
  unsetenv("COHORT_DATA");
  if (data) setenv("COHORT_DATA", data, 1);
  if (home) setenv("HOME", home, 1);
  free(data);
  free(home);
}

/* ---- edits of made-up sets ----------------------------------------------------------
 */

/* 7 samples: x = {10 i, 10 i + 1}, y = {i + 0.5}, label i. */
static coh_dataset seven(void) {
  coh_dataset d = {.dtype = COH_F64, .n = 7, .d_in = 2, .shape = {2, 1, 1}, .n_out = 1};
  ok(coh_alloc(&d.x, 14, sizeof(double), &err));
  ok(coh_alloc(&d.y, 7, sizeof(double), &err));
  ok(coh_alloc(&d.labels, 7, sizeof *d.labels, &err));
  for (size_t i = 0; i < 7; i++) {
    ((double *)d.x)[2 * i] = 10.0 * (double)i;
    ((double *)d.x)[2 * i + 1] = 10.0 * (double)i + 1;
    ((double *)d.y)[i] = (double)i + 0.5;
    d.labels[i] = (int32_t)i;
  }
  return d;
}

static void test_subsample_moves_whole_samples(void **state) {
  (void)state;
  for (size_t k = 1; k <= 7; k++)
    for (int64_t seed = 0; seed < 20; seed++) {
      uint32_t perm[7];
      coh_dataset d = seven();
      coh_mt_permutation((uint32_t)seed + 1, 7, perm);
      ok(coh_dataset_edit(&d, seed, 0, k == 7 ? 0.99 : (double)k / 7 - 0.01, &err));
      assert_int_equal(d.n, k);
      for (size_t i = 0; i < k; i++) {
        assert_int_equal(d.labels[i], perm[i]);
        assert_true(((double *)d.x)[2 * i] == 10.0 * perm[i]);
        assert_true(((double *)d.x)[2 * i + 1] == 10.0 * perm[i] + 1);
        assert_true(((double *)d.y)[i] == perm[i] + 0.5);
      }
      coh_dataset_free(&d);
    }
}

static void test_edit_refusals(void **state) {
  (void)state;
  coh_dataset d = seven();
  const char *labels = "random_labels_fraction", *sub = "subsample_fraction";
  refused(coh_dataset_edit(&d, 0, -0.1, 1, &err), COH_EUSAGE, labels, "-0.1");
  refused(coh_dataset_edit(&d, 0, 1.1, 1, &err), COH_EUSAGE, labels, "1.1");
  refused(coh_dataset_edit(&d, 0, (double)NAN, 1, &err), COH_EUSAGE, labels, "nan");
  refused(coh_dataset_edit(&d, 0, 0, 0, &err), COH_EUSAGE, sub, "found 0");
  refused(coh_dataset_edit(&d, 0, 0, 2, &err), COH_EUSAGE, sub, "found 2");
  free(d.labels);
  d.labels = NULL;
  refused(coh_dataset_edit(&d, 0, 0.5, 1, &err), COH_EUSAGE, labels, "no labels");
  ok(coh_dataset_edit(&d, 0, 0, 0.5, &err));
  assert_int_equal(d.n, 4);
  coh_dataset_free(&d);
}

/* ---- order --------------------------------------------------------------------------
 */

static void test_order(void **state) {
  (void)state;
  enum { n = 1003 };
  uint32_t a[n], b[n], c[n];
  bool seen[n] = {false};
  coh_order_epoch(7, 2, n, a);
  coh_order_epoch(7, 3, n, c);
  coh_order_epoch(8, 2, n, b);
  assert_memory_not_equal(a, b, sizeof a);
  assert_memory_not_equal(a, c, sizeof a);
  coh_order_epoch(7, 2, n, b); /* whatever was drawn in between */
  assert_memory_equal(a, b, sizeof a);
  for (size_t i = 0; i < n; i++) seen[a[i]] = true;
  for (size_t i = 0; i < n; i++) assert_true(seen[i]);
}

static void test_last_short_batch_counts(void **state) {
  (void)state;
  assert_int_equal(coh_epoch_length(60000, 128), 469);
  assert_int_equal(coh_epoch_length(60000, 100), 600);
  assert_int_equal(coh_epoch_length(5, 128), 1);
  assert_int_equal(coh_epoch_length(0, 128), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_mt_randint),
      cmocka_unit_test(test_mt_counts),
      cmocka_unit_test(test_mt_permutation),
      cmocka_unit_test(test_fashion_mnist),
      cmocka_unit_test(test_fashion_mnist_edits),
      cmocka_unit_test(test_random_labels),
      cmocka_unit_test(test_mnist_subsample),
      cmocka_unit_test(test_idx_plain),
      cmocka_unit_test(test_idx_gzip),
      cmocka_unit_test(test_idx_gzip_damaged),
      cmocka_unit_test(test_idx_gzip_messages),
      cmocka_unit_test(test_idx_trailing_bytes),
      cmocka_unit_test(test_idx_truncated),
      cmocka_unit_test(test_idx_header_lies),
      cmocka_unit_test(test_idx_enormous),
      cmocka_unit_test(test_label_out_of_range),
      cmocka_unit_test(test_cifar),
      cmocka_unit_test(test_cifar_damaged),
      cmocka_unit_test(test_unknown_name),
      cmocka_unit_test(test_not_found_names_the_folders),
      cmocka_unit_test(test_order_of_folders),
      cmocka_unit_test(test_subsample_moves_whole_samples),
      cmocka_unit_test(test_edit_refusals),
      cmocka_unit_test(test_order),
      cmocka_unit_test(test_last_short_batch_counts),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
