#include "launcher/jobs/input_lines.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/device/error.h"
#include "launcher/jobs/coding.h"
#include "launcher/json/json.h"

namespace sluice::launcher {
namespace {

constexpr const char* kBlanks = " \t\r\v\f";

/// As UTF-16 and UTF-32 begin, with a byte order mark or, of most languages' first letters,
/// without.
bool is_wide(const std::string& line) {
  if (line.starts_with("\xFF\xFE") || line.starts_with("\xFE\xFF")) return true;
  return line.substr(0, 4).find('\0') != std::string::npos;
}

bool is_json(const std::string& line) {
  try {
    static_cast<void>(Json::parse(line));
    return true;
  } catch (const JsonError& problem) {
    return problem.kind() != JsonError::Kind::syntax;
  }
}

/// One that spreads over lines, or is all of a .json file.
bool is_document(const std::string& line, std::size_t first, const std::string& name) {
  const std::size_t last = line.find_last_not_of(kBlanks);
  if (line[first] == '{') return first == last;
  return line[first] == '[' && (name.ends_with(".json") || !is_json(line));
}

}  // namespace

InputLines::InputLines(std::istream& in, const std::string& name, Shard shard)
    : name_(name), inner_name_(name_without_coding(name)), lines_(in, name), shard_(shard) {}

bool InputLines::next(InputLine& line) {
  while (lines_.next(line.text)) {
    const std::size_t first = line.text.find_first_not_of(kBlanks);
    if (first == std::string::npos && !lines_.too_long()) continue;
    if (!std::exchange(decided_, true)) decide(line.text, first);
    line.number = lines_.number();
    line.is_json = json_;
    line.too_long = lines_.too_long();
    line.is_foreign = !shard_.has(rows_++);
    return true;
  }
  return false;
}

void InputLines::decide(const std::string& line, std::size_t first) {
  if (is_wide(line)) {
    throw InputError(fmt::format(
        "the input {} is no UTF-8 text: it begins as UTF-16 or UTF-32 does; save it as UTF-8, or "
        "convert it (iconv -f UTF-16 -t UTF-8)",
        name_));
  }
  json_ = inner_name_.ends_with(".jsonl") || inner_name_.ends_with(".json");
  if (first == std::string::npos) return;
  if (!json_ && line[first] == '{') {
    const std::size_t second = line.find_first_not_of(kBlanks, first + 1);
    json_ = !inner_name_.ends_with(".txt") || second == std::string::npos || line[second] == '"';
  }
  if (json_ && is_document(line, first, inner_name_)) {
    throw InputError(fmt::format(
        "the input {} is one JSON document, not JSON Lines, which has one object on each line; "
        "convert it (jq -c '.[]' makes the lines of an array)",
        name_));
  }
}

}  // namespace sluice::launcher
