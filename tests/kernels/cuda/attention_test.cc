// Attention and append_kv of the CUDA engine on the host, by the kernels that the launches choose.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "kernels/device/error.h"
#include "tests/kernels/cuda/attention_case.h"
#include "tests/support/cuda_emulation/orders.h"

namespace sluice::cuda_test {
namespace {

/// Of results about 1 large, with weights and results rounded to the activations' dtype.
double tolerance_of(DType activations) {
  return activations == DType::f32 ? 2e-5 : activations == DType::f16 ? 1e-3 : 8e-3;
}

const std::vector<Tokens> kRagged = {{1, 1},   {15, 2},  {16, 1},    {17, 17},  {255, 1}, {256, 64},
                                     {257, 1}, {700, 1}, {200, 130}, {300, 65}, {65, 63}};

AttentionShape grouped(AttentionShape shape, std::int32_t group) {
  shape.group = group;
  return shape;
}

using Types = std::tuple<DType, DType, int>;  // cache, activations, head_dim
class CudaAttention : public testing::TestWithParam<Types> {
 protected:
  static AttentionShape shape() {
    const auto [cache, activations, head_dim] = GetParam();
    return {cache, activations, 1, head_dim, 16};
  }
};

TEST_P(CudaAttention, OfRaggedSequencesIsTheOracles) {
  AttentionCase made(shape(), kRagged);
  made.append();
  made.attend();
  expect_oracle(made, tolerance_of(shape().activations));
}

TEST_P(CudaAttention, OfSeveralQueryHeadsForEachKvHeadIsTheOracles) {
  AttentionShape some = grouped(shape(), 3);
  some.kv_heads = 2;
  AttentionCase made(some, {{290, 1}, {20, 20}});
  made.append();
  made.attend();
  expect_oracle(made, tolerance_of(some.activations));
}

INSTANTIATE_TEST_SUITE_P(Types, CudaAttention,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16,
                                                          DType::q8, DType::q4),
                                          testing::Values(DType::f32, DType::f16, DType::bf16),
                                          testing::Values(12, 64, 80, 128)),
                         [](const auto& types) {
                           return std::string(name_of(std::get<0>(types.param))) + "_cache_" +
                                  std::string(name_of(std::get<1>(types.param))) + "_" +
                                  std::to_string(std::get<2>(types.param));
                         });

/// One of each kind of kernel: tensor cores with the cache as it is, and expanded; the general one.
const std::vector<AttentionShape> kKinds = {{DType::f16, DType::f16, 2, 64, 16},
                                            {DType::bf16, DType::bf16, 1, 128, 16},
                                            {DType::q8, DType::f16, 1, 80, 16},
                                            {DType::q4, DType::bf16, 2, 64, 16},
                                            {DType::f32, DType::f32, 1, 24, 16},
                                            {DType::f16, DType::f32, 1, 20, 16},
                                            grouped({DType::f16, DType::f16, 2, 64, 16}, 3)};

TEST(CudaAttentionShapes, AnyPageSizeWill) {
  for (AttentionShape shape : kKinds) {
    for (const int page_tokens : {1, 7, 16, 64}) {
      shape.page_tokens = page_tokens;
      AttentionCase made(shape, {{300, 1}, {70, 33}, {2, 2}, {165, 5}});
      made.append();
      made.attend();
      expect_oracle(made, tolerance_of(shape.activations));
    }
  }
}

TEST(CudaAttentionShapes, AnyNumberOfQueryHeadsForEachKvHeadWill) {
  for (const auto& [query, kv] :
       {std::pair{4, 4}, std::pair{8, 2}, std::pair{6, 1}, std::pair{32, 4}, std::pair{71, 1}}) {
    for (const DType activations : {DType::f32, DType::bf16}) {
      const AttentionShape shape = {DType::q8, activations, kv, 24, 16};
      AttentionCase made(grouped(shape, query / kv), {{40, 1}, {300, 1}, {35, 9}});
      made.append();
      made.attend();
      expect_oracle(made, tolerance_of(activations));
    }
  }
}

