// The lines of a job's input that are rows, and which form they have.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "launcher/config/shard.h"
#include "launcher/jobs/line_reader.h"

namespace sluice::launcher {

/// A line that is a row.
struct InputLine {
  std::string text;
  std::int64_t number = 0;  // from 1
  bool is_json = false;     // else it is a prompt
  bool too_long = false;    // only its beginning is here
  bool is_foreign = false;  // of another shard
};

/// The form is known with the first line that is not blank. JSON Lines: the name ends in .jsonl or
/// .json, or the first character is '{' (and in a .txt file a quotation mark follows it: "{name}
/// said hello" is a text). Else each line is a prompt.
class InputLines {
 public:
  /// `in` must outlive it, and gives plain bytes.
  InputLines(std::istream& in, const std::string& name, Shard shard = {});

  /// The next line that is not blank; false at the end. Throws IoError when the input cannot be
  /// read, and InputError where it is in no form that we read: UTF-16 or UTF-32, or JSON that is
  /// not one value per line.
  bool next(InputLine& line);

  std::uint64_t bytes() const { return lines_.bytes(); }  // read so far

 private:
  void decide(const std::string& line, std::size_t first);

  std::string name_;
  std::string inner_name_;  // without .gz or .zst
  LineReader lines_;
  Shard shard_;
  std::int64_t rows_ = 0;
  bool decided_ = false;
  bool json_ = false;
};

}  // namespace sluice::launcher
