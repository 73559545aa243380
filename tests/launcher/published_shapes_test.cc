// Models by their published names, with nothing of them here.
#include "launcher/model/published_shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <set>
#include <sstream>

#include "launcher/model/inspect_command.h"
#include "launcher/model/model_facts.h"
#include "launcher/model/opened_model.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::refusal;
using testing::AllOf;
using testing::HasSubstr;

/// With an empty cache of the hub.
class PublishedShapesTest : public testing::Test {
 protected:
  PublishedShapesTest() {
    if (const char* before = std::getenv("HF_HUB_CACHE")) before_ = before;
    ::setenv("HF_HUB_CACHE", folder_.path().c_str(), 1);
  }
  ~PublishedShapesTest() override {
    before_ ? ::setenv("HF_HUB_CACHE", before_->c_str(), 1) : ::unsetenv("HF_HUB_CACHE");
  }
  support::ScratchFolder folder_;

 private:
  std::optional<std::string> before_;
};

TEST_F(PublishedShapesTest, ParametersAreThePublishedOnes) {
  struct Case {
    const char* name;
    std::uint64_t parameters;
  };
  const Case cases[] = {
      {"facebook/opt-125m", 125239296},
      {"facebook/opt-350m", 331196416},
      {"facebook/opt-1.3b", 1315758080},
      {"facebook/opt-6.7b", 6658473984},
      {"huggyllama/llama-7b", 6738415616},
      {"huggyllama/llama-30b", 32528943616},
      {"huggyllama/llama-65b", 65285660672},
      {"meta-llama/Llama-2-13b-hf", 13015864320},
      {"meta-llama/Llama-2-70b-hf", 68976648192},
      {"TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1100048384},
      {"meta-llama/Llama-3.1-8B", 8030261248},
      {"meta-llama/Llama-3.1-70B", 70553706496},
      {"meta-llama/Llama-3.1-405B", 405853388800},
      {"meta-llama/Llama-3.2-1B", 1235814400},
      {"meta-llama/Llama-3.2-3B", 3212749824},
      {"mistralai/Mistral-7B-v0.1", 7241732096},
      {"mistralai/Mistral-7B-v0.3", 7248023552},
      {"mistralai/Mistral-Nemo-Base-2407", 12247782400},
      {"mistralai/Mistral-Small-Instruct-2409", 22247282688},
      {"mistralai/Mistral-Small-24B-Base-2501", 23572403200},
      {"mistralai/Mistral-Large-Instruct-2407", 122610069504},
      {"mistralai/Ministral-8B-Instruct-2410", 8019808256},
      {"Qwen/Qwen2.5-0.5B", 494032768},
      {"Qwen/Qwen2.5-1.5B", 1543714304},
      {"Qwen/Qwen2.5-3B", 3085938688},
      {"Qwen/Qwen2.5-7B", 7615616512},
      {"Qwen/Qwen2.5-14B", 14770033664},
      {"Qwen/Qwen2.5-32B", 32763876352},
      {"Qwen/Qwen2.5-72B", 72706203648},
      {"Qwen/Qwen3-4B", 4022468096},
      {"Qwen/Qwen3-8B", 8190735360},
      {"Qwen/Qwen3-14B", 14768307200},
      {"Qwen/Qwen3-32B", 32762123264},
      {"openai-community/gpt2", 124439808},
      {"openai-community/gpt2-medium", 354823168},
      {"openai-community/gpt2-large", 774030080},
      {"openai-community/gpt2-xl", 1557611200},
      {"distilbert/distilgpt2", 81912576},
      {"bigscience/bloom-560m", 559214592},
      {"bigscience/bloom-1b1", 1065314304},
      {"bigscience/bloom-1b7", 1722408960},
      {"bigscience/bloom-3b", 3002557440},
      {"bigscience/bloom-7b1", 7069016064},
      {"bigscience/bloom", 176247271424},
      {"EleutherAI/gpt-j-6b", 6050882784},
      {"EleutherAI/gpt-neox-20b", 20554567680},
      {"EleutherAI/pythia-70m", 70426624},
      {"EleutherAI/pythia-160m", 162322944},
      {"EleutherAI/pythia-410m", 405334016},
      {"EleutherAI/pythia-1b", 1011781632},
      {"EleutherAI/pythia-1.4b", 1414647808},
      {"EleutherAI/pythia-2.8b", 2775208960},
      {"EleutherAI/pythia-6.9b", 6857302016},
      {"EleutherAI/pythia-12b", 11846072320},
      {"tiiuae/falcon-7b", 6921720704},
      {"THUDM/glm-4-9b-hf", 9399951360},
      {"microsoft/Phi-3-mini-4k-instruct", 3821079552},
      {"microsoft/Phi-3-medium-4k-instruct", 13960238080},
      {"microsoft/phi-4", 14659507200},
      {"microsoft/Phi-4-mini-instruct", 3836021760},
      {"google/gemma-2-2b", 2614341888},
      {"google/gemma-2-9b", 9241705984},
      {"google/gemma-2-27b", 27227128320},
      {"google/gemma-3-270m", 268098176},
      {"google/gemma-3-1b-pt", 999885952},
      {"yandex/yalm-100b", 100961568640},
      {"mistralai/Mixtral-8x7B-v0.1", 46702792704},
      {"mistralai/Mixtral-8x22B-v0.1", 140620634112},
      {"Qwen/Qwen1.5-MoE-A2.7B", 14315784192},
      {"Qwen/Qwen3-30B-A3B", 30532122624},
      {"Qwen/Qwen3-235B-A22B", 235093634560},
      {"allenai/OLMoE-1B-7B-0924", 6919161856},
      {"microsoft/Phi-3.5-MoE-instruct", 41873153344},
      {"databricks/dbrx-base", 131596523520},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(read_model_facts(one.name).parameters, one.parameters) << one.name;
  }
}

/// Where only a rounded number of parameters was published.
TEST_F(PublishedShapesTest, SizesAreNearThoseInTheNames) {
  struct Case {
    const char* name;
    double billions;
  };
  const Case cases[] = {{"facebook/opt-2.7b", 2.65},
                        {"facebook/opt-13b", 12.85},
                        {"facebook/opt-30b", 29.97},
                        {"facebook/opt-66b", 65.7},
                        {"facebook/opt-175b", 175},
                        {"Qwen/Qwen2-72B-Instruct", 72.7},
                        {"Qwen/Qwen3-0.6B", 0.6},
                        {"Qwen/Qwen3-1.7B", 1.72},
                        {"Salesforce/codegen-350M-mono", 0.356},
                        {"Salesforce/codegen-2B-mono", 2.78},
                        {"Salesforce/codegen-6B-mono", 7.07},
                        {"Salesforce/codegen-16B-mono", 16.03},
                        {"tiiuae/falcon-40b", 41.3},
                        {"tiiuae/falcon-180B", 179.5},
                        {"tiiuae/falcon-11B", 11.1},
                        {"THUDM/GLM-4-9B-0414", 9.4},
                        {"THUDM/GLM-4-32B-0414", 32.5},
                        {"google/gemma-3-4b-pt", 3.88},
                        {"google/gemma-3-12b-pt", 11.77},
                        {"google/gemma-3-27b-pt", 27.0}};
  for (const Case& one : cases) {
    EXPECT_NEAR(static_cast<double>(read_model_facts(one.name).parameters) / 1e9 / one.billions, 1,
                0.01)
        << one.name;
  }
}

TEST_F(PublishedShapesTest, EveryOneIsAModelThatRuns) {
  const std::vector<std::string> names = published_names();
  EXPECT_GT(names.size(), 150U);
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) {
    ASSERT_TRUE(find_published_shape(name)) << name;
    ModelFolder model;
    ASSERT_NO_THROW(model = open_model(name)) << name;
    EXPECT_EQ(model.published, name);
    EXPECT_TRUE(model.path.empty());
    EXPECT_GT(model.config.layers, 0);
  }
}

