// A request on its way through the head: in a slot, or waiting for one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "stage/draft_pace.h"
#include "stage/request.h"

namespace sluice::stage {

/// A row that steps back for lack of pages keeps its tokens, and starts again with all of them as
/// its prompt. The last stage's results do not depend on how tokens are cut into passes, so its
/// answer is the same.
struct HeadRow {
  bool active = false;      // in a slot
  bool dropped = false;     // failed or cancelled: its place is free once its passes are back
  bool stepping = false;    // it steps back once its passes are back
  bool on_stages = false;   // a pass has said that it starts: stages have pages for it
  bool is_counted = false;  // among the requests of the run
  bool adds_pages = false;  // its next full pages become prefixes
  /// `prompt` grows by each token of the answer.
  Request request;
  std::int32_t grammar = -1;  // in the head's book; -1: none, or it waits
  std::uint64_t number = 0;   // of the request, as the job gave them
  /// Number of its first start: the oldest has the lowest.
  std::uint64_t age = std::numeric_limits<std::uint64_t>::max();
  std::int32_t asked = 0;      // tokens of the prompt as it was asked
  std::int32_t prefill = 0;    // known tokens that are to be computed first, since it started
  std::int32_t issued = 0;     // tokens in passes since then, guesses included while these are
                               // under way: what the cache holds after them
  std::int32_t passes = 0;     // under way
  std::int32_t generated = 0;  // tokens sampled so far
  std::int32_t scored = 0;     // prompt tokens whose log-probabilities the job has
  std::int32_t computed = 0;   // tokens that the cache held when it stepped back
  std::uint64_t starts = 0;    // number of its last start, of all of the job
  Acceptance acceptance;       // of its guesses
  std::span<const std::int32_t> guesses = {};  // for the pass that is made now; the head's memory
  /// Its pages that are prefixes, from its beginning on.
  std::vector<std::int32_t> path;
  std::int32_t kind = 0;  // of path
  /// Until its first pass: tokens behind `path`, of `issued`, that are copied out of a page, and
  /// where it is, as PassRow has it.
  std::int32_t copied = 0;
  std::int32_t copied_from = -1;
  std::int32_t copied_of_slot = -1;
  /// While it waits: the slot of a row that computes pages which it will start behind, or -1; that
  /// row's number, and how many of its tokens must be in passes.
  std::int32_t behind = -1;
  std::uint64_t behind_number = 0;
  std::int32_t behind_tokens = 0;

  std::int32_t known() const { return static_cast<std::int32_t>(request.prompt.size()); }
  /// The last token of a prompt that is only scored is not computed: nobody asks what follows it.
  bool is_only_scored() const {
    return request.max_tokens == 0 && request.scores_from > 0 && asked > 1;
  }
  /// Most tokens the cache ever holds. The last sampled token is not computed, so it needs no
  /// place.
  std::int32_t total() const {
    return is_only_scored() ? asked - 1 : asked + std::max(request.max_tokens - 1, 0);
  }
  /// The first prompt token that is still to be scored; 0: there is none.
  std::int32_t scores_from() const {
    const bool any = request.scores_from > 0 && !decoding() && scored + 1 < asked;
    return any ? std::max(request.scores_from, scored + 1) : 0;
  }
  bool decoding() const { return issued >= prefill; }  // all that was known is in passes
  bool samples_after(std::int32_t position) const {
    return position >= prefill && request.max_tokens > 0;
  }
  /// Of its path in the prefix tree, below 0: with another adapter the same tokens have other keys
  /// and values.
  std::int32_t root() const { return -2 - request.adapter; }
  /// Tokens that it may start behind, while it waits: not the last one that is computed, nor the
  /// one before the first that is still to be scored, as their logits are wanted.
  std::int32_t shareable() const {
    if (request.embed == Embed::mean) return 0;  // of the states of all its tokens
    const std::int32_t computed_tokens = known() - (is_only_scored() ? 1 : 0);
    const bool scores = request.scores_from > 0 && scored + 1 < asked;
    const std::int32_t scored_from = std::max(request.scores_from, scored + 1);
    return std::min(computed_tokens, scores ? scored_from : computed_tokens) - 1;
  }
  /// Whether it is to be in passes.
  bool goes_on() const { return active && !dropped && !stepping; }
};

}  // namespace sluice::stage
