// attention() over quantised keys and values (kernels/group_quantize.h), without expanding them.
//
// An element is minimum + scale * code, the same scale and minimum for all 64 of a group. So a
// score is the sum over groups of scale * (query . codes) + minimum * (sum of the query), and the
// weighted values are the sum over keys of (weight * scale) * codes, plus the sum of
// weight * minimum, which all 64 share.
//
// Queries are multiplied as integers of 16 bits, and each group of 64 has its own unit. The loss,
// 1/65534 of the largest element, is far below that of the codes. A product takes two instructions
// where floats take twelve.
//
// A lone query reads the codes of values as they lie. Several queries share codes that were widened
// once per block, in the same order of keys.
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#if defined(SLUICE_KERNELS_CPU_ATTENTION_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_ATTENTION_CODES_INL_H_
#undef SLUICE_KERNELS_CPU_ATTENTION_CODES_INL_H_
#else
#define SLUICE_KERNELS_CPU_ATTENTION_CODES_INL_H_
#endif

#include "kernels/cpu/attention_block-inl.h"
#include "kernels/device/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

using Integers = hn::RebindToSigned<Floats>;
using IntegerVector = hn::Vec<Integers>;
using Shorts = hn::RepartitionToNarrow<Integers>;

/// Bytes of the codes of one group.
template <DType kType>
constexpr std::int64_t kCodeBytes = kType == DType::q8 ? kQuantGroup : kQuantGroup / 2;

/// Codes [i, i + kLanes) of a group; i is a multiple of kLanes.
template <DType kType>
HWY_INLINE Vector load_codes(Floats d, const Byte* group, std::int64_t i) {
  const hn::Rebind<std::int32_t, Floats> integers;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  if constexpr (kType == DType::q8) {
    return hn::ConvertTo(d, hn::PromoteTo(integers, hn::LoadU(bytes, group + i)));
  } else {
    constexpr std::int64_t kHalf = kQuantGroup / 2;
    const auto both = hn::PromoteTo(integers, hn::LoadU(bytes, group + i % kHalf));
    return hn::ConvertTo(
        d, i < kHalf ? hn::And(both, hn::Set(integers, 15)) : hn::ShiftRight<4>(both));
  }
}

/// The same as short integers, 2 * kLanes of them.
template <DType kType>
HWY_INLINE hn::Vec<Shorts> load_short_codes(const Byte* group, std::int64_t i) {
  const Shorts shorts;
  const hn::Rebind<std::uint8_t, Shorts> bytes;
  if constexpr (kType == DType::q8) {
    return hn::PromoteTo(shorts, hn::LoadU(bytes, group + i));
  } else {
    constexpr std::int64_t kHalf = kQuantGroup / 2;
    const auto both = hn::PromoteTo(shorts, hn::LoadU(bytes, group + i % kHalf));
    return i < kHalf ? hn::And(both, hn::Set(shorts, 15)) : hn::ShiftRight<4>(both);
  }
}

/// Scales and minima of one group of all keys of a block.
struct Factors {
  alignas(64) hwy::float16_t scale[kBlockKeys];
  alignas(64) hwy::float16_t minimum[kBlockKeys];
};

/// Of the first `count` rows; the other keys count as zeros. `offset` is in bytes.
HWY_INLINE void load_factors(const Byte* const* rows, std::int64_t count, std::int64_t offset,
                             Factors& factors) {
  const hn::RebindToUnsigned<Floats> pairs;
  const hn::Rebind<std::uint16_t, Floats> halves;
  alignas(64) std::uint32_t both[kBlockKeys];
  for (std::int64_t key = 0; key < count; ++key) {
    std::memcpy(both + key, rows[key] + offset, sizeof(both[key]));
  }
  std::fill(both + count, both + kBlockKeys, 0U);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    const auto pair = hn::Load(pairs, both + i);
    hn::StoreU(hn::TruncateTo(halves, pair), halves,
               reinterpret_cast<std::uint16_t*>(factors.scale) + i);
    hn::StoreU(hn::TruncateTo(halves, hn::ShiftRight<16>(pair)), halves,
               reinterpret_cast<std::uint16_t*>(factors.minimum) + i);
  }
}

