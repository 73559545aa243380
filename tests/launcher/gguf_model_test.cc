// GGUF files as models: traits, names and ends, found by path or folder, and what is refused.
#include "launcher/model/gguf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "launcher/model/model_facts.h"
#include "launcher/model/opened_model.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::GgufBytes;
using support::refusal;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::filesystem::path kData = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data";
const std::filesystem::path kFiles = kData / "gguf";

constexpr std::uint32_t kF32 = 0;

/// A Llama of one layer without a vocabulary; `change` has the last word.
GgufBytes llama(const std::function<void(GgufBytes&)>& change = {}) {
  GgufBytes bytes;
  bytes.add("general.architecture", "llama").add("llama.block_count", 1U);
  bytes.add("llama.context_length", 64U).add("llama.feed_forward_length", 12U);
  bytes.add("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  if (change) change(bytes);
  const auto matrix = [&](const char* name, std::uint64_t columns, std::uint64_t rows) {
    bytes.tensor(name, {columns, rows}, kF32, std::string(4 * columns * rows, '\0'));
  };
  const auto vector = [&](const char* name) {
    bytes.tensor(name, {8}, kF32, std::string(32, '\0'));
  };
  matrix("token_embd.weight", 8, 10);
  for (const char* name : {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
                           "blk.0.attn_output.weight"}) {
    matrix(name, 8, 8);
  }
  matrix("blk.0.ffn_gate.weight", 8, 12);
  matrix("blk.0.ffn_up.weight", 8, 12);
  matrix("blk.0.ffn_down.weight", 12, 8);
  for (const char* name :
       {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"}) {
    vector(name);
  }
  return bytes;
}

GgufBytes usual(const std::function<void(GgufBytes&)>& change = {}) {
  return llama([&](GgufBytes& bytes) {
    bytes.add("llama.embedding_length", 8U).add("llama.attention.head_count", 2U);
    if (change) change(bytes);
  });
}

class GgufModelTest : public testing::Test {
 protected:
  std::filesystem::path write(const GgufBytes& bytes, const char* name = "m.gguf") const {
    return support::write_file(folder_.path() / name, bytes.bytes());
  }
  std::string refused(const std::function<void(GgufBytes&)>& change) const {
    const std::filesystem::path path = write(usual(change));
    return refusal([&] { read_model_facts(path); });
  }
  support::ScratchFolder folder_;
};

void expect_alike(const stage::DecoderConfig& ours, const stage::DecoderConfig& theirs) {
  EXPECT_EQ(ours.layers, theirs.layers);
  EXPECT_EQ(ours.hidden, theirs.hidden);
  EXPECT_EQ(ours.vocabulary, theirs.vocabulary);
  EXPECT_EQ(ours.max_positions, theirs.max_positions);
  EXPECT_EQ(ours.attention.query_heads, theirs.attention.query_heads);
  EXPECT_EQ(ours.attention.kv_heads, theirs.attention.kv_heads);
  EXPECT_EQ(ours.attention.head_width, theirs.attention.head_width);
  EXPECT_EQ(ours.attention.query_key_value_bias, theirs.attention.query_key_value_bias);
  EXPECT_EQ(ours.attention.output_bias, theirs.attention.output_bias);
  EXPECT_EQ(ours.attention.query_key_norm, theirs.attention.query_key_norm);
  EXPECT_EQ(ours.mlp.width, theirs.mlp.width);
  EXPECT_EQ(ours.mlp.bias, theirs.mlp.bias);
  EXPECT_EQ(ours.mlp.gated, theirs.mlp.gated);
  EXPECT_EQ(ours.norm.kind, theirs.norm.kind);
  EXPECT_FLOAT_EQ(ours.norm.epsilon, theirs.norm.epsilon);
  EXPECT_EQ(ours.head.tied, theirs.head.tied);
  EXPECT_THAT(ours.attention.windows, IsEmpty());
  const stage::RotaryTraits& turned = ours.positions.rotary.at(0);
  const stage::RotaryTraits& wanted = theirs.positions.rotary.at(0);
  ASSERT_EQ(turned.frequencies.size(), wanted.frequencies.size());
  for (std::size_t i = 0; i < wanted.frequencies.size(); ++i) {
    EXPECT_NEAR(turned.frequencies[i], wanted.frequencies[i], 1e-6F * wanted.frequencies[i]);
  }
}

TEST_F(GgufModelTest, TraitsAreThoseOfTheSameModelInHuggingFacesForm) {
  for (const auto& [file, reference, paired] :
       {std::tuple("llama3-like-bf16.gguf", "llama3-like", true),
        std::tuple("llama-biases-f32.gguf", "llama-biases", true),
        std::tuple("qwen2-f16.gguf", "qwen2", false),
        std::tuple("qwen3-bf16.gguf", "qwen3", false)}) {
    SCOPED_TRACE(file);
    const OpenedModel ours = open_checkpoint(open_model(kFiles / file));
    const OpenedModel theirs = open_checkpoint(open_model(kData / "families" / reference));
    expect_alike(ours.folder.config, theirs.folder.config);
    EXPECT_EQ(ours.folder.config.positions.rotary[0].neighbours, paired);
    EXPECT_STREQ(ours.folder.family->title, theirs.folder.family->title);
    EXPECT_EQ(ours.folder.eos_ids.front(), theirs.folder.config.eos);
    EXPECT_EQ(read_model_facts(kFiles / file).parameters,
              read_model_facts(kData / "families" / reference).parameters);
  }
}

TEST_F(GgufModelTest, AbsentKeysAreLlamaCpps) {
  const ModelFolder folder = open_model(write(usual()));
  EXPECT_EQ(folder.config.attention.kv_heads, 2);
  EXPECT_EQ(folder.config.attention.head_width, 4);
  EXPECT_FLOAT_EQ(folder.config.positions.rotary[0].frequencies[1], 0.01F);
  EXPECT_THAT(folder.eos_ids, ElementsAre(2));
  EXPECT_EQ(folder.config.bos, 1);
  EXPECT_TRUE(folder.config.head.tied);
}

TEST_F(GgufModelTest, AFolderWithOneGgufModelStandsForIt) {
  const std::filesystem::path path = write(usual());
  EXPECT_EQ(find_model_folder(folder_.path()), path);
  EXPECT_EQ(find_model_folder(path), path);
  write(usual(), "part-00002-of-00002.gguf");  // a later part of a model is no model
  EXPECT_EQ(find_model_folder(folder_.path()), path);
  write(usual(), "other.gguf");
  std::filesystem::create_directory(folder_.path() / "folder.gguf");
  EXPECT_THAT(refusal([&] { find_model_folder(folder_.path()); }),
              HasSubstr("several GGUF models (m.gguf, other.gguf); give the path of one"));
  write(usual(), "z\x1b[31m.gguf");  // a name must not colour the terminal
  EXPECT_THAT(refusal([&] { find_model_folder(folder_.path()); }),
              HasSubstr("(m.gguf, other.gguf, z?[31m.gguf)"));
  support::write_file(folder_.path() / "model.safetensors", "");
  EXPECT_EQ(find_model_folder(folder_.path()), folder_.path());
  EXPECT_THAT(refusal([&] { find_model_folder("models/none.gguf"); }),  // no name on the hub
              HasSubstr("there is no file models/none.gguf"));
  support::write_file(folder_.path() / "m.txt", "");
  EXPECT_THAT(refusal([&] { find_model_folder(folder_.path() / "m.txt"); }),
              HasSubstr("is no folder and no .gguf file"));
}

TEST_F(GgufModelTest, AFolderMayHaveAGgufFilesName) {
  const std::filesystem::path folder = folder_.path() / "some-model.gguf";
  std::filesystem::create_directory(folder);
  EXPECT_EQ(find_model_folder(folder), folder);
  const std::filesystem::path path =
      support::write_file(folder / "some-model.gguf", usual().bytes());
  EXPECT_EQ(find_model_folder(folder), path);
  EXPECT_EQ(open_model(folder).path, path);
}

TEST_F(GgufModelTest, KeysThatCannotBeRunAreRefusedByName) {
  const auto with = [&](const char* key, auto value) {
    return refused([&](GgufBytes& bytes) { bytes.add(key, value); });
  };
  for (const auto& [key, value] :
       {std::pair("llama.expert_count", 8U), std::pair("llama.attention.sliding_window", 32U),
        std::pair("llama.attention.value_length", 8U), std::pair("llama.rope.dimension_count", 2U),
        std::pair("llama.attention.head_count_kv", 0U)}) {
    EXPECT_THAT(with(key, value), AllOf(HasSubstr("m.gguf"), HasSubstr(key)));
  }
  EXPECT_THAT(with("llama.attention.causal", false), HasSubstr("llama.attention.causal is false"));
  EXPECT_THAT(with("llama.rope.scaling.type", "longrope"),
              HasSubstr("llama.rope.scaling.type is \"longrope\", but only none, linear and yarn"));
  EXPECT_THAT(with("llama.rope.scaling.type", "linear"), HasSubstr("llama.rope.scaling.factor is"));
  EXPECT_THAT(with("llama.rope.scaling.attn_factor", 2.0F),
              HasSubstr("attn_factor is 2, but only"));
  EXPECT_THAT(with("llama.rope.freq_base", 1.0F), HasSubstr("llama.rope.freq_base is not above 1"));
  EXPECT_THAT(with("tokenizer.ggml.eos_token_id", 10U),
              HasSubstr("tokenizer.ggml.eos_token_id is 10, but the model has 10 tokens"));
  EXPECT_THAT(refusal([&] { open_model(write(llama())); }),
              HasSubstr("llama.embedding_length is not there"));
}

TEST_F(GgufModelTest, OtherArchitecturesAreRefusedWithTheList) {
  GgufBytes bytes;
  bytes.add("general.architecture", "gemma3");
  EXPECT_THAT(refusal([&] { open_model(write(bytes)); }),
              HasSubstr("general.architecture is \"gemma3\", but of GGUF files only llama, qwen2, "
                        "qwen3 can run"));
}

TEST_F(GgufModelTest, TensorsMustFitTheMetadata) {
  EXPECT_THAT(refused([](GgufBytes& bytes) {
                bytes.tensor("rope_freqs.weight", {3}, kF32, std::string(12, '\0'));
              }),
              HasSubstr("rope_freqs.weight is no list of 2 numbers in F32"));
  EXPECT_THAT(refused([](GgufBytes& bytes) {
                bytes.tensor("rope_freqs.weight", {2}, kF32, std::string(8, '\0'));
              }),
              HasSubstr("rope_freqs.weight has a number that is not above 0"));
  EXPECT_THAT(
      refused([](GgufBytes& bytes) { bytes.add("llama.attention.key_length", 6U); }),
      AllOf(HasSubstr("blk.0.attn_q.weight"), HasSubstr("has the shape [8, 8], but metadata "
                                                        "asks for [12, 8]")));
  EXPECT_THAT(refused([](GgufBytes& bytes) {
                bytes.tensor("output.weight", {32, 10}, 13, std::string(32, '\0'));
              }),
              HasSubstr("tensor \"output.weight\" has the type Q5_K; only F32"));
  EXPECT_THAT(refused([](GgufBytes& bytes) {
                bytes.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
                bytes.add("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
              }),
              HasSubstr("tokenizer.ggml.tokens has 1 tokens, but token_embd.weight has 10 rows"));
}

}  // namespace
}  // namespace sluice::launcher
