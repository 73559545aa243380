#include "offload/disk/disk_rate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "offload/disk/disk_engine.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

TEST(RateLimit, RequestsAreDueOneAfterTheOther) {
  RateLimit limit(2.0);  // a byte takes half a nanosecond
  EXPECT_TRUE(limit.limits());
  EXPECT_EQ(limit.due_ns(1000, 4000), 3000);
  EXPECT_EQ(limit.due_ns(1500, 1000), 3500);  // stands behind the first
  EXPECT_EQ(limit.due_ns(3500, 1000), 4000);
  EXPECT_EQ(limit.due_ns(10000, 2), 10001);  // idle time is not saved up
  EXPECT_FALSE(RateLimit(0).limits());
}

// Many small ones last as long as one large one.
TEST(RateLimit, NothingIsLostInRounding) {
  RateLimit limit(3.0);
  std::int64_t due = 0;
  for (int i = 0; i < 3'000'000; ++i) due = limit.due_ns(0, 1);
  EXPECT_NEAR(static_cast<double>(due), 1'000'000, 1);
}

// Time that the test lets pass. wait() returns soon, for its caller to look again.
class ManualClock : public DiskClock {
 public:
  std::int64_t now_ns() override { return now_.load(); }
  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
            std::int64_t) override {
    changed.wait_for(lock, std::chrono::milliseconds(1));
  }
  void set(std::int64_t now_ns) { now_.store(now_ns); }

 private:
  std::atomic<std::int64_t> now_{0};
};

class DiskRateTest : public testing::TestWithParam<bool> {};

TEST_P(DiskRateTest, RequestsAreDoneWhenASlowerDiskWouldHaveDoneThem) {
  support::ScratchFolder folder;
  const std::string path = (folder.path() / "file").string();
  std::ofstream(path, std::ios::binary) << std::string(100000, 'x');
  ManualClock clock;
  DiskOptions options;
  options.allow_io_uring = GetParam();
  options.read_gbps = 0.5;  // a byte takes 2 ns
  options.clock = &clock;
  const auto engine = DiskEngine::make(options);
  const FileId file = engine->open_read(path);
  std::vector<char> got(8 * 1000);
  IoGroup group;
  for (std::size_t i = 0; i < 8; ++i) {
    engine->read(file, i * 5000, 1000, &got[i * 1000], group);
  }
  for (std::int32_t done = 1; done <= 8; ++done) {
    clock.set(std::int64_t{done} * 2000 - 1);
    // Whatever the machine does meanwhile, no more than these can be done.
    std::this_thread::yield();
    EXPECT_GE(group.pending(), 8 - done + 1);
    clock.set(std::int64_t{done} * 2000);
    while (group.pending() > 8 - done) std::this_thread::yield();
  }
  group.wait();
  EXPECT_EQ(std::string(got.begin(), got.end()), std::string(8000, 'x'));
}

TEST_P(DiskRateTest, DirectionsHaveRatesOfTheirOwn) {
  support::ScratchFolder folder;
  ManualClock clock;
  DiskOptions options;
  options.allow_io_uring = GetParam();
  options.write_gbps = 1.0;
  options.clock = &clock;
  const auto engine = DiskEngine::make(options);
  const FileId file = engine->create(folder.path() / "file", 4 * kDiskBlock);
  const std::vector<std::byte> content(4 * kDiskBlock, std::byte{7});
  std::vector<std::byte> got(2 * kDiskBlock);
  IoGroup writes;
  IoGroup reads;
  engine->write(file, 0, 2 * kDiskBlock, content.data(), writes);
  engine->read(file, 2 * kDiskBlock, 2 * kDiskBlock, got.data(), reads);
  reads.wait();  // at time 0
  EXPECT_EQ(writes.pending(), 1);
  clock.set(2 * kDiskBlock);
  writes.wait();
}

INSTANTIATE_TEST_SUITE_P(Variants, DiskRateTest, testing::Values(true, false),
                         [](const auto& name) { return name.param ? "IoUring" : "Threads"; });

}  // namespace
}  // namespace sluice::offload
