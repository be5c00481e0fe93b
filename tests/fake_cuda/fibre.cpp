/* fibre.cpp - runs one block of a kernel on the CPU: each thread is a fibre, which runs
 * until it waits at a barrier or in an exchange of its warp, or ends. Between barriers
 * the order of the threads is FAKE_CUDA_ORDER's. A block that cannot go on (threads that
 * ended, or wait elsewhere) ends the program with a message that names the kernel.
 */
#include "fake.hpp"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FAKE_SWITCH_START(save, bottom, size)                                            \
  __sanitizer_start_switch_fiber(save, bottom, size)
#define FAKE_SWITCH_FINISH(save, bottom, size)                                           \
  __sanitizer_finish_switch_fiber(save, bottom, size)
#else
#define FAKE_SWITCH_START(save, bottom, size)  ((void)(bottom), (void)(size))
#define FAKE_SWITCH_FINISH(save, bottom, size) ((void)(bottom), (void)(size))
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

using fake_cuda::Site;
using fake_cuda::Warp;

#if defined(__SANITIZE_ADDRESS__)
const size_t stack_bytes = 256 << 10;
#else
const size_t stack_bytes = 64 << 10;
#endif

struct Fibre {
  char *stack;
  void *point; /* stack pointer while it does not run */
  void *fake_stack;
  ucontext_t context;
};

enum class State { ready, block, warp, ended };

struct Thread {
  Fibre *fibre;
  unsigned number;
  uint3 index;
  State state;
  Site site;
  Warp kind;
  unsigned mask;
  uint64_t value, result;
  int lane, width;
  bool predicate;
};

std::vector<Fibre *> &idle = *new std::vector<Fibre *>; /* kept to the end, not leaked */
std::vector<Thread> threads;
Thread *current;
Fibre scheduler;
const void *scheduler_stack;
size_t scheduler_size;
const fake::Launch *running;
unsigned char *shared_start;
int block_count;

#if defined(__x86_64__)
extern "C" void fake_cuda_switch(void **save, void *load);
asm(".text\n.globl fake_cuda_switch\n.hidden fake_cuda_switch\n"
    ".type fake_cuda_switch,@function\n"
    "fake_cuda_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size fake_cuda_switch,.-fake_cuda_switch\n");

void swap_to(Fibre *from, Fibre *to) {
  fake_cuda_switch(&from->point, to->point);
}

void prepare(Fibre *f, void (*entry)()) {
  void **top = (void **)(void *)(f->stack + stack_bytes);
  top[-1] = nullptr;
  top[-2] = (void *)entry;
  for (int i = 3; i <= 8; i++) top[-i] = nullptr;
  f->point = top - 8;
}
#else
void swap_to(Fibre *from, Fibre *to) {
  swapcontext(&from->context, &to->context);
}

void prepare(Fibre *f, void (*entry)()) {
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = stack_bytes;
  f->context.uc_link = nullptr;
  makecontext(&f->context, entry, 0);
}
#endif

/* To the scheduler and, later, back. */
__attribute__((no_sanitize("address"))) void yield_thread() {
  Fibre *f = current->fibre;
  FAKE_SWITCH_START(&f->fake_stack, scheduler_stack, scheduler_size);
  swap_to(f, &scheduler);
  FAKE_SWITCH_FINISH(current->fibre->fake_stack, &scheduler_stack, &scheduler_size);
}

__attribute__((noinline)) void run_thread() {
  (*running->body)();
  current->state = State::ended;
}

/* A fibre runs thread after thread, so that its context is made once. */
__attribute__((no_sanitize("address"))) void fibre_entry() {
  FAKE_SWITCH_FINISH(nullptr, &scheduler_stack, &scheduler_size);
  for (;;) {
    run_thread();
    yield_thread();
  }
}

Fibre *take_fibre() {
  if (!idle.empty()) {
    Fibre *f = idle.back();
    idle.pop_back();
    return f;
  }
  const size_t guard = 4096;
  char *memory = (char *)mmap(nullptr, guard + stack_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0)
    fake::fatal("no memory for the stack of a thread");
  Fibre *f = new Fibre();
  f->stack = memory + guard;
  prepare(f, fibre_entry);
  return f;
}

void resume(Thread *t) {
  if (t->fibre == nullptr) t->fibre = take_fibre();
  current = t;
  threadIdx = t->index;
  t->state = State::ready;
  FAKE_SWITCH_START(&scheduler.fake_stack, t->fibre->stack, stack_bytes);
  swap_to(&scheduler, t->fibre);
  FAKE_SWITCH_FINISH(scheduler.fake_stack, nullptr, nullptr);
  if (t->state == State::ended) {
    idle.push_back(t->fibre);
    t->fibre = nullptr;
  }
}

bool same(const Thread &a, const Thread &b) {
  return a.state == b.state && a.site.line == b.site.line &&
         strcmp(a.site.file, b.site.file) == 0 &&
         (a.state != State::warp || (a.kind == b.kind && a.mask == b.mask));
}

[[noreturn]] void stuck() {
  fprintf(stderr, "fake CUDA: kernel %s, block (%u,%u,%u): threads cannot go on:\n",
          running->name, blockIdx.x, blockIdx.y, blockIdx.z);
  std::vector<const Thread *> kinds;
  for (const Thread &t : threads) {
    bool known = false;
    for (const Thread *k : kinds)
      known = known || (k->state == State::ended ? t.state == k->state : same(*k, t));
    if (!known) kinds.push_back(&t);
  }
  for (const Thread *k : kinds) {
    if (k->state == State::ended)
      fprintf(stderr, "  thread %u ended, as others may have\n", k->number);
    else
      fprintf(stderr, "  thread %u waits %s at %s:%d\n", k->number,
              k->state == State::block ? "for its block" : "for its warp", k->site.file,
              k->site.line);
  }
  fake::fatal("a barrier that not all threads of a block or warp reach");
}

