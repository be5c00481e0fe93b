/* ini.c - the lines of an INI file. iniparser reads the values; it silently lets a later
 * key win over an earlier one, joins lines at a backslash and forgets line numbers, so
 * the lines are gone through here first, and what iniparser would misread is refused.
 * What the keys mean is left to config.c. */
#include "table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <iniparser/iniparser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 1000 }; /* iniparser gives up at 1023 */

/* Where the scan is; names are cut and put into lower case in place. */
typedef struct scanner {
  const char *path;
  coh_ini *ini;
  const char *section; /* NULL before the first one */
  int number;
} scanner;

static int refuse(const scanner *s, coh_error *err, const char *found,
                  const char *expected) {
  char shown[128];
  return coh_fail(err, COH_EUSAGE, "%s:%d: \"%s\": expected %s", s->path, s->number,
                  coh_shown(found, shown), expected);
}

/* Cuts blanks off both ends. */
static char *trim(char *s) {
  while (isspace((unsigned char)*s)) s++;
  size_t n = strlen(s);
  while (n && isspace((unsigned char)s[n - 1])) n--;
  s[n] = '\0';
  return s;
}

static bool is_name(const char *s, char also) {
  if (!*s) return false;
  for (; *s; s++)
    if (!isalnum((unsigned char)*s) && *s != '_' && *s != also) return false;
  return true;
}

static bool in_sweep(const scanner *s) {
  return s->section && strcmp(s->section, "sweep") == 0;
}

static void add_line(scanner *s, const char *key) {
  s->ini->lines[s->ini->n++] =
      (coh_ini_line){.section = s->section, .key = key, .number = s->number};
}

static int scan_section(scanner *s, char *line, coh_error *err) {
  char *end = strchr(line, ']');
  if (!end || end[1]) return refuse(s, err, line, "\"[section]\" alone on its line");
  *end = '\0';
  char *name = trim(line + 1);
  coh_name_lower(name);
  s->section = name;
  add_line(s, NULL);
  return COH_OK;
}

/* A quoted value must end in its quote, followed by nothing or a comment. */
static bool quotes_are_closed(const char *value) {
  if (*value != '"' && *value != '\'') return true;
  const char *end = strchr(value + 1, *value);
  if (!end) return false;
  end += 1 + strspn(end + 1, " \t");
  return !*end || strchr(";#", *end);
}

/* Where a ';' or '#' outside of quotes begins a comment, or the end; NULL if a quote is
 * not closed. A quote opens behind a blank, a comma, a bracket or a comparison. */
static char *find_comment(char *value) {
  for (char *c = value; *c; c++) {
    if (*c == ';' || *c == '#') return c;
    bool opens = c == value || strchr(" \t,(=<>", c[-1]);
    if (opens && (*c == '"' || *c == '\'') && !(c = strchr(c + 1, *c))) return NULL;
  }
  return value + strlen(value);
}

/* A line of [sweep] keeps its value as written: sweep.c reads it. */
static int scan_sweep(scanner *s, char *line, char *value, coh_error *err) {
  char *end = find_comment(value);
  if (!end) return refuse(s, err, value, "a closing quote");
  bool comment = *end;
  *end = '\0';
  coh_name_lower(line);
  add_line(s, line);
  coh_ini_line *added = s->ini->lines + s->ini->n - 1;
  added->value = trim(value);
  added->comment = comment ? end + 1 : NULL;
  return COH_OK;
}

static int scan_key(scanner *s, char *line, coh_error *err) {
  char *equals = strchr(line, '='), *end = equals;
  while (end && end > line && isspace((unsigned char)end[-1])) end--;
  char kept = end ? *end : '\0';
  if (end) *end = '\0';
  bool named = end && is_name(line, in_sweep(s) ? '.' : '_');
  if (end && !(named && s->section)) *end = kept; /* show the whole line */
  if (!named) return refuse(s, err, line, "\"[section]\", \"key = value\" or a comment");
  if (!s->section) return refuse(s, err, line, "a \"[section]\" before the first key");
  char *value = equals + 1 + strspn(equals + 1, " \t");
  if (in_sweep(s)) return scan_sweep(s, line, value, err);
  if (!quotes_are_closed(value))
    return refuse(s, err, value, "a closing quote, and nothing but a comment behind it");
  coh_name_lower(line);
  add_line(s, line);
  return COH_OK;
}

