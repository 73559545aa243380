#include "offload/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "tests/support/scratch_folder.h"
#include "tests/support/torch_archive.h"

namespace sluice::offload {
namespace {

using support::little;
using support::refusal;
using support::write_file;
using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kReference =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "opt-reference";

std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = crc >> 1U ^ (0xedb88320U & (~(crc & 1U) + 1U));
  }
  return ~crc;
}

// A line of tensors.txt, which list_tensors.py wrote with PyTorch's own reader.
struct Listed {
  std::string folder, file, name, dtype, crc;
  std::vector<std::int64_t> shape;
};
std::vector<Listed> listed_tensors() {
  std::istringstream lines(support::read_file(kReference / "tensors.txt"));
  std::vector<Listed> tensors;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Listed& tensor = tensors.emplace_back();
    words >> tensor.folder >> tensor.file >> tensor.name >> tensor.dtype >> tensor.crc;
    for (std::int64_t extent = 0; words >> extent;) tensor.shape.push_back(extent);
  }
  return tensors;
}

TEST(CheckpointTest, EveryReferenceTensorIsFoundWithItsShapeAndBytes) {
  std::map<std::string, std::size_t> count;
  std::map<std::string, Checkpoint> opened;
  std::map<std::filesystem::path, std::string> contents;
  for (const Listed& listed : listed_tensors()) {
    SCOPED_TRACE(listed.folder + " " + listed.name);
    ++count[listed.folder];
    if (!opened.contains(listed.folder)) {
      opened.emplace(listed.folder, Checkpoint::open(kReference / listed.folder));
    }
    const Checkpoint& checkpoint = opened.at(listed.folder);
    const TensorRecord* record = checkpoint.find(listed.name);
    ASSERT_NE(record, nullptr);
    EXPECT_EQ(record->name, listed.name);
    EXPECT_EQ(record->dtype, DType::f16);
    EXPECT_EQ(listed.dtype, "float16");
    EXPECT_EQ(record->shape, listed.shape);
    const std::filesystem::path& path = checkpoint.files()[static_cast<std::size_t>(record->file)];
    EXPECT_EQ(path.filename(), listed.file);
    std::string& content = contents[path];
    if (content.empty()) content = support::read_file(path);
    EXPECT_EQ(crc32(content.substr(record->offset, record->bytes)),
              std::stoul(listed.crc, nullptr, 16));
  }
  EXPECT_EQ(count.size(), 7U);
  for (const auto& [folder, tensors] : count) {
    EXPECT_EQ(opened.at(folder).tensors().size(), tensors) << folder;
  }
}

// A safetensors file of these tensors, one f16 each.
std::string file_of(const std::vector<std::string>& names) {
  std::string header = "{";
  for (std::size_t i = 0; i < names.size(); ++i) {
    header += (i == 0 ? "\"" : ",\"") + names[i] +
              R"(":{"dtype":"F16","shape":[1],"data_offsets":[)" + std::to_string(2 * i) + "," +
              std::to_string(2 * i + 2) + "]}";
  }
  header += "}";
  return little(header.size(), 8) + header + std::string(2 * names.size(), 'd');
}

class CheckpointFolderTest : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& bytes) {
    write_file(folder_.path() / name, bytes);
  }
  void write_index(const std::string& weight_map) {
    write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + weight_map + "}");
  }
  Checkpoint open() { return Checkpoint::open(folder_.path()); }
  std::string refused() {
    return refusal([&] { open(); });
  }

  support::ScratchFolder folder_;
};

TEST_F(CheckpointFolderTest, SafetensorsGoBeforePickles) {
  write("pytorch_model.bin", "not even looked at");
  write("model.safetensors", file_of({"layers.0.w"}));
  EXPECT_EQ(open().files().front().filename(), "model.safetensors");
}

TEST_F(CheckpointFolderTest, TheDigestIsOfContentNotOfPlace) {
  write("model.safetensors", file_of({"layers.0.w", "layers.1.w"}));
  const std::uint64_t digest = open().digest();
  const support::ScratchFolder other;
  std::filesystem::copy(folder_.path() / "model.safetensors", other.path());
  EXPECT_EQ(Checkpoint::open(other.path()).digest(), digest);
  write("model.safetensors", file_of({"layers.0.w", "layers.2.w"}));
  EXPECT_NE(open().digest(), digest);
}

TEST_F(CheckpointFolderTest, AFolderWithoutWeightsIsRefused) {
  EXPECT_THAT(refused(), AllOf(HasSubstr(folder_.path().string()), HasSubstr("holds no weights")));
  EXPECT_THAT(refusal([&] { Checkpoint::open(folder_.path() / "none"); }),
              HasSubstr("holds no weights"));
}

