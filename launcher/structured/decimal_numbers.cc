#include "launcher/structured/decimal_numbers.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace sluice::launcher {
namespace {

using grammar::Builder;
using grammar::Node;

constexpr std::int64_t kMostFraction = 15;  // digits behind the point where bounds stand

std::int64_t power_of_ten(int exponent) {
  std::int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

int digits_of(std::int64_t number) {
  int digits = 1;
  for (; number >= 10; number /= 10) ++digits;
  return digits;
}

class Decimals {
 public:
  explicit Decimals(Builder& builder) : builder_(builder) {}

  /// All texts of exactly `width` digits from `low` to `high`.
  Node fixed(std::int64_t low, std::int64_t high, int width) {
    if (low > high) return builder_.never();
    if (width == 0) return builder_.nothing();
    const std::int64_t rest = power_of_ten(width - 1);
    if (low == 0 && high == rest * 10 - 1) return some_digits(width, width);
    const std::int64_t first = low / rest;
    const std::int64_t last = high / rest;
    const auto behind = [&](std::int64_t from, std::int64_t to, Node digits) {
      return builder_.sequence({digit(from, to), digits});
    };
    if (first == last) return behind(first, first, fixed(low % rest, high % rest, width - 1));
    std::vector<Node> alternatives;
    std::int64_t full_begin = first;
    std::int64_t full_end = last;
    if (low % rest != 0) {
      alternatives.push_back(behind(first, first, fixed(low % rest, rest - 1, width - 1)));
      ++full_begin;
    }
    if (high % rest != rest - 1) {
      alternatives.push_back(behind(last, last, fixed(0, high % rest, width - 1)));
      --full_end;
    }
    if (full_begin <= full_end) {
      alternatives.push_back(behind(full_begin, full_end, some_digits(width - 1, width - 1)));
    }
    return builder_.choice(std::move(alternatives));
  }

  /// Integers from `low` >= 0 to `high`, without leading zeros.
  Node natural(std::int64_t low, std::int64_t high) {
    if (low > high) return builder_.never();
    std::vector<Node> alternatives;
    for (int width = digits_of(low); width <= digits_of(high); ++width) {
      const std::int64_t least = width == 1 ? 0 : power_of_ten(width - 1);
      alternatives.push_back(
          fixed(std::max(low, least), std::min(high, power_of_ten(width) - 1), width));
    }
    return builder_.choice(std::move(alternatives));
  }

  /// Numbers from `low` >= 0 to `high`, in units of 10^-6.
  Node number(std::int64_t low, std::int64_t high) {
    if (low > high) return builder_.never();
    const std::int64_t first = low / kBoundScale;
    const std::int64_t last = high / kBoundScale;
    const std::int64_t low_rest = low % kBoundScale;
    const std::int64_t high_rest = high % kBoundScale;
    if (first == last) {
      return builder_.sequence({natural(first, first), fraction(low_rest, high_rest)});
    }
    std::vector<Node> alternatives;
    std::int64_t full_begin = first;
    if (low_rest > 0) {
      alternatives.push_back(builder_.sequence({natural(first, first), fraction_from(low_rest)}));
      ++full_begin;
    }
    if (full_begin < last) {
      const Node any =
          builder_.optional(builder_.sequence({builder_.text("."), some_digits(1, kMostFraction)}));
      alternatives.push_back(builder_.sequence({natural(full_begin, last - 1), any}));
    }
    alternatives.push_back(builder_.sequence({natural(last, last), fraction(0, high_rest)}));
    return builder_.choice(std::move(alternatives));
  }

 private:
  Node digit(std::int64_t from, std::int64_t to) {
    return builder_.bytes(static_cast<std::uint8_t>('0' + from),
                          static_cast<std::uint8_t>('0' + to));
  }
  Node some_digits(std::int64_t least, std::int64_t most) {
    if (most == 0) return builder_.nothing();
    return builder_.repeat(digit(0, 9), least, most);
  }

  /// The digits behind a point with fewer than kBoundDigits of them, from `low` to `high`.
  void add_shorter(std::int64_t low, std::int64_t high, std::vector<Node>& alternatives) {
    for (int width = 1; width < kBoundDigits; ++width) {
      const std::int64_t unit = power_of_ten(kBoundDigits - width);
      alternatives.push_back(fixed((low + unit - 1) / unit, high / unit, width));
    }
  }

  /// Nothing, or a point and digits, from `low` to `high`, below 1.
  Node fraction(std::int64_t low, std::int64_t high) {
    std::vector<Node> digits;
    add_shorter(low, high, digits);
    if (low < high) {
      digits.push_back(builder_.sequence(
          {fixed(low, high - 1, kBoundDigits), some_digits(0, kMostFraction - kBoundDigits)}));
    }
    const Node zeros = builder_.repeat(digit(0, 0), 0, kMostFraction - kBoundDigits);
    digits.push_back(builder_.sequence({fixed(high, high, kBoundDigits), zeros}));
    return with_point(low == 0, std::move(digits));
  }

  /// The same from `low` up to all that is below 1.
  Node fraction_from(std::int64_t low) {
    std::vector<Node> digits;
    add_shorter(low, kBoundScale - 1, digits);
    digits.push_back(builder_.sequence(
        {fixed(low, kBoundScale - 1, kBoundDigits), some_digits(0, kMostFraction - kBoundDigits)}));
    return with_point(low == 0, std::move(digits));
  }

  Node with_point(bool may_be_whole, std::vector<Node> digits) {
    const Node behind = builder_.sequence({builder_.text("."), builder_.choice(std::move(digits))});
    return may_be_whole ? builder_.optional(behind) : behind;
  }

  Builder& builder_;
};

}  // namespace

Node integer_node(Builder& builder, std::int64_t low, std::int64_t high) {
  Decimals decimals(builder);
  std::vector<Node> alternatives;
  if (low < 0) {
    const Node digits = decimals.natural(std::max<std::int64_t>(1, -high), -low);
    alternatives.push_back(builder.sequence({builder.text("-"), digits}));
  }
  if (high >= 0) alternatives.push_back(decimals.natural(std::max<std::int64_t>(low, 0), high));
  return builder.choice(std::move(alternatives));
}

Node bounded_number_node(Builder& builder, std::int64_t low, std::int64_t high) {
  Decimals decimals(builder);
  std::vector<Node> alternatives;
  if (low < 0) {
    const Node digits = decimals.number(std::max<std::int64_t>(0, -high), -low);
    alternatives.push_back(builder.sequence({builder.text("-"), digits}));
  }
  if (high >= 0) alternatives.push_back(decimals.number(std::max<std::int64_t>(low, 0), high));
  return builder.choice(std::move(alternatives));
}

Node any_number_node(Builder& builder) {
  const Node digit = builder.bytes('0', '9');
  const Node whole = builder.choice(
      {builder.text("0"),
       builder.sequence({builder.bytes('1', '9'), builder.repeat(digit, 0, kIntegerDigits - 1)})});
  const Node fraction =
      builder.sequence({builder.text("."), builder.repeat(digit, 1, kIntegerDigits)});
  const Node sign = builder.optional(builder.choice({builder.text("+"), builder.text("-")}));
  const Node exponent = builder.sequence(
      {builder.choice({builder.text("e"), builder.text("E")}), sign, builder.repeat(digit, 1, 2)});
  return builder.sequence({builder.optional(builder.text("-")), whole, builder.optional(fraction),
                           builder.optional(exponent)});
}

std::optional<std::int64_t> scaled_bound(double value) {
  if (!(std::abs(value) <= static_cast<double>(kMostNumber))) return {};
  const double scaled = std::round(value * static_cast<double>(kBoundScale));
  // Exact but for the rounding of a decimal fraction to a double.
  const double back = scaled / static_cast<double>(kBoundScale);
  if (back != value) return {};
  return static_cast<std::int64_t>(scaled);
}

}  // namespace sluice::launcher
