// What a run must be made for, found out without reading all rows as rows: ten million lines take
// seconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config/shard.h"
#include "launcher/jobs/input_file.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

/// The numbers N of which an input has the text "row-N" between quotation marks: a row may have
/// that name, and so none that has no name may be given it.
class RowNames {
 public:
  /// Takes in the names of one line of JSON. Numbers above `most` are left out.
  void look_at(std::string_view line, std::uint64_t most);
  bool has(std::int64_t line) const {
    return static_cast<std::uint64_t>(line) < numbers_.size() &&
           numbers_[static_cast<std::size_t>(line)];
  }

 private:
  std::vector<bool> numbers_;
};

struct InputScan {
  JobScan job;
  RowNames names;
};

/// Rows of the first bytes are parsed and tokenized as they will be in the run, those of an input
/// no longer than that all of them. Of the others a line's bytes bound its tokens: a token of a
/// byte-level vocabulary has one byte at least. A conversation's bytes are those that its template
/// writes.
constexpr std::uint64_t kExactBytes = 2U << 20;

/// Reads a regular file to its end and goes back to its beginning. Throws as InputLines::next().
/// Names are those of all rows, the rest is of the shard's.
InputScan scan_input(InputFile& file, RequestParser parser, std::uint64_t exact_bytes = kExactBytes,
                     Shard shard = {});

/// The names alone. Otherwise as scan_input().
RowNames row_names_of(InputFile& file);

/// The most tokens, prompt and answer, that a line can come to.
std::int64_t most_tokens_of(std::string_view line, bool is_json, const RequestParser& parser);

}  // namespace sluice::launcher
