#include "kernels/cuda/quantized_product.cuh"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
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
      launch("quantized_product_kernel", stream, blocks, kProductWarps * 32, 0,
             quantized_product_kernel<DType::q8>, to, out_stride, from, in.columns, rows, packed,
             weight.rows, add);
    } else {
      launch("quantized_product_kernel", stream, blocks, kProductWarps * 32, 0,
             quantized_product_kernel<DType::q4>, to, out_stride, from, in.columns, rows, packed,
             weight.rows, add);
    }
  }
}

}  // namespace sluice::cuda