TEST_F(PublishedShapesTest, NamesAreFoundInAnyCaseAndByTheirOldForm) {
  EXPECT_EQ(open_model("Facebook/OPT-1.3B").published, "facebook/opt-1.3b");
  EXPECT_EQ(open_model("gpt2-xl").published, "openai-community/gpt2-xl");
  EXPECT_FALSE(find_published_shape("opt-1.3b")) << "only GPT-2 was published without an owner";
  EXPECT_FALSE(find_published_shape(""));
}

TEST_F(PublishedShapesTest, VariantsHaveTheirOwnTraits) {
  EXPECT_EQ(open_model("facebook/opt-350m").config.embedding.width, 512);
  EXPECT_TRUE(open_model("meta-llama/Llama-3.2-1B").config.head.tied);
  EXPECT_FALSE(open_model("meta-llama/Llama-3.1-8B").config.head.tied);
  EXPECT_EQ(open_model("mistralai/Mistral-7B-v0.1").config.attention.window_of(0), 4096);
  EXPECT_EQ(open_model("mistralai/Mistral-7B-v0.3").config.attention.window_of(0), 0);
  EXPECT_EQ(open_model("google/gemma-3-4b-it").config.attention.window_of(0), 1024);
  EXPECT_EQ(open_model("google/gemma-3-4b-it").config.attention.window_of(5), 0);
  EXPECT_EQ(open_model("bigscience/bloom").config.dtype, DType::bf16);
  EXPECT_EQ(open_model("bigscience/bloom-3b").config.dtype, DType::f16);
}

