// For x86-64 files with compiler flags of their own. So it is in an unnamed namespace: the linker
// must not give one file's copy to another.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {
namespace {

/// Fetches a piece of memory ahead of its use into L2, a few lines at every step.
struct Fetch {
  static constexpr std::int64_t kLine = 64;

  const std::byte* next = nullptr;
  const std::byte* end = nullptr;
  std::int64_t lines = 0;  // per step

  void start(const std::byte* from, std::int64_t bytes, std::int64_t steps) {
    next = from;
    end = from == nullptr ? nullptr : from + bytes;
    lines = (bytes / kLine + steps) / steps;
  }
  void step() {
    if (next >= end) return;
    for (std::int64_t i = 0; i < lines; ++i, next += kLine) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
    }
  }
};

}  // namespace
}  // namespace sluice::kernels
