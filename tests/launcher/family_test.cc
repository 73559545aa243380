#include "launcher/model/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::refusal;
using testing::AllOf;
using testing::HasSubstr;

const Family& opt() { return *families().front(); }

/// Checkpoints of these tensors, of two f16 elements each, which are their text.
class FamilyTest : public testing::Test {
 protected:
  offload::StoredNames find(const std::map<std::string, std::string>& tensors) {
    std::string header = "{";
    std::string data;
    for (const auto& [name, text] : tensors) {
      header += (header == "{" ? "\"" : ",\"") + name +
                R"(":{"dtype":"F16","shape":[2,1],"data_offsets":[)" + std::to_string(data.size()) +
                "," + std::to_string(data.size() + 4) + "]}";
      data += text;
    }
    header += "}";
    support::write_file(folder_.path() / "model.safetensors",
                        support::little(header.size(), 8) + header + data);
    return find_tensors(opt(), offload::Checkpoint::open(folder_.path()), model_);
  }
  std::string head_of(const std::map<std::string, std::string>& tensors, bool tied) {
    model_.head.tied = tied;
    return find(tensors).at("head.tokens.weight").tensor;
  }

  support::ScratchFolder folder_;
  stage::DecoderConfig model_;
};

TEST_F(FamilyTest, NamesAreFoundUnderEveryPrefix) {
  model_.layers = 2;
  for (const std::string prefix : {"", "model.", "decoder.", "model.decoder."}) {
    const offload::StoredNames names =
        find({{prefix + "embed_tokens.weight", "aaaa"}, {prefix + "layers.1.fc1.bias", "bbbb"}});
    EXPECT_EQ(names.at("embedding.tokens.weight").tensor, prefix + "embed_tokens.weight");
    EXPECT_EQ(names.at("layers.1.mlp.up.bias").tensor, prefix + "layers.1.fc1.bias");
    EXPECT_EQ(names.at("layers.1.mlp.down.bias").tensor, "layers.1.fc2.bias");  // is not there
    EXPECT_FALSE(names.contains("layers.2.mlp.up.bias"));
  }
}

TEST_F(FamilyTest, TwoTensorsForOneNameAreRefusedAndOthersPassedOver) {
  EXPECT_THAT(refusal([&] {
                find({{"decoder.embed_tokens.weight", "aaaa"}, {"embed_tokens.weight", "aaaa"}});
              }),
              HasSubstr("two tensors for embed_tokens.weight: \"embed_tokens.weight\" and"));
  EXPECT_NO_THROW(find({{"decoder.version", "aaaa"}, {"version", "aaaa"}}));
}

TEST_F(FamilyTest, AStoredHeadCountsOverTheConfig) {
  const std::pair<std::string, std::string> table{"model.decoder.embed_tokens.weight", "aaaa"};
  EXPECT_EQ(head_of({table, {"lm_head.weight", "aaab"}}, true), "lm_head.weight");
  EXPECT_FALSE(model_.head.tied);
  EXPECT_EQ(head_of({table, {"lm_head.weight", "aaab"}}, false), "lm_head.weight");
  EXPECT_FALSE(model_.head.tied);
  head_of({table, {"lm_head.weight", "aaaa"}}, true);  // a copy
  EXPECT_TRUE(model_.head.tied);
  head_of({table, {"lm_head.weight", "aaaa"}}, false);
  EXPECT_FALSE(model_.head.tied);
  head_of({table}, true);
  EXPECT_TRUE(model_.head.tied);
  EXPECT_EQ(head_of({table}, false), "lm_head.weight");  // not there: refused when it is read
  EXPECT_FALSE(model_.head.tied);
}

TEST_F(FamilyTest, OfATiedPairEitherNameWillDo) {
  model_.head.tied = true;
  const offload::StoredNames names = find({{"lm_head.weight", "aaaa"}});
  EXPECT_TRUE(model_.head.tied);
  EXPECT_EQ(names.at("embedding.tokens.weight").tensor, "lm_head.weight");
  model_.head.tied = false;
  EXPECT_EQ(find({{"lm_head.weight", "aaaa"}}).at("embedding.tokens.weight").tensor,
            "embed_tokens.weight");
}

}  // namespace
}  // namespace sluice::launcher
