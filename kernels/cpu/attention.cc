// Causal attention over pages, with a running softmax over blocks of keys.
//
// An item of work has up to kTileQueries queries: some consecutive new tokens of a sequence, and of
// each the query heads that share a KV head. It goes through the keys in blocks of kBlockKeys, and
// these in spans of kSpanKeys, both counted from the sequence's first token. Each span is summed up
// on its own, and the spans are put together in order. So the order of a query's sums depends on
// its position alone: not on how its prompt was cut, nor on pages, heads or threads.
//
// Per block: scores (dot products along the head), soft cap and linear bias where the rule has
// them, maximum, exponentials, and the values added key by key. A window takes keys out of sight;
// blocks that no query of an item sees are passed over. Where several queries share 16-bit keys and
// values, these are widened once per block. An item of one token (decoding) waits for memory more
// than it computes. It fetches the next block's keys during the scores and the next block's values
// from the softmax on, a few rows at a time.
//
// Cost per query and key: 4 head_dim flop; reads 2 rows of the cache per key and item.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/cpu/attention_block-inl.h"
#include "kernels/cpu/attention_codes-inl.h"
#include "kernels/cpu/attention_walk-inl.h"
#include "kernels/cpu/operations.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// Adds the span `part` to the whole. `first`: there is nothing in the whole yet.
HWY_INLINE void merge(const Running& whole, const Running& part, std::int64_t q,
                      std::int64_t stride, std::int64_t width, bool first) {
  const Floats d;
  float* const to = whole.sum + q * stride;
  const float* const from = part.sum + q * stride;
  if (first) {
    std::copy(from, from + width, to);
    whole.maximum[q] = part.maximum[q];
    whole.total[q] = part.total[q];
    return;
  }
  const float maximum = std::max(whole.maximum[q], part.maximum[q]);
  const Vector of_whole = exp_down(d, hn::Set(d, whole.maximum[q] - maximum));
  const Vector of_part = exp_down(d, hn::Set(d, part.maximum[q] - maximum));
  for (std::int64_t i = 0; i < width; i += kLanes) {
    const Vector scaled = hn::Mul(hn::LoadU(d, to + i), of_whole);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, from + i), of_part, scaled), d, to + i);
  }
  whole.total[q] = whole.total[q] * hn::GetLane(of_whole) + part.total[q] * hn::GetLane(of_part);
  whole.maximum[q] = maximum;
}

HWY_INLINE void merge_span(const AttentionItem& item, const Running& whole, const Running& part,
                           std::int64_t span) {
  const std::int64_t stride = attention_stride(item.cache->head_dim);
  const auto [begin, end] = queries_that_see(item, span * kSpanKeys, (span + 1) * kSpanKeys);
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t first_key = first_key_of(item.rule, item.first_position + q / item.heads);
    merge(whole, part, q, stride, width_of(item), first_key / kSpanKeys == span);
  }
}

/// body(seen, rows, next, count) for each block of a range of keys, and the whole is put together
/// at the end of each span.
template <class Body>
HWY_INLINE void attend_range(const AttentionItem& item, const Scratch& s, std::int64_t row_bytes,
                             const Body& body) {
  const std::int64_t end = item.end_key();
  KeyRange range = {item.first_key() / kBlockKeys * kBlockKeys, end, 0};
  if (item.spans != nullptr) {
    range.from = std::max(range.from, item.span * kSpanKeys);
    range.to = std::min(end, (item.span + 1) * kSpanKeys);
  }
  range.unseen = std::max<std::int64_t>(0, item.first_key() - range.from);
  const std::int64_t values_offset =
      std::int64_t{item.cache->kv_heads} * item.cache->page_tokens * row_bytes;
  for_each_block(item, range, row_bytes,
                 [&](const Byte* const* rows, const Byte* const* next, std::int64_t first_key,
                     std::int64_t count) {
                   const Sight seen(item, first_key);
                   body(seen, BlockRows{rows, values_offset},
                        NextRows{item.tokens == 1 ? next : nullptr, values_offset, row_bytes},
                        count);
                   const std::int64_t last = first_key + count;
                   const bool done = last % kSpanKeys == 0 || last == end;
                   if (!done || item.spans != nullptr) return;
                   merge_span(item, s.whole, s.span, first_key / kSpanKeys);
                 });
}

