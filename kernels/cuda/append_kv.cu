#include "kernels/cuda/append_kv.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

template <DType kType>
void append_as(cudaStream_t stream, dim3 grid, const kernels::KvPages& cache,
               const kernels::KvBatch& batch, TensorView keys, TensorView values) {
  launch("append_kv_kernel", stream, grid, kAppendThreads, 0, append_kv_kernel<kType>, cache, batch,
         static_cast<const float*>(keys.data), static_cast<const float*>(values.data));
}

}  // namespace

void launch_append_kv(cudaStream_t stream, const kernels::KvPages& cache,
                      const kernels::KvBatch& batch, TensorView keys, TensorView values) {
  // How many tokens a sequence has only the device knows; all rows at most.
  const dim3 grid(static_cast<unsigned>(batch.sequences), static_cast<unsigned>(cache.heads),
                  static_cast<unsigned>((keys.rows + kAppendTokens - 1) / kAppendTokens));
  switch (cache.dtype) {
    case DType::f16:
      append_as<DType::f16>(stream, grid, cache, batch, keys, values);
      break;
    case DType::bf16:
      append_as<DType::bf16>(stream, grid, cache, batch, keys, values);
      break;
    case DType::q8:
      append_as<DType::q8>(stream, grid, cache, batch, keys, values);
      break;
    case DType::q4:
      append_as<DType::q4>(stream, grid, cache, batch, keys, values);
      break;
    default:
      append_as<DType::f32>(stream, grid, cache, batch, keys, values);
  }
}

}  // namespace sluice::cuda
