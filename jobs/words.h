/* words.h - a command line in the making. */
#ifndef COHORT_JOBS_WORDS_H
#define COHORT_JOBS_WORDS_H

#include "cohort/base.h"

/* Start with {0}, end with words_free. `word` ends with NULL once something was added. */
typedef struct words {
  size_t n, cap;
  char **word; /* owned */
  bool failed; /* out of memory: later calls do nothing */
} words;
void words_add(words *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The words of a text, split and unquoted as a shell does; ~ and $NAME are replaced,
 * other things a shell would do are COH_EUSAGE. */
int words_split(words *, const char *text, coh_error *err);
int words_check(const words *, coh_error *err);
void words_free(words *);
/* A word as a shell must be given it: in quotes if need be. */
void words_quote(const char *word, coh_text *out);
/* As a line that a shell would read as these words. */
void words_show(const words *, coh_text *out);

#endif
