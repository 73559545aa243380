// Attention by more than a scale: linear bias, soft cap and window, alone and together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/device/error.h"
#include "tests/support/attention_cache.h"

namespace sluice::kernels {
namespace {

using namespace attention_test;

constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4};

struct NamedRule {
  const char* name;
  AttentionRule rule;
};

constexpr NamedRule kRules[] = {
    {"alibi", {.scale = 0.25F, .alibi = 1.0F}},
    {"cap", {.scale = 0.5F, .soft_cap = 0.4F}},
    {"window1", {.scale = 0.25F, .window = 1}},
    {"window3", {.scale = 0.25F, .window = 3}},
    {"window64", {.scale = 0.25F, .window = 64}},
    {"window70", {.scale = 0.25F, .window = 70}},
    {"window1000", {.scale = 0.25F, .window = 1000}},
    {"all", {.scale = 0.5F, .soft_cap = 0.6F, .alibi = 0.5F, .window = 90}},
};

/// Of a sequence whose tokens from `first` on are new: pages that none of them sees have no number.
std::vector<std::int32_t> seen_pages(const std::vector<std::int32_t>& pages,
                                     const AttentionRule& rule, std::int32_t first,
                                     std::int32_t page_tokens) {
  std::vector<std::int32_t> seen = pages;
  if (rule.window == 0) return seen;
  const std::int32_t kept = std::max(0, first - rule.window + 1) / page_tokens;
  for (std::int32_t i = 0; i < kept; ++i) {
    seen[static_cast<std::size_t>(i)] = i % 2 == 0 ? -1 : std::numeric_limits<std::int32_t>::max();
  }
  return seen;
}

// --- against the oracle ---------------------------------------------------------------------

struct Heads {
  std::int32_t query;
  std::int32_t kv;
};

class AttentionRules : public testing::TestWithParam<std::tuple<DType, NamedRule, Heads>> {};

TEST_P(AttentionRules, EqualTheReference) {
  const auto& [dtype, named, heads] = GetParam();
  for (const std::int32_t dim : {12, 64}) {
    for (const std::int32_t tokens : {1, 25, 140}) {
      if (dim == 64 && (tokens != 140 || heads.query > 2)) continue;
      Matrix query = Matrix::random(tokens, std::int64_t{heads.query} * dim, DType::f32, 1);
      Matrix keys = Matrix::random(tokens, std::int64_t{heads.kv} * dim, DType::f32, 2);
      Matrix values = Matrix::random(tokens, std::int64_t{heads.kv} * dim, DType::f32, 3);
      Matrix out(tokens, query.columns());
      Attention attention(2, {dtype, heads.kv, dim, 7}, 24);
      attention.step({{0, tokens, tokens, pages_from(3, (tokens + 6) / 7)}}, query, keys, values,
                     out, named.rule);
      SCOPED_TRACE("dim " + std::to_string(dim) + ", tokens " + std::to_string(tokens));
      expect_near(out,
                  reference::attention(query, rounded(keys, dtype, heads.kv),
                                       rounded(values, dtype, heads.kv), heads.query, named.rule),
                  dtype);
    }
  }
}

// Heads that are no power of two have slopes of their own; 30 of one KV head fill a tile and more.
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionRules,
                         testing::Combine(testing::ValuesIn(kDTypes), testing::ValuesIn(kRules),
                                          testing::Values(Heads{2, 2}, Heads{12, 3}, Heads{30, 1})),
                         [](const auto& shape) {
                           const Heads& heads = std::get<2>(shape.param);
                           return std::string(name_of(std::get<0>(shape.param))) + "_" +
                                  std::get<1>(shape.param).name + "_" +
                                  std::to_string(heads.query) + "_of_" + std::to_string(heads.kv);
                         });

TEST(AlibiSlope, IsPublishedForPowersOfTwoAndOthers) {
  EXPECT_EQ(alibi_slope(0, 8), 0.5F);
  EXPECT_EQ(alibi_slope(7, 8), 1.0F / 256.0F);
  // Twelve heads: the eight of before, then every other one of sixteen.
  EXPECT_EQ(alibi_slope(7, 12), 1.0F / 256.0F);
  EXPECT_FLOAT_EQ(alibi_slope(8, 12), 0.70710678F);
  EXPECT_FLOAT_EQ(alibi_slope(11, 12), 0.70710678F / 8.0F);
  EXPECT_EQ(alibi_slope(0, 1), 1.0F / 256.0F);
}

