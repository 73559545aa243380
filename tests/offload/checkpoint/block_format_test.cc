// Quantised blocks against what llama.cpp's own package makes of them, and as rows of a checkpoint.
#include "offload/checkpoint/block_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "offload/checkpoint/checkpoint.h"
#include "offload/disk/disk_engine.h"
#include "offload/weights/weight_source.h"
#include "tests/support/file_bytes.h"

namespace sluice::offload {
namespace {

const std::filesystem::path kFiles =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "gguf";

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::string widened(BlockFormat format, const std::string& blocks) {
  const auto count = static_cast<std::int64_t>(blocks.size() / block_bytes(format));
  std::vector<float> values(static_cast<std::size_t>(count * block_elements(format)));
  widen_blocks(format, reinterpret_cast<const std::byte*>(blocks.data()), count, values.data());
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST(BlockFormat, ValuesAreThoseOfTheGgufPackageBitForBit) {
  std::ifstream file(kFiles / "blocks.txt");
  std::string name;
  std::string blocks;
  std::string values;
  for (const BlockFormat format :
       {BlockFormat::q4_0, BlockFormat::q8_0, BlockFormat::q4_k, BlockFormat::q6_k}) {
    file >> name >> blocks >> values;
    ASSERT_EQ(name, name_of(format));
    EXPECT_EQ(blocks.size(), 2 * 3 * block_bytes(format));
    EXPECT_TRUE(widened(format, from_hex(blocks)) == from_hex(values)) << name;
  }
}

TEST(BlockFormat, ABlockOfEightBitsByEye) {
  std::string block("\x00\x38", 2);  // 0.5
  for (int code = -16; code < 16; ++code) block += static_cast<char>(code);
  const std::string bytes = widened(BlockFormat::q8_0, block);
  for (int i = 0; i < 32; ++i) {
    float value = 0;
    std::memcpy(&value, bytes.data() + 4 * i, sizeof(value));
    EXPECT_EQ(value, 0.5F * static_cast<float>(i - 16));
  }
}

TEST(BlockFormat, RowsOfACheckpointAreWidenedWhereTheyAreAskedFor) {
  const std::filesystem::path path = kFiles / "llama-quantised.gguf";
  const Checkpoint checkpoint = Checkpoint::open(path);
  const std::unique_ptr<DiskEngine> disk = DiskEngine::make({});
  const StoredNames names = {{"w", {"blk.0.attn_q.weight", {4, 2, 5}}}};  // rows 4, 5, 9 and 10
  const auto source = make_checkpoint_source(checkpoint, names, *disk);
  const WeightInfo info = source->find({"w", 4, 256});
  EXPECT_TRUE(info.relaid);
  EXPECT_EQ(info.dtype, DType::f32);
  EXPECT_EQ(source->extent(info, 0, 1024).disk, nullptr);
  std::string rows(3 * 1024, '\0');
  IoGroup group;
  source->read(info, 1024, rows.size(), rows.data(), group);  // without the first
  group.wait();
  const TensorRecord& record = *checkpoint.find("blk.0.attn_q.weight");
  ASSERT_EQ(record.blocks, BlockFormat::q4_k);
  const std::string file = support::read_file(path);
  std::string wanted;
  for (const std::uint64_t row : {5U, 9U, 10U}) {
    wanted += widened(record.blocks, file.substr(record.offset + row * 144, 144));
  }
  EXPECT_TRUE(rows == wanted);
}

}  // namespace
}  // namespace sluice::offload
