// Products of quantised weights: near the oracle, the same bits however they are cut, by tiles and
// by vectors.
#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/linear_call.h"
#include "kernels/cpu/linear_quantized.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "kernels/group_quantize.h"
#include "tests/support/cpu_lane.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

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

Matrix product_of(const support::CpuLane& lanes, TensorView in, Quantized& weight, Matrix& bias,
                  std::int64_t resident, const QuantizedProduct& product,
                  Activation activation = Activation::none) {
  Matrix out(in.rows, weight.dense.rows());
  linear_quantized(lanes.context(),
                   {out.view(), in, weight.split(resident), bias.view(), activation}, product);
  return out;
}

std::vector<std::pair<std::string, QuantizedProduct>> products() {
  std::vector<std::pair<std::string, QuantizedProduct>> all = {{"vectors", portable_product()}};
  if (vnni_available()) all.emplace_back("bytes", byte_product());
  if (amx_available()) all.emplace_back("tiles", tile_product());
  return all;
}

/// The input as the products see it: 8 bits a group of 64, in the same float arithmetic.
Matrix rounded(const Matrix& in) {
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

void expect_near(const Matrix& actual, const Matrix& expected, double tolerance) {
  for (std::int64_t m = 0; m < actual.rows(); ++m) {
    for (std::int64_t n = 0; n < actual.columns(); ++n) {
      ASSERT_NEAR(actual.at(m, n), expected.at(m, n), tolerance) << "at " << m << ", " << n;
    }
  }
}

/// Of sums of K products of numbers below 1, in f32, in some order.
double rounding(std::int64_t k) { return 2e-6 * (4.0 + std::sqrt(static_cast<double>(k))); }

using Shape = std::tuple<DType, std::int64_t, std::int64_t>;  // dtype, K, N

std::string name_of_shape(const testing::TestParamInfo<Shape>& shape) {
  return std::string(name_of(std::get<0>(shape.param))) + "_" +
         std::to_string(std::get<1>(shape.param)) + "_" + std::to_string(std::get<2>(shape.param));
}

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

// --- the law: bit for bit -------------------------------------------------------------------

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
