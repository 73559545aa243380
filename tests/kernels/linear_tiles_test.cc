// What only tile products can get wrong: parts of numbers, borders of blocks, chunks and rounds.
// The laws of linear() are linear_test.cc; ctest runs it with and without SLUICE_NO_AMX.
#include "kernels/cpu/linear_tiles.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/linear_amx.h"
#include "kernels/device/cpu_backend.h"
#include "tests/support/cpu_lane.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;

class LinearTiles : public testing::Test {
 protected:
  void SetUp() override {
    if (!tiles_can(1)) GTEST_SKIP() << "this processor has no tile products, or SLUICE_NO_AMX=1";
  }

  Matrix tiles(Matrix& in, Matrix& weight) {
    Matrix out(in.rows(), weight.rows());
    linear_tiles(lane_.context(), {out.view(), in.view(), weight.split(weight.rows())});
    return out;
  }

  Matrix vectors(Matrix& in, Matrix& weight) {
    Matrix out(in.rows(), weight.rows());
    linear_vectors(lane_.context(), {out.view(), in.view(), weight.split(weight.rows())});
    return out;
  }

  support::CpuLane lane_{2};
};

/// The root of the mean square of the differences.
double distance(const Matrix& a, const Matrix& b) {
  double sum = 0.0;
  for (std::int64_t m = 0; m < a.rows(); ++m) {
    for (std::int64_t n = 0; n < a.columns(); ++n) {
      sum += (a.at(m, n) - b.at(m, n)) * (a.at(m, n) - b.at(m, n));
    }
  }
  return std::sqrt(sum / static_cast<double>(a.rows() * a.columns()));
}

/// `count` floats of every sign and mantissa whose parts are normal numbers.
Matrix floats_of_many_sizes(std::int64_t rows, std::int64_t columns) {
  Matrix matrix = Matrix::random(rows, columns, DType::f32, 5);
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t n = 0; n < columns; ++n) {
      const auto exponent = static_cast<int>((m * 31 + n * 7) % 190) - 95;
      matrix.set(m, n, std::ldexp(matrix.at(m, n), exponent));
    }
  }
  return matrix;
}

TEST_F(LinearTiles, AreAsExactAsVectorsOfFloats) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t k : {77, 768, 8192}) {
      Matrix in = Matrix::random(19, k, DType::f32, 1);
      Matrix weight = Matrix::random(40, k, dtype, 2);
      const Matrix expected = reference::linear(in, weight, {}, Activation::none, {});
      const double by_tiles = distance(tiles(in, weight), expected);
      const double by_vectors = distance(vectors(in, weight), expected);
      EXPECT_LT(by_tiles, 1.5 * by_vectors)
          << name_of(dtype) << ", K " << k << ": root mean square error " << by_tiles
          << " by tiles, " << by_vectors << " by vectors";
    }
  }
}

TEST_F(LinearTiles, EveryHalfIsTheSumOfItsParts) {
  Matrix one(1, 1);
  one.set(0, 0, 1.0);
  Matrix weight(0x7C00 * 2, 1, DType::f16);  // all that are finite, the least ones included
  for (std::int64_t i = 0; i < 0x7C00; ++i) {
    const double value = reference::from_f16(static_cast<std::uint16_t>(i));
    weight.set(i, 0, value);
    weight.set(0x7C00 + i, 0, -value);
  }
  const Matrix out = tiles(one, weight);
  for (std::int64_t i = 0; i < weight.rows(); ++i) {
    ASSERT_EQ(out.at(0, i), weight.at(i, 0)) << "weight " << i;
  }
}

TEST_F(LinearTiles, EveryBrainFloatIsItself) {
  Matrix one(1, 1);
  one.set(0, 0, 1.0);
  Matrix weight(0x7F80 - 0x80, 1, DType::bf16);  // all normal numbers
  for (std::int64_t i = 0; i < weight.rows(); ++i) {
    weight.set(i, 0, reference::from_bf16(static_cast<std::uint16_t>(0x80 + i)));
  }
  const Matrix out = tiles(one, weight);
  for (std::int64_t i = 0; i < weight.rows(); ++i) {
    ASSERT_EQ(out.at(0, i), weight.at(i, 0)) << "weight " << i;
  }
}

