/* array_numpy.c - NumPy's .npy format, versions 1 to 3, alone or as a member of an .npz
 * archive (numpy.lib.format). Structured, complex, text and object arrays are refused.
 * Uses base.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/array.h"
#include "data/zip.h"

enum { MOST_HEADER = 1 << 20, CHUNK_BYTES = 1 << 16, MOST_DIMS = 4 };

/* How one number is stored. */
typedef struct element {
  char kind; /* f, i, u or b, as in NumPy */
  size_t width;
  bool high_first;
} element;

typedef struct npy_header {
  element element;
  bool has_element, has_order, has_shape;
  bool fortran;
  size_t ndim, dim[MOST_DIMS];
} npy_header;

/* ---- the header: a Python dictionary of three keys -------------------------------- */

typedef struct cursor {
  const char *at;
  const char *where; /* the file, for messages */
} cursor;

static int bad_header(const cursor *c, const char *expected, coh_error *err) {
  return coh_fail(err, COH_EDATA, "%s: .npy header: expected %s, found '%.40s'", c->where,
                  expected, c->at);
}

static void skip_space(cursor *c) {
  while (isspace((unsigned char)*c->at)) c->at++;
}

/* Steps over `text` if it comes next. */
static bool accept(cursor *c, const char *text) {
  size_t n = strlen(text);
  skip_space(c);
  if (strncmp(c->at, text, n) != 0) return false;
  c->at += n;
  return true;
}

static bool is_known(const element *e) {
  static const char *const known[] = {"f2", "f4", "f8", "i1", "i2", "i4",
                                      "i8", "u1", "u2", "u4", "u8", "b1"};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i][0] == e->kind && (size_t)(known[i][1] - '0') == e->width) return true;
  return false;
}

/* What an array of this kind holds that is no number, or NULL. */
static const char *not_numbers(char kind) {
  if (kind == 'U' || kind == 'S') return "text";
  return kind == 'O' ? "Python objects" : NULL;
}

/* '<f8': byte order, kind, width. */
static int parse_descr(cursor *c, npy_header *h, coh_error *err) {
  const char *expected = "a type such as '<f8': float, integer or bool";
  skip_space(c);
  const char *p = c->at;
  if (*p != '\'' || !p[1] || !p[2] || !p[3]) return bad_header(c, expected, err);
  h->element = (element){p[2], (size_t)(p[3] - '0'), p[1] == '>'};
  bool ordered = strchr("<>|=", p[1]) != NULL;
  if (ordered && not_numbers(p[2]))
    return coh_fail(err, COH_EDATA, "%s: holds %s, expected numbers", c->where,
                    not_numbers(p[2]));
  if (!ordered || !is_known(&h->element) || p[4] != '\'')
    return bad_header(c, expected, err);
  c->at = p + 5;
  h->has_element = true;
  return COH_OK;
}

static int parse_order(cursor *c, npy_header *h, coh_error *err) {
  h->fortran = accept(c, "True");
  if (!h->fortran && !accept(c, "False")) return bad_header(c, "True or False", err);
  h->has_order = true;
  return COH_OK;
}

static int parse_shape(cursor *c, npy_header *h, coh_error *err) {
  if (!accept(c, "(")) return bad_header(c, "a shape such as (3, 4)", err);
  for (h->ndim = 0; !accept(c, ")"); h->ndim++) {
    char *end = NULL;
    skip_space(c);
    if (h->ndim == MOST_DIMS) return bad_header(c, "at most 4 dimensions", err);
    if (!isdigit((unsigned char)*c->at)) return bad_header(c, "a dimension", err);
    h->dim[h->ndim] = strtoull(c->at, &end, 10);
    c->at = end;
    skip_space(c);
    if (!accept(c, ",") && *c->at != ')') return bad_header(c, "',' or ')'", err);
  }
  h->has_shape = true;
  return COH_OK;
}

