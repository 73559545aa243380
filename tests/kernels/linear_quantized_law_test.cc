// The law of products of quantised weights: the same bits however they are cut, by every product
// and instruction set.
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cstring>
#include <string>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/engine.h"
#include "tests/support/cpu_lane.h"
#include "tests/support/quantized_products.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using namespace quantized_test;

class QuantizedLaw : public testing::TestWithParam<Shape> {};

TEST_P(QuantizedLaw, ARowAloneEqualsTheRowAmongOthers) {
  const auto [dtype, k, n] = GetParam();
  const support::CpuLane lanes(2);
  Quantized weight(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, DType::f16, 2);
  Matrix in = Matrix::random(290, k, DType::f32, 3);  // beyond one chunk of rows
  for (const auto& [name, product] : products()) {
    const Matrix all = product_of(lanes, in.view(), weight, bias, n, product);
    const auto compare = [&, &name = name, &product = product](std::int64_t first,
                                                               std::int64_t rows) {
      const Matrix out = product_of(lanes, in.view().slice(first, rows), weight, bias, n, product);
      const auto at = static_cast<std::size_t>(first * n) * sizeof(float);
      ASSERT_EQ(std::memcmp(out.bytes().data(), all.bytes().data() + at, out.bytes().size()), 0)
          << name << ": " << rows << " rows from " << first;
    };
    for (std::int64_t row = 0; row < 290; row += row < 20 ? 1 : 37) compare(row, 1);
    for (std::int64_t rows = 2; rows <= 40; ++rows) compare(3, rows);
    compare(13, 250);
  }
}

TEST_P(QuantizedLaw, ThreadsDoNotMatter) {
  const auto [dtype, k, n] = GetParam();
  Quantized weight(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, DType::f16, 2);
  Matrix in = Matrix::random(37, k, DType::f32, 3);
  for (const auto& [name, product] : products()) {
    const Matrix one = product_of(support::CpuLane(1), in.view(), weight, bias, n, product);
    for (const int threads : {2, 3, 4}) {
      const Matrix out = product_of(support::CpuLane(threads), in.view(), weight, bias, n, product);
      EXPECT_EQ(out.bytes(), one.bytes()) << name << ", " << threads << " threads";
    }
  }
}

TEST_P(QuantizedLaw, HowTheWeightsAreSplitDoesNotMatter) {
  const auto [dtype, k, n] = GetParam();
  const support::CpuLane lanes(2);
  Quantized weight(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, DType::f16, 2);
  Matrix in = Matrix::random(5, k, DType::f32, 3);
  for (const auto& [name, product] : products()) {
    const Matrix whole = product_of(lanes, in.view(), weight, bias, n, product);
    for (std::int64_t resident = 0; resident <= n; ++resident) {
      const Matrix out = product_of(lanes, in.view(), weight, bias, resident, product);
      ASSERT_EQ(out.bytes(), whole.bytes()) << name << ", " << resident << " of " << n;
    }
  }
}

TEST_P(QuantizedLaw, AllProductsYieldTheSameBits) {
  if ((hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3)) == 0) GTEST_SKIP() << "no fused vectors";
  const auto [dtype, k, n] = GetParam();
  const support::CpuLane lanes(2);
  Quantized weight(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, DType::f16, 2);
  for (const std::int64_t rows : {1, 5, 33}) {
    Matrix in = Matrix::random(rows, k, DType::f32, 3);
    const Matrix vectors = product_of(lanes, in.view(), weight, bias, n, portable_product());
    for (const auto& [name, product] : products()) {
      const Matrix out = product_of(lanes, in.view(), weight, bias, n, product);
      EXPECT_EQ(out.bytes(), vectors.bytes()) << name << ", " << rows << " rows";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OddSizes, QuantizedLaw,
                         testing::Values(Shape{DType::q8, 65, 67}, Shape{DType::q4, 1100, 70},
                                         Shape{DType::q8, 2048, 33}, Shape{DType::q4, 7, 5}),
                         name_of_shape);

// --- instruction sets, and the switch ---------------------------------------------------------

class QuantizedInstructionSets : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) {
      GTEST_SKIP() << "this processor has no " << hwy::TargetName(GetParam());
    }
    choose(GetParam());
  }
  void TearDown() override { choose(0); }
  static void choose(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);  // 0: what the processor has
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(QuantizedInstructionSets, YieldTheSameBitsWhereMultiplyAddsAreFused) {
  if (GetParam() == HWY_SSE4) GTEST_SKIP() << "SSE4 rounds twice";
  const support::CpuLane lanes(1);
  for (const DType dtype : {DType::q8, DType::q4}) {
    Quantized weight(45, 333, dtype, 1);
    Matrix bias = Matrix::random(1, 45, DType::f16, 2);
    Matrix in = Matrix::random(29, 333, DType::f32, 3);
    const Matrix out = product_of(lanes, in.view(), weight, bias, 10, portable_product());
    choose(0);
    const Matrix best = product_of(lanes, in.view(), weight, bias, 10, best_product());
    choose(GetParam());
    EXPECT_EQ(out.bytes(), best.bytes()) << name_of(dtype);
  }
}

TEST_P(QuantizedInstructionSets, GatherExactly) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  const Engine engine = make_engine(options);
  const std::vector<std::int32_t> ids = {4, 0};
  for (const DType dtype : {DType::q8, DType::q4}) {
    Quantized table(5, 333, dtype, 1);
    Matrix out(2, 333);
    engine.device_ops->gather(out.view(), table.split(2), ids.data());
    engine.backend->synchronize(engine.backend->record(Lane::compute));
    EXPECT_EQ(out.bytes(), reference::gather(table.dense, ids).bytes()) << name_of(dtype);
  }
}

TEST_P(QuantizedInstructionSets, EqualTheOracleAndKeepTheLaw) {
  const support::CpuLane lanes(2);
  for (const DType dtype : {DType::q8, DType::q4}) {
    Quantized weight(45, 333, dtype, 1);
    Matrix bias = Matrix::random(1, 45, DType::f16, 2);
    Matrix in = Matrix::random(29, 333, DType::f32, 3);
    const Matrix all =
        product_of(lanes, in.view(), weight, bias, 10, portable_product(), Activation::gelu);
    expect_near(all, reference::linear(rounded(in), weight.dense, bias, Activation::gelu, {}),
                rounding(333));
    const Matrix last = product_of(lanes, in.view().slice(28, 1), weight, bias, 45,
                                   portable_product(), Activation::gelu);
    for (std::int64_t n = 0; n < 45; ++n) ASSERT_EQ(last.at(0, n), all.at(28, n));
  }
}

INSTANTIATE_TEST_SUITE_P(X86, QuantizedInstructionSets,
                         testing::Values(HWY_SSE4, HWY_AVX2, HWY_AVX3), [](const auto& target) {
                           return std::string(hwy::TargetName(target.param));
                         });

}  // namespace
}  // namespace sluice::kernels
