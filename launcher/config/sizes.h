// Sizes in bytes as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// "16GiB", "512 MiB", "1.5e9", "80 GB", "4096": a number, and B, KiB ... PiB (1024) or kB ... PB
/// (1000), whatever the case. Fractions are rounded to whole bytes; less than 2^63.
/// Throws ConfigError: "'16G' is not a size: ..."; the caller puts the key or flag in front.
std::uint64_t parse_size(std::string_view text);

/// For people, three digits: "0 B", "1023 B", "1.50 GiB", "15.8 GiB", "512 GiB".
std::string format_size(std::uint64_t bytes);

/// For files, exact: the largest unit that divides, "16GiB", "1536MiB", "1000".
std::string exact_size(std::uint64_t bytes);

}  // namespace sluice::launcher
