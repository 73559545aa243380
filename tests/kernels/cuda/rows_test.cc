// The launches of rows.cu on the emulated GPU, against the oracle in double precision: every dtype
// of activations, of tables and of vectors; odd widths, odd addresses, threads in both orders.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "kernels/cuda/launches.h"
#include "tests/kernels/cuda/emulated_matrix.h"

namespace sluice {
namespace {

using emulated_test::EmulatedStream;
using emulated_test::expect_near;
using emulated_test::Numbers;
using emulated_test::OnDevice;
using emulated_test::unit_of;
using kernels::Activation;
using reference::Matrix;

constexpr DType kActivations[] = {DType::f32, DType::f16, DType::bf16};

std::string name(const testing::TestParamInfo<DType>& info) {
  return std::string(name_of(info.param));
}

/// Of activations.
class CudaRows : public testing::TestWithParam<DType> {};
/// Of tables.
class CudaTables : public testing::TestWithParam<DType> {};

Matrix plus(const Matrix& a, const Matrix& b) {
  Matrix sum(a.rows(), a.columns());
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    for (std::int64_t c = 0; c < a.columns(); ++c) sum.set(r, c, a.at(r, c) + b.at(r, c));
  }
  return sum;
}

TEST_P(CudaTables, GatherTakesRowsOfBothPartsAndAddsThem) {
  const Numbers ids({8, 0, 3, 4, 3});
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const DType dtype : kActivations) {
      for (const std::int64_t width : {1, 64, 100, 256, 2056}) {
        for (const std::size_t offset : {0, 4}) {
          const OnDevice table = OnDevice::random(9, width, GetParam(), 1, offset);
          const OnDevice out = OnDevice::random(5, width, dtype, 2);
          const Matrix rows = reference::gather(table.values(), {8, 0, 3, 4, 3});
          cuda::launch_gather(stream.get(), out.view(), table.split(4), ids.data(), true);
          stream.finish();
          expect_near(out.now(), plus(rows, out.values()), unit_of(dtype));
          cuda::launch_gather(stream.get(), out.view(), table.split(9), ids.data(), false);
          stream.finish();
          expect_near(out.now(), rows, unit_of(dtype));
        }
      }
    }
  }
}

TEST_P(CudaTables, GatherMakesAnUnknownIdNaN) {
  const EmulatedStream stream;
  const Numbers ids({3, -1, 2, 1 << 30});
  for (const std::int64_t width : {64, 31}) {
    const OnDevice table = OnDevice::random(3, width, GetParam(), 1);
    const OnDevice out = OnDevice::random(4, width, DType::f16, 2);
    cuda::launch_gather(stream.get(), out.view(), table.split(1), ids.data(), false);
    stream.finish();
    const Matrix now = out.now();
    for (std::int64_t c = 0; c < width; ++c) {
      EXPECT_TRUE(std::isnan(now.at(0, c)) && std::isnan(now.at(1, c)) && std::isnan(now.at(3, c)));
      EXPECT_FALSE(std::isnan(now.at(2, c)));
    }
  }
}

TEST_P(CudaTables, ExpandIsTheNearest) {
  if (!is_quantized(GetParam())) return;
  const EmulatedStream stream;
  for (const std::int64_t width : {31, 64, 100, 320}) {
    const OnDevice packed = OnDevice::random(3, width, GetParam(), 4);
    for (const DType to : {DType::f16, DType::bf16}) {
      const OnDevice out(Matrix(3, width), to);
      cuda::launch_expand(stream.get(), packed.view(), to, out.view().data);
      stream.finish();
      expect_near(out.now(), packed.values(), unit_of(to));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaTables,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                         name);

TEST_P(CudaRows, SelectRowsTakesThem) {
  const EmulatedStream stream;
  const Numbers rows({5, 0, 5});
  for (const std::int64_t width : {1, 50, 64, 2056}) {
    for (const std::size_t offset : {0, 4}) {
      const OnDevice in = OnDevice::random(6, width, GetParam(), 1, offset);
      const OnDevice out(Matrix(3, width), GetParam());
      cuda::launch_select_rows(stream.get(), out.view(), in.view(), rows.data());
      stream.finish();
      expect_near(out.now(), reference::gather(in.values(), {5, 0, 5}), 0);
    }
  }
}

TEST_P(CudaRows, LayerNormIsTheOracles) {
  const double tolerance = 2 * unit_of(GetParam()) + 1e-5;
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const std::int64_t width :
         {1, 31, 72, 256, 264, 512, 520, 768, 1000, 1032, 4096, 16384, 16392}) {
      const std::int64_t rows = width > 2000 ? 2 : 6;
      // Vectors of the activations' dtype, as models have them, and of others.
      for (const auto& [of_weight, of_bias] :
           {std::pair(GetParam(), GetParam()), std::pair(DType::f16, DType::bf16)}) {
        const OnDevice in = OnDevice::random(rows, width, GetParam(), 1);
        const OnDevice weight = OnDevice::random(1, width, of_weight, 2);
        const OnDevice bias = OnDevice::random(1, width, of_bias, 3);
        const OnDevice out(Matrix(rows, width), GetParam());
        const auto norm = [&](const OnDevice& to, const TensorView& by, const TensorView& plus) {
          cuda::launch_layer_norm(stream.get(), to.view(), in.view(), by, plus, 1e-5F);
          stream.finish();
        };
        norm(out, weight.view(), bias.view());
        expect_near(out.now(),
                    reference::layer_norm(in.values(), weight.values(), bias.values(), 1e-5),
                    tolerance);
        norm(out, weight.view(), {});
        expect_near(out.now(), reference::layer_norm(in.values(), weight.values(), {}, 1e-5),
                    tolerance);
        norm(out, {}, bias.view());
        expect_near(out.now(), reference::layer_norm(in.values(), {}, bias.values(), 1e-5),
                    tolerance);
        norm(in, {}, {});  // in place
        expect_near(in.now(), reference::layer_norm(in.values(), {}, {}, 1e-5), tolerance);
      }
    }
  }
}

