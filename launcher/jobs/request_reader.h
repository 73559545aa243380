// A job's input to its rows, one at a time.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_parser.h"

namespace sluice::launcher {

class RequestReader {
 public:
  /// Both references must outlive it.
  RequestReader(std::istream& in, const std::string& name, RequestParser& parser)
      : lines_(in, name), parser_(parser) {}

  /// The next row, or what is wrong with it; nothing at the end. Throws as InputLines::next() does.
  std::optional<RequestParser::Parsed> next();

  std::uint64_t bytes() const { return lines_.bytes(); }  // read so far

 private:
  InputLines lines_;
  RequestParser& parser_;
  std::string line_;
};

/// What parse_json() or parse_text() makes of the line that `lines` gave last.
RequestParser::Parsed parse(const InputLines& lines, const std::string& line,
                            RequestParser& parser);

}  // namespace sluice::launcher
