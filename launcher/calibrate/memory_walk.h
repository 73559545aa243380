// Reading and copying host memory far beyond any cache, in plain C++: not the kernels' own.
#pragma once

#include <cstddef>

#include "kernels/device/backend.h"

namespace sluice::launcher {

class MemoryWalk {
 public:
  /// `threads` parts of 32 MiB at least, 128 MiB in all at least. Throws CapacityError.
  explicit MemoryWalk(int threads);

  /// Bytes per second of all threads, which read once all that there is.
  double read();
  /// Bytes copied per second by one thread.
  double copy();

 private:
  std::size_t threads_;
  std::size_t part_;
  Memory memory_;
};

}  // namespace sluice::launcher
