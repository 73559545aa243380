#include "kernels/cpu/attention_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>

#include "kernels/device/error.h"

namespace sluice::kernels {

namespace {

/// An item that is more than this part of a thread's share is worth cutting.
constexpr std::int64_t kItemsPerThread = 4;
constexpr std::int64_t kBytesOfSequences = kSharedBytes / 4;

}  // namespace

AttentionPlan::AttentionPlan(TensorView out, TensorView query, const KvPages& cache,
                             const KvBatch& batch, float scale, const CpuContext& context)
    : out_(out),
      query_(query),
      cache_(cache),
      batch_(batch),
      scale_(scale),
      sequences_(reinterpret_cast<Sequence*>(context.shared)) {
  constexpr std::int64_t kMost = kBytesOfSequences / static_cast<std::int64_t>(sizeof(Sequence));
  if (batch.sequences > kMost) {
    throw DeviceError(
        fmt::format("attention: a batch of {} sequences; one may have {}; lower "
                    "gpu_batch_size",
                    batch.sequences, kMost));
  }
  auto* const spans = reinterpret_cast<float*>(context.shared + kBytesOfSequences);
  constexpr std::int64_t kFloats =
      (kSharedBytes - kBytesOfSequences) / static_cast<std::int64_t>(sizeof(float));
  std::int64_t pairs = 0;  // of query and key, at most
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    pairs += std::int64_t{batch.new_tokens[s]} * batch.context[s];
  }
  operations_ = 2 * pairs * query.columns;
  const std::int64_t threads = context.pool->threads();
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t tile = std::min<std::int64_t>(kTileQueries, batch.new_tokens[s]);
    const bool heavy = tile * batch.context[s] * kItemsPerThread * threads > pairs * cache.heads;
    const std::int64_t whole_items = tiles_of(s) * cache.heads;
    const std::int64_t floats = whole_items * floats_of_item(s);
    const bool cut =
        threads > 1 && heavy && sequence_spans(s) > 1 && shared_floats_ + floats <= kFloats;
    std::construct_at(sequences_ + s,
                      Sequence{items_, shared_items_, cut ? spans + shared_floats_ : nullptr});
    items_ += whole_items * (cut ? sequence_spans(s) : 1);
    if (!cut) continue;
    shared_items_ += whole_items;
    shared_floats_ += floats;
  }
}

std::int64_t AttentionPlan::tiles_of(std::int32_t sequence) const {
  return (batch_.new_tokens[sequence] + kTileQueries - 1) / kTileQueries;
}

std::int64_t AttentionPlan::sequence_spans(std::int32_t sequence) const {
  return (batch_.context[sequence] + kSpanKeys - 1) / kSpanKeys;
}

std::int64_t AttentionPlan::floats_of_item(std::int32_t sequence) const {
  const std::int64_t queries = std::min<std::int64_t>(kTileQueries, batch_.new_tokens[sequence]);
  return sequence_spans(sequence) * span_floats(queries, cache_.head_dim);
}

AttentionItem AttentionPlan::make_item(std::int32_t sequence, std::int64_t tile,
                                       std::int64_t head) const {
  const std::int64_t first = tile * kTileQueries;
  const std::int64_t offset =
      (batch_.first_row[sequence] + first) * query_.columns + head * cache_.head_dim;
  AttentionItem item;
  const std::int64_t bytes = offset * static_cast<std::int64_t>(size_of(query_.dtype));
  item.out = static_cast<std::byte*>(out_.data) + bytes;
  item.query = static_cast<const std::byte*>(query_.data) + bytes;
  item.dtype = query_.dtype;
  item.stride = query_.columns;
  item.queries = std::min(kTileQueries, batch_.new_tokens[sequence] - first);
  item.first_position = batch_.context[sequence] - batch_.new_tokens[sequence] + first;
  item.cache = &cache_;
  item.pages = batch_.pages + std::int64_t{sequence} * batch_.max_pages;
  item.head = static_cast<std::int32_t>(head);
  item.scale = scale_;
  float* const spans = sequences_[sequence].spans;
  if (spans != nullptr) {
    item.spans = spans + (tile * cache_.heads + head) * floats_of_item(sequence);
  }
  return item;
}

AttentionItem AttentionPlan::item(std::int64_t index) const {
  const Sequence* const begin = sequences_;
  const Sequence* const end = begin + batch_.sequences;
  const Sequence* const found = std::upper_bound(begin, end, index,
                                                 [](std::int64_t wanted, const Sequence& s) {
                                                   return wanted < s.first_item;
                                                 }) -
                                1;
  const auto s = static_cast<std::int32_t>(found - sequences_);
  const std::int64_t spans = found->spans != nullptr ? sequence_spans(s) : 1;
  const std::int64_t within = index - found->first_item;
  const std::int64_t whole = within / spans;
  AttentionItem item = make_item(s, whole / cache_.heads, whole % cache_.heads);
  item.span = within % spans;
  return item;
}

AttentionItem AttentionPlan::shared_item(std::int64_t index) const {
  const Sequence* const begin = sequences_;
  const Sequence* const end = begin + batch_.sequences;
  // Of those with the same number the last one is meant: the others have no shared items.
  const Sequence* const found = std::upper_bound(begin, end, index,
                                                 [](std::int64_t wanted, const Sequence& s) {
                                                   return wanted < s.first_shared_item;
                                                 }) -
                                1;
  const auto s = static_cast<std::int32_t>(found - sequences_);
  const std::int64_t within = index - found->first_shared_item;
  return make_item(s, within / cache_.heads, within % cache_.heads);
}

}  // namespace sluice::kernels
