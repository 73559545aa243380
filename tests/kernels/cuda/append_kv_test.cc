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
  static AttentionShape shape(int head_dim, int page_tokens) {
    return {std::get<0>(GetParam()), std::get<1>(GetParam()), 5, head_dim, page_tokens};
  }
};

TEST_P(CudaAppendKv, StoresTheNearestElementsOrTheCodesOfQuantizeRows) {
  for (const int head_dim : {12, 30, 64, 80, 128, 300}) {
    const std::vector<Tokens> tokens = {{1, 1}, {20, 1}, {33, 17}, {9, 9}};
    AttentionCase made(shape(head_dim, head_dim == 80 ? 7 : 16), tokens);
    for (int d = 0; d < head_dim; ++d) {
      made.keys(3).set(7, d, d == 1 ? -0.0 : std::abs(made.keys(3).at(7, d)));
      made.keys(3).set(8, d, 0.25);  // all the same
    }
    made.append();
    for (std::size_t s = 0; s < tokens.size(); ++s) {
      for (std::int32_t position = 0; position < tokens[s].context; ++position) {
        for (std::int32_t head = 0; head < 5; ++head) {
          for (const bool values : {false, true}) {
            ASSERT_EQ(cached(made, s, position, head, values),
                      narrowed(values ? made.values(s) : made.keys(s), position, head * head_dim,
                               head_dim, std::get<0>(GetParam())))
                << "sequence " << s << ", position " << position << ", head " << head
                << (values ? ", value" : ", key") << ", head_dim " << head_dim;
          }
        }
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

TEST(CudaAppendKvWork, IsWhatIsReadAndWritten) {
  kernels::KvPages cache;
  cache.dtype = DType::q4;
  cache.heads = 2;
  cache.head_dim = 128;
  const cuda::KernelWork work = cuda::append_kv_work(cache, DType::f16, 3);
  EXPECT_EQ(work.bytes, 3 * 2 * 2 * (256 + 72));
  EXPECT_EQ(work.flop, 0);
}

}  // namespace
}  // namespace sluice::cuda_test
