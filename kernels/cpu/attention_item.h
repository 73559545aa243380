// One piece of attention(): one head of a few consecutive queries of one sequence.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace sluice::kernels {

constexpr std::int64_t kTileQueries = 24;
/// Keys per step of the running softmax: part of the result's bits.
constexpr std::int64_t kBlockKeys = 64;

/// Floats between rows of a head in scratch: whole vectors of every instruction set.
constexpr std::int64_t attention_stride(std::int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

/// Pointers are to the item's own first row and head.
struct AttentionItem {
  float* out = nullptr;          // [queries, stride]
  const float* query = nullptr;  // [queries, stride]
  std::int64_t stride = 0;
  std::int64_t queries = 0;         // <= kTileQueries
  std::int64_t first_position = 0;  // of the first query; it sees keys 0 ... first_position
  const KvPages* cache = nullptr;
  const std::int32_t* pages = nullptr;  // of the sequence
  std::int32_t head = 0;
  float scale = 1.0F;
};

}  // namespace sluice::kernels