TEST(CudaAttentionShapes, AnyHeadDimWill) {
  for (const DType cache : {DType::f32, DType::f16, DType::q8, DType::q4}) {
    for (const int head_dim : {8, 20, 72, 96, 160, 256}) {
      AttentionCase made({cache, DType::f16, 2, head_dim, 16}, {{40, 1}, {300, 1}, {35, 9}});
      made.append();
      made.attend();
      expect_oracle(made, tolerance_of(DType::f16));
    }
  }
}

TEST(CudaAttentionShapes, OneTokenEachAndDevicesWithoutTensorCoresOfThatKind) {
  for (const AttentionShape& shape : kKinds) {
    AttentionCase decode(shape, {{1, 1}, {256, 1}, {513, 1}});
    decode.append();
    decode.attend();
    expect_oracle(decode, tolerance_of(shape.activations));
    AttentionCase old(shape, {{80, 20}, {30, 1}});
    old.append();
    old.attend(cuda::kAttentionScratchBytes, 75);
    expect_oracle(old, tolerance_of(shape.activations));
  }
}

TEST(CudaAttentionShapes, TheDiagonalMayLieAnywhereInABlockOfKeys) {
  for (const AttentionShape& shape : kKinds) {
    std::vector<Tokens> tokens = {{41, 40}};  // only the last row of 32 sees key 32
    for (std::int32_t before = 0; before < 66; ++before) tokens.push_back({before + 2, 2});
    AttentionCase made(shape, tokens);
    made.append();
    made.attend();
    expect_oracle(made, tolerance_of(shape.activations));
  }
}

TEST(CudaAttentionShapes, TheLargestScoreMayRiseInOneRowAlone) {
  for (const AttentionShape& shape : {AttentionShape{DType::f16, DType::f16, 1, 64, 16},
                                      AttentionShape{DType::bf16, DType::bf16, 1, 128, 16},
                                      AttentionShape{DType::q8, DType::f16, 1, 80, 16}}) {
    // A row likes a key of the first 32, and in sequence s row s one of the next 32 better.
    AttentionCase made(shape, std::vector<Tokens>(32, {96, 32}));
    for (int s = 0; s < 32; ++s) {
      const auto of = static_cast<std::size_t>(s);
      for (int d = 0; d < shape.head_dim; ++d) {
        for (int row = 0; row < 32; ++row) made.query(of).set(row, d, row == d ? 10 : 0);
        for (int key = 0; key < 96; ++key) made.keys(of).set(key, d, key == d ? 1 : 0);
      }
      made.keys(of).set(32 + s * 5 % 32, s, 4);
    }
    made.append();
    made.attend();
    expect_oracle(made, tolerance_of(shape.activations));
  }
}

TEST(CudaAttention, GivesASequenceTheSameBitsInAnyCompany) {
  const std::vector<Tokens> tokens = {{700, 1}, {200, 130}, {17, 17}, {257, 1}, {90, 2}, {256, 1}};
  for (const AttentionShape& shape : kKinds) {
    AttentionCase all(shape, tokens);
    all.append();
    all.attend();
    for (std::size_t s = 0; s < tokens.size(); ++s) {
      AttentionCase alone(shape, {tokens[s]}, static_cast<std::int32_t>(s));
      alone.append();
      alone.attend();
      EXPECT_EQ(alone.bytes_of(0), all.bytes_of(s)) << "sequence " << s;
      alone.allow_pages(40);
      alone.attend();
      EXPECT_EQ(alone.bytes_of(0), all.bytes_of(s)) << "sequence " << s << ", more pages";
    }
  }
}

