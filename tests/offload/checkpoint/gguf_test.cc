// GGUF headers: what is read of good ones, and that bad ones are refused by name.
#include "offload/checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "offload/checkpoint/gguf_file.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using support::GgufBytes;
using support::little;
using support::refusal;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint32_t kF32 = 0;
constexpr std::uint32_t kF16 = 1;
constexpr std::uint32_t kQ8 = 8;

const std::filesystem::path kFiles =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "gguf";

GgufBytes small() {
  GgufBytes bytes;
  bytes.add("general.architecture", "llama").add("llama.block_count", 3U).add("flag", true);
  bytes.add("llama.eps", 0.5F).add("tokens", std::vector<std::string>{"a", "", "bc"});
  bytes.add("types", std::vector<std::int32_t>{1, -2}).add("scores", std::vector<float>{0.25F});
  bytes.tensor("w", {3, 2}, kF32, std::string(24, 'x')).tensor("v", {4}, kF16, std::string(8, 'y'));
  return bytes.tensor("blocks", {64, 2}, kQ8, std::string(4 * 34, 'z'));
}

std::string refused(const std::string& bytes) {
  return refusal([&] { parse_gguf(bytes, bytes.size(), "m.gguf"); });
}

class GgufTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const GgufBytes& bytes) const {
    return support::write_file(folder_.path() / name, bytes.bytes());
  }
  support::ScratchFolder folder_;
};

TEST_F(GgufTest, ValuesAreReadByKeyAndType) {
  const GgufFile file(write("m.gguf", small()));
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count"), 3);
  EXPECT_EQ(file.real("llama.block_count"), 3.0);
  EXPECT_EQ(file.real("llama.eps"), 0.5);
  EXPECT_EQ(file.flag("flag"), true);
  EXPECT_THAT(*file.texts("tokens"), ElementsAre("a", "", "bc"));
  EXPECT_THAT(*file.integers("types"), ElementsAre(1, -2));
  EXPECT_THAT(*file.reals("scores"), ElementsAre(0.25F));
  EXPECT_FALSE(file.text("absent"));
  EXPECT_FALSE(file.integer("absent"));
  for (const auto& [key, wanted] :
       {std::pair("flag", "flag is no integer"), std::pair("llama.eps", "llama.eps is no integer"),
        std::pair("tokens", "tokens is no integer")}) {
    EXPECT_THAT(refusal([&, key = key] { file.integer(key); }),
                AllOf(HasSubstr("m.gguf"), HasSubstr(wanted)));
  }
  EXPECT_THAT(refusal([&] { file.texts("types"); }), HasSubstr("types is no list of texts"));
  EXPECT_THAT(refusal([&] { file.text("types"); }), HasSubstr("types is no text"));
}

TEST_F(GgufTest, IntegersOfAllWidthsKeepTheirSigns) {
  GgufBytes bytes;
  bytes.add_raw("u8", 0, "\xFF").add_raw("i8", 1, "\xFF").add_raw("u16", 2, "\xFE\xFF");
  bytes.add_raw("i16", 3, "\xFE\xFF").add_raw("u64", 10, std::string(8, '\xFF'));
  bytes.add_raw("i64", 11, std::string(8, '\xFF')).add_raw("f64", 12, little(0x3FF8ULL << 48, 8));
  const GgufFile file(write("m.gguf", bytes));
  EXPECT_EQ(file.integer("u8"), 255);
  EXPECT_EQ(file.integer("i8"), -1);
  EXPECT_EQ(file.integer("u16"), 65534);
  EXPECT_EQ(file.integer("i16"), -2);
  EXPECT_EQ(file.integer("u64"), INT64_MAX);
  EXPECT_EQ(file.integer("i64"), -1);
  EXPECT_EQ(file.real("f64"), 1.5);
}

TEST_F(GgufTest, TensorsAreExtentsWithRowsFirst) {
  const std::filesystem::path path = write("m.gguf", small());
  const Checkpoint checkpoint = Checkpoint::open(path);
  const TensorRecord& matrix = *checkpoint.find("w");
  EXPECT_THAT(matrix.shape, ElementsAre(2, 3));
  EXPECT_EQ(matrix.bytes, 24U);
  EXPECT_EQ(matrix.offset % 32, 0U);
  EXPECT_EQ(support::read_file(path).substr(matrix.offset, 24), std::string(24, 'x'));
  EXPECT_EQ(checkpoint.find("v")->dtype, DType::f16);
  const TensorRecord& blocks = *checkpoint.find("blocks");
  EXPECT_EQ(blocks.blocks, BlockFormat::q8_0);
  EXPECT_EQ(blocks.bytes, 4U * 34U);
  EXPECT_TRUE(Checkpoint::is_in(path));
  EXPECT_FALSE(Checkpoint::is_in(folder_.path() / "other.gguf"));
}

