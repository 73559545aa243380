#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <tuple>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;

Engine engine_of(int threads) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  return make_engine(options);
}

void finish(Engine& engine) { engine.backend->synchronize(engine.backend->record(Lane::compute)); }

/// Sums of K products of numbers below 1 in f32, in some order.
double tolerance(std::int64_t k) { return 1e-6 * (4.0 + std::sqrt(static_cast<double>(k))); }

void expect_near(const Matrix& actual, const Matrix& expected, double tolerance) {
  ASSERT_EQ(actual.rows(), expected.rows());
  ASSERT_EQ(actual.columns(), expected.columns());
  for (std::int64_t m = 0; m < actual.rows(); ++m) {
    for (std::int64_t n = 0; n < actual.columns(); ++n) {
      ASSERT_NEAR(actual.at(m, n), expected.at(m, n), tolerance) << "at " << m << ", " << n;
    }
  }
}

bool same_bits(const Matrix& a, const Matrix& b) { return a.bytes() == b.bytes(); }

std::string name_of_case(DType dtype, std::int64_t a, std::int64_t b) {
  return std::string(name_of(dtype)) + "_" + std::to_string(a) + "_" + std::to_string(b);
}

// --- against the oracle ---------------------------------------------------------------------

using Shape = std::tuple<DType, std::int64_t, std::int64_t>;  // dtype, K, N

class LinearShapes : public testing::TestWithParam<Shape> {};

TEST_P(LinearShapes, EqualsTheReferenceForAnyNumberOfRows) {
  const auto [dtype, k, n] = GetParam();
  Engine engine = engine_of(2);
  Matrix weight = Matrix::random(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, dtype, 2);
  for (const std::int64_t m : {0, 1, 2, 5, 8, 33}) {
    Matrix in = Matrix::random(m, k, DType::f32, 3);
    Matrix residual = Matrix::random(m, n, DType::f32, 4);
    Matrix out(m, n);
    engine.device_ops->linear(out.view(), in.view(), weight.split(n), bias.view(), Activation::none,
                              residual.view());
    finish(engine);
    expect_near(out, reference::linear(in, weight, bias, Activation::none, residual), tolerance(k));
  }
}

INSTANTIATE_TEST_SUITE_P(OddSizes, LinearShapes,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16),
                                          testing::Values(1, 3, 17, 64, 200, 2053),
                                          testing::Values(1, 2, 3, 4, 5, 6, 7, 200)),
                         [](const auto& shape) {
                           return name_of_case(std::get<0>(shape.param), std::get<1>(shape.param),
                                               std::get<2>(shape.param));
                         });

TEST(Linear, ByHand) {
  Engine engine = engine_of(1);
  Matrix in(1, 2);
  in.set(0, 0, 2.0);
  in.set(0, 1, 3.0);
  Matrix weight(2, 2, DType::f16);
  weight.set(0, 0, 1.0);
  weight.set(0, 1, -1.0);
  weight.set(1, 0, 0.5);
  weight.set(1, 1, 1.0);
  Matrix bias(1, 2);
  bias.set(0, 1, 10.0);
  Matrix out(1, 2);
  engine.device_ops->linear(out.view(), in.view(), weight.split(1), bias.view(), Activation::relu,
                            {});
  finish(engine);
  EXPECT_EQ(out.at(0, 0), 0.0);
  EXPECT_EQ(out.at(0, 1), 14.0);
}

TEST(Linear, BiasMayHaveAnotherTypeThanTheWeights) {
  Engine engine = engine_of(2);
  Matrix in = Matrix::random(3, 40, DType::f32, 1);
  Matrix weight = Matrix::random(21, 40, DType::f16, 2);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Matrix bias = Matrix::random(1, 21, dtype, 3);
    Matrix out(3, 21);
    engine.device_ops->linear(out.view(), in.view(), weight.split(4), bias.view(), Activation::relu,
                              {});
    finish(engine);
    expect_near(out, reference::linear(in, weight, bias, Activation::relu, {}), 1e-5);
  }
}