TEST(AttentionRuleByHand, AWindowOfOneIsTheTokensOwnValue) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    Attention attention(2, {dtype, 1, 8, 4}, 40);
    Matrix query = Matrix::random(150, 8, DType::f32, 1);
    Matrix keys = Matrix::random(150, 8, DType::f32, 2);
    Matrix values = Matrix::random(150, 8, dtype, 3);
    Matrix as_floats = as(values, DType::f32);
    Matrix out(150, 8);
    attention.step({{0, 150, 150, pages_from(0, 38)}}, query, keys, as_floats, out, {.window = 1});
    EXPECT_EQ(out.bytes(), as_floats.bytes());
  }
}

// --- the law: bit for bit -------------------------------------------------------------------

class AttentionRuleLaw : public testing::TestWithParam<std::tuple<DType, NamedRule, std::int32_t>> {
 protected:
  static constexpr std::int32_t kTokens = 290;  // more than a span of keys
  static constexpr std::int32_t kDim = 20;
  static constexpr std::int32_t kPageTokens = 16;
  static constexpr std::int32_t kPages = 19;

  static std::int32_t group() { return std::get<2>(GetParam()); }
  static const AttentionRule& rule() { return std::get<1>(GetParam()).rule; }

  /// The sequence fed in pieces, in turn, the last one again and again. Pages are forgotten as the
  /// window leaves them.
  Matrix run(int threads, const std::vector<std::int32_t>& pieces) {
    Attention attention(threads, {std::get<0>(GetParam()), 2, kDim, kPageTokens}, kPages);
    Matrix all(kTokens, query_.columns());
    std::int32_t done = 0;
    for (std::size_t i = 0; done < kTokens; ++i) {
      const std::int32_t count = std::min(pieces[std::min(i, pieces.size() - 1)], kTokens - done);
      Matrix query = rows_of(query_, done, count);
      Matrix keys = rows_of(keys_, done, count);
      Matrix values = rows_of(values_, done, count);
      Matrix out(count, query_.columns());
      const auto pages = seen_pages(pages_from(0, kPages), rule(), done, kPageTokens);
      attention.step({{0, count, done + count, pages}}, query, keys, values, out, rule());
      for (std::int64_t row = 0; row < count; ++row) {
        for (std::int64_t c = 0; c < out.columns(); ++c) all.set(done + row, c, out.at(row, c));
      }
      done += count;
    }
    return all;
  }

  Matrix query_ = Matrix::random(kTokens, std::int64_t{2} * group() * kDim, DType::f32, 1);
  Matrix keys_ = Matrix::random(kTokens, 2 * kDim, DType::f32, 2);
  Matrix values_ = Matrix::random(kTokens, 2 * kDim, DType::f32, 3);
};

TEST_P(AttentionRuleLaw, PiecesAndThreadsDoNotMatter) {
  const Matrix whole = run(1, {kTokens});
  for (const auto& pieces :
       std::vector<std::vector<std::int32_t>>{{1}, {23}, {64}, {256, 1}, {250, 1}, {3, 60, 5, 1}}) {
    EXPECT_EQ(whole.bytes(), run(1, pieces).bytes()) << "pieces of " << pieces[0];
  }
  EXPECT_EQ(whole.bytes(), run(3, {kTokens}).bytes());
  EXPECT_EQ(whole.bytes(), run(3, {280, 1}).bytes());
}

INSTANTIATE_TEST_SUITE_P(Rules, AttentionRuleLaw,
                         testing::Combine(testing::ValuesIn(kDTypes), testing::ValuesIn(kRules),
                                          testing::Values(1, 5)),
                         [](const auto& shape) {
                           return std::string(name_of(std::get<0>(shape.param))) + "_" +
                                  std::get<1>(shape.param).name + "_group" +
                                  std::to_string(std::get<2>(shape.param));
                         });

// --- what lies out of sight -----------------------------------------------------------------

