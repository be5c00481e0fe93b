/* doctor_files.c - what the file system of the results does: replacing files, excluding
 * others, telling the time. Nothing is left behind. */
#include "doctor_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "cohort/base.h"

/* True if a second open of the file cannot take a lock that the first one holds. */
static bool locks_exclude(const char *path) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int first = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  int second = open(path, O_RDWR | O_CLOEXEC);
  bool held = first >= 0 && second >= 0 && fcntl(first, F_OFD_SETLK, &whole) == 0;
  bool excluded = held && fcntl(second, F_OFD_SETLK, &whole) != 0 &&
                  (errno == EAGAIN || errno == EACCES);
  if (first >= 0) close(first);
  if (second >= 0) close(second);
  unlink(path);
  return excluded;
}

/* Writes a file twice, as results are written (temporary name, sync, rename), and reads
 * it back; *seconds of one write. */
static int try_writing(const char *path, double *seconds, coh_error *err) {
  int rc;
  char *data = NULL;
  size_t length;
  double t = coh_seconds();
  COH_TRY(coh_file_write(path, "before", 6, err));
  COH_TRY(coh_file_write(path, "after", 5, err));
  *seconds = (coh_seconds() - t) / 2;
  COH_TRY(coh_file_read(path, &data, &length, err));
  if (length != 5 || memcmp(data, "after", 5) != 0)
    rc = coh_fail(err, COH_EIO, "a file that was replaced still has its old content");
cleanup:
  free(data);
  unlink(path);
  return rc;
}

/* ---- what sweeps rely on ------------------------------------------------------------
 */

static bool make_file(const char *path, int flags) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
  return fd >= 0 && close(fd) == 0;
}

/* A second process that makes the same file is refused. */
static bool creation_excludes(const char *path) {
  bool once = make_file(path, O_EXCL), twice = make_file(path, O_EXCL);
  return unlink(path) == 0 && once && !twice;
}

static bool links_exclude(const char *path, const char *other) {
  bool first = make_file(path, 0) && make_file(other, 0) && link(path, other) != 0;
  bool linked = unlink(other) == 0 && link(path, other) == 0;
  unlink(path);
  return unlink(other) == 0 && first && linked;
}

/* A folder never takes the place of one that has something in it: what is published stays
 * as it is. */
static bool folders_stay(const char *scratch) {
  char from[COH_PATH], to[COH_PATH], inside[COH_PATH];
  snprintf(from, sizeof from, "%.4000s/from", scratch);
  snprintf(to, sizeof to, "%.4000s/to", scratch);
  snprintf(inside, sizeof inside, "%.4000s/to/file", scratch);
  bool moved = mkdir(from, 0700) == 0 && rename(from, to) == 0 && make_file(inside, 0);
  bool refused = moved && mkdir(from, 0700) == 0 && rename(from, to) != 0;
  unlink(inside);
  rmdir(to);
  rmdir(from);
  return refused;
}

/* Seconds that the file server's clock is ahead of this machine's. */
static double clock_ahead(const char *path) {
  struct stat st;
  struct timespec now;
  bool known = make_file(path, 0) && stat(path, &st) == 0 &&
               clock_gettime(CLOCK_REALTIME, &now) == 0;
  unlink(path);
  return !known ? 0
                : (double)(st.st_mtim.tv_sec - now.tv_sec) +
                      1e-9 * (double)(st.st_mtim.tv_nsec - now.tv_nsec);
}

static void report_sharing(doctor *d, const char *folder, const char *scratch) {
  char path[COH_PATH], other[COH_PATH];
  snprintf(path, sizeof path, "%.4000s/one", scratch);
  snprintf(other, sizeof other, "%.4000s/two", scratch);
  bool excl = creation_excludes(path), links = links_exclude(path, other);
  bool stay = folders_stay(scratch);
  double ahead = clock_ahead(path);
  if (!stay || !(excl || links))
    doctor_say(d, BAD, "sharing",
               "%s: %s: starts of one sub-batch cannot be told apart; choose another "
               "experiment.results",
               folder,
               stay ? "neither links nor exclusive creation of files work"
                    : "a renamed folder takes the place of a full one");
  else
    doctor_say(d, fabs(ahead) > 30 ? WARN : FINE, "sharing",
               "exclusive creation %s, hard links %s, renamed folders replace none; no "
               "locks are needed by sweeps%s",
               excl ? "works" : "does not work", links ? "work" : "do not work (copies)",
               fabs(ahead) <= 30 ? ""
               : ahead > 0
                   ? "; the file server's clock is ahead: cohort status may "
                     "take dead runs for running ones; set the clocks"
                   : "; the file server's clock is behind: cohort status may take "
                     "running runs for dead ones; set the clocks");
}

static void report_folder(doctor *d, const char *folder, const char *scratch) {
  char path[COH_PATH];
  coh_error err = {0};
  double seconds = 0;
  struct statvfs fs;
  snprintf(path, sizeof path, "%.4000s/file", scratch);
  if (try_writing(path, &seconds, &err) != COH_OK) {
    doctor_say(d, BAD, "files", "%s: %s: choose another experiment.results", folder,
               err.text);
    return;
  }
  double room =
      statvfs(scratch, &fs) == 0 ? (double)fs.f_bavail * (double)fs.f_frsize * 1e-9 : 0;
  bool full = room < 0.1, locks = locks_exclude(path);
  doctor_say(d, full || !locks || seconds > 0.5 ? WARN : FINE, "files",
             "%s: write, sync and rename in %.1f ms, locks %s, %.1f GB free%s%s%s",
             folder, 1e3 * seconds, locks ? "work" : "do not work", room,
             locks ? "" : ": start no run twice at a time (sweeps need none)",
             seconds > 0.5 ? ": slow; raise experiment.checkpoint_minutes" : "",
             full ? ": make room" : "");
}

/* In a folder of its own inside `folder`, or beside where `folder` would be made. */
void doctor_files(doctor *d, const char *folder) {
  char scratch[COH_PATH];
  const char *place = access(folder, F_OK) == 0 ? folder : ".";
  snprintf(scratch, sizeof scratch, "%.4000s/.cohort-doctor-XXXXXX", place);
  if (!mkdtemp(scratch)) {
    doctor_say(d, BAD, "files", "%s: %s: choose another experiment.results", folder,
               strerror(errno));
    return;
  }
  report_folder(d, folder, scratch);
  report_sharing(d, folder, scratch);
  rmdir(scratch);
}
