#include "launcher/model/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "launcher/model/hub_cache.h"

#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::refusal;
using support::write_file;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kReference =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "opt-reference";

class ModelFolderTest : public testing::Test {
 protected:
  ModelFolder open(const std::string& config) {
    write_file(folder_.path() / "config.json", config);
    return open_model(folder_.path());
  }
  // An OPT config with these further keys.
  ModelFolder open_with(const std::string& keys) {
    return open(R"({"model_type":"opt",)" + keys + R"("use_cache":true})");
  }
  std::string refused_with(const std::string& keys) {
    const std::string sentence = refusal([&] { open_with(keys); });
    EXPECT_THAT(sentence, HasSubstr("config.json"));
    return sentence;
  }

  support::ScratchFolder folder_;
};

TEST_F(ModelFolderTest, EveryReferenceConfigIsRead) {
  for (const char* name : {"galactica-like", "opt-deep", "opt-fullvocab", "opt-odd",
                           "opt-old-prefix", "opt-post-proj", "opt-pre"}) {
    const ModelFolder folder = open_model(kReference / name);
    EXPECT_EQ(folder.path, kReference / name);
    EXPECT_EQ(folder.config.dtype, DType::f16);
    EXPECT_TRUE(folder.config.head.tied);  // two of them have a copy, which is not read
    EXPECT_THAT(folder.eos_ids, ElementsAre(2));
  }
  const stage::DecoderConfig galactica = open_model(kReference / "galactica-like").config;
  EXPECT_EQ(galactica.layers, 4);
  EXPECT_EQ(galactica.hidden, 64);
  EXPECT_EQ(galactica.attention.query_heads, 4);
  EXPECT_EQ(galactica.mlp.width, 256);
  EXPECT_EQ(galactica.vocabulary, 640);
  EXPECT_EQ(galactica.max_positions, 128);
  EXPECT_EQ(galactica.bos, 0);
  EXPECT_FALSE(galactica.mlp.bias || galactica.attention.query_key_value_bias ||
               galactica.attention.output_bias);
  EXPECT_EQ(galactica.mlp.activation, kernels::Activation::gelu);
  const stage::DecoderConfig post = open_model(kReference / "opt-post-proj").config;
  EXPECT_EQ(post.norm.place, stage::NormPlace::after);
  EXPECT_FALSE(post.head.norm);
  EXPECT_EQ(post.embedding.width, 32);
}

TEST_F(ModelFolderTest, AbsentKeysAreWhatHuggingFaceMakesOfThem) {
  const ModelFolder folder = open(R"({"model_type":"opt"})");
  EXPECT_EQ(folder.config.layers, 12);
  EXPECT_EQ(folder.config.hidden, 768);
  EXPECT_EQ(folder.config.attention.query_heads, 12);
  EXPECT_EQ(folder.config.mlp.width, 3072);
  EXPECT_EQ(folder.config.vocabulary, 50272);
  EXPECT_EQ(folder.config.max_positions, 2048);
  EXPECT_EQ(folder.config.embedding.width, 768);
  EXPECT_EQ(folder.config.norm.place, stage::NormPlace::before);
  EXPECT_TRUE(folder.config.head.norm && folder.config.mlp.bias && folder.config.norm.affine &&
              folder.config.head.tied);
  EXPECT_EQ(folder.config.mlp.activation, kernels::Activation::relu);
  EXPECT_EQ(folder.config.dtype, DType::f32);
  EXPECT_EQ(folder.config.bos, 2);
  EXPECT_EQ(folder.config.pad, 1);
  EXPECT_THAT(folder.eos_ids, ElementsAre(2));
  EXPECT_EQ(open_with(R"("hidden_size":96,"word_embed_proj_dim":null,)").config.embedding.width,
            96);
  EXPECT_EQ(open_with(R"("dtype":"bfloat16",)").config.dtype, DType::bf16);
}

