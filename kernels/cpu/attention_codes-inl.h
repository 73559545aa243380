// attention() over quantised keys and values (kernels/group_quantize.h), without expanding them.
//
// An element is minimum + scale * code, the same scale and minimum for all 64 of a group. So a
// score is the sum over groups of scale * (query . codes) + minimum * (sum of the query), and the
// weighted values are the sum over keys of (weight * scale) * codes, plus the sum of
// weight * minimum, which all 64 share. A lone query reads the codes as they lie; several of them
// share codes that were widened once per block. Both add up in the same order.
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

using Byte = std::uint8_t;

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

/// Scales and minima of one group of all keys of a block.
struct Factors {
  alignas(64) hwy::float16_t scale[kBlockKeys];
  alignas(64) hwy::float16_t minimum[kBlockKeys];
};

/// `rows` are of `count` keys; the others count as zeros. `offset` is in bytes.
HWY_INLINE void load_factors(const Byte* const* rows, std::int64_t count, std::int64_t offset,
                             Factors& factors) {
  auto* const scales = reinterpret_cast<Byte*>(factors.scale);
  auto* const minima = reinterpret_cast<Byte*>(factors.minimum);
  for (std::int64_t key = 0; key < count; ++key) {
    std::memcpy(scales + 2 * key, rows[key] + offset, 2);
    std::memcpy(minima + 2 * key, rows[key] + offset + 2, 2);
  }
  const auto rest = static_cast<std::size_t>(2 * (kBlockKeys - count));
  std::memset(scales + 2 * count, 0, rest);
  std::memset(minima + 2 * count, 0, rest);
}

/// out[c] = query . codes of key c, over `length` elements of one group; dot_tile() in its order.
template <DType kType>
HWY_INLINE void dot_codes(const float* query, const Byte* const* groups, std::int64_t length,
                          float* out) {
  const Floats d;
  const hn::CappedTag<float, 4> d4;
  Vector sum[kTileColumns];
  for (int c = 0; c < kTileColumns; ++c) sum[c] = hn::Zero(d);
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kQuantGroup; i += kLanes) {
    if (i >= length) break;
    const Vector x = hn::LoadU(d, query + i);
#pragma GCC unroll 4
    for (int c = 0; c < kTileColumns; ++c) {
      sum[c] = hn::MulAdd(x, load_codes<kType>(d, groups[c], i), sum[c]);
    }
  }
  hn::StoreU(sum_lanes(d, sum[0], sum[1], sum[2], sum[3]), d4, out);
}

