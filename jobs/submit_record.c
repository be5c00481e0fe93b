/* submit_record.c - results/<name>/submit.json: what `cohort submit` did, a new entry
 * each time, and what of it SLURM still has. */
#include "slurm.h"
#include "submission.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FORMAT = 1 };

/* ---- reading -------------------------------------------------------------------------
 */

/* The file, or an empty one of its kind; NULL with an error. */
static json_t *record_read(const char *folder, coh_error *err) {
  char path[COH_PATH];
  json_error_t why;
  if (coh_format(path, sizeof path, err, "%s/submit.json", folder) != COH_OK) return NULL;
  if (!coh_file_exists(path))
    return json_pack("{s:i, s:[]}", "format", FORMAT, "submissions");
  json_t *root = json_load_file(path, 0, &why);
  if (json_integer_value(json_object_get(root, "format")) == FORMAT &&
      json_is_array(json_object_get(root, "submissions")))
    return root;
  coh_fail(err, COH_EDATA, "%s is not what cohort submit wrote%s%s: move it away", path,
           root ? "" : ": ", root ? "" : why.text);
  json_decref(root);
  return NULL;
}

static size_t get_size(const json_t *object, const char *key) {
  json_int_t v = json_integer_value(json_object_get(object, key));
  return v > 0 ? (size_t)v : 0;
}

int record_last(const char *folder, size_t *n, coh_error *err) {
  *n = 0;
  json_t *root = record_read(folder, err);
  if (!root) return err->code;
  const json_t *list = json_object_get(root, "submissions");
  if (json_array_size(list) > 0)
    *n = get_size(json_array_get(list, json_array_size(list) - 1), "sub_batches");
  json_decref(root);
  return COH_OK;
}

/* ---- what SLURM still has ------------------------------------------------------------
 */

/* Lines "ARRAY_JOB TASK" of this user's jobs, TASK "N/A" where there is no array; empty
 * if SLURM does not answer. */
static int ask_queue(int patience, coh_text *out, coh_error *err) {
  char user[32], seconds[32];
  int status;
  snprintf(user, sizeof user, "%ld", (long)geteuid());
  snprintf(seconds, sizeof seconds, "%d", patience);
  const char *argv[] = {"timeout", seconds, "squeue", "-h",    "-r",
                        "-u",      user,    "-o",     "%F %K", NULL};
  bool bounded = patience > 0 && slurm_finds("timeout");
  if (!slurm_finds("squeue")) return COH_OK;
  int rc = slurm_call(argv + (bounded ? 0 : 2), true, out, &status, err);
  if (rc == COH_OK && status != 0) coh_text_free(out);
  return rc;
}

/* Tells of the tasks of one job array that are in the queue. */
static void tell_tasks(const char *queue, const char *id, size_t offset, size_t n,
                       record_queued_fn *tell, void *ctx) {
  char queued[64], task[64];
  for (const char *line = queue; line && *line;
       line = strchr(line, '\n'), line += line != NULL) {
    if (sscanf(line, "%63s %63s", queued, task) != 2 || strcmp(queued, id) != 0) continue;
    size_t k = strcmp(task, "N/A") == 0 ? 1 : strtoull(task, NULL, 10) + offset;
    if (k >= 1 && k <= n) tell(ctx, k, n, id);
  }
}

int record_queued(const char *folder, int patience, record_queued_fn *tell, void *ctx,
                  coh_error *err) {
  int rc = COH_OK;
  size_t i, j;
  json_t *entry, *array;
  coh_text queue = {0};
  json_t *root = record_read(folder, err);
  if (!root) return err->code;
  json_t *list = json_object_get(root, "submissions");
  if (json_array_size(list) == 0) goto cleanup;
  COH_TRY(ask_queue(patience, &queue, err));
  json_array_foreach(list, i, entry) {
    size_t n = get_size(entry, "sub_batches");
    json_array_foreach(json_object_get(entry, "jobs"), j, array) {
      const char *id = json_string_value(json_object_get(array, "id"));
      if (id) tell_tasks(queue.data, id, get_size(array, "offset"), n, tell, ctx);
    }
  }
cleanup:
  json_decref(root);
  coh_text_free(&queue);
  return rc;
}

/* ---- writing -------------------------------------------------------------------------
 */

static json_t *array_object(const job_array *a) {
  return json_pack("{s:s, s:s*, s:I, s:I, s:s}", "id", a->id, "array", a->list, "offset",
                   (json_int_t)a->offset, "limit", (json_int_t)a->limit, "command",
                   a->command);
}

static json_t *entry_object(const submission *s) {
  char now[32], here[COH_PATH];
  time_t t = time(NULL);
  struct tm utc;
  strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
  json_t *jobs = json_array(), *set = json_array();
  for (size_t i = 0; i < s->n_array; i++)
    if (*s->array[i].id) json_array_append_new(jobs, array_object(s->array + i));
  for (size_t i = 0; i < s->n_set; i++)
    json_array_append_new(set, json_string(s->set[i]));
  return json_pack("{s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:b, s:o, s:o*}", "time", now,
                   "folder", getcwd(here, sizeof here) ? here : "", "config", s->config,
                   "set", set, "sweep", s->hash.hex, "runs", (json_int_t)s->runs,
                   "sub_batches", (json_int_t)s->n, "resume", s->resume, "jobs", jobs,
                   "merge", *s->merger.id ? array_object(&s->merger) : NULL);
}

int record_add(const submission *s, coh_error *err) {
  char path[COH_PATH];
  json_t *root = record_read(s->folder, err);
  if (!root) return err->code;
  int rc = coh_format(path, sizeof path, err, "%s/submit.json", s->folder);
  json_t *entry = entry_object(s);
  json_array_append_new(json_object_get(root, "submissions"), entry);
  char *text = entry ? json_dumps(root, JSON_INDENT(2)) : NULL;
  if (rc == COH_OK)
    rc = text ? coh_file_write(path, text, strlen(text), err)
              : coh_fail(err, COH_ENOMEM, "cannot put %s together", path);
  free(text);
  json_decref(root);
  return rc;
}
