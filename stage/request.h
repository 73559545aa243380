// What the head asks the pipeline for, and what comes back: prompts in token ids, tokens out. Text,
// files and stop strings are the launcher's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::stage {

constexpr std::int32_t kMaxLogprobs = 20;

struct Sampling {
  float temperature = 0.0F;         // 0: greedy
  std::int32_t top_k = 0;           // 0: all
  float top_p = 1.0F;               // (0, 1]
  float repetition_penalty = 1.0F;  // > 0; over prompt and answer (Hugging Face's processor)
  std::uint64_t seed = 0;           // with the position: the only source of chance
  std::int32_t logprobs =
      -1;  // -1: none; n: the token's own and the n likeliest, n <= kMaxLogprobs
};

struct Request {
  std::uint64_t id = 0;              // the job's own
  std::vector<std::int32_t> prompt;  // >= 1 token, each in [0, vocabulary)
  std::int32_t max_tokens = 16;      // >= 0; prompt + max_tokens <= Batching::max_sequence_tokens
  Sampling sampling;
  bool prompt_logprobs = false;  // of every prompt token but the first (echo with logprobs)
};

struct Candidate {
  std::int32_t token = -1;
  float logprob = 0.0F;
};

/// A token the model chose (or, for prompt tokens, was given). Log-probabilities are those of the
/// model: before temperature, top-k, top-p and penalties.
struct TokenResult {
  std::int32_t token = -1;
  float logprob = 0.0F;  // 0 when none were asked for
  std::int32_t top_count = 0;
  std::array<Candidate, kMaxLogprobs> top = {};  // likeliest first
};

/// The prompts of a run and the place their answers go. Called by the head's thread only.
class Job {
 public:
  virtual ~Job() = default;

  /// The next prompt; false when there is none (asked again only after a token or a failure).
  virtual bool next(Request& request) = 0;
  /// The log-probabilities of prompt token `index` >= 1, in order, before the first on_token().
  virtual void on_prompt_token(std::uint64_t id, std::int32_t index, const TokenResult& result) = 0;
  /// A new token; true: the request is finished (stop string, EOS, max_tokens) and its place free.
  virtual bool on_token(std::uint64_t id, const TokenResult& result) = 0;
  /// A request of max_tokens == 0 is through its prompt.
  virtual void on_prompt_done(std::uint64_t id) = 0;
  /// The request cannot be answered (logits that are not finite); the others go on.
  virtual void on_failed(std::uint64_t id, const std::string& reason) = 0;
};

}  // namespace sluice::stage
