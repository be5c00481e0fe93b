/* images.c - the table of named image sets, where their files are looked for, and reading
 * them. The formats are in idx.c and cifar.c. Uses base.
 */
#include "data/images.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "data/cifar.h"
#include "data/stream.h"

enum { MOST_FILES = 5, BYTE_VALUES = 256 };

struct coh_image_set {
  const char *name;
  size_t shape[3];
  size_t classes;
  double mean[3], std[3];               /* of each channel */
  bool cifar;                           /* batches of CIFAR; else IDX: images, labels */
  const char *files[2][MOST_FILES + 1]; /* of the test, of the training split */
  const char *system_folder;            /* where a Debian package puts them, or NULL */
};

#define IDX_TEST                                                                         \
  { "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte" }
#define IDX_TRAIN                                                                        \
  { "train-images-idx3-ubyte", "train-labels-idx1-ubyte" }

static const coh_image_set SETS[] = {
    {.name = "mnist",
     .shape = {1, 28, 28},
     .classes = 10,
     .mean = {0.1307},
     .std = {0.3081},
     .files = {IDX_TEST, IDX_TRAIN}},
    {.name = "fashion_mnist",
     .shape = {1, 28, 28},
     .classes = 10,
     .mean = {0.5},
     .std = {0.5},
     .files = {IDX_TEST, IDX_TRAIN},
     .system_folder = "/usr/share/datasets/fashion-mnist"},
    {.name = "cifar10",
     .shape = {3, 32, 32},
     .classes = 10,
     .mean = {0.485, 0.456, 0.406},
     .std = {0.229, 0.224, 0.225},
     .cifar = true,
     .files = {{"test_batch.bin"},
               {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                "data_batch_4.bin", "data_batch_5.bin"}}},
};
static const size_t N_SETS = sizeof SETS / sizeof *SETS;

const char *coh_dataset_names(void) {
  return "mnist, fashion_mnist, cifar10";
}

static const coh_image_set *find_set(const char *name) {
  for (size_t i = 0; i < N_SETS; i++)
    if (strcmp(SETS[i].name, name) == 0) return &SETS[i];
  return NULL;
}

bool coh_images_is_name(const char *name) {
  return find_set(name) != NULL;
}

/* ---- where the files are ---------------------------------------------------------- */

/* The path of `file`, plain or with .gz; empty if there is neither. */
static int file_in(const char *folder, const char *file, char *path, coh_error *err) {
  int rc = coh_format(path, COH_PATH, err, "%s/%s", folder, file);
  if (rc != COH_OK || coh_file_exists(path)) return rc;
  rc = coh_format(path, COH_PATH, err, "%s/%s.gz", folder, file);
  if (rc == COH_OK && !coh_file_exists(path)) path[0] = '\0';
  return rc;
}

typedef struct search {
  coh_images *im;
  bool found;
  coh_text tried;
} search;

/* Takes folder/sub (sub may be "") if it has all files; else notes that it was tried. */
static int try_folder(search *s, const char *folder, const char *sub, coh_error *err) {
  char path[COH_PATH];
  int rc = COH_OK;
  if (s->found || !folder || !folder[0]) return COH_OK;
  rc = coh_format(s->im->folder, COH_PATH, err, "%s%s%s", folder, sub[0] ? "/" : "", sub);
  const char *const *file = s->im->set->files[s->im->train];
  s->found = rc == COH_OK;
  for (; *file && rc == COH_OK && s->found; file++) {
    rc = file_in(s->im->folder, *file, path, err);
    s->found = path[0] != '\0';
  }
  if (!s->found) coh_text_add(&s->tried, "%s%s", s->tried.len ? ", " : "", s->im->folder);
  return rc;
}

static int not_found(const search *s, coh_error *err) {
  const coh_image_set *set = s->im->set;
  int rc = coh_text_check(&s->tried, err);
  if (rc != COH_OK) return rc;
  return coh_fail(err, COH_EIO,
                  "data set %s was not found: get it with `cohort fetch %s`, or set "
                  "dataset.root; no folder has all of %s, ... (plain or .gz); tried: %s",
                  set->name, set->name, set->files[s->im->train][0], s->tried.data);
}

/* A folder that the user names is the only one that counts. */
static int search_root(search *s, const char *root, coh_error *err) {
  int rc = try_folder(s, root, "", err);
  return rc ? rc : try_folder(s, root, s->im->set->name, err);
}

