/* calls.cpp - what every call goes through: the lock, the counter and the failures on
 * purpose, the last error, the order of what has none of its own.
 */
#include "fake.hpp"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <random>
#include <string>

namespace {

std::recursive_mutex mutex;
unsigned long calls, failing;
bool failing_known;
thread_local cudaError_t last_error;

void read_failing() {
  if (failing_known) return;
  const char *text = getenv("FAKE_CUDA_FAIL");
  failing = text ? strtoul(text, nullptr, 10) : 0;
  failing_known = true;
}

} // namespace

void fake::fatal(const char *what) {
  fprintf(stderr, "fake CUDA: %s\n", what);
  fflush(stderr);
  abort();
}

void fake::lock() {
  mutex.lock();
}

void fake::unlock() {
  mutex.unlock();
}

fake::Call::Call(bool counted) : fails(false) {
  lock();
  if (!counted) return;
  read_failing();
  fails = ++calls == failing;
}

fake::Call::~Call() {
  unlock();
}

cudaError_t fake::out(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

void fake::forget_error() {
  last_error = cudaSuccess;
}

void fake::order(std::vector<unsigned> *numbers) {
  static std::mt19937 random;
  static std::string known = "forward";
  const char *text = getenv("FAKE_CUDA_ORDER");
  if (text == nullptr || strcmp(text, "forward") == 0) {
    known = "forward";
    std::sort(numbers->begin(), numbers->end());
  } else if (strcmp(text, "reverse") == 0) {
    std::sort(numbers->rbegin(), numbers->rend());
  } else if (strncmp(text, "shuffle", 7) == 0) {
    if (known != text) random.seed(text[7] ? (unsigned)atoi(text + 8) : 1u);
    known = text;
    std::shuffle(numbers->begin(), numbers->end(), random);
  } else {
    fatal("FAKE_CUDA_ORDER is none of forward, reverse, shuffle, shuffle:SEED");
  }
}

extern "C" {

cudaError_t cudaGetLastError(void) {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError(void) {
  return last_error;
}

unsigned long fake_cuda_calls(void) {
  fake::Call call(false);
  return calls;
}

void fake_cuda_fail(unsigned long n) {
  fake::Call call(false);
  failing = n;
  failing_known = true;
}

void fake_cuda_reset(void) {
  fake::Call call(false);
  calls = failing = 0;
  failing_known = true;
  fake::forget_error();
}

size_t fake_cuda_live(void) {
  fake::Call call(false);
  return fake::live_memory() + fake::live_streams() + fake::live_graphs() +
         fake::live_handles() + fake::live_communicators();
}
}
