// The operations of today's decoders that work row by row or element by element: rms_norm, rotate,
// scale, soft_cap, add, widen_rows.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

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

void expect_near(const Matrix& actual, const Matrix& expected, double tolerance) {
  for (std::int64_t row = 0; row < actual.rows(); ++row) {
    for (std::int64_t i = 0; i < actual.columns(); ++i) {
      ASSERT_NEAR(actual.at(row, i), expected.at(row, i), tolerance) << "at " << row << ", " << i;
    }
  }
}

bool is_row_of(Matrix& alone, Matrix& all, std::int64_t row) {
  return std::memcmp(alone.view().data, all.view().row(row), all.view().row_bytes()) == 0;
}

constexpr std::int64_t kWidths[] = {1, 3, 16, 17, 64, 200, 2053};

// --- rms_norm -------------------------------------------------------------------------------

TEST(RmsNorm, EqualsTheReference) {
  Engine engine = engine_of(2);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t width : kWidths) {
      for (const float offset : {0.0F, 1.0F}) {
        Matrix in = Matrix::random(33, width, DType::f32, 1);
        Matrix weight = Matrix::random(1, width, dtype, 2);
        Matrix out(33, width);
        engine.device_ops->rms_norm(out.view(), in.view(), weight.view(), 1e-5F, offset);
        finish(engine);
        SCOPED_TRACE(std::string(name_of(dtype)) + " " + std::to_string(width));
        expect_near(out, reference::rms_norm(in, weight, 1e-5F, offset), 3e-6);
      }
    }
  }
}

TEST(RmsNorm, WithoutWeightsNothingIsMultipliedAndRowsMayBeNormedInPlace) {
  Engine engine = engine_of(1);
  Matrix rows = Matrix::random(3, 50, DType::f32, 1);
  for (std::int64_t i = 0; i < 50; ++i) rows.set(1, i, 1e-4 * rows.at(1, i));  // epsilon matters
  const Matrix expected = reference::rms_norm(rows, {}, 1e-6F, 1.0);
  engine.device_ops->rms_norm(rows.view(), rows.view(), {}, 1e-6F, 1.0F);
  finish(engine);
  expect_near(rows, expected, 3e-6);
}

TEST(RmsNorm, OfEveryHeadIsTheNormOfRowsOfAHeadsWidth) {
  Engine engine = engine_of(3);
  Matrix rows = Matrix::random(40, 12 * 80, DType::f32, 1);
  Matrix weight = Matrix::random(1, 80, DType::f32, 2);
  Matrix out = rows;
  const TensorView heads = {out.view().data, DType::f32, 40 * 12, 80};
  engine.device_ops->rms_norm(heads, heads, weight.view(), 1e-6F, 0.0F);
  finish(engine);
  for (std::int64_t head = 0; head < 12; ++head) {
    Matrix one(40, 80), got(40, 80);
    for (std::int64_t row = 0; row < 40; ++row) {
      for (std::int64_t i = 0; i < 80; ++i) {
        one.set(row, i, rows.at(row, head * 80 + i));
        got.set(row, i, out.at(row, head * 80 + i));
      }
    }
    expect_near(got, reference::rms_norm(one, weight, 1e-6F, 0.0), 3e-6);
  }
}

TEST(RmsNorm, ARowAloneEqualsTheRowAmongOthersOnAnyThreads) {
  for (const std::int64_t width : {48, 1537}) {
    Matrix in = Matrix::random(400, width, DType::f32, 1);
    Matrix weight = Matrix::random(1, width, DType::f16, 2);
    Matrix all(400, width);
    Engine one = engine_of(1);
    one.device_ops->rms_norm(all.view(), in.view(), weight.view(), 1e-5F, 0.0F);
    finish(one);
    for (const int threads : {1, 2, 4}) {
      Engine engine = engine_of(threads);
      Matrix again(400, width), alone(1, width);
      engine.device_ops->rms_norm(again.view(), in.view(), weight.view(), 1e-5F, 0.0F);
      engine.device_ops->rms_norm(alone.view(), in.view().slice(17, 1), weight.view(), 1e-5F, 0.0F);
      finish(engine);
      EXPECT_EQ(all.bytes(), again.bytes());
      EXPECT_TRUE(is_row_of(alone, all, 17));
    }
  }
}

// --- rotate ---------------------------------------------------------------------------------

/// theta^(-2 i / width), and a second list of another theta.
std::vector<float> frequencies_of(std::int32_t width) {
  std::vector<float> frequencies;
  for (const double theta : {1e4, 1e6}) {
    for (std::int32_t i = 0; i < width; i += 2) {
      frequencies.push_back(static_cast<float>(std::pow(theta, -static_cast<double>(i) / width)));
    }
  }
  return frequencies;
}

struct Turn {
  std::int32_t head_dim;
  std::int32_t width;
};

class Rotate : public testing::TestWithParam<Turn> {};

