#include "launcher/planner/simulated_weights.h"

namespace sluice::launcher {

/// Items without disk rows are there as soon as their turn to be read comes.
void SimulatedWeights::pass_over_host_items() {
  if (reading_) return;
  const auto cycle = static_cast<std::int64_t>(shape_.ring.cycle());
  // At most a cycle ahead: where no group is on disk, this would go on for ever.
  while (read_ < loading_ + cycle && !is_on_disk(read_)) ++read_;
}

std::int32_t SimulatedWeights::next_read() {
  if (shape_.ring.cycle() == 0 || reading_) return -1;
  pass_over_host_items();
  if (!is_on_disk(read_) || !is_turn(read_)) return -1;
  // Its staging buffer is free when what was read into it is on the device.
  const auto buffers = static_cast<std::int64_t>(shape_.ring.slots());
  return read_ - loaded_ < buffers ? group_of(read_) : -1;
}

void SimulatedWeights::end_read() {
  reading_ = false;
  ++read_;
}

std::int32_t SimulatedWeights::next_load() {
  if (shape_.ring.cycle() == 0) return -1;
  pass_over_host_items();
  if (read_ <= loading_ || !is_turn(loading_)) return -1;
  const auto stays = shape_.ring.first_that_may_stay(static_cast<std::uint64_t>(loading_));
  return released_ >= static_cast<std::int64_t>(stays) ? group_of(loading_) : -1;
}

bool SimulatedWeights::may_lease() {
  if (loading_ > leased_) return true;
  if (!shape_.overlaps) wanted_ = leased_ + 1;
  return loading_ == leased_ && next_load() >= 0;
}

}  // namespace sluice::launcher