TEST(Linear, ResidualMayBeOut) {
  Engine engine = engine_of(2);
  Matrix in = Matrix::random(9, 100, DType::f32, 1);
  Matrix weight = Matrix::random(77, 100, DType::f32, 2);
  Matrix out = Matrix::random(9, 77, DType::f32, 3);
  const Matrix residual = out;
  engine.device_ops->linear(out.view(), in.view(), weight.split(77), {}, Activation::none,
                            out.view());
  finish(engine);
  expect_near(out, reference::linear(in, weight, {}, Activation::none, residual), 2e-5);
}

TEST(Linear, GeluIsExactFarIntoTheNegativeTail) {
  Engine engine = engine_of(1);
  const std::int64_t n = 2001;
  Matrix in(1, 1);
  in.set(0, 0, 1.0);
  Matrix weight(n, 1);
  for (std::int64_t i = 0; i < n; ++i) weight.set(i, 0, -10.0 + 0.01 * static_cast<double>(i));
  Matrix out(1, n);
  engine.device_ops->linear(out.view(), in.view(), weight.split(n), {}, Activation::gelu, {});
  finish(engine);
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = weight.at(i, 0);
    const double expected = 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    ASSERT_NEAR(out.at(0, i), expected, 5e-7 * std::fabs(expected) + 1e-37) << "gelu(" << x << ")";
  }
}

TEST(Linear, SigmoidActivationsAreExactFarIntoBothTails) {
  Engine engine = engine_of(1);
  const std::int64_t n = 2401;
  Matrix in(1, 1);
  in.set(0, 0, 1.0);
  Matrix weight(n, 1);
  for (std::int64_t i = 0; i < n; ++i) weight.set(i, 0, -12.0 + 0.01 * static_cast<double>(i));
  weight.set(n - 1, 0, 1e30);
  weight.set(0, 0, -1e30);
  for (const Activation activation :
       {Activation::silu, Activation::quick_gelu, Activation::gelu_tanh}) {
    Matrix out(1, n);
    engine.device_ops->linear(out.view(), in.view(), weight.split(n), {}, activation, {});
    finish(engine);
    EXPECT_EQ(out.at(0, 0), 0.0);
    EXPECT_EQ(out.at(0, n - 1), weight.at(n - 1, 0));
    for (std::int64_t i = 1; i + 1 < n; ++i) {
      const double x = weight.at(i, 0);
      const double expected = reference::activate(x, activation);
      // The exponent, up to 160 for the cubic form, is a float.
      const double relative = activation == Activation::gelu_tanh ? 3e-5 : 5e-6;
      ASSERT_NEAR(out.at(0, i), expected, relative * std::fabs(expected) + 1e-37)
          << "activation " << static_cast<int>(activation) << " of " << x;
    }
    for (std::int64_t i = 1000; i < 1400; ++i) {  // within [-2, 2]
      const double expected = reference::activate(weight.at(i, 0), activation);
      ASSERT_NEAR(out.at(0, i), expected, 2e-6 * std::fabs(expected)) << weight.at(i, 0);
    }
  }
}

TEST(Linear, NotANumberIsNotHidden) {
  Engine engine = engine_of(1);
  Matrix in(1, 20);
  in.set(0, 7, NAN);
  Matrix weight = Matrix::random(8, 20, DType::f16, 1);
  for (const Activation activation :
       {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh,
        Activation::quick_gelu, Activation::silu}) {
    Matrix out(1, 8);
    engine.device_ops->linear(out.view(), in.view(), weight.split(8), {}, activation, {});
    finish(engine);
    for (std::int64_t i = 0; i < 8; ++i) EXPECT_TRUE(std::isnan(out.at(0, i)));
  }
}

// --- times another matrix -------------------------------------------------------------------

/// The reference's product, rounded to no float, times `factor`.
Matrix product_times(const Matrix& in, const Matrix& weight, const Matrix& bias,
                     const Matrix& factor) {
  Matrix out = reference::linear(in, weight, bias, Activation::none, {});
  for (std::int64_t m = 0; m < out.rows(); ++m) {
    for (std::int64_t n = 0; n < out.columns(); ++n) {
      out.set(m, n, out.at(m, n) * factor.at(m, n));
    }
  }
  return out;
}

