#include "kernels/device/stall_history.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(StallHistory, KnowsHowLongTheLaneStoodStillByAnyMoment) {
  StallHistory history;
  EXPECT_FALSE(history.begun());
  EXPECT_EQ(history.until(50), 0);
  history.begin(100);
  EXPECT_TRUE(history.begun());
  EXPECT_EQ(history.until(130), 30);  // it has not ended
  history.end(150);
  history.begin(300);
  history.end(310);
  EXPECT_EQ(history.until(0), 0);
  EXPECT_EQ(history.until(100), 0);
  EXPECT_EQ(history.until(120), 20);
  EXPECT_EQ(history.until(150), 50);
  EXPECT_EQ(history.until(299), 50);
  EXPECT_EQ(history.until(305), 55);
  EXPECT_EQ(history.until(1000), 60);
}

TEST(StallHistory, SumsStayExactWhereThereIsNoRoomForMore) {
  StallHistory history(16);
  for (std::int64_t i = 0; i < 1000; ++i) {  // a quarter of the time
    history.begin(i * 100);
    history.end(i * 100 + 25);
  }
  EXPECT_EQ(history.until(100'000), 25'000);
  EXPECT_EQ(history.until(99'900), 24'975);
  for (std::int64_t time = 0; time <= 100'000; time += 1000) {
    EXPECT_NEAR(static_cast<double>(history.until(time)), static_cast<double>(time) / 4,
                25'000 / 4.0)
        << time;
  }
  std::int64_t before = 0;
  for (std::int64_t time = 0; time <= 100'000; time += 50) {
    EXPECT_GE(history.until(time), before) << time;
    before = history.until(time);
  }
}

}  // namespace
}  // namespace sluice