static int parse_header(const char *text, const char *where, npy_header *h,
                        coh_error *err) {
  cursor c = {text, where};
  int rc = COH_OK;
  *h = (npy_header){0};
  if (!accept(&c, "{")) return bad_header(&c, "'{'", err);
  while (rc == COH_OK && !accept(&c, "}")) {
    if (accept(&c, "'descr':"))
      rc = parse_descr(&c, h, err);
    else if (accept(&c, "'fortran_order':"))
      rc = parse_order(&c, h, err);
    else if (accept(&c, "'shape':"))
      rc = parse_shape(&c, h, err);
    else
      rc = bad_header(&c, "'descr', 'fortran_order' or 'shape'", err);
    if (rc == COH_OK && !accept(&c, ",")) {
      skip_space(&c);
      if (*c.at != '}') rc = bad_header(&c, "',' or '}'", err);
    }
  }
  if (rc == COH_OK && !(h->has_element && h->has_order && h->has_shape))
    rc = bad_header(&c, "each of 'descr', 'fortran_order', 'shape'", err);
  return rc;
}

/* Reads and parses everything before the numbers. */
static int read_header(coh_stream *in, const char *where, npy_header *h, coh_error *err) {
  uint8_t b[12] = {0};
  char *text = NULL;
  int rc = COH_OK;
  COH_TRY(coh_stream_read(in, b, 8, err));
  if (memcmp(b, "\x93NUMPY", 6) != 0 || b[6] < 1 || b[6] > 3) {
    rc = coh_fail(err, COH_EDATA, "%s: expected a .npy array of version 1 to 3", where);
    goto cleanup;
  }
  COH_TRY(coh_stream_read(in, b + 8, b[6] == 1 ? 2 : 4, err));
  size_t len = b[8] | (size_t)b[9] << 8 | (size_t)b[10] << 16 | (size_t)b[11] << 24;
  if (len > MOST_HEADER) {
    rc = coh_fail(err, COH_EDATA, "%s: .npy header: %zu bytes are too many", where, len);
    goto cleanup;
  }
  COH_TRY(coh_alloc(&text, len + 1, 1, err));
  COH_TRY(coh_stream_read(in, text, len, err));
  COH_TRY(parse_header(text, where, h, err));
cleanup:
  free(text);
  return rc;
}

/* ---- the numbers ------------------------------------------------------------------ */

static double half(uint64_t v) {
  double sign = v >> 15 ? -1.0 : 1.0, digits = (double)(v & 1023);
  int exponent = (int)(v >> 10 & 31);
  if (exponent == 31) return digits == 0 ? sign * (double)INFINITY : (double)NAN;
  if (exponent == 0) return sign * ldexp(digits, -24);
  return sign * ldexp(1024 + digits, exponent - 25);
}

static double floating(uint64_t v, size_t width) {
  double d;
  float f;
  uint32_t v32 = (uint32_t)v;
  if (width == 2) return half(v);
  memcpy(&f, &v32, sizeof f);
  memcpy(&d, &v, sizeof d);
  return width == 4 ? (double)f : d;
}

static double decode(const element *e, const uint8_t *b) {
  uint64_t v = 0;
  for (size_t i = 0; i < e->width; i++)
    v = v << 8 | b[e->high_first ? i : e->width - 1 - i];
  if (e->kind == 'f') return floating(v, e->width);
  if (e->kind == 'b') return v != 0;
  if (e->kind == 'u') return (double)v;
  unsigned unused = 64 - 8 * (unsigned)e->width;
  return (double)((int64_t)(v << unused) >> unused);
}

/* Walks an array in Fortran order, first index fastest; `to` is the place in C order. */
typedef struct walk {
  size_t index[MOST_DIMS], stride[MOST_DIMS];
  size_t to;
} walk;

static void walk_begin(walk *w, const coh_array *a) {
  *w = (walk){0};
  for (size_t i = a->ndim, stride = 1; i-- > 0; stride *= a->dim[i])
    w->stride[i] = stride;
}

static void walk_step(walk *w, const coh_array *a) {
  for (size_t i = 0; i < a->ndim; i++) {
    w->to += w->stride[i];
    if (++w->index[i] < a->dim[i]) return;
    w->to -= w->stride[i] * a->dim[i];
    w->index[i] = 0;
  }
}