TEST_F(LinearTiles, AFloatIsTheSumOfItsParts) {
  Matrix one(1, 1);
  one.set(0, 0, 1.0);
  Matrix weight = floats_of_many_sizes(10'000, 1);
  const Matrix as_weight = tiles(one, weight);
  for (std::int64_t i = 0; i < weight.rows(); ++i) {
    ASSERT_EQ(as_weight.at(0, i), weight.at(i, 0)) << "weight " << i;
  }
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Matrix identity(1, 1, dtype);
    identity.set(0, 0, 1.0);
    Matrix in = floats_of_many_sizes(10'000, 1);
    const Matrix as_input = tiles(in, identity);
    for (std::int64_t i = 0; i < in.rows(); ++i) {
      ASSERT_EQ(as_input.at(i, 0), in.at(i, 0)) << "input " << i << ", " << name_of(dtype);
    }
  }
}

TEST_F(LinearTiles, RowsAloneEqualRowsBeyondEveryBorder) {
  struct Case {
    DType dtype;
    std::int64_t rows, k, n;
  };
  // Rounds of 64 rows; chunks of 256 rows and of columns; blocks of K; a last row tile alone.
  for (const Case& c : {Case{DType::f16, 70, 20'000, 33}, Case{DType::f32, 289, 513, 290},
                        Case{DType::bf16, 545, 300, 70}, Case{DType::f16, 33, 257, 1030}}) {
    Matrix in = Matrix::random(c.rows, c.k, DType::f32, 1);
    Matrix weight = Matrix::random(c.n, c.k, c.dtype, 2);
    const Matrix all = tiles(in, weight);
    const std::vector<std::int64_t> firsts = {0, 15, 16, 31, 32, 63, 64, c.rows / 2, c.rows - 3};
    for (const std::int64_t first : firsts) {
      for (const std::int64_t rows : {1, 3, 17}) {
        if (first + rows > c.rows) continue;
        Matrix some(rows, c.k);
        std::memcpy(some.view().data, in.view().row(first), some.bytes().size());
        const Matrix out = tiles(some, weight);
        ASSERT_EQ(std::memcmp(out.bytes().data(),
                              all.bytes().data() + static_cast<std::size_t>(first * c.n) * 4,
                              out.bytes().size()),
                  0)
            << name_of(c.dtype) << ": " << rows << " rows from " << first << " of " << c.rows;
      }
    }
  }
}

TEST_F(LinearTiles, WhatIsNoNumberSpoilsItsRowAndNoOther) {
  const float spoilt[] = {
      std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
      std::numeric_limits<float>::signaling_NaN(), std::numeric_limits<float>::infinity(),
      -std::numeric_limits<float>::infinity()};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t rows : {1, 5, 40}) {
      Matrix in = Matrix::random(rows, 301, DType::f32, 1);
      Matrix weight = Matrix::random(37, 301, dtype, 2);
      const Matrix clean = tiles(in, weight);
      for (const float value : spoilt) {
        for (const std::int64_t at : {0, 31, 256, 300}) {
          Matrix bad = in;
          const std::int64_t row = rows / 2;
          std::memcpy(bad.view().row(row) + at * 4, &value, sizeof(value));
          const Matrix out = tiles(bad, weight);
          for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t n = 0; n < 37; ++n) {
              if (m == row) {
                ASSERT_FALSE(std::isfinite(out.at(m, n))) << value << " at " << at;
              } else {
                ASSERT_EQ(out.at(m, n), clean.at(m, n)) << value << " at " << at;
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(LinearTiles, WeightsThatAreNoNumbersSpoilTheirColumnAndNoOther) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Matrix in = Matrix::random(20, 45, DType::f32, 1);
    Matrix weight = Matrix::random(37, 45, dtype, 2);
    const Matrix clean = tiles(in, weight);
    const std::uint32_t infinity = dtype == DType::f32    ? 0x7F800000U
                                   : dtype == DType::bf16 ? 0x7F80U
                                                          : 0x7C00U;
    std::memcpy(weight.view().row(17) + 44 * size_of(dtype), &infinity, size_of(dtype));
    const Matrix out = tiles(in, weight);
    for (std::int64_t m = 0; m < 20; ++m) {
      for (std::int64_t n = 0; n < 37; ++n) {
        if (n == 17) {
          ASSERT_FALSE(std::isfinite(out.at(m, n)));
        } else {
          ASSERT_EQ(out.at(m, n), clean.at(m, n));
        }
      }
    }
  }
}

TEST_F(LinearTiles, RowsThatFindNoRoomGoByVectors) {
  const std::int64_t longest = kSharedBytes / (kTileWidth * 2 * kInputParts);
  EXPECT_TRUE(tiles_can(longest / kTileBlock * kTileBlock));
  EXPECT_FALSE(tiles_can(longest + kTileBlock));
}

}  // namespace
}  // namespace sluice::kernels
