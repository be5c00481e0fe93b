/* nccl.cpp - NCCL among processes of one machine through a file in shared memory. An
 * operation is work in a stream that goes on piece by piece as far as the peers allow,
 * and is never complete where one of them stopped. Sums are taken in the order of the
 * ranks.
 */
#include "fake.hpp"

#include "nccl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

namespace {

const int most_ranks = 64;
const size_t piece = 64 << 10; /* bytes that one mailbox holds */

/* What a rank offers: to all (collectives) or to one (send). */
struct Mailbox {
  std::atomic<uint64_t> posted;            /* pieces put in so far */
  std::atomic<uint64_t> taken[most_ranks]; /* pieces that each rank took out */
  uint64_t kind, count, type;              /* of the operation, to tell a mismatch */
  alignas(16) char data[piece];
};

struct Rank {
  std::atomic<int> there;
  int device;
  char host[64];
};

struct Shared {
  Rank ranks[most_ranks];
  Mailbox mailboxes[]; /* n of the collectives, then n * n from rank to rank */
};

std::string path_of(const std::string &name) {
  const char *folder = getenv("FAKE_CUDA_SHARED");
  return (folder ? folder : "/dev/shm") + name;
}

/* What an operation needs of its communicator; outlives it. */
struct Comm {
  std::string name;
  Shared *shared;
  size_t bytes;
  int n, rank, device;
  bool aborted, blocking, ready;
  ncclResult_t state;
  uint64_t collective; /* pieces of collectives so far */
  std::vector<uint64_t> sent, received;
  size_t outstanding;

  ~Comm() {
    if (shared) munmap(shared, bytes);
  }
  Mailbox &common(int r) { return shared->mailboxes[r]; }
  Mailbox &between(int from, int to) { return shared->mailboxes[n + from * n + to]; }
};
using CommRef = std::shared_ptr<Comm>;

enum Kind { all_reduce = 1, broadcast, send_to, receive };

/* One operation on its way. */
struct Operation {
  CommRef comm;
  Kind kind;
  const char *in;
  char *out;
  size_t count, size;
  ncclDataType_t type;
  int root; /* or the peer */
  cudaStream_t stream;
  size_t done;  /* bytes */
  bool offered; /* this piece is in the mailbox */

  size_t bytes() const { return count * size; }
  size_t now() const { return std::min(piece, bytes() - done); }
  bool complete() const { return comm->aborted || done >= bytes(); }

  /* Puts the next piece into a box once `readers` took the one before. */
  bool offer(Mailbox *box, uint64_t number, int first, int last) {
    for (int r = first; r < last; r++)
      if (box->taken[r].load() < number) return false;
    box->kind = kind;
    box->count = count;
    box->type = type;
    if (in != nullptr) memcpy(box->data, in + done, now());
    box->posted.store(number + 1);
    return offered = true;
  }

  void check(const Mailbox &box, Kind expected) const {
    if (box.kind != (uint64_t)expected || box.count != count || box.type != type)
      fake::fatal("NCCL: two ranks do not call the same operation");
  }

  template <class T> void add(int r) {
    const T *x = (const T *)comm->common(r).data;
    T *y = (T *)(out + done);
    for (size_t i = 0; i < now() / sizeof(T); i++) y[i] = r == 0 ? x[i] : y[i] + x[i];
  }

  void combine() {
    for (int r = 0; r < comm->n; r++) {
      check(comm->common(r), kind);
      if (kind == broadcast) {
        if (r == root) memcpy(out + done, comm->common(r).data, now());
      } else if (type == ncclDouble) {
        add<double>(r);
      } else {
        add<float>(r);
      }
    }
  }

  bool step_collective() {
    const uint64_t number = comm->collective;
    if (!offered && !offer(&comm->common(comm->rank), number, 0, comm->n)) return false;
    for (int r = 0; r < comm->n; r++)
      if (comm->common(r).posted.load() < number + 1) return false;
    combine();
    for (int r = 0; r < comm->n; r++) comm->common(r).taken[comm->rank].store(number + 1);
    comm->collective++;
    return true;
  }

