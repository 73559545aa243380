// Reads rows ahead of the job, on a thread of its own: tokenizing is done beside the pipeline's
// work, and a pipe that has nothing now holds nobody up. Memory is bounded: so many rows wait, and
// so many tokens.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <iosfwd>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "launcher/jobs/request_reader.h"
#include "launcher/jobs/row_sorter.h"
#include "stage/request.h"

namespace sluice::launcher {

class RowFeed {
 public:
  /// `patient`: next() waits for the reader, since a file's rows are there, and so passes are the
  /// same in each run; else it says none_now. References must outlive it.
  RowFeed(std::istream& in, const std::string& name, RequestParser& parser, RowSorter sorter,
          bool patient);
  /// Waits for the reader. Where it waits for a pipe, InputFile::stop() comes first.
  ~RowFeed();
  RowFeed(const RowFeed&) = delete;
  RowFeed& operator=(const RowFeed&) = delete;

  /// Once. `line` rings when there is a row after next() had none.
  void start(stage::HeadLine& line);

  /// Throws what reading threw, after the rows before it.
  stage::Next next(JobRow& row);

  // Of the rows read so far; see RowSorter.
  std::int64_t skipped() const;
  std::int64_t failed() const;
  std::vector<std::string> take_warnings();

 private:
  struct Counts {
    std::int64_t skipped = 0;
    std::int64_t failed = 0;
  };

  void read() noexcept;
  void read_rows();
  /// False: the job has gone.
  bool push(std::optional<JobRow> row);
  void end(std::exception_ptr problem);

  RequestReader reader_;
  RequestParser& parser_;
  RowSorter sorter_;
  const bool patient_;
  stage::HeadLine* line_ = nullptr;

  mutable std::mutex mutex_;  // guards the rest, but for the thread
  std::condition_variable changed_;
  std::deque<JobRow> rows_;
  std::size_t tokens_ = 0;  // of these
  Counts counts_;
  std::vector<std::string> warnings_;
  bool asked_ = false;  // in vain: ring when there is one
  bool ended_ = false;
  bool stopping_ = false;
  std::exception_ptr problem_;
  std::thread thread_;
};

}  // namespace sluice::launcher
