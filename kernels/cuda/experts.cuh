// Around the products of experts: which experts each row goes to (route), their rows in order, and
// what they give added up (add_rows). A few numbers a row: nothing here bounds a layer.
#pragma once

#include "kernels/cuda/chunks.cuh"
#include "kernels/ops.h"

namespace sluice::cuda {

constexpr unsigned kRouteThreads = 64;
constexpr unsigned kSortThreads = 256;
constexpr float kNoScore = -3.402823466e38F;

/// One row on its way to its experts: kernels/ops.h, RouterRule. A thread does it all.
struct RowRouter {
  float* scores;  // [experts]
  std::int32_t experts;
  DeviceVector correction;
  kernels::RouterRule rule;
  unsigned long long out;  // groups that are out

  __device__ float compared(std::int32_t expert) const {
    const float added =
        correction.data == nullptr ? 0.0F : element_of(correction.dtype, correction.data, expert);
    return scores[expert] + added;
  }

  /// The best of [first, end) that is none of the `count` experts at `but`, and not in a group that
  /// is out. Numbers that compare with nothing come last.
  __device__ std::int32_t best(const std::int32_t* but, std::int32_t count, std::int32_t first,
                               std::int32_t end) const {
    const std::int32_t group = experts / rule.groups;
    std::int32_t found = -1;
    float most = kNoScore;
    for (std::int32_t e = first; e < end; ++e) {
      bool taken = (out >> (e / group) & 1U) != 0;
      for (std::int32_t k = 0; k < count; ++k) taken = taken || but[k] == e;
      if (taken) continue;
      const float value = compared(e);
      if (found >= 0 && !(value > most)) continue;
      found = e;
      most = value == value ? value : kNoScore;
    }
    return found;
  }

  __device__ void score() {
    if (rule.score == kernels::RouterScore::sigmoid) {
      for (std::int32_t e = 0; e < experts; ++e) scores[e] = 1.0F / (1.0F + expf(-scores[e]));
      return;
    }
    float most = scores[0];
    for (std::int32_t e = 1; e < experts; ++e) most = fmaxf(most, scores[e]);
    float sum = 0;
    for (std::int32_t e = 0; e < experts; ++e) {
      scores[e] = expf(scores[e] - most);
      sum += scores[e];
    }
    for (std::int32_t e = 0; e < experts; ++e) scores[e] /= sum;
  }

  __device__ float good_of(std::int32_t group) const {
    const std::int32_t size = experts / rule.groups;
    std::int32_t taken[kernels::kMostChosenExperts];
    float good = 0;
    for (std::int32_t k = 0; k < rule.group_best && k < size && k < kernels::kMostChosenExperts;
         ++k) {
      taken[k] = best(taken, k, group * size, (group + 1) * size);
      good += compared(taken[k]);
    }
    return good;
  }

  __device__ void keep_groups() {
    if (rule.kept_groups == rule.groups) return;
    float goods[kernels::kMostExpertGroups];
    for (std::int32_t g = 0; g < rule.groups; ++g) goods[g] = good_of(g);
    unsigned long long kept = 0;
    for (std::int32_t k = 0; k < rule.kept_groups; ++k) {
      std::int32_t found = -1;
      for (std::int32_t g = 0; g < rule.groups; ++g) {
        if ((kept >> g & 1U) != 0) continue;
        if (found < 0 || goods[g] > goods[found]) found = g;
      }
      kept |= 1ULL << found;
    }
    out = ~kept;
  }

  /// Each of the two is weighed among those that are near it, the first being out for the second.
  __device__ void mix(std::int32_t* chosen, float* weights) const {
    for (std::int32_t k = 0; k < 2; ++k) {
      chosen[k] = best(chosen, k, 0, experts);
      const float most = scores[chosen[k]];
      float sum = 0;
      for (std::int32_t e = 0; e < experts; ++e) {
        if (k == 1 && e == chosen[0]) continue;
        const float unit = fmaxf(fabsf(scores[e]), most);
        if ((most - scores[e]) / unit > rule.nearness) continue;
        sum += expf(scores[e] - most);
      }
      weights[k] = rule.scale / sum;
    }
  }

