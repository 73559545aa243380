// Causal attention over pages, with a running softmax over blocks of keys.
//
// An item of work is one head of up to kTileQueries consecutive new tokens of a sequence. It goes
// through the keys in blocks of kBlockKeys, counted from the sequence's first token, so that what a
// query sees, and in which order, depends on its position alone: not on how its prompt was cut, nor
// on pages. Per block: scores (dot products along the head), maximum, exponentials, and the values
// added key by key. 16-bit keys and values are widened once per block where several queries share
// it.
//
// Cost per query and key: 4 head_dim flop; reads 2 head_dim elements of the cache per tile of
// queries.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/dot_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// Rows of the tile that adds values: with four vectors of the head, 16 sums or 8.
constexpr int kValueRows = HWY_MAX_BYTES >= 64 ? 4 : 2;

struct Scratch {
  float* query;    // [kTileQueries, stride], scaled, zero-padded
  float* sum;      // [kTileQueries, stride]: values, weighted, not yet divided
  float* weight;   // [kTileQueries, kBlockKeys]: scores, then their exponentials
  float* maximum;  // [kTileQueries]
  float* total;    // [kTileQueries]
  float* keys;     // [kBlockKeys, stride], widened
  float* values;   // [kBlockKeys, stride], widened
  std::int64_t stride;
};

HWY_INLINE Scratch scratch_of(float* memory, std::int64_t stride) {
  Scratch s;
  s.stride = stride;
  s.query = memory;
  s.sum = s.query + kTileQueries * stride;
  s.weight = s.sum + kTileQueries * stride;
  s.maximum = s.weight + kTileQueries * kBlockKeys;
  s.total = s.maximum + kTileQueries;
  s.keys = s.total + kTileQueries;
  s.values = s.keys + kBlockKeys * stride;
  return s;
}

HWY_INLINE Vector exp_of(Floats d, Vector x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));  // Exp() alone turns NaN into 0
}

/// Scores of one query become weights; what was summed before is rescaled to the new maximum.
/// The first `seen` >= 1 keys of the block are visible.
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
  const float maximum = first ? highest : std::max(highest, s.maximum[q]);
  Vector total = hn::Zero(d);
  for (std::int64_t i = 0; i < kBlockKeys; i += kLanes) {
    const Vector e = exp_of(d, hn::Sub(hn::LoadU(d, weight + i), hn::Set(d, maximum)));
    hn::StoreU(e, d, weight + i);
    total = hn::Add(total, e);
  }
  const float block_total = hn::GetLane(hn::SumOfLanes(d, total));
  if (first) {
    s.total[q] = block_total;
  } else {
    const Vector rescale = exp_of(d, hn::Set(d, s.maximum[q] - maximum));
    s.total[q] = s.total[q] * hn::GetLane(rescale) + block_total;
    for (std::int64_t i = 0; i < width; i += kLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, s.sum + q * s.stride + i), rescale), d,
                 s.sum + q * s.stride + i);
    }
  }
  s.maximum[q] = maximum;
}

/// sum[r] += weight[r][key] * value[key] for keys [from, to), in order; kVectors vectors of the
/// head.
template <int kRows, int kVectors, class T>
HWY_INLINE void add_values(const float* weight, const T* const* values, std::int64_t offset,
                           std::int64_t from, std::int64_t to, float* sum, std::int64_t stride) {
  const Floats d;
  Vector total[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = hn::LoadU(d, sum + r * stride + offset + v * kLanes);
    }
  }
  for (std::int64_t key = from; key < to; ++key) {
    Vector value[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) value[v] = load(d, values[key] + offset + v * kLanes);
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
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(total[r][v], d, sum + r * stride + offset + v * kLanes);
    }
  }
}

template <int kRows, class T>
HWY_INLINE void add_values_of_head(const Scratch& s, std::int64_t q, const T* const* values,
                                   std::int64_t from, std::int64_t to, std::int64_t width) {
  const float* const weight = s.weight + q * kBlockKeys;
  float* const sum = s.sum + q * s.stride;
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    add_values<kRows, 4>(weight, values, i, from, to, sum, s.stride);
  }
  for (; i < width; i += kLanes) {
    add_values<kRows, 1>(weight, values, i, from, to, sum, s.stride);
  }
}

/// One block: keys[0, count) and values are whole vectors of `width`; `first_key` is the position
/// of the block's first key.
template <class T>
void attend_block(const Scratch& s, const AttentionItem& item, const T* const* keys,
                  const T* const* values, std::int64_t first_key, std::int64_t count,
                  std::int64_t width) {
  for (std::int64_t key = 0; key < count; key += kTileColumns) {
    const T* b[kTileColumns];
    for (int c = 0; c < kTileColumns; ++c) b[c] = keys[std::min(key + c, count - 1)];
    dot_rows(item.queries, s.query, s.stride, b, width, s.weight + key, kBlockKeys, false);
  }
  const auto seen_by = [&](std::int64_t q) {
    return std::min(item.first_position + q + 1 - first_key, kBlockKeys);
  };
  // Consecutive queries: those that see nothing of this block come first.
  std::int64_t q = std::max<std::int64_t>(0, first_key - item.first_position);
  for (std::int64_t i = q; i < item.queries; ++i) soften(s, i, seen_by(i), first_key == 0, width);
  for (; q + kValueRows <= item.queries; q += kValueRows) {
    // What all rows see together, then each its own rest, in the same order of keys.
    const std::int64_t shared = seen_by(q);
    add_values_of_head<kValueRows>(s, q, values, 0, shared, width);
    for (int r = 1; r < kValueRows; ++r) {
      if (seen_by(q + r) > shared) {
        add_values_of_head<1>(s, q + r, values, shared, seen_by(q + r), width);
      }
    }
  }
  for (; q < item.queries; ++q) add_values_of_head<1>(s, q, values, 0, seen_by(q), width);
}

