#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher/model/inspect_command.h"
#include "launcher/model/model_facts.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::filesystem::path kReference =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "opt-reference";

// opt-pre: 4 layers, hidden 64, ffn 256, vocabulary 512, positions 128, all f16.
constexpr std::uint64_t kLayerBytes = 2 * (4 * (64 * 64 + 64) + 2 * 64 * 256 + 256 + 64 + 4 * 64);
constexpr std::uint64_t kEmbeddingBytes = 2 * (512 * 64 + 130 * 64);
constexpr std::uint64_t kHeadBytes = 2 * (512 * 64 + 2 * 64);

TEST(InspectTest, SizesAreThoseOfTheTensors) {
  const ModelFacts facts = read_model_facts(kReference / "opt-pre");
  EXPECT_EQ(facts.layer_bytes, std::vector<std::uint64_t>(4, kLayerBytes));
  EXPECT_EQ(facts.embedding_bytes, kEmbeddingBytes);
  EXPECT_EQ(facts.head_bytes, kHeadBytes);
  EXPECT_EQ(facts.weight_bytes, 4 * kLayerBytes + kEmbeddingBytes + 2 * 2 * 64);  // one table
  EXPECT_EQ(facts.parameters, facts.weight_bytes / 2);
  EXPECT_EQ(facts.dtypes, "f16");
  EXPECT_EQ(facts.kv_elements_per_token, 2U * 4 * 64);
  EXPECT_EQ(facts.activation_bytes_per_token, 256U);
  EXPECT_EQ(facts.format, "safetensors");
  EXPECT_TRUE(facts.remarks.empty());
}

TEST(InspectTest, EveryReferenceModelIsWhole) {
  for (const char* name : {"galactica-like", "opt-deep", "opt-fullvocab", "opt-odd",
                           "opt-old-prefix", "opt-post-proj"}) {
    EXPECT_GT(read_model_facts(kReference / name).parameters, 0U) << name;
  }
}

TEST(InspectTest, TextSaysWhatTheModelIs) {
  std::ostringstream out;
  EXPECT_EQ(inspect(kReference / "opt-post-proj", {}, out), 0);
  EXPECT_THAT(out.str(),
              AllOf(HasSubstr("4 layers, hidden 64, 4 heads of 16, ffn 256"),
                    HasSubstr("post-norm"), HasSubstr("embeddings of 32 projected to 64"),
                    HasSubstr("3 safetensors files"), Not(HasSubstr("stage 0"))));
  out.str("");
  inspect(kReference / "galactica-like", {}, out);
  EXPECT_THAT(out.str(), AllOf(HasSubstr("no biases"), HasSubstr("gelu"),
                               HasSubstr("lm_head.weight is there but is not read")));
  out.str("");
  inspect(kReference / "opt-odd", {}, out);
  EXPECT_THAT(out.str(), HasSubstr("1 PyTorch file,"));
}

TEST(InspectTest, WeightsFillTheTiersFromTheFastestDown) {
  const ModelFacts facts = read_model_facts(kReference / "opt-pre");
  const std::uint64_t whole = 4 * kLayerBytes + kEmbeddingBytes + kHeadBytes;
  StageFit fit = fit_weights(facts, 0, 0, 1).front();
  EXPECT_EQ(fit.weight_bytes, whole);
  EXPECT_EQ(fit.device_bytes, whole);

  fit = fit_weights(facts, whole + 10, 1, 1).front();
  EXPECT_EQ(fit.device_bytes, whole);
  EXPECT_EQ(fit.slot_bytes, 0U);
  EXPECT_EQ(fit.device_left, 10U);

  const std::uint64_t slots = 2 * kLayerBytes;  // a layer is the largest part
  fit = fit_weights(facts, slots + 1000, 5000, 1).front();
  EXPECT_TRUE(fit.fits);
  EXPECT_EQ(fit.slot_bytes, slots);
  EXPECT_EQ(fit.device_bytes, 1000U);
  EXPECT_EQ(fit.host_bytes, 5000U);
  EXPECT_EQ(fit.disk_bytes, whole - 6000);
  EXPECT_EQ(fit_weights(facts, slots + 1000, 0, 1).front().disk_bytes, 0U);
  EXPECT_FALSE(fit_weights(facts, slots - 1, 0, 1).front().fits);
}

