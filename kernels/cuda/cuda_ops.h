// The operations of kernels/ops.h on a GPU. Activations are f32; products of 16-bit weights take
// their inputs narrowed to the weights' dtype and sum in f32 on tensor cores.
#pragma once

#include <cublas_v2.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/ops.h"

namespace sluice::cuda {

class CudaOps final : public kernels::Ops {
 public:
  /// The backend's device is current. Takes kWorkspaceBytes of device memory, beside the arena.
  explicit CudaOps(CudaBackend& backend);
  ~CudaOps() override;
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  /// Narrowed inputs, and weights expanded from q8 or q4; what needs more goes in pieces.
  static constexpr std::size_t kInputBytes = std::size_t{64} << 20;
  static constexpr std::size_t kWeightBytes = std::size_t{64} << 20;
  static constexpr std::size_t kProductBytes = std::size_t{32} << 20;  // cuBLAS's own
  static constexpr std::size_t kWorkspaceBytes = kInputBytes + kWeightBytes + kProductBytes;

  void gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override;
  void gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override;
  void select_rows(TensorView out, TensorView in, const std::int32_t* rows) override;
  void layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                  float epsilon) override;
  void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
              kernels::Activation activation, TensorView residual) override;
  void append_kv(const kernels::KvPages& cache, const kernels::KvBatch& batch, TensorView keys,
                 TensorView values) override;
  void attention(TensorView out, TensorView query, const kernels::KvPages& cache,
                 const kernels::KvBatch& batch, float scale) override;

 private:
  void multiply(cudaStream_t stream, TensorView out, TensorView in, const SplitMatrix& weight);
  void multiply_expanded(cudaStream_t stream, float* out, std::int64_t out_stride, const void* in,
                         std::int64_t rows, TensorView weight);
  void product(float* out, std::int64_t out_stride, const void* in, std::int64_t rows,
               TensorView weight);

  CudaBackend& backend_;
  cublasHandle_t cublas_ = nullptr;
  Memory workspace_;
  void* input_ = nullptr;
  void* expanded_ = nullptr;
  bool keep_ = false;  // products are added to what is in out: its residual
};

}  // namespace sluice::cuda
