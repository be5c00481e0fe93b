/* slurm.h - what the commands ask of SLURM and of other programs, and where the files of
 * slurm/ are. No MPI. */
#ifndef COHORT_JOBS_SLURM_H
#define COHORT_JOBS_SLURM_H

#include "cohort/base.h"

/* True if the program is in PATH. */
bool slurm_finds(const char *program);

/* Runs argv (ends with NULL), found in PATH, with no shell between; its standard output
 * is added to `out`, its errors go where ours go, or nowhere if `quiet`. *status: its
 * exit status, 128 + n if signal n ended it. COH_EIO where it cannot be started. */
int slurm_call(const char *const *argv, bool quiet, coh_text *out, int *status,
               coh_error *err);

/* `scontrol show config`, to be read by slurm_setting. COH_EIO if no cluster answers. */
int slurm_settings(coh_text *out, coh_error *err);
/* "MaxArraySize            = 1001": the value, up to the end of the line; false and "" if
 * the settings do not have it. */
bool slurm_setting(const coh_text *settings, const char *key, char *out, size_t size);

/* Path of a file of slurm/: beside the program in the source tree, or where `make
 * install` put it. COH_EIO if it is in neither. */
int slurm_file(const char *name, char *out, size_t size, coh_error *err);
/* Path of this program. */
int slurm_self(char *out, size_t size, coh_error *err);

/* `cohort job ...`: becomes slurm/job.sh. */
int command_job(int argc, char **argv);

#endif