TEST(LinearTimes, EqualsTheReferenceAlsoInPlace) {
  Engine engine = engine_of(2);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t n : {1, 3, 16, 77, 200}) {
      Matrix weight = Matrix::random(n, 65, dtype, 1);
      Matrix bias = Matrix::random(1, n, dtype, 2);
      Matrix none;
      for (const std::int64_t m : {0, 1, 2, 33}) {
        Matrix in = Matrix::random(m, 65, DType::f32, 3);
        Matrix factor = Matrix::random(m, n, DType::f32, 4);
        const Matrix expected = product_times(in, weight, bias, factor);
        Matrix out(m, n);
        engine.device_ops->linear_times(out.view(), in.view(), weight.split(n / 2), bias.view(),
                                        factor.view());
        finish(engine);
        expect_near(out, expected, 2e-5);
        const Matrix before = factor;
        engine.device_ops->linear_times(factor.view(), in.view(), weight.split(n), bias.view(),
                                        factor.view());
        finish(engine);
        EXPECT_TRUE(same_bits(factor, out)) << m << " x " << n;
        Matrix again = before;
        engine.device_ops->linear_times(again.view(), in.view(), weight.split(n), none.view(),
                                        again.view());
        finish(engine);
        expect_near(again, product_times(in, weight, none, before), 2e-5);
      }
    }
  }
}

// The sums are those of linear(), so the product is its result times the factor, bit for bit.
TEST(LinearTimes, KeepsTheBitsOfLinear) {
  Matrix weight = Matrix::random(70, 1100, DType::f16, 1);
  Matrix bias = Matrix::random(1, 70, DType::f32, 2);
  Matrix in = Matrix::random(37, 1100, DType::f32, 3);
  Matrix factor = Matrix::random(37, 70, DType::f32, 4);
  Matrix plain(37, 70), expected(37, 70);
  Engine one = engine_of(1);
  one.device_ops->linear(plain.view(), in.view(), weight.split(70), bias.view(), Activation::none,
                         {});
  finish(one);
  for (std::int64_t m = 0; m < 37; ++m) {
    for (std::int64_t n = 0; n < 70; ++n) {
      expected.set(m, n, static_cast<float>(plain.at(m, n)) * static_cast<float>(factor.at(m, n)));
    }
  }
  for (const int threads : {1, 2, 4}) {
    Engine engine = engine_of(threads);
    for (const std::int64_t resident : {0, 1, 35, 70}) {
      Matrix out(37, 70), alone(1, 70);
      engine.device_ops->linear_times(out.view(), in.view(), weight.split(resident), bias.view(),
                                      factor.view());
      engine.device_ops->linear_times(alone.view(), in.view().slice(36, 1), weight.split(resident),
                                      bias.view(), factor.view().slice(36, 1));
      finish(engine);
      EXPECT_TRUE(same_bits(out, expected)) << threads << " threads, " << resident;
      EXPECT_EQ(std::memcmp(alone.view().data, out.view().row(36), alone.bytes().size()), 0);
    }
  }
}

// --- the law: bit for bit -------------------------------------------------------------------

class LinearLaw : public testing::TestWithParam<Shape> {
 protected:
  static Matrix run(int threads, Matrix& in, Matrix& weight, Matrix& bias, std::int64_t resident) {
    Engine engine = engine_of(threads);
    Matrix out(in.rows(), weight.rows());
    engine.device_ops->linear(out.view(), in.view(), weight.split(resident), bias.view(),
                              Activation::gelu, {});
    finish(engine);
    return out;
  }
};

