// Matrix products with weights of any dtype, on a stream: cuBLASLt for many rows, kernels of our
// own for few rows and for what cuBLASLt cannot do (product_plan.h says which).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/library_product.h"
#include "kernels/cuda/product_plan.h"
#include "kernels/cuda/product_views.h"
#include "kernels/ops.h"

namespace sluice::cuda {

/// Of the current device; SLUICE_CUDA_LIBRARY_RELU in the environment, 0 or 1, is cublas_relu.
/// Throws DeviceError.
ProductRules rules_of_device();

class Products {
 public:
  /// Converted inputs; expanded weights, or else f32 results on their way to a narrower dtype, or
  /// sums over some of the columns. What needs more goes in pieces.
  static constexpr std::size_t kInputBytes = std::size_t{64} << 20;
  static constexpr std::size_t kWeightBytes = std::size_t{64} << 20;
  static constexpr std::size_t kProductBytes = std::size_t{32} << 20;  // cuBLASLt's own
  static constexpr std::size_t kWorkspaceBytes = kInputBytes + kWeightBytes + kProductBytes;

  /// `workspace`: kWorkspaceBytes of device memory, 256-byte aligned, of one stream; it outlives
  /// this. The device is current. Throws DeviceError.
  explicit Products(std::byte* workspace, const ProductRules& rules = rules_of_device());

  /// kernels::Ops::linear, or linear_times, whose factor is the residual, on `stream`, which may be
  /// captured. Shapes were checked by CudaOps.
  void linear(cudaStream_t stream, TensorView out, TensorView in, const SplitMatrix& weight,
              TensorView bias, kernels::Activation activation, TensorView residual,
              Combine combine = Combine::add);

  const LibraryProduct& library() const { return library_; }

 private:
  /// The columns of a result that one part of the weights makes.
  struct Part {
    cudaStream_t stream;
    Columns out;
    TensorView in;
    TensorView weight;
    ProductTail tail;
  };
  void multiply(const Part& part);
  void multiply_on_tensor_cores(const Part& part, const ProductPlan& plan);
  void multiply_by_library(const Part& part, const ProductPlan& plan);
  void multiply_rows(const Part& part, const ProductPlan& plan);
  bool try_library(const Part& part, const ProductPlan& plan);
  TensorView converted(const Part& part, DType operand);

  ProductRules rules_;
  std::byte* input_;
  std::byte* weights_;  // or scratch, or the sums of splits: see ProductPlan
  LibraryProduct library_;
  struct {
    TensorView from, to;
  } in_workspace_;  // what input_ holds, in one call of linear()
};

}  // namespace sluice::cuda
