/* words.c - lists of words, and how a shell would write them. */
#include "words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wordexp.h>

static bool make_room(words *w) {
  if (w->n + 1 < w->cap) return true;
  size_t cap = w->cap ? 2 * w->cap : 32;
  char **more = realloc(w->word, cap * sizeof *more);
  if (!more) return false;
  w->word = more;
  w->cap = cap;
  return true;
}

void words_add(words *w, const char *format, ...) {
  va_list args;
  char *one = NULL;
  if (w->failed) return;
  va_start(args, format);
  int n = vasprintf(&one, format, args);
  va_end(args);
  if (n < 0 || !make_room(w)) {
    if (n >= 0) free(one);
    w->failed = true;
    return;
  }
  w->word[w->n++] = one;
  w->word[w->n] = NULL;
}

int words_split(words *w, const char *text, coh_error *err) {
  wordexp_t found;
  int code = wordexp(text, &found, WRDE_NOCMD);
  if (code == WRDE_NOSPACE)
    return coh_fail(err, COH_ENOMEM, "no memory for \"%s\"", text);
  if (code != 0)
    return coh_fail(err, COH_EUSAGE, "\"%s\": expected words as a shell reads them, %s",
                    text,
                    code == WRDE_SYNTAX ? "with every quote closed"
                                        : "| & ; < > ( ) { } and commands in quotes");
  for (size_t i = 0; i < found.we_wordc; i++) words_add(w, "%s", found.we_wordv[i]);
  wordfree(&found);
  return words_check(w, err);
}

int words_check(const words *w, coh_error *err) {
  return w->failed ? coh_fail(err, COH_ENOMEM, "no memory for a command line") : COH_OK;
}

void words_free(words *w) {
  for (size_t i = 0; i < w->n; i++) free(w->word[i]);
  free(w->word);
  *w = (words){0};
}

void words_quote(const char *word, coh_text *out) {
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                              "0123456789_-+=/.,:%@^";
  if (*word && word[strspn(word, plain)] == '\0') {
    coh_text_add(out, "%s", word);
    return;
  }
  coh_text_add(out, "'");
  for (; *word; word++)
    if (*word == '\'')
      coh_text_add(out, "'\\''");
    else
      coh_text_addn(out, word, 1);
  coh_text_add(out, "'");
}

void words_show(const words *w, coh_text *out) {
  for (size_t i = 0; i < w->n; i++) {
    if (i) coh_text_add(out, " ");
    words_quote(w->word[i], out);
  }
}
