#include "kernels/cuda/products.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

constexpr std::int64_t kAlignedRows = 64;

/// How many rows of `row_bytes` fit; never none.
std::int64_t rows_that_fit(std::size_t bytes, std::int64_t columns, DType dtype) {
  return std::max<std::int64_t>(
      1, static_cast<std::int64_t>(bytes / (static_cast<std::size_t>(columns) * size_of(dtype))));
}

/// Elements from row to row of results in scratch memory: 16-byte aligned.
std::int64_t scratch_stride(std::int64_t columns) { return (columns + 3) / 4 * 4; }

ProductShape shape_of(const Columns& out, const TensorView& in, const TensorView& weight,
                      const ProductTail& tail) {
  ProductShape shape;
  shape.rows = in.rows;
  shape.columns = weight.rows;
  shape.depth = weight.columns;
  shape.in = in.dtype;
  shape.weight = weight.dtype;
  shape.out = out.dtype;
  if (tail.bias.there()) shape.bias = tail.bias.dtype;
  shape.bias_aligned = alignment_of(tail.bias.data) >= 16;
  shape.operands_aligned = alignment_of(in.data) >= 16 && alignment_of(weight.data) >= 16 &&
                           in.row_bytes() % 16 == 0 && weight.row_bytes() % 16 == 0;
  shape.out_aligned = alignment_of(out.data) >= 16 &&
                      out.stride * static_cast<std::int64_t>(size_of(out.dtype)) % 16 == 0;
  shape.activation = tail.activation;
  if (tail.residual.there()) shape.residual = tail.residual.dtype;
  shape.combine = tail.combine;
  shape.residual_is_out = tail.residual.there() && tail.residual.data == out.data;
  return shape;
}

}  // namespace

