// An input of two texts with a line between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace sluice::fuzz {

/// What stands before and behind the line "====". The second is empty where there is no such line.
inline std::pair<std::string_view, std::string_view> halves(const std::uint8_t* data,
                                                            std::size_t size) {
  constexpr std::string_view kLine = "\n====\n";
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t at = all.find(kLine);
  if (at == std::string_view::npos) return {all, {}};
  return {all.substr(0, at), all.substr(at + kLine.size())};
}

}  // namespace sluice::fuzz