TEST_F(GgufTest, AHeaderMayGoOnBehindWhatWasRead) {
  const std::string bytes = small().bytes();
  const std::size_t header = small().header().size();
  for (std::size_t count = 0; count < header; ++count) {
    const std::string_view start = std::string_view(bytes).substr(0, count);
    EXPECT_FALSE(parse_gguf(start, bytes.size(), "m.gguf")) << count;
    EXPECT_THAT(refused(std::string(start)), HasSubstr("m.gguf")) << count;  // cut short there
  }
  EXPECT_TRUE(parse_gguf(bytes, bytes.size(), "m.gguf"));
}

TEST_F(GgufTest, WhatIsNoGgufOfThisMachineIsToldApart) {
  EXPECT_THAT(refused("PK" + small().bytes()), HasSubstr("no GGUF file"));
  EXPECT_THAT(refused(GgufBytes(1).bytes()), HasSubstr("version 1 of GGUF"));
  EXPECT_THAT(refused(GgufBytes(0).bytes()), HasSubstr("version 0 of GGUF"));
  EXPECT_THAT(refused(GgufBytes(4).bytes()), HasSubstr("version 4 of GGUF"));
  EXPECT_THAT(refused(GgufBytes(3U << 24U).bytes()), HasSubstr("big-endian"));
  EXPECT_TRUE(parse_gguf(GgufBytes(2).bytes(), 32, "m.gguf"));
}

TEST_F(GgufTest, CountsAndLengthsAreCheckedAgainstTheFile) {
  const std::string many = little(std::uint64_t{1} << 62U, 8);
  EXPECT_THAT(refused("GGUF" + little(3, 4) + many + little(0, 8)),
              HasSubstr("says that there are 4611686018427387904 tensors"));
  EXPECT_THAT(refused("GGUF" + little(3, 4) + little(0, 8) + many), HasSubstr("keys"));
  EXPECT_THAT(refused(GgufBytes().add_raw("k", 8, many).bytes()), HasSubstr("needs 4611686018"));
  EXPECT_THAT(refused(GgufBytes().add_raw("k", 9, little(4, 4) + many).bytes()),
              HasSubstr("gives \"k\" 4611686018427387904 elements"));
  EXPECT_THAT(refused(GgufBytes().add_raw("k", 9, little(8, 4) + many).bytes()),
              HasSubstr("gives \"k\" 4611686018427387904 elements"));
}

TEST_F(GgufTest, UnknownTypesAreRefused) {
  EXPECT_THAT(refused(GgufBytes().add_raw("k", 13, little(0, 8)).bytes()),
              HasSubstr("\"k\" a value of the unknown type 13"));
  EXPECT_THAT(refused(GgufBytes().add_raw("k", 9, little(9, 4) + little(0, 8)).bytes()),
              HasSubstr("\"k\" a value of the unknown type 9"));  // lists of lists
}

TEST_F(GgufTest, WhatIsThereTwiceIsRefused) {
  EXPECT_THAT(refused(GgufBytes().add("k", 1U).add("j", 1U).add("k", 1U).bytes()),
              HasSubstr("has the key \"k\" twice"));
  EXPECT_THAT(refused(small().tensor("w", {1}, kF32, "1234").bytes()),
              HasSubstr("has the tensor \"w\" twice"));
}

TEST_F(GgufTest, ShapesAndExtentsAreChecked) {
  const std::string data(64, 'd');
  const auto described = [&](const std::vector<std::uint64_t>& extents, std::uint32_t type,
                             std::uint64_t offset) {
    GgufBytes bytes;
    bytes.tensor("first", {16}, kF32, data);
    return refused(bytes.describe("w", extents, type, offset).bytes());
  };
  EXPECT_THAT(described({}, kF32, 64), HasSubstr("\"w\" of 0 dimensions"));
  EXPECT_THAT(described({1, 1, 1, 1, 1}, kF32, 64), HasSubstr("\"w\" of 5 dimensions"));
  EXPECT_THAT(described({0}, kF32, 64), HasSubstr("\"w\" of a shape beyond all sizes"));
  EXPECT_THAT(described({1ULL << 33U, 1ULL << 33U}, kF32, 64), HasSubstr("beyond all sizes"));
  EXPECT_THAT(described({1ULL << 62U}, kF32, 64), HasSubstr("beyond all sizes"));  // its bytes
  EXPECT_THAT(described({33, 2}, kQ8, 64), HasSubstr("no whole blocks of Q8_0"));
  EXPECT_THAT(described({1}, kF32, 64), HasSubstr("the file ends at"));
  EXPECT_THAT(described({1}, kF32, ~std::uint64_t{0} - 63), HasSubstr("the file ends at"));
  EXPECT_THAT(described({1}, kF32, 32), HasSubstr("\"w\" over the tensor \"first\""));
  EXPECT_THAT(described({1}, kF32, 4), HasSubstr("no multiple of 32"));
}