TEST(InspectTest, StagesShareTheLayers) {
  const ModelFacts facts = read_model_facts(kReference / "opt-pre");
  const std::vector<StageFit> fits = fit_weights(facts, 0, 0, 3);
  ASSERT_EQ(fits.size(), 3U);
  std::uint64_t sum = 0;
  int layers = 0;
  for (const StageFit& fit : fits) {
    EXPECT_EQ(fit.first_layer, layers);
    layers += fit.layers;
    sum += fit.weight_bytes;
  }
  EXPECT_EQ(layers, 4);
  EXPECT_EQ(sum, 4 * kLayerBytes + kEmbeddingBytes + kHeadBytes);
  EXPECT_THROW(fit_weights(facts, 0, 0, 5), ConfigError);
  EXPECT_THROW(fit_weights(facts, 0, 0, 0), ConfigError);
  EXPECT_THROW(fit_weights(facts, 0, 0, INT32_MAX), ConfigError);
}

TEST(InspectTest, TheExitStatusSaysWhetherItFits) {
  std::ostringstream out;
  EXPECT_EQ(inspect(kReference / "opt-pre", {.device_memory = 1000}, out), 4);
  EXPECT_THAT(out.str(), HasSubstr("stage 0: layers 0-3, weights"));
  EXPECT_THAT(out.str(), HasSubstr("does not fit"));
  out.str("");
  EXPECT_EQ(inspect(kReference / "opt-pre", {.device_memory = 1U << 30U, .stages = 2}, out), 0);
  EXPECT_THAT(out.str(), AllOf(HasSubstr("stage 1: layers 2-3"), HasSubstr("tokens of f16 KV")));
}

// Groups of 64: a row of 64 elements is 36 bytes, one of 256 is 144.
TEST(InspectTest, CompressedWeightsAreCountedAsTheyAreKept) {
  constexpr std::uint64_t kVectors = 2 * (4 * 64 + 256 + 64 + 4 * 64);
  constexpr std::uint64_t kMatrices = 36 * (4 * 64 + 256) + 144 * 64;
  const ModelFacts facts = read_model_facts(kReference / "opt-pre", offload::Compression::four_bit);
  EXPECT_EQ(facts.layer_bytes, std::vector<std::uint64_t>(4, kMatrices + kVectors));
  EXPECT_EQ(facts.embedding_bytes, 36 * 512 + 2 * 130 * 64);
  EXPECT_EQ(facts.head_bytes, 36 * 512 + 2 * 2 * 64);
  EXPECT_EQ(facts.parameters, read_model_facts(kReference / "opt-pre").parameters);
  EXPECT_EQ(facts.dtypes, "q4, f16");
  std::ostringstream out;
  inspect(kReference / "opt-pre", {.compress_weight = offload::Compression::eight_bit}, out);
  EXPECT_THAT(out.str(), HasSubstr("q8, f16"));
}

TEST(InspectTest, JsonHasTheSameNumbers) {
  std::ostringstream out;
  EXPECT_EQ(inspect(kReference / "opt-pre", {.device_memory = 2 * kLayerBytes, .json = true}, out),
            0);
  const auto report = nlohmann::json::parse(out.str());
  EXPECT_EQ(report["layers"], 4);
  EXPECT_EQ(report["layer_bytes"][3], kLayerBytes);
  EXPECT_EQ(report["embedding_bytes"], kEmbeddingBytes);
  EXPECT_EQ(report["kv_bytes_per_token_f16"], 2 * 2 * 4 * 64);
  EXPECT_EQ(report["files"][0], "model.safetensors");
  EXPECT_EQ(report["eos_ids"][0], 2);
  EXPECT_EQ(report["stages"][0]["slot_bytes"], 2 * kLayerBytes);
  EXPECT_EQ(report["stages"][0]["device_bytes"], 0);
}

TEST(InspectTest, AModelThatIsNotWholeIsRefused) {
  const support::ScratchFolder folder;
  std::filesystem::copy(kReference / "opt-pre", folder.path());
  std::string config = support::read_file(folder.path() / "config.json");
  config.replace(config.find("\"num_hidden_layers\": 4"), 22, "\"num_hidden_layers\": 5");
  support::write_file(folder.path() / "config.json", config);
  EXPECT_THAT(support::refusal([&] { read_model_facts(folder.path()); }),
              HasSubstr("no tensor \"layers.4.self_attn_layer_norm.weight\""));
}

}  // namespace
}  // namespace sluice::launcher
