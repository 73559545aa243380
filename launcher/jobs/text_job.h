// A file of prompts as the head's job: hands the rows' requests out in order as rows are read, and
// writes each row's record the moment all its requests have ended.
#pragma once

#include <cstdint>
#include <deque>

#include "launcher/jobs/answer_form.h"
#include "launcher/jobs/completion_writer.h"
#include "launcher/jobs/journal.h"
#include "launcher/jobs/row_feed.h"
#include "launcher/jobs/row_work.h"
#include "stage/request.h"

namespace sluice::launcher {

struct TextJobOptions {
  std::int32_t eos = -1;  // of the model; -1: the tokenizer's
  AnswerForm form;
  /// Prompt and answer of the longest row that the run is made for; 0: any. A longer one, of an
  /// input that was changed since it was looked at, fails alone.
  std::int32_t longest_sequence = 0;
  std::int32_t most_rule_words = stage::kMaxRuleWords;  // that the run is made for
  bool grammars = true;                                 // the run is made for them
  bool features = true;                                 // ... and for embeddings
};

/// Of this run, but for `failed`.
struct JobCounts {
  std::int64_t answered = 0;
  std::int64_t failed = 0;  // refused or failed, in this run or in the output before: exit status 6
  std::int64_t skipped = 0;        // in the output already
  std::int64_t written = 0;        // records, of answers and of failures
  std::int64_t prompt_tokens = 0;  // of answered rows
  std::int64_t completion_tokens = 0;
  JournalUse journal;
};

/// In order: make it, start() it, run it. One thread.
class TextJob : public stage::Job {
 public:
  /// Both references must outlive it.
  TextJob(const Tokenizer& tokenizer, RowFeed& feed, TextJobOptions options);
  TextJob(const TextJob&) = delete;
  TextJob& operator=(const TextJob&) = delete;

  /// Begins to read rows, with so many threads that parse. `writer` and `journal` must outlive the
  /// run. `journal`: which has begun, or null.
  void start(CompletionWriter& writer, int threads, Journal* journal = nullptr);

  JobCounts counts() const;
  /// Every row of the input is in the output.
  bool done() const { return no_more_ && works_.empty(); }

  // stage::Job; whatever CompletionWriter or RowFeed throws goes through.
  stage::Next next(stage::Request& request) override;
  void on_prompt_token(std::uint64_t id, std::int32_t index,
                       const stage::TokenResult& result) override;
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override;
  void on_embedding(std::uint64_t id, std::span<const float> values) override;
  void on_prompt_done(std::uint64_t id) override;
  void on_failed(std::uint64_t id, const std::string& reason) override;

 private:
  stage::Next take_row(RowWork*& begun);
  bool restore(RowWork& work, std::size_t part, stage::Request& request);
  bool add_to_search(RowWork& work, std::size_t part, const stage::TokenResult& result);
  void end_part(RowWork& work);
  void write(RowWork& work);
  void write_failure(const RowFailure& failure, std::uint64_t error_before);
  bool is_too_large(const RequestRow& row) const;

  const Tokenizer& tokenizer_;
  RowFeed& feed_;
  TextJobOptions options_;
  CompletionWriter* writer_ = nullptr;
  Journal* journal_ = nullptr;
  RowWorks works_;
  RowWork* open_ = nullptr;        // the row whose requests are being handed out
  std::deque<RowWork*> stepping_;  // searches whose next step has begun
  JobCounts counts_;               // without the feed's
  bool no_more_ = false;           // the feed has none
};

}  // namespace sluice::launcher
