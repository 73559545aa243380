// Rows under way. A row takes one request or several, such as one for each of its choices, and is
// answered by one record when all of them have ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "launcher/jobs/answer.h"
#include "launcher/jobs/beam_work.h"
#include "launcher/jobs/request_row.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// A row, and what has come of its requests so far.
class RowWork {
 public:
  /// `tokenizer` must outlive it.
  RowWork(const Tokenizer& tokenizer, RequestRow given, std::uint64_t error, std::int32_t eos);
  RowWork(const RowWork&) = delete;  // answers point to the row
  RowWork& operator=(const RowWork&) = delete;

  RequestRow row;
  std::uint64_t error_before;   // JobRow::error_before
  std::vector<Answer> answers;  // of row, one for each request, or the best of a beam search
  std::vector<std::optional<std::uint32_t>> numbers;  // likewise: in the journal
  std::string failure;     // why the row cannot be answered; empty: nothing has failed
  std::size_t begun = 0;   // requests that were handed out, in their order
  std::size_t ended = 0;   // ... of which so many have ended
  std::uint64_t first_id;  // of its requests, which have numbers in turn

  std::unique_ptr<BeamWork> search;  // null: no beam search
  std::size_t known = 0;             // requests so far: those of a search's steps come with these
  std::size_t step_begin = 0;        // of a search: the first request of the present step

  /// No further request is handed out: all that are known were, or one has failed and the others
  /// are in vain.
  bool all_begun() const { return begun == known || !failure.empty(); }
  bool done() const { return all_begun() && ended == begun; }
};

class RowWorks {
 public:
  struct Part {
    RowWork& work;
    std::size_t index;  // among the row's requests
  };

  /// A row begins. It stays where it is until erase().
  RowWork& begin(const Tokenizer& tokenizer, RequestRow row, std::uint64_t error_before,
                 std::int32_t eos);
  /// Whose request `id` is. Throws std::logic_error for one that is not under way.
  Part part_of(std::uint64_t id);
  void erase(const RowWork& work);
  bool empty() const { return works_.empty(); }
  /// A row may have further requests once those under way have ended.
  bool may_grow() const;

 private:
  std::uint64_t next_row_ = 0;
  std::unordered_map<std::uint64_t, RowWork> works_;  // by number of the row
};

}  // namespace sluice::launcher
