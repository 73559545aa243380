// Folders of adapters: what is read out of them, and what is refused, with file and key.
#include "launcher/model/adapter_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/adapter_files.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;
using stage::LayerProduct;
using support::FloatTensor;
using support::refusal;
using support::write_file;
using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kData = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data";
const std::string kStem = "base_model.model.model.layers.0.self_attn.";

class AdapterFolderTest : public testing::Test {
 protected:
  /// A pair of rank 2 for `module` ("q_proj"), of the widths of llama3-like.
  std::vector<FloatTensor> pair(const std::string& module, std::int64_t outputs,
                                std::int64_t rank = 2) const {
    const std::int64_t inputs = model_.config.hidden;
    const auto values = [](std::int64_t count) {
      return std::vector<float>(static_cast<std::size_t>(count), 0.5F);
    };
    return {{kStem + module + ".lora_A.weight", {rank, inputs}, values(rank * inputs)},
            {kStem + module + ".lora_B.weight", {outputs, rank}, values(outputs * rank)}};
  }
  std::vector<FloatTensor> query() const {
    return pair("q_proj", model_.config.attention.query_width());
  }

  OpenedAdapters open(const json& config, const std::vector<FloatTensor>& tensors) {
    write_file(folder_.path() / "adapter_config.json", config.dump());
    write_file(folder_.path() / "adapter_model.safetensors", support::safetensors_bytes(tensors));
    return open_adapters({"name=" + folder_.path().string()}, model_);
  }
  stage::AdapterPart part_of(const json& config) {
    return open(config, query()).specs->at(0).parts.at(0);
  }
  std::string refused(const json& config, const std::vector<FloatTensor>& tensors) {
    return refusal([&] { open(config, tensors); });
  }

  static json config() { return {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 8}}; }
  static json with(json more) {
    json made = config();
    made.update(more);
    return made;
  }

  ModelFolder model_ = open_model((kData / "families" / "llama3-like").string());
  support::ScratchFolder folder_;
};

TEST_F(AdapterFolderTest, SaysWhichProductsItHasAndHowMuchTheyCount) {
  const OpenedAdapters opened = open(config(), query());
  ASSERT_EQ(opened.specs->size(), 1U);
  EXPECT_EQ(opened.specs->at(0).name, "name");
  ASSERT_EQ(opened.specs->at(0).parts.size(), 1U);
  const stage::AdapterPart part = opened.specs->at(0).parts[0];
  EXPECT_EQ(part.layer, 0);
  EXPECT_EQ(part.product, LayerProduct::query);
  EXPECT_EQ(part.rank, 2);
  EXPECT_EQ(part.scale, 4.0F);
  const auto& names = opened.folders.at(0).names;
  EXPECT_EQ(names.at("layers.0.attention.query.lora_A").tensor, kStem + "q_proj.lora_A.weight");
  EXPECT_EQ(names.at("layers.0.attention.query.lora_B").tensor, kStem + "q_proj.lora_B.weight");
}

// peft: LoraLayer.update_layer, get_pattern_key.
TEST_F(AdapterFolderTest, ScalesAsPeftDoes) {
  EXPECT_EQ(part_of(with({{"use_rslora", true}})).scale, static_cast<float>(8 / std::sqrt(2.0)));
  EXPECT_EQ(part_of(with({{"alpha_pattern", {{"q_proj", 1}}}})).scale, 0.5F);
  EXPECT_EQ(part_of(with({{"alpha_pattern", {{"v_proj", 1}, {"layers.0.*", 6}}}})).scale, 3.0F);
  EXPECT_EQ(part_of(with({{"alpha_pattern", {{"proj", 1}}}})).scale, 4.0F)
      << "a pattern is for whole parts of the name";
  EXPECT_EQ(part_of(with({{"r", 16}, {"rank_pattern", {{"self_attn.q_proj", 2}}}})).scale, 4.0F);
}

TEST_F(AdapterFolderTest, AFusedModuleIsEachOfItsProducts) {
  model_ = open_model((kData / "families" / "bloom").string());
  const std::string stem = "base_model.model.transformer.h.1.self_attention.query_key_value.";
  const std::int64_t hidden = model_.config.hidden;
  const std::vector<float> values(static_cast<std::size_t>(2 * 3 * hidden), 1.0F);
  const std::vector<float> lower(values.begin(), values.begin() + 2 * hidden);
  const OpenedAdapters opened = open(config(), {{stem + "lora_A.weight", {2, hidden}, lower},
                                                {stem + "lora_B.weight", {3 * hidden, 2}, values}});
  ASSERT_EQ(opened.specs->at(0).parts.size(), 3U);
  const std::int64_t width = model_.config.attention.head_width;
  const auto& names = opened.folders.at(0).names;
  EXPECT_EQ(names.at("layers.1.attention.key.lora_B").rows,
            (offload::RowRange{width, width, 3 * width}));
  EXPECT_EQ(names.at("layers.1.attention.key.lora_A").rows, offload::RowRange{});
}

