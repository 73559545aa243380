// The families' pages: what published config.json files come to, and what is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <cmath>
#include <sstream>

#include "launcher/model/inspect_command.h"
#include "launcher/model/model_facts.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::refusal;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class FamiliesTest : public testing::Test {
 protected:
  std::string path_of(const std::string& config) {
    support::write_file(folder_.path() / "config.json", config);
    return folder_.path().string();
  }
  stage::DecoderConfig read(const std::string& config) {
    return open_model(path_of(config)).config;
  }
  std::string refused(const std::string& config) {
    return refusal([&] { open_model(path_of(config)); });
  }
  std::string inspected(const std::string& config) {
    std::ostringstream out;
    inspect(path_of(config), {}, out);
    return out.str();
  }

  support::ScratchFolder folder_;
};

struct Published {
  const char* name;
  const char* config;
  std::uint64_t parameters;
  const char* words;
};

constexpr const char* kLlama8 =
    R"({"model_type":"llama","hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,
"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":128256,"rms_norm_eps":1e-05,
"max_position_embeddings":131072,"rope_theta":500000.0,"tie_word_embeddings":false,
"bos_token_id":128000,"eos_token_id":[128001,128008,128009],"torch_dtype":"bfloat16",
"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
"original_max_position_embeddings":8192,"rope_type":"llama3"}})";

const Published kPublished[] = {
    {"Llama-3.1-8B", kLlama8, 8'030'261'248,
     "Llama: 32 layers, hidden 4096, 32 heads of 128 (8 for keys and values), ffn 14336"},
    {"Llama-3.1-70B",
     R"({"model_type":"llama","hidden_size":8192,"intermediate_size":28672,"num_hidden_layers":80,
"num_attention_heads":64,"num_key_value_heads":8,"vocab_size":128256,"torch_dtype":"bfloat16"})",
     70'553'706'496, "RMS norms"},
    {"Mistral-7B-v0.1",
     R"({"model_type":"mistral","hidden_size":4096,"intermediate_size":14336,
"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":32000,
"sliding_window":4096,"max_position_embeddings":32768,"torch_dtype":"bfloat16"})",
     7'241'732'096, "window of 4096 tokens in 32 of 32 layers"},
    {"Qwen2.5-72B",
     R"({"model_type":"qwen2","hidden_size":8192,"intermediate_size":29568,"num_hidden_layers":80,
"num_attention_heads":64,"num_key_value_heads":8,"vocab_size":152064,"max_window_layers":80,
"sliding_window":131072,"use_sliding_window":false,"tie_word_embeddings":false,
"bos_token_id":151643,"eos_token_id":151643,"torch_dtype":"bfloat16"})",
     72'706'203'648, "biases on query, key and value only"},
    {"Qwen3-32B",
     R"({"model_type":"qwen3","hidden_size":5120,"intermediate_size":25600,"num_hidden_layers":64,
"num_attention_heads":64,"num_key_value_heads":8,"head_dim":128,"vocab_size":151936,
"attention_bias":false,"bos_token_id":151643,"eos_token_id":151645,"torch_dtype":"bfloat16"})",
     32'762'123'264, "norms of query and key"},
    {"BLOOM-176B",
     R"({"model_type":"bloom","n_embed":14336,"n_layer":70,"num_attention_heads":112,
"vocab_size":250880,"seq_length":2048,"bos_token_id":1,"eos_token_id":2,"pad_token_id":3})",
     176'247'271'424, "ALiBi"},
    {"YaLM-100B", R"({"model_type":"yalm","num_attention_heads":128,"torch_dtype":"bfloat16"})",
     100'961'568'640, "embeddings of 2048 filled up with zeros to 10240"},
    {"GPT-J-6B",
     R"({"model_type":"gptj","n_embd":4096,"n_layer":28,"n_head":16,"n_positions":2048,
"rotary_dim":64,"vocab_size":50400,"activation_function":"gelu_new","tie_word_embeddings":false})",
     6'050'882'784, "attention and ffn in parallel behind one norm"},
    {"CodeGen-16B",
     R"({"model_type":"codegen","n_embd":6144,"n_layer":34,"n_head":24,"n_positions":2048,
"rotary_dim":64,"vocab_size":51200,"bos_token_id":1,"eos_token_id":50256,
"torch_dtype":"float16"})",
     16'032'155'648, "rotary positions on 64 of 256 elements, by neighbours"},
    {"GLM-4-9B",
     R"({"model_type":"glm","hidden_size":4096,"intermediate_size":13696,"num_hidden_layers":40,
"num_attention_heads":32,"num_key_value_heads":2,"head_dim":128,"vocab_size":151552,
"attention_bias":true,"eos_token_id":[151329,151336,151338],"pad_token_id":151329,
"torch_dtype":"bfloat16"})",
     9'399'951'360, "gated ffn with silu"},
    {"Mixtral-8x7B",
     R"({"model_type":"mixtral","hidden_size":4096,"intermediate_size":14336,
"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":32000,
"num_local_experts":8,"num_experts_per_tok":2,"sliding_window":null,"torch_dtype":"bfloat16"})",
     46'702'792'704, "12879925248 of them for each token"},
    {"Qwen1.5-MoE-A2.7B",
     R"({"model_type":"qwen2_moe","hidden_size":2048,"intermediate_size":5632,
"num_hidden_layers":24,"num_attention_heads":16,"num_key_value_heads":16,"vocab_size":151936,
"num_experts":60,"num_experts_per_tok":4,"moe_intermediate_size":1408,
"shared_expert_intermediate_size":5632,"use_sliding_window":false,"torch_dtype":"bfloat16"})",
     14'315'784'192, "60 experts of 1408, 4 for each token, and one of 5632 for all"},
    {"Qwen3-30B-A3B",
     R"({"model_type":"qwen3_moe","hidden_size":2048,"intermediate_size":6144,
"num_hidden_layers":48,"num_attention_heads":32,"num_key_value_heads":4,"head_dim":128,
"vocab_size":151936,"num_experts":128,"num_experts_per_tok":8,"moe_intermediate_size":768,
"norm_topk_prob":true,"tie_word_embeddings":false,"torch_dtype":"bfloat16"})",
     30'532'122'624, "128 experts of 768, 8 for each token"},
    {"OLMoE-1B-7B",
     R"({"model_type":"olmoe","hidden_size":2048,"intermediate_size":1024,"num_hidden_layers":16,
"num_attention_heads":16,"num_key_value_heads":16,"vocab_size":50304,"num_experts":64,
"num_experts_per_tok":8,"norm_topk_prob":false,"torch_dtype":"bfloat16"})",
     6'919'161'856, "norms of query and key, over all heads"},
    {"Phi-3.5-MoE",
     R"({"model_type":"phimoe","hidden_size":4096,"intermediate_size":6400,"num_hidden_layers":32,
"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":32064,"attention_bias":true,
"lm_head_bias":true,"num_local_experts":16,"num_experts_per_tok":2,"torch_dtype":"bfloat16"})",
     41'873'153'344, "16 experts of 6400, 2 for each token"},
    {"DBRX",
     R"({"model_type":"dbrx","d_model":6144,"n_heads":48,"n_layers":40,"max_seq_len":32768,
"vocab_size":100352,"attn_config":{"clip_qkv":8,"kv_n_heads":8,"rope_theta":500000},
"ffn_config":{"ffn_hidden_size":10752,"moe_num_experts":16,"moe_top_k":4},
"torch_dtype":"bfloat16"})",
     131'596'523'520, "queries, keys and values within 8"},
    {"GPT-NeoX-20B",
     R"({"model_type":"gpt_neox","hidden_size":6144,"intermediate_size":24576,
"num_hidden_layers":44,"num_attention_heads":64,"vocab_size":50432,"hidden_act":"gelu_fast",
"rotary_pct":0.25,"rotary_emb_base":10000,"torch_dtype":"float16"})",
     20'554'567'680, "attention and ffn in parallel, a norm for each"},
};

