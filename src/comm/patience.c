/* patience.c - meetings of all ranks that do not wait for ever. Uses base. */
#include <math.h>
#include <time.h>

#include "cohort/comm.h"

static int wait_patiently(coh_patience *p, MPI_Request *request, coh_error *err) {
  int rc, here = 0;
  const struct timespec nap = {.tv_nsec = 20000};
  double begin = coh_seconds(), own = p->met > 0 ? begin - p->met : INFINITY;
  for (;;) {
    COH_MPI(MPI_Test(request, &here, MPI_STATUS_IGNORE));
    if (here) return COH_OK;
    double waited = coh_seconds() - begin;
    if (waited > p->seconds + 2 * own) {
      coh_fail(err, COH_ESTOP,
               "a rank is lost: it has not answered for %.0f s "
               "(ranks.timeout)",
               waited);
      p->lost(p->ctx, err->text);
      return err->code;
    }
    nanosleep(&nap, NULL);
  }
cleanup:
  return rc;
}

int coh_grid_meet(const coh_grid *grid, coh_error *err) {
  int rc;
  MPI_Request request;
  coh_patience *p = grid->patience;
  if (!p || p->seconds <= 0 || grid->size == 1) return COH_OK;
  COH_MPI(MPI_Ibarrier(grid->world, &request));
  COH_TRY(wait_patiently(p, &request, err));
  p->met = coh_seconds();
cleanup:
  return rc;
}
