// What the measured operations work on: rows of plausible numbers in the memory of a lane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ops.h"

namespace sluice::launcher {

/// `rows` dense rows of `columns` numbers between -1 and 1, never 0; of f32, f16, bf16, q8 or q4.
std::vector<std::byte> plausible_rows(DType dtype, std::int64_t rows, std::int64_t columns);

/// Where operations of one lane find their operands: device memory for Lane::compute, host memory
/// for Lane::host_compute.
class LaneMemory {
 public:
  LaneMemory(Backend& backend, Lane lane) : backend_(backend), lane_(lane) {}

  Lane lane() const { return lane_; }
  Backend& backend() const { return backend_; }
  /// Throws CapacityError.
  Memory take(std::size_t bytes) const;
  /// Returns once the bytes are there.
  void put(void* target, const void* source, std::size_t bytes) const;
  /// `memory` filled with copies of `piece`, the last one cut.
  void fill(const Memory& memory, const std::vector<std::byte>& piece) const;
  template <typename T>
  Memory copy_of(const std::vector<T>& values) const {
    Memory memory = take(values.size() * sizeof(T));
    put(memory.data(), values.data(), values.size() * sizeof(T));
    return memory;
  }
  /// Waits until the lane has done everything put so far.
  void finish() const { backend_.synchronize(backend_.record(lane_)); }

 private:
  Backend& backend_;
  Lane lane_;
};

/// Matrices [width, width] one after the other, far beyond any cache, as those of a model's layers
/// are.
class WeightWalk {
 public:
  WeightWalk(LaneMemory memory, DType dtype, std::int64_t width, std::size_t bytes);

  /// Each time another one, in a ring.
  SplitMatrix next();
  std::int64_t width() const { return width_; }
  DType dtype() const { return dtype_; }

 private:
  DType dtype_;
  std::int64_t width_;
  std::size_t each_;
  std::size_t count_;
  std::size_t index_ = 0;
  Memory bytes_;
};

/// Products of `rows` rows with the matrices of a walk, on the compute lane.
class ProductRun {
 public:
  ProductRun(kernels::Engine& engine, WeightWalk& walk, std::int64_t rows);

  /// Puts so many on the lane.
  void put(std::int64_t count);
  /// Seconds until so many are done.
  double run(std::int64_t count);
  /// The median of three of them, after one that warms up.
  double usual(std::int64_t count);
  double flop() const;  // of one

 private:
  kernels::Engine& engine_;
  WeightWalk& walk_;
  LaneMemory memory_;
  std::int64_t rows_;
  Memory in_, out_;
  TensorView in_view_, out_view_;
};

}  // namespace sluice::launcher
