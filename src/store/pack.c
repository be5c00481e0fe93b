/* pack.c - pack.json: which runs a pack holds, and where in its model each of them is.
 * Uses base. */
#include "store/union.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1 };

json_t *coh_json_text(const char *text) {
  json_t *value = json_string(text);
  if (value) return value;
  char *copy = strdup(text);
  for (char *c = copy; c && *c; c++)
    if (*c & 0x80) *c = '?';
  value = copy ? json_string(copy) : NULL;
  free(copy);
  return value;
}

/* ---- writing --------------------------------------------------------------------- */

static json_t *run_object(const coh_pack_run *run) {
  json_t *error = run->error ? coh_json_text(run->error) : NULL;
  return json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:o*}", "index",
                   (json_int_t)run->index, "run_id", run->run_id, "hash", run->hash,
                   "seed", (json_int_t)run->seed, "first", (json_int_t)run->first,
                   "members", (json_int_t)run->members, "status", run->status, "error",
                   error);
}

static json_t *runs_array(const coh_pack *pack) {
  json_t *runs = json_array();
  for (size_t i = 0; runs && i < pack->n; i++)
    if (json_array_append_new(runs, run_object(pack->run + i)) != 0) {
      json_decref(runs);
      return NULL;
    }
  return runs;
}

/* The hash of everything but itself. */
static int checksum(const json_t *root, coh_hash *out, coh_error *err) {
  char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
  if (!text) return coh_fail(err, COH_ENOMEM, "no memory for a pack.json");
  int rc = coh_hash_bytes(text, strlen(text), out, err);
  free(text);
  return rc;
}

static int hash_table(const char *folder, coh_hash *out, coh_error *err) {
  char path[COH_PATH];
  out->hex[0] = '\0';
  int rc = coh_format(path, sizeof path, err, "%s/runs.csv", folder);
  return !rc && coh_file_exists(path) ? coh_hash_file(path, out, err) : rc;
}

int coh_pack_write(const char *folder, const coh_pack *pack, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH], *text = NULL;
  coh_hash sum, table;
  json_t *root = NULL;
  COH_TRY(coh_format(path, sizeof path, err, "%s/pack.json", folder));
  COH_TRY(hash_table(folder, &table, err));
  root = json_pack("{s:i, s:s, s:s, s:I, s:s, s:s, s:o}", "format", FORMAT, "pack",
                   pack->hash, "sweep", pack->sweep, "attempt", (json_int_t)pack->attempt,
                   "token", pack->token, "table", table.hex, "runs", runs_array(pack));
  if (!root) {
    rc = coh_fail(err, COH_ENOMEM, "cannot put '%s' together", path);
    goto cleanup;
  }
  COH_TRY(checksum(root, &sum, err));
  (void)json_object_set_new(root, "checksum", json_string(sum.hex));
  text = json_dumps(root, JSON_COMPACT);
  if (text)
    rc = coh_file_write(path, text, strlen(text), err);
  else
    rc = coh_fail(err, COH_ENOMEM, "cannot put '%s' together", path);
cleanup:
  free(text);
  json_decref(root);
  return rc;
}

/* ---- reading --------------------------------------------------------------------- */

/* Reads the keys of one object; the first failure stays in rc. */
typedef struct reader {
  const char *path, *where;
  const json_t *object;
  int rc;
  coh_error *err;
} reader;

static void refuse(reader *r, const char *key, const char *wanted) {
  if (r->rc == COH_OK)
    r->rc = coh_fail(r->err, COH_EDATA, "%s: damaged: '%s'%s is not %s", r->path, key,
                     r->where, wanted);
}

static void get_text(reader *r, const char *key, char *out, size_t size) {
  const char *text = json_string_value(json_object_get(r->object, key));
  size_t n = text ? strlen(text) : size;
  if (n < size)
    memcpy(out, text, n + 1);
  else
    refuse(r, key, "a short text");
}

static json_int_t get_int(reader *r, const char *key, json_int_t least) {
  const json_t *value = json_object_get(r->object, key);
  if (json_is_integer(value) && json_integer_value(value) >= least)
    return json_integer_value(value);
  refuse(r, key, "a number it may be");
  return 0;
}

static void get_error(reader *r, char **out) {
  const json_t *value = json_object_get(r->object, "error");
  if (!value) return;
  const char *text = json_string_value(value);
  if (!text)
    refuse(r, "error", "a text");
  else if (!(*out = strdup(text)) && r->rc == COH_OK)
    r->rc = coh_fail(r->err, COH_ENOMEM, "%s: out of memory", r->path);
}

static int read_run(reader r, coh_pack_run *out) {
  out->index = (size_t)get_int(&r, "index", 0);
  get_text(&r, "run_id", out->run_id, sizeof out->run_id);
  get_text(&r, "hash", out->hash, sizeof out->hash);
  out->seed = get_int(&r, "seed", INT64_MIN);
  out->first = (size_t)get_int(&r, "first", 0);
  out->members = (size_t)get_int(&r, "members", 0);
  get_text(&r, "status", out->status, sizeof out->status);
  if (strcmp(out->status, "done") != 0 && strcmp(out->status, "failed") != 0)
    refuse(&r, "status", "done or failed");
  get_error(&r, &out->error);
  return r.rc;
}