static int search_usual(search *s, coh_error *err) {
  const char *home = getenv("HOME"), *name = s->im->set->name;
  char local[COH_PATH] = "";
  int rc = COH_OK;
  if (home && home[0])
    COH_TRY(coh_format(local, sizeof local, err, "%s/.local/share/cohort", home));
  COH_TRY(try_folder(s, getenv("COHORT_DATA"), name, err));
  COH_TRY(try_folder(s, local, name, err));
  COH_TRY(try_folder(s, "data", name, err));
  COH_TRY(try_folder(s, s->im->set->system_folder, "", err));
cleanup:
  return rc;
}

static int find_folder(coh_images *im, const char *root, coh_error *err) {
  int rc;
  search s = {.im = im};
  COH_TRY(root && root[0] ? search_root(&s, root, err) : search_usual(&s, err));
  if (!s.found) rc = not_found(&s, err);
cleanup:
  coh_text_free(&s.tried);
  return rc;
}

/* ---- opening ---------------------------------------------------------------------- */

static int file_path(const coh_images *im, size_t i, char *path, coh_error *err) {
  const char *file = im->set->files[im->train][i];
  int rc = file_in(im->folder, file, path, err);
  if (rc != COH_OK || path[0]) return rc;
  errno = ENOENT;
  return coh_fail_errno(err, "%s/%s", im->folder, file);
}

static int check_labels(const coh_images *im, const char *path, uint64_t at,
                        coh_error *err) {
  for (size_t i = 0; i < im->n; i++)
    if (im->labels[i] >= im->classes)
      return coh_fail(err, COH_EDATA,
                      "%s: expected a label of 0..%zu at byte %zu, found %u", path,
                      im->classes - 1, (size_t)at + i, im->labels[i]);
  return COH_OK;
}

static int read_labels(coh_images *im, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH];
  coh_idx f = {0};
  COH_TRY(file_path(im, 1, path, err));
  COH_TRY(coh_idx_open(&f, path, 1, (size_t[]){0}, err));
  im->n = f.n;
  uint64_t at = coh_stream_offset(f.in);
  COH_TRY(coh_alloc(&im->labels, f.n, 1, err));
  COH_TRY(coh_stream_read(f.in, im->labels, f.n, err));
  COH_TRY(coh_stream_end(f.in, err));
  COH_TRY(check_labels(im, path, at, err));
cleanup:
  coh_idx_close(&f);
  return rc;
}

/* The labels come first: what they hold is a check on the count in the images' header. */
static int open_idx(coh_images *im, coh_error *err) {
  char path[COH_PATH];
  size_t dims[3] = {0, im->shape[1], im->shape[2]};
  int rc = read_labels(im, err);
  if (rc == COH_OK) rc = file_path(im, 0, path, err);
  if (rc == COH_OK) rc = coh_idx_open(&im->pixels, path, 3, dims, err);
  if (rc != COH_OK || im->pixels.n == im->n) return rc;
  return coh_fail(err, COH_EDATA,
                  "%s: expected %zu images at byte 4, one for each label, found %zu",
                  path, im->n, im->pixels.n);
}

static int open_cifar(coh_images *im, coh_error *err) {
  char path[COH_PATH];
  int rc = COH_OK;
  for (size_t i = 0; im->set->files[im->train][i] && rc == COH_OK; i++) {
    size_t n = 0;
    rc = file_path(im, i, path, err);
    if (rc == COH_OK) rc = coh_cifar_count(path, &n, err);
    im->n += n;
  }
  return rc;
}

int coh_images_open(coh_images *im, const char *name, const char *root, bool train,
                    coh_error *err) {
  int rc = COH_OK;
  *im = (coh_images){.set = find_set(name), .train = train};
  if (!im->set)
    return coh_fail(err, COH_EUSAGE, "no data set is called '%s'; there are: %s", name,
                    coh_dataset_names());
  memcpy(im->shape, im->set->shape, sizeof im->shape);
  im->d_in = im->shape[0] * im->shape[1] * im->shape[2];
  im->classes = im->set->classes;
  COH_TRY(find_folder(im, root, err));
  COH_TRY(im->set->cifar ? open_cifar(im, err) : open_idx(im, err));
  if (im->n >= UINT32_MAX)
    rc = coh_fail(err, COH_EDATA, "%s: %zu samples are too many", im->folder, im->n);
cleanup:
  if (rc != COH_OK) coh_images_close(im);
  return rc;
}

void coh_images_close(coh_images *im) {
  coh_idx_close(&im->pixels);
  free(im->labels);
  *im = (coh_images){0};
}

