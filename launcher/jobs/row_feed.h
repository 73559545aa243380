// Reads rows ahead of the job: one thread reads lines, others parse and tokenize them while the
// pipeline works. A pipe without data does not hold up the job. Rows come out in the input's order.
// Memory is bounded: there are limits for the rows that wait, for their tokens, and for the bytes
// of lines that are not parsed yet.
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

/// Threads that parse and tokenize for a rank that computes with `cores` threads: half as many,
/// from 1 to 4. Four keep ahead of any pipeline.
int parsing_threads(int cores);

class RowFeed {
 public:
  /// `patient`, for files: next() waits for the reader, so that passes are the same in every run.
  /// Else, for pipes, it says none_now. References must outlive it.
  RowFeed(std::istream& in, const std::string& name, RequestParser& parser, RowSorter sorter,
          bool patient, Shard shard = {});
  /// Waits for the threads, each of which finishes the row that it has. The reader may be waiting
  /// for a pipe: call InputFile::stop() first.
  ~RowFeed();
  RowFeed(const RowFeed&) = delete;
  RowFeed& operator=(const RowFeed&) = delete;

  /// Call it once. `line` rings when there is a row after next() had none. `threads` >= 1: how many
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
  struct Item {
    InputLine line;
    RowDraft draft;
    std::size_t tokens = 0;  // of the draft
    std::exception_ptr problem;
  };
  /// Lines that one thread parses: many where they are short, so that threads seldom meet.
  struct Work {
    std::vector<Item> items;
    std::size_t bytes = 0;  // of the lines
    bool done = false;
  };

  void read() noexcept;
  void read_lines();
  bool read_work(Work& work);
  void parse() noexcept;
  void make_drafts(Work& work) noexcept;
  bool has_room() const;
  void settle();
  bool settle(Work& work);
  void settle(Item& item);
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
  std::deque<Work> works_;  // in the input's order
  std::size_t begun_ = 0;   // so many of them, from the front, are done or in a thread's hands
  std::size_t lines_in_works_ = 0;
  std::size_t bytes_ = 0;    // of the lines of works_
  std::size_t tokens_ = 0;   // of the drafts of works_, and of rows_
  std::deque<JobRow> rows_;  // ready
  bool asked_ = false;       // next() had none: ring when there is one
  bool reading_ = true;
  bool ended_ = false;  // rows_ gets no more
  bool stopping_ = false;
  std::exception_ptr problem_;  // of reading
  std::vector<std::thread> threads_;
};

}  // namespace sluice::launcher
