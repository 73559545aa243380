#include "offload/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using support::refusal;

const std::filesystem::path kReference =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "opt-reference";

class CheckpointSourceTest : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({});
};

// Any piece of a tensor is what lies at its extent; in both formats, and across shards.
TEST_P(CheckpointSourceTest, ReadsThePiecesOfEveryTensor) {
  const Checkpoint checkpoint = Checkpoint::open(kReference / GetParam());
  const auto source = make_checkpoint_source(checkpoint, *disk_);
  for (const TensorRecord& record : checkpoint.tensors()) {
    SCOPED_TRACE(record.name);
    const bool vector = record.shape.size() == 1;
    const WeightInfo info = source->find(canonical_name(record.name), vector ? 1 : record.shape[0],
                                         record.shape.back());
    EXPECT_EQ(info.dtype, record.dtype);
    EXPECT_TRUE(source->has(canonical_name(record.name)));
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

INSTANTIATE_TEST_SUITE_P(Reference, CheckpointSourceTest,
                         testing::Values("opt-post-proj", "opt-old-prefix"));

TEST(CheckpointSourceErrorsTest, AbsentTensorsAndOtherShapesAreRefusedNamingBoth) {
  const auto disk = DiskEngine::make({});
  const Checkpoint checkpoint = Checkpoint::open(kReference / "opt-pre");
  const auto source = make_checkpoint_source(checkpoint, *disk);
  EXPECT_FALSE(source->has("lm_head.weight"));
  EXPECT_THAT(refusal([&] { source->find("lm_head.weight", 512, 64); }),
              AllOf(HasSubstr("opt-pre"), HasSubstr("no tensor \"lm_head.weight\""),
                    HasSubstr("[512, 64]")));
  EXPECT_THAT(
      refusal([&] { source->find("layers.0.fc1.weight", 64, 256); }),
      AllOf(HasSubstr("model.safetensors"), HasSubstr("[256, 64]"), HasSubstr("[64, 256]")));
  EXPECT_THAT(refusal([&] { source->find("layers.0.fc1.bias", 1, 255); }),
              AllOf(HasSubstr("[256]"), HasSubstr("[255]")));
  EXPECT_THAT(refusal([&] { source->find("layers.0.fc1.bias", 256, 1); }), HasSubstr("[256, 1]"));
}

TEST(CheckpointSourceErrorsTest, AFileThatIsGoneIsNamedAtItsFirstRead) {
  const auto disk = DiskEngine::make({});
  const support::ScratchFolder folder;
  std::filesystem::copy(kReference / "opt-old-prefix" / "pytorch_model.bin", folder.path());
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto source = make_checkpoint_source(checkpoint, *disk);
  const WeightInfo info = source->find("final_layer_norm.bias", 1, 64);
  std::filesystem::remove(folder.path() / "pytorch_model.bin");
  char target[128];
  IoGroup group;
  EXPECT_THAT(refusal([&] { source->read(info, 0, 128, target, group); }),
              HasSubstr("pytorch_model.bin"));
}

}  // namespace
}  // namespace sluice::offload
