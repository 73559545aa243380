// Which rows of an input have something to be done for: no custom_id is answered twice, and what
// the output has already is not done again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/jobs/finished_rows.h"
#include "launcher/jobs/input_scan.h"
#include "launcher/jobs/request_parser.h"

namespace sluice::launcher {

/// A row to run, or a failure to write down.
struct JobRow {
  ParsedRow row;
  /// The hash of the error record that the output has of this row; it is not written again. 0:
  /// none.
  std::uint64_t error_before = 0;
};

class RowSorter {
 public:
  /// `names`: of the whole input, where it was looked at before.
  RowSorter(FinishedRows finished, RowNames names)
      : finished_(std::move(finished)), names_(std::move(names)) {}

  /// Nothing: the output has it. Rows come in the input's order.
  std::optional<JobRow> sort(ParsedRow parsed);

  /// sort() will say that the output has its answer.
  bool is_answered(const RequestRow& row) const;

  std::int64_t skipped() const { return skipped_; }  // rows that the output has
  /// Of these, those whose record is an error; and error records of rows that were not met.
  std::int64_t failed() const { return failed_again_ + finished_.failures(); }
  /// Sentences about the input since the last call.
  std::vector<std::string> take_warnings();

 private:
  std::optional<JobRow> refuse_duplicate(std::uint64_t key, std::int64_t line,
                                         const std::string& custom_id, RowForm form,
                                         std::int64_t first_line);
  void warn_of_shared_name(const std::string& custom_id, std::int64_t line, std::int64_t first);

  FinishedRows finished_;
  RowNames names_;
  std::int64_t skipped_ = 0;
  std::int64_t failed_again_ = 0;
  std::vector<std::string> warnings_;
};

}  // namespace sluice::launcher
