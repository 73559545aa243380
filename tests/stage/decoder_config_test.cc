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

}  // namespace
}  // namespace sluice::stage
