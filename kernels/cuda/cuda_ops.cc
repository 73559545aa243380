#include "kernels/cuda/cuda_ops.h"

#include <fmt/core.h>

#include "kernels/check_ops.h"
#include "kernels/cuda/launches.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {
constexpr kernels::OpChecks kChecks{.sixteen_bits = true, .most_head_dim = 256};
}  // namespace

void CudaOps::gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  kChecks.gather("gather", out, table);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::gather;
  call.out = out;
  call.weight = table;
  call.ids = ids;
  backend_.compute(call);
}

void CudaOps::gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  kChecks.gather("gather_add", out, table);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::gather_add;
  call.out = out;
  call.weight = table;
  call.ids = ids;
  backend_.compute(call);
}

void CudaOps::select_rows(TensorView out, TensorView in, const std::int32_t* rows) {
  kChecks.select_rows(out, in);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::select_rows;
  call.out = out;
  call.in = in;
  call.ids = rows;
  backend_.compute(call);
}

void CudaOps::layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                         float epsilon) {
  kChecks.layer_norm(out, in, weight, bias);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::layer_norm;
  call.number = epsilon;
  call.out = out;
  call.in = in;
  call.scale = weight;
  call.bias = bias;
  backend_.compute(call);
}

void CudaOps::rms_norm(TensorView out, TensorView in, TensorView weight, float epsilon,
                       float offset) {
  kChecks.rms_norm(out, in, weight);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::rms_norm;
  call.number = epsilon;
  call.offset = offset;
  call.out = out;
  call.in = in;
  call.scale = weight;
  backend_.compute(call);
}

void CudaOps::rotate(TensorView rows, const kernels::Rotation& rotation,
                     const std::int32_t* positions) {
  kChecks.rotate(rows, rotation);
  if (rows.rows == 0) return;
  OpCall call;
  call.kind = OpKind::rotate;
  call.out = rows;
  call.rotation = rotation;
  call.ids = positions;
  backend_.compute(call);
}

void CudaOps::scale(TensorView rows, float factor) {
  kChecks.in_place("scale", rows);
  if (rows.rows == 0) return;
  OpCall call;
  call.kind = OpKind::scale;
  call.number = factor;
  call.out = rows;
  backend_.compute(call);
}

void CudaOps::soft_cap(TensorView rows, float cap) {
  kChecks.soft_cap(rows, cap);
  if (rows.rows == 0) return;
  OpCall call;
  call.kind = OpKind::soft_cap;
  call.number = cap;
  call.out = rows;
  backend_.compute(call);
}

void CudaOps::add(TensorView out, TensorView in) {
  kChecks.add(out, in);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::add;
  call.out = out;
  call.in = in;
  backend_.compute(call);
}

void CudaOps::widen_rows(TensorView out, TensorView in) {
  kChecks.widen_rows(out, in);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::widen_rows;
  call.out = out;
  call.in = in;
  backend_.compute(call);
}

void CudaOps::clear(TensorView rows) {
  kChecks.in_place("clear", rows);
  if (rows.rows == 0) return;
  OpCall call;
  call.kind = OpKind::clear;
  call.out = rows;
  backend_.compute(call);
}

void CudaOps::clamp(TensorView rows, float limit) {
  kChecks.clamp(rows, limit);
  if (rows.rows == 0) return;
  OpCall call;
  call.kind = OpKind::clamp;
  call.number = limit;
  call.out = rows;
  backend_.compute(call);
}

void CudaOps::route(const kernels::RoutedRows& routed, TensorView logits, TensorView correction,
                    const kernels::RouterRule& rule) {
  kChecks.route(routed, logits, correction, rule);
  if (logits.rows == 0) return;
  OpCall call;
  call.kind = OpKind::route;
  call.in = logits;
  call.bias = correction;
  call.router = rule;
  call.routed = routed;
  backend_.compute(call);
}

void CudaOps::add_rows(TensorView out, TensorView in, const kernels::RowFactors& where) {
  kChecks.add_rows(out, in, where);
  if (in.rows == 0) return;
  OpCall call;
  call.kind = OpKind::add_rows;
  call.out = out;
  call.in = in;
  call.where = where;
  backend_.compute(call);
}

void CudaOps::linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                     kernels::Activation activation, TensorView residual) {
  kChecks.linear(out, in, weight, bias, residual);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::linear;
  call.activation = activation;
  call.out = out;
  call.in = in;
  call.bias = bias;
  call.residual = residual;
  call.weight = weight;
  backend_.compute(call);
}

void CudaOps::linear_times(TensorView out, TensorView in, const SplitMatrix& weight,
                           TensorView bias, TensorView factor) {
  kChecks.linear_times(out, in, weight, bias, factor);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::linear_times;
  call.out = out;
  call.in = in;
  call.bias = bias;
  call.residual = factor;
  call.weight = weight;
  backend_.compute(call);
}

void CudaOps::append_kv(const kernels::KvPages& cache, const kernels::KvBatch& batch,
                        TensorView keys, TensorView values) {
  kChecks.append_kv(cache, batch, keys, values);
  if (batch.sequences == 0) return;
  OpCall call;
  call.kind = OpKind::append_kv;
  call.in = keys;
  call.scale = values;
  call.cache = cache;
  call.batch = batch;
  backend_.compute(call);
}

void CudaOps::attention(TensorView out, TensorView query, const kernels::KvPages& cache,
                        const kernels::KvBatch& batch, const kernels::AttentionRule& rule) {
  kChecks.attention(out, query, cache, batch, rule);
  if (batch.sequences == 0) return;
  OpCall call;
  call.kind = OpKind::attention;
  call.rule = rule;
  call.out = out;
  call.in = query;
  call.cache = cache;
  call.batch = batch;
  backend_.compute(call);
}

void CudaOps::sample(kernels::SampledRow* out, TensorView logits, const kernels::SampleRow* rows,
                     const kernels::SampleLists& lists) {
  if (logits.rows == 0) return;
  if (logits.dtype != DType::f32 || logits.data == nullptr || logits.columns < 1 ||
      logits.columns > kMostVocabulary) {
    throw DeviceError(
        fmt::format("sample: logits are {} [{}, {}], but must be f32 in device memory, of at most "
                    "{} columns; this is a bug of the caller",
                    name_of(logits.dtype), logits.rows, logits.columns, kMostVocabulary));
  }
  OpCall call;
  call.kind = OpKind::sample;
  call.in = logits;
  call.sample_lists = lists;
  call.sample_rows = rows;
  call.sampled = out;
  backend_.compute(call);
}

}  // namespace sluice::cuda
