#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "offload/checkpoint/checkpoint.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/torch_archive.h"

namespace sluice::offload {
namespace {

using support::little;
using support::pickled_dict;
using support::refusal;
using support::TensorText;
using support::zip_of;
using support::ZipPart;
using testing::HasSubstr;

const std::filesystem::path kTorch =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "torch";

std::vector<ZipPart> parts(const TensorText& tensor = {}) {
  return {{"a/data.pkl", pickled_dict({{"layers.0.w", tensor.pickled()}})},
          {"a/byteorder", "little"},
          {"a/data/0", std::string(24, 'd')},
          {"a/version", "3\n"}};
}

class TorchZipTest : public testing::Test {
 protected:
  std::vector<TensorRecord> read(const std::string& bytes) {
    return read_torch_zip(support::write_file(path_, bytes), 3);
  }
  std::string refused(const std::string& bytes) {
    const std::string sentence = refusal([&] { read(bytes); });
    EXPECT_THAT(sentence, HasSubstr(path_.string()));
    return sentence;
  }
  std::string refused(const std::vector<ZipPart>& list) { return refused(zip_of(list)); }

  support::ScratchFolder folder_;
  std::filesystem::path path_ = folder_.path() / "pytorch_model.bin";
};

TEST_F(TorchZipTest, TensorsAreExtentsOfTheFile) {
  const TensorText tensor{.offset = 2, .shape = {2, 2}, .strides = {2, 1}};
  for (const bool zip64 : {false, true}) {
    const std::string bytes = zip_of(parts(tensor), zip64);
    const auto records = read(bytes);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].name, "layers.0.w");
    EXPECT_EQ(records[0].dtype, DType::f32);
    EXPECT_EQ(records[0].shape, (std::vector<std::int64_t>{2, 2}));
    EXPECT_EQ(records[0].file, 3);
    EXPECT_EQ(records[0].offset, bytes.find(std::string(24, 'd')) + 8);
    EXPECT_EQ(records[0].bytes, 16U);
  }
}

TEST_F(TorchZipTest, StorageMayBeSharedAndLargerThanItsTensors) {
  auto list = parts();
  list[0].bytes = pickled_dict({{"embed_tokens.weight", TensorText{}.pickled()},
                                {"lm_head.weight", TensorText{}.pickled()}});
  list[2].bytes += "more";
  const auto records = read(zip_of(list));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].offset, records[1].offset);
}

TEST_F(TorchZipTest, StridesOfSingleRowsMeanNothing) {
  EXPECT_EQ(read(zip_of(parts({.shape = {1, 6}, .strides = {77, 1}})))[0].bytes, 24U);
  EXPECT_EQ(read(zip_of(parts({.shape = {6, 1}, .strides = {1, 9}})))[0].bytes, 24U);
  EXPECT_EQ(read(zip_of(parts({.shape = {0, 3}, .strides = {5, 5}})))[0].bytes, 0U);
  EXPECT_EQ(read(zip_of(parts({.shape = {}, .strides = {}})))[0].bytes, 4U);
}

TEST_F(TorchZipTest, WhatPyTorchWritesIsRead) {
  const auto module = read_torch_zip(kTorch / "module.bin", 0);  // OrderedDict with _metadata
  ASSERT_EQ(module.size(), 2U);
  EXPECT_EQ(module[0].name, "fc1.weight");
  const std::string bytes = support::read_file(kTorch / "module.bin");
  float third = 0;
  bytes.copy(reinterpret_cast<char*>(&third), 4, module[0].offset + 8);
  EXPECT_EQ(third, 2.0F);

  const auto dtypes = read_torch_zip(kTorch / "dtypes.bin", 0);
  ASSERT_EQ(dtypes.size(), 4U);
  EXPECT_THAT(dtypes[3].problem, HasSubstr("torch.LongStorage"));
  EXPECT_EQ(dtypes[0].dtype, DType::bf16);
  EXPECT_EQ(dtypes[1].dtype, DType::f16);
  EXPECT_EQ(dtypes[2].dtype, DType::f32);
  float first = 0;
  support::read_file(kTorch / "dtypes.bin")
      .copy(reinterpret_cast<char*>(&first), 4, dtypes[2].offset);
  EXPECT_EQ(first, 4.0F);  // row 1 of the ramp: a storage offset

  EXPECT_EQ(read_torch_zip(kTorch / "parameter.bin", 0).size(), 1U);
}

