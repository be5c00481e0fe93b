/* lock.c - one process at a time in a folder. Uses base. */
#include "store/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* True for the answers of a file system that does not know locks. */
static bool no_locks(int number) {
  return number == ENOLCK || number == ENOSYS || number == EOPNOTSUPP || number == EINVAL;
}

/* Tells those who come later who holds it. For people only, so failures do not matter. */
static void sign(int fd) {
  char host[64] = "", text[160], when[32];
  time_t now = time(NULL);
  struct tm utc;
  if (gethostname(host, sizeof host - 1) != 0) return;
  strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  int n = snprintf(text, sizeof text, "process %ld on %s since %s\n", (long)getpid(),
                   host, when);
  if (ftruncate(fd, 0) == 0) (void)!pwrite(fd, text, (size_t)n, 0);
}

static int taken(int fd, const char *folder, coh_error *err) {
  char holder[160] = "";
  ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
  holder[n > 0 ? n : 0] = '\0';
  holder[strcspn(holder, "\n")] = '\0';
  return coh_fail(err, COH_EUSAGE,
                  "'%s' is in use by another process%s%s%s: wait for it, "
                  "or end it",
                  folder, *holder ? " (" : "", holder, *holder ? ")" : "");
}

/* The lock belongs to the open file, not to the process: closing another descriptor of
 * the file does not drop it, and two opens in one process exclude each other. */
static int set_lock(int fd, bool wait) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int rc;
  do rc = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &whole);
  while (rc != 0 && errno == EINTR);
  return rc;
}

int coh_lock_take(const char *folder, bool wait, const coh_sink *sink, int *lock,
                  coh_error *err) {
  char path[COH_PATH];
  *lock = -1;
  int rc = coh_format(path, sizeof path, err, "%s/lock", folder);
  if (rc != COH_OK) return rc;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return coh_fail_errno(err, "cannot open '%s'", path);
  if (set_lock(fd, wait) == 0) {
    sign(fd);
    *lock = fd;
    return COH_OK;
  }
  if (errno == EAGAIN || errno == EACCES) {
    rc = taken(fd, folder, err);
  } else if (no_locks(errno)) {
    coh_say(sink, COH_WARN,
            "%s: this file system has no locks (%s): do not start a run twice", folder,
            strerror(errno));
  } else {
    rc = coh_fail_errno(err, "cannot lock '%s'", path);
  }
  close(fd);
  return rc;
}

void coh_lock_release(int lock) {
  if (lock >= 0) close(lock);
}
