// One block of keys of attention(): scores, the running softmax, and the weighted values.
//
// Every instruction set has its own copy (Highway), hence the toggling include guard.
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#if defined(SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#undef SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#else
#define SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#endif

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/dot_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// Rows of the tile that adds values: with four vectors of the head, 16 sums or 8.
constexpr int kValueRows = HWY_MAX_BYTES >= 64 ? 4 : 2;
constexpr int kValueVectors = 4;

/// What a softmax has come to for each query of an item.
struct Running {
  float* sum;      // [queries, stride]: values, weighted, not yet divided
  float* maximum;  // [queries], of the scores
  float* total;    // [queries], of the weights
};

HWY_INLINE Running running_at(float* memory, std::int64_t queries, std::int64_t stride) {
  return {memory, memory + queries * stride, memory + queries * (stride + 1)};
}

/// What an item works on: a worker's scratch memory, but for `span` where it goes elsewhere.
struct Scratch {
  std::int64_t stride;
  float* query;   // [kTileQueries, stride], scaled, zero-padded
  float* weight;  // [kTileQueries, kBlockKeys]: scores, then their exponentials
  float* keys;    // [kBlockKeys, stride], widened
  float* values;  // [kBlockKeys, stride], widened
  Running span;   // of the blocks of one span
  Running whole;  // of the spans so far
};

/// The keys of a block, as kBlockKeys pointers to rows (of keys that are not there: any row); the
/// values lie `values_offset` elements further.
template <class T>
struct BlockRows {
  const T* const* keys;
  std::int64_t values_offset;
  /// Of the next block, or null. Its keys are fetched during the scores of this block, its values
  /// while this block's values are added.
  const T* const* next_keys;
};

/// Fetches the cache line of every 64 bytes of a row. The processor's own prefetching does not
/// follow the short runs that pages make of a head. The lines go to the second-level cache: the
/// first level can have few reads under way, which are for what is needed at once.
HWY_INLINE void fetch_ahead(const void* row, std::int64_t bytes) {
  constexpr int kIntoL2 = 2;
  const auto* line = static_cast<const char*>(row);
  for (std::int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(line + at, 0, kIntoL2);
}

HWY_INLINE Vector exp_of(Floats d, Vector x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));  // Exp() alone turns NaN into 0
}

HWY_INLINE void multiply(Floats d, float* row, std::int64_t width, Vector factor) {
  for (std::int64_t i = 0; i < width; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, row + i), factor), d, row + i);
  }
}

/// Scores of query q become weights; what was summed before is rescaled to the new maximum.
/// The first `seen` >= 1 keys of the block are visible. `first`: nothing was summed before.
HWY_INLINE void soften(const Scratch& s, std::int64_t q, std::int64_t seen, bool first,
                       std::int64_t width) {
  const Floats d;
  float* const weight = s.weight + q * kBlockKeys;
  std::fill(weight + seen, weight + kBlockKeys, -std::numeric_limits<float>::infinity());
  Vector block_maximum = hn::LoadU(d, weight);
  for (std::int64_t i = kLanes; i < kBlockKeys; i += kLanes) {
    block_maximum = hn::Max(block_maximum, hn::LoadU(d, weight + i));
  }
  const float highest = hn::GetLane(hn::MaxOfLanes(d, block_maximum));
  const float maximum = first ? highest : std::max(highest, s.span.maximum[q]);
  Vector total = hn::Zero(d);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    const Vector e = exp_of(d, hn::Sub(hn::LoadU(d, weight + i), hn::Set(d, maximum)));
    hn::StoreU(e, d, weight + i);
    total = hn::Add(total, e);
  }
  const float block_total = hn::GetLane(hn::SumOfLanes(d, total));
  float* const sum = s.span.sum + q * s.stride;
  if (first) {
    s.span.total[q] = block_total;
    std::fill(sum, sum + width, 0.0F);
  } else {
    const Vector rescale = exp_of(d, hn::Set(d, s.span.maximum[q] - maximum));
    s.span.total[q] = s.span.total[q] * hn::GetLane(rescale) + block_total;
    multiply(d, sum, width, rescale);
  }
  s.span.maximum[q] = maximum;
}