TEST_F(FamiliesTest, PublishedModelsHaveThePublishedParameters) {
  for (const Published& model : kPublished) {
    EXPECT_EQ(read_model_facts(path_of(model.config)).parameters, model.parameters) << model.name;
    EXPECT_THAT(inspected(model.config),
                AllOf(HasSubstr(model.words), HasSubstr("no weights are there"),
                      HasSubstr(std::to_string(model.parameters))))
        << model.name;
  }
}

TEST_F(FamiliesTest, UnknownModelsAreRefusedWithTheListOfWhatRuns) {
  EXPECT_THAT(refused(R"({"model_type":"deepseek_v3"})"),
              AllOf(HasSubstr("\"deepseek_v3\", but only \"opt\" (OPT), \"llama\" (Llama)"),
                    HasSubstr("\"yalm\" (YaLM)"), HasSubstr("\"mixtral\" (Mixtral)")));
  for (const char* later : {"deepseek_v2", "gpt_oss", "llama4", "jamba"}) {
    EXPECT_THAT(refused(fmt::format(R"({{"model_type":"{}"}})", later)), HasSubstr(later));
  }
}

TEST_F(FamiliesTest, WhatChangesTheResultAndCannotRunIsRefusedByItsKey) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model_type":"llama","rope_scaling":{"type":"dynamic","factor":2.0}})",
       "rope_scaling: rope_type is \"dynamic\""},
      {R"({"model_type":"llama","rope_scaling":{"rope_type":"linear"}})",
       "rope_scaling: factor is not there"},
      {R"({"model_type":"llama","rope_scaling":8})", "rope_scaling is 8, not an object"},
      {R"({"model_type":"llama","rope_scaling":{"rope_type":"llama3","factor":8,
"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":8192}})",
       "high_freq_factor 4 is not above 4"},
      {R"({"model_type":"qwen3","rope_scaling":{"rope_type":"yarn","factor":4,
"original_max_position_embeddings":-1}})",
       "original_max_position_embeddings is -1"},
      {R"({"model_type":"llama","hidden_act":"mish"})", "hidden_act is \"mish\""},
      {R"({"model_type":"llama","partial_rotary_factor":1.5})", "partial_rotary_factor is 1.5"},
      {R"({"model_type":"llama","rms_norm_eps":"1e-5"})", "rms_norm_eps is \"1e-5\", not a number"},
      {R"({"model_type":"llama","hidden_size":100,"num_attention_heads":3})",
       "num_attention_heads 3"},
      {R"({"model_type":"qwen3","num_hidden_layers":2,"layer_types":["full_attention"]})",
       "layer_types has 1 items for 2 layers"},
      {R"({"model_type":"qwen3","num_hidden_layers":1,"layer_types":["chunked_attention"]})",
       "layer_types has \"chunked_attention\""},
      {R"({"model_type":"gpt2","add_cross_attention":true})", "add_cross_attention is true"},
      {R"({"model_type":"bloom","apply_residual_connection_post_layernorm":true})",
       "apply_residual_connection_post_layernorm is true"},
      {R"({"model_type":"falcon","alibi":true})", "alibi is true"},
      {R"({"model_type":"codegen","n_head":6,"n_embd":60})", "6 heads are no multiple of 4"},
      {R"({"model_type":"gemma3"})", "there is no text_config"},
      {R"({"model_type":"gemma3_text","use_bidirectional_attention":true})",
       "use_bidirectional_attention is true"},
      {R"({"model_type":"mixtral","num_experts_per_tok":9})", "a row goes to 9 of 8 experts"},
      {R"({"model_type":"mixtral","num_local_experts":100000})", "none or too many"},
      {R"({"model_type":"qwen2_moe","use_sliding_window":true})", "use_sliding_window is true"},
      {R"({"model_type":"phimoe","num_experts_per_tok":3})", "num_experts_per_tok is not 2"},
      {R"({"model_type":"dbrx","ffn_config":{"moe_normalize_expert_weights":2}})",
       "moe_normalize_expert_weights is neither 1 nor null"},
      {R"({"model_type":"glm4_moe","head_dim":128,"n_group":3})", "1 of 3 equal groups"},
      {R"({"model_type":"granitemoe","logits_scaling":0})", "logits_scaling is not above 0"},
      {R"({"model_type":"yalm"})", "there is no num_attention_heads"},
      {R"({"model_type":"yalm","num_attention_heads":128,"activation_type":"gelu"})",
       "activation_type is \"gelu\""},
      {R"({"model_type":"yalm","num_attention_heads":128,"pos_encoding_type":"learned"})",
       "pos_encoding_type is \"learned\""},
      {R"({"model_type":"phi3","original_max_position_embeddings":4096,"rope_scaling":
{"type":"longrope","short_factor":[1.0],"long_factor":[1.0]}})",
       "short_factor has 1 numbers, but 48 pairs"},
  };
  for (const auto& [config, said] : cases) {
    EXPECT_THAT(refused(config), AllOf(HasSubstr("config.json"), HasSubstr(said))) << config;
  }
}

