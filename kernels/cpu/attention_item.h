// One piece of attention(): one head of a few consecutive queries of one sequence, over all the
// keys they see or over one span of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace sluice::kernels {

constexpr std::int64_t kTileQueries = 24;
/// Keys per step of the running softmax: part of the result's bits.
constexpr std::int64_t kBlockKeys = 64;
/// Keys that are summed up apart from those before them, from a sequence's first key on, so that
/// threads can share one long context: part of the result's bits.
constexpr std::int64_t kSpanKeys = 4 * kBlockKeys;

/// Floats between rows of a head in scratch: whole vectors of every instruction set.
constexpr std::int64_t attention_stride(std::int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

/// Floats that hold the sums of a span: values [queries, stride], maxima and totals [queries].
constexpr std::int64_t span_floats(std::int64_t queries, std::int64_t head_dim) {
  return queries * (attention_stride(head_dim) + 2);
}

/// Pointers are to the item's own first row and head.
struct AttentionItem {
  std::byte* out = nullptr;          // [queries, stride]
  const std::byte* query = nullptr;  // [queries, stride]
  DType dtype = DType::f32;          // of query and out: f32, f16 or bf16
  std::int64_t stride = 0;           // in elements
  std::int64_t queries = 0;          // <= kTileQueries
  std::int64_t first_position = 0;   // of the first query; it sees keys 0 ... first_position
  const KvPages* cache = nullptr;
  const std::int32_t* pages = nullptr;  // of the sequence
  std::int32_t head = 0;
  float scale = 1.0F;
  /// Not null: the sums of each span, span_floats() apart, rather than out.
  float* spans = nullptr;
  std::int64_t span = 0;  // which of them to sum up now
};

/// Spans of which at least the item's last query sees something.
constexpr std::int64_t spans_of(const AttentionItem& item) {
  return (item.first_position + item.queries + kSpanKeys - 1) / kSpanKeys;
}

}  // namespace sluice::kernels
