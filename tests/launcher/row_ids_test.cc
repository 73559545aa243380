#include "launcher/jobs/row_ids.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::launcher {
namespace {

using Met = RowIds::Met;

TEST(RowIds, TellsRowsOfTheInputFromRecordsOfTheOutput) {
  RowIds ids;
  ids.add_answered(key_of_id("a"));
  ids.add_failed(key_of_id("b"));
  EXPECT_EQ(ids.meet(key_of_id("a"), 7, false).met, Met::answered);
  EXPECT_EQ(ids.meet(key_of_id("b"), 8, true).met, Met::failed);
  EXPECT_EQ(ids.meet(key_of_id("c"), 9, false).met, Met::never);
  const RowIds::Entry a = ids.meet(key_of_id("a"), 20, false);
  EXPECT_EQ(a.met, Met::row);
  EXPECT_EQ(a.line, 7);
  EXPECT_FALSE(a.made_up);
  EXPECT_TRUE(ids.meet(key_of_id("b"), 20, false).made_up);
  EXPECT_EQ(ids.size(), 3U);
}

TEST(RowIds, ANameAndALineNeverMeet) {
  RowIds ids;
  const std::int64_t line = 5;
  ids.meet(key_of_line(line), line, true);
  EXPECT_EQ(ids.meet(key_of_id("row-5"), 6, false).met, Met::never);
  EXPECT_EQ(
      ids.meet(key_of_id(std::string(reinterpret_cast<const char*>(&line), sizeof line)), 6, false)
          .met,
      Met::never);
}

TEST(RowIds, ALineTooFarToRememberIsStillARow) {
  RowIds ids;
  ids.meet(1, std::int64_t{1} << 40, true);
  const RowIds::Entry entry = ids.meet(1, 3, false);
  EXPECT_EQ(entry.met, Met::row);
  EXPECT_EQ(entry.line, 0);
  EXPECT_TRUE(entry.made_up);
}

// As it grows, and with keys that all want the same place.
TEST(RowIds, LosesNone) {
  for (const std::uint64_t step : {std::uint64_t{1}, std::uint64_t{0x9E3779B97F4A7C15}}) {
    RowIds ids;
    for (std::uint64_t i = 0; i < 3000; ++i) {
      ASSERT_EQ(ids.meet(i * step, static_cast<std::int64_t>(i) + 1, false).met, Met::never);
    }
    for (std::uint64_t i = 0; i < 3000; ++i) {
      ASSERT_EQ(ids.meet(i * step, 1, false).line, static_cast<std::int64_t>(i) + 1);
    }
  }
}

TEST(RowIds, TenMillionRowsTakeLittleMemory) {
  RowIds ids;
  ids.reserve(10'000'000);
  EXPECT_LE(ids.bytes(), 160U << 20);
  const std::size_t before = ids.bytes();
  for (std::int64_t i = 0; i < 100'000; ++i) ids.meet(key_of_line(i), i, true);
  EXPECT_EQ(ids.bytes(), before);
}

}  // namespace
}  // namespace sluice::launcher
