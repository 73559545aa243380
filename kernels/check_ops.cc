#include "kernels/check_ops.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "kernels/device/error.h"

namespace sluice::kernels {

namespace {

std::string shape_of(const TensorView& view) {
  return fmt::format("{} [{}, {}]", name_of(view.dtype), view.rows, view.columns);
}

[[noreturn]] void refuse(const char* operation, const char* what, const TensorView& view,
                         const std::string& rule) {
  throw DeviceError(fmt::format("{}: {} is {}, but must be {}; this is a bug of the caller",
                                operation, what, shape_of(view), rule));
}

void check_data(const char* operation, const char* what, const TensorView& view) {
  if (view.rows < 0 || view.columns < 1) refuse(operation, what, view, "of a size that can be");
  if (view.rows > 0 && view.data == nullptr) refuse(operation, what, view, "somewhere in memory");
}

void check_shape(const char* operation, const char* what, const TensorView& view, std::int64_t rows,
                 std::int64_t columns) {
  if (view.rows != rows || view.columns != columns) {
    refuse(operation, what, view, fmt::format("[{}, {}]", rows, columns));
  }
}

void check_dtype(const char* operation, const char* what, const TensorView& view, DType dtype) {
  if (view.dtype != dtype) refuse(operation, what, view, std::string(name_of(dtype)));
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
    refuse(operation, what, view, fmt::format("f32, f16 or bf16 [1, {}]", columns));
  }
}

void check_split(const char* operation, const SplitMatrix& matrix, std::int64_t columns) {
  for (const TensorView* part : {&matrix.resident, &matrix.streamed}) {
    if (part->rows == 0) continue;
    check_weights(operation, "a part of the weights", *part);
    if (part->columns != columns || part->dtype != matrix.dtype()) {
      refuse(operation, "a part of the weights", *part,
             fmt::format("{} of {} columns", name_of(matrix.dtype()), columns));
    }
  }
}

}  // namespace

void OpChecks::activations(const char* operation, const char* what, const TensorView& view) const {
  check_data(operation, what, view);
  if (view.dtype == DType::f32) return;
  if (!sixteen_bits) refuse(operation, what, view, "f32, the dtype of activations on the CPU");
  if (view.dtype != DType::f16 && view.dtype != DType::bf16) {
    refuse(operation, what, view, "f32, f16 or bf16");
  }
}

void OpChecks::like(const char* operation, const char* what, const TensorView& view,
                    const TensorView& model) const {
  activations(operation, what, view);
  check_shape(operation, what, view, model.rows, model.columns);
  check_dtype(operation, what, view, model.dtype);
}

OpChecks OpChecks::at_cache() const {
  OpChecks checks = *this;
  checks.sixteen_bits = sixteen_bits || sixteen_bits_at_cache;
  return checks;
}

void OpChecks::cache(const char* operation, const KvPages& cache, const KvBatch& batch) const {
  const bool sound = cache.base != nullptr && cache.page_tokens >= 1 && cache.kv_heads >= 1 &&
                     cache.head_dim >= 1 && cache.head_dim <= most_head_dim &&
                     cache.dtype != DType::i32 && cache.page_stride_bytes >= 0 &&
                     static_cast<std::size_t>(cache.page_stride_bytes) >= cache.page_bytes();
  if (!sound) {
    throw DeviceError(fmt::format(
        "{}: a KV cache of {} KV heads of {} elements (at most {}), pages of {} tokens and {} "
        "bytes, dtype {} cannot be; this is a bug of the caller",
        operation, cache.kv_heads, cache.head_dim, most_head_dim, cache.page_tokens,
        cache.page_stride_bytes, name_of(cache.dtype)));
  }
  const bool arrays = batch.first_row != nullptr && batch.new_tokens != nullptr &&
                      batch.context != nullptr && batch.pages != nullptr;
  if (cache.old_values != nullptr && batch.old_pages == nullptr) {
    throw DeviceError(fmt::format(
        "{}: values of old tokens lie apart, and nothing says in which pages; this is a bug of the "
        "caller",
        operation));
  }
  if (batch.sequences < 0 || batch.max_pages < 0 || (batch.sequences > 0 && !arrays)) {
    throw DeviceError(
        fmt::format("{}: a batch of {} sequences lacks its arrays; this is a bug of "
                    "the caller",
                    operation, batch.sequences));
  }
}