/* ---- content ---------------------------------------------------------------------- */

static int hash_stream(const char *path, uint64_t *bytes, coh_hash *out, coh_error *err) {
  int rc;
  coh_stream *in = NULL;
  void *data = NULL;
  COH_TRY(coh_stream_count(path, bytes, err));
  COH_TRY(coh_alloc(&data, *bytes, 1, err));
  COH_TRY(coh_stream_open(&in, path, err));
  COH_TRY(coh_stream_read(in, data, *bytes, err));
  COH_TRY(coh_hash_bytes(data, *bytes, out, err));
cleanup:
  coh_stream_close(in);
  free(data);
  return rc;
}

int coh_dataset_content(const char *name, const char *root, bool train, coh_text *out,
                        coh_error *err) {
  int rc;
  char path[COH_PATH];
  uint64_t bytes;
  coh_hash hash;
  coh_images im = {.set = find_set(name), .train = train};
  COH_TRY(find_folder(&im, root, err));
  for (size_t i = 0; im.set->files[train][i]; i++) {
    COH_TRY(file_path(&im, i, path, err));
    COH_TRY(hash_stream(path, &bytes, &hash, err));
    coh_text_add(out, "%s/%s %llu %s\n", name, im.set->files[train][i],
                 (unsigned long long)bytes, hash.hex);
  }
  COH_TRY(coh_text_check(out, err));
cleanup:
  return rc;
}

/* ---- reading ---------------------------------------------------------------------- */

/* Where samples go as they arrive. */
typedef struct writer {
  const coh_images *im;
  coh_dtype dtype;
  const uint32_t *place;
  void *x;
  int32_t *labels;
  size_t next;                  /* sample to arrive */
  double value[3][BYTE_VALUES]; /* normalised, by channel and byte */
} writer;

static void fill_values(writer *w) {
  const coh_image_set *set = w->im->set;
  for (size_t c = 0; c < set->shape[0]; c++)
    for (int v = 0; v < BYTE_VALUES; v++)
      w->value[c][v] = w->im->unit ? v / 255.0 : (v / 255.0 - set->mean[c]) / set->std[c];
}

static void take_sample(void *ctx, int label, const uint8_t *pixels) {
  writer *w = ctx;
  size_t row = w->place ? w->place[w->next] : w->next;
  size_t plane = w->im->shape[1] * w->im->shape[2], at = row * w->im->d_in;
  w->next++;
  if (w->place && row == UINT32_MAX) return;
  if (w->labels) w->labels[row] = label;
  for (size_t c = 0; c < w->im->shape[0]; c++)
    for (size_t i = 0; i < plane; i++, at++)
      coh_put(w->dtype, w->x, at, w->value[c][*pixels++]);
}

static int read_idx(coh_images *im, writer *w, coh_error *err) {
  uint8_t *pixels = NULL;
  int rc = coh_alloc(&pixels, im->d_in, 1, err);
  for (size_t i = 0; i < im->n && rc == COH_OK; i++) {
    rc = coh_stream_read(im->pixels.in, pixels, im->d_in, err);
    if (rc == COH_OK) take_sample(w, im->labels[i], pixels);
  }
  if (rc == COH_OK) rc = coh_stream_end(im->pixels.in, err);
  free(pixels);
  return rc;
}

static int read_cifar(coh_images *im, writer *w, coh_error *err) {
  char path[COH_PATH];
  int rc = COH_OK;
  for (size_t i = 0; im->set->files[im->train][i] && rc == COH_OK; i++) {
    size_t n = 0;
    rc = file_path(im, i, path, err);
    if (rc == COH_OK) rc = coh_cifar_count(path, &n, err);
    if (rc == COH_OK && n > im->n - w->next)
      rc = coh_fail(err, COH_EDATA, "%s: has grown while it was read", path);
    if (rc == COH_OK) rc = coh_cifar_read(path, n, take_sample, w, err);
  }
  if (rc != COH_OK || w->next == im->n) return rc;
  return coh_fail(err, COH_EDATA, "%s: expected %zu samples, found %zu", im->folder,
                  im->n, w->next);
}

int coh_images_read(coh_images *im, coh_dtype dtype, const uint32_t *place, void *x,
                    int32_t *labels, coh_error *err) {
  writer w = {.im = im, .dtype = dtype, .place = place, .x = x, .labels = labels};
  fill_values(&w);
  return im->set->cifar ? read_cifar(im, &w, err) : read_idx(im, &w, err);
}
