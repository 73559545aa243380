#include "launcher/jobs/input_scan.h"

#include <algorithm>
#include <charconv>
#include <istream>

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_reader.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kRowName = "\"row-";
constexpr std::string_view kMaxTokens = "max_tokens";

/// A field's name may be written with escapes; then nobody knows what it says but a parser.
bool may_hide_a_name(std::string_view line) {
  for (std::size_t at = line.find("\\u00"); at != std::string_view::npos;
       at = line.find("\\u00", at + 1)) {
    if (at + 4 < line.size() && line[at + 4] >= '5' && line[at + 4] <= '7') return true;
  }
  return false;
}

/// The largest number that stands behind "max_tokens": in the text.
std::int64_t largest_max_tokens(std::string_view line) {
  std::int64_t largest = 0;
  for (std::size_t at = line.find(kMaxTokens); at != std::string_view::npos;
       at = line.find(kMaxTokens, at + 1)) {
    std::string_view rest = line.substr(at + kMaxTokens.size());
    rest.remove_prefix(std::min(rest.find_first_not_of("\" \t:"), rest.size()));
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error == std::errc()) largest = std::max(largest, number);
  }
  return largest;
}

void add_bound(std::int64_t tokens, JobScan& scan) {
  scan.longest_sequence = std::max(scan.longest_sequence, static_cast<std::int32_t>(tokens));
}

}  // namespace

void RowNames::look_at(std::string_view line, std::uint64_t most) {
  for (std::size_t at = line.find(kRowName); at != std::string_view::npos;
       at = line.find(kRowName, at + 1)) {
    const char* const begin = line.data() + at + kRowName.size();
    const char* const end = line.data() + line.size();
    std::uint64_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stop == end || *stop != '"' || number > most) continue;
    if (number >= numbers_.size()) numbers_.resize(static_cast<std::size_t>(number) + 1, false);
    numbers_[static_cast<std::size_t>(number)] = true;
  }
}

std::int64_t most_tokens_of(std::string_view line, bool is_json, std::int32_t default_max_tokens,
                            std::int32_t positions) {
  std::int64_t answer = default_max_tokens;
  if (is_json) {
    if (may_hide_a_name(line)) return positions;
    answer = std::max(answer, largest_max_tokens(line));
  }
  // And the BOS token.
  return std::min<std::int64_t>(static_cast<std::int64_t>(line.size()) + 1 + answer, positions);
}

InputScan scan_input(InputFile& file, RequestParser parser, std::uint64_t exact_bytes) {
  InputScan scan;
  std::istream in(&file);
  InputLines lines(in, file.name());
  const std::uint64_t most_lines = file.bytes() / 2 + 1;
  for (std::string line; lines.next(line);) {
    ++scan.job.rows;
    if (lines.is_json()) scan.names.look_at(line, most_lines);
    if (lines.bytes() <= exact_bytes) {
      const auto parsed = parse(lines, line, parser);
      if (const auto* row = std::get_if<RequestRow>(&parsed)) add_to_scan(*row, scan.job);
    } else {
      add_bound(
          most_tokens_of(line, lines.is_json(), parser.default_max_tokens(), parser.positions()),
          scan.job);
    }
  }
  file.rewind();
  return scan;
}

}  // namespace sluice::launcher
