#include "kernels/cuda/prefill_attention.cuh"

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

template <class T, DType kType, class Use>
void with_head_dim(std::int32_t head_dim, const Use& use) {
  switch (head_dim) {
    case 64:
      return use(prefill_attention_kernel<T, 64, kType>, kPrefillSharedBytes<64>);
    case 80:
      return use(prefill_attention_kernel<T, 80, kType>, kPrefillSharedBytes<80>);
    default:
      return use(prefill_attention_kernel<T, 128, kType>, kPrefillSharedBytes<128>);
  }
}

template <class T, class Use>
void with_cache(DType cache, std::int32_t head_dim, const Use& use) {
  switch (cache) {
    case DType::f16:
      return with_head_dim<T, DType::f16>(head_dim, use);
    case DType::bf16:
      return with_head_dim<T, DType::bf16>(head_dim, use);
    case DType::q8:
      return with_head_dim<T, DType::q8>(head_dim, use);
    case DType::q4:
      return with_head_dim<T, DType::q4>(head_dim, use);
    default:
      return with_head_dim<T, DType::f32>(head_dim, use);
  }
}

/// Calls `use` with the kernel for these activations and this cache, and the shared memory that it
/// needs.
template <class Use>
void with_kernel(DType activations, DType cache, std::int32_t head_dim, const Use& use) {
  return activations == DType::f16 ? with_cache<__half>(cache, head_dim, use)
                                   : with_cache<__nv_bfloat16>(cache, head_dim, use);
}

}  // namespace

const void* kernel_of_prefill_attention() {
  return reinterpret_cast<const void*>(prefill_attention_kernel<__half, 64, DType::f16>);
}

void prepare_prefill_attention() {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const DType cache : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
      for (const int head_dim : {64, 80, 128}) {
        with_kernel(dtype, cache, head_dim, [&](auto kernel, std::size_t shared_bytes) {
          check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shared_bytes)),
                "cudaFuncSetAttribute of prefill attention");
        });
      }
    }
  }
}

// Bound by the tensor cores: attention_work() flop.
void launch_prefill_attention(cudaStream_t stream, TensorView out, TensorView query,
                              const kernels::KvPages& cache, const kernels::KvBatch& batch,
                              const kernels::AttentionRule& rule) {
  const HeadMap heads = head_map(query, cache);
  const ScoreRule scores = score_rule(rule, heads.query_heads, kLog2E);
  const PrefillCall call{out.data,
                         query.data,
                         cache,
                         heads,
                         batch,
                         page_divider(cache.page_tokens),
                         static_cast<std::int64_t>(row_bytes_of(cache.dtype, cache.head_dim)),
                         scores,
                         scores.plain ? scores.factor : 1.0F};
  const dim3 grid(static_cast<unsigned>(most_tiles(query.rows, batch.sequences, kPrefillRows)),
                  static_cast<unsigned>(call.heads.query_heads));
  with_kernel(query.dtype, cache.dtype, cache.head_dim, [&](auto kernel, std::size_t shared_bytes) {
    launch("prefill_attention_kernel", stream, grid, kPrefillThreads, shared_bytes, kernel, call);
  });
}

}  // namespace sluice::cuda
