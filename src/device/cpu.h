/* cpu.h - what the CPU back end gives to device.c. Private to src/device. */
#ifndef COHORT_DEVICE_CPU_H
#define COHORT_DEVICE_CPU_H

#include "cohort/device.h"

void coh_cpu_close(coh_device *);
const char *coh_cpu_text(const coh_device *);

#endif
