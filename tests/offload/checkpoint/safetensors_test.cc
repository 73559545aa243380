#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "offload/checkpoint/checkpoint.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using support::little;
using support::refusal;
using testing::HasSubstr;

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return little(header.size(), 8) + header + std::string(data_bytes, 'd');
}

// A header of one tensor with these fields.
std::string one(const std::string& fields) { return "{\"layers.0.w\":{" + fields + "}}"; }

class SafetensorsTest : public testing::Test {
 protected:
  std::vector<TensorRecord> read(const std::string& bytes) {
    return read_safetensors(support::write_file(path_, bytes), 7);
  }

  support::ScratchFolder folder_;
  std::filesystem::path path_ = folder_.path() / "model.safetensors";
};

TEST_F(SafetensorsTest, TensorsAreExtentsOfTheFile) {
  const std::string header = R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},)"
                             R"("__metadata__":{"format":"pt"},)"
                             R"("a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}   )";
  const std::vector<TensorRecord> records = read(file_of(header, 32));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].name, "a");
  EXPECT_EQ(records[0].dtype, DType::bf16);
  EXPECT_EQ(records[0].shape, (std::vector<std::int64_t>{4}));
  EXPECT_EQ(records[0].offset, 8 + header.size());
  EXPECT_EQ(records[0].bytes, 8U);
  EXPECT_EQ(records[0].file, 7);
  EXPECT_EQ(records[1].name, "b");
  EXPECT_EQ(records[1].dtype, DType::f32);
  EXPECT_EQ(records[1].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(records[1].offset, 8 + header.size() + 8);
  EXPECT_EQ(records[1].bytes, 24U);
}

TEST_F(SafetensorsTest, EmptyTensorsAndScalarsAreTensors) {
  const std::string header = R"({"none":{"dtype":"F16","shape":[0,5],"data_offsets":[0,0]},)"
                             R"("scalar":{"dtype":"F16","shape":[],"data_offsets":[0,2]}})";
  const std::vector<TensorRecord> records = read(file_of(header, 2));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].name, "none");
  EXPECT_EQ(records[0].bytes, 0U);
  EXPECT_TRUE(records[1].shape.empty());
  EXPECT_EQ(records[1].bytes, 2U);
}

TEST_F(SafetensorsTest, AnEmptyHeaderHasNoTensors) { EXPECT_TRUE(read(file_of("{}", 0)).empty()); }

TEST_F(SafetensorsTest, TensorsOfOtherDtypesAreCheckedAndHarmNothing) {
  const std::string version = R"({"decoder.version":{"dtype":"I64","shape":[1],"data_offsets":)";
  const std::string weight = R"(,"layers.0.w":{"dtype":"F16","shape":[1],"data_offsets":)";
  const auto records = read(file_of(version + "[0,8]}" + weight + "[8,10]}}", 10));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_THAT(records[0].problem, HasSubstr("has the dtype I64"));
  EXPECT_EQ(records[1].name, "layers.0.w");
  EXPECT_EQ(records[1].problem, "");
  const std::string future = R"({"x":{"dtype":"F7","shape":[3],"data_offsets":)";
  const auto others = read(file_of(future + "[0,8]}" + weight + "[8,10]}}", 10));
  ASSERT_EQ(others.size(), 2U);
  EXPECT_THAT(others[0].problem, HasSubstr("\"F7\", which is not known"));
  EXPECT_THAT(refusal([&] { read(file_of(version + "[0,7]}" + weight + "[7,9]}}", 9)); }),
              HasSubstr("decoder.version"));
}

struct BadHeader {
  const char* name;
  std::string header;
  std::size_t data_bytes;
  const char* says;
};

class BadHeaderTest : public SafetensorsTest, public testing::WithParamInterface<BadHeader> {};

TEST_P(BadHeaderTest, IsRefusedNamingTheFile) {
  const std::string sentence =
      refusal([&] { read(file_of(GetParam().header, GetParam().data_bytes)); });
  EXPECT_THAT(sentence, HasSubstr(path_.string()));
  EXPECT_THAT(sentence, HasSubstr(GetParam().says));
  EXPECT_LT(sentence.size(), 600U);
}

const std::string kGood = R"("dtype":"F16","shape":[2],"data_offsets":[0,4])";