template <class T>
void attend(const AttentionItem& item, const Scratch& s) {
  const std::int64_t dim = item.cache->head_dim;
  const std::int64_t width = width_of(item);
  const bool direct = width == dim && (sizeof(T) == sizeof(float) || item.queries() == 1);
  const Byte* widened[kBlockKeys];
  for (std::int64_t i = 0; i < kBlockKeys; ++i) {
    widened[i] = reinterpret_cast<const Byte*>(s.keys + i * s.stride);
  }
  const auto between = reinterpret_cast<const Byte*>(s.values) - widened[0];
  const auto body = [&](const Sight& seen, const BlockRows& rows, const NextRows& next,
                        std::int64_t count) {
    if (direct) {
      attend_block<T>(s, seen, rows, next, count, width);
      return;
    }
    widen_rows<T>(rows.keys, 0, count, dim, s.stride, s.keys);
    widen_rows<T>(rows.keys, rows.values_offset, count, dim, s.stride, s.values);
    attend_block<float>(s, seen, {widened, between}, next, count, width);
  };
  attend_range(item, s, dim * static_cast<std::int64_t>(sizeof(T)), body);
}

template <DType kType>
void attend_quantized(const AttentionItem& item, const Scratch& s, float* memory) {
  const std::int64_t width = width_of(item);
  const auto take = [&](std::int64_t floats) { return std::exchange(memory, memory + floats); };
  CodeQuery query;
  query.groups = (item.cache->head_dim + kQuantGroup - 1) / kQuantGroup;
  query.units = take(kTileQueries * query.groups);
  query.sums = take(kTileQueries * query.groups);
  float* const products = take(kTileQueries * kBlockKeys);
  // Nothing else needs the room for widened keys.
  query.shorts = reinterpret_cast<std::int16_t*>(s.keys);
  shorten_queries(s, item.queries(), width, query);
  const auto body = [&](const Sight& seen, const BlockRows& rows, const NextRows& next,
                        std::int64_t count) {
    attend_codes<kType>(s, seen, CodeBlock{rows, next, count, query, products}, width);
  };
  attend_range(item, s, static_cast<std::int64_t>(row_bytes_of(kType, item.cache->head_dim)), body);
}

void run_attention_item(const AttentionItem& item, float* memory) {
  Scratch s = scratch_of(item, memory);
  if (item.spans != nullptr) {
    s.span = running_at(item.sums_of(item.span), item.queries(), s.stride);
  }
  for (std::int64_t q = 0; q < item.queries(); ++q) read_query(item, q, s.query + q * s.stride);
  switch (item.cache->dtype) {
    case DType::f16:
      attend<hwy::float16_t>(item, s);
      break;
    case DType::bf16:
      attend<hwy::bfloat16_t>(item, s);
      break;
    case DType::q8:
      attend_quantized<DType::q8>(item, s, memory);
      break;
    case DType::q4:
      attend_quantized<DType::q4>(item, s, memory);
      break;
    default:
      attend<float>(item, s);
  }
  if (item.spans == nullptr) write_out(item, s.whole);
}

void merge_attention_item(const AttentionItem& item, float* memory) {
  const std::int64_t stride = attention_stride(item.cache->head_dim);
  const std::int64_t queries = item.queries();
  const Running whole = running_at(memory, queries, stride);
  for (std::int64_t span = item.first_key() / kSpanKeys; sees_span(item, span); ++span) {
    merge_span(item, whole, running_at(item.sums_of(span), queries, stride), span);
  }
  write_out(item, whole);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/attention_plan.h"

namespace sluice::kernels {

HWY_EXPORT(run_attention_item);
HWY_EXPORT(merge_attention_item);

static_assert(kMaxHeadDim * (3 * kTileQueries + 2 * kBlockKeys) + kTileQueries * (kBlockKeys + 5) +
                  kTileQueries * (2 * kMaxHeadDim / kQuantGroup + kBlockKeys) <=
              kScratchFloats);

void attention(const CpuContext& context, TensorView out, TensorView query, const KvPages& cache,
               const KvBatch& batch, const AttentionRule& rule) {
  check_batch("attention", cache, batch, query.rows, rule.window);
  if (rule.kept_millionths > 0) {
    return sparse_attention(context, out, query, cache, batch, rule);
  }
  const AttentionPlan plan(out, query, cache, batch, rule, context);
  const auto run = HWY_DYNAMIC_DISPATCH(run_attention_item);
  context.for_each(plan.items(), plan.operations(), [&](std::int64_t index, float* scratch) {
    const AttentionItem item = plan.item(index);
    if (item.spans == nullptr || sees_span(item, item.span)) run(item, scratch);
  });
  const auto put_together = HWY_DYNAMIC_DISPATCH(merge_attention_item);
  context.for_each(
      plan.shared_items(), plan.shared_floats(),
      [&](std::int64_t index, float* scratch) { put_together(plan.shared_item(index), scratch); });
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
