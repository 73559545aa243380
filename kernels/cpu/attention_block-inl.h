// One block of keys of attention(): scores, the running softmax, and the weighted values.
//
// Every instruction set has its own copy (Highway), hence the toggling include guard.
#include <hwy/highway.h>

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
#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/exp-inl.h"
#include "kernels/cpu/soft_cap-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

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
HWY_NOINLINE inline void bend_scores(const Scratch& s, const Sight& seen) {
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

/// Hides the scores that query q does not see, and returns the highest of the others. It sees at
/// least one key.
HWY_INLINE float highest_score(const Sight& seen, std::int64_t q, float* score) {
  constexpr float kUnseen = -std::numeric_limits<float>::infinity();
  const Floats d;
  std::fill(score, score + seen.from(q), kUnseen);
  std::fill(score + seen.to(q), score + kBlockKeys, kUnseen);
  Vector highest = hn::LoadU(d, score);
  for (std::int64_t i = kLanes; i < kBlockKeys; i += kLanes) {
    highest = hn::Max(highest, hn::LoadU(d, score + i));
  }
  return hn::GetLane(hn::MaxOfLanes(d, highest));
}

/// Scores become weights; returns their sum.
HWY_INLINE float weigh(float maximum, float* score) {
  const Floats d;
  const Vector highest = hn::Set(d, maximum);
  Vector total = hn::Zero(d);
#pragma GCC unroll 2
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    const Vector e = exp_down(d, hn::Sub(hn::LoadU(d, score + i), highest));
    hn::StoreU(e, d, score + i);
    total = hn::Add(total, e);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

/// Scores of all queries become weights; what was summed before is rescaled to the new maxima.
/// Each loop does the same for many queries, whose long chains of operations so overlap.
HWY_INLINE void soften(const Scratch& s, const Sight& seen, std::int64_t width, RowFetch& fetch) {
  constexpr std::int64_t kRoom = kTileQueries + kLanes;
  const Floats d;
  const auto [first, end] = seen.range;
  float maximum[kRoom];
  float rescale[kRoom] = {};
  for (std::int64_t q = first; q < end; ++q) {
    const float highest = highest_score(seen, q, s.weight + q * kBlockKeys);
    maximum[q] = seen.starts(q) ? highest : std::max(highest, s.span.maximum[q]);
    rescale[q] = seen.starts(q) ? 0 : s.span.maximum[q] - maximum[q];
    s.span.maximum[q] = maximum[q];
  }
  for (std::int64_t q = first; q < end; q += kLanes) {
    hn::StoreU(exp_down(d, hn::LoadU(d, rescale + q)), d, rescale + q);
  }
  for (std::int64_t q = first; q < end; ++q) {
    fetch.step();
    const float total = weigh(maximum[q], s.weight + q * kBlockKeys);
    float* const sum = s.span.sum + q * s.stride;
    if (seen.starts(q)) {
      s.span.total[q] = total;
      std::fill(sum, sum + width, 0.0F);
    } else {
      s.span.total[q] = s.span.total[q] * rescale[q] + total;
      multiply(d, sum, width, hn::Set(d, rescale[q]));
    }
  }
}

/// The values that one row of a tile sees and its neighbours do not.
template <int kVectors, class T>
HWY_NOINLINE void add_own_values(ValueTile tile, std::int64_t row, std::int64_t from,
                                 std::int64_t to) {
  RowFetch nothing({}, 0, 1);
  tile.weight += row * kBlockKeys;
  tile.sum += row * tile.stride;
  add_values<1, kVectors, T>(tile, from, to, nothing);
}

/// The values of a block for kRows queries from q on.
template <int kRows, int kVectors, class T>
HWY_INLINE void add_values_of_rows(const Sight& seen, std::int64_t q, ValueTile tile,
                                   RowFetch& fetch) {
  tile.weight += q * kBlockKeys;
  tile.sum += q * tile.stride;
  // What all rows see together, and before and after it each its own, all in the order of keys.
  const std::int64_t from = seen.from(q + kRows - 1);
  const std::int64_t end = seen.to(q);
  const auto add_own = [&](std::int64_t r, std::int64_t first, std::int64_t last) {
    if (first < last) add_own_values<kVectors, T>(tile, r, first, last);
  };
  for (std::int64_t r = 0; r + 1 < kRows; ++r) {
    add_own(r, seen.from(q + r), std::min(from, seen.to(q + r)));
  }
  if (from < end) add_values<kRows, kVectors, T>(tile, from, end, fetch);
  for (std::int64_t r = from < end ? 1 : 0; r < kRows; ++r) {
    add_own(r, std::max(from, end), seen.to(q + r));
  }
}

/// kVectors vectors of the values of a block, for all queries.
template <int kVectors, class T>
HWY_INLINE void add_value_columns(const Sight& seen, const ValueTile& tile, RowFetch& fetch) {
  std::int64_t q = seen.range.first;
  for (; q + kValueRows <= seen.range.end; q += kValueRows) {
    add_values_of_rows<kValueRows, kVectors, T>(seen, q, tile, fetch);
  }
  for (; q + 2 <= seen.range.end; q += 2) {
    add_values_of_rows<2, kVectors, T>(seen, q, tile, fetch);
  }
  if (q < seen.range.end) add_values_of_rows<1, kVectors, T>(seen, q, tile, fetch);
}

/// Steps of fetching that add_seen_values() makes for an item of one token.
HWY_INLINE std::int64_t value_steps(const Sight& seen, std::int64_t width) {
  const auto [first, end] = seen.range;
  if (first == end) return 1;
  const std::int64_t queries = end - first;
  const std::int64_t tiles = queries / kValueRows + (queries % kValueRows + 1) / 2;
  const std::int64_t together = queries == 1 ? kLoneVectors : kValueVectors;
  const std::int64_t vectors = width / kLanes;
  const std::int64_t keys = seen.to(first) - seen.from(first);
  return (vectors / together + vectors % together) * tiles * ((keys + kFetchKeys - 1) / kFetchKeys);
}

/// The values of a block, for all queries. weight: [queries, kBlockKeys]; sum: [queries, stride].
template <class T>
HWY_INLINE void add_seen_values(const Sight& seen, const float* weight, const BlockRows& rows,
                                float* sum, std::int64_t stride, std::int64_t width,
                                RowFetch& fetch) {
  ValueTile tile = {weight, rows.keys, rows.values_offset, sum, stride};
  const auto advance = [&](std::int64_t lanes) {
    tile.offset += lanes * static_cast<std::int64_t>(sizeof(T));
    tile.sum += lanes;
    width -= lanes;
  };
  const bool lone = seen.range.end - seen.range.first == 1;
  for (; lone && width >= kLoneVectors * kLanes; advance(kLoneVectors * kLanes)) {
    add_values_of_rows<1, kLoneVectors, T>(seen, seen.range.first, tile, fetch);
  }
  for (; width >= kValueVectors * kLanes; advance(kValueVectors * kLanes)) {
    add_value_columns<kValueVectors, T>(seen, tile, fetch);
  }
  for (; width > 0; advance(kLanes)) add_value_columns<1, T>(seen, tile, fetch);
}

/// The scores of a block's first `count` keys, for all queries that see any of them.
template <class T>
HWY_INLINE void score_keys(const Scratch& s, const QueryRange& queries, const BlockRows& rows,
                           const NextRows& next, std::int64_t count, std::int64_t width,
                           std::int64_t stride) {
  const float* const query = s.query + queries.first * stride;
  float* const score = s.weight + queries.first * kBlockKeys;
  RowFetch fetch(next, 0, (count + kTileColumns - 1) / kTileColumns);
  for (std::int64_t key = 0; key < count; key += kTileColumns) {
    const T* b[kTileColumns];
    for (int c = 0; c < kTileColumns; ++c) b[c] = reinterpret_cast<const T*>(rows.keys[key + c]);
    fetch.step();
    score_rows<kTileRows>(queries.end - queries.first, query, stride, b, width, score + key);
  }
}

/// score_keys(), compiled once more for the usual head.
template <class T>
HWY_INLINE void score_block(const Scratch& s, const Sight& seen, const BlockRows& rows,
                            const NextRows& next, std::int64_t count, std::int64_t width) {
  if (width == kTurn) {
    score_keys<T>(s, seen.range, rows, next, count, kTurn, attention_stride(kTurn));
  } else {
    score_keys<T>(s, seen.range, rows, next, count, width, s.stride);
  }
}

/// One block of `count` keys, whose rows are whole vectors of `width`.
template <class T>
void attend_block(const Scratch& s, const Sight& seen, const BlockRows& rows, const NextRows& next,
                  std::int64_t count, std::int64_t width) {
  score_block<T>(s, seen, rows, next, count, width);
  if (s.bends()) bend_scores(s, seen);
  const std::int64_t queries = seen.range.end - seen.range.first;
  RowFetch fetch(next, next.values_offset, value_steps(seen, width) + queries);
  soften(s, seen, width, fetch);
  add_seen_values<T>(seen, s.weight, rows, s.span.sum, s.stride, width, fetch);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