TEST_F(FamiliesTest, BothGenerationsOfRotaryKeysAreUnderstood) {
  const std::string old = R"({"model_type":"llama","rope_theta":500000.0,"rope_scaling":
{"type":"linear","factor":4.0}})";
  const std::string today = R"({"model_type":"llama","rope_theta":7.0,"rope_parameters":
{"rope_theta":500000.0,"rope_type":"linear","factor":4.0}})";
  const auto rotary_of = [&](const std::string& config) {
    return read(config).positions.rotary.front();
  };
  EXPECT_EQ(rotary_of(old).frequencies, rotary_of(today).frequencies);
  EXPECT_NEAR(rotary_of(old).frequencies[1], std::pow(500000.0, -2.0 / 128) / 4, 1e-7);
  EXPECT_EQ(rotary_of(R"({"model_type":"llama"})").frequencies.front(), 1.0F);
  EXPECT_EQ(
      rotary_of(R"({"model_type":"glm","rope_parameters":{"partial_rotary_factor":0.25}})").width,
      32);

  const stage::DecoderConfig gemma = read(R"({"model_type":"gemma3","eos_token_id":[1,106],
"text_config":{"num_hidden_layers":6,"sliding_window":512,"rope_parameters":{
"full_attention":{"rope_theta":1000000.0,"rope_type":"linear","factor":8.0},
"sliding_attention":{"rope_theta":10000.0,"rope_type":"default"}}}})");
  ASSERT_THAT(gemma.positions.rotary, SizeIs(2));
  EXPECT_NEAR(gemma.positions.rotary[0].frequencies[0], 0.125F, 1e-7);
  EXPECT_EQ(gemma.positions.rotary[1].frequencies[0], 1.0F);
  EXPECT_THAT(gemma.positions.rotary_of_layer, ElementsAre(1, 1, 1, 1, 1, 0));
  EXPECT_THAT(gemma.attention.windows, ElementsAre(512, 512, 512, 512, 512, 0));
}

