#include "offload/policy.h"

#include <algorithm>
#include <cmath>

namespace sluice::offload {

namespace {

void check_shares(const Shares& shares, const char* key, std::string& problems) {
  for (const double share : {shares.device, shares.host, shares.disk}) {
    if (!(share >= 0.0 && share <= 100.0)) {
      problems += std::string(key) + ": a share must lie between 0 and 100; ";
      return;
    }
  }
  if (std::abs(shares.device + shares.host + shares.disk - 100.0) > 1e-6) {
    problems += std::string(key) + ": the shares of device, host and disk must add up to 100; ";
  }
}

}  // namespace

std::int32_t Policy::kept_millionths() const {
  if (attn_sparsity >= 1.0) return 0;
  return std::max(1, static_cast<std::int32_t>(std::lround(attn_sparsity * 1e6)));
}

std::string Policy::problems() const {
  std::string problems;
  check_shares(weights, "policy.weights", problems);
  check_shares(cache, "policy.cache", problems);
  check_shares(activations, "policy.activations", problems);
  if (weight_slots < 2) problems += "policy.weight_slots: must be at least 2; ";
  if (mlp_once && activations.device < 100) {
    problems += "policy.mlp_once: needs policy.activations.device: 100; ";
  }
  if (!(attn_sparsity > 0.0 && attn_sparsity <= 1.0)) {
    problems += "policy.attn_sparsity: must be above 0 and at most 1; ";
  } else if (kept_millionths() > 0 && cache_dtype && is_quantized(*cache_dtype)) {
    problems +=
        "policy.attn_sparsity: cannot be below 1 with a compressed cache; set policy.cache_dtype "
        "to f32, f16, bf16 or auto, or leave out --compress-cache; ";
  }
  if (cache_dtype == DType::i32)
    problems += "policy.cache_dtype: must be f32, f16, bf16, q8 or q4; ";
  if (problems.size() >= 2) problems.resize(problems.size() - 2);
  return problems;
}

std::vector<Tier> cache_tiers(const Shares& cache, std::int32_t slots) {
  // Slot i goes to the tier that lags most behind its share of i + 1 slots (largest remainder),
  // so that every prefix is within one slot of the shares.
  PerTier<std::int64_t> given = {};
  std::vector<Tier> tiers;
  tiers.reserve(static_cast<std::size_t>(slots));
  for (std::int32_t i = 0; i < slots; ++i) {
    Tier chosen = Tier::device;
    double largest_lag = -1e300;
    for (int t = 0; t < kTierCount; ++t) {
      const double share = cache.of(static_cast<Tier>(t)) / 100.0;
      const double lag =
          share * (i + 1.0) - static_cast<double>(given[static_cast<std::size_t>(t)]);
      if (share > 0.0 && lag > largest_lag + 1e-9) {
        largest_lag = lag;
        chosen = static_cast<Tier>(t);
      }
    }
    ++given[static_cast<std::size_t>(chosen)];
    tiers.push_back(chosen);
  }
  return tiers;
}

}  // namespace sluice::offload
