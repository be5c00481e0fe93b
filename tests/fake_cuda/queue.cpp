/* queue.cpp - streams and events. A stream is a lazy queue: its work is done only when
 * something waits for it, so that a missing synchronisation shows. Where an order is
 * asked for (events, the legacy default stream), a piece of work waits for another
 * queue's.
 */
#include "fake.hpp"

#include <time.h>
#include <unistd.h>

#include <map>

struct CUevent_st {
  bool timing;
  fake::QueueRef queue;
  uint64_t number;
  std::shared_ptr<double> time;
  std::shared_ptr<fake::Capture> capture; /* recorded in it, not in a queue */
  std::vector<int> frontier;
};

struct CUstream_st {};

namespace {

std::map<cudaStream_t, fake::QueueRef> streams;
std::map<int, fake::QueueRef> defaults;
std::vector<fake::QueueRef>
    queues; /* all, those of destroyed streams until they are empty */
std::set<cudaEvent_t> events;
const size_t most_entries = 512, query_steps = 8;

double now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

fake::QueueRef default_queue(int device) {
  fake::QueueRef &q = defaults[device];
  if (q == nullptr) {
    q = std::make_shared<fake::Queue>();
    q->device = device;
    q->legacy = true;
    queues.push_back(q);
  }
  return q;
}

void append(fake::Queue *q, fake::Work work) {
  q->entries.push_back(fake::Entry{std::move(work), false});
  q->pushed++;
  if (q->entries.size() > most_entries)
    while (q->entries.size() > most_entries / 2 && fake::step(q)) {
    }
}

/* The default stream waits for the blocking ones, which wait for it. */
cudaError_t order_with_default(const fake::QueueRef &q) {
  if (q->blocking) {
    fake::QueueRef legacy = default_queue(q->device);
    if (legacy->done < legacy->pushed)
      append(q.get(), fake::wait_for(legacy, legacy->pushed));
  }
  if (!q->legacy) return cudaSuccess;
  for (const fake::QueueRef &other : queues) {
    if (!other->blocking || other->device != q->device) continue;
    if (other->capture) {
      fake::invalidate(other.get());
      return cudaErrorStreamCaptureImplicit;
    }
    if (other->done < other->pushed)
      append(q.get(), fake::wait_for(other, other->pushed));
  }
  return cudaSuccess;
}

void forget_empty() {
  for (size_t i = 0; i < queues.size();) {
    if (queues[i].use_count() == 1 && queues[i]->entries.empty())
      queues.erase(queues.begin() + (long)i);
    else
      i++;
  }
}

cudaError_t create(cudaStream_t *stream, unsigned flags) {
  if (stream == nullptr || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  auto q = std::make_shared<fake::Queue>();
  q->device = fake::device();
  q->blocking = !(flags & cudaStreamNonBlocking);
  *stream = new CUstream_st();
  streams[*stream] = q;
  queues.push_back(q);
  return cudaSuccess;
}

/* Waiting for a stream that is captured ends the capture. */
cudaError_t may_wait(const fake::QueueRef &q) {
  if (q == nullptr) return cudaErrorInvalidResourceHandle;
  if (q->legacy) return fake::forbidden(cudaErrorStreamCaptureImplicit);
  if (!q->capture) return cudaSuccess;
  fake::invalidate(q.get());
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t ready(fake::Queue *q, uint64_t number) {
  for (size_t i = 0; i < query_steps && q->done < number; i++)
    if (!fake::step(q)) break;
  return q->done < number ? cudaErrorNotReady : cudaSuccess;
}

bool known(cudaEvent_t event) {
  return events.count(event) != 0;
}

} // namespace

fake::QueueRef fake::find(cudaStream_t stream) {
  if (stream == nullptr) return default_queue(device());
  auto found = streams.find(stream);
  return found == streams.end() ? nullptr : found->second;
}

cudaError_t fake::push(const QueueRef &q, Work work) {
  if (q == nullptr) return cudaErrorInvalidResourceHandle;
  if (q->capture) return capture_push(q.get(), std::move(work));
  cudaError_t error = order_with_default(q);
  if (error == cudaSuccess) append(q.get(), std::move(work));
  return error;
}

cudaError_t fake::push_do(const QueueRef &q, std::function<void()> action) {
  return push(q, Work{nullptr, [action] {
                        action();
                        return true;
                      }});
}

fake::Work fake::wait_for(const QueueRef &other, uint64_t number) {
  return Work{nullptr, [other, number] {
                while (other->done < number)
                  if (!step(other.get())) return false;
                return true;
              }};
}

bool fake::step(Queue *q) {
  if (q->entries.empty()) return false;
  Entry &e = q->entries.front();
  if (!e.started && e.work.start) e.work.start();
  e.started = true;
  if (!e.work.run()) return false;
  q->entries.pop_front();
  q->done++;
  return true;
}

void fake::step_all() {
  for (size_t i = 0; i < queues.size(); i++) {
    QueueRef q = queues[i];
    while (step(q.get())) {
    }
  }
  forget_empty();
}

/* While work here waits for other processes, the device does what else there is. */
void fake::finish(Queue *q, uint64_t number) {
  while (q->done < number) {
    if (step(q)) continue;
    step_all();
    if (q->done >= number) break;
    unlock();
    usleep(100);
    lock();
  }
}

void fake::finish_device(int device) {
  for (size_t i = 0; i < queues.size(); i++) {
    QueueRef q = queues[i];
    if (q->device == device) finish(q.get(), q->pushed);
  }
  forget_empty();
}

size_t fake::live_streams() {
  return streams.size() + events.size();
}

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  FAKE_CALL;
  return fake::out(create(stream, cudaStreamDefault));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  FAKE_CALL;
  return fake::out(create(stream, flags));
}

/* Returns at once; what was put into the stream is still done. */
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  fake::Call call;
  auto found = streams.find(stream);
  if (found == streams.end()) return fake::out(cudaErrorInvalidResourceHandle);
  if (found->second->capture) fake::invalidate(found->second.get());
  streams.erase(found);
  delete stream;
  forget_empty();
  return fake::out(call.fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  FAKE_CALL;
  fake::QueueRef q = fake::find(stream);
  cudaError_t error = may_wait(q);
  if (error == cudaSuccess && q->legacy) error = order_with_default(q);
  if (error == cudaSuccess) fake::finish(q.get(), q->pushed);
  return fake::out(error);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  FAKE_CALL;
  fake::QueueRef q = fake::find(stream);
  cudaError_t error = may_wait(q);
  if (error == cudaSuccess && q->legacy) error = order_with_default(q);
  if (error == cudaSuccess) error = ready(q.get(), q->pushed);
  return fake::out(error);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  FAKE_CALL;
  fake::QueueRef q = fake::find(stream);
  if (q == nullptr || !known(event)) return fake::out(cudaErrorInvalidResourceHandle);
  if (flags != 0) return fake::out(cudaErrorInvalidValue);
  if (event->capture)
    return fake::out(fake::capture_join(q.get(), event->capture, event->frontier));
  if (q->capture) {
    fake::invalidate(q.get());
    return fake::out(cudaErrorStreamCaptureIsolation);
  }
  if (event->queue == nullptr) return cudaSuccess;
  return fake::out(fake::push(q, fake::wait_for(event->queue, event->number)));
}

cudaError_t cudaDeviceSynchronize(void) {
  FAKE_CALL;
  cudaError_t error = fake::forbidden(cudaErrorStreamCaptureUnsupported);
  if (error == cudaSuccess) fake::finish_device(fake::device());
  return fake::out(error);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  FAKE_CALL;
  if (event == nullptr || flags > 3) return fake::out(cudaErrorInvalidValue);
  *event = new CUevent_st();
  (*event)->timing = !(flags & cudaEventDisableTiming);
  events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  fake::Call call;
  if (events.erase(event) == 0) return fake::out(cudaErrorInvalidResourceHandle);
  delete event;
  return fake::out(call.fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  FAKE_CALL;
  fake::QueueRef q = fake::find(stream);
  if (q == nullptr || !known(event)) return fake::out(cudaErrorInvalidResourceHandle);
  if (q->capture) {
    cudaError_t error = fake::capture_state(q.get());
    if (error != cudaSuccess) return fake::out(error);
    event->capture = q->capture;
    event->frontier = q->frontier;
    return cudaSuccess;
  }
  auto time = std::make_shared<double>(-1.0);
  cudaError_t error = fake::push_do(q, [time] { *time = now(); });
  if (error != cudaSuccess) return fake::out(error);
  event->capture = nullptr;
  event->queue = q;
  event->number = q->pushed;
  event->time = time;
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  FAKE_CALL;
  if (!known(event)) return fake::out(cudaErrorInvalidResourceHandle);
  if (event->capture) return fake::out(cudaErrorCapturedEvent);
  if (event->queue == nullptr) return cudaSuccess;
  return fake::out(ready(event->queue.get(), event->number));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  FAKE_CALL;
  if (!known(event)) return fake::out(cudaErrorInvalidResourceHandle);
  if (event->capture) return fake::out(cudaErrorCapturedEvent);
  if (event->queue != nullptr) {
    fake::QueueRef q = event->queue;
    fake::finish(q.get(), event->number);
  }
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
  FAKE_CALL;
  for (cudaEvent_t e : {start, end}) {
    if (!known(e) || !e->timing || e->queue == nullptr)
      return fake::out(cudaErrorInvalidResourceHandle);
    if (e->queue->done < e->number) return fake::out(cudaErrorNotReady);
  }
  *ms = (float)(*end->time - *start->time);
  return cudaSuccess;
}
}
