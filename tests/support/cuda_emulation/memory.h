// Memory of the emulated GPUs, and host memory that CUDA knows: which ranges are there. Freed
// addresses are never given again, and end at pages that nobody may touch.
#pragma once

#include <cstddef>
#include <string>

namespace sluice::emulated {

/// Where [first, first + bytes) lies, or why it cannot be there.
struct Place {
  enum class Kind { device, pinned, plain_host, bad };
  Kind kind = Kind::plain_host;
  int device = 0;      // of Kind::device
  bool mapped = true;  // a GPU may address it: everything but plain host memory
  std::string why;     // of Kind::bad
};
Place place_of(const void* first, std::size_t bytes);

/// "" where the device `device` may read and write the range directly; else what is wrong.
std::string misplaced(const void* first, std::size_t bytes, int device);

}  // namespace sluice::emulated
