/* start.h - the BLAS that ScaLAPACK and LAPACK bring: which kernels it chose, and how it
 * is made to choose the right ones. */
#ifndef COHORT_JOBS_START_H
#define COHORT_JOBS_START_H

#include "cohort/base.h"

/* OpenBLAS's name of the processor it works for; NULL where the BLAS is another one. */
const char *start_blas_core(void);
/* Threads of OpenBLAS; 0 where the BLAS is another one. */
int start_blas_threads(void);
/* True if `core` names kernels from before AVX2 while this processor has it. */
bool start_blas_is_slow(const char *core);
/* The variable that says how many threads the user wants of the BLAS, or NULL. */
const char *start_blas_wish(void);

/* The first call of main, before MPI starts. Where OpenBLAS fell back to slow kernels, as
 * it does on processors younger than itself, the program starts itself anew with
 * OPENBLAS_CORETYPE set: the kernels are chosen while libraries load, so there is no
 * later moment. Process number, arguments, environment and open files stay, so that
 * launchers notice nothing. OpenBLAS gets one thread, as ranks are the parallelism,
 * unless the user set OPENBLAS_NUM_THREADS, GOTO_NUM_THREADS or OMP_NUM_THREADS. */
void start_with_fast_blas(char **argv);
/* Takes that choice out of the environment again: for what is started from here and runs
 * on other machines. */
void start_forget(void);

#endif