static int read_runs(reader r, coh_pack *out) {
  const json_t *runs = json_object_get(r.object, "runs");
  size_t n = json_array_size(runs);
  if (!json_is_array(runs)) refuse(&r, "runs", "a list");
  if (r.rc != COH_OK) return r.rc;
  int rc = coh_alloc(&out->run, n, sizeof *out->run, r.err);
  for (; rc == COH_OK && out->n < n; out->n++) {
    r.object = json_array_get(runs, out->n);
    r.where = " of a run";
    rc = read_run(r, out->run + out->n);
  }
  return rc;
}

/* Format first: of another one nothing else is known. Then the checksum, which leaves the
 * object. */
static int check(const char *path, json_t *root, coh_error *err) {
  const json_t *format = json_object_get(root, "format");
  coh_hash sum;
  if (!json_is_integer(format))
    return coh_fail(err, COH_EDATA, "%s: not a pack.json: it names no format", path);
  if (json_integer_value(format) != FORMAT)
    return coh_fail(err, COH_EDATA,
                    "%s: format %lld, this cohort reads format %d: use the cohort that "
                    "wrote it",
                    path, (long long)json_integer_value(format), FORMAT);
  const char *text = json_string_value(json_object_get(root, "checksum"));
  char said[33] = "";
  if (text && strlen(text) < sizeof said) memcpy(said, text, strlen(text));
  (void)json_object_del(root, "checksum");
  int rc = checksum(root, &sum, err);
  if (!rc && strcmp(sum.hex, said) != 0)
    rc = coh_fail(err, COH_EDATA, "%s: damaged: its checksum is another", path);
  return rc;
}

static int read_root(const char *path, json_t *root, coh_pack *out, coh_error *err) {
  int rc = check(path, root, err);
  if (rc != COH_OK) return rc;
  reader r = {.path = path, .where = "", .object = root, .err = err};
  get_text(&r, "pack", out->hash, sizeof out->hash);
  get_text(&r, "sweep", out->sweep, sizeof out->sweep);
  get_text(&r, "token", out->token, sizeof out->token);
  get_text(&r, "table", out->table, sizeof out->table);
  out->attempt = (uint64_t)get_int(&r, "attempt", 0);
  return read_runs(r, out);
}

int coh_pack_read(const char *folder, coh_pack *out, coh_error *err) {
  int rc = COH_OK;
  char path[COH_PATH], *text = NULL;
  size_t len;
  json_error_t e;
  json_t *root = NULL;
  *out = (coh_pack){0};
  COH_TRY(coh_format(path, sizeof path, err, "%s/pack.json", folder));
  COH_TRY(coh_file_read(path, &text, &len, err));
  root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
  if (json_is_object(root))
    rc = read_root(path, root, out, err);
  else
    rc = coh_fail(err, COH_EDATA, "%s: truncated or damaged: %s", path,
                  root ? "not an object" : e.text);
cleanup:
  json_decref(root);
  free(text);
  if (rc != COH_OK) coh_pack_free(out);
  return rc;
}

int coh_pack_check(const char *folder, const coh_pack *pack, coh_error *err) {
  coh_hash is;
  int rc = hash_table(folder, &is, err);
  if (!rc && strcmp(pack->table, is.hex) != 0)
    rc = coh_fail(err, COH_EDATA, "%s/runs.csv: %s", folder,
                  *is.hex ? "truncated or changed since it was published: its checksum "
                            "is another"
                          : "it is gone");
  return rc;
}

bool coh_pack_name(const char *name) {
  static const char aside[] = ".damaged";
  size_t n = strlen(name), m = sizeof aside - 1;
  return *name != '.' && !(n > m && strcmp(name + n - m, aside) == 0);
}

/* ---- those of a sub-batch -------------------------------------------------------- */

static int visit_pack(const char *folder, const coh_pack_visitor *v, coh_error *err) {
  coh_pack pack = {0};
  int rc = coh_pack_read(folder, &pack, err);
  if (rc == COH_OK) rc = coh_pack_check(folder, &pack, err);
  bool damaged = rc == COH_EDATA || rc == COH_EIO;
  if (damaged) {
    coh_error why = *err;
    rc = v->damaged(v->ctx, folder, why.text, err);
  }
  for (size_t i = 0; i < pack.n && rc == COH_OK && !damaged; i++) {
    size_t number = coh_index_find(v->runs, pack.run[i].run_id);
    if (number != SIZE_MAX) rc = v->run(v->ctx, number, pack.run + i, err);
  }
  coh_pack_free(&pack);
  return rc;
}

int coh_packs_visit(const char *sub_batch, const coh_pack_visitor *v, coh_error *err) {
  int rc;
  char folder[COH_PATH];
  coh_names packs = {0};
  COH_TRY(coh_names_packs(sub_batch, &packs, err));
  for (size_t i = 0; i < packs.n; i++) {
    COH_TRY(
        coh_format(folder, sizeof folder, err, "%s/packs/%s", sub_batch, packs.name[i]));
    COH_TRY(visit_pack(folder, v, err));
  }
cleanup:
  coh_names_free(&packs);
  return rc;
}

void coh_pack_free(coh_pack *pack) {
  if (!pack) return;
  /* [n] may hold what was half read */
  for (size_t i = 0; pack->run && i < pack->n; i++) free(pack->run[i].error);
  free(pack->run);
  *pack = (coh_pack){0};
}
