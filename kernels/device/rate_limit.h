// Says when a link that is slower than memory would be done with a piece of a copy.
//
// Pieces follow each other on the link without a gap, and an idle link saves nothing up. A piece
// may be done late, because the sleep was long or the thread was not scheduled. The next pieces
// make up for it, so over any stretch of work the rate is met on average.
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

  /// Returns when the link is done with a piece whose copy began at `begin`. The caller may skip a
  /// wait shorter than kLeastSleep: the next piece then waits for it, too.
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
