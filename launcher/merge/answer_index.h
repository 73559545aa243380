// Where the records of many files are, by the names of their rows: 16 bytes each.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "launcher/jobs/finished_rows.h"

namespace sluice::launcher {

/// A record by its file's number and where it begins there.
struct RecordPlace {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
};

class AnswerIndex {
 public:
  /// In the files' order. `offset`: below 2^48; files: kMostMergedFiles at most.
  void add(const RecordFacts& facts, RecordPlace place);
  /// After the last add().
  void sort();

  std::size_t size() const { return entries_.size(); }

  /// The record of the next row with this key: its first answer, or else its last error. For a
  /// further row with the same key: what such a row was refused with. Nothing: there is none.
  struct Taken {
    RecordPlace place;
    bool is_answer = false;
  };
  std::optional<Taken> take(std::uint64_t key);
  /// A row with this key was asked for already.
  bool was_taken(std::uint64_t key) const;

  /// Records that nobody took.
  struct Rest {
    std::vector<RecordPlace> doubles;  // further answers of rows that have one: the first few
    std::vector<RecordPlace> foreign;  // of rows that nobody asked for: the first few
    std::int64_t num_doubles = 0;
    std::int64_t num_foreign = 0;
  };
  Rest rest(std::size_t first_few) const;

  /// Takes the record of every row, and calls `on_taken` for each in the files' order.
  void take_all(const std::function<void(const Taken& taken)>& on_taken);

 private:
  struct Entry {
    std::uint64_t key;
    std::uint64_t place;  // kind, file, offset, from the upper bits down
  };
  using Group = std::pair<std::size_t, std::size_t>;

  RecordKind kind_at(std::size_t at) const;
  Group group_of(std::uint64_t key) const;
  Group group_from(std::size_t begin) const;
  bool any_taken(Group group) const;
  std::optional<std::size_t> choose(Group group) const;

  std::deque<Entry> entries_;  // grows without a copy beside it
  std::vector<bool> taken_;
};

}  // namespace sluice::launcher
