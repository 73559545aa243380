// Every instruction set that the processor has gives right results and keeps the law: one test
// machine then stands for older ones.
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cpu/operations.h"
#include "kernels/engine.h"
#include "tests/support/attention_cache.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;

class InstructionSets : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) {
      GTEST_SKIP() << "this processor has no " << hwy::TargetName(GetParam());
    }
    choose(GetParam());
    ASSERT_STREQ(instruction_set(), hwy::TargetName(GetParam()));
  }
  void TearDown() override { choose(0); }

  static void choose(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);  // 0: what the processor has
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

void expect_near(const Matrix& actual, const Matrix& expected) {
  for (std::int64_t row = 0; row < actual.rows(); ++row) {
    for (std::int64_t i = 0; i < actual.columns(); ++i) {
      ASSERT_NEAR(actual.at(row, i), expected.at(row, i), 2e-5) << row << ", " << i;
    }
  }
}

TEST_P(InstructionSets, EqualTheReferenceAndKeepTheLaw) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const Engine engine = make_engine(options);
  Ops& ops = *engine.device_ops;
  const auto finish = [&] { engine.backend->synchronize(engine.backend->record(Lane::compute)); };
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Matrix in = Matrix::random(29, 77, DType::f32, 1);
    Matrix weight = Matrix::random(45, 77, dtype, 2);
    Matrix bias = Matrix::random(1, 45, dtype, 3);
    Matrix all(29, 45);
    Matrix alone(1, 45);
    ops.linear(all.view(), in.view(), weight.split(10), bias.view(), Activation::gelu, {});
    ops.linear(alone.view(), in.view().slice(28, 1), weight.split(45), bias.view(),
               Activation::gelu, {});
    finish();
    expect_near(all, reference::linear(in, weight, bias, Activation::gelu, {}));
    for (std::int64_t i = 0; i < 45; ++i) ASSERT_EQ(alone.at(0, i), all.at(28, i));

    Matrix normed(29, 77);
    ops.layer_norm(normed.view(), in.view(), {}, {}, 1e-5F);
    finish();
    expect_near(normed, reference::layer_norm(in, {}, {}, 1e-5));

    Matrix cached(29, 77, dtype);
    for (std::int64_t row = 0; row < 29; ++row) {
      for (std::int64_t i = 0; i < 77; ++i) cached.set(row, i, in.at(row, i));
    }
    KvPages cache;
    cache.dtype = dtype;
    cache.kv_heads = 7;
    cache.head_dim = 11;
    cache.page_tokens = 30;
    cache.page_stride_bytes = static_cast<std::int64_t>(cache.page_bytes());
    std::vector<std::byte> memory(cache.page_bytes());
    cache.base = memory.data();
    const std::int32_t first_row = 0, tokens = 29, page = 0;
    const KvBatch batch = {1, 1, &first_row, &tokens, &tokens, &page};
    Matrix attended(29, 77);
    ops.append_kv(cache, batch, in.view(), in.view());
    ops.attention(attended.view(), in.view(), cache, batch, {0.5F});
    finish();
    expect_near(attended, reference::attention(in, cached, cached, 7, 0.5));
  }
}

TEST_P(InstructionSets, AttendCachesOfAllTypesTokenByTokenAsInOnePiece) {
  using attention_test::Attention;
  const std::int32_t tokens = 280;
  const auto pages = attention_test::pages_from(0, 40);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    for (const std::int32_t dim : {20, 64, 96}) {
      Matrix query = Matrix::random(tokens, dim, DType::f32, 1);
      Matrix keys = Matrix::random(tokens, dim, DType::f32, 2);
      Matrix values = Matrix::random(tokens, dim, DType::f32, 3);
      Matrix out(tokens, dim);
      Attention attention(2, {dtype, 1, dim, 7}, 40);
      attention.step({{0, tokens, tokens, pages}}, query, keys, values, out);
      expect_near(out, reference::attention(query, attention_test::rounded(keys, dtype, 1),
                                            attention_test::rounded(values, dtype, 1), 1, 0.25));
      Matrix alone(tokens, dim);
      for (const std::int32_t row : {0, 63, 64, 255, 256, 279}) {
        attention.step({{row, 1, row + 1, pages}}, query, keys, values, alone);
        for (std::int64_t i = 0; i < dim; ++i) ASSERT_EQ(alone.at(row, i), out.at(row, i)) << row;
      }
    }
  }
}

