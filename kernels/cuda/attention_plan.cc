#include "kernels/cuda/attention_plan.h"

#include <algorithm>

namespace sluice::cuda {

namespace {

bool is_aligned(const void* data, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(data) % bytes == 0;
}

bool is_aligned(const kernels::KvPages& cache, std::int64_t bytes) {
  return is_aligned(cache.base, static_cast<std::uintptr_t>(bytes)) &&
         cache.page_stride_bytes % bytes == 0;
}

/// A lane can load eight elements, as load_eight() does.
bool has_eights(const kernels::KvPages& cache) {
  if (is_quantized(cache.dtype)) return is_aligned(cache, 4);
  return cache.head_dim % 8 == 0 && is_aligned(cache, 16);
}

bool multiplies(const TensorView& out, const TensorView& query, std::int32_t head_dim) {
  return (query.dtype == DType::f16 || query.dtype == DType::bf16) &&
         (head_dim == 64 || head_dim == 80 || head_dim == 128) && is_aligned(query.data, 16) &&
         is_aligned(out.data, 4);
}

}  // namespace

AttentionPlan plan_attention(const TensorView& out, const TensorView& query,
                             const kernels::KvPages& cache, const kernels::KvBatch& batch,
                             float scale, const AttentionResources& resources) {
  AttentionPlan plan;
  const bool eights =
      cache.head_dim <= kMostDecodeDim && has_eights(cache) && out.dtype == query.dtype;
  plan.decode = eights;
  // At most as many rows as sequences: a row each.
  plan.others = !plan.decode || query.rows > batch.sequences;
  plan.tensor_cores = plan.others && eights && scale > 0 && resources.compute_capability >= 80 &&
                      multiplies(out, query, cache.head_dim);
  const std::int64_t tokens = std::int64_t{batch.max_pages} * cache.page_tokens;
  const std::int64_t spans = std::max<std::int64_t>(1, (tokens + kDecodeSpan - 1) / kDecodeSpan);
  plan.spans = static_cast<int>(spans);
  plan.piece = std::int64_t{batch.sequences} * query_heads_of(query, cache);
  if (const std::size_t bytes = decode_scratch_bytes(spans, cache.head_dim); bytes > 0) {
    plan.piece = std::min(plan.piece, static_cast<std::int64_t>(resources.scratch_bytes / bytes));
  }
  return plan;
}

AppendBy append_by(const kernels::KvPages& cache, const TensorView& keys,
                   const TensorView& values) {
  if (keys.dtype != values.dtype || !is_aligned(keys.data, 16) || !is_aligned(values.data, 16)) {
    return AppendBy::elements;
  }
  if (is_quantized(cache.dtype)) {
    return cache.head_dim % 4 == 0 ? AppendBy::quads : AppendBy::elements;
  }
  const bool whole = row_bytes_of(cache.dtype, cache.head_dim) % 16 == 0;
  return whole && cache.dtype == keys.dtype && is_aligned(cache, 16) ? AppendBy::words
                                                                     : AppendBy::elements;
}

KernelWork attention_work(const kernels::KvPages& cache, std::int32_t query_heads,
                          DType activations, std::span<const std::int32_t> new_tokens,
                          std::span<const std::int32_t> context) {
  const auto vector = static_cast<double>(row_bytes_of(cache.dtype, cache.head_dim));
  const auto row = static_cast<double>(row_bytes_of(activations, cache.head_dim));
  KernelWork work;
  for (std::size_t s = 0; s < context.size(); ++s) {
    const double rows = new_tokens[s];
    const double seen = rows * (context[s] - (rows - 1) / 2);  // keys, summed over rows
    work.bytes += 2 * (cache.kv_heads * context[s] * vector + query_heads * rows * row);
    work.flop += 4.0 * query_heads * cache.head_dim * seen;
  }
  return work;
}

KernelWork append_kv_work(const kernels::KvPages& cache, DType activations, std::int64_t tokens) {
  const double vectors = 2.0 * cache.kv_heads * static_cast<double>(tokens);
  KernelWork work;
  work.bytes = vectors * static_cast<double>(row_bytes_of(activations, cache.head_dim) +
                                             row_bytes_of(cache.dtype, cache.head_dim));
  return work;
}

}  // namespace sluice::cuda
