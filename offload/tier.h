// The three tiers a stage keeps its bytes in, in order of preference.
#pragma once

#include <array>
#include <cstdint>

namespace sluice::offload {

enum class Tier : std::uint8_t { device, host, disk };
constexpr int kTierCount = 3;
constexpr const char* name_of(Tier tier) {
  constexpr const char* kNames[] = {"device", "host", "disk"};
  return kNames[static_cast<int>(tier)];
}

template <typename T>
using PerTier = std::array<T, kTierCount>;  // indexed by static_cast<int>(Tier)

}  // namespace sluice::offload