/// out[r][c] = query r . codes of key c, over one group; queries [kRows, kQuantGroup] and out have
/// strides in elements. Whole numbers, so exact but for the rounding of sums beyond 2^24.
template <DType kType, int kRows>
HWY_INLINE void dot_codes(const std::int16_t* queries, std::int64_t stride,
                          const Byte* const* groups, float* out, std::int64_t out_stride) {
  const Floats d;
  const Integers n;
  const Shorts shorts;
  const hn::CappedTag<float, 4> d4;
  IntegerVector sum[kRows][kTileColumns];
  IntegerVector other[kRows][kTileColumns];  // of processors that widen to two vectors
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kTileColumns; ++c) sum[r][c] = other[r][c] = hn::Zero(n);
  }
#pragma GCC unroll 8
  for (std::int64_t i = 0; i < kQuantGroup; i += 2 * kLanes) {
    hn::Vec<Shorts> codes[kTileColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kTileColumns; ++c) codes[c] = load_short_codes<kType>(groups[c], i);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto query = hn::LoadU(shorts, queries + r * stride + i);
#pragma GCC unroll 4
      for (int c = 0; c < kTileColumns; ++c) {
        sum[r][c] = hn::ReorderWidenMulAccumulate(n, query, codes[c], sum[r][c], other[r][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const auto lanes = [&](int c) { return hn::ConvertTo(d, hn::Add(sum[r][c], other[r][c])); };
    hn::StoreU(sum_lanes(d, lanes(0), lanes(1), lanes(2), lanes(3)), d4, out + r * out_stride);
  }
}

/// dot_codes() of any number of rows, in tiles.
template <DType kType>
HWY_INLINE void dot_code_rows(std::int64_t rows, const std::int16_t* queries, std::int64_t stride,
                              const Byte* const* groups, float* out, std::int64_t out_stride) {
  constexpr int kRows = HWY_MAX_BYTES >= 64 ? 6 : 2;  // in as many registers as there are
  for (; rows >= kRows; rows -= kRows) {
    dot_codes<kType, kRows>(queries, stride, groups, out, out_stride);
    queries += kRows * stride;
    out += kRows * out_stride;
  }
  for (; rows > 0; --rows) {
    dot_codes<kType, 1>(queries, stride, groups, out, out_stride);
    queries += stride;
    out += out_stride;
  }
}

/// sum[i] += weight[key] * code[key][i] for keys [from, to), in order, and `length` elements.
template <DType kType>
HWY_INLINE void add_codes(const float* weight, const Byte* const* rows, std::int64_t offset,
                          std::int64_t from, std::int64_t to, float* sum, std::int64_t length,
                          RowFetch& fetch) {
  const Floats d;
  constexpr std::int64_t kVectors = kQuantGroup / kLanes < 8 ? kQuantGroup / kLanes : 8;
#pragma GCC unroll 2
  for (std::int64_t first = 0; first < kQuantGroup; first += kVectors * kLanes) {
    if (first >= length) break;
    Vector total[kVectors];
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) {
      total[v] = first + v * kLanes < length ? hn::LoadU(d, sum + first + v * kLanes) : hn::Zero(d);
    }
    for (std::int64_t key = from; key < to; ++key) {
      const Byte* const group = rows[key] + offset;
      if (first == 0) fetch.step();
      const Vector w = hn::Set(d, weight[key]);
#pragma GCC unroll 8
      for (std::int64_t v = 0; v < kVectors; ++v) {
        total[v] = hn::MulAdd(w, load_codes<kType>(d, group, first + v * kLanes), total[v]);
      }
    }
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) {
      if (first + v * kLanes < length) hn::StoreU(total[v], d, sum + first + v * kLanes);
    }
  }
}

/// The codes of one group of a block as floats, [count, stride].
template <DType kType>
HWY_INLINE void widen_codes(const Byte* const* rows, std::int64_t count, std::int64_t offset,
                            std::int64_t length, float* to, std::int64_t stride) {
  const Floats d;
  for (std::int64_t key = 0; key < count; ++key) {
    for (std::int64_t i = 0; i < length; i += kLanes) {
      hn::StoreU(load_codes<kType>(d, rows[key] + offset, i), d, to + key * stride + i);
    }
  }
}

