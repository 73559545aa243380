// Events, and streams that wait: for events, and for words of memory.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <set>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/driver.h"
#include "tests/support/cuda_emulation/memory.h"

struct CUevent_st {  // the name that CUDA's headers declare
  int device = 0;
  unsigned flags = 0;
  std::shared_ptr<sluice::emulated::Mark> mark;  // of the last record; null: none yet
  const CUstream_st* captured = nullptr;         // the last record was into this capture
};

namespace sluice::emulated {

namespace {

struct Events {
  std::mutex mutex;  // of what is in the events, too
  std::set<cudaEvent_t> alive;
};

Events& events() {
  static Events* const one = new Events;
  return *one;
}

/// A copy of an event's state; device -1: there is no such event.
CUevent_st look_at(cudaEvent_t event) {
  const std::lock_guard lock(events().mutex);
  if (!events().alive.contains(event)) return {-1, 0, nullptr, nullptr};
  return *event;
}

}  // namespace

CUresult wait_value(CUstream handle, CUdeviceptr address, cuuint64_t value, unsigned flags) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (!settings().stream_memory_operations) return CUDA_ERROR_NOT_SUPPORTED;
  if (stream->is_captured()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (flags != CU_STREAM_WAIT_VALUE_GEQ) return CUDA_ERROR_NOT_SUPPORTED;
  auto* const word = reinterpret_cast<std::uint64_t*>(address);
  if (address % sizeof(*word) != 0 || !misplaced(word, sizeof(*word), stream->device()).empty()) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  stream->enqueue([=, device = stream->device()] {
    const std::atomic_ref<std::uint64_t> seen(*word);
    while (static_cast<std::int64_t>(seen.load(std::memory_order_acquire) - value) < 0 &&
           !is_broken(device)) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  });
  return CUDA_SUCCESS;
}

CUresult write_value(CUstream handle, CUdeviceptr address, cuuint64_t value, unsigned flags) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (!settings().stream_memory_operations) return CUDA_ERROR_NOT_SUPPORTED;
  if (stream->is_captured()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (flags != CU_STREAM_WRITE_VALUE_DEFAULT) return CUDA_ERROR_NOT_SUPPORTED;
  auto* const word = reinterpret_cast<std::uint64_t*>(address);
  if (address % sizeof(*word) != 0 || !misplaced(word, sizeof(*word), stream->device()).empty()) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  stream->enqueue([=] {
    const std::atomic_ref<std::uint64_t> written(*word);
    written.store(value, std::memory_order_release);
  });
  return CUDA_SUCCESS;
}

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t status = state_of_device(); status != cudaSuccess) return answer(status);
  *event = new CUevent_st{current_device(), flags, nullptr, nullptr};
  const std::lock_guard lock(events().mutex);
  events().alive.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  {
    const std::lock_guard lock(events().mutex);
    if (events().alive.erase(event) == 0) return cudaErrorInvalidResourceHandle;
  }
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  const CUevent_st before = look_at(event);
  if (stream == nullptr || before.device < 0) {
    return answer(cudaErrorInvalidResourceHandle, "cudaEventRecord: no such stream or event");
  }
  if (before.device != stream->device()) {
    return answer(cudaErrorInvalidResourceHandle,
                  "cudaEventRecord: event and stream are of different devices");
  }
  if (is_broken(stream->device())) return answer(cudaErrorLaunchFailure);
  const bool captured = stream->is_captured();
  const auto mark = captured ? nullptr : stream->queue().mark();
  const std::lock_guard lock(events().mutex);
  event->mark = mark;
  event->captured = captured ? stream : nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  Stream* const stream = stream_of(handle);
  const CUevent_st seen = look_at(event);
  if (stream == nullptr || seen.device < 0) {
    return answer(cudaErrorInvalidResourceHandle, "cudaStreamWaitEvent: no such stream or event");
  }
  if (is_broken(stream->device())) return answer(cudaErrorLaunchFailure);
  if (seen.captured != nullptr) {
    if (seen.captured == stream) return cudaSuccess;
    return answer(cudaErrorNotSupported, "a capture of several streams is not emulated");
  }
  if (seen.mark == nullptr) return cudaSuccess;  // as CUDA has it: nothing to wait for
  if (stream->is_captured()) {
    const std::lock_guard lock(captures_mutex());
    stream->capture->valid = false;
    return answer(cudaErrorStreamCaptureIsolation,
                  "a captured stream waits for an event of before the capture");
  }
  stream->enqueue([mark = seen.mark] { mark->wait(); });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const CUevent_st seen = look_at(event);
  if (seen.device < 0) return answer(cudaErrorInvalidResourceHandle, "cudaEventQuery: no event");
  if (seen.captured != nullptr) return answer(cudaErrorCapturedEvent, "cudaEventQuery");
  if (const cudaError_t status = may_call("cudaEventQuery"); status != cudaSuccess) return status;
  if (is_broken(seen.device)) return answer(cudaErrorLaunchFailure);
  return seen.mark == nullptr || seen.mark->done() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const CUevent_st seen = look_at(event);
  if (seen.device < 0) return answer(cudaErrorInvalidResourceHandle, "cudaEventSynchronize");
  if (seen.captured != nullptr) return answer(cudaErrorCapturedEvent, "cudaEventSynchronize");
  if (const cudaError_t status = may_call("cudaEventSynchronize"); status != cudaSuccess) {
    return status;
  }
  if (seen.mark != nullptr) seen.mark->wait();
  return answer(is_broken(seen.device) ? cudaErrorLaunchFailure : cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  const CUevent_st from = look_at(start);
  const CUevent_st to = look_at(end);
  if (from.device < 0 || to.device < 0 || from.mark == nullptr || to.mark == nullptr ||
      ((from.flags | to.flags) & cudaEventDisableTiming) != 0) {
    return answer(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime");
  }
  if (from.device != to.device) {
    return answer(cudaErrorInvalidValue, "cudaEventElapsedTime: events of different devices");
  }
  if (!from.mark->done() || !to.mark->done()) return cudaErrorNotReady;
  *ms = static_cast<float>(static_cast<double>(to.mark->time_ns() - from.mark->time_ns()) * 1e-6);
  return cudaSuccess;
}

}  // extern "C"
