// The law of kernels/ops.h: what attention() makes of a row depends on that row and what it sees,
// bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/attention_cache.h"

namespace sluice::kernels {
namespace {

using namespace attention_test;

/// The dtype of the cache, the head's width, the dtype of the activations, and how many query heads
/// each of two KV heads has.
class AttentionLaw
    : public testing::TestWithParam<std::tuple<DType, std::int32_t, DType, std::int32_t>> {
 protected:
  static constexpr std::int32_t kTokens = 290;  // more than a span of keys
  static constexpr std::int32_t kPages = 19;

  void SetUp() override {
    DType activations = DType::f32;
    std::int32_t group = 0;
    std::tie(shape_.dtype, shape_.head_dim, activations, group) = GetParam();
    const std::int64_t width = std::int64_t{shape_.kv_heads} * shape_.head_dim;
    query_ = Matrix::random(kTokens, group * width, activations, 1);
    keys_ = Matrix::random(kTokens, width, activations, 2);
    values_ = Matrix::random(kTokens, width, activations, 3);
  }

  /// The sequence fed in pieces, in turn, the last one again and again.
  Matrix run(int threads, std::vector<std::int32_t> pieces, std::vector<std::int32_t> pages) {
    Attention attention(threads, shape_, kTokens);
    Matrix all(kTokens, query_.columns(), query_.dtype());
    std::int32_t done = 0;
    for (std::size_t i = 0; done < kTokens; ++i) {
      const std::int32_t count = std::min(pieces[std::min(i, pieces.size() - 1)], kTokens - done);
      Matrix query = rows_of(query_, done, count);
      Matrix keys = rows_of(keys_, done, count);
      Matrix values = rows_of(values_, done, count);
      Matrix out(count, query_.columns(), query_.dtype());
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
  const auto pages = pages_from(0, kPages);
  const Matrix whole = run(1, {kTokens}, pages);
  for (const auto& pieces : std::vector<std::vector<std::int32_t>>{
           {1}, {2}, {7}, {23}, {24}, {25}, {64}, {256, 1}, {250, 1}, {289, 1}, {3, 60, 5, 1}}) {
    EXPECT_EQ(whole.bytes(), run(1, pieces, pages).bytes()) << "pieces of " << pieces[0];
  }
}

TEST_P(AttentionLaw, ThreadsDoNotMatter) {
  const auto pages = pages_from(0, kPages);
  const Matrix one = run(1, {kTokens}, pages);
  for (const int threads : {2, 3, 4}) {
    EXPECT_EQ(one.bytes(), run(threads, {kTokens}, pages).bytes()) << threads << " threads";
  }
}

TEST_P(AttentionLaw, WherePagesLieAndHowLongTheyAreDoesNotMatter) {
  const Matrix one = run(2, {40}, pages_from(0, kPages));
  std::vector<std::int32_t> backwards = pages_from(30, kPages);
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(one.bytes(), run(2, {40}, backwards).bytes());
  for (const std::int32_t page_tokens : {1, 5, 32, 64, 290}) {
    shape_.page_tokens = page_tokens;
    EXPECT_EQ(one.bytes(), run(2, {40}, pages_from(0, kTokens)).bytes()) << page_tokens;
  }
}

TEST_P(AttentionLaw, ASequenceAloneEqualsTheSequenceAmongOthers) {
  const Matrix alone = run(2, {kTokens}, pages_from(0, kPages));
  Attention attention(2, shape_, 40);
  const auto twice = [](const Matrix& rows) {
    Matrix both(2 * rows.rows(), rows.columns(), rows.dtype());
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
  Matrix out(2 * kTokens, query.columns(), query.dtype());
  attention.step({{0, kTokens, kTokens, pages_from(0, kPages)},
                  {kTokens, kTokens, kTokens, pages_from(20, kPages)}},
                 query, keys, values, out);
  EXPECT_EQ(alone.bytes(), rows_of(out, kTokens, kTokens).bytes());
}

std::string law_name(const testing::TestParamInfo<AttentionLaw::ParamType>& shape) {
  return std::string(name_of(std::get<0>(shape.param))) + "_dim" +
         std::to_string(std::get<1>(shape.param)) + "_of_" +
         std::string(name_of(std::get<2>(shape.param))) + "_group" +
         std::to_string(std::get<3>(shape.param));
}

INSTANTIATE_TEST_SUITE_P(
    DtypesAndHeads, AttentionLaw,
    testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                     testing::Values(12, 64, 80), testing::Values(DType::f32), testing::Values(1)),
    law_name);
INSTANTIATE_TEST_SUITE_P(
    Activations, AttentionLaw,
    testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16, DType::q4),
                     testing::Values(12, 80), testing::Values(DType::f16, DType::bf16),
                     testing::Values(1)),
    law_name);
INSTANTIATE_TEST_SUITE_P(
    Groups, AttentionLaw,
    testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                     testing::Values(12), testing::Values(DType::f32), testing::Values(3, 8)),
    law_name);
INSTANTIATE_TEST_SUITE_P(LargeGroupsAndActivations, AttentionLaw,
                         testing::Combine(testing::Values(DType::f16, DType::q4),
                                          testing::Values(8), testing::Values(DType::bf16),
                                          testing::Values(5, 30)),
                         law_name);

// --- long contexts, which threads share ------------------------------------------------------

/// Sequences that decode one token each, at contexts of their own; their caches were filled before.
class Decoding {
 public:
  static constexpr std::int32_t kKvHeads = 2;

