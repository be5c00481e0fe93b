/* doctor.h - `cohort doctor`. */
#ifndef COHORT_JOBS_DOCTOR_H
#define COHORT_JOBS_DOCTOR_H

int command_doctor(int argc, char **argv);

#endif
