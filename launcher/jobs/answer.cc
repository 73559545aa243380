#include "launcher/jobs/answer.h"

#include <algorithm>

namespace sluice::launcher {

namespace {

ScoredToken scored(const stage::TokenResult& result) {
  return {result.token, result.logprob, {result.top.begin(), result.top.end()}};
}

}  // namespace

Answer::Answer(const Tokenizer& tokenizer, const RequestRow& row, std::int32_t eos)
    : tokenizer_(&tokenizer),
      row_(&row),
      eos_(row.ignore_eos ? -1 : eos),
      decoder_(tokenizer, row.stop, row.skip_special, row.prompt) {}

void Answer::add_prompt_token(const stage::TokenResult& result) {
  prompt_results_.push_back(scored(result));
}

bool Answer::add(const stage::TokenResult& result) {
  tokens_.push_back(result.token);
  logprob_sum_ += static_cast<double>(result.logprob);
  if (row_->wants_logprobs()) results_.push_back(scored(result));
  const auto& stop_ids = row_->stop_token_ids;
  if (result.token == eos_ || std::ranges::count(stop_ids, result.token) > 0) {
    finish_ = Finish::stop;
  } else {
    text_ += decoder_.push(result.token);
    if (decoder_.stopped()) {
      finish_ = Finish::stop;
    } else if (tokens_.size() >= static_cast<std::size_t>(row_->max_tokens)) {
      finish_ = Finish::length;
    }
  }
  if (finish_ == Finish::none) return false;
  text_ += decoder_.finish();
  if (decoder_.stopped()) finish_ = Finish::stop;
  return true;
}

void Answer::finish_without_tokens() { finish_ = Finish::length; }

}  // namespace sluice::launcher
