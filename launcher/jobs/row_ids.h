// Which custom_ids a job has met, in 12 bytes each: ten million rows take about 160 MB.
//
// An id is remembered as its XXH3-64 hash. Two different ids of one job have the same hash with a
// chance of n * n / 2^65: 3 in 10^6 for ten million rows. Then the second of them is taken for a
// duplicate of the first and becomes an error record that says so: it is not lost in silence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice::launcher {

std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed = 0);

/// The name that a row has in the output: its custom_id or, where it has none, its line. The two
/// never have the same key.
std::uint64_t key_of_id(std::string_view custom_id);
std::uint64_t key_of_line(std::int64_t line);

class RowIds {
 public:
  enum class Met : std::uint8_t {
    never,
    answered,  // in the output before this run, with an answer
    failed,    // likewise, with an error record
    row,       // a row of this run's input has it
  };
  struct Entry {
    Met met = Met::never;
    std::int64_t line = 0;  // of that row; 0: too far to remember
    bool made_up = false;   // the row had no custom_id, and was given this one
  };

  /// Room for so many ids, so that the table need not grow.
  void reserve(std::size_t ids);

  /// What is known of an id of the output; a later record counts.
  void add_answered(std::uint64_t key) { *place(key) = kAnswered; }
  void add_failed(std::uint64_t key) { *place(key) = kFailed; }
  /// What was known of a row's id before; from now on the first row with it is known.
  Entry meet(std::uint64_t key, std::int64_t line, bool made_up);
  /// A key that was made up is now known as given, by this line.
  void give(std::uint64_t key, std::int64_t line) { *place(key) = mark_of(line, false); }

  /// The output has an answer, and no row of this run's input had this key so far.
  bool is_answered(std::uint64_t key) const {
    return !keys_.empty() && marks_[find(key)] == kAnswered;
  }

  std::size_t size() const { return size_; }
  std::size_t bytes() const {
    return keys_.capacity() * sizeof(std::uint64_t) + marks_.capacity() * sizeof(std::uint32_t);
  }

 private:
  // A mark is 0 where the place is free, one of these, or a line (of 31 bits) behind them.
  static constexpr std::uint32_t kAnswered = 1;
  static constexpr std::uint32_t kFailed = 2;
  static constexpr std::uint32_t kLines = 3;
  static constexpr std::uint32_t kFar = (1U << 31) - 1;
  static constexpr std::uint32_t kMadeUp = 1U << 31;

  static std::uint32_t mark_of(std::int64_t line, bool made_up);
  /// The mark of a key, which is added if it is not there.
  std::uint32_t* place(std::uint64_t key);
  std::size_t find(std::uint64_t key) const;
  void grow(std::size_t places);

  std::vector<std::uint64_t> keys_;
  std::vector<std::uint32_t> marks_;
  std::size_t size_ = 0;
};

}  // namespace sluice::launcher
