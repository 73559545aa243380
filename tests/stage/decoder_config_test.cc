#include "stage/decoder_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/file_bytes.h"

namespace sluice::stage {
namespace {

using testing::AllOf;
using testing::HasSubstr;

DecoderConfig small() {
  DecoderConfig model;
  model.layers = 3;
  model.hidden = model.embedding.width = 8;
  model.attention = {2, 1, 4, true, true, 0.5F};
  model.mlp.width = 32;
  model.vocabulary = 50;
  model.max_positions = 16;
  return model;
}

TEST(DecoderConfigTest, ValuesThatCannotBeAreRefused) {
  EXPECT_NO_THROW(small().validate("x"));
  const auto refused = [](auto change) {
    DecoderConfig model = small();
    change(model);
    const std::string sentence = support::refusal([&] { model.validate("m/config.json"); });
    EXPECT_THAT(sentence, HasSubstr("m/config.json: "));
    return sentence;
  };
  EXPECT_THAT(refused([](DecoderConfig& m) { m.layers = 0; }), HasSubstr("layers is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.hidden = -8; }), HasSubstr("hidden states is -8"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.attention.query_heads = 0; }),
              HasSubstr("query heads is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.attention.kv_heads = 0; }),
              HasSubstr("key and value heads is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.attention.head_width = 0; }),
              HasSubstr("attention heads is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.mlp.width = 0; }), HasSubstr("MLP is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.vocabulary = 0; }), HasSubstr("vocabulary is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.max_positions = 0; }), HasSubstr("positions is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) {
                m.max_positions = INT32_MAX;
                m.positions.offset = 1;
              }),
              HasSubstr("too many"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.embedding.width = 0; }),
              HasSubstr("embedding is 0"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.attention.kv_heads = 3; }),
              AllOf(HasSubstr("2 query heads"), HasSubstr("3 key and value heads")));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.attention.head_width = INT32_MAX; }),
              HasSubstr("too wide"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.bos = 50; }), HasSubstr("bos token is 50"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.eos = -1; }), HasSubstr("eos token is -1"));
  EXPECT_THAT(refused([](DecoderConfig& m) { m.pad = 50; }), HasSubstr("pad token is 50"));
  EXPECT_THAT(refused([](DecoderConfig& m) {
                m.layers = m.mlp.width = INT32_MAX;
                m.hidden = m.embedding.width = INT32_MAX - 1;
              }),
              HasSubstr("more bytes than can be counted"));
  EXPECT_THAT(refused([](DecoderConfig& m) {  // 2^61 elements: counted, but not in bytes
                m.layers = 1 << 15;
                m.mlp.width = m.hidden = 1 << 22;
              }),
              HasSubstr("more bytes than can be counted"));
}

TEST(DecoderConfigTest, ExpertsThatCannotBeAreRefused) {
  DecoderConfig sound = small();
  sound.mlp.gated = true;
  sound.mixture.experts = 8;
  sound.mixture.width = 16;
  sound.mixture.router.chosen = 2;
  EXPECT_NO_THROW(sound.validate("x"));
  sound.mixture.layers = {1, 0, 1};
  EXPECT_NO_THROW(sound.validate("x"));
  sound.mixture.layers = {};
  const auto with_experts = [&sound](auto change) {
    DecoderConfig model = sound;
    change(model);
    return support::refusal([&] { model.validate("m/config.json"); });
  };
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.mixture.width = 0; }),
              HasSubstr("8 experts of 0"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.mixture.experts = 1 << 20; }),
              HasSubstr("too many"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.layers = 1 << 15; }), HasSubstr("too many"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.mixture.router.chosen = 9; }),
              HasSubstr("9 of 8 experts"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.mixture.router.groups = 3; }),
              HasSubstr("1 of 3 equal groups"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) {
                m.mixture.router.groups = 8;
                m.mixture.router.kept_groups = 1;
              }),
              HasSubstr("2 of 1 experts"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.mixture.layers = {1}; }),
              HasSubstr("there are 3"));
  EXPECT_THAT(with_experts([](DecoderConfig& m) { m.residual = Residual::parallel; }),
              HasSubstr("beside attention"));
}

TEST(DecoderConfigTest, TheWidestMlpIsThatOfAnyLayer) {
  DecoderConfig model = small();
  EXPECT_EQ(model.widest_mlp(), 32);
  model.mixture.experts = 4;
  model.mixture.width = 10;
  EXPECT_EQ(model.widest_mlp(), 10);
  model.mixture.shared_width = 20;
  EXPECT_EQ(model.widest_mlp(), 20);
  model.mixture.layers = {0, 1, 1};
  EXPECT_EQ(model.widest_mlp(), 32);
  EXPECT_FALSE(model.has_experts(0));
  EXPECT_TRUE(model.has_experts(1));
}

}  // namespace
}  // namespace sluice::stage
