// A file of prompts as the head's job: hands the rows out in order, and writes each answer the
// moment it is finished.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "launcher/jobs/answer.h"
#include "launcher/jobs/answer_form.h"
#include "launcher/jobs/completion_writer.h"
#include "launcher/jobs/request_reader.h"
#include "stage/request.h"

namespace sluice::launcher {

struct TextJobOptions {
  std::int32_t eos = -1;  // of the model; -1: the tokenizer's
  AnswerForm form;
};

/// Of this run, but for `failed`.
struct JobCounts {
  std::int64_t answered = 0;
  std::int64_t failed = 0;  // refused or failed, in this run or in the output before: exit status 6
  std::int64_t skipped = 0;        // in the output already
  std::int64_t prompt_tokens = 0;  // of answered rows
  std::int64_t completion_tokens = 0;
};

/// In order: make it, skip_finished() to resume, scan(), start(), run it. One thread.
class TextJob : public stage::Job {
 public:
  /// `tokenizer` must outlive it.
  TextJob(const Tokenizer& tokenizer, Requests requests, TextJobOptions options);
  TextJob(const TextJob&) = delete;
  TextJob& operator=(const TextJob&) = delete;

  /// Leaves out the rows that `finished` has, answered or refused.
  void skip_finished(FinishedRows finished);

  JobScan scan() const;

  /// Writes the records of refused rows. `writer` must outlive the run.
  void start(CompletionWriter& writer);

  const JobCounts& counts() const { return counts_; }

  // stage::Job; whatever CompletionWriter throws goes through.
  stage::Next next(stage::Request& request) override;
  void on_prompt_token(std::uint64_t id, std::int32_t index,
                       const stage::TokenResult& result) override;
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override;
  void on_prompt_done(std::uint64_t id) override;
  void on_failed(std::uint64_t id, const std::string& reason) override;

 private:
  Answer& answer(std::uint64_t id);
  void write(std::uint64_t id);

  const Tokenizer& tokenizer_;
  Requests requests_;
  TextJobOptions options_;
  CompletionWriter* writer_ = nullptr;
  std::size_t next_ = 0;
  std::unordered_map<std::uint64_t, Answer> answers_;  // of rows under way
  JobCounts counts_;
};

}  // namespace sluice::launcher
