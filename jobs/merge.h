/* merge.h - `cohort merge`. */
#ifndef COHORT_JOBS_MERGE_H
#define COHORT_JOBS_MERGE_H

/* `cohort merge RESULTS/NAME... [-o OUT] [--copy]`; exit status 0 complete, 3 runs are
 * missing or have failed, 4 results differ, 1 failed, 2 wrong input. */
int command_merge(int argc, char **argv);

#endif
