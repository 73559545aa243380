#include "kernels/cuda/epilogue.cuh"

#include <algorithm>

#include "kernels/cuda/check.h"
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
    narrow_kernel<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(to), from,
                                                              count);
  } else {
    narrow_kernel<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<__half*>(to), from,
                                                              count);
  }
  check_launch("narrow_kernel");
}

void launch_expand(cudaStream_t stream, TensorView rows, void* to) {
  const auto blocks = static_cast<unsigned>(rows.rows);
  auto* const target = static_cast<__half*>(to);
  const auto* const source = static_cast<const std::byte*>(rows.data);
  if (rows.dtype == DType::q8) {
    expand_kernel<DType::q8><<<blocks, kThreads, 0, stream>>>(target, source, rows.columns);
  } else {
    expand_kernel<DType::q4><<<blocks, kThreads, 0, stream>>>(target, source, rows.columns);
  }
  check_launch("expand_kernel");
}

void launch_epilogue(cudaStream_t stream, TensorView out, TensorView bias,
                     kernels::Activation activation, TensorView residual) {
  epilogue_kernel<<<blocks_for(out.rows * out.columns), kThreads, 0, stream>>>(
      static_cast<float*>(out.data), out.rows, out.columns,
      {bias.rows > 0 ? bias.data : nullptr, bias.dtype}, activation,
      residual.rows > 0 ? static_cast<const float*>(residual.data) : nullptr);
  check_launch("epilogue_kernel");
}

}  // namespace sluice::cuda