TEST_F(AdapterFolderTest, TheDigestIsOfNameSettingsAndValues) {
  const auto digest = [](const OpenedAdapters& opened) { return opened.folders.at(0).digest; };
  const std::uint64_t first = digest(open(config(), query()));
  EXPECT_EQ(digest(open(config(), query())), first);
  EXPECT_NE(digest(open(with({{"lora_alpha", 9}}), query())), first);
  std::vector<FloatTensor> changed = query();
  changed[0].values[0] = 0.25F;
  EXPECT_NE(digest(open(config(), changed)), first);
  open(config(), query());
  const OpenedAdapters renamed = open_adapters({"other=" + folder_.path().string()}, model_);
  EXPECT_NE(digest(renamed), first);
}

TEST_F(AdapterFolderTest, SettingsThatCannotRunAreRefusedByTheirKey) {
  const std::pair<json, const char*> cases[] = {
      {with({{"peft_type", "IA3"}}), "peft_type is \"IA3\""},
      {with({{"bias", "all"}}), "bias is \"all\""},
      {with({{"use_dora", true}}), "use_dora"},
      {with({{"lora_bias", true}}), "lora_bias"},
      {with({{"modules_to_save", {"lm_head"}}}), "modules_to_save is set"},
      {with({{"layer_replication", {{0, 1}}}}), "layer_replication is set"},
      {with({{"trainable_token_indices", {1}}}), "trainable_token_indices is set"},
      {with({{"init_lora_weights", "pissa"}}), "init_lora_weights is \"pissa\""},
      {with({{"r", 0}}), "r"},
      {with({{"rank_pattern", 3}}), "rank_pattern must be an object"},
      {with({{"alpha_pattern", {{"q_proj", -1}}}}), "alpha_pattern of \"q_proj\""},
      {with({{"alpha_pattern", {{"(", 1}}}}), "alpha_pattern"},
  };
  for (const auto& [settings, part] : cases) {
    EXPECT_THAT(refused(settings, query()),
                AllOf(HasSubstr("adapter_config.json"), HasSubstr(part)))
        << settings;
  }
  part_of(with({{"modules_to_save", nullptr}, {"init_lora_weights", "gaussian"}}));
}

TEST_F(AdapterFolderTest, TensorsThatDoNotFitAreRefusedByTheirName) {
  const std::int64_t width = model_.config.attention.query_width();
  std::vector<FloatTensor> half = query();
  half.pop_back();
  std::vector<FloatTensor> magnitude = query();
  magnitude.push_back({kStem + "q_proj.lora_magnitude_vector", {width}, {}});
  magnitude.back().values.resize(static_cast<std::size_t>(width));
  std::vector<FloatTensor> head = query();
  for (FloatTensor& tensor : head) {
    tensor.name.replace(0, kStem.size() + 6, "base_model.model.lm_head");
  }
  std::vector<FloatTensor> beyond = query();
  for (FloatTensor& tensor : beyond) tensor.name.replace(tensor.name.find(".0."), 3, ".99.");
  const std::tuple<std::vector<FloatTensor>, const char*, const char*> cases[] = {
      {half, "q_proj.lora_A.weight", "without its lora_B"},
      {magnitude, "lora_magnitude_vector", "is no lora_A.weight or lora_B.weight"},
      {head, "lm_head.lora_A.weight", "belongs to no product of a decoder layer"},
      {beyond, "layers.99.", "belongs to no product of a decoder layer"},
      {pair("q_proj", width, 3), "q_proj.lora_A.weight", "adapter_config.json says rank 2"},
      {pair("q_proj", width + 1), "q_proj.lora_B.weight", "the two are not of the same model"},
      {{}, "adapter_model.safetensors", "has no tensor"},
  };
  for (const auto& [tensors, name, part] : cases) {
    EXPECT_THAT(refused(config(), tensors),
                AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr(name), HasSubstr(part)));
  }
}

TEST_F(AdapterFolderTest, AFolderThatIsNoneIsRefused) {
  const std::string folder = folder_.path().string();
  EXPECT_THAT(refusal([&] { open_adapters({"a=" + folder}, model_); }),
              HasSubstr("adapter_config.json"));
  write_file(folder_.path() / "adapter_config.json", config().dump());
  EXPECT_THAT(refusal([&] { open_adapters({"a=" + folder}, model_); }),
              AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("safe_serialization")));
  open(config(), query());
  for (const std::vector<std::string>& texts :
       {std::vector<std::string>{folder}, {"=" + folder}, {"a="}, {"a=" + folder, "a=" + folder}}) {
    EXPECT_THROW(open_adapters(texts, model_), ConfigError) << texts.front();
  }
  EXPECT_EQ(open_adapters({}, model_).specs, nullptr);
}

}  // namespace
}  // namespace sluice::launcher
