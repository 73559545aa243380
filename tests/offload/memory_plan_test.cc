#include "offload/memory_plan.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <limits>
#include <string>

#include "kernels/device/error.h"

namespace sluice::offload {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kMiB = 1 << 20;

Memory make_memory(std::size_t bytes) {
  return Memory(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), bytes,
                [](void* data, std::size_t) { std::free(data); });
}

std::string refusal(const MemoryPlan& plan, const Budgets& budgets, const std::string& where) {
  try {
    plan.check(budgets, where);
  } catch (const CapacityError& error) {
    EXPECT_EQ(error.status(), ExitStatus::no_space);
    return error.what();
  }
  return "";
}

TEST(MemoryPlan, TotalsAreByTier) {
  MemoryPlan plan;
  plan.reserve(Tier::device, "weights", 10);
  plan.reserve(Tier::host, "weights", 5);
  plan.reserve(Tier::device, "KV cache", 7);
  EXPECT_EQ(plan.total(Tier::device), 17U);
  EXPECT_EQ(plan.total(Tier::host), 5U);
  EXPECT_EQ(plan.total(Tier::disk), 0U);
  EXPECT_EQ(plan.reservations().size(), 3U);
}

TEST(MemoryPlan, FitsExactlyAndNotOneByteMore) {
  MemoryPlan plan;
  plan.reserve(Tier::host, "weights", 100);
  EXPECT_EQ(refusal(plan, {{0, 100, 0}}, "stage 0"), "");
  EXPECT_NE(refusal(plan, {{0, 99, 0}}, "stage 0"), "");
}

TEST(MemoryPlan, ZeroIsNoLimit) {
  MemoryPlan plan;
  plan.reserve(Tier::device, "weights", std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(refusal(plan, {}, "stage 0"), "");
}

TEST(MemoryPlan, RefusalNamesTierPurposesBudgetAndKeys) {
  MemoryPlan plan;
  plan.reserve(Tier::device, "weights", 300 * kMiB);
  plan.reserve(Tier::device, "KV cache", 400 * kMiB);
  plan.reserve(Tier::device, "weights", 500 * kMiB);
  EXPECT_EQ(
      refusal(plan, {{1024 * kMiB, 0, 0}}, "stage 1"),
      "stage 1: the device tier needs 1.2 GiB (weights 800.0 MiB, KV cache 400.0 MiB) but its "
      "budget is 1.0 GiB; raise stages[1].budget.device or move a share to another tier "
      "(policy.weights, policy.cache)");
}

TEST(MemoryPlan, RefusalGivesBytesWhereRoundingHidesTheDifference) {
  MemoryPlan plan;
  plan.reserve(Tier::host, "workspace", 1024 * kMiB + 4096);
  const std::string sentence = refusal(plan, {{0, 1024 * kMiB, 0}}, "planner");
  EXPECT_THAT(sentence, HasSubstr("needs 1.0 GiB (1073745920 bytes)"));
  EXPECT_THAT(sentence, HasSubstr("is 1.0 GiB (1073741824 bytes); raise budget.host"));
  EXPECT_THAT(sentence, Not(HasSubstr("policy")));
}

TEST(MemoryPlan, FirstTierInOrderIsNamed) {
  MemoryPlan plan;
  plan.reserve(Tier::disk, "KV cache", 10);
  plan.reserve(Tier::host, "KV cache", 10);
  EXPECT_THAT(refusal(plan, {{1, 1, 1}}, "stage 12"), HasSubstr("stages[12].budget.host"));
}

TEST(MemoryPlan, SumsDoNotWrap) {
  MemoryPlan plan;
  plan.reserve(Tier::device, "weights", std::numeric_limits<std::uint64_t>::max() - 1);
  plan.reserve(Tier::device, "weights", 100);
  EXPECT_EQ(plan.total(Tier::device), std::numeric_limits<std::uint64_t>::max());
  EXPECT_NE(refusal(plan, {{1000, 0, 0}}, "stage 0"), "");
}

TEST(HumanBytes, OneDecimalAndNeverTenTwentyFour) {
  EXPECT_EQ(human_bytes(0), "0 bytes");
  EXPECT_EQ(human_bytes(1), "1 byte");
  EXPECT_EQ(human_bytes(1023), "1023 bytes");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(kMiB - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(1536 * kMiB), "1.5 GiB");
  EXPECT_EQ(human_bytes(std::numeric_limits<std::uint64_t>::max()), "16.0 EiB");
}

TEST(Arena, UsesWhatThePlanReserved) {
  for (const std::size_t alignment : {64U, 256U, 4096U}) {
    const std::uint64_t sizes[] = {1, 63, 64, 65, 0, 4096, 5000};
    std::uint64_t planned = 0;
    for (const std::uint64_t size : sizes) {
      planned += arena_bytes(size, alignment) + arena_bytes(size);
    }
    Arena arena(make_memory(planned), "host");
    std::byte* end = nullptr;
    for (const std::uint64_t size : sizes) {
      for (const std::size_t align : {alignment, std::size_t{64}}) {
        std::byte* piece = arena.take(size, "test", align);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece) % align, 0U);
        EXPECT_GE(piece, end) << "pieces overlap";
        end = piece + size;
      }
    }
    EXPECT_EQ(arena.used(), planned);
    EXPECT_EQ(arena.capacity(), planned);
    EXPECT_THROW(arena.take(1, "one more"), CapacityError);
  }
}

TEST(Arena, RefusalNamesArenaAndPurposeAndTakesNothing) {
  Arena arena(make_memory(128), "device");
  try {
    arena.take(129, "weight slots");
    FAIL() << "took more than there is";
  } catch (const CapacityError& error) {
    EXPECT_THAT(error.what(), HasSubstr("the device arena has 128 bytes left of 128"));
    EXPECT_THAT(error.what(), HasSubstr("'weight slots'"));
  }
  EXPECT_THROW(arena.take(std::numeric_limits<std::uint64_t>::max(), "wrap"), CapacityError);
  EXPECT_EQ(arena.used(), 0U);
}

}  // namespace
}  // namespace sluice::offload