void OpChecks::gather(const char* operation, const TensorView& out,
                      const SplitMatrix& table) const {
  activations(operation, "out", out);
  check_split(operation, table, out.columns);
}

void OpChecks::select_rows(const TensorView& out, const TensorView& in) const {
  activations("select_rows", "in", in);
  activations("select_rows", "out", out);
  check_shape("select_rows", "out", out, out.rows, in.columns);
  check_dtype("select_rows", "out", out, in.dtype);
}

void OpChecks::layer_norm(const TensorView& out, const TensorView& in, const TensorView& weight,
                          const TensorView& bias) const {
  activations("layer_norm", "in", in);
  like("layer_norm", "out", out, in);
  check_vector("layer_norm", "weight", weight, in.columns);
  check_vector("layer_norm", "bias", bias, in.columns);
}

void OpChecks::rms_norm(const TensorView& out, const TensorView& in,
                        const TensorView& weight) const {
  activations("rms_norm", "in", in);
  like("rms_norm", "out", out, in);
  check_vector("rms_norm", "weight", weight, in.columns);
}

void OpChecks::rotate(const TensorView& rows, const Rotation& rotation) const {
  activations("rotate", "rows", rows);
  const bool sound = rotation.head_dim >= 1 && rotation.head_dim <= most_head_dim &&
                     rotation.width >= 2 && rotation.width % 2 == 0 &&
                     rotation.width <= rotation.head_dim && rotation.frequencies != nullptr;
  if (!sound) {
    throw DeviceError(
        fmt::format("rotate: {} elements of a head of {} (at most {}) {} frequencies cannot turn; "
                    "this is a bug of the caller",
                    rotation.width, rotation.head_dim, most_head_dim,
                    rotation.frequencies == nullptr ? "without" : "with"));
  }
  if (rows.columns % rotation.head_dim != 0) {
    refuse("rotate", "rows", rows, fmt::format("a multiple of {} wide", rotation.head_dim));
  }
}

void OpChecks::in_place(const char* operation, const TensorView& rows) const {
  activations(operation, "rows", rows);
}

void OpChecks::soft_cap(const TensorView& rows, float cap) const {
  activations("soft_cap", "rows", rows);
  if (!(cap > 0)) {
    throw DeviceError(
        fmt::format("soft_cap: a cap of {} is not above zero; this is a bug of the caller", cap));
  }
}

void OpChecks::add(const TensorView& out, const TensorView& in) const {
  activations("add", "in", in);
  like("add", "out", out, in);
}

void OpChecks::widen_rows(const TensorView& out, const TensorView& in) const {
  activations("widen_rows", "in", in);
  activations("widen_rows", "out", out);
  check_shape("widen_rows", "out", out, in.rows, std::max(in.columns, out.columns));
  check_dtype("widen_rows", "out", out, in.dtype);
}

void OpChecks::clamp(const TensorView& rows, float limit) const {
  activations("clamp", "rows", rows);
  if (!(limit > 0)) {
    throw DeviceError(
        fmt::format("clamp: a limit of {} is not above zero; this is a bug of the caller", limit));
  }
}