TEST_F(ModelFolderTest, FlagsOfTheVariants) {
  EXPECT_FALSE(open_with(R"("_remove_final_layer_norm":true,)").config.head.norm);
  EXPECT_FALSE(open_with(R"("do_layer_norm_before":false,)").config.head.norm);
  EXPECT_FALSE(open_with(R"("tie_word_embeddings":false,)").config.head.tied);
  EXPECT_FALSE(open_with(R"("layer_norm_elementwise_affine":false,)").config.norm.affine);
}

TEST_F(ModelFolderTest, GenerationConfigSaysWhatEndsAnAnswer) {
  const auto generation = [&](const std::string& text) {
    write_file(folder_.path() / "generation_config.json", text);
    return open_with(R"("eos_token_id":[7,8],)").eos_ids;
  };
  EXPECT_THAT(generation(R"({"eos_token_id":[3,4]})"), ElementsAre(3, 4));
  EXPECT_THAT(generation(R"({"eos_token_id":5})"), ElementsAre(5));
  EXPECT_THAT(generation(R"({"eos_token_id":null})"), ElementsAre(7, 8));
  EXPECT_THAT(generation("{}"), ElementsAre(7, 8));
  for (const char* bad : {R"({"eos_token_id":[]})", R"({"eos_token_id":[2,"x"]})",
                          R"({"eos_token_id":50272})", R"({"eos_token_id":-1})", "[", "[]"}) {
    EXPECT_THAT(refusal([&] { generation(bad); }), HasSubstr("generation_config.json")) << bad;
  }
}

TEST_F(ModelFolderTest, TheDigestIsOfWhatWasRead) {
  const std::uint64_t digest = open_with("").digest;
  EXPECT_EQ(open_with(R"("dropout":0.1,)").digest, digest);
  EXPECT_NE(open_with(R"("hidden_size":1536,)").digest, digest);
  EXPECT_NE(open_with(R"("enable_bias":false,)").digest, digest);
  EXPECT_NE(open_with(R"("eos_token_id":3,)").digest, digest);
}

TEST_F(ModelFolderTest, WrongTypesAndRangesAreRefusedByKey) {
  EXPECT_THAT(refused_with(R"("hidden_size":"768",)"), HasSubstr("hidden_size is \"768\", not"));
  EXPECT_THAT(refused_with(R"("hidden_size":768.0,)"), HasSubstr("hidden_size is 768.0"));
  EXPECT_THAT(refused_with(R"("hidden_size":null,)"), HasSubstr("hidden_size is null"));
  EXPECT_THAT(refused_with(R"("hidden_size":true,)"), HasSubstr("hidden_size is true"));
  EXPECT_THAT(refused_with(R"("hidden_size":2147483648,)"), HasSubstr("of 32 bits"));
  EXPECT_THAT(refused_with(R"("hidden_size":-2147483649,)"), HasSubstr("of 32 bits"));
  EXPECT_THAT(refused_with(R"("hidden_size":18446744073709551615,)"), HasSubstr("of 32 bits"));
  EXPECT_THAT(refused_with(R"("hidden_size":0,)"), HasSubstr("hidden_size is 0"));
  EXPECT_THAT(refused_with(R"("num_attention_heads":7,)"), HasSubstr("num_attention_heads 7"));
  EXPECT_THAT(refused_with(R"("enable_bias":1,)"),
              HasSubstr("enable_bias is 1, not true or false"));
  EXPECT_THAT(refused_with(R"("activation_function":3,)"), HasSubstr("not a string"));
  EXPECT_THAT(refused_with(R"("activation_function":"mish",)"), HasSubstr("only relu, gelu"));
  EXPECT_THAT(refused_with(R"("torch_dtype":"int8",)"), HasSubstr("torch_dtype is \"int8\""));
  EXPECT_THAT(refused_with(R"("quantization_config":{},)"), HasSubstr("quantised"));
  EXPECT_THAT(refused_with(R"("ffn_dim":1,"ffn_dim":2,)"), HasSubstr("\"ffn_dim\" stands twice"));
}