TEST_P(LinearLaw, ARowAloneEqualsTheRowAmongOthers) {
  const auto [dtype, k, n] = GetParam();
  Matrix weight = Matrix::random(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, dtype, 2);
  Matrix in = Matrix::random(250, k, DType::f32, 3);  // beyond one chunk of rows
  const Matrix all = run(2, in, weight, bias, n);
  Engine engine = engine_of(2);
  const auto compare = [&](std::int64_t first, std::int64_t rows) {
    Matrix out(rows, n);
    engine.device_ops->linear(out.view(), in.view().slice(first, rows), weight.split(n),
                              bias.view(), Activation::gelu, {});
    finish(engine);
    const std::size_t bytes = out.bytes().size();
    EXPECT_EQ(std::memcmp(out.bytes().data(),
                          all.bytes().data() + static_cast<std::size_t>(first * n) * sizeof(float),
                          bytes),
              0)
        << rows << " rows from " << first;
  };
  for (std::int64_t row = 0; row < 250; row += row < 20 ? 1 : 23) compare(row, 1);
  for (std::int64_t rows = 2; rows <= 40; ++rows) compare(3, rows);
  compare(200, 50);
}

TEST_P(LinearLaw, ThreadsDoNotMatter) {
  const auto [dtype, k, n] = GetParam();
  Matrix weight = Matrix::random(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, dtype, 2);
  Matrix in = Matrix::random(37, k, DType::f32, 3);
  const Matrix one = run(1, in, weight, bias, n);
  for (const int threads : {2, 3, 4}) {
    EXPECT_TRUE(same_bits(one, run(threads, in, weight, bias, n))) << threads << " threads";
  }
}

TEST_P(LinearLaw, HowTheWeightsAreSplitDoesNotMatter) {
  const auto [dtype, k, n] = GetParam();
  Matrix weight = Matrix::random(n, k, dtype, 1);
  Matrix bias = Matrix::random(1, n, dtype, 2);
  for (const std::int64_t rows : {1, 14}) {
    Matrix in = Matrix::random(rows, k, DType::f32, 3);
    const Matrix whole = run(2, in, weight, bias, n);
    for (std::int64_t resident = 0; resident <= n; ++resident) {
      ASSERT_TRUE(same_bits(whole, run(2, in, weight, bias, resident))) << resident << " of " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OddSizes, LinearLaw,
                         testing::Values(Shape{DType::f32, 65, 67}, Shape{DType::f16, 1100, 70},
                                         Shape{DType::bf16, 48, 19}, Shape{DType::f16, 7, 5}),
                         [](const auto& shape) {
                           return name_of_case(std::get<0>(shape.param), std::get<1>(shape.param),
                                               std::get<2>(shape.param));
                         });

// --- bad input ------------------------------------------------------------------------------

TEST(LinearErrors, RefusesWhatCannotBe) {
  Engine engine = engine_of(1);
  Ops& ops = *engine.device_ops;
  Matrix in(2, 8);
  Matrix half(2, 8, DType::f16);
  Matrix weight(4, 8);
  Matrix narrow(4, 7);
  Matrix out(2, 4);
  Matrix short_bias(1, 3);
  const SplitMatrix mixed = {weight.view(), narrow.view()};
  EXPECT_THROW(ops.linear(out.view(), half.view(), weight.split(4), {}, Activation::none, {}),
               DeviceError);
  EXPECT_THROW(ops.linear(out.view(), in.view(), narrow.split(4), {}, Activation::none, {}),
               DeviceError);
  EXPECT_THROW(ops.linear(out.view(), in.view(), mixed, {}, Activation::none, {}), DeviceError);
  EXPECT_THROW(ops.linear(in.view(), in.view(), weight.split(4), {}, Activation::none, {}),
               DeviceError);
  EXPECT_THROW(
      ops.linear(out.view(), in.view(), weight.split(4), short_bias.view(), Activation::none, {}),
      DeviceError);
  EXPECT_THROW(ops.linear(out.view(), in.view(), weight.split(4), {}, Activation::none, in.view()),
               DeviceError);
  EXPECT_THROW(ops.linear_times(out.view(), in.view(), weight.split(4), {}, {}), DeviceError);
  EXPECT_THROW(ops.linear_times(out.view(), in.view(), weight.split(4), {}, in.view()),
               DeviceError);
  EXPECT_THROW(ops.linear_times(out.view(), half.view(), weight.split(4), {}, out.view()),
               DeviceError);
  finish(engine);  // nothing of it came to a lane
}

}  // namespace
}  // namespace sluice::kernels
