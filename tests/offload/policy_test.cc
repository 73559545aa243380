#include "offload/policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace sluice::offload {
namespace {

/// Expects every prefix of `tiers` within one slot of the shares.
void expect_shares_of_all_prefixes(const Shares& shares, const std::vector<Tier>& tiers) {
  PerTier<std::int32_t> given = {};
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    ++given[static_cast<std::size_t>(tiers[i])];
    for (std::size_t t = 0; t < given.size(); ++t) {
      const double share = shares.of(static_cast<Tier>(t));
      const double wanted = share / 100.0 * static_cast<double>(i + 1);
      ASSERT_LT(std::abs(given[t] - wanted), 1.0 + 1e-6)
          << share << " % of the first " << i + 1 << " slots in tier " << t;
      ASSERT_TRUE(share > 0 || given[t] == 0);
    }
  }
}

TEST(CacheTiers, OfAnyPrefixOfSlotsTheSharesHoldWithinOne) {
  for (int device = 0; device <= 100; device += 5) {
    for (int host = 0; device + host <= 100; host += 5) {
      const Shares shares{1.0 * device, 1.0 * host, 100.0 - device - host};
      expect_shares_of_all_prefixes(shares, cache_tiers(shares, 400));
    }
  }
  const Shares odd{33.3, 0.1, 66.6};
  expect_shares_of_all_prefixes(odd, cache_tiers(odd, 5000));
}

TEST(CacheTiers, MoreSlotsOnlyAddToTheList) {
  const Shares shares{50, 20, 30};
  const std::vector<Tier> many = cache_tiers(shares, 100);
  for (const std::int32_t few : {0, 1, 7, 99}) {
    EXPECT_EQ(cache_tiers(shares, few), std::vector<Tier>(many.begin(), many.begin() + few));
  }
}

// Counted from the first slot again for each, these were 5 * 10^11 steps.
TEST(CacheTiers, AMillionSlotsArePlacedAtOnce) {
  const std::vector<Tier> tiers = cache_tiers({60, 30, 10}, 1'000'000);
  EXPECT_EQ(tiers.size(), 1'000'000U);
  EXPECT_EQ(std::count(tiers.begin(), tiers.end(), Tier::disk), 100'000);
}

TEST(Policy, NamesTheKeyOfEveryProblem) {
  Policy policy;
  EXPECT_EQ(policy.problems(), "");
  policy.weights = {50, 20, 20};
  policy.cache = {120, -20, 0};
  policy.weight_slots = 1;
  policy.cache_dtype = DType::i32;
  const std::string problems = policy.problems();
  for (const char* key : {"policy.weights", "policy.cache:", "weight_slots", "cache_dtype"}) {
    EXPECT_NE(problems.find(key), std::string::npos) << key << " in " << problems;
  }
  EXPECT_EQ(problems.find("activations"), std::string::npos);
}

}  // namespace
}  // namespace sluice::offload
