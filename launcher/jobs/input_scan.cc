#include "launcher/jobs/input_scan.h"

#include <algorithm>
#include <charconv>
#include <istream>
#include <span>

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_reader.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kRowName = "\"row-";
constexpr std::string_view kMessages = "\"messages\"";

/// A field's name may be written with escapes; then nobody knows what it says but a parser.
bool may_hide_a_name(std::string_view line) {
  for (std::size_t at = line.find("\\u00"); at != std::string_view::npos;
       at = line.find("\\u00", at + 1)) {
    if (at + 4 < line.size() && line[at + 4] >= '5' && line[at + 4] <= '7') return true;
  }
  return false;
}

/// The largest number that stands behind the field `name` in the text.
std::int64_t largest_of(std::string_view line, std::string_view name) {
  std::int64_t largest = 0;
  for (std::size_t at = line.find(name); at != std::string_view::npos;
       at = line.find(name, at + 1)) {
    std::string_view rest = line.substr(at + name.size());
    rest.remove_prefix(std::min(rest.find_first_not_of("\" \t\r:"), rest.size()));
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error == std::errc()) largest = std::max(largest, number);
  }
  return largest;
}

/// The most tokens that the prompt of a line may have. A conversation's template and a translation
/// may write any number of bytes beside the line's own.
std::int64_t most_prompt_tokens(std::string_view line, bool is_json, const RequestParser& parser) {
  const bool may_grow =
      is_json && (parser.translates() || line.find(kMessages) != std::string_view::npos);
  const std::size_t bytes =
      may_grow ? std::max(parser.prompt_bytes(line), line.size()) : line.size();
  return static_cast<std::int64_t>(bytes) + 1;  // and the BOS token
}

/// The most numbers that the rules of a line may take.
std::int32_t most_rule_words(std::string_view line, bool is_json, const RequestParser& parser) {
  const auto names = [line](std::string_view field) {
    return line.find(field) != std::string_view::npos;
  };
  const bool may_have =
      parser.rules_by_default() || (is_json && (names("\"logit_bias\"") || names("\"bad_words\"") ||
                                                names("\"min_tokens\"") || may_hide_a_name(line)));
  return may_have ? stage::kMaxRuleWords : 0;
}

/// Whether the line may have one of these fields, whose names stand in quotation marks.
bool may_have(std::span<const std::string_view> names, std::string_view line, bool is_json) {
  const auto has = [line](std::string_view name) { return line.find(name) != line.npos; };
  return is_json && (may_hide_a_name(line) || std::ranges::any_of(names, has));
}

/// That a file may have. Of a coded one its bytes do not tell.
std::uint64_t most_lines(const InputFile& file) {
  constexpr std::uint64_t kMostCoded = 1U << 28;  // in 32 MiB, a bit each
  return file.coding() == Coding::none ? file.bytes() / 2 + 1 : kMostCoded;
}

void add_bounds(const InputLine& line, const RequestParser& parser, JobScan& scan) {
  const std::int64_t tokens = most_tokens_of(line.text, line.is_json, parser);
  scan.longest_sequence = std::max(scan.longest_sequence, static_cast<std::int32_t>(tokens));
  scan.most_rule_words =
      std::max(scan.most_rule_words, most_rule_words(line.text, line.is_json, parser));
  // What the answer must be; what is wanted in its place.
  constexpr std::string_view kGrammars[] = {"\"response_format\"", "\"regex\"", "\"choice\"",
                                            "\"grammar\""};
  constexpr std::string_view kEmbed[] = {"\"embed\""};
  scan.grammars = scan.grammars || may_have(kGrammars, line.text, line.is_json);
  scan.features = scan.features || may_have(kEmbed, line.text, line.is_json);
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

std::int64_t most_tokens_of(std::string_view line, bool is_json, const RequestParser& parser) {
  std::int64_t answer = parser.default_max_tokens();
  if (is_json) {
    if (may_hide_a_name(line)) return parser.positions();
    for (const char* name : {"max_tokens", "max_completion_tokens"}) {
      answer = std::max(answer, largest_of(line, name));
    }
  }
  return std::min<std::int64_t>(most_prompt_tokens(line, is_json, parser) + answer,
                                parser.positions());
}

RowNames row_names_of(InputFile& file) {
  RowNames names;
  std::istream in(&file);
  InputLines lines(in, file.name());
  for (InputLine line; lines.next(line);) {
    if (line.is_json) names.look_at(line.text, most_lines(file));
  }
  file.rewind();
  return names;
}

InputScan scan_input(InputFile& file, RequestParser parser, std::uint64_t exact_bytes,
                     Shard shard) {
  InputScan scan;
  std::istream in(&file);
  InputLines lines(in, file.name(), shard);
  for (InputLine line; lines.next(line);) {
    if (line.is_json) scan.names.look_at(line.text, most_lines(file));
    if (line.is_foreign) continue;
    ++scan.job.rows;
    if (lines.bytes() <= exact_bytes) {
      const auto parsed = parse(line, parser);
      if (const auto* row = std::get_if<RequestRow>(&parsed)) add_to_scan(*row, scan.job);
    } else {
      add_bounds(line, parser, scan.job);
    }
  }
  file.rewind();
  return scan;
}

}  // namespace sluice::launcher
