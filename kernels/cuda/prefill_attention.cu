#include "kernels/cuda/prefill_attention.cuh"

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

template <class T, bool kDirect, class Use>
void with_head_dim(std::int32_t head_dim, const Use& use) {
  switch (head_dim) {
    case 64:
      return use(prefill_attention_kernel<T, 64, kDirect>, kPrefillSharedBytes<64>);
    case 80:
      return use(prefill_attention_kernel<T, 80, kDirect>, kPrefillSharedBytes<80>);
    default:
      return use(prefill_attention_kernel<T, 128, kDirect>, kPrefillSharedBytes<128>);
  }
}

/// Calls `use` with the kernel for these activations, and the shared memory that it needs;
/// `direct`: the cache is of their dtype.
template <class Use>
void with_kernel(DType activations, bool direct, std::int32_t head_dim, const Use& use) {
  if (activations == DType::f16) {
    return direct ? with_head_dim<__half, true>(head_dim, use)
                  : with_head_dim<__half, false>(head_dim, use);
  }
  return direct ? with_head_dim<__nv_bfloat16, true>(head_dim, use)
                : with_head_dim<__nv_bfloat16, false>(head_dim, use);
}

}  // namespace

void prepare_prefill_attention() {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const bool direct : {false, true}) {
      for (const int head_dim : {64, 80, 128}) {
        with_kernel(dtype, direct, head_dim, [&](auto kernel, std::size_t shared_bytes) {
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
                              float scale) {
  const PrefillCall call{out.data,
                         query.data,
                         cache,
                         batch,
                         page_divider(cache.page_tokens),
                         static_cast<std::int64_t>(row_bytes_of(cache.dtype, cache.head_dim)),
                         scale * kLog2E};
  const dim3 grid(static_cast<unsigned>(most_tiles(query.rows, batch.sequences, kPrefillRows)),
                  static_cast<unsigned>(cache.heads));
  with_kernel(query.dtype, query.dtype == cache.dtype, cache.head_dim,
              [&](auto kernel, std::size_t shared_bytes) {
                launch("prefill_attention_kernel", stream, grid, kPrefillThreads, shared_bytes,
                       kernel, call);
              });
}

}  // namespace sluice::cuda
