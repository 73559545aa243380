#include "launcher/jobs/readable_id.h"

#include "launcher/json/json.h"

namespace sluice::launcher {

std::optional<std::string> readable_custom_id(std::string_view line) {
  constexpr std::string_view kKey = "\"custom_id\"";
  constexpr std::string_view kBlanks = " \t";
  const std::size_t at = line.find(kKey);
  if (at == std::string_view::npos || line.find(kKey, at + 1) != std::string_view::npos) return {};
  const std::size_t colon = line.find_first_not_of(kBlanks, at + kKey.size());
  if (colon == std::string_view::npos || line[colon] != ':') return {};
  const std::size_t begin = line.find_first_not_of(kBlanks, colon + 1);
  if (begin == std::string_view::npos || line[begin] != '"') return {};
  std::size_t end = begin + 1;
  while (end < line.size() && line[end] != '"') end += line[end] == '\\' ? 2 : 1;
  if (end >= line.size()) return {};
  const Json id = Json::parse_or_null(line.substr(begin, end + 1 - begin));
  return id.is_string() ? std::optional(id.text()) : std::nullopt;
}

}  // namespace sluice::launcher