TEST_P(Rotate, EqualsTheReferenceAtAnyPosition) {
  const auto [head_dim, width] = GetParam();
  const std::vector<float> frequencies = frequencies_of(width);
  const std::vector<std::int32_t> positions = {0, 1, 2, 77, 2047, 100000, 131071, ~0, ~5, ~100000};
  const auto count = static_cast<std::int64_t>(positions.size());
  for (const bool neighbours : {false, true}) {
    for (const float factor : {1.0F, 1.2F}) {
      const Rotation rotation = {head_dim, width, neighbours, factor, frequencies.data()};
      Matrix rows = Matrix::random(count, 5 * head_dim, DType::f32, 1);
      const Matrix expected = reference::rotate(rows, rotation, positions);
      const Matrix before = rows;
      Engine engine = engine_of(2);
      engine.device_ops->rotate(rows.view(), rotation, positions.data());
      finish(engine);
      expect_near(rows, expected, 5e-7);
      for (std::int64_t i = 0; i < rows.columns(); ++i) {
        // Where the angle is zero, and beyond the elements that turn.
        if (factor == 1.0F) {
          ASSERT_EQ(rows.at(0, i), before.at(0, i)) << i;
        }
        if (i % head_dim >= width) {
          ASSERT_EQ(rows.at(5, i), before.at(5, i)) << i;
        }
      }
    }
  }
}

TEST_P(Rotate, ARowAloneEqualsTheRowAmongOthersOnAnyThreads) {
  const auto [head_dim, width] = GetParam();
  const std::vector<float> frequencies = frequencies_of(width);
  std::vector<std::int32_t> positions;
  for (std::int32_t i = 0; i < 100; ++i) positions.push_back(3 * i);
  for (const bool neighbours : {false, true}) {
    const Rotation rotation = {head_dim, width, neighbours, 1.0F, frequencies.data()};
    const Matrix before = Matrix::random(100, 7 * head_dim, DType::f32, 1);
    Matrix all = before;
    Engine one = engine_of(1);
    one.device_ops->rotate(all.view(), rotation, positions.data());
    finish(one);
    for (const int threads : {1, 2, 4}) {
      Engine engine = engine_of(threads);
      Matrix again = before;
      Matrix alone = before;
      engine.device_ops->rotate(again.view(), rotation, positions.data());
      engine.device_ops->rotate(alone.view().slice(60, 1), rotation, positions.data() + 60);
      finish(engine);
      EXPECT_EQ(again.bytes(), all.bytes());
      EXPECT_EQ(std::memcmp(alone.view().row(60), all.view().row(60), all.view().row_bytes()), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, Rotate,
                         testing::Values(Turn{2, 2}, Turn{12, 6}, Turn{64, 64}, Turn{80, 32},
                                         Turn{96, 24}, Turn{128, 128}, Turn{256, 256}),
                         [](const auto& turn) {
                           return std::to_string(turn.param.width) + "_of_" +
                                  std::to_string(turn.param.head_dim);
                         });

TEST(RotateByHand, AQuarterTurn) {
  Engine engine = engine_of(1);
  const float quarter = 1.57079637F;
  const std::int32_t position = 1;
  for (const bool neighbours : {false, true}) {
    Matrix row(1, 4);
    for (std::int64_t i = 0; i < 4; ++i) row.set(0, i, static_cast<double>(i + 1));
    const float frequencies[] = {quarter, 0.0F};
    engine.device_ops->rotate(row.view(), {4, 4, neighbours, 1.0F, frequencies}, &position);
    finish(engine);
    // (a, b) becomes (-b, a); the second pair stays.
    EXPECT_NEAR(row.at(0, 0), neighbours ? -2.0 : -3.0, 1e-6);
    EXPECT_NEAR(row.at(0, neighbours ? 1 : 2), 1.0, 1e-6);
    EXPECT_EQ(row.at(0, neighbours ? 2 : 1), neighbours ? 3.0 : 2.0);
    EXPECT_EQ(row.at(0, 3), 4.0);
  }
}

TEST(RotateErrors, RefusesWhatCannotTurn) {
  Engine engine = engine_of(1);
  Ops& ops = *engine.device_ops;
  Matrix rows(1, 24);
  const std::vector<float> frequencies(64, 1.0F);
  const std::int32_t position = 0;
  const auto fails = [&](const Rotation& rotation) {
    EXPECT_THROW(ops.rotate(rows.view(), rotation, &position), DeviceError);
  };
  fails({8, 3, false, 1.0F, frequencies.data()});      // an odd width
  fails({8, 10, false, 1.0F, frequencies.data()});     // wider than the head
  fails({8, 0, false, 1.0F, frequencies.data()});      // nothing
  fails({10, 10, false, 1.0F, frequencies.data()});    // heads that do not fill the row
  fails({8, 8, false, 1.0F, nullptr});                 // no angles
  fails({1024, 16, false, 1.0F, frequencies.data()});  // a head too wide
}

// --- element by element ---------------------------------------------------------------------

/// Rows that fill no vector, a few, and more than threads take at a time.
constexpr std::int64_t kShapes[][2] = {{1, 1}, {3, 7}, {2, 64}, {5, 200}, {3, 20011}};

TEST(Scale, MultipliesEveryElement) {
  for (const int threads : {1, 3}) {
    Engine engine = engine_of(threads);
    for (const auto& [rows, width] : kShapes) {
      Matrix matrix = Matrix::random(rows, width, DType::f32, 1);
      const Matrix before = matrix;
      engine.device_ops->scale(matrix.view(), 45.25F);
      finish(engine);
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t i = 0; i < width; ++i) {
          const float expected = static_cast<float>(before.at(row, i)) * 45.25F;
          ASSERT_EQ(matrix.at(row, i), static_cast<double>(expected)) << row << ", " << i;
        }
      }
    }
  }
}

TEST(Add, AddsEveryElement) {
  for (const int threads : {1, 3}) {
    Engine engine = engine_of(threads);
    for (const auto& [rows, width] : kShapes) {
      Matrix out = Matrix::random(rows, width, DType::f32, 1);
      Matrix in = Matrix::random(rows, width, DType::f32, 2);
      const Matrix before = out;
      engine.device_ops->add(out.view(), in.view());
      finish(engine);
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t i = 0; i < width; ++i) {
          const float expected =
              static_cast<float>(before.at(row, i)) + static_cast<float>(in.at(row, i));
          ASSERT_EQ(out.at(row, i), static_cast<double>(expected)) << row << ", " << i;
        }
      }
    }
  }
}

