#include "launcher/config/duration.h"

#include <fmt/format.h>

#include <charconv>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

struct Unit {
  char letter;
  std::int64_t seconds;
};
constexpr Unit kUnits[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
constexpr std::int64_t kMostSeconds = std::int64_t{365} * 86400;

[[noreturn]] void refuse(std::string_view text, const char* why) {
  throw ConfigError(fmt::format("'{}' is not a duration: {}", text, why));
}

}  // namespace

std::int64_t parse_duration(std::string_view text) {
  constexpr const char* kForm = "write whole numbers with d, h, m or s, as in 11h50m or 90s";
  const char* at = text.data();
  const char* const end = at + text.size();
  std::int64_t seconds = 0;
  const Unit* next = kUnits;  // smaller units follow
  if (text.empty()) refuse(text, kForm);
  while (at != end) {
    std::int64_t number = 0;
    const auto [stop, error] = std::from_chars(at, end, number);
    const bool has_digit = *at >= '0' && *at <= '9';
    if (!has_digit || error != std::errc() || stop == end) refuse(text, kForm);
    while (next != std::end(kUnits) && next->letter != *stop) ++next;
    if (next == std::end(kUnits)) refuse(text, kForm);
    if (number > kMostSeconds) refuse(text, "it is longer than 365 days");
    seconds += number * next->seconds;
    if (seconds > kMostSeconds) refuse(text, "it is longer than 365 days");
    ++next;
    at = stop + 1;
  }
  return seconds;
}

std::string exact_duration(std::int64_t seconds) {
  std::string text;
  for (const Unit& unit : kUnits) {
    const std::int64_t count = seconds / unit.seconds;
    if (count > 0) text += fmt::format("{}{}", count, unit.letter);
    seconds -= count * unit.seconds;
  }
  return text.empty() ? "0s" : text;
}

}  // namespace sluice::launcher
