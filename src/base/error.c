/* error.c - the error object, exit statuses, and remarks to the job. Formatting only:
 * what went wrong is said by the caller. Uses no other room. */
#include "cohort/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* vsnprintf that marks a text cut short by a trailing "...". */
static void format_text(char *out, size_t size, const char *format, va_list args) {
  int n = vsnprintf(out, size, format, args);
  if (n < 0)
    snprintf(out, size, "(a message that could not be formatted)");
  else if ((size_t)n >= size)
    memcpy(out + size - 4, "...", 4);
}

/* Joins two texts into err->text; either may lie inside it. */
static void join(coh_error *err, const char *first, const char *separator,
                 const char *second) {
  char text[COH_ERROR_TEXT];
  int n = snprintf(text, sizeof text, "%s%s%s", first, separator, second);
  if (n >= (int)sizeof text) memcpy(text + sizeof text - 4, "...", 4);
  memcpy(err->text, text, sizeof text);
}

int coh_fail(coh_error *err, int code, const char *format, ...) {
  char text[COH_ERROR_TEXT]; /* the arguments may point into err->text */
  va_list args;
  va_start(args, format);
  format_text(text, sizeof text, format, args);
  va_end(args);
  memcpy(err->text, text, sizeof text);
  err->code = code;
  return code;
}

int coh_fail_errno(coh_error *err, const char *format, ...) {
  int number = errno;
  char text[COH_ERROR_TEXT];
  va_list args;
  va_start(args, format);
  format_text(text, sizeof text, format, args);
  va_end(args);
  char reason[128];
  join(err, text, ": ", strerror_r(number, reason, sizeof reason));
  err->code = number == ENOMEM ? COH_ENOMEM : COH_EIO;
  return err->code;
}

int coh_explain(coh_error *err, const char *format, ...) {
  char text[COH_ERROR_TEXT];
  va_list args;
  va_start(args, format);
  format_text(text, sizeof text, format, args);
  va_end(args);
  join(err, text, ": ", err->text);
  return err->code;
}

int coh_exit_status(int code) {
  switch (code) {
  case COH_OK:
    return 0;
  case COH_EUSAGE:
    return 2;
  case COH_ESTOP:
    return 75;
  default:
    return 1;
  }
}

void coh_say(const coh_sink *sink, coh_level level, const char *format, ...) {
  if (!sink || !sink->line) return;
  char text[COH_ERROR_TEXT];
  va_list args;
  va_start(args, format);
  format_text(text, sizeof text, format, args);
  va_end(args);
  sink->line(sink->ctx, level, text);
}
