#include "stage/phase_meter.h"

#include <gtest/gtest.h>

namespace sluice::stage {
namespace {

Clock::time_point now;  // the tests' own clock
Clock::time_point test_now() { return now; }

std::size_t at(Activity activity) { return static_cast<std::size_t>(activity); }

class PhaseMeterTest : public testing::Test {
 protected:
  void work(int seconds, std::uint64_t bytes) {
    now += std::chrono::seconds(seconds);
    trace_.add(Activity::compute, 0, seconds * 1'000'000'000LL);
    trace_.add_bytes(Activity::disk_read, bytes);
  }

  Trace trace_{0};
  PhaseMeter meter_{trace_, &test_now};
};

TEST_F(PhaseMeterTest, LoadingIsNotTheRun) {
  work(5, 100);
  meter_.begin();
  meter_.end();
  EXPECT_EQ(meter_.load().bytes[at(Activity::disk_read)], 100U);
  EXPECT_EQ(meter_.run().totals.bytes[at(Activity::disk_read)], 0U);
  EXPECT_EQ(meter_.run().passes, 0U);
}

TEST_F(PhaseMeterTest, APassHasTheTimeUntilTheNext) {
  meter_.begin();
  work(1, 1);  // waiting for the first
  meter_.next_pass(false, {10, 1, 0, 0, 0});
  work(20, 2);
  meter_.next_pass(true, {3, 4, 5, 6, 7});
  work(300, 40);
  meter_.next_pass(false, {0.5, 0, 0, 0, 0});
  work(1000, 8);
  meter_.next_pass(true, {3, 4, 5, 6, 7});
  work(4000, 16);
  meter_.end();
  EXPECT_EQ(meter_.run().passes, 4U);
  EXPECT_EQ(meter_.decode().passes, 2U);
  EXPECT_DOUBLE_EQ(meter_.run().wall_seconds, 5321);
  EXPECT_DOUBLE_EQ(meter_.decode().wall_seconds, 4300);
  EXPECT_NEAR(meter_.run().totals.seconds[at(Activity::compute)], 5321, 1e-6);
  EXPECT_NEAR(meter_.decode().totals.seconds[at(Activity::compute)], 4300, 1e-6);
  EXPECT_EQ(meter_.run().totals.bytes[at(Activity::disk_read)], 67U);
  EXPECT_EQ(meter_.decode().totals.bytes[at(Activity::disk_read)], 56U);
  EXPECT_DOUBLE_EQ(meter_.run().work.flop, 16.5);
  EXPECT_DOUBLE_EQ(meter_.decode().work.flop, 6);
  EXPECT_EQ(meter_.decode().work.weight_bytes, 8U);
  EXPECT_EQ(meter_.decode().work.kv_bytes, 10U);
  EXPECT_DOUBLE_EQ(meter_.decode().work.host_flop, 12);
  EXPECT_EQ(meter_.decode().work.host_kv_bytes, 14U);
}

}  // namespace
}  // namespace sluice::stage