TEST_F(CheckpointFolderTest, MegatronsFilesAreReadInTheFolderAndBelowIt) {
  const std::filesystem::path yalm = kReference.parent_path() / "families" / "yalm";
  const Checkpoint below = Checkpoint::open(yalm);
  EXPECT_TRUE(Checkpoint::is_in(yalm));
  EXPECT_EQ(below.files().size(), 7U);
  ASSERT_NE(below.find("layer_03.attention.dense.weight"), nullptr);
  EXPECT_EQ(below.find("layer_03.attention.dense.weight")->dtype, DType::bf16);
  EXPECT_EQ(below.find("layer_03.input_layernorm.weight"), nullptr);
  EXPECT_NE(below.find("layer_08.output_bias"), nullptr);
  EXPECT_FALSE(Checkpoint::is_in(folder_.path()));
  std::filesystem::copy(yalm / "weights", folder_.path());
  write("layer_09-model_01-model_states.pt", "of another split");
  EXPECT_TRUE(Checkpoint::is_in(folder_.path()));
  EXPECT_EQ(open().digest(), below.digest());
}

TEST_F(CheckpointFolderTest, ADanglingLinkIsNamed) {
  write("pytorch_model.bin", "x");
  std::filesystem::create_symlink("blobs/gone", folder_.path() / "model.safetensors");
  EXPECT_THAT(refused(), AllOf(HasSubstr("model.safetensors"), HasSubstr("No such file")));
}

TEST_F(CheckpointFolderTest, TheIndexSaysWhatCounts) {
  write("a.safetensors", file_of({"layers.0.w", "version"}));
  write("b.safetensors", file_of({"layers.0.w", "layers.1.w"}));
  write_index(R"({"layers.0.w":"a.safetensors","layers.1.w":"b.safetensors"})");
  const Checkpoint checkpoint = open();
  ASSERT_EQ(checkpoint.tensors().size(), 2U);  // "version" and the second "layers.0.w" are stale
  EXPECT_EQ(checkpoint.find("layers.0.w")->file, 0);
  EXPECT_EQ(checkpoint.find("version"), nullptr);
  EXPECT_EQ(checkpoint.promised("layers.0.w"), nullptr);
  write_index(R"({"layers.0.w":"a.safetensors","layers.1.w":"c.safetensors"})");
  EXPECT_THAT(refused(), HasSubstr("names the shard c.safetensors, which is not there"));
}

TEST_F(CheckpointFolderTest, WhatAShardLacksIsMissedWhenItIsWanted) {
  write("a.safetensors", file_of({"layers.0.w"}));
  write_index(R"({"layers.0.w":"a.safetensors","layers.2.w":"a.safetensors"})");
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.find("layers.2.w"), nullptr);
  ASSERT_NE(checkpoint.promised("layers.2.w"), nullptr);
  EXPECT_EQ(*checkpoint.promised("layers.2.w"), "a.safetensors");
}

TEST_F(CheckpointFolderTest, IndexesThatAreNoneAreRefused) {
  const auto says = [&](const std::string& index) {
    write("model.safetensors.index.json", index);
    const std::string sentence = refused();
    EXPECT_THAT(sentence, HasSubstr("model.safetensors.index.json"));
    return sentence;
  };
  for (const std::string shard : {"../x", "/etc/x", "a/b", "", ".", "..", "a\\\\b", "a\\u0000b"}) {
    EXPECT_THAT(says(R"({"weight_map":{"layers.0.w":")" + shard + "\"}}"),
                HasSubstr("no plain file name for \"layers.0.w\""));
  }
  EXPECT_THAT(says(R"({"weight_map":{"layers.0.w":3}})"), HasSubstr("no plain file name"));
  EXPECT_THAT(says(R"({"weight_map":{"a":"x","a":"y"}})"), HasSubstr("\"a\" stands twice"));
  EXPECT_THAT(says(R"({"weight_map":{}})"), HasSubstr("no weight_map"));
  EXPECT_THAT(says(R"({"weight_map":"x"})"), HasSubstr("no weight_map"));
  EXPECT_THAT(says("[]"), HasSubstr("no weight_map"));
  EXPECT_THAT(says(""), HasSubstr("no valid JSON"));
  EXPECT_THAT(says(std::string(100'000, '[')), HasSubstr("deeper than 8"));
}

TEST_F(CheckpointFolderTest, AFileOfTheWrongFormatIsRefused) {
  std::filesystem::copy(kReference / "opt-odd" / "pytorch_model.bin",
                        folder_.path() / "model.safetensors");
  EXPECT_THAT(refused(), HasSubstr("header length"));
  std::filesystem::remove(folder_.path() / "model.safetensors");
  std::filesystem::copy(kReference / "opt-pre" / "model.safetensors",
                        folder_.path() / "pytorch_model.bin");
  EXPECT_THAT(refused(), HasSubstr("no zip directory"));
}

}  // namespace
}  // namespace sluice::offload
