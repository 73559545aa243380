#include "launcher/serve/batch_room.h"

#include <algorithm>

namespace sluice::launcher {

std::size_t BatchRoom::places_for(std::int64_t tokens) const {
  return static_cast<std::size_t>(std::max<std::int64_t>(1, (tokens + tokens_ - 1) / tokens_));
}

std::size_t BatchRoom::limit(std::size_t waiting) const {
  const std::size_t spare = places_ > 1 ? 1 : 0;
  return places_ - std::min(places_, live_ + waiting + spare);
}

void BatchRoom::begin(std::uint64_t id, std::int64_t tokens, Kind kind) {
  const std::size_t places = places_for(tokens);
  held_[id] = {places, kind};
  (kind == Kind::live ? live_ : batch_) += places;
  if (kind == Kind::batch) order_.push_back(id);
}

void BatchRoom::end(std::uint64_t id) {
  const auto found = held_.find(id);
  if (found == held_.end()) return;
  const Held held = found->second;
  held_.erase(found);
  (held.kind == Kind::live ? live_ : batch_) -= held.places;
  if (held.kind == Kind::batch) std::erase(order_, id);
}

bool BatchRoom::has_room(std::int64_t tokens) const {
  if (live_ + batch_ == 0) return true;  // whatever its length
  return batch_ + places_for(tokens) <= limit(0);
}

std::vector<std::uint64_t> BatchRoom::step_back(std::size_t waiting) {
  std::vector<std::uint64_t> leaving;
  if (live_ + waiting == 0) return leaving;
  while (!order_.empty() && batch_ > limit(waiting)) {
    leaving.push_back(order_.back());
    end(order_.back());
  }
  return leaving;
}

}  // namespace sluice::launcher
