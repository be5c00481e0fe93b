/* test_base.c - the room src/base: errors, memory, text, files, random numbers, hashes.
 */
#include "cohort/base.h"

#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "scratch.h"

/* ---- errors ------------------------------------------------------------------------ */

static void test_fail_formats_and_returns_the_code(void **state) {
  (void)state;
  coh_error err = {0};
  assert_int_equal(coh_fail(&err, COH_EDATA, "%s has %d rows", "x.h5", 3), COH_EDATA);
  assert_int_equal(err.code, COH_EDATA);
  assert_string_equal(err.text, "x.h5 has 3 rows");
  assert_int_equal(coh_fail(&err, COH_EIO, "again: %s", err.text), COH_EIO);
  assert_string_equal(err.text, "again: x.h5 has 3 rows");
}

static void test_fail_errno_appends_the_reason(void **state) {
  (void)state;
  coh_error err = {0};
  errno = ENOENT;
  assert_int_equal(coh_fail_errno(&err, "cannot open '%s'", "a"), COH_EIO);
  assert_string_equal(err.text, "cannot open 'a': No such file or directory");
  errno = ENOMEM;
  assert_int_equal(coh_fail_errno(&err, "cannot map"), COH_ENOMEM);
  assert_string_equal(err.text, "cannot map: Cannot allocate memory");
}

static void test_explain_puts_text_in_front(void **state) {
  (void)state;
  coh_error err = {0};
  coh_fail(&err, COH_ENUMERIC, "loss is nan");
  assert_int_equal(coh_explain(&err, "run %s", "3f2a"), COH_ENUMERIC);
  assert_string_equal(err.text, "run 3f2a: loss is nan");
}