  bool step_send() {
    uint64_t &number = comm->sent[(size_t)root];
    if (!offer(&comm->between(comm->rank, root), number, root, root + 1)) return false;
    number++;
    return true;
  }

  bool step_receive() {
    uint64_t &number = comm->received[(size_t)root];
    Mailbox &box = comm->between(root, comm->rank);
    if (box.posted.load() < number + 1) return false;
    check(box, send_to);
    memcpy(out + done, box.data, now());
    box.taken[comm->rank].store(++number);
    return true;
  }

  /* One piece; false if a peer is not there yet. */
  bool step() {
    bool moved = kind == send_to   ? step_send()
                 : kind == receive ? step_receive()
                                   : step_collective();
    if (!moved) return false;
    done += now();
    offered = false;
    return true;
  }
};

/* The operations of a group in one stream: sends and receives side by side, collectives
 * one after the other. */
struct Group {
  std::vector<Operation> operations;

  bool run() {
    bool busy = false;
    std::set<Comm *> collective_busy;
    for (Operation &o : operations) {
      const bool collective = o.kind == all_reduce || o.kind == broadcast;
      if (collective && collective_busy.count(o.comm.get())) continue;
      while (!o.complete() && o.step()) {
      }
      if (o.complete()) continue;
      busy = true;
      if (collective) collective_busy.insert(o.comm.get());
    }
    return !busy;
  }
};

thread_local int depth;
thread_local std::vector<Operation> pending;
thread_local std::string last_message;
std::set<ncclComm_t> comms;
std::set<std::string> made; /* names of this process that may still exist */
unsigned serial;

std::string prefix() {
  return "/fake_nccl_" + std::to_string(getpid()) + "_";
}

/* not what the process that this one was forked from made */
void unlink_made() {
  for (const std::string &name : made)
    if (name.compare(0, prefix().size(), prefix()) == 0) unlink(path_of(name).c_str());
}

ncclResult_t fail(ncclResult_t result, const char *message) {
  last_message = message;
  return result;
}

ncclResult_t push_group(cudaStream_t stream, std::vector<Operation> operations) {
  auto group = std::make_shared<Group>();
  group->operations = std::move(operations);
  std::set<Comm *> used;
  for (Operation &o : group->operations) used.insert(o.comm.get());
  fake::QueueRef q = fake::find(stream);
  const bool captured = q && q->capture;
  if (!captured)
    for (Comm *c : used) c->outstanding++;
  auto start = [group] {
    for (Operation &o : group->operations) o.done = 0, o.offered = false;
  };
  auto run = [group, used, captured] {
    if (!group->run()) return false;
    if (!captured)
      for (Comm *c : used) c->outstanding--;
    return true;
  };
  if (fake::push(q, fake::Work{start, run}) == cudaSuccess) return ncclSuccess;
  for (Comm *c : used)
    if (!captured) c->outstanding--;
  return fail(ncclUnhandledCudaError, "the stream takes no work");
}

ncclResult_t end_group() {
  ncclResult_t result = ncclSuccess;
  while (!pending.empty()) {
    cudaStream_t stream = pending[0].stream;
    std::vector<Operation> mine, others;
    for (Operation &o : pending) (o.stream == stream ? mine : others).push_back(o);
    pending = others;
    ncclResult_t one = push_group(stream, std::move(mine));
    if (one != ncclSuccess) result = one;
  }
  return result;
}

bool attach(Comm *c) {
  const size_t boxes = (size_t)c->n * (size_t)(c->n + 1);
  c->bytes = sizeof(Shared) + boxes * sizeof(Mailbox);
  int fd = open(path_of(c->name).c_str(), O_RDWR);
  if (fd < 0) return false;
  void *p = MAP_FAILED;
  if (ftruncate(fd, (off_t)c->bytes) == 0)
    p = mmap(nullptr, c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  c->shared = p == MAP_FAILED ? nullptr : (Shared *)p;
  return c->shared != nullptr;
}

/* Are all ranks there? Then the name is not needed any more. */
bool gather(Comm *c) {
  for (int r = 0; r < c->n; r++)
    if (!c->shared->ranks[r].there.load()) return false;
  if (c->rank == 0) unlink(path_of(c->name).c_str());
  made.erase(c->name);
  c->ready = true;
  c->state = ncclSuccess;
  for (int r = 0; r < c->n; r++)
    for (int s = 0; s < r; s++)
      if (c->shared->ranks[r].device == c->shared->ranks[s].device &&
          strcmp(c->shared->ranks[r].host, c->shared->ranks[s].host) == 0)
        c->state = fail(ncclInvalidUsage, "Duplicate GPU detected");
  return true;
}

void pause_unlocked() {
  fake::unlock();
  usleep(100);
  fake::lock();
}

} // namespace

namespace {

std::thread *helper;
pid_t helper_of; /* a fork has none */
std::atomic<bool> helper_stops;

void help() {
  unsigned long before = 0;
  for (int idle = 0; !helper_stops;) {
    usleep(20000);
    fake::lock();
    idle = fake_cuda_calls() == before ? idle + 1 : 0;
    before = fake_cuda_calls();
    if (idle >= 10 && !comms.empty()) fake::step_all();
    fake::unlock();
  }
}

void end_helper() {
  if (helper_of != getpid()) return;
  helper_stops = true;
  helper->join();
  delete helper;
}

void start_helper() {
  if (helper_of == getpid()) return;
  helper_of = getpid();
  helper_stops = false;
  helper = new std::thread(help);
  atexit(end_helper);
}

} // namespace

struct ncclComm {
  CommRef comm;
};

namespace {

ncclResult_t init(ncclComm_t *out, int n, const ncclUniqueId &id, int rank,
                  bool blocking) {
  if (out == nullptr || n < 1 || n > most_ranks || rank < 0 || rank >= n)
    return fail(ncclInvalidArgument, "Invalid rank or number of ranks");
  if (fake::devices() == 0) return fail(ncclUnhandledCudaError, "no device");
  auto c = std::make_shared<Comm>(Comm{});
  c->name.assign(id.internal, strnlen(id.internal, sizeof id.internal));
  c->n = n;
  c->rank = rank;
  c->device = fake::device();
  c->blocking = blocking;
  c->sent.assign((size_t)n, 0);
  c->received = c->sent;
  if (!attach(c.get())) return fail(ncclSystemError, "no shared memory of this id");
  Rank &mine = c->shared->ranks[rank];
  mine.device = fake::installed_device(c->device);
  (void)gethostname(mine.host, sizeof mine.host - 1);
  mine.there.store(1);
  c->state = ncclInProgress;
  if (!blocking) gather(c.get());
  while (blocking && !gather(c.get())) pause_unlocked();
  if (blocking && c->state != ncclSuccess) return c->state;
  *out = new ncclComm{c};
  start_helper();
  comms.insert(*out);
  return c->state == ncclInProgress ? ncclInProgress : c->state;
}

/* Waits for what was put into streams, as long as it takes. */
void drain(const CommRef &c) {
  while (c->outstanding > 0 && !c->aborted) {
    fake::step_all();
    if (c->outstanding > 0) pause_unlocked();
  }
}

ncclResult_t operate(ncclComm_t comm, Kind kind, const void *in, void *out, size_t count,
                     ncclDataType_t type, int root, cudaStream_t stream) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  CommRef c = comm->comm;
  if (!c->ready || c->state != ncclSuccess)
    return fail(ncclInvalidArgument, "the communicator is not ready");
  if (type != ncclFloat && type != ncclDouble)
    return fail(ncclInvalidArgument, "the fake knows float and double");
  if (root < 0 || root >= c->n) return fail(ncclInvalidArgument, "no such rank");
  const size_t size = type == ncclDouble ? 8 : 4;
  if (count > 0 && ((in && !fake::is_device(in, count * size)) ||
                    (out && !fake::is_device(out, count * size))))
    return fail(ncclInvalidArgument, "a buffer is not device memory");
  if (kind == broadcast && c->rank != root) in = nullptr;
  pending.push_back(Operation{c, kind, (const char *)in, (char *)out, count, size, type,
                              root, stream, 0, false});
  return depth > 0 ? ncclSuccess : end_group();
}

} // namespace