TEST_P(CudaRows, LayerNormOfEqualElementsIsTheBias) {
  const EmulatedStream stream;
  for (const std::int64_t width : {31, 72, 768, 1000, 5120}) {
    for (const double value : {1001.0, 3.0, -7.0}) {
      Matrix values(1, width);
      for (std::int64_t c = 0; c < width; ++c) values.set(0, c, value);
      const OnDevice in(values, GetParam());
      const OnDevice weight = OnDevice::random(1, width, GetParam(), 1);
      const OnDevice bias = OnDevice::random(1, width, GetParam(), 2);
      const OnDevice out(Matrix(1, width), GetParam());
      cuda::launch_layer_norm(stream.get(), out.view(), in.view(), weight.view(), bias.view(),
                              1e-5F);
      stream.finish();
      expect_near(out.now(), bias.values(), 0);
    }
  }
}

TEST_P(CudaRows, LayerNormTakesRowsAndVectorsAtOddAddresses) {
  const EmulatedStream stream;
  const OnDevice in = OnDevice::random(3, 64, GetParam(), 1, 4);
  const OnDevice out(Matrix(3, 64), GetParam());
  const OnDevice weight = OnDevice::random(1, 64, DType::f16, 2, 2);
  cuda::launch_layer_norm(stream.get(), out.view(), in.view(), weight.view(), {}, 1e-5F);
  stream.finish();
  expect_near(out.now(), reference::layer_norm(in.values(), weight.values(), {}, 1e-5),
              2 * unit_of(GetParam()) + 1e-5);
}

TEST_P(CudaRows, LayerNormOfLargeMeansKeepsTheVariance) {
  const EmulatedStream stream;
  Matrix values = Matrix::random(1, 768, DType::f32, 1);
  for (std::int64_t c = 0; c < 768; ++c) values.set(0, c, 64 + std::round(values.at(0, c) * 4) / 2);
  const OnDevice in(values, GetParam());
  const OnDevice out(Matrix(1, 768), GetParam());
  cuda::launch_layer_norm(stream.get(), out.view(), in.view(), {}, {}, 1e-5F);
  stream.finish();
  expect_near(out.now(), reference::layer_norm(in.values(), {}, {}, 1e-5),
              2 * unit_of(GetParam()) + 1e-4);
}

TEST_P(CudaRows, ConvertRoundsToNearest) {
  const EmulatedStream stream;
  for (const DType to : kActivations) {
    for (const std::int64_t count : {1, 777, 4096}) {
      for (const std::size_t offset : {0, 4}) {
        const OnDevice in = OnDevice::random(1, count, GetParam(), 1, offset);
        const OnDevice out(Matrix(1, count), to);
        cuda::launch_convert(stream.get(), to, out.view().data, GetParam(), in.view().data, count);
        stream.finish();
        expect_near(out.now(), OnDevice(in.values(), to).values(), 0);
      }
    }
  }
}

/// activation(from + bias) + residual by the oracle of products.
Matrix finished(const Matrix& from, const Matrix& bias, Activation activation,
                const Matrix& residual) {
  Matrix identity(from.columns(), from.columns());
  for (std::int64_t i = 0; i < from.columns(); ++i) identity.set(i, i, 1.0);
  return reference::linear(from, identity, bias, activation, residual);
}