/// Copies rows, widened and zero-padded to whole vectors.
template <class T>
HWY_INLINE void widen_rows(const T* const* rows, std::int64_t count, std::int64_t length,
                           std::int64_t stride, float* to, const float** widened) {
  const Floats d;
  for (std::int64_t i = 0; i < count; ++i) {
    float* const row = to + i * stride;
    widen(d, rows[i], length, row);
    std::fill(row + length, row + stride, 0.0F);
    widened[i] = row;
  }
}

template <class T>
void attend(const AttentionItem& item, const Scratch& s) {
  const KvPages& cache = *item.cache;
  const std::int64_t dim = cache.head_dim;
  const std::int64_t width = (dim + kLanes - 1) / kLanes * kLanes;
  const bool direct = width == dim && (sizeof(T) == sizeof(float) || item.queries == 1);
  const std::int64_t end = item.first_position + item.queries;
  const std::int64_t values_offset = std::int64_t{cache.heads} * cache.page_tokens * dim;
  for (std::int64_t first_key = 0; first_key < end; first_key += kBlockKeys) {
    const std::int64_t count = std::min(kBlockKeys, end - first_key);
    const T* keys[kBlockKeys];
    const T* values[kBlockKeys];
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t page = (first_key + i) / cache.page_tokens;
      const std::int64_t token = (first_key + i) % cache.page_tokens;
      const auto* base = reinterpret_cast<const T*>(static_cast<const std::byte*>(cache.base) +
                                                    item.pages[page] * cache.page_stride_bytes);
      keys[i] = base + (std::int64_t{item.head} * cache.page_tokens + token) * dim;
      values[i] = keys[i] + values_offset;
    }
    if (direct) {
      attend_block(s, item, keys, values, first_key, count, width);
      continue;
    }
    const float* wide_keys[kBlockKeys];
    const float* wide_values[kBlockKeys];
    widen_rows(keys, count, dim, s.stride, s.keys, wide_keys);
    widen_rows(values, count, dim, s.stride, s.values, wide_values);
    attend_block(s, item, wide_keys, wide_values, first_key, count, width);
  }
}

void run_attention_item(const AttentionItem& item, float* memory) {
  const Floats d;
  const std::int64_t dim = item.cache->head_dim;
  const Scratch s = scratch_of(memory, attention_stride(dim));
  for (std::int64_t q = 0; q < item.queries; ++q) {
    float* const row = s.query + q * s.stride;
    const float* const from = item.query + q * item.stride;
    for (std::int64_t i = 0; i < dim; ++i) row[i] = from[i] * item.scale;
    std::fill(row + dim, row + s.stride, 0.0F);
    std::fill(s.sum + q * s.stride, s.sum + (q + 1) * s.stride, 0.0F);
  }
  switch (item.cache->dtype) {
    case DType::f16:
      attend<hwy::float16_t>(item, s);
      break;
    case DType::bf16:
      attend<hwy::bfloat16_t>(item, s);
      break;
    default:
      attend<float>(item, s);
  }
  for (std::int64_t q = 0; q < item.queries; ++q) {
    const Vector inverse = hn::Set(d, 1.0F / s.total[q]);
    float* const out = item.out + q * item.stride;
    for (std::int64_t i = 0; i < dim; i += kLanes) {
      const Vector value = hn::Mul(hn::LoadU(d, s.sum + q * s.stride + i), inverse);
      if (dim - i >= kLanes) {
        hn::StoreU(value, d, out + i);
      } else {
        store_first(d, value, out + i, dim - i);
      }
    }
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(run_attention_item);

namespace {

static_assert(kMaxHeadDim * 2 * (kTileQueries + kBlockKeys) + kTileQueries * (kBlockKeys + 2) <=
              kScratchFloats);

std::int64_t tiles_of(const KvBatch& batch, std::int32_t sequence) {
  return (batch.new_tokens[sequence] + kTileQueries - 1) / kTileQueries;
}

}  // namespace

void attention(const CpuContext& context, TensorView out, TensorView query, const KvPages& cache,
               const KvBatch& batch, float scale) {
  check_batch("attention", cache, batch, query.rows);
  std::int64_t tiles = 0;
  std::int64_t pairs = 0;  // of query and key, at most
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    tiles += tiles_of(batch, s);
    pairs += std::int64_t{batch.new_tokens[s]} * batch.context[s];
  }
  const auto run = HWY_DYNAMIC_DISPATCH(run_attention_item);
  const auto body = [&](std::int64_t index, float* scratch) {
    std::int64_t tile = index / cache.heads;
    std::int32_t s = 0;
    for (; tile >= tiles_of(batch, s); ++s) tile -= tiles_of(batch, s);
    const std::int64_t first = tile * kTileQueries;
    const std::int64_t head = index % cache.heads;
    const std::int64_t offset =
        (batch.first_row[s] + first) * query.columns + head * cache.head_dim;
    AttentionItem item;
    item.out = static_cast<float*>(out.data) + offset;
    item.query = static_cast<const float*>(query.data) + offset;
    item.stride = query.columns;
    item.queries = std::min(kTileQueries, batch.new_tokens[s] - first);
    item.first_position = batch.context[s] - batch.new_tokens[s] + first;
    item.cache = &cache;
    item.pages = batch.pages + std::int64_t{s} * batch.max_pages;
    item.head = static_cast<std::int32_t>(head);
    item.scale = scale;
    run(item, scratch);
  };
  context.for_each(tiles * cache.heads, pairs * 2 * query.columns, body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
