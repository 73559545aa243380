// Every block that a run writes is verified when it is read; so are blocks of earlier runs.
#include <gmock/gmock.h>

#include <cstring>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using testing::HasSubstr;

std::vector<std::byte> random_bytes(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

struct Variant {
  bool io_uring;
  bool direct;
};

class DiskChecksumTest : public testing::TestWithParam<Variant> {
 protected:
  DiskChecksumTest() {
    DiskOptions options;
    options.allow_io_uring = GetParam().io_uring;
    options.allow_direct = GetParam().direct;
    options.least_direct_bytes = 0;
    engine_ = DiskEngine::make(options);
  }
  std::filesystem::path path(const std::string& name) { return folder_.path() / name; }
  void flip_bit(const std::filesystem::path& file, std::uint64_t offset) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    char byte = 0;
    stream.seekg(static_cast<std::streamoff>(offset)).read(&byte, 1);
    byte = static_cast<char>(byte ^ 4);
    stream.seekp(static_cast<std::streamoff>(offset)).write(&byte, 1);
    ASSERT_TRUE(stream.good());
  }
  // "" where the read succeeds, else the sentence of its IoError.
  std::string read(FileId file, std::uint64_t offset, std::vector<std::byte>& got) {
    IoGroup group;
    engine_->read(file, offset, got.size(), got.data(), group);
    try {
      group.wait();
    } catch (const IoError& failure) {
      return failure.what();
    }
    return "";
  }

  support::ScratchFolder folder_;
  std::unique_ptr<DiskEngine> engine_;
};

TEST_P(DiskChecksumTest, AFlippedBitIsAnErrorNamingFileAndOffset) {
  const auto content = random_bytes(600 * kDiskBlock, 1);
  const FileId file = engine_->create(path("kv-cache"), content.size());
  EXPECT_EQ(engine_->checksum_bytes(), 600 * 4U);
  IoGroup group;
  engine_->write(file, 0, content.size(), content.data(), group);
  group.wait();
  std::vector<std::byte> got(content.size());
  ASSERT_EQ(read(file, 0, got), "");
  ASSERT_EQ(got, content);

  flip_bit(path("kv-cache"), 300 * kDiskBlock + 77);
  EXPECT_THAT(read(file, 0, got),
              HasSubstr(path("kv-cache").string() + ", offset " + std::to_string(300 * kDiskBlock) +
                        ": the checksum of this block"));
  // Any part of the block, to whatever memory: and no other block.
  got.resize(10);
  EXPECT_THAT(read(file, 300 * kDiskBlock + 1000, got), HasSubstr("checksum"));
  EXPECT_EQ(read(file, 300 * kDiskBlock - 10, got), "");
  EXPECT_EQ(read(file, 301 * kDiskBlock, got), "");

  // Written anew it is good again.
  engine_->write(file, 300 * kDiskBlock, kDiskBlock, &content[300 * kDiskBlock], group);
  group.wait();
  got.resize(content.size());
  EXPECT_EQ(read(file, 0, got), "");
  EXPECT_EQ(got, content);
}

TEST_P(DiskChecksumTest, WhatWasNeverWrittenIsZeros) {
  const FileId file = engine_->create(path("new"), 3 * kDiskBlock);
  std::vector<std::byte> got(5000, std::byte{1});
  EXPECT_EQ(read(file, 100, got), "");
  EXPECT_EQ(got, std::vector<std::byte>(5000));
  flip_bit(path("new"), 4096);
  EXPECT_THAT(read(file, 100, got), HasSubstr("offset 4096"));
}

// A file that is not whole blocks, with something behind what has sums.
TEST_P(DiskChecksumTest, FilesOfEarlierRunsAreVerifiedByTheirSums) {
  const auto content = random_bytes(3 * kDiskBlock + 100, 2);
  std::ofstream(path("packed"), std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
  const std::span<const std::byte> all(content);
  std::vector<std::uint32_t> sums;
  for (std::size_t i = 0; i < 3; ++i) sums.push_back(block_sum(all.subspan(i * 4096, 4096)));
  const FileId first_three = engine_->open_read_checked(path("packed"), sums);
  std::vector<std::uint32_t> all_sums = sums;
  all_sums.push_back(block_sum(all.subspan(3 * kDiskBlock)));
  const FileId whole = engine_->open_read_checked(path("packed"), all_sums);
  EXPECT_EQ(engine_->checksum_bytes(), 0U);  // these are the caller's

  std::vector<std::byte> got(content.size());
  for (const FileId file : {first_three, whole}) {
    EXPECT_EQ(read(file, 0, got), "");
    EXPECT_EQ(got, content);
  }
  flip_bit(path("packed"), content.size() - 1);
  EXPECT_EQ(read(first_three, 0, got), "");
  EXPECT_THAT(read(whole, 0, got), HasSubstr("offset 12288"));
  flip_bit(path("packed"), content.size() - 1);
  flip_bit(path("packed"), 5000);
  for (const FileId file : {first_three, whole}) {
    EXPECT_THAT(read(file, 0, got), HasSubstr(", offset 4096: the checksum"));
  }

  all_sums.push_back(0);
  EXPECT_THROW(engine_->open_read_checked(path("packed"), all_sums), InputError);
}

// Supersets and pieces: many blocks by many requests, of which one is wrong.
TEST_P(DiskChecksumTest, OneWrongBlockAmongManyIsFound) {
  const std::size_t blocks = 1200;  // more than one piece
  const auto content = random_bytes(blocks * kDiskBlock, 3);
  const FileId file = engine_->create(path("file"), content.size());
  IoGroup group;
  engine_->write(file, 0, content.size(), content.data(), group);
  group.wait();
  const std::unique_ptr<std::byte, void (*)(void*)> room(
      static_cast<std::byte*>(std::aligned_alloc(kDiskBlock, content.size())), std::free);
  for (const std::size_t wrong : {std::size_t{0}, std::size_t{255}, std::size_t{256}, blocks - 1}) {
    flip_bit(path("file"), wrong * kDiskBlock + wrong % 4096);
    engine_->read_superset(file, 1, content.size() - 2, room.get(), group);
    std::string sentence;
    try {
      group.wait();
    } catch (const IoError& failure) {
      sentence = failure.what();
    }
    EXPECT_THAT(sentence, HasSubstr("offset " + std::to_string(wrong * kDiskBlock) + ":"));
    flip_bit(path("file"), wrong * kDiskBlock + wrong % 4096);
  }
  engine_->read_superset(file, 1, content.size() - 2, room.get(), group);
  group.wait();
  EXPECT_EQ(std::memcmp(room.get(), content.data(), content.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Variants, DiskChecksumTest,
                         testing::Values(Variant{true, true}, Variant{false, true},
                                         Variant{true, false}, Variant{false, false}),
                         [](const auto& name) {
                           return std::string(name.param.io_uring ? "IoUring" : "Threads") +
                                  (name.param.direct ? "Direct" : "Cached");
                         });

}  // namespace
}  // namespace sluice::offload
