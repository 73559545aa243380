// The keys whose values sparse attention reads, of one query token and KV head.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_item.h"

namespace sluice::kernels {

/// Keys that a query of a sequence may have to score: those in sight, from the block on that the
/// first one lies in.
constexpr std::int64_t keys_of_sequence(std::int64_t context, std::int64_t window) {
  const std::int64_t seen = window > 0 && window < context ? window + kBlockKeys : context;
  return (seen + kBlockKeys - 1) / kBlockKeys * kBlockKeys;
}

/// Lies in scratch. Keys are numbered from the first block in sight on.
struct KeptKeys {
  float* weight = nullptr;            // [heads, stride]: of all keys; then of the kept ones
  float* sums = nullptr;              // [stride]: of the softmax of all heads
  std::int32_t* positions = nullptr;  // [count], ascending: of the kept ones
  float* total = nullptr;             // [heads]: what weights are to be divided by
  std::int64_t stride = 0;
  std::int64_t used = 0;   // keys
  std::int64_t count = 0;  // kept

  static constexpr std::int64_t floats(std::int64_t heads, std::int64_t keys) {
    return (heads + 2) * keys + (heads + 15) / 16 * 16;
  }
  static KeptKeys at(float* memory, std::int64_t heads, std::int64_t keys) {
    KeptKeys made;
    made.weight = memory;
    made.sums = memory + heads * keys;
    made.positions = reinterpret_cast<std::int32_t*>(made.sums + keys);
    made.total = made.sums + 2 * keys;
    made.stride = keys;
    return made;
  }

  /// The row of a position's value.
  const std::byte* value_of(const AttentionItem& item, std::int64_t position) const {
    const KvPages& cache = *item.cache;
    const auto row_bytes = static_cast<std::int64_t>(row_bytes_of(cache.dtype, cache.head_dim));
    const std::int64_t row = std::int64_t{cache.kv_heads + item.kv_head} * cache.page_tokens +
                             position % cache.page_tokens;
    const bool is_old = item.old_pages != nullptr && position < item.first_new;
    const void* const base = is_old ? cache.old_values : cache.base;
    const std::int32_t* const pages = is_old ? item.old_pages : item.pages;
    return static_cast<const std::byte*>(base) +
           pages[position / cache.page_tokens] * cache.page_stride_bytes + row * row_bytes;
  }
};

/// Finds the keys that are kept: the newest one, and kept_values() of the others by their sums, of
/// equals the earlier ones. Moves their weights to the front, and asks for their values to be
/// brought to the cache of the processor. `begin`: the position of key 0.
void keep_largest(const AttentionItem& item, std::int64_t begin, KeptKeys& keys);

}  // namespace sluice::kernels
