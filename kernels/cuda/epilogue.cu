#include "kernels/cuda/epilogue.cuh"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {
constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 4096;

unsigned blocks_for(std::int64_t count) {
  return static_cast<unsigned>(
      std::clamp<std::int64_t>((count + kThreads - 1) / kThreads, 1, kMostBlocks));
}
}  // namespace

void launch_narrow(cudaStream_t stream, DType to_dtype, void* to, const float* from,
                   std::int64_t count) {
  if (to_dtype == DType::bf16) {
    launch("narrow_kernel", stream, blocks_for(count), kThreads, 0, narrow_kernel<__nv_bfloat16>,
           static_cast<__nv_bfloat16*>(to), from, count);
  } else {
    launch("narrow_kernel", stream, blocks_for(count), kThreads, 0, narrow_kernel<__half>,
           static_cast<__half*>(to), from, count);
  }
}

void launch_expand(cudaStream_t stream, TensorView rows, void* to) {
  const auto blocks = static_cast<unsigned>(rows.rows);
  auto* const target = static_cast<__half*>(to);
  const auto* const source = static_cast<const std::byte*>(rows.data);
  if (rows.dtype == DType::q8) {
    launch("expand_kernel", stream, blocks, kThreads, 0, expand_kernel<DType::q8>, target, source,
           rows.columns);
  } else {
    launch("expand_kernel", stream, blocks, kThreads, 0, expand_kernel<DType::q4>, target, source,
           rows.columns);
  }
}

void launch_epilogue(cudaStream_t stream, TensorView out, TensorView bias,
                     kernels::Activation activation, TensorView residual) {
  launch("epilogue_kernel", stream, blocks_for(out.rows * out.columns), kThreads, 0,
         epilogue_kernel, static_cast<float*>(out.data), out.rows, out.columns,
         DeviceVector{bias.rows > 0 ? bias.data : nullptr, bias.dtype}, activation,
         residual.rows > 0 ? static_cast<const float*>(residual.data) : nullptr);
}

}  // namespace sluice::cuda
