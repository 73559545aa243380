#include "launcher/jobs/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sluice::launcher {
namespace {

/// In place of a score that must not win.
constexpr float kHopeless = -1.0e9F;

}  // namespace

BeamSearch::BeamSearch(const BeamSettings& settings, Ends ends)
    : settings_(settings), ends_(std::move(ends)), running_(1) {}

void BeamSearch::step(std::span<const std::vector<stage::Candidate>> next) {
  const std::vector<Continuation> continuations = likeliest(next);
  finish(continuations);
  const bool can_go_on =
      std::ranges::any_of(continuations, [](const Continuation& one) { return !one.ends; });
  go_on(continuations);
  ++length_;
  improves_ = improves_ && may_improve();
  const bool closed = settings_.early_stopping == EarlyStopping::yes && is_full();
  if (!improves_ || closed || !can_go_on) running_.clear();
}

/// The best continuations of all beams, as many as of one; of equals those of the first beam and
/// the lowest token.
std::vector<BeamSearch::Continuation> BeamSearch::likeliest(
    std::span<const std::vector<stage::Candidate>> next) const {
  std::vector<Continuation> all;
  for (std::size_t beam = 0; beam < running_.size(); ++beam) {
    for (const stage::Candidate& one : next[beam]) {
      if (!std::isfinite(one.logprob)) continue;  // ruled out
      all.push_back({beam, one.token, one.logprob + running_[beam].score, false});
    }
  }
  std::ranges::stable_sort(
      all, [](const Continuation& a, const Continuation& b) { return a.score > b.score; });
  all.resize(std::min(all.size(), static_cast<std::size_t>(settings_.candidates())));
  for (Continuation& one : all) {
    one.ends = length_ + 1 >= settings_.max_tokens || ends_(beam_of(one).tokens);
  }
  return all;
}

Beam BeamSearch::beam_of(const Continuation& continuation) const {
  Beam beam = {running_[continuation.beam].tokens, continuation.score};
  beam.tokens.push_back(continuation.token);
  return beam;
}

bool BeamSearch::is_full() const {
  return finished_.size() == static_cast<std::size_t>(settings_.beams);
}

/// Only the best continuations, as many as there are beams, may become answers. The others are
/// there so that enough beams go on.
void BeamSearch::finish(std::span<const Continuation> continuations) {
  if (!improves_ || (is_full() && settings_.early_stopping == EarlyStopping::yes)) return;
  const auto power = static_cast<float>(
      std::pow(static_cast<double>(length_ + 1), static_cast<double>(settings_.length_penalty)));
  const auto beams = static_cast<std::size_t>(settings_.beams);
  for (const Continuation& one : continuations.first(std::min(beams, continuations.size()))) {
    if (!one.ends) continue;
    finished_.push_back(beam_of(one));
    finished_.back().score /= power;
  }
  std::ranges::stable_sort(finished_,
                           [](const Beam& a, const Beam& b) { return a.score > b.score; });
  if (finished_.size() > beams) finished_.resize(beams);
}

void BeamSearch::go_on(std::span<const Continuation> continuations) {
  std::vector<Beam> running;
  for (const Continuation& one : continuations) {
    if (!one.ends && running.size() < static_cast<std::size_t>(settings_.beams)) {
      running.push_back(beam_of(one));
    }
  }
  running_ = std::move(running);
}

bool BeamSearch::may_improve() const {
  if (running_.empty()) return false;
  const bool at_any_length =
      settings_.early_stopping == EarlyStopping::never && settings_.length_penalty > 0.0F;
  const std::int32_t length = at_any_length ? settings_.max_tokens : length_;
  const auto power = static_cast<float>(
      std::pow(static_cast<double>(length), static_cast<double>(settings_.length_penalty)));
  const float worst = is_full() ? finished_.back().score : kHopeless;
  return running_.front().score / power > worst;
}

}  // namespace sluice::launcher
