// Unsigned integers as checkpoint files have them: little-endian, at any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::offload {

/// The `bytes` (1 to 8) bytes at `offset` of `text`; the caller has checked that they are there.
constexpr std::uint64_t little_endian(std::string_view text, std::size_t offset, int bytes) {
  std::uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) {
    const auto byte = static_cast<unsigned char>(text[offset + static_cast<std::size_t>(i)]);
    value = value << 8 | byte;
  }
  return value;
}

}  // namespace sluice::offload
