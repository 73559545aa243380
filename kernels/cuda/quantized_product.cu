#include "kernels/cuda/quantized_product.cuh"

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

void launch_quantized_product(cudaStream_t stream, float* out, std::int64_t out_stride,
                              TensorView in, TensorView weight, bool add) {
  const auto blocks = static_cast<unsigned>((weight.rows + kProductWarps - 1) / kProductWarps);
  const auto* const packed = static_cast<const std::byte*>(weight.data);
  for (std::int64_t row = 0; row < in.rows; row += kProductRows) {
    const int rows = static_cast<int>(std::min<std::int64_t>(kProductRows, in.rows - row));
    const auto* const from = reinterpret_cast<const float*>(in.row(row));
    float* const to = out + row * out_stride;
    if (weight.dtype == DType::q8) {
      quantized_product_kernel<DType::q8><<<blocks, kProductWarps * 32, 0, stream>>>(
          to, out_stride, from, in.columns, rows, packed, weight.rows, add);
    } else {
      quantized_product_kernel<DType::q4><<<blocks, kProductWarps * 32, 0, stream>>>(
          to, out_stride, from, in.columns, rows, packed, weight.rows, add);
    }
    check_launch("quantized_product_kernel");
  }
}

}  // namespace sluice::cuda
