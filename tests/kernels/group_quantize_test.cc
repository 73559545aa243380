#include "kernels/group_quantize.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/half.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;
using Bytes = std::vector<std::uint8_t>;

Bytes quantized(Matrix& dense, DType to, DType from = DType::f32) {
  Bytes bytes(row_bytes_of(to, dense.columns()) * static_cast<std::size_t>(dense.rows()), 0xEE);
  quantize_rows(from, dense.view().data, dense.rows(), dense.columns(), to, bytes.data());
  return bytes;
}

Matrix expanded(const Bytes& bytes, DType from, std::int64_t rows, std::int64_t columns) {
  Matrix out(rows, columns);
  dequantize_rows(from, bytes.data(), rows, columns, static_cast<float*>(out.view().data));
  return out;
}

/// Half of a step between codes, and what rounding minimum and scale to f16 may add.
double tolerance(double low, double high, int levels) {
  const double step = (high - low) / levels;
  const double of_minimum = std::ldexp(std::fabs(low), -11) + std::ldexp(1.0, -25);
  const double of_scale = levels * (std::ldexp(step, -11) + std::ldexp(1.0, -24));
  return step / 2 + of_minimum + of_scale + 1e-6 * (high - low);
}

class GroupQuantize : public testing::TestWithParam<DType> {};

TEST_P(GroupQuantize, ErrsByHalfAStepAtMost) {
  const int levels = GetParam() == DType::q8 ? 255 : 15;
  for (const DType from : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t columns : {1, 7, 63, 64, 65, 200, 1000}) {
      for (const double scale : {1e-6, 1e-3, 1.0, 1000.0, 60000.0}) {
        Matrix dense = Matrix::random(3, columns, from, 1);
        for (std::int64_t i = 0; i < 3 * columns; ++i) {
          const double offset = static_cast<double>(i / columns - 1) * 0.08;
          dense.set(i / columns, i % columns,
                    (dense.at(i / columns, i % columns) + offset) * scale);
        }
        const Matrix back = expanded(quantized(dense, GetParam(), from), GetParam(), 3, columns);
        for (std::int64_t i = 0; i < 3 * columns; ++i) {
          const std::int64_t row = i / columns, column = i % columns;
          const std::int64_t first = column / kQuantGroup * kQuantGroup;
          double low = dense.at(row, first), high = low;
          for (std::int64_t c = first; c < std::min(first + kQuantGroup, columns); ++c) {
            low = std::min(low, dense.at(row, c));
            high = std::max(high, dense.at(row, c));
          }
          ASSERT_NEAR(back.at(row, column), dense.at(row, column), tolerance(low, high, levels))
              << name_of(from) << " x " << scale << ", row " << row << ", column " << column;
        }
      }
    }
  }
}

TEST_P(GroupQuantize, KeepsGroupsOfOneValueExactly) {
  for (const double value : {0.0, 1.0, -0.375, 65504.0, -65504.0, std::ldexp(1.0, -24)}) {
    Matrix dense(1, 130);
    for (std::int64_t i = 0; i < 130; ++i) dense.set(0, i, value);
    EXPECT_EQ(expanded(quantized(dense, GetParam()), GetParam(), 1, 130).bytes(), dense.bytes())
        << value;
  }
}

TEST_P(GroupQuantize, NeverRoundsADifferenceAway) {
  Matrix dense(1, 64);
  dense.set(0, 5, 1e-9);  // far below the least f16
  const Bytes bytes = quantized(dense, GetParam());
  const std::size_t scales = bytes.size() - 4;
  EXPECT_EQ(bytes[scales] | bytes[scales + 1] << 8, 1);  // the least scale there is
}

TEST_P(GroupQuantize, YieldsTheSameBytesOnEveryInstructionSet) {
  Matrix dense = Matrix::random(5, 333, DType::f16, 7);
  dense.set(0, 0, -0.0);
  for (std::int64_t i = 0; i < 64; ++i) dense.set(1, i, i % 2 == 0 ? 0.0 : -0.0);
  const Bytes best = quantized(dense, GetParam(), DType::f16);
  for (const std::int64_t target : {HWY_SSE4, HWY_AVX2, HWY_AVX3}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    EXPECT_EQ(quantized(dense, GetParam(), DType::f16), best) << hwy::TargetName(target);
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

TEST_P(GroupQuantize, RefusesWhatHasNoCodeByRowAndColumn) {
  const double kNone = std::numeric_limits<double>::quiet_NaN();
  const double kInfinite = std::numeric_limits<double>::infinity();
  for (const double value : {kNone, kInfinite, -kInfinite, 65505.0, -1e30}) {
    for (const std::int64_t column : {0, 70, 129}) {
      Matrix dense(4, 130);
      dense.set(2, column, value);
      try {
        quantized(dense, GetParam());
        FAIL() << value << " was taken";
      } catch (const InputError& error) {
        const std::string what = error.what();
        EXPECT_NE(what.find("row 2, column " + std::to_string(column) + " is"), std::string::npos)
            << what;
      }
    }
  }
  Matrix dense(1, 3, DType::bf16);  // wider than f16
  dense.set(0, 1, 1e20);
  EXPECT_THROW(quantized(dense, GetParam(), DType::bf16), InputError);
}

INSTANTIATE_TEST_SUITE_P(Widths, GroupQuantize, testing::Values(DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST(GroupQuantizeLayout, ByHand) {
  Matrix dense(1, 66);
  for (std::int64_t i = 0; i < 64; ++i) dense.set(0, i, 0.5 * static_cast<double>(i % 16) - 2);
  dense.set(0, 64, 3.0);
  dense.set(0, 65, 18.0);
  const Bytes four = quantized(dense, DType::q4);
  ASSERT_EQ(four.size(), 2U * 32 + 2 * 4);
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(four[i], i % 16 * 17);  // elements i and i + 32
  EXPECT_EQ(four[32], 0);
  EXPECT_EQ(four[33], 15);
  EXPECT_EQ(std::count(four.begin() + 34, four.begin() + 64, 0), 30);  // beyond the last column
  const std::vector<double> factors = {0.5, -2.0, 1.0, 3.0};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t at = 64 + 2 * i;
    const auto half = static_cast<std::uint16_t>(four[at] | four[at + 1] << 8);
    EXPECT_EQ(static_cast<double>(from_f16(half)), factors[i]);
  }

  const Bytes eight = quantized(dense, DType::q8);
  ASSERT_EQ(eight.size(), 2U * 64 + 2 * 4);
  EXPECT_EQ(eight[0], 0);
  EXPECT_EQ(eight[15], 255);
  EXPECT_EQ(eight[64], 0);
  EXPECT_EQ(eight[65], 255);
  EXPECT_EQ(std::count(eight.begin() + 66, eight.begin() + 128, 0), 62);
}

}  // namespace
}  // namespace sluice::kernels
