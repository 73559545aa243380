#include "tests/bench/engine_bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>

#include "kernels/group_quantize.h"
#include "kernels/half.h"
#include "tests/bench/read_bandwidth.h"

namespace sluice::bench {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Rows of random numbers in [-1, 1) as they lie in memory.
std::vector<std::byte> random_rows(DType dtype, std::int64_t rows, std::int64_t columns) {
  std::mt19937 dice(7);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (float& value : values) value = uniform(dice);
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows) * row_bytes_of(dtype, columns));
  if (is_quantized(dtype)) {
    kernels::quantize_rows(DType::f32, values.data(), rows, columns, dtype, bytes.data());
    return bytes;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
      continue;
    }
    const std::uint16_t half =
        dtype == DType::f16 ? kernels::to_f16(values[i]) : kernels::to_bf16(values[i]);
    std::memcpy(bytes.data() + 2 * i, &half, 2);
  }
  return bytes;
}

}  // namespace

Settings::Settings(int count, char** words) {
  for (int i = 1; i < count; i += 2) {
    const std::string_view name = words[i];
    const std::string_view value = i + 1 < count ? words[i + 1] : "";
    if (const auto text = texts_.find(name); text != texts_.end()) {
      text->second = value;
      continue;
    }
    const auto found = numbers_.find(name);
    if (found == numbers_.end()) {
      throw std::invalid_argument(fmt::format("{} is no option of this benchmark", name));
    }
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), found->second);
    if (error != std::errc() || end != value.data() + value.size() || found->second < 0) {
      throw std::invalid_argument(fmt::format("{} takes a whole number, not '{}'", name, value));
    }
  }
}

bool Settings::names(std::string_view list, std::string_view item) const {
  const std::string& all = text(list);
  return all.empty() ||
         fmt::format(",{},", all).find(fmt::format(",{},", item)) != std::string::npos;
}

EngineBench::EngineBench(const Settings& settings) : settings_(settings) {
  kernels::EngineOptions options;
  options.device = settings.text("--device");
  options.weight_dtype = DType::f16;
  engine_ = kernels::make_engine(options);
  fmt::print("{}; activations {}\n", engine_.backend->info().description, name_of(activations()));
}

std::byte* EngineBench::bytes(std::size_t count) {
  memories_.push_back(engine_.backend->allocate_device(count));
  return memories_.back().data();
}

std::byte* EngineBench::upload(const void* data, std::size_t count) {
  std::byte* const target = bytes(count);
  engine_.backend->copy(Lane::compute, target, data, count);
  engine_.backend->synchronize(engine_.backend->record(Lane::compute));
  return target;
}

const std::int32_t* EngineBench::integers(const std::vector<std::int32_t>& values) {
  return reinterpret_cast<const std::int32_t*>(
      upload(values.data(), values.size() * sizeof(std::int32_t)));
}

std::size_t EngineBench::copies_of(std::size_t bytes) const {
  // The largest L2 there is has 128 MiB.
  const std::size_t reach = settings_["--tiny"] != 0 ? std::size_t{1} << 16 : std::size_t{1} << 29;
  return std::max<std::size_t>(1, (reach + bytes - 1) / bytes);
}

Rotating EngineBench::matrices(DType dtype, std::int64_t rows, std::int64_t columns) {
  const TensorView shape{nullptr, dtype, rows, columns};
  const std::size_t count = copies_of(shape.bytes());
  std::byte* const start = bytes(count * shape.bytes());
  // Some rows, again and again: random enough for power and caches, quickly made.
  const std::int64_t few = std::min<std::int64_t>(rows, 32);
  const std::vector<std::byte> pattern = random_rows(dtype, few, columns);
  const std::size_t all = count * shape.bytes();
  std::vector<std::byte> chunk;
  while (chunk.size() < std::min<std::size_t>(all, std::size_t{1} << 24)) {
    chunk.insert(chunk.end(), pattern.begin(), pattern.end());
  }
  for (std::size_t at = 0; at < all; at += chunk.size()) {
    engine_.backend->copy(Lane::compute, start + at, chunk.data(),
                          std::min(chunk.size(), all - at));
  }
  engine_.backend->synchronize(engine_.backend->record(Lane::compute));
  return {{start, dtype, rows, columns}, count};
}

double EngineBench::seconds(const std::function<void(std::size_t)>& operation, Lane lane) {
  Backend& backend = *engine_.backend;
  std::size_t next = 0;
  const auto run = [&](std::size_t times) {
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < times; ++i) operation(next++);
    backend.synchronize(backend.record(lane));
    return since(begin);
  };
  run(2);  // loads code, chooses products
  const double wanted = static_cast<double>(settings_["--milliseconds"]) / 1e3;
  std::size_t times = 1;
  for (double took = run(1); took < wanted && times < 4096; took = run(times)) times *= 2;
  std::vector<double> rounds;
  for (std::int64_t round = 0; round < std::max<std::int64_t>(1, settings_["--rounds"]); ++round) {
    rounds.push_back(run(times) / static_cast<double>(times));
  }
  return median(rounds);
}

void EngineBench::rate(const std::string& name, double amount, double seconds, const char* unit) {
  rates_[name] = amount / seconds;
  const double scale = std::string_view(unit) == "TFLOP/s" ? 1e12 : 1e9;
  fmt::print(R"({{"name": "rate_{}", "value": {:.2f}, "unit": "{}"}})"
             "\n",
             name, rates_[name] / scale, unit);
  std::fflush(stdout);
}

