#include "offload/checkpoint/zip_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scratch_folder.h"
#include "tests/support/torch_archive.h"

namespace sluice::offload {
namespace {

using support::little;
using support::zip_of;
using support::ZipPart;
using testing::HasSubstr;

const std::vector<ZipPart> kParts = {{"r/b", "second"}, {"r/a", "1st"}, {"r/none", ""}};

class ZipDirectoryTest : public testing::Test {
 protected:
  std::vector<ZipMember> read(const std::string& bytes) {
    return read_zip_directory(InputFile(support::write_file(path_, bytes)));
  }
  std::string refused(const std::string& bytes) {
    const std::string sentence = support::refusal([&] { read(bytes); });
    EXPECT_THAT(sentence, HasSubstr(path_.string()));
    return sentence;
  }
  // kParts with `bytes` written at `offset` within the central entry of `name`.
  std::string refused_with(const std::string& name, std::size_t offset, const std::string& bytes,
                           bool zip64 = false) {
    std::string file = zip_of(kParts, zip64);
    file.replace(file.rfind(name) - 46 + offset, bytes.size(), bytes);
    return refused(file);
  }

  support::ScratchFolder folder_;
  std::filesystem::path path_ = folder_.path() / "x.zip";
};

TEST_F(ZipDirectoryTest, MembersAreExtentsSortedByName) {
  for (const bool zip64 : {false, true}) {
    const std::string file = zip_of(kParts, zip64);
    const auto members = read(file);
    ASSERT_EQ(members.size(), 3U);
    EXPECT_EQ(members[0].name, "r/a");
    EXPECT_EQ(members[0].offset, file.find("1st"));
    EXPECT_EQ(members[0].bytes, 3U);
    EXPECT_EQ(members[1].name, "r/b");
    EXPECT_EQ(members[1].offset, file.find("second"));
    EXPECT_EQ(members[2].bytes, 0U);
  }
}

TEST_F(ZipDirectoryTest, ACommentMayFollow) {
  std::string file = zip_of(kParts);
  file.replace(file.size() - 2, 2, little(3000, 2));
  EXPECT_EQ(read(file + std::string(3000, 'P')).size(), 3U);
  EXPECT_THAT(refused(file + std::string(2999, 'P')), HasSubstr("no zip directory"));
}

TEST_F(ZipDirectoryTest, NamesThatLeaveTheArchiveAreRefused) {
  for (const std::string name : {"../x", "/etc/x", "r/../x", "r/..", "..", "r\\x", ""}) {
    EXPECT_THAT(refused(zip_of({{name, "x"}})), HasSubstr("which no model's has")) << name;
  }
  EXPECT_THAT(refused(zip_of({{std::string("r\0x", 3), "x"}})), HasSubstr("\"r?x\""));
  EXPECT_EQ(read(zip_of({{"r/..x", "x"}})).size(), 1U);
}

TEST_F(ZipDirectoryTest, CompressedEncryptedAndDoubledMembersAreRefused) {
  EXPECT_THAT(refused(zip_of({{"r/a", "x", 8}})), HasSubstr("\"r/a\" is compressed"));
  EXPECT_THAT(refused(zip_of({{"r/a", "x", 0, 1}})), HasSubstr("\"r/a\" is encrypted"));
  EXPECT_THAT(refused(zip_of({{"r/a", "x"}, {"r/a", "y"}})), HasSubstr("two members"));
  EXPECT_THAT(refused_with("r/a", 20, little(2, 4)), HasSubstr("compressed"));  // sizes differ
}

TEST_F(ZipDirectoryTest, MembersBeyondTheArchiveAreRefused) {
  const std::uint64_t directory = zip_of(kParts).find("PK\x01\x02");
  EXPECT_THAT(refused_with("r/a", 42, little(directory - 29, 4)), HasSubstr("begins outside"));
  EXPECT_THAT(refused_with("r/a", 42, little(directory + 1, 4)), HasSubstr("begins outside"));
  EXPECT_THAT(refused_with("r/a", 42, little(0xfffffffe, 4)), HasSubstr("begins outside"));
  EXPECT_THAT(refused_with("r/a", 42, little(1, 4)), HasSubstr("another header"));
  EXPECT_THAT(refused_with("r/a", 42, little(0, 4)), HasSubstr("another header"));  // r/b's
  EXPECT_THAT(refused_with("r/none", 20, little(1, 4) + little(1, 4)), HasSubstr("reaches into"));
  EXPECT_THAT(refused_with("r/none", 20, little(0xfffffffe, 4) + little(0xfffffffe, 4)),
              HasSubstr("reaches into"));
}

TEST_F(ZipDirectoryTest, OverlappingMembersAreRefused) {
  EXPECT_THAT(refused_with("r/b", 20, little(7, 4) + little(7, 4)), HasSubstr("overlap"));
}

TEST_F(ZipDirectoryTest, Zip64FieldsMustBeThere) {
  EXPECT_THAT(refused_with("r/a", 20, little(~0ULL, 8)), HasSubstr("lacks its zip64 size"));
  EXPECT_THAT(refused_with("r/a", 49 + 2, little(2000, 2), true), HasSubstr("extra field"));
  EXPECT_THAT(refused_with("r/a", 49 + 4, little(~0ULL, 8) + little(~0ULL, 8), true),
              HasSubstr("reaches into"));
  EXPECT_THAT(refused_with("r/a", 49 + 20, little(~0ULL, 8), true), HasSubstr("begins outside"));
}

TEST_F(ZipDirectoryTest, EndRecordsThatCannotBeAreRefused) {
  const std::string file = zip_of(kParts);
  const std::size_t end = file.size() - 22;
  const auto with = [&](std::size_t at, const std::string& bytes) {
    std::string changed = file;
    return refused(changed.replace(end + at, bytes.size(), bytes));
  };
  EXPECT_THAT(with(4, little(1, 2)), HasSubstr("several parts"));
  EXPECT_THAT(with(8, little(2, 2)), HasSubstr("several parts"));
  EXPECT_THAT(with(8, little(2, 2) + little(2, 2)), HasSubstr("behind the last"));
  EXPECT_THAT(with(8, little(4, 2) + little(4, 2)), HasSubstr("entry is damaged"));
  EXPECT_THAT(with(12, little(0x7fffffff, 4)), HasSubstr("does not lie before"));
  EXPECT_THAT(with(16, little(end + 1, 4)), HasSubstr("does not lie before"));
  EXPECT_THAT(with(16, little(~0ULL, 4)), HasSubstr("needs a zip64 record"));
}

TEST_F(ZipDirectoryTest, Zip64EndRecordsThatCannotBeAreRefused) {
  const std::string file = zip_of(kParts, true);
  const std::size_t record = file.size() - 22 - 20 - 56;
  const auto with = [&](std::size_t at, const std::string& bytes) {
    std::string changed = file;
    return refused(changed.replace(record + at, bytes.size(), bytes));
  };
  EXPECT_THAT(with(0, "XX"), HasSubstr("zip64 record is damaged"));
  EXPECT_THAT(with(16, little(1, 4)), HasSubstr("several parts"));
  EXPECT_THAT(with(24, little(9, 8)), HasSubstr("several parts"));
  EXPECT_THAT(with(24, little(1U << 20U, 8) + little(1U << 20U, 8)),
              HasSubstr("more than a model"));
  EXPECT_THAT(with(40, little(~0ULL, 8)), HasSubstr("does not lie before"));
  EXPECT_THAT(with(48, little(~0ULL, 8)), HasSubstr("does not lie before"));
  EXPECT_THAT(with(56 + 8, little(~0ULL, 8)), HasSubstr("points outside"));
}

}  // namespace
}  // namespace sluice::offload