/// sum[r] += weight[r][key] * value[key] for keys [from, to), in order; kVectors vectors of the
/// head. kFetch: of rows that have next_keys.
template <int kRows, int kVectors, bool kFetch, class T>
HWY_INLINE void add_values(const float* weight, const BlockRows<T>& rows, std::int64_t offset,
                           std::int64_t from, std::int64_t to, float* sum, std::int64_t stride) {
  const Floats d;
  Vector total[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) total[r][v] = hn::LoadU(d, sum + r * stride + v * kLanes);
  }
  for (std::int64_t key = from; key < to; ++key) {
    const T* const row = rows.keys[key] + rows.values_offset + offset;
    if constexpr (kFetch) {
      constexpr auto kBytes = static_cast<std::int64_t>(kVectors * kLanes * sizeof(T));
      fetch_ahead(rows.next_keys[key] + rows.values_offset + offset, kBytes);
    }
    Vector value[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) value[v] = load(d, row + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vector w = hn::Set(d, weight[r * kBlockKeys + key]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) total[r][v] = hn::MulAdd(w, value[v], total[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) hn::StoreU(total[r][v], d, sum + r * stride + v * kLanes);
  }
}

template <int kRows, bool kFetch, class T>
HWY_INLINE void add_values_of_rows(const float* weight, const BlockRows<T>& rows, std::int64_t from,
                                   std::int64_t to, float* sum, std::int64_t stride,
                                   std::int64_t width) {
  std::int64_t i = 0;
  for (; i + kValueVectors * kLanes <= width; i += kValueVectors * kLanes) {
    add_values<kRows, kValueVectors, kFetch>(weight, rows, i, from, to, sum + i, stride);
  }
  for (; i < width; i += kLanes) {
    add_values<kRows, 1, kFetch>(weight, rows, i, from, to, sum + i, stride);
  }
}

/// How many keys of a block each query of an item sees.
class Sight {
 public:
  Sight(const AttentionItem& item, std::int64_t first_key)
      : queries(item.queries()),
        first_query(std::max<std::int64_t>(0, first_key - item.first_position) * item.heads) {
    std::int64_t q = 0;
    for (std::int64_t token = 0; token < item.tokens; ++token) {
      const std::int64_t keys = std::min(item.first_position + token + 1 - first_key, kBlockKeys);
      for (std::int64_t end = q + item.heads; q < end; ++q) {
        seen_[q] = static_cast<std::int32_t>(keys);
      }
    }
  }

  const std::int64_t queries;
  /// Those before it see nothing of the block. Each sees as much as the one before it, or more.
  const std::int64_t first_query;
  std::int64_t of(std::int64_t q) const { return seen_[q]; }

 private:
  std::int32_t seen_[kTileQueries];
};

/// The values of a block for kRows queries from q on.
template <int kRows, class T>
HWY_INLINE void add_values_of_tile(const Sight& seen, std::int64_t q, const float* weight,
                                   const BlockRows<T>& rows, float* sum, std::int64_t stride,
                                   std::int64_t width, bool fetch) {
  const float* const w = weight + q * kBlockKeys;
  float* const to = sum + q * stride;
  // What all rows see together, then each its own rest, in the same order of keys.
  const std::int64_t shared = seen.of(q);
  if (fetch) {
    add_values_of_rows<kRows, true>(w, rows, 0, shared, to, stride, width);
  } else {
    add_values_of_rows<kRows, false>(w, rows, 0, shared, to, stride, width);
  }
  for (std::int64_t r = 1; r < kRows; ++r) {
    if (seen.of(q + r) <= shared) continue;
    add_values_of_rows<1, false>(w + r * kBlockKeys, rows, shared, seen.of(q + r), to + r * stride,
                                 stride, width);
  }
}

/// The values of a block, for all queries. weight: [queries, kBlockKeys]; sum: [queries, stride].
template <class T>
HWY_INLINE void add_seen_values(const Sight& seen, const float* weight, const BlockRows<T>& rows,
                                float* sum, std::int64_t stride, std::int64_t width) {
  bool fetch = rows.next_keys != nullptr;  // by the first tile
  std::int64_t q = seen.first_query;
  for (; q + kValueRows <= seen.queries; q += kValueRows, fetch = false) {
    add_values_of_tile<kValueRows>(seen, q, weight, rows, sum, stride, width, fetch);
  }
  for (; q < seen.queries; ++q, fetch = false) {
    add_values_of_tile<1>(seen, q, weight, rows, sum, stride, width, fetch);
  }
}

/// One block of `count` keys, whose rows are whole vectors of `width`. `first`: of its span.
template <class T>
void attend_block(const Scratch& s, const Sight& seen, const BlockRows<T>& rows, std::int64_t count,
                  bool first, std::int64_t width) {
  const auto row_bytes = static_cast<std::int64_t>(sizeof(T)) * width;
  for (std::int64_t key = 0; key < count; key += kTileColumns) {
    const T* b[kTileColumns];
    for (int c = 0; c < kTileColumns; ++c) {
      b[c] = rows.keys[key + c];
      if (rows.next_keys != nullptr) fetch_ahead(rows.next_keys[key + c], row_bytes);
    }
    dot_rows(seen.queries, s.query, s.stride, b, width, s.weight + key, kBlockKeys, false);
  }
  for (std::int64_t q = seen.first_query; q < seen.queries; ++q) {
    soften(s, q, seen.of(q), first, width);
  }
  add_seen_values(seen, s.weight, rows, s.span.sum, s.stride, width);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
