#include "launcher/jobs/score_form.h"

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

namespace sluice::launcher {
namespace {

constexpr float kNever = -9999.0F;

/// A choice's log-probability by one measure, among those of the others.
class Best {
 public:
  /// Returns what the record says of it.
  Json add(std::optional<double> logprob) {
    const std::size_t index = count_++;
    if (!logprob) return nullptr;
    if (!best_ || *logprob > greatest_) {
      best_ = index;
      greatest_ = *logprob;
    }
    return finite_logprob(static_cast<float>(*logprob));
  }
  Json index() const { return best_ ? Json(*best_) : Json(); }

 private:
  std::size_t count_ = 0;
  std::optional<std::size_t> best_;
  double greatest_ = 0;
};

}  // namespace

float finite_logprob(float logprob) { return std::isfinite(logprob) ? logprob : kNever; }

Json::Object score_members(std::span<const Answer> answers) {
  const RequestRow& row = answers.front().row();
  Json scores = Json::array();
  Best whole, by_token, by_byte;
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Choice& choice = row.choices[i];
    double sum = 0;
    Json logprobs = Json::array();
    for (const ScoredToken& token : answers[i].prompt_results()) {
      sum += static_cast<double>(token.logprob);
      logprobs.push_back(finite_logprob(token.logprob));
    }
    const auto per = [sum](std::size_t count) {
      return count == 0 ? std::nullopt : std::optional(sum / static_cast<double>(count));
    };
    scores.push_back({{"text", choice.text},
                      {"logprob", whole.add(sum)},
                      {"logprob_per_token", by_token.add(per(choice.tokens.size()))},
                      {"logprob_per_byte", by_byte.add(per(choice.text.size()))},
                      {"token_ids", choice.tokens},
                      {"token_logprobs", std::move(logprobs)}});
    tokens += choice.tokens.size();
  }
  return {{"scores", std::move(scores)},
          {"best", whole.index()},
          {"best_per_token", by_token.index()},
          {"best_per_byte", by_byte.index()},
          {"usage", {{"prompt_tokens", row.prompt.size()}, {"choice_tokens", tokens}}}};
}

}  // namespace sluice::launcher
