#include "kernels/cpu/attention_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>

#include "kernels/device/error.h"

namespace sluice::kernels {

namespace {

/// An item is worth cutting where a thread's share is less than so many of them.
constexpr std::int64_t kItemsPerThread = 4;
constexpr std::int64_t kBytesOfSequences = kSharedBytes / 4;

std::int64_t parts_for(std::int64_t count, std::int64_t most) { return (count + most - 1) / most; }

}  // namespace

AttentionPlan::AttentionPlan(TensorView out, TensorView query, const KvPages& cache,
                             const KvBatch& batch, const AttentionRule& rule,
                             const CpuContext& context)
    : out_(out),
      query_(query),
      cache_(cache),
      batch_(batch),
      rule_(rule),
      group_(query.columns / (std::int64_t{cache.kv_heads} * cache.head_dim)),
      part_heads_(parts_for(group_, parts_for(group_, kTileQueries))),
      parts_(cache.kv_heads * parts_for(group_, part_heads_)),
      tile_tokens_(kTileQueries / part_heads_),
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
  std::int64_t pairs = 0;  // of token and key, at most
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    pairs += batch.new_tokens[s] * most_keys(s);
  }
  operations_ = 2 * pairs * query.columns;
  const std::int64_t threads = context.pool->threads();
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t tile = std::min<std::int64_t>(tile_tokens_, batch.new_tokens[s]);
    const bool heavy = tile * most_keys(s) * kItemsPerThread * threads > pairs * parts_;
    const std::int64_t whole_items = tiles_of(s) * parts_;
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
  return parts_for(batch_.new_tokens[sequence], tile_tokens_);
}

std::int64_t AttentionPlan::first_span(std::int32_t sequence) const {
  return first_key_of(rule_, batch_.context[sequence] - batch_.new_tokens[sequence]) / kSpanKeys;
}

std::int64_t AttentionPlan::sequence_spans(std::int32_t sequence) const {
  return parts_for(batch_.context[sequence], kSpanKeys) - first_span(sequence);
}

std::int64_t AttentionPlan::most_keys(std::int32_t sequence) const {
  const std::int32_t context = batch_.context[sequence];
  return rule_.window > 0 ? std::min(context, rule_.window) : context;
}

std::int64_t AttentionPlan::floats_of_item(std::int32_t sequence) const {
  const std::int64_t tokens = std::min<std::int64_t>(tile_tokens_, batch_.new_tokens[sequence]);
  return sequence_spans(sequence) * span_floats(tokens * part_heads_, cache_.head_dim);
}

AttentionItem AttentionPlan::make_item(std::int32_t sequence, std::int64_t tile,
                                       std::int64_t part) const {
  const std::int64_t first = tile * tile_tokens_;
  const std::int64_t parts_of_group = parts_ / cache_.kv_heads;
  const std::int64_t kv_head = part / parts_of_group;
  const std::int64_t first_of_group = part % parts_of_group * part_heads_;
  const std::int64_t head = kv_head * group_ + first_of_group;
  const std::int64_t offset =
      (batch_.first_row[sequence] + first) * query_.columns + head * cache_.head_dim;
  AttentionItem item;
  const std::int64_t bytes = offset * static_cast<std::int64_t>(size_of(query_.dtype));
  item.out = static_cast<std::byte*>(out_.data) + bytes;
  item.query = static_cast<const std::byte*>(query_.data) + bytes;
  item.dtype = query_.dtype;
  item.stride = query_.columns;
  item.tokens = std::min(tile_tokens_, batch_.new_tokens[sequence] - first);
  item.heads = std::min(part_heads_, group_ - first_of_group);
  item.first_position = batch_.context[sequence] - batch_.new_tokens[sequence] + first;
  item.cache = &cache_;
  item.pages = batch_.pages + std::int64_t{sequence} * batch_.max_pages;
  item.kv_head = static_cast<std::int32_t>(kv_head);
  item.query_head = static_cast<std::int32_t>(head);
  item.all_query_heads = static_cast<std::int32_t>(group_ * cache_.kv_heads);
  item.rule = rule_;
  item.first_span = first_span(sequence);
  float* const spans = sequences_[sequence].spans;
  if (spans != nullptr) {
    item.spans = spans + (tile * parts_ + part) * floats_of_item(sequence);
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
  AttentionItem item = make_item(s, whole / parts_, whole % parts_);
  item.span = item.first_span + within % spans;
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
  return make_item(s, within / parts_, within % parts_);
}

}  // namespace sluice::kernels
