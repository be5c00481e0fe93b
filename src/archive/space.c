/* space.c - keeping HDF5 away from a full disk. A write that fails inside HDF5 may leave
 * other ranks waiting in the same collective write, and a file that cannot be flushed
 * cannot be closed: HDF5 then tries again while the process ends, and crashes. So space
 * is reserved before HDF5 writes; and where the file system cannot reserve, or fails
 * otherwise, the dead file is diverted into memory before it is closed. Uses base. */
#include "archive/archive_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* What HDF5 adds to a dataset: object header, link, checksum index. Measured: below 4
 * KiB. */
enum { OVERHEAD = 16 << 10 };

/* True for a file system that does not know how to reserve. */
static bool cannot_reserve(int number) {
  return number == EOPNOTSUPP || number == ENOSYS || number == EINVAL;
}

static int allocate(int fd, size_t bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur) {
    errno = EFBIG; /* reserving does not look at this limit, but writing does */
    return -1;
  }
  int rc;
  do rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
  while (rc != 0 && errno == EINTR);
  return rc;
}

int coh_space_reserve(coh_archive *a, size_t bytes, coh_error *err) {
  if (a->fd < 0 || !coh_archive_tune.reserve) return COH_OK;
  a->reserved += bytes + OVERHEAD;
  if (allocate(a->fd, a->reserved) == 0 || cannot_reserve(errno)) return COH_OK;
  return coh_fail_errno(err, "no room for '%s' (%zu bytes so far)", a->path, a->reserved);
}

void coh_space_trim(coh_archive *a) {
  struct stat st;
  if (a->fd < 0) return;
  /* setting the size that the file has frees the blocks behind its end; failing to do so
   * loses a few KiB of disk and nothing else */
  if (fstat(a->fd, &st) == 0 && ftruncate(a->fd, st.st_size) != 0) return;
}

/* Lets descriptor `fd` mean the memory file if it is open on the file `dead`. */
static void divert_one(int fd, const struct stat *dead, int memory) {
  struct stat st;
  if (fstat(fd, &st) != 0 || st.st_dev != dead->st_dev || st.st_ino != dead->st_ino)
    return;
  (void)dup2(memory, fd);
}

void coh_space_divert(coh_archive *a) {
  char temp[COH_PATH];
  coh_error ignored;
  struct stat dead;
  if (coh_temp_path(a->path, temp, sizeof temp, &ignored) != COH_OK) return;
  if (stat(temp, &dead) != 0) return;
  int memory = memfd_create("cohort-abandoned", MFD_CLOEXEC);
  DIR *folder = memory >= 0 ? opendir("/proc/self/fd") : NULL;
  for (struct dirent *e; folder && (e = readdir(folder));)
    if (*e->d_name != '.') divert_one(atoi(e->d_name), &dead, memory);
  if (folder) closedir(folder);
  if (memory >= 0) close(memory);
}
