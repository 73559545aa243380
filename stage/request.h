// What the head asks the pipeline for, and what comes back: prompts in token ids, tokens out. Text,
// files and stop strings are the launcher's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "comm/bell.h"

namespace sluice::stage {

constexpr std::int32_t kMaxLogprobs = 20;

struct Sampling {
  float temperature = 0.0F;          // 0: greedy
  std::int32_t top_k = 0;            // 0: all
  float top_p = 1.0F;                // (0, 1]
  float min_p = 0.0F;                // [0, 1]: of the likeliest token's probability; 0: all
  float repetition_penalty = 1.0F;   // > 0; over prompt and answer (Hugging Face's processor)
  float frequency_penalty = 0.0F;    // for each time that the answer has the token (OpenAI's)
  float presence_penalty = 0.0F;     // once, where the answer has the token (OpenAI's)
  std::int32_t no_repeat_ngram = 0;  // no n-gram comes twice in prompt and answer; 0: any may
  std::int32_t min_tokens = 0;       // of the answer, before TokenRules::ends may come
  std::int32_t answer_begin = 0;     // tokens before the answer: a request may begin within it
  std::uint64_t seed = 0;            // with the position: the only source of chance
  std::int32_t logprobs =
      -1;  // -1: none; n: the token's own and the n likeliest, n <= kMaxLogprobs
  /// A step of a beam search: greedy, and what edits logits edits log-probabilities, which are
  /// those that are told (Hugging Face's _beam_search).
  bool of_beam = false;
};

/// What is wanted of the final hidden states of a prompt: what the head's last product gets.
enum class Embed : std::uint8_t { none, last, mean };

/// A grammar::Program as encode() writes it. Requests with the same grammar may share it.
using SharedGrammar = std::shared_ptr<const std::vector<std::byte>>;

struct Request {
  std::uint64_t id = 0;              // the job's own
  std::vector<std::int32_t> prompt;  // >= 1 token, each in [0, vocabulary)
  std::int32_t max_tokens = 16;      // >= 0; prompt + max_tokens <= Batching::max_sequence_tokens
  Sampling sampling;
  /// Log-probabilities of the prompt tokens from this one on are wanted; 0: of none; 1: of all but
  /// the first, which none has. What comes before scores_from - 1 only has to be in the cache.
  std::int32_t scores_from = 0;
  /// As encode(TokenRules) writes them; at most Batching::max_rule_words.
  std::vector<std::int32_t> rules = {};
  SharedGrammar grammar = {};  // what the answer must be; null: anything. Batching::grammars is set
  /// Wanted in place of an answer: with max_tokens 0 and without scores. Batching::features is set.
  /// For the mean every prompt token goes through the last layer; else the last one alone must.
  Embed embed = Embed::none;
  /// Of the run's adapters; -1: none. What the cache holds of a token depends on it, too.
  std::int32_t adapter = -1;
};

struct Candidate {
  std::int32_t token = -1;
  float logprob = 0.0F;
};

/// A token the model chose (or, for prompt tokens, was given). Log-probabilities are those of the
/// model: before temperature, top-k, top-p and penalties (but Sampling::of_beam).
struct TokenResult {
  std::int32_t token = -1;  // below 0: none, kernels::kNotFinite or kAllRuledOut
  float logprob = 0.0F;     // 0 when none were asked for
  /// Likeliest first; empty unless asked for. Whoever made the result owns them: a callback copies
  /// what it keeps.
  std::span<const Candidate> top = {};
};

/// How other threads reach the head while it runs a job.
class HeadLine {
 public:
  /// A request has come since next() said none_now, or there will be no more. Any thread.
  void ring() noexcept;
  /// The head drops this request, wherever it stands: waiting for pages, in its prompt, or
  /// decoding. Job::on_cancelled() says so; place and pages are free when the passes that are under
  /// way with it are back. Nothing happens if next() has not handed it out, or if it has ended. Any
  /// thread.
  void cancel(std::uint64_t id);
  /// The head starts nothing more: it ends the job when the passes under way are back. Any thread.
  void stop() noexcept;

  // The head's thread:

  /// What the head sleeps on.
  comm::Bell& bell() { return bell_; }
  /// Whether ring(), cancel() or stop() was called since the last time.
  bool take_news() noexcept { return news_.exchange(false); }
  bool stopping() const noexcept { return stopping_; }
  /// Moves what was cancelled since the last call into `ids`.
  void take_cancelled(std::vector<std::uint64_t>& ids);

 private:
  comm::Bell bell_;
  std::atomic<bool> news_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<std::uint64_t> cancelled_;
};

enum class Next : std::uint8_t {
  request,   // here it is
  none_now,  // later, perhaps: line().ring() says when to ask again
  no_more,   // never again: the head ends when all that it was given have ended
};

/// The prompts of a run and the place their answers go. Called by the head's thread only.
class Job {
 public:
  virtual ~Job() = default;

  /// How to wake the head; of this job, or of the one behind it.
  virtual HeadLine& line() { return line_; }

  /// The next prompt, if there is one. It does not wait for one that may be long in coming.
  virtual Next next(Request& request) = 0;
  /// The log-probabilities of prompt token `index` >= scores_from, in order, before the first
  /// on_token().
  virtual void on_prompt_token(std::uint64_t id, std::int32_t index, const TokenResult& result) = 0;
  /// A new token; true: the request is finished (stop string, EOS, max_tokens) and its place free.
  virtual bool on_token(std::uint64_t id, const TokenResult& result) = 0;
  /// What Request::embed asks for, [Batching::features], before on_prompt_done(). Valid during the
  /// call.
  virtual void on_embedding(std::uint64_t /*id*/, std::span<const float> /*values*/) {}
  /// A request of max_tokens == 0 is through its prompt.
  virtual void on_prompt_done(std::uint64_t id) = 0;
  /// The request cannot be answered (logits that are not finite); the others go on.
  virtual void on_failed(std::uint64_t id, const std::string& reason) = 0;
  /// The request was dropped as HeadLine::cancel() asked; nothing else comes of it.
  virtual void on_cancelled(std::uint64_t /*id*/) {}

 private:
  HeadLine line_;
};

}  // namespace sluice::stage
