// Attention of the CUDA engine with soft caps, ALiBi and windows, by each of its kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "tests/kernels/cuda/attention_case.h"
#include "tests/support/cuda_emulation/orders.h"

namespace sluice::cuda_test {
namespace {

using kernels::AttentionRule;

/// Of results about 1 large, with weights and results rounded to the activations' dtype.
double tolerance_of(DType activations) {
  return activations == DType::f32 ? 3e-5 : activations == DType::f16 ? 1e-3 : 8e-3;
}

/// One of each kind of kernel, with several heads, three of them and more than a power of two.
std::vector<AttentionShape> kinds() {
  std::vector<AttentionShape> shapes = {
      {DType::f16, DType::f16, 3, 64, 16},  {DType::bf16, DType::bf16, 1, 128, 16},
      {DType::q8, DType::f16, 2, 80, 16},   {DType::q4, DType::bf16, 1, 64, 16},
      {DType::f32, DType::f32, 2, 24, 16},  {DType::f16, DType::f32, 1, 20, 16},
      {DType::f32, DType::bf16, 1, 64, 16}, {DType::bf16, DType::f32, 1, 160, 16}};
  shapes[1].group = 3;
  shapes[4].group = 3;
  shapes[5].group = 2;
  return shapes;
}

struct Named {
  const char* name;
  AttentionRule rule;
};
constexpr AttentionRule kEverything = {
    .scale = 1.0F, .soft_cap = 2.0F, .alibi = 0.5F, .window = 45};
constexpr AttentionRule kSparseEverything = {
    .scale = 1.0F, .soft_cap = 2.0F, .alibi = 0.5F, .window = 45, .kept_millionths = 300'000};
const Named kRules[] = {{"soft_cap", {.scale = 2.0F, .soft_cap = 3.0F}},
                        {"alibi", {.scale = 0.2F, .alibi = 1.0F}},
                        {"window_1", {.scale = 0.2F, .window = 1}},
                        {"window_32", {.scale = 0.2F, .window = 32}},
                        {"window_100", {.scale = 0.2F, .window = 100}},
                        {"window_256", {.scale = 0.2F, .window = 256}},
                        {"window_1000", {.scale = 0.2F, .window = 1000}},
                        {"all", kEverything},
                        {"sparse", {.scale = 0.2F, .kept_millionths = 100'000}},
                        {"sparse_all", kSparseEverything}};

class CudaAttentionRule : public testing::TestWithParam<Named> {};

TEST_P(CudaAttentionRule, OfRaggedSequencesIsTheOracles) {
  for (AttentionShape shape : kinds()) {
    shape.rule = GetParam().rule;
    if (shape.rule.kept_millionths > 0 && is_quantized(shape.cache)) continue;
    SCOPED_TRACE(std::string(name_of(shape.cache)) + " " + std::to_string(shape.head_dim));
    AttentionCase made(
        shape,
        {{1, 1}, {15, 2}, {33, 1}, {257, 1}, {700, 1}, {513, 1}, {2, 2}, {290, 40}, {140, 131}});
    made.append();
    if (shape.rule.window > 0) made.lose_hidden_pages();
    made.attend();
    expect_oracle(made, tolerance_of(shape.activations));
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, CudaAttentionRule, testing::ValuesIn(kRules),
                         [](const auto& named) { return std::string(named.param.name); });

/// The edge of a window may lie anywhere in a page, in a block of keys and in a span.
TEST(CudaAttentionRules, TheEdgeOfTheWindowMayLieAnywhere) {
  for (const std::size_t kind : {0, 3, 4}) {
    AttentionShape shape = kinds()[kind];
    shape.rule.window = 33;
    for (const int page_tokens : {1, 7}) {
      shape.page_tokens = page_tokens;
      std::vector<Tokens> tokens;
      for (std::int32_t context = 30; context < 70; ++context) tokens.push_back({context, 3});
      for (const std::int32_t context : {256, 257, 288, 289, 290, 320}) {
        tokens.push_back({context, 1});
      }
      AttentionCase made(shape, tokens);
      made.append();
      made.lose_hidden_pages();
      made.attend();
      expect_oracle(made, tolerance_of(shape.activations));
    }
  }
}

TEST(CudaAttentionRules, GiveASequenceTheSameBitsInAnyCompany) {
  const std::vector<Tokens> tokens = {{700, 1}, {200, 130}, {17, 17}, {257, 1}, {90, 2}};
  for (const std::size_t kind : {0, 3, 4}) {
    AttentionShape shape = kinds()[kind];
    shape.rule = kEverything;
    AttentionCase all(shape, tokens);
    all.append();
    all.attend();
    for (std::size_t s = 0; s < tokens.size(); ++s) {
      AttentionCase alone(shape, {tokens[s]}, static_cast<std::int32_t>(s));
      alone.append();
      alone.lose_hidden_pages();
      alone.attend();
      EXPECT_EQ(alone.bytes_of(0), all.bytes_of(s)) << "sequence " << s;
    }
  }
}

TEST(CudaAttentionRules, SparseOnesGiveTheSameBitsInAnyCompanyAndScratch) {
  const std::vector<Tokens> tokens = {{700, 1}, {200, 13}, {257, 1}, {90, 2}};
  for (const std::size_t kind : {0, 1, 4}) {
    AttentionShape shape = kinds()[kind];
    shape.rule = {.scale = 0.2F, .kept_millionths = 150'000};
    AttentionCase all(shape, tokens);
    all.append();
    all.attend();
    const std::vector<std::byte> wanted = all.out().bytes();
    all.attend(std::size_t{5} * 704 * sizeof(float) + 64);  // for one item
    EXPECT_EQ(all.out().bytes(), wanted);
    for (std::size_t s = 0; s < tokens.size(); ++s) {
      AttentionCase alone(shape, {tokens[s]}, static_cast<std::int32_t>(s));
      alone.append();
      alone.attend();
      EXPECT_EQ(alone.bytes_of(0), all.bytes_of(s)) << "sequence " << s;
    }
  }
}

TEST(CudaAttentionRules, SparseOnesReadOldValuesWhereTheyLie) {
  for (const std::size_t kind : {0, 1, 5}) {
    AttentionShape shape = kinds()[kind];
    shape.rule = {.scale = 0.2F, .kept_millionths = 150'000};
    AttentionCase made(shape, {{300, 1}, {90, 5}, {17, 17}});
    made.append();
    made.attend();
    const std::vector<std::byte> wanted = made.out().bytes();
    made.part_values();
    made.attend();
    EXPECT_EQ(made.out().bytes(), wanted);
  }
}

/// Of equal weights the earlier ones are kept, across the shares of all threads.
TEST(CudaAttentionRules, SparseOnesKeepTheEarlierOfEqualKeys) {
  AttentionShape shape = kinds()[4];
  shape.rule = {.scale = 0.2F, .kept_millionths = 250'000};
  AttentionCase made(shape, {{601, 1}});
  for (std::int64_t key = 0; key < 601; ++key) {
    for (std::int64_t c = 0; c < made.keys(0).columns(); ++c) made.keys(0).set(key, c, 0.5);
  }
  made.append();
  made.attend();
  expect_oracle(made, 3e-5);
}

TEST(CudaAttentionRules, GoInPiecesWhereTheScratchIsSmall) {
  AttentionShape shape = {DType::f16, DType::f16, 2, 64, 16};
  shape.rule = kEverything;
  AttentionCase made(shape, {{700, 1}, {30, 4}, {300, 1}, {5, 1}});
  made.append();
  made.attend();
  const std::vector<std::byte> wanted = made.out().bytes();
  made.attend(cuda::decode_scratch_bytes(3, 64));
  EXPECT_EQ(made.out().bytes(), wanted);
}

TEST(CudaAttentionRules, GiveTheSameBytesInEveryOrderOfThreads) {
  for (const std::size_t kind : {0, 4, 5}) {
    AttentionShape shape = kinds()[kind];
    shape.rule = kind == 5 ? kSparseEverything : kEverything;
    EXPECT_TRUE(support::same_in_every_order([&] {
      AttentionCase made(shape, {{290, 1}, {130, 100}});
      made.append();
      made.lose_hidden_pages();
      made.attend();
      return made.out().bytes();
    }));
  }
}

/// A key or query that is NaN shows in what sees it; a key out of sight does not.
TEST(CudaAttentionRules, ShowNaN) {
  for (AttentionShape shape : kinds()) {
    shape.rule = kEverything;
    AttentionCase made(shape, {{300, 1}, {90, 9}, {300, 1}, {300, 1}});
    made.query(0).set(0, 3, NAN);
    made.keys(1).set(60, 3, NAN);
    made.keys(2).set(280, 3, NAN);
    made.keys(3).set(100, 3, NAN);
    made.append();
    made.attend();
    const auto is_nan = [&](std::size_t s, std::int64_t row) {
      return std::isnan(made.out().at(made.row_of(s) + row, 0));
    };
    EXPECT_TRUE(is_nan(0, 0));
    for (std::int64_t row = 0; row < 9; ++row) EXPECT_TRUE(is_nan(1, row));
    EXPECT_TRUE(is_nan(2, 0));
    EXPECT_FALSE(is_nan(3, 0));
  }
}

TEST(CudaAttentionRules, ScoresMayBeLarge) {
  for (AttentionShape shape : kinds()) {
    shape.rule = {.scale = 20.0F, .soft_cap = 4.0F};
    AttentionCase made(shape, {{90, 1}, {40, 20}});
    made.append();
    made.attend();
    expect_oracle(made, tolerance_of(shape.activations));
  }
}

}  // namespace
}  // namespace sluice::cuda_test
