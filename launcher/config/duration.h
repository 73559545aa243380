// Durations as people write them: "90s", "45m", "11h50m", "2d".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// Whole numbers with d, h, m or s, the longest first, each at most once; at most 365 days. In
/// seconds. Throws ConfigError: "'11:50' is not a duration: ..."; the caller puts the key or flag
/// in front.
std::int64_t parse_duration(std::string_view text);

/// What parse_duration() reads back: "11h50m"; "0s".
std::string exact_duration(std::int64_t seconds);

}  // namespace sluice::launcher
