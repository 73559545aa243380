#include "kernels/cpu/cpu_ops.h"

#include <utility>

#include "kernels/check_ops.h"
#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

namespace {
constexpr OpChecks kChecks{.sixteen_bits_at_cache = true, .most_head_dim = kMaxHeadDim};
}  // namespace

CpuOps::CpuOps(CpuBackend& backend, Lane lane, std::shared_ptr<ThreadPool> pool, int client)
    : backend_(backend), lane_(lane), pool_(std::move(pool)) {
  const auto bytes = static_cast<std::size_t>(pool_->workers() * kScratchFloats) * sizeof(float);
  scratch_ = map_memory(bytes, "scratch memory of the compute threads");
  shared_ = map_memory(static_cast<std::size_t>(kSharedBytes), "scratch memory of a compute lane");
  context_ = {pool_.get(), client, reinterpret_cast<float*>(scratch_.data()), shared_.data()};
}

CpuOps::~CpuOps() { backend_.drain(lane_); }

void CpuOps::gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  kChecks.gather("gather", out, table);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::gather(*context, out, table, ids, false); });
}

void CpuOps::gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  kChecks.gather("gather_add", out, table);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::gather(*context, out, table, ids, true); });
}

void CpuOps::select_rows(TensorView out, TensorView in, const std::int32_t* rows) {
  kChecks.select_rows(out, in);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::select_rows(*context, out, in, rows); });
}

void CpuOps::layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                        float epsilon) {
  kChecks.layer_norm(out, in, weight, bias);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::layer_norm(*context, out, in, weight, bias, epsilon); });
}

void CpuOps::rms_norm(TensorView out, TensorView in, TensorView weight, float epsilon,
                      float offset) {
  kChecks.rms_norm(out, in, weight);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::rms_norm(*context, out, in, weight, epsilon, offset); });
}

void CpuOps::rotate(TensorView rows, const Rotation& rotation, const std::int32_t* positions) {
  kChecks.rotate(rows, rotation);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::rotate(*context, rows, rotation, positions); });
}

void CpuOps::scale(TensorView rows, float factor) {
  kChecks.in_place("scale", rows);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::scale(*context, rows, factor); });
}

void CpuOps::soft_cap(TensorView rows, float cap) {
  kChecks.soft_cap(rows, cap);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::soft_cap(*context, rows, cap); });
}

void CpuOps::add(TensorView out, TensorView in) {
  kChecks.add(out, in);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::add(*context, out, in); });
}

void CpuOps::widen_rows(TensorView out, TensorView in) {
  kChecks.widen_rows(out, in);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::widen_rows(*context, out, in); });
}

void CpuOps::clear(TensorView rows) {
  kChecks.in_place("clear", rows);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::clear(*context, rows); });
}

void CpuOps::clamp(TensorView rows, float limit) {
  kChecks.clamp(rows, limit);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::clamp(*context, rows, limit); });
}

void CpuOps::route(const RoutedRows& routed, TensorView logits, TensorView correction,
                   const RouterRule& rule) {
  kChecks.route(routed, logits, correction, rule);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::route(*context, routed, logits, correction, rule); });
}

void CpuOps::add_rows(TensorView out, TensorView in, const RowFactors& where) {
  kChecks.add_rows(out, in, where);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::add_rows(*context, out, in, where); });
}

void CpuOps::linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                    Activation activation, TensorView residual) {
  kChecks.linear(out, in, weight, bias, residual);
  multiply({out, in, weight, bias, activation, residual, {}});
}

void CpuOps::linear_times(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                          TensorView factor) {
  kChecks.linear_times(out, in, weight, bias, factor);
  multiply({out, in, weight, bias, Activation::none, {}, factor});
}

void CpuOps::multiply(const LinearCall& call) {
  const CpuContext* context = &context_;
  backend_.put(lane_, [context, call] {
    if (is_quantized(call.weight.dtype())) {
      linear_quantized(*context, call, best_product());
    } else {
      kernels::linear(*context, call);
    }
  });
}

void CpuOps::append_kv(const KvPages& cache, const KvBatch& batch, TensorView keys,
                       TensorView values) {
  kChecks.append_kv(cache, batch, keys, values);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::append_kv(*context, cache, batch, keys, values); });
}

void CpuOps::attention(TensorView out, TensorView query, const KvPages& cache, const KvBatch& batch,
                       const AttentionRule& rule) {
  kChecks.attention(out, query, cache, batch, rule);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::attention(*context, out, query, cache, batch, rule); });
}

}  // namespace sluice::kernels
