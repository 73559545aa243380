#include "launcher/config/sizes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

constexpr const char* kBinaryUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

/// 0: no such unit.
std::uint64_t bytes_of_unit(std::string_view unit) {
  std::string lower(unit);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.empty() || lower == "b") return 1;
  constexpr std::string_view kPrefixes = "kmgtp";
  const std::size_t power = kPrefixes.find(lower.front());
  const std::string_view rest = std::string_view(lower).substr(1);
  if (power == std::string_view::npos || (rest != "b" && rest != "ib")) return 0;
  std::uint64_t bytes = 1;
  for (std::size_t i = 0; i <= power; ++i) bytes *= rest == "b" ? 1000 : 1024;
  return bytes;
}

[[noreturn]] void refuse(std::string_view text, const char* why) {
  throw ConfigError(fmt::format("'{}' is not a size: {}", offload::printable(text), why));
}

}  // namespace

std::uint64_t parse_size(std::string_view text) {
  constexpr std::uint64_t kLimit = 1ULL << 63U;
  std::size_t digits = text.find_first_not_of("0123456789.");
  if (digits == std::string_view::npos) digits = text.size();
  if (digits == 0) refuse(text, "it must begin with a number, as in 16GiB, 512 MiB or 1.5e9");
  // An exponent belongs to the number only where digits follow: "1e9", but not "1EB".
  const char* const end = text.data() + text.size();
  double number = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  std::string_view unit(stop, static_cast<std::size_t>(end - stop));
  if (error != std::errc() || !std::isfinite(number)) refuse(text, "its number cannot be read");
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  const std::uint64_t scale = bytes_of_unit(unit);
  if (scale == 0) {
    refuse(text, "its unit must be B, KiB, MiB, GiB, TiB, PiB (1024) or kB, MB, GB, TB, PB (1000)");
  }
  std::uint64_t whole = 0;
  if (std::from_chars(text.data(), stop, whole).ptr == stop) {  // exact, where a double is not
    if (whole >= (kLimit + scale - 1) / scale) refuse(text, "it is larger than any memory (2^63)");
    return whole * scale;
  }
  const double bytes = std::round(number * static_cast<double>(scale));
  if (bytes >= static_cast<double>(kLimit)) refuse(text, "it is larger than any memory (2^63)");
  return static_cast<std::uint64_t>(bytes);
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // From 1023.5 on, rounding would show 1024 of a unit. Use the next unit instead.
  for (; value >= 1023.5 && unit + 1 < std::size(kBinaryUnits); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value,
                     value < 9.995   ? 2
                     : value < 99.95 ? 1
                                     : 0,
                     kBinaryUnits[unit]);
}

std::string exact_size(std::uint64_t bytes) {
  std::size_t unit = 0;
  for (; bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(kBinaryUnits); ++unit) {
    bytes /= 1024;
  }
  return unit == 0 ? fmt::format("{}", bytes) : fmt::format("{}{}", bytes, kBinaryUnits[unit]);
}

}  // namespace sluice::launcher
