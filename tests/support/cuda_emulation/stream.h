// What a cudaStream_t points to in the emulated CUDA runtime: for doubles of other libraries
// (NCCL), which put their work on streams too, perhaps from another shared library.
#pragma once

#include <functional>

struct CUstream_st {  // the name that CUDA's headers declare
  virtual ~CUstream_st() = default;

  /// Puts host code behind what is on the stream, and returns at once. It runs on the stream's own
  /// thread, when everything before it has ended, and may block; on a stream that is captured it
  /// becomes a part of the graph instead, and runs whenever that is launched. Device memory is
  /// plain memory of this process. What it throws breaks the device, as a kernel that crashes does:
  /// every later call fails with cudaErrorLaunchFailure. Any thread may call.
  virtual void enqueue(std::function<void()> work) = 0;

  virtual int device() const = 0;
};
