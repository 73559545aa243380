// Integers and numbers within bounds, as texts of decimal digits.
#pragma once

#include <cstdint>
#include <optional>

#include "grammar/builder.h"

namespace sluice::launcher {

/// Integers of more digits are not written.
constexpr int kIntegerDigits = 18;
constexpr std::int64_t kMostInteger = 999'999'999'999'999'999;
/// Numbers with a bound have so many digits before the point, and bounds so many behind it.
constexpr int kNumberDigits = 12;
constexpr int kBoundDigits = 6;
constexpr std::int64_t kBoundScale = 1'000'000;  // 10^kBoundDigits
constexpr std::int64_t kMostNumber = 999'999'999'999;

/// All integers from `low` to `high`, without leading zeros and without "-0".
/// Pre: -kMostInteger <= low <= high <= kMostInteger.
grammar::Node integer_node(grammar::Builder& builder, std::int64_t low, std::int64_t high);

/// Decimal numbers without exponent from `low` to `high`, both in units of 10^-6.
/// Pre: low <= high, and both within kMostNumber * kBoundScale.
grammar::Node bounded_number_node(grammar::Builder& builder, std::int64_t low, std::int64_t high);

/// Any number that JSON can write, of up to 18 digits before the point, 18 behind it, and an
/// exponent of two.
grammar::Node any_number_node(grammar::Builder& builder);

/// `value` in units of 10^-6, if it is a multiple of that and within kMostNumber.
std::optional<std::int64_t> scaled_bound(double value);

}  // namespace sluice::launcher
