#include "tests/support/cuda_emulation/launch.h"

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"

namespace sluice::emulated {

namespace {

constexpr std::size_t kSharedBytes = 48 << 10;  // without cudaFuncSetAttribute

/// What cudaFuncSetAttribute allowed, by device and kernel.
struct Allowed {
  std::mutex mutex;
  std::map<std::pair<int, const void*>, std::size_t> shared_bytes;
};

Allowed& allowed() {
  static Allowed* const one = new Allowed;
  return *one;
}

std::size_t allowed_shared_bytes(int device, const void* kernel) {
  const std::lock_guard lock(allowed().mutex);
  const auto found = allowed().shared_bytes.find({device, kernel});
  return found == allowed().shared_bytes.end() ? kSharedBytes : found->second;
}

}  // namespace

cudaError_t launch(const char* name, cudaStream_t handle, dim3 blocks, unsigned threads,
                   std::size_t shared_bytes, const void* kernel, std::function<void()> thread) {
  Stream* const stream = stream_of(handle);
  const auto refuse = [name](cudaError_t status, const std::string& why) {
    return answer(status, std::string(name) + ": " + why);
  };
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle, "no such stream");
  if (is_broken(stream->device())) return answer(cudaErrorLaunchFailure);
  if (stream->device() != current_device()) {
    return refuse(cudaErrorInvalidResourceHandle, "the stream is not of the current device");
  }
  if (threads == 0 || threads > 1024) {
    return refuse(cudaErrorInvalidConfiguration, std::to_string(threads) + " threads");
  }
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.x > 0x7FFFFFFFU ||
      blocks.y > 65535 || blocks.z > 65535) {
    return refuse(cudaErrorInvalidConfiguration, "a grid of " + std::to_string(blocks.x) + " x " +
                                                     std::to_string(blocks.y) + " x " +
                                                     std::to_string(blocks.z));
  }
  if (shared_bytes > allowed_shared_bytes(stream->device(), kernel)) {
    return refuse(cudaErrorInvalidValue, std::to_string(shared_bytes) + " bytes of shared memory");
  }
  stream->enqueue([grid = support::Dim3{blocks.x, blocks.y, blocks.z}, threads, shared_bytes,
                   thread = std::move(thread), what = std::string(name)] {
    if (settings().seed != 0) {
      support::run_order = {support::RunOrder::Kind::shuffled, settings().seed};
    }
    try {
      support::launch_on_host(grid, threads, shared_bytes, thread);
    } catch (const std::exception& error) {
      throw std::logic_error(what + ": " + error.what());
    }
  });
  return cudaSuccess;
}

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return answer(cudaErrorInvalidValue, "cudaFuncSetAttribute");
  }
  if (value < 0 || value > most_shared_bytes()) {
    return answer(cudaErrorInvalidValue,
                  "cudaFuncSetAttribute: " + std::to_string(value) + " bytes of shared memory");
  }
  const std::lock_guard lock(allowed().mutex);
  allowed().shared_bytes[{current_device(), kernel}] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->maxDynamicSharedSizeBytes =
      static_cast<int>(allowed_shared_bytes(current_device(), kernel));
  attributes->ptxVersion = settings().capability;
  attributes->binaryVersion = settings().capability;
  return cudaSuccess;
}

}  // extern "C"
