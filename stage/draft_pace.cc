#include "stage/draft_pace.h"

#include <algorithm>

namespace sluice::stage {

namespace {

constexpr double kForgetGuesses = 0.9;  // weight of a pass beside the next one
constexpr double kForgetPasses = 0.98;
constexpr double kDoubt = 16;     // guesses that kUnknown stands for: rows must show otherwise
constexpr double kUnknown = 0.6;  // acceptance of which nothing is known
constexpr double kLeast = 0.02;   // a guess less likely than this is not worth its message

}  // namespace

void Acceptance::fade() {
  tried_ *= kForgetGuesses;
  right_ *= kForgetGuesses;
}

void DraftPace::took(std::int32_t new_tokens, std::uint64_t gained, double seconds) {
  all_.fade();
  const double tokens = new_tokens;
  const auto add = [](double& sum, double value) { sum = kForgetPasses * sum + value; };
  add(weight_, 1);
  add(tokens_, tokens);
  add(seconds_, seconds);
  add(tokens_squared_, tokens * tokens);
  add(tokens_seconds_, tokens * seconds);
  add(gained_, static_cast<double>(gained));
}

void DraftPace::drafted(std::int32_t guesses, double seconds) {
  guesses_ = kForgetPasses * guesses_ + guesses;
  guess_seconds_ = kForgetPasses * guess_seconds_ + seconds;
}

double DraftPace::seconds_per_token() const {
  if (weight_ <= 0) return 0;
  const double mean = tokens_ / weight_;
  const double variance = tokens_squared_ / weight_ - mean * mean;
  // Passes that are nearly alike say nothing but how restless the machine is.
  if (variance < 0.01 * mean) return 0;
  return std::max((tokens_seconds_ / weight_ - mean * seconds_ / weight_) / variance, 0.0);
}

std::int32_t DraftPace::worth(const Acceptance& of_row, std::int32_t most) const {
  const double rate = seconds_ > 0 ? gained_ / (seconds_ + guess_seconds_) : 0;
  const double of_guess = guesses_ > 0 ? guess_seconds_ / guesses_ : 0;
  const double least = std::max((seconds_per_token() + of_guess) * rate, kLeast);
  const double acceptance = of_row.estimate(all_.estimate(kUnknown, kDoubt));
  double right = acceptance;
  std::int32_t worth = 0;
  for (; worth < most && right >= least; ++worth) right *= acceptance;
  return worth;
}

}  // namespace sluice::stage
