#include "stage/weight_groups.h"

#include <gtest/gtest.h>

namespace sluice::stage {
namespace {

DecoderConfig small() {
  DecoderConfig model;
  model.layers = 3;
  model.hidden = model.embedding.width = 8;
  model.attention = {6, 2, 4, true, true, 0.5F};
  model.mlp.width = 32;
  model.vocabulary = 50;
  model.max_positions = 16;
  model.positions.offset = 2;
  return model;
}

void expect_tensor(const offload::WeightSpec& tensor, const std::string& name, std::int64_t rows,
                   std::int64_t columns) {
  EXPECT_EQ(tensor.name, name);
  EXPECT_EQ(tensor.rows, rows) << name;
  EXPECT_EQ(tensor.columns, columns) << name;
}

TEST(WeightGroupsTest, ALayerIsAttentionAndThenTheMlp) {
  const offload::GroupSpec attention = attention_group(small(), 2);
  EXPECT_EQ(attention.name, "layer 2 attention");
  ASSERT_EQ(attention.tensors.size(), kAttentionTensorCount);
  const auto& a = attention.tensors;
  expect_tensor(a[kAttentionNormWeight], "layers.2.attention.norm.weight", 1, 8);
  expect_tensor(a[kAttentionNormBias], "layers.2.attention.norm.bias", 1, 8);
  expect_tensor(a[kQueryWeight], "layers.2.attention.query.weight", 24, 8);
  expect_tensor(a[kQueryBias], "layers.2.attention.query.bias", 1, 24);
  expect_tensor(a[kKeyWeight], "layers.2.attention.key.weight", 8, 8);
  expect_tensor(a[kKeyBias], "layers.2.attention.key.bias", 1, 8);
  expect_tensor(a[kValueWeight], "layers.2.attention.value.weight", 8, 8);
  expect_tensor(a[kValueBias], "layers.2.attention.value.bias", 1, 8);
  expect_tensor(a[kOutputWeight], "layers.2.attention.output.weight", 8, 24);
  expect_tensor(a[kOutputBias], "layers.2.attention.output.bias", 1, 8);

  const offload::GroupSpec mlp = mlp_group(small(), 2);
  EXPECT_EQ(mlp.name, "layer 2 MLP");
  ASSERT_EQ(mlp.tensors.size(), kMlpTensorCount);
  const auto& m = mlp.tensors;
  expect_tensor(m[kMlpNormWeight], "layers.2.mlp.norm.weight", 1, 8);
  expect_tensor(m[kMlpNormBias], "layers.2.mlp.norm.bias", 1, 8);
  expect_tensor(m[kUpWeight], "layers.2.mlp.up.weight", 32, 8);
  expect_tensor(m[kUpBias], "layers.2.mlp.up.bias", 1, 32);
  expect_tensor(m[kDownWeight], "layers.2.mlp.down.weight", 8, 32);
  expect_tensor(m[kDownBias], "layers.2.mlp.down.bias", 1, 8);

  const offload::GroupSpec whole = layer_group(small(), 2);
  EXPECT_EQ(whole.name, "layer 2");
  ASSERT_EQ(whole.tensors.size(), a.size() + m.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(whole.tensors[i].name, a[i].name);
  for (std::size_t i = 0; i < m.size(); ++i) {
    EXPECT_EQ(whole.tensors[kAttentionTensorCount + i].name, m[i].name);
  }
}

TEST(WeightGroupsTest, OnlyWhatIsMultipliedWithIsQuantised) {
  using offload::Compression;
  const auto kept = [](const offload::WeightSpec& tensor) {
    return tensor.kept_as(Compression::four_bit, DType::f16);
  };
  DecoderConfig model = small();
  model.embedding.width = 4;
  for (const offload::GroupSpec& group : {attention_group(model, 0), mlp_group(model, 0),
                                          embedding_group(model), head_group(model)}) {
    for (const offload::WeightSpec& tensor : group.tensors) {
      const bool is_matrix = tensor.rows > 1 && tensor.name != "embedding.positions.weight";
      EXPECT_EQ(kept(tensor), is_matrix ? DType::q4 : DType::f16) << tensor.name;
      EXPECT_EQ(tensor.kept_as(Compression::none, DType::bf16), DType::bf16) << tensor.name;
    }
  }
}

TEST(WeightGroupsTest, ExpertsStandBehindTheRouterAndInPlaceOfTheMlp) {
  DecoderConfig model = small();
  model.mlp.gated = true;
  model.mlp.bias = false;
  model.mixture.experts = 3;
  model.mixture.width = 5;
  model.mixture.shared_width = 6;
  model.mixture.shared_switch = model.mixture.correction = true;
  model.mixture.layers = std::vector<char>(static_cast<std::size_t>(model.layers), 1);
  model.mixture.layers[0] = 0;
  EXPECT_EQ(mlp_group(model, 0).tensors.size(), kMlpTensorCount);
  expect_tensor(mlp_group(model, 0).tensors[kRouterWeight], "", 0, 0);
  const offload::GroupSpec mlp = mlp_group(model, 1);
  ASSERT_EQ(mlp.tensors.size(), expert_tensors(3));
  const auto hidden = std::int64_t{model.hidden};
  expect_tensor(mlp.tensors[kUpWeight], "", 0, 0);
  expect_tensor(mlp.tensors[kRouterWeight], "layers.1.mlp.router.weight", 3, hidden);
  expect_tensor(mlp.tensors[kRouterBias], "", 0, 0);
  expect_tensor(mlp.tensors[kCorrection], "layers.1.mlp.correction.bias", 1, 3);
  expect_tensor(mlp.tensors[kSharedDown], "layers.1.mlp.shared.down.weight", hidden, 6);
  expect_tensor(mlp.tensors[kSharedSwitch], "layers.1.mlp.shared.switch.weight", 1, hidden);
  expect_tensor(mlp.tensors[expert_tensors(2) + kExpertGate], "layers.1.mlp.experts.2.gate.weight",
                5, hidden);
  expect_tensor(mlp.tensors[expert_tensors(2) + kExpertDown], "layers.1.mlp.experts.2.down.weight",
                hidden, 5);
  expect_tensor(mlp.tensors[expert_tensors(2) + kExpertDownBias], "", 0, 0);
  using offload::Compression;
  EXPECT_EQ(mlp.tensors[kRouterWeight].kept_as(Compression::four_bit, DType::f16), DType::f16);
  EXPECT_EQ(mlp.tensors[expert_tensors(0) + kExpertUp].kept_as(Compression::four_bit, DType::f16),
            DType::q4);
}

TEST(WeightGroupsTest, AbsentTensorsAreEmpty) {
  DecoderConfig model = small();
  model.norm.affine = false;
  model.attention.query_key_value_bias = model.attention.output_bias = model.mlp.bias = false;
  const offload::GroupSpec attention = attention_group(model, 0);
  for (const auto index :
       {kAttentionNormWeight, kAttentionNormBias, kQueryBias, kKeyBias, kValueBias, kOutputBias}) {
    expect_tensor(attention.tensors[index], "", 0, 0);
  }
  const offload::GroupSpec mlp = mlp_group(model, 0);
  for (const auto index : {kMlpNormWeight, kMlpNormBias, kUpBias, kDownBias}) {
    expect_tensor(mlp.tensors[index], "", 0, 0);
  }
  expect_tensor(head_group(model).tensors[kHeadNormWeight], "", 0, 0);
  model = small();
  model.attention.output_bias = false;
  expect_tensor(attention_group(model, 0).tensors[kOutputBias], "", 0, 0);
  expect_tensor(attention_group(model, 0).tensors[kKeyBias], "layers.0.attention.key.bias", 1, 8);
  model.head.norm = false;
  expect_tensor(head_group(model).tensors[kHeadNormBias], "", 0, 0);
  expect_tensor(head_group(model).tensors[kHeadProject], "", 0, 0);
  expect_tensor(embedding_group(model).tensors[kEmbeddingProject], "", 0, 0);
}

TEST(WeightGroupsTest, EmbeddingAndHeadFollowTheProjection) {
  DecoderConfig model = small();
  model.embedding.width = 4;
  const offload::GroupSpec embedding = embedding_group(model);
  EXPECT_EQ(embedding.name, "embedding");
  expect_tensor(embedding.tensors[kEmbeddingProject], "embedding.project.weight", 8, 4);
  expect_tensor(embedding.tensors[kPositions], "embedding.positions.weight", 18, 8);
  expect_tensor(embedding.tensors[kTokens], "embedding.tokens.weight", 50, 4);
  const offload::GroupSpec head = head_group(model);
  EXPECT_EQ(head.name, "output head");
  expect_tensor(head.tensors[kHeadNormWeight], "head.norm.weight", 1, 8);
  expect_tensor(head.tensors[kHeadNormBias], "head.norm.bias", 1, 8);
  expect_tensor(head.tensors[kHeadProject], "head.project.weight", 4, 8);
  expect_tensor(head.tensors[kHeadTokens], "embedding.tokens.weight", 50, 4);
  model.head.tied = false;
  expect_tensor(head_group(model).tensors[kHeadTokens], "head.tokens.weight", 50, 4);
}

}  // namespace
}  // namespace sluice::stage
