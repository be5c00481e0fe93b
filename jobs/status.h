/* status.h - `cohort status`. */
#ifndef COHORT_JOBS_STATUS_H
#define COHORT_JOBS_STATUS_H

/* `cohort status RESULTS/NAME | CONFIG.ini [--list] [section.key=value ...]`: how far a
 * sweep is, from its files alone. */
int command_status(int argc, char **argv);

#endif
