#include "offload/weights/resident_weights.h"

#include <gtest/gtest.h>

#include <random>

namespace sluice::offload {
namespace {

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// What a ring's slots hold after each item, item by item, must never overlap: not with the slot
/// that is filled now, and not with what was put in all the others last.
void expect_no_overlap(const std::vector<std::uint64_t>& bytes, std::size_t slots) {
  const RingLayout ring(bytes, slots);
  std::vector<Extent> held(slots);
  for (std::size_t item = 0; item < 4 * bytes.size() * slots; ++item) {
    const std::uint64_t size = bytes[item % bytes.size()];
    const std::size_t slot = item % slots;
    const std::uint64_t begin = ring.offset(slot, size);
    held[slot] = {begin, begin + size};
    ASSERT_LE(held[slot].end, ring.total());
    for (std::size_t other = 0; other < slots; ++other) {
      if (other == slot) continue;
      ASSERT_TRUE(held[other].end <= begin || held[other].begin >= held[slot].end)
          << "item " << item << " in slot " << slot << " of " << slots;
    }
  }
}

TEST(RingLayout, WhatIsThereTogetherDoesNotOverlap) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> bytes(1 + random() % 9);
    for (std::uint64_t& size : bytes) size = 128 * (1 + random() % 40);
    for (std::size_t slots = 2; slots <= 7; ++slots) expect_no_overlap(bytes, slots);
  }
}

TEST(RingLayout, ALargeLayerIsThereOnceAndAlikeLayersTakeASlotEach) {
  EXPECT_EQ(RingLayout({700, 100, 100, 100}, 2).total(), 800U);
  EXPECT_EQ(RingLayout({100, 100, 100}, 2).total(), 200U);
  EXPECT_EQ(RingLayout({100, 100, 100}, 5).total(), 500U);
  EXPECT_EQ(RingLayout({100}, 2).total(), 200U);
  EXPECT_EQ(RingLayout({}, 2).total(), 0U);
}

}  // namespace
}  // namespace sluice::offload
