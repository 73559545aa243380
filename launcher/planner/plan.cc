#include "launcher/planner/plan.h"

#include <tuple>

namespace sluice::launcher {

bool same_shares(const offload::Policy& one, const offload::Policy& other) {
  const auto shares = [](const offload::Policy& policy) {
    const auto of = [](const offload::Shares& part) {
      return std::tuple(part.device, part.host, part.disk);
    };
    return std::tuple(of(policy.weights), of(policy.cache), of(policy.activations));
  };
  return shares(one) == shares(other);
}

}  // namespace sluice::launcher
