#include "launcher/structured/decimal_numbers.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "grammar/matcher.h"
#include "tests/launcher/structured/written_texts.h"

namespace sluice::launcher {
namespace {

grammar::Matcher matcher_of(const auto& make) {
  grammar::Builder builder;
  const grammar::Rule root = builder.declare("root");
  builder.define(root, make(builder));
  return grammar::Matcher(builder.compile(root));
}

TEST(DecimalNumbers, IntegersAreThoseOfTheBounds) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const int scale = round % 2 == 0 ? 50 : 3000;
    const int low = static_cast<int>(random() % static_cast<unsigned>(2 * scale)) - scale;
    const int high = low + static_cast<int>(random() % static_cast<unsigned>(scale));
    auto matcher =
        matcher_of([&](grammar::Builder& builder) { return integer_node(builder, low, high); });
    for (int value = -2 * scale; value <= 3 * scale; ++value) {
      ASSERT_EQ(fits(matcher, fmt::to_string(value)), low <= value && value <= high)
          << low << ' ' << high << ' ' << value;
    }
    EXPECT_FALSE(fits(matcher, "-0"));
    EXPECT_FALSE(fits(matcher, "007"));
  }
}

TEST(DecimalNumbers, NumbersOfAllLengthsAreWithinTheBounds) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    const auto low = static_cast<std::int64_t>(random() % 4'000'000) - 2'000'000;
    const auto high = low + static_cast<std::int64_t>(random() % 3'000'000);
    auto matcher = matcher_of(
        [&](grammar::Builder& builder) { return bounded_number_node(builder, low, high); });
    for (int i = 0; i < 20; ++i) {
      const std::string text = written(matcher, random);
      ASSERT_FALSE(text.empty()) << low << ' ' << high;
      const double value = std::stod(text);
      ASSERT_GE(value, static_cast<double>(low) / 1e6) << text;
      ASSERT_LE(value, static_cast<double>(high) / 1e6) << text;
    }
    const std::int64_t between = low + (high - low) / 2;
    const std::string text =
        fmt::format("{}{}.{:06}", between < 0 ? "-" : "", std::abs(between) / kBoundScale,
                    std::abs(between) % kBoundScale);
    ASSERT_TRUE(fits(matcher, text)) << low << ' ' << high << ' ' << text;
  }
}

TEST(DecimalNumbers, AProbabilityIsWrittenAsPeopleWriteIt) {
  auto matcher = matcher_of(
      [](grammar::Builder& builder) { return bounded_number_node(builder, 0, kBoundScale); });
  for (const char* text : {"0", "1", "0.5", "0.25", "1.0", "0.123456789"}) {
    EXPECT_TRUE(fits(matcher, text)) << text;
  }
  for (const char* text : {"1.1", "-0.1", "2", ".5", "01", "1e-3"}) {
    EXPECT_FALSE(fits(matcher, text)) << text;
  }
}

TEST(DecimalNumbers, BoundsAreReadAsDecimals) {
  EXPECT_EQ(scaled_bound(0.1), 100'000);
  EXPECT_EQ(scaled_bound(-2.5), -2'500'000);
  EXPECT_FALSE(scaled_bound(1e-9));
  EXPECT_FALSE(scaled_bound(1e15));
}

}  // namespace
}  // namespace sluice::launcher