  Decoding(int threads, const std::tuple<DType, std::int32_t>& kind,
           const std::vector<std::int32_t>& contexts)
      : attention_(threads, {std::get<0>(kind), kKvHeads, 48, 16}, 900),
        width_(std::get<1>(kind) * 96),
        contexts_(contexts) {}

  /// Sequence s holds tokens of the seed seeds[s]; out: one row each.
  Matrix run(const std::vector<std::uint64_t>& seeds) {
    const auto count = static_cast<std::int64_t>(contexts_.size());
    std::vector<Attention::Sequence> sequences;
    Matrix query(count, width_), keys(count, 96), values(count, 96), out(count, width_);
    std::int32_t page = 0;
    for (std::int32_t s = 0; s < count; ++s) {
      const std::int32_t context = contexts_[static_cast<std::size_t>(s)];
      const std::uint64_t seed = seeds[static_cast<std::size_t>(s)];
      const auto pages = pages_from(page, (context + 15) / 16);
      page += static_cast<std::int32_t>(pages.size());
      Matrix all_keys = Matrix::random(context, 96, DType::f32, 3 * seed);
      Matrix all_values = Matrix::random(context, 96, DType::f32, 3 * seed + 1);
      attention_.append({0, context, context, pages}, all_keys, all_values);
      sequences.push_back({s, 1, context, pages});
      const Matrix asked = Matrix::random(1, width_, DType::f32, 3 * seed + 2);
      for (std::int64_t i = 0; i < width_; ++i) query.set(s, i, asked.at(0, i));
      for (std::int64_t i = 0; i < 96; ++i) {
        keys.set(s, i, all_keys.at(context - 1, i));
        values.set(s, i, all_values.at(context - 1, i));
      }
    }
    attention_.step(sequences, query, keys, values, out);
    return out;
  }

