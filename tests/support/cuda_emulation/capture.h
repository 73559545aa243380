// Streams, events and captures of the emulated runtime, as its parts know them.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/cuda_emulation/queue.h"
#include "tests/support/cuda_emulation/stream.h"

namespace sluice::emulated {

/// What a graph does, in order.
using Nodes = std::vector<std::function<void()>>;

/// A stream that is captured collects nodes.
struct Capture {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  Nodes nodes;
  bool valid = true;
};

class Stream final : public CUstream_st {
 public:
  explicit Stream(int device) : queue_(Queue::make(device)) {}
  void enqueue(std::function<void()> work) override;
  int device() const override { return queue_->device(); }
  Queue& queue() { return *queue_; }

  bool is_captured();
  /// Null: not captured. Guarded by captures_mutex().
  std::unique_ptr<Capture> capture;

 private:
  std::shared_ptr<Queue> queue_;
};

std::mutex& captures_mutex();

/// The stream behind a handle; nullptr gives the current device's default stream. Null: there is no
/// such stream (any more).
Stream* stream_of(cudaStream_t handle);
/// Those of a device that live, its default stream among them.
std::vector<Stream*> streams_of(int device);

/// Whether a call may be made that a capture forbids: by any thread for one in global mode, by its
/// own thread for one in thread-local mode. If not, the capture becomes invalid, as in CUDA.
/// Else the state of the current device.
cudaError_t may_call(const char* name);
/// The same of a call that waits for, or asks after, `stream`.
cudaError_t may_wait(Stream& stream, const char* name);

}  // namespace sluice::emulated