TEST_P(InstructionSets, NormTurnActivateAndCapAsTheReference) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const Engine engine = make_engine(options);
  Ops& ops = *engine.device_ops;
  const auto finish = [&] { engine.backend->synchronize(engine.backend->record(Lane::compute)); };
  const Matrix in = Matrix::random(9, 84, DType::f32, 1);
  Matrix weight = Matrix::random(1, 84, DType::bf16, 2);
  Matrix rows = in;
  ops.rms_norm(rows.view(), rows.view(), weight.view(), 1e-6F, 1.0F);
  finish();
  expect_near(rows, reference::rms_norm(in, weight, 1e-6F, 1.0));

  const std::vector<std::int32_t> positions = {0, 1, 5, 9, 100, 2000, 50000, 100000, 131071};
  std::vector<float> frequencies;
  for (int i = 0; i < 11; ++i) frequencies.push_back(std::pow(1e4F, -static_cast<float>(i) / 11));
  for (const bool neighbours : {false, true}) {
    const Rotation rotation = {28, 22, neighbours, 1.0F, frequencies.data()};
    rows = in;
    ops.rotate(rows.view(), rotation, positions.data());
    finish();
    expect_near(rows, reference::rotate(in, rotation, positions));
  }

  Matrix matrix = Matrix::random(84, 84, DType::f32, 3);
  for (const Activation activation :
       {Activation::silu, Activation::gelu_tanh, Activation::quick_gelu}) {
    rows = in;
    Matrix out(9, 84);
    ops.linear(out.view(), rows.view(), matrix.split(84), {}, activation, {});
    finish();
    expect_near(out, reference::linear(in, matrix, {}, activation, {}));
  }

  rows = in;
  ops.add(rows.view(), rows.view());
  ops.scale(rows.view(), 20.0F);
  ops.soft_cap(rows.view(), 5.0F);
  finish();
  for (std::int64_t i = 0; i < 84; ++i) {
    ASSERT_NEAR(rows.at(8, i), 5.0 * std::tanh(8.0 * in.at(8, i)), 5e-6) << i;
  }
}

TEST_P(InstructionSets, AttendByRulesTokenByTokenAsInOnePiece) {
  using attention_test::Attention;
  const std::int32_t tokens = 280;
  const auto pages = attention_test::pages_from(0, 40);
  const AttentionRule rule = {.scale = 0.25F, .soft_cap = 2.0F, .alibi = 0.5F, .window = 90};
  for (const DType dtype : {DType::f32, DType::f16, DType::q8, DType::q4}) {
    Matrix query = Matrix::random(tokens, 3 * 20, DType::f32, 1);
    Matrix keys = Matrix::random(tokens, 20, DType::f32, 2);
    Matrix values = Matrix::random(tokens, 20, DType::f32, 3);
    Matrix out(tokens, 3 * 20);
    Attention attention(2, {dtype, 1, 20, 7}, 40);
    attention.step({{0, tokens, tokens, pages}}, query, keys, values, out, rule);
    expect_near(out, reference::attention(query, attention_test::rounded(keys, dtype, 1),
                                          attention_test::rounded(values, dtype, 1), 3, rule));
    Matrix alone(tokens, 3 * 20);
    for (const std::int32_t row : {0, 63, 64, 100, 255, 256, 279}) {
      attention.step({{row, 1, row + 1, pages}}, query, keys, values, alone, rule);
      for (std::int64_t i = 0; i < 60; ++i) ASSERT_EQ(alone.at(row, i), out.at(row, i)) << row;
    }
  }
}

TEST_P(InstructionSets, AttendRowsOfSixteenBitsAsTheirValuesInFloats) {
  using attention_test::as;
  using attention_test::Attention;
  const std::int32_t tokens = 70;
  const auto pages = attention_test::pages_from(0, 10);
  for (const DType activations : {DType::f16, DType::bf16}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8}) {
      for (const std::int32_t dim : {20, 64}) {
        Matrix rows[3];
        Matrix wide[3];
        for (std::uint64_t i = 0; i < 3; ++i) {
          rows[i] = Matrix::random(tokens, dim, activations, i);
          wide[i] = as(rows[i], DType::f32);
        }
        Matrix out(tokens, dim, activations);
        Matrix wide_out(tokens, dim);
        Attention attention(2, {dtype, 1, dim, 7}, 10);
        attention.step({{0, tokens, tokens, pages}}, rows[0], rows[1], rows[2], out);
        attention.step({{0, tokens, tokens, pages}}, wide[0], wide[1], wide[2], wide_out);
        EXPECT_EQ(out.bytes(), as(wide_out, activations).bytes()) << name_of(dtype) << ' ' << dim;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(X86, InstructionSets, testing::Values(HWY_SSE4, HWY_AVX2, HWY_AVX3),
                         [](const auto& target) {
                           return std::string(hwy::TargetName(target.param));
                         });

}  // namespace
}  // namespace sluice::kernels
