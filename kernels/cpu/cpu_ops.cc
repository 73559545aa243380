#include "kernels/cpu/cpu_ops.h"

#include <fmt/core.h>

#include <utility>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/operations.h"
#include "kernels/device/error.h"

namespace sluice::kernels {

namespace {

std::string shape_of(const TensorView& view) {
  return fmt::format("{} [{}, {}]", name_of(view.dtype), view.rows, view.columns);
}

[[noreturn]] void refuse(const char* operation, const char* what, const TensorView& view,
                         const char* rule) {
  throw DeviceError(fmt::format("{}: {} is {}, but must be {}; this is a bug of the caller",
                                operation, what, shape_of(view), rule));
}

void check_data(const char* operation, const char* what, const TensorView& view) {
  if (view.rows < 0 || view.columns < 1) refuse(operation, what, view, "of a size that can be");
  if (view.rows > 0 && view.data == nullptr) refuse(operation, what, view, "somewhere in memory");
}

void check_activations(const char* operation, const char* what, const TensorView& view) {
  check_data(operation, what, view);
  if (view.dtype != DType::f32) {
    refuse(operation, what, view, "f32, the dtype of activations on the CPU");
  }
}

void check_like(const char* operation, const char* what, const TensorView& view, std::int64_t rows,
                std::int64_t columns) {
  check_activations(operation, what, view);
  if (view.rows != rows || view.columns != columns) {
    refuse(operation, what, view, fmt::format("[{}, {}]", rows, columns).c_str());
  }
}

/// Rows that meet a KV cache, which the CPU also takes from a device that computes in 16 bits.
void check_rows(const char* operation, const char* what, const TensorView& view) {
  check_data(operation, what, view);
  if (view.dtype != DType::f32 && view.dtype != DType::f16 && view.dtype != DType::bf16) {
    refuse(operation, what, view, "f32, f16 or bf16");
  }
}

void check_same(const char* operation, const char* what, const TensorView& view,
                const TensorView& as) {
  check_rows(operation, what, view);
  if (view.dtype != as.dtype || view.rows != as.rows || view.columns != as.columns) {
    refuse(operation, what, view, shape_of(as).c_str());
  }
}

void check_weights(const char* operation, const char* what, const TensorView& view) {
  check_data(operation, what, view);
  if (view.dtype == DType::i32) refuse(operation, what, view, "f32, f16, bf16, q8 or q4");
}

/// A vector that may be absent.
void check_vector(const char* operation, const char* what, const TensorView& view,
                  std::int64_t columns) {
  if (view.rows == 0) return;
  check_weights(operation, what, view);
  if (view.rows != 1 || view.columns != columns || is_quantized(view.dtype)) {
    refuse(operation, what, view, fmt::format("f32, f16 or bf16 [1, {}]", columns).c_str());
  }
}

void check_split(const char* operation, const SplitMatrix& matrix, std::int64_t columns) {
  for (const TensorView* part : {&matrix.resident, &matrix.streamed}) {
    if (part->rows == 0) continue;
    check_weights(operation, "a part of the weights", *part);
    if (part->columns != columns || part->dtype != matrix.dtype()) {
      refuse(operation, "a part of the weights", *part,
             fmt::format("{} of {} columns", name_of(matrix.dtype()), columns).c_str());
    }
  }
}

void check_cache(const char* operation, const KvPages& cache, const KvBatch& batch,
                 const TensorView& rows) {
  check_rows(operation, "the new rows", rows);
  const bool sound = cache.base != nullptr && cache.page_tokens >= 1 && cache.heads >= 1 &&
                     cache.head_dim >= 1 && cache.head_dim <= kMaxHeadDim &&
                     cache.dtype != DType::i32 && cache.page_stride_bytes >= 0 &&
                     static_cast<std::size_t>(cache.page_stride_bytes) >= cache.page_bytes();
  if (!sound) {
    throw DeviceError(fmt::format(
        "{}: a KV cache of {} heads of {} elements (at most {}), pages of {} tokens and {} bytes, "
        "dtype {} cannot be; this is a bug of the caller",
        operation, cache.heads, cache.head_dim, kMaxHeadDim, cache.page_tokens,
        cache.page_stride_bytes, name_of(cache.dtype)));
  }
  if (rows.columns != std::int64_t{cache.heads} * cache.head_dim) {
    refuse(operation, "the new rows", rows, "heads x head_dim wide");
  }
  const bool arrays = batch.first_row != nullptr && batch.new_tokens != nullptr &&
                      batch.context != nullptr && batch.pages != nullptr;
  if (batch.sequences < 0 || batch.max_pages < 0 || (batch.sequences > 0 && !arrays)) {
    throw DeviceError(
        fmt::format("{}: a batch of {} sequences lacks its arrays; this is a bug of "
                    "the caller",
                    operation, batch.sequences));
  }
}

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
  check_activations("gather", "out", out);
  check_split("gather", table, out.columns);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::gather(*context, out, table, ids, false); });
}

void CpuOps::gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) {
  check_activations("gather_add", "out", out);
  check_split("gather_add", table, out.columns);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::gather(*context, out, table, ids, true); });
}

void CpuOps::select_rows(TensorView out, TensorView in, const std::int32_t* rows) {
  check_activations("select_rows", "in", in);
  check_like("select_rows", "out", out, out.rows, in.columns);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::select_rows(*context, out, in, rows); });
}

void CpuOps::layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                        float epsilon) {
  check_activations("layer_norm", "in", in);
  check_like("layer_norm", "out", out, in.rows, in.columns);
  check_vector("layer_norm", "weight", weight, in.columns);
  check_vector("layer_norm", "bias", bias, in.columns);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::layer_norm(*context, out, in, weight, bias, epsilon); });
}

void CpuOps::linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                    Activation activation, TensorView residual) {
  check_activations("linear", "in", in);
  check_split("linear", weight, in.columns);
  check_like("linear", "out", out, in.rows, weight.rows());
  check_vector("linear", "bias", bias, weight.rows());
  if (residual.rows > 0) check_like("linear", "residual", residual, out.rows, out.columns);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] {
    if (is_quantized(weight.dtype())) {
      linear_quantized(*context, out, in, weight, bias, activation, residual, best_product());
    } else {
      kernels::linear(*context, out, in, weight, bias, activation, residual);
    }
  });
}

void CpuOps::append_kv(const KvPages& cache, const KvBatch& batch, TensorView keys,
                       TensorView values) {
  check_cache("append_kv", cache, batch, keys);
  check_same("append_kv", "values", values, keys);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::append_kv(*context, cache, batch, keys, values); });
}

void CpuOps::attention(TensorView out, TensorView query, const KvPages& cache, const KvBatch& batch,
                       float scale) {
  check_cache("attention", cache, batch, query);
  check_same("attention", "out", out, query);
  const CpuContext* context = &context_;
  backend_.put(lane_, [=] { kernels::attention(*context, out, query, cache, batch, scale); });
}

}  // namespace sluice::kernels