void OpChecks::route(const RoutedRows& routed, const TensorView& logits,
                     const TensorView& correction, const RouterRule& rule) const {
  check_data("route", "logits", logits);
  check_dtype("route", "logits", logits, DType::f32);
  check_vector("route", "correction", correction, logits.columns);
  const std::int64_t experts = logits.columns;
  const bool mixes = rule.score == RouterScore::sparse_mixer;
  const bool sound =
      experts <= kMostExperts && rule.chosen >= 1 && rule.chosen <= kMostChosenExperts &&
      rule.groups >= 1 && rule.groups <= kMostExpertGroups && experts % rule.groups == 0 &&
      rule.kept_groups >= 1 && rule.kept_groups <= rule.groups && rule.group_best >= 1 &&
      rule.chosen <= experts / rule.groups * rule.kept_groups && (!mixes || rule.chosen == 2);
  const bool arrays = routed.counts != nullptr && routed.rows != nullptr &&
                      routed.weights != nullptr && routed.chosen != nullptr &&
                      routed.scores != nullptr;
  if (!sound || !arrays) {
    throw DeviceError(
        fmt::format("route: {} of {} experts in {} of {} groups {} cannot be chosen; this is a bug "
                    "of the caller",
                    rule.chosen, experts, rule.kept_groups, rule.groups,
                    arrays ? "" : "without memory for them"));
  }
}

void OpChecks::add_rows(const TensorView& out, const TensorView& in,
                        const RowFactors& where) const {
  activations("add_rows", "in", in);
  activations("add_rows", "out", out);
  const std::int64_t rows = where.rows == nullptr ? in.rows : out.rows;
  check_shape("add_rows", "out", out, rows, in.columns);
}

void OpChecks::product(const char* operation, const TensorView& out, const TensorView& in,
                       const SplitMatrix& weight, const TensorView& bias) const {
  activations(operation, "in", in);
  check_split(operation, weight, in.columns);
  activations(operation, "out", out);
  check_shape(operation, "out", out, in.rows, weight.rows());
  if (out.dtype != DType::f32) check_dtype(operation, "out", out, in.dtype);
  check_vector(operation, "bias", bias, weight.rows());
}

void OpChecks::linear(const TensorView& out, const TensorView& in, const SplitMatrix& weight,
                      const TensorView& bias, const TensorView& residual) const {
  product("linear", out, in, weight, bias);
  if (residual.rows > 0) like("linear", "residual", residual, out);
}

void OpChecks::linear_times(const TensorView& out, const TensorView& in, const SplitMatrix& weight,
                            const TensorView& bias, const TensorView& factor) const {
  product("linear_times", out, in, weight, bias);
  like("linear_times", "factor", factor, out);
}

void OpChecks::append_kv(const KvPages& cache, const KvBatch& batch, const TensorView& keys,
                         const TensorView& values) const {
  const OpChecks checks = at_cache();
  checks.activations("append_kv", "keys", keys);
  checks.cache("append_kv", cache, batch);
  const std::int64_t width = std::int64_t{cache.kv_heads} * cache.head_dim;
  if (keys.columns != width) {
    refuse("append_kv", "keys", keys,
           fmt::format("kv_heads x head_dim = {} x {} wide", cache.kv_heads, cache.head_dim));
  }
  checks.like("append_kv", "values", values, keys);
}

void OpChecks::attention(const TensorView& out, const TensorView& query, const KvPages& cache,
                         const KvBatch& batch, const AttentionRule& rule) const {
  const OpChecks checks = at_cache();
  checks.activations("attention", "query", query);
  checks.cache("attention", cache, batch);
  if (query.columns % (std::int64_t{cache.kv_heads} * cache.head_dim) != 0) {
    refuse("attention", "query", query,
           fmt::format("a multiple of kv_heads x head_dim = {} x {} wide", cache.kv_heads,
                       cache.head_dim));
  }
  checks.like("attention", "out", out, query);
  if (rule.kept_millionths > 0 && is_quantized(cache.dtype)) {
    throw DeviceError(
        fmt::format("attention: sparse over a cache of {}; it takes f32, f16 and bf16; this is a "
                    "bug of the caller",
                    name_of(cache.dtype)));
  }
}

}  // namespace sluice::kernels
