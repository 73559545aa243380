// Why the compute lane is about to wait, between the part that knows and the backend that sees
// whether the lane stands still. For the report only: no order between lanes depends on it.
#pragma once

#include <atomic>

#include "kernels/device/backend.h"
#include "kernels/device/trace.h"

namespace sluice {

/// The reason of the next wait, which a backend keeps. One thread makes the compute lane wait.
class StallReason {
 public:
  void expect(Activity why) { next_.store(why, std::memory_order_relaxed); }
  /// The reason of a wait for `awaited`, once. Where nobody gave one: messages stall for messages,
  /// everything else for stall_other.
  Activity take(Lane awaited) {
    const Activity why = next_.exchange(Activity::stall_other, std::memory_order_relaxed);
    const bool message = awaited == Lane::send || awaited == Lane::receive;
    return why == Activity::stall_other && message ? Activity::stall_message : why;
  }

 private:
  std::atomic<Activity> next_{Activity::stall_other};
};

/// Makes Lane::compute wait for `event`. If it stands still for that, the report says `why`.
inline void compute_waits(Backend& backend, Event event, Activity why) {
  backend.expect_stall(why);
  backend.wait(Lane::compute, event);
}

}  // namespace sluice
