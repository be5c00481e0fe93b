/* doctor_slurm.c - how ranks can be started under SLURM, and what the cluster allows. */
#include "doctor_private.h"
#include "slurm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* True if the program's output, errors included, has the text. */
static bool says(const char *command, const char *text) {
  char line[1024];
  bool found = false;
  FILE *f = popen(command, "r");
  while (f && fgets(line, sizeof line, f)) found = found || strstr(line, text);
  if (f) pclose(f);
  return found;
}

/* How slurm/job.sh starts ranks: mpirun that knows SLURM, or srun that knows pmix. */
static void report_start(doctor *d) {
  const char *plm =
      "ompi_info --parsable 2>&1"; /* up to Open MPI 4 it tells of launchers */
  bool mpirun = slurm_finds("mpirun");
  bool knows = mpirun && (!says(plm, "mca:plm:") || says(plm, "mca:plm:slurm:"));
  bool pmix = says("srun --mpi=list 2>&1", "pmix");
  const char *wish = getenv("COHORT_LAUNCH");
  if (knows)
    doctor_say(d, FINE, "start", "mpirun inside the job%s",
               pmix ? ", or srun --mpi=pmix (COHORT_LAUNCH=srun)" : "");
  else if (pmix)
    doctor_say(d, mpirun && !wish ? WARN : FINE, "start", "srun --mpi=pmix%s",
               mpirun && !wish ? ", as this mpirun knows nothing of SLURM: set "
                                 "COHORT_LAUNCH=srun"
                               : "");
  else
    doctor_say(d, BAD, "start",
               "%s, and srun --mpi=list has no pmix: load an Open MPI that was built "
               "--with-slurm, or ask for SLURM's mpi_pmix plugin (libpmix2)",
               mpirun ? "mpirun knows nothing of SLURM" : "there is no mpirun");
  if (!pmix)
    doctor_say(d, knows ? FINE : WARN, "pmi",
               "srun --mpi=list has no pmix: srun starts no ranks here");
  else
    doctor_say(d, FINE, "pmi", "srun --mpi=pmix; slurm/job.sh sets SLURM_PMIX_FENCE=%s",
               getenv("SLURM_PMIX_FENCE") ? getenv("SLURM_PMIX_FENCE") : "ring");
}

static void report_arrays(doctor *d, const char *size) {
  long most = atol(size) - 1;
  if (most < 1)
    doctor_say(d, WARN, "arrays",
               "MaxArraySize %s: no job arrays; start each sub-batch by --sub-batch k/n",
               size);
  else
    doctor_say(d, FINE, "arrays",
               "MaxArraySize %s: cohort submit makes several arrays of more than %ld "
               "sub-batches",
               size, most);
}

/* JobRequeue is but the default: the templates say --requeue. */
static void report_requeue(doctor *d, const char *preempt, const char *requeue) {
  bool cancels = strstr(preempt, "CANCEL") != NULL;
  doctor_say(d, cancels ? WARN : FINE, "slurm", "PreemptMode %s, JobRequeue %s%s%s",
             preempt, requeue,
             *requeue == '0' ? " (the templates say --requeue, which allows it)" : "",
             cancels ? ": a job that is preempted does not come back by itself; cohort "
                       "submit --resume submits what is left"
                     : "");
}

void doctor_slurm(doctor *d) {
  char arrays[64], preempt[64], requeue[64];
  coh_text settings = {0};
  coh_error err = {0};
  if (!slurm_finds("scontrol") || !slurm_finds("sinfo"))
    doctor_say(d, FINE, "slurm", "not here; mpirun starts runs");
  else if (slurm_settings(&settings, &err) != COH_OK ||
           !slurm_setting(&settings, "MaxArraySize", arrays, sizeof arrays))
    doctor_say(d, WARN, "slurm",
               "its commands are here, but no cluster answers: log in to one to submit");
  else {
    slurm_setting(&settings, "PreemptMode", preempt, sizeof preempt);
    slurm_setting(&settings, "JobRequeue", requeue, sizeof requeue);
    report_start(d);
    report_arrays(d, arrays);
    report_requeue(d, preempt, *requeue ? requeue : "1");
  }
  coh_text_free(&settings);
}
