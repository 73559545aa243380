// The answer to one row, token by token: its text, and when and why it ends.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "launcher/jobs/request_row.h"
#include "launcher/tokenizer/stream_decoder.h"

namespace sluice::launcher {

enum class Finish : std::uint8_t {
  none,    // not yet
  stop,    // EOS, a stop string or a stop token
  length,  // max_tokens
};

/// A token's log-probability, and the likeliest ones in its place.
struct ScoredToken {
  std::int32_t token = -1;
  float logprob = 0.0F;
  std::vector<stage::Candidate> top;  // likeliest first
};

/// Both must outlive it.
class Answer {
 public:
  /// `eos` -1: no token ends an answer by itself.
  Answer(const Tokenizer& tokenizer, const RequestRow& row, std::int32_t eos);

  /// Log-probabilities of the next prompt token but the first; before any add().
  void add_prompt_token(const stage::TokenResult& result);
  /// A new token; true: the answer is finished, and no more may come.
  bool add(const stage::TokenResult& result);
  /// The prompt is done with, and no token is wanted (max_tokens 0).
  void finish_without_tokens();

  const RequestRow& row() const { return *row_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  Finish finish() const { return finish_; }
  /// Of the new tokens: cut before a stop string, without the token that ended the answer, and
  /// without special tokens if the row leaves them out.
  const std::string& text() const { return text_; }
  /// Every token the model made, the one that ended the answer (EOS too, as Hugging Face has it)
  /// included: usage.completion_tokens is their number.
  const std::vector<std::int32_t>& tokens() const { return tokens_; }
  /// One for each prompt token but the first (with echo), one for each new token; only if
  /// log-probabilities were asked for.
  const std::vector<ScoredToken>& prompt_results() const { return prompt_results_; }
  const std::vector<ScoredToken>& results() const { return results_; }
  /// Of all new tokens; 0 where the row does not need it.
  double logprob_sum() const { return logprob_sum_; }
  /// Of a beam search; else nothing.
  std::optional<float> beam_score() const { return beam_score_; }
  /// Where the row asks for one.
  const std::vector<float>& embedding() const { return embedding_; }
  void set_embedding(std::span<const float> values) {
    embedding_.assign(values.begin(), values.end());
  }
  void set_beam_score(float score) { beam_score_ = score; }

 private:
  const Tokenizer* tokenizer_;
  const RequestRow* row_;
  std::int32_t eos_;
  StreamDecoder decoder_;
  Finish finish_ = Finish::none;
  std::string text_;
  std::vector<std::int32_t> tokens_;
  std::vector<ScoredToken> prompt_results_;
  std::vector<ScoredToken> results_;
  double logprob_sum_ = 0.0;
  std::optional<float> beam_score_;
  std::vector<float> embedding_;
};

}  // namespace sluice::launcher
