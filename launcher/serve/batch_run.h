// One batch from its input's lines to its results.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "launcher/jobs/completion_writer.h"
#include "launcher/serve/batch_line.h"
#include "launcher/serve/batch_reply.h"
#include "launcher/serve/batch_store.h"
#include "launcher/serve/file_store.h"

namespace sluice::launcher {

/// Answers a request of a batch, as the endpoint of this path does. Throws ApiError.
using AskEndpoint = std::function<void(const std::string& path, Json& body,
                                       const std::shared_ptr<HttpReply>& reply)>;

constexpr std::int64_t kMostBatchLines = 50'000;  // OpenAI's limit
constexpr std::size_t kMostBatchLineBytes = 8 << 20;

/// Each answer is a line of the results before the next is looked at. So a batch that was killed
/// goes on where it was: lines that have a result are passed over.
class BatchRun {
 public:
  /// References must outlive it. `lines_at_once`: so many are asked for at a time. `stopping`: the
  /// server ends.
  BatchRun(const Batch& batch, BatchStore& batches, FileStore& files, const AskEndpoint& ask,
           std::size_t lines_at_once, const std::atomic<bool>& stopping);
  /// What is under way is dropped.
  ~BatchRun();
  BatchRun(const BatchRun&) = delete;
  BatchRun& operator=(const BatchRun&) = delete;

  /// To the batch's end, or to the server's. Throws InputError for an input that cannot be read,
  /// IoError, CapacityError.
  void run();
  /// The batch is cancelled, or the server ends. Any thread.
  void wake() { answers_->wake(); }

 private:
  struct Results;
  struct Asked {
    BatchLine line;
    std::shared_ptr<BatchReply> reply;
  };

  std::string name() const;
  void validate();
  void answer_lines(Results& results);
  void take_line(BatchLine line, Results& results);
  void ask(BatchLine line);
  void write_answers(Results& results);
  void write(const BatchLine& line, int status, const std::string& body, Results& results);
  bool is_over() const;
  bool is_wanted() const;
  void leave();
  void finish();
  std::string keep(const std::filesystem::path& path, const std::string& id,
                   const char* filename_end);

  Batch batch_;
  BatchStore& batches_;
  FileStore& files_;
  const AskEndpoint& ask_;
  const std::size_t lines_at_once_;
  const std::atomic<bool>& stopping_;
  const std::shared_ptr<BatchAnswers> answers_ = std::make_shared<BatchAnswers>();
  std::unordered_map<std::int64_t, Asked> asked_;  // by line
  std::unordered_set<std::uint64_t> met_;          // keys of the input's lines so far
  bool dropped_ = false;                           // a request was, unanswered
};

}  // namespace sluice::launcher
