// Reads rows ahead of the job: one thread reads lines, others parse and tokenize them beside the
// pipeline's work, and a pipe that has nothing now holds nobody up. Rows come out in the input's
// order. Memory is bounded: so many rows wait, so many tokens, and so many bytes of lines.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <iosfwd>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/row_sorter.h"
#include "stage/request.h"

namespace sluice::launcher {

/// Threads that parse and tokenize, of a rank that computes with `cores` threads: half as many, at
/// most 4, which are ahead of any pipeline.
int parsing_threads(int cores);

class RowFeed {
 public:
  /// `patient`: next() waits for the reader, since a file's rows are there, and so passes are the
  /// same in each run; else it says none_now. References must outlive it.
  RowFeed(std::istream& in, const std::string& name, RequestParser& parser, RowSorter sorter,
          bool patient);
  /// Ends the threads, each behind the row that it has in hand. Where the reader waits for a pipe,
  /// InputFile::stop() comes first.
  ~RowFeed();
  RowFeed(const RowFeed&) = delete;
  RowFeed& operator=(const RowFeed&) = delete;

  /// Once. `line` rings when there is a row after next() had none. `threads` >= 1: of those that
  /// parse.
  void start(stage::HeadLine& line, int threads);

  /// Throws what reading or parsing threw, after the rows before it.
  stage::Next next(JobRow& row);

  // Of the rows that were ready so far; see RowSorter.
  std::int64_t skipped() const;
  std::int64_t failed() const;
  std::vector<std::string> take_warnings();

 private:
  /// A line on its way to a row.
  struct Work {
    InputLine line;
    RowDraft draft;
    std::size_t tokens = 0;  // of the draft
    std::exception_ptr problem;
    bool done = false;
  };

  void read() noexcept;
  void read_lines();
  void parse() noexcept;
  void make_draft(Work& work) noexcept;
  bool has_room() const;
  void settle();
  void settle(Work& work);
  void wake();

  InputLines lines_;  // the reader's
  RequestParser& parser_;
  const bool patient_;
  stage::HeadLine* line_ = nullptr;

  mutable std::mutex mutex_;  // guards the rest, and what parser_ knows of earlier rows
  std::condition_variable room_;
  std::condition_variable work_;
  std::condition_variable ready_;
  RowSorter sorter_;
  std::deque<Work> works_;   // in the input's order
  std::size_t begun_ = 0;    // of these, the first ones: in a thread's hands, or done
  std::size_t bytes_ = 0;    // of the lines of works_
  std::size_t tokens_ = 0;   // of the drafts of works_, and of rows_
  std::deque<JobRow> rows_;  // ready
  bool asked_ = false;       // in vain: ring when there is one
  bool reading_ = true;
  bool ended_ = false;  // rows_ gets no more
  bool stopping_ = false;
  std::exception_ptr problem_;  // of reading
  std::vector<std::thread> threads_;
};

}  // namespace sluice::launcher
