#include "comm/peers.h"

namespace sluice::comm {

Peers::Peers(int rank, int size, Duration deadline, Time now)
    : rank_(rank),
      deadline_(deadline),
      last_tick_(now),
      seen_(static_cast<std::size_t>(size), Seen{now, Step{}}) {}

void Peers::heard(int peer, const Step& step, Time now) {
  seen_[static_cast<std::size_t>(peer)] = {now, step};
}

void Peers::tick(Time now) {
  if (now - last_tick_ > deadline_ / 2) {
    for (Seen& seen : seen_) seen.when = now;
  }
  last_tick_ = now;
}

int Peers::silent(Time now) const {
  return silent_for(deadline_ + std::chrono::seconds(rank_ > 1 ? 1 : 0), now);
}

int Peers::silent_for(Duration patience, Time now) const {
  const std::size_t watched = rank_ == 0 ? seen_.size() : 1;
  for (std::size_t peer = 0; peer < watched; ++peer) {
    const bool is_self = static_cast<int>(peer) == rank_;
    if (!is_self && now - seen_[peer].when > patience) return static_cast<int>(peer);
  }
  return -1;
}

}  // namespace sluice::comm