static void test_long_messages_end_in_dots(void **state) {
  (void)state;
  coh_error err = {0};
  char longer[2 * COH_ERROR_TEXT];
  memset(longer, 'x', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  coh_fail(&err, COH_EBUG, "%s", longer);
  assert_int_equal(strlen(err.text), COH_ERROR_TEXT - 1);
  assert_string_equal(err.text + COH_ERROR_TEXT - 5, "x...");
  coh_explain(&err, "run %d", 7);
  assert_int_equal(strlen(err.text), COH_ERROR_TEXT - 1);
  assert_int_equal(strncmp(err.text, "run 7: xx", 9), 0);
  assert_string_equal(err.text + COH_ERROR_TEXT - 5, "x...");
}

static void test_exit_statuses(void **state) {
  (void)state;
  assert_int_equal(coh_exit_status(COH_OK), 0);
  assert_int_equal(coh_exit_status(COH_EUSAGE), 2);
  assert_int_equal(coh_exit_status(COH_ESTOP), 75);
  for (int code = COH_EBUG; code < COH_OK; code++)
    if (code != COH_EUSAGE && code != COH_ESTOP)
      assert_int_equal(coh_exit_status(code), 1);
}

static void keep_line(void *ctx, coh_level level, const char *text) {
  snprintf(ctx, 64, "%d %s", (int)level, text);
}

static void test_say(void **state) {
  (void)state;
  char kept[64] = "";
  coh_sink sink = {keep_line, kept};
  coh_say(&sink, COH_WARN, "%d clusters dropped", 2);
  assert_string_equal(kept, "1 2 clusters dropped");
  coh_say(NULL, COH_INFO, "nobody hears this");
  coh_say(&(coh_sink){NULL, NULL}, COH_INFO, "nor this");
}

/* ---- memory and text ----------------------------------------------------------------
 */

static void test_alloc(void **state) {
  (void)state;
  coh_error err = {0};
  for (size_t n = 0; n < 100; n++) {
    double *a;
    assert_int_equal(coh_alloc(&a, n, sizeof *a, &err), COH_OK);
    assert_int_equal((uintptr_t)a % 64, 0);
    for (size_t i = 0; i < n; i++) assert_true(a[i] == 0);
    free(a);
  }
  void *a = &err;
  assert_int_equal(coh_alloc(&a, SIZE_MAX / 2, 3, &err), COH_ENOMEM);
  assert_null(a);
  assert_string_equal(err.text,
                      "out of memory: 9223372036854775807 times 3 bytes asked for");
#ifndef __SANITIZE_ADDRESS__ /* which ends the program rather than return NULL */
  size_t huge = (size_t)1 << 62;
  assert_int_equal(coh_alloc(&a, huge, 1, &err), COH_ENOMEM);
  assert_string_equal(err.text, "out of memory: 4611686018427387904 bytes asked for");
#endif
}

static void test_product_of_sizes(void **state) {
  (void)state;
  coh_error err = {0};
  size_t out = 1;
  assert_int_equal(coh_product(&out, &err, 3, 5, 7), COH_OK);
  assert_int_equal(out, 105);
  assert_int_equal(coh_product(&out, &err, SIZE_MAX, 2, 0, SIZE_MAX), COH_OK);
  assert_int_equal(out, 0);
  assert_int_equal(coh_product(&out, &err, PTRDIFF_MAX), COH_OK);
  assert_int_equal(out, PTRDIFF_MAX);
  assert_int_equal(coh_product(&out, &err, (size_t)PTRDIFF_MAX + 1), COH_ENOMEM);
  assert_int_equal(coh_product(&out, &err, (size_t)1 << 24, (size_t)1 << 48, 8),
                   COH_ENOMEM);
  assert_string_equal(err.text, "out of memory: 3.78e+22 bytes asked for");
}

static void test_text_grows(void **state) {
  (void)state;
  coh_error err = {0};
  coh_text t = {0};
  for (int i = 0; i < 1000; i++) coh_text_add(&t, "%d,", i);
  assert_int_equal(t.len, 10 * 2 + 90 * 3 + 900 * 4);
  assert_int_equal(strlen(t.data), t.len);
  assert_string_equal(t.data + t.len - 8, "998,999,");
  coh_text_addn(&t, "a\0b", 3);
  assert_memory_equal(t.data + t.len - 3, "a\0b", 4);
  assert_int_equal(coh_text_check(&t, &err), COH_OK);
  coh_text_addn(&t, "", SIZE_MAX - 10); /* too much: refused before a byte is read */
  assert_int_equal(coh_text_check(&t, &err), COH_ENOMEM);
  size_t before = t.len;
  coh_text_add(&t, "more");
  assert_int_equal(t.len, before);
  coh_text_free(&t);
  assert_null(t.data);
  coh_text_addn(&t, "", 0);
  assert_string_equal(t.data, "");
  coh_text_free(&t);
}

static void test_format_refuses_to_cut(void **state) {
  (void)state;
  coh_error err = {0};
  char out[8];
  assert_int_equal(coh_format(out, sizeof out, &err, "%s", "seven77"), COH_OK);
  assert_string_equal(out, "seven77");
  assert_int_equal(coh_format(out, sizeof out, &err, "%s", "eight888"), COH_EUSAGE);
  assert_string_equal(err.text, "'eight88...' is too long: 8 bytes, room for 7");
}

static void assert_real(double v, const char *expected) {
  char text[32];
  assert_string_equal(coh_real_text(v, text), expected);
}

static void test_real_text_looks_like_python(void **state) {
  (void)state;
  assert_real(0, "0");
  assert_real(-0.0, "-0");
  assert_real(1, "1");
  assert_real(-10, "-10");
  assert_real(0.1, "0.1");
  assert_real(0.001, "0.001");
  assert_real(0.0001, "0.0001");
  assert_real(1e-5, "1e-05");
  assert_real(1.5e-7, "1.5e-07");
  assert_real(123456.789, "123456.789");
  assert_real(1e15, "1000000000000000");
  assert_real(1e16, "1e+16");
  assert_real(9007199254740993.0, "9007199254740992");
  assert_real(1.0 / 3, "0.3333333333333333");
  assert_real(sqrt(0.1), "0.31622776601683794");
  assert_real(0.00012345678901234567, "0.00012345678901234567");
  assert_real(-1.7976931348623157e308, "-1.7976931348623157e+308");
  assert_real(5e-324, "5e-324");
  assert_real(INFINITY, "inf");
  assert_real(-INFINITY, "-inf");
  assert_real(NAN, "nan");
  assert_real(-NAN, "nan");
}

static void test_real_text_round_trips(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 100000; i++) {
    uint32_t w[4];
    double v;
    char text[32];
    coh_random_block(1, COH_RNG_TEST, 0, i, w);
    memcpy(&v, w, sizeof v);
    if (!isfinite(v)) continue;
    double back = strtod(coh_real_text(v, text), NULL);
    assert_memory_equal(&back, &v, sizeof v);
    /* the same near 1, where the text has no exponent */
    v = coh_random_normal(1, COH_RNG_TEST, 1, i);
    back = strtod(coh_real_text(v, text), NULL);
    assert_memory_equal(&back, &v, sizeof v);
  }
}

