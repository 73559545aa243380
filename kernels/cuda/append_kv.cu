#include "kernels/cuda/append_kv.cuh"

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

// Bound by memory: append_kv_work(). Each element is read once and written once.
void launch_append_kv(cudaStream_t stream, const kernels::KvPages& cache,
                      const kernels::KvBatch& batch, TensorView keys, TensorView values) {
  const AppendCall call{
      cache,      batch,        page_divider(cache.page_tokens),   keys.data, values.data,
      keys.dtype, values.dtype, appends_quads(cache, keys, values)};
  const dim3 grid(static_cast<unsigned>(most_tiles(keys.rows, batch.sequences, kAppendTokens)),
                  static_cast<unsigned>((cache.heads + kAppendHeads - 1) / kAppendHeads));
  const int lanes = lanes_of(cache.head_dim);
  const auto append = [&](auto kernel) {
    launch("append_kv_kernel", stream, grid, kAppendThreads, 0, kernel, call, lanes);
  };
  switch (cache.dtype) {
    case DType::f16:
      return append(append_kv_kernel<DType::f16>);
    case DType::bf16:
      return append(append_kv_kernel<DType::bf16>);
    case DType::q8:
      return append(append_kv_kernel<DType::q8>);
    case DType::q4:
      return append(append_kv_kernel<DType::q4>);
    default:
      return append(append_kv_kernel<DType::f32>);
  }
}

}  // namespace sluice::cuda