void EngineBench::measure_rates() {
  Backend& backend = *engine_.backend;
  const bool tiny = settings_["--tiny"] != 0;
  const std::size_t size = tiny ? std::size_t{1} << 22 : std::size_t{1} << 30;
  const auto amount = static_cast<double>(size);
  std::byte* const source = bytes(size);
  std::byte* const target = bytes(size);
  const Memory pinned = backend.allocate_host(size, true);
  std::memset(pinned.data(), 0x3C, size);
  const auto copied = [&](Lane lane, void* to, const void* from) {
    return seconds([&, to, from](std::size_t) { backend.copy(lane, to, from, size); }, lane);
  };
  rate("host_to_device", amount, copied(Lane::host_to_device, source, pinned.data()), "GB/s");
  rate("device_to_host", amount, copied(Lane::device_to_host, pinned.data(), target), "GB/s");
  // Read and written.
  rate("device_copy", 2 * amount, copied(Lane::compute, target, source), "GB/s");
  const int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::vector<double> reads;
  for (int round = 0; round < 3; ++round) {
    reads.push_back(read_bandwidth({pinned.data(), size}, threads));
  }
  rate("host_read", median(reads), 1.0, "GB/s");
  forget();

  const std::int64_t edge = tiny ? 128 : 8192;
  const Rotating weight = matrices(DType::f16, edge, edge);
  const Rotating in = matrices(activations(), edge, edge);
  const Rotating out = matrices(activations(), edge, edge);
  const double took = seconds(
      [&](std::size_t i) {
        ops().linear(out[i], in[i], {weight[i], {}}, {}, kernels::Activation::none, {});
      },
      Lane::compute);
  rate("product", 2.0 * static_cast<double>(edge * edge * edge), took, "TFLOP/s");
  forget();
}

void EngineBench::measure(const Figure& figure, const std::function<void(std::size_t)>& operation) {
  const double took = seconds(operation, Lane::compute);
  const double by_bytes = figure.bytes / rates_["device_copy"];
  const double by_flop = figure.flop / rates_["product"];
  const double least = figure.of_flop ? by_flop : std::max(by_bytes, by_flop);
  fmt::print(R"({{"name": "{}", "value": {:.5f}, "unit": "ms", "limit": {:.5f}, "ratio": {:.3f}, )"
             R"("goal": {}, "bound_by": "{}", "gb_per_s": {:.1f}, "tflop_per_s": {:.2f}{}{}}})"
             "\n",
             figure.name, took * 1e3, least * 1e3, least / took,
             figure.goal > 0 ? fmt::format("{}", figure.goal) : "null",
             least == by_flop ? "flop" : "bytes", figure.bytes / took / 1e9,
             figure.flop / took / 1e12, figure.more.empty() ? "" : ", ", figure.more);
  std::fflush(stdout);
}

Cache::Cache(EngineBench& bench, DType dtype, std::int64_t kv_heads, std::int64_t head_dim,
             std::int32_t sequences, std::int32_t context, std::int32_t tokens)
    : rows_(std::int64_t{sequences} * tokens) {
  pages_.dtype = dtype;
  pages_.kv_heads = static_cast<std::int32_t>(kv_heads);
  pages_.head_dim = static_cast<std::int32_t>(head_dim);
  pages_.page_tokens = 16;
  pages_.page_stride_bytes = static_cast<std::int64_t>(pages_.page_bytes());
  const std::int32_t each = (context + pages_.page_tokens - 1) / pages_.page_tokens;
  each_ = static_cast<std::size_t>(each * sequences) * pages_.page_bytes();
  count_ = bench.copies_of(each_);
  pages_.base = bench.bytes(count_ * each_);
  std::vector<std::int32_t> first, news, contexts, table;
  for (std::int32_t s = 0; s < sequences; ++s) {
    first.push_back(s * tokens);
    news.push_back(tokens);
    contexts.push_back(context);
    for (std::int32_t i = 0; i < each; ++i) table.push_back(i * sequences + s);
  }
  batch_ = {sequences,
            each,
            bench.integers(first),
            bench.integers(news),
            bench.integers(contexts),
            bench.integers(table)};
  // Real keys and values everywhere, by one append of all of them to each rotation.
  std::vector<std::int32_t> starts, all;
  for (std::int32_t s = 0; s < sequences; ++s) {
    starts.push_back(s * context);
    all.push_back(context);
  }
  kernels::KvBatch whole = batch_;
  whole.first_row = bench.integers(starts);
  whole.new_tokens = bench.integers(all);
  const Rotating values =
      bench.matrices(bench.activations(), std::int64_t{sequences} * context, kv_heads * head_dim);
  for (std::size_t i = 0; i < count_; ++i) {
    bench.ops().append_kv(pages(i), whole, values[i], values[i + 1]);
  }
}

kernels::KvPages Cache::pages(std::size_t i) const {
  kernels::KvPages pages = pages_;
  pages.base = static_cast<std::byte*>(pages_.base) + i % count_ * each_;
  return pages;
}

double Cache::token_bytes(std::int64_t tokens) const {
  return 2.0 * static_cast<double>(tokens) * static_cast<double>(pages_.kv_heads) *
         static_cast<double>(row_bytes_of(pages_.dtype, pages_.head_dim));
}

}  // namespace sluice::bench
