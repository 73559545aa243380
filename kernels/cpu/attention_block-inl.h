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
#include "kernels/cpu/soft_cap-inl.h"

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
  float* query;    // [kTileQueries, stride], scaled, zero-padded
  float* weight;   // [kTileQueries, kBlockKeys]: scores, then their exponentials
  float* keys;     // [kBlockKeys, stride], widened
  float* values;   // [kBlockKeys, stride], widened
  float* slope;    // [kTileQueries]: of the linear bias, or null
  float soft_cap;  // of scores; 0: none
  Running span;    // of the blocks of one span
  Running whole;   // of the spans so far

  bool bends() const { return slope != nullptr || soft_cap > 0; }
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

/// What each query of an item sees of a block: keys [from(q), to(q)), none of them beyond the last.
class Sight {
 public:
  Sight(const AttentionItem& item, std::int64_t first_key)
      : queries(item.queries()),
        range(queries_that_see(item, first_key, first_key + kBlockKeys)),
        first_key_(first_key),
        window_(item.rule.window > 0 ? item.rule.window : std::numeric_limits<int>::max()) {
    std::int64_t q = 0;
    for (std::int64_t token = 0; token < item.tokens; ++token) {
      const std::int64_t own = item.first_position + token - first_key;
      for (std::int64_t end = q + item.heads; q < end; ++q) own_[q] = static_cast<int>(own);
    }
  }

  const std::int64_t queries;
  /// The others see nothing of the block. Of two the later one sees from no earlier key, and to no
  /// earlier one.
  const QueryRange range;
  std::int64_t from(std::int64_t q) const { return std::max<std::int64_t>(0, start(q)); }
  std::int64_t to(std::int64_t q) const { return std::min<std::int64_t>(own_[q] + 1, kBlockKeys); }
  /// Nothing of this block's span was summed up before for the query.
  bool starts(std::int64_t q) const { return first_key_ % kSpanKeys == 0 || start(q) >= 0; }
  /// The query's own position, counted from the block's first key.
  std::int64_t own(std::int64_t q) const { return own_[q]; }

 private:
  /// The first key it sees, which may lie before the block.
  std::int64_t start(std::int64_t q) const { return std::max(-first_key_, own_[q] - window_ + 1); }

  std::int64_t first_key_;
  std::int64_t window_;
  std::int32_t own_[kTileQueries];
};

/// Soft cap and linear bias, of the scores that are seen.
HWY_NOINLINE void bend_scores(const Scratch& s, const Sight& seen) {
  const Floats d;
  for (std::int64_t q = seen.range.first; q < seen.range.end; ++q) {
    float* const score = s.weight + q * kBlockKeys;
    if (s.soft_cap > 0) cap_all(score, seen.to(q), s.soft_cap);
    if (s.slope == nullptr) continue;
    const Vector slope = hn::Set(d, s.slope[q]);
    Vector distance = hn::Iota(d, static_cast<float>(-seen.own(q)));
    for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
      hn::StoreU(hn::MulAdd(slope, distance, hn::LoadU(d, score + i)), d, score + i);
      distance = hn::Add(distance, hn::Set(d, static_cast<float>(kLanes)));
    }
  }
}

/// Scores of query q become weights; what was summed before is rescaled to the new maximum.
/// It sees at least one key.
HWY_INLINE void soften(const Scratch& s, std::int64_t q, const Sight& seen, std::int64_t width) {
  constexpr float kUnseen = -std::numeric_limits<float>::infinity();
  const Floats d;
  const bool first = seen.starts(q);
  float* const weight = s.weight + q * kBlockKeys;
  std::fill(weight, weight + seen.from(q), kUnseen);
  std::fill(weight + seen.to(q), weight + kBlockKeys, kUnseen);
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

/// The values of a block that one query sees and its neighbours do not.
template <class T>
HWY_NOINLINE void add_own_values(const float* weight, const BlockRows<T>& rows, std::int64_t from,
                                 std::int64_t to, float* sum, std::int64_t stride,
                                 std::int64_t width) {
  if (from < to) add_values_of_rows<1, false>(weight, rows, from, to, sum, stride, width);
}

/// The values of a block for kRows queries from q on.
template <int kRows, class T>
HWY_INLINE void add_values_of_tile(const Sight& seen, std::int64_t q, const float* weight,
                                   const BlockRows<T>& rows, float* sum, std::int64_t stride,
                                   std::int64_t width, bool fetch) {
  const float* const w = weight + q * kBlockKeys;
  float* const to = sum + q * stride;
  // What all rows see together, and before and after it each its own, all in the order of keys.
  const std::int64_t from = seen.from(q + kRows - 1);
  const std::int64_t end = seen.to(q);
  for (std::int64_t r = 0; r + 1 < kRows; ++r) {
    add_own_values(w + r * kBlockKeys, rows, seen.from(q + r), std::min(from, seen.to(q + r)),
                   to + r * stride, stride, width);
  }
  if (from < end && fetch) {
    add_values_of_rows<kRows, true>(w, rows, from, end, to, stride, width);
  } else if (from < end) {
    add_values_of_rows<kRows, false>(w, rows, from, end, to, stride, width);
  }
  for (std::int64_t r = from < end ? 1 : 0; r < kRows; ++r) {
    add_own_values(w + r * kBlockKeys, rows, std::max(from, end), seen.to(q + r), to + r * stride,
                   stride, width);
  }
}

/// The values of a block, for all queries. weight: [queries, kBlockKeys]; sum: [queries, stride].
template <class T>
HWY_INLINE void add_seen_values(const Sight& seen, const float* weight, const BlockRows<T>& rows,
                                float* sum, std::int64_t stride, std::int64_t width) {
  bool fetch = rows.next_keys != nullptr;  // by the first tile
  std::int64_t q = seen.range.first;
  for (; q + kValueRows <= seen.range.end; q += kValueRows, fetch = false) {
    add_values_of_tile<kValueRows>(seen, q, weight, rows, sum, stride, width, fetch);
  }
  for (; q < seen.range.end; ++q, fetch = false) {
    add_values_of_tile<1>(seen, q, weight, rows, sum, stride, width, fetch);
  }
}

/// One block of `count` keys, whose rows are whole vectors of `width`.
template <class T>
void attend_block(const Scratch& s, const Sight& seen, const BlockRows<T>& rows, std::int64_t count,
                  std::int64_t width) {
  const auto row_bytes = static_cast<std::int64_t>(sizeof(T)) * width;
  const auto [first, end] = seen.range;
  for (std::int64_t key = 0; key < count; key += kTileColumns) {
    const T* b[kTileColumns];
    for (int c = 0; c < kTileColumns; ++c) {
      b[c] = rows.keys[key + c];
      if (rows.next_keys != nullptr) fetch_ahead(rows.next_keys[key + c], row_bytes);
    }
    dot_rows(end - first, s.query + first * s.stride, s.stride, b, width,
             s.weight + first * kBlockKeys + key, kBlockKeys, false);
  }
  if (s.bends()) bend_scores(s, seen);
  for (std::int64_t q = first; q < end; ++q) soften(s, q, seen, width);
  add_seen_values(seen, s.weight, rows, s.span.sum, s.stride, width);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
