#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "tests/support/attention_cache.h"

namespace sluice::kernels {
namespace {

using namespace attention_test;

class AppendKv : public testing::TestWithParam<DType> {};

/// By the scalar conversions, the oracle of the vectors'.
std::vector<std::byte> narrowed(const float* from, std::int64_t count, DType dtype) {
  std::vector<std::byte> to(row_bytes_of(dtype, count));
  if (is_quantized(dtype)) {
    quantize_rows(DType::f32, from, 1, count, dtype, to.data());
  } else if (dtype == DType::f32) {
    std::memcpy(to.data(), from, to.size());
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint16_t half = dtype == DType::f16 ? to_f16(from[i]) : to_bf16(from[i]);
      std::memcpy(to.data() + 2 * i, &half, 2);
    }
  }
  return to;
}

const float* row_of(Matrix& matrix, std::int64_t row) {
  return reinterpret_cast<const float*>(matrix.view().row(row));
}

TEST_P(AppendKv, KeepsEveryRowWhereItBelongsAsTheScalarConversionsWouldDo) {
  const std::int32_t heads = 3;
  for (const std::int32_t dim : {1, 8, 17, 63, 64, 65, 80, 128, 200, 512}) {
    const std::int32_t tokens = 37;
    Attention attention(3, {GetParam(), heads, dim, 5}, 20);
    Matrix keys = Matrix::random(tokens + 1, std::int64_t{heads} * dim, DType::f32, 1);
    Matrix values = Matrix::random(tokens + 1, std::int64_t{heads} * dim, DType::f32, 2);
    for (std::int64_t row = 0; row < tokens; row += 3) {  // of many sizes, some all alike
      for (std::int64_t i = 0; i < keys.columns(); ++i) {
        keys.set(row, i, keys.at(row, i) * std::pow(8.0, static_cast<double>(row % 16) - 11.0));
        values.set(row, i, row % 2 == 0 ? 0.3 : std::abs(values.at(row, i)) + 5.0);
      }
    }
    attention.append({1, tokens, tokens + 2, pages_from(4, 8)}, keys, values);
    for (std::int32_t token = 0; token < tokens; ++token) {
      for (std::int32_t head = 0; head < heads; ++head) {
        for (const bool value : {false, true}) {
          const float* const from = row_of(value ? values : keys, token + 1) + head * dim;
          const std::int32_t position = token + 2;
          const auto kept = attention.kept(4 + position / 5, position % 5, head, value);
          const std::vector<std::byte> expected = narrowed(from, dim, GetParam());
          ASSERT_EQ(std::vector(kept.begin(), kept.end()), expected)
              << "dim " << dim << ", token " << token << ", head " << head << ", value " << value;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AppendKv,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

/// All 16-bit floats, the middles between neighbours, and what lies beside those.
TEST(AppendKvHalves, RoundsLikeTheScalarConversionsEverywhere) {
  std::vector<float> floats;
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    floats.push_back(from_f16(static_cast<std::uint16_t>(bits)));
    for (const std::uint32_t below : {0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      const std::uint32_t whole = bits << 16 | below;  // of bf16: half way and its neighbours
      float value = 0;
      std::memcpy(&value, &whole, sizeof(value));
      floats.push_back(value);
    }
    const float next = from_f16(static_cast<std::uint16_t>(bits + 1));
    const float middle = floats[floats.size() - 5] / 2 + next / 2;
    for (const float value :
         {middle, std::nextafter(middle, HUGE_VALF), std::nextafter(middle, -HUGE_VALF)}) {
      floats.push_back(value);
    }
  }
  const std::int32_t dim = 512;
  floats.resize((floats.size() + dim - 1) / dim * dim);
  const auto rows = static_cast<std::int32_t>(floats.size() / dim);
  Matrix matrix(rows, dim);
  std::memcpy(matrix.view().data, floats.data(), floats.size() * sizeof(float));
  for (const DType dtype : {DType::f16, DType::bf16}) {
    Attention attention(2, {dtype, 1, dim, rows}, 1);
    attention.append({0, rows, rows, {0}}, matrix, matrix);
    for (std::int32_t row = 0; row < rows; ++row) {
      const auto kept = attention.kept(0, row, 0, true);
      ASSERT_EQ(std::vector(kept.begin(), kept.end()),
                narrowed(floats.data() + std::int64_t{row} * dim, dim, dtype))
          << name_of(dtype) << " row " << row;
    }
  }
}

/// Every 16-bit pattern, those of NaNs too, into a cache of its own type.
TEST(AppendKvHalves, KeepsRowsOfTheCachesTypeBitForBit) {
  const std::int32_t dim = 512;
  const std::int32_t rows = 0x10000 / dim;
  for (const DType dtype : {DType::f16, DType::bf16}) {
    Matrix matrix(rows, dim, dtype);
    std::vector<std::uint16_t> bits(0x10000);
    std::iota(bits.begin(), bits.end(), std::uint16_t{0});
    std::memcpy(matrix.view().data, bits.data(), bits.size() * sizeof(bits[0]));
    Attention attention(2, {dtype, 1, dim, rows}, 1);
    attention.append({0, rows, rows, {0}}, matrix, matrix);
    for (const bool value : {false, true}) {
      for (std::int32_t row = 0; row < rows; ++row) {
        ASSERT_EQ(std::memcmp(attention.kept(0, row, 0, value).data(),
                              bits.data() + std::int64_t{row} * dim, dim * sizeof(bits[0])),
                  0)
            << name_of(dtype) << " row " << row;
      }
    }
  }
}

TEST(AppendKvHalves, ReachOtherTypesByWayOfFloats) {
  const std::int32_t tokens = 5;
  for (const DType from : {DType::f16, DType::bf16}) {
    for (const DType to : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
      for (const std::int32_t dim : {1, 12, 17, 64, 80, 512}) {
        Matrix keys = Matrix::random(tokens, 2 * dim, from, 1);
        Matrix values = Matrix::random(tokens, 2 * dim, from, 2);
        Attention attention(2, {to, 2, dim, 3}, 2);
        attention.append({0, tokens, tokens, {1, 0}}, keys, values);
        for (std::int32_t token = 0; token < tokens; ++token) {
          for (std::int32_t head = 0; head < 2; ++head) {
            std::vector<float> floats;
            for (std::int32_t i = 0; i < dim; ++i) {
              floats.push_back(static_cast<float>(values.at(token, head * dim + i)));
            }
            const auto kept = attention.kept(1 - token / 3, token % 3, head, true);
            ASSERT_EQ(std::vector(kept.begin(), kept.end()), narrowed(floats.data(), dim, to))
                << name_of(from) << " to " << name_of(to) << ", dim " << dim;
          }
        }
      }
    }
  }
}

TEST(AppendKvCodes, WhatCannotBeQuantisedBreaksItsOwnGroupOnly) {
  for (const DType dtype : {DType::q8, DType::q4}) {
    for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL, 65505.0}) {
      Attention attention(1, {dtype, 2, 80, 4}, 1);
      Matrix keys = Matrix::random(2, 160, DType::f32, 1);
      const Matrix sound = rounded(keys, dtype, 2);
      keys.set(1, 85, value);  // second head, first group
      attention.append({0, 2, 2, {0}}, keys, keys);
      for (std::int32_t row = 0; row < 2; ++row) {
        for (std::int32_t head = 0; head < 2; ++head) {
          float restored[80];
          dequantize_rows(dtype, attention.kept(0, row, head, false).data(), 1, 80, restored);
          for (std::int64_t i = 0; i < 80; ++i) {
            if (row == 1 && head == 1 && i < 64) {
              EXPECT_TRUE(std::isnan(restored[i]));
            } else {
              EXPECT_EQ(restored[i], static_cast<float>(sound.at(row, head * 80 + i)));
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
