#include "launcher/config/duration.h"

#include <gtest/gtest.h>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

TEST(Duration, ReadsWhatPeopleWrite) {
  struct Case {
    const char* text;
    std::int64_t seconds;
  };
  const Case cases[] = {
      {"0s", 0},           {"90s", 90},    {"45m", 2700},          {"11h50m", 42600},
      {"1d2h3m4s", 93784}, {"2d", 172800}, {"365d", 31536000},     {"24h", 86400},
      {"1h1s", 3601},      {"007m", 420},  {"31536000s", 31536000}};
  for (const Case& item : cases) EXPECT_EQ(parse_duration(item.text), item.seconds) << item.text;
}

TEST(Duration, RefusesTheRest) {
  for (const char* text :
       {"", "90", "m", "1.5h", "-5m", "+5m", "5 m", " 5m", "5m ", "5M", "50m11h", "5m5m",
        "11:50:00", "1h30", "366d", "31536001s", "99999999999999999999s", "5m\n"}) {
    EXPECT_THROW(parse_duration(text), ConfigError) << text;
  }
}

TEST(Duration, IsWrittenSoThatItIsReadBack) {
  for (const char* text : {"0s", "90s", "45m", "11h50m", "1d2h3m4s", "2d", "365d"}) {
    EXPECT_EQ(parse_duration(exact_duration(parse_duration(text))), parse_duration(text)) << text;
  }
  EXPECT_EQ(exact_duration(42600), "11h50m");
  EXPECT_EQ(exact_duration(90), "1m30s");
  EXPECT_EQ(exact_duration(0), "0s");
}

}  // namespace
}  // namespace sluice::launcher
