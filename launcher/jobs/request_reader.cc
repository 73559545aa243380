#include "launcher/jobs/request_reader.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <unordered_map>

#include "kernels/device/error.h"
#include "launcher/jobs/line_reader.h"

namespace sluice::launcher {
namespace {

constexpr const char* kBlanks = " \t\r\v\f";

/// Sorts parsed rows into good and bad ones, and sees to it that no custom_id is answered twice.
class Collector {
 public:
  explicit Collector(Requests& requests) : requests_(requests) {}

  void add(RequestParser::Parsed parsed) {
    if (auto* row = std::get_if<RequestRow>(&parsed)) {
      if (is_first(row->custom_id, row->line, row->form)) requests_.rows.push_back(std::move(*row));
    } else {
      auto& failure = std::get<RowFailure>(parsed);
      if (is_first(failure.custom_id, failure.line, failure.form)) {
        requests_.failures.push_back(std::move(failure));
      }
    }
  }

 private:
  bool is_first(const std::string& custom_id, std::int64_t line, RowForm form) {
    const auto [first, added] = first_lines_.emplace(custom_id, line);
    if (added) return true;
    requests_.failures.push_back(
        {line, custom_id, form,
         fmt::format("line {} has the custom_id \"{}\" of line {}; give every row its own", line,
                     custom_id, first->second),
         "custom_id", kDuplicateCustomId});
    return false;
  }

  Requests& requests_;
  std::unordered_map<std::string, std::int64_t> first_lines_;
};

RowFailure too_long(std::int64_t line, RowForm form) {
  return {line,
          default_custom_id(line),
          form,
          fmt::format("line {} has more than {} bytes, the most that a row may have", line,
                      kMaxLineBytes),
          "",
          ""};
}

}  // namespace

Requests read_requests(std::istream& in, const std::string& name, RequestParser& parser) {
  Requests requests;
  Collector collector(requests);
  LineReader lines(in, name);
  bool json = name.ends_with(".jsonl") || name.ends_with(".json");
  bool decided = json;
  for (std::string line; lines.next(line);) {
    const std::size_t first = line.find_first_not_of(kBlanks);
    if (first == std::string::npos && !lines.too_long()) continue;
    if (!decided) {
      json = first != std::string::npos && line[first] == '{';
      decided = true;
    }
    if (lines.too_long()) {
      collector.add(too_long(lines.number(), parser.last_form()));
    } else {
      collector.add(json ? parser.parse_json(line, lines.number())
                         : parser.parse_text(line, lines.number()));
    }
  }
  requests.warnings = parser.warnings();
  return requests;
}

Requests read_requests(const std::filesystem::path& path, RequestParser& parser) {
  std::error_code failure;
  if (std::filesystem::is_directory(path, failure)) {
    throw InputError(
        fmt::format("the input {} is a folder; name a file of prompts", path.string()));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw InputError(
        fmt::format("cannot open the input {}: {}", path.string(), std::strerror(errno)));
  }
  return read_requests(file, path.string(), parser);
}

}  // namespace sluice::launcher
