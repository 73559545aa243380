// What an operation of kernels/ops.h may be asked for, whichever engine does it: shapes, dtypes and
// where views must be. Each check throws DeviceError that names operation, view and rule, because
// only a bug of the caller breaks a rule. Ids, contexts and page numbers are not read here.
#pragma once

#include <cstdint>

#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// The operations of one engine.
struct OpChecks {
  /// Activations may be f16 and bf16, too. All of one call agree, except that results of linear()
  /// and logits may always be f32.
  bool sixteen_bits = false;
  /// The same in append_kv() and attention() only: the CPU attends beside a device that computes in
  /// 16 bits.
  bool sixteen_bits_at_cache = false;
  std::int32_t most_head_dim = 0;

  void gather(const char* operation, const TensorView& out, const SplitMatrix& table) const;
  void select_rows(const TensorView& out, const TensorView& in) const;
  void layer_norm(const TensorView& out, const TensorView& in, const TensorView& weight,
                  const TensorView& bias) const;
  void rms_norm(const TensorView& out, const TensorView& in, const TensorView& weight) const;
  void rotate(const TensorView& rows, const Rotation& rotation) const;
  void in_place(const char* operation, const TensorView& rows) const;
  void soft_cap(const TensorView& rows, float cap) const;
  void add(const TensorView& out, const TensorView& in) const;
  void widen_rows(const TensorView& out, const TensorView& in) const;
  void clamp(const TensorView& rows, float limit) const;
  void route(const RoutedRows& routed, const TensorView& logits, const TensorView& correction,
             const RouterRule& rule) const;
  void add_rows(const TensorView& out, const TensorView& in, const RowFactors& where) const;
  void linear(const TensorView& out, const TensorView& in, const SplitMatrix& weight,
              const TensorView& bias, const TensorView& residual) const;
  void linear_times(const TensorView& out, const TensorView& in, const SplitMatrix& weight,
                    const TensorView& bias, const TensorView& factor) const;
  void append_kv(const KvPages& cache, const KvBatch& batch, const TensorView& keys,
                 const TensorView& values) const;
  void attention(const TensorView& out, const TensorView& query, const KvPages& cache,
                 const KvBatch& batch, const AttentionRule& rule) const;

 private:
  void activations(const char* operation, const char* what, const TensorView& view) const;
  void like(const char* operation, const char* what, const TensorView& view,
            const TensorView& model) const;
  void product(const char* operation, const TensorView& out, const TensorView& in,
               const SplitMatrix& weight, const TensorView& bias) const;
  OpChecks at_cache() const;
  void cache(const char* operation, const KvPages& cache, const KvBatch& batch) const;
};

}  // namespace sluice::kernels
