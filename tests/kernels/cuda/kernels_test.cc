// The kernels of kernels/cuda on the host, against the oracle in double precision: every dtype,
// ragged shapes, odd sizes.
#include "tests/support/cuda_on_host.h"
// The kernels want the words above.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/layer_norm.cuh"
#include "kernels/cuda/quantized_product.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/group_quantize.h"
#include "tests/support/reference_ops.h"

namespace sluice {
namespace {

using reference::Matrix;
using support::launch_on_host;

std::vector<float> floats_of(const Matrix& matrix) {
  std::vector<float> values;
  for (std::int64_t r = 0; r < matrix.rows(); ++r) {
    for (std::int64_t c = 0; c < matrix.columns(); ++c) {
      values.push_back(static_cast<float>(matrix.at(r, c)));
    }
  }
  return values;
}

Matrix matrix_of(const std::vector<float>& values, std::int64_t columns) {
  Matrix matrix(static_cast<std::int64_t>(values.size()) / columns, columns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    matrix.set(static_cast<std::int64_t>(i) / columns, static_cast<std::int64_t>(i) % columns,
               static_cast<double>(values[i]));
  }
  return matrix;
}

/// A matrix of any dtype as bytes, and the values those bytes stand for.
struct Stored {
  std::vector<std::byte> bytes;
  Matrix values;
};

Stored stored(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed) {
  if (!is_quantized(dtype)) {
    const Matrix matrix = Matrix::random(rows, columns, dtype, seed);
    return {matrix.bytes(), matrix};
  }
  const std::vector<float> exact = floats_of(Matrix::random(rows, columns, DType::f32, seed));
  Stored result;
  result.bytes.resize(static_cast<std::size_t>(rows) * row_bytes_of(dtype, columns));
  kernels::quantize_rows(DType::f32, exact.data(), rows, columns, dtype, result.bytes.data());
  std::vector<float> read(exact.size());
  kernels::dequantize_rows(dtype, result.bytes.data(), rows, columns, read.data());
  result.values = matrix_of(read, columns);
  return result;
}

void expect_near(const std::vector<float>& got, const Matrix& wanted, double tolerance) {
  ASSERT_EQ(got.size(), static_cast<std::size_t>(wanted.rows() * wanted.columns()));
  for (std::int64_t r = 0; r < wanted.rows(); ++r) {
    for (std::int64_t c = 0; c < wanted.columns(); ++c) {
      const auto value =
          static_cast<double>(got[static_cast<std::size_t>(r * wanted.columns() + c)]);
      ASSERT_NEAR(value, wanted.at(r, c), tolerance) << "row " << r << ", column " << c;
    }
  }
}

/// Calls `body.operator()<dtype>()`.
template <class Body>
void with_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f16:
      return body.template operator()<DType::f16>();
    case DType::bf16:
      return body.template operator()<DType::bf16>();
    case DType::q8:
      return body.template operator()<DType::q8>();
    case DType::q4:
      return body.template operator()<DType::q4>();
    default:
      return body.template operator()<DType::f32>();
  }
}

class CudaKernels : public testing::TestWithParam<DType> {};

TEST_P(CudaKernels, GatherTakesRowsOfBothParts) {
  constexpr std::int64_t kRows = 9;
  constexpr std::int64_t kColumns = 100;
  const Stored table = stored(kRows, kColumns, GetParam(), 1);
  const std::vector<std::int32_t> ids = {8, 0, 3, 4, 3};
  const auto split = static_cast<std::size_t>(4) * row_bytes_of(GetParam(), kColumns);
  const cuda::DeviceTable parts{table.bytes.data(), table.bytes.data() + split, 4, kRows};
  std::vector<float> out(ids.size() * kColumns, 1.0F);
  with_dtype(GetParam(), [&]<DType kType>() {
    for (const bool add : {false, true}) {
      launch_on_host({5, 1, 1}, 64, 0, [&] {
        cuda::gather_kernel<kType>(out.data(), parts, ids.data(), kColumns, add);
      });
    }
  });
  const Matrix once = reference::gather(table.values, ids);
  Matrix twice = once;
  for (std::int64_t r = 0; r < once.rows(); ++r) {
    for (std::int64_t c = 0; c < kColumns; ++c) twice.set(r, c, 2 * once.at(r, c));
  }
  expect_near(out, twice, 1e-6);
}

TEST_P(CudaKernels, GatherMakesAnUnknownIdNaN) {
  const Stored table = stored(3, 64, GetParam(), 1);
  const std::vector<std::int32_t> ids = {3, -1, 2};
  const cuda::DeviceTable parts{table.bytes.data(), nullptr, 3, 3};
  std::vector<float> out(ids.size() * 64);
  with_dtype(GetParam(), [&]<DType kType>() {
    launch_on_host({3, 1, 1}, 32, 0,
                   [&] { cuda::gather_kernel<kType>(out.data(), parts, ids.data(), 64, false); });
  });
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_TRUE(std::isnan(out[64 + 63]));
  EXPECT_FALSE(std::isnan(out[128]));
}

class CudaQuantizedKernels : public testing::TestWithParam<DType> {};

