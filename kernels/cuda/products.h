// Matrix products with weights of any dtype, on a stream: cuBLAS for dense weights, kernels of our
// own for few rows of quantised ones.
#pragma once

#include <cublas_v2.h>

#include <cstddef>
#include <cstdint>

#include "kernels/device/backend.h"
#include "kernels/ops.h"

namespace sluice::cuda {

class Products {
 public:
  /// Narrowed inputs, and weights expanded from q8 or q4; what needs more goes in pieces.
  static constexpr std::size_t kInputBytes = std::size_t{64} << 20;
  static constexpr std::size_t kWeightBytes = std::size_t{64} << 20;
  static constexpr std::size_t kProductBytes = std::size_t{32} << 20;  // cuBLAS's own
  static constexpr std::size_t kWorkspaceBytes = kInputBytes + kWeightBytes + kProductBytes;

  /// `workspace`: kWorkspaceBytes of device memory, 256-byte aligned, of one stream; it outlives
  /// this.
  explicit Products(std::byte* workspace);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  /// kernels::Ops::linear on `stream`. Shapes were checked by CudaOps.
  void linear(cudaStream_t stream, TensorView out, TensorView in, const SplitMatrix& weight,
              TensorView bias, kernels::Activation activation, TensorView residual);

 private:
  void multiply(cudaStream_t stream, TensorView out, TensorView in, const SplitMatrix& weight);
  void multiply_expanded(cudaStream_t stream, float* out, std::int64_t out_stride, const void* in,
                         std::int64_t rows, TensorView weight);
  void product(float* out, std::int64_t out_stride, const void* in, std::int64_t rows,
               TensorView weight);

  cublasHandle_t cublas_ = nullptr;
  void* input_ = nullptr;
  void* expanded_ = nullptr;
  bool keep_ = false;  // products are added to what is in out: its residual
};

}  // namespace sluice::cuda