/* No text with fewer digits reads back; short decimals and subnormal numbers included. */
static void test_real_text_is_shortest(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 30000; i++) {
    uint32_t w[4];
    double v;
    char text[32], shortest[32];
    coh_random_block(1, COH_RNG_TEST, 2, i, w);
    snprintf(text, sizeof text, "%ue%d", i % 2 ? w[0] : w[0] % 1000,
             (int)(w[1] % 640) - 330);
    v = strtod(text, NULL);
    if (i % 3 == 0) memcpy(&v, w, sizeof v);
    if (!isfinite(v) || (fabs(v) < 1e16 && fabs(v) >= 1e-4) || v == 0) continue;
    for (int digits = 0; digits < 17; digits++) {
      snprintf(shortest, sizeof shortest, "%.*e", digits, v);
      if (strtod(shortest, NULL) == v) break;
    }
    assert_string_equal(coh_real_text(v, text), shortest);
  }
}

/* ---- files ------------------------------------------------------------------------- */

static void assert_file(const char *path, const char *expected) {
  coh_error err = {0};
  char *data;
  size_t len;
  assert_int_equal(coh_file_read(path, &data, &len, &err), COH_OK);
  assert_int_equal(len, strlen(expected));
  assert_string_equal(data, expected);
  free(data);
}

static void test_mkdirs(void **state) {
  (void)state;
  coh_error err = {0};
  const char *deep = scratch("dirs//a/b/c/");
  assert_int_equal(coh_mkdirs(deep, &err), COH_OK);
  assert_true(coh_file_exists(deep));
  assert_int_equal(coh_mkdirs(deep, &err), COH_OK);
  assert_int_equal(coh_mkdirs("/", &err), COH_OK);
  assert_int_equal(coh_mkdirs("", &err), COH_EUSAGE);
  const char *file = scratch("dirs/file");
  assert_int_equal(coh_file_write(file, "x", 1, &err), COH_OK);
  assert_int_equal(coh_mkdirs(scratch("dirs/file/below"), &err), COH_EIO);
  assert_non_null(strstr(err.text, "cannot make the folder '"));
  assert_non_null(strstr(err.text, "dirs/file': Not a directory"));
}

static void test_write_then_read(void **state) {
  (void)state;
  coh_error err = {0};
  assert_int_equal(coh_mkdirs(scratch("rw"), &err), COH_OK);
  const char *path = scratch("rw/file");
  assert_int_equal(coh_file_write(path, "first", 5, &err), COH_OK);
  assert_file(path, "first");
  assert_int_equal(coh_file_write(path, "2", 1, &err), COH_OK);
  assert_file(path, "2");
  assert_int_equal(coh_file_write(path, "", 0, &err), COH_OK);
  assert_file(path, "");
  assert_int_equal(scratch_count(scratch("rw")), 1);
}

static void test_write_below_the_current_folder(void **state) {
  (void)state;
  coh_error err = {0};
  char here[COH_PATH];
  assert_non_null(getcwd(here, sizeof here));
  assert_int_equal(coh_mkdirs(scratch("cwd"), &err), COH_OK);
  assert_int_equal(chdir(scratch("cwd")), 0);
  assert_int_equal(coh_file_write("plain", "p", 1, &err), COH_OK);
  assert_file("plain", "p");
  assert_int_equal(chdir(here), 0);
  assert_int_equal(scratch_count(scratch("cwd")), 1);
}

static void test_read_of_large_and_of_unsized_files(void **state) {
  (void)state;
  coh_error err = {0};
  size_t n = 300001, len;
  char *big, *back;
  assert_int_equal(coh_alloc(&big, n, 1, &err), COH_OK);
  for (size_t i = 0; i < n; i++) big[i] = (char)(i * 7 + i / 251);
  assert_int_equal(coh_file_write(scratch("big"), big, n, &err), COH_OK);
  assert_int_equal(coh_file_read(scratch("big"), &back, &len, &err), COH_OK);
  assert_int_equal(len, n);
  assert_memory_equal(back, big, n);
  assert_int_equal(back[n], 0);
  free(back);
  free(big);
  /* files below /proc say that they hold 0 bytes */
  assert_int_equal(coh_file_read("/proc/self/smaps", &back, &len, &err), COH_OK);
  assert_true(len > 4096);
  assert_int_equal(strlen(back), len);
  free(back);
}

