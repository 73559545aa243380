// How a product is done: decided from shapes, dtypes and alignment alone, so that every choice can
// be tested where no device is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/cuda/product_views.h"
#include "kernels/device/dtype.h"
#include "kernels/ops.h"

namespace sluice::cuda {

/// out [rows, columns] = activation(in W^T + bias) + residual, or times it; W: [columns, depth],
/// one part of a SplitMatrix.
struct ProductShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;
  DType in = DType::f32;
  DType weight = DType::f32;
  DType out = DType::f32;
  std::optional<DType> bias;
  bool bias_aligned = true;      // to 16 bytes,
  bool operands_aligned = true;  // every row of in and weight,
  bool out_aligned = true;       // and of out
  kernels::Activation activation = kernels::Activation::none;
  std::optional<DType> residual;  // of out's shape
  Combine combine = Combine::add;
  bool residual_is_out = false;

  bool operator==(const ProductShape&) const = default;
};

// What a block of tensor_product.cuh has:
constexpr int kTensorBlock = 128;          // rows of weights
constexpr int kTensorMostRows = 64;        // of the input
constexpr std::int64_t kTensorPart = 256;  // columns at a time: what their number is a multiple of

/// What the device can do, and which of our own kernels are asked for.
struct ProductRules {
  /// Rows up to which dense weights are multiplied by our own kernel. One, until measured: a matrix
  /// by one vector is where cuBLASLt is known to be slow.
  std::int64_t few_rows = 1;
  /// Rows up to which quantised weights are multiplied as they are, on plain cores and on tensor
  /// cores; beyond, they are expanded once. Not measured: chosen by bytes that must be moved.
  std::int64_t quantized_rows = 16;
  std::int64_t tensor_rows = kTensorMostRows;
  bool tensor_cores = false;  // sm_80 and later
  int multiprocessors = 0;    // that blocks of tensor_product.cuh are to fill
  /// Whether cuBLASLt does ReLU. Its max(0, x) may make 0 of NaN, which must not be hidden, so not
  /// until a GPU was seen to keep NaN (CudaLibrary.ReluKeepsNaN); then it saves reading and writing
  /// the result once.
  bool cublas_relu = false;
  /// Most of the workspace that one conversion or expansion takes, if it is less than all.
  std::size_t piece_bytes = ~std::size_t{0};
};

enum class ProductWay : std::uint8_t {
  few_rows,   // our own kernel, dense weights
  quantized,  // our own kernel, quantised weights
  tensor,     // the same on tensor cores
  library     // cuBLASLt, and our own kernel for what it did not do
};

struct ProductPlan {
  ProductWay way = ProductWay::library;
  /// What weights and inputs are multiplied as: inputs of another dtype are converted, quantised
  /// weights expanded.
  DType operand = DType::f32;
  /// Of ProductWay::tensor: into how many the columns of the weights are cut. The same for every
  /// number of rows, so that a row has the same bits in any company.
  int splits = 1;
  // Of ProductWay::library:
  DType result = DType::f32;  // of cuBLASLt
  bool scratch = false;       // it goes to scratch memory, not to out
  bool bias = false;          // cuBLASLt adds it,
  bool relu = false;          // does this,
  bool residual = false;      // and adds this
  bool tail_bias = false;     // the same of our own kernel that comes after it
  bool tail_residual = false;
  kernels::Activation tail_activation = kernels::Activation::none;

  bool has_tail() const {
    return scratch || tail_bias || tail_residual || tail_activation != kernels::Activation::none;
  }
  /// The same with all but the residual left to the tail: what cuBLASLt can do for more shapes.
  ProductPlan bare() const;
  bool operator==(const ProductPlan&) const = default;
};

ProductPlan plan_product(const ProductShape& shape, const ProductRules& rules);

/// Everything that determines a call of cuBLASLt.
struct LibraryCall {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;
  std::int64_t out_stride = 0;  // elements from row to row, of the residual, too
  DType operand = DType::f32;
  DType result = DType::f32;
  bool bias = false;
  bool relu = false;
  bool residual = false;
  bool in_place = false;  // the residual is out
  // Bytes, powers of two up to 256:
  std::uint32_t weight_alignment = 0;
  std::uint32_t in_alignment = 0;
  std::uint32_t residual_alignment = 0;  // that of out, where there is none
  std::uint32_t out_alignment = 0;

  bool operator==(const LibraryCall&) const = default;
};
std::uint64_t hash_of(const LibraryCall& call);

/// Largest power of two that divides the address, up to 256.
std::uint32_t alignment_of(const void* address);

}  // namespace sluice::cuda
