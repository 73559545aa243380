// Beam search as Hugging Face's generate() does it, without a model: from the log-probabilities of
// next tokens to the next beams. Scores are summed and compared in float32, as there.
// Source: transformers/generation/utils.py, _beam_search.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "stage/request.h"

namespace sluice::launcher {

/// When a search ends that has as many finished beams as it keeps.
enum class EarlyStopping : std::uint8_t {
  no,     // once no running beam of its present length can become better
  yes,    // at once
  never,  // once none can become better at any length
};

struct BeamSettings {
  std::int32_t beams = 1;
  float length_penalty = 1.0F;  // a score is divided by length to this power
  EarlyStopping early_stopping = EarlyStopping::no;
  std::int32_t max_tokens = 1;  // of an answer
  std::int32_t ends = 1;        // tokens that end an answer by themselves

  /// Likeliest next tokens that a step needs of each beam: enough beams go on, whatever ends.
  std::int32_t candidates() const { return std::max(2, 1 + ends) * beams; }
};

struct Beam {
  std::vector<std::int32_t> tokens;  // of the answer
  float score = 0.0F;                // running: the sum; finished: divided by the length's power
};

class BeamSearch {
 public:
  /// Whether an answer ends with its last token, max_tokens apart.
  using Ends = std::function<bool(std::span<const std::int32_t> tokens)>;

  BeamSearch(const BeamSettings& settings, Ends ends);

  /// The beams whose next tokens step() wants: at first one, without tokens. None: the search is
  /// done.
  const std::vector<Beam>& running() const { return running_; }
  /// `next`: for each running beam its likeliest next tokens, likeliest first.
  void step(std::span<const std::vector<stage::Candidate>> next);
  /// Best first; complete when the search is done.
  const std::vector<Beam>& finished() const { return finished_; }

 private:
  /// A running beam with one more token.
  struct Continuation {
    std::size_t beam = 0;
    std::int32_t token = -1;
    float score = 0.0F;  // the sum
    bool ends = false;
  };

  std::vector<Continuation> likeliest(std::span<const std::vector<stage::Candidate>> next) const;
  Beam beam_of(const Continuation& continuation) const;
  bool is_full() const;
  void finish(std::span<const Continuation> continuations);
  void go_on(std::span<const Continuation> continuations);
  bool may_improve() const;

  BeamSettings settings_;
  Ends ends_;
  std::vector<Beam> running_;
  std::vector<Beam> finished_;
  std::int32_t length_ = 0;  // tokens of running beams
  bool improves_ = true;     // a running beam may become better than the worst finished one
};

}  // namespace sluice::launcher
