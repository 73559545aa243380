#include "launcher/report/load_display.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace sluice::launcher {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr ProgressStyle kLog{ProgressForm::log, false, 80};

TEST(LoadDisplayTest, SaysWherePackedWeightsWereFound) {
  std::ostringstream out;
  LoadDisplay display(out, kLog, 100);
  display.packing({"/cache/4bit", 0, 0});
  display.loaded(60);
  display.loaded(40);
  display.finish();
  EXPECT_THAT(out.str(), HasSubstr("packed weights found in /cache/4bit\n"));
  EXPECT_THAT(out.str(), Not(HasSubstr("packing")));
  EXPECT_THAT(out.str(), HasSubstr("loading: 100 B/100 B (100 %)"));
}

TEST(LoadDisplayTest, ShowsPackingAndThenLoading) {
  std::ostringstream out;
  LoadDisplay display(out, kLog, 100);
  for (std::uint64_t done : {0U, 20U, 50U}) display.packing({"/cache/4bit", done, 50});
  display.loaded(100);
  display.finish();
  const std::string text = out.str();
  EXPECT_THAT(text, HasSubstr("packed weights are being made in /cache/4bit\n"));
  const std::size_t packing = text.find("packing: 50 B/50 B (100 %)");
  const std::size_t loading = text.find("loading: 100 B/100 B (100 %)");
  ASSERT_NE(packing, std::string::npos) << text;
  ASSERT_NE(loading, std::string::npos) << text;
  EXPECT_LT(packing, loading);
}

TEST(LoadDisplayTest, ALoadOfNothingEnds) {
  std::ostringstream out;
  LoadDisplay display(out, kLog, 0);
  display.finish();
  EXPECT_THAT(out.str(), Not(HasSubstr("packed")));
}

}  // namespace
}  // namespace sluice::launcher