TEST(CudaAttention, GoesInPiecesWhereTheScratchIsSmall) {
  const std::vector<Tokens> tokens = {{700, 1}, {30, 4}, {300, 1}, {5, 1}};
  AttentionCase made(grouped({DType::f16, DType::f16, 1, 64, 16}, 3), tokens);
  made.append();
  made.attend();
  const std::vector<std::byte> wanted = made.out().bytes();
  const std::size_t one_head = cuda::decode_scratch_bytes(3, 64);
  for (const std::size_t scratch : {one_head, 5 * one_head + 12}) {
    made.attend(scratch);
    EXPECT_EQ(made.out().bytes(), wanted) << scratch;
  }
  EXPECT_THROW(made.attend(one_head - 4), DeviceError);
}

TEST(CudaAttention, GivesTheSameBytesInEveryOrderOfThreads) {
  for (const AttentionShape& shape : kKinds) {
    EXPECT_TRUE(support::same_in_every_order([&] {
      AttentionCase made(shape, {{290, 1}, {70, 40}, {130, 130}});
      made.append();
      made.attend();
      return made.out().bytes();
    }));
  }
}

bool is_nan_row(AttentionCase& made, std::size_t s, std::int32_t row, std::int64_t from = 0,
                std::int64_t to = -1) {
  for (std::int64_t c = from; c < (to < 0 ? made.width() : to); ++c) {
    if (!std::isnan(made.out().at(made.row_of(s) + row, c))) return false;
  }
  return true;
}
bool has_nan(AttentionCase& made, std::size_t s) {
  for (std::int64_t r = 0; r < made.wanted(s).rows(); ++r) {
    for (std::int64_t c = 0; c < made.width(); ++c) {
      if (std::isnan(made.out().at(made.row_of(s) + r, c))) return true;
    }
  }
  return false;
}

TEST(CudaAttention, ShowsNaN) {
  for (const AttentionShape& shape : kKinds) {
    // The query of a one-token sequence; one row of a chunk; a key of the context; a value; a key
    // that a chunk sees.
    AttentionCase made(shape, {{300, 1}, {60, 20}, {300, 1}, {60, 20}, {60, 20}, {40, 1}, {90, 9}});
    made.query(0).set(0, 3, NAN);
    made.query(1).set(7, 3, NAN);
    made.keys(2).set(259, 3, NAN);
    made.values(3).set(0, 3, NAN);
    made.keys(6).set(40, 3, NAN);
    made.append();
    made.attend();
    const std::int64_t head = shape.head_dim;
    EXPECT_TRUE(is_nan_row(made, 0, 0, 0, head));
    EXPECT_TRUE(is_nan_row(made, 1, 7, 0, head));
    EXPECT_FALSE(is_nan_row(made, 1, 6, 0, head));
    EXPECT_TRUE(is_nan_row(made, 2, 0, 0, head));
    for (std::int32_t row = 0; row < 20; ++row) EXPECT_TRUE(is_nan_row(made, 3, row, 3, 4));
    EXPECT_FALSE(has_nan(made, 4));
    EXPECT_FALSE(has_nan(made, 5));
    for (std::int32_t row = 0; row < 9; ++row) EXPECT_TRUE(is_nan_row(made, 6, row, 0, head));
  }
}

TEST(CudaAttention, IsNaNWhereAQuantisedValueIsBeyondItsType) {
  for (const DType dtype : {DType::q8, DType::q4}) {
    AttentionCase made({dtype, DType::f32, 1, 64, 16}, {{20, 1}, {20, 1}});
    made.values(0).set(4, 9, 1e30);
    made.append();
    made.attend();
    EXPECT_TRUE(is_nan_row(made, 0, 0));
    EXPECT_FALSE(has_nan(made, 1));
  }
}

