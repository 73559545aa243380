#include "offload/weights/packed_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>

#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using support::read_file;
using support::refusal;
using testing::AllOf;
using testing::HasSubstr;

std::string values(std::size_t bytes, char first) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i)
    text[i] = static_cast<char>(first + static_cast<int>(i * 7));
  return text;
}

class PackedFileTest : public testing::Test {
 protected:
  PackedFileTest() {
    for (const PackedTensor& tensor : layout_.tensors()) {
      contents_.push_back(values(tensor.bytes(), static_cast<char>(contents_.size())));
    }
  }

  // In pieces, as they come from the packer.
  void append_all(PackedWriter& writer) {
    for (const std::string& content : contents_) {
      const std::size_t cut = content.size() / 3;
      writer.append(reinterpret_cast<const std::byte*>(content.data()), cut);
      writer.append(reinterpret_cast<const std::byte*>(content.data()) + cut, content.size() - cut);
    }
  }
  void write() {
    PackedWriter writer(path_, layout_);
    append_all(writer);
    writer.commit();
  }
  std::size_t files() const {
    const std::filesystem::directory_iterator entries(folder_.path());
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
  }

  support::ScratchFolder folder_;
  std::filesystem::path path_ = folder_.path() / "layer-3.packed";
  // The matrix is larger than what the writer holds back.
  PackedLayout layout_{"origin",
                       {{"bias", DType::f16, 1, 33},
                        {"matrix", DType::q4, 20000, 100},
                        {"other", DType::q8, 3, 64}}};
  std::vector<std::string> contents_;
};

TEST_F(PackedFileTest, HoldsEveryTensorAtItsPlaceAndTheSumOfEveryBlock) {
  write();
  const std::string file = read_file(path_);
  ASSERT_EQ(file.size(), layout_.file_bytes());
  ASSERT_GT(layout_.blocks(), 256U);
  for (std::size_t i = 0; i < contents_.size(); ++i) {
    const PackedTensor& tensor = layout_.tensors()[i];
    EXPECT_EQ(tensor.offset % 64, 0U);
    EXPECT_EQ(file.substr(tensor.offset, tensor.bytes()), contents_[i]) << tensor.name;
  }
  EXPECT_EQ(layout_.tensors()[1].bytes(), 20000U * 72U);  // two groups of 32 + 4 bytes
  const std::vector<std::uint32_t> sums = read_packed_sums(path_, layout_);
  ASSERT_EQ(sums.size(), layout_.blocks());
  for (std::size_t block = 0; block < sums.size(); ++block) {
    const auto sum = static_cast<std::uint32_t>(XXH3_64bits(file.data() + block * 4096, 4096));
    ASSERT_EQ(sums[block], sum) << block;
  }
  struct stat status = {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_EQ(files(), 1U);
}

TEST_F(PackedFileTest, IsThereWholeOrNotAtAll) {
  {
    PackedWriter writer(path_, layout_);
    append_all(writer);
    EXPECT_FALSE(std::filesystem::exists(path_));
  }
  EXPECT_EQ(files(), 0U);
  PackedWriter first(path_, layout_);
  PackedWriter second(path_, layout_);
  append_all(first);
  append_all(second);
  second.commit();
  first.commit();  // the last one stays; both are right
  EXPECT_EQ(files(), 1U);
  EXPECT_NO_THROW(read_packed_sums(path_, layout_));
}

TEST_F(PackedFileTest, AFlippedBitInHeaderOrFooterIsRefusedNamingFileAndOffset) {
  write();
  const std::string good = read_file(path_);
  const std::size_t footer = layout_.blocks() * 4096;
  for (const std::size_t at : {std::size_t{0}, std::size_t{40}, layout_.header().size() - 1, footer,
                               footer + 4 * 17 + 2, good.size() - 8, good.size() - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    support::write_file(path_, bad);
    const std::string named = std::to_string(at < footer ? at : footer);
    EXPECT_THAT(
        refusal([&] { read_packed_sums(path_, layout_); }),
        AllOf(HasSubstr("layer-3.packed"), HasSubstr("offset " + named), HasSubstr("delete it")))
        << at;
  }
}

TEST_F(PackedFileTest, AFileCutShortOrOfOtherContentIsRefused) {
  write();
  const std::string good = read_file(path_);
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{4096}, good.size() - 1}) {
    support::write_file(path_, good.substr(0, bytes));
    EXPECT_THAT(
        refusal([&] { read_packed_sums(path_, layout_); }),
        AllOf(HasSubstr("ends at offset " + std::to_string(bytes)), HasSubstr("delete it")));
  }
  support::write_file(path_, good);
  const PackedLayout other("origen", layout_.tensors());
  EXPECT_THAT(refusal([&] { read_packed_sums(path_, other); }), HasSubstr("another's"));
  support::write_file(path_, std::string(layout_.file_bytes(), 'x'));
  EXPECT_THAT(refusal([&] { read_packed_sums(path_, layout_); }), HasSubstr("another's"));
}

TEST_F(PackedFileTest, OnlyTemporariesOfTheDeadAreRemoved) {
  support::write_file(folder_.path() / ".layer-1.packed.aaaaaa", "left by a killed run");
  support::write_file(folder_.path() / ".notes", "somebody's");
  support::write_file(folder_.path() / "layer-1.packed", "somebody's");
  {
    PackedWriter living(path_, layout_);
    EXPECT_EQ(files(), 4U);
    remove_dead_temporaries(folder_.path());
    EXPECT_EQ(files(), 3U);
    append_all(living);
    living.commit();
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / ".layer-1.packed.aaaaaa"));
  EXPECT_EQ(read_file(folder_.path() / ".notes"), "somebody's");
  EXPECT_EQ(read_file(folder_.path() / "layer-1.packed"), "somebody's");
}

TEST_F(PackedFileTest, AFolderThatTakesNoFileIsNamed) {
  const auto made = [&] { PackedWriter(folder_.path() / "no" / "layer-0.packed", layout_); };
  EXPECT_THROW(made(), IoError);
  const PackedLayout huge("origin", {{"m", DType::q8, std::int64_t{1} << 40, 4096}});
  try {
    PackedWriter(path_, huge);
    ADD_FAILURE() << "nothing was refused";
  } catch (const CapacityError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(folder_.path().string()), HasSubstr("--packed-dir"),
                                    HasSubstr(std::to_string(huge.file_bytes()))));
  }
  EXPECT_EQ(files(), 0U);
}

}  // namespace
}  // namespace sluice::offload
