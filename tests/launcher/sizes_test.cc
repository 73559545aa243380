#include "launcher/config/sizes.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

TEST(Sizes, ReadsWhatPeopleWrite) {
  struct Case {
    const char* text;
    std::uint64_t bytes;
  };
  const Case cases[] = {{"0", 0},
                        {"4096", 4096},
                        {"1B", 1},
                        {"16GiB", 16ULL << 30U},
                        {"512 MiB", 512ULL << 20U},
                        {"1.5GiB", 3ULL << 29U},
                        {"1.5e9", 1500000000},
                        {"2e3kB", 2000000},
                        {"80 GB", 80000000000},
                        {"80gb", 80000000000},
                        {"1TiB", 1ULL << 40U},
                        {"1 PB", 1000000000000000},
                        {"0.3kB", 300},
                        {"9007199254740993", 9007199254740993},  // 2^53 + 1: no double has it
                        {"9223372036854775807", 9223372036854775807ULL},
                        {"8191PiB", 8191ULL << 50U}};
  for (const Case& item : cases) EXPECT_EQ(parse_size(item.text), item.bytes) << item.text;
}

TEST(Sizes, RefusesTheRest) {
  for (const char* text :
       {"",        " 1GiB",   "-1",      "+1",     "GiB", "16G", "16Gi",  "16 XB",
        "1GiB ",   "1 GiB x", "1..5GiB", "0x10",   "nan", "inf", "1e400", "9223372036854775808",
        "8192PiB", "1e19",    "1,5GiB",  "16GiB/s"}) {
    try {
      const std::uint64_t bytes = parse_size(text);
      ADD_FAILURE() << "'" << text << "' was read as " << bytes;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("'" + std::string(text) + "' is not a size: "),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(Sizes, ShowsThreeDigits) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1024), "1.00 KiB");
  EXPECT_EQ(format_size(3ULL << 29U), "1.50 GiB");
  EXPECT_EQ(format_size((16ULL << 30U) - (256ULL << 20U)), "15.8 GiB");
  EXPECT_EQ(format_size(512ULL << 30U), "512 GiB");
  EXPECT_EQ(format_size((1ULL << 30U) - 1), "1.00 GiB");  // not "1024 MiB"
  EXPECT_EQ(format_size(std::numeric_limits<std::uint64_t>::max()), "16384 PiB");
}

TEST(Sizes, ExactFormIsReadBackToTheSame) {
  EXPECT_EQ(exact_size(16ULL << 30U), "16GiB");
  EXPECT_EQ(exact_size(3ULL << 29U), "1536MiB");
  EXPECT_EQ(exact_size(1000), "1000");
  for (std::uint64_t bytes = 1; bytes < (1ULL << 62U); bytes = bytes * 3 + 1) {
    EXPECT_EQ(parse_size(exact_size(bytes)), bytes);
    EXPECT_EQ(parse_size(exact_size(bytes & ~0xFFFFULL)), bytes & ~0xFFFFULL);
  }
}

}  // namespace
}  // namespace sluice::launcher
