#include "offload/weights/weight_ring.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::offload {
namespace {

using testing::HasSubstr;

// A group with so many rows of 64 bytes to stream.
GroupPlacement group_of(std::int32_t layer, std::int64_t rows) {
  TensorPlacement tensor{{DType::f32, rows, 16, 0}, {0, rows, 0}};
  return {"group", {tensor}, layer};
}

std::vector<GroupPlacement> groups_of(const std::vector<std::int64_t>& rows) {
  std::vector<GroupPlacement> groups;
  for (const std::int64_t r : rows) groups.push_back(group_of(-1, r));
  return groups;
}

TEST(WeightRing, OneGroupPerLayerTakesTheLayersBytesForEachSlot) {
  const auto groups = groups_of({10, 10, 10, 10, 10});
  for (const std::size_t slots : {1, 2, 3, 4}) {
    EXPECT_EQ(WeightRing(groups, {}, slots).bytes(), slots * 10 * 64);
  }
  // A large one beside small ones is there once.
  EXPECT_EQ(WeightRing(groups_of({50, 10, 10, 10}), {}, 2).bytes(), (50 + 10) * 64U);
}

TEST(WeightRing, TwoGroupsOfALayerTakeTheLayersBytes) {
  std::vector<GroupPlacement> apart = {group_of(-1, 50)};
  std::vector<GroupPlacement> whole = {group_of(-1, 50)};
  for (std::int32_t layer = 0; layer < 5; ++layer) {
    apart.push_back(group_of(layer, 4));
    apart.push_back(group_of(layer, 8));
    whole.push_back(group_of(-1, 12));
  }
  for (const std::size_t slots : {1, 2, 3, 4}) {
    EXPECT_EQ(WeightRing(apart, {}, slots).bytes(), WeightRing(whole, {}, slots).bytes());
  }
}

TEST(WeightRing, AGroupIsReplacedAsSoonAsItsOwnPlaceIsReleased) {
  // Attention and MLP of three equal layers in two slots.
  std::vector<GroupPlacement> groups;
  for (std::int32_t layer = 0; layer < 3; ++layer) {
    groups.push_back(group_of(layer, 4));
    groups.push_back(group_of(layer, 8));
  }
  const WeightRing ring(groups, {}, 2);
  ASSERT_EQ(ring.cycle(), 6U);
  EXPECT_EQ(ring.first_that_may_stay(3), 0U);  // the first two layers find free slots
  EXPECT_EQ(ring.first_that_may_stay(4), 1U);  // attention of layer 2 waits for that of layer 0
  EXPECT_EQ(ring.first_that_may_stay(5), 2U);  // ... and its MLP for the MLP
  EXPECT_EQ(ring.first_that_may_stay(6), 3U);
  EXPECT_EQ(ring.most_alive(), 4U);
}

TEST(WeightRing, GroupsWithNothingToStreamTakeNoPlace) {
  std::vector<GroupPlacement> groups = groups_of({10, 10, 10});
  groups[1].tensors[0].rows = {10, 0, 0};
  const WeightRing ring(groups, {1, 0, 1, 2}, 2);
  EXPECT_EQ(ring.cycle(), 2U);
  EXPECT_EQ(ring.group_of(0), 0U);
  EXPECT_EQ(ring.group_of(1), 2U);
  groups[0].tensors[0].rows = groups[2].tensors[0].rows = {10, 0, 0};
  EXPECT_EQ(WeightRing(groups, {}, 2).bytes(), 0U);
  EXPECT_EQ(WeightRing(groups, {}, 2).cycle(), 0U);
}

struct Range {
  std::uint64_t begin;
  std::uint64_t end;
};

Range range_of(const WeightRing& ring, const std::vector<GroupPlacement>& groups,
               std::uint64_t item) {
  const std::uint64_t begin = ring.offset(item, ring.slot_of(item));
  return {begin, begin + groups[ring.group_of(item)].slot_bytes()};
}

// Over random layers, orders and slots: no two items that may be alive together overlap, and every
// item of `slots` layers in a row may be.
TEST(WeightRing, WhatMayStayIsNeverOverwritten) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::vector<GroupPlacement> groups;
    const auto layers = 1 + random() % 5;
    for (unsigned layer = 0; layer < layers; ++layer) {
      const auto parts = 1 + random() % 3;
      for (unsigned part = 0; part < parts; ++part) {
        groups.push_back(group_of(static_cast<std::int32_t>(layer), 1 + random() % 40));
      }
    }
    std::vector<std::int32_t> order;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      order.push_back(static_cast<std::int32_t>(g));
      if (random() % 4 == 0) order.push_back(static_cast<std::int32_t>(random() % (g + 1)));
    }
    const std::size_t slots = 1 + random() % 5;
    const WeightRing ring(groups, order, slots);
    const std::size_t most = ring.most_alive();
    for (std::uint64_t item = 0; item < 12 * order.size(); ++item) {
      const Range own = range_of(ring, groups, item);
      EXPECT_LE(own.end, ring.bytes());
      const std::uint64_t stay = ring.first_that_may_stay(item);
      EXPECT_LE(item + 1 - stay, most);
      for (std::uint64_t other = stay; other < item; ++other) {
        const Range its = range_of(ring, groups, other);
        EXPECT_TRUE(own.end <= its.begin || its.end <= own.begin) << item << " over " << other;
      }
      // Layers that may stay: those after the one that had the slot.
      std::size_t changes = 0;
      for (std::uint64_t other = item; other > stay; --other) {
        const bool same_layer =
            other % ring.cycle() != 0 &&
            groups[ring.group_of(other)].layer == groups[ring.group_of(other - 1)].layer;
        if (!same_layer) ++changes;
      }
      EXPECT_TRUE(stay == 0 || changes + 1 >= slots) << item;
    }
    if (HasFailure()) FAIL() << "round " << round;
  }
}

template <typename Call>
std::string sentence_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(WeightRing, AnOrderThatCannotBeIsRefused) {
  std::vector<GroupPlacement> groups = groups_of({1, 1, 1});
  groups[1].name = "layer 1";
  EXPECT_THAT(sentence_of([&] {
                WeightRing(groups, {0, 1, 2, 3}, 2);
              }),
              HasSubstr("names group 3, but there are 3"));
  EXPECT_THAT(sentence_of([&] { WeightRing(groups, {0, -1, 2}, 2); }), HasSubstr("names group -1"));
  EXPECT_THAT(sentence_of([&] {
                WeightRing(groups, {0, 2}, 2);
              }),
              HasSubstr("leaves out 'layer 1', which is streamed"));
}

}  // namespace
}  // namespace sluice::offload
