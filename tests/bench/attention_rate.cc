// How fast attention reads its cache, beside how fast this machine reads the same bytes.
//
//   bench_attention_rate [--context N] [--heads N] [--kv-heads N] [--head-dim N] [--sequences N]
//                        [--rounds N] [--threads N] [--mib N] [--dtypes f32,f16,bf16,q8,q4]
//
// --heads: query heads. --kv-heads: 0, the default, gives each of them a KV head of its own.
//
// Decode: each sequence has one new token. An operation sees `sequences` of them, whose pages lie
// interleaved as they do when sequences grow together; the operations of a round walk through a
// cache of `mib` MiB, as those of a model's layers do, so that nothing is read from a processor's
// cache. Each round measures the reading, then the operations; a figure is the median of rounds.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/engine.h"
#include "tests/bench/read_bandwidth.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::map<std::string, std::int32_t, std::less<>> number = {
      {"--context", 2048}, {"--heads", 32}, {"--kv-heads", 0}, {"--head-dim", 64},
      {"--sequences", 8},  {"--rounds", 7}, {"--threads", 0},  {"--mib", 1024}};
  std::string dtypes = "f32,f16,bf16,q8,q4";

  std::int32_t operator[](std::string_view name) const { return number.find(name)->second; }
  std::int32_t kv_heads() const {
    return (*this)["--kv-heads"] == 0 ? (*this)["--heads"] : (*this)["--kv-heads"];
  }
};

Settings parse(int count, char** words) {
  Settings settings;
  for (int i = 1; i < count; i += 2) {
    const std::string_view name = words[i];
    const std::string_view value = i + 1 < count ? words[i + 1] : "";
    if (name == "--dtypes") {
      settings.dtypes = value;
      continue;
    }
    const auto found = settings.number.find(name);
    if (found == settings.number.end()) {
      throw std::invalid_argument(fmt::format("{} is no option of this benchmark", name));
    }
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), found->second);
    const bool least = found->second >= (name == "--threads" || name == "--kv-heads" ? 0 : 1);
    if (error != std::errc() || end != value.data() + value.size() || !least) {
      throw std::invalid_argument(fmt::format("{} takes a whole number, not '{}'", name, value));
    }
  }
  if (settings["--heads"] % settings.kv_heads() != 0) {
    throw std::invalid_argument("--heads must be a multiple of --kv-heads");
  }
  return settings;
}

/// Caches of as many layers as the memory holds, all pages alike.
class Layers {
 public:
  Layers(kernels::Engine& engine, const Settings& settings, DType dtype, const Memory& memory)
      : engine_(engine), sequences_(settings["--sequences"]), heads_(settings["--heads"]) {
    cache_.dtype = dtype;
    cache_.kv_heads = settings.kv_heads();
    cache_.head_dim = settings["--head-dim"];
    cache_.page_tokens = 16;
    cache_.page_stride_bytes = static_cast<std::int64_t>(cache_.page_bytes());
    cache_.base = memory.data();
    const std::int32_t pages = (settings["--context"] + 15) / 16;
    layer_pages_ = pages * sequences_;
    layers_ = static_cast<std::int64_t>(memory.bytes() / cache_.page_bytes()) / layer_pages_;
    if (layers_ < 1) throw std::invalid_argument("not even one layer fits; raise --mib");
    context_.assign(static_cast<std::size_t>(sequences_), settings["--context"]);
    ones_.assign(context_.size(), 1);
    for (std::int32_t s = 0; s < sequences_; ++s) {
      rows_.push_back(s);
      for (std::int32_t i = 0; i < pages; ++i) pages_.push_back(i * sequences_ + s);
    }
    batch_ = {sequences_, pages, rows_.data(), ones_.data(), context_.data(), pages_.data()};
    const auto floats =
        static_cast<std::size_t>(std::max(sequences_, 16) * heads_ * cache_.head_dim);
    std::mt19937 dice(7);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    query_.resize(floats);
    for (float& x : query_) x = uniform(dice);
    out_.resize(floats);
    fill(memory);
  }

