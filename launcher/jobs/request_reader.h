// A job's input file to its rows.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

struct Requests {
  std::vector<RequestRow> rows;       // in the file's order
  std::vector<RowFailure> failures;   // likewise; the other rows are not harmed
  std::vector<std::string> warnings;  // one sentence each
};

/// JSON Lines if `name` ends in .jsonl or .json or the first character that is no blank is '{';
/// else one prompt per line. Blank lines are passed over. Of rows with the same custom_id the first
/// counts. Throws IoError when `in` cannot be read.
Requests read_requests(std::istream& in, const std::string& name, RequestParser& parser);

/// Throws InputError if the file is not there, is a folder, or cannot be opened.
Requests read_requests(const std::filesystem::path& path, RequestParser& parser);

}  // namespace sluice::launcher
