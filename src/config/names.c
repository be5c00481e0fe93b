/* names.c - names in messages: the nearest valid one, lists, texts that are safe to show.
 */
#include "table.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NAME_MAX_LEN = 48 }; /* longer than any of ours: nothing is near to more */

static size_t min3(size_t a, size_t b, size_t c) {
  size_t ab = a < b ? a : b;
  return ab < c ? ab : c;
}

static bool same_letter(char a, char b) {
  return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edit distance where a swap of neighbours counts once (optimal string alignment); n, m
 * are the lengths, at most NAME_MAX_LEN. */
static size_t distance(const char *a, size_t n, const char *b, size_t m) {
  size_t rows[3][NAME_MAX_LEN + 1];
  for (size_t j = 0; j <= m; j++) rows[0][j] = j;
  for (size_t i = 1; i <= n; i++) {
    size_t *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
    now[0] = i;
    for (size_t j = 1; j <= m; j++) {
      now[j] = min3(last[j] + 1, now[j - 1] + 1,
                    last[j - 1] + !same_letter(a[i - 1], b[j - 1]));
      if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
          same_letter(a[i - 2], b[j - 1]) && before[j - 2] + 1 < now[j])
        now[j] = before[j - 2] + 1;
    }
  }
  return rows[n % 3][m];
}

/* Other words for some names, which are nearer to something else or to nothing. */
static const struct {
  const char *word, *name;
} other_words[] = {{"gpu", "cuda"}, {"α", "alpha"}, {"β", "beta"}, {"ρ", "rho"}};

static const char *by_other_word(const char *word, const char *const *names) {
  for (size_t i = 0; i < sizeof other_words / sizeof *other_words; i++)
    if (strcasecmp(word, other_words[i].word) == 0 &&
        coh_name_is_among(other_words[i].name, names))
      return other_words[i].name;
  return NULL;
}

const char *coh_name_nearest(const char *name, const char *const *names) {
  size_t n = strlen(name);
  const char *other = by_other_word(name, names);
  if (other || n > NAME_MAX_LEN) return other;
  size_t best = 2 + n / 4; /* one more than what still counts as near */
  const char *nearest = NULL;
  for (; *names; names++) {
    size_t m = strlen(*names);
    size_t d = m > NAME_MAX_LEN ? best : distance(name, n, *names, m);
    if (d >= best || d >= m) continue;
    best = d;
    nearest = *names;
  }
  return nearest;
}

void coh_name_lower(char *name) {
  for (; *name; name++) *name = (char)tolower((unsigned char)*name);
}

bool coh_name_is_among(const char *name, const char *const *names) {
  for (; *names; names++)
    if (strcmp(*names, name) == 0) return true;
  return false;
}

void coh_names_join(const char *const *names, coh_text *out) {
  for (size_t i = 0; names[i]; i++) coh_text_add(out, "%s%s", i ? ", " : "", names[i]);
}

const char *const *coh_names_sections(const char **names) {
  size_t count;
  const coh_section *sections = coh_sections(&count);
  for (size_t i = 0; i < count; i++) names[i] = sections[i].name;
  names[count] = NULL;
  return names;
}

const char *const *coh_names_keys(const char *section, const char **names) {
  size_t count, n = 0;
  const coh_param *params = coh_params(&count);
  for (size_t i = 0; i < count && n < COH_NAMES - 1; i++)
    if (strcmp(params[i].section, section) == 0) names[n++] = params[i].key;
  names[n] = NULL;
  return names;
}

char *coh_shown(const char *text, char *out) {
  int n = snprintf(out, 101, "%s", text);
  if (n > 100) memcpy(out + 100, "...", 4);
  for (char *c = out; *c; c++)
    if (iscntrl((unsigned char)*c)) *c = '?';
  return out;
}

int coh_fail_text(coh_error *err, coh_text *t) {
  int rc = coh_text_check(t, err);
  if (rc == COH_OK) rc = coh_fail(err, COH_EUSAGE, "%s", t->data);
  coh_text_free(t);
  return rc;
}

int coh_fail_unknown_section(const char *section, coh_error *err) {
  const char *names[COH_NAMES];
  char shown[128];
  coh_text t = {0};
  coh_names_sections(names);
  coh_text_add(&t, "unknown section \"%s\": ", coh_shown(section, shown));
  const char *nearest = coh_name_nearest(section, names);
  if (nearest) {
    coh_text_add(&t, "did you mean \"%s\"?", nearest);
  } else {
    coh_text_add(&t, "the sections are ");
    coh_names_join(names, &t);
  }
  return coh_fail_text(err, &t);
}

int coh_fail_unknown_key(const char *section, const char *key, coh_error *err) {
  const char *names[COH_NAMES];
  char shown[128];
  coh_text t = {0};
  coh_text_add(&t, "unknown key \"%s\" in [%s]", coh_shown(key, shown), section);
  coh_names_keys(section, names);
  const char *nearest = coh_name_nearest(key, names);
  if (nearest) coh_text_add(&t, ": did you mean \"%s\"?", nearest);
  size_t count, elsewhere = 0;
  const coh_param *p = coh_params(&count);
  for (size_t i = 0; i < count; i++)
    if (strcmp(p[i].key, key) == 0)
      coh_text_add(&t, "%s[%s]",
                   elsewhere++ ? ", "
                   : nearest   ? " There is such a key in "
                               : ": there is such a key in ",
                   p[i].section);
  if (!nearest && !elsewhere) {
    coh_text_add(&t, ": its keys are ");
    coh_names_join(names, &t);
  }
  return coh_fail_text(err, &t);
}
