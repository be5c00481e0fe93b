/* device.cpp - the devices and their properties, as of an H100 with two multiprocessors;
 * names of errors.
 */
#include "fake.hpp"

#include <stdio.h>
#include <stdlib.h>

namespace {

thread_local int current_device;

struct Name {
  cudaError_t code;
  const char *name, *text;
};

#define FAKE_ERROR(code, text)                                                           \
  { code, #code, text }
const Name names[] = {
    FAKE_ERROR(cudaSuccess, "no error"),
    FAKE_ERROR(cudaErrorInvalidValue, "invalid argument"),
    FAKE_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    FAKE_ERROR(cudaErrorInitializationError, "initialization error"),
    FAKE_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    FAKE_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    FAKE_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    FAKE_ERROR(cudaErrorInsufficientDriver,
               "CUDA driver version is insufficient for CUDA runtime version"),
    FAKE_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    FAKE_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    FAKE_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    FAKE_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    FAKE_ERROR(cudaErrorIllegalState,
               "the operation cannot be performed in the present state"),
    FAKE_ERROR(cudaErrorNotReady, "device not ready"),
    FAKE_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    FAKE_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    FAKE_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    FAKE_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    FAKE_ERROR(cudaErrorNotSupported, "operation not supported"),
    FAKE_ERROR(cudaErrorStreamCaptureUnsupported,
               "operation not permitted when stream is capturing"),
    FAKE_ERROR(cudaErrorStreamCaptureInvalidated,
               "operation failed due to a previous error during capture"),
    FAKE_ERROR(cudaErrorStreamCaptureMerge,
               "operation would result in a merge of separate capture sequences"),
    FAKE_ERROR(cudaErrorStreamCaptureUnmatched,
               "capture was not ended in the same stream as it began"),
    FAKE_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    FAKE_ERROR(cudaErrorStreamCaptureIsolation,
               "dependency created on uncaptured work in another stream"),
    FAKE_ERROR(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking "
               "stream"),
    FAKE_ERROR(cudaErrorCapturedEvent,
               "operation not permitted on an event last recorded in a capturing stream"),
    FAKE_ERROR(
        cudaErrorStreamCaptureWrongThread,
        "attempt to terminate a thread-local capture sequence from another thread"),
    FAKE_ERROR(cudaErrorUnknown, "unknown error"),
};

int attribute(enum cudaDeviceAttr a, int device) {
  switch (a) {
  case cudaDevAttrMaxThreadsPerBlock:
    return 1024;
  case cudaDevAttrMaxGridDimX:
    return 2147483647;
  case cudaDevAttrMaxGridDimY:
  case cudaDevAttrMaxGridDimZ:
    return 65535;
  case cudaDevAttrMaxSharedMemoryPerBlock:
    return fake::shared_default;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    return fake::shared_most;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
    return 228 << 10;
  case cudaDevAttrWarpSize:
    return 32;
  case cudaDevAttrClockRate:
    return 1980000;
  case cudaDevAttrMemoryClockRate:
    return 2619000;
  case cudaDevAttrMultiProcessorCount:
    return 2;
  case cudaDevAttrMaxThreadsPerMultiProcessor:
    return 2048;
  case cudaDevAttrConcurrentKernels:
    return 1;
  case cudaDevAttrL2CacheSize:
    return 50 << 20;
  case cudaDevAttrPciBusId:
    return device + 1;
  case cudaDevAttrPciDeviceId:
  case cudaDevAttrPciDomainId:
    return 0;
  case cudaDevAttrComputeCapabilityMajor:
    return 9;
  case cudaDevAttrComputeCapabilityMinor:
    return 0;
  }
  return -1;
}

int installed() {
  const char *text = getenv("FAKE_CUDA_DEVICES");
  return text ? atoi(text) : 1;
}

} // namespace

int fake::devices() {
  int count = 0;
  if (!getenv("CUDA_VISIBLE_DEVICES")) return installed();
  while (fake::installed_device(count) >= 0) count++;
  return count;
}

int fake::installed_device(int device) {
  const char *text = getenv("CUDA_VISIBLE_DEVICES");
  if (!text) return device < installed() ? device : -1;
  for (int i = 0; *text; i++) {
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || number < 0 || number >= installed()) return -1;
    if (i == device) return (int)number;
    text = end + (*end == ',');
  }
  return -1;
}

int fake::device() {
  return current_device;
}

size_t fake::device_memory() {
  const char *text = getenv("FAKE_CUDA_MEMORY");
  return text ? strtoull(text, nullptr, 10) : (size_t)1 << 30;
}

extern "C" {

const char *cudaGetErrorName(cudaError_t error) {
  for (const Name &n : names)
    if (n.code == error) return n.name;
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
  for (const Name &n : names)
    if (n.code == error) return n.text;
  return "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int *count) {
  fake::Call call;
  if (call.fails) return fake::out(cudaErrorUnknown);
  *count = fake::devices();
  return fake::out(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  FAKE_CALL;
  if (device < 0 || device >= fake::devices()) return fake::out(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  FAKE_CALL;
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
  FAKE_CALL;
  if (device < 0 || device >= fake::devices()) return fake::out(cudaErrorInvalidDevice);
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "Fake GPU");
  p->totalGlobalMem = fake::device_memory();
  p->sharedMemPerBlock = fake::shared_default;
  p->sharedMemPerBlockOptin = fake::shared_most;
  p->sharedMemPerMultiprocessor = 228 << 10;
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->major = 9;
  p->multiProcessorCount = 2;
  p->ECCEnabled = 1;
  p->pciBusID = fake::installed_device(device) + 1;
  p->l2CacheSize = 50 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device) {
  FAKE_CALL;
  if (device < 0 || device >= fake::devices()) return fake::out(cudaErrorInvalidDevice);
  int found = attribute(attr, device);
  if (found < 0) return fake::out(cudaErrorInvalidValue);
  *value = found;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int len, int device) {
  FAKE_CALL;
  if (device < 0 || device >= fake::devices()) return fake::out(cudaErrorInvalidDevice);
  if (id == nullptr || len < 13) return fake::out(cudaErrorInvalidValue);
  snprintf(id, (size_t)len, "0000:%02x:00.0",
           (unsigned)(fake::installed_device(device) + 1) & 255u);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  fake::Call call;
  if (call.fails) return fake::out(cudaErrorUnknown);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  return cudaDriverGetVersion(version);
}
}
