/* metrics.c - what is measured while training: rows in memory, found again by a hash
 * table, and one CSV file that is rewritten whole (30 bytes a row). Uses base. */
#include "store/store_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char header[] = "step,name,member,value\n";

/* A row. Names are few, so a row has the number of its name. */
typedef struct entry {
  uint64_t step, member;
  double value;
  size_t name;
} entry;

struct coh_metrics {
  char path[COH_PATH];
  entry *row;
  size_t n, cap;
  char **name;
  size_t n_name;
  uint32_t *slot; /* 1 + number of a row, or 0 for a free slot */
  size_t n_slot;  /* a power of two, more than half of them free */
};

/* ---- finding a row --------------------------------------------------------------- */

static size_t mix(uint64_t step, size_t name, uint64_t member) {
  uint64_t h = step * 0x9e3779b97f4a7c15u ^ member * 0xc2b2ae3d27d4eb4fu ^ name;
  h ^= h >> 29;
  h *= 0xbf58476d1ce4e5b9u;
  return (size_t)(h ^ h >> 32);
}

/* The slot of such a row: its own, or the free one where it belongs. */
static uint32_t *find(const coh_metrics *m, uint64_t step, size_t name, uint64_t member) {
  for (size_t i = mix(step, name, member);; i++) {
    uint32_t *slot = m->slot + (i & (m->n_slot - 1));
    if (*slot == 0) return slot;
    const entry *e = m->row + *slot - 1;
    if (e->step == step && e->name == name && e->member == member) return slot;
  }
}

static void fill_slots(coh_metrics *m) {
  memset(m->slot, 0, m->n_slot * sizeof *m->slot);
  for (size_t i = 0; i < m->n; i++)
    *find(m, m->row[i].step, m->row[i].name, m->row[i].member) = (uint32_t)(i + 1);
}

/* Room for one more row. */
static int grow(coh_metrics *m, coh_error *err) {
  if (m->n < m->cap) return COH_OK;
  size_t cap = m->cap ? 2 * m->cap : 256;
  if (cap > UINT32_MAX / 4)
    return coh_fail(err, COH_EUSAGE,
                    "'%s': more than %zu rows; measure less often (see "
                    "training.evaluate_every)",
                    m->path, m->n);
  uint32_t *slot;
  int rc = coh_alloc(&slot, 2 * cap, sizeof *slot, err);
  if (rc != COH_OK) return rc;
  entry *row = realloc(m->row, cap * sizeof *row);
  if (!row) {
    free(slot);
    return coh_fail(err, COH_ENOMEM, "no memory for %zu metrics", cap);
  }
  free(m->slot);
  m->slot = slot;
  m->n_slot = 2 * cap;
  m->row = row;
  m->cap = cap;
  fill_slots(m);
  return COH_OK;
}

static int name_number(coh_metrics *m, const char *name, size_t *out, coh_error *err) {
  for (*out = 0; *out < m->n_name; ++*out)
    if (strcmp(m->name[*out], name) == 0) return COH_OK;
  char **more = realloc(m->name, (m->n_name + 1) * sizeof *more);
  if (more) m->name = more;
  char *copy = more ? strdup(name) : NULL;
  if (!copy) return coh_fail(err, COH_ENOMEM, "no memory for a metric");
  m->name[m->n_name++] = copy;
  return COH_OK;
}

int coh_metrics_add(coh_metrics *m, uint64_t step, const char *name, uint64_t member,
                    double value, coh_error *err) {
  int rc = COH_OK;
  size_t number;
  COH_TRY(name_number(m, name, &number, err));
  COH_TRY(grow(m, err));
  uint32_t *slot = find(m, step, number, member);
  if (*slot == 0) {
    m->row[m->n++] = (entry){.step = step, .member = member, .name = number};
    *slot = (uint32_t)m->n;
  }
  m->row[*slot - 1].value = value;
cleanup:
  return rc;
}

