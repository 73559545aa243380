// How fast linear() multiplies, per dtype of the weights: GFLOP/s for many rows beside what the
// vector units could do at most, bytes of weights per second for one row beside what this machine
// reads.
//
//   bench_linear_rate [N K [threads]]      (2048 2048, all cores; SLUICE_NO_AMX=1: by vectors)
//
// Matrices lie one after the other, far beyond the caches, as those of a model's layers do. Each
// round measures the limits, then the products; a figure is the median of rounds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/linear_rate.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// `rounds` times 12 independent multiply-adds of whole vectors; returns their operations. `sink`
/// keeps them from vanishing.
double multiply_add(int rounds, float* sink) {
  const hn::ScalableTag<float> d;
  constexpr int kChains = 12;
  hn::Vec<decltype(d)> sums[kChains];
  const auto a = hn::Set(d, 0.999F);
  const auto b = hn::Set(d, 0.001F);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = hn::Iota(d, static_cast<float>(i));
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = hn::MulAdd(sums[i], a, b);
  }
  for (const auto& sum : sums) *sink += hn::GetLane(hn::SumOfLanes(d, sum));
  return 2.0 * rounds * kChains * static_cast<double>(hn::Lanes(d));
}

}  // namespace sluice::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "kernels/device/cpu_backend.h"
#include "kernels/engine.h"
#include "kernels/group_quantize.h"
#include "tests/bench/read_bandwidth.h"

namespace sluice::bench {

HWY_EXPORT(multiply_add);

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRounds = 7;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Operations per second of `threads` threads that only multiply and add.
double peak_flops(int threads) {
  const auto run = HWY_DYNAMIC_DISPATCH(multiply_add);
  std::vector<std::thread> workers;
  std::atomic<double> operations{0};
  const auto begin = Clock::now();
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      float sink = 0;
      operations += run(1'000'000, &sink);
    });
  }
  for (std::thread& worker : workers) worker.join();
  return operations / since(begin);
}

class Weights {
 public:
  Weights(DType dtype, std::int64_t n, std::int64_t k) : dtype_(dtype), n_(n), k_(k) {
    constexpr std::size_t kBytes = 300'000'000;
    const std::size_t each = row_bytes_of(dtype, k) * static_cast<std::size_t>(n);
    count_ = std::max<std::size_t>(1, kBytes / each);
    bytes_ = map_memory(count_ * each, "weights");  // as the tiers are: in huge pages
    std::minstd_rand random(1);
    std::vector<std::byte> row(row_bytes_of(dtype, k));
    std::vector<float> values(static_cast<std::size_t>(k));
    for (float& value : values) value = static_cast<float>(random() % 2001) * 0.001F - 1.0F;
    if (is_quantized(dtype)) {
      kernels::quantize_rows(DType::f32, values.data(), 1, k, dtype, row.data());
    } else if (dtype == DType::f32) {
      std::memcpy(row.data(), values.data(), row.size());
    } else {
      // Of f16 and bf16 alike normal numbers of either sign, as are their products.
      for (std::size_t i = 0; i < row.size(); i += 2) {
        row[i] = static_cast<std::byte>(random() % 256);
        row[i + 1] = static_cast<std::byte>(0x30 + random() % 8 + random() % 2 * 0x80);
      }
    }
    for (std::size_t at = 0; at < count_ * each; at += row.size()) {
      std::memcpy(start() + at, row.data(), row.size());
    }
  }
  std::int64_t count() const { return static_cast<std::int64_t>(count_); }
  std::span<const std::byte> bytes() { return {start(), bytes_.bytes()}; }
  SplitMatrix matrix(std::int64_t index) {
    SplitMatrix split;
    split.resident = {nullptr, dtype_, n_, k_};
    split.resident.data = start() + static_cast<std::size_t>(index) * split.resident.bytes();
    return split;
  }

 private:
  std::byte* start() { return bytes_.data(); }
  DType dtype_;
  std::int64_t n_;
  std::int64_t k_;
  std::size_t count_ = 0;
  Memory bytes_;
};

/// Seconds per matrix, over `matrices` of them.
double seconds(kernels::Engine& engine, Weights& weights, std::int64_t rows,
               std::int64_t matrices) {
  const SplitMatrix shape = weights.matrix(0);
  std::vector<float> in(static_cast<std::size_t>(rows * shape.columns()), 0.25F);
  std::vector<float> out(static_cast<std::size_t>(rows * shape.rows()));
  const auto begin = Clock::now();
  for (std::int64_t i = 0; i < matrices; ++i) {
    engine.device_ops->linear({out.data(), DType::f32, rows, shape.rows()},
                              {in.data(), DType::f32, rows, shape.columns()},
                              weights.matrix(i % weights.count()), {}, kernels::Activation::none,
                              {});
  }
  engine.backend->synchronize(engine.backend->record(Lane::compute));
  return since(begin) / static_cast<double>(matrices);
}

void measure(kernels::Engine& engine, DType dtype, std::int64_t n, std::int64_t k) {
  const int threads = engine.backend->info().threads;
  Weights weights(dtype, n, k);
  const auto bytes = static_cast<double>(weights.matrix(0).resident.bytes());
  std::vector<double> reads;
  std::vector<double> rates;
  std::vector<double> shares;
  for (int round = 0; round < kRounds; ++round) {
    reads.push_back(read_bandwidth(weights.bytes(), threads));
    rates.push_back(bytes / seconds(engine, weights, 1, weights.count()));
    shares.push_back(rates.back() / reads.back());
  }
  fmt::print("{:4} 1 row: {:.1f} GB/s of weights, {:.1f} read: {:.2f};", name_of(dtype),
             median(rates) / 1e9, median(reads) / 1e9, median(shares));
  for (const std::int64_t rows : {8, 16, 32, 64, 256, 512}) {
    // About a tenth of a second each.
    const std::int64_t matrices = std::max<std::int64_t>(1, 20'000'000'000 / (rows * n * k * 2));
    std::vector<double> speeds;
    for (int round = 0; round < kRounds; ++round) {
      const double each = seconds(engine, weights, rows, std::min(matrices, weights.count()));
      speeds.push_back(2.0 * static_cast<double>(rows * n * k) / each);
    }
    fmt::print(" {}: {:.0f}", rows, median(speeds) / 1e9);
  }
  fmt::print(" GFLOP/s, {:.0f} by vectors at most\n", peak_flops(threads) / 1e9);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  using namespace sluice;
  kernels::EngineOptions options;
  options.device = "cpu";
  const std::int64_t n = argc > 2 ? std::atoll(argv[1]) : 2048;
  const std::int64_t k = argc > 2 ? std::atoll(argv[2]) : 2048;
  options.threads = argc > 3 ? std::atoi(argv[3]) : 0;
  kernels::Engine engine = kernels::make_engine(options);
  fmt::print("{}: [{}, {}]\n", engine.backend->info().description, n, k);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    bench::measure(engine, dtype, n, k);
  }
  return 0;
}
#endif  // HWY_ONCE
