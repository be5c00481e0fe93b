/* gnuplot.c - the program gnuplot: whether it is there, running it, and its language as
 * far as all figures share it. Uses base. */
#include "plot/private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- running it -------------------------------------------------------------------- */

bool coh_gnuplot_is_there(void) {
  const char *path = getenv("PATH");
  char file[COH_PATH];
  for (const char *at = path ? path : ""; *at; at += *at == ':') {
    size_t n = strcspn(at, ":");
    int len = snprintf(file, sizeof file, "%.*s/gnuplot", (int)n, n ? at : ".");
    if (len > 0 && (size_t)len < sizeof file && access(file, X_OK) == 0) return true;
    at += n;
  }
  return false;
}

/* Everything that comes from fd until its end; the first `size` bytes are kept. */
static void drain(int fd, char *said, size_t size) {
  char more[512];
  size_t len = 0;
  for (ssize_t n; (n = read(fd, more, sizeof more)) != 0;) {
    if (n < 0 && errno != EINTR) break;
    for (ssize_t i = 0; i < n && len + 1 < size; i++) said[len++] = more[i];
  }
  said[len] = '\0';
}

static int start(const char *folder, const char *before, const char *script, int out,
                 pid_t *pid, coh_error *err) {
  posix_spawn_file_actions_t actions;
  const char *argv[] = {"gnuplot", "-d", "-e", before, script, NULL};
  if (posix_spawn_file_actions_init(&actions) != 0)
    return coh_fail(err, COH_ENOMEM, "no memory to start gnuplot");
  int e = posix_spawn_file_actions_addchdir_np(&actions, folder);
  if (!e) e = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (!e) e = posix_spawn_file_actions_adddup2(&actions, out, 1);
  if (!e) e = posix_spawn_file_actions_adddup2(&actions, out, 2);
  if (!e)
    e = posix_spawnp(pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  errno = e;
  return e ? coh_fail_errno(err, "cannot run gnuplot in '%s'", folder) : COH_OK;
}

int coh_gnuplot_run(const char *folder, const char *before, const char *script,
                    char *said, size_t size, bool *ok, coh_error *err) {
  int rc, fd[2], status = 0;
  pid_t pid, got;
  *ok = false;
  if (pipe2(fd, O_CLOEXEC) != 0) return coh_fail_errno(err, "cannot run gnuplot");
  rc = start(folder, before, script, fd[1], &pid, err);
  close(fd[1]);
  if (rc == COH_OK) {
    drain(fd[0], said, size);
    do got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    *ok = got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  close(fd[0]);
  return rc;
}

/* ---- its language ------------------------------------------------------------------ */

void coh_gnuplot_quote(coh_text *out, const char *text) {
  coh_text_add(out, "'");
  for (const char *c = text; *c; c++) {
    if (*c == '\'') coh_text_addn(out, "'", 1);
    coh_text_addn(out, (unsigned char)*c < ' ' ? " " : c, 1);
  }
  coh_text_add(out, "'");
}

void coh_gnuplot_palette(coh_text *out) {
  /* viridis (van der Walt and Smith 2015) */
  coh_text_add(out, "set palette defined (0 '#440154', 1 '#472d7b', 2 '#3b528b', "
                    "3 '#2c728e', 4 '#21918c', 5 '#28ae80', 6 '#5ec962', 7 '#addc30', "
                    "8 '#fde725')\n");
}

void coh_gnuplot_log(coh_text *out, const char *axis, double least, double most) {
  double decades = least > 0 && most > least ? log10(most / least) : 0;
  coh_text_add(out, "set logscale %s\nset format %s '%%.0e'\n", axis, axis);
  if (decades > 5)
    coh_text_add(out, "set %stics 1e%.0f\n", axis,
                 ceil(decades / (*axis == 'x' ? 4 : 8)));
}

void coh_gnuplot_tics(coh_text *out, const char *axis, double least, double most,
                      bool whole) {
  char text[32];
  double range = most > least ? most - least : 1, step = pow(10, floor(log10(range)));
  static const double factor[] = {0.2, 0.5, 1, 2};
  size_t k = 0;
  while (k < 3 && range / (factor[k] * step) > 5.5) k++;
  step *= factor[k];
  if (whole && step < 1) step = 1;
  coh_text_add(out, "set %stics (", axis);
  double first = ceil(least / step - 1e-6) + 0.0, last = floor(most / step + 1e-6);
  for (double i = first; i <= last && i < first + 10; i++) {
    double v = i * step;
    bool thousands = most >= 1e4 && most < 1e7, millions = most >= 1e7;
    double shown = thousands ? v / 1e3 : millions ? v / 1e6 : v;
    snprintf(text, sizeof text, "%.6g%s", fabs(shown) < 1e-9 * most ? 0 : shown,
             v == 0      ? ""
             : thousands ? "k"
             : millions  ? "M"
                         : "");
    coh_text_add(out, "%s'%s' %.10g", i > first ? ", " : "", text, v);
  }
  coh_text_add(out, ")\n");
}

void coh_gnuplot_settings(coh_text *out, const coh_sketch *s) {
  coh_text_add(out,
               "if (!exists('format')) format = 'svg'\n"
               "if (!exists('target')) target = '%s.'.format\n"
               "set encoding utf8\n"
               "if (format eq 'svg') set terminal svg size %zu,%zu noenhanced standalone "
               "font 'Helvetica,Arial,sans-serif,12' background '#ffffff'\n",
               s->name, s->width, s->height);
  coh_text_add(out,
               "if (format eq 'png') set terminal pngcairo size %zu,%zu noenhanced "
               "font 'sans,12' fontscale 2 linewidth 3 pointscale 3\n"
               "if (format eq 'pdf') set terminal pdfcairo size %.3fin,%.3fin noenhanced "
               "font 'sans,12' fontscale 0.56 linewidth 1.5 pointscale 0.7\n"
               "set output target\n",
               3 * s->width, 3 * s->height, (double)s->width / 96,
               (double)s->height / 96);
  coh_text_add(out, "set datafile separator comma\n"
                    "set datafile missing 'nan'\n"
                    "set border 3 back linewidth 0.8\n"
                    "set tics nomirror out scale 0.6\n"
                    "set grid back linetype 1 linewidth 0.5 linecolor '#dddddd'\n"
                    "set key noautotitle outside top center horizontal samplen 2\n"
                    "set style fill solid noborder\n");
}
