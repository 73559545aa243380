// Jobs without a file: one prompt of the command line, and made-up prompts to measure with.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <unordered_map>

#include "launcher/jobs/answer.h"
#include "launcher/jobs/request_row.h"
#include "stage/request.h"

namespace sluice::launcher {

/// Answers one row and prints the text and a line end.
class PromptJob : public stage::Job {
 public:
  /// `row` is RequestParser::parse_text's. `eos` -1: the tokenizer's. References must outlive it.
  PromptJob(const Tokenizer& tokenizer, RequestRow row, std::int32_t eos, std::ostream& out);
  PromptJob(const PromptJob&) = delete;
  PromptJob& operator=(const PromptJob&) = delete;

  JobScan scan() const;
  /// Why the prompt could not be answered; empty: it was.
  const std::string& failure() const { return failure_; }

  stage::Next next(stage::Request& request) override;
  void on_prompt_token(std::uint64_t id, std::int32_t index,
                       const stage::TokenResult& result) override;
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override;
  void on_prompt_done(std::uint64_t id) override;
  void on_failed(std::uint64_t id, const std::string& reason) override;

 private:
  void print();

  RequestRow row_;
  Answer answer_;  // of row_
  std::ostream& out_;
  bool handed_out_ = false;
  std::string failure_;
};

struct DummyPrompts {
  std::int64_t count = 1;
  std::int32_t prompt_len = 32;  // >= 1
  std::int32_t gen_len = 32;     // >= 0
  std::int32_t vocabulary = 0;   // > kFirstOrdinaryToken
  std::uint64_t seed = 0;
};

/// OPT's four special tokens do not occur in made-up prompts.
constexpr std::int32_t kFirstOrdinaryToken = 4;

/// `count` prompts of random token ids, no two alike (as long as there are as many tokens), each
/// answered with exactly gen_len tokens: nothing ends an answer early. FlexGen: --prompt-len,
/// --gen-len.
class DummyJob : public stage::Job {
 public:
  explicit DummyJob(const DummyPrompts& prompts) : prompts_(prompts) {}

  JobScan scan() const;
  std::int64_t answered() const { return answered_; }
  std::int64_t failed() const { return failed_; }

  stage::Next next(stage::Request& request) override;
  void on_prompt_token(std::uint64_t, std::int32_t, const stage::TokenResult&) override {}
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override;
  void on_prompt_done(std::uint64_t) override { ++answered_; }
  void on_failed(std::uint64_t id, const std::string& reason) override;

 private:
  DummyPrompts prompts_;
  std::int64_t next_ = 0;
  std::int64_t answered_ = 0;
  std::int64_t failed_ = 0;
  std::unordered_map<std::uint64_t, std::int32_t> tokens_;  // made so far, of rows under way
};

}  // namespace sluice::launcher
