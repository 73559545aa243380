#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/attention_cache.h"

namespace sluice::kernels {
namespace {

using namespace attention_test;

// --- against the oracle ---------------------------------------------------------------------

using Case = std::tuple<DType, std::int32_t, std::int32_t>;  // dtype, head_dim, tokens

class AttentionShapes : public testing::TestWithParam<Case> {};

TEST_P(AttentionShapes, EqualsTheReference) {
  const auto [dtype, dim, tokens] = GetParam();
  const CacheShape shape = {dtype, 3, dim, 7};
  Attention attention(2, shape, 40);
  Matrix query = Matrix::random(tokens, 3 * dim, DType::f32, 1);
  Matrix keys = Matrix::random(tokens, 3 * dim, DType::f32, 2);
  Matrix values = Matrix::random(tokens, 3 * dim, DType::f32, 3);
  Matrix out(tokens, 3 * dim);
  attention.step({{0, tokens, tokens, pages_from(3, (tokens + 6) / 7)}}, query, keys, values, out);
  expect_near(
      out, reference::attention(query, rounded(keys, dtype, 3), rounded(values, dtype, 3), 3, 0.25),
      dtype);
}

INSTANTIATE_TEST_SUITE_P(OddSizes, AttentionShapes,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16,
                                                          DType::q8, DType::q4),
                                          testing::Values(1, 8, 12, 16, 64, 80, 128, 200, 512),
                                          testing::Values(1, 2, 25, 64, 65, 201)),
                         [](const auto& shape) {
                           return std::string(name_of(std::get<0>(shape.param))) + "_dim" +
                                  std::to_string(std::get<1>(shape.param)) + "_tokens" +
                                  std::to_string(std::get<2>(shape.param));
                         });

// --- several query heads for each KV head -----------------------------------------------------

struct Heads {
  std::int32_t query;
  std::int32_t kv;
};

class GroupedHeads : public testing::TestWithParam<std::tuple<DType, Heads>> {};

/// Each KV head as often as there are query heads for it (Hugging Face repeat_kv).
Matrix repeated(const Matrix& kept, std::int32_t dim, std::int32_t group) {
  Matrix all(kept.rows(), kept.columns() * group);
  for (std::int64_t row = 0; row < kept.rows(); ++row) {
    for (std::int64_t i = 0; i < all.columns(); ++i) {
      all.set(row, i, kept.at(row, i / dim / group * dim + i % dim));
    }
  }
  return all;
}

TEST_P(GroupedHeads, GiveTheReferenceAndTheBitsOfRepeatedKvHeads) {
  const auto [dtype, heads] = GetParam();
  for (const std::int32_t dim : {5, 72}) {
    if (dim == 72 && heads.query > 8) continue;
    for (const std::int32_t tokens : {1, 25, 67, 290}) {
      Matrix query = Matrix::random(tokens, std::int64_t{heads.query} * dim, DType::f32, 1);
      Matrix keys = Matrix::random(tokens, std::int64_t{heads.kv} * dim, DType::f32, 2);
      Matrix values = Matrix::random(tokens, std::int64_t{heads.kv} * dim, DType::f32, 3);
      Matrix out(tokens, query.columns());
      const std::vector<Attention::Sequence> sequence = {
          {0, tokens, tokens, pages_from(3, (tokens + 6) / 7)}};
      Attention(2, {dtype, heads.kv, dim, 7}, 48).step(sequence, query, keys, values, out);
      if (tokens <= 67) {
        expect_near(out,
                    reference::attention(query, rounded(keys, dtype, heads.kv),
                                         rounded(values, dtype, heads.kv), heads.query, 0.25),
                    dtype);
      }
      const std::int32_t group = heads.query / heads.kv;
      Matrix all_keys = repeated(keys, dim, group);
      Matrix all_values = repeated(values, dim, group);
      Matrix of_all(tokens, query.columns());
      Attention(2, {dtype, heads.query, dim, 7}, 48)
          .step(sequence, query, all_keys, all_values, of_all);
      ASSERT_EQ(out.bytes(), of_all.bytes()) << "dim " << dim << ", tokens " << tokens;
    }
  }
}

// Groups that fill a tile of queries in part, exactly, and more than once.
INSTANTIATE_TEST_SUITE_P(
    Shapes, GroupedHeads,
    testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                     testing::Values(Heads{4, 4}, Heads{8, 2}, Heads{6, 1}, Heads{32, 4},
                                     Heads{24, 1}, Heads{71, 1}, Heads{50, 2})),
    [](const auto& shape) {
      const Heads& heads = std::get<1>(shape.param);
      return std::string(name_of(std::get<0>(shape.param))) + "_" + std::to_string(heads.query) +
             "_of_" + std::to_string(heads.kv);
    });

