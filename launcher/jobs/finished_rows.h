// What an output file has already: the rows that --resume does not run again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace sluice::launcher {

class FinishedRows {
 public:
  /// Takes in one record of the output. Throws InputError naming `where` if it is none of ours.
  void add(std::string_view record, const std::string& where);

  /// The row was answered, or refused.
  bool has(const std::string& custom_id) const { return ids_.contains(custom_id); }

  /// Whether a further row with the custom_id of an earlier one was refused already. Such records
  /// are no answer to the first row, and are counted: each call takes one.
  bool take_duplicate(const std::string& custom_id);

  std::int64_t records() const { return records_; }
  std::int64_t failures() const { return failures_; }  // of the records

 private:
  std::unordered_set<std::string> ids_;
  std::unordered_map<std::string, std::int64_t> duplicates_;
  std::int64_t records_ = 0;
  std::int64_t failures_ = 0;
};

}  // namespace sluice::launcher
