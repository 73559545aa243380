// Attention that reads few values (AttentionRule::kept_millionths).
//
// An item of work is one query token with the query heads of one KV head. It scores all keys in
// sight, block by block as attention() does. It keeps the scores of all of them, so that the
// softmax knows the largest before the first exponential. Then it sums the weights of its heads,
// finds the smallest sum that is kept, and reads the values of those keys only. Every step goes
// through the keys in their order and depends on the query alone, so that any placement, batch and
// thread gives the same bits.
//
// Cost per query and key in sight: 2 head_dim flop and one row of the cache, and four passes over
// the sums; per key that is kept the other 2 head_dim flop, and its value.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sparse_attention.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cpu/attention_walk-inl.h"
#include "kernels/cpu/kept_keys.h"
#include "kernels/cpu/operations.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// Some of an item's heads, from `first` on: no more than a tile of queries.
HWY_INLINE AttentionItem part_of(const AttentionItem& item, std::int64_t first) {
  AttentionItem part = item;
  part.heads = std::min(kTileQueries, item.heads - first);
  const std::int64_t bytes =
      first * item.cache->head_dim * static_cast<std::int64_t>(size_of(item.dtype));
  part.out += bytes;
  part.query += bytes;
  part.query_head += static_cast<std::int32_t>(first);
  return part;
}

HWY_INLINE std::int64_t first_block_of(const AttentionItem& item) {
  return item.first_key() / kBlockKeys * kBlockKeys;
}

/// Rows as attend_block() takes them: in place, or widened at `to`.
template <class T>
class WholeRows {
 public:
  WholeRows(const AttentionItem& part, float* to, std::int64_t stride)
      : dim_(part.cache->head_dim), to_(to), stride_(stride) {
    const std::int64_t width = (dim_ + kLanes - 1) / kLanes * kLanes;
    direct_ = width == dim_ && (sizeof(T) == sizeof(float) || part.queries() == 1);
    for (std::int64_t i = 0; i < kBlockKeys; ++i) {
      widened_[i] = reinterpret_cast<const Byte*>(to + i * stride);
    }
  }
  /// body(rows of T or of floats, their type as a null pointer).
  template <class Body>
  HWY_INLINE void with(const Byte* const* rows, std::int64_t count, const Body& body) const {
    if (direct_) return body(rows, static_cast<const T*>(nullptr));
    widen_rows<T>(rows, 0, count, dim_, stride_, to_);
    body(widened_, static_cast<const float*>(nullptr));
  }

 private:
  std::int64_t dim_;
  float* to_;
  std::int64_t stride_;
  bool direct_;
  const Byte* widened_[kBlockKeys];
};

/// weight: [heads of the part, stride]: the softmax before its division by `total` [heads].
template <class T>
void soften_all(const AttentionItem& part, const Scratch& s, float* weight, std::int64_t stride,
                float* total) {
  const std::int64_t row_bytes = part.cache->head_dim * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t width = width_of(part);
  const std::int64_t begin = first_block_of(part);
  const KeyRange range = {begin, part.end_key(), part.first_key() - begin};
  const WholeRows<T> keys(part, s.keys, s.stride);
  float* const maximum = s.span.maximum;
  std::fill_n(maximum, part.heads, -std::numeric_limits<float>::infinity());
  for_each_block(part, range, row_bytes,
                 [&](const Byte* const* rows, const Byte* const* next, std::int64_t first_key,
                     std::int64_t count) {
                   const Sight seen(part, first_key);
                   keys.with(rows, count, [&](const Byte* const* whole, const auto* type) {
                     using Row = std::remove_cvref_t<decltype(*type)>;
                     score_block<Row>(s, seen, {whole, 0}, {next, 0, row_bytes}, count, width);
                   });
                   if (s.bends()) bend_scores(s, seen);
                   for (std::int64_t q = 0; q < part.heads; ++q) {
                     float* const score = s.weight + q * kBlockKeys;
                     maximum[q] = std::max(maximum[q], highest_score(seen, q, score));
                     std::copy_n(score, kBlockKeys, weight + q * stride + first_key - begin);
                   }
                 });
  for (std::int64_t q = 0; q < part.heads; ++q) {
    total[q] = 0;
    for (std::int64_t key = begin; key < part.end_key(); key += kBlockKeys) {
      total[q] += weigh(maximum[q], weight + q * stride + key - begin);
    }
  }
}

