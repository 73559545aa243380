// The oracle: every operation of kernels/ops.h in plain loops and double precision. It is slow, and
// simple enough to be trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/device/dtype.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::reference {

/// The value of a 16-bit float, and the nearest 16-bit float (ties to even), by arithmetic alone.
double from_f16(std::uint16_t bits);
std::uint16_t to_f16(double value);
double from_bf16(std::uint16_t bits);
std::uint16_t to_bf16(double value);

/// A matrix of any type that owns its bytes; read and written as doubles.
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::int64_t rows, std::int64_t columns, DType dtype = DType::f32);
  /// Filled with values of about [-1, 1] that depend on `seed` alone.
  static Matrix random(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  DType dtype() const { return dtype_; }
  double at(std::int64_t row, std::int64_t column) const;
  void set(std::int64_t row, std::int64_t column, double value);

  /// Of this matrix's own bytes.
  TensorView view();
  /// The first `resident` rows as one part, the others as the other.
  SplitMatrix split(std::int64_t resident);
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  DType dtype_ = DType::f32;
  std::vector<std::byte> bytes_;
};

Matrix gather(const Matrix& table, const std::vector<std::int32_t>& ids);

/// `weight` and `bias` may have no rows.
Matrix layer_norm(const Matrix& in, const Matrix& weight, const Matrix& bias, double epsilon);

/// `weight` may have no rows.
Matrix rms_norm(const Matrix& in, const Matrix& weight, double epsilon, double offset);

/// Of one position per row.
Matrix rotate(const Matrix& rows, const kernels::Rotation& rotation,
              const std::vector<std::int32_t>& positions);

double activate(double value, kernels::Activation activation);

/// `bias` and `residual` may have no rows.
Matrix linear(const Matrix& in, const Matrix& weight, const Matrix& bias,
              kernels::Activation activation, const Matrix& residual);

/// One sequence, whose last tokens have the queries. query: [.., query_heads * head_dim]; keys and
/// values: [tokens, kv_heads * head_dim], where query_heads is a multiple of kv_heads.
Matrix attention(const Matrix& query, const Matrix& keys, const Matrix& values,
                 std::int32_t query_heads, double scale);
Matrix attention(const Matrix& query, const Matrix& keys, const Matrix& values,
                 std::int32_t query_heads, const kernels::AttentionRule& rule);

}  // namespace sluice::reference