static int read_numbers(coh_stream *in, const npy_header *h, coh_array *out,
                        coh_error *err) {
  size_t count = coh_array_count(out), width = h->element.width;
  uint8_t *chunk = NULL;
  walk w;
  walk_begin(&w, out);
  int rc = coh_alloc(&chunk, CHUNK_BYTES, 1, err);
  for (size_t done = 0, n; done < count && rc == COH_OK; done += n) {
    n = count - done < CHUNK_BYTES / width ? count - done : CHUNK_BYTES / width;
    rc = coh_stream_read(in, chunk, n * width, err);
    for (size_t i = 0; i < n && rc == COH_OK; i++, walk_step(&w, out))
      out->data[h->fortran ? w.to : done + i] = decode(&h->element, chunk + i * width);
  }
  free(chunk);
  return rc;
}

/* Bytes that the numbers take, checked against the file before memory is taken. */
static int check_size(coh_stream *in, const npy_header *h, const char *where,
                      coh_error *err) {
  uint64_t bytes = h->element.width;
  for (size_t i = 0; i < h->ndim; i++)
    if (__builtin_mul_overflow(bytes, h->dim[i], &bytes))
      return coh_fail(err, COH_EDATA, "%s: .npy header: its shape is too large", where);
  return coh_stream_has(in, bytes, err);
}

static int read_array(coh_stream *in, const char *where, coh_array *out, coh_error *err) {
  npy_header h;
  int rc = COH_OK;
  COH_TRY(read_header(in, where, &h, err));
  COH_TRY(check_size(in, &h, where, err));
  COH_TRY(coh_array_alloc(out, h.ndim, h.dim, where, err));
  COH_TRY(read_numbers(in, &h, out, err));
  COH_TRY(coh_stream_end(in, err));
cleanup:
  return rc;
}

int coh_npy_read(const char *path, coh_array *out, coh_error *err) {
  coh_stream *in = NULL;
  int rc = coh_stream_open(&in, path, err);
  if (rc == COH_OK) rc = read_array(in, path, out, err);
  coh_stream_close(in);
  return rc;
}

/* ---- .npz ------------------------------------------------------------------------- */

static bool is_named(const char *member, const char *name) {
  size_t n = strlen(name);
  return strncmp(member, name, n) == 0 &&
         (member[n] == '\0' || strcmp(member + n, ".npy") == 0);
}

/* The member `name` (NULL: any), how many there are, and a list of all names. */
static int scan(const char *path, const char *name, coh_zip_entry *found, size_t *count,
                coh_text *names, coh_error *err) {
  coh_zip z = {0};
  coh_zip_entry e;
  bool more = true;
  *count = 0;
  int rc = coh_zip_open(&z, path, err);
  while (rc == COH_OK && more) {
    rc = coh_zip_next(&z, path, &e, &more, err);
    if (rc != COH_OK || !more) break;
    coh_text_add(names, "%s%s", names->len ? ", " : "", e.name);
    if (name && !is_named(e.name, name)) continue;
    *found = e;
    ++*count;
  }
  coh_zip_close(&z);
  return rc == COH_OK ? coh_text_check(names, err) : rc;
}

int coh_npz_has(const char *path, const char *name, bool *has, coh_error *err) {
  coh_zip_entry e;
  coh_text names = {0};
  size_t count = 0;
  int rc = scan(path, name, &e, &count, &names, err);
  *has = count > 0;
  coh_text_free(&names);
  return rc;
}

static int read_member(const char *path, coh_zip_entry *e, coh_array *out,
                       coh_error *err) {
  coh_stream *in = NULL;
  int rc = coh_zip_locate(path, e, err);
  if (rc == COH_OK) rc = coh_stream_open_member(&in, path, &e->member, err);
  if (rc == COH_OK) rc = read_array(in, path, out, err);
  coh_stream_close(in);
  return rc;
}

int coh_npz_read(const char *path, const char *name, coh_array *out, coh_error *err) {
  coh_zip_entry e;
  coh_text names = {0};
  size_t count = 0;
  int rc = scan(path, name, &e, &count, &names, err);
  if (rc == COH_OK && count != 1)
    rc = coh_fail(err, COH_EDATA, "%s: expected one array %s, found %zu; it holds: %s",
                  path, name ? name : "in it", count, names.len ? names.data : "nothing");
  if (rc == COH_OK && read_member(path, &e, out, err) != COH_OK)
    rc = coh_explain(err, "array %s", e.name);
  coh_text_free(&names);
  return rc;
}
