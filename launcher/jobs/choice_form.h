// Answers as the choices of OpenAI's completions, whole or bit by bit as they grow.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/jobs/answer.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// "length" or "stop".
const char* name_of(Finish finish);

/// The answer's text, behind the prompt's where the row echoes it.
std::string whole_text(const Answer& answer);

/// Of a row's answers those that it gives back: the likeliest; equals by their number.
std::vector<const Answer*> chosen_of(std::span<const Answer> answers);

/// Tokens that the model made for all of them.
std::size_t completion_tokens(std::span<const Answer> answers);

/// {"text", "index", "logprobs", "finish_reason"}, or a chat completion's {"index", "message",
/// "logprobs", "finish_reason"}, as the row's form has it.
Json choice_of(const Answer& answer, std::size_t index);

/// OpenAI's logprobs of a completion: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}.
/// Null where the row has not asked for any.
Json text_logprobs(const Answer& answer);

/// Where tokens begin in a text that is given out bit by bit: where the characters that a token
/// adds to begin.
class TokenOffsets {
 public:
  explicit TokenOffsets(std::size_t begin = 0) : at_(begin) {}
  std::size_t next(std::string_view bytes);

 private:
  std::size_t at_;
  std::string held_;
};

/// The log-probabilities of an answer that grows, some at a time and in their order: what all
/// take() together give is what the whole answer has. `answer` must outlive it.
class LogprobParts {
 public:
  explicit LogprobParts(const Answer& answer) : answer_(&answer) {}

  /// As text_logprobs(): of further tokens that begin in the first `characters` of the whole text;
  /// `all`: of all further tokens.
  Json take_text(std::size_t characters, bool all);
  /// {"content", "refusal"} of a chat completion: of all further tokens.
  Json take_chat();

 private:
  /// Tokens of the prompt that are given back.
  std::size_t echoed() const;
  /// Of prompt and answer; null: the prompt's first token, which has no log-probability.
  const ScoredToken* scored_at(std::size_t number) const;
  std::int32_t token_at(std::size_t number) const;
  bool read_next();

  const Answer* answer_;
  std::size_t given_ = 0;            // tokens of prompt and answer that were given out
  std::optional<std::size_t> next_;  // where the next one begins, once it is read
  TokenOffsets offsets_;
};

}  // namespace sluice::launcher
