/* fake.hpp - what the parts of the test double share: the lock and the counter around
 * each call, devices, memory, the lazy queues behind streams, captures.
 */
#ifndef FAKE_HPP
#define FAKE_HPP

#include "fake_cuda.h"
#include "fake_device.h"

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace fake {

[[noreturn]] void fatal(const char *what); /* says it and aborts */

/* ---- each call (calls.cpp) ---- */

/* Holds the lock of everything; counts the call unless it cannot fail. */
struct Call {
  bool fails; /* on purpose */
  explicit Call(bool counted = true);
  ~Call();
};
void lock();
void unlock();

/* Keeps the error for cudaGetLastError() and returns it. */
cudaError_t out(cudaError_t error);
void forget_error();

/* Opens a function of the runtime that can fail. */
#define FAKE_CALL                                                                        \
  fake::Call call;                                                                       \
  if (call.fails) return fake::out(cudaErrorUnknown);                                    \
  if (fake::devices() == 0) return fake::out(cudaErrorNoDevice)

/* ---- devices and memory (device.cpp, memory.cpp) ---- */
int devices();                    /* that CUDA_VISIBLE_DEVICES lets through */
int installed_device(int device); /* its number among all of this machine, -1: none */
int device();                     /* the calling thread's */
size_t device_memory();
bool is_device(const void *p, size_t bytes); /* inside one allocation, whole */
bool is_pinned(const void *p);
size_t live_memory();
const size_t shared_default = 48 << 10, shared_most = 227 << 10;

/* ---- kernels (fibre.cpp, kernels.cpp) ---- */
struct Launch {
  const char *name;
  dim3 grid, block;
  size_t shared;
  const std::function<void()> *body;
};
void run_kernel(const Launch &launch);
/* Permutes as FAKE_CUDA_ORDER says. */
void order(std::vector<unsigned> *numbers);

/* ---- queues (queue.cpp) ---- */

/* One piece of work. run() says whether it is complete, and is called again if not;
 * start() comes before the first run(), each time the work is done (a graph does it
 * repeatedly). */
struct Work {
  std::function<void()> start;
  std::function<bool()> run;
};

struct Capture;

struct Entry {
  Work work;
  bool started;
};

/* Work number i (from 1) is complete once done >= i. */
struct Queue {
  int device = 0;
  bool blocking = false; /* waits for the default stream, and that for it */
  bool legacy = false;
  uint64_t pushed = 0, done = 0;
  std::deque<Entry> entries;
  std::shared_ptr<Capture> capture;
  std::vector<int> frontier; /* in a capture: the nodes that the next one follows */
};
using QueueRef = std::shared_ptr<Queue>;

QueueRef find(cudaStream_t stream); /* of this stream; null if there is none */
/* Into the queue or the queue's capture. */
cudaError_t push(const QueueRef &q, Work work);
cudaError_t push_do(const QueueRef &q, std::function<void()> action);
/* Work that waits until another queue's work `number` is complete. */
Work wait_for(const QueueRef &other, uint64_t number);
bool step(Queue *q);                    /* one entry; false if nothing could be done */
void finish(Queue *q, uint64_t number); /* until done >= number */
void finish_device(int device);
void step_all();
size_t live_streams();

/* ---- capture (graph.cpp) ---- */
cudaError_t capture_push(Queue *q, Work work);
cudaError_t capture_state(const Queue *q); /* cudaSuccess, or why q takes no work */
void invalidate(Queue *q);
/* Called by what may not happen during a capture: invalidates those that it concerns and
 * returns the error, cudaSuccess if none is going on. */
cudaError_t forbidden(cudaError_t error);
/* A stream's wait for an event that was recorded at `frontier` of a capture. */
cudaError_t capture_join(Queue *q, const std::shared_ptr<Capture> &capture,
                         const std::vector<int> &frontier);
size_t live_graphs();

size_t live_handles();       /* cublas.cpp */
size_t live_communicators(); /* nccl.cpp */

} // namespace fake

#endif