/* The source lane of a shuffle, as the PTX manual defines it. */
int source_lane(const Thread &t, int self) {
  const int first = self & ~(t.width - 1), last = first + t.width - 1;
  int lane = self;
  switch (t.kind) {
  case Warp::shfl:
    return first + (t.lane & (t.width - 1));
  case Warp::down:
    lane = self + t.lane;
    return lane > last ? self : lane;
  case Warp::up:
    lane = self - t.lane;
    return lane < first ? self : lane;
  case Warp::xor_:
    lane = self ^ t.lane;
    return lane > last ? self : lane;
  default:
    return self;
  }
}

void answer(Thread *warp, unsigned lanes, unsigned mask) {
  unsigned ballot = 0;
  for (unsigned i = 0; i < lanes; i++)
    if (mask >> i & 1 && warp[i].value != 0) ballot |= 1u << i;
  const unsigned there = lanes == 32 ? mask : mask & ((1u << lanes) - 1);
  for (unsigned i = 0; i < lanes; i++) {
    if (!(mask >> i & 1)) continue;
    Thread &t = warp[i];
    if (t.kind == Warp::ballot)
      t.result = ballot;
    else if (t.kind == Warp::any)
      t.result = ballot != 0;
    else if (t.kind == Warp::all)
      t.result = ballot == there;
    else {
      unsigned from = (unsigned)source_lane(t, (int)i);
      t.result = there >> from & 1 ? warp[from].value : ~(uint64_t)0; /* undefined */
    }
  }
}

/* Lets go on each group of a warp that is complete: all lanes of its mask are there. */
void release_warp(Thread *warp, unsigned lanes, std::vector<unsigned> *ready) {
  unsigned done = 0;
  for (unsigned i = 0; i < lanes; i++) {
    if (done >> i & 1 || warp[i].state != State::warp) continue;
    const unsigned mask = warp[i].mask;
    bool complete = true;
    for (unsigned j = 0; j < lanes; j++)
      if (mask >> j & 1) complete = complete && same(warp[i], warp[j]);
    if (!complete) continue;
    answer(warp, lanes, mask);
    for (unsigned j = 0; j < lanes; j++)
      if (mask >> j & 1) ready->push_back(warp[j].number);
    done |= mask;
  }
}

void release(std::vector<unsigned> *ready) {
  ready->clear();
  size_t ended = 0, at_barrier = 0;
  for (const Thread &t : threads) {
    ended += t.state == State::ended;
    at_barrier += t.state == State::block && same(t, threads[0]);
  }
  if (ended == threads.size()) return;
  if (at_barrier == threads.size()) {
    block_count = 0;
    for (Thread &t : threads) {
      block_count += t.predicate;
      ready->push_back(t.number);
    }
    return;
  }
  for (unsigned w = 0; w < threads.size(); w += 32) {
    unsigned lanes = (unsigned)threads.size() - w;
    release_warp(&threads[w], lanes < 32 ? lanes : 32, ready);
  }
  if (ready->empty()) stuck();
}

void run_block(const fake::Launch &l) {
  const unsigned n = l.block.x * l.block.y * l.block.z;
  std::vector<unsigned> ready(n);
  threads.assign(n, Thread());
  for (unsigned i = 0; i < n; i++) {
    threads[i].number = ready[i] = i;
    threads[i].index =
        uint3{i % l.block.x, i / l.block.x % l.block.y, i / l.block.x / l.block.y};
  }
  do {
    fake::order(&ready);
    for (unsigned i : ready) resume(&threads[i]);
    release(&ready);
  } while (!ready.empty());
}

/* Exact size, so that the address sanitizer sees what reaches beyond. */
struct Shared {
  void *memory = nullptr;
  explicit Shared(size_t bytes) {
    if (posix_memalign(&memory, 128, bytes ? bytes : 1) != 0)
      fake::fatal("no memory for shared memory");
  }
  ~Shared() { free(memory); }
};

} // namespace

void fake::run_kernel(const Launch &l) {
  const size_t blocks = (size_t)l.grid.x * l.grid.y * l.grid.z;
  std::vector<unsigned> numbers(blocks);
  for (size_t i = 0; i < blocks; i++) numbers[i] = (unsigned)i;
  order(&numbers);
  Shared memory(l.shared);
  shared_start = (unsigned char *)memory.memory;
  running = &l;
  blockDim = l.block;
  gridDim = l.grid;
  for (unsigned b : numbers) {
    blockIdx = uint3{b % l.grid.x, b / l.grid.x % l.grid.y, b / l.grid.x / l.grid.y};
    memset(shared_start, 0xff, l.shared);
    run_block(l);
  }
  running = nullptr;
}

void *fake_cuda::shared_memory() {
  return shared_start;
}

int fake_cuda::sync_count(Site site, bool predicate) {
  current->state = State::block;
  current->site = site;
  current->predicate = predicate;
  yield_thread();
  return block_count;
}

void fake_cuda::sync_block(Site site) {
  sync_count(site, false);
}

uint64_t fake_cuda::exchange(Site site, Warp kind, unsigned mask, uint64_t value,
                             int lane, int width) {
  Thread *t = current;
  t->site = site;
  t->kind = kind;
  t->mask = mask;
  t->value = value;
  t->lane = lane;
  t->width = width;
  t->state = State::warp;
  if (!(mask >> (t->number & 31) & 1)) stuck(); /* not in its own mask */
  yield_thread();
  return t->result;
}
