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
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;

struct CacheShape {
  DType dtype = DType::f32;
  std::int32_t heads = 2;
  std::int32_t head_dim = 16;
  std::int32_t page_tokens = 16;
};

/// An engine with a cache of `page_count` pages; sequences are given pages by their tables.
class Attention {
 public:
  Attention(int threads, const CacheShape& shape, std::int32_t page_count) {
    EngineOptions options;
    options.device = "cpu";
    options.threads = threads;
    engine_ = make_engine(options);
    cache_.dtype = shape.dtype;
    cache_.heads = shape.heads;
    cache_.head_dim = shape.head_dim;
    cache_.page_tokens = shape.page_tokens;
    cache_.page_stride_bytes = static_cast<std::int64_t>(cache_.page_bytes()) + 64;
    memory_.assign(static_cast<std::size_t>(page_count * cache_.page_stride_bytes),
                   std::byte{0xFF});  // NaN in every type: what is not written must not be read
    cache_.base = memory_.data();
  }

  struct Sequence {
    std::int32_t first_row;
    std::int32_t new_tokens;
    std::int32_t context;
    std::vector<std::int32_t> pages;
  };

  /// Appends and attends; rows of `out` that no sequence names stay as they are.
  void step(const std::vector<Sequence>& sequences, Matrix& query, Matrix& keys, Matrix& values,
            Matrix& out, float scale = 0.25F) {
    std::vector<std::int32_t> first_row, new_tokens, context, pages;
    std::size_t max_pages = 0;
    for (const Sequence& s : sequences) max_pages = std::max(max_pages, s.pages.size());
    for (const Sequence& s : sequences) {
      first_row.push_back(s.first_row);
      new_tokens.push_back(s.new_tokens);
      context.push_back(s.context);
      pages.insert(pages.end(), s.pages.begin(), s.pages.end());
      pages.resize(pages.size() + max_pages - s.pages.size(), -1);
    }
    KvBatch batch;
    batch.sequences = static_cast<std::int32_t>(sequences.size());
    batch.max_pages = static_cast<std::int32_t>(max_pages);
    batch.first_row = first_row.data();
    batch.new_tokens = new_tokens.data();
    batch.context = context.data();
    batch.pages = pages.data();
    engine_.device_ops->append_kv(cache_, batch, keys.view(), values.view());
    engine_.device_ops->attention(out.view(), query.view(), cache_, batch, scale);
    engine_.backend->synchronize(engine_.backend->record(Lane::compute));
  }

  KvPages& cache() { return cache_; }

 private:
  Engine engine_;
  KvPages cache_;
  std::vector<std::byte> memory_;
};

std::vector<std::int32_t> pages_from(std::int32_t first, std::int32_t count) {
  std::vector<std::int32_t> pages(static_cast<std::size_t>(count));
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

Matrix rows_of(const Matrix& from, std::int64_t first, std::int64_t count) {
  Matrix rows(count, from.columns());
  for (std::int64_t row = 0; row < count; ++row) {
    for (std::int64_t i = 0; i < from.columns(); ++i) rows.set(row, i, from.at(first + row, i));
  }
  return rows;
}

/// As the cache keeps it.
Matrix rounded(const Matrix& from, DType dtype) {
  Matrix to(from.rows(), from.columns(), dtype);
  for (std::int64_t row = 0; row < from.rows(); ++row) {
    for (std::int64_t i = 0; i < from.columns(); ++i) to.set(row, i, from.at(row, i));
  }
  return to;
}

void expect_near(const Matrix& actual, const Matrix& expected) {
  for (std::int64_t row = 0; row < actual.rows(); ++row) {
    for (std::int64_t i = 0; i < actual.columns(); ++i) {
      ASSERT_NEAR(actual.at(row, i), expected.at(row, i), 2e-6) << "row " << row << ", " << i;
    }
  }
}

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
  expect_near(out,
              reference::attention(query, rounded(keys, dtype), rounded(values, dtype), 3, 0.25));
}

INSTANTIATE_TEST_SUITE_P(OddSizes, AttentionShapes,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16),
                                          testing::Values(1, 12, 16, 64, 80, 128, 200),
                                          testing::Values(1, 2, 25, 64, 65, 201)),
                         [](const auto& shape) {
                           return std::string(name_of(std::get<0>(shape.param))) + "_dim" +
                                  std::to_string(std::get<1>(shape.param)) + "_tokens" +
                                  std::to_string(std::get<2>(shape.param));
                         });

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

TEST(AttentionByHand, NotANumberIsNotHidden) {
  Attention attention(1, {DType::f16, 1, 16, 16}, 1);
  Matrix query(2, 16);
  Matrix keys = Matrix::random(2, 16, DType::f32, 1);
  Matrix values = Matrix::random(2, 16, DType::f32, 2);
  query.set(1, 3, NAN);
  Matrix out(2, 16);
  attention.step({{0, 2, 2, {0}}}, query, keys, values, out);
  EXPECT_TRUE(std::isfinite(out.at(0, 0)));
  EXPECT_TRUE(std::isnan(out.at(1, 0)));
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
    expect_near(rows_of(out, first, count),
                reference::attention(rows_of(query, first, count),
                                     rounded(rows_of(keys, first, count), DType::f16),
                                     rounded(rows_of(values, first, count), DType::f16), 2, 0.25));
  }
}

