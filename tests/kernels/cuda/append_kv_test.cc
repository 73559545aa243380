// append_kv of the CUDA engine on the host: the bytes of every vector.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/kernels/cuda/attention_case.h"
#include "tests/support/cuda_emulation/orders.h"

namespace sluice::cuda_test {
namespace {

std::vector<std::byte> narrowed(const Matrix& from, std::int64_t row, std::int64_t first,
                                std::int64_t count, DType dtype) {
  Matrix exact(1, count);
  for (std::int64_t i = 0; i < count; ++i) exact.set(0, i, from.at(row, first + i));
  if (is_quantized(dtype)) {
    std::vector<std::byte> packed(row_bytes_of(dtype, count));
    kernels::quantize_rows(DType::f32, exact.view().data, 1, count, dtype, packed.data());
    return packed;
  }
  Matrix narrow(1, count, dtype);
  for (std::int64_t i = 0; i < count; ++i) narrow.set(0, i, exact.at(0, i));
  return narrow.bytes();
}

std::vector<std::byte> cached(const AttentionCase& made, std::size_t s, std::int32_t position,
                              std::int32_t head, bool values) {
  const std::byte* const at = made.vector(s, position, head, values);
  return {at, at + row_bytes_of(made.cache().dtype, made.cache().head_dim)};
}

using Types = std::tuple<DType, DType>;  // cache, activations
class CudaAppendKv : public testing::TestWithParam<Types> {
 protected:
  static DType cache() { return std::get<0>(GetParam()); }
  static DType activations() { return std::get<1>(GetParam()); }
  static AttentionShape shape(int head_dim, int page_tokens, int heads = 5) {
    return {cache(), activations(), heads, head_dim, page_tokens};
  }