/// sums[key] of the softmax of all heads.
HWY_INLINE void sum_heads(const KeptKeys& keys, std::int64_t heads) {
  const Floats d;
  std::fill_n(keys.sums, keys.stride, 0.0F);
  for (std::int64_t q = 0; q < heads; ++q) {
    const Vector inverse = hn::Set(d, 1.0F / keys.total[q]);
    const float* const weight = keys.weight + q * keys.stride;
    for (std::int64_t i = 0; i < keys.used; i += kLanes) {
      const Vector sum = hn::LoadU(d, keys.sums + i);
      hn::StoreU(hn::MulAdd(hn::LoadU(d, weight + i), inverse, sum), d, keys.sums + i);
    }
  }
}

/// The values of the keys that are kept, weighted; writes the result.
template <class T>
void add_kept(const AttentionItem& part, const Scratch& s, const KeptKeys& keys,
              std::int64_t first_head) {
  const WholeRows<T> values(part, s.values, s.stride);
  const std::int64_t width = width_of(part);
  RowFetch nothing({}, 0, 1);
  std::fill_n(s.whole.sum, part.heads * s.stride, 0.0F);
  for (std::int64_t first = 0; first < keys.count; first += kBlockKeys) {
    const std::int64_t count = std::min(kBlockKeys, keys.count - first);
    const Byte* rows[kBlockKeys];
    for (std::int64_t i = 0; i < count; ++i) {
      rows[i] = reinterpret_cast<const Byte*>(keys.value_of(part, keys.positions[first + i]));
    }
    for (std::int64_t q = 0; q < part.heads; ++q) {
      std::copy_n(keys.weight + (first_head + q) * keys.stride + first, count,
                  s.weight + q * kBlockKeys);
    }
    AttentionItem of_block = part;  // whose query sees the whole of this block
    of_block.rule.window = 0;
    of_block.first_position = count - 1;
    const Sight seen(of_block, 0);
    values.with(rows, count, [&](const Byte* const* whole, const auto* type) {
      using Row = std::remove_cvref_t<decltype(*type)>;
      add_seen_values<Row>(seen, s.weight, {whole, 0}, s.whole.sum, s.stride, width, nothing);
    });
  }
  std::copy_n(keys.total + first_head, part.heads, s.whole.total);
  write_out(part, s.whole);
}

template <class T>
void attend_sparsely(const AttentionItem& item, KeptKeys& keys, float* memory) {
  const auto for_parts = [&](const auto& body) {
    for (std::int64_t first = 0; first < item.heads; first += kTileQueries) {
      const AttentionItem part = part_of(item, first);
      float* free = memory;
      body(part, scratch_of(part, free), first);
    }
  };
  for_parts([&](const AttentionItem& part, const Scratch& s, std::int64_t first) {
    for (std::int64_t q = 0; q < part.heads; ++q) read_query(part, q, s.query + q * s.stride);
    soften_all<T>(part, s, keys.weight + first * keys.stride, keys.stride, keys.total + first);
  });
  keys.used = item.end_key() - first_block_of(item);
  sum_heads(keys, item.heads);
  keep_largest(item, first_block_of(item), keys);
  for_parts([&](const AttentionItem& part, const Scratch& s, std::int64_t first) {
    add_kept<T>(part, s, keys, first);
  });
}

