// What every kind of attention() does around its blocks of keys: the scratch of an item, the walk
// through the pages of a head, queries read and results written.
//
// Every instruction set has its own copy (Highway), hence the toggling include guard.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#if defined(SLUICE_KERNELS_CPU_ATTENTION_WALK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_ATTENTION_WALK_INL_H_
#undef SLUICE_KERNELS_CPU_ATTENTION_WALK_INL_H_
#else
#define SLUICE_KERNELS_CPU_ATTENTION_WALK_INL_H_
#endif

#include "kernels/cpu/attention_block-inl.h"
#include "kernels/cpu/narrow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// The scratch of an item; what follows it is free.
HWY_INLINE Scratch scratch_of(const AttentionItem& item, float*& memory) {
  Scratch s;
  s.stride = attention_stride(item.cache->head_dim);
  const auto take = [&](std::int64_t floats) { return std::exchange(memory, memory + floats); };
  s.query = take(kTileQueries * s.stride);
  s.weight = take(kTileQueries * kBlockKeys);
  s.keys = take(kBlockKeys * s.stride);
  s.values = take(kBlockKeys * s.stride);
  const std::int64_t floats = span_floats(item.queries(), item.cache->head_dim);
  s.span = running_at(take(floats), item.queries(), s.stride);
  s.whole = running_at(take(floats), item.queries(), s.stride);
  s.soft_cap = item.rule.soft_cap;
  s.slope = nullptr;
  if (item.rule.alibi > 0) {
    s.slope = take(kTileQueries);
    for (std::int64_t q = 0; q < item.queries(); ++q) {
      s.slope[q] = q < item.heads
                       ? item.rule.alibi * alibi_slope(item.query_head + static_cast<int>(q),
                                                       item.all_query_heads)
                       : s.slope[q - item.heads];
    }
  }
  return s;
}

/// Copies rows, widened and zero-padded to whole vectors.
template <class T>
HWY_INLINE void widen_rows(const Byte* const* rows, std::int64_t offset, std::int64_t count,
                           std::int64_t length, std::int64_t stride, float* to) {
  const Floats d;
  for (std::int64_t i = 0; i < count; ++i) {
    float* const row = to + i * stride;
    widen(d, reinterpret_cast<const T*>(rows[i] + offset), length, row);
    std::fill(row + length, row + stride, 0.0F);
  }
}

/// Walks through the pages of one head.
class KeyWalk {
 public:
  KeyWalk(const AttentionItem& item, std::int64_t first_key, std::int64_t row_bytes)
      : cache_(*item.cache),
        page_(item.pages + first_key / cache_.page_tokens),
        token_(first_key % cache_.page_tokens),
        row_bytes_(row_bytes),
        head_offset_(std::int64_t{item.kv_head} * cache_.page_tokens * row_bytes) {}

  /// The rows of the next `count` keys. All of them must be in pages.
  HWY_INLINE void next(std::int64_t count, const Byte** rows) {
    for (std::int64_t done = 0; done < count;) {
      const Byte* const row = static_cast<const Byte*>(cache_.base) +
                              *page_ * cache_.page_stride_bytes + head_offset_ +
                              token_ * row_bytes_;
      const std::int64_t run = std::min(count - done, cache_.page_tokens - token_);
      for (std::int64_t i = 0; i < run; ++i) rows[done + i] = row + i * row_bytes_;
      done += run;
      token_ += run;
      if (token_ == cache_.page_tokens) {
        token_ = 0;
        ++page_;
      }
    }
  }

 private:
  const KvPages& cache_;
  const std::int32_t* page_;
  std::int64_t token_;
  std::int64_t row_bytes_;
  std::int64_t head_offset_;
};

/// Keys of the item's cache: `from` begins a block, of which nobody sees the first `unseen` keys.
struct KeyRange {
  std::int64_t from;
  std::int64_t to;
  std::int64_t unseen;
};

