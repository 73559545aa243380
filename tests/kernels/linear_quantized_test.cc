// Products of quantised weights beside the oracle. Their law is linear_quantized_law_test.cc.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/linear_call.h"
#include "kernels/cpu/linear_quantized.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/cpu_lane.h"
#include "tests/support/quantized_products.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using namespace quantized_test;

// --- against the oracle ---------------------------------------------------------------------

class QuantizedShapes : public testing::TestWithParam<Shape> {};

TEST_P(QuantizedShapes, EqualTheOracleOfRoundedInputs) {
  const auto [dtype, k, n] = GetParam();
  const support::CpuLane lanes(2);
  Quantized weight(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, DType::f16, 2);
  for (const std::int64_t m : {0, 1, 2, 7, 16, 17, 40}) {
    Matrix in = Matrix::random(m, k, DType::f32, 3);
    const Matrix expected =
        reference::linear(rounded(in), weight.dense, bias, Activation::relu, {});
    for (const auto& [name, product] : products()) {
      SCOPED_TRACE(name + ", " + std::to_string(m) + " rows");
      const Matrix out =
          product_of(lanes, in.view(), weight, bias, n / 2, product, Activation::relu);
      expect_near(out, expected, rounding(k));
    }
  }
}

// K: no group full, one, one more, two panels, three; N: no tile full, full, more.
INSTANTIATE_TEST_SUITE_P(OddSizes, QuantizedShapes,
                         testing::Combine(testing::Values(DType::q8, DType::q4),
                                          testing::Values(1, 63, 64, 65, 200, 1024, 1090, 4200),
                                          testing::Values(1, 3, 16, 17, 70)),
                         name_of_shape);

TEST(LinearQuantized, RoundingInputsCostsHalfOfAStepAtMost) {
  const support::CpuLane lanes(1);
  const std::int64_t k = 300, n = 20, m = 5;
  for (const DType dtype : {DType::q8, DType::q4}) {
    Quantized weight(n, k, dtype, 1);
    Matrix in = Matrix::random(m, k, DType::f32, 2);
    const Matrix exact = reference::linear(in, weight.dense, {}, Activation::none, {});
    Matrix none;
    const Matrix out = product_of(lanes, in.view(), weight, none, n, best_product());
    for (std::int64_t row = 0; row < m; ++row) {
      for (std::int64_t column = 0; column < n; ++column) {
        double bound = rounding(k);  // inputs are below 1: half of a step is 1/254
        for (std::int64_t i = 0; i < k; ++i) bound += std::fabs(weight.dense.at(column, i)) / 254;
        ASSERT_NEAR(out.at(row, column), exact.at(row, column), bound);
      }
    }
  }
}

TEST(LinearQuantized, ThroughTheOperations) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const Engine engine = make_engine(options);
  Quantized weight(70, 130, DType::q4, 1);
  Matrix bias = Matrix::random(1, 70, DType::f32, 2);
  Matrix in = Matrix::random(9, 130, DType::f32, 3);
  Matrix residual = Matrix::random(9, 70, DType::f32, 4);
  Matrix out = residual;
  engine.device_ops->linear(out.view(), in.view(), weight.split(11), bias.view(), Activation::gelu,
                            out.view());
  engine.backend->synchronize(engine.backend->record(Lane::compute));
  expect_near(out, reference::linear(rounded(in), weight.dense, bias, Activation::gelu, residual),
              rounding(130));
}

TEST(LinearQuantized, TimesAnotherMatrixIsTheProductTimesIt) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const Engine engine = make_engine(options);
  for (const DType dtype : {DType::q8, DType::q4}) {
    Quantized weight(70, 130, dtype, 1);
    Matrix bias = Matrix::random(1, 70, DType::f32, 2);
    for (const std::int64_t m : {1, 9}) {
      Matrix in = Matrix::random(m, 130, DType::f32, 3);
      Matrix factor = Matrix::random(m, 70, DType::f32, 4);
      Matrix plain(m, 70), out(m, 70);
      engine.device_ops->linear(plain.view(), in.view(), weight.split(11), bias.view(),
                                Activation::none, {});
      engine.device_ops->linear_times(out.view(), in.view(), weight.split(70), bias.view(),
                                      factor.view());
      engine.backend->synchronize(engine.backend->record(Lane::compute));
      for (std::int64_t row = 0; row < m; ++row) {
        for (std::int64_t i = 0; i < 70; ++i) {
          const float expected =
              static_cast<float>(plain.at(row, i)) * static_cast<float>(factor.at(row, i));
          ASSERT_EQ(out.at(row, i), static_cast<double>(expected)) << name_of(dtype) << ' ' << i;
        }
      }
    }
  }
}

TEST(LinearQuantized, TheLargestCodesDoNotSaturate) {
  const support::CpuLane lanes(1);
  const std::int64_t k = 130, n = 9, m = 20;
  for (const DType dtype : {DType::q8, DType::q4}) {
    Matrix ones(n, k);  // but for one of each group, so that all others have the largest code
    for (std::int64_t row = 0; row < n; ++row) {
      for (std::int64_t i = 0; i < k; ++i) ones.set(row, i, i % kQuantGroup == row ? 0 : 1);
    }
    Quantized weight(n, k, dtype, 1);
    quantize_rows(DType::f32, ones.view().data, n, k, dtype, weight.bytes.data());
    dequantize_rows(dtype, weight.bytes.data(), n, k,
                    static_cast<float*>(weight.dense.view().data));
    Matrix in(m, k);
    for (std::int64_t row = 0; row < m; ++row) {
      for (std::int64_t i = 0; i < k; ++i) in.set(row, i, row % 2 == 0 ? 1 : -1);
    }
    Matrix none;
    const Matrix expected = reference::linear(in, weight.dense, {}, Activation::none, {});
    for (const auto& [name, product] : products()) {
      for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{4}, std::int64_t{5}, m}) {
        SCOPED_TRACE(name + ", " + std::to_string(rows) + " rows");
        const Matrix out = product_of(lanes, in.view().slice(0, rows), weight, none, n, product);
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t column = 0; column < n; ++column) {
            ASSERT_NEAR(out.at(row, column), expected.at(row, column), 1e-3);
          }
        }
      }
    }
  }
}

