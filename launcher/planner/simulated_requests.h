// A job without text: requests of known lengths. A part of the simulator.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "launcher/planner/simulator.h"
#include "stage/request.h"

namespace sluice::launcher {

class SimulatedRequests : public stage::Job {
 public:
  /// `requests` must outlive it.
  explicit SimulatedRequests(const std::vector<SimulatedRequest>& requests)
      : requests_(requests), made_(requests.size(), 0), place_(requests.size(), 0) {}

  /// Decode steps until the first of those under way ends.
  std::int32_t steps_left() const {
    std::int32_t least = std::numeric_limits<std::int32_t>::max();
    for (const std::size_t id : active_) {
      least = std::min(least, requests_[id].new_tokens - made_[id]);
    }
    return least;
  }

  stage::Next next(stage::Request& request) override {
    if (next_ == requests_.size()) return stage::Next::no_more;
    request.id = next_;
    const SimulatedRequest& given = requests_[next_];
    // Behind what it has in common with the one before it is like no other.
    const auto most = static_cast<std::int32_t>(last_prompt_.size());
    last_prompt_.resize(
        static_cast<std::size_t>(std::min({given.shared_tokens, given.prompt_tokens, most})));
    last_prompt_.resize(static_cast<std::size_t>(given.prompt_tokens),
                        static_cast<std::int32_t>(next_));
    request.prompt = last_prompt_;
    request.max_tokens = given.new_tokens;
    place_[next_] = active_.size();
    active_.push_back(next_++);
    return stage::Next::request;
  }
  void on_prompt_token(std::uint64_t, std::int32_t, const stage::TokenResult&) override {}
  bool on_token(std::uint64_t id, const stage::TokenResult&) override {
    if (++made_[id] < requests_[id].new_tokens) return false;
    end(id);
    return true;
  }
  void on_prompt_done(std::uint64_t id) override { end(id); }
  void on_failed(std::uint64_t id, const std::string&) override { end(id); }

 private:
  void end(std::uint64_t id) {
    const std::size_t last = active_.back();
    active_[place_[id]] = last;
    place_[last] = place_[id];
    active_.pop_back();
  }

  const std::vector<SimulatedRequest>& requests_;
  std::vector<std::int32_t> last_prompt_;
  std::vector<std::int32_t> made_;   // tokens, by request
  std::vector<std::size_t> active_;  // under way
  std::vector<std::size_t> place_;   // ... where each is in it
  std::size_t next_ = 0;
};

}  // namespace sluice::launcher
