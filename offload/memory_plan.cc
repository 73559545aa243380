#include "offload/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <limits>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

// Plans are also made for sizes nobody has (a wrong configuration): they must not wrap into small
// ones.
std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) {
  return b > kMost - a ? kMost : a + b;
}

// "stage 1" -> "stages[1].budget.device"; anything else -> "budget.device".
std::string budget_key(const std::string& where, Tier tier) {
  const std::string kPrefix = "stage ";
  std::uint32_t stage = 0;
  if (where.rfind(kPrefix, 0) == 0) {
    const char* end = where.data() + where.size();
    const auto [stop, error] = std::from_chars(where.data() + kPrefix.size(), end, stage);
    if (error == std::errc() && stop == end) {
      return fmt::format("stages[{}].budget.{}", stage, name_of(tier));
    }
  }
  return fmt::format("budget.{}", name_of(tier));
}

// Bytes by purpose, in the order of first mention.
std::vector<Reservation> by_purpose(const std::vector<Reservation>& reservations, Tier tier) {
  std::vector<Reservation> sums;
  for (const Reservation& reservation : reservations) {
    if (reservation.tier != tier || reservation.bytes == 0) continue;
    const auto known = std::find_if(sums.begin(), sums.end(), [&](const Reservation& sum) {
      return sum.purpose == reservation.purpose;
    });
    if (known == sums.end()) {
      sums.push_back(reservation);
    } else {
      known->bytes = saturating_add(known->bytes, reservation.bytes);
    }
  }
  return sums;
}

// The policy keys that move the bytes of these purposes elsewhere: "policy.weights, policy.cache".
std::string policy_keys(const std::vector<Reservation>& sums) {
  std::string keys;
  for (const auto& [prefix, key] :
       {std::pair{"weight", "policy.weights"}, std::pair{"KV", "policy.cache"},
        std::pair{"activation", "policy.activations"}}) {
    const bool present =
        std::any_of(sums.begin(), sums.end(),
                    [p = prefix](const Reservation& sum) { return sum.purpose.rfind(p, 0) == 0; });
    if (present) keys += (keys.empty() ? "" : ", ") + std::string(key);
  }
  return keys;
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  // 1023.95 would print as 1024.0.
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024.0;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

void MemoryPlan::reserve(Tier tier, std::string purpose, std::uint64_t bytes) {
  reservations_.push_back({tier, std::move(purpose), bytes});
}

std::uint64_t MemoryPlan::total(Tier tier, std::string_view purpose) const {
  std::uint64_t sum = 0;
  for (const Reservation& reservation : reservations_) {
    if (reservation.tier != tier || reservation.purpose != purpose) continue;
    sum = saturating_add(sum, reservation.bytes);
  }
  return sum;
}

std::uint64_t MemoryPlan::total(Tier tier) const {
  std::uint64_t total = 0;
  for (const Reservation& reservation : reservations_) {
    if (reservation.tier == tier) total = saturating_add(total, reservation.bytes);
  }
  return total;
}

void MemoryPlan::check(const Budgets& budgets, const std::string& where) const {
  for (int index = 0; index < kTierCount; ++index) {
    const auto tier = static_cast<Tier>(index);
    const std::uint64_t budget = budgets.bytes[static_cast<std::size_t>(index)];
    const std::uint64_t wanted = total(tier);
    if (budget == 0 || wanted <= budget) continue;

    const std::vector<Reservation> sums = by_purpose(reservations_, tier);
    std::string purposes;
    for (const Reservation& sum : sums) {
      purposes +=
          fmt::format("{}{} {}", purposes.empty() ? "" : ", ", sum.purpose, human_bytes(sum.bytes));
    }
    std::string wanted_text = human_bytes(wanted);
    std::string budget_text = human_bytes(budget);
    if (wanted_text == budget_text) {  // rounding would hide what is missing
      wanted_text += fmt::format(" ({} bytes)", wanted);
      budget_text += fmt::format(" ({} bytes)", budget);
    }
    const std::string keys = policy_keys(sums);
    throw CapacityError(fmt::format(
        "{}: the {} tier needs {} ({}) but its budget is {}; raise {}{}", where, name_of(tier),
        wanted_text, purposes, budget_text, budget_key(where, tier),
        keys.empty() ? "" : fmt::format(" or move a share to another tier ({})", keys)));
  }
}

Arena::Arena(Memory memory, std::string name)
    : memory_(std::move(memory)), name_(std::move(name)) {}

std::byte* Arena::take(std::uint64_t bytes, const char* purpose, std::size_t alignment) {
  assert(alignment >= 64 && alignment <= 4096 && (alignment & (alignment - 1)) == 0);
  const std::uint64_t left = capacity() - used_;
  // `bytes > left` first: arena_bytes() of a huge number wraps.
  if (bytes > left || arena_bytes(bytes, alignment) > left) {
    throw CapacityError(fmt::format(
        "the {} arena has {} bytes left of {}, but '{}' takes {} bytes more than was planned for; "
        "this is a fault of sluice, please report it with the printed memory plan",
        name_, left, capacity(), purpose, bytes));
  }
  const std::uint64_t start = (used_ + alignment - 1) / alignment * alignment;
  used_ += arena_bytes(bytes, alignment);
  return memory_.data() + start;
}

}  // namespace sluice::offload