TEST(LinearQuantized, ZeroAndTinyInputsYieldTheBias) {
  const support::CpuLane lanes(1);
  Quantized weight(5, 130, DType::q8, 1);
  Matrix bias = Matrix::random(1, 5, DType::f32, 2);
  for (const double value : {0.0, 1e-38, -1e-40}) {
    Matrix in(2, 130);
    for (std::int64_t i = 0; i < 130; i += 3) in.set(1, i, value);
    for (const auto& [name, product] : products()) {
      const Matrix out = product_of(lanes, in.view(), weight, bias, 5, product);
      for (std::int64_t n = 0; n < 5; ++n) EXPECT_EQ(out.at(1, n), bias.at(0, n)) << name;
    }
  }
}

TEST(LinearQuantized, NotANumberIsNotHiddenAndStaysInItsRow) {
  const support::CpuLane lanes(1);
  Quantized weight(18, 200, DType::q4, 1);
  Matrix none;
  for (const double value : {static_cast<double>(NAN), HUGE_VAL, -HUGE_VAL}) {
    for (const std::int64_t column : {0, 77, 199}) {
      Matrix in = Matrix::random(3, 200, DType::f32, 2);
      in.set(1, column, value);
      for (const auto& [name, product] : products()) {
        const Matrix out = product_of(lanes, in.view(), weight, none, 18, product);
        for (std::int64_t n = 0; n < 18; ++n) {
          EXPECT_FALSE(std::isfinite(out.at(1, n))) << name << " " << value << " at " << column;
          EXPECT_TRUE(std::isfinite(out.at(0, n)) && std::isfinite(out.at(2, n))) << name;
        }
      }
    }
  }
}

TEST(LinearQuantized, ReadsNothingBeyondTheLastRow) {
  const support::CpuLane lanes(1);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  for (const DType dtype : {DType::q8, DType::q4}) {
    const std::int64_t k = 130, n = 21;
    Quantized weight(n, k, dtype, 1);
    const std::size_t room = (weight.bytes.size() / page + 1) * page;
    void* const map =
        mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(map, MAP_FAILED);
    ASSERT_EQ(mprotect(static_cast<std::byte*>(map) + room, page, PROT_NONE), 0);
    std::byte* const at = static_cast<std::byte*>(map) + room - weight.bytes.size();
    std::copy(weight.bytes.begin(), weight.bytes.end(), at);
    const SplitMatrix at_the_edge = {{at, dtype, n, k}, {}};
    for (const std::int64_t m : {1, 18}) {
      Matrix in = Matrix::random(m, k, DType::f32, 2);
      Matrix none, out(m, n);
      for (const auto& [name, product] : products()) {
        linear_quantized(lanes.context(), {out.view(), in.view(), at_the_edge}, product);
        EXPECT_EQ(out.bytes(), product_of(lanes, in.view(), weight, none, n, product).bytes())
            << name;
      }
    }
    munmap(map, room + page);
  }
}

// --- more rows than the shared memory holds, and rows too long for it --------------------------

TEST(LinearQuantized, MoreRowsThanCanBePackedAtOnce) {
  const support::CpuLane lanes(2);
  const std::int64_t k = 64 * 200, n = 17;  // 200 groups: 36 tiles of 16 rows fit into 8 MiB
  const std::int64_t m =
      kSharedBytes / (200 * static_cast<std::int64_t>(sizeof(PackedGroup))) * 16 + 21;
  Quantized weight(n, k, DType::q4, 1);
  Matrix none;
  Matrix in = Matrix::random(m, k, DType::f32, 3);
  const Matrix all = product_of(lanes, in.view(), weight, none, n, best_product());
  for (const std::int64_t row : {std::int64_t{0}, m / 2, m - 22, m - 21, m - 1}) {
    const Matrix one = product_of(lanes, in.view().slice(row, 1), weight, none, n, best_product());
    const auto at = static_cast<std::size_t>(row * n) * sizeof(float);
    ASSERT_EQ(std::memcmp(one.bytes().data(), all.bytes().data() + at, one.bytes().size()), 0)
        << "row " << row;
  }
}

TEST(LinearQuantizedErrors, RefusesRowsThatCannotBePacked) {
  const support::CpuLane lanes(1);
  const std::int64_t k = kQuantGroup * (kSharedBytes / 1152 + 1);
  std::vector<float> in(static_cast<std::size_t>(k));
  std::vector<std::byte> row(row_bytes_of(DType::q4, k));
  float out = 0;
  const SplitMatrix weight = {{row.data(), DType::q4, 1, k}, {}};
  EXPECT_THROW(linear_quantized(lanes.context(),
                                {{&out, DType::f32, 1, 1}, {in.data(), DType::f32, 1, k}, weight},
                                best_product()),
               DeviceError);
}

TEST(LinearQuantizedErrors, RefusesABiasOfCodes) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  const Engine engine = make_engine(options);
  Quantized weight(4, 64, DType::q8, 1);
  Quantized bias(1, 4, DType::q8, 2);
  Matrix in(2, 64), out(2, 4);
  EXPECT_THROW(engine.device_ops->linear(out.view(), in.view(), weight.split(4),
                                         bias.split(1).resident, Activation::none, {}),
               DeviceError);
}

}  // namespace
}  // namespace sluice::kernels