TEST_F(TorchZipTest, WhatPyTorchWritesButWeDoNotReadIsSaidByName) {
  const auto says = [](const char* file) {
    return refusal([&] { read_torch_zip(kTorch / file, 0); });
  };
  const auto problem = [](const char* file) {
    return read_torch_zip(kTorch / file, 0).front().problem;
  };
  EXPECT_THAT(problem("transposed.bin"), HasSubstr("has the strides [1, 4]"));
  EXPECT_THAT(problem("integers.bin"), HasSubstr("torch.LongStorage"));
  EXPECT_THAT(says("legacy.bin"), HasSubstr("before 1.6"));
  EXPECT_THAT(says("legacy.bin"), HasSubstr("torch.save(torch.load("));
  EXPECT_THAT(says("module-object.bin"), HasSubstr("'torch.nn.modules.activation.ReLU'"));
}

TEST_F(TorchZipTest, TensorsThatDoNotFitTheirStorageAreRefused) {
  EXPECT_THAT(refused(parts({.key = "1"})), HasSubstr("which the archive lacks"));
  EXPECT_THAT(refused(parts({.key = "../version"})), HasSubstr("which the archive lacks"));
  EXPECT_THAT(refused(parts({.elements = 7})), HasSubstr("storage of 7 elements"));
  EXPECT_THAT(refused(parts({.elements = INT64_MAX})), HasSubstr("elements of 4 bytes"));
  EXPECT_THAT(refused(parts({.offset = 1})), HasSubstr("takes 6 elements at 1"));
  EXPECT_THAT(refused(parts({.offset = INT64_MAX})), HasSubstr("takes 6 elements"));
  EXPECT_THAT(refused(parts({.shape = {3, 3}})), HasSubstr("takes 9 elements"));
  EXPECT_THAT(refused(parts({.shape = {INT64_MAX, INT64_MAX}})), HasSubstr("beyond all sizes"));
}

// One of them harms nothing where no model asks for it.
TEST_F(TorchZipTest, TensorsThatCannotBeWeightsSayWhy) {
  const auto problem = [&](const TensorText& tensor) {
    return read(zip_of(parts(tensor))).at(0).problem;
  };
  EXPECT_EQ(problem({}), "");
  EXPECT_THAT(problem({.strides = {1, 2}}), HasSubstr("strides [1, 2]"));
  EXPECT_THAT(problem({.strides = {0, 0}}), HasSubstr("strides [0, 0]"));
  EXPECT_THAT(problem({.type = "DoubleStorage", .elements = 3, .shape = {3}, .strides = {1}}),
              HasSubstr("torch.DoubleStorage"));
}

TEST_F(TorchZipTest, ArchivesThatAreNotTorchsAreRefused) {
  auto list = parts();
  list[0].name = "a/other.pkl";
  EXPECT_THAT(refused(list), HasSubstr("has no data.pkl"));
  list = parts();
  list.push_back({"b/data.pkl", "x"});
  EXPECT_THAT(refused(list), HasSubstr("more than one data.pkl"));
  list = parts();
  list.pop_back();
  EXPECT_THAT(refused(list), HasSubstr("has no version"));
  list = parts();
  list[1].bytes = "big";
  EXPECT_THAT(refused(list), HasSubstr("big-endian"));
  list = parts();
  list[0].bytes.resize(9U << 20U);
  EXPECT_THAT(refused(list), HasSubstr("larger than any model's"));
  EXPECT_THAT(refused(std::string()), HasSubstr("too short"));
  EXPECT_THAT(refused(std::string(100'000, 'x')), HasSubstr("no zip directory"));
  EXPECT_THAT(refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
              HasSubstr("git lfs pull"));
}

TEST_F(TorchZipTest, MutatedFilesAreReadOrRefusedAndNothingElse) {
  const std::string good = zip_of(parts());
  const std::string wide = zip_of(parts(), true);
  int refused_count = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    try {
      for (const auto& record : read(support::mutated(seed % 2 == 0 ? good : wide, seed))) {
        EXPECT_LE(record.offset + record.bytes, std::filesystem::file_size(path_)) << seed;
      }
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(path_.string())) << seed;
      ++refused_count;
    }
  }
  EXPECT_GT(refused_count, 1000);
  EXPECT_LT(refused_count, 2000);
}

}  // namespace
}  // namespace sluice::offload