TEST_F(FamiliesTest, WindowsAreThoseOfTheFamily) {
  EXPECT_THAT(read(R"({"model_type":"mistral","num_hidden_layers":2})").attention.windows,
              ElementsAre(4096, 4096));
  EXPECT_THAT(read(R"({"model_type":"mistral","sliding_window":null})").attention.windows,
              SizeIs(0));
  EXPECT_THAT(read(R"({"model_type":"qwen2","sliding_window":5})").attention.windows, SizeIs(0));
  EXPECT_THAT(read(R"({"model_type":"qwen2","sliding_window":5,"use_sliding_window":true,
"num_hidden_layers":3,"max_window_layers":1})")
                  .attention.windows,
              ElementsAre(0, 5, 5));
  EXPECT_THAT(read(R"({"model_type":"qwen3","sliding_window":5,"use_sliding_window":true,
"num_hidden_layers":2,"layer_types":["sliding_attention","full_attention"]})")
                  .attention.windows,
              ElementsAre(5, 0));
  EXPECT_THAT(read(R"({"model_type":"gemma2","num_hidden_layers":3})").attention.windows,
              ElementsAre(4096, 0, 4096));
}

TEST_F(FamiliesTest, LongSequencesOfPhi3TurnByTheLongFactors) {
  const stage::DecoderConfig model = read(R"({"model_type":"phi3","hidden_size":32,
"num_attention_heads":4,"max_position_embeddings":131072,"original_max_position_embeddings":4096,
"rope_scaling":{"type":"longrope","short_factor":[1.0,2.0,4.0,8.0],
"long_factor":[2.0,4.0,8.0,16.0]}})");
  const stage::RotaryTraits& rotary = model.positions.rotary.front();
  EXPECT_EQ(rotary.long_after, 4096);
  EXPECT_FLOAT_EQ(rotary.factor,
                  static_cast<float>(std::sqrt(1 + std::log(32.0) / std::log(4096.0))));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(rotary.frequencies[i], 2 * rotary.long_frequencies[i]);
  }
  EXPECT_FALSE(model.positions.turns_long(4096));
  EXPECT_TRUE(model.positions.turns_long(4097));
}

TEST_F(FamiliesTest, SamplingOfGenerationConfig) {
  const auto sampling_of = [&](const std::string& text) {
    support::write_file(folder_.path() / "generation_config.json", text);
    return open_model(path_of(R"({"model_type":"llama"})")).sampling;
  };
  const ModelSamplingDefaults all = sampling_of(
      R"({"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":20,"repetition_penalty":1.05,
          "min_p":0.05,"no_repeat_ngram_size":3})");
  EXPECT_EQ(all.temperature, 0.6F);
  EXPECT_EQ(all.top_p, 0.9F);
  EXPECT_EQ(all.top_k, 20);
  EXPECT_EQ(all.repetition_penalty, 1.05F);
  EXPECT_EQ(all.min_p, 0.05F);
  EXPECT_EQ(all.no_repeat_ngram, 3);
  EXPECT_EQ(sampling_of(R"({"do_sample":true})").temperature, 1.0F);
  const ModelSamplingDefaults greedy = sampling_of(R"({"temperature":0.6,"top_p":null})");
  EXPECT_FALSE(greedy.temperature || greedy.top_p || greedy.top_k || greedy.repetition_penalty);
  // Where tokens are the likeliest ones min_p chooses none away, but n-grams still count.
  const ModelSamplingDefaults idle = sampling_of(R"({"min_p":0.05,"no_repeat_ngram_size":2})");
  EXPECT_FALSE(idle.min_p);
  EXPECT_EQ(idle.no_repeat_ngram, 2);
  EXPECT_THAT(refusal([&] { sampling_of(R"({"do_sample":true,"top_p":2})"); }),
              AllOf(HasSubstr("generation_config.json"), HasSubstr("top_p is 2")));
}

}  // namespace
}  // namespace sluice::launcher