TEST(SoftCap, IsTheHyperbolicTangentOfSmallAndLargeLogits) {
  for (const int threads : {1, 3}) {
    Engine engine = engine_of(threads);
    for (const auto& [rows, width] : kShapes) {
      for (const double size : {1e-3, 1.0, 40.0, 1e6}) {
        Matrix matrix = Matrix::random(rows, width, DType::f32, 1);
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t i = 0; i < width; ++i) matrix.set(row, i, size * matrix.at(row, i));
        }
        const Matrix before = matrix;
        engine.device_ops->soft_cap(matrix.view(), 30.0F);
        finish(engine);
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t i = 0; i < width; ++i) {
            const double expected = 30.0 * std::tanh(before.at(row, i) / 30.0);
            ASSERT_NEAR(matrix.at(row, i), expected, 5e-7 * std::fabs(expected))
                << before.at(row, i);
          }
        }
      }
    }
  }
}

TEST(SoftCap, HidesNoNumberThatIsNone) {
  Engine engine = engine_of(1);
  Matrix row(1, 19);
  row.set(0, 3, NAN);
  row.set(0, 18, NAN);
  row.set(0, 5, INFINITY);
  row.set(0, 6, -INFINITY);
  engine.device_ops->soft_cap(row.view(), 30.0F);
  finish(engine);
  EXPECT_TRUE(std::isnan(row.at(0, 3)));
  EXPECT_TRUE(std::isnan(row.at(0, 18)));
  EXPECT_EQ(row.at(0, 5), 30.0);
  EXPECT_EQ(row.at(0, 6), -30.0);
  EXPECT_EQ(row.at(0, 7), 0.0);
}

TEST(WidenRows, PutsZerosBehindARow) {
  Engine engine = engine_of(2);
  for (const std::int64_t width : {5, 8, 21}) {
    Matrix in = Matrix::random(4, 5, DType::f32, 1);
    Matrix out = Matrix::random(4, width, DType::f32, 2);
    engine.device_ops->widen_rows(out.view(), in.view());
    finish(engine);
    for (std::int64_t row = 0; row < 4; ++row) {
      for (std::int64_t i = 0; i < width; ++i) {
        ASSERT_EQ(out.at(row, i), i < 5 ? in.at(row, i) : 0.0) << row << ", " << i;
      }
    }
  }
}

TEST(DecoderRowErrors, RefusesShapesAndTypesThatDoNotFit) {
  Engine engine = engine_of(1);
  Ops& ops = *engine.device_ops;
  Matrix rows(2, 8);
  Matrix narrow(2, 7);
  Matrix half(2, 8, DType::f16);
  Matrix weight(1, 7);
  EXPECT_THROW(ops.rms_norm(rows.view(), rows.view(), weight.view(), 1e-5F, 0.0F), DeviceError);
  EXPECT_THROW(ops.rms_norm(rows.view(), half.view(), {}, 1e-5F, 0.0F), DeviceError);
  EXPECT_THROW(ops.rms_norm(narrow.view(), rows.view(), {}, 1e-5F, 0.0F), DeviceError);
  EXPECT_THROW(ops.scale(half.view(), 2.0F), DeviceError);
  EXPECT_THROW(ops.soft_cap(rows.view(), 0.0F), DeviceError);
  EXPECT_THROW(ops.soft_cap(rows.view(), NAN), DeviceError);
  EXPECT_THROW(ops.add(rows.view(), narrow.view()), DeviceError);
  EXPECT_THROW(ops.add(rows.view(), half.view()), DeviceError);
  EXPECT_THROW(ops.widen_rows(narrow.view(), rows.view()), DeviceError);
  EXPECT_THROW(ops.widen_rows(rows.view(), half.view()), DeviceError);
  finish(engine);  // nothing of it came to a lane
}

}  // namespace
}  // namespace sluice::kernels
