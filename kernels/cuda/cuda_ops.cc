#include "kernels/cuda/cuda_ops.h"

#include <fmt/core.h>

#include "kernels/cuda/launches.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

void check_activations(const char* operation, const TensorView& view) {
  const bool known =
      view.dtype == DType::f32 || view.dtype == DType::f16 || view.dtype == DType::bf16;
  if (view.rows > 0 && (!known || view.data == nullptr)) {
    throw DeviceError(
        fmt::format("{}: activations are {} [{}, {}], but must be f32, f16 or bf16 in device "
                    "memory; this is a bug of the caller",
                    operation, name_of(view.dtype), view.rows, view.columns));
  }
}

}  // namespace

void CudaOps::gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  check_activations("gather", out);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::gather;
  call.out = out;
  call.weight = table;
  call.ids = ids;
  backend_.compute(call);
}

void CudaOps::gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  check_activations("gather_add", out);
  if (out.rows == 0) return;
  OpCall call;
  call.kind = OpKind::gather_add;
  call.out = out;
  call.weight = table;
  call.ids = ids;
  backend_.compute(call);
}

void CudaOps::select_rows(TensorView out, TensorView in, const std::int32_t* rows) {
  check_activations("select_rows", out);
  check_activations("select_rows", in);
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
  check_activations("layer_norm", in);
  check_activations("layer_norm", out);
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

void CudaOps::linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                     kernels::Activation activation, TensorView residual) {
  check_activations("linear", in);
  check_activations("linear", out);
  check_activations("linear", residual);
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

void CudaOps::append_kv(const kernels::KvPages& cache, const kernels::KvBatch& batch,
                        TensorView keys, TensorView values) {
  check_activations("append_kv", keys);
  check_activations("append_kv", values);
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
                        const kernels::KvBatch& batch, float scale) {
  check_activations("attention", query);
  check_activations("attention", out);
  if (batch.sequences == 0) return;
  OpCall call;
  call.kind = OpKind::attention;
  call.number = scale;
  call.out = out;
  call.in = query;
  call.cache = cache;
  call.batch = batch;
  backend_.compute(call);
}

void CudaOps::sample(kernels::SampledRow* out, TensorView logits, const kernels::SampleRow* rows,
                     const std::int32_t* history) {
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
  call.ids = history;
  call.sample_rows = rows;
  call.sampled = out;
  backend_.compute(call);
}

}  // namespace sluice::cuda
