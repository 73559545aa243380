// How many guesses pay: from how often they were right, and from what passes with more and with
// fewer tokens took. It decides how fast answers come, and nothing else.
#pragma once

#include <cstdint>

namespace sluice::stage {

/// How often guesses are right. What is long ago counts less.
class Acceptance {
 public:
  /// Of `tried` guesses in a row all but the last, or all, were right.
  void add(std::int32_t tried, std::int32_t right) {
    tried_ += tried;
    right_ += right;
  }
  /// A pass is over.
  void fade();
  /// Probability that a guess is right, if those before it are. `before`: what is thought where
  /// nothing is known, which stands for `doubt` guesses.
  double estimate(double before, double doubt = 2) const {
    return (right_ + doubt * before) / (tried_ + doubt);
  }

 private:
  double tried_ = 0;
  double right_ = 0;
};

class DraftPace {
 public:
  /// A pass that only decoded: its new tokens, guesses included, the tokens that answers got, and
  /// the time that it took of the pipeline.
  void took(std::int32_t new_tokens, std::uint64_t gained, double seconds);
  /// So many guesses took so long to make.
  void drafted(std::int32_t guesses, double seconds);
  void tried(std::int32_t guesses, std::int32_t right) { all_.add(guesses, right); }  // of a row

  /// Guesses worth making for a row, at most `most`. Guess j is right with probability a^j, for a
  /// as it was of the row; it is worth its time where it gains more tokens in that than whole
  /// passes do.
  std::int32_t worth(const Acceptance& of_row, std::int32_t most) const;

  /// Seconds by which a pass gets longer for one new token more, by least squares; 0: not known.
  double seconds_per_token() const;

 private:
  Acceptance all_;
  // Sums over passes:
  double weight_ = 0;
  double tokens_ = 0;
  double seconds_ = 0;
  double tokens_squared_ = 0;
  double tokens_seconds_ = 0;
  double gained_ = 0;
  double guesses_ = 0;
  double guess_seconds_ = 0;
};

}  // namespace sluice::stage