TEST(AttentionWindow, WhatIsOutOfSightMayBeAnything) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t group : {1, 4}) {
      const std::int32_t tokens = 200;
      Matrix query = Matrix::random(tokens, group * 16, DType::f32, 1);
      Matrix keys = Matrix::random(tokens, 16, DType::f32, 2);
      Matrix values = Matrix::random(tokens, 16, DType::f32, 3);
      const AttentionRule rule = {.scale = 0.25F, .soft_cap = 3.0F, .alibi = 1.0F, .window = 30};
      const auto run = [&](Matrix& k, Matrix& v) {
        Attention attention(2, {dtype, 1, 16, 8}, 25);
        Matrix out(tokens, query.columns());
        attention.step({{0, tokens, tokens, pages_from(0, 25)}}, query, k, v, out, rule);
        return out;
      };
      const Matrix sound = run(keys, values);
      Matrix bad_keys = keys;
      Matrix bad_values = values;
      for (std::int64_t i = 0; i < 16; ++i) {
        bad_keys.set(70, i, NAN);
        bad_values.set(70, i, INFINITY);
      }
      const Matrix out = run(bad_keys, bad_values);
      for (std::int64_t row = 0; row < tokens; ++row) {
        const bool sees_it = row >= 70 && row < 100;
        for (std::int64_t i = 0; i < out.columns(); ++i) {
          if (sees_it) {
            ASSERT_TRUE(std::isnan(out.at(row, i))) << name_of(dtype) << " row " << row;
          } else {
            ASSERT_EQ(out.at(row, i), sound.at(row, i)) << name_of(dtype) << " row " << row;
          }
        }
      }
    }
  }
}

// Decoding at a long context, which threads share, long after its first pages were given away.
TEST(AttentionWindow, LongContextsAreSharedWithoutThePagesOutOfSight) {
  const std::int32_t context = 5000;
  const auto pages = pages_from(0, (context + 15) / 16);
  for (const DType dtype : kDTypes) {
    for (const std::int32_t window : {1, 700, 1024, 4000}) {
      const AttentionRule rule = {.scale = 0.25F, .alibi = 0.1F, .window = window};
      Matrix keys = Matrix::random(context, 48, DType::f32, 2);
      Matrix values = Matrix::random(context, 48, DType::f32, 3);
      Matrix query = Matrix::random(1, 3 * 48, DType::f32, 1);
      Matrix key = rows_of(keys, context - 1, 1);
      Matrix value = rows_of(values, context - 1, 1);
      std::vector<Matrix> outs;
      for (const int threads : {1, 3}) {
        Attention attention(threads, {dtype, 1, 48, 16}, 313);
        attention.append({0, context, context, pages}, keys, values);
        Matrix out(1, 3 * 48);
        attention.step({{0, 1, context, seen_pages(pages, rule, context - 1, 16)}}, query, key,
                       value, out, rule);
        outs.push_back(out);
      }
      SCOPED_TRACE(std::string(name_of(dtype)) + ", window " + std::to_string(window));
      EXPECT_EQ(outs[0].bytes(), outs[1].bytes());
      expect_near(
          outs[0],
          reference::attention(query, rounded(keys, dtype, 1), rounded(values, dtype, 1), 3, rule),
          dtype);
    }
  }
}

TEST(AttentionWindow, APageInSightMustBeThere) {
  // Position 20 of a sequence in pages of eight tokens.
  const auto attend = [](const std::vector<std::int32_t>& pages, std::int32_t window) {
    Attention attention(1, {DType::f32, 1, 16, 8}, 4);
    Matrix rows = Matrix::random(20, 16, DType::f32, 1);
    Matrix out(20, 16);
    attention.step({{0, 20, 20, {0, 1, 2}}}, rows, rows, rows, out);
    Matrix row = rows_of(rows, 0, 1);
    Matrix result(1, 16);
    attention.step({{0, 1, 21, pages}}, row, row, row, result, {.window = window});
    return result.bytes();
  };
  EXPECT_EQ(attend({-1, 1, 2}, 8), attend({0, 1, 2}, 8));
  EXPECT_EQ(attend({-1, 1, 2}, 13), attend({0, 1, 2}, 13));
  EXPECT_THROW(attend({-1, 1, 2}, 14), DeviceError);
  EXPECT_THROW(attend({-1, -1, 2}, 8), DeviceError);
  EXPECT_THROW(attend({-1, 1, 2}, 0), DeviceError);
}

}  // namespace
}  // namespace sluice::kernels
