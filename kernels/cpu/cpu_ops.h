// The operations of a decoder layer on one computing lane of the CPU backend.
#pragma once

#include <memory>

#include "kernels/cpu/context.h"
#include "kernels/cpu/linear_call.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device/backend.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// Checks shapes and types at once (DeviceError out of the call), and puts the work on the lane.
class CpuOps final : public Ops {
 public:
  /// `backend` must outlive this. `client` is the lane's place in the pool, one per lane.
  CpuOps(CpuBackend& backend, Lane lane, std::shared_ptr<ThreadPool> pool, int client);
  ~CpuOps() override;  // waits for the lane

  void gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override;
  void gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override;
  void select_rows(TensorView out, TensorView in, const std::int32_t* rows) override;
  void layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                  float epsilon) override;
  void rms_norm(TensorView out, TensorView in, TensorView weight, float epsilon,
                float offset) override;
  void rotate(TensorView rows, const Rotation& rotation, const std::int32_t* positions) override;
  void scale(TensorView rows, float factor) override;
  void soft_cap(TensorView rows, float cap) override;
  void add(TensorView out, TensorView in) override;
  void widen_rows(TensorView out, TensorView in) override;
  void clear(TensorView rows) override;
  void clamp(TensorView rows, float limit) override;
  void route(const RoutedRows& routed, TensorView logits, TensorView correction,
             const RouterRule& rule) override;
  void add_rows(TensorView out, TensorView in, const RowFactors& where) override;
  void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
              Activation activation, TensorView residual) override;
  void linear_times(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                    TensorView factor) override;
  void append_kv(const KvPages& cache, const KvBatch& batch, TensorView keys,
                 TensorView values) override;
  void attention(TensorView out, TensorView query, const KvPages& cache, const KvBatch& batch,
                 const AttentionRule& rule) override;

 private:
  void multiply(const LinearCall& call);

  CpuBackend& backend_;
  Lane lane_;
  std::shared_ptr<ThreadPool> pool_;
  Memory scratch_;
  Memory shared_;
  CpuContext context_;  // what the lane's thread reads
};

}  // namespace sluice::kernels
