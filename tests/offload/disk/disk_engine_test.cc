#include "offload/disk/disk_engine.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device/error.h"
#include "offload/disk/disk_requests.h"
#include "tests/support/allocation_count.h"
#include "tests/support/faulty_disk.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::vector<std::byte> random_bytes(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

void write_plain(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good());
}

template <typename Failure, typename Function>
std::string sentence_of(Function function) {
  try {
    function();
  } catch (const Failure& failure) {
    return failure.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

// Both variants, each with few and with many requests, past the page cache and through it.
struct Variant {
  bool io_uring;
  std::size_t max_requests;
  bool direct;
};

class DiskEngineTest : public testing::TestWithParam<Variant> {
 protected:
  std::unique_ptr<DiskEngine> make(Trace* trace = nullptr) {
    DiskOptions options;
    options.allow_io_uring = GetParam().io_uring;
    options.max_requests = GetParam().max_requests;
    options.allow_direct = GetParam().direct;
    options.least_direct_bytes = 0;
    options.trace = trace;
    auto engine = DiskEngine::make(options);
    if (GetParam().io_uring && engine->description() != "io_uring") {
      std::cerr << "this machine refuses io_uring: " << engine->description() << "\n";
    }
    return engine;
  }
  std::filesystem::path path(const std::string& name) { return folder_.path() / name; }

  support::ScratchFolder folder_;
};

TEST_P(DiskEngineTest, ReadsEveryAlignmentAndLength) {
  const auto content = random_bytes(10000, 1);
  write_plain(path("file"), content);
  const auto engine = make();
  const FileId file = engine->open_read(path("file"));
  IoGroup group;
  for (const std::size_t offset : {0U, 1U, 511U, 512U, 4095U, 4097U, 9999U}) {
    for (const std::size_t bytes : {0U, 1U, 3U, 512U, 4096U, 5001U}) {
      if (offset + bytes > content.size()) continue;
      std::vector<std::byte> got(bytes + 2, std::byte{0x5A});
      engine->read(file, offset, bytes, got.data() + 1, group);
      group.wait();
      EXPECT_TRUE(std::equal(got.begin() + 1, got.end() - 1,
                             content.begin() + static_cast<std::ptrdiff_t>(offset)));
      EXPECT_EQ(got.front(), std::byte{0x5A});
      EXPECT_EQ(got.back(), std::byte{0x5A});
    }
  }
}

TEST_P(DiskEngineTest, LargeRequestsAreCutAndComeBackWhole) {
  const auto content = random_bytes(3 * kPieceBytes + 3 * kDiskBlock, 2);
  const auto engine = make();
  const FileId file = engine->create(path("big"), content.size());
  IoGroup group;
  engine->write(file, 0, content.size(), content.data(), group);
  group.wait();
  EXPECT_EQ(std::filesystem::file_size(path("big")), content.size());
  std::vector<std::byte> got(content.size() - 7);
  engine->read(file, 7, got.size(), got.data(), group);
  group.wait();
  EXPECT_TRUE(std::equal(got.begin(), got.end(), content.begin() + 7));
}

// Memory as staging has it: on a block's border.
struct Room {
  explicit Room(std::size_t bytes)
      : memory(bytes + kDiskBlock),
        data(memory.data() + kDiskBlock -
             reinterpret_cast<std::uintptr_t>(memory.data()) % kDiskBlock) {}
  std::vector<std::byte> memory;
  std::byte* data;
};

TEST_P(DiskEngineTest, ASupersetIsReadAroundTheRange) {
  const auto content = random_bytes(2 * kPieceBytes + 10000, 21);
  write_plain(path("file"), content);
  const auto engine = make();
  const FileId file = engine->open_read(path("file"));
  IoGroup group;
  for (const std::size_t offset : {0U, 1U, 4095U, 4096U, 5000U}) {
    for (const std::size_t bytes :
         {std::size_t{1}, std::size_t{4096}, std::size_t{9000}, kPieceBytes + 5, content.size()}) {
      const std::size_t count = std::min(bytes, content.size() - offset);
      const auto room_bytes = static_cast<std::size_t>(superset_room(count));
      Room room(room_bytes + kDiskBlock);
      room.data[room_bytes] = std::byte{0x5A};
      engine->read_superset(file, offset, count, room.data, group);
      group.wait();
      EXPECT_EQ(std::memcmp(room.data + offset % kDiskBlock, content.data() + offset, count), 0)
          << offset << " " << bytes;
      EXPECT_EQ(room.data[room_bytes], std::byte{0x5A});
    }
  }
  Room room(3 * kDiskBlock);
  engine->read_superset(file, content.size() - 5, 6, room.data, group);
  EXPECT_THAT(sentence_of<IoError>([&] { group.wait(); }), HasSubstr("wanted 6 bytes, got 5"));
}

// Where a range and its target lie alike in their blocks, only the edges are copied.
TEST_P(DiskEngineTest, ReadsToAlignedMemoryTouchNothingElse) {
  const auto content = random_bytes(20 * kDiskBlock, 22);
  write_plain(path("file"), content);
  const auto engine = make();
  const FileId file = engine->open_read(path("file"));
  IoGroup group;
  for (const std::size_t offset : {0U, 100U, 4000U}) {
    for (const std::size_t bytes : {50U, 4096U, 8191U, 60000U}) {
      Room room(30 * kDiskBlock);
      std::memset(room.data, 0x5A, 30 * kDiskBlock);
      engine->read(file, offset, bytes, room.data + offset, group);
      group.wait();
      EXPECT_EQ(std::memcmp(room.data + offset, content.data() + offset, bytes), 0);
      for (std::size_t i = 0; i < 30 * kDiskBlock; ++i) {
        if (i >= offset && i < offset + bytes) continue;
        ASSERT_EQ(room.data[i], std::byte{0x5A}) << i;
      }
    }
  }
}

TEST_P(DiskEngineTest, WritesComeFromAnyMemory) {
  const auto content = random_bytes(2 * kPieceBytes + kDiskBlock + 8, 23);
  const std::size_t bytes = 2 * kPieceBytes + kDiskBlock;
  const auto engine = make();
  const FileId file = engine->create(path("file"), 2 * bytes);
  IoGroup group;
  Room room(bytes);
  std::memcpy(room.data, content.data() + 8, bytes);
  engine->write(file, 0, bytes, room.data, group);
  engine->write(file, bytes, bytes, content.data() + 1, group);
  group.wait();
  std::vector<std::byte> got(2 * bytes);
  engine->read(file, 0, got.size(), got.data(), group);
  group.wait();
  EXPECT_EQ(std::memcmp(got.data(), content.data() + 8, bytes), 0);
  EXPECT_EQ(std::memcmp(got.data() + bytes, content.data() + 1, bytes), 0);
}

TEST_P(DiskEngineTest, ManyRequestsOfManyThreads) {
  const std::size_t kSlice = kDiskBlock;
  const std::size_t kSlices = 64;
  const auto engine = make();
  const FileId file = engine->create(path("shared"), kSlice * kSlices);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      IoGroup group;
      std::vector<std::vector<std::byte>> slices;
      for (std::size_t s = t; s < kSlices; s += 4) {
        slices.push_back(random_bytes(kSlice, static_cast<unsigned>(s)));
      }
      for (std::size_t i = 0; i < slices.size(); ++i) {
        engine->write(file, (t + 4 * i) * kSlice, kSlice, slices[i].data(), group);
      }
      group.wait();
      std::vector<std::byte> got(kSlice);
      for (std::size_t i = 0; i < slices.size(); ++i) {
        engine->read(file, (t + 4 * i) * kSlice, kSlice, got.data(), group);
        group.wait();
        if (got != slices[i]) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(DiskEngineTest, TheDestructorWaitsForRequestsInFlight) {
  const auto content = random_bytes(2 * kPieceBytes, 3);
  IoGroup group;
  {
    const auto engine = make();
    const FileId file = engine->create(path("late"), content.size());
    engine->write(file, 0, content.size(), content.data(), group);
  }
  EXPECT_EQ(group.pending(), 0);
  group.wait();
  std::ifstream file(path("late"), std::ios::binary);
  std::string got(content.size(), '\0');
  file.read(got.data(), static_cast<std::streamsize>(got.size()));
  EXPECT_EQ(std::memcmp(got.data(), content.data(), content.size()), 0);
}

TEST_P(DiskEngineTest, NothingIsAllocatedPerRequest) {
  const auto content = random_bytes(2 * kPieceBytes, 4);
  Trace trace(0);
  const auto engine = make(&trace);
  const FileId file = engine->create(path("file"), content.size());
  std::vector<std::byte> got(content.size());
  IoGroup group;
  const auto round = [&] {
    engine->write(file, 0, content.size(), content.data(), group);
    group.wait();
    for (std::size_t i = 0; i < 100; ++i) engine->read(file, i, 5000, &got[i * 5000], group);
    group.wait();
  };
  round();
  const std::int64_t before = support::allocation_count();
  for (int i = 0; i < 5; ++i) round();
  EXPECT_EQ(support::allocation_count() - before, 0);
}

TEST_P(DiskEngineTest, TheTraceCountsBytesAndTime) {
  const auto content = random_bytes(25 * kDiskBlock, 5);
  Trace trace(100);
  {
    const auto engine = make(&trace);
    const FileId file = engine->create(path("file"), content.size());
    IoGroup group;
    engine->write(file, 0, content.size(), content.data(), group);
    group.wait();
    std::vector<std::byte> got(60000);
    engine->read(file, 10, 50000, got.data(), group);
    engine->read(file, 10, 60000, got.data(), group);
    group.wait();
  }
  EXPECT_EQ(trace.bytes(Activity::disk_write), 25 * kDiskBlock);
  EXPECT_EQ(trace.bytes(Activity::disk_read), 110000U);
  EXPECT_GT(trace.busy_seconds(Activity::disk_write), 0.0);
  EXPECT_GT(trace.busy_seconds(Activity::disk_read), 0.0);
  for (const Span& span : trace.spans()) EXPECT_GE(span.end_ns, span.begin_ns);
}

// ------------------------------------------------------------------------------------- bad input

TEST_P(DiskEngineTest, TheEndOfAFileIsAFailureThatIsForgottenOnceSeen) {
  write_plain(path("short"), random_bytes(100, 6));
  const auto engine = make();
  const FileId file = engine->open_read(path("short"));
  std::vector<std::byte> got(200);
  IoGroup group;
  engine->read(file, 80, 50, got.data(), group);
  EXPECT_THAT(sentence_of<IoError>([&] { group.wait(); }),
              HasSubstr("cannot read " + path("short").string() +
                        " at offset 80: wanted 50 bytes, got 20, then the file ends"));
  group.wait();
  engine->read(file, 100, 1, got.data(), group);
  EXPECT_THROW(group.wait(), IoError);
  engine->read(file, 1 << 20, 1, got.data(), group);
  EXPECT_THROW(group.wait(), IoError);
  engine->read(file, 0, 100, got.data(), group);
  group.wait();
}

TEST_P(DiskEngineTest, OffsetsBeyondAnyFileAreRefused) {
  write_plain(path("file"), random_bytes(10, 7));
  const auto engine = make();
  const FileId file = engine->open_read(path("file"));
  std::byte got;
  IoGroup group;
  for (const std::uint64_t offset : {std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    engine->read(file, offset, 1, &got, group);
    EXPECT_THAT(sentence_of<IoError>([&] { group.wait(); }), HasSubstr(std::to_string(offset)));
  }
}

TEST_P(DiskEngineTest, OnlyExistingRegularFilesAreOpened) {
  const auto engine = make();
  EXPECT_THAT(sentence_of<InputError>([&] { engine->open_read(path("absent")); }),
              HasSubstr(path("absent").string() + ": No such file or directory (ENOENT)"));
  EXPECT_THAT(sentence_of<InputError>([&] { engine->open_read(folder_.path()); }),
              HasSubstr("no regular file"));
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_THAT(sentence_of<InputError>([&] { engine->open_read(path("fifo")); }),
              HasSubstr("no regular file"));
}

TEST_P(DiskEngineTest, CreatedFilesAreNewPrivateAndReserved) {
  const auto engine = make();
  engine->create(path("new"), 1 << 20);
  struct stat status;
  ASSERT_EQ(::stat(path("new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(status.st_size, 1 << 20);
  EXPECT_GE(status.st_blocks * 512, 1 << 20);
  EXPECT_THAT(sentence_of<IoError>([&] { engine->create(path("new"), 1); }), HasSubstr("EEXIST"));
  ASSERT_EQ(::symlink(path("target").c_str(), path("link").c_str()), 0);
  EXPECT_THROW(engine->create(path("link"), 1), IoError);
  EXPECT_FALSE(std::filesystem::exists(path("target")));
  engine->create(path("empty"), 0);
  engine->create(path("ragged"), kDiskBlock + 1);
  EXPECT_EQ(std::filesystem::file_size(path("ragged")), 2 * kDiskBlock);
}

TEST_P(DiskEngineTest, WritesToFilesOpenedToReadFail) {
  write_plain(path("file"), random_bytes(10, 8));
  const auto engine = make();
  const FileId file = engine->open_read(path("file"));
  IoGroup group;
  engine->write(file, 0, 5, "hello", group);
  EXPECT_THAT(sentence_of<IoError>([&] { group.wait(); }), HasSubstr("EBADF"));
}

// ---------------------------------------------------------------------------------------- faults

TEST_P(DiskEngineTest, AFullDiskIsACapacityError) {
  const std::string mount_point = path("tiny");
  ASSERT_EQ(::mkdir(mount_point.c_str(), 0700), 0);
  if (::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "no permission to mount a small tmpfs";
  }
  {
    const auto engine = make();
    const std::string sentence =
        sentence_of<CapacityError>([&] { engine->create(path("tiny") / "huge", 3 << 20); });
    EXPECT_THAT(sentence, HasSubstr("3145728 bytes (3.0 MiB) are wanted but folder " + mount_point +
                                    " has 1048576 bytes (1.0 MiB) free"));
    EXPECT_FALSE(std::filesystem::exists(path("tiny") / "huge"));

    // What was preallocated is lost, and another takes its place.
    const FileId file = engine->create(path("tiny") / "shrunk", 512 << 10);
    std::filesystem::resize_file(path("tiny") / "shrunk", 0);
    engine->create(path("tiny") / "other", 1 << 20);
    const auto content = random_bytes(512 << 10, 9);
    IoGroup group;
    engine->write(file, 0, content.size(), content.data(), group);
    EXPECT_THAT(sentence_of<CapacityError>([&] { group.wait(); }), HasSubstr("ENOSPC"));
  }
  EXPECT_EQ(::umount(mount_point.c_str()), 0);
}

TEST_P(DiskEngineTest, AFileThatShrinksUnderARequestFails) {
  const auto engine = make();
  const FileId file = engine->create(path("file"), 2 * kPieceBytes);
  ASSERT_EQ(::truncate(path("file").c_str(), kPieceBytes + 10), 0);
  std::vector<std::byte> got(2 * kPieceBytes);
  IoGroup group;
  engine->read(file, 0, got.size(), got.data(), group);
  EXPECT_THAT(sentence_of<IoError>([&] { group.wait(); }), HasSubstr("got 10, then the file ends"));
}

TEST_P(DiskEngineTest, EveryRequestCanFailAndTheNextRoundIsClean) {
  support::FaultyDisk disk(make());
  const auto content = random_bytes(5 * kDiskBlock, 10);
  const FileId file = disk.create(path("file"), content.size());
  IoGroup group;
  bool whole = false;
  for (std::int64_t k = 0; !whole; ++k) {
    disk.fail_request(k);
    std::vector<std::byte> got(content.size());
    try {
      for (std::size_t i = 0; i < 5; ++i) {
        disk.write(file, i * kDiskBlock, kDiskBlock, &content[i * kDiskBlock], group);
      }
      group.wait();
      for (std::size_t i = 0; i < 5; ++i) {
        disk.read(file, i * kDiskBlock, kDiskBlock, &got[i * kDiskBlock], group);
      }
      group.wait();
      EXPECT_EQ(got, content);
      whole = true;
      EXPECT_EQ(k, 10);
    } catch (const IoError& failure) {
      EXPECT_STREQ(failure.what(), "injected failure");
      ASSERT_LT(k, 10);
    }
    EXPECT_EQ(group.pending(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, DiskEngineTest,
                         testing::Values(Variant{true, 256, true}, Variant{true, 2, true},
                                         Variant{false, 256, true}, Variant{false, 1, true},
                                         Variant{true, 256, false}, Variant{false, 2, false}),
                         [](const auto& name) {
                           return (name.param.io_uring ? std::string("IoUring")
                                                       : std::string("Threads")) +
                                  std::to_string(name.param.max_requests) +
                                  (name.param.direct ? "" : "Cached");
                         });

}  // namespace
}  // namespace sluice::offload
