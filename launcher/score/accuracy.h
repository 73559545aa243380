// How many questions were answered right, from the records of their rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace sluice::launcher {

/// Part of questions that are right, with its standard error (lm-eval's mean_stderr: the sample's
/// standard deviation over the root of their number).
class RightShare {
 public:
  void add(bool right) {
    ++count_;
    right_ += right ? 1 : 0;
  }
  std::size_t count() const { return count_; }
  double mean() const;   // pre: count() > 0
  double error() const;  // pre: count() > 1
  /// "0.2500 ± 0.0131"
  std::string text() const;

 private:
  std::size_t count_ = 0;
  std::size_t right_ = 0;
};

/// Takes the records of score_members() with the field "gold", those of an output that a run goes
/// on with included.
class Accuracy {
 public:
  /// Of two records of a row the answer counts.
  void add(std::string_view record);

  /// The likeliest choice is the right one.
  const RightShare& plain() const { return plain_; }
  /// ... by log-probability over characters, without the blank in front (lm-eval's acc_norm).
  const RightShare& by_length() const { return by_length_; }
  /// Rows whose only records are errors.
  std::size_t failed() const { return failures_.size(); }
  /// What one of them says; empty: there is none.
  std::string failure() const;

 private:
  RightShare plain_;
  RightShare by_length_;
  std::unordered_map<std::uint64_t, std::string> failures_;  // message, by key of the row
};

/// The table that `sluice score` prints.
std::string accuracy_text(const Accuracy& accuracy);

}  // namespace sluice::launcher
