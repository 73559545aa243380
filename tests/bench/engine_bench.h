// Times operations of an engine over data in its device's memory; what bench_cuda_kernels is made
// of.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/engine.h"

namespace sluice::bench {

/// The words of the command line. Throws std::invalid_argument for what it does not know.
class Settings {
 public:
  Settings(int count, char** words);
  std::int64_t operator[](std::string_view name) const { return numbers_.find(name)->second; }
  const std::string& text(std::string_view name) const { return texts_.find(name)->second; }
  /// Whether a list has `item`; an empty one has all.
  bool names(std::string_view list, std::string_view item) const;

 private:
  std::map<std::string, std::int64_t, std::less<>> numbers_ = {
      {"--rounds", 5}, {"--milliseconds", 10}, {"--tiny", 0}};
  std::map<std::string, std::string, std::less<>> texts_ = {
      {"--device", "cuda"}, {"--only", ""}, {"--models", ""}};
};

/// One figure of the table.
struct Figure {
  std::string name;
  double bytes = 0;  // least to move
  double flop = 0;
  double goal = 0;        // of the share; 0: none
  bool of_flop = false;   // the share is of FLOP/s whatever takes longer
  std::string more = {};  // further members of the JSON object
};

/// Copies of one matrix, so many that going through them leaves every cache behind.
class Rotating {
 public:
  Rotating(TensorView first, std::size_t count) : first_(first), count_(count) {}
  TensorView operator[](std::size_t i) const {
    TensorView view = first_;
    view.data = static_cast<std::byte*>(first_.data) + i % count_ * first_.bytes();
    return view;
  }

 private:
  TensorView first_;
  std::size_t count_;
};

class EngineBench {
 public:
  explicit EngineBench(const Settings& settings);

  kernels::Engine& engine() { return engine_; }
  kernels::Ops& ops() { return *engine_.device_ops; }
  DType activations() const { return engine_.backend->info().compute_dtype; }

  /// Device memory until forget(). Matrices hold numbers of both signs, never zeros.
  std::byte* bytes(std::size_t count);
  std::byte* upload(const void* data, std::size_t count);
  Rotating matrices(DType dtype, std::int64_t rows, std::int64_t columns);
  TensorView vector(DType dtype, std::int64_t columns) { return matrices(dtype, 1, columns)[0]; }
  const std::int32_t* integers(const std::vector<std::int32_t>& values);
  /// How many copies of `bytes` reach far beyond a cache.
  std::size_t copies_of(std::size_t bytes) const;
  void forget() { memories_.clear(); }

  /// Copies within the device and over its links, reads of host memory, and the largest product.
  void measure_rates();
  void measure(const Figure& figure, const std::function<void(std::size_t)>& operation);

 private:
  double seconds(const std::function<void(std::size_t)>& operation, Lane lane);
  void rate(const std::string& name, double amount, double seconds, const char* unit);

  Settings settings_;
  kernels::Engine engine_;
  std::vector<Memory> memories_;
  std::map<std::string, double> rates_;
};

/// A cache of `sequences` sequences whose pages lie interleaved, once for each rotation, and the
/// batch that has `tokens` new tokens of each.
class Cache {
 public:
  Cache(EngineBench& bench, DType dtype, std::int64_t kv_heads, std::int64_t head_dim,
        std::int32_t sequences, std::int32_t context, std::int32_t tokens);
  kernels::KvPages pages(std::size_t i) const;
  const kernels::KvBatch& batch() const { return batch_; }
  std::int64_t rows() const { return rows_; }
  /// Of keys and values of so many tokens.
  double token_bytes(std::int64_t tokens) const;

 private:
  kernels::KvPages pages_;
  kernels::KvBatch batch_;
  std::int64_t rows_ = 0;
  std::size_t count_ = 1;
  std::size_t each_ = 0;  // bytes of one rotation
};

}  // namespace sluice::bench