void coh_metrics_truncate(coh_metrics *m, uint64_t step) {
  size_t kept = 0;
  for (size_t i = 0; i < m->n; i++)
    if (m->row[i].step <= step) m->row[kept++] = m->row[i];
  if (kept == m->n) return;
  m->n = kept;
  fill_slots(m);
}

size_t coh_metrics_count(const coh_metrics *m) {
  return m->n;
}

coh_metrics_row coh_metrics_get(const coh_metrics *m, size_t i) {
  const entry *e = m->row + i;
  return (coh_metrics_row){e->step, m->name[e->name], e->member, e->value};
}

/* ---- the file -------------------------------------------------------------------- */

static bool read_count(const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  *out = strtoull(text, &end, 10);
  return *text >= '0' && *text <= '9' && !*end && errno == 0;
}

static bool read_real(const char *text, double *out) {
  char *end;
  *out = strtod(text, &end);
  return *text && !*end;
}

static int read_row(coh_metrics *m, const coh_csv *csv, coh_error *err) {
  uint64_t step, member;
  double value;
  char **cell = csv->cell;
  if (csv->n != 4 || !read_count(cell[0], &step) || !*cell[1] ||
      !read_count(cell[2], &member) || !read_real(cell[3], &value))
    return coh_fail(err, COH_EDATA, "%s:%zu: expected step,name,member,value", m->path,
                    csv->first);
  return coh_metrics_add(m, step, cell[1], member, value, err);
}

static int read_rows(coh_metrics *m, char *text, size_t len, coh_error *err) {
  int rc = COH_OK;
  coh_csv csv;
  bool more = true;
  size_t head = strlen(header);
  COH_TRY(coh_csv_start(&csv, m->path, text, len, err));
  if (len < head || memcmp(text, header, head) != 0) {
    rc = coh_fail(err, COH_EDATA, "%s:1: expected the line %.*s", m->path, (int)head - 1,
                  header);
    goto cleanup;
  }
  COH_TRY(coh_csv_next(&csv, &more, err));
  while (more) {
    COH_TRY(coh_csv_next(&csv, &more, err));
    if (more) COH_TRY(read_row(m, &csv, err));
  }
cleanup:
  coh_csv_end(&csv);
  return rc;
}

int coh_metrics_open(const char *path, coh_metrics **out, coh_error *err) {
  int rc = COH_OK;
  coh_metrics *m = NULL;
  char *text = NULL;
  size_t len;
  *out = NULL;
  COH_TRY(coh_alloc(&m, 1, sizeof *m, err));
  COH_TRY(coh_format(m->path, sizeof m->path, err, "%s", path));
  if (coh_file_exists(path)) {
    COH_TRY(coh_file_read(path, &text, &len, err));
    COH_TRY(read_rows(m, text, len, err));
  }
  *out = m;
  m = NULL;
cleanup:
  free(text);
  coh_metrics_close(m);
  return rc;
}

void coh_metrics_close(coh_metrics *m) {
  if (!m) return;
  for (size_t i = 0; i < m->n_name; i++) free(m->name[i]);
  free(m->name);
  free(m->slot);
  free(m->row);
  free(m);
}

int coh_metrics_write(coh_metrics *m, coh_error *err) {
  int rc = COH_OK;
  coh_text text = {0};
  char value[32];
  coh_text_add(&text, "%s", header);
  for (size_t i = 0; i < m->n; i++) {
    const entry *e = m->row + i;
    coh_text_add(&text, "%ju,", (uintmax_t)e->step);
    coh_csv_cell(&text, m->name[e->name]);
    coh_text_add(&text, ",%ju,%s\n", (uintmax_t)e->member,
                 coh_real_text(e->value, value));
  }
  COH_TRY(coh_text_check(&text, err));
  COH_TRY(coh_file_write(m->path, text.data, text.len, err));
cleanup:
  coh_text_free(&text);
  return rc;
}