static void test_read_failures(void **state) {
  (void)state;
  coh_error err = {0};
  char *data;
  size_t len;
  assert_int_equal(coh_file_read("/no/such", &data, &len, &err), COH_EIO);
  assert_string_equal(err.text, "cannot open '/no/such': No such file or directory");
  assert_null(data);
  assert_int_equal(coh_file_read("/proc", &data, &len, &err), COH_EIO);
  assert_string_equal(err.text, "cannot read '/proc': Is a directory");
  assert_null(data);
}

static void test_write_below_a_file_fails(void **state) {
  (void)state;
  coh_error err = {0};
  assert_int_equal(coh_file_write(scratch("plain"), "x", 1, &err), COH_OK);
  assert_int_equal(coh_file_write(scratch("plain/below"), "y", 1, &err), COH_EIO);
  assert_non_null(strstr(err.text, "plain/.below.tmp': Not a directory"));
  assert_int_equal(coh_file_write(scratch("none/below"), "y", 1, &err), COH_EIO);
  assert_non_null(strstr(err.text, "No such file or directory"));
}

static void test_write_onto_a_folder_leaves_no_temporary(void **state) {
  (void)state;
  coh_error err = {0};
  assert_int_equal(coh_mkdirs(scratch("onto/folder/x"), &err), COH_OK);
  assert_int_equal(coh_file_write(scratch("onto/folder"), "y", 1, &err), COH_EIO);
  assert_non_null(strstr(err.text, "cannot rename '"));
  assert_int_equal(scratch_count(scratch("onto")), 1);
}

/* Runs `body` in a child process and returns its result (0 to 100), or 255 after a crash.
 */
static int in_child(int (*body)(void)) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(body());
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

enum { SKIPPED = 100 };

/* Overwrites folder/file with more than the system has room for; the number of the first
 * broken promise, or 0. */
static int overfill(const char *folder, int expected_errno) {
  static char big[1 << 20];
  coh_error err = {0};
  char path[1024], *data;
  size_t len;
  snprintf(path, sizeof path, "%s/file", folder);
  if (coh_file_write(path, "old", 3, &err) != COH_OK) return 1;
  if (coh_file_write(path, big, sizeof big, &err) != COH_EIO) return 2;
  if (!strstr(err.text, strerror(expected_errno))) return 3;
  if (scratch_count(folder) != 1) return 4;
  if (coh_file_read(path, &data, &len, &err) != COH_OK) return 5;
  bool kept = len == 3 && memcmp(data, "old", 3) == 0;
  free(data);
  return kept ? 0 : 6;
}

static int write_beyond_the_size_limit(void) {
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = {1 << 16, 1 << 16};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 10;
  return overfill(scratch("limit"), EFBIG);
}

static void test_write_beyond_the_size_limit(void **state) {
  (void)state;
  coh_error err = {0};
  assert_int_equal(coh_mkdirs(scratch("limit"), &err), COH_OK);
  assert_int_equal(in_child(write_beyond_the_size_limit), 0);
}

/* A file system of 64 KiB, seen by this child process only. */
static int write_to_a_full_disk(void) {
  const char *folder = scratch("full");
  if (unshare(CLONE_NEWNS) != 0) return SKIPPED;
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return SKIPPED;
  if (mount("cohort-test", folder, "tmpfs", 0, "size=64k") != 0) return SKIPPED;
  return overfill(folder, ENOSPC);
}

static void test_write_to_a_full_disk(void **state) {
  (void)state;
  coh_error err = {0};
  assert_int_equal(coh_mkdirs(scratch("full"), &err), COH_OK);
  int result = in_child(write_to_a_full_disk);
  if (result == SKIPPED) skip();
  assert_int_equal(result, 0);
}

static void put(const char *path, const char *text) {
  assert_int_equal(scratch_write(path, text, strlen(text)), 0);
}

static void test_temp_commit_and_discard(void **state) {
  (void)state;
  coh_error err = {0};
  char temp[COH_PATH];
  assert_int_equal(coh_mkdirs(scratch("temp"), &err), COH_OK);
  const char *path = scratch("temp/model.h5");
  assert_int_equal(coh_temp_path(path, temp, sizeof temp, &err), COH_OK);
  assert_string_equal(temp, scratch("temp/.model.h5.tmp"));
  put(temp, "one");
  assert_int_equal(coh_temp_commit(path, &err), COH_OK);
  assert_file(path, "one");
  put(temp, "two");
  coh_temp_discard(path);
  assert_file(path, "one");
  assert_int_equal(scratch_count(scratch("temp")), 1);
  assert_int_equal(coh_temp_commit(path, &err), COH_EIO);
  assert_non_null(strstr(err.text, ".model.h5.tmp': No such file or directory"));
  assert_file(path, "one");
  put(temp, "left by a killed writer, and longer");
  assert_int_equal(coh_file_write(path, "three", 5, &err), COH_OK);
  assert_file(path, "three");
  assert_int_equal(scratch_count(scratch("temp")), 1);
  assert_int_equal(coh_temp_path("name", temp, sizeof temp, &err), COH_OK);
  assert_string_equal(temp, ".name.tmp");
  assert_int_equal(coh_temp_path(path, temp, 5, &err), COH_EUSAGE);
}

