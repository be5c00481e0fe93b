/* patience.c - ranks that do not wait for ever: meetings with a time limit, and a
 * watchdog over what ranks do together behind one. Uses base. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "cohort/comm.h"

struct coh_watchdog {
  pthread_t thread;
  pthread_mutex_t lock;
  double deadline; /* 0: none */
  coh_patience whose;
  bool over;
};

static void nap(long microseconds) {
  const struct timespec t = {.tv_nsec = microseconds * 1000};
  nanosleep(&t, NULL);
}

/* ---- the watchdog ---------------------------------------------------------------- */

static void *watch(void *ctx) {
  coh_watchdog *dog = ctx;
  for (bool over = false; !over; nap(50000)) {
    pthread_mutex_lock(&dog->lock);
    bool late = dog->deadline > 0 && coh_seconds() > dog->deadline;
    coh_patience whose = dog->whose;
    over = dog->over;
    pthread_mutex_unlock(&dog->lock);
    if (late)
      whose.lost(whose.ctx, "a rank is lost: it left a meeting of all ranks unfinished "
                            "(ranks.timeout)");
  }
  return NULL;
}

int coh_watchdog_create(coh_watchdog **out, coh_error *err) {
  int rc;
  coh_watchdog *dog = NULL;
  *out = NULL;
  COH_TRY(coh_alloc(&dog, 1, sizeof *dog, err));
  pthread_mutex_init(&dog->lock, NULL);
  if (pthread_create(&dog->thread, NULL, watch, dog)) {
    pthread_mutex_destroy(&dog->lock);
    free(dog);
    return coh_fail(err, COH_EIO, "cannot start a thread that watches the other ranks");
  }
  *out = dog;
cleanup:
  return rc;
}

void coh_watchdog_destroy(coh_watchdog *dog) {
  if (!dog) return;
  pthread_mutex_lock(&dog->lock);
  dog->over = true;
  dog->deadline = 0;
  pthread_mutex_unlock(&dog->lock);
  pthread_join(dog->thread, NULL);
  pthread_mutex_destroy(&dog->lock);
  free(dog);
}

static void set_deadline(const coh_patience *p, double deadline) {
  if (!p->dog) return;
  pthread_mutex_lock(&p->dog->lock);
  p->dog->whose = *p;
  p->dog->deadline = deadline;
  pthread_mutex_unlock(&p->dog->lock);
}

/* ---- meetings -------------------------------------------------------------------- */

static int wait_patiently(coh_patience *p, MPI_Request *request, coh_error *err) {
  int rc, here = 0;
  double begin = coh_seconds(), own = p->met > 0 ? begin - p->met : INFINITY;
  for (;;) {
    COH_MPI(MPI_Test(request, &here, MPI_STATUS_IGNORE));
    if (here) return COH_OK;
    double waited = coh_seconds() - begin;
    if (waited > p->seconds + 2 * own) {
      coh_fail(err, COH_ESTOP,
               "a rank is lost: it has not answered for %.0f s (ranks.timeout)", waited);
      p->lost(p->ctx, err->text);
      return err->code;
    }
    nap(20);
  }
cleanup:
  return rc;
}

static bool has_patience(const coh_grid *grid) {
  return grid->patience && grid->patience->seconds > 0 && grid->size > 1;
}

int coh_grid_meet(const coh_grid *grid, coh_error *err) {
  int rc;
  MPI_Request request;
  coh_patience *p = grid->patience;
  if (!has_patience(grid)) return COH_OK;
  COH_MPI(MPI_Ibarrier(grid->world, &request));
  COH_TRY(wait_patiently(p, &request, err));
  p->met = coh_seconds();
  set_deadline(p, p->met + p->seconds);
cleanup:
  return rc;
}

void coh_grid_part(const coh_grid *grid) {
  if (has_patience(grid)) set_deadline(grid->patience, 0);
}
