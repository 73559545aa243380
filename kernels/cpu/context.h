// What an operation of the CPU engine runs on: the threads of one lane, and scratch memory of each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace sluice::kernels {

/// Floats of scratch per worker; what needs more is cut into pieces.
constexpr std::int64_t kScratchFloats = 128 * 1024;
/// Bytes of scratch per lane, which its workers share within one operation: the input in the form
/// that the tile products read. What needs more is done in pieces of rows.
constexpr std::int64_t kSharedBytes = 8 << 20;

struct CpuContext {
  ThreadPool* pool = nullptr;
  int client = 0;
  float* scratch = nullptr;     // [workers][kScratchFloats], 64-byte aligned
  std::byte* shared = nullptr;  // [kSharedBytes], 64-byte aligned

  float* scratch_of(int worker) const { return scratch + worker * kScratchFloats; }

  /// body(index, scratch) for every index of [0, count), beside each other where `operations`
  /// (about one multiply-add each) are worth waking a thread for.
  template <class Body>
  void for_each(std::int64_t count, std::int64_t operations, const Body& body) const {
    constexpr std::int64_t kWorthSharing = 50'000;
    if (operations < kWorthSharing) {
      for (std::int64_t index = 0; index < count; ++index) body(index, scratch_of(client));
      return;
    }
    pool->parallel_for(client, count,
                       [&](std::int64_t index, int worker) { body(index, scratch_of(worker)); });
  }

  /// body(first, count) for pieces of [0, elements), each of `piece` elements but the last. An
  /// element costs about as much as `operations` multiply-adds.
  template <class Body>
  void for_pieces(std::int64_t elements, std::int64_t operations, std::int64_t piece,
                  const Body& body) const {
    for_each((elements + piece - 1) / piece, elements * operations,
             [&](std::int64_t index, float*) {
               const std::int64_t first = index * piece;
               body(first, std::min(piece, elements - first));
             });
  }
};

}  // namespace sluice::kernels