ProductRules rules_of_device() {
  int device = 0;
  int major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "cudaDeviceGetAttribute");
  // For measuring what cuBLASLt's ReLU brings, and whether it keeps NaN.
  const char* const relu = std::getenv("SLUICE_CUDA_LIBRARY_RELU");
  ProductRules rules;
  rules.tensor_cores = major >= 8;
  check(cudaDeviceGetAttribute(&rules.multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  if (relu != nullptr) rules.cublas_relu = relu[0] != '0';
  return rules;
}

Products::Products(std::byte* workspace, const ProductRules& rules)
    : rules_(rules),
      input_(workspace),
      weights_(workspace + kInputBytes),
      library_(workspace + kInputBytes + kWeightBytes, kProductBytes) {}

void Products::linear(cudaStream_t stream, TensorView out, TensorView in, const SplitMatrix& weight,
                      TensorView bias, kernels::Activation activation, TensorView residual,
                      Combine combine) {
  const Columns all = Columns::of(out);
  const ProductTail tail{Columns::of(bias), activation, Columns::of(residual), combine};
  in_workspace_ = {};
  std::int64_t first = 0;
  for (const TensorView& part : {weight.resident, weight.streamed}) {
    if (part.rows == 0) continue;
    multiply({stream, all.columns_from(first, part.rows), in, part,
              tail.columns_from(first, part.rows)});
    first += part.rows;
  }
}

void Products::multiply(const Part& part) {
  const ProductPlan plan =
      plan_product(shape_of(part.out, part.in, part.weight, part.tail), rules_);
  switch (plan.way) {
    case ProductWay::few_rows:
      return launch_few_rows_product(part.stream, part.out, converted(part, plan.operand),
                                     part.weight, part.tail);
    case ProductWay::quantized:
      return launch_quantized_product(part.stream, part.out, part.in, part.weight, part.tail);
    case ProductWay::tensor:
      return multiply_on_tensor_cores(part, plan);
    case ProductWay::library:
      return multiply_by_library(part, plan);
  }
}

void Products::multiply_on_tensor_cores(const Part& part, const ProductPlan& plan) {
  const std::int64_t most = rows_that_fit(std::min(kWeightBytes, rules_.piece_bytes),
                                          kTensorMostRows * part.weight.rows, DType::f32);
  launch_tensor_product(part.stream, part.out, part.in, part.weight, part.tail,
                        static_cast<int>(std::min<std::int64_t>(plan.splits, most)),
                        reinterpret_cast<float*>(weights_));
}

/// Quantised weights are expanded, each once, as many rows at a time as the workspace holds.
void Products::multiply_by_library(const Part& part, const ProductPlan& plan) {
  if (!is_quantized(part.weight.dtype)) return multiply_rows(part, plan);
  std::int64_t most =
      rows_that_fit(std::min(kWeightBytes, rules_.piece_bytes), part.weight.columns, plan.operand);
  // Columns of the result that begin at odd addresses are what cuBLASLt has slow kernels for.
  if (most > kAlignedRows) most = most / kAlignedRows * kAlignedRows;
  for (std::int64_t first = 0; first < part.weight.rows; first += most) {
    const TensorView packed = part.weight.slice(first, std::min(most, part.weight.rows - first));
    launch_expand(part.stream, packed, plan.operand, weights_);
    multiply_rows({part.stream, part.out.columns_from(first, packed.rows), part.in,
                   TensorView{weights_, plan.operand, packed.rows, packed.columns},
                   part.tail.columns_from(first, packed.rows)},
                  plan);
  }
}

/// part.weight is of plan.operand.
void Products::multiply_rows(const Part& part, const ProductPlan& plan) {
  std::int64_t most = part.in.rows;
  if (part.in.dtype != plan.operand) {
    most = std::min(most, rows_that_fit(std::min(kInputBytes, rules_.piece_bytes), part.in.columns,
                                        plan.operand));
  }
  if (plan.scratch) {
    most = std::min(most, rows_that_fit(std::min(kWeightBytes, rules_.piece_bytes),
                                        scratch_stride(part.out.columns), DType::f32));
  }
  for (std::int64_t first = 0; first < part.in.rows; first += most) {
    const std::int64_t rows = std::min(most, part.in.rows - first);
    Part piece{part.stream, part.out.rows_from(first, rows), part.in.slice(first, rows),
               part.weight, part.tail.rows_from(first, rows)};
    piece.in = converted(piece, plan.operand);
    // An epilogue may be what cuBLASLt cannot do; then that is ours.
    const bool fused = plan.bias || plan.relu;
    if (try_library(piece, plan) || (fused && try_library(piece, plan.bare()))) continue;
    launch_few_rows_product(piece.stream, piece.out, piece.in, piece.weight, piece.tail);
  }
}

bool Products::try_library(const Part& part, const ProductPlan& plan) {
  Columns result = part.out;
  if (plan.scratch) {
    result = {weights_, DType::f32, part.out.rows, part.out.columns,
              scratch_stride(part.out.columns)};
  }
  LibraryCall call;
  call.rows = part.in.rows;
  call.columns = part.weight.rows;
  call.depth = part.weight.columns;
  call.out_stride = result.stride;
  call.operand = plan.operand;
  call.result = plan.result;
  call.bias = plan.bias;
  call.relu = plan.relu;
  call.residual = plan.residual;
  const bool done = library_.run(
      part.stream, call,
      {result.data, part.in.data, part.weight.data, plan.bias ? part.tail.bias.data : nullptr,
       plan.residual ? part.tail.residual.data : nullptr});
  if (done && plan.has_tail()) {
    launch_epilogue(part.stream, part.out, result,
                    {plan.tail_bias ? part.tail.bias : Columns{}, plan.tail_activation,
                     plan.tail_residual ? part.tail.residual : Columns{}, part.tail.combine});
  }
  return done;
}

/// The inputs as `operand`: where they are, or converted, once for all parts of a call.
TensorView Products::converted(const Part& part, DType operand) {
  const TensorView& in = part.in;
  if (in.dtype == operand) return in;
  const TensorView to{input_, operand, in.rows, in.columns};
  if (in_workspace_.from == in && in_workspace_.to == to) return to;
  launch_convert(part.stream, operand, input_, in.dtype, in.data, in.rows * in.columns);
  in_workspace_ = {in, to};
  return to;
}

}  // namespace sluice::cuda
