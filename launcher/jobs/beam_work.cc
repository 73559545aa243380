#include "launcher/jobs/beam_work.h"

#include <algorithm>
#include <utility>

namespace sluice::launcher {
namespace {

BeamSettings settings_of(const RequestRow& row) {
  BeamSettings settings = row.beams;
  settings.max_tokens = row.max_tokens;
  return settings;
}

}  // namespace

BeamWork::BeamWork(const Tokenizer& tokenizer, const RequestRow& row, std::int32_t eos)
    : tokenizer_(tokenizer),
      row_(row),
      eos_(eos),
      settings_(settings_of(row)),
      search_(settings_,
              [this](std::span<const std::int32_t> tokens) {
                return answer_of(tokens).finish() == Finish::stop;
              }),
      next_(search_.running().size()) {}

stage::Request BeamWork::request(std::size_t index, std::uint64_t id) const {
  const Beam& beam = search_.running()[index];
  stage::Request request = to_request(row_, id);
  request.prompt.insert(request.prompt.end(), beam.tokens.begin(), beam.tokens.end());
  request.max_tokens = std::min(row_.max_tokens, 1);
  request.sampling.of_beam = true;
  request.sampling.logprobs = settings_.candidates();
  return request;
}

bool BeamWork::take(std::size_t index, const stage::TokenResult& result) {
  next_[index].assign(result.top.begin(), result.top.end());
  if (++came_ < next_.size()) return false;
  search_.step(next_);
  next_.assign(search_.running().size(), {});
  came_ = 0;
  return true;
}

std::vector<Answer> BeamWork::answers() const {
  std::vector<Answer> answers;
  for (const Beam& beam : search_.finished()) {
    if (std::ssize(answers) == row_.n) break;
    answers.push_back(answer_of(beam.tokens));
    answers.back().set_beam_score(beam.score);
  }
  return answers;
}

Answer BeamWork::answer_of(std::span<const std::int32_t> tokens) const {
  Answer answer(tokenizer_, row_, eos_);
  for (const std::int32_t token : tokens) {
    if (answer.add({token, 0.0F, {}})) break;
  }
  return answer;
}

}  // namespace sluice::launcher