// --- the law: bit for bit -------------------------------------------------------------------

class AttentionLaw : public testing::TestWithParam<std::tuple<DType, std::int32_t>> {
 protected:
  static constexpr std::int32_t kTokens = 150;

  void SetUp() override {
    std::tie(shape_.dtype, shape_.head_dim) = GetParam();
    const std::int64_t width = std::int64_t{shape_.heads} * shape_.head_dim;
    query_ = Matrix::random(kTokens, width, DType::f32, 1);
    keys_ = Matrix::random(kTokens, width, DType::f32, 2);
    values_ = Matrix::random(kTokens, width, DType::f32, 3);
  }

  /// The sequence fed in pieces, in turn, the last one again and again.
  Matrix run(int threads, std::vector<std::int32_t> pieces, std::vector<std::int32_t> pages) {
    Attention attention(threads, shape_, 160);
    Matrix all(kTokens, query_.columns());
    std::int32_t done = 0;
    for (std::size_t i = 0; done < kTokens; ++i) {
      const std::int32_t count = std::min(pieces[std::min(i, pieces.size() - 1)], kTokens - done);
      Matrix query = rows_of(query_, done, count);
      Matrix keys = rows_of(keys_, done, count);
      Matrix values = rows_of(values_, done, count);
      Matrix out(count, query_.columns());
      attention.step({{0, count, done + count, pages}}, query, keys, values, out);
      for (std::int64_t row = 0; row < count; ++row) {
        for (std::int64_t c = 0; c < out.columns(); ++c) all.set(done + row, c, out.at(row, c));
      }
      done += count;
    }
    return all;
  }

  CacheShape shape_;
  Matrix query_, keys_, values_;
};

TEST_P(AttentionLaw, PrefillInOnePieceChunksOrTokenByTokenIsTheSame) {
  const auto pages = pages_from(0, 10);
  const Matrix whole = run(1, {kTokens}, pages);
  for (const auto& pieces : std::vector<std::vector<std::int32_t>>{
           {1}, {2}, {7}, {23}, {24}, {25}, {64}, {100, 1}, {149, 1}, {3, 60, 5, 1}}) {
    EXPECT_EQ(whole.bytes(), run(1, pieces, pages).bytes()) << "pieces of " << pieces[0];
  }
}

TEST_P(AttentionLaw, ThreadsDoNotMatter) {
  const auto pages = pages_from(0, 10);
  const Matrix one = run(1, {kTokens}, pages);
  for (const int threads : {2, 3, 4}) {
    EXPECT_EQ(one.bytes(), run(threads, {kTokens}, pages).bytes()) << threads << " threads";
  }
}

TEST_P(AttentionLaw, WherePagesLieAndHowLongTheyAreDoesNotMatter) {
  const Matrix one = run(2, {40}, pages_from(0, 10));
  std::vector<std::int32_t> backwards = pages_from(30, 10);
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(one.bytes(), run(2, {40}, backwards).bytes());
  for (const std::int32_t page_tokens : {1, 5, 32, 150}) {
    shape_.page_tokens = page_tokens;
    EXPECT_EQ(one.bytes(), run(2, {40}, pages_from(0, 150)).bytes()) << page_tokens;
  }
}

TEST_P(AttentionLaw, ASequenceAloneEqualsTheSequenceAmongOthers) {
  const Matrix alone = run(2, {kTokens}, pages_from(0, 10));
  Attention attention(2, shape_, 40);
  const auto twice = [](const Matrix& rows) {
    Matrix both(2 * rows.rows(), rows.columns());
    for (std::int64_t row = 0; row < rows.rows(); ++row) {
      for (std::int64_t i = 0; i < rows.columns(); ++i) {
        both.set(row, i, -rows.at(row, i));
        both.set(rows.rows() + row, i, rows.at(row, i));
      }
    }
    return both;
  };
  Matrix query = twice(query_);
  Matrix keys = twice(keys_);
  Matrix values = twice(values_);
  Matrix out(2 * kTokens, query.columns());
  attention.step(
      {{0, kTokens, kTokens, pages_from(0, 10)}, {kTokens, kTokens, kTokens, pages_from(20, 10)}},
      query, keys, values, out);
  EXPECT_EQ(alone.bytes(), rows_of(out, kTokens, kTokens).bytes());
}

INSTANTIATE_TEST_SUITE_P(DtypesAndHeads, AttentionLaw,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16),
                                          testing::Values(12, 64, 80)),
                         [](const auto& shape) {
                           return std::string(name_of(std::get<0>(shape.param))) + "_dim" +
                                  std::to_string(std::get<1>(shape.param));
                         });

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
  Attention narrow(1, {}, 1);
  EXPECT_THROW(narrow.step({{0, 1, 1, {0}}}, wide, wide, wide, wide), DeviceError);
}

}  // namespace
}  // namespace sluice::kernels
