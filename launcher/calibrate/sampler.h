// How often and how long a figure is measured, and what becomes of its samples.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "launcher/planner/machine.h"

namespace sluice::launcher {

using SteadyClock = std::chrono::steady_clock;

inline double seconds_since(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

/// The median of `samples`, with half of the distance of their quartiles as its spread. Of one
/// sample: itself, with a spread of 0. `samples` must not be empty.
Figure figure_of(std::vector<double> samples, std::string date, std::string how);

/// What is measured, and how large. Small sizes are for tests: they measure caches.
struct CalibrationSizes {
  double seconds = 0.2;          // of a figure, at least
  double sample_seconds = 0.02;  // of a sample, where it can be made longer by repeating
  std::size_t samples = 5;       // at least
  std::int64_t width = 4096;     // matrices are [width, width]
  std::size_t weight_bytes = std::size_t{256} << 20;  // of the matrices that are walked over
  std::vector<std::int64_t> rows = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
  std::int32_t heads = 32;  // of 128 elements
  std::int32_t sequences = 8;
  std::int32_t context = 1024;  // tokens in the cache of a sequence that decodes
  std::int32_t prompt = 512;    // new tokens of one that is prefilled
  std::size_t kv_bytes = std::size_t{256} << 20;
  std::size_t copy_bytes = std::size_t{64} << 20;
  std::size_t disk_bytes = std::size_t{128} << 20;
};

/// Takes samples of one figure after the other. Used by one thread.
class Sampler {
 public:
  /// `told` is called before each figure; may be empty.
  Sampler(CalibrationSizes sizes, std::string date, std::function<void()> told = {})
      : sizes_(std::move(sizes)), date_(std::move(date)), told_(std::move(told)) {}

  const CalibrationSizes& sizes() const { return sizes_; }
  const std::string& date() const { return date_; }

  /// `sample()` returns a rate, or seconds. Its first call warms up and does not count.
  template <typename Sample>
  Figure figure(std::string how, const Sample& sample) {
    if (told_) told_();
    sample();
    std::vector<double> samples;
    const auto begin = SteadyClock::now();
    // Of what takes long, fewer.
    const auto enough = [&] {
      const double elapsed = seconds_since(begin);
      const std::size_t least = elapsed < 4 * sizes_.seconds ? sizes_.samples : 3;
      return samples.size() >= least && elapsed >= sizes_.seconds;
    };
    while (!enough()) samples.push_back(sample());
    return figure_of(std::move(samples), date_, std::move(how));
  }

  /// How many times something that takes so long must be repeated to last a sample.
  std::int64_t repeats(double seconds) const {
    const double count = sizes_.sample_seconds / std::max(seconds, 1e-9);
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(count) + 1, 1, 500);
  }

 private:
  CalibrationSizes sizes_;
  std::string date_;
  std::function<void()> told_;
};

}  // namespace sluice::launcher