TEST_F(GgufTest, TheAlignmentIsAPowerOfTwo) {
  for (const std::uint32_t wrong : {0U, 3U, 1U << 21U}) {
    EXPECT_THAT(refused(GgufBytes().add("general.alignment", wrong).bytes()),
                HasSubstr("general.alignment"));
  }
  GgufBytes bytes;
  bytes.add("general.alignment", 64U).tensor("w", {1}, kF32, std::string(100, 'd'));
  const std::string whole = bytes.bytes();
  EXPECT_EQ(parse_gguf(whole, whole.size(), "m.gguf")->tensors[0].offset % 64, 0U);
}

TEST_F(GgufTest, ATypeThatIsNotReadHarmsNothingUntilItIsAskedFor) {
  GgufBytes bytes;
  bytes.tensor("w", {32}, 13, std::string(32, 'd')).tensor("x", {1}, 99, std::string(4, 'd'));
  const std::string whole = bytes.bytes();
  const auto header = parse_gguf(whole, whole.size(), "m.gguf");
  EXPECT_THAT(header->tensors[0].problem, HasSubstr("has the type Q5_K; only F32, F16, BF16"));
  EXPECT_THAT(header->tensors[1].problem, HasSubstr("has the type 99, which is unknown"));
}

TEST_F(GgufTest, DamageIsRefusedOrHarmless) {
  const std::string good = small().bytes();
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    const std::string bytes = support::mutated(good, seed);
    try {
      const auto header = parse_gguf(bytes, bytes.size(), "m.gguf");
      ASSERT_TRUE(header) << seed;
      for (const TensorRecord& record : header->tensors) {
        ASSERT_LE(record.offset + record.bytes, bytes.size()) << seed;
      }
    } catch (const InputError&) {
    }
  }
}

TEST_F(GgufTest, AModelMayLieInSeveralFiles) {
  const auto part = [](std::uint32_t number, const char* tensor) {
    GgufBytes bytes;
    bytes.add("split.no", number).add("split.count", 2U);
    return bytes.tensor(tensor, {2}, kF32, std::string(8, 'a'));
  };
  const auto first = write("m-00001-of-00002.gguf", part(0, "a"));
  EXPECT_THAT(refusal([&] { Checkpoint::open(first); }), HasSubstr("m-00002-of-00002.gguf is not"));
  const auto second = write("m-00002-of-00002.gguf", part(1, "b"));
  const Checkpoint checkpoint = Checkpoint::open(first);
  EXPECT_THAT(checkpoint.files(), ElementsAre(first, second));
  EXPECT_EQ(checkpoint.find("b")->file, 1);
  EXPECT_THAT(refusal([&] { Checkpoint::open(second); }), HasSubstr("the path of the first"));
  write("m-00002-of-00002.gguf", part(1, "a"));
  EXPECT_THAT(refusal([&] { Checkpoint::open(first); }), HasSubstr("the tensor \"a\" twice"));
  write("m-00002-of-00002.gguf", part(0, "b"));
  EXPECT_THAT(refusal([&] { Checkpoint::open(first); }), HasSubstr("split.no is not 1"));
}

TEST_F(GgufTest, OfADividedModelTheFirstFileStandsForAll) {
  EXPECT_TRUE(is_later_gguf_part("m-00002-of-00003.gguf"));
  for (const char* name : {"m-00001-of-00003.gguf", "m.gguf", "m-0002-of-00003.gguf", "",
                           "m-00002-of-0000x.gguf", "m-00002_of-00003.gguf"}) {
    EXPECT_FALSE(is_later_gguf_part(name)) << name;
  }
}

TEST_F(GgufTest, FilesOfLlamaCppsOwnPackageAreRead) {
  const GgufFile file(kFiles / "llama-quantised.gguf");
  EXPECT_EQ(file.integer("llama.attention.head_count_kv"), 1);
  EXPECT_EQ(file.texts("tokenizer.ggml.tokens")->size(), 272U);
  const auto table = std::ranges::find(file.tensors(), "token_embd.weight", &TensorRecord::name);
  ASSERT_NE(table, file.tensors().end());
  EXPECT_THAT(table->shape, ElementsAre(272, 256));
  EXPECT_EQ(table->blocks, BlockFormat::q6_k);
}

}  // namespace
}  // namespace sluice::offload
