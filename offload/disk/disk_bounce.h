// Buffers for blocks that cannot be read to or written from where they belong. A part of the disk
// engine.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace sluice::offload {

class BouncePool {
 public:
  /// Buffers of `bytes_each`, a multiple of kDiskBlock, and aligned to it.
  BouncePool(std::size_t count, std::size_t bytes_each);
  ~BouncePool();
  BouncePool(const BouncePool&) = delete;
  BouncePool& operator=(const BouncePool&) = delete;

  /// Waits until one is free. Any thread.
  std::byte* take();
  void give_back(std::byte* buffer);

 private:
  std::byte* memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::byte*> free_;  // never beyond its first capacity
};

}  // namespace sluice::offload