/// A query as integers: element = unit * short, about.
struct CodeQuery {
  std::int16_t* shorts;  // [kTileQueries, groups * kQuantGroup], zero-padded
  float* units;          // [kTileQueries, groups]; NaN: the query is not finite there
  float* sums;           // [kTileQueries, groups], of the floats
  std::int64_t groups;
};

/// Of `length` elements of one group; the others are zeros.
HWY_INLINE void shorten(const float* query, std::int64_t length, std::int16_t* shorts, float& unit,
                        float& total) {
  constexpr float kLeast = 1e-30F;  // less counts as nothing
  constexpr float kMost = std::numeric_limits<float>::max();
  const Floats d;
  const hn::Rebind<std::int16_t, Floats> narrow;
  Vector sum = hn::Zero(d);
  Vector largest = hn::Zero(d);
  auto finite = hn::Eq(sum, sum);
  for (std::int64_t i = 0; i < length; i += kLanes) {
    const Vector value = hn::LoadU(d, query + i);
    finite = hn::And(finite, hn::Le(hn::Abs(value), hn::Set(d, kMost)));
    largest = hn::Max(largest, hn::Abs(value));
    sum = hn::Add(sum, value);
  }
  total = hn::GetLane(hn::SumOfLanes(d, sum));
  const float most = hn::GetLane(hn::MaxOfLanes(d, largest));
  const bool sound = hn::AllTrue(d, finite);
  unit = sound ? most / 32767.0F : std::numeric_limits<float>::quiet_NaN();
  std::fill(shorts, shorts + kQuantGroup, std::int16_t{0});
  if (!sound || most < kLeast) return;
  const Vector inverse = hn::Set(d, 32767.0F / most);
  for (std::int64_t i = 0; i < length; i += kLanes) {
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, query + i), inverse));
    hn::StoreU(hn::DemoteTo(narrow, whole), narrow, shorts + i);
  }
}

HWY_INLINE void shorten_queries(const Scratch& s, std::int64_t queries, std::int64_t width,
                                const CodeQuery& to) {
  for (std::int64_t i = 0; i < queries * to.groups; ++i) {
    const std::int64_t first = i % to.groups * kQuantGroup;
    shorten(s.query + i / to.groups * s.stride + first, std::min(width - first, kQuantGroup),
            to.shorts + i * kQuantGroup, to.units[i], to.sums[i]);
  }
}

/// score[key] (+)= scale * unit * dot + minimum * query_sum for all keys of a block.
HWY_INLINE void combine(const Factors& factors, const float* dot, float unit, float query_sum,
                        bool add, float* score) {
  const Floats d;
  const Vector of_query = hn::Set(d, query_sum);
  const Vector of_dot = hn::Set(d, unit);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    Vector value = hn::Mul(load(d, factors.minimum + i), of_query);
    const Vector product = hn::Mul(hn::LoadU(d, dot + i), of_dot);
    value = hn::MulAdd(load(d, factors.scale + i), product, value);
    if (add) value = hn::Add(hn::LoadU(d, score + i), value);
    hn::StoreU(value, d, score + i);
  }
}

/// scaled[key] = weight * scale; returns the sum of weight * minimum over the keys that are seen.
/// (A minimum that is not a number must not reach queries that do not see it.)
HWY_INLINE float scale_weights(const Factors& factors, const float* weight, std::int64_t from,
                               std::int64_t to, float* scaled) {
  const Floats d;
  Vector total = hn::Zero(d);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    const Vector w = hn::LoadU(d, weight + i);
    hn::StoreU(hn::Mul(w, load(d, factors.scale + i)), d, scaled + i);
    if (i >= to || i + kLanes <= from) continue;
    auto visible = hn::FirstN(d, static_cast<std::size_t>(std::min(to - i, kLanes)));
    if (from > i) visible = hn::AndNot(hn::FirstN(d, static_cast<std::size_t>(from - i)), visible);
    const Vector minimum = hn::IfThenElseZero(visible, load(d, factors.minimum + i));
    total = hn::MulAdd(w, minimum, total);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

HWY_INLINE void add_to_all(float* row, std::int64_t width, float value) {
  const Floats d;
  for (std::int64_t i = 0; i < width; i += kLanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, row + i), hn::Set(d, value)), d, row + i);
  }
}

