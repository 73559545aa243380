// Host memory that the GPU copies from and to by itself.
#pragma once

#include <cstddef>

#include "kernels/device/backend.h"

namespace sluice::cuda {

/// `bytes` of zeroed, pinned host memory, readable by every device of this process: a mapping of
/// huge pages, first written by `threads` threads (a page belongs to the memory beside the
/// processor that does so, and one thread alone takes a second for 5 GB), then registered; what the
/// driver itself allocates where it does not register. The device is current. Throws CapacityError.
Memory pinned_memory(std::size_t bytes, int threads);

}  // namespace sluice::cuda
