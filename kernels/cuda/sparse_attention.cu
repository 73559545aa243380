#include "kernels/cuda/sparse_attention.cuh"

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

bool is_aligned(const kernels::KvPages& cache, std::int64_t bytes) {
  const auto divides = [bytes](const void* base) {
    return reinterpret_cast<std::uintptr_t>(base) % static_cast<std::uintptr_t>(bytes) == 0;
  };
  return divides(cache.base) && divides(cache.old_values) && cache.page_stride_bytes % bytes == 0;
}

}  // namespace

const void* kernel_of_sparse_attention() {
  return reinterpret_cast<const void*>(sparse_attention_kernel<DType::f32>);
}

// Bound by memory: of each sequence its keys once and the values that are kept once, but for KV
// heads of more than kSparseHeads query heads, whose keys are read again for each so many.
void launch_sparse_attention(cudaStream_t stream, TensorView out, TensorView query,
                             const kernels::KvPages& cache, const kernels::KvBatch& batch,
                             const kernels::AttentionRule& rule,
                             const AttentionResources& resources) {
  const HeadMap heads = head_map(query, cache);
  const std::int64_t tokens = std::int64_t{batch.max_pages} * cache.page_tokens;
  const std::int64_t keys = rule.window > 0 ? std::min<std::int64_t>(tokens, rule.window) : tokens;
  const auto bytes = static_cast<std::size_t>(sparse_floats(heads.group, keys)) * sizeof(float);
  const auto blocks = std::min(static_cast<std::int64_t>(resources.scratch_bytes / bytes),
                               query.rows * std::int64_t{cache.kv_heads});
  if (blocks == 0) {
    throw DeviceError(
        "sparse attention: the scratch is too small for one head; this is a bug of the caller");
  }
  const SparseCall call{out.data,
                        query.data,
                        query.dtype,
                        cache,
                        heads,
                        batch,
                        page_divider(cache.page_tokens),
                        score_rule(rule, heads.query_heads, 1.0F),
                        rule.kept_millionths,
                        cache.head_dim % 8 == 0 && is_aligned(cache, 16),
                        static_cast<int>(keys),
                        reinterpret_cast<float*>(resources.scratch)};
  const auto attend = [&](auto kernel) {
    launch("sparse_attention_kernel", stream, dim3(static_cast<unsigned>(blocks)), kSparseThreads,
           0, kernel, call);
  };
  switch (cache.dtype) {
    case DType::f16:
      return attend(sparse_attention_kernel<DType::f16>);
    case DType::bf16:
      return attend(sparse_attention_kernel<DType::bf16>);
    default:
      return attend(sparse_attention_kernel<DType::f32>);
  }
}

}  // namespace sluice::cuda
