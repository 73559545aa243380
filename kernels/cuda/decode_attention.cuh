// Attention of sequences with one new token over a paged cache. A block takes a span of kDecodeSpan
// tokens for one query head. A second kernel merges the spans in order, so that the bits of a row
// depend on its own sequence alone.
//
// Each lane of a group of lanes holds eight elements of a key, and the same ones of its value. The
// groups of a block take keys in turn, several at a time. Each has a maximum and sums of its own,
// which are merged at the end. Only scores go between lanes.
#pragma once

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/score_rule.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace sluice::cuda {

constexpr int kDecodeThreads = 256;
constexpr int kDecodeWarps = kDecodeThreads / 32;
constexpr int kKeysInFlight = 4;  // of a group

/// One launch: query heads [first_head, ..) of all sequences', numbered sequence by sequence.
struct DecodeCall {
  void* out;  // [.., query_heads x head_dim] of `activations`, as is query
  const void* query;
  float* partials;  // [heads of the launch, spans, head_dim + 2]: sums, maximum, total
  DType activations;
  kernels::KvPages cache;
  HeadMap heads;
  kernels::KvBatch batch;
  PageDivider divider;
  ScoreRule rule;  // in log2(e)
  int first_head;
  int spans;  // most a sequence has
};

/// Weighted sums of values: exp2(score - largest) are the weights, total is their sum.
struct DecodeSums {
  float largest = -INFINITY;
  float total = 0;
  float values[8] = {};
  float shift = 0;  // of every value

  /// What the exponents are relative to: every key may have the score -infinity.
  __device__ static float base_of(float high) { return high == -INFINITY ? 0.0F : high; }

  __device__ void rescale(float high) {
    const float factor = exp2_fast(largest - base_of(high));
    largest = high;
    total *= factor;
    shift *= factor;
    for (float& value : values) value *= factor;
  }

  /// With the lanes `distance` away: both get the sum.
  __device__ void merge_lanes(int distance) {
    rescale(fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, distance)));
    total += __shfl_xor_sync(0xFFFFFFFFU, total, distance);
    shift += __shfl_xor_sync(0xFFFFFFFFU, shift, distance);
    for (float& value : values) value += __shfl_xor_sync(0xFFFFFFFFU, value, distance);
  }
};

/// The place in a row of a lane's element `index`, 0 to 7.
template <DType kType>
__device__ inline int element_at(int lane, int index) {
  return first_element<kType>(lane) + (index < 4 ? index : kSecondQuad<kType> + index - 4);
}

/// One query head of one sequence, as a lane sees it. kRuled: scores are more than products.
template <DType kType, int kLanes, bool kRuled>
struct DecodeHead {
  static constexpr int kGroups = kDecodeThreads / kLanes;
  static constexpr int kStep = kGroups * kKeysInFlight;  // keys of an add()

  const ScoreRule& rule;
  const std::byte* keys;  // of its KV head, of a token at offset 0
  std::int64_t to_values;
  const std::int64_t* offsets;  // shared: token_offset() of the span's tokens, [kDecodeSpan]
  int head_dim;
  int lane;  // of the group
  int group;
  float slope;      // ALiBi's
  int ahead;        // position of the span's first key less the query's
  float query[8];   // scaled
  float query_sum;  // of these

  /// Keys of the span from `first` on; those from `count` on do not count.
  __device__ void add(int first, int count, DecodeSums& sums) const {
    PackedEight<kType> key[kKeysInFlight] = {};
    PackedEight<kType> value[kKeysInFlight] = {};
    for (int i = 0; i < kKeysInFlight; ++i) {
      const std::byte* const row = keys + offsets[first + i * kGroups + group];
      if (first_element<kType>(lane) < head_dim) {
        key[i] = load_eight<kType>(row, head_dim, lane);
        value[i] = load_eight<kType>(row + to_values, head_dim, lane);
      }
    }
    float score[kKeysInFlight];
    float wide[8];
    for (int i = 0; i < kKeysInFlight; ++i) {
      const ScaleShift of = widen_eight<kType>(key[i], wide);
      float sum = 0;
      for (int d = 0; d < 8; ++d) sum += query[d] * wide[d];
      score[i] = kPacked<kType> ? sum * of.scale + query_sum * of.shift : sum;
    }
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      for (float& sum : score) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    }
    if constexpr (kRuled) {
      for (int i = 0; i < kKeysInFlight; ++i) {
        score[i] = rule(score[i], slope, ahead + first + i * kGroups + group);
      }
    }
    float high = sums.largest;
    for (int i = 0; i < kKeysInFlight; ++i) {
      if (first + i * kGroups + group >= count) score[i] = -INFINITY;
      high = fmaxf(high, score[i]);
    }
    sums.rescale(high);
    for (int i = 0; i < kKeysInFlight; ++i) {
      const float weight = exp2_fast(score[i] - DecodeSums::base_of(high));
      sums.total += weight;
      const ScaleShift of = widen_eight<kType>(value[i], wide);
      const float scaled = kPacked<kType> ? weight * of.scale : weight;
      for (int d = 0; d < 8; ++d) sums.values[d] += scaled * wide[d];
      if constexpr (kPacked<kType>) sums.shift += weight * of.shift;
    }
  }
};

/// Where a span's sums go, and where they come from: [head_dim] values, maximum, total.
__device__ inline float* partial_at(const DecodeCall& call, int head, int span) {
  return call.partials +
         (std::int64_t{head} * call.spans + span) * (std::int64_t{call.cache.head_dim} + 2);
}

