#include "offload/weights/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "offload/weights/weight_chunks.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/stored_names.h"

namespace sluice::offload {
namespace {

using support::refusal;
using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kReference =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "opt-reference";

class CheckpointSourceTest : public testing::TestWithParam<const char*> {
 protected:
  // These files are small, and yet read as large ones are.
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({.least_direct_bytes = 0});
};

// Any piece of a tensor is what lies at its extent; in both formats, and across shards.
TEST_P(CheckpointSourceTest, ReadsThePiecesOfEveryTensor) {
  const Checkpoint checkpoint = Checkpoint::open(kReference / GetParam());
  const auto source = make_checkpoint_source(checkpoint, {}, *disk_);
  for (const TensorRecord& record : checkpoint.tensors()) {
    SCOPED_TRACE(record.name);
    const bool vector = record.shape.size() == 1;
    const WeightInfo info =
        source->find({record.name, vector ? 1 : record.shape[0], record.shape.back()});
    EXPECT_EQ(info.dtype, record.dtype);
    source->keep_on_disk(info, 0, record.bytes);  // it is there already
    const std::string file =
        support::read_file(checkpoint.files()[static_cast<std::size_t>(record.file)]);
    const std::size_t cut = record.bytes / 3 + 1;
    std::string bytes(record.bytes, '?');
    IoGroup group;
    source->read(info, cut, record.bytes - cut, bytes.data() + cut, group);
    source->read(info, 0, cut, bytes.data(), group);
    group.wait();
    EXPECT_EQ(bytes, file.substr(record.offset, record.bytes));
  }
}

// Straight from the file, a layer is one read or a few: its tensors are neighbours there. In
// PyTorch's archives, too, where a header of 64 bytes and more is between two.
TEST_P(CheckpointSourceTest, ALayerComesInFewReads) {
  const Checkpoint checkpoint = Checkpoint::open(kReference / GetParam());
  const auto source = make_checkpoint_source(checkpoint, {}, *disk_);
  GroupSpec layer{"layer 0", {}};
  std::vector<const TensorRecord*> records;
  for (const TensorRecord& record : checkpoint.tensors()) {
    if (record.name.find("layers.0.") == std::string::npos) continue;
    const bool vector = record.shape.size() == 1;
    layer.tensors.push_back({record.name, vector ? 1 : record.shape[0], record.shape.back()});
    records.push_back(&record);
  }
  const GroupPlacement placed = place_weights({layer}, {0, 0, 100}, *source).front();
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  const auto chunks = weight_chunks(placed, *source, kChunk);
  ASSERT_GE(records.size(), 10U);
  EXPECT_LE(chunks.size(), records.size() / 4);

  std::string slot(slot_offsets(placed).back(), '?');
  const std::unique_ptr<std::byte, void (*)(void*)> staging(
      static_cast<std::byte*>(std::aligned_alloc(kDiskBlock, kChunk)), std::free);
  for (const WeightChunk& chunk : chunks) {
    IoGroup group;
    read_chunk(chunk, *source, staging.get(), group);
    group.wait();
    for (const WeightChunk::Copy& copy : chunk.copies) {
      std::memcpy(slot.data() + copy.target, staging.get() + copy.source, copy.bytes);
    }
  }
  for (std::size_t t = 0; t < records.size(); ++t) {
    const TensorRecord& record = *records[t];
    const std::string file =
        support::read_file(checkpoint.files()[static_cast<std::size_t>(record.file)]);
    EXPECT_EQ(slot.substr(slot_offsets(placed)[t], record.bytes),
              file.substr(record.offset, record.bytes))
        << record.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, CheckpointSourceTest,
                         testing::Values("opt-post-proj", "opt-old-prefix"));

TEST(CheckpointSourceErrorsTest, AbsentTensorsAndOtherShapesAreRefusedNamingBoth) {
  const auto disk = DiskEngine::make({});
  const Checkpoint checkpoint = Checkpoint::open(kReference / "opt-pre");
  const auto source = make_checkpoint_source(
      checkpoint, support::without_prefix(checkpoint, "model.decoder."), *disk);
  EXPECT_THAT(refusal([&] {
                source->find({"lm_head.weight", 512, 64});
              }),
              AllOf(HasSubstr("opt-pre"), HasSubstr("no tensor \"lm_head.weight\""),
                    HasSubstr("[512, 64]")));
  EXPECT_THAT(
      refusal([&] {
        source->find({"layers.0.fc1.weight", 64, 256});
      }),
      AllOf(HasSubstr("model.safetensors"), HasSubstr("[256, 64]"), HasSubstr("[64, 256]")));
  EXPECT_THAT(refusal([&] {
                source->find({"layers.0.fc1.bias", 1, 255});
              }),
              AllOf(HasSubstr("[256]"), HasSubstr("[255]")));
  EXPECT_THAT(refusal([&] { source->find({"layers.0.fc1.bias", 256, 1}); }), HasSubstr("[256, 1]"));
}

TEST(CheckpointSourceErrorsTest, AFileThatIsGoneIsNamedAtItsFirstRead) {
  const auto disk = DiskEngine::make({});
  const support::ScratchFolder folder;
  std::filesystem::copy(kReference / "opt-old-prefix" / "pytorch_model.bin", folder.path());
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto source = make_checkpoint_source(checkpoint, {}, *disk);
  const WeightInfo info = source->find({"decoder.final_layer_norm.bias", 1, 64});
  std::filesystem::remove(folder.path() / "pytorch_model.bin");
  char target[128];
  IoGroup group;
  EXPECT_THAT(refusal([&] { source->read(info, 0, 128, target, group); }),
              HasSubstr("pytorch_model.bin"));
}

}  // namespace
}  // namespace sluice::offload
