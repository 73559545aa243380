// Streams and what is put on them. Not emulated, and refused: streams that wait for the default
// stream (those made without cudaStreamNonBlocking), priorities.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/memory.h"

namespace sluice::emulated {

namespace {

struct Streams {
  std::mutex mutex;
  std::set<Stream*> alive;
  std::vector<Stream*> defaults = std::vector<Stream*>(8);
};

/// Never destroyed: threads may still be at work when the program ends.
Streams& streams() {
  static Streams* const one = new Streams;
  return *one;
}

/// cudaMemsetAsync, big blocks of zeros without touching their pages.
void set_bytes(void* memory, int value, std::size_t bytes) {
  constexpr std::uintptr_t kPage = 4096;
  auto* const first = static_cast<std::byte*>(memory);
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(memory);
  const std::size_t head = (kPage - at % kPage) % kPage;
  if (value != 0 || bytes < head + (1 << 20)) {
    std::memset(memory, value, bytes);
    return;
  }
  const std::size_t pages = (bytes - head) / kPage * kPage;
  std::memset(first, 0, head);
  madvise(first + head, pages, MADV_DONTNEED);
  std::memset(first + head + pages, 0, bytes - head - pages);
}

std::string bad_kind(const Place& target, const Place& source, cudaMemcpyKind kind) {
  const bool to_device = target.kind == Place::Kind::device;
  const bool from_device = source.kind == Place::Kind::device;
  const bool fits = kind == cudaMemcpyDefault ||
                    (kind == cudaMemcpyHostToHost && !to_device && !from_device) ||
                    (kind == cudaMemcpyHostToDevice && to_device && !from_device) ||
                    (kind == cudaMemcpyDeviceToHost && !to_device && from_device) ||
                    (kind == cudaMemcpyDeviceToDevice && to_device && from_device);
  return fits ? "" : "the kind of copy is not that of its pointers";
}

/// "", or why a copy cannot be.
std::string bad_copy(const void* target, const void* source, std::size_t bytes,
                     cudaMemcpyKind kind) {
  const Place to = place_of(target, bytes);
  const Place from = place_of(source, bytes);
  if (to.kind == Place::Kind::bad) return "the target is " + to.why;
  if (from.kind == Place::Kind::bad) return "the source is " + from.why;
  const auto* const t = static_cast<const std::byte*>(target);
  const auto* const s = static_cast<const std::byte*>(source);
  if (t < s + bytes && s < t + bytes) return "source and target overlap";
  return bad_kind(to, from, kind);
}

cudaError_t put_copy(Stream& stream, void* target, const void* source, std::size_t bytes,
                     cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  if (const std::string why = bad_copy(target, source, bytes, kind); !why.empty()) {
    return answer(cudaErrorInvalidValue, "cudaMemcpy: " + why);
  }
  // What is not pinned may be read when the copy is put, and small pieces are.
  constexpr std::size_t kReadAtOnce = 64 << 10;
  if (bytes <= kReadAtOnce && place_of(source, bytes).kind == Place::Kind::plain_host) {
    const auto* const first = static_cast<const std::byte*>(source);
    stream.enqueue([=, read = std::vector<std::byte>(first, first + bytes)] {
      if (const std::string why = bad_copy(target, read.data(), bytes, kind); !why.empty()) {
        throw std::logic_error("cudaMemcpy: " + why);
      }
      const Access open(true);
      std::memcpy(target, read.data(), bytes);
    });
    return cudaSuccess;
  }
  stream.enqueue([=] {
    // Once more: it may have been freed meanwhile.
    if (const std::string why = bad_copy(target, source, bytes, kind); !why.empty()) {
      throw std::logic_error("cudaMemcpy: " + why);
    }
    const Access open(true);
    std::memcpy(target, source, bytes);
  });
  return cudaSuccess;
}

cudaError_t put_set(Stream& stream, void* memory, int value, std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  const auto why = [=, device = stream.device()] { return misplaced(memory, bytes, device); };
  if (!why().empty()) return answer(cudaErrorInvalidValue, "cudaMemset: " + why());
  stream.enqueue([=] {
    if (!why().empty()) throw std::logic_error("cudaMemset: " + why());
    set_bytes(memory, value, bytes);
  });
  return cudaSuccess;
}

}  // namespace

std::mutex& captures_mutex() {
  static std::mutex* const one = new std::mutex;
  return *one;
}

Stream* stream_of(cudaStream_t handle) {
  const std::lock_guard lock(streams().mutex);
  if (handle == nullptr) {
    Stream*& stream = streams().defaults[static_cast<std::size_t>(current_device())];
    if (stream == nullptr) {
      stream = new Stream(current_device());
      streams().alive.insert(stream);
    }
    return stream;
  }
  auto* const stream = static_cast<Stream*>(handle);
  return streams().alive.contains(stream) ? stream : nullptr;
}

std::vector<Stream*> streams_of(int device) {
  const std::lock_guard lock(streams().mutex);
  std::vector<Stream*> found;
  for (Stream* const stream : streams().alive) {
    if (stream->device() == device) found.push_back(stream);
  }
  return found;
}

bool Stream::is_captured() {
  const std::lock_guard lock(captures_mutex());
  return capture != nullptr;
}

void Stream::enqueue(std::function<void()> work) {
  {
    const std::lock_guard lock(captures_mutex());
    if (capture) {
      capture->nodes.push_back(std::move(work));
      return;
    }
  }
  queue_->put(std::move(work));
}

cudaError_t may_call(const char* name) {
  bool forbidden = false;
  {
    const std::lock_guard lock(captures_mutex());
    const std::lock_guard other(streams().mutex);
    for (Stream* const stream : streams().alive) {
      if (!stream->capture || stream->capture->mode == cudaStreamCaptureModeRelaxed) continue;
      if (stream->capture->mode == cudaStreamCaptureModeThreadLocal &&
          stream->capture->thread != std::this_thread::get_id()) {
        continue;
      }
      stream->capture->valid = false;
      forbidden = true;
    }
  }
  if (forbidden) {
    return answer(cudaErrorStreamCaptureUnsupported,
                  std::string(name) + " while a stream is captured");
  }
  return answer(state_of_device());
}

cudaError_t may_wait(Stream& stream, const char* name) {
  {
    const std::lock_guard lock(captures_mutex());
    if (stream.capture) {
      stream.capture->valid = false;
      return answer(cudaErrorStreamCaptureUnsupported,
                    std::string(name) + " of a stream that is captured");
    }
  }
  return may_call(name);
}

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  if (flags != cudaStreamNonBlocking) {
    return answer(cudaErrorNotSupported, "only streams with cudaStreamNonBlocking are emulated");
  }
  if (const cudaError_t status = state_of_device(); status != cudaSuccess) return answer(status);
  auto* const stream = new Stream(current_device());
  const std::lock_guard lock(streams().mutex);
  streams().alive.insert(stream);
  *handle = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  Stream* const stream = handle == nullptr ? nullptr : stream_of(handle);
  if (stream == nullptr)
    return answer(cudaErrorInvalidResourceHandle, "cudaStreamDestroy: no stream");
  {
    const std::lock_guard lock(streams().mutex);
    streams().alive.erase(stream);
  }
  stream->queue().finish();
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaStreamSynchronize");
  if (const cudaError_t status = may_wait(*stream, "cudaStreamSynchronize");
      status != cudaSuccess) {
    return status;
  }
  stream->queue().finish();
  return answer(is_broken(stream->device()) ? cudaErrorLaunchFailure : cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaStreamQuery");
  if (const cudaError_t status = may_wait(*stream, "cudaStreamQuery"); status != cudaSuccess) {
    return status;
  }
  return stream->queue().idle() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t status = may_call("cudaDeviceSynchronize"); status != cudaSuccess) {
    return status;
  }
  for (Stream* const stream : streams_of(current_device())) stream->queue().finish();
  return answer(state_of_device());
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* argument) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaLaunchHostFunc");
  if (const cudaError_t status = state_of_device(); status != cudaSuccess) return answer(status);
  stream->enqueue([=] {
    const Access closed(false);
    function(argument);
  });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaMemcpyAsync");
  if (const cudaError_t status = state_of_device(); status != cudaSuccess) return answer(status);
  return put_copy(*stream, target, source, bytes, kind);
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t status = may_call("cudaMemcpy"); status != cudaSuccess) return status;
  Stream* const stream = stream_of(nullptr);
  if (const cudaError_t status = put_copy(*stream, target, source, bytes, kind);
      status != cudaSuccess) {
    return status;
  }
  stream->queue().finish();
  return answer(state_of_device());
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaMemsetAsync");
  if (const cudaError_t status = state_of_device(); status != cudaSuccess) return answer(status);
  return put_set(*stream, memory, value, bytes);
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  if (const cudaError_t status = may_call("cudaMemset"); status != cudaSuccess) return status;
  // Of device memory it does not wait, as CUDA says: streams that do not wait for the default
  // stream may run before it.
  return put_set(*stream_of(nullptr), memory, value, bytes);
}

}  // extern "C"
