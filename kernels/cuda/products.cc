#include "kernels/cuda/products.h"

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launches.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

/// Rows of the input up to which quantised weights are multiplied as they are; beyond, they are
/// expanded once and go through tensor cores.
constexpr std::int64_t kFewRows = 16;

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

/// The dtype that inputs of a product with such weights have.
DType input_dtype(DType weight) {
  if (is_quantized(weight)) return DType::f16;
  return weight;
}

int small(std::int64_t number) { return static_cast<int>(number); }

}  // namespace

Products::Products(std::byte* workspace) : input_(workspace), expanded_(workspace + kInputBytes) {
  check(cublasCreate(&cublas_), "cublasCreate");
  check(cublasSetWorkspace(cublas_, workspace + kInputBytes + kWeightBytes, kProductBytes),
        "cublasSetWorkspace");
  // No TF32: products of f32 weights are exact to f32, as on the CPU.
  check(cublasSetMathMode(cublas_, CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
}

Products::~Products() { cublasDestroy(cublas_); }

void Products::linear(cudaStream_t stream, TensorView out, TensorView in, const SplitMatrix& weight,
                      TensorView bias, kernels::Activation activation, TensorView residual) {
  // A residual that is the result itself would be overwritten before it is added.
  const bool in_place = residual.rows > 0 && residual.data == out.data;
  if (in_place && activation != kernels::Activation::none) {
    throw DeviceError(
        "linear: a residual that is the output cannot follow an activation; this is a bug of the "
        "caller");
  }
  const auto pieces = static_cast<std::int64_t>(
      kInputBytes / (static_cast<std::size_t>(in.columns) * sizeof(std::uint16_t)));
  check(cublasSetStream(cublas_, stream), "cublasSetStream");
  keep_ = in_place;
  for (std::int64_t row = 0; row < in.rows; row += pieces) {
    const std::int64_t rows = std::min(pieces, in.rows - row);
    multiply(stream, out.slice(row, rows), in.slice(row, rows), weight);
  }
  if (bias.rows > 0 || activation != kernels::Activation::none ||
      (residual.rows > 0 && !in_place)) {
    launch_epilogue(stream, out, bias, activation, in_place ? TensorView{} : residual);
  }
}

void Products::multiply(cudaStream_t stream, TensorView out, TensorView in,
                        const SplitMatrix& weight) {
  const DType narrow = input_dtype(weight.dtype());
  const bool as_is = is_quantized(weight.dtype()) && in.rows <= kFewRows;
  const void* from = in.data;
  if (narrow != DType::f32 && !as_is) {
    launch_narrow(stream, narrow, input_, static_cast<const float*>(in.data), in.rows * in.columns);
    from = input_;
  }
  auto* const to = static_cast<float*>(out.data);
  for (const bool resident : {true, false}) {
    const TensorView& part = resident ? weight.resident : weight.streamed;
    if (part.rows == 0) continue;
    float* const columns = resident ? to : to + weight.resident.rows;
    if (as_is) {
      launch_quantized_product(stream, columns, out.columns, in, part, keep_);
    } else if (is_quantized(part.dtype)) {
      multiply_expanded(stream, columns, out.columns, from, in.rows, part);
    } else {
      product(columns, out.columns, from, in.rows, part);
    }
  }
}

/// Quantised weights as f16, as many rows at a time as the workspace holds.
void Products::multiply_expanded(cudaStream_t stream, float* out, std::int64_t out_stride,
                                 const void* in, std::int64_t rows, TensorView weight) {
  const auto pieces = static_cast<std::int64_t>(
      kWeightBytes / (static_cast<std::size_t>(weight.columns) * sizeof(std::uint16_t)));
  for (std::int64_t row = 0; row < weight.rows; row += pieces) {
    const TensorView piece = weight.slice(row, std::min(pieces, weight.rows - row));
    launch_expand(stream, piece, expanded_);
    product(out + row, out_stride, in, rows, {expanded_, DType::f16, piece.rows, piece.columns});
  }
}

/// out[:, 0 .. weight.rows) (+)= in weight^T. Row-major matrices are their transposes to cuBLAS.
void Products::product(float* out, std::int64_t out_stride, const void* in, std::int64_t rows,
                       TensorView weight) {
  const float one = 1.0F;
  const float beta = keep_ ? 1.0F : 0.0F;
  const cudaDataType_t type = type_of(weight.dtype);
  check(cublasGemmEx(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, small(weight.rows), small(rows),
                     small(weight.columns), &one, weight.data, type, small(weight.columns), in,
                     type, small(weight.columns), &beta, out, CUDA_R_32F, small(out_stride),
                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
}

}  // namespace sluice::cuda