void run_sparse_item(const AttentionItem& item, KeptKeys keys, float* memory) {
  switch (item.cache->dtype) {
    case DType::f16:
      return attend_sparsely<hwy::float16_t>(item, keys, memory);
    case DType::bf16:
      return attend_sparsely<hwy::bfloat16_t>(item, keys, memory);
    default:
      return attend_sparsely<float>(item, keys, memory);
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <fmt/core.h>

#include "kernels/device/error.h"

namespace sluice::kernels {

HWY_EXPORT(run_sparse_item);

namespace {

/// One query for each new token and KV head.
class SparsePlan {
 public:
  SparsePlan(TensorView out, TensorView query, const KvPages& cache, const KvBatch& batch,
             const AttentionRule& rule)
      : out_(out), query_(query), cache_(cache), batch_(batch), rule_(rule) {
    group_ = query.columns / (std::int64_t{cache.kv_heads} * cache.head_dim);
    for (std::int32_t s = 0; s < batch.sequences; ++s) {
      const std::int64_t keys = keys_of_sequence(batch.context[s], rule.window);
      most_keys_ = std::max(most_keys_, keys);
      tokens_ += batch.new_tokens[s];
      operations_ += batch.new_tokens[s] * keys * query.columns;
    }
  }

  std::int64_t items() const { return tokens_ * cache_.kv_heads; }
  std::int64_t operations() const { return operations_; }
  std::int64_t floats_of_item() const { return KeptKeys::floats(group_, most_keys_); }
  KeptKeys keys_at(float* memory) const { return KeptKeys::at(memory, group_, most_keys_); }

  AttentionItem item(std::int64_t index) const {
    std::int32_t s = 0;
    for (; index >= batch_.new_tokens[s] * std::int64_t{cache_.kv_heads}; ++s) {
      index -= batch_.new_tokens[s] * std::int64_t{cache_.kv_heads};
    }
    const std::int64_t token = index / cache_.kv_heads;
    const std::int64_t kv_head = index % cache_.kv_heads;
    const std::int64_t offset =
        ((batch_.first_row[s] + token) * query_.columns + kv_head * group_ * cache_.head_dim) *
        static_cast<std::int64_t>(size_of(query_.dtype));
    AttentionItem item;
    item.out = static_cast<std::byte*>(out_.data) + offset;
    item.query = static_cast<const std::byte*>(query_.data) + offset;
    item.dtype = query_.dtype;
    item.stride = query_.columns;
    item.tokens = 1;
    item.heads = group_;
    item.first_position = batch_.context[s] - batch_.new_tokens[s] + token;
    item.cache = &cache_;
    item.pages = batch_.pages + std::int64_t{s} * batch_.max_pages;
    if (cache_.old_values != nullptr) {
      item.old_pages = batch_.old_pages + std::int64_t{s} * batch_.max_pages;
      item.first_new = batch_.context[s] - batch_.new_tokens[s];
    }
    item.kv_head = static_cast<std::int32_t>(kv_head);
    item.query_head = static_cast<std::int32_t>(kv_head * group_);
    item.all_query_heads = static_cast<std::int32_t>(group_ * cache_.kv_heads);
    item.rule = rule_;
    return item;
  }

 private:
  TensorView out_;
  TensorView query_;
  const KvPages& cache_;
  const KvBatch& batch_;
  AttentionRule rule_;
  std::int64_t group_ = 1;
  std::int64_t most_keys_ = 0;
  std::int64_t tokens_ = 0;
  std::int64_t operations_ = 0;
};

}  // namespace

void sparse_attention(const CpuContext& context, TensorView out, TensorView query,
                      const KvPages& cache, const KvBatch& batch, const AttentionRule& rule) {
  const SparsePlan plan(out, query, cache, batch, rule);
  constexpr std::int64_t kFloats = kSharedBytes / static_cast<std::int64_t>(sizeof(float));
  const std::int64_t room = kFloats / std::max<std::int64_t>(plan.floats_of_item(), 1);
  if (room < 1) {
    throw DeviceError(fmt::format(
        "attention: the scores of {} query heads over the keys in sight take {} floats; sparse "
        "attention has room for {}; this is a bug of the caller",
        query.columns / cache.head_dim / cache.kv_heads, plan.floats_of_item(), kFloats));
  }
  const std::int64_t workers = std::min<std::int64_t>(room, context.pool->threads());
  std::atomic<std::int64_t> next = 0;
  const auto run = HWY_DYNAMIC_DISPATCH(run_sparse_item);
  context.for_each(workers, plan.operations(), [&](std::int64_t worker, float* scratch) {
    float* const own = reinterpret_cast<float*>(context.shared) + worker * plan.floats_of_item();
    for (std::int64_t i = next++; i < plan.items(); i = next++) {
      run(plan.item(i), plan.keys_at(own), scratch);
    }
  });
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
