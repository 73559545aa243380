// A link that is slower than the memory behind it: when a piece of a copy would be done.
//
// Pieces follow each other on the link without a gap, and an idle link saves nothing up. But what a
// piece was done late (the sleep was long, the thread was not scheduled) the next ones make good,
// so that over any stretch of work the rate is met on average.
#pragma once

#include <chrono>
#include <cstddef>

#include "kernels/device/trace.h"

namespace sluice {

/// Arithmetic only; the caller copies and sleeps. One thread.
class RateLimit {
 public:
  /// In 10^9 bytes per second; 0: none.
  explicit RateLimit(double gbps) : gbps_(gbps) {}

  /// Most bytes to be copied before sleeping: about 2 ms of the link.
  std::size_t piece_bytes() const;
  bool limits() const { return gbps_ > 0; }

  /// A piece that was begun at `begin` has been copied: returns when the link is done with it. Less
  /// than kLeastSleep ahead it need not be waited for: it is not lost, the next piece is done
  /// later.
  Clock::time_point end_of(std::size_t bytes, Clock::time_point begin);
  /// The caller goes on at `now`, late or not.
  void resumed(Clock::time_point now);

  /// Sleeping costs about 60 us of its own.
  static constexpr std::chrono::microseconds kLeastSleep{200};
  /// What is made good at most of one delay.
  static constexpr std::chrono::milliseconds kMostCredit{20};

 private:
  double gbps_;
  Clock::time_point end_{};  // of what the link was given
  Clock::duration late_{};   // how long after `end_` the caller went on
};

}  // namespace sluice
