/* fake_cuda.h - what tests ask of the test double of CUDA, cuBLAS and NCCL, beside the
 * real interfaces: failures on purpose, and what is still alive.
 *
 * Environment: FAKE_CUDA_DEVICES (number of devices, default 1; CUDA_VISIBLE_DEVICES
 * chooses among them as among real ones), FAKE_CUDA_SHARED (a folder that the ranks of
 * NCCL have in common, default /dev/shm), FAKE_CUDA_MEMORY (bytes
 * of each, default 1 GiB), FAKE_CUDA_FAIL=n (the n-th call fails),
 * FAKE_CUDA_ORDER=forward| reverse|shuffle[:seed] (in which order the blocks, the threads
 * between two barriers, and the nodes of a graph that do not depend on each other run).
 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls of functions that can fail, kernel launches included, since the last reset. */
unsigned long fake_cuda_calls(void);

/* The n-th call since the last reset fails (once): cudaErrorUnknown,
 * CUBLAS_STATUS_INTERNAL_ERROR or ncclSystemError. What destroys still destroys. 0: none.
 */
void fake_cuda_fail(unsigned long n);

/* The counter is 0 again, no call shall fail, no error is pending. */
void fake_cuda_reset(void);

/* Allocations, streams, events, graphs, handles and communicators that are still alive.
 */
size_t fake_cuda_live(void);

#ifdef __cplusplus
}
#endif
#endif
