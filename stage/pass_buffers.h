// Which buffers a pass uses. Two passes may be under way in a stage, so everything that a pass
// fills is there twice, and passes take the two in turn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice::stage {

/// One T for each of the two passes; pass numbers count from 0.
template <class T>
class PerPass {
 public:
  T& operator[](std::int64_t pass_number) { return items_[index(pass_number)]; }
  const T& operator[](std::int64_t pass_number) const { return items_[index(pass_number)]; }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  static std::size_t index(std::int64_t pass_number) {
    return static_cast<std::size_t>(pass_number) % 2;
  }
  std::array<T, 2> items_ = {};
};

/// Numbers the buffers of (pass, GPU batch): 0 .. count() - 1.
class PassBuffers {
 public:
  explicit PassBuffers(std::int32_t gpu_batches) : gpu_batches_(gpu_batches) {}

  std::int32_t count() const { return 2 * gpu_batches_; }
  std::size_t of(std::int64_t pass_number, std::int32_t gpu_batch) const {
    return static_cast<std::size_t>(pass_number % 2 * gpu_batches_ + gpu_batch);
  }

 private:
  std::int32_t gpu_batches_;
};

}  // namespace sluice::stage
