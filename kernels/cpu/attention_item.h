// One piece of attention(): a few query heads that share a KV head, of a few consecutive tokens of
// one sequence. It meets all the keys that these tokens see, or one span of them.
//
// Its queries are numbered token by token: query q is head q % heads of token q / heads. All of
// them walk through the keys together, so that a key is read once for its whole group of heads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace sluice::kernels {

constexpr std::int64_t kTileQueries = 24;
/// Keys per step of the running softmax: part of the result's bits.
constexpr std::int64_t kBlockKeys = 64;
/// Keys that are summed up apart from those before them, counted from a sequence's first key. So
/// threads can share one long context. Part of the result's bits.
constexpr std::int64_t kSpanKeys = 4 * kBlockKeys;

/// Floats between rows of a head in scratch: whole vectors of every instruction set.
constexpr std::int64_t attention_stride(std::int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

/// Floats that hold the sums of a span: values [queries, stride], maxima and totals [queries].
constexpr std::int64_t span_floats(std::int64_t queries, std::int64_t head_dim) {
  return queries * (attention_stride(head_dim) + 2);
}

/// The first key that a token at `position` sees.
constexpr std::int64_t first_key_of(const AttentionRule& rule, std::int64_t position) {
  return rule.window > 0 ? std::max<std::int64_t>(0, position - rule.window + 1) : 0;
}

/// Pointers are to the item's own first row and head.
struct AttentionItem {
  std::byte* out = nullptr;          // [tokens, stride], of which [heads * head_dim] are its own
  const std::byte* query = nullptr;  // the same
  DType dtype = DType::f32;          // of query and out: f32, f16 or bf16
  std::int64_t stride = 0;           // in elements
  std::int64_t tokens = 0;           // tokens * heads <= kTileQueries
  std::int64_t heads = 1;            // query heads
  std::int64_t first_position = 0;   // of the first token
  const KvPages* cache = nullptr;
  const std::int32_t* pages = nullptr;  // of the sequence
  /// Of sparse attention: pages of KvPages::old_values, for positions before first_new.
  const std::int32_t* old_pages = nullptr;
  std::int64_t first_new = 0;
  std::int32_t kv_head = 0;
  std::int32_t query_head = 0;  // the first, of all_query_heads; for AttentionRule::alibi
  std::int32_t all_query_heads = 1;
  AttentionRule rule;
  /// Not null: the sums of each span go here, span_floats() apart, rather than to out.
  float* spans = nullptr;
  std::int64_t first_span = 0;  // the one whose sums come first there
  std::int64_t span = 0;        // which of them to sum up now

  std::int64_t queries() const { return tokens * heads; }
  /// The first key that any of its tokens sees, and the end of those that any sees.
  std::int64_t first_key() const { return first_key_of(rule, first_position); }
  std::int64_t end_key() const { return first_position + tokens; }
  float* sums_of(std::int64_t number) const {
    return spans + (number - first_span) * span_floats(queries(), cache->head_dim);
  }
};

/// Queries [first, end).
struct QueryRange {
  std::int64_t first;
  std::int64_t end;
};

/// Those of an item that see any of the keys [from, to).
inline QueryRange queries_that_see(const AttentionItem& item, std::int64_t from, std::int64_t to) {
  const std::int64_t first = std::max<std::int64_t>(0, from - item.first_position);
  std::int64_t end = item.tokens;
  if (item.rule.window > 0) end = std::min(end, to + item.rule.window - 1 - item.first_position);
  return {first * item.heads, end * item.heads};
}

/// Whether any of an item's tokens sees a key of the span.
inline bool sees_span(const AttentionItem& item, std::int64_t span) {
  return span * kSpanKeys < item.end_key() && (span + 1) * kSpanKeys > item.first_key();
}

}  // namespace sluice::kernels