TEST_F(PublishedShapesTest, InspectSaysThatNothingIsHere) {
  std::ostringstream out;
  EXPECT_EQ(inspect("facebook/opt-175b", {}, out), 0);
  EXPECT_THAT(out.str(), AllOf(HasSubstr("none: what follows is what its published config.json"),
                               HasSubstr("96 layers, hidden 12288, 96 heads of 128"),
                               HasSubstr("tokenizer    none is here")));
  out.str("");
  EXPECT_EQ(inspect("facebook/opt-175b", {.json = true}, out), 0);
  EXPECT_THAT(out.str(), HasSubstr("\"folder\": \"\""));
}

TEST_F(PublishedShapesTest, WeightsMustBeHere) {
  EXPECT_THAT(refusal([] { open_checkpoint(open_model("facebook/opt-1.3b")); }),
              AllOf(HasSubstr("facebook/opt-1.3b: neither a folder here nor a model in the"),
                    HasSubstr("hf download facebook/opt-1.3b")));
}

TEST_F(PublishedShapesTest, WhatIsInTheCacheCountsMore) {
  const auto model = folder_.path() / "models--facebook--opt-1.3b";
  std::filesystem::create_directories(model / "refs");
  std::filesystem::create_directories(model / "snapshots" / "0123abcd");
  support::write_file(model / "refs" / "main", "0123abcd");
  support::write_file(model / "snapshots" / "0123abcd" / "config.json",
                      R"({"model_type":"opt","num_hidden_layers":3})");
  for (const char* name : {"facebook/opt-1.3b", "facebook/OPT-1.3b"}) {
    const ModelFolder folder = open_model(name);
    EXPECT_EQ(folder.config.layers, 3) << name;
    EXPECT_EQ(folder.path, model / "snapshots" / "0123abcd") << name;
    EXPECT_EQ(folder.published, "") << name;
  }
}

TEST_F(PublishedShapesTest, AnUnknownNameIsRefusedWithTheNearest) {
  EXPECT_THAT(refusal([] { open_model("facebook/opt-1.3c"); }),
              AllOf(HasSubstr("hf download facebook/opt-1.3c"),
                    HasSubstr("; did you mean 'facebook/opt-1.3b'?")));
  EXPECT_THAT(refusal([] { open_model("opt-175b"); }),
              AllOf(HasSubstr("there is no folder opt-175b"),
                    HasSubstr("; did you mean 'facebook/opt-175b'?")));
  EXPECT_THAT(refusal([] { open_model("nobody/has-such-a-thing-at-all"); }),
              testing::Not(HasSubstr("did you mean")));
}

}  // namespace
}  // namespace sluice::launcher
