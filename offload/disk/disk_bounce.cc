#include "offload/disk/disk_bounce.h"

#include <cassert>
#include <new>

#include "offload/disk/disk_engine.h"

namespace sluice::offload {

BouncePool::BouncePool(std::size_t count, std::size_t bytes_each)
    : memory_(static_cast<std::byte*>(
          ::operator new (count* bytes_each, std::align_val_t{kDiskBlock}))) {
  assert(bytes_each % kDiskBlock == 0);
  free_.reserve(count);
  for (std::size_t i = count; i-- > 0;) free_.push_back(memory_ + i * bytes_each);
}

BouncePool::~BouncePool() { ::operator delete (memory_, std::align_val_t{kDiskBlock}); }

std::byte* BouncePool::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !free_.empty(); });
  // Takes the buffer used last. A job that needs few buffers then makes few of them resident.
  std::byte* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void BouncePool::give_back(std::byte* buffer) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(buffer);
  }
  changed_.notify_one();
}

}  // namespace sluice::offload
