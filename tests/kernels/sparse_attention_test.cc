// Attention that reads the values of few keys: what it gives, and that it reads no more.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/device/error.h"
#include "tests/support/attention_cache.h"
#include "tests/support/kept_keys.h"

namespace sluice::kernels {
namespace {

using namespace attention_test;

struct Heads {
  std::int32_t query;
  std::int32_t kv;
};

AttentionRule rule_of(std::int32_t kept_millionths) {
  AttentionRule rule;
  rule.scale = 0.25F;
  rule.kept_millionths = kept_millionths;
  return rule;
}

TEST(SparseAttentionTest, CountsKeptValues) {
  EXPECT_EQ(kept_values(0, 100'000), 0);
  EXPECT_EQ(kept_values(1, 1), 1);
  EXPECT_EQ(kept_values(10, 100'000), 1);
  EXPECT_EQ(kept_values(11, 100'000), 2);
  EXPECT_EQ(kept_values(30, 100'000), 3);
  EXPECT_EQ(kept_values(7, 1'000'000), 7);
  EXPECT_EQ(kept_values(7, 0), 7);
}

class SparseShapes : public testing::TestWithParam<std::tuple<DType, std::int32_t, Heads>> {};

TEST_P(SparseShapes, EqualTheReference) {
  const auto [dtype, dim, heads] = GetParam();
  for (const std::int32_t tokens : {1, 2, 63, 66, 201}) {
    const std::int32_t added = std::min(tokens, 2);
    const std::vector<std::int32_t> pages = pages_from(3, (tokens + 6) / 7);
    Matrix query = Matrix::random(added, std::int64_t{heads.query} * dim, DType::f32, 1);
    Matrix keys = Matrix::random(tokens, std::int64_t{heads.kv} * dim, DType::f32, 2);
    Matrix values = Matrix::random(tokens, std::int64_t{heads.kv} * dim, DType::f32, 3);
    Matrix new_keys = rows_of(keys, tokens - added, added);
    Matrix new_values = rows_of(values, tokens - added, added);
    for (const std::int32_t kept : {1, 100'000, 700'000, 1'000'000}) {
      Attention attention(2, {dtype, heads.kv, dim, 7}, 40);
      if (tokens > added)
        attention.append({0, tokens - added, tokens - added, pages}, keys, values);
      Matrix out(added, query.columns());
      attention.step({{0, added, tokens, pages}}, query, new_keys, new_values, out, rule_of(kept));
      expect_near(
          out,
          reference::attention(query, rounded(keys, dtype, heads.kv),
                               rounded(values, dtype, heads.kv), heads.query, rule_of(kept)),
          dtype);
      if (HasFatalFailure()) FAIL() << tokens << " tokens, " << kept << " millionths";
    }
  }
}

// Groups that fill a tile of queries in part, exactly, and more than once.
INSTANTIATE_TEST_SUITE_P(OddSizes, SparseShapes,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16),
                                          testing::Values(1, 12, 64, 80),
                                          testing::Values(Heads{2, 2}, Heads{6, 2}, Heads{24, 1},
                                                          Heads{50, 2})),
                         [](const auto& shape) {
                           const Heads& heads = std::get<2>(shape.param);
                           return std::string(name_of(std::get<0>(shape.param))) + "_dim" +
                                  std::to_string(std::get<1>(shape.param)) + "_heads" +
                                  std::to_string(heads.query) + "_of_" + std::to_string(heads.kv);
                         });

TEST(SparseAttentionTest, BendsScoresAndKeepsToTheWindow) {
  std::vector<AttentionRule> rules(5, rule_of(200'000));
  rules[0].soft_cap = 0.5F;
  rules[1].alibi = 1.0F;
  rules[2].window = 1;
  rules[3].window = 70;
  rules[4].soft_cap = 0.7F;
  rules[4].alibi = 0.5F;
  rules[4].window = 33;
  for (const AttentionRule& rule : rules) {
    Attention attention(2, {DType::f16, 2, 24, 5}, 60);
    Matrix query = Matrix::random(3, 6 * 24, DType::f32, 1);
    Matrix keys = Matrix::random(180, 2 * 24, DType::f32, 2);
    Matrix values = Matrix::random(180, 2 * 24, DType::f32, 3);
    Matrix new_keys = rows_of(keys, 177, 3);
    Matrix new_values = rows_of(values, 177, 3);
    Matrix out(3, query.columns());
    attention.append({0, 177, 177, pages_from(2, 36)}, keys, values);
    attention.step({{0, 3, 180, pages_from(2, 36)}}, query, new_keys, new_values, out, rule);
    expect_near(out,
                reference::attention(query, rounded(keys, DType::f16, 2),
                                     rounded(values, DType::f16, 2), 6, rule),
                DType::f16);
  }
}

/// Scores 0, ln 2, ln 4, 0 of the old keys, and 0 of the newest: weights 1, 2, 4, 1, 1 ninths.
TEST(SparseAttentionTest, ByHand) {
  Attention attention(1, {DType::f32, 1, 1, 2}, 3);
  Matrix keys(5, 1);
  Matrix values(5, 1);
  Matrix query(5, 1);
  const double scores[] = {0, std::log(2.0), std::log(4.0), 0, 0};
  for (std::int64_t i = 0; i < 5; ++i) {
    query.set(i, 0, 1.0);
    keys.set(i, 0, scores[i]);
    values.set(i, 0, std::pow(10.0, static_cast<double>(i)));
  }
  AttentionRule rule;  // the weights are not made to add up to one again
  for (const auto& [kept, wanted] : {std::pair{250'000, 400.0 + 10'000.0},
                                     {500'000, 20.0 + 400.0 + 10'000.0},
                                     {750'000, 1.0 + 20.0 + 400.0 + 10'000.0}}) {
    rule.kept_millionths = kept;
    Matrix out(5, 1);
    attention.step({{0, 5, 5, {0, 1, 2}}}, query, keys, values, out, rule);
    EXPECT_NEAR(out.at(4, 0), wanted / 9, 1e-2) << kept << ": of equal weights the earlier counts";
  }
}

TEST(SparseAttentionTest, ReadsNoOtherValues) {
  constexpr std::int32_t kTokens = 150;
  Attention attention(1, {DType::f32, 1, 8, 16}, 10);
  Matrix query = Matrix::random(kTokens, 8, DType::f32, 1);
  Matrix keys = Matrix::random(kTokens, 8, DType::f32, 2);
  Matrix values = Matrix::random(kTokens, 8, DType::f32, 3);
  const Matrix wanted = reference::attention(query, keys, values, 1, rule_of(100'000));
  // Of the last query: weights in double precision, as the reference has them.
  std::vector<double> weight;
  for (std::int64_t key = 0; key < kTokens; ++key) {
    double score = 0;
    for (std::int64_t i = 0; i < 8; ++i) {
      score += 0.25 * query.at(kTokens - 1, i) * keys.at(key, i);
    }
    weight.push_back(std::exp(score));
  }
  const std::vector<bool> kept = reference::kept_keys({weight}, 100'000);
  std::int64_t count = 0;
  for (std::int64_t key = 0; key < kTokens; ++key) {
    if (kept[static_cast<std::size_t>(key)]) {
      ++count;
    } else {
      values.set(key, 0, std::numeric_limits<double>::quiet_NaN());
    }
  }
  EXPECT_EQ(count, 15 + 1);
  Matrix out(kTokens, 8);
  attention.step({{0, kTokens, kTokens, pages_from(0, 10)}}, query, keys, values, out,
                 rule_of(100'000));
  for (std::int64_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(out.at(kTokens - 1, i), wanted.at(kTokens - 1, i), 2e-6);
  }
}

/// Threads, chunks, pages and neighbours do not matter, bit for bit.
TEST(SparseAttentionTest, DependsOnTheQueryAlone) {
  constexpr std::int32_t kTokens = 300;
  for (const DType activations : {DType::f32, DType::bf16}) {
    const CacheShape shape = {activations, 2, 40, 16};
    Matrix query = Matrix::random(kTokens, 6 * 40, activations, 1);
    Matrix keys = Matrix::random(kTokens, 2 * 40, activations, 2);
    Matrix values = Matrix::random(kTokens, 2 * 40, activations, 3);
    const auto run = [&](int threads, std::int32_t piece, const std::vector<std::int32_t>& pages) {
      Attention attention(threads, shape, 60);
      Matrix all(kTokens, query.columns(), activations);
      for (std::int32_t done = 0; done < kTokens; done += piece) {
        const std::int32_t count = std::min(piece, kTokens - done);
        Matrix of_query = rows_of(query, done, count);
        Matrix of_keys = rows_of(keys, done, count);
        Matrix of_values = rows_of(values, done, count);
        Matrix out(count, query.columns(), activations);
        attention.step({{0, count, done + count, pages}}, of_query, of_keys, of_values, out,
                       rule_of(50'000));
        for (std::int64_t row = 0; row < count; ++row) {
          for (std::int64_t c = 0; c < out.columns(); ++c) all.set(done + row, c, out.at(row, c));
        }
      }
      return all;
    };
    const Matrix whole = run(1, kTokens, pages_from(0, 19));
    EXPECT_EQ(whole.bytes(), run(3, kTokens, pages_from(0, 19)).bytes());
    EXPECT_EQ(whole.bytes(), run(2, 1, pages_from(5, 19)).bytes());
    EXPECT_EQ(whole.bytes(), run(2, 77, pages_from(33, 19)).bytes());
    Attention attention(2, shape, 60);
    attention.append({0, kTokens - 1, kTokens - 1, pages_from(0, 19)}, keys, values);
    attention.append({0, 40, 40, pages_from(30, 3)}, keys, values);
    Matrix both(2, query.columns(), activations);
    Matrix two_keys(2, keys.columns(), activations);
    Matrix two_values(2, keys.columns(), activations);
    Matrix two_queries(2, query.columns(), activations);
    for (std::int64_t c = 0; c < query.columns(); ++c) {
      two_queries.set(0, c, query.at(40, c));
      two_queries.set(1, c, query.at(kTokens - 1, c));
    }
    for (std::int64_t c = 0; c < keys.columns(); ++c) {
      two_keys.set(0, c, keys.at(40, c));
      two_keys.set(1, c, keys.at(kTokens - 1, c));
      two_values.set(0, c, values.at(40, c));
      two_values.set(1, c, values.at(kTokens - 1, c));
    }
    attention.step({{1, 1, kTokens, pages_from(0, 19)}, {0, 1, 41, pages_from(30, 3)}}, two_queries,
                   two_keys, two_values, both, rule_of(50'000));
    EXPECT_EQ(rows_of(both, 0, 1).bytes(), rows_of(whole, 40, 1).bytes());
    EXPECT_EQ(rows_of(both, 1, 1).bytes(), rows_of(whole, kTokens - 1, 1).bytes());
  }
}

/// Scores of a context that fill the scratch of a lane many times over go one after the other.
TEST(SparseAttentionTest, TakesAsManyKeysAsItHasRoomFor) {
  constexpr std::int32_t kTokens = 40'000;
  Attention attention(4, {DType::f32, 1, 1, 64}, kTokens / 64 + 1);
  Matrix query = Matrix::random(1, 47, DType::f32, 1);
  Matrix keys = Matrix::random(kTokens, 1, DType::f32, 2);
  Matrix values = Matrix::random(kTokens, 1, DType::f32, 3);
  attention.append({0, kTokens - 1, kTokens - 1, pages_from(0, kTokens / 64 + 1)}, keys, values);
  Matrix last_key = rows_of(keys, kTokens - 1, 1);
  Matrix last_value = rows_of(values, kTokens - 1, 1);
  Matrix out(1, 47);
  attention.step({{0, 1, kTokens, pages_from(0, kTokens / 64 + 1)}}, query, last_key, last_value,
                 out, rule_of(1'000));
  const Matrix wanted = reference::attention(query, keys, values, 47, rule_of(1'000));
  for (std::int64_t i = 0; i < 47; ++i) EXPECT_NEAR(out.at(0, i), wanted.at(0, i), 1e-6);
}

TEST(SparseAttentionTest, RefusesACompressedCache) {
  Attention attention(1, {DType::q8, 1, 8, 16}, 1);
  Matrix rows(1, 8);
  EXPECT_THROW(attention.step({{0, 1, 1, {0}}}, rows, rows, rows, rows, rule_of(100'000)),
               DeviceError);
}

}  // namespace
}  // namespace sluice::kernels
