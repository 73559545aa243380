#include "launcher/calibrate/kv_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launcher/planner/machine_fields.h"

namespace sluice::launcher {

namespace {

constexpr std::int32_t kPageTokens = 16;

}  // namespace

KvWalk::KvWalk(kernels::Engine& engine, Lane lane, DType cache, const Shape& shape,
               std::size_t bytes)
    : ops_(lane == Lane::compute ? *engine.device_ops : *engine.host_ops),
      memory_(*engine.backend, lane),
      compute_(engine.backend->info().compute_dtype),
      shape_(shape) {
  cache_.dtype = cache;
  cache_.page_tokens = kPageTokens;
  cache_.kv_heads = shape.heads;
  cache_.head_dim = kHeadWidth;
  const std::size_t page_bytes = cache_.page_bytes();
  cache_.page_stride_bytes = static_cast<std::int64_t>(page_bytes);
  const std::int32_t pages = (shape.context + kPageTokens - 1) / kPageTokens;
  layer_pages_ = std::int64_t{pages} * shape.sequences;
  const std::size_t layer_bytes = static_cast<std::size_t>(layer_pages_) * page_bytes;
  layers_ = static_cast<std::int64_t>(std::max<std::size_t>(1, bytes / layer_bytes));
  pages_ = memory_.take(static_cast<std::size_t>(layers_) * layer_bytes);
  memory_.fill(pages_, plausible_rows(cache, 16, kHeadWidth));

  std::vector<std::int32_t> first;
  std::vector<std::int32_t> list;
  for (std::int32_t s = 0; s < shape.sequences; ++s) {
    first.push_back(s * shape.new_tokens);
    for (std::int32_t i = 0; i < pages; ++i) list.push_back(i * shape.sequences + s);
  }
  const auto count = static_cast<std::size_t>(shape.sequences);
  first_row_ = memory_.copy_of(first);
  new_tokens_ = memory_.copy_of(std::vector<std::int32_t>(count, shape.new_tokens));
  context_ = memory_.copy_of(std::vector<std::int32_t>(count, shape.context));
  page_list_ = memory_.copy_of(list);
  const auto numbers = [](const Memory& memory) {
    return reinterpret_cast<const std::int32_t*>(memory.data());
  };
  batch_ = {shape.sequences,    pages, numbers(first_row_), numbers(new_tokens_), numbers(context_),
            numbers(page_list_)};
  const std::size_t vectors = row_bytes_of(compute_, std::int64_t{shape.heads} * kHeadWidth) *
                              count * static_cast<std::size_t>(shape.new_tokens);
  query_ = memory_.take(vectors);
  out_ = memory_.take(vectors);
  memory_.fill(query_, plausible_rows(compute_, 16, kHeadWidth));
}

TensorView KvWalk::view(const Memory& memory) const {
  return {memory.data(), compute_, std::int64_t{shape_.sequences} * shape_.new_tokens,
          std::int64_t{shape_.heads} * kHeadWidth};
}

double KvWalk::run() {
  const auto begin = SteadyClock::now();
  for (std::int64_t layer = 0; layer < layers_; ++layer) {
    kernels::KvPages cache = cache_;
    cache.base = pages_.data() + layer * layer_pages_ * cache_.page_stride_bytes;
    const float scale = 1.0F / std::sqrt(static_cast<float>(kHeadWidth));
    ops_.attention(view(out_), view(query_), cache, batch_, {scale});
  }
  memory_.finish();
  return seconds_since(begin);
}

double KvWalk::bytes() const {
  return static_cast<double>(layers_ * layer_pages_) * static_cast<double>(cache_.page_bytes());
}

double KvWalk::flop() const {
  const double first = shape_.context - shape_.new_tokens + 1;
  const double seen = (first + shape_.context) / 2;  // by a new token, in the middle
  const double pairs = seen * shape_.new_tokens * shape_.sequences;
  return 4.0 * pairs * shape_.heads * kHeadWidth * static_cast<double>(layers_);
}

AttentionRates measure_attention(kernels::Engine& engine, Lane lane, Sampler& sampler) {
  const CalibrationSizes& sizes = sampler.sizes();
  const KvWalk::Shape decode = {sizes.heads, sizes.sequences, sizes.context, 1};
  const KvWalk::Shape prefill = {sizes.heads, 2, sizes.prompt, sizes.prompt};
  AttentionRates rates;
  for (const DType dtype : kMachineDTypes) {
    {
      KvWalk walk(engine, lane, dtype, decode, sizes.kv_bytes);
      rates.decode[dtype] =
          sampler.figure(fmt::format("{} sequences of {} tokens, {} heads of {}", decode.sequences,
                                     decode.context, decode.heads, KvWalk::kHeadWidth),
                         [&] { return walk.bytes() / walk.run(); });
    }
    KvWalk walk(engine, lane, dtype, prefill, 0);
    rates.prefill[dtype] =
        sampler.figure(fmt::format("2 prompts of {} tokens, {} heads of {}", prefill.new_tokens,
                                   prefill.heads, KvWalk::kHeadWidth),
                       [&] { return walk.flop() / walk.run(); });
  }
  return rates;
}

}  // namespace sluice::launcher
