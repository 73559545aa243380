#include "tests/support/cuda_emulation/device.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sluice::emulated {

namespace {

constexpr int kMostDevices = 8;

long number_of(const char* name, long otherwise) {
  const char* const text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  long number = 0;
  const char* const end = text + std::strlen(text);
  if (const auto [rest, error] = std::from_chars(text, end, number);
      error != std::errc() || rest != end || number < 0) {
    std::fprintf(stderr, "emulated CUDA: %s=%s is not a number\n", name, text);
    std::abort();
  }
  return number;
}

Settings read_settings() {
  Settings read;
  read.devices = static_cast<int>(number_of("SLUICE_EMULATED_GPUS", 1));
  read.device_bytes = static_cast<std::size_t>(number_of("SLUICE_EMULATED_GPU_MIB", 2048)) << 20;
  read.capability = static_cast<int>(number_of("SLUICE_EMULATED_CAPABILITY", 90));
  read.seed = static_cast<unsigned>(number_of("SLUICE_EMULATED_SEED", 0));
  read.late = number_of("SLUICE_EMULATED_LATE", 0) != 0;
  read.instances = number_of("SLUICE_EMULATED_INSTANCES", 0) != 0;
  read.stream_memory_operations = number_of("SLUICE_EMULATED_STREAM_MEMORY_OPERATIONS", 1) != 0;
  if (read.devices > kMostDevices) {
    std::fprintf(stderr, "emulated CUDA: at most %d GPUs\n", kMostDevices);
    std::abort();
  }
  return read;
}

std::array<std::atomic<bool>, kMostDevices> broken;
thread_local int chosen_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

const Settings& settings() {
  static const Settings read = read_settings();
  return read;
}

int most_shared_bytes() {
  switch (settings().capability) {  // CUDA C++ programming guide, technical specifications
    case 75:
      return 64 << 10;
    case 80:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}

int current_device() { return chosen_device; }

void break_device(int device, const std::string& why) {
  std::fprintf(stderr, "emulated CUDA: device %d breaks: %s\n", device, why.c_str());
  broken[static_cast<std::size_t>(device)] = true;
}

bool is_broken(int device) { return broken[static_cast<std::size_t>(device)]; }

cudaError_t answer(cudaError_t status, const std::string& why) {
  if (!why.empty()) {
    std::fprintf(stderr, "emulated CUDA: %s%s%s\n", why.c_str(), status == cudaSuccess ? "" : ": ",
                 status == cudaSuccess ? "" : cudaGetErrorName(status));
  }
  if (status != cudaSuccess && status != cudaErrorNotReady) last_error = status;
  return status;
}

cudaError_t state_of_device() {
  return is_broken(chosen_device) ? cudaErrorLaunchFailure : cudaSuccess;
}

int key_of(int device) {
  static const std::array<int, kMostDevices> keys = [] {
    std::array<int, kMostDevices> made;
    made.fill(-1);
    for (int i = 0; i < settings().devices; ++i) {
      made[static_cast<std::size_t>(i)] = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    }
    return made;
  }();
  return keys[static_cast<std::size_t>(device)];
}

void enter_device(int device) {
  if (const int key = key_of(device); key >= 0) pkey_set(key, 0);
}

Access::Access(bool open) {
  for (int i = 0; i < settings().devices; ++i) {
    const int key = key_of(i);
    if (key < 0) continue;
    before_ |= static_cast<unsigned>(pkey_get(key)) << 2 * i;
    pkey_set(key, open ? 0U : unsigned{PKEY_DISABLE_ACCESS});
  }
}

Access::~Access() {
  for (int i = 0; i < settings().devices; ++i) {
    const int key = key_of(i);
    if (key >= 0) pkey_set(key, before_ >> 2 * i & 3U);
  }
}

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = settings().devices;
  return answer(settings().devices == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= settings().devices) return answer(cudaErrorInvalidDevice);
  chosen_device = device;
  return answer(state_of_device());
}

cudaError_t cudaGetDevice(int* device) {
  *device = chosen_device;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  // What broke a device stays.
  last_error = state_of_device();
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= settings().devices) return answer(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
  properties->totalGlobalMem = settings().device_bytes;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = static_cast<std::size_t>(most_shared_bytes());
  properties->sharedMemPerMultiprocessor = static_cast<std::size_t>(most_shared_bytes()) + 1024;
  properties->reservedSharedMemPerBlock = 1024;
  properties->regsPerBlock = 65536;
  properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxThreadsDim[0] = 1024;
  properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 0x7FFFFFFF;
  properties->maxGridSize[1] = 65535;
  properties->maxGridSize[2] = 65535;
  properties->major = settings().capability / 10;
  properties->minor = settings().capability % 10;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 1 << 20;
  properties->pciBusID = device + 1;
  properties->unifiedAddressing = 1;
  properties->canMapHostMemory = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device);
      status != cudaSuccess) {
    return status;
  }
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = most_shared_bytes();
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    default:
      return answer(cudaErrorNotSupported, "cudaDeviceGetAttribute: attribute " +
                                               std::to_string(attribute) + " is not emulated");
  }
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int device) {
  if (device < 0 || device >= settings().devices) return answer(cudaErrorInvalidDevice);
  if (bytes < 13) return answer(cudaErrorInvalidValue);
  std::snprintf(id, static_cast<std::size_t>(bytes), "0000:%02X:00.0",
                settings().instances ? 1 : device + 1);
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define EMULATED_NAME(code) \
  case code:                \
    return #code;
    EMULATED_NAME(cudaSuccess)
    EMULATED_NAME(cudaErrorInvalidValue)
    EMULATED_NAME(cudaErrorMemoryAllocation)
    EMULATED_NAME(cudaErrorNoDevice)
    EMULATED_NAME(cudaErrorInvalidDevice)
    EMULATED_NAME(cudaErrorInvalidConfiguration)
    EMULATED_NAME(cudaErrorInvalidResourceHandle)
    EMULATED_NAME(cudaErrorNotReady)
    EMULATED_NAME(cudaErrorNotSupported)
    EMULATED_NAME(cudaErrorLaunchFailure)
    EMULATED_NAME(cudaErrorHostMemoryAlreadyRegistered)
    EMULATED_NAME(cudaErrorHostMemoryNotRegistered)
    EMULATED_NAME(cudaErrorStreamCaptureUnsupported)
    EMULATED_NAME(cudaErrorStreamCaptureInvalidated)
    EMULATED_NAME(cudaErrorStreamCaptureIsolation)
    EMULATED_NAME(cudaErrorStreamCaptureWrongThread)
    EMULATED_NAME(cudaErrorIllegalState)
    EMULATED_NAME(cudaErrorCapturedEvent)
#undef EMULATED_NAME
    default:
      return "an error without a name in the emulation";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "refused by the emulated GPU";
}

}  // extern "C"
