/* progress.c - the progress line: on a terminal rewritten a few times a second, in a log
 * a plain line a minute at most. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "job.h"

static const double terminal_seconds = 0.2, log_seconds = 60;

/* Path of the terminal that standard error ends on; false if it is none. mpirun gives its
 * children pipes or terminals of its own: what counts is where its own standard error
 * goes. */
static bool terminal_path(char *out, size_t size) {
  char link[64] = "/proc/self/fd/2";
  if (getenv("OMPI_COMM_WORLD_RANK"))
    snprintf(link, sizeof link, "/proc/%ld/fd/2", (long)getppid());
  ssize_t len = readlink(link, out, size - 1);
  if (len <= 0) return false;
  out[len] = '\0';
  return strncmp(out, "/dev/pts/", 9) == 0 || strncmp(out, "/dev/tty", 8) == 0;
}

bool progress_on_terminal(void) {
  char path[256];
  return terminal_path(path, sizeof path);
}

void progress_clear(void) {
  if (progress_on_terminal()) fputs("\r\033[K", stderr);
}

/* Columns of that terminal; 80 where it does not tell. */
static size_t terminal_columns(void) {
  char path[256];
  struct winsize w = {0};
  int fd =
      terminal_path(path, sizeof path) ? open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC) : -1;
  if (fd >= 0 && ioctl(fd, TIOCGWINSZ, &w) != 0) w.ws_col = 0;
  if (fd >= 0) close(fd);
  return w.ws_col > 1 ? w.ws_col : 80;
}

void progress_begin(progress *p, const job *j, const char *title) {
  *p = (progress){.stage = title};
  p->on = j->grid.rank == 0 && !j->cfg.experiment.quiet;
  p->terminal = p->on && progress_on_terminal();
  p->columns = p->terminal ? terminal_columns() : 0;
  p->last = coh_seconds();
}

/* "loss 1.2e-5" or "loss best .. median .. worst .." over the members that did not fail;
 * their losses lie `stride` bytes apart. */
static void add_losses(coh_text *line, size_t N, const void *losses, size_t stride) {
  coh_error err;
  double *loss = NULL;
  size_t n = 0;
  if (coh_alloc(&loss, N, sizeof *loss, &err)) return;
  for (size_t i = 0; i < N; i++) {
    double value;
    memcpy(&value, (const char *)losses + i * stride, sizeof value);
    if (isfinite(value)) loss[n++] = value;
  }
  coh_sort(loss, n);
  if (n == 1) coh_text_add(line, "  loss %.3g", loss[0]);
  if (n > 1)
    coh_text_add(line, "  loss %.1e %.1e %.1e", loss[0], coh_median_of_sorted(loss, n),
                 loss[n - 1]);
  free(loss);
}

static void add_time_left(coh_text *line, const coh_train_status *s) {
  if (s->steps == 0 || s->end <= s->step) return;
  double per_step = s->seconds / (double)s->steps;
  long left = (long)(per_step * (double)(s->end - s->step) + 0.5);
  coh_text_add(line, "  < %ld:%02ld:%02ld", left / 3600, left / 60 % 60, left % 60);
}

static void add_rate(coh_text *line, const coh_train_status *s) {
  double rate = s->seconds > 0 ? s->samples / s->seconds : 0;
  const char *unit = "";
  if (rate >= 1e6) {
    rate /= 1e6;
    unit = "M";
  } else if (rate >= 1e3) {
    rate /= 1e3;
    unit = "k";
  }
  coh_text_add(line, "  %.3g%s samples/s", rate, unit);
}

/* Ends the line for now, or for good. */
static void put_line(progress *p, coh_text *line, bool last) {
  if (line->data && p->terminal && !last && line->len >= p->columns)
    line->data[p->columns - 1] = '\0'; /* a line that wraps could not be rewritten */
  if (line->data && p->terminal)
    fprintf(stderr, "\r%s\033[K%s", line->data, last ? "\n" : "");
  else if (line->data)
    fprintf(stderr, "%s\n", line->data);
  fflush(stderr);
  coh_text_free(line);
}

static void print_line(progress *p, const coh_train_status *s, bool last) {
  coh_text line = {0};
  uint64_t L = s->epoch_length;
  coh_text_add(&line, "%s  ep %llu/%llu", p->stage, (unsigned long long)(s->step / L),
               (unsigned long long)((s->end + L - 1) / L));
  add_losses(&line, s->N, &s->member->loss, sizeof *s->member);
  if (s->N > 1 && !last) coh_text_add(&line, "  %zu/%zu", s->active, s->N);
  add_rate(&line, s);
  if (last)
    coh_text_add(&line, "  %.1f s", s->seconds);
  else
    add_time_left(&line, s);
  put_line(p, &line, last);
}

/* True if a line is due now. */
static bool is_due(progress *p) {
  double now = coh_seconds();
  if (!p->on || now - p->last < (p->terminal ? terminal_seconds : log_seconds))
    return false;
  p->last = now;
  return true;
}

void progress_epoch(progress *p, const coh_train_status *s) {
  if (is_due(p)) print_line(p, s, false);
}

void progress_end(progress *p, const coh_train_status *s) {
  if (p->on) print_line(p, s, true);
}

/* ---- the finish ----------------------------------------------------------------------
 */

/* Why the members ended: "7 by gradient, 3 at the step limit". */
static void add_ends(coh_text *line, const coh_finish_status *s) {
  static const char *const words[] = {"running", "by gradient", "without progress",
                                      "at the step limit", "failed"};
  size_t count[COH_FINISH_FAILED + 1] = {0};
  const char *before = "  ended: ";
  for (size_t n = 0; n < s->N; n++) count[s->member[n].end]++;
  for (int end = COH_FINISH_GRADIENT; end <= COH_FINISH_FAILED; end++) {
    if (count[end] == 0) continue;
    coh_text_add(line, "%s%zu %s", before, count[end], words[end]);
    before = ", ";
  }
}

static void print_finish(progress *p, const coh_finish_status *s, bool last) {
  coh_text line = {0};
  uint64_t most = 0;
  for (size_t n = 0; n < s->N; n++)
    if (s->member[n].iterations > most) most = s->member[n].iterations;
  coh_text_add(&line, "%s  %s %llu/%llu", p->stage, coh_finish_name(s->method),
               (unsigned long long)most, (unsigned long long)s->steps);
  add_losses(&line, s->N, &s->member->loss, sizeof *s->member);
  if (last)
    add_ends(&line, s);
  else if (s->N > 1)
    coh_text_add(&line, "  %zu/%zu", s->active, s->N);
  if (last) coh_text_add(&line, "  %.1f s", s->seconds);
  put_line(p, &line, last);
}

void progress_finish(progress *p, const coh_finish_status *s) {
  if (is_due(p)) print_finish(p, s, false);
}

void progress_finish_end(progress *p, const coh_finish_status *s) {
  if (p->on) print_finish(p, s, true);
}