TEST_P(CudaQuantizedKernels, ProductsAreThoseOfTheExpandedWeights) {
  for (const std::int64_t columns : {64, 100, 31, 256}) {
    for (const int rows : {1, 3, 8}) {
      constexpr std::int64_t kOut = 13;
      const Stored weight = stored(kOut, columns, GetParam(), 2);
      const Matrix in = Matrix::random(rows, columns, DType::f32, 3);
      const std::vector<float> from = floats_of(in);
      std::vector<float> out(static_cast<std::size_t>(rows * kOut), 0.5F);
      with_dtype(GetParam(), [&]<DType kType>() {
        if constexpr (is_quantized(kType)) {
          launch_on_host({2, 1, 1}, cuda::kProductWarps * 32, 0, [&] {
            cuda::quantized_product_kernel<kType>(out.data(), kOut, from.data(), columns, rows,
                                                  weight.bytes.data(), kOut, true);
          });
        }
      });
      for (float& value : out) value -= 0.5F;
      expect_near(out, reference::linear(in, weight.values, {}, kernels::Activation::none, {}),
                  1e-4);
    }
  }
}

TEST_P(CudaQuantizedKernels, ExpandIsTheNearestHalf) {
  const Stored weight = stored(3, 100, GetParam(), 4);
  std::vector<__half> out(300);
  with_dtype(GetParam(), [&]<DType kType>() {
    if constexpr (is_quantized(kType)) {
      launch_on_host({3, 1, 1}, 64, 0,
                     [&] { cuda::expand_kernel<kType>(out.data(), weight.bytes.data(), 100); });
    }
  });
  std::vector<float> wide;
  for (const __half value : out) wide.push_back(__half2float(value));
  expect_near(wide, weight.values, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaKernels,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaQuantizedKernels, testing::Values(DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST(CudaLayerNorm, IsTheOracles) {
  for (const std::int64_t columns : {1, 31, 256, 1000}) {
    const Matrix in = Matrix::random(3, columns, DType::f32, 1);
    Matrix weight = Matrix::random(1, columns, DType::f16, 2);
    Matrix bias = Matrix::random(1, columns, DType::bf16, 3);
    const std::vector<float> from = floats_of(in);
    std::vector<float> out(from.size());
    launch_on_host({3, 1, 1}, cuda::kNormThreads, 0, [&] {
      cuda::layer_norm_kernel(out.data(), from.data(), columns, {weight.view().data, DType::f16},
                              {bias.view().data, DType::bf16}, 1e-5F);
    });
    expect_near(out, reference::layer_norm(in, weight, bias, 1e-5), 2e-5);
    launch_on_host({3, 1, 1}, cuda::kNormThreads, 0, [&] {
      cuda::layer_norm_kernel(out.data(), from.data(), columns, {nullptr, DType::f32},
                              {nullptr, DType::f32}, 1e-5F);
    });
    expect_near(out, reference::layer_norm(in, {}, {}, 1e-5), 2e-5);
  }
}

TEST(CudaEpilogue, AddsBiasActivatesAndAddsTheResidual) {
  constexpr std::int64_t kColumns = 37;
  for (const auto activation :
       {kernels::Activation::none, kernels::Activation::relu, kernels::Activation::gelu}) {
    const Matrix in = Matrix::random(5, kColumns, DType::f32, 1);
    Matrix bias = Matrix::random(1, kColumns, DType::f16, 2);
    const Matrix residual = Matrix::random(5, kColumns, DType::f32, 3);
    Matrix identity(kColumns, kColumns);
    for (std::int64_t i = 0; i < kColumns; ++i) identity.set(i, i, 1.0);
    std::vector<float> out = floats_of(in);
    const std::vector<float> rest = floats_of(residual);
    launch_on_host({2, 1, 1}, 64, 0, [&] {
      cuda::epilogue_kernel(out.data(), 5, kColumns, {bias.view().data, DType::f16}, activation,
                            rest.data());
    });
    expect_near(out, reference::linear(in, identity, bias, activation, residual), 1e-5);
  }
}

TEST(CudaSelectRows, TakesThem) {
  const Matrix in = Matrix::random(6, 50, DType::f32, 1);
  const std::vector<float> from = floats_of(in);
  const std::vector<std::int32_t> rows = {5, 0, 5};
  std::vector<float> out(150);
  launch_on_host({3, 1, 1}, 32, 0,
                 [&] { cuda::select_rows_kernel(out.data(), from.data(), rows.data(), 50); });
  expect_near(out, reference::gather(in, rows), 0);
}

TEST(CudaNarrow, RoundsToNearest) {
  const Matrix in = Matrix::random(1, 777, DType::f32, 1);
  const std::vector<float> from = floats_of(in);
  std::vector<__nv_bfloat16> out(from.size());
  launch_on_host({2, 1, 1}, 64, 0,
                 [&] { cuda::narrow_kernel(out.data(), from.data(), std::int64_t{777}); });
  for (std::size_t i = 0; i < from.size(); ++i) {
    const double wanted = reference::from_bf16(reference::to_bf16(static_cast<double>(from[i])));
    ASSERT_EQ(static_cast<double>(__bfloat162float(out[i])), wanted) << i;
  }
}

}  // namespace
}  // namespace sluice