static void test_clock_does_not_go_back(void **state) {
  (void)state;
  double last = coh_seconds();
  for (int i = 0; i < 1000; i++) {
    double now = coh_seconds();
    assert_true(now >= last);
    last = now;
  }
}

/* ---- random numbers ---------------------------------------------------------------- */

static void test_philox_known_answer(void **state) {
  (void)state;
  uint32_t w[4];
  const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  coh_random_block(0, (coh_purpose)0, 0, 0, w);
  assert_memory_equal(w, zero, sizeof w);
  /* all bits set: the second known answer of Random123's kat_vectors */
  const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
  coh_random_block(UINT64_MAX, (coh_purpose)0xff, UINT64_MAX >> 8, UINT64_MAX, w);
  assert_memory_equal(w, ones, sizeof w);
}

static void test_every_argument_counts(void **state) {
  (void)state;
  const uint64_t high = (uint64_t)1 << 33;
  double u[] = {
      coh_random_uniform(1, COH_RNG_TEST, 2, 3),
      coh_random_uniform(1 + high, COH_RNG_TEST, 2, 3),
      coh_random_uniform(1, COH_RNG_INIT, 2, 3),
      coh_random_uniform(1, COH_RNG_TEST, 2 + high, 3),
      coh_random_uniform(1, COH_RNG_TEST, 2, 3 + high),
      coh_random_uniform(1, COH_RNG_TEST, 3, 2),
  };
  for (size_t i = 0; i < sizeof u / sizeof *u; i++)
    for (size_t j = 0; j < i; j++) assert_true(u[i] != u[j]);
  assert_true(coh_random_uniform(1, COH_RNG_TEST, 2, 3) == u[0]);
}

static void test_uniform_and_normal_moments(void **state) {
  (void)state;
  enum { COUNT = 200000 };
  double u1 = 0, u2 = 0, z1 = 0, z2 = 0, z4 = 0;
  for (uint64_t i = 0; i < COUNT; i++) {
    double u = coh_random_uniform(5, COH_RNG_TEST, 0, i);
    double z = coh_random_normal(5, COH_RNG_TEST, 1, i);
    assert_true(u >= 0 && u < 1);
    u1 += u / COUNT, u2 += u * u / COUNT;
    z1 += z / COUNT, z2 += z * z / COUNT, z4 += z * z * z * z / COUNT;
  }
  /* five standard deviations of each mean */
  assert_true(fabs(u1 - 0.5) < 5 * sqrt(1.0 / 12 / COUNT));
  assert_true(fabs(u2 - 1.0 / 3) < 5 * sqrt(4.0 / 45 / COUNT));
  assert_true(fabs(z1) < 5 * sqrt(1.0 / COUNT));
  assert_true(fabs(z2 - 1) < 5 * sqrt(2.0 / COUNT));
  assert_true(fabs(z4 - 3) < 5 * sqrt(96.0 / COUNT));
}

static void test_permutation_is_one(void **state) {
  (void)state;
  enum { COUNT = 1000 };
  uint32_t perm[COUNT];
  bool seen[COUNT];
  for (size_t n = 0; n <= COUNT; n += n < 20 ? 1 : 49) {
    memset(seen, 0, sizeof seen);
    coh_random_permutation(9, COH_RNG_ORDER, n, n, perm);
    for (size_t i = 0; i < n; i++) {
      assert_true(perm[i] < n && !seen[perm[i]]);
      seen[perm[i]] = true;
    }
  }
}