/// Eight bytes of it for each of its elements would be more memory than there is.
TEST_F(ModelFolderTest, AHeadTooWideForItsFrequenciesIsRefused) {
  const auto says = [&](const std::string& config) { return refusal([&] { open(config); }); };
  EXPECT_THAT(says(R"({"model_type":"llama","head_dim":2147483646,"num_attention_heads":1,
                       "num_key_value_heads":1})"),
              HasSubstr("0 rotary frequencies do not fit a width of 2147483646"));
  EXPECT_THAT(says(R"({"model_type":"gptj","rotary_dim":2147483646})"),
              HasSubstr("rotary positions turn 2147483646 of the"));
}

TEST_F(ModelFolderTest, OtherModelsAndOtherFilesAreRefused) {
  const auto says = [&](const std::string& config) { return refusal([&] { open(config); }); };
  EXPECT_THAT(says(R"({"model_type":"mamba"})"), HasSubstr("model_type is \"mamba\""));
  EXPECT_THAT(says("{}"), HasSubstr("only \"opt\" (OPT), "));
  EXPECT_THAT(says("[]"), HasSubstr("no JSON object"));
  EXPECT_THAT(says(""), HasSubstr("no valid JSON"));
  EXPECT_THAT(says(std::string(100'000, '[')), HasSubstr("deeper than"));
  EXPECT_THAT(says(std::string(5U << 20U, ' ')), HasSubstr("more than the"));
  std::filesystem::remove(folder_.path() / "config.json");
  EXPECT_THAT(refusal([&] { open_model(folder_.path()); }), HasSubstr("has no config.json"));
  EXPECT_THAT(refusal([&] { open_model(folder_.path() / "none"); }), HasSubstr("no folder"));
  EXPECT_THAT(refusal([&] { open_model("./opt-none"); }), HasSubstr("there is no folder"));
  const auto file = write_file(folder_.path() / "x", "");
  EXPECT_THAT(refusal([&] { open_model(file); }), HasSubstr("is no folder"));
}

// Sets the variables that say where the cache is, and puts them back.
class HubCacheTest : public ModelFolderTest {
 protected:
  HubCacheTest() {
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      ::unsetenv(name);
    }
  }
  ~HubCacheTest() override {
    for (const auto& [name, value] : before_) {
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }
  }
  // A cached model of this many layers under `cache`, as the hub's tools lay it out.
  void make_model(const std::filesystem::path& cache, int layers) {
    const auto model = folder_.path() / cache / "models--facebook--opt-none";
    std::filesystem::create_directories(model / "refs");
    std::filesystem::create_directories(model / "snapshots" / "0123abcd");
    write_file(model / "refs" / "main", "0123abcd\n");
    write_file(model / "snapshots" / "0123abcd" / "config.json",
               R"({"model_type":"opt","num_hidden_layers":)" + std::to_string(layers) + "}");
  }
  void set(const char* name, const std::filesystem::path& value) {
    ::setenv(name, (folder_.path() / value).c_str(), 1);
  }
  static int layers() { return open_model("facebook/opt-none").config.layers; }

  static constexpr const char* kVariables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                               "XDG_CACHE_HOME", "HOME"};
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(HubCacheTest, TheNearestVariableSaysWhereTheCacheIs) {
  make_model("home/.cache/huggingface/hub", 1);
  make_model("xdg/huggingface/hub", 2);
  make_model("hf/hub", 3);
  make_model("cache", 4);
  set("HOME", "home");
  EXPECT_EQ(layers(), 1);
  set("XDG_CACHE_HOME", "xdg");
  EXPECT_EQ(layers(), 2);
  set("HF_HOME", "hf");
  EXPECT_EQ(layers(), 3);
  set("HF_HUB_CACHE", "cache");
  EXPECT_EQ(layers(), 4);
  ::unsetenv("HF_HUB_CACHE");
  make_model("legacy", 5);
  set("HUGGINGFACE_HUB_CACHE", "legacy");
  EXPECT_EQ(layers(), 5);
}

TEST_F(HubCacheTest, VariablesAreExpandedAsTheHubsLibraryExpandsThem) {
  // What huggingface_hub 2.4.0 makes of them, with HOME=<folder>/home.
  const std::string home = (folder_.path() / "home").string();
  struct Case {
    const char* variable;
    std::string value;
    std::string cache;
  };
  const Case cases[] = {{"HF_HUB_CACHE", "~/x", home + "/x"},
                        {"HF_HUB_CACHE", "$HOME/x/${HOME}", home + "/x/" + home},
                        {"HF_HUB_CACHE", "/x/$NOT_SET_HERE/${NOT_SET_HERE}/${/$", ""},
                        {"HF_HUB_CACHE", "relative/x", ""},
                        {"HUGGINGFACE_HUB_CACHE", "~/y", home + "/y"},
                        {"HF_HOME", "~", home + "/hub"},
                        {"HF_HOME", "", "hub"},
                        {"HF_HOME", "~nobody-has-this-name/z", "~nobody-has-this-name/z/hub"},
                        {"XDG_CACHE_HOME", "~/c", home + "/c/huggingface/hub"},
                        {"XDG_CACHE_HOME", "", "huggingface/hub"}};
  for (const Case& one : cases) {
    for (const char* name : kVariables) ::unsetenv(name);
    set("HOME", "home");
    ::setenv(one.variable, one.value.c_str(), 1);
    const std::string cache = one.cache.empty() ? one.value : one.cache;
    EXPECT_THAT(refusal([] { open_model("facebook/opt-none"); }),
                HasSubstr("Hugging Face cache " + cache + ";"))
        << one.variable << "=" << one.value;
  }
  ::unsetenv("HOME");
  for (const char* name : kVariables) ::unsetenv(name);
  EXPECT_THAT(refusal([] { open_model("facebook/opt-none"); }),
              HasSubstr("/.cache/huggingface/hub;"));
}

TEST_F(HubCacheTest, ABrokenDownloadIsCalledOne) {
  set("HF_HUB_CACHE", "cache");
  make_model("cache", 1);
  const auto model = folder_.path() / "cache/models--facebook--opt-none";
  std::filesystem::remove(model / "snapshots/0123abcd/config.json");
  EXPECT_THAT(refusal([] { open_model("facebook/opt-none"); }),
              AllOf(HasSubstr("config.json"), HasSubstr("hf download facebook/opt-none")));
  EXPECT_EQ(download_hint(model), "");
  EXPECT_EQ(download_hint("/somewhere/snapshots/0123abcd"), "");
}

TEST_F(HubCacheTest, WhatIsNotThereComesWithTheCommandThatDownloadsIt) {
  set("HF_HUB_CACHE", "cache");
  const auto download = HasSubstr("hf download facebook/opt-none");
  const auto says = [] { return refusal([] { open_model("facebook/opt-none"); }); };
  EXPECT_THAT(says(), AllOf(download, HasSubstr((folder_.path() / "cache").string())));
  make_model("cache", 1);
  const auto main = folder_.path() / "cache/models--facebook--opt-none/refs/main";
  for (const char* bad : {"ffff", "../snapshots/0123abcd", "..", ".", ""}) {
    write_file(main, bad);
    EXPECT_THAT(says(), AllOf(download, HasSubstr("names the snapshot"))) << bad;
  }
  write_file(main, std::string(1000, 'a'));
  EXPECT_THAT(says(), HasSubstr("more than the"));
}

TEST_F(HubCacheTest, OnlyOwnerSlashNameIsAHubId) {
  set("HF_HUB_CACHE", "cache");
  // None of them is a folder where the test runs.
  for (const char* name : {"no-such-model", "no-such/b/c", "no-such/", "/no-such", "no such/model",
                           "../no-such", "no-such/..", "no-such/b\n"}) {
    EXPECT_THAT(refusal([&] { open_model(name); }), HasSubstr("there is no folder")) << name;
  }
}

}  // namespace
}  // namespace sluice::launcher