  /// Of every vector.
  static void expect_stored(AttentionCase& made, const std::vector<Tokens>& tokens) {
    const int head_dim = made.cache().head_dim;
    for (std::size_t s = 0; s < tokens.size(); ++s) {
      for (std::int32_t position = 0; position < tokens[s].context; ++position) {
        for (std::int32_t head = 0; head < made.cache().kv_heads; ++head) {
          for (const bool values : {false, true}) {
            ASSERT_EQ(cached(made, s, position, head, values),
                      narrowed(values ? made.values(s) : made.keys(s), position, head * head_dim,
                               head_dim, cache()))
                << "sequence " << s << ", position " << position << ", head " << head
                << (values ? ", value" : ", key") << ", head_dim " << head_dim;
          }
        }
      }
    }
  }
};

TEST_P(CudaAppendKv, StoresTheNearestElementsOrTheCodesOfQuantizeRows) {
  for (const int head_dim : {12, 20, 30, 64, 80, 128, 192, 300}) {
    const std::vector<Tokens> tokens = {{1, 1}, {20, 1}, {33, 17}, {9, 9}};
    AttentionCase made(shape(head_dim, head_dim == 80 ? 7 : 16), tokens);
    made.append();
    expect_stored(made, tokens);
  }
}

TEST_P(CudaAppendKv, TakesKeysAndValuesAtOddAddresses) {
  for (const int head_dim : {20, 64, 80, 128}) {
    const std::vector<Tokens> tokens = {{20, 3}, {5, 5}};
    AttentionShape odd = shape(head_dim, 16);
    odd.offset = size_of(activations());
    AttentionCase made(odd, tokens);
    made.append();
    expect_stored(made, tokens);
  }
}

/// Element i of a group that is hard to quantise.
using HardGroup = double (*)(int i);
const HardGroup kHardGroups[] = {
    [](int i) { return i == 0   ? 0
                       : i == 1 ? 15
                                : i * 7 % 30 / 2.0; },  // halves of q4's step
    [](int i) { return i == 0   ? 0
                       : i == 1 ? 255
                                : i * 37 % 510 / 2.0; },  // of q8's
    [](int i) { return i == 0 ? 0 : (i % 8 * 3 + 1) * 0x1p-24; },          // beyond code 15
    [](int i) { return i % 8 * 51 * 0x1p-24; },                            // beyond code 255
    [](int i) { return 0.1 + i * 1e-6; },                                  // above the minimum
    [](int i) { return 0.3 + i * 1e-6; },                                  // below the minimum
    [](int) { return 0.1; },                                               // all the same
    [](int) { return -0.0; },                                              //
    [](int i) { return i % 3 == 0 ? -0.0 : 0.0; },                         //
    [](int i) { return i % 3 == 0 ? 0.0 : -0.0; },                         //
    [](int i) { return i == 1 ? -0.0 : i * 0.25; },                        // a minimum of -0
    [](int i) { return (i % 2 - 0.5) * 65280 * 2; },                       // of every dtype
    [](int i) { return i % 5 == 0 ? -65504.0 * 0.99 : 65504.0 * 0.99; },   //
    [](int i) { return i * 1e-42; },                                       // subnormal in f32
    [](int i) { return i * 1e-9; },                                        // no scale in f16
    [](int i) { return -1 - i * 0x1p-10; },                                //
};

TEST_P(CudaAppendKv, QuantizesWhatIsHardAsQuantizeRowsDoes) {
  constexpr auto kHard = static_cast<std::int32_t>(std::size(kHardGroups));
  for (const int head_dim : {12, 20, 64, 80, 128}) {
    for (const std::size_t offset : {std::size_t{0}, size_of(activations())}) {
      const std::vector<Tokens> tokens = {{kHard, kHard}};
      AttentionShape hard = shape(head_dim, 16, 1);
      hard.offset = offset;
      AttentionCase made(hard, tokens);
      for (std::int32_t token = 0; token < kHard; ++token) {
        for (int d = 0; d < head_dim; ++d) {
          made.keys(0).set(token, d, kHardGroups[token](d % 64));
          made.values(0).set(token, d, kHardGroups[token]((d + 7) % 64 % head_dim));
        }
      }
      made.append();
      expect_stored(made, tokens);
    }
  }
}

/// The vector as it is where the group of element `bad` is NaN, and its codes 0.
std::vector<std::byte> without_group(Matrix keys, std::int32_t row, int bad, DType dtype) {
  const auto dim = static_cast<int>(keys.columns());
  const int group = bad / 64;
  for (int d = group * 64; d < std::min(dim, group * 64 + 64); ++d) keys.set(row, d, 0.0);
  std::vector<std::byte> packed = narrowed(keys, row, 0, dim, dtype);
  const int codes = (dim + 63) / 64 * (dtype == DType::q8 ? 64 : 32);
  const std::uint16_t nan[2] = {0x7E00, 0x7E00};
  std::memcpy(packed.data() + codes + group * 4, nan, sizeof(nan));
  return packed;
}

TEST_P(CudaAppendKv, MakesAGroupNaNWhereverItHasWhatCannotBeQuantized) {
  if (!is_quantized(cache())) return;
  const double bad[] = {std::nan(""), INFINITY, -INFINITY, 1e5, -1e5};
  for (const int head_dim : {12, 20, 64, 80, 128}) {
    for (const std::size_t offset : {std::size_t{0}, size_of(activations())}) {
      AttentionShape some = shape(head_dim, 16, 1);
      some.offset = offset;
      AttentionCase made(some, {{head_dim, head_dim}});
      for (std::int32_t d = 0; d < head_dim; ++d) made.keys(0).set(d, d, bad[d % 5]);
      made.append();
      for (std::int32_t d = 0; d < head_dim; ++d) {
        ASSERT_EQ(cached(made, 0, d, 0, false), without_group(made.keys(0), d, d, cache()))
            << "element " << d << " of " << head_dim << " is " << bad[d % 5];
      }
    }
  }
}

TEST_P(CudaAppendKv, WritesNothingBehindTheContext) {
  AttentionCase made(shape(64, 16), {{17, 3}, {5, 5}});
  made.append();
  for (std::int32_t position = 17; position < 32; ++position) {
    for (const std::byte byte : cached(made, 0, position, 4, true)) {
      EXPECT_EQ(byte, std::byte{0xFF});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaAppendKv,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16,
                                                          DType::q8, DType::q4),
                                          testing::Values(DType::f32, DType::f16, DType::bf16)),
                         [](const auto& types) {
                           return std::string(name_of(std::get<0>(types.param))) + "_cache_" +
                                  std::string(name_of(std::get<1>(types.param)));
                         });

TEST(CudaAppendKvOrders, GiveTheSameBytes) {
  EXPECT_TRUE(support::same_in_every_order([] {
    AttentionCase made({DType::q4, DType::f16, 3, 80, 7}, {{20, 20}, {3, 1}});
    made.append();
    return cached(made, 0, 19, 2, true);
  }));
}

TEST(CudaAppendKvPlan, CopiesWordsQuantizesQuadsAndTakesTheRestByElements) {
  using cuda::AppendBy;
  alignas(16) std::byte memory[32];
  kernels::KvPages cache;
  cache.base = memory;
  const auto by = [&](DType to, int head_dim, DType keys, DType values, std::size_t offset = 0) {
    cache.dtype = to;
    cache.head_dim = head_dim;
    cache.page_stride_bytes = 4096;
    return cuda::append_by(cache, {memory, keys, 1, head_dim},
                           {memory + offset, values, 1, head_dim});
  };
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    EXPECT_EQ(by(dtype, 80, dtype, dtype), AppendBy::words);
    EXPECT_EQ(by(dtype, 81, dtype, dtype), AppendBy::elements);
    EXPECT_EQ(by(dtype, 80, dtype, dtype, 8), AppendBy::elements);
    EXPECT_EQ(by(DType::q4, 20, dtype, dtype), AppendBy::quads);
    EXPECT_EQ(by(DType::q8, 128, dtype, dtype), AppendBy::quads);
    EXPECT_EQ(by(DType::q8, 30, dtype, dtype), AppendBy::elements);
    EXPECT_EQ(by(DType::q4, 64, dtype, dtype, 8), AppendBy::elements);
  }
  EXPECT_EQ(by(DType::f16, 80, DType::f32, DType::f32), AppendBy::elements);
  EXPECT_EQ(by(DType::f16, 80, DType::f16, DType::bf16), AppendBy::elements);
  EXPECT_EQ(by(DType::q4, 64, DType::f16, DType::f32), AppendBy::elements);
  EXPECT_EQ(by(DType::f16, 20, DType::f16, DType::f16), AppendBy::elements);
  EXPECT_EQ(by(DType::f32, 20, DType::f32, DType::f32), AppendBy::words);
  cache.page_stride_bytes = 4104;
  EXPECT_EQ(cuda::append_by(cache, {memory, DType::f32, 1, 20}, {memory, DType::f32, 1, 20}),
            AppendBy::elements);
}

TEST(CudaAppendKvWork, IsWhatIsReadAndWritten) {
  kernels::KvPages cache;
  cache.dtype = DType::q4;
  cache.kv_heads = 2;
  cache.head_dim = 128;
  const cuda::KernelWork work = cuda::append_kv_work(cache, DType::f16, 3);
  EXPECT_EQ(work.bytes, 3 * 2 * 2 * (256 + 72));
  EXPECT_EQ(work.flop, 0);
}

}  // namespace
}  // namespace sluice::cuda_test