TEST(AttentionByHand, QueryHeadsGoToTheirKvHead) {
  Attention attention(1, {DType::f32, 2, 4, 2}, 1);
  Matrix query(1, 6 * 4);
  Matrix keys(1, 2 * 4);
  Matrix values(1, 2 * 4);
  for (std::int64_t i = 0; i < 4; ++i) {
    values.set(0, i, 1.0);
    values.set(0, 4 + i, 3.0);
  }
  Matrix out(1, 6 * 4);
  attention.step({{0, 1, 1, {0}}}, query, keys, values, out);
  for (std::int64_t head = 0; head < 6; ++head) {
    EXPECT_EQ(out.at(0, head * 4 + 2), head < 3 ? 1.0 : 3.0) << "head " << head;
  }
}

TEST(AttentionByHand, OneTokenIsItsOwnValueAndTwoEqualKeysShare) {
  Attention attention(1, {DType::f32, 1, 4, 2}, 2);
  Matrix query(2, 4);
  Matrix keys(2, 4);
  Matrix values(2, 4);
  for (std::int64_t i = 0; i < 4; ++i) {
    values.set(0, i, 1.0);
    values.set(1, i, 3.0);
  }
  Matrix out(2, 4);
  attention.step({{0, 2, 2, {1}}}, query, keys, values, out);
  EXPECT_EQ(out.at(0, 3), 1.0);
  EXPECT_EQ(out.at(1, 0), 2.0);
}

TEST(AttentionByHand, LargeScoresDoNotOverflow) {
  Attention attention(1, {DType::f32, 1, 16, 16}, 8);
  const std::int32_t tokens = 100;
  Matrix query(tokens, 16);
  Matrix keys(tokens, 16);
  Matrix values = Matrix::random(tokens, 16, DType::f32, 1);
  for (std::int32_t row = 0; row < tokens; ++row) {
    query.set(row, 0, 1e4);
    keys.set(row, 0, row == 70 ? 2e3 : -1e3);
  }
  Matrix out(tokens, 16);
  attention.step({{0, tokens, tokens, pages_from(0, 7)}}, query, keys, values, out);
  for (std::int64_t i = 0; i < 16; ++i) {
    EXPECT_FLOAT_EQ(static_cast<float>(out.at(99, i)), static_cast<float>(values.at(70, i)));
    EXPECT_TRUE(std::isfinite(out.at(69, i)));
  }
}

TEST(AttentionBatch, RaggedSequencesReadAndWriteTheirOwnRowsOnly) {
  const CacheShape shape = {DType::f16, 2, 16, 8};
  Attention attention(3, shape, 64);
  Matrix query = Matrix::random(40, 32, DType::f32, 1);
  Matrix keys = Matrix::random(40, 32, DType::f32, 2);
  Matrix values = Matrix::random(40, 32, DType::f32, 3);
  Matrix out(40, 32);
  for (std::int64_t row = 0; row < 40; ++row) out.set(row, 0, 77.0);
  attention.step({{1, 5, 5, {9}}, {6, 1, 1, {3}}, {8, 30, 30, pages_from(20, 4)}}, query, keys,
                 values, out);
  for (const std::int64_t row : {0, 7, 38, 39}) EXPECT_EQ(out.at(row, 0), 77.0) << row;
  for (const auto& [first, count] : {std::pair{1, 5}, std::pair{6, 1}, std::pair{8, 30}}) {
    expect_near(
        rows_of(out, first, count),
        reference::attention(rows_of(query, first, count),
                             rounded(rows_of(keys, first, count), DType::f16, 2),
                             rounded(rows_of(values, first, count), DType::f16, 2), 2, 0.25),
        DType::f16);
  }
}

// --- 16-bit activations ----------------------------------------------------------------------