static void test_permutation_is_unbiased(void **state) {
  (void)state;
  /* all 24 orders of four, chi-square with 23 degrees of freedom: 99.99 % below 56 */
  enum { TRIALS = 48000 };
  int count[256] = {0};
  for (uint64_t epoch = 0; epoch < TRIALS; epoch++) {
    uint32_t p[4];
    coh_random_permutation(3, COH_RNG_ORDER, epoch, 4, p);
    count[p[0] << 6 | p[1] << 4 | p[2] << 2 | p[3]]++;
  }
  double chi2 = 0;
  int orders = 0;
  for (int i = 0; i < 256; i++) {
    if (!count[i]) continue;
    double d = count[i] - TRIALS / 24.0;
    chi2 += d * d / (TRIALS / 24.0);
    orders++;
  }
  assert_int_equal(orders, 24);
  assert_true(chi2 < 56);
}

/* ---- hashes ------------------------------------------------------------------------ */

static void test_blake2b_known_values(void **state) {
  (void)state;
  coh_error err = {0};
  coh_hash h;
  assert_int_equal(coh_hash_bytes("abc", 3, &h, &err), COH_OK);
  assert_string_equal(h.hex, "cf4ab791c62b8d2b2109c90275287816");
  assert_int_equal(coh_hash_bytes(NULL, 0, &h, &err), COH_OK);
  assert_string_equal(h.hex, "cae66941d9efbd404e4d88758ea67670");
}

static void test_hash_of_a_file_is_that_of_its_bytes(void **state) {
  (void)state;
  coh_error err = {0};
  coh_hash bytes, file;
  static char data[200000];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i % 253);
  for (size_t n = 0; n <= sizeof data; n += 65536 - 1 + (n == 65535)) {
    assert_int_equal(coh_file_write(scratch("hashed"), data, n, &err), COH_OK);
    assert_int_equal(coh_hash_bytes(data, n, &bytes, &err), COH_OK);
    assert_int_equal(coh_hash_file(scratch("hashed"), &file, &err), COH_OK);
    assert_string_equal(file.hex, bytes.hex);
  }
  assert_int_equal(coh_hash_file("/no/such", &file, &err), COH_EIO);
  assert_string_equal(err.text, "cannot open '/no/such': No such file or directory");
  assert_int_equal(coh_hash_file("/proc", &file, &err), COH_EIO);
  assert_string_equal(err.text, "cannot read '/proc': Is a directory");
}

static void test_get_and_put(void **state) {
  (void)state;
  float f[2] = {0};
  double d[2] = {0};
  coh_put(COH_F32, f, 1, 0.1);
  coh_put(COH_F64, d, 1, 0.1);
  assert_true(coh_get(COH_F32, f, 1) == (double)0.1f);
  assert_true(coh_get(COH_F64, d, 1) == 0.1);
  assert_int_equal(coh_dtype_size(COH_F32), 4);
  assert_int_equal(coh_dtype_size(COH_F64), 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fail_formats_and_returns_the_code),
      cmocka_unit_test(test_fail_errno_appends_the_reason),
      cmocka_unit_test(test_explain_puts_text_in_front),
      cmocka_unit_test(test_long_messages_end_in_dots),
      cmocka_unit_test(test_exit_statuses),
      cmocka_unit_test(test_say),
      cmocka_unit_test(test_alloc),
      cmocka_unit_test(test_product_of_sizes),
      cmocka_unit_test(test_text_grows),
      cmocka_unit_test(test_format_refuses_to_cut),
      cmocka_unit_test(test_real_text_looks_like_python),
      cmocka_unit_test(test_real_text_round_trips),
      cmocka_unit_test(test_real_text_is_shortest),
      cmocka_unit_test(test_mkdirs),
      cmocka_unit_test(test_write_then_read),
      cmocka_unit_test(test_write_below_the_current_folder),
      cmocka_unit_test(test_read_of_large_and_of_unsized_files),
      cmocka_unit_test(test_read_failures),
      cmocka_unit_test(test_write_below_a_file_fails),
      cmocka_unit_test(test_write_onto_a_folder_leaves_no_temporary),
      cmocka_unit_test(test_write_beyond_the_size_limit),
      cmocka_unit_test(test_write_to_a_full_disk),
      cmocka_unit_test(test_temp_commit_and_discard),
      cmocka_unit_test(test_clock_does_not_go_back),
      cmocka_unit_test(test_philox_known_answer),
      cmocka_unit_test(test_every_argument_counts),
      cmocka_unit_test(test_uniform_and_normal_moments),
      cmocka_unit_test(test_permutation_is_one),
      cmocka_unit_test(test_permutation_is_unbiased),
      cmocka_unit_test(test_blake2b_known_values),
      cmocka_unit_test(test_hash_of_a_file_is_that_of_its_bytes),
      cmocka_unit_test(test_get_and_put),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