INSTANTIATE_TEST_SUITE_P(
    Hostile, BadHeaderTest,
    testing::Values(
        BadHeader{"no_object", "[1]", 0, "does not start with '{'"},
        BadHeader{"leading_space", " {}", 0, "does not start with '{'"},
        BadHeader{"cut", R"({"layers.0.w":)", 0, "no valid JSON"},
        BadHeader{"trailing_text", "{}x", 0, "no valid JSON"},
        BadHeader{"hidden_behind_nul", std::string("{}\0{", 4), 0, "NUL"},
        BadHeader{"bad_utf8", "{\"\xff\":1}", 0, "no valid JSON"},
        BadHeader{"number_beyond_double", R"({"a":1e999})", 0, "no valid JSON"},
        BadHeader{"tensor_is_number", R"({"layers.0.w":3})", 0, "an object at \"layers.0.w\""},
        BadHeader{"metadata_number", R"({"__metadata__":{"a":1}})", 0, "a map of strings"},
        BadHeader{"metadata_list", R"({"__metadata__":[]})", 0, "a map of strings"},
        BadHeader{"metadata_nested", R"({"__metadata__":{"a":{"b":"c"}}})", 0, "a map of strings"},
        BadHeader{"unknown_field", one(kGood + R"(,"more":1)"), 4, "dtype, shape or data_offsets"},
        BadHeader{"no_dtype", one(R"("shape":[2],"data_offsets":[0,4])"), 4, "lacks dtype"},
        BadHeader{"no_shape", one(R"("dtype":"F16","data_offsets":[0,4])"), 4, "lacks"},
        BadHeader{"no_offsets", one(R"("dtype":"F16","shape":[2])"), 4, "lacks"},
        BadHeader{"one_offset", one(R"("dtype":"F16","shape":[2],"data_offsets":[4])"), 4, "lacks"},
        BadHeader{"three_offsets", one(R"("dtype":"F16","shape":[2],"data_offsets":[0,4,4])"), 4,
                  "lacks"},
        BadHeader{"dtype_number", one(R"("dtype":1,"shape":[2],"data_offsets":[0,4])"), 4,
                  "a string"},
        BadHeader{"shape_text", one(R"("dtype":"F16","shape":"2","data_offsets":[0,4])"), 4,
                  "an array"},
        BadHeader{"shape_negative", one(R"("dtype":"F16","shape":[-2],"data_offsets":[0,4])"), 4,
                  "whole numbers"},
        BadHeader{"shape_fraction", one(R"("dtype":"F16","shape":[2.0],"data_offsets":[0,4])"), 4,
                  "whole numbers"},
        BadHeader{"shape_nested", one(R"("dtype":"F16","shape":[[2]],"data_offsets":[0,4])"), 4,
                  "whole numbers"},
        BadHeader{"shape_wraps_around",
                  one(R"("dtype":"F16","shape":[9223372036854775807,4,2],"data_offsets":[0,4])"), 4,
                  "beyond all sizes"},
        BadHeader{"shape_beyond_signed",
                  one(R"("dtype":"F16","shape":[9223372036854775808],"data_offsets":[0,0])"), 0,
                  "beyond all sizes"},
        BadHeader{"shape_too_small", one(R"("dtype":"F16","shape":[1],"data_offsets":[0,4])"), 4,
                  "needs 2 bytes"},
        BadHeader{"offsets_backwards", one(R"("dtype":"F16","shape":[2],"data_offsets":[4,0])"), 4,
                  "lies at bytes 4 to 0"},
        BadHeader{"beyond_the_file", one(kGood), 3, "lies at bytes 0 to 4 of a buffer of 3"},
        BadHeader{"data_left_over", one(kGood), 5, "end at byte 4 of a buffer of 5"},
        BadHeader{"hole_in_front", one(R"("dtype":"F16","shape":[2],"data_offsets":[2,6])"), 6,
                  "begins at byte 2"},
        BadHeader{"overlap",
                  "{\"a\":{" + kGood + R"(},"b":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})",
                  6, "\"b\" begins at byte 2"},
        BadHeader{"same_name_twice", "{\"a\":{" + kGood + "},\"a\":{" + kGood + "}}", 4,
                  "\"a\" stands twice"},
        BadHeader{"same_field_twice", one(kGood + R"(,"dtype":"F32")"), 4,
                  "\"dtype\" stands twice"},
        BadHeader{"deep", "{\"a\":" + std::string(200'000, '['), 0, "an object at \"a\""},
        BadHeader{"deep_in_shape", one("\"shape\":" + std::string(200'000, '[')), 0,
                  "whole numbers"},
        BadHeader{"long_name", "{\"" + std::string(100'000, 'n') + "\":1}", 0, "nnn..."}),
    [](const auto& test) { return test.param.name; });

TEST_F(SafetensorsTest, HeaderLengthsThatCannotBeAreRefused) {
  for (std::size_t bytes = 0; bytes < 8; ++bytes) {
    EXPECT_THAT(refusal([&] { read(std::string(bytes, '\0')); }), HasSubstr("too few"));
  }
  const std::string tail = "{}" + std::string(100, ' ');
  for (const std::uint64_t length : {std::uint64_t{103}, std::uint64_t{100'000'001}, UINT64_MAX}) {
    EXPECT_THAT(refusal([&] { read(little(length, 8) + tail); }),
                HasSubstr("header length at offset 0 is " + std::to_string(length)));
  }
  EXPECT_THAT(refusal([&] { read(little(0, 8) + tail); }), HasSubstr("does not start"));
}

TEST_F(SafetensorsTest, OnlyRegularFilesAreRead) {
  EXPECT_THAT(refusal([&] { read_safetensors(folder_.path() / "none", 0); }),
              HasSubstr("No such file"));
  EXPECT_THAT(refusal([&] { read_safetensors(folder_.path(), 0); }), HasSubstr("regular file"));
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(refusal([&] { read_safetensors(path_, 0); }), HasSubstr("regular file"));
}

TEST_F(SafetensorsTest, MutatedFilesAreReadOrRefusedAndNothingElse) {
  const std::string good = file_of(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},)"
      R"("layers.0.b":{"dtype":"F32","shape":[5],"data_offsets":[12,32]}})",
      32);
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    try {
      for (const TensorRecord& record : read(support::mutated(good, seed))) {
        EXPECT_LE(record.offset + record.bytes, std::filesystem::file_size(path_)) << seed;
      }
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(path_.string())) << seed;
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);  // most mutations hit the header
  EXPECT_LT(refused, 2000);  // some only the data or a name
}

}  // namespace
}  // namespace sluice::offload