  __device__ void run(std::int32_t* chosen, float* weights) {
    if (rule.score == kernels::RouterScore::sparse_mixer) return mix(chosen, weights);
    score();
    keep_groups();
    float sum = 0;
    for (std::int32_t k = 0; k < rule.chosen; ++k) {
      chosen[k] = best(chosen, k, 0, experts);
      weights[k] = scores[chosen[k]];
      sum += weights[k];
    }
    for (std::int32_t k = 0; k < rule.chosen; ++k) {
      if (rule.normalised) weights[k] /= sum;
      weights[k] *= rule.scale;
    }
  }
};

/// A thread for each row of logits [rows, experts].
static __global__ void route_kernel(kernels::RoutedRows routed, float* logits, std::int64_t rows,
                                    std::int32_t experts, DeviceVector correction,
                                    kernels::RouterRule rule) {
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  RowRouter router{logits + row * experts, experts, correction, rule, 0};
  router.run(routed.chosen + row * rule.chosen, routed.scores + row * rule.chosen);
}

/// A block of kSortThreads for each expert: finds its rows among the `count` choices, and where
/// those of the experts before it end. A thread looks at neighbours, so rows stay in order.
static __global__ void sort_rows_kernel(kernels::RoutedRows routed, std::int64_t count,
                                        std::int32_t chosen) {
  __shared__ std::int32_t before[kSortThreads];
  __shared__ std::int32_t own[kSortThreads];
  const auto expert = static_cast<std::int32_t>(blockIdx.x);
  const std::int64_t each = (count + kSortThreads - 1) / kSortThreads;
  const std::int64_t first = threadIdx.x * each;
  const std::int64_t end = first + each < count ? first + each : count;
  std::int32_t smaller = 0;
  std::int32_t equal = 0;
  for (std::int64_t i = first; i < end; ++i) {
    smaller += routed.chosen[i] < expert ? 1 : 0;
    equal += routed.chosen[i] == expert ? 1 : 0;
  }
  before[threadIdx.x] = smaller;
  own[threadIdx.x] = equal;
  __syncthreads();
  if (threadIdx.x == 0) {
    std::int32_t next = 0;
    for (unsigned t = 0; t < kSortThreads; ++t) next += before[t];
    const std::int32_t begin = next;
    for (unsigned t = 0; t < kSortThreads; ++t) {
      const std::int32_t of_thread = own[t];
      own[t] = next;
      next += of_thread;
    }
    routed.counts[expert] = next - begin;
  }
  __syncthreads();
  std::int32_t at = own[threadIdx.x];
  for (std::int64_t i = first; i < end; ++i) {
    if (routed.chosen[i] != expert) continue;
    routed.rows[at] = static_cast<std::int32_t>(i / chosen);
    routed.weights[at] = routed.scores[i];
    ++at;
  }
}

/// Rows of f32, f16 or bf16. RowGrid of the rows of `in`.
static __global__ void add_rows_kernel(void* out, DType out_dtype, const void* in, DType in_dtype,
                                       std::int64_t columns, kernels::RowFactors where,
                                       bool in_chunks) {
  const std::int64_t column = chunk_column();
  if (column >= columns) return;
  float factor = where.factors == nullptr ? 1.0F : where.factors[blockIdx.x];
  if (where.sigmoids) factor = 1.0F / (1.0F + expf(-factor));
  const std::int64_t from = std::int64_t{blockIdx.x} * columns + column;
  const std::int64_t row =
      where.rows == nullptr ? std::int64_t{blockIdx.x} : std::int64_t{where.rows[blockIdx.x]};
  const std::int64_t to = row * columns + column;
  if (in_chunks) {
    float added[kChunk];
    float sums[kChunk];
    read_chunk_of(in_dtype, in, from, added);
    read_chunk_of(out_dtype, out, to, sums);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sums[i] += factor * added[i];
    write_chunk_of(out_dtype, sums, out, to);
    return;
  }
  const std::int64_t count = columns - column < kChunk ? columns - column : kChunk;
#pragma unroll 1
  for (std::int64_t i = 0; i < count; ++i) {
    const float sum =
        element_of(out_dtype, out, to + i) + factor * element_of(in_dtype, in, from + i);
    store_element(out_dtype, sum, out, to + i);
  }
}

/// A thread for each of `count` elements.
static __global__ void clamp_kernel(void* data, DType dtype, std::int64_t count, float limit) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float value = element_of(dtype, data, i);
  store_element(dtype, value < -limit ? -limit : value > limit ? limit : value, data, i);
}

/// A thread for each of `count` 16-bit words.
static __global__ void clear_kernel(std::uint16_t* words, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) words[i] = 0;
}

}  // namespace sluice::cuda
