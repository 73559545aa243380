// What an output file has already, and what --resume makes of it: answered rows are not run again,
// rows with an error record are tried again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "launcher/jobs/row_ids.h"

namespace sluice::launcher {

enum class RecordKind : std::uint8_t {
  answer,
  error,
  duplicate,  // the error of a further row with the custom_id of an earlier one
};

/// What a record of an output is.
struct RecordFacts {
  std::uint64_t key = 0;  // key_of_id() or key_of_line() of its row
  RecordKind kind = RecordKind::answer;
};

/// Nothing: it is no record of ours.
std::optional<RecordFacts> facts_of(std::string_view record);

class FinishedRows {
 public:
  /// Takes in one record of the output. Of two records of a row the later counts. Returns false if
  /// it is none of ours.
  bool take(std::string_view record);
  /// Throws InputError naming `where` in that case.
  void add(std::string_view record, const std::string& where) {
    if (!take(record)) refuse(where);
  }
  [[noreturn]] static void refuse(const std::string& where);

  /// The ids met so far, those of the input included as it is read.
  RowIds& ids() { return ids_; }
  const RowIds& ids() const { return ids_; }

  /// The hash of the last error record of a row; 0: there is none.
  std::uint64_t error_of(std::uint64_t key) const;
  /// The row is tried again, or fails as it did: its old record is no failure of its own any more.
  void forget_error(std::uint64_t key) { errors_.erase(key); }

  /// Whether a further row with the custom_id of an earlier one was refused already. Such records
  /// are no answer to the first row, and are counted: each call takes one.
  bool take_duplicate(std::uint64_t key);

  std::int64_t records() const { return records_; }
  /// Error records whose rows were not answered by a later record, nor met in the input yet.
  std::int64_t failures() const { return static_cast<std::int64_t>(errors_.size()) + duplicates_; }

 private:
  RowIds ids_;
  std::unordered_map<std::uint64_t, std::uint64_t> errors_;       // key to hash of the record
  std::unordered_map<std::uint64_t, std::int64_t> duplicate_of_;  // key to number of records
  std::int64_t duplicates_ = 0;
  std::int64_t records_ = 0;
};

}  // namespace sluice::launcher
