// What a thread sleeps on until one of several things has happened.
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice::comm {

/// Use: read count(), look at everything that rings, and wait(count) if there is nothing. A ring
/// between the two makes wait() return at once, so none is missed.
class Bell {
 public:
  /// Any thread. Never blocks.
  void ring() noexcept {
    rings_.fetch_add(1, std::memory_order_release);
    rings_.notify_all();
  }
  std::uint32_t count() const noexcept { return rings_.load(std::memory_order_acquire); }
  /// Sleeps until the bell has rung since count() returned `seen`.
  void wait(std::uint32_t seen) const noexcept { rings_.wait(seen, std::memory_order_acquire); }

 private:
  std::atomic<std::uint32_t> rings_{0};
};

}  // namespace sluice::comm