cuda::AttentionPlan plan_of(DType cache, DType activations, int head_dim, std::int64_t rows,
                            int compute_capability = 80, float scale = 1, std::uintptr_t at = 0,
                            std::int64_t group = 1) {
  kernels::KvPages pages;
  pages.base = reinterpret_cast<void*>(std::uintptr_t{4096} + at);
  pages.dtype = cache;
  pages.kv_heads = 2;
  pages.head_dim = head_dim;
  pages.page_tokens = 16;
  pages.page_stride_bytes = 65536;
  kernels::KvBatch batch;
  batch.sequences = 4;
  batch.max_pages = 33;
  const TensorView view{reinterpret_cast<void*>(std::uintptr_t{8192}), activations, rows,
                        2 * group * head_dim};
  return cuda::plan_attention(view, view, pages, batch, scale, {nullptr, 8000, compute_capability});
}

TEST(AttentionPlan, ChoosesByWhatTheHostKnows) {
  EXPECT_TRUE(plan_of(DType::f16, DType::f16, 64, 4).decode);
  EXPECT_FALSE(plan_of(DType::f16, DType::f16, 64, 4).others);
  EXPECT_TRUE(plan_of(DType::f16, DType::f16, 64, 5).others);
  for (const DType cache : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    EXPECT_TRUE(plan_of(cache, DType::bf16, 80, 5).tensor_cores);
    EXPECT_TRUE(plan_of(cache, DType::f16, 128, 5).tensor_cores);
    EXPECT_FALSE(plan_of(cache, DType::f32, 128, 5).tensor_cores);
    EXPECT_FALSE(plan_of(cache, DType::f16, 96, 5).tensor_cores);
    EXPECT_FALSE(plan_of(cache, DType::f16, 64, 5, 75).tensor_cores);
    EXPECT_FALSE(plan_of(cache, DType::f16, 64, 5, 80, -1).tensor_cores);
    EXPECT_TRUE(plan_of(cache, DType::f16, 96, 5).decode);
    EXPECT_FALSE(plan_of(cache, DType::f16, 136, 4).decode);
    EXPECT_TRUE(plan_of(cache, DType::f16, 136, 4).others);
    // Pages that no lane can load eights from.
    EXPECT_EQ(plan_of(cache, DType::f16, 64, 5, 80, 1, 4).tensor_cores, is_quantized(cache));
    EXPECT_EQ(plan_of(cache, DType::f16, 64, 5, 80, 1, 4).decode, is_quantized(cache));
  }
  EXPECT_FALSE(plan_of(DType::f16, DType::f16, 12, 4).decode);
  EXPECT_TRUE(plan_of(DType::q8, DType::f16, 12, 4).decode);
}

TEST(AttentionPlan, CountsSpansAndPieces) {
  const cuda::AttentionPlan plan = plan_of(DType::f16, DType::f16, 64, 4);
  EXPECT_EQ(plan.spans, 3);  // of 33 x 16 tokens
  EXPECT_EQ(cuda::decode_scratch_bytes(3, 64), 3U * 66 * 4);
  EXPECT_EQ(plan.piece, 8);                                                  // all: ten would fit
  EXPECT_EQ(plan_of(DType::f16, DType::f16, 64, 4, 80, 1, 0, 3).piece, 10);  // of 24 query heads
  EXPECT_EQ(cuda::decode_scratch_bytes(1, 64), 0U);
}

TEST(AttentionWork, IsTheCacheOnceAndFourFlopAnElementThatIsSeen) {
  kernels::KvPages cache;
  cache.dtype = DType::f16;
  cache.kv_heads = 2;
  cache.head_dim = 64;
  const std::vector<std::int32_t> added = {1, 3};
  const std::vector<std::int32_t> context = {10, 3};
  const cuda::KernelWork work = cuda::attention_work(cache, 6, DType::bf16, added, context);
  EXPECT_EQ(work.bytes, 2 * 128 * (2 * (10 + 3) + 6 * (1 + 3)));
  EXPECT_EQ(work.flop, 4 * 6 * 64 * (10 + 1 + 2 + 3));
}

}  // namespace
}  // namespace sluice::cuda_test