/// block(rows, next_rows, first_key, count) for every block of the range.
template <class Block>
HWY_INLINE void for_each_block(const AttentionItem& item, const KeyRange& range,
                               std::int64_t row_bytes, const Block& block) {
  KeyWalk walk(item, range.from + range.unseen, row_bytes);
  const Byte* rows[2][kBlockKeys];
  std::int64_t count = std::min(kBlockKeys, range.to - range.from);
  walk.next(count - range.unseen, rows[0] + range.unseen);
  std::fill(rows[0], rows[0] + range.unseen, rows[0][range.unseen]);
  std::fill(rows[0] + count, rows[0] + kBlockKeys, rows[0][range.unseen]);
  int now = 0;
  for (std::int64_t first_key = range.from; first_key < range.to; first_key += kBlockKeys) {
    const std::int64_t next_key = first_key + kBlockKeys;
    const std::int64_t next_count = std::clamp(range.to - next_key, std::int64_t{0}, kBlockKeys);
    const Byte** const next = rows[1 - now];
    walk.next(next_count, next);
    // Any row will do where there is none: it was just read.
    std::fill(next + next_count, next + kBlockKeys, next_count > 0 ? next[0] : rows[now][0]);
    block(rows[now], next, first_key, count);
    now = 1 - now;
    count = next_count;
  }
}

HWY_INLINE std::int64_t width_of(const AttentionItem& item) {
  return (item.cache->head_dim + kLanes - 1) / kLanes * kLanes;
}

/// Query q of the item, or its output.
template <class Bytes>
HWY_INLINE Bytes* row_of(const AttentionItem& item, Bytes* rows, std::int64_t q) {
  const std::int64_t at =
      q / item.heads * item.stride + q % item.heads * std::int64_t{item.cache->head_dim};
  return rows + at * static_cast<std::int64_t>(size_of(item.dtype));
}

/// Overwrites the sums of `whole` where the output is narrower than they are.
inline void write_out(const AttentionItem& item, const Running& whole) {
  const Floats d;
  const std::int64_t dim = item.cache->head_dim;
  const std::int64_t stride = attention_stride(dim);
  for (std::int64_t q = 0; q < item.queries(); ++q) {
    const Vector inverse = hn::Set(d, 1.0F / whole.total[q]);
    std::byte* const row = row_of(item, item.out, q);
    if (item.dtype != DType::f32) {
      multiply(d, whole.sum + q * stride, width_of(item), inverse);
      narrow_to_halves(whole.sum + q * stride, dim, item.dtype,
                       reinterpret_cast<std::uint16_t*>(row));
      continue;
    }
    auto* const out = reinterpret_cast<float*>(row);
    for (std::int64_t i = 0; i < dim; i += kLanes) {
      const Vector value = hn::Mul(hn::LoadU(d, whole.sum + q * stride + i), inverse);
      if (dim - i >= kLanes) {
        hn::StoreU(value, d, out + i);
      } else {
        store_first(d, value, out + i, dim - i);
      }
    }
  }
}

/// Query q of the item, widened, scaled, zero-padded to [stride].
HWY_INLINE void read_query(const AttentionItem& item, std::int64_t q, float* to) {
  const Floats d;
  const std::int64_t dim = item.cache->head_dim;
  const std::byte* const from = row_of(item, item.query, q);
  switch (item.dtype) {
    case DType::f16:
      widen(d, reinterpret_cast<const hwy::float16_t*>(from), dim, to);
      break;
    case DType::bf16:
      widen(d, reinterpret_cast<const hwy::bfloat16_t*>(from), dim, to);
      break;
    default:
      widen(d, reinterpret_cast<const float*>(from), dim, to);
  }
  for (std::int64_t i = 0; i < dim; ++i) to[i] *= item.rule.scale;
  std::fill(to + dim, to + attention_stride(dim), 0.0F);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_WALK_INL_H_
