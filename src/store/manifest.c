/* manifest.c - manifest.json: which program wrote a folder, when, where, with what
 * outcome. Uses base, comm. */
#include "store/store_private.h"

#include <hdf5.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOST = 64, TIME = 32, FORMAT = 1 };

struct coh_manifest {
  char path[COH_PATH];
  char *job, *command;
  coh_hash hash;
  int rank, ranks;
  char *host; /* [ranks, HOST] */
  coh_text hosts;
  char started[TIME];
  long long resumed;
  json_t *stages; /* name -> {status, ended} */
  json_t *data;   /* file -> {bytes, hash} */
};

/* ---- time and place -------------------------------------------------------------- */

static void now_text(char out[TIME]) {
  time_t now = time(NULL);
  struct tm utc;
  strftime(out, TIME, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

static int collect_hosts(coh_manifest *m, MPI_Comm comm, coh_error *err) {
  int rc = COH_OK;
  char mine[HOST] = "";
  COH_MPI(MPI_Comm_rank(comm, &m->rank));
  COH_MPI(MPI_Comm_size(comm, &m->ranks));
  if (gethostname(mine, HOST - 1) != 0) rc = coh_fail_errno(err, "no host name");
  if (rc == COH_OK) rc = coh_alloc(&m->host, (size_t)m->ranks, HOST, err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(coh_allgather(comm, mine, HOST, m->host, (size_t)m->ranks * HOST, err));
cleanup:
  return rc;
}

/* Number of ranks on the host of rank r, if r is the first one there; else 0. */
static int ranks_on(const coh_manifest *m, int r) {
  const char *name = m->host + (size_t)r * HOST;
  int n = 0;
  for (int i = 0; i < m->ranks; i++)
    if (strcmp(m->host + (size_t)i * HOST, name) == 0) {
      if (i < r) return 0;
      n++;
    }
  return n;
}

static int hosts_text(coh_manifest *m, coh_error *err) {
  for (int r = 0; r < m->ranks; r++) {
    int n = ranks_on(m, r);
    if (n)
      coh_text_add(&m->hosts, "%s%s*%d", r ? " " : "", m->host + (size_t)r * HOST, n);
  }
  return coh_text_check(&m->hosts, err);
}

/* ---- an earlier manifest --------------------------------------------------------- */

/* First start and number of resumptions, if the manifest there is of the same runs. One
 * that cannot be read counts as none: it is about to be replaced. */
static void read_old(coh_manifest *m) {
  json_error_t ignored;
  json_t *old = json_load_file(m->path, 0, &ignored);
  const char *hash = json_string_value(json_object_get(old, "hash"));
  const char *started = json_string_value(json_object_get(old, "started"));
  json_t *resumed = json_object_get(old, "resumed");
  if (hash && strcmp(hash, m->hash.hex) == 0 && started && strlen(started) < TIME) {
    memcpy(m->started, started, strlen(started) + 1);
    m->resumed = json_integer_value(resumed) + 1;
    json_t *stages = json_object_get(old, "stages");
    if (json_is_object(stages)) json_object_update(m->stages, stages);
    json_t *data = json_object_get(old, "data");
    if (json_is_object(data)) json_object_update(m->data, data);
  }
  json_decref(old);
}

bool coh_manifest_is_done(const char *path, const coh_hash *hash) {
  json_error_t ignored;
  json_t *old = json_load_file(path, 0, &ignored);
  const char *of = json_string_value(json_object_get(old, "hash"));
  const char *status = json_string_value(json_object_get(old, "status"));
  bool done = of && status && strcmp(of, hash->hex) == 0 && strcmp(status, "done") == 0;
  json_decref(old);
  return done;
}

/* ---- the object ------------------------------------------------------------------ */

static int set_texts(coh_manifest *m, const char *path, const char *job,
                     const coh_hash *hash, const char *command, coh_error *err) {
  int rc = COH_OK;
  COH_TRY(coh_format(m->path, sizeof m->path, err, "%s", path));
  m->job = strdup(job);
  m->command = strdup(command);
  m->hash = *hash;
  now_text(m->started);
  m->stages = json_object();
  m->data = json_object();
  if (!m->job || !m->command || !m->stages || !m->data)
    rc = coh_fail(err, COH_ENOMEM, "no memory for a manifest");
cleanup:
  return rc;
}

int coh_manifest_create(const char *path, MPI_Comm comm, const char *job,
                        const coh_hash *hash, const char *command, coh_manifest **out,
                        coh_error *err) {
  int rc = COH_OK;
  coh_manifest *m = NULL;
  *out = NULL;
  rc = coh_alloc(&m, 1, sizeof *m, err);
  if (rc == COH_OK) rc = set_texts(m, path, job, hash, command, err);
  COH_TRY(coh_agree(comm, rc, err));
  COH_TRY(collect_hosts(m, comm, err));
  COH_TRY(coh_agree(comm, hosts_text(m, err), err));
  if (m->rank == 0) read_old(m);
  *out = m;
  m = NULL;
cleanup:
  coh_manifest_destroy(m);
  return rc;
}

void coh_manifest_destroy(coh_manifest *m) {
  if (!m) return;
  coh_text_free(&m->hosts);
  free(m->host);
  free(m->command);
  free(m->job);
  json_decref(m->stages);
  json_decref(m->data);
  free(m);
}

int coh_manifest_data(coh_manifest *m, const char *file, unsigned long long bytes,
                      const char *hash, coh_error *err) {
  const json_t *had = json_object_get(m->data, file);
  const char *old = json_string_value(json_object_get(had, "hash"));
  long long size = json_integer_value(json_object_get(had, "bytes"));
  if (old && strcmp(old, hash) != 0)
    return coh_fail(err, COH_EDATA,
                    "the data set changed since this run began: %s is now of %llu bytes "
                    "(hash %s), it was of %lld (hash %s), says '%s'; bring the old file "
                    "back, or begin a run anew by another experiment.name or by moving "
                    "that folder away",
                    file, bytes, hash, size, old, m->path);
  if (json_object_set_new(
          m->data, file,
          json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "hash", hash)) != 0)
    return coh_fail(err, COH_ENOMEM, "no memory for a manifest");
  return COH_OK;
}

bool coh_manifest_has(const coh_manifest *m, const char *stage, const char *state) {
  json_t *had = json_object_get(json_object_get(m->stages, stage), "status");
  return json_is_string(had) && strcmp(json_string_value(had), state) == 0;
}

bool coh_manifest_stage(coh_manifest *m, const char *stage, const char *state) {
  char ended[TIME];
  bool running = strcmp(state, "running") == 0;
  if (coh_manifest_has(m, stage, state)) return false;
  now_text(ended);
  json_object_set_new(m->stages, stage,
                      json_pack("{s:s, s:o}", "status", state, "ended",
                                running ? json_null() : json_string(ended)));
  return true;
}

const char *coh_manifest_hosts(const coh_manifest *m) {
  return m->hosts.data;
}

/* ---- writing --------------------------------------------------------------------- */

static json_t *versions(void) {
  char mpi[MPI_MAX_LIBRARY_VERSION_STRING] = "", hdf5[32];
  int len;
  unsigned major = 0, minor = 0, release = 0;
  if (MPI_Get_library_version(mpi, &len) != MPI_SUCCESS) *mpi = '\0';
  mpi[strcspn(mpi, ",\n")] = '\0'; /* "Open MPI v4.1.4, package: ..." */
  (void)H5get_libversion(&major, &minor, &release);
  snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
  return json_pack("{s:s, s:s, s:s, s:s, s:s}", "cohort", COH_VERSION, "git", COH_GIT,
                   "mpi", mpi, "hdf5", hdf5, "compiler",
#ifdef __clang__
                   __VERSION__
#else
                   "gcc " __VERSION__
#endif
  );
}

static json_t *hosts_object(const coh_manifest *m) {
  json_t *hosts = json_object();
  for (int r = 0; r < m->ranks; r++) {
    int n = ranks_on(m, r);
    if (n)
      json_object_set_new_nocheck(hosts, m->host + (size_t)r * HOST, json_integer(n));
  }
  return hosts;
}

static json_t *whole(const coh_manifest *m, const char *status) {
  char ended[TIME];
  now_text(ended);
  bool running = strcmp(status, "running") == 0;
  return json_pack("{s:i, s:s, s:s, s:s, s:o, s:s, s:o, s:I, s:i, s:o, s:o, s:O, s:O}",
                   "format", FORMAT, "job", m->job, "hash", m->hash.hex, "status", status,
                   "command", coh_json_text(m->command), "started", m->started, "ended",
                   running ? json_null() : json_string(ended), "resumed",
                   (json_int_t)m->resumed, "ranks", m->ranks, "hosts", hosts_object(m),
                   "versions", versions(), "stages", m->stages, "data", m->data);
}

int coh_manifest_write(coh_manifest *m, const char *status, coh_error *err) {
  if (m->rank != 0) return COH_OK;
  int rc = COH_OK;
  json_t *root = whole(m, status);
  char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
  if (text)
    rc = coh_file_write(m->path, text, strlen(text), err);
  else
    rc = coh_fail(err, COH_ENOMEM, "cannot put '%s' together", m->path);
  free(text);
  json_decref(root);
  return rc;
}
