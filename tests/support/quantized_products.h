// What the tests of quantised products share: matrices, all products of this machine, the oracle's
// input.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/linear_call.h"
#include "kernels/cpu/linear_quantized.h"
#include "kernels/group_quantize.h"
#include "tests/support/cpu_lane.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels::quantized_test {

using reference::Matrix;

/// A quantised matrix and, as floats, what it stands for.
struct Quantized {
  Quantized(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed)
      : type(dtype), dense(Matrix::random(rows, columns, DType::f32, seed)) {
    bytes.resize(row_bytes_of(type, columns) * static_cast<std::size_t>(rows));
    quantize_rows(DType::f32, dense.view().data, rows, columns, type, bytes.data());
    dequantize_rows(type, bytes.data(), rows, columns, static_cast<float*>(dense.view().data));
  }
  SplitMatrix split(std::int64_t resident) {
    const TensorView all = {bytes.data(), type, dense.rows(), dense.columns()};
    return {all.slice(0, resident), all.slice(resident, dense.rows() - resident)};
  }
  DType type;
  Matrix dense;
  std::vector<std::byte> bytes;
};

inline Matrix product_of(const support::CpuLane& lanes, TensorView in, Quantized& weight,
                         Matrix& bias, std::int64_t resident, const QuantizedProduct& product,
                         Activation activation = Activation::none) {
  Matrix out(in.rows, weight.dense.rows());
  linear_quantized(lanes.context(),
                   {out.view(), in, weight.split(resident), bias.view(), activation}, product);
  return out;
}

inline std::vector<std::pair<std::string, QuantizedProduct>> products() {
  std::vector<std::pair<std::string, QuantizedProduct>> all = {{"vectors", portable_product()}};
  if (avx2_available()) all.emplace_back("pairs", pair_product());
  if (vnni_available()) all.emplace_back("bytes", byte_product());
  if (amx_available()) all.emplace_back("tiles", tile_product());
  return all;
}

/// The input as the products see it: 8 bits a group of 64, in the same float arithmetic.
inline Matrix rounded(const Matrix& in) {
  Matrix out(in.rows(), in.columns());
  for (std::int64_t row = 0; row < in.rows(); ++row) {
    for (std::int64_t first = 0; first < in.columns(); first += kQuantGroup) {
      const std::int64_t end = std::min(first + kQuantGroup, in.columns());
      float largest = 0;
      for (std::int64_t i = first; i < end; ++i) {
        largest = std::max(largest, std::fabs(static_cast<float>(in.at(row, i))));
      }
      const float inverse = largest > 0 ? 127.0F / largest : 0.0F;
      for (std::int64_t i = first; i < end; ++i) {
        const float code = std::nearbyint(static_cast<float>(in.at(row, i)) * inverse);
        out.set(row, i, static_cast<double>(code) * static_cast<double>(largest / 127.0F));
      }
    }
  }
  return out;
}

inline void expect_near(const Matrix& actual, const Matrix& expected, double tolerance) {
  for (std::int64_t m = 0; m < actual.rows(); ++m) {
    for (std::int64_t n = 0; n < actual.columns(); ++n) {
      ASSERT_NEAR(actual.at(m, n), expected.at(m, n), tolerance) << "at " << m << ", " << n;
    }
  }
}

/// Of sums of K products of numbers below 1, in f32, in some order.
inline double rounding(std::int64_t k) { return 2e-6 * (4.0 + std::sqrt(static_cast<double>(k))); }

using Shape = std::tuple<DType, std::int64_t, std::int64_t>;  // dtype, K, N

inline std::string name_of_shape(const testing::TestParamInfo<Shape>& shape) {
  return std::string(name_of(std::get<0>(shape.param))) + "_" +
         std::to_string(std::get<1>(shape.param)) + "_" + std::to_string(std::get<2>(shape.param));
}

}  // namespace sluice::kernels::quantized_test
