#include "kernels/cuda/product_plan.h"

#include <algorithm>

namespace sluice::cuda {

namespace {

using kernels::Activation;

/// Dense weights are multiplied as they are; quantised ones as what the result is, so that nothing
/// is rounded once more.
DType operand_of(const ProductShape& shape) {
  if (!is_quantized(shape.weight)) return shape.weight;
  if (shape.out != DType::f32) return shape.out;
  return shape.in != DType::f32 ? shape.in : DType::f16;
}

void plan_library(const ProductShape& shape, const ProductRules& rules, ProductPlan& plan) {
  const bool activates = shape.activation != Activation::none;
  const bool out_fits = shape.out == DType::f32 || shape.out == plan.operand;
  // cuBLASLt can only add a residual to the sums themselves.
  const bool combines_last = activates || shape.combine != Combine::add;
  // What out held is needed after the product.
  const bool out_is_needed = combines_last && shape.residual && shape.residual_is_out;
  // Results of 16 bits at odd addresses are what cuBLASLt has slow kernels for, or none. (Expanded
  // weights lie where the scratch would.)
  const bool odd = !shape.out_aligned && shape.out != DType::f32 && !is_quantized(shape.weight);
  plan.scratch = !out_fits || out_is_needed || odd;
  plan.result = plan.scratch ? DType::f32 : shape.out;
  plan.residual = shape.residual == plan.result && !combines_last && !plan.scratch;
  plan.bias = shape.bias == plan.result && shape.bias_aligned && !plan.scratch;
  plan.relu = shape.activation == Activation::relu && rules.cublas_relu && !plan.scratch &&
              (plan.bias || !shape.bias);
  plan.tail_bias = shape.bias && !plan.bias;
  plan.tail_activation = plan.relu ? Activation::none : shape.activation;
  plan.tail_residual = shape.residual && !plan.residual;
}

/// What tensor_product.cuh asks for.
bool fits_tensor_cores(const ProductShape& shape) {
  return shape.in != DType::f32 && shape.operands_aligned && shape.depth % kTensorPart == 0;
}

/// Two blocks a multiprocessor, but none of less than 1024 columns: what blocks of a split write,
/// another kernel reads once more.
int tensor_splits(const ProductShape& shape, const ProductRules& rules) {
  constexpr std::int64_t kLeastParts = 4;
  const std::int64_t blocks = (shape.columns + kTensorBlock - 1) / kTensorBlock;
  const std::int64_t filling = 2 * std::int64_t{rules.multiprocessors} / blocks;
  const std::int64_t most = shape.depth / kTensorPart / kLeastParts;
  return static_cast<int>(std::max<std::int64_t>(1, std::min(filling, most)));
}

}  // namespace

ProductPlan plan_product(const ProductShape& shape, const ProductRules& rules) {
  ProductPlan plan;
  plan.operand = operand_of(shape);
  if (is_quantized(shape.weight)) {
    plan_library(shape, rules, plan);
    // Scratch memory is where the expanded weights are; our own kernel can do any number of rows.
    const bool tensor = rules.tensor_cores && fits_tensor_cores(shape);
    if (shape.rows <= (tensor ? rules.tensor_rows : rules.quantized_rows) || plan.scratch) {
      plan = {.way = tensor ? ProductWay::tensor : ProductWay::quantized, .operand = shape.in};
      if (tensor) plan.splits = tensor_splits(shape, rules);
    }
  } else if (shape.rows <= rules.few_rows) {
    plan = {.way = ProductWay::few_rows, .operand = shape.weight};
  } else {
    plan_library(shape, rules, plan);
  }
  return plan;
}

ProductPlan ProductPlan::bare() const {
  ProductPlan plan = *this;
  if (relu) plan.tail_activation = Activation::relu;
  plan.tail_bias = tail_bias || bias;
  plan.relu = false;
  plan.bias = false;
  return plan;
}

std::uint64_t hash_of(const LibraryCall& call) {
  std::uint64_t hash = 14695981039346656037U;
  const auto add = [&](std::uint64_t value) {
    hash = (hash ^ value) * 1099511628211U;
    hash ^= hash >> 29U;
  };
  for (const std::int64_t size : {call.rows, call.columns, call.depth, call.out_stride}) {
    add(static_cast<std::uint64_t>(size));
  }
  add(static_cast<std::uint64_t>(call.operand) | static_cast<std::uint64_t>(call.result) << 8U |
      std::uint64_t{call.bias} << 16U | std::uint64_t{call.relu} << 17U |
      std::uint64_t{call.residual} << 18U | std::uint64_t{call.in_place} << 19U);
  add(call.weight_alignment | std::uint64_t{call.in_alignment} << 32U);
  add(call.residual_alignment | std::uint64_t{call.out_alignment} << 32U);
  return hash;
}

std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address);
  const std::uintptr_t lowest = bits & (~bits + 1);
  return static_cast<std::uint32_t>(
      bits == 0 ? 256 : std::min<std::uintptr_t>(lowest, std::uintptr_t{256}));
}

}  // namespace sluice::cuda