TEST_P(CudaRows, EpilogueAddsBiasActivatesAndAddsTheResidual) {
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const auto activation : {Activation::none, Activation::relu, Activation::gelu}) {
      for (const std::int64_t width : {37, 64}) {
        for (const DType from_dtype : {DType::f32, GetParam()}) {
          const OnDevice from = OnDevice::random(5, width, from_dtype, 1);
          const OnDevice bias = OnDevice::random(1, width, DType::f16, 2);
          const OnDevice residual = OnDevice::random(5, width, GetParam(), 3);
          const Matrix wanted =
              finished(from.values(), bias.values(), activation, residual.values());
          const OnDevice out(Matrix(5, width), GetParam());
          using cuda::Columns;
          cuda::launch_epilogue(
              stream.get(), Columns::of(out.view()), Columns::of(from.view()),
              {Columns::of(bias.view()), activation, Columns::of(residual.view())});
          stream.finish();
          expect_near(out.now(), wanted, unit_of(GetParam()));
          // What is added may be what is overwritten.
          cuda::launch_epilogue(
              stream.get(), Columns::of(residual.view()), Columns::of(from.view()),
              {Columns::of(bias.view()), activation, Columns::of(residual.view())});
          stream.finish();
          expect_near(residual.now(), wanted, unit_of(GetParam()));
        }
      }
    }
  }
}

TEST_P(CudaRows, EpilogueOfSomeColumnsLeavesTheOthers) {
  const EmulatedStream stream;
  const OnDevice out = OnDevice::random(3, 64, GetParam(), 1);
  for (const std::int64_t first : {8, 3}) {
    const Matrix before = out.now();
    cuda::launch_epilogue(stream.get(), cuda::Columns::of(out.view()).columns_from(first, 13),
                          cuda::Columns::of(out.view()).columns_from(first, 13),
                          {{}, Activation::relu, {}});
    stream.finish();
    const Matrix after = out.now();
    for (std::int64_t r = 0; r < 3; ++r) {
      for (std::int64_t c = 0; c < 64; ++c) {
        const bool inside = c >= first && c < first + 13;
        const double wanted = inside ? std::max(before.at(r, c), 0.0) : before.at(r, c);
        ASSERT_EQ(after.at(r, c), wanted) << r << " " << c;
      }
    }
  }
}

TEST_P(CudaRows, ActivationsKeepNaNAndLimits) {
  const EmulatedStream stream;
  const double infinity = std::numeric_limits<double>::infinity();
  Matrix values(1, 8);
  const double given[8] = {std::nan(""), infinity, -infinity, -20, 20, 0, -1, 1};
  for (std::int64_t c = 0; c < 8; ++c) values.set(0, c, given[c]);
  for (const auto activation : {Activation::relu, Activation::gelu}) {
    const OnDevice out(values, GetParam());
    cuda::launch_epilogue(stream.get(), cuda::Columns::of(out.view()),
                          cuda::Columns::of(out.view()), {{}, activation, {}});
    stream.finish();
    const Matrix now = out.now();
    EXPECT_TRUE(std::isnan(now.at(0, 0)));
    EXPECT_EQ(now.at(0, 1), infinity);
    EXPECT_EQ(now.at(0, 2), 0.0);
    EXPECT_EQ(now.at(0, 3), 0.0);
    EXPECT_EQ(now.at(0, 4), 20.0);
    EXPECT_EQ(now.at(0, 5), 0.0);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaRows, testing::ValuesIn(kActivations), name);

TEST(CudaKernelWork, CountsWhatMustMove) {
  const TensorView in{nullptr, DType::f16, 10, 64};
  const TensorView vector{nullptr, DType::f32, 1, 64};
  EXPECT_EQ(cuda::layer_norm_work(in, vector, {}).bytes, 2 * 10 * 64 * 2 + 64 * 4);
  EXPECT_EQ(cuda::select_rows_work(in).bytes, 2 * 10 * 64 * 2);
  const SplitMatrix table{{nullptr, DType::q4, 100, 64}, {}};
  EXPECT_EQ(cuda::gather_work(in, table, false).bytes, 10 * 36 + 10 * 64 * 2);
  EXPECT_EQ(cuda::gather_work(in, table, true).bytes, 10 * 36 + 2 * 10 * 64 * 2);
  EXPECT_EQ(cuda::convert_work(DType::f16, DType::f32, 100).bytes, 600);
  EXPECT_EQ(cuda::expand_work(table.resident).bytes, 100 * 36 + 100 * 64 * 2);
  const cuda::Columns out{nullptr, DType::f16, 10, 64, 64};
  const cuda::KernelWork end = cuda::epilogue_work(out, out, {{}, Activation::relu, {}});
  EXPECT_EQ(end.bytes, 2 * 10 * 64 * 2);
}

}  // namespace
}  // namespace sluice
