#include "launcher/report/durations.h"

#include <fmt/format.h>

#include <cmath>

namespace sluice::launcher {

std::string format_seconds(double seconds) {
  constexpr double kMost = 1e9;  // 30 years: whoever divides by nothing gets here
  if (!(seconds >= 0) || seconds > kMost) return "?";
  if (seconds < 9.995) return fmt::format("{:.2f} s", seconds);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  const long minutes = (whole + 30) / 60;
  if (minutes < 24 * 60) return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
  const long hours = (minutes + 30) / 60;
  return fmt::format("{} d {:02} h", hours / 24, hours % 24);
}

}  // namespace sluice::launcher
