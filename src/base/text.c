/* text.c - growing strings, checked formatting, and numbers as text. Uses no other room.
 */
#include "cohort/base.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `more` bytes and the terminator. */
static bool reserve(coh_text *t, size_t more) {
  if (t->failed) return false;
  size_t need;
  if (__builtin_add_overflow(t->len, more, &need) || need > PTRDIFF_MAX / 2) {
    t->failed = true;
    return false;
  }
  if (need + 1 <= t->cap) return true;
  size_t cap = t->cap ? t->cap : 64;
  while (cap < need + 1) cap *= 2;
  char *data = realloc(t->data, cap);
  if (!data) {
    t->failed = true;
    return false;
  }
  t->data = data;
  t->cap = cap;
  return true;
}

void coh_text_addn(coh_text *t, const char *bytes, size_t n) {
  if (!reserve(t, n)) return;
  if (n) memcpy(t->data + t->len, bytes, n);
  t->len += n;
  t->data[t->len] = '\0';
}

void coh_text_add(coh_text *t, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (n < 0)
    t->failed = true;
  else if (reserve(t, (size_t)n)) {
    vsnprintf(t->data + t->len, (size_t)n + 1, format, again);
    t->len += (size_t)n;
  }
  va_end(again);
}

int coh_text_check(const coh_text *t, coh_error *err) {
  if (!t->failed) return COH_OK;
  return coh_fail(err, COH_ENOMEM, "out of memory after %zu bytes of text", t->len);
}

void coh_text_free(coh_text *t) {
  free(t->data);
  *t = (coh_text){0};
}

int coh_format(char *out, size_t size, coh_error *err, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(out, size, format, args);
  va_end(args);
  if (n >= 0 && (size_t)n < size) return COH_OK;
  if (n < 0) return coh_fail(err, COH_EBUG, "cannot format '%s'", format);
  return coh_fail(err, COH_EUSAGE, "'%.60s...' is too long: %d bytes, room for %zu", out,
                  n, size - 1);
}

/* Writes the digits d[0..n) with the point behind digit `point`, which may lie outside.
 */
static void place_point(char *out, const char *d, int n, int point) {
  enum { SIZE = 31 };
  if (point <= 0)
    snprintf(out, SIZE, "0.%.*s%.*s", -point, "000", n, d);
  else if (n <= point)
    snprintf(out, SIZE, "%.*s%.*s", n, d, point - n, "000000000000000");
  else
    snprintf(out, SIZE, "%.*s.%.*s", point, d, n - point, d + point);
}

/* The fewest digits, as "d.ddde-05". What reads back with 15 digits, and is no subnormal
 * number, is the shortest text with zeros behind it: there is no other with so few. */
static void shortest_digits(double v, char *out) {
  snprintf(out, 31, "%.*e", DBL_DIG - 1, v);
  bool padded = v >= DBL_MIN && strtod(out, NULL) == v;
  if (padded) {
    char *e = strchr(out, 'e'), *last = e - 1;
    while (*last == '0') last--;
    memmove(last + (*last != '.'), e, strlen(e) + 1);
    return;
  }
  for (int digits = v >= DBL_MIN ? DBL_DIG + 1 : 1; digits <= 17; digits++) {
    snprintf(out, 31, "%.*e", digits - 1, v);
    if (strtod(out, NULL) == v) break;
  }
}

/* The same for a finite v that is not negative. */
static void positive_text(double v, char *out) {
  shortest_digits(v, out);
  const char *e = strchr(out, 'e');
  int exponent = atoi(e + 1);
  if (exponent < -4 || exponent >= 16) return;
  char d[20];
  int n = 0;
  for (const char *c = out; c < e; c++)
    if (*c != '.') d[n++] = *c;
  place_point(out, d, n, exponent + 1);
}

char *coh_real_text(double v, char *out) {
  if (isnan(v)) return memcpy(out, "nan", 4);
  bool minus = signbit(v);
  if (minus) *out = '-';
  if (isinf(v))
    memcpy(out + minus, "inf", 4);
  else
    positive_text(fabs(v), out + minus);
  return out;
}