size_t fake::live_communicators() {
  return comms.size();
}

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "%s%u", prefix().c_str(), serial++);
  unlink(path_of(id->internal).c_str()); /* of a killed process of this number */
  int fd = open(path_of(id->internal).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0) return fail(ncclSystemError, "no shared memory");
  close(fd);
  if (made.empty()) atexit(unlink_made);
  made.insert(id->internal);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  if (config && config->magic != 0xcafebeef)
    return fail(ncclInvalidArgument, "ncclConfig_t is not initialised");
  return init(comm, n, id, rank, config == nullptr || config->blocking != 0);
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int n, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, n, id, rank, nullptr);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  fake::Call call;
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  if (comm->comm->blocking) drain(comm->comm);
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  return comm->comm->outstanding > 0 ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  fake::Call call;
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  CommRef c = comm->comm;
  drain(c);
  comms.erase(comm);
  delete comm;
  return call.fails ? fail(ncclSystemError, "failure on purpose") : ncclSuccess;
}

/* Its operations count as complete from now on; what they wrote is undefined. */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  fake::Call call;
  if (comms.erase(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  comm->comm->aborted = true;
  delete comm;
  return call.fails ? fail(ncclSystemError, "failure on purpose") : ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  Comm *c = comm->comm.get();
  if (!c->ready) gather(c);
  fake::step_all();
  *error = c->state;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  *count = comm->comm->n;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  *device = comm->comm->device;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  if (comms.count(comm) == 0) return fail(ncclInvalidArgument, "no communicator");
  *rank = comm->comm->rank;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *in, void *out, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return fail(ncclInvalidArgument, "the fake knows sums");
  return operate(comm, all_reduce, in, out, count, type, 0, stream);
}

ncclResult_t ncclBroadcast(const void *in, void *out, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return operate(comm, broadcast, in, out, count, type, root, stream);
}

ncclResult_t ncclSend(const void *in, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return operate(comm, send_to, in, nullptr, count, type, peer, stream);
}

ncclResult_t ncclRecv(void *out, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return operate(comm, receive, nullptr, out, count, type, peer, stream);
}

ncclResult_t ncclGroupStart(void) {
  fake::Call call;
  if (call.fails) return fail(ncclSystemError, "failure on purpose");
  depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  fake::Call call;
  if (depth == 0) return fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--depth > 0) return ncclSuccess;
  ncclResult_t result = end_group();
  return call.fails ? fail(ncclSystemError, "failure on purpose") : result;
}

const char *ncclGetErrorString(ncclResult_t result) {
  switch (result) {
  case ncclSuccess:
    return "no error";
  case ncclUnhandledCudaError:
    return "unhandled cuda error";
  case ncclSystemError:
    return "unhandled system error";
  case ncclInternalError:
    return "internal error";
  case ncclInvalidArgument:
    return "invalid argument";
  case ncclInvalidUsage:
    return "invalid usage";
  case ncclRemoteError:
    return "remote process exited or there was a network error";
  case ncclInProgress:
    return "NCCL operation in progress";
  default:
    return "unknown result code";
  }
}

const char *ncclGetLastError(ncclComm_t comm) {
  (void)comm;
  return last_message.c_str();
}
}