static int scan_line(scanner *s, char *line, coh_error *err) {
  if (strlen(line) > LINE_MAX_LEN && !in_sweep(s))
    return refuse(s, err, line, "a line of at most 1000 bytes (in [sweep] any length)");
  line = trim(line);
  for (const char *c = line; *c; c++)
    if (iscntrl((unsigned char)*c) && *c != '\t')
      return refuse(s, err, line, "a text file without control characters");
  size_t n = strlen(line);
  if (n && line[n - 1] == '\\')
    return refuse(s, err, line, "no backslash at the end: a value stands on one line");
  if (n == 0 || *line == '#' || *line == ';') return COH_OK;
  return *line == '[' ? scan_section(s, line, err) : scan_key(s, line, err);
}

static int scan_text(scanner *s, coh_error *err) {
  char *next = s->ini->names;
  if (strlen(next) != s->ini->len)
    return coh_fail(err, COH_EUSAGE, "%s: expected a text file, found a zero byte",
                    s->path);
  if (strncmp(next, "\xef\xbb\xbf", 3) == 0)
    return coh_fail(err, COH_EUSAGE,
                    "%s:1: starts with a byte order mark: save it as UTF-8 without one",
                    s->path);
  for (char *line; (line = strsep(&next, "\n"));) {
    s->number++;
    size_t begin = (size_t)(line - s->ini->names), n = strlen(line);
    int rc = scan_line(s, line, err);
    if (rc != COH_OK) return rc;
    if (in_sweep(s)) memset(s->ini->text + begin, '\n', n); /* nothing for iniparser */
  }
  return COH_OK;
}

int coh_ini_scan(const char *path, coh_ini *ini, coh_error *err) {
  int rc;
  *ini = (coh_ini){0};
  size_t lines = 1;
  COH_TRY(coh_file_read(path, &ini->text, &ini->len, err));
  for (size_t i = 0; i < ini->len; i++) lines += ini->text[i] == '\n';
  COH_TRY(coh_alloc(&ini->names, ini->len + 1, 1, err));
  memcpy(ini->names, ini->text, ini->len);
  COH_TRY(coh_alloc(&ini->lines, lines, sizeof *ini->lines, err));
  rc = scan_text(&(scanner){.path = path, .ini = ini}, err);
cleanup:
  return rc;
}

/* The scan has refused what iniparser would complain about; what is left is told by us.
 */
static int ignore(const char *format, ...) {
  (void)format;
  return 0;
}

static bool write_all(int fd, const char *data, size_t len) {
  for (ssize_t n; len > 0; data += n, len -= (size_t)n) {
    n = write(fd, data, len);
    if (n < 0 && errno != EINTR) return false;
    if (n < 0) n = 0;
  }
  return true;
}

/* iniparser reads files only: it is given a file in memory that holds the very bytes
 * which were scanned, so that a pipe or a file just being changed does no harm. */
int coh_ini_values(const char *path, coh_ini *ini, coh_error *err) {
  char name[64];
  int fd = memfd_create("cohort-ini", MFD_CLOEXEC);
  if (fd < 0 || !write_all(fd, ini->text, ini->len)) {
    int rc = coh_fail_errno(err, "cannot copy '%s' into memory", path);
    if (fd >= 0) close(fd);
    return rc;
  }
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  iniparser_set_error_callback(ignore);
  ini->dictionary = iniparser_load(name);
  close(fd);
  if (!ini->dictionary)
    return coh_fail(err, COH_ELIB, "iniparser cannot read '%s'", path);
  for (size_t i = 0; i < ini->n; i++) {
    coh_ini_line *line = ini->lines + i;
    char key[2 * COH_NAMES];
    if (!line->key || line->value) continue;
    int rc = coh_format(key, sizeof key, err, "%s:%s", line->section, line->key);
    if (rc != COH_OK) return rc;
    line->value = iniparser_getstring(ini->dictionary, key, NULL);
    if (!line->value)
      return coh_fail(err, COH_ELIB, "%s:%d: iniparser does not find %s.%s", path,
                      line->number, line->section, line->key);
  }
  return COH_OK;
}

void coh_ini_free(coh_ini *ini) {
  if (ini->dictionary) iniparser_freedict(ini->dictionary);
  free(ini->text);
  free(ini->names);
  free(ini->lines);
  *ini = (coh_ini){0};
}
