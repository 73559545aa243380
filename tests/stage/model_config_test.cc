#include "stage/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "offload/weights/weight_source.h"
#include "tests/support/file_bytes.h"

namespace sluice::stage {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ModelConfig small() {
  ModelConfig model;
  model.layers = 3;
  model.hidden = 8;
  model.heads = 2;
  model.ffn = 32;
  model.vocabulary = 50;
  model.positions = 16;
  model.embedding_width = 8;
  return model;
}

void expect_tensor(const offload::WeightSpec& tensor, const std::string& name, std::int64_t rows,
                   std::int64_t columns) {
  EXPECT_EQ(tensor.name, name);
  EXPECT_EQ(tensor.rows, rows) << name;
  EXPECT_EQ(tensor.columns, columns) << name;
}

TEST(ModelConfigTest, ALayerIsSixteenTensors) {
  const offload::LayerSpec layer = layer_spec(small(), 2);
  EXPECT_EQ(layer.name, "layer 2");
  ASSERT_EQ(layer.tensors.size(), 16U);
  expect_tensor(layer.tensors[kNorm1Weight], "layers.2.self_attn_layer_norm.weight", 1, 8);
  expect_tensor(layer.tensors[kNorm1Bias], "layers.2.self_attn_layer_norm.bias", 1, 8);
  expect_tensor(layer.tensors[kQueryWeight], "layers.2.self_attn.q_proj.weight", 8, 8);
  expect_tensor(layer.tensors[kQueryBias], "layers.2.self_attn.q_proj.bias", 1, 8);
  expect_tensor(layer.tensors[kKeyWeight], "layers.2.self_attn.k_proj.weight", 8, 8);
  expect_tensor(layer.tensors[kKeyBias], "layers.2.self_attn.k_proj.bias", 1, 8);
  expect_tensor(layer.tensors[kValueWeight], "layers.2.self_attn.v_proj.weight", 8, 8);
  expect_tensor(layer.tensors[kValueBias], "layers.2.self_attn.v_proj.bias", 1, 8);
  expect_tensor(layer.tensors[kOutWeight], "layers.2.self_attn.out_proj.weight", 8, 8);
  expect_tensor(layer.tensors[kOutBias], "layers.2.self_attn.out_proj.bias", 1, 8);
  expect_tensor(layer.tensors[kNorm2Weight], "layers.2.final_layer_norm.weight", 1, 8);
  expect_tensor(layer.tensors[kNorm2Bias], "layers.2.final_layer_norm.bias", 1, 8);
  expect_tensor(layer.tensors[kFc1Weight], "layers.2.fc1.weight", 32, 8);
  expect_tensor(layer.tensors[kFc1Bias], "layers.2.fc1.bias", 1, 32);
  expect_tensor(layer.tensors[kFc2Weight], "layers.2.fc2.weight", 8, 32);
  expect_tensor(layer.tensors[kFc2Bias], "layers.2.fc2.bias", 1, 8);
}

TEST(ModelConfigTest, AbsentTensorsAreEmpty) {
  ModelConfig model = small();
  model.bias = false;
  model.norm_affine = false;
  for (const auto index : {kNorm1Weight, kNorm1Bias, kQueryBias, kKeyBias, kValueBias, kOutBias,
                           kNorm2Weight, kNorm2Bias, kFc1Bias, kFc2Bias}) {
    expect_tensor(layer_spec(model, 0).tensors[index], "", 0, 0);
  }
  expect_tensor(head_spec(model, false).tensors[kFinalNormWeight], "", 0, 0);
  model = small();
  model.final_norm = false;
  expect_tensor(head_spec(model, false).tensors[kFinalNormBias], "", 0, 0);
  expect_tensor(head_spec(model, false).tensors[kProjectOut], "", 0, 0);
  expect_tensor(embedding_spec(model).tensors[kProjectIn], "", 0, 0);
}

TEST(ModelConfigTest, EmbeddingAndHeadFollowTheProjection) {
  ModelConfig model = small();
  model.embedding_width = 4;
  const offload::LayerSpec embedding = embedding_spec(model);
  EXPECT_EQ(embedding.name, "embedding");
  expect_tensor(embedding.tensors[kProjectIn], "project_in.weight", 8, 4);
  expect_tensor(embedding.tensors[kPositions], "embed_positions.weight", 18, 8);
  expect_tensor(embedding.tensors[kEmbedTokens], "embed_tokens.weight", 50, 4);
  const offload::LayerSpec head = head_spec(model, false);
  EXPECT_EQ(head.name, "output head");
  expect_tensor(head.tensors[kFinalNormWeight], "final_layer_norm.weight", 1, 8);
  expect_tensor(head.tensors[kFinalNormBias], "final_layer_norm.bias", 1, 8);
  expect_tensor(head.tensors[kProjectOut], "project_out.weight", 4, 8);
  expect_tensor(head.tensors[kHeadTokens], "embed_tokens.weight", 50, 4);
  expect_tensor(head_spec(model, true).tensors[kHeadTokens], "lm_head.weight", 50, 4);
}

TEST(ModelConfigTest, ValuesThatCannotBeAreRefusedByKey) {
  EXPECT_NO_THROW(small().validate("x"));
  const auto refused = [](auto change) {
    ModelConfig model = small();
    change(model);
    const std::string sentence = support::refusal([&] { model.validate("m/config.json"); });
    EXPECT_THAT(sentence, HasSubstr("m/config.json: "));
    return sentence;
  };
  EXPECT_THAT(refused([](ModelConfig& m) { m.layers = 0; }), HasSubstr("num_hidden_layers is 0"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.hidden = -8; }), HasSubstr("hidden_size is -8"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.heads = 0; }), HasSubstr("num_attention_heads is 0"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.ffn = 0; }), HasSubstr("ffn_dim is 0"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.vocabulary = 0; }), HasSubstr("vocab_size is 0"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.positions = 0; }),
              HasSubstr("max_position_embeddings is 0"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.positions = INT32_MAX; }), HasSubstr("too large"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.embedding_width = 0; }),
              HasSubstr("word_embed_proj_dim is 0"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.heads = 3; }),
              AllOf(HasSubstr("hidden_size 8"), HasSubstr("num_attention_heads 3")));
  EXPECT_THAT(refused([](ModelConfig& m) { m.bos = 50; }), HasSubstr("bos_token_id 50"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.eos = -1; }), HasSubstr("eos_token_id -1"));
  EXPECT_THAT(refused([](ModelConfig& m) { m.pad = 50; }), HasSubstr("pad_token_id 50"));
  EXPECT_THAT(refused([](ModelConfig& m) {
                m.layers = m.ffn = INT32_MAX;
                m.hidden = m.embedding_width = INT32_MAX - 1;
              }),
              HasSubstr("more bytes than can be counted"));
  EXPECT_THAT(refused([](ModelConfig& m) {  // 2^61 elements: counted, but not in bytes
                m.layers = 1 << 15;
                m.ffn = m.hidden = 1 << 22;
              }),
              HasSubstr("more bytes than can be counted"));
}

}  // namespace
}  // namespace sluice::stage
