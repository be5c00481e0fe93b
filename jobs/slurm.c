/* slurm.c - SLURM's commands as seen from here, and the files of slurm/. */
#include "slurm.h"
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

bool slurm_finds(const char *program) {
  char path[COH_PATH];
  const char *at = getenv("PATH");
  while (at && *at) {
    int n = (int)strcspn(at, ":");
    snprintf(path, sizeof path, "%.*s/%s", n < 2000 ? n : 2000, at, program);
    if (access(path, X_OK) == 0) return true;
    at += n + (at[n] == ':');
  }
  return false;
}

/* ---- other programs ---------------------------------------------------------------- */

/* Starts argv with its standard output in `to`. */
static int spawn(const char *const *argv, bool quiet, int to, pid_t *pid,
                 coh_error *err) {
  posix_spawn_file_actions_t actions;
  int code = posix_spawn_file_actions_init(&actions);
  if (code == 0) {
    code = posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO);
    if (code == 0 && quiet)
      code = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                              O_WRONLY, 0);
    if (code == 0)
      code = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)(void *)argv,
                          environ);
    posix_spawn_file_actions_destroy(&actions);
  }
  errno = code;
  return code == 0 ? COH_OK : coh_fail_errno(err, "%s", argv[0]);
}

static int read_all(int from, coh_text *out, coh_error *err) {
  char bytes[4096];
  ssize_t n;
  while ((n = read(from, bytes, sizeof bytes)) != 0) {
    if (n < 0 && errno != EINTR) return coh_fail_errno(err, "reading from a program");
    if (n > 0) coh_text_addn(out, bytes, (size_t)n);
  }
  return coh_text_check(out, err);
}

static int wait_for(pid_t pid, int *status, coh_error *err) {
  int word;
  while (waitpid(pid, &word, 0) < 0)
    if (errno != EINTR) return coh_fail_errno(err, "waiting for a program");
  *status = WIFEXITED(word) ? WEXITSTATUS(word) : 128 + WTERMSIG(word);
  return COH_OK;
}

int slurm_call(const char *const *argv, bool quiet, coh_text *out, int *status,
               coh_error *err) {
  int rc, ends[2];
  pid_t pid;
  if (pipe2(ends, O_CLOEXEC) != 0) return coh_fail_errno(err, "%s", argv[0]);
  rc = spawn(argv, quiet, ends[1], &pid, err);
  close(ends[1]);
  if (rc == COH_OK) {
    coh_error late = {0};
    rc = read_all(ends[0], out, err);
    int waited = wait_for(pid, status, &late);
    if (rc == COH_OK && waited != COH_OK) *err = late, rc = waited;
  }
  close(ends[0]);
  return rc;
}

/* ---- what the cluster says --------------------------------------------------------- */

int slurm_settings(coh_text *out, coh_error *err) {
  static const char *const argv[] = {"scontrol", "show", "config", NULL};
  int status, rc = slurm_call(argv, true, out, &status, err);
  if (rc == COH_OK && status != 0)
    rc = coh_fail(err, COH_EIO,
                  "SLURM's commands are here, but no cluster answers (scontrol show "
                  "config ends with status %d)",
                  status);
  return rc;
}

bool slurm_setting(const coh_text *settings, const char *key, char *out, size_t size) {
  size_t n = strlen(key);
  const char *line = settings->data;
  for (; line && *line; line = strchr(line, '\n'), line += line != NULL) {
    size_t blanks = strncmp(line, key, n) == 0 ? strspn(line + n, " ") : 0;
    if (blanks == 0 || line[n + blanks] != '=') continue;
    const char *value = line + n + blanks + 1;
    value += strspn(value, " ");
    snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
    return true;
  }
  *out = '\0';
  return false;
}

/* ---- files ------------------------------------------------------------------------- */

int slurm_self(char *out, size_t size, coh_error *err) {
  ssize_t n = readlink("/proc/self/exe", out, size - 1);
  if (n <= 0) return coh_fail_errno(err, "/proc/self/exe");
  out[n] = '\0';
  return COH_OK;
}

int slurm_file(const char *name, char *out, size_t size, coh_error *err) {
  static const char *const places[] = {"../slurm", "../share/cohort/slurm"};
  char self[COH_PATH], path[2 * COH_PATH];
  int rc = slurm_self(self, sizeof self, err);
  const char *bin = rc == COH_OK ? dirname(self) : "";
  for (size_t i = 0; rc == COH_OK && i < 2; i++) {
    snprintf(path, sizeof path, "%s/%s/%s", bin, places[i], name);
    char *whole = realpath(path, NULL);
    if (!whole) continue;
    rc = coh_format(out, size, err, "%s", whole);
    free(whole);
    return rc;
  }
  return rc != COH_OK ? rc
                      : coh_fail(err, COH_EIO, "%s is neither in %s/%s nor in %s/%s",
                                 name, bin, places[0], bin, places[1]);
}

/* ---- the command ------------------------------------------------------------------- */

int command_job(int argc, char **argv) {
  char self[COH_PATH], script[COH_PATH];
  coh_error err = {0};
  (void)argc;
  int rc = slurm_self(self, sizeof self, &err);
  if (rc == COH_OK) rc = slurm_file("job.sh", script, sizeof script, &err);
  start_forget();
  if (rc == COH_OK && setenv("COHORT", self, 1) == 0) {
    execv(script, argv + 1);
    rc = coh_fail_errno(&err, "%s", script);
  }
  fprintf(stderr, "cohort: %s\n", err.text);
  return coh_exit_status(rc);
}