/// sum[i] += weight[key] * code[key][i] for keys [0, to), in order, and `length` elements.
template <DType kType>
HWY_INLINE void add_codes(const float* weight, const Byte* const* rows, std::int64_t offset,
                          std::int64_t to, float* sum, std::int64_t length,
                          const Byte* const* next_rows) {
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
    for (std::int64_t key = 0; key < to; ++key) {
      const Byte* const group = rows[key] + offset;
      if (next_rows != nullptr && first == 0) fetch_ahead(next_rows[key], kCodeBytes<kType>);
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

/// score[key] (+)= scale * dot + minimum * query_sum for all keys of a block. May be in place.
HWY_INLINE void combine(const Factors& factors, const float* dot, float query_sum, bool add,
                        float* score) {
  const Floats d;
  const Vector of_query = hn::Set(d, query_sum);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    Vector value = hn::Mul(load(d, factors.minimum + i), of_query);
    value = hn::MulAdd(load(d, factors.scale + i), hn::LoadU(d, dot + i), value);
    if (add) value = hn::Add(hn::LoadU(d, score + i), value);
    hn::StoreU(value, d, score + i);
  }
}

/// scaled[key] = weight * scale; returns the sum of weight * minimum over the keys that are seen.
/// (A minimum that is not a number must not reach queries that do not see it.)
HWY_INLINE float scale_weights(const Factors& factors, const float* weight, std::int64_t seen,
                               float* scaled) {
  const Floats d;
  Vector total = hn::Zero(d);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    const Vector w = hn::LoadU(d, weight + i);
    hn::StoreU(hn::Mul(w, load(d, factors.scale + i)), d, scaled + i);
    if (i >= seen) continue;
    const auto visible = hn::FirstN(d, static_cast<std::size_t>(std::min(seen - i, kLanes)));
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

/// The rows of a block, in bytes, and what attend_codes() needs beside Scratch.
struct CodeBlock {
  BlockRows<Byte> rows;
  std::int64_t count;
  std::int64_t groups;
  std::int64_t row_bytes;
  const float* query_sums;  // [kTileQueries, groups]
  float* products;          // [kTileQueries, kBlockKeys]: dots of one group, or scaled weights
};

/// Products of all queries with the codes of group g.
template <DType kType>
HWY_INLINE void dot_group(const Scratch& s, const Sight& seen, const CodeBlock& block,
                          std::int64_t g, std::int64_t length) {
  const std::int64_t offset = g * kCodeBytes<kType>;
  const float* const query = s.query + g * kQuantGroup;
  const bool lone = seen.queries == 1;
  if (!lone) {
    widen_codes<kType>(block.rows.keys, block.count, offset, length, s.keys, s.stride);
  }
  for (std::int64_t key = 0; key < block.count; key += kTileColumns) {
    const Byte* codes[kTileColumns];
    const float* widened[kTileColumns];
    for (int c = 0; c < kTileColumns; ++c) {
      const std::int64_t at = std::min(key + c, block.count - 1);
      codes[c] = block.rows.keys[at] + offset;
      widened[c] = s.keys + at * s.stride;
      if (block.rows.next_keys != nullptr && g == 0) {
        fetch_ahead(codes[c] + block.rows.values_offset, block.row_bytes);
      }
    }
    if (lone) {
      dot_codes<kType>(query, codes, length, block.products + key);
    } else {
      dot_rows(seen.queries, query, s.stride, widened, length, block.products + key, kBlockKeys,
               false);
    }
  }
}

template <DType kType>
HWY_INLINE void score_codes(const Scratch& s, const Sight& seen, const CodeBlock& block,
                            std::int64_t width) {
  Factors factors;
  for (std::int64_t g = 0; g < block.groups; ++g) {
    load_factors(block.rows.keys, block.count, block.groups * kCodeBytes<kType> + 4 * g, factors);
    dot_group<kType>(s, seen, block, g, std::min(width - g * kQuantGroup, kQuantGroup));
    for (std::int64_t q = 0; q < seen.queries; ++q) {
      combine(factors, block.products + q * kBlockKeys, block.query_sums[q * block.groups + g],
              g > 0, s.weight + q * kBlockKeys);
    }
  }
}

template <DType kType>
HWY_INLINE void add_code_values(const Scratch& s, const Sight& seen, const CodeBlock& block,
                                std::int64_t width) {
  Factors factors;
  const Byte* values[kBlockKeys];
  const float* widened[kBlockKeys];
  for (std::int64_t key = 0; key < block.count; ++key) {
    values[key] = block.rows.keys[key] + block.rows.values_offset;
    widened[key] = s.values + key * s.stride;
  }
  for (std::int64_t g = 0; g < block.groups; ++g) {
    const std::int64_t offset = g * kCodeBytes<kType>;
    const std::int64_t length = std::min(width - g * kQuantGroup, kQuantGroup);
    float* const sum = s.span.sum + g * kQuantGroup;
    load_factors(values, block.count, block.groups * kCodeBytes<kType> + 4 * g, factors);
    for (std::int64_t q = seen.first_query(); q < seen.queries; ++q) {
      const float shared = scale_weights(factors, s.weight + q * kBlockKeys, seen.of(q),
                                         block.products + q * kBlockKeys);
      add_to_all(sum + q * s.stride, length, shared);
    }
    if (seen.queries == 1) {
      add_codes<kType>(block.products, values, offset, seen.of(0), sum, length,
                       g == 0 ? block.rows.next_keys : nullptr);
      continue;
    }
    widen_codes<kType>(values, block.count, offset, length, s.values, s.stride);
    const BlockRows<float> rows = {widened, 0, nullptr};
    add_seen_values(seen, block.products, rows, sum, s.stride, length);
  }
}

/// attend_block() of quantised rows.
template <DType kType>
void attend_codes(const Scratch& s, const Sight& seen, const CodeBlock& block, bool first,
                  std::int64_t width) {
  score_codes<kType>(s, seen, block, width);
  for (std::int64_t q = seen.first_query(); q < seen.queries; ++q) {
    soften(s, q, seen.of(q), first, width);
  }
  add_code_values<kType>(s, seen, block, width);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_CODES_INL_H_
