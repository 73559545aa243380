// A beam search of a row, as requests: one token of each beam at a time. A beam's tokens so far are
// prompt to its next request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "launcher/jobs/answer.h"
#include "launcher/jobs/beam_search.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

class BeamWork {
 public:
  /// Both must outlive it. `eos` as Answer has it.
  BeamWork(const Tokenizer& tokenizer, const RequestRow& row, std::int32_t eos);
  BeamWork(const BeamWork&) = delete;  // the search calls it
  BeamWork& operator=(const BeamWork&) = delete;

  /// Requests of the present step; 0: the search is done.
  std::size_t requests() const { return next_.size(); }
  /// Of the present step the one of this index.
  stage::Request request(std::size_t index, std::uint64_t id) const;
  /// What came of it. True: of all of the step, and another one begins, or the search is done.
  bool take(std::size_t index, const stage::TokenResult& result);
  /// When the search is done: the row's n best, best first.
  std::vector<Answer> answers() const;

 private:
  Answer answer_of(std::span<const std::int32_t> tokens) const;

  const Tokenizer& tokenizer_;
  const RequestRow& row_;
  const std::int32_t eos_;
  const BeamSettings settings_;
  BeamSearch search_;
  std::vector<std::vector<stage::Candidate>> next_;  // by running beam
  std::size_t came_ = 0;                             // of them
};

}  // namespace sluice::launcher
