#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

/// Calls `use` with the general kernel for a cache of `dtype`.
template <class Use>
void with_kernel(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::f16:
      return use(attention_kernel<DType::f16>);
    case DType::bf16:
      return use(attention_kernel<DType::bf16>);
    case DType::q8:
      return use(attention_kernel<DType::q8>);
    case DType::q4:
      return use(attention_kernel<DType::q4>);
    default:
      return use(attention_kernel<DType::f32>);
  }
}

/// Computes on the plain cores: attention_work() flop, twice that in instructions.
void launch_general_attention(cudaStream_t stream, TensorView out, TensorView query,
                              const kernels::KvPages& cache, const kernels::KvBatch& batch,
                              float scale, int least_rows) {
  const AttentionCall call{
      out.data, query.data, out.dtype, query.dtype, cache, batch, page_divider(cache.page_tokens),
      scale,    least_rows};
  const dim3 grid(static_cast<unsigned>(most_tiles(query.rows, batch.sequences, kAttentionRows)),
                  static_cast<unsigned>(cache.heads));
  with_kernel(cache.dtype, [&](auto kernel) {
    launch("attention_kernel", stream, grid, kAttentionThreads,
           attention_shared_bytes(cache.head_dim), kernel, call);
  });
}

}  // namespace

AttentionResources attention_resources(std::byte* scratch, std::size_t scratch_bytes) {
  int device = 0;
  int major = 0;
  int minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "cudaDeviceGetAttribute");
  return {scratch, scratch_bytes, 10 * major + minor};
}

void prepare_attention() {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    with_kernel(dtype, [](auto kernel) {
      check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(attention_shared_bytes(kMostHeadDim))),
            "cudaFuncSetAttribute of attention");
    });
  }
  if (attention_resources(nullptr, 0).compute_capability >= 80) prepare_prefill_attention();
}

void launch_attention(cudaStream_t stream, TensorView out, TensorView query,
                      const kernels::KvPages& cache, const kernels::KvBatch& batch, float scale,
                      const AttentionResources& resources) {
  const AttentionPlan plan = plan_attention(out, query, cache, batch, scale, resources);
  if (plan.decode)
    launch_decode_attention(stream, out, query, cache, batch, scale, plan, resources);
  if (!plan.others) return;
  if (plan.tensor_cores) {
    launch_prefill_attention(stream, out, query, cache, batch, scale);
  } else {
    launch_general_attention(stream, out, query, cache, batch, scale, plan.decode ? 2 : 1);
  }
}

}  // namespace sluice::cuda