/// The rows of a block, and what attend_codes() needs beside Scratch.
struct CodeBlock {
  BlockRows rows;
  NextRows next;
  std::int64_t count;
  const CodeQuery& query;
  float* products;  // [kTileQueries, kBlockKeys]: dots of one group, or scaled weights
};

template <DType kType>
HWY_INLINE void score_codes(const Scratch& s, const Sight& seen, const CodeBlock& block) {
  const CodeQuery& query = block.query;
  const std::int64_t groups = query.groups;
  const auto [first, end] = seen.range;
  RowFetch fetch(block.next, 0, groups * ((block.count + kTileColumns - 1) / kTileColumns));
  Factors factors;
  for (std::int64_t g = 0; g < groups; ++g) {
    load_factors(block.rows.keys, block.count, groups * kCodeBytes<kType> + 4 * g, factors);
    for (std::int64_t key = 0; key < block.count; key += kTileColumns) {
      const Byte* codes[kTileColumns];
      for (int c = 0; c < kTileColumns; ++c) {
        codes[c] = block.rows.keys[key + c] + g * kCodeBytes<kType>;
      }
      fetch.step();
      dot_code_rows<kType>(end - first, query.shorts + (first * groups + g) * kQuantGroup,
                           groups * kQuantGroup, codes, block.products + first * kBlockKeys + key,
                           kBlockKeys);
    }
    for (std::int64_t q = first; q < end; ++q) {
      const std::int64_t at = q * groups + g;
      combine(factors, block.products + q * kBlockKeys, query.units[at], query.sums[at], g > 0,
              s.weight + q * kBlockKeys);
    }
  }
}

template <DType kType>
HWY_INLINE void add_code_values(const Scratch& s, const Sight& seen, const CodeBlock& block,
                                std::int64_t width, RowFetch& fetch) {
  Factors factors;
  const Byte* const* const rows = block.rows.keys;
  const std::int64_t groups = block.query.groups;
  const bool lone = seen.queries == 1;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t offset = block.rows.values_offset + g * kCodeBytes<kType>;
    const std::int64_t length = std::min(width - g * kQuantGroup, kQuantGroup);
    float* const sum = s.span.sum + g * kQuantGroup;
    load_factors(rows, block.count, block.rows.values_offset + groups * kCodeBytes<kType> + 4 * g,
                 factors);
    for (std::int64_t q = seen.range.first; q < seen.range.end; ++q) {
      const float shared = scale_weights(factors, s.weight + q * kBlockKeys, seen.from(q),
                                         seen.to(q), block.products + q * kBlockKeys);
      add_to_all(sum + q * s.stride, length, shared);
    }
    if (lone) {
      add_codes<kType>(block.products, rows, offset, seen.from(0), seen.to(0), sum, length, fetch);
      continue;
    }
    widen_codes<kType>(rows, block.count, offset, length, s.values, s.stride);
    const Byte* widened[kBlockKeys];
    for (std::int64_t key = 0; key < kBlockKeys; ++key) {
      widened[key] = reinterpret_cast<const Byte*>(s.values + key * s.stride);
    }
    add_seen_values<float>(seen, block.products, {widened, 0}, sum, s.stride, length, fetch);
  }
}

/// attend_block() of quantised rows.
template <DType kType>
void attend_codes(const Scratch& s, const Sight& seen, const CodeBlock& block, std::int64_t width) {
  score_codes<kType>(s, seen, block);
  if (s.bends()) bend_scores(s, seen);
  const std::int64_t queries = seen.range.end - seen.range.first;
  const std::int64_t steps =
      seen.queries == 1 ? seen.to(0) - seen.from(0) : value_steps(seen, kQuantGroup);
  RowFetch fetch(block.next, block.next.values_offset, queries + block.query.groups * steps);
  soften(s, seen, width, fetch);
  add_code_values<kType>(s, seen, block, width, fetch);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_CODES_INL_H_