 private:
  Attention attention_;
  std::int64_t width_;
  std::vector<std::int32_t> contexts_;
};

/// The dtype of the cache, and how many query heads each of two KV heads has.
class LongContext : public testing::TestWithParam<std::tuple<DType, std::int32_t>> {
 protected:
  static DType dtype() { return std::get<0>(GetParam()); }
  static std::int32_t group() { return std::get<1>(GetParam()); }
};

TEST_P(LongContext, EqualsTheReference) {
  const std::int32_t context = 5000;
  const Matrix out = Decoding(3, GetParam(), {context}).run({1});
  const auto kept = [&](std::uint64_t seed) {
    return rounded(Matrix::random(context, 96, DType::f32, seed), dtype(), Decoding::kKvHeads);
  };
  expect_near(out,
              reference::attention(Matrix::random(1, group() * 96, DType::f32, 5), kept(3), kept(4),
                                   group() * Decoding::kKvHeads, 0.25),
              dtype());
}

TEST_P(LongContext, SharedByThreadsOrNotItIsTheSame) {
  const Matrix one = Decoding(1, GetParam(), {5000}).run({1});
  for (const int threads : {2, 5, 16}) {
    EXPECT_EQ(one.bytes(), Decoding(threads, GetParam(), {5000}).run({1}).bytes()) << threads;
  }
}

TEST_P(LongContext, SequencesOfAllLengthsInOneBatchEqualThemselvesAlone) {
  const std::vector<std::int32_t> contexts = {3, 5000, 1, 256, 257, 2048, 512, 64, 700, 1};
  std::vector<std::uint64_t> seeds;
  for (std::uint64_t s = 0; s < contexts.size(); ++s) seeds.push_back(10 + s);
  const Matrix together = Decoding(4, GetParam(), contexts).run(seeds);
  for (std::size_t s = 0; s < contexts.size(); ++s) {
    const Matrix alone = Decoding(2, GetParam(), {contexts[s]}).run({seeds[s]});
    EXPECT_EQ(alone.bytes(), rows_of(together, static_cast<std::int64_t>(s), 1).bytes())
        << "context " << contexts[s];
  }
}

// --- what is not a number stays where it is ----------------------------------------------------

TEST_P(LongContext, ANumberThatIsNoneReachesOnlyRowsThatSeeIt) {
  const std::int32_t tokens = 30;
  const std::int64_t half = group() * 16;
  const Matrix query = Matrix::random(tokens, 2 * half, DType::f32, 1);
  const Matrix keys = Matrix::random(tokens, 32, DType::f32, 2);
  const Matrix values = Matrix::random(tokens, 32, DType::f32, 3);
  const auto run = [&](Matrix q, Matrix k, Matrix v) {
    Attention attention(2, {dtype(), 2, 16, 7}, 10);
    Matrix out(tokens, q.columns());
    attention.step({{0, 20, 20, pages_from(0, 3)}, {20, 10, 10, pages_from(5, 2)}}, q, k, v, out);
    return out;
  };
  const Matrix sound = run(query, keys, values);
  const auto expect_broken = [&](const Matrix& out, std::int64_t first, std::int64_t end) {
    for (std::int64_t row = 0; row < tokens; ++row) {
      for (std::int64_t i = 0; i < out.columns(); ++i) {
        // Only the heads of the second KV head saw it.
        if (i >= half && row >= first && row < end) {
          EXPECT_FALSE(std::isfinite(out.at(row, i))) << row << ", " << i;
        } else {
          EXPECT_EQ(out.at(row, i), sound.at(row, i)) << row << ", " << i;
        }
      }
    }
  };
  const auto broken = [](Matrix rows, double value) {
    for (std::int64_t i = rows.columns() / 2; i < rows.columns(); ++i) rows.set(11, i, value);
    return rows;
  };
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    expect_broken(run(broken(query, value), keys, values), 11, 12);
    expect_broken(run(query, keys, broken(values, value)), 11, 20);
  }
  expect_broken(run(query, broken(keys, std::nan("")), values), 11, 20);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LongContext,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16,
                                                          DType::q8, DType::q4),
                                          testing::Values(1, 6)),
                         [](const auto& kind) {
                           return std::string(name_of(std::get<0>(kind.param))) + "_group" +
                                  std::to_string(std::get<1>(kind.param));
                         });

}  // namespace
}  // namespace sluice::kernels
