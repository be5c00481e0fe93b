/* submit.h - `cohort submit`: a run, or a sweep as job arrays, given to SLURM. */
#ifndef COHORT_JOBS_SUBMIT_H
#define COHORT_JOBS_SUBMIT_H

int command_submit(int argc, char **argv);

#endif