/// Element `d` of the sums at `parts` + i * stride for i < count, merged in order.
__device__ inline DecodeSums merge_parts(const float* parts, int count, std::int64_t stride,
                                         int head_dim, int d) {
  DecodeSums sums;
  for (int i = 0; i < count; ++i) {
    sums.largest = fmaxf(sums.largest, parts[i * stride + head_dim]);
  }
  for (int i = 0; i < count; ++i) {
    const float* const part = parts + i * stride;
    const float weight = exp2_fast(part[head_dim] - DecodeSums::base_of(sums.largest));
    sums.values[0] += weight * part[d];
    sums.total += weight * part[head_dim + 1];
  }
  return sums;
}

/// The sums of a block's warps, kStride apart, merged: the result of a row, or of one of its spans.
template <int kStride>
__device__ inline void put_span(const DecodeCall& call, const float* parts, std::int64_t row,
                                int context, int of_launch, int span) {
  const int dim = call.cache.head_dim;
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kDecodeThreads) {
    const DecodeSums all = merge_parts(parts, kDecodeWarps, kStride, dim, d);
    if (context <= kDecodeSpan) {
      put_element(call.activations, call.out, row + d, all.values[0] / all.total);
      continue;
    }
    float* const to = partial_at(call, of_launch, span);
    to[d] = all.values[0];
    if (d == 0) {
      to[dim] = all.largest;
      to[dim + 1] = all.total;
    }
  }
}

/// Grid: x query heads of the launch x spans. kLanes: lanes_of(head_dim). kRuled: where
/// call.rule.plain is false.
template <DType kType, int kLanes, bool kRuled>
__global__ void __launch_bounds__(kDecodeThreads) decode_attention_kernel(DecodeCall call) {
  constexpr int kStride = kLanes * 8 + 2;
  __shared__ std::int64_t offsets[kDecodeSpan];
  __shared__ float parts[kDecodeWarps * kStride];
  const int heads = call.heads.query_heads;
  const int dim = call.cache.head_dim;
  const int of_launch = static_cast<int>(blockIdx.x) / call.spans;
  const int span = static_cast<int>(blockIdx.x) % call.spans;
  const int s = (call.first_head + of_launch) / heads;
  const int head = (call.first_head + of_launch) % heads;
  const int context = call.batch.context[s];
  const int first = span * kDecodeSpan;
  const int begin = kRuled ? call.rule.first_key(context - 1) : 0;  // of what the query sees
  if (call.batch.new_tokens[s] != 1 || first >= context) return;
  if (kRuled && first + kDecodeSpan <= begin) return;
  const int end = min(first + kDecodeSpan, context);
  const int thread = static_cast<int>(threadIdx.x);

  const std::int64_t vector_bytes = row_bytes<kType>(dim);
  DecodeHead<kType, kLanes, kRuled> lane{
      call.rule,
      static_cast<const std::byte*>(call.cache.base) +
          head_offset(call.cache, call.heads.kv_head(head), false, vector_bytes),
      head_offset(call.cache, 0, true, vector_bytes),
      offsets,
      dim,
      thread % kLanes,
      thread / kLanes,
      kRuled ? call.rule.slope(head) : 0.0F,
      first - (context - 1),
      {},
      0};
  static_assert(kDecodeThreads == kDecodeSpan);
  // For those that are not seen, where one that is seen lies.
  int position = min(first + thread, end - 1);
  if constexpr (kRuled) position = max(position, begin);
  offsets[thread] =
      token_offset(call.cache, call.batch.pages + std::int64_t{s} * call.batch.max_pages,
                   call.divider, position, vector_bytes);
  const std::int64_t row = (std::int64_t{call.batch.first_row[s]} * heads + head) * dim;
  for (int i = 0; i < 8; ++i) {
    const int d = element_at<kType>(lane.lane, i);
    lane.query[i] =
        d < dim ? element_of(call.activations, call.query, row + d) * call.rule.factor : 0.0F;
    lane.query_sum += lane.query[i];
  }
  __syncthreads();

  DecodeSums sums;
  const int count = end - first;
  const int skipped = kRuled ? max(0, begin - first) / lane.kStep * lane.kStep : 0;
  for (int key = skipped; key < count; key += lane.kStep) lane.add(key, count, sums);
  for (int distance = kLanes; distance < 32; distance *= 2) sums.merge_lanes(distance);
  float* const part = parts + thread / 32 * kStride;
  if (thread % 32 < kLanes) {
    for (int i = 0; i < 8; ++i) {
      const int d = element_at<kType>(lane.lane, i);
      if (d < dim) part[d] = sums.values[i] + sums.shift;
    }
    if (lane.lane == 0) {
      part[dim] = sums.largest;
      part[dim + 1] = sums.total;
    }
  }
  __syncthreads();
  put_span<kStride>(call, parts, row, context, of_launch, span);
}

/// Grid: x query heads of the launch. For sequences of more than one span.
static __global__ void merge_spans_kernel(DecodeCall call) {
  const int heads = call.heads.query_heads;
  const int dim = call.cache.head_dim;
  const int s = (call.first_head + static_cast<int>(blockIdx.x)) / heads;
  const int head = (call.first_head + static_cast<int>(blockIdx.x)) % heads;
  const int context = call.batch.context[s];
  if (call.batch.new_tokens[s] != 1 || context <= kDecodeSpan) return;
  const int first = call.rule.first_key(context - 1) / kDecodeSpan;  // of the spans that are seen
  const int count = (context + kDecodeSpan - 1) / kDecodeSpan - first;
  const float* const parts = partial_at(call, static_cast<int>(blockIdx.x), first);
  const std::int64_t row = (std::int64_t{call.batch.first_row[s]} * heads + head) * dim;
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += static_cast<int>(blockDim.x)) {
    const DecodeSums all = merge_parts(parts, count, dim + 2, dim, d);
    put_element(call.activations, call.out, row + d, all.values[0] / all.total);
  }
}

}  // namespace sluice::cuda