  /// Seconds of attention over all layers.
  double attend() {
    const auto begin = std::chrono::steady_clock::now();
    for (std::int64_t layer = 0; layer < layers_; ++layer) {
      kernels::KvPages cache = cache_;
      cache.base =
          static_cast<std::byte*>(cache_.base) + layer * layer_pages_ * cache_.page_stride_bytes;
      engine_.device_ops->attention(rows(out_, sequences_, heads_),
                                    rows(query_, sequences_, heads_), cache, batch_, {0.125F});
    }
    engine_.backend->synchronize(engine_.backend->record(Lane::compute));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  /// What attend() reads. The last page of a sequence is counted as a whole one.
  std::size_t bytes() const {
    return static_cast<std::size_t>(layers_ * layer_pages_) * cache_.page_bytes();
  }
  std::int64_t tokens() const { return layers_ * sequences_; }

 private:
  TensorView rows(std::vector<float>& floats, std::int32_t count, std::int32_t heads) const {
    return {floats.data(), DType::f32, count, std::int64_t{heads} * cache_.head_dim};
  }

  /// One page by append_kv, then copies of it.
  void fill(const Memory& memory) {
    const std::int32_t zero = 0;
    const std::int32_t tokens = cache_.page_tokens;
    const kernels::KvBatch page = {1, 1, &zero, &tokens, &tokens, &zero};
    const TensorView kept = rows(query_, tokens, cache_.kv_heads);
    engine_.device_ops->append_kv(cache_, page, kept, kept);
    engine_.backend->synchronize(engine_.backend->record(Lane::compute));
    const std::size_t size = cache_.page_bytes();
    for (std::size_t at = size; at + size <= memory.bytes(); at += size) {
      std::memcpy(memory.data() + at, memory.data(), size);
    }
  }

  kernels::Engine& engine_;
  std::int32_t sequences_;
  std::int32_t heads_;
  std::int32_t layer_pages_ = 0;
  std::int64_t layers_ = 0;
  kernels::KvPages cache_;
  kernels::KvBatch batch_;
  std::vector<std::int32_t> rows_, ones_, context_, pages_;
  std::vector<float> query_, out_;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void measure(kernels::Engine& engine, const Settings& settings, DType dtype, const Memory& memory) {
  Layers layers(engine, settings, dtype, memory);
  const int threads = engine.backend->info().threads;
  layers.attend();  // unmeasured: wakes the threads
  std::vector<double> limits, rates, ratios, micros;
  for (std::int32_t round = 0; round < settings["--rounds"]; ++round) {
    limits.push_back(read_bandwidth({memory.data(), memory.bytes()}, threads) / 1e9);
    const double seconds = layers.attend();
    rates.push_back(static_cast<double>(layers.bytes()) / seconds / 1e9);
    ratios.push_back(rates.back() / limits.back());
    micros.push_back(seconds / static_cast<double>(layers.tokens()) * 1e6);
  }
  const std::int32_t group = settings["--heads"] / settings.kv_heads();
  fmt::print(
      R"({{"name": "cpu_attention_rate{}{}", "value": {:.2f}, "unit": "GB/s", "limit": {:.2f}, )"
      R"("ratio": {:.3f}, "dtype": "{}", "context": {}, "heads": {}, "kv_heads": {}, )"
      R"("head_dim": {}, )"
      R"("sequences": {}, "threads": {}, "us_per_token_and_layer": {:.1f}, "rounds": {}}})"
      "\n",
      dtype == DType::f32 ? "" : fmt::format("_{}", name_of(dtype)),
      group == 1 ? "" : fmt::format("_group{}", group), median(rates), median(limits),
      median(ratios), name_of(dtype), settings["--context"], settings["--heads"],
      settings.kv_heads(), settings["--head-dim"], settings["--sequences"], threads, median(micros),
      settings["--rounds"]);
  std::fflush(stdout);
}

void run(const Settings& settings) {
  kernels::EngineOptions options;
  options.device = "cpu";
  options.threads = settings["--threads"];
  kernels::Engine engine = kernels::make_engine(options);
  const Memory memory =
      engine.backend->allocate_host(static_cast<std::size_t>(settings["--mib"]) << 20, false);
  std::size_t at = 0;
  while (at < settings.dtypes.size()) {
    const std::size_t end = std::min(settings.dtypes.find(',', at), settings.dtypes.size());
    const std::string name = settings.dtypes.substr(at, end - at);
    at = end + 1;
    bool known = false;
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
      if (name != name_of(dtype)) continue;
      known = true;
      measure(engine, settings, dtype, memory);
    }
    if (!known) throw std::invalid_argument(fmt::format("'{}' is no dtype of a cache", name));
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int count, char** words) {
  try {
    sluice::bench::run(sluice::bench::parse(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_attention_rate: %s\n", error.what());
    return 2;
  }
}