// Widened on the way in and narrowed on the way out: between, they are floats.
TEST(AttentionActivations, SixteenBitRowsGiveWhatTheirValuesAsFloatsGiveRounded) {
  for (const DType activations : {DType::f16, DType::bf16}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
      for (const std::int32_t dim : {1, 12, 64, 80, 128}) {
        for (const std::int32_t tokens : {1, 30, 290}) {
          Matrix query = Matrix::random(tokens, 3 * dim, activations, 1);
          Matrix keys = Matrix::random(tokens, 3 * dim, activations, 2);
          Matrix values = Matrix::random(tokens, 3 * dim, activations, 3);
          Matrix out(tokens, 3 * dim, activations);
          Matrix wide_query = as(query, DType::f32);
          Matrix wide_keys = as(keys, DType::f32);
          Matrix wide_values = as(values, DType::f32);
          Matrix wide_out(tokens, 3 * dim);
          const std::vector<Attention::Sequence> sequence = {
              {0, tokens, tokens, pages_from(3, (tokens + 6) / 7)}};
          Attention attention(2, {dtype, 3, dim, 7}, 48);
          attention.step(sequence, query, keys, values, out);
          Attention wide(2, {dtype, 3, dim, 7}, 48);
          wide.step(sequence, wide_query, wide_keys, wide_values, wide_out);
          ASSERT_EQ(out.bytes(), as(wide_out, activations).bytes())
              << name_of(activations) << " in a cache of " << name_of(dtype) << ", dim " << dim
              << ", tokens " << tokens;
        }
      }
    }
  }
}

// --- bad input ------------------------------------------------------------------------------

TEST(AttentionErrors, RefusesWhatCannotBe) {
  Matrix rows(4, 32);
  const auto fails = [&](const Attention::Sequence& sequence) {
    Attention attention(1, {}, 4);
    EXPECT_THROW(attention.step({sequence}, rows, rows, rows, rows), DeviceError);
  };
  fails({0, 0, 4, {0}});       // no new token
  fails({0, 5, 5, {0}});       // more rows than there are
  fails({2, 3, 3, {0}});       // rows beyond the last
  fails({-1, 2, 2, {0}});      // rows before the first
  fails({0, 2, 1, {0}});       // a context that does not hold the new tokens
  fails({0, 2, 17, {0}});      // a context beyond its pages
  fails({0, 2, 17, {0, -1}});  // no page
  Attention attention(1, {DType::f32, 2, 600, 4}, 1);
  Matrix wide(1, 1200);
  EXPECT_THROW(attention.step({{0, 1, 1, {0}}}, wide, wide, wide, wide), DeviceError);
  Matrix half(4, 32, DType::f16);
  Attention mixed(1, {}, 4);
  EXPECT_THROW(mixed.step({{0, 1, 1, {0}}}, rows, half, rows, rows), DeviceError);
  const Engine engine = make_cpu_engine({.threads = 1});
  EXPECT_THROW(
      engine.device_ops->attention(rows.view(), half.view(), mixed.cache(), KvBatch{}, {1.0F}),
      DeviceError);
  Attention narrow(1, {}, 1);
  EXPECT_THROW(narrow.step({{0, 1, 1, {0}}}, wide, wide, wide, wide), DeviceError);
}

// Keys and values have the width of the cache's heads; queries and results a multiple of it.
TEST(AttentionErrors, RefusesWrongWidthsByName) {
  Attention attention(1, {DType::f32, 2, 16, 4}, 4);  // 2 KV heads of 16
  const auto refusal = [&](std::int64_t query_width, std::int64_t out_width, std::int64_t key_width,
                           std::int64_t value_width) -> std::string {
    Matrix query(1, query_width);
    Matrix out(1, out_width);
    Matrix keys(1, key_width);
    Matrix values(1, value_width);
    try {
      attention.step({{0, 1, 1, {0}}}, query, keys, values, out);
    } catch (const DeviceError& error) {
      return error.what();
    }
    return "nothing was refused";
  };
  EXPECT_EQ(refusal(96, 96, 32, 32), "nothing was refused");
  using testing::HasSubstr;
  EXPECT_THAT(
      refusal(96, 96, 96, 96),
      HasSubstr("append_kv: keys is f32 [1, 96], but must be kv_heads x head_dim = 2 x 16"));
  EXPECT_THAT(refusal(96, 96, 16, 16), HasSubstr("append_kv: keys is f32 [1, 16]"));
  EXPECT_THAT(refusal(96, 96, 32, 96), HasSubstr("append_kv: values is f32 [1, 96]"));
  EXPECT_THAT(refusal(48, 48, 32, 32),
              HasSubstr("attention: query is f32 [1, 48], but must be a multiple of kv_heads x "
                        "head_dim = 2 x 16 wide"));
  EXPECT_THAT(refusal(40, 40, 32, 32), HasSubstr("attention: query is f32 [1, 40]"));
  EXPECT_THAT(refusal(96, 64, 32, 32), HasSubstr("attention: out is f32 [1, 64]"));
}

}  // namespace
}  // namespace sluice::kernels
