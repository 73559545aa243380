// The operations of kernels/ops.h on a GPU: checks what is asked for, and hands it to the compute
// lane as an OpCall.
#pragma once

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/op_call.h"
#include "kernels/ops.h"

namespace sluice::cuda {

class CudaOps final : public kernels::Ops {
 public:
  /// `backend` must outlive this. Throws DeviceError of a call whose views cannot be.
  explicit CudaOps(CudaBackend& backend) : backend_(backend) {}

  void gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override;
  void gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override;
  void select_rows(TensorView out, TensorView in, const std::int32_t* rows) override;
  void layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                  float epsilon) override;
  void rms_norm(TensorView out, TensorView in, TensorView weight, float epsilon,
                float offset) override;
  void rotate(TensorView rows, const kernels::Rotation& rotation,
              const std::int32_t* positions) override;
  void scale(TensorView rows, float factor) override;
  void soft_cap(TensorView rows, float cap) override;
  void add(TensorView out, TensorView in) override;
  void widen_rows(TensorView out, TensorView in) override;
  void clear(TensorView rows) override;
  void clamp(TensorView rows, float limit) override;
  void route(const kernels::RoutedRows& routed, TensorView logits, TensorView correction,
             const kernels::RouterRule& rule) override;
  void add_rows(TensorView out, TensorView in, const kernels::RowFactors& where) override;
  void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
              kernels::Activation activation, TensorView residual) override;
  void linear_times(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                    TensorView factor) override;
  void append_kv(const kernels::KvPages& cache, const kernels::KvBatch& batch, TensorView keys,
                 TensorView values) override;
  void attention(TensorView out, TensorView query, const kernels::KvPages& cache,
                 const kernels::KvBatch& batch, const kernels::AttentionRule& rule) override;
  void sample(kernels::SampledRow* out, TensorView logits, const kernels::SampleRow* rows,
              const kernels::SampleLists& lists) override;

 private:
  CudaBackend& backend_;
};

}  // namespace sluice::cuda
